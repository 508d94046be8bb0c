"""Which tag, and which layer: pure."""

from collections.abc import Callable, Iterable
from typing import Final

import re2

from tidelog.engine.sources.errors import FetchError, FetchReason
from tidelog.engine.sources.oci.address import is_digest, is_tag
from tidelog.engine.sources.oci.spec import CHART_LAYER, DEFAULT_TAG, LayerDescriptor, OciRef, OciSpec
from tidelog.engine.sources.oci.wire import Descriptor
from tidelog.engine.sources.semver import NoRangeError, Version, range_of, version_of

TAGS_SHOWN: Final = 5


def check_ref(ref: OciRef) -> None:
    """Refuses a reference that can lead to nothing.

    Raises:
        FetchError: when it is none.
    """
    if ref.digest:
        if not is_digest(ref.digest):
            raise _never("OCIArtifactPullFailed", f"spec.ref.digest {ref.digest[:80]!r} is no sha256:<64 hex> digest")
    elif ref.semver:
        try:
            range_of(ref.semver)
        except NoRangeError as error:
            raise _never("ReadOperationFailed", f"spec.ref.semver: {error}") from None
        _pattern(ref.semver_filter)
    elif ref.tag and not is_tag(ref.tag):
        raise _never("OCIArtifactPullFailed", f"spec.ref.tag {ref.tag[:130]!r} can be no tag: correct it")


def tag_of(ref: OciRef) -> str:
    """The tag that is named; nothing where it is to be found among those that are there."""
    return "" if ref.digest or ref.semver else ref.tag or DEFAULT_TAG


def choose_tag(spec: OciSpec, tags: Iterable[str]) -> str:
    """The tag with the highest version in `spec.ref.semver` (OC-005, OC-006, OC-022).

    Raises:
        FetchError: when there is none.
    """
    ref = spec.ref
    wanted, holds = range_of(ref.semver), _pattern(ref.semver_filter)
    is_chart = spec.layer_media_type == CHART_LAYER
    best: tuple[Version, str] | None = None
    count = 0
    for tag in tags:
        count += 1
        version = version_of(tag.replace("_", "+") if is_chart else tag) if holds(tag) else None
        # Tags of equal versions (they differ in a `v`, or in build metadata) come in no order: the greatest text wins.
        if version is not None and version in wanted and (best is None or (version, tag) > best):
            best = version, tag
    if best is None:
        through = f" that hold spec.ref.semverFilter {ref.semver_filter!r}" if ref.semver_filter else ""
        raise FetchError(
            "ReadOperationFailed",
            f"{spec.url}: none of the {count} tags{through} is in spec.ref.semver {ref.semver!r}: "
            "push one, or correct the range",
        )
    return best[1]


def choose_layer(spec: OciSpec, layers: Iterable[Descriptor]) -> LayerDescriptor:
    """The layer that is wanted (OC-008).

    Raises:
        FetchError: `OCIArtifactLayerOperationFailed`, when it is not there, or is described in no way that can be used.
    """
    listed = list(layers)
    wanted = spec.layer_media_type
    found = next((each for each in listed if not wanted or each.media_type == wanted), None)
    if found is None:
        there = ", ".join(sorted({each.media_type for each in listed})[:TAGS_SHOWN])
        why = f"no layer of the type {wanted!r}, only {there}" if listed else "no layers at all"
        raise _layer(spec, f"the artifact has {why}: correct spec.layerSelector, or push another")
    if not is_digest(found.digest) or found.size < 0:
        raise _layer(spec, f"the layer's digest {found.digest[:80]!r} is no sha256:<64 hex> digest: push it again")
    return LayerDescriptor(media_type=found.media_type, digest=found.digest, size=found.size)


def _layer(spec: OciSpec, why: str) -> FetchError:
    return FetchError("OCIArtifactLayerOperationFailed", f"{spec.url}: {why}", final=bool(spec.ref.digest))


def _pattern(text: str) -> Callable[[str], object]:
    if not text:
        return lambda _: True
    options = re2.Options()
    options.log_errors = False
    try:
        search: Callable[[str], object] = re2.compile(text, options).search
    except re2.error:
        raise _never(
            "ReadOperationFailed", f"spec.ref.semverFilter {text[:200]!r} is no pattern of Go's: correct it"
        ) from None
    return search


def _never(reason: FetchReason, message: str) -> FetchError:
    return FetchError(reason, message, final=True)
