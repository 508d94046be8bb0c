"""What may be secret in the files of a build that failed: kustomize quotes what it cannot read.

Only failed builds pay for this: of one that succeeds, the Secrets are known. Rather one value too many than one too
few: it costs three asterisks in an error.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, Final

from tidelog.engine.render.diagnose import blobs, is_kustomization
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import RenderError, YamlError
from tidelog.engine.render.fields import mappings, texts, values
from tidelog.engine.render.paths import join
from tidelog.engine.render.walk import Walk
from tidelog.engine.secrecy.values import SecretValues
from tidelog.storage.trees import Trees

FILES_MAX: Final = 20_000
WORD_MIN: Final = 3
"""Of the words of a text that is no YAML, those with as many characters."""
_PLAIN: Final = frozenset(("apiVersion", "data", "kind", "metadata", "name", "namespace", "Secret", "stringData"))
_LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_word = re.compile(rf"[^\s{{}}\[\],:\"'*&|>]{{{WORD_MIN},}}")
_key = re.compile(r"[-._a-zA-Z0-9]+")


def suspects(trees: Trees, tree: str, walk: Walk) -> SecretValues | None:
    """The values that may be secret; None where there are too many files to look. Blocks.

    Args:
        trees: where the files are.
        tree: the source's tree.
        walk: of the build.
    """
    return _Search(trees, tree).of(walk)


class _Search:
    def __init__(self, trees: Trees, tree: str) -> None:
        self._trees = trees
        self._tree = tree
        self._found: list[str | bytes] = []

    def of(self, walk: Walk) -> SecretValues | None:
        self._text(walk.root, walk.content, is_kustomization=True)
        for number, (path, blob) in enumerate(blobs(self._trees, self._tree, walk, FILES_MAX), 1):
            if number == FILES_MAX:
                return None
            directory = path.rpartition("/")[0]
            self._text(directory, self._trees.read(blob), is_kustomization=is_kustomization(path))
        return SecretValues(self._found)

    def _text(self, directory: str, data: bytes, *, is_kustomization: bool) -> None:
        text = data.decode(errors="replace")
        if not is_kustomization and "Secret" not in text:
            return
        try:
            read = [document.value for document in documents(text)]
        except YamlError:
            self._raw(text)
            return
        for value in read:
            self._object(directory, value)
            if is_kustomization and isinstance(value, dict):
                self._kustomization(directory, value)

    def _raw(self, text: str) -> None:
        """Of a text that cannot be read, what stands behind names, and every word that is not of Kubernetes."""
        self._found += [text, *(word for word in _word.findall(text) if word not in _PLAIN)]

    def _object(self, directory: str, value: Any) -> None:
        if not isinstance(value, dict):
            return
        for item in mappings(value, "items"):
            self._object(directory, item)
        if value.get("kind") == "Secret":
            self._secret(value)
        elif value.get("kind") == "SecretGenerator":
            for base in _with_parents(directory):  # it is used by a kustomization further up, as a rule
                self._generator(base, value)

    def _secret(self, value: dict[str, Any]) -> None:
        for field, held in value.items():
            if field == "metadata":
                annotations = held.get("annotations") if isinstance(held, dict) else None
                if isinstance(annotations, dict):
                    self._found += _leaves(annotations.get(_LAST_APPLIED))
            elif field not in {"apiVersion", "kind"} and (field != "type" or not isinstance(held, str)):
                self._found += _leaves(held)

    def _kustomization(self, directory: str, content: dict[str, Any]) -> None:
        for item in mappings(content, "secretGenerator"):
            self._generator(directory, item)
        for text in texts(content, "generators", "transformers", "validators"):
            for value in _read(text) or ():
                self._object(directory, value)
        for item in mappings(content, "patches", "patchesJson6902"):
            target = next(values(item, "target"), None)
            for text in values(item, "patch"):
                self._patch(text, target)
            for path in values(item, "path"):
                self._patch(self._file(directory, path), target)
        for text in texts(content, "patchesStrategicMerge"):
            self._patch(text, None)

    def _generator(self, directory: str, item: dict[str, Any]) -> None:
        for literal in texts(item, "literals"):
            self._found.append(literal.partition("=")[2] or literal)
        for path in (*texts(item, "envs"), *values(item, "env")):
            for line in (self._file(directory, path) or b"").splitlines():
                self._found.append(line.partition(b"=")[2] or line)
        for source in texts(item, "files"):
            self._found.append(self._file(directory, source.partition("=")[2] or source) or b"")

    def _patch(self, patch: Any, target: Any) -> None:
        text = patch.decode(errors="replace") if isinstance(patch, bytes) else patch
        if not isinstance(text, str):
            return
        aimed = _may_be_secret(target)
        read = _read(text)
        if read is None:
            if "Secret" in text or (aimed and (target is not None or "kind:" not in text)):
                self._raw(text)
            return
        for value in read:
            if isinstance(value, list) and aimed:
                self._found += _leaves([item.get("value") for item in value if isinstance(item, dict)])
            elif isinstance(value, dict) and (value.get("kind") == "Secret" or (target is not None and aimed)):
                self._secret(value)

    def _file(self, directory: str, path: Any) -> bytes | None:
        try:
            entry = self._trees.entry(self._tree, join(directory, str(path), named_in=""))
        except RenderError:
            return None
        return None if entry is None or entry.kind != "blob" else self._trees.read(entry.id)


def _read(text: str) -> list[Any] | None:
    try:
        return [document.value for document in documents(text)]
    except YamlError:
        return None


def _may_be_secret(target: Any) -> bool:
    """Whether a patch may be one of Secrets, by its target alone."""
    kind = target.get("kind") if isinstance(target, dict) else None
    try:
        return kind is None or re.fullmatch(str(kind), "Secret") is not None
    except re.error:
        return True


def _with_parents(directory: str) -> Iterator[str]:
    yield directory
    while directory:
        directory = directory.rpartition("/")[0]
        yield directory


def _leaves(value: Any) -> Iterator[str | bytes]:
    """The values within a value, and keys that could be none."""
    if isinstance(value, dict):
        for key, held in value.items():
            if not _key.fullmatch(key):
                yield key
            yield from _leaves(held)
    elif isinstance(value, list):
        for held in value:
            yield from _leaves(held)
    elif isinstance(value, str):
        yield value
        try:
            yield base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return
    elif value is not None and not isinstance(value, bool):
        yield str(value)
