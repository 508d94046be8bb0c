"""How much memory does a daemon take for 300 releases of one chart?

A daemon on a real API server, as `mttp --kind helmrelease` has it, but its charts come from an HTTP repository on
loopback, and each HelmRelease has a chart template, as most users write it: so there is a HelmChart for each. Memory is
anonymous memory of all processes of the daemon, those that render charts included (`Anonymous` of
`/proc/<pid>/smaps_rollup`), a while after everything is Ready.

The floor is the same daemon before, with one HelmRepository and nothing else. The figure is what the releases, their
charts and the processes that rendered them add to it; so is what the log's part in memory takes. Beside it stands how
often the chart was fetched from the repository: it is one file, however many HelmCharts name it.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio

from bench.figures import Figure, Goal, figure
from bench.reconciling.engines import Engine, running
from bench.reconciling.fleet import ACCOUNT, NAMESPACE, SOURCES, Object, named, target_name
from bench.reconciling.phases import SETTLE_S, USER, Cluster, cluster, until_ready
from bench.reconciling.releases import CHART, RELEASES, ReleaseFleet, chart
from bench.session import Session
from bench.watching import anonymous
from tests.helm.charts import packed
from tests.servers.chart_server import ChartServer, chart_server
from tidelog.events.digest import digest_of

NAME = "releases-memory"
RELEASED = 300
RELEASED_QUICK = 10
SETTLE_QUICK_S = 2.0
VERSION = "6.9.0"
REPOSITORY = "charts"
GOAL = Goal("measured", "at most", 150.0)
FETCHES = Goal("measured", "at most", 1.0)


def measure(session: Session) -> list[Figure]:
    """MiB that the releases add, and how often their chart was fetched."""
    count = RELEASED_QUICK if session.quick else RELEASED
    directory = session.scratch / NAME
    root = directory / "charts"
    root.mkdir(parents=True)
    with session.progress(NAME, 2) as advance, chart_server(root, tls=False) as server:
        _publish(root)
        settle_s = SETTLE_QUICK_S if session.quick else SETTLE_S
        before, after = anyio.run(partial(_memory, directory, server, count, settle_s, advance))
        fetched = server.count(_archive())
    shutil.rmtree(directory)
    return [
        figure(
            NAME,
            f"memory that {count:,} HelmReleases of one chart add to a daemon",
            "MiB",
            [after - before],
            floor_name="a daemon without any",
            floor=[before],
            goal=GOAL,
        ),
        figure(NAME, f"times that the chart of {count:,} HelmCharts was fetched", "requests", [fetched], goal=FETCHES),
    ]


def _archive() -> str:
    return f"{CHART}-{VERSION}.tgz"


def _publish(root: Path) -> None:
    """A repository with one version of the chart."""
    data = packed(CHART, chart(CHART, VERSION))
    (root / _archive()).write_bytes(data)
    entry = {
        "apiVersion": "v2",
        "name": CHART,
        "version": VERSION,
        "urls": [_archive()],
        "digest": digest_of(data).removeprefix("sha256:"),
    }
    (root / "index.yaml").write_text(json.dumps({"apiVersion": "v1", "entries": {CHART: [entry]}}))


async def _memory(
    directory: Path, server: ChartServer, count: int, settle_s: float, advance: Callable[[int], None]
) -> tuple[float, float]:
    """MiB without releases, and with them."""
    fleet = ReleaseFleet(directory / "git", "https://example.org/apps.git", count, apart=False)
    async with cluster(directory / "servers", fleet, more=("HelmRepository",)) as here:
        kubeconfig = here.own.kubeconfig_of(USER, ["system:masters"])
        with running("tidelog", (), kubeconfig, directory / "engine") as engine:
            await _ready(here, engine, [_repository(server)])
            await anyio.sleep(settle_s)
            before = _mib(engine)
            advance(1)
            await _ready(here, engine, [_target(index) for index in range(count)])
            await anyio.sleep(settle_s)
            after = _mib(engine)
            advance(2)
    return before, after


async def _ready(here: Cluster, engine: Engine, objects: list[Object]) -> None:
    await here.client.apply_all(objects)
    for obj in objects:
        await until_ready(here, engine, obj)


def _mib(engine: Engine) -> float:
    return sum(anonymous(pid) for pid in engine.pids())


def _repository(server: ChartServer) -> Object:
    spec = {"interval": "60m", "url": server.url}
    return {"apiVersion": SOURCES, "kind": "HelmRepository", "metadata": named(REPOSITORY), "spec": spec}


def _target(index: int) -> Object:
    source = {"kind": "HelmRepository", "name": REPOSITORY}
    spec = {
        "interval": "60m",
        "serviceAccountName": ACCOUNT,
        "targetNamespace": NAMESPACE,
        "releaseName": target_name(index),
        "storageNamespace": NAMESPACE,
        "chart": {"spec": {"chart": CHART, "version": VERSION, "sourceRef": source}},
        "driftDetection": {"mode": "enabled"},
        "values": {"replicas": 0},
    }
    return {"apiVersion": RELEASES, "kind": "HelmRelease", "metadata": named(target_name(index)), "spec": spec}
