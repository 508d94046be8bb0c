"""The reconciliation of one source: asked at its interval, fetched when its answer is new.

An answer that is not new appends nothing.
"""

from collections.abc import Iterable, Mapping

import anyio
import anyio.to_thread

from tidelog.engine.kinds.externalartifact import ExternalArtifactSpec
from tidelog.engine.kinds.helmchart import HelmChartSpec
from tidelog.engine.kinds.helmrepository import HelmRepositorySpec
from tidelog.engine.kinds.later import UNSUPPORTED, features_left
from tidelog.engine.kinds.meta import FINALIZER
from tidelog.engine.kinds.registry import is_static, is_told
from tidelog.engine.kinds.statuses import stored
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.sources.drivers import driver_of
from tidelog.engine.runtime.run import Removed, Run, StageError, asking
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.suspension import still_suspended
from tidelog.engine.runtime.texts import first_of, pages_of
from tidelog.engine.runtime.watching.declared import DeclaredSource, chart_source_of, source_of
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.fetched import Fetched, Head
from tidelog.events.digest import Digest
from tidelog.events.names import StreamName
from tidelog.events.vocabulary import RevisionFetched, RevisionSettled, RunEnded, SourceRemoved
from tidelog.events.vocabulary.fetch import Annotation
from tidelog.storage.artifacts.errors import ObjectMissingError

SETTLED_BYTES_MAX = 32_768
"""Of the targets that one event names, in JSON."""
ANNOTATIONS_BYTES_MAX = 32_768
"""Of what an artifact says of itself that an event keeps, in JSON; a manifest may be larger than an event."""
STANDARD = "org.opencontainers.image."
STALLING = frozenset(
    {
        "URLInvalid",
        "InvalidProviderConfiguration",
        "FeatureGateDisabled",
        "InvalidSTSConfiguration",
        "InvalidChartReference",
        "MetadataPatchError",
        "ValuesFilesError",
    }
)
"""Failures that only another spec ends (Flux contract SC-003, HC-017)."""
EXTERNAL_INTERVAL_S = 600.0
"""How long at most until what could not be taken in is tried again; there is no interval in its spec."""


async def reconcile_source(engine: Engine, stream: StreamName, trigger: Trigger) -> float | None:
    """Makes one pass over a source; returns in how many seconds the next is due."""
    declared = engine.declared.source(stream)
    if declared is None:
        return None
    run = SourcePass(engine, declared, trigger)
    try:
        return await run.reconcile()
    except Removed:
        return None
    except StageError as error:
        return await run.failed(error)
    finally:
        engine.activity.end(stream)
        engine.status.answered(stream, declared.requested_at)
        engine.status.mark(stream)


def _annotations(metadata: Mapping[str, str]) -> tuple[Annotation, ...]:
    """What an artifact says of itself, as much of it as fits; first what has standard names."""
    names = sorted(metadata, key=lambda name: (not name.startswith(STANDARD), name))
    return first_of((Annotation(name=name, value=metadata[name]) for name in names), ANNOTATIONS_BYTES_MAX)


class SourcePass:
    """One pass over one source."""

    def __init__(self, engine: Engine, declared: DeclaredSource, trigger: Trigger) -> None:
        self._engine = engine
        self._declared = declared
        self._stream = declared.stream
        self._memory = engine.memory
        self._run = Run(engine.memory, declared.stream, trigger)
        self._driver = driver_of(engine, declared, self._run)

    async def reconcile(self) -> float | None:
        """The pass."""
        if self._declared.deleting:
            return await self._finalize()
        await self._own()
        suspended = await still_suspended(self._engine, self._declared)
        if suspended is not None:
            return suspended.again_s
        self._refuse()
        if is_static(self._declared.spec):
            return await self._let_be()
        self._engine.inputs.begin(self._stream)
        head = await self._ask()
        if head is not None and await self._is_new(head):
            fetched = await self._fetch(head)
            if fetched is not None:
                await self._settle(fetched)
        return await self._end(head)

    async def _finalize(self) -> float | None:
        if FINALIZER not in self._declared.finalizers:
            return None
        row = self._memory.desired.get(self._stream)
        await self._run.record([SourceRemoved(uid=self._declared.uid)])
        await self._collect(dropped=None if row is None else row.artifact)
        await asking("fetch", self._engine.declared.release(self._declared), "GitOperationFailed")
        return None

    # The stages.

    async def _own(self) -> None:
        """Marks the source as ours, be it suspended or not (Flux contract CM-054, SC-001)."""
        if is_told(self._declared.spec) and FINALIZER not in self._declared.finalizers and not self._declared.problems:
            await asking("fetch", self._engine.declared.claim(self._declared), "GitOperationFailed")

    def _refuse(self) -> None:
        left = (*self._declared.problems, *features_left(self._declared.spec))
        if left:
            reason = "InvalidSpec" if self._declared.problems else UNSUPPORTED
            raise StageError("declare", reason, "; ".join(left), final=True, stalled=True)

    async def _let_be(self) -> float | None:
        """Of what is static there is nothing to do (HP-002); while it had an index, it had a finalizer."""
        if FINALIZER in self._declared.finalizers:
            await asking("fetch", self._engine.declared.release(self._declared), "Failed")
        if self._run.standing.observed != self._declared.generation:
            self._wake_charts("its registry is declared anew")  # one that could not be had of what was said before
        return await self._end(None, "a registry, which is read when a chart is asked for")

    async def _ask(self) -> Head | None:
        self._engine.activity.begin(self._stream, "fetching", "")
        try:
            return await self._driver.ask()
        except FetchError as error:
            raise self._failed_to_fetch(error) from error

    async def _fetch(self, head: Head) -> Fetched | None:
        """Brings a revision into the store; None when nothing came of it but the file that was there before."""
        self._engine.activity.begin(self._stream, "fetching", head.revision)
        if self._stream in self._engine.lost:
            self._driver.forget()
        try:
            fetched = await self._driver.fetch(head)
        except FetchError as error:
            raise self._failed_to_fetch(error) from error
        row = self._memory.desired.get(self._stream)
        known = None if row is None else (row.revision, row.tree, row.artifact)
        if known == (fetched.revision, fetched.tree, fetched.artifact) and self._stream not in self._engine.lost:
            return None
        self._engine.lost.discard(self._stream)
        await self._run.record(
            [
                RevisionFetched(
                    revision=fetched.revision,
                    tree=fetched.tree,
                    artifact=fetched.artifact,
                    size=fetched.size,
                    author=fetched.author,
                    committer=fetched.committer,
                    message=fetched.message,
                    chart=fetched.chart,
                    signature=fetched.signature,
                    annotations=_annotations(fetched.metadata),
                    directory=self._driver.directory,
                )
            ]
        )
        if is_told(self._declared.spec):
            news = self._driver.news(fetched)
            self._engine.notices.fetched(self._declared, fetched, news.reason, news.message)
        await self._collect()
        self._wake_charts(f"revision {fetched.revision} of its source")
        return fetched

    def _wake_charts(self, why: str) -> None:
        """Charts are made of other sources (contract HC-014)."""
        for stream, source in self._engine.declared.sources.items():
            if isinstance(source.spec, HelmChartSpec) and chart_source_of(source) == self._declared.key:
                self._engine.sources.wake(stream, Trigger(why=why))

    async def _collect(self, dropped: Digest | None = None) -> None:
        """Removes the files that no status names any more."""
        named = self._engine.named_artifacts()
        await anyio.to_thread.run_sync(self._engine.artifacts.collect, named, dropped)

    async def _settle(self, fetched: Fetched) -> None:
        """Records which targets the revision leaves unchanged; wakes the others."""
        settled: list[StreamName] = []
        concerned: list[StreamName] = []
        for stream in self._targets():
            (settled if await self._leaves_unchanged(stream, fetched) else concerned).append(stream)
        # Meanwhile one may have begun a pass of its own, which sees the new revision.
        concerned += [stream for stream in settled if not self._is_well(stream)]
        settled = [stream for stream in settled if stream not in concerned]
        if settled:
            pages = pages_of(sorted(settled), SETTLED_BYTES_MAX)
            await self._run.record([RevisionSettled(revision=fetched.revision, targets=page) for page in pages])
            for stream in settled:
                self._engine.status.mark(stream)
        origin = self._run.origin
        for stream in self._by_dependency(concerned):
            trigger = Trigger(
                why=f"revision {fetched.revision}", actor=origin.actor, trace=origin.trace, cause=origin.cause
            )
            self._engine.targets.wake(stream, trigger)

    async def _end(self, head: Head | None, message: str = "") -> float | None:
        standing, token = self._run.standing, self._declared.requested_at
        recovers = standing.ready == "False" and not self._run.records  # what is new is told as such
        looked_at = None if head is None else self._driver.looked_at(head)
        news = (
            self._run.records > 0
            or standing.ready != "True"
            or standing.observed != self._declared.generation
            or (token and token != standing.handled)
            or looked_at not in {None, standing.source}
        )
        if news:
            event = RunEnded(
                outcome="succeeded" if self._run.records else "unchanged",
                generation=self._declared.generation,
                revision=None if head is None else head.revision,
                token=token or "",
                message=message,
                source=None if looked_at == standing.source else looked_at,
            )
            await self._run.record([event])
        if recovers:
            self._tell_of_recovery()
        self._engine.inputs.end(self._stream)
        self._wake_who_waited_for_the_first_answer()
        return self._engine.jittered(self._interval_s) if is_told(self._declared.spec) else None

    def _tell_of_recovery(self) -> None:
        spec, row = self._declared.spec, self._memory.desired.get(self._stream)
        if not is_told(spec) or isinstance(spec, ExternalArtifactSpec):
            return
        if row is not None and row.revision is not None and row.artifact is not None:
            reason, message = stored(spec, row.revision, self._run.standing.chart)
            self._engine.notices.recovered(self._declared, row.revision, row.artifact, reason, message)

    def _wake_who_waited_for_the_first_answer(self) -> None:
        if self._stream in self._engine.asked:
            return
        self._engine.asked.add(self._stream)
        for stream in self._targets():
            target = self._engine.declared.target(stream)
            if target is not None and target.newer:
                self._engine.targets.wake(stream, Trigger(why="its source was asked"))

    def _tell_who_waits(self) -> None:
        """Where the status is another's, it is the targets that say why there is no artifact."""
        row = self._memory.desired.get(self._stream)
        if row is None or row.artifact is None:
            for stream in self._targets():
                self._engine.targets.wake(stream, Trigger(why="its source cannot be taken in"))

    # What the stages need to know.

    async def failed(self, error: StageError) -> float | None:
        """Records a failure; returns when to try again."""
        await self._run.fail(error, self._declared.generation, None, self._engine.repeats)
        self._engine.notices.failed(self._declared, None, error)
        if not is_told(self._declared.spec):
            self._tell_who_waits()
        if error.stalled:
            return None
        tries = self._engine.repeats.tries(self._stream, self._run.standing)
        return self._engine.retry_in(self._interval_s, tries, asked_s=error.asked_s)

    def _failed_to_fetch(self, error: FetchError) -> StageError:
        stalled = error.reason in STALLING
        return StageError(
            "fetch", error.reason, str(error), final=error.final, stalled=stalled, asked_s=error.retry_after_s or 0.0
        )

    async def _is_new(self, head: Head) -> bool:
        """Whether there is something to fetch: another revision, other ignore rules, or a file that is not whole."""
        row = self._memory.desired.get(self._stream)
        if row is None or row.revision != head.revision or row.artifact is None or self._stream in self._engine.lost:
            return True
        if self._driver.is_outdated():
            return True
        found = await anyio.to_thread.run_sync(self._engine.artifacts.check_tarball, row.artifact)
        if found == "damaged":
            self._engine.notices.damaged(self._declared, row.artifact)
        return found != "whole"

    @property
    def _interval_s(self) -> float:
        spec = self._declared.spec
        if isinstance(spec, HelmRepositorySpec):
            return spec.effective_interval.seconds
        return EXTERNAL_INTERVAL_S if isinstance(spec, ExternalArtifactSpec) else spec.interval.seconds

    def _targets(self) -> list[StreamName]:
        """The targets that are rendered from this source."""
        targets = self._engine.declared.targets.items()
        return [stream for stream, target in targets if source_of(target) == self._declared.key]

    async def _leaves_unchanged(self, stream: StreamName, fetched: Fetched) -> bool:
        """Whether a target that is well reads nothing that the revision changes; a release reads all of its chart."""
        if self._engine.declared.kustomization(stream) is None or not self._is_well(stream):
            return False
        last = await self._engine.renderings.last(stream)
        if last is None or last.remote_bases:
            return False
        try:
            return await anyio.to_thread.run_sync(self._engine.renderer.unchanged, fetched.tree, last.read_set)
        except ObjectMissingError:
            return False  # the target finds out, and says so

    def _is_well(self, stream: StreamName) -> bool:
        """Whether a target is ready, at rest, and follows its source."""
        standing = self._memory.conditions.get(stream)
        target = self._engine.declared.target(stream)
        desired = self._memory.desired.get(stream)
        return (
            standing is not None
            and target is not None
            and standing.ready == "True"
            and standing.run is None
            and standing.observed == target.generation
            and not target.suspended
            and not target.deleting
            and self._engine.targets.is_idle(stream)
            and (desired is None or desired.pinned is None)
        )

    def _by_dependency(self, streams: Iterable[StreamName]) -> list[StreamName]:
        """Who depends on nothing first, so that fewer find their dependencies not ready (Flux contract CM-060)."""
        return sorted(
            streams,
            key=lambda stream: len(target.spec.depends_on) if (target := self._engine.declared.target(stream)) else 0,
        )
