"""`tidelog explain`: from "not ready" to the one thing that holds it."""

import sys
from pathlib import Path

import click
from rich.text import Text

from tidelog.engine.cli.output import NO, Format, console, output_option, print_json, store_option
from tidelog.engine.cli.reading import (
    at_option,
    namespace_option,
    reading,
    since,
    subject_argument,
    tell_if_nobody_is_at_work,
)
from tidelog.engine.terminal import shortened, visible
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.causes import Cause
from tidelog.engine.views.commits import Commit
from tidelog.engine.views.explanations import Explanation
from tidelog.engine.views.explanations import explain as explain_subject
from tidelog.engine.views.names import find, subject_of
from tidelog.engine.views.sentences import with_about

DETAILS_SHOWN_MAX = 10


@click.command()
@subject_argument()
@namespace_option
@at_option
@output_option
@store_option
def explain(store: Path, output: Format, words: tuple[str, ...], namespace: str | None, moment: str | None) -> None:
    """Why a source, target or object is as it is, down to the one thing that holds it.

    Exits with 0 if it is ready, and with 1 if not.
    """
    with reading(store, moment) as archive:
        found = explain_subject(archive, find(archive, words, namespace))
        if output == "json":
            print_json(found)
        else:
            print_explanation(found, archive)
        tell_if_nobody_is_at_work(store, archive, moment, output)
    sys.exit(0 if found.ready else NO)


def print_explanation(found: Explanation, archive: Archive) -> None:
    """An explanation, for people: the chain, each link a step further in."""
    mark = Text("✔ ", style="green") if found.ready else Text("✗ ", style="red")
    _print(0, mark, shortened(found.sentence), since(found.position, found.since, archive))
    if found.ready and found.commit is not None and found.commit.subject:
        _print(1, Text(""), f"commit {_told(found.commit)}", "")
    for depth, cause in enumerate(found.chain, start=1):
        _print_cause(depth, cause, archive, is_root=cause is found.root)
        if cause is found.root and found.attempted is not None:
            _print(depth + 1, Text(""), _attempted(found.attempted), "")
    for note in found.notes:
        _print(1, Text("► ", style="yellow"), shortened(_sentence(note)), since(note.position, note.since, archive))


def _attempted(commit: Commit) -> str:
    """The revision that is not there yet; what has no message is no commit: a chart, an artifact, a bucket's files."""
    revision = shortened(commit.revision)
    return f"commit {revision}, {_told(commit)}" if commit.subject else f"revision {revision}"


def _told(commit: Commit) -> str:
    author = f" by {commit.author}" if commit.author else ""
    return f"“{commit.subject}”{author}"


def _print_cause(depth: int, cause: Cause, archive: Archive, *, is_root: bool) -> None:
    arrow = Text("⇒ " if is_root else "→ ", style="bold red" if is_root else "dim")
    _print(depth, arrow, shortened(_sentence(cause)), since(cause.position, cause.since, archive))
    inside = Text("  ")
    # Of verdicts, and of what stopped an apply, the message is what the details say one by one.
    message = "" if cause.details and cause.why in ("verification", "failed") else cause.message
    told = ": ".join(part for part in (cause.reason, message) if part)
    if told and is_root:
        _print(depth, inside, told, "")
    shown = cause.details[:DETAILS_SHOWN_MAX]
    for detail in shown if is_root or len(shown) > 1 else ():
        name = str(subject_of(detail.object)) if detail.object else ""
        _print(depth, inside, f"- {with_about(detail.message, name, detail.path)}", "")
    if len(cause.details) > len(shown):
        _print(depth, inside, f"- and {len(cause.details) - len(shown)} more", "")
    if cause.command and cause.command not in cause.message:
        _print(depth, inside, f"to go on: {cause.command}", "")


def _sentence(cause: Cause) -> str:
    subject = str(subject_of(cause.stream))
    return cause.sentence if subject in cause.sentence else f"{subject}: {cause.sentence}"


def _print(depth: int, mark: Text, sentence: str, when: str) -> None:
    line = Text("  " * depth).append(mark).append(visible(sentence))
    console().print(line.append(f" ({when})", style="dim") if when else line, soft_wrap=True)
