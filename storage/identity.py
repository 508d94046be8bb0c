"""Which log a store holds, and the key with which its checkpoints are signed."""

import os
from pathlib import Path

import msgspec

from tidelog.events.merkle import TreeBuilder
from tidelog.events.note import Checkpoint, SignerKey, VerifierKey, sign
from tidelog.events.vocabulary import LogCreated, LogRestored
from tidelog.storage.errors import NotAStoreError, StoreReadOnlyError
from tidelog.storage.layout import sync, writing
from tidelog.storage.log import Query
from tidelog.storage.reader import LogReader

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


def origin_of(log: str, incarnation: int) -> str:
    """The origin of a log's incarnation."""
    return f"tidelog.dev/{log}/{incarnation}"


def identity_of(reader: LogReader) -> LogIdentity | None:
    """The identity that the log's last word about itself gives; None for an empty log."""
    recorded = reader.last(Query(types=("LogCreated", "LogRestored")))
    event = recorded and recorded.event
    if not isinstance(event, LogCreated | LogRestored):
        return None
    return LogIdentity(event.log, event.incarnation, event.vkey)


def load_signer(path: Path, identity: LogIdentity) -> SignerKey | None:
    """The signing key in `path`, when it is the one that the log names.

    Raises:
        NotAStoreError: when the file holds no key.
        StoreReadOnlyError: when it may not be read.
    """
    try:
        seed = bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        return None
    except PermissionError:
        raise StoreReadOnlyError(path.parent, f"{path.name} may not be read by this user") from None
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise NotAStoreError(path.parent, f"{path.name} holds no key; move it away, and a new one is made")
    signer = SignerKey(identity.origin, seed)
    return signer if signer.verifier.text == identity.vkey else None


def create_signer(path: Path, origin: str) -> SignerKey:
    """Makes a new key in `path`, in the place of any before it, readable by its owner only, and durable.

    Raises:
        StoreFullError, StoreReadOnlyError: when it cannot be written.
    """
    seed = os.urandom(SEED_BYTES)
    temporary = path.with_name(path.name + ".new")
    with writing(path.parent):
        temporary.unlink(missing_ok=True)
        file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, seed.hex().encode() + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
        temporary.replace(path)
        sync(path.parent)
    return SignerKey(origin, seed)


def signed_checkpoint(signer: SignerKey, tree: TreeBuilder) -> str:
    """The signed note that says how large the log is, and its root."""
    return sign(Checkpoint(signer.verifier.name, tree.size, tree.root()), signer)
