"""What of the spec of a HelmRelease decides what is done with its release."""

from tidelog.engine.helm.decisions import Attempts, Policy
from tidelog.engine.kinds.helmactions import ReleasingAction, ReleasingName
from tidelog.engine.kinds.helmrelease import HelmReleaseSpec


def policy_of(spec: HelmReleaseSpec) -> Policy:
    """What decides, as the spec says it or leaves it (contract HR-029 to HR-034, HR-052, HR-053)."""
    drift = spec.effective_drift_detection
    return Policy(
        install=_attempts(spec, "install", spec.effective_install),
        upgrade=_attempts(spec, "upgrade", spec.effective_upgrade),
        tests=spec.effective_test.enable,
        looks_for_drift=drift.detects,
        corrects_drift=drift.corrects,
    )


def _attempts(spec: HelmReleaseSpec, name: ReleasingName, action: ReleasingAction) -> Attempts:
    remediation = spec.effective_remediation(name)
    after = action.retries_after
    return Attempts(
        retries=remediation.retries,
        remediates_last=remediation.remediates_last_failure,
        remedy=remediation.effective_strategy,
        ignores_tests=spec.ignores_test_failures(name),
        retry_s=None if after is None else after.seconds,
    )
