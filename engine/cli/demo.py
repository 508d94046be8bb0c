"""`tidelog demo`: what the log does, on a small made-up history."""

import shlex
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import click
import msgspec
from rich.markup import escape

from tidelog.engine.cli.log import print_event, print_report, print_rows, print_whole_event
from tidelog.engine.cli.output import console
from tidelog.engine.story import CLUSTER, TARGET, WEB, history
from tidelog.events.projection import Projection
from tidelog.events.projections import ACTUAL, RUNS
from tidelog.storage import Query, open_log, open_views, verify_store
from tidelog.storage.log.sqlite_log import SqliteEventLog
from tidelog.storage.projections.views import FollowedViews

Row = TypeVar("Row", bound=msgspec.Struct)
PAUSE_S = 1.2
WAS, BECOMES = b"moved by mistake", b"moved on purpose"
"""What the tampering changes: as long as it was, so that the file stays a database."""


@click.command()
@click.option(
    "--store", type=click.Path(path_type=Path), help="Where to make the store (default: a new temporary one)."
)
@click.option("--fast", is_flag=True, help="Without pauses.")
def demo(store: Path | None, *, fast: bool) -> None:
    """Show what the log does, on a small made-up history. No cluster is touched."""
    for there in () if store is None else (store, tampered(store)):
        if there.exists():
            raise click.UsageError(
                f"{there} is there already: the demonstration makes a store of its own, name a new one"
            )
    directory = store or Path(tempfile.mkdtemp(prefix="tidelog-demo-")) / "store"
    anyio.run(_Demo(directory, 0 if fast else PAUSE_S).run)


class _Demo:
    """The demonstration, step by step."""

    def __init__(self, store: Path, pause_s: float) -> None:
        self._store = store
        self._pause_s = pause_s
        self._out = console()

    async def run(self) -> None:
        self._out.print("[bold]Tidelog[/] remembers everything. This is its log, alone: the engine comes next.")
        self._command(f"export TIDELOG_STORE={shlex.quote(str(self._store))}")
        async with open_log(self._store) as log, open_views(log) as views:
            before = await self._write(log)
            await views.catch_up()
            await self._look_back(log, views, before)
        await self._verify()
        await self._tamper()
        self._say_goodbye()

    async def _write(self, log: SqliteEventLog) -> int:
        """Appends the history; returns the position before the second commit."""
        positions: list[int] = []
        for chapter in history():
            await self._title(chapter.title)
            positions.append(await log.head())
            for recorded in await log.append_all(chapter.appends, bodies=chapter.bodies):
                print_event(recorded, "table")
        return positions[2]

    async def _look_back(self, log: SqliteEventLog, views: FollowedViews, before: int) -> None:
        await self._title("What runs now, and what ran before the second commit?")
        for moment in (await log.head(), before):
            row = await self._state(views, ACTUAL, WEB.stream(CLUSTER), moment)
            if row is not None and row.state is not None:
                self._command(f"tidelog log body {row.state.digest}")
                body = await log.body(row.state.digest)
                self._out.print(body.data.decode(), markup=False, soft_wrap=True)
        await self._title("What became of the last commit?")
        runs = await views.rows(RUNS)
        last = max((key for key in runs if runs[key].stream == TARGET), key=lambda key: runs[key].first)
        await self._state(views, RUNS, last, await log.head())
        await self._title("Who kept the shop alive?")
        self._command("tidelog log tail --type PlanRejected")
        found = [recorded async for recorded in log.read(Query(types=("PlanRejected",)))]
        for recorded in found:
            print_event(recorded, "table")
        for recorded in found:
            self._command(f"tidelog log show {recorded.envelope.position}")
            print_whole_event(recorded, "table")

    async def _state(self, views: FollowedViews, projection: Projection[Row], key: str, moment: int) -> Row | None:
        """Asks for a row, and prints it as the command does."""
        self._command(f"tidelog log state {projection.name} {key} --at {moment}")
        row = await views.row(projection, key, at=moment)
        print_rows(projection.name, moment, {} if row is None else {key: row})
        return row

    async def _verify(self) -> None:
        await self._title("Is all of it as it was written?")
        self._command("tidelog log verify")
        print_report(await verify_store(self._store))

    async def _tamper(self) -> None:
        await self._title("Someone rewrites the past, in a copy of the store")
        copy = tampered(self._store)
        name = shlex.quote(str(copy))
        try:
            await anyio.to_thread.run_sync(_rewrite, self._store, copy)
            self._command(f"cp -r {shlex.quote(str(self._store))} {name}")
            self._command(f"sed -i 's/{WAS.decode()}/{BECOMES.decode()}/g' {name}/log.db")
            self._command(f"tidelog log verify --store {name}")
            print_report(await verify_store(copy))
            self._command(f"rm -r {name}")
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, copy, ignore_errors=True))

    async def _title(self, title: str) -> None:
        await anyio.sleep(self._pause_s)
        self._out.print(f"\n[bold cyan]{escape(title)}[/]")

    def _command(self, command: str) -> None:
        """Shows the command that gives the answer that follows, in the same form."""
        self._out.print(f"[dim]$ {escape(command)}[/]", soft_wrap=True)

    def _say_goodbye(self) -> None:
        self._out.print(f"\nThe store is in {self._store}. Try next:")
        for command in ("tail", "show 12", "stat", "state inventory", "prove --event 7", "verify"):
            self._out.print(f"  tidelog log {command} --store {self._store}")


def tampered(store: Path) -> Path:
    """Where the copy is, for as long as it is there."""
    return store.with_name(f"{store.name}-tampered")


def _rewrite(store: Path, copy: Path) -> None:
    """Copies a store, and does what a person with access to its disk might."""
    shutil.copytree(store, copy)
    log = copy / "log.db"
    log.write_bytes(log.read_bytes().replace(WAS, BECOMES))
