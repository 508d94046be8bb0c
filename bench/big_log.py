"""The log that most questions are asked of: a million events, appended as the engine appends them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import msgspec

from bench.workload import GENERATOR_VERSION, SEED, Fleet, Workload
from tidelog.events.projections import PROJECTIONS
from tidelog.storage.connection import LOG
from tidelog.storage.errors import StoreError
from tidelog.storage.layout import Layout, writer_lock
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import open_log
from tidelog.storage.projections.projector import Projector


class Mark(msgspec.Struct, frozen=True):
    """What a log that was kept says of itself, in a file beside the store."""

    generator: int
    seed: int
    events: int
    tables: int
    """The version of the log's tables: those of an older release would be measured in the place of these."""


class BigLog:
    """A store of `events` events at `directory`."""

    def __init__(self, directory: Path, events: int) -> None:
        self.layout = Layout(directory)
        self.events = events
        self.fleet = Fleet(events)
        self._mark = Mark(GENERATOR_VERSION, SEED, events, LOG.version)
        self._mark_file = directory.with_name(directory.name + ".json")

    def make(self, progress: Callable[[int], None]) -> None:
        """Makes the log, unless it is there already."""
        if self._is_there():
            return
        shutil.rmtree(self.layout.directory, ignore_errors=True)
        anyio.run(self._append_all, progress)
        self._mark_file.write_bytes(msgspec.json.encode(self._mark))

    def warm(self) -> None:
        """Has the kernel hold the files in memory."""
        for path in (self.layout.log, self.layout.views):
            if path.exists():
                with path.open("rb", buffering=0) as file:
                    while file.read(2**22):
                        pass

    def make_views(self, progress: Callable[[int], None]) -> None:
        """Has the projections' file be there and at the log's head."""
        with writer_lock(self.layout), closing(Projector.open(self.layout, PROJECTIONS)) as projector:
            while projector.advance():
                progress(projector.position)

    @contextmanager
    def without_views(self) -> Iterator[None]:
        """Has the store be without its projections' file for a while."""
        aside = self.layout.directory.with_name(self.layout.directory.name + ".views")
        names = [path.name for path in self.layout.directory.glob(self.layout.views.name + "*")]
        aside.mkdir(exist_ok=True)
        for name in names:
            (self.layout.directory / name).replace(aside / name)
        try:
            yield
        finally:
            for name in names:
                (aside / name).replace(self.layout.directory / name)
            aside.rmdir()

    def reader(self) -> LogReader:
        """A reader of the log, to be closed."""
        return LogReader(self.layout.log)

    def _is_there(self) -> bool:
        try:
            if msgspec.json.decode(self._mark_file.read_bytes(), type=Mark) != self._mark:
                return False
            with closing(self.reader()) as reader:
                return reader.head() == self.events
        except (OSError, msgspec.DecodeError, StoreError):
            return False

    async def _append_all(self, progress: Callable[[int], None]) -> None:
        workload = Workload(self.events)
        async with open_log(self.layout.directory, clock=workload.clock) as log:
            for appends, bodies in workload.appends():
                await log.append_all(appends, bodies=bodies)
                progress(await log.head())
        with closing(self.reader()) as reader:
            assert reader.head() == self.events
