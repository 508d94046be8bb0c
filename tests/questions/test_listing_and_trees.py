"""How sources and targets stand, and what they own."""

import msgspec
import pytest

from tests.questions.conftest import Ask
from tests.questions.scenes import APPS, GRACE, INFRA, ROOT, SHOP, WEB, Scene, revision, shop, time
from tidelog.engine.terminal import shortened
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.listing import Listed, listed
from tidelog.engine.views.names import GIT_REPOSITORY, KUSTOMIZATION
from tidelog.engine.views.trees import Node, tree_of
from tidelog.events.digest import digest_of
from tidelog.events.names import RunId
from tidelog.events.vocabulary import (
    DriftDetected,
    FieldDrift,
    HealthChanged,
    Pinned,
    SourceRemoved,
    StageFailed,
    Suspended,
)
from tidelog.storage.log.ids import new_id

BOTH = (GIT_REPOSITORY, KUSTOMIZATION)


def _by_name(archive: Archive) -> dict[str, Listed]:
    return {f"{row.kind}/{row.name}": row for row in listed(archive, BOTH, None)}


def test_what_is_ready_says_so_in_the_words_of_flux(archive: Archive) -> None:
    rows = _by_name(archive)
    assert list(rows) == [
        "GitRepository/shop",
        "Kustomization/apps",
        "Kustomization/flux-system",
        "Kustomization/infra",
    ]
    apps, source = rows["Kustomization/apps"], rows["GitRepository/shop"]
    assert (apps.ready, apps.message) == ("True", f"Applied revision: {revision('two')}")
    assert (apps.reason, source.reason) == ("ReconciliationSucceeded", "Succeeded"), "as the conditions in the cluster"
    assert (source.ready, source.message) == ("True", f"stored artifact for revision '{revision('two')}'")
    assert rows["Kustomization/infra"].revision == revision("one")


def test_what_was_only_declared_waits_and_what_runs_is_in_progress(ask: Ask) -> None:
    scene = Scene()
    scene.declare(APPS)
    scene.declare(INFRA)
    made, bodies = scene.rendered("one", {})
    scene.tell(INFRA, made, run=RunId(new_id()), bodies=bodies)
    rows = _by_name(ask(scene))
    apps, infra = rows["Kustomization/apps"], rows["Kustomization/infra"]
    assert (apps.ready, apps.message) == ("False", "waiting to be reconciled")
    assert (infra.ready, infra.message) == ("Unknown", "Reconciliation in progress")


def test_a_failure_is_told_as_the_condition_has_it(ask: Ask) -> None:
    scene = shop()
    scene.wait(10)
    failure = StageFailed(stage="render", reason="BuildFailed", final=True, message="web.yaml:3: no kind")
    scene.tell(APPS, failure, run=RunId(new_id()))
    row = _by_name(ask(scene))["Kustomization/apps"]
    assert (row.ready, row.reason, row.message) == ("False", "BuildFailed", "web.yaml:3: no kind")
    assert row.revision == revision("two"), "what was applied stays"
    assert row.position == scene.position


def test_a_suspension_says_who_why_and_until_when_and_a_pin_too(ask: Ask) -> None:
    scene = shop()
    scene.tell(APPS, Suspended(why="incident 7", until=time(9_999)), actor=GRACE)
    pinned = Pinned(set=digest_of(b""), position=9, left=revision("two"), why="bad checkout")
    scene.tell(INFRA, pinned, actor=GRACE)
    rows = _by_name(ask(scene))
    suspension, pin = rows["Kustomization/apps"].suspension, rows["Kustomization/infra"].pin
    assert rows["Kustomization/apps"].suspended
    assert suspension is not None
    assert (suspension.by, suspension.why, suspension.until) == (
        "user grace (authenticated by kubernetes)",
        "incident 7",
        time(9_999),
    )
    assert pin is not None
    assert (pin.position, pin.why) == (9, "bad checkout")
    assert not rows["GitRepository/shop"].suspended


def test_a_namespace_keeps_the_others_out(archive: Archive) -> None:
    assert list(listed(archive, BOTH, "elsewhere")) == []
    assert len(list(listed(archive, BOTH, "flux-system"))) == 4


@pytest.mark.parametrize("with_views", [True, False])
def test_the_past_is_told_as_it_was_with_and_without_the_projections_file(ask: Ask, *, with_views: bool) -> None:
    scene = shop()
    before = ask(scene, "7", with_views=with_views)
    rows = _by_name(before)
    assert rows["GitRepository/shop"].revision == revision("one")
    assert rows["Kustomization/apps"].message == "waiting to be reconciled"


def test_commits_are_cut_to_eight_digits() -> None:
    assert shortened(f"Applied revision: {revision('one')}") == f"Applied revision: {revision('one')[:18]}"
    assert shortened("latest@sha256:" + "ab" * 32) == "latest@sha256:abababab"


def _names(node: Node) -> list[str]:
    return [f"{node.kind}/{node.name}", *(name for child in node.resources for name in _names(child))]


def test_the_tree_has_nested_targets_and_does_not_go_round_in_circles(archive: Archive) -> None:
    root = tree_of(archive, ROOT)
    assert _names(root) == [
        "Kustomization/flux-system",
        "Kustomization/apps",
        "Deployment/web",
        "Kustomization/flux-system",
        "Kustomization/infra",
        "Deployment/db",
    ]
    again = next(child for child in root.resources if child.name == "flux-system")
    assert again.cycle
    assert not root.cycle
    assert _names(tree_of(archive, ROOT, compact=True)) == [name for name in _names(root) if "Deployment" not in name]


def test_the_tree_tells_health_and_what_was_changed(ask: Ask) -> None:
    scene = shop()
    web = WEB.stream("prod")
    scene.tell(web, HealthChanged(health="Failed", reason="Stalled", message="no"))
    fields = (FieldDrift(path="spec.replicas", manager="kubectl-edit"),)
    scene.tell(web, DriftDetected(target=APPS, uid="uid-web", resource_version="9", fields=fields))
    (node,) = tree_of(ask(scene), APPS).resources
    assert (node.health, node.drift) == ("Failed", fields)
    assert msgspec.json.decode(msgspec.json.encode(node), type=Node) == node


def test_what_was_removed_is_not_listed(ask: Ask) -> None:
    scene = shop()
    scene.tell(SHOP, SourceRemoved(uid="1"))
    archive = ask(scene)
    assert "GitRepository/shop" not in _by_name(archive)
    assert "GitRepository/shop" in _by_name(ask(scene, str(scene.position - 1)))
