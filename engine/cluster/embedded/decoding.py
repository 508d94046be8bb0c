"""From a body to an object that has the fields of its kind, as the server decodes it."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from tidelog.engine.cluster.embedded import body_types, json_errors, json_text, protobuf, yaml_bodies
from tidelog.engine.cluster.embedded.builtin.scalars import QUANTITY_FORM
from tidelog.engine.cluster.embedded.registry import Registry, Resource, schema_of_kind
from tidelog.engine.cluster.embedded.requests import APPLY, JSON, JSON_PATCH, PATCHES, STRATEGIC, Request
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.cluster.embedded.statuses import StatusError, bad_request, too_large, unsupported_media_type
from tidelog.engine.objects.kube import KubeObject, KubeValue

BODY_BYTES_MAX: Final = 3 << 20
"""As much as the API server takes."""
_OPERATION: Final = "handlers.jsonPatchOp"
"""What Go calls an operation of a JSON patch."""
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a character as JSON writes it, which YAML has not."""
YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml")


def decode_body(request: Request) -> Any:
    """The document in the body of a request.

    Raises:
        StatusError: when there is none, or it is too large or too deep.
    """
    found = _decode(request)
    if is_deep(found):
        raise bad_request("the object is nested too deeply")
    return found


def _decode(request: Request) -> Any:
    if len(request.body) > BODY_BYTES_MAX:
        raise too_large(BODY_BYTES_MAX)
    kind = request.content_type or JSON
    if kind == APPLY or kind in YAML:
        return _decode_yaml(request.body)
    if kind in PATCHES:
        return _decode_patch(request.body, kind)
    if kind == JSON:
        return _decode_json(request.body)
    if kind == protobuf.CONTENT_TYPE:
        try:
            found = protobuf.decode(request.body)
        except ValueError as error:
            raise bad_request(f"the object provided is unrecognized: {error}") from None
        if found is not None:
            return found
    raise unsupported_media_type(kind, [JSON, YAML[0]])


def _decode_json(body: bytes) -> Any:
    try:
        return json_text.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise bad_request(f"the object provided is unrecognized (must be of type JSON): {error}") from None


def _decode_patch(body: bytes, kind: str) -> Any:
    """A patch of another kind than an apply: a null is one that changes nothing, but for a merge patch."""
    said = "" if kind == STRATEGIC else "error decoding patch: "
    try:
        patch = json_text.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise bad_request(said + json_errors.syntax_error(body)) from None
    if kind != JSON_PATCH:
        if patch is None and kind == STRATEGIC:
            return {}
        if patch is not None and not isinstance(patch, dict):
            raise bad_request(said + json_errors.mismatch(patch))
        return patch
    if not isinstance(patch, list | None):
        raise bad_request(said + json_errors.mismatch(patch, f"[]{_OPERATION}"))
    for one in patch or ():
        if not isinstance(one, dict | None):
            raise bad_request(said + json_errors.mismatch(one, _OPERATION))
        for name in ("op", "from", "path"):
            if not isinstance(value := (one or {}).get(name), str | None):
                raise bad_request(said + json_errors.mismatch_in("jsonPatchOp", name, value))
    return [one or {} for one in patch or ()]


def decode_applied(request: Request) -> KubeObject:
    """The object of a server-side apply.

    Raises:
        StatusError: when there is none, or it does not say of which kind it is.
    """
    found = decode_body(request)
    if not isinstance(found, dict | None):
        said = "error decoding YAML: error unmarshaling JSON: while decoding JSON: "
        raise bad_request(said + json_errors.mismatch(found))
    if not found or not (found.get("apiVersion") or found.get("kind")):
        raise bad_request("invalid object type: /, Kind=")
    return found


def _decode_yaml(body: bytes) -> Any:
    if body[:1] == b"{" and _SURROGATE.search(body) is None:
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
    try:
        return yaml_bodies.decode(body)
    except ValueError as error:
        raise bad_request(f"error decoding YAML: error converting YAML to JSON: yaml: {error}") from None


def is_deep(value: Any) -> bool:
    """Whether a value is nested deeper than a body may be."""
    level = [value]
    for _ in range(yaml_bodies.DEPTH_MAX):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def decode_object(request: Request, resource: Resource, registry: Registry) -> KubeObject:
    """The object in the body of a request, of the kind of a resource.

    Raises:
        StatusError: when there is none, or it is of another kind.
    """
    kind, body = request.content_type or JSON, request.body
    if len(body) <= BODY_BYTES_MAX and kind == JSON:
        try:
            found = json_text.decode(body)
        except (msgspec.DecodeError, RecursionError):
            raise body_types.no_json(resource, body) from None
    elif len(body) <= BODY_BYTES_MAX and kind in YAML:
        try:
            found = yaml_bodies.decode(body)
        except ValueError as error:
            raise body_types.unrecognized(resource, f"yaml: {error}", body) from None
    elif kind in PATCHES:
        raise unsupported_media_type(kind, [JSON, YAML[0], protobuf.CONTENT_TYPE])
    else:
        found = _decode(request)
    if is_deep(found):
        raise bad_request("the object is nested too deeply")
    return body_types.typed(resource, found, body, registry)


def decode_deletion(request: Request) -> KubeObject:
    """The options in the body of a deletion, with the types of their fields.

    Raises:
        StatusError: when it is something else.
    """
    kind = request.content_type or JSON
    if len(request.body) > BODY_BYTES_MAX:
        raise too_large(BODY_BYTES_MAX)
    try:
        if kind == JSON:
            found = json_text.decode(request.body)
        elif kind in YAML:
            found = yaml_bodies.decode(request.body)
        elif kind == protobuf.CONTENT_TYPE:
            found = _decode(request)
        else:
            raise unsupported_media_type(kind, [JSON, YAML[0], protobuf.CONTENT_TYPE])
    except (msgspec.DecodeError, RecursionError):
        raise bad_request(body_types.NO_VERSION + json_errors.syntax_error(request.body)) from None
    except ValueError as error:
        raise bad_request(f"yaml: {error}") from None
    options = body_types.require_deletion(found)
    try:
        return Conformed("DeleteOptions", "v1").of(options, schema_of_kind("", "v1", "DeleteOptions"))
    except MismatchError as error:
        raise bad_request(error.detail) from None


class MismatchError(StatusError):
    """A value has another type than its field.

    `detail` is what the decoder says of it, `converted` what is said of an object that was decoded to no type before.
    """

    def __init__(self, kind: str, version: str, detail: str, converted: str = "") -> None:
        message = f'{kind} in version "{version}" cannot be handled as a {kind}: {detail}'
        super().__init__(400, "BadRequest", message)
        self.detail = detail
        self.converted = converted or detail


class _Place(NamedTuple):
    """Where a value stands, as Go's decoder has it: within which struct, under which fields from the top."""

    struct: str
    fields: str = ""

    def under(self, name: str) -> "_Place":
        return _Place(self.struct, f"{self.fields}.{name}" if self.fields else name)

    def inside(self, schema: Schema) -> "_Place":
        return _Place(schema.go_type or self.struct, self.fields)


_QUANTITY: Final = [{"type": "string"}, {"type": "number"}]
_NO_QUANTITY: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"


def _is_quantity(value: KubeValue) -> bool:
    is_said = isinstance(value, str | int | float) and not isinstance(value, bool)
    return value is None or (is_said and QUANTITY_FORM.match(str(value).strip()) is not None)


_NAMED: Final = {"uid": "types.UID", "propagationPolicy": "v1.DeletionPropagation"}
"""Fields whose texts have types of their own in Go."""
_TIME: Final = "date-time"
_BYTES: Final = "byte"


class Conformed:
    """An object as the server's own types hold it: `dropped` are the paths of fields that they do not have."""

    def __init__(self, kind: str, version: str) -> None:
        """Of a kind, for messages."""
        self.dropped: list[str] = []
        self._kind = kind
        self._version = version

    def of(self, obj: KubeObject, schema: Schema) -> KubeObject:
        """The object, made anew.

        Raises:
            MismatchError: when a value has another type than its field.
        """
        found = self._object(obj, schema, "", _Place(self._kind))
        return found if isinstance(found, dict) else {}

    def check_metadata(self, metadata: KubeObject, schema: Schema) -> None:
        """Whether the metadata of a custom object, whose schema that is, have the types of their fields.

        Raises:
            MismatchError: when one has not.
        """
        self._object(metadata, schema, "metadata", _Place("ObjectMeta"))

    def _object(self, value: KubeValue, schema: Schema, path: str, place: _Place) -> KubeValue:
        if isinstance(value, dict):
            if schema.type not in ("object", ""):
                raise self._mismatch(value, schema, place)
            if schema.keeps_unknown and not schema.fields:
                return value
            return self._fields(value, schema, path, place)
        if isinstance(value, list):
            if schema.type not in ("array", ""):
                raise self._mismatch(value, schema, place)
            items = schema.items
            return [
                self._object(_zero(items) if item is None else item, items, f"{path}[{n}]", place)
                for n, item in enumerate(value)
            ]
        if schema.raw.get("format") == _TIME and isinstance(value, str) and (wrong := _no_time(value)):
            raise MismatchError(self._kind, self._version, wrong)
        if schema.raw.get("format") == _BYTES and isinstance(value, str) and (wrong := no_base64(value)):
            raise MismatchError(self._kind, self._version, wrong, f"error decoding from json: {wrong}")
        if schema.raw.get("oneOf") == _QUANTITY and not _is_quantity(value):
            raise MismatchError(self._kind, self._version, _NO_QUANTITY)
        if not self._fits(value, schema):
            raise self._mismatch(value, schema, place)
        return int(value) if schema.type == "integer" and isinstance(value, float) else value

    def _fields(self, value: KubeObject, schema: Schema, path: str, place: _Place) -> KubeObject:
        found, place = {}, place.inside(schema)
        for name, part in value.items():
            here = f"{path}.{name}" if path else name
            below = schema.at(name)
            if below is None:
                self.dropped.append(here)
                continue
            if part is None and name not in schema.fields:
                part = _zero(below)  # noqa: PLW2901 - in a map as in a list
            if part is not None or schema.keeps_unknown:
                found[name] = self._object(part, below, here, place.under(name) if name in schema.fields else place)
        return found

    def _fits(self, value: KubeValue, schema: Schema) -> bool:
        match schema.type:
            case "" | "any":
                return True
            case "string":
                return isinstance(value, str) or (schema.is_int_or_string and type(value) is int)
            case "integer":
                is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
                bound = 1 << (31 if schema.raw.get("format") == "int32" else 63)
                return is_whole and isinstance(value, int | float) and -bound <= value < bound
            case "number":
                return type(value) in (int, float)
            case "boolean":
                return isinstance(value, bool)
            case _:
                return False

    def _mismatch(self, value: KubeValue, schema: Schema, place: _Place) -> MismatchError:
        got = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}.get(
            type(value), "null"
        )
        if schema.type == "integer" and type(value) is int:
            got = f"number {value}"
        wanted = _NAMED.get(place.fields.rpartition(".")[2], _go_type(schema))
        detail = f"json: cannot unmarshal {got} into Go struct field {place.struct}.{place.fields} of type {wanted}"
        converted = f"cannot convert float64 to {wanted}" if isinstance(value, float) else ""
        return MismatchError(self._kind, self._version, detail, converted)


_time: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def _zero(schema: Schema) -> KubeValue:
    """What Go's decoder makes of a null in a list or a map, which hold values there."""
    match schema.type:
        case "string":
            return ""
        case "integer" | "number":
            return 0
        case "boolean":
            return False
        case "object":
            return {}
        case _:
            return None


def _no_time(text: str) -> str:
    """Why a text is no time; empty where it is one."""
    form = "2006-01-02T15:04:05Z07:00"
    if not _time.fullmatch(text):
        return f'parsing time "{text}" as "{form}": cannot parse "{text}" as "2006"'
    try:
        datetime.fromisoformat(text[:19])
    except ValueError as error:
        what = str(error).partition(" ")[0]  # month, day, hour, minute or second
        return f'parsing time "{text}": {what} out of range'
    return ""


_base64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_sixbits: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_BREAKS: Final = b"\r\n"


def no_base64(text: str) -> str:
    """Why a text is no base64, as Go says it; empty where it is. Line breaks count for nothing."""
    if _base64.fullmatch(text.replace("\n", "").replace("\r", "")):
        return ""
    return f"illegal base64 data at input byte {_first_illegal(text.encode(errors='surrogatepass'))}"


def _first_illegal(text: bytes) -> int:
    """The place that Go's decoder names: of a last group that is too short, its beginning, breaks not counted."""
    found = 0
    for at, byte in enumerate(text):
        if byte in _BREAKS:
            continue
        if byte in _sixbits:
            found += 1
            continue
        return _first_after(text, at) if byte == ord("=") and found % 4 > 1 else at
    return len(text) - found % 4


def _first_after(text: bytes, at: int) -> int:
    """The same, from the first `=` of a group on where one may stand."""
    held = sum(byte in _sixbits for byte in text[:at]) % 4
    rest = [place for place in range(at + 1, len(text)) if text[place] not in _BREAKS]
    if held == 3:
        return rest[0]
    if not rest:
        return len(text)
    return rest[0] - 1 if text[rest[0]] != ord("=") else rest[1]


def _go_type(schema: Schema) -> str:
    """What Go calls the type of a field; of a struct that stands in another package, as if it stood in `v1`."""
    match schema.type:
        case "integer":
            return str(schema.raw.get("format", "int64"))
        case "boolean":
            return "bool"
        case "array":
            return f"[]{_go_type(schema.items)}"
        case "object" if schema.values is not None:
            return f"map[string]{_go_type(schema.values)}"
        case "object" if schema.go_type:
            return f"v1.{schema.go_type}"
        case other:
            return other
