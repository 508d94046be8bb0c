"""The benchmarks run and say something; how fast anything is, is no matter for a test."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BY_NAME = {"client", "embedded", "embedded-memory", "mttp", "releases-memory", "render-chart"}
"""Asked by their name only."""
EVERY = {"append", "append-alone", "fold", "memory", "rebuild", "verify", "as-of"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict):
        for item in value.values():
            yield from numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


@pytest.mark.slow
def test_every_question_is_answered(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    done = bench("--quick", "--events", "3000", "-o", "json", "--keep", str(tmp_path), "--results", str(results))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads(results.read_text())
    assert result["failed"] == []
    assert result["machine"]["cores"] >= 1
    assert {figure["question"] for figure in result["figures"]} == EVERY
    for figure in result["figures"]:
        assert all(math.isfinite(number) for number in numbers(figure)), figure
        assert figure["measured"]["median"] > 0, figure
        assert (figure["goal"] is None) == (figure["met"] is None)
        assert (figure["floor"] is None) == (figure["ratio"] is None)
    again = bench("rebuild", "--events", "3000", "-o", "json", "--keep", str(tmp_path), "--results", str(results))
    assert again.returncode == 0, again.stderr
    assert {figure["question"] for figure in json.loads(again.stdout)["figures"]} == {"rebuild"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "goals"), [("client", 1), ("embedded-memory", 5), ("render-chart", 1)])
def test_questions_that_need_no_servers_are_answered(name: str, goals: int, tmp_path: Path) -> None:
    """Whether a goal is met, and only that, depends on the machine."""
    done = bench(name, "--quick", "-o", "json", "--keep", str(tmp_path), "--results", str(tmp_path / "results.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["failed"] == []
    assert {figure["question"] for figure in result["figures"]} == {name}
    assert sum(figure["goal"] is not None for figure in result["figures"]) == goals
    for figure in result["figures"]:
        assert all(math.isfinite(number) for number in numbers(figure)), figure
        assert figure["measured"]["median"] > 0, figure
    assert list(tmp_path.iterdir()) == [tmp_path / "results.json"]


def test_list_names_every_question() -> None:
    listed = bench("--list")
    assert {line.split()[0] for line in listed.stdout.splitlines()} == EVERY | BY_NAME


def test_unknown_name_is_refused() -> None:
    assert bench("mystery").returncode == 2


@pytest.fixture
def _bench_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.usefixtures("_bench_importable")
def test_workload_is_the_same_again() -> None:
    from bench.workload import Workload

    first, second = (list(Workload(3_000).appends()) for _ in range(2))
    assert first == second
    assert sum(len(part.events) for appends, _ in first for part in appends) == 2_999


@pytest.mark.usefixtures("_bench_importable")
def test_events_of_a_run_name_the_one_before() -> None:
    from bench.workload import Workload

    runs: dict[str, list[Any]] = {}
    observations = total = 0
    for appends, _ in Workload(20_000).appends():
        for part in appends:
            for new in part.events:
                total += 1
                observations += type(new.event).__name__ == "ObjectObserved"
                if new.run is None:
                    assert new.cause is None
                else:
                    runs.setdefault(new.run, []).append(new)
    assert all(later.cause == former.id for events in runs.values() for former, later in pairwise(events))
    assert 0.45 < observations / total < 0.55
