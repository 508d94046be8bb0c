"""The envelope around every event, and who stood behind it."""

from typing import Literal, TypeAlias

import msgspec

from tidelog.events.moment import Time
from tidelog.events.names import EventId, RunId, StreamName, TraceId
from tidelog.events.tiles import ENTRY_BYTES_MAX
from tidelog.events.typed import decoder

ENVELOPE_BYTES_MAX = ENTRY_BYTES_MAX
"""The largest stored envelope. C2SP tlog-tiles writes an entry's length in 16 bits; what is larger is a body."""

ActorKind: TypeAlias = Literal["user", "git", "webhook", "manager", "schedule", "engine"]
ProofKind: TypeAlias = Literal["authenticated", "signed", "claimed", "inferred"]


class Proof(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How it is known that an actor is who the event says.

    `by` names who authenticated (`kubernetes`, `unix-socket`), or the key that signed; a claim (a Git author's
    name) and an inference (a field manager's name) have none.
    """

    kind: ProofKind
    by: str = ""


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who caused an event."""

    kind: ActorKind
    name: str
    proof: Proof

    def __str__(self) -> str:
        """The actor with the proof, which is never left out of what is shown."""
        by = f" by {self.proof.by}" if self.proof.by else ""
        return f"{self.kind} {self.name} ({self.proof.kind}{by})"


ENGINE = Actor(kind="engine", name="tidelog", proof=Proof(kind="authenticated", by="process"))


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event as it is stored.

    Its canonical JSON is stored once, exactly as hashed, and never encoded again; `raw` of a `Recorded` has it.
    """

    position: int
    """Place in the whole log, from 1, without gaps."""
    stream: StreamName
    version: int
    """Place in the stream, from 1, without gaps."""
    id: EventId
    time: Time
    """When Tidelog learned it; never decreases along the log."""
    actor: Actor
    type: str
    schema: int
    """The version of the payload's form."""
    data: msgspec.Raw
    occurred: Time | None = None
    """The outside fact's own time, where it has one."""
    run: RunId | None = None
    trace: TraceId | None = None
    cause: EventId | None = None
    """The event of this log that led to this one."""


decode_envelope = decoder(Envelope)
"""The envelope in some stored bytes; raises `msgspec.DecodeError` (or its `ValidationError`) when there is none."""
