"""Buckets, on a real S3 server: what is asked, what is downloaded, and the revision as others count it."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.servers.s3_server import S3Server, s3_server
from tests.servers.web_proxy import web_proxy
from tidelog.engine.sources.access import Proxy, Tls
from tidelog.engine.sources.bucket import (
    NO_CREDENTIALS,
    BucketCredentials,
    BucketFetcher,
    BucketSpec,
    credentials_of,
)
from tidelog.engine.sources.errors import FetchError


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def bucket(s3: S3Server, request: pytest.FixtureRequest) -> str:
    """A bucket of the test's own."""
    name = "b-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    s3.make(name)
    return name


@pytest.fixture
def credentials(s3: S3Server) -> BucketCredentials:
    secret = {"accesskey": s3.access_key.encode(), "secretkey": s3.secret_key.encode()}
    return credentials_of("generic", secret, "bucket-keys")


def spec_of(s3: S3Server, bucket: str, **more: object) -> BucketSpec:
    spec = BucketSpec(bucket_name=bucket, endpoint=s3.address, insecure=not s3.ca)
    return msgspec.structs.replace(spec, **more)


def revision(etags: dict[str, str]) -> str:
    """As contract BU-012 has it."""
    lines = "".join(f"{key} {etags[key]}\n" for key in sorted(etags, key=str.encode))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


ODD = ["a.yaml", "d/b.yaml", "d/x y+z%20#é.txt", "x~!*'()&=;,:@$", "d/.hidden", "日本/語.yaml", "a.zip"]


async def test_what_is_there_is_asked_and_downloaded(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path
) -> None:
    for key in ODD:
        s3.put(bucket, key, key.encode() * 3)
    s3.put(bucket, "empty")
    spec = spec_of(s3, bucket)
    fetcher = BucketFetcher()
    index = await fetcher.ask(spec, credentials)
    assert dict(index.etags) == s3.listing(bucket)
    assert index.revision == revision(s3.listing(bucket))
    brought = await fetcher.download(spec, credentials, index=index, into=tmp_path / "out")
    assert brought == index
    assert files(tmp_path / "out") == {key: key.encode() * 3 for key in ODD} | {"empty": b""}
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {0o600}


async def test_markers_of_directories_are_no_files(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path
) -> None:
    s3.put(bucket, "apps/")
    s3.put(bucket, "apps/a.yaml", b"a")
    s3.put(bucket, "nothing/")
    index = await BucketFetcher().ask(spec_of(s3, bucket), credentials)
    assert set(index.etags) == {"apps/a.yaml"}
    assert {"apps/", "nothing/"} <= set(s3.listing(bucket))


@pytest.mark.parametrize("prefix", ["apps/", "apps/pro", "apps/prod/a.yaml", "app", "nowhere"])
async def test_a_prefix_is_a_prefix_of_the_key(
    s3: S3Server, bucket: str, credentials: BucketCredentials, prefix: str
) -> None:
    for key in ["apps/prod/a.yaml", "apps/production.yaml", "apps/dev.yaml", "apple", "z.yaml"]:
        s3.put(bucket, key, b"x")
    index = await BucketFetcher().ask(spec_of(s3, bucket, prefix=prefix), credentials)
    assert set(index.etags) == {key for key in s3.listing(bucket) if key.startswith(prefix)}
    assert index.revision == revision(s3.listing(bucket, prefix))


async def test_only_the_roots_ignore_file_and_the_spec_count_and_no_defaults(
    s3: S3Server, bucket: str, credentials: BucketCredentials
) -> None:
    everything = ["a.jpg", ".github/w.yaml", ".git/config", "x.zip", ".sops.yaml"]
    for key in [*everything, "docs/a.md", "docs/b.md", "d/.sourceignore", "d/kept.yaml", "secret.yaml"]:
        s3.put(bucket, key, key.encode())
    s3.put(bucket, "d/.sourceignore", b"kept.yaml\n")
    fetcher = BucketFetcher()
    found = await fetcher.ask(spec_of(s3, bucket), credentials)
    assert set(found.etags) == {*everything, "docs/a.md", "docs/b.md", "d/.sourceignore", "d/kept.yaml", "secret.yaml"}
    s3.put(bucket, ".sourceignore", b"# of the bucket\n\ndocs/\n/secret.yaml\n")
    found = await fetcher.ask(spec_of(s3, bucket, ignore="!docs/b.md\n*.zip"), credentials)
    kept = {*everything, "docs/b.md", "d/.sourceignore", "d/kept.yaml"} - {"x.zip"}
    assert set(found.etags) == kept
    assert found.revision == revision({key: etag for key, etag in s3.listing(bucket).items() if key in kept})


async def test_the_ignore_file_is_that_of_the_root_whatever_the_prefix(
    s3: S3Server, bucket: str, credentials: BucketCredentials
) -> None:
    for key in ["apps/a.yaml", "apps/b.yaml", "apps/.sourceignore"]:
        s3.put(bucket, key, b"*\n")
    s3.put(bucket, ".sourceignore", b"apps/b.yaml\n")
    found = await BucketFetcher().ask(spec_of(s3, bucket, prefix="apps/"), credentials)
    assert set(found.etags) == {"apps/a.yaml", "apps/.sourceignore"}


async def test_what_vanishes_and_what_changes_meanwhile_is_told(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path
) -> None:
    for key in ["stays", "changes", "d/goes"]:
        s3.put(bucket, key, b"first")
    spec = spec_of(s3, bucket)
    index = await BucketFetcher().ask(spec, credentials)
    s3.delete(bucket, "d/goes")
    s3.put(bucket, "changes", b"second")
    brought = await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out")
    assert files(tmp_path / "out") == {"stays": b"first", "changes": b"second"}
    assert dict(brought.etags) == s3.listing(bucket)
    assert brought.revision == revision(s3.listing(bucket)) != index.revision


async def test_an_empty_bucket_has_a_revision(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path
) -> None:
    spec = spec_of(s3, bucket)
    index = await BucketFetcher().ask(spec, credentials)
    assert index.revision == f"sha256:{hashlib.sha256().hexdigest()}"
    assert await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out") == index
    assert files(tmp_path / "out") == {}


async def test_more_than_a_page(s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path) -> None:
    objects = {f"d{number % 7}/{number}.yaml": str(number).encode() for number in range(1005)}
    s3.put_all(bucket, objects)
    spec = spec_of(s3, bucket)
    index = await BucketFetcher().ask(spec, credentials)
    assert index.revision == revision(s3.listing(bucket))
    await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out")
    assert files(tmp_path / "out") == objects


async def test_a_public_bucket_needs_no_credentials(
    s3: S3Server, credentials: BucketCredentials, tmp_path: Path
) -> None:
    s3.make("public")
    s3.put("public", "a.yaml", b"a")
    spec = spec_of(s3, "public")
    index = await BucketFetcher().ask(spec)
    assert set(index.etags) == {"a.yaml"}
    await BucketFetcher().download(spec, index=index, into=tmp_path / "out")
    assert files(tmp_path / "out") == {"a.yaml": b"a"}


@pytest.mark.parametrize("what", ["wrong key", "wrong secret", "none"])
async def test_credentials_that_do_not_open_it_are_told(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path, what: str
) -> None:
    s3.put(bucket, "a.yaml", b"a")
    spec = spec_of(s3, bucket)
    index = await BucketFetcher().ask(spec, credentials)
    wrong = {
        "wrong key": BucketCredentials(access_key="AKIDWRONG", secret_key=s3.secret_key),
        "wrong secret": BucketCredentials(access_key=s3.access_key, secret_key="wr0ng/secret"),
        "none": NO_CREDENTIALS,
    }[what]
    told = []
    with pytest.raises(FetchError) as asking:
        await BucketFetcher().ask(spec, wrong)
    with pytest.raises(FetchError) as downloading:
        await BucketFetcher().download(spec, wrong, index=index, into=tmp_path / "out")
    for caught in (asking, downloading):
        assert (caught.value.reason, caught.value.final) == ("AuthenticationFailed", False)
        told.append(caught.value.message)
        assert bucket in caught.value.message
        assert "spec.secretRef" in caught.value.message
    assert told[0] == told[1]
    assert not any(part in told[0] for part in ("AKIDWRONG", "wr0ng", s3.access_key, s3.secret_key, "Signature="))
    assert files(tmp_path / "out") == {}


async def test_a_bucket_that_is_not_there_is_told(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path
) -> None:
    s3.put(bucket, "a.yaml", b"a")
    index = await BucketFetcher().ask(spec_of(s3, bucket), credentials)
    spec = spec_of(s3, "no-such-bucket")
    with pytest.raises(FetchError, match=r"there is no bucket no-such-bucket at localhost:\d+: correct") as caught:
        await BucketFetcher().ask(spec, credentials)
    assert (caught.value.reason, caught.value.final) == ("BucketOperationFailed", False)
    with pytest.raises(FetchError, match="there is no bucket no-such-bucket"):
        await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out")


async def test_aws_without_a_secret_is_asked_as_whom_the_environment_says(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ["apps/a.yaml", "apps/empty", "apps/", "apple", "nothing/"]:
        s3.put(bucket, key, b"" if key in {"apps/empty", "apps/", "nothing/"} else b"x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    spec = spec_of(s3, bucket, provider="aws")
    index = await BucketFetcher().ask(spec)
    there = {key: etag for key, etag in s3.listing(bucket).items() if not key.endswith("/")}
    assert dict(index.etags) == there
    assert index.revision == revision(there)
    index = await BucketFetcher().ask(msgspec.structs.replace(spec, prefix="app"))
    assert set(index.etags) == {"apps/a.yaml", "apps/empty", "apple"}
    await BucketFetcher().download(spec, index=index, into=tmp_path / "out")
    assert files(tmp_path / "out") == {"apps/a.yaml": b"x", "apps/empty": b"", "apple": b"x"}


async def test_the_environment_changes_nothing_of_what_the_secret_says(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "OTHER",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_SESSION_TOKEN": "other",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "mars",
        "AWS_BUCKET": "other",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_S3_EXPRESS": "true",
    }.items():
        monkeypatch.setenv(name, value)
    s3.put(bucket, "a.yaml", b"a")
    spec = spec_of(s3, bucket)
    index = await BucketFetcher().ask(spec, credentials)
    await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out")
    assert files(tmp_path / "out") == {"a.yaml": b"a"}


async def test_a_large_object_is_written_as_it_comes(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 4096 * 9  # 9 MiB
    s3.put(bucket, "d/large", data)
    spec = spec_of(s3, bucket)
    index = await BucketFetcher().ask(spec, credentials)
    await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out")
    assert files(tmp_path / "out") == {"d/large": data}


async def test_a_proxy_is_taken_with_its_credentials(
    s3: S3Server, bucket: str, credentials: BucketCredentials, tmp_path: Path
) -> None:
    s3.put(bucket, "a.yaml", b"a")
    spec = spec_of(s3, bucket)
    with web_proxy("ada", "pa:ss/word") as running:
        proxy = Proxy(address=running.address, username="ada", password="pa:ss/word")
        index = await BucketFetcher().ask(spec, credentials, proxy=proxy)
        asked = len(running.asked)
        await BucketFetcher().download(spec, credentials, proxy=proxy, index=index, into=tmp_path / "out")
        assert 0 < asked < len(running.asked)
        wrong = Proxy(address=running.address, username="ada", password="wr0ng-password")
        with pytest.raises(FetchError) as caught:
            await BucketFetcher().ask(spec, credentials, proxy=wrong)
        with pytest.raises(FetchError, match="the proxy answers with status 407") as again:
            await BucketFetcher().download(spec, credentials, proxy=wrong, index=index, into=tmp_path / "no")
    assert again.value.message == caught.value.message
    assert files(tmp_path / "out") == {"a.yaml": b"a"}
    assert caught.value.reason == "AuthenticationFailed"
    assert "407" in caught.value.message
    assert "wr0ng" not in caught.value.message


@pytest.mark.slow
async def test_tls_with_a_private_authority(tmp_path: Path) -> None:
    with s3_server(tmp_path / "server", tls=True) as s3, web_proxy() as running:
        s3.make("app")
        s3.put("app", "a.yaml", b"a")
        spec = spec_of(s3, "app")
        credentials = BucketCredentials(access_key=s3.access_key, secret_key=s3.secret_key)
        tls = Tls(ca=s3.ca.decode())
        index = await BucketFetcher().ask(spec, credentials, tls)
        assert index.revision == revision(s3.listing("app"))
        await BucketFetcher().download(spec, credentials, tls, index=index, into=tmp_path / "out")
        assert files(tmp_path / "out") == {"a.yaml": b"a"}
        for trusting in (Tls(), Tls(ca=other_authority())):
            with pytest.raises(FetchError, match=r"TLS: .*ca\.crt of the Secret in spec\.certSecretRef"):
                await BucketFetcher().ask(spec, credentials, trusting)
            with pytest.raises(FetchError, match=r"TLS: .*ca\.crt of the Secret in spec\.certSecretRef"):
                await BucketFetcher().download(spec, credentials, trusting, index=index, into=tmp_path / "none")
        proxy = Proxy(address=running.address)
        assert await BucketFetcher().ask(spec, credentials, tls, proxy) == index
        await BucketFetcher().download(spec, credentials, tls, proxy, index=index, into=tmp_path / "through")
        assert files(tmp_path / "through") == {"a.yaml": b"a"}
        assert {line.partition(" ")[0] for line in running.asked} == {"CONNECT"}
        running.username, running.password = "ada", "lovelace"
        with pytest.raises(FetchError, match="the proxy answers with status 407"):
            await BucketFetcher().ask(spec, credentials, tls, proxy)
        with pytest.raises(FetchError, match="the proxy answers with status 407"):
            await BucketFetcher().download(spec, credentials, tls, proxy, index=index, into=tmp_path / "closed")
        named = Proxy(address=running.address, username="ada", password="lovelace")
        assert await BucketFetcher().ask(spec, credentials, tls, named) == index
        await BucketFetcher().download(spec, credentials, tls, named, index=index, into=tmp_path / "named")


def other_authority() -> str:
    import trustme

    return trustme.CA().cert_pem.bytes().decode()
