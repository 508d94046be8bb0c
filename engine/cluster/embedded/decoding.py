"""From a body to an object that has the fields of its kind, as the server decodes it."""

from typing import Any, Final

import msgspec
import yaml

from tidelog.engine.cluster.embedded import protobuf
from tidelog.engine.cluster.embedded.requests import APPLY, JSON, PATCHES, Request
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.cluster.embedded.statuses import bad_request, too_large, unsupported_media_type
from tidelog.engine.objects.kube import KubeObject, KubeValue

BODY_BYTES_MAX: Final = 3 << 20
"""As much as the API server takes."""
DEPTH_MAX: Final = 1_000
YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml")
_loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def decode_body(request: Request) -> Any:
    """The document in the body of a request.

    Raises:
        StatusError: when there is none, or it is too large.
    """
    if len(request.body) > BODY_BYTES_MAX:
        raise too_large(BODY_BYTES_MAX)
    kind = request.content_type or JSON
    if kind == APPLY or kind in YAML:
        return _decode_yaml(request.body)
    if kind == JSON or kind in PATCHES:
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
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"the object provided is unrecognized (must be of type JSON): {error}") from None


def _decode_yaml(body: bytes) -> Any:
    if body[:1] == b"{":
        try:
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass
    try:
        return yaml.load(body, _loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise bad_request(f"error decoding YAML: {' '.join(str(error).split())}") from None


def decode_object(request: Request) -> KubeObject:
    """The object in the body of a request.

    Raises:
        StatusError: when there is none.
    """
    found = decode_body(request)
    if not isinstance(found, dict):
        raise bad_request("the object provided is unrecognized (must be of type JSON, an object)")
    return found


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
            StatusError: when a value has another type than its field.
        """
        found = self._object(obj, schema, "", 0)
        return found if isinstance(found, dict) else {}

    def _object(self, value: KubeValue, schema: Schema, path: str, depth: int) -> KubeValue:
        if depth > DEPTH_MAX:
            raise bad_request("the object is nested too deeply")
        if isinstance(value, dict):
            if schema.type not in ("object", ""):
                raise self._mismatch(value, schema, path)
            if schema.keeps_unknown and not schema.fields:
                return value
            return self._fields(value, schema, path, depth)
        if isinstance(value, list):
            if schema.type not in ("array", ""):
                raise self._mismatch(value, schema, path)
            items = schema.items
            return [self._object(item, items, f"{path}[{n}]", depth + 1) for n, item in enumerate(value)]
        if not self._fits(value, schema):
            raise self._mismatch(value, schema, path)
        return value

    def _fields(self, value: KubeObject, schema: Schema, path: str, depth: int) -> KubeObject:
        found = {}
        for name, part in value.items():
            here = f"{path}.{name}" if path else name
            below = schema.at(name)
            if below is None:
                self.dropped.append(here)
            elif part is not None or schema.keeps_unknown:
                found[name] = self._object(part, below, here, depth + 1)
        return found

    def _fits(self, value: KubeValue, schema: Schema) -> bool:
        match schema.type:
            case "" | "any":
                return True
            case "string":
                return isinstance(value, str) or (schema.is_int_or_string and type(value) is int)
            case "integer":
                return type(value) is int or (isinstance(value, float) and value.is_integer())
            case "number":
                return type(value) in (int, float)
            case "boolean":
                return isinstance(value, bool)
            case _:
                return False

    def _mismatch(self, value: KubeValue, schema: Schema, path: str) -> Exception:
        got = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}[type(value)]
        wanted = {"integer": schema.raw.get("format", "int64"), "boolean": "bool", "array": "list"}.get(
            schema.type, schema.type
        )
        return bad_request(
            f'{self._kind} in version "{self._version}" cannot be handled as a {self._kind}: json: cannot unmarshal '
            f"{got} into Go struct field .{path} of type {wanted}"
        )
