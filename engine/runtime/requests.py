"""What people ask for: an event with who and why, whichever door it came through.

The event is all that is recorded; what it causes is done by who hears it. Only what other tools have to see as well
(`spec.suspend`) is written to the cluster here, after the event.
"""

from typing import Literal, TypeAlias

import msgspec

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.events.envelope import Actor
from tidelog.events.moment import Time, is_time
from tidelog.events.names import ObjectKey, PlanId, StreamName
from tidelog.events.projections import DESIRED
from tidelog.events.vocabulary import (
    Event,
    Marked,
    Pinned,
    PlanApproved,
    PlanRejected,
    ReconcileRequested,
    Resumed,
    Suspended,
    Unpinned,
)
from tidelog.storage import Recorded
from tidelog.storage.errors import MomentError
from tidelog.storage.projections.views import Views

Verb: TypeAlias = Literal["approve", "reject", "suspend", "resume", "reconcile", "pin", "unpin", "mark"]
WHY_LENGTH_MAX = 2_000


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request, as it comes through a door."""

    verb: Verb
    target: str = ""
    """A stream's name."""
    plan: str = ""
    why: str = ""
    until: Time | None = None
    position: int = 0
    """Of the moment to go back to (pin)."""
    label: str = ""


class RefusedError(ValueError):
    """Raised for a request that cannot be carried out; says why, and what to do."""


class Requests:
    """Takes requests."""

    def __init__(self, memory: Memory, views: Views, cluster: Cluster | None, engine_stream: StreamName) -> None:
        self._memory = memory
        self._views = views
        self._cluster = cluster
        self._engine_stream = engine_stream

    async def take(self, request: Request, actor: Actor) -> Recorded:
        """Records a request, and has it carried out.

        Raises:
            RefusedError: when it makes no sense as things stand.
            ClusterError: when it was recorded, and the cluster could not be told.
        """
        if len(request.why) > WHY_LENGTH_MAX:
            raise RefusedError(f"the reason has {len(request.why)} characters, {WHY_LENGTH_MAX} is the most")
        if request.until is not None and not is_time(request.until):
            raise RefusedError(f"{request.until!r} is no time of the log (RFC 3339, UTC, microseconds)")
        stream, event = await self._event(request)
        (recorded,) = await self._memory.append(stream, [event], Origin(actor=actor))
        if request.verb in ("suspend", "resume"):
            await self._set_suspend(stream, suspend=request.verb == "suspend")
        return recorded

    async def _event(self, request: Request) -> tuple[StreamName, Event]:
        match request.verb:
            case "approve" | "reject":
                return self._about_plan(request)
            case "mark":
                return self._engine_stream, Marked(label=request.label, why=request.why)
            case "suspend":
                return self._known(request), Suspended(why=_reason(request), until=request.until)
            case "resume":
                return self._known(request), Resumed(why=request.why)
            case "reconcile":
                return self._known(request), ReconcileRequested(why=request.why)
            case "pin":
                return await self._pin(request)
            case "unpin":
                stream = self._known(request)
                row = self._memory.desired.get(stream)
                if row is None or row.pinned is None:
                    raise RefusedError(f"{stream} is not pinned")
                return stream, Unpinned(why=_reason(request))

    def _about_plan(self, request: Request) -> tuple[StreamName, Event]:
        held = (
            stream
            for stream, standing in self._memory.conditions.items()
            if standing.held is not None and standing.held.plan == request.plan
        )
        stream = next(held, None)
        if stream is None:
            raise RefusedError(f"no plan {request.plan!r} is held: `tidelog plans` shows which are")
        plan, why = PlanId(request.plan), _reason(request)
        if request.verb == "approve":
            return StreamName(stream), PlanApproved(plan=plan, why=why, until=request.until)
        return StreamName(stream), PlanRejected(plan=plan, why=why)

    async def _pin(self, request: Request) -> tuple[StreamName, Event]:
        stream = self._known(request)
        try:
            row = await self._views.row(DESIRED, stream, at=request.position)
        except MomentError as error:
            raise RefusedError(str(error)) from None
        if row is None or row.set is None:
            raise RefusedError(f"{stream} wanted nothing yet at position {request.position}")
        standing = self._memory.conditions.get(stream)
        left = standing.attempted if standing is not None else None
        if left is None:
            raise RefusedError(f"{stream} has no revision that could be left")
        return stream, Pinned(set=row.set, position=request.position, left=left, why=_reason(request))

    def _known(self, request: Request) -> StreamName:
        if self._memory.conditions.get(request.target) is None:
            raise RefusedError(f"there is no {request.target or 'target'}: `tidelog get all -A` shows what there is")
        return StreamName(request.target)

    async def _set_suspend(self, stream: StreamName, *, suspend: bool) -> None:
        if self._cluster is None:
            return
        key = ObjectKey.parse(stream.partition("/")[2])
        kind = await self._cluster.kind(f"{key.group}/v1", key.kind)
        patch = {"spec": {"suspend": True if suspend else None}}
        await self._cluster.patch(kind, key.namespace, key.name, patch, type="merge", manager="tidelog")


def _reason(request: Request) -> str:
    if not request.why.strip():
        raise RefusedError(f"to {request.verb}, say why (--why): it stays in the log")
    return request.why
