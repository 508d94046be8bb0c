"""A cluster in memory that really keeps objects, with as much of server-side apply as plans and the door need.

Lists are atomic. What it answers to the rest of the port, the contract suite tests on the real one.
"""

import copy
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import anyio.lowlevel

from tidelog.engine.cluster.errors import ConflictError, InvalidError, NotFoundError, UnknownKindError
from tidelog.engine.cluster.port import Applied, Identity, Kind, Preconditions, Propagation
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.events.names import ObjectId, ObjectKey

FieldPath: TypeAlias = tuple[str, ...]
CORE = {
    "Namespace": Kind("", "v1", "Namespace", "namespaces", namespaced=False),
    "ConfigMap": Kind("", "v1", "ConfigMap", "configmaps", namespaced=True),
    "Secret": Kind("", "v1", "Secret", "secrets", namespaced=True),
}
CRDS = Kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
_ESTABLISHED = {"conditions": [{"type": name, "status": "True"} for name in ("NamesAccepted", "Established")]}


class Call(NamedTuple):
    """One call of a test's subject."""

    verb: str
    object: ObjectId
    writes: bool


class _Kept:
    """One object: its fields, and who applied which."""

    def __init__(self, key: ObjectKey, api_version: str, uid: str) -> None:
        self.key = key
        self.api_version = api_version
        self.uid = uid
        self.version = 0
        self.fields: dict[FieldPath, Any] = {}
        self.owners: dict[str, set[FieldPath]] = {}

    def apply(self, manager: str, wanted: dict[FieldPath, Any]) -> bool:
        """Whether that changes anything."""
        before = copy.deepcopy((self.fields, self.owners))
        for path in self.owners.get(manager, set()) - wanted.keys():
            if not any(path in paths for owner, paths in self.owners.items() if owner != manager):
                self.fields.pop(path, None)
        for owner, paths in self.owners.items():
            if owner != manager:
                paths -= {path for path, value in wanted.items() if self.fields.get(path) != value}
        self.fields |= wanted
        self.owners[manager] = set(wanted)
        return (self.fields, self.owners) != before

    @property
    def object(self) -> KubeObject:
        metadata: KubeObject = {"name": self.key.name, "uid": self.uid, "resourceVersion": str(self.version)}
        if self.key.namespace:
            metadata["namespace"] = self.key.namespace
        found: KubeObject = {"apiVersion": self.api_version, "kind": self.key.kind, "metadata": metadata}
        for path, value in self.fields.items():
            _put(found, path, copy.deepcopy(value))
        metadata["managedFields"] = [
            {
                "manager": manager,
                "operation": "Apply",
                "apiVersion": self.api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": _fields_v1(paths),
            }
            for manager, paths in self.owners.items()
        ]
        if self.key.kind == "CustomResourceDefinition":
            found["status"] = copy.deepcopy(_ESTABLISHED)
        if self.key.kind == "Namespace":
            found["status"] = {"phase": "Active"}
        return found


Around: TypeAlias = Callable[[Call, Callable[[], Any]], Awaitable[Any]]


async def undisturbed(call: Call, effect: Callable[[], Any]) -> Any:
    """A call as it should be."""
    return effect()


class SmallCluster:
    """The cluster. `around` is what a test does about each call: it has its effect carried out, or not."""

    def __init__(self) -> None:
        self.objects: dict[ObjectId, _Kept] = {}
        self.around: Around = undisturbed
        self.calls: list[Call] = []
        self.known: set[tuple[ObjectId, str, str]] = set()
        """Every object, uid and version that there ever was."""
        self._number = 0

    # What tests look at.

    def of(self, id: str) -> KubeObject | None:
        kept = self.objects.get(ObjectId(id))
        return None if kept is None else kept.object

    def values(self) -> dict[ObjectId, dict[FieldPath, Any]]:
        return {id: kept.fields for id, kept in self.objects.items()}

    def write(self, obj: KubeObject, manager: str = "somebody") -> KubeObject:
        """As somebody else applies an object, at once."""
        return self._apply(obj, manager, dry_run=False).object

    def remove(self, id: str) -> None:
        """As somebody else deletes an object."""
        del self.objects[ObjectId(id)]

    @property
    def written(self) -> list[tuple[str, ObjectId]]:
        return [(call.verb, call.object) for call in self.calls if call.writes]

    # The port.

    async def kind(self, api_version: str, kind: str) -> Kind:
        await anyio.lowlevel.checkpoint()
        found = next((one for one in self._served() if (one.api_version, one.kind) == (api_version, kind)), None)
        if found is None:
            raise UnknownKindError(f"no {kind} of {api_version}")
        return found

    async def kinds(self) -> tuple[Kind, ...]:
        await anyio.lowlevel.checkpoint()
        return tuple(self._served())

    async def api_versions(self) -> tuple[str, ...]:
        await anyio.lowlevel.checkpoint()
        found = {name for one in self._served() for name in (one.api_version, f"{one.api_version}/{one.kind}")}
        return tuple(sorted(found))

    async def find_kind(self, group: str, kind: str) -> Kind | None:
        await anyio.lowlevel.checkpoint()
        return next((one for one in self._served() if (one.group, one.kind) == (group, kind)), None)

    def forget_kinds(self) -> None:
        """It keeps none."""

    async def openapi(self, group: str, version: str) -> bytes | None:
        return None

    async def get(self, kind: Kind, namespace: str, name: str, *, identity: Identity | None = None) -> KubeObject:
        id = ObjectKey(kind.group, kind.kind, namespace, name).id

        def effect() -> KubeObject:
            if id not in self.objects:
                raise NotFoundError(f"{id} is not there")
            return self.objects[id].object

        found: KubeObject = await self._call("get", id, effect)
        return found

    async def apply(
        self,
        obj: KubeObject,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> Applied:
        verb = "dry-run" if dry_run else "apply"
        obj = copy.deepcopy(obj)
        answer: Applied = await self._call(verb, key_of(obj).id, lambda: self._apply(obj, manager, dry_run=dry_run))
        return answer

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        preconditions: Preconditions | None = None,
        propagation: Propagation = "Background",
        identity: Identity | None = None,
    ) -> None:
        id = ObjectKey(kind.group, kind.kind, namespace, name).id

        def effect() -> None:
            if id not in self.objects:
                raise NotFoundError(f"{id} is not there")
            if preconditions is not None and preconditions.uid not in (None, self.objects[id].uid):
                raise ConflictError(f"{id} has another uid")
            version = None if preconditions is None else preconditions.resource_version
            if version not in (None, str(self.objects[id].version)):
                raise ConflictError(f"{id} has another version")
            del self.objects[id]

        await self._call("delete", id, effect)

    # How.

    async def _call(self, verb: str, id: ObjectId, effect: Callable[[], Any]) -> Any:
        call = Call(verb, id, writes=verb in ("apply", "delete"))
        await anyio.lowlevel.checkpoint()

        def carried_out() -> Any:
            self.calls.append(call)
            return effect()

        return await self.around(call, carried_out)

    def _served(self) -> Iterator[Kind]:
        yield from CORE.values()
        yield CRDS
        for kept in self.objects.values():
            if kept.key.kind == "CustomResourceDefinition":
                spec = kept.object["spec"]
                names = spec["names"]
                yield Kind(spec["group"], "v1", names["kind"], names["plural"], namespaced=True)

    def _apply(self, obj: KubeObject, manager: str, *, dry_run: bool) -> Applied:
        key, metadata = key_of(obj), obj["metadata"]
        if not any((kind.api_version, kind.kind) == (obj["apiVersion"], obj["kind"]) for kind in self._served()):
            raise UnknownKindError(f"no {obj['kind']} of {obj['apiVersion']}")
        if key.namespace and ObjectKey("", "Namespace", "", key.namespace).id not in self.objects:
            raise NotFoundError(f"no namespace {key.namespace}")
        there = self.objects.get(key.id)
        uid, version = metadata.get("uid"), metadata.get("resourceVersion")
        if there is None and (uid or version):
            raise ConflictError(f"{key.id} is not there")
        if there is not None and (uid not in (None, there.uid) or version not in (None, str(there.version))):
            raise ConflictError(f"{key.id} is another, or has changed")
        wanted = dict(_leaves(obj))
        if there is not None and there.fields.get(("immutable",)) and _data(wanted) != _data(there.fields):
            raise InvalidError(f"{key.id}: data: field is immutable when `immutable` is set")
        if there is None:
            self._number += 1
            kept = _Kept(key, obj["apiVersion"], f"uid-{self._number}" if not dry_run else "uid-of-a-dry-run")
        else:
            kept = copy.deepcopy(there)
        if kept.apply(manager, wanted) and not dry_run:
            self._number += 1
            kept.version = self._number
        if not dry_run:
            self.objects[key.id] = kept
            self.known.add((key.id, kept.uid, str(kept.version)))
        return Applied(kept.object, created=there is None)


def _leaves(value: KubeObject, at: FieldPath = ()) -> Iterator[tuple[FieldPath, Any]]:
    for name, held in value.items():
        path = (*at, name)
        if path in (("apiVersion",), ("kind",)) or (at == ("metadata",) and name not in ("labels", "annotations")):
            continue
        if isinstance(held, dict) and held:
            yield from _leaves(held, path)
        elif path != ("metadata",):
            yield path, copy.deepcopy(held)


def _data(fields: dict[FieldPath, Any]) -> dict[FieldPath, Any]:
    return {path: value for path, value in fields.items() if path[0] == "data"}


def _put(obj: KubeObject, path: FieldPath, value: Any) -> None:
    for part in path[:-1]:
        obj = obj.setdefault(part, {})
    obj[path[-1]] = value


def _fields_v1(paths: set[FieldPath]) -> KubeObject:
    fields: KubeObject = {}
    for path in sorted(paths):
        _put(fields, tuple(f"f:{part}" for part in path), {})
    return fields
