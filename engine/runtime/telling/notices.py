"""Kubernetes Events: what other tools, and people with kubectl, are told (Flux contract 1.6).

Told in the background and at most once: the log is what remembers. Where nobody takes them, the oldest are dropped.
"""

import socket
from collections import deque
from collections.abc import Mapping, Sequence

import aiohttp
import anyio
import msgspec

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.kinds.conditions import RECONCILED
from tidelog.engine.kinds.meta import EVENT_PREFIX
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.drift import Flap
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.telling.common import WAITING_FOR_SOMEBODY
from tidelog.engine.runtime.texts import cut
from tidelog.engine.runtime.watching.declared import (
    AnyDeclared,
    DeclaredKustomization,
    DeclaredRelease,
    DeclaredSource,
    DeclaredTarget,
    controller_of,
    is_kustomization,
    is_release,
    source_of,
)
from tidelog.engine.secrecy.logs import without_secrets
from tidelog.engine.sources.fetched import Fetched
from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import Revision, StreamName
from tidelog.events.projections import Standing
from tidelog.events.projections.releases import RELEASING
from tidelog.events.vocabulary import ReleaseActionEnded, ReleaseSnapshot
from tidelog.storage.log.ids import new_id

WAITING_MAX = 4_096
MESSAGE_BYTES_MAX = 1_024
"""Of the Event in the cluster: the API server takes no more."""
POSTED_BYTES_MAX = 39_000
"""Of what is posted (Flux contract CM-068)."""
POST_TIMEOUT_S = 5.0
_NOT_FAILED = frozenset({"DependencyNotReady", "HealthCheckCanceled"})
"""Reasons that nobody has to be warned of (Flux contract HR-139)."""
_TRACED = frozenset({"NoSourceArtifact"})
"""Reasons that are told in the cluster alone, and nobody is warned of: who has them waits (Flux contract SE-004)."""
_UNTOLD_OF_RELEASES = frozenset({"SourceNotReady", "RetriesExceeded", "MissingRollbackTarget"})
"""Reasons of which only the condition tells: of the latter two, the action that failed was told (HR-141)."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    declared: AnyDeclared
    warning: bool
    reason: str
    message: str
    metadata: Mapping[str, str]

    @property
    def is_traced(self) -> bool:
        """Whether it is for the cluster alone (Flux contract CM-063)."""
        return self.reason in _TRACED


class Notices:
    """Tells what happened, in the background."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[Notice] = deque(maxlen=WAITING_MAX)
        self._changed = anyio.Event()
        self._host = socket.gethostname()
        self._told: dict[StreamName, tuple[Time | None, str]] = {}
        """Of each source and target, since when it fails, and why, as was last told."""

    # What is told.

    def fetched(self, declared: DeclaredSource, fetched: Fetched, reason: str, message: str) -> None:
        """A source has a new artifact (Flux contract GR-030, SE-001)."""
        self._tell(declared, reason, message, {"revision": fetched.revision, "digest": fetched.artifact})

    def recovered(
        self, declared: DeclaredSource, revision: Revision, artifact: Digest, reason: str, message: str
    ) -> None:
        """A source that failed has the artifact that it had before (Flux contract SE-002)."""
        self._tell(declared, reason, message, {"revision": revision, "digest": artifact})

    def damaged(self, declared: DeclaredSource, artifact: Digest) -> None:
        """A stored artifact is not what it was (Flux contract SC-014)."""
        message = f"the stored artifact is no longer {artifact}: it is removed, and made anew"
        self._tell(declared, "ArtifactVerificationFailed", message, {}, warning=True)

    def changed(self, declared: DeclaredTarget, revision: Revision | None, lines: Sequence[str]) -> None:
        """Objects were changed (Flux contract KS-044); of a release, the action is told that changed them (HR-134)."""
        if lines and not is_release(declared):
            self._tell(declared, "Progressing", "\n".join(lines), self._of(declared, revision))

    def reconciled(self, declared: DeclaredKustomization, revision: Revision | None) -> None:
        """A run ended well (Flux contract KS-043); of a release, only actions are told (HR-107)."""
        standing = self._engine.memory.conditions.get(declared.stream)
        took = self._engine.seconds_since(standing.began if standing else None)
        message = f"Reconciliation finished in {took:.3f}s, next run in {declared.spec.interval}"
        metadata = {**self._of(declared, revision), "commit_status": "update"}
        self._tell(declared, RECONCILED, message, metadata)

    def failed(self, declared: AnyDeclared, revision: Revision | None, error: StageError) -> None:
        """A run failed (Flux contract KS-042, KS-051, SE-005, HR-140); told once of failures that are all alike."""
        if error.waits_for is not None and error.reason == "ArtifactFailed":
            return
        if is_release(declared) and error.reason in _UNTOLD_OF_RELEASES:
            return
        standing = self._engine.memory.conditions.get(declared.stream)
        message = standing.message if standing is not None and standing.message else error.reason
        failing = None if standing is None else standing.since, f"{error.reason}: {message}"
        if self._told.get(declared.stream) == failing:
            return
        self._told[declared.stream] = failing
        warning = error.reason not in _NOT_FAILED | _TRACED
        self._tell(declared, error.reason, message, self._of(declared, revision), warning=warning)

    def acted(self, declared: DeclaredRelease, ended: ReleaseActionEnded) -> None:
        """An action on a release ended well or failed (Flux contract HR-134 to HR-136)."""
        if ended.outcome == "superseded":
            return
        self._tell(
            declared, ended.reason, ended.message, self._of_action(declared, ended), warning=ended.outcome == "failed"
        )

    def drifted(self, declared: DeclaredRelease, message: str) -> None:
        """Objects of a release differ from its manifest (Flux contract HR-137)."""
        self._tell(declared, "DriftDetected", message, {}, warning=True)

    def corrected(self, declared: DeclaredRelease, message: str, *, ok: bool) -> None:
        """What had drifted was put right, or not all of it (Flux contract HR-138)."""
        row = self._engine.memory.releases.get(declared.stream)
        latest = None if row is None else row.latest
        metadata = {} if latest is None else _of_release(latest)
        self._tell(declared, "DriftCorrected" if ok else "DriftCorrectionFailed", message, metadata, warning=not ok)

    def left_behind(self, declared: DeclaredTarget, account: str, ids: Sequence[str]) -> None:
        """A deleted target's objects stay, because nobody may delete them any more (Flux contract KS-097)."""
        message = f"the ServiceAccount {account} is gone, so these objects are left there:\n" + "\n".join(ids)
        self._tell(declared, "ReconciliationFailed", message, {}, warning=True)

    def not_terminated(self, declared: DeclaredTarget, ids: Sequence[str]) -> None:
        """Objects of a deleted target are deleted, and still there when its time is over (Flux contract KS-096)."""
        message = "these objects are deleted, and something keeps them (a finalizer, say):\n" + "\n".join(ids)
        self._tell(declared, "ReconciliationFailed", message, {}, warning=True)

    def stopped(self, declared: DeclaredTarget, revision: Revision | None) -> None:
        """A run ended without what it was for, or waits for an approval: as its condition says (KS-042, KS-101)."""
        standing = self._engine.memory.conditions.get(declared.stream)
        if standing is not None and standing.ready == "False" and not self._is_told_with_its_action(declared, standing):
            self._tell(declared, standing.reason, standing.message, self._of(declared, revision), warning=True)

    def healthy(self, declared: DeclaredTarget, revision: Revision | None, message: str) -> None:
        """What is asked to be healthy has become so (Flux contract KS-102)."""
        self._tell(declared, "Progressing", message, self._of(declared, revision))

    def flapping(self, declared: DeclaredTarget, flaps: Sequence[Flap]) -> None:
        """Somebody keeps on changing back what the target says."""
        lines = [
            f"{flap.object.shown}: {flap.path} was changed {flap.times} times "
            f"since {flap.since:%H:%M:%S} UTC by {flap.manager or 'somebody'}; leave it out of the manifests, or "
            "stop who writes it"
            for flap in flaps
        ]
        self._tell(declared, "DriftFlapping", "\n".join(lines), {}, warning=True)

    def _of(self, declared: AnyDeclared, revision: Revision | None) -> dict[str, str]:
        """Of which revision something is, and what that was made of (Flux contract CM-065)."""
        if not revision:
            return {}
        origin = ""
        if is_kustomization(declared):
            source = source_of(declared).stream(self._engine.cluster_alias)
            origin = self._engine.origin_revisions.known(source, revision)
        return {"revision": revision} | ({"originRevision": origin} if origin else {})

    def _is_told_with_its_action(self, declared: DeclaredTarget, standing: Standing) -> bool:
        """Whether an action on a release is under way, whose end is told; what waits for approval is told at once."""
        row = self._engine.memory.releases.get(declared.stream) if is_release(declared) else None
        return row is not None and row.ongoing is not None and standing.reason not in WAITING_FOR_SOMEBODY

    def _of_action(self, declared: DeclaredRelease, ended: ReleaseActionEnded) -> dict[str, str]:
        """Of which version of a chart, with which values, an action was (Flux contract HR-133)."""
        row = self._engine.memory.releases.get(declared.stream)
        if ended.snapshots:
            metadata = _of_release(ended.snapshots[0])
        elif row is None:
            return {}
        elif ended.action in RELEASING:  # it came to no version
            metadata = _present(
                revision=row.attempted_version, token=row.attempted_config, oci_digest=row.attempted_digest
            )
        else:
            metadata = {} if row.latest is None else _of_release(row.latest)
        if ended.action == "rollback" and row is not None and row.attempted_config:
            metadata["token"] = row.attempted_config  # of the values that are asked for, as in Flux
        return metadata

    def _tell(
        self, declared: AnyDeclared, reason: str, message: str, metadata: Mapping[str, str], *, warning: bool = False
    ) -> None:
        group = declared.key.group
        whole = {f"{group}/{name}": value for name, value in metadata.items()}
        whole |= {name: value for name, value in declared.annotations.items() if name.startswith(EVENT_PREFIX)}
        said = without_secrets(message)
        self._waiting.append(Notice(declared=declared, warning=warning, reason=reason, message=said, metadata=whole))
        self._changed.set()

    # How.

    async def run(self) -> None:
        """Tells, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=POST_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                while self._waiting:
                    notice = self._waiting.popleft()
                    await self._to_cluster(notice)
                    if self._engine.settings.events_addr and not notice.is_traced:
                        await self._post(session, notice)
                self._changed = anyio.Event()
                await self._changed.wait()

    async def _to_cluster(self, notice: Notice) -> None:
        try:
            await self._engine.cluster.create(self._event(notice), manager=controller_of(notice.declared.key.kind))
        except ClusterError:
            return  # the namespace may be on its way out, and the log has it

    async def _post(self, session: aiohttp.ClientSession, notice: Notice) -> None:
        try:
            async with session.post(self._engine.settings.events_addr, json=self._posted(notice)) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return

    def _event(self, notice: Notice) -> KubeObject:
        key, now = notice.declared.key, f"{self._engine.now()[:19]}Z"
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{key.name[:200]}.{new_id()}",
                "namespace": key.namespace,
                "annotations": dict(notice.metadata),
            },
            "involvedObject": self._involved(notice),
            "type": "Warning" if notice.warning else "Normal",
            "reason": notice.reason,
            "message": cut(notice.message, MESSAGE_BYTES_MAX, "..."),
            "source": {"component": controller_of(key.kind)},
            "reportingComponent": controller_of(key.kind),
            "reportingInstance": self._host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }

    def _posted(self, notice: Notice) -> KubeObject:
        return {
            "involvedObject": self._involved(notice),
            "severity": "error" if notice.warning else "info",
            "timestamp": self._engine.now(),
            "message": cut(notice.message, POSTED_BYTES_MAX, "..."),
            "reason": notice.reason,
            "metadata": dict(notice.metadata),
            "reportingController": controller_of(notice.declared.key.kind),
            "reportingInstance": self._host,
        }

    def _involved(self, notice: Notice) -> KubeObject:
        key, live = notice.declared.key, notice.declared.live
        return {
            "apiVersion": live["apiVersion"],
            "kind": key.kind,
            "name": key.name,
            "namespace": key.namespace,
            "uid": notice.declared.uid,
            "resourceVersion": live["metadata"]["resourceVersion"],
        }


def _of_release(one: ReleaseSnapshot) -> dict[str, str]:
    return _present(
        revision=one.chart_version, token=one.config_digest, app_version=one.app_version, oci_digest=one.oci_digest
    )


def _present(**metadata: str) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in metadata.items() if value}
