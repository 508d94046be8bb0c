"""What is told of HelmReleases: their events in sentences, how they stand, what was done, and what holds them."""

import msgspec
import pytest

from tests.questions.conftest import Ask
from tests.questions.released import (
    CHART,
    CHART_KEY,
    MIGRATE,
    RELEASE,
    WEB,
    Released,
    began,
    hook_began,
    hook_over,
    installed,
    over,
    snapshot,
    stalled,
    upgraded,
)
from tests.questions.scenes import SHOP, Scene, revision, secret_body, target
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.chronicle import last_events, scope_for
from tidelog.engine.views.commits import commit_of, named_source, source_of, sources_of
from tidelog.engine.views.explanations import Explanation, explain
from tidelog.engine.views.histories import RunTold, runs_of
from tidelog.engine.views.listing import IN_PROGRESS, Listed, listed
from tidelog.engine.views.names import HELM_RELEASE, find, subject_of
from tidelog.engine.views.sentences import sentence_of
from tidelog.engine.views.traces import trace_of
from tidelog.engine.views.trees import tree_of
from tidelog.events.bodies import Body
from tidelog.events.canonical import Json, encode
from tidelog.events.digest import digest_of
from tidelog.events.names import EventId, ObjectKey, Revision, RunId
from tidelog.events.vocabulary import (
    Event,
    HealthChanged,
    HelmChartSynced,
    HookEnded,
    HookStarted,
    ObjectObserved,
    ReconcileRequested,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseAdopted,
    ReleaseDriftChanged,
    ReleaseHistoryCleared,
    Rendered,
    Resumed,
    RevisionFetched,
    RunEnded,
    StageFailed,
    Suspended,
    TargetDeclared,
    TargetRemoved,
)
from tidelog.events.vocabulary.base import BY_NAME
from tidelog.storage.log.ids import new_id

FAILED = "Helm upgrade failed for release apps/web with chart web@1.0.2: context deadline exceeded"


def _explain(archive: Archive, *words: str) -> Explanation:
    return explain(archive, find(archive, words, None))


def _listed(archive: Archive) -> Listed:
    (row,) = listed(archive, (HELM_RELEASE,), None)
    return row


def _runs(archive: Archive) -> list[RunTold]:
    return list(runs_of(archive, subject_of(RELEASE)))


def _begun(scene: Released, *events: Event) -> Released:
    scene.wait(60)
    scene.tell(RELEASE, *events, run=RunId(new_id()))
    return scene


# Sentences.


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        (
            HelmChartSynced(object=CHART_KEY.id, outcome="created"),
            "Made HelmChart/flux-system/apps-web for its chart",
        ),
        (
            HelmChartSynced(object=CHART_KEY.id, outcome="deleted"),
            "Deleted HelmChart/flux-system/apps-web, which it needs no more",
        ),
        (began("install", 1), "The install of web.v1 with chart web@1.0.1 began"),
        (
            msgspec.structs.replace(began("upgrade", 2), reset_token="t"),
            "The upgrade to web.v2 with chart web@1.0.2 began; somebody asked that failures of before count no more",
        ),
        (
            msgspec.structs.replace(began("rollback", 3, "1.0.1", remediates=True), target=1),
            "The rollback of web to web.v1, as web.v3 with chart web@1.0.1, began, to put right what failed",
        ),
        (began("unlock", 2), "The unlock of web.v2 began"),
        (began("test", 2), "The test of web.v2 began"),
        (began("uninstall", 2), "The uninstall of web.v2 began"),
        (over("install", 1), "The install of web.v1 with chart web@1.0.1 succeeded"),
        (over("upgrade", 2, message=FAILED), f"The upgrade to web.v2 with chart web@1.0.2 failed: {FAILED}"),
        (over("rollback", 3, chart="1.0.1"), "The rollback of web, as web.v3 with chart web@1.0.1, succeeded"),
        (over("uninstall-remediation", 1), "The uninstall of the failed web.v1 succeeded"),
        (
            hook_began("upgrade", 2),
            "The pre-upgrade hook Job/apps/migrate of web/templates/job.yaml began",
        ),
        (hook_over("upgrade", 2), "The pre-upgrade hook Job/apps/migrate succeeded"),
        (hook_over("upgrade", 2, "job failed"), "The pre-upgrade hook Job/apps/migrate failed: job failed"),
        (
            ReleaseAdopted(history=(snapshot(3), snapshot(2, "superseded")), failures=1),
            "Took over web.v3 with chart web@1.0.3 (deployed), which another engine looked after, after a failure",
        ),
        (ReleaseAdopted(), "Was looked after by another engine, which had made no release"),
        (
            ReleaseHistoryCleared(why="release apps/web.v4 was not made here", failures_too=True),
            "What was known of its versions and failures holds no more: release apps/web.v4 was not made here",
        ),
        (
            ReleaseDriftChanged(drifted=True, message="Deployment/apps/web changed", corrected=True),
            "Its objects are not as its release has them, and are put right: Deployment/apps/web changed",
        ),
        (ReleaseDriftChanged(drifted=False, message=""), "Its objects are as its release has them"),
        (
            ReconcileRequested(why="try", force=True, reset=True),
            "A reconciliation was asked for with force and failures of before forgotten: try",
        ),
    ],
)
def test_an_event_of_a_release_is_told_in_a_sentence(event: Event, sentence: str) -> None:
    assert sentence_of(event) == sentence


def test_no_event_of_releases_is_without_a_sentence() -> None:
    told = {HelmChartSynced, ReleaseAdopted, ReleaseHistoryCleared, ReleaseDriftChanged}
    told |= {ReleaseActionStarted, ReleaseActionEnded, HookStarted, HookEnded}
    payloads = (one.payload for one in BY_NAME.values())
    of_releases = {one for one in payloads if one.__module__.endswith("vocabulary.release")}
    assert of_releases == told


# Sources, and the commit behind a chart.


def test_a_release_is_made_of_its_chart_and_what_that_is_made_of(ask: Ask) -> None:
    archive = ask(installed())
    assert source_of(archive, RELEASE) == CHART
    assert sources_of(archive, RELEASE) == (CHART, SHOP)
    assert sources_of(archive, SHOP) == ()
    scope = scope_for(archive, subject_of(RELEASE))
    streams = {recorded.envelope.stream for recorded in last_events(archive, scope, 0, 0)}
    assert streams == {RELEASE, CHART, SHOP}


def test_a_release_may_name_the_source_of_its_chart_itself() -> None:
    key = ObjectKey.of_stream(RELEASE)
    oci = named_source(key, {"chartRef": {"kind": "OCIRepository", "name": "web"}})
    assert oci == ObjectKey("source.toolkit.fluxcd.io", "OCIRepository", "apps", "web")
    there = named_source(key, {"chartRef": {"kind": "HelmChart", "name": "web", "namespace": "charts"}})
    assert there == ObjectKey("source.toolkit.fluxcd.io", "HelmChart", "charts", "web")
    assert named_source(key, {}) is None
    assert (
        named_source(ObjectKey("apps", "Deployment", "apps", "web"), {"sourceRef": {"kind": "x", "name": "y"}}) is None
    )


def test_where_its_spec_cannot_be_read_the_chart_that_was_made_is_its_source(ask: Ask) -> None:
    scene = installed()
    sealed = secret_body(b"{}")
    scene.tell(RELEASE, TargetDeclared(uid="apps/web", generation=2, spec=sealed.ref), bodies=[sealed])
    assert source_of(ask(scene), RELEASE) == CHART


def test_the_version_of_a_chart_leads_to_the_commit_that_it_was_made_of(ask: Ask) -> None:
    archive = ask(upgraded())
    commit = commit_of(archive, Revision("1.0.2"), source=CHART)
    assert commit is not None
    assert (commit.subject, commit.source) == ("New checkout", SHOP)
    other = ObjectKey("source.toolkit.fluxcd.io", "HelmChart", "other", "other-web").stream("prod")
    assert commit_of(archive, Revision("1.0.2"), source=other) is None, "the same version of another chart"


def test_a_version_with_a_digest_leads_to_the_artifact_of_that_digest(ask: Ask) -> None:
    scene = Scene()
    registry = ObjectKey("source.toolkit.fluxcd.io", "OCIRepository", "apps", "web").stream("prod")
    scene.declare(registry, url="oci://registry.example.com/web")
    for word in ("one", "two"):
        digest = digest_of(word.encode())[7:]
        named = Revision(f"1.0.2@sha256:{digest}")
        scene.tell(registry, RevisionFetched(revision=named, tree=digest[:40], artifact=digest_of(b"tar"), size=1))
    archive = ask(scene)
    digest = digest_of(b"one")[7:]
    commit = commit_of(archive, Revision(f"1.0.2+{digest[:12]}"), source=registry)
    assert commit is not None
    assert commit.revision == f"1.0.2@sha256:{digest}"


# How it stands.


def test_it_is_listed_with_the_version_of_its_chart(ask: Ask) -> None:
    row = _listed(ask(upgraded()))
    said = "Helm upgrade succeeded for release apps/web.v2 with chart web@1.0.2"
    assert (row.revision, row.ready, row.message) == ("1.0.2", "True", said)
    back = _listed(ask(stalled()))
    assert (back.revision, back.ready, back.message) == ("1.0.1", "False", "Failed to upgrade after 1 attempt(s)")


def test_while_something_goes_on_with_it_that_is_said(ask: Ask) -> None:
    row = _listed(ask(_begun(installed(), began("upgrade", 2))))
    assert (row.ready, row.message) == ("Unknown", IN_PROGRESS)


def test_its_tree_has_what_it_applied(ask: Ask) -> None:
    root = tree_of(ask(installed()), RELEASE)
    assert [(node.kind, node.name) for node in root.resources] == [("Deployment", "web")]


# What was done.


def test_its_history_has_the_actions_of_each_run_and_the_commit_behind(ask: Ask) -> None:
    newest, first, waited = _runs(ask(upgraded()))
    (action,) = newest.actions
    assert (action.action, action.release, action.chart, action.outcome) == (
        "upgrade",
        "web.v2",
        "web@1.0.2",
        "succeeded",
    )
    assert newest.revision == "1.0.2"
    assert [run.commit.subject if run.commit else "" for run in (newest, first)] == ["New checkout", "Open the shop"]
    assert (waited.actions, waited.outcome) == ((), "waiting")


def test_the_run_that_ends_a_release_is_over_with_it(ask: Ask) -> None:
    uninstall = began("uninstall", 1), over("uninstall", 1)
    scene = installed()
    scene.tell(RELEASE, *uninstall, run=RunId(new_id()))
    assert _runs(ask(scene))[0].outcome == "running"
    scene = installed()
    scene.tell(RELEASE, *uninstall, TargetRemoved(uid="1"), run=RunId(new_id()))
    last = _runs(ask(scene))[0]
    assert (last.outcome, last.why) == ("succeeded", "Was removed")
    (action,) = last.actions
    assert (action.action, action.release, action.outcome) == ("uninstall", "web.v1", "succeeded")


def test_an_upgrade_that_was_rolled_back_is_one_run_with_two_actions(ask: Ask) -> None:
    newest = _runs(ask(stalled()))[0]
    assert [(one.action, one.release, one.outcome, one.remediates) for one in newest.actions] == [
        ("upgrade", "web.v2", "failed", False),
        ("rollback", "web.v3", "succeeded", True),
    ]
    assert (newest.outcome, newest.reason) == ("failed", "RetriesExceeded")
    assert newest.revision == "1.0.2", "what it tried"


def test_a_run_is_not_over_before_its_action_is(ask: Ask) -> None:
    scene = installed()
    scene.release("upgrade", 2, ends=False)
    running = _runs(ask(scene))[0]
    assert (running.outcome, running.actions[0].outcome) == ("running", "running"), "all was applied, and no more"
    scene = installed()
    scene.release("upgrade", 2, failed=FAILED)
    failed = _runs(ask(scene))[0]
    assert (failed.outcome, failed.reason, failed.message) == ("failed", "UpgradeFailed", FAILED)


def test_an_object_leads_to_the_release_and_the_commit_that_it_came_with(ask: Ask) -> None:
    found = trace_of(ask(upgraded()), subject_of(WEB.stream("prod")))
    assert found.target == RELEASE
    assert found.release is not None
    assert (found.release.action, found.release.release, found.release.chart) == ("upgrade", "web.v2", "web@1.0.2")
    assert found.commit is not None
    assert (found.commit.subject, found.commit.revision) == ("New checkout", revision("two"))


def test_an_object_leads_to_what_its_chart_looked_up(ask: Ask) -> None:
    found = trace_of(ask(upgraded()), subject_of(WEB.stream("prod")))
    assert found.render is not None
    told = [(one.path, one.version) for one in found.render.looked_up]
    assert told == [("core/ConfigMap/shop/gone", None), ("core/Secret/shop/kept", "2")]


def test_an_object_leads_by_its_chart_to_the_repository_with_its_address(ask: Ask) -> None:
    found = trace_of(ask(upgraded()), subject_of(WEB.stream("prod")))
    chart, repository = found.sources
    assert (chart.source, chart.revision, chart.url) == (CHART, "1.0.2", "")
    assert (repository.source, repository.url) == (SHOP, "https://git.example.com/shop")
    assert repository.revision == revision("two")
    assert 0 < repository.position < chart.position


def test_a_chart_of_an_index_leads_to_the_repository_of_the_index(ask: Ask) -> None:
    scene = installed()
    charts = ObjectKey("source.toolkit.fluxcd.io", "HelmRepository", "flux-system", "charts").stream("prod")
    scene.declare(charts, url="https://charts.example.com")
    scene.declare(CHART, chart="web", sourceRef={"kind": "HelmRepository", "name": "charts"})
    index = Revision(str(digest_of(b"index")))
    listed = RevisionFetched(revision=index, tree=digest_of(b"")[7:47], artifact=digest_of(b"index"), size=1)
    scene.tell(charts, listed, run=RunId(new_id()))
    scene.chart("1.0.2", "two", source=index)
    scene.release("upgrade", 2)
    archive = ask(scene)
    for what in (WEB.stream("prod"), CHART):
        last = trace_of(archive, subject_of(what)).sources[-1]
        assert (last.source, last.url, last.revision) == (charts, "https://charts.example.com", index)


def test_a_chart_of_a_registry_leads_to_its_address_though_that_has_no_revision(ask: Ask) -> None:
    scene = installed()
    registry = ObjectKey("source.toolkit.fluxcd.io", "HelmRepository", "flux-system", "charts").stream("prod")
    scene.declare(registry, type="oci", url="oci://registry.example.com/charts")
    scene.declare(CHART, chart="web", sourceRef={"kind": "HelmRepository", "name": "charts"})
    scene.chart("1.0.2", "two", source=Revision(""))
    scene.release("upgrade", 2)
    last = trace_of(ask(scene), subject_of(WEB.stream("prod"))).sources[-1]
    assert (last.source, last.url, last.revision) == (registry, "oci://registry.example.com/charts", "")


def test_the_chart_that_a_release_made_leads_to_the_release_and_what_put_that_there(ask: Ask) -> None:
    scene = installed()
    owner = target("apps")
    scene.declare(owner, sourceRef={"kind": "GitRepository", "name": "shop"}, path="./apps")
    scene.deploy(owner, "one", "plan-apps", {ObjectKey.of_stream(RELEASE): {"kind": "HelmRelease"}})
    found = trace_of(ask(scene), subject_of(CHART))
    assert (found.target, found.apply) == (None, None)
    assert found.maker is not None
    assert found.maker.target == RELEASE
    assert found.maker.way.target == owner
    assert found.maker.way.commit is not None
    assert found.maker.way.commit.subject == "Open the shop"
    assert [one.source for one in found.sources] == [SHOP]


def test_a_chart_that_somebody_else_made_has_no_maker(ask: Ask) -> None:
    scene = installed()
    other = ObjectKey("source.toolkit.fluxcd.io", "HelmChart", "flux-system", "web").stream("prod")
    scene.declare(other, chart="charts/web", sourceRef={"kind": "GitRepository", "name": "shop"})
    assert trace_of(ask(scene), subject_of(other)).maker is None


# What holds it.


def test_what_is_ready_says_with_which_version(ask: Ask) -> None:
    found = _explain(ask(upgraded()), "hr/web")
    assert found.ready
    assert found.sentence == "HelmRelease/apps/web is ready at web.v2 with chart web@1.0.2"
    assert found.commit is not None
    assert found.commit.subject == "New checkout"


def test_what_was_given_up_says_why_and_how_to_go_on(ask: Ask) -> None:
    root = _explain(ask(stalled()), "hr/web").root
    assert root is not None
    assert root.sentence == (
        "the upgrade to web.v2 with chart web@1.0.2 failed, and was rolled back, as web.v3; it was given up after 1 "
        "attempt, until its chart, its values or its spec change, or somebody asks for it"
    )
    assert root.command == "tidelog reconcile helmrelease/web -n apps --reset"
    assert root.reason == "UpgradeFailed"
    (detail,) = root.details
    assert detail.object == MIGRATE.stream("prod")
    assert detail.message == "the pre-upgrade hook failed: job migrate failed: BackoffLimitExceeded"


def test_what_waits_for_a_hook_names_it(ask: Ask) -> None:
    scene = _begun(installed(), began("upgrade", 2), hook_began("upgrade", 2))
    root = _explain(ask(scene), "hr/web").root
    assert root is not None
    assert root.why == "running"
    waits = "the upgrade to web.v2 with chart web@1.0.2 waits for its pre-upgrade hook Job/apps/migrate"
    assert root.sentence == waits
    scene = _begun(scene, hook_over("upgrade", 2))
    found = _explain(
        ask(_begun(installed(), began("upgrade", 2), hook_began("upgrade", 2), hook_over("upgrade", 2))), "hr/web"
    )
    assert [cause.sentence for cause in found.chain] == ["the upgrade to web.v2 with chart web@1.0.2 goes on"]


def test_what_waits_for_its_objects_leads_to_the_one_that_is_not_well(ask: Ask) -> None:
    scene = installed()
    scene.release("upgrade", 2, health="InProgress", ends=False)
    found = _explain(ask(scene), "hr/web")
    assert [(cause.why, cause.name) for cause in found.chain] == [("health", "web"), ("health", "web")]
    assert found.chain[0].sentence.endswith("waits for what it applied to be healthy")
    assert found.root is not None
    assert found.root.stream == WEB.stream("prod")


def test_what_failed_by_its_objects_is_tried_again_and_leads_to_them(ask: Ask) -> None:
    scene = installed()
    scene.release("upgrade", 2, health="Failed", failed=FAILED)
    found = _explain(ask(scene), "hr/web")
    first, root = found.chain
    assert first.sentence == "the upgrade to web.v2 with chart web@1.0.2 failed; it is tried again"
    assert (first.reason, first.message) == ("UpgradeFailed", FAILED)
    assert root.stream == WEB.stream("prod")


def test_a_later_failure_of_another_kind_is_told_for_itself(ask: Ask) -> None:
    scene = installed()
    scene.release("upgrade", 2, failed=FAILED)
    failure = StageFailed(stage="render", reason="ValuesError", final=False, message="no Secret apps/db", generation=1)
    root = _explain(ask(_begun(scene, failure)), "hr/web").root
    assert root is not None
    assert (root.reason, root.message) == ("ValuesError", "no Secret apps/db")


def test_a_failure_that_was_mended_is_told_no_more(ask: Ask) -> None:
    scene = installed()
    scene.release("upgrade", 2, failed=FAILED)
    scene.release("upgrade", 3)
    assert _explain(ask(scene), "hr/web").ready


def test_it_waits_for_its_chart_and_that_for_its_repository(ask: Ask) -> None:
    scene = Released()
    scene.wait(60)
    lost = StageFailed(stage="fetch", reason="GitOperationFailed", final=False, message="no route to host")
    scene.tell(SHOP, lost, run=RunId(new_id()))
    waits = StageFailed(stage="fetch", reason="SourceNotReady", final=False, message="no artifact", waits_for=SHOP)
    scene.tell(CHART, waits, run=RunId(new_id()))
    found = _explain(ask(scene), "hr/web")
    assert [(cause.kind, cause.why) for cause in found.chain] == [
        ("HelmRelease", "artifact"),
        ("HelmChart", "artifact"),
        ("GitRepository", "failed"),
    ]


def test_what_is_ready_notes_that_the_repository_of_its_chart_is_suspended(ask: Ask) -> None:
    scene = installed()
    scene.tell(SHOP, Suspended(why="incident 7"))
    found = _explain(ask(scene), "hr/web")
    assert found.ready
    (note,) = found.notes
    assert note.stream == SHOP
    assert note.sentence.startswith("no newer revision comes from GitRepository/flux-system/shop")


def test_health_of_its_objects_is_told_as_of_every_target(ask: Ask) -> None:
    scene = installed()
    scene.release("upgrade", 2, health="InProgress", ends=False)
    waiting = HealthChanged(health="InProgress", checked=True, message="1 of 1 not ready")
    found = _explain(ask(_begun(scene, waiting)), "hr/web")
    assert not found.ready


def test_a_new_spec_leads_to_the_target_that_wrote_it_and_its_commit(ask: Ask) -> None:
    scene = installed()
    owner = target("apps")
    scene.declare(owner, sourceRef={"kind": "GitRepository", "name": "shop"}, path="./apps")
    scene.fetch(SHOP, "two", "Blue")
    scene.deploy(owner, "two", "plan-apps", {ObjectKey.of_stream(RELEASE): {"kind": "HelmRelease"}})
    spec = Body.of(b"{}")
    cause = scene.tell(RELEASE, TargetDeclared(uid="apps/web", generation=2, spec=spec.ref), bodies=[spec])
    scene.tell(RELEASE, began("upgrade", 2), over("upgrade", 2), run=RunId(new_id()), cause=cause)
    why = _runs(ask(scene))[0].why
    assert why == f"Kustomization/flux-system/apps configured it, by revision {revision('two')}: “Blue” by Ada"


def test_a_spec_that_was_seen_before_its_write_was_recorded_is_of_that_write(ask: Ask) -> None:
    """The watch is often quicker than the answer to the write."""
    scene, cause = _blue()
    scene.tell(RELEASE, began("upgrade", 2), over("upgrade", 2), run=RunId(new_id()), cause=cause)
    why = _runs(ask(scene))[0].why
    assert why == f"Kustomization/flux-system/apps configured it, by revision {revision('two')}: “Blue” by Ada"


def test_a_spec_that_somebody_else_wrote_is_of_no_target(ask: Ask) -> None:
    scene, _ = _blue()
    spec = Body.of(encode({"values": {"colour": "green"}}))
    by_hand = scene.tell(RELEASE, TargetDeclared(uid="apps/web", generation=3, spec=spec.ref), bodies=[spec])
    scene.tell(RELEASE, began("upgrade", 2), over("upgrade", 2), run=RunId(new_id()), cause=by_hand)
    assert _runs(ask(scene))[0].why == "Was declared, generation 3"


def _blue() -> tuple[Released, EventId]:
    """A Kustomization writes the spec of the release, anew with “Blue”; each is seen before that is recorded."""
    scene, owner = installed(), target("apps")
    scene.declare(owner, sourceRef={"kind": "GitRepository", "name": "shop"}, path="./apps")
    scene.fetch(SHOP, "two", "Blue")
    declared: list[EventId] = []
    for generation, (word, colour) in enumerate((("one", "red"), ("two", "blue")), start=1):
        spec: Json = {"values": {"colour": colour}}
        body = Body.of(encode(spec))
        seen = TargetDeclared(uid="apps/web", generation=generation, spec=body.ref)
        declared.append(scene.tell(RELEASE, seen, bodies=[body]))
        scene.deploy(owner, word, f"plan-{word}", {ObjectKey.of_stream(RELEASE): {"kind": "HelmRelease", "spec": spec}})
    return scene, declared[-1]


def test_a_resumption_is_told_where_the_object_was_seen_before_its_spec(ask: Ask) -> None:
    scene, spec = installed(), Body.of(b"{}")
    state = Body.of(encode({"kind": "HelmRelease"}))
    seen = ObjectObserved(uid="apps/web", resource_version="9", state=state.ref, health="Current")
    scene.tell(RELEASE, Suspended(why="incident 7"))
    scene.tell(RELEASE, Resumed(why="it is over"), seen, bodies=[state])
    cause = scene.tell(RELEASE, TargetDeclared(uid="apps/web", generation=3, spec=spec.ref), bodies=[spec])
    scene.tell(RELEASE, RunEnded(outcome="unchanged", generation=3), run=RunId(new_id()), cause=cause)
    assert _runs(ask(scene))[0].why == "Was resumed: it is over"


def test_a_run_that_rolled_back_worked_by_what_it_had_tried(ask: Ask) -> None:
    scene = installed()
    run = scene.release("upgrade", 2, failed=FAILED)
    back = Body.of(encode([]))
    rendered = Rendered(
        revision=Revision("1.0.1"),
        inputs=digest_of(b"1.0.1"),
        read_set=back.ref,
        toolchain=(),
        set=back.ref.digest,
        objects=back.ref,
        count=0,
    )
    rollback = (began("rollback", 3, "1.0.1", remediates=True), over("rollback", 3, chart="1.0.1", remediates=True))
    scene.tell(RELEASE, rendered, *rollback, run=run, bodies=[back])
    scene.give_up(run, 1, "upgrade")
    assert _runs(ask(scene))[0].revision == "1.0.2"
