"""Registries that stall, lie, break off, or send credentials astray."""

import json
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from aiohttp import web

from tests.servers.lying_registry import LyingRegistry, lying_registry, sends, sends_json
from tests.servers.oci_registry import digest_of
from tidelog.engine.sources.access import PLAIN_TLS, Tls
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci import ANONYMOUS, OciFetcher, OciRef, OciSpec, RegistryCredentials

ADA = RegistryCredentials(username="ada", password="do-not-show-me")
CONTENT = b"content" * 50_000


@pytest.fixture
async def lying() -> AsyncIterator[LyingRegistry]:
    async with lying_registry() as running:
        yield running


async def download(
    fetcher: OciFetcher,
    lying: LyingRegistry,
    into: Path,
    credentials: RegistryCredentials = ANONYMOUS,
    tls: Tls = PLAIN_TLS,
    **more: Any,
) -> bytes:
    spec = OciSpec(url=lying.url(), **more)
    head = await fetcher.ask(spec, credentials, tls)
    artifact = await fetcher.artifact(spec, credentials, tls, None, head)
    await fetcher.download(spec, credentials, tls, None, artifact, into)
    return await anyio.Path(into).read_bytes()


async def fails(fetcher: OciFetcher, lying: LyingRegistry, into: Path, match: str, **more: Any) -> FetchError:
    with pytest.raises(FetchError, match=match) as caught:
        await download(fetcher, lying, into, **more)
    assert not await anyio.Path(into).exists(), "what is not whole is not there"
    assert ADA.password not in str(caught.value)
    return caught.value


async def test_a_layer_that_stalls_ends_with_the_time_limit(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    lying.has(CONTENT)

    async def stall(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        await response.write(CONTENT[:1000])
        await anyio.sleep(60)
        return response

    lying.answers[f"/blobs/{digest_of(CONTENT)}"] = stall
    began = time.monotonic()
    error = await fails(fetcher, lying, tmp_path / "layer", "did not answer to the end within 1 s", timeout_s=1.0)
    assert time.monotonic() - began < 10
    assert (error.reason, error.final) == ("OCIArtifactLayerOperationFailed", False)


async def test_a_layer_of_another_digest_is_refused(fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path) -> None:
    lying.has(CONTENT)
    lying.answers[f"/blobs/{digest_of(CONTENT)}"] = sends(CONTENT[::-1])
    error = await fails(fetcher, lying, tmp_path / "layer", f"has the digest {digest_of(CONTENT[::-1])}")
    assert error.reason == "OCIArtifactLayerOperationFailed"


@pytest.mark.parametrize("sent", [CONTENT[:-1], CONTENT + b"!", b""], ids=["less", "more", "nothing"])
async def test_a_layer_of_another_size_is_refused(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path, sent: bytes
) -> None:
    lying.has(CONTENT)
    lying.answers[f"/blobs/{digest_of(CONTENT)}"] = sends(sent)
    await fails(fetcher, lying, tmp_path / "layer", f"should have {len(CONTENT)} bytes")


async def test_a_layer_that_breaks_off_is_told(fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path) -> None:
    lying.has(CONTENT)

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
        await response.prepare(request)
        await response.write(CONTENT[:1000])
        assert request.transport is not None
        request.transport.close()
        return response

    lying.answers[f"/blobs/{digest_of(CONTENT)}"] = cut
    await fails(fetcher, lying, tmp_path / "layer", "broke off in the middle of its answer")


async def test_a_layer_without_end_is_left_at_its_size(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    lying.has(CONTENT)
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        while True:
            await response.write(CONTENT)
            sent += len(CONTENT)

    lying.answers[f"/blobs/{digest_of(CONTENT)}"] = endless
    await fails(fetcher, lying, tmp_path / "layer", "and the registry sends more")
    assert sent < 100 * len(CONTENT)


async def test_a_file_that_is_there_is_not_written_over(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    lying.has(CONTENT)
    (tmp_path / "layer").write_bytes(b"another's")
    with pytest.raises(FileExistsError):
        await download(fetcher, lying, tmp_path / "layer")
    assert (tmp_path / "layer").read_bytes() == b"another's"


async def test_a_manifest_of_another_digest_is_refused(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    digest = lying.has(CONTENT)
    lying.answers[f"/manifests/{digest}"] = sends(b'{"schemaVersion": 2}')
    await fails(fetcher, lying, tmp_path / "layer", f"it should be {digest}")


async def test_a_registry_that_says_no_digest_is_asked_for_the_manifest(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    digest = lying.has(CONTENT)
    lying.answers["HEAD /manifests/latest"] = sends(b"", 405)
    assert (await fetcher.ask(OciSpec(url=lying.url()))).digest == digest
    lying.answers.pop("HEAD /manifests/latest")
    lying.answers["/manifests/latest"] = sends(b"{}", **{"Docker-Content-Digest": "sha512:1234"})
    assert (await fetcher.ask(OciSpec(url=lying.url()))).digest == digest_of(b"{}")
    lying.answers["/manifests/latest"] = sends(b"{}", **{"Docker-Content-Digest": digest})
    lying.answers["HEAD /manifests/latest"] = sends(b"", 404)
    with pytest.raises(FetchError, match=f"it should be {digest}"):
        await fetcher.ask(OciSpec(url=lying.url()))


async def test_a_wish_for_quiet_is_handed_on(fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path) -> None:
    said = {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}
    lying.answers["GET /manifests/latest"] = sends_json(said, 429, **{"Retry-After": "77"})
    lying.answers["HEAD /manifests/latest"] = sends(b"", 405)
    error = await fails(fetcher, lying, tmp_path / "layer", r"TOOMANYREQUESTS: slow down\); it asks .* for 77 s")
    assert (error.reason, error.retry_after_s, error.final) == ("OCIArtifactPullFailed", 77.0, False)
    lying.answers["HEAD /manifests/latest"] = sends(b"", 429, **{"Retry-After": "78"})
    error = await fails(fetcher, lying, tmp_path / "layer", "for 78 s")
    assert error.retry_after_s == 78.0
    digest = lying.has(CONTENT)
    del lying.answers["GET /manifests/latest"], lying.answers["HEAD /manifests/latest"]
    lying.answers[f"/manifests/{digest}"] = sends(b"", 503, **{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    error = await fails(fetcher, lying, tmp_path / "layer", "too much to do")
    assert error.retry_after_s is None


PAGE = b"<html><body>Sign in to the network</body></html>"


@pytest.mark.parametrize("path", ["/manifests/latest", "/tags/list", "/v2/"])
async def test_a_page_in_place_of_an_answer_is_told(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path, path: str
) -> None:
    for each in {"/v2/", path}:
        lying.answers[each] = sends(PAGE, **{"Content-Type": "text/html"})
    ref = OciRef(semver="*") if path == "/tags/list" else OciRef()
    await fails(
        fetcher, lying, tmp_path / "layer", "is no OCI registry|is neither a manifest nor an index|not there", ref=ref
    )


@pytest.mark.parametrize(
    "manifest",
    [
        b'{"schemaVersion": 1, "fsLayers": []}',
        b"[]",
        b'{"schemaVersion": 2, "layers": [{"mediaType": "a/b"}]}',
        b'{"schemaVersion": 2, "layers": {"a": 1}}',
        b'{"schemaVersion": 2, "layers": [], "annotations": {"a": 1}}',
    ],
)
async def test_a_manifest_that_is_none_is_told(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path, manifest: bytes
) -> None:
    lying.answers[f"/manifests/{digest_of(manifest)}"] = sends(manifest)
    error = await fails(
        fetcher,
        lying,
        tmp_path / "layer",
        "is neither a manifest nor an index",
        ref=OciRef(digest=digest_of(manifest)),
    )
    assert error.final, "the content of a digest never changes"


@pytest.mark.parametrize(
    ("layers", "why"),
    [
        ([], "has no layers at all"),
        ([{"mediaType": "a/b", "digest": "sha512:" + "0" * 128, "size": 1}], "is no sha256"),
        ([{"mediaType": "a/b", "digest": "sha256:../../x", "size": 1}], "is no sha256"),
        ([{"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": -1}], "is no sha256"),
    ],
)
async def test_a_layer_that_is_none_is_told(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path, layers: list[Any], why: str
) -> None:
    manifest = json.dumps({"schemaVersion": 2, "layers": layers}).encode()
    lying.answers[f"/manifests/{digest_of(manifest)}"] = sends(manifest)
    ref = OciRef(digest=digest_of(manifest))
    error = await fails(fetcher, lying, tmp_path / "layer", why, ref=ref)
    assert (error.reason, error.final) == ("OCIArtifactLayerOperationFailed", True)


async def test_a_manifest_over_the_limit_is_left(fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path) -> None:
    huge = b" " * (5 * 2**20)
    lying.answers[f"/manifests/{digest_of(huge)}"] = sends(huge)
    ref = OciRef(digest=digest_of(huge))
    await fails(fetcher, lying, tmp_path / "layer", "has more than 4 MiB, which is the limit", ref=ref)


async def test_indexes_in_indexes_have_an_end(fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path) -> None:
    media_type = "application/vnd.oci.image.index.v1+json"
    body = b"{}"
    for _ in range(5):
        entry = {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}
        body = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).encode()
        lying.answers[f"/manifests/{digest_of(body)}"] = sends(body)
    await fails(
        fetcher, lying, tmp_path / "layer", "more than 3 indexes in each other", ref=OciRef(digest=digest_of(body))
    )


@pytest.mark.parametrize("is_same", [True, False], ids=["round", "on and on"])
async def test_tags_without_end_are_left(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    monkeypatch.setattr("tidelog.engine.sources.oci.registry.PAGES_MAX", 20)

    async def page(_: web.Request) -> web.StreamResponse:
        last = "x" if is_same else str(len(lying.asked))
        link = f'</v2/app/tags/list?last={last}>; rel="next"'
        return web.json_response({"name": "app", "tags": ["1.0.0"]}, headers={"Link": link})

    lying.answers["/tags/list"] = page
    await fails(fetcher, lying, tmp_path / "layer", "the list of tags has no end", ref=OciRef(semver="*"))
    assert len(lying.asked) < 30


async def test_tags_at_another_host_are_not_asked_for(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    link = {"Link": '<http://127.0.0.1:1/v2/app/tags/list>; rel="next"'}
    lying.answers["/tags/list"] = sends_json({"tags": ["1.0.0"]}, **link)
    await fails(fetcher, lying, tmp_path / "layer", "goes on at another host", ref=OciRef(semver="*"))


def asks_for_ada(answer: Any) -> Any:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != ADA.basic:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        found: web.StreamResponse = await answer(request)
        return found

    return handle


async def test_another_host_does_not_get_the_credentials(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    lying.has(CONTENT)
    path = f"/blobs/{digest_of(CONTENT)}"
    async with lying_registry(host="127.0.0.1") as elsewhere:
        elsewhere.answers[path] = sends(CONTENT)
        target = f"http://{elsewhere.host}/store{path}?signature=a%2Fb"
        for end in list(lying.answers):
            lying.answers[end] = asks_for_ada(lying.answers[end])
        lying.answers[path] = asks_for_ada(sends(b"", 307, Location=target))
        assert await download(fetcher, lying, tmp_path / "layer", ADA) == CONTENT
        assert [asked.path for asked in elsewhere.asked] == [f"/store{path}?signature=a%2Fb"]
        assert [asked.authorization for asked in elsewhere.asked] == [None]
        # Nor is it told who we are when it asks.
        elsewhere.answers[path] = asks_for_ada(sends(CONTENT))
        await fails(fetcher, lying, tmp_path / "other", "refuses the credentials", credentials=ADA)
        assert {asked.authorization for asked in elsewhere.asked} == {None}


async def test_credentials_are_not_sent_before_they_are_asked_for(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    lying.has(CONTENT)
    await download(fetcher, lying, tmp_path / "layer", ADA)
    assert {asked.authorization for asked in lying.asked} == {None}


@pytest.mark.parametrize("target", ["", "ftp://example.org/x", "file:///etc/passwd", "http://["])
async def test_a_redirect_to_no_address_is_told(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path, target: str
) -> None:
    lying.has(CONTENT)
    lying.answers[f"/blobs/{digest_of(CONTENT)}"] = sends(b"", 307, Location=target)
    await fails(fetcher, lying, tmp_path / "layer", "sends us to no address")


async def test_redirects_have_an_end(fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path) -> None:
    lying.has(CONTENT)
    path = f"/blobs/{digest_of(CONTENT)}"
    lying.answers[path] = sends(b"", 302, Location=f"/v2/app{path}")
    await fails(fetcher, lying, tmp_path / "layer", "round in a circle")
    assert len(lying.asked) < 15


async def test_https_is_not_left_for_http(fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = Tls(ca=authority.cert_pem.bytes().decode())
    async with lying_registry(context) as secure:
        secure.has(CONTENT)
        path = f"/blobs/{digest_of(CONTENT)}"
        secure.answers[path] = sends(b"", 307, Location=f"http://{lying.host}{path}")
        await fails(fetcher, secure, tmp_path / "layer", "from https to http", tls=trusted)
        realm = f'Bearer realm="http://{lying.host}/token",service="x"'
        secure.answers["/manifests/latest"] = sends(b"", 401, **{"WWW-Authenticate": realm})
        await fails(fetcher, secure, tmp_path / "layer", "gets no credentials", credentials=ADA, tls=trusted)
    assert lying.asked == []


async def test_a_name_that_is_only_local_gets_no_credentials_over_plain_http(
    fetcher: OciFetcher, lying: LyingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    lying.has(CONTENT)
    loopback = "tidelog.engine.sources.oci.address.Repository.is_loopback"
    monkeypatch.setattr(loopback, False)
    monkeypatch.setattr("tidelog.engine.sources.oci.address.Repository.is_local", True)
    assert (await fetcher.ask(OciSpec(url=lying.url()))).tag == "latest"
    with pytest.raises(FetchError, match=r"speaks plain HTTP, and gets no credentials: set spec.insecure"):
        await fetcher.ask(OciSpec(url=lying.url()), ADA)
    assert (await fetcher.ask(OciSpec(url=lying.url(), insecure=True), ADA)).tag == "latest"


async def test_a_host_that_is_not_local_is_never_asked_over_plain_http(
    fetcher: OciFetcher, lying: LyingRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidelog.engine.sources.oci.address.Repository.is_local", False)
    with pytest.raises(FetchError, match=r"set spec.insecure if it speaks plain HTTP"):
        await fetcher.ask(OciSpec(url=lying.url()), ADA)
    assert lying.asked == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"token": ""}, "gives no token"),
        ({"token": "a\r\nb"}, "gives no token"),
        ({"token": 1}, "is no OCI registry"),
        (["token"], "is no OCI registry"),
    ],
)
async def test_a_token_that_is_none_is_told(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path, answer: Any, why: str
) -> None:
    realm = f'Bearer realm="http://{lying.host}/token",service="x"'
    lying.answers["/manifests/latest"] = sends(b"", 401, **{"WWW-Authenticate": realm})
    lying.answers["/token"] = sends_json(answer)
    await fails(fetcher, lying, tmp_path / "layer", why, credentials=ADA)


async def test_a_registry_that_never_has_enough_is_left(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    realm = f'Bearer realm="http://{lying.host}/token",service="x"'
    lying.answers["/manifests/latest"] = sends(b"", 401, **{"WWW-Authenticate": realm})
    lying.answers["/token"] = sends_json({"token": "t"})
    error = await fails(fetcher, lying, tmp_path / "layer", "refuses the credentials", credentials=ADA)
    assert error.reason == "AuthenticationFailed"
    assert len(lying.asked) < 10


async def test_what_a_registry_says_does_not_show_our_credentials(
    fetcher: OciFetcher, lying: LyingRegistry, tmp_path: Path
) -> None:
    said = {"errors": [{"code": "DENIED", "message": f"{ADA.password} {ADA.basic}\u001b[31m"}]}
    lying.answers["/manifests/latest"] = sends_json(said, 403)
    error = await fails(fetcher, lying, tmp_path / "layer", "DENIED", credentials=ADA)
    assert ADA.basic is not None
    assert ADA.basic.split()[1] not in str(error)
    assert "\u001b" not in str(error)


async def test_nobody_there_is_told(fetcher: OciFetcher, tmp_path: Path) -> None:
    nobody = LyingRegistry(host="localhost:1")
    error = await fails(fetcher, nobody, tmp_path / "layer", "cannot be reached")
    assert error.reason == "OCIArtifactPullFailed"
    await fails(fetcher, LyingRegistry(host="nowhere.invalid"), tmp_path / "layer", "nowhere.invalid is not known")


@pytest.mark.parametrize(
    "ref",
    [
        OciRef(digest="sha256:short"),
        OciRef(semver="not a range"),
        OciRef(semver="*", semver_filter="("),
        OciRef(tag="../x"),
        OciRef(tag="a/b"),
    ],
)
async def test_a_reference_that_is_none_is_told_before_anybody_is_asked(
    fetcher: OciFetcher, lying: LyingRegistry, ref: OciRef
) -> None:
    with pytest.raises(FetchError) as caught:
        await fetcher.ask(OciSpec(url=lying.url(), ref=ref))
    assert caught.value.final
    assert lying.asked == []
