"""What one Kustomization hands on to another in its spec: secret values, and the fields that they went into.

Who makes the other one knows which of its fields a secret value went into (`Marks`); what the other one builds with
those is as secret as if it had read the Secret itself.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from tidelog.engine.secrecy.forms import PLAIN_WORDS, SHORT
from tidelog.engine.secrecy.objects import leaves_of
from tidelog.engine.secrecy.values import KubeObject, SecretValues

Marks: TypeAlias = dict[str, list[str]]
"""Of one Kustomization: the secret values in each field of its spec that has some, by the field's path."""

_BUILT_WITH: Final = ("patch", "newName", "newTag", "digest")
"""Of a patch and an image, what goes into objects; the rest says into which."""


class Handed(msgspec.Struct, frozen=True):
    """What in the spec of a Kustomization is secret, because of who makes it."""

    variables: frozenset[str] = frozenset()
    """Of `postBuild.substitute`: names of those whose values are."""
    values: tuple[str, ...] = ()
    """In other fields that objects are built with, where it is not seen what became of them: to be looked for."""

    def __bool__(self) -> bool:
        return bool(self.variables or self.values)


def handed_in(spec: KubeObject, marks: Mapping[str, Collection[str]]) -> Handed:
    """What of some marks holds for a spec as it is: a field that was changed since has no secret value any more."""
    there = dict(leaves_of({"spec": spec}))
    variables = {
        name
        for name, path in _variables(spec)
        if any(value in str(there[path]) for value in marks.get(path, ()) if path in there)
    }
    built_with = [str(value) for value in _built_with(spec)]
    values = {
        value
        for found in marks.values()
        for value in found
        if is_searched_for(value) and any(value in text for text in built_with)
    }
    return Handed(frozenset(variables), tuple(sorted(values)))


def marks_in(spec: KubeObject, values: SecretValues) -> Marks:
    """The fields of a spec in which values stand, in any form, with the places where they do."""
    marks: Marks = {}
    for path, value in leaves_of({"spec": spec}):
        if value is not None and not isinstance(value, bool) and (found := values.found_in(str(value))):
            marks[path] = sorted(set(found))
    return marks


def is_searched_for(value: str) -> bool:
    """Whether a value says by itself that it is one: `1` and `true` stand everywhere."""
    stripped = value.strip()
    return len(stripped) >= SHORT and stripped not in PLAIN_WORDS


def _variables(spec: KubeObject) -> Iterator[tuple[str, str]]:
    """The names of the variables in a spec, each with the path of its field."""
    build = spec.get("postBuild")
    substitute = build.get("substitute") if isinstance(build, dict) else None
    for name in substitute if isinstance(substitute, dict) else ():
        for path, _ in leaves_of({"spec": {"postBuild": {"substitute": {name: ""}}}}):
            yield name, path


def _built_with(spec: KubeObject) -> Iterator[Any]:
    """What of a spec goes into objects, but for variables and what names objects."""
    for field in ("patches", "images"):
        items = spec.get(field)
        for item in items if isinstance(items, list) else ():
            yield from (item[name] for name in _BUILT_WITH if isinstance(item, dict) and name in item)
    whole = [spec.get("commonMetadata")]
    if spec.get("buildMetadata"):
        whole += [spec.get("path"), spec.get("components")]  # it writes where an object came from on each
    yield from (value for _, value in leaves_of({"": whole}))
