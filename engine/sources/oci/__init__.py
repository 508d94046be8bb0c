"""OCI registries: asked for what a reference leads to, and for the files that artifacts are made of."""

from tidelog.engine.sources.oci.credentials import ANONYMOUS, RegistryCredentials, registry_credentials
from tidelog.engine.sources.oci.fetcher import OciFetcher
from tidelog.engine.sources.oci.spec import LayerDescriptor, OciArtifact, OciHead, OciRef, OciSpec
from tidelog.engine.sources.oci.verify import Signers, check_verification, signers_of

__all__ = [
    "ANONYMOUS",
    "LayerDescriptor",
    "OciArtifact",
    "OciFetcher",
    "OciHead",
    "OciRef",
    "OciSpec",
    "RegistryCredentials",
    "Signers",
    "check_verification",
    "registry_credentials",
    "signers_of",
]
