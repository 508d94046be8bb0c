"""What is asked of an OCI registry, and what comes of it (contract 2.5)."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from tidelog.engine.sources.fetched import Head
from tidelog.events.names import Revision

DEFAULT_TAG: Final = "latest"
DEFAULT_TIMEOUT_S: Final = 60.0
CHART_LAYER: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
"""The layer with a Helm chart; its presence in a spec changes how tags are read (OC-022)."""

LayerOperation: TypeAlias = Literal["extract", "copy"]


class OciRef(msgspec.Struct, frozen=True, kw_only=True):
    """Which revision: the first that is given of digest, semver, tag; else the tag `latest` (OC-003)."""

    digest: str = ""
    semver: str = ""
    semver_filter: str = ""
    """Go's pattern that tags have to hold before the range is looked at (OC-006)."""
    tag: str = ""


class OciSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What an OCIRepository asks for."""

    url: str
    """`oci://` and the repository, without tag or digest (OC-001)."""
    ref: OciRef = OciRef()
    layer_media_type: str = ""
    """Of the layer that is wanted; without it, it is the first (OC-008)."""
    layer_operation: LayerOperation = "extract"
    insecure: bool = False
    """Plain HTTP may be used, and certificates are not looked at unless some are given (OC-015)."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    """For each question, and for a download."""


class OciHead(Head, frozen=True, kw_only=True):
    """What a registry has at a reference."""

    digest: str
    """Of the manifest, or of the index."""
    tag: str = ""
    """Empty where a digest was asked for."""


class LayerDescriptor(msgspec.Struct, frozen=True, kw_only=True):
    """A layer, as the manifest describes it."""

    media_type: str
    digest: str
    size: int


class OciArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest says: where it came from, and which layer is wanted."""

    head: OciHead
    annotations: Mapping[str, str]
    layer: LayerDescriptor


def head_of(digest: str, tag: str) -> OciHead:
    """A head, with its revision in Flux's format (OC-021)."""
    return OciHead(revision=Revision(f"{tag}@{digest}" if tag else digest), digest=digest, tag=tag)
