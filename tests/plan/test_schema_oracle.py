"""Our verdicts on objects against those of the real API server: what it accepts is never refused."""

import copy
import json
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias

import anyio
import pytest

from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.errors import BadRequestError, ClusterError, ConflictError, InvalidError, NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.objects.kube import KubeObject, canonical_bytes, key_of
from tidelog.engine.plan.draft import Draft
from tidelog.engine.plan.model import Plan, Step, Wanted
from tidelog.engine.verify.schema import Schemas
from tidelog.events.digest import digest_of
from tidelog.events.names import ObjectKey, PlanId, Revision, RunId
from tidelog.events.vocabulary import Verdict

ROUNDS = 240
POD = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {
        "containers": [
            {
                "name": "web",
                "image": "web:1",
                "ports": [{"containerPort": 80, "name": "http"}],
                "env": [
                    {"name": "A", "value": "1"},
                    {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }
        ],
        "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}],
    },
}
SELECTOR = {"matchLabels": {"app": "web"}}


def built_in() -> Iterator[KubeObject]:
    def make(api_version: str, kind: str, **fields: Any) -> KubeObject:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "it"}, **fields}

    yield make("v1", "ConfigMap", data={"a": "b"}, immutable=False)
    yield make("v1", "Secret", stringData={"a": "b"}, type="Opaque")
    yield make("v1", "ServiceAccount", imagePullSecrets=[{"name": "x"}])
    yield make("v1", "Service", spec={"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]})
    yield make(
        "v1",
        "PersistentVolumeClaim",
        spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    )
    yield make("apps/v1", "Deployment", spec={"replicas": 2, "selector": SELECTOR, "template": POD})
    yield make("apps/v1", "StatefulSet", spec={"serviceName": "web", "selector": SELECTOR, "template": POD})
    yield make(
        "apps/v1", "DaemonSet", spec={"selector": SELECTOR, "template": POD, "updateStrategy": {"type": "OnDelete"}}
    )
    batch = copy.deepcopy(POD)
    batch["spec"]["restartPolicy"] = "Never"  # type: ignore[index]
    yield make("batch/v1", "Job", spec={"template": batch, "backoffLimit": 1})
    yield make("batch/v1", "CronJob", spec={"schedule": "@daily", "jobTemplate": {"spec": {"template": batch}}})
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    yield make(
        "networking.k8s.io/v1",
        "Ingress",
        spec={
            "rules": [
                {"host": "a.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
            ]
        },
    )
    yield make("networking.k8s.io/v1", "NetworkPolicy", spec={"podSelector": {}, "policyTypes": ["Ingress"]})
    yield make("policy/v1", "PodDisruptionBudget", spec={"minAvailable": "50%", "selector": SELECTOR})
    yield make(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x"},
        subjects=[{"kind": "ServiceAccount", "name": "x", "namespace": "y"}],
    )
    yield make(
        "rbac.authorization.k8s.io/v1", "Role", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    )
    yield make(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        spec={
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                }
            ],
        },
    )
    yield make("coordination.k8s.io/v1", "Lease", spec={"holderIdentity": "x", "leaseDurationSeconds": 3})


def definition(group: str) -> KubeObject:
    schema = {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size", "mode"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 9},
                    "share": {"type": "number"},
                    "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                    "name": {"type": "string", "maxLength": 5, "minLength": 2, "pattern": "^[[:alpha:]]+$"},
                    "port": {"x-kubernetes-int-or-string": True},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                    "empty": {"type": "string", "nullable": True},
                    "list": {
                        "type": "array",
                        "items": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}},
                    },
                },
            },
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def widget(group: str) -> KubeObject:
    spec = {
        "size": 3,
        "share": 1.5,
        "mode": "b",
        "name": "abc",
        "port": "http",
        "labels": {"a": "b"},
        "free": {"any": [1, "x"]},
        "empty": None,
        "list": [{"id": 1}],
    }
    return {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "it"}, "spec": spec}


# Mutations.

VALUES: tuple[Any, ...] = (
    0,
    7,
    -1,
    2.0,
    2.5,
    "",
    "x",
    "7",
    True,
    False,
    None,
    [],
    ["x"],
    [1],
    {},
    {"x": "y"},
    {"x": 1},
    "1Gi",
)
Path: TypeAlias = tuple[str | int, ...]


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    yield at
    if isinstance(value, dict):
        for name, held in value.items():
            yield from paths(held, (*at, name))
    elif isinstance(value, list):
        for index, held in enumerate(value):
            yield from paths(held, (*at, index))


def mutated(obj: KubeObject, chance: random.Random) -> tuple[KubeObject, str]:
    """The object with one thing of it changed, and what."""
    obj = copy.deepcopy(obj)
    *parents, last = chance.choice(
        [path for path in paths(obj) if path and path[0] not in ("apiVersion", "kind", "metadata")]
    )
    holder: Any = obj
    for part in parents:
        holder = holder[part]
    where = "/".join(map(str, (*parents, last)))
    match chance.randrange(4):
        case 0:
            del holder[last]
            return obj, f"without {where}"
        case 1 if isinstance(holder[last], dict):
            holder[last]["unheard"] = "of"
            return obj, f"{where}/unheard: of"
        case _:
            holder[last] = chance.choice(VALUES)
            return obj, f"{where}: {json.dumps(holder[last])}"


# Verdicts.


def drafted(*objects: KubeObject) -> Draft:
    """A plan that makes the objects, and of which the server was asked nothing."""
    wanted = {}
    for obj in objects:
        key = key_of(obj)
        wanted[key.id] = Wanted(
            key=key, api_version=obj["apiVersion"], digest=digest_of(canonical_bytes(obj)), loaded=obj
        )
    steps = tuple(Step(object=one.key.id, api_version=one.api_version, action="create") for one in wanted.values())
    target = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "a", "b").stream("east")
    plan = Plan(
        id=PlanId("p"), run=RunId("r"), target=target, revision=Revision("main"), set=digest_of(b""), waves=(steps,)
    )
    return Draft(plan=plan, wanted=wanted, probed=None, refused=[], answers={})


async def ours(cluster: Cluster, obj: KubeObject, *others: KubeObject) -> list[Verdict]:
    draft = drafted(obj, *others)
    return (await Schemas.of(cluster, draft)).verdicts(draft.wanted[key_of(obj).id])


async def servers_refusal(cluster: Cluster, namespace: str, obj: KubeObject) -> str:
    """What the server says; empty when it accepts."""
    placed = obj | {"metadata": obj["metadata"] | {"namespace": namespace}}
    try:
        await cluster.apply(placed, manager="test", dry_run=True)
    except (InvalidError, BadRequestError, ConflictError) as error:
        return str(error)
    return ""


@pytest.fixture
async def cluster(kubernetes: Servers) -> AsyncIterator[Cluster]:
    async with open_cluster(kubernetes.kubeconfig) as opened:
        yield opened


@pytest.mark.parametrize("obj", list(built_in()), ids=lambda obj: obj["kind"])
async def test_what_the_server_accepts_of_its_own_kinds_is_not_refused(
    cluster: Cluster, namespace: str, obj: KubeObject, seed: int
) -> None:
    assert await servers_refusal(cluster, namespace, obj) == ""
    assert await ours(cluster, obj) == []
    chance = random.Random(f"{seed} {obj['kind']}")
    refused = 0
    for _ in range(ROUNDS // 8):
        changed, what = mutated(obj, chance)
        verdicts = await ours(cluster, changed)
        if verdicts:
            refused += 1
            assert await servers_refusal(cluster, namespace, changed), f"{what}: {verdicts[0].message}"
    assert refused, "nothing was refused: nothing was checked"


async def test_what_the_server_accepts_of_a_defined_kind_is_not_refused(
    cluster: Cluster, namespace: str, seed: int
) -> None:
    """By the definition in the plan, and by what the server publishes of it."""
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    crd, obj = definition(group), widget(group)
    await cluster.apply(crd, manager="test")
    definitions = await cluster.kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    try:
        await _until_served(cluster, namespace, obj)
        assert await ours(cluster, obj) == await ours(cluster, obj, crd) == []
        chance = random.Random(seed)
        refused = 0
        for _ in range(ROUNDS):
            changed, what = mutated(obj, chance)
            planned, published = await ours(cluster, changed, crd), await ours(cluster, changed)
            refused += bool(planned)
            if planned or published:
                message = (planned or published)[0].message
                assert await servers_refusal(cluster, namespace, changed), f"{what}: {message}"
        assert refused > ROUNDS // 10, "hardly anything was refused: hardly anything was checked"
    finally:
        with anyio.CancelScope(shield=True):
            await cluster.delete(definitions, "", crd["metadata"]["name"])


async def _until_served(cluster: Cluster, namespace: str, obj: KubeObject) -> None:
    with anyio.fail_after(30):
        while True:
            cluster.forget_kinds()
            try:
                refusal = await servers_refusal(cluster, namespace, obj)
            except (NotFoundError, ClusterError):
                refusal = "not yet"
            if not refusal and await cluster.openapi(obj["apiVersion"].partition("/")[0], "v1"):
                return
            await anyio.sleep(0.1)


async def test_what_does_not_fit_the_servers_own_type_is_the_objects_fault(cluster: Cluster, namespace: str) -> None:
    """The server says so with HTTP 500, as if it were its own."""
    service = next(obj for obj in built_in() if obj["kind"] == "Service")
    service["spec"]["ports"][0]["targetPort"] = {"x": 1}
    service["metadata"]["namespace"] = namespace
    with pytest.raises(InvalidError, match="cannot unmarshal object"):
        await cluster.apply(service, manager="test", dry_run=True)


async def test_a_field_that_is_required_and_has_a_default_may_be_missing(cluster: Cluster) -> None:
    crd, obj = definition("example.com"), widget("example.com")
    del obj["spec"]["mode"]
    assert await ours(cluster, obj, crd) == []
    del obj["spec"]["size"]
    (verdict,) = await ours(cluster, obj, crd)
    assert (verdict.path, verdict.check, verdict.passed) == ("spec.size", "schema", False)
    assert verdict.message.endswith("spec.size is required, and missing")


async def test_a_pattern_is_left_to_the_server(cluster: Cluster) -> None:
    """Go reads it otherwise, and one that Python reads for ever would stop the engine."""
    crd, obj = definition("example.com"), widget("example.com")
    version = crd["spec"]["versions"][0]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["name"] = {
        "type": "string",
        "pattern": "^(a+)+$",
    }
    obj["spec"]["name"] = "a" * 60 + "!"
    assert await ours(cluster, obj, crd) == []
