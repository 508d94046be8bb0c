"""What is declared: whose source is meant, and who is woken by what a watch tells of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.apply.keeper import KEY, a_target
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.kustomization import KustomizationSpec, SourceReference
from tidelog.engine.kinds.meta import SOURCE_GROUP
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.memory import Memory
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.watching.declarations import Declarations
from tidelog.engine.runtime.watching.declared import DeclaredKustomization, read_declared, source_of
from tidelog.events.names import ObjectKey, StreamName
from tidelog.storage import open_log
from tidelog.storage.keys import DataKey, KeyRing
from tidelog.storage.master_key import KEY_BYTES
from tidelog.storage.sealed import KEY_ID_BYTES


def kustomization(version: int, **metadata: Any) -> KubeObject:
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {
            "name": "shop",
            "namespace": "apps",
            "uid": "u-1",
            "generation": 3,
            "resourceVersion": str(version),
            "finalizers": ["finalizers.fluxcd.io"],
            "annotations": {"owner": "ada"},
            **metadata,
        },
        "spec": {"interval": "1m", "prune": True, "sourceRef": {"kind": "GitRepository", "name": "shop"}},
        "status": {"observedGeneration": version},
    }


def test_a_source_is_of_the_target_s_namespace_unless_another_is_named() -> None:
    assert source_of(a_target()) == ObjectKey(SOURCE_GROUP, "GitRepository", KEY.namespace, "src")
    reference = SourceReference(kind="GitRepository", name="src", namespace="sources", api_version=f"{SOURCE_GROUP}/v1")
    assert source_of(a_target(source_ref=reference)) == ObjectKey(SOURCE_GROUP, "GitRepository", "sources", "src")


def test_the_answer_to_our_own_write_is_told_again_by_the_watch() -> None:
    declared = read_declared(kustomization(7), "east")
    declared.live = kustomization(8)
    assert declared.is_echo(kustomization(8))


@pytest.mark.parametrize(
    "other",
    [
        {"generation": 4},
        {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}},
        {"annotations": None},
        {"finalizers": []},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        {"uid": "u-2"},
    ],
)
def test_what_somebody_else_changed_before_our_own_write_is_no_echo(other: dict[str, Any]) -> None:
    declared = read_declared(kustomization(7), "east")
    declared.live = kustomization(8, **other)
    assert not declared.is_echo(kustomization(8, **other))


def test_what_somebody_else_wrote_after_it_is_no_echo() -> None:
    declared = read_declared(kustomization(7), "east")
    declared.live = kustomization(8)
    assert not declared.is_echo(kustomization(9))


def knowing(live: KubeObject) -> tuple[Declarations, StreamName, list[StreamName]]:
    """Declarations with one target, its stream, and where changes of objects are told."""
    declarations = Declarations(cast("Cluster", None), cast("Memory", None), "east", cast("KeyRing", None), _no_wake)
    declared = cast("DeclaredKustomization", read_declared(live, "east"))
    declarations._targets[declared.stream] = declared
    changed: list[StreamName] = []
    declarations.on_change = changed.append
    return declarations, declared.stream, changed


def _no_wake(*_: object) -> None:
    raise AssertionError("nothing is to be woken")


def test_our_own_write_of_a_status_changes_the_object_and_is_told() -> None:
    declarations, stream, changed = knowing(kustomization(7))
    declarations.wrote(stream, kustomization(8))
    target = declarations.target(stream)
    assert target is not None
    assert (target.live["metadata"]["resourceVersion"], target.status.observed_generation) == ("8", 8)
    assert changed == [stream]


@pytest.mark.parametrize(("version", "uid"), [(6, "u-1"), (8, "u-2")])
def test_an_answer_that_comes_after_newer_news_is_no_news(version: int, uid: str) -> None:
    declarations, stream, changed = knowing(kustomization(7))
    declarations.wrote(stream, kustomization(version, uid=uid))
    target = declarations.target(stream)
    assert target is not None
    assert target.live == kustomization(7)
    assert changed == []


@pytest.mark.parametrize(("named", "namespace"), [({}, "apps"), ({"namespace": "infra"}, "infra")])
def test_a_source_is_of_the_target_s_own_namespace_unless_it_names_another(
    named: dict[str, str], namespace: str
) -> None:
    obj = kustomization(7)
    obj["spec"]["sourceRef"] |= named
    declared = read_declared(obj, "east")
    assert isinstance(declared.spec, KustomizationSpec)
    assert source_of(declared).shown == f"GitRepository/{namespace}/shop"


# What wakes (Flux contract CM-053).


class Keys:
    """One key for each stream."""

    async def key(self, stream: StreamName) -> DataKey:
        return DataKey(stream, "11" * KEY_ID_BYTES, b"k" * KEY_BYTES, {})


class Watching:
    """Declarations, and whom they wake."""

    def __init__(self, memory: Memory) -> None:
        self.woken: list[str] = []
        nobody = cast("Any", None)
        self.memory = memory
        self.declarations = Declarations(nobody, memory, "east", cast("KeyRing", Keys()), self._wake)
        self.version = 0

    def _wake(self, _: StreamName, trigger: Trigger) -> None:
        self.woken.append(trigger.why)

    async def told(self, spec: dict[str, Any] | None = None, status: KubeObject | None = None, **metadata: Any) -> None:
        """A watch tells of the object as it now is."""
        self.version += 1
        obj = kustomization(self.version, **metadata)
        obj["spec"] |= spec or {}
        obj["status"] = status or {}
        await self.declarations.seen(obj)


@pytest.fixture
async def watching(tmp_path: Path) -> AsyncIterator[Watching]:
    async with open_log(tmp_path / "store") as log:
        memory = Memory(log)
        await memory.read_missing()
        yield Watching(memory)


REQUESTED_AT = "reconcile.fluxcd.io/requestedAt"


async def test_a_new_object_a_new_spec_and_a_request_wake_each_once(watching: Watching) -> None:
    await watching.told()
    await watching.told(spec={"path": "./other"}, generation=4)
    requested = {REQUESTED_AT: "one", "owner": "ada"}
    await watching.told(spec={"path": "./other"}, generation=4, annotations=requested)
    await watching.told(spec={"path": "./other"}, generation=4, annotations=requested | {REQUESTED_AT: "two"})
    assert watching.woken == ["it has a new spec"] * 2 + ["somebody asked for it"] * 2


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": {"team": "web"}},
        {"annotations": {"owner": "grace"}},
        {"annotations": {}},
        {"status": {"observedGeneration": 3, "lastAppliedRevision": "main@sha1:1"}},
        {"finalizers": ["finalizers.fluxcd.io", "example.com/other"]},
        {"managedFields": []},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_what_changes_neither_the_spec_nor_asks_for_a_run_wakes_nobody(
    watching: Watching, changed: dict[str, Any]
) -> None:
    await watching.told()
    watching.woken.clear()
    await watching.told(**changed)
    assert watching.woken == []


async def test_a_status_that_is_not_as_it_was_left_is_told_and_an_echo_is_not(watching: Watching) -> None:
    """What somebody else wrote, or a daemon that is no more and was heard late, is to be made good."""
    told: list[StreamName] = []
    watching.declarations.on_status = told.append
    await watching.told(status={"observedGeneration": 3})
    (stream,) = watching.declarations.targets
    await watching.told(status={"observedGeneration": 3}, labels={"team": "web"})
    assert told == [], "it is as it was"
    watching.declarations.wrote(stream, kustomization(3) | {"status": {"observedGeneration": 4}})
    watching.version = 2
    await watching.told(status={"observedGeneration": 4})
    assert told == [], "it is our own"
    await watching.told(status={"observedGeneration": 3})
    assert told == [stream]


async def test_a_request_that_was_answered_is_not_asked_again(watching: Watching) -> None:
    annotations = {REQUESTED_AT: "one"}
    await watching.told(annotations=annotations, status={"lastHandledReconcileAt": "one"})
    assert watching.woken == ["it has a new spec"]


async def test_a_request_that_is_recorded_otherwise_is_not_recorded_once_more(watching: Watching) -> None:
    await watching.told()
    (stream,) = watching.declarations.targets
    watching.declarations.answers(stream, "one")
    await watching.told(annotations={REQUESTED_AT: "one"})
    assert watching.woken == ["it has a new spec"]
    await watching.told(annotations={REQUESTED_AT: "two"})
    assert watching.woken == ["it has a new spec", "somebody asked for it"]


async def test_what_a_patch_puts_into_a_secret_is_not_kept_and_its_change_is_seen(watching: Watching) -> None:
    def patched(value: str) -> dict[str, Any]:
        plain = {"patch": "kind: Deployment\nspec: {replicas: 3}\n"}
        return {"patches": [plain, {"patch": f"kind: Secret\nstringData: {{pin: {value}}}\n"}]}

    async def kept() -> str:
        ((_, row),) = watching.memory.desired.items()
        assert row.spec is not None
        return (await watching.memory.log.body(row.spec.digest)).data.decode()

    await watching.told(spec=patched("planted-one"))
    first = await kept()
    assert "planted" not in first
    assert "replicas: 3" in first
    await watching.told(spec=patched("planted-one"))
    assert watching.woken == ["it has a new spec"]
    await watching.told(spec=patched("planted-two"), generation=4)
    assert watching.woken == ["it has a new spec"] * 2
    assert "planted" not in await kept()
    assert await kept() != first
