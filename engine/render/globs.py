r"""Shell patterns as `${v#pattern}` and its siblings know them: `*`, `?`, `[a-z]`, `[^a-z]`, a backslash before any.

All beginnings of a value are matched in one pass over it, with the set of reachable places in the pattern as an
integer of bits: the work grows with length times pattern, and there is no backtracking for a hostile pattern to
exploit.
"""

from typing import Final

import msgspec

WORK_MAX: Final = 50_000_000
"""Characters of the value times those of the pattern."""


class TooMuchWorkError(ValueError):
    """Raised when value and pattern are too long for one another."""


class _One(msgspec.Struct, frozen=True):
    """A part of a pattern that takes one character."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False

    def takes(self, character: str) -> bool:
        return any(low <= character <= high for low, high in self.ranges) is not self.negated


_STAR: Final = None
_ANY: Final = _One((), negated=True)


def matching_beginnings(pattern: str, value: str) -> tuple[int, int] | None:
    """The lengths of the shortest and the longest beginning of `value`, not empty, that `pattern` matches.

    None when there is none, or when the pattern is malformed.

    Raises:
        TooMuchWorkError: when the two are too long for one another.
    """
    if len(pattern) * len(value) > WORK_MAX:
        raise TooMuchWorkError
    parts = _parts(pattern)
    if parts is None:
        return None
    lengths = _lengths(parts, value)
    return (lengths[0], lengths[1]) if lengths else None


def _lengths(parts: list[_One | None], value: str) -> tuple[int, int] | None:
    """Bit n of `reached`: the parts before the nth match what was read. A star stays reached and lets on."""
    stars = sum(1 << index for index, part in enumerate(parts) if part is _STAR)
    end = 1 << len(parts)
    masks: dict[str, int] = {}
    reached = _past_stars(1, stars)
    shortest = longest = 0
    for length, character in enumerate(value, 1):
        mask = masks.get(character)
        if mask is None:
            mask = masks[character] = _mask(parts, character)
        reached = _past_stars((reached & stars) | (reached & mask) << 1, stars)
        if not reached:
            break
        if reached & end:
            shortest = shortest or length
            longest = length
    return (shortest, longest) if longest else None


def _past_stars(reached: int, stars: int) -> int:
    """Neighbouring stars are one (see `_parts`), so that one step leads past them."""
    return reached | (reached & stars) << 1


def _mask(parts: list[_One | None], character: str) -> int:
    return sum(1 << index for index, part in enumerate(parts) if part is not None and part.takes(character))


def _parts(pattern: str) -> list[_One | None] | None:
    parts: list[_One | None] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            if not parts or parts[-1] is not _STAR:
                parts.append(_STAR)
        elif character == "?":
            parts.append(_ANY)
        elif character == "[":
            read = _class(pattern, at)
            if read is None:
                return None
            part, at = read
            parts.append(part)
        else:
            if character == "\\":
                if at == len(pattern):
                    return None
                character = pattern[at]
                at += 1
            parts.append(_One(((character, character),)))
    return parts


def _class(pattern: str, at: int) -> tuple[_One, int] | None:
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and pattern.startswith("]", at)):
        read = _bound(pattern, at)
        if read is None:
            return None
        low, at = read
        high = low
        if pattern.startswith("-", at):
            read = _bound(pattern, at + 1)
            if read is None:
                return None
            high, at = read
        ranges.append((low, high))
    return _One(tuple(ranges), negated), at + 1


def _bound(pattern: str, at: int) -> tuple[str, int] | None:
    """One end of a range; after it the pattern has to go on."""
    if pattern.startswith(("-", "]"), at):
        return None
    at += pattern.startswith("\\", at)
    return (pattern[at], at + 1) if at + 1 < len(pattern) else None


def without_beginning(value: str, pattern: str, *, longest: bool) -> str:
    """`value` less the beginning that `pattern` matches; all of it where there is none."""
    lengths = matching_beginnings(pattern, value)
    return value if lengths is None else value[lengths[longest] :]


def without_end(value: str, pattern: str, *, longest: bool) -> str:
    """`value` less the end that `pattern` matches. As in Flux, value and pattern are read backwards for it."""
    return without_beginning(value[::-1], pattern[::-1], longest=longest)[::-1]
