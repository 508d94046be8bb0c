"""What an expression says of objects, and that no expression holds up the engine."""

import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tidelog.engine.expressions.errors import EvaluationError, EvaluatorError, InvalidExpressionError
from tidelog.engine.expressions.evaluator import EXPRESSION_BYTES_MAX, Evaluator
from tidelog.engine.objects.kube import KubeObject

DEP: KubeObject = {
    "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
    "kind": "Kustomization",
    "metadata": {"name": "db", "namespace": "shop", "generation": 3, "labels": {"tier": "data", "app/x": "y"}},
    "spec": {"interval": "10m", "wait": True},
    "status": {
        "observedGeneration": 3,
        "share": 0.5,
        "nothing": None,
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Healthy", "status": "False"},
        ],
        "inventory": {"entries": [{"id": f"shop_cm{n}__ConfigMap", "v": "v1"} for n in range(200)]},
    },
}
SELF: KubeObject = {"metadata": {"name": "web", "namespace": "shop", "labels": {"tier": "front"}}}
NAMES = ("dep", "self")
SLOW = "dep.l.all(n, !dep.s.matches('(a|b)*c'))"
"""Within the budget of iterations, and each of them searches a long text."""
LONG: KubeObject = {"l": list(range(9_000)), "s": "a" * 200_000}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(anyio_backend: str) -> AsyncIterator[Evaluator]:
    async with Evaluator(time_s=30) as evaluator:
        yield evaluator


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("true", True),
        ("false", False),
        ("dep.metadata.generation == dep.status.observedGeneration", True),
        ("dep.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')", True),
        ("dep.status.conditions.filter(c, c.type == 'Healthy').all(c, c.status == 'True')", False),
        ("dep.status.conditions.map(c, c.type) == ['Ready', 'Healthy']", True),
        ("self.metadata.namespace == dep.metadata.namespace", True),
        ("self.metadata.labels.tier == dep.metadata.labels.tier", False),
        ("dep.metadata.labels['app/x'] == 'y'", True),
        ("has(dep.status.lastAppliedRevision)", False),
        ("'lastAppliedRevision' in dep.status", False),
        ("has(dep.status.lastAppliedRevision) && dep.status.lastAppliedRevision == 'a'", False),
        ("true || dep.status.missing == 1", True),
        ("dep.spec.wait || self.spec.wait", True),
        ("dep.status.nothing == null", True),
        ("size(dep.status.inventory.entries) == 200", True),
        ("duration(dep.spec.interval) == duration('600s')", True),
        ("timestamp(dep.status.conditions[0].lastTransitionTime) < timestamp('2026-06-01T00:00:00Z')", True),
        ("timestamp('2026-01-01T00:00:00Z').getHours() == 0", True),
        ("dep.metadata.name.matches('^d[a-c]$')", True),
        # Numbers of different kinds are compared; so Flux contract CM-078, with what follows.
        ("dep.status.observedGeneration > 2.5 && dep.status.share < 1", True),
        ("dep.?status.?missing.orValue('none') == 'none'", True),
        ("dep.metadata.labels[?'nope'].hasValue()", False),
        ("dep.metadata.name.upperAscii() == 'DB' && 'a,b'.split(',').size() == 2", True),
        ("sets.contains(dep.status.conditions.map(c, c.type), ['Ready'])", True),
        ("base64.encode(b'a') == 'YQ=='", True),
    ],
)
async def test_true_or_false(shared: Evaluator, expression: str, holds: bool) -> None:
    await shared.check(expression, NAMES)
    assert await shared.holds(expression, {"dep": DEP, "self": SELF}) is holds


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("dep.", "1:5: Syntax error"),
        ("", "1:1: Syntax error"),
        ("true &&\n nope(dep)", "2:6: undeclared reference to 'nope'"),
        ("other.status", "undeclared reference to 'other"),
        ("true && 1", "1:6: found no matching overload"),
        ("dep == 1", "1:5: found no matching overload"),
        ("nope(dep) || other", "; 1:14: undeclared reference to 'other'"),
        ("1", "it has to give true or false, and gives a value of type int"),
        ("'true'", "type string"),
        ("dep.spec.wait", "type dyn"),
        ("dep", "type map"),
        ("(" * 5000 + "true" + ")" * 5000, "recursion"),
        ("true" + " && true" * 3000, f"longer than {EXPRESSION_BYTES_MAX} bytes"),
    ],
)
async def test_what_does_not_compile_is_told_before_there_is_an_object(
    shared: Evaluator, expression: str, words: str
) -> None:
    with pytest.raises(InvalidExpressionError) as told:
        await shared.check(expression, NAMES)
    assert words in str(told.value)
    assert "\n" not in str(told.value)
    with pytest.raises(InvalidExpressionError):
        await shared.holds(expression, {"dep": DEP, "self": SELF})


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("dep.status.missing == 1", 'Key not found in map : "missing"'),
        ("dep.metadata.name.first == 'd'", "SELECT"),
        ("dep.status.conditions[7].status == 'True'", "index=7"),
        ("1 / (dep.metadata.generation - 3) == 1", "divide by zero"),
        ("bool(dep.metadata.name)", "conversion"),
        ("dep.metadata.name.matches('a(')", "regular expression"),
        ("dep.metadata.name ? true : false", "overload"),
        ("dep.status.inventory.entries.all(a, dep.status.inventory.entries.all(b, a.v == b.v))", "budget"),
    ],
)
async def test_what_has_no_result_for_these_objects_says_why(shared: Evaluator, expression: str, words: str) -> None:
    await shared.check(expression, NAMES)
    with pytest.raises(EvaluationError) as told:
        await shared.holds(expression, {"dep": DEP, "self": SELF})
    assert words in str(told.value)
    assert await shared.holds("true", {"dep": DEP, "self": SELF}), "the next is evaluated as ever"


async def test_what_takes_too_long_is_ended_and_the_next_is_evaluated() -> None:
    async with Evaluator() as evaluator:
        assert await evaluator.holds("dep.s == 'a'", {"dep": {"s": "a"}})
        before = evaluator.pid
        with pytest.raises(EvaluatorError, match="longer than 2 s"):
            await evaluator.holds(SLOW, {"dep": LONG})
        assert evaluator.pid is None, "its process is no more"
        assert await evaluator.holds("dep.s == 'a'", {"dep": {"s": "a"}})
        assert evaluator.pid != before


async def test_what_takes_too_much_memory_is_told(shared: Evaluator) -> None:
    gigabytes = "dep.s.replace('a', dep.s).replace('a', dep.s).size() > 0"
    with pytest.raises(EvaluatorError, match="more than 256 MiB"):
        await shared.holds(gigabytes, {"dep": {"s": "a" * 2_000}})
    assert await shared.holds("dep.s == 'a'", {"dep": {"s": "a"}})


async def test_many_long_expressions_leave_room_for_the_next() -> None:
    async with Evaluator(time_s=30) as evaluator:
        for number in range(100):
            await evaluator.check(f"dep.a == {number}" + " || dep.b == 1" * 1_100, ["dep"])
        pid = evaluator.pid
        assert await evaluator.holds("dep.a == 1", {"dep": {"a": 1}})
        assert _resident_bytes(pid) < 128 * 2**20


def _resident_bytes(pid: int | None) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_process_that_dies_costs_one_answer() -> None:
    async with Evaluator() as evaluator:
        await evaluator.check("true", ())
        assert evaluator.pid is not None
        os.kill(evaluator.pid, signal.SIGKILL)
        with pytest.raises(EvaluatorError, match="died"):
            await evaluator.check("true", ())
        await evaluator.check("true", ())


async def test_an_object_that_is_nested_without_end_does_no_harm_here() -> None:
    nested: KubeObject = {}
    for _ in range(500):
        nested = {"a": nested}
    async with Evaluator() as evaluator:
        assert await evaluator.holds("has(dep.a.a.a)", {"dep": nested})


async def test_who_is_cancelled_leaves_no_process_behind() -> None:
    async with Evaluator(time_s=60) as evaluator:
        await evaluator.check("true", ())
        pid = evaluator.pid
        assert pid is not None
        with anyio.move_on_after(0.05) as scope:
            await evaluator.holds(SLOW, {"dep": LONG})
        assert scope.cancelled_caught
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        await evaluator.check("true", ())


async def test_no_process_is_started_before_there_is_an_expression() -> None:
    async with Evaluator() as evaluator:
        assert evaluator.pid is None
        await evaluator.check("true", ())
        pid = evaluator.pid
        assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="closed"):
        await evaluator.check("true", ())


async def test_many_at_once_each_get_their_own_answer() -> None:
    answers: dict[int, bool] = {}

    async def ask(evaluator: Evaluator, number: int) -> None:
        answers[number] = await evaluator.holds("dep.n % 2 == 0", {"dep": {"n": number}})

    async with Evaluator() as evaluator, anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(ask, evaluator, number)
    assert answers == {number: number % 2 == 0 for number in range(50)}


async def test_the_engine_itself_does_not_load_the_language() -> None:
    code = "import sys, tidelog.engine.runtime.daemon; sys.exit(any('cel_expr' in name for name in sys.modules))"
    done = await anyio.run_process([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


CLAIM: KubeObject = {
    "apiVersion": "example.com/v1",
    "kind": "Claim",
    "metadata": {"name": "db", "generation": 2},
    "spec": {"size": 3},
    "replicas": None,
    "status": {"phase": "Bound", "size": 3, "conditions": [{"type": "Ready", "status": "True"}]},
}


@pytest.mark.parametrize(
    ("expressions", "status", "word"),
    [
        ({"current": "status.phase == 'Bound'"}, {}, "Current"),
        ({"current": "status.phase == 'Gone'"}, {}, "InProgress"),
        ({"current": "status.phase == 'Bound'", "failed": "status.size == spec.size"}, {}, "Failed"),
        (
            {"current": "true", "failed": "true", "in_progress": "status.conditions.exists(c, c.type == 'Ready')"},
            {},
            "InProgress",
        ),
        ({"current": "kind == 'Claim' && apiVersion.startsWith('example.com/') && replicas == null"}, {}, "Current"),
        ({"current": "true", "failed": "true"}, {"observedGeneration": 1}, "InProgress"),
        ({"current": "true"}, {"observedGeneration": 3}, "InProgress"),
        ({"current": "true"}, {"observedGeneration": 2}, "Current"),
        # Types are seen when there is an object: what would not be type-checked is an expression all the same.
        ({"current": "has(status.missing) ? status.missing : status.phase == 'Bound'"}, {}, "Current"),
        ({"current": "true || nope(status) == 1"}, {}, "Current"),
    ],
)
async def test_the_first_expression_that_holds_tells_the_health(
    shared: Evaluator, expressions: dict[str, str], status: KubeObject, word: str
) -> None:
    for expression in expressions.values():
        await shared.parse(expression)
    live = {**CLAIM, "status": {**CLAIM["status"], **status}}
    assert await shared.health(live, **expressions) == word


@pytest.mark.parametrize(
    ("expressions", "words"),
    [
        ({"current": "status.missing == 1"}, 'current: Key not found in map : "missing"'),
        ({"current": "data.missing == 1"}, 'current: No value with name "data"'),
        ({"current": "true", "failed": "status.nope"}, 'failed: Key not found in map : "nope"'),
        ({"current": "true", "in_progress": "nope(1)"}, "inProgress: No matching overloads found"),
        ({"current": "status.phase"}, "current: it has to give true or false, and gave a value of type string"),
    ],
)
async def test_what_has_no_health_for_an_object_may_have_one_for_another(
    shared: Evaluator, expressions: dict[str, str], words: str
) -> None:
    for expression in expressions.values():
        await shared.parse(expression)
    with pytest.raises(EvaluationError) as told:
        await shared.health(CLAIM, **expressions)
    assert words in str(told.value)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("status.", "1:8: Syntax error"),
        ("has(status)", "has() argument must be a field selection"),
        ("true" + " && true" * 3000, f"longer than {EXPRESSION_BYTES_MAX} bytes"),
    ],
)
async def test_what_is_no_expression_is_told_before_there_is_an_object(
    shared: Evaluator, expression: str, words: str
) -> None:
    with pytest.raises(InvalidExpressionError) as told:
        await shared.parse(expression)
    assert words in str(told.value)
    with pytest.raises(InvalidExpressionError):
        await shared.health(CLAIM, current=expression)
    assert await shared.health(CLAIM, current="true") == "Current"
