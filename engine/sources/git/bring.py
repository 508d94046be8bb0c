"""Brings a revision into a quarantine: transfer, checks, artifact, tar.gz. Runs in a process of its own."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pygit2
from pygit2.enums import ObjectType, Option

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git.possession import check_possession, stand_alone
from tidelog.engine.sources.intake.artifact import artifact_of, remembering
from tidelog.engine.sources.intake.jobs import MESSAGE_CHARACTERS_MAX, Brought, Identity, Transfer
from tidelog.storage.artifacts import ObjectMissingError
from tidelog.storage.artifacts.check import Limits, check_names
from tidelog.storage.artifacts.objects import (
    EXECUTABLE,
    FILE,
    FILE_OF_A_GROUP,
    SUBMODULE,
    TREE,
    Objects,
    RawEntry,
    use_libgit2_alone,
)

FILES: Final = frozenset({FILE, FILE_OF_A_GROUP, EXECUTABLE})
FETCHED: Final = "refs/tidelog/fetched"
ALL: Final = ("+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*")
NOT_ALONE: Final = "cannot fetch a specific object"
"""What libgit2 says of a server that gives only what it advertises."""
LACKS: Final = ("object not found", "no match for id", "missing delta bases", "packfile")
"""What libgit2 says where the store lacks what a transfer builds upon."""


def bring(job: Transfer, transferred: Callable[[], None]) -> Brought:
    """Does a job.

    Args:
        job: what to do.
        transferred: called when the network is needed no more.

    Raises:
        FetchError: when the remote, or what it sent, is not as it should be.
        ArtifactError: when the tree is refused, or the store lacks something.
    """
    use_libgit2_alone()
    repository = Path(job.place.repository)
    _set_haves(repository, job.have)
    completed = 0
    if job.url:
        if not job.have:
            stand_alone(repository)
        commit, completed = _transfer(job, repository)
    elif job.directory:
        commit = _copy(job, repository)
    else:
        commit = job.commit
    transferred()
    objects = Objects(repository)
    read = remembering(objects)
    if job.url and job.have:
        check_possession(objects, commit, job.have, completed, read)
    return _artifact(objects, commit, job, read)


def _set_haves(repository: Path, have: tuple[str, ...]) -> None:
    """Has libgit2 tell the server what is there: commits without parents."""
    if have:
        (repository / "shallow").write_text("".join(f"{commit}\n" for commit in have))
        place = repository / "refs" / "have"
        place.mkdir(parents=True)
        for commit in have:
            (place / commit).write_text(f"{commit}\n")


# Over HTTP


class _Callbacks(pygit2.RemoteCallbacks):
    """Sends the headers, and stops a transfer that is too large.

    Credentials are a header from the first request on: without a callback for them there is no second try, and
    redirects, which libgit2 would send them along, are not followed.
    """

    def __init__(self, headers: tuple[str, ...], limits: Limits) -> None:
        super().__init__()
        self._headers = list(headers)
        self._limits = limits

    def custom_headers(self) -> list[str] | None:
        return self._headers or None

    def transfer_progress(self, stats: pygit2.remotes.TransferProgress) -> None:
        if stats.received_bytes > self._limits.transfer_bytes or stats.total_objects > self._limits.transfer_objects:
            raise FetchError(
                "GitOperationFailed",
                f"the remote sends too much: {self._limits.transfer_bytes} bytes and {self._limits.transfer_objects} "
                "objects are the most at once; fetch a branch or a tag, and not a commit, where the remote is large",
            )


def _transfer(job: Transfer, repository: Path) -> tuple[str, int]:
    """The commit that came, and how many objects of the store completed what the remote sent."""
    _trust(job)
    pygit2.option(Option.SET_SERVER_CONNECT_TIMEOUT, max(1, int(job.timeout_s * 1000)))
    pygit2.option(Option.SET_SERVER_TIMEOUT, max(1, int(job.timeout_s * 1000)))
    git = pygit2.Repository(str(repository))
    git.config["http.followRedirects"] = "false"
    try:
        if job.want:
            completed = _fetch(git, job, [f"+{job.want}:{FETCHED}"], depth=1)
            return _peeled(git, FETCHED), completed
        return _fetch_commit(git, job)
    except pygit2.GitError as error:
        if job.have and any(words in str(error) for words in LACKS):
            raise ObjectMissingError("what this remote gave before") from None
        raise _told(error, job) from None


def _fetch(git: pygit2.Repository, job: Transfer, refspecs: list[str], depth: int) -> int:
    remote = git.remotes.create_anonymous(job.url)
    return remote.fetch(refspecs, callbacks=_Callbacks(job.headers, job.limits), depth=depth).local_objects


def _fetch_commit(git: pygit2.Repository, job: Transfer) -> tuple[str, int]:
    try:
        completed = _fetch(git, job, [f"+{job.commit}:{FETCHED}"], depth=1)
    except pygit2.GitError as error:
        if NOT_ALONE not in str(error):
            raise
        # The whole history then, as Flux has it for every commit (GR-012).
        (Path(job.place.repository) / "shallow").unlink(missing_ok=True)
        completed = _fetch(git, job, [f"+refs/heads/{job.branch}:{FETCHED}"] if job.branch else list(ALL), depth=0)
    if job.commit not in git:
        where = f"the branch {job.branch!r}" if job.branch else "any branch or tag"
        raise FetchError(
            "GitOperationFailed", f"the commit {job.commit} is not in {where} of {job.url}: correct spec.ref.commit"
        )
    return job.commit, completed


def _trust(job: Transfer) -> None:
    """Trusts the system's authorities, and those of the job beside them (contract CM-077)."""
    paths = ssl.get_default_verify_paths()
    system = Path(paths.cafile).read_text() if paths.cafile else ""
    bundle = Path(job.place.home) / "authorities.pem"
    bundle.write_text(f"{system}\n{job.ca}\n")
    file = str(bundle) if system or job.ca else None
    if file or paths.capath:
        pygit2.option(Option.SET_SSL_CERT_LOCATIONS, file, paths.capath)


def _peeled(git: pygit2.Repository, name: str) -> str:
    try:
        return str(git.references[name].peel(ObjectType.COMMIT).id)
    except (KeyError, ValueError, pygit2.GitError):
        raise FetchError(
            "GitOperationFailed", "the reference leads to no commit: correct spec.ref", final=True
        ) from None


def _told(error: pygit2.GitError, job: Transfer) -> FetchError:
    """What libgit2 said, for people."""
    text = str(error)
    if "401" in text or "403" in text or "authentication" in text:
        return FetchError(
            "AuthenticationFailed", f"{job.url} does not let us read: check the credentials in spec.secretRef"
        )
    if "redirect" in text:
        return FetchError(
            "GitOperationFailed", f"{job.url} sends the transfer elsewhere, which is not followed: correct spec.url"
        )
    if "certificate" in text or "SSL" in text:
        return FetchError("GitOperationFailed", f"{job.url}: TLS: {text[:200]}: put the authority into ca.crt")
    return FetchError("GitOperationFailed", f"the transfer from {job.url} broke off: {text[:300]}")


# From a directory


def _copy(job: Transfer, repository: Path) -> str:
    """Copies what the store lacks of one commit: libgit2 itself can only fetch all of a local history."""
    try:
        source = Objects(Path(job.directory))
    except pygit2.GitError:
        raise FetchError("GitOperationFailed", f"{job.directory} is no Git repository") from None
    _refuse_alternates(source.repository, job.directory)
    commit = _peeled(source.repository, job.want) if job.want else job.commit
    if not job.want and commit not in source:
        raise FetchError(
            "GitOperationFailed", f"the commit {commit} is not in {job.directory}: correct spec.ref.commit"
        )
    found = source.repository[commit]
    if not isinstance(found, pygit2.Commit):
        raise FetchError("GitOperationFailed", f"{commit} is no commit: correct spec.ref.commit", final=True)
    read = remembering(source)
    check_names(str(found.tree_id), read, job.limits)
    there = Objects(repository)
    packed = pygit2.PackBuilder(source.repository)
    packed.add(found.id)
    _add_missing(str(found.tree_id), read, there, packed, job.limits)
    packed.write(str(repository / "objects" / "pack"))
    if found.parent_ids:
        with (repository / "shallow").open("a") as file:
            file.write(f"{commit}\n")
    there.close()
    return commit


def _add_missing(
    tree: str, read: Callable[[str], list[RawEntry]], there: Objects, packed: pygit2.PackBuilder, limits: Limits
) -> None:
    """Adds what a tree has and the store has not; a tree that the store has is whole there."""
    waiting = [] if tree in there else [tree]
    seen = set(waiting)
    while waiting:
        directory = waiting.pop()
        packed.add(pygit2.Oid(hex=directory))
        for entry in read(directory):
            if entry.id in seen or entry.mode == SUBMODULE or entry.id in there:
                continue
            seen.add(entry.id)
            if entry.mode == TREE:
                waiting.append(entry.id)
            else:
                packed.add(pygit2.Oid(hex=entry.id))
        if len(seen) > limits.transfer_objects:
            raise FetchError("GitOperationFailed", f"more than {limits.transfer_objects} objects are new: too many")


def _refuse_alternates(git: pygit2.Repository, directory: str) -> None:
    """Another repository's objects are not what was named."""
    if (Path(git.path) / "objects" / "info" / "alternates").exists():
        raise FetchError(
            "GitOperationFailed",
            f"{directory} borrows objects from another repository, which is not read: run `git repack -a -d` in it, "
            "and remove its objects/info/alternates",
        )


# The artifact


def _artifact(objects: Objects, commit: str, job: Transfer, read: Callable[[str], list[RawEntry]]) -> Brought:
    found = objects.repository.get(commit)
    if found is None:
        raise ObjectMissingError(f"the commit {commit}")
    if not isinstance(found, pygit2.Commit):
        raise FetchError("GitOperationFailed", f"{commit} is no commit: correct spec.ref", final=True)
    tree, tarball = artifact_of(objects, str(found.tree_id), read, job.place, job.limits, job.ignore)
    message = found.raw_message.decode(found.message_encoding or "utf-8", "replace")
    return Brought(
        commit=commit,
        tree=tree,
        digest=tarball.digest,
        size=tarball.size,
        author=_identity(found.author),
        committer=_identity(found.committer),
        message=message[:MESSAGE_CHARACTERS_MAX],
    )


def _identity(signature: pygit2.Signature) -> Identity:
    name, email = (raw.decode("utf-8", "replace")[:256] for raw in (signature.raw_name, signature.raw_email))
    return Identity(name, email, signature.time)
