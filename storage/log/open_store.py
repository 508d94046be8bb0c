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
from tidelog.storage.connection import LOG, connect_to_write, translate, version_of
from tidelog.storage.errors import (
    NotAStoreError,
    StoreCorruptError,
    StoreError,
    StoreTooNewError,
)
from tidelog.storage.forget import finish_forgetting
from tidelog.storage.key_files import KeyFiles
from tidelog.storage.layout import PRIVATE_DIRECTORY, Layout, sync, writer_lock, writing
from tidelog.storage.log import ANY, NewEvent, StreamAppend
from tidelog.storage.log.identity import (
    LogIdentity,
    create_signer,
    identity_of,
    load_signer,
    origin_of,
    signed_checkpoint,
)
from tidelog.storage.log.ids import new_id
from tidelog.storage.log.lost_commits import lost_commits
from tidelog.storage.log.prepare import prepare
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.tile_macs import mac_key
from tidelog.storage.log.writer import LogWriter


class OpenStore:
    """Opens the store at `layout` to write, making it if there is none. Blocks; for worker threads.

    A store whose key is not the one that its log names has been copied from elsewhere (a backup, an import):
    it becomes a new incarnation before anything else is written.
    """

    def __init__(self, layout: Layout, clock: Callable[[], Time]) -> None:
        self.layout = layout
        with ExitStack() as opened:
            _make_directory(layout)
            opened.enter_context(writer_lock(layout))
            _sync_write_ahead_log(layout)
            _require_every_commit(layout)
            connection = connect_to_write(layout.log, LOG)
            opened.callback(connection.close)
            try:
                _bring_up(connection, layout)
                self.writer = LogWriter(connection, layout.log, clock)
                self.identity, self._signer = self._identify()
                self._finish_forgetting()
            except sqlite3.Error as error:
                raise translate(error, layout.log) from None
            except (ValueError, TypeError) as error:
                raise StoreCorruptError(str(layout.log), str(error)) from error
            self.writer.sign = self._sign
            self.writer.mac_key = mac_key(layout.key)
            self._opened = opened.pop_all()

    def checkpoint(self) -> str:
        """A signed note of the log as it is now."""
        return self._sign(self.writer.tree)

    def close(self) -> None:
        """Keeps a last checkpoint, and lets go of the store."""
        with self._opened:
            self.writer.keep_checkpoint()
            self.writer.empty_write_ahead_log()

    def _sign(self, tree: TreeBuilder) -> str:
        return signed_checkpoint(self._signer, tree)

    def _identify(self) -> tuple[LogIdentity, SignerKey]:
        known = self._known_identity()
        signer = load_signer(self.layout.key, known) if known else None
        if known and signer:
            return known, signer
        self.writer.drop_macs()
        log = known.log if known else new_id()
        incarnation = known.incarnation + 1 if known else 1
        signer = create_signer(self.layout.key, origin_of(log, incarnation))
        identity = LogIdentity(log, incarnation, signer.verifier.text)
        self._append(identity, self._birth(identity))
        return identity, signer

    def _finish_forgetting(self) -> None:
        """Destroys the keys that the log says are forgotten, and that a crash, or a copy put back, left here."""
        if not self.layout.keys.is_dir():
            return
        reader = LogReader(self.layout.log)
        try:
            finish_forgetting(KeyFiles(self.layout), reader)
        finally:
            reader.close()

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
        append = prepare([StreamAppend(engine_stream(identity.log), ANY, [NewEvent(event)])], [], by_log=True)
        (outcome,) = self.writer.commit([append])
        if isinstance(outcome, StoreError):
            raise outcome


def _bring_up(connection: sqlite3.Connection, layout: Layout) -> None:
    """Brings the tables to those of this release."""
    found = version_of(connection)
    if found > LOG.version:
        raise StoreTooNewError(layout.directory, found, LOG.version)
    trigger = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchone()
    if trigger is not None:
        # It would change what is written, after it was answered that it is kept.
        raise StoreCorruptError(f"{layout.log}, trigger {trigger[0]}", "no log has triggers")
    if found < LOG.version:
        from tidelog.storage.log.schema import migrate  # noqa: PLC0415 - brings sqlite-utils, which is seldom needed

        migrate(connection)
        with writing(layout.directory):
            sync(layout.directory)
    # After an fsync that failed, the kernel may hold as written what is not on the disk. What was recovered from the
    # write-ahead log is written once more, to the database itself, before anyone is answered from it.
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sync_write_ahead_log(layout: Layout) -> None:
    """Makes durable what a killed writer wrote and did not come to sync.

    SQLite takes it for committed: it is read, and a repeated append is answered from it, without another commit.
    """
    if layout.write_ahead_log.exists():
        with writing(layout.directory):
            sync(layout.write_ahead_log)
            sync(layout.directory)


def _require_every_commit(layout: Layout) -> None:
    """Refuses a write-ahead log of which SQLite would drop, without a word, what was acknowledged.

    Raises:
        StoreCorruptError: when it has lost commits; nothing was changed.
    """
    file = layout.write_ahead_log
    with writing(layout.directory):
        lost = lost_commits(file)
    if lost is not None:
        advice = "copy what can still be read by `tidelog log backup`, and go on from that by `tidelog log restore`"
        raise StoreCorruptError(f"{file}, {lost.place}", lost.problem, advice)


def _make_directory(layout: Layout) -> None:
    directory = layout.directory
    if directory.exists() and not directory.is_dir():
        raise NotAStoreError(directory, "it is a file; a store is a directory")
    with writing(directory):
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        if directory in missing:
            directory.chmod(PRIVATE_DIRECTORY)
        for path in missing:
            sync(path.parent)
        has_strangers = any(not layout.is_own(entry.name) for entry in directory.iterdir())
    # A log that is empty is one that was never made, or was removed or emptied.
    is_empty = not layout.log.exists() or layout.log.stat().st_size == 0
    if has_strangers and is_empty:
        raise NotAStoreError(directory, "it holds other files and no log")
    # A new store's log has its tables before anything else is made.
    # A master key may be put there before the first start; data keys are of a log.
    remains = (layout.views, layout.key, layout.keys, layout.write_ahead_log)
    if is_empty and any(file.exists() and file.stat().st_size for file in remains):
        raise NotAStoreError(directory, "it holds what is left of a store, and the log was removed or emptied")
