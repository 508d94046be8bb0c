"""The log as static files (C2SP tlog-tiles), for witnesses and monitors that know nothing of Tidelog.

Any web server can serve the directory. Publishing again adds what is new; a full tile never changes.
"""

import os
from collections.abc import Callable
from pathlib import Path

from tidelog.events.merkle import TILE_WIDTH, root_of
from tidelog.events.note import Checkpoint, NoteError, open_checkpoint
from tidelog.events.tiles import entries_path, entry_bundle, tile_path, tiles_for
from tidelog.storage.errors import NotAStoreError, StoreReadOnlyError
from tidelog.storage.layout import Layout, read_text, sync
from tidelog.storage.log import Query
from tidelog.storage.log.identity import BIRTHS, births_in
from tidelog.storage.log.reader import LogReader
from tidelog.storage.proofs.prover import Prover

Progress = Callable[[int, int], None]
"""Called with what is done and what there is to do."""
CHECKPOINT = "checkpoint"


def publish_tiles(layout: Layout, directory: Path, progress: Progress | None = None) -> Checkpoint:
    """Writes tiles, entry bundles and, when all of them are durable, the checkpoint; returns what it says.

    Raises:
        StoreError: when the log cannot be read, or the directory not be written.
    """
    prover = Prover(layout)
    reader = LogReader(layout.log)
    try:
        note = prover.checkpoint()
        _require_same_log(directory, prover, reader)
        tiles = list(tiles_for(prover.size))
        for done, (level, number, width) in enumerate(tiles, 1):
            hashes = b"".join(reader.hashes(level, number * TILE_WIDTH, width))
            _put(directory / tile_path(level, number, width), hashes)
            if level == 0:
                query = Query(after=number * TILE_WIDTH, until=number * TILE_WIDTH + width)
                _put(directory / entries_path(number, width), entry_bundle(reader.entries(query)))
            if progress is not None:
                progress(done, len(tiles))
        _put(directory / CHECKPOINT, note.encode())
        return open_checkpoint(note, [prover.identity.verifier])
    except OSError as error:
        raise StoreReadOnlyError(directory, error.strerror or str(error)) from None
    finally:
        reader.close()
        prover.close()


def _require_same_log(directory: Path, prover: Prover, reader: LogReader) -> None:
    """Refuses a directory that has another log, or one that this log does not go on from."""
    if not (directory / CHECKPOINT).exists():
        return
    births, _ = births_in(reader.entries(BIRTHS, 2**31))
    try:
        published = open_checkpoint(read_text(directory / CHECKPOINT), [birth.identity.verifier for birth in births])
    except NoteError as error:
        raise NotAStoreError(directory, f"what is published there is not of this log: {error}") from None
    if published.size > prover.size or published.root != root_of(published.size, reader.subtree):
        raise NotAStoreError(directory, "what is published there is not the beginning of this log")


def _put(path: Path, content: bytes) -> None:
    """Writes a file that nobody ever sees half; one that is as it should be is left alone."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished-{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync(path.parent)
