"""How commands print: tables and colour for people, JSON for programs."""

import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias, TypeVar

import click
import msgspec
from rich.console import Console
from rich.text import Text

from tidelog.engine.terminal import visible

Command = TypeVar("Command", bound=Callable[..., Any])
Format: TypeAlias = Literal["table", "json"]
NO = 1
"""Exit code when it was done, and the answer is no: damage was found, there is no such event."""
INTERRUPTED = 130
"""Exit code when a person ended it with Ctrl-C."""

STORE = Path("tidelog-store")
"""Where a store is looked for when nobody says where."""
store_option = click.option(
    "--store",
    "store",
    # What may not be read is no slip of the pen: the store itself says it, and the exit code is another.
    type=click.Path(path_type=Path, readable=False),
    default=STORE,
    envvar="TIDELOG_STORE",
    show_default=True,
    show_envvar=True,
    help="The store's directory.",
)


class _Documents:
    """Values on standard output as YAML: each a document of its own."""

    def __init__(self) -> None:
        self._begun = False

    def next(self, json_: bytes) -> bytes:
        """The next document, of a value that is JSON."""
        parted = b"---\n" if self._begun else b""
        self._begun = True
        return parted + as_yaml(json_)


_documents: ContextVar[_Documents | None] = ContextVar("documents", default=None)
"""Where a command was asked for YAML: to it, that is JSON in another form."""


def _form(ctx: click.Context, _: click.Parameter, form: str) -> str:
    """The form that a command works with."""
    token = _documents.set(_Documents() if form == "yaml" else None)
    ctx.call_on_close(lambda: _documents.reset(token))
    return "json" if form == "yaml" else form


def form_option(*forms: str, told: str) -> Callable[[Command], Command]:
    """The option that says how to print; YAML is printed wherever a command prints JSON."""
    return click.option(
        "-o", "--output", "output", type=click.Choice(forms), default=forms[0], callback=_form, help=told
    )


output_option = form_option("table", "json", "yaml", told="How to print: for people, or JSON or YAML for programs.")


WIDTH_ELSEWHERE = 1_000
"""Columns where output is no terminal: lines are then whole, for `grep` and `awk`."""
GAP = 2
"""Blanks between columns of a table."""
INDENT = 4
"""Of the lines in which a row of a table goes on."""
LAST_MIN = 24
"""Columns that the last column of a table has at least, or it goes on a line of its own."""


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Ends quietly."""
        _leave_quietly()


def console() -> Console:
    """Standard output, with colour where it is a terminal, or `FORCE_COLOR` says that it is for people."""
    out = _Output(highlight=False)
    if not out.is_terminal:
        out.width = WIDTH_ELSEWHERE
    return out


def print_document(value: object) -> None:
    """A value as indented JSON, with colour where it is a terminal; nothing in it is cut off."""
    text, out = json.dumps(value, indent=2), console()
    if out.is_terminal:
        from rich.syntax import Syntax  # takes a fifth of the start of a command, and few need it

        out.print(Syntax(text, "json", background_color="default", word_wrap=True))
    else:
        out.print(text, markup=False)


def print_json(value: object) -> None:
    """One JSON value, on a line."""
    print_raw(msgspec.json.encode(value))


def print_raw(line: bytes) -> None:
    """A line that is JSON already, byte for byte; as YAML where that was asked for."""
    documents = _documents.get()
    _write(line + b"\n" if documents is None else documents.next(line))
    _flush()


def print_structs(values: Iterable[msgspec.Struct]) -> None:
    """Answers as one list, made and printed one by one."""
    as_json = _documents.get() is None
    first = True
    for value in values:
        data = msgspec.json.encode(value)
        _write((b"[" if first else b",\n ") + data if as_json else as_yaml(b"[" + data + b"]"))
        first = False
    if as_json or first:
        _write(b"[]\n" if first else b"]\n")
    _flush()


def print_text(text: str) -> None:
    """A text as it is, which ends its last line itself."""
    _write(text.encode())
    _flush()


def _write(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        _leave_quietly()


def _flush() -> None:
    try:
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        _leave_quietly()


def as_yaml(json_: bytes) -> bytes:
    """A value that is JSON as YAML, that reads as the same to Kubernetes' tools and to others."""
    from tidelog.engine.cli.yaml_out import dump  # takes a while, and few commands need it

    return dump(msgspec.json.decode(json_)).encode()


def is_unread() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    watched = select.poll()
    try:
        watched.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return False
    return any(state & select.POLLERR for _, state in watched.poll(0))


def end_output() -> None:
    """Writes what is left to be written; nothing, where nobody reads it any more: Python would complain on leaving.

    Raises:
        OSError: when it cannot be written: the disk is full.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _write_nowhere()
        if not isinstance(error, BrokenPipeError):
            raise


def _write_nowhere() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _leave_quietly() -> NoReturn:
    """Ends the command: the reader of its output (`head`) has seen enough."""
    _write_nowhere()
    sys.exit(0)


class PlainTable:
    """A table without lines around it, as `kubectl` and `flux` print them.

    Nothing is cut off, and nothing is folded but the last column, in a terminal that is too narrow for it: names can be
    copied and searched for. Where the columns before it are too wide already, a row goes on below, at a column's edge.
    Elsewhere each row is one line.
    """

    def __init__(self, headings: Sequence[str] = (), *, first_style: str = "") -> None:
        self.show_header = bool(headings)
        self._headings = headings
        self._first_style = first_style
        self._rows: list[list[Text]] = []

    @property
    def row_count(self) -> int:
        """How many rows it has, but for the headings."""
        return len(self._rows)

    def add_row(self, *cells: str | Text) -> None:
        """Adds a row; text is shown as it is."""
        row = [Text(cell) if isinstance(cell, str) else cell for cell in cells]
        if self._first_style:
            row[0].stylize(self._first_style)
        self._rows.append(row)

    def print(self) -> None:
        """Prints it."""
        header = [[Text(heading, style="bold") for heading in self._headings]] if self.show_header else []
        rows = [*header, *self._rows]
        if not rows:
            return
        out = console()
        layout = _layout(rows, out.width if out.is_terminal else None)
        lines = [line for row in rows for line in _lines(row, layout, out)]
        out.print(Text("\n").join(lines), soft_wrap=True)


class _Place(NamedTuple):
    """Where a column stands in the lines of a row."""

    line: int
    start: int
    width: int
    """Of its widest cell; of the last column, what is left for it."""


def _layout(rows: Sequence[Sequence[Text]], room: int | None) -> list[_Place]:
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    places: list[_Place] = []
    line = start = 0
    for number, width in enumerate(widths):
        is_last = number == len(widths) - 1
        if room is not None and start > INDENT and start + (min(width, LAST_MIN) if is_last else width) > room:
            line, start = line + 1, INDENT
        left = width if room is None or not is_last else max(room - start, LAST_MIN)
        places.append(_Place(line, start, left))
        start += width + GAP
    return places


def _lines(row: Sequence[Text], layout: Sequence[_Place], out: Console) -> Iterator[Text]:
    lines: list[Text] = []
    for number, (cell, place) in enumerate(zip(row, layout, strict=True)):
        is_folded = number == len(row) - 1 and cell.cell_len > place.width
        pieces = cell.wrap(out, place.width, overflow="fold") if is_folded else [cell]
        for below, piece in enumerate(pieces):
            while len(lines) <= place.line + below:
                lines.append(Text())
            line = lines[place.line + below]
            line.pad_right(place.start - line.cell_len)
            line.append_text(piece)
    for line in lines:
        line.rstrip()
    return (line for line in lines if line.plain)


def plain_table(*headings: str) -> PlainTable:
    """A table with those columns."""
    return PlainTable(headings)


def plain_facts(facts: Mapping[str, object]) -> PlainTable:
    """A table of names and values, without those that are None."""
    table = PlainTable(first_style="bold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(name.replace("_", " "), visible(str(value)))
    return table


def end_interrupted() -> NoReturn:
    """Ends a command that Ctrl-C ended. Another one ends it at once: what is left is Python's own end.

    That waits for threads, also for one that an interrupt in the midst of an interrupt has left behind.
    """
    signal.signal(signal.SIGINT, lambda _, __: os._exit(INTERRUPTED))
    sys.exit(INTERRUPTED)


def open_closed_streams() -> None:
    """Gives a process that was started without a standard stream (`>&-`) one that leads nowhere.

    Else the next file that is opened would have its number, and what is printed would be written there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the process lives


def confirm(question: str) -> None:
    """Asks before something is done. Blocks.

    Raises:
        click.Abort: when the answer is no, or there is none; that was said.
    """
    try:
        if click.confirm(question, err=True):
            return
        said = "nothing was done"
    except click.Abort:
        said = "nothing was done; --yes answers yes"
        click.echo(err=True)  # the question's line has no end yet
    click.echo(f"Aborted: {said}.", err=True)
    raise click.Abort


Reporter: TypeAlias = Callable[[int, int], None]
"""Is told how many steps are done, of how many."""


@contextmanager
def reporting(name: str) -> Iterator[Reporter]:
    """A progress bar on standard error, while the block runs; none where that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _, __: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # takes a while

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
