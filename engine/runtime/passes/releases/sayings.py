"""What is said of actions on releases, in Flux's words (contract HR-119 to HR-122)."""

from collections.abc import Mapping, Sequence
from typing import Final

from tidelog.engine.helm.marks import HELM, MANAGED_BY, RELEASE_NAME, RELEASE_NAMESPACE
from tidelog.engine.helm.releases import full_name
from tidelog.events.vocabulary import ReleaseActionStarted, ReleaseSnapshot
from tidelog.events.vocabulary.release import Action

PENDING_RELEASE: Final = "PendingRelease"
HEALTH_CHECK_CANCELED: Final = "HealthCheckCanceled"
MARKS: Final = frozenset({HELM, MANAGED_BY, RELEASE_NAME, RELEASE_NAMESPACE})
_REASONS: Final[Mapping[Action, str]] = {
    "install": "Install",
    "upgrade": "Upgrade",
    "test": "Test",
    "rollback": "Rollback",
    "uninstall": "Uninstall",
    "uninstall-remediation": "Uninstall",
}


def reason_of(action: Action, *, failed: bool) -> str:
    """The reason of the condition."""
    if action == "unlock":
        return PENDING_RELEASE
    return f"{_REASONS[action]}{'Failed' if failed else 'Succeeded'}"


def message_of(started: ReleaseActionStarted, error: str, snapshots: Sequence[ReleaseSnapshot]) -> str:
    """How an action ended; `error` is empty where it ended well."""
    action, chart = started.action, chart_of(started)
    release = f"{started.namespace}/{started.name}"
    version = full_name(started)
    if action in ("install", "upgrade"):
        if error:
            return f"{failing(started)}: {error}"
        return f"Helm {action} succeeded for release {version} with chart {chart}"
    if action == "test":
        how = error or tested(snapshots)
        return f"Helm test {'failed' if error else 'succeeded'} for release {version} with chart {chart}: {how}"
    if action == "uninstall":
        ends = f"failed for release {version} with chart {chart}: {error}"
        return f"Helm uninstall {ends if error else f'succeeded for release {version} with chart {chart}'}"
    what = f"uninstall remediation for release {version}"
    if action == "rollback":
        what = f"rollback to previous release {release}.v{started.target}"
    return f"Helm {what} with chart {chart} {f'failed: {error}' if error else 'succeeded'}"


def failing(started: ReleaseActionStarted) -> str:
    """What it is that fails."""
    release = f"{started.namespace}/{started.name}"
    return f"Helm {started.action} failed for release {release} with chart {chart_of(started)}"


def chart_of(started: ReleaseActionStarted) -> str:
    """The chart, as messages name it."""
    return f"{started.chart_name}@{started.chart_version}"


def public_words(started: ReleaseActionStarted) -> frozenset[str]:
    """What these sentences name, and Helm marks objects with: no secret, though an object holds it beside one."""
    return MARKS | {started.name, started.namespace, started.chart_name, started.chart_version}


def tested(snapshots: Sequence[ReleaseSnapshot]) -> str:
    """What came of the tests of a version."""
    count = sum(len(one.tests) for one in snapshots[:1])
    if not count:
        return "no test hooks"
    return f"{count} test hook{'s' if count > 1 else ''} completed successfully"
