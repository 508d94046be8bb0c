"""Verification of a whole store: whether what can be read is what was written, and what is not, by name.

Nothing is repaired. The tree's root is derived again from the stored envelopes and held against every signed
checkpoint that the store kept, and against one that was kept elsewhere, if it is given: only that one can show
a log that was rewritten as a whole, by someone who had its key.
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from tidelog.events.merkle import TILE_BITS, TILE_WIDTH, fold, root_of
from tidelog.events.note import Checkpoint, NoteError, VerifierKey, open_checkpoint
from tidelog.events.projections import PROJECTIONS
from tidelog.events.tiles import tile_path
from tidelog.events.vocabulary import LogCreated, LogRestored
from tidelog.storage.errors import StoreError
from tidelog.storage.identity import LogIdentity
from tidelog.storage.layout import Layout
from tidelog.storage.log import Query
from tidelog.storage.reader import LogReader
from tidelog.storage.verify_range import Finding, Part, PartResult, verify_part
from tidelog.storage.view_store import ViewStore

PART_EVENTS = 256 * TILE_WIDTH
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
    key = VerifierKey.parse(vkey) if vkey else None
    size, views = await anyio.to_thread.run_sync(_extent, layout)
    parts = _parts(size, views=views)
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
            while self._waiting:
                self._done(await anyio.to_thread.run_sync(verify_part, self._directory, self._waiting.popleft()))
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
        command = [sys.executable, "-m", "tidelog.storage.verify_range", str(self._directory)]
        async with await anyio.open_process(command, stderr=None) as process:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("a worker without pipes")
            answers = BufferedByteReceiveStream(process.stdout)
            while self._waiting:
                part = self._waiting.popleft()
                try:
                    await process.stdin.send(msgspec.json.encode(part) + b"\n")
                    answer = await answers.receive_until(b"\n", ANSWER_BYTES_MAX)
                except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                    self._done(_lost(part, await process.wait()))
                    return
                self._done(msgspec.json.decode(answer, type=PartResult))
            await process.stdin.aclose()

    def _done(self, result: PartResult) -> None:
        self.results.append(result)
        if result.part.kind == "events":
            self._verified += result.part.last - result.part.first + 1
            if self._progress is not None:
                self._progress(self._verified, self._size)


def _extent(layout: Layout) -> tuple[int, bool]:
    """How many events are to be verified, and whether there are projections."""
    reader = LogReader(layout.log)
    try:
        return reader.head(), layout.views.exists()
    finally:
        reader.close()


def _parts(size: int, *, views: bool) -> list[Part]:
    """The work, the longest first."""
    events = [Part("events", first, min(first + PART_EVENTS - 1, size)) for first in range(1, size + 1, PART_EVENTS)]
    return [Part("log"), Part("bodies"), *([Part("views")] if views else []), *events]


def _lost(part: Part, code: int) -> PartResult:
    """The result of a part of which a worker died."""
    what = f"events {part.first} to {part.last}" if part.kind == "events" else part.kind
    problem = f"a worker died (exit code {code}) while it read them"
    return PartResult(part=part, findings=[Finding(what, problem)], roots=[], rest=None)


def _conclude(
    layout: Layout, size: int, results: list[PartResult], checkpoint: str | None, key: VerifierKey | None
) -> Report:
    """What the parts say together."""
    events = sorted((result for result in results if result.part.kind == "events"), key=lambda r: r.part.first)
    findings = [finding for result in sorted(results, key=_order) for finding in result.findings]
    findings += _seams(events)
    reader = LogReader(layout.log)
    try:
        tree = _Tree(reader, size, events)
        findings += tree.check_nodes()
        identities = _identities(reader, size)
        checked = [_check(tree, identities, note, at) for at, note in reader.checkpoints() if at <= size]
        if checkpoint is not None:
            checked.append(_check_kept(tree, identities, checkpoint, key))
        root = tree.root(size)
    finally:
        reader.close()
    findings += [finding for finding in checked if finding is not None]
    findings += _damaged_rows(layout)
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
    for result in events:
        if result.times is not None:
            if result.times[0] < time:
                findings.append(Finding(f"event {result.part.first}", f"its time is before {time}"))
            time = result.times[1]
        for stream, (first, last) in result.streams.items():
            if first != streams.get(stream, 0) + 1:
                problem = f"in {stream}, version {first} comes after {streams.get(stream, 0)}"
                findings.append(Finding(f"events from {result.part.first}", problem))
            streams[stream] = last
    return findings


class _Tree:
    """The tree over the envelopes as they were read, and not as it is stored."""

    def __init__(self, reader: LogReader, size: int, events: Sequence[PartResult]) -> None:
        self._reader = reader
        self.size = size
        self._roots = [root for result in events for root in result.roots]
        self._rest = events[-1].rest if events else []

    def root(self, size: int) -> bytes | None:
        """The root over the first `size` events; None where they could not all be read."""
        try:
            return root_of(size, self._subtree)
        except (LookupError, ValueError):
            return None

    def _subtree(self, level: int, number: int) -> bytes:
        if level < TILE_BITS:
            # Within a tile the stored leaves serve: each was found to be that of its envelope, or was named.
            if self._rest is None and number << level >= len(self._roots) * TILE_WIDTH:
                raise LookupError("events that could not be read")
            return self._reader.subtree(level, number)
        width = 1 << (level - TILE_BITS)
        roots = self._roots[number * width : (number + 1) * width]
        known = [root for root in roots if root is not None]
        if len(known) != width:
            raise LookupError("events that could not be read")
        return fold(known)

    def check_nodes(self) -> list[Finding]:
        """Every stored hash of the tree that is not what the envelopes give."""
        findings = []
        level, hashes = 1, list(self._roots)
        while hashes:
            stored = self._reader.nodes(level)
            for number, right in enumerate(hashes):
                if right is not None and stored.get(number) != right:
                    findings.append(_node_finding(level, number, "missing" if number not in stored else "altered"))
            findings += [
                _node_finding(level, number, "unexpected") for number in stored if not 0 <= number < len(hashes)
            ]
            hashes = [
                _fold_known(hashes[i : i + TILE_WIDTH]) for i in range(0, len(hashes) - TILE_WIDTH + 1, TILE_WIDTH)
            ]
            level += 1
        findings += [_node_finding(above, number, "unexpected") for above, number in self._reader.nodes_from(level)]
        return findings


def _fold_known(hashes: Sequence[bytes | None]) -> bytes | None:
    known = [value for value in hashes if value is not None]
    return fold(known) if len(known) == len(hashes) else None


def _node_finding(level: int, number: int, problem: str) -> Finding:
    return Finding(tile_path(level, number // TILE_WIDTH), f"its hash {number % TILE_WIDTH} is {problem}")


def _identities(reader: LogReader, size: int) -> list[LogIdentity]:
    """Every incarnation of the log, by its own events."""
    events = (recorded.event for recorded in reader.page(Query(types=("LogCreated", "LogRestored"), until=size)))
    return [
        LogIdentity(event.log, event.incarnation, event.vkey)
        for event in events
        if isinstance(event, LogCreated | LogRestored)
    ]


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
    return _compare(tree, checkpoint, name)


def _compare(tree: _Tree, checkpoint: Checkpoint, name: str) -> Finding | None:
    if checkpoint.size > tree.size:
        return Finding(name, f"it is of {checkpoint.size} events, the log has {tree.size}: its end was cut off")
    root = tree.root(checkpoint.size)
    if root is None:
        return Finding(name, "cannot be held against the log: events before it could not be read")
    if root != checkpoint.root:
        return Finding(name, f"the first {checkpoint.size} events are not those that were signed")
    return None


def _damaged_rows(layout: Layout) -> list[Finding]:
    """Rows of projections that are not what was written."""
    try:
        views = ViewStore.to_read(layout.views)
    except StoreError as error:
        return [Finding("views.db", str(error))]
    if views is None:
        return []
    try:
        return [
            Finding(f"projection {table}, row {key}", "its checksum differs")
            for projection in PROJECTIONS
            for table, key in views.damaged_rows(projection)
        ]
    except StoreError as error:
        return [Finding("views.db", str(error))]
    finally:
        views.close()
