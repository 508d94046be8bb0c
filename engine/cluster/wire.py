"""What goes over the wire: paths, queries and bodies of requests, and what stands in answers."""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import Struct

from tidelog.engine.cluster.connection import Answer, Call, garbage
from tidelog.engine.cluster.errors import BadRequestError, ServerError, UnreachableError, error_from, status_in
from tidelog.engine.cluster.port import (
    Column,
    Identity,
    Kind,
    Patch,
    PatchType,
    Scale,
    WatchEvent,
    WatchEventType,
)
from tidelog.events.canonical import INT_MAX, INT_MIN
from tidelog.events.typed import decoder

_PATCH_TYPES: dict[PatchType, str] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
}
_TYPES: dict[str, WatchEventType] = {
    "ADDED": "ADDED",
    "MODIFIED": "MODIFIED",
    "DELETED": "DELETED",
    "BOOKMARK": "BOOKMARK",
}
JSON_DEPTH_MAX = 250
"""Collections within one another that are read, where there are more than can be: the server takes ten thousand."""
_T = TypeVar("_T")
_token = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_long_integer = re.compile(rb"[:,\[] *-?[1-9][0-9]{18}").search
_number_or_text = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9][-+.0-9eE]*+', re.DOTALL)
_WARNING = re.compile(r'299 \S+ "((?:[^"\\]|\\.)*)"')


class _ListMetadata(Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Paged(Struct):
    """What comes in pages."""

    metadata: _ListMetadata


class _Page(Paged):
    items: list[dict[str, Any]] | None = None


class _Row(Struct):
    cells: list[Any]
    object: dict[str, Any] | None = None


class _Table(Paged, rename="camel"):
    column_definitions: list[Column]
    rows: list[_Row] | None = None


class _ScaleMetadata(Struct, rename="camel"):
    resource_version: str = ""


class _ScaleNumbers(Struct):
    replicas: int = 0
    selector: str = ""


class _Scale(Struct):
    metadata: _ScaleMetadata
    spec: _ScaleNumbers = msgspec.field(default_factory=_ScaleNumbers)
    status: _ScaleNumbers = msgspec.field(default_factory=_ScaleNumbers)


class _Event(Struct):
    type: str
    object: dict[str, Any]


class _Version(Struct, rename="camel"):
    git_version: str


class _OpenApiPath(Struct):
    server_relative_url: str = msgspec.field(name="serverRelativeURL")


class _OpenApiIndex(Struct):
    paths: dict[str, _OpenApiPath] = {}


decode_object = decoder(dict[str, Any])
_decode_page = decoder(_Page)
decode_table = decoder(_Table)
decode_scale = decoder(_Scale)
_decode_event = decoder(_Event)
decode_version = decoder(_Version)
decode_index = decoder(_OpenApiIndex)


def decode_page(body: bytes) -> _Page:
    """A page of a list, each of whose items has a name."""
    page = _decode_page(body)
    for item in page.items or ():
        _text_in(item, "name")
    return page


def decoder_of(namespace: str, name: str, *, kept: bool) -> Callable[[bytes], dict[str, Any]]:
    """Reads one object, which must be the one that was asked for: what else an answer holds says nothing of it.

    Args:
        namespace: where it is; empty for an object of the cluster.
        name: its name.
        kept: whether it is in the cluster, and so has a version; the answer to a dry run may have none.
    """

    def decode(body: bytes) -> dict[str, Any]:
        obj = decode_object(body)
        if _text_in(obj, "name") != name or (namespace and _text_in(obj, "namespace") != namespace):
            raise msgspec.ValidationError("it is of another object")
        _text_in(obj, "uid")
        if kept:
            _text_in(obj, "resourceVersion")
        return obj

    return decode


def _text_in(obj: dict[str, Any], field: str) -> str:
    """A field of an object's metadata that each has."""
    metadata = obj.get("metadata")
    text = metadata.get(field) if isinstance(metadata, dict) else None
    if not isinstance(text, str) or not text:
        raise msgspec.ValidationError(f"it has no metadata.{field}")
    return text


def encoded(what: str, value: object) -> bytes:
    """A body; BadRequestError for what JSON cannot hold."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        # Not the error's own text: it may show a value.
        raise BadRequestError(
            f"cannot {what}: it cannot be written as JSON ({type(error).__name__}): is there half of a character in it?"
        ) from None


def decoded(call: Call, answer: Answer, decode: Callable[[bytes], _T]) -> _T:
    """What stands in a success; ServerError or OutcomeUnknown when it is something else."""
    try:
        return _decoded(answer.body, decode)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise garbage(call, answer, str(error)) from error


def _decoded(body: bytes, decode: Callable[[bytes], _T]) -> _T:
    """What a body says; what lies too deep in it, whoever made an object like that, is empty."""
    if _long_integer(body):
        body = _number_or_text.sub(_as_float, body)
    try:
        return decode(body)
    except RecursionError:
        return decode(shallow(body))


def _as_float(found: re.Match[bytes]) -> bytes:
    """An integer beyond 64 bits is a float, which Go writes like that, and is read as one."""
    text = found[0]
    return text + b".0" if text.lstrip(b"-").isdigit() and not INT_MIN <= int(text) <= INT_MAX else text


def shallow(body: bytes) -> bytes:
    """JSON whose collections beyond `JSON_DEPTH_MAX` within one another are empty."""
    kept: list[bytes] = []
    depth = begin = 0
    for token in _token.finditer(body):
        if token[0] in b"[{":
            depth += 1
            if depth == JSON_DEPTH_MAX:
                kept.append(body[begin : token.end()])
        elif token[0] in b"]}":
            if depth == JSON_DEPTH_MAX:
                begin = token.start()
            depth -= 1
    return b"".join([*kept, body[begin:]])


class Lines:
    """The lines of a stream that comes in pieces."""

    def __init__(self, call: Call, most: int) -> None:
        self._call = call
        self._most = most
        """Bytes of a line."""
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that `chunk` completes."""
        first, *more = chunk.split(b"\n")
        self._rest += first
        if len(self._rest) > self._most:
            raise ServerError(f"cannot {self._call.what}: one change has more than {self._most >> 20} MiB")
        for line in more:
            whole = bytes(self._rest)
            self._rest = bytearray(line)
            if whole.strip():
                yield whole

    def end(self) -> None:
        """The stream has ended.

        Raises:
            UnreachableError: in the midst of a line.
        """
        if self._rest.strip():
            raise UnreachableError(f"cannot {self._call.what} any longer: the stream ended in the middle of a change")


def _decode_change(line: bytes) -> _Event:
    event = _decode_event(line)
    if event.type in _TYPES:
        for field in ("resourceVersion",) if event.type == "BOOKMARK" else ("resourceVersion", "name", "uid"):
            _text_in(event.object, field)
    return event


def event_of(call: Call, line: bytes) -> WatchEvent:
    """The change that a line of a watch tells of; an error that it tells of is raised."""
    try:
        event = _decoded(line, _decode_change)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreachableError(f"cannot {call.what} any longer: the server sent no change ({error})") from error
    known = _TYPES.get(event.type)
    if known:
        return WatchEvent(known, event.object)
    raise error_from(call.what, status_in(event.object))


def path_of(kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    """The path of a kind, an object, or its subresource."""
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    if kind.namespaced and namespace:
        parts += ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, subresource) if part]
    return "/" + "/".join(quote(part, safe="") for part in parts)


def query_of(**parameters: str) -> str:
    """A query of the parameters that are not empty."""
    given = {name: value for name, value in parameters.items() if value}
    return f"?{urlencode(given)}" if given else ""


def selecting(labels: str, fields: str, limit: int) -> dict[str, str]:
    """The parameters that say which objects are listed."""
    return {"labelSelector": labels, "fieldSelector": fields, "limit": str(limit)}


def patching(
    kind: Kind,
    namespace: str,
    name: str,
    subresource: str,
    manager: str,
    patch: Patch,
    type: PatchType,
    identity: Identity | None,
    *,
    dry_run: bool,
) -> Call:
    """The call that patches an object or its subresource."""
    what = named("patch", kind, namespace, name, subresource)
    return Call(
        verb="patch",
        what=what,
        resource=kind.plural,
        method="PATCH",
        target=path_of(kind, namespace, name, subresource)
        + query_of(fieldManager=manager, dryRun="All" if dry_run else ""),
        body=encoded(what, patch),
        content_type=_PATCH_TYPES[type],
        identity=identity,
        changes=not dry_run,
        again=dry_run or type != "json",
    )


def scale_of(wire: _Scale) -> Scale:
    """A scale, as the port has it."""
    return Scale(wire.spec.replicas, wire.status.replicas, wire.status.selector, wire.metadata.resource_version)


def named(verb: str, kind: Kind, namespace: str, name: str = "", subresource: str = "") -> str:
    """What is done, for messages: `get Deployment app in namespace web`."""
    subject = f"{kind.kind} {name}" if name else kind.plural
    if subresource:
        subject = f"the {subresource} of {subject}"
    return f"{verb} {subject} in namespace {namespace}" if namespace else f"{verb} {subject}"


def warnings_in(headers: tuple[str, ...]) -> Iterator[str]:
    """The warnings in an answer's headers."""
    for header in headers:
        for match in _WARNING.finditer(header):
            yield re.sub(r"\\(.)", r"\1", match[1])
