"""YAML as the server takes it: what JSON has too, of bounded depth and size.

libyaml builds nested values on the stack of the process, and aliases multiply: both are counted before anything is
built.
"""

import math
from typing import Any, Final

import yaml

from tidelog.engine.documents import plain_value

DEPTH_MAX: Final = 128
"""Of every body. No kind of Kubernetes is half as deep, and what handles objects is recursive."""
NODES_MAX: Final = 1_000_000
"""Values, with those that aliases repeat."""
_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = {type(None): "null", bool: "bool", int: "int", float: "float", str: "str"}
_COLLECTIONS: Final = frozenset({f"{_TAG}seq", f"{_TAG}map"})
_base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_base):  # type: ignore[misc]
    """Builds what JSON has: a date is a text, and other tags are refused."""

    yaml_constructors = {  # noqa: RUF012 - as the library has it
        tag: make for tag, make in _base.yaml_constructors.items() if tag is None or tag in _COLLECTIONS
    }

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        """The tag of a value that has none: what is not in quotes means what it means to Go's reader (`1e3`, `n`)."""
        if kind is not yaml.ScalarNode:
            found: str = super().resolve(kind, value, implicit)
            return found
        return _TAG + _SCALARS[type(plain_value(value))] if implicit[0] else f"{_TAG}str"


def _scalar(loader: Any, node: Any) -> Any:
    text = loader.construct_scalar(node)
    value = text if node.tag == f"{_TAG}str" else plain_value(text)
    is_, wanted = _SCALARS[type(value)], node.tag.removeprefix(_TAG)
    if wanted != is_:
        raise ValueError(f"cannot decode !!{is_} `{text}` as a !!{wanted}")
    return value


for _name in _SCALARS.values():
    _Loader.add_constructor(_TAG + _name, _scalar)


def decode(body: bytes) -> Any:
    """The first document in a body, as the server takes it.

    Raises:
        ValueError: when it is none, or beyond a limit.
    """
    try:
        _count(body)
        loader = _Loader(body)
        try:
            return _as_json(loader.get_data() if loader.check_data() else None)
        finally:
            loader.dispose()
    except (yaml.YAMLError, RecursionError, TypeError) as error:
        raise ValueError(_in_words_of_go(error)) from None


def _in_words_of_go(error: Exception) -> str:
    """What Go's decoder, which is made after the same C library, says of it."""
    if isinstance(error, yaml.reader.ReaderError):
        return str(error.reason)
    if not isinstance(error, yaml.MarkedYAMLError) or not error.problem:
        return " ".join(str(error).split())
    lines = (mark.line for mark in (error.context_mark, error.problem_mark) if mark is not None)
    line = next((line for line in lines if line), 0)
    if line and isinstance(error, yaml.scanner.ScannerError):
        line += 1  # its own lines are counted from 0 there
    return f"line {line}: {error.problem}" if line else str(error.problem)


def _count(body: bytes) -> None:
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []
    nodes = 0
    for event in yaml.parse(body, _Loader):
        if isinstance(event, yaml.DocumentEndEvent):
            return
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                if any(anchor == event.anchor for anchor, _ in open_):
                    raise ValueError(f"anchor '{event.anchor}' value contains itself")
                raise ValueError(f"unknown anchor '{event.anchor}' referenced")
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_.append((event.anchor, nodes - 1))
                if event.anchor:
                    sizes.pop(event.anchor, None)
            elif event.anchor:
                sizes[event.anchor] = 1
        if len(open_) > DEPTH_MAX or nodes > NODES_MAX:
            raise ValueError("the object is nested too deeply, or its aliases make it too large")


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _as_json(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_as_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no number of JSON")
    return value


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    return "null" if key is None else str(key)
