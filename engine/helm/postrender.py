"""What becomes of a rendered chart before it is applied (contract HR-055, HR-056, HR-111, HR-112).

Kustomize's patches and images in the order of the spec, then the common metadata, then the labels of the owner. Who
calls has kustomize; the rest is pure.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
from anyio import to_thread

from tidelog.engine.helm import gojson
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.sorting import content_of, joined, sorted_documents
from tidelog.engine.helm.spec import Hook, Kustomize, Manifest, PostRender, RenderedChart
from tidelog.engine.helm.yaml_out import encoded
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError
from tidelog.engine.render.normal import add_common
from tidelog.engine.render.spec import CommonMetadata
from tidelog.events.digest import digest_of

Build: TypeAlias = Callable[[Mapping[str, bytes]], Awaitable[str]]
"""Kustomize, on the files of a directory."""

FILE: Final = "postrenderer.helm.sh/postrender-filename"
"""The annotation that says where an object comes from while it is with kustomize, as Helm has it."""
_Stream: TypeAlias = list[tuple[str, KubeObject]]
"""Objects with their files."""
_INPUT: Final = "helm-output.yaml"


async def post_rendered(chart: RenderedChart, wanted: PostRender, build: Build) -> RenderedChart:
    """The chart with what a HelmRelease adds, in Helm's order again; CRDs and notes stay.

    Without kustomize, a render does it by itself (`RenderJob.post_render`).

    Raises:
        ChartError: when an object has no name, or comes twice, or what kustomize gives cannot be read.
        Exception: what `build` raises.
    """
    streams = []
    for stream in _streams(chart, wanted):
        found = await to_thread.run_sync(_taken, stream)
        for step in wanted.kustomize if found else ():
            files = await to_thread.run_sync(_files, found, step)
            found = await to_thread.run_sync(_given, await build(files))
        streams.append(found)
    return await to_thread.run_sync(_finished, chart, wanted, streams)


def post_rendered_alone(chart: RenderedChart, wanted: PostRender) -> RenderedChart:
    """The same without kustomize.

    Raises:
        ChartError: when an object has no name, or comes twice.
    """
    return _finished(chart, wanted, [_taken(stream) for stream in _streams(chart, wanted)])


def _streams(chart: RenderedChart, wanted: PostRender) -> list[list[Hook | Manifest]]:
    match wanted.strategy:
        case "combined":
            return [[*chart.hooks, *chart.manifests]]
        case "separate":
            return [[*chart.hooks], [*chart.manifests]]
        case "nohooks":
            return [[*chart.manifests]]


def _finished(chart: RenderedChart, wanted: PostRender, streams: Iterable[_Stream]) -> RenderedChart:
    files: dict[str, list[tuple[str, KubeObject]]] = {}
    for stream in streams:
        labelled((found for _, found in stream), wanted)
        for path, found in stream:
            files.setdefault(path, []).append((encoded(found), found))
    if wanted.strategy == "nohooks":
        for hook in chart.hooks:
            files.setdefault(hook.path, []).append((hook.text, hook.content))
    # What was written here says what it was written from: to read it again takes as long as to read the templates' own.
    manifests, hooks = sorted_documents({path: _as_one(path, written) for path, written in files.items()})
    return msgspec.structs.replace(chart, manifests=manifests, hooks=hooks)


def _as_one(path: str, written: Sequence[tuple[str, KubeObject]]) -> Iterator[tuple[str, KubeObject | None]]:
    for (text, found), left in zip(written, joined([text for text, _ in written]), strict=True):
        # A text with empty lines at its end loses them to a separator.
        is_whole = left in (text, text.removesuffix("\n"))
        yield left, found if is_whole else content_of(path, left)


def labelled(objects: Iterable[KubeObject], wanted: PostRender) -> None:
    """Puts the common metadata and the owner's labels on objects. In place."""
    for found in objects:
        add_common(found, wanted.common.labels, wanted.common.annotations)
        add_common(found, wanted.owner_labels, {})


def post_renderers_digest(wanted: Sequence[Kustomize | None]) -> str:
    """Flux's digest of `spec.postRenderers` (contract HR-129); None stands for an entry without `kustomize`."""
    if not wanted:
        return ""
    steps = [{} if step is None else {"kustomize": _as_go_has_it(step)} for step in wanted]
    return digest_of(f"{gojson.encoded(steps)}\n".encode())


def common_metadata_digest(common: CommonMetadata | None) -> str:
    """Flux's digest of `spec.commonMetadata`."""
    if common is None:
        return ""
    fields = {"annotations": gojson.go_map(common.annotations), "labels": gojson.go_map(common.labels)}
    return digest_of(f"{gojson.encoded({name: held for name, held in fields.items() if held})}\n".encode())


_SELECTOR: Final = ("group", "version", "kind", "namespace", "name", "annotationSelector", "labelSelector")


def _as_go_has_it(step: Kustomize) -> dict[str, object]:
    """A step with its fields in the order of Flux's structs."""
    found = msgspec.to_builtins(step)
    patches = [
        {
            "patch": patch["patch"],
            **({"target": _in_order(patch["target"], _SELECTOR)} if patch.get("target") is not None else {}),
        }
        for patch in found.get("patches", ())
    ]
    images = [_in_order(image, ("name", "newName", "newTag", "digest")) for image in found.get("images", ())]
    return {name: held for name, held in (("patches", patches), ("images", images)) if held}


def _in_order(found: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    return {name: found[name] for name in names if name in found}


def _taken(stream: Iterable[Hook | Manifest]) -> _Stream:
    return _checked((one.path, part) for one in stream for part in _flat(one.content))


def _files(found: _Stream, step: Kustomize) -> dict[str, bytes]:
    text = "---\n".join(encoded(_filed(path, part)) for path, part in found)
    kustomization = {"resources": [_INPUT], "sortOptions": {"order": "fifo"}, **msgspec.to_builtins(step)}
    return {_INPUT: text.encode(), "kustomization.yaml": msgspec.json.encode(kustomization)}


def _given(text: str) -> _Stream:
    return _checked(_unfiled(index, part) for index, part in enumerate(_read(text)))


def _read(text: str) -> Iterator[KubeObject]:
    try:
        values = [document.value for document in documents(text)]
    except YamlError as error:
        raise ChartError(f"what the post-renderer gives is no YAML: {error.problem}") from None
    for value in values:
        yield from _flat(value)


def _flat(value: KubeObject | None) -> list[KubeObject]:
    """The items of a list, as kustomize takes them one by one; none of an empty document."""
    if value is None:
        return []
    items = value.get("items")
    is_list = str(value.get("kind")).endswith("List") and isinstance(items, list)
    return [item for item in items if isinstance(item, dict)] if is_list and items is not None else [value]


def _checked(found: Iterable[tuple[str, KubeObject]]) -> _Stream:
    """Objects of their own, each with a name, and none twice, as kustomize wants them."""
    seen: dict[tuple[object, ...], str] = {}
    checked = []
    for path, part in found:
        metadata = part.get("metadata")
        if not isinstance(metadata, dict) or not metadata.get("name") or not part.get("kind"):
            raise ChartError(f"{path}: an object has no {'kind' if not part.get('kind') else 'metadata.name'}")
        key = part.get("apiVersion"), part["kind"], metadata.get("namespace") or "default", metadata["name"]
        if key in seen:
            raise ChartError(
                f"{path}: {part['kind']}/{metadata['name']} is in {seen[key]} already; where one of them is a hook, "
                "postRenderStrategy `separate` takes both"
            )
        seen[key] = path
        # Of its own down to where something is put in.
        copied = {name: dict(held) if isinstance(held, dict) else held for name, held in metadata.items()}
        checked.append((path, {**part, "metadata": copied}))
    return checked


def _filed(path: str, part: KubeObject) -> KubeObject:
    metadata = part["metadata"]
    annotations = {**(metadata.get("annotations") or {}), FILE: path}
    return {**part, "metadata": {**metadata, "annotations": annotations}}


def _unfiled(index: int, part: KubeObject) -> tuple[str, KubeObject]:
    annotations = (part.get("metadata") or {}).get("annotations") or {}
    path = annotations.pop(FILE, f"generated-by-postrender-{index}.yaml")
    if not annotations and isinstance(part.get("metadata"), dict):
        part["metadata"].pop("annotations", None)
    return path, part
