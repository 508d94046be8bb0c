"""What a preview of a HelmRelease says of what follows a test, or what puts a failure right."""

from typing import Any

import msgspec
import pytest

from tests.helm.test_decisions import failed, known, record, row, snapshot
from tidelog.engine.helm.decisions import Act, Attempts, Known, Policy, decide, state_of
from tidelog.engine.runtime.passes.previews.following import following

ONCE = Policy(upgrade=Attempts(retries=0, remediates_last=True, remedy="rollback"))
TWICE = Policy(upgrade=Attempts(retries=1, remediates_last=True, remedy="rollback"))
ANEW = Policy(upgrade=Attempts(retries=0, remediates_last=True, remedy="uninstall"))


STALLED = "nothing more is tried: Failed to upgrade after 1 attempt(s)"


def then(found: Known) -> str:
    act = decide(found, state_of(found))
    assert isinstance(act, Act)
    return following(act, found)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (failed(policy=ONCE), STALLED),
        (failed(policy=TWICE), "the upgrade is tried again"),
        (failed(policy=TWICE, failures=2), "nothing more is tried: Failed to upgrade after 2 attempt(s)"),
        (failed(policy=ANEW), "it is installed again"),
        (
            failed("install", policy=Policy(install=Attempts(retries=0, remediates_last=True))),
            "nothing more is tried: Failed to install after 1 attempt(s)",
        ),
        (failed("install", policy=Policy(install=Attempts(retries=1))), "it is installed again"),
        (known(last=None), ""),
    ],
)
def test_what_follows_a_remedy_is_whether_it_is_tried_again(found: Known, said: str) -> None:
    assert then(found) == said


def untested(policy: Policy, **rest: Any) -> Known:
    """A version that was made well, and is to be tested."""
    history = (snapshot("deployed", 2), snapshot("superseded", 1))
    tested = msgspec.structs.replace(policy, tests=True)
    return known(last=record(version=2), row=row(*history, **({"last_action": "upgrade"} | rest)), policy=tested)


WELL = "it is as it is to be, if the tests succeed; if one fails, "


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (untested(Policy()), f"{WELL}{STALLED}"),
        (
            untested(ONCE),
            f"{WELL}it is rolled back to version 1, and then {STALLED}",
        ),
        (untested(TWICE), f"{WELL}it is rolled back to version 1, and then the upgrade is tried again"),
        (untested(ANEW), f"{WELL}it is uninstalled, and then it is installed again"),
        (untested(Policy(upgrade=Attempts(retry_s=300))), f"{WELL}it is upgraded again"),
        (
            untested(Policy(upgrade=Attempts(ignores_tests=True))),
            "it is as it is to be, whatever the tests say",
        ),
        (untested(Policy(), last_action=""), f"{WELL}it is upgraded again"),
    ],
)
def test_what_follows_tests_is_for_them_to_say(found: Known, said: str) -> None:
    assert state_of(found).name == "Untested"
    assert then(found) == said
