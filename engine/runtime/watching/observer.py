"""Observation: what watches tell of the objects that targets own, and what is recorded of it.

The answer to our own write is the observation of it, and its echo appends nothing; while a write is under way, what
is told of its object waits. A change of the fields that our manager owns is drift, and wakes the target. Where
nothing but the status changes, that is recorded at most once a minute an object, the last when the minute is over; it
wakes nobody, but for the target that follows the object.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeAlias

import anyio
import msgspec
from anyio.abc import TaskGroup

from tidelog.engine.apply.record import Seen
from tidelog.engine.cluster.errors import ClusterError, NotFoundError
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.kinds.meta import HELM_RELEASE, OWNER_NAME, RELEASE_OWNER_NAME, applier_of, labelled_maker
from tidelog.engine.objects.depth import bounded
from tidelog.engine.objects.kube import KubeObject, group_of, key_of, object_in
from tidelog.engine.observe.drift import Flap, Flaps, drift, left_behind
from tidelog.engine.observe.health import has_ended, health_of, outcome_of
from tidelog.engine.observe.pods import WORKLOADS, same_cause
from tidelog.engine.observe.reflector import Reflector, is_newer
from tidelog.engine.observe.room import Room
from tidelog.engine.plan.model import Wanted, is_secret
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.texts import cut, first_of
from tidelog.engine.runtime.watching.causes import UNWELL, Causes, Looked
from tidelog.engine.runtime.watching.due import Due
from tidelog.engine.runtime.watching.paces import Paces
from tidelog.engine.runtime.watching.statuses import StatusesThatWait, StatusTold
from tidelog.engine.secrecy.sealing import LostSecretError, Sealer
from tidelog.events.bodies import Body, BodyRef
from tidelog.events.digest import Digest
from tidelog.events.envelope import Actor, Proof
from tidelog.events.moment import datetime_of
from tidelog.events.names import ObjectId, ObjectKey, StreamName, cluster_of, object_stream
from tidelog.events.projections import Actual, Entry, Inventory
from tidelog.events.projections.desired import objects_cluster
from tidelog.events.vocabulary import (
    Because,
    DriftDetected,
    Event,
    FieldDrift,
    HealthChanged,
    ObjectObserved,
    ObservationInterrupted,
    ObservationResumed,
)
from tidelog.events.vocabulary.observe import Health
from tidelog.storage import Query, Recorded

UNKNOWN_KIND_RETRY_S = 30.0
DRIFT_BYTES_MAX = 32_768
"""Of the fields that an event names, in JSON."""
MESSAGE_BYTES_MAX = 1_024
"""Of what is said of an object's health, in JSON."""
REASON_BYTES_MAX = 128
LOOK_INTO_LIMIT_S = 5.0
"""What a pass waits at most for why its workloads are not available."""
FLAPPING_PAUSE_S = 900.0
"""How long a field that somebody keeps on changing back is left to them."""

STATUS_EVERY_S = 60.0
"""How often an object is recorded of which nothing but the status changes."""
FOLLOWED_EVERY_S = 1.0
"""How often a target is woken at most by the objects that it follows: some change their status all the time."""
LATE_RETRY_S = 60.0
"""When an object is asked for again that was to be looked at later, and could not be."""
RESTS_FOR = 0.9
"""Of an interval: the timer that ends it is of another clock."""

Waiting: TypeAlias = KubeObject | tuple[ObjectKey, str] | StatusTold
"""What was told of an object that is just written or recorded: that it is like this, that it is gone, its status."""
SealerOf: TypeAlias = Callable[[Iterable[ObjectId]], Awaitable[Sealer]]
Wake: TypeAlias = Callable[[StreamName, Trigger], None]
WakeIn: TypeAlias = Callable[[StreamName, float], None]
Flapping: TypeAlias = Callable[[StreamName, tuple[Flap, ...]], None]


JOB = ("batch", "Job")


class Ended(msgspec.Struct):
    """A Job that is done, and that its `ttlSecondsAfterFinished` takes away."""

    uid: str
    health: Health
    gone: float | None = None
    """When it was, by the clock that nobody sets."""


class Observer:
    """Watches every kind of which a target owns an object in one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        memory: Memory,
        alias: str,
        engine_stream: StreamName,
        sealer: SealerOf,
        wake: Wake,
        wake_in: WakeIn,
        flapping: Flapping,
        clock: Callable[[], datetime],
        interval_of: Callable[[StreamName], float] = lambda _: FLAPPING_PAUSE_S,
        overridden: Sequence[str] = (),
        home: str = "",
        room: Room | None = None,
    ) -> None:
        self._room = room
        """Bounds what is known of a cluster that nobody answers for."""
        self._paces = None if room is None else Paces()
        """And how often what it tells is recorded."""
        self._late = Due()
        self._is_late: dict[StreamName, str] = {}
        """Objects that are looked at again, for what was not recorded of them, with their API version."""
        self._home = home or alias
        """The alias of the cluster that targets are in."""
        self._cluster = cluster
        self._memory = memory
        self._alias = alias
        self._engine_stream = engine_stream
        self._sealer = sealer
        self._wake = wake
        self._wake_in = wake_in
        self._flapping = flapping
        self._clock = clock
        self._interval_of = interval_of
        self._overridden = overridden
        self._tasks: TaskGroup | None = None
        self._watched: set[tuple[str, str, str]] = set()
        self._kinds_changed = anyio.Event()
        self._unseen: set[str] = set()
        """Kinds that were let out of sight on purpose."""
        self._busy: dict[StreamName, int] = {}
        """What is written or recorded, and by how many."""
        self._deferred: dict[StreamName, Waiting] = {}
        self._versions: dict[StreamName, str] = {}
        self._statuses = StatusesThatWait()
        self._status_every = STATUS_EVERY_S
        self._causes = Causes(cluster, self._record_why, clock)
        self._flaps = Flaps()
        self._followed: set[StreamName] = set()
        """Objects whose next change, be it of their status alone, wakes their target."""
        self._woken_at: dict[StreamName, float] = {}
        """When a target was woken by what it follows."""
        self._ended: dict[StreamName, Ended] = {}
        """Jobs that are done, and are to be taken away after a time (`ttlSecondsAfterFinished`), or were."""

    # Watching.

    async def run(self) -> None:
        """Watches, until cancelled; begins with the kinds of all inventories."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._watched.clear()
            tasks.start_soon(self._statuses.run, self._status_is_due)
            tasks.start_soon(self._causes.run)
            tasks.start_soon(self._look_at_late)
            for owner, inventory in self._inventories():
                for id, entry in inventory.objects.items():
                    if entry.api_version:
                        self._watch(entry.api_version, ObjectKey.parse(id).kind, _label_of(owner))
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    def _inventories(self) -> list[tuple[StreamName, Inventory]]:
        """The inventories of the targets whose objects are in this cluster."""
        found = ((StreamName(owner), row) for owner, row in list(self._memory.inventory.items()))
        return [(owner, row) for owner, row in found if self._is_here(owner)]

    def _is_here(self, owner: StreamName) -> bool:
        """Whether the objects of a target are in this cluster: what else has its labels here is not its own."""
        return objects_cluster(owner, self._memory.desired.get(owner)) == self._alias

    def _entry(self, owner: StreamName, id: ObjectId) -> Entry | None:
        """An object of this cluster in the inventory of a target."""
        inventory = self._memory.inventory.get(owner) if self._is_here(owner) else None
        return None if inventory is None else inventory.objects.get(id)

    def watch_all(self, wanted: Iterable[Wanted], owner: StreamName) -> None:
        """Watches the kinds of some objects of a target from now on."""
        for one in wanted:
            self._watch(one.api_version, one.key.kind, _label_of(owner))

    def kinds_changed(self) -> None:
        """Says that kinds may be served now that were not before."""
        self._kinds_changed.set()
        self._kinds_changed = anyio.Event()

    def _watch(self, api_version: str, kind: str, label: str) -> None:
        if self._tasks is not None and (api_version, kind, label) not in self._watched:
            self._watched.add((api_version, kind, label))
            self._tasks.start_soon(self._follow, api_version, kind, label)

    async def _follow(self, api_version: str, name: str, label: str) -> None:
        while True:
            try:
                kind = await self._cluster.kind(api_version, name)
            except ClusterError:
                with anyio.move_on_after(UNKNOWN_KIND_RETRY_S):
                    await self._kinds_changed.wait()
                continue
            reflector = Reflector(self._cluster, kind, labels=label, room=self._room)
            try:
                await reflector.run(_Told(self, kind, label))
            finally:
                reflector.forget()

    async def interrupted(self, kind: Kind, why: str) -> None:
        """Records that changes of a kind may go unseen from here on."""
        if self._paces is not None:  # it may say so, and the contrary, without end
            await anyio.sleep(self._paces.wait_s(_kind_name(kind)))
            self._paces.charge(_kind_name(kind))
        event = ObservationInterrupted(cluster=self._alias, kinds=(_kind_name(kind),), why=why)
        await self._memory.append(self._engine_stream, [event], Origin())

    async def rest(self, why: str) -> None:
        """Records that all that is watched goes unseen from here on: whoever runs this has ended it, for now."""
        kinds = {_named(group_of(version), name) for version, name, _ in self._watched} - self._unseen
        self._unseen |= kinds
        if kinds:
            event = ObservationInterrupted(cluster=self._alias, kinds=tuple(sorted(kinds)), why=why)
            await self._memory.append(self._engine_stream, [event], Origin())

    async def seen_again(self, kind: Kind) -> None:
        """Records that a kind is seen again that was let out of sight on purpose."""
        if _kind_name(kind) in self._unseen:
            self._unseen.discard(_kind_name(kind))
            await self.resumed(kind)

    async def resumed(self, kind: Kind) -> None:
        """Records that a kind is seen again."""
        event = ObservationResumed(cluster=self._alias, kinds=(_kind_name(kind),))
        await self._memory.append(self._engine_stream, [event], Origin())

    # Writes of our own.

    @contextmanager
    def writing(self, id: ObjectId) -> Iterator[None]:
        """While an object is written, what is told of it waits."""
        with self._in_turn(object_stream(self._alias, id)):
            yield

    @contextmanager
    def _in_turn(self, stream: StreamName) -> Iterator[None]:
        """While an object is written or recorded, what is told of it waits, so that the latest is recorded last."""
        self._busy[stream] = self._busy.get(stream, 0) + 1
        try:
            yield
        finally:
            self._leave(stream)

    def _leave(self, stream: StreamName) -> None:
        """Ends a turn, or hands it on to what waits."""
        self._busy[stream] -= 1
        if self._busy[stream]:
            return
        waiting = self._deferred.pop(stream, None)
        if waiting is None or self._tasks is None:
            del self._busy[stream]
            return
        self._busy[stream] = 1
        self._tasks.start_soon(self._look_again, stream, waiting)

    async def _look_again(self, stream: StreamName, waiting: Waiting) -> None:
        try:
            if self._busy[stream] > 1:  # it is written again already: what was told since is newer
                self._deferred.setdefault(stream, waiting)
            elif isinstance(waiting, tuple):
                await self._record_gone(stream, *waiting)
            elif isinstance(waiting, StatusTold):
                await self._record_status(stream, waiting)
            else:
                await self._record(stream, waiting)
        finally:
            self._leave(stream)

    async def seen(self, id: ObjectId, version: str, sealer: Sealer) -> KubeObject | None:
        """The state of an object at a resource version, where a watch or our own write has told it."""
        stream = object_stream(self._alias, id)
        row = self._memory.actual.get(stream)
        if row is None or row.state is None or version not in (row.resource_version, self._versions.get(stream)):
            return None
        body = await self._memory.log.body(row.state.digest)
        try:
            state: KubeObject = object_in(sealer.open(id, body))
        except LostSecretError:
            return None
        return state

    def follow(self, stream: StreamName) -> None:
        """Has the target of an object woken at the object's next change, be it of its status alone."""
        self._followed.add(stream)

    def version(self, stream: StreamName) -> str:
        """The newest resource version of an object that a watch or our own write has told of."""
        row, told = self._memory.actual.get(stream), self._versions.get(stream)
        recorded = "" if row is None else row.resource_version
        return told if told is not None and is_newer(told, recorded) else recorded

    def _tell_follower(self, stream: StreamName, owner: StreamName) -> None:
        if stream not in self._followed:
            return
        self._followed.discard(stream)
        now = anyio.current_time()
        left = self._woken_at.get(owner, now - FOLLOWED_EVERY_S) + FOLLOWED_EVERY_S - now
        if left > 0:
            self._wake_in(owner, left)
            return
        self._woken_at[owner] = now
        self._wake(owner, Trigger(why=f"{ObjectKey.of_stream(stream).shown} changed"))

    def stream_of(self, obj: KubeObject) -> StreamName:
        """The stream of an object of this cluster."""
        return key_of(obj).stream(self._alias)

    # What is told.

    async def is_now(self, obj: KubeObject) -> None:
        """An object of ours is there, and is like this."""
        stream = self.stream_of(obj)
        if self._has_to_wait(stream, obj["apiVersion"]):
            return
        if stream in self._busy:
            self._deferred[stream] = obj
            return
        with self._in_turn(stream):
            await self._record(stream, obj)

    async def _record(self, stream: StreamName, obj: KubeObject) -> None:
        key, owner = key_of(obj), self._owner_of(obj)
        entry = None if owner is None else self._entry(owner, key.id)
        if owner is None or entry is None:
            return
        row = self._memory.actual.get(stream)
        obj = bounded(obj)
        version, uid = obj["metadata"]["resourceVersion"], obj["metadata"]["uid"]
        self._note_end(stream, obj, uid)
        self._causes.note(stream, health_of(obj).health)
        if row is not None and row.uid == uid and not is_newer(version, row.resource_version):
            return
        secret = is_secret(key, row, entry)
        sealer = await self._sealer([key.id]) if secret else Sealer()
        seen = Seen(key.id, obj, _applier_of(owner), sealer, secret=secret)
        same = (
            row is not None and row.uid == uid and row.state is not None and row.state.digest == seen.state.ref.digest
        )
        if same and row is not None:
            news = is_newer(version, self.version(stream))
            self._versions[stream] = version
            if news:
                self._tell_follower(stream, owner)
            await self._only_health(obj, stream, owner, row, seen, secret=secret)
            told = StatusTold(ObjectObserved(**seen.fields, only_status=True), seen.status, _writer(obj, owner))
            await self._record_status(stream, told)
            return
        events: list[Event] = [ObjectObserved(**seen.fields)]
        drifted: tuple[FieldDrift, ...] = ()
        if row is not None and row.applied is not None:
            if seen.owned != row.applied or row.uid != uid:
                drifted = await self._drift(obj, row, owner, sealer, secret=secret)
            drifted = drifted or left_behind(obj, _applier_of(owner), self._overridden, secret=secret)
        if drifted:
            shown = first_of(drifted, DRIFT_BYTES_MAX)
            more = len(drifted) - len(shown)
            events.append(DriftDetected(target=owner, uid=uid, resource_version=version, fields=shown, more=more))
        was = None if row is None else row.health
        origin = Origin(actor=_by(drifted) or _writer(obj, owner))
        recorded = await self._append(stream, events, origin, seen.bodies)
        self._versions[stream] = version
        self._tell_follower(stream, owner)
        if drifted:
            self._drifted(owner, key, drifted, recorded[-1])
        elif seen.fields["health"] != was:
            self._wake(owner, _trigger(f"the health of {key.kind} {key.name} changed", recorded[-1]))

    def _has_to_wait(self, stream: StreamName, api_version: str) -> bool:
        """Whether so much was recorded of an object that it is looked at again later, as it then is."""
        wait = 0.0 if self._paces is None else self._paces.wait_s(stream)
        if wait and stream not in self._is_late:
            self._is_late[stream] = api_version
            self._late.add(stream, wait)
        return wait > 0

    async def _look_at_late(self) -> None:
        """Looks at what was not recorded when it was told, until cancelled."""
        while True:
            _, stream = await self._late.next()
            api_version, key = self._is_late.pop(stream), ObjectKey.of_stream(stream)
            try:
                kind = await self._cluster.kind(api_version, key.kind)
                live = await self._cluster.get(kind, key.namespace, key.name)
            except NotFoundError:
                row = self._memory.actual.get(stream)
                if row is not None:
                    await self.is_gone(key, row.uid)
            except ClusterError:
                self._is_late[stream] = api_version
                self._late.add(stream, LATE_RETRY_S)
            else:
                await self.is_now(live)

    async def _append(
        self, stream: StreamName, events: Sequence[Event], origin: Origin, bodies: Sequence[Body] = ()
    ) -> tuple[Recorded, ...]:
        """Records what was seen of an object."""
        if self._paces is not None:
            self._paces.charge(stream, bodies)
        return await self._memory.append(stream, events, origin, bodies=bodies)

    async def is_gone(self, key: ObjectKey, uid: str) -> None:
        """An object of ours is no more."""
        stream = key.stream(self._alias)
        row = self._memory.actual.get(stream)
        if row is not None and self._has_to_wait(stream, row.api_version):
            return
        if stream in self._busy:
            self._deferred[stream] = key, uid
            return
        with self._in_turn(stream):
            await self._record_gone(stream, key, uid)

    async def _record_gone(self, stream: StreamName, key: ObjectKey, uid: str) -> None:
        row = self._memory.actual.get(stream)
        if row is None or row.owner is None or row.uid != uid:
            return
        self._versions.pop(stream, None)
        self._followed.discard(stream)
        self._causes.forget(stream)
        wanted = self._entry(row.owner, key.id) is not None
        ended = self._ended.get(stream) or (await self._ended_as_recorded(key, row) if wanted else None)
        gone = ObjectObserved(
            uid=uid, resource_version=row.resource_version, gone=True, ended=None if ended is None else ended.health
        )
        drifted = DriftDetected(target=row.owner, uid=uid, resource_version=row.resource_version, fields=(), gone=True)
        owner = row.owner
        # A watch does not tell who deletes.
        recorded = await self._append(stream, [drifted, gone] if wanted else [gone], Origin(actor=_manager()))
        if not wanted:
            self._ended.pop(stream, None)
        elif ended is not None:
            ended.gone = anyio.current_time()
            self._ended[stream] = ended
            # It is made again, as in Flux, at the next interval; the pass says when that is.
            self._wake(owner, _trigger(f"{key.kind} {key.name} is done, and was taken away", recorded[0]))
        else:
            self._drifted(owner, key, (FieldDrift(path="metadata.uid"),), recorded[0])

    async def _ended_as_recorded(self, key: ObjectKey, row: Actual) -> Ended | None:
        """What was recorded of a Job that had ended, and went while nobody watched; None of what had not, or is none.

        Of a secret one nothing is: its status is not in the log.
        """
        if (key.group, key.kind) != JOB or row.state is None or row.status is None or row.leaves is not None:
            return None
        state, status = [(await self._memory.log.body(ref.digest)).data for ref in (row.state, row.status)]
        job = msgspec.json.decode(state) | {"status": msgspec.json.decode(status)}
        return Ended(row.uid, outcome_of(job)) if has_ended(job) else None

    async def recall(self) -> None:
        """Takes from the log what earlier daemons saw of Jobs that are done, and were taken away."""
        for _, inventory in self._inventories():
            for id in inventory.objects:
                key, stream = ObjectKey.parse(id), object_stream(self._alias, id)
                if (key.group, key.kind) != JOB or self._memory.actual.get(stream) is not None:
                    continue
                last = await self._memory.log.last(Query(stream=stream, types=(ObjectObserved.__name__,)))
                if last is not None and isinstance(last.event, ObjectObserved) and last.event.ended is not None:
                    gone = anyio.current_time() - max(0.0, self._seconds_since(last))
                    self._ended[stream] = Ended(last.event.uid, last.event.ended, gone)

    def _note_end(self, stream: StreamName, obj: KubeObject, uid: str) -> None:
        """Remembers how a Job ended, for it is soon taken away."""
        known = self._ended.get(stream)
        if known is not None and known.uid != uid:
            del self._ended[stream]
        if has_ended(obj) and stream not in self._ended:
            self._ended[stream] = Ended(uid, outcome_of(obj))

    def ended(self, stream: StreamName) -> Health | None:
        """How a Job ended that its `ttlSecondsAfterFinished` takes away, or took away; None of one that did not end."""
        known = self._done(stream)
        return None if known is None else known.health

    def rests(self, owner: StreamName, stream: StreamName) -> float | None:
        """In how many seconds a Job is to be made again that was done and taken away; None of one that now may be."""
        known = self._done(stream)
        if known is None or known.gone is None:
            return None
        interval, waited = self._interval_of(owner), anyio.current_time() - known.gone
        return interval - waited if waited < interval * RESTS_FOR else None

    def _done(self, stream: StreamName) -> Ended | None:
        """What is remembered of a Job, unless it has been made again since."""
        known, row = self._ended.get(stream), self._memory.actual.get(stream)
        return known if known is not None and (row is None or row.uid == known.uid) else None

    async def compare(self, kind: Kind, listed: Collection[StreamName], label: str) -> None:
        """After the first list of a kind by its owners' label: what is recorded and was not listed, is no more."""
        for stream, row in list(self._memory.actual.items()):
            if cluster_of(StreamName(stream)) != self._alias:
                continue
            key = ObjectKey.of_stream(stream)
            if (key.group, key.kind) != (kind.group, kind.kind) or row.owner is None or stream in listed:
                continue
            if _label_of(row.owner) != label:
                continue
            try:
                live = await self._cluster.get(kind, key.namespace, key.name)
            except NotFoundError:
                await self.is_gone(key, row.uid)
            except ClusterError:
                continue
            else:
                await self.is_now(live)

    async def _only_health(
        self, obj: KubeObject, stream: StreamName, owner: StreamName, row: Actual, seen: Seen, *, secret: bool
    ) -> None:
        found = health_of(obj)
        same = found.health == row.health
        if same and (found.health == "Current" or found.reason == row.reason):
            return
        # A controller's words may quote what stands in the object.
        message = "" if secret else cut(found.message, MESSAGE_BYTES_MAX)
        status, bodies = (None, []) if seen.status is None else (seen.status.ref, [seen.status])
        because = row.because if found.health in UNWELL else None
        event = HealthChanged(health=found.health, reason=found.reason, message=message, status=status, because=because)
        recorded = await self._append(stream, [event], Origin(), bodies)
        if not same:
            self._wake(owner, _trigger(f"the health of {stream.rpartition('/')[2]} changed", recorded[-1]))

    async def look_into(self, keys: Iterable[ObjectKey]) -> None:
        """Has it recorded what keeps some objects from being available, where they are workloads, before going on."""
        with anyio.move_on_after(LOOK_INTO_LIMIT_S):
            for key in keys:
                stream = key.stream(self._alias)
                row = self._memory.actual.get(stream)
                if row is not None and row.health in UNWELL and (key.group, key.kind) in WORKLOADS:
                    await self._causes.look(stream, patient=False)

    async def _record_why(self, stream: StreamName, looked: Looked) -> None:
        """Records what keeps a workload from being available, where that is another than before."""
        row, key, found = self._memory.actual.get(stream), ObjectKey.of_stream(stream), looked.health
        if row is None or row.owner is None or row.uid != looked.uid or row.health != found.health:
            return  # a watch is about to tell something else
        if stream in self._busy or same_cause(row.because, looked.because):
            return
        with self._in_turn(stream):
            entry = self._entry(row.owner, key.id)
            secret = entry is None or is_secret(key, row, entry)
            because = looked.because
            if because is not None:
                words = "" if secret else cut(because.message, MESSAGE_BYTES_MAX)
                because = Because(object=because.object, reason=cut(because.reason, REASON_BYTES_MAX), message=words)
            message = "" if secret else cut(found.message, MESSAGE_BYTES_MAX)
            event = HealthChanged(health=found.health, reason=found.reason, message=message, because=because)
            await self._append(stream, [event], Origin())

    async def _status_is_due(self, stream: StreamName, told: StatusTold) -> None:
        """The minute of a status that waited is over."""
        if stream in self._busy:
            self._deferred.setdefault(stream, told)
            return
        with self._in_turn(stream):
            await self._record_status(stream, told, has_waited=True)

    async def _record_status(self, stream: StreamName, told: StatusTold, *, has_waited: bool = False) -> None:
        """Records the status of an object of which nothing else is new, now or when its minute is over."""
        if not self._is_news(stream, told.event) or self._statuses.replace(stream, told):
            return
        wait = await self._time_left(self._memory.actual.get(stream), has_waited=has_waited)
        if wait:
            self._statuses.add(stream, told, wait)
        elif self._is_news(stream, told.event):  # it may have been written meanwhile
            bodies = [] if told.body is None else [told.body]
            await self._append(stream, [told.event], Origin(actor=told.by), bodies)

    def _is_news(self, stream: StreamName, event: ObjectObserved) -> bool:
        """Whether an object differs from what is recorded of it by its status, and by nothing else."""
        row = self._memory.actual.get(stream)
        if row is None or row.uid != event.uid or _digest(row.state) != _digest(event.state):
            return False
        told = self._versions.get(stream)
        if told is not None and is_newer(told, event.resource_version):
            return False  # it waited for something newer
        return is_newer(event.resource_version, row.resource_version) and _digest(row.status) != _digest(event.status)

    async def _time_left(self, row: Actual | None, *, has_waited: bool) -> float:
        """In how many seconds the status of an object may be recorded again.

        The log itself says when that was last: nothing is kept for objects that are at rest. Where that is yet to come,
        the clock was set back since, and tells nothing: it is enough to have waited once.
        """
        last = 0 if row is None else max(row.position, row.status_position)
        recorded = await self._memory.log.last(Query(until=last)) if last else None
        if recorded is None:
            return 0.0
        passed = self._seconds_since(recorded)
        if passed < 0:
            return 0.0 if has_waited else self._status_every
        return max(0.0, self._status_every - passed)

    def _seconds_since(self, recorded: Recorded) -> float:
        """How long ago something was recorded; negative where the clock was set back since."""
        return (self._clock() - datetime_of(recorded.envelope.time)).total_seconds()

    async def _drift(
        self, obj: KubeObject, row: Actual, owner: StreamName, sealer: Sealer, *, secret: bool
    ) -> tuple[FieldDrift, ...]:
        """The fields that are no longer as they were applied."""
        if row.state is None or row.uid != obj["metadata"]["uid"]:
            return (FieldDrift(path="metadata.uid", manager=_writer(obj, owner).name),)
        body = await self._memory.log.body(row.state.digest)
        try:
            before = object_in(sealer.open(key_of(obj).id, body))
        except LostSecretError:
            return ()  # forgotten a moment ago: the target is about to look at all of it
        return drift(before, obj, _applier_of(owner), secret=secret)

    def _drifted(self, owner: StreamName, key: ObjectKey, fields: tuple[FieldDrift, ...], recorded: Recorded) -> None:
        """Has the target put right what was changed; what somebody keeps on changing back is left for a while."""
        flaps = self._flaps.add(key, fields, self._clock())
        if flaps:
            self._flapping(owner, flaps)
        if len(flaps) < len(fields):
            self._wake(owner, _trigger(f"{key.kind} {key.name} was changed", recorded))
        else:
            self._wake_in(owner, FLAPPING_PAUSE_S)

    def _owner_of(self, obj: KubeObject) -> StreamName | None:
        """The target whose labels an object has, if it is one of ours."""
        named = labelled_maker(obj)
        if named is None:
            row = self._memory.actual.get(key_of(obj).stream(self._alias))
            # What a target only names, and leaves alone, is nothing of ours: it may not even be allowed to see it.
            return None if row is None or row.applied is None else row.owner
        stream = named.stream(self._home)
        return stream if self._memory.conditions.get(stream) is not None else None


def _label_of(owner: str) -> str:
    """The label that the objects of a target have."""
    return RELEASE_OWNER_NAME if ObjectKey.of_stream(owner).kind == HELM_RELEASE[1] else OWNER_NAME


def _applier_of(owner: StreamName) -> str:
    return applier_of(ObjectKey.of_stream(owner).kind)


def _digest(reference: BodyRef | None) -> Digest | None:
    return None if reference is None else reference.digest


def _trigger(why: str, recorded: Recorded) -> Trigger:
    return Trigger(why=why, cause=recorded.envelope.id)


class _Told:
    """What the reflector of one kind tells, for the observer."""

    def __init__(self, observer: Observer, kind: Kind, label: str) -> None:
        self._observer = observer
        self._kind = kind
        self._label = label
        self._listed: set[StreamName] | None = set()
        """Until the first list is over: what was in it."""

    async def changed(self, obj: KubeObject) -> None:
        if self._listed is not None:
            self._listed.add(self._observer.stream_of(obj))
        await self._observer.is_now(obj)

    async def gone(self, key: ObjectKey, uid: str) -> None:
        await self._observer.is_gone(key, uid)

    async def interrupted(self, why: str) -> None:
        await self._observer.interrupted(self._kind, why)

    async def resumed(self) -> None:
        if self._listed is None:
            await self._observer.resumed(self._kind)
            return
        listed, self._listed = self._listed, None
        await self._observer.compare(self._kind, listed, self._label)
        await self._observer.seen_again(self._kind)


def _kind_name(kind: Kind) -> str:
    return _named(kind.group, kind.kind)


def _named(group: str, kind: str) -> str:
    return f"{group or 'core'}/{kind}"


def _by(drifted: Sequence[FieldDrift]) -> Actor | None:
    """Who drifted the fields, where that is known."""
    names = [field.manager for field in drifted if field.manager]
    return _manager(names[0]) if names else None


def _writer(obj: KubeObject, owner: StreamName) -> Actor:
    """Who wrote last, by the field manager's name: an inference, and said to be one.

    Within the same second, of which the server tells no more, it was not ourselves: our own writes are no news.
    """
    entries, ours = obj["metadata"].get("managedFields") or (), _applier_of(owner)
    latest = max(entries, key=lambda entry: (entry.get("time") or "", entry.get("manager") != ours), default=None)
    return _manager((latest or {}).get("manager"))


def _manager(name: str | None = None) -> Actor:
    return Actor(kind="manager", name=name or "unknown", proof=Proof(kind="inferred"))
