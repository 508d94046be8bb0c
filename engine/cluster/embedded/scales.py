"""The subresource `scale`: autoscaling/v1 Scale, read from an object and written back."""

import copy
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from tidelog.engine.cluster.embedded import causes, fieldsets, statuses
from tidelog.engine.cluster.embedded.custom import nested
from tidelog.engine.cluster.embedded.managers import APPLY, Managed, Manager, Owned
from tidelog.engine.cluster.embedded.registry import Registry, Resource, schema_of_kind
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.selecting import selector_text

_METADATA: Final = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
Paths: TypeAlias = Mapping[str, tuple[str, ...]]
"""The path of the replicas, by API version, as field sets have it."""
_VERSION: Final = "autoscaling/v1"
_REPLICAS: Final = ("f:spec", "f:replicas")
_BUILTIN: Final = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}


def resource_of(scaled: Resource) -> Resource:
    """As if the Scales of a resource were one: for what is sent as one."""
    schema = schema_of_kind("autoscaling", "v1", "Scale")
    return Resource(
        group="autoscaling",
        version="v1",
        plural=scaled.plural,
        singular=scaled.singular,
        kind="Scale",
        namespaced=scaled.namespaced,
        verbs=frozenset(),
        schema=schema,
    )


def scale_of(resource: Resource, obj: KubeObject) -> KubeObject:
    """The Scale of an object.

    Raises:
        StatusError: when the object does not say how often it is wanted.
    """
    paths = _paths(resource)
    wanted, wrong = nested(obj, paths["specReplicasPath"], int)
    there, also_wrong = nested(obj, paths["statusReplicasPath"], int)
    if wrong or also_wrong:
        raise statuses.internal(wrong or also_wrong)
    if wanted is None and resource.custom is not None:
        said = f'the spec replicas field "{paths["specReplicasPath"]}" does not exist'
        raise statuses.StatusError(
            500, "InternalError", f"Internal error occurred: {said}", details={"causes": [{"message": said}]}
        )
    status: KubeObject = {"replicas": there or 0}
    if selector := _selector_of(resource, obj, paths):
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: obj["metadata"][name] for name in _METADATA if obj["metadata"].get(name)},
        "spec": {"replicas": wanted} if wanted else {},
        "status": status,
    }


def with_scale(resource: Resource, obj: KubeObject, scale: KubeObject) -> KubeObject:
    """An object as it is wanted after its Scale was written; `scale` says which version and uid it must be, if any.

    Raises:
        StatusError: when the Scale is invalid.
    """
    replicas = (scale.get("spec") or {}).get("replicas") or 0
    if resource.custom is None and replicas < 0:
        cause = causes.invalid("spec.replicas", replicas, "must be greater than or equal to 0")
        raise statuses.invalid_kind("autoscaling", "Scale", obj["metadata"]["name"], [cause])
    made = copy.deepcopy(obj)
    here: dict[str, Any] = made
    *above, last = _paths(resource)["specReplicasPath"].removeprefix(".").split(".")
    for name in above:
        here = here.setdefault(name, {})
    here[last] = replicas
    for name in ("resourceVersion", "uid"):
        if said := (scale.get("metadata") or {}).get(name):
            made["metadata"][name] = said
    return made


# Who owns what: a Scale has the owners of the replicas, and they are put back (`managedfields`, `ScaleHandler`).


def paths_of(resource: Resource, registry: Registry) -> Paths:
    """Where objects of a kind say how often they are wanted, in each of its versions."""
    found = (registry.resource(resource.group, one, resource.plural) for one in registry.versions(resource.group))
    return {one.api_version: _replicas_in(one) for one in found if one is not None and "scale" in one.subresources}


def _replicas_in(resource: Resource) -> tuple[str, ...]:
    return tuple(map(fieldsets.field, _paths(resource)["specReplicasPath"].removeprefix(".").split(".")))


def owners_in_scale(owners: Managed, paths: Paths) -> Managed:
    """The owners of an object's replicas, as those of its Scale."""
    return {
        _in_scale(manager): Owned(fieldsets.set_of([_REPLICAS]), _VERSION, owned.time)
        for manager, owned in owners.items()
        if _has_replicas(owned, paths)
    }


def owners_after(owners: Managed, of_scale: Managed, paths: Paths, version: str) -> Managed:
    """The owners of an object whose Scale, which was written in a version of the object, has owners now."""
    left: Managed = {}
    for manager, owned in owners.items():
        if owned.version not in paths:
            continue
        if not _has_replicas(owned, paths) or _in_scale(manager) in of_scale:
            left[manager] = owned
        elif fields := fieldsets.difference(owned.fields, fieldsets.set_of([paths[owned.version]])):
            left[manager] = owned._replace(fields=fields)
    known = set(map(_in_scale, left))
    for manager, owned in of_scale.items():
        if manager not in known:
            own = manager if manager.operation == APPLY else manager._replace(version=version)
            left[own] = Owned(fieldsets.set_of([paths[version]]), version, owned.time)
    return left


def _has_replicas(owned: Owned, paths: Paths) -> bool:
    return owned.version in paths and fieldsets.has(owned.fields, paths[owned.version])


def _in_scale(manager: Manager) -> Manager:
    return manager if manager.operation == APPLY else manager._replace(version=_VERSION)


def _selector_of(resource: Resource, obj: KubeObject, paths: Mapping[str, str]) -> str:
    if resource.custom is not None:
        path = paths.get("labelSelectorPath")
        return str(nested(obj, path, str)[0] or "") if path else ""
    selector = (obj.get("spec") or {}).get("selector") or {}
    if obj.get("kind") == "ReplicationController":
        return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    return selector_text(selector)


def _paths(resource: Resource) -> Mapping[str, str]:
    if resource.custom is None:
        return _BUILTIN
    found: Mapping[str, str] = (resource.custom.get("subresources") or {})["scale"]
    return found
