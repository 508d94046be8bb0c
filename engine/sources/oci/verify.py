"""Whether an artifact was signed by whom it should be (contract OC-016 to OC-019, OC-024)."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci.address import is_digest
from tidelog.engine.sources.oci.answers import Question, Reach
from tidelog.engine.sources.oci.keyless import Check, Identity, Keyless
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
OLD_FORM: Final = (
    "it is of the older form, which carries no proof that the transparency log has it: sign with cosign 3, or with "
    "`cosign sign --new-bundle-format`"
)


class Signers(msgspec.Struct, frozen=True, kw_only=True):
    """Who may have signed: the owner of any key or, where there are none, any identity that the roots of trust know."""

    keys: Mapping[str, Key] = {}
    """Public keys, by their names in the Secret."""
    root: bytes = b""
    """The roots of trust, as JSON."""
    identities: tuple[Identity, ...] = ()


class _Found(msgspec.Struct, frozen=True):
    """A signature, and what became of it."""

    signer: str = ""
    why: str = ""


def signers_of(secret: Mapping[str, bytes]) -> Signers:
    """Those whose keys are in a Secret's data.

    Raises:
        FetchError: `VerificationError`, when there is none, or one cannot be used.
    """
    return Signers(keys=keys_of(secret))


def check_verification(provider: str, *, has_secret: bool, has_root: bool = False) -> None:
    """Refuses the kinds of signatures that are not checked.

    Args:
        provider: `spec.verify.provider`.
        has_secret: whether `spec.verify.secretRef` names keys.
        has_root: whether `spec.verify.trustedRootSecretRef` names roots of trust.

    Raises:
        FetchError: `VerificationError`; nothing of such an artifact is taken.
    """
    if provider != "cosign":
        raise _never(
            f"spec.verify.provider {provider!r} is not supported: sign with cosign and a key, and put the public "
            "key into the Secret of spec.verify.secretRef"
        )
    if not has_secret and not has_root:
        raise _never(
            "spec.verify without secretRef asks for keyless signatures of cosign, whose roots of trust are not fetched "
            "here: name them in spec.verify.trustedRootSecretRef of an OCIRepository, or sign with a key, and put the "
            "public key into the Secret of spec.verify.secretRef"
        )


async def verify(registry: Registry, keyless: Keyless, reach: Reach, head: OciHead, signers: Signers) -> Signature:
    """The signature by one of those who may have signed.

    Raises:
        FetchError: `VerificationError`, when there is none, or it cannot be had.
    """
    if not signers.keys:  # a root that cannot be used is told, whatever is signed
        await keyless.check(Check(root=signers.root, identities=signers.identities))
    count, last = 0, ""
    async for found in _signatures(registry, keyless, reach, head.digest, signers):
        if found.signer:
            return Signature(kind="cosign", key=found.signer, verdict="valid")
        count, last = count + 1, found.why
    if count == 0:
        why = "it has no signature of cosign: sign it with `cosign sign`"
    elif signers.keys:
        known = ", ".join(signers.keys)
        why = f"none of its signatures ({count}) is of a key in the Secret of spec.verify.secretRef ({known})"
    else:
        why = f"none of its signatures ({count}) holds; of the last one: {last}"
    raise FetchError("VerificationError", f"{reach.repository}@{head.digest} is not taken: {why}")


async def _signatures(
    registry: Registry, keyless: Keyless, reach: Reach, digest: str, signers: Signers
) -> AsyncIterator[_Found]:
    """Each signature, and who made it; nobody for one of somebody else, or about something else."""
    for layer in await _simple(registry, reach, digest):
        if not signers.keys:
            yield _Found(why=OLD_FORM)
            continue
        payload = await _blob(registry, reach, layer)
        signature = (layer.annotations or {}).get(SIGNATURE_NOTE, "")
        yield _Found(simple_signer(signers.keys, payload, signature, digest) or "")
    for entry in await _bundles(registry, reach, digest):
        bundle = await _bundle(registry, reach, entry)
        if bundle is None:
            yield _Found(why="its bundle is not there")
        elif signers.keys:
            yield _Found(bundle_signer(signers.keys, bundle, digest) or "")
        else:
            job = Check(root=signers.root, identities=signers.identities, bundle=bundle, digest=digest)
            found = await keyless.check(job)
            yield _Found(found.signer, found.why)


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
