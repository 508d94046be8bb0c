"""Tables, held to a real API server: the columns of every kind, and the cells of objects in many states."""

import base64
import copy
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster.embedded import custom_kinds
from tests.cluster.embedded.custom_kinds import Raw
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded import definitions, tables
from tidelog.engine.cluster.embedded.api_services import AUTOMANAGED
from tidelog.engine.cluster.embedded.registry import Registry, Resource
from tidelog.engine.objects.kube import KubeObject

AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
LIMIT_S = 30
CONTROLLER_S = 20.0
REVISIONS = ("apps", "v1", "controllerrevisions")
LONG_AGO = "2024-01-01T00:00:00Z"
LABELS = {"app": "web", "tier": "front"}
SELECTOR: Raw = {"matchLabels": LABELS, "matchExpressions": [{"key": "env", "operator": "In", "values": ["b", "a"]}]}
TEMPLATE: Raw = {
    "metadata": {"labels": LABELS | {"env": "a"}},
    "spec": {"containers": [{"name": "web", "image": "web:1"}, {"name": "side", "image": "side:2"}]},
}


def waiting(reason: str) -> Raw:
    return {"waiting": {"reason": reason}}


def container(name: str, state: Raw, *, ready: bool = False, restarts: int = 0, **more: Any) -> Raw:
    return {"name": name, "image": "x", "imageID": "", "ready": ready, "restartCount": restarts, "state": state, **more}


ENDED: Raw = {"terminated": {"exitCode": 0, "reason": "Completed"}}
FAILED: Raw = {"terminated": {"exitCode": 1}}
RUNNING: Raw = {"running": {}}
POD_STATES: list[Raw] = [
    {},
    {"phase": "Pending"},
    {
        "phase": "Running",
        "containerStatuses": [
            container("web", RUNNING, ready=True),
            container("side", waiting("CrashLoopBackOff"), restarts=3),
        ],
    },
    {
        "phase": "Running",
        "podIPs": [{"ip": "10.0.0.1"}],
        "podIP": "10.0.0.1",
        "containerStatuses": [
            container(
                "web",
                RUNNING,
                ready=True,
                restarts=2,
                lastState={"terminated": {"exitCode": 1, "finishedAt": LONG_AGO}},
            )
        ],
    },
    {"phase": "Succeeded", "containerStatuses": [container("web", ENDED)]},
    {"phase": "Failed", "reason": "Evicted"},
    {"phase": "Failed", "containerStatuses": [container("web", FAILED)]},
    {"phase": "Running", "containerStatuses": [container("web", ENDED), container("side", RUNNING, ready=True)]},
    {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [container("web", RUNNING, ready=True), container("side", ENDED)],
    },
    {"phase": "Pending", "initContainerStatuses": [container("init", waiting("ImagePullBackOff"))]},
    {
        "phase": "Pending",
        "initContainerStatuses": [container("init", {"terminated": {"exitCode": 2, "signal": 9}}, restarts=1)],
    },
    {"phase": "Pending", "initContainerStatuses": [container("init", RUNNING)]},
    {
        "phase": "Running",
        "initContainerStatuses": [
            container("init", ENDED),
            container("sidecar", RUNNING, ready=True, started=True, restarts=1),
        ],
        "containerStatuses": [container("web", RUNNING, ready=True)],
    },
]


def pod(state: Raw, number: int) -> tuple[str, str, KubeObject]:
    init = [{"name": "init", "image": "i"}, {"name": "sidecar", "image": "s", "restartPolicy": "Always"}]
    spec = {**TEMPLATE["spec"], **({"initContainers": init} if "initContainerStatuses" in state else {})}
    if number % 2:
        spec |= {"nodeName": f"node-{number}", "readinessGates": [{"conditionType": "a.b/c"}]}
    return "v1", "pods", {"metadata": {"name": f"p{number}"}, "spec": spec, "status": state}


def job(number: int, spec: Raw, status: Raw) -> tuple[str, str, KubeObject]:
    template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
    return (
        "batch/v1",
        "jobs",
        {"metadata": {"name": f"j{number}"}, "spec": {"suspend": True, "template": template, **spec}, "status": status},
    )


def named(api: str, plural: str, name: str, **more: Any) -> tuple[str, str, KubeObject]:
    return api, plural, {"metadata": {"name": name}, **more}


METRICS: list[Raw] = [
    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
    {"type": "Pods", "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
]


def reaching(*addresses: str, ports: list[int]) -> Raw:
    return {"addresses": [{"ip": one} for one in addresses], "ports": [{"name": f"p{n}", "port": n} for n in ports]}


OBJECTS: list[tuple[str, str, KubeObject]] = [
    ("v1", "endpoints", {"metadata": {"name": "none"}}),
    ("v1", "endpoints", {"metadata": {"name": "bare"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]}),
    (
        "v1",
        "endpoints",
        {
            "metadata": {"name": "few"},
            "subsets": [reaching("10.0.0.1", ports=[80, 81]), reaching("fd00::1", ports=[1])],
        },
    ),
    (
        "v1",
        "endpoints",
        {"metadata": {"name": "many"}, "subsets": [reaching("10.0.0.1", "10.0.0.2", "10.0.0.3", ports=[80, 81])]},
    ),
    ("v1", "podtemplates", {"metadata": {"name": "t"}, "template": TEMPLATE}),
    *(pod(state, number) for number, state in enumerate(POD_STATES)),
    named("apps/v1", "deployments", "d", spec={"replicas": 0, "selector": SELECTOR, "template": TEMPLATE}),
    named("apps/v1", "replicasets", "r", spec={"replicas": 0, "selector": SELECTOR, "template": TEMPLATE}),
    named(
        "apps/v1",
        "statefulsets",
        "s",
        spec={"replicas": 0, "serviceName": "s", "selector": SELECTOR, "template": TEMPLATE},
    ),
    named(
        "apps/v1",
        "daemonsets",
        "d",
        spec={
            "selector": SELECTOR,
            "template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "nodeSelector": {"b": "2", "a": "1"}}},
        },
    ),
    named("v1", "replicationcontrollers", "r", spec={"replicas": 0, "selector": LABELS, "template": TEMPLATE}),
    job(1, {}, {}),
    job(2, {"parallelism": 3}, {}),
    job(3, {"completions": 4, "parallelism": 2}, {}),
    *(
        named(
            "batch/v1",
            "cronjobs",
            name,
            spec={
                "schedule": "@daily",
                "suspend": True,
                "jobTemplate": {"spec": {"template": {"spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}},
                **more,
            },
        )
        for name, more in (("a", {}), ("b", {"timeZone": "Etc/UTC"}))
    ),
    named(
        "v1",
        "services",
        "a",
        spec={"selector": LABELS, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"}]},
    ),
    named("v1", "services", "b", spec={"type": "NodePort", "ports": [{"port": 80}], "externalIPs": ["1.2.3.4"]}),
    named(
        "v1",
        "services",
        "c",
        spec={"type": "LoadBalancer", "ports": [{"port": 80}]},
        status={"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"hostname": "a.b"}]}},
    ),
    named("v1", "services", "d", spec={"type": "LoadBalancer", "ports": [{"port": 80}]}),
    named("v1", "services", "e", spec={"type": "ExternalName", "externalName": "a.b"}),
    named("v1", "services", "f", spec={"clusterIP": "None"}),
    named(
        "networking.k8s.io/v1",
        "ingresses",
        "a",
        spec={"defaultBackend": {"service": {"name": "x", "port": {"number": 80}}}},
    ),
    named(
        "networking.k8s.io/v1",
        "ingresses",
        "b",
        spec={"ingressClassName": "nginx", "tls": [{}], "rules": [{"host": f"{c}.example.org"} for c in "abcde"]},
        status={"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}]}},
    ),
    named("v1", "configmaps", "c", data={"a": "1", "b": "2"}, binaryData={"c": "YQ=="}),
    named("v1", "secrets", "s", data={"a": "YQ=="}),
    named("v1", "serviceaccounts", "s"),
    named(
        "v1",
        "persistentvolumeclaims",
        "a",
        spec={"accessModes": ["ReadWriteMany", "ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    ),
    named(
        "v1",
        "persistentvolumeclaims",
        "b",
        spec={
            "storageClassName": "fast",
            "volumeName": "v",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
        status={"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]},
    ),
    named(
        "v1",
        "events",
        "a",
        involvedObject={"kind": "Pod", "name": "p", "fieldPath": "spec"},
        reason="R",
        message=" m \n",
        type="Normal",
        firstTimestamp=LONG_AGO,
        lastTimestamp=LONG_AGO,
        count=3,
        source={"component": "c", "host": "h"},
    ),
    named(
        "v1",
        "events",
        "b",
        involvedObject={"kind": "Node"},
        eventTime="2024-01-01T00:00:00.000000Z",
        reportingComponent="x.y/c",
        reportingInstance="i",
        action="A",
        reason="R",
        type="Warning",
    ),
    named(
        "autoscaling/v2",
        "horizontalpodautoscalers",
        "a",
        spec={
            "maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
            "metrics": METRICS,
        },
    ),
    named(
        "autoscaling/v2",
        "horizontalpodautoscalers",
        "b",
        spec={
            "minReplicas": 2,
            "maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
        },
    ),
    named("policy/v1", "poddisruptionbudgets", "a", spec={"minAvailable": "50%", "selector": SELECTOR}),
    named("policy/v1", "poddisruptionbudgets", "b", spec={"maxUnavailable": 1}),
    named("rbac.authorization.k8s.io/v1", "roles", "r", rules=[]),
    named(
        "rbac.authorization.k8s.io/v1",
        "rolebindings",
        "b",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        subjects=[
            {"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"},
            {"kind": "Group", "name": "g", "apiGroup": "rbac.authorization.k8s.io"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
        ],
    ),
    named("networking.k8s.io/v1", "networkpolicies", "a", spec={"podSelector": SELECTOR}),
    named("networking.k8s.io/v1", "networkpolicies", "b", spec={"podSelector": {}}),
    named("coordination.k8s.io/v1", "leases", "l", spec={"holderIdentity": "me"}),
    named(
        "discovery.k8s.io/v1",
        "endpointslices",
        "a",
        addressType="IPv4",
        endpoints=[{"addresses": [f"10.0.0.{i}"]} for i in range(1, 6)],
        ports=[{"port": 80}, {"name": "x", "port": 81}],
    ),
    named("discovery.k8s.io/v1", "endpointslices", "b", addressType="IPv6", endpoints=[], ports=[]),
]
ADMISSION = "admissionregistration.k8s.io/v1"
WEBHOOKS: list[Raw] = [
    {
        "name": f"{name}.hooks.example",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "clientConfig": {"url": "https://hooks.example/a"},
        "rules": [{"apiGroups": ["no.example"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}],
    }
    for name in "ab"
]
POLICY: Raw = {
    "failurePolicy": "Ignore",
    "matchConstraints": {
        "resourceRules": [
            {"apiGroups": ["no.example"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}
        ]
    },
    "validations": [{"expression": "true"}, {"expression": "1 < 2"}],
}


def signing_request() -> Raw:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    text = base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode()
    return {"request": text, "signerName": "a.example/signer", "usages": ["client auth"]}


CLUSTER_WIDE: list[tuple[str, str, KubeObject]] = [
    named(
        "v1",
        "nodes",
        "a",
        status={
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": dict.fromkeys(
                (
                    "machineID",
                    "systemUUID",
                    "bootID",
                    "kernelVersion",
                    "osImage",
                    "containerRuntimeVersion",
                    "kubeletVersion",
                    "kubeProxyVersion",
                    "operatingSystem",
                    "architecture",
                ),
                "x",
            ),
        },
    ),
    (
        "v1",
        "nodes",
        {
            "metadata": {
                "name": "b",
                "labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "x"},
            },
            "spec": {"unschedulable": True},
        },
    ),
    named(
        "v1",
        "persistentvolumes",
        "v",
        spec={
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/x"},
            "storageClassName": "none",
            "claimRef": {"namespace": "n", "name": "c"},
        },
    ),
    (
        "storage.k8s.io/v1",
        "storageclasses",
        {
            "metadata": {"name": "fast", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "x.y/z",
        },
    ),
    named("scheduling.k8s.io/v1", "priorityclasses", "high", value=5),
    named(
        "networking.k8s.io/v1",
        "ingressclasses",
        "c",
        spec={"controller": "x.y/z", "parameters": {"apiGroup": "a.b", "kind": "K", "name": "n"}},
    ),
    (ADMISSION, "validatingwebhookconfigurations", {"metadata": {"name": "two"}, "webhooks": WEBHOOKS}),
    (ADMISSION, "mutatingwebhookconfigurations", {"metadata": {"name": "one"}, "webhooks": WEBHOOKS[:1]}),
    (ADMISSION, "mutatingwebhookconfigurations", {"metadata": {"name": "none"}}),
    named(ADMISSION, "validatingadmissionpolicies", "plain", spec=POLICY),
    named(
        ADMISSION,
        "validatingadmissionpolicies",
        "about",
        spec={**POLICY, "paramKind": {"apiVersion": "a.example/v1", "kind": "K"}},
    ),
    named(
        ADMISSION,
        "validatingadmissionpolicybindings",
        "plain",
        spec={"policyName": "p", "validationActions": ["Warn"]},
    ),
    named(
        ADMISSION,
        "validatingadmissionpolicybindings",
        "about",
        spec={
            "policyName": "p",
            "validationActions": ["Warn"],
            "paramRef": {"name": "n", "namespace": "s", "parameterNotFoundAction": "Allow"},
        },
    ),
    named("storage.k8s.io/v1", "csidrivers", "plain", spec={}),
    named(
        "storage.k8s.io/v1",
        "csidrivers",
        "rich",
        spec={
            "attachRequired": False,
            "podInfoOnMount": True,
            "storageCapacity": True,
            "requiresRepublish": True,
            "tokenRequests": [{"audience": "a"}, {"audience": "b"}],
            "volumeLifecycleModes": ["Persistent", "Ephemeral"],
        },
    ),
    named("storage.k8s.io/v1", "csinodes", "n", spec={"drivers": [{"name": "d", "nodeID": "x", "topologyKeys": []}]}),
    named(
        "storage.k8s.io/v1",
        "volumeattachments",
        "a",
        spec={"attacher": "d.example", "nodeName": "n", "source": {"persistentVolumeName": "v"}},
    ),
    (
        "storage.k8s.io/v1",
        "volumeattributesclasses",
        {"metadata": {"name": "c"}, "driverName": "d.example", "parameters": {"a": "b"}},
    ),
    ("node.k8s.io/v1", "runtimeclasses", {"metadata": {"name": "r"}, "handler": "runsc"}),
    named("certificates.k8s.io/v1", "certificatesigningrequests", "r", spec=signing_request()),
    named(
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        "s",
        spec={**signing_request(), "expirationSeconds": 3600},
    ),
]


def path_of(api: str, plural: str, namespace: str = "") -> str:
    root = f"/apis/{api}" if "/" in api else f"/api/{api}"
    return f"{root}/namespaces/{namespace}/{plural}" if namespace else f"{root}/{plural}"


def create(servers: Servers, path: str, obj: KubeObject) -> None:
    answer = servers.request("POST", path, obj)
    assert answer.status == 201, answer
    if obj.get("status"):
        made = answer.body | {"status": obj["status"]}
        made["metadata"].pop("resourceVersion")
        answer = servers.request("PUT", f"{path}/{obj['metadata']['name']}/status", made)
        assert answer.status == 200, answer


def differences(servers: Servers, path: str, resource: Resource) -> list[str]:
    """Rows that differ, but for a second in what depends on the time."""
    listed = servers.request("GET", path).body
    theirs = servers.request("GET", path, accept=AS_TABLE).body
    now = datetime.now(UTC)
    found = []
    objects = [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in listed["items"]]
    ours = [tables.table(resource, objects, now=now + timedelta(seconds=more)) for more in (0, -1, 1)]
    if bare_columns(ours[0]) != bare_columns(theirs):
        found.append(f"columns of {path}: {bare_columns(ours[0])} but {bare_columns(theirs)}")
    for i, row in enumerate(theirs["rows"]):
        # A controller may have written between the two answers.
        row["object"]["metadata"] = ours[0]["rows"][i]["object"]["metadata"]
        cells = [[each["rows"][i]["cells"][n] for each in ours] for n in range(len(row["cells"]))]
        wrong = [(one[0], cell) for one, cell in zip(cells, row["cells"], strict=True) if cell not in one]
        if wrong or row != {**ours[0]["rows"][i], "cells": row["cells"]}:
            found.append(f"{path} {row['cells']}: {wrong}")
    return found


def bare_columns(table: KubeObject) -> list[KubeObject]:
    """What columns of built-in kinds are for, in so many words, is not told here."""
    return [{**column, "description": ""} for column in table["columnDefinitions"]]


def test_columns_of_every_kind_are_those_of_the_server(kubernetes: Servers) -> None:
    registry = Registry()
    for group in registry.groups():
        for version in group.versions:
            for resource in registry.resources(group.name, version):
                if "list" in resource.verbs:
                    path = path_of(resource.api_version, resource.plural)
                    theirs = kubernetes.request("GET", f"{path}?limit=1", accept=AS_TABLE).body
                    assert bare_columns(tables.table(resource, [], now=datetime.now(UTC))) == bare_columns(theirs), path


def test_cells_are_those_of_the_server(kubernetes: Servers, namespace: str) -> None:
    kinds = dict.fromkeys((api, plural) for api, plural, _ in OBJECTS)
    for api, plural, obj in OBJECTS:
        made = copy.deepcopy(obj)
        if plural == "events":
            made["involvedObject"]["namespace"] = namespace
        create(kubernetes, path_of(api, plural, namespace), made)
    registry = Registry()
    found = []
    for api, plural in kinds:
        group, _, version = api.rpartition("/")
        resource = registry.resource(group, version, plural)
        assert resource is not None
        found += differences(kubernetes, path_of(api, plural, namespace), resource)
    assert not found, "\n".join(found)


def wait_for(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + CONTROLLER_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_cells_of_what_controllers_say_are_those_of_the_server(kubernetes: Servers, namespace: str) -> None:
    registry = Registry()
    quotas, revisions = (registry.resource(*one) for one in (("", "v1", "resourcequotas"), REVISIONS))
    assert quotas is not None
    assert revisions is not None
    path, sets = (path_of(*one, namespace) for one in (("v1", "resourcequotas"), ("apps/v1", "statefulsets")))
    hard = {"pods": "3", "requests.cpu": "1500m", "limits.cpu": "2", "limits.memory": "1Gi"}
    create(kubernetes, path, {"metadata": {"name": "all"}, "spec": {"hard": hard}})
    wait_for(lambda: kubernetes.request("GET", f"{path}/all").body.get("status", {}).get("used"))
    assert not (found := differences(kubernetes, path, quotas)), found
    spec = {"replicas": 0, "serviceName": "s", "selector": SELECTOR, "template": TEMPLATE}
    create(kubernetes, sets, {"metadata": {"name": "s"}, "spec": spec})
    path = path_of("apps/v1", "controllerrevisions", namespace)
    wait_for(lambda: kubernetes.request("GET", path).body["items"])
    create(kubernetes, path, {"metadata": {"name": "alone"}, "revision": 3, "data": {"a": "b"}})
    assert not (found := differences(kubernetes, path, revisions)), found


RBAC = "rbac.authorization.k8s.io/v1"
FLOWS = "flowcontrol.apiserver.k8s.io/v1"
THERE = [
    *((RBAC, "clusterrolebindings"), (RBAC, "clusterroles"), ("networking.k8s.io/v1", "servicecidrs")),
    *((FLOWS, "flowschemas"), (FLOWS, "prioritylevelconfigurations")),
]
"""Kinds of which a server has some from its start."""


@pytest.fixture
def cluster_wide(kubernetes: Servers, namespace: str) -> Iterator[dict[tuple[str, str], None]]:
    """Objects without a namespace, of this test's own."""
    made = []
    for api, plural, obj in CLUSTER_WIDE:
        named = copy.deepcopy(obj)
        named["metadata"]["name"] = f"{namespace}-{obj['metadata']['name']}"
        create(kubernetes, path_of(api, plural), named)
        made.append(f"{path_of(api, plural)}/{named['metadata']['name']}")
    yield dict.fromkeys((api, plural) for api, plural, _ in CLUSTER_WIDE)
    for path in made:
        kubernetes.request("DELETE", path)


def test_cells_of_what_has_no_namespace_are_those_of_the_server(
    kubernetes: Servers, cluster_wide: dict[tuple[str, str], None]
) -> None:
    registry = Registry()
    found = []
    for api, plural in [*cluster_wide, *THERE]:
        group, _, version = api.rpartition("/")
        resource = registry.resource(group, version, plural)
        assert resource is not None
        found += differences(kubernetes, path_of(api, plural), resource)
    addresses = registry.resource("networking.k8s.io", "v1", "ipaddresses")
    assert addresses is not None
    given = kubernetes.request("GET", "/api/v1/namespaces/default/services/kubernetes").body["spec"]["clusterIP"]
    path = f"/apis/networking.k8s.io/v1/ipaddresses/{given}"
    wait_for(lambda: kubernetes.request("GET", path).status == 200)
    theirs = kubernetes.request("GET", path, accept=AS_TABLE).body["rows"][0]["cells"]
    ours = tables.cells_of(addresses, kubernetes.request("GET", path).body, datetime.now(UTC))
    assert (ours[:2], len(ours)) == (theirs[:2], len(theirs))
    assert not found, "\n".join(found)


def test_cells_of_apiservices_are_those_of_the_server(kubernetes: Servers, namespace: str) -> None:
    resource = Registry().resource("apiregistration.k8s.io", "v1", "apiservices")
    assert resource is not None
    path = path_of(resource.api_version, resource.plural)
    group = custom_kinds.group()
    spec = {"group": group, "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}
    down = {"name": "down", "namespace": namespace}
    create(
        kubernetes,
        path,
        {
            "metadata": {"name": f"v1.{group}", "labels": {"of": namespace}},
            "spec": {**spec, "service": down, "insecureSkipTLSVerify": True},
        },
    )
    try:
        deadline = time.monotonic() + LIMIT_S
        while not kubernetes.request("GET", f"{path}/v1.{group}").body.get("status", {}).get("conditions"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = differences(kubernetes, f"{path}?labelSelector=of%3D{namespace}", resource)
        found += differences(kubernetes, f"{path}?labelSelector={AUTOMANAGED}%3Donstart", resource)
    finally:
        kubernetes.request("DELETE", f"{path}/v1.{group}")
    assert not found, "\n".join(found)


COLUMNS: list[Raw] = [
    {"name": "Text", "type": "string", "jsonPath": ".spec.text", "description": "A text"},
    {"name": "Any", "type": "string", "jsonPath": ".spec.any"},
    {"name": "Number", "type": "number", "jsonPath": ".spec.number"},
    {"name": "Whole", "type": "integer", "jsonPath": ".spec.number", "format": "int32", "priority": 1},
    {"name": "Flag", "type": "boolean", "jsonPath": ".spec.flag"},
    {"name": "When", "type": "date", "jsonPath": ".spec.when"},
    {"name": "Ready", "type": "string", "jsonPath": '.spec.conditions[?(@.type=="Ready")].status'},
    {"name": "First", "type": "string", "jsonPath": ".spec.conditions[0].type"},
    {"name": "Last", "type": "string", "jsonPath": ".spec.conditions[-1:].type"},
    {"name": "All", "type": "string", "jsonPath": ".spec.conditions[*].type"},
    {"name": "Label", "type": "string", "jsonPath": r".metadata.labels.a\.b/c"},
    {"name": "Quoted", "type": "string", "jsonPath": ".metadata.labels['a\\.b/c']"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]
SHOWN: list[Raw] = [
    {},
    {"text": "x", "any": {"b": [1, 2.5], "a": None}, "number": 2.7, "flag": True, "when": LONG_AGO},
    {"text": "", "any": [True, "y"], "number": 3, "flag": False, "when": "never"},
    {"any": 1e21, "conditions": [{"type": "Ready", "status": "False"}, {"type": "Other", "status": "True"}]},
    {"any": False, "conditions": [], "number": 1e-7},
    {"any": "text", "conditions": [{"type": "Other"}]},
]


def test_columns_of_custom_kinds_are_those_of_the_server(kubernetes: Servers, namespace: str) -> None:
    group = custom_kinds.group()
    spec: Raw = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    plain = custom_kinds.definition(group, spec, kind="Plain")
    rich = custom_kinds.definition(group, spec, kind="Rich", additionalPrinterColumns=COLUMNS)
    found = []
    try:
        for crd in custom_kinds.install(kubernetes, plain, rich):
            resource = definitions.resources_of(crd)[0]
            path = path_of(f"{group}/v1", resource.plural, namespace)
            for i, value in enumerate(SHOWN):
                made = custom_kinds.thing(group, namespace, value, kind=resource.kind, name=f"a{i}")
                made["metadata"]["labels"] = {"a.b/c": f"v{i}"}
                create(kubernetes, path, made)
            found += differences(kubernetes, path, resource)
    finally:
        custom_kinds.remove(kubernetes, group)
    assert not found, "\n".join(found)
