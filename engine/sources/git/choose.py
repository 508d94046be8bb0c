"""Which of a remote's references is meant (contract GR-007 to GR-012)."""

import re
from collections.abc import Mapping

import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git.spec import DEFAULT_BRANCH, GitRef
from tidelog.engine.sources.semver import NoRangeError, range_of, version_of

BRANCHES = "refs/heads/"
TAGS = "refs/tags/"

_commit = re.compile(r"[0-9a-f]{40}")
_name = re.compile(r"(?!/)[^\s\x00-\x20~^:?*\[\\\x7f]+(?<!/)")


class Choice(msgspec.Struct, frozen=True):
    """References that are meant, by their whole names: more than one only where versions are equal."""

    commits: dict[str, str]


def prefixes_of(ref: GitRef) -> tuple[str, ...]:
    """What to ask a remote for. Mostly the same for all, so that one question serves all who share a remote."""
    usual = (BRANCHES, TAGS)
    if ref.name and not ref.commit and not ref.name.startswith(usual):
        return (*usual, ref.name)
    return usual


def check_ref(ref: GitRef) -> None:
    """Checks what is asked for, before anyone is asked.

    Raises:
        FetchError: when it cannot be.
    """
    if ref.commit:
        if len(ref.commit) == 64:
            raise _wrong("spec.ref.commit is a SHA-256: repositories that use it are not supported yet")
        if not _commit.fullmatch(ref.commit):
            raise _wrong(f"spec.ref.commit {ref.commit[:80]!r} is no commit: write all 40 hexadecimal digits")
        return
    for field, value in (("name", ref.name), ("tag", ref.tag), ("branch", ref.branch)):
        if value and not _name.fullmatch(value):
            raise _wrong(f"spec.ref.{field} {value[:80]!r} is no name of a reference")
        if value:
            return


def choose(ref: GitRef, refs: Mapping[str, str], where: str) -> Choice:
    """The references that are meant.

    Args:
        ref: what is asked for, other than a commit.
        refs: what the remote has, by whole names.
        where: the remote's address, for messages.

    Raises:
        FetchError: when there is none.
    """
    if ref.name:
        return _one(refs, ref.name, f"the reference {ref.name!r}", "spec.ref.name", where)
    if ref.tag:
        return _one(refs, TAGS + ref.tag, f"the tag {ref.tag!r}", "spec.ref.tag", where)
    if ref.semver:
        return _highest(ref.semver, refs, where)
    branch = ref.branch or DEFAULT_BRANCH
    field = "spec.ref.branch" if ref.branch else "spec.ref.branch (master, where nothing is given)"
    return _one(refs, BRANCHES + branch, f"the branch {branch!r}", field, where)


def _one(refs: Mapping[str, str], name: str, what: str, field: str, where: str) -> Choice:
    commit = refs.get(name)
    if commit is None:
        raise FetchError("GitOperationFailed", f"{where} has not {what}: push it, or correct {field}")
    return Choice({name: commit})


def _highest(semver: str, refs: Mapping[str, str], where: str) -> Choice:
    try:
        wanted = range_of(semver)
    except NoRangeError as error:
        raise _wrong(f"spec.ref.semver: {error}") from None
    versions = {name: version_of(name.removeprefix(TAGS)) for name in refs if name.startswith(TAGS)}
    members = {name: version for name, version in versions.items() if version is not None and version in wanted}
    if not members:
        raise FetchError(
            "GitOperationFailed", f"{where} has no tag in the range {semver!r}: push one, or correct spec.ref.semver"
        )
    highest = max(members.values())
    return Choice({name: refs[name] for name in sorted(members) if members[name] == highest})


def _wrong(message: str) -> FetchError:
    return FetchError("GitOperationFailed", message, final=True)
