"""The objects that a release wants, made of a rendered chart."""

import msgspec
import pytest

from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.sampling import Secrecy
from tidelog.engine.helm.sorting import sorted_manifests
from tidelog.engine.helm.spec import Crd, RenderedChart
from tidelog.engine.helm.target import DEFINITION, WantedObjects, wanted_objects
from tidelog.engine.kinds.helmactions import CrdsPolicy
from tidelog.events.names import ObjectKey

OWNER = {"helm.toolkit.fluxcd.io/name": "app", "helm.toolkit.fluxcd.io/namespace": "apps"}
OPEN = Secrecy(frozenset(), frozenset(), notes=False)
SCOPES = {("", "ConfigMap"): True, ("rbac.authorization.k8s.io", "ClusterRole"): False, DEFINITION: False}
MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\n"
ROLE = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: web, namespace: wrong}\n"
HOOK = "apiVersion: v1\nkind: Pod\nmetadata: {name: hook, annotations: {helm.sh/hook: test}}\n"
CRD = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: as.example.org}
spec: {note: %s}
"""


def chart(*crds: str, **files: str) -> RenderedChart:
    manifests, hooks = sorted_manifests({f"c/templates/{name}.yaml": text for name, text in files.items()})
    return RenderedChart(
        {}, manifests, hooks, tuple(Crd(f"c/crds/{at}.yaml", text) for at, text in enumerate(crds)), ""
    )


def wanted(rendered: RenderedChart, secrecy: Secrecy = OPEN, crds: CrdsPolicy = "Create") -> WantedObjects:
    return wanted_objects(rendered, secrecy, SCOPES, name="web", namespace="shop", crds=crds, owner_labels=OWNER)


def test_objects_are_in_the_namespace_of_the_release_and_bear_the_marks_of_helm() -> None:
    rendered = chart(a=MAP, b=ROLE, c=MAP.replace("web", "far, namespace: elsewhere"), d="# nothing\n", h=HOOK)
    found = wanted(rendered)
    assert [one.key.id for one in found.objects] == [
        "core/ConfigMap/shop/web",
        "core/ConfigMap/elsewhere/far",
        "rbac.authorization.k8s.io/ClusterRole/_/web",
    ]
    for one in found.objects:
        metadata = one.object["metadata"]
        assert metadata.get("namespace", "") == one.key.namespace
        assert metadata["labels"] == {"app.kubernetes.io/managed-by": "Helm"}
        assert metadata["annotations"] == {
            "meta.helm.sh/release-name": "web",
            "meta.helm.sh/release-namespace": "shop",
        }
    assert rendered.manifests[0].content == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}}


def test_kind_that_nobody_knows_is_taken_to_have_namespaces() -> None:
    [one] = wanted(chart(a=MAP.replace("v1", "example.org/v1"))).objects
    assert one.key.namespace == "shop"


def test_what_is_secret_stays_so_wherever_it_is_put() -> None:
    far = MAP.replace("web", "far")
    secrecy = msgspec.structs.replace(OPEN, manifests=frozenset({ObjectKey("", "ConfigMap", "", "web")}))
    found = wanted(chart(a=MAP, b=far), secrecy)
    assert [(one.key.name, one.secret) for one in found.objects] == [("web", True), ("far", False)]


def test_object_that_comes_twice_is_told_with_both_templates() -> None:
    with pytest.raises(ChartError, match=r"c/templates/b.yaml: ConfigMap/shop/web is in c/templates/a.yaml already"):
        wanted(chart(a=MAP, b=MAP.replace("web", "web, namespace: shop")))
    with pytest.raises(ChartError, match=r"c/templates/a.yaml: an object without apiVersion"):
        wanted(chart(a="kind: ConfigMap\nmetadata: {name: web}\n"))


def test_string_data_is_folded_as_it_is_applied() -> None:
    [one] = wanted(chart(a="apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n")).objects
    assert (one.object["data"], "stringData" in one.object) == ({"a": "Yg=="}, False)


def test_only_definitions_of_crds_are_wanted_and_belong_to_nobody() -> None:
    other = CRD.replace("as.", "bs.") % 1
    found = wanted(chart(f"{CRD % 1}---\n{MAP}", f"# none\n---\n{CRD % 2}---\n{other}", a=MAP))
    assert [one.key.id for one in found.definitions] == [
        f"apiextensions.k8s.io/CustomResourceDefinition/_/{name}.example.org" for name in ("as", "bs")
    ]
    assert found.definitions[0].object["metadata"] == {"name": "as.example.org", "labels": OWNER}
    assert found.definitions[0].object["spec"] == {"note": 1}
    assert not any(one.secret for one in found.definitions)
    assert found.warnings == ("c/crds/0.yaml: ConfigMap/web is no CustomResourceDefinition, and passed over",)
    assert all(one.once for one in found.definitions)
    assert not any(one.once for one in found.objects)


def test_policy_says_what_becomes_of_definitions() -> None:
    rendered = chart(CRD % 1, CRD % 2, a=MAP)
    assert not wanted(rendered, crds="Skip").definitions
    replaced = wanted(rendered, crds="CreateReplace")
    assert [(one.object["spec"], one.once) for one in replaced.definitions] == [({"note": 2}, False)]
    [one] = wanted(chart(CRD % 1, a=CRD % 3)).objects
    assert one.key.name == "as.example.org"
    assert not wanted(chart(CRD % 1, a=CRD % 3)).definitions
    with pytest.raises(ChartError, match=r"c/crds/0.yaml: line 2"):
        wanted(chart("a: [", a=MAP))
