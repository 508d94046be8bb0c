"""Proofs about the log, for people who do not have it: `tools/verify_log.py` checks them without Tidelog."""

import base64
from typing import Literal

import msgspec

from tidelog.events.merkle import consistency_proof, inclusion_proof, root_of
from tidelog.events.note import Checkpoint, NoteError, open_checkpoint, sign
from tidelog.storage.errors import MomentError, NotAStoreError
from tidelog.storage.layout import Layout
from tidelog.storage.log.identity import identity_of, load_signer
from tidelog.storage.log.reader import LogReader


class InclusionProof(msgspec.Struct, frozen=True, kw_only=True):
    """That an event is in the log."""

    kind: Literal["inclusion"] = "inclusion"
    vkey: str
    checkpoint: str
    """The signed note of the log's size and root."""
    index: int
    """The event's position, less one."""
    event: str
    """The stored envelope."""
    hashes: tuple[str, ...]
    """Base64, from the leaf to the root (RFC 9162, 2.1.3)."""


class ConsistencyProof(msgspec.Struct, frozen=True, kw_only=True):
    """That the log at one size begins with the log at a smaller size, unchanged."""

    kind: Literal["consistency"] = "consistency"
    vkey: str
    from_: str = msgspec.field(name="from")
    """The signed note of the smaller size."""
    to: str
    hashes: tuple[str, ...]


class Prover:
    """Makes checkpoints and proofs from the store at `layout`, which may be in use. Blocks.

    Raises:
        StoreError: when there is no log that can be read.
    """

    def __init__(self, layout: Layout) -> None:
        self._reader = LogReader(layout.log)
        identity = identity_of(self._reader)
        if identity is None:
            self._reader.close()
            raise NotAStoreError(layout.directory, "its log is empty")
        self.identity = identity
        self.size = self._reader.head()
        self._signer = load_signer(layout.key, identity)

    def close(self) -> None:
        """Closes the log."""
        self._reader.close()

    def checkpoint(self, size: int | None = None) -> str:
        """The signed note of the log at a size (of now, if none is given).

        Where the key is elsewhere (a backup, an import), it is one that the store kept.

        Raises:
            MomentError: when the log is smaller, or has no key and no note of that size.
        """
        size = self.size if size is None else self._checked(size)
        if self._signer is not None:
            root = root_of(size, self._reader.subtree)
            return sign(Checkpoint(self.identity.origin, size, root), self._signer)
        kept = dict(self._reader.checkpoints()).get(size)
        if kept is None:
            raise MomentError(f"the store has neither the log's key nor a signed checkpoint of {size} events")
        self._require_own(kept, size)
        return kept

    def inclusion(self, position: int) -> InclusionProof:
        """The proof that an event is in the log as it is now.

        Raises:
            MomentError: when the log has no such position.
        """
        recorded = self._reader.event(self._checked(position)) if position else None
        if recorded is None:
            raise MomentError(f"the log has no event {position}: its last is {self.size}")
        size = self._signable(position)
        hashes = inclusion_proof(position - 1, size, self._reader.subtree)
        return InclusionProof(
            vkey=self.identity.vkey,
            checkpoint=self.checkpoint(size),
            index=position - 1,
            event=recorded.raw.decode(),
            hashes=_texts(hashes),
        )

    def consistency(self, old: int, new: int) -> ConsistencyProof:
        """The proof that the log of `new` events begins with that of `old`.

        Raises:
            MomentError: when the log is smaller, or `old` is not.
        """
        if not 0 < old <= new:
            raise MomentError(f"a log of {new} events does not begin with one of {old}")
        hashes = consistency_proof(old, self._checked(new), self._reader.subtree)
        return ConsistencyProof(
            vkey=self.identity.vkey,
            from_=self.checkpoint(old),
            to=self.checkpoint(new),
            hashes=_texts(hashes),
        )

    def _signable(self, position: int) -> int:
        """The size of a checkpoint that covers a position and can be had."""
        if self._signer is not None:
            return self.size
        kept = [size for size, note in self._reader.checkpoints() if size >= position and self._is_own(note)]
        if not kept:
            raise MomentError(f"the store has neither the log's key nor a signed checkpoint after {position}")
        return kept[0]

    def _is_own(self, note: str) -> bool:
        try:
            open_checkpoint(note, [self.identity.verifier])
        except NoteError:
            return False
        return True

    def _require_own(self, note: str, size: int) -> None:
        if not self._is_own(note):
            raise MomentError(f"the checkpoint of {size} events was signed by an earlier incarnation of the log")

    def _checked(self, position: int) -> int:
        if not 0 <= position <= self.size:
            raise MomentError(f"the log has no position {position}: its last is {self.size}")
        return position


def _texts(hashes: list[bytes]) -> tuple[str, ...]:
    return tuple(base64.b64encode(value).decode() for value in hashes)
