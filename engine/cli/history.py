"""`tidelog history`: the runs of a source or target, the versions of an object."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import click
from rich.text import Text

from tidelog.engine.cli.output import Format, PlainTable, output_option, plain_table, print_structs, store_option
from tidelog.engine.cli.reading import (
    ago,
    at_option,
    duration,
    limit_option,
    namespace_option,
    reading,
    status_option,
    subject_argument,
    tell_if_nobody_is_at_work,
)
from tidelog.engine.terminal import shortened, visible
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.histories import RunTold, VersionTold, is_reconciled, runs_of, versions_of
from tidelog.engine.views.names import find, subject_of
from tidelog.engine.views.sentences import with_about

STYLES = {
    "succeeded": "green",
    "failed": "red",
    "held": "yellow",
    "rejected": "red",
    "running": "yellow",
    "waiting": "yellow",
}
FIELDS_SHOWN_MAX = 3
NO_ATTEMPT_LEFT = "RetriesExceeded"


@click.command()
@subject_argument()
@limit_option
@status_option
@namespace_option
@at_option
@output_option
@store_option
def history(
    store: Path,
    output: Format,
    words: tuple[str, ...],
    count: int,
    namespace: str | None,
    moment: str | None,
    *,
    with_status: bool,
) -> None:
    """Every run of a source or target, every version of any other object; the newest first."""
    with reading(store, moment) as archive:
        subject = find(archive, words, namespace)
        limit = count or None
        if is_reconciled(archive, subject):
            runs = islice(runs_of(archive, subject), limit)
            print_structs(runs) if output == "json" else _print_runs(runs, archive)
        else:
            versions = islice(versions_of(archive, subject, with_status=with_status), limit)
            print_structs(versions) if output == "json" else _print_versions(versions, archive)
        tell_if_nobody_is_at_work(store, archive, moment, output)


def _print_runs(runs: Iterable[RunTold], archive: Archive) -> None:
    told = list(runs)
    # What was done with releases is worth a column where there are any.
    released = any(run.actions for run in told)
    release = ("RELEASE",) if released else ()
    table = plain_table("POSITION", "AGE", "OUTCOME", *release, "REVISION", "COMMIT", "CHANGES", "TOOK", "PLAN", "WHY")
    for run in told:
        table.add_row(
            str(run.position),
            ago(run.started, archive.now),
            Text(run.outcome, style=STYLES.get(run.outcome, "")),
            *((_text(_actions(run)),) if released else ()),
            _text((run.revision or "") + (f" (pinned to {run.pinned})" if run.pinned is not None else "")),
            _text("" if run.commit is None else run.commit.subject or run.commit.origin or ""),
            _changes(run),
            duration(run.duration_ms),
            _text(run.plan or ""),
            _text(_why(run)),
        )
    _print_table(table)


def _actions(run: RunTold) -> str:
    """What was done with a release, one after the other: `upgrade web.v2 failed, rollback web.v3`."""
    if not run.actions and run.reason == NO_ATTEMPT_LEFT:
        return "no attempt left"  # whoever asked for the run: nothing was tried
    ended = {"succeeded": ""}
    return ", ".join(
        " ".join(part for part in (one.action, one.release, ended.get(one.outcome, one.outcome)) if part)
        for one in run.actions
    )


def _changes(run: RunTold) -> str:
    counts = {"created": run.created, "configured": run.configured, "pruned": run.pruned, "applied": run.applied}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def _why(run: RunTold) -> str:
    """How it ended, where that was badly; else what it was for, and who stood behind it."""
    message = with_about(run.message, run.reason)
    # Who wrote the commit stands in what the commit says.
    named = run.by.startswith("engine ") or (run.by.startswith("git ") and run.why)
    who = "" if named else f"by {run.by}"
    return message or ", ".join(part for part in (run.why, who) if part)


def _print_versions(versions: Iterable[VersionTold], archive: Archive) -> None:
    table = plain_table("POSITION", "AGE", "WHAT", "BY", "FIELDS")
    for version in versions:
        by = version.by if version.target is None else f"{subject_of(version.target)}, {version.by}"
        table.add_row(
            str(version.position),
            ago(version.occurred, archive.now),
            _text(version.what),
            _text(by),
            _text(_fields(version.fields)),
        )
    _print_table(table)


def _fields(fields: tuple[str, ...]) -> str:
    more = f" and {len(fields) - FIELDS_SHOWN_MAX} more" if len(fields) > FIELDS_SHOWN_MAX else ""
    return ", ".join(fields[:FIELDS_SHOWN_MAX]) + more


def _text(text: str) -> Text:
    return Text(visible(shortened(text)))


def _print_table(table: PlainTable) -> None:
    if table.row_count:
        table.print()
    else:
        click.echo("Nothing of it is in the log up to this moment.", err=True)
