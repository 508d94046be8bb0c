"""Projections: what a user would believe of each, and what holds for all."""

import random
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.logs import (
    JANE,
    KUBECTL,
    OBJECTS,
    Log,
    body,
    coherent_logs,
    digest,
    everything,
    logs,
    moment,
    run_id,
    source,
    target,
)
from tests.events.strategies import fresh
from tidelog.events.canonical import encode
from tidelog.events.codec import MalformedEventError
from tidelog.events.envelope import decode_envelope
from tidelog.events.names import (
    ObjectId,
    ObjectKey,
    PlanId,
    Revision,
    RunId,
    StreamName,
    TraceId,
    cluster_of,
    object_stream,
)
from tidelog.events.projection import Fold, Projection, Rows, encode_row
from tidelog.events.projections import (
    ACTUAL,
    DESIRED,
    INVENTORY,
    OBJECT_VERSIONS,
    PROJECTIONS,
    RUNS,
    Actual,
    Desired,
    Inventory,
    ObjectVersion,
    Pin,
    Run,
    Suspension,
    version_key,
)
from tidelog.events.projections.desired import objects_cluster
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    Because,
    BlastRadius,
    DriftDetected,
    Event,
    FieldDrift,
    HealthChanged,
    Marked,
    ObjectAbandoned,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
    Pinned,
    PlanApproved,
    PlanHeld,
    Planned,
    PlanRejected,
    Rendered,
    Resumed,
    RevisionFetched,
    RevisionRejected,
    RevisionSettled,
    SourceDeclared,
    SourceRemoved,
    StageFailed,
    Suspended,
    TargetDeclared,
    TargetMoved,
    TargetRemoved,
    Unpinned,
    Verdict,
    VerificationFailed,
)

R = TypeVar("R", bound=msgspec.Struct)
Bytes = dict[str, bytes]

every_projection = pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)

APPS = target("prod", "apps")
PODINFO = source("prod", "podinfo")
WEB = ObjectKey("apps", "Deployment", "default", "web")
WEB_STREAM = WEB.stream("prod")
PLAN = PlanId("plan-1")
A, B = Revision("main@sha1:" + "a" * 40), Revision("main@sha1:" + "b" * 40)
RUN = run_id(1)
TRACE = TraceId("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")


def folded(projection: Projection[R], log: Log) -> dict[str, R]:
    rows: Rows[R] = Rows()
    fold = Fold()
    fold.add(projection, rows)
    assert fold.fold(log.entries) == len(log.entries)
    return dict(rows.items())


def rendered(revision: Revision = A, of: str = "set") -> Rendered:
    return Rendered(
        revision=revision,
        inputs=digest("inputs"),
        read_set=body("read"),
        toolchain=(),
        set=digest(of),
        objects=body(of),
        count=2,
    )


def planned(revision: Revision = A) -> Planned:
    radius = BlastRadius(create=1)
    return Planned(plan=PLAN, revision=revision, set=digest("set"), waves=body("waves"), blast_radius=radius)


def applied(key: ObjectKey = WEB, uid: str = "u1", resource_version: str = "10", state: str = "live") -> ObjectApplied:
    return ObjectApplied(
        plan=PLAN,
        object=key.id,
        uid=uid,
        resource_version=resource_version,
        action="configured",
        wave=0,
        desired=digest(f"desired {key.name}"),
        state=body(state),
    )


def pruned(outcome: Any = "deleted", key: ObjectKey = WEB) -> ObjectPruned:
    return ObjectPruned(plan=PLAN, object=key.id, uid="u1", outcome=outcome)


DECLARED = TargetDeclared(uid="t1", generation=3, spec=body("spec"))
DRIFT = (FieldDrift(path="spec.replicas", manager="kubectl-edit"),)


def drifted(*, gone: bool = False, fields: tuple[FieldDrift, ...] = DRIFT) -> DriftDetected:
    return DriftDetected(target=APPS, uid="u1", resource_version="11", fields=fields, gone=gone)


@pytest.fixture
def log() -> Log:
    return Log()


# desired


def test_desired_tells_what_a_target_is_declared_to_be_and_last_rendered(log: Log) -> None:
    log.append(APPS, DECLARED)
    assert folded(DESIRED, log) == {APPS: Desired(uid="t1", generation=3, spec=body("spec"), position=1)}
    log.append(APPS, rendered(A))
    log.append(APPS, rendered(B, "new set"))
    assert folded(DESIRED, log)[APPS] == Desired(
        uid="t1",
        generation=3,
        spec=body("spec"),
        revision=B,
        set=digest("new set"),
        objects=body("new set"),
        count=2,
        position=3,
    )


def test_desired_tells_what_a_source_last_fetched(log: Log) -> None:
    log.append(PODINFO, SourceDeclared(uid="s1", generation=1, spec=body("source")))
    for revision, tree in ((A, "a" * 40), (B, "b" * 40)):
        log.append(PODINFO, RevisionFetched(revision=revision, tree=tree, artifact=digest(tree), size=9))
    row = folded(DESIRED, log)[PODINFO]
    assert (row.uid, row.revision, row.tree, row.artifact) == ("s1", B, "b" * 40, digest("b" * 40))


def test_new_spec_keeps_what_was_rendered_suspended_and_pinned(log: Log) -> None:
    log.append(APPS, DECLARED)
    log.append(APPS, rendered())
    log.append(APPS, Suspended(why="freeze"), actor=JANE)
    log.append(APPS, Pinned(set=digest("old"), position=1, left=A, why="bad"), actor=JANE)
    before = folded(DESIRED, log)[APPS]
    log.append(APPS, TargetDeclared(uid="t1", generation=4, spec=body("new spec")))
    after = folded(DESIRED, log)[APPS]
    assert (after.generation, after.spec, after.position) == (4, body("new spec"), 5)
    assert (after.revision, after.set, after.suspended, after.pinned) == (
        before.revision,
        before.set,
        before.suspended,
        before.pinned,
    )
    assert after.suspended
    assert after.pinned


def test_suspension_tells_by_whom_why_and_until_when_and_ends_when_resumed(log: Log) -> None:
    log.append(APPS, DECLARED)
    log.append(APPS, Suspended(why="freeze", until=moment(900)), actor=JANE)
    assert folded(DESIRED, log)[APPS].suspended == Suspension(
        by="user jane@corp (authenticated by kubernetes)", why="freeze", until=moment(900)
    )
    log.append(APPS, Suspended(why="freeze goes on"), actor=KUBECTL)
    assert folded(DESIRED, log)[APPS].suspended == Suspension(
        by="manager kubectl-edit (inferred)", why="freeze goes on"
    )
    log.append(APPS, Resumed(), actor=JANE)
    assert folded(DESIRED, log)[APPS].suspended is None


def test_pin_tells_the_set_the_place_and_what_was_left_and_ends_when_unpinned(log: Log) -> None:
    log.append(APPS, DECLARED)
    log.append(APPS, Pinned(set=digest("old"), position=1, left=B, why="bad release"), actor=JANE)
    row = folded(DESIRED, log)[APPS]
    assert row.pinned == Pin(
        set=digest("old"), position=1, left=B, by="user jane@corp (authenticated by kubernetes)", why="bad release"
    )
    assert row.suspended is None  # nothing is suspended by a pin
    log.append(APPS, Unpinned(why="mended"), actor=JANE)
    assert folded(DESIRED, log)[APPS].pinned is None


def test_revision_is_rejected_once_however_often_it_is_said(log: Log) -> None:
    log.append(APPS, DECLARED)
    for revision in (B, A, B):
        log.append(APPS, RevisionRejected(revision=revision, why="broken"), actor=JANE)
    assert folded(DESIRED, log)[APPS].rejected == (B, A)


def test_what_was_removed_has_no_row_and_comes_back_without_its_past(log: Log) -> None:
    log.append(APPS, DECLARED)
    log.append(APPS, Suspended(why="freeze"), actor=JANE)
    log.append(PODINFO, SourceDeclared(uid="s1", generation=1, spec=body("source")))
    log.append(APPS, TargetRemoved(uid="t1"))
    log.append(PODINFO, SourceRemoved(uid="s1"))
    assert folded(DESIRED, log) == {}
    log.append(APPS, TargetDeclared(uid="t2", generation=1, spec=body("spec")))
    assert folded(DESIRED, log) == {APPS: Desired(uid="t2", generation=1, spec=body("spec"), position=6)}


def test_targets_of_one_name_in_two_clusters_have_a_row_each(log: Log) -> None:
    log.append(APPS, DECLARED)
    log.append(target("stage", "apps"), DECLARED)
    log.append(target("stage", "apps"), Suspended(why="freeze"), actor=JANE)
    rows = folded(DESIRED, log)
    assert rows[APPS].suspended is None
    assert rows[target("stage", "apps")].suspended is not None


# actual


def test_object_is_actual_as_the_server_answered_and_owned_by_who_applied_it(log: Log) -> None:
    log.append(APPS, applied())
    assert folded(ACTUAL, log) == {
        WEB_STREAM: Actual(
            uid="u1", resource_version="10", state=body("live"), health="Unknown", owner=APPS, position=1
        )
    }


def test_object_that_was_observed_is_actual_whoever_owns_it(log: Log) -> None:
    log.append(WEB_STREAM, ObjectObserved(uid="u1", resource_version="12", state=body("edited"), health="InProgress"))
    row = folded(ACTUAL, log)[WEB_STREAM]
    assert (row.uid, row.resource_version, row.state) == ("u1", "12", body("edited"))
    assert (row.health, row.owner) == ("InProgress", None)
    log.append(APPS, applied(resource_version="13"))
    log.append(WEB_STREAM, ObjectObserved(uid="u1", resource_version="14", state=body("x"), health="Current"))
    row = folded(ACTUAL, log)[WEB_STREAM]
    assert (row.resource_version, row.health, row.owner) == ("14", "Current", APPS)


def test_a_status_is_actual_as_it_was_last_told_whichever_event_told_it(log: Log) -> None:
    log.append(APPS, msgspec.structs.replace(applied(), status=body("made")))
    assert folded(ACTUAL, log)[WEB_STREAM].status == body("made")
    log.append(WEB_STREAM, HealthChanged(health="InProgress", status=body("begun")))
    log.append(WEB_STREAM, HealthChanged(health="InProgress", reason="without a status"))
    assert folded(ACTUAL, log)[WEB_STREAM].status == body("begun")
    same = {"uid": "u1", "state": body("live"), "health": "InProgress"}
    alone = ObjectObserved(resource_version="12", status=body("done"), only_status=True, **same)  # type: ignore[arg-type]
    log.append(WEB_STREAM, alone)
    row = folded(ACTUAL, log)[WEB_STREAM]
    assert (row.status, row.resource_version, row.owner) == (body("done"), "12", APPS)
    assert (row.position, row.status_position) == (3, 4), "since when it is as it is, a status alone does not change"
    log.append(WEB_STREAM, ObjectObserved(uid="u1", resource_version="13", state=body("x"), health="Current"))
    assert folded(ACTUAL, log)[WEB_STREAM].status is None


def test_why_a_workload_is_not_available_is_known_until_it_is(log: Log) -> None:
    why = Because(object=ObjectId("core/Pod/shop/web-1"), reason="ImagePullBackOff")
    same = {"uid": "u1", "state": body("live")}

    def told() -> Because | None:
        return folded(ACTUAL, log)[WEB_STREAM].because

    log.append(APPS, applied())
    log.append(WEB_STREAM, HealthChanged(health="InProgress", because=why))
    log.append(WEB_STREAM, ObjectObserved(resource_version="12", health="Failed", **same))  # type: ignore[arg-type]
    assert told() == why
    log.append(WEB_STREAM, HealthChanged(health="Failed"))
    assert told() is None, "nothing was found any more"
    for after in (
        ObjectObserved(resource_version="13", health="Current", **same),  # type: ignore[arg-type]
        ObjectObserved(uid="u2", resource_version="14", state=body("live"), health="InProgress"),
    ):
        log.append(WEB_STREAM, HealthChanged(health="InProgress", because=why))
        log.append(WEB_STREAM, after)
        assert told() is None


def test_every_status_of_an_object_is_one_of_its_versions(log: Log) -> None:
    log.append(APPS, msgspec.structs.replace(applied(), status=body("made")))
    alone = ObjectObserved(uid="u1", resource_version="12", state=body("live"), status=body("done"), only_status=True)
    log.append(WEB_STREAM, alone)
    versions = [(one.status, one.only_status) for one in folded(OBJECT_VERSIONS, log).values()]
    assert versions == [(body("made"), False), (body("done"), True)]


def test_drift_is_told_until_the_object_is_applied_again(log: Log) -> None:
    log.append(APPS, applied())
    log.append(WEB_STREAM, ObjectObserved(uid="u1", resource_version="11", state=body("scaled")), actor=KUBECTL)
    log.append(WEB_STREAM, drifted(), actor=KUBECTL)
    row = folded(ACTUAL, log)[WEB_STREAM]
    assert (row.drift, row.state, row.owner) == (DRIFT, body("scaled"), APPS)
    log.append(APPS, applied(resource_version="12"))
    row = folded(ACTUAL, log)[WEB_STREAM]
    assert (row.drift, row.state) == ((), body("live"))


def test_object_that_someone_deleted_and_made_again_is_nobodys_and_has_no_drift(log: Log) -> None:
    log.append(APPS, applied())
    log.append(WEB_STREAM, drifted())
    log.append(WEB_STREAM, ObjectObserved(uid="another", resource_version="20", state=body("made by hand")))
    row = folded(ACTUAL, log)[WEB_STREAM]
    assert (row.uid, row.owner, row.drift) == ("another", None, ())


def test_drift_that_was_undone_by_hand_is_told_no_longer(log: Log) -> None:
    log.append(APPS, applied())
    log.append(WEB_STREAM, drifted())
    log.append(WEB_STREAM, drifted(fields=()))
    assert folded(ACTUAL, log)[WEB_STREAM].drift == ()


@pytest.mark.parametrize("outcome", ["deleted", "absent"])
def test_object_that_was_pruned_is_not_there(log: Log, outcome: str) -> None:
    log.append(APPS, applied())
    log.append(APPS, pruned(outcome))
    assert folded(ACTUAL, log) == {}


def test_object_whose_prune_was_skipped_is_there_and_nobodys(log: Log) -> None:
    log.append(APPS, applied())
    log.append(APPS, pruned("skipped"))
    row = folded(ACTUAL, log)[WEB_STREAM]
    assert (row.owner, row.state, row.position) == (None, body("live"), 2)


def test_skipped_prune_does_not_take_the_object_from_another_owner(log: Log) -> None:
    log.append(APPS, applied())
    log.append(target("prod", "infra"), applied())
    log.append(APPS, pruned("skipped"))
    assert folded(ACTUAL, log)[WEB_STREAM].owner == target("prod", "infra")


def test_object_that_is_gone_is_not_there_and_may_come_back(log: Log) -> None:
    log.append(APPS, applied())
    log.append(WEB_STREAM, ObjectObserved(uid="u1", resource_version="11", gone=True))
    log.append(WEB_STREAM, drifted(gone=True, fields=()))
    assert folded(ACTUAL, log) == {}
    log.append(APPS, applied(uid="u2"))
    assert folded(ACTUAL, log)[WEB_STREAM].uid == "u2"


def test_health_is_of_objects_that_were_seen_and_not_of_targets(log: Log) -> None:
    log.append(APPS, HealthChanged(health="Failed"))
    log.append(APPS, applied())
    log.append(WEB_STREAM, HealthChanged(health="Current"))
    assert {key: row.health for key, row in folded(ACTUAL, log).items()} == {WEB_STREAM: "Current"}


def test_objects_of_one_name_in_two_clusters_are_two(log: Log) -> None:
    log.append(APPS, applied(state="here"))
    log.append(target("stage", "apps"), applied(state="there"))
    log.append(APPS, pruned())
    assert {key: row.state for key, row in folded(ACTUAL, log).items()} == {WEB.stream("stage"): body("there")}


# inventory


def test_what_is_in_another_cluster_is_told_apart_until_it_is_abandoned(log: Log) -> None:
    there = object_stream("far", WEB.id)
    log.append(APPS, DECLARED)
    assert objects_cluster(APPS, folded(DESIRED, log)[APPS]) == objects_cluster(APPS, None) == cluster_of(APPS)
    log.append(APPS, TargetMoved(cluster="far"))
    log.append(APPS, msgspec.structs.replace(applied(), cluster="far"))
    assert objects_cluster(APPS, folded(DESIRED, log)[APPS]) == "far"
    assert {stream: row.owner for stream, row in folded(ACTUAL, log).items()} == {there: APPS}
    assert {row.object for row in folded(OBJECT_VERSIONS, log).values()} == {there}
    assert folded(INVENTORY, log)[APPS].objects.keys() == {WEB.id}
    log.append(APPS, ObjectAbandoned(object=WEB.id, uid="u1", cluster="far"))
    log.append(APPS, TargetMoved(cluster=cluster_of(APPS)))
    assert folded(ACTUAL, log)[there].owner is None
    assert folded(INVENTORY, log)[APPS].objects == {}
    assert folded(DESIRED, log)[APPS].cluster == ""


def test_inventory_has_what_was_applied_and_not_pruned(log: Log) -> None:
    other = ObjectKey("", "ConfigMap", "default", "web")
    log.append(APPS, applied())
    log.append(APPS, applied(other, uid="u2"))
    log.append(APPS, applied(resource_version="20"))
    row = folded(INVENTORY, log)[APPS]
    assert {name: (entry.uid, entry.position) for name, entry in row.objects.items()} == {
        WEB.id: ("u1", 3),
        other.id: ("u2", 2),
    }
    assert row.objects[WEB.id].desired == digest("desired web")
    log.append(APPS, pruned())
    assert list(folded(INVENTORY, log)[APPS].objects) == [other.id]


@pytest.mark.parametrize("outcome", ["deleted", "absent", "skipped"])
def test_pruned_object_leaves_the_inventory_however_it_went(log: Log, outcome: str) -> None:
    log.append(APPS, applied())
    log.append(APPS, pruned(outcome))
    log.append(APPS, pruned(outcome))  # again, after a crash
    assert folded(INVENTORY, log) == {APPS: Inventory(objects={})}


def test_inventories_of_two_targets_are_two_even_for_one_object(log: Log) -> None:
    infra = target("prod", "infra")
    log.append(APPS, applied())
    log.append(infra, applied())
    log.append(APPS, pruned("skipped"))
    rows = folded(INVENTORY, log)
    assert not rows[APPS].objects
    assert list(rows[infra].objects) == [WEB.id]


def test_inventory_ends_with_its_target(log: Log) -> None:
    log.append(APPS, applied())
    log.append(APPS, TargetRemoved(uid="t1"))
    assert folded(INVENTORY, log) == {}


def test_object_that_vanished_stays_in_the_inventory(log: Log) -> None:
    log.append(APPS, applied())
    log.append(WEB_STREAM, ObjectObserved(uid="u1", resource_version="11", gone=True))
    assert list(folded(INVENTORY, log)[APPS].objects) == [WEB.id]


# runs


def run_of(log: Log, *events: Event, stream: StreamName = APPS, run: RunId = RUN) -> Run:
    for event in events:
        log.append(stream, event, run=run, trace=TRACE)
    return folded(RUNS, log)[run]


def test_run_is_held_approved_and_finished(log: Log) -> None:
    held = PlanHeld(plan=PLAN, check="blast radius", why="deletes 30 objects")
    row = run_of(log, rendered(), planned(), held)
    assert (row.outcome, row.reason, row.message) == ("held", "blast radius", "deletes 30 objects")
    assert (row.stream, row.trace, row.plan, row.revision) == (APPS, TRACE, PLAN, A)
    row = run_of(log, PlanApproved(plan=PLAN, why="planned"), ApplyStarted(plan=PLAN, waves=1))
    assert (row.outcome, row.reason, row.message) == ("running", "", "")
    row = run_of(log, applied(), ApplyFinished(plan=PLAN, revision=A, set=digest("set"), configured=1))
    assert row == Run(
        stream=APPS,
        trace=TRACE,
        first=1,
        last=7,
        started=moment(1),
        ended=moment(7),
        events=7,
        outcome="succeeded",
        revision=A,
        plan=PLAN,
    )


def test_run_whose_plan_was_rejected_tells_why(log: Log) -> None:
    held = PlanHeld(plan=PLAN, check="blast radius", why="deletes 30 objects")
    row = run_of(log, planned(), held, PlanRejected(plan=PLAN, why="not today"))
    assert (row.outcome, row.message) == ("rejected", "not today")


def test_run_that_failed_in_fetch_tells_why(log: Log) -> None:
    failed = StageFailed(stage="fetch", reason="Timeout", final=False, message="no answer after 60 s")
    row = run_of(log, failed, stream=PODINFO)
    assert (row.stream, row.outcome, row.reason, row.message) == (PODINFO, "failed", "Timeout", "no answer after 60 s")
    assert row.revision is None


def test_run_that_waits_for_something_has_not_failed(log: Log) -> None:
    waits = StageFailed(stage="fetch", reason="ArtifactFailed", final=False, message="not ready", waits_for=PODINFO)
    row = run_of(log, waits)
    assert (row.outcome, row.reason, row.message) == ("waiting", "ArtifactFailed", "not ready")


def test_failure_that_repeats_keeps_its_message_and_another_does_not(log: Log) -> None:
    failed = StageFailed(stage="fetch", reason="Timeout", final=False, message="no answer after 60 s")
    repeats = StageFailed(stage="fetch", reason="Timeout", final=False, attempt=2, repeats=True)
    row = run_of(log, failed, repeats, stream=PODINFO)
    assert (row.reason, row.message, row.events) == ("Timeout", "no answer after 60 s", 2)
    row = run_of(log, StageFailed(stage="fetch", reason="NotFound", final=True), stream=PODINFO)
    assert (row.reason, row.message) == ("NotFound", "")


def test_run_that_failed_and_then_succeeded_tells_no_failure(log: Log) -> None:
    failed = StageFailed(stage="fetch", reason="Timeout", final=False, message="no answer")
    fetched = RevisionFetched(revision=A, tree="a" * 40, artifact=digest("tar"), size=1)
    row = run_of(log, failed, fetched, stream=PODINFO)
    assert (row.outcome, row.reason, row.message) == ("succeeded", "", "")


def test_run_that_failed_to_apply_tells_why(log: Log) -> None:
    failed = ApplyFailed(plan=PLAN, wave=0, reason="Conflict", message="field owned by another")
    row = run_of(log, rendered(), planned(), ApplyStarted(plan=PLAN, waves=1), applied(), failed)
    assert (row.outcome, row.reason, row.message) == ("failed", "Conflict", "field owned by another")
    assert (row.plan, row.events) == (PLAN, 5)


def test_run_that_was_not_verified_tells_the_first_check_that_failed(log: Log) -> None:
    verdicts = (
        Verdict(check="schema", passed=False, message="spec.replicas: no number"),
        Verdict(check="policy", passed=False, message="no limits"),
    )
    row = run_of(log, planned(), VerificationFailed(plan=PLAN, policies=digest("p"), failed=verdicts))
    assert (row.outcome, row.reason, row.message) == ("failed", "schema", "spec.replicas: no number")


def test_source_run_succeeds_with_the_revision_or_is_settled(log: Log) -> None:
    fetched = RevisionFetched(revision=A, tree="a" * 40, artifact=digest("tar"), size=1)
    row = run_of(log, fetched, stream=PODINFO)
    assert (row.outcome, row.revision) == ("succeeded", A)
    row = run_of(log, RevisionSettled(revision=B, targets=(APPS,)), stream=PODINFO, run=run_id(2))
    assert (row.outcome, row.revision) == ("settled", B)


def test_runs_that_overlap_are_told_apart_and_events_without_a_run_belong_to_none(log: Log) -> None:
    other = run_id(2)
    log.append(APPS, rendered(A), run=RUN)
    log.append(target("prod", "infra"), rendered(B), run=other)
    log.append(APPS, Suspended(why="freeze"), actor=JANE)
    log.append(APPS, planned(), run=RUN)
    rows = folded(RUNS, log)
    assert rows.keys() == {RUN, other}
    assert (rows[RUN].events, rows[RUN].first, rows[RUN].last, rows[RUN].revision) == (2, 1, 4, A)
    assert (rows[other].events, rows[other].stream, rows[other].revision) == (1, target("prod", "infra"), B)


def test_run_counts_events_that_this_release_does_not_know(log: Log) -> None:
    log.append(APPS, rendered(), run=RUN)
    log.raw(APPS, "QuotaRaised", b'{"by":[1]}', run=RUN)
    log.raw(APPS, "ApplyFinished", b'{"results":[]}', schema=2, run=RUN)
    row = folded(RUNS, log)[RUN]
    assert (row.events, row.last, row.ended, row.outcome) == (3, 3, moment(3), "running")


# object_versions


def test_every_version_of_an_object_is_kept_with_both_times(log: Log) -> None:
    log.append(APPS, applied(), actor=JANE)
    edited = ObjectObserved(uid="u1", resource_version="11", state=body("edited"))
    log.append(WEB_STREAM, edited, actor=KUBECTL, occurred=moment(-60))
    log.append(APPS, pruned())
    first, second, third = folded(OBJECT_VERSIONS, log).items()
    assert first == (
        version_key(WEB_STREAM, 1),
        ObjectVersion(
            object=WEB_STREAM,
            position=1,
            time=moment(1),
            occurred=moment(1),
            by="user jane@corp (authenticated by kubernetes)",
            uid="u1",
            resource_version="10",
            state=body("live"),
        ),
    )
    assert second[0] == version_key(WEB_STREAM, 2)
    # It happened before the version that was learned first.
    assert (second[1].time, second[1].occurred) == (moment(2), moment(-60))
    assert second[1].occurred < first[1].occurred < second[1].time
    assert (second[1].by, second[1].gone) == ("manager kubectl-edit (inferred)", False)
    assert (third[1].gone, third[1].state, third[1].uid) == (True, None, "u1")


def test_object_that_was_deleted_by_others_has_a_last_version(log: Log) -> None:
    log.append(WEB_STREAM, ObjectObserved(uid="u1", resource_version="11", gone=True), occurred=moment(0))
    (row,) = folded(OBJECT_VERSIONS, log).values()
    assert (row.gone, row.occurred, row.time) == (True, moment(0), moment(1))


def test_object_whose_prune_was_skipped_has_no_new_version(log: Log) -> None:
    log.append(APPS, applied())
    log.append(APPS, pruned("skipped"))
    assert list(folded(OBJECT_VERSIONS, log)) == [version_key(WEB_STREAM, 1)]


def test_versions_of_one_object_sort_by_position() -> None:
    positions = [1, 2, 9, 10, 11, 99, 100, 10**9, 10**15]
    keys = [version_key(WEB_STREAM, position) for position in positions]
    assert sorted(keys) == keys
    assert [int(key.rpartition("@")[2]) for key in keys] == positions


# What holds for every projection.


class Watched(Rows[Any]):
    """Rows that remember which keys were put and dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.touched: list[str] = []

    def put(self, key: str, row: Any) -> None:
        self.touched.append(key)
        super().put(key, row)

    def drop(self, key: str) -> None:
        self.touched.append(key)
        super().drop(key)


def in_one_go(projection: Projection[Any], entries: list[bytes]) -> Bytes:
    rows: Rows[Any] = Rows()
    fold = Fold()
    fold.add(projection, rows)
    fold.fold(entries)
    return {key: encode_row(row) for key, row in rows.items()}


def in_pieces(projection: Projection[Any], entries: list[bytes], cuts: list[int]) -> Bytes:
    """Rows leave memory after each piece, and come back from their bytes: only what was stored is left."""
    stored: Bytes = {}
    decode = msgspec.json.Decoder(projection.row).decode
    rows: Rows[Any] = Rows(lambda key: decode(stored[key]) if key in stored else None)
    fold = Fold()
    fold.add(projection, rows)
    edges = [0, *sorted(cut % (len(entries) + 1) for cut in cuts), len(entries)]
    for start, end in pairwise(edges):
        fold.fold(entries[start:end])
        for key, row in rows.take_changed().items():
            if row is None:
                stored.pop(key, None)
            else:
                stored[key] = encode_row(row)
        rows.forget()
    return dict(sorted(stored.items()))


@every_projection
@given(entries=logs, cuts=st.lists(st.integers(0, 1000), max_size=6))
@settings(max_examples=30)
def test_rows_folded_in_pieces_are_those_folded_in_one_go(
    projection: Projection[Any], entries: list[bytes], cuts: list[int]
) -> None:
    check_pieces(projection, entries, cuts)


def check_pieces(projection: Projection[Any], entries: list[bytes], cuts: list[int]) -> None:
    whole = in_one_go(projection, entries)
    pieces = in_pieces(projection, entries, cuts)
    assert pieces == whole
    assert list(pieces) == list(whole) == sorted(whole)
    assert in_pieces(projection, entries, list(range(len(entries)))) == whole


@every_projection
@given(entries=logs)
@settings(max_examples=20)
def test_rows_are_canonical_and_read_as_they_were_written(projection: Projection[Any], entries: list[bytes]) -> None:
    for data in in_one_go(projection, entries).values():
        assert encode(msgspec.json.decode(data)) == data
        assert encode_row(msgspec.json.decode(data, type=projection.row)) == data


@given(entries=logs)
@settings(max_examples=20)
def test_projections_folded_together_are_those_folded_alone_and_again(entries: list[bytes]) -> None:
    fold = Fold()
    together: list[Rows[Any]] = []
    projections: tuple[Projection[Any], ...] = PROJECTIONS
    for projection in projections:
        rows: Rows[Any] = Rows()
        fold.add(projection, rows)
        together.append(rows)
    assert fold.fold(entries) == len(entries)
    for projection, rows in zip(projections, together, strict=True):
        alone = in_one_go(projection, entries)
        assert {key: encode_row(row) for key, row in rows.items()} == alone
        # From other objects, and without what the first fold may have left behind.
        assert in_one_go(projection, [bytes(bytearray(entry)) for entry in entries]) == alone


@every_projection
@given(entries=logs)
@settings(max_examples=20)
def test_every_row_that_an_event_changes_is_said_to_be_changed(
    projection: Projection[Any], entries: list[bytes]
) -> None:
    check_changes(projection, entries)


def check_changes(projection: Projection[Any], entries: list[bytes]) -> None:
    rows = Watched()
    fold = Fold()
    fold.add(projection, rows)
    before: Bytes = {}
    for entry in entries:
        rows.touched.clear()
        fold.fold([entry])
        changed = rows.take_changed()
        after = {key: encode_row(row) for key, row in rows.items()}
        assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)} <= changed.keys()
        assert changed.keys() == set(rows.touched)
        assert {key for key, row in changed.items() if row is not None} == changed.keys() & after.keys()
        stream = decode_envelope(entry).stream
        if projection.key_is_stream:
            assert changed.keys() <= {stream}
        if projection.append_only:
            assert all(key not in before for key in changed)
            assert all(key.endswith(f"@{decode_envelope(entry).position:016d}") for key in changed)
            assert None not in changed.values()
        before = after
    assert rows.take_changed() == {}


@every_projection
@given(entries=coherent_logs)
@settings(max_examples=20)
def test_row_of_a_stream_depends_on_that_stream_alone(projection: Projection[Any], entries: list[bytes]) -> None:
    """What `key_is_stream` promises to readers, who then read one stream and no other."""
    whole = in_one_go(projection, entries)
    for stream in {decode_envelope(entry).stream for entry in entries} if projection.key_is_stream else ():
        own = in_one_go(projection, [entry for entry in entries if decode_envelope(entry).stream == stream])
        assert own.keys() <= {stream}
        assert own.get(stream) == whole.get(stream)
    assert projection.key_is_stream or projection.name in {"actual", "conditions", "runs", "object_versions"}


@every_projection
@given(entries=coherent_logs, seed=st.integers(0, 2**16))
@settings(max_examples=15)
def test_what_this_release_does_not_know_changes_no_row(
    projection: Projection[Any], entries: list[bytes], seed: int
) -> None:
    """Events of other types, or of newer schemas, stand between those that are known, outside of runs."""
    chance = random.Random(seed)
    handled = sorted(payload.__name__ for payload in projection.handlers)
    log = Log()
    mixed = []
    for entry in entries:
        if chance.random() < 0.5:
            log.raw(APPS, chance.choice([*handled, "QuotaRaised"]), b'{"more":[1]}', schema=2)
            mixed.append(log.entries[-1])
        mixed.append(entry)
    assert in_one_go(projection, mixed) == in_one_go(projection, entries)


@given(entries=coherent_logs)
@settings(max_examples=20)
def test_inventory_is_what_the_log_says_was_applied_less_what_was_pruned(entries: list[bytes]) -> None:
    """The same, said in another way: by the last word on each object since the target was last removed."""
    last: dict[tuple[str, str], bool] = {}
    for entry in map(decode_envelope, entries):
        if entry.schema == 1 and entry.type in ("ObjectApplied", "ObjectPruned", "ObjectAbandoned"):
            last[entry.stream, msgspec.json.decode(entry.data)["object"]] = entry.type == "ObjectApplied"
        elif entry.type == "TargetRemoved":
            last = {key: there for key, there in last.items() if key[0] != entry.stream}
    expected = {key for key, there in last.items() if there}
    rows = {stream: msgspec.json.decode(row) for stream, row in in_one_go(INVENTORY, entries).items()}
    assert {(stream, name) for stream, row in rows.items() for name in row["objects"]} == expected


@given(entries=coherent_logs)
@settings(max_examples=20)
def test_runs_share_out_the_events_of_the_log(entries: list[bytes]) -> None:
    rows = {key: msgspec.json.decode(row, type=Run) for key, row in in_one_go(RUNS, entries).items()}
    envelopes = [decode_envelope(entry) for entry in entries]
    assert rows.keys() == {envelope.run for envelope in envelopes} - {None}
    for key, row in rows.items():
        own = [envelope for envelope in envelopes if envelope.run == key]
        assert (row.first, row.last, row.events) == (own[0].position, own[-1].position, len(own))
        assert (row.started, row.ended) == (own[0].time, own[-1].time)


@given(entries=coherent_logs)
@settings(max_examples=20)
def test_object_is_actual_if_its_newest_version_is_not_gone(entries: list[bytes]) -> None:
    versions = [msgspec.json.decode(row, type=ObjectVersion) for row in in_one_go(OBJECT_VERSIONS, entries).values()]
    newest: dict[str, ObjectVersion] = {}
    for version in sorted(versions, key=lambda version: version.position):
        newest[version.object] = version
    actual = {
        key: row
        for key, data in in_one_go(ACTUAL, entries).items()
        # A drift may be the first thing that is seen of an object.
        if (row := msgspec.json.decode(data, type=Actual)).uid
    }
    assert actual.keys() == {key for key, version in newest.items() if not version.gone}
    for key, row in actual.items():
        assert (row.uid, row.resource_version, row.state) == (
            newest[key].uid,
            newest[key].resource_version,
            newest[key].state,
        )


def test_every_event_that_a_projection_folds_changes_a_row_somewhere_in_the_log_of_everything(seed: int) -> None:
    """Else the properties, which are checked on this log too, would hold of nothing."""
    entries = everything(seed)
    for projection in PROJECTIONS:
        changing = set()
        rows = Watched()
        fold = Fold()
        fold.add(projection, rows)
        before: Bytes = {}
        for entry in entries:
            fold.fold([entry])
            rows.take_changed()
            after = {key: encode_row(row) for key, row in rows.items()}
            if before != after:
                changing.add(decode_envelope(entry).type)
            before = after
        assert {payload.__name__ for payload in projection.handlers} <= changing, projection.name


@every_projection
def test_properties_hold_of_the_log_of_everything(projection: Projection[Any], seed: int) -> None:
    entries = everything(seed)
    check_pieces(projection, entries, [random.Random(seed).randrange(len(entries)) for _ in range(20)])
    check_changes(projection, entries)


# Rows and folds.


def test_rows_are_loaded_once_and_not_after_they_were_dropped() -> None:
    asked = []

    def load(key: str) -> Inventory | None:
        asked.append(key)
        return Inventory(objects={}) if key == "there" else None

    rows = Rows(load)
    assert rows.get("there") is rows.get("there")
    assert rows.get("absent") is rows.get("absent") is None
    rows.drop("other")
    assert rows.get("other") is None
    assert asked == ["there", "absent"]
    assert rows.take_changed() == {"other": None}
    rows.forget()
    assert rows.get("there") is not None
    assert asked == ["there", "absent", "there"]


def test_changes_are_taken_once_and_hold_the_last_word() -> None:
    rows: Rows[Inventory] = Rows()
    one, two = Inventory(objects={}), Inventory(objects={})
    rows.put("a", one)
    rows.put("b", one)
    rows.put("a", two)
    rows.drop("b")
    changed = rows.take_changed()
    assert changed["a"] is two
    assert changed["b"] is None
    assert rows.take_changed() == {}
    assert dict(rows.items()) == {"a": two}


def test_rows_are_given_in_the_order_of_their_keys(seed: int) -> None:
    keys = [*OBJECTS, "", "a", "B", "\U0001f600", "\uff5a", "a@0000000000000001"]
    random.Random(seed).shuffle(keys)
    rows: Rows[Inventory] = Rows()
    for key in keys:
        rows.put(key, Inventory(objects={}))
    assert [key for key, _ in rows.items()] == sorted(keys)


def test_bytes_of_a_row_do_not_depend_on_the_order_in_which_it_was_filled(log: Log) -> None:
    other = Log()
    for name in OBJECTS:
        log.append(APPS, applied(ObjectKey.parse(name)))
    for name in reversed(OBJECTS):
        other.append(APPS, applied(ObjectKey.parse(fresh(name))))
    (one,), (two,) = folded(INVENTORY, log).values(), folded(INVENTORY, other).values()
    # All but the positions, which differ.
    assert [list(msgspec.json.decode(encode_row(row))["objects"]) for row in (one, two)] == [
        sorted(OBJECTS, key=lambda name: name.encode("utf-16-be"))
    ] * 2


def test_fold_tells_the_last_position_even_where_nothing_was_folded(log: Log) -> None:
    fold = Fold()
    rows: Rows[Desired] = Rows()
    fold.add(DESIRED, rows)
    assert fold.fold([]) == 0
    log.append("0190/engine", Marked(label="a"))
    log.raw(APPS, "QuotaRaised", b"[]")
    assert fold.fold(log.entries) == 2
    assert list(rows.items()) == []
    assert rows.take_changed() == {}


def test_malformed_event_stops_the_fold_and_is_named(log: Log) -> None:
    log.raw(APPS, "Suspended", b'{"why":1}')
    with pytest.raises(MalformedEventError, match="Suspended"):
        folded(DESIRED, log)
    with pytest.raises(msgspec.DecodeError):
        Fold().fold([b"{}"])


def test_names_of_projections_and_columns_can_be_those_of_tables() -> None:
    names = [projection.name for projection in PROJECTIONS]
    assert len(set(names)) == len(names)
    for name in [*names, *(column for projection in PROJECTIONS for column in projection.columns)]:
        assert name.isidentifier()
        assert name == name.lower()
    assert all(projection.version >= 1 for projection in PROJECTIONS)
