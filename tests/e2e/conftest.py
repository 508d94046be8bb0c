"""Fixtures of the end-to-end tests, which run on the real servers, and on the embedded cluster in their place."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.e2e.other_clusters import Other, other_cluster
from tests.e2e.world import World
from tests.servers import embedded_servers
from tests.servers.embedded_servers import EmbeddedServers
from tests.servers.git_server import GitServer, git_server
from tests.servers.kubernetes_servers import OwnServers, Servers
from tidelog.engine.cli.serve import install_kinds
from tidelog.engine.cluster.real import open_cluster

IN_MAKE_TEST = {"test_flow"}
"""Modules whose tests run on the embedded cluster in `make test` too; all of them do in `make soak`."""
WITH_KINDS: set[str] = set()
"""Servers on which this worker has seen our kinds: to apply them again costs as much as a whole test."""
DIFFERS = {
    "test_values_deeper_than_can_be_dealt_with_hold_nobody_else_up": "nesting of a body",
    "test_a_cluster_that_trusts_this_ones_issuer_is_reached_as_a_service_account": "tokens of service accounts",
}
"""Tests of what the embedded cluster does not have, with the words of docs/reference/embedded-cluster.md."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test that asks for Kubernetes servers runs on the real ones, and on the embedded cluster."""
    if "cluster_kind" not in metafunc.fixturenames:
        return
    marks = [] if metafunc.module.__name__.rpartition(".")[2] in IN_MAKE_TEST else [pytest.mark.soak]
    differs = DIFFERS.get(metafunc.function.__name__)
    if differs is not None:
        marks.append(pytest.mark.skip(reason=f"the embedded cluster differs: {differs}"))
    metafunc.parametrize("cluster_kind", ["real", pytest.param("embedded", marks=marks)])


@pytest.fixture
def cluster_kind() -> str:
    """Which servers the test runs on."""
    raise AssertionError("parametrized by pytest_generate_tests")


@pytest.fixture(scope="session")
def embedded_kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """An embedded cluster that the tests of this worker share."""
    with embedded_servers.start(tmp_path_factory.mktemp("embedded")) as servers:
        yield servers


@pytest.fixture
def kubernetes(request: pytest.FixtureRequest, cluster_kind: str) -> Servers:
    """The real servers, or the embedded cluster."""
    found: Servers = request.getfixturevalue("kubernetes" if cluster_kind == "real" else "embedded_kubernetes")
    return found


@pytest.fixture
def own_servers(
    request: pytest.FixtureRequest, cluster_kind: str, tmp_path: Path
) -> Iterator[OwnServers | EmbeddedServers]:
    """As `kubernetes`, of this test's own."""
    if cluster_kind == "real":
        yield request.getfixturevalue("own_servers")
        return
    with embedded_servers.start(tmp_path / "servers") as own:
        yield own


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
        if kubernetes.url not in WITH_KINDS:
            await install_kinds(cluster)
            WITH_KINDS.add(kubernetes.url)
        made = World(kubernetes, namespace, cluster, git_host, tmp_path)
        yield made
        await made.let_go()


@pytest.fixture
async def real_other(own_servers: OwnServers | EmbeddedServers, namespace: str) -> AsyncIterator[Other]:
    """Another cluster, of real servers."""
    async with other_cluster(own_servers, namespace) as made:
        yield made


@pytest.fixture
def other_servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    """Those of another cluster: embedded ones are up at once."""
    with embedded_servers.start(tmp_path / "other") as servers:
        yield servers


@pytest.fixture
async def other(other_servers: EmbeddedServers, namespace: str) -> AsyncIterator[Other]:
    """Another cluster."""
    async with other_cluster(other_servers, namespace) as made:
        yield made
