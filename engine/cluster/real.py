"""A real Kubernetes API server behind the port.

JSON straight from and to the wire through msgspec, without models: what the API server sends is what is handed over.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec

from tidelog.engine.cluster.connection import Answer, Call, Channel, Connection, endless
from tidelog.engine.cluster.credentials import Credentials
from tidelog.engine.cluster.discovery import ACCEPT, ROOTS, Kinds, NotAggregatedError, Served, served_in
from tidelog.engine.cluster.errors import (
    BadRequestError,
    GoneError,
    NotFoundError,
    ServerError,
    UnknownKindError,
)
from tidelog.engine.cluster.kubeconfig import find_access
from tidelog.engine.cluster.limits import Bounds, Limits
from tidelog.engine.cluster.port import (
    PAGE,
    Applied,
    Identity,
    Kind,
    Listing,
    OnRequest,
    Patch,
    PatchType,
    Preconditions,
    Propagation,
    Row,
    Scale,
    Table,
    TableObjects,
    Token,
    WatchEvent,
)
from tidelog.engine.cluster.wire import (
    Lines,
    Paged,
    decode_index,
    decode_object,
    decode_page,
    decode_scale,
    decode_table,
    decode_version,
    decoded,
    decoder_of,
    encoded,
    event_of,
    named,
    patching,
    path_of,
    query_of,
    scale_of,
    selecting,
    warnings_in,
)
from tidelog.engine.objects.kube import KubeObject

WATCH_S = 86_400
"""How long the server is asked to keep a watch; without this it ends each within the hour."""
LIST_ATTEMPTS = 3
LIST_PAGES_MAX = 4_000
"""Pages of one list: two million objects. A server that always has one more would be read for ever."""
ACCEPT_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
ACCEPT_METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
ACCEPT_METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
SCALE = "scale"
OPENAPI_DOCUMENTS_MAX = 32
"""Documents that are kept: a cluster has some thirty groups, each some 100 KiB to 2 MiB."""
_T = TypeVar("_T")
_PageT = TypeVar("_PageT", bound=Paged)


@asynccontextmanager
async def open_cluster(
    kubeconfig: Path | None = None,
    context: str | None = None,
    *,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    on_request: OnRequest | None = None,
) -> AsyncIterator["RealCluster"]:
    """Connects to the cluster that a kubeconfig names, or to the one that this pod runs in; asks it for its version.

    Args:
        kubeconfig: the file; None for `KUBECONFIG`, then `~/.kube/config`, then the pod's own files.
        context: one of its contexts; None for the current one.
        limits: how much is asked at once, and how long it may take.
        on_request: is told of each request, for metrics.

    Raises:
        KubeconfigError: when no request can be made.
        ClusterError: when the server does not answer, or refuses.
    """
    access = await anyio.to_thread.run_sync(find_access, kubeconfig, context)
    async with Connection(access, Credentials(access), limits, on_request) as connection:
        cluster = RealCluster(connection)
        await cluster.version()
        yield cluster


class RealCluster:
    """`Cluster`, on an API server. Made by `open_cluster`."""

    def __init__(self, connection: Channel, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - immutable
        self._connection = connection
        self._bounds = bounds
        self._discovery = _Discovery(connection)
        self._openapi = _OpenApi(connection)

    @property
    def address(self) -> str:
        """The API server's, without credentials that may be in it."""
        return self._connection.address

    async def kind(self, api_version: str, kind: str) -> Kind:  # noqa: D102
        kinds = await self._discovery.kept()
        found = kinds.get(api_version, kind)
        if found is None:
            kinds = await self._discovery.newer_than(kinds)
            found = kinds.get(api_version, kind)
        if found is None:
            if api_version in kinds.silent:
                raise ServerError(_silent(kind, api_version))
            raise UnknownKindError(_unknown(api_version, kind, kinds.versions_of(kind)))
        return found

    async def find_kind(self, group: str, kind: str) -> Kind | None:  # noqa: D102
        kinds = await self._discovery.kept()
        found = kinds.preferred_of(group, kind)
        if found is None:
            kinds = await self._discovery.newer_than(kinds)
            found = kinds.preferred_of(group, kind)
        if found is None:
            silent = sorted(version for version in kinds.silent if version.rpartition("/")[0] == group)
            if silent:
                raise ServerError(_silent(kind, *silent))
        return found

    async def kinds(self) -> tuple[Kind, ...]:  # noqa: D102
        return (await self._discovery.kept()).preferred

    async def kinds_in(self, api_version: str) -> tuple[Kind, ...]:  # noqa: D102
        kinds = await self._discovery.kept()
        found = kinds.in_version(api_version)
        if not found:
            kinds = await self._discovery.newer_than(kinds)
            found = kinds.in_version(api_version)
        if not found and api_version in kinds.silent:
            raise ServerError(_silent("anything", api_version))
        return found

    async def api_versions(self) -> tuple[str, ...]:  # noqa: D102
        return (await self._discovery.now()).names

    def fence(self, check: Callable[[], None] | None) -> None:  # noqa: D102
        self._connection.fence = check

    def forget_kinds(self) -> None:  # noqa: D102
        self._discovery.forget()
        self._openapi.forget()

    async def get(  # noqa: D102
        self, kind: Kind, namespace: str, name: str, *, identity: Identity | None = None
    ) -> KubeObject:
        what = named("get", kind, namespace, name)
        call = Call("get", what, kind.plural, "GET", path_of(kind, namespace, name), identity=identity)
        return await self._object(call, kind, namespace, name)

    async def list(  # noqa: D102
        self,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
        identity: Identity | None = None,
    ) -> Listing:
        call = Call(
            "list", named("list", kind, namespace), kind.plural, "GET", path_of(kind, namespace), identity=identity
        )
        query = selecting(labels, fields, limit)
        found = await _whole(lambda: self._objects(kind, call, query, self._bounds.whole_bytes))
        return Listing([item for page in found for item in page.items], found[-1].resource_version)

    async def pages(  # noqa: D102
        self,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
        only_metadata: bool = False,
        identity: Identity | None = None,
    ) -> AsyncGenerator[Listing, None]:
        what, query = named("list", kind, namespace), selecting(labels, fields, limit)
        call = Call("list", what, kind.plural, "GET", path_of(kind, namespace), identity=identity)
        if only_metadata:
            call = msgspec.structs.replace(call, accept=ACCEPT_METADATA_LIST)
        async with aclosing(self._objects(kind, call, query, self._bounds.list_bytes)) as pages:
            async for page in pages:
                yield page

    async def _objects(
        self, kind: Kind, call: Call, query: Mapping[str, str], most: int
    ) -> AsyncGenerator[Listing, None]:
        async with aclosing(self._pages(kind, call, query, decode_page, most)) as pages:
            async for page in pages:
                for item in page.items or ():
                    # In lists of built-in kinds, these two are left out.
                    item.setdefault("apiVersion", kind.api_version)
                    item.setdefault("kind", kind.kind)
                yield Listing(page.items or [], page.metadata.resource_version)

    async def table(  # noqa: D102
        self,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
        objects: TableObjects = "None",
        identity: Identity | None = None,
    ) -> Table:
        query = selecting(labels, fields, limit) | {"includeObject": objects}
        what = named("list", kind, namespace)
        call = Call("list", what, kind.plural, "GET", path_of(kind, namespace), accept=ACCEPT_TABLE, identity=identity)
        found = await _whole(lambda: self._pages(kind, call, query, decode_table, self._bounds.whole_bytes))
        rows = (Row(tuple(row.cells), row.object) for page in found for row in page.rows or ())
        return Table(tuple(found[0].column_definitions), tuple(rows), found[-1].metadata.resource_version)

    async def _pages(
        self, kind: Kind, call: Call, query: Mapping[str, str], decode: Callable[[bytes], _PageT], most: int
    ) -> AsyncGenerator[_PageT, None]:
        going_on, size = "", 0
        for _ in range(LIST_PAGES_MAX):
            asked = msgspec.structs.replace(call, target=call.target + query_of(**query, **{"continue": going_on}))
            answer = await self._send(asked, kind)
            size += len(answer.body)
            if size > most:
                raise ServerError(f"cannot {call.what}: the list has more than {most >> 20} MiB")
            page = decoded(asked, answer, decode)
            yield page
            going_on = page.metadata.continue_
            if not going_on:
                return
        raise ServerError(f"cannot {call.what}: the list has more than {LIST_PAGES_MAX} pages")

    async def watch(  # noqa: D102
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        only_metadata: bool = False,
        identity: Identity | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        query = query_of(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=resource_version,
            timeoutSeconds=str(WATCH_S),
            labelSelector=labels,
            fieldSelector=fields,
        )
        what, path = named("watch", kind, namespace), path_of(kind, namespace) + query
        call = Call("watch", what, kind.plural, "GET", path, identity=identity)
        if only_metadata:
            call = msgspec.structs.replace(call, accept=ACCEPT_METADATA)
        lines = Lines(call, self._bounds.change_bytes)
        try:
            async with aclosing(self._connection.stream(call)) as chunks:
                async for chunk in chunks:
                    for line in lines.feed(chunk):
                        yield event_of(call, line)
        except NotFoundError as error:
            raise self._not_served(error, kind) from error
        lines.end()

    async def apply(  # noqa: D102
        self,
        obj: KubeObject,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> Applied:
        kind, namespace, name = await self._place(obj)
        query = query_of(fieldManager=manager, force="true" if force else "false", dryRun="All" if dry_run else "")
        what = named("dry-run the apply of" if dry_run else "apply", kind, namespace, name)
        call = Call(
            verb="apply",
            what=what,
            resource=kind.plural,
            method="PATCH",
            target=path_of(kind, namespace, name) + query,
            body=encoded(what, obj),
            content_type="application/apply-patch+yaml",  # JSON is YAML
            identity=identity,
            changes=not dry_run,
        )
        answer = self._one(call, await self._send(call, kind))
        there = decoded(call, answer, decoder_of(namespace, name, kept=not dry_run))
        return Applied(there, answer.status == 201, tuple(warnings_in(answer.warnings)))

    async def create(  # noqa: D102
        self, obj: KubeObject, *, manager: str, identity: Identity | None = None
    ) -> KubeObject:
        kind, namespace, name = await self._place(obj)
        what = named("create", kind, namespace, name)
        call = Call(
            verb="create",
            what=what,
            resource=kind.plural,
            method="POST",
            target=path_of(kind, namespace) + query_of(fieldManager=manager),
            body=encoded(what, obj),
            identity=identity,
            changes=True,
            again=False,
        )
        return await self._object(call, kind, namespace, name)

    async def review(self, obj: KubeObject) -> KubeObject:  # noqa: D102
        kind = await self.kind(obj["apiVersion"], obj["kind"])
        what = f"ask for a {kind.kind}"
        call = Call("create", what, kind.plural, "POST", path_of(kind, ""), body=encoded(what, obj))
        return decoded(call, await self._send(call, kind), decode_object)

    async def request_token(self, namespace: str, account: str, *audiences: str) -> Token:  # noqa: D102
        kind = await self.kind("v1", "ServiceAccount")
        what = named("make", kind, namespace, account, "token")
        asked: KubeObject = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": list(audiences)},
        }
        target = path_of(kind, namespace, account, "token")
        call = Call("create", what, kind.plural, "POST", target, body=encoded(what, asked))
        answer = decoded(call, await self._send(call, kind, "token"), decode_object)
        # By the server's own clock it would end at another time than by ours.
        return Token(str(answer["status"]["token"]), float(answer["spec"]["expirationSeconds"]))

    async def replace(  # noqa: D102
        self, obj: KubeObject, *, manager: str, subresource: str = "", identity: Identity | None = None
    ) -> KubeObject:
        kind, namespace, name = await self._place(obj)
        what = named("update", kind, namespace, name, subresource)
        call = Call(
            verb="update",
            what=what,
            resource=kind.plural,
            method="PUT",
            target=path_of(kind, namespace, name, subresource) + query_of(fieldManager=manager),
            body=encoded(what, obj),
            identity=identity,
            changes=True,
        )
        return await self._object(call, kind, namespace, name, subresource)

    async def patch(  # noqa: D102
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Patch,
        *,
        type: PatchType,
        manager: str,
        subresource: str = "",
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> KubeObject:
        call = patching(kind, namespace, name, subresource, manager, patch, type, identity, dry_run=dry_run)
        return await self._object(call, kind, namespace, name, subresource, kept=not dry_run)

    async def get_scale(  # noqa: D102
        self, kind: Kind, namespace: str, name: str, *, identity: Identity | None = None
    ) -> Scale:
        what, path = named("get", kind, namespace, name, SCALE), path_of(kind, namespace, name, SCALE)
        call = Call("get", what, kind.plural, "GET", path, identity=identity)
        return scale_of(decoded(call, await self._send(call, kind, SCALE), decode_scale))

    async def scale(  # noqa: D102
        self,
        kind: Kind,
        namespace: str,
        name: str,
        wanted: int,
        *,
        manager: str,
        resource_version: str = "",
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> Scale:
        patch: KubeObject = {"spec": {"replicas": wanted}}
        if resource_version:
            patch["metadata"] = {"resourceVersion": resource_version}
        call = patching(kind, namespace, name, SCALE, manager, patch, "merge", identity, dry_run=dry_run)
        return scale_of(decoded(call, await self._send(call, kind, SCALE), decode_scale))

    async def delete(  # noqa: D102
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        preconditions: Preconditions | None = None,
        propagation: Propagation = "Background",
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> None:
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if preconditions:
            wanted = {"uid": preconditions.uid, "resourceVersion": preconditions.resource_version}
            options["preconditions"] = {key: value for key, value in wanted.items() if value is not None}
        if dry_run:
            options["dryRun"] = ["All"]
        what = named("dry-run the deletion of" if dry_run else "delete", kind, namespace, name)
        call = Call(
            verb="delete",
            what=what,
            resource=kind.plural,
            method="DELETE",
            target=path_of(kind, namespace, name),
            body=msgspec.json.encode(options),
            identity=identity,
            changes=not dry_run,
        )
        await self._send(call, kind)

    async def openapi(self, group: str, version: str) -> bytes | None:  # noqa: D102
        return await self._openapi.document(f"apis/{group}/{version}" if group else f"api/{version}")

    async def version(self) -> str:  # noqa: D102
        call = Call("get", "ask the server for its version", "/version", "GET", "/version")
        return decoded(call, await self._connection.send(call), decode_version).git_version

    async def _object(
        self, call: Call, kind: Kind, namespace: str, name: str, subresource: str = "", *, kept: bool = True
    ) -> KubeObject:
        answer = self._one(call, await self._send(call, kind, subresource))
        return decoded(call, answer, decoder_of(namespace if kind.namespaced else "", name, kept=kept))

    def _one(self, call: Call, answer: Answer) -> Answer:
        """An answer that is one object."""
        if len(answer.body) > self._bounds.object_bytes:
            raise endless(call, self.address, self._bounds.object_bytes)
        return answer

    async def _send(self, call: Call, kind: Kind, subresource: str = "") -> Answer:
        try:
            return await self._connection.send(call)
        except NotFoundError as error:
            raise self._not_served(error, kind, subresource) from error

    def _not_served(self, error: NotFoundError, kind: Kind, subresource: str = "") -> NotFoundError:
        """Tells a kind that is no longer served, its CRD gone since we asked, from an object that is not there."""
        told = error.status
        if told.reason == "NotFound" and not told.message.startswith(
            "the server could not find the requested resource"
        ):
            return error
        self._discovery.forget()
        named = f"{kind.kind} {kind.api_version}"
        gone = f"serves no {subresource} of {named}" if subresource else f"no longer serves {named}"
        return UnknownKindError(f"{error}; the cluster {gone}", told, f"the cluster {gone}")

    async def _place(self, obj: KubeObject) -> tuple[Kind, str, str]:
        """Where an object belongs."""
        metadata = obj.get("metadata")
        api_version, kind_name = obj.get("apiVersion"), obj.get("kind")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not (isinstance(api_version, str) and isinstance(kind_name, str) and isinstance(name, str) and name):
            raise BadRequestError("an object needs apiVersion, kind and metadata.name")
        kind = await self.kind(api_version, kind_name)
        namespace = metadata.get("namespace") or "" if isinstance(metadata, dict) else ""
        if kind.namespaced and not namespace:
            lacks = "needs a namespace, and metadata.namespace is not set"
            raise BadRequestError(f"{kind_name} {name} {lacks}", said=f"it {lacks}")
        return kind, namespace if kind.namespaced else "", name


# ------------------------------------------------------------------------------------------ what is kept


class _Discovery:
    """The kinds that are served, asked for when somebody wants to know."""

    def __init__(self, connection: Channel) -> None:
        self._connection = connection
        self._lock = anyio.Lock()
        self._kinds: Kinds | None = None
        self._answers: dict[str, tuple[str, Served]] = {}
        """Of each document the ETag and what was in it: a question whose answer has not changed costs little."""

    def forget(self) -> None:
        self._kinds = None

    async def kept(self) -> Kinds:
        return self._kinds or await self.newer_than(None)

    async def newer_than(self, seen: Kinds | None) -> Kinds:
        """Asks again, unless somebody has since `seen`."""
        async with self._lock:
            if self._kinds is None or self._kinds is seen:
                served = [await self._ask(root) for root in ROOTS]
                self._kinds = Kinds(
                    [kind for one in served for kind in one.kinds],
                    frozenset(version for one in served for version in one.silent),
                    {name for one in served for name in one.names},
                )
            return self._kinds

    async def now(self) -> Kinds:
        """Asks again, but for one who asked since."""
        return await self.newer_than(self._kinds)

    async def _ask(self, root: str) -> Served:
        known = self._answers.get(root)
        call = Call(
            verb="get",
            what="ask the server for its kinds",
            resource=root,
            method="GET",
            target=root,
            accept=ACCEPT,
            headers={"If-None-Match": known[0]} if known else {},
        )
        answer = await self._connection.send(call)
        if known and answer.status == 304:
            return known[1]
        try:
            served = decoded(call, answer, served_in)
        except NotAggregatedError:
            raise ServerError("the server has no aggregated discovery: Kubernetes 1.27 or newer is needed") from None
        etag = answer.headers.get("ETag")
        if etag:
            self._answers[root] = etag, served
        return served


class _OpenApi:
    """The OpenAPI documents; each has its hash in its address, so what is kept is never old."""

    def __init__(self, connection: Channel) -> None:
        self._connection = connection
        self._lock = anyio.Lock()
        self._addresses: dict[str, str] | None = None
        self._documents: dict[str, bytes] = {}

    def forget(self) -> None:
        self._addresses = None

    async def document(self, name: str) -> bytes | None:
        async with self._lock:
            if self._addresses is None:
                self._addresses = await self._index()
            address = self._addresses.get(name)
            if address is None:
                return None
            document = self._documents.pop(address, None)
            if document is None:
                call = Call("get", f"read the schemas of {name}", "/openapi/v3", "GET", address)
                document = (await self._connection.send(call)).body
            self._documents[address] = document  # at the end: the last one used
            if len(self._documents) > OPENAPI_DOCUMENTS_MAX:
                del self._documents[next(iter(self._documents))]
            return document

    async def _index(self) -> dict[str, str]:
        call = Call("get", "ask the server for its schemas", "/openapi/v3", "GET", "/openapi/v3")
        index = decoded(call, await self._connection.send(call), decode_index)
        return {name: path.server_relative_url for name, path in index.paths.items()}


async def _whole(read: Callable[[], AsyncGenerator[_T, None]]) -> list[_T]:
    """All pages; begun anew when the server forgets what the next one continues."""
    for attempt in range(1, LIST_ATTEMPTS + 1):
        try:
            async with aclosing(read()) as pages:
                return [page async for page in pages]
        except GoneError:
            if attempt == LIST_ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _silent(kind: str, *versions: str) -> str:
    """Of an APIService, as a rule, whose server is down."""
    return f"nobody can tell whether the cluster serves {kind}: its API {', '.join(versions)} does not answer"


def _unknown(api_version: str, kind: str, served: list[str]) -> str:
    text = f"the cluster does not serve {kind} {api_version}"
    if served:
        return f"{text}; it serves {kind} as {', '.join(served)}"
    return f"{text}: is its CustomResourceDefinition installed?"
