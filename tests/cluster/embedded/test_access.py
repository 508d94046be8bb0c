"""RBAC in the embedded cluster, asked as Kubernetes documents it ("Using RBAC Authorization")."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.embedded.small import CORE, Small, open_small
from tidelog.engine.cluster.embedded.access import AUTHENTICATED, MASTERS, Attributes, account_groups
from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.statuses import StatusError

RBAC = "/apis/rbac.authorization.k8s.io/v1"
ROLES = f"{RBAC}/namespaces/test"
MAPS = f"{CORE}/configmaps"
ANNE = User("anne", (AUTHENTICATED, "team"))
ROBOT = "system:serviceaccount:test:robot"


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with open_small() as opened:
        yield opened


def rule(verbs: str, resources: str = "", groups: tuple[str, ...] = ("",), **more: Any) -> Any:
    about = {"apiGroups": list(groups), "resources": resources.split()} if resources else {}
    return {"verbs": verbs.split(), **about, **more}


def user(name: str = "anne", kind: str = "User") -> Any:
    return {"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": name}


async def grant(small: Small, *rules: Any, subject: Any = None, name: str = "it", **more: Any) -> None:
    """Everywhere."""
    await small.create(f"{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": list(rules), **more})
    await bind(small, name, subject)


async def bind(small: Small, role: str, subject: Any = None) -> None:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    body = {"metadata": {"name": role}, "roleRef": reference, "subjects": [subject or user()]}
    await small.create(f"{RBAC}/clusterrolebindings", body)


async def grant_here(small: Small, *rules: Any, subject: Any = None, kind: str = "Role") -> None:
    """In the namespace `test`, by a Role or by a ClusterRole."""
    path = f"{ROLES}/roles" if kind == "Role" else f"{RBAC}/clusterroles"
    await small.create(path, {"metadata": {"name": "here"}, "rules": list(rules)})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "here"}
    body = {"metadata": {"name": "here"}, "roleRef": reference, "subjects": [subject or user()]}
    await small.create(f"{ROLES}/rolebindings", body)


def may(small: Small, verb: str, resource: str = "configmaps", who: User = ANNE, **more: str) -> bool:
    return small.api.authorizer.allows(who, Attributes(verb, resource=resource, **more))


async def test_who_has_no_role_may_do_nothing(small: Small) -> None:
    status, refused = await small.answer("GET", MAPS, user=ANNE)
    assert (status, refused["reason"]) == (403, "Forbidden")
    assert refused["message"] == (
        'configmaps is forbidden: User "anne" cannot list resource "configmaps" in API group "" in the namespace "test"'
    )


async def test_the_masters_may_do_everything(small: Small) -> None:
    assert may(small, "delete", who=User("root", (MASTERS,)), namespace="test")


async def test_verbs_and_resources(small: Small) -> None:
    await grant(small, rule("get list", "configmaps secrets"), rule("*", "services"), rule("get", "*", ("apps",)))
    assert may(small, "get")
    assert may(small, "list", "secrets", namespace="any")
    assert not may(small, "watch")
    assert not may(small, "get", "pods")
    assert may(small, "deletecollection", "services")
    assert may(small, "get", "deployments", group="apps")
    assert not may(small, "get", "deployments")
    assert not may(small, "get", "configmaps", group="apps/v1")
    assert not may(small, "get", "configmaps", group="other")


async def test_a_rule_for_every_group(small: Small) -> None:
    await grant(small, rule("get", "*", ("*",)))
    assert may(small, "get", "things", group="example.com")
    assert may(small, "get", "pods/log")
    assert not may(small, "list", "things", group="example.com")


async def test_a_role_holds_in_its_namespace(small: Small) -> None:
    await grant_here(small, rule("get list", "configmaps"))
    assert (await small.answer("GET", MAPS, user=ANNE))[0] == 200
    assert (await small.answer("GET", "/api/v1/namespaces/default/configmaps", user=ANNE))[0] == 403
    assert (await small.answer("GET", "/api/v1/configmaps", user=ANNE))[0] == 403


async def test_a_cluster_role_bound_in_a_namespace_holds_there(small: Small) -> None:
    await grant_here(small, rule("list", "configmaps"), rule("get", nonResourceURLs=["*"]), kind="ClusterRole")
    assert may(small, "list", namespace="test")
    assert not may(small, "list")
    assert not may(small, "list", namespace="default")
    assert not may(small, "get", "", path="/metrics")


async def test_resource_names(small: Small) -> None:
    await grant_here(small, rule("get list update create", "configmaps", resourceNames=["a"]))
    await small.create(MAPS, {"metadata": {"name": "a"}})
    assert (await small.answer("GET", f"{MAPS}/a", user=ANNE))[0] == 200
    assert (await small.answer("GET", f"{MAPS}/b", user=ANNE))[0] == 403
    assert (await small.answer("POST", MAPS, {"metadata": {"name": "a"}}, user=ANNE))[0] == 403
    assert (await small.answer("GET", MAPS, user=ANNE))[0] == 403
    status, listed = await small.answer("GET", f"{MAPS}?fieldSelector=metadata.name%3Da", user=ANNE)
    assert (status, len(listed["items"])) == (200, 1)
    assert (await small.answer("GET", f"{MAPS}?fieldSelector=metadata.name%3Db", user=ANNE))[0] == 403


@pytest.mark.parametrize(
    ("resources", "allowed"),
    [
        ("pods", {"pods"}),
        ("pods/log", {"pods/log"}),
        ("*/log", {"pods/log"}),
        ("pods/*", set()),
        ("*", {"pods", "pods/log", "pods/status"}),
    ],
)
async def test_subresources(small: Small, resources: str, allowed: set[str]) -> None:
    await grant(small, rule("get", resources))
    assert {one for one in ("pods", "pods/log", "pods/status") if may(small, "get", one)} == allowed


async def test_a_status_is_written_by_who_may_write_it(small: Small) -> None:
    await grant_here(small, rule("get patch", "namespaces"), rule("patch", "services/status"))
    spec = {"ports": [{"port": 80}]}
    await small.create(f"{CORE}/services", {"metadata": {"name": "web"}, "spec": spec})
    change = {"metadata": {"labels": {"a": "b"}}}
    assert (await small.answer("PATCH", f"{CORE}/services/web/status", change, user=ANNE))[0] == 200
    assert (await small.answer("PATCH", f"{CORE}/services/web", change, user=ANNE))[0] == 403
    assert (await small.answer("PATCH", CORE, change, user=ANNE))[0] == 200


@pytest.mark.parametrize(
    ("pattern", "path", "allowed"),
    [
        ("/metrics", "/metrics", True),
        ("/metrics", "/metrics/slow", False),
        ("/metrics/*", "/metrics/slow", True),
        ("/metrics/*", "/metrics", False),
        ("*", "/anything", True),
        ("/logs*", "/logs", True),
    ],
)
async def test_paths_that_are_no_resources(small: Small, pattern: str, path: str, allowed: bool) -> None:
    await grant(small, rule("get", nonResourceURLs=[pattern]))
    assert may(small, "get", "", path=path) is allowed
    assert not may(small, "post", "", path=path)
    assert not may(small, "get")


async def test_who_is_known_may_ask_what_there_is(small: Small) -> None:
    for path in ("/api", "/apis", "/apis/apps/v1", "/openapi/v3", "/version"):
        assert (await small.answer("GET", path, user=ANNE))[0] == 200, path
    status, refused = await small.answer("GET", "/metrics", user=ANNE)
    assert status == 403
    assert refused["message"] == 'forbidden: User "anne" cannot get path "/metrics"'


# ---------------------------------------------------------------------------------------------- subjects


@pytest.mark.parametrize(
    ("subject", "who", "allowed"),
    [
        (user("team", "Group"), ANNE, True),
        (user("other", "Group"), ANNE, False),
        (user("team"), ANNE, False),
        (user("anne", "Group"), ANNE, False),
        ({"kind": "ServiceAccount", "name": "robot", "namespace": "test"}, User(ROBOT), True),
        ({"kind": "ServiceAccount", "name": "robot", "namespace": "other"}, User(ROBOT), False),
        (user(ROBOT), User(ROBOT), True),
        (user("system:serviceaccounts", "Group"), User(ROBOT, account_groups(ROBOT)), True),
        (user("system:serviceaccounts:test", "Group"), User(ROBOT, account_groups(ROBOT)), True),
        (user("system:serviceaccounts:other", "Group"), User(ROBOT, account_groups(ROBOT)), False),
    ],
)
async def test_subjects(small: Small, subject: Any, who: User, allowed: bool) -> None:
    await grant(small, rule("get", "configmaps"), subject=subject)
    assert may(small, "get", who=who) is allowed


async def test_a_role_that_goes_allows_nothing_more(small: Small) -> None:
    await grant(small, rule("get", "configmaps"))
    assert may(small, "get")
    await small.delete(f"{RBAC}/clusterroles/it")
    assert not may(small, "get")


async def test_the_token_of_a_service_account_has_its_groups(small: Small) -> None:
    await small.create(f"{CORE}/serviceaccounts", {"metadata": {"name": "robot"}})
    answer = await small.create(f"{CORE}/serviceaccounts/robot/token", {"spec": {}})
    found = small.api.whose(answer["status"]["token"])
    assert found is not None
    who = found[0]
    assert who.name == ROBOT
    assert who.groups == account_groups(ROBOT)


# ---------------------------------------------------------------------------------------------- aggregation


def aggregated(label: str) -> Any:
    return {"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}}


async def test_an_aggregated_role_has_the_rules_of_those_that_it_selects(small: Small) -> None:
    await grant(small, **aggregated("to-it"))
    assert not may(small, "get")
    labels = {"to-it": "true", "other": "1"}
    body = {"metadata": {"name": "part", "labels": labels}, "rules": [rule("get", "configmaps")]}
    await small.create(f"{RBAC}/clusterroles", body)
    assert may(small, "get")
    await small.patch(f"{RBAC}/clusterroles/part", {"metadata": {"labels": {"to-it": "false"}}})
    assert not may(small, "get")


async def test_aggregated_roles_are_aggregated_again(small: Small) -> None:
    await grant(small, **aggregated("to-it"))
    for name, label, more in (
        ("middle", "to-it", aggregated("to-middle")),
        ("part", "to-middle", {"rules": [rule("get", "configmaps")]}),
        ("circle", "to-middle", aggregated("to-it")),
    ):
        await small.create(f"{RBAC}/clusterroles", {"metadata": {"name": name, "labels": {label: "true"}}, **more})
    assert may(small, "get")
    assert not may(small, "list")


async def test_expressions_select_parts_too(small: Small) -> None:
    expression = {"key": "to", "operator": "In", "values": ["it", "all"]}
    await grant(small, aggregationRule={"clusterRoleSelectors": [{"matchExpressions": [expression]}]})
    body = {"metadata": {"name": "part", "labels": {"to": "all"}}, "rules": [rule("get", "configmaps")]}
    await small.create(f"{RBAC}/clusterroles", body)
    assert may(small, "get")
    await small.patch(f"{RBAC}/clusterroles/part", {"metadata": {"labels": {"to": "other"}}})
    assert not may(small, "get")


# ---------------------------------------------------------------------------------------------- impersonation


def acting(small: Small, wanted: User) -> User:
    return small.api.acting_as(ANNE, wanted)


async def test_who_may_not_impersonate_is_refused(small: Small) -> None:
    with pytest.raises(StatusError, match='cannot impersonate resource "users"') as refused:
        acting(small, User("bob"))
    assert refused.value.code == 403


async def test_a_user_is_impersonated(small: Small) -> None:
    await grant(small, rule("impersonate", "users", resourceNames=["bob"]))
    assert acting(small, User("bob")) == User("bob", (AUTHENTICATED,))
    with pytest.raises(StatusError):
        acting(small, User("carl"))
    with pytest.raises(StatusError, match='cannot impersonate resource "groups"'):
        acting(small, User("bob", ("team",)))


async def test_groups_are_impersonated_by_who_may(small: Small) -> None:
    await grant(small, rule("impersonate", "users"), rule("impersonate", "groups", resourceNames=["team"]))
    assert set(acting(small, User("bob", ("team",))).groups) == {"team", AUTHENTICATED}
    with pytest.raises(StatusError):
        acting(small, User("bob", ("team", MASTERS)))


async def test_a_service_account_is_impersonated_as_such(small: Small) -> None:
    await grant_here(small, rule("impersonate", "serviceaccounts", resourceNames=["robot"]))
    who = acting(small, User(ROBOT))
    assert who.name == ROBOT
    assert set(who.groups) == {AUTHENTICATED, "system:serviceaccounts", "system:serviceaccounts:test"}
    for other in ("system:serviceaccount:test:other", "system:serviceaccount:default:robot"):
        with pytest.raises(StatusError, match='cannot impersonate resource "serviceaccounts"'):
            acting(small, User(other))


async def test_who_may_impersonate_users_may_not_so_service_accounts(small: Small) -> None:
    await grant(small, rule("impersonate", "users"))
    with pytest.raises(StatusError, match="in the namespace"):
        acting(small, User(ROBOT))
