"""What a HelmRelease says of itself, derived from the log (Flux contract 4.7).

What actions came to is one condition each (Released, TestSuccess, Remediated), and Ready is their summary. What keeps a
release from coming to an action is told by Ready alone.
"""

from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from tidelog.engine.helm.decisions import Policy, has_been_tested, told_history
from tidelog.engine.helm.policy import policy_of
from tidelog.engine.helm.releases import full_name
from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds.conditions import Conditions, Observed
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.helmactions import ReleasingName
from tidelog.engine.kinds.helmrelease import ACTION_TIMEOUT, HelmReleaseStatus, HelmSnapshot, HelmTestHook
from tidelog.engine.kinds.meta import FORCE_AT, RESET_AT, Condition, Status, Timestamp
from tidelog.engine.kinds.targets import Inventory
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.telling.common import PROGRESS_AFTER_S, WAITING_FOR_SOMEBODY, inventory, timestamp
from tidelog.engine.runtime.watching.declared import DeclaredRelease
from tidelog.events.moment import Time
from tidelog.events.names import ObjectKey
from tidelog.events.projections import Standing
from tidelog.events.projections.releases import RELEASING, Aspect, ReleaseRow
from tidelog.events.vocabulary.release import Action, ReleaseSnapshot

PREREQUISITES: Final = "Fulfilling prerequisites"
_PREREQUISITE_REASONS: Final = frozenset(
    {
        "DependencyNotReady",
        "SourceNotReady",
        "ArtifactFailed",
        "ValuesError",
        "ChartMutateError",
        "RESTClientError",
        "ResourceManagerError",
        "FactoryError",
        "StateError",
    }
)
"""Of what keeps a release from coming to an action (contract 4.4)."""
_ENDS_OF_ACTIONS: Final = frozenset({"RetriesExceeded", "MissingRollbackTarget"})
"""Why nothing more is tried, where an action before it failed: Ready tells of that, and Stalled of this."""
_RELEASED: Final = frozenset({"InstallSucceeded", "UpgradeSucceeded"})
_REPAIRED: Final = {"InstallFailed": "install", "UpgradeFailed": "upgrade"}
_NO_TIME: Final = "0001-01-01T00:00:00Z"
"""Go's zero, for a record without a time that the status has to have."""


class Step(NamedTuple):
    """What goes on and takes its time."""

    reconciling: str
    ready: str = ""
    """What Ready says meanwhile, which is Unknown; empty where it stays as it is."""


class Summary(NamedTuple):
    """What Ready says of the actions."""

    status: Status
    reason: str
    message: str


class Aspects(NamedTuple):
    """What the actions came to, each as its condition says it."""

    released: Aspect | None
    tested: Aspect | None
    remediated: Aspect | None


def release_status(
    engine: Engine, declared: DeclaredRelease, standing: Standing, row: ReleaseRow | None
) -> HelmReleaseStatus:
    """The status of a HelmRelease."""
    before = declared.status
    if declared.suspended:
        return msgspec.structs.replace(before, observed_generation=declared.generation)  # contract CM-022
    row = row or ReleaseRow()
    policy = policy_of(declared.spec)
    step = release_step(engine, declared, standing, row)
    conditions = _conditions(engine, declared, standing, row, step)
    told = msgspec.structs.replace(
        before,
        conditions=conditions,
        observed_generation=_observed(declared, standing, row, policy, step) or before.observed_generation,
        inventory=_inventory(engine, declared, row),
        helm_chart=_helm_chart(declared, row),
    )
    if _is_known(row):
        told = _with_release(told, standing, row, policy)
    if _unmade(standing, row) is None:
        return told
    return msgspec.structs.replace(
        told,
        last_attempted_generation=max(told.last_attempted_generation, standing.tried),
        last_attempted_revision=standing.attempted or told.last_attempted_revision,
    )


def with_answered(status: HelmReleaseStatus, declared: DeclaredRelease, token: str | None) -> HelmReleaseStatus:
    """The status with the requests to force and to reset that came with the request which was answered (HR-131)."""
    if not token:
        return status
    if declared.annotations.get(FORCE_AT) == token:
        status = msgspec.structs.replace(status, last_handled_force_at=token)
    if declared.annotations.get(RESET_AT) == token:
        status = msgspec.structs.replace(status, last_handled_reset_at=token)
    return status


def release_step(engine: Engine, declared: DeclaredRelease, standing: Standing, row: ReleaseRow | None) -> Step | None:
    """What goes on and takes its time, in Flux's words; None when there is no such thing (contract HR-061, HR-138)."""
    if row is not None and row.ongoing is not None and standing.run is not None:
        if engine.is_recent(row.ongoing.since, PROGRESS_AFTER_S):
            return None
        action = row.ongoing.started.action
        message = _running(declared, action)
        return Step(message, message if action in RELEASING else "")
    running = engine.activity.of(declared.stream)
    if running is None or running[2] < PROGRESS_AFTER_S:
        return None
    if running[0] == "detecting" and _corrects_drift(declared, row):
        limit = declared.spec.timeout or ACTION_TIMEOUT
        return Step(f"Running 'correct cluster drift' action with timeout of {limit}", "correcting cluster drift")
    return Step(PREREQUISITES)


def _corrects_drift(declared: DeclaredRelease, row: ReleaseRow | None) -> bool:
    """Whether what is applied outside of an action puts right what drifted."""
    drifted = None if row is None else row.drifted
    return drifted is not None and drifted.holds and declared.spec.effective_drift_detection.corrects


def _running(declared: DeclaredRelease, action: Action) -> str:
    if action == "unlock":
        return f"Running 'unlock' action with timeout of {declared.spec.timeout or ACTION_TIMEOUT}"
    name = "uninstall" if action == "uninstall-remediation" else action
    return f"Running '{name}' action with timeout of {declared.spec.effective_timeout(name)}"


# Conditions.


def _conditions(
    engine: Engine, declared: DeclaredRelease, standing: Standing, row: ReleaseRow, step: Step | None
) -> Conditions:
    aspects = _aspects(declared, standing, row)
    conditions = _marked(declared, aspects, row)
    conditions = _drift_marked(engine, declared, standing, row, conditions)
    observed = Observed(declared.generation, timestamp(standing.since or engine.now()))
    ready = _ready(standing, row, _summary(declared, conditions))
    if ready is not None:
        conditions = c.mark(conditions, c.READY, *_pinned(engine, declared, ready), observed=observed)
    if step is not None:
        now = Observed(declared.generation, timestamp(engine.now()))
        if step.ready:
            conditions = c.mark(conditions, c.READY, "Unknown", c.PROGRESSING, step.ready, observed=now)
        return c.mark_reconciling(conditions, c.PROGRESSING, step.reconciling, observed=now)
    if standing.stalled:
        return c.mark_stalled(conditions, standing.reason, standing.message, observed=observed)
    return _retry_marked(engine, declared, standing, row, c.remove(conditions, c.STALLED), observed)


def _retry_marked(
    engine: Engine,
    declared: DeclaredRelease,
    standing: Standing,
    row: ReleaseRow,
    conditions: Conditions,
    observed: Observed,
) -> Conditions:
    """The conditions with what becomes of a failure (contract HR-061, HR-097, HR-098)."""
    if standing.ready != "False" or standing.ended_well:
        # While a run is under way it is as it was told last.
        return conditions if standing.run is not None else c.remove(conditions, c.RECONCILING)
    if standing.reason in WAITING_FOR_SOMEBODY:
        return c.remove(conditions, c.RECONCILING)
    if standing.reason in _PREREQUISITE_REASONS:
        return c.mark_reconciling(conditions, c.PROGRESSING, PREREQUISITES, observed=observed)
    after = _retries_after(declared, row)
    ready = c.find(conditions, c.READY)
    message = standing.message if ready is None else ready.message
    if after is not None and _is_of_action(standing, row):
        message = f"retrying after {Duration.of_seconds(engine.spaced(after.seconds, row.failures))}"
    return c.mark_reconciling(conditions, c.PROGRESSING_WITH_RETRY, message, observed=observed)


def _aspects(declared: DeclaredRelease, standing: Standing, row: ReleaseRow) -> Aspects:
    """What the actions came to; what another engine told of its own stays, until there is one of ours."""
    told = declared.status.conditions
    stays = row.released is None and not _is_releasing(row)
    released = row.released or _told(told, c.RELEASED)
    tested = row.tested or (_told(told, c.TEST_SUCCESS) if stays else None)
    remediated = row.remediated or (_told(told, c.REMEDIATED) if stays else None)
    unmade = _unmade(standing, row)
    if unmade is not None:
        released, tested, remediated = unmade, None, None
    if released is not None:
        released = msgspec.structs.replace(released, holds=released.holds and released.reason in _RELEASED)
    aspects = Aspects(released, tested if declared.spec.effective_test.enable else None, remediated)
    return _repaired(declared, standing, row, aspects) if standing.ended_well else aspects


def _unmade(standing: Standing, row: ReleaseRow) -> Aspect | None:
    """What came of a version that failed before anything of it was written: it was not rendered, or refused."""
    fails = standing.ready == "False" and standing.reason in _REPAIRED and not _is_of_action(standing, row)
    if not fails or standing.since is None:
        return None
    return Aspect(
        holds=False,
        reason=standing.reason,
        message=standing.message,
        generation=standing.tried,
        since=standing.since,
    )


def _repaired(declared: DeclaredRelease, standing: Standing, row: ReleaseRow, aspects: Aspects) -> Aspects:
    """A release that is as it is to be was made, however it came to it (contract HR-083)."""
    latest, released, remediated = row.latest, aspects.released, aspects.remediated
    if latest is None:
        return aspects
    action, since = "", standing.since
    if remediated is not None and remediated.holds:
        action, since = "upgrade", remediated.since
    elif released is not None and not released.holds:
        action = _REPAIRED.get(released.reason, "")
    if not action or since is None:
        return Aspects(released, aspects.tested, None)
    made = Aspect(
        holds=True,
        reason=f"{action.capitalize()}Succeeded",
        message=f"Helm {action} succeeded for release {_named(latest)}",
        generation=declared.generation,
        since=since,
    )
    return Aspects(made, aspects.tested, None)


def _marked(declared: DeclaredRelease, aspects: Aspects, row: ReleaseRow) -> Conditions:
    conditions = declared.status.conditions
    for type_, aspect in zip((c.RELEASED, c.TEST_SUCCESS, c.REMEDIATED), aspects, strict=True):
        conditions = c.remove(conditions, type_) if aspect is None else _mark(declared, conditions, type_, aspect)
    released, latest = aspects.released, row.latest
    if released is None or latest is None or _is_releasing(row) or not declared.spec.effective_test.enable:
        return conditions
    if released.holds and aspects.tested is None and aspects.remediated is None and not has_been_tested(latest):
        observed = Observed(released.generation or declared.generation, timestamp(released.since))
        message = f"Helm release {_named(latest)} is awaiting tests"
        return c.mark(conditions, c.TEST_SUCCESS, "Unknown", "AwaitingTests", message, observed=observed)
    return conditions


def _drift_marked(
    engine: Engine, declared: DeclaredRelease, standing: Standing, row: ReleaseRow, conditions: Conditions
) -> Conditions:
    if not declared.spec.effective_drift_detection.detects:
        return c.remove(conditions, c.DRIFTED)
    if row.drifted is not None:
        return _mark(declared, conditions, c.DRIFTED, row.drifted)
    if not standing.ended_well or standing.observed < declared.generation:
        return conditions  # nobody has looked
    observed = Observed(declared.generation, timestamp(standing.since or engine.now()))
    message = "No drift detected against the cluster state"
    return c.mark(conditions, c.DRIFTED, "False", "NoDriftDetected", message, observed=observed)


def _mark(declared: DeclaredRelease, conditions: Conditions, type_: str, aspect: Aspect) -> Conditions:
    observed = Observed(aspect.generation or declared.generation, timestamp(aspect.since))
    status: Status = "True" if aspect.holds else "False"
    return c.mark(conditions, type_, status, aspect.reason, aspect.message, observed=observed)


def _summary(declared: DeclaredRelease, conditions: Conditions) -> Summary | None:
    """What Ready says of the actions: the newest generation's, and of those what went on last (contract HR-118)."""
    test = declared.spec.effective_test
    counts = test.enable and not test.ignore_failures
    order = (c.REMEDIATED, c.TEST_SUCCESS, c.RELEASED) if counts else (c.REMEDIATED, c.RELEASED)
    found = [condition for type_ in order if (condition := c.find(conditions, type_)) is not None]
    if not found:
        return None
    first = max(found, key=lambda condition: condition.observed_generation)  # of equals, the first
    status: Status = "False" if first.type == c.REMEDIATED else first.status
    return Summary(status, first.reason, first.message)


def _ready(standing: Standing, row: ReleaseRow, summary: Summary | None) -> Summary | None:
    """What Ready says; None where it stays as it is."""
    if standing.stalled and standing.reason in _ENDS_OF_ACTIONS and summary is not None and summary.status != "True":
        return summary
    if standing.ended_well or (_is_of_action(standing, row) and not standing.stalled):
        return summary or Summary(standing.ready, standing.reason or c.SUCCEEDED, standing.message)
    if standing.ready == "False":
        return Summary("False", standing.reason, standing.message)
    return None


def _pinned(engine: Engine, declared: DeclaredRelease, ready: Summary) -> Summary:
    """What Ready says, with the moment that the release is kept at, where it does not follow its spec."""
    desired = engine.memory.desired.get(declared.stream)
    if ready.status != "True" or desired is None or desired.pinned is None:
        return ready
    pin = desired.pinned
    kept = f"pinned to what was deployed at position {pin.position}, leaving chart version {pin.left}"
    return ready._replace(message=f"{ready.message}; {kept}")


def _is_releasing(row: ReleaseRow) -> bool:
    """Whether another version is being made."""
    return row.ongoing is not None and row.ongoing.started.action in RELEASING


def _is_of_action(standing: Standing, row: ReleaseRow) -> bool:
    """Whether what is said of a release is what an action came to."""
    aspects = (row.released, row.tested, row.remediated)
    said = standing.reason, standing.message
    return any(aspect is not None and (aspect.reason, aspect.message) == said for aspect in aspects)


def _told(conditions: Conditions, type_: str) -> Aspect | None:
    """What another engine's condition says."""
    condition: Condition | None = c.find(conditions, type_)
    if condition is None or condition.status == "Unknown":
        return None
    return Aspect(
        holds=condition.status == "True",
        reason=condition.reason,
        message=condition.message,
        generation=condition.observed_generation,
        since=Time(condition.last_transition_time),
    )


# The other fields.


def _is_known(row: ReleaseRow) -> bool:
    """Whether the log knows of the release: until then its status is as another engine left it."""
    return bool(row.last_action or row.attempted_generation or row.storage_namespace or row.history or row.released)


def _with_release(status: HelmReleaseStatus, standing: Standing, row: ReleaseRow, policy: Policy) -> HelmReleaseStatus:
    took = status.last_attempted_release_action_duration
    if row.released is not None:
        took = Duration.of_seconds(row.last_action_s)
    return msgspec.structs.replace(
        status,
        history=tuple(_snapshot(one) for one in told_history(row, policy)),
        storage_namespace=row.storage_namespace or None,
        # Also of a generation that left nothing to do.
        last_attempted_generation=max(row.attempted_generation, standing.observed),
        last_attempted_revision=row.attempted_version,
        last_attempted_revision_digest=row.attempted_digest or _digest_of_latest(row),
        last_attempted_config_digest=row.attempted_config,
        last_attempted_release_action=_releasing(row),
        last_attempted_release_action_duration=took,
        observed_post_renderers_digest=row.post_renderers,
        observed_common_metadata_digest=row.common_metadata,
        failures=row.failures,
        install_failures=row.install_failures,
        upgrade_failures=row.upgrade_failures,
        last_handled_force_at=row.handled_force or status.last_handled_force_at,
        last_handled_reset_at=row.handled_reset or status.last_handled_reset_at,
        last_attempted_values_checksum="",
        last_release_revision=0,
    )


def _digest_of_latest(row: ReleaseRow) -> str:
    """Of a release that was taken over: what its newest version tells, where that is what was tried last."""
    latest = row.latest
    if row.released is not None or latest is None or latest.chart_version != row.attempted_version:
        return ""
    return latest.oci_digest


def _releasing(row: ReleaseRow) -> ReleasingName | None:
    match row.last_action:
        case "install":
            return "install"
        case "upgrade":
            return "upgrade"
        case _:
            return None


def _retries_after(declared: DeclaredRelease, row: ReleaseRow) -> Duration | None:
    """How long a failure waits to be tried again, where it is not put right (contract HR-098)."""
    match _releasing(row):
        case "install":
            return declared.spec.effective_install.retries_after
        case "upgrade":
            return declared.spec.effective_upgrade.retries_after
        case None:
            return None


def _observed(declared: DeclaredRelease, standing: Standing, row: ReleaseRow, policy: Policy, step: Step | None) -> int:
    """The generation that was dealt with; 0 where that is none but before (contract CM-021, HR-105)."""
    if step is not None:
        return 0
    if standing.ended_well:
        return standing.observed
    if standing.stalled:
        return max(standing.observed, standing.tried or declared.generation)
    active = policy.active(row)
    waits = active is not None and active.retry_s is not None and row.ongoing is None
    return row.attempted_generation if waits and standing.ready == "False" and _is_of_action(standing, row) else 0


def _inventory(engine: Engine, declared: DeclaredRelease, row: ReleaseRow) -> Inventory | None:
    """The objects of the release, without the Namespace that an install made for it (contract HR-126).

    What another engine listed stays until there is a release of ours.
    """
    known = engine.memory.inventory.get(declared.stream)
    if known is None and row.released is None:
        return declared.status.inventory
    objects = dict(declared.found) if row.released is None else {}
    if known is not None:
        objects |= {id: entry.api_version for id, entry in known.objects.items()}
    objects.pop(ObjectKey("", "Namespace", "", declared.spec.target_namespace or "").id, None)
    return inventory(objects) if objects else None


def _helm_chart(declared: DeclaredRelease, row: ReleaseRow) -> str:
    """The HelmChart of the template (contract HR-127)."""
    if row.helm_chart is None:
        return declared.status.helm_chart if declared.spec.chart is not None or not _is_known(row) else ""
    key = ObjectKey.parse(row.helm_chart)
    return f"{key.namespace}/{key.name}"


def _snapshot(one: ReleaseSnapshot) -> HelmSnapshot:
    return HelmSnapshot(
        api_version=one.api_version,
        digest=one.digest,
        name=one.name,
        namespace=one.namespace,
        version=one.version,
        status=one.status,
        action=one.action,
        chart_name=one.chart_name,
        chart_version=one.chart_version,
        app_version=one.app_version,
        config_digest=one.config_digest,
        first_deployed=_in_seconds(one.first_deployed) or _NO_TIME,
        last_deployed=_in_seconds(one.last_deployed) or _NO_TIME,
        deleted=_in_seconds(one.deleted),
        test_hooks=_test_hooks(one),
        oci_digest=one.oci_digest,
    )


def _test_hooks(one: ReleaseSnapshot) -> dict[str, HelmTestHook] | None:
    if not one.tested:
        return None
    return {
        test.name: HelmTestHook(
            last_started=_in_seconds(test.started), last_completed=_in_seconds(test.completed), phase=test.phase
        )
        for test in one.tests
    }


def _in_seconds(text: str) -> Timestamp:
    """A time of Helm's records, which have them in any zone and to the nanosecond, as Kubernetes writes times.

    What is none, and Go's zero, is none.
    """
    try:
        time = datetime.fromisoformat(text)
        in_utc = time.astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return "" if time.tzinfo is None or in_utc.year == 1 else in_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


def _named(one: ReleaseSnapshot) -> str:
    """A version of a release and its chart, as messages name them (contract HR-120)."""
    return f"{full_name(one)} with chart {one.chart_name}@{one.chart_version}"
