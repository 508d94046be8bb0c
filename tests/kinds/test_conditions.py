"""Conditions are written as Flux's controllers write them (contract CM-016 to CM-026, SC-006 to SC-008)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds.conditions import Conditions, Observed
from tidelog.engine.kinds.meta import Condition, Status

THEN = Observed(1, "2026-11-23T01:00:00Z")
NOW = Observed(2, "2026-11-23T02:00:00Z")


def condition(
    type_: str, status: Status = "True", reason: str = "Because", message: str = "m", *, generation: int = 1
) -> Condition:
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=THEN.time,
        observed_generation=generation,
    )


def types(conditions: Conditions) -> list[str]:
    return [condition.type for condition in conditions]


def test_a_new_condition_has_the_time_and_the_generation_of_what_was_observed() -> None:
    (made,) = c.mark((), "Ready", "True", "Succeeded", "done", observed=NOW)
    assert (made.last_transition_time, made.observed_generation) == (NOW.time, 2)


def test_the_time_stays_while_the_condition_says_the_same_and_the_generation_moves() -> None:
    before = c.mark((), "Ready", "True", "Succeeded", "done", observed=THEN)
    (after,) = c.mark(before, "Ready", "True", "Succeeded", "done", observed=NOW)
    assert (after.last_transition_time, after.observed_generation) == (THEN.time, 2)


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [("False", "Succeeded", "done"), ("True", "Other", "done"), ("True", "Succeeded", "done again")],
    ids=["status", "reason", "message"],
)
def test_the_time_moves_with_status_reason_or_message(status: Status, reason: str, message: str) -> None:
    before = c.mark((), "Ready", "True", "Succeeded", "done", observed=THEN)
    (after,) = c.mark(before, "Ready", status, reason, message, observed=NOW)
    assert after.last_transition_time == NOW.time


def test_reconciling_and_stalled_exclude_each_other() -> None:
    stalled = c.mark_stalled(c.mark_reconciling((), "Progressing", "m", observed=THEN), "Bad", "m", observed=NOW)
    assert types(stalled) == ["Stalled"]
    assert types(c.mark_reconciling(stalled, "Progressing", "m", observed=NOW)) == ["Reconciling"]


def test_a_message_is_cut_at_32768_bytes() -> None:
    (fits,) = c.mark((), "Ready", "False", "Bad", "x" * 32_768, observed=NOW)
    assert fits.message == "x" * 32_768
    (made,) = c.mark((), "Ready", "False", "Bad", "x" * 32_769, observed=NOW)
    assert made.message == "x" * 32_765 + "..."


@given(st.integers(32_700, 32_800), st.sampled_from(["\N{EURO SIGN}", "\N{SNOWMAN}", "\N{GRINNING FACE}", "e"]))
def test_a_message_is_never_cut_inside_a_character(length: int, character: str) -> None:
    message = "x" * length + character * 20
    cut = c.cut(message)
    assert len(cut.encode()) <= c.MESSAGE_BYTES_MAX
    assert cut == message or message.startswith(cut.removesuffix("..."))
    assert len(cut.encode()) > c.MESSAGE_BYTES_MAX - 4 or cut == message


def test_a_message_that_was_cut_is_the_same_when_it_is_written_again() -> None:
    before = c.mark((), "Ready", "False", "Bad", "x" * 40_000, observed=THEN)
    (after,) = c.mark(before, "Ready", "False", "Bad", "x" * 40_000, observed=NOW)
    assert after.last_transition_time == THEN.time


def test_the_stored_order() -> None:
    given_ = [
        condition("Alpha", generation=1),
        condition("Zeta", generation=3),
        condition("Beta", generation=3),
        condition("Ready", generation=1),
        condition("Reconciling", generation=2),
        condition("Stalled", generation=1),
    ]
    for shuffled in itertools.permutations(given_):
        assert types(c.ordered(shuffled)) == ["Stalled", "Reconciling", "Ready", "Beta", "Zeta", "Alpha"]


def test_conditions_of_others_survive_and_stale_ones_of_ours_do_not() -> None:
    live = (condition("Ready", "False"), condition("Stalled"), condition("Approved", generation=7), condition("Audit"))
    ours = (condition("Ready"), condition("NotOurs"))
    merged = c.with_others(live, ours, c.TARGET_OWNED)
    assert types(merged) == ["Ready", "Approved", "Audit"]
    assert c.status_of(merged, "Ready") == "True"


def test_a_condition_that_is_not_there_is_unknown() -> None:
    assert c.status_of((), "Ready") == "Unknown"
    assert c.find((), "Ready") is None


def summary(*conditions: Condition) -> tuple[str, str, str]:
    ready = c.find(c.source_ready(conditions, observed=NOW), "Ready")
    assert ready is not None
    return ready.status, ready.reason, ready.message


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        # True negatives go first, and the first of the list tells the reason.
        (
            [condition("FetchFailed", reason="AuthenticationFailed"), condition("ArtifactInStorage")],
            ("False", "AuthenticationFailed", "m"),
        ),
        (
            [condition("Reconciling", reason="ProgressingWithRetry"), condition("FetchFailed", reason="Gone")],
            ("False", "Gone", "m"),
        ),
        (
            [condition("FetchFailed"), condition("StorageOperationFailed", reason="ReadOperationFailed")],
            ("False", "ReadOperationFailed", "m"),
        ),
        (
            [condition("ArtifactOutdated", reason="NewRevision"), condition("ArtifactInStorage")],
            ("False", "NewRevision", "m"),
        ),
        ([condition("Stalled", reason="URLInvalid")], ("False", "URLInvalid", "m")),
        # Then positives that are False, then those that are True.
        ([condition("ArtifactInStorage", "False", "Lost"), condition("FetchFailed", "False")], ("False", "Lost", "m")),
        ([condition("ArtifactInStorage", reason="Succeeded")], ("True", "Succeeded", "m")),
        (
            [condition("ArtifactInStorage", reason="Succeeded"), condition("FetchFailed", "False")],
            ("True", "Succeeded", "m"),
        ),
        # Negatives that are False count for readiness, and what is unknown comes last.
        ([condition("FetchFailed", "False", "Fine"), condition("SourceVerified", "Unknown")], ("True", "Fine", "m")),
        ([condition("SourceVerified", "Unknown", "Pending")], ("Unknown", "Pending", "m")),
        # A verification that failed wins, whatever else is wrong.
        (
            [condition("FetchFailed", reason="Gone"), condition("SourceVerified", "False", "InvalidCommitSignature")],
            ("False", "InvalidCommitSignature", "m"),
        ),
    ],
)
def test_the_readiness_of_a_source_is_a_summary(conditions: list[Condition], ready: tuple[str, str, str]) -> None:
    for shuffled in itertools.permutations(conditions):
        assert summary(*shuffled) == ready


def test_nothing_to_summarise_leaves_ready_as_it_was() -> None:
    before = (condition("Ready", "Unknown"), condition("Audit"))
    assert c.source_ready(before, observed=NOW) == before
