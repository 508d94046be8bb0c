"""A bare client of an API server: aiohttp, JSON, so many connections, and nothing else."""

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import msgspec

from bench.reconciling.fleet import Object
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.connector import Connector

CONNECTIONS = 20
MANAGER = "bench"
PLURALS = {
    "ServiceAccount": "serviceaccounts",
    "Service": "services",
    "Deployment": "deployments",
    "Ingress": "ingresses",
    "Namespace": "namespaces",
    "RoleBinding": "rolebindings",
    "GitRepository": "gitrepositories",
    "HelmRepository": "helmrepositories",
    "HelmChart": "helmcharts",
    "Kustomization": "kustomizations",
    "HelmRelease": "helmreleases",
    "Secret": "secrets",
    "CustomResourceDefinition": "customresourcedefinitions",
}
APPLY = "application/apply-patch+yaml"
JSON = "application/json"
MERGE = "application/merge-patch+json"
TIMEOUT_S = 120.0
LINE_BYTES_MAX = 8 << 20


class Client:
    """Requests of the administrator. Made by `client_of`."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def apply(self, obj: Object, *, user: str = "") -> Object:
        """Server-side apply; as another user where one is named."""
        path = f"{path_of(obj)}?fieldManager={MANAGER}&force=true"
        return await self.ask("PATCH", path, obj, APPLY, {"Impersonate-User": user} if user else {})

    async def create(self, obj: Object, *, user: str) -> Object:
        """Creates an object, as another user."""
        where = collection(obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""))
        return await self.ask("POST", f"{where}?fieldManager={MANAGER}", obj, JSON, {"Impersonate-User": user})

    async def replace(self, obj: Object, *, user: str) -> Object:
        """Replaces an object, as another user."""
        return await self.ask("PUT", f"{path_of(obj)}?fieldManager={MANAGER}", obj, JSON, {"Impersonate-User": user})

    async def patch_status(self, obj: Object, status: Object) -> Object:
        """Writes a status."""
        return await self.ask("PATCH", f"{path_of(obj)}/status", {"status": status}, MERGE)

    async def ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        type: str = MERGE,
        headers: dict[str, str] | None = None,
    ) -> Object:
        """One request, that has to succeed."""
        content = None if body is None else msgspec.json.encode(body)
        sent = {"Content-Type": type, **(headers or {})}
        async with self._session.request(method, self._url + path, data=content, headers=sent) as answer:
            data = await answer.read()
            assert answer.status < 300, f"{method} {path}: {answer.status} {data.decode(errors='replace')[:500]}"
            found: Object = msgspec.json.decode(data)
            return found

    async def found(self, path: str) -> bool:
        """Whether there is something."""
        async with self._session.get(self._url + path) as answer:
            await answer.read()
            return answer.status == 200

    async def changes(self, path: str) -> AsyncIterator[Object]:
        """All that is there, then what changes; and all again where the server ends a watch that it finds too slow."""
        while True:
            listed = await self.ask("GET", path)
            for obj in listed["items"]:
                yield obj
            query = f"{path}?watch=1&resourceVersion={listed['metadata']['resourceVersion']}&timeoutSeconds=86400"
            timeout = aiohttp.ClientTimeout(total=None)
            async with self._session.get(self._url + query, timeout=timeout, read_bufsize=LINE_BYTES_MAX) as answer:
                assert answer.status == 200, answer.status
                async for line in answer.content:
                    event: dict[str, Any] = msgspec.json.decode(line)
                    if event["type"] == "ERROR":
                        break
                    yield event["object"]

    async def apply_all(self, objects: Iterable[Object]) -> None:
        """Applies objects, as many at once as there are connections."""
        limiter = anyio.CapacityLimiter(CONNECTIONS)

        async def one(obj: Object) -> None:
            async with limiter:
                await self.apply(obj)

        async with anyio.create_task_group() as tasks:
            for obj in objects:
                tasks.start_soon(one, obj)


@asynccontextmanager
async def client_of(servers: Servers) -> AsyncIterator[Client]:
    """A client of some servers."""
    tls = ssl.create_default_context(cafile=str(servers.authority.certificate_file))
    async with connect(servers.url, tls, servers.token) as client:
        yield client


@asynccontextmanager
async def connect(url: str, tls: ssl.SSLContext, token: str) -> AsyncIterator[Client]:
    """A client of whatever is at an address."""
    # The watches of whoever waits have connections beyond these.
    connector = Connector(limit=CONNECTIONS + 4, ssl=tls)
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
    ) as session:
        yield Client(session, url)


def path_of(obj: Object) -> str:
    """The path of an object."""
    return (
        f"{collection(obj['apiVersion'], obj['kind'], obj['metadata'].get('namespace', ''))}/{obj['metadata']['name']}"
    )


def collection(api_version: str, kind: str, namespace: str = "") -> str:
    """The path of a kind's objects, in a namespace or everywhere."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{root}{f'/namespaces/{namespace}' if namespace else ''}/{PLURALS[kind]}"
