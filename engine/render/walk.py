"""What a build reads: found by walking the kustomization files, before anything runs.

Whatever the walk looks up goes into the read-set, with the id that it found or None where it found nothing. So the
read-set answers both questions: which files the build needs, and whether another tree would be built alike. What the
walk does not know (plugins of a directory, which its own patches may change) makes it ask for the whole tree.

Links are as good as absent: a source's artifact has none (contract SC-012). Fields are found in whatever case they are
written, as Go finds them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import ReadEntry, RenderError, YamlError
from tidelog.engine.render.fields import mappings, texts, values
from tidelog.engine.render.lines import line_of_text
from tidelog.engine.render.overlay import FILE_NAMES, Kustomization, encoded, generated, overlaid, unknown_fields
from tidelog.engine.render.paths import is_remote, join, root_path, shown
from tidelog.engine.render.spec import RenderSpec
from tidelog.storage.trees import TreeEntry, Trees

LOOKUPS_MAX: Final = 100_000
"""Places that one build may look up."""
FILE_BYTES_MAX: Final = 10 * 1024 * 1024
"""Of a kustomization file, or of one with transformers."""

# Where a plugin's configuration names files.
_PLUGIN_PATHS: Final = ("path", "targetFilePath", "env")


class Walk(msgspec.Struct, frozen=True):
    """What a build needs and depends on."""

    root: str
    """The directory that is built."""
    file: str
    """The path of its kustomization file."""
    content: bytes
    """What is written there for the build."""
    read_set: tuple[ReadEntry, ...]
    checkout: tuple[str, ...]
    """The files to write, and directories with all below them."""
    whole: bool
    """Whether the walk met something that it does not know: the whole tree is needed."""
    missing: tuple[str, ...]
    """Sentences on files that are named and not there."""
    remote_bases: tuple[str, ...]
    warnings: tuple[str, ...]


def whole_tree(tree: str) -> tuple[ReadEntry, ...]:
    """The read-set of a build that may have read anything."""
    return (ReadEntry("", tree),)


def is_unchanged(trees: Trees, tree: str, read_set: Sequence[ReadEntry]) -> bool:
    """Whether a build that read `read_set` would read the same from `tree`. Blocks."""
    return all(_id(trees.entry(tree, read.path)) == read.id for read in read_set)


def _id(entry: TreeEntry | None) -> str | None:
    return None if entry is None else entry.id


def walk(trees: Trees, tree: str, spec: RenderSpec, *, fenced: bool = True) -> Walk:
    """Finds what a build of `spec` reads from `tree`. Blocks.

    Args:
        trees: where the tree is.
        tree: the source's.
        spec: of the target.
        fenced: whether the kernel keeps the build in its checkout. Where it does not, what cannot be told for sure
            before the build is refused: plugins, and texts that are a path out of the tree if they are no patch.

    Raises:
        RenderError: when the path is not there, or a file of the walk cannot be read or leaves the tree; with the
            read-set so far.
    """
    walker = _Walker(trees, tree, spec, fenced=fenced)
    try:
        return walker.run()
    except RenderError as error:
        error.read_set = walker.read_set()
        raise


class _Walker:
    def __init__(self, trees: Trees, tree: str, spec: RenderSpec, *, fenced: bool) -> None:
        self._trees = trees
        self._tree = tree
        self._spec = spec
        self._fenced = fenced
        self._root = root_path(spec.path)
        self._read: dict[str, TreeEntry | None] = {}
        self._listed: str | None = None
        self._visited: set[tuple[str, str | None]] = set()
        self._whole = False
        self._missing: list[str] = []
        self._remote: list[str] = []
        self._warnings: list[str] = []

    def run(self) -> Walk:
        root = self._root
        entry = self._trees.entry(self._tree, root)
        if entry is None or entry.kind != "tree":
            self._read[root] = entry
            raise RenderError(f"kustomization path not found: {self._spec.path or './'}", reason="ArtifactFailed")
        self._visited.add((root, None))
        name = self._file_name(root)
        file = _below(root, name or FILE_NAMES[0])
        if name is None:
            self._list(root, entry)
            found = generated(sorted_resources(self._trees, entry.id))
        else:
            found = self._kustomization(file) or {}
            self._warnings += [
                f"{file}: {field!r} is no field of a kustomization and is left out" for field in unknown_fields(found)
            ]
        content = overlaid(
            found,
            self._spec,
            written=name is not None,
            exists=lambda path: self._directory(join(root, path, named_in="spec.components")),
            named_in=file,
        )
        self._follow(root, file, content)
        return Walk(
            root=root,
            file=file,
            content=encoded(content),
            read_set=self.read_set(),
            checkout=self._checkout(),
            whole=self._whole,
            missing=tuple(self._missing),
            remote_bases=tuple(dict.fromkeys(self._remote)),
            warnings=tuple(self._warnings),
        )

    def read_set(self) -> tuple[ReadEntry, ...]:
        """Sorted; what lies below a listed directory is in its id."""
        if self._whole:
            return whole_tree(self._tree)
        return tuple(
            ReadEntry(path, _id(entry)) for path, entry in sorted(self._read.items()) if not self._is_listed(path)
        )

    def _checkout(self) -> tuple[str, ...]:
        files = [path for path, entry in sorted(self._read.items()) if entry is not None and entry.kind == "blob"]
        kept = [path for path in files if not self._is_listed(path)]
        return tuple(kept if self._listed is None else [self._listed, *kept])

    def _is_listed(self, path: str) -> bool:
        return self._listed is not None and path != self._listed and _is_below(path, self._listed)

    def _list(self, root: str, entry: TreeEntry) -> None:
        self._listed = root
        self._read[root] = entry

    def _look(self, path: str) -> TreeEntry | None:
        """What stands at `path`; None for nothing and for a link."""
        if path not in self._read:
            if len(self._read) >= LOOKUPS_MAX:
                raise RenderError(f"the kustomization names more than {LOOKUPS_MAX} files")
            self._read[path] = self._trees.entry(self._tree, path)
        entry = self._read[path]
        if entry is None or entry.kind == "link":
            return None
        return entry

    def _directory(self, path: str) -> bool:
        """Whether there is a directory. Only an absence is noted: of a directory, what is read of it counts."""
        entry = self._trees.entry(self._tree, path)
        if entry is None or entry.kind == "link":
            self._read[path] = entry
            return False
        return True

    def _file_name(self, directory: str) -> str | None:
        """The kustomization file's name. All are looked up: two of them are an error of kustomize's."""
        found = [name for name in FILE_NAMES if _is_file(self._look(_below(directory, name)))]
        return found[0] if found else None

    def _kustomization(self, file: str) -> Kustomization | None:
        values = [document.value for document in self._documents(file) if document.value is not None]
        if not values:
            return None
        if len(values) > 1 or not isinstance(values[0], dict):
            raise RenderError(f"{file}: a kustomization file is one mapping")
        content: Kustomization = values[0]
        return content

    def _documents(self, file: str) -> list[Any]:
        entry = self._look(file)
        if entry is None:
            return []
        data = self._trees.read(entry.id)
        if len(data) > FILE_BYTES_MAX:
            raise RenderError(f"{file}: larger than {FILE_BYTES_MAX} bytes")
        try:
            return documents(data.decode())
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise RenderError(f"{file}:{line}: not UTF-8") from None
        except YamlError as error:
            raise RenderError(f"{file}:{error.line or 1}: {error.problem}") from None

    def _visit(self, directory: str, base: str | None = None) -> None:
        """Follows a directory's kustomization file.

        Args:
            directory: where it is.
            base: of plugins, the directory of the kustomization that uses them; None where objects are listed.
        """
        if (directory, base) in self._visited:
            return
        self._visited.add((directory, base))
        name = self._file_name(directory)
        if name is None:
            self._missing.append(f"{directory or './'} has none of {', '.join(FILE_NAMES)}")
            return
        file = _below(directory, name)
        content = self._kustomization(file)
        if content is not None:
            self._follow(directory, file, content, base)

    def _follow(self, directory: str, file: str, content: Kustomization, base: str | None = None) -> None:
        self._refuse_helm(file, content)
        for field in ("resources", "bases"):
            for path in texts(content, field):
                self._resource(directory, path, file, base, only_directory=False)
        for path in texts(content, "components"):
            ours = directory == self._root and path in self._spec.components
            self._resource(directory, path, "spec.components" if ours else file, base, only_directory=True)
        for field in ("configurations", "crds"):
            for path in texts(content, field):
                self._file(directory, path, file)
        for path in texts(content, "patches", "patchesStrategicMerge"):
            self._maybe_inline(directory, path, file)
        for field in ("patches", "patchesJson6902", "replacements", "configMapGenerator", "secretGenerator"):
            for item in mappings(content, field):
                self._named_in(directory, item, file)
        for openapi in values(content, "openapi"):
            if isinstance(openapi, dict):
                self._named_in(directory, openapi, file)
        for field in ("transformers", "generators", "validators"):
            for path in texts(content, field):
                self._plugin(directory, path, file, field)

    def _refuse_helm(self, file: str, content: Kustomization) -> None:
        for field in ("helmCharts", "helmChartInflationGenerator"):
            if any(values(content, field)):
                raise RenderError(f"{file}: {field} needs Helm, which does not run here; use a HelmRelease instead")

    def _resource(self, directory: str, path: str, file: str, base: str | None, *, only_directory: bool) -> None:
        """A file, a directory or a repository: a file of that name wins, as in kustomize."""
        remote = is_remote(path)
        if remote and (only_directory or "://" in path):
            return self._remote_base(path, file)
        place = join(directory, path, named_in=file)
        entry = None if only_directory and self._directory(place) else self._look(place)
        if _is_file(entry):
            return None if base is None else self._plugin_file(base, place)
        if remote:
            return self._remote_base(path, file)
        if entry is None and not self._directory(place):
            return self._miss(path, place, file)
        self._forget_directory(place)
        return self._visit(place, base)

    def _forget_directory(self, place: str) -> None:
        """A directory that is not listed counts for what is read of it, and not for all that is in it."""
        entry = self._read.get(place)
        if entry is not None and entry.kind == "tree" and place != self._listed:
            del self._read[place]

    def _file(self, directory: str, path: str, file: str) -> None:
        if is_remote(path) and "://" in path:
            return self._remote_base(path, file)
        place = join(directory, path, named_in=file)
        if not _is_file(self._look(place)):
            self._forget_directory(place)
            self._miss(path, place, file)
        return None

    def _maybe_inline(self, directory: str, text: str, file: str) -> None:
        """A path, or the object itself: kustomize takes for a path what it cannot read as an object."""
        if not _is_object(text):
            self._file(directory, text, file)
        elif not self._fenced:
            join(directory, text, named_in=file)  # what we read as an object, kustomize may not

    def _named_in(self, directory: str, item: dict[str, Any], file: str) -> None:
        """The files that a patch, a replacement, a generator or a plugin's configuration names."""
        for path in values(item, *_PLUGIN_PATHS):
            if isinstance(path, str) and path:
                self._file(directory, path, file)
        for path in texts(item, "paths"):
            self._maybe_inline(directory, path, file)
        for path in texts(item, "envs"):
            self._file(directory, path, file)
        for source in texts(item, "files"):
            self._file(directory, source.partition("=")[2] or source, file)
        for inner in mappings(item, "replacements", "items"):
            self._named_in(directory, inner, file)

    def _plugin(self, directory: str, text: str, file: str, field: str) -> None:
        """A transformer, generator or validator: inline, in a file, or in a directory (which takes the whole tree)."""
        if not self._fenced:
            raise RenderError(
                f"{file}: {field} cannot be built here, for this kernel has no Landlock to keep them within the source"
            )
        if (found := _objects(text)) is not None:
            for value in found:
                self._named_in(directory, value, file)
            return
        if is_remote(text):
            self._remote_base(text, file)
            return
        place = join(directory, text, named_in=file)
        entry = self._look(place)
        if entry is None:
            self._miss(text, place, file)
        elif entry.kind == "tree":
            self._whole = True
            self._visit(place, directory)
        else:
            self._plugin_file(directory, place)

    def _plugin_file(self, base: str, place: str) -> None:
        """The configuration of plugins, whose paths are relative to `base`."""
        for document in self._documents(place):
            if isinstance(document.value, dict):
                self._named_in(base, document.value, f"{place}:{document.line}")

    def _remote_base(self, path: str, file: str) -> None:
        if "file://" in path.lower():
            raise RenderError(f"{file}: {shown(path)} is outside the source; only its own files can be used")
        self._remote.append(path)

    def _miss(self, path: str, place: str, file: str) -> None:
        entry = self._read.get(place)
        why = (
            "is a symbolic link, which artifacts do not carry"
            if entry is not None and entry.kind == "link"
            else "is not there"
        )
        shown_place = f" ({place or './'})" if shown(path) == repr(path) else ""
        self._missing.append(f"{self._place(file, path)}: {shown(path)} {why}{shown_place}")

    def _place(self, file: str, text: str) -> str:
        """Where a file of the walk has a text; the file alone where that is not to be found."""
        entry = self._read.get(file)
        if entry is None or entry.kind != "blob":
            return file
        line = line_of_text(self._trees.read(entry.id).decode(errors="replace"), text)
        return file if line is None else f"{file}:{line}"


def sorted_resources(trees: Trees, tree: str) -> list[str]:
    """The resources of a directory without kustomization file, relative to it (contract KS-052)."""
    return [f"./{path}" for path in _resources(trees, tree, "")]


def _resources(trees: Trees, tree: str, prefix: str) -> Iterator[str]:
    """In the order of names, a directory where its name stands."""
    for name, entry in sorted(trees.children(tree).items()):
        path = f"{prefix}{name}"
        if entry.kind == "tree":
            inner = trees.children(entry.id)
            if any(_is_file(inner.get(file)) for file in FILE_NAMES):
                yield path
            else:
                yield from _resources(trees, entry.id, f"{path}/")
        elif entry.kind == "blob" and name.endswith((".yaml", ".yml")):
            yield path


def _is_file(entry: TreeEntry | None) -> bool:
    return entry is not None and entry.kind == "blob"


def _below(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _is_below(path: str, directory: str) -> bool:
    return not directory or path.startswith(f"{directory}/")


def _objects(text: str) -> list[dict[str, Any]] | None:
    """What kustomize reads in a text in place of a path: objects with kinds and names; None where it is a path."""
    try:
        found = [document.value for document in documents(text) if document.value is not None]
    except YamlError:
        return None
    objects = [value for value in found if isinstance(value, dict) and value.get("kind")]
    return objects if objects and len(objects) == len(found) else None


def _is_object(text: str) -> bool:
    return _objects(text) is not None
