"""What can go wrong with a store.

StoreError
├── StoreNotFoundError      there is no store at the path
├── NotAStoreError          there is something else at the path
├── NotAnExportError        what is to be imported is no export
├── OccupiedError           there is something where a new directory is to be made
├── StoreTooNewError        written by a release that this one cannot read
├── StoreBusyError          another writer holds the store
├── StoreReadOnlyError      the store cannot be written here
├── StoreUnreadableError    the store cannot be read by this user
├── StoreFullError          the disk is full; nothing of the append was kept
├── StoreFailedError        the disk failed; what became of the append is unknown
├── StoreCorruptError       what was read back is not what was written
├── StoreClosedError        the log was closed before
├── BodyNotFoundError       no body has that digest
├── MomentError             a moment, an event or a checkpoint that the log does not have
├── SecretError             what is secret cannot be sealed or read
│   ├── MasterKeyError
│   ├── WrongMasterKeyError
│   ├── KeyDamagedError
│   ├── KeyMissingError
│   └── ForgottenError
└── AppendError             an append that was refused; nothing of it was kept
    ├── VersionConflictError
    ├── EventIdReusedError
    ├── EventTooLargeError
    ├── AppendTooLargeError
    ├── BodyMissingError
    ├── BodyConflictError
    └── CauseUnknownError
"""

from pathlib import Path

from tidelog.events.digest import Digest
from tidelog.events.names import EventId, StreamName


class StoreError(Exception):
    """The root of all errors of this package."""


class StoreNotFoundError(StoreError):
    """Raised on opening a path that has no store, where none is to be created."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"there is no Tidelog store at {path}")
        self.path = path


class NotAStoreError(StoreError):
    """Raised on opening a path that holds something else; nothing there was touched."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is no Tidelog store: {why}")
        self.path = path


class NotAnExportError(StoreError):
    """Raised on importing a directory that is no export of a log."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is no export of a log: {why}")
        self.path = path


class OccupiedError(StoreError):
    """Raised when a new directory is to be made where there is something; nothing there was touched."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is there already, and not empty: name a new directory")
        self.path = path


class StoreTooNewError(StoreError):
    """Raised on opening a store whose schema a later release wrote."""

    def __init__(self, path: Path, found: int, known: int) -> None:
        super().__init__(
            f"{path} was written by a newer Tidelog (store schema {found}, this one knows {known}): upgrade Tidelog"
        )
        self.path = path


class StoreBusyError(StoreError):
    """Raised on opening a store to write while another writer has it."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is being written by {holder}: stop it first, or open the store to read")
        self.path = path
        self.holder = holder


class StoreReadOnlyError(StoreError):
    """Raised when a store cannot be written where it is."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be written: {why}")
        self.path = path
        self.why = why


class StoreUnreadableError(StoreError):
    """Raised when a store may not be read by this user."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} cannot be read: {why}")
        self.path = path


class StoreFullError(StoreError):
    """Raised by an append for which there was no room; the log goes on with what fits."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"no room in {path}: {why}; nothing of it was kept, free some space and repeat it")
        self.path = path
        self.why = why


class StoreFailedError(StoreError):
    """Raised by an append whose commit failed, and by all that follow, until the store is opened again.

    After a failed fsync nobody can say what is on the disk. Open the store again and repeat the append with
    the same event ids: it is answered if it was kept, and made if not.
    """

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} failed: {why}; open it again and repeat the append with the same event ids")
        self.path = path
        self.why = why


class StoreCorruptError(StoreError):
    """Raised when what was read back is not what was written."""

    def __init__(self, what: str, why: str, advice: str = "run `tidelog log verify` for the whole picture") -> None:
        super().__init__(f"{what} is damaged: {why}; {advice}")
        self.what = what
        self.why = why


class StoreClosedError(StoreError):
    """Raised by every use of a log after it was closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the log in {path} is closed")
        self.path = path


class BodyNotFoundError(StoreError):
    """Raised on asking for a body that the store does not have."""

    def __init__(self, digest: Digest) -> None:
        super().__init__(f"no body {digest}")
        self.digest = digest


class MomentError(StoreError):
    """Raised on asking for a moment, an event or a checkpoint that the log does not have."""


class AppendError(StoreError):
    """An append that was refused; nothing of it was kept."""


class VersionConflictError(AppendError):
    """Raised when a stream is not at the version that the append expects."""

    def __init__(self, stream: StreamName, expected: int, actual: int) -> None:
        super().__init__(f"{stream} is at version {actual}, the append expected {expected}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class EventIdReusedError(AppendError):
    """Raised when an event's id is in the log already, and the append is not the same one again."""

    def __init__(self, event_id: EventId, position: int, why: str) -> None:
        super().__init__(f"the event id {event_id} is in the log already, at position {position}: {why}")
        self.event_id = event_id
        self.position = position


class EventTooLargeError(AppendError):
    """Raised for an event whose envelope is larger than any may be."""

    def __init__(self, name: str, size: int, most: int) -> None:
        super().__init__(f"a {name} of {size} bytes; {most} is the most: put large content into a body")
        self.size = size


class AppendTooLargeError(AppendError):
    """Raised for an append of more events or larger bodies than one transaction takes."""


class BodyMissingError(AppendError):
    """Raised when an event names a body that is neither in the store nor in the append."""

    def __init__(self, name: str, digest: Digest) -> None:
        super().__init__(f"a {name} names the body {digest}, which is neither in the store nor in the append")
        self.digest = digest


class BodyConflictError(AppendError):
    """Raised when a body is in the store already, and not as the append says."""

    def __init__(self, digest: Digest, how: str) -> None:
        super().__init__(f"the body {digest} is in the store already, {how}")
        self.digest = digest


class CauseUnknownError(AppendError):
    """Raised when an event's cause is not in the log."""

    def __init__(self, name: str, cause: EventId) -> None:
        super().__init__(f"a {name} names {cause} as its cause, which is not in this log")
        self.cause = cause


class SecretError(StoreError):
    """What is secret cannot be sealed or read."""


class MasterKeyError(SecretError):
    """Raised when there is no master key, or what is given as one is none."""

    def __init__(self, source: str, why: str) -> None:
        super().__init__(f"no master key from {source}: {why}")
        self.source = source


class WrongMasterKeyError(SecretError):
    """Raised when the data keys of a store are wrapped by another master key than the one that is given."""

    def __init__(self, source: str, given: str, path: Path, wanted: str) -> None:
        super().__init__(
            f"the master key from {source} ({given}) is not the one that wraps {path} ({wanted}): "
            "give the master key with which the store was made"
        )
        self.path = path


class KeyDamagedError(SecretError):
    """Raised when the file of a data key is not as it was written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}; put back a copy of it, if one was kept with `--with-keys`")
        self.path = path


class KeyMissingError(SecretError):
    """Raised when the data key of a secret body is not in this store, and was not destroyed on purpose."""

    def __init__(self, key: str, directory: Path) -> None:
        super().__init__(
            f"the data key {key} is not in {directory}: it was lost, or left behind when this store was copied"
        )
        self.key = key


class ForgottenError(SecretError):
    """Raised on reading, or sealing under, what was forgotten on purpose. It is no damage."""

    def __init__(self, stream: StreamName, how: str) -> None:
        super().__init__(f"what was secret in {stream} was {how}")
        self.stream = stream
