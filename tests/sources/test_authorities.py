"""Whom a remote's certificate may be from: the system's authorities, and those of the Secret beside them (CM-077)."""

from pathlib import Path

import pytest

from tests.servers.git_server import GitServer, git_server
from tests.servers.repositories import Repository
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git import Credentials, GitFetcher, GitRef, GitSpec

pytestmark = pytest.mark.slow


def spec_of(server: GitServer) -> GitSpec:
    """A source of its own for each server: what one has brought is not transferred for it again."""
    name = server.address.rpartition(":")[2]
    return GitSpec(namespace="team", name=name, url=server.url("app"), ref=GitRef(branch="main"))


async def test_authorities_of_a_secret_are_trusted_beside_those_of_the_system(
    fetcher: GitFetcher, server: GitServer, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "system.pem"
    system.write_bytes(server.ca)
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    commit = repository.commit({"a.yaml": "a: 1\n"})
    with git_server(server.root) as other:
        theirs = Credentials(ca=other.ca.decode())
        for one in (server, other):
            spec = spec_of(one)
            assert (await fetcher.fetch(spec, theirs, await fetcher.ask(spec, theirs))).revision.endswith(commit)
            assert one.transfers
        with pytest.raises(FetchError, match="certificate"):
            await fetcher.ask(spec_of(other), Credentials())
