"""What happened, in sentences; every run of a target, every version of an object."""

import msgspec
import pytest
from hypothesis import given

from tests.events.strategies import events
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
    secret_body,
    shop,
)
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.chronicle import Scope, last_events, scope_for
from tidelog.engine.views.failures import Failures
from tidelog.engine.views.histories import HIDDEN, RunTold, VersionTold, is_reconciled, runs_of, versions_of
from tidelog.engine.views.names import find
from tidelog.engine.views.sentences import sentence_of, told
from tidelog.events import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import digest_of
from tidelog.events.names import EventId, ObjectKey, PlanId, Revision, RunId, StreamName, TraceId
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyStarted,
    DriftDetected,
    EngineStarted,
    Event,
    FieldDrift,
    HealthChanged,
    Marked,
    ObjectObserved,
    PlanHeld,
    ReconcileRequested,
    RevisionFetched,
    RevisionSettled,
    RunEnded,
    StageFailed,
    Unpinned,
    Verdict,
    VerificationFailed,
)
from tidelog.events.vocabulary.fetch import Annotation
from tidelog.storage.log.ids import new_id

PACKED = Revision(f"latest@{digest_of(b'packed')}")


def _sentences(archive: Archive, name: str, count: int = 0) -> list[str]:
    scope = scope_for(archive, find(archive, (name,), None))
    return [told(one, Failures(archive)).sentence for one in last_events(archive, scope, 0, count)]


@given(event=events)
def test_every_event_of_the_vocabulary_has_a_sentence(event: Event) -> None:
    sentence = sentence_of(event)
    assert sentence
    assert sentence != type(event).__name__, "a sentence, and not the type's name"


def test_the_events_of_a_target_have_those_of_its_source_and_what_drifted_among_them(ask: Ask) -> None:
    scene = shop()
    drift = DriftDetected(target=APPS, uid="u", resource_version="9", fields=(FieldDrift(path="spec.replicas"),))
    scene.tell(WEB.stream("prod"), drift, actor=KUBECTL)
    archive = ask(scene)
    scope = scope_for(archive, find(archive, ("ks/apps",), None))
    found = last_events(archive, scope, 0, 0)
    positions = [one.envelope.position for one in found]
    assert positions == sorted(set(positions))
    assert {one.envelope.stream for one in found} >= {APPS, SHOP, WEB.stream("prod")}
    assert INFRA not in {one.envelope.stream for one in found}
    assert told(found[-1], Failures(archive)).sentence == "Was changed: spec.replicas"
    assert all(scope.holds(one) for one in found), "what is followed with --watch is the same"


def test_the_events_of_an_object_have_what_its_target_did_with_it(archive: Archive) -> None:
    assert _sentences(archive, "deployment/web") == [
        "Configured Deployment/shop/web, Current",
        "Configured Deployment/shop/web, Current",
    ]


def test_only_the_last_are_told_where_so_many_are_asked_for(archive: Archive) -> None:
    everything = _sentences(archive, "ks/apps")
    assert _sentences(archive, "ks/apps", 3) == everything[-3:]
    assert everything[-1] == f"The run succeeded at revision {revision('two')}"


def test_a_namespace_without_a_name_has_what_stands_in_it(ask: Ask) -> None:
    scene = shop()
    scene.tell(WEB.stream("prod"), HealthChanged(health="Failed", reason="Stalled", message="no"))
    scene.tell(StreamName("log/engine"), EngineStarted(software="tidelog", host="h", pid=1))
    archive = ask(scene)
    (only,) = last_events(archive, Scope(namespace="shop"), 0, 0)
    assert told(only, Failures(archive)).sentence == "Became Failed: Stalled: no"
    everything = last_events(archive, Scope(), 0, 0)
    assert len(everything) == scene.position
    assert told(everything[-1], Failures(archive)).subject == "engine"


def test_only_what_came_after_a_moment_is_told(ask: Ask) -> None:
    scene = shop()
    before = scene.position
    scene.tell(APPS, Marked(label="release"))
    archive = ask(scene)
    scope = scope_for(archive, find(archive, ("ks/apps",), None))
    assert [told(one, Failures(archive)).sentence for one in last_events(archive, scope, before, 0)] == [
        "Marked as release"
    ]


# Runs.


def _runs(archive: Archive, name: str) -> list[RunTold]:
    return list(runs_of(archive, find(archive, (name,), None)))


def test_the_runs_of_a_target_say_what_for_by_which_commit_and_what_came_of_them(archive: Archive) -> None:
    latest, first = _runs(archive, "ks/apps")
    assert (latest.outcome, latest.revision, latest.plan) == ("succeeded", revision("two"), "plan-apps-2")
    assert latest.commit is not None
    assert latest.commit.subject == "New checkout"
    assert (latest.created, latest.configured, latest.pruned) == (0, 1, 0)
    assert latest.duration_ms == 2_000
    assert latest.why == f"revision {revision('two')}: “New checkout” by Ada"
    assert first.position < latest.position
    (source_run, _) = _runs(archive, "git/shop")
    assert (source_run.outcome, source_run.by) == ("succeeded", "git Ada <ada@example.com> (claimed)")


def test_a_run_that_somebody_asked_for_says_so_and_why(ask: Ask) -> None:
    scene = shop()
    cause = scene.tell(APPS, ReconcileRequested(why="after the incident"), actor=GRACE)
    failure = StageFailed(stage="render", reason="BuildFailed", final=True, message="web.yaml:3: no kind")
    scene.tell(APPS, failure, actor=GRACE, run=RunId(new_id()), cause=cause)
    run = _runs(ask(scene), "ks/apps")[0]
    assert (run.outcome, run.reason, run.message) == ("failed", "BuildFailed", "web.yaml:3: no kind")
    assert run.why == "A reconciliation was asked for: after the incident"
    assert run.by == "user grace (authenticated by kubernetes)"


def test_a_run_that_a_commit_led_to_says_so_whatever_event_of_the_source_it_names(ask: Ask) -> None:
    scene = shop()
    scene.fetch(SHOP, "three", "Green")
    cause = scene.tell(SHOP, RevisionSettled(revision=revision("three"), targets=(INFRA,)), run=RunId(new_id()))
    scene.deploy(APPS, "three", "plan-apps-3", {WEB: manifest("web", "shop:3")}, cause=cause)
    assert _runs(ask(scene), "ks/apps")[0].why == f"revision {revision('three')}: “Green” by Ada"


def test_a_run_that_names_no_cause_is_of_the_commit_that_came_with_its_trace(ask: Ask) -> None:
    scene = shop()
    trace = TraceId(new_id())
    scene.fetch(SHOP, "three", "Green", trace)
    scene.deploy(APPS, "three", "plan-apps-3", {WEB: manifest("web", "shop:3")}, trace=trace)
    assert _runs(ask(scene), "ks/apps")[0].why == f"revision {revision('three')}: “Green” by Ada"


def test_a_run_that_waited_for_another_target_says_for_which(ask: Ask) -> None:
    scene = shop()
    cause = scene.tell(INFRA, RunEnded(outcome="succeeded", generation=1, revision=revision("two")))
    scene.deploy(APPS, "two", "plan-apps-3", {WEB: manifest("web", "shop:3")}, cause=cause)
    assert (
        _runs(ask(scene), "ks/apps")[0].why == f"Kustomization/flux-system/infra is ready at revision {revision('two')}"
    )


def test_a_run_that_waited_is_not_told_as_one_that_failed(ask: Ask) -> None:
    scene = shop()
    why = "dependency 'flux-system/infra' is not ready"
    waits = StageFailed(stage="declare", reason="DependencyNotReady", final=False, message=why, waits_for=INFRA)
    scene.tell(APPS, waits, run=RunId(new_id()))
    scene.tell(APPS, RunEnded(outcome="unchanged", generation=1), run=RunId(new_id()))
    ended, waited = _runs(ask(scene), "ks/apps")[:2]
    assert (waited.outcome, waited.reason, waited.message) == ("waiting", "DependencyNotReady", why)
    assert ended.why == "The run before it waited for Kustomization/flux-system/infra"


def _refused(message: str) -> VerificationFailed:
    verdict = Verdict(check="dry-run", passed=False, object=WEB.id, path="spec.replicas", message=message)
    return VerificationFailed(plan=PlanId("plan-x"), policies=digest_of(b""), failed=(verdict,))


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("Deployment/shop/web dry-run failed (Invalid): spec.replicas: no", "{message}"),
        ("apps/Deployment/shop/web: cannot dry-run the apply of it: spec.replicas: no", "{message}"),  # as of 0.3
        ("Deployment/shop/webhook: no", "dry-run: Deployment/shop/web spec.replicas: {message}"),
        ("no", "dry-run: Deployment/shop/web spec.replicas: {message}"),
    ],
)
def test_what_a_check_says_itself_is_not_said_before_it(ask: Ask, message: str, told: str) -> None:
    scene = shop()
    scene.tell(APPS, _refused(message), run=RunId(new_id()))
    sentence = told.format(message=message)
    assert _sentences(ask(scene), "ks/apps", 1) == [f"plan-x did not pass its checks: {sentence}"]


@pytest.mark.parametrize(
    ("why", "told"),
    [
        (
            "plan plan-x is held by the check prune-guard: it deletes Namespace/shop",
            "Plan plan-x is held by the check prune-guard: it deletes Namespace/shop",
        ),
        ("it deletes Namespace/shop", "plan-x is held by the check prune-guard: it deletes Namespace/shop"),
    ],
)
def test_a_plan_that_is_held_is_named_once_with_its_check(ask: Ask, why: str, told: str) -> None:
    scene = shop()
    scene.tell(APPS, PlanHeld(plan=PlanId("plan-x"), check="prune-guard", why=why), run=RunId(new_id()))
    assert _sentences(ask(scene), "ks/apps", 1) == [told]


@pytest.mark.parametrize("named", [True, False], ids=["the cause is named", "no cause is named"])
def test_a_run_that_corrects_drift_says_what_was_changed_and_by_whom(ask: Ask, *, named: bool) -> None:
    scene = shop()
    _drift(scene, DB, INFRA, "spec.paused")
    cause = _drift(scene, WEB, APPS, "spec.replicas")
    scene.deploy(APPS, "two", "plan-drift", {WEB: manifest("web", "shop:2")}, cause=cause if named else None)
    scene.deploy(APPS, "two", "plan-later", {WEB: manifest("web", "shop:2")})
    later, mended = _runs(ask(scene), "ks/apps")[:2]
    assert mended.why == "Deployment/shop/web was changed: spec.replicas by kubectl-edit"
    assert later.why == "", "what drifted before the run before it led to that one"


@pytest.mark.parametrize("named", [True, False], ids=["the last is named", "none is named"])
def test_several_that_drifted_are_named_as_far_as_a_line_goes(ask: Ask, *, named: bool) -> None:
    scene = shop()
    cause: EventId | None = None
    for number in range(5):
        cause = _drift(scene, deployment(f"web-{number}"), APPS, "spec.replicas")
    scene.deploy(APPS, "two", "plan-drift", {WEB: manifest("web", "shop:2")}, cause=cause if named else None)
    why = _runs(ask(scene), "ks/apps")[0].why
    assert why.count("was changed") == 3
    assert why.endswith("and 2 more")


def _drift(scene: Scene, key: ObjectKey, owner: StreamName, path: str) -> EventId:
    fields = (FieldDrift(path=path, manager="kubectl-edit"),)
    drift = DriftDetected(target=owner, uid="u", resource_version="9", fields=fields)
    return scene.tell(key.stream("prod"), drift, actor=KUBECTL)


def test_a_failure_that_repeats_has_the_message_of_the_first(ask: Ask) -> None:
    scene = shop()
    first = StageFailed(stage="render", reason="BuildFailed", final=False, message="web.yaml:3: no kind")
    again = StageFailed(stage="render", reason="BuildFailed", final=False, repeats=True, attempt=2)
    for failure in (first, again, again):
        scene.tell(APPS, failure, run=RunId(new_id()))
    archive = ask(scene)
    runs = _runs(archive, "ks/apps")[:3]
    assert [run.message for run in runs] == ["web.yaml:3: no kind"] * 3
    assert runs[0].why == "The run before it failed: tried again"
    assert _sentences(archive, "ks/apps", 1) == [
        "The stage render failed (BuildFailed), as before, failure 2 in a row: web.yaml:3: no kind"
    ]


def test_each_series_of_equal_failures_has_its_own_message(ask: Ask) -> None:
    scene = shop()
    again = StageFailed(stage="render", reason="BuildFailed", final=False, repeats=True, attempt=2)
    for message in ("one", "two"):
        first = StageFailed(stage="render", reason="BuildFailed", final=False, message=message)
        for failure in (first, again, again):
            scene.tell(APPS, failure, run=RunId(new_id()))
    archive = ask(scene)
    assert [run.message for run in _runs(archive, "ks/apps")[:6]] == ["two"] * 3 + ["one"] * 3
    scope = scope_for(archive, find(archive, ("ks/apps",), None))
    failures = Failures(archive)
    oldest_first = [told(one, failures).sentence for one in last_events(archive, scope, 0, 6)]
    assert [sentence.rpartition(" ")[2] for sentence in oldest_first] == ["one"] * 3 + ["two"] * 3


def test_a_failure_may_repeat_what_a_check_said(ask: Ask) -> None:
    scene = shop()
    verdicts = tuple(Verdict(check="dry-run", passed=False, message=message) for message in ("no", "nor this"))
    refused = VerificationFailed(plan=PlanId("plan-x"), policies=digest_of(b""), failed=verdicts)
    scene.tell(APPS, refused, run=RunId(new_id()))
    again = StageFailed(stage="verify", reason="ReconciliationFailed", final=False, repeats=True, attempt=2)
    scene.tell(APPS, again, run=RunId(new_id()))
    assert _runs(ask(scene), "ks/apps")[0].message == "no; nor this"


def test_a_run_that_put_back_a_moment_has_the_commit_of_then(ask: Ask) -> None:
    latest, second, first = _runs(ask(pinned_shop()), "ks/apps")
    assert latest.commit is not None
    assert (latest.revision, latest.commit.subject) == (revision("one"), "Open the shop")
    assert latest.pinned == first.last
    assert latest.why.startswith(f"Pinned to what it was at position {first.last}")
    assert (second.revision, second.pinned, first.pinned) == (revision("two"), None, None)


def _packed(origin: str) -> Scene:
    """A Kustomization over an artifact of a registry, which says what it was made of."""
    scene = Scene()
    registry = ObjectKey("source.toolkit.fluxcd.io", "OCIRepository", "flux-system", "shop").stream("prod")
    scene.declare(SHOP, url="https://git.example.com/shop")
    scene.declare(registry, url="oci://registry.example.com/shop")
    scene.declare(APPS, sourceRef={"kind": "OCIRepository", "name": "shop"})
    scene.fetch(SHOP, "one", "Open the shop")
    notes = (Annotation(name="org.opencontainers.image.revision", value=origin),) if origin else ()
    fetched = RevisionFetched(
        revision=PACKED, tree=digest_of(b"")[7:47], artifact=digest_of(b""), size=1, annotations=notes
    )
    cause = scene.tell(registry, fetched, run=RunId(new_id()))
    run = RunId(new_id())
    scene.tell(APPS, RunEnded(outcome="succeeded", generation=1, revision=PACKED), run=run, cause=cause)
    return scene


def test_an_artifact_has_the_commit_that_it_says_it_was_made_of(ask: Ask) -> None:
    (run,) = _runs(ask(_packed(revision("one"))), "ks/apps")
    assert run.commit is not None
    assert (run.revision, run.commit.revision, run.commit.origin) == (PACKED, PACKED, revision("one"))
    assert (run.commit.subject, run.commit.author) == ("Open the shop", "Ada <ada@example.com>")
    assert run.why == f"revision {PACKED}: “Open the shop” by Ada"


def test_an_artifact_of_a_commit_that_nobody_fetched_here_names_it(ask: Ask) -> None:
    elsewhere = revision("elsewhere")
    (run,) = _runs(ask(_packed(elsewhere)), "ks/apps")
    assert run.commit is not None
    assert (run.commit.origin, run.commit.subject) == (elsewhere, "")
    assert run.why == f"revision {PACKED}, made of {elsewhere}"


def test_an_artifact_that_says_nothing_of_its_making_has_no_commit_behind_it(ask: Ask) -> None:
    (run,) = _runs(ask(_packed("")), "ks/apps")
    assert run.commit is not None
    assert (run.commit.origin, run.why) == (None, f"revision {PACKED}")


def test_the_run_that_ends_a_pin_is_of_its_own_revision(ask: Ask) -> None:
    scene = pinned_shop()
    cause = scene.fetch(SHOP, "three", "Green")
    run = RunId(new_id())
    scene.tell(APPS, Unpinned(why="a newer one"), run=run, cause=cause)
    made, bodies = scene.rendered("three", {WEB: manifest("web", "shop:3")})
    scene.tell(
        APPS, made, RunEnded(outcome="succeeded", generation=1, revision=revision("three")), run=run, bodies=bodies
    )
    latest, before = _runs(ask(scene), "ks/apps")[:2]
    assert (latest.revision, latest.pinned) == (revision("three"), None)
    assert before.revision == revision("one")


def test_an_apply_that_stopped_says_how_far_it_came(ask: Ask) -> None:
    scene = shop()
    plan = PlanId("plan-x")
    failed = ApplyFailed(plan=plan, wave=0, reason="Forbidden", message="no", applied=3, pending=4)
    scene.tell(APPS, ApplyStarted(plan=plan, waves=1), failed, run=RunId(new_id()))
    run = _runs(ask(scene), "ks/apps")[0]
    assert (run.outcome, run.applied, run.configured) == ("failed", 3, 0)


@pytest.mark.parametrize(("health", "outcome"), [("Failed", "failed"), ("InProgress", "running")])
def test_a_run_that_waits_for_health_is_running_until_that_fails(ask: Ask, health: str, outcome: str) -> None:
    scene = shop()
    run = scene.deploy(APPS, "three", "plan-apps-3", {WEB: manifest("web", "shop:3")}, ends=False)
    changed = msgspec.convert({"health": health, "reason": "HealthCheckFailed", "message": "web"}, HealthChanged)
    scene.tell(APPS, changed, run=run)
    assert _runs(ask(scene), "ks/apps")[0].outcome == outcome


def test_runs_up_to_a_moment_are_those_of_then(ask: Ask) -> None:
    scene = shop()
    archive = ask(scene, revision("one"))
    assert [run.plan for run in _runs(archive, "ks/apps")] == ["plan-apps-1"]


# Versions.


def test_the_versions_of_an_object_say_who_changed_which_fields(ask: Ask) -> None:
    scene = shop()
    scaled = Body.of(encode(manifest("web", "shop:2", 0)))
    observed = ObjectObserved(uid="uid-web", resource_version="31", state=scaled.ref, health="InProgress")
    scene.tell(WEB.stream("prod"), observed, actor=KUBECTL, bodies=[scaled])
    archive = ask(scene)
    subject = find(archive, ("deployment/web",), None)
    assert not is_reconciled(archive, subject)
    newest, second, first = versions_of(archive, subject)
    assert (newest.by, newest.target, newest.fields) == ("manager kubectl-edit (inferred)", None, ("spec.replicas",))
    assert (second.target, second.plan) == (APPS, "plan-apps-2")
    assert second.fields == ("spec.replicas", 'spec.template.spec.containers[name="app"].image')
    assert (first.fields, first.gone) == ((), False)


def test_a_status_alone_is_told_to_who_asks_for_it(ask: Ask) -> None:
    scene = shop()
    state, status = Body.of(encode(manifest("web", "shop:2", 0))), Body.of(b'{"replicas":1}')
    seen = ObjectObserved(uid="uid-web", resource_version="31", state=state.ref, health="Current")
    alone = msgspec.structs.replace(seen, resource_version="32", status=status.ref, only_status=True)
    scene.tell(WEB.stream("prod"), seen, alone, actor=KUBECTL, bodies=[state, status])
    archive = ask(scene)
    subject = find(archive, ("deployment/web",), None)
    assert [one.resource_version for one in versions_of(archive, subject)][:1] == ["31"]
    newest, second, *_ = versions_of(archive, subject, with_status=True)
    assert (newest.resource_version, newest.fields) == ("32", ("status",))
    assert newest.what == "Has another status, at version 32"
    assert second.fields == ("spec.replicas",)
    for scope in (scope_for(archive, subject), Scope(namespace="shop"), Scope()):
        (last,) = last_events(archive, scope, 0, 1)
        assert last.envelope.position == archive.position - 1
        (last,) = last_events(archive, msgspec.structs.replace(scope, with_status=True), 0, 1)
        assert last.envelope.position == archive.position
        assert not scope.holds(last)


def test_what_is_secret_is_not_opened(ask: Ask) -> None:
    scene = shop()
    key = ObjectKey("", "Secret", "shop", "db")
    for number, value in enumerate((b"hunter2", b"hunter3")):
        body = secret_body(value)
        event = ObjectObserved(uid="1", resource_version=str(number), state=body.ref, health="Current")
        scene.tell(key.stream("prod"), event, bodies=[body])
    archive = ask(scene)
    newest, first = versions_of(archive, find(archive, ("secret/db",), None))
    assert (newest.fields, first.fields) == ((HIDDEN,), ())
    assert b"hunter" not in msgspec.json.encode([newest, first])


def test_the_json_of_runs_and_versions_has_every_field(archive: Archive) -> None:
    run = next(runs_of(archive, find(archive, ("ks/apps",), None)))
    version = next(versions_of(archive, find(archive, ("deployment/web",), None)))
    assert set(msgspec.to_builtins(run)) == set(RunTold.__struct_fields__)
    assert set(msgspec.to_builtins(version)) == set(VersionTold.__struct_fields__)
