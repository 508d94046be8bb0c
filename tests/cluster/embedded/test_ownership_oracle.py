"""Who owns what after random requests, held to the real API server.

Each step starts from the object that the server itself has, so that neither defaults nor earlier mistakes play a part.
"""

import copy
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.oracle import Client, Json, Kind, query
from tests.conftest import SOAK
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded import fieldsets, managers
from tidelog.engine.cluster.embedded.merging import compare
from tidelog.engine.cluster.embedded.ownership import LAST_APPLIED, AppliedError, FieldConflictsError, apply, update
from tidelog.engine.cluster.embedded.patches import PatchError, json_patch, merge_patch, strategic_merge_patch
from tidelog.engine.cluster.embedded.registry import facts, schema_of_kind
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.objects.kube import group_of
from tidelog.engine.objects.managed_fields import union

PARTS = 4
SEQUENCES = 2_000 // PARTS if SOAK else 100 // PARTS
STEPS = 8
NOW = "2030-01-01T00:00:00Z"
MANAGERS = ("a", "b", "c", "kubectl")
_metadata = ("resourceVersion", "generation", "managedFields", "creationTimestamp", "uid")


@pytest.fixture(scope="session")
def custom(kubernetes: Servers) -> Iterator[Kind]:
    """A custom kind of this worker's own; its definition is deleted afterwards."""
    group = f"g{uuid.uuid4().hex[:12]}.example.com"
    kind, definitions = oracle.custom_kind(group), "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert kubernetes.request("POST", definitions, oracle.definition(group)).status == 201
    until = time.monotonic() + 20
    while kubernetes.request("GET", kind.path("default")).status != 200:
        assert time.monotonic() < until
        time.sleep(0.1)
    yield kind
    kubernetes.request("DELETE", f"{definitions}/things.{group}")


@pytest.fixture
def client(kubernetes: Servers) -> Iterator[Client]:
    with Client(kubernetes) as made:
        yield made


def schema_of(kind: Kind) -> Schema:
    if not kind.is_custom:
        return schema_of_kind(group_of(kind.api_version), kind.api_version.rpartition("/")[2], kind.kind)
    text = {"type": "string"}
    meta = {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    properties = {**oracle.CUSTOM_SCHEMA["properties"], "apiVersion": text, "kind": text, "metadata": meta}
    return Schema({**oracle.CUSTOM_SCHEMA, "properties": properties}, facts().types)


class Sequence:
    """Random requests on one object, one after another."""

    def __init__(self, client: Client, namespace: str, kind: Kind, chance: random.Random, name: str) -> None:
        self.client, self.kind, self.chance = client, kind, chance
        self.schema = schema_of(kind)
        self.name = name
        self.collection = kind.path(namespace)
        self.path = kind.path(namespace, name)
        self.live: Json | None = None
        self.reset: Json = {"f:status": {}} if kind.status else {}
        self.steps: list[Any] = []

    def run(self) -> None:
        try:
            for _ in range(STEPS):
                self.step()
        except Exception as error:
            error.add_note("\n".join(map(str, self.steps[-3:])))
            error.add_note(f"live: {self.live}")
            raise

    def step(self) -> None:
        if self.live is None:
            choice = self.chance.choice([self.apply, self.create])
        else:
            status = [self.apply_status, self.replace_status] if self.kind.status else []
            choice = self.chance.choice(
                [self.apply] * 4 + [self.patch] * 4 + [self.replace, self.reset_managers, *status]
            )
        choice()
        answer = self.client.request("GET", self.path)
        self.live = answer.body if answer.status == 200 else None

    def apply(self) -> None:
        applied = self.kind.made(self.chance, self.name)
        if self.chance.random() < 0.1:
            applied = oracle.spoiled(self.chance, applied)
        self.applied(applied, self.path, "", self.reset)

    def apply_status(self) -> None:
        assert self.kind.status
        applied = {
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "metadata": {"name": self.name},
            **self.kind.status(self.chance),
        }
        reset: Json = {"f:spec": {}}
        self.applied(applied, self.path + "/status", "status", reset)

    def applied(self, applied: Json, path: str, subresource: str, reset: Json) -> None:
        manager, force = self.chance.choice(MANAGERS), self.chance.random() < 0.4
        asked = query(path, fieldManager=manager, force=str(force).lower())
        answer = self.client.request("PATCH", asked, applied, oracle.APPLY)
        self.steps += ["apply", asked, applied, answer]
        before = copy.deepcopy((self.live, applied))
        found: Any
        try:
            found = apply(
                self.live,
                applied,
                self.schema,
                manager=manager,
                force=force,
                now=NOW,
                subresource=subresource,
                reset=reset,
            )
        except FieldConflictsError as error:
            found = error
        except AppliedError as error:
            found = error
        assert before == (self.live, applied), "changed in place"
        if answer.status in (200, 201):
            assert isinstance(found, dict), found
            self.check_merged(found, answer.body)
            self.check_managers(found, answer.body)
        elif answer.status == 409:
            assert isinstance(found, FieldConflictsError), found
            check_conflicts(found, answer.body)
        elif answer.status == 422:
            assert isinstance(found, dict), found
        else:
            assert isinstance(found, AppliedError), (answer, found)
            assert answer.body["message"] == str(found)

    def create(self) -> None:
        manager = self.chance.choice("uvw")
        made = self.kind.made(self.chance, self.name)
        answer = self.client.request("POST", query(self.collection, fieldManager=manager), made)
        self.steps += ["create", made, answer]
        if answer.status == 201:
            self.updated(manager, as_owned(made, answer.body), answer.body)

    def replace(self) -> None:
        assert self.live
        manager = self.chance.choice("uvw")
        new = {**self.live, **self.kind.made(self.chance, self.name)}
        new["metadata"] = {**self.live["metadata"], **new["metadata"]}
        del new["metadata"]["managedFields" if "managedFields" in new["metadata"] else "name"]
        new["metadata"]["name"] = self.name
        answer = self.client.request("PUT", query(self.path, fieldManager=manager), new)
        self.steps += ["replace", new, answer]
        if answer.status == 200:
            self.updated(manager, as_owned(new, answer.body), answer.body)

    def patch(self) -> None:
        assert self.live
        sent: Any = self.kind.made(self.chance, self.name)
        content_type = self.chance.choice([oracle.MERGE, oracle.JSON_PATCH, oracle.STRATEGIC])
        live = self.live
        if content_type == oracle.MERGE:
            sent = oracle.nulled(self.chance, sent) | {"kind": self.kind.kind}
            sent.pop("metadata") if self.chance.random() < 0.5 else sent.update(metadata={"labels": None})
            sent.pop("apiVersion")
        elif content_type == oracle.STRATEGIC:
            sent = oracle.with_directives(self.chance, self.kind.body(self.chance), self.schema)
        else:
            sent = oracle.operations(self.chance, unset(live), sent)
        manager = self.chance.choice("uvw")
        answer = self.client.request("PATCH", query(self.path, fieldManager=manager), sent, content_type)
        self.steps += [content_type, sent, answer]
        before = copy.deepcopy((live, sent))
        patched: Any
        try:
            patched = {
                oracle.MERGE: lambda: merge_patch(live, sent),
                oracle.JSON_PATCH: lambda: json_patch(live, sent),
                oracle.STRATEGIC: lambda: strategic_merge_patch(live, sent, self.schema),
            }[content_type]()
        except PatchError as error:
            patched = error
        assert before == (live, sent), "changed in place"
        if isinstance(patched, PatchError):
            # Of several mistakes the server finds the one that a Go map shows first: now this one, now that.
            for _ in range(50):
                if answer.status == 415 or (answer.status, answer.body["message"]) == (patched.code, patched.message):
                    break
                answer = self.client.request("PATCH", query(self.path, fieldManager=manager), sent, content_type)
            else:
                raise AssertionError(f"{patched.code} {patched.message}")
        elif answer.status == 200:
            merged, stored = (written(self.schema, unset(each)) for each in (patched, answer.body))
            assert_within(merged, stored)
            self.updated(manager, as_owned(patched, answer.body), answer.body)

    def replace_status(self) -> None:
        assert self.live
        assert self.kind.status
        manager = self.chance.choice("uvw")
        new = {**self.live, **self.kind.status(self.chance)}
        answer = self.client.request("PUT", query(self.path + "/status", fieldManager=manager), new)
        self.steps += ["replace status", new, answer]
        if answer.status == 200:
            self.updated(manager, as_owned(new, answer.body), answer.body, "status", {"f:spec": {}})

    def reset_managers(self) -> None:
        assert self.live
        manager = self.chance.choice("uvw")
        entries = self.live["metadata"].get("managedFields", [])
        sent = self.chance.choice([[], [{}], entries[:1], [{"manager": "x", "operation": "Nonsense"}]])
        body = self.chance.choice([{}, {"labels": {"changed": self.chance.choice("123")}}])
        patch = {"metadata": {**body, "managedFields": sent}}
        answer = self.client.request("PATCH", query(self.path, fieldManager=manager), patch, oracle.MERGE)
        self.steps += ["reset", patch, answer]
        if answer.status == 200:
            metadata = {**answer.body["metadata"], "managedFields": sent}
            self.updated(manager, {**answer.body, "metadata": metadata}, answer.body)

    def updated(self, manager: str, new: Json, answer: Json, subresource: str = "", reset: Json | None = None) -> None:
        before = copy.deepcopy((self.live, new))
        found = update(
            self.live,
            new,
            self.schema,
            manager=manager,
            now=NOW,
            subresource=subresource,
            reset=self.reset if reset is None else reset,
        )
        assert before == (self.live, new), "changed in place"
        self.check_managers(found, answer)

    def check_managers(self, found: Json, answer: Json) -> None:
        ours, theirs = (each["metadata"].get("managedFields", []) for each in (found, answer))
        assert timeless(ours) == timeless(theirs)
        assert managers.encoded(managers.decoded(theirs)) == theirs

    def check_merged(self, found: Json, answer: Json) -> None:
        """What we have merged is what the server has; what it has beyond that are defaults, which nobody owns."""
        merged, stored = (written(self.schema, unset(each)) for each in (found, answer))
        removed, modified, added = compare(self.schema, merged, stored)
        assert not removed
        assert not modified
        assert_within(merged, stored)
        owned: Json = {}
        for each in managers.of_live(answer).values():
            owned = union(owned, each.fields)
        assert not fieldsets.intersection(added, owned)


def as_owned(sent: Json, answer: Json) -> Json:
    """What the server has when it asks who owns what: the answer, less what comes later."""
    new = copy.deepcopy(answer)
    new["metadata"].pop("managedFields", None)
    if answer["kind"] == "Service":
        for name in {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} - set(sent.get("spec") or ()):
            new["spec"].pop(name, None)
    if answer["kind"] == "PersistentVolumeClaim":
        new["metadata"].pop("finalizers", None)
    if sent.get("rules") == []:  # null once it is stored
        new["rules"] = []
    return new


def assert_within(one: Any, other: Any, path: str = "") -> None:
    """That all of `one` is in `other`, lists item by item; less nulls, which go, or give place to a default."""
    if one is None:
        return
    if isinstance(one, dict):
        assert isinstance(other, dict), path
        for name, each in one.items():
            assert each is None or name in other, f"{path}.{name}"
            assert_within(each, other.get(name), f"{path}.{name}")
    elif isinstance(one, list):
        assert isinstance(other, list), path
        assert len(one) == len(other), f"{path}: {one} {other}"
        for place, (each, its) in enumerate(zip(one, other, strict=True)):
            assert_within(each, its, f"{path}[{place}]")
    else:
        assert one == other, path


def unset(obj: Json) -> Json:
    """Less what the server itself sets."""
    metadata = {name: each for name, each in obj["metadata"].items() if name not in _metadata}
    return {**obj, "metadata": metadata}


def written(schema: Schema, obj: Json) -> Json:
    """As the server stores it: what is known; and of Go structs, such as metadata, without what is empty."""
    known: Json = pruned(schema, obj)
    return without_empty(known) if schema.is_builtin else {**known, "metadata": without_empty(known["metadata"])}


def pruned(schema: Schema, value: Any) -> Any:
    """Less fields that are not in the schema, and nulls: they go, or give place to a default."""
    if isinstance(value, list):
        return [pruned(schema.items, each) for each in value]
    if not isinstance(value, dict):
        return value
    children = {name: schema.at(name) for name in value}
    return {
        name: pruned(child, value[name])
        for name, child in children.items()
        if child is not None and value[name] is not None
    }


def without_empty(value: Json) -> Json:
    return {name: each for name, each in ((n, _less(v)) for n, v in value.items()) if each}


def _less(value: Any) -> Any:
    if isinstance(value, list):
        return [_less(each) for each in value]
    return without_empty(value) if isinstance(value, dict) else value


def timeless(entries: list[Json]) -> list[Any]:
    """Entries less their times, but with whether there is one."""
    found = [{**entry, "time": "time" in entry} for entry in entries]
    return sorted(found, key=lambda entry: fieldsets.go_json({**entry, "fieldsV1": {}}))


def check_conflicts(found: FieldConflictsError, answer: Json) -> None:
    theirs = answer["details"]["causes"]
    assert sorted(map(str, found.causes())) == sorted(map(str, theirs))
    # The server goes through managers in the order of a Go map.
    assert sorted(found.message.split("\n")) == sorted(answer["message"].split("\n"))


@pytest.mark.slow
@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("part", range(PARTS))
def test_who_owns_what_after_random_requests_is_as_on_the_real_server(
    client: Client, namespace: str, custom: Kind, oracle_seed: int, part: int
) -> None:
    for number in range(SEQUENCES):
        chance = random.Random(f"{oracle_seed} {part} {number}")
        kind = chance.choice([*oracle.BUILT_IN, custom, custom, custom])
        sequence = Sequence(client, namespace, kind, chance, f"s{number}")
        sequence.run()


_pod: Json = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
_job = {"metadata": {}, "spec": {**_pod["spec"], "restartPolicy": "Never"}}
_labels = {"matchLabels": {"a": "b"}}
_v1, _apps, _batch = "/api/v1", "/apis/apps/v1", "/apis/batch/v1"
_networking, _rbac = "/apis/networking.k8s.io/v1", "/apis/rbac.authorization.k8s.io/v1"
CREATED: dict[str, tuple[str, Json]] = {
    "Deployment": (_apps, {"spec": {"selector": _labels, "template": _pod}}),
    "StatefulSet": (_apps, {"spec": {"selector": _labels, "template": _pod, "serviceName": "s"}}),
    "DaemonSet": (_apps, {"spec": {"selector": _labels, "template": _pod}}),
    "ReplicaSet": (_apps, {"spec": {"selector": _labels, "template": _pod}}),
    "ReplicationController": (_v1, {"spec": {"selector": {"a": "b"}, "template": _pod}}),
    "CronJob": (_batch, {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": _job}}}}),
    "ConfigMap": (_v1, {"data": {"a": "1"}, "immutable": True}),
    "Secret": (_v1, {"stringData": {"a": "1"}, "data": {"b": "Mg=="}}),
    "ServiceAccount": (_v1, {}),
    "LimitRange": (_v1, {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}}),
    "ResourceQuota": (_v1, {"spec": {"hard": {"cpu": "1"}}}),
    "PersistentVolumeClaim": (
        _v1,
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    ),
    "Endpoints": (_v1, {"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
    "NetworkPolicy": (_networking, {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
    "Ingress": (_networking, {"spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 1}}}}}),
    "Role": (_rbac, {"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}),
    "RoleBinding": (
        _rbac,
        {
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}],
        },
    ),
    "PodDisruptionBudget": ("/apis/policy/v1", {"spec": {"minAvailable": 1, "selector": _labels}}),
    "HorizontalPodAutoscaler": (
        "/apis/autoscaling/v2",
        {"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}},
    ),
    "Lease": ("/apis/coordination.k8s.io/v1", {"spec": {"holderIdentity": "a"}}),
    "EndpointSlice": (
        "/apis/discovery.k8s.io/v1",
        {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]},
    ),
}


@pytest.mark.parametrize("kind", CREATED)
def test_a_create_of_a_built_in_kind_owns_what_it_owns_on_the_real_server(
    client: Client, namespace: str, kind: str
) -> None:
    prefix, body = CREATED[kind]
    plural = next(
        each["name"]
        for each in client.request("GET", prefix).body["resources"]
        if each["kind"] == kind and "/" not in each["name"]
    )
    path = f"{prefix}/namespaces/{namespace}/{plural}"
    made = {"metadata": {"name": "x"}, **body}
    asked = query(path, fieldManager="u", dryRun="All")
    answer = client.request("POST", asked, made)
    assert answer.status == 201, answer
    version = prefix.removeprefix("/apis/").removeprefix("/api/")
    schema = schema_of_kind(group_of(version), version.rpartition("/")[2], kind)
    found = update(None, as_owned(made, answer.body), schema, manager="u", now=NOW, reset={"f:status": {}})
    ours, theirs = (each["metadata"].get("managedFields", []) for each in (found, answer.body))
    assert timeless(ours) == timeless(theirs)


def test_the_oldest_of_many_updaters_are_put_together_as_on_the_real_server(client: Client, namespace: str) -> None:
    path = oracle.CONFIG_MAP.path(namespace, "many")
    schema = schema_of(oracle.CONFIG_MAP)
    live = client.request(
        "POST",
        query(oracle.CONFIG_MAP.path(namespace), fieldManager="u0"),
        {"metadata": {"name": "many"}, "data": {"a": "1"}},
    ).body
    for number in range(25):
        patch = {"data": {f"k{number}": "1"}}
        manager = f"u{number}"
        answer = client.request("PATCH", query(path, fieldManager=manager), patch, oracle.MERGE).body
        now = answer["metadata"]["managedFields"][-1]["time"]
        found = update(live, as_owned({}, answer), schema, manager=manager, now=now)
        assert found["metadata"]["managedFields"] == answer["metadata"]["managedFields"]
        live = answer


@pytest.mark.parametrize("manager", ["kubectl", "other"])
@pytest.mark.parametrize("changed", [False, True])
def test_kubectl_takes_over_what_it_applied_before_servers_could_as_on_the_real_server(
    client: Client, namespace: str, manager: str, *, changed: bool
) -> None:
    path = oracle.CONFIG_MAP.path(namespace, "old")
    schema = schema_of(oracle.CONFIG_MAP)
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "old"}, "data": {"a": "1", "b": "<1>"}}
    annotations = {LAST_APPLIED: fieldsets.go_json(obj)}
    old = {**obj, "metadata": {"name": "old", "annotations": annotations}}
    live = client.request(
        "POST", query(oracle.CONFIG_MAP.path(namespace), fieldManager="kubectl-client-side-apply"), old
    ).body
    if changed:
        patch = {"data": {"a": "other"}}
        live = client.request("PATCH", query(path, fieldManager="kubectl-edit"), patch, oracle.MERGE).body
    applied = {**obj, "metadata": {"name": "old", "annotations": {"x": "&"}}, "data": {"a": "2", "b": "2"}}
    answer = client.request("PATCH", query(path, fieldManager=manager), applied, oracle.APPLY)
    if manager == "other" or changed:
        assert answer.status == 409
        with pytest.raises(FieldConflictsError) as caught:
            apply(live, applied, schema, manager=manager, force=False, now=NOW)
        check_conflicts(caught.value, answer.body)
        return
    found = apply(live, applied, schema, manager=manager, force=False, now=NOW)
    assert timeless(found["metadata"]["managedFields"]) == timeless(answer.body["metadata"]["managedFields"])
    assert found["data"] == answer.body["data"]
    assert found["metadata"]["annotations"] == answer.body["metadata"]["annotations"]


MEMBERS: list[tuple[str, Json]] = [
    ("added", {"finalizers": ["x/d", "x/a"]}),
    ("deleted", {"$deleteFromPrimitiveList/finalizers": ["x/a", "x/z"]}),
    ("deleted from none", {"$deleteFromPrimitiveList/nothing": ["x/a"]}),
    ("ordered", {"$setElementOrder/finalizers": ["x/c", "x/a"]}),
    ("added in order", {"finalizers": ["x/d"], "$setElementOrder/finalizers": ["x/d", "x/c", "x/b", "x/a"]}),
    ("in no such order", {"finalizers": ["x/d", "x/a"], "$setElementOrder/finalizers": ["x/a", "x/d"]}),
    (
        "deleted and ordered",
        {"$deleteFromPrimitiveList/finalizers": ["x/a"], "$setElementOrder/finalizers": ["x/c", "x/b"]},
    ),
    ("none", {"finalizers": None}),
    ("empty", {"finalizers": []}),
    ("twice", {"finalizers": ["x/d", "x/d", "x/a"]}),
    ("a bad order", {"$setElementOrder/finalizers": "x"}),
    ("a bad directive", {"$setElementOrderfinalizers": ["x"]}),
    ("a bad deletion", {"$deleteFromPrimitiveListfinalizers": ["x/a"]}),
    ("retained", {"labels": {"c": "1", "$retainKeys": ["c"]}}),
    ("badly retained", {"labels": {"c": "1", "$retainKeys": ["d"]}}),
    ("replaced", {"labels": {"$patch": "replace", "c": "1"}}),
    ("cleared", {"labels": {"$patch": "delete"}}),
    ("with nonsense", {"labels": {"$patch": "nonsense"}}),
    ("new and deleted", {"annotations": {"$patch": "delete", "a": "1"}}),
    ("new with null", {"annotations": {"a": None, "b": "1"}}),
]


def test_members_of_lists_are_patched_as_on_the_real_server(client: Client, namespace: str) -> None:
    metadata = {"name": "members", "finalizers": ["x/a", "x/b", "x/c"], "labels": {"a": "1", "b": "2"}}
    live = client.request("POST", oracle.CONFIG_MAP.path(namespace), {"metadata": metadata}).body
    path = oracle.CONFIG_MAP.path(namespace, "members")
    schema = schema_of(oracle.CONFIG_MAP)
    try:
        for what, patch in MEMBERS:
            answer = client.request("PATCH", query(path, dryRun="All"), {"metadata": patch}, oracle.STRATEGIC)
            try:
                found = strategic_merge_patch(live, {"metadata": patch}, schema)
            except PatchError as error:
                assert (what, error.code, error.message) == (what, answer.status, answer.body["message"])  # noqa: PT017
                continue
            assert answer.status == 200, (what, answer)
            ours, theirs = (written(schema, unset(each)) for each in (found, answer.body))
            assert (what, ours) == (what, theirs)
    finally:
        client.request("PATCH", path, {"metadata": {"finalizers": None}}, oracle.MERGE)
