"""The benchmark of a fleet runs, counts what it says that it counts, and measures no other engine than it was told."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import fixtures

ROOT = Path(__file__).parents[2]
TARGETS = 3


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def measured(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["failed"] == []
    return {figure["name"]: figure for figure in result["figures"]}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_fleet_is_installed_upgraded_and_left_alone(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fixtures._require(request)
    results = tmp_path / "results.json"
    done = bench("mttp", "--quick", "-n", str(TARGETS), "-o", "json", "--results", str(results))
    figures = measured(done)
    assert json.loads(results.read_text()) == json.loads(done.stdout)
    for phase, least in (("install", 6), ("upgrade", 2)):
        rate = figures[f"{phase} of {TARGETS} Kustomizations"]
        assert rate["measured"]["median"] > 0
        assert rate["floor"]["median"] > 0
        # What is written at the floor, the engine writes too; but for the declaring, which is not its own.
        written = figures[f"{phase}, requests of the engine"]["measured"]["median"]
        assert written >= least - (phase == "install")
        assert figures[f"{phase}, CPU of the engine"]["measured"]["median"] > 0
        assert figures[f"{phase}, CPU of API server and etcd"]["measured"]["median"] > 0
        assert figures[f"{phase}, memory of the engine at its peak"]["measured"]["median"] > 10
    assert figures["idle for 5 s at an interval of 1m, requests but for Leases"]["measured"]["median"] == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_engine_that_ends_is_no_result(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fixtures._require(request)
    told = ("--engine", "external", "--engine-command", "sh -c 'echo no such cluster; exit 3'")
    done = bench("mttp", "--quick", "-n", "1", *told, "--results", str(tmp_path / "results.json"))
    assert done.returncode == 2
    assert "ended with 3" in done.stderr
    assert "no such cluster" in done.stderr


@pytest.mark.parametrize("arguments", [("--engine", "external"), ("--engine-command", "true")])
def test_an_external_engine_is_one_that_is_started(arguments: tuple[str, ...]) -> None:
    done = bench("mttp", *arguments)
    assert done.returncode == 2
    assert "need each other" in done.stderr


@pytest.fixture
def _bench_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.usefixtures("_bench_importable")
def test_a_variable_can_become_a_number() -> None:
    from bench.reconciling.fleet import files

    found = files("6.9.0")
    deployment = yaml.safe_load(found["app/deployment.yaml"].replace("${PODS}", "0"))
    assert deployment["spec"]["replicas"] == 0
    listed = yaml.safe_load(found["app/kustomization.yaml"])["resources"]
    assert {f"app/{name}" for name in listed} == {name for name in found if name.startswith("app/")} - {
        "app/kustomization.yaml"
    }


@pytest.mark.usefixtures("_bench_importable")
def test_an_upgrade_changes_one_object() -> None:
    from bench.reconciling.fleet import files

    before, after = files("6.9.0"), files("6.9.1")
    assert {name for name in before if before[name] != after[name]} == {"app/deployment.yaml"}


@pytest.mark.usefixtures("_bench_importable")
def test_requests_are_counted_by_sort(tmp_path: Path) -> None:
    from bench.reconciling.requests import requests

    def entry(verb: str, resource: str, user: str = "engine", stage: str = "ResponseComplete", **more: Any) -> str:
        what = {"resource": resource, "subresource": more.pop("subresource", "")}
        return json.dumps(
            {"verb": verb, "user": {"username": user}, "stage": stage, "objectRef": what, "requestURI": "/x", **more}
        )

    log = tmp_path / "audit.log"
    earlier = entry("get", "configmaps") + "\n"
    lines = [
        entry("patch", "deployments"),
        entry("patch", "deployments", requestURI="/x?dryRun=All&force=true"),
        entry("patch", "deployments", user="somebody"),
        entry("patch", "kustomizations", subresource="status"),
        entry("patch", "kustomizations"),
        entry("update", "leases"),
        entry("create", "events"),
        entry("watch", "services", stage="ResponseStarted"),
        entry("watch", "services", stage="ResponseComplete"),
    ]
    log.write_text(earlier + "\n".join(lines) + "\n" + '{"half a li')
    counted, end = requests(log, "engine", len(earlier))
    assert counted == {
        "apply": 1,
        "dry run": 1,
        "status": 1,
        "patch of our kinds": 1,
        "lease": 1,
        "event": 1,
        "watch": 1,
    }
    assert requests(log, "engine", end)[0] == {}
