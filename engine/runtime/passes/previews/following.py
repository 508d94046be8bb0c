"""What follows the action that a preview of a HelmRelease tells of, as far as it can be said before that is done."""

import msgspec

from tidelog.engine.helm import decisions
from tidelog.engine.helm.decisions import Act, Known, Stall, State

FAILED_TEST = State("Failed", "release has test in failed phase")


def following(act: Act, known: Known) -> str:
    """What is done once an action has come to its end; empty where that is all, or is told by nothing yet.

    Args:
        act: what is done next.
        known: the release as it is before that.
    """
    match act.kind:
        case "test":
            return _after_tests(known)
        case "remediate":
            return _after_remedy(act, known)
        case _:
            return ""


def _after_tests(known: Known) -> str:
    """That is for the tests to say."""
    active = known.policy.active(known.row)
    if active is not None and active.ignores_tests:
        return "it is as it is to be, whatever the tests say"
    failed = _with_failure(known)
    decision = decisions.decide(failed, FAILED_TEST)
    if isinstance(decision, Stall):
        then = f"nothing more is tried: {decision.message}"
    elif not isinstance(decision, Act):
        return ""
    elif decision.target is not None:
        then = f"it is rolled back to version {decision.target.version}, and then {_after_remedy(decision, failed)}"
    elif decision.kind == "remediate":
        then = f"it is uninstalled, and then {_after_remedy(decision, failed)}"
    else:
        then = "it is upgraded again"
    return f"it is as it is to be, if the tests succeed; if one fails, {then}"


def _after_remedy(act: Act, known: Known) -> str:
    """It is tried again, or not (contract HR-097)."""
    ends = decisions.after(act, known)
    if ends.stall is not None:
        return f"nothing more is tried: {ends.stall.message}"
    when = f" in {ends.again_s:g} s" if ends.again_s else ""
    again = "it is installed again" if act.action == "uninstall-remediation" else "the upgrade is tried again"
    return f"{again}{when}"


def _with_failure(known: Known) -> Known:
    """The release once a test has failed, which counts as a failure of what made the version (contract HR-101)."""
    row = known.row
    if row.last_action == "install":
        row = msgspec.structs.replace(row, install_failures=row.install_failures + 1)
    elif row.last_action == "upgrade":
        row = msgspec.structs.replace(row, upgrade_failures=row.upgrade_failures + 1)
    return msgspec.structs.replace(known, row=row)
