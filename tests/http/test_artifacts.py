"""Artifacts over HTTP: what a status names, and nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from tidelog.engine.http.artifacts import artifact_routes
from tidelog.events.digest import Digest
from tidelog.storage.artifacts import ArtifactStore, Tarball
from tidelog.storage.artifacts.filtering import EMPTY_TREE
from tidelog.storage.artifacts.objects import Objects

PATH = f"gitrepository/team/app/{'1' * 40}.tar.gz"


class Served:
    """A server of one artifact."""

    def __init__(self, client: "TestClient[web.Request, web.Application]", tarball: Tarball) -> None:
        self.client = client
        self.tarball = tarball
        self.named: dict[str, Digest] = {PATH: tarball.digest}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    def make() -> tuple[ArtifactStore, Tarball]:
        store = ArtifactStore.open(tmp_path)
        objects = Objects(store.directory)
        objects.write_tree(())
        objects.close()
        return store, store.tarball(EMPTY_TREE)

    store, tarball = await anyio.to_thread.run_sync(make)
    application = web.Application()
    named: dict[str, Digest] = {}
    application.add_routes(artifact_routes(store, named.get))
    async with TestClient(TestServer(application)) as client:
        found = Served(client, tarball)
        found.named = named
        named[PATH] = tarball.digest
        yield found
    await anyio.to_thread.run_sync(store.close)


async def test_artifact_is_served_byte_for_byte(served: Served) -> None:
    response = await served.client.get(f"/{PATH}")
    assert response.status == 200
    assert await response.read() == served.tarball.path.read_bytes()
    assert response.headers["Content-Length"] == str(served.tarball.size)
    assert response.headers["ETag"] == f'"{served.tarball.digest.partition(":")[2]}"'
    assert "Content-Encoding" not in response.headers, "a client that unpacks it would find another digest"


async def test_head_tells_the_same_without_the_content(served: Served) -> None:
    response = await served.client.head(f"/{PATH}")
    assert response.status == 200
    assert response.headers["Content-Length"] == str(served.tarball.size)
    assert await response.read() == b""


async def test_who_has_it_is_told_so(served: Served) -> None:
    etag = (await served.client.head(f"/{PATH}")).headers["ETag"]
    response = await served.client.get(f"/{PATH}", headers={"If-None-Match": etag})
    assert response.status == 304
    other = await served.client.get(f"/{PATH}", headers={"If-None-Match": '"other"'})
    assert other.status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gitrepository/team/app/2.tar.gz",
        "/",
        "/HEAD",
        "/../HEAD",
        "/%2e%2e/HEAD",
        "/gitrepository/team/../../HEAD",
        "/..%2f..%2fetc/passwd",
        "/a%00b",
    ],
)
async def test_what_no_status_names_is_not_there(served: Served, path: str) -> None:
    response = await served.client.get(URL(path, encoded=True))
    assert response.status == 404


async def test_name_whose_file_is_gone_is_not_there(served: Served) -> None:
    served.named["gone"] = Digest("sha256:" + "0" * 64)
    assert (await served.client.get("/gone")).status == 404
    del served.named[PATH]
    assert (await served.client.get(f"/{PATH}")).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_written(served: Served, method: str) -> None:
    assert (await served.client.request(method, f"/{PATH}")).status == 405
