"""Who may have signed what a source has: read from a spec, and from the Secrets that it names."""

from tidelog.engine.kinds.helmchart import ChartVerification
from tidelog.engine.kinds.ocirepository import OCIVerification
from tidelog.engine.runtime.passes.sources.driver import Secrets
from tidelog.engine.sources.oci.keyless import Identity, root_of
from tidelog.engine.sources.oci.verify import Signers, check_verification, signers_of


async def read_signers(secrets: Secrets, verify: OCIVerification | ChartVerification) -> Signers:
    """Those of `spec.verify` (contract OC-016 to OC-019, HC-008).

    Raises:
        FetchError: `VerificationError`, when they cannot be used.
        StageError: when a Secret is not there, or cannot be read.
    """
    keys, root = verify.secret_ref, verify.trusted_root_secret_ref if isinstance(verify, OCIVerification) else None
    check_verification(verify.provider, has_secret=keys is not None, has_root=root is not None)
    if keys is not None:
        return signers_of(await secrets.get(keys.name, "verify.secretRef", "VerificationError"))
    if root is None:
        raise TypeError("signatures without a key need roots of trust")
    data = await secrets.get(root.name, "verify.trustedRootSecretRef", "VerificationError")
    identities = tuple(Identity(issuer=one.issuer, subject=one.subject) for one in verify.match_oidc_identity)
    return Signers(root=root_of(data), identities=identities)
