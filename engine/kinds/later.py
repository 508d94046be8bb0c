"""What the engine cannot do yet, and refuses instead of doing half of it.

An object that asks for one of these is Stalled with the reason `UNSUPPORTED` and these sentences; nothing of it is
carried out. A sentence names the field, says what is missing, and what to do.
"""

from collections.abc import Collection, Iterator
from functools import singledispatch

from tidelog.engine.kinds.bucket import BucketSpec
from tidelog.engine.kinds.externalartifact import ExternalArtifactSpec
from tidelog.engine.kinds.gitrepository import GitRepositorySpec
from tidelog.engine.kinds.helmchart import ChartVerification, HelmChartSpec
from tidelog.engine.kinds.helmrelease import HelmReleaseSpec
from tidelog.engine.kinds.helmrepository import HelmRepositorySpec
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.kinds.ocirepository import OCIRepositorySpec, OCIVerification
from tidelog.engine.kinds.registry import SourceSpec, TargetSpec

UNSUPPORTED = "UnsupportedFeature"
"""The reason of the condition."""
CLIENT_CERTIFICATE_KEYS = frozenset({"tls.crt", "tls.key", "certFile", "keyFile"})
"""Keys of a Secret that hold a client certificate (contract CM-070)."""
GITHUB_APP_KEYS = frozenset(
    {
        "githubAppID",
        "githubAppPrivateKey",
        "githubAppInstallationID",
        "githubAppInstallationOwner",
        "githubAppBaseURL",
    }
)
"""Keys of a Secret that identify a GitHub App (contract CM-074)."""


@singledispatch
def features_left(spec: SourceSpec | TargetSpec) -> tuple[str, ...]:
    """What a spec asks for and the engine cannot do yet, a sentence each; empty when it can do all of it."""
    raise TypeError(f"no spec: {type(spec).__name__}")


@features_left.register
def _of_source(spec: GitRepositorySpec) -> tuple[str, ...]:
    return tuple(_source_sentences(spec))


@features_left.register
def _of_oci(spec: OCIRepositorySpec) -> tuple[str, ...]:
    return tuple(_verify_sentences(spec.verify))


@features_left.register
def _of_helm_chart(spec: HelmChartSpec) -> tuple[str, ...]:
    return tuple(_verify_sentences(spec.verify))


@features_left.register
def _of_others(_: BucketSpec | ExternalArtifactSpec | HelmRepositorySpec | HelmReleaseSpec) -> tuple[str, ...]:
    return ()


@features_left.register
def _of_target(spec: KustomizationSpec) -> tuple[str, ...]:
    return tuple(_target_sentences(spec))


def credentials_left(keys: Collection[str], secret: str) -> tuple[str, ...]:
    """What the keys of the Secret that `spec.secretRef` names ask for and the engine cannot do yet.

    Args:
        keys: Of the Secret's data; the values are not needed.
        secret: The Secret's name, for the sentences.
    """
    found = []
    certificates = sorted(CLIENT_CERTIFICATE_KEYS.intersection(keys))
    if certificates:
        found.append(
            f"spec.secretRef: Secret {secret} has {' and '.join(certificates)}, and client certificates cannot be used "
            "yet; give username and password, or bearerToken, in a Secret without them"
        )
    if GITHUB_APP_KEYS.intersection(keys):
        found.append(
            f"spec.secretRef: Secret {secret} is for a GitHub App, and these cannot be used yet; "
            "give username and password, or bearerToken"
        )
    return tuple(found)


def _source_sentences(spec: GitRepositorySpec) -> Iterator[str]:
    if spec.url.startswith("ssh://"):
        yield "spec.url: ssh cannot be used yet; give the https address, and a token in spec.secretRef"
    if spec.effective_provider != "generic":
        yield (
            f"spec.provider: {spec.effective_provider} cannot be used yet; leave it out, and give credentials in "
            "spec.secretRef"
        )
    if spec.verify is not None:
        yield "spec.verify: signatures cannot be verified yet, and nothing is fetched without; leave it out to do so"
    if spec.proxy_secret_ref is not None:
        yield "spec.proxySecretRef: proxies cannot be used yet; leave it out where the repository is reached directly"
    if spec.recurse_submodules:
        yield "spec.recurseSubmodules: submodules cannot be fetched yet; leave it out, and copy what they hold"
    if spec.include:
        yield "spec.include: other repositories cannot be included yet; leave it out, and use a Kustomization for each"
    if spec.sparse_checkout:
        yield "spec.sparseCheckout: parts of a repository cannot be fetched yet; leave it out, and use spec.ignore"


def _verify_sentences(verify: OCIVerification | ChartVerification | None) -> Iterator[str]:
    if verify is not None and verify.provider != "cosign":
        yield f"spec.verify.provider: {verify.provider} cannot be used yet; sign with cosign and a key"
    elif isinstance(verify, ChartVerification) and verify.secret_ref is None:
        yield (
            "spec.verify: the roots of trust of signatures without a key are not fetched; sign with a key, and name it "
            "in secretRef, or take the chart from an OCIRepository with trustedRootSecretRef"
        )
    elif isinstance(verify, OCIVerification) and verify.secret_ref is None and verify.trusted_root_secret_ref is None:
        yield (
            "spec.verify: the roots of trust of signatures without a key are not fetched; name them in "
            "trustedRootSecretRef, or sign with a key, and name it in secretRef"
        )


def _target_sentences(spec: KustomizationSpec) -> Iterator[str]:
    if spec.decryption is not None:
        yield "spec.decryption: nothing can be decrypted yet; leave it out where the source holds no encrypted files"
    if spec.ignore:
        yield "spec.ignore: fields cannot be left alone yet; leave them out of the manifests"
