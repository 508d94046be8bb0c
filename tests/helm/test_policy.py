"""What of a spec decides what is done with a release (contract HR-029 to HR-034, HR-052, HR-053)."""

from typing import Any

import pytest

from tests.kinds.samples import release
from tidelog.engine.helm.decisions import Attempts, Policy
from tidelog.engine.helm.policy import policy_of
from tidelog.engine.kinds.decode import decode
from tidelog.engine.kinds.helmrelease import HelmRelease


def policy(**spec: Any) -> Policy:
    live = release(chartRef={"kind": "HelmChart", "name": "c"}, **spec)
    return policy_of(decode(HelmRelease, live).spec)


def test_nothing_is_tried_again_put_right_tested_or_compared_unless_the_spec_says_so() -> None:
    assert policy() == Policy(install=Attempts(remedy="uninstall"), upgrade=Attempts(remedy="rollback"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"install": {"remediation": {"retries": 3, "remediateLastFailure": True}}},
            Policy(install=Attempts(retries=3, remediates_last=True)),
        ),
        (
            {"upgrade": {"remediation": {"retries": 1, "strategy": "uninstall"}}},
            Policy(upgrade=Attempts(retries=1, remediates_last=True, remedy="uninstall")),
        ),
        (
            {"upgrade": {"strategy": {"name": "RetryOnFailure", "retryInterval": "30s"}}},
            Policy(upgrade=Attempts(remedy="rollback", retry_s=30.0)),
        ),
        (
            {
                "test": {"enable": True, "ignoreFailures": True},
                "install": {"remediation": {"ignoreTestFailures": False}},
            },
            Policy(upgrade=Attempts(remedy="rollback", ignores_tests=True), tests=True),
        ),
        ({"driftDetection": {"mode": "warn"}}, Policy(looks_for_drift=True)),
        ({"driftDetection": {"mode": "enabled"}}, Policy(looks_for_drift=True, corrects_drift=True)),
    ],
)
def test_what_a_spec_says_decides(spec: dict[str, Any], expected: Policy) -> None:
    assert policy(**spec) == expected
