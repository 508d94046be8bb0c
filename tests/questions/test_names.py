"""What is meant by KIND/NAME."""

import pytest

from tests.questions.conftest import Ask
from tests.questions.scenes import APPS, DB, SHOP, WEB, Scene, deployment, shop, target
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import NotThereError, UnclearNameError, find, is_kind, parse, plural
from tidelog.events.names import ObjectKey, PlanId
from tidelog.events.vocabulary import ObjectObserved, ObjectPruned, TargetRemoved


@pytest.mark.parametrize(
    ("typed", "stream"),
    [
        (("ks/apps",), APPS),
        (("kustomization/apps",), APPS),
        (("Kustomizations", "apps"), APPS),
        (("kustomization.kustomize.toolkit.fluxcd.io/apps",), APPS),
        (("git/shop",), SHOP),
        (("gitrepository", "shop"), SHOP),
        (("deployment/web",), WEB.stream("prod")),
        (("deploy", "web"), WEB.stream("prod")),
        (("deployments.apps/web",), WEB.stream("prod")),
        ((DB.stream("prod"),), DB.stream("prod")),
    ],
)
def test_kinds_go_by_the_names_that_kubectl_and_flux_know(
    archive: Archive, typed: tuple[str, ...], stream: str
) -> None:
    assert find(archive, typed, None).stream == stream


def test_plurals_are_those_of_kubernetes() -> None:
    kinds = ("ingress", "networkpolicy", "gateway", "deployment", "batch")
    assert [plural(kind) for kind in kinds] == [
        "ingresses",
        "networkpolicies",
        "gateways",
        "deployments",
        "batches",
    ]
    assert not is_kind("deployments.extensions", "apps", "Deployment")


def test_what_is_not_there_is_an_answer_and_what_means_nothing_is_not(archive: Archive) -> None:
    with pytest.raises(NotThereError, match="the log knows no deployment/nope at position"):
        find(archive, ("deployment/nope",), None)
    with pytest.raises(UnclearNameError, match="names nothing: give KIND/NAME"):
        find(archive, ("apps",), None)
    for several in (("ks", "apps", "infra"), ("ks/apps", "ks/infra"), ("source", "git", "a", "b")):
        with pytest.raises(UnclearNameError, match="names more than one thing: give one KIND/NAME at a time"):
            find(archive, several, None)


def test_a_name_that_is_nearly_that_of_a_target_is_answered_with_that(archive: Archive) -> None:
    with pytest.raises(NotThereError, match=r"the log knows no ks/app at position \d+; it knows ks/apps$"):
        find(archive, ["ks/app"], None)


def test_source_may_stand_before_a_source_as_flux_has_it(archive: Archive) -> None:
    for words in (("source", "git", "shop"), ("sources", "gitrepository/shop"), ("git", "shop")):
        assert find(archive, words, None).stream == SHOP
    for flux, kind in (("helm", "helmrepository"), ("chart", "helmchart"), ("external", "externalartifact")):
        assert parse(("source", flux, "web")) == parse(("source", f"{flux}/web")) == (kind, "web")


def test_another_namespace_is_named_where_the_wanted_one_does_not_have_it(archive: Archive) -> None:
    with pytest.raises(NotThereError, match="no deployment/web in namespace default; there is one in: shop"):
        find(archive, ("deployment/web",), "default")


def test_one_kind_name_in_two_groups_or_namespaces_has_to_be_said_more_exactly(ask: Ask) -> None:
    scene = shop()
    other = ObjectKey("serving.knative.dev", "Deployment", "shop", "web")
    for key in (other, deployment("web", "staging")):
        scene.tell(key.stream("prod"), ObjectObserved(uid="1", resource_version="1", health="Current"))
    archive = ask(scene)
    with pytest.raises(UnclearNameError, match=r"may be any of 3: give --namespace, or the whole name: .*staging/web"):
        find(archive, ("deployment/web",), None)
    assert find(archive, ("deployment/web",), "staging").namespace == "staging"
    assert find(archive, ("deployment.apps/web",), "shop").group == "apps"
    assert find(archive, (other.stream("prod"),), None).stream == other.stream("prod")


def test_a_target_is_looked_for_in_the_default_namespace_first(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = shop()
    scene.declare(target("apps", "team"))
    scene.declare(target("tools", "team"))
    archive = ask(scene)
    assert find(archive, ("ks/apps",), None).namespace == "flux-system"
    assert find(archive, ("ks/tools",), None).namespace == "team"
    monkeypatch.setenv("FLUX_SYSTEM_NAMESPACE", "team")
    assert find(archive, ("ks/apps",), None).namespace == "team"


def test_what_was_removed_or_pruned_is_still_known(ask: Ask) -> None:
    scene = Scene()
    old, gone = target("old"), deployment("gone")
    scene.declare(old)
    pruned = ObjectPruned(plan=PlanId("plan-1"), object=gone.id, uid="1", outcome="deleted")
    scene.tell(old, pruned, TargetRemoved(uid="1"))
    scene.wait(1)
    archive = ask(scene)
    assert find(archive, ("deployment/gone",), None).stream == gone.stream("prod")
    assert find(archive, ("ks/old",), None).stream == old


def test_a_name_without_its_hash_is_answered_with_the_names_that_begin_so(ask: Ask) -> None:
    scene = shop()
    settings = [ObjectKey("", "ConfigMap", "shop", f"settings-{hash_}") for hash_ in ("7b9c4f6d8g", "2k8f9h5m7t")]
    for key in (*settings, ObjectKey("", "Secret", "shop", "settings-tls"), ObjectKey("", "ConfigMap", "shop", "sett")):
        scene.tell(key.stream("prod"), ObjectObserved(uid="1", resource_version="1", health="Current"))
    hint = r"position \d+; it knows cm/settings-2k8f9h5m7t, cm/settings-7b9c4f6d8g$"
    with pytest.raises(NotThereError, match=hint):
        find(ask(scene), ("cm/settings",), None)
