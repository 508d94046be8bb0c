"""What Chart.yaml and the entries of an index may hold, read as Helm reads it.

Helm decodes YAML into Go's structs by way of JSON: numbers and booleans become text where text is wanted, a name of a
field fits in any case of letters, and what is empty is left out when it is written. What Helm finds invalid is told by
`problem_of`.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, Final

from tidelog.engine.sources.semver import loose_version_of

Convert = Callable[[Any, str], Any]
"""Reads a value; the text tells where it stands."""

CREATED_NEVER: Final = "0001-01-01T00:00:00Z"
_time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[-+]\d\d:\d\d)", re.ASCII)
_alias = re.compile(r"[a-zA-Z0-9_-]+")
_TWICE: Final = "more than one dependency with name or alias"


class ShapeError(ValueError):
    """Raised for a value of a type that its field cannot hold; says where."""


class Shape:
    """The fields of one of Helm's structs.

    Args:
        fields: by name, how each is read. `always` are those that are written even when they are empty.
    """

    def __init__(self, fields: Mapping[str, Convert], always: Mapping[str, Any] | None = None) -> None:
        self._fields = {name.lower(): (name, convert) for name, convert in fields.items()}
        self._always = dict(always or {})

    def read(self, value: Any, where: str, *, strict: bool) -> dict[str, Any]:
        """The fields of `value` that are not empty.

        Args:
            value: a decoded JSON object.
            where: it stands, for messages.
            strict: whether a field that nobody knows is an error, as it is in an index in YAML.

        Raises:
            ShapeError: when it does not fit.
        """
        if not isinstance(value, dict):
            raise ShapeError(f"{where} is {_kind(value)}: a mapping is wanted")
        read = dict(self._always)
        for given, item in value.items():
            name, convert = self._fields.get(given) or self._fields.get(given.lower()) or ("", None)
            if convert is None:
                if strict:
                    raise ShapeError(f"{where} has the field {given[:80]!r}, which Helm does not know")
                continue
            if item is None:
                continue
            found = convert(item, f"{where}.{name}")
            if found or name in self._always:
                read[name] = found
        return read


def text(value: Any, where: str) -> str:
    """Text, or what is written as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _number(value)
    raise ShapeError(f"{where} is {_kind(value)}: text is wanted")


def only_text(value: Any, where: str) -> str:
    """Text, and nothing that is written as such."""
    if not isinstance(value, str):
        raise ShapeError(f"{where} is {_kind(value)}: text is wanted, put it in quotes")
    return value


def listed(convert: Convert) -> Convert:
    """A list of texts."""
    return lambda value, where: [
        "" if item is None else convert(item, f"{where}[{place}]") for place, item in enumerate(_list(value, where))
    ]


def mapped(convert: Convert) -> Convert:
    """Texts by name."""
    return lambda value, where: {
        key: "" if item is None else convert(item, f"{where}.{key}") for key, item in _mapping(value, where).items()
    }


def flag(value: Any, where: str) -> bool:
    """A boolean."""
    if not isinstance(value, bool):
        raise ShapeError(f"{where} is {_kind(value)}: true or false is wanted")
    return value


def time(value: Any, where: str) -> str:
    """A moment as RFC 3339 has it."""
    if not isinstance(value, str) or not _time.fullmatch(value):
        raise ShapeError(f"{where} is no time such as 2026-01-31T12:00:00Z")
    return value


def anything(value: Any, where: str) -> Any:  # noqa: ARG001  # as the others
    """Whatever it is."""
    return value


def items(value: Any, where: str) -> list[Any]:
    """A list of anything."""
    return _list(value, where)


def fields(text: Convert, *, strict: bool) -> dict[str, Convert]:
    """The fields of Chart.yaml.

    Args:
        text: how a text is read: in an index, Helm takes no number for one.
        strict: whether a field below them that nobody knows is an error.
    """
    maintainer = Shape({"name": text, "email": text, "url": text})
    return {
        "name": text,
        "home": text,
        "sources": listed(text),
        "version": text,
        "description": text,
        "keywords": listed(text),
        "maintainers": shapes(maintainer, strict=strict),
        "icon": text,
        "apiVersion": text,
        "condition": text,
        "tags": text,
        "appVersion": text,
        "deprecated": flag,
        "annotations": mapped(text),
        "kubeVersion": text,
        "dependencies": shapes(dependency(text), strict=strict),
        "type": text,
    }


def dependency(text: Convert) -> Shape:
    """The fields of a dependency, of Chart.yaml and of Chart.lock."""
    return Shape(
        {
            "name": text,
            "version": text,
            "repository": text,
            "condition": text,
            "tags": listed(text),
            "enabled": flag,
            "import-values": items,
            "alias": text,
        },
        {"name": "", "repository": ""},
    )


def shapes(shape: Shape, *, strict: bool) -> Convert:
    """A list of what has one shape."""

    def read(value: Any, where: str) -> list[dict[str, Any] | None]:
        return [
            None if item is None else shape.read(item, f"{where}[{place}]", strict=strict)
            for place, item in enumerate(_list(value, where))
        ]

    return read


METADATA: Final = Shape(fields(text, strict=False))
LOCK: Final = Shape(
    {"generated": time, "digest": text, "dependencies": shapes(dependency(text), strict=False)},
    {"generated": CREATED_NEVER, "digest": "", "dependencies": None},
)


def problem_of(metadata: Mapping[str, Any], *, of_index: bool = False) -> str:
    """Why Helm takes no such chart; empty when it does. Values are not quoted but the name and the version.

    Args:
        metadata: as `METADATA` reads it.
        of_index: whether a dependency that is there twice is let pass, as in an index.
    """
    name, version = sanitized(metadata.get("name", "")), metadata.get("version", "")
    if not metadata.get("apiVersion"):
        return "apiVersion is missing"
    if not name:
        return "name is missing"
    if name in {".", ".."} or "/" in name:
        return f"the name {name[:80]!r} is none"
    if not version:
        return "version is missing"
    if loose_version_of(version) is None:
        return f"the version {version[:80]!r} is no semantic version"
    if metadata.get("type", "") not in {"", "application", "library"}:
        return "type is neither application nor library"
    if None in (metadata.get("maintainers") or ()):
        return "maintainers has an empty entry"
    return _problem_of_dependencies(metadata.get("dependencies") or (), of_index=of_index)


def _problem_of_dependencies(dependencies: Any, *, of_index: bool) -> str:
    known = set()
    for dependency in dependencies:
        if dependency is None:
            return "dependencies has an empty entry"
        alias = dependency.get("alias", "")
        if alias and not _alias.fullmatch(alias):
            return f"the alias of the dependency {dependency['name'][:80]!r} has signs that an alias may not have"
        key = alias or dependency["name"]
        if key in known and not of_index:
            return f"{_TWICE} {key[:80]!r}"
        known.add(key)
    return ""


def sanitized(value: str) -> str:
    """As Helm has it: every white space is a space, and what cannot be printed is left out."""
    if value.isprintable():
        return value
    return "".join(
        " " if sign.isspace() else sign for sign in value if sign.isspace() or unicodedata.category(sign)[0] not in "CZ"
    )


def _number(value: float) -> str:
    """As Go writes it in text."""
    if isinstance(value, int):
        return str(value)
    written = repr(value)
    mantissa, _, exponent = written.partition("e")
    if exponent:
        return f"{mantissa.removesuffix('.0')}e{exponent}"
    return written.removesuffix(".0")


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise ShapeError(f"{where} is {_kind(value)}: a list is wanted")
    return value


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ShapeError(f"{where} is {_kind(value)}: a mapping is wanted")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "a mapping"
