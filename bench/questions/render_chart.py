"""How much CPU does it take to render a chart, beside Helm's SDK alone?

A chart like podinfo's (Deployment, Service, helpers, notes; `tests/helm/charts.txt`), packed, is rendered again and
again for releases with other names, in a process that has rendered it before, as it is for a fleet: from the job to
what came of it, documents and hooks sorted out, the owner's labels put on every object, and the chart's content for
Helm's record. One job at a time. What counts is the CPU of both processes, ours and the one that renders.

The floor is what Helm's SDK takes for a release, in a process that does nothing else: it loads the archive from memory,
as whoever uses the SDK does for each release, and renders it to texts. It reads no YAML, and nothing goes from one
process to another. Slices of both alternate. The second row has the SDK's rendering alone, as if the chart had been
loaded before.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import msgspec

from bench.figures import Figure, Goal, figure
from bench.machine import ROOT
from bench.reconciling.processes import children, command, exact_cpu_s
from bench.session import Session
from tests.helm.charts import CASES, packed
from tidelog.engine.helm.pool import WORKER, ChartRenderer
from tidelog.engine.helm.spec import PostRender, RenderJob

NAME = "render-chart"
CHART = "podinfo"
ROUNDS = 15
SLICE = 60
GOAL = Goal("ratio", "at most", 1.5)
END_S = 20.0


class Slice(NamedTuple):
    """Milliseconds of CPU a render, of one slice of each."""

    ours: float
    loading: float
    rendering: float


def measure(session: Session) -> list[Figure]:
    """Milliseconds of CPU a render."""
    case = next(case for case in CASES if case.name == CHART)
    archive = session.scratch / f"{CHART}.tgz"
    archive.write_bytes(packed(case.name, case.files))
    values = msgspec.json.encode(case.options.values)
    options = {"name": "web", "namespace": "apps", "revision": 1, "is_install": True}
    rounds = session.rounds(ROUNDS)
    with (
        _sdk(archive, values.decode(), msgspec.json.encode(options).decode()) as sdk,
        session.progress(NAME, rounds) as advance,
    ):

        async def run() -> list[Slice]:
            found = []
            async with ChartRenderer([session.scratch], workers=1) as charts:
                await _ours(charts, archive, values)
                for number in range(rounds):
                    ours = await _ours(charts, archive, values)
                    found.append(Slice(ours, *await anyio.to_thread.run_sync(_alone, sdk)))
                    advance(number + 1)
            return found

        slices = anyio.run(run)
    ours = [one.ours for one in slices]
    return [
        figure(
            NAME,
            f"a render of the chart {CHART}, for a release of its own",
            "ms",
            ours,
            floor_name="Helm's SDK, which loads the chart and renders it",
            floor=[one.loading + one.rendering for one in slices],
            goal=GOAL,
        ),
        figure(
            NAME,
            "the same",
            "ms",
            ours,
            floor_name="Helm's SDK, without loading the chart",
            floor=[one.rendering for one in slices],
        ),
    ]


async def _ours(charts: ChartRenderer, archive: Path, values: bytes) -> float:
    began = _cpu_s()
    for number in range(SLICE):
        post = PostRender(owner_labels={"helm.toolkit.fluxcd.io/name": f"web-{number}"})
        job = RenderJob(
            str(archive),
            f"web-{number}",
            "apps",
            values,
            post_render=post,
            kube_version="v1.35.0",
            api_versions=(),
            with_record=True,
        )
        await charts.render(job)
    return 1_000 * (_cpu_s() - began) / SLICE


def _cpu_s() -> float:
    """Of this process and the one that renders."""
    workers = [pid for pid in children(os.getpid()) if WORKER in command(pid)]
    return time.process_time() + sum(exact_cpu_s(pid) for pid in workers)


@contextmanager
def _sdk(archive: Path, values: str, options: str) -> Iterator["subprocess.Popen[str]"]:
    """The process that has the SDK alone."""
    command = [sys.executable, "-m", "bench.sdk_alone", str(archive), values, options]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        _alone(process)
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(END_S)


def _alone(process: "subprocess.Popen[str]") -> tuple[float, float]:
    """Milliseconds that loading and rendering take."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{SLICE}\n")
    process.stdin.flush()
    loading, rendering = map(float, process.stdout.readline().split())
    return 1_000 * loading / SLICE, 1_000 * rendering / SLICE
