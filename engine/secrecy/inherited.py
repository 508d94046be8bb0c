"""What a Kustomization may have been given as secret by the one that makes it: a variable in a field of its spec.

Which of its fields that is, nobody knows: what stands there was put in before it was applied. So all are taken for
secret, but for those that name objects and those of a fixed form: a log is about objects by name.
"""

from collections.abc import Callable, Iterator
from typing import Any

from tidelog.engine.secrecy.values import KubeObject

_OPEN = frozenset(
    {
        "deletionPolicy",
        "dependsOn",
        "healthChecks",
        "interval",
        "kubeConfig",
        "namePrefix",
        "nameSuffix",
        "postBuild",
        "retryInterval",
        "serviceAccountName",
        "sourceRef",
        "targetNamespace",
        "timeout",
    }
)
"""Fields of a spec that name objects, or have a fixed form; of some a part does not (`_parts`)."""


def inherited(spec: KubeObject) -> Iterator[str]:
    """The texts in a Kustomization's spec that may hold a secret value of the one that makes it."""
    found: list[str] = []

    def take(text: str) -> str:
        found.append(text)
        return text

    without_inherited(spec, take)
    yield from found
    path = spec.get("path")
    if isinstance(path, str):
        # Errors name directories on the way to it, and below.
        yield from (part for part in path.split("/") if part.strip("."))


def without_inherited(spec: KubeObject, instead: Callable[[str], str]) -> KubeObject:
    """A spec with something else in the place of each of these texts."""
    held = {name: value if name in _OPEN else _replaced(value, instead) for name, value in spec.items()}
    return held | _parts(spec, instead)


def _parts(spec: KubeObject, instead: Callable[[str], str]) -> KubeObject:
    """Fields of which only a part names objects."""
    parts: dict[str, Any] = {}
    depends_on, post_build = spec.get("dependsOn"), spec.get("postBuild")
    if isinstance(depends_on, list):
        parts["dependsOn"] = [_but_for(one, "readyExpr", instead) for one in depends_on]
    if isinstance(post_build, dict):
        parts["postBuild"] = _but_for(post_build, "substitute", instead)
    return parts


def _but_for(value: Any, name: str, instead: Callable[[str], str]) -> Any:
    if not isinstance(value, dict) or name not in value:
        return value
    return {**value, name: _replaced(value[name], instead)}


def _replaced(value: Any, instead: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(held, instead) for name, held in value.items()}
    if isinstance(value, list):
        return [_replaced(held, instead) for held in value]
    return instead(value) if isinstance(value, str) and value else value
