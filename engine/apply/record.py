"""What is recorded of an object that was applied: the server's answer, which is the observation of it too."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from tidelog.engine.kinds.meta import SOURCE_GROUP
from tidelog.engine.kinds.registry import NAMES
from tidelog.engine.objects.kube import KubeObject, canonical_bytes
from tidelog.engine.objects.state import state_and_owned, state_of
from tidelog.engine.observe.health import health_of
from tidelog.engine.plan.model import Step, Wanted
from tidelog.engine.secrecy.objects import leaves
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.events.bodies import Body
from tidelog.events.canonical import NotCanonicalError, encode
from tidelog.events.digest import Digest
from tidelog.events.names import ObjectId, ObjectKey, PlanId
from tidelog.events.projections import Entry
from tidelog.events.vocabulary import Event, ObjectApplied

HEALTH_LENGTH_MAX = 500
"""Characters of what is said of an object's health: an event is small."""

_WRITTEN_FROM_THE_LOG = frozenset(NAMES) - {(SOURCE_GROUP, "ExternalArtifact")}
"""Kinds whose status says what the log says: to record it would tell the same twice, and at each pass."""

Did = Literal["created", "configured", "recreated", "unchanged"]


class Seen:
    """What is recorded of an object as it is: in an `ObjectApplied` or an `ObjectObserved`."""

    __slots__ = ("bodies", "fields", "owned", "state", "status")

    def __init__(self, id: ObjectId, live: KubeObject, manager: str, sealer: Sealer, *, secret: bool) -> None:
        state, owned = state_and_owned(live, manager)
        self.state = sealer.body(id, canonical_bytes(state), secret=secret)
        self.owned = sealer.digest(id, encode(owned), secret=secret)
        self.bodies: list[Body] = [self.state]
        hidden = Body.of(encode(leaves(state, sealer.key(id)))) if secret else None
        if hidden is not None:
            self.bodies.append(hidden)
        self.status = None if secret else _status(id, live)
        if self.status is not None:
            self.bodies.append(self.status)
        found = health_of(live)
        told = found.health != "Current"
        self.fields = {
            "uid": live["metadata"]["uid"],
            "resource_version": live["metadata"]["resourceVersion"],
            "api_version": live["apiVersion"],
            "state": self.state.ref,
            "owned": self.owned,
            "leaves": None if hidden is None else hidden.ref,
            "health": found.health,
            "reason": found.reason if told else "",
            # A controller's words may quote what stands in the object.
            "message": _short(found.message) if told and not secret else "",
            "status": None if self.status is None else self.status.ref,
        }


def _status(id: ObjectId, live: KubeObject) -> Body | None:
    """The status of an object, where it has one that the log does not know already."""
    status, key = live.get("status"), ObjectKey.parse(id)
    if not status or (key.group, key.kind) in _WRITTEN_FROM_THE_LOG:
        return None
    try:
        return Body.of(encode(status))
    except NotCanonicalError:
        return None  # another's slip, in what decides nothing


def _short(text: str) -> str:
    text = text.encode(errors="replace").decode()
    return text if len(text) <= HEALTH_LENGTH_MAX else f"{text[: HEALTH_LENGTH_MAX - 1]}…"


class ObjectRecorder:
    """Records the objects of one plan."""

    def __init__(
        self,
        plan: PlanId,
        manager: str,
        sealer: Sealer,
        inventory: Callable[[ObjectId], Entry | None],
        record: Callable[[Sequence[Event], Sequence[Body]], Awaitable[object]],
        policies: Digest,
        is_anothers: Callable[[ObjectId], bool] = lambda _: False,
        cluster: str = "",
    ) -> None:
        self.policies = policies
        self.cluster = cluster
        """The alias of the cluster that they are in; empty for that of their target."""
        self._plan = plan
        self._manager = manager
        self._sealer = sealer
        self._inventory = inventory
        self._record = record
        self._is_anothers = is_anothers

    def state_digest(self, id: ObjectId, live: KubeObject, *, secret: bool) -> Digest:
        """The digest of an object's state, as plans have it."""
        return self._sealer.digest(id, canonical_bytes(state_of(live, self._manager)), secret=secret)

    async def applied(self, step: Step, wave: int, wanted: Wanted, answer: KubeObject, did: Did) -> None:
        """Records the server's answer to a write."""
        seen = Seen(step.object, answer, self._manager, self._sealer, secret=wanted.secret)
        event = ObjectApplied(
            plan=self._plan,
            object=step.object,
            action=did,
            wave=wave,
            desired=wanted.digest,
            cluster=self.cluster,
            **seen.fields,
        )
        await self._record([event], seen.bodies)

    async def found(self, step: Step, wave: int, wanted: Wanted, live: KubeObject | None = None) -> None:
        """Records an object that needs no write: that it is the target's, and rendered like this."""
        if step.action == "skip" and self._is_anothers(step.object):
            return  # who leaves an object alone does not take it from who applied it
        entry = self._inventory(step.object)
        if entry is not None and entry.desired == wanted.digest and entry.uid == step.uid:
            return
        if live is not None:
            await self.applied(step, wave, wanted, live, "unchanged")
            return
        event = ObjectApplied(
            plan=self._plan,
            object=step.object,
            uid=step.uid,
            resource_version=step.resource_version,
            action="unchanged",
            wave=wave,
            desired=wanted.digest,
            api_version=step.api_version,
            cluster=self.cluster,
        )
        await self._record([event], ())
