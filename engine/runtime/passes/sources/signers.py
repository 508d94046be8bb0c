"""Who may have signed what a source has: read from a spec, and from the Secrets that it names."""

from tidelog.engine.kinds.helmchart import ChartVerification
from tidelog.engine.kinds.ocirepository import OCIVerification
from tidelog.engine.runtime.passes.sources.driver import Secrets
from tidelog.engine.sources.oci.verify import Signers, check_verification, signers_of


async def read_signers(secrets: Secrets, verify: OCIVerification | ChartVerification) -> Signers:
    """Those of `spec.verify` (contract OC-016 to OC-019, HC-008).

    Raises:
        FetchError: `VerificationError`, when they cannot be used.
        StageError: when a Secret is not there, or cannot be read.
    """
    reference = verify.secret_ref
    check_verification(verify.provider, has_secret=reference is not None)
    keys = {} if reference is None else await secrets.get(reference.name, "verify.secretRef", "VerificationError")
    return signers_of(keys)
