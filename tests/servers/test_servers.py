"""The Kubernetes servers of the tests: what they promise to the tests that use them."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.servers import kubernetes_servers as servers
from tests.servers.kubernetes_servers import OwnServers, Servers, ServersError

OWNER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import kubernetes_servers
guard = kubernetes_servers.launch(Path(sys.argv[2]), owner=os.getpid())
print(guard.pid, flush=True)
time.sleep(600)
"""


def children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in listed.stdout.split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int]) -> list[int]:
    """Those that are left after a while."""
    until = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return [pid for pid in pids if is_running(pid)]


def test_kubernetes_is_of_the_version_that_the_module_asks_for(kubernetes: Servers) -> None:
    answer = kubernetes.request("GET", "/version")
    assert answer.body["gitVersion"].startswith("v1.35.")


def test_controllers_work(kubernetes: Servers, namespace: str) -> None:
    """A Deployment gets its ReplicaSet, and that its Pods, which nothing schedules."""
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web"}]}}
    deployment = {
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": pod},
    }
    made = kubernetes.request("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment)
    assert made.status == 201
    until = time.monotonic() + 30
    pods: list[servers.Json] = []
    while len(pods) < 2:
        assert time.monotonic() < until
        pods = kubernetes.request("GET", f"/api/v1/namespaces/{namespace}/pods").body["items"]
    assert {pod["status"]["phase"] for pod in pods} == {"Pending"}


def test_requests_can_be_counted_by_user_and_verb(kubernetes: Servers) -> None:
    kubeconfig = json.loads(kubernetes.kubeconfig_of("counted", ["some-group"]).read_bytes())
    assert kubeconfig["users"][0]["name"] == "counted"
    before = len(kubernetes.audited("admin"))
    kubernetes.request("GET", "/api/v1/namespaces/counted-by-a-test")
    mine: list[servers.Json] = []
    until = time.monotonic() + 30
    while not mine and time.monotonic() < until:
        entries = kubernetes.audited("admin")[before:]
        mine = [e for e in entries if e.get("objectRef", {}).get("name") == "counted-by-a-test"]
    assert [(e["verb"], e["responseStatus"]["code"]) for e in mine] == [("get", 404)]


def test_certificate_may_be_expired(kubernetes: Servers) -> None:
    from cryptography import x509

    made = kubernetes.authority.client("late", lifetime=timedelta(days=-1))
    certificate = x509.load_pem_x509_certificate(made.certificate)
    assert certificate.not_valid_before_utc < certificate.not_valid_after_utc
    assert certificate.not_valid_after_utc.timestamp() < time.time()


@pytest.mark.slow
def test_api_server_comes_back_with_what_it_had(own_servers: OwnServers) -> None:
    namespace = {"metadata": {"name": "kept"}}
    assert own_servers.request("POST", "/api/v1/namespaces", namespace).status == 201
    own_servers.kill()
    assert not own_servers.is_ready()
    own_servers.start()
    assert own_servers.request("GET", "/api/v1/namespaces/kept").status == 200
    with pytest.raises(ServersError, match="runs already"):
        own_servers.start()


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["owner", "guard"])
def test_no_server_outlives_a_kill(kubernetes: Servers, tmp_path: Path, victim: str) -> None:
    """`kubernetes` is asked for because it skips, or fails, where there are no servers."""
    command = [sys.executable, "-c", OWNER, str(Path(servers.__file__).parent), str(tmp_path / "servers")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        guard = int(owner.stdout.readline())
        until = time.monotonic() + 60
        while not (tmp_path / "servers" / servers.STATE).exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        running = children(guard)
        assert len(running) == 3
        os.kill(owner.pid if victim == "owner" else guard, signal.SIGKILL)
        assert wait_until_gone([guard, *running]) == []
        owner.kill()


def test_what_a_killed_guard_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    left, kept = tmp_path / f"it-{gone}", tmp_path / f"it-{os.getppid()}"
    for directory in (left, kept):
        directory.mkdir()
    mine = servers.directory_of_process(tmp_path, "it", os.getpid())
    assert sorted(tmp_path.iterdir()) == sorted([kept, mine])


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("etcd", "kube-apiserver"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(ServersError, match="there is no kube-controller-manager in it"):
        servers.find()


def test_programs_of_kubebuilder_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in servers.NAMES:
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert servers.find() == {name: [str(tmp_path / name)] for name in servers.NAMES}


def test_what_is_not_built_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ServersError, match="make servers"):
        servers.find()


@pytest.mark.parametrize(("variables", "outcome"), [({}, "skipped"), ({"CI": "true"}, "error")])
def test_without_go_and_assets_a_test_is_skipped_by_name_and_fails_in_ci(
    tmp_path: Path, variables: dict[str, str], outcome: str
) -> None:
    root = Path(__file__).parents[2]
    test = f"{Path(__file__).relative_to(root)}::test_controllers_work"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0", test],
        cwd=root,
        env={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"1 {outcome}" in run.stdout
    assert ("NOT RUN" in run.stdout) == (outcome == "skipped")
    assert run.returncode == (0 if outcome == "skipped" else 1)
    assert test in run.stdout


def test_why_servers_do_not_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in servers.NAMES:
        (tmp_path / name).write_text("#!/bin/sh\necho no such luck\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(ServersError, match=r"(?s)ended at its start.*no such luck"), servers.start(tmp_path / "it"):
        pass
