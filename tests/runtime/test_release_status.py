"""What a HelmRelease says of itself, by what the log says of it (Flux contract 4.4 to 4.7)."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.events.logs import digest, moment
from tests.runtime.releases import CONFIG, release, told, version
from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds.conditions import Observed
from tidelog.engine.kinds.decode import encode
from tidelog.engine.kinds.helmrelease import HelmReleaseStatus, HelmSnapshot
from tidelog.engine.kinds.statuses import status_patch
from tidelog.engine.kinds.targets import Inventory, InventoryEntry
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.telling.release_status import PREREQUISITES, release_status, with_answered
from tidelog.engine.runtime.telling.status import StatusWriter, acting
from tidelog.engine.runtime.watching.declared import DeclaredRelease
from tidelog.events.digest import Digest
from tidelog.events.moment import datetime_of
from tidelog.events.names import ObjectId, Revision, RunId, StreamName
from tidelog.events.projections import Inventory as Applied
from tidelog.events.projections import Standing
from tidelog.events.projections.desired import Desired, Pin
from tidelog.events.projections.inventory import Entry
from tidelog.events.projections.releases import Aspect, Ongoing, ReleaseRow
from tidelog.events.vocabulary import ReleaseActionStarted
from tidelog.events.vocabulary.release import Action, ReleaseTest

NOW = 60
RUN = RunId("run")
TESTS: dict[str, Any] = {"test": {"enable": True}}
DRIFT: dict[str, Any] = {"driftDetection": {"mode": "enabled"}}
RETRY: dict[str, Any] = {"install": {"strategy": {"name": "RetryOnFailure"}}}
INSTALLED = "Helm install succeeded for release shop/web.v1 with chart podinfo@1.0.1"
UPGRADED = "Helm upgrade succeeded for release shop/web.v2 with chart podinfo@1.0.2"
NOT_INSTALLED = "Helm install failed for release shop/web with chart podinfo@1.0.1: no"
NOT_UPGRADED = "Helm upgrade failed for release shop/web with chart podinfo@1.0.2: no"
BROUGHT_BACK = "Helm rollback to previous release shop/web.v1 with chart podinfo@1.0.1 succeeded"
TESTED = "Helm test succeeded for release shop/web.v1 with chart podinfo@1.0.1: no test hooks"
GIVEN_UP = "Failed to install after 1 attempt(s)"
UNTESTED = "Helm test failed for release shop/web.v1 with chart podinfo@1.0.1: no"
AWAITING = "Helm release shop/web.v1 with chart podinfo@1.0.1 is awaiting tests"
RUNNING = "Running 'install' action with timeout of 5m0s"


class World:
    """What a status is made from."""

    def __init__(
        self,
        *,
        running: tuple[str, str, float] | None = None,
        objects: dict[str, str] | None = None,
        now: float = NOW,
    ) -> None:
        applied = None
        if objects is not None:
            entries = {ObjectId(id): Entry("u", digest(id), 1, api) for id, api in objects.items()}
            applied = Applied(objects=entries)
        self.conditions: dict[StreamName, Standing] = {}
        self.releases: dict[StreamName, ReleaseRow] = {}
        self.desired: dict[StreamName, Desired] = {}
        self._engine = SimpleNamespace(
            memory=SimpleNamespace(
                inventory=SimpleNamespace(get=lambda _: applied),
                conditions=self.conditions,
                releases=self.releases,
                desired=self.desired,
            ),
            activity=SimpleNamespace(of=lambda _: running),
            now=lambda: moment(now),
            is_recent=lambda time, seconds: (
                0 <= (datetime_of(moment(now)) - datetime_of(time)).total_seconds() < seconds
            ),
            spaced=lambda usual_s, failures: max(usual_s, 200.0 * failures),
        )

    @property
    def engine(self) -> Engine:
        return cast("Engine", self._engine)

    def status(self, declared: DeclaredRelease, standing: Standing, row: ReleaseRow | None = None) -> HelmReleaseStatus:
        return release_status(self.engine, declared, standing, row)


def shown(status: HelmReleaseStatus) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in status.conditions}


def aspect(reason: str, message: str, *, generation: int = 1, at: float = 3) -> Aspect:
    holds = reason.endswith("Succeeded") or reason == "DriftDetected"
    return Aspect(holds=holds, reason=reason, message=message, generation=generation, since=moment(at))


def ready(reason: str = "InstallSucceeded", message: str = INSTALLED, **rest: Any) -> Standing:
    whole: dict[str, Any] = {"observed": 1, "since": moment(3), **rest}
    return Standing(ready="True", reason=reason, message=message, **whole)


def unready(reason: str, message: str = "no", **rest: Any) -> Standing:
    return Standing(ready="False", reason=reason, message=message, **{"since": moment(5), **rest})


def installed(**rest: Any) -> ReleaseRow:
    """A release that was installed and is well."""
    whole: dict[str, Any] = {
        "name": "web",
        "namespace": "shop",
        "storage_namespace": "shop",
        "history": (version(1, action="install"),),
        "last_action": "install",
        "attempted_generation": 1,
        "attempted_version": "1.0.1",
        "attempted_config": CONFIG,
        "released": aspect("InstallSucceeded", INSTALLED),
        **rest,
    }
    return ReleaseRow(**whole)


def failed(**rest: Any) -> ReleaseRow:
    """A release whose install failed."""
    return installed(
        **{
            "history": (version(1, "failed", action="install"),),
            "released": aspect("InstallFailed", NOT_INSTALLED),
            "failures": 1,
            "install_failures": 1,
            **rest,
        }
    )


def ongoing(action: Action, since: float = 0) -> Ongoing:
    started = ReleaseActionStarted(
        action=action,
        name="web",
        namespace="shop",
        storage_namespace="shop",
        version=1,
        chart_name="podinfo",
        chart_version="1.0.1",
    )
    return Ongoing(started=started, since=moment(since), position=1)


# Conditions.


def test_what_is_pinned_says_so_once_it_is_ready() -> None:
    world, declared = World(), release()
    pin = Pin(set=Digest(CONFIG), position=42, left=Revision("1.1.0"), by="user:ada", why="it was better")
    world.desired[declared.stream] = Desired(pinned=pin)
    (status, reason, message) = shown(world.status(declared, ready(), installed()))["Ready"]
    assert (status, reason) == ("True", "InstallSucceeded")
    assert message == f"{INSTALLED}; pinned to what was deployed at position 42, leaving chart version 1.1.0"
    failed = world.status(declared, unready("SourceNotReady"), installed())
    assert shown(failed)["Ready"] == ("False", "SourceNotReady", "no")


def test_what_was_released_is_ready_with_the_words_of_the_action() -> None:
    status = World().status(release(), ready(), installed())
    assert shown(status) == {
        "Ready": ("True", "InstallSucceeded", INSTALLED),
        "Released": ("True", "InstallSucceeded", INSTALLED),
    }
    assert status.observed_generation == 1
    assert {one.observed_generation for one in status.conditions} == {1}
    assert [one.last_transition_time for one in status.conditions] == [f"{moment(3)[:19]}Z"] * 2


def test_a_new_object_whose_pass_takes_its_time_fulfils_prerequisites_and_says_nothing_of_ready() -> None:
    standing = Standing(ready="Unknown")
    assert World(running=("building", "", 0.5)).status(release(), standing).conditions == ()
    status = World(running=("building", "", 1.5)).status(release(), standing)
    assert shown(status) == {"Reconciling": ("True", "Progressing", PREREQUISITES)}
    assert status.observed_generation == 0


def test_a_pass_that_takes_its_time_leaves_ready_as_it_is() -> None:
    status = World(running=("building", "", 1.5)).status(release(), ready(), installed())
    assert shown(status)["Ready"] == ("True", "InstallSucceeded", INSTALLED)
    assert shown(status)["Reconciling"] == ("True", "Progressing", PREREQUISITES)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("install", "Running 'install' action with timeout of 7m0s"),
        ("upgrade", "Running 'upgrade' action with timeout of 1m0s"),
        ("test", "Running 'test' action with timeout of 2m0s"),
        ("rollback", "Running 'rollback' action with timeout of 3m0s"),
        ("uninstall-remediation", "Running 'uninstall' action with timeout of 4m0s"),
        ("unlock", "Running 'unlock' action with timeout of 7m0s"),
    ],
)
def test_an_action_that_takes_its_time_is_named_with_its_limit(action: Action, words: str) -> None:
    limits: dict[str, Any] = {
        "timeout": "7m",
        "upgrade": {"timeout": "1m"},
        "test": {"enable": True, "timeout": "2m"},
        "rollback": {"timeout": "3m"},
        "uninstall": {"timeout": "4m"},
    }
    standing = unready("InstallFailed", NOT_INSTALLED, run=RUN)
    row = failed(ongoing=ongoing(action))
    status = World().status(release(**limits), standing, row)
    assert shown(status)["Reconciling"] == ("True", "Progressing", words)
    releases = action in ("install", "upgrade")
    said = ("Unknown", "Progressing", words) if releases else ("False", "InstallFailed", NOT_INSTALLED)
    assert shown(status)["Ready"] == said, "what puts right or tests does not hide what failed"
    assert status.observed_generation == 0


def test_an_action_that_is_over_within_a_second_is_not_told_of() -> None:
    row = ReleaseRow(ongoing=ongoing("install", since=NOW - 0.5))
    assert World().status(release(), Standing(ready="Unknown", run=RUN), row).conditions == ()


def test_an_action_that_nobody_is_at_work_on_is_none() -> None:
    """The cluster did not answer: that is told, until the next try."""
    status = World().status(
        release(), unready("ReconciliationFailed", "no answer"), ReleaseRow(ongoing=ongoing("install"))
    )
    assert shown(status) == {
        "Ready": ("False", "ReconciliationFailed", "no answer"),
        "Reconciling": ("True", "ProgressingWithRetry", "no answer"),
    }


def test_what_drifted_is_being_corrected() -> None:
    drifted = aspect("DriftDetected", "it drifts")
    status = World(running=("detecting", "", 1.5)).status(release(**DRIFT), ready(), installed(drifted=drifted))
    assert shown(status)["Ready"] == ("Unknown", "Progressing", "correcting cluster drift")
    words = "Running 'correct cluster drift' action with timeout of 5m0s"
    assert shown(status)["Reconciling"] == ("True", "Progressing", words)
    assert shown(status)["Drifted"] == ("True", "DriftDetected", "it drifts")
    other = World(running=("detecting", "", 1.5)).status(release(**DRIFT), ready(), installed())
    assert shown(other)["Reconciling"] == ("True", "Progressing", PREREQUISITES), "another version is planned"


@pytest.mark.parametrize("reason", ["DependencyNotReady", "SourceNotReady", "ArtifactFailed", "ValuesError"])
def test_what_keeps_it_from_an_action_is_told_by_ready_alone(reason: str) -> None:
    status = World().status(release(generation=2), unready(reason), installed())
    assert shown(status) == {
        "Ready": ("False", reason, "no"),
        "Reconciling": ("True", "Progressing", PREREQUISITES),
        "Released": ("True", "InstallSucceeded", INSTALLED),
    }
    assert status.observed_generation == 0, "who waits for others has not dealt with it"


@pytest.mark.parametrize("reason", ["PlanHeld", "PlanRejected"])
def test_what_waits_for_somebody_is_neither_reconciling_nor_stalled(reason: str) -> None:
    declared = release()
    declared.status = World(running=("building", "", 1.5)).status(declared, Standing(ready="Unknown"))
    status = World().status(declared, unready(reason, run=RUN))
    assert shown(status) == {"Ready": ("False", reason, "no")}


def test_a_failed_action_is_tried_again_with_its_words() -> None:
    status = World().status(release(), unready("InstallFailed", NOT_INSTALLED), failed())
    assert shown(status) == {
        "Ready": ("False", "InstallFailed", NOT_INSTALLED),
        "Released": ("False", "InstallFailed", NOT_INSTALLED),
        "Reconciling": ("True", "ProgressingWithRetry", NOT_INSTALLED),
    }
    assert status.observed_generation == 0


def test_a_version_that_was_not_rendered_or_was_refused_is_not_released() -> None:
    standing = unready("UpgradeFailed", NOT_UPGRADED, tried=2, attempted=Revision("1.0.2"))
    row = installed(tested=aspect("TestSucceeded", TESTED))
    status = World().status(release(generation=2, **TESTS), standing, row)
    assert shown(status) == {
        "Ready": ("False", "UpgradeFailed", NOT_UPGRADED),
        "Released": ("False", "UpgradeFailed", NOT_UPGRADED),
        "Reconciling": ("True", "ProgressingWithRetry", NOT_UPGRADED),
    }
    assert (status.last_attempted_generation, status.last_attempted_revision) == (2, "1.0.2")
    assert status.observed_generation == 0
    first = World().status(release(), unready("InstallFailed", NOT_INSTALLED, tried=1, attempted=Revision("1.0.1")))
    assert shown(first)["Released"] == ("False", "InstallFailed", NOT_INSTALLED)
    assert (first.last_attempted_generation, first.last_attempted_revision) == (1, "1.0.1")


def test_where_failures_are_not_put_right_the_next_try_is_told_and_the_generation_counts_as_observed() -> None:
    standing = unready("InstallFailed", NOT_INSTALLED, run=RUN)
    status = World().status(release(**RETRY), standing, failed())
    assert shown(status)["Reconciling"] == ("True", "ProgressingWithRetry", "retrying after 5m0s")
    assert status.observed_generation == 1
    often = World().status(release(**RETRY), standing, failed(failures=3))
    assert shown(often)["Reconciling"][2] == "retrying after 10m0s"
    other = World().status(release(**RETRY), unready("ValuesError"), failed())
    assert (shown(other)["Reconciling"][1], other.observed_generation) == ("Progressing", 0)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("RetriesExceeded", "Failed to install after 1 attempt(s)"),
        ("MissingRollbackTarget", "Failed to perform remediation: missing target release for rollback"),
    ],
)
def test_the_end_of_all_tries_is_told_by_stalled_and_what_failed_by_ready(reason: str, message: str) -> None:
    standing = unready(reason, message, stalled=True, tried=2)
    status = World().status(release(generation=2), standing, failed())
    assert shown(status) == {
        "Stalled": ("True", reason, message),
        "Ready": ("False", "InstallFailed", NOT_INSTALLED),
        "Released": ("False", "InstallFailed", NOT_INSTALLED),
    }
    assert status.observed_generation == 2, "who waits sees the failure"


def test_the_generation_of_a_stall_is_the_one_that_it_is_about() -> None:
    standing = unready("RetriesExceeded", stalled=True, tried=2)
    assert World().status(release(generation=3), standing, failed()).observed_generation == 2


@pytest.mark.parametrize("reason", ["AccessDenied", "InvalidCELExpression", "UnsupportedFeature"])
def test_what_has_to_be_changed_first_is_stalled_and_not_ready(reason: str) -> None:
    status = World().status(release(), unready(reason, stalled=True, tried=1), installed())
    assert shown(status)["Ready"] == ("False", reason, "no")
    assert shown(status)["Stalled"] == ("True", reason, "no")
    assert "Reconciling" not in shown(status)
    assert status.observed_generation == 1


def test_what_was_told_of_a_run_goes_with_its_end() -> None:
    declared = release()
    row = ReleaseRow(ongoing=ongoing("install"))
    declared.status = World().status(declared, Standing(ready="Unknown", run=RUN), row)
    assert shown(declared.status) == {
        "Ready": ("Unknown", "Progressing", RUNNING),
        "Reconciling": ("True", "Progressing", RUNNING),
    }
    between = Standing(ready="Unknown", reason="InstallSucceeded", message=INSTALLED, since=moment(3), run=RUN)
    declared.status = World().status(declared, between, installed())
    assert shown(declared.status)["Reconciling"] == ("True", "Progressing", RUNNING), "it may be tested yet"
    assert shown(declared.status)["Ready"] == ("True", "InstallSucceeded", INSTALLED)
    assert set(shown(World().status(declared, ready(), installed()))) == {"Ready", "Released"}


def test_a_stall_is_over_with_the_next_success() -> None:
    declared = release()
    declared.status = World().status(declared, unready("RetriesExceeded", stalled=True), failed())
    assert set(shown(World().status(declared, ready(), installed()))) == {"Ready", "Released"}


# Ready, as the summary of what actions came to (HR-118).


@pytest.mark.parametrize(
    ("spec", "aspects", "said"),
    [
        ({}, {}, ("True", "InstallSucceeded", INSTALLED)),
        (TESTS, {"tested": aspect("TestSucceeded", TESTED)}, ("True", "TestSucceeded", TESTED)),
        (TESTS, {"tested": aspect("TestFailed", UNTESTED)}, ("False", "TestFailed", UNTESTED)),
        (
            {"test": {"enable": True, "ignoreFailures": True}},
            {"tested": aspect("TestFailed", UNTESTED)},
            ("True", "InstallSucceeded", INSTALLED),
        ),
        ({}, {"tested": aspect("TestFailed", UNTESTED)}, ("True", "InstallSucceeded", INSTALLED)),
        (
            TESTS,
            {"tested": aspect("TestFailed", UNTESTED), "remediated": aspect("RollbackSucceeded", BROUGHT_BACK)},
            ("False", "RollbackSucceeded", BROUGHT_BACK),
        ),
        (
            {},
            {
                "released": aspect("UpgradeFailed", NOT_UPGRADED),
                "remediated": aspect("RollbackFailed", "no way back"),
            },
            ("False", "RollbackFailed", "no way back"),
        ),
        (
            TESTS,
            {
                "released": aspect("UpgradeSucceeded", UPGRADED, generation=2),
                "tested": aspect("TestSucceeded", TESTED, generation=1),
            },
            ("True", "UpgradeSucceeded", UPGRADED),
        ),
    ],
    ids=["released", "tested", "test-failed", "ignored", "disabled", "rolled-back", "rollback-failed", "newer"],
)
def test_ready_is_a_summary(spec: dict[str, Any], aspects: dict[str, Aspect], said: tuple[str, str, str]) -> None:
    row = installed(**aspects)
    last = aspects.get("remediated") or aspects.get("tested") or row.released
    assert last is not None
    standing = unready(last.reason, last.message, run=RUN)
    assert shown(World().status(release(generation=2, **spec), standing, row))["Ready"] == said


@pytest.mark.parametrize("action", ["install", "upgrade"])
def test_where_failed_tests_are_only_not_put_right_the_release_is_at_rest_and_not_ready(action: str) -> None:
    """As Flux sums it up: only `test.ignoreFailures` has a failed test count for nothing."""
    spec = {**TESTS, action: {"remediation": {"ignoreTestFailures": True}}}
    reason, message = ("UpgradeSucceeded", UPGRADED) if action == "upgrade" else ("InstallSucceeded", INSTALLED)
    row = installed(
        last_action=action,
        history=(version(1, tested=True),),
        failures=1,
        released=aspect(reason, message, generation=2),
        tested=aspect("TestFailed", UNTESTED, generation=2),
    )
    standing = unready("TestFailed", UNTESTED, unready=True, observed=2)
    status = World().status(release(generation=2, **spec), standing, row)
    assert shown(status) == {
        "Ready": ("False", "TestFailed", UNTESTED),
        "Released": ("True", reason, message),
        "TestSuccess": ("False", "TestFailed", UNTESTED),
    }
    assert (status.observed_generation, status.failures) == (2, 1)


def test_who_is_given_up_is_not_ready_also_where_his_failed_tests_are_not_to_be_told() -> None:
    """Which differs from Flux: there it is Ready, and Stalled."""
    spec: dict[str, Any] = {
        "test": {"enable": True, "ignoreFailures": True},
        "install": {"remediation": {"ignoreTestFailures": False}},
    }
    row = installed(history=(version(1, tested=True),), tested=aspect("TestFailed", UNTESTED))
    status = World().status(release(**spec), unready("RetriesExceeded", GIVEN_UP, stalled=True), row)
    assert shown(status)["Ready"] == ("False", "RetriesExceeded", GIVEN_UP)
    assert shown(status)["Stalled"] == ("True", "RetriesExceeded", GIVEN_UP)
    assert shown(status)["Released"] == ("True", "InstallSucceeded", INSTALLED)


def test_while_tests_are_awaited_nobody_knows() -> None:
    standing = Standing(ready="Unknown", reason="InstallSucceeded", message=INSTALLED, since=moment(3), run=RUN)
    status = World().status(release(**TESTS), standing, installed())
    assert shown(status)["TestSuccess"] == shown(status)["Ready"] == ("Unknown", "AwaitingTests", AWAITING)
    upgrading = installed(ongoing=ongoing("upgrade", since=NOW - 0.5))
    assert "TestSuccess" not in shown(World().status(release(**TESTS), standing, upgrading)), "another is being made"
    without = World().status(release(), standing, installed())
    assert "TestSuccess" not in shown(without)
    ran = installed(history=(version(1, tested=True),))
    assert "TestSuccess" not in shown(World().status(release(**TESTS), standing, ran)), "they were run before"
    assert "TestSuccess" not in shown(World().status(release(**TESTS), standing, failed()))


def test_what_tests_came_to_goes_where_they_are_disabled() -> None:
    declared = release(**TESTS)
    row = installed(tested=aspect("TestSucceeded", TESTED), history=(version(1, tested=True),))
    declared.status = World().status(declared, ready("TestSucceeded", TESTED), row)
    assert shown(declared.status)["TestSuccess"] == ("True", "TestSucceeded", TESTED)
    disabled = told(release(), declared.status)
    assert set(shown(World().status(disabled, ready(), row))) == {"Ready", "Released"}


@pytest.mark.parametrize(
    ("reason", "repaired"),
    [
        ("InstallFailed", ("True", "InstallSucceeded", INSTALLED.replace("v1", "v2").replace("1.0.1", "1.0.2"))),
        ("UpgradeFailed", ("True", "UpgradeSucceeded", UPGRADED)),
    ],
)
def test_what_is_as_it_is_to_be_was_made(reason: str, repaired: tuple[str, str, str]) -> None:
    row = failed(history=(version(2), version(1)), released=aspect(reason, NOT_UPGRADED))
    status = World().status(release(), ready("Succeeded", ""), row)
    assert shown(status) == {"Ready": repaired, "Released": repaired}


def test_what_was_rolled_back_to_and_is_now_what_is_asked_for_was_upgraded_to() -> None:
    row = failed(
        history=(version(2), version(1)),
        released=aspect("UpgradeFailed", NOT_UPGRADED),
        remediated=aspect("RollbackSucceeded", BROUGHT_BACK, at=4),
    )
    status = World().status(release(), ready("Succeeded", ""), row)
    assert shown(status) == dict.fromkeys(("Ready", "Released"), ("True", "UpgradeSucceeded", UPGRADED))
    (released,) = [one for one in status.conditions if one.type == "Released"]
    assert released.last_transition_time == f"{moment(4)[:19]}Z"


@pytest.mark.parametrize(("action", "reason"), [("uninstall", "UninstallSucceeded"), ("unlock", "PendingRelease")])
def test_neither_what_was_uninstalled_nor_what_was_unlocked_is_released(action: str, reason: str) -> None:
    row = installed(released=Aspect(holds=True, reason=reason, message=action, generation=1, since=moment(4)))
    standing = Standing(ready="True", reason=reason, message=action, since=moment(4), run=RUN)
    assert shown(World().status(release(), standing, row))["Released"] == ("False", reason, action)


@pytest.mark.parametrize("mode", ["enabled", "warn"])
def test_drift_is_told_where_it_is_looked_for(mode: str) -> None:
    spec: dict[str, Any] = {"driftDetection": {"mode": mode}}
    drifted = installed(drifted=aspect("DriftDetected", "it drifts"))
    status = World().status(release(**spec), ready(), drifted)
    assert shown(status)["Drifted"] == ("True", "DriftDetected", "it drifts")
    assert shown(status)["Ready"][0] == "True"
    well = World().status(release(**spec), ready(), installed())
    assert shown(well)["Drifted"] == ("False", "NoDriftDetected", "No drift detected against the cluster state")
    assert "Drifted" not in shown(World().status(release(generation=2, **spec), ready(), installed())), "not yet"
    assert "Drifted" not in shown(World().status(told(release(), status), ready(), drifted)), "not any more"


# The other fields.


def test_history_is_told_newest_first_in_whole_seconds_of_utc() -> None:
    tests = (
        ReleaseTest(
            name="smoke", phase="Succeeded", started="2026-11-23T10:00:02.5Z", completed="2026-11-23T10:00:03.5Z"
        ),
        ReleaseTest(name="later"),
    )
    newest = version(
        2,
        action="upgrade",
        app_version="7",
        oci_digest="sha256:o",
        tests=tests,
        tested=True,
        deleted="0001-01-01T00:00:00Z",
    )
    oldest = version(1, "superseded", action="install", tested=True, first_deployed="")
    status = World().status(release(), ready(), installed(history=(newest, oldest)))
    first, second = encode(status)["history"]
    assert first == {
        "apiVersion": "v2",
        "digest": newest.digest,
        "name": "web",
        "namespace": "shop",
        "version": 2,
        "status": "deployed",
        "action": "upgrade",
        "chartName": "podinfo",
        "chartVersion": "1.0.2",
        "appVersion": "7",
        "configDigest": CONFIG,
        "firstDeployed": "2026-11-23T10:00:00Z",
        "lastDeployed": "2026-11-23T11:00:01Z",
        "ociDigest": "sha256:o",
        "testHooks": {
            "smoke": {
                "phase": "Succeeded",
                "lastStarted": "2026-11-23T10:00:02Z",
                "lastCompleted": "2026-11-23T10:00:03Z",
            },
            "later": {},
        },
    }
    assert second["testHooks"] == {}, "it has no tests, and that is known"
    assert second["firstDeployed"] == "0001-01-01T00:00:00Z"
    assert "testHooks" not in encode(World().status(release(), ready(), installed()))["history"][0]


@pytest.mark.parametrize(
    ("spec", "last_action", "before", "kept"),
    [
        ({}, "upgrade", "superseded", [7, 6]),
        ({}, "upgrade", "failed", [7, 6, 5, 4, 3]),
        (RETRY, "install", "superseded", [7, 6, 5, 4, 3]),
    ],
    ids=["down to the last good one", "none is good", "none is gone back to"],
)
def test_history_is_trimmed(spec: dict[str, Any], last_action: str, before: str, kept: list[int]) -> None:
    history = tuple(version(number, "deployed" if number == 7 else before) for number in range(7, 0, -1))
    status = World().status(release(**spec), ready(), installed(history=history, last_action=last_action))
    assert [one.version for one in status.history] == kept


def test_what_was_attempted_and_what_failed_is_told() -> None:
    row = failed(
        attempted_generation=2,
        attempted_version="1.0.1+aaaaaaaaaaaa",
        attempted_digest="sha256:a",
        last_action_s=3,
        failures=3,
        install_failures=2,
        upgrade_failures=1,
        post_renderers="sha256:p",
        common_metadata="sha256:m",
        handled_force="f",
        handled_reset="r",
    )
    before = HelmReleaseStatus(last_attempted_values_checksum="x", last_release_revision=4)
    status = encode(World().status(told(release(), before), unready("InstallFailed", NOT_INSTALLED), row))
    del status["conditions"], status["history"]
    assert status == {
        "storageNamespace": "shop",
        "lastAttemptedGeneration": 2,
        "lastAttemptedRevision": "1.0.1+aaaaaaaaaaaa",
        "lastAttemptedRevisionDigest": "sha256:a",
        "lastAttemptedConfigDigest": CONFIG,
        "lastAttemptedReleaseAction": "install",
        "lastAttemptedReleaseActionDuration": "3s",
        "failures": 3,
        "installFailures": 2,
        "upgradeFailures": 1,
        "observedPostRenderersDigest": "sha256:p",
        "observedCommonMetadataDigest": "sha256:m",
        "lastHandledForceAt": "f",
        "lastHandledResetAt": "r",
    }


def test_a_generation_that_left_nothing_to_do_was_attempted_too() -> None:
    status = World().status(release(generation=3), ready(observed=3), installed())
    assert (status.last_attempted_generation, status.observed_generation) == (3, 3)


def test_the_namespace_that_an_install_made_is_no_object_of_the_release() -> None:
    objects = {
        "core/Namespace/_/team": "v1",
        "core/Namespace/_/other": "v1",
        "apps/Deployment/team/web": "apps/v1",
    }
    declared = release(targetNamespace="team")
    status = World(objects=objects).status(declared, ready(), installed())
    assert status.inventory == Inventory(
        entries=(
            InventoryEntry(id="_other__Namespace", v="v1"),
            InventoryEntry(id="team_web_apps_Deployment", v="v1"),
        )
    )
    assert World(objects={}).status(told(declared, status), ready(), installed()).inventory is None, "uninstalled"


def test_the_chart_of_the_template_is_named_as_long_as_it_is_there() -> None:
    chart = ObjectId("source.toolkit.fluxcd.io/HelmChart/shop/shop-web")
    template: dict[str, Any] = {
        "chart": {"spec": {"chart": "podinfo", "sourceRef": {"kind": "HelmRepository", "name": "r"}}}
    }
    status = World().status(release(**template), ready(), installed(helm_chart=chart))
    assert status.helm_chart == "shop/shop-web"
    assert World().status(told(release(), status), ready(), installed()).helm_chart == ""


def test_what_another_engine_told_stays_until_the_log_knows_of_the_release() -> None:
    """The HelmChart is made before anything of the release is read."""
    before = HelmReleaseStatus(
        history=(
            HelmSnapshot(
                digest="d",
                name="web",
                namespace="shop",
                version=3,
                status="deployed",
                chart_name="p",
                chart_version="1",
                config_digest="x",
                first_deployed="",
                last_deployed="",
            ),
        ),
        storage_namespace="shop",
        failures=2,
        last_attempted_revision="1",
        last_release_revision=3,
        inventory=Inventory(entries=(InventoryEntry(id="shop_web_apps_Deployment", v="v1"),)),
    )
    chart = ObjectId("source.toolkit.fluxcd.io/HelmChart/shop/shop-web")
    status = World().status(told(release(), before), Standing(ready="Unknown"), ReleaseRow(helm_chart=chart))
    assert status == msgspec.structs.replace(before, helm_chart="shop/shop-web")


def test_a_release_that_was_taken_over_keeps_its_conditions_until_there_is_an_action() -> None:
    observed = Observed(1, "2026-11-20T00:00:00Z")
    conditions = c.mark((), "Released", "True", "UpgradeSucceeded", UPGRADED, observed=observed)
    conditions = c.mark(conditions, "TestSuccess", "True", "TestSucceeded", TESTED, observed=observed)
    conditions = c.mark(conditions, "Ready", "True", "TestSucceeded", TESTED, observed=observed)
    declared = told(release(**TESTS), HelmReleaseStatus(conditions=conditions, observed_generation=1))
    row = installed(released=None, last_action="upgrade")
    assert World().status(declared, ready("Succeeded", ""), row).conditions == conditions
    releasing = msgspec.structs.replace(row, ongoing=ongoing("upgrade"))
    status = World().status(declared, ready("Succeeded", "", run=RUN), releasing)
    assert set(shown(status)) == {"Reconciling", "Ready", "Released"}, "none of the others applies"


def test_suspended_it_stays_as_it_is_and_counts_as_observed() -> None:
    before = World().status(release(), unready("InstallFailed", NOT_INSTALLED), failed())
    declared = told(release(generation=2, suspend=True), before)
    status = World().status(declared, unready("ValuesError"), installed())
    assert status == msgspec.structs.replace(before, observed_generation=2)


def test_requests_to_force_and_to_reset_are_answered_with_the_request_that_they_came_with() -> None:
    requests = {"reconcile.fluxcd.io/forceAt": "2", "reconcile.fluxcd.io/resetAt": "1"}
    declared = release(annotations=requests)
    status = with_answered(HelmReleaseStatus(last_handled_reset_at="0"), declared, "2")
    assert (status.last_handled_force_at, status.last_handled_reset_at) == ("2", "0")
    assert with_answered(HelmReleaseStatus(), declared, None) == HelmReleaseStatus()


def test_conditions_of_others_stay_and_all_of_ours_are_written() -> None:
    declared = release(**TESTS, **DRIFT)
    foreign = {
        "type": "Checked",
        "status": "True",
        "reason": "R",
        "message": "",
        "lastTransitionTime": "2026-11-20T00:00:00Z",
    }
    declared.live["status"] = {"conditions": [foreign]}
    row = installed(tested=aspect("TestFailed", UNTESTED), remediated=aspect("RollbackSucceeded", BROUGHT_BACK))
    row.drifted = aspect("DriftDetected", "it drifts")
    status = World().status(declared, unready("RollbackSucceeded", BROUGHT_BACK), row)
    patch = status_patch(declared.live, status, c.RELEASE_OWNED)
    types = [one["type"] for one in patch["status"]["conditions"]]
    assert types == ["Reconciling", "Ready", "Drifted", "Released", "Remediated", "TestSuccess", "Checked"]
    stalled = World().status(declared, unready("RetriesExceeded", stalled=True), row)
    assert set(shown(stalled)) | {"Reconciling"} == c.RELEASE_OWNED


# When it is written.


@pytest.mark.parametrize(("age", "told_of"), [(0.5, False), (1.5, True)])
def test_an_action_that_waits_for_a_hook_is_told_of_after_a_second(age: float, told_of: bool) -> None:
    """No pass is at work meanwhile."""
    world = World()
    declared = release()
    world.conditions[declared.stream] = Standing(ready="Unknown", run=RUN)
    world.releases[declared.stream] = ReleaseRow(ongoing=ongoing("install", since=NOW - age))
    assert (acting(world.engine) == [declared.stream]) is told_of
    writer = StatusWriter(world.engine)
    assert writer._may_pass(declared) is not told_of


def test_a_status_is_written_with_the_request_that_was_answered() -> None:
    world = World()
    declared = release(annotations={"reconcile.fluxcd.io/forceAt": "now"})
    world.conditions[declared.stream], world.releases[declared.stream] = ready(), installed()
    writer = StatusWriter(world.engine)
    writer.answered(declared.stream, "now")
    status = writer._patch(declared)["status"]
    assert (status["lastHandledReconcileAt"], status["lastHandledForceAt"]) == ("now", "now")
    assert status["observedGeneration"] == 1


def test_while_an_action_goes_on_nothing_is_written_for_the_inventory_alone() -> None:
    """It grows with every object that is applied."""
    world = World(objects={"apps/Deployment/shop/web": "apps/v1"})
    declared = release()
    row = installed(ongoing=ongoing("install"), released=None)
    world.conditions[declared.stream], world.releases[declared.stream] = Standing(ready="Unknown", run=RUN), row
    writer = StatusWriter(world.engine)
    status = release_status(world.engine, declared, world.conditions[declared.stream], row)
    assert status.inventory is not None
    told_so_far = told(declared, msgspec.structs.replace(status, inventory=None))
    declared.live["status"] = encode(told_so_far.status)
    assert writer._patch(told_so_far) == {}
    world.releases[declared.stream] = msgspec.structs.replace(row, ongoing=None)
    assert writer._patch(told_so_far)["status"].keys() >= {"inventory"}
