"""Stores for tests: filled with a random but sensible log, and all that can be read of one."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random

import anyio
import msgspec

from tidelog.events.bodies import Body, BodyRef
from tidelog.events.digest import Digest, digest_of, keyed_digest_of
from tidelog.events.envelope import ENGINE, Actor, Proof
from tidelog.events.merkle import TILE_WIDTH, fold
from tidelog.events.moment import Time, time_of
from tidelog.events.names import EventId, ObjectId, PlanId, Revision, RunId, StreamName, TraceId, uuid7
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    BlastRadius,
    DriftDetected,
    Event,
    FieldDrift,
    HealthChanged,
    Marked,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
    Pinned,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    ReleaseActionStarted,
    ReleaseDriftChanged,
    ReleaseHistoryCleared,
    Rendered,
    Resumed,
    RevisionFetched,
    RevisionRejected,
    RevisionSettled,
    SourceDeclared,
    SourceRemoved,
    StageFailed,
    Suspended,
    TargetDeclared,
    TargetRemoved,
    Tool,
    Unpinned,
    Verdict,
    VerificationFailed,
)
from tidelog.storage.layout import Layout
from tidelog.storage.log import ANY, NewEvent, Query, StreamAppend
from tidelog.storage.log.identity import identity_of
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.sqlite_log import SqliteEventLog, open_log
from tidelog.storage.log.tile_macs import mac_key, mac_of
from tidelog.storage.projections.views import open_views
from tidelog.storage.proofs.prover import Prover
from tidelog.storage.proofs.verify import Report, verify_store

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
OBJECTS = [ObjectId(f"apps/Deployment/shop/web-{number}") for number in range(6)]
TARGETS = [
    StreamName(f"east/kustomize.toolkit.fluxcd.io/Kustomization/flux-system/target-{number}") for number in range(3)
]
SOURCES = [StreamName(f"east/source.toolkit.fluxcd.io/GitRepository/flux-system/source-{n}") for n in range(2)]
ADA = Actor(kind="user", name="ada", proof=Proof(kind="authenticated", by="kubernetes"))
KEY = b"k" * 32


class Ticking:
    """A clock that a second passes on each time it is looked at."""

    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self) -> Time:
        self.seconds += 1
        return time_of(BEGIN + timedelta(seconds=self.seconds))


def plain(text: str) -> Body:
    return Body.of(text.encode())


def secret(text: str) -> Body:
    ciphertext = sha256(text.encode()).digest() * 3
    reference = BodyRef(
        digest=keyed_digest_of(text.encode(), KEY), size=len(text), secret=True, stored=digest_of(ciphertext)
    )
    return Body(ref=reference, data=ciphertext)


class History:
    """Appends as an engine would make them: the same ones for the same seed."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._runs: list[tuple[RunId, TraceId]] = []
        self._known: list[EventId] = []
        self._count = 0

    def next(self) -> tuple[StreamAppend, list[Body]]:
        """An append of one event, with the bodies that it names."""
        random = self._random
        self._count += 1
        bodies: list[Body] = []

        def body() -> BodyRef:
            text = f"body {random.randrange(40)} " * random.choice([1, 3, 30])
            bodies.append(secret(text) if random.random() < 0.2 else plain(text))
            return bodies[-1].ref

        stream, event = self._event(body)
        known = self._known
        run, trace = self._correlation()
        occurred = None
        if isinstance(event, ObjectObserved) and random.random() < 0.8:
            occurred = time_of(BEGIN + timedelta(seconds=random.randrange(-100, max(1, self._count))))
        new = NewEvent(
            event,
            actor=random.choice([ENGINE, ADA]),
            id=EventId(uuid7(random.getrandbits(40), random.randbytes(10))),
            occurred=occurred,
            run=run,
            trace=trace,
            cause=random.choice(known) if known and random.random() < 0.4 else None,
        )
        assert new.id is not None
        known.append(new.id)
        return StreamAppend(stream, ANY, [new]), bodies

    def _correlation(self) -> tuple[RunId | None, TraceId | None]:
        random = self._random
        if not self._runs or random.random() < 0.1:
            self._runs.append((RunId(self._uuid()), TraceId(self._uuid())))
        run, trace = random.choice(self._runs[-4:])
        return random.choice([(run, trace), (run, trace), (run, trace), (None, trace), (run, None), (None, None)])

    def _uuid(self) -> str:
        return uuid7(self._random.getrandbits(40), self._random.randbytes(10))

    def _event(self, body: Callable[[], BodyRef]) -> tuple[StreamName, Event]:
        random = self._random
        target, source, thing = random.choice(TARGETS), random.choice(SOURCES), random.choice(OBJECTS)
        observed = StreamName(f"east/{thing}")
        revision = Revision(f"main@sha1:{random.randrange(8):040x}")
        plan, some, why = PlanId(f"plan-{random.randrange(5)}"), digest_of(random.randbytes(1)), f"why {self._count}"
        uid, version = f"uid-{random.randrange(3)}", str(self._count)
        makers: list[tuple[int, StreamName, type[Event], dict[str, object]]] = [
            (2, source, SourceDeclared, {"uid": uid, "generation": self._count, "spec": ...}),
            (1, source, SourceRemoved, {"uid": uid}),
            (2, target, TargetDeclared, {"uid": uid, "generation": self._count, "spec": ...}),
            (1, target, TargetRemoved, {"uid": uid}),
            (2, source, RevisionFetched, {"revision": revision, "tree": "0" * 40, "artifact": some, "size": 7}),
            (1, source, RevisionSettled, {"revision": revision, "targets": (target,)}),
            (
                2,
                target,
                Rendered,
                {
                    "revision": revision,
                    "inputs": some,
                    "read_set": ...,
                    "toolchain": (Tool("kustomize", "5.6.0"),),
                    "set": some,
                    "objects": ...,
                    "count": random.randrange(9),
                },
            ),
            (
                1,
                target,
                Planned,
                {"plan": plan, "revision": revision, "set": some, "waves": ..., "blast_radius": BlastRadius(create=1)},
            ),
            (1, target, PlanHeld, {"plan": plan, "check": "blast-radius", "why": why}),
            (1, target, PlanApproved, {"plan": plan, "why": why}),
            (1, target, PlanRejected, {"plan": plan, "why": why}),
            (
                1,
                target,
                VerificationFailed,
                {"plan": plan, "policies": some, "failed": (Verdict(check="c", passed=False, message=why),)},
            ),
            (
                6,
                target,
                ObjectApplied,
                {
                    "plan": plan,
                    "object": thing,
                    "uid": uid,
                    "resource_version": version,
                    "action": "configured",
                    "wave": 0,
                    "desired": some,
                    "state": ...,
                },
            ),
            (
                3,
                target,
                ObjectPruned,
                {
                    "plan": plan,
                    "object": thing,
                    "uid": uid,
                    "outcome": random.choice(["deleted", "absent", "skipped"]),
                },
            ),
            (1, target, ApplyFailed, {"plan": plan, "wave": 0, "reason": "r", "message": why}),
            (1, target, ApplyFinished, {"plan": plan, "revision": revision, "set": some, "created": 2}),
            (
                6,
                observed,
                ObjectObserved,
                {"uid": uid, "resource_version": version, "state": ..., "health": random.choice(["Current", "Failed"])},
            ),
            (2, observed, ObjectObserved, {"uid": uid, "resource_version": version, "gone": True}),
            (
                2,
                observed,
                DriftDetected,
                {
                    "target": target,
                    "uid": uid,
                    "resource_version": version,
                    "fields": (FieldDrift(path="spec.replicas", manager="hpa"),),
                    "gone": random.random() < 0.3,
                },
            ),
            (2, observed, HealthChanged, {"health": random.choice(["InProgress", "Failed"]), "message": why}),
            (1, target, HealthChanged, {"health": "Failed"}),
            (1, target, Suspended, {"why": why}),
            (1, target, Resumed, {}),
            (1, target, Pinned, {"set": some, "position": self._count, "left": revision, "why": why}),
            (1, target, Unpinned, {"why": why}),
            (1, target, RevisionRejected, {"revision": revision, "why": why}),
            (
                1,
                target,
                StageFailed,
                {"stage": "render", "reason": "r", "final": False, "message": why, "repeats": random.random() < 0.3},
            ),
            (
                3,
                target,
                ReleaseActionStarted,
                {
                    "action": random.choice(["install", "upgrade", "test"]),
                    "name": "web",
                    "namespace": "apps",
                    "storage_namespace": "apps",
                    "version": self._count,
                    "chart_name": "web",
                    "chart_version": version,
                    "record": ...,
                },
            ),
            (2, target, ReleaseDriftChanged, {"drifted": random.random() < 0.5, "message": why}),
            (1, target, ReleaseHistoryCleared, {"why": why}),
            (1, target, Marked, {"label": "déploiement \U0001f30a", "why": why}),
        ]
        (_, stream, payload, fields) = random.choices(makers, [weight for weight, *_ in makers])[0]
        return stream, payload(**{name: body() if value is ... else value for name, value in fields.items()})


async def fill(log: SqliteEventLog, history: History, until: int, at_once: int = 40) -> None:
    """Appends until the log has so many events."""
    while (missing := until - await log.head()) > 0:
        made = [history.next() for _ in range(min(missing, at_once))]
        bodies = {body.ref.digest: body for _, bodies in made for body in bodies}
        await log.append_all([append for append, _ in made], bodies=list(bodies.values()))


async def make_store(directory: Path, seed: int, sizes: tuple[int, ...], *, views: bool = True) -> None:
    """A store with a random log, which is closed, and so keeps a checkpoint, at each of `sizes`."""
    history, clock = History(Random(seed)), Ticking()
    for size in sizes:
        async with open_log(directory, clock=clock) as log:
            await fill(log, history, size)
            if views:
                async with open_views(log):
                    pass


def add_macs(directory: Path, tiles: Iterable[int] = (0, 1), key: bytes | None = None) -> None:
    """Gives tiles the MACs that a writer gives them which has written them from their beginning; or by another key."""
    layout = Layout(directory)
    key = key or mac_key(layout.key)
    with closing(sqlite3.connect(layout.log, isolation_level=None)) as database:
        for tile in tiles:
            rows = database.execute(_DERIVED, (tile * TILE_WIDTH, (tile + 1) * TILE_WIDTH)).fetchall()
            leaves, *columns = zip(*rows, strict=True)
            mac = mac_of(key, tile, fold(leaves), columns)
            database.execute("INSERT OR REPLACE INTO tile_macs VALUES (?, ?)", (tile, mac))


_DERIVED = """
SELECT leaf, id, stream, version, type, correlation, cause FROM events WHERE position > ? AND position <= ?
ORDER BY position
"""


def file_hashes(directory: Path) -> dict[str, str]:
    """The files of a directory and the hashes of what they hold."""
    return {
        str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def all_queries(reader: LogReader) -> Iterator[Query]:
    """Every kind of query, with every value that occurs."""
    envelopes = [recorded.envelope for recorded in reader.page(Query())]
    yield Query()
    yield Query(after=len(envelopes) // 3, until=len(envelopes) // 2)
    yield from (Query(stream=stream) for stream in sorted({envelope.stream for envelope in envelopes}))
    types = sorted({envelope.type for envelope in envelopes})
    yield from (Query(types=(name,)) for name in types)
    yield Query(types=tuple(types[::2]))
    yield from (Query(run=run) for run in sorted({e.run for e in envelopes if e.run}))
    yield from (Query(trace=trace) for trace in sorted({e.trace for e in envelopes if e.trace}))
    yield from (Query(cause=cause) for cause in sorted({e.cause for e in envelopes if e.cause}))


class Readable(msgspec.Struct):
    """All that can be read of a log through the API."""

    events: dict[Query, list[bytes]]
    positions: dict[str, int | None]
    singles: list[object]
    bodies: dict[Digest, Body]
    streams: list[str]
    types: list[tuple[str, int]]
    leaves: list[bytes]
    nodes: dict[int, bytes]
    root: bytes
    checkpoints: list[tuple[int, str]]
    identity: object
    counts: dict[str, int]
    proofs: list[object]


class Known(msgspec.Struct):
    """What is asked of a store: every kind of query, and every event's id."""

    queries: list[Query]
    ids: list[EventId]


def known_of(directory: Path) -> Known:
    reader = LogReader(Layout(directory).log)
    try:
        return Known(list(all_queries(reader)), [recorded.envelope.id for recorded in reader.page(Query())])
    finally:
        reader.close()


def read_all(directory: Path, known: Known, *, proofs: bool = True) -> Readable:
    """Reads everything.

    Raises:
        StoreError: when something cannot be read.
    """
    layout = Layout(directory)
    reader = LogReader(layout.log)
    try:
        head = reader.head()
        page = reader.page(Query(), 10_000)
        return Readable(
            events={query: reader.entries(query, 10_000) for query in known.queries},
            positions={event_id: reader.position_of(event_id) for event_id in known.ids},
            singles=[
                *(recorded.event for recorded in page),
                *(reader.event(position) for position in range(0, head + 2, 17)),
                *(reader.position_at(page[at].envelope.time) for at in range(0, len(page), 41)),
                *(next(reader.last_pages(query, 3), []) for query in known.queries[::7]),
            ],
            bodies={
                **{stored.digest: reader.body(stored.digest) for stored in reader.stored_bodies()},
            },
            streams=reader.stream_names(),
            types=reader.types(),
            leaves=reader.hashes(0, 0, head + 1),
            nodes=reader.nodes(1),
            root=reader.tree().root(),
            checkpoints=reader.checkpoints(),
            identity=identity_of(reader),
            counts={
                table: reader.count(table)
                for table in ("events", "bodies", "streams", "types", "correlations", "nodes", "checkpoints")
            },
            proofs=_proofs(layout, head) if proofs else [],
        )
    finally:
        reader.close()


def _proofs(layout: Layout, head: int) -> list[object]:
    prover = Prover(layout)
    try:
        return [
            prover.checkpoint(),
            *(prover.inclusion(position) for position in (1, head // 2, head)),
            *(prover.consistency(old, head) for old in (1, head // 3, head - 1)),
        ]
    finally:
        prover.close()


def verified(
    store: Path,
    *,
    checkpoint: str | None = None,
    vkey: str | None = None,
    workers: int | None = None,
) -> Report:
    """What a verification of the store reports, for tests without a loop."""
    return anyio.run(partial(verify_store, store, checkpoint=checkpoint, vkey=vkey, workers=workers))
