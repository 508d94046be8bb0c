"""Signatures of cosign without a key, held to given roots of trust: a Sigstore of our own, a real registry."""

import copy
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.servers.oci_registry import OciRegistry
from tests.sources.oci.own_sigstore import OwnSigstore, b64
from tests.sources.oci.test_signatures import OURS, push_bundle, push_simple, sign, simple_payload
from tidelog.engine.sources.access import PLAIN_TLS
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci import ANONYMOUS, OciFetcher, OciSpec, Signers, check_verification, keyless
from tidelog.engine.sources.oci.keyless import Check, Identity, Keyless, root_of
from tidelog.events.vocabulary.fetch import Signature

ADA = "ada@example.com (https://accounts.example.com)"
OTHER = "sha256:" + "1" * 64


@pytest.fixture(scope="module")
def own() -> OwnSigstore:
    return OwnSigstore()


def identity(issuer: str = "^https://accounts\\.example\\.com$", subject: str = "^ada@example\\.com$") -> Identity:
    return Identity(issuer=issuer, subject=subject)


async def verified(fetcher: OciFetcher, url: str, root: bytes, *identities: Identity) -> Signature:
    spec = OciSpec(url=url)
    head = await fetcher.ask(spec)
    return await fetcher.verify(spec, ANONYMOUS, PLAIN_TLS, None, head, Signers(root=root, identities=identities))


async def refused(fetcher: OciFetcher, url: str, match: str, root: bytes, *identities: Identity) -> FetchError:
    with pytest.raises(FetchError, match=match) as caught:
        await verified(fetcher, url, root, *identities)
    assert caught.value.reason == "VerificationError"
    return caught.value


async def test_a_signature_by_an_identity_is_valid(
    registry: OciRegistry, fetcher: OciFetcher, own: OwnSigstore
) -> None:
    digest = registry.push("keyless", ("a/b", b"content")).digest
    url, root = registry.url("keyless"), own.trusted_root()
    workflow = "https://github.com/org/repo/.github/workflows/release.yml@refs/tags/v1"
    theirs = own.bundle(digest, workflow, "https://token.actions.githubusercontent.com")
    push_bundle(registry, "keyless", digest, *(json.dumps(one).encode() for one in (theirs, own.bundle(digest))))
    assert await verified(fetcher, url, root, identity()) == Signature(kind="cosign", key=ADA, verdict="valid")
    found = await verified(
        fetcher, url, root, identity("nobody"), identity("githubusercontent", "^https://github.com/org/")
    )
    assert found.key == f"{workflow} (https://token.actions.githubusercontent.com)"
    assert (await verified(fetcher, url, root)).key == found.key, "anybody's, where nobody is named"
    for one in (
        identity(subject="^bob"),
        identity(issuer="^https://evil"),
        identity("^$"),
        identity("githubusercontent"),
    ):
        error = await refused(fetcher, url, r"none of its signatures \(2\) holds; .*ada@example.com", root, one)
        assert not error.final, "it may be signed later"


def tampered(*path: Any, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(bundle: dict[str, Any]) -> dict[str, Any]:
        found = copy.deepcopy(bundle)
        at = found
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        return found

    return change


ENTRY = ("verificationMaterial", "tlogEntries", 0)


@pytest.mark.parametrize(
    "change",
    [
        tampered("dsseEnvelope", "payload", value=b64(b"{}")),
        tampered("dsseEnvelope", "signatures", value=[]),
        tampered("dsseEnvelope", "signatures", 0, "sig", value=b64(b"no signature")),
        tampered("verificationMaterial", "tlogEntries", value=[]),
        tampered("verificationMaterial", "certificate", "rawBytes", value=b64(b"no certificate")),
        tampered("verificationMaterial", "certificate", value=None),
        tampered(*ENTRY, "integratedTime", value="1767225601"),
        tampered(*ENTRY, "inclusionProof", value=None),
        tampered(*ENTRY, "inclusionProof", "treeSize", value="2"),
        tampered(*ENTRY, "inclusionProof", "rootHash", value=b64(bytes(32))),
        tampered(*ENTRY, "inclusionPromise", value=None),
        tampered(*ENTRY, "inclusionPromise", "signedEntryTimestamp", value=b64(b"no signature")),
        tampered(*ENTRY, "kindVersion", "kind", value="intoto"),
        tampered("mediaType", value="application/vnd.dev.sigstore.bundle.v9+json"),
        lambda _: {},
        lambda _: ["no bundle"],
    ],
)
def test_a_bundle_of_which_anything_is_changed_does_not_count(
    own: OwnSigstore, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    from tidelog.engine.sources.oci.keyless_check import check

    bundle = own.bundle(OTHER)
    for content, counts in ((bundle, True), (change(bundle), False)):
        found = check(Check(root=own.trusted_root(), bundle=json.dumps(content).encode(), digest=OTHER))
        assert (bool(found.signer), bool(found.why), found.is_unusable) == (counts, not counts, False)


def test_what_is_signed_of_something_else_or_too_late_or_known_to_nobody_does_not_count(own: OwnSigstore) -> None:
    from tidelog.engine.sources.oci.keyless_check import check

    stranger, root = OwnSigstore(), json.loads(own.trusted_root())
    theirs = json.loads(stranger.trusted_root())
    for bundle, roots in (
        (own.bundle("sha256:" + "2" * 64), {}),
        (own.bundle(OTHER, predicate="https://slsa.dev/provenance/v1"), {}),  # an attestation is no signature
        (own.bundle(OTHER, after=timedelta(minutes=11)), {}),  # the certificate holds for ten
        (own.bundle(OTHER, after=timedelta(minutes=-1)), {}),
        (stranger.bundle(OTHER), {}),
        (own.bundle(OTHER), {"tlogs": theirs["tlogs"]}),
        (own.bundle(OTHER), {"ctlogs": theirs["ctlogs"]}),
        (own.bundle(OTHER), {"ctlogs": []}),
        (own.bundle(OTHER), {"certificateAuthorities": theirs["certificateAuthorities"]}),
    ):
        job = Check(root=json.dumps(root | roots).encode(), bundle=json.dumps(bundle).encode(), digest=OTHER)
        found = check(job)
        assert not found.signer
        assert found.why


async def test_the_older_form_is_not_taken_without_a_key(
    registry: OciRegistry, fetcher: OciFetcher, own: OwnSigstore
) -> None:
    digest = registry.push("older", ("a/b", b"content")).digest
    payload = simple_payload(digest)
    push_simple(registry, "older", digest, payload, sign(OURS, payload))
    await refused(fetcher, registry.url("older"), "is of the older form, .*: sign with cosign 3", own.trusted_root())


async def test_what_is_not_signed_is_told(registry: OciRegistry, fetcher: OciFetcher, own: OwnSigstore) -> None:
    registry.push("bare", ("a/b", b"content"))
    await refused(fetcher, registry.url("bare"), "has no signature of cosign: sign it", own.trusted_root())


@pytest.mark.parametrize(
    ("root", "identities", "why"),
    [
        (b"hidden-one", (), "trusted_root.json of the Secret in spec.verify.trustedRootSecretRef cannot be used"),
        (b"{}", (), "cannot be used"),
        ({"mediaType": "another"}, (), r"cannot be used \(it is no trusted root of Sigstore's\)"),
        ({"tlogs": []}, (), r"cannot be used \(trusted root contains no transparency log instances\)"),
        ({"certificateAuthorities": []}, (), "cannot be used"),
        (
            {},
            (identity(issuer="(?<=a)b"),),
            r"the issuer '\(\?<=a\)b' in spec.verify.matchOIDCIdentity is no pattern of Go",
        ),
        ({}, (identity(subject="("),), "the subject"),
    ],
)
async def test_roots_and_patterns_that_cannot_be_used_are_told_before_anything_else(
    registry: OciRegistry, fetcher: OciFetcher, own: OwnSigstore, root: Any, identities: tuple[Identity, ...], why: str
) -> None:
    registry.push("unusable", ("a/b", b"content"))
    given = root if isinstance(root, bytes) else own.trusted_root(**root)
    error = await refused(fetcher, registry.url("unusable"), why, given, *identities)
    assert error.final
    assert "hidden-one" not in str(error)


async def test_a_process_that_does_not_answer_is_ended(own: OwnSigstore) -> None:
    checks = Keyless(timeout_s=0)
    try:
        with pytest.raises(FetchError, match="takes longer than 0 s to verify") as caught:
            await checks.check(Check(root=own.trusted_root()))
        assert (caught.value.reason, caught.value.final) == ("VerificationError", False)
    finally:
        await checks.aclose()


def test_what_cannot_be_done_here_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    check_verification("cosign", has_secret=False, has_root=True)
    assert root_of({"trusted_root.json": b"{}"}) == b"{}"
    with pytest.raises(FetchError, match=r"has no trusted_root\.json"):
        root_of({"root.json": b"{}"})
    monkeypatch.setattr(keyless, "_is_installed", False)
    with pytest.raises(FetchError, match=r"install tidelog\[sigstore\]") as caught:
        root_of({"trusted_root.json": b"{}"})
    assert (caught.value.reason, caught.value.final) == ("VerificationError", True)
