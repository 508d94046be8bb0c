"""The cluster as the templates of a chart see it through `lookup`.

A proxy on loopback stands between the process that renders and the cluster: it only reads, as the account that is
reconciled for, and notes what it read. Each job has a token of its own, which is good while the job lasts. It is the
first part of the path, because Kubernetes' client sends no credentials over plain HTTP.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from typing import Any, Final, Self
from urllib.parse import unquote

import anyio
import anyio.to_thread
import msgspec
from aiohttp import web

from tidelog.engine.cluster.errors import ClusterError, NotFoundError
from tidelog.engine.cluster.port import Cluster, Identity, Kind
from tidelog.engine.helm.spec import LookedUp
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.secrecy.values import SecretValues
from tidelog.engine.serving import running

HOST: Final = "127.0.0.1"
_READ_VERBS: Final = frozenset(("get", "list"))
_PAGE: Final = 250
_NO_PARTS: Final = frozenset(("", ".", ".."))
_VERSIONS: Final = b'{"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[]}'
"""At `/api`: what Helm takes for the list of a kind that its version does not have."""
_JSON: Final = "application/json"


class LookupLimits(msgspec.Struct, frozen=True):
    """What one render may read."""

    time_s: float = 30.0
    """Of one read."""
    reads: int = 1_000
    objects: int = 10_000
    """In one list."""
    bytes: int = 64 * 1024 * 1024
    """Of all answers together."""


class LookupSource(msgspec.Struct, frozen=True):
    """Where `lookup` finds its answers."""

    cluster: Cluster
    identity: Identity | None = None
    """Who reads; None for the engine's own account."""
    limits: LookupLimits = LookupLimits()
    on_secret: Callable[[KubeObject], None] | None = None
    """Given each Secret that is read, before the chart is: for who looks for its values in what was rendered."""


class LookupProxy:
    """Answers the processes that render. It listens from the first `port()` on."""

    def __init__(self) -> None:
        self._readings: dict[str, Reading] = {}
        self._lock = anyio.Lock()
        self._opened = AsyncExitStack()
        self._port = 0

    async def port(self) -> int:
        """Where it listens on loopback."""
        async with self._lock:
            if not self._port:
                app = web.Application()
                app.router.add_route("*", "/{path:.*}", self._answer)
                runner = await self._opened.enter_async_context(running(app))
                await web.TCPSite(runner, HOST, 0).start()
                self._port = runner.addresses[0][1]
            return self._port

    async def close(self) -> None:
        """Listens no more."""
        await self._opened.aclose()

    @contextmanager
    def reading(self, source: LookupSource, known: SecretValues) -> "Iterator[Reading]":
        """Lets a job in while the block lasts.

        Args:
            source: what it reads.
            known: is told what is in the Secrets that are read, before the job is.
        """
        reading = Reading(secrets.token_urlsafe(32), source, known)
        self._readings[reading.token] = reading
        try:
            yield reading
        finally:
            del self._readings[reading.token]
            reading.end()

    async def _answer(self, request: web.Request) -> web.Response:
        path, _, query = request.raw_path.partition("?")
        token, *parts = map(unquote, path.removeprefix("/").split("/"))
        reading = self._readings.get(token)
        if reading is None:
            return _refusal(401, "Unauthorized", "this is the token of no job that is at work")
        if request.method != "GET":
            return _refusal(405, "MethodNotAllowed", "what renders a chart may only read")
        # What selects, pages or watches is not asked for by `lookup`; passed over, it would answer too much.
        if query and not query.startswith("timeout="):
            return _refusal(400, "BadRequest", "objects are read whole, and without selectors")
        if any(part in _NO_PARTS or "/" in part for part in parts):
            return _refusal(400, "BadRequest", "this is no path of an object")
        return await reading.answer(parts)


class _Wanted(msgspec.Struct, frozen=True):
    """What a path names: the kinds of a version (without `plural`), a list (without `name`) or an object."""

    api_version: str
    plural: str = ""
    namespace: str = ""
    name: str = ""


def _wanted(path: Sequence[str]) -> _Wanted | None:
    match path:
        case ["api", version, *rest]:
            api_version = version
        case ["apis", group, version, *rest]:
            api_version = f"{group}/{version}"
        case _:
            return None
    match rest:
        case []:
            return _Wanted(api_version)
        case ["namespaces", namespace, plural]:
            return _Wanted(api_version, plural, namespace)
        case ["namespaces", namespace, plural, name]:
            return _Wanted(api_version, plural, namespace, name)
        case [plural]:
            return _Wanted(api_version, plural)
        case [plural, name]:
            return _Wanted(api_version, plural, name=name)
        case _:
            return None


class _LimitError(Exception):
    """A limit of a render was met."""


class Reading:
    """What one job reads.

    Attributes:
        token: what it is known by.
        has_asked: whether the cluster was asked for anything.
        limit: the limit that it met, as a sentence; empty when none was.
    """

    def __init__(self, token: str, source: LookupSource, known: SecretValues) -> None:
        self.token = token
        self.has_asked = False
        self.limit = ""
        self._source = source
        self._known = known
        self._found: set[LookedUp] = set()
        self._reads = self._bytes = 0
        self._one_at_a_time = anyio.Lock()
        self._under_way: set[anyio.CancelScope] = set()

    @property
    def looked_up(self) -> tuple[LookedUp, ...]:
        """What was read so far."""
        return tuple(sorted(self._found))

    async def answer(self, path: Sequence[str]) -> web.Response:
        """The answer to a GET, as an API server gives it."""
        self.has_asked = True
        limits = self._source.limits
        with anyio.move_on_after(limits.time_s) as scope:
            self._under_way.add(scope)
            try:
                async with self._one_at_a_time:
                    return await self._answered(path)
            except _LimitError as error:
                self.limit = str(error)
                return _refusal(400, "BadRequest", self.limit)
            except ClusterError as error:
                return _of_error(error)
            finally:
                self._under_way.discard(scope)
        return _refusal(504, "Timeout", f"the cluster does not answer within {limits.time_s:g} s")

    def end(self) -> None:
        """Reads no more: the process that asked may be gone."""
        for scope in self._under_way:
            scope.cancel()

    async def _answered(self, path: Sequence[str]) -> web.Response:
        body = await self._read(path)
        if body is None:
            return web.Response(status=404, text="404 page not found\n")
        self._require_room(len(body))
        self._bytes += len(body)
        return web.Response(body=body, content_type=_JSON)

    async def _read(self, path: Sequence[str]) -> bytes | None:
        """What stands at a path; None for one at which nothing does."""
        if path == ["api"]:
            return _VERSIONS
        wanted = _wanted(path)
        if wanted is None:
            return None
        kinds = await self._source.cluster.kinds_in(wanted.api_version)
        if not wanted.plural:
            return self._discovered(wanted.api_version, kinds)
        kind = next((kind for kind in kinds if kind.plural == wanted.plural), None)
        # Of a kind with namespaces, a list of all of them may be read, and no object; one without is read without.
        if kind is None or (bool(wanted.namespace) != kind.namespaced and (wanted.namespace or wanted.name)):
            return None
        self._reads += 1
        if self._reads > self._source.limits.reads:
            raise _LimitError(f"it looks up more than {self._source.limits.reads} times")
        if wanted.name:
            return await self._object(kind, wanted.namespace, wanted.name)
        return await self._list(kind, wanted.namespace)

    def _discovered(self, api_version: str, kinds: Sequence[Kind]) -> bytes | None:
        served = sorted((kind.kind, kind.plural) for kind in kinds)
        self._found.add(LookedUp(api_version, version=_digest(served) if served else ""))
        if not kinds:
            return None
        resources = [
            {
                "name": kind.plural,
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": sorted(kind.verbs & _READ_VERBS),
            }
            for kind in kinds
        ]
        head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version}
        return msgspec.json.encode({**head, "resources": resources})

    async def _object(self, kind: Kind, namespace: str, name: str) -> bytes:
        cluster, identity = self._source.cluster, self._source.identity
        key = LookedUp(kind.api_version, kind.kind, namespace, name)
        try:
            found = await cluster.get(kind, namespace, name, identity=identity)
        except NotFoundError:
            self._found.add(key)
            raise
        await self._make_known(kind, [found])
        self._found.add(msgspec.structs.replace(key, version=_version(found["metadata"])))
        return await anyio.to_thread.run_sync(msgspec.json.encode, found)

    async def _list(self, kind: Kind, namespace: str) -> bytes:
        cluster, limits = self._source.cluster, self._source.limits
        read: list[_Page] = []
        version = ""
        pages = cluster.pages(kind, namespace=namespace, limit=_PAGE, identity=self._source.identity)
        async with aclosing(pages):
            async for page in pages:
                await self._make_known(kind, page.items)
                read.append(await anyio.to_thread.run_sync(_Page.of, page.items))
                version = page.resource_version
                if sum(len(one.versions) for one in read) > limits.objects:
                    raise _LimitError(f"it looks up a list of more than {limits.objects} objects ({kind.plural})")
                self._require_room(sum(len(one.text) for one in read))
        versions = sorted(one for page in read for one in page.versions)
        self._found.add(LookedUp(kind.api_version, kind.kind, namespace, version=_digest(versions)))
        head = {"apiVersion": kind.api_version, "kind": f"{kind.kind}List", "metadata": {"resourceVersion": version}}
        items = b",".join(page.text for page in read if page.text)
        return b'%b,"items":[%b]}' % (msgspec.json.encode(head)[:-1], items)

    def _require_room(self, size: int) -> None:
        if self._bytes + size > self._source.limits.bytes:
            raise _LimitError(f"its lookups give more than {self._source.limits.bytes} bytes")

    async def _make_known(self, kind: Kind, found: Sequence[KubeObject]) -> None:
        if (kind.group, kind.kind) == ("", "Secret"):
            await anyio.to_thread.run_sync(_add_all, self._known, found)
            on_secret = self._source.on_secret
            if on_secret is not None:
                for one in found:
                    on_secret(one)


def _add_all(known: SecretValues, found: Sequence[KubeObject]) -> None:
    for one in found:
        known.add_secret(one)


class _Page(msgspec.Struct, frozen=True):
    """A page of a list, no longer decoded."""

    versions: list[tuple[str, str, str]]
    text: bytes
    """Its objects in JSON, with commas between."""

    @classmethod
    def of(cls, items: Sequence[KubeObject]) -> Self:
        metadata = [one["metadata"] for one in items]
        versions = [(one.get("namespace", ""), one["name"], _version(one)) for one in metadata]
        return cls(versions, msgspec.json.encode(items)[1:-1])


def _version(metadata: Mapping[str, Any]) -> str:
    return str(metadata.get("resourceVersion") or metadata.get("uid") or "unknown")


def _digest(value: Any) -> str:
    return f"sha256:{hashlib.sha256(msgspec.json.encode(value)).hexdigest()}"


def _of_error(error: ClusterError) -> web.Response:
    """What the API server said, in its own words; one that could not be asked is as good as none."""
    status = error.status
    return _refusal(status.code or 503, status.reason or "ServiceUnavailable", status.message or str(error))


def _refusal(code: int, reason: str, message: str) -> web.Response:
    said = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    body = msgspec.json.encode({**said, "message": message, "reason": reason, "code": code})
    return web.Response(status=code, body=body, content_type=_JSON)
