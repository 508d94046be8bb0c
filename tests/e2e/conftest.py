"""Fixtures of the end-to-end tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.world import World
from tests.servers.git_server import GitServer, git_server
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cli.serve import install_kinds
from tidelog.engine.cluster.real import open_cluster


@pytest.fixture
def git_host(tmp_path: Path) -> Iterator[GitServer]:
    """A Git server over HTTPS."""
    root = tmp_path / "repositories"
    root.mkdir()
    with git_server(root) as running:
        yield running


@pytest.fixture
async def world(kubernetes: Servers, namespace: str, git_host: GitServer, tmp_path: Path) -> AsyncIterator[World]:
    """A namespace, a repository, and what it takes to run daemons on them."""
    async with open_cluster(kubernetes.kubeconfig) as cluster:
        await install_kinds(cluster)
        yield World(kubernetes, namespace, cluster, git_host, tmp_path)
