"""Values as the server writes them, however they were put: quantities, times, durations, bytes."""

import base64
import re
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from typing import Final

from tidelog.engine.cluster.embedded.builtin.types import DURATION, MICRO_TIME, QUANTITY, TIME
from tidelog.engine.objects.kube import KubeValue

QUANTITY_FORM: Final = re.compile(
    r"^([+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400}))((?:[eE][+-]?\d{1,3})|[numkMGTPE]|[KMGTPE]i)?$"
)
"""Of bounded length: the server itself reckons for minutes with what is longer."""
_EXACT: Final = Context(prec=4_000)
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES: Final = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DURATION_FORM: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION_MAX: Final = 100
"""Characters: more are no duration that anybody meant."""
UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
"""Of durations, in nanoseconds."""


def written(type: str, value: KubeValue) -> KubeValue:
    """A scalar as the server writes it; unchanged where it is not of its type's form."""
    if type == QUANTITY and isinstance(value, str | int | float):
        return quantity(str(value))
    if type in (TIME, MICRO_TIME) and isinstance(value, str):
        return _time(value, micro=type == MICRO_TIME)
    if type == DURATION and isinstance(value, str):
        return _duration(value)
    if type == "byte" and isinstance(value, str):
        return _bytes(value.replace("\n", "").replace("\r", ""))
    return value


def quantity(text: str, *, least: int = -9) -> str:
    """A quantity in its canonical form: no fraction, the largest suffix; rounded up to `10 ** least`.

    Unchanged where it is none.
    """
    match = QUANTITY_FORM.match(text.strip())
    if match is None:
        return text
    with localcontext(_EXACT):
        return _canonical(text, match[2] or "", least)


def _canonical(text: str, suffix: str, least: int) -> str:
    amount = amount_of(text)
    step = Decimal(10) ** least
    amount = (amount / step).to_integral_value(ROUND_CEILING) * step
    if amount == 0:
        return "0"
    if suffix in _BINARY[1:] and abs(amount) >= 1024:
        return _binary(amount)
    is_scientific = suffix[:1] in ("e", "E") and suffix != "E"
    exponent = _exponent(amount, max(18, amount.adjusted() // 3 * 3) if is_scientific else 18)
    digits = int(amount.scaleb(-exponent))
    if is_scientific:
        return f"{digits}e{exponent}" if exponent else str(digits)
    return f"{digits}{_SUFFIXES[exponent]}"


def amount_of(text: str) -> Decimal:
    """The number that a quantity says; its form must be right."""
    match = QUANTITY_FORM.match(text.strip())
    if match is None:
        raise ValueError(text)
    number, suffix = Decimal(match[1]), match[2] or ""
    with localcontext(_EXACT):
        if suffix in _BINARY[1:]:
            return number * Decimal(1024) ** _BINARY.index(suffix)
        return number.scaleb(_DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:]))


def total(amounts: list[str]) -> str:
    """The sum of quantities, written as the first of them is."""
    match = QUANTITY_FORM.match(amounts[0].strip())
    suffix = match[2] or "" if match else ""
    with localcontext(_EXACT):
        whole = sum((amount_of(each) for each in amounts), Decimal(0))
        if suffix in _BINARY[1:]:
            return quantity(f"{whole / 1024:f}Ki")
    return quantity(f"{whole:f}")


def _binary(amount: Decimal) -> str:
    whole = int(amount.to_integral_value(ROUND_CEILING))
    power = 0
    while whole % 1024 == 0 and power < len(_BINARY) - 1:
        whole, power = whole // 1024, power + 1
    return f"{whole}{_BINARY[power]}"


def _exponent(amount: Decimal, exponent: int) -> int:
    """The largest power of a thousand, up to that one, that leaves a whole number."""
    while exponent > -9 and amount % Decimal(10) ** exponent:
        exponent -= 3
    return exponent


def _bytes(text: str) -> str:
    """Base64 whose last group says nothing beyond its bytes."""
    if not text.endswith("="):
        return text
    try:
        return text[:-4] + base64.b64encode(base64.b64decode(text[-4:], validate=True)).decode()
    except ValueError:
        return text


def _time(text: str, *, micro: bool) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    if at.tzinfo is None:
        return text
    at = at.astimezone(UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def duration_ns(text: str) -> int | None:
    """What a duration that Go writes comes to, in nanoseconds; None for a text that is none."""
    if len(text) > _DURATION_MAX:
        return None
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    parts = _DURATION_FORM.findall(rest)
    if "".join(number + unit for number, unit in parts) != rest or not parts:
        return None
    found = int(sum(Decimal(number) * UNITS[unit] for number, unit in parts))
    return sign * found if found < 1 << 63 else None


def _duration(text: str) -> str:
    found = duration_ns(text)
    if found is None:
        return text
    if found == 0:
        return "0s"
    sign, nanoseconds = ("-", -found) if found < 0 else ("", found)
    for unit in ("ns", "µs", "ms"):
        if nanoseconds < 1000 * UNITS[unit]:
            return f"{sign}{_plain(Decimal(nanoseconds) / UNITS[unit])}{unit}"
    minutes, seconds = divmod(nanoseconds, UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    last = f"{_plain(Decimal(seconds) / UNITS['s'])}s"
    return sign + (f"{hours}h{minutes}m{last}" if hours else f"{minutes}m{last}" if minutes else last)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"
