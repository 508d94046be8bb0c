"""How a source or target stands, after what happened to it."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.events.logs import JANE, Log, body, digest, moment, run_id, source, target
from tidelog.events.names import ObjectKey, PlanId, Revision, RunId
from tidelog.events.projection import Fold, Rows
from tidelog.events.projections import ACTUAL, CONDITIONS, Actual, Standing, Terms
from tidelog.events.projections.conditions import ATTEMPTS_MAX
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    BlastRadius,
    Event,
    HealthChanged,
    ObjectObserved,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    Rendered,
    RevisionFetched,
    RevisionSettled,
    RunEnded,
    StageFailed,
    TargetDeclared,
    TargetRemoved,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.events.vocabulary.fetch import Chart

SHOP, WEB, SRC = target("east", "shop"), target("east", "web"), source("east", "src")
ONE, TWO = Revision("main@sha1:1"), Revision("main@sha1:2")
PLAN, OTHER = PlanId("plan-1"), PlanId("plan-2")


class Story(Log):
    """What happened to `SHOP`, a line an event."""

    def __init__(self) -> None:
        super().__init__()
        self.run: RunId | None = None
        self._runs = 0

    def begins(self) -> "Story":
        self._runs += 1
        self.run = run_id(self._runs)
        return self

    def then(self, *events: Event, stream: str = SHOP, **rest: Any) -> "Story":
        for event in events:
            self.append(stream, event, run=self.run, **rest)
        return self

    def asked(self, event: Event) -> "Story":
        self.append(SHOP, event, actor=JANE)
        return self

    def standing(self, stream: str = SHOP) -> Standing:
        row = self.rows().get(stream)
        assert row is not None
        return row

    def rows(self) -> Rows[Standing]:
        rows: Rows[Standing] = Rows()
        fold = Fold()
        fold.add(CONDITIONS, rows)
        fold.fold(self.entries)
        return rows


def declared(generation: int = 1) -> TargetDeclared:
    return TargetDeclared(uid="u", generation=generation, spec=body("spec"))


def rendered(revision: Revision = ONE, of_set: str = "set") -> Rendered:
    return Rendered(
        revision=revision,
        inputs=digest("inputs"),
        read_set=body("read"),
        toolchain=(),
        set=digest(of_set),
        objects=body(of_set),
        count=1,
    )


def planned(plan: PlanId = PLAN, revision: Revision = ONE, of_set: str = "set") -> Planned:
    return Planned(plan=plan, revision=revision, set=digest(of_set), waves=body("waves"), blast_radius=BlastRadius())


def verified(plan: PlanId = PLAN) -> Verified:
    return Verified(plan=plan, policies=digest("policies"), checks=("dry-run",))


def ended(outcome: Any = "succeeded", generation: int = 1, **rest: Any) -> RunEnded:
    return RunEnded(outcome=outcome, generation=generation, **rest)


def failed(reason: str = "BuildFailed", **rest: Any) -> StageFailed:
    return StageFailed(
        **{"stage": "render", "reason": reason, "final": False, "message": "no", "generation": 1, **rest}
    )


def applied(plan: PlanId = PLAN) -> tuple[Event, ...]:
    return (
        verified(plan),
        ApplyStarted(plan=plan, waves=1),
        ApplyFinished(plan=plan, revision=ONE, set=digest("set")),
    )


def test_a_run_that_ends_well_makes_a_target_ready_at_its_revision_and_generation() -> None:
    story = Story().then(declared(3)).begins().then(rendered(), planned(), *applied())
    standing = story.standing()
    assert (standing.ready, standing.run, standing.applying) == ("Unknown", run_id(1), None)
    standing = story.then(ended(generation=3, revision=ONE, set=digest("set"), token="now")).standing()
    assert (standing.ready, standing.reason, standing.run) == ("True", "Succeeded", None)
    assert (standing.applied, standing.attempted, standing.observed, standing.handled) == (ONE, ONE, 3, "now")
    assert (standing.set, standing.began, standing.began_by) == (digest("set"), moment(2), 3)


def test_what_a_chart_s_source_was_looked_at_is_known_beside_what_the_chart_is_made_of() -> None:
    def fetched(revision: Revision) -> RevisionFetched:
        made = Chart(name="web", source=revision)
        return RevisionFetched(revision=Revision("1.0.0"), tree="1" * 40, artifact=digest("a"), size=1, chart=made)

    story = Story().begins().then(fetched(ONE), stream=SRC).then(ended(revision=Revision("1.0.0")), stream=SRC)
    assert story.standing(SRC).source == ONE
    standing = story.begins().then(ended("unchanged", source=TWO), stream=SRC).standing(SRC)
    assert (standing.source, standing.chart) == (TWO, Chart(name="web", source=ONE))
    assert story.begins().then(ended("unchanged"), stream=SRC).standing(SRC).source == TWO
    assert story.begins().then(fetched(ONE), stream=SRC).standing(SRC).source == ONE


def test_readiness_keeps_its_time_until_something_of_it_changes() -> None:
    story = Story().begins().then(ended(revision=ONE))
    assert story.standing().since == moment(1)
    assert story.begins().then(ended(revision=TWO)).standing().since == moment(1)
    assert story.begins().then(failed()).standing().since == moment(3)
    assert story.begins().then(failed(message="", repeats=True)).standing().since == moment(3)
    assert story.begins().then(failed(message="other")).standing().since == moment(5)


def test_failures_are_counted_until_a_run_ends_well() -> None:
    story = Story()
    for count in (1, 2, 3):
        standing = story.begins().then(failed(message="" if count > 1 else "no", repeats=count > 1)).standing()
        assert (standing.failures, standing.message, standing.run) == (count, "no", None)
    standing = story.begins().then(ended(revision=ONE)).standing()
    assert (standing.failures, standing.failed, standing.final, standing.waits_for) == (0, None, False, None)


def test_only_the_last_failure_says_whether_a_person_or_a_new_input_is_needed() -> None:
    story = Story().begins().then(failed("InvalidSpec", final=True, stalled=True, generation=2, waits_for=SRC))
    standing = story.standing()
    assert (standing.stalled, standing.final, standing.tried, standing.waits_for) == (True, True, 2, SRC)
    for event in (
        VerificationFailed(plan=PLAN, policies=digest("p"), failed=(Verdict(check="c", passed=False, message="m"),)),
        ApplyFailed(plan=PLAN, wave=0, reason="ReconciliationFailed", message="m"),
        HealthChanged(checked=True, health="Failed", message="m"),
        failed(),
    ):
        again = Story().begins().then(failed("InvalidSpec", final=True, stalled=True, waits_for=SRC))
        standing = again.begins().then(event).standing()
        assert (standing.stalled, standing.final, standing.waits_for) == (False, False, None), event


def test_what_the_last_run_failed_of_for_good_does_not_outlive_the_beginning_of_the_next() -> None:
    for first in (rendered(TWO), planned(), PlanHeld(plan=PLAN, check="prune-guard", why="much")):
        story = Story().begins().then(failed(final=True, stalled=True, waits_for=SRC))
        standing = story.begins().then(first).standing()
        assert (standing.final, standing.stalled, standing.waits_for) == (False, False, None), first
        standing = story.then(ended("superseded")).standing()
        assert (standing.run, standing.final) == (None, False), "the next pass tries, whatever the revision"


def test_a_held_plan_waits_in_its_open_run_until_it_is_decided() -> None:
    story = (
        Story().begins().then(planned(), verified(), PlanHeld(plan=PLAN, check="prune-guard", why="it deletes much"))
    )
    standing = story.standing()
    assert (standing.ready, standing.reason, standing.message) == ("False", "PlanHeld", "it deletes much")
    assert standing.run == run_id(1)
    assert standing.held is not None
    assert (standing.held.plan, standing.held.since, standing.failures) == (PLAN, moment(3), 0)
    standing = story.asked(PlanApproved(plan=PLAN, why="meant", until=moment(99))).standing()
    assert standing.approval is not None
    assert (standing.approval.plan, standing.approval.by, standing.approval.until) == (PLAN, str(JANE), moment(99))
    assert standing.run == run_id(1), "a request is no run"
    standing = story.then(*applied(), ended(revision=ONE)).standing()
    assert (standing.held, standing.approval, standing.ready) == (None, None, "True")


def test_another_plan_is_not_held_by_the_hold_of_the_one_before() -> None:
    story = Story().begins().then(planned(), PlanHeld(plan=PLAN, check="prune-guard", why="much"), planned(OTHER))
    assert story.standing().held is None


def test_a_rejected_plan_is_not_made_again_until_the_inputs_change() -> None:
    story = Story().then(declared(4)).begins().then(planned(), PlanHeld(plan=PLAN, check="prune-guard", why="much"))
    story.asked(PlanRejected(plan=PLAN, why="a mistake")).then(ended("rejected", generation=4))
    standing = story.standing()
    assert (standing.ready, standing.reason) == ("False", "PlanRejected")
    assert standing.message == "the plan was rejected: a mistake"
    assert (standing.final, standing.tried, standing.attempted, standing.run, standing.held) == (
        True,
        4,
        ONE,
        None,
        None,
    )


def test_a_superseded_run_leaves_things_as_they_were() -> None:
    story = Story().begins().then(ended(revision=ONE)).begins().then(rendered(TWO), ended("superseded"))
    standing = story.standing()
    assert (standing.ready, standing.applied, standing.run, standing.failures) == ("True", ONE, None, 0)


def test_attempts_at_one_set_that_end_alike_are_one_entry_and_the_newest_is_first() -> None:
    story = Story()
    for _ in range(3):
        story.begins().then(rendered(), ApplyFailed(plan=PLAN, wave=0, reason="ReconciliationFailed", message="m"))
    story.begins().then(rendered(), ended(revision=ONE, set=digest("set")))
    story.begins().then(rendered(TWO, "other"), ended(revision=TWO, set=digest("other")))
    newest, then, first = story.standing().history
    assert (newest.set, newest.reason, newest.total, newest.revision) == (digest("other"), "Succeeded", 1, TWO)
    assert (then.set, then.reason, then.total) == (digest("set"), "Succeeded", 1)
    assert (first.reason, first.total, first.first, first.last) == ("ReconciliationFailed", 3, moment(2), moment(6))
    assert first.began == moment(5)


def test_no_more_attempts_are_kept_than_flux_shows() -> None:
    story = Story()
    for number in range(ATTEMPTS_MAX + 3):
        story.begins().then(rendered(of_set=str(number)), ended(revision=ONE, set=digest(str(number))))
    history = story.standing().history
    assert [attempt.set for attempt in history] == [digest(str(number)) for number in range(ATTEMPTS_MAX + 2, 2, -1)]


def test_a_failure_to_build_is_no_attempt_at_a_set() -> None:
    assert (
        Story()
        .begins()
        .then(rendered(), ended(revision=ONE, set=digest("set")))
        .begins()
        .then(failed(stage="render"))
        .standing()
        .history[0]
        .reason
        == "Succeeded"
    )


def test_health_that_does_not_come_fails_the_run() -> None:
    story = Story().begins().then(rendered(), HealthChanged(checked=True, health="InProgress", message="waits"))
    assert (story.standing().health, story.standing().health_since) == ("InProgress", moment(2))
    standing = story.then(
        HealthChanged(checked=True, health="Failed", reason="HealthCheckFailed", message="late")
    ).standing()
    assert (standing.ready, standing.reason, standing.message) == ("False", "HealthCheckFailed", "late")
    assert (standing.failures, standing.run, standing.history[0].reason) == (1, None, "HealthCheckFailed")


def test_a_new_run_waits_for_health_from_its_own_beginning() -> None:
    story = (
        Story()
        .begins()
        .then(rendered(), HealthChanged(checked=True, health="InProgress", message="waits"), ended("superseded"))
    )
    standing = story.begins().then(rendered(TWO)).standing()
    assert (standing.health, standing.health_since) == (None, None)


def test_health_that_is_there_stays_when_a_new_run_begins() -> None:
    story = (
        Story()
        .begins()
        .then(HealthChanged(checked=True, health="Current"), ended(revision=ONE))
        .begins()
        .then(rendered(TWO))
    )
    assert story.standing().health == "Current"


def test_the_health_of_a_target_as_an_object_of_another_is_not_the_health_of_what_it_owns() -> None:
    """A Kustomization may be applied by another: both are told of in its stream."""
    story = Story().begins().then(ObjectObserved(uid="u", resource_version="1", state=body("s"), health="Current"))
    story.then(HealthChanged(checked=True, health="Current"), ended(revision=ONE))
    story.run = None
    story.then(HealthChanged(health="Failed", reason="Stalled", message="the object says so"))
    standing = story.standing()
    assert (standing.ready, standing.health, standing.failures) == ("True", "Current", 0)
    story.begins().then(HealthChanged(checked=True, health="InProgress", message="what it owns"))
    actual: Rows[Actual] = Rows()
    fold = Fold()
    fold.add(ACTUAL, actual)
    fold.fold(story.entries)
    row = actual.get(SHOP)
    assert row is not None
    assert row.health == "Failed", "the health of the object, as it was observed"


def test_the_health_of_an_object_makes_no_row() -> None:
    stream = ObjectKey("apps", "Deployment", "shop", "web").stream("east")
    story = Story()
    story.append(stream, HealthChanged(health="Failed"))
    assert story.rows().get(stream) is None


def test_a_revision_that_leaves_targets_unchanged_moves_them_and_nobody_else() -> None:
    story = Story().begins().then(ended(revision=ONE)).begins().then(ended(revision=ONE), stream=WEB)
    story.begins().then(
        RevisionFetched(revision=TWO, tree="1" * 40, artifact=digest("a"), size=7),
        RevisionSettled(revision=TWO, targets=(SHOP, target("east", "unknown"))),
        stream=SRC,
    )
    assert (story.standing().applied, story.standing(WEB).applied) == (TWO, ONE)
    assert (story.standing(SRC).attempted, story.standing(SRC).size) == (TWO, 7)
    assert story.rows().get(target("east", "unknown")) is None


def test_a_target_that_is_removed_has_no_row_and_begins_anew() -> None:
    story = Story().then(declared()).begins().then(failed(), TargetRemoved(uid="u"))
    assert story.rows().get(SHOP) is None
    story.run = None
    assert story.then(declared(7)).standing() == Standing(ready="Unknown", declared=7, position=4)


def test_an_apply_that_began_is_known_until_it_finished_or_failed() -> None:
    story = Story().begins().then(planned(), verified(), ApplyStarted(plan=PLAN, waves=1))
    assert story.standing().applying == PLAN
    story.then(ApplyFailed(plan=PLAN, wave=0, reason="Interrupted", message="m"))
    assert story.standing().applying is None


def test_applies_that_fail_are_counted_until_one_does_not_or_another_thing_is_wanted() -> None:
    no = ApplyFailed(plan=PLAN, wave=0, reason="PruneFailed", message="m")
    cut_short = ApplyFailed(plan=PLAN, wave=0, reason="Interrupted", message="m")

    def failing() -> Story:
        story = Story().then(declared()).begins().then(planned(), no).begins().then(planned(), cut_short)
        return story.begins().then(failed(message="of another stage")).begins().then(planned(), no)

    assert failing().standing().failed_applies == 2
    assert failing().then(declared()).standing().failed_applies == 2
    finished = ApplyFinished(plan=PLAN, revision=ONE, set=digest("set"))
    for end in (finished, ended("unchanged"), declared(2), rendered(of_set="other"), planned(of_set="other")):
        assert failing().then(end).standing().failed_applies == 0, end


def test_the_terms_of_an_apply_are_the_only_ones_once_it_finished() -> None:
    first, second = Terms(), Terms("system:serviceaccount:shop:heir", ("helm",))
    again = ApplyStarted(plan=PLAN, waves=1, identity=second.identity, overridden=second.overridden)
    story = Story().begins().then(planned(), *applied())
    assert story.standing().terms == (first,)
    story.then(again)
    assert story.standing().terms == (first, second)
    story.then(ApplyFailed(plan=PLAN, wave=1, reason="ReconciliationFailed", message="half of it"))
    assert story.standing().terms == (first, second), "by either of them, something was not asked about"
    story.then(again, ApplyFinished(plan=PLAN, revision=ONE, set=digest("set")))
    assert story.standing().terms == (second,)


RUN_EVENTS = st.sampled_from(
    [
        rendered(),
        planned(),
        verified(),
        PlanHeld(plan=PLAN, check="c", why="w"),
        ApplyStarted(plan=PLAN, waves=1),
        ApplyFailed(plan=PLAN, wave=0, reason="ReconciliationFailed", message="m"),
        ApplyFinished(plan=PLAN, revision=ONE, set=digest("set")),
        VerificationFailed(plan=PLAN, policies=digest("p"), failed=()),
        HealthChanged(checked=True, health="InProgress"),
        HealthChanged(checked=True, health="Current"),
        HealthChanged(checked=True, health="Failed", message="m"),
        failed(),
        failed(final=True, stalled=True, waits_for=SRC),
        ended(revision=ONE, set=digest("set")),
        ended("unchanged", revision=TWO, set=digest("other")),
        ended("superseded"),
        ended("rejected"),
    ]
)


@given(events=st.lists(st.tuples(RUN_EVENTS, st.booleans()), max_size=30))
def test_whatever_happens_a_row_does_not_contradict_itself(events: list[tuple[Event, bool]]) -> None:
    story = Story().begins()
    for event, new_run in events:
        (story.begins() if new_run else story).then(event)
        row = story.standing()
        assert (row.ready == "True") <= (row.failures == 0 and not row.stalled and not row.final)
        assert row.stalled <= (row.ready == "False")
        assert (row.failures > 0) == (row.failed is not None)
        assert (row.held is not None) <= (row.reason == "PlanHeld" and row.run is not None)
        assert (row.health is None) == (row.health_since is None)
        assert len(row.history) <= ATTEMPTS_MAX
        assert len({(attempt.set, attempt.reason) for attempt in row.history}) == len(row.history)
        assert all(attempt.first <= attempt.last and attempt.total > 0 for attempt in row.history)
        lasts = [attempt.last for attempt in row.history]
        assert lasts == sorted(lasts, reverse=True)


def test_failures_of_which_not_each_is_recorded_are_counted_by_their_attempt() -> None:
    story = Story().begins().then(rendered(), failed(stage="verify"))
    story = story.begins().then(failed(stage="verify", message="", repeats=True, attempt=40))
    standing = story.begins().then(failed(stage="verify", message="other", attempt=43)).standing()
    assert (standing.failures, standing.message) == (43, "other")
    assert [attempt.total for attempt in standing.history] == [41]
    assert story.begins().then(failed(message="", repeats=True, attempt=1)).standing().failures == 44, "never fewer"
