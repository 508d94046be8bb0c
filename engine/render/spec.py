"""What a render reads of a Kustomization's spec, under the names that Flux gives the fields."""

from typing import Literal

import msgspec


class Selector(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Which objects a patch concerns."""

    group: str = ""
    version: str = ""
    kind: str = ""
    name: str = ""
    namespace: str = ""
    label_selector: str = ""
    annotation_selector: str = ""


class Patch(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A strategic-merge or JSON 6902 patch, inline (contract KS-020)."""

    patch: str
    target: Selector | None = None


class Image(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What replaces an image (contract KS-021)."""

    name: str
    new_name: str = ""
    new_tag: str = ""
    digest: str = ""


class CommonMetadata(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Labels and annotations for every object (contract KS-019)."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PostBuild(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Variables (contract KS-025, KS-027). Who calls reads `substituteFrom`."""

    substitute: dict[str, str] = {}
    substitute_strategy: Literal["WithVariables", "Always"] = "WithVariables"


class RenderSpec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The fields of `spec` that decide what is rendered.

    `msgspec.convert(spec, RenderSpec)` makes it of a whole spec as decoded JSON, and
    `msgspec.convert(spec, RenderSpec, from_attributes=True)` of a struct with the same fields.
    """

    path: str = ""
    target_namespace: str = ""
    name_prefix: str = ""
    name_suffix: str = ""
    patches: tuple[Patch, ...] = ()
    images: tuple[Image, ...] = ()
    components: tuple[str, ...] = ()
    ignore_missing_components: bool = False
    build_metadata: tuple[str, ...] = ()
    common_metadata: CommonMetadata | None = None
    post_build: PostBuild | None = None


def build_inputs(spec: RenderSpec) -> bytes:
    """What of `spec` the build of a directory depends on, encoded: equal bytes, equal build of equal files."""
    bare = msgspec.structs.replace(spec, path="", common_metadata=None, post_build=None)
    return msgspec.json.encode(bare, order="deterministic")
