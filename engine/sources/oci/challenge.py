"""What a registry asks of who comes: `WWW-Authenticate`, read. Pure."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

TEXT_MAX: Final = 8192

_scheme = re.compile(r"\s*,?\s*([A-Za-z][A-Za-z0-9-]*)(?:\s+|$)", re.ASCII)
_parameter = re.compile(r'\s*,?\s*([A-Za-z][A-Za-z0-9_-]*)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))', re.ASCII)


class Challenge(msgspec.Struct, frozen=True):
    """How to say who we are: with the credentials themselves, or with a token that a server gives for them."""

    scheme: Literal["basic", "bearer"]
    realm: str = ""
    service: str = ""


def challenge_of(headers: Iterable[str]) -> Challenge | None:
    """The challenge that is answered: a bearer's before a basic one; None when there is neither."""
    found = [challenge for header in headers for challenge in _challenges(header[:TEXT_MAX])]
    return next((each for each in found if each.scheme == "bearer" and each.realm), None) or next(
        (each for each in found if each.scheme == "basic"), None
    )


def _challenges(text: str) -> Iterator[Challenge]:
    position = 0
    while (begin := _scheme.match(text, position)) is not None:
        position = begin.end()
        parameters = {}
        while (found := _parameter.match(text, position)) is not None:
            position = found.end()
            quoted = found[2]
            parameters[found[1].lower()] = found[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        match begin[1].lower():
            case "basic":
                yield Challenge("basic")
            case "bearer":
                yield Challenge("bearer", parameters.get("realm", ""), parameters.get("service", ""))
            case _:
                pass  # a scheme that is not spoken here
