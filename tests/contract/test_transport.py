"""What every way to a Git repository promises, whatever it is reached by."""

import gzip
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread
import pytest

from tests.servers.git_server import git_server
from tests.servers.repositories import EPOCH, Repository, git
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.fetched import Fetched
from tidelog.engine.sources.git import Credentials, GitFetcher, GitHead, GitRef, GitSpec
from tidelog.storage.artifacts import ArtifactStore

pytestmark = pytest.mark.slow


class Place(NamedTuple):
    """A repository, and how it is reached."""

    repository: Repository
    url: str
    credentials: Credentials
    fetcher: GitFetcher
    store: ArtifactStore

    def spec(self, ref: GitRef | None = None, ignore: str | None = None, name: str = "app") -> GitSpec:
        return GitSpec(namespace="team", name=name, url=self.url, ref=ref or GitRef(branch="main"), ignore=ignore)

    async def ask(self, ref: GitRef | None = None) -> GitHead:
        return await self.fetcher.ask(self.spec(ref), self.credentials)

    async def fetch(self, ref: GitRef | None = None, ignore: str | None = None) -> Fetched:
        return await self.fetcher.fetch(self.spec(ref, ignore), self.credentials, await self.ask(ref))


WAYS = ["https", "https, basic, protocol 0", "https, token", "http, token", "file"]


@pytest.fixture(params=WAYS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    way: str = request.param
    root = tmp_path / "repositories"
    repository = Repository.create(root / "app.git")
    store = await anyio.to_thread.run_sync(ArtifactStore.open, tmp_path / "store")
    local = repository.path if way == "file" else None
    with git_server(root, tls=way.startswith("https")) as server:
        server.behaviour.protocol_2 = "protocol 0" not in way
        ca = server.ca.decode() if way.startswith("https") else ""
        credentials = Credentials(ca=ca)
        if "basic" in way:
            server.behaviour.username, server.behaviour.password = "ada", "päss:word"
            credentials = Credentials(username="ada", password="päss:word", ca=ca)
        elif "token" in way:
            server.behaviour.token = "t0ken"
            credentials = Credentials(token="t0ken", ca=ca)
        async with GitFetcher(store, local=local) as fetcher:
            url = repository.path.resolve().as_uri() if local else server.url("app")
            yield Place(repository, url, credentials, fetcher, store)
    await anyio.to_thread.run_sync(store.close)


def names(fetched: Fetched) -> list[str]:
    with tarfile.open(fetched.path) as archive:
        return sorted(member.name for member in archive.getmembers() if member.isreg())


async def content(place: Place, fetched: Fetched, path: str) -> bytes:
    def read() -> bytes:
        entry = place.store.entry(fetched.tree, path)
        assert entry is not None
        return place.store.read(entry.id)

    return await anyio.to_thread.run_sync(read)


async def test_branch_is_asked_and_fetched(place: Place) -> None:
    commit = place.repository.commit({"a.yaml": "a: 1\n", "b/c.yaml": "c: 2\n"}, message="begin\n\nWith a reason.")
    head = await place.ask()
    assert head == GitHead(f"main@sha1:{commit}", commit, "refs/heads/main")  # type: ignore[arg-type]
    fetched = await place.fetch()
    assert fetched.revision == head.revision
    assert fetched.author is not None
    assert fetched.committer is not None
    assert (fetched.author.name, fetched.author.email) == ("Ada", "ada@example.org")
    assert (fetched.committer.name, fetched.committer.time) == ("Grace", "2023-11-14T22:13:20.000000Z")
    assert fetched.message == "begin\n\nWith a reason.\n"
    assert names(fetched) == ["a.yaml", "b/c.yaml"]
    assert await content(place, fetched, "b/c.yaml") == b"c: 2\n"
    assert fetched.size == fetched.path.stat().st_size


async def test_next_revision_is_fetched_upon_the_one_before(place: Place) -> None:
    place.repository.commit({"a.yaml": "a: 1\n", "b.yaml": "b: 1\n"})
    first = await place.fetch()
    place.repository.commit({"a.yaml": "a: 2\n", "b.yaml": "b: 1\n"})
    second = await place.fetch()
    assert await content(place, first, "a.yaml") == b"a: 1\n"
    assert await content(place, second, "a.yaml") == b"a: 2\n"
    assert await content(place, second, "b.yaml") == b"b: 1\n"
    git("fsck", "--full", "--strict", at=place.store.directory)


async def test_history_is_not_fetched(place: Place) -> None:
    old = place.repository.commit({"a.yaml": "a: 1\n"})
    place.repository.commit({"a.yaml": "a: 2\n"})
    await place.fetch()
    known = git("cat-file", "--batch-all-objects", "--batch-check", at=place.store.directory)
    assert old not in known


async def test_branch_that_was_rewritten_is_fetched_and_the_old_one_kept(place: Place) -> None:
    place.repository.commit({"a.yaml": "a: 1\n"})
    first = await place.fetch()
    rewritten = place.repository.commit({"z.yaml": "z: 1\n"}, orphan=True)
    git("reflog", "expire", "--expire=all", "--all", at=place.repository.path)
    git("gc", "--quiet", "--prune=now", at=place.repository.path)
    second = await place.fetch()
    assert second.revision.endswith(rewritten)
    assert names(second) == ["z.yaml"]
    assert await content(place, first, "a.yaml") == b"a: 1\n"


@pytest.mark.parametrize("annotated", [False, True])
async def test_tag_is_fetched_and_peeled(place: Place, annotated: bool) -> None:
    commit = place.repository.commit({"a.yaml": "a: 1\n"})
    place.repository.tag("v1", commit, annotated=annotated)
    place.repository.commit({"a.yaml": "a: 2\n"})
    fetched = await place.fetch(GitRef(tag="v1"))
    assert fetched.revision == f"v1@sha1:{commit}"
    assert await content(place, fetched, "a.yaml") == b"a: 1\n"


async def test_highest_version_of_a_range_is_fetched(place: Place) -> None:
    commits = {tag: place.repository.commit({"v": tag}) for tag in ("v1.9.0", "1.10.0", "v2.0.0-rc.1", "v2.0.0", "x")}
    for tag, commit in commits.items():
        place.repository.tag(tag, commit, annotated=tag.startswith("v"))
    assert (await place.fetch(GitRef(semver="1.x"))).revision == f"1.10.0@sha1:{commits['1.10.0']}"
    assert (await place.ask(GitRef(semver=">=1.0.0-0 <2.0.0"))).commit == commits["v2.0.0-rc.1"]
    assert (await place.ask(GitRef(semver="*"))).commit == commits["v2.0.0"]


async def test_of_equal_versions_the_newer_commit_is_fetched(place: Place) -> None:
    newer = place.repository.commit({"v": "newer"}, time_s=EPOCH + 60)
    older = place.repository.commit({"v": "older"}, time_s=EPOCH)
    place.repository.tag("1.0.0", newer)
    place.repository.tag("v1.0.0", older)
    assert (await place.ask(GitRef(semver="1.0.0"))).commit == newer


async def test_name_of_a_reference_keeps_its_whole_name(place: Place) -> None:
    commit = place.repository.commit({"a.yaml": "a: 1\n"})
    place.repository.reference("refs/pull/7/head", commit)
    fetched = await place.fetch(GitRef(name="refs/pull/7/head"))
    assert fetched.revision == f"refs/pull/7/head@sha1:{commit}"


@pytest.mark.parametrize("branch", ["", "main"])
@pytest.mark.parametrize("alone", [False, True])
async def test_commit_is_fetched_from_within_the_history(place: Place, branch: str, alone: bool) -> None:
    """Whether the server gives single commits or not."""
    git("config", "uploadpack.allowReachableSHA1InWant", str(alone).lower(), at=place.repository.path)
    commit = place.repository.commit({"a.yaml": "a: 1\n"})
    place.repository.commit({"a.yaml": "a: 2\n"})
    fetched = await place.fetch(GitRef(commit=commit, branch=branch))
    assert fetched.revision == (f"{branch}@sha1:{commit}" if branch else f"sha1:{commit}")
    assert await content(place, fetched, "a.yaml") == b"a: 1\n"


async def test_what_comes_first_wins(place: Place) -> None:
    """Commit before name before tag before semver before branch (GR-007)."""
    one, two, three, four, five = (place.repository.commit({"n": str(number)}) for number in range(5))
    place.repository.reference("refs/heads/named", two)
    place.repository.tag("tagged", three)
    place.repository.tag("1.0.0", four)
    whole = {"commit": one, "name": "refs/heads/named", "tag": "tagged", "semver": "1.x", "branch": "main"}
    for dropped, wanted in zip([None, "commit", "name", "tag", "semver"], [one, two, three, four, five], strict=True):
        whole.pop(dropped or "", None)
        assert (await place.fetch(GitRef(**whole))).revision.endswith(wanted)


async def test_without_a_reference_the_branch_is_master(place: Place) -> None:
    commit = place.repository.commit({"a": "1"}, branch="master")
    assert (await place.ask(GitRef())).revision == f"master@sha1:{commit}"


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        (GitRef(branch="gone"), "branch 'gone'"),
        (GitRef(tag="gone"), "tag 'gone'"),
        (GitRef(name="refs/x/gone"), "reference 'refs/x/gone'"),
        (GitRef(semver="9.x"), "range '9.x'"),
        (GitRef(commit="0" * 39 + "1"), "000001"),
        (GitRef(), "branch 'master'"),
    ],
)
async def test_reference_that_is_missing_is_named(place: Place, ref: GitRef, said: str) -> None:
    place.repository.commit({"a.yaml": "a: 1\n"})
    with pytest.raises(FetchError, match=said) as raised:
        await place.fetch(ref)
    assert raised.value.reason == "GitOperationFailed"
    assert "spec.ref" in raised.value.message
    assert not raised.value.final


async def test_empty_repository_is_called_so(place: Place) -> None:
    with pytest.raises(FetchError, match="is empty") as raised:
        await place.ask()
    assert raised.value.reason == "EmptyGitRepository"


async def test_ignored_files_are_not_in_the_artifact(place: Place) -> None:
    place.repository.commit({"a.yaml": "a", "b.jpg": "b", "docs/c.md": "c", ".sourceignore": "docs/\n"})
    assert names(await place.fetch()) == [".sourceignore", "a.yaml", "b.jpg"]
    again = await place.fetch(ignore="/*\n!/docs\n")
    assert names(again) == ["docs/c.md"]


async def test_tarball_is_what_the_contract_says(place: Place) -> None:
    place.repository.commit({"a.yaml": "a: 1\n", "run.sh*": "#!/bin/sh\n", "d/l@": "../a.yaml", "d/e": "e"})
    fetched = await place.fetch()
    with tarfile.open(fetched.path) as archive:
        members = {member.name: member for member in archive.getmembers()}
        assert {name: oct(member.mode) for name, member in members.items()} == {
            "a.yaml": "0o600",
            "run.sh": "0o700",
            "d": "0o750",
            "d/e": "0o600",
        }
        for member in members.values():
            assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0)
    head = fetched.path.read_bytes()[:10]
    assert head[:3] == b"\x1f\x8b\x08"
    assert head[3] == 0, "gzip has no name"
    assert head[4:8] == bytes(4), "gzip has no time"
    assert len(gzip.decompress(fetched.path.read_bytes())) % 512 == 0


async def test_submodule_is_left_out(place: Place) -> None:
    entries = [(0o100644, b"a", place.repository.blob(b"a")), (0o160000, b"sub", "1" * 40)]
    place.repository.commit_tree(place.repository.raw_tree(*entries))
    fetched = await place.fetch()
    assert names(fetched) == ["a"]
    assert set(await anyio.to_thread.run_sync(place.store.children, fetched.tree)) == {"a"}


async def test_hostile_tree_is_refused_and_leaves_nothing(place: Place) -> None:
    repository = place.repository
    bad = repository.raw_tree((0o100644, b"..", repository.blob(b"x")))
    repository.commit_tree(repository.raw_tree((0o40000, b"apps", bad)))
    before = await anyio.to_thread.run_sync(everything_in, place.store.directory)
    with pytest.raises(FetchError, match=r"apps/\.\. has the name") as raised:
        await place.fetch()
    assert raised.value.final
    assert await anyio.to_thread.run_sync(everything_in, place.store.directory) == before


def everything_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
