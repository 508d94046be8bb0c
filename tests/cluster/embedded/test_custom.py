"""Custom kinds, without a server: what must hold whatever a server says."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.cluster.embedded import custom_kinds
from tidelog.engine.cluster.embedded import causes, custom, definitions, patterns, rules, tables
from tidelog.engine.cluster.embedded.cells import human_duration
from tidelog.engine.cluster.embedded.openapi import show
from tidelog.engine.cluster.embedded.registry import Registry, Resource
from tidelog.engine.expressions.errors import EvaluatorError
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import Rule


def resource_of(schema: custom_kinds.Raw) -> Resource:
    return definitions.resources_of(custom_kinds.definition("example.org", schema))[0]


def test_a_catastrophic_pattern_takes_no_time() -> None:
    """Python's own patterns would take years over these."""
    started = time.monotonic()
    for pattern in (r"^(a+)+$", r"^(a|aa)+$", r"^(.*a){20}$", r"(x+x+)+y"):
        assert not patterns.matches(pattern, "a" * 5000 + "!" + "x" * 5000)
    assert time.monotonic() - started < 2


def test_a_pattern_that_takes_too_much_memory_is_a_mistake() -> None:
    assert patterns.mistake_in("((a{100}){100}){100}")


def test_unknown_fields_are_dropped_and_told() -> None:
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": {"type": "object"}}}}
    resource = resource_of(schema)
    made = custom_kinds.thing("example.org", "n", {"list": [{"x": 1}], "y": 2})
    made["metadata"]["zz"] = 1
    assert custom.prune(resource, made) == ["metadata.zz", "spec.list[0].x", "spec.y"]
    assert made["spec"] == {"list": [{}]}


def test_what_is_served_has_what_every_object_has() -> None:
    embedded = {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    resource = resource_of(embedded)
    for schema in (resource.schema, resource.schema.fields["spec"]):
        labels = schema.fields["metadata"].at("labels")
        assert labels is not None
        assert labels.type == "object"


def test_a_definition_that_is_not_established_serves_nothing() -> None:
    crd = custom_kinds.definition("example.org", {"type": "object"})
    taken = definitions.Taken(kinds={"Thing"})
    refused = definitions.with_status(crd, taken, "2024-01-01T00:00:00Z")
    assert definitions.resources_of(refused) == ()
    accepted = definitions.with_status(refused, definitions.Taken(), "2024-01-01T00:00:01Z")
    assert [each.kind for each in definitions.resources_of(accepted)] == ["Thing"]


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (timedelta(seconds=-5), "<invalid>"),
        (timedelta(seconds=-1), "0s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(seconds=120), "2m"),
        (timedelta(minutes=9, seconds=59), "9m59s"),
        (timedelta(minutes=179), "179m"),
        (timedelta(hours=3), "3h"),
        (timedelta(hours=7, minutes=59), "7h59m"),
        (timedelta(hours=47), "47h"),
        (timedelta(days=2), "2d"),
        (timedelta(days=7, hours=23), "7d23h"),
        (timedelta(days=729), "729d"),
        (timedelta(days=730), "2y"),
        (timedelta(days=800), "2y70d"),
        (timedelta(days=365 * 9), "9y"),
    ],
)
def test_durations_are_short(passed: timedelta, shown: str) -> None:
    assert human_duration(passed.total_seconds()) == shown


def test_a_table_shows_as_much_of_its_objects_as_is_asked() -> None:
    pods = Registry().resource("", "v1", "pods")
    assert pods is not None
    pod: KubeObject = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a"},
        "spec": {},
        "status": {"phase": "Failed"},
    }
    now = datetime.now(UTC)
    shown = [
        tables.table(pods, [pod], with_objects="None", now=now),
        tables.table(pods, [pod], now=now),
        tables.table(pods, [pod], with_objects="Object", now=now),
    ]
    assert [each["rows"][0]["object"] for each in shown] == [
        None,
        {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}},
        pod,
    ]
    assert shown[0]["rows"][0]["conditions"][0]["reason"] == "Failed"


async def test_rules_that_take_too_long_are_an_error_and_cost_nobody_else() -> None:
    slow = "self.replace('a', self).replace('a', self) == ''"
    async with Evaluator(time_s=1) as judge:
        with pytest.raises(EvaluatorError):
            await judge.judge([Rule(slow, value="a" * 20_000)])
        [verdict] = await judge.judge([Rule("self == 1", value=1)])
    assert verdict.outcome == "true"


async def test_rules_are_asked_in_one_go() -> None:
    asked = [{"rule": f"self.x > {i}"} for i in range(5)]
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "x-kubernetes-validations": asked}
    made = custom_kinds.thing("example.org", "n", {"x": 3})

    class Counting(Evaluator):
        asked = 0

        async def judge(self, rules: object, *, only_compile: bool = False) -> object:  # type: ignore[override]
            type(self).asked += 1
            return await super().judge(rules, only_compile=only_compile)  # type: ignore[arg-type]

    async with Counting() as judge:
        broken = await rules.broken_rules(resource_of(schema), made, None, judge)  # type: ignore[arg-type]
    assert [each.message for each in broken] == [f"Invalid value: failed rule: self.x > {i}" for i in (3, 4)]
    assert {each.reason for each in broken} == {causes.INVALID}
    assert Counting.asked == 1


def test_numbers_within_a_value_that_is_told_are_written_as_go_writes_them() -> None:
    assert show({"b": [4.0, 1e-06], "a": "ä"}) == '{"a":"ä","b":[4,0.000001]}'
