"""A Kubernetes API: a request in, an answer out. Nothing here knows of sockets."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final, Literal, cast
from urllib.parse import unquote

import anyio
import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded import (
    causes,
    definitions,
    documents,
    managers,
    ownership,
    readiness,
    scales,
    tables,
)
from tidelog.engine.cluster.embedded.access import (
    ANONYMOUS,
    AUTHENTICATED,
    UNAUTHENTICATED,
    Attributes,
    Authorizer,
    account_groups,
    account_of,
    attributes_of,
    refusal,
)
from tidelog.engine.cluster.embedded.aside import Aside
from tidelog.engine.cluster.embedded.body_types import require_applied
from tidelog.engine.cluster.embedded.decoding import (
    Conformed,
    decode_applied,
    decode_body,
    decode_deletion,
    decode_object,
)
from tidelog.engine.cluster.embedded.definitions import Taken, accepted_of
from tidelog.engine.cluster.embedded.documents import OpenApi
from tidelog.engine.cluster.embedded.escalation import Guard
from tidelog.engine.cluster.embedded.intake import patched, read, read_patched, require_place, warned
from tidelog.engine.cluster.embedded.metadata import NAMESPACES
from tidelog.engine.cluster.embedded.objects import decoded, encoded, kept, sent, timestamp
from tidelog.engine.cluster.embedded.reading import Reader, listing
from tidelog.engine.cluster.embedded.registry import (
    Place,
    Registry,
    Resource,
    is_builtin,
    is_builtin_group,
    schema_of_kind,
)
from tidelog.engine.cluster.embedded.requests import (
    APPLY,
    JSON_PATCH,
    MERGE,
    PATCHES,
    STRATEGIC,
    Answer,
    Options,
    Request,
    Target,
    User,
    error_answer,
    options_of,
    target_of,
)
from tidelog.engine.cluster.embedded.reviews import answer as answer_review
from tidelog.engine.cluster.embedded.statuses import (
    NoPathError,
    StatusError,
    bad_request,
    conflict,
    forbidden,
    invalid_kind,
    no_path,
    not_allowed,
    not_found,
    runs_nothing,
    unasked,
    unsupported_media_type,
)
from tidelog.engine.cluster.embedded.store import Key, Store
from tidelog.engine.cluster.embedded.strategies import DEFINITIONS
from tidelog.engine.cluster.embedded.tokens import AUDIENCE, Bound, Tokens
from tidelog.engine.cluster.embedded.writing import Preconditions, Writer, Written
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import Judge
from tidelog.events.typed import converter

APISERVICES: Final = ("apiregistration.k8s.io", "apiservices")
_SERVER: Final = Options("kube-apiserver")
_DEPRECATED: Final = {
    ("", "ComponentStatus"): "v1 ComponentStatus is deprecated in v1.19+",
    ("", "Endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
}
_WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
"""What is answered when it is kept."""
_RUNNING: Final = frozenset({"attach", "exec", "log", "portforward", "proxy"})
"""What only a Pod, Service or Node that runs can answer; the requests that upgrade the connection have no body."""
_RETURNED: Final = frozenset(
    ("", kind)
    for kind in (
        *("PersistentVolume", "PersistentVolumeClaim", "Pod", "PodTemplate", "ResourceQuota", "Service"),
        "ServiceAccount",
    )
)
"""Kinds whose deletion is answered with the object, also when it is gone."""
_ACCOUNTS: Final = ("", "serviceaccounts")
_BOUND: Final = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
"""What a token can be bound to."""
_AUTHENTICATION: Final = "authentication.k8s.io"
_NOTHING: Final = Answer(404, b"404 page not found\n", "text/plain; charset=utf-8")
"""What is said where nobody knows the path, as Go's servers do."""
_TABLE: Final = "as=Table"
_METADATA: Final = "as=PartialObjectMetadata"
_SCALE: Final = "scale"


_IN_QUERY: Final = ("propagationPolicy", "orphanDependents", "gracePeriodSeconds")


class _Preconditions(Struct, rename="camel"):
    """What must hold of what is to be deleted."""

    uid: str | None = None
    resource_version: str | None = None


class _DeleteOptions(Struct, rename="camel"):
    """What the body or the query of a deletion says."""

    propagation_policy: str | None = None
    orphan_dependents: bool | None = None
    dry_run: list[str] | None = None
    preconditions: _Preconditions | None = None
    grace_period_seconds: int | None = None


class Api:
    """Answers requests from a store."""

    def __init__(
        self, store: Store, registry: Registry, judge: Judge, tokens: Tokens, clock: Callable[[], float]
    ) -> None:
        """`clock` gives the time of day."""
        self.store = store
        self.registry = registry
        self.tokens = tokens
        self.authorizer = Authorizer(store)
        self._aside = Aside(judge)
        self.writer = Writer(store, registry, self._aside, clock)
        self._reader = Reader(store, registry)
        self._openapi = OpenApi(registry)
        self._judge = judge
        self._clock = clock
        self._silent_since: anyio.Event | None = None
        """The next change of an APIService, when it was last looked at which are silent."""
        self._silent_then: Mapping[str, list[str]] = {}

    def fork(self) -> "Api":
        """One that answers from a copy of what is here now; what is written to one is not seen in the other."""
        return Api(self.store.fork(), self.registry.fork(), self._judge, self.tokens.fork(), self._clock)

    async def handle(self, request: Request) -> Answer:
        """The answer to a request; a refusal is one too.

        Raises:
            ConnectionError: when the cluster ends before what was written is kept.
        """
        try:
            return await self._handle(request)
        except NoPathError as error:
            return error_answer(error) if _is_known_root(request.path) else _NOTHING
        except StatusError as error:
            return error_answer(error)

    async def _handle(self, request: Request) -> Answer:
        self._authorize(request)  # first: who may not ask for something is not told whether it is there
        target = target_of(request, self.registry)
        if target is None:
            return self._document(request)
        if target.resource.version in self._silent().get(target.resource.group, ()):
            return Answer(503, b"service unavailable\n", "text/plain; charset=utf-8")
        deprecated = target.resource.deprecated or _DEPRECATED.get(target.resource.group_kind)
        is_write = target.verb in _WRITES
        if is_write:
            await self.store.room()
        with warned([deprecated] if deprecated else []):
            answer = await self._answer(target, request)
        if is_write:
            await self.store.kept()
        return msgspec.structs.replace(answer, warnings=(*answer.warnings, deprecated)) if deprecated else answer

    async def _answer(self, target: Target, request: Request) -> Answer:
        match target.verb:
            case "get":
                return self._get(target, request)
            case "list":
                return self._list(target, request)
            case "watch":
                return Answer(200, stream=self._watch(target, request))
            case "create":
                return await self._create(target, request)
            case "update" | "patch":
                return await self._change(target, request)
            case "delete":
                return self._delete(target, request)
            case _:
                return self._delete_all(target, request)

    # ------------------------------------------------------------------------------------------ who asks

    def acting_as(self, user: User, wanted: User) -> User:
        """Who a request is from that acts as another.

        Raises:
            StatusError: when the user may not.
        """
        account = account_of(wanted.name)
        plural, who = ("serviceaccounts", account) if account else ("users", Key("", wanted.name))
        what = Attributes("impersonate", resource=plural, namespace=who.namespace, name=who.name)
        if not self.authorizer.allows(user, what):
            raise forbidden(_identities(self.registry, plural), who.name, refusal(user, what))
        for group in wanted.groups:
            asked = Attributes("impersonate", resource="groups", name=group)
            if not self.authorizer.allows(user, asked):
                raise forbidden(_identities(self.registry, "groups"), group, refusal(user, asked))
        for key, values in wanted.extra.items():
            for value in values:
                self._check_identity(user, f"userextras/{key}", value)
        if wanted.uid:
            self._check_identity(user, "uids", wanted.uid)
        groups = wanted.groups or account_groups(wanted.name)
        known = UNAUTHENTICATED if wanted.name == ANONYMOUS.name else AUTHENTICATED
        return User(wanted.name, tuple(dict.fromkeys((*groups, known))), wanted.uid, wanted.extra)

    def _check_identity(self, user: User, resource: str, name: str) -> None:
        what = Attributes("impersonate", _AUTHENTICATION, resource, name=name)
        if not self.authorizer.allows(user, what):
            raise forbidden(_identities(self.registry, resource, _AUTHENTICATION), name, refusal(user, what))

    def whose(self, token: str, audiences: Sequence[str] = (AUDIENCE,)) -> tuple[User, list[str]] | None:
        """The user of a token, and for which of these audiences it is.

        None for a token that was not given, or is for none of them, or ran out, or whose account is there no more, or
        what it is bound to.
        """
        found = self.tokens.known(token)
        suits = [one for one in audiences if found is not None and one in found.audiences]
        if found is None or not suits or not (found.bound is None or self._is_there(found.bound)):
            return None
        account = account_of(found.user.name) if found.user.uid else None
        if account is not None and not self._is_there(Bound(_ACCOUNTS, account, found.user.uid)):
            return None
        return found.user, suits

    def _is_there(self, bound: Bound) -> bool:
        record = self.store.get(bound.place, bound.key)
        return record is not None and record.uid == bound.uid

    def _bound(self, target: Target, spec: KubeObject) -> Bound | None:
        """What a token that is asked for ends with.

        Raises:
            StatusError: when it is not there, or nothing that tokens can be bound to.
        """
        wanted = spec.get("boundObjectRef")
        if wanted is None:
            return None
        version, kind = str(wanted.get("apiVersion") or ""), str(wanted.get("kind") or "")
        if version != "v1" or kind not in _BOUND:
            group, _, version = version.rpartition("/")
            raise bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
        resource, name = self.registry.builtin(("", _BOUND[kind])), str(wanted.get("name") or "")
        key = Key(target.namespace if resource.namespaced else "", name)
        record = self.store.get(resource.place, key)
        if record is None:
            raise not_found(resource, name)
        if wanted.get("uid") not in (None, "", record.uid):
            why = f"the UID in the bound object reference ({wanted['uid']}) does not match the UID in record"
            raise conflict(resource, name, f"{why}. The object might have been deleted and then recreated")
        return Bound(resource.place, key, record.uid)

    def _authorize(self, request: Request) -> None:
        what = attributes_of(request)
        if not self.authorizer.allows(request.user, what):
            raise unasked(what.group, what.resource.partition("/")[0], what.name, refusal(request.user, what))

    # ------------------------------------------------------------------------------------------ documents

    def _document(self, request: Request) -> Answer:
        path = request.path.rstrip("/") or "/"
        found = Answer(200, msgspec.json.format(encoded(documents.version()), indent=2)) if path == "/version" else None
        found = found or readiness.answer(path, request.query) or self._discovery(path, request.accept)
        if found is None:
            raise no_path()
        if request.method != "GET" and _is_about_version(path):
            raise not_allowed()
        return found

    def _discovery(self, path: str, accept: str) -> Answer | None:
        steps = path.strip("/").split("/")
        if path in ("/api", "/apis") and "as=APIGroupDiscoveryList" in accept:
            body = documents.aggregated(self.registry, self._silent(), core=path == "/api")
            return Answer(200, body, documents.AGGREGATED)
        found: bytes | KubeObject | None = None
        match steps:
            case ["api"]:
                found = documents.legacy_versions()
            case ["apis"]:
                found = documents.group_list(self.registry)
            case ["api", version]:
                found = documents.resource_list(self.registry, "", version)
            case ["apis", group]:
                found = documents.group(self.registry, group)
            case ["apis", group, version]:
                found = documents.resource_list(self.registry, group, version)
            case ["openapi", "v2"]:
                binary = "protobuf" in accept
                body = documents.openapi_v2(binary=binary)
                return Answer(200, body, documents.OPENAPI_V2) if binary else Answer(200, body)
            case ["openapi", "v3"]:
                found = self._openapi.index()
            case ["openapi", "v3", *rest]:
                found = self._openapi.document("/".join(rest))
            case _:
                pass
        if found is None:
            return None
        return Answer(200, found if isinstance(found, bytes) else encoded(found))

    def _silent(self) -> Mapping[str, list[str]]:
        """Versions, by group, that an APIService leaves to another server: none is asked."""
        bucket = self.store.bucket(APISERVICES)
        if self._silent_since is not bucket.changed:  # asked with every request, and they seldom change
            silent: dict[str, list[str]] = {}
            for record in bucket.between(""):
                spec = msgspec.json.decode(record.data).get("spec") or {}
                if spec.get("service"):
                    silent.setdefault(spec.get("group", ""), []).append(spec.get("version", ""))
            self._silent_since, self._silent_then = bucket.changed, silent
        return self._silent_then

    # ------------------------------------------------------------------------------------------ reading

    def _get(self, target: Target, request: Request) -> Answer:
        self._reader.require_version(request.query)
        record = self._reader.get(target)
        if target.subresource is not None and target.subresource.name == _SCALE:
            scale = scales.scale_of(target.resource, decoded(record, target.resource))
            if _TABLE in request.accept or _METADATA in request.accept:
                return Answer(200, encoded(self._as_asked(None, [scale], request)))
            return Answer(200, encoded(scale))
        if target.subresource is not None and target.subresource.name in _RUNNING:
            raise runs_nothing(target.resource, target.subresource.name)
        if _TABLE in request.accept or _METADATA in request.accept:
            return Answer(200, encoded(self._as_asked(target.resource, [decoded(record, target.resource)], request)))
        return Answer(200, sent(record, target.resource))

    def _list(self, target: Target, request: Request) -> Answer:
        page = self._reader.page(target, request.query)
        if _TABLE not in request.accept and _METADATA not in request.accept:
            return Answer(200, listing(target.resource, page))
        told = self._as_asked(target.resource, [msgspec.json.decode(item) for item in page.items], request, many=True)
        metadata = told.setdefault("metadata", {})
        metadata["resourceVersion"] = str(page.version)
        if page.going_on:
            metadata["continue"] = page.going_on
        return Answer(200, encoded(told))

    def _watch(self, target: Target, request: Request) -> AsyncGenerator[bytes, None]:
        as_asked = _TABLE in request.accept or _METADATA in request.accept
        if as_asked:
            _included(request)
        return self._lines(target, request, self._reader.watch(target, request.query), as_asked=as_asked)

    async def _lines(
        self, target: Target, request: Request, changes: AsyncGenerator[tuple[str, bytes], None], *, as_asked: bool
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(changes):
            async for type_, data in changes:
                if as_asked and type_ not in ("ERROR", "BOOKMARK"):
                    data = encoded(self._as_asked(target.resource, [msgspec.json.decode(data)], request))  # noqa: PLW2901
                yield b'{"type":"' + type_.encode() + b'","object":' + data + b"}\n"

    def _as_asked(
        self, resource: Resource | None, objects: list[KubeObject], request: Request, *, many: bool = False
    ) -> KubeObject:
        """Objects (of no kind that is kept: Scales) as a table, or their metadata alone."""
        if _TABLE in request.accept:
            found: KubeObject = tables.table(
                resource, objects, with_objects=_included(request), now=datetime.fromtimestamp(self._clock(), UTC)
            )
            return found
        head = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        told: list[KubeObject] = [{**head, "metadata": obj["metadata"]} for obj in objects]
        if not many:
            return told[0]
        return {"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "items": told}

    # ------------------------------------------------------------------------------------------ writing

    async def _create(self, target: Target, request: Request) -> Answer:
        if target.subresource is not None and target.subresource.name in _RUNNING:
            raise runs_nothing(target.resource, target.subresource.name)
        if target.subresource is not None:
            return self._act(target, request, _document_of(request))
        obj = await self._decoded(request, target)
        review = answer_review(
            target.resource, _as_review(target.resource, obj), request.user, self.authorizer, self.whose, self._now()
        )
        if review is not None:
            return Answer(201, encoded(review))
        return self._written(target.resource, await self.writer.create(target, obj, self._options(request)))

    async def _decoded(self, request: Request, target: Target) -> KubeObject:
        """The object in the body, of the kind that the path is about."""
        return await self._aside.call(len(request.body), decode_object, request, target.resource, self.registry)

    def _options(self, request: Request) -> Options:
        return msgspec.structs.replace(options_of(request), guard=Guard(self.authorizer, request.user))

    def _act(self, target: Target, request: Request, obj: KubeObject) -> Answer:
        """Subresources that are made rather than changed."""
        assert target.subresource is not None  # noqa: S101 - asked by the caller
        match target.resource.plural, target.subresource.name:
            case "serviceaccounts", "token":
                account = self._reader.get(target)
                schema = schema_of_kind("authentication.k8s.io", "v1", "TokenRequest")
                obj = Conformed("TokenRequest", "v1").of(obj, schema)
                name = f"system:serviceaccount:{target.namespace}:{target.name}"
                bound = self._bound(target, obj.get("spec") or {})
                told = self.tokens.request(obj, User(name, account_groups(name), account.uid), bound)
                head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
                metadata = {"name": target.name, "namespace": target.namespace, "creationTimestamp": self._now()}
                return Answer(201, encoded({**head, **told, "metadata": metadata}))
            case "pods", "eviction":
                said = encoded(obj.get("deleteOptions") or {})
                options = _delete_options(msgspec.structs.replace(request, body=said, content_type=""))
                is_tried = bool(options.dry_run) or options_of(request).dry_run
                written = self.writer.delete(target, preconditions=_preconditions(options), dry_run=is_tried)
                return Answer(201, encoded(_success(target.resource, written.object)))
            case _:
                raise not_allowed()

    async def _change(self, target: Target, request: Request) -> Answer:
        options = self._options(request)
        if target.subresource is not None and target.subresource.name == _SCALE:
            return await self._change_scale(target, request, options)
        written = await self._change_of(target, request, options)
        return self._written(target.resource, written)

    async def _change_of(self, target: Target, request: Request, options: Options) -> Written:
        if request.method == "PUT":
            obj = await self._decoded(request, target)
            if (unnamed := _without_name(target, obj)) is not None:
                raise unnamed
            return await self.writer.replace(target, obj, options)
        how = PATCHES.get(request.content_type)
        if how is None:
            raise unsupported_media_type(request.content_type, list(PATCHES))
        if how == "apply":
            applied = await self._aside.call(len(request.body), decode_applied, request)
            require_applied(target.resource, applied)
            return await self.writer.apply(target, applied, options)
        if how == "strategic" and target.resource.custom is not None:
            raise unsupported_media_type(STRATEGIC, [JSON_PATCH, MERGE, APPLY])
        self._reader.get(target)  # first: as the real one, which decodes a patch when it has what is patched
        body = await self._aside.call(len(request.body), decode_body, request)
        return await self.writer.patch(target, body, cast('Literal["merge", "json", "strategic"]', how), options)

    async def _change_scale(self, target: Target, request: Request, options: Options) -> Answer:
        """A Scale that is written sets the replicas of the object behind it."""
        resource = target.resource
        live = decoded(self._reader.get(target), resource)
        paths, owners = scales.paths_of(resource, self.registry), managers.of_live(live)
        scale = scales.scale_of(resource, live)
        scale["metadata"]["managedFields"] = managers.encoded(scales.owners_in_scale(owners, paths))
        wanted, told = self._scale_in(target, request, options, scale)
        with warned(told):
            changed = scales.with_scale(resource, live, wanted)
            after = scales.owners_after(owners, managers.of_live(wanted), paths, resource.api_version)
            changed["metadata"]["managedFields"] = managers.encoded(after)
            whole = Target("update", resource, target.namespace, target.name)
            written = await self.writer.replace(whole, changed, msgspec.structs.replace(options, through=_SCALE))
        self._after(resource, written)
        return Answer(200, encoded(scales.scale_of(resource, written.object)), warnings=tuple(told))

    def _scale_in(
        self, target: Target, request: Request, options: Options, scale: KubeObject
    ) -> tuple[KubeObject, list[str]]:
        """The Scale that a request makes of one, with its owners then, and what is to be warned of."""
        resource = scales.resource_of(target.resource)
        target = Target("update", resource, target.namespace, target.name)
        if request.method == "PUT":
            obj = decode_object(request, resource, self.registry)
            unnamed = _without_name(target, obj)
            found, told = read(resource, target, obj, options)
            with warned(told):
                if unnamed is not None:
                    raise unnamed
            return self._owned_scale(resource, scale, found, options), told
        how = PATCHES.get(request.content_type)
        if how is None:
            raise unsupported_media_type(request.content_type, list(PATCHES))
        if how == "apply":
            applied = decode_applied(request)
            require_applied(resource, applied)
            require_place(resource, target, applied)
            return read(resource, target, self.writer.owned(resource, scale, applied, options, _SCALE), options)
        changed = patched(resource.schema, scale, decode_body(request), how)
        found, told = read_patched(target, changed, how, options, self.registry)
        return self._owned_scale(resource, scale, found, options), told

    def _owned_scale(self, resource: Resource, scale: KubeObject, new: KubeObject, options: Options) -> KubeObject:
        """A Scale with its owners; of 0 replicas nobody is one, as the real server writes no 0 there."""
        if not (new.get("spec") or {}).get("replicas"):
            new = {**new, "spec": {}}
        return ownership.update(
            scale, new, resource.schema, manager=options.manager, now=self._now(), subresource=_SCALE
        )

    def _delete(self, target: Target, request: Request) -> Answer:
        options = _delete_options(request)
        written = self.writer.delete(
            target,
            propagation=_propagation(options),
            preconditions=_preconditions(options),
            dry_run=bool(options.dry_run),
        )
        if not options.dry_run:
            self._after(target.resource, written)
        is_told = not written.gone or target.resource.group_kind in _RETURNED
        told = written.object if is_told else _success(target.resource, written.object)
        return Answer(200, encoded(told))

    def _delete_all(self, target: Target, request: Request) -> Answer:
        options = _delete_options(request)
        resource = target.resource
        page = self._reader.page(target, request.query)
        for data in page.items:
            metadata = msgspec.json.decode(data)["metadata"]
            one = Target("delete", resource, metadata.get("namespace", ""), metadata["name"])
            written = self.writer.delete(one, propagation=_propagation(options), dry_run=bool(options.dry_run))
            if not options.dry_run:
                self._after(resource, written)
        return Answer(200, listing(resource, page))

    def _written(self, resource: Resource, written: Written) -> Answer:
        self._after(resource, written)
        body = encoded(written.object)
        return Answer(201 if written.created else 200, body, warnings=written.warnings)

    def _after(self, resource: Resource, written: Written) -> None:
        """What follows from a write at once: a definition is served."""
        if resource.place == DEFINITIONS:
            self.serve(written.object["metadata"]["name"])

    def serve(self, name: str) -> None:
        """Serves what a definition says, or no longer, when it is gone."""
        record = self.store.get(DEFINITIONS, Key("", name))
        plural, _, group = name.partition(".")
        if is_builtin((group, plural)):  # the server's own kind comes first, and its objects are not the definition's
            return
        if record is None:
            self._remove_all((group, plural))
            self.registry.serve((group, plural), ())
            self.store.drop((group, plural))
            return
        resource = self.registry.builtin(DEFINITIONS)
        live = decoded(record, resource)
        definition = definitions.with_status(live, self._taken(group, name), self._now())
        if definition != live:
            self.writer.tell(resource, live, definition, _SERVER)
        self.registry.serve((group, plural), definitions.resources_of(definition))

    def _remove_all(self, place: Place) -> None:
        """Removes the objects of a kind, so that whoever follows the store hears of it."""
        resource = self.registry.at(place)
        if resource is None:
            return
        for record in list(self.store.bucket(place).between("")):
            self.store.remove(place, kept(decoded(record, resource), resource, self.store.next_version()))

    def _taken(self, group: str, but: str) -> Taken:
        """The names that other definitions of a group have got."""
        resources: set[str] = set()
        kinds: set[str] = set()
        for record in self.store.bucket(DEFINITIONS).between(""):
            definition = msgspec.json.decode(record.data)
            if definition["spec"]["group"] == group and record.key.name != but:
                taken = accepted_of(definition)
                resources.update(taken.resources)
                kinds.update(taken.kinds)
        return Taken(resources, kinds)

    def _now(self) -> str:
        return timestamp(self._clock())


def _is_about_version(path: str) -> bool:
    """Whether a path is one of those where the real server serves GET alone: `/version`, `/api/v1`, `/apis/apps/v1`.

    Everywhere else it does not look at the method, where no object is asked for.
    """
    match path.strip("/").split("/"):
        case ["version"] | ["api"] | ["api", _]:
            return True
        case ["apis", group, _]:
            return is_builtin_group(group)
        case _:
            return False


def _is_known_root(path: str) -> bool:
    """Whether the real server tells of what is not there below a path with a Status, and not with a line of text."""
    match unquote(path).strip("/").split("/"):
        case ["api" | "version", *_]:
            return True
        case ["apis", group, *_]:
            return is_builtin_group(group)
        case _:
            return False


def _document_of(request: Request) -> KubeObject:
    """The object in the body of a request about a subresource, which is of another kind than its resource."""
    found = decode_body(request)
    if not isinstance(found, dict):
        raise bad_request("the object provided is unrecognized (must be of type JSON, an object)")
    return found


def _without_name(target: Target, obj: KubeObject) -> StatusError | None:
    """What is to be said of an object that does not name itself."""
    metadata = obj.get("metadata")
    if not metadata or (isinstance(metadata, dict) and not metadata.get("name")):
        why = "was undeterminable: name must be provided"
        return bad_request(f"the name of the object ({target.name} based on URL) {why}")
    return None


def _as_review(resource: Resource, obj: KubeObject) -> KubeObject:
    """An object with the types of its kind, where it is a question."""
    if resource.group not in ("authentication.k8s.io", "authorization.k8s.io"):
        return obj
    return Conformed(resource.kind, resource.version).of(obj, resource.schema)


def _included(request: Request) -> Literal["None", "Metadata", "Object"]:
    """How much of an object stands in the row of a table."""
    included = request.query.get("includeObject") or "Metadata"
    if included not in ("None", "Metadata", "Object"):
        raise StatusError(400, "BadRequest", f'unrecognized includeObject value: "{included}"')
    return cast('Literal["None", "Metadata", "Object"]', included)


def _identities(registry: Registry, plural: str, group: str = "") -> Resource:
    """Users and groups are no resources that are served; messages name them as if they were."""
    return msgspec.structs.replace(registry.builtin(NAMESPACES), group=group, plural=plural, kind=plural.title())


def _delete_options(request: Request) -> _DeleteOptions:
    query = {} if request.body else request.query  # as the real one: where there is a body the query says nothing
    body = decode_deletion(request) if request.body else {}
    said = {name: query[name] for name in _IN_QUERY if name in query}
    if query.get("dryRun"):
        said["dryRun"] = [query["dryRun"]]  # type: ignore[assignment]
    try:
        found = converter(_DeleteOptions, strict=False)({**said, **body})
    except msgspec.ValidationError as error:
        raise StatusError(400, "BadRequest", f"DeleteOptions: {error}") from None
    policy, stages = found.propagation_policy, found.dry_run or []
    wrong = []
    if policy is not None and found.orphan_dependents is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        wrong.append(causes.invalid("propagationPolicy", policy, why))
    if any(stage != "All" for stage in stages):
        wrong.append(causes.not_supported("dryRun", stages, ["All"]))
    if wrong:
        raise invalid_kind("meta.k8s.io", "DeleteOptions", "", wrong)
    return found


def _preconditions(options: _DeleteOptions) -> Preconditions:
    wanted = options.preconditions or _Preconditions()
    return Preconditions(wanted.uid, wanted.resource_version)


def _propagation(options: _DeleteOptions) -> str:
    if options.propagation_policy:
        if options.propagation_policy not in ("Background", "Foreground", "Orphan"):
            policies = ["Foreground", "Background", "Orphan", "nil"]
            cause = causes.not_supported("propagationPolicy", options.propagation_policy, policies)
            raise invalid_kind("meta.k8s.io", "DeleteOptions", "", [cause])
        return options.propagation_policy
    return "Orphan" if options.orphan_dependents else "Background"


def _success(resource: Resource, obj: KubeObject) -> KubeObject:
    details = {"name": obj["metadata"]["name"], "group": resource.group, "kind": resource.plural}
    details = {key: value for key, value in details.items() if value} | {"uid": obj["metadata"]["uid"]}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
