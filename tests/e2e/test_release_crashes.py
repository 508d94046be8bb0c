"""`kill -9` of the daemon in the midst of what is done with a release: the next one brings it to the same end."""

import asyncio
import random
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from tests.conftest import SOAK
from tests.e2e.planted import found_in
from tests.e2e.releases import HELM, Releases, chart, told
from tests.e2e.test_crashes import daemon_process, killed_somewhen, stopped
from tests.e2e.world import World, condition, is_ready
from tests.servers.faulty_api import Asked, Delay, Fault, Held, faulty_api
from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.helm.storage import Release, snapshot_digest
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import EngineStarted, HookStarted, ReleaseActionEnded, ReleaseActionStarted
from tidelog.storage import Query, open_log, read_log, verify_store
from tidelog.storage.errors import StoreError
from tidelog.storage.log.sqlite_log import SqliteLogReader

ROUNDS = 100 if SOAK else 10
NAMES = tuple(f"r{n}" for n in range(6))
KILLED_WITHIN_S = 0.2
"""Of the moment at which the action that is aimed at begins with the first of the releases."""
AGAIN = 0.3
LOOK_S = 0.005
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

    @property
    def actions(self) -> tuple[str, ...]:
        """What is done with each release, from where the round before left it."""
        if self.does == "release":
            return ("upgrade" if self.number % 4 else "install", "test")
        return ("upgrade", "rollback") if self.does == "break" else ("uninstall",)

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


ACTIONS = {"install", "upgrade", "rollback", "uninstall", "test"}


async def log_is_whole(world: World) -> Counter[str]:
    """Every action that began ended once, whoever ended it, and no hook was begun twice in one.

    Returns:
        How often a daemon found each kind of action begun by another, which had died in the midst of it.
    """
    report = await verify_store(world.store)
    assert report.intact, report
    open_actions: dict[str, ReleaseActionStarted] = {}
    hooks: Counter[tuple[str, ...]] = Counter()
    actions: Counter[str] = Counter()
    interrupted: Counter[str] = Counter()
    async with open_log(world.store) as log:
        async for recorded in log.read(Query()):
            event, stream = recorded.event, recorded.envelope.stream
            if isinstance(event, EngineStarted):
                interrupted.update(one.action for one in open_actions.values())
            elif isinstance(event, ReleaseActionStarted):
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
    return interrupted


class Aim:
    """Which action a daemon is killed in the midst of: of those of a round, the one that was hit least often so far."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.hit: Counter[str] = Counter()
        """How often each kind of action was under way at the moment of a kill."""
        self._world = world
        self._chance = chance

    async def killed_in(self, process: subprocess.Popen[bytes], wanted: Round, after: int) -> None:
        """Kills a daemon once the action has begun, of what it does after a position of the log."""
        action = min(wanted.actions, key=lambda one: (self.hit[one], self._chance.random()))
        async with read_log(self._world.store) as log:
            with anyio.fail_after(SETTLES_WITHIN_S):
                while not await _begun(log, action, after):  # noqa: ASYNC110 - another process writes the log
                    await anyio.sleep(LOOK_S)
            await anyio.sleep(self._chance.uniform(0, KILLED_WITHIN_S))
            assert process.poll() is None, (self._world.directory / "output").read_text()[-2000:]
            process.kill()
            await anyio.to_thread.run_sync(process.wait)
            self.hit.update(await _open_actions(log, after))


async def _begun(log: SqliteLogReader, action: str, after: int) -> bool:
    async for recorded in log.read(Query(types=(ReleaseActionStarted.__name__,), after=after)):
        if isinstance(recorded.event, ReleaseActionStarted) and recorded.event.action == action:
            return True
    return False


async def _open_actions(log: SqliteLogReader, after: int) -> Counter[str]:
    """The actions that began after a position and have not ended."""
    found: dict[str, str] = {}
    types = (ReleaseActionStarted.__name__, ReleaseActionEnded.__name__)
    async for recorded in log.read(Query(types=types, after=after)):
        if isinstance(recorded.event, ReleaseActionStarted):
            found[recorded.envelope.stream] = recorded.event.action
        else:
            found.pop(recorded.envelope.stream, None)
    return Counter(found.values())


@pytest.mark.slow
@pytest.mark.timeout(7200 if SOAK else 900)
async def test_whenever_it_is_killed_the_end_is_the_same(world: World, seed: int) -> None:
    """Each daemon brings what the one before left to its end, is given the next, and is killed in the midst of it."""
    chance = random.Random(seed)
    ends, aim = await begin(world), Aim(world, chance)
    again_within_s, wanted = KILLED_WITHIN_S, None
    for number in range(ROUNDS):
        with daemon_process(world) as process:
            if wanted is not None:
                began = anyio.current_time()
                await ends.are_reached(wanted)
                again_within_s = anyio.current_time() - began
            wanted = Round(number)
            ends.expect(wanted)
            after = await _head(world)
            await ends.ask(wanted)
            await aim.killed_in(process, wanted, after)
        while chance.random() < AGAIN:
            async with killed_somewhen(world, chance, again_within_s):
                pass
    assert wanted is not None
    with daemon_process(world) as process:
        await ends.are_reached(wanted)
        await world.until_answered(await world.ask(), limit_s=SETTLES_WITHIN_S)
        assert await stopped(process) == 0
    interrupted = await log_is_whole(world)
    assert interrupted
    if SOAK:
        assert interrupted.keys() >= ACTIONS, interrupted
    assert await anyio.to_thread.run_sync(found_in, world.store, SECRET.encode()) == []
    assert SECRET.encode() not in (world.directory / "output").read_bytes()


async def _head(world: World) -> int:
    """The position of the log's end, as soon as the first daemon has made one."""
    with anyio.fail_after(SETTLES_WITHIN_S):
        while True:
            with suppress(StoreError):
                async with read_log(world.store) as log:
                    if head := await log.head():
                        return head
            await anyio.sleep(LOOK_S)


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
    interrupted = await log_is_whole(world)
    assert interrupted
    if SOAK:
        assert interrupted.keys() >= ACTIONS, interrupted


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


TEST_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: "{{ .Release.Name }}-test"
  annotations: {"helm.sh/hook": test, "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"}
spec: {restartPolicy: Never, containers: [{name: test, image: none}]}
"""
POD_ROUNDS = 60 if SOAK else 6
POD_MOMENTS = ("made", "succeeded", "deleted")
SLOW_S = 0.3
"""What a change to the cluster takes at most."""
LATE_S = 6.0
"""What some of them take, so that whoever asked for them is no more when they are made."""
RUNS_S = 1.5
"""What a Pod takes at most, which is longer than the release says nothing of it."""


class Pods:
    """What becomes of the Pod of a test: it succeeds after a while, as nothing runs Pods here."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world = world
        self._chance = chance
        self.seen: dict[str, anyio.Event] = {}

    def begin(self) -> None:
        """What was seen of the Pods before counts no more."""
        self.seen = {moment: anyio.Event() for moment in POD_MOMENTS}

    async def run(self) -> None:
        """Has each succeed, until cancelled."""
        kind = await self._world.cluster.kind("v1", "Pod")
        async with anyio.create_task_group() as tasks:
            listing = await self._world.cluster.list(kind, namespace=self._world.namespace)
            changes = self._world.cluster.watch(
                kind, resource_version=listing.resource_version, namespace=self._world.namespace
            )
            async with aclosing(changes) as changes:
                async for change in changes:
                    if change.type == "ADDED":
                        self.seen["made"].set()
                        tasks.start_soon(self._succeeds, change.object["metadata"]["name"])
                    elif change.type == "DELETED":
                        self.seen["deleted"].set()
                    elif (change.object.get("status") or {}).get("phase") == "Succeeded":
                        self.seen["succeeded"].set()

    async def _succeeds(self, name: str) -> None:
        await anyio.sleep(self._chance.uniform(0, RUNS_S))
        with suppress(NotFoundError):  # of a release that another began to test anew
            await Releases(self._world).set_status("v1", "Pod", name, {"phase": "Succeeded"})


@pytest.mark.slow
@pytest.mark.timeout(7200 if SOAK else 900)
async def test_killed_around_the_pod_of_its_test_a_release_comes_to_rest(
    world: World, tmp_path: Path, seed: int
) -> None:
    """The server takes its time, so that some changes of a daemon are made when the next one is at work already."""
    chance = random.Random(seed)

    def fault(asked: Asked) -> Fault:
        if not asked.writes:
            return None
        is_late = asked.path.endswith("/status") and chance.random() < 0.3
        return Delay(chance.uniform(0, LATE_S if is_late else SLOW_S))

    world.commit(files_of(chart("1.0.0", test=TEST_POD)))
    await world.source()
    releases, pods = Releases(world), Pods(world, chance)
    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as api, anyio.create_task_group() as tasks:
        api.fault = fault
        pods.begin()
        tasks.start_soon(pods.run)
        for number in range(1, POD_ROUNDS + 1):
            pods.begin()
            with daemon_process(world, api.kubeconfig):
                await releases.release(values={"colour": f"c{number}"}, test={"enable": True})
                with anyio.fail_after(SETTLES_WITHIN_S):
                    await pods.seen[chance.choice(POD_MOMENTS)].wait()
                await anyio.sleep(chance.uniform(0, SLOW_S))
            with daemon_process(world, api.kubeconfig) as process:
                await _is_tested(releases, number)
                await anyio.sleep(LATE_S)  # whatever was under way has come by then
                found = await _is_tested(releases, number)
                assert found["status"]["history"][0]["testHooks"]["web-test"]["phase"] == "Succeeded"
                assert await world.get("v1", "Pod", "web-test") is None
                assert await stopped(process) == 0
        tasks.cancel_scope.cancel()


async def test_what_a_killed_daemon_said_and_the_server_heard_late_does_not_stay(world: World, tmp_path: Path) -> None:
    """That the test runs is said by who is no more, once the next one has said that it is over."""
    world.commit(files_of(chart("1.0.0", test=TEST_POD)))
    await world.source()
    releases, reached, late = Releases(world), anyio.Event(), asyncio.Event()
    is_tested = False

    def fault(asked: Asked) -> Fault:
        if not (is_tested and asked.writes and asked.path.endswith("/helmreleases/web/status")):
            return None
        reached.set()
        return Held(late)

    async with faulty_api(world.servers, world.kubeconfig, tmp_path) as api:
        api.fault = fault
        with daemon_process(world, api.kubeconfig):
            await releases.release(test={"enable": True})
            await world.until("v1", "Pod", "web-test", lambda obj: obj is not None)
            is_tested = True
            with anyio.fail_after(SETTLES_WITHIN_S):
                await reached.wait()
        async with world.daemon():
            await releases.set_status("v1", "Pod", "web-test", {"phase": "Succeeded"})
            rested = await _is_tested(releases, 1)
            late.set()
            await releases.until(
                lambda obj: obj["metadata"]["resourceVersion"] != rested["metadata"]["resourceVersion"]
            )
            found = await _is_tested(releases, 1)
            assert found["status"]["conditions"] == rested["status"]["conditions"]


async def _is_tested(releases: Releases, version: int) -> KubeObject:
    def holds(obj: KubeObject | None) -> bool:
        history = ((obj or {}).get("status") or {}).get("history") or [{}]
        is_done = obj is not None and is_ready(obj) and told(obj).get("TestSuccess") == ("True", "TestSucceeded")
        return is_done and history[0].get("version") == version

    found = await releases.world.until(HELM, "HelmRelease", "web", holds, "tested", limit_s=SETTLES_WITHIN_S)
    assert found is not None
    return found
