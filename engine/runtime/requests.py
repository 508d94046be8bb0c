"""What people ask for: an event with who and why, whichever door it came through.

The event is all that is recorded; what it causes is done by who hears it. Only what other tools have to see as well
(`spec.suspend`) is written to the cluster here, after the event, and keys are destroyed here. The daemon takes requests
through its doors; where none is at work, a command takes its own.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.meta import FORCE_AT, HELM_RELEASE, OWN_MANAGER, REQUESTED_AT, RESET_AT
from tidelog.engine.kinds.registry import api_version_of
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.errors import RefusedError
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.past_releases import NoPastError, past_version
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.suspension import write_suspend
from tidelog.engine.runtime.watching.declarations import Declarations
from tidelog.events.envelope import Actor
from tidelog.events.moment import Time, datetime_of, is_time, shown_time
from tidelog.events.names import MalformedNameError, ObjectKey, StreamName, stream_name
from tidelog.events.projections import DESIRED, Hold
from tidelog.events.projections.desired import Suspension
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
from tidelog.storage import NewEvent, Query, Recorded, StreamAppend
from tidelog.storage.errors import MomentError
from tidelog.storage.keys import KeyRing
from tidelog.storage.log import ExpectedVersion
from tidelog.storage.projections.views import Views

Verb: TypeAlias = Literal["approve", "reject", "suspend", "resume", "reconcile", "pin", "unpin", "mark", "forget"]
WHY_LENGTH_MAX = 2_000
LABEL_LENGTH_MAX = 200
PLAN_LENGTH_MIN = len("plan-") + 4
"""Of the beginning of a plan's id: fewer signs name none."""


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request, as it comes through a door."""

    verb: Verb
    target: str = ""
    """A stream's name; of a source or target, for every verb but `forget`."""
    plan: str = ""
    why: str = ""
    until: Time | None = None
    position: int = 0
    """Of the moment to go back to (pin)."""
    label: str = ""
    force: bool = False
    """Of a HelmRelease: release in any case (reconcile)."""
    reset: bool = False
    """Of a HelmRelease: what failed before counts no more (reconcile)."""


async def write_request(
    cluster: Cluster, stream: StreamName, token: str, *, force: bool = False, reset: bool = False
) -> KubeObject:
    """Asks whoever reconciles an object in the cluster to do it now (Flux contract CM-034 to CM-036).

    Raises:
        ClusterError: when the server refuses, or cannot be asked.
    """
    key = ObjectKey.of_stream(stream)
    kind = await cluster.kind(api_version_of(key), key.kind)
    wanted = {REQUESTED_AT: True, FORCE_AT: force, RESET_AT: reset}
    patch = {"metadata": {"annotations": {name: token for name, asked in wanted.items() if asked}}}
    return await cluster.patch(kind, key.namespace, key.name, patch, type="merge", manager=OWN_MANAGER)


def new_token() -> str:
    """What stands for one request in annotations and status: a time, as `flux` has it."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


class Requests:
    """Takes requests.

    Args:
        memory: of the log that they are recorded in.
        views: for what was at a past moment.
        engine_stream: for what is about neither source nor target.
        cluster: where other tools have to see a request; without it, that is left to the next daemon.
        declared: is told what became of the object.
        wake: has a source or target looked at.
        keys: of the store, to forget them.
        forgotten: told when the keys of a stream are destroyed.
    """

    def __init__(
        self,
        memory: Memory,
        views: Views,
        engine_stream: StreamName,
        *,
        cluster: Cluster | None = None,
        declared: Declarations | None = None,
        wake: Callable[[StreamName, Trigger], None] = lambda _, __: None,
        keys: KeyRing | None = None,
        forgotten: Callable[[Recorded], None] = lambda _: None,
    ) -> None:
        self._memory = memory
        self._views = views
        self._engine_stream = engine_stream
        self._cluster = cluster
        self._declared = declared
        self._wake = wake
        self._keys = keys
        self._forgotten = forgotten

    async def take(self, request: Request, actor: Actor) -> Recorded:
        """Records a request, and has it carried out.

        Raises:
            RefusedError: when it makes no sense as things stand.
            ClusterError: when it was recorded, and the cluster could not be told yet.
        """
        if len(request.why) > WHY_LENGTH_MAX:
            raise RefusedError(f"the reason has {len(request.why)} characters, {WHY_LENGTH_MAX} is the most")
        if request.until is not None and not is_time(request.until):
            raise RefusedError(f"{request.until!r} is no time of the log (RFC 3339, UTC, microseconds)")
        if request.until is not None and datetime_of(request.until) <= datetime.now(UTC):
            raise RefusedError(f"{shown_time(request.until)} is past: --until names a time to come")
        if request.verb == "forget":
            return await self._forget(request, actor)
        stream, event = await self._event(request)
        if isinstance(event, ReconcileRequested) and event.token:
            await self._ask_in_cluster(stream, event)
        (recorded,) = await self._memory.append(stream, [event], Origin(actor=actor))
        if request.verb in ("suspend", "resume"):
            await self._set_suspend(stream, suspend=request.verb == "suspend", cause=recorded)
        return recorded

    def acts_on(self, request: Request) -> StreamName:
        """The stream that a request is about: what who asks has to have a right to.

        Raises:
            RefusedError: when it is about nothing that there is.
        """
        match request.verb:
            case "approve" | "reject":
                return self._held_plan(request)[0]
            case "mark":
                return self._engine_stream
            case "forget":
                return _stream_to_forget(request)
            case _:
                return self._known(request)

    async def _event(self, request: Request) -> tuple[StreamName, Event]:
        match request.verb:
            case "forget":
                raise RuntimeError("forgetting records its event itself")
            case "approve" | "reject":
                return await self._about_plan(request)
            case "mark":
                if request.target:
                    raise RefusedError("a mark is of no target: it is a moment of the whole log")
                if not request.label.strip():
                    raise RefusedError("a mark needs a label")
                if len(request.label) > LABEL_LENGTH_MAX:
                    raise RefusedError(f"the label has {len(request.label)} characters, {LABEL_LENGTH_MAX} is the most")
                return self._engine_stream, Marked(label=request.label, why=request.why)
            case "suspend":
                return self._known(request), Suspended(why=_reason(request), until=request.until)
            case "resume":
                stream = self._known(request)
                if self._suspension(stream) is None:
                    raise RefusedError(f"{told(stream)} is not suspended")
                return stream, Resumed(why=request.why)
            case "reconcile":
                stream = self._known(request)
                suspension = self._suspension(stream)
                if suspension is not None:
                    raise RefusedError(
                        f"{told(stream)} was suspended by {suspension.by}: {suspension.why}; `tidelog resume` goes on"
                    )
                return stream, self._reconcile(stream, request)
            case "pin":
                return await self._pin(request)
            case "unpin":
                stream = self._known(request)
                row = self._memory.desired.get(stream)
                if row is None or row.pinned is None:
                    raise RefusedError(f"{told(stream)} is not pinned")
                return stream, Unpinned(why=_reason(request))

    def _reconcile(self, stream: StreamName, request: Request) -> ReconcileRequested:
        if not (request.force or request.reset):
            return ReconcileRequested(why=request.why)
        key = ObjectKey.of_stream(stream)
        if (key.group, key.kind) != HELM_RELEASE:
            raise RefusedError(f"{told(stream)} is no HelmRelease, and --force and --reset are of releases")
        if self._cluster is None:
            raise RefusedError(
                "--force and --reset are annotations of the HelmRelease, and no cluster is at hand to write them: "
                "give --kubeconfig or --context, or start the daemon"
            )
        return ReconcileRequested(why=request.why, token=new_token(), force=request.force, reset=request.reset)

    async def _ask_in_cluster(self, stream: StreamName, event: ReconcileRequested) -> None:
        """Writes the annotations that a pass takes its word from; before the event, as no daemon would write them."""
        if self._cluster is None:
            raise RuntimeError("a request that the cluster is told of needs one")
        try:
            live = await write_request(self._cluster, stream, event.token, force=event.force, reset=event.reset)
        except NotFoundError:
            raise RefusedError(f"there is no {told(stream)} in the cluster") from None
        if self._declared is not None:
            self._declared.answers(stream, event.token)
            await self._declared.seen(live)

    async def _about_plan(self, request: Request) -> tuple[StreamName, Event]:
        try:
            stream, held = self._held_plan(request)
        except RefusedError:
            await self._refuse_decided(request)
            raise
        if request.target not in ("", stream):
            raise RefusedError(f"plan {held.plan!r} is of {told(stream)}: name that, or no target")
        plan, why = held.plan, _reason(request)
        if request.verb == "reject":
            return stream, PlanRejected(plan=plan, why=why)
        standing = self._memory.conditions.get(stream)
        before = None if standing is None else standing.approval
        if before is not None and before.plan == plan and not before.rejected and before.until in (None, request.until):
            raise RefusedError(f"plan {plan} was approved already, by {before.by}: {before.why}")
        return stream, PlanApproved(plan=plan, why=why, until=request.until)

    def _held_plan(self, request: Request) -> tuple[StreamName, Hold]:
        """The held plan that a request names, by its id or the beginning of it."""
        held = [(StreamName(stream), row.held) for stream, row in self._memory.conditions.items() if row.held]
        named = [one for one in held if one[1].plan == request.plan]
        if not named and len(request.plan) >= PLAN_LENGTH_MIN:
            named = [one for one in held if one[1].plan.startswith(request.plan)]
        if len(named) > 1:
            plans = ", ".join(sorted(hold.plan for _, hold in named))
            raise RefusedError(f"{request.plan!r} is the beginning of more than one held plan: {plans}")
        if not named:
            plans = ", ".join(sorted(hold.plan for _, hold in held))
            raise RefusedError(
                f"no plan {request.plan!r} is held" + (f"; held are {plans}" if plans else ", and no other is")
            )
        return named[0]

    async def _refuse_decided(self, request: Request) -> None:
        """Says of a plan that is held no more what somebody decided of it."""
        if len(request.plan) < PLAN_LENGTH_MIN:
            return
        query = Query(types=(PlanApproved.__name__, PlanRejected.__name__))
        decided = [recorded async for recorded in self._memory.log.read(query)]
        for recorded in reversed(decided):
            event = recorded.event
            if isinstance(event, PlanApproved | PlanRejected) and event.plan.startswith(request.plan):
                how = "approved" if isinstance(event, PlanApproved) else "rejected"
                raise RefusedError(
                    f"plan {event.plan} was {how} already, by {recorded.envelope.actor} at "
                    f"{shown_time(recorded.envelope.time)}: {event.why}"
                )

    async def _pin(self, request: Request) -> tuple[StreamName, Event]:
        stream = self._known(request)
        key = ObjectKey.of_stream(stream)
        if (key.group, key.kind) == HELM_RELEASE:
            return await self._pin_release(stream, request)
        try:
            row = await self._views.row(DESIRED, stream, at=request.position)
        except MomentError as error:
            raise RefusedError(str(error)) from None
        if row is None or row.set is None or row.count == 0:
            raise RefusedError(f"{told(stream)} wanted nothing at position {request.position}: give a later moment")
        standing = self._memory.conditions.get(stream)
        left = standing.attempted if standing is not None else None
        if left is None:
            raise RefusedError(f"{told(stream)} has no revision that could be left")
        return stream, Pinned(set=row.set, position=request.position, left=left, why=_reason(request))

    async def _pin_release(self, stream: StreamName, request: Request) -> tuple[StreamName, Event]:
        """A release goes back to the version that was deployed."""
        try:
            past = await past_version(self._memory, self._views, stream, request.position)
        except (MomentError, NoPastError) as error:
            raise RefusedError(f"{told(stream)}: {error}") from None
        row, standing = self._memory.desired.get(stream), self._memory.conditions.get(stream)
        pinned = None if row is None else row.pinned
        attempted = None if standing is None else standing.attempted
        left = attempted if pinned is None else pinned.left  # what it is kept at was attempted since
        if left is None or past.made.set is None:
            raise RefusedError(f"{told(stream)} has no version that could be left")
        return stream, Pinned(set=past.made.set, position=request.position, left=left, why=_reason(request))

    def _known(self, request: Request) -> StreamName:
        if self._memory.conditions.get(request.target) is None:
            raise RefusedError(f"there is no {request.target or 'target'}: `tidelog get all -A` shows what there is")
        return StreamName(request.target)

    def _suspension(self, stream: StreamName) -> Suspension | None:
        row = self._memory.desired.get(stream)
        return None if row is None else row.suspended

    async def _set_suspend(self, stream: StreamName, *, suspend: bool, cause: Recorded) -> None:
        try:
            if self._cluster is not None:
                live = await write_suspend(self._cluster, stream, suspend=suspend)
                if self._declared is not None:
                    await self._declared.seen(live)
        except NotFoundError:
            pass  # A pass has seen the suspension already, and let go of what was being deleted.
        finally:
            # To tell the cluster what it could not be told, and to wake again at the end of the suspension.
            self._wake(stream, Trigger(why=cause.envelope.type, cause=cause.envelope.id))

    async def _forget(self, request: Request, actor: Actor) -> Recorded:
        if self._keys is None:
            raise RefusedError("there are no keys here that could be forgotten")
        stream = _stream_to_forget(request)
        appends = _Appends(self._memory)
        await self._keys.forget(appends, stream, why=_reason(request), actor=actor)
        if appends.recorded is None:
            raise RefusedError(f"{stream} has no key: nothing secret is kept of it")
        self._forgotten(appends.recorded)
        return appends.recorded


class _Appends:
    """The log, as the ring of keys knows it; what is appended is folded."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.recorded: Recorded | None = None

    async def append(self, stream: str, expected: ExpectedVersion, events: list[NewEvent]) -> tuple[Recorded, ...]:
        recorded = await self._memory.append_all([StreamAppend(stream, expected, events)])
        (self.recorded,) = recorded
        return recorded


def told(stream: StreamName) -> str:
    """A source or target, in a sentence."""
    key = ObjectKey.of_stream(stream)
    return f"{key.kind} {key.namespace}/{key.name}"


def _stream_to_forget(request: Request) -> StreamName:
    try:
        return stream_name(request.target)
    except MalformedNameError as error:
        raise RefusedError(str(error)) from None


def _reason(request: Request) -> str:
    if not request.why.strip():
        raise RefusedError(f"to {request.verb}, say why (--why): it stays in the log")
    return request.why
