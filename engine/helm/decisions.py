"""What is to be done next with a release: from what Helm's storage, the log and the spec say. Pure.

The order of the looks, and the answer to each, is that of Flux (contract 4.5): whoever comes from there finds the same.
"""

from collections.abc import Collection
from typing import Final, Literal, TypeAlias

import msgspec

from tidelog.engine.helm.releases import UNINSTALLING, full_name
from tidelog.engine.helm.storage import Release
from tidelog.events.projections.releases import ReleaseRow
from tidelog.events.vocabulary.release import Action, ReleaseSnapshot

SNAPSHOT_VERSION: Final = "v2"
"""Of the way in which digests of records are made."""
HISTORY_KEPT: Final = 5
PENDING: Final = frozenset({"pending-install", "pending-upgrade", "pending-rollback"})
_GOOD: Final = frozenset({"deployed", "superseded"})

StateName: TypeAlias = Literal[
    "Absent", "Locked", "Unmanaged", "Failed", "OutOfSync", "Untested", "Drifted", "InSync", "Unknown"
]
Kind: TypeAlias = Literal["release", "test", "remediate", "unlock", "drift"]
"""Kinds of action, each of which runs once in a reconciliation at most (contract HR-096)."""


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of installs, or of upgrades, that fail."""

    retries: int = 0
    """Beyond the first; negative for as many as it takes."""
    remediates_last: bool = False
    """Whether also the last failure is put right."""
    remedy: Literal["uninstall", "rollback"] = "uninstall"
    ignores_tests: bool = False
    retry_s: float | None = None
    """Seconds until it is tried again, where failures are not put right but tried again (contract HR-029)."""

    def are_exhausted(self, failures: int) -> bool:
        """Whether no attempt is left (contract HR-099)."""
        return 0 <= self.retries < failures


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What of a spec decides what is done."""

    install: Attempts = Attempts()
    upgrade: Attempts = Attempts(remedy="rollback")
    tests: bool = False
    looks_for_drift: bool = False
    corrects_drift: bool = False

    def active(self, row: ReleaseRow) -> Attempts | None:
        """That of the last action which made a version; None before the first."""
        return {"install": self.install, "upgrade": self.upgrade}.get(row.last_action)


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A release as it is, and as it is to be."""

    row: ReleaseRow
    policy: Policy
    last: Release | None
    """The newest in Helm's storage."""
    last_digest: str = ""
    """Of that (contract HR-125)."""
    chart_name: str = ""
    chart_version: str = ""
    config_digest: str = ""
    post_renderers: str = ""
    common_metadata: str = ""
    generation: int = 0
    observed_generation: int = 0
    """The last that was dealt with."""
    drifted: bool = False
    forced: bool = False
    """Whether somebody asked for an upgrade, come what may (`reconcile.fluxcd.io/forceAt`)."""
    other: str = ""
    """Why the version that is deployed is another than is asked for, where chart and values do not tell."""


class State(msgspec.Struct, frozen=True):
    """How a release stands."""

    name: StateName
    why: str = ""


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something is to be done."""

    action: Action
    kind: Kind
    why: str
    target: ReleaseSnapshot | None = None
    """Of a rollback: the version to go back to."""
    clears_history: bool = False


class Correct(msgspec.Struct, frozen=True):
    """What drifted is to be put right, or only told."""

    corrects: bool


class Stall(msgspec.Struct, frozen=True):
    """Nothing more is tried until somebody changes something."""

    reason: str
    message: str


class Done(msgspec.Struct, frozen=True):
    """It is as it is to be."""


Decision: TypeAlias = Act | Correct | Stall | Done


def state_of(known: Known) -> State:
    """How a release stands: the first of Flux's looks that finds something (contract HR-069 to HR-082)."""
    last, row = known.last, known.row
    if last is None:
        return State("Absent", "no release in storage")
    status = last.info.status
    if status in PENDING:
        return State("Locked", f"release with status '{status}'")
    latest = row.latest
    if latest is None:
        if status == "uninstalled":
            return State("Absent", "found uninstalled release in storage")
        return State("Unmanaged", "found existing release in storage")
    differs = _is_another(latest, last, known.last_digest)
    if differs:
        return State("Unmanaged", differs)
    match status:
        case "failed":
            return State("Failed")
        case "uninstalling" if row.last_action:
            # Flux finds no state for it, and is stuck: what was to be put right has to be tried again.
            return State("Failed", "its uninstall did not come to its end")
        case "uninstalled":
            return State("Absent", "found uninstalled release in storage")
        case "deployed":
            return _state_of_deployed(known, latest, last)
        case _:
            return State("Unknown", f"unable to determine state for release with status '{status}'")


def _is_another(latest: ReleaseSnapshot, last: Release, digest: str) -> str:
    """Why a record is not the one that was made here last; empty where it is (contract HR-073)."""
    if (latest.name, latest.namespace, latest.version) != (last.name, last.namespace, last.version):
        return f"release {full_name(last)} was not made here"
    if latest.api_version == SNAPSHOT_VERSION and latest.digest != digest:
        return f"release {full_name(last)} was changed"
    return ""


def _state_of_deployed(known: Known, latest: ReleaseSnapshot, last: Release) -> State:
    if known.other:
        return State("OutOfSync", known.other)
    chart = (last.chart.metadata if last.chart else None) or {}
    if (chart.get("name"), chart.get("version")) != (known.chart_name, known.chart_version):
        return State("OutOfSync", "release chart changed")
    if latest.config_digest != known.config_digest:
        return State("OutOfSync", "release config values changed")
    if known.generation != known.observed_generation:
        if known.post_renderers != known.row.post_renderers:
            return State("OutOfSync", "postrenderers digest has changed")
        if known.common_metadata != known.row.common_metadata:
            return State("OutOfSync", "common metadata digest has changed")
    if known.policy.tests:
        if not has_been_tested(latest):
            return State("Untested")
        active = known.policy.active(known.row)
        if active is not None and not active.ignores_tests and _has_failed_test(latest):
            return State("Failed", "release has test in failed phase")
    if known.policy.looks_for_drift and known.drifted:
        return State("Drifted")
    return State("InSync")


def decide(known: Known, state: State) -> Decision:
    """What is to be done in a state (contract HR-083 to HR-095). `Unknown` is none of them."""
    policy, row = known.policy, known.row
    match state.name:
        case "InSync":
            return _upgrade("force requested through annotation") if known.forced else Done()
        case "Locked":
            return Act(action="unlock", kind="unlock", why=state.why)
        case "Absent":
            if policy.install.are_exhausted(row.install_failures) and not known.forced:
                return _exhausted(row, policy)
            return Act(action="install", kind="release", why=state.why)
        case "Unmanaged":
            return msgspec.structs.replace(_upgrade(state.why), clears_history=True)
        case "OutOfSync":
            if policy.upgrade.are_exhausted(row.upgrade_failures) and not known.forced:
                return _exhausted(row, policy)
            return _upgrade(state.why)
        case "Drifted":
            return Correct(policy.corrects_drift)
        case "Untested":
            return Act(action="test", kind="test", why="it was not tested")
        case "Failed":
            return _of_failed(known, state)
        case "Unknown":
            raise ValueError(state.why)


def _of_failed(known: Known, state: State) -> Decision:
    policy, row = known.policy, known.row
    active, failures = policy.active(row), failures_of(row)
    if known.last is not None and known.last.info.status == UNINSTALLING:
        # Helm upgrades nothing that is half gone, whatever is wanted now.
        return Act(action="uninstall-remediation", kind="remediate", why=state.why)
    if active is None or active.retry_s is not None:
        return _upgrade("it failed")
    if failures <= 0:
        return _upgrade("what it failed of has changed")
    if known.forced:
        return _upgrade("force requested through annotation")
    if active.are_exhausted(failures) and not active.remediates_last:
        return _exhausted(row, policy)
    if active.remedy == "uninstall":
        return Act(action="uninstall-remediation", kind="remediate", why=state.why or "it failed")
    target = previous(row, ignores_tests=active.ignores_tests)
    if target is None:
        why = "missing target release for rollback: cannot remediate failed release"
        return Stall("MissingRollbackTarget", f"Failed to perform remediation: {why}")
    return Act(action="rollback", kind="remediate", why=state.why or "it failed", target=target)


def _upgrade(why: str) -> Act:
    return Act(action="upgrade", kind="release", why=why)


def _exhausted(row: ReleaseRow, policy: Policy) -> Stall:
    active = row.last_action if policy.active(row) else "install"
    return Stall("RetriesExceeded", f"Failed to {active} after {failures_of(row)} attempt(s)")


def failures_of(row: ReleaseRow) -> int:
    """The failures that count of the last action which made a version."""
    return row.install_failures if row.last_action == "install" else row.upgrade_failures


class Next(msgspec.Struct, frozen=True):
    """Whether a reconciliation goes on with an action, or ends before or after it (contract HR-096 to HR-098)."""

    goes_on: bool
    again_s: float | None = None
    """In how many seconds the next one begins; None for no such time."""
    stall: Stall | None = None


def before(act: Act, done: Collection[Kind], known: Known) -> Next:
    """Whether an action may still run in this reconciliation."""
    return _ended(known) if act.kind in done else Next(goes_on=True)


def after(act: Act, known: Known) -> Next:
    """Whether a reconciliation goes on after an action: it ends with what puts something right."""
    if act.kind != "remediate":
        return Next(goes_on=True)
    active = known.policy.active(known.row)
    if active is None or active.retry_s is not None:
        return _ended(known)
    uninstalled = known.row.last_action == "upgrade" and active.remedy == "uninstall"
    if active.are_exhausted(failures_of(known.row)) and not uninstalled:
        return Next(goes_on=False, stall=_exhausted(known.row, known.policy))
    return _ended(known)


def _ended(known: Known) -> Next:
    active = known.policy.active(known.row)
    if active is not None and active.retry_s is not None:
        return Next(goes_on=False, again_s=active.retry_s)
    return Next(goes_on=False, again_s=0.0)


def has_been_tested(snapshot: ReleaseSnapshot) -> bool:
    """Whether what its tests said is known; a version without tests is tested once that was seen."""
    if not snapshot.tested:
        return False
    phases = [test.phase for test in snapshot.tests]
    return "Failed" in phases or all(phase == "Succeeded" for phase in phases)


def _has_failed_test(snapshot: ReleaseSnapshot) -> bool:
    return any(test.phase == "Failed" for test in snapshot.tests)


def previous(row: ReleaseRow, *, ignores_tests: bool) -> ReleaseSnapshot | None:
    """The newest version before the last one that was good: what a rollback goes back to (contract HR-095)."""
    for one in row.history[1:]:
        if one.status in _GOOD and (ignores_tests or not _has_failed_test(one)):
            return one
    return None


def told_history(row: ReleaseRow, policy: Policy) -> tuple[ReleaseSnapshot, ...]:
    """The versions that a status tells: down to the one that a rollback would go back to (contract HR-124)."""
    active = policy.active(row)
    if active is not None and active.retry_s is not None:
        return row.history[:HISTORY_KEPT]
    good = previous(row, ignores_tests=active is not None and active.ignores_tests)
    if good is None:
        return row.history[:HISTORY_KEPT]
    return row.history[: row.history.index(good) + 1]


def changed_target(
    row: ReleaseRow, *, name: str, namespace: str, storage_namespace: str, chart_name: str, in_place: bool
) -> str:
    """What of a release is now another, so that the one before has to go first (contract HR-103); empty where none is.

    Args:
        row: how it stands.
        name: of the release, as it is to be.
        namespace: likewise.
        storage_namespace: likewise.
        chart_name: likewise.
        in_place: whether a release may become one of another chart.
    """
    latest = row.latest
    if latest is None or not row.storage_namespace:
        return ""
    if storage_namespace != row.storage_namespace:
        return "storage namespace"
    if namespace != latest.namespace:
        return "release namespace"
    if name != latest.name:
        return "release name"
    return "chart name" if chart_name != latest.chart_name and not in_place else ""


def counts_anew(
    row: ReleaseRow, *, generation: int, chart_version: str, config_digest: str, dependencies: str, reset_asked: bool
) -> bool:
    """Whether failures of before count no more (contract HR-102).

    In Flux what a release depends on does not count; here it may have failed of what has changed since.
    """
    return (
        row.attempted_generation != generation
        or row.attempted_version != chart_version
        or (bool(row.attempted_config) and row.attempted_config != config_digest)
        or (bool(row.attempted_dependencies) and row.attempted_dependencies != dependencies)
        or reset_asked
    )
