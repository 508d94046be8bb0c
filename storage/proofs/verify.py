"""Verification of a whole store: whether what can be read is what was written, and what is not, by name.

Nothing is repaired. The tree's root is derived again from the stored envelopes and held against every signed
checkpoint that the store kept, and against one that was kept elsewhere, if it is given: only that one can show
a log that was rewritten as a whole, by someone who had its key.
"""

import base64
import os
import sqlite3
import sys
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from tidelog.events.merkle import TILE_BITS, TILE_WIDTH, fold, node_hash, root_of
from tidelog.events.note import Checkpoint, NoteError, VerifierKey, open_checkpoint
from tidelog.events.tiles import tile_path
from tidelog.events.typed import decoder
from tidelog.storage.connection import LOG, connect_to_read
from tidelog.storage.errors import StoreError
from tidelog.storage.keys import damaged_keys
from tidelog.storage.layout import Layout, holder_of
from tidelog.storage.log import Query
from tidelog.storage.log.identity import LogIdentity, births_in, identity_of, load_signer
from tidelog.storage.log.lost_commits import lost_commits
from tidelog.storage.log.reader import LogReader
from tidelog.storage.log.tile_index import tile_of
from tidelog.storage.proofs.parts import Finding, Part, PartResult
from tidelog.storage.proofs.tables import SharedTables
from tidelog.storage.proofs.verify_part import PartVerifier
from tidelog.storage.proofs.verify_tiles import TILES, stray_entries

PART_EVENTS = 128 * TILE_WIDTH
"""Events of one part of the work."""
IN_PROCESS_EVENTS_MAX = 20_000
"""A smaller log is verified sooner than a process is started."""

ANSWER_BYTES_MAX = 256 * 2**20
"""Of one part: the largest names every stream there is."""

Progress = Callable[[int, int], None]
"""Called with the number of events verified and of all."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    events: int
    bodies: int
    root: str | None
    """Hex of the root that was derived from the envelopes; None where not all could be read."""
    checkpoints: int
    """Signed checkpoints that were held against the tree."""
    findings: tuple[Finding, ...]

    @property
    def intact(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


async def verify_store(
    directory: Path | str,
    *,
    checkpoint: str | None = None,
    vkey: str | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Report:
    """Verifies the store in `directory`, which may be in use.

    Args:
        directory: of the store.
        checkpoint: a signed note of this log that was kept elsewhere.
        vkey: the key that is trusted to have signed it; otherwise the one that the log itself names.
        progress: told of the progress.
        workers: processes; as many as there are cores, if not given.

    Raises:
        StoreError: when there is no store that can be opened at all.
        NoteError: when `checkpoint` or `vkey` is malformed.
    """
    layout = Layout(directory)
    key = None if vkey is None else VerifierKey.parse(vkey)
    extent = await anyio.to_thread.run_sync(_extent, layout)
    # Who brings proof from elsewhere need not believe whoever has the log's key.
    parts = _parts(extent.size, views=extent.views, macs=extent.macs and checkpoint is None and key is None)
    size = extent.size
    results = await _Work(layout.directory, parts, size, progress).run(workers or os.cpu_count() or 1)
    return await anyio.to_thread.run_sync(_conclude, layout, size, results, checkpoint, key)


class _Work:
    """Parts of a verification, and the workers that take them."""

    def __init__(self, directory: Path, parts: Sequence[Part], size: int, progress: Progress | None) -> None:
        self._directory = directory
        self._waiting = deque(parts)
        self._size = size
        self._progress = progress
        self._verified = 0
        self.results: list[PartResult] = []

    async def run(self, workers: int) -> list[PartResult]:
        if self._size <= IN_PROCESS_EVENTS_MAX:
            verifier = PartVerifier(self._directory)
            while self._waiting:
                self._done(await anyio.to_thread.run_sync(verifier.verify, self._waiting.popleft()))
            return self.results
        async with anyio.create_task_group() as tasks:
            for _ in range(min(workers, len(self._waiting))):
                tasks.start_soon(self._worker)
        return self.results

    async def _worker(self) -> None:
        while self._waiting:
            await self._process()

    async def _process(self) -> None:
        """Has one process take parts, until there are none or it dies of one."""
        command = [sys.executable, "-P", "-m", "tidelog.storage.proofs.verify_worker", str(self._directory)]
        async with await anyio.open_process(command, stderr=None) as process:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("a worker without pipes")
            answers = BufferedByteReceiveStream(process.stdout)
            while self._waiting:
                part = self._waiting.popleft()
                try:
                    await process.stdin.send(msgspec.json.encode(part) + b"\n")
                    answer = await answers.receive_until(b"\n", ANSWER_BYTES_MAX)
                    result = decoder(PartResult)(answer)
                except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                    self._done(_lost(part, await process.wait()))
                    return
                except (anyio.DelimiterNotFound, msgspec.DecodeError):
                    with suppress(ProcessLookupError):
                        process.kill()
                    self._done(_lost(part, await process.wait()))
                    return
                self._done(result)
            await process.stdin.aclose()

    def _done(self, result: PartResult) -> None:
        self.results.append(result)
        if result.part.kind == "events":
            self._verified += result.part.last - result.part.first + 1
            if self._progress is not None:
                self._progress(self._verified, self._size)


class _Extent(NamedTuple):
    """What is to be verified."""

    size: int
    """Events."""
    views: bool
    """Whether there are projections."""
    macs: bool
    """Whether the log's key is here, and so the MACs of tiles tell something."""


def _extent(layout: Layout) -> _Extent:
    reader = LogReader(layout.log)
    try:
        return _Extent(reader.head(), layout.views.exists(), _has_key(layout, reader))
    finally:
        reader.close()


def _has_key(layout: Layout, reader: LogReader) -> bool:
    with suppress(StoreError):
        identity = identity_of(reader)
        return identity is not None and load_signer(layout.key, identity) is not None
    return False


def _parts(size: int, *, views: bool, macs: bool) -> list[Part]:
    """The work, the longest first; the last events in smaller parts, so that no worker is waited for at the end."""
    first, events = 1, []
    while first <= size:
        share = PART_EVENTS if size - first >= 2 * PART_EVENTS else max(PART_EVENTS // 4, TILE_WIDTH)
        events.append(Part("events", first, min(first + share - 1, size), macs))
        first += share
    return [Part("log", last=size), Part("bodies"), *([Part("rows"), Part("views")] if views else []), *events]


def _lost(part: Part, code: int) -> PartResult:
    """The result of a part of which a worker died."""
    what = f"events {part.first} to {part.last}" if part.kind == "events" else part.kind
    problem = f"a worker died (exit code {code}) while it read them"
    lost = part.last - part.first + 1 if part.kind == "events" else 0
    return PartResult(part=part, findings=[Finding(what, problem)], rest=None, lost=lost)


def _conclude(
    layout: Layout, size: int, results: list[PartResult], checkpoint: str | None, key: VerifierKey | None
) -> Report:
    """What the parts say together."""
    events = sorted((result for result in results if result.part.kind == "events"), key=lambda r: r.part.first)
    findings = [finding for result in sorted(results, key=_order) for finding in result.findings]
    findings += _seams(events)
    findings += _stray_entries(layout, size, results, findings)
    findings += _lost_commits(layout)
    reader = LogReader(layout.log)
    try:
        tree = _Tree(reader, size, events)
        findings += tree.check_nodes()
        identities = _identities(reader, tree, findings)
        kept = _kept_checkpoints(reader, size, findings)
        checked = [_check(tree, identities, note, at) for at, note in kept]
        if checkpoint is not None:
            checked.append(_check_kept(tree, identities, checkpoint, key))
        elif key is not None:
            findings += _check_key(identities, key)
        root = tree.root(size)
    finally:
        reader.close()
    findings += [finding for finding in checked if finding is not None]
    findings += [Finding(f"keys/{path.name}", why) for path, why in damaged_keys(layout)]
    return Report(
        events=sum(result.count for result in events),
        bodies=sum(result.count for result in results if result.part.kind == "bodies"),
        root=None if root is None else root.hex(),
        checkpoints=len(checked),
        findings=tuple(findings),
    )


def _order(result: PartResult) -> tuple[bool, str, int]:
    return result.part.kind != "events", result.part.kind, result.part.first


def _seams(events: Sequence[PartResult]) -> list[Finding]:
    """Where one part does not go on from the one before it."""
    findings = []
    time = ""
    streams: dict[str, int] = {}
    lost = 0
    for result in events:
        if result.times is not None:
            if result.times[0] < time:
                findings.append(Finding(f"event {result.part.first}", f"its time is before {time}"))
            time = result.times[1]
        result.lost += lost
        for stream, (first, last) in result.streams.items():
            if first != streams.get(stream, 0) + 1 and not result.explains(first, streams.get(stream, 0)):
                problem = f"in {stream}, version {first} comes after {streams.get(stream, 0)}"
                findings.append(Finding(f"events from {result.part.first}", problem))
            streams[stream] = last
        lost = result.lost
    return findings


def _stray_entries(
    layout: Layout, size: int, results: Sequence[PartResult], findings: Sequence[Finding]
) -> list[Finding]:
    """Entries of indexes of tiles that no event calls for; they are looked for where there are more than are due.

    In a tile of which an event was named, they are a consequence.
    """
    due: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for result in results:
        (due if result.part.kind == "events" else there).update(result.tile_entries)
    if due == there:
        return []
    try:
        with closing(connect_to_read(layout.log, LOG)) as connection:
            named = {tile_of(at) for at in map(_position, findings) if at is not None}
            return stray_entries(SharedTables(connection), range(TILES.start, size // TILE_WIDTH), named)
    except (StoreError, sqlite3.DatabaseError) as error:
        return [Finding("log.db", f"its indexes of tiles cannot be held against the events: {error}")]


def _lost_commits(layout: Layout) -> list[Finding]:
    """Commits that SQLite does not read any more. A writer at work knows them, and changes the file meanwhile."""
    if holder_of(layout) is not None:
        return []
    file = layout.write_ahead_log
    try:
        lost = lost_commits(file)
    except OSError as error:
        return [Finding(file.name, f"cannot be read: {error.strerror}")]
    if lost is None or holder_of(layout) is not None:
        return []
    return [Finding(f"{file.name}, {lost.place}", lost.problem)]


def _position(finding: Finding) -> int | None:
    """That of the event which it names."""
    kind, _, number = finding.what.partition(" ")
    return int(number) if kind == "event" else None


class _Tree:
    """The tree over the envelopes as they were read, and not as it is stored."""

    def __init__(self, reader: LogReader, size: int, events: Sequence[PartResult]) -> None:
        self._reader = reader
        self.size = size
        self._roots = [root for result in events for root in _roots_of(result)]
        self._rest = events[-1].rest if events else []
        self._known: dict[tuple[int, int], bytes] = {}
        """Subtrees above the tiles: the checkpoints share nearly all of them."""

    def root(self, size: int) -> bytes | None:
        """The root over the first `size` events; None where they could not all be read."""
        try:
            return root_of(size, self._subtree)
        except (LookupError, ValueError, StoreError):
            return None

    def _subtree(self, level: int, number: int) -> bytes:
        if level < TILE_BITS:
            # Within a tile the stored leaves serve: each was found to be that of its envelope, or was named.
            tile = (number << level) // TILE_WIDTH
            if (self._roots[tile] if tile < len(self._roots) else self._rest) is None:
                raise LookupError("events that could not be read")
            return self._reader.subtree(level, number)
        if level == TILE_BITS:
            root = self._roots[number]
            if root is None:
                raise LookupError("events that could not be read")
            return root
        if (level, number) not in self._known:
            halves = (self._subtree(level - 1, 2 * number), self._subtree(level - 1, 2 * number + 1))
            self._known[level, number] = node_hash(*halves)
        return self._known[level, number]

    def check_nodes(self) -> list[Finding]:
        """Every stored hash of the tree that is not what the envelopes give."""
        try:
            return self._check_nodes()
        except StoreError as error:
            return [Finding("log.db, table nodes", f"cannot be read: {error}")]

    def _check_nodes(self) -> list[Finding]:
        findings = []
        level, hashes = 1, list(self._roots)
        while hashes:
            stored = self._reader.nodes(level)
            for number, right in enumerate(hashes):
                if right is not None and stored.get(number) != right:
                    findings.append(_node_finding(level, number, "missing" if number not in stored else "altered"))
            hashes = [
                _fold_known(hashes[i : i + TILE_WIDTH]) for i in range(0, len(hashes) - TILE_WIDTH + 1, TILE_WIDTH)
            ]
            level += 1
        return findings + self._unexpected_nodes()

    def _unexpected_nodes(self) -> list[Finding]:
        # The nodes are read before the head: a writer that goes on meanwhile adds none that the head does not cover.
        names = self._reader.nodes_from(1)
        head = self._reader.head()
        return [
            _node_finding(max(level, 0), max(number, 0), "unexpected")
            for level, number in names
            if level < 1 or not 0 <= number < head >> (TILE_BITS * level)
        ]


def _roots_of(result: PartResult) -> list[bytes | None]:
    """The roots of all full tiles of a part, also of those that were not looked at."""
    tiles = (result.part.last - result.part.first + 1) // TILE_WIDTH
    return result.roots + [None] * (tiles - len(result.roots))


def _fold_known(hashes: Sequence[bytes | None]) -> bytes | None:
    known = [value for value in hashes if value is not None]
    return fold(known) if len(known) == len(hashes) else None


def _node_finding(level: int, number: int, problem: str) -> Finding:
    return Finding(tile_path(level, number // TILE_WIDTH), f"its hash {number % TILE_WIDTH} is {problem}")


def _identities(reader: LogReader, tree: "_Tree", findings: list[Finding]) -> list[LogIdentity]:
    """Every incarnation of the log, by its own events; what only claims to be one is named."""
    births, strangers = births_in(_births(reader, tree.size))
    findings += [
        Finding(f"event {position}", "it claims to say which log this is, and was not made by the log")
        for position in strangers
    ]
    for birth in births:
        root = tree.root(birth.position - 1)
        if birth.root is not None and root is not None and birth.root != base64.b64encode(root).decode():
            findings.append(
                Finding(f"event {birth.position}", "the root that it names is not that of the events before")
            )
    return [birth.identity for birth in births]


def _births(reader: LogReader, size: int) -> Sequence[bytes]:
    """The events that tell the log's keys; read one by one where the index that finds them is damaged."""
    try:
        return reader.entries(Query(types=("LogCreated", "LogRestored"), until=size))
    except StoreError:
        pass
    found = []
    for position in range(1, size + 1):
        with suppress(StoreError):
            found += reader.entries(Query(after=position - 1, until=position))
    return [entry for entry in found if b'"type":"Log' in entry]


def _kept_checkpoints(reader: LogReader, size: int, findings: list[Finding]) -> list[tuple[int, str]]:
    """The checkpoints to be checked; those of a log that was longer than this one are named."""
    try:
        checkpoints = reader.checkpoints()
        head = reader.head()  # by now: a writer may have kept one in the meantime, with the events before it
        findings += [_cut_off(f"checkpoint {at}", at, head) for at, _ in checkpoints if at > head]
        return [(at, note) for at, note in checkpoints if at <= size]
    except StoreError as error:
        findings.append(Finding("log.db, table checkpoints", f"cannot be read: {error}"))
        return []


def _check(tree: _Tree, identities: Sequence[LogIdentity], note: str, size: int) -> Finding | None:
    """Whether a checkpoint that the store kept is signed by the log, and says what the tree says."""
    name = f"checkpoint {size}"
    try:
        checkpoint = open_checkpoint(note, [identity.verifier for identity in identities])
    except NoteError as error:
        return Finding(name, str(error))
    if checkpoint.size != size:
        return Finding(name, f"it is one of {checkpoint.size} events")
    return _compare(tree, checkpoint, name)


def _check_kept(tree: _Tree, identities: Sequence[LogIdentity], note: str, key: VerifierKey | None) -> Finding | None:
    """The same of a checkpoint that was kept elsewhere."""
    name = "the given checkpoint"
    try:
        checkpoint = open_checkpoint(note, [key] if key else [identity.verifier for identity in identities])
    except NoteError as error:
        return Finding(name, str(error))
    if checkpoint.origin not in [identity.origin for identity in identities]:
        return Finding(name, f"it is of {checkpoint.origin}, which is not this log")
    if checkpoint.size == 0:
        return Finding(name, "it is of an empty log, and so proves nothing")
    return _compare(tree, checkpoint, name)


def _check_key(identities: Sequence[LogIdentity], key: VerifierKey) -> list[Finding]:
    """Whether a trusted key is one that the log names."""
    if key.text in [identity.vkey for identity in identities]:
        return []
    return [Finding("the given key", "it is none that the log names")]


def _compare(tree: _Tree, checkpoint: Checkpoint, name: str) -> Finding | None:
    if checkpoint.size > tree.size:
        return _cut_off(name, checkpoint.size, tree.size)
    root = tree.root(checkpoint.size)
    if root is None:
        return Finding(name, "cannot be held against the log: events before it could not be read")
    if root != checkpoint.root:
        return Finding(name, f"the first {checkpoint.size} events are not those that were signed")
    return None


def _cut_off(name: str, signed: int, size: int) -> Finding:
    return Finding(name, f"it is of {signed} events, the log has {size}: its end was cut off")
