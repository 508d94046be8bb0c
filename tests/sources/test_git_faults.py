"""Remotes that are gone, slow, hostile or closed to us: each an error that says what to do, and never a secret."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest

from tests.servers.git_server import GitServer, git_server
from tests.servers.repositories import Repository, git
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git import Credentials, GitFetcher, GitRef, GitSpec
from tidelog.engine.sources.intake.intake import DEFAULT_SETTINGS, Settings
from tidelog.storage.artifacts import ArtifactStore, Limits

pytestmark = pytest.mark.slow

SECRET = "s3cr3t-p4ss"


def spec_of(url: str, timeout_s: float = 60.0, ref: GitRef | None = None) -> GitSpec:
    return GitSpec(namespace="team", name="app", url=url, ref=ref or GitRef(branch="main"), timeout_s=timeout_s)


async def fails(fetcher: GitFetcher, spec: GitSpec, credentials: Credentials) -> FetchError:
    """The error of asking and fetching; it holds no secret and names what to look at."""
    with pytest.raises(FetchError) as raised:
        await fetcher.fetch(spec, credentials, await fetcher.ask(spec, credentials))
    error = raised.value
    shown = f"{error!r} {error} {error.message} {error.__cause__!r} {credentials!r} {credentials}"
    for secret in filter(None, [credentials.password, credentials.token, credentials.authorization, SECRET]):
        assert secret not in shown
    return error


@pytest.fixture
def commit(repository: Repository) -> str:
    return repository.commit({"a.yaml": "a: 1\n"})


@pytest.mark.usefixtures("commit")
@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (401, "AuthenticationFailed", "name a Secret with credentials in spec.secretRef"),
        (403, "AuthenticationFailed", "name a Secret with credentials in spec.secretRef"),
        (404, "GitOperationFailed", "correct spec.url or, where it is private, name a Secret"),
        (500, "GitOperationFailed", "answers with status 500"),
        (503, "GitOperationFailed", "answers with status 503"),
        (429, "GitOperationFailed", "answers with status 429"),
    ],
)
async def test_status_is_told(
    fetcher: GitFetcher, server: GitServer, trusted: Credentials, status: int, reason: str, said: str
) -> None:
    server.behaviour.status = status
    error = await fails(fetcher, spec_of(server.url("app")), trusted)
    assert (error.reason, error.final) == (reason, False)
    assert said in error.message


@pytest.mark.usefixtures("commit")
@pytest.mark.parametrize("wrong", [{"username": "ada", "password": SECRET}, {"token": SECRET}])
async def test_wrong_credentials_are_told(fetcher: GitFetcher, server: GitServer, wrong: dict[str, str]) -> None:
    server.behaviour.username, server.behaviour.password = "ada", "right"
    error = await fails(fetcher, spec_of(server.url("app")), Credentials(ca=server.ca.decode(), **wrong))
    assert error.reason == "AuthenticationFailed"
    assert "refuses the credentials (status 401): correct the Secret" in error.message


@pytest.mark.usefixtures("commit")
async def test_unknown_authority_is_told(fetcher: GitFetcher, server: GitServer) -> None:
    error = await fails(fetcher, spec_of(server.url("app")), Credentials())
    assert error.reason == "GitOperationFailed"
    assert "put the certificate of its authority into ca.crt" in error.message
    assert not server.requests


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"001e# service=git-upload-pack\n0000", b"\0" * 1000])
async def test_web_server_is_no_git_server(
    fetcher: GitFetcher, server: GitServer, trusted: Credentials, body: bytes
) -> None:
    server.behaviour.body = body
    error = await fails(fetcher, spec_of(server.url("app")), trusted)
    assert error.reason == "GitOperationFailed"
    assert "is no Git repository" in error.message


async def test_host_that_is_gone_is_told(fetcher: GitFetcher) -> None:
    error = await fails(fetcher, spec_of("http://127.0.0.1:1/app.git"), Credentials())
    assert "cannot be reached" in error.message
    error = await fails(fetcher, spec_of("http://no-such-host.invalid/app.git"), Credentials())
    assert error.reason == "GitOperationFailed"


@pytest.mark.usefixtures("commit")
async def test_slow_remote_costs_no_more_than_the_timeout(
    fetcher: GitFetcher, server: GitServer, trusted: Credentials
) -> None:
    server.behaviour.hang = True
    error = await fails(fetcher, spec_of(server.url("app"), timeout_s=0.2), trusted)
    assert "did not answer within 0.2 s: raise spec.timeout" in error.message
    server.behaviour.hang = False
    spec = spec_of(server.url("app"))
    head = await fetcher.ask(spec, trusted)
    server.behaviour.hang_transfer = True
    with pytest.raises(FetchError, match=r"took longer than 0\.5 s to send: raise spec.timeout"):
        await fetcher.fetch(spec_of(server.url("app"), timeout_s=0.5), trusted, head)
    server.behaviour.hang_transfer = False
    assert (await fetcher.fetch(spec, trusted, head)).revision.endswith(head.commit)


async def test_transfer_that_is_cut_off_leaves_nothing(
    fetcher: GitFetcher, store: ArtifactStore, server: GitServer, repository: Repository, trusted: Credentials
) -> None:
    repository.commit({f"{n}.yaml": os.urandom(2000) for n in range(50)})
    spec = spec_of(server.url("app"))
    for cut in (0, 100, 20_000):
        server.behaviour.cut_after_bytes = cut
        error = await fails(fetcher, spec, trusted)
        assert error.reason == "GitOperationFailed"
        assert not error.final
    assert not await anyio.to_thread.run_sync(lambda: list(store.directory.rglob("*.pack")))
    assert not await anyio.to_thread.run_sync(lambda: list((store.directory / "tidelog" / "incoming").iterdir()))
    server.behaviour.cut_after_bytes = None
    await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted))


async def test_redirect_to_another_host_does_not_get_the_credentials(
    fetcher: GitFetcher, server: GitServer, repository: Repository, commit: str
) -> None:
    credentials = Credentials(username="ada", password=SECRET, ca=server.ca.decode())
    with git_server(server.root) as other:
        both = Credentials(username="ada", password=SECRET, ca=(server.ca + other.ca).decode())
        server.behaviour.redirect = other.address
        spec = spec_of(server.url("app"))
        fetched = await fetcher.fetch(spec, both, await fetcher.ask(spec, both))
        assert fetched.revision.endswith(commit)
        assert server.requests[0].authorization == credentials.authorization
        assert other.transfers
        assert [request.authorization for request in other.requests if request.authorization] == []
        other.behaviour.username, other.behaviour.password = "ada", SECRET
        error = await fails(fetcher, spec, both)
        assert error.reason == "AuthenticationFailed"
        assert f"sends us to {other.url('app')}, which does not get the credentials" in error.message


@pytest.mark.usefixtures("commit")
async def test_transfer_is_never_redirected(fetcher: GitFetcher, server: GitServer) -> None:
    credentials = Credentials(username="ada", password=SECRET, ca=server.ca.decode())
    with git_server(server.root) as other:
        server.behaviour.redirect_transfer = other.address
        error = await fails(fetcher, spec_of(server.url("app")), credentials)
        assert error.reason == "GitOperationFailed"
        assert not other.requests


@pytest.mark.usefixtures("commit")
@pytest.mark.parametrize("to", ["file:///etc", "ssh://localhost", "http://localhost:1", "gopher://x", ""])
async def test_redirect_leads_nowhere_but_to_a_repository(
    fetcher: GitFetcher, server: GitServer, trusted: Credentials, to: str
) -> None:
    """Not to a file, not from https to http, and not in a circle."""
    server.behaviour.redirect = to
    error = await fails(fetcher, spec_of(server.url("app")), trusted)
    assert "sends us" in error.message


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ssh://git@example.org/app.git", "ssh address, which is not supported yet"),
        ("git@example.org:app.git", "must begin with https"),
        ("ftp://example.org/app", "must begin with https"),
        ("https://", "name a host"),
        ("https://example.org:99999/", "no address"),
        ("https://example.org/a b", "white space"),
        ("https://example.org/app.git?token=hidden-one", "has a query"),
        ("file:///etc", "only the repository given with --repo"),
    ],
)
async def test_address_that_is_none_is_refused(fetcher: GitFetcher, url: str, said: str) -> None:
    error = await fails(fetcher, spec_of(url), Credentials())
    assert (error.reason, error.final) == ("URLInvalid", True)
    assert said in error.message
    assert "hidden-one" not in error.message


async def test_credentials_in_the_address_are_used_and_never_shown(
    fetcher: GitFetcher, server: GitServer, commit: str
) -> None:
    server.behaviour.username, server.behaviour.password = "ada", SECRET
    trusted = Credentials(ca=server.ca.decode())
    url = server.url("app").replace("https://", f"https://ada:{SECRET}@")
    spec = spec_of(url)
    assert (await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted))).revision.endswith(commit)
    server.behaviour.password = "other"
    error = await fails(fetcher, spec, trusted)
    assert error.reason == "AuthenticationFailed"
    server.behaviour.hang = True
    await fails(fetcher, spec_of(url, timeout_s=0.1), trusted)


@pytest.fixture
async def local(store: ArtifactStore, repository: Repository) -> AsyncIterator[GitFetcher]:
    async with GitFetcher(store, local=repository.path) as opened:
        yield opened


@pytest.mark.usefixtures("commit")
async def test_only_the_repository_of_the_command_line_is_read(
    local: GitFetcher, repository: Repository, tmp_path: Path
) -> None:
    other = Repository.create(tmp_path / "other.git")
    other.commit({"a": "1"})
    for path in (other.path, repository.path.parent, repository.path / ".." / "other.git"):
        error = await fails(local, spec_of(f"file://{path}"), Credentials())
        assert error.reason == "URLInvalid"


@pytest.mark.usefixtures("commit")
async def test_borrowed_objects_are_not_read(local: GitFetcher, repository: Repository, tmp_path: Path) -> None:
    other = Repository.create(tmp_path / "other.git")
    alternates = repository.path / "objects" / "info" / "alternates"
    alternates.write_text(f"{other.path}/objects\n")
    error = await fails(local, spec_of(repository.path.resolve().as_uri()), Credentials())
    assert "borrows objects" in error.message


async def test_too_much_is_refused(
    store: ArtifactStore, server: GitServer, repository: Repository, trusted: Credentials
) -> None:
    repository.commit({f"{n}.yaml": os.urandom(500) for n in range(200)})
    for limits, said in (
        (Limits(transfer_bytes=50_000), "the remote sends too much"),
        (Limits(entries=100), "at most 100 files"),
        (Limits(file_bytes=100), "has 500 bytes; 100 are the most"),
    ):
        async with GitFetcher(store, settings=Settings(limits=limits)) as fetcher:
            error = await fails(fetcher, spec_of(server.url("app")), trusted)
            assert said in error.message
    assert not await anyio.to_thread.run_sync(lambda: list(store.directory.rglob("*.pack")))


async def test_transfer_that_takes_too_much_memory_is_stopped(
    store: ArtifactStore, server: GitServer, repository: Repository, trusted: Credentials
) -> None:
    """A file that packs well: 120 MiB of nothing."""
    repository.commit({"zero": bytes(120 * 2**20)})
    settings = Settings(limits=Limits(file_bytes=2**30), memory_bytes=100 * 2**20)
    async with GitFetcher(store, settings=settings) as fetcher:
        error = await fails(fetcher, spec_of(server.url("app")), trusted)
        assert "memory" in error.message or "broke off" in error.message
    async with GitFetcher(store, settings=DEFAULT_SETTINGS) as fetcher:
        error = await fails(fetcher, spec_of(server.url("app")), trusted)
        assert "zero has 125829120 bytes" in error.message


async def test_program_that_was_killed_is_started_again(
    fetcher: GitFetcher, server: GitServer, repository: Repository, trusted: Credentials
) -> None:
    spec = spec_of(server.url("app"))
    for number in range(3):
        commit = repository.commit({"n": str(number)})
        assert (await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted))).revision.endswith(commit)
        program = fetcher._intake._workers._program
        assert program is not None
        os.kill(program.pid, signal.SIGKILL)
        await program.wait()


async def test_program_that_hangs_is_replaced(
    fetcher: GitFetcher, server: GitServer, repository: Repository, trusted: Credentials, commit: str
) -> None:
    spec = spec_of(server.url("app"))
    await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted))
    program = fetcher._intake._workers._program
    assert program is not None
    os.kill(program.pid, signal.SIGSTOP)
    commit = repository.commit({"n": "2"})
    head = await fetcher.ask(spec, trusted)
    with pytest.raises(FetchError, match=r"took longer than 0\.3 s"):
        await fetcher.fetch(spec_of(server.url("app"), timeout_s=0.3), trusted, head)
    assert (await fetcher.fetch(spec, trusted, head)).revision.endswith(commit)


@pytest.mark.usefixtures("commit")
async def test_process_knows_nothing_of_us(
    fetcher: GitFetcher, server: GitServer, trusted: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither arguments nor environment hold anything but the interpreter's."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    spec = spec_of(server.url("app"))
    await fetcher.fetch(spec, Credentials(token=SECRET, ca=trusted.ca), await fetcher.ask(spec, trusted))
    program = fetcher._intake._workers._program
    assert program is not None
    arguments = await anyio.Path(f"/proc/{program.pid}/cmdline").read_bytes()
    assert arguments.split(b"\0")[1:4] == [b"-I", b"-m", b"tidelog.engine.sources.intake.worker"]
    environment = await anyio.Path(f"/proc/{program.pid}/environ").read_bytes()
    assert environment.strip(b"\0") == b"LANG=C.UTF-8"


async def test_what_is_asked_at_once_is_asked_once(
    fetcher: GitFetcher, server: GitServer, repository: Repository, trusted: Credentials, commit: str
) -> None:
    specs = [
        GitSpec(namespace="team", name=f"app-{n}", url=server.url("app"), ref=GitRef(branch="main")) for n in range(20)
    ]
    fetched = []

    async def one(spec: GitSpec) -> None:
        fetched.append(await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted)))

    async with anyio.create_task_group() as tasks:
        for spec in specs:
            tasks.start_soon(one, spec)
    assert all(each.revision.endswith(commit) for each in fetched)
    assert sum(request.method == "GET" and request.protocol is not None for request in server.requests) == 1
    told = server.transfers
    await one(specs[0])
    await one(GitSpec(namespace="other", name="app", url=server.url("app"), ref=GitRef(branch="main")))
    assert server.transfers == told, "what is there is not transferred again"
    repository.commit({"another": "1"})
    await one(GitSpec(namespace="alone", name="app", url=server.url("app"), ref=GitRef(branch="main")))
    assert server.transfers - told == told, "twenty at once took what one takes"


@pytest.mark.usefixtures("commit")
async def test_what_differs_only_in_what_is_left_out_and_how_long_it_may_take_is_transferred_once(
    fetcher: GitFetcher, server: GitServer, repository: Repository, trusted: Credentials, store: ArtifactStore
) -> None:
    repository.commit({"a.yaml": "a: 1\n", "docs/b.md": "b\n"})
    alone = GitSpec(namespace="alone", name="app", url=server.url("app"), ref=GitRef(branch="main"), ignore="*.jpg\n")
    trees: dict[str, list[str]] = {}

    async def one(spec: GitSpec) -> None:
        fetched = await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted))
        trees[spec.name] = sorted(await anyio.to_thread.run_sync(store.children, fetched.tree))

    await one(alone)
    told = server.transfers
    repository.commit({"a.yaml": "a: 2\n", "docs/b.md": "b\n"})
    async with anyio.create_task_group() as tasks:
        for name, ignore, timeout_s in (
            ("all", None, 60.0),
            ("quick", None, 30.0),
            ("docs", "/*\n!/docs\n", 60.0),
            ("yaml", "/docs\n", 20.0),
        ):
            spec = msgspec.structs.replace(alone, namespace="team", name=name, ignore=ignore, timeout_s=timeout_s)
            tasks.start_soon(one, spec)
    assert server.transfers - told == told, "four at once took what one takes"
    everything = ["a.yaml", "docs"]
    assert trees == {"app": everything, "all": everything, "quick": everything, "docs": ["docs"], "yaml": ["a.yaml"]}


@pytest.mark.parametrize(("first_s", "second_s"), [(3.0, 90.0), (90.0, 3.0)])
async def test_a_transfer_that_hangs_holds_nobody_up_who_has_another_time_limit(
    fetcher: GitFetcher,
    server: GitServer,
    repository: Repository,
    trusted: Credentials,
    first_s: float,
    second_s: float,
) -> None:
    repository.commit({"a.yaml": "a: 1\n"})
    first = spec_of(server.url("app"), first_s)
    second = GitSpec(namespace="team", name="second", url=first.url, ref=first.ref, timeout_s=second_s)
    await fetcher.fetch(first, trusted, await fetcher.ask(first, trusted))  # so that the program for transfers is there
    commit, told = repository.commit({"a.yaml": "a: 2\n"}), server.transfers
    head = await fetcher.ask(first, trusted)
    server.behaviour.hang_transfer = True
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:

            async def hangs() -> None:
                with pytest.raises(FetchError, match=f"took longer than {first_s:g} s"):
                    await fetcher.fetch(first, trusted, head)

            tasks.start_soon(hangs)
            while server.transfers == told:  # noqa: ASYNC110  # the server runs in threads
                await anyio.sleep(0.01)
            server.behaviour.hang_transfer = False
            assert (await fetcher.fetch(second, trusted, head)).revision.endswith(commit)
            tasks.cancel_scope.cancel()


@pytest.mark.usefixtures("commit")
async def test_other_credentials_ask_for_themselves(
    fetcher: GitFetcher, server: GitServer, trusted: Credentials
) -> None:
    """What one may see is never given to another who only knows its name."""
    server.behaviour.username, server.behaviour.password = "ada", SECRET
    good = Credentials(username="ada", password=SECRET, ca=trusted.ca)
    spec = spec_of(server.url("app"))
    head = await fetcher.ask(spec, good)
    await fetcher.fetch(spec, good, head)
    stranger = GitSpec(namespace="stranger", name="app", url=spec.url, ref=GitRef(commit=head.commit))
    with pytest.raises(FetchError) as raised:
        await fetcher.fetch(stranger, trusted, await fetcher.ask(stranger, trusted))
    assert raised.value.reason == "AuthenticationFailed"


async def test_restart_transfers_nothing(
    store: ArtifactStore, server: GitServer, trusted: Credentials, commit: str
) -> None:
    spec = spec_of(server.url("app"))
    async with GitFetcher(store) as fetcher:
        first = await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted))
    told = server.transfers
    async with GitFetcher(store) as fetcher:
        assert await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted)) == first
    assert server.transfers == told


async def test_damaged_store_is_fetched_again(
    store: ArtifactStore, server: GitServer, trusted: Credentials, commit: str, tmp_path: Path
) -> None:
    spec = spec_of(server.url("app"))
    async with GitFetcher(store) as fetcher:
        first = await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted))
    for pack in (store.directory / "objects" / "pack").iterdir():
        pack.unlink()
    first.path.unlink()
    again = await anyio.to_thread.run_sync(ArtifactStore.open, store.directory.parent)
    async with GitFetcher(again) as fetcher:
        assert await fetcher.fetch(spec, trusted, await fetcher.ask(spec, trusted)) == first
    git("fsck", "--full", at=store.directory)
    await anyio.to_thread.run_sync(again.close)


@pytest.mark.usefixtures("commit")
async def test_cancelling_ends_the_transfer(
    fetcher: GitFetcher, store: ArtifactStore, server: GitServer, trusted: Credentials
) -> None:
    spec = spec_of(server.url("app"))
    head = await fetcher.ask(spec, trusted)
    server.behaviour.hang_transfer = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetcher.fetch, spec, trusted, head)
        while not server.transfers:  # noqa: ASYNC110  # the server runs in threads
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    server.behaviour.hang_transfer = False
    assert (await fetcher.fetch(spec, trusted, head)).revision.endswith(head.commit)
    assert not await anyio.to_thread.run_sync(lambda: list((store.directory / "tidelog" / "incoming").iterdir()))
