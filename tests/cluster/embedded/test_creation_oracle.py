"""What is made in the embedded cluster as a whole, beside the real API server: who then owns what."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator

import anyio
import anyio.to_thread
import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.oracle import Client, Json
from tests.cluster.embedded.test_ownership_oracle import CREATED
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.cluster import ADMIN, open_embedded
from tidelog.engine.cluster.embedded.requests import Request
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.objects.kube import group_of

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SERVED_S = 20


@pytest.fixture
def group(kubernetes: Servers) -> Iterator[str]:
    """A group of this test's own, whose definition is deleted afterwards."""
    made = f"g{uuid.uuid4().hex[:12]}.example.com"
    yield made
    kubernetes.request("DELETE", f"{DEFINITIONS}/things.{made}")


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with Evaluator() as judge, open_embedded(judge) as opened:
        yield opened.api


async def ask(api: Api, method: str, path: str, body: Json | None = None, **query: str) -> Json:
    sent = b"" if body is None else json.dumps(body).encode()
    answer = await api.handle(Request(method, path, query, ADMIN, sent, "application/json", "", "test"))
    made: Json = json.loads(answer.body)
    assert answer.status < 300, made
    return made


@pytest.mark.parametrize("kind", CREATED)
async def test_whoever_creates_owns_what_is_owned_on_the_real_server(
    kubernetes: Servers, namespace: str, api: Api, kind: str
) -> None:
    prefix, body = CREATED[kind]
    version = prefix.removeprefix("/apis/").removeprefix("/api/")
    resource = api.registry.of_kind(group_of(version), version.rpartition("/")[2], kind)
    assert resource is not None
    path = f"{prefix}/namespaces/{namespace}/{resource.plural}"
    made = {"metadata": {"name": "x"}, **body}
    await ask(api, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    ours = await ask(api, "POST", path, made, fieldManager="u", dryRun="All")
    with Client(kubernetes) as client:
        asked = oracle.query(path, fieldManager="u", dryRun="All")
        real = await anyio.to_thread.run_sync(client.request, "POST", asked, made)
    assert real.status == 201, real
    assert owners(ours) == owners(real.body)


async def test_the_server_owns_what_it_says_of_a_definition(kubernetes: Servers, group: str, api: Api) -> None:
    path, sent = f"{DEFINITIONS}/things.{group}", oracle.definition(group)
    with Client(kubernetes) as client:
        made = oracle.query(DEFINITIONS, fieldManager="test")
        real = await anyio.to_thread.run_sync(client.request, "POST", made, sent)
        assert real.status == 201, real
        with anyio.fail_after(SERVED_S):
            while not is_established(real.body):
                real = await anyio.to_thread.run_sync(client.request, "GET", path)
    await ask(api, "POST", DEFINITIONS, sent, fieldManager="test")
    ours = await ask(api, "GET", path)
    assert is_established(ours)
    assert owners(ours) == owners(real.body)


def is_established(definition: Json) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def owners(obj: Json) -> list[Json]:
    entries = obj["metadata"].get("managedFields") or []
    return sorted(({**entry, "time": ""} for entry in entries), key=lambda entry: str(entry["manager"]))
