"""In which file and line the objects of a build are written, as kustomize's origin annotations tell it.

They tell the file also of an object that is renamed, or generated; the line is looked for in it. Where the file has
several objects of that kind, the build is made once more with each of them marked.
"""

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render.diagnose import FILE_BYTES_MAX, Field, is_kustomization, objects_in
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError
from tidelog.engine.render.lines import line_of_field
from tidelog.engine.render.overlay import encoded
from tidelog.engine.render.spec import RenderSpec
from tidelog.storage.trees import Trees

_METADATA: Final = "originAnnotations"
_ANNOTATION: Final = "config.kubernetes.io/origin"
_MARK: Final = "tidelog.dev/number"
_NOT_CLONED: Final = "notCloned/"
"""What kustomize puts before the files of a repository that is taken as a whole."""
_field = re.compile(r"^(path|configuredIn|repo|ref): (.+)$", re.MULTILINE)
_scheme = re.compile(r"(https?):/+")


class Origins(msgspec.Struct, frozen=True):
    """Where objects of a build are written."""

    places: dict[Field, str]
    """As `file:line`; as `file` where no more is known."""
    unclear: frozenset[str]
    """Files that have several objects which one of them may be."""


class _Written(msgspec.Struct, frozen=True):
    """An object in a file."""

    value: KubeObject
    line: int
    """Of its document."""
    item: int | None
    """Which of the document's list it is, where that is a list of objects."""


def traced(spec: RenderSpec) -> RenderSpec:
    """A spec whose build tells where each object comes from."""
    return msgspec.structs.replace(spec, build_metadata=tuple(dict.fromkeys((*spec.build_metadata, _METADATA))))


def origins(trees: Trees, tree: str, root: str, built: str, fields: Collection[Field]) -> Origins:
    """The places of fields of objects, by their names in a traced build of the directory `root`. Blocks."""
    places: dict[Field, str] = {}
    unclear: set[str] = set()
    for called, annotations in _annotated(built):
        wanted = [field for field in fields if field[:2] == called and field not in places]
        origin = dict(_field.findall(annotations.get(_ANNOTATION, "")))
        named = str(origin.get("path") or origin.get("configuredIn") or "").strip("\"'")
        if not wanted or not named:
            continue
        if (elsewhere := _elsewhere(named, origin)) is not None:
            places |= dict.fromkeys(wanted, elsewhere)
        elif not (path := posixpath.normpath(posixpath.join(root, named))).startswith(".."):
            for field in wanted:
                line, several = _line_in(_text(trees, tree, path), path, field, annotations.get(_MARK))
                places[field] = f"{path}:{line}" if line else path
                unclear |= {path} if several else set()
    return Origins(places, frozenset(unclear))


def marked(trees: Trees, tree: str, paths: Collection[str]) -> dict[str, bytes]:
    """Files with each of their objects marked, so that a build tells which of them became what. Blocks."""
    return {path: _marked(_text(trees, tree, path)) for path in paths}


def _annotated(built: str) -> Iterator[tuple[tuple[str, str], dict[str, str]]]:
    for document in documents(built):
        for called, value in objects_in(document):
            annotations = value["metadata"].get("annotations")
            if isinstance(annotations, dict):
                yield called, annotations


def _elsewhere(named: str, origin: Mapping[str, str]) -> str | None:
    """The place of what is not in the source, without what its address may have of passwords; None where it is."""
    if "repo" in origin:
        ref = f" at {origin['ref']}" if "ref" in origin else ""
        named = named.removeprefix(_NOT_CLONED)
        return f"{named} of {_open(origin['repo'])}{ref}"
    match = _scheme.match(named)  # of an address, kustomize makes a path
    return None if match is None else _open(f"{match[1]}://{named[match.end() :]}")


def _open(address: str) -> str:
    if "://" not in address:
        return address.rpartition("@")[2]
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _text(trees: Trees, tree: str, path: str) -> str:
    """A file's text; none where it is none, or too long."""
    entry = trees.entry(tree, path)
    data = b"" if entry is None or entry.kind != "blob" else trees.read(entry.id)
    try:
        return data.decode() if len(data) <= FILE_BYTES_MAX else ""
    except UnicodeDecodeError:
        return ""


def _line_in(text: str, path: str, field: Field, mark: str | None) -> tuple[int | None, bool]:
    """The line of a field of an object that comes from a file, and whether several may be that object."""
    kind, name, steps = field
    if is_kustomization(path):
        return _generator(text, name), False
    found = _objects(text)
    if mark is not None and mark.isdecimal() and int(mark) < len(found):
        alike = [found[int(mark)]]
    else:
        alike = [one for one in found if one.value.get("kind") == kind]
    if len(alike) != 1:
        return None, len(alike) > 1
    (one,) = alike
    steps = steps or ("" if one.item is None else "kind")  # an item has no line, but its fields have
    return line_of_field(text, one.line, one.item, steps) or one.line, False


def _objects(text: str) -> list[_Written]:
    try:
        read = documents(text)
    except YamlError:
        return []
    found = []
    for document in read:
        items = document.value.get("items") if isinstance(document.value, dict) else None
        listed = isinstance(items, list)
        for number, value in enumerate(items if isinstance(items, list) else [document.value]):
            if isinstance(value, dict) and isinstance(value.get("metadata"), dict):
                found.append(_Written(value, document.line, number if listed else None))
    return found


def _marked(text: str) -> bytes:
    marked = []
    for number, one in enumerate(_objects(text)):
        annotations = one.value["metadata"].get("annotations")
        others = annotations if isinstance(annotations, dict) else {}
        metadata = {**one.value["metadata"], "annotations": {**others, _MARK: str(number)}}
        marked.append(encoded({**one.value, "metadata": metadata}))
    return b"\n---\n".join(marked)


def _generator(text: str, name: str) -> int | None:
    """The entry of a generator whose name went into the object's."""
    entries = re.finditer(r"^[\s-]*name:\s*[\"']?([^\s\"']+)", text, re.MULTILINE)
    named = [match for match in entries if match[1] in name]
    if not named:
        return None
    longest = max(named, key=lambda match: len(match[1]))
    return text.count("\n", 0, longest.start(1)) + 1
