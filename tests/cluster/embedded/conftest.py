"""The real API server and the embedded cluster, given the same to begin with."""

import uuid
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.to_thread
import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.beside import Beside, ask
from tests.cluster.embedded.oracle import Client, Kind
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.cluster import open_embedded
from tidelog.engine.expressions.evaluator import Evaluator

SERVED_S = 20
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def client(kubernetes: Servers) -> Iterator[Client]:
    with Client(kubernetes) as made:
        yield made


@pytest.fixture
def kind(kubernetes: Servers) -> Iterator[Kind]:
    """A custom kind of this test's own; its definition is deleted afterwards."""
    group = f"g{uuid.uuid4().hex[:12]}.example.com"
    assert kubernetes.request("POST", DEFINITIONS, oracle.definition(group)).status == 201
    yield oracle.custom_kind(group)
    kubernetes.request("DELETE", f"{DEFINITIONS}/things.{group}")


@pytest.fixture
async def api(kind: Kind, namespace: str) -> AsyncIterator[Api]:
    """The embedded cluster, with what the real one has been given."""
    async with Evaluator() as judge, open_embedded(judge) as opened:
        api = opened.api
        made = await ask(api, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        assert made.status == 201, made
        definition = oracle.definition(kind.api_version.partition("/")[0])
        made = await ask(api, "POST", DEFINITIONS, definition)
        assert made.status == 201, made
        yield api


@pytest.fixture
async def beside(client: Client, api: Api, kind: Kind, namespace: str) -> Beside:
    """Both, once the real one serves the custom kind."""
    with anyio.fail_after(SERVED_S):
        while (await anyio.to_thread.run_sync(client.request, "GET", kind.path("default"))).status != 200:  # noqa: ASYNC110
            await anyio.sleep(0.1)
    return Beside(client, api, namespace, kind)
