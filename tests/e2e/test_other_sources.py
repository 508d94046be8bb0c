"""OCIRepository and Bucket: what a registry and an object store have is applied, and followed (contract 2.5, 2.8)."""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio.to_thread
import pytest

from tests.e2e.archives import archive_of
from tests.e2e.world import SOURCE, World, condition, config_map, failed, is_ready
from tests.servers.oci_registry import FLUX_CONTENT, PASSWORD, USER, OciRegistry, oci_registry
from tests.servers.s3_server import S3Server, s3_server
from tests.sources.oci.conftest import require_registry
from tests.sources.oci.own_sigstore import OwnSigstore
from tests.sources.oci.test_signatures import OURS, pem, push_bundle, push_simple, sign, simple_payload
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import RevisionFetched
from tidelog.events.vocabulary.fetch import Signature


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    """For the user alone, over TLS."""
    require_registry()
    with oci_registry(tmp_path_factory.mktemp("registry"), auth="basic", tls=True) as running:
        yield running


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """For who has its keys, over TLS."""
    directory: Path = tmp_path_factory.mktemp("s3")
    with s3_server(directory / "server", tls=True) as running:
        yield running


async def secret(world: World, name: str, type_: str = "Opaque", /, **data: bytes) -> None:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": name}
    await world.apply({"apiVersion": "v1", "kind": "Secret", "type": type_, "metadata": metadata, "data": encoded})


async def declared(world: World, kind: str, **spec: Any) -> None:
    given = {"interval": "1h"} | {field: value for field, value in spec.items() if value is not None}
    await world.apply({"apiVersion": SOURCE, "kind": kind, "metadata": {"name": "src"}, "spec": given})


async def ready_source(world: World, kind: str) -> KubeObject:
    found = await world.until(SOURCE, kind, "src", lambda obj: obj is not None and is_ready(obj), "ready")
    assert found is not None
    return found


async def serves(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
        return await answer.read()


# OCIRepository


async def pull_secret(world: World, registry: OciRegistry, password: str = PASSWORD) -> None:
    config = {"auths": {registry.host: {"username": USER, "password": password}}}
    await secret(world, "pull", "kubernetes.io/dockerconfigjson", _dockerconfigjson=json.dumps(config).encode())
    await secret(world, "certs", ca_crt=registry.ca)


async def of_registry(world: World, registry: OciRegistry, **spec: Any) -> None:
    where = {"url": registry.url(world.namespace), "certSecretRef": {"name": "certs"}, "secretRef": {"name": "pull"}}
    await declared(world, "OCIRepository", **(where | spec))


async def target(world: World, kind: str, **spec: Any) -> None:
    reference = {"kind": kind, "name": "src"}
    await world.target("app", "./app", targetNamespace=world.namespace, sourceRef=reference, **spec)


def layer(n: str) -> tuple[str, bytes]:
    return FLUX_CONTENT, archive_of({"app/a.yaml": config_map("a", n=n), "app/logo.png": "x"})


async def push(world: World, registry: OciRegistry, n: str, tag: str, **more: Any) -> str:
    pushed = await anyio.to_thread.run_sync(lambda: registry.push(world.namespace, layer(n), tag=tag, **more))
    return pushed.digest


async def test_a_tag_is_pulled_applied_and_followed(world: World, registry: OciRegistry) -> None:
    said = {"org.opencontainers.image.revision": "main@sha1:abc", "org.opencontainers.image.source": "https://git"}
    digest = await push(world, registry, "1", "v1", annotations=said)
    await pull_secret(world, registry)
    async with world.daemon(storage_addr="127.0.0.1:0") as running:
        await of_registry(world, registry, ref={"tag": "v1"})
        await target(world, "OCIRepository")
        ready = await world.until_target("app", is_ready)
        assert ready["status"]["lastAppliedRevision"] == f"v1@{digest}"
        assert await world.data("a") == {"n": "1"}
        source = await ready_source(world, "OCIRepository")
        status = source["status"]
        assert condition(source, "Ready")["message"] == f"stored artifact for digest 'v1@{digest}'"
        assert status["artifact"]["metadata"] == said
        assert status["artifact"]["path"] == f"ocirepository/{world.namespace}/src/{digest}.tar.gz"
        assert status["url"].endswith(f"/ocirepository/{world.namespace}/src/latest.tar.gz")
        assert status["observedGeneration"] == 1
        await world.until_told("src", "NewArtifact", "origin revision 'main@sha1:abc'", kind="OCIRepository")
        newer = await push(world, registry, "2", "v1")
        token = await world.ask("OCIRepository", "src")
        await world.until_data("a", {"n": "2"})
        answered = await world.until(
            SOURCE,
            "OCIRepository",
            "src",
            lambda obj: obj is not None and obj["status"].get("lastHandledReconcileAt") == token,
        )
        assert answered is not None
        assert answered["status"]["artifact"]["revision"] == f"v1@{newer}"
        fetched = running.events(RevisionFetched, stream=running.stream("OCIRepository", "src"))
        assert len(fetched) == 2


async def test_a_target_tells_what_its_revisions_were_made_of(world: World, registry: OciRegistry) -> None:
    """As the registry's artifacts say; also of those before, after a restart (contract CM-033, KS-043, KS-047)."""

    def made_of(origin: str) -> dict[str, str]:
        return {"org.opencontainers.image.revision": origin, "org.example.notes": "x" * 40_000}

    def origins(obj: KubeObject) -> list[str | None]:
        return [one["metadata"].get("originRevision") for one in obj["status"]["history"]]

    first = await push(world, registry, "1", "v1", annotations=made_of("main@sha1:abc"))
    await pull_secret(world, registry)
    async with world.daemon():
        await of_registry(world, registry, ref={"tag": "v1"})
        await target(world, "OCIRepository")
        ready = await world.until_target("app", is_ready)
        assert ready["status"]["lastAppliedOriginRevision"] == "main@sha1:abc"
        assert [one["metadata"] for one in ready["status"]["history"]] == [
            {"revision": f"v1@{first}", "originRevision": "main@sha1:abc"}
        ]
        # What does not fit into an event is left out, and the standard names come first.
        source = await ready_source(world, "OCIRepository")
        assert source["status"]["artifact"]["metadata"] == {"org.opencontainers.image.revision": "main@sha1:abc"}
        event = await world.until_told("app", "ReconciliationSucceeded", "Reconciliation finished")
        assert event["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/originRevision"] == "main@sha1:abc"
        await push(world, registry, "2", "v1", annotations=made_of("main@sha1:def"))
        await world.ask("OCIRepository", "src")
        moved = await world.until_target("app", lambda obj: origins(obj) == ["main@sha1:def", "main@sha1:abc"])
        assert moved["status"]["lastAppliedOriginRevision"] == "main@sha1:def"
    async with world.daemon():
        await push(world, registry, "3", "v1")
        await world.ask("OCIRepository", "src")
        moved = await world.until_target("app", lambda obj: len(origins(obj)) == 3)
        assert origins(moved) == [None, "main@sha1:def", "main@sha1:abc"]
        assert "lastAppliedOriginRevision" not in moved["status"]


async def test_the_highest_version_of_a_range(world: World, registry: OciRegistry) -> None:
    for n, tag in (("1", "1.0.0"), ("2", "1.2.0"), ("3", "2.0.0"), ("4", "1.3.0-rc.1")):
        await push(world, registry, n, tag)
    await pull_secret(world, registry)
    async with world.daemon():
        await of_registry(world, registry, ref={"semver": "1.x"})
        await target(world, "OCIRepository")
        await world.until_target("app", is_ready)
        assert await world.data("a") == {"n": "2"}


async def test_a_layer_that_is_copied_is_served_as_it_came(world: World, registry: OciRegistry) -> None:
    media_type, content = layer("1")
    await push(world, registry, "1", "latest")
    await pull_secret(world, registry)
    async with world.daemon(storage_addr="127.0.0.1:0") as running:
        await of_registry(world, registry, layerSelector={"mediaType": media_type, "operation": "copy"})
        source = await ready_source(world, "OCIRepository")
        assert source["status"]["artifact"]["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert source["status"]["observedLayerSelector"] == {"mediaType": media_type, "operation": "copy"}
        await running.idle()


async def test_what_is_ignored_is_left_out_and_who_is_suspended_asks_nobody(
    world: World, registry: OciRegistry
) -> None:
    """OC-020, OC-025: other rules make the artifact of the same digest anew."""
    digest = await push(world, registry, "1", "latest")
    await pull_secret(world, registry)

    def of(ignore: str | None) -> Callable[[KubeObject | None], bool]:
        return lambda obj: obj is not None and is_ready(obj) and obj["status"].get("observedIgnore") == ignore

    async def rules(ignore: str | None) -> KubeObject:
        await of_registry(world, registry, ignore=ignore)
        found = await world.until(SOURCE, "OCIRepository", "src", of(ignore), f"made with {ignore!r}")
        assert found is not None
        return found

    async with world.daemon(storage_addr="127.0.0.1:0") as running:
        everything = await rules("!*")
        by_default = await rules(None)
        assert everything["status"]["artifact"]["revision"] == by_default["status"]["artifact"]["revision"]
        assert everything["status"]["artifact"]["digest"] != by_default["status"]["artifact"]["digest"]
        nothing = await rules("*.yaml\n")
        assert nothing["status"]["artifact"]["revision"] == f"latest@{digest}"
        assert nothing["status"]["artifact"]["digest"] != by_default["status"]["artifact"]["digest"]
        await push(world, registry, "2", "latest")
        await of_registry(world, registry, ignore="*.yaml\n", suspend=True)
        token = await world.ask("OCIRepository", "src")
        await running.idle()

        def is_answered(obj: KubeObject | None) -> bool:
            return obj is not None and obj["status"].get("lastHandledReconcileAt") == token

        left = await world.until(SOURCE, "OCIRepository", "src", is_answered, "answered")
        assert left is not None
        assert left["status"]["artifact"] == nothing["status"]["artifact"]


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"ref": {"tag": "nowhere"}}, "OCIArtifactPullFailed", "nowhere"),
        ({"layerSelector": {"mediaType": "text/plain"}}, "OCIArtifactLayerOperationFailed", "text/plain"),
        ({"secretRef": {"name": "none"}}, "AuthenticationFailed", "there is no Secret"),
        ({"secretRef": {"name": "wrong"}}, "AuthenticationFailed", "secretRef"),
        ({"serviceAccountName": "nobody", "secretRef": None}, "AuthenticationFailed", "no ServiceAccount"),
        ({"verify": {"provider": "notation"}}, "UnsupportedFeature", "spec.verify"),
        ({"provider": "aws", "secretRef": None}, "AuthenticationFailed", "no registry of AWS"),
    ],
    ids=["a tag that is none", "no such layer", "no Secret", "a wrong password", "no account", "notation", "a cloud"],
)
async def test_what_cannot_be_pulled_is_told(
    world: World, registry: OciRegistry, spec: dict[str, Any], reason: str, words: str
) -> None:
    await push(world, registry, "1", "latest")
    await pull_secret(world, registry)
    config = {"auths": {registry.host: {"username": USER, "password": "a-secret-that-is-wrong"}}}
    await secret(world, "wrong", "kubernetes.io/dockerconfigjson", _dockerconfigjson=json.dumps(config).encode())
    async with world.daemon():
        await of_registry(world, registry, **spec)
        found = await world.until(
            SOURCE, "OCIRepository", "src", lambda obj: obj is not None and failed(reason, words)(obj), reason
        )
        assert "a-secret-that-is-wrong" not in json.dumps(found)


async def test_a_service_account_s_pull_secrets_are_used(world: World, registry: OciRegistry) -> None:
    await push(world, registry, "1", "latest")
    await pull_secret(world, registry)
    await world.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "puller"},
            "imagePullSecrets": [{"name": "pull"}],
        }
    )
    async with world.daemon():
        await of_registry(world, registry, secretRef=None, serviceAccountName="puller")
        await ready_source(world, "OCIRepository")


# Bucket


CLOUD = {"provider": "gcp", "certSecretRef": None, "secretRef": None, "serviceAccountName": "x"}


async def of_store(world: World, store: S3Server, **spec: Any) -> str:
    bucket = world.namespace
    await anyio.to_thread.run_sync(store.make, bucket)
    await secret(world, "keys", accesskey=store.access_key.encode(), secretkey=store.secret_key.encode())
    await secret(world, "certs", ca_crt=store.ca)
    where = {
        "bucketName": bucket,
        "endpoint": store.address,
        "secretRef": {"name": "keys"},
        "certSecretRef": {"name": "certs"},
    }
    await declared(world, "Bucket", **(where | spec))
    return bucket


async def put(store: S3Server, bucket: str, key: str, text: str) -> None:
    await anyio.to_thread.run_sync(store.put, bucket, key, text.encode())


async def test_a_bucket_is_fetched_applied_and_followed(world: World, store: S3Server) -> None:
    async with world.daemon() as running:
        bucket = await of_store(world, store, prefix="app/", ignore="*.md\n")
        await put(store, bucket, "app/a.yaml", config_map("a", n="1"))
        await put(store, bucket, "app/b.md", "no manifest")
        await put(store, bucket, "other/c.yaml", config_map("c"))
        await world.ask("Bucket", "src")
        await target(world, "Bucket")
        await world.until_target("app", is_ready)
        assert await world.data("a") == {"n": "1"}
        assert await world.data("c") is None
        source = await ready_source(world, "Bucket")
        etags = await anyio.to_thread.run_sync(store.listing, bucket, "app/a")
        line = "".join(f"{key} {etag}\n" for key, etag in etags.items())
        revision = f"sha256:{hashlib.sha256(line.encode()).hexdigest()}"
        assert source["status"]["artifact"]["revision"] == revision
        assert source["status"]["observedIgnore"] == "*.md\n"
        assert source["status"]["url"].endswith(f"/bucket/{world.namespace}/src/latest.tar.gz")
        assert condition(source, "Ready")["message"] == f"stored artifact: revision '{revision}'"
        await world.until_told("src", "NewArtifact", f"1 fetched files from '{bucket}' bucket", kind="Bucket")
        await put(store, bucket, "app/a.yaml", config_map("a", n="2"))
        await world.ask("Bucket", "src")
        await world.until_data("a", {"n": "2"})
        await running.idle()


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"bucketName": "nowhere"}, "BucketOperationFailed", "nowhere"),
        ({"secretRef": {"name": "wrong"}}, "AuthenticationFailed", "secretRef"),
        ({"secretRef": {"name": "none"}}, "AuthenticationFailed", "there is no Secret"),
        (
            {"provider": "gcp", "certSecretRef": None, "secretRef": None, "serviceAccountName": "x"},
            "FeatureGateDisabled",
            "enable the ObjectLevelWorkloadIdentity feature gate",
        ),
    ],
    ids=["no bucket", "wrong keys", "no Secret", "a cloud's identity"],
)
async def test_what_cannot_be_fetched_is_told(
    world: World, store: S3Server, spec: dict[str, Any], reason: str, words: str
) -> None:
    await secret(world, "wrong", accesskey=b"nobody", secretkey=b"a-secret-that-is-wrong")
    async with world.daemon():
        await of_store(world, store, **spec)
        found = await world.until(
            SOURCE, "Bucket", "src", lambda obj: obj is not None and failed(reason, words)(obj), reason
        )
        assert "a-secret-that-is-wrong" not in json.dumps(found)


def is_refused(words: str) -> Callable[[KubeObject | None], bool]:
    return lambda obj: obj is not None and failed("VerificationError", words)(obj)


async def test_what_is_not_signed_is_not_taken_and_what_is_becomes_ready(world: World, registry: OciRegistry) -> None:
    digest = await push(world, registry, "1", "latest")
    await pull_secret(world, registry)
    await secret(world, "keys", cosign_pub=pem(OURS))
    async with world.daemon() as running:
        await of_registry(world, registry, verify={"provider": "cosign", "secretRef": {"name": "keys"}})
        await target(world, "OCIRepository")
        refused = await world.until(
            SOURCE,
            "OCIRepository",
            "src",
            lambda obj: obj is not None and failed("VerificationError")(obj),
            "refused",
        )
        assert refused is not None
        assert condition(refused, "SourceVerified")["status"] == "False"
        assert await world.data("a") is None
        payload = simple_payload(digest)
        await anyio.to_thread.run_sync(push_simple, registry, world.namespace, digest, payload, sign(OURS, payload))
        await world.ask("OCIRepository", "src")
        verified = await ready_source(world, "OCIRepository")
        told = condition(verified, "SourceVerified")
        assert (told["status"], told["message"]) == ("True", f"verified signature of revision latest@{digest}")
        await world.until_target("app", is_ready)
        (fetched,) = running.events(RevisionFetched, stream=running.stream("OCIRepository", "src"))
        assert isinstance(fetched, RevisionFetched)
        assert fetched.signature == Signature(kind="cosign", key="cosign.pub", verdict="valid")
        # Without a key: by somebody whom the roots of trust know.
        own, repository = OwnSigstore(), world.namespace
        await secret(world, "roots", **{"trusted-root_json": own.trusted_root()})
        who = {"issuer": "^https://accounts\\.example\\.com$", "subject": "^ada@"}
        asked = {"provider": "cosign", "trustedRootSecretRef": {"name": "roots"}, "matchOIDCIdentity": [who]}
        await of_registry(world, registry, verify=asked)
        await world.until(SOURCE, "OCIRepository", "src", is_refused("has no trusted_root.json"), "no roots")
        roots = {"trusted_root.json": base64.b64encode(own.trusted_root()).decode()}
        await world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "roots"}, "data": roots})
        await world.until(SOURCE, "OCIRepository", "src", is_refused("is of the older form"), "refused")
        bundle = json.dumps(own.bundle(digest)).encode()
        await anyio.to_thread.run_sync(push_bundle, registry, repository, digest, bundle)
        await world.ask("OCIRepository", "src")
        verified = await ready_source(world, "OCIRepository")
        assert condition(verified, "SourceVerified")["observedGeneration"] == verified["metadata"]["generation"]
