"""The benchmarks of a fleet run, count what they say that they count, and measure the engine that they were told."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.charts import written
from tests.servers import fixtures
from tidelog.engine.helm.releases import objects_of
from tidelog.engine.helm.sdk import Chart
from tidelog.engine.helm.storage import read_secret

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
@pytest.mark.parametrize(("kind", "floors"), [("Kustomization", (6, 2)), ("HelmRelease", (8, 5))])
def test_a_fleet_is_installed_upgraded_and_left_alone(
    kind: str, floors: tuple[int, int], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fixtures._require(request)
    results = tmp_path / "results.json"
    told = ("--kind", kind.lower(), "--quick", "-n", str(TARGETS), "-o", "json")
    done = bench("mttp", *told, "--results", str(results))
    figures = measured(done)
    assert json.loads(results.read_text()) == json.loads(done.stdout)
    for phase, least in zip(("install", "upgrade"), floors, strict=True):
        rate = figures[f"{phase} of {TARGETS} {kind}s"]
        assert rate["measured"]["median"] > 0
        assert rate["floor"]["median"] > 0
        # What is written at the floor, the engine writes too; but for the declaring, which is not its own.
        written = figures[f"{phase}, requests of the engine"]["measured"]["median"]
        assert written >= least - (phase == "install")
        beyond = figures[f"{phase}, requests of the engine beyond the floor"]
        assert beyond["measured"]["median"] <= written - (least - (phase == "install")) + 0.01
        assert f"a bare client's {least} writes a target" in figures[f"{phase}, the same"]["floor_name"]
        assert f"beyond the floor at {phase}, of a target: " in beyond["note"]
        assert figures[f"{phase}, CPU of the engine"]["measured"]["median"] > 0
        assert figures[f"{phase}, CPU of API server and etcd"]["measured"]["median"] > 0
        assert figures[f"{phase}, memory of the engine at its peak"]["measured"]["median"] > 10
    assert figures["idle for 5 s at an interval of 1m, requests but for Leases"]["measured"]["median"] == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_chart_of_many_releases_is_fetched_once(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    fixtures._require(request)
    done = bench("releases-memory", "--quick", "-o", "json", "--results", str(tmp_path / "results.json"))
    figures = measured(done)
    added = figures["memory that 10 HelmReleases of one chart add to a daemon"]
    assert added["floor"]["median"] > 10
    assert added["measured"]["median"] > 0
    assert figures["times that the chart of 10 HelmCharts was fetched"]["measured"]["median"] == 1


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
def test_a_chart_renders_the_app_of_the_others_under_its_release(tmp_path: Path) -> None:
    from bench.reconciling.fleet import app
    from bench.reconciling.releases import chart

    directory = written(chart("podinfo", "6.9.0"), tmp_path / "podinfo")
    with Chart.load(str(directory)) as loaded:
        found = loaded.render('{"replicas": 0}', {"name": "podinfo-1", "namespace": "apps", "is_install": True})
    rendered = {path.rpartition("/")[2].partition(".")[0]: yaml.safe_load(text) for path, text in found.items()}
    assert rendered == {kind.lower(): obj for kind, obj in app("podinfo-1", 0, "6.9.0").items()}


@pytest.mark.usefixtures("_bench_importable")
def test_what_goes_beyond_the_floor_is_told_by_sort() -> None:
    from bench.questions.mttp import beyond_floor

    made = Counter({"apply": 8, "status": 5, "create of Secrets": 2, "update of Secrets": 2, "dry run": 8})
    assert beyond_floor("HelmRelease", "install", made, 2) == {"status": 3, "dry run": 8}
    assert beyond_floor("HelmRelease", "upgrade", Counter({"update of Secrets": 6}), 2) == {"update of Secrets": 2}
    assert beyond_floor("Kustomization", "install", made, 2)["create of Secrets"] == 2


@pytest.mark.usefixtures("_bench_importable")
def test_the_floor_s_record_is_one_of_helm_s(tmp_path: Path) -> None:
    from bench.reconciling.releases import ReleaseFleet

    fleet = ReleaseFleet(tmp_path, "https://example.org/apps.git", 1, apart=False)
    release = read_secret(fleet.record(0, "6.9.0", 2, "deployed")).release
    assert (release.name, release.version, release.info.status) == ("podinfo-0", 2, "deployed")
    assert len(objects_of(release)) == 4


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
        entry("update", "secrets"),
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
        "update of Secrets": 1,
        "watch": 1,
    }
    assert requests(log, "engine", end)[0] == {}
