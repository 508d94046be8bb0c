"""A Sigstore of the tests' own: an authority, two logs, and what `cosign sign` of version 3 makes with them."""

import base64
import hashlib
import json
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.sources.oci.test_signatures import BUNDLE, SIGNED, sign

STATEMENT = "application/vnd.in-toto+json"
SIGNED_AT = datetime(2026, 1, 1, tzinfo=UTC)
FOREVER = {"start": "2020-01-01T00:00:00Z"}
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
FULCIO = "1.3.6.1.4.1.57264.1"
CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
LEAF_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(der(key)).digest()


class OwnSigstore:
    """Signs for whom it is told to."""

    def __init__(self) -> None:
        self.authority, self.rekor, self.ctlog = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
        self.root = (
            self._builder(name, self.authority, timedelta(days=3650))
            .subject_name(name)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(CA_USAGE, critical=True)
            .sign(self.authority, hashes.SHA256())
        )

    def trusted_root(self, **changes: Any) -> bytes:
        found = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._log(self.rekor, "https://rekor.invalid")],
            "ctlogs": [self._log(self.ctlog, "https://ctlog.invalid")],
            "certificateAuthorities": [
                {
                    "subject": {"organization": "ours", "commonName": "an authority"},
                    "uri": "https://fulcio.invalid",
                    "certChain": {"certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]},
                    "validFor": FOREVER,
                }
            ],
            "timestampAuthorities": [],
        }
        return json.dumps(found | changes).encode()

    def bundle(
        self,
        digest: str,
        subject: str = "ada@example.com",
        issuer: str = "https://accounts.example.com",
        predicate: str = SIGNED,
        after: timedelta = timedelta(minutes=1),
    ) -> dict[str, Any]:
        """A bundle, signed so long after the certificate was given."""
        private = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf(private, subject, issuer)
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "", "digest": {"sha256": digest.removeprefix("sha256:")}}],
            "predicateType": predicate,
            "predicate": {},
        }
        payload = json.dumps(statement).encode()
        signature = sign(private, f"DSSEv1 {len(STATEMENT)} {STATEMENT} {len(payload)} ".encode() + payload)
        body = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": {"algorithm": "sha256", "value": "0" * 64},
                "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
                "signatures": [{"signature": signature, "verifier": b64(leaf.public_bytes(Encoding.PEM))}],
            },
        }
        material = {
            "certificate": {"rawBytes": b64(leaf.public_bytes(Encoding.DER))},
            "tlogEntries": [self._entry(json.dumps(body).encode(), SIGNED_AT + after)],
        }
        envelope = {"payload": b64(payload), "payloadType": STATEMENT, "signatures": [{"sig": signature}]}
        return {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}

    def _builder(self, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(SIGNED_AT)
            .not_valid_after(SIGNED_AT + lasts)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def _leaf(self, private: ec.EllipticCurvePrivateKey, subject: str, issuer: str) -> x509.Certificate:
        name = x509.RFC822Name(subject) if "://" not in subject else x509.UniformResourceIdentifier(subject)
        of_issuer = x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{FULCIO}.8"), asn1.encode_der(issuer))
        builder = (
            self._builder(self.root.subject, private, timedelta(minutes=10))
            .subject_name(x509.Name([]))
            .add_extension(LEAF_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key()), critical=False
            )
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(of_issuer, critical=False)
        )
        before = builder.sign(self.authority, hashes.SHA256()).tbs_certificate_bytes
        promised = x509.UnrecognizedExtension(SCT_LIST, asn1.encode_der(self._promise(before)))
        return builder.add_extension(promised, critical=False).sign(self.authority, hashes.SHA256())

    def _promise(self, certificate: bytes) -> bytes:
        """What a log of certificates promises (RFC 6962): a list of one."""
        at = int(SIGNED_AT.timestamp() * 1000)
        size = struct.pack("!I", len(certificate))[1:]
        signed = struct.pack("!BBQH", 0, 0, at, 1) + key_id(self.authority) + size + certificate + b"\0\0"
        signature = base64.b64decode(sign(self.ctlog, signed))
        promise = struct.pack("!B32sQHBBH", 0, key_id(self.ctlog), at, 0, 4, 3, len(signature)) + signature
        return struct.pack("!HH", len(promise) + 2, len(promise)) + promise

    def _entry(self, body: bytes, at: datetime) -> dict[str, Any]:
        """Of a transparency log that has no other."""
        leaf = b64(hashlib.sha256(b"\0" + body).digest())
        note = f"rekor.invalid - 1\n1\n{leaf}\n"
        mark = key_id(self.rekor)[:4] + base64.b64decode(sign(self.rekor, note.encode()))
        moment = int(at.timestamp())
        told = {"body": b64(body), "integratedTime": moment, "logID": key_id(self.rekor).hex(), "logIndex": 0}
        promise = sign(self.rekor, json.dumps(told, separators=(",", ":"), sort_keys=True).encode())
        checkpoint = f"{note}\n\u2014 rekor.invalid {b64(mark)}\n"
        return {
            "logIndex": "0",
            "logId": {"keyId": b64(key_id(self.rekor))},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(moment),
            "inclusionPromise": {"signedEntryTimestamp": promise},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": leaf,
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": b64(body),
        }

    @staticmethod
    def _log(key: ec.EllipticCurvePrivateKey, url: str) -> dict[str, Any]:
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {"rawBytes": b64(der(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": FOREVER},
            "logId": {"keyId": b64(key_id(key))},
        }
