"""What is put into a cluster, looked at, and taken out of it again. On servers of its own: it is about all of them."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.to_thread
import pytest
import yaml

from tests.asking.conftest import Run
from tests.cli.conftest import tidelog
from tests.servers.kubernetes_servers import OwnServers, Servers
from tidelog.engine.cli import leases
from tidelog.engine.kinds.registry import KINDS

__all__ = ["tidelog"]

pytestmark = pytest.mark.slow

SOURCES = "/apis/source.toolkit.fluxcd.io/v1/namespaces/flux-system/gitrepositories"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/kustomizations.kustomize.toolkit.fluxcd.io"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/flux-system/leases"


@pytest.fixture
def cluster(own_servers: OwnServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Servers:
    monkeypatch.setenv("KUBECONFIG", str(own_servers.kubeconfig))
    monkeypatch.setenv("TIDELOG_STORE", str(tmp_path / "store"))
    return own_servers


def make_source(cluster: Servers) -> None:
    source = {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {
            "name": "fleet",
            "finalizers": ["finalizers.fluxcd.io", "example.com/other"],
            "annotations": {"tidelog.dev/depends-on": "x", "mine": "stays"},
        },
        "spec": {"interval": "1h", "url": "https://example.com/fleet.git"},
    }
    answer = cluster.request("POST", SOURCES, source)
    assert answer.status == 201, answer


def source_of(cluster: Servers) -> Any:
    answer = cluster.request("GET", f"{SOURCES}/fleet")
    assert answer.status == 200, answer
    return answer.body["metadata"]


def hold_lease(cluster: Servers, holder: str, renewed: str = "2999-01-01T00:00:00.000000Z") -> None:
    lease = {
        "metadata": {"name": "kustomize-controller-leader-election"},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 3600,
            "renewTime": renewed,
        },
    }
    cluster.request("DELETE", f"{LEASE}/kustomize-controller-leader-election")
    answer = cluster.request("POST", LEASE, lease)
    assert answer.status == 201, answer


def daemon_ends_with(store: Path) -> tuple[int, str]:
    """What a daemon says that has to end at once."""
    addresses = [f"--{name}-addr=" for name in ("storage", "health", "metrics")]
    flags = ["--store", str(store), "--log-level=error", *addresses]
    command = [sys.executable, "-m", "tidelog.engine", "run", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr.splitlines()[-1]


def test_who_has_not_installed_is_told_to(cluster: Servers, tidelog: Run, tmp_path: Path) -> None:
    done = tidelog("reconcile", "ks/flux-system")
    assert (done.code, "installed? (`tidelog install` puts it there)" in done.err) == (3, True), done
    code, said = daemon_ends_with(tmp_path / "one")
    where = "there is no namespace flux-system, where the Leases are"
    assert (code, said) == (3, f"Error: {where}: `tidelog install` makes it, with all that the daemon needs")
    made = cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "flux-system"}})
    assert made.status == 201, made
    code, said = daemon_ends_with(tmp_path / "two")
    unknown = "the cluster does not serve GitRepository source.toolkit.fluxcd.io/v1"
    installed = "is its CustomResourceDefinition installed? (`tidelog install` puts it there)"
    assert (code, said) == (3, f"Error: {unknown}: {installed}")


def test_from_an_empty_cluster_and_back(cluster: Servers, tidelog: Run) -> None:
    done = tidelog("check")
    assert done.code == 1
    assert "✗ GitRepository: source.toolkit.fluxcd.io/v1 is not served: `tidelog install` makes it" in done.out

    done = tidelog("install")
    assert done.code == 0, done
    assert "✔ ClusterRole/tidelog created" in done.err
    again = tidelog("install", "-o", "json")
    assert "✔ ClusterRole/tidelog unchanged" in again.err
    assert {"object": "ClusterRole/tidelog", "did": "unchanged"} in map(json.loads, again.lines)
    done = tidelog("check", "-o", "json")
    assert done.code == 0, done
    checks = {one["name"]: one for one in map(json.loads, done.lines)}
    assert all(one["well"] for one in checks.values())
    assert "nobody holds it" in checks["lease source-controller-leader-election"]["message"]

    make_source(cluster)
    done = tidelog("uninstall", "--hand-back", "--yes")
    assert done.code == 0, done
    assert source_of(cluster)["annotations"] == {"mine": "stays"}
    assert source_of(cluster)["finalizers"] == ["finalizers.fluxcd.io", "example.com/other"]
    assert cluster.request("GET", f"{RBAC}/clusterroles/tidelog").status == 404
    assert cluster.request("GET", f"{RBAC}/clusterrolebindings/tidelog-reconciler").status == 404
    assert "nothing of Tidelog is left" in tidelog("uninstall", "--hand-back", "--yes").err

    done = tidelog("uninstall", "--yes", "-o", "json")
    assert done.code == 0, done
    assert list(map(json.loads, done.lines)) == [
        {"object": "GitRepository/flux-system/fleet", "did": "configured"},
    ]
    assert source_of(cluster)["finalizers"] == ["example.com/other"]
    assert tidelog("uninstall", "--crds", "--yes").code == 0
    answer = cluster.request("GET", CRD)
    assert answer.status == 404 or "deletionTimestamp" in answer.body["metadata"]


def test_nothing_is_taken_away_unasked_or_under_whoever_is_at_work(
    cluster: Servers, tidelog: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert tidelog("install").code == 0
    make_source(cluster)
    before = source_of(cluster)
    assert tidelog("uninstall").code == 130
    assert tidelog("uninstall", "--crds", "--hand-back").code == 2

    hold_lease(cluster, "kustomize-controller-7d4_0a7cb3b8-0000-4000-8000-000000000000")
    done = tidelog("uninstall", "--yes")
    assert (done.code, "Flux is at work" in done.err) == (1, True), done
    hold_lease(cluster, "host_4711_0190b3b8-0000-7000-8000-000000000000")
    for arguments in (["uninstall", "--yes"], ["uninstall", "--hand-back", "--yes"]):
        done = tidelog(*arguments)
        assert (done.code, "daemon is at work" in done.err) == (1, True), done
    assert "a daemon of ours" in tidelog("check").out
    assert source_of(cluster) == before


def test_nothing_is_taken_away_under_who_renews_by_a_clock_that_is_behind(
    cluster: Servers, tidelog: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tidelog("install").code == 0
    make_source(cluster)
    before = source_of(cluster)
    holder = "host_4711_0190b3b8-0000-7000-8000-000000000000"
    hold_lease(cluster, holder, "2001-01-01T00:00:00.000000Z")

    async def renew(_: float) -> None:
        await anyio.to_thread.run_sync(hold_lease, cluster, holder, "2001-01-01T00:00:05.000000Z")

    monkeypatch.setattr(leases, "anyio", SimpleNamespace(sleep=renew))
    done = tidelog("uninstall", "--yes")
    assert (done.code, "daemon is at work" in done.err) == (1, True), done
    assert source_of(cluster) == before


def test_who_may_not_is_told_what_is_missing(cluster: Servers, tidelog: Run) -> None:
    assert tidelog("install").code == 0
    done = tidelog("check", "--kubeconfig", cluster.kubeconfig_of("nobody"))
    assert done.code == 1
    assert "✗ permissions: this user may not get secrets" in done.out


def test_what_would_be_installed_can_be_printed(tidelog: Run) -> None:
    done = tidelog("install", "--export", "--namespace", "gitops")
    assert done.code == 0
    kinds = [obj["kind"] for obj in yaml.safe_load_all(done.out)]
    assert kinds[0] == "Namespace"
    assert kinds.count("CustomResourceDefinition") == len(KINDS)
