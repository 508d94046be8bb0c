"""Repositories over HTTP: what is asked, what is not asked twice, who gets the credentials, and what goes wrong."""

import gzip
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import trustme

from tests.oracles.helm import digest_of_file, helm
from tests.servers.chart_server import ChartServer, chart_server
from tests.sources.helm.conftest import write_chart
from tidelog.engine.sources.access import PLAIN_TLS, Tls
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm import (
    ChartSpec,
    ChartVersion,
    Credentials,
    Dependency,
    HelmFetcher,
    IndexRead,
    RepositorySpec,
    Unchanged,
    choose_version,
    credentials_of,
    package,
    revalue,
    versions_of,
)
from tidelog.engine.sources.helm.workers import Workers
from tidelog.engine.sources.limits import HelmLimits

SECRET = "kept/out of=every:line"
WHO = Credentials(username="ada", password=SECRET)


@pytest.fixture
def other(repository: Path) -> Iterator[ChartServer]:
    """The same files on another port, without TLS."""
    with chart_server(repository, tls=False) as running:
        yield running


async def read(fetcher: HelmFetcher, server: ChartServer, into: Path, **more: object) -> IndexRead:
    spec = RepositorySpec(url=server.url)
    found = await fetcher.index(spec, into, tls=Tls(ca=server.ca), **more)  # type: ignore[arg-type]
    assert isinstance(found, IndexRead)
    return found


def is_there(path: Path) -> bool:
    return path.exists()


async def failure(fetcher: HelmFetcher, spec: RepositorySpec, into: Path, tls: Tls = PLAIN_TLS) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await fetcher.index(spec, into, tls=tls)
    assert not is_there(into)
    return caught.value


async def chosen(fetcher: HelmFetcher, server: ChartServer, into: Path, wanted: str = "6.1.0") -> ChartVersion:
    found = await read(fetcher, server, into)
    return choose_version(versions_of(found.stored, "podinfo"), "podinfo", wanted, server.url)


def write_index(into: Path, megabytes: int) -> None:
    """An index as of a repository of many charts, each of 200 versions."""
    with into.open("w") as file:
        file.write("apiVersion: v1\nentries:\n")
        for chart in itertools.count():
            if file.tell() >= megabytes * 1_000_000:
                break
            file.write(f"  chart-{chart}:\n")
            for version in range(200):
                file.write(
                    f"  - apiVersion: v2\n    name: chart-{chart}\n    version: 1.{version}.0\n"
                    f"    description: {'what it is for, in many words; ' * 12}\n    digest: {version:064x}\n"
                    f"    created: '2026-01-02T03:04:05Z'\n    urls:\n    - charts/chart-{chart}-1.{version}.0.tgz\n"
                )


def peaks() -> dict[int, int]:
    """The most memory, in bytes, that each process that this one started ever had."""
    found = {}
    for children in Path("/proc/self/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            status = Path(f"/proc/{child}/status").read_text()
            found[child] = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return found


@pytest.mark.parametrize(
    "megabytes",
    [pytest.param(4, marks=pytest.mark.slow), pytest.param(40, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
async def test_a_large_index_is_read_once_in_the_memory_of_a_chart(megabytes: int, tmp_path: Path) -> None:
    root, into = tmp_path / "root", tmp_path / "index"
    root.mkdir()
    (root / "index.yaml").write_text("apiVersion: v1\nentries: {}\n")
    with chart_server(root, tls=False) as running:
        async with HelmFetcher() as fetcher:
            spec = RepositorySpec(url=running.url)
            before = peaks()
            await fetcher.index(spec, into)
            (worker,) = peaks().keys() - before.keys()
            small = peaks()[worker]
            own = await anyio.to_thread.run_sync(resident)
            await anyio.to_thread.run_sync(write_index, root / "index.yaml", megabytes)
            found = await fetcher.index(spec, into)
            assert isinstance(found, IndexRead)
            assert found.size > megabytes * 1_000_000
            grown = peaks()[worker] - small
            assert grown < 8 * 2**20, grown
            assert await anyio.to_thread.run_sync(resident) - own < 8 * 2**20
            (newest, *_) = versions_of(into, "chart-3")
            assert newest.version == "1.199.0"
            written = into.stat().st_mtime_ns
            asked = len(running.requests)
            assert found.etag
            assert isinstance(await fetcher.index(spec, into, etag=found.etag, revision=found.revision), Unchanged)
            assert [one.condition for one in running.requests[asked:]] == [found.etag]
            assert into.stat().st_mtime_ns == written


def resident() -> int:
    """Bytes of this process's own, in memory now."""
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) * 1024


async def test_index_is_read_and_stored(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    found = await read(fetcher, server, tmp_path / "index")
    source = server.root / "index.yaml"
    assert found.revision == f"sha256:{digest_of_file(source)}"
    assert found.size == source.stat().st_size
    assert found.stored == tmp_path / "index"
    assert found.digest == f"sha256:{digest_of_file(found.stored)}"
    assert found.stored_size == found.stored.stat().st_size
    assert (found.charts, found.versions) == (2, 6)
    assert json.loads(found.stored.read_text())["apiVersion"] == "v1"


async def test_index_is_not_sent_again_while_its_tag_holds(
    fetcher: HelmFetcher, server: ChartServer, tmp_path: Path
) -> None:
    first = await read(fetcher, server, tmp_path / "index")
    spec, tls = RepositorySpec(url=server.url), Tls(ca=server.ca)
    assert await fetcher.index(spec, tmp_path / "again", tls=tls, etag=first.etag) == Unchanged(first.etag)
    assert server.requests[-1].condition == first.etag
    assert not (tmp_path / "again").exists()
    index = server.root / "index.yaml"
    index.write_text(index.read_text().replace("6.1.0", "6.1.7"))
    changed = await fetcher.index(spec, tmp_path / "again", tls=tls, etag=first.etag)
    assert isinstance(changed, IndexRead)
    assert changed.revision != first.revision


async def test_a_time_does_where_there_is_no_tag(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    server.behaviour.tags, server.behaviour.times = False, True
    first = await read(fetcher, server, tmp_path / "index")
    assert first.etag.startswith("Last-Modified: ")
    spec, tls = RepositorySpec(url=server.url), Tls(ca=server.ca)
    assert isinstance(await fetcher.index(spec, tmp_path / "again", tls=tls, etag=first.etag), Unchanged)


async def test_an_index_that_is_the_same_is_not_read_again(
    fetcher: HelmFetcher, server: ChartServer, tmp_path: Path
) -> None:
    server.behaviour.tags = False
    first = await read(fetcher, server, tmp_path / "index")
    assert first.etag == ""
    spec, tls = RepositorySpec(url=server.url), Tls(ca=server.ca)
    again = await fetcher.index(spec, tmp_path / "again", tls=tls, revision=first.revision)
    assert again == Unchanged("")


async def test_what_is_asked_for_at_once_is_asked_once(
    fetcher: HelmFetcher, server: ChartServer, tmp_path: Path
) -> None:
    server.behaviour.delay_s = 0.2
    found: list[IndexRead] = []

    async def one(number: int) -> None:
        found.append(await read(fetcher, server, tmp_path / f"index{number}"))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(one, number)
    assert server.count("index.yaml") == 1
    assert len({digest_of_file(read.stored) for read in found}) == 1
    assert len({read.stored for read in found}) == 20


async def test_chart_is_fetched_once_for_all(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    version = await chosen(fetcher, server, tmp_path / "index")
    spec, tls = RepositorySpec(url=server.url), Tls(ca=server.ca)
    every = [await fetcher.chart(spec, version, tmp_path / f"{number}.tgz", tls=tls) for number in range(100)]
    fetched = every[-1]
    assert fetched.path == tmp_path / "99.tgz"
    assert server.count("podinfo-6.1.0.tgz") == 1
    assert fetched.digest == f"sha256:{version.digest}" == f"sha256:{digest_of_file(fetched.path)}"


async def test_a_chart_that_others_may_see_is_fetched_with_ones_own_credentials(
    fetcher: HelmFetcher, server: ChartServer, tmp_path: Path
) -> None:
    version = await chosen(fetcher, server, tmp_path / "index")
    server.behaviour.username, server.behaviour.password = WHO.username, WHO.password
    spec, tls = RepositorySpec(url=server.url), Tls(ca=server.ca)
    await fetcher.chart(spec, version, tmp_path / "mine.tgz", tls=tls, credentials=WHO)
    with pytest.raises(FetchError, match="asks who we are"):
        await fetcher.chart(spec, version, tmp_path / "theirs.tgz", tls=tls)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("charts/a.tgz", "/base/charts/a.tgz"),
        ("/a.tgz", "/a.tgz"),
        ("../a.tgz", "/a.tgz"),
        ("a.tgz?x=1", "/base/a.tgz?sig=2"),
    ],
)
async def test_addresses_within_the_repository(
    url: str, path: str, fetcher: HelmFetcher, server: ChartServer, tmp_path: Path
) -> None:
    spec = RepositorySpec(url=f"{server.url}/base/?sig=2")
    with pytest.raises(FetchError) as caught:
        await fetcher.chart(
            spec, ChartVersion(name="a", version="1.0.0", urls=(url,)), tmp_path / "a", tls=Tls(ca=server.ca)
        )
    assert server.requests[-1].path.removesuffix("?sig=2") == path.removesuffix("?sig=2")
    assert "sig=2" not in caught.value.message


@pytest.mark.parametrize(("asked", "gets"), [(False, False), (True, True)])
async def test_another_host_gets_the_credentials_only_when_asked(
    asked: bool, gets: bool, fetcher: HelmFetcher, server: ChartServer, other: ChartServer, tmp_path: Path
) -> None:
    version = ChartVersion(name="podinfo", version="6.1.0", urls=(f"{other.url}/podinfo-6.1.0.tgz",))
    spec = RepositorySpec(url=server.url, pass_credentials=asked)
    await fetcher.chart(spec, version, tmp_path / "a.tgz", credentials=WHO, tls=Tls(ca=server.ca))
    assert other.requests[-1].authorization == (WHO.authorization if gets else None)


@pytest.mark.parametrize("asked", [False, True])
async def test_a_redirect_to_another_host_gets_no_credentials(
    asked: bool, fetcher: HelmFetcher, other: ChartServer, repository: Path, tmp_path: Path
) -> None:
    """Not even with passCredentials, which is of the addresses in the index: stores of files refuse them."""
    with chart_server(repository, tls=False) as first:
        first.behaviour.redirect = other.url
        spec = RepositorySpec(url=first.url, pass_credentials=asked)
        await fetcher.index(spec, tmp_path / "index", credentials=WHO)
        assert first.requests[-1].authorization == WHO.authorization
        assert other.requests[-1].authorization is None
        other.behaviour.username = "ada"
        with pytest.raises(FetchError, match="which does not get the credentials") as caught:
            await fetcher.index(spec, tmp_path / "other", credentials=WHO)
    assert caught.value.reason == "AuthenticationFailed"
    assert SECRET not in caught.value.message


async def test_https_is_not_left_for_http(
    fetcher: HelmFetcher, server: ChartServer, other: ChartServer, tmp_path: Path
) -> None:
    server.behaviour.redirect = other.url
    error = await failure(fetcher, RepositorySpec(url=server.url), tmp_path / "index", Tls(ca=server.ca))
    assert "from https to http" in error.message
    assert other.requests == []


async def test_a_circle_ends(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    server.behaviour.redirect = server.url
    error = await failure(fetcher, RepositorySpec(url=server.url), tmp_path / "index", Tls(ca=server.ca))
    assert "in a circle" in error.message


async def test_credentials_in_the_address_are_used_and_not_shown(
    fetcher: HelmFetcher, other: ChartServer, tmp_path: Path
) -> None:
    other.behaviour.username, other.behaviour.password = "ada", "pw"
    url = other.url.replace("://", "://ada:pw@")
    await fetcher.index(RepositorySpec(url=url), tmp_path / "index")
    error = await failure(fetcher, RepositorySpec(url=url.replace(":pw@", ":wrong@")), tmp_path / "other")
    assert error.reason == "AuthenticationFailed"
    assert "refuses the credentials" in error.message
    assert "wrong" not in error.message


async def test_our_own_certificate_is_shown(fetcher: HelmFetcher, repository: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    ours = authority.issue_cert("client.example.org")
    with chart_server(repository, client_ca=authority) as strict:
        secret = {
            "ca.crt": strict.ca.encode(),
            "tls.crt": b"".join(blob.bytes() for blob in ours.cert_chain_pems),
            "tls.key": ours.private_key_pem.bytes(),
            "username": b"ada",
            "password": b"pw\n",
        }
        who, tls = credentials_of(secret, "both")
        assert who == Credentials(username="ada", password="pw")
        await fetcher.index(RepositorySpec(url=strict.url), tmp_path / "index", credentials=who, tls=tls)
        await failure(fetcher, RepositorySpec(url=strict.url), tmp_path / "other", Tls(ca=strict.ca))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"username": b"ada"}, "has no password"),
        ({"password": b"pw"}, "has no username"),
        ({"username": b"a\nb", "password": b"pw"}, "username of more than one line"),
        ({"tls.crt": b"-----BEGIN CERTIFICATE-----"}, "spec.secretRef: the Secret it has no tls.key"),
    ],
)
def test_secrets_that_are_not_whole(data: dict[str, bytes], message: str) -> None:
    with pytest.raises(FetchError, match=message) as caught:
        credentials_of(data, "it")
    assert (caught.value.reason, caught.value.final) == ("AuthenticationFailed", True)
    assert SECRET not in f"{WHO}{WHO!r}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://example.org", "must begin with https"),
        ("https://", "must begin with https"),
        ("oci://example.org/charts", "set spec.type to oci"),
        ("https://exa mple.org", "white space"),
        ("https://example.org:port", "must begin with https"),
    ],
)
async def test_addresses_that_are_none(url: str, message: str, fetcher: HelmFetcher, tmp_path: Path) -> None:
    error = await failure(fetcher, RepositorySpec(url=url), tmp_path / "index")
    assert (error.reason, error.final) == ("URLInvalid", True)
    assert message in error.message


async def test_an_authority_that_nobody_trusts(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    error = await failure(fetcher, RepositorySpec(url=server.url), tmp_path / "index")
    assert error.reason == "Failed"
    assert "ca.crt of spec.certSecretRef" in error.message


@pytest.mark.parametrize(
    ("status", "headers", "reason", "message"),
    [
        (404, {}, "Failed", "the index is not at"),
        (401, {}, "AuthenticationFailed", "asks who we are (status 401)"),
        (403, {}, "AuthenticationFailed", "asks who we are (status 403)"),
        (429, {"Retry-After": "120"}, "Failed", "status 429 and wants to be left alone for 120 s"),
        (
            503,
            {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"},
            "Failed",
            "and wants to be left alone until 2026-10-21T07:28:00+00:00",
        ),
        (500, {"Retry-After": "soon"}, "Failed", "answers with status 500: it is asked again"),
    ],
)
async def test_what_a_server_refuses(
    status: int,
    headers: dict[str, str],
    reason: str,
    message: str,
    fetcher: HelmFetcher,
    server: ChartServer,
    tmp_path: Path,
) -> None:
    server.behaviour.status, server.behaviour.headers = status, headers
    error = await failure(fetcher, RepositorySpec(url=server.url), tmp_path / "index", Tls(ca=server.ca))
    assert (error.reason, error.final) == (reason, False)
    assert message in error.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html><body>Sign in</body></html>", "a page for people"),
        (b"apiVersion: v1\nentries:\n  web: [\n", "line 4"),
        (b"", "it is empty"),
        (b"\x00\x01", "no index of a Helm repository"),
    ],
)
async def test_a_body_that_is_no_index(
    body: bytes, message: str, fetcher: HelmFetcher, server: ChartServer, tmp_path: Path
) -> None:
    server.behaviour.body = body
    error = await failure(fetcher, RepositorySpec(url=server.url), tmp_path / "index", Tls(ca=server.ca))
    assert (error.reason, error.final) == ("IndexationFailed", True)
    assert message in error.message
    assert f"{server.url}/index.yaml" in error.message


async def test_an_index_that_is_broken_off(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    server.behaviour.cut_after_bytes = 700
    error = await failure(fetcher, RepositorySpec(url=server.url), tmp_path / "index", Tls(ca=server.ca))
    assert (error.reason, error.final) == ("Failed", False)
    assert "broken off before its end" in error.message


async def test_a_server_that_stalls(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    server.behaviour.stall_after_bytes = 700
    spec = RepositorySpec(url=server.url, timeout_s=0.7)
    error = await failure(fetcher, spec, tmp_path / "index", Tls(ca=server.ca))
    assert (error.reason, error.final) == ("Failed", False)
    assert "was not sent within 0.7 s" in error.message


@pytest.mark.parametrize("is_zipped", [False, True])
async def test_an_index_of_one_byte_too_many(
    is_zipped: bool, fetcher: HelmFetcher, server: ChartServer, tmp_path: Path
) -> None:
    most = 50 * 2**20
    content = b"apiVersion: v1\nentries: {}\n" + b"#" * (most - 26)
    assert len(content) == most + 1
    server.behaviour.body = gzip.compress(content, 1) if is_zipped else content
    if is_zipped:
        server.behaviour.encoding = "gzip"
    error = await failure(fetcher, RepositorySpec(url=server.url), tmp_path / "index", Tls(ca=server.ca))
    assert (error.reason, error.final) == ("Failed", True)
    assert f"more than the {most} bytes" in error.message


async def test_an_index_and_a_chart_are_as_large_as_is_said(server: ChartServer, tmp_path: Path) -> None:
    spec, tls = RepositorySpec(url=server.url), Tls(ca=server.ca)
    async with HelmFetcher(limits=HelmLimits(index_bytes=100, chart_bytes=50 * 2**20)) as fetcher:
        error = await failure(fetcher, spec, tmp_path / "index", tls)
        assert "more than the 100 bytes" in error.message
        server.behaviour.body = os.urandom(10 * 2**20 + 1)
        version = ChartVersion(name="a", version="1.0.0", urls=("a.tgz",))
        found = await fetcher.chart(spec, version, tmp_path / "a.tgz", tls=tls)
        assert found.size == 10 * 2**20 + 1


async def test_a_chart_with_another_digest_is_refused(
    fetcher: HelmFetcher, server: ChartServer, tmp_path: Path
) -> None:
    version = await chosen(fetcher, server, tmp_path / "index")
    (server.root / "podinfo-6.1.0.tgz").write_bytes((server.root / "podinfo-6.0.0.tgz").read_bytes())
    with pytest.raises(FetchError, match=f"and the index says {version.digest}") as caught:
        await fetcher.chart(RepositorySpec(url=server.url), version, tmp_path / "a.tgz", tls=Tls(ca=server.ca))
    assert (caught.value.reason, caught.value.final) == ("ChartPullError", False)
    assert not (tmp_path / "a.tgz").exists()


async def test_a_chart_of_11_mib_is_refused(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    server.behaviour.body = os.urandom(10 * 2**20 + 1)
    version = ChartVersion(name="a", version="1.0.0", urls=("a.tgz",))
    with pytest.raises(FetchError, match="more than the 10485760 bytes") as caught:
        await fetcher.chart(RepositorySpec(url=server.url), version, tmp_path / "a.tgz", tls=Tls(ca=server.ca))
    assert (caught.value.reason, caught.value.final) == ("ChartPullError", True)


@pytest.mark.parametrize(
    ("urls", "message"),
    [
        ((), "the index has no address of 'a' 1.0.0"),
        (("oci://example.org/a",), "spec.type oci"),
        (("file:///etc/passwd",), "neither https nor http"),
        (("http://[",), "neither https nor http"),
    ],
)
async def test_addresses_of_charts_that_are_none(
    urls: tuple[str, ...], message: str, fetcher: HelmFetcher, tmp_path: Path
) -> None:
    version = ChartVersion(name="a", version="1.0.0", urls=urls)
    with pytest.raises(FetchError, match=message) as caught:
        await fetcher.chart(RepositorySpec(url="https://example.org"), version, tmp_path / "a.tgz")
    assert (caught.value.reason, caught.value.final) == ("ChartPullError", True)


@pytest.mark.slow
async def test_an_index_that_takes_too_much_is_given_up(server: ChartServer, tls: Tls, tmp_path: Path) -> None:
    flat = b"apiVersion: v1\nannotations: {a: [" + b"[]," * 400_000 + b"1]}\nentries: {}\n"
    server.behaviour.body = flat
    spec = RepositorySpec(url=server.url)
    async with HelmFetcher(workers=Workers(memory_bytes=48 * 2**20)) as small:
        error = await failure(small, spec, tmp_path / "index", tls)
        assert error.reason == "IndexationFailed"
        assert "more than 48 MiB of memory" in error.message
        server.behaviour.body = None
        await small.index(spec, tmp_path / "index", tls=tls)
    async with HelmFetcher(workers=Workers(timeout_s=0.01)) as quick:
        error = await failure(quick, spec, tmp_path / "other", tls)
        assert "takes longer than 0.01 s to read" in error.message
        assert not error.final


async def test_the_whole_way_of_a_chart(fetcher: HelmFetcher, server: ChartServer, tmp_path: Path) -> None:
    """From a range to what helm renders, with values of the chart's own and a dependency from a repository."""
    spec, tls = RepositorySpec(url=server.url), Tls(ca=server.ca)

    async def resolve(dependency: Dependency) -> Path:
        found = await fetcher.index(spec, tmp_path / "theirs", tls=tls)
        assert isinstance(found, IndexRead)
        there = versions_of(found.stored, dependency.name)
        version = choose_version(there, dependency.name, dependency.version, dependency.shown)
        return (await fetcher.chart(spec, version, tmp_path / "redis.tgz", tls=tls)).path

    version = await chosen(fetcher, server, tmp_path / "index", "^6")
    fetched = await fetcher.chart(spec, version, tmp_path / "fetched.tgz", tls=tls)
    wanted = ChartSpec(chart="podinfo", values_files=("values.yaml",))
    pulled = await revalue(fetcher.workers, fetched.path, wanted, tmp_path / "podinfo.tgz")
    assert (pulled.revision, pulled.digest) == ("6.1.0", fetched.digest)
    web = write_chart(tmp_path / "tree", "web", "1.0.0")
    with (web / "Chart.yaml").open("a") as file:
        file.write("dependencies:\n- {name: redis, version: 1.x, repository: 'https://ada:pw@example.org/charts'}\n")
    made = await package(
        fetcher.workers, tmp_path / "tree", ChartSpec(chart="web"), tmp_path / "web.tgz", resolve=resolve
    )
    assert server.count("index.yaml") == 2
    rendered = helm("template", "it", made.path, home=tmp_path)
    assert "# Source: web/charts/redis/templates/map.yaml" in rendered
