"""What the controllers do that look after every cluster: namespaces, APIServices, and the garbage that deletions leave.

It follows the store's journal, as the real controllers follow watches.
"""

import copy
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import anyio
import anyio.lowlevel
from msgspec import Struct

from tidelog.engine.cluster.embedded.api import APISERVICES, Api
from tidelog.engine.cluster.embedded.api_services import ApiServices
from tidelog.engine.cluster.embedded.fault_log import log_fault
from tidelog.engine.cluster.embedded.metadata import NAMESPACES
from tidelog.engine.cluster.embedded.objects import decoded, is_going, kept
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.requests import Options, Target
from tidelog.engine.cluster.embedded.shared_map import SharedMap
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.store import Change, Key, Record
from tidelog.engine.cluster.embedded.strategies import DEFINITIONS
from tidelog.engine.cluster.embedded.writing import FOREGROUND, ORPHAN
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.typed import decoder

ROOT_CERTIFICATES: Final = "kube-root-ca.crt"
_ROOT_DESCRIBED: Final = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)
NAMESPACE: Final = "kubernetes"
"""The finalizer of namespaces."""
_MAPS: Final[Place] = ("", "configmaps")
_TELL_VERSIONS: Final = frozenset({DEFINITIONS, APISERVICES})
MANAGER: Final = Options("tidelog-embedded-cluster")


class _Owner(Struct, rename="camel"):
    uid: str
    api_version: str = ""
    kind: str = ""
    block_owner_deletion: bool = False


class _Metadata(Struct, rename="camel"):
    owner_references: list[_Owner] | None = None
    finalizers: list[str] | None = None
    deletion_timestamp: str | None = None


class _Object(Struct):
    metadata: _Metadata


_decode = decoder(_Object)
Where = tuple[Place, Key]
Owners = Mapping[str, bool]
"""By uid, whether the owner waits for this one when it is deleted in the foreground."""
_NONE: Final[frozenset[Where]] = frozenset()


class Caretaker:
    """Looks after namespaces, APIServices and owners."""

    def __init__(self, api: Api, authority: str = "") -> None:
        """Of the cluster behind `api`; `authority` is what its clients are to trust (PEM), where it is served so."""
        self._api = api
        self._authority = authority
        self._store = api.store
        self._services = ApiServices(api)
        self._journal = api.store.follow()
        self._uids: SharedMap[str, Where] = SharedMap()
        """Of every object."""
        self._owned: SharedMap[str, frozenset[Where]] = SharedMap()
        """The objects that name an owner, by its uid."""
        self._owners: SharedMap[Where, Owners] = SharedMap()

    def fork(self, api: Api) -> "Caretaker":
        """One that looks after a fork of this one's cluster, and goes on where this one is."""
        made = Caretaker(api, self._authority)
        made._journal.extend(self._journal)
        made._uids, made._owned, made._owners = self._uids.copy(), self._owned.copy(), self._owners.copy()
        return made

    def begin(self) -> None:
        """Takes in what is there already, and looks through it for what was not brought to its end."""
        for place in self._store.places():
            for record in self._store.bucket(place).between(""):
                self._learn(place, record)
                self._journal.append((place, Change("ADDED", record, None)))

    async def run(self) -> None:
        """Follows the journal until it is cancelled."""
        while True:
            changed = self._store.changed
            await self.settle()
            await changed.wait()

    @property
    def is_at_rest(self) -> bool:
        """Whether all that happened is seen to."""
        return not self._journal

    async def settle(self) -> None:
        """Does all that is to be done by now."""
        while self._journal:
            await self._store.room()
            place, change = self._journal[0]
            try:
                await self._follow(place, change)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others are still looked after
                log_fault(error, f"{'.'.join(filter(None, reversed(place)))} {change.record.key.name}")
            self._journal.popleft()  # not before: a fork does again what is half done
            await anyio.lowlevel.checkpoint()

    async def _follow(self, place: Place, change: Change) -> None:
        record, where = change.record, (place, change.record.key)
        before = self._owners.get(where) or {}
        if change.type == "DELETED":
            self._forget(where, record)
            self._collect(record.uid)
            self._release_all(before)
            if place == DEFINITIONS:
                self._api.serve(record.key.name)
            if place in _TELL_VERSIONS:
                await self._services.follow(place, record.key.name)
            if place == _MAPS and record.key.name == ROOT_CERTIFICATES:
                await self._publish(record.key.namespace)
            if record.key.namespace:
                self._finish_namespace(record.key.namespace)
            return
        obj = self._learn(place, record)
        if place == NAMESPACES:
            await self._look_after(record, obj)
        elif place == _MAPS and record.key.name == ROOT_CERTIFICATES:
            await self._publish(record.key.namespace)
        elif place in _TELL_VERSIONS:
            await self._services.follow(place, record.key.name)
        owners = self._owners.get(where) or {}
        if change.type == "ADDED" or owners != before:
            self._collect_if_orphaned(where)
            self._release_all(before)
        self._release(where, record, obj.metadata)

    # ------------------------------------------------------------------------------------------ what is known

    def _learn(self, place: Place, record: Record) -> _Object:
        obj = _decode(record.data)
        where = place, record.key
        self._uids.set(record.uid, where)
        owners = _owners_of(obj)
        before = self._owners.get(where) or {}
        if owners != before:
            self._part(where, before)
            for uid in owners:
                self._owned.set(uid, (self._owned.get(uid) or _NONE) | {where})
            if owners:
                self._owners.set(where, owners)
            else:
                self._owners.pop(where)
        return obj

    def _forget(self, where: Where, record: Record) -> None:
        self._uids.pop(record.uid)
        self._part(where, self._owners.pop(where) or {})

    def _part(self, where: Where, uids: Iterable[str]) -> None:
        for uid in uids:
            left = (self._owned.get(uid) or _NONE) - {where}
            if left:
                self._owned.set(uid, left)
            else:
                self._owned.pop(uid)

    # ------------------------------------------------------------------------------------------ garbage

    def _collect(self, uid: str) -> None:
        """Deletes what an owner that went leaves behind; then those that wait for it may go on."""
        for where in sorted(self._owned.pop(uid) or ()):
            self._collect_if_orphaned(where, gone=uid)

    def _collect_if_orphaned(self, where: Where, *, gone: str = "") -> None:
        """Deletes an object that no owner keeps; of one with others, the references to those are dropped.

        Of an owner that is not there, and is not the one that is just `gone`, nobody knows what it is where its kind is
        not served: then nothing is done, as the real collector does nothing.
        """
        record, owners = self._store.get(*where), self._owners.get(where)
        # Of what has changed since, a later entry of the journal speaks.
        if not owners or record is None or _owners_of(obj := _decode(record.data)) != owners:
            return
        left = [uid for uid in owners if self._owns(uid, where)]
        absent = [one for one in obj.metadata.owner_references or () if one.uid not in (*left, gone)]
        if not all(map(self._is_served, absent)):
            return
        if len(left) < len(owners) or any(map(self._waits, left)):
            keeping = [uid for uid in left if not self._waits(uid)]
            if keeping:
                self._disown(where, owners.keys() - keeping)
            else:
                self._unblock_cycle(where, record, left)
                self._delete(where, "Foreground" if left and self._owned.get(record.uid) else "Background")

    def _owns(self, uid: str, dependent: Where) -> bool:
        """Whether an owner is there, and not in another namespace, where it owns nothing."""
        owner = self._uids.get(uid)
        return owner is not None and (not dependent[1].namespace or owner[1].namespace in ("", dependent[1].namespace))

    def _is_served(self, owner: _Owner) -> bool:
        group, _, version = owner.api_version.rpartition("/")
        return self._api.registry.of_kind(group, version, owner.kind) is not None

    def _unblock_cycle(self, where: Where, record: Record, waiting: Collection[str]) -> None:
        """Has an object hold up no owner that waits for it, where it would wait for that itself."""
        if not waiting or not any(self._is_waiting(dependent) for dependent in self._owned.get(record.uid) or ()):
            return

        def change(obj: KubeObject) -> None:
            for one in obj["metadata"].get("ownerReferences") or ():
                one.pop("blockOwnerDeletion", None)

        self._change(where, change)

    def _waits(self, uid: str) -> bool:
        """Whether an owner is being deleted in the foreground."""
        where = self._uids.get(uid)
        record = self._store.get(*where) if where else None
        return where is not None and record is not None and record.uid == uid and self._is_waiting(where)

    def _is_waiting(self, where: Where) -> bool:
        record = self._store.get(*where)
        metadata = _decode(record.data).metadata if record is not None else _Metadata()
        return bool(metadata.deletion_timestamp) and FOREGROUND in (metadata.finalizers or ())

    def _release_all(self, uids: Iterable[str]) -> None:
        for uid in uids:
            where = self._uids.get(uid)
            record = self._store.get(*where) if where else None
            if where and record and record.uid == uid:
                self._release(where, record, _decode(record.data).metadata)

    def _release(self, where: Where, record: Record, metadata: _Metadata) -> None:
        """Lets an object go whose dependents were waited for, or are left alone."""
        finalizers = metadata.finalizers or () if metadata.deletion_timestamp else ()
        dependents = sorted(self._owned.get(record.uid) or ())
        if ORPHAN in finalizers:
            for dependent in dependents:
                self._disown(dependent, {record.uid})
            self._drop_finalizer(where, ORPHAN)
        if FOREGROUND in finalizers:
            for dependent in dependents:
                self._collect_if_orphaned(dependent)
            if not any((self._owners.get(dependent) or {}).get(record.uid) for dependent in dependents):
                self._drop_finalizer(where, FOREGROUND)

    def _disown(self, where: Where, uids: Collection[str]) -> None:
        def change(obj: KubeObject) -> None:
            left = [one for one in obj["metadata"].get("ownerReferences") or () if one["uid"] not in uids]
            if left:
                obj["metadata"]["ownerReferences"] = left
            else:
                obj["metadata"].pop("ownerReferences", None)

        self._change(where, change)

    def _drop_finalizer(self, where: Where, finalizer: str) -> None:
        resource, record = self._api.registry.at(where[0]), self._store.get(*where)
        if resource is None or record is None:
            return
        obj = decoded(record, resource)
        left = [one for one in obj["metadata"].get("finalizers") or () if one != finalizer]
        if left:
            obj["metadata"]["finalizers"] = left
            self._put(resource, obj)
        else:
            obj["metadata"].pop("finalizers", None)
            self._api.writer.remove(resource, record, obj, propagation="Background")

    def _delete(self, where: Where, propagation: str) -> None:
        resource, record = self._api.registry.at(where[0]), self._store.get(*where)
        if resource is not None and record is not None:
            obj = decoded(record, resource)
            if not is_going(obj):
                self._api.writer.remove(resource, record, obj, propagation=propagation)

    def _change(self, where: Where, change: Callable[[KubeObject], None]) -> None:
        resource, record = self._api.registry.at(where[0]), self._store.get(*where)
        if resource is not None and record is not None:
            obj = decoded(record, resource)
            change(obj)
            self._put(resource, obj)

    def _put(self, resource: Resource, obj: KubeObject) -> None:
        self._store.put(resource.place, kept(obj, resource, self._store.next_version()))

    # ------------------------------------------------------------------------------------------ namespaces

    async def _look_after(self, record: Record, obj: _Object) -> None:
        name = record.key.name
        if obj.metadata.deletion_timestamp:
            for place in list(self._store.places()):
                for each in list(self._store.bucket(place).between(name)):
                    self._delete((place, each.key), "Background")
            self._finish_namespace(name)
            return
        await self._make("serviceaccounts", {"kind": "ServiceAccount"}, name, "default")
        await self._publish(name)

    async def _publish(self, namespace: str) -> None:
        """Tells what clients are to trust, in a namespace that stays."""
        spaces = self._api.registry.builtin(NAMESPACES)
        space = self._store.get(NAMESPACES, Key("", namespace))
        if space is None or is_going(decoded(space, spaces)):
            return
        data = {"ca.crt": self._authority}
        where = _MAPS, Key(namespace, ROOT_CERTIFICATES)
        record = self._store.get(*where)
        if record is None:
            described = {"annotations": {"kubernetes.io/description": _ROOT_DESCRIBED}}
            document = {"kind": "ConfigMap", "metadata": described, "data": data}
            await self._make("configmaps", document, namespace, ROOT_CERTIFICATES)
        elif self._authority and decoded(record, self._api.registry.builtin(_MAPS)).get("data") != data:
            self._change(where, lambda obj: obj.update(data=data))

    async def _make(self, plural: str, document: KubeObject, namespace: str, name: str) -> None:
        resource = self._api.registry.builtin(("", plural))
        if self._store.get(resource.place, Key(namespace, name)) is not None:
            return
        metadata = {**document.get("metadata", {}), "name": name, "namespace": namespace}
        obj = {**copy.deepcopy(document), "metadata": metadata}
        try:
            await self._api.writer.create(Target("create", resource, namespace, ""), obj, MANAGER)
        except StatusError:
            return  # the namespace went meanwhile

    def _finish_namespace(self, name: str) -> None:
        """Lets a namespace go that is to go, and is empty."""
        where = NAMESPACES, Key("", name)
        resource, record = self._api.registry.at(NAMESPACES), self._store.get(*where)
        if resource is None or record is None:
            return
        obj = decoded(record, resource)
        if not is_going(obj) or any(self._holds(place, name) for place in self._store.places()):
            return
        spec = obj.get("spec") or {}
        spec["finalizers"] = [one for one in spec.get("finalizers") or () if one != NAMESPACE]
        if not spec["finalizers"]:
            spec.pop("finalizers")
        obj["spec"] = spec
        if spec or obj["metadata"].get("finalizers"):
            self._put(resource, obj)
        else:
            self._api.writer.remove(resource, record, obj, propagation="Background")

    def _holds(self, place: Place, namespace: str) -> bool:
        return next(self._store.bucket(place).between(namespace), None) is not None


def _owners_of(obj: _Object) -> Owners:
    return {owner.uid: owner.block_owner_deletion for owner in obj.metadata.owner_references or ()}
