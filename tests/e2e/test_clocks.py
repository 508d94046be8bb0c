"""The machine's clock is set while the daemon is at work, by hours: nothing ends early for it, or never."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.releases import Releases, ready_message
from tests.e2e.test_release_hooks import hook
from tests.e2e.world import KUSTOMIZE, Running, World, condition, config_map, failed, is_ready, manifest
from tidelog.engine.kinds import kustomization
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.runtime import suspension
from tidelog.events.moment import time_of
from tidelog.events.vocabulary import (
    HealthChanged,
    HookEnded,
    HookStarted,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
    Resumed,
    Suspended,
)

Clock = Callable[[Running, float], None]
TIMEOUT_S = 3.0
"""In the place of the 30 s that are the least."""
INTERVAL_S = 4
LABELS = {"app": "web"}
NEVER_READY = manifest(
    "apps/v1",
    "Deployment",
    "web",
    spec={
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": "none"}]}},
    },
)


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the clock of a daemon and its log some hours ahead, or back."""

    def set_(running: Running, hours: float) -> None:
        def now() -> datetime:
            return datetime.now(UTC) + timedelta(hours=hours)

        monkeypatch.setattr(running.daemon.engine, "_clock", now)
        monkeypatch.setattr(running.daemon.engine.sites.home.observer, "_clock", now)
        monkeypatch.setattr(running.daemon.log._store.writer, "_clock", lambda: time_of(now()))

    return set_


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kustomization, "TIMEOUT_MARGIN", Duration.of_seconds(TIMEOUT_S))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("hours", [-2, 2])
async def test_a_health_check_takes_its_time_and_no_more(world: World, set_clock: Clock, hours: float) -> None:
    world.commit({"app/web.yaml": NEVER_READY})
    await world.source()
    async with world.daemon() as running:
        began = time.monotonic()  # before it may begin to wait, of which we may hear late
        await world.target("app", "./app", targetNamespace=world.namespace, wait=True, timeout="1s")
        await running.until_event(HealthChanged, where=lambda event: event.health == "InProgress")
        set_clock(running, hours)
        await world.until_target("app", lambda obj: "health checks" in condition(obj, "Reconciling").get("message", ""))
        await world.until_target("app", failed("HealthCheckFailed", "timeout"), limit_s=TIMEOUT_S * 3)
        assert time.monotonic() - began > TIMEOUT_S - 1


async def test_what_waits_says_so_though_the_clock_was_set_back(world: World, set_clock: Clock) -> None:
    world.commit({"app/a.yaml": config_map("a")})
    await world.source()
    async with world.daemon() as running:
        await running.idle()
        set_clock(running, -2)
        await world.target("app", "./app", dependsOn=[{"name": "nobody"}])
        await world.until_target("app", failed("DependencyNotReady"), limit_s=10)


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
async def test_a_deletion_that_never_ends_is_given_up_though_the_clock_was_set_back(
    world: World, set_clock: Clock
) -> None:
    world.commit({"app/a.yaml": manifest("v1", "ConfigMap", "a", metadata={"finalizers": ["example.com/never"]})})
    await world.source()
    await world.target(
        "app", "./app", targetNamespace=world.namespace, deletionPolicy="WaitForTermination", timeout="1s"
    )
    async with world.daemon() as running:
        await world.until_applied("app")
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await running.until_event(ObjectPruned)
        set_clock(running, -2)
        await world.until(KUSTOMIZE, "Kustomization", "app", lambda obj: obj is None, limit_s=10)
    await world.patch("v1", "ConfigMap", "a", {"metadata": {"finalizers": None}})


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-1, 24])
async def test_a_job_that_was_taken_away_is_made_again_at_the_interval_and_not_before(
    world: World, set_clock: Clock, hours: float
) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "job", "image": "job:1"}]}}
    spec = {"activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 1, "template": template}
    world.commit({"app/job.yaml": manifest("batch/v1", "Job", "job", spec=spec)})
    await world.source()
    async with world.daemon() as running:
        await world.target("app", "./app", targetNamespace=world.namespace, interval=f"{INTERVAL_S}s")
        await running.until_event(ObjectObserved, where=lambda event: event.gone)
        began, seen = time.monotonic(), len(running.recorded)
        set_clock(running, hours)
        await running.until_event(ObjectApplied, after=seen)
        assert INTERVAL_S * 0.8 < time.monotonic() - began < INTERVAL_S * 3


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-1, 24])
async def test_a_hook_of_a_release_has_its_time_and_no_more(world: World, set_clock: Clock, hours: float) -> None:
    releases = Releases(world)
    await releases.commit(job=hook("job", "post-install", kind="Job"))
    await world.source()
    async with world.daemon() as running:
        await releases.release(timeout=f"{INTERVAL_S}s")
        await running.until_event(HookStarted)
        began = time.monotonic()
        await running.idle()
        set_clock(running, hours)
        await running.until_event(HookEnded, where=lambda event: event.outcome == "failed")
        assert INTERVAL_S * 0.8 < time.monotonic() - began < INTERVAL_S * 3
        await releases.until(lambda obj: "timed out" in ready_message(obj), "failed")


@pytest.mark.slow
async def test_what_a_release_is_at_is_told_though_the_clock_was_set_back(world: World, set_clock: Clock) -> None:
    releases = Releases(world)
    await releases.commit(job=hook("job", "post-install", kind="Job"))
    await world.source()
    async with world.daemon() as running:
        await world.until_source(is_ready)
        await running.idle()
        set_clock(running, -1)
        await releases.release(timeout="1h")
        await running.until_event(HookStarted)
        await releases.until(lambda obj: "Running 'install'" in condition(obj, "Reconciling").get("message", ""))


async def test_a_suspension_ends_by_the_clock_though_that_went_on_by_itself(
    world: World, set_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspension, "LOOK_S", 0.2)
    world.commit({"app/a.yaml": config_map("a")})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    async with world.daemon() as running:
        await world.until_applied("app")
        until = time_of(datetime.now(UTC) + timedelta(hours=1))
        await running.ask("suspend", running.target("app"), until=until)
        await running.until_event(Suspended)
        await running.idle()
        assert not running.events(Resumed)
        set_clock(running, 2)
        await running.until_event(Resumed)
