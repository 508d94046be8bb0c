"""The built-in kinds of the embedded cluster, held to the real API server."""

import base64
import copy
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cluster.embedded import builtin_oracle as oracle
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded import builtin
from tidelog.engine.objects.kube import KubeObject

VARIANTS = 250
"""Objects of the corpus with fields dropped, in one run."""


@pytest.fixture
def corpus(kubernetes: Servers, namespace: str) -> Iterator[list[KubeObject]]:
    """The objects, with names of this test's own; what has no namespace is deleted in the end."""
    found = oracle.objects(f"x{uuid.uuid4().hex[:8]}", namespace, signing_request())
    yield found
    for obj in reversed(found):
        if not oracle.resource_of(obj).namespaced:
            kubernetes.request("DELETE", oracle.path_of(obj, namespace, obj["metadata"]["name"]))


def signing_request() -> str:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()


def test_what_is_created_is_what_the_real_server_makes_of_it(
    kubernetes: Servers, namespace: str, corpus: list[KubeObject]
) -> None:
    wrong: list[str] = []
    for obj in corpus:
        title = f"{obj['kind']} {obj['metadata']['name']}"
        answer = oracle.create(kubernetes, namespace, obj)
        if answer.status != 201:
            wrong.append(f"{title}: refused: {answer.body.get('message')}")
            continue
        mine = oracle.comparable(oracle.ours(obj, answer.body, namespace))
        wrong += [f"{title}: {one}" for one in oracle.differences(mine, oracle.comparable(answer.body))]
    assert not wrong, "\n".join(wrong)


def test_variants_are_created_as_the_real_server_does(
    kubernetes: Servers, namespace: str, corpus: list[KubeObject], oracle_seed: int
) -> None:
    """Fields dropped or emptied at random; what the real one refuses is not compared here."""
    chance, wrong, accepted = random.Random(oracle_seed), list[str](), 0
    rich = [obj for obj in corpus if oracle.resource_of(obj).namespaced and obj["kind"] != "Event"]
    for number in range(VARIANTS):
        obj = thinned(copy.deepcopy(chance.choice(rich)), chance)
        obj["metadata"]["name"] = f"variant-{number}"
        answer = oracle.create(kubernetes, namespace, obj)
        if answer.status == 201:
            accepted += 1
            mine = oracle.comparable(oracle.ours(obj, answer.body, namespace))
            found = oracle.differences(mine, oracle.comparable(answer.body))
            wrong += [f"{obj['kind']}: {one} of {obj}" for one in found]
    assert not wrong, "\n".join(wrong)
    assert accepted > VARIANTS // 10


def test_what_is_refused_is_refused_with_the_causes_of_the_real_server(kubernetes: Servers, namespace: str) -> None:
    wrong: list[str] = []
    cases = oracle.refusals(f"x{uuid.uuid4().hex[:8]}")
    try:
        for case in cases:
            real, mine = oracle.refused(kubernetes, namespace, case)
            title = f"{case['object']['kind']} {case['object']['metadata'].get('name')} {case.get('merge', '')}"
            wrong += [f"{title}: real {one}" for one in sorted(real - mine)]
            wrong += [f"{title}: ours {one}" for one in sorted(mine - real)]
    finally:
        for case in cases:
            if not oracle.resource_of(case["object"]).namespaced:
                name = str(case["object"]["metadata"]["name"])
                kubernetes.request("DELETE", oracle.path_of(case["object"], namespace, name))
    assert not wrong, "\n".join(wrong)


def tried(kubernetes: Servers, path: str, obj: KubeObject) -> KubeObject:
    """What a dry run answers, of a server that can give addresses to Services: one that has just started cannot yet."""
    until = time.monotonic() + 60
    while True:
        body: KubeObject = kubernetes.request("POST", path + "?dryRun=All", obj).body
        if "allocator not ready" not in str(body.get("message")) or time.monotonic() > until:
            return body
        time.sleep(0.5)


def test_a_finalizer_without_a_domain_is_refused_of_the_kinds_that_the_real_server_refuses_it_of(
    kubernetes: Servers, namespace: str, corpus: list[KubeObject]
) -> None:
    wrong: list[str] = []
    for obj in corpus:
        obj["metadata"] |= {"name": f"f-{obj['metadata'].get('name', 'x')}", "finalizers": ["finalizers.fluxcd.io"]}
        obj["metadata"].pop("generateName", None)
        body = tried(kubernetes, oracle.path_of(obj, namespace), obj)
        told = (body.get("details") or {}).get("causes") or ()
        real = any(cause["field"].startswith("metadata.finalizers") for cause in told)
        kind = (oracle.resource_of(obj).group, str(obj["kind"]))
        found = builtin.problems_on_create(kind, oracle.given(obj, namespace))
        mine = any(cause.field.startswith("metadata.finalizers") for cause in found)
        if real != mine:
            wrong.append(f"{obj['kind']}: {'refused' if real else 'taken'} there, and not here: {body.get('message')}")
    assert not wrong, "\n".join(wrong)


def test_what_the_real_server_takes_is_not_refused(
    kubernetes: Servers, namespace: str, corpus: list[KubeObject]
) -> None:
    wrong: list[str] = []
    for obj in corpus:
        kind = (oracle.resource_of(obj).group, str(obj["kind"]))
        new = oracle.given(obj, namespace)
        builtin.set_defaults(kind, new)
        builtin.prepare_create(kind, new)
        found = builtin.problems_on_create(kind, new) + builtin.problems_on_update(kind, new, copy.deepcopy(new))
        wrong += [f"{obj['kind']} {obj['metadata']['name']}: {one}" for one in found]
        again = copy.deepcopy(new)
        builtin.set_defaults(kind, again)
        builtin.prepare_update(kind, again, new)
        wrong += [f"{obj['kind']}: not the same again: {one}" for one in oracle.differences(again, new)]
    assert not wrong, "\n".join(wrong)


PORTS = {"ports": [{"port": 80, "name": "a"}], "selector": {"a": "b"}}
POD = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}
WORKLOAD = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": POD}
CHANGES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("apps/v1", "Deployment", {"spec": WORKLOAD}, {"spec": {"minReadySeconds": 1}}),
    ("apps/v1", "Deployment", {"spec": WORKLOAD}, {"metadata": {"labels": {"x": "y"}}}),
    ("apps/v1", "Deployment", {"spec": WORKLOAD}, {"spec": {"strategy": None}, "status": {"replicas": 5}}),
    ("apps/v1", "StatefulSet", {"spec": WORKLOAD}, {"spec": {"minReadySeconds": 1}}),
    ("apps/v1", "ReplicaSet", {"spec": WORKLOAD}, {"spec": {"minReadySeconds": 1}}),
    ("v1", "Service", {"spec": {"type": "NodePort", **PORTS}}, {"spec": {"type": "ClusterIP"}}),
    ("v1", "Service", {"spec": {"type": "ClusterIP", **PORTS}}, {"spec": {"type": "LoadBalancer"}}),
    ("v1", "Service", {"spec": {"type": "LoadBalancer", **PORTS}}, {"spec": {"type": "NodePort"}}),
    ("v1", "Service", {"spec": PORTS}, {"spec": {"type": "ExternalName", "externalName": "example.com"}}),
    ("v1", "Service", {"spec": PORTS}, {"spec": {"clusterIP": None, "clusterIPs": None, "ipFamilies": None}}),
    ("v1", "Service", {"spec": {"type": "NodePort", **PORTS}}, {"spec": PORTS}),
    ("v1", "ConfigMap", {"data": {"a": "b"}}, {"data": {"a": None}}),
    ("v1", "Secret", {"stringData": {"a": "b"}}, {"stringData": {"c": "d"}}),
    ("v1", "Pod", {"spec": POD["spec"]}, {"spec": {"tolerations": None, "activeDeadlineSeconds": 5}}),
    ("policy/v1", "PodDisruptionBudget", {"spec": {"minAvailable": 1}}, {"spec": {"minAvailable": 2}}),
    ("networking.k8s.io/v1", "NetworkPolicy", {"spec": {}}, {"spec": {"egress": [{}]}}),
    ("discovery.k8s.io/v1", "EndpointSlice", {"addressType": "IPv4", "endpoints": []}, {"ports": [{"port": 80}]}),
    (
        "discovery.k8s.io/v1",
        "EndpointSlice",
        {"addressType": "IPv4", "endpoints": []},
        {"metadata": {"labels": {"a": "b"}}},
    ),
]


def test_a_change_is_what_the_real_server_makes_of_it(kubernetes: Servers, namespace: str) -> None:
    wrong: list[str] = []
    for number, (api, kind, said, merge) in enumerate(CHANGES):
        obj = {"apiVersion": api, "kind": kind, "metadata": {"name": f"changed-{number}"}, **copy.deepcopy(said)}
        mine, real = oracle.changed(kubernetes, namespace, obj, merge)
        wrong += [f"{kind} {merge}: {one}" for one in oracle.differences(mine, real)]
    assert not wrong, "\n".join(wrong)


def thinned(obj: KubeObject, chance: random.Random) -> KubeObject:
    """An object with up to three of its fields dropped or emptied."""
    for _ in range(chance.randint(1, 3)):
        places = [(at, key) for at, key in fields_of(obj) if key not in ("apiVersion", "kind", "metadata")]
        if places:
            at, key = chance.choice(places)
            if chance.random() < 0.7:
                del at[key]
            else:
                at[key] = None
    return obj


def fields_of(value: Any) -> list[tuple[Any, str]]:
    if isinstance(value, list):
        return [found for each in value for found in fields_of(each)]
    if isinstance(value, dict):
        return [(value, key) for key in value] + [found for each in value.values() for found in fields_of(each)]
    return []
