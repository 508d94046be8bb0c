"""`tidelog run --until-ready`: until all is ready, or something cannot become so by itself."""

from collections.abc import Collection, Iterator, Mapping
from typing import Literal, TypeAlias

import anyio
import click

from tidelog.engine.cli.output import NO
from tidelog.engine.kinds.registry import NAMES
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.daemon import Daemon
from tidelog.engine.runtime.memory import find_fetched
from tidelog.engine.runtime.watching.declared import AnyDeclared, source_of
from tidelog.engine.terminal import visible
from tidelog.engine.views.chains import GIVEN_UP
from tidelog.engine.views.commits import person_text, subject_line
from tidelog.engine.views.sentences import counted
from tidelog.events.names import ObjectId, ObjectKey, Revision, StreamName
from tidelog.events.projections import Standing

LOOK_S = 0.1
TELL_S = 5.0
"""After how long it is said what is waited for, and how often at most."""
SHOWN_MAX = 3
"""Sources and targets that are named."""
State: TypeAlias = Literal["ready", "under way", "failing", "stuck"]
"""`failing`: it is tried again, or waits for another. `stuck`: only somebody's doing makes it ready."""


async def wait_until_ready(daemon: Daemon, limit_s: float, wanted: Collection[ObjectKey] = ()) -> int:
    """Waits until every source and target is ready, and says so in its status; tells how it ended.

    Args:
        daemon: at work.
        limit_s: how long at most, in seconds.
        wanted: sources and targets that have to be there.

    Returns:
        The exit code: 0, or 1 as soon as something is stuck and nothing else is under way, or when the time is over.
    """
    engine = daemon.engine
    names = {key.stream(engine.cluster_alias) for key in wanted}
    with anyio.move_on_after(limit_s):
        await _serving(daemon)
        waiting = _Waiting()
        while True:
            states = states_of(engine, names)
            waiting.tell(states)
            if _is_at_rest(engine) and "under way" not in states.values():
                if states and set(states.values()) == {"ready"}:
                    click.echo(_success(engine, states), err=True)
                    return 0
                if "stuck" in states.values():
                    break
            await anyio.sleep(LOOK_S)  # of many things that no one event tells
    if not daemon.serving.is_set():
        click.echo(f"✗ not ready in time: {_why_not_serving(daemon)}", err=True)
        return NO
    states = states_of(engine, names)
    for stream in sorted(states, key=lambda one: (states[one] != "stuck", one)):
        if states[stream] != "ready":
            for line in await _explained(engine, stream, states[stream]):
                click.echo(visible(line), err=True)
    return NO


class _Waiting:
    """Says what is waited for, where that takes long; and then only when it is something else."""

    def __init__(self) -> None:
        self._said = ""
        self._due = anyio.current_time() + TELL_S

    def tell(self, states: Mapping[StreamName, State]) -> None:
        """Says it, when the time has come."""
        if anyio.current_time() < self._due:
            return
        names = sorted(ObjectKey.of_stream(stream).shown for stream, state in states.items() if state != "ready")
        more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
        said = f"◎ waiting for {', '.join(names[:SHOWN_MAX]) or 'a source or a target to be declared'}{more}"
        if said != self._said and (names or not states):
            self._said, self._due = said, anyio.current_time() + TELL_S
            click.echo(visible(said), err=True)


async def _serving(daemon: Daemon) -> None:
    """Waits until the daemon is at work, and says for whom it waits: a Lease of who was killed takes its time."""
    told = ""
    while not daemon.serving.is_set():
        if daemon.waits_for not in ("", told):
            told = daemon.waits_for
            click.echo(visible(f"◎ {_why_not_serving(daemon)}"), err=True)
        with anyio.move_on_after(LOOK_S):
            await daemon.serving.wait()


def states_of(engine: Engine, wanted: Collection[StreamName] = ()) -> dict[StreamName, State]:
    """How far each source and target is: those declared, those wanted, and those that a target applied."""
    declared: dict[StreamName, AnyDeclared] = {**engine.declared.sources, **engine.declared.targets}
    states = {stream: _state(engine, one) for stream, one in declared.items()}
    # What was applied a moment ago, and its watch has not told of yet, is still to come.
    applied = (ObjectKey.parse(id).stream(engine.cluster_alias) for id in _owned(engine) if _is_ours(id))
    return states | {stream: "under way" for stream in (*applied, *wanted) if stream not in declared}


def _state(engine: Engine, declared: AnyDeclared) -> State:
    standing = engine.memory.conditions.get(declared.stream)
    if standing is None:
        return "under way"
    if not (engine.sources.is_idle(declared.stream) and engine.targets.is_idle(declared.stream)):
        return "under way"
    if declared.deleting:
        return "stuck" if standing.held is not None else "under way"
    if declared.suspended:
        return "ready"  # it is left alone
    if _is_stuck(standing, declared.generation):
        return "stuck"
    if standing.run is not None:
        return "under way"  # it waits for health
    if standing.ready == "False":
        return "failing"
    is_answered = standing.ready == "True" and standing.observed == declared.generation
    return "ready" if is_answered else "under way"


def _is_stuck(standing: Standing, generation: int) -> bool:
    """Whether it fails, and is not tried again until its inputs change, or somebody decides."""
    if standing.ready != "False":
        return False
    if standing.unready:
        return standing.observed == generation
    return standing.held is not None or ((standing.stalled or standing.final) and standing.tried == generation)


def _is_at_rest(engine: Engine) -> bool:
    schedulers = (engine.sources, engine.targets)
    return engine.status.idle and not any(one.queued or one.running for one in schedulers)


def _owned(engine: Engine) -> Iterator[ObjectId]:
    """What targets have applied to the cluster that they are in themselves."""
    for target, inventory in engine.memory.inventory.items():
        if engine.sites.known_of(StreamName(target)) == engine.cluster_alias:
            yield from inventory.objects


def _is_ours(id: ObjectId) -> bool:
    key = ObjectKey.parse(id)
    return (key.group, key.kind) in NAMES


# What is told.


def _success(engine: Engine, states: Collection[StreamName]) -> str:
    """One line: what is ready, and at which revision."""
    revisions = {row.applied for stream in states if (row := engine.memory.conditions.get(stream)) and row.applied}
    count = sum(stream in engine.declared.targets for stream in states)
    what = f"{counted(len(states) - count, 'source')} and {counted(count, 'target')}"
    shown = sorted(revisions)
    at = f" at {shown[0]}" if len(shown) == 1 else f" at {len(shown)} revisions" if shown else ""
    return f"✔ {what} ready{at}"


def _why_not_serving(daemon: Daemon) -> str:
    return f"the daemon waits for {daemon.waits_for}" if daemon.waits_for else "the daemon is still starting"


async def _explained(engine: Engine, stream: StreamName, state: State) -> list[str]:
    """Why one is not ready, by which commit, and what to do."""
    key, standing = ObjectKey.of_stream(stream), engine.memory.conditions.get(stream)
    declared = engine.declared.targets.get(stream) or engine.declared.sources.get(stream)
    name = f"{key.kind.lower()}/{key.name} -n {key.namespace}"
    if declared is None or standing is None:
        return [f"✗ {key.shown}: it is not there, or its deletion is not over", f"  to go on: tidelog explain {name}"]
    what = f"{standing.reason or 'NotReady'}: {standing.message or 'its run is not over'}"
    if standing.ready != "False":
        what = "it is being deleted" if declared.deleting else f"not yet ready: {standing.health_message or 'at work'}"
    lines = [f"✗ {key.shown}: {what}"]
    if standing.attempted is not None:
        lines.append(f"  {await _commit(engine, stream, standing.attempted)}")
    if standing.held is None or "tidelog approve" not in standing.message:
        lines.append(
            f"  to go on: {_advice(standing, state, name, is_target=stream in engine.declared.targets)}"
            f"tidelog explain {name}"
        )
    return lines


def _advice(standing: Standing, state: State, name: str, *, is_target: bool) -> str:
    if state != "stuck":
        return ""
    if standing.reason in GIVEN_UP:
        return f"correct its chart or values, or have it tried again: tidelog reconcile {name} --reset; more: "
    if standing.stalled:
        return "correct its spec, as the message says; more: "
    if is_target:
        return "push a commit that mends it; it is not tried again before; more: "
    return "correct its spec; more: "


async def _commit(engine: Engine, stream: StreamName, revision: Revision) -> str:
    """A revision, with the commit's first line and its author where they are known."""
    target = engine.declared.target(stream)
    source = stream if target is None else source_of(target).stream(engine.cluster_alias)
    found = await find_fetched(engine.memory.log, source, revision)
    if found is None or not found.message:
        return f"revision {revision}"
    author = f" by {person_text(found.author)}" if found.author else ""
    return f"commit “{subject_line(found.message)}”{author} ({revision})"
