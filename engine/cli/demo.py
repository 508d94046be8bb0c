"""`tidelog demo`: what the log does, on a small made-up history."""

import shutil
import tempfile
from pathlib import Path

import anyio
import click
from rich.markup import escape

from tidelog.engine.cli.log import print_event, print_report
from tidelog.engine.cli.output import console, print_document
from tidelog.engine.story import CLUSTER, TARGET, WEB, history
from tidelog.events.projections import ACTUAL, RUNS
from tidelog.storage import Query, Recorded, open_log, open_views, verify_store
from tidelog.storage.sqlite_log import SqliteEventLog
from tidelog.storage.views import FollowedViews

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
    if store is not None and store.exists():
        raise click.UsageError(f"{store} is there already: the demonstration makes a store of its own, name a new one")
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
        await self._title(
            "What runs now, and what ran before the second commit?", f"tidelog log state actual --at {before}"
        )
        for moment in (await log.head(), before):
            row = await views.row(ACTUAL, WEB.stream(CLUSTER), at=moment)
            body = None if row is None or row.state is None else await log.body(row.state.digest)
            self._out.print(f"deployment [bold]web[/] at position [cyan]{moment}[/]:")
            self._out.print(f"  {escape((body.data if body else b'(absent)').decode())}")
        await self._title("What became of each commit?", "tidelog log state runs")
        for run in sorted((await views.rows(RUNS)).values(), key=lambda run: run.first):
            if run.stream == TARGET:
                self._out.print(f"  {run.revision or '(drift)'}  [bold]{run.outcome}[/]  {escape(run.message)}")
        await self._title("Who kept the shop alive?", "tidelog log tail --type PlanRejected")
        async for recorded in log.read(Query(types=("PlanRejected",))):
            print_event(recorded, "table")
            self._print_data(recorded)

    def _print_data(self, recorded: Recorded) -> None:
        event = recorded.event
        print_document({field: str(getattr(event, field)) for field in event.__struct_fields__})

    async def _verify(self) -> None:
        await self._title("Is all of it as it was written?", f"tidelog log verify --store {self._store}")
        print_report(await verify_store(self._store))

    async def _tamper(self) -> None:
        await self._title("Someone rewrites the past, in a copy of the store")
        copy = Path(tempfile.mkdtemp(prefix="tidelog-demo-")) / "tampered"
        await anyio.to_thread.run_sync(_rewrite, self._store, copy)
        self._out.print(f"  $ sed -i 's/{WAS.decode()}/{BECOMES.decode()}/' {copy / 'log.db'}")
        print_report(await verify_store(copy))

    async def _title(self, title: str, command: str | None = None) -> None:
        await anyio.sleep(self._pause_s)
        self._out.print(f"\n[bold cyan]{escape(title)}[/]" + (f"  [dim]$ {escape(command)}[/]" if command else ""))

    def _say_goodbye(self) -> None:
        self._out.print(f"\nThe store is in {self._store}. Try next:")
        for command in ("tail", "show 12", "stat", "state inventory", "prove --event 7", "verify"):
            self._out.print(f"  tidelog log {command} --store {self._store}")


def _rewrite(store: Path, copy: Path) -> None:
    """Copies a store, and does what a person with access to its disk might."""
    shutil.copytree(store, copy)
    log = copy / "log.db"
    log.write_bytes(log.read_bytes().replace(WAS, BECOMES))
