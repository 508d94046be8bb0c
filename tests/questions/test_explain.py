"""From "not ready" to the one thing that holds it."""

import pytest

from tests.questions.conftest import Ask
from tests.questions.scenes import (
    APPS,
    DB,
    GRACE,
    INFRA,
    KUBECTL,
    ROOT,
    SHOP,
    WEB,
    Scene,
    deployment,
    manifest,
    pinned_shop,
    revision,
    shop,
    source,
    target,
    time,
)
from tidelog.engine.plan.model import Step
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.explanations import Explanation, explain
from tidelog.engine.views.names import find, subject_of
from tidelog.events.digest import digest_of
from tidelog.events.envelope import ENGINE, Actor, Proof
from tidelog.events.names import ObjectId, PlanId, RunId, StreamName
from tidelog.events.vocabulary import (
    ApplyFailed,
    Because,
    DriftDetected,
    FieldDrift,
    HealthChanged,
    ObjectObserved,
    ObjectPruned,
    PlanApproved,
    PlanHeld,
    PlanRejected,
    Resumed,
    RunEnded,
    StageFailed,
    Suspended,
    Verdict,
    VerificationFailed,
)
from tidelog.storage.log.ids import new_id


def _explain(archive: Archive, *words: str) -> Explanation:
    return explain(archive, find(archive, words, None))


def _fail(scene: Scene, stream: StreamName, reason: str, message: str, waits_for: StreamName | None = None) -> int:
    """A stage of a run fails; returns the event's position."""
    failure = StageFailed(
        stage="declare", reason=reason, final=False, message=message, waits_for=waits_for, generation=1
    )
    scene.tell(stream, failure, run=RunId(new_id()))
    return scene.position


def _whys(found: Explanation) -> list[tuple[str, str]]:
    return [(cause.why, cause.name) for cause in found.chain]


def test_what_is_ready_says_since_when_and_by_which_commit(archive: Archive) -> None:
    found = _explain(archive, "ks/apps")
    assert found.ready
    assert found.root is None
    assert found.sentence == f"Kustomization/flux-system/apps is ready at revision {revision('two')}"
    assert found.commit is not None
    assert found.commit.subject == "New checkout"
    event = archive.event(found.position)
    assert event is not None
    assert isinstance(event.event, RunEnded), "the run that made it ready: the first, for it has been so since"
    assert event.event.revision == revision("one")
    source_ = _explain(archive, "git/shop")
    assert source_.ready
    assert source_.commit is not None


def test_a_chain_of_waits_leads_to_its_end(ask: Ask) -> None:
    scene = shop()
    scene.wait(100)
    at = _fail(scene, SHOP, "GitOperationFailed", "could not resolve git.example.com")
    waits = _fail(scene, INFRA, "ArtifactFailed", "Source artifact not found", SHOP)
    _fail(scene, APPS, "DependencyNotReady", "dependency 'flux-system/infra' is not ready", INFRA)
    found = _explain(ask(scene), "ks/apps")
    assert not found.ready
    assert _whys(found) == [("dependency", "apps"), ("artifact", "infra"), ("failed", "shop")]
    assert found.chain[0].sentence == "it waits for Kustomization/flux-system/infra"
    assert found.chain[1].position == waits
    root = found.root
    assert root is not None
    assert (root.reason, root.message, root.position) == ("GitOperationFailed", "could not resolve git.example.com", at)


def test_an_expression_that_does_not_hold_is_the_root_though_the_dependency_is_ready(ask: Ask) -> None:
    scene = shop()
    message = "dependency 'flux-system/infra' is not ready according to readyExpr eval"
    _fail(scene, APPS, "DependencyNotReady", message, INFRA)
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert (root.why, root.name, root.message) == ("dependency", "apps", message)
    assert root.sentence == "it waits for Kustomization/flux-system/infra"


def test_dependencies_that_go_round_in_a_circle_are_named(ask: Ask) -> None:
    scene = shop()
    _fail(scene, INFRA, "DependencyNotReady", "dependency 'flux-system/apps' is not ready", APPS)
    _fail(scene, APPS, "DependencyNotReady", "dependency 'flux-system/infra' is not ready", INFRA)
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert root.why == "cycle"
    names = "Kustomization/flux-system/apps → Kustomization/flux-system/infra → Kustomization/flux-system/apps"
    assert names in root.sentence


def test_what_does_not_exist_is_the_root(ask: Ask) -> None:
    scene = shop()
    _fail(scene, APPS, "ArtifactFailed", "GitRepository flux-system/gone not found", source("gone"))
    found = _explain(ask(scene), "ks/apps")
    assert _whys(found) == [("artifact", "apps"), ("missing", "gone")]


def test_a_wait_that_is_over_says_that_the_next_run_is_due(ask: Ask) -> None:
    scene = shop()
    _fail(scene, APPS, "DependencyNotReady", "dependency 'flux-system/infra' is not ready", INFRA)
    (cause,) = _explain(ask(scene), "ks/apps").chain
    assert "which is ready at revision" in cause.sentence
    assert cause.sentence.endswith("its next run is due")


def test_a_plan_that_is_held_names_the_check_and_the_command(ask: Ask) -> None:
    scene = shop()
    plan = PlanId("plan-0123456789abcdef")
    held = PlanHeld(plan=plan, check="prune-guard", why="it deletes Namespace/shop")
    scene.tell(APPS, held, run=RunId(new_id()))
    held_at = scene.position
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert (root.why, root.position, root.message) == ("held", held_at, "it deletes Namespace/shop")
    assert root.sentence == f"plan {plan} is held by the check prune-guard"
    assert root.command == f'tidelog approve {plan} --why "…"'


@pytest.mark.parametrize("rejected", [True, False])
def test_a_decision_on_a_plan_is_told_with_who_made_it(ask: Ask, *, rejected: bool) -> None:
    scene = shop()
    plan = PlanId("plan-x")
    scene.tell(APPS, PlanHeld(plan=plan, check="prune-guard", why="it deletes a lot"), run=RunId(new_id()))
    decision = (PlanRejected if rejected else PlanApproved)(plan=plan, why="I looked at it")
    scene.tell(APPS, decision, actor=GRACE)
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert root.why == ("rejected" if rejected else "running")
    assert "by user grace (authenticated by kubernetes): I looked at it" in root.sentence


def test_objects_that_are_not_healthy_are_the_root_with_their_own_words(ask: Ask) -> None:
    scene = shop()
    worker = deployment("worker")
    states = {WEB: manifest("web", "shop:3"), worker: manifest("worker", "shop:3")}
    run = scene.deploy(APPS, "three", "plan-apps-3", states, health="InProgress", ends=False)
    scene.wait(30)
    why = "context deadline exceeded: ImagePullBackOff"
    scene.tell(worker.stream("prod"), HealthChanged(health="Failed", reason="ProgressDeadlineExceeded", message=why))
    at = scene.position
    scene.tell(
        APPS,
        HealthChanged(checked=True, health="InProgress", message="[Deployment/shop/worker status: 'Failed']"),
        run=run,
    )
    found = _explain(ask(scene), "ks/apps")
    assert _whys(found) == [("health", "apps"), ("health", "worker")]
    assert found.root is not None
    assert (found.root.reason, found.root.message, found.root.position) == ("ProgressDeadlineExceeded", why, at)
    of_object = _explain(ask(scene), "deployment/worker")
    assert [(note.why, note.name) for note in of_object.notes] == [("health", "apps")], "itself is its cause, no note"
    assert [(subject_of(one.object).name if one.object else "", one.message) for one in found.chain[0].details] == [
        ("worker", f"Failed, ProgressDeadlineExceeded: {why}"),
        ("web", "InProgress"),
    ]


def test_a_nested_target_that_is_not_ready_is_followed_into(ask: Ask) -> None:
    scene = shop()
    run = RunId(new_id())
    scene.tell(INFRA, HealthChanged(health="Failed", reason="Stalled"))
    _fail(scene, INFRA, "BuildFailed", "kustomization.yaml: no such file")
    # As the cluster shows it: the object is observed with the health of its conditions.
    scene.tell(ROOT, HealthChanged(checked=True, health="Failed", reason="HealthCheckFailed", message="[…]"), run=run)
    found = _explain(ask(scene), "ks/flux-system")
    assert _whys(found) == [("health", "flux-system"), ("failed", "infra")]
    assert found.root is not None
    assert found.root.message == "kustomization.yaml: no such file"


def test_what_is_seen_of_a_target_as_an_object_is_no_cause(ask: Ask) -> None:
    scene = shop()
    failed = Verdict(check="schema", passed=False, object=WEB.id, message="must be a number")
    scene.tell(
        APPS, VerificationFailed(plan=PlanId("plan-x"), policies=digest_of(b""), failed=(failed,)), run=RunId(new_id())
    )
    at = scene.position
    scene.tell(APPS, HealthChanged(health="Failed", reason="ReconciliationFailed"))  # by the watch, and of no run
    scene.tell(APPS, RunEnded(outcome="superseded", generation=1), run=RunId(new_id()))
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert (root.why, root.position) == ("verification", at)


def test_a_check_that_failed_names_object_and_field(ask: Ask) -> None:
    scene = shop()
    verdicts = (
        Verdict(check="schema", passed=False, object=WEB.id, path="spec.replicas", message="must be a number"),
        Verdict(check="ownership", passed=False, object=DB.id, message="belongs to infra"),
    )
    failed = VerificationFailed(plan=PlanId("plan-x"), policies=digest_of(b""), failed=verdicts)
    scene.tell(APPS, failed, run=RunId(new_id()))
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert root.why == "verification"
    assert [(one.object, one.path, one.message) for one in root.details] == [
        (WEB.stream("prod"), "spec.replicas", "schema: must be a number"),
        (DB.stream("prod"), "", "ownership: belongs to infra"),
    ]


def test_an_apply_that_stopped_names_wave_and_object(ask: Ask) -> None:
    scene = shop()
    failed = ApplyFailed(
        plan=PlanId("plan-x"), wave=2, reason="Forbidden", message="may not", object=WEB.id, applied=3, pending=4
    )
    scene.tell(APPS, failed, run=RunId(new_id()))
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert root.sentence == "the apply of plan plan-x stopped in wave 2: 3 applied, 4 not"
    assert [one.object for one in root.details] == [WEB.stream("prod")]


def test_a_failure_says_whether_it_is_tried_again(ask: Ask) -> None:
    scene = shop()
    run = RunId(new_id())
    final = StageFailed(stage="render", reason="BuildFailed", final=True, message="no", revision=revision("two"))
    stalled = StageFailed(stage="declare", reason="InvalidSpec", final=True, stalled=True, message="spec.path: no")
    scene.tell(APPS, final, run=run)
    scene.tell(INFRA, stalled, run=run)
    archive = ask(scene)
    apps, infra = _explain(archive, "ks/apps").root, _explain(archive, "ks/infra").root
    assert apps is not None
    assert infra is not None
    assert apps.sentence == (
        f"the stage render failed at revision {revision('two')}; it is not tried again until what it was made from "
        "changes"
    )
    assert "not tried again before the spec" in infra.sentence


def test_since_when_is_that_of_the_first_of_equal_failures(ask: Ask) -> None:
    scene = shop()
    scene.wait(10)
    first = _fail(scene, APPS, "BuildFailed", "no")
    for attempt in range(2, 5):
        scene.wait(10)
        again = StageFailed(stage="declare", reason="BuildFailed", final=False, attempt=attempt, repeats=True)
        scene.tell(APPS, again, run=RunId(new_id()))
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert (root.position, root.message) == (first, "no")
    assert "tried at least 4 times, and again" in root.sentence


def test_a_suspension_holds_what_is_not_ready_and_is_noted_of_what_is(ask: Ask) -> None:
    scene = shop()
    scene.tell(APPS, Suspended(why="incident 7", until=time(9_999)), actor=GRACE)
    _fail(scene, INFRA, "BuildFailed", "no")
    scene.tell(INFRA, Suspended(why="later"), actor=GRACE)
    archive = ask(scene)
    ready, held = _explain(archive, "ks/apps"), _explain(archive, "ks/infra")
    assert ready.ready
    assert [note.why for note in ready.notes] == ["suspended"]
    assert held.root is not None
    assert (held.root.why, held.root.command) == ("suspended", "tidelog resume kustomization/infra -n flux-system")
    assert "suspended by user grace (authenticated by kubernetes): later" in held.root.sentence
    scene.tell(INFRA, Resumed())


def test_a_source_that_brings_nothing_newer_is_noted_of_what_is_ready(ask: Ask) -> None:
    scene = shop()
    _fail(scene, SHOP, "GitOperationFailed", "it has not the branch 'main'")
    archive = ask(scene)
    for named in ("ks/apps", "deployment/web"):
        found = _explain(archive, named)
        assert found.ready
        (note,) = found.notes
        assert (note.why, note.stream) == ("failed", SHOP)
        assert note.sentence == (
            "no newer revision comes from GitRepository/flux-system/shop: "
            "GitOperationFailed: it has not the branch 'main'"
        )


def test_a_source_that_is_suspended_is_noted_with_who_and_why(ask: Ask) -> None:
    scene = shop()
    scene.tell(SHOP, Suspended(why="a freeze"), actor=GRACE)
    found = _explain(ask(scene), "ks/apps")
    assert found.ready
    (note,) = found.notes
    assert note.command == "tidelog resume gitrepository/shop -n flux-system"
    assert "suspended by user grace (authenticated by kubernetes): a freeze" in note.sentence
    scene.tell(SHOP, Resumed())


def test_a_target_that_was_only_declared_waits_for_its_first_run(ask: Ask) -> None:
    scene = Scene()
    scene.declare(APPS)
    root = _explain(ask(scene), "ks/apps").root
    assert root is not None
    assert (root.why, root.position) == ("waiting", 2)


# Objects.


def test_a_healthy_object_of_a_ready_target_is_ready(archive: Archive) -> None:
    found = _explain(archive, "deployment/web")
    assert found.ready
    assert found.sentence == "Deployment/shop/web is Current, applied by Kustomization/flux-system/apps"
    assert found.commit is not None
    assert found.commit.subject == "New checkout"


def test_a_healthy_object_of_a_target_that_is_not_ready_is_held_by_it(ask: Ask) -> None:
    scene = shop()
    _fail(scene, APPS, "BuildFailed", "web.yaml: no kind")
    found = _explain(ask(scene), "deployment/web")
    assert not found.ready
    assert found.sentence.endswith("applied by Kustomization/flux-system/apps, which is not ready")
    assert _whys(found) == [("failed", "apps")]


def test_an_object_that_somebody_changed_says_who_and_what(ask: Ask) -> None:
    scene = shop()
    fields = (FieldDrift(path="spec.replicas", manager="kubectl-edit"),)
    drift = DriftDetected(target=APPS, uid="uid-web", resource_version="9", fields=fields)
    scene.tell(WEB.stream("prod"), drift, actor=KUBECTL)
    root = _explain(ask(scene), "deployment/web").root
    assert root is not None
    assert (root.why, root.position) == ("drift", scene.position)
    assert [(one.path, one.message) for one in root.details] == [("spec.replicas", "changed by kubectl-edit")]


def test_what_is_changed_again_and_again_says_that_it_is_not_put_right_at_once(ask: Ask) -> None:
    scene = shop()
    fields = (FieldDrift(path="spec.replicas", manager="hpa"),)
    for number in range(5):
        scene.wait(60)
        drift = DriftDetected(target=APPS, uid="uid-web", resource_version=str(number), fields=fields)
        scene.tell(WEB.stream("prod"), drift, actor=KUBECTL)
    archive = ask(scene)
    root = _explain(archive, "deployment/web").root
    assert root is not None
    assert (root.why, root.reason) == ("drift", "DriftFlapping")
    assert root.sentence.endswith("changed by hpa, again and again; so it is put right only now and then")
    assert root.message == "leave the fields out of the manifests, or stop who writes them"
    of_target = _explain(archive, "ks/apps")
    assert of_target.ready
    assert [(note.why, note.name) for note in of_target.notes] == [("drift", "web")]


def test_an_object_that_is_rendered_and_not_applied_is_explained_by_its_target(ask: Ask) -> None:
    scene = shop()
    new = deployment("new")
    made, bodies = scene.rendered("three", {new: manifest("new", "shop:3")})
    scene.tell(APPS, made, run=RunId(new_id()), bodies=bodies)
    scene.tell(APPS, PlanHeld(plan=PlanId("plan-x"), check="prune-guard", why="it deletes a lot"))
    archive = ask(scene)
    found = _explain(archive, "deployment/new")
    assert _whys(found) == [("missing", "new"), ("held", "apps")]
    assert found.sentence == "Deployment/shop/new is not there"
    assert found.chain[0].sentence == "Kustomization/flux-system/apps renders it, and has not applied it"


def test_an_object_that_is_gone_says_by_whom(ask: Ask) -> None:
    scene = shop()
    scene.tell(INFRA, ObjectPruned(plan=PlanId("plan-x"), object=DB.id, uid="uid-db", outcome="deleted"))
    made, bodies = scene.rendered("three", {})
    scene.tell(INFRA, made, run=RunId(new_id()), bodies=bodies)
    stray = deployment("stray")
    scene.tell(stray.stream("prod"), ObjectObserved(uid="1", resource_version="1", health="Current"))
    scene.tell(stray.stream("prod"), ObjectObserved(uid="1", resource_version="2", gone=True), actor=KUBECTL)
    archive = ask(scene)
    pruned, gone = _explain(archive, "deployment/db"), _explain(archive, "deployment/stray")
    assert pruned.sentence == "Deployment/shop/db was pruned; no target renders it"
    assert pruned.root is not None
    assert pruned.root.sentence.startswith("Kustomization/flux-system/infra deleted it with plan plan-x")
    assert gone.sentence == "Deployment/shop/stray is gone; no target renders it"
    assert gone.root is not None
    assert gone.root.sentence == "manager kubectl-edit (inferred) deleted it"
    assert not pruned.ready


def test_a_workload_that_is_not_available_is_explained_down_to_its_pod(ask: Ask) -> None:
    scene = shop()
    stream = WEB.stream("prod")
    scene.tell(stream, HealthChanged(health="InProgress", reason="LessAvailable", message="available replicas: 0/1"))
    why = Because(object=ObjectId("core/Pod/shop/web-7d-x"), reason="ImagePullBackOff", message="container web: no")
    told = HealthChanged(health="InProgress", reason="LessAvailable", message="available replicas: 0/1", because=why)
    scene.tell(stream, told)
    found_at = scene.position
    scene.tell(stream, told)
    scene.tell(APPS, HealthChanged(checked=True, health="InProgress", message="[…]"), run=RunId(new_id()))
    archive = ask(scene)
    for named, chain in (("ks/apps", ["apps", "web", "web-7d-x"]), ("deployment/web", ["web", "web-7d-x"])):
        found = _explain(archive, named)
        assert _whys(found) == [("health", name) for name in chain]
        root = found.root
        assert root is not None
        assert (root.kind, root.reason, root.message) == ("Pod", "ImagePullBackOff", "container web: no")
        assert root.position == found_at, "the first that said so"
        assert found.attempted is not None
        assert found.attempted.revision == revision("two")
    (detail,) = _explain(archive, "ks/apps").chain[0].details
    assert detail.message.endswith("available replicas: 0/1; ImagePullBackOff of Pod/shop/web-7d-x")


@pytest.mark.parametrize("actor", [ENGINE, Actor(kind="manager", name="unknown", proof=Proof(kind="inferred"))])
def test_nobody_is_said_to_have_deleted_what_was_only_seen_to_be_gone(ask: Ask, actor: Actor) -> None:
    scene = shop()
    stray = deployment("stray").stream("prod")
    scene.tell(stray, ObjectObserved(uid="1", resource_version="2", gone=True), actor=actor)
    root = _explain(ask(scene), "deployment/stray").root
    assert root is not None
    assert root.sentence == "somebody deleted it; the log does not know who"


def test_a_prune_is_explained_by_its_commit_and_who_approved_it(ask: Ask) -> None:
    scene = shop()
    cause = scene.fetch(SHOP, "three", "Drop the database")
    made, bodies = scene.rendered("three", {})
    plan = PlanId("plan-x")
    intent, more = scene.planned(INFRA, plan, "three", made, [Step(object=DB.id, api_version="v1", action="delete")])
    run = RunId(new_id())
    scene.tell(INFRA, made, intent, run=run, cause=cause, bodies=[*bodies, *more])
    scene.tell(INFRA, PlanApproved(plan=plan, why="it moved"), actor=GRACE)
    scene.tell(INFRA, ObjectPruned(plan=plan, object=DB.id, uid="uid-db", outcome="deleted"), run=run)
    found = _explain(ask(scene), "deployment/db")
    assert found.root is not None
    assert found.root.sentence == (
        f"Kustomization/flux-system/infra deleted it with plan plan-x, at revision {revision('three')}, "
        "approved by user grace (authenticated by kubernetes): it moved"
    )
    assert found.attempted is not None
    assert (found.attempted.subject, found.attempted.author) == ("Drop the database", "Ada <ada@example.com>")


def test_what_came_last_explains_why_it_is_gone(ask: Ask) -> None:
    scene = shop()
    db = DB.stream("prod")
    scene.tell(db, ObjectObserved(uid="uid-db", resource_version="9", gone=True), actor=KUBECTL)
    scene.deploy(INFRA, "one", "plan-again", {DB: manifest("db", "postgres:16")})
    made, bodies = scene.rendered("three", {})
    pruned = ObjectPruned(plan=PlanId("plan-x"), object=DB.id, uid="uid-db", outcome="deleted")
    scene.tell(INFRA, made, pruned, run=RunId(new_id()), bodies=bodies)
    assert "was pruned" in _explain(ask(scene), "deployment/db").sentence


def test_a_failure_names_the_commit_that_it_was_tried_with_and_not_the_one_that_is_applied(ask: Ask) -> None:
    scene = shop()
    cause = scene.fetch(SHOP, "three", "Break it")
    failure = StageFailed(stage="render", reason="BuildFailed", final=True, message="no", revision=revision("three"))
    scene.tell(APPS, failure, run=RunId(new_id()), cause=cause)
    archive = ask(scene)
    for name in ("ks/apps", "deployment/web"):
        found = _explain(archive, name)
        assert found.commit is not None
        assert found.attempted is not None
        assert (found.commit.subject, found.attempted.subject) == ("New checkout", "Break it"), name


def test_an_object_that_is_not_healthy_names_the_commit_that_wrote_it_and_no_later_one(ask: Ask) -> None:
    scene = shop()
    scene.tell(WEB.stream("prod"), HealthChanged(health="Failed", reason="Stalled", message="no"))
    cause = scene.fetch(SHOP, "three", "Break it")
    failure = StageFailed(stage="render", reason="BuildFailed", final=True, message="no", revision=revision("three"))
    scene.tell(APPS, failure, run=RunId(new_id()), cause=cause)
    found = _explain(ask(scene), "deployment/web")
    assert found.attempted is not None
    assert found.attempted.subject == "New checkout"


def test_a_wait_for_a_source_that_cannot_be_fetched_is_of_no_commit(ask: Ask) -> None:
    scene = shop()
    _fail(scene, SHOP, "GitOperationFailed", "no such host")
    _fail(scene, APPS, "ArtifactFailed", "Source artifact not found", SHOP)
    assert _explain(ask(scene), "ks/apps").attempted is None


def test_what_is_pinned_is_explained_by_the_moment_that_it_is_kept_at(ask: Ask) -> None:
    archive = ask(pinned_shop())
    for name in ("ks/apps", "deployment/web"):
        found = _explain(archive, name)
        assert found.ready
        assert found.commit is not None
        assert found.commit.subject == "Open the shop", name
        (note,) = found.notes
        assert f"(revision {revision('one')} “Open the shop”)" in note.sentence
        assert note.command == 'tidelog unpin kustomization/apps -n flux-system --why "…"'
    sentence = _explain(archive, "ks/apps").sentence
    assert "is ready at what was wanted at position" in sentence
    assert revision("two") not in sentence


def test_the_past_is_explained_by_what_was_known_then(ask: Ask) -> None:
    scene = shop()
    at = _fail(scene, APPS, "BuildFailed", "no")
    scene.tell(APPS, RunEnded(outcome="succeeded", generation=1, revision=revision("two")), run=RunId(new_id()))
    assert _explain(ask(scene), "ks/apps").ready
    assert not _explain(ask(scene, str(at)), "ks/apps").ready


def test_another_clusters_target_of_the_same_name_is_not_mixed_up(ask: Ask) -> None:
    scene = shop()
    twin = target("apps", cluster="staging")
    scene.declare(twin)
    archive = ask(scene)
    assert explain(archive, find(archive, (APPS,), None)).ready
    assert not explain(archive, find(archive, (twin,), None)).ready
