"""Objects that hold what is secret, and what can be said of them without it."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from tidelog.engine.secrecy.values import KubeObject, SecretValues
from tidelog.events.canonical import Json, encode
from tidelog.events.digest import Digest

if TYPE_CHECKING:
    # The worker that renders looks at objects, and has no keys.
    from tidelog.storage.keys import DataKey

Leaf: TypeAlias = tuple[str, Json]


def is_secret(obj: KubeObject, values: SecretValues | None = None) -> bool:
    """Whether an object's body is secret: it is a Secret, or one of a run's secret values stands in it.

    That a value went in and no longer stands there as it was (it was hashed, or split) cannot be seen: a renderer
    says so itself of what it made with secret inputs.
    """
    if obj.get("kind") in ("Secret", "SecretList") and obj.get("apiVersion") == "v1":
        return True
    return values is not None and bool(values) and any(map(values.holds, _texts(obj)))


def leaves(obj: KubeObject, key: "DataKey") -> dict[str, Digest]:
    """The keyed digest of every value of an object by its path: for diff and blame without the values.

    Paths read `data["tls.crt"]`, `spec.containers[0].image`; an empty object or list is a value too.
    """
    return digests_of(dict(leaves_of(obj)), key)


def leaves_of(obj: KubeObject) -> Iterator[Leaf]:
    """Every value of an object, by the same paths."""
    return _leaves("", obj)


def digests_of(values: Mapping[str, Json], key: "DataKey") -> dict[str, Digest]:
    """The keyed digest of each value, by its path; equal values at other paths have other digests."""
    return {path: key.leaf_digest(path, encode(value)) for path, value in values.items()}


def _leaves(path: str, value: Json) -> Iterator[Leaf]:
    if isinstance(value, dict) and value:
        for name, held in value.items():
            yield from _leaves(_below(path, name), held)
    elif isinstance(value, list) and value:
        for index, held in enumerate(value):
            yield from _leaves(f"{path}[{index}]", held)
    else:
        yield path, value


def _below(path: str, name: str) -> str:
    if not name.isidentifier():
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'{path}["{quoted}"]'
    return f"{path}.{name}" if path else name


def _texts(value: Json) -> Iterator[str]:
    """Every text in an object, names of fields too; numbers as they are written."""
    if isinstance(value, dict):
        for name, held in value.items():
            yield name
            yield from _texts(held)
    elif isinstance(value, list):
        for held in value:
            yield from _texts(held)
    elif isinstance(value, str):
        yield value
    elif value is not None and not isinstance(value, bool):
        yield str(value)
