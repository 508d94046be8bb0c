"""Faults and the audit of the embedded cluster, seen through the port: in process, and over HTTP."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import pytest
from msgspec import Struct

from tidelog.engine.cluster.embedded.audit import Audit
from tidelog.engine.cluster.embedded.cluster import ADMIN, EmbeddedCluster, open_embedded
from tidelog.engine.cluster.embedded.faults import (
    BrokenWatch,
    Cut,
    Delay,
    Faults,
    LostToken,
    MixedWatch,
    Refusal,
    Rule,
    ShortList,
)
from tidelog.engine.cluster.embedded.requests import Request
from tidelog.engine.cluster.errors import (
    ConflictError,
    GoneError,
    NotFoundError,
    OutcomeUnknown,
    ServerError,
    TooManyRequestsError,
    UnreachableError,
)
from tidelog.engine.cluster.port import Cluster, Identity, Kind, WatchEvent
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.http.embedded_cluster import serving
from tidelog.engine.objects.kube import KubeObject

LIMIT_S = 20
MANAGER = "test"


class Faulty(Struct):
    """A cluster, what goes wrong with it, and what was asked of it."""

    opened: EmbeddedCluster
    faults: Faults
    audit: Audit
    cluster: Cluster
    kind: Kind

    async def apply(self, name: str, value: str = "1", **how: Any) -> None:
        await self.cluster.apply(config_map(name, value), manager=MANAGER, **how)

    async def names(self) -> list[str]:
        """Those that are there, asked without faults."""
        listing = await self.opened.client().list(self.kind, namespace="default")
        return [name for item in listing.items if (name := item["metadata"]["name"]) != "kube-root-ca.crt"]


def config_map(name: str, value: str) -> KubeObject:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"value": value}}


@pytest.fixture(params=["in process", "over HTTP"])
async def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Faulty]:
    async with open_faulty(tmp_path if request.param == "over HTTP" else None) as made:
        yield made


@asynccontextmanager
async def open_faulty(http: Path | None, seed: int = 0) -> AsyncIterator[Faulty]:
    async with Evaluator() as judge, open_embedded(judge, tokens={"secret": ADMIN}) as opened:
        api = opened.api
        faults = Faults(api, api.registry, seed=seed)
        audit = Audit(faults, api.registry)
        kind = await opened.client().kind("v1", "ConfigMap")
        if http is None:
            yield Faulty(opened, faults, audit, opened.client(handler=audit), kind)
            return
        async with serving(api, handler=audit) as address:
            file = http / "kubeconfig"
            file.write_text(json.dumps(kubeconfig(address)))
            async with open_cluster(file) as cluster:
                yield Faulty(opened, faults, audit, cluster, kind)


def kubeconfig(address: str) -> KubeObject:
    return {
        "clusters": [{"name": "one", "cluster": {"server": address}}],
        "users": [{"name": "one", "user": {"token": "secret"}}],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "current-context": "one",
    }


async def take(faulty: Faulty, count: int, version: str) -> list[WatchEvent]:
    """The next changes of a watch of ConfigMaps."""
    taken: list[WatchEvent] = []
    changes = faulty.cluster.watch(faulty.kind, resource_version=version, namespace="default")
    with anyio.fail_after(LIMIT_S):
        async with aclosing(changes) as changes:
            async for change in changes:
                if change.type != "BOOKMARK":
                    taken.append(change)
                if len(taken) == count:
                    break
    return taken


async def now(faulty: Faulty) -> str:
    """The version that the cluster is at."""
    return (await faulty.opened.client().list(faulty.kind, namespace="default")).resource_version


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (Refusal(409, "Conflict"), ConflictError),
        (Refusal(500, "InternalError"), ServerError),
        (Refusal(429, "TooManyRequests", retry_after_s=0), TooManyRequestsError),
    ],
)
async def test_a_refusal_is_answered_and_nothing_is_done(
    faulty: Faulty, refusal: Refusal, error: type[Exception]
) -> None:
    faulty.faults.inject(Rule(fault=refusal, verbs=("get",), resources=("configmaps",)))
    with pytest.raises(error):
        await faulty.cluster.get(faulty.kind, "default", "a")
    faulty.faults.inject(Rule(fault=refusal, changes=True))
    with pytest.raises((error, OutcomeUnknown)):  # a server that fails may have done it
        await faulty.apply("a")
    assert await faulty.names() == []


async def test_a_429_is_tried_again_after_what_it_says(faulty: Faulty) -> None:
    faulty.faults.inject(Rule(fault=Refusal(429, "TooManyRequests", retry_after_s=1), verbs=("patch",), times=1))
    began = perf_counter()
    await faulty.apply("a")
    assert perf_counter() - began >= 1
    assert await faulty.names() == ["a"]


@pytest.mark.parametrize(("when", "there"), [("before", []), ("after", ["a"]), ("amid", ["a"])])
async def test_the_outcome_of_a_write_whose_connection_is_cut_is_unknown(
    faulty: Faulty, when: Any, there: list[str]
) -> None:
    faulty.faults.inject(Rule(fault=Cut(when), changes=True))
    with pytest.raises(OutcomeUnknown, match="may have been done all the same"):
        await faulty.apply("a")
    assert await faulty.names() == there


@pytest.mark.parametrize("when", ["before", "amid"])
async def test_a_read_whose_connection_is_cut_has_no_answer(faulty: Faulty, when: Any) -> None:
    await faulty.apply("a")
    faulty.faults.inject(Rule(fault=Cut(when), verbs=("list", "get")))
    with pytest.raises(UnreachableError):
        await faulty.cluster.list(faulty.kind, namespace="default")
    with pytest.raises(UnreachableError):
        await faulty.cluster.get(faulty.kind, "default", "a")


@pytest.mark.parametrize("when", ["before", "after", "amid"])
async def test_a_read_is_asked_for_once_more(faulty: Faulty, when: Any) -> None:
    """A kept connection that the server was just closing looks the same."""
    await faulty.apply("a")
    faulty.faults.inject(Rule(fault=Cut(when), verbs=("list",), times=1))
    assert len((await faulty.cluster.list(faulty.kind, namespace="default")).items) == 2
    assert len(faulty.faults.happened) == 1


async def test_a_delay_is_kept(faulty: Faulty) -> None:
    faulty.faults.inject(Rule(fault=Delay(0.2)), Rule(fault=Delay(0.1)), Rule(fault=Refusal(500, "InternalError")))
    began = perf_counter()
    with pytest.raises(ServerError):
        await faulty.cluster.get(faulty.kind, "default", "a")
    assert perf_counter() - began >= 0.3


# ----------------------------------------------------------------------------------------------------------- lists


async def test_a_list_whose_token_is_lost_is_begun_anew_or_fails(faulty: Faulty) -> None:
    for n in range(5):
        await faulty.apply(f"m{n}")

    async def listed() -> list[str]:
        async with aclosing(faulty.cluster.pages(faulty.kind, namespace="default", limit=2)) as pages:
            return [item["metadata"]["name"] async for page in pages for item in page.items]

    faulty.faults.inject(Rule(fault=LostToken(), times=1))
    with pytest.raises(GoneError):
        await listed()
    assert [one.asked.verb for one in faulty.faults.happened] == ["list"]
    assert await listed() == ["kube-root-ca.crt", *(f"m{n}" for n in range(5))]


@pytest.mark.parametrize("only_metadata", [False, True])
async def test_a_short_list_leaves_out_what_was_written_last_and_a_watch_from_there_tells_of_it(
    faulty: Faulty, only_metadata: bool
) -> None:
    for n in range(4):
        await faulty.apply(f"m{n}")
    await faulty.apply("m1", "2")
    faulty.faults.inject(Rule(fault=ShortList(2), verbs=("list",), resources=("configmaps",)))
    pages = faulty.cluster.pages(faulty.kind, namespace="default", only_metadata=only_metadata)
    async with aclosing(pages) as pages:
        (page,) = [page async for page in pages]
    assert [item["metadata"]["name"] for item in page.items] == ["kube-root-ca.crt", "m0", "m2"]
    told = [(change.type, change.object["metadata"]["name"]) for change in await take(faulty, 2, page.resource_version)]
    assert told == [("ADDED", "m3"), ("MODIFIED", "m1")]
    faulty.faults.inject(Rule(fault=ShortList(100)))
    assert (await faulty.cluster.list(faulty.kind, namespace="default")).items == []
    assert len((await faulty.cluster.list(faulty.kind, namespace="default", limit=2)).items) == 5, "page by page"
    assert len((await faulty.cluster.table(faulty.kind, namespace="default")).rows) == 5, "tables are whole"


# --------------------------------------------------------------------------------------------------------- watches


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize(("how", "error"), [("cut", UnreachableError), ("gone", GoneError), ("end", None)])
async def test_a_watch_breaks_after_so_many_events(
    faulty: Faulty, how: Any, error: type[Exception] | None, after: int
) -> None:
    version = await now(faulty)
    for n in range(4):
        await faulty.apply(f"m{n}")
    faulty.faults.inject(Rule(fault=BrokenWatch(after, how), times=1))
    taken: list[str] = []

    async def watch() -> None:
        changes = faulty.cluster.watch(faulty.kind, resource_version=version, namespace="default")
        with anyio.fail_after(LIMIT_S):
            async with aclosing(changes) as changes:
                async for change in changes:
                    taken.append(change.object["metadata"]["name"])  # noqa: PERF401 - also what came before an error

    if error is None:
        await watch()
    else:
        with pytest.raises(error):
            await watch()
    assert taken == [f"m{n}" for n in range(after)]
    assert len(await take(faulty, 4, version)) == 4, "the next watch is whole"


async def test_a_mixed_watch_tells_everything_and_keeps_the_order_of_each_object(faulty: Faulty, seed: int) -> None:
    version = await now(faulty)
    faulty.faults.inject(Rule(fault=MixedWatch(window=6, again=0.3)))
    for value in range(6):
        for n in range(4):
            await faulty.apply(f"m{n}", str(value))
    plain = [(f"m{n}", str(value)) for value in range(6) for n in range(4)]
    told: list[tuple[str, str]] = []
    changes = faulty.cluster.watch(faulty.kind, resource_version=version, namespace="default")
    with anyio.fail_after(LIMIT_S):
        async with aclosing(changes) as changes:
            async for change in changes:
                if change.type != "BOOKMARK":
                    told.append((change.object["metadata"]["name"], change.object["data"]["value"]))
                if set(told) == set(plain):
                    break
    assert list(dict.fromkeys(told)) != plain
    assert len(told) > len(plain)
    for n in range(4):
        assert list(dict.fromkeys(value for name, value in told if name == f"m{n}")) == list("012345")
        of_one = [value for name, value in told if name == f"m{n}"]
        assert of_one == sorted(of_one), "an event comes again before the next of its object"


async def test_a_quiet_mixed_watch_holds_nothing_back(faulty: Faulty) -> None:
    version = await now(faulty)
    faulty.faults.inject(Rule(fault=MixedWatch(window=100, held_s=0.05)))
    await faulty.apply("a")
    assert [change.object["metadata"]["name"] for change in await take(faulty, 1, version)] == ["a"]


# ----------------------------------------------------------------------------------------------------------- rules


async def test_rules_choose_by_verb_resource_user_and_number(faulty: Faulty) -> None:
    await faulty.apply("a")
    refusal = Refusal(409, "Conflict")
    others = [
        Rule(fault=refusal, verbs=("list",)),
        Rule(fault=refusal, resources=("secrets", "configmaps/status")),
        Rule(fault=refusal, users=("bob",)),
        Rule(fault=refusal, times=0),
        Rule(fault=refusal, skip=1),
        Rule(fault=LostToken()),
        Rule(fault=BrokenWatch()),
        Rule(fault=ShortList()),
    ]
    faulty.faults.inject(*others)
    await faulty.cluster.get(faulty.kind, "default", "a")
    assert not faulty.faults.happened
    with pytest.raises(ConflictError):
        await faulty.cluster.get(faulty.kind, "default", "a")
    faulty.faults.inject(Rule(fault=refusal, changes=True))
    await faulty.apply("b", dry_run=True)
    with pytest.raises(ConflictError):
        await faulty.apply("b")
    faulty.faults.inject()
    await faulty.apply("b")


async def test_chance_follows_the_seed() -> None:
    async def met(seed: int) -> list[bool]:
        async with open_faulty(None, seed) as faulty:
            found: list[bool] = []
            faulty.faults.inject(Rule(fault=Refusal(409, "Conflict"), verbs=("get",), chance=0.5))
            for _ in range(40):
                try:
                    await faulty.cluster.get(faulty.kind, "default", "a")
                except (ConflictError, NotFoundError) as error:
                    found.append(isinstance(error, ConflictError))
            return found

    first = await met(1)
    assert 5 < sum(first) < 35
    assert first == await met(1)
    assert first != await met(2)


# ----------------------------------------------------------------------------------------------------------- audit


async def test_the_audit_tells_what_was_asked_by_whom_and_what_was_answered(faulty: Faulty) -> None:
    await faulty.cluster.kind("v1", "ConfigMap")
    faulty.audit.entries.clear()
    await faulty.apply("a", dry_run=True)
    await faulty.apply("a")
    with pytest.raises(NotFoundError):
        await faulty.cluster.get(faulty.kind, "default", "b")
    identity = Identity("bob", ("system:masters",))
    await faulty.apply("a", "2", identity=identity)
    faulty.faults.inject(Rule(fault=Cut("after"), verbs=("delete",)))
    with pytest.raises(OutcomeUnknown):
        await faulty.cluster.delete(faulty.kind, "default", "a")
    told = [
        (one.asked.verb, one.asked.resource, one.asked.name, one.asked.dry_run, one.asked.user, one.code)
        for one in faulty.audit.entries
    ]
    admin = "kubernetes-admin"
    assert told == [
        ("patch", "configmaps", "a", True, admin, 201),
        ("patch", "configmaps", "a", False, admin, 201),
        ("get", "configmaps", "b", False, admin, 404),
        ("patch", "configmaps", "a", False, "bob", 200),
        ("delete", "configmaps", "a", False, admin, 0),
    ]
    assert faulty.audit.entries[3].asked.impersonator == admin
    assert faulty.audit.entries[3].asked.namespace == "default"


async def test_the_audit_is_bounded_and_takes_what_is_no_resource() -> None:
    async with Evaluator() as judge, open_embedded(judge) as opened:
        audit = Audit(opened.api, opened.api.registry, limit=2)
        paths = ["/version", "/apis/no/v1/such", "/api/v1/nodes/a/b/c/d", "/healthz"]
        for path in paths:
            await audit.handle(Request("GET", path, {}, ADMIN))
        told = [(one.asked.verb, one.asked.path, one.asked.resource, one.code) for one in audit.entries]
        assert told == [("get", paths[2], "", 404), ("get", paths[3], "", 200)]
