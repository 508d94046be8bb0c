"""Work on large objects: in a thread, one after the other, and with the same end as on small ones."""

import threading
from collections.abc import Generator, Sequence

import anyio
import anyio.lowlevel
import pytest

from tests.cluster.embedded.small import CORE, MERGE, Small, open_small
from tidelog.engine.cluster.embedded.aside import LARGE_BYTES, Aside
from tidelog.engine.objects.rules import Judge, Rule, Verdict

LARGE, SMALL = LARGE_BYTES + 1, LARGE_BYTES


class Slow:
    """A judge that takes a turn of the loop."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    async def judge(self, rules: Sequence[Rule], *, only_compile: bool = False) -> tuple[Verdict, ...]:
        self.threads.append(threading.get_ident())
        await anyio.lowlevel.checkpoint()
        return tuple(Verdict("invalid", rule.expression) for rule in rules)


async def judged(judge: Judge, expression: str) -> tuple[int, str]:
    (verdict,) = await judge.judge([Rule(expression)])
    return threading.get_ident(), verdict.message


@pytest.mark.parametrize(("size", "is_aside"), [(0, False), (SMALL, False), (LARGE, True)])
async def test_what_is_large_is_done_aside_and_judged_in_the_loop(size: int, *, is_aside: bool) -> None:
    judge, here = Slow(), threading.get_ident()
    aside = Aside(judge)
    thread, message = await aside.run(size, judged, "self.a")
    assert (thread != here, message, judge.threads) == (is_aside, "self.a", [here])
    assert (await aside.call(size, threading.get_ident) != here) == is_aside


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_what_goes_wrong_is_told_to_who_asked(size: int) -> None:
    async def wrong(judge: Judge, text: str) -> None:
        await judged(judge, text)
        raise KeyError(text)

    aside = Aside(Slow())
    with pytest.raises(KeyError, match="planted"):
        await aside.run(size, wrong, "planted")
    with pytest.raises(ZeroDivisionError):
        await aside.call(size, lambda: 1 // 0)


async def test_one_is_done_after_the_other_and_the_loop_goes_on() -> None:
    aside, at_work, most, go = Aside(Slow()), 0, 0, threading.Event()

    def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        assert go.wait(10)
        at_work -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(aside.call, LARGE, work)
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert most == 1


async def test_work_that_waits_for_the_loop_is_none_for_a_thread() -> None:
    class Turn:
        def __await__(self) -> Generator[None]:
            yield

    async def waits(judge: Judge) -> None:
        await Turn()

    with pytest.raises(RuntimeError, match="has waited for the event loop"):
        await Aside(Slow()).run(LARGE, waits)


@pytest.fixture
def data() -> dict[str, str]:
    return {f"key{number}": "v" for number in range(5_000)}


async def test_a_replace_of_any_version_is_not_told_that_another_was_quicker(data: dict[str, str]) -> None:
    async with open_small() as small:
        path = f"{CORE}/configmaps"
        await small.create(path, {"metadata": {"name": "a"}, "data": data})
        answers: list[int] = []

        async def ask(method: str, body: object) -> None:
            answers.append((await small.answer(method, f"{path}/a", body, patch=MERGE))[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "PUT", {"metadata": {"name": "a"}, "data": {**data, "more": "v"}})
            tasks.start_soon(ask, "PATCH", {"metadata": {"labels": {"a": "b"}}})
        assert answers == [200, 200]
        versioned = await small.get(f"{path}/a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "PATCH", {"metadata": {"labels": {"a": "c"}}})
            tasks.start_soon(ask, "PUT", versioned)
        assert sorted(answers[2:]) == [200, 409]


async def test_a_rule_is_asked_of_a_large_object_too() -> None:
    rule = {"rule": "self.texts.size() < 3000", "message": "too many"}
    texts = {"type": "array", "items": {"type": "string"}}
    spec = {"type": "object", "properties": {"texts": texts}, "x-kubernetes-validations": [rule]}
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    definition = {"group": "example.com", "scope": "Namespaced", "names": {"plural": "bigs", "kind": "Big"}}
    async with open_small() as small:
        await define(small, {**definition, "versions": [version]})
        bigs = "/apis/example.com/v1/namespaces/test/bigs"
        assert (await small.answer("POST", bigs, big("a", 2_999)))[0] == 201
        status, told = await small.answer("POST", bigs, big("b", 3_000))
        assert status == 422
        assert [cause["message"] for cause in told["details"]["causes"]] == ["Invalid value: too many"]


def big(name: str, count: int) -> object:
    spec = {"texts": ["x" * 20] * count}
    return {"apiVersion": "example.com/v1", "kind": "Big", "metadata": {"name": name}, "spec": spec}


async def define(small: Small, spec: object) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    await small.create(path, {"metadata": {"name": "bigs.example.com"}, "spec": spec})
    await small.settle()
