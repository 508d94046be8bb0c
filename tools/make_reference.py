"""Writes the parts of docs/reference that the code itself says: `python tools/make_reference.py`.

A test compares them with what is committed.
"""

import types
import typing
from pathlib import Path

import click
import msgspec

from tidelog.engine.cli.main import cli
from tidelog.engine.cli.settings import shown_default
from tidelog.engine.runtime.settings import FEATURE_GATES, GATES_WITHOUT_EFFECT, NO_EFFECT, REFUSED
from tidelog.engine.runtime.settings_help import settings_told
from tidelog.engine.views.explanations import Explanation
from tidelog.engine.views.histories import RunTold, VersionTold
from tidelog.engine.views.listing import Listed
from tidelog.engine.views.plans import PlanListed, PlanTold
from tidelog.engine.views.sentences import Told
from tidelog.engine.views.traces import Trace
from tidelog.engine.views.trees import Node
from tidelog.events.vocabulary.base import BY_NAME, Event

EVENTS_INTRODUCTION = """\
Every event of the vocabulary, as `events/vocabulary/` declares it. How they are enveloped, hashed and stored is in
[the store](store.md). This page is made by `make docs`.
"""
ANSWERS_INTRODUCTION = """\
What the commands that ask the log print with `-o json`, and as YAML with `-o yaml`. A field is added, never removed,
and never changes its type or meaning. Positions and counts are integers, times are RFC 3339 in UTC, and what there is
none of is `null`, empty or 0. A field that is not required may be left out when it has its default. This page is made
by `make docs`.
"""
SETTINGS_INTRODUCTION = """\
What `tidelog run` can be told. Each setting is a flag (`--concurrent 30`) and a key of the TOML file that `--config`
names (`concurrent = 30`); the flag goes before the file, and a variable of the environment, where it has one, between
them. `a.b` is the key `b` of the table `[a]`. Durations are text, as Go writes them. A switch is `--no-remote-bases`
or `--no-remote-bases=false`; `--prune-guard` and `--no-prune-guard` set `prune-guard.enabled`. The last column says
what Flux calls it, and has for its default, where it has such. `tidelog settings` prints this too. This page is made
by `make docs`.
"""
GATES_INTRODUCTION = "`--feature-gates=A=true,B=false`, as Flux has them.\n"
NO_EFFECT_INTRODUCTION = "They are taken, so that Flux's manifests serve, and each is named on standard error.\n"
REFUSED_INTRODUCTION = "The daemon does not start with one of them.\n"
EXIT_CODES = """\
| exit code | means |
|---|---|
| 0 | done; a list may be empty |
| 1 | the answer is no: damage was found; what was asked for is not in the log, or makes no sense as things stand; \
what was waited for is not ready; a check finds something wrong; a plan changes something |
| 2 | wrong usage: what was typed means nothing |
| 3 | it could not be done (no store, in use, disk full, damaged; no cluster, refused by it; no plan could be made) |
| 4 | `plan` only: a check does not pass, and nothing would be applied |
| 130 | ended by Ctrl-C; or asked whether to go on, and the answer was no, or there was none |

Where the code is not 0, a sentence on standard error says why and what to do; `verify` says it in its report. With
`-o json`, standard output holds JSON only: one value, or one a line. With `-o yaml` it is the same as YAML, each
value a document.

The moment of `--at` is a position (120), a time (`2026-11-23T14:05Z`; without a zone it is this machine's), how long
ago (`2h ago`), or a revision (`main@sha1:4a3b…`, or the first seven or more digits of its commit). A time is the last
position not after it; one to the second, as times are printed, is all of that second. A time before the log began, or
one yet to come, is none. A revision is when the last run that worked by it ended; where none has ended, when it was
fetched. `tidelog reapply` of a HelmRelease takes the version of a chart (`1.2.3`) too: the last moment at which it
was deployed so.
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
            found
            for name, child in sorted(command.commands.items())
            if not child.hidden
            for found in _commands(child, f"{path} {name}")
        ]
    return [(path, command)]


def _sentence(payload: type[Event]) -> str:
    return " ".join((payload.__doc__ or "").split())


def _fields(payload: type[msgspec.Struct]) -> str:
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


ANSWERS: tuple[tuple[str, type[msgspec.Struct]], ...] = (
    ("`get`: a list of", Listed),
    ("`tree kustomization`:", Node),
    ("`trace`:", Trace),
    ("`explain`:", Explanation),
    ("`events`: a line each", Told),
    ("`history` of a source or target: a list of", RunTold),
    ("`history` of another object: a list of", VersionTold),
    ("`plans`: a list of", PlanListed),
    ("`show-plan`:", PlanTold),
)


def answers_page() -> str:
    """What each question's `-o json` prints, with the structs in it."""
    parts = ["# Answers as JSON\n", ANSWERS_INTRODUCTION]
    parts += [f"- {command} [{answer.__name__}](#{answer.__name__.lower()})" for command, answer in ANSWERS]
    for struct in _structs([answer for _, answer in ANSWERS]):
        parts.append(f"\n## {struct.__name__}\n")
        parts.append(f"{_summary(struct)}\n")
        parts.append(_fields(struct).rstrip())
    return "\n".join(parts) + "\n"


def _structs(roots: list[type[msgspec.Struct]]) -> list[type[msgspec.Struct]]:
    """Structs with all that stand in their fields, each once, in the order in which a reader meets them."""
    found: dict[type[msgspec.Struct], None] = {}
    for root in roots:
        if root not in found:
            found[root] = None
            inside = [one for hint in typing.get_type_hints(root).values() for one in _structs_in(hint)]
            found |= dict.fromkeys(_structs([one for one in inside if one not in found]))
    return list(found)


def _structs_in(hint: object) -> list[type[msgspec.Struct]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return [hint]
    return [one for argument in typing.get_args(hint) for one in _structs_in(argument)]


def _summary(struct: type[msgspec.Struct]) -> str:
    return " ".join((struct.__doc__ or "").partition("\n\n")[0].split())


def settings_page() -> str:
    """Every setting of the daemon, and the flags of Flux that change nothing."""
    parts = ["# Settings\n", SETTINGS_INTRODUCTION]
    parts += ["| setting | what it may be | default | meaning | Flux's |", "|---|---|---|---|---|"]
    for one in settings_told():
        flag = "" if one.flag else " (in the file only)"
        flag += f" or the variable `{one.variable}`" if one.variable else ""
        parts.append(
            f"| `{one.name}`{flag} | {one.form} | `{shown_default(one.default)}` | {one.meaning} | {one.flux or ''} |"
        )
    parts += ["\n## Feature gates\n", GATES_INTRODUCTION, "| gate | here |", "|---|---|"]
    gates = {gate: f"`{setting}`" for gate, setting in FEATURE_GATES.items()}
    gates |= {gate: f"no effect: {why}" for gate, why in GATES_WITHOUT_EFFECT.items()}
    parts += [f"| `{gate}` | {here} |" for gate, here in sorted(gates.items())]
    parts += ["\n## Flags of Flux without effect\n", NO_EFFECT_INTRODUCTION, "| flag | why |", "|---|---|"]
    parts += [f"| `--{name.replace('_', '-')}` | {why} |" for name, why in sorted(NO_EFFECT.items())]
    parts += ["\n## Flags of Flux that are refused\n", REFUSED_INTRODUCTION, "| flag | why |", "|---|---|"]
    parts += [f"| `--{name}` | {why} |" for name, why in sorted(REFUSED.items())]
    return "\n".join(parts) + "\n"


PAGES = {"events.md": events_page, "cli.md": cli_page, "answers.md": answers_page, "settings.md": settings_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())
