"""Buckets that do not mean well, servers that fail, and what is said of it."""

import hashlib
import json
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.lying_s3 import LyingS3, lying_s3
from tests.servers.web_proxy import web_proxy
from tidelog.engine.sources.access import Proxy, Tls
from tidelog.engine.sources.bucket import (
    BucketCredentials,
    BucketFetcher,
    BucketIndex,
    BucketSpec,
    StsCredentials,
    StsSpec,
    credentials_of,
)
from tidelog.engine.sources.bucket.keys import shown
from tidelog.engine.sources.bucket.spec import index_of
from tidelog.engine.sources.errors import FetchError
from tidelog.storage.artifacts import Limits

KEYS = BucketCredentials(access_key="AKIDOURS", secret_key="our/secret")


@pytest.fixture
def s3() -> Iterator[LyingS3]:
    with lying_s3() as running:
        yield running


def spec_of(s3: LyingS3, **more: object) -> BucketSpec:
    spec = BucketSpec(bucket_name="app", endpoint=s3.address, insecure=not s3.ca, timeout_s=20)
    return msgspec.structs.replace(spec, **more)


async def refused(s3: LyingS3, fetcher: BucketFetcher | None = None, **more: object) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await (fetcher or BucketFetcher()).ask(spec_of(s3, **more), KEYS)
    return checked(caught.value)


async def not_downloaded(
    s3: LyingS3, into: Path, index: BucketIndex, fetcher: BucketFetcher | None = None, **more: object
) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await (fetcher or BucketFetcher()).download(spec_of(s3, **more), KEYS, index=index, into=into)
    assert below(into) == []
    return checked(caught.value)


def below(directory: Path) -> list[Path]:
    return list(directory.rglob("*"))


def checked(error: FetchError) -> FetchError:
    """No message has a credential in it, or more than a line."""
    for part in ("AKIDOURS", "our/secret", "Signature=", "Debug source", "\n"):
        assert part not in error.message
    return error


HOSTILE = {
    b"../out": "which has a part '..'",
    b"a/../../out": "which has a part '..'",
    b"a/./b": "which has a part '.'",
    b"/etc/passwd": "which begins with a slash",
    b"a//b": "which has an empty part",
    b"a\0b": "which has a control character in it",
    b"a\nb": "which has a control character in it",
    b"a\xff": "which is not UTF-8",
    b"n" * 256: "which has a name of more than 255 bytes",
    ("ü" * 128).encode(): "which has a name of more than 255 bytes",
    b"d/" * 2500 + b"a": "which is longer than 4095 bytes",
    b"d/" * 101 + b"a": "which lies deeper than 100 directories",
}


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: ascii(key[:12]))
async def test_a_key_that_cannot_be_a_file_is_refused_and_can_be_left_out(s3: LyingS3, key: bytes) -> None:
    s3.objects = {b"good.yaml": b"x", key: b"x"}
    error = await refused(s3)
    named = shown(key.decode("utf-8", "surrogateescape"))
    assert error.message == (
        f"the bucket app has the key {named}, {HOSTILE[key]}: remove the object, or leave it out with spec.ignore"
    )
    assert (error.reason, error.final) == ("BucketOperationFailed", False)
    found = await BucketFetcher().ask(spec_of(s3, ignore="*\n!/good.yaml"), KEYS)
    assert set(found.etags) == {"good.yaml"}


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: ascii(key[:12]))
async def test_an_index_with_such_a_key_writes_nothing(s3: LyingS3, tmp_path: Path, key: bytes) -> None:
    index = BucketIndex(revision=index_of({}).revision, etags={"good": "x", key.decode("utf-8", "surrogateescape"): ""})
    s3.objects = {b"good": b"x", key: b"x"}
    error = await not_downloaded(s3, tmp_path / "d" / "out", index)
    assert "remove the object" in error.message
    assert below(tmp_path) == []


@pytest.mark.parametrize("keys", [(b"a", b"a/b"), (b"x/a", b"x/a/b/c"), (b"x/a/b/c", b"x")])
async def test_a_file_and_a_directory_of_one_name_are_refused(s3: LyingS3, keys: tuple[bytes, bytes]) -> None:
    s3.objects = dict.fromkeys(keys, b"1")
    error = await refused(s3)
    assert "no tree has a file and a directory of one name" in error.message
    assert all(f"'{key.decode()}'" in error.message for key in keys)


async def test_a_marker_beside_its_directory_is_no_file(s3: LyingS3) -> None:
    s3.objects = {b"a/": b"", b"a/b": b"1", b"c": b""}
    found = await BucketFetcher().ask(spec_of(s3), KEYS)
    assert set(found.etags) == {"a/b", "c"}


ODD = [
    "back\\slash",
    "a b",
    "per%cent",
    "per%2Fcent",
    "h#sh",
    "q?y",
    "plus+",
    "é/ü",
    "-rf",
    "~",
    "c:d",
    "a.",
    "..a",
    "…",
]


async def test_odd_names_are_kept_as_they_are(s3: LyingS3, tmp_path: Path) -> None:
    s3.objects = {name.encode(): name.encode() for name in ODD}
    index = await BucketFetcher().ask(spec_of(s3), KEYS)
    await BucketFetcher().download(spec_of(s3), KEYS, index=index, into=tmp_path / "out")
    written = {
        str(p.relative_to(tmp_path / "out")): p.read_text() for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert written == {name: name for name in ODD}


async def test_limits_are_named(s3: LyingS3, tmp_path: Path) -> None:
    s3.objects = {b"large": b"x" * 1001, b"b": b"y" * 1000, b"c": b"z" * 1000}
    one = BucketFetcher(limits=Limits(file_bytes=1000))
    assert "the object 'large' of the bucket app has more than 1000 bytes" in (await refused(s3, one)).message
    assert (await BucketFetcher(limits=Limits(file_bytes=1001)).ask(spec_of(s3), KEYS)).etags
    together = BucketFetcher(limits=Limits(artifact_bytes=3000))
    assert "more than 3000 bytes together" in (await refused(s3, together)).message
    few = BucketFetcher(limits=Limits(entries=2))
    assert "more than 2 objects" in (await refused(s3, few)).message
    index = await BucketFetcher().ask(spec_of(s3), KEYS)
    # It grew since it was listed.
    for number, (fetcher, words) in enumerate([(one, "more than 1000 bytes"), (together, "3000 bytes together")]):
        error = await not_downloaded(s3, tmp_path / str(number), index, fetcher)
        assert words in error.message
        assert error.reason == "BucketOperationFailed"


async def test_an_object_that_breaks_off_is_not_half_there(s3: LyingS3, tmp_path: Path) -> None:
    s3.objects = {b"cut": b"x" * 2**20, b"whole": b"y"}
    s3.cut = {b"cut"}
    index = await BucketFetcher().ask(spec_of(s3), KEYS)
    error = await not_downloaded(s3, tmp_path / "out", index)
    assert error.reason == "BucketOperationFailed"
    assert "broke an answer off" in error.message


async def test_what_changes_between_list_and_get_has_the_etag_of_what_is_written(s3: LyingS3, tmp_path: Path) -> None:
    s3.objects = {b"a": b"one", b"gone": b"two"}
    index = await BucketFetcher().ask(spec_of(s3), KEYS)
    s3.objects[b"a"] = b"other content"
    s3.vanished = {b"gone"}
    brought = await BucketFetcher().download(spec_of(s3), KEYS, index=index, into=tmp_path / "out")
    assert dict(brought.etags) == {"a": "etag-13"}
    assert brought.revision == "sha256:" + hashlib.sha256(b"a etag-13\n").hexdigest()
    assert (tmp_path / "out" / "a").read_bytes() == b"other content"


async def test_a_directory_that_is_not_empty_is_not_touched(s3: LyingS3, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        await BucketFetcher().download(spec_of(s3), KEYS, index=index_of({"a": ""}), into=tmp_path)
    assert (tmp_path / "mine").read_text() == "mine"


async def test_a_server_that_is_gone_is_told(s3: LyingS3, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"127.0.0.1:{free.getsockname()[1]}"
    error = await refused(s3, endpoint=gone)
    assert error.message.startswith(f"the bucket app at {gone} cannot be reached: ")
    assert (error.reason, error.final) == ("BucketOperationFailed", False)
    error = await not_downloaded(s3, tmp_path / "out", index_of({"a": ""}), endpoint=gone)
    assert error.message.startswith(f"the bucket app at {gone} cannot be reached: ")
    error = await refused(s3, endpoint="nowhere.invalid")
    assert error.message == "the bucket app at nowhere.invalid: the host is not known: correct the endpoint"


@pytest.mark.parametrize("what", ["hangs", "drips"])
async def test_a_server_that_is_slow_has_the_time_of_the_spec(s3: LyingS3, tmp_path: Path, what: str) -> None:
    s3.objects = {f"{number:03}".encode(): b"x" for number in range(50)}
    if what == "hangs":
        s3.hang = True
    else:
        s3.page, s3.slow_s = 1, 0.1
    start = time.monotonic()
    error = await refused(s3, timeout_s=1.0)
    assert "was not done with in 1 s: raise spec.timeout" in error.message
    s3.slow_s = 30.0
    error = await not_downloaded(s3, tmp_path / "out", index_of({"000": "", "001": ""}), timeout_s=1.0)
    assert "spec.timeout" in error.message
    assert time.monotonic() - start < 8
    assert (error.reason, error.final) == ("BucketOperationFailed", False)


async def test_who_is_cancelled_leaves_nothing(s3: LyingS3, tmp_path: Path) -> None:
    s3.objects = {b"a": b"x" * 2**20, b"b": b"x"}
    index = await BucketFetcher().ask(spec_of(s3), KEYS)
    s3.slow_s = 0.3
    with anyio.move_on_after(0.5) as scope:
        await BucketFetcher(at_once=1).download(spec_of(s3), KEYS, index=index, into=tmp_path / "out")
    assert scope.cancelled_caught
    assert below(tmp_path / "out") == []


async def test_a_server_that_is_busy_is_asked_again(s3: LyingS3, tmp_path: Path) -> None:
    s3.objects = {b"a": b"x"}
    s3.fails = 1
    await BucketFetcher().ask(spec_of(s3), KEYS)
    s3.fails = 1
    index = await BucketFetcher().ask(spec_of(s3), KEYS)
    s3.fails = 2
    await BucketFetcher().download(spec_of(s3), KEYS, index=index, into=tmp_path / "out")
    s3.fails = 100
    error = await refused(s3)
    assert error.message == (
        f"the bucket app at {s3.address} answers with status 503, SlowDown: "
        "it is asked again, look at the server if it stays"
    )
    s3.fails = 100
    assert (await not_downloaded(s3, tmp_path / "no", index)).message == error.message


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        (b"<html>Welcome</html>", "it is no listing"),
        (b"Welcome", "it is no XML"),
        (b"", "it is no XML"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]><ListBucketResult>&a;</ListBucketResult>', "it defines entities"),
        (b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "does not say where to go on"),
        (b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>", "no key or no size"),
        (b"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>", "no key or no size"),
        (b"<ListBucketResult><Contents>", "it is no XML"),
    ],
)
async def test_an_answer_that_is_no_listing_is_told(s3: LyingS3, listing: bytes, words: str) -> None:
    s3.listing = listing
    error = await refused(s3)
    assert words in error.message
    assert "is spec.endpoint an S3 API?" in error.message


async def test_a_listing_that_never_ends_is_ended(s3: LyingS3) -> None:
    s3.objects = {str(number).encode(): b"" for number in range(5)}
    s3.page, s3.same_token = 1, True
    s3.listing = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
        b"</ListBucketResult>"
    )
    assert "the same page again and again" in (await refused(s3)).message
    s3.listing = b"<ListBucketResult>" + b" " * 17 * 2**20
    assert "answers with more than" in (await refused(s3)).message


@pytest.mark.parametrize(
    ("status", "body", "reason", "words"),
    [
        (403, b"<Error><Code>AccessDenied</Code></Error>", "AuthenticationFailed", "(status 403, AccessDenied)"),
        (
            403,
            b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>AKIDOURS our/secret</StringToSign></Error>",
            "AuthenticationFailed",
            "(status 403, SignatureDoesNotMatch)",
        ),
        (403, b"<Error><Code>AKIDOURS our/secret</Code></Error>", "AuthenticationFailed", "(status 403)"),
        (403, b"<Error><Code>RequestTimeTooSkewed</Code></Error>", "BucketOperationFailed", "our clock is wrong"),
        (401, b"", "AuthenticationFailed", "(status 401)"),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", "BucketOperationFailed", "there is no bucket app at"),
        (
            400,
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>",
            "BucketOperationFailed",
            "is of another region (eu-west-3): put it into spec.region",
        ),
        (301, b"<Error><Code>PermanentRedirect</Code></Error>", "BucketOperationFailed", "of another region"),
        (418, b"", "BucketOperationFailed", "answers with status 418"),
    ],
)
async def test_what_the_server_says_is_told_in_our_words(
    s3: LyingS3, status: int, body: bytes, reason: str, words: str
) -> None:
    s3.status, s3.body = status, body
    error = await refused(s3)
    assert error.reason == reason
    assert words in error.message
    assert not error.final


async def test_a_redirect_does_not_take_the_signature_elsewhere(s3: LyingS3, tmp_path: Path) -> None:
    with lying_s3() as other:
        other.objects = {b"a": b"x"}
        s3.status, s3.headers = 307, {"Location": f"http://{other.address}/app?list-type=2"}
        await refused(s3)
        assert other.asked == []


async def test_an_ignore_file_that_cannot_be_read_is_told(s3: LyingS3) -> None:
    s3.objects = {b".sourceignore": b"!\n", b"a": b"x"}
    error = await refused(s3)
    assert (error.reason, error.final) == ("BucketOperationFailed", False)
    assert ".sourceignore" in error.message
    s3.objects = {b".sourceignore": b"x" * (2**20 + 1), b"a": b"x"}
    assert "more than 1048576 bytes" in (await refused(s3)).message
    s3.objects = {b"a": b"x"}
    error = await refused(s3, ignore="!\n")
    assert (error.reason, error.final) == ("BucketOperationFailed", True)
    assert "spec.ignore" in error.message


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"endpoint": ""}, "spec.endpoint is no address"),
        ({"endpoint": "a b"}, "spec.endpoint is no address"),
        ({"endpoint": "host:port"}, "spec.endpoint is no address"),
        ({"endpoint": "ftp://host"}, "spec.endpoint is no address"),
        ({"endpoint": "ada:s3cret@host"}, "spec.endpoint has credentials in it"),
        ({"endpoint": "host/path"}, "spec.endpoint has a path"),
        ({"endpoint": "host?query"}, "spec.endpoint has a query"),
        ({"endpoint": "https://host"}, "spec.insecure asks for http"),
        ({"bucket_name": "a/b"}, "spec.bucketName is no name"),
        ({"bucket_name": ".."}, "spec.bucketName is no name"),
        ({"provider": "azure", "endpoint": "account.blob.core.windows.net"}, "spec.endpoint has no scheme"),
    ],
)
async def test_an_address_that_is_none_is_final(s3: LyingS3, more: dict[str, Any], words: str) -> None:
    error = await refused(s3, **more)
    assert (error.reason, error.final) == ("URLInvalid", True)
    assert words in error.message
    assert "s3cret" not in error.message


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    clients = trustme.CA()
    ours = clients.issue_cert("tidelog")
    with lying_s3(tls=True, clients=clients) as s3:
        s3.objects = {b"a": b"x" * 2**19, b"d/b": b"", b"gone": b"x"}
        tls = Tls(
            ca=s3.ca.decode(),
            certificate=ours.cert_chain_pems[0].bytes().decode(),
            key=ours.private_key_pem.bytes().decode(),
        )
        index = await BucketFetcher().ask(spec_of(s3), KEYS, tls)
        s3.vanished = {b"gone"}
        brought = await BucketFetcher().download(spec_of(s3), KEYS, tls, index=index, into=tmp_path / "out")
        assert set(brought.etags) == {"a", "d/b"}
        assert (tmp_path / "out" / "a").read_bytes() == b"x" * 2**19
        s3.cut = {b"a"}
        with pytest.raises(FetchError, match="broke the connection off"):
            await BucketFetcher().download(spec_of(s3), KEYS, tls, index=index, into=tmp_path / "cut")
        with pytest.raises(FetchError, match=r"TLS|broke the connection off"):
            await BucketFetcher().ask(spec_of(s3), KEYS, Tls(ca=s3.ca.decode()))
        unsure = Tls(verify=False, certificate=tls.certificate, key=tls.key)
        assert (await BucketFetcher().ask(spec_of(s3), KEYS, unsure)).etags


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
async def test_a_client_certificate_elsewhere_is_refused(s3: LyingS3, provider: str) -> None:
    spec = spec_of(s3, provider=provider, endpoint=f"http://{s3.address}" if provider == "azure" else s3.address)
    with pytest.raises(FetchError, match=f"not supported for provider {provider}") as caught:
        await BucketFetcher().ask(spec, tls=Tls(certificate="c", key="k"))
    assert caught.value.final


async def test_a_proxy_that_is_none_is_told(s3: LyingS3, tmp_path: Path) -> None:
    s3.objects = {b"a": b"x"}
    with pytest.raises(FetchError, match="not supported for buckets") as caught:
        await BucketFetcher().ask(spec_of(s3), KEYS, proxy=Proxy(address="socks5://127.0.0.1:1"))
    assert caught.value.final
    with pytest.raises(FetchError, match="the proxy cannot be reached"):
        await BucketFetcher().ask(spec_of(s3), KEYS, proxy=Proxy(address="http://127.0.0.1:1"))


async def test_the_proxy_of_the_environment_is_taken_as_in_flux(
    s3: LyingS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.objects = {b"a": b"x"}
    with web_proxy("ada", "lovelace") as running:
        monkeypatch.setenv("http_proxy", running.address.replace("://", "://ada:lovelace@"))
        index = await BucketFetcher().ask(spec_of(s3), KEYS)
        listed = len(running.asked)
        await BucketFetcher().download(spec_of(s3), KEYS, index=index, into=tmp_path / "out")
        assert 0 < listed < len(running.asked)
        monkeypatch.setenv("no_proxy", "localhost")
        running.asked.clear()
        await BucketFetcher().ask(spec_of(s3), KEYS)
        assert running.asked == []


LDAP = StsSpec(provider="ldap", endpoint="")


async def test_ldap_gives_temporary_keys(s3: LyingS3, tmp_path: Path) -> None:
    s3.objects = {b"a": b"x"}
    with lying_s3(tls=True) as sts:
        spec = spec_of(s3, sts=StsSpec(provider="ldap", endpoint=f"https://{sts.address}/sts", secret=True))
        given = BucketCredentials(sts=StsCredentials(username="ada", password="p&ss=wörd", tls=Tls(ca=sts.ca.decode())))
        index = await BucketFetcher().ask(spec, given)
        await BucketFetcher().download(spec, given, index=index, into=tmp_path / "out")
        asked = sts.asked[0]
        assert (asked.method, asked.path, asked.query) == ("POST", "/sts", {})
        assert b"LDAPPassword=p%26ss%3Dw%C3%B6rd" in asked.body
        assert b"Action=AssumeRoleWithLDAPIdentity&Version=2011-06-15" in asked.body
        for request in s3.asked:
            assert request.headers["x-amz-security-token"] == "temporary-token"
            assert "Credential=TEMP/" in request.headers["authorization"]
        sts.status, sts.body = 403, b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        with pytest.raises(FetchError, match=r"\(status 403, AccessDenied\): correct the Secret in spec.sts") as caught:
            await BucketFetcher().ask(spec, given)
        assert (caught.value.reason, caught.value.final) == ("AuthenticationFailed", False)
        sts.status, sts.body = 200, b"<html/>"
        with pytest.raises(FetchError, match="answers without keys") as caught:
            await BucketFetcher().ask(spec, given)
        assert "wörd" not in str(caught.value)


@pytest.mark.parametrize(
    ("provider", "sts", "words"),
    [
        ("generic", StsSpec(provider="aws", endpoint="https://s"), "does not go with spec.provider generic"),
        ("aws", StsSpec(provider="ldap", endpoint="https://s"), "does not go with spec.provider aws"),
        ("gcp", StsSpec(provider="ldap", endpoint="https://s"), "does not go with spec.provider gcp"),
        ("azure", StsSpec(provider="aws", endpoint="https://s"), "does not go with spec.provider azure"),
        ("aws", StsSpec(provider="aws", endpoint="https://s", secret=True), "spec.sts.secretRef does not go"),
        ("aws", StsSpec(provider="aws", endpoint="https://s", certificates=True), "spec.sts.certSecretRef does not go"),
        ("aws", StsSpec(provider="aws", endpoint="http://s"), "spec.sts.endpoint is without TLS"),
        ("generic", StsSpec(provider="ldap", endpoint="s"), "spec.sts.endpoint is no address"),
    ],
)
async def test_an_sts_that_does_not_go_with_the_provider_stalls(
    s3: LyingS3, provider: str, sts: StsSpec, words: str
) -> None:
    endpoint = f"http://{s3.address}" if provider == "azure" else s3.address
    error = await refused(s3, provider=provider, sts=sts, endpoint=endpoint)
    assert (error.reason, error.final) == ("InvalidSTSConfiguration", True)
    assert words in error.message


async def test_aws_exchanges_a_web_identity_at_the_sts_of_the_spec(
    s3: LyingS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.objects = {b"a": b"x"}
    (tmp_path / "token").write_text("identity")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/reader")
    with lying_s3(tls=True) as sts:
        spec = spec_of(s3, provider="aws", sts=StsSpec(provider="aws", endpoint=f"https://{sts.address}"))
        tls = Tls(ca=sts.ca.decode())
        index = await BucketFetcher().ask(spec, tls=tls)
        assert set(index.etags) == {"a"}
        sts.status, sts.body = 403, b"<Error><Code>AccessDenied</Code></Error>"
        with pytest.raises(FetchError, match=r"our identity was given no credentials for it \(status 403\)") as caught:
            await BucketFetcher().ask(spec, tls=tls)
        assert checked(caught.value).reason == "AuthenticationFailed"
        assert b"AssumeRoleWithWebIdentity" in sts.asked[0].body or "AssumeRoleWithWebIdentity" in str(
            sts.asked[0].query
        )
    for request in s3.asked:
        assert request.headers["x-amz-security-token"] == "temporary-token"


@pytest.mark.parametrize("has_region", [True, False])
async def test_the_region_of_a_bucket_of_amazons_is_asked_for(s3: LyingS3, tmp_path: Path, has_region: bool) -> None:
    """The server is the proxy too, so that it hears what goes to Amazon."""
    s3.objects = {b"d/a": b"x"}
    s3.headers = {"x-amz-bucket-region": "eu-west-3"}
    region = "eu-west-3" if has_region else ""
    spec = spec_of(s3, provider="aws", endpoint="s3.amazonaws.com", region=region)
    proxy = Proxy(address=f"http://{s3.address}")
    index = await BucketFetcher().ask(spec, KEYS, proxy=proxy)
    await BucketFetcher().download(spec, KEYS, proxy=proxy, index=index, into=tmp_path / "out")
    assert (tmp_path / "out" / "d" / "a").read_bytes() == b"x"
    asked = [request for request in s3.asked if request.method == "HEAD"]
    assert [request.headers["host"] for request in asked] == ["app.s3.amazonaws.com"] * (0 if has_region else 2)
    assert all("authorization" not in request.headers for request in asked)
    for request in s3.asked:
        if request.method == "GET":
            assert request.headers["host"] == "app.s3.eu-west-3.amazonaws.com"
            assert "/eu-west-3/s3/aws4_request" in request.headers["authorization"]


@pytest.fixture(scope="module")
def service_account() -> bytes:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "client_email": "a@b.example", "private_key_id": "1", "disable_oauth": True}
    return json.dumps(account | {"private_key": key.decode(), "gcs_base_url": "http://127.0.0.1:1"}).encode()


async def test_google_is_asked_with_the_service_account(s3: LyingS3, tmp_path: Path, service_account: bytes) -> None:
    s3.objects = {
        b"apps/a.yaml": b"x",
        b"apps/": b"",
        b"apps/empty": b"",
        b"nothing/": b"",
        b"apple": b"y",
    }
    credentials = credentials_of("gcp", {"serviceaccount": service_account}, "google")
    spec = spec_of(s3, provider="gcp")
    index = await BucketFetcher().ask(spec, credentials)
    assert set(index.etags) == {"apps/a.yaml", "apps/empty", "apple"}
    assert all(request.headers["authorization"].startswith("Bearer ey") for request in s3.asked)
    found = await BucketFetcher().ask(msgspec.structs.replace(spec, prefix="apps/a"), credentials)
    assert set(found.etags) == {"apps/a.yaml"}
    await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out")
    assert (tmp_path / "out" / "apple").read_bytes() == b"y"
    s3.objects[b"a//b"] = b""
    with pytest.raises(FetchError, match=r'has the key "a//b", which is no path') as caught:
        await BucketFetcher().ask(spec, credentials)
    checked(caught.value)


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_many_keys_take_bounded_memory_and_hold_nobody_up(s3: LyingS3, tmp_path: Path, count: int) -> None:
    s3.objects = {f"d{number % 100}/{number}.yaml".encode(): b"kind: ConfigMap\n" for number in range(count)}
    expected = "".join(f"{key.decode()} etag-16\n" for key in sorted(s3.objects))
    late = []
    spec = spec_of(s3, timeout_s=1000)
    async with anyio.create_task_group() as group:

        async def tick() -> None:
            while True:
                start = time.monotonic()
                await anyio.sleep(0.01)
                late.append(time.monotonic() - start - 0.01)

        group.start_soon(tick)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        index = await BucketFetcher().ask(spec, KEYS)
        assert index.revision == f"sha256:{hashlib.sha256(expected.encode()).hexdigest()}"
        brought = await BucketFetcher().download(spec, KEYS, index=index, into=tmp_path / "out")
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        group.cancel_scope.cancel()
    assert brought == index
    assert sum(len(names) for _, _, names in os.walk(tmp_path / "out")) == count
    assert grown_mib < 100 + count / 500  # the server of the test is in this process too
    assert sorted(late)[int(len(late) * 0.9)] < 0.5
    assert threading.active_count() < 100
