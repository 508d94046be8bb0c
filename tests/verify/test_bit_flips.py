"""A bit that can be read back wrong is reported; one that is not reported changes nothing that can be read."""

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random

import anyio
import pytest

from tests.verify.stores import OBJECTS, Known, Readable, known_of, make_store, read_all, verified
from tidelog.events.names import StreamName
from tidelog.events.projections import PROJECTIONS
from tidelog.storage.errors import StoreError
from tidelog.storage.layout import Layout
from tidelog.storage.log.open_store import OpenStore
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import utc_now
from tidelog.storage.projections import projector
from tidelog.storage.projections.projector import Past
from tidelog.storage.projections.view_store import ViewStore

PAGE = 4_096
FLIPS, SOAK_FLIPS = 60, 3_000
PARTS = ["anywhere", "heads of pages", "the schema", "pages in turn"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of 300 events, closed: its log is one file. Its full tile has a MAC."""
    directory = tmp_path_factory.mktemp("flips") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projector, "SNAPSHOT_INTERVAL", 64)
        anyio.run(partial(make_store, directory, 7, (270, 300)))
        yield directory


class Flipped:
    """A file of which one bit at a time is another."""

    def __init__(self, path: Path, random: Random) -> None:
        self.path = path
        self.data = path.read_bytes()
        self._random = random

    def places(self, part: str, count: int) -> Iterator[tuple[int, int]]:
        random, pages = self._random, len(self.data) // PAGE
        for number in range(count):
            if part == "anywhere":
                offset = random.randrange(len(self.data))
            elif part == "heads of pages":
                offset = random.randrange(pages) * PAGE + random.randrange(64)
            elif part == "the schema":
                offset = random.randrange(PAGE)
            else:
                offset = number % pages * PAGE + random.randrange(PAGE)
            yield offset, random.randrange(8)

    def flip(self, offset: int, bit: int) -> None:
        file = os.open(self.path, os.O_WRONLY)
        os.pwrite(file, bytes([self.data[offset] ^ 1 << bit]), offset)
        os.close(file)

    def restore(self) -> None:
        self.path.write_bytes(self.data)


def reported(store: Path) -> bool:
    """Whether a verification reports a finding, or refuses the store and names it."""
    try:
        return not verified(store).intact
    except StoreError as error:
        return str(store) in str(error)


def read_or_refusal(store: Path, known: Known) -> Readable | None:
    """Everything, or None when that is refused as a damaged store should be."""
    try:
        return read_all(store, known)
    except StoreError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_bit_of_the_log_is_reported_or_changes_nothing_that_can_be_read(
    small: Path, tmp_path: Path, seed: int, soak: bool, part: str
) -> None:
    store = Path(shutil.copytree(small, tmp_path / "store"))
    known, original = known_of(store), read_all(store, known_of(store))
    flipped = Flipped(store / "log.db", Random(f"{seed} {part}"))
    found = 0
    for offset, bit in flipped.places(part, SOAK_FLIPS if soak else FLIPS):
        flipped.flip(offset, bit)
        where = f"bit {bit} of byte {offset} (page {offset // PAGE + 1})"
        try:
            is_reported = reported(store)
            readable = read_or_refusal(store, known)
        except Exception as error:
            raise AssertionError(f"{where}: {error!r}") from error
        assert is_reported or readable == original, where
        found += is_reported
        flipped.restore()
    assert found > 10, "few of the flips can have met unused space"
    assert verified(store).intact


@pytest.mark.slow
def test_a_log_with_a_flipped_bit_opens_to_be_written_or_is_refused(
    small: Path, tmp_path: Path, seed: int, soak: bool
) -> None:
    random = Random(seed)
    for number in range(1_000 if soak else 30):
        store = Path(shutil.copytree(small, tmp_path / str(number)))
        flipped = Flipped(store / "log.db", random)
        ((offset, bit),) = flipped.places(random.choice(PARTS), 1)
        flipped.flip(offset, bit)
        try:
            OpenStore(Layout(store), utc_now).close()
        except StoreError:
            pass
        except Exception as error:
            raise AssertionError(f"bit {bit} of byte {offset}: {error!r}") from error
        shutil.rmtree(store)
    assert verified(small).intact


NAMED = {
    "event {}": ("SELECT position, CAST(envelope AS BLOB) FROM events", "SELECT position, leaf FROM events"),
    "body {}": ("SELECT digest, data FROM bodies",),
    "checkpoint {}": ("SELECT size, CAST(note AS BLOB) FROM checkpoints",),
    "tile/{}/000": ("SELECT level, hash FROM nodes",),
    "log.db, table {}": ("SELECT 'tile_macs', mac FROM tile_macs",),
}
"""How what holds something is called, and where that stands."""


def named_places(store: Path) -> Iterator[tuple[str, int, int]]:
    """Where in the file something stands in one piece, with its name and its size."""
    data = (store / "log.db").read_bytes()
    with closing(sqlite3.connect(f"file:{store / 'log.db'}?mode=ro&immutable=1", uri=True)) as database:
        for name, statements in NAMED.items():
            for key, content in (row for statement in statements for row in database.execute(statement)):
                if data.count(content) == 1:
                    yield name.format(key), data.index(content), len(content)


@pytest.mark.slow
def test_a_flipped_bit_is_told_by_the_name_of_what_it_is_in(small: Path, tmp_path: Path, seed: int, soak: bool) -> None:
    store = Path(shutil.copytree(small, tmp_path / "store"))
    random = Random(seed)
    flipped = Flipped(store / "log.db", random)
    by_sort: dict[str, list[tuple[str, int, int]]] = {}
    for place in named_places(store):
        by_sort.setdefault(re.split("[ /]", place[0])[0], []).append(place)
    assert {sort: len(places) > 100 for sort, places in by_sort.items()} == {
        "event": True, "body": False, "checkpoint": False, "tile": False, "log.db,": False
    }  # fmt: skip
    for places in by_sort.values():
        for name, offset, size in random.choices(places, k=200 if soak else 8):
            at = offset + random.randrange(size)
            flipped.flip(at, random.randrange(8))
            found = [finding.what for finding in verified(store).findings]
            assert found[:1] == [name], at
            # What hangs on an event cannot be held against it any more; whoever else is named was hit by nobody.
            assert all(what.startswith("checkpoint") for what in found[1:]), (name, found)
            flipped.restore()


def test_a_row_that_cannot_be_taken_apart_is_told_by_its_event(small: Path, tmp_path: Path) -> None:
    """SQLite itself then says no more than that the file is malformed, and not where."""
    store = Path(shutil.copytree(small, tmp_path / "store"))
    flipped = Flipped(store / "log.db", Random(0))
    envelopes = [place for place in named_places(store) if place[0].startswith("event") and place[2] > 100]
    name, offset, _ = envelopes[len(envelopes) // 2]
    (length,) = (before for before in range(10, 16) if flipped.data[offset - before] == before)
    flipped.flip(offset - length, 6)  # the length of the row's own header
    found = [finding.what for finding in verified(store).findings]
    assert found[0] == name
    assert {what.split(" ")[0] for what in found[1:]} <= {"checkpoint", "log.db", "log.db,", "events"}
    assert not [what for what in found if "view" in what]


def answers(store: Path) -> list[object]:
    """Rows of all projections at several moments, all and one by one."""
    layout = Layout(store)
    reader = LogReader(layout.log)
    views = None
    try:
        views = ViewStore.to_read(layout.views)
        past = Past(reader, views)
        found: list[object] = []
        for projection in PROJECTIONS:
            for position in (10, 64, 130, 299, 300):
                rows = dict(past.rows(projection, position).items())
                found += [rows, [past.row(projection, key, position) for key in list(rows)[::7]]]
        found += [past.versions(StreamName(f"east/{thing}"), 300) for thing in OBJECTS]
        return found
    finally:
        if views is not None:
            views.close()
        reader.close()


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_bit_of_the_projections_is_reported_or_changes_nothing_that_can_be_read(
    small: Path, tmp_path: Path, seed: int, soak: bool, part: str
) -> None:
    store = Path(shutil.copytree(small, tmp_path / "store"))
    original = answers(store)
    flipped = Flipped(store / "views.db", Random(f"{seed} {part}"))
    found = 0
    for offset, bit in flipped.places(part, SOAK_FLIPS if soak else 60):
        flipped.flip(offset, bit)
        where = f"bit {bit} of byte {offset} (page {offset // PAGE + 1})"
        try:
            report = verified(store)
        except Exception as error:
            raise AssertionError(f"{where}: {error!r}") from error
        try:
            readable = answers(store)
        except StoreError:
            readable = []
        except Exception as error:
            raise AssertionError(f"{where}: {error!r}") from error
        assert not report.intact or readable == original, where
        found += not report.intact
        flipped.restore()
    assert found > 5 or part == "the schema", "its page is half empty"


def test_each_bit_of_where_the_projections_stand_is_checked(small: Path, tmp_path: Path) -> None:
    """The cursors: were one wrong, events would be folded twice, or never."""
    store = Path(shutil.copytree(small, tmp_path / "store"))
    flipped = Flipped(store / "views.db", Random(0))
    page = flipped.data[PAGE : 2 * PAGE]
    cells = [int.from_bytes(page[8 + 2 * n : 10 + 2 * n]) for n in range(int.from_bytes(page[3:5]))]
    assert len(cells) == len(PROJECTIONS)
    end = next(at for at in range(cells[0], PAGE) if page[at : at + 7] == page[cells[0] :][:7])
    for offset in range(end, end + 60):
        flipped.flip(PAGE + offset, 0)
        assert not verified(store).intact, offset
        flipped.restore()


def test_a_truncated_log_is_refused_or_reported(small: Path, tmp_path: Path, soak: bool) -> None:
    store = Path(shutil.copytree(small, tmp_path / "store"))
    data = (store / "log.db").read_bytes()
    pages = len(data) // PAGE
    step = 1 if soak else 7
    sizes = [0, 1, 15, 16, 99, 100, 511, 4_095, *(page * PAGE for page in range(1, pages, step))]
    for size in [*sizes, len(data) - 1, len(data) - 100, pages // 2 * PAGE + 1_234]:
        (store / "log.db").write_bytes(data[:size])
        try:
            assert reported(store), size
        except Exception as error:
            raise AssertionError(f"cut to {size} bytes: {error!r}") from error


@pytest.mark.parametrize("removed", [False, True])
def test_a_log_that_was_emptied_is_not_taken_for_a_new_one(small: Path, tmp_path: Path, removed: bool) -> None:
    """It would be given another name and key, and all that it held would be forgotten without a word."""
    store = Path(shutil.copytree(small, tmp_path / "store"))
    if removed:
        (store / "log.db").unlink()
    else:
        (store / "log.db").write_bytes(b"")
    with pytest.raises(StoreError, match="the log was removed or emptied"):
        OpenStore(Layout(store), utc_now)
    assert (store / "log.key").read_bytes() == (small / "log.key").read_bytes()
