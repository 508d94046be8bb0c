"""Writes the parts of docs/reference that the code itself says: `python tools/make_reference.py`.

A test compares them with what is committed.
"""

import types
import typing
from pathlib import Path

import click
import msgspec

from tidelog.engine.cli.main import cli
from tidelog.events.vocabulary.base import BY_NAME, Event

EVENTS_INTRODUCTION = """\
Every event of the vocabulary, as `events/vocabulary/` declares it. How they are enveloped, hashed and stored is in
[the store](store.md). This page is made by `make docs`.
"""
EXIT_CODES = """\
| exit code | means |
|---|---|
| 0 | done; a list may be empty |
| 1 | the log was read, and the answer is no: damage was found, or the event, row, body or moment is not there |
| 2 | wrong usage: what was typed means nothing |
| 3 | it could not be done (no store, in use, disk full, damaged) |
| 130 | ended by Ctrl-C |

Where the code is not 0, a sentence on standard error says why and what to do; `verify` says it in its report. With
`-o json`, standard output holds JSON only: one value, or one a line.

The moment of `--at` is a position (120), a time (`2026-11-23T14:05Z`; without a zone it is this machine's) or how long
ago (`2h ago`). A time is the last position not after it. A time before the log began, or one yet to come, is none.
"""

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"


def events_page() -> str:
    """Every event type, with its fields."""
    parts = [
        "# Events\n",
        EVENTS_INTRODUCTION,
    ]
    module = ""
    for entry in sorted(BY_NAME.values(), key=lambda entry: (entry.payload.__module__, entry.name)):
        if entry.payload.__module__ != module:
            module = entry.payload.__module__
            parts.append(f"## {module.rpartition('.')[2].capitalize()}\n")
        parts.append(f"### {entry.name}\n")
        parts.append(f"Schema {entry.schema}. {_sentence(entry.payload)}\n")
        parts.append(_fields(entry.payload))
    return "\n".join(parts)


def cli_page() -> str:
    """Every command, with its help."""
    parts = [
        "# Command line\n",
        "This page is made by `make docs`.\n",
        EXIT_CODES,
    ]
    for path, command in _commands(cli, "tidelog"):
        context = click.Context(command, info_name=path, terminal_width=110, help_option_names=["-h", "--help"])
        parts.append(f"## `{path}`\n")
        parts.append(f"```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def _commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        return [
            found for name, child in sorted(command.commands.items()) for found in _commands(child, f"{path} {name}")
        ]
    return [(path, command)]


def _sentence(payload: type[Event]) -> str:
    return " ".join((payload.__doc__ or "").split())


def _fields(payload: type[Event]) -> str:
    hints = typing.get_type_hints(payload)
    rows = [
        f"| `{field.encode_name}` | {_type(hints[field.name])} | {'yes' if field.required else 'no'} |"
        for field in msgspec.structs.fields(payload)
    ]
    return "\n".join(["| field | type | required |", "|---|---|---|", *rows, ""])


def _type(hint: object) -> str:
    """A type, in words for people who do not read Python."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _type(next(argument for argument in arguments if argument is not type(None)))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is typing.Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    supertype = getattr(hint, "__supertype__", None)
    names = {str: "text", int: "integer", bool: "true or false"}
    if supertype is not None:
        return f"{names[supertype]} ({hint.__name__})"  # type: ignore[attr-defined]
    return names.get(hint, getattr(hint, "__name__", str(hint)))  # type: ignore[call-overload,no-any-return]


PAGES = {"events.md": events_page, "cli.md": cli_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
