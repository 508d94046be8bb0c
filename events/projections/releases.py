"""`releases`: how the Helm release of each HelmRelease stands. Key: its stream.

Whatever decides what is done next with a release is here: versions, failures that count, and the action that began
and is not over.
"""

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.envelope import Envelope
from tidelog.events.moment import Time, datetime_of
from tidelog.events.names import ObjectId
from tidelog.events.projection import Projection, Rows, on
from tidelog.events.vocabulary import (
    HelmChartSynced,
    HookEnded,
    HookStarted,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseAdopted,
    ReleaseDriftChanged,
    ReleaseHistoryCleared,
    TargetRemoved,
)
from tidelog.events.vocabulary.release import ReleaseSnapshot

HISTORY_MAX = 100
"""Versions that a row keeps; the log has all."""
RELEASING = frozenset({"install", "upgrade"})
REMEDIATING = frozenset({"rollback", "uninstall-remediation"})


class HookRun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A hook of the action that is under way."""

    hook: str
    object: ObjectId
    path: str
    started: Time
    replaces: str = ""
    ended: Time | None = None
    outcome: str = ""
    message: str = ""


class Ongoing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An action that began and is not over."""

    started: ReleaseActionStarted
    since: Time
    position: int
    hooks: tuple[HookRun, ...] = ()


class Aspect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one of Flux's conditions on releases says."""

    holds: bool
    reason: str
    message: str
    generation: int
    since: Time


class Made(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A version that was made here, so that it can be made again."""

    version: int
    record: BodyRef
    set: Digest | None = None
    position: int = 0
    """Of the action that made it."""
    origin: int = 0
    """Of one that is what a past version was: position of the action that made that first."""
    secret: BodyRef | None = None
    """What of it is secret, and its values do not tell."""


class ReleaseRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The release of one HelmRelease."""

    name: str = ""
    namespace: str = ""
    storage_namespace: str = ""
    history: tuple[ReleaseSnapshot, ...] = ()
    """Newest first, since it was last installed or taken over."""
    made: tuple[Made, ...] = ()
    """Newest first."""
    ongoing: Ongoing | None = None
    last_action: str = ""
    last_action_s: int = 0
    """Whole seconds that it took."""
    failures: int = 0
    install_failures: int = 0
    upgrade_failures: int = 0
    attempted_generation: int = 0
    attempted_version: str = ""
    attempted_digest: str = ""
    attempted_config: str = ""
    attempted_dependencies: str = ""
    post_renderers: str = ""
    common_metadata: str = ""
    observed_generation: int = 0
    """That another engine had dealt with when it was taken over."""
    handled_force: str = ""
    handled_reset: str = ""
    helm_chart: ObjectId | None = None
    unready: bool = False
    """Whether the last version failed only because its objects did not become ready in time."""
    released: Aspect | None = None
    tested: Aspect | None = None
    remediated: Aspect | None = None
    drifted: Aspect | None = None
    position: int = 0

    @property
    def latest(self) -> ReleaseSnapshot | None:
        """The newest version that is known."""
        return self.history[0] if self.history else None

    @property
    def deployed(self) -> ReleaseSnapshot | None:
        """The version that is deployed."""
        return next((one for one in self.history if one.status == "deployed"), None)

    def made_as(self, version: int) -> Made | None:
        """What is known of a version that was made here; None of any other."""
        return next((one for one in self.made if one.version == version), None)


def _row(rows: Rows[ReleaseRow], envelope: Envelope) -> ReleaseRow:
    row = rows.get(envelope.stream)
    if row is None:
        row = ReleaseRow()
    row.position = envelope.position
    rows.put(envelope.stream, row)
    return row


def _adopted(rows: Rows[ReleaseRow], envelope: Envelope, event: ReleaseAdopted) -> None:
    take_over(_row(rows, envelope), event)


def take_over(row: ReleaseRow, event: ReleaseAdopted) -> None:
    """Has a row know what another engine's status says."""
    row.history = event.history[:HISTORY_MAX]
    row.storage_namespace = event.storage_namespace
    row.failures, row.install_failures = event.failures, event.install_failures
    row.upgrade_failures, row.last_action = event.upgrade_failures, event.last_action
    row.attempted_generation, row.attempted_version = event.attempted_generation, event.attempted_version
    row.attempted_config, row.observed_generation = event.attempted_config, event.observed_generation
    row.post_renderers, row.common_metadata = event.post_renderers, event.common_metadata
    row.handled_force, row.handled_reset = event.handled_force, event.handled_reset
    row.helm_chart = event.helm_chart or row.helm_chart
    if event.history:
        row.name, row.namespace = event.history[0].name, event.history[0].namespace


def _chart_synced(rows: Rows[ReleaseRow], envelope: Envelope, event: HelmChartSynced) -> None:
    row = _row(rows, envelope)
    if event.outcome in ("deleted", "absent"):
        row.helm_chart = None if row.helm_chart == event.object else row.helm_chart
    else:
        row.helm_chart = event.object


def _started(rows: Rows[ReleaseRow], envelope: Envelope, event: ReleaseActionStarted) -> None:
    row = _row(rows, envelope)
    row.ongoing = Ongoing(started=event, since=envelope.time, position=envelope.position)
    row.handled_force = event.force_token or row.handled_force
    row.handled_reset = event.reset_token or row.handled_reset
    if event.reset:
        row.failures = row.install_failures = row.upgrade_failures = 0
    if event.action in RELEASING:
        row.name, row.namespace, row.storage_namespace = event.name, event.namespace, event.storage_namespace
        row.attempted_generation, row.attempted_version = event.generation, event.chart_version
        row.attempted_config, row.attempted_digest = event.config_digest, event.oci_digest
        row.attempted_dependencies = event.dependencies
        row.last_action = event.action
        row.post_renderers, row.common_metadata = event.post_renderers, event.common_metadata
        row.tested = row.remediated = None
    if event.action == "install":
        row.history, row.made = (), ()
    if event.record is not None:
        made = Made(
            version=event.version,
            record=event.record,
            set=event.set,
            position=envelope.position,
            origin=event.origin,
            secret=event.secret,
        )
        row.made = (made, *(other for other in row.made if other.version != made.version))[:HISTORY_MAX]


def _hook_started(rows: Rows[ReleaseRow], envelope: Envelope, event: HookStarted) -> None:
    row = _row(rows, envelope)
    if row.ongoing is None:
        return
    run = HookRun(hook=event.hook, object=event.object, path=event.path, started=envelope.time, replaces=event.replaces)
    row.ongoing = msgspec.structs.replace(row.ongoing, hooks=(*_others(row.ongoing, event), run))


def _hook_ended(rows: Rows[ReleaseRow], envelope: Envelope, event: HookEnded) -> None:
    row = _row(rows, envelope)
    if row.ongoing is None:
        return
    run = HookRun(
        hook=event.hook,
        object=event.object,
        path=event.path,
        started=event.started,
        ended=envelope.time,
        outcome=event.outcome,
        message=event.message,
    )
    row.ongoing = msgspec.structs.replace(row.ongoing, hooks=(*_others(row.ongoing, event), run))


def _others(ongoing: Ongoing, event: HookStarted | HookEnded) -> tuple[HookRun, ...]:
    """The runs of other hooks: one template may have several objects, and an object several events."""
    own = event.hook, event.object, event.path
    return tuple(run for run in ongoing.hooks if (run.hook, run.object, run.path) != own)


def _ended(rows: Rows[ReleaseRow], envelope: Envelope, event: ReleaseActionEnded) -> None:
    row = _row(rows, envelope)
    began = None if row.ongoing is None else row.ongoing.since
    row.ongoing = None
    if event.action in RELEASING and began is not None:
        row.last_action_s = _seconds(began, envelope.time)
    if event.action != "unlock":
        row.unready = event.unready
    _keep(row, event.snapshots)
    if event.outcome == "superseded":
        return
    if event.outcome == "failed":
        _count(row, event)
    if event.clears_failures:
        row.failures = row.install_failures = row.upgrade_failures = 0
    if event.action == "uninstall" and event.outcome == "succeeded":
        row.post_renderers = row.common_metadata = ""
    _tell(row, envelope, event)


def _keep(row: ReleaseRow, snapshots: tuple[ReleaseSnapshot, ...]) -> None:
    new = {(one.name, one.namespace, one.version): one for one in snapshots}
    kept = [one for one in row.history if (one.name, one.namespace, one.version) not in new]
    row.history = tuple(sorted((*new.values(), *kept), key=lambda one: -one.version))[:HISTORY_MAX]


def _count(row: ReleaseRow, event: ReleaseActionEnded) -> None:
    """A failure counts for the action whose release it is of; that of a test for the one that made it (HR-101)."""
    row.failures += 1
    if not event.counts:
        return
    counted = row.last_action if event.action == "test" else event.action
    if counted == "install":
        row.install_failures += 1
    elif counted == "upgrade":
        row.upgrade_failures += 1


def _tell(row: ReleaseRow, envelope: Envelope, event: ReleaseActionEnded) -> None:
    aspect = Aspect(
        holds=event.outcome == "succeeded",
        reason=event.reason,
        message=event.message,
        generation=event.generation,
        since=envelope.time,
    )
    if event.action in RELEASING:
        row.released, row.tested, row.remediated = aspect, None, None
    elif event.action == "test":
        row.tested = aspect
    elif event.action in REMEDIATING:
        row.remediated = aspect
    elif event.action == "unlock":
        row.released = aspect
    elif event.action == "uninstall":
        row.released, row.tested, row.remediated, row.drifted = aspect, None, None, None


def _cleared(rows: Rows[ReleaseRow], envelope: Envelope, event: ReleaseHistoryCleared) -> None:
    row = _row(rows, envelope)
    row.history, row.made = (), ()
    if event.failures_too:
        row.failures = row.install_failures = row.upgrade_failures = 0
        row.storage_namespace = row.name = row.namespace = ""


def _drift(rows: Rows[ReleaseRow], envelope: Envelope, event: ReleaseDriftChanged) -> None:
    row = _row(rows, envelope)
    row.drifted = Aspect(
        holds=event.drifted,
        reason="DriftDetected" if event.drifted else "NoDriftDetected",
        message=event.message,
        generation=row.attempted_generation,
        since=envelope.time,
    )


def _removed(rows: Rows[ReleaseRow], envelope: Envelope, _: TargetRemoved) -> None:
    rows.drop(envelope.stream)


def _seconds(began: Time, ended: Time) -> int:
    return max(0, round((datetime_of(ended) - datetime_of(began)).total_seconds()))


RELEASES = Projection(
    name="releases",
    version=4,
    row=ReleaseRow,
    key_is_stream=True,
    handlers=dict(
        [
            on(ReleaseAdopted, _adopted),
            on(HelmChartSynced, _chart_synced),
            on(ReleaseActionStarted, _started),
            on(HookStarted, _hook_started),
            on(HookEnded, _hook_ended),
            on(ReleaseActionEnded, _ended),
            on(ReleaseHistoryCleared, _cleared),
            on(ReleaseDriftChanged, _drift),
            on(TargetRemoved, _removed),
        ]
    ),
)
