"""How commands print: tables and colour for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NoReturn, TypeAlias

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

Format: TypeAlias = Literal["table", "json"]
NO = 1
"""Exit code when it was done, and the answer is no: damage was found, there is no such event."""

store_option = click.option(
    "--store",
    "store",
    type=click.Path(path_type=Path),
    default=Path("tidelog-store"),
    envvar="TIDELOG_STORE",
    show_default=True,
    show_envvar=True,
    help="The store's directory.",
)
output_option = click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How to print: for people, or JSON for programs.",
)


WIDTH_ELSEWHERE = 1_000
"""Columns where output is no terminal: lines are then whole, for `grep` and `awk`."""


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Ends quietly."""
        _leave_quietly()


def console() -> Console:
    """Standard output, with colour where it is a terminal."""
    width = None if sys.stdout.isatty() else WIDTH_ELSEWHERE
    return _Output(highlight=False, width=width)


def print_document(value: object) -> None:
    """A value as indented JSON, with colour where it is a terminal; nothing in it is cut off."""
    text = json.dumps(value, indent=2)
    console().print(
        Syntax(text, "json", background_color="default", word_wrap=True) if sys.stdout.isatty() else text, markup=False
    )


def plain_facts(facts: Mapping[str, object]) -> Table:
    """A table of names and values, without those that are None."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(name.replace("_", " "), Text(visible(str(value))))
    return table


def print_json(value: object) -> None:
    """One JSON value, on a line."""
    print_raw(msgspec.json.encode(value))


def print_raw(line: bytes) -> None:
    """A line that is JSON already, byte for byte."""
    try:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _leave_quietly()


def _leave_quietly() -> NoReturn:
    """Ends the command: the reader of its output (`head`) has seen enough."""
    # Python would find that out again on leaving.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def visible(text: str) -> str:
    """`text` with every control character spelled out: what an event holds must not steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def plain_table(*headings: str) -> Table:
    """A table without lines around it, as `kubectl` and `flux` print them."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


class Reporter:
    """Tells how far a piece of work has come."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` is done."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def reporting(name: str) -> Iterator[Reporter]:
    """A progress bar on standard error, while the block runs; none where that is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    errors = Console(stderr=True)
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
        yield Reporter(progress, name)
