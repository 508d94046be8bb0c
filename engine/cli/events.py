"""`tidelog events`: what happened, in plain sentences."""

from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import click
import msgspec
from rich.text import Text

from tidelog.engine.cli.output import Format, console, end_interrupted, output_option, print_json, store_option
from tidelog.engine.cli.reading import all_namespaces_option, at_option, namespace_option, reading, status_option
from tidelog.engine.moments import start_of
from tidelog.engine.terminal import shortened, visible
from tidelog.engine.views.archive import open_archive
from tidelog.engine.views.chronicle import Scope, last_events, scope_for
from tidelog.engine.views.failures import Failures
from tidelog.engine.views.names import default_namespace, find
from tidelog.engine.views.sentences import Told, told
from tidelog.events.moment import shown_time
from tidelog.storage.log import Query, Recorded
from tidelog.storage.log.sqlite_log import read_log

COUNT = 50


@click.command()
@click.option("--for", "name", metavar="KIND/NAME", help="Only what is about this; of a target, its source's too.")
@click.option(
    "--since", "since_", help="Only what came after a moment, given as for --at; all, where the log is younger."
)
@click.option(
    "--limit", "count", type=click.IntRange(0), default=COUNT, show_default=True, help="Only so many; 0 for all."
)
@click.option("-w", "--watch", is_flag=True, help="Go on with each event as it comes.")
@status_option
@namespace_option
@all_namespaces_option
@at_option
@output_option
@store_option
def events(
    store: Path,
    output: Format,
    name: str | None,
    since_: str | None,
    count: int,
    namespace: str | None,
    moment: str | None,
    *,
    watch: bool,
    everywhere: bool,
    with_status: bool,
) -> None:
    """What happened, a sentence an event, the newest last.

    Without --for: to all in a namespace, or with -A, to all.
    """
    if watch and moment is not None:
        raise click.UsageError("--watch goes on from now, and --at ends before: give one of them")
    with reading(store, moment) as archive:
        if name is not None:
            scope = scope_for(archive, find(archive, (name,), namespace))
        else:
            scope = Scope(namespace=None if everywhere else namespace or default_namespace())
        scope = msgspec.structs.replace(scope, with_status=with_status)
        after = 0 if since_ is None else start_of(since_, archive.log, datetime.now(UTC))
        head = archive.position
        failures = Failures(archive)
        found = [told(recorded, failures) for recorded in last_events(archive, scope, after, count)]
    for one in found:
        print_told(one, output)
    if not found:
        click.echo("No event" + (" yet." if watch else f" up to position {head}."), err=True)
    if watch:
        try:
            anyio.run(_follow, store, scope, head, output)
        except KeyboardInterrupt:
            end_interrupted()


async def _follow(store: Path, scope: Scope, after: int, output: Format) -> None:
    async with read_log(store) as log:
        async for recorded in log.subscribe(Query(after=after)):
            if scope.holds(recorded):
                print_told(await anyio.to_thread.run_sync(_told, store, recorded), output)


def _told(store: Path, recorded: Recorded) -> Told:
    with open_archive(store) as archive:
        return told(recorded, Failures(archive))


def print_told(one: Told, output: Format) -> None:
    """An event, on a line."""
    if output == "json":
        print_json(one)
        return
    line = Text(f"{one.position:>8} ", style="cyan")
    line.append(f"{shown_time(one.time)} ", style="dim")
    line.append(f"{visible(one.subject)} ", style="bold")
    line.append(visible(shortened(one.sentence)))
    if one.actor.kind != "engine":
        line.append(visible(f" — {one.by}"), style="dim")
    # Not wrapped by us: a long name must not look like a line of its own.
    console().print(line, soft_wrap=True)
