"""JSON as Go's encoding/json writes it: what digests of structs are made over."""

import math
import re
from typing import Any, Final

_NAMED: Final = {
    '"': '\\"',
    "\\": "\\\\",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\b": "\\b",
    "\f": "\\f",
}
# HTML is escaped too, and what JavaScript takes for the end of a line.
_special: Final = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029]')


def encoded(value: Any) -> str:
    """A value as compact JSON; maps in their own order, so whoever means a Go map sorts it (`go_map`)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{text(name)}:{encoded(held)}" for name, held in value.items()) + "}"
    return "[" + ",".join(map(encoded, value)) + "]"


def go_map(value: Any) -> Any:
    """A value whose maps have their keys in the order of Go's maps, by bytes."""
    if isinstance(value, dict):
        return {name: go_map(value[name]) for name in sorted(value, key=str.encode)}
    return [go_map(held) for held in value] if isinstance(value, list) else value


def text(value: str) -> str:
    """A text in quotes."""
    return f'"{_special.sub(lambda found: _escaped(found[0]), value)}"'


def _escaped(character: str) -> str:
    return _NAMED.get(character) or f"\\u{ord(character):04x}"


def number(value: float) -> str:
    """A number that went through a float, as all do that Go decoded without a type."""
    found = float(value)
    if isinstance(value, int) and int(found) == value and abs(found) < 1e21:
        return str(value)
    if not math.isfinite(found):
        raise ValueError("JSON has no infinity and no NaN")
    figures, point = shortest(abs(found))
    sign = "-" if math.copysign(1, found) < 0 else ""
    if found and not 1e-6 <= abs(found) < 1e21:
        rest = f".{figures[1:]}" if len(figures) > 1 else ""
        return f"{sign}{figures[0]}{rest}e{point - 1:{'+' if point > 0 else ''}d}"
    return sign + plain(figures, point)


def shortest(value: float) -> tuple[str, int]:
    """The fewest figures that say a float that is not negative, and where its point stands behind their begin."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    figures = (whole + fraction).lstrip("0")
    point = len(whole) - (len(whole + fraction) - len(figures)) + int(exponent or 0)
    return figures.rstrip("0") or "0", point if figures else 1


def plain(figures: str, point: int) -> str:
    """A number without an exponent."""
    if point <= 0:
        return f"0.{'0' * -point}{figures}"
    if point >= len(figures):
        return figures + "0" * (point - len(figures))
    return f"{figures[:point]}.{figures[point:]}"
