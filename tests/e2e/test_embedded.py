"""`tidelog run --cluster embedded`: everything in one process, and over restarts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers.embedded_servers import EmbeddedServers

BIN = Path(sys.executable).parent
EMBEDDED = ("--cluster", "embedded")
COPIED = "This store keeps an embedded cluster: with --cluster embedded, the plan is made on a copy of it"
ALONE = ("--storage-addr", "127.0.0.1:0", "--health-addr", "", "--metrics-addr", "")
TIMEOUT_S = 100
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
"""


KUSTOMIZATION = """\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: {name}, namespace: flux-system}}
spec:
  interval: 1h
  path: ./{name}
  prune: true
  sourceRef: {{kind: GitRepository, name: flux-system}}{depends}
"""
CONFIG_MAP = """\
apiVersion: v1
kind: ConfigMap
metadata: {{name: {name}, namespace: default}}
"""


class Here:
    """A repository, a store, and the command on both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.repository = directory / "repository"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
            "HOME": str(directory),
            "NO_COLOR": "1",
            "TIDELOG_STORE": str(directory / "store"),
        }
        subprocess.run(["git", "init", "-q", "-b", "main", self.repository], check=True, timeout=TIMEOUT_S)

    def commit(self, name: str, text: str, message: str) -> None:
        path = self.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        git = ["git", "-C", str(self.repository), "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        subprocess.run([*git, "add", "--all"], check=True, timeout=TIMEOUT_S)
        subprocess.run([*git, "commit", "-qm", message], check=True, timeout=TIMEOUT_S)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(BIN / "tidelog"), *arguments]
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def reconcile(self) -> subprocess.CompletedProcess[str]:
        flags = ["--cluster", "embedded", "--repo", str(self.repository), "--path", "apps", "--interval", "1s"]
        return self.run("run", *flags, *ALONE, "--until-ready", "--timeout", "60s")

    def asked(self, *arguments: str) -> Any:
        done = self.run(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.mark.slow
def test_a_repository_becomes_a_cluster_that_outlives_the_daemon(tmp_path: Path) -> None:
    here = Here(tmp_path)
    here.commit("apps/web.yaml", DEPLOYMENT, "Open the shop")
    done = here.reconcile()
    assert done.returncode == 0, done.stdout + done.stderr
    trace = here.asked("trace", "deployment/web")
    assert trace["commit"]["message"].startswith("Open the shop")

    # The next daemon finds all as it was: nothing is applied again.
    before = here.asked("log", "stat")["types"]["ObjectApplied"]
    done = here.reconcile()
    assert done.returncode == 0, done.stdout + done.stderr
    assert here.asked("log", "stat")["types"]["ObjectApplied"] == before

    verified = here.run("log", "verify")
    assert verified.returncode == 0, verified.stdout


def test_that_no_embedded_cluster_is_kept_is_said_by_the_check_of_it(tmp_path: Path) -> None:
    done = Here(tmp_path).run("check", *EMBEDDED)
    assert done.returncode == 1
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert said.startswith("✗ cluster: no embedded cluster is kept in ")
    assert said.endswith(": `tidelog run --cluster embedded` makes one")


def test_who_has_no_cluster_is_told_of_it(tmp_path: Path) -> None:
    done = Here(tmp_path).run("run", *ALONE)
    assert done.returncode == 3
    assert "no cluster is named" in done.stderr
    assert done.stderr.endswith("To try Tidelog without a cluster: --cluster embedded\n")


def test_a_kubeconfig_does_not_go_with_it(tmp_path: Path) -> None:
    done = Here(tmp_path).run("run", "--cluster", "embedded", "--kubeconfig", "somewhere")
    assert done.returncode == 2
    assert "--kubeconfig does not go with --cluster embedded" in done.stderr
    done = Here(tmp_path).run("check", *EMBEDDED, "--context", "there")
    assert done.returncode == 2
    assert "--kubeconfig and --context do not go with --cluster embedded" in done.stderr


DEFINITION = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.example.com}
spec:
  group: example.com
  names: {kind: Lamp, plural: lamps, singular: lamp, listKind: LampList}
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec:
              type: object
              properties:
                watts: {type: integer, maximum: 100}
                colour: {type: string, default: white}
"""
LAMP = """\
apiVersion: v1
kind: Namespace
metadata: {name: lit}
---
apiVersion: example.com/v1
kind: Lamp
metadata: {name: desk, namespace: lit}
spec: {watts: %d}
"""


@pytest.mark.slow
def test_what_is_made_anew_is_there_for_what_follows(tmp_path: Path) -> None:
    """A kind that is of namespaces no more has to be made anew: its objects are judged by the new one."""
    here = Here(tmp_path)
    forced = DEFINITION.replace(
        "{name: lamps.example.com}",
        "{name: lamps.example.com, annotations: {kustomize.toolkit.fluxcd.io/force: Enabled}}",
    )
    here.commit("apps/kinds.yaml", forced, "A kind")
    here.commit("apps/lamp.yaml", LAMP % 40, "A lamp")
    done = here.reconcile()
    assert done.returncode == 0, done.stdout + done.stderr
    (here.repository / "apps" / "kinds.yaml").write_text(forced.replace("scope: Namespaced", "scope: Cluster"))
    (here.repository / "apps" / "lamp.yaml").write_text((LAMP % 40).replace("desk, namespace: lit", "desk"))
    done = here.run("plan", "ks/flux-system", "--path", str(here.repository), *EMBEDDED, "-o", "json")
    steps = {step["object"]: step for wave in json.loads(done.stdout)["plan"]["waves"] for step in wave}
    assert steps["apiextensions.k8s.io/CustomResourceDefinition/_/lamps.example.com"]["action"] == "recreate"
    lamp = steps["example.com/Lamp/_/desk"]
    assert lamp["action"] == "create"
    assert {"path": "spec", "after": {"watts": 40, "colour": "white"}} in lamp["changes"]


@pytest.mark.slow
def test_a_plan_is_rehearsed_to_its_end(tmp_path: Path, embedded_kubernetes: EmbeddedServers) -> None:
    """A kind, a namespace, and an object of them, of which is known what the server says before the others are made."""
    here = Here(tmp_path)
    here.commit("apps/web.yaml", DEPLOYMENT, "Open the shop")
    done = here.reconcile()
    assert done.returncode == 0, done.stdout + done.stderr
    before = here.asked("log", "stat")["events"]

    (here.repository / "apps" / "kinds.yaml").write_text(DEFINITION)
    (here.repository / "apps" / "lamp.yaml").write_text(LAMP % 40)
    command = ("plan", "ks/flux-system", "--path", str(here.repository), "--cluster", "embedded", "-o", "json")
    for _ in range(2):  # and nothing was done the first time
        done = here.run(*command)
        assert done.returncode == 1, done.stdout + done.stderr
        steps = {step["object"]: step for wave in json.loads(done.stdout)["plan"]["waves"] for step in wave}
        lamp = steps["example.com/Lamp/lit/desk"]
        assert lamp["action"] == "create"
        assert {"path": "spec", "after": {"watts": 40, "colour": "white"}} in lamp["changes"]  # as the server has it

    (here.repository / "apps" / "lamp.yaml").write_text(LAMP % 400)
    done = here.run(*command)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "spec.watts" in done.stdout
    assert here.asked("log", "stat")["events"] == before

    # Who asks another cluster, or none, is told how this one is asked.
    back = ("reapply", "ks/flux-system", "--at", str(before), "--why", "to try", "--yes")
    done = here.run("plan", "ks/flux-system")
    assert done.returncode == 3, done.stdout
    assert COPIED in done.stderr
    here.environment["KUBECONFIG"] = str(embedded_kubernetes.kubeconfig)
    for words in (("plan", "ks/flux-system"), back):
        done = here.run(*words)
        assert done.returncode == 3, done.stdout
        assert "this store knows another cluster" in done.stderr
        assert COPIED in done.stderr
    done = here.run("check")
    assert done.returncode == 1
    assert "which is looked at with --cluster embedded" in done.stdout
    assert "tidelog install" not in done.stdout  # into another cluster
    said = here.run("check", *EMBEDDED, "-o", "json").stdout
    looked = {one["name"]: one for one in map(json.loads, said.splitlines())}
    assert all(one["well"] for one in looked.values()), looked
    assert looked["cluster"]["message"].startswith("Kubernetes v1.")
    assert looked["GitRepository"]["message"].endswith("1 is there")

    # The plan is shown, and the target is pinned; a daemon carries it out.
    done = here.run(*back, "--cluster", "embedded")
    assert done.returncode == 1, done.stderr
    assert "1 unchanged" in done.stdout
    assert f"pinned to position {before}" in done.stderr


@pytest.mark.slow
def test_what_is_applied_to_another_cluster_is_planned_there_and_not_in_the_copy(
    tmp_path: Path, other_servers: EmbeddedServers
) -> None:
    here = Here(tmp_path)
    kubeconfig = other_servers.kubeconfig_of("hub", ("system:masters",)).read_text()
    metadata = {"name": "there", "namespace": "flux-system"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"value": kubeconfig}}
    there = KUSTOMIZATION.format(name="there", depends="\n  kubeConfig: {secretRef: {name: there}}")
    here.commit("apps/secret.yaml", json.dumps(secret), "Lead there")
    here.commit("apps/there.yaml", there, "Go there")
    here.commit("there/only-there.yaml", CONFIG_MAP.format(name="only-there"), "Begin there")
    done = here.reconcile()
    assert done.returncode == 0, done.stdout + done.stderr
    configs = "/api/v1/namespaces/default/configmaps"
    assert other_servers.request("GET", f"{configs}/only-there").status == 200

    (here.repository / "there" / "new.yaml").write_text(CONFIG_MAP.format(name="new"))
    command = ("plan", "ks/there", "--path", str(here.repository), *EMBEDDED)
    before = len(other_servers.audited("hub"))
    done = here.run(*command, "-o", "json")
    assert done.returncode == 1, done.stdout + done.stderr
    steps = {step["object"]: step["action"] for wave in json.loads(done.stdout)["plan"]["waves"] for step in wave}
    assert steps == {
        "core/ConfigMap/default/new": "create",
        "core/ConfigMap/default/only-there": "unchanged",
    }
    asked = other_servers.audited("hub")[before:]
    assert any("dryRun=All" in one["requestURI"] for one in asked), "it is asked there"
    assert other_servers.request("GET", f"{configs}/new").status == 404
    assert json.loads(kubeconfig)["users"][0]["user"]["token"] not in done.stdout + done.stderr

    done = here.run(*command, "--with-dependencies")
    assert done.returncode not in (0, 1)
    assert "there is applied to another cluster, of which there is no copy" in done.stderr
    assert "plan without --with-dependencies" in done.stderr


@pytest.mark.slow
def test_a_plan_finds_what_the_plans_of_its_dependencies_leave(tmp_path: Path) -> None:
    here = Here(tmp_path)
    for name, after in (("infra", ""), ("lights", "infra"), ("garden", "lights")):
        depends = f"\n  dependsOn: [{{name: {after}}}]" if after else ""
        here.commit(f"apps/{name}.yaml", KUSTOMIZATION.format(name=name, depends=depends), f"Add {name}")
        here.commit(f"{name}/kept.yaml", CONFIG_MAP.format(name=name), f"Begin with {name}")
    done = here.reconcile()
    assert done.returncode == 0, done.stdout + done.stderr
    before = here.asked("log", "stat")["events"]

    (here.repository / "infra" / "kinds.yaml").write_text(DEFINITION)
    (here.repository / "lights" / "lamp.yaml").write_text(LAMP % 40)
    command = ("plan", "ks/garden", "--path", str(here.repository), "--cluster", "embedded", "--with-dependencies")
    done = here.run(*command, "-o", "json")
    assert done.returncode == 1, done.stdout + done.stderr
    told = [
        {step["object"]: step for wave in one["plan"]["waves"] for step in wave}
        for one in json.loads(done.stdout)["plans"]
    ]
    lamp = told[1]["example.com/Lamp/lit/desk"]
    assert {"path": "spec", "after": {"watts": 40, "colour": "white"}} in lamp["changes"]
    assert not any(step["action"] == "create" for step in told[2].values())

    (here.repository / "lights" / "lamp.yaml").write_text(LAMP % 400)
    done = here.run(*command)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "spec.watts" in done.stdout
    assert "Kustomization/flux-system/garden: not planned" in done.stderr
    assert here.asked("log", "stat")["events"] == before, "nothing of it was recorded, or done"


RELEASE = """
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {{name: {name}, namespace: flux-system}}
spec:
  interval: 1h
  chart: {{spec: {{chart: ./charts/{name}, sourceRef: {{kind: GitRepository, name: flux-system}}}}}}{depends}
"""


@pytest.mark.slow
def test_a_plan_of_a_release_finds_what_the_plans_of_its_dependencies_leave(tmp_path: Path) -> None:
    here = Here(tmp_path)
    for name, after in (("infra", ""), ("lights", "infra"), ("garden", "lights")):
        depends = f"\n  dependsOn: [{{name: {after}}}]" if after else ""
        here.commit(f"charts/{name}/Chart.yaml", f"{{apiVersion: v2, name: {name}, version: 1.0.0}}\n", f"Add {name}")
        here.commit(f"charts/{name}/templates/kept.yaml", CONFIG_MAP.format(name=name), f"Begin with {name}")
        here.commit(f"apps/{name}.yaml", RELEASE.format(name=name, depends=depends), f"Release {name}")
    done = here.reconcile()
    assert done.returncode == 0, done.stdout + done.stderr
    before = here.asked("log", "stat")["events"]

    def changed(name: str, file: str, text: str) -> None:
        chart = here.repository / "charts" / name
        (chart / "Chart.yaml").write_text(f"{{apiVersion: v2, name: {name}, version: 1.1.0}}\n")
        (chart / "templates" / file).write_text(text)

    changed("infra", "kinds.yaml", DEFINITION)
    changed("lights", "lamp.yaml", LAMP % 40)
    command = ("plan", "hr/garden", "--path", str(here.repository), "--cluster", "embedded", "--with-dependencies")
    done = here.run(*command, "-o", "json")
    assert done.returncode == 1, done.stdout + done.stderr
    plans = json.loads(done.stdout)["plans"]
    assert [one["release"]["action"] for one in plans] == ["upgrade", "upgrade", "none"]
    told = [{step["object"]: step for wave in one["plan"]["waves"] for step in wave} for one in plans]
    lamp = told[1]["example.com/Lamp/lit/desk"]
    assert {"path": "spec", "after": {"watts": 40, "colour": "white"}} in lamp["changes"]

    changed("lights", "lamp.yaml", LAMP % 400)
    done = here.run(*command)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "spec.watts" in done.stdout
    assert "HelmRelease/flux-system/garden: not planned" in done.stderr
    assert here.asked("log", "stat")["events"] == before, "nothing of it was recorded, or done"


def test_a_plan_on_a_cluster_that_nobody_has_made(tmp_path: Path) -> None:
    here = Here(tmp_path)
    done = here.run("plan", "ks/flux-system", "--cluster", "embedded", "--context", "there")
    assert done.returncode == 2
    assert "do not go with --cluster embedded" in done.stderr
    done = here.run("plan", "ks/flux-system", "--with-dependencies")
    assert done.returncode == 2
    assert "--with-dependencies needs --cluster embedded" in done.stderr
