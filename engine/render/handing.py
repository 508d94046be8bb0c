"""Secret values on their way from one Kustomization to another: which fields they go into, and what is built with them.

Variables are followed by their names. What comes by another field of a spec (a patch, an image) goes through
kustomize, where nobody can follow it: it is looked for in what that built.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import RenderError, YamlError
from tidelog.engine.render.spec import Patch
from tidelog.engine.secrecy.handed import Marks, marks_in
from tidelog.engine.secrecy.objects import is_secret, leaves_of
from tidelog.engine.secrecy.values import SecretValues

CERTAIN: Final = 8
"""From as many characters on, a value that stands in a name is taken to have come there, and not to be a word in it."""
_NAMES: Final = ("apiVersion", "kind", "name", "namespace")
_MADE: Final = (
    "is made with a secret variable of the Kustomization that makes this one, and names stand in the open in logs, "
    "events and conditions: use a variable of a ConfigMap there"
)


class Search:
    """Looks for the secret values that a Kustomization was given, in the objects that were built with them.

    Args:
        values: that were given.
        common: labels and annotations that are put on every object.
    """

    def __init__(self, values: Collection[str], *common: dict[str, str]) -> None:
        self._values = SecretValues(values)
        self._is_common = bool(values) and is_secret({"common": list(common)}, self._values)

    def finds(self, found: KubeObject) -> bool:
        """Whether one of the values stands in an object, beside what it is called."""
        if not self._values:
            return False
        metadata = {name: held for name, held in found["metadata"].items() if name not in ("name", "namespace")}
        rest = {name: held for name, held in found.items() if name not in ("apiVersion", "kind")}
        return self._is_common or is_secret({**rest, "metadata": metadata}, self._values)

    def marks(self, found: KubeObject) -> Marks:
        """Where they stand in the spec of a Kustomization."""
        spec = found.get("spec")
        return marks_in(spec, self._values) if self._values and isinstance(spec, dict) else {}


def require_open_patches(patches: Sequence[Patch], values: Collection[str]) -> None:
    """No secret value that was given goes by a patch into what an object, or a field, is called.

    Raises:
        RenderError: when one does. What a patch is that cannot be read, the build says.
    """
    certain = [value for value in values if len(value.strip()) >= CERTAIN]
    for index, patch in enumerate(patches if certain else ()):
        with suppress(YamlError, RecursionError):
            for document in documents(patch.patch):
                if any(value in name for name in _names(document.value) for value in certain):
                    raise RenderError(f"spec.patches[{index}]: what an object or a field is called {_MADE}")


def _names(patch: Any) -> Iterator[str]:
    """What a patch makes or takes for names: those of fields, and of objects."""
    if isinstance(patch, list):
        for operation in patch:
            if isinstance(operation, dict):
                path, value = operation.get("path"), operation.get("value")
                yield str(path)
                yield from fields_in(value)
                if isinstance(value, str) and str(path).rpartition("/")[2] in _NAMES and str(path).count("/") <= 2:
                    yield value
    elif isinstance(patch, dict):
        yield from fields_in(patch)
        metadata = patch.get("metadata")
        for holder in (patch, metadata if isinstance(metadata, dict) else {}):
            yield from (str(holder[name]) for name in _NAMES if name in holder)


def followed(
    built: Any, made: KubeObject, values: Collection[str], made_of: Callable[[str], Collection[str] | None]
) -> Marks:
    """The fields of a Kustomization's spec that secret variables went into, with what substitution made of those there.

    Args:
        built: the object before substitution; None where it is not known which that was.
        made: the object after it.
        values: all that substitution made of secret variables in it.
        made_of: tells that of one text; None when it looks up no secret variable.
    """
    before = dict(leaves_of({"spec": built.get("spec")})) if isinstance(built, dict) else {}
    marks: Marks = {}
    for path, value in leaves_of({"spec": made.get("spec")}):
        text, origin = str(value), before.get(path)
        if value is None or (path in before and origin == value):
            continue
        of_it = made_of(origin) if isinstance(origin, str) else values
        if of_it is None:
            continue
        there = [one for one in of_it if one and one in text]
        # What is read in another way than it was written is secret as a whole.
        marks[path] = sorted(set(there)) or [text]
    return {path: found for path, found in marks.items() if any(found)}


def fields_in(value: Any) -> set[str]:
    """The names of all fields of an object, whatever is in them."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        held = waiting.pop()
        if isinstance(held, dict):
            found.update(map(str, held))
            waiting.extend(held.values())
        elif isinstance(held, list):
            waiting.extend(held)
    return found
