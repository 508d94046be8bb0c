"""What is asked of a Kubernetes API, and what it answers; how a path and a method are read."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Final, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.registry import Registry, Resource, Subresource
from tidelog.engine.cluster.embedded.statuses import StatusError, invalid_kind, no_path, not_allowed, not_found
from tidelog.engine.objects.kube import KubeObject

JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
STRATEGIC: Final = "application/strategic-merge-patch+json"
MERGE: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
WATCH: Final = "watch"
PATCHES: Final = {
    MERGE: "merge",
    JSON_PATCH: "json",
    STRATEGIC: "strategic",
    APPLY: "apply",
}


class User(Struct, frozen=True):
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = {}


class Request(Struct, frozen=True):
    """A request, with its user known."""

    method: str
    path: str
    query: Mapping[str, str]
    """The first value of each parameter."""
    user: User
    body: bytes = b""
    content_type: str = ""
    """Without its parameters."""
    accept: str = ""
    agent: str = ""
    impersonator: User | None = None
    """Who asks in truth, where `user` is acted as."""


class Answer(Struct, frozen=True):
    """The answer. With `stream`, the body comes in pieces."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = {}
    warnings: tuple[str, ...] = ()
    stream: AsyncGenerator[bytes, None] | None = None


def error_answer(error: StatusError) -> Answer:
    """The answer of a refusal."""
    wait_s = error.retry_after_s
    headers = {} if wait_s is None else {"Retry-After": str(wait_s)}
    return Answer(error.code, msgspec.json.encode(error.status), headers=headers, warnings=error.warnings)


class Handler(Protocol):
    """What answers requests: the API, or what stands before it."""

    async def handle(self, request: Request) -> Answer:
        """The answer to a request; a refusal is one too.

        Raises:
            ConnectionError: when the connection is to be cut, and nothing answered.
        """


WARNING_MAX: Final = 4_096


def warning_header(text: str) -> str:
    """The value of a header `Warning` (RFC 7234, 5.5)."""
    quoted = text[:WARNING_MAX].replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
    return f'299 - "{quoted}"'


class Target(Struct, frozen=True):
    """The resource that a request is about."""

    verb: str
    """As audit logs have it: get, list, watch, create, update, patch, delete, deletecollection."""
    resource: Resource
    namespace: str
    name: str
    subresource: Subresource | None = None


def parse_url(target: str) -> tuple[str, dict[str, str]]:
    """Path (not decoded) and query of a request."""
    parts = urlsplit(target)
    query: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        query.setdefault(key, value)
    return parts.path, query


def steps_of(path: str) -> tuple[str, str, list[str]] | None:
    """Group, version and what follows them in the path of a resource; None for a path that is about none.

    Who may ask is decided by these steps, and so is what is asked.
    """
    match unquote(path).strip("/").split("/"):
        case ["api", version, first, *rest]:
            return "", version, [first, *rest]
        case ["apis", group, version, first, *rest]:
            return group, version, [first, *rest]
        case _:
            return None


def without_watch(parts: list[str]) -> tuple[bool, list[str]]:
    """Whether a path asks by itself for a watch, as clients wrote it once, and what follows."""
    is_watch = len(parts) > 1 and parts[0] == WATCH
    return is_watch, parts[1:] if is_watch else parts


def target_of(request: Request, registry: Registry) -> Target | None:
    """The resource that a request is about; None for a path that is about none.

    Raises:
        StatusError: when it is about one that is not there, or cannot be asked that way.
    """
    steps = steps_of(request.path)
    if steps is None:
        return None
    group, version, parts = steps
    is_watch, parts = without_watch(parts)
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and not _is_namespace_part(group, parts):
        _, namespace, *parts = parts
    resource = registry.resource(group, version, parts[0])
    if resource is None:
        raise no_path()
    if bool(namespace) != resource.namespaced and (namespace or len(parts) > 1):
        raise no_path()
    name = parts[1] if len(parts) > 1 else ""
    subresource = None
    if len(parts) > 2:
        subresource = resource.subresources.get(parts[2]) if len(parts) == 3 else None
        if subresource is None:
            raise no_path() if resource.custom is None else not_found(resource, name)
    if is_watch and (subresource is not None or WATCH not in resource.verbs):
        raise no_path()
    if request.method == "HEAD" or (is_watch and request.method != "GET"):
        raise not_allowed()
    verb = WATCH if is_watch else _verb(request, name)
    if subresource is None and bool(name) == (verb == "create") and verb in ("create", "update", "patch"):
        raise not_allowed()
    if verb not in (subresource.verbs if subresource else resource.verbs):
        raise not_allowed()
    return Target(verb, resource, namespace, name, subresource)


def _is_namespace_part(group: str, parts: list[str]) -> bool:
    """Whether a path is about the subresource of a namespace, and not about what is in it."""
    return not group and len(parts) == 3 and parts[2] in ("status", "finalize")


def _verb(request: Request, name: str) -> str:
    match request.method:
        case "GET":
            if name:  # as the real one: who asks for one object gets it, and no watch of others
                return "get"
            return WATCH if is_true(request.query, WATCH) else "list"
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case "PATCH":
            return "patch"
        case "DELETE":
            return "delete" if name else "deletecollection"
        case _:
            raise not_allowed()


def is_true(query: Mapping[str, str], name: str) -> bool:
    """Whether a parameter is set, as the server takes it: whatever does not say no says yes, and so does nothing."""
    return query.get(name, "0").lower() not in ("false", "0")


class Guard(Protocol):
    """What is asked of a write beyond the verb of its request; each question is answered by a StatusError, or not."""

    def check_create(self, resource: Resource, namespace: str, name: str) -> None:
        """Whether an object may be made by what is no creation."""

    def check_write(self, resource: Resource, obj: KubeObject, old: KubeObject | None) -> None:
        """Whether an object may be made, or changed, so."""


class Options(Struct, frozen=True):
    """How something is to be written."""

    manager: str
    dry_run: bool = False
    force: bool = False
    strict: bool = False
    """Whether unknown fields are an error, and no warning."""
    warns: bool = True
    through: str = ""
    """The subresource by which the whole object is changed, which says who owns what then: `scale`."""
    guard: Guard | None = None
    """None where the server itself writes."""
    size: int = 0
    """How large what was sent is, in bytes; 0 where that does not matter."""


MANAGER_MAX: Final = 128
_ALL: Final = "All"
_VALIDATIONS: Final = ("", "Ignore", "Strict", "Warn")


_OPTIONS: Final = {"POST": "CreateOptions", "PUT": "UpdateOptions"}


def _wrong(request: Request) -> Iterator[Cause]:
    """What makes no sense of the options, as the server finds it (apimachinery, `ValidatePatchOptions`)."""
    query, is_apply = request.query, request.method == "PATCH" and request.content_type == APPLY
    manager = query.get("fieldManager", "")
    if is_apply and not manager:
        yield causes.required("fieldManager", "is required for apply patch")
    if request.method == "PATCH" and not is_apply and "force" in query:
        yield causes.forbidden("force", "may not be specified for non-apply patch")
    if len(manager.encode(errors="replace")) > MANAGER_MAX:
        yield Cause(causes.TOO_LONG, "fieldManager", f"Too long: may not be more than {MANAGER_MAX} bytes")
    for n, sign in enumerate(manager):
        if not sign.isprintable():
            at = len(manager[:n].encode(errors="replace"))
            yield causes.invalid("fieldManager", manager, f"invalid character U+{ord(sign):04X} (at position {at})")
            break
    dry_run, validation = query.get("dryRun") or _ALL, query.get("fieldValidation", "")
    if dry_run != _ALL:
        yield causes.not_supported("dryRun", [dry_run], [_ALL])
    if validation not in _VALIDATIONS:
        yield causes.not_supported("fieldValidation", validation, list(_VALIDATIONS))


def options_of(request: Request) -> Options:
    """The options in a request's query.

    Raises:
        StatusError: when there is one that makes no sense.
    """
    query = request.query
    if wrong := list(_wrong(request)):
        raise invalid_kind("meta.k8s.io", _OPTIONS.get(request.method, "PatchOptions"), "", wrong)
    manager, validation = query.get("fieldManager", ""), query.get("fieldValidation", "")
    return Options(
        manager or request.agent.partition("/")[0][:MANAGER_MAX] or "unknown",
        dry_run=query.get("dryRun") == _ALL,
        force=is_true(query, "force"),
        strict=validation == "Strict",
        warns=validation != "Ignore",
        size=len(request.body),
    )
