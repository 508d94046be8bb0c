"""What the tests of sources share: a store, a fetcher, a Git server."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio.to_thread
import pytest

from tests.servers.git_server import GitServer, git_server
from tests.servers.repositories import Repository
from tidelog.engine.sources.git import Credentials, GitFetcher
from tidelog.storage.artifacts import ArtifactStore


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    """A Git server over HTTPS."""
    root = tmp_path / "repositories"
    root.mkdir()
    with git_server(root) as running:
        yield running


@pytest.fixture
def repository(server: GitServer) -> Repository:
    """An empty repository that the server has as `app`."""
    return Repository.create(server.root / "app.git")


@pytest.fixture
def trusted(server: GitServer) -> Credentials:
    """Anonymous, and trusting the server's authority."""
    return Credentials(ca=server.ca.decode())


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ArtifactStore]:
    opened = await anyio.to_thread.run_sync(ArtifactStore.open, tmp_path / "store")
    yield opened
    await anyio.to_thread.run_sync(opened.close)


@pytest.fixture
async def fetcher(store: ArtifactStore) -> AsyncIterator[GitFetcher]:
    async with GitFetcher(store) as opened:
        yield opened
