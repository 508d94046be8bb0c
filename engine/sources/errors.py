"""What can go wrong with a source."""

from typing import Literal, TypeAlias

FetchReason: TypeAlias = Literal[
    "URLInvalid",
    "AuthenticationFailed",
    "GitOperationFailed",
    "EmptyGitRepository",
    "InvalidProviderConfiguration",
    "FeatureGateDisabled",
    "ArchiveOperationFailed",
    "OCIArtifactPullFailed",
    "OCIArtifactLayerOperationFailed",
    "ReadOperationFailed",
    "VerificationError",
    "BucketOperationFailed",
    "InvalidSTSConfiguration",
    "Failed",
    "IndexationFailed",
    "InvalidChartReference",
    "MetadataPatchError",
    "ValuesFilesError",
    "ChartPullError",
    "DependencyBuildError",
    "ChartPackageError",
    "ChartVerificationError",
]
"""Why a source could not be fetched (contract GR-031, OC-027, BU-015, HP-016, HC-017); `ArchiveOperationFailed` and
`ReadOperationFailed` are of the storage too (SC-017)."""


class FetchError(Exception):
    """Raised when a source cannot be asked or fetched.

    The message says what happened, where, and what to do. No credential is ever in it.
    """

    def __init__(
        self, reason: FetchReason, message: str, *, final: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason: FetchReason = reason
        self.message = message
        self.final = final
        """Whether the same inputs fail the same way for ever; else it is the surroundings, and an attempt."""
        self.retry_after_s = retry_after_s
        """How long the server asked to be left alone (`Retry-After`), if it did."""


class DirectoryError(ValueError):
    """Raised for a directory that cannot be taken as a tree; names the file, and says what to do."""
