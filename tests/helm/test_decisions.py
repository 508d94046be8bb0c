"""What is decided of a release: the table of contract 4.5, row by row."""

from typing import Any

import msgspec
import pytest

from tidelog.engine.helm.decisions import (
    Act,
    Attempts,
    Correct,
    Decision,
    Done,
    Known,
    Policy,
    Stall,
    after,
    before,
    changed_target,
    counts_anew,
    decide,
    has_been_tested,
    state_of,
    told_history,
)
from tidelog.engine.helm.storage import Info, RecordedChart, Release
from tidelog.events.projections.releases import ReleaseRow
from tidelog.events.vocabulary import ReleaseSnapshot
from tidelog.events.vocabulary.release import ReleaseTest

CHART = {"name": "web", "version": "1.0.0"}


def record(status: str = "deployed", version: int = 1, **rest: Any) -> Release:
    return Release(
        name="web",
        namespace="apps",
        version=version,
        info=Info(status=status),
        chart=RecordedChart(metadata=CHART),
        **rest,
    )


def snapshot(status: str = "deployed", version: int = 1, **rest: Any) -> ReleaseSnapshot:
    fields: dict[str, Any] = {
        "name": "web",
        "namespace": "apps",
        "version": version,
        "status": status,
        "digest": "sha256:1",
        "chart_name": "web",
        "chart_version": "1.0.0",
        "config_digest": "sha256:values",
        "api_version": "v2",
    }
    return ReleaseSnapshot(**(fields | rest))


def row(*history: ReleaseSnapshot, **rest: Any) -> ReleaseRow:
    return ReleaseRow(history=history or (snapshot(),), storage_namespace="apps", **rest)


def known(**changed: Any) -> Known:
    fields: dict[str, Any] = {
        "row": row(),
        "policy": Policy(),
        "last": record(),
        "last_digest": "sha256:1",
        "chart_name": "web",
        "chart_version": "1.0.0",
        "config_digest": "sha256:values",
        "generation": 2,
        "observed_generation": 2,
    }
    return Known(**(fields | changed))


FAILED = ReleaseTest(name="t", phase="Failed")
TESTS = Policy(tests=True)
DRIFT = Policy(looks_for_drift=True)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        pytest.param(known(last=None), "Absent", id="HR-069"),
        pytest.param(known(last=record("pending-install")), "Locked", id="HR-070"),
        pytest.param(known(last=record("pending-rollback"), row=ReleaseRow()), "Locked", id="HR-070 unknown"),
        pytest.param(known(last=record("uninstalled"), row=ReleaseRow()), "Absent", id="HR-071"),
        pytest.param(known(row=ReleaseRow()), "Unmanaged", id="HR-072"),
        pytest.param(known(last=record(version=2)), "Unmanaged", id="HR-073 version"),
        pytest.param(known(last_digest="sha256:2"), "Unmanaged", id="HR-073 digest"),
        pytest.param(known(last_digest="sha256:2", row=row(snapshot(api_version=""))), "InSync", id="HR-073 old form"),
        pytest.param(known(last=record("failed")), "Failed", id="HR-074"),
        pytest.param(
            known(last=record("uninstalling"), row=row(last_action="install")), "Failed", id="half uninstalled"
        ),
        pytest.param(known(last=record("uninstalled")), "Absent", id="HR-075"),
        pytest.param(known(chart_version="1.1.0"), "OutOfSync", id="HR-076 chart"),
        pytest.param(known(config_digest="sha256:others"), "OutOfSync", id="HR-076 values"),
        pytest.param(known(post_renderers="sha256:p", observed_generation=1), "OutOfSync", id="HR-077 renderers"),
        pytest.param(known(common_metadata="sha256:p", observed_generation=1), "OutOfSync", id="HR-077 metadata"),
        pytest.param(known(post_renderers="sha256:p"), "InSync", id="HR-077 same generation"),
        pytest.param(known(policy=TESTS), "Untested", id="HR-078"),
        pytest.param(
            known(policy=TESTS, row=row(snapshot(tests=(FAILED,), tested=True), last_action="upgrade")),
            "Failed",
            id="HR-079",
        ),
        pytest.param(
            known(
                policy=Policy(tests=True, upgrade=Attempts(ignores_tests=True)),
                row=row(snapshot(tests=(FAILED,), tested=True), last_action="upgrade"),
            ),
            "InSync",
            id="HR-079 ignored",
        ),
        pytest.param(known(policy=DRIFT, drifted=True), "Drifted", id="HR-080"),
        pytest.param(known(drifted=True), "InSync", id="HR-080 not looked for"),
        pytest.param(known(), "InSync", id="HR-081"),
        pytest.param(known(last=record("superseded")), "Unknown", id="HR-082"),
    ],
)
def test_state(found: Known, state: str) -> None:
    assert state_of(found).name == state


def failed(action: str = "upgrade", failures: int = 1, policy: Policy = Policy(), **rest: Any) -> Known:  # noqa: B008
    counted = {f"{action}_failures": failures} if action else {}
    history = (snapshot("failed", 2), snapshot("superseded", 1))
    return known(last=record("failed", 2), row=row(*history, last_action=action, **counted), policy=policy, **rest)


RETRIES = Attempts(retries=1, remediates_last=True)
ROLLBACK = Policy(upgrade=Attempts(retries=1, remediates_last=True, remedy="rollback"))


@pytest.mark.parametrize(
    ("found", "decision"),
    [
        pytest.param(known(), Done(), id="HR-083"),
        pytest.param(known(forced=True), "upgrade", id="HR-083 forced"),
        pytest.param(known(last=record("pending-upgrade")), "unlock", id="HR-084"),
        pytest.param(known(last=None), "install", id="HR-085"),
        pytest.param(
            known(last=None, row=ReleaseRow(last_action="install", install_failures=1)),
            Stall("RetriesExceeded", "Failed to install after 1 attempt(s)"),
            id="HR-085 exhausted",
        ),
        pytest.param(
            known(last=None, row=ReleaseRow(last_action="install", install_failures=1), forced=True),
            "install",
            id="HR-085 forced",
        ),
        pytest.param(known(row=ReleaseRow()), "upgrade", id="HR-086"),
        pytest.param(known(chart_version="2.0.0"), "upgrade", id="HR-087"),
        pytest.param(
            known(chart_version="2.0.0", row=row(last_action="upgrade", upgrade_failures=1)),
            Stall("RetriesExceeded", "Failed to upgrade after 1 attempt(s)"),
            id="HR-087 exhausted",
        ),
        pytest.param(known(policy=DRIFT, drifted=True), Correct(corrects=False), id="HR-088 warn"),
        pytest.param(
            known(policy=Policy(looks_for_drift=True, corrects_drift=True), drifted=True),
            Correct(corrects=True),
            id="HR-088 enabled",
        ),
        pytest.param(known(policy=TESTS), "test", id="HR-089"),
        pytest.param(failed("install", 3, Policy(install=Attempts(retry_s=300.0))), "upgrade", id="HR-090"),
        pytest.param(failed("", 0), "upgrade", id="HR-091 no action"),
        *(
            pytest.param(
                known(last=record("uninstalling"), row=row(last_action=action), **more),
                "uninstall-remediation",
                id=f"half uninstalled after {action} {more}",
            )
            for action, more in (("install", {}), ("upgrade", {}), ("upgrade", {"forced": True}))
        ),
        pytest.param(failed(failures=0), "upgrade", id="HR-091 no failure"),
        pytest.param(failed(forced=True), "upgrade", id="HR-091 forced"),
        pytest.param(failed("install"), Stall("RetriesExceeded", "Failed to install after 1 attempt(s)"), id="HR-092"),
        pytest.param(failed("install", policy=Policy(install=RETRIES)), "uninstall-remediation", id="HR-093"),
        pytest.param(failed(policy=Policy(upgrade=RETRIES)), "uninstall-remediation", id="HR-094"),
        pytest.param(failed(policy=ROLLBACK), "rollback", id="HR-095"),
    ],
)
def test_decision(found: Known, decision: Decision | str) -> None:
    decided = decide(found, state_of(found))
    assert (decided.action if isinstance(decided, Act) else decided) == decision


def test_history_counts_no_more_of_a_release_that_somebody_else_changed() -> None:
    found = known(last_digest="sha256:2")
    decided = decide(found, state_of(found))
    assert isinstance(decided, Act)
    assert decided.clears_history


def test_a_rollback_goes_to_the_newest_version_that_was_good() -> None:
    bad = snapshot("superseded", 2, tests=(FAILED,), tested=True)
    history = (snapshot("failed", 4), snapshot("failed", 3), bad, snapshot("superseded", 1))
    found = msgspec.structs.replace(
        failed(policy=ROLLBACK), last=record("failed", 4), row=row(*history, last_action="upgrade", upgrade_failures=1)
    )
    decided = decide(found, state_of(found))
    assert isinstance(decided, Act)
    assert decided.target == history[3]


def test_without_a_good_version_there_is_no_rollback() -> None:
    found = msgspec.structs.replace(
        failed(policy=ROLLBACK),
        row=row(snapshot("failed", 2), snapshot("failed", 1), last_action="upgrade", upgrade_failures=1),
    )
    decided = decide(found, state_of(found))
    assert isinstance(decided, Stall)
    assert decided.reason == "MissingRollbackTarget"


RELEASE = Act(action="upgrade", kind="release", why="")
REMEDY = Act(action="rollback", kind="remediate", why="")


def test_each_kind_of_action_runs_once_in_a_reconciliation() -> None:
    """Contract HR-096, HR-098."""
    assert before(RELEASE, {"test"}, known()).goes_on
    assert before(RELEASE, {"release"}, known()) == after(REMEDY, known(row=row(last_action="")))
    again = before(
        RELEASE, {"release"}, known(row=row(last_action="upgrade"), policy=Policy(upgrade=Attempts(retry_s=7.0)))
    )
    assert (again.goes_on, again.again_s) == (False, 7.0)


@pytest.mark.parametrize(
    ("found", "again_s", "reason"),
    [
        pytest.param(failed(policy=ROLLBACK), 0.0, None, id="retries left"),
        pytest.param(failed(failures=2, policy=ROLLBACK), None, "RetriesExceeded", id="none left"),
        pytest.param(failed(failures=2, policy=Policy(upgrade=RETRIES)), 0.0, None, id="it is installed anew"),
        pytest.param(
            failed("install", 2, policy=Policy(install=RETRIES)), None, "RetriesExceeded", id="no install is left"
        ),
    ],
)
def test_a_reconciliation_ends_with_what_puts_something_right(
    found: Known, again_s: float | None, reason: str | None
) -> None:
    """Contract HR-097."""
    following = after(REMEDY, found)
    assert not following.goes_on
    assert following.again_s == again_s
    assert (following.stall.reason if following.stall else None) == reason


@pytest.mark.parametrize(("retries", "failures", "over"), [(0, 0, False), (0, 1, True), (1, 1, False), (-1, 99, False)])
def test_retries_are_those_beyond_the_first_attempt(retries: int, failures: int, over: bool) -> None:
    """Contract HR-099."""
    assert Attempts(retries=retries).are_exhausted(failures) is over


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"generation": 3},
        {"chart_version": "2"},
        {"config_digest": "sha256:b"},
        {"dependencies": "sha256:e"},
        {"reset_asked": True},
    ],
    ids=str,
)
def test_failures_count_no_more_once_something_else_is_tried(changed: dict[str, Any]) -> None:
    """Contract HR-102."""
    tried = ReleaseRow(
        attempted_generation=2, attempted_version="1", attempted_config="sha256:a", attempted_dependencies="sha256:d"
    )
    same: dict[str, Any] = {
        "generation": 2,
        "chart_version": "1",
        "config_digest": "sha256:a",
        "dependencies": "sha256:d",
        "reset_asked": False,
    }
    assert counts_anew(tried, **(same | changed)) is bool(changed)


def test_what_a_release_depended_on_before_that_was_noted_counts_for_nothing() -> None:
    tried = ReleaseRow(attempted_generation=2, attempted_version="1")
    now: dict[str, Any] = {"generation": 2, "chart_version": "1", "config_digest": "", "reset_asked": False}
    assert not counts_anew(tried, **now, dependencies="sha256:d")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({}, ""),
        ({"storage_namespace": "other"}, "storage namespace"),
        ({"namespace": "other"}, "release namespace"),
        ({"name": "other"}, "release name"),
        ({"chart_name": "other"}, "chart name"),
        ({"chart_name": "other", "in_place": True}, ""),
    ],
)
def test_another_target_has_the_release_before_go_first(changed: dict[str, Any], what: str) -> None:
    """Contract HR-103, HR-046."""
    same: dict[str, Any] = {
        "name": "web",
        "namespace": "apps",
        "storage_namespace": "apps",
        "chart_name": "web",
        "in_place": False,
    }
    assert changed_target(row(), **(same | changed)) == what
    assert not changed_target(ReleaseRow(storage_namespace="apps"), **(same | changed))


@pytest.mark.parametrize(
    ("tests", "tested", "known_"),
    [
        ((), False, False),
        ((), True, True),
        (("Succeeded",), True, True),
        (("Succeeded", "Failed"), True, True),
        (("Succeeded", "Running"), True, False),
    ],
)
def test_version_is_tested_once_its_tests_came_to_an_end(tests: tuple[str, ...], tested: bool, known_: bool) -> None:
    """Contract HR-078."""
    phases = tuple(ReleaseTest(name=phase, phase=phase) for phase in tests)
    assert has_been_tested(snapshot(tests=phases, tested=tested)) is known_


def test_the_history_that_is_told_goes_down_to_the_version_that_was_good() -> None:
    """Contract HR-124."""
    history = tuple(snapshot("failed", version) for version in range(9, 2, -1))
    good = (*history, snapshot("superseded", 2), snapshot("superseded", 1))
    assert told_history(row(*good), Policy()) == good[:8]
    assert told_history(row(*history), Policy()) == history[:5]
    retrying = row(*good, last_action="upgrade")
    assert told_history(retrying, Policy(upgrade=Attempts(retry_s=1.0))) == good[:5]


def test_another_version_than_is_asked_for_is_upgraded_though_chart_and_values_are_the_same() -> None:
    asked = known(other="pinned to version 1")
    state = state_of(asked)
    assert (state.name, state.why) == ("OutOfSync", "pinned to version 1")
    assert isinstance(decide(asked, state), Act)
    assert state_of(known()).name == "InSync"
