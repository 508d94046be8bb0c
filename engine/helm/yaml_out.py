r"""YAML as go.yaml.in/yaml/v2 writes it, keys sorted: what digests of values are made over.

libyaml's emitter writes it, of which Go's is a port; what differs is how a scalar's style is chosen, and that is here.
A map whose texts are as simple as most are is written without it: an event for each scalar takes three times as long.
"""

import io
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import yaml
from yaml.cyaml import CEmitter  # type: ignore[attr-defined]

from tidelog.engine.helm.gojson import plain, shortest

_MAP: Final = "tag:yaml.org,2002:map"
_SEQ: Final = "tag:yaml.org,2002:seq"
_STR: Final = "tag:yaml.org,2002:str"
_NOT_TEXT: Final = frozenset(
    (
        *("", "~", "null", "Null", "NULL"),
        *("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"),
        *("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"),
        *(".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF"),
    )
)
_integer: Final = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)|0b[-+][01]+", re.ASCII)
_between_digits: Final = re.compile(r"(?<=[0-9])_(?=[0-9])", re.ASCII)
_float: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_base60: Final = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?", re.ASCII)
_bare: Final = re.compile(r"(?:[A-Za-z0-9_/]|\.(?!\.)|-{1,2}(?=[A-Za-z0-9]))(?:[!-9;-~]++|:(?=[!-~])| (?=[!\"$-~]))*+")
"""Texts in one line that need no quotes for what they look like in YAML."""
_block: Final = re.compile(r"[!-~](?:[ -~\n]*[!-~])?\n?")
"""Texts of lines that libyaml writes as they are, unless one ends with a space."""
_WIDTH: Final = 80
_KEY_MAX: Final = 120
"""Characters; libyaml begins a longer one with `?`."""
_KEYS: Final = 1024
"""That are remembered: those of manifests are always the same."""
_timestamp: Final = re.compile(
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:\.[0-9]*)?"
    r"(?:[ \t]*(?:Z|[-+][0-9]{1,2}:[0-9]{2}))?)?",
    re.ASCII,
)


class _NotSimpleError(Exception):
    """A map holds what is left to libyaml."""


def encoded(value: dict[str, Any]) -> str:
    """A map as YAML."""
    try:
        return _simply(value)
    except _NotSimpleError:
        return _emitted(value)


def _simply(value: dict[str, Any]) -> str:
    lines: list[str] = []
    if value:
        _put_map(lines, value, "", "")
    else:
        lines.append("{}")
    lines.append("")
    return "\n".join(lines)


def _put_map(lines: list[str], value: dict[str, Any], begin: str, indent: str) -> None:
    """Adds the lines of a map that is not empty; the first begins with `begin`, the others with `indent`."""
    for key in sorted(value):
        text = _key(key)
        held = value[key]
        if isinstance(held, list) and held:
            lines.append(f"{begin}{text}:")
            _put_list(lines, held, indent, indent)
        elif isinstance(held, dict) and held:
            lines.append(f"{begin}{text}:")
            _put_map(lines, held, f"{indent}  ", f"{indent}  ")
        else:
            _put_leaf(lines, held, f"{begin}{text}: ", indent)
        begin = indent


def _put_list(lines: list[str], value: list[Any], begin: str, indent: str) -> None:
    for held in value:
        if isinstance(held, dict) and held:
            _put_map(lines, held, f"{begin}- ", f"{indent}  ")
        elif isinstance(held, list) and held:
            _put_list(lines, held, f"{begin}- ", f"{indent}  ")
        else:
            _put_leaf(lines, held, f"{begin}- ", indent)
        begin = indent


def _put_leaf(lines: list[str], held: Any, begin: str, indent: str) -> None:
    if not isinstance(held, str):
        lines.append(begin + ("{}" if isinstance(held, dict) else "[]" if isinstance(held, list) else _plain(held)))
        return
    text = _on_one_line(held)
    if text is not None:
        line = f"{begin}{text}"
        if len(line) > _WIDTH and " " in text:  # libyaml breaks it
            raise _NotSimpleError
        lines.append(line)
        return
    if "\n" not in held or " \n" in held or _block.fullmatch(held) is None:
        raise _NotSimpleError
    lines.append(begin + ("|" if held[-1] == "\n" else "|-"))
    lines += (f"{indent}  {line}" if line else "" for line in held.removesuffix("\n").split("\n"))


@lru_cache(maxsize=_KEYS)
def _key(key: str) -> str:
    text = _on_one_line(key)
    if text is None or len(text) > _KEY_MAX:
        raise _NotSimpleError
    return text


def _on_one_line(text: str) -> str | None:
    """A text as it is written, if that is simple."""
    if _bare.fullmatch(text) is None:
        return None if text else '""'
    return f'"{text}"' if _would_be_read_otherwise(text) else text


def _emitted(value: dict[str, Any]) -> str:
    out = io.StringIO()
    emitter = CEmitter(out, allow_unicode=True, width=80, line_break="\n")
    emitter.emit(yaml.StreamStartEvent())
    emitter.emit(yaml.DocumentStartEvent(explicit=False))
    for event in _events(value):
        emitter.emit(event)
    emitter.emit(yaml.DocumentEndEvent(explicit=False))
    emitter.emit(yaml.StreamEndEvent())
    # Go's emitter leaves out the mark of the end that libyaml sets behind a text which keeps its last line breaks.
    text = out.getvalue()
    return text[:-4] if text.endswith("\n...\n") else text


def _events(value: Any) -> Iterator[yaml.Event]:
    if isinstance(value, dict):
        yield yaml.MappingStartEvent(None, _MAP, implicit=True, flow_style=False)
        for key in sorted(value, key=str.encode):
            yield _scalar(key)
            yield from _events(value[key])
        yield yaml.MappingEndEvent()
    elif isinstance(value, list):
        yield yaml.SequenceStartEvent(None, _SEQ, implicit=True, flow_style=False)
        for item in value:
            yield from _events(item)
        yield yaml.SequenceEndEvent()
    else:
        yield _scalar(value)


def _scalar(value: Any) -> yaml.Event:
    if isinstance(value, str):
        return yaml.ScalarEvent(None, _STR, (True, True), value, style=_style(value))
    return yaml.ScalarEvent(None, None, (True, True), _plain(value), style="")


def _plain(value: float | None) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if math.isfinite(value) and value.is_integer() and -(2**63) <= value < 2**64:
        return str(int(value))
    return _as_go(value)


def _as_go(value: float) -> str:
    """The shortest form, as Go formats `g`: plain between 1e-04 and 1e+06."""
    figures, point = shortest(abs(value))
    sign = "-" if math.copysign(1, value) < 0 else ""
    if not -4 <= point - 1 < 6:
        rest = f".{figures[1:]}" if len(figures) > 1 else ""
        return f"{sign}{figures[0]}{rest}e{point - 1:+03d}"
    return sign + plain(figures, point)


def _style(text: str) -> str:
    if "\n" in text:
        return "|"
    return '"' if _would_be_read_otherwise(text) else ""


def _would_be_read_otherwise(text: str) -> bool:
    if text in _NOT_TEXT:
        return True
    if text[0] not in "+-.0123456789":
        return False
    if _base60.fullmatch(text) or _timestamp.fullmatch(text):
        return True
    # One that begins with a point is read by strconv.ParseFloat alone, which wants a digit on either side of each.
    plain = _between_digits.sub("", text) if text[0] == "." else text.replace("_", "")
    return bool(_integer.fullmatch(plain)) or (bool(_float.fullmatch(plain)) and math.isfinite(float(plain)))
