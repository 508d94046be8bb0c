"""Whether an artifact was signed by whom it should be (contract OC-016 to OC-019, OC-024)."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci.address import is_digest
from tidelog.engine.sources.oci.answers import Question, Reach
from tidelog.engine.sources.oci.registry import MANIFEST_BYTES_MAX, Registry
from tidelog.engine.sources.oci.signatures import (
    BUNDLE,
    SIGNATURE_NOTE,
    SIMPLE_SIGNING,
    Key,
    bundle_signer,
    keys_of,
    simple_signer,
)
from tidelog.engine.sources.oci.spec import OciHead
from tidelog.engine.sources.oci.wire import ACCEPT, Descriptor, Manifest, manifest_of
from tidelog.events.vocabulary.fetch import Signature

SIGNATURES_MAX: Final = 64
"""Of one artifact; more are not looked at."""
SIGNATURE_BYTES_MAX: Final = 2**20


class Signers(msgspec.Struct, frozen=True, kw_only=True):
    """Who may have signed: any of them."""

    keys: Mapping[str, Key]
    """Public keys, by their names in the Secret."""


def signers_of(secret: Mapping[str, bytes]) -> Signers:
    """Those whose keys are in a Secret's data.

    Raises:
        FetchError: `VerificationError`, when there is none, or one cannot be used.
    """
    return Signers(keys=keys_of(secret))


def check_verification(provider: str, *, has_secret: bool) -> None:
    """Refuses the kinds of signatures that are not checked yet.

    Args:
        provider: `spec.verify.provider`.
        has_secret: whether `spec.verify.secretRef` names keys.

    Raises:
        FetchError: `VerificationError`; nothing of such an artifact is taken.
    """
    if provider != "cosign":
        raise _never(
            f"spec.verify.provider {provider!r} is not supported yet: sign with cosign and a key, and put the public "
            "key into the Secret of spec.verify.secretRef"
        )
    if not has_secret:
        raise _never(
            "spec.verify without secretRef asks for keyless signatures of cosign, which are not supported yet: sign "
            "with a key, and put the public key into the Secret of spec.verify.secretRef"
        )


async def verify(registry: Registry, reach: Reach, head: OciHead, signers: Signers) -> Signature:
    """The signature by one of those who may have signed.

    Raises:
        FetchError: `VerificationError`, when there is none, or it cannot be had.
    """
    count = 0
    keys = signers.keys
    async for signer in _signers(registry, reach, head.digest, keys):
        count += 1
        if signer is not None:
            return Signature(kind="cosign", key=signer, verdict="valid")
    if count == 0:
        why = "it has no signature of cosign: sign it with `cosign sign --key`"
    else:
        why = f"none of its signatures ({count}) is of a key in the Secret of spec.verify.secretRef ({', '.join(keys)})"
    raise FetchError("VerificationError", f"{reach.repository}@{head.digest} is not taken: {why}")


async def _signers(registry: Registry, reach: Reach, digest: str, keys: Mapping[str, Key]) -> AsyncIterator[str | None]:
    """For each signature the name of the key that made it; None for one of somebody else, or about something else."""
    for layer in await _simple(registry, reach, digest):
        payload = await _blob(registry, reach, layer)
        signature = (layer.annotations or {}).get(SIGNATURE_NOTE, "")
        yield simple_signer(keys, payload, signature, digest)
    for entry in await _bundles(registry, reach, digest):
        bundle = await _bundle(registry, reach, entry)
        yield None if bundle is None else bundle_signer(keys, bundle, digest)


async def _simple(registry: Registry, reach: Reach, digest: str) -> list[Descriptor]:
    """The documents of the older form, at a tag that is named after the digest."""
    found = await _manifest(registry, reach, f"{digest.replace(':', '-')}.sig")
    layers = [] if found is None else found.layers or []
    return [layer for layer in layers if layer.media_type == SIMPLE_SIGNING][:SIGNATURES_MAX]


async def _bundles(registry: Registry, reach: Reach, digest: str) -> list[Descriptor]:
    """What refers to the digest and is a bundle; of registries without the referrers API, at a tag."""
    question = Question("the signatures", "VerificationError")
    body = await registry.small(reach, f"referrers/{digest}", question, MANIFEST_BYTES_MAX, ACCEPT)
    found = None if body is None else manifest_of(body)
    if found is None:
        found = await _manifest(registry, reach, digest.replace(":", "-"))
    entries = [] if found is None else found.manifests or []
    return [entry for entry in entries if entry.artifact_type.startswith(BUNDLE)][:SIGNATURES_MAX]


async def _bundle(registry: Registry, reach: Reach, entry: Descriptor) -> bytes | None:
    if not is_digest(entry.digest):
        return None
    manifest = await _manifest(registry, reach, entry.digest)
    layers = [] if manifest is None else manifest.layers or []
    layer = next((layer for layer in layers if layer.media_type.startswith(BUNDLE)), None)
    return None if layer is None else await _blob(registry, reach, layer)


async def _manifest(registry: Registry, reach: Reach, reference: str) -> Manifest | None:
    question = Question(f"the signatures at {reference}", "VerificationError")
    body = await registry.small(reach, f"manifests/{reference}", question, MANIFEST_BYTES_MAX, ACCEPT)
    return None if body is None else manifest_of(body)


async def _blob(registry: Registry, reach: Reach, layer: Descriptor) -> bytes:
    """A small blob. It counts for nothing unless it is signed; that its digest holds tells a broken registry."""
    question = Question("a signature", "VerificationError")
    body = None
    if is_digest(layer.digest):
        body = await registry.small(reach, f"blobs/{layer.digest}", question, SIGNATURE_BYTES_MAX, "*/*")
    if body is None or f"sha256:{hashlib.sha256(body).hexdigest()}" != layer.digest:
        raise FetchError(
            "VerificationError",
            f"{reach.repository}: a signature ({layer.digest[:80]}) is not there, or is not what its manifest says: "
            "sign again, or look at the registry",
        )
    return body


def _never(message: str) -> FetchError:
    return FetchError("VerificationError", message, final=True)
