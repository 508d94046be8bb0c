"""In which file and line the objects of a build are written, as kustomize's origin annotations tell it.

They tell the file also of an object that a kustomization file renames, or generates; the line is looked for in it.
"""

import posixpath
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

import msgspec

from tidelog.engine.render.diagnose import FILE_BYTES_MAX, is_kustomization, objects_in
from tidelog.engine.render.documents import Document, documents
from tidelog.engine.render.errors import YamlError
from tidelog.engine.render.spec import RenderSpec
from tidelog.storage.trees import Trees

Called = tuple[str, str]
"""An object, by its kind and its name as built."""

_METADATA: Final = "originAnnotations"
_ANNOTATION: Final = "config.kubernetes.io/origin"
_path = re.compile(r"^(?:path|configuredIn): (.+)$", re.MULTILINE)
_remote = re.compile(r"^repo: ", re.MULTILINE)


def traced(spec: RenderSpec) -> RenderSpec:
    """A spec whose build tells where each object comes from."""
    return msgspec.structs.replace(spec, build_metadata=tuple(dict.fromkeys((*spec.build_metadata, _METADATA))))


def origins(trees: Trees, tree: str, root: str, built: str, wanted: Collection[Called]) -> dict[Called, str]:
    """The places of some objects of a traced build of the directory `root`: `file:line`, or `file`. Blocks."""
    found: dict[Called, str] = {}
    for document in documents(built):
        for called, obj in objects_in(document):
            if called in wanted and called not in found and (path := _file_of(obj, root)) is not None:
                found[called] = f"{path}{_line_in(trees, tree, path, called)}"
    return found


def _file_of(obj: dict[str, Any], root: str) -> str | None:
    annotations = obj["metadata"].get("annotations")
    origin = annotations.get(_ANNOTATION) if isinstance(annotations, dict) else None
    match = _path.search(origin) if isinstance(origin, str) else None
    if match is None or _remote.search(match.string):
        return None
    path = posixpath.normpath(posixpath.join(root, match[1].strip("\"'")))
    return None if path.startswith("..") else path


def _line_in(trees: Trees, tree: str, path: str, called: Called) -> str:
    """`:line` of what is most like the object; nothing where that cannot be told."""
    entry = trees.entry(tree, path)
    if entry is None or entry.kind != "blob":
        return ""
    data = trees.read(entry.id)
    if len(data) > FILE_BYTES_MAX:
        return ""
    try:
        text = data.decode()
        read = documents(text)
    except (UnicodeDecodeError, YamlError):
        return ""
    lines = _generators(text, called) if is_kustomization(path) else _documents(read, called)
    return next((f":{line}" for line in lines), "")


def _documents(read: Collection[Document], called: Called) -> Iterator[int]:
    """The document whose name went into the object's; else the only one of its kind."""
    kind, name = called
    alike = [(own, document.line) for document in read for (of, own), _ in objects_in(document) if of == kind]
    named = [(own, line) for own, line in alike if own in name]
    if named:
        yield max(named, key=lambda one: len(one[0]))[1]
    elif len(alike) == 1:
        yield alike[0][1]


def _generators(text: str, called: Called) -> Iterator[int]:
    """The entry of a generator whose name went into the object's."""
    entries = re.finditer(r"^[\s-]*name:\s*[\"']?([^\s\"']+)", text, re.MULTILINE)
    named = [match for match in entries if match[1] in called[1]]
    if named:
        longest = max(named, key=lambda match: len(match[1]))
        yield text.count("\n", 0, longest.start(1)) + 1
