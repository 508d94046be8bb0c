"""Producers for the questions about appends: each with a target and an object of its own."""

from random import Random

from bench.workload import CLUSTER, POOL, SEED, Fleet, uid
from tidelog.events.bodies import Body
from tidelog.events.digest import digest_of
from tidelog.events.names import EventId, PlanId, RunId, TraceId, object_stream
from tidelog.events.vocabulary import ObjectApplied, ObjectObserved
from tidelog.storage.log import ANY, NewEvent, StreamAppend
from tidelog.storage.log.ids import new_id
from tidelog.storage.log.sqlite_log import SqliteEventLog

EVENTS_PER_RUN = 12


class Producer:
    """Makes observations of an object and applies of it, in turn, one event at a time."""

    def __init__(self, number: int) -> None:
        target = Fleet(0).targets[number % 10]
        self._item = target.objects[0]
        self._target = type(target.stream)(f"{target.stream}-{number}")
        self._object = object_stream(CLUSTER, self._item)
        self._uid = uid(Random(SEED + number))
        self._state = POOL.ref("state", number)
        self._count = 0
        self._version = 0
        self._run, self._trace = RunId(new_id()), TraceId(new_id())
        self._cause: EventId | None = None

    @property
    def body(self) -> Body:
        """What the events name; to be stored before."""
        return POOL.body(self._state)

    def next(self) -> StreamAppend:
        """The next event, for its stream."""
        self._count += 1
        version = str(1_000_000 + self._count)
        if self._count % 2:
            seen = ObjectObserved(uid=self._uid, resource_version=version, state=self._state, health="Current")
            return StreamAppend(self._object, ANY, [NewEvent(seen, id=new_id())])
        if self._version % EVENTS_PER_RUN == 0:
            self._run, self._trace = RunId(new_id()), TraceId(new_id())
        applied = ObjectApplied(
            plan=PlanId(digest_of(self._run.encode())),
            object=self._item,
            uid=self._uid,
            resource_version=version,
            action="configured",
            wave=0,
            desired=self._state.digest,
            state=self._state,
        )
        new = NewEvent(applied, id=new_id(), run=self._run, trace=self._trace, cause=self._cause)
        self._cause = new.id
        self._version += 1
        return StreamAppend(self._target, self._version - 1, [new])


async def prepared(log: SqliteEventLog, count: int) -> list[Producer]:
    """Producers whose bodies are in the log."""
    producers = [Producer(number) for number in range(count)]
    for producer in producers:
        await log.append_all([producer.next()], bodies=[producer.body])
    return producers
