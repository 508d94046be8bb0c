"""Signatures of cosign by a key, in both forms, on a real registry, and those that must not count."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.servers.lying_registry import lying_registry, sends, sends_json
from tests.servers.oci_registry import OCI_MANIFEST, OciRegistry, descriptor, digest_of
from tidelog.engine.sources.access import PLAIN_TLS
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci import ANONYMOUS, OciFetcher, OciRef, OciSpec, check_verification, signers_of
from tidelog.events.vocabulary.fetch import Signature

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNED = "https://sigstore.dev/cosign/sign/v1"

PRIVATE: dict[str, Any] = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "rsa": rsa.generate_private_key(65537, 2048),
}
OURS = PRIVATE["p256"]
THEIRS = ec.generate_private_key(ec.SECP256R1())


def pem(private: Any) -> bytes:
    made: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return made


def sign(private: Any, data: bytes) -> str:
    if isinstance(private, ec.EllipticCurvePrivateKey):
        is_large = private.key_size == 384 and data.startswith(b"DSSE")  # version 3; version 2 has one hash for all
        made = private.sign(data, ec.ECDSA(hashes.SHA384() if is_large else hashes.SHA256()))
    elif isinstance(private, rsa.RSAPrivateKey):
        made = private.sign(data, padding.PKCS1v15(), hashes.SHA256())
    else:
        made = private.sign(data)
    return base64.b64encode(made).decode()


def simple_payload(digest: str, kind: str = "cosign container image signature") -> bytes:
    image = {"docker-manifest-digest": digest}
    critical = {"identity": {"docker-reference": ""}, "image": image, "type": kind}
    return json.dumps({"critical": critical, "optional": None}).encode()


def push_simple(registry: OciRegistry, name: str, digest: str, payload: bytes, *signatures: str) -> None:
    """As `cosign sign --key` of version 2 does."""
    for content in (b"{}", payload):
        registry.push_blob(name, content)
    notes = [{"dev.cosignproject.cosign/signature": signature} for signature in signatures]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": [descriptor(SIMPLE, payload, annotations=note) for note in notes],
    }
    registry.push_manifest(name, f"{digest.replace(':', '-')}.sig", OCI_MANIFEST, json.dumps(manifest).encode())


def bundle(
    private: Any, digest: str, predicate: str = SIGNED, payload_type: str = "application/vnd.in-toto+json"
) -> bytes:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "", "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": predicate,
        "predicate": {},
    }
    payload = json.dumps(statement).encode()
    signed = f"DSSEv1 {len(payload_type)} {payload_type} {len(payload)} ".encode() + payload
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"sig": sign(private, signed)}],
    }
    material = {"publicKey": {"hint": "a hint"}, "tlogEntries": []}
    return json.dumps({"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}).encode()


def push_bundle(registry: OciRegistry, name: str, digest: str, *bundles: bytes) -> None:
    """As `cosign sign --key` of version 3 does where the registry has no referrers API."""
    empty = ("application/vnd.oci.empty.v1+json", b"{}")
    entries = []
    for content in bundles:
        pushed = registry.push(name, (BUNDLE, content), tag="bundle", config=empty, artifactType=BUNDLE)
        entries.append(descriptor(OCI_MANIFEST, pushed.manifest, artifactType=BUNDLE))
    registry.push_index(name, digest.replace(":", "-"), *entries)


async def verified(fetcher: OciFetcher, url: str, keys: dict[str, bytes], digest: str = "") -> Signature:
    spec = OciSpec(url=url, ref=OciRef(digest=digest))
    head = await fetcher.ask(spec)
    return await fetcher.verify(spec, ANONYMOUS, PLAIN_TLS, None, head, signers_of(keys))


async def refused(fetcher: OciFetcher, url: str, keys: dict[str, bytes], match: str) -> FetchError:
    with pytest.raises(FetchError, match=match) as caught:
        await verified(fetcher, url, keys)
    assert caught.value.reason == "VerificationError"
    return caught.value


@pytest.mark.parametrize("kind", list(PRIVATE))
async def test_a_simple_signature_by_one_of_the_keys_is_valid(
    registry: OciRegistry, fetcher: OciFetcher, kind: str
) -> None:
    name = f"simple/{kind}"
    digest = registry.push(name, ("a/b", b"content")).digest
    payload = simple_payload(digest)
    push_simple(registry, name, digest, payload, sign(THEIRS, payload), sign(PRIVATE[kind], payload))
    keys = {f"{each}.pub": pem(private) for each, private in PRIVATE.items()} | {"password": b"no key"}
    found = await verified(fetcher, registry.url(name), keys)
    assert found == Signature(kind="cosign", key=f"{kind}.pub", verdict="valid")


@pytest.mark.parametrize("kind", list(PRIVATE))
async def test_a_bundle_by_one_of_the_keys_is_valid(registry: OciRegistry, fetcher: OciFetcher, kind: str) -> None:
    name = f"bundle/{kind}"
    digest = registry.push(name, ("a/b", b"content")).digest
    push_bundle(registry, name, digest, bundle(THEIRS, digest), bundle(PRIVATE[kind], digest))
    found = await verified(fetcher, registry.url(name), {f"{kind}.pub": pem(PRIVATE[kind])})
    assert found == Signature(kind="cosign", key=f"{kind}.pub", verdict="valid")


async def test_what_is_not_signed_is_told(registry: OciRegistry, fetcher: OciFetcher) -> None:
    registry.push("unsigned", ("a/b", b"content"))
    await refused(fetcher, registry.url("unsigned"), {"a.pub": pem(OURS)}, "has no signature of cosign: sign it")


async def test_a_simple_signature_that_does_not_hold_does_not_count(registry: OciRegistry, fetcher: OciFetcher) -> None:
    digest = registry.push("simple", ("a/b", b"content")).digest
    other = registry.push("simple", ("a/b", b"other"), tag="other").digest
    mine, another, kind = simple_payload(digest), simple_payload(other), simple_payload(digest, "something else")
    for payload, signature in (
        (mine, sign(THEIRS, mine)),
        (another, sign(OURS, another)),  # of another artifact, moved here
        (mine, sign(OURS, another)),
        (kind, sign(OURS, kind)),
        (mine, "no base64"),
        (mine, ""),
        (b"no json", sign(OURS, b"no json")),
    ):
        push_simple(registry, "simple", digest, payload, signature)
        error = await refused(fetcher, registry.url("simple"), {"a.pub": pem(OURS)}, r"none of its signatures \(1\)")
        assert not error.final, "it may be signed later"
    push_simple(registry, "simple", digest, mine, sign(OURS, mine))
    assert (await verified(fetcher, registry.url("simple"), {"a.pub": pem(OURS)})).verdict == "valid"


async def test_a_bundle_that_does_not_hold_does_not_count(registry: OciRegistry, fetcher: OciFetcher) -> None:
    digest = registry.push("bundle", ("a/b", b"content")).digest
    other = registry.push("bundle", ("a/b", b"other"), tag="other").digest
    swapped = json.loads(bundle(OURS, other))
    swapped["dsseEnvelope"]["payload"] = json.loads(bundle(OURS, digest))["dsseEnvelope"]["payload"]
    for content in (
        bundle(THEIRS, digest),
        bundle(OURS, other),
        bundle(OURS, digest, predicate="https://slsa.dev/provenance/v1"),  # an attestation is no signature
        bundle(OURS, digest, payload_type="text/plain"),
        json.dumps(swapped).encode(),
        b"no json",
        b"{}",
    ):
        push_bundle(registry, "bundle", digest, content)
        await refused(fetcher, registry.url("bundle"), {"a.pub": pem(OURS)}, r"none of its signatures \(1\)")
    push_bundle(registry, "bundle", digest, bundle(OURS, digest))
    assert (await verified(fetcher, registry.url("bundle"), {"a.pub": pem(OURS)})).verdict == "valid"


async def test_a_registry_with_the_referrers_api_is_asked_by_it(fetcher: OciFetcher) -> None:
    async with lying_registry() as lying:
        digest = lying.has(b"content")
        content = bundle(OURS, digest)
        manifest = json.dumps({"schemaVersion": 2, "layers": [descriptor(BUNDLE, content)]}).encode()
        entry = descriptor(OCI_MANIFEST, manifest, artifactType=BUNDLE)
        lying.answers[f"/referrers/{digest}"] = sends_json({"schemaVersion": 2, "manifests": [entry]})
        lying.answers[f"/manifests/{digest_of(manifest)}"] = sends(manifest)
        lying.answers[f"/blobs/{digest_of(content)}"] = sends(content)
        assert (await verified(fetcher, lying.url(), {"a.pub": pem(OURS)})).key == "a.pub"
        lying.answers[f"/blobs/{digest_of(content)}"] = sends(b"something else")
        await refused(fetcher, lying.url(), {"a.pub": pem(OURS)}, "is not what its manifest says")
        lying.answers[f"/referrers/{digest}"] = sends(b"", 500)
        await refused(fetcher, lying.url(), {"a.pub": pem(OURS)}, "answers with status 500")


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({}, "has no key whose name ends with .pub"),
        ({"cosign.key": pem(OURS)}, "has no key whose name ends with .pub"),
        ({"a.pub": b"hidden-one"}, "the a.pub of the Secret in spec.verify.secretRef is no public key"),
        ({"a.pub": pem(OURS), "b.pub": b""}, "the b.pub of the Secret"),
        ({"a.pub": pem(rsa.generate_private_key(65537, 1024))}, "is an RSA key of 1024 bits"),
        ({"a.pub": pem(dsa.generate_private_key(1024))}, "is neither an ECDSA nor an Ed25519 nor an RSA key"),
    ],
    ids=["nothing", "no name", "no key", "one of two", "short", "of another kind"],
)
async def test_keys_that_cannot_be_used_are_told(
    registry: OciRegistry, fetcher: OciFetcher, keys: dict[str, bytes], why: str
) -> None:
    registry.push("keys", ("a/b", b"content"))
    error = await refused(fetcher, registry.url("keys"), keys, why)
    assert error.final
    assert "hidden-one" not in str(error)


def test_what_is_not_checked_yet_is_refused() -> None:
    check_verification("cosign", has_secret=True)
    for provider, has_secret, why in (
        ("notation", True, "spec.verify.provider 'notation' is not supported: sign with cosign"),
        (
            "cosign",
            False,
            "asks for keyless signatures of cosign, whose roots of trust are not fetched here: name them",
        ),
    ):
        with pytest.raises(FetchError, match=why) as caught:
            check_verification(provider, has_secret=has_secret)
        assert (caught.value.reason, caught.value.final) == ("VerificationError", True)
