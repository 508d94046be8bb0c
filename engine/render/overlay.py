"""The kustomization file of a target's path, with the target's own fields put in (contract KS-052, KS-053).

Flux reads the file into kustomize's own structure, changes fields of it, and writes it back. So do we: fields that the
structure does not have fall away, and the build sees the same content. (A further layer above the file would be
tidier, and give other results: images would not merge, and names would be prefixed twice.)
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.paths import is_remote
from tidelog.engine.render.spec import Image, RenderSpec

FILE_NAMES: Final = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""What kustomize looks for, in its order."""

FIELDS: Final = frozenset({
    "apiVersion", "bases", "buildMetadata", "commonAnnotations", "commonLabels", "components", "configMapGenerator",
    "configurations", "crds", "generatorOptions", "generators", "helmChartInflationGenerator", "helmCharts",
    "helmGlobals", "imageTags", "images", "kind", "labels", "metadata", "namePrefix", "nameSuffix", "namespace",
    "openapi", "patches", "patchesJson6902", "patchesStrategicMerge", "replacements", "replicas", "resources",
    "secretGenerator", "sortOptions", "transformers", "validators", "vars",
})  # fmt: skip
"""What a kustomization file may have at its top."""

_LISTS: Final = ("resources", "patches", "components", "images")
_HEAD: Final[dict[str, Any]] = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    # Flux asks kustomize for no order but that of the files; the command would sort by kind.
    "sortOptions": {"order": "fifo"},
}
# YAML breaks lines at some of these in quoted text, and does not allow the others, where JSON takes them as they are.
_ESCAPED: Final = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF)}

Kustomization = dict[str, Any]


def generated(resources: Sequence[str]) -> Kustomization:
    """The file of a directory that has none."""
    if resources:
        return {"resources": list(resources)}
    return {"namespace": "_placeholder"}  # an empty file would be an error


def overlaid(
    found: Kustomization, spec: RenderSpec, *, written: bool, exists: Callable[[str], bool], named_in: str
) -> Kustomization:
    """`found`, with the fields of `spec`.

    Args:
        found: the file's content.
        spec: of the target.
        written: whether the file is in the source, and not generated.
        exists: whether there is something at a path, relative to the file.
        named_in: the file, for errors.

    Raises:
        RenderError: when a field of the file is no list where it should be, or a component is not local.
    """
    content = _HEAD | {name: value for name, value in found.items() if name in FIELDS and value is not None}
    for name in _LISTS:
        if not isinstance(content.get(name, []), list):
            raise RenderError(f"{named_in}: {name} has to be a list")
    if written and not content.get("resources"):
        content["buildMetadata"] = ["originAnnotations"]  # as in Flux, against "kustomization.yaml is empty"
    for name, text in (
        ("namespace", spec.target_namespace),
        ("namePrefix", spec.name_prefix),
        ("nameSuffix", spec.name_suffix),
    ):
        if text:
            content[name] = text
    _append(content, "patches", [msgspec.to_builtins(patch) for patch in spec.patches])
    _append(content, "components", [path for path in spec.components if _is_wanted(path, spec, exists)])
    if spec.images:
        content["images"] = _images(content.get("images", []), spec.images, named_in)
    if spec.build_metadata:
        content["buildMetadata"] = list(spec.build_metadata)
    return content


def encoded(content: Kustomization) -> bytes:
    """The file to write: JSON, which is YAML once a few characters are escaped."""
    return msgspec.json.encode(content).decode().translate(_ESCAPED).encode()


def unknown_fields(found: Kustomization) -> tuple[str, ...]:
    """Fields that kustomize does not have, and Flux drops from the file of a target's path."""
    return tuple(sorted(found.keys() - FIELDS))


def _append(content: Kustomization, name: str, items: list[Any]) -> None:
    if items:
        content[name] = [*content.get(name, []), *items]


def _is_wanted(path: str, spec: RenderSpec, exists: Callable[[str], bool]) -> bool:
    if is_remote(path) or path.startswith("/"):
        raise RenderError(f"spec.components: {path!r} must be local and relative to spec.path")
    return exists(path) or not spec.ignore_missing_components


def _images(found: list[Any], wanted: Sequence[Image], named_in: str) -> list[Any]:
    images: list[Any] = []
    for image in found:
        if not isinstance(image, dict):
            raise RenderError(f"{named_in}: images has an entry that is no mapping")
        images.append(dict(image))
    for image in wanted:
        same = next((entry for entry in images if entry.get("name", "") == image.name), None)
        if same is None:
            images.append(msgspec.to_builtins(image))
        else:
            _merge(same, image)
    return images


def _merge(entry: dict[str, Any], image: Image) -> None:
    """Field by field; but tag and digest are one choice, so that setting one clears the other."""
    if image.new_name:
        entry["newName"] = image.new_name
    if image.new_tag or image.digest:
        entry.pop("newTag", None)
        entry.pop("digest", None)
        entry |= {name: text for name, text in (("newTag", image.new_tag), ("digest", image.digest)) if text}
