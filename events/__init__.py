"""The vocabulary and its mathematics: events, digests, the Merkle tree, projections as pure folds. No IO."""

from tidelog.events.bodies import Body, BodyRef
from tidelog.events.envelope import Actor, Envelope, Proof

__all__ = ["Actor", "Body", "BodyRef", "Envelope", "Proof"]
