"""The scheduler: who runs when, in virtual time."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.virtual_time import VIRTUAL_TIME, VirtualTimeLoop
from tidelog.engine.runtime.schedule import TIMERS_SPARE, Scheduler, Trigger
from tidelog.events.names import EventId, ObjectKey, StreamName, TraceId


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return VIRTUAL_TIME


def key(name: str, namespace: str = "team") -> StreamName:
    return ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", namespace, name).stream("east")


A, B = key("a"), key("b")


class Passes:
    """What ran, and when; what a pass does is what its test says."""

    def __init__(self, concurrency: int = 2, seconds: float = 1.0) -> None:
        self.scheduler = Scheduler(self.reconcile, concurrency)
        self.seconds = seconds
        self.begun: list[tuple[float, StreamName, str]] = []
        self.running: Counter[StreamName] = Counter()
        self.most = 0
        self.answers: dict[StreamName, float | None] = {}
        self.during: Callable[[StreamName], Awaitable[None]] | None = None

    async def reconcile(self, key: StreamName, trigger: Trigger) -> float | None:
        self.begun.append((anyio.current_time(), key, trigger.why))
        self.running[key] += 1
        assert self.running[key] == 1, "twice at once"
        self.most = max(self.most, self.running.total())
        try:
            if self.during is not None:
                await self.during(key)
            await anyio.sleep(self.seconds)
            return self.answers.get(key)
        finally:
            self.running[key] -= 1

    @property
    def names(self) -> list[str]:
        return [key.rpartition("/")[2] for _, key, _ in self.begun]

    @property
    def times(self) -> list[float]:
        return [round(at - self.begun[0][0], 3) for at, _, _ in self.begun]

    async def run_for(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.scheduler.run()


def wake(why: str = "test", **rest: Any) -> Trigger:
    return Trigger(why=why, **rest)


async def test_a_key_that_is_woken_often_before_its_turn_runs_once() -> None:
    passes = Passes()
    for number in range(5):
        passes.scheduler.wake(A, wake(str(number)))
    assert passes.scheduler.queued == 1
    await passes.run_for(10)
    assert [why for _, _, why in passes.begun] == ["4"], "the newest trigger counts"


async def test_a_key_that_is_woken_while_it_runs_runs_once_more_however_often_it_was_woken() -> None:
    passes = Passes()

    async def woken(key: StreamName) -> None:
        if len(passes.begun) == 1:
            passes.scheduler.wake(key, wake("first"))
            passes.scheduler.wake(key, wake("second"))

    passes.during = woken
    passes.scheduler.wake(A, wake())
    await passes.run_for(10)
    assert [why for _, _, why in passes.begun] == ["test", "second"]
    assert passes.scheduler.is_idle(A)


async def test_what_an_older_trigger_asked_for_is_kept_when_a_newer_does_not_say() -> None:
    got: list[Trigger] = []

    async def reconcile(_: StreamName, trigger: Trigger) -> None:
        got.append(trigger)

    scheduler = Scheduler(reconcile, 1)
    cause, trace = EventId("event"), TraceId("trace")
    scheduler.wake(A, wake("old", token="now", forced=True, cause=cause, trace=trace))
    scheduler.wake(A, wake("new"))
    with anyio.move_on_after(1):
        await scheduler.run()
    assert got == [wake("new", token="now", forced=True, cause=cause, trace=trace)]


async def test_no_more_than_the_bound_run_at_once_and_as_many_as_it_where_there_is_work() -> None:
    passes = Passes(concurrency=3)
    for number in range(10):
        passes.scheduler.wake(key(str(number)), wake())
    await passes.run_for(60)
    assert passes.most == 3
    assert len(passes.begun) == 10
    assert passes.times[-1] == 3, "four rounds of a second, the last of which began after three"


async def test_a_namespace_with_much_to_do_does_not_keep_the_others_waiting() -> None:
    passes = Passes(concurrency=1)
    for number in range(5):
        passes.scheduler.wake(key(f"big-{number}", "big"), wake())
    passes.scheduler.wake(key("small", "small"), wake())
    passes.scheduler.wake(key("other", "other"), wake())
    await passes.run_for(60)
    assert passes.names == ["big-0", "small", "other", "big-1", "big-2", "big-3", "big-4"]


async def test_a_namespace_whose_passes_hang_does_not_have_all_places() -> None:
    passes = Passes(concurrency=8, seconds=1_000)

    async def hung(_: StreamName) -> None:
        if len(passes.begun) == 6:
            for name in ("small", "other"):
                passes.scheduler.wake(key(name, name), wake())

    passes.during = hung
    for number in range(20):
        passes.scheduler.wake(key(f"big-{number}", "big"), wake())
    await passes.run_for(10)
    assert passes.names == [*(f"big-{number}" for number in range(6)), "small", "other"]


async def test_a_namespace_that_comes_back_at_once_waits_for_its_turn_again() -> None:
    passes = Passes(concurrency=1)

    async def woken(key: StreamName) -> None:
        if key == A and passes.names.count("a") < 3:
            passes.scheduler.wake(A, wake())

    passes.during = woken
    passes.scheduler.wake(A, wake())
    for number in range(2):
        passes.scheduler.wake(key(f"other-{number}", "other"), wake())
    await passes.run_for(60)
    assert passes.names == ["a", "other-0", "a", "other-1", "a"]


async def test_a_pass_that_asks_for_another_gets_it_when_its_time_has_come() -> None:
    passes = Passes(seconds=0)
    passes.answers[A] = 10.0
    passes.scheduler.wake(A, wake())
    await passes.run_for(35)
    assert passes.times == [0, 10, 20, 30]


async def test_the_earliest_of_several_timers_counts() -> None:
    passes = Passes(seconds=0)
    passes.scheduler.wake(B, wake())
    passes.scheduler.wake_in(A, 100)
    passes.scheduler.wake_in(A, 5)
    passes.scheduler.wake_in(A, 900)
    await passes.run_for(2_000)
    assert (passes.names, passes.times) == (["b", "a"], [0, 5])


async def test_a_timer_that_is_set_while_its_key_runs_does_not_put_off_what_the_pass_asks_for() -> None:
    passes = Passes(seconds=1)
    passes.answers[A] = 10.0

    async def postponed(_: StreamName) -> None:
        passes.scheduler.wake_in(A, 900)

    passes.during = postponed
    passes.scheduler.wake(A, wake())
    await passes.run_for(15)
    assert passes.times == [0, 11]


async def test_a_run_makes_the_timers_from_before_it_void() -> None:
    passes = Passes(seconds=0)
    passes.scheduler.wake_in(A, 10)
    passes.scheduler.wake(A, wake())
    await passes.run_for(100)
    assert passes.times == [0]


async def test_timers_that_were_replaced_do_not_pile_up() -> None:
    passes = Passes(seconds=0)
    for number in range(10_000):
        passes.scheduler.wake_in(A, 20_000 - number)
    assert len(passes.scheduler._timers) <= TIMERS_SPARE + 3
    passes.scheduler.wake(B, wake())
    await passes.run_for(20_000)
    assert passes.times == [0, 10_001]


async def test_a_key_that_is_forgotten_does_not_run() -> None:
    passes = Passes()
    passes.scheduler.wake(A, wake())
    passes.scheduler.wake_in(A, 5)
    passes.scheduler.forget(A)
    assert passes.scheduler.queued == 0
    passes.scheduler.wake(B, wake())
    await passes.run_for(100)
    assert passes.names == ["b"]


async def test_a_key_that_is_forgotten_while_it_runs_does_not_come_back() -> None:
    passes = Passes()
    passes.answers[A] = 5.0

    async def forgotten(key: StreamName) -> None:
        passes.scheduler.wake(key, wake())
        passes.scheduler.forget(key)

    passes.during = forgotten
    passes.scheduler.wake(A, wake())
    await passes.run_for(100)
    assert passes.names == ["a"]


async def test_a_key_that_is_made_again_while_its_last_run_goes_on_runs_again() -> None:
    passes = Passes()

    async def made_again(key: StreamName) -> None:
        if len(passes.begun) == 1:
            passes.scheduler.forget(key)
            passes.scheduler.wake(key, wake("new"))

    passes.during = made_again
    passes.scheduler.wake(A, wake())
    await passes.run_for(100)
    assert [why for _, _, why in passes.begun] == ["test", "new"]


async def test_an_error_of_a_pass_ends_the_scheduler_and_every_other_pass() -> None:
    async def reconcile(key: StreamName, _: Trigger) -> None:
        if key == B:
            raise RuntimeError("a defect")
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(key)

    ended: list[StreamName] = []
    scheduler = Scheduler(reconcile, 2)
    scheduler.wake(A, wake())
    scheduler.wake(B, wake())
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a defect")):
        await scheduler.run()
    assert ended == [A]


async def test_cancelling_ends_what_runs_and_keeps_what_it_was_woken_for() -> None:
    passes = Passes(seconds=1_000)

    async def woken(key: StreamName) -> None:
        passes.scheduler.wake(key, wake("again"))

    passes.during = woken
    passes.scheduler.wake(A, wake())
    await passes.run_for(10)
    assert (passes.running.total(), passes.scheduler.running, passes.scheduler.queued) == (0, 0, 1)


async def test_what_is_woken_after_a_long_silence_runs_at_once() -> None:
    passes = Passes(seconds=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(passes.scheduler.run)
        await anyio.sleep(10_000)
        passes.scheduler.wake(A, wake())
        await anyio.sleep(0.001)
        assert passes.names == ["a"]
        tasks.cancel_scope.cancel()


# A model: what has to have run, whatever happens in whatever order.

KEYS = [key(name, namespace) for namespace in ("one", "two") for name in ("a", "b")]
Deed = tuple[str, int, int]
deeds = st.lists(
    st.tuples(st.sampled_from(["wake", "timer", "forget", "pass time"]), st.integers(0, 3), st.integers(1, 9)),
    max_size=40,
)


@given(deeds=deeds, concurrency=st.integers(1, 3), seconds=st.integers(0, 3))
def test_every_key_runs_after_it_was_last_woken_and_never_when_it_was_forgotten_since(
    deeds: list[Deed], concurrency: int, seconds: int
) -> None:
    async def play() -> None:
        passes = Passes(concurrency, float(seconds))
        wanted: dict[StreamName, float] = {}
        """By when, at the earliest, a key has to have begun a run."""
        silent: dict[StreamName, float] = {}
        """Since when a key is forgotten."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(passes.scheduler.run)
            for deed, number, amount in deeds:
                one, now = KEYS[number], anyio.current_time()
                match deed:
                    case "wake":
                        passes.scheduler.wake(one, wake())
                        wanted[one] = now
                        silent.pop(one, None)
                    case "timer":
                        passes.scheduler.wake_in(one, amount)
                        silent.pop(one, None)
                    case "forget":
                        passes.scheduler.forget(one)
                        wanted.pop(one, None)
                        silent[one] = now
                    case _:
                        await anyio.sleep(amount)
            await anyio.sleep(1_000)
            assert all(passes.scheduler.is_idle(one) for one in KEYS)
            assert (passes.scheduler.queued, passes.scheduler.running) == (0, 0)
            tasks.cancel_scope.cancel()
        assert passes.most <= concurrency
        for one, since in wanted.items():
            assert any(key == one and at >= since for at, key, _ in passes.begun), "woken, and did not run"
        for one, since in silent.items():
            assert not any(key == one and at > since for at, key, _ in passes.begun), "ran after it was forgotten"

    anyio.run(play, backend_options={"loop_factory": VirtualTimeLoop})
