"""Why a build failed, with file and line: kustomize names the first rarely and the second almost never.

Only failed builds pay for this.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

from tidelog.engine.render.cycles import Written, cycle
from tidelog.engine.render.documents import Document, documents
from tidelog.engine.render.errors import YamlError
from tidelog.engine.render.fields import mappings, texts, values
from tidelog.engine.render.lines import line_of_field, line_of_text
from tidelog.engine.render.overlay import FIELDS, FILE_NAMES
from tidelog.engine.render.walk import Walk
from tidelog.storage.trees import Trees

FINDINGS_MAX: Final = 5
FILES_MAX: Final = 2_000
FILE_BYTES_MAX: Final = 4 * 1024 * 1024

_YAML: Final = (".yaml", ".yml")
_patched = re.compile(r"no resource matches strategic merge patch \"(?P<kind>[^.\s]+)\.\S*?/(?P<name>[^.\s]+)\.")
_twice = re.compile(r"already registered id: (?P<kind>[^.\s]+)\.\S*?/(?P<name>[^.\s]+)")


def diagnose(trees: Trees, tree: str, walk: Walk, said: str) -> tuple[str, ...]:
    """Sentences on what is wrong in the files that the build read. Blocks.

    Args:
        trees: where the files are.
        tree: the source's tree.
        walk: of the build.
        said: what kustomize said.
    """
    findings = list(walk.missing)
    found: list[tuple[str, Document]] = []
    kustomizations: dict[str, Written] = {}
    for path, text in _texts(trees, tree, walk, findings):
        try:
            read = documents(text)
        except YamlError as error:
            if _is_yaml(path):
                findings.append(f"{path}:{error.line or 1}: {error.problem}")
            continue
        found += [(path, document) for document in read if document.value is not None]
        if is_kustomization(path) and read and isinstance(read[0].value, dict):
            kustomizations[path.rpartition("/")[0]] = (path, text, read[0].value)
    findings += _unknown_fields(found, walk)
    findings += _twice_in(found, said)
    findings += _patches_of_nothing(found, kustomizations.values(), said)
    if "cycle detected" in said and (sentence := cycle(kustomizations, walk.root)):
        findings.append(sentence)
    if not findings:
        findings += _no_objects(found, walk)
    return tuple(findings[:FINDINGS_MAX])


def places_of_variable(trees: Trees, tree: str, walk: Walk, name: str) -> tuple[str, ...]:
    """Where the files of a build refer to a variable, as `file:line`. Blocks."""
    reference = re.compile(rf"\$\{{#?{re.escape(name)}(?![_A-Za-z0-9])")
    places = [
        f"{path}:{number}"
        for path, text in _texts(trees, tree, walk)
        for number, line in enumerate(text.splitlines(), 1)
        if reference.search(line)
    ]
    return tuple(places[:FINDINGS_MAX])


Field: TypeAlias = tuple[str, str, str]
"""Kind and name of an object, and the path of a field in it; empty for the object itself."""


def places_of_fields(trees: Trees, tree: str, walk: Walk, fields: Collection[Field]) -> dict[Field, str]:
    """Where fields of objects are written, as `file:line`; where a field cannot be found, the object. Blocks.

    None is found of objects that are called otherwise there.
    """
    places: dict[Field, str] = {}
    names = {(kind, name) for kind, name, _ in fields}
    for path, text in _texts(trees, tree, walk):
        if not _is_yaml(path) or not any(name in text for _, name in names):
            continue
        try:
            read = documents(text)
        except YamlError:
            continue
        for document in read:
            items = document.value.get("items") if isinstance(document.value, dict) else None
            listed = isinstance(items, list)
            for number, value in enumerate(items if isinstance(items, list) else [document.value]):
                called = _names(value)
                for field in fields if called in names else ():
                    if field[:2] == called and field not in places:
                        line = line_of_field(text, document.line, number if listed else None, field[2])
                        places[field] = f"{path}:{line or document.line}"
    return places


def objects_in(document: Document) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """The objects of a document, which may be a list, with their kinds and names."""
    items = document.value.get("items") if isinstance(document.value, dict) else None
    for value in items if isinstance(items, list) else [document.value]:
        if (called := _names(value))[1]:
            yield called, value


def _texts(trees: Trees, tree: str, walk: Walk, findings: list[str] | None = None) -> Iterator[tuple[str, str]]:
    """The files that are text; of YAML that is none, `findings` tell."""
    for path, blob in blobs(trees, tree, walk):
        data = trees.read(blob)
        if len(data) > FILE_BYTES_MAX:
            continue
        try:
            yield path, data.decode()
        except UnicodeDecodeError as error:
            if _is_yaml(path) and findings is not None:
                line = data.count(b"\n", 0, error.start) + 1
                findings.append(f"{path}:{line}: not UTF-8")


def blobs(trees: Trees, tree: str, walk: Walk, most: int = FILES_MAX) -> Iterator[tuple[str, str]]:
    """The files that a build reads, by path and id; not more than `most`. Blocks."""
    number = 0
    for path in walk.checkout:
        for below, blob in blobs_below(trees, tree, path):
            number += 1
            if number > most:
                return
            yield below, blob


def blobs_below(trees: Trees, tree: str, path: str) -> Iterator[tuple[str, str]]:
    """The files at a path or below it, by path and id. Blocks."""
    entry = trees.entry(tree, path)
    if entry is None or entry.kind == "link":
        return
    if entry.kind == "blob":
        yield path, entry.id
        return
    for name, child in sorted(trees.children(entry.id).items()):
        below = f"{path}/{name}" if path else name
        if child.kind == "tree":
            yield from blobs_below(trees, tree, below)
        elif child.kind == "blob":
            yield below, child.id


def _is_yaml(path: str) -> bool:
    return path.endswith(_YAML) or is_kustomization(path)


def is_kustomization(path: str) -> bool:
    """Whether a file has the name of a kustomization file."""
    return path.rpartition("/")[2] in FILE_NAMES


def _unknown_fields(found: list[tuple[str, Document]], walk: Walk) -> Iterator[str]:
    for path, document in found:
        if not is_kustomization(path) or path == walk.file or not isinstance(document.value, dict):
            continue
        for field in sorted(document.value.keys() - FIELDS, key=document.keys.__getitem__):
            yield f"{path}:{document.keys[field]}: {field!r} is no field of a kustomization"


def _twice_in(found: list[tuple[str, Document]], said: str) -> Iterator[str]:
    match = _twice.search(said)
    if match is None:
        return
    places = [
        f"{path}:{document.line}"
        for path, document in found
        if _names(document.value) == (match["kind"], match["name"])
    ]
    if len(places) > 1:
        yield f"{match['kind']}/{match['name']} comes twice: {', '.join(places[:FINDINGS_MAX])}"
    elif places:
        yield f"{match['kind']}/{match['name']} of {places[0]} comes twice: something lists it again"


def _patches_of_nothing(
    found: list[tuple[str, Document]], kustomizations: Iterable[Written], said: str
) -> Iterator[str]:
    """Patches of an object that nothing else in the build gives."""
    match = _patched.search(said)
    if match is None:
        return
    called = (match["kind"], match["name"])
    places = [f"{path}:{document.line}" for path, document in found if _names(document.value) == called]
    for path, text, content in kustomizations:
        inline = [value for patch in mappings(content, "patches") for value in values(patch, "patch")]
        inline += texts(content, "patches", "patchesStrategicMerge")
        ours = [patch for patch in inline if isinstance(patch, str) and called in _called(patch)]
        places += [f"{path}:{line_of_text(text, patch) or 1}" for patch in ours]
    if places:
        yield f"{'/'.join(called)} of {', '.join(places[:FINDINGS_MAX])} is a patch of nothing that is built"


def _called(text: str) -> list[tuple[str, str]]:
    """What the objects in a text are called."""
    try:
        return [_names(document.value) for document in documents(text)]
    except YamlError:
        return []


def _no_objects(found: list[tuple[str, Document]], walk: Walk) -> Iterator[str]:
    """Documents among a generated list of resources that are no objects."""
    for path, document in found:
        if not path.endswith(_YAML) or is_kustomization(path):
            continue
        kind, name = _names(document.value)
        if not isinstance(document.value, dict):
            yield f"{path}:{document.line}: no Kubernetes object"
        elif not kind and ("metadata" in document.value or any(read.path == walk.root for read in walk.read_set)):
            yield f"{path}:{document.line}: no Kubernetes object, for it has no kind"
        elif kind and not name and "items" not in document.value and "metadata" in document.value:
            yield f"{path}:{document.line}: {kind} without metadata.name"


def _names(value: Any) -> tuple[str, str]:
    if not isinstance(value, dict):
        return "", ""
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return str(value.get("kind") or ""), str(name or "")
