"""From an object back to the commit that put it there."""

from typing import Literal

import msgspec

from tests.questions.conftest import Ask
from tests.questions.scenes import (
    APPS,
    DB,
    GRACE,
    INFRA,
    KUBECTL,
    SHOP,
    WEB,
    Scene,
    deployment,
    manifest,
    pinned_shop,
    revision,
    shop,
    target,
    time,
)
from tidelog.engine.plan.model import Step
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import find
from tidelog.engine.views.traces import Trace, trace_of
from tidelog.events.digest import digest_of
from tidelog.events.names import ObjectKey, PlanId, RunId
from tidelog.events.vocabulary import (
    ApplyFinished,
    ApplyStarted,
    DriftDetected,
    Event,
    FieldDrift,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
    PlanApproved,
    PlanHeld,
    TargetRemoved,
    Verified,
)
from tidelog.storage.log.ids import new_id


def _trace(archive: Archive, *words: str) -> Trace:
    return trace_of(archive, find(archive, words, None))


def test_an_object_leads_to_its_commit_by_way_of_apply_plan_checks_and_render(archive: Archive) -> None:
    found = _trace(archive, "deployment/web")
    assert found.target == APPS
    assert found.commit is not None
    assert (found.commit.revision, found.commit.subject) == (revision("two"), "New checkout")
    assert (found.commit.author, found.commit.source) == ("Ada <ada@example.com>", SHOP)
    assert found.render is not None
    assert found.plan is not None
    assert found.apply is not None
    (checked,) = found.verdicts
    assert checked.checks == ("well-formed", "schema", "dry-run")
    order = [found.commit.position, found.render.position, found.plan.position, checked.position, found.apply.position]
    assert order == sorted(order)
    assert (found.apply.action, found.plan.plan, found.apply.by) == (
        "configured",
        "plan-apps-2",
        "engine tidelog (authenticated by process)",
    )
    assert found.seen == found.apply.position
    assert found.health == "Current"


def test_the_past_has_the_commit_of_then(ask: Ask) -> None:
    scene = shop()
    found = _trace(ask(scene, revision("one")), "deployment/web")
    assert found.commit is not None
    assert (found.commit.subject, found.commit.message) == ("Open the shop", "Open the shop\n\nAt last.")
    assert found.plan is not None
    assert found.plan.plan == "plan-apps-1"


def test_an_object_that_later_commits_left_alone_keeps_the_commit_that_made_it(ask: Ask) -> None:
    scene = shop()
    scene.deploy(INFRA, "two", "plan-infra-2", {deployment("cache"): manifest("cache", "redis:7")})
    found = _trace(ask(scene), "deployment/db")
    assert found.commit is not None
    assert found.commit.revision == revision("one")
    assert found.applied_revision == revision("two")


def test_an_object_that_was_only_found_as_it_should_be_leads_to_the_last_write(ask: Ask) -> None:
    scene = shop()
    same = ObjectApplied(
        plan=PlanId("plan-again"),
        object=WEB.id,
        uid="uid-web",
        resource_version="9",
        action="unchanged",
        wave=0,
        desired=digest_of(b"w"),
    )
    scene.tell(APPS, same, run=RunId(new_id()))
    found = _trace(ask(scene), "deployment/web")
    assert found.apply is not None
    assert found.apply.plan == "plan-apps-2"
    assert found.seen == scene.position


def test_who_held_and_who_approved_the_plan_is_told(ask: Ask) -> None:
    scene = shop()
    run, plan = RunId(new_id()), PlanId("plan-risky")
    made, bodies = scene.rendered("two", {WEB: manifest("web", "shop:3")})
    intent, more = scene.planned(APPS, plan, "two", made, [])
    scene.tell(APPS, made, intent, run=run, bodies=[*bodies, *more])
    scene.tell(APPS, Verified(plan=plan, policies=digest_of(b""), checks=("schema", "prune-guard")), run=run)
    scene.tell(APPS, PlanHeld(plan=plan, check="prune-guard", why="it deletes a Namespace"), run=run)
    scene.wait(600)
    scene.tell(APPS, PlanApproved(plan=plan, why="it is meant"), actor=GRACE)
    scene.tell(
        APPS,
        ApplyStarted(plan=plan, waves=1),
        ObjectApplied(
            plan=plan,
            object=WEB.id,
            uid="uid-web",
            resource_version="9",
            action="configured",
            wave=0,
            desired=digest_of(b""),
        ),
        ApplyFinished(plan=plan, revision=revision("two"), set=made.set),
        run=run,
    )
    found = _trace(ask(scene), "deployment/web")
    assert [step.checks for step in found.verdicts] == [("schema",)], "the check that held it did not pass"
    told = [(one.decision, one.by, one.why) for one in found.approvals]
    assert told == [
        ("held", "engine tidelog (authenticated by process)", "it deletes a Namespace"),
        ("approved", "user grace (authenticated by kubernetes)", "it is meant"),
    ]
    assert [one.checks for one in found.verdicts] == [("schema",)]


def test_what_a_person_changed_since_is_told_with_the_field_manager(ask: Ask) -> None:
    scene = shop()
    fields = (FieldDrift(path="spec.replicas", manager="kubectl-edit"),)
    drift = DriftDetected(target=APPS, uid="uid-web", resource_version="9", fields=fields)
    scene.tell(WEB.stream("prod"), drift, actor=KUBECTL)
    assert _trace(ask(scene), "deployment/web").drift == fields


def test_what_nobody_applied_says_so_and_when_it_was_seen(ask: Ask) -> None:
    scene = Scene()
    stray = ObjectKey("", "ConfigMap", "shop", "stray")
    scene.wait(5)
    scene.tell(stray.stream("prod"), ObjectObserved(uid="1", resource_version="1", health="Current"), actor=KUBECTL)
    found = _trace(ask(scene), "cm/stray")
    assert (found.target, found.apply, found.commit) == (None, None, None)
    assert found.first_seen is not None
    assert (found.first_seen.position, found.first_seen.time, found.first_seen.by) == (
        2,
        time(5),
        "manager kubectl-edit (inferred)",
    )


def test_a_target_leads_to_the_target_that_applied_it(archive: Archive) -> None:
    found = _trace(archive, "ks/apps")
    assert found.target == find(archive, ("ks/flux-system",), None).stream
    assert found.commit is not None
    assert found.commit.subject == "Open the shop"


def test_the_json_of_a_trace_has_every_field(archive: Archive) -> None:
    document = msgspec.json.decode(msgspec.json.encode(_trace(archive, "deployment/web")))
    assert set(document) == set(Trace.__struct_fields__)
    assert set(document["commit"]) >= {"revision", "author", "subject", "message", "source", "position"}


def test_of_a_pinned_target_the_way_is_that_of_the_moment_and_the_pin_is_told(ask: Ask) -> None:
    found = _trace(ask(pinned_shop()), "deployment/web")
    assert found.commit is not None
    assert found.commit.subject == "Open the shop"
    assert found.pin is not None
    assert (found.pin.revision, found.pin.left) == (revision("one"), revision("two"))
    assert (found.pin.by, found.pin.why) == ("user grace (authenticated by kubernetes)", "two is broken")


# What is gone.


def _prune(scene: Scene, *, outcome: Literal["deleted", "skipped"] = "deleted", then: tuple[Event, ...] = ()) -> int:
    """A third commit takes the Deployment db away; returns the position of the prune."""
    scene.wait(60)
    cause = scene.fetch(SHOP, "three", "Drop the database")
    made, bodies = scene.rendered("three", {})
    plan = PlanId("plan-prune")
    intent, more = scene.planned(
        INFRA, plan, "three", made, [Step(object=DB.id, api_version="apps/v1", action="delete")]
    )
    pruned = ObjectPruned(plan=plan, object=DB.id, uid="uid-db", outcome=outcome)
    run = RunId(new_id())
    scene.tell(
        INFRA,
        made,
        intent,
        PlanHeld(plan=plan, check="prune-guard", why="it deletes a lot"),
        run=run,
        cause=cause,
        bodies=[*bodies, *more],
    )
    scene.tell(INFRA, PlanApproved(plan=plan, why="it moved"), actor=GRACE)
    scene.tell(INFRA, ApplyStarted(plan=plan, waves=1), pruned, run=run)
    at = scene.position
    scene.tell(INFRA, ApplyFinished(plan=plan, revision=revision("three"), set=made.set, pruned=1), *then, run=run)
    return at


def test_an_object_that_was_pruned_leads_to_who_put_it_there_and_to_who_took_it_away(ask: Ask) -> None:
    scene = shop()
    at = _prune(scene)
    found = _trace(ask(scene), "deployment/db")
    assert found.target == INFRA
    assert found.commit is not None
    assert found.commit.subject == "Open the shop"
    assert found.apply is not None
    assert found.apply.plan == "plan-infra"
    assert found.health == "NotFound"
    removal = found.removal
    assert removal is not None
    assert (removal.position, removal.plan, removal.outcome) == (at, "plan-prune", "deleted")
    assert removal.commit is not None
    assert (removal.commit.subject, removal.commit.author) == ("Drop the database", "Ada <ada@example.com>")
    assert [(one.decision, one.why) for one in removal.approvals] == [
        ("held", "it deletes a lot"),
        ("approved", "it moved"),
    ]


def test_before_it_was_pruned_there_was_no_removal(ask: Ask) -> None:
    scene = shop()
    at = _prune(scene)
    found = _trace(ask(scene, str(at - 1)), "deployment/db")
    assert found.removal is None
    assert found.health == "Current"


def test_an_object_that_went_with_its_target_has_no_commit_that_removed_it(ask: Ask) -> None:
    scene = shop()
    _prune(scene, then=(TargetRemoved(uid="1"),))
    removal = _trace(ask(scene), "deployment/db").removal
    assert removal is not None
    assert (removal.target_removed, removal.commit) == (True, None)


def test_what_somebody_made_anew_after_the_prune_was_applied_by_nobody(ask: Ask) -> None:
    scene = shop()
    _prune(scene)
    scene.tell(DB.stream("prod"), ObjectObserved(uid="other", resource_version="1"), actor=KUBECTL)
    found = _trace(ask(scene), "deployment/db")
    assert (found.removal, found.apply) == (None, None)


def test_a_twin_in_another_cluster_is_not_pruned_with_it(ask: Ask) -> None:
    scene = shop()
    twin = target("infra", cluster="staging")
    scene.declare(twin)
    scene.deploy(twin, "one", "plan-twin", {DB: manifest("db", "postgres:16")})
    _prune(scene)
    archive = ask(scene)
    twins = trace_of(archive, find(archive, (DB.stream("staging"),), None))
    assert (twins.removal, twins.target) == (None, twin)


def test_a_target_that_nobody_applied_has_the_health_of_its_own_condition(ask: Ask) -> None:
    scene = Scene()
    scene.declare(SHOP)
    scene.declare(APPS, sourceRef={"kind": "GitRepository", "name": "shop"})
    scene.fetch(SHOP, "one", "Open the shop")
    scene.deploy(APPS, "one", "plan-1", {WEB: manifest("web", "shop:1")})
    assert _trace(ask(scene), "ks/apps").health == "Current"
