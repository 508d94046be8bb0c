"""Suspension: `spec.suspend` is as the log says, and ends by itself when its time has come.

A request is recorded first and written to the cluster after, by the one who took it or else by the next pass: so that
no crash, and no cluster that is away, leaves the two apart.
"""

import msgspec

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.meta import OWN_MANAGER
from tidelog.engine.kinds.registry import api_version_of
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.memory import Origin
from tidelog.engine.runtime.run import asking
from tidelog.engine.runtime.watching.declared import AnyDeclared
from tidelog.events.envelope import Actor, Proof
from tidelog.events.moment import shown_time
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.projections.desired import Suspension
from tidelog.events.vocabulary import Resumed

LOOK_S = 60.0
"""How often it is looked whether a suspension is over: a clock that is set, or a machine that slept, tells no timer."""
SCHEDULE = Actor(kind="schedule", name="suspension", proof=Proof(kind="authenticated", by="process"))


class StillSuspended(msgspec.Struct, frozen=True):
    """A pass has nothing to do."""

    again_s: float | None = None
    """When to look again; None when only an event ends it."""


async def write_suspend(cluster: Cluster, stream: StreamName, *, suspend: bool) -> KubeObject:
    """Sets or removes `spec.suspend` of a source or target; returns the object as it then is.

    Raises:
        ClusterError: when the server refuses, or cannot be asked.
    """
    key = ObjectKey.of_stream(stream)
    kind = await cluster.kind(api_version_of(key), key.kind)
    patch = {"spec": {"suspend": True if suspend else None}}
    return await cluster.patch(kind, key.namespace, key.name, patch, type="merge", manager=OWN_MANAGER)


async def still_suspended(engine: Engine, declared: AnyDeclared) -> StillSuspended | None:
    """Whether a source or target is to be left alone; brings its spec and the log together where they differ.

    Raises:
        StageError: when the cluster cannot be told.
    """
    suspension = await _ended_when_due(engine, declared.stream)
    if (suspension is not None) != declared.suspended:
        await engine.declared.settle()  # somebody may have changed it a moment ago, and that is not to be undone
        wanted = _differing(engine, declared.stream)
        live = None
        if wanted is not None:
            live = await asking("declare", _written(engine.cluster, declared.stream, suspend=wanted))
        if live is not None:
            await engine.declared.seen(live)
        return StillSuspended()  # what it now says has woken it
    if suspension is None:
        return None
    return StillSuspended(None if suspension.until is None else min(LOOK_S, engine.seconds_until(suspension.until)))


def _differing(engine: Engine, stream: StreamName) -> bool | None:
    """What the log says of `spec.suspend`, where that says otherwise; None where both say the same."""
    declared = engine.declared.source(stream) or engine.declared.target(stream)
    row = engine.memory.desired.get(stream)
    wanted = row is not None and row.suspended is not None
    return None if declared is None or declared.suspended is wanted else wanted


async def _written(cluster: Cluster, stream: StreamName, *, suspend: bool) -> KubeObject | None:
    try:
        return await write_suspend(cluster, stream, suspend=suspend)
    except NotFoundError:
        return None  # it was deleted a moment ago


async def _ended_when_due(engine: Engine, stream: StreamName) -> Suspension | None:
    """The suspension that stands; one whose time is over is ended."""
    row = engine.memory.desired.get(stream)
    suspension = None if row is None else row.suspended
    if suspension is None or suspension.until is None or engine.seconds_until(suspension.until) > 0:
        return suspension
    why = f"it was suspended until {shown_time(suspension.until)}"
    await engine.memory.append(stream, [Resumed(why=why)], Origin(actor=SCHEDULE))
    return None
