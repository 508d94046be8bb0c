"""Metrics by Flux's names (Flux contract 6.4), for its dashboards."""

import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tidelog.engine.kinds.meta import HELM_GROUP, KUSTOMIZE_GROUP, SOURCE_GROUP
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.schedule import Scheduler, Trigger
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.engine.sources.clouds.logins import CloudLogins
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.projections import Standing

SHOP = ObjectKey(KUSTOMIZE_GROUP, "Kustomization", "team", "shop").stream("east")
WEB = ObjectKey(HELM_GROUP, "HelmRelease", "team", "web").stream("east")
FLEET = ObjectKey(SOURCE_GROUP, "GitRepository", "team", "fleet").stream("east")
DURATION = "gotk_reconcile_duration_seconds"


class World:
    """Metrics of an engine that does nothing by itself."""

    def __init__(self, standings: dict[StreamName, Standing] | None = None) -> None:
        self.metrics = Metrics()
        self.standings = standings or {SHOP: Standing(ready="True"), FLEET: Standing(ready="True")}

        async def nothing(_: StreamName, __: Trigger) -> None:
            return None

        self.targets = Scheduler(nothing, 4)
        self.clouds = CloudLogins()
        self.engine = SimpleNamespace(
            memory=SimpleNamespace(conditions=self.standings, listen=lambda _: None, position=7),
            cluster_alias="east",
            sources=Scheduler(nothing, 2),
            targets=self.targets,
            on_pass=None,
            fetchers=SimpleNamespace(clouds=self.clouds),
        )
        self.metrics.bind(cast("Engine", self.engine))

    def passed(self, stream: StreamName, seconds: float, result: str = "success") -> None:
        self.engine.on_pass(stream, seconds, result)

    def samples(self, metric: str) -> list[Any]:
        families = text_string_to_metric_families(self.metrics.text().decode())
        return [sample for family in families for sample in family.samples if sample.name == metric]

    def value(self, metric: str, /, **labels: str) -> float | None:
        return next((one.value for one in self.samples(metric) if one.labels == labels), None)


def test_the_duration_of_each_pass_is_counted_in_fluxs_buckets() -> None:
    world = World()
    world.passed(SHOP, 0.02)
    world.passed(SHOP, 60.0)
    world.passed(FLEET, 1.0)
    named = {"kind": "Kustomization", "name": "shop", "namespace": "team"}
    assert world.value(f"{DURATION}_count", **named) == 2
    assert world.value(f"{DURATION}_sum", **named) == 60.02
    bounds = [float(one.labels["le"]) for one in world.samples(f"{DURATION}_bucket") if one.labels["name"] == "shop"]
    assert len(bounds) == 11
    assert (bounds[0], round(bounds[9], 6), bounds[10]) == (0.01, 1800.0, float("inf"))
    growth = [after / before for before, after in pairwise(bounds[:10])]
    assert max(growth) == pytest.approx(min(growth)), "each is as much larger than the one before"


def test_the_series_of_what_is_no_more_go_with_its_last_pass() -> None:
    world = World()
    world.passed(SHOP, 1.0)
    world.passed(FLEET, 1.0)
    del world.standings[SHOP]
    world.passed(SHOP, 1.0)
    assert [one.labels["name"] for one in world.samples(f"{DURATION}_count")] == ["fleet"]


def test_what_flux_registers_and_never_records_is_not_there() -> None:
    world = World()
    world.passed(SHOP, 1.0)
    text = world.metrics.text().decode()
    assert DURATION in text
    assert "gotk_reconcile_condition" not in text
    assert "gotk_suspend_status" not in text


def test_what_fluxs_dashboards_show_of_the_runtime_is_there() -> None:
    world = World()
    world.passed(SHOP, 1.0)
    world.passed(SHOP, 1.0, "error")
    world.passed(FLEET, 1.0, "requeue_after")
    world.targets.wake(SHOP, Trigger(why="test"))
    total = "controller_runtime_reconcile_total"
    assert world.value(total, controller="kustomization", result="success") == 1
    assert world.value(total, controller="kustomization", result="error") == 1
    assert world.value(total, controller="gitrepository", result="requeue_after") == 1
    assert world.value("controller_runtime_max_concurrent_reconciles", controller="kustomization") == 4
    assert world.value("controller_runtime_max_concurrent_reconciles", controller="gitrepository") == 2
    assert world.value("workqueue_depth", name="kustomization") == 1


def test_what_nothing_happens_to_after_a_start_is_told_of_too() -> None:
    elsewhere = ObjectKey(KUSTOMIZE_GROUP, "Kustomization", "team", "other").stream("west")
    world = World({SHOP: Standing(ready="False"), FLEET: Standing(ready="True"), elsewhere: Standing(ready="True")})
    ready = {one.labels["name"]: one.value for one in world.samples("tidelog_ready")}
    assert ready == {"shop": 0, "fleet": 1}
    assert world.value("tidelog_log_position") == 7


def test_the_process_is_told_as_every_program_tells_it() -> None:
    text = Metrics().process_text().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {sample.name: sample.value for sample in samples}
    assert found["process_resident_memory_bytes"] > 2**20
    assert found["process_cpu_seconds_total"] > 0


def test_the_page_names_all_metrics_and_no_other() -> None:
    world = World()
    families = [*world.metrics.registry.collect(), *world.metrics.process.collect()]
    there = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == there


def test_releases_are_told_beside_kustomizations() -> None:
    world = World()
    world.standings[WEB] = Standing(ready="True")
    world.passed(WEB, 1.0)
    for stream in (SHOP, WEB, ObjectKey(HELM_GROUP, "HelmRelease", "team", "db").stream("east")):
        world.targets.wake(stream, Trigger(why="test"))
    assert world.value(f"{DURATION}_count", kind="HelmRelease", name="web", namespace="team") == 1
    assert world.value("controller_runtime_reconcile_total", controller="helmrelease", result="success") == 1
    assert world.value("controller_runtime_max_concurrent_reconciles", controller="helmrelease") == 4
    depths = {name: world.value("workqueue_depth", name=name) for name in ("kustomization", "helmrelease")}
    assert depths == {"kustomization": 1, "helmrelease": 2}


def test_who_needed_a_cloud_s_token_is_counted_until_it_is_no_more() -> None:
    world = World()
    world.engine.on_login(FLEET, False)
    world.engine.on_login(FLEET, True)
    world.engine.on_login(FLEET, True)
    events, labels = "gotk_token_cache_events_total", {"kind": "GitRepository", "name": "fleet", "namespace": "team"}
    labels["operation"] = "reconcile"
    assert world.value(events, event_type="cache_miss", **labels) == 1
    assert world.value(events, event_type="cache_hit", **labels) == 2
    world.clouds.given, world.clouds.denied, world.clouds.evicted = 4, 3, 2
    assert world.value("gotk_token_cache_requests_total", status="success") == 4
    assert world.value("gotk_token_cache_requests_total", status="failure") == 3
    assert world.value("gotk_token_cache_evictions_total") == 2
    assert world.value("gotk_token_cached_items") == 0
    del world.standings[FLEET]
    world.passed(FLEET, 1.0)
    assert world.samples(events) == []
