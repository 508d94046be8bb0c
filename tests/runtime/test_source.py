"""One pass over a source: what it asks, what it fetches, and when it comes again (Flux contract 2.1, 2.2, 2.4)."""

import base64
import hashlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import anyio
import anyio.to_thread
import msgspec
import pytest

from tidelog.engine.cluster.errors import ServerError
from tidelog.engine.http.server import serving
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.meta import FINALIZER, SOURCE_GROUP
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.passes.source import reconcile_source
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.engine.runtime.telling.source_status import source_status
from tidelog.engine.runtime.watching.declared import DeclaredSource, read_declared, read_status
from tidelog.engine.sources.errors import FetchError, FetchReason
from tidelog.engine.sources.fetched import Fetched
from tidelog.engine.sources.git.credentials import Credentials
from tidelog.engine.sources.git.spec import GitHead, GitRef, GitSpec, revision_of
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import Digest
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.vocabulary import Event, RevisionFetched, RunEnded, SourceDeclared, StageFailed, Suspended
from tidelog.events.vocabulary.fetch import Person
from tidelog.storage import Query, open_log
from tidelog.storage.artifacts import ArtifactStore
from tidelog.storage.artifacts.objects import FILE, Objects, RawEntry

SOURCE = ObjectKey(SOURCE_GROUP, "GitRepository", "team", "app").stream("default")
ONE, TWO = "1" * 40, "2" * 40
ADA = Person(name="Ada", email="ada@example.org")
SECRET_KEY = ObjectKey("", "Secret", "team", "git")


class World:
    """A source, a remote that has one branch, and an engine that does nothing else."""

    def __init__(self, memory: Memory, store: ArtifactStore) -> None:
        self.memory = memory
        self.store = store
        self.calls: list[str] = []
        self.asked: list[tuple[GitSpec, Credentials]] = []
        self.told: list[tuple[str, str]] = []
        self.failures: list[StageError] = []
        self.commit = ONE
        self.problem: Exception | None = None
        self.secrets: dict[ObjectKey, KubeObject] = {}
        self.generation = 0
        self.chance = 0.5
        self.declared: DeclaredSource
        self.live: KubeObject = {}
        me: Any = self
        self.engine = Engine(
            settings=Settings(storage_adv_addr="artifacts.example.org"),
            cluster=cast("Any", None),
            sites=cast("Any", None),
            memory=memory,
            declared=me,
            inputs=me,
            renderer=cast("Any", None),
            renderings=cast("Any", None),
            helm=cast("Any", None),
            wishes=cast("Any", None),
            handing=cast("Any", None),
            expressions=cast("Any", None),
            fetchers=cast("Any", SimpleNamespace(git=me)),
            artifacts=store,
            keys=cast("Any", None),
            store=store.directory.parent,
            chance=lambda: self.chance,
        )
        self.engine.status = cast("Any", SimpleNamespace(answered=lambda *_: None, mark=self._is_marked))
        self.engine.notices = me

    # What is declared.

    async def declare(self, **spec: Any) -> None:
        """Has the source say this from now on."""
        self.generation += 1
        metadata = {
            "name": "app",
            "namespace": "team",
            "uid": "u-1",
            "generation": self.generation,
            "resourceVersion": str(self.generation),
            "finalizers": list(self.declared.finalizers) if self.generation > 1 else [],
        }
        whole = {"interval": "10m", "url": "https://git.example.org/app", "ref": {"branch": "main"}} | spec
        status = self.live.get("status", {})
        self._see(
            {
                "apiVersion": f"{SOURCE_GROUP}/v1",
                "kind": "GitRepository",
                "metadata": metadata,
                "spec": whole,
                "status": status,
            }
        )
        body = Body.of(encode(whole))
        event = SourceDeclared(uid="u-1", generation=self.generation, spec=body.ref)
        await self.memory.append(SOURCE, [event], Origin(), bodies=[body])

    def _see(self, live: KubeObject) -> None:
        self.live = live
        declared = read_declared(live, "default")
        assert not declared.problems
        self.declared = cast("DeclaredSource", declared)

    def source(self, stream: StreamName) -> DeclaredSource | None:
        return self.declared if stream == SOURCE else None

    @property
    def sources(self) -> Mapping[StreamName, DeclaredSource]:
        return {SOURCE: self.declared}

    targets: Mapping[StreamName, Any] = {}

    async def claim(self, declared: DeclaredSource) -> None:
        self.calls.append("claim")
        declared.finalizers = (FINALIZER,)

    async def release(self, declared: DeclaredSource) -> None:
        self.calls.append("release")
        declared.finalizers = ()

    def deleted(self) -> None:
        """Somebody deletes it."""
        self.declared.deleting = True

    def write_status(self) -> None:
        """What the writer of statuses does, when it comes to it."""
        standing = self.memory.conditions.get(SOURCE)
        assert standing is not None
        status = source_status(self.engine, self.declared, standing)
        self.live = {**self.live, "status": msgspec.json.decode(msgspec.json.encode(status, enc_hook=str))}
        self.declared.status = cast("Any", read_status(self.live))

    def _is_marked(self, _: StreamName) -> None:
        self.calls.append("status")

    # The surroundings.

    def begin(self, _: StreamName) -> None:
        """A pass begins."""

    def looks(self, _: StreamName) -> None:
        """It asks for all that it uses."""

    def end(self, _: StreamName) -> None:
        """It has come to its end."""

    async def get(self, _: StreamName, key: ObjectKey, __: str = "v1") -> KubeObject | None:
        self.calls.append("secret")
        return self.secrets.get(key)

    async def ask(self, spec: GitSpec, credentials: Credentials) -> GitHead:
        self.calls.append("ask")
        self.asked.append((spec, credentials))
        if self.problem is not None:
            raise self.problem
        return GitHead(revision_of(spec.ref, self.commit, "refs/heads/main"), self.commit, "refs/heads/main")

    async def fetch(self, spec: GitSpec, _: Credentials, head: GitHead) -> Fetched:
        """The tree has one file, with the commit and the ignore rules in it."""
        self.calls.append("fetch")
        tarball = await anyio.to_thread.run_sync(self.make, f"{head.commit} {spec.ignore}")
        return Fetched(
            revision=head.revision,
            tree=tarball.path.name.partition(".")[0],
            artifact=tarball.digest,
            size=tarball.size,
            path=tarball.path,
            author=ADA,
            committer=ADA,
            message="a change",
        )

    def make(self, content: str) -> Any:
        objects = Objects(self.store.directory)
        blob = objects.repository.create_blob(content.encode())
        tree = objects.write_tree([RawEntry(FILE, b"a", str(blob))])
        objects.close()
        return self.store.tarball(tree)

    # Who is told.

    def fetched(self, _: DeclaredSource, fetched: Fetched, reason: str, message: str) -> None:
        assert message == "stored artifact for commit 'a change'"
        self.told.append((reason, fetched.revision))

    def damaged(self, _: DeclaredSource, artifact: Digest) -> None:
        self.told.append(("ArtifactVerificationFailed", artifact))

    def failed(self, _: DeclaredSource, __: None, error: StageError) -> None:
        self.told.append((error.reason, str(error)))
        self.failures.append(error)

    # What is done, and what came of it.

    async def run(self, *, forced: bool = False) -> float | None:
        """One pass."""
        self.calls.clear()
        self.told.clear()
        return await reconcile_source(self.engine, SOURCE, Trigger(why="test", forced=forced))

    @property
    def artifact(self) -> Path:
        """The file of the artifact."""
        row = self.memory.desired.get(SOURCE)
        assert row is not None
        assert row.artifact is not None
        path = self.store.tarball_path(row.artifact)
        assert path is not None
        return path

    async def events(self, kind: type[Event]) -> list[Event]:
        """What was recorded of a kind."""
        return [one.event async for one in self.memory.log.read(Query(stream=SOURCE)) if isinstance(one.event, kind)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_log(tmp_path / "store") as log:
        memory = Memory(log)
        await memory.read_missing()
        store = await anyio.to_thread.run_sync(ArtifactStore.open, tmp_path / "store")
        made = World(memory, store)
        await made.declare()
        yield made
        await anyio.to_thread.run_sync(store.close)


def exists(path: Path) -> bool:
    return path.exists()


async def on_disk(path: Path) -> bool:
    return await anyio.to_thread.run_sync(exists, path)


# The order, and when it comes again.


async def test_the_finalizer_comes_first_then_what_is_asked_and_fetched_and_the_status_last(world: World) -> None:
    world.secrets[SECRET_KEY] = {"data": {}}
    await world.declare(secretRef={"name": "git"})
    await world.run()
    assert world.calls == ["claim", "secret", "ask", "fetch", "status"]
    await world.run()
    assert world.calls == ["secret", "ask", "status"], "nothing is fetched where nothing is new"


async def test_a_suspended_source_gets_its_finalizer_and_nothing_else(world: World) -> None:
    await world.declare(suspend=True)
    await world.memory.append(SOURCE, [Suspended(why="a freeze")], Origin())
    assert await world.run() is None
    assert world.calls == ["claim", "status"]
    assert world.told == []
    assert await world.events(RunEnded) == []


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 570.0), (0.5, 600.0), (1.0, 630.0)])
async def test_a_source_is_asked_again_after_its_interval_which_varies_by_5_percent(
    world: World, chance: float, seconds: float
) -> None:
    world.chance = chance
    assert await world.run() == pytest.approx(seconds)
    assert await world.run() == pytest.approx(seconds), "when nothing was new, too"


async def test_a_failure_is_told_and_tried_again_ever_later_but_within_the_interval(world: World) -> None:
    world.problem = FetchError("GitOperationFailed", "it is away")
    assert [await world.run() for _ in range(12)] == [0.75 * 2**n for n in range(10)] + [600, 600]
    assert world.told == [("GitOperationFailed", "it is away")]
    standing = world.memory.conditions.get(SOURCE)
    assert standing is not None
    assert (standing.ready, standing.observed) == ("False", 0), "its generation does not count as observed"
    world.problem = None
    await world.run()
    world.problem = FetchError("GitOperationFailed", "it is away")
    assert await world.run() == 0.75, "a success begins anew"


async def test_tries_are_doubled_from_the_shortest_delay_to_the_longest(world: World) -> None:
    assert [world.engine.backoff(failures) for failures in (0, 1, 2, 3, 11, 12, 10**6)] == [
        *(0.75, 0.75, 1.5, 3.0, 768.0),
        *(900.0, 900.0),
    ]
    delays = {"min_retry_delay": Duration.of_seconds(2), "max_retry_delay": Duration.of_seconds(5)}
    world.engine.settings = msgspec.structs.replace(world.engine.settings, **delays)
    assert [world.engine.backoff(failures) for failures in (1, 2, 3)] == [2, 4, 5]


@pytest.mark.parametrize(
    ("longest_s", "asked_s", "expected"),
    [
        (600, 0, 0.75),
        (600, 60, 60),
        (1, 60, 60),
        (1, 3600, 300),
        (3600, 3600, 3600),
        (3600, 86_400, 3600),
    ],
)
async def test_a_server_that_asks_to_be_left_alone_is_for_as_long_as_makes_sense(
    world: World, longest_s: float, asked_s: float, expected: float
) -> None:
    """Beyond a short interval too; a proxy that asks for days is asked again after five minutes, or the interval."""
    assert world.engine.retry_in(longest_s, 1, asked_s=asked_s) == expected


@pytest.mark.parametrize("reason", ["URLInvalid", "InvalidProviderConfiguration"])
async def test_what_only_another_spec_mends_is_stalled_told_and_not_tried_again(
    world: World, reason: FetchReason
) -> None:
    world.problem = FetchError(reason, "it makes no sense", final=True)
    assert await world.run() is None
    assert world.told == [(reason, "it makes no sense")]
    (failed,) = await world.events(StageFailed)
    assert isinstance(failed, StageFailed)
    assert (failed.stalled, failed.reason, failed.generation) == (True, reason, 1)


async def test_a_feature_that_is_refused_is_not_carried_out_halfway(world: World) -> None:
    await world.declare(recurseSubmodules=True)
    assert await world.run() is None
    assert world.calls == ["claim", "status"]
    ((reason, message),) = world.told
    assert reason == "UnsupportedFeature"
    assert message.startswith("spec.recurseSubmodules: ")


# What is asked.


async def test_the_spec_says_what_is_asked_and_how_long_that_may_take(world: World) -> None:
    await world.run()
    ref = {"branch": "a", "tag": "b", "semver": "c", "name": "d", "commit": "e"}
    await world.declare(timeout="7s", ignore="*.md", ref=ref)
    await world.run()
    (first, _), (second, _) = world.asked
    assert (first.timeout_s, first.ignore, first.ref) == (60.0, None, GitRef(branch="main"))
    assert (second.timeout_s, second.ignore, second.ref) == (7.0, "*.md", GitRef(**ref))
    assert (second.namespace, second.name, second.url) == ("team", "app", "https://git.example.org/app")


async def test_a_secret_is_that_of_the_source_s_own_namespace(world: World) -> None:
    def secret(username: str) -> KubeObject:
        data = {"username": username, "password": "p"}
        return {"data": {name: base64.b64encode(value.encode()).decode() for name, value in data.items()}}

    world.secrets = {SECRET_KEY: secret("ours"), ObjectKey("", "Secret", "other", "git"): secret("theirs")}
    await world.declare(secretRef={"name": "git"})
    await world.run()
    assert world.asked[-1][1] == Credentials(username="ours", password="p")
    del world.secrets[SECRET_KEY]
    await world.run()
    ((reason, message),) = world.told
    assert reason == "AuthenticationFailed"
    assert "Secret team/git" in message


async def test_a_server_that_does_not_answer_about_the_secret_is_a_failure_of_the_fetch(world: World) -> None:
    async def get(*_: object) -> KubeObject | None:
        raise ServerError("the API server is away")

    world.engine.inputs = cast("Any", SimpleNamespace(get=get, begin=lambda _: None, looks=lambda _: None))
    await world.declare(secretRef={"name": "git"})
    assert await world.run() == 0.75
    assert world.told == [("GitOperationFailed", "the API server is away")]


# What makes an artifact anew.


async def test_other_ignore_rules_make_the_artifact_anew_however_many_tries_it_takes(world: World) -> None:
    await world.run()
    world.write_status()
    first = world.artifact
    await world.declare(ignore="*.md")
    world.problem = FetchError("GitOperationFailed", "it is away")
    await world.run(forced=True)
    world.write_status()
    assert cast("Any", world.declared.status).observed_ignore is None
    world.problem = None
    await world.run()
    assert "fetch" in world.calls
    assert world.artifact != first
    world.write_status()
    assert cast("Any", world.declared.status).observed_ignore == "*.md"
    await world.run()
    assert "fetch" not in world.calls


async def test_other_ignore_rules_that_leave_the_artifact_as_it_was_are_told_to_nobody(world: World) -> None:
    """Until the status is written, each pass makes it anew: that costs little, and is not recorded."""
    await world.run()
    await world.run()
    fetched = len(await world.events(RevisionFetched))
    world.declared.status = msgspec.structs.replace(world.declared.status, observed_ignore="as before")
    await world.run()
    assert "fetch" in world.calls
    assert world.told == []
    assert len(await world.events(RevisionFetched)) == fetched


async def test_a_file_that_vanished_is_made_anew_in_the_same_pass(world: World) -> None:
    await world.run()
    path = world.artifact
    content = await anyio.to_thread.run_sync(path.read_bytes)
    await anyio.to_thread.run_sync(path.unlink)
    await world.run()
    assert world.told == []
    assert world.artifact == path
    assert await anyio.to_thread.run_sync(path.read_bytes) == content


async def test_a_file_that_is_not_what_it_was_is_told_and_made_anew(world: World) -> None:
    await world.run()
    path, digest = world.artifact, world.memory.desired.get(SOURCE)
    content = await anyio.to_thread.run_sync(path.read_bytes)
    await anyio.to_thread.run_sync(path.write_bytes, content[:-1] + b"!")
    later = await anyio.to_thread.run_sync(ArtifactStore.open, world.store.directory.parent)
    world.store = world.engine.artifacts = later
    await world.run()
    assert digest is not None
    assert world.told == [("ArtifactVerificationFailed", digest.artifact)]
    assert await anyio.to_thread.run_sync(path.read_bytes) == content
    await world.run()
    assert world.told == []


# What is kept.


async def test_a_deleted_source_s_file_goes_at_once_and_others_do_not(world: World) -> None:
    await world.run()
    path = world.artifact
    young = await anyio.to_thread.run_sync(world.make, "somebody may be reading it")
    world.deleted()
    await world.run()
    assert world.calls == ["release", "status"]
    assert not await on_disk(path)
    assert await on_disk(young.path)


async def test_what_a_status_names_is_served_there_and_has_its_digest(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    off = {"storage_adv_addr": "", "health_addr": "", "metrics_addr": "", "webhook_addr": ""}
    world.engine.settings = msgspec.structs.replace(world.engine.settings, storage_addr="127.0.0.1:0", **off)
    daemon = SimpleNamespace(engine=world.engine, requests=None, serving=anyio.Event(), waits_for="")
    async with (
        serving(cast("Any", daemon), Metrics(), tmp_path_factory.mktemp("s")),
        aiohttp.ClientSession() as session,
    ):
        await world.run()
        world.write_status()
        artifact = world.declared.status.artifact
        assert artifact is not None
        async with session.get(artifact.url) as answer:
            assert answer.status == 200
            assert "sha256:" + hashlib.sha256(await answer.read()).hexdigest() == artifact.digest
        world.commit = TWO
        await world.run()
        async with session.get(artifact.url) as answer:
            assert answer.status == 404, "no status names it any more"


async def test_the_address_in_a_status_follows_the_flag_and_nothing_is_made_anew(world: World) -> None:
    await world.run()
    world.write_status()
    before = world.declared.status.artifact
    assert before is not None
    assert before.url == f"http://artifacts.example.org/gitrepository/team/app/{ONE}.tar.gz"
    world.engine.settings = msgspec.structs.replace(world.engine.settings, storage_adv_addr="https://other.example.org")
    await world.run()
    assert world.calls == ["ask", "status"]
    world.write_status()
    url = f"https://other.example.org/gitrepository/team/app/{ONE}.tar.gz"
    assert world.declared.status.artifact == msgspec.structs.replace(before, url=url)
