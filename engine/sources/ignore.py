"""What of a tree is left out of an artifact (contract SC-020 to SC-024).

The patterns are those of gitignore, read as Flux reads them: each file is judged by itself, and the last pattern that
fits it, or a directory above it, decides. So `!deploy/prod` brings back a directory below one that is left out, which
Git itself would not.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from pathspec import PathSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from tidelog.engine.sources.errors import FetchError, FetchReason

IGNORE_FILE: Final = ".sourceignore"
IGNORE_BYTES_MAX: Final = 2**20
PATTERNS_MAX: Final = 10_000
"""Of all the files of a tree: each file is held against each pattern."""

VERSION_CONTROL: Final = (".git/", ".gitignore", ".gitmodules", ".gitattributes")
EXTENSIONS: Final = ("*.jpg", "*.jpeg", "*.gif", "*.png", "*.wmv", "*.flv", "*.tar.gz", "*.zip")
CONTINUOUS_INTEGRATION: Final = (
    ".github/",
    ".circleci/",
    ".travis.yml",
    ".gitlab-ci.yml",
    "appveyor.yml",
    ".drone.yml",
    "cloudbuild.yaml",
    "codeship-services.yml",
    "codeship-steps.yml",
)
EXTRA: Final = ("**/.goreleaser.yml", "**/.sops.yaml", "**/.flux.yaml")


class _Rules(msgspec.Struct, frozen=True):
    """Patterns that hold below one directory: its path, with a slash at its end, or nothing for the whole tree."""

    directory: str
    spec: PathSpec[GitIgnoreSpecPattern]


class Ignore:
    """Tells which files are part of an artifact."""

    def __init__(self, rules: Iterable[_Rules]) -> None:
        # The last one decides, so that it is asked first.
        self._rules = tuple(reversed(list(rules)))

    def keeps(self, path: str) -> bool:
        """Whether the file at `path` is part of the artifact."""
        for rules in self._rules:
            if path.startswith(rules.directory):
                found = rules.spec.check_file(path[len(rules.directory) :])
                if found.include is not None:
                    return not found.include
        return True


def ignore_of(
    files: Iterable[tuple[str, bytes]],
    spec: str | None,
    *,
    defaults: bool = True,
    reason: FetchReason = "GitOperationFailed",
) -> Ignore:
    """The rules of a tree.

    Args:
        files: the `.sourceignore` files, by the path of their directory (with a slash at its end, or nothing for the
            tree's own), a directory before those in it.
        spec: the source's `spec.ignore`.
        defaults: whether a tree leaves out more than it says; a bucket does not (contract SC-025).
        reason: of the errors.

    Raises:
        FetchError: when a file or `spec.ignore` cannot be read as patterns; names it.
    """
    patterns = [
        (directory, _lines(_text(data, directory, reason)), f"{directory}{IGNORE_FILE}") for directory, data in files
    ]
    patterns.append(("", _lines(spec or ""), "spec.ignore"))
    first = [*VERSION_CONTROL] if defaults else []
    count = sum(len(lines) for _, lines, _ in patterns)
    if count == 0 and defaults:
        first += [*EXTENSIONS, *CONTINUOUS_INTEGRATION, *EXTRA]
    if count > PATTERNS_MAX:
        raise FetchError(reason, f"{count} patterns to ignore: {PATTERNS_MAX} are the most", final=True)
    rules = [_Rules("", _compiled(first, "the defaults", reason))]
    rules += [_Rules(directory, _compiled(lines, where, reason)) for directory, lines, where in patterns if lines]
    return Ignore(rules)


def _lines(text: str) -> list[str]:
    """The patterns of a file: a pattern of nothing but white space is none, and so is one that begins with a hash."""
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _compiled(lines: Iterable[str], where: str, reason: FetchReason) -> PathSpec[GitIgnoreSpecPattern]:
    try:
        return PathSpec.from_lines(GitIgnoreSpecPattern, lines)
    except ValueError as error:
        raise FetchError(reason, f"{where}: {error}: correct the pattern", final=True) from None


def _text(data: bytes, directory: str, reason: FetchReason) -> str:
    if len(data) > IGNORE_BYTES_MAX:
        raise FetchError(reason, f"{directory}{IGNORE_FILE} has more than {IGNORE_BYTES_MAX} bytes", final=True)
    return data.decode("utf-8", "replace")
