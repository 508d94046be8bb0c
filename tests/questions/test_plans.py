"""Recorded plans: what was going to be done, what was said of it, and what became of it."""

import msgspec
import pytest

from tests.questions.conftest import Ask
from tests.questions.scenes import APPS, DB, GRACE, WEB, Scene, manifest, revision, shop
from tidelog.engine.plan.model import Change, Step
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import NotThereError, UnclearNameError, find
from tidelog.engine.views.plans import PlanListed, PlanTold, find_plan, last_plan, plans_of
from tidelog.events import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import digest_of
from tidelog.events.names import PlanId, RunId
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    BlastRadius,
    Event,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    Verdict,
    VerificationFailed,
    Verified,
)
from tidelog.storage.log.ids import new_id

PLAN = PlanId("plan-0123456789abcdef")
VERIFIED = Verified(plan=PLAN, policies=digest_of(b""), checks=("schema",))
HELD = PlanHeld(plan=PLAN, check="prune-guard", why="it deletes a lot")
APPROVED = PlanApproved(plan=PLAN, why="meant")
STARTED = ApplyStarted(plan=PLAN, waves=1)
VERDICT = Verdict(check="schema", passed=False, object=WEB.id, path="spec.replicas", message="must be a number")


def _plan(scene: Scene, *then: Event, steps: tuple[Step, ...] = ()) -> Scene:
    made, bodies = scene.rendered("three", {WEB: manifest("web", "shop:3")})
    intent, more = scene.planned(APPS, PLAN, "three", made, steps)
    scene.tell(APPS, made, intent, *then, run=RunId(new_id()), bodies=[*bodies, *more])
    return scene


def _listed(archive: Archive) -> PlanListed:
    return next(plans_of(archive, find(archive, ("ks/apps",), None)))


@pytest.mark.parametrize(
    ("then", "state"),
    [
        ((), "planned"),
        ((VERIFIED,), "verified"),
        ((VerificationFailed(plan=PLAN, policies=digest_of(b""), failed=(VERDICT,)),), "refused"),
        ((VERIFIED, HELD), "held"),
        ((VERIFIED, HELD, APPROVED), "approved"),
        ((VERIFIED, HELD, PlanRejected(plan=PLAN, why="no")), "rejected"),
        ((VERIFIED, STARTED), "applying"),
        ((VERIFIED, STARTED, ApplyFailed(plan=PLAN, wave=0, reason="Forbidden", message="no")), "failed"),
        ((VERIFIED, STARTED, ApplyFinished(plan=PLAN, revision=revision("three"), set=digest_of(b""))), "applied"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_plan_says_what_became_of_it(ask: Ask, then: tuple[Event, ...], state: str) -> None:
    assert _listed(ask(_plan(shop(), *then))).state == state


def test_what_became_of_another_plan_is_not_this_ones(ask: Ask) -> None:
    archive = ask(_plan(shop()))
    newest, middle, oldest = plans_of(archive, find(archive, ("ks/apps",), None))
    assert [newest.state, middle.state, oldest.state] == ["planned", "applied", "applied"]
    assert len(list(plans_of(archive, None))) == 5


def test_decisions_say_who_and_why(ask: Ask) -> None:
    scene = _plan(shop(), VERIFIED, HELD)
    scene.tell(APPS, APPROVED, actor=GRACE)
    told = [(one.state, one.by, one.why) for one in _listed(ask(scene)).decisions]
    assert told[-1] == ("approved", "user grace (authenticated by kubernetes)", "meant")


def test_a_check_that_holds_a_plan_is_not_among_those_that_it_passed(ask: Ask) -> None:
    verified = msgspec.structs.replace(VERIFIED, checks=("schema", "dry-run", "prune-guard"))
    archive = ask(_plan(shop(), verified, HELD))
    found = find_plan(archive, PLAN)
    assert (found.checks, found.held_by) == (("schema", "dry-run"), ("prune-guard",))
    assert [(one.state, one.why) for one in found.decisions] == [
        ("verified", "schema, dry-run"),
        ("held", "by the check prune-guard: it deletes a lot"),
    ]
    assert find_plan(archive, "plan-apps-2").held_by == ()


def test_a_plan_is_found_by_its_id_the_beginning_of_it_or_its_target(ask: Ask) -> None:
    steps = (Step(object=DB.id, api_version="apps/v1", action="delete", uid="1"),)
    archive = ask(_plan(shop(), VERIFIED, steps=steps))
    found = find_plan(archive, PLAN)
    assert found == find_plan(archive, PLAN[:12])
    assert found == last_plan(archive, find(archive, ("ks/apps",), None))
    assert [step.object for step in found.plan.steps] == [DB.id]
    assert found.checks == ("schema",)
    with pytest.raises(NotThereError, match="the log has no plan plan-nope"):
        find_plan(archive, "plan-nope")
    with pytest.raises(UnclearNameError, match=r"more than one plan begins with plan-, as plan-\S+ and plan-\S+: give"):
        find_plan(archive, "plan-")
    with pytest.raises(NotThereError, match="has no recorded plan"):
        last_plan(archive, find(archive, ("git/shop",), None))


def test_the_verdicts_are_all_of_them_where_the_event_has_only_some(ask: Ask) -> None:
    every = [msgspec.structs.replace(VERDICT, path=f"spec.f{number}") for number in range(30)]
    body = Body.of(encode(msgspec.to_builtins(every)))
    failed = VerificationFailed(plan=PLAN, policies=digest_of(b""), failed=tuple(every[:20]), verdicts=body.ref)
    scene = _plan(shop())
    scene.tell(APPS, failed, bodies=[body])
    assert find_plan(ask(scene), PLAN).verdicts == tuple(every)


def test_field_changes_are_those_of_the_plan_and_secret_ones_have_no_values(ask: Ask) -> None:
    changes = (Change(path="spec.replicas", before=1, after=3), Change(path="data.password", hidden=True))
    steps = (Step(object=WEB.id, api_version="apps/v1", action="update", changes=changes),)
    (step,) = find_plan(ask(_plan(shop(), steps=steps)), PLAN).plan.steps
    assert step.changes == changes


def test_a_plan_of_before_field_changes_were_recorded_can_be_read(ask: Ask) -> None:
    scene = shop()
    body = Body.of(encode([[[WEB.id, "apply"], [DB.id, "delete"]]]))
    planned = Planned(
        plan=PLAN, revision=revision("three"), set=digest_of(b""), waves=body.ref, blast_radius=BlastRadius(delete=1)
    )
    scene.tell(APPS, planned, bodies=[body])
    found = find_plan(ask(scene), PLAN)
    assert [(step.object, step.action) for step in found.plan.steps] == [(WEB.id, "update"), (DB.id, "delete")]
    assert set(msgspec.to_builtins(found)) == set(PlanTold.__struct_fields__)
