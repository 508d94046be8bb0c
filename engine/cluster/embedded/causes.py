"""What is wrong with a field, in the words of the API server (`k8s.io/apimachinery`, `util/validation/field`)."""

import re
from typing import Final, NamedTuple

import msgspec

from tidelog.engine.objects.kube import KubeValue

REQUIRED: Final = "FieldValueRequired"
INVALID: Final = "FieldValueInvalid"
NOT_SUPPORTED: Final = "FieldValueNotSupported"
FORBIDDEN: Final = "FieldValueForbidden"
DUPLICATE: Final = "FieldValueDuplicate"
TOO_LONG: Final = "FieldValueTooLong"
TOO_MANY: Final = "FieldValueTooMany"
TYPE_INVALID: Final = "FieldValueTypeInvalid"
NOT_FOUND: Final = "FieldValueNotFound"


_SHORT: Final = {"\a": "\\a", "\v": "\\v"}
_escaped = re.compile(r"\\(?:u00([01][0-9a-f])|.)")
"""An escape in JSON; with its group, of a sign that has no short one there."""


class Cause(NamedTuple):
    """One reason for which an object is invalid: an entry of `details.causes` of a Status."""

    reason: str
    field: str
    """The path, such as `spec.template.spec.containers[0].image`."""
    message: str
    """Without the field."""


def required(field: str, detail: str = "") -> Cause:
    """A field that must be there."""
    return Cause(REQUIRED, field, _with("Required value", detail))


def invalid(field: str, value: KubeValue, detail: str) -> Cause:
    """A value that will not do."""
    return Cause(INVALID, field, _with(f"Invalid value: {shown(value)}", detail))


def not_supported(field: str, value: KubeValue, supported: list[str]) -> Cause:
    """A value that is none of those that there are, which the server names in this order."""
    values = ", ".join(shown(each) for each in supported)
    return Cause(NOT_SUPPORTED, field, f"Unsupported value: {shown(value)}: supported values: {values}")


def forbidden(field: str, detail: str) -> Cause:
    """A field that may not be set, or not be changed."""
    return Cause(FORBIDDEN, field, _with("Forbidden", detail))


def duplicate(field: str, value: KubeValue) -> Cause:
    """A value that must stand there once."""
    return Cause(DUPLICATE, field, f"Duplicate value: {shown(value)}")


def shown(value: KubeValue) -> str:
    """A value as the server writes it in such a message; a text as Go's `%q` has it."""
    text = msgspec.json.encode(value).decode()
    return _escaped.sub(_go_escape, text) if isinstance(value, str) and "\\" in text else text


def _go_escape(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[0]
    sign = chr(int(found[1], 16))
    return _SHORT.get(sign, f"\\x{ord(sign):02x}")


def _with(what: str, detail: str) -> str:
    return f"{what}: {detail}" if detail else what
