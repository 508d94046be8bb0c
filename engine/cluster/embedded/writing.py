"""How objects come to be, change and go: what the generic registry of the API server does with a request.

Between reading an object and writing it nothing is awaited but rules in CEL, and what is done aside (`aside.py`);
whoever was quicker meanwhile is told from the version of what was read.
"""

import copy
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from tidelog.engine.cluster.embedded import custom, intake, ownership
from tidelog.engine.cluster.embedded.aside import Aside
from tidelog.engine.cluster.embedded.decoding import MismatchError
from tidelog.engine.cluster.embedded.metadata import (
    NAMESPACES,
    REPEATED,
    REPEATED_LATE,
    but_managed,
    empty_lists,
    is_held,
    is_version,
    keep,
    owners_of,
    reset_by,
    set_owners,
    version_meant,
    with_empty,
    without_repeated_owners,
)
from tidelog.engine.cluster.embedded.objects import LETTERS, as_read, decoded, is_going, kept, timestamp
from tidelog.engine.cluster.embedded.registry import Place, Registry, Resource
from tidelog.engine.cluster.embedded.requests import Options, Target
from tidelog.engine.cluster.embedded.sizes import require_size
from tidelog.engine.cluster.embedded.statuses import (
    MODIFIED,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    internal,
    name_taken,
    no_version,
    not_found,
    other_uid,
    precondition,
)
from tidelog.engine.cluster.embedded.statuses import forbidden as refused
from tidelog.engine.cluster.embedded.store import Key, Record, Store
from tidelog.engine.cluster.embedded.strategies import Strategies
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import Judge

_IMMORTAL: Final = frozenset({"default", "kube-public", "kube-system"})
"""The namespaces that nobody may delete (Kubernetes, the admission plugin NamespaceLifecycle)."""
FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
ATTEMPTS: Final = 5
"""How often a patch is tried on an object that others write meanwhile."""
_MADE_BY_UPDATE: Final = frozenset(
    {
        *(("", kind) for kind in ("Endpoints", "Event", "Service")),
        ("coordination.k8s.io", "Lease"),
        ("events.k8s.io", "Event"),
        *(("rbac.authorization.k8s.io", kind) for kind in ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")),
    }
)
"""Kinds of which a replace makes the object that is not there."""
_NEVER_BLIND: Final = frozenset(
    {
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("coordination.k8s.io", "Lease"),
    }
)
"""Built-in kinds of which a replace must say the version that it replaces; of custom kinds every one must."""
_LENIENT: Final = Options("", warns=False)
"""Of what an apply makes: what its kind has not was refused before, or may stand there."""
_UNDER_GROUP: Final = frozenset({"apiextensions.k8s.io", "apiregistration.k8s.io"})
_ODD_KEYS: Final[Mapping[Place, str]] = {
    ("", "endpoints"): "services/endpoints",
    ("", "nodes"): "minions",
    ("", "replicationcontrollers"): "controllers",
    ("", "services"): "services/specs",
    ("networking.k8s.io", "ingresses"): "ingress",
}
"""Where the real server keeps objects of kinds that are not under their own name."""
_OF_DELETION: Final = ("deletionTimestamp", "deletionGracePeriodSeconds")


class Written(Struct, frozen=True):
    """What a write comes to."""

    object: KubeObject
    created: bool = False
    gone: bool = False
    """Whether the object is no longer there."""
    warnings: tuple[str, ...] = ()


class Preconditions(Struct, frozen=True):
    """What must hold of an object that is to be deleted."""

    uid: str | None = None
    version: str | None = None


class Writer:
    """Writes objects into a store."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        aside: Aside,
        clock: Callable[[], float],
        seed: int | None = None,
    ) -> None:
        """`clock` gives the time of day; `seed` makes generated names and uids the same each time."""
        self._store = store
        self._registry = registry
        self._aside = aside
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - names, and no secrets

    # ------------------------------------------------------------------------------------------ create

    async def create(self, target: Target, obj: KubeObject, options: Options) -> Written:
        """Makes an object.

        Raises:
            StatusError: when it cannot be.
        """
        resource = target.resource
        obj, warnings = await self._aside.call(options.size, intake.read, resource, target, obj, options)
        warnings += without_repeated_owners(obj, REPEATED)
        with intake.warned(warnings):
            return await self._create(resource, obj, options, warnings)

    async def _create(
        self,
        resource: Resource,
        obj: KubeObject,
        options: Options,
        warnings: Sequence[str],
        *,
        by_update: bool = False,
    ) -> Written:
        self._name(obj)
        self._require_namespace(resource, obj)
        self._begin(obj, by_update=by_update)
        made = await self._aside.run(options.size, self._made, resource, obj, options)
        return self._commit_new(resource, made, options, warnings, by_update=by_update)

    async def _made(self, judge: Judge, resource: Resource, obj: KubeObject, options: Options) -> KubeObject:
        """A new object as it is to be kept."""
        strategies, empty = Strategies(judge), empty_lists(obj)
        strategies.fill_in(resource, obj)
        # Who owns what is decided before the strategies add theirs: nobody owns an address that a Service is given.
        owned = ownership.update(
            None,
            with_empty(obj, empty),
            resource.schema,
            manager=options.manager,
            now=self._now(),
            reset=reset_by(resource, ""),
            versions=self._registry.versions_of(resource),
        )
        set_owners(obj, owned)
        made = await strategies.prepared(resource, obj)
        set_owners(made, owned)
        return made

    def _begin(self, obj: KubeObject, *, by_update: bool = False) -> None:
        """Gives a new object its identity; made by an apply or a replace it may say that it is being deleted."""
        metadata = obj["metadata"]
        for name in ("selfLink", *(() if by_update else _OF_DELETION)):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        metadata["creationTimestamp"] = self._now()

    def _commit_new(
        self,
        resource: Resource,
        obj: KubeObject,
        options: Options,
        warnings: Sequence[str] = (),
        *,
        by_update: bool = False,
    ) -> Written:
        obj = as_read(obj, resource)
        metadata = obj["metadata"]
        key = Key(metadata.get("namespace", ""), metadata["name"])
        self._require_namespace(resource, obj)  # it may have gone while a large object was worked on
        if options.guard is not None:
            options.guard.check_write(resource, obj, None)
        if not (by_update or options.dry_run) and is_version(metadata.get("resourceVersion")):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        there = self._store.get(resource.place, key)
        if there is not None:
            with intake.warned(_warnings(resource, obj, None)):
                if metadata.get("generateName"):
                    raise name_taken(resource, key.name)
                raise already_exists(resource, key.name, is_going=is_going(decoded(there, resource)))
        if not options.dry_run:
            made = kept(obj, resource, self._store.next_version())
            require_size(resource, made, obj)
            self._store.put(resource.place, made)
        return Written(obj, created=True, warnings=(*warnings, *_warnings(resource, obj, None)))

    # ------------------------------------------------------------------------------------------ replace and patch

    async def replace(self, target: Target, obj: KubeObject, options: Options) -> Written:
        """Puts an object, or its subresource, in the place of what is there.

        Raises:
            StatusError: when it cannot be.
        """
        for _ in range(ATTEMPTS):
            read, warnings = await self._aside.call(options.size, intake.read, target.resource, target, obj, options)
            warnings += without_repeated_owners(read, REPEATED)
            is_blind = not version_meant(read)  # before it is given that of what is there
            try:
                with intake.warned(warnings):
                    return await self._replace(target, read, options, warnings)
            except _OvertakenError:
                if not is_blind:
                    raise
        raise conflict(target.resource, target.name, MODIFIED)

    async def _replace(self, target: Target, obj: KubeObject, options: Options, warnings: Sequence[str]) -> Written:
        resource = target.resource
        is_whole = target.subresource is None and resource.group_kind in _MADE_BY_UPDATE
        if is_whole and self._store.get(resource.place, Key(target.namespace, target.name)) is None:
            if options.guard is not None:
                options.guard.check_create(resource, target.namespace, target.name)
            return await self._create(resource, obj, options, warnings, by_update=True)
        record = self._record(target)
        uid = obj["metadata"].get("uid")
        if uid and uid != record.uid:
            raise other_uid(resource, _key_in_etcd(resource, record.key), target.name, uid, record.uid)
        version = version_meant(obj)
        if not version and _is_never_blind(resource):
            raise no_version(resource, target.name)
        if version and version != str(record.version):
            raise conflict(resource, target.name, MODIFIED)
        return await self._update(target, record, obj, options, warnings)

    async def patch(
        self, target: Target, patch: Any, how: Literal["merge", "json", "strategic"], options: Options
    ) -> Written:
        """Patches an object or its subresource.

        Raises:
            StatusError: when it cannot be.
        """
        resource = target.resource
        for _ in range(ATTEMPTS):
            record = self._record(target)
            live = decoded(record, resource)
            size = max(options.size, len(record.data))
            changed = await self._aside.call(size, intake.patched, resource.schema, live, patch, how)
            version = version_meant(changed)
            if not version and changed["metadata"].get("resourceVersion") and _is_never_blind(resource):
                raise no_version(resource, target.name)
            if version and version != str(record.version):
                raise conflict(resource, target.name, MODIFIED)
            obj, warnings = await self._aside.call(
                size, intake.read_patched, target, changed, how, options, self._registry
            )
            try:
                with intake.warned(warnings):
                    return await self._update(target, record, obj, options, warnings)
            except _OvertakenError:
                continue
        raise conflict(resource, target.name, MODIFIED)

    async def _update(
        self, target: Target, record: Record, obj: KubeObject, options: Options, warnings: Sequence[str]
    ) -> Written:
        live, size = decoded(record, target.resource), max(options.size, len(record.data))
        new, told = await self._aside.run(size, self._updated, target, live, obj, options)
        return self._commit_change(target.resource, record, live, new, options, (*warnings, *told))

    async def _updated(
        self, judge: Judge, target: Target, live: KubeObject, obj: KubeObject, options: Options
    ) -> tuple[KubeObject, list[str]]:
        """A changed object as it is to be kept, and what is to be warned of."""
        resource, strategies = target.resource, Strategies(judge)
        subresource = target.subresource.name if target.subresource else ""
        empty = empty_lists(obj)
        sent = obj["metadata"].get("managedFields")
        strategies.fill_in(resource, obj)
        if sent is not None:  # an empty list says something too
            obj["metadata"]["managedFields"] = sent
        owned = obj
        if not options.through:
            owned = ownership.update(
                live,
                with_empty(obj, empty),
                resource.schema,
                manager=options.manager,
                now=self._now(),
                subresource=subresource,
                reset=reset_by(resource, subresource),
                versions=self._registry.versions_of(resource),
            )
        set_owners(obj, owned)
        told = without_repeated_owners(obj, REPEATED_LATE)
        keep(obj, live)
        new = await strategies.changed(resource, obj, live, subresource)
        set_owners(new, owned)
        return live if _is_same(new, live) else new, told

    def _commit_change(
        self,
        resource: Resource,
        record: Record,
        live: KubeObject,
        new: KubeObject,
        options: Options,
        warnings: Sequence[str] = (),
    ) -> Written:
        current = self._store.get(resource.place, record.key)
        if current is None or current.version != record.version:
            raise _OvertakenError(resource, record.key.name)
        new = as_read(new, resource)
        if options.guard is not None:
            options.guard.check_write(resource, new, live)
        warnings = (*warnings, *_warnings(resource, new, live))
        if new == live:
            return Written(live, warnings=tuple(warnings))
        gone = is_going(new) and not is_held(resource, new)
        if not options.dry_run:
            changed = kept(new, resource, self._store.next_version())
            if gone:
                self._store.remove(resource.place, kept(live, resource, changed.version))  # as it last was
            else:
                require_size(resource, changed, new)
                self._store.put(resource.place, changed)
        return Written(new, gone=gone, warnings=tuple(warnings))

    # ------------------------------------------------------------------------------------------ apply

    async def apply(self, target: Target, applied: KubeObject, options: Options) -> Written:
        """Server-side apply: makes an object, or changes it.

        Raises:
            StatusError: when it cannot be.
        """
        resource = target.resource
        subresource = target.subresource.name if target.subresource else ""
        metadata = applied.get("metadata")
        says_namespace = isinstance(metadata, dict) and "namespace" in metadata
        says_name = isinstance(metadata, dict) and bool(metadata.get("name"))
        if not isinstance(metadata, dict | None) or not isinstance((metadata or {}).get("name"), str | None):
            self._require_fit(resource, applied)
        intake.require_place(resource, target, applied)
        if not says_namespace:
            applied["metadata"].pop("namespace", None)  # errors name the object as it was sent
        if applied["metadata"].get("managedFields") is not None:
            raise bad_request("metadata.managedFields must be nil")
        for _ in range(ATTEMPTS):
            record = self._store.get(resource.place, Key(target.namespace, target.name))
            try:
                if record is None and not says_name:
                    why = "was undeterminable: name must be provided"
                    raise bad_request(f"the name of the object ({target.name} based on URL) {why}")
                if record is None:
                    return await self._apply_new(target, applied, options)
                return await self._apply_change(target, record, applied, options, subresource)
            except _OvertakenError:
                continue
        raise conflict(resource, target.name, MODIFIED)

    async def _apply_new(self, target: Target, applied: KubeObject, options: Options) -> Written:
        resource = target.resource
        if target.subresource is not None:
            raise not_found(resource, target.name)
        uid = applied["metadata"].get("uid")
        if uid:
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise conflict(resource, target.name, why)
        if options.guard is not None:
            options.guard.check_create(resource, target.namespace, target.name)
        version_meant(applied)
        merged = await self._aside.call(options.size, self.owned, resource, None, applied, options, "")
        if resource.namespaced:
            merged["metadata"]["namespace"] = target.namespace
        self._require_namespace(resource, merged)
        obj, warnings = await self._aside.call(options.size, _converted, resource, applied, merged)
        self._begin(obj, by_update=True)
        made, warnings = await self._aside.run(options.size, self._made_by_apply, resource, obj, merged, warnings)
        if self._store.get(resource.place, Key(target.namespace, target.name)) is not None:
            raise _OvertakenError(resource, target.name)
        return self._commit_new(resource, made, options, warnings, by_update=True)

    async def _made_by_apply(
        self, judge: Judge, resource: Resource, obj: KubeObject, merged: KubeObject, warnings: list[str]
    ) -> tuple[KubeObject, list[str]]:
        """A new object as it is to be kept, and what is to be warned of."""
        strategies = Strategies(judge)
        strategies.fill_in(resource, obj, applied=True)
        set_owners(obj, merged)
        warnings = warnings + without_repeated_owners(obj, REPEATED_LATE)
        with intake.warned(warnings):
            made = await strategies.prepared(resource, obj)
        set_owners(made, merged)
        return made, warnings

    async def _apply_change(
        self, target: Target, record: Record, applied: KubeObject, options: Options, subresource: str
    ) -> Written:
        resource = target.resource
        live = decoded(record, resource)
        version = version_meant(applied)
        if not version and applied["metadata"].get("resourceVersion") and _is_never_blind(resource):
            raise no_version(resource, target.name)
        if version and version != str(record.version):
            raise conflict(resource, target.name, MODIFIED)
        size = max(options.size, len(record.data))
        new, warnings = await self._aside.run(
            size, self._changed_by_apply, resource, record, live, applied, options, subresource
        )
        return self._commit_change(resource, record, live, new, options, warnings)

    async def _changed_by_apply(
        self,
        judge: Judge,
        resource: Resource,
        record: Record,
        live: KubeObject,
        applied: KubeObject,
        options: Options,
        subresource: str,
    ) -> tuple[KubeObject, list[str]]:
        """A changed object as it is to be kept, `live` itself where nothing changes, and what is to be warned of."""
        strategies = Strategies(judge)
        # What is applied to is changed in place below, and what it was is compared with.
        merged = self.owned(resource, decoded(record, resource), applied, options, subresource)
        if applied["metadata"].get("uid"):
            merged["metadata"]["uid"] = applied["metadata"]["uid"]
        obj, warnings = _converted(resource, applied, merged)
        strategies.fill_in(resource, obj, applied=True)
        set_owners(obj, merged)
        warnings += without_repeated_owners(obj, REPEATED_LATE)
        keep(obj, live)
        with intake.warned(warnings):
            new = await strategies.changed(resource, obj, live, subresource)
        set_owners(new, merged)
        return live if _is_same(new, live) else new, warnings

    def owned(
        self, resource: Resource, live: KubeObject | None, applied: KubeObject, options: Options, subresource: str
    ) -> KubeObject:
        """An object with what is applied to it, and with its owners then.

        Raises:
            StatusError: when it does not fit, or others own what it would change.
        """
        try:
            return ownership.apply(
                live,
                copy.deepcopy(applied),
                resource.schema,
                manager=options.manager,
                force=options.force,
                now=self._now(),
                subresource=subresource,
                reset=reset_by(resource, subresource),
                versions=self._registry.versions_of(resource),
            )
        except ownership.FieldConflictsError as error:
            details = {"causes": error.causes()}
            raise StatusError(409, "Conflict", str(error), details=details) from None
        except ValueError as error:
            raise internal(str(error)) from None

    def _require_fit(self, resource: Resource, applied: KubeObject) -> None:
        try:
            ownership.require_fit(applied, resource.schema)
        except ValueError as error:
            raise internal(str(error)) from None

    # ------------------------------------------------------------------------------------------ delete

    def delete(
        self,
        target: Target,
        *,
        propagation: str = "Background",
        preconditions: Preconditions = Preconditions(),  # noqa: B008 - immutable
        dry_run: bool = False,
    ) -> Written:
        """Asks for an object's deletion.

        Raises:
            StatusError: when it is not there, may not go, or a precondition does not hold.
        """
        if target.resource.place == NAMESPACES and target.name in _IMMORTAL:
            raise refused(target.resource, target.name, "this namespace may not be deleted")
        resource, record = target.resource, self._record(target)
        obj = decoded(record, resource)
        for name, wanted, found in (
            ("UID", preconditions.uid, record.uid),
            ("ResourceVersion", preconditions.version, str(record.version)),
        ):
            if wanted is not None and wanted != found:
                raise precondition(resource, target.name, name, wanted, found)
        return self.remove(resource, record, obj, propagation=propagation, dry_run=dry_run)

    def remove(
        self, resource: Resource, record: Record, obj: KubeObject, *, propagation: str, dry_run: bool = False
    ) -> Written:
        """Deletes an object, or marks it to be deleted where something holds it."""
        metadata = obj["metadata"]
        finalizers = [one for one in metadata.get("finalizers") or () if one not in (FOREGROUND, ORPHAN)]
        added = {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(propagation, [])
        wanted = finalizers + added
        was_going = is_going(obj)
        if wanted:
            metadata["finalizers"] = wanted
        else:
            metadata.pop("finalizers", None)
        if not is_held(resource, obj):
            last = kept(obj, resource, self._store.next_version())
            if not dry_run:
                self._store.remove(resource.place, kept(decoded(record, resource), resource, last.version))
            return Written(obj, gone=True)
        if was_going and wanted == (decoded(record, resource)["metadata"].get("finalizers") or []):
            return Written(obj)
        if not was_going:
            metadata["deletionTimestamp"] = self._now()
            metadata["deletionGracePeriodSeconds"] = 0
            if metadata.get("generation"):
                metadata["generation"] += 1
            if resource.place == NAMESPACES:
                obj.setdefault("status", {})["phase"] = "Terminating"
        if not dry_run:
            self._store.put(resource.place, kept(obj, resource, self._store.next_version()))
        return Written(obj)

    # ------------------------------------------------------------------------------------------ what is common

    def tell(self, resource: Resource, live: KubeObject, told: KubeObject, options: Options) -> None:
        """Stores what the server itself says of an object, in its status."""
        subresource = "status"
        owned = ownership.update(
            live,
            told,
            resource.schema,
            manager=options.manager,
            now=self._now(),
            subresource=subresource,
            reset=reset_by(resource, subresource),
        )
        self._store.put(resource.place, kept(owned, resource, self._store.next_version()))

    def _now(self) -> str:
        return timestamp(self._clock())

    def _record(self, target: Target) -> Record:
        record = self._store.get(target.resource.place, Key(target.namespace, target.name))
        if record is None:
            raise not_found(target.resource, target.name)
        return record

    def _name(self, obj: KubeObject) -> None:
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            base = str(metadata["generateName"])[:58]
            metadata["name"] = base + "".join(self._random.choice(LETTERS) for _ in range(5))

    def _require_namespace(self, resource: Resource, obj: KubeObject) -> None:
        """Whether the namespace is there, and stays.

        Raises:
            StatusError: when not.
        """
        if not resource.namespaced:
            return
        name = obj["metadata"]["namespace"]
        spaces = self._registry.builtin(NAMESPACES)
        record = self._store.get(NAMESPACES, Key("", name))
        if record is None:
            raise not_found(spaces, name)
        if is_going(decoded(record, spaces)):
            causes = [
                {
                    "reason": "NamespaceTerminating",
                    "message": f"namespace {name} is being terminated",
                    "field": "metadata.namespace",
                }
            ]
            why = f"unable to create new content in namespace {name} because it is being terminated"
            raise refused(resource, obj["metadata"].get("name", ""), why, causes=causes)


class _OvertakenError(StatusError):
    """Somebody has written the object since it was read."""

    def __init__(self, resource: Resource, name: str) -> None:
        told = conflict(resource, name, MODIFIED)
        super().__init__(told.code, told.reason, told.message, details=told.details)


def _converted(resource: Resource, applied: KubeObject, merged: KubeObject) -> tuple[KubeObject, list[str]]:
    """What an apply makes, with the fields of its kind; a value of another type the server takes for its own fault.

    Raises:
        StatusError: when a value has another type than its field.
    """
    try:
        return intake.conformed(resource, merged, _LENIENT)
    except MismatchError as error:
        metadata = applied["metadata"]
        kind = f"{resource.group}/{resource.version}, Kind={resource.kind}"
        named = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; {kind}"
        why = f"unable to convert unstructured object to {kind}: {error.converted}"
        raise internal(f"failed to convert new object ({named}) to proper version: {why}") from None


def _is_never_blind(resource: Resource) -> bool:
    return resource.custom is not None or resource.group_kind in _NEVER_BLIND


def _warnings(resource: Resource, new: KubeObject, live: KubeObject | None) -> list[str]:
    return [] if resource.custom is None else custom.warnings(new, live)


def _key_in_etcd(resource: Resource, key: Key) -> str:
    """Where the real server keeps an object: it names that to whoever means another."""
    place = f"{resource.group}/{resource.plural}" if resource.group in _UNDER_GROUP else resource.plural
    if resource.custom is not None:
        place = f"{resource.group}/{resource.plural}"
    place = _ODD_KEYS.get(resource.place, place)
    return "/".join(("/registry", place, *(part for part in (key.namespace, key.name) if part)))


def _is_same(new: KubeObject, live: KubeObject) -> bool:
    """Whether nothing is changed but when somebody wrote what was there: that is no write."""
    return but_managed(new) == but_managed(live) and owners_of(new) == owners_of(live)
