"""A store that is open to be written: its lock, its tables, its writer and its identity."""

import base64
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version

from tidelog.events.merkle import TreeBuilder
from tidelog.events.moment import Time
from tidelog.events.names import engine_stream
from tidelog.events.note import SignerKey
from tidelog.events.vocabulary import Event, LogCreated, LogRestored
from tidelog.storage.connection import SCHEMA_VERSION, check_header, connect_to_write, translate
from tidelog.storage.errors import (
    NotAStoreError,
    StoreCorruptError,
    StoreError,
    StoreReadOnlyError,
    StoreTooNewError,
)
from tidelog.storage.identity import (
    LogIdentity,
    create_signer,
    identity_of,
    load_signer,
    origin_of,
    signed_checkpoint,
    sync_directory,
)
from tidelog.storage.ids import new_id
from tidelog.storage.layout import Layout, writer_lock
from tidelog.storage.log import ANY, NewEvent, StreamAppend
from tidelog.storage.prepare import prepare
from tidelog.storage.reader import LogReader
from tidelog.storage.schema import migrate
from tidelog.storage.writer import LogWriter


class OpenStore:
    """Opens the store at `layout` to write, making it if there is none. Blocks; for worker threads.

    A store whose key is not the one that its log names has been copied from elsewhere (a backup, an import):
    it becomes a new incarnation before anything else is written.
    """

    def __init__(self, layout: Layout, clock: Callable[[], Time]) -> None:
        self.layout = layout
        with ExitStack() as opened:
            _make_directory(layout)
            found = check_header(layout.log) if layout.log.exists() else 0
            opened.enter_context(writer_lock(layout))
            connection = connect_to_write(layout.log)
            opened.callback(connection.close)
            # The header that was checked may be older than what stands in the write-ahead log.
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > SCHEMA_VERSION:
                raise StoreTooNewError(layout.directory, found, SCHEMA_VERSION)
            if found < SCHEMA_VERSION:
                migrate(connection)
                sync_directory(layout.directory)
            try:
                self.writer = LogWriter(connection, layout.log, clock)
                self.identity, self._signer = self._identify()
            except sqlite3.Error as error:
                raise translate(error, layout.log) from None
            except (ValueError, TypeError) as error:
                raise StoreCorruptError(str(layout.log), str(error)) from error
            self.writer.sign = self._sign
            self._opened = opened.pop_all()

    def checkpoint(self) -> str:
        """A signed note of the log as it is now."""
        return self._sign(self.writer.tree)

    def close(self) -> None:
        """Keeps a last checkpoint, and lets go of the store."""
        with self._opened:
            self.writer.keep_checkpoint()

    def _sign(self, tree: TreeBuilder) -> str:
        return signed_checkpoint(self._signer, tree)

    def _identify(self) -> tuple[LogIdentity, SignerKey]:
        known = self._known_identity()
        signer = load_signer(self.layout.key, known) if known else None
        if known and signer:
            return known, signer
        log = known.log if known else new_id()
        incarnation = known.incarnation + 1 if known else 1
        signer = create_signer(self.layout.key, origin_of(log, incarnation))
        identity = LogIdentity(log, incarnation, signer.verifier.text)
        self._append(identity, self._birth(identity))
        return identity, signer

    def _known_identity(self) -> LogIdentity | None:
        if self.writer.head == 0:
            return None
        reader = LogReader(self.layout.log)
        try:
            known = identity_of(reader)
        finally:
            reader.close()
        if known is None:
            raise NotAStoreError(self.layout.directory, "its log does not say which log it is")
        return known

    def _birth(self, identity: LogIdentity) -> Event:
        software = f"tidelog {version('tidelog')}"
        if self.writer.head == 0:
            return LogCreated(log=identity.log, incarnation=identity.incarnation, vkey=identity.vkey, software=software)
        return LogRestored(
            log=identity.log,
            incarnation=identity.incarnation,
            vkey=identity.vkey,
            software=software,
            root=base64.b64encode(self.writer.tree.root()).decode(),
        )

    def _append(self, identity: LogIdentity, event: Event) -> None:
        append = prepare([StreamAppend(engine_stream(identity.log), ANY, [NewEvent(event)])], [])
        (outcome,) = self.writer.commit([append])
        if isinstance(outcome, StoreError):
            raise outcome


def _make_directory(layout: Layout) -> None:
    directory = layout.directory
    if directory.exists() and not directory.is_dir():
        raise NotAStoreError(directory, "it is a file; a store is a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # A log that is empty, with nothing in the write-ahead log either, is one that was never made, or was emptied.
        files = [layout.log.with_name(layout.log.name + suffix) for suffix in ("", "-wal", "-shm")]
        known = {layout.lock.name, layout.key.name, *(file.name for file in files)}
        empty = not any(file.exists() and file.stat().st_size for file in files[:2])
        strangers = empty and any(entry.name not in known for entry in directory.iterdir())
    except OSError as error:
        raise StoreReadOnlyError(directory, error.strerror or str(error)) from None
    if strangers:
        raise NotAStoreError(directory, "it holds other files and no log")
