"""What of a chart's directory is no part of it: `.helmignore`, which is not gitignore.

The first pattern that fits decides; `!` leaves out whatever does not fit; `**` is an error.
"""

import posixpath
import re
from typing import Final

import msgspec

HELMIGNORE: Final = ".helmignore"
DEFAULT: Final = "templates/.?*"
LINES_MAX: Final = 10_000


class PatternError(ValueError):
    """Raised for a pattern that is none; says which line."""


class _Pattern(msgspec.Struct, frozen=True):
    regex: re.Pattern[str]
    negates: bool
    directory: bool
    base: bool
    """Whether it is held against the last part of a path alone."""

    def fits(self, path: str) -> bool:
        return self.regex.fullmatch(posixpath.basename(path) if self.base else path) is not None


class HelmIgnore:
    """Tells which files and directories are no part of a chart."""

    def __init__(self, text: str) -> None:
        lines = text.removeprefix("\ufeff").split("\n")
        if len(lines) > LINES_MAX:
            raise PatternError(f"it has more than {LINES_MAX} lines")
        found = [_pattern(line.strip(), number) for number, line in enumerate(lines, 1)]
        self._patterns = [pattern for pattern in [*found, _pattern(DEFAULT, 0)] if pattern is not None]

    def leaves_out(self, path: str, *, is_directory: bool) -> bool:
        """Whether what is at `path` is left out, with all that is below it."""
        for pattern in self._patterns:
            if pattern.negates:
                if (pattern.directory and not is_directory) or not pattern.fits(path):
                    return True
            elif (is_directory or not pattern.directory) and pattern.fits(path):
                return True
        return False


def _pattern(rule: str, number: int) -> _Pattern | None:
    if not rule or rule.startswith("#"):
        return None
    if "**" in rule:
        raise PatternError(f"line {number}: `**` is not supported in .helmignore")
    negates = rule.startswith("!")
    rule = rule.removeprefix("!")
    directory = rule.endswith("/")
    rule = rule.removesuffix("/")
    try:
        regex = re.compile(translated(rule.removeprefix("/")), re.DOTALL)
    except (re.error, PatternError):
        raise PatternError(f"line {number}: {rule[:80]!r} is no pattern") from None
    return _Pattern(regex, negates, directory, base="/" not in rule)


def translated(glob: str) -> str:
    """A pattern of Go's filepath.Match as a regular expression: no `*`, `?` or class fits a slash."""
    out = []
    place = 0
    while place < len(glob):
        sign = glob[place]
        place += 1
        if sign == "*":
            out.append("[^/]*")
        elif sign == "?":
            out.append("[^/]")
        elif sign == "[":
            made, place = _class(glob, place)
            out.append(made)
        elif sign == "\\":
            if place == len(glob):
                raise PatternError(glob)
            out.append(re.escape(glob[place]))
            place += 1
        else:
            out.append(re.escape(sign))
    # Stars beside one another are one, so that a match stays quick.
    return re.sub(r"(?:\[\^/\]\*)+", "[^/]*", "".join(out))


def _class(glob: str, place: int) -> tuple[str, int]:
    negated = glob[place : place + 1] == "^"
    place += negated
    ranges: list[str] = []
    while not ranges or glob[place : place + 1] != "]":
        low, place = _member(glob, place)
        high = low
        if glob[place : place + 1] == "-":
            high, place = _member(glob, place + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    inner = "".join(ranges)
    if not inner:
        return ("[^/]" if negated else r"(?!)"), place + 1
    return (rf"(?!/)[^{inner}]" if negated else rf"(?!/)[{inner}]"), place + 1


def _member(glob: str, place: int) -> tuple[str, int]:
    sign = glob[place : place + 1]
    if sign in {"", "-", "]"}:
        raise PatternError(glob)
    if sign == "\\":
        place += 1
        sign = glob[place : place + 1]
        if not sign:
            raise PatternError(glob)
    return sign, place + 1
