"""`tidelog plans` and `tidelog show-plan`: recorded plans; and how every plan is printed."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import click
import msgspec
from rich.text import Text

from tidelog.engine.cli.output import (
    Format,
    console,
    form_option,
    output_option,
    plain_table,
    print_json,
    print_structs,
    store_option,
)
from tidelog.engine.cli.reading import (
    ago,
    at_option,
    limit_option,
    namespace_option,
    reading,
    subject_argument,
)
from tidelog.engine.plan.model import Change, Plan, Step
from tidelog.engine.runtime.passes.previews.told import ReleaseTold
from tidelog.engine.terminal import shortened, visible
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import find, subject_of
from tidelog.engine.views.plans import PlanListed, PlanTold, find_plan, last_plan, plans_of
from tidelog.engine.views.sentences import radius, short, verdict_sentence
from tidelog.events.vocabulary import BlastRadius, Verdict

PlanFormat: TypeAlias = Literal["table", "json", "markdown"]
SECRET = "(secret)"  # noqa: S105 - what stands in its place
VALUE_LENGTH_MAX = 200
"""Characters of a value in a table; JSON and Markdown have all of it."""

plan_output_option = form_option(
    *("table", "json", "yaml", "markdown"),
    told="How to print: for people, JSON or YAML for programs, or Markdown for pull requests.",
)

KEYS_SHOWN_MAX = 12
"""Of the values from one place in a table; JSON has all of them."""
_doings = {"none": "nothing would be done", "correct": "drift would be corrected"}
_signs = {"create": "+", "update": "~", "recreate": "±", "delete": "-", "unchanged": "=", "skip": "·"}
_styles = {"create": "green", "update": "yellow", "recreate": "red", "delete": "red"}
_states = {"applied": "green", "refused": "red", "failed": "red", "rejected": "red", "held": "yellow"}


@click.command()
@subject_argument(required=False)
@limit_option
@namespace_option
@at_option
@output_option
@store_option
def plans(
    store: Path, output: Format, words: tuple[str, ...], count: int, namespace: str | None, moment: str | None
) -> None:
    """The recorded plans of a target, or of all, with what became of them; the newest first."""
    with reading(store, moment) as archive:
        target = find(archive, words, namespace) if words else None
        found = islice(plans_of(archive, target), count or None)
        print_structs(found) if output == "json" else _print_list(found, archive)


def _print_list(found: Iterable[PlanListed], archive: Archive) -> None:
    table = plain_table("PLAN", "TARGET", "POSITION", "AGE", "STATE", "REVISION", "CHANGES")
    for one in found:
        table.add_row(
            Text(visible(one.plan)),
            Text(visible(str(subject_of(one.target)))),
            str(one.position),
            ago(one.time, archive.now),
            Text(one.state, style=_states.get(one.state, "")),
            Text(visible(shortened(one.revision))),
            radius(one.blast_radius),
        )
    if table.row_count:
        table.print()
    else:
        click.echo(f"No plan was recorded up to position {archive.position}.", err=True)


@click.command("show-plan")
@click.argument("name", metavar="PLAN")
@namespace_option
@at_option
@plan_output_option
@store_option
def show_plan(store: Path, output: PlanFormat, name: str, namespace: str | None, moment: str | None) -> None:
    """A recorded plan: its steps, field by field, its verdicts, and what became of it.

    PLAN is its id or the beginning of it, or KIND/NAME for the last plan of a target.
    """
    with reading(store, moment) as archive:
        told = last_plan(archive, find(archive, (name,), namespace)) if "/" in name else find_plan(archive, name)
        if output == "json":
            print_json(told)
            return
        print_plan(told.plan, told.verdicts, output)
        _print_fate(told, output, archive)


def _print_fate(told: PlanTold, output: PlanFormat, archive: Archive) -> None:
    bullet = "- " if output == "markdown" else ""
    lines = [
        f"{one.state} at position {one.position}, {ago(one.time, archive.now)} ago, by {one.by}"
        + (f": {one.why}" if one.why else "")
        for one in told.decisions
    ]
    if lines:
        click.echo()
    for line in lines:
        click.echo(bullet + (_escaped(line) if output == "markdown" else visible(line)))


def print_plan(plan: Plan, verdicts: Sequence[Verdict], output: PlanFormat, release: ReleaseTold | None = None) -> None:
    """A plan, recorded or just made, with its verdicts.

    As JSON it is `{"plan": …, "blast_radius": …, "verdicts": […]}`, of a HelmRelease with what would be done as
    `"release": …`. The values of secret fields are not in a plan, and stand as `(secret)`.
    """
    match output:
        case "json":
            print_json(plan_as_json(plan, verdicts, release))
        case "markdown":
            click.echo("\n".join(markdown(plan, verdicts, release)))
        case _:
            _print_table(plan, verdicts, release)


def plan_as_json(plan: Plan, verdicts: Sequence[Verdict], release: ReleaseTold | None) -> dict[str, Any]:
    """A plan as `print_plan` has it for programs."""
    told: dict[str, Any] = {"plan": plan, "blast_radius": plan.blast_radius, "verdicts": list(map(_whole, verdicts))}
    return told if release is None else told | {"release": release}


def _whole(verdict: Verdict) -> dict[str, Any]:
    return {"check": verdict.check, "passed": verdict.passed, **msgspec.to_builtins(verdict)}


# For people.


def _print_table(plan: Plan, verdicts: Sequence[Verdict], release: ReleaseTold | None) -> None:
    out = console()
    out.print(
        Text(visible(f"{plan.id} for {subject_of(plan.target)}, revision {shortened(plan.revision)}"), style="bold")
    )
    for line in () if release is None else _release_lines(release):
        out.print(Text(visible(line)), soft_wrap=True)
    if release is None or _has_objects(plan):
        out.print(Text(radius(plan.blast_radius)))
    for verdict in verdicts:
        style = "green" if verdict.passed else "red"
        mark = "✔" if verdict.passed else "✗"
        out.print(Text(f"{mark} {visible(verdict_sentence(verdict))}", style=style), soft_wrap=True)
    for number, wave in enumerate(plan.waves):
        _print_steps(f"wave {number}", wave)
    _print_steps("prune", plan.prunes)


def _has_objects(plan: Plan) -> bool:
    """Whether there is anything to count: of a release without it, what is done with it, if anything, says all."""
    return plan.blast_radius != BlastRadius()


def _release_lines(release: ReleaseTold) -> Iterator[str]:
    """What would be done with a release, and where its values come from: never what they are."""
    version = f" version {release.version}" if release.version else ""
    chart = f" with chart {release.chart}" if release.chart else ""
    yield f"{_doings.get(release.action, release.action)}{version}{chart}: {release.why}"
    for hook in release.hooks:
        yield f"hook {hook}"
    if release.then:
        yield f"after that {release.then}"
    for one in release.values:
        keys = ", ".join(one.keys[:KEYS_SHOWN_MAX]) or "nothing"
        more = f" and {len(one.keys) - KEYS_SHOWN_MAX} more" if len(one.keys) > KEYS_SHOWN_MAX else ""
        yield f"values of {one.source}{' (secret)' if one.secret else ''}: {keys}{more}"


def _print_steps(heading: str, steps: Sequence[Step]) -> None:
    shown = [step for step in steps if step.action != "unchanged"]
    if not shown:
        return
    console().print(Text(f"\n{heading}", style="dim"))
    for step in shown:
        line = Text(
            f"{_signs[step.action]} {step.action:<9} {visible(short(step.object))}", style=_styles.get(step.action, "")
        )
        console().print(line.append(_remark(step), style="dim"), soft_wrap=True)
        for change in step.changes if step.action != "create" else ():
            console().print(Text(f"    {visible(change.path)}: {_difference(change)}"), soft_wrap=True)


def _remark(step: Step) -> str:
    said = [step.why] if step.why else []
    if step.takes_over:
        said.append(f"takes over the fields of {', '.join(step.takes_over)}")
    return visible(f" ({'; '.join(said)})") if said else ""


def _difference(change: Change) -> str:
    if change.hidden:
        return SECRET
    return f"{_cut(_value(change.before))} → {_cut(_value(change.after))}"


def _value(value: Any) -> str:
    """A value of a field as JSON; what is not there, as that."""
    return "(none)" if value is None else visible(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 1]}…"


# For pull requests.


def markdown(plan: Plan, verdicts: Sequence[Verdict], release: ReleaseTold | None = None) -> Iterator[str]:
    """The lines of a plan as GitHub, GitLab and Forgejo show them."""
    yield f"### Plan for {_escaped(str(subject_of(plan.target)))}"
    yield ""
    said = f": **{radius(plan.blast_radius)}**" if release is None or _has_objects(plan) else ""
    yield f"`{plan.id}`, revision `{plan.revision}`{said}"
    for line in () if release is None else _release_lines(release):
        yield ""
        yield _escaped(line)
    if verdicts:
        yield ""
    for verdict in verdicts:
        yield f"- {'✅' if verdict.passed else '❌'} {_escaped(verdict_sentence(verdict))}"
    for step in plan.steps:
        if step.action != "unchanged":
            yield ""
            yield from _step_in_markdown(step)


def _step_in_markdown(step: Step) -> Iterator[str]:
    if not step.changes:
        yield f"- **{step.action}** {_escaped(short(step.object) + _remark(step))}"
        return
    lines = [line for change in step.changes for line in _change_in_markdown(change)]
    # Longer than any fence in a value.
    fence = "`" * max(3, 1 + max(_run_of_ticks(line) for line in lines))
    yield f"<details><summary>{_html(f'{step.action} {short(step.object)}{_remark(step)}')}</summary>"
    yield ""
    yield f"{fence}diff"
    yield from lines
    yield fence
    yield ""
    yield "</details>"


def _change_in_markdown(change: Change) -> Iterator[str]:
    path = visible(change.path)
    if change.hidden:
        yield f"! {path}: {SECRET}"
        return
    if change.before is not None:
        yield f"- {path}: {_value(change.before)}"
    if change.after is not None:
        yield f"+ {path}: {_value(change.after)}"


def _run_of_ticks(line: str) -> int:
    longest = current = 0
    for character in line:
        current = current + 1 if character == "`" else 0
        longest = max(longest, current)
    return longest


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return "".join(f"\\{c}" if c in "\\`*_[]<>#|~!" else c for c in visible(text))


def _html(text: str) -> str:
    return visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
