"""The formats of texts that the API server checks in custom objects (k8s.io/kube-openapi, `validation/strfmt`).

A format that is not among them, such as `int32`, says nothing: the server ignores it.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Final

from tidelog.engine.cluster.embedded.patterns import matches

_HOSTNAME: Final = (
    r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)"
    r"|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$"
)
_UUID: Final = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?%s-?[0-9a-f]{12}$"
_BYTE: Final = (
    r"^(?:[A-Za-z0-9+\/]{4})*(?:[A-Za-z0-9+\/]{2}==|[A-Za-z0-9+\/]{3}=|[A-Za-z0-9+\/]{4})$"  # no padding left out
)
_CREDIT_CARD: Final = (
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$"
)
_COLOUR: Final = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"
_RGB: Final = rf"^rgb\({_COLOUR},{_COLOUR},{_COLOUR}\)$"
_SHORT_NAME: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_TIME: Final = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$"
_GO_DURATION: Final = r"^[-+]?(0|(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"
_WORDED_DURATION: Final = (
    r"(?i)\d+\s*(ns|nano[a-zµ]*|us|µs|micro[a-zµ]*|ms|milli[a-zµ]*|s|sec[a-zµ]*|m|min[a-zµ]*|h|hr|hour[a-zµ]*"
    r"|d|day[a-zµ]*|w|wk|week[a-zµ]*)(?:[^A-Za-zµ]|$)"
)
_ADDRESS: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x{80}-\x{10FFFF}-]+"
_EMAIL: Final = rf'^\s*({_ADDRESS}(\.{_ADDRESS})*|"[^"\\\r\n]*")@({_ADDRESS}(\.{_ADDRESS})*|\[[0-9.:A-Fa-f]+\])\s*$'
_NAMED_EMAIL: Final = r'^\s*("[^"\\\r\n]*"|[^<>"@,;:\\]*)\s*<([^<>]+)>\s*$'
_MAC: Final = (
    r"^(([0-9A-Fa-f]{2}:){5}|([0-9A-Fa-f]{2}-){5}|([0-9A-Fa-f]{2}:){7}|([0-9A-Fa-f]{2}-){7}"
    r"|([0-9A-Fa-f]{2}:){19}|([0-9A-Fa-f]{2}-){19})[0-9A-Fa-f]{2}$"
    r"|^([0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}$|^([0-9A-Fa-f]{4}\.){3}[0-9A-Fa-f]{4}$"
    r"|^([0-9A-Fa-f]{4}\.){9}[0-9A-Fa-f]{4}$"
)
_SCHEME: Final = r"^[A-Za-z][A-Za-z0-9+.-]*:"
_BAD_ESCAPE: Final = r"%([^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$)"
_AUTHORITY: Final = (
    r"^([A-Za-z0-9._:~!$&'()*+,;=%@-]*@)?(\[[0-9A-Fa-f:.]+(%25[^\]]*)?\]|[^\s\[\]<>\"\\^`{|}:/?#]*)(:[0-9]*)?$"
)


def known(name: str) -> bool:
    """Whether texts are checked for a format."""
    return name.replace("-", "") in _CHECKS


def fits(name: str, text: str) -> bool:
    """Whether a text has a format that is known."""
    return _CHECKS[name.replace("-", "")](text)


def _by(pattern: str) -> Callable[[str], bool]:
    return lambda text: matches(pattern, text)


def _is_hostname(text: str) -> bool:
    if len(text.encode()) > 255 or any(len(part.encode()) > 63 for part in text.split(".")):
        return False
    return matches(_HOSTNAME, text)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """As Go parses it, which takes `01` for 1 and knows no zones."""
    if "%" in text or not text.isascii():
        return None
    if ":" not in text and all(part.isdigit() for part in text.split(".")):
        text = ".".join(str(int(part)) if len(part) < 20 else part for part in text.split("."))
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_ipv4(text: str) -> bool:
    return "." in text and _ip(text) is not None


def _is_ipv6(text: str) -> bool:
    return ":" in text and _ip(text) is not None


def _is_cidr(text: str) -> bool:
    address, slash, bits = text.partition("/")
    found = _ip(address)
    if not slash or found is None or not (bits.isascii() and bits.isdigit()):
        return False
    return len(bits) < 9 and int(bits) <= found.max_prefixlen


def _is_uri(text: str) -> bool:
    if text == "*":
        return True
    scheme = re.match(_SCHEME, text)
    rest = text[scheme.end() :] if scheme else text
    if not text or any(character < " " or character == "\x7f" for character in text):
        return False
    if not rest.startswith("/"):
        return scheme is not None
    if not rest.startswith("//") or (scheme is None and rest.startswith("///")):
        return not re.search(_BAD_ESCAPE, rest.partition("?")[0])
    authority, slash, path = rest[2:].partition("?")[0].partition("/")
    return matches(_AUTHORITY, authority) and not re.search(_BAD_ESCAPE, slash + path)


def _is_email(text: str) -> bool:
    if matches(_EMAIL, text):
        return True
    named = re.match(_NAMED_EMAIL, text)
    return named is not None and matches(_EMAIL, named.group(2))


def _is_isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch(r"[0-9]{9}[0-9X]", digits):
        return False
    return sum((i + 1) * (10 if digit == "X" else int(digit)) for i, digit in enumerate(digits)) % 11 == 0


def _is_isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch(r"[0-9]{13}", digits):
        return False
    return sum(int(digit) * (1, 3)[i % 2] for i, digit in enumerate(digits)) % 10 == 0


def _is_credit_card(text: str) -> bool:
    digits = re.sub(r"[^0-9]+", "", text)
    if not matches(_CREDIT_CARD, digits):
        return False
    doubled = [int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits))]
    return sum(each - 9 if each > 9 else each for each in doubled) % 10 == 0


def _is_date(text: str) -> bool:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return False
    try:
        date(int(text[:4]) or 4, int(text[5:7]), int(text[8:]))  # Go has a year 0, and it is a leap year
    except ValueError:
        return False
    return True


def _is_date_time(text: str) -> bool:
    parts = text.lower().split("t")
    if len(parts) < 2 or not _is_date(parts[0]):
        return False
    found = re.match(_TIME, parts[1])
    return found is not None and found[1] <= "23" and found[2] <= "59" and found[3] <= "59"


def _is_duration(text: str) -> bool:
    return matches(_GO_DURATION, text) or matches(_WORDED_DURATION, text)


_CHECKS: Final[Mapping[str, Callable[[str], bool]]] = {
    "bsonobjectid": _by(r"^[0-9a-fA-F]{24}$"),
    "uri": _is_uri,
    "email": _is_email,
    "hostname": _is_hostname,
    "ipv4": _is_ipv4,
    "ipv6": _is_ipv6,
    "cidr": _is_cidr,
    "mac": _by(_MAC),
    "uuid": _by(_UUID % "[0-9a-f]{4}-?[0-9a-f]{4}"),
    "uuid3": _by(_UUID % "3[0-9a-f]{3}-?[0-9a-f]{4}"),
    "uuid4": _by(_UUID % "4[0-9a-f]{3}-?[89ab][0-9a-f]{3}"),
    "uuid5": _by(_UUID % "5[0-9a-f]{3}-?[89ab][0-9a-f]{3}"),
    "isbn": lambda text: _is_isbn10(text) or _is_isbn13(text),
    "isbn10": _is_isbn10,
    "isbn13": _is_isbn13,
    "creditcard": _is_credit_card,
    "ssn": lambda text: len(text) == 11 and matches(r"^\d{3}[- ]?\d{2}[- ]?\d{4}$", text),
    "hexcolor": _by(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    "rgbcolor": _by(_RGB),
    "byte": _by(_BYTE),
    "password": lambda text: True,  # noqa: ARG005 - anything is one
    "date": _is_date,
    "duration": _is_duration,
    "datetime": _is_date_time,
    "k8sshortname": lambda text: len(text) <= 63 and matches(f"^{_SHORT_NAME}$", text),
    "k8slongname": lambda text: len(text) <= 253 and matches(rf"^{_SHORT_NAME}(\.{_SHORT_NAME})*$", text),
}
