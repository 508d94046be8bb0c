"""Every row of "Where it differs" in the documentation, pinned: who changes one of these changes the table."""

import json
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.abc
import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.beside import Beside, ask, common
from tests.cluster.embedded.oracle import Reply, query
from tests.cluster.embedded.small import APPS, BATCH, CORE, READY_S, Small, open_small
from tests.cluster.embedded.test_standins import deploy, images, pods_of, template, workload
from tidelog.engine.cluster.embedded import hands, store
from tidelog.engine.cluster.embedded.cluster import ADMIN
from tidelog.engine.cluster.embedded.requests import Request
from tidelog.engine.http import embedded_cluster

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "embedded-cluster.md"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MAPS = f"{CORE}/configmaps"
SERVED_S = 20
_pinned: dict[str, str] = {}
_Test = TypeVar("_Test", bound=Callable[..., Any])


def pins(row: str) -> Callable[[_Test], _Test]:
    """The row of the table, by its first column, that a test is about."""

    def note(test: _Test) -> _Test:
        assert row not in _pinned, f"{row} is pinned by {_pinned[row]}"
        _pinned[row] = test.__name__
        return test

    return note


def test_each_row_has_its_test() -> None:
    _, _, rest = PAGE.read_text().partition("## Where it differs\n")
    rows = re.findall(r"^\| ([^|]+?) \|.*\|$", rest, re.MULTILINE)
    assert sorted(set(rows) - {"what", "---"}) == sorted(_pinned)


@pytest.fixture
async def small() -> AsyncIterator[Small]:
    async with open_small() as opened:
        yield opened


# ------------------------------------------------------------------------------------------ objects


def thing(beside: Beside, name: str, **spec: Any) -> Any:
    kind = beside.kind
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}


@pins("null that a server-side apply leaves in a custom object")
async def test_nulls_that_are_applied(beside: Beside) -> None:
    path = query(beside.kind.path(beside.namespace, "nulls"), fieldManager="a")
    real, ours = await beside.both("PATCH", path, thing(beside, "nulls", text=None, list=["1"]), oracle.APPLY)
    assert "null" in json.dumps(real.body)
    assert (ours.status, ours.body["spec"]) == (201, {"list": ["1"]})


@pins("fields that a custom kind has not, in a part where unknown ones are kept")
async def test_unknown_fields_that_an_apply_leaves(beside: Beside) -> None:
    path = beside.kind.path(beside.namespace, "left")
    applied = thing(beside, "left", open={"known": {"a": "1", "x": 1}})
    versions = []
    for number in (1, 2):  # the second changes nothing
        if number == 2:
            applied = thing(beside, "left")
            del applied["spec"]
        part = "" if number == 1 else "/status"
        pair = await beside.both("PATCH", query(path + part, fieldManager=str(number)), applied, oracle.APPLY)
        assert [each.body["spec"]["open"] for each in pair] == [{"known": {"a": "1"}}] * 2
        versions.append([each.body["metadata"]["resourceVersion"] for each in pair])
    first, second = versions
    assert first[0] != second[0]
    assert first[1] == second[1]


@pins("versions of one kind")
async def test_versions_of_autoscaling(beside: Beside) -> None:
    path = f"/apis/autoscaling/{{}}/namespaces/{beside.namespace}/horizontalpodautoscalers"
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"maxReplicas": 2, "scaleTargetRef": target, "targetCPUUtilizationPercentage": 50}
    body = {"metadata": {"name": "web"}, "spec": spec}
    assert {each.status for each in await beside.both("POST", path.format("v1"), body)} == {201}
    real, ours = await beside.both("GET", path.format("v2") + "/web")
    assert "metrics" in real.body["spec"]
    assert "metrics" not in ours.body["spec"]
    assert (real.body["apiVersion"], ours.body["apiVersion"]) == ("autoscaling/v2", "autoscaling/v2")


@pins("an apply in one version of a custom kind, where somebody owns fields in another whose schema has others")
async def test_an_apply_among_versions(beside: Beside) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    cakes = f"/apis/{group}/{{}}/namespaces/{beside.namespace}/cakes"
    await beside.both("POST", DEFINITIONS, two_versions(group))
    try:
        with anyio.fail_after(SERVED_S):
            while {each.status for each in await beside.both("GET", cakes.format("v1beta1"))} != {200}:  # noqa: ASYNC110
                await anyio.sleep(0.1)
        cake = {"apiVersion": f"{group}/v1beta1", "kind": "Cake", "metadata": {"name": "a"}, "spec": {"a": "1"}}
        made = await beside.both("POST", query(cakes.format("v1beta1"), fieldManager="m"), cake)
        assert {each.status for each in made} == {201}
        applied = {**cake, "apiVersion": f"{group}/v1", "spec": {"b": "2"}}
        path = query(cakes.format("v1") + "/a", fieldManager="n")
        real, ours = await beside.both("PATCH", path, applied, oracle.APPLY)
        assert (real.status, real.body["message"]) == (500, ".spec.b: field not declared in schema")
        assert (ours.status, ours.body["spec"]) == (200, {"a": "1", "b": "2"})
    finally:
        await beside.both("DELETE", f"{DEFINITIONS}/cakes.{group}")


def two_versions(group: str) -> Any:
    text = {"type": "string"}
    versions = []
    for name, fields in (("v1", {"a": text, "b": {**text, "default": "1"}}), ("v1beta1", {"a": text})):
        schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
        version = {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema}}
        versions.append(version)
    spec = {"group": group, "scope": "Namespaced", "names": {"plural": "cakes", "kind": "Cake"}, "versions": versions}
    return {"metadata": {"name": f"cakes.{group}"}, "spec": spec}


@pins("addresses in `/api`")
async def test_nobody_is_told_where_the_server_is_reached(beside: Beside) -> None:
    real, ours = (each.body["serverAddressByClientCIDRs"] for each in await beside.both("GET", "/api"))
    assert (len(real), ours) == (1, [])


@pins("admission")
async def test_quotas_are_not_asked(small: Small) -> None:
    await small.create(f"{CORE}/resourcequotas", {"metadata": {"name": "none"}, "spec": {"hard": {"configmaps": "0"}}})
    await small.settle()
    await small.create(MAPS, {"metadata": {"name": "a"}})
    labels = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    await small.patch("/api/v1/namespaces/test", {"metadata": labels})
    spec = {**template()["spec"], "priorityClassName": "none", "serviceAccountName": "none"}
    await small.create(f"{CORE}/pods", {"metadata": {"name": "a"}, "spec": spec})


@pins("OpenAPI v2")
async def test_the_second_openapi_describes_no_kind(small: Small) -> None:
    told = await small.get("/openapi/v2")
    assert (told["swagger"], told["paths"], told.get("definitions")) == ("2.0", {}, None)


@pins("`/` and `/metrics`")
@pytest.mark.parametrize("path", ["/", "/metrics"])
async def test_paths_that_are_not_there(small: Small, path: str) -> None:
    assert (await small.answer("GET", path))[0] == 404


@pins("OpenID's documents (`/.well-known/openid-configuration`, `/openid/v1/jwks`)")
async def test_openid_is_told_nothing(beside: Beside) -> None:
    for path in ("/.well-known/openid-configuration", "/openid/v1/jwks"):
        real, ours = (each.status for each in await beside.both("GET", path))
        assert (real != 404, ours) == (True, 404)


def listed(answer: Reply) -> set[str]:
    return {item["metadata"]["name"] for item in answer.body["items"]}


@pins("an APIService of the server's own versions that is deleted")
async def test_a_version_is_served_without_its_apiservice(small: Small) -> None:
    path = "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps"
    await small.delete(path)
    await small.settle()
    assert not await small.exists(path)
    assert await small.exists(f"{APPS}/deployments")


@pins("FlowSchemas, PriorityLevelConfigurations, ServiceCIDRs, IPAddresses")
@pytest.mark.parametrize(
    "path",
    [
        *(f"flowcontrol.apiserver.k8s.io/v1/{one}" for one in ("flowschemas", "prioritylevelconfigurations")),
        *(f"networking.k8s.io/v1/{one}" for one in ("servicecidrs", "ipaddresses")),
    ],
)
async def test_what_the_server_makes_for_itself(beside: Beside, path: str) -> None:
    assert (await beside.ask("GET", f"/apis/{path}")).body["items"] == []
    with anyio.fail_after(SERVED_S):
        while not (await beside.real("GET", f"/apis/{path}")).body["items"]:  # noqa: ASYNC110
            await anyio.sleep(0.1)


@pins("the version")
async def test_the_version_says_whose_it_is(beside: Beside) -> None:
    real, ours = await beside.both("GET", "/version")
    assert ours.body["gitVersion"] == f"{real.body['gitVersion']}+tidelog"
    build = {"gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"}
    said = [{name: one.body[name] for name in one.body if name not in build} for one in (real, ours)]
    assert said[1] == said[0]


@pins("maps and lists that a message quotes, and what it says below its first line")
async def test_messages_have_the_names_of_objects(beside: Beside) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{beside.namespace}/rolebindings"
    group = "rbac.authorization.k8s.io"
    body = {"metadata": {"name": "a"}, "roleRef": {"apiGroup": group, "kind": "Role", "name": "a"}}
    await beside.same("POST", f"{path}?fieldManager=m", body)
    real, ours = await beside.both("PATCH", f"{path}/a", {"roleRef": {"name": "b"}}, oracle.MERGE)
    says = [one.body["details"]["causes"][0]["message"] for one in (real, ours)]
    assert says == [
        f'Invalid value: {{"{names[0]}":"{group}","{names[1]}":"Role","{names[2]}":"b"}}: cannot change roleRef'
        for names in (("APIGroup", "Kind", "Name"), ("apiGroup", "kind", "name"))
    ]


@pins("`kubectl get componentstatuses`")
async def test_no_component_has_a_status(beside: Beside) -> None:
    real, ours = map(listed, await beside.both("GET", "/api/v1/componentstatuses"))
    assert (real, ours) == ({"controller-manager", "etcd-0", "scheduler"}, set())


@pins("ConfigMaps and Leases of the server's own in `kube-system`")
async def test_the_server_keeps_nothing_of_its_own(beside: Beside) -> None:
    real, ours = map(listed, await beside.both("GET", "/api/v1/namespaces/kube-system/configmaps"))
    assert real - ours >= {"extension-apiserver-authentication"}
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    real, ours = map(listed, await beside.both("GET", leases))
    assert (any(name.startswith("apiserver-") for name in real), ours) == (True, set())


@pins("certificates in `kube-root-ca.crt`")
async def test_no_authority_is_published(beside: Beside) -> None:
    """But for the text, which is compared in `test_what_is_in_a_new_cluster`."""
    real, ours = await beside.both("GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
    assert real.body["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
    assert ours.body["data"] == {"ca.crt": ""}


async def test_what_is_in_a_new_cluster(beside: Beside) -> None:
    """What no row is about is the same: the API server's Service, and what is said of the authority."""
    real, ours = await beside.both("GET", "/api/v1/namespaces/default/services/kubernetes")
    for each in (real, ours):
        each.body["spec"]["ports"][0].pop("targetPort")
        for name in ("uid", "resourceVersion", "creationTimestamp", "managedFields"):
            each.body["metadata"].pop(name, None)
    assert ours == real
    maps = await beside.both("GET", "/api/v1/namespaces/default/configmaps/kube-root-ca.crt")
    described, same = (each.body["metadata"]["annotations"] for each in maps)
    assert same == described
    for name in ("v1.", "v1.apps", "v2.autoscaling"):
        real, ours = await beside.both("GET", f"/apis/apiregistration.k8s.io/v1/apiservices/{name}")
        for each in (real, ours):
            each.body["status"]["conditions"][0].pop("lastTransitionTime")
        assert common(ours) == common(real)


async def test_who_i_am_and_what_i_may(beside: Beside) -> None:
    asked: Any = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    pair = await beside.both("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", asked)
    assert [each.body["metadata"].keys() for each in pair] == [{"creationTimestamp"}] * 2
    asked = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"},
    }
    pair = await beside.both("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", asked)
    for kind in ("resourceRules", "nonResourceRules"):
        told = [[rule for rule in each.body["status"][kind] if rule["verbs"] == ["*"]] for each in pair]
        assert len(told[0]) == 1
        assert told[1] == told[0]


@pins("tokens of service accounts")
async def test_tokens_say_nothing(small: Small) -> None:
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    told = await small.create(f"{CORE}/serviceaccounts/default/token", asked)
    assert "." not in told["status"]["token"]


@pins("ephemeral containers (`kubectl debug`)")
async def test_ephemeral_containers_are_refused(small: Small) -> None:
    await small.create(f"{CORE}/pods", {"metadata": {"name": "a"}, "spec": template()["spec"]})
    added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}}
    status, told = await small.answer("PATCH", f"{CORE}/pods/a/ephemeralcontainers", added)
    assert status == 422
    assert "pod updates may not change fields other than" in told["message"]


@pins("statuses of HorizontalPodAutoscalers, PodDisruptionBudgets, ResourceQuotas, Nodes")
async def test_nobody_keeps_these_statuses(small: Small) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    budgets = "/apis/policy/v1/namespaces/test/poddisruptionbudgets"
    scalers = "/apis/autoscaling/v2/namespaces/test/horizontalpodautoscalers"
    for path, spec in (
        (budgets, {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}),
        (scalers, {"maxReplicas": 3, "scaleTargetRef": target}),
        (f"{CORE}/resourcequotas", {"hard": {"pods": "9"}}),
    ):
        made = await small.create(path, {"metadata": {"name": "web"}, "spec": spec})
        if path == budgets:
            await deploy(small)
        await small.after(READY_S)
        assert (await small.get(f"{path}/web"))["status"] == made["status"], path


@pins("warnings")
async def test_warnings_of_a_kind(beside: Beside) -> None:
    ports = {"ports": [{"containerPort": 80}, {"containerPort": 80}]}
    pod = {"containers": [{"name": "a", "image": "a", **ports}]}
    path = query(oracle.POD_TEMPLATE.path(beside.namespace), dryRun="All")
    real, ours = await beside.both("POST", path, {"metadata": {"name": "a"}, "template": {"spec": pod}})
    assert [one.partition(": ")[2] for one in real.warnings] == [
        "duplicate port definition with template.spec.containers[0].ports[0]"
    ]
    assert ours.warnings == ()


@pins("a field that stands twice in a body")
async def test_a_field_that_stands_twice(beside: Beside) -> None:
    path = query(oracle.CONFIG_MAP.path(beside.namespace), dryRun="All", fieldValidation="Strict")
    body = b'{"metadata": {"name": "twice"}, "data": {"a": "1", "a": "2"}}'
    real, ours = await beside.both("POST", path, body)
    assert (real.status, ours.status) == (400, 201)
    assert 'duplicate field "data.a"' in real.body["message"]
    assert ours.body["data"] == {"a": "2"}


@pins("a patch that leaves no object of the kind")
async def test_the_object_of_a_broken_patch(beside: Beside) -> None:
    path = oracle.SERVICE_ACCOUNT.path(beside.namespace)
    await beside.both("POST", path, {"metadata": {"name": "broken"}, "secrets": [{"name": "b", "kind": "a"}]})
    patch = {"metadata": {"labels": 5}}
    real, ours = await beside.both("PATCH", f"{path}/broken", patch, oracle.MERGE)
    assert (real.status, ours.status) == (422, 422)
    assert '[{\\"manager\\"' in real.body["message"]
    assert '[{\\"apiVersion\\"' in ours.body["message"]


@pins("cluster IPs and node ports")
async def test_an_address_comes_from_the_uid(small: Small) -> None:
    made = await small.create(f"{CORE}/services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
    await small.delete(f"{CORE}/services/a")
    again = await small.create(f"{CORE}/services", {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
    assert made["metadata"]["uid"] != again["metadata"]["uid"]
    assert made["spec"]["clusterIP"] != again["spec"]["clusterIP"]


@pins("a definition that is deleted")
async def test_a_definition_takes_its_objects_along(beside: Beside) -> None:
    path = beside.kind.path(beside.namespace)
    held = thing(beside, "held")
    held["metadata"]["finalizers"] = ["example.com/one"]
    await beside.both("POST", path, held)
    definition = f"{DEFINITIONS}/things.{beside.kind.api_version.partition('/')[0]}"
    try:
        await beside.both("DELETE", definition)
        real, ours = await beside.both("GET", f"{path}/held")
        assert (real.status, ours.status) == (200, 404)
    finally:
        await beside.real("PATCH", f"{path}/held", {"metadata": {"finalizers": None}}, oracle.MERGE)


def ruled(rule: str) -> Any:
    """A definition with a rule over a list without end."""
    text = {"type": "string"}
    item = {"type": "object", "properties": {"name": text}}
    spec = {
        "type": "object",
        "properties": {
            "list": {"type": "array", "items": text},
            "few": {"type": "array", "maxItems": 3, "items": item},
        },
        "x-kubernetes-validations": [{"rule": rule}],
    }
    made = two_versions("ruled.example.com")
    for version in made["spec"]["versions"]:
        version["schema"] = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    return made


@pins(
    "mistakes in a LimitRange, ResourceQuota, Endpoints, ReplicationController or ValidatingAdmissionPolicy, and in "
    "conditions of webhooks"
)
async def test_mistakes_in_kinds_that_are_seldom_written(beside: Beside) -> None:
    core = f"/api/v1/namespaces/{beside.namespace}"
    hooks = "/apis/admissionregistration.k8s.io/v1"
    hook: dict[str, Any] = {"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"]}
    hook |= {"clientConfig": {"url": "https://a"}, "matchConditions": [{"name": "a", "expression": "1"}]}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    controller = {"replicas": -1, "selector": {"a": "b"}, "template": template}
    for path, body in (
        (f"{core}/limitranges", {"spec": {"limits": [{"type": "Nope"}]}}),
        (f"{core}/resourcequotas", {"spec": {"hard": {"cpu": "-1"}}}),
        (f"{core}/endpoints", {"subsets": [{"addresses": [{"ip": "x"}], "ports": [{"port": 1}]}]}),
        (f"{core}/replicationcontrollers", {"spec": controller}),
        (f"{hooks}/validatingadmissionpolicies", {"spec": {}}),
        (f"{hooks}/validatingwebhookconfigurations", {"webhooks": [hook]}),
    ):
        real, ours = await beside.both("POST", f"{path}?dryRun=All", {"metadata": {"name": "a"}, **body})
        assert (real.status, ours.status) == (422, 201), path


@pins("what rules in CEL may cost")
async def test_the_cost_of_a_rule_is_not_estimated(beside: Beside) -> None:
    rule = "self.list.all(x, self.list.all(y, x == y))"
    real, ours = await beside.both("POST", f"{DEFINITIONS}?dryRun=All", ruled(rule))
    assert (real.status, ours.status) == (422, 201)
    assert "estimated rule cost exceeds budget" in real.body["message"]


@pins("types in rules in CEL")
async def test_variables_of_macros_have_no_types(beside: Beside) -> None:
    for rule in ("self.few.all(x, x.name > 5)", "self.few.all(x, x.none == 'a')", "['a', 1] == []"):
        real, ours = await beside.both("POST", f"{DEFINITIONS}?dryRun=All", ruled(rule))
        assert (real.status, ours.status) == (422, 201), rule


# ------------------------------------------------------------------------------------------ what is served


@pins("descriptions (`kubectl explain`)")
async def test_no_field_is_described(beside: Beside) -> None:
    real, ours = await beside.both("GET", "/openapi/v3/api/v1")
    fields = [each.body["components"]["schemas"]["io.k8s.api.core.v1.ConfigMap"]["properties"] for each in (real, ours)]
    assert "description" in fields[0]["data"]
    assert "description" not in fields[1]["data"]


@pins("`logs`, `exec`, `attach`, `port-forward`, `proxy`")
async def test_what_would_need_a_running_pod_is_refused(small: Small) -> None:
    await small.create(f"{CORE}/pods", {"metadata": {"name": "a"}, "spec": template()["spec"]})
    for method, part in (
        ("GET", "log"),
        ("POST", "exec"),
        ("POST", "attach"),
        ("POST", "portforward"),
        ("GET", "proxy"),
    ):
        status, told = await small.answer(method, f"{CORE}/pods/a/{part}", {} if method == "POST" else None)
        assert (part, status) == (part, 405), told
    assert (await small.get(f"{CORE}/pods/a/resize"))["kind"] == "Pod"  # that is the Pod, and needs none that runs


@pins("aggregated API servers")
async def test_an_aggregated_server_is_never_asked(small: Small) -> None:
    service = {"name": "metrics", "namespace": "test"}
    spec = {"group": "metrics.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    api_service = {"metadata": {"name": "v1.metrics.example.com"}, "spec": {**spec, "service": service}}
    await small.create("/apis/apiregistration.k8s.io/v1/apiservices", api_service)
    assert (await small.answer("GET", "/apis/metrics.example.com/v1/nodes"))[0] == 404
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    told = await small.api.handle(Request("GET", "/apis", {}, ADMIN, accept=accept))
    (group,) = (one for one in json.loads(told.body)["items"] if one["metadata"]["name"] == "metrics.example.com")
    assert [one.get("freshness") for one in group["versions"]] == ["Stale"]


@pins("bootstrap roles")
async def test_few_roles_are_there_from_the_start(beside: Beside) -> None:
    pair = await beside.both("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles")
    real, ours = ({one["metadata"]["name"] for one in each.body["items"]} for each in pair)
    assert len(real) > 60
    everybody = {"system:basic-user", "system:discovery", "system:public-info-viewer"}
    assert ours == {"admin", "cluster-admin", "edit", "view"} | everybody
    assert ours < real


@pins("`/readyz?verbose` and its like")
async def test_few_things_are_checked(small: Small) -> None:
    _, told = await small.answer("GET", "/readyz?verbose&exclude=log")
    assert told == (
        b"[+]ping ok\n[+]log excluded: ok\n[+]etcd ok\n[+]informer-sync ok\n[+]shutdown ok\nreadyz check passed\n"
    )
    _, told = await small.answer("GET", "/livez?verbose&exclude=x")
    assert told.endswith(b'\nwarn: some health checks cannot be excluded: no matches for "x"\nlivez check passed\n')
    for path, code in (("/healthz", 200), ("/readyz/etcd?verbose", 200), ("/readyz/poststarthook/rbac", 404)):
        assert (await small.answer("GET", path))[0] == code


@pins("priority and fairness")
async def test_flow_schemas_order_nothing(beside: Beside) -> None:
    pair = await beside.both("GET", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas")
    real, ours = (len(each.body["items"]) for each in pair)
    assert real > 10
    assert ours == 0


# ------------------------------------------------------------------------------------------ lists and watches


@pins("a watch from long ago")
async def test_a_watch_from_many_changes_ago(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.HISTORY_MAX == 10_000
    assert store.HISTORY_BYTES_MAX == 64 << 20
    monkeypatch.setattr(store, "HISTORY_MAX", 3)
    before = small.store.version
    for number in range(12):
        await small.create(MAPS, {"metadata": {"name": f"m{number}"}})
    (event,) = await small.watch(f"{MAPS}?resourceVersion={before}", 2)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


@pins("pages of a list")
async def test_a_page_has_what_changed_since_the_first(beside: Beside) -> None:
    path = oracle.CONFIG_MAP.path(beside.namespace)
    for name in ("x-a", "x-b", "x-c"):
        labelled = {"metadata": {"name": name, "labels": {"pages": "1"}}}
        await beside.both("POST", path, labelled)
    pair = await beside.both("GET", f"{path}?labelSelector=pages&limit=1")
    await beside.both("DELETE", f"{path}/x-c")
    going_on = [query(path, labelSelector="pages", **{"continue": each.body["metadata"]["continue"]}) for each in pair]
    real, ours = (await beside.real("GET", going_on[0])), (await beside.ask("GET", going_on[1]))
    assert [one["metadata"]["name"] for one in real.body["items"]] == ["x-b", "x-c"]
    assert [one["metadata"]["name"] for one in ours.body["items"]] == ["x-b"]


@pins("connections at once")
async def test_for_one_connection_too_many_the_oldest_is_ended(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    assert embedded_cluster.CONNECTIONS_MAX == 4_096
    monkeypatch.setattr(embedded_cluster, "CONNECTIONS_MAX", 2)
    asked = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n"
    async with embedded_cluster.serving(small.api) as address, AsyncExitStack() as opened:
        streams = []
        for _ in range(3):
            stream = await opened.enter_async_context(await connected(address))
            await stream.send(asked)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")
            streams.append(stream)
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await streams[0].receive()
        for stream in streams[1:]:
            await stream.send(asked)
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")


@pins("a request line, or a header, of more than 1 MiB")
async def test_a_header_that_is_too_long(small: Small) -> None:
    async with embedded_cluster.serving(small.api) as address, await connected(address) as stream:
        await stream.send(b"GET /version HTTP/1.1\r\nHost: a\r\nA: ")
        with suppress(anyio.BrokenResourceError):
            await stream.send(b"a" * (embedded_cluster.LINE_BYTES_MAX + 100_000) + b"\r\n\r\n")
        assert (await stream.receive()).partition(b" ")[2].startswith(b"400 ")


async def connected(address: str) -> anyio.abc.SocketStream:
    where = urlsplit(address)
    return await anyio.connect_tcp(where.hostname or "", where.port or 0)


@pins("how many objects of a list are left")
async def test_what_is_left_is_not_counted(beside: Beside) -> None:
    path = oracle.SERVICE_ACCOUNT.path(beside.namespace)
    for name in ("x-a", "x-b"):
        await beside.both("POST", path, {"metadata": {"name": name}})
    real, ours = await beside.both("GET", f"{path}?limit=1")
    assert real.body["metadata"]["remainingItemCount"] >= 1
    assert "remainingItemCount" not in ours.body["metadata"]


# ------------------------------------------------------------------------------------------ bodies


@pins("nesting of a body")
async def test_a_deep_body(beside: Beside) -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    path = query(beside.kind.path(beside.namespace), dryRun="All")
    real, ours = await beside.both("POST", path, thing(beside, "deep", free=deep))
    assert (real.status, ours.status) == (201, 400)
    assert "nested too deeply" in ours.body["message"]


@pins("YAML")
async def test_tags_of_yaml(beside: Beside) -> None:
    path = query(oracle.CONFIG_MAP.path(beside.namespace), dryRun="All")
    body = b"metadata: {name: tagged}\nbinaryData: {a: !!binary aGVsbG8=}\n"
    real, ours = await beside.both("POST", path, body, "application/yaml")
    assert ours.status == 400
    assert real.status != ours.status or real.body["message"] != ours.body["message"]


@pins("a list of no webhooks that an update of a webhook configuration gives")
async def test_webhooks_that_are_none(beside: Beside) -> None:
    path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    name = f"none-{uuid.uuid4().hex[:8]}"
    await beside.both("POST", path, {"metadata": {"name": name}, "webhooks": []})
    real, ours = await beside.both("PATCH", f"{path}/{name}", {"webhooks": []}, oracle.MERGE)
    await beside.real("DELETE", f"{path}/{name}")
    assert [each.body["metadata"]["generation"] for each in (real, ours)] == [2, 1]


@pins("whole numbers written with a point (`1.0`)")
async def test_a_whole_number_with_a_point(beside: Beside) -> None:
    path = query(f"/api/v1/namespaces/{beside.namespace}/services", dryRun="All")
    body = b'{"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80.0}]}}'
    real, ours = await beside.both("POST", path, body, "application/json")
    assert (real.status, ours.status) == (400, 201)
    assert ours.body["spec"]["ports"][0]["port"] == 80


@pins("quantities")
async def test_a_quantity_that_is_long(beside: Beside) -> None:
    path = query(f"/api/v1/namespaces/{beside.namespace}/pods", dryRun="All")
    container = {"name": "c", "image": "i", "resources": {"limits": {"cpu": "1" * 401}}}
    real, ours = await beside.both("POST", path, {"metadata": {"name": "a"}, "spec": {"containers": [container]}})
    assert ours.status == 400
    assert "quantities must match" not in str(real.body)


@pins("definitions of custom kinds in protobuf")
async def test_a_definition_in_protobuf(beside: Beside) -> None:
    unknown = b"k8s\x00\x0a\x33\x0a\x17apiextensions.k8s.io/v1\x12\x18CustomResourceDefinition"
    ours = await ask(beside.api, "POST", DEFINITIONS, unknown, "application/vnd.kubernetes.protobuf")
    real = await beside.real("POST", DEFINITIONS, unknown, "application/vnd.kubernetes.protobuf")
    assert ours.status == 415
    assert real.status != 415


# ------------------------------------------------------------------------------------------ controllers


@pins("rollouts")
async def test_a_rollout_makes_all_new_pods_at_once(small: Small) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await deploy(small, replicas=3, strategy=strategy)
    await small.after(READY_S)
    patch = {"spec": {"paused": True, "template": template("web:2")}}
    await small.patch(f"{APPS}/deployments/web", patch)
    await small.settle()
    assert sorted(images(await pods_of(small))) == ["web:1"] * 3 + ["web:2"] * 3
    await small.after(READY_S)
    assert images(await pods_of(small)) == ["web:2"] * 3
    await small.create(f"{APPS}/statefulsets", workload("base", serviceName="base"))
    await small.after(READY_S)
    assert await small.names(f"{APPS}/controllerrevisions") == []


@pins("Jobs with indexes")
async def test_pods_of_a_job_have_no_index(small: Small) -> None:
    spec = {"completions": 2, "completionMode": "Indexed", "template": template(restartPolicy="Never")}
    await small.create(f"{BATCH}/jobs", {"metadata": {"name": "task"}, "spec": spec})
    await small.after(READY_S)
    (pod, *_) = await pods_of(small)
    assert "batch.kubernetes.io/job-completion-index" not in (pod["metadata"].get("annotations") or {})
    assert "completedIndexes" not in (await small.get(f"{BATCH}/jobs/task"))["status"]


@pins("Pods of a workload")
async def test_pods_are_made_up_to_a_limit(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "PODS_OF_ONE_MAX", 2)
    await deploy(small, replicas=3)
    assert len(await pods_of(small)) == 2


@pins("a Pod that is deleted")
async def test_a_pod_is_gone_at_once(small: Small) -> None:
    await small.create(f"{CORE}/pods", {"metadata": {"name": "a"}, "spec": template()["spec"]})
    await small.after(READY_S)
    await small.ask("DELETE", f"{CORE}/pods/a", {"gracePeriodSeconds": 30})
    assert not await small.exists(f"{CORE}/pods/a")


@pins("Endpoints, EndpointSlices, PersistentVolumes, Nodes, Events")
async def test_nobody_makes_endpoints(small: Small) -> None:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    await small.create(f"{CORE}/services", {"metadata": {"name": "web"}, "spec": spec})
    await deploy(small)
    await small.after(READY_S)
    slices = "/apis/discovery.k8s.io/v1/namespaces/test/endpointslices"
    for path in (f"{CORE}/endpoints", slices, "/api/v1/persistentvolumes", "/api/v1/nodes", f"{CORE}/events"):
        assert await small.names(path) == [], path
