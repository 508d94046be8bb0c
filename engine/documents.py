"""YAML documents, read as Kubernetes' own tools read them (sigs.k8s.io/yaml), and bounded against hostile ones.

The words of YAML 1.1 hold (`on` and `yes` are booleans, `010` is eight, timestamps stay strings, `<<` merges), keys
become strings as in JSON, and a number without a fraction is an integer however it is written. Unlike there, a key
that is given twice is an error, for nobody means both.

libyaml does the scanning, and values are built from its events: no recursion in C, and a depth, a size and the
growth by aliases that are checked on the way. What is as simple as most manifests is read without it (`block_yaml`).
"""

import base64
import binascii
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import msgspec
import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]

from tidelog.engine.block_yaml import Block, NotBlockError

DEPTH_MAX: Final = 200
"""Collections within collections. Kubernetes' deepest schemas need about 30."""
ALIASED_NODES: Final = 100_000
"""Values that aliases may add to a text, beyond four for each of its characters."""

_INT_MAX = 2**63
_DIGITS_MAX = 4_000
"""Of an integer; of some more Python refuses to make one."""
_LINE = 1
_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_NUMBER_BEGINS = frozenset("+-.0123456789")
_integer = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII)
_float = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)


class YamlError(ValueError):
    """A text could not be read as YAML.

    Attributes:
        line: where, from 1; None when the whole text is meant.
        problem: what is wrong there; it quotes keys at most, and never a value.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem if line is None else f"line {line}: {problem}")
        self.problem = problem
        self.line = line


class Document(msgspec.Struct, frozen=True):
    """One document of a text."""

    value: Any
    """As decoded JSON; None for an empty document."""
    line: int
    """Where it begins, from 1."""
    keys: dict[str, int]
    """The lines of the top-level keys."""


def documents(text: str, *, repeated_keys: bool = False) -> list[Document]:
    """All documents of `text`, empty ones included.

    Args:
        text: YAML.
        repeated_keys: whether the last of a key's values counts, instead of being an error.

    Raises:
        YamlError: with the line, when it is no YAML, repeats a key, or is too deep or too much.
    """
    try:
        found = Block(text, _WORDS, _number)
    except NotBlockError:
        return list(Reader(text, repeated_keys=repeated_keys).documents())
    return [Document(found.value, found.line, found.keys)]


class _Anchored(msgspec.Struct):
    value: Any
    nodes: int


class Reader:
    """Reads values from the events of a text, or of a file that is never in memory as a whole.

    Args:
        source: the text, or a file of UTF-8.
        nodes_max: values in it, those that aliases repeat included; by default what no honest text reaches.
        repeated_keys: whether the last of a key's values counts, instead of being an error.
    """

    def __init__(self, source: str | BinaryIO, nodes_max: int | None = None, *, repeated_keys: bool = False) -> None:
        self._repeated_keys = repeated_keys
        self._text = source if isinstance(source, str) else ""
        self._source = source
        self._budget = ALIASED_NODES + 4 * len(self._text) if nodes_max is None else nodes_max
        self._nodes = 0
        self._anchors: dict[str, _Anchored] = {}
        self._keys: dict[str, int] = {}

    def events(self) -> Callable[[], Any]:
        """Begins: what gives the next event of libyaml. A caller takes some of them itself, and values with `value`."""
        self._next: Callable[[], Any] = CParser(self._source).get_event
        return self._next

    @contextmanager
    def told(self) -> Iterator[None]:
        """What libyaml cannot read is told as a YamlError."""
        try:
            yield
        except yaml.YAMLError as error:
            raise _readable(error, self._text) from None

    def documents(self) -> Iterator[Document]:
        """All documents, empty ones included."""
        with self.told():
            self.events()
            while True:
                event = self._next()
                kind = type(event)
                if kind is yaml.StreamEndEvent:
                    return
                if kind is yaml.DocumentStartEvent:
                    yield self._document()

    def _document(self) -> Document:
        self._anchors = {}
        self._keys = {}
        event = self._next()
        line = event.start_mark.line + _LINE
        return Document(self.value(event, 0), line, self._keys)

    def value(self, event: Any, depth: int) -> Any:
        """The value that begins with `event`, within `depth` collections."""
        self._nodes += 1
        kind = type(event)
        if kind is yaml.ScalarEvent:
            value = _scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = _Anchored(value, 1)
            return value
        if kind is yaml.AliasEvent:
            return self._alias(event)
        if depth >= DEPTH_MAX:
            raise YamlError(f"more than {DEPTH_MAX} collections within one another", _line(event))
        before = self._nodes
        value = self._mapping(event, depth) if kind is yaml.MappingStartEvent else self._sequence(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, self._nodes - before + 1)
        return value

    def _sequence(self, start: Any, depth: int) -> list[Any]:
        _no_tag(start, "tag:yaml.org,2002:seq")
        items = []
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            items.append(self.value(event, depth + 1))
        return items

    def _mapping(self, start: Any, depth: int) -> dict[str, Any]:
        _no_tag(start, "tag:yaml.org,2002:map")
        items: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        while type(event := self._next()) is not yaml.MappingEndEvent:
            if _is_merge(event):
                merged += _mappings(self.value(self._next(), depth + 1), event)
                continue
            key = self.key(event)
            if key in items and not self._repeated_keys:
                raise YamlError(f"the key {key!r} is given twice", _line(event))
            if depth == 0:
                self._keys[key] = _line(event)
            items[key] = self.value(self._next(), depth + 1)
        for mapping in merged:
            for key, value in mapping.items():
                items.setdefault(key, value)
        return items

    def key(self, event: Any) -> str:
        """The key that `event` is."""
        if type(event) is yaml.AliasEvent:
            value = self._alias(event)
        elif type(event) is yaml.ScalarEvent:
            value = _scalar(event)
            if event.anchor is not None:
                self._anchors[event.anchor] = _Anchored(value, 1)
        else:
            raise YamlError("a key is a list or a mapping", _line(event))
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return str(value)
        raise YamlError("a key is empty", _line(event))

    def _alias(self, event: Any) -> Any:
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            raise YamlError(
                "an alias, which is what begins with `*`, has no anchor before it; put text in quotes", _line(event)
            )
        self._nodes += anchored.nodes
        if self._nodes > self._budget:
            raise YamlError("its aliases make too many values", _line(event))
        return _copy(anchored.value)


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + _LINE


def _copy(value: Any) -> Any:
    """A copy, so that changing what one alias gave does not change another."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _is_merge(event: Any) -> bool:
    return type(event) is yaml.ScalarEvent and event.value == "<<" and event.implicit[0]


def _mappings(value: Any, event: Any) -> list[dict[str, Any]]:
    mappings = value if isinstance(value, list) else [value]
    if not all(isinstance(mapping, dict) for mapping in mappings):
        raise YamlError("`<<` merges mappings only", _line(event))
    return mappings


def _no_tag(event: Any, but: str) -> None:
    if event.tag not in {None, "!", but}:
        raise YamlError(f"the tag {event.tag} means nothing here", _line(event))


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag == "!":
        return text
    if event.tag is not None:
        return _tagged(event, text)
    return _finite(plain_value(text), event) if event.implicit[0] else text


def plain_value(text: str) -> Any:
    """What a text without quotes and tags means."""
    if text in _WORDS:
        return _WORDS[text]
    return _number(text) if text[0] in _NUMBER_BEGINS else text


def _finite(value: Any, event: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise YamlError("JSON has no infinity and no NaN: put it in quotes if it is meant as text", _line(event))
    return value


def _number(text: str) -> int | float | str:
    plain = text.replace("_", "")
    if (match := _integer.fullmatch(plain)) is not None:
        whole = _integer_of(match)
        return text if whole is None else _within(whole)
    if _float.fullmatch(plain) is not None and math.isfinite(value := float(plain)):
        return _within(value)
    return text


def _integer_of(match: re.Match[str]) -> int | None:
    """The integer; None for one beyond all floats, which stays a text, as with Go's readers."""
    sign, sixteen, two, eight, ten = match.groups()
    digits, base = next(
        (digits, base) for digits, base in ((sixteen, 16), (two, 2), (eight, 8), (ten, 10)) if digits is not None
    )
    if len(digits) > _DIGITS_MAX:
        return None
    value = int(digits, base)
    if value > sys.float_info.max:
        return None
    return -value if sign == "-" else value


def _within(value: float) -> int | float:
    """As JSON would carry it between Kubernetes' tools: whole numbers are integers where 64 bits hold them."""
    if isinstance(value, int):
        return value if -_INT_MAX <= value < _INT_MAX else float(value)
    return int(value) if value.is_integer() and abs(value) < _INT_MAX else value


def _tagged(event: Any, text: str) -> Any:
    kind = event.tag.removeprefix("tag:yaml.org,2002:")
    value = plain_value(text)
    match kind:
        case "str" | "timestamp":
            return text
        case "bool" if isinstance(value, bool):
            return value
        case "null" if value is None:
            return None
        case "int" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "float" if isinstance(value, int | float) and not isinstance(value, bool):
            return _finite(value, event)
        case "binary":
            return _binary(event, text)
        case _:
            raise YamlError(f"the tag {event.tag} does not fit its value", _line(event))


def _binary(event: Any, text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise YamlError("!!binary holds no text in base64", _line(event)) from None


def _readable(error: yaml.YAMLError, text: str) -> YamlError:
    """What libyaml says, with its line, and a word on the most frequent cause."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return YamlError(_unprintable(error))
    mark = error.problem_mark or error.context_mark
    line = None if mark is None else mark.line + _LINE
    problem = error.problem or error.context or "no YAML"
    lines = text.splitlines()
    if line is not None and 0 < line <= len(lines) and lines[line - 1].lstrip(" ").startswith("\t"):
        problem = "the line is indented with a tab; YAML wants spaces"
    elif error.context and error.context != problem:
        problem = f"{problem} ({error.context})"
    return YamlError(problem, line)


def _unprintable(error: yaml.YAMLError) -> str:
    position = getattr(error, "position", None)
    where = "" if position is None else f" at character {position}"
    return f"a character that YAML does not allow{where}"


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` put over `below`, as Helm merges values: mappings merge, everything else replaces.

    What is not merged is shared with both.
    """
    result = dict(below)
    for name, value in above.items():
        found = result.get(name)
        result[name] = merged(found, value) if isinstance(found, dict) and isinstance(value, dict) else value
    return result
