"""A real API server with our CRDs accepts, refuses and completes objects as with Flux's (contract CM-012, CM-014).

The CRDs stay when the test ends: other tests of the run use them, and applying them again changes nothing.
"""

import time
from typing import Any

import msgspec
import pytest

from tests.kinds.samples import (
    ACCEPTED,
    HELM_RELEASE,
    KIND_OF,
    REFUSED,
    SOURCE,
    TARGET,
    WHOLE_RELEASE_STATUS,
    Sample,
    changed,
)
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds import statuses as s
from tidelog.engine.kinds.conditions import SOURCE_OWNED, TARGET_OWNED, Observed
from tidelog.engine.kinds.crds import crd
from tidelog.engine.kinds.decode import decode, encode
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.gitrepository import GitRepository
from tidelog.engine.kinds.helmrelease import HelmRelease
from tidelog.engine.kinds.install import install_objects
from tidelog.engine.kinds.kustomization import Kustomization, Snapshot
from tidelog.engine.kinds.meta import Artifact
from tidelog.engine.kinds.targets import Inventory, InventoryEntry
from tidelog.engine.objects.kube import KubeObject

PATHS = {kind.resource.kind: (kind.resource.api_version, kind.resource.plural) for kind in KIND_OF.values()}
ESTABLISHED_S = 30.0
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
NOW = Observed(1, "2026-11-23T01:00:00Z")
CRDS_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="module")
def server(kubernetes: Servers) -> Servers:
    """The API server, with our CRDs established."""
    for kind in KIND_OF.values():
        path = f"{CRDS_PATH}/{kind.resource.crd_name}"
        answer = kubernetes.request("PATCH", f"{path}?fieldManager=tidelog-tests&force=true", crd(kind), APPLY)
        assert answer.status in {200, 201}, answer
        until = time.monotonic() + ESTABLISHED_S
        while not _established(kubernetes.request("GET", path).body):
            assert time.monotonic() < until, f"{path} is not established"
            time.sleep(0.05)
    return kubernetes


def _established(definition: Any) -> bool:
    conditions = definition.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Established" and condition["status"] == "True" for condition in conditions)


def collection(obj: KubeObject, namespace: str) -> str:
    api_version, plural = PATHS[obj["kind"]]
    return f"/apis/{api_version}/namespaces/{namespace}/{plural}"


@pytest.mark.parametrize("sample", ACCEPTED, ids=[sample.id for sample in ACCEPTED])
def test_what_flux_s_crds_accept_is_accepted(server: Servers, namespace: str, sample: Sample) -> None:
    path = f"{collection(sample.object, namespace)}?fieldValidation=Strict"
    answer = server.request("POST", path, sample.object)
    assert answer.status == 201, answer
    kind = KIND_OF[sample.object["kind"]]
    # An ExternalArtifact tells no generation: nobody reconciles it (CM-012).
    assert answer.body.get("status") == ({"observedGeneration": -1} if kind.resource.is_observed else None)
    read: Any = decode(kind, answer.body)
    given: Any = decode(kind, sample.object)
    assert read.spec == given.spec


@pytest.mark.parametrize("sample", REFUSED, ids=[f"{index} {sample.id}" for index, sample in enumerate(REFUSED)])
def test_what_flux_s_crds_refuse_is_refused(server: Servers, namespace: str, sample: Sample) -> None:
    answer = server.request("POST", f"{collection(sample.object, namespace)}?dryRun=All", sample.object)
    assert answer.status == 422, answer
    fields = [cause["field"] for cause in answer.body["details"]["causes"]]
    expected = sample.id.replace("['", ".").replace("']", "")
    assert expected in fields, answer.body["message"]


def test_defaults_are_filled_in(server: Servers, namespace: str) -> None:
    source = changed(SOURCE, "spec.verify", {"secretRef": {"name": "keys"}})
    made = server.request("POST", collection(source, namespace), source).body
    assert (made["spec"]["timeout"], made["spec"]["verify"]["mode"]) == ("60s", "HEAD")
    target = changed(TARGET, "spec.postBuild", {"substituteFrom": [{"kind": "Secret", "name": "a"}]})
    made = server.request("POST", collection(target, namespace), target).body
    assert (made["spec"]["force"], made["spec"]["postBuild"]["substituteFrom"][0]["optional"]) == (False, False)
    release = changed(changed(HELM_RELEASE, "spec.uninstall", {}), "spec.chart.spec.verify", {})
    made = server.request("POST", collection(release, namespace), release).body
    assert made["spec"]["uninstall"] == {"deletionPropagation": "background"}
    chart = made["spec"]["chart"]["spec"]
    assert (chart["version"], chart["reconcileStrategy"], chart["verify"]) == (
        "*",
        "ChartVersion",
        {"provider": "cosign"},
    )


def test_an_object_without_a_spec_is_accepted_as_flux_s_crds_do(server: Servers, namespace: str) -> None:
    obj = changed(SOURCE, "spec", ...)
    assert server.request("POST", collection(obj, namespace), obj).status == 201


def test_fields_that_a_kind_does_not_have_are_dropped(server: Servers, namespace: str) -> None:
    obj = changed(TARGET, "spec.validation", "client")
    made = server.request("POST", collection(obj, namespace), obj).body
    assert "validation" not in made["spec"]


def test_the_statuses_that_we_write_are_stored_as_we_wrote_them(server: Servers, namespace: str) -> None:
    made = server.request("POST", collection(TARGET, namespace), TARGET).body
    outcome = Snapshot(
        digest="sha256:1",
        first_reconciled=NOW.time,
        last_reconciled=NOW.time,
        last_reconciled_duration=Duration(1_500),
        last_reconciled_status="ReconciliationSucceeded",
        total_reconciliations=1,
        metadata={"revision": "main@sha1:1", "originRevision": "o"},
    )
    conditions = c.mark((), "Ready", "False", "HealthCheckFailed", "x" * 40_000, observed=NOW)
    status = msgspec.structs.replace(
        decode(Kustomization, made).status,
        observed_generation=1,
        conditions=c.mark_reconciling(conditions, "ProgressingWithRetry", "m", observed=NOW),
        last_applied_revision="main@sha1:1",
        last_applied_origin_revision="o",
        last_attempted_revision="main@sha1:1",
        last_handled_reconcile_at="u",
        inventory=Inventory(entries=(InventoryEntry(id="default_podinfo__Service", v="v1"),)),
        history=(outcome,),
    )
    path = f"{collection(TARGET, namespace)}/podinfo"
    answer = server.request("PATCH", f"{path}/status", s.status_patch(made, status, TARGET_OWNED), MERGE)
    assert answer.status == 200, answer
    assert answer.body["status"] == encode(status)
    assert s.status_patch(answer.body, status, TARGET_OWNED) == {}


def test_the_status_of_a_source_is_stored_and_taken_back(server: Servers, namespace: str) -> None:
    made = server.request("POST", collection(SOURCE, namespace), SOURCE).body
    artifact = Artifact(
        path="gitrepository/a/b/c.tar.gz",
        url="http://localhost/gitrepository/a/b/c.tar.gz",
        revision="main@sha1:1",
        digest="sha256:1",
        last_update_time=NOW.time,
        size=1,
        metadata={"a": "b"},
    )
    read = decode(GitRepository, made)
    stored = s.source_stored(read.status, artifact, read.spec, observed=NOW)
    path = f"{collection(SOURCE, namespace)}/podinfo/status"
    answer = server.request("PATCH", path, s.status_patch(made, stored, SOURCE_OWNED), MERGE)
    assert answer.body["status"] == encode(stored)
    gone = msgspec.structs.replace(stored, artifact=None)
    answer = server.request("PATCH", path, s.status_patch(answer.body, gone, SOURCE_OWNED), MERGE)
    assert answer.body["status"] == encode(gone)


def test_the_status_of_a_release_is_stored_as_it_is_written(server: Servers, namespace: str) -> None:
    made = server.request("POST", collection(HELM_RELEASE, namespace), HELM_RELEASE).body
    status = WHOLE_RELEASE_STATUS
    path = f"{collection(HELM_RELEASE, namespace)}/podinfo/status"
    answer = server.request("PATCH", path, s.status_patch(made, status, TARGET_OWNED), MERGE)
    assert answer.status == 200, answer
    assert answer.body["status"] == encode(status)
    assert decode(HelmRelease, answer.body).status == status


def test_a_patch_over_conditions_of_others_is_refused_when_the_object_has_changed(
    server: Servers, namespace: str
) -> None:
    made = server.request("POST", collection(TARGET, namespace), TARGET).body
    path = f"{collection(TARGET, namespace)}/podinfo/status"
    foreign = {"type": "Audited", "status": "True", "reason": "Ok", "message": "", "lastTransitionTime": NOW.time}
    audited = server.request("PATCH", path, {"status": {"conditions": [foreign]}}, MERGE).body
    conditions = c.mark_reconciling((), "Progressing", "m", observed=NOW)
    status = msgspec.structs.replace(decode(Kustomization, made).status, conditions=conditions)
    patch = s.status_patch(audited, status, TARGET_OWNED)
    server.request("PATCH", path, {"status": {"conditions": [foreign | {"message": "again"}]}}, MERGE)
    assert server.request("PATCH", path, patch, MERGE).status == 409


def test_what_is_installed_is_valid_and_installing_twice_changes_nothing(server: Servers) -> None:
    plurals = {
        "Namespace": "/api/v1/namespaces",
        "CustomResourceDefinition": CRDS_PATH,
        "ServiceAccount": "/api/v1/namespaces/default/serviceaccounts",
        "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    }
    for obj in install_objects(namespace="default"):
        path = f"{plurals[obj['kind']]}/{obj['metadata']['name']}"
        query = "fieldManager=tidelog-tests&force=true&fieldValidation=Strict&dryRun=All"
        answer = server.request("PATCH", f"{path}?{query}", obj, APPLY)
        assert answer.status in {200, 201}, answer
        if obj["kind"] == "CustomResourceDefinition":
            assert answer.body["metadata"]["generation"] == server.request("GET", path).body["metadata"]["generation"]
