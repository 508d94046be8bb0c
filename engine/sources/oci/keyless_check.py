"""Holds bundles to roots of trust, with the package sigstore.

That is: the chain of the certificate, when it was signed, its entry in the transparency log, and the signature. Nothing
of it asks a network.
"""

import tempfile
from collections.abc import Callable
from typing import Final

import re2
from cryptography.hazmat import asn1
from cryptography.x509 import (
    Certificate,
    ExtensionNotFound,
    ObjectIdentifier,
    OtherName,
    RFC822Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
)
from sigstore.errors import Error, VerificationError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier

from tidelog.engine.sources.oci.keyless import ROOT_FILE, Check, Checked, Identity
from tidelog.engine.sources.oci.signatures import is_statement_about

ISSUER: Final = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
OLD_ISSUER: Final = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
"""The issuer of the identity, in UTF-8 as it is."""
USERNAME: Final = ObjectIdentifier("1.3.6.1.4.1.57264.1.7")
"""A name that is neither an address nor a URI."""
SHOWN_MAX: Final = 300

Matches = Callable[[str], object]


class UnusableError(ValueError):
    """Raised for roots of trust, or a pattern, that cannot be used."""


def check(job: Check) -> Checked:
    """Whether a bundle is a signature of a digest by one of the identities."""
    try:
        verifier = _verifier(job.root)
        policy = _Policy(job.identities)
    except UnusableError as error:
        return Checked(why=str(error), is_unusable=True)
    if not job.bundle:
        return Checked()
    try:
        payload_type, payload = verifier.verify_dsse(Bundle.from_json(job.bundle), policy)
    except Exception as error:  # noqa: BLE001 - what strangers wrote breaks the library in ways of its own: it is no signature
        return Checked(why=_shown(str(error) if isinstance(error, Error) else type(error).__name__))
    if not is_statement_about(payload_type, payload, job.digest):
        return Checked(why="it is not about this artifact, or attests something else of it")
    return Checked(signer=policy.signer)


class _Policy:
    """Takes certificates of the identities; where there are none, of anybody whom the roots of trust know."""

    def __init__(self, identities: tuple[Identity, ...]) -> None:
        self._wanted = [
            (_pattern("issuer", identity.issuer), _pattern("subject", identity.subject)) for identity in identities
        ]
        self.signer = ""
        """Of the certificate that was taken."""

    def verify(self, cert: Certificate) -> None:
        """See `VerificationPolicy`.

        Raises:
            VerificationError: when it is nobody's who may have signed.
        """
        issuer, subjects = _issuer(cert), _subjects(cert)
        for subject in subjects:
            is_wanted = any(of_issuer(issuer) and of_subject(subject) for of_issuer, of_subject in self._wanted)
            if is_wanted or not self._wanted:
                self.signer = _shown(f"{subject} ({issuer})")
                return
        raise VerificationError(
            f"it is signed by {', '.join(subjects) or 'nobody'} ({issuer or 'no issuer'}), and nothing in "
            "spec.verify.matchOIDCIdentity is so"
        )


def _verifier(root: bytes) -> Verifier:
    try:
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            file.write(root)
            file.flush()
            found = TrustedRoot.from_file(file.name)
        return Verifier(trusted_root=found)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it
        why = str(error).partition("\n")[0] if isinstance(error, Error) else "it is no trusted root of Sigstore's"
        raise UnusableError(
            f"the {ROOT_FILE} of the Secret in spec.verify.trustedRootSecretRef cannot be used ({_shown(why)}): put one"
            " there as `cosign trusted-root create` writes it"
        ) from None


def _pattern(name: str, text: str) -> Matches:
    options = re2.Options()
    options.log_errors = False
    try:
        matches: Matches = re2.compile(text, options).search
    except re2.error:
        raise UnusableError(
            f"the {name} {_shown(text)!r} in spec.verify.matchOIDCIdentity is no pattern of Go's: correct it"
        ) from None
    return matches


def _issuer(cert: Certificate) -> str:
    try:
        return asn1.decode_der(str, cert.extensions.get_extension_for_oid(ISSUER).value.public_bytes())
    except ExtensionNotFound:
        pass
    try:
        return cert.extensions.get_extension_for_oid(OLD_ISSUER).value.public_bytes().decode()
    except ExtensionNotFound:
        return ""


def _subjects(cert: Certificate) -> list[str]:
    names = cert.extensions.get_extension_for_class(SubjectAlternativeName).value
    others = [name for name in names.get_values_for_type(OtherName) if name.type_id == USERNAME]
    return [
        *names.get_values_for_type(RFC822Name),
        *names.get_values_for_type(UniformResourceIdentifier),
        *(asn1.decode_der(str, name.value) for name in others),
    ]


def _shown(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)[:SHOWN_MAX]
