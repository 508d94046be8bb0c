"""What another controller makes and serves: taken in as it is, applied, and followed (contract 2.9)."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.e2e.archives import archive_of
from tests.e2e.world import SOURCE, World, config_map, failed, is_ready
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import RevisionFetched


class Producer:
    """Another controller: it serves artifacts, and writes statuses."""

    def __init__(self, world: World, address: str, served: dict[str, bytes]) -> None:
        self._world = world
        self._address = address
        self.served = served
        self.requests: list[str] = []

    async def declare(self) -> None:
        metadata = {"name": "made"}
        spec = {"sourceRef": {"apiVersion": "example.org/v1", "kind": "Generator", "name": "made"}}
        await self._world.apply({"apiVersion": SOURCE, "kind": "ExternalArtifact", "metadata": metadata, "spec": spec})

    async def offer(self, revision: str, data: bytes, *, digest: str = "", origin: str = "") -> KubeObject:
        """Writes what is offered into the status, as a Flux controller of others does."""
        checksum = hashlib.sha256(data).hexdigest()
        self.served[f"/{checksum}.tar.gz"] = data
        artifact = {
            "path": f"externalartifact/{self._world.namespace}/made/{checksum}.tar.gz",
            "url": f"{self._address}/{checksum}.tar.gz",
            "revision": revision,
            "digest": digest or f"sha256:{checksum}",
            "lastUpdateTime": "2026-01-02T03:04:05Z",
            "size": len(data),
        }
        if origin:
            artifact["metadata"] = {"org.opencontainers.image.revision": origin}
        kind = await self._world.cluster.kind(SOURCE, "ExternalArtifact")
        return await self._world.cluster.patch(
            kind,
            self._world.namespace,
            "made",
            {"status": {"artifact": artifact}},
            type="merge",
            manager="generator",
            subresource="status",
        )


@asynccontextmanager
async def producing(world: World) -> AsyncIterator[Producer]:
    served: dict[str, bytes] = {}
    asked: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        asked.append(request.path)
        data = served.get(request.path)
        return web.Response(status=404) if data is None else web.Response(body=data)

    app = web.Application()
    app.router.add_get("/{path:.+}", serve)
    async with TestServer(app) as server:
        producer = Producer(world, str(server.make_url("")).rstrip("/"), served)
        producer.requests = asked
        await producer.declare()
        yield producer


REFERENCE = {"kind": "ExternalArtifact", "name": "made"}


async def test_what_is_offered_is_applied_and_what_is_offered_next_follows_at_once(world: World) -> None:
    async with producing(world) as producer, world.daemon() as running:
        await world.target("app", "./app", targetNamespace=world.namespace, sourceRef=REFERENCE)
        await world.until_target("app", failed("ArtifactFailed", "Source artifact not found"))
        before = await producer.offer("v1@sha256:" + "a" * 64, archive_of({"app/a.yaml": config_map("a", n="1")}))
        ready = await world.until_target("app", is_ready)
        assert ready["status"]["lastAppliedRevision"] == "v1@sha256:" + "a" * 64
        assert await world.data("a") == {"n": "1"}
        newer = archive_of({"app/a.yaml": config_map("a", n="2")})
        await producer.offer("v2@sha256:" + "b" * 64, newer, origin="main@sha1:b")
        await world.until_data("a", {"n": "2"})
        told = await world.until_target("app", lambda obj: "lastAppliedOriginRevision" in obj["status"])
        assert told["status"]["lastAppliedOriginRevision"] == "main@sha1:b"
        assert len(producer.requests) == 2
        fetched = running.events(RevisionFetched, stream=running.stream("ExternalArtifact", "made"))
        assert [event.revision for event in fetched if isinstance(event, RevisionFetched)] == [
            "v1@sha256:" + "a" * 64,
            "v2@sha256:" + "b" * 64,
        ]
    after = await world.get(SOURCE, "ExternalArtifact", "made")
    assert after is not None
    assert "finalizers" not in after["metadata"]
    assert after["status"].keys() == before["status"].keys()


async def test_an_artifact_that_is_known_is_not_read_again_after_a_restart(world: World) -> None:
    async with producing(world) as producer:
        async with world.daemon():
            await world.target("app", "./app", targetNamespace=world.namespace, sourceRef=REFERENCE)
            await producer.offer("v1", archive_of({"app/a.yaml": config_map("a", n="1")}))
            await world.until_target("app", is_ready)
        async with world.daemon() as running:
            await running.idle()
        assert len(producer.requests) == 1


@pytest.mark.parametrize(
    ("data", "digest", "words"),
    [
        (archive_of({"app/a.yaml": config_map("a", n="2")}), "sha256:" + "0" * 64, "where status.artifact.digest says"),
        (archive_of({"app/a.yaml": config_map("a", n="2")}), "md5:0123", "md5 is not known here"),
        (archive_of({"../a.yaml": config_map("a", n="2")}), "", "leads elsewhere"),
        (b"<html>moved</html>", "", "no tar archive"),
    ],
    ids=["another digest", "another algorithm", "a name that leads elsewhere", "no archive"],
)
async def test_what_cannot_be_taken_in_changes_nothing_and_is_told(
    world: World, data: bytes, digest: str, words: str
) -> None:
    async with producing(world) as producer, world.daemon() as running:
        await producer.offer("v1", archive_of({"app/a.yaml": config_map("a", n="1")}))
        await world.target("app", "./app", targetNamespace=world.namespace, sourceRef=REFERENCE)
        await world.until_target("app", is_ready)
        await producer.offer("v2", data, digest=digest)
        await world.until_told(
            "made", "ReadOperationFailed" if digest else "ArchiveOperationFailed", words, kind="ExternalArtifact"
        )
        await running.idle()
        assert await world.data("a") == {"n": "1"}
        good: Any = archive_of({"app/a.yaml": config_map("a", n="3")})
        await producer.offer("v3", good)
        await world.until_data("a", {"n": "3"})


async def test_why_there_is_nothing_is_in_the_condition_of_who_waits(world: World) -> None:
    async with producing(world) as producer, world.daemon():
        await producer.offer("v1", b"<html>moved</html>")
        await world.target("app", "./app", targetNamespace=world.namespace, sourceRef=REFERENCE)
        await world.until_target("app", failed("ArtifactFailed", "no tar archive"))
