"""What the commands that read the log share: options, moments, ages, and JSON."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from tidelog.engine.cli.output import Format
from tidelog.engine.terminal import visible
from tidelog.engine.views.archive import Archive, open_archive
from tidelog.engine.views.gaps import gap_of
from tidelog.events.moment import Time, datetime_of, shown_time
from tidelog.events.vocabulary import EngineStarted
from tidelog.storage.layout import Layout, holder_of
from tidelog.storage.log import Query

namespace_option = click.option(
    "-n",
    "--namespace",
    help="Where to look. Default: $FLUX_SYSTEM_NAMESPACE, or flux-system; for objects, everywhere.",
)
all_namespaces_option = click.option(
    "-A", "--all-namespaces", "everywhere", is_flag=True, help="Look in all namespaces."
)
at_option = click.option(
    "--at",
    "moment",
    help="As of a position (120), a time (2026-11-23T14:05Z), how long ago ('2h ago', 10m), or a revision.",
)
limit_option = click.option(
    "--limit",
    "count",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Only so many, the newest; 0 for all.",
)
status_option = click.option(
    "--status", "with_status", is_flag=True, help="Also where nothing but the status of an object changed."
)

Command = TypeVar("Command", bound=Callable[..., Any])


def subject_argument(metavar: str = "KIND/NAME", *, required: bool = True) -> Callable[[Command], Command]:
    """The argument that names a source, target or object: `KIND/NAME` or `KIND NAME`."""
    metavar = metavar if required else f"[{metavar}]"
    return click.argument("words", metavar=metavar, nargs=-1, required=required)


@contextmanager
def reading(store: Path, moment: str | None) -> Iterator[Archive]:
    """The store at a moment that was typed, while a daemon may write it; says so where nobody watched that moment."""
    with open_archive(store, moment) as archive:
        gap = None if moment is None else gap_of(archive)
        if gap is not None:
            click.echo(visible(f"► Of position {archive.position}: {gap}."), err=True)
        yield archive


def tell_if_nobody_is_at_work(store: Path, archive: Archive, moment: str | None, output: Format) -> None:
    """Says that what was printed may be out of date, where a daemon was at work on the store and none is now."""
    if moment is not None or output == "json" or holder_of(Layout(store)) is not None:
        return
    if archive.last(Query(types=(EngineStarted.__name__,))) is None:
        return  # a log that was copied here, or told for a demonstration
    last = shown_time(archive.log.time_at(archive.position))
    click.echo(f"► no daemon is at work on this store: this is its last state, of {last}", err=True)


def ago(time: Time | None, now: datetime) -> str:
    """How long ago, as kubectl writes ages: 45s, 5m, 3h, 2d."""
    if time is None:
        return ""
    return length_of(max(0, round((now - datetime_of(time)).total_seconds())))


def duration(milliseconds: int) -> str:
    """A length of time in as few signs as say enough."""
    if milliseconds < 1_000:
        return f"{milliseconds}ms"
    seconds = milliseconds / 1_000
    return f"{seconds:.1f}s" if seconds < 100 else length_of(round(seconds))


def length_of(seconds: int) -> str:
    """Whole seconds as minutes, hours or days, whichever is the largest that has two."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def since(position: int, time: Time | None, archive: Archive) -> str:
    """Since which event, and how long ago; empty where neither is known."""
    if not position:
        return f"since {ago(time, archive.now)} ago" if time else ""
    return f"since event {position}, {ago(time, archive.now)} ago"
