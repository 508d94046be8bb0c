"""Versions and ranges as Flux reads them (contract GR-010).

Versions are those of Semantic Versioning with exactly three numeric parts; a leading `v` and zero-padded parts
(`v2026.01.05`) are tolerated. Ranges are those of Masterminds/semver 3.4: comparisons, `~`, `^`, `x`, hyphens, joined
by spaces or commas (and) and `||` (or). Pre-releases are in a range only when one of the versions that it names,
between two `||`, is one. tests/oracles/semver holds this module to the original.
"""

import re
from typing import Final, TypeAlias

import msgspec

Identifier: TypeAlias = tuple[int, int, str]
"""Of a pre-release: numbers come before words, and in their own order."""

_pre = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_version = re.compile(rf"v?(\d+)\.(\d+)\.(\d+)(?:-({_pre}))?(?:\+{_pre})?", re.ASCII)
_loose = re.compile(rf"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-({_pre}))?(?:\+{_pre})?", re.ASCII)
_part = r"(?:\d+|[xX*])"
_partial = rf"v?({_part})(?:\.({_part}))?(?:\.({_part}))?(?:-({_pre}))?(?:\+{_pre})?"
_operator = r"(?:!=|>=|=>|<=|=<|~>|[=<>~^])?"
_hyphen = re.compile(rf"\s*({_partial})\s+-\s+({_partial})\s*", re.ASCII)
_term = re.compile(rf"\s*({_operator})\s*{_partial}(?:\s*,\s*|\s+|$)", re.ASCII)
_build = re.compile(_pre, re.ASCII)
_padded = re.compile(r"0\d+")

TEXT_MAX: Final = 1024
"""The longest range that is read."""


class Version(msgspec.Struct, frozen=True, order=True):
    """A version; compares as Semantic Versioning says. Build metadata counts for nothing and is not kept."""

    major: int
    minor: int
    patch: int
    is_release: bool = True
    pre: tuple[Identifier, ...] = ()

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The three parts."""
        return self.major, self.minor, self.patch


class NoRangeError(ValueError):
    """Raised for a text that is no range of versions."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:80]!r} is no range of versions: write for example '>=1.2.0 <2.0.0' or '1.x'")


class _Term(msgspec.Struct, frozen=True):
    """One comparison: `given` is how many numeric parts stand there, before the first `x` or the end."""

    operator: str
    version: Version
    given: int

    def holds(self, other: Version) -> bool:
        wanted = self.version
        begin = self.given or 3
        prefix = wanted.numbers[:begin]
        found = other.numbers[:begin]
        match self.operator:
            case ">=" | "=>":
                return other >= wanted
            case "<":
                return other < wanted
            case ">":
                return found > prefix if begin < 3 else other > wanted
            case "<=" | "=<":
                return self._is_at_most(other)
            case "!=":
                return self._differs(other)
            case "^":
                return other >= wanted and self._is_compatible(other)
            case "~" | "~>":
                return other >= wanted and self._is_near(other)
            case _:
                return other == wanted if self.given == 3 else other >= wanted and self._is_near(other)

    def _is_at_most(self, other: Version) -> bool:
        if self.given == 3:
            return other <= self.version
        begin = self.given or 2
        return other.numbers[:begin] <= self.version.numbers[:begin]

    def _differs(self, other: Version) -> bool:
        if self.given in {0, 3}:
            return other != self.version
        if other.numbers[: self.given] != self.version.numbers[: self.given]:
            return True
        return self.given == 2 and other.pre != self.version.pre

    def _is_near(self, other: Version) -> bool:
        if self.version.numbers == (0, 0, 0) and self.given in {0, 3}:
            return True
        begin = 1 if self.given == 1 else 2
        return other.numbers[:begin] == self.version.numbers[:begin]

    def _is_compatible(self, other: Version) -> bool:
        if self.version.major > 0 or self.given == 1:
            begin = 1
        elif self.version.minor > 0 or self.given == 2:
            begin = 2
        else:
            begin = 3
        return other.numbers[:begin] == self.version.numbers[:begin]


class Range(msgspec.Struct, frozen=True):
    """A range of versions: one of `groups` holds, of which all terms hold."""

    groups: tuple[tuple[_Term, ...], ...]

    def __contains__(self, version: Version) -> bool:
        return any(
            (version.is_release or any(not term.version.is_release for term in group))
            and all(term.holds(version) for term in group)
            for group in self.groups
        )


def version_of(text: str) -> Version | None:
    """The version that a tag's name is; None when it is none."""
    found = _version.fullmatch(text) if len(text) <= TEXT_MAX else None
    if found is None:
        return None
    pre = _identifiers(found[4])
    return None if pre is None else Version(int(found[1]), int(found[2]), int(found[3]), not pre, pre)


def loose_version_of(text: str) -> Version | None:
    """The version that a chart has, as Helm reads it: parts that are missing are zero; None when it is none."""
    found = _loose.fullmatch(text) if len(text) <= TEXT_MAX else None
    if found is None:
        return None
    pre = _identifiers(found[4])
    major, minor, patch = (int(part or 0) for part in found.groups()[:3])
    if pre is None or max(major, minor, patch) >= 2**64:
        return None
    return Version(major, minor, patch, not pre, pre)


def with_build(text: str, build: str) -> str | None:
    """A version with other build metadata, written in full; None where the text is no version, or `build` is none."""
    found = loose_version_of(text)
    if found is None or not _build.fullmatch(build):
        return None
    _, dash, pre = text.partition("+")[0].partition("-")
    return f"{found.major}.{found.minor}.{found.patch}{dash}{pre}+{build}"


def range_of(text: str) -> Range:
    """The range that `text` describes.

    Raises:
        NoRangeError: when it describes none.
    """
    if len(text) > TEXT_MAX:
        raise NoRangeError(text)
    plain = _hyphen.sub(lambda found: f">={found[1]}, <={found[6]} ", text)
    return Range(tuple(_group(part, text) for part in plain.split("||")))


def _group(part: str, text: str) -> tuple[_Term, ...]:
    terms = []
    position = 0
    while position < len(part):
        found = _term.match(part, position)
        if found is None:
            raise NoRangeError(text)
        terms.append(_read(found, text))
        position = found.end()
    if not terms or part.rstrip().endswith(","):
        raise NoRangeError(text)
    return tuple(terms)


def _read(found: re.Match[str], text: str) -> _Term:
    parts = []
    for part in found.groups()[1:4]:
        if part is None or not part.isdigit():
            break
        parts.append(int(part))
    pre = _identifiers(found[5])
    if pre is None:
        raise NoRangeError(text)
    major, minor, patch = [*parts, 0, 0, 0][:3]
    return _Term(found[1], Version(major, minor, patch, not pre, pre), len(parts))


def _identifiers(pre: str | None) -> tuple[Identifier, ...] | None:
    """The parts of a pre-release; None when one is a zero-padded number, which Semantic Versioning forbids."""
    words = pre.split(".") if pre else []
    if any(_padded.fullmatch(word) for word in words):
        return None
    return tuple((0, int(word), "") if word.isdigit() else (1, 0, word) for word in words)
