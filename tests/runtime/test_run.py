"""What a pass records: under one run, after what is there, small, and without secrets."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.events.logs import JANE, digest, source, target
from tidelog.engine.cluster.errors import (
    ForbiddenError,
    OutcomeUnknown,
    ServerError,
    Status,
    TooManyRequestsError,
    UnreachableError,
)
from tidelog.engine.runtime.memory import Memory
from tidelog.engine.runtime.repeats import Repeats
from tidelog.engine.runtime.run import Run, StageError, asking
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.waits import Waits
from tidelog.engine.secrecy.logs import keeping_secret
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.moment import time_of
from tidelog.events.names import ObjectId, PlanId, Revision
from tidelog.events.projections import Standing
from tidelog.events.vocabulary import (
    ApplyFailed,
    HealthChanged,
    Person,
    PlanApproved,
    RevisionFetched,
    RunEnded,
    StageFailed,
    Verdict,
    VerificationFailed,
)
from tidelog.storage import ANY, NewEvent, Query, Recorded, open_log

SHOP = target("east", "shop")
PLAN = PlanId("plan-1")
SECRET = "correct-horse-battery"


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    async with open_log(tmp_path / "store") as log:
        memory = Memory(log)
        await memory.read_missing()
        yield memory


def a_pass(memory: Memory, *, forced: bool = True) -> Run:
    return Run(memory, SHOP, Trigger(why="test", forced=forced))


def repeats_after(seconds: float) -> Repeats:
    """As they look so long after every time of the log."""
    return Repeats(Waits(lambda _: seconds))


NEW = repeats_after(0)


async def recorded(memory: Memory) -> list[Recorded]:
    return [one async for one in memory.log.read(Query(stream=SHOP))]


async def last(memory: Memory) -> Recorded:
    return (await recorded(memory))[-1]


def failed(message: str = "no", **rest: object) -> StageError:
    return StageError("render", "BuildFailed", message, **rest)  # type: ignore[arg-type]


async def test_events_of_a_pass_are_one_run_and_each_is_caused_by_the_one_before(memory: Memory) -> None:
    run = Run(memory, SHOP, Trigger(why="test", actor=JANE))
    await run.record([HealthChanged(checked=True, health="InProgress")])
    await run.record([HealthChanged(checked=True, health="Current"), RunEnded(outcome="succeeded", generation=1)])
    first, second, third = (one.envelope for one in await recorded(memory))
    assert first.run == second.run == third.run == run.id
    assert (first.cause, second.cause) == (None, first.id)
    assert first.actor == JANE
    assert run.records == 3


async def test_a_pass_goes_on_with_the_run_that_is_open_and_begins_another_when_it_is_over(memory: Memory) -> None:
    await a_pass(memory).record([HealthChanged(checked=True, health="InProgress")])
    await a_pass(memory).record([RunEnded(outcome="succeeded", generation=1)])
    await a_pass(memory).record([HealthChanged(checked=True, health="InProgress")])
    runs = [one.envelope.run for one in await recorded(memory)]
    assert runs[0] == runs[1] != runs[2]


async def test_a_request_that_came_between_does_not_keep_a_run_from_recording(memory: Memory) -> None:
    run = a_pass(memory)
    await run.record([HealthChanged(checked=True, health="InProgress")])
    await memory.log.append(SHOP, ANY, [NewEvent(PlanApproved(plan=PLAN, why="it is fine"))])
    await run.record([RunEnded(outcome="succeeded", generation=1)])
    assert [one.envelope.type for one in await recorded(memory)] == ["HealthChanged", "PlanApproved", "RunEnded"]
    assert run.standing.approval is not None


async def test_a_pass_does_not_go_on_when_another_run_has_begun(memory: Memory) -> None:
    run = a_pass(memory)
    await run.record([HealthChanged(checked=True, health="InProgress")])
    other = Run(memory, SHOP, Trigger(why="other"))
    other.origin.run = other.origin.trace  # type: ignore[assignment]
    await memory.log.append(SHOP, ANY, [NewEvent(HealthChanged(checked=True, health="Current"), run=other.id)])
    with pytest.raises(StageError, match="another run has begun") as caught:
        await run.record([RunEnded(outcome="succeeded", generation=1)])
    assert caught.value.retry_s == 0
    assert (await last(memory)).envelope.run == other.id


async def test_a_failure_like_the_one_before_is_small_and_the_row_keeps_its_words(memory: Memory) -> None:
    for _ in range(3):
        await a_pass(memory).fail(failed("kustomize build failed: x.yaml:3"), 1, Revision("main@sha1:1"), NEW)
    events = [one.event for one in await recorded(memory)]
    assert [getattr(event, "repeats", None) for event in events] == [False, True, True]
    assert [getattr(event, "message", None) for event in events] == ["kustomize build failed: x.yaml:3", "", ""]
    assert [getattr(event, "attempt", None) for event in events] == [1, 2, 3]
    standing = a_pass(memory).standing
    assert (standing.message, standing.failures) == ("kustomize build failed: x.yaml:3", 3)


async def test_of_failures_that_repeat_themselves_fewer_and_fewer_are_recorded_and_all_are_counted(
    memory: Memory,
) -> None:
    """However often it is tried, and whatever becomes of the daemon."""

    async def fails(repeats: Repeats, times: int, message: str = "no", **trigger: Any) -> None:
        for _ in range(times):
            await Run(memory, SHOP, Trigger(why="its time has come", **trigger)).fail(failed(message), 1, None, repeats)

    async def attempts() -> list[int]:
        return [one.event.attempt for one in await recorded(memory) if isinstance(one.event, StageFailed)]

    repeats = repeats_after(1)
    await fails(repeats, 50)
    assert await attempts() == [1]
    assert repeats.tries(SHOP, a_pass(memory).standing) == 50
    await fails(repeats, 1, forced=True)
    assert await attempts() == [1, 51], "who asks is answered"
    await fails(repeats, 9)
    await fails(repeats, 1, "another")
    assert await attempts() == [1, 51, 61], "another failure is recorded at once"
    await fails(repeats, 9, "another")
    await fails(repeats_after(61), 1, "another")
    assert await attempts() == [1, 51, 61, 62], "after a minute it is recorded again, even by a daemon that is new"
    standing = a_pass(memory).standing
    assert (standing.failures, standing.message) == (62, "another")


@pytest.mark.parametrize(("lasted_s", "after_s"), [(0, 60), (59, 60), (120, 120), (3_000, 3_000), (90_000, 3_600)])
async def test_a_failure_is_recorded_again_when_it_has_lasted_twice_as_long(lasted_s: int, after_s: int) -> None:
    since = datetime(2026, 11, 1, tzinfo=UTC)
    standing = Standing(
        ready="False", failures=2, since=time_of(since), failed=time_of(since + timedelta(seconds=lasted_s))
    )
    assert not repeats_after(after_s - 1).is_due(SHOP, standing)
    assert repeats_after(after_s + 1).is_due(SHOP, standing)


@pytest.mark.parametrize("other", [{"generation": 2}, {"revision": Revision("main@sha1:2")}, {"final": True}])
async def test_a_failure_in_the_same_words_that_is_not_the_same_is_recorded(
    memory: Memory, other: dict[str, Any]
) -> None:
    given: dict[str, Any] = {"generation": 1, "revision": Revision("main@sha1:1"), "final": False}
    for one in (given, given, given | other):
        error = failed("no", final=one["final"])
        await a_pass(memory, forced=False).fail(error, one["generation"], one["revision"], NEW)
    assert len(await recorded(memory)) == 2


async def test_a_run_that_did_something_before_it_failed_as_the_last_is_recorded_to_its_end(memory: Memory) -> None:
    await a_pass(memory, forced=False).fail(failed("no"), 1, None, NEW)
    run = a_pass(memory, forced=False)
    await run.record([HealthChanged(checked=True, health="InProgress")])
    await run.fail(failed("no"), 1, None, NEW)
    assert [one.envelope.type for one in await recorded(memory)] == ["StageFailed", "HealthChanged", "StageFailed"]
    assert run.standing.run is None


async def test_another_failure_has_its_own_words(memory: Memory) -> None:
    for message in ("one", "two", "one"):
        await a_pass(memory).fail(failed(message), 1, None, NEW)
    events = [one.event for one in await recorded(memory)]
    assert [getattr(event, "message", None) for event in events] == ["one", "two", "one"]


async def test_who_still_waits_for_the_same_thing_has_nothing_to_record(memory: Memory) -> None:
    src = source("east", "src")
    for _ in range(3):
        await a_pass(memory).fail(failed("not there yet", waits_for=src), 1, None, NEW)
    assert len(await recorded(memory)) == 1
    await a_pass(memory).fail(failed("not there yet", waits_for=source("east", "other")), 1, None, NEW)
    assert len(await recorded(memory)) == 2


async def test_each_failure_ends_its_run(memory: Memory) -> None:
    await a_pass(memory).fail(failed("one"), 1, None, NEW)
    await a_pass(memory).fail(failed("two"), 1, None, NEW)
    first, second = await recorded(memory)
    assert first.envelope.run != second.envelope.run


async def test_superseding_ends_the_open_run_and_nothing_else(memory: Memory) -> None:
    run = a_pass(memory)
    await run.supersede(1)
    assert await recorded(memory) == [], "there was none"
    await run.record([HealthChanged(checked=True, health="InProgress")])
    await run.supersede(2)
    await run.record([HealthChanged(checked=True, health="InProgress")])
    first, ended, second = await recorded(memory)
    assert ended.event == RunEnded(outcome="superseded", generation=2)
    assert first.envelope.run == ended.envelope.run != second.envelope.run


# What came from outside.

VERDICT = Verdict(check="dry-run", passed=False, object=ObjectId("core/ConfigMap/shop/web"), message=f"is {SECRET}")


@pytest.mark.parametrize(
    "event",
    [
        ApplyFailed(plan=PLAN, wave=0, reason="ReconciliationFailed", message=f"cannot apply: {SECRET}"),
        HealthChanged(checked=True, health="Failed", message=f"it says {SECRET}"),
        VerificationFailed(plan=PLAN, policies=digest("policies"), failed=(VERDICT,)),
        VerificationFailed(
            plan=PLAN,
            policies=digest("policies"),
            failed=(msgspec.structs.replace(VERDICT, message="wrong", path=f'data["{SECRET}"]'),) * 2_000,
        ),
        RevisionFetched(
            revision=Revision("main@sha1:1"),
            tree="1" * 40,
            artifact=digest("artifact"),
            size=1,
            author=Person(name=SECRET, email=f"{SECRET}@example.com"),
            message=f"use {SECRET}",
        ),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_no_secret_value_is_recorded_in_a_text_from_outside(memory: Memory, event: msgspec.Struct) -> None:
    run = a_pass(memory)
    run.secrets.add([SECRET])
    await run.record([event])  # type: ignore[list-item]
    found = await last(memory)
    assert SECRET.encode() not in found.raw
    assert b"***" in found.raw
    body = getattr(found.event, "verdicts", None)
    if body is not None:
        kept = (await memory.log.body(body.digest)).data
        assert SECRET.encode() not in kept
        assert kept.count(b"***") == 2_000


async def test_no_secret_value_is_recorded_in_a_failure(memory: Memory) -> None:
    run = a_pass(memory)
    run.secrets.add([SECRET])
    await run.fail(failed(f"bad value {SECRET}"), 1, None, NEW)
    assert SECRET.encode() not in (await last(memory)).raw
    await run.fail(failed(f"bad value {SECRET}"), 1, None, NEW)
    assert getattr((await last(memory)).event, "repeats", False), "filtered, it is the same as before"


async def test_the_values_are_those_that_the_logs_of_the_pass_are_filtered_for(memory: Memory) -> None:
    with keeping_secret(SecretValues()) as values:
        assert a_pass(memory).secrets is values
    assert a_pass(memory).secrets is not values


HUGE = "\x00" * 100_000


@pytest.mark.parametrize(
    "event",
    [
        ApplyFailed(plan=PLAN, wave=0, reason="ReconciliationFailed", message=HUGE),
        HealthChanged(checked=True, health="Failed", message=HUGE),
        StageFailed(stage="render", reason="BuildFailed", final=True, message=HUGE),
        RevisionFetched(
            revision=Revision("main@sha1:1"),
            tree="1" * 40,
            artifact=digest("artifact"),
            size=1,
            author=Person(name=HUGE, email=HUGE),
            committer=Person(name=HUGE, email=HUGE),
            message=HUGE,
        ),
        VerificationFailed(
            plan=PLAN,
            policies=digest("policies"),
            failed=(msgspec.structs.replace(VERDICT, message=HUGE, path=HUGE),) * 50,
        ),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_no_text_from_outside_makes_an_event_too_large(memory: Memory, event: msgspec.Struct) -> None:
    await a_pass(memory).record([event])  # type: ignore[list-item]
    assert (await last(memory)).envelope.type == type(event).__name__


async def test_of_many_verdicts_the_event_has_the_first_and_its_body_all(memory: Memory) -> None:
    verdicts = tuple(
        msgspec.structs.replace(VERDICT, object=ObjectId(f"core/ConfigMap/shop/{number}"), message="wrong " * 50)
        for number in range(2_000)
    )
    await a_pass(memory).record([VerificationFailed(plan=PLAN, policies=digest("p"), failed=verdicts)])
    event = (await last(memory)).event
    assert isinstance(event, VerificationFailed)
    assert event.failed == verdicts[: len(event.failed)]
    assert len(event.failed) > 20
    assert event.verdicts is not None
    body = await memory.log.body(event.verdicts.digest)
    assert msgspec.json.decode(body.data, type=tuple[Verdict, ...]) == verdicts


async def test_few_verdicts_need_no_body(memory: Memory) -> None:
    event = VerificationFailed(plan=PLAN, policies=digest("p"), failed=(VERDICT,))
    await a_pass(memory).record([event])
    assert (await last(memory)).event == event


# What the cluster does not answer.


@pytest.mark.parametrize(
    ("error", "retry_s", "asked_s"),
    [
        (UnreachableError("no way"), 0.0, 0.0),
        (ServerError("broken"), 0.0, 0.0),
        (ServerError("starting", Status(503, retry_after_s=5.0)), 0.0, 5.0),
        (OutcomeUnknown("who knows"), 0.0, 0.0),
        (TimeoutError("too long"), 0.0, 0.0),
        (TooManyRequestsError("busy", Status(429, retry_after_s=7.0)), 0.0, 7.0),
        (TooManyRequestsError("busy"), 0.0, 0.0),
        (ForbiddenError("not you"), None, 0.0),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_error_of_the_cluster_ends_the_stage_with_its_words(
    error: Exception, retry_s: float | None, asked_s: float
) -> None:
    async def ask() -> None:
        raise error

    with pytest.raises(StageError, match=str(error)) as caught:
        await asking("plan", ask())
    assert (caught.value.stage, caught.value.retry_s, caught.value.final) == ("plan", retry_s, False)
    assert caught.value.asked_s == asked_s
