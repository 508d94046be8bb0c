"""What `tidelog install` puts into a cluster, and what Flux's own tools make of it (contract CM-052)."""

from typing import Any

from tidelog.engine.kinds.install import install_objects
from tidelog.engine.kinds.registry import KINDS
from tidelog.engine.objects.kube import KubeObject

PART_OF = "app.kubernetes.io/part-of"


def by_kind(kind: str, **given: str) -> list[KubeObject]:
    return [obj for obj in install_objects(**given) if obj["kind"] == kind]


def test_what_is_needed_comes_before_what_needs_it() -> None:
    assert [obj["kind"] for obj in install_objects()] == [
        "Namespace",
        *["CustomResourceDefinition"] * len(KINDS),
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterRoleBinding",
    ]


def test_flux_s_tools_find_the_api_and_leave_the_engine_s_own_objects_alone() -> None:
    parts = {
        (obj["kind"], obj["metadata"]["name"]): obj["metadata"].get("labels", {}).get(PART_OF)
        for obj in install_objects()
    }
    assert parts == {
        ("Namespace", "flux-system"): None,
        **{("CustomResourceDefinition", kind.resource.crd_name): "flux" for kind in KINDS},
        ("ServiceAccount", "tidelog"): "tidelog",
        ("ClusterRole", "tidelog"): "tidelog",
        ("ClusterRoleBinding", "tidelog"): "tidelog",
        ("ClusterRoleBinding", "tidelog-reconciler"): "tidelog",
    }


def test_another_namespace_holds_all_that_is_namespaced() -> None:
    assert by_kind("Namespace", namespace="gitops")[0]["metadata"]["name"] == "gitops"
    assert by_kind("ServiceAccount", namespace="gitops")[0]["metadata"]["namespace"] == "gitops"
    for binding in by_kind("ClusterRoleBinding", namespace="gitops"):
        assert [subject["namespace"] for subject in binding["subjects"]] == ["gitops"]


def allowed(group: str, resource: str, verb: str) -> bool:
    (role,) = by_kind("ClusterRole")
    return any(
        {group, "*"} & set(rule["apiGroups"])
        and {resource, "*"} & set(rule["resources"])
        and {verb, "*"} & set(rule["verbs"])
        for rule in role["rules"]
    )


def test_the_role_has_what_the_engine_itself_does_and_writes_nothing_of_others() -> None:
    needed: list[tuple[str, str, str]] = [
        ("kustomize.toolkit.fluxcd.io", "kustomizations", "watch"),
        ("kustomize.toolkit.fluxcd.io", "kustomizations", "patch"),
        ("kustomize.toolkit.fluxcd.io", "kustomizations/status", "patch"),
        ("source.toolkit.fluxcd.io", "gitrepositories/status", "patch"),
        ("source.toolkit.fluxcd.io", "helmcharts", "create"),
        ("source.toolkit.fluxcd.io", "helmcharts", "delete"),
        ("helm.toolkit.fluxcd.io", "helmreleases", "watch"),
        ("helm.toolkit.fluxcd.io", "helmreleases", "patch"),
        ("helm.toolkit.fluxcd.io", "helmreleases/status", "patch"),
        ("helm.toolkit.fluxcd.io", "helmreleases/finalizers", "update"),
        ("coordination.k8s.io", "leases", "create"),
        ("coordination.k8s.io", "leases", "update"),
        ("", "events", "create"),
        ("", "serviceaccounts", "impersonate"),
        ("", "users", "impersonate"),
        ("", "serviceaccounts/token", "create"),
        ("", "secrets", "get"),
        ("apps", "deployments", "watch"),
        ("authentication.k8s.io", "tokenreviews", "create"),
    ]
    assert [need for need in needed if not allowed(*need)] == []
    assert not allowed("apps", "deployments", "patch")
    assert not allowed("", "secrets", "update")


def test_the_objects_of_two_calls_share_nothing() -> None:
    first: Any = install_objects()
    first[3]["metadata"]["labels"]["x"] = "y"
    assert all("x" not in obj["metadata"].get("labels", {}) for obj in install_objects())
    assert "x" not in first[4]["metadata"]["labels"]
