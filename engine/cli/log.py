"""`tidelog log`: reading, verifying, proving and moving the log. Every command works while a daemon writes."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import click
import msgspec
from rich.markup import escape

from tidelog.engine.cli.ask import why_option
from tidelog.engine.cli.groups import Group
from tidelog.engine.cli.output import (
    NO,
    Format,
    confirm,
    console,
    end_interrupted,
    output_option,
    plain_facts,
    plain_table,
    print_document,
    print_json,
    print_raw,
    reporting,
    store_option,
)
from tidelog.engine.cli.reading import at_option
from tidelog.engine.moments import position_of
from tidelog.engine.terminal import visible
from tidelog.engine.views.sentences import counted
from tidelog.events.bodies import Body, secret_digests
from tidelog.events.codec import UnknownEvent, bodies_of
from tidelog.events.digest import Digest, is_digest
from tidelog.events.envelope import Actor
from tidelog.events.merkle import leaf_hash
from tidelog.events.moment import datetime_of
from tidelog.events.names import stream_name
from tidelog.events.note import NoteError, VerifierKey, peek_checkpoint
from tidelog.events.projection import Projection
from tidelog.events.projections import PROJECTIONS
from tidelog.storage.errors import MomentError, StoreCorruptError, StoreNotFoundError
from tidelog.storage.forget import Forgetting, forgettings, forgotten_bodies
from tidelog.storage.key_files import KeyFiles
from tidelog.storage.layout import Layout, holder_of, read_text
from tidelog.storage.log import Query, Recorded
from tidelog.storage.log.identity import identity_of
from tidelog.storage.log.prepare import POSITION_MAX
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import open_log, read_log
from tidelog.storage.projections.projector import Past
from tidelog.storage.projections.projector import rebuild as rebuild_views
from tidelog.storage.projections.view_store import ViewStore
from tidelog.storage.proofs.parts import Finding
from tidelog.storage.proofs.prover import Prover
from tidelog.storage.proofs.publish import publish_tiles
from tidelog.storage.proofs.verify import Report, verify_store
from tidelog.storage.sealed import header_of
from tidelog.storage.transfer import back_up, export_log, import_log
from tidelog.storage.transfer import restore as restore_log

CLOCK_TOLERANCE_S = 1.0
"""By how much two clocks that are right may differ."""
ACTOR_WIDTH_MAX = 80
"""Characters of an actor in a line of `tail`; `show` has all of them."""


@click.group(cls=Group)
def log() -> None:
    """Read, verify, prove and move the log."""


def _checked_key(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """A key that was typed.

    Raises:
        click.BadParameter: when it is none.
    """
    try:
        return None if text is None else VerifierKey.parse(text).text
    except NoteError as error:
        raise click.BadParameter(str(error)) from None


@contextmanager
def _reading(store: Path) -> Iterator[LogReader]:
    reader = LogReader(Layout(store).log)
    try:
        yield reader
    finally:
        reader.close()


@log.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with each event as it comes.")
@click.option(
    "-n",
    "--lines",
    "count",
    type=click.IntRange(0),
    default=20,
    show_default=True,
    help="Begin so many events back.",
)
@click.option("--stream", help="Only events of this stream.")
@click.option("--type", "types", multiple=True, help="Only events of this type; may be given again.")
@click.option("--run", help="Only events of this run.")
@click.option("--trace", help="Only events of this trace.")
@click.option("--cause", help="Only events that this event id led to.")
@output_option
@store_option
def tail(
    store: Path,
    output: Format,
    count: int,
    stream: str | None,
    types: tuple[str, ...],
    run: str | None,
    trace: str | None,
    cause: str | None,
    *,
    follow: bool,
) -> None:
    """The last events, and those that come. Of several conditions, all must hold."""
    query = Query(
        stream=stream,
        types=types,
        run=run,
        trace=trace,
        cause=cause,
    )
    printed = 0
    with _reading(store) as reader:
        head = reader.head()
        for page in reader.last_pages(msgspec.structs.replace(query, until=head), count):
            for recorded in page:
                print_event(recorded, output)
            printed += len(page)
    if count and not printed:
        yet = " yet" if follow else ""
        click.echo(f"None of the log's {head} events{yet} has {visible(_conditions(query))}.", err=True)
    if follow:
        try:
            anyio.run(_follow, store, msgspec.structs.replace(query, after=head), output)
        except KeyboardInterrupt:
            end_interrupted()


def _conditions(query: Query) -> str:
    """The conditions of a query, as they were typed."""
    typed = [("--stream", query.stream), *(("--type", name) for name in query.types)]
    typed += [("--run", query.run), ("--trace", query.trace), ("--cause", query.cause)]
    return " ".join(f"{option} {value}" for option, value in typed if value is not None)


async def _follow(store: Path, query: Query, output: Format) -> None:
    async with read_log(store) as reading:
        async for recorded in reading.subscribe(query):
            print_event(recorded, output)


def print_event(recorded: Recorded, output: Format) -> None:
    """One event, on a line."""
    if output == "json":
        print_raw(recorded.raw)
        return
    envelope = recorded.envelope
    actor = escape(_short(visible(str(envelope.actor))))
    # Not wrapped by us: a long name must not look like a line of its own.
    console().print(
        f"[cyan]{envelope.position:>8}[/] [dim]{envelope.time}[/] [bold]{escape(visible(envelope.type)):<18}[/] "
        f"{escape(visible(envelope.stream))} [dim]v{envelope.version} by {actor}[/]",
        soft_wrap=True,
    )


def _short(text: str) -> str:
    """The text, or its beginning and its end: where an actor's proof stands."""
    return text if len(text) <= ACTOR_WIDTH_MAX else f"{text[: ACTOR_WIDTH_MAX // 2]}…{text[-ACTOR_WIDTH_MAX // 2 :]}"


@log.command()
@click.argument("position", type=click.IntRange(1, POSITION_MAX))
@output_option
@store_option
def show(store: Path, position: int, output: Format) -> None:
    """One event, whole."""
    with _reading(store) as reader:
        recorded = reader.event(position)
        if recorded is None:
            raise MomentError(f"the log has no event {position}: its last is {reader.head()}")
    print_whole_event(recorded, output)
    if output != "json":
        _print_forgotten(_forgotten(store, msgspec.json.decode(recorded.envelope.data)))


def print_whole_event(recorded: Recorded, output: Format) -> None:
    """One event, whole."""
    if output == "json":
        print_raw(recorded.raw)
        return
    envelope = recorded.envelope
    known = "" if not isinstance(recorded.event, UnknownEvent) else " (not known to this release)"
    facts = {
        "position": envelope.position,
        "stream": envelope.stream,
        "version": envelope.version,
        "type": f"{envelope.type}, schema {envelope.schema}{known}",
        "time": envelope.time,
        "occurred": envelope.occurred,
        "actor": envelope.actor,
        "id": envelope.id,
        "run": envelope.run,
        "trace": envelope.trace,
        "cause": envelope.cause,
        "leaf": leaf_hash(recorded.raw).hex(),
        "bodies": " ".join(reference.digest for reference in bodies_of(recorded.event)) or None,
    }
    plain_facts(facts).print()
    print_document(msgspec.json.decode(envelope.data))


def _forgotten(store: Path, document: object) -> dict[Digest, Forgetting]:
    """The bodies named anywhere in a document that were forgotten."""
    digests = list(secret_digests(document))
    if not digests:
        return {}
    with _reading(store) as reader:
        return forgotten_bodies(reader, digests)


def _print_forgotten(forgotten: dict[Digest, Forgetting]) -> None:
    for digest, forgetting in forgotten.items():
        console().print(f"{digest} was {escape(visible(str(forgetting)))}", soft_wrap=True)


@log.command()
@click.argument("digest")
@click.option("--reveal", is_flag=True, help="Show it even if it is secret: needs the master key and the data key.")
@store_option
def body(store: Path, digest: str, *, reveal: bool) -> None:
    """The content of a body, as it was; of a secret one, nothing is shown without --reveal.

    The master key is that of the store, or the one that TIDELOG_MASTER_KEY, TIDELOG_MASTER_KEY_FILE or
    TIDELOG_MASTER_KEY_COMMAND gives.
    """
    if not is_digest(digest):
        raise click.BadParameter(f"{digest!r} is no digest: sha256:<64 hex>, or hmac-sha256:<64 hex> of a secret body")
    with _reading(store) as reader:
        found = reader.body(Digest(digest))
        forgotten = forgotten_bodies(reader, [found.ref.digest])
    for forgetting in forgotten.values():
        click.echo(f"{digest} was {visible(str(forgetting))}", err=True)
        sys.exit(NO)
    if found.ref.secret and not reveal:
        click.echo(f"{digest} is secret ({found.ref.size} bytes): its content is not shown.", err=True)
        sys.exit(NO)
    sys.stdout.buffer.write(_content(Layout(store), found))


def _content(layout: Layout, found: Body) -> bytes:
    if not found.ref.secret:
        return found.data
    from tidelog.storage.keys import KeyRing
    from tidelog.storage.master_key import find_master_key

    master = find_master_key(layout, os.environ, create=False)
    return KeyRing.open(layout, master, create=False).open_body(found)


@log.command()
@click.argument("stream")
@why_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@store_option
def forget(store: Path, stream: str, why: str, output: Format, *, yes: bool) -> None:
    """Destroy the keys of STREAM: what was secret in it can never be read again, here or in any copy without keys.

    Its events and its proofs stay, and the log verifies as before. What is sealed later is under a new key. Bodies
    that may be seen are no secret, and stay too. So does what Git has: a Secret that was committed in the clear is in
    the repository, and in the artifacts that were fetched of it. Needs no master key. A daemon at work does it itself,
    and makes anew, under another key, what it still needs.
    """
    from tidelog.engine.cli.door import user  # what it needs takes a while to import

    name = stream_name(stream)
    files = KeyFiles(Layout(store))
    with _reading(store) as reader:
        before = [forgetting for forgetting in forgettings(reader) if forgetting.stream == name]
        keys = [key.id for key in files.of(name)]
        count = sum(reader.count_bodies(header_of(key)) for key in keys)
    if not keys:
        _refuse_to_forget(name, before)
    bodies = f"{count} secret bod{'y' if count == 1 else 'ies'}"
    if not yes:
        confirm(f"{visible(name)}: {bodies} can never be read again. Go on?")
    done = anyio.run(_forget, store, name, why, user())
    if done is None:
        _refuse_to_forget(name, before)
    _print_done(output, f"Forgot {visible(name)}: {bodies}, at position {done}.", position=done)


def _refuse_to_forget(name: str, before: Sequence[Forgetting]) -> NoReturn:
    told = f"it was {visible(str(before[-1]))}" if before else "nothing secret is kept of it"
    click.echo(f"{visible(name)} has no key: {told}.", err=True)
    sys.exit(NO)


async def _forget(store: Path, stream: str, why: str, actor: Actor) -> int | None:
    """The position at which it was said; None when there was nothing to forget."""
    from tidelog.engine.http.client import open_door
    from tidelog.engine.runtime.requests import Request
    from tidelog.storage.keys import KeyRing

    async with open_door(store) as door:
        if door is not None:
            return (await door.ask(Request(verb="forget", target=stream, why=why))).position
    async with open_log(store, create=False) as log:
        ring = await anyio.to_thread.run_sync(partial(KeyRing.open, log.layout, None, create=False))
        forgetting = await ring.forget(log, stream, why=why, actor=actor)
        return None if forgetting is None else forgetting.position


@log.command()
@output_option
@store_option
def stat(store: Path, output: Format) -> None:
    """What is in the store: sizes, counts, and how far the projections have come."""
    layout = Layout(store)
    with _reading(store) as reader:
        facts = _facts(layout, reader, datetime.now(UTC))
        types = reader.types()
        positions = _cursors(layout)
    if facts["seconds_ahead"]:
        click.echo(_AHEAD.format(facts["seconds_ahead"]), err=True)
    if output == "json":
        print_json({**facts, "types": dict(types), "projections": positions})
        return
    plain_facts(facts).print()
    counts = plain_table("TYPE", "EVENTS")
    for name, count in types:
        counts.add_row(visible(name), str(count))
    counts.print()
    views = plain_table("PROJECTION", "POSITION")
    for name, position in positions.items():
        views.add_row(name, str(position))
    views.print()


_AHEAD = (
    "The last event's time lies {} seconds ahead of this machine's clock. Times never decrease: until the clock has "
    "passed it, every event gets that same time."
)


def _seconds_ahead(last: Recorded | None, now: datetime) -> int | None:
    """By how much the log's time is ahead of the clock; None when it is not."""
    ahead = 0 if last is None else (datetime_of(last.envelope.time) - now).total_seconds()
    return round(ahead) if ahead > CLOCK_TOLERANCE_S else None


def _facts(layout: Layout, reader: LogReader, now: datetime) -> dict[str, str | int | None]:
    identity = identity_of(reader)
    head = reader.head()
    first, last = reader.event(1), reader.event(head)
    checkpoints = reader.checkpoints()
    return {
        "log": None if identity is None else identity.log,
        "incarnation": None if identity is None else identity.incarnation,
        "vkey": None if identity is None else identity.vkey,
        "events": head,
        "streams": reader.count("streams"),
        "bodies": reader.count("bodies"),
        "first_event": None if first is None else first.envelope.time,
        "last_event": None if last is None else last.envelope.time,
        "seconds_ahead": _seconds_ahead(last, now),
        "root": reader.tree().root().hex(),
        "last_kept_checkpoint": checkpoints[-1][0] if checkpoints else None,
        "bytes": sum(file.stat().st_size for file in layout.directory.iterdir() if file.is_file()),
        "writer": holder_of(layout),
    }


def _cursors(layout: Layout) -> dict[str, int]:
    with _reading_views(layout) as views:
        if views is None:
            return {}
        return {projection.name: views.cursor(projection).position for projection in PROJECTIONS}


@contextmanager
def _reading_views(layout: Layout) -> Iterator[ViewStore | None]:
    """One state of the projections' file; None where there is none."""
    views = ViewStore.to_read(layout.views)
    try:
        if views is not None:
            views.begin_read()
        yield views
    finally:
        if views is not None:
            views.close()


@log.command()
@click.argument("projection", metavar="PROJECTION", type=click.Choice([projection.name for projection in PROJECTIONS]))
@click.argument("key", required=False)
@at_option
@output_option
@store_option
def state(store: Path, projection: str, key: str | None, moment: str | None, output: Format) -> None:
    """The rows of a projection, now or as of any moment; of one, with its KEY.

    Projections: desired, conditions, actual, inventory, runs, object_versions.
    """
    definition: Projection[Any] = next(known for known in PROJECTIONS if known.name == projection)
    layout = Layout(store)
    with _reading(store) as reader:
        position = reader.head() if moment is None else position_of(moment, reader, datetime.now(UTC))
        with _reading_views(layout) as views:
            past = Past(reader, views)
            if key is None:
                rows = dict(past.rows(definition, position).items())
            else:
                row = past.row(definition, key, position)
                rows = {} if row is None else {key: row}
    forgotten = _forgotten(store, msgspec.to_builtins(rows))
    if output == "json":
        told = {"forgotten": {digest: str(how) for digest, how in forgotten.items()}} if forgotten else {}
        print_json({"projection": projection, "position": position, "rows": rows, **told})
    else:
        print_rows(projection, position, rows)
        _print_forgotten(forgotten)
    if key is not None and not rows:
        click.echo(f"{projection} has no row {key} at position {position}.", err=True)
        sys.exit(NO)


def print_rows(projection: str, position: int, rows: Mapping[str, msgspec.Struct]) -> None:
    """Rows of a projection as they were at a position."""
    console().print(f"[bold]{projection}[/] at position [cyan]{position}[/]: {len(rows)} row{'s'[: len(rows) != 1]}")
    for key, row in rows.items():
        console().print(f"\n[bold]{escape(visible(key))}[/]")
        print_document(msgspec.to_builtins(row))


@log.command()
@store_option
def rebuild(store: Path) -> None:
    """Make the projections anew from the log. Needs no daemon at work."""
    if not Layout(store).log.exists():
        raise StoreNotFoundError(store)
    with reporting("folding") as report:
        position = rebuild_views(Layout(store), report)
    click.echo(f"Folded {position} events.")


@log.command()
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A checkpoint of this log that was kept elsewhere.",
)
@click.option(
    "--vkey",
    callback=_checked_key,
    help="The key that is trusted to have signed it (default: the one that the log names).",
)
@output_option
@store_option
def verify(store: Path, checkpoint: Path | None, vkey: str | None, output: Format) -> None:
    """Whether everything that can be read is what was written; if not, where. Exits with 1 if anything is not."""
    note = None if checkpoint is None else _read_note(checkpoint)

    async def run() -> Report:
        return await verify_store(store, checkpoint=note, vkey=vkey, progress=report)

    with reporting("verifying") as report:
        try:
            result = anyio.run(run)
        except StoreCorruptError as error:
            result = _unopenable(error)
    if output == "json":
        print_json({"intact": result.intact, **msgspec.to_builtins(result)})
    else:
        print_report(result)
    sys.exit(0 if result.intact else NO)


def _unopenable(error: StoreCorruptError) -> Report:
    """The report on a log that is so damaged that nothing in it can be looked at."""
    problem = (
        f"cannot be opened: {error.why}. Nothing in it was checked. Keep the file as it is, restore a backup with "
        "`tidelog log restore`, or see what `sqlite3 log.db .recover` still finds"
    )
    return Report(events=0, bodies=0, root=None, checkpoints=0, findings=(Finding(error.what, problem),))


def _read_note(path: Path) -> str:
    """The note in a file; what is none says nothing about the log.

    Raises:
        NoteError: when there is no checkpoint in it.
    """
    try:
        note = read_text(path)
        peek_checkpoint(note)
    except UnicodeDecodeError:
        raise NoteError(f"{path} is no checkpoint: it is not UTF-8") from None
    except NoteError as error:
        raise NoteError(f"{path} is no checkpoint: {error}") from None
    return note


def print_report(report: Report) -> None:
    """What a verification found."""
    out = console()
    read = f"{counted(report.events, 'event')}, {report.bodies} {'body' if report.bodies == 1 else 'bodies'}"
    if report.intact:
        out.print(f"[green]intact[/]: {read}, {counted(report.checkpoints, 'checkpoint')}\nroot {report.root}")
        return
    table = plain_table("WHERE", "WHAT")
    for finding in report.findings:
        table.add_row(visible(finding.what), visible(finding.problem))
    table.print()
    out.print(f"[red]damaged[/]: {counted(len(report.findings), 'fault')} in {read}")


@log.command()
@click.option("--event", "position", type=click.IntRange(1), help="Prove that this event is in the log.")
@click.option("--from", "old", type=click.IntRange(1), help="With --to: prove that the log only grew in between.")
@click.option("--to", "new", type=click.IntRange(1))
@store_option
def prove(store: Path, position: int | None, old: int | None, new: int | None) -> None:
    """Print a proof as JSON, for someone who does not have the log: tools/verify_log.py checks it."""
    if (position is None) == (old is None) or (new is not None and old is None):
        raise click.UsageError("give either --event N, or --from A with --to B")
    prover = Prover(Layout(store))
    try:
        if position is not None:
            print_json(prover.inclusion(position))
        elif old is not None:
            print_json(prover.consistency(old, prover.size if new is None else new))
    finally:
        prover.close()


@log.command()
@click.option("--size", type=click.IntRange(0), help="Of the log when it had so many events (default: now).")
@click.option("--vkey", "show_key", is_flag=True, help="Print the key that checks it instead.")
@store_option
def checkpoint(store: Path, size: int | None, *, show_key: bool) -> None:
    """Print a signed checkpoint (C2SP tlog-checkpoint): keep it where the store cannot be reached."""
    prover = Prover(Layout(store))
    try:
        click.echo(prover.identity.vkey if show_key else prover.checkpoint(size), nl=show_key)
    finally:
        prover.close()


@log.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@output_option
@store_option
def tiles(store: Path, directory: Path, output: Format) -> None:
    """Write the log to DIRECTORY as static tiles (C2SP tlog-tiles), or add there what is new since."""
    with reporting("publishing") as report:
        signed = publish_tiles(Layout(store), directory, report)
    _print_done(output, f"Published {signed.size} events to {directory}.", events=signed.size, root=signed.root.hex())


@log.command("export")
@click.argument("directory", type=click.Path(path_type=Path))
@output_option
@store_option
def export_(store: Path, directory: Path, output: Format) -> None:
    """Write the log to a new DIRECTORY as JSON Lines, with its bodies and a signed checkpoint."""
    with reporting("exporting") as report:
        signed = export_log(Layout(store), directory, report)
    _print_done(output, f"Exported {signed.size} events to {directory}.", events=signed.size, root=signed.root.hex())


@log.command("import")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--vkey",
    callback=_checked_key,
    help="The key that is trusted to have signed the export (default: the one in it).",
)
@output_option
@store_option
def import_(store: Path, directory: Path, vkey: str | None, output: Format) -> None:
    """Make a new store from an export; its log has the same events and the same root."""
    with reporting("importing") as report:
        signed = import_log(directory, Layout(store), vkey, report)
    _print_done(output, f"Imported {signed.size} events into {store}.", events=signed.size, root=signed.root.hex())


@log.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--with-keys", is_flag=True, help="With the keys of secrets: whoever has the copy can read them.")
@output_option
@store_option
def backup(store: Path, directory: Path, output: Format, *, with_keys: bool) -> None:
    """Copy the store, in use or not, to a new DIRECTORY that opens as a store.

    Without --with-keys nobody can read in the copy what is secret. With it, the data keys go along, and the master
    key if the store has its own; what is forgotten later can still be read from such a copy.
    """
    with reporting("copying") as report:
        size = back_up(Layout(store), directory, report, with_keys=with_keys)
    _print_done(output, f"Backed up {size} events to {directory}.", events=size)


@log.command()
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--with-keys", is_flag=True, help="With the keys of secrets, which the backup must have.")
@output_option
@store_option
def restore(store: Path, directory: Path, output: Format, *, with_keys: bool) -> None:
    """Make a new store from a backup, as a new incarnation of its log."""
    with reporting("restoring") as report:
        identity = restore_log(directory, Layout(store), report, with_keys=with_keys)
    message = f"Restored log {identity.log} to {store}, as incarnation {identity.incarnation}."
    _print_done(output, message, log=identity.log, incarnation=identity.incarnation)


def _print_done(output: Format, message: str, **facts: str | int) -> None:
    if output == "json":
        print_json(facts)
    else:
        click.echo(message)
