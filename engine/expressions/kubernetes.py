"""The functions that Kubernetes adds to CEL (k8s.io/apiserver, `pkg/cel/library`), as far as the library lets us.

The library has no values of types of one's own: a quantity, an address, a network and an URL are maps here.
"""

import ipaddress
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from functools import cmp_to_key
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import re2
from cel_expr_python import cel

ANYTHING: Final = cel.Type.DYN
STRING: Final = cel.Type.STRING
INT: Final = cel.Type.INT
BOOL: Final = cel.Type.BOOL
LIST: Final = cel.Type.List(ANYTHING)
VALUE: Final = cel.Type.Map(STRING, ANYTHING)
"""A quantity, an address, a network or an URL."""
_QUANTITY: Final = re2.compile(
    r"^([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+)?$"
)
_BINARY: Final = {name: Decimal(1024) ** (i + 1) for i, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_INT_MAX: Final = 2**63 - 1


def kubernetes_functions() -> list[Any]:
    """For an environment of rules."""
    made = []
    for name, kinds in _FUNCTIONS.items():
        overloads = [
            cel.Overload(f"tidelog_{name}_{i}", gives, list(takes), is_member, does)
            for i, (takes, gives, is_member, does) in enumerate(kinds)
        ]
        made.append(cel.FunctionDecl(name, overloads))
    return made


def _less(one: Any, other: Any) -> bool:
    return bool(one < other)


def _is_sorted(items: Sequence[Any]) -> bool:
    return all(not _less(items[i + 1], items[i]) for i in range(len(items) - 1))


def _sum(items: Sequence[Any]) -> Any:
    return sum(items[1:], items[0]) if items else 0


def _least(items: Sequence[Any]) -> Any:
    return min(items, key=cmp_to_key(lambda one, other: -1 if _less(one, other) else 1))


def _most(items: Sequence[Any]) -> Any:
    return max(items, key=cmp_to_key(lambda one, other: -1 if _less(one, other) else 1))


def _index_of(items: Sequence[Any], item: Any) -> int:
    return next((i for i, each in enumerate(items) if each == item), -1)


def _last_index_of(items: Sequence[Any], item: Any) -> int:
    return next((i for i in range(len(items) - 1, -1, -1) if items[i] == item), -1)


def _find(text: str, pattern: str) -> str:
    found = re2.search(pattern, text)
    return found.group(0) if found else ""


def _find_all(text: str, pattern: str, most: int = -1) -> list[str]:
    found = [each.group(0) for each in re2.finditer(pattern, text)]
    return found if most < 0 else found[:most]


def _number(text: str) -> Decimal:
    found = _QUANTITY.search(text)
    if found is None:
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    number, unit = Decimal(found.group(1)), found.group(2) or ""
    if unit in _BINARY:
        return number * _BINARY[unit]
    if unit in _DECIMAL:
        return number.scaleb(_DECIMAL[unit])
    return number.scaleb(int(unit[1:])) if unit else number


def _quantity(text: str) -> dict[str, Any]:
    return _of_number(_number(text))


def _of_number(number: Decimal) -> dict[str, Any]:
    return {"quantity": f"{number.normalize():f}"}


def _is(check: Callable[[str], Any]) -> Callable[[str], bool]:
    def checked(text: str) -> bool:
        try:
            check(text)
        except (ValueError, InvalidOperation):
            return False
        return True

    return checked


def _of(value: Any) -> Decimal:
    return Decimal(value["quantity"])


def _added(one: Any, other: Any) -> dict[str, Any]:
    return _of_number(_of(one) + (other if isinstance(other, int) else _of(other)))


def _taken(one: Any, other: Any) -> dict[str, Any]:
    return _of_number(_of(one) - (other if isinstance(other, int) else _of(other)))


def _is_integer(value: Any) -> bool:
    number = _of(value)
    return number == number.to_integral_value() and abs(number) <= _INT_MAX


def _as_integer(value: Any) -> int:
    if not _is_integer(value):
        raise ValueError("cannot convert value to integer")
    return int(_of(value))


def _compared(one: Any, other: Any) -> int:
    return (_of(one) > _of(other)) - (_of(one) < _of(other))


def _address(text: str) -> Any:
    found = ipaddress.ip_address(text)
    if "%" in text or getattr(found, "ipv4_mapped", None) is not None:
        raise ValueError(f"IP Address {text!r} is not allowed here")
    return found


def _ip(text: str) -> dict[str, Any]:
    return {"ip": str(_address(text))}


def _network(text: str) -> Any:
    address, slash, bits = text.partition("/")
    if not slash or not bits.isdigit():
        raise ValueError(f"network address parse error: {text!r}")
    _address(address)
    return ipaddress.ip_interface(text)


def _cidr(text: str) -> dict[str, Any]:
    return {"cidr": str(_network(text))}


def _version_of(value: Any) -> int:
    return int(ipaddress.ip_interface(value.get("cidr") or value["ip"]).version)


def _about(name: str) -> Callable[[Any], bool]:
    return lambda value: bool(getattr(ipaddress.ip_address(value["ip"]), name))


def _is_global(value: Any) -> bool:
    found = ipaddress.ip_address(value["ip"])
    return not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local)


def _contains_ip(value: Any, other: Any) -> bool:
    address = _address(other) if isinstance(other, str) else ipaddress.ip_address(other["ip"])
    return address in ipaddress.ip_interface(value["cidr"]).network


def _contains_cidr(value: Any, other: Any) -> bool:
    within: Any = _network(other) if isinstance(other, str) else ipaddress.ip_interface(other["cidr"])
    network = ipaddress.ip_interface(value["cidr"]).network
    return within.version == network.version and bool(within.network.subnet_of(network))


def _masked(value: Any) -> dict[str, Any]:
    return {"cidr": str(ipaddress.ip_interface(value["cidr"]).network)}


def _url(text: str) -> dict[str, Any]:
    parts = urlsplit(text)
    if not (parts.scheme or text.startswith("/")) or any(character <= " " for character in text):
        raise ValueError(f'parse "{text}": invalid URI for request')
    return {"url": text}


def _of_url(name: str) -> Callable[[Any], str]:
    def part(value: Any) -> str:
        parts = urlsplit(str(value["url"]))
        found: dict[str, str] = {
            "getScheme": parts.scheme,
            "getHost": parts.netloc.rpartition("@")[2],
            "getHostname": (parts.hostname or ""),
            "getPort": "" if parts.port is None else str(parts.port),
            "getEscapedPath": parts.path,
        }
        return found[name]

    return part


def _query(value: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(value["url"]).query, keep_blank_values=True)


_Overload = tuple[tuple[Any, ...], Any, bool, Callable[..., Any]]
_FUNCTIONS: Final[dict[str, list[_Overload]]] = {
    "isSorted": [((LIST,), BOOL, True, _is_sorted)],
    "sum": [((LIST,), ANYTHING, True, _sum)],
    "min": [((LIST,), ANYTHING, True, _least)],
    "max": [((LIST,), ANYTHING, True, _most)],
    "find": [((STRING, STRING), STRING, True, _find)],
    "findAll": [
        ((STRING, STRING), cel.Type.List(STRING), True, _find_all),
        ((STRING, STRING, INT), cel.Type.List(STRING), True, _find_all),
    ],
    "quantity": [((STRING,), VALUE, False, _quantity)],
    "isQuantity": [((STRING,), BOOL, False, _is(_number))],
    "isInteger": [((VALUE,), BOOL, True, _is_integer)],
    "asInteger": [((VALUE,), INT, True, _as_integer)],
    "asApproximateFloat": [((VALUE,), cel.Type.DOUBLE, True, lambda value: float(_of(value)))],
    "sign": [((VALUE,), INT, True, lambda value: int((_of(value) > 0) - (_of(value) < 0)))],
    "add": [((VALUE, VALUE), VALUE, True, _added), ((VALUE, INT), VALUE, True, _added)],
    "sub": [((VALUE, VALUE), VALUE, True, _taken), ((VALUE, INT), VALUE, True, _taken)],
    "isGreaterThan": [((VALUE, VALUE), BOOL, True, lambda one, other: _compared(one, other) > 0)],
    "isLessThan": [((VALUE, VALUE), BOOL, True, lambda one, other: _compared(one, other) < 0)],
    "compareTo": [((VALUE, VALUE), INT, True, _compared)],
    "ip": [
        ((STRING,), VALUE, False, _ip),
        ((VALUE,), VALUE, True, lambda value: {"ip": value["cidr"].partition("/")[0]}),
    ],
    "isIP": [((STRING,), BOOL, False, _is(_address))],
    "family": [((VALUE,), INT, True, _version_of)],
    "isUnspecified": [((VALUE,), BOOL, True, _about("is_unspecified"))],
    "isLoopback": [((VALUE,), BOOL, True, _about("is_loopback"))],
    "isLinkLocalMulticast": [((VALUE,), BOOL, True, lambda value: value["ip"].startswith(("224.0.0.", "ff02:")))],
    "isLinkLocalUnicast": [((VALUE,), BOOL, True, _about("is_link_local"))],
    "isGlobalUnicast": [((VALUE,), BOOL, True, _is_global)],
    "cidr": [((STRING,), VALUE, False, _cidr)],
    "isCIDR": [((STRING,), BOOL, False, _is(_network))],
    "containsIP": [((VALUE, STRING), BOOL, True, _contains_ip), ((VALUE, VALUE), BOOL, True, _contains_ip)],
    "containsCIDR": [((VALUE, STRING), BOOL, True, _contains_cidr), ((VALUE, VALUE), BOOL, True, _contains_cidr)],
    "prefixLength": [((VALUE,), INT, True, lambda value: int(value["cidr"].partition("/")[2]))],
    "masked": [((VALUE,), VALUE, True, _masked)],
    "url": [((STRING,), VALUE, False, _url)],
    "isURL": [((STRING,), BOOL, False, _is(_url))],
    **{
        name: [((VALUE,), STRING, True, _of_url(name))]
        for name in ("getScheme", "getHost", "getHostname", "getPort", "getEscapedPath")
    },
    "getQuery": [((VALUE,), cel.Type.Map(STRING, cel.Type.List(STRING)), True, _query)],
}
