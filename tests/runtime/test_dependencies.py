"""What a target waits for, and what ends the wait."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tidelog.engine.expressions.errors import EvaluationError, EvaluatorError, InvalidExpressionError
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.dependencies import check_dependencies
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.waking import Waker
from tidelog.engine.runtime.watching.declared import DeclaredKustomization, read_declared
from tidelog.events.names import ObjectKey, Revision, StreamName
from tidelog.events.projections import Standing

NEW, OLD = Revision("main@sha1:2"), Revision("main@sha1:1")


def stream_of(name: str) -> StreamName:
    return ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "shop", name).stream("east")


SOURCE = ObjectKey("source.toolkit.fluxcd.io", "GitRepository", "shop", "fleet").stream("east")
DB, CACHE, WEB = stream_of("db"), stream_of("cache"), stream_of("web")


def target(name: str, *depends_on: KubeObject, version: int = 1) -> DeclaredKustomization:
    live = {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": name,
            "generation": 1,
            "resourceVersion": str(version),
        },
        "spec": {
            "interval": "1m",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
            "dependsOn": list(depends_on),
        },
    }
    return cast("DeclaredKustomization", read_declared(live, "east"))


class World:
    """An engine, as far as dependencies need one; an expression is its own answer."""

    def __init__(self, *, additive: bool = False) -> None:
        self.targets = {DB: target("db"), CACHE: target("cache")}
        ready = Standing(ready="True", observed=1, applied=NEW)
        self.standings = {DB: ready, CACHE: msgspec.structs.replace(ready)}
        self.woken: list[tuple[StreamName, str]] = []
        self.asked: list[Mapping[str, KubeObject]] = []
        self.elsewhere: dict[ObjectKey, KubeObject] = {}
        """What the API server has, and another shard looks after."""
        self.read: list[ObjectKey] = []
        self.meanwhile: Callable[[], None] = lambda: None
        engine = SimpleNamespace(
            cluster_alias="east",
            settings=msgspec.structs.replace(Settings(), additive_cel_dependency_check=additive),
            declared=SimpleNamespace(target=self.targets.get),
            memory=SimpleNamespace(conditions=self.standings),
            expressions=self,
            inputs=self,
        )
        self.engine = cast("Engine", engine)
        self.waker = Waker(self.engine, self._wake)
        self.engine.watch_for, self.engine.wait_no_more = self.waker.watch_for, self.waker.wait_no_more

    async def get(self, user: StreamName, key: ObjectKey, api_version: str) -> KubeObject | None:
        assert (user, api_version) == (WEB, "kustomize.toolkit.fluxcd.io/v1")
        self.read.append(key)
        return self.elsewhere.get(key)

    def _wake(self, stream: StreamName, trigger: Trigger) -> None:
        self.woken.append((stream, trigger.why))

    async def check(self, expression: str, names: tuple[str, ...]) -> None:
        assert names == ("dep", "self")
        if expression == "invalid":
            raise InvalidExpressionError("1:1: nonsense")
        if expression == "hangs to compile":
            raise EvaluatorError("it takes longer than 2 s")

    async def holds(self, expression: str, variables: Mapping[str, KubeObject]) -> bool:
        self.asked.append(variables)
        self.meanwhile()
        if expression == "missing":
            raise EvaluationError("no such key")
        if expression == "hangs":
            raise EvaluatorError("it takes longer than 2 s")
        return expression == "true"

    async def waits(self, *depends_on: KubeObject) -> StageError | None:
        """What keeps a target waiting that depends on these."""
        try:
            await check_dependencies(self.engine, target("web", *depends_on), SOURCE, NEW)
        except StageError as error:
            return error
        return None


def on(name: str, expression: str = "") -> KubeObject:
    return {"name": name, "readyExpr": expression} if expression else {"name": name}


async def test_who_has_no_expression_is_ready_by_its_condition_and_revision() -> None:
    world = World()
    assert await world.waits(on("db"), on("cache")) is None
    world.standings[CACHE].applied = OLD
    error = await world.waits(on("db"), on("cache"))
    assert error is not None
    assert (error.reason, error.waits_for) == ("DependencyNotReady", CACHE)
    assert "'shop/cache' is not ready: it is at main@sha1:1" in str(error)
    world.standings[DB].ready = "False"
    error = await world.waits(on("db"), on("cache"))
    assert str(error) == "dependency 'shop/db' is not ready"
    assert world.asked == []


@pytest.mark.parametrize(
    ("expression", "additive", "ready", "applied", "says"),
    [
        ("true", False, "True", NEW, None),
        ("true", False, "False", OLD, None),
        ("true", True, "True", NEW, None),
        ("true", True, "False", NEW, "dependency 'shop/db' is not ready"),
        ("true", True, "True", OLD, "not yet at main@sha1:2"),
        ("false", False, "True", NEW, "dependency 'shop/db' is not ready according to readyExpr eval"),
        ("false", True, "True", NEW, "according to readyExpr eval"),
        ("missing", False, "True", NEW, "dependency 'shop/db' is not ready: readyExpr has no result: no such key"),
    ],
)
async def test_an_expression_counts_instead_of_readiness_or_besides(
    expression: str, additive: bool, ready: Any, applied: Revision, says: str | None
) -> None:
    world = World(additive=additive)
    world.standings[DB].ready, world.standings[DB].applied = ready, applied
    error = await world.waits(on("db", expression))
    if says is None:
        assert error is None
    else:
        assert error is not None
        assert says in str(error)
        assert (error.reason, error.waits_for, error.final, error.stalled) == ("DependencyNotReady", DB, False, False)
    (asked,) = world.asked
    assert (asked["dep"]["metadata"]["name"], asked["self"]["metadata"]["name"]) == ("db", "web")


async def test_a_dependency_that_is_not_there_is_told_whatever_the_expression() -> None:
    world = World()
    error = await world.waits(on("nobody", "true"))
    assert str(error) == "dependency 'shop/nobody' not found"
    assert world.asked == []


async def test_all_expressions_that_do_not_compile_are_told_before_anything_is_waited_for() -> None:
    error = await World().waits(on("nobody"), on("db", "invalid"), on("cache", "true"), on("db", "invalid"))
    assert error is not None
    assert (error.reason, error.final, error.stalled, error.waits_for) == ("InvalidCELExpression", True, True, None)
    assert [part.split(":")[0] for part in str(error).split("; ") if part.startswith("spec")] == [
        "spec.dependsOn[1].readyExpr",
        "spec.dependsOn[3].readyExpr",
    ]


@pytest.mark.parametrize("expression", ["hangs", "hangs to compile"])
async def test_what_was_not_evaluated_to_the_end_is_tried_again_by_time(expression: str) -> None:
    error = await World().waits(on("db", expression))
    assert error is not None
    assert (error.reason, error.final, error.waits_for) == ("DependencyNotReady", False, None)
    assert error.retry_s is not None
    assert "2 s" in str(error)


async def test_who_waits_for_an_expression_is_woken_once_by_any_change_of_the_object() -> None:
    world = World()
    assert await world.waits(on("db", "false")) is not None
    world.waker.changed(CACHE)
    assert world.woken == []
    world.waker.changed(DB)
    world.waker.changed(DB)
    assert world.woken == [(WEB, "Kustomization/shop/db changed")]


async def test_a_change_while_the_expression_is_evaluated_is_not_missed() -> None:
    world = World()
    world.meanwhile = lambda: world.waker.changed(DB)
    assert await world.waits(on("db", "false")) is not None
    assert [woken for woken, _ in world.woken] == [WEB]


async def test_who_waits_no_longer_is_left_alone() -> None:
    world = World()
    assert await world.waits(on("db", "true")) is None
    world.waker.changed(DB)
    assert world.woken == []
    assert await world.waits(on("db")) is None
    world.waker.changed(DB)
    assert world.woken == [], "without an expression no status is of interest"


# What another shard looks after (Flux contract CM-059).


def sharded() -> World:
    """An engine that looks after the objects with a label, and another one after `db`."""
    world = World()
    world.engine.settings = msgspec.structs.replace(world.engine.settings, watch_label_selector="shard=one")
    del world.targets[DB], world.standings[DB]
    return world


def live(*, observed: int = 1, ready: str = "True", applied: str = NEW) -> KubeObject:
    """The object of `db`, as another engine's status has it."""
    ready_condition = {"type": "Ready", "status": ready, "reason": "x", "message": "", "lastTransitionTime": "x"}
    status = {"observedGeneration": observed, "conditions": [ready_condition], "lastAppliedRevision": applied}
    return target("db").live | {"status": status}


DB_KEY = ObjectKey.of_stream(DB)


@pytest.mark.parametrize(
    ("obj", "words"),
    [
        (live(), None),
        (live(observed=0), "is not ready"),
        (live(ready="False"), "is not ready"),
        (live(applied=OLD), f"it is at {OLD}, and not yet at {NEW}"),
        (None, "not found"),
    ],
)
async def test_who_is_of_another_shard_is_ready_by_its_status(obj: KubeObject | None, words: str | None) -> None:
    world = sharded()
    if obj is not None:
        world.elsewhere[DB_KEY] = obj
    error = await world.waits(on("cache"), on("db"))
    assert (error is None) == (words is None)
    assert words is None or words in str(error)
    assert world.read == [DB_KEY]


async def test_an_expression_reads_who_is_of_another_shard() -> None:
    world = sharded()
    world.elsewhere[DB_KEY] = live(ready="False")
    assert await world.waits(on("db", "true")) is None
    assert world.asked[0]["dep"] == live(ready="False")


async def test_where_there_are_no_shards_nobody_else_is_asked() -> None:
    world = World()
    del world.targets[DB]
    error = await world.waits(on("db"))
    assert "not found" in str(error)
    assert world.read == []
    settings = msgspec.structs.replace(world.engine.settings, watch_all_namespaces=False)
    world.engine.settings = msgspec.structs.replace(settings, runtime_namespace="shop")
    await world.waits(on("db"))
    assert world.read == [], "its own namespace is watched"
    world.engine.settings = msgspec.structs.replace(settings, runtime_namespace="another")
    await world.waits(on("db"))
    assert world.read == [DB_KEY]
