"""What is made of the health that expressions tell (contract CM-080 to CM-082)."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.events.logs import digest
from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Kind
from tidelog.engine.expressions.errors import EvaluationError, EvaluatorError, InvalidExpressionError
from tidelog.engine.kinds.targets import CustomHealthCheck
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.custom_health import CustomHealth
from tidelog.engine.runtime.passes.custom_health import check_expressions
from tidelog.engine.runtime.passes.health import Checked, assess_own
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.sites import Site
from tidelog.events.bodies import BodyRef
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.projections import Actual, Standing
from tidelog.events.vocabulary.observe import Health

APP = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "shop", "app").stream("east")
DB, CACHE = (ObjectKey("example.org", "Claim", "shop", name) for name in ("db", "cache"))
SECRET = ObjectKey("", "Secret", "shop", "token")
WEB = ObjectKey("apps", "Deployment", "shop", "web")
CLAIMS = CustomHealthCheck(api_version="example.org/v1", kind="Claim", current="says")


class World:
    """An engine, as far as health needs one; what an object's status says is what the expressions say."""

    def __init__(self, **says: str) -> None:
        self.says: dict[str, str] = {"db": "Current", "cache": "Current", "token": "Current"} | says
        self.versions = {key.stream("east"): "1" for key in (DB, CACHE, SECRET, WEB)}
        self.actual = {stream: _actual() for stream in self.versions}
        self.standings: dict[StreamName, Standing] = {}
        self.ended: dict[StreamName, Health] = {}
        self.read: list[str] = []
        self.asked: list[str] = []
        self.followed: set[StreamName] = set()
        self.woken: list[float] = []
        self.waited = 0.0
        self.site = cast(
            "Site",
            SimpleNamespace(
                alias="east",
                cluster=self,
                observer=SimpleNamespace(
                    ended=self.ended.get, follow=self.followed.add, version=lambda stream: self.versions[stream]
                ),
            ),
        )
        self.engine = cast(
            "Engine",
            SimpleNamespace(
                memory=SimpleNamespace(actual=self.actual, conditions=self.standings),
                expressions=self,
                custom_health=CustomHealth(),
                targets=SimpleNamespace(wake_in=lambda _, seconds: self.woken.append(seconds)),
                waited_for_health=lambda _: self.waited,
            ),
        )

    async def find_kind(self, group: str, kind: str) -> Kind | None:
        return cast("Kind", kind)

    async def get(self, _: Kind, namespace: str, name: str) -> KubeObject:
        self.read.append(name)
        if name not in self.says:
            raise NotFoundError(f"no {namespace}/{name}")
        version = next(version for stream, version in self.versions.items() if stream.endswith(f"/{name}"))
        return {"metadata": {"name": name, "resourceVersion": version}, "status": {"says": self.says[name]}}

    async def parse(self, expression: str) -> None:
        if expression == "wrong":
            raise InvalidExpressionError("1:1: nonsense")
        if expression == "hangs":
            raise EvaluatorError("it takes longer than 2 s")

    async def health(self, live: KubeObject, **expressions: str) -> str:
        self.asked.append(live["metadata"]["name"])
        said: str = live["status"]["says"]
        if said == "hangs":
            raise EvaluatorError("it takes longer than 2 s")
        if said == "nothing":
            raise EvaluationError("current: no such key: s3cret")
        return said

    async def look(self, *keys: ObjectKey, checks: tuple[CustomHealthCheck, ...] = (CLAIMS,)) -> Checked:
        return await assess_own(self.engine, self.site, APP, keys, checks)


def _actual(health: Health = "Current") -> Actual:
    return Actual(health=health, state=BodyRef(digest=digest("state"), size=1), resource_version="1")


async def test_the_expression_counts_and_not_what_is_observed() -> None:
    world = World(db="InProgress")
    assert (await world.look(DB, WEB)).message == "[Claim/shop/db status: 'InProgress']"
    world = World()
    world.actual[DB.stream("east")].health = "Failed"
    assert (await world.look(DB, WEB)).health == "Current"
    assert world.asked == ["db"]
    assert world.followed == {DB.stream("east")}
    world.actual[WEB.stream("east")].health = "Failed"
    assert (await world.look(DB, WEB)).message == "[Deployment/shop/web status: 'Failed']"


@pytest.mark.parametrize(
    ("api_version", "kind", "asks"),
    [
        ("example.org/v7", "Claim", True),
        ("example.org/v1", "", True),
        ("example.org/v1", "Other", False),
        ("example.com/v1", "Claim", False),
    ],
)
async def test_group_and_kind_count_and_the_version_does_not(api_version: str, kind: str, asks: bool) -> None:
    world = World(db="Failed")
    found = await world.look(DB, checks=(CustomHealthCheck(api_version=api_version, kind=kind, current="says"),))
    assert found.health == ("Failed" if asks else "Current")
    assert bool(world.asked) is asks


async def test_an_object_is_asked_about_again_when_it_has_changed_or_the_expression_has() -> None:
    world = World(db="InProgress")
    for _ in range(3):
        assert (await world.look(DB, CACHE)).health == "InProgress"
    assert world.read == ["db", "cache"]
    world.says["db"], world.versions[DB.stream("east")] = "Current", "2"
    assert (await world.look(DB, CACHE)).health == "Current"
    assert world.read == ["db", "cache", "db"]
    await world.look(DB, checks=(CustomHealthCheck(api_version="example.org/v1", current="other"),))
    assert world.read == ["db", "cache", "db", "db"]
    assert set(world.engine.custom_health.of(APP)) == {DB.stream("east")}, "of what is not looked at nothing is kept"
    await world.look(DB, checks=())
    assert not world.engine.custom_health.of(APP)


async def test_what_has_no_result_is_unknown_and_of_a_secret_nothing_is_quoted() -> None:
    world = World(db="nothing", token="nothing")
    found = await world.look(DB)
    message = "[Claim/shop/db status: 'Unknown': healthCheckExprs: current: no such key: s3cret]"
    assert (found.health, found.message) == ("InProgress", message)
    found = await world.look(SECRET, checks=(CustomHealthCheck(api_version="v1", kind="Secret", current="says"),))
    assert found.message == "[Secret/shop/token status: 'Unknown': healthCheckExprs: no result]"


async def test_after_an_expression_that_takes_too_long_no_other_is_evaluated_until_later() -> None:
    world = World(db="hangs")
    found = await world.look(DB, CACHE)
    assert found.health == "InProgress"
    assert found.message.count("it takes longer than 2 s") == 2
    assert world.asked == ["db"]
    assert world.woken == [1.0]
    world.waited = 8.0
    await world.look(DB, CACHE)
    assert world.woken == [1.0, 8.0], "later and later"
    world.standings[APP] = Standing(ready="False", health="Failed")
    await world.look(DB)
    assert len(world.woken) == 2, "the retry interval counts once it has failed"


async def test_an_object_that_is_gone_is_not_there_unless_it_is_a_job_that_was_done() -> None:
    world = World()
    del world.says["db"]
    assert (await world.look(DB)).message == "[Claim/shop/db status: 'NotFound']"
    world.ended[DB.stream("east")] = "Current"
    assert (await world.look(DB)).health == "Current"


async def test_what_is_left_alone_is_not_waited_for() -> None:
    world = World(db="Failed")
    world.actual[DB.stream("east")].state = None
    assert (await world.look(DB)).health == "Current"
    assert world.read == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([{"current": "wrong"}], ["spec.healthCheckExprs[0].current: 1:1: nonsense"]),
        (
            [{"current": "true"}, {"kind": "B", "current": "true", "failed": "wrong", "in_progress": "wrong"}],
            ["spec.healthCheckExprs[1].inProgress: 1:1", "spec.healthCheckExprs[1].failed: 1:1"],
        ),
        (
            [{"current": "true"}, {"kind": "B", "current": "true"}, {"api_version": "a/v2", "current": "true"}],
            ["spec.healthCheckExprs[2]: entry 0 is about all kinds of group 'a' too"],
        ),
    ],
)
async def test_what_only_a_person_can_help_stalls(fields: list[Mapping[str, Any]], said: list[str]) -> None:
    checks = [CustomHealthCheck(**{"api_version": "a/v1", **one}) for one in fields]
    with pytest.raises(StageError) as told:
        await check_expressions(World().engine, checks)
    assert (told.value.reason, told.value.final, told.value.stalled) == ("InvalidCELExpression", True, True)
    assert all(words in str(told.value) for words in said)


async def test_a_kind_beside_all_kinds_of_its_group_is_no_mistake_and_the_first_entry_counts() -> None:
    checks = (CLAIMS, CustomHealthCheck(api_version="example.org/v1", current="true"))
    world = World()
    await check_expressions(world.engine, checks)
    await world.look(DB, checks=checks)
    (known,) = world.engine.custom_health.of(APP).values()
    assert known.check is CLAIMS


async def test_what_was_not_parsed_to_the_end_is_tried_again() -> None:
    with pytest.raises(StageError) as told:
        await check_expressions(World().engine, [CustomHealthCheck(api_version="a/v1", current="hangs")])
    assert (told.value.final, told.value.retry_s) == (False, 1.0)
