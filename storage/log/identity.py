"""Which log a store holds, and the key with which its checkpoints are signed."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tidelog.events.codec import decode_event
from tidelog.events.envelope import Envelope, decode_envelope
from tidelog.events.merkle import TreeBuilder
from tidelog.events.names import engine_stream
from tidelog.events.note import Checkpoint, SignerKey, VerifierKey, sign
from tidelog.events.vocabulary import Event, LogCreated, LogRestored
from tidelog.storage.errors import NotAStoreError, StoreReadOnlyError
from tidelog.storage.layout import create_private, read_text, sync, writing
from tidelog.storage.log import Query
from tidelog.storage.log.reader import LogReader

SEED_BYTES = 32


class LogIdentity(msgspec.Struct, frozen=True):
    """A log, as its own events name it.

    A log that was copied and goes on in the copy is another incarnation, with another key: two logs that
    differ can then never both be believed under one name.
    """

    log: str
    incarnation: int
    vkey: str

    @property
    def verifier(self) -> VerifierKey:
        """The key that signs this incarnation's checkpoints."""
        return VerifierKey.parse(self.vkey)

    @property
    def origin(self) -> str:
        """The origin line of this incarnation's checkpoints, and the name of its key."""
        return origin_of(self.log, self.incarnation)


class Birth(msgspec.Struct, frozen=True):
    """Where an incarnation begins in the log."""

    position: int
    identity: LogIdentity
    root: str | None
    """Base64 of the root of all before it; none for the first."""


BIRTHS = Query(types=("LogCreated", "LogRestored"))


def origin_of(log: str, incarnation: int) -> str:
    """The origin of a log's incarnation."""
    return f"tidelog.dev/{log}/{incarnation}"


def identity_of(reader: LogReader) -> LogIdentity | None:
    """The identity that the log's last word about itself gives; None when it has none that holds."""
    births, _ = births_in(reader.entries(BIRTHS, 2**31))
    return births[-1].identity if births else None


def births_in(entries: Iterable[bytes]) -> tuple[list["Birth"], list[int]]:
    """The births of a log's incarnations among stored envelopes, and the positions of those that only claim to be one.

    The first event of the log is the first birth; each further one is in the same stream, of the same log, and the next
    incarnation. No producer can append one; whatever else is found was forged.
    """
    births: list[Birth] = []
    strangers: list[int] = []
    for entry in entries:
        try:
            envelope = decode_envelope(entry)
            if envelope.type not in BIRTHS.types:
                continue  # the column that found it is wrong: verification names that
            birth = _birth(envelope, decode_event(envelope))
        except (ValueError, msgspec.DecodeError):
            continue  # damaged: verification names it
        due = (births[-1].identity.log, births[-1].identity.incarnation + 1) if births else None
        if birth is None or (birth.identity.log, birth.identity.incarnation) != (due or (birth.identity.log, 1)):
            strangers.append(envelope.position)
        else:
            births.append(birth)
    return births, strangers


def _birth(envelope: Envelope, event: Event) -> "Birth | None":
    is_first = envelope.position == 1
    if not isinstance(event, LogCreated if is_first else LogRestored):
        return None
    identity = LogIdentity(event.log, event.incarnation, event.vkey)
    if envelope.stream != engine_stream(event.log) or identity.verifier.name != identity.origin:
        return None
    return Birth(envelope.position, identity, None if isinstance(event, LogCreated) else event.root)


def load_signer(path: Path, identity: LogIdentity) -> SignerKey | None:
    """The signing key in `path`, when it is the one that the log names.

    Raises:
        NotAStoreError: when the file holds no key.
        StoreReadOnlyError: when it may not be read.
    """
    if not path.exists():
        return None
    try:
        seed = bytes.fromhex(read_text(path).strip())
    except PermissionError:
        raise StoreReadOnlyError(path.parent, f"{path.name} may not be read by this user") from None
    except (ValueError, OSError):
        seed = b""
    if len(seed) != SEED_BYTES:
        raise NotAStoreError(path.parent, f"{path.name} holds no key; move it away, and a new one is made")
    signer = SignerKey(identity.origin, seed)
    return signer if signer.verifier.text == identity.vkey else None


def create_signer(path: Path, origin: str) -> SignerKey:
    """Makes a new key in `path`, readable by its owner only, and durable; one that was there before is kept beside it.

    Raises:
        StoreFullError, StoreReadOnlyError: when it cannot be written.
    """
    seed = os.urandom(SEED_BYTES)
    temporary = path.with_name(path.name + ".new")
    with writing(path.parent):
        temporary.unlink(missing_ok=True)
        create_private(temporary)
        file = os.open(temporary, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(file, seed.hex().encode() + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
        if path.exists():
            path.rename(path.with_name(f"{path.name}.before-{seed[:4].hex()}"))
        temporary.replace(path)
        sync(path.parent)
    return SignerKey(origin, seed)


def signed_checkpoint(signer: SignerKey, tree: TreeBuilder) -> str:
    """The signed note that says how large the log is, and its root."""
    return sign(Checkpoint(signer.verifier.name, tree.size, tree.root()), signer)
