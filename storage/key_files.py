"""The files of the data keys: `keys/<SHA-256 of the stream>.<id of the key>.key`.

The name alone says of which stream a key is, and which, so that one can be destroyed by who cannot read it.
Everything here blocks, and runs in worker threads.
"""

import os
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from tidelog.events.names import StreamName
from tidelog.events.typed import decoder
from tidelog.storage.errors import KeyDamagedError
from tidelog.storage.layout import Layout, read_small, read_text, sync, writing

FORMAT = 1
"""Of a key's file."""
NEW = ".new"
"""How the name of a key that is not durable yet ends: nothing was sealed under it."""
_name = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{32})\.key")


class KeyName(NamedTuple):
    """What the name of a key's file says."""

    stream: str
    """SHA-256 of the stream's name, hex."""
    id: str

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self.stream}.{self.id}.key"


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a key's file holds."""

    format: int
    id: str
    stream: str
    made: str
    """When it was made: of several keys of a stream (one came back from a copy) the last one seals."""
    master: str
    """The fingerprint of the master key that wraps it."""
    wrapped: str
    """Hex of the wrapped key."""
    check: str = ""
    """SHA-256 of all the above, so that damage is told from a wrong master key, and found without one."""

    def checked(self) -> "WrappedKey":
        """The same with its checksum."""
        blank = msgspec.structs.replace(self, check="")
        return msgspec.structs.replace(self, check=sha256(msgspec.json.encode(blank)).hexdigest())


def stream_hash(stream: StreamName) -> str:
    """The stream's part of a key's file name."""
    return sha256(stream.encode()).hexdigest()


class KeyFiles:
    """The directory of the data keys of the store at `layout`; it need not exist."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.directory = layout.keys

    def names(self) -> Iterator[KeyName]:
        """Every key that is there, in no order."""
        try:
            entries = os.scandir(self.directory)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                found = _name.fullmatch(entry.name)
                if found:
                    yield KeyName(*found.groups())

    def of(self, stream: StreamName) -> list[KeyName]:
        """The keys of a stream, sorted by id."""
        wanted = stream_hash(stream)
        return sorted(name for name in self.names() if name.stream == wanted)

    def read(self, name: KeyName) -> WrappedKey:
        """A key, wrapped, and checked as far as that needs no master key.

        Raises:
            KeyDamagedError: when it is not as it was written.
        """
        path = self.directory / name.file
        try:
            key = decoder(WrappedKey)(read_text(path))
            bytes.fromhex(key.wrapped)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no key"
            raise KeyDamagedError(path, why or "it cannot be read") from None
        if key != key.checked():
            raise KeyDamagedError(path, "its checksum differs")
        if key.format != FORMAT:
            raise KeyDamagedError(path, f"it has format {key.format}, and {FORMAT} is the only one known")
        if (stream_hash(StreamName(key.stream)), key.id) != name:
            raise KeyDamagedError(path, "it holds the key of another name")
        return key

    def write(self, key: WrappedKey) -> KeyName:
        """Makes a key durable, under a name that is durable too.

        Raises:
            StoreFullError, StoreReadOnlyError: when it cannot; then it is not there.
        """
        name = KeyName(stream_hash(StreamName(key.stream)), key.id)
        path = self.directory / name.file
        with writing(self._layout.directory):
            self._make_directory()
            unfinished = path.with_name(path.name + NEW)
            try:
                write_private(unfinished, msgspec.json.encode(key.checked()) + b"\n")
                unfinished.rename(path)
                sync(self.directory)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                raise
        return name

    def settle(self) -> None:
        """Makes durable what a writer that was killed left, and clears away what it did not finish."""
        if not self.directory.is_dir():
            return
        with writing(self._layout.directory):
            for path in self.directory.glob(f"*{NEW}"):
                path.unlink(missing_ok=True)
            sync(self.directory)

    def destroy(self, names: list[KeyName]) -> None:
        """Destroys those of the keys that are there: nobody who has the store can read them again.

        A file is overwritten before it is unlinked. That means something where a file system writes in place; on
        others, and in copies, the wrapped key stays until its place is used again.

        Raises:
            StoreFullError, StoreReadOnlyError: when one cannot be destroyed.
        """
        with writing(self._layout.directory):
            there = [path for name in names if (path := self.directory / name.file).exists()]
            for path in there:
                _overwrite(path)
                path.unlink(missing_ok=True)
            if there:
                sync(self.directory)

    def copy_to(self, other: "KeyFiles") -> None:
        """Copies every key, wrapped as it is, to another store. One that is destroyed meanwhile is left out."""
        with writing(other._layout.directory):  # noqa: SLF001 - of the same class
            other._make_directory()  # noqa: SLF001 - of the same class
            for name in sorted(self.names()):
                try:
                    content = read_small(self.directory / name.file)
                except FileNotFoundError:
                    continue
                write_private(other.directory / name.file, content)
            sync(other.directory)

    def _make_directory(self) -> None:
        if not self.directory.is_dir():
            self.directory.mkdir(mode=0o700)
            sync(self._layout.directory)


def write_private(path: Path, content: bytes) -> None:
    """Writes a new file that only its owner can read, and makes its content durable; its name is not yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def copy_keys(source: Layout, target: Layout) -> None:
    """Copies all keys of a store that are files of its own to another: the data keys, and its own master key.

    Raises:
        StoreFullError, StoreReadOnlyError: when they cannot be read or written.
    """
    KeyFiles(source).copy_to(KeyFiles(target))
    if source.master.exists():
        with writing(target.directory):
            write_private(target.master, read_small(source.master))
            sync(target.directory)


def _overwrite(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.pwrite(descriptor, bytes(os.fstat(descriptor).st_size), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
