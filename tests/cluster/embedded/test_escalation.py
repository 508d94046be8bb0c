"""What somebody may not get by the way: more rights, more objects, another identity."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cluster.embedded.small import CORE, Small, open_small
from tests.cluster.embedded.test_access import ANNE, MAPS, RBAC, ROLES, grant, grant_here, rule, user
from tests.cluster.embedded.test_caretaker import DEFINITIONS
from tidelog.engine.cluster.embedded.access import MASTERS, UNAUTHENTICATED
from tidelog.engine.cluster.embedded.cluster import ADMIN
from tidelog.engine.cluster.embedded.requests import Request, User
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.tokens import AUDIENCE

ROLE_KINDS = ("rbac.authorization.k8s.io",)
INGRESSES = "/apis/networking.k8s.io/v1/namespaces/test/ingresses"
SECRETS = f"{CORE}/secrets"


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with open_small() as opened:
        yield opened


async def applied(small: Small, path: str, body: str, who: User) -> int:
    kind = "application/apply-patch+yaml"
    request = Request("PATCH", path, {"fieldManager": "test"}, who, body.encode(), kind)
    return (await small.api.handle(request)).status


def binding(role: str, kind: str = "ClusterRole") -> Any:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
    return {"metadata": {"name": "mine"}, "roleRef": reference, "subjects": [user()]}


async def may_write_roles(small: Small, *more: Any) -> None:
    await grant_here(small, rule("create update patch", "roles rolebindings", ROLE_KINDS), *more)


async def test_a_role_grants_no_more_than_who_writes_it_has(small: Small) -> None:
    await may_write_roles(small, rule("get", "configmaps"))
    rules = [rule("get list", "configmaps"), rule("*", "*", ("*",)), rule("get list", "pods", resourceNames=["a", "b"])]
    status, refused = await small.answer(
        "POST", f"{ROLES}/roles", {"metadata": {"name": "x"}, "rules": rules}, user=ANNE
    )
    assert status == 403
    # As a 1.35 server words it.
    assert refused["message"] == (
        'roles.rbac.authorization.k8s.io "x" is forbidden: user "anne" (groups=["system:authenticated" "team"]) is '
        "attempting to grant RBAC permissions not currently held:\n"
        '{APIGroups:[""], Resources:["configmaps"], Verbs:["list"]}\n'
        '{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get" "list"]}\n'
        '{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get" "list"]}\n'
        '{APIGroups:["*"], Resources:["*"], Verbs:["*"]}'
    )
    own = {"metadata": {"name": "x"}, "rules": [rule("get", "configmaps")]}
    assert (await small.answer("POST", f"{ROLES}/roles", own, user=ANNE))[0] == 201


async def test_a_role_is_not_widened(small: Small) -> None:
    await may_write_roles(small)
    more = {"rules": [rule("get", "secrets")]}
    assert (await small.answer("PATCH", f"{ROLES}/roles/here", more, user=ANNE))[0] == 403
    labelled = {"metadata": {"labels": {"a": "b"}}}
    assert (await small.answer("PATCH", f"{ROLES}/roles/here", labelled, user=ANNE))[0] == 200
    await small.create(f"{ROLES}/roles", {"metadata": {"name": "other"}, **more})
    assert (await small.answer("PATCH", f"{ROLES}/roles/other", labelled, user=ANNE))[0] == 403
    # What holds a role that grants more than oneself has may still be taken off it.
    freed = {"metadata": {"finalizers": ["example.com/x"]}}
    assert (await small.answer("PATCH", f"{ROLES}/roles/other", freed, user=ANNE))[0] == 200


async def test_who_may_escalate_may_grant_all(small: Small) -> None:
    await may_write_roles(small, rule("escalate", "roles", ROLE_KINDS))
    body = {"metadata": {"name": "x"}, "rules": [rule("*", "*", ("*",))]}
    assert (await small.answer("POST", f"{ROLES}/roles", body, user=ANNE))[0] == 201


async def test_a_binding_grants_no_more_than_who_writes_it_has(small: Small) -> None:
    await may_write_roles(small)
    status, refused = await small.answer("POST", f"{ROLES}/rolebindings", binding("cluster-admin"), user=ANNE)
    assert status == 403
    assert refused["message"].endswith(
        '\n{APIGroups:["*"], Resources:["*"], Verbs:["*"]}\n{NonResourceURLs:["*"], Verbs:["*"]}'
    )
    status, refused = await small.answer("POST", f"{ROLES}/rolebindings", binding("nope"), user=ANNE)
    assert (status, refused["message"]) == (404, 'rolebindings.rbac.authorization.k8s.io "nope" not found')
    assert (await small.answer("POST", f"{ROLES}/rolebindings", binding("here", "Role"), user=ANNE))[0] == 201


async def test_who_may_bind_a_role_may_grant_it(small: Small) -> None:
    await may_write_roles(small, rule("bind", "clusterroles", ROLE_KINDS, resourceNames=["view"]))
    assert (await small.answer("POST", f"{ROLES}/rolebindings", binding("edit"), user=ANNE))[0] == 403
    assert (await small.answer("POST", f"{ROLES}/rolebindings", binding("view"), user=ANNE))[0] == 201


async def test_who_has_not_all_rights_aggregates_no_roles(small: Small) -> None:
    await grant(small, rule("create patch", "clusterroles", ROLE_KINDS))
    body = {"metadata": {"name": "x"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    status, refused = await small.answer("POST", f"{RBAC}/clusterroles", body, user=ANNE)
    assert status == 403
    assert refused["message"].endswith("must have cluster-admin privileges to use an aggregationRule")
    await grant(small, rule("*", "*", ("*",)), rule("*", nonResourceURLs=["*"]), subject=user("eve"), name="all")
    assert (await small.answer("POST", f"{RBAC}/clusterroles", body, user=User("eve")))[0] == 201


async def test_the_masters_grant_all(small: Small) -> None:
    root = User("root", (MASTERS,))
    body = {"metadata": {"name": "x"}, "rules": [rule("*", "*", ("*",))]}
    assert (await small.answer("POST", f"{RBAC}/clusterroles", body, user=root))[0] == 201


async def test_what_makes_an_object_is_a_creation(small: Small) -> None:
    await grant_here(small, rule("get patch", "configmaps"), rule("update", "services"))
    path = f"{MAPS}/new"
    assert await applied(small, path, "{apiVersion: v1, kind: ConfigMap, metadata: {name: new}}", ANNE) == 403
    service = {"metadata": {"name": "new"}, "spec": {"ports": [{"port": 80}]}}
    assert (await small.answer("PUT", f"{CORE}/services/new", service, user=ANNE))[0] == 403
    await small.create(MAPS, {"metadata": {"name": "new"}})
    assert await applied(small, path, "{apiVersion: v1, kind: ConfigMap, metadata: {name: new}}", ANNE) == 200


async def test_who_may_watch_one_object_sees_no_other(small: Small) -> None:
    await grant_here(small, rule("get list watch", "secrets", resourceNames=["a"]))
    for name in ("a", "b"):
        await small.create(SECRETS, {"metadata": {"name": name}})
    answer = await small.api.handle(Request("GET", f"{SECRETS}/a", {"watch": "true"}, ANNE))
    assert answer.stream is None  # as the real one: it is got
    assert b'"name":"a"' in answer.body
    assert (await small.answer("GET", f"{SECRETS}/b?watch=true", user=ANNE))[0] == 403


async def test_a_uid_and_extras_are_impersonated_by_who_may(small: Small) -> None:
    await grant(small, rule("impersonate", "users"))
    with pytest.raises(StatusError, match=r'uids.authentication.k8s.io "1" is forbidden'):
        small.api.acting_as(ANNE, User("bob", uid="1"))
    with pytest.raises(StatusError, match=r'userextras/scopes.authentication.k8s.io "view" is forbidden'):
        small.api.acting_as(ANNE, User("bob", extra={"scopes": ("view",)}))
    await grant(small, rule("impersonate", "uids userextras/scopes", ("authentication.k8s.io",)), name="more")
    wanted = User("bob", uid="1", extra={"scopes": ("view",)})
    assert small.api.acting_as(ANNE, wanted).uid == "1"
    assert small.api.acting_as(ANNE, wanted).extra == {"scopes": ("view",)}


async def test_who_acts_as_nobody_is_not_known(small: Small) -> None:
    assert small.api.acting_as(ADMIN, User("system:anonymous")).groups == (UNAUTHENTICATED,)


async def test_a_token_ends_with_its_account(small: Small) -> None:
    accounts = f"{CORE}/serviceaccounts"
    await small.create(accounts, {"metadata": {"name": "web"}})
    token = (await small.create(f"{accounts}/web/token", {"spec": {}}))["status"]["token"]
    found = small.api.whose(token)
    assert found is not None
    assert found[0].name == "system:serviceaccount:test:web"
    await small.delete(f"{accounts}/web")
    assert small.api.whose(token) is None
    await small.create(accounts, {"metadata": {"name": "web"}})
    assert small.api.whose(token) is None


async def test_a_token_is_taken_from_whom_it_is_for_alone(small: Small) -> None:
    tokens, reviews = f"{CORE}/serviceaccounts/default/token", "/apis/authentication.k8s.io/v1/tokenreviews"

    async def token(*audiences: str) -> str:
        made: str = (await small.create(tokens, {"spec": {"audiences": list(audiences)}}))["status"]["token"]
        return made

    async def review(token: str, *audiences: str) -> Any:
        return (await small.create(reviews, {"spec": {"token": token, "audiences": list(audiences)}}))["status"]

    ours, theirs, both = await token(), await token("vault"), await token("vault", AUDIENCE)
    assert [small.api.whose(one) is not None for one in (ours, theirs, both)] == [True, False, True]
    assert (await review(ours))["audiences"] == [AUDIENCE]
    assert (await review(theirs, "other", "vault"))["audiences"] == ["vault"]
    for refused in (await review(theirs), await review(ours, "vault"), await review(both, "other")):
        assert "authenticated" not in refused
        assert refused["error"]


async def test_a_token_ends_with_what_it_is_bound_to(small: Small) -> None:
    tokens = f"{CORE}/serviceaccounts/default/token"
    secret = await small.create(f"{CORE}/secrets", {"metadata": {"name": "a"}})
    wanted = {"apiVersion": "v1", "kind": "Secret", "name": "a"}
    token = (await small.create(tokens, {"spec": {"boundObjectRef": wanted}}))["status"]["token"]
    assert small.api.whose(token) is not None
    await small.delete(f"{CORE}/secrets/a")
    assert small.api.whose(token) is None
    for code, reason, more in (
        (404, "NotFound", {}),
        (404, "NotFound", {"kind": "Pod"}),
        (400, "BadRequest", {"kind": "ConfigMap"}),
        (400, "BadRequest", {"apiVersion": "v2"}),
    ):
        status, told = await small.answer("POST", tokens, {"spec": {"boundObjectRef": {**wanted, **more}}})
        assert (status, told["reason"]) == (code, reason)
    await small.create(f"{CORE}/secrets", {"metadata": {"name": "a"}})
    status, told = await small.answer(
        "POST", tokens, {"spec": {"boundObjectRef": {**wanted, "uid": secret["metadata"]["uid"]}}}
    )
    assert (status, told["reason"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("query", "options"), [("?dryRun=All", {}), ("", {"dryRun": ["All"]}), ("", {"preconditions": {"uid": "other"}})]
)
async def test_an_eviction_that_is_only_tried(small: Small, query: str, options: Any) -> None:
    await small.create(
        f"{CORE}/pods", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    )
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": options}
    status, _ = await small.answer("POST", f"{CORE}/pods/p/eviction{query}", eviction)
    assert status == (409 if "preconditions" in options else 201)
    assert await small.exists(f"{CORE}/pods/p")
    await small.create(f"{CORE}/pods/p/eviction", {**eviction, "deleteOptions": {}})
    assert not await small.exists(f"{CORE}/pods/p")


@pytest.mark.parametrize("name", ["default", "kube-public", "kube-system"])
async def test_some_namespaces_are_never_deleted(small: Small, name: str) -> None:
    status, refused = await small.answer("DELETE", f"/api/v1/namespaces/{name}")
    assert (status, refused["message"]) == (
        403,
        f'namespaces "{name}" is forbidden: this namespace may not be deleted',
    )


async def test_a_definition_takes_no_built_in_kind(small: Small) -> None:
    backend = {"service": {"name": "s", "port": {"number": 80}}}
    await small.create(INGRESSES, {"metadata": {"name": "kept"}, "spec": {"defaultBackend": backend}})
    schema = {"openAPIV3Schema": {"type": "object"}}
    definition = {
        "metadata": {
            "name": "ingresses.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/kubernetes/pull/1"},
        },
        "spec": {
            "group": "networking.k8s.io",
            "scope": "Namespaced",
            "names": {"plural": "ingresses", "kind": "Ingress"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    await small.create(DEFINITIONS, definition)
    assert (await small.answer("POST", INGRESSES, {"metadata": {"name": "none"}}))[0] == 422
    await small.delete(f"{DEFINITIONS}/ingresses.networking.k8s.io")
    assert await small.names(INGRESSES) == ["kept"]
