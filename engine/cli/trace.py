"""`tidelog trace`: from an object back to the commit."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tidelog.engine.cli.output import NO, Format, output_option, plain_facts, print_json, store_option
from tidelog.engine.cli.reading import (
    ago,
    at_option,
    namespace_option,
    reading,
    subject_argument,
)
from tidelog.engine.terminal import visible
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import SourceTold
from tidelog.engine.views.names import find, subject_of
from tidelog.engine.views.sentences import counted, field_sentence, radius, verdict_sentence
from tidelog.engine.views.traces import (
    AppliedTrace,
    LookedUpTold,
    MakerStep,
    Removal,
    Step,
    Trace,
    VerifyStep,
    trace_of,
)
from tidelog.events.names import NO_NAMESPACE, ObjectKey

LOOKED_UP_SHOWN = 10
"""What a chart looked up that is named; all of it is in the JSON."""


@click.command()
@subject_argument("KIND/NAME | NAME --kind KIND")
@click.option("--kind", help="The object's kind, for example Deployment, where NAME does not say it; as flux has it.")
@click.option("--api-version", help="With --kind: of which group that is, for example apps/v1.")
@namespace_option
@at_option
@output_option
@store_option
def trace(
    store: Path,
    output: Format,
    words: tuple[str, ...],
    kind: str | None,
    api_version: str | None,
    namespace: str | None,
    moment: str | None,
) -> None:
    """The commit, build, plan, checks and apply that put an object there, with who and when.

    Of an object that was pruned: also what took it away. Of the HelmChart that a HelmRelease made for its chart: that,
    and what put the HelmRelease there.

    Exits with 1 where nobody applied it.
    """
    words = _named(words, kind, api_version)
    with reading(store, moment) as archive:
        found = trace_of(archive, find(archive, words, namespace))
        if output == "json":
            print_json(found)
        elif found.maker is not None:
            _print_made(found, found.maker, archive)
        else:
            _print(found, archive)
    if found.apply is None and found.maker is None:
        if output == "json":
            click.echo(_nobody(found), err=True)
        sys.exit(NO)


def _named(words: tuple[str, ...], kind: str | None, api_version: str | None) -> tuple[str, ...]:
    """`KIND/NAME`, whichever way it was typed."""
    if kind is None and api_version is None:
        return words
    if kind is None or len(words) != 1 or "/" in words[0]:
        raise click.UsageError("give KIND/NAME, or NAME with --kind and, where several groups have it, --api-version")
    group, slash, _ = (api_version or "").partition("/")
    if api_version is not None and "." not in kind:
        kind = f"{kind}.{group if slash else ''}"  # nothing behind the dot: the core group
    return kind, words[0]


def _nobody(found: AppliedTrace) -> str:
    return f"Nobody applied {visible(ObjectKey.of_stream(found.object).shown)} through Tidelog."


def _print_made(found: Trace, maker: MakerStep, archive: Archive) -> None:
    facts: dict[str, object] = {"Object": f"{ObjectKey.of_stream(found.object).shown} ({found.health})"}
    facts["Made by"] = f"{subject_of(maker.target)}; {_who(maker, archive)}"
    facts.update(_sources(found.sources))
    plain_facts(facts).print()
    click.echo()
    _print(maker.way, archive)


def _print(found: AppliedTrace, archive: Archive) -> None:
    facts: dict[str, object] = {"Object": f"{ObjectKey.of_stream(found.object).shown} ({found.health})"}
    if found.apply is None:
        click.echo(_nobody(found), err=True)
        if found.first_seen is not None:
            facts["First seen"] = _who(found.first_seen, archive)
        plain_facts(facts).print()
        return
    if found.removal is not None:
        facts.update(_removal(found.removal, archive))
    facts["Target"] = None if found.target is None else subject_of(found.target)
    facts.update(_commit(found, archive))
    if found.render is not None:
        tools = ", ".join(f"{tool.name} {tool.version}" for tool in found.render.toolchain)
        made = counted(found.render.count, "object")
        facts["Render"] = f"{made}, {tools or 'no tools'}; {_who(found.render, archive)}"
        facts["Looked up"] = _looked_up(found.render.looked_up)
    if found.release is not None:
        release = found.release
        facts["Release"] = f"{release.action} of {release.release} with {release.chart}; {_who(release, archive)}"
    if found.plan is not None:
        facts["Plan"] = f"{found.plan.plan}: {radius(found.plan.blast_radius)}; {_who(found.plan, archive)}"
    for number, step in enumerate(found.verdicts):
        facts["Checks" + " " * number] = f"{_checks(step)}; {_who(step, archive)}"
    for number, decision in enumerate(found.approvals):
        facts["Approval" + " " * number] = f"{decision.decision}: {decision.why}; {_who(decision, archive)}"
    facts["Apply"] = f"{found.apply.action}, wave {found.apply.wave}; {_who(found.apply, archive)}"
    facts["Trace"] = found.trace
    if found.drift:
        facts["Changed since"] = ", ".join(field_sentence(field) for field in found.drift)
    if found.pin is not None:
        facts["Pinned"] = f"to {found.pin.moment}, by {found.pin.by}: {found.pin.why}"
        facts["Left"] = f"{found.pin.left}, which is not applied while it is pinned"
    elif found.applied_revision is not None and found.commit is not None and found.removal is None:
        # Behind a chart's version stands a commit that has another name.
        at_first = found.commit.revision if found.render is None else found.render.revision
        later = found.applied_revision != at_first
        facts["Now at"] = f"{found.applied_revision}, which left it as it is" if later else None
    plain_facts(facts).print()


def _looked_up(looked_up: Sequence[LookedUpTold]) -> str | None:
    """The objects that a chart read, and what it did not find; not that it asked which kinds there are."""
    shown = [_read(one) for one in looked_up if one.path.count("/") > 1]
    rest = [f"and {len(shown) - LOOKED_UP_SHOWN} more"] if len(shown) > LOOKED_UP_SHOWN else []
    return ", ".join([*shown[:LOOKED_UP_SHOWN], *rest]) or None


def _read(one: LookedUpTold) -> str:
    group, kind, namespace, name = one.path.split("/", 3)
    if name == "*":
        return f"every {kind}" + ("" if namespace == NO_NAMESPACE else f" in {namespace}")
    return f"{ObjectKey(group, kind, '' if namespace == NO_NAMESPACE else namespace, name).shown} " + (
        "(not there)" if one.version is None else f"(at {one.version})"
    )


def _removal(removal: Removal, archive: Archive) -> Iterator[tuple[str, object]]:
    did = {"deleted": "deleted", "absent": "found gone", "skipped": "let go of, and left there"}[removal.outcome]
    yield "Pruned", f"{did}, plan {removal.plan}; {_who(removal, archive)}"
    for number, decision in enumerate(removal.approvals):
        yield "Decided" + " " * number, f"{decision.decision}: {decision.why}; {_who(decision, archive)}"
    if removal.target_removed:
        yield "Removed by", f"{subject_of(removal.target)} was removed itself"
    elif removal.commit is not None:
        author = f", by {removal.commit.author}" if removal.commit.author else ""
        yield "Removed by", f"{removal.commit.revision}: “{removal.commit.subject}”{author}"


def _commit(found: AppliedTrace, archive: Archive) -> Iterator[tuple[str, object]]:
    commit = found.commit
    yield from _sources(found.sources)
    if not found.sources:
        yield "Revision", None if found.render is None else found.render.revision
    if commit is None:
        return
    yield "Made of", commit.origin
    yield "Commit", commit.subject or None
    when = f", {ago(commit.time, archive.now)} ago" if commit.time else ""
    yield "Author", f"{commit.author}{when}" if commit.author else None


def _sources(sources: Sequence[SourceTold]) -> Iterator[tuple[str, object]]:
    """What something was made of: the last of the sources is where it comes from, and before it stand charts."""
    for number, one in enumerate(sources):
        revision = f"{one.revision}; fetched at position {one.position}" if one.position else one.revision
        if number + 1 < len(sources):
            yield "Chart", f"{subject_of(one.source)}, {revision}"
        else:
            yield "Source", subject_of(one.source)
            yield "URL", one.url or None
            yield "Revision", revision or None


def _checks(step: VerifyStep) -> str:
    if step.failed:
        return "failed: " + "; ".join(verdict_sentence(verdict) for verdict in step.failed)
    wave = "" if step.wave is None else f"wave {step.wave}: "
    return f"{wave}passed: {', '.join(step.checks)}"


def _who(step: Step, archive: Archive) -> str:
    return f"position {step.position}, {ago(step.time, archive.now)} ago, by {step.by}"
