"""Signatures that cosign makes with a key, read and checked: no IO. Those without are in `keyless.py`.

Two forms are known. The older one signs a small JSON document that names the digest ("simple signing"); its signature
is an annotation. The newer one is a Sigstore bundle: a DSSE envelope around an in-toto statement whose subject is the
digest. Neither needs a transparency log where the key is given, as in Flux.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tidelog.engine.sources.errors import FetchError
from tidelog.events.typed import decoder

SUFFIX: Final = ".pub"
SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE_NOTE: Final = "dev.cosignproject.cosign/signature"
SIMPLE_TYPES: Final = frozenset({"cosign container image signature", "https://sigstore.dev/cosign/sign/v1"})
BUNDLE: Final = "application/vnd.dev.sigstore.bundle"
"""How the media types of all versions of bundles begin."""
STATEMENT: Final = "application/vnd.in-toto+json"
SIGNED: Final = "https://sigstore.dev/cosign/sign/v1"
"""What a statement says that is a signature, and not what somebody attests of the artifact."""

Key: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


class _Image(msgspec.Struct, rename={"digest": "docker-manifest-digest"}):
    digest: str


class _Critical(msgspec.Struct):
    image: _Image
    type: str


class _Simple(msgspec.Struct):
    critical: _Critical


class _DsseSignature(msgspec.Struct):
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_DsseSignature]


class _Bundle(msgspec.Struct, rename="camel"):
    dsse_envelope: _Envelope


class _Subject(msgspec.Struct):
    digest: dict[str, str]


class _Statement(msgspec.Struct, rename="camel"):
    predicate_type: str
    subject: list[_Subject]


def keys_of(secret: Mapping[str, bytes]) -> dict[str, Key]:
    """The public keys in a Secret's data: every value whose name ends with `.pub` (OC-017).

    Raises:
        FetchError: `VerificationError`, when there is none, or one cannot be used.
    """
    found = {name: _key(name, pem) for name, pem in sorted(secret.items()) if name.endswith(SUFFIX)}
    if not found:
        raise FetchError(
            "VerificationError",
            f"the Secret in spec.verify.secretRef has no key whose name ends with {SUFFIX}: put public keys there, PEM",
            final=True,
        )
    return found


def simple_signer(keys: Mapping[str, Key], payload: bytes, signature: str, digest: str) -> str | None:
    """The name of the key that signed a document about this digest; None when none did."""
    try:
        critical = decoder(_Simple)(payload).critical
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if critical.image.digest != digest or critical.type not in SIMPLE_TYPES:
        return None
    return _signer(keys, payload, signature)


def bundle_signer(keys: Mapping[str, Key], bundle: bytes, digest: str) -> str | None:
    """The name of the key that signed a bundle's statement about this digest; None when none did."""
    try:
        envelope = decoder(_Bundle)(bundle).dsse_envelope
        payload = base64.b64decode(envelope.payload, validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        return None
    if not is_statement_about(envelope.payload_type, payload, digest):
        return None
    signed = _authenticated(envelope.payload_type, payload)
    names = (_signer(keys, signed, each.sig) for each in envelope.signatures[:8])
    return next((name for name in names if name is not None), None)


def is_statement_about(payload_type: str, payload: bytes, digest: str) -> bool:
    """Whether what is in an envelope says that somebody signed what has this digest."""
    try:
        statement = decoder(_Statement)(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    algorithm, _, value = digest.partition(":")
    is_about = any(subject.digest.get(algorithm) == value for subject in statement.subject)
    return payload_type == STATEMENT and statement.predicate_type == SIGNED and is_about


def _authenticated(payload_type: str, payload: bytes) -> bytes:
    """What is signed of a DSSE envelope: `PAE`."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _signer(keys: Mapping[str, Key], data: bytes, signature: str) -> str | None:
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return None
    return next((name for name, key in keys.items() if _holds(key, raw, data)), None)


def _holds(key: Key, signature: bytes, data: bytes) -> bool:
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                return any(_holds_with(key, signature, data, hash_) for hash_ in _hashes_of(key))
            case ed25519.Ed25519PublicKey():
                key.verify(signature, data)
            case rsa.RSAPublicKey():
                key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _holds_with(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    try:
        key.verify(signature, data, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


def _hashes_of(key: ec.EllipticCurvePublicKey) -> list[hashes.HashAlgorithm]:
    """Version 2 of cosign takes SHA-256 for every curve, version 3 the hash that is as large as the curve."""
    larger: dict[int, hashes.HashAlgorithm] = {384: hashes.SHA384(), 521: hashes.SHA512()}
    return [hashes.SHA256(), *filter(None, [larger.get(key.curve.key_size)])]


def _key(name: str, pem: bytes) -> Key:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable(name, "is no public key, PEM") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        raise _unusable(name, f"is an RSA key of {key.key_size} bits, and 2048 are the fewest")
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey):
        raise _unusable(name, "is neither an ECDSA nor an Ed25519 nor an RSA key")
    return key


def _unusable(name: str, why: str) -> FetchError:
    return FetchError(
        "VerificationError", f"the {name} of the Secret in spec.verify.secretRef {why}: correct it", final=True
    )
