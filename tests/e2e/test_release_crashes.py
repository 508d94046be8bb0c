"""`kill -9` of the daemon in the midst of what is done with a release: the next one brings it to the same end."""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from tests.conftest import SOAK
from tests.e2e.planted import found_in
from tests.e2e.releases import HELM, Releases, chart, told
from tests.e2e.test_crashes import daemon_process, killed_somewhen, stopped
from tests.e2e.world import World, condition, is_ready
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.helm.storage import Release, snapshot_digest
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import HookStarted, ReleaseActionEnded, ReleaseActionStarted
from tidelog.storage import Query, open_log, verify_store

ROUNDS = 100 if SOAK else 10
NAMES = tuple(f"r{n}" for n in range(6))
KILLED_WITHIN_S = 1.5
AGAIN = 0.3
SETTLES_WITHIN_S = 600.0 if SOAK else 120.0
SECRET = "planted-in-a-release-0123456789"

TEMPLATES = {
    "secret": """
apiVersion: v1
kind: Secret
metadata: {name: "{{ .Release.Name }}-secret"}
stringData: {token: {{ .Values.token | quote }}}
""",
    "some": """
{{- range until (int .Values.extra) }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ $.Release.Name }}-extra-{{ . }}"}
{{- end }}
""",
    "kept": """
apiVersion: v1
kind: ConfigMap
metadata:
  name: "{{ .Release.Name }}-hook-kept"
  annotations: {"helm.sh/hook": "pre-install,pre-upgrade,pre-rollback"}
data: {revision: {{ .Release.Revision | quote }}}
""",
    "gone": """
apiVersion: v1
kind: ConfigMap
metadata:
  name: "{{ .Release.Name }}-hook-gone"
  annotations:
    "helm.sh/hook": "pre-install,post-install,pre-upgrade,post-upgrade,post-rollback,pre-delete,post-delete"
    "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded,hook-failed"
""",
    "test": """
apiVersion: v1
kind: ConfigMap
metadata:
  name: "{{ .Release.Name }}-test"
  annotations: {"helm.sh/hook": test, "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"}
""",
    # No such kind of class is here: the hook is refused by the server, and the release fails at its end.
    "broken": """
{{- if .Values.broken }}
apiVersion: v1
kind: Service
metadata:
  name: "{{ .Release.Name }}-broken"
  annotations: {"helm.sh/hook": "post-upgrade"}
spec: {ports: []}
{{- end }}
""",
}


class Round:
    """What one round wants of each release."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.does = ("release", "release", "break", "remove")[number % 4]
        self.extra = 1 + number % 3

    def spec(self) -> dict[str, object]:
        values = {"colour": f"c{self.number}", "extra": self.extra, "broken": self.does == "break"}
        return {
            "values": values,
            "valuesFrom": [{"kind": "Secret", "name": "values"}],
            "test": {"enable": True},
            "upgrade": {"remediation": {"retries": 0, "remediateLastFailure": True}},
            "maxHistory": 4,
        }


class Ends:
    """The releases, as they should be: what a daemon makes of them that nobody kills."""

    def __init__(self, releases: Releases) -> None:
        self.releases = releases
        self.world = releases.world
        self.names: Sequence[str] = NAMES
        self.good = Round(0)
        self.revisions: list[str] = []

    def expect(self, wanted: Round) -> None:
        match wanted.does:
            case "remove":
                self.revisions = []
            case "break":
                # An upgrade that fails, and the rollback from it.
                self.revisions = ["deployed", "failed", "superseded", *self.revisions[1:]]
            case _:
                self.good = wanted
                self.revisions = ["deployed", *(["superseded"] if self.revisions else []), *self.revisions[1:]]
        self.revisions = self.revisions[:4]

    async def ask(self, wanted: Round) -> None:
        for name in self.names:
            if wanted.does == "remove":
                await self.world.delete(HELM, "HelmRelease", name)
            else:
                await self.releases.release(name, **wanted.spec())

    async def are_reached(self, wanted: Round) -> None:
        for name in self.names:
            if wanted.does == "remove":
                await self.world.until(
                    HELM, "HelmRelease", name, lambda obj: obj is None, "gone", limit_s=SETTLES_WITHIN_S
                )
            else:
                await self._settled(name, wanted)
        maps = await self._all("ConfigMap")
        records = await self._records()
        for name in self.names:
            await self._is_as(name, wanted, maps, records.get(name, []))

    async def _settled(self, name: str, wanted: Round) -> None:
        def holds(obj: KubeObject | None) -> bool:
            if obj is None or (obj.get("status") or {}).get("observedGeneration") != obj["metadata"]["generation"]:
                return False
            if wanted.does == "break":
                return condition(obj, "Stalled").get("reason") == "RetriesExceeded"
            return is_ready(obj)

        found = await self.world.until(HELM, "HelmRelease", name, holds, wanted.does, limit_s=SETTLES_WITHIN_S)
        assert found is not None
        if wanted.does == "break":
            assert told(found)["Remediated"] == ("True", "RollbackSucceeded")

    async def _is_as(self, name: str, wanted: Round, maps: dict[str, KubeObject], records: list[Release]) -> None:
        own = {found for found in maps if found.startswith(f"{name}-") or found == name}
        assert [one.info.status for one in records] == self.revisions, name
        if wanted.does == "remove":
            assert own == {f"{name}-hook-kept"}, name
            return
        extra = {f"{name}-extra-{n}" for n in range(self.good.extra)}
        assert own == {name, f"{name}-hook-kept", *extra}, name
        assert maps[name]["data"]["colour"] == f"c{self.good.number}"
        for one in records[:1]:
            runs = {hook.name: hook.last_run for hook in one.hooks or ()}
            assert all(run.phase == "Succeeded" for run in runs.values()), runs
        live = await self.world.get(HELM, "HelmRelease", name)
        assert live is not None
        history = live["status"]["history"]
        by_version = {one.version: one for one in records}
        for told_ in history:
            record = by_version.get(told_["version"])
            if record is None:
                continue
            assert (told_["status"], told_["digest"]) == (record.info.status, snapshot_digest(record)), (name, told_)

    async def _all(self, kind: str) -> dict[str, KubeObject]:
        found = await self.world.cluster.list(await self.world.cluster.kind("v1", kind), namespace=self.world.namespace)
        return {item["metadata"]["name"]: item for item in found.items}

    async def _records(self) -> dict[str, list[Release]]:
        return {name: await self.releases.records(name) for name in self.names}


async def log_is_whole(world: World) -> None:
    """Every action that began ended once, whoever ended it, and no hook was begun twice in one."""
    report = await verify_store(world.store)
    assert report.intact, report
    open_actions: dict[str, ReleaseActionStarted] = {}
    hooks: Counter[tuple[str, ...]] = Counter()
    actions: Counter[str] = Counter()
    async with open_log(world.store) as log:
        async for recorded in log.read(Query()):
            event, stream = recorded.event, recorded.envelope.stream
            if isinstance(event, ReleaseActionStarted):
                assert stream not in open_actions, "one at a time"
                open_actions[stream] = event
                hooks.clear()
            elif isinstance(event, HookStarted):
                hooks[stream, event.hook, event.object] += 1
                assert hooks[stream, event.hook, event.object] == 1
            elif isinstance(event, ReleaseActionEnded):
                began = open_actions.pop(stream)
                assert (began.action, began.version) == (event.action, event.version)
                actions[f"{event.action} {event.outcome}"] += 1
    assert open_actions == {}
    kinds = ("install succeeded", "upgrade succeeded", "upgrade failed", "rollback succeeded", "test succeeded")
    assert all(actions[kind] for kind in (*kinds, "uninstall succeeded")), actions


@pytest.mark.slow
@pytest.mark.timeout(7200 if SOAK else 900)
async def test_whenever_it_is_killed_the_end_is_the_same(world: World, seed: int) -> None:
    """Each daemon brings what the one before left to its end, is given the next, and is killed in the midst of it."""
    chance = random.Random(seed)
    ends = await begin(world)
    within_s = KILLED_WITHIN_S
    wanted = None
    for number in range(ROUNDS):
        async with killed_somewhen(world, chance, within_s):
            if wanted is not None:
                began = anyio.current_time()
                await ends.are_reached(wanted)
                within_s = max(KILLED_WITHIN_S, anyio.current_time() - began)
            wanted = Round(number)
            ends.expect(wanted)
            await ends.ask(wanted)
        while chance.random() < AGAIN:
            async with killed_somewhen(world, chance, within_s):
                pass
    assert wanted is not None
    with daemon_process(world) as process:
        await ends.are_reached(wanted)
        await world.until_answered(await world.ask(), limit_s=SETTLES_WITHIN_S)
        assert await stopped(process) == 0
    await log_is_whole(world)
    assert await anyio.to_thread.run_sync(found_in, world.store, SECRET.encode()) == []
    assert SECRET.encode() not in (world.directory / "output").read_bytes()


async def begin(world: World) -> Ends:
    """The chart, and what its values come from."""
    world.commit(files_of(chart("1.0.0", **TEMPLATES)))
    await world.source()
    values = {"values.yaml": f"token: {SECRET}\n"}
    await world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "values"}, "stringData": values})
    return Ends(Releases(world))


def files_of(found: Mapping[str, str | bytes | None]) -> dict[str, str | bytes]:
    return {path: text for path, text in found.items() if text is not None}


class CutCluster:
    """A cluster whose client is cut off for good once it has made some number of writes; nobody hears of the last."""

    def __init__(self, cluster: RealCluster) -> None:
        self._cluster = cluster
        self.left = -1
        """Negative for as many as there may be."""
        self.is_cut = anyio.Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cluster, name)
        return self._writing(found, name) if name in ("apply", "create", "replace", "delete") else found

    def _writing(self, method: Callable[..., Awaitable[Any]], verb: str) -> Callable[..., Awaitable[Any]]:
        async def write(*words: Any, **how: Any) -> Any:
            if self.is_cut.is_set():
                await anyio.sleep_forever()
            answer = await method(*words, **how)
            if not how.get("dry_run") and not _is_told(words[0], verb):
                self.left -= 1
                if self.left == 0:
                    self.is_cut.set()
                    await anyio.sleep_forever()
            return answer

        return write


def _is_told(written: Any, verb: str) -> bool:
    """Whether a write only tells of something."""
    kind = written.kind if verb == "delete" else written.get("kind")
    return kind in ("Event", "Lease")


WRITES = 24
"""As many as a round makes, and more."""
CUTS = [cut for cut in range(1, WRITES + 1) for _ in range(4)] if SOAK else None
"""None: some, by the seed."""


@pytest.mark.slow
@pytest.mark.timeout(7200 if SOAK else 900)
async def test_after_whatever_write_it_is_cut_off_the_end_is_the_same(world: World, seed: int) -> None:
    """The write reached the server, and nobody heard of it. Each daemon ends the round before, and begins the next."""
    chance = random.Random(seed)
    ends = await begin(world)
    ends.names = NAMES[:1]
    wanted, were_cut = None, 0
    async with open_cluster(world.kubeconfig) as real:
        for number, at in enumerate(CUTS or [chance.randint(1, WRITES // 2) for _ in range(8)]):
            cut = CutCluster(real)
            async with world.daemon(cluster=cast(Cluster, cut)):
                if wanted is not None:
                    await ends.are_reached(wanted)
                wanted = Round(number)
                ends.expect(wanted)
                cut.left = at
                await ends.ask(wanted)
                were_cut += await _is_cut(cut, ends, wanted)
    assert were_cut > 4
    assert wanted is not None
    async with world.daemon():
        await ends.are_reached(wanted)
    await log_is_whole(world)


async def _is_cut(cut: CutCluster, ends: Ends, wanted: Round) -> bool:
    """Waits until the daemon is cut off, or the round is over before."""
    async with anyio.create_task_group() as tasks:

        async def over() -> None:
            await ends.are_reached(wanted)
            tasks.cancel_scope.cancel()

        tasks.start_soon(over)
        await cut.is_cut.wait()
        tasks.cancel_scope.cancel()
    return cut.is_cut.is_set()
