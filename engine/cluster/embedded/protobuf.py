r"""The few objects that kubectl sends in Kubernetes' binary form: questions about who may do what, and for tokens.

The form is `k8s\0` and a `runtime.Unknown` (Kubernetes, "API concepts", protobuf encoding). What is not in the tables
below is refused like any other form that is not known.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tidelog.engine.objects.kube import KubeObject

CONTENT_TYPE: Final = "application/vnd.kubernetes.protobuf"
_MAGIC: Final = b"k8s\x00"


class _Field(NamedTuple):
    """What a field is: `text`, `number`, or the name of a message in the tables."""

    name: str
    type: str = "text"
    many: bool = False


_MESSAGES: Final[dict[str, dict[int, _Field]]] = {
    "Unknown": {1: _Field("typeMeta", "TypeMeta"), 2: _Field("raw", "bytes")},
    "TypeMeta": {1: _Field("apiVersion"), 2: _Field("kind")},
    "SelfSubjectAccessReview": {2: _Field("spec", "AccessReviewSpec")},
    "AccessReviewSpec": {
        1: _Field("resourceAttributes", "ResourceAttributes"),
        2: _Field("nonResourceAttributes", "NonResourceAttributes"),
    },
    "ResourceAttributes": {
        number: _Field(name)
        for number, name in enumerate(("namespace", "verb", "group", "version", "resource", "subresource", "name"), 1)
    },
    "NonResourceAttributes": {1: _Field("path"), 2: _Field("verb")},
    "SelfSubjectRulesReview": {2: _Field("spec", "RulesReviewSpec")},
    "RulesReviewSpec": {1: _Field("namespace")},
    "SelfSubjectReview": {},
    "TokenRequest": {2: _Field("spec", "TokenRequestSpec")},
    "TokenRequestSpec": {1: _Field("audiences", many=True), 4: _Field("expirationSeconds", "number")},
}


def decode(body: bytes) -> KubeObject | None:
    """The object in a body; None when it is none of these.

    Raises:
        ValueError: when it is cut short, or not protobuf at all.
    """
    if not body.startswith(_MAGIC):
        raise ValueError("it does not begin with k8s\\0")
    unknown = _message(body[len(_MAGIC) :], "Unknown")
    meta = unknown.get("typeMeta") or {}
    if meta.get("kind") not in _MESSAGES:
        return None
    return {**meta, **_message(unknown.get("raw", b""), meta["kind"])}


def _message(data: bytes, name: str) -> dict[str, Any]:
    fields = _MESSAGES[name]
    found: dict[str, Any] = {}
    for number, value in _values(data):
        field = fields.get(number)
        if field is None:
            continue
        told = _value(value, field.type)
        if field.many:
            found.setdefault(field.name, []).append(told)
        else:
            found[field.name] = told
    return found


def _value(value: bytes | int, type_: str) -> Any:
    if type_ == "number":
        return value if isinstance(value, int) else 0
    if isinstance(value, int):
        raise TypeError("a number where a text or a message should be")
    if type_ == "text":
        return value.decode()
    return value if type_ == "bytes" else _message(value, type_)


def _values(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Number and value of each field (protobuf, "Encoding")."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, form = tag >> 3, tag & 7
        if form == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(form)
        if form == 2:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise ValueError("it is cut short")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
        shift += 7
    raise ValueError("it is cut short")
