"""Which objects the files of a target may give, where it cannot be built: rather one too many than one too few.

What is asked decides whether an object is deleted. So a file that cannot be read as YAML gives whatever it names; so
does a kustomization file, which generates and renames objects; and where it cannot even be told which files a build
reads, it may read any of the source.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from tidelog.engine.render.diagnose import blobs, blobs_below, is_kustomization, objects_in
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import RenderError, YamlError
from tidelog.engine.render.overlay import FILE_NAMES
from tidelog.engine.render.spec import RenderSpec
from tidelog.engine.render.walk import walk
from tidelog.storage.trees import Trees

Called: TypeAlias = tuple[str, str]
"""Kind and name of an object."""

FILES_MAX: Final = 20_000
"""Files that are looked into; where there are more, they may give anything."""

_TEXTS: Final = (".yaml", ".yml", ".json", *FILE_NAMES)
_AFFIXES: Final = ("namePrefix", "nameSuffix")
_RENAMED: Final = "/metadata/name"
"""The path of a patch that gives an object another name."""
_GENERATED: Final = {"configMapGenerator": "ConfigMap", "secretGenerator": "Secret"}
_hash = re.compile(r"-[a-z0-9]{10}$")
_variable = re.compile(r"\$\{[^}]*\}?|\$[A-Za-z_]\w*")


class Mentions(msgspec.Struct, frozen=True):
    """What the files of a target may give."""

    names: frozenset[Called]
    whole: bool = True
    """Whether all that is built stands in these files: not so where bases come from elsewhere."""


def mentions(trees: Trees, tree: str, spec: RenderSpec, names: Collection[Called]) -> Mentions:
    """Which of some objects the files of a target may give. Blocks.

    Args:
        trees: where the files are.
        tree: the source's tree.
        spec: of the target.
        names: of the objects, as they are called in the cluster.
    """
    whole = True
    try:
        found = walk(trees, tree, spec)
        whole = not found.remote_bases
        read = blobs(trees, tree, found, FILES_MAX + 1)
    except RenderError:
        read = (file for file in blobs_below(trees, tree, "") if file[0].endswith(_TEXTS))
    files: list[tuple[str, str]] = []
    for file in read:
        files.append(file)
        if len(files) > FILES_MAX:
            return Mentions(frozenset(names))
    return Mentions(_Search(trees, names).within(files), whole)


class _Search:
    def __init__(self, trees: Trees, names: Collection[Called]) -> None:
        self._trees = trees
        self._forms = {called: _forms(called[1]) for called in names}
        self._found: set[Called] = set()
        self._affixed = False
        """Whether a kustomization file puts something around the names of objects."""

    def within(self, files: Iterable[tuple[str, str]]) -> frozenset[Called]:
        others = []
        for path, blob in files:
            if is_kustomization(path):
                self._kustomization(self._trees.read(blob).decode(errors="replace"))
            else:
                others.append(blob)
        for blob in others:
            self._objects(self._trees.read(blob).decode(errors="replace"))
        return frozenset(self._found)

    def _kustomization(self, text: str) -> None:
        self._affixed = self._affixed or any(field in text for field in _AFFIXES)
        self._words(text)
        for kind, name in _generated(text):
            self._written(kind, name)

    def _objects(self, text: str) -> None:
        if _RENAMED in text:
            self._words(text)
        kinds = {kind for kind, _ in self._left() if kind in text}
        if not kinds:
            return
        try:
            read = documents(text)
        except YamlError:
            self._words(text)
            return
        for document in read:
            for (kind, name), _ in objects_in(document):
                if kind in kinds:
                    self._written(kind, name)

    def _written(self, kind: str, name: str) -> None:
        """An object stands somewhere, or is generated."""
        for called in self._left():
            if called[0] == kind and any(self._may_become(name, form) for form in self._forms[called]):
                self._found.add(called)

    def _may_become(self, written: str, name: str) -> bool:
        if "$" in written:
            return re.fullmatch(".*".join(map(re.escape, _variable.split(written))), name) is not None or self._affixed
        return written in name if self._affixed else written == name

    def _words(self, text: str) -> None:
        """What cannot be read, or makes names of its own, gives all that it names."""
        for called in self._left():
            words = "|".join(map(re.escape, self._forms[called]))
            if re.search(rf"(?<![A-Za-z0-9_.-])(?:{words})(?![A-Za-z0-9_.-])", text):
                self._found.add(called)

    def _left(self) -> list[Called]:
        return [called for called in self._forms if called not in self._found]


def without_hash(name: str) -> str:
    """A name without what kustomize puts behind that of an object that it generates."""
    return _hash.sub("", name)


def _forms(name: str) -> frozenset[str]:
    return frozenset({name, without_hash(name)})


def _generated(text: str) -> Iterator[Called]:
    try:
        read = documents(text)
    except YamlError:
        return
    for value in (document.value for document in read if isinstance(document.value, dict)):
        for field, kind in _GENERATED.items():
            items: Any = value.get(field)
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and item.get("name"):
                    yield kind, str(item["name"])
