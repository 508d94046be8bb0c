"""Statuses: what each source and target says of itself, derived from the log, and written when it differs.

One outcome is one write. That something is going on is written only when it takes longer than a second, or waits. What
it is at by then is written once in three seconds: of a hundred that are at work, each step would be a write. That the
inventory has grown is told with what else there is to tell, and does not ask for a write: the log has each object.
"""

from collections import OrderedDict
from collections.abc import Collection

import anyio
import msgspec

from tidelog.engine.cluster.errors import ClusterError, ConflictError, NotFoundError
from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds import statuses
from tidelog.engine.kinds.registry import FetchedStatus, TargetStatus, is_static, is_told
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.telling.common import PROGRESS_AFTER_S
from tidelog.engine.runtime.telling.release_status import release_status, release_step, with_answered
from tidelog.engine.runtime.telling.source_status import source_status
from tidelog.engine.runtime.telling.target_status import target_status, target_step
from tidelog.engine.runtime.watching.declared import (
    AnyDeclared,
    is_kustomization,
    is_release,
    is_source,
    manager_of,
    source_of,
)
from tidelog.events.names import StreamName
from tidelog.events.projections import Standing

WRITERS = 8
RETRY_S = 2.0
CONFLICTS_MAX = 5
PROGRESS_EVERY_S = 3.0
"""How often a run that takes its time tells what it is at."""
TELL_ORIGINS = frozenset({"OCIRepository", "ExternalArtifact"})
"""Kinds of sources whose artifacts say what they were made of."""


class StatusWriter:
    """Writes the statuses that have changed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dirty: OrderedDict[StreamName, None] = OrderedDict()
        self._changed = anyio.Event()
        self._answered: dict[StreamName, str] = {}
        self._busy: set[StreamName] = set()
        self._later: set[StreamName] = set()
        """What there may be more to tell of in a moment."""
        self._overwritten: set[StreamName] = set()
        self._put_right: set[StreamName] = set()
        """Of what was overwritten, that which was written again since there was last something to tell."""
        self._told_step: dict[StreamName, float] = {}
        """When what goes on was last written."""

    def mark(self, stream: StreamName) -> None:
        """Has a status looked at: it may have changed."""
        self._put_right.discard(stream)
        self._look_at(stream)

    def _look_at(self, stream: StreamName) -> None:
        self._dirty[stream] = None
        self._changed.set()

    def overwritten(self, stream: StreamName) -> None:
        """The status in the cluster is another: it is written again, if it is not as it should be.

        That may be what a daemon sent before it was killed, and the server made only now. It is done once, until there
        is something new to tell: with somebody who does the same, nobody is to fight.
        """
        if stream in self._put_right:
            return
        self._overwritten.add(stream)
        if stream in self._busy:
            self._look_at(stream)  # most likely it is what is just being written
        else:
            self._later.add(stream)

    def answered(self, stream: StreamName, token: str | None) -> None:
        """A pass that knew of a request is over (Flux contract CM-034)."""
        if token:
            self._answered[stream] = token

    def forget(self, stream: StreamName) -> None:
        """Lets go of a source or target that is no more."""
        self._dirty.pop(stream, None)
        self._answered.pop(stream, None)
        self._later.discard(stream)
        self._overwritten.discard(stream)
        self._put_right.discard(stream)
        self._told_step.pop(stream, None)

    @property
    def idle(self) -> bool:
        """Whether every status is as it should be."""
        return not self._dirty and not self._busy and not self._later

    async def run(self) -> None:
        """Serves, until cancelled."""
        async with anyio.create_task_group() as tasks:
            for _ in range(WRITERS):
                tasks.start_soon(self._work)
            tasks.start_soon(self._tell_progress)

    async def _work(self) -> None:
        while True:
            stream = next((stream for stream in self._dirty if stream not in self._busy), None)
            if stream is None:
                self._changed = anyio.Event() if self._changed.is_set() else self._changed
                await self._changed.wait()
                continue
            del self._dirty[stream]
            self._busy.add(stream)
            try:
                await self._write(stream)
            except ClusterError:
                await anyio.sleep(RETRY_S)
                self.mark(stream)
            finally:
                self._busy.discard(stream)
                self._changed.set()

    async def _tell_progress(self) -> None:
        while True:
            await anyio.sleep(PROGRESS_AFTER_S / 2)
            for stream in self._engine.activity.slow(PROGRESS_AFTER_S):
                self.mark(stream)
            for stream in self._engine.waiting(PROGRESS_AFTER_S):
                self.mark(stream)
            for stream in acting(self._engine):
                self.mark(stream)
            later, self._later = self._later, set()
            for stream in later:
                self._look_at(stream)

    async def _write(self, stream: StreamName) -> None:
        for _ in range(CONFLICTS_MAX):
            declared = self._engine.declared.source(stream) or self._engine.declared.target(stream)
            if declared is None:
                return
            if self._may_pass(declared):
                self._later.add(stream)
                return
            await self._learn_origins(declared)
            patch = self._patch(declared)
            was_overwritten = stream in self._overwritten
            self._overwritten.discard(stream)
            if not patch:
                return
            if was_overwritten:
                self._put_right.add(stream)
                self._later.discard(stream)
            kind = await self._engine.cluster.kind(declared.live["apiVersion"], declared.key.kind)
            where = (kind, declared.key.namespace, declared.key.name)
            try:
                live = await self._engine.cluster.patch(
                    *where, patch, type="merge", manager=manager_of(declared.key.kind), subresource="status"
                )
            except NotFoundError:
                return
            except ConflictError:
                live = await self._engine.cluster.get(*where)
            else:
                self._engine.declared.wrote(stream, live)
                self._note_step(declared)
                return
            self._engine.declared.wrote(stream, live)
        self.mark(stream)

    async def _learn_origins(self, declared: AnyDeclared) -> None:
        """What the revisions of which a Kustomization tells were made of (Flux contract CM-033)."""
        standing = self._engine.memory.conditions.get(declared.stream)
        if standing is None or not is_kustomization(declared):
            return
        source = source_of(declared)
        if source.kind in TELL_ORIGINS:
            told = standing.applied, *(attempt.revision for attempt in standing.history)
            await self._engine.origin_revisions.learn(source.stream(self._engine.cluster_alias), told)

    def _may_pass(self, declared: AnyDeclared) -> bool:
        """Whether there is nothing to tell yet: it is at work, or waits, and may be done within the second."""
        standing = self._engine.memory.conditions.get(declared.stream)
        if standing is None or is_source(declared) or declared.suspended:
            return False
        works = standing.run is not None and self._engine.activity.of(declared.stream) is not None
        if standing.ready == "False" and not works:
            return standing.waits_for is not None and self._engine.is_recent(standing.since, PROGRESS_AFTER_S)
        waits = standing.health == "InProgress" or self._acts(declared.stream)
        busy = works or (standing.run is not None and waits)
        return busy and not self._is_step_due(declared, standing)

    def _is_step_due(self, declared: AnyDeclared, standing: Standing) -> bool:
        """Whether it is time to say what a run is at that takes its time."""
        told = self._told_step.get(declared.stream)
        if told is not None and anyio.current_time() - told < PROGRESS_EVERY_S:
            return False
        return self._tells_step(declared, standing)

    def _note_step(self, declared: AnyDeclared) -> None:
        """Takes note of when it was said what goes on; an outcome begins anew."""
        standing = self._engine.memory.conditions.get(declared.stream)
        if standing is not None and standing.run is not None and self._tells_step(declared, standing):
            self._told_step[declared.stream] = anyio.current_time()
        else:
            self._told_step.pop(declared.stream, None)

    def _acts(self, stream: StreamName) -> bool:
        """Whether an action on a release is under way: it may wait for a hook, and no pass be at work."""
        row = self._engine.memory.releases.get(stream)
        return row is not None and row.ongoing is not None

    def _tells_step(self, declared: AnyDeclared, standing: Standing) -> bool:
        if is_kustomization(declared):
            return bool(target_step(self._engine, declared, standing))
        row = self._engine.memory.releases.get(declared.stream)
        return is_release(declared) and release_step(self._engine, declared, standing, row) is not None

    def _patch(self, declared: AnyDeclared) -> KubeObject:
        if is_static(declared.spec):
            return {} if declared.suspended or declared.deleting else statuses.emptied(declared.live)
        standing = self._engine.memory.conditions.get(declared.stream)
        if standing is None or not is_told(declared.spec):
            return {}  # the status of another controller's object is its own to write
        token = self._answered.get(declared.stream) or declared.status.last_handled_reconcile_at
        if is_kustomization(declared):
            status = target_status(self._engine, declared, standing)
            works = self._engine.activity.of(declared.stream) is not None
            return _but_for_growth(_written(declared, status, token, c.TARGET_OWNED), works=works)
        if is_release(declared):
            row = self._engine.memory.releases.get(declared.stream)
            told = with_answered(release_status(self._engine, declared, standing, row), declared, token)
            return _but_for_growth(_written(declared, told, token, c.RELEASE_OWNED), works=self._acts(declared.stream))
        if is_source(declared):
            return _written(declared, source_status(self._engine, declared, standing), token, c.SOURCE_OWNED)
        return {}


def _written(
    declared: AnyDeclared, status: FetchedStatus | TargetStatus, token: str | None, owned: Collection[str]
) -> KubeObject:
    """The patch that writes a status, with the request that was answered."""
    if token:
        status = msgspec.structs.replace(status, last_handled_reconcile_at=token)
    return statuses.status_patch(declared.live, status, owned)


def _but_for_growth(patch: KubeObject, *, works: bool) -> KubeObject:
    """A patch; none while objects are applied, and it only tells of these: the outcome will tell of all of them."""
    return {} if works and patch.get("status", {}).keys() == {"inventory"} else patch


def acting(engine: Engine) -> list[StreamName]:
    """Releases with an action under way that has to be told of by now."""
    return [
        StreamName(stream)
        for stream, row in engine.memory.releases.items()
        if row.ongoing is not None and not engine.is_recent(row.ongoing.since, PROGRESS_AFTER_S)
    ]
