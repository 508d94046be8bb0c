"""Where objects are: one of a kind that knows no namespaces is in none, whatever its manifest says.

Kustomize puts `targetNamespace` into every object of a kind that it does not know, and the API server drops it again.
The object would have two names then: what a watch tells of one would not be found under the other, and when the
namespace leaves the manifest, the object would be taken for one that nobody wants any more.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.cluster.port import Kind
from tidelog.engine.helm.sampling import raw_key
from tidelog.engine.objects.kube import KubeObject, key_of, mapping
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.renderer import Rendering
from tidelog.events.names import ObjectKey

_KindName = tuple[str, str]


class FindsKinds(Protocol):
    """Knows the kinds of a cluster."""

    async def find_kind(self, group: str, kind: str) -> Kind | None:
        """The kind, or None where it is not served."""
        ...


async def in_its_place(rendering: Rendering, cluster: FindsKinds) -> Rendering:
    """A rendering whose objects of kinds without namespaces have none. Of a kind that nobody knows, they are left.

    Raises:
        RenderError: when two objects are one then.
        ClusterError: when the cluster cannot be asked for its kinds.
    """
    scopes = _defined(rendering.objects)
    objects: list[KubeObject] = []
    moved: dict[ObjectKey, ObjectKey] = {}
    for obj in rendering.objects:
        key = key_of(obj)
        if key.namespace and not await _namespaced(key, scopes, cluster):
            moved[key] = key._replace(namespace="")
            metadata = {name: value for name, value in obj["metadata"].items() if name != "namespace"}
            objects.append(obj | {"metadata": metadata})
        else:
            objects.append(obj)
    if not moved:
        return rendering
    _refuse_twice(objects)
    secret = frozenset(moved.get(key, key) for key in rendering.secret)
    handed = {moved.get(key, key): marks for key, marks in rendering.handed.items()}
    return msgspec.structs.replace(rendering, objects=tuple(objects), secret=secret, handed=handed)


async def scopes_of(objects: Sequence[KubeObject], cluster: FindsKinds) -> dict[_KindName, bool]:
    """Whether the kinds of some objects have namespaces; of a kind that nobody knows, yes.

    Raises:
        ClusterError: when the cluster cannot be asked for its kinds.
    """
    scopes = _defined(objects)
    for obj in objects:
        await _namespaced(raw_key(obj), scopes, cluster)
    return scopes


async def is_out_of_place(keys: Iterable[ObjectKey], cluster: FindsKinds) -> bool:
    """Whether one of these has a namespace, and its kind none: it was rendered before that was known."""
    scopes: dict[_KindName, bool] = {}
    try:
        for key in keys:
            if key.namespace and not await _namespaced(key, scopes, cluster):
                return True
    except ClusterError:
        pass  # an API that does not answer now: its objects stay where they are
    return False


def _defined(objects: Sequence[KubeObject]) -> dict[_KindName, bool]:
    """Whether the kinds that the set itself defines have namespaces."""
    found = {}
    for obj in objects:
        if obj.get("kind") == "CustomResourceDefinition":
            spec = mapping(obj, "spec")
            found[str(spec.get("group")), str(mapping(spec, "names").get("kind"))] = spec.get("scope") != "Cluster"
    return found


async def _namespaced(key: ObjectKey, scopes: dict[_KindName, bool], cluster: FindsKinds) -> bool:
    name = key.group, key.kind
    if name not in scopes:
        kind = await cluster.find_kind(*name)
        scopes[name] = kind is None or kind.namespaced
    return scopes[name]


def _refuse_twice(objects: list[KubeObject]) -> None:
    seen = set()
    for obj in objects:
        key = key_of(obj)
        if key in seen:
            raise RenderError(f"{key.shown}: the same object comes twice, for {key.kind} has no namespaces")
        seen.add(key)
