"""What a pass records: under one run, after what is there, small, and without secrets."""

from collections.abc import AsyncIterator
from pathlib import Path

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
from tidelog.engine.runtime.run import Run, StageError, asking
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.secrecy.logs import keeping_secret
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.names import ObjectId, PlanId, Revision
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


def a_pass(memory: Memory) -> Run:
    return Run(memory, SHOP, Trigger(why="test"))


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
        await a_pass(memory).fail(failed("kustomize build failed: x.yaml:3"), 1, Revision("main@sha1:1"))
    events = [one.event for one in await recorded(memory)]
    assert [getattr(event, "repeats", None) for event in events] == [False, True, True]
    assert [getattr(event, "message", None) for event in events] == ["kustomize build failed: x.yaml:3", "", ""]
    assert [getattr(event, "attempt", None) for event in events] == [1, 2, 3]
    standing = a_pass(memory).standing
    assert (standing.message, standing.failures) == ("kustomize build failed: x.yaml:3", 3)


async def test_another_failure_has_its_own_words(memory: Memory) -> None:
    for message in ("one", "two", "one"):
        await a_pass(memory).fail(failed(message), 1, None)
    events = [one.event for one in await recorded(memory)]
    assert [getattr(event, "message", None) for event in events] == ["one", "two", "one"]


async def test_who_still_waits_for_the_same_thing_has_nothing_to_record(memory: Memory) -> None:
    src = source("east", "src")
    for _ in range(3):
        await a_pass(memory).fail(failed("not there yet", waits_for=src), 1, None)
    assert len(await recorded(memory)) == 1
    await a_pass(memory).fail(failed("not there yet", waits_for=source("east", "other")), 1, None)
    assert len(await recorded(memory)) == 2


async def test_each_failure_ends_its_run(memory: Memory) -> None:
    await a_pass(memory).fail(failed("one"), 1, None)
    await a_pass(memory).fail(failed("two"), 1, None)
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
    await run.fail(failed(f"bad value {SECRET}"), 1, None)
    assert SECRET.encode() not in (await last(memory)).raw
    await run.fail(failed(f"bad value {SECRET}"), 1, None)
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
