"""Who knows the id of what another source has brought does not get it: a remote has to send what it names."""

import anyio.to_thread
import pygit2
import pytest

from tests.servers.git_server import GitServer
from tests.servers.lying_git import BLOB, REF_DELTA, TREE, copy_of_all, lying_git, tree_of
from tests.servers.repositories import Repository
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git import Credentials, GitFetcher, GitRef, GitSpec
from tidelog.storage.artifacts import ArtifactStore

PRIVATE = "password: hunter2\n"


def spec_of(url: str, name: str = "app") -> GitSpec:
    return GitSpec(namespace="team", name=name, url=url, ref=GitRef(branch="main"), timeout_s=30.0)


@pytest.fixture
async def private(
    fetcher: GitFetcher, server: GitServer, repository: Repository, trusted: Credentials
) -> tuple[str, str, str]:
    """A commit that another source has in the store, its tree, and a blob in it."""
    commit = repository.commit({"secret.yaml": PRIVATE})
    spec = spec_of(server.url("app"), "private")
    await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted))
    tree = pygit2.Repository(str(repository.path))[commit].peel(pygit2.Commit).tree
    return commit, str(tree.id), str(tree["secret.yaml"].id)


@pytest.mark.parametrize("lie", ["a commit", "a tree", "a file", "what a delta builds upon"])
@pytest.mark.parametrize("before", [False, True], ids=["at first", "after a fetch of its own"])
async def test_what_another_source_has_is_not_got_by_its_name(
    fetcher: GitFetcher, store: ArtifactStore, private: tuple[str, str, str], lie: str, before: bool
) -> None:
    commit, tree, blob = private
    with lying_git() as lying:
        if before:
            lying.add_commit(lying.add(TREE, tree_of((b"100644", b"a.yaml", lying.add(BLOB, b"a: 1\n")))))
            own = await fetcher.fetch(spec_of(lying.url), Credentials(), await fetcher.ask(spec_of(lying.url)))
            assert own.revision.endswith(lying.tip)
        if lie == "a commit":
            lying.tip = commit
        elif lie == "a tree":
            lying.add_commit(tree)
        else:
            if lie != "a file":
                lying.objects.append((REF_DELTA, copy_of_all(len(PRIVATE)), blob))
            lying.add_commit(lying.add(TREE, tree_of((b"100644", b"stolen.yaml", blob))))
        head = await fetcher.ask(spec_of(lying.url))
        assert head.commit == lying.tip
        with pytest.raises(FetchError):
            await fetcher.fetch(spec_of(lying.url), Credentials(), head)
        kept = await anyio.to_thread.run_sync(store.holds, f"refs/tidelog/gitrepository/team/app/{lying.tip}")
        assert kept is None


async def test_what_two_sources_have_comes_to_each_and_only_what_is_new(
    fetcher: GitFetcher, server: GitServer, repository: Repository, trusted: Credentials
) -> None:
    files = {f"{number}.yaml": f"n: {number}\n" * 50 for number in range(50)}
    repository.commit(files)
    first, second = spec_of(server.url("app")), spec_of(server.url("app"), "other")
    # Not with the same credentials: then the second would not ask at all.
    other = Credentials(ca=trusted.ca, username="ada", password="any")
    for spec, credentials in ((first, trusted), (second, other)):
        await fetcher.fetch(spec, credentials, await fetcher.ask(spec, credentials))
    repository.commit(files | {"7.yaml": "n: 7\n" * 50 + "m: 8\n"})
    for spec, credentials in ((first, trusted), (second, other)):
        before = server.transfers
        fetched = await fetcher.fetch(spec, credentials, await fetcher.ask(spec, credentials))
        assert fetched.revision
        assert server.transfers - before <= 2  # what it has is told in one request, and answered in the next
