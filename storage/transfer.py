"""Taking a log elsewhere: backups that open as stores, and exports that need no Tidelog to be read or checked.

An export is a directory: `events.jsonl` (the stored envelopes, byte for byte), `bodies.jsonl`, `checkpoint` (the
signed note of size and root) and `vkey`. Neither has the log's key: whoever goes on from a copy is another
incarnation of the log. Neither has the keys of secrets, but for a backup that is asked to.
"""

import base64
import binascii
import itertools
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from tidelog.events.bodies import Body, BodyRef
from tidelog.events.digest import Digest
from tidelog.events.envelope import ENVELOPE_BYTES_MAX
from tidelog.events.note import Checkpoint, NoteError, VerifierKey, open_checkpoint
from tidelog.events.typed import decoder
from tidelog.storage.connection import LOG, connect_to_write, translate
from tidelog.storage.errors import (
    NotAnExportError,
    NotAStoreError,
    OccupiedError,
    StoreCorruptError,
    StoreError,
    StoreFailedError,
    StoreFullError,
    StoreReadOnlyError,
)
from tidelog.storage.key_files import copy_keys
from tidelog.storage.layout import PRIVATE_DIRECTORY, Layout, create_private, read_text, sync, writing
from tidelog.storage.log import PAGE_EVENTS_MAX, Query
from tidelog.storage.log.compression import BODY_BYTES_MAX, StoredBody, pack, unpack
from tidelog.storage.log.identity import BIRTHS, LogIdentity, births_in
from tidelog.storage.log.open_store import OpenStore
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import utc_now
from tidelog.storage.log.writer import LogWriter
from tidelog.storage.proofs.prover import Prover

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""

EVENTS = "events.jsonl"
BODIES = "bodies.jsonl"
CHECKPOINT = "checkpoint"
VKEY = "vkey"
T = TypeVar("T")
BODY_LINE_BYTES_MAX = BODY_BYTES_MAX * 4 // 3 + 1_024
"""Of a line of `bodies.jsonl`: base64, and what stands around it."""
IMPORT_BATCH_BYTES = 16 * 2**20
"""Bytes after which an import commits; one body may be larger."""
COPY_PAGES = 2_048
"""Pages of a database copied between two reports of progress."""


class BodyLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of `bodies.jsonl`."""

    digest: Digest
    body: str
    """Base64 of the plaintext; of a secret body, of the ciphertext."""
    size: int
    secret: bool = False
    stored: Digest | None = None


def export_log(layout: Layout, target: Path, progress: Progress | None = None) -> Checkpoint:
    """Writes the log as it is now to the new directory `target`; returns what the checkpoint there says.

    Raises:
        StoreError: when the store cannot be read or the directory not be written.
    """
    prover = Prover(layout)
    try:
        note = prover.checkpoint()
        with _new_directory(target) as directory, writing(target):
            _write(directory / BODIES, _body_lines(layout))
            _write(directory / EVENTS, _event_lines(layout, prover.size, progress))
            _write(directory / VKEY, iter([prover.identity.vkey.encode()]))
            _write(directory / CHECKPOINT, iter([note.removesuffix("\n").encode()]))
        return open_checkpoint(note, [prover.identity.verifier])
    finally:
        prover.close()


def import_log(source: Path, layout: Layout, vkey: str | None = None, progress: Progress | None = None) -> Checkpoint:
    """Makes the new store at `layout` from an export; its log has the same events, and so the same root.

    Args:
        source: the export's directory.
        layout: where the store is to be.
        vkey: the key that is trusted to have signed the checkpoint; otherwise the one in the export.
        progress: told of the progress.

    Raises:
        StoreCorruptError: when the export does not hold what its checkpoint signs; no store is made then.
        NotAnExportError: when it is none.
    """
    try:
        return _import(source, layout, vkey, progress)
    except StoreCorruptError as error:
        raise StoreCorruptError(error.what, error.why, "no store was made, get the export anew") from None


def _import(source: Path, layout: Layout, vkey: str | None, progress: Progress | None) -> Checkpoint:
    checkpoint = _signed(source, vkey)
    with _new_directory(layout.directory) as directory:
        made = Layout(directory)
        from tidelog.storage.log.schema import migrate  # noqa: PLC0415 - brings sqlite-utils, which is seldom needed

        connection = connect_to_write(made.log, LOG)
        try:
            migrate(connection)
            writer = LogWriter(connection, made.log, utc_now)
            _adopt(writer, source, checkpoint, progress)
            if (writer.head, writer.tree.root()) != (checkpoint.size, checkpoint.root):
                raise StoreCorruptError(str(source), "its events are not those that its checkpoint signs")
            if not _names(made, checkpoint.origin):
                raise StoreCorruptError(str(source / CHECKPOINT), f"its log is not {checkpoint.origin}")
            note = _read(source / CHECKPOINT)
            connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (checkpoint.size, note))
        finally:
            connection.close()
    return checkpoint


def back_up(layout: Layout, target: Path, progress: Progress | None = None, *, with_keys: bool = False) -> int:
    """Copies the log, which may be in use, to the new store `target`; returns how many events it has.

    The copy is of one moment, holds a signed checkpoint of it, and can be read where it is. What is secret in it can
    be read only `with_keys`: with the data keys, and the master key if the store has its own.
    """
    prover = Prover(layout)
    prover.close()
    with _new_directory(target) as directory:
        copy = directory / layout.log.name
        _copy_database(layout.log, copy, progress)
        connection = connect_to_write(copy, LOG)
        try:
            size: int = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()[0]
            note = _note(layout, size)
            connection.execute("INSERT OR REPLACE INTO checkpoints VALUES (?, ?)", (size, note))
        finally:
            connection.close()
        sync(copy)
        if with_keys:
            # After the log: every key that it needs is there, and none that was forgotten meanwhile.
            copy_keys(layout, Layout(directory))
    return size


def restore(source: Path, layout: Layout, progress: Progress | None = None, *, with_keys: bool = False) -> LogIdentity:
    """Makes the new store at `layout` from a backup, as a new incarnation of the log; returns which.

    Without `with_keys`, what is secret in it cannot be read, and what will be is sealed under new keys.

    Raises:
        StoreError: when the backup cannot be read, or has not the keys that are asked for; no store is made then.
    """
    backup = Layout(source)
    with _new_directory(layout.directory) as directory:
        made = Layout(directory)
        _copy_database(backup.log, made.log, progress)
        if with_keys:
            if not backup.keys.is_dir():
                raise NotAStoreError(source, "it holds no keys: it was made without them, or the store had none")
            copy_keys(backup, made)
        try:
            store = OpenStore(made, utc_now)
        except StoreCorruptError as error:
            what = error.what.replace(str(directory), str(source))  # what is there no more says nothing
            advice = f"no store was made; run `tidelog log verify --store {source}` for the whole picture"
            raise StoreCorruptError(what, error.why, advice) from None
        store.close()
        made.lock.unlink(missing_ok=True)
    return store.identity


def _names(layout: Layout, origin: str) -> bool:
    """Whether an origin is that of an incarnation of the log."""
    reader = LogReader(layout.log)
    try:
        births, strangers = births_in(reader.entries(BIRTHS, 2**31))
    finally:
        reader.close()
    return not strangers and origin in [birth.identity.origin for birth in births]


def _note(layout: Layout, size: int) -> str:
    prover = Prover(layout)
    try:
        return prover.checkpoint(size)
    finally:
        prover.close()


def _copy_database(source: Path, target: Path, progress: Progress | None) -> None:
    """Copies a database as it is at one moment, while others may write it."""
    create_private(target)
    reader = LogReader(source)
    try:
        reader.copy_to(target, COPY_PAGES, progress)
    finally:
        reader.close()


def _event_lines(layout: Layout, size: int, progress: Progress | None) -> Iterator[bytes]:
    reader = LogReader(layout.log)
    try:
        for first in range(0, size, PAGE_EVENTS_MAX):
            until = min(first + PAGE_EVENTS_MAX, size)
            yield from reader.entries(Query(after=first, until=until))
            if progress is not None:
                progress(until, size)
    finally:
        reader.close()


def _body_lines(layout: Layout) -> Iterator[bytes]:
    reader = LogReader(layout.log)
    try:
        for stored in reader.stored_bodies():
            body = unpack(stored)
            line = BodyLine(
                digest=body.ref.digest,
                body=base64.b64encode(body.data).decode(),
                size=body.ref.size,
                secret=body.ref.secret,
                stored=body.ref.stored,
            )
            yield msgspec.json.encode(line)
    finally:
        reader.close()


def _adopt(writer: LogWriter, source: Path, checkpoint: Checkpoint, progress: Progress | None) -> None:
    for bodies in _batches(_stored_bodies(source), lambda body: len(body.data)):
        writer.adopt([], bodies)
    for entries in _batches(_lines(source / EVENTS, ENVELOPE_BYTES_MAX), len):
        writer.adopt(entries, [])
        if progress is not None:
            progress(writer.head, checkpoint.size)


def _stored_bodies(source: Path) -> Iterator[StoredBody]:
    for number, text in enumerate(_lines(source / BODIES, BODY_LINE_BYTES_MAX), 1):
        try:
            line = decoder(BodyLine)(text)
            reference = BodyRef(digest=line.digest, size=line.size, secret=line.secret, stored=line.stored)
            yield pack(Body(ref=reference, data=base64.b64decode(line.body, validate=True)))
        except (msgspec.DecodeError, binascii.Error, ValueError) as error:
            raise StoreCorruptError(f"{source / BODIES}, line {number}", str(error)) from None


def _signed(source: Path, vkey: str | None) -> Checkpoint:
    try:
        key = VerifierKey.parse(_read(source / VKEY).strip() if vkey is None else vkey)
        checkpoint = open_checkpoint(_read(source / CHECKPOINT), [key])
    except NoteError as error:
        raise StoreCorruptError(str(source / CHECKPOINT), str(error)) from None
    if checkpoint.origin != key.name:
        raise StoreCorruptError(str(source / CHECKPOINT), f"it is of {checkpoint.origin}, and signed by {key.name}")
    return checkpoint


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise NotAnExportError(path.parent, f"there is no file {path.name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise NotAnExportError(path.parent, f"{path.name} cannot be read: {error}") from None


def _lines(path: Path, most: int) -> Iterator[bytes]:
    """The lines of a file, none of more than `most` bytes."""
    if not path.is_file():
        raise NotAnExportError(path.parent, f"there is no file {path.name}")
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline(most + 1)  # and not a file of one line whole
                if not line:
                    return
                if len(line) > most and not line.endswith(b"\n"):
                    raise StoreCorruptError(f"{path}, line {number}", f"it has more than {most} bytes")
                yield line.removesuffix(b"\n")
    except OSError as error:
        raise NotAnExportError(path.parent, f"{path.name} cannot be read: {error}") from None


def _batches(items: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """What one transaction takes at a time, by number and by bytes."""
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item)
        if len(batch) == PAGE_EVENTS_MAX or size >= IMPORT_BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write(path: Path, lines: Iterator[bytes]) -> None:
    create_private(path)
    with path.open("r+b") as file:
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _new_directory(target: Path) -> Iterator[Path]:
    """A directory to be filled, which gets its name when it is whole and durable, and is gone otherwise.

    Raises:
        OccupiedError: when there is something at `target` already.
        StoreFullError, StoreReadOnlyError: when it cannot be made.
    """
    target = target.absolute()
    with writing(target):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise OccupiedError(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Readable by its owner only: an export and a backup hold all that the log holds.
        unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))
        unfinished.chmod(PRIVATE_DIRECTORY)
    try:
        yield unfinished
        with writing(target):
            sync(unfinished)
            if target.exists():
                target.rmdir()
            unfinished.rename(target)
            sync(target.parent)
    except sqlite3.Error as error:
        raise _not_made(target, translate(error, unfinished / "log.db"), unfinished) from None
    except (StoreFullError, StoreFailedError, StoreReadOnlyError) as error:
        raise _not_made(target, error, unfinished) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _not_made(target: Path, error: StoreError, unfinished: Path) -> StoreError:
    """The error in terms of what was to be made: the directory where it was made is gone, and nothing was appended."""
    if isinstance(error, StoreFullError) and error.path == unfinished:
        return StoreFullError(target, error.why)
    if isinstance(error, StoreFailedError | StoreReadOnlyError) and error.path == unfinished:
        return StoreReadOnlyError(target, error.why)
    return error
