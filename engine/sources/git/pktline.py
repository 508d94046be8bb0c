"""Git's protocol as far as asking for references goes: packet lines, and what a server advertises."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

FLUSH: Final = b"0000"
DELIMITER: Final = b"0001"
_PEELED: Final = "^{}"
_HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")


class ProtocolError(ValueError):
    """Raised for bytes that no Git server sends."""


class Refs(msgspec.Struct, frozen=True):
    """The references of a remote: the commit, or what else it may be, behind each whole name, tags peeled."""

    by_name: dict[str, str]
    address: str = ""
    """Where the repository was found, redirects followed."""
    capabilities: frozenset[str] = frozenset()


def packet(line: str) -> bytes:
    """One packet line."""
    data = line.encode()
    return b"%04x%s" % (len(data) + 4, data)


def packets(data: bytes) -> Iterator[bytes | None]:
    """The packet lines in `data`; None for a flush or another mark.

    Raises:
        ProtocolError: when there is something else.
    """
    position = 0
    while position < len(data):
        digits = data[position : position + 4]
        if len(digits) != 4 or not set(digits) <= _HEXADECIMAL:
            raise ProtocolError
        length = int(digits, 16)
        if length < 4:
            yield None
            position += 4
            continue
        if position + length > len(data):
            raise ProtocolError
        yield data[position + 4 : position + length]
        position += length


def ask_for(prefixes: Iterable[str]) -> bytes:
    """The question of protocol 2 for the references that begin with one of `prefixes`."""
    arguments = ["peel\n", *(f"ref-prefix {prefix}\n" for prefix in prefixes)]
    return b"".join(
        [packet("command=ls-refs\n"), packet("object-format=sha1"), DELIMITER, *map(packet, arguments), FLUSH]
    )


def read_advertisement(data: bytes) -> Refs | None:
    """What a server says first; None when it speaks protocol 2, and has to be asked for references.

    Raises:
        ProtocolError: when it is no Git server.
    """
    lines = [line for line in packets(data) if line is not None]
    if lines and lines[0].startswith(b"# service="):
        lines = lines[1:]
    elif not lines or not lines[0].startswith(b"version 2"):
        raise ProtocolError
    if not lines:
        return Refs({})
    if lines[0].rstrip() == b"version 2":
        _check_format(line.rstrip().decode("utf-8", "replace") for line in lines)
        return None
    first, _, capabilities = lines[0].partition(b"\0")
    known = frozenset(capabilities.decode("utf-8", "replace").split())
    _check_format(known)
    return Refs(_refs([first, *lines[1:]]), capabilities=known)


def read_refs(data: bytes) -> Refs:
    """The answer of protocol 2.

    Raises:
        ProtocolError: when it is none.
    """
    return Refs(_refs_of_2([line for line in packets(data) if line is not None]))


def _check_format(capabilities: Iterable[str]) -> None:
    if "object-format=sha256" in capabilities:
        raise ProtocolError("its objects are named by SHA-256, which is not supported yet")


def _refs(lines: list[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        object_id, _, name = line.rstrip(b"\n").decode("utf-8", "replace").partition(" ")
        _check_id(object_id)
        if name != "capabilities" + _PEELED:  # said instead of a reference by an empty repository
            found[name.removesuffix(_PEELED)] = object_id  # what is peeled comes after the tag itself
    return found


def _refs_of_2(lines: list[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        object_id, _, rest = line.rstrip(b"\n").decode("utf-8", "replace").partition(" ")
        name, *attributes = rest.split(" ")
        peeled = next((each.removeprefix("peeled:") for each in attributes if each.startswith("peeled:")), object_id)
        _check_id(peeled)
        found[name] = peeled
    return found


def _check_id(object_id: str) -> None:
    if len(object_id) != 40 or not set(object_id) <= set("0123456789abcdef"):
        raise ProtocolError
