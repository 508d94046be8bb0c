"""Real registries, asked; what Flux's library finds there is the measure."""

import json
from pathlib import Path

import anyio
import pytest

from tests.servers.oci_registry import (
    FLUX_CONTENT,
    OCI_MANIFEST,
    PASSWORD,
    REFRESH_TOKEN,
    USER,
    OciRegistry,
    Pushed,
    TokenServer,
    descriptor,
    digest_of,
    oracle,
)
from tidelog.engine.sources.access import PLAIN_TLS, Tls
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci import (
    ANONYMOUS,
    OciFetcher,
    OciHead,
    OciRef,
    OciSpec,
    RegistryCredentials,
)
from tidelog.engine.sources.oci.spec import CHART_LAYER

ADA = RegistryCredentials(username=USER, password=PASSWORD)
STRANGER = RegistryCredentials(username="eve", password="a-guess-that-is-wrong")
CONTENT = bytes(range(256)) * 8192
"""2 MiB: several writes."""


def push(registry: OciRegistry, name: str, tag: str = "latest", content: bytes = CONTENT) -> Pushed:
    notes = {"org.opencontainers.image.revision": "main@sha1:1234"}
    return registry.push(name, (FLUX_CONTENT, content), tag=tag, annotations=notes)


async def pull(
    fetcher: OciFetcher,
    spec: OciSpec,
    into: Path,
    credentials: RegistryCredentials = ANONYMOUS,
    tls: Tls = PLAIN_TLS,
) -> tuple[OciHead, bytes]:
    head = await fetcher.ask(spec, credentials, tls)
    artifact = await fetcher.artifact(spec, credentials, tls, None, head)
    await fetcher.download(spec, credentials, tls, None, artifact, into)
    return head, await anyio.Path(into).read_bytes()


async def test_a_tag_is_pulled_as_flux_pulls_it(registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path) -> None:
    pushed = push(registry, "tag", "v1")
    spec = OciSpec(url=registry.url("tag"), ref=OciRef(tag="v1"))
    head, content = await pull(fetcher, spec, tmp_path / "layer")
    artifact = await fetcher.artifact(spec, ANONYMOUS, PLAIN_TLS, None, head)
    told, layer = oracle(registry, f"{registry.host}/tag:v1", tmp_path / "oracle")
    assert head.revision == f"v1@{pushed.digest}" == f"v1@{told['head']}"
    assert artifact.annotations == told["annotations"] == {"org.opencontainers.image.revision": "main@sha1:1234"}
    assert (artifact.layer.media_type, artifact.layer.digest, artifact.layer.size) == tuple(told["layers"][0].values())
    assert content == layer == CONTENT


async def test_the_tag_latest_is_the_default(registry: OciRegistry, fetcher: OciFetcher) -> None:
    pushed = push(registry, "default/of/a/deep-name")
    head = await fetcher.ask(OciSpec(url=registry.url("default/of/a/deep-name")))
    assert head == OciHead(revision=f"latest@{pushed.digest}", digest=pushed.digest, tag="latest")  # type: ignore[arg-type]


async def test_a_digest_goes_before_all_and_costs_no_question(
    registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path
) -> None:
    old = push(registry, "digest", content=b"old")
    push(registry, "digest", content=b"new")
    spec = OciSpec(url=registry.url("digest"), ref=OciRef(digest=old.digest, semver="1.x", tag="latest"))
    head, content = await pull(fetcher, spec, tmp_path / "layer")
    assert (head.revision, content) == (old.digest, b"old")


async def test_the_highest_version_is_taken(registry: OciRegistry, fetcher: OciFetcher) -> None:
    for tag in ("1.0.0", "v1.4.2", "1.10.0", "2.0.0", "1.11.0-rc.1", "latest", "1.10"):
        push(registry, "semver", tag, tag.encode())
    url = registry.url("semver")

    async def found(**ref: str) -> str:
        return (await fetcher.ask(OciSpec(url=url, ref=OciRef(tag="latest", **ref)))).tag

    assert await found(semver="1.x") == "1.10.0"
    assert await found(semver="<1.10.0") == "v1.4.2"
    assert await found(semver=">=1.0.0-0 <2.0.0-0") == "1.11.0-rc.1"
    assert await found(semver="*", semver_filter=r"^v\d") == "v1.4.2"
    with pytest.raises(FetchError, match=r"none of the 7 tags .* '\^x' is in spec.ref.semver '\*'") as caught:
        await found(semver="*", semver_filter="^x")
    assert caught.value.reason == "ReadOperationFailed"
    assert not caught.value.final


async def test_an_underscore_is_a_plus_for_charts_alone(registry: OciRegistry, fetcher: OciFetcher) -> None:
    push(registry, "chart", "1.0.0_1")
    push(registry, "chart", "0.9.0")
    spec = OciSpec(url=registry.url("chart"), ref=OciRef(semver="*"))
    chart = OciSpec(url=registry.url("chart"), ref=OciRef(semver="*"), layer_media_type=CHART_LAYER)
    assert (await fetcher.ask(chart)).tag == "1.0.0_1"
    assert (await fetcher.ask(spec)).tag == "0.9.0"


async def test_more_tags_than_a_page_holds_are_all_seen(registry: OciRegistry, fetcher: OciFetcher) -> None:
    pushed = push(registry, "pages", "v9.0.0", b"small")
    for number in range(1100):
        registry.push_manifest("pages", f"v1.0.{number}", OCI_MANIFEST, pushed.manifest)
    spec = OciSpec(url=registry.url("pages"), ref=OciRef(semver="*"))
    assert (await fetcher.ask(spec)).tag == "v9.0.0"
    spec = OciSpec(url=registry.url("pages"), ref=OciRef(semver="1.x"))
    assert (await fetcher.ask(spec)).tag == "v1.0.1099"


async def test_the_layer_that_is_asked_for_is_taken(registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path) -> None:
    registry.push("layers", ("a/first", b"first"), ("a/second", b"second"), ("a/second", b"third"))
    spec = OciSpec(url=registry.url("layers"), layer_media_type="a/second")
    assert (await pull(fetcher, spec, tmp_path / "second"))[1] == b"second"
    spec = OciSpec(url=registry.url("layers"))
    assert (await pull(fetcher, spec, tmp_path / "first"))[1] == b"first"
    spec = OciSpec(url=registry.url("layers"), layer_media_type="a/fourth")
    with pytest.raises(FetchError, match=r"no layer of the type 'a/fourth', only a/first, a/second") as caught:
        await pull(fetcher, spec, tmp_path / "none")
    assert caught.value.reason == "OCIArtifactLayerOperationFailed"


async def test_of_an_index_the_entry_is_taken_that_flux_takes(
    registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path
) -> None:
    arm = push(registry, "index", "arm", b"arm")
    amd = push(registry, "index", "amd", b"amd")
    entries = [
        descriptor(OCI_MANIFEST, arm.manifest, platform={"architecture": "arm64", "os": "linux"}),
        descriptor(OCI_MANIFEST, amd.manifest, platform={"architecture": "amd64", "os": "linux"}),
    ]
    digest = registry.push_index("index", "v1", *entries)
    spec = OciSpec(url=registry.url("index"), ref=OciRef(tag="v1"))
    head, content = await pull(fetcher, spec, tmp_path / "layer")
    told, layer = oracle(registry, f"{registry.host}/index:v1", tmp_path / "oracle")
    assert head.revision == f"v1@{digest}" == f"v1@{told['head']}"
    assert content == layer == b"amd"
    registry.push_index("index", "v2", descriptor(OCI_MANIFEST, arm.manifest), entries[1])
    spec = OciSpec(url=registry.url("index"), ref=OciRef(tag="v2"))
    _, content = await pull(fetcher, spec, tmp_path / "other-layer")
    assert content == oracle(registry, f"{registry.host}/index:v2", tmp_path / "oracle")[1] == b"arm"
    registry.push_index("index", "v3", entries[0])
    spec = OciSpec(url=registry.url("index"), ref=OciRef(tag="v3"))
    with pytest.raises(FetchError, match="has nothing for linux/amd64"):
        await pull(fetcher, spec, tmp_path / "no-layer")


async def test_what_is_not_there_is_told(registry: OciRegistry, fetcher: OciFetcher) -> None:
    push(registry, "there")
    for spec in (
        OciSpec(url=registry.url("there"), ref=OciRef(tag="v2")),
        OciSpec(url=registry.url("not/there")),
    ):
        with pytest.raises(
            FetchError, match=r"the tag '\w+' is not there \(MANIFEST_UNKNOWN.*spec.secretRef"
        ) as caught:
            await fetcher.ask(spec)
        assert caught.value.reason == "OCIArtifactPullFailed"
        assert not caught.value.final
    with pytest.raises(FetchError, match=r"the list of tags is not there \(NAME_UNKNOWN") as caught:
        await fetcher.ask(OciSpec(url=registry.url("not/there"), ref=OciRef(semver="*")))
    assert caught.value.reason == "ReadOperationFailed"


async def test_a_user_over_tls(secure_registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path) -> None:
    push(secure_registry, "private", "v1")
    spec = OciSpec(url=secure_registry.url("private"), ref=OciRef(tag="v1"))
    trusted = Tls(ca=secure_registry.ca.decode())
    _, content = await pull(fetcher, spec, tmp_path / "layer", ADA, trusted)
    assert content == CONTENT
    with pytest.raises(FetchError, match=r"asks who we are \(status 401\): name a Secret") as caught:
        await fetcher.ask(spec, ANONYMOUS, trusted)
    assert caught.value.reason == "AuthenticationFailed"
    with pytest.raises(FetchError, match=r"refuses the credentials \(status 401\): correct the Secret") as caught:
        await fetcher.ask(spec, STRANGER, trusted)
    assert caught.value.reason == "AuthenticationFailed"
    assert STRANGER.password not in str(caught.value)


async def test_an_authority_that_is_not_known_is_not_trusted(secure_registry: OciRegistry, fetcher: OciFetcher) -> None:
    push(secure_registry, "untrusted")
    spec = OciSpec(url=secure_registry.url("untrusted"))
    with pytest.raises(FetchError, match=r"TLS: .*ca.crt of the Secret in spec.certSecretRef") as caught:
        await fetcher.ask(spec, ADA)
    assert caught.value.reason == "OCIArtifactPullFailed"
    insecure = OciSpec(url=secure_registry.url("untrusted"), insecure=True)
    assert (await fetcher.ask(insecure, ADA)).tag == "latest"
    # A certificate that was given counts, insecure or not (OC-015).
    with pytest.raises(FetchError, match="TLS: "):
        await fetcher.ask(insecure, ADA, Tls(ca=other_authority()))


def other_authority() -> str:
    import trustme

    return trustme.CA().cert_pem.bytes().decode()


@pytest.mark.parametrize(
    ("credentials", "how"),
    [
        (ADA, "basic"),
        (RegistryCredentials(identity_token=REFRESH_TOKEN), "refresh"),
        (ANONYMOUS, "anonymous"),
    ],
    ids=["basic", "identity token", "anonymous"],
)
async def test_a_token_is_got_once_for_a_repository(
    token_registry: OciRegistry,
    tokens: TokenServer,
    fetcher: OciFetcher,
    tmp_path: Path,
    credentials: RegistryCredentials,
    how: str,
) -> None:
    tokens.anonymous = True
    for name in ("org/one", "org/two"):
        push(token_registry, name)
        spec = OciSpec(url=token_registry.url(name))
        for number in range(2):
            _, content = await pull(fetcher, spec, tmp_path / f"{name[4:]}{number}", credentials)
            assert content == CONTENT
    assert tokens.requests == [f"{how} repository:org/one:pull", f"{how} repository:org/two:pull"]


async def test_a_token_that_ended_is_got_again(
    token_registry: OciRegistry, tokens: TokenServer, fetcher: OciFetcher
) -> None:
    tokens.expires_s = 5
    push(token_registry, "short")
    spec = OciSpec(url=token_registry.url("short"))
    await fetcher.ask(spec, ADA)
    await fetcher.ask(spec, ADA)
    assert len(tokens.requests) == 2


async def test_a_registry_token_is_sent_as_it_is(
    token_registry: OciRegistry, tokens: TokenServer, fetcher: OciFetcher
) -> None:
    push(token_registry, "direct")
    spec = OciSpec(url=token_registry.url("direct"))
    await fetcher.ask(spec, RegistryCredentials(token=tokens.issue("direct", "pull")))
    assert tokens.requests == []
    with pytest.raises(FetchError, match="refuses the credentials") as caught:
        await fetcher.ask(spec, RegistryCredentials(token=tokens.issue("another", "pull")))
    assert caught.value.reason == "AuthenticationFailed"


async def test_who_gets_no_token_is_told(token_registry: OciRegistry, fetcher: OciFetcher) -> None:
    push(token_registry, "closed")
    spec = OciSpec(url=token_registry.url("closed"))
    with pytest.raises(FetchError, match=r"a token for it: the registry asks who we are \(status 401\)"):
        await fetcher.ask(spec)
    with pytest.raises(FetchError, match=r"refuses the credentials .*incorrect username or password") as caught:
        await fetcher.ask(spec, STRANGER)
    assert caught.value.reason == "AuthenticationFailed"


async def test_the_same_question_at_once_is_asked_once(
    token_registry: OciRegistry, tokens: TokenServer, fetcher: OciFetcher
) -> None:
    pushed = push(token_registry, "shared")
    spec = OciSpec(url=token_registry.url("shared"))
    heads = []

    async def ask() -> None:
        heads.append(await fetcher.ask(spec, ADA))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(ask)
    assert {head.digest for head in heads} == {pushed.digest}
    assert len(heads) == 20
    assert len(tokens.requests) == 1


async def test_a_tag_that_moves_between_the_questions_is_no_matter(
    registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path
) -> None:
    push(registry, "moves", content=b"old")
    spec = OciSpec(url=registry.url("moves"))
    head = await fetcher.ask(spec)
    push(registry, "moves", content=b"new")
    artifact = await fetcher.artifact(spec, ANONYMOUS, PLAIN_TLS, None, head)
    await fetcher.download(spec, ANONYMOUS, PLAIN_TLS, None, artifact, tmp_path / "layer")
    assert (tmp_path / "layer").read_bytes() == b"old"
    registry.delete_manifest("moves", head.digest)
    with pytest.raises(FetchError, match=r"the manifest sha256:.* is not there") as caught:
        await fetcher.artifact(spec, ANONYMOUS, PLAIN_TLS, None, head)
    assert not caught.value.final


async def test_a_layer_over_the_limit_is_not_begun(registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path) -> None:
    push(registry, "large")
    spec = OciSpec(url=registry.url("large"))
    head = await fetcher.ask(spec)
    artifact = await fetcher.artifact(spec, ANONYMOUS, PLAIN_TLS, None, head)
    with pytest.raises(FetchError, match=r"has more than 1 MiB, which is the limit"):
        await fetcher.download(spec, ANONYMOUS, PLAIN_TLS, None, artifact, tmp_path / "layer", limit=2**20)
    assert not (tmp_path / "layer").exists()


async def test_a_manifest_of_docker_will_do(registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path) -> None:
    docker = "application/vnd.docker.distribution.manifest.v2+json"
    layer = ("application/vnd.docker.image.rootfs.diff.tar.gzip", b"layer")
    config = ("application/vnd.docker.container.image.v1+json", b"{}")
    for _, content in (layer, config):
        registry.push_blob("docker", content)
    manifest = {
        "schemaVersion": 2,
        "mediaType": docker,
        "config": descriptor(*config),
        "layers": [descriptor(*layer)],
    }
    content = json.dumps(manifest).encode()
    registry.push_manifest("docker", "v1", docker, content)
    spec = OciSpec(url=registry.url("docker"), ref=OciRef(tag="v1"))
    head, pulled = await pull(fetcher, spec, tmp_path / "layer")
    assert (head.digest, pulled) == (digest_of(content), b"layer")
