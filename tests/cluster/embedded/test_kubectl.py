"""The embedded cluster as kubectl meets it: `tidelog cluster up` in a process, and what kubectl prints of it.

A real server is asked the same, and the same is expected; but for what takes Pods that run, which it has no nodes for.
"""

import json
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.embedded.kubectl import LIMIT_S, Kubectl
from tests.servers.kubernetes_servers import Servers

CONFLICT = 'Apply failed with 1 conflict: conflict with "kubectl": .data.a'
SHOP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {app: web}}
data: {a: "1"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
"""
SETTINGS = SHOP.partition("---")[0]
CAKES = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cakes.kitchen.example.com}
spec:
  group: kitchen.example.com
  names: {plural: cakes, singular: cake, kind: Cake, shortNames: [ck]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Layers, type: integer, jsonPath: .spec.layers}
    - {name: Icing, type: string, jsonPath: .spec.icing, priority: 1}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              layers: {type: integer, minimum: 1, description: How high it is.}
              icing: {type: string}
"""
CAKE = """
apiVersion: kitchen.example.com/v1
kind: Cake
metadata: {name: plain}
spec: {layers: 3, icing: lemon}
"""
CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


@pytest.fixture(scope="module", params=["embedded", "real"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """A cluster that is up, and kubectl for it."""
    home = tmp_path_factory.mktemp("kubectl")
    if request.param == "real":
        servers: Servers = request.getfixturevalue("kubernetes")
        yield Kubectl(home, servers.kubeconfig, runs_pods=False)
        return
    kubeconfig = home / "kubeconfig"
    command = [Path(sys.executable).with_name("tidelog"), "cluster", "up", "--kubeconfig", kubeconfig]
    with (
        (home / "stderr").open("w") as err,
        subprocess.Popen(
            [*map(str, command), "--ready-after", "200ms"], stdout=subprocess.PIPE, stderr=err, text=True
        ) as up,
    ):
        try:
            assert up.stdout
            assert up.stdout.readline().startswith("The cluster is up at https://127.0.0.1:"), (
                home / "stderr"
            ).read_text()
            yield Kubectl(home, kubeconfig)
        finally:
            up.terminate()
        assert up.wait(LIMIT_S) == 0
    assert (home / "stderr").read_text() == ""


@pytest.fixture
def kubectl(cluster: Kubectl) -> Iterator[Kubectl]:
    """kubectl in a namespace of this test's own."""
    name = f"n{uuid.uuid4().hex[:8]}"
    assert cluster("create", "namespace", name).out == f"namespace/{name} created\n"
    here = Kubectl(cluster.home, cluster.kubeconfig, name, runs_pods=cluster.runs_pods)
    end = time.monotonic() + LIMIT_S
    while here("get", "serviceaccounts,configmaps", "-o", "name").out.count("\n") < 2:
        assert time.monotonic() < end
    yield here
    cluster("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def shop(kubectl: Kubectl) -> Kubectl:
    """A namespace with a ConfigMap and a Deployment; rolled out, where Pods run."""
    said = kubectl("apply", "-f", "-", given=SHOP)
    assert said.out == "configmap/settings created\ndeployment.apps/web created\n"
    if kubectl.runs_pods:
        assert kubectl("rollout", "status", "deployment/web").out.endswith('deployment "web" successfully rolled out\n')
    else:  # until its controllers have nothing more to say
        kubectl("wait", "deployment/web", "--for=jsonpath={.status.unavailableReplicas}=2", "--timeout=20s")
    return kubectl


where_pods_run = pytest.mark.parametrize("cluster", ["embedded"], indirect=True, scope="module")
"""The real servers of the tests have no nodes."""


def holds(found: Any, wanted: Any) -> bool:
    """Whether a document says all that another says, but for what that leaves empty."""
    if isinstance(wanted, dict):
        return all(not value or holds((found or {}).get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return len(found or []) == len(wanted) and all(map(holds, found, wanted))
    return bool(found == wanted)


# ---------------------------------------------------------------------------------------------- reading


@where_pods_run
def test_objects_as_tables(shop: Kubectl) -> None:
    assert shop("get", "deployments").rows == [
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE"],
        ["web", "2/2", "2", "2"],
    ]
    (head, row) = shop("get", "deployments", "-o", "wide").rows
    assert (head[4:], row[4:]) == (["CONTAINERS", "IMAGES", "SELECTOR"], ["web", "web:1", "app=web"])
    pods = shop("get", "pods").rows
    assert pods[0] == ["NAME", "READY", "STATUS", "RESTARTS"]
    assert [row[1:] for row in pods[1:]] == [["1/1", "Running", "0"]] * 2
    assert shop("get", "services").err == f"No resources found in {shop.namespace} namespace.\n"


def test_an_object_as_yaml_and_one_that_is_not_there(shop: Kubectl) -> None:
    said = shop("get", "configmap", "settings", "-o", "yaml").out
    assert said.startswith('apiVersion: v1\ndata:\n  a: "1"\nkind: ConfigMap\nmetadata:\n')
    assert "managedFields" not in said
    assert (
        "manager: kubectl-client-side-apply" in shop("get", "cm", "settings", "-o", "yaml", "--show-managed-fields").out
    )
    assert shop("get", "cm", "other", code=1).err == 'Error from server (NotFound): configmaps "other" not found\n'
    assert shop("get", "nothing", code=1).err == 'error: the server doesn\'t have a resource type "nothing"\n'


def test_label_selectors(shop: Kubectl) -> None:
    assert shop("get", "cm", "-l", "app=web", "-o", "name").out == "configmap/settings\n"
    assert shop("get", "cm", "-l", "app in (web, x),app!=y", "-o", "name").out == "configmap/settings\n"
    assert shop("get", "cm", "-l", "!app", "-o", "name").out == "configmap/kube-root-ca.crt\n"
    assert shop("get", "cm", "-l", "app notin (web)", "-o", "name").out == "configmap/kube-root-ca.crt\n"
    assert shop("get", "cm", "--field-selector", "metadata.name=settings", "-o", "name").out == "configmap/settings\n"
    assert "unable to parse requirement" in shop("get", "cm", "-l", "app=&", code=1).err


def test_a_watch_tells_of_a_change(shop: Kubectl) -> None:
    command = shop.command("get", "configmap", "settings", "--watch", "--no-headers", "--request-timeout", "20s")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=shop.environment()) as watching:
        assert watching.stdout
        try:
            assert watching.stdout.readline().split()[:2] == ["settings", "1"]
            shop("patch", "configmap", "settings", "--type", "merge", "-p", '{"data": {"b": "2"}}')
            assert watching.stdout.readline().split()[:2] == ["settings", "2"]
        finally:
            watching.terminate()


@where_pods_run
def test_what_is_described(shop: Kubectl) -> None:
    said = shop("describe", "deployment", "web").out
    assert "Replicas:               2 desired | 2 updated | 2 total | 2 available | 0 unavailable\n" in said
    assert re.search(r"^NewReplicaSet:   web-\w+ \(2/2 replicas created\)$", said, re.MULTILINE)
    assert "Controlled By:  ReplicaSet/web-" in shop("describe", "pods").out
    assert "a:\n----\n1\n" in shop("describe", "configmap", "settings").out


def test_what_the_cluster_serves(cluster: Kubectl) -> None:
    said = cluster("api-resources", "--api-group", "apps", "--no-headers").out
    assert [line.split() for line in said.splitlines()] == [
        ["controllerrevisions", "apps/v1", "true", "ControllerRevision"],
        ["daemonsets", "ds", "apps/v1", "true", "DaemonSet"],
        ["deployments", "deploy", "apps/v1", "true", "Deployment"],
        ["replicasets", "rs", "apps/v1", "true", "ReplicaSet"],
        ["statefulsets", "sts", "apps/v1", "true", "StatefulSet"],
    ]
    assert "GROUP:      apps\nKIND:       Deployment\nVERSION:    v1\n\nFIELD: replicas <integer>\n" in (
        cluster("explain", "deployment.spec.replicas").out
    )
    assert "Server Version: v1.35" in cluster("version").out


@pytest.mark.parametrize(
    "path", ["/api", "/apis/apps", "/api/v1/namespaces/default", "/api/v1/pods?limit=1", "/version"]
)
def test_a_raw_answer_ends_as_the_line_does_or_not(cluster: Kubectl, path: str) -> None:
    said = cluster("get", "--raw", path).out
    assert said.count("\n") == (said.count(",") + 2 if path == "/version" else 1)
    assert said.endswith("}" if path == "/version" else "}\n")


# ---------------------------------------------------------------------------------------------- writing


def test_an_apply_that_changes_nothing_says_so(shop: Kubectl) -> None:
    before = shop("get", "cm,deployment", "-o", "yaml").out
    said = shop("apply", "-f", "-", given=SHOP)
    assert said == (0, "configmap/settings unchanged\ndeployment.apps/web unchanged\n", "")
    assert shop("get", "cm,deployment", "-o", "yaml").out == before
    shown = set()
    for _ in range(2):
        said = shop("apply", "--server-side", "-f", "-", given=SHOP)
        assert said == (0, "configmap/settings serverside-applied\ndeployment.apps/web serverside-applied\n", "")
        shown.add(shop("get", "cm,deployment", "-o", "yaml", "--show-managed-fields").out)
    assert len(shown) == 1


def test_a_field_of_another_manager_is_a_conflict(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", given=SETTINGS)
    other, theirs = ("apply", "--server-side", "--field-manager", "other", "-f", "-"), SETTINGS.replace('"1"', '"2"')
    said = kubectl(*other, code=1, given=theirs)
    assert said.err.startswith(f"error: {CONFLICT}\nPlease review the fields above"), said
    assert kubectl(*other, "--force-conflicts", given=theirs).out == "configmap/settings serverside-applied\n"
    assert kubectl("get", "cm", "settings", "-o", "jsonpath={.data.a}").out == "2"


@pytest.mark.parametrize("side", ["--server-side=false", "--server-side=true"])
def test_a_diff_ends_with_whether_there_is_one(shop: Kubectl, side: str) -> None:
    shop("apply", "--server-side", "-f", "-", given=SHOP)
    assert shop("diff", side, "-f", "-", given=SHOP) == (0, "", "")
    said = shop("diff", side, "-f", "-", given=SHOP.replace('"1"', '"2"'), code=1).out
    assert '\n-  a: "1"\n+  a: "2"\n' in said
    assert "Deployment" not in said


def test_a_dry_run_keeps_nothing(kubectl: Kubectl) -> None:
    said = kubectl("create", "configmap", "dry", "--from-literal", "a=b", "--dry-run=server")
    assert said.out == "configmap/dry created (server dry run)\n"
    assert "NotFound" in kubectl("get", "configmap", "dry", code=1).err
    said = kubectl("apply", "--dry-run=server", "-f", "-", "-o", "yaml", given=SETTINGS)
    assert "  uid: " in said.out
    assert "NotFound" in kubectl("get", "configmap", "settings", code=1).err


def test_patches(shop: Kubectl) -> None:
    merge = ("patch", "configmap", "settings", "--type", "merge", "-p", '{"data": {"b": "2"}}')
    assert shop(*merge).out == "configmap/settings patched\n"
    assert shop(*merge).out == "configmap/settings patched (no change)\n"
    shop("patch", "configmap", "settings", "--type", "json", "-p", '[{"op": "remove", "path": "/data/a"}]')
    assert shop("get", "cm", "settings", "-o", "jsonpath={.data}").out == '{"b":"2"}'
    patch = '{"spec": {"template": {"spec": {"containers": [{"name": "log", "image": "log:1"}]}}}}'
    assert shop("patch", "deployment", "web", "-p", patch).out == "deployment.apps/web patched\n"
    images = "jsonpath={.spec.template.spec.containers[*].image}"
    assert sorted(shop("get", "deployment", "web", "-o", images).out.split()) == ["log:1", "web:1"]
    said = shop("patch", "cm", "settings", "--type", "json", "-p", '[{"op": "remove", "path": "/data/no"}]', code=1)
    assert said.err.startswith("The request is invalid: "), said


@where_pods_run
def test_scale_edit_and_wait(shop: Kubectl) -> None:
    assert shop("scale", "deployment/web", "--replicas", "3").out == "deployment.apps/web scaled\n"
    three = ("wait", "deployment/web", "--for", "jsonpath={.status.readyReplicas}=3", "--timeout", "20s")
    assert shop(*three).out == "deployment.apps/web condition met\n"
    editor = "sed -i -e s/replicas:.3/replicas:\\ 1/"
    assert shop("edit", "deployment/web", EDITOR=editor).out == "deployment.apps/web edited\n"
    shop("wait", "deployment/web", "--for", "jsonpath={.status.replicas}=1", "--timeout", "20s")
    assert shop("wait", "deployment/web", "--for", "condition=Available").out == "deployment.apps/web condition met\n"
    assert shop("set", "image", "deployment/web", "web=web:2").out == "deployment.apps/web image updated\n"
    assert 'deployment "web" successfully rolled out\n' in shop("rollout", "status", "deployment/web").out
    said = shop("wait", "deployment/web", "--for", "condition=Nothing", "--timeout", "100ms", code=1)
    assert "timed out waiting for the condition on deployments/web" in said.err


def test_a_rollout_is_undone(shop: Kubectl) -> None:
    annotated = '{"metadata": {"annotations": {"kubernetes.io/change-cause": "the first"}}}'
    shop("patch", "deployment", "web", "-p", annotated)
    revision = "--for=jsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}="
    shop("set", "image", "deployment/web", "web=web:2")
    shop("wait", "deployment/web", f"{revision}2", "--timeout=20s")
    said = shop("rollout", "history", "deployment/web").out
    assert said == ("deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         the first\n2         the first\n\n")
    assert "Image:\tweb:2" in shop("rollout", "history", "deployment/web", "--revision=2").out
    assert shop("rollout", "undo", "deployment/web").out == "deployment.apps/web rolled back\n"
    shop("wait", "deployment/web", f"{revision}3", "--timeout=20s")
    assert shop("get", "deployment", "web", "-o", "jsonpath={..image}").out == "web:1"
    assert [row[0] for row in shop("rollout", "history", "deployment/web").rows[2:] if row] == ["2", "3"]


@pytest.mark.parametrize(
    ("what", "made"),
    [
        ("configmap one --from-literal=a=b", "configmap/one"),
        ("secret generic one --from-literal=a=b", "secret/one"),
        ("serviceaccount one", "serviceaccount/one"),
        ("deployment one --image=one:1 --port=80", "deployment.apps/one"),
        ("service clusterip one --tcp=80:8080", "service/one"),
        ("ingress one --rule=a.example/b=one:80", "ingress.networking.k8s.io/one"),
        ("job one --image=one:1", "job.batch/one"),
        ("quota one --hard=pods=5,cpu=2", "resourcequota/one"),
        ("poddisruptionbudget one --selector=a=b --min-available=50%", "poddisruptionbudget.policy/one"),
        ("role one --verb=get --resource=pods", "role.rbac.authorization.k8s.io/one"),
        ("rolebinding one --role=one --user=bob", "rolebinding.rbac.authorization.k8s.io/one"),
    ],
)
def test_what_is_created_in_the_binary_form_is_what_kubectl_shows_without_a_server(
    kubectl: Kubectl, what: str, made: str
) -> None:
    arguments = ("create", *what.split(), "-o", "json")
    wanted, got = (json.loads(kubectl(*arguments, f"--dry-run={mode}").out) for mode in ("client", "none"))
    assert holds(got, wanted), (wanted, got)
    assert kubectl("get", made, "-o", "name").out == f"{made}\n"


def test_what_is_autoscaled(shop: Kubectl) -> None:
    said = shop("autoscale", "deployment/web", "--min", "1", "--max", "2", "--cpu", "50%")
    assert said.out == "horizontalpodautoscaler.autoscaling/web autoscaled\n"
    assert shop("get", "hpa", "web", "-o", "jsonpath={.spec.minReplicas}-{.spec.maxReplicas}").out == "1-2"


# ---------------------------------------------------------------------------------------------- deleting


def test_a_claim_that_nobody_uses_is_deleted(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=CLAIM)
    said = kubectl("delete", "persistentvolumeclaim", "data", "--timeout", "20s")
    assert said.out == f'persistentvolumeclaim "data" deleted from {kubectl.namespace} namespace\n'
    kubectl("apply", "-f", "-", given=CLAIM)
    kubectl("delete", "namespace", kubectl.namespace, "--timeout", "20s")


def test_what_is_deleted_goes_with_what_it_owns(shop: Kubectl) -> None:
    assert shop("delete", "configmap", "settings").out == (
        f'configmap "settings" deleted from {shop.namespace} namespace\n'
    )
    shop("delete", "deployment", "web", "--timeout", "20s")
    end = time.monotonic() + LIMIT_S
    while shop("get", "replicasets,pods", "-o", "name").out:
        assert time.monotonic() < end


def test_who_is_deleted_in_the_foreground_goes_after_what_it_owns(shop: Kubectl) -> None:
    shop("delete", "deployment", "web", "--cascade=foreground", "--timeout", "20s")
    assert shop("get", "deployments,replicasets,pods", "-o", "name").out == ""


def test_a_namespace_goes_with_what_is_in_it(shop: Kubectl) -> None:
    name = shop.namespace
    assert shop("delete", "namespace", name, "--timeout", "20s").out == f'namespace "{name}" deleted\n'
    assert shop("get", "all,configmaps", "-o", "name").out == ""
    assert shop("create", "configmap", "late", code=1).err == (
        f'error: failed to create configmap: namespaces "{name}" not found\n'
    )


# ---------------------------------------------------------------------------------------------- who may


def test_who_may_do_what(kubectl: Kubectl) -> None:
    bob = ("--as", "bob")
    assert kubectl("auth", "can-i", "create", "pods").out == "yes\n"
    assert kubectl("auth", "can-i", "list", "pods", *bob, code=1).out == "no\n"
    assert kubectl("get", "pods", *bob, code=1).err == (
        'Error from server (Forbidden): pods is forbidden: User "bob" cannot list resource "pods" in API group "" in '
        f'the namespace "{kubectl.namespace}"\n'
    )
    kubectl("create", "role", "reader", "--verb", "get,list", "--resource", "pods")
    kubectl("create", "rolebinding", "bob", "--role", "reader", "--user", "bob")
    assert kubectl("auth", "can-i", "list", "pods", *bob).out == "yes\n"
    assert kubectl("auth", "can-i", "delete", "pods", *bob, code=1).out == "no\n"
    assert ["pods", "[]", "[]", "[get", "list]"] in kubectl("auth", "can-i", "--list", *bob).rows
    assert kubectl("get", "pods", *bob).err == f"No resources found in {kubectl.namespace} namespace.\n"
    assert kubectl("auth", "whoami", *bob).rows[1:] == [["Username", "bob"], ["Groups", "[system:authenticated]"]]


# ---------------------------------------------------------------------------------------------- custom kinds


def test_a_kind_of_ones_own(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", given=CAKES)
    crd = "customresourcedefinition.apiextensions.k8s.io/cakes.kitchen.example.com"
    assert kubectl("wait", "--for", "condition=Established", crd).out == f"{crd} condition met\n"
    assert kubectl("apply", "-f", "-", given=CAKE).out == "cake.kitchen.example.com/plain created\n"
    assert kubectl("apply", "-f", "-", given=CAKE).out == "cake.kitchen.example.com/plain unchanged\n"
    assert kubectl("get", "ck").rows == [["NAME", "LAYERS"], ["plain", "3"]]
    assert kubectl("get", "cakes", "-o", "wide").rows == [["NAME", "LAYERS", "ICING"], ["plain", "3", "lemon"]]
    assert "FIELD: layers <integer>\n" in (said := kubectl("explain", "cake.spec.layers").out)
    assert "How high it is." in said
    said_no = kubectl("apply", "-f", "-", given=CAKE.replace("3", "0"), code=1).err
    assert "spec.layers: Invalid value: 0: spec.layers in body should be greater than or equal to 1" in said_no
    said_no = kubectl("apply", "-f", "-", given=CAKE.replace("icing", "icng"), code=1).err
    assert 'strict decoding error: unknown field "spec.icng"' in said_no
    kubectl("delete", crd, "--timeout", "20s")
    assert "the server could not find the requested resource" in kubectl("get", "cakes", code=1).err


def test_a_kind_that_there_is_not_yet(kubectl: Kubectl) -> None:
    said = kubectl("apply", "-f", "-", given=CAKE.replace("kitchen", "bakery"), code=1)
    assert said.err.startswith('error: resource mapping not found for name: "plain" namespace: "" from "STDIN": ')
    assert said.err.endswith("ensure CRDs are installed first\n")


@where_pods_run
@pytest.mark.parametrize(
    "command", ["logs plain", "exec plain -- ls", "attach plain", "port-forward plain 80", "cp plain:/a b"]
)
def test_what_needs_a_running_pod_is_refused_in_plain_words(kubectl: Kubectl, command: str) -> None:
    kubectl("run", "plain", "--image=plain:1")
    kubectl("wait", "pod/plain", "--for=condition=Ready")
    assert "an embedded cluster runs nothing" in kubectl(*command.split(), code=1).err


@pytest.mark.parametrize(
    ("more", "warning"),
    [
        ("", "pies.example.com/v1alpha1 Cake is deprecated; use pies.example.com/v1 Cake"),
        ("deprecationWarning: Bake no more of these., ", "Bake no more of these."),
    ],
)
def test_a_version_on_its_way_out_is_warned_of(kubectl: Kubectl, more: str, warning: str) -> None:
    schema = "schema: {openAPIV3Schema: {type: object}}"
    old = f"  - {{name: v1alpha1, served: true, storage: false, deprecated: true, {more}{schema}}}\n"
    group = f"p{uuid.uuid4().hex[:8]}.example.com"
    crd = (CAKES + old).replace("kitchen.example.com", group)
    kubectl("apply", "-f", "-", given=crd)
    kubectl("wait", f"crd/cakes.{group}", "--for=condition=Established")
    try:
        said = kubectl("get", f"cakes.v1alpha1.{group}").err
        assert said.startswith(f"Warning: {warning.replace('pies.example.com', group)}\n")
        assert "Warning" not in kubectl("get", f"cakes.v1.{group}").err
    finally:
        kubectl("delete", f"crd/cakes.{group}", "--wait=false")
