"""How objects come to be, change and go: what the generic registry of the API server does with a request.

Between reading an object and writing it nothing is awaited but rules in CEL; whoever was quicker meanwhile is told
from the version of what was read.
"""

import copy
import random
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from tidelog.engine.cluster.embedded import builtin, custom, definitions, intake, ownership, rules
from tidelog.engine.cluster.embedded.builtin import metadata_problems
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.objects import LETTERS, decoded, is_going, kept, timestamp
from tidelog.engine.cluster.embedded.registry import Place, Registry, Resource
from tidelog.engine.cluster.embedded.requests import Options, Target
from tidelog.engine.cluster.embedded.statuses import (
    MODIFIED,
    StatusError,
    already_exists,
    bad_request,
    conflict,
    invalid,
    name_taken,
    no_version,
    not_found,
    other_uid,
    precondition,
)
from tidelog.engine.cluster.embedded.statuses import forbidden as refused
from tidelog.engine.cluster.embedded.store import Key, Record, Store
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.managed_fields import FieldSet
from tidelog.engine.objects.rules import Judge

NAMESPACES: Final[Place] = ("", "namespaces")
_IMMORTAL: Final = frozenset({"default", "kube-public", "kube-system"})
"""The namespaces that nobody may delete (Kubernetes, the admission plugin NamespaceLifecycle)."""
DEFINITIONS: Final[Place] = ("apiextensions.k8s.io", "customresourcedefinitions")
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
_ONE_SCHEMA: Final = "spec.validation.openAPIV3Schema"
"""What the server calls the schema of a definition whose versions share it."""
_LENIENT: Final = Options("", warns=False)
"""Of what an apply makes: what its kind has not was refused before, or may stand there."""
_REPEATED: Final = (
    "; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your "
    "requests; duplicate UID(s) observed: "
)
_REPEATED_LATE: Final = f" after mutating admission happens{_REPEATED}"
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
        judge: Judge,
        clock: Callable[[], float],
        seed: int | None = None,
    ) -> None:
        """`clock` gives the time of day; `seed` makes generated names and uids the same each time."""
        self._store = store
        self._registry = registry
        self._judge = judge
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - names, and no secrets

    # ------------------------------------------------------------------------------------------ create

    async def create(self, target: Target, obj: KubeObject, options: Options) -> Written:
        """Makes an object.

        Raises:
            StatusError: when it cannot be.
        """
        resource = target.resource
        obj, warnings = intake.read(resource, target, obj, options)
        warnings += _without_repeated_owners(obj, _REPEATED)
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
        empty = _empty(obj)
        self._fill_in(resource, obj)
        # Who owns what is decided before the strategies add theirs: nobody owns an address that a Service is given.
        owned = ownership.update(
            None,
            _with_empty(obj, empty),
            resource.schema,
            manager=options.manager,
            now=self._now(),
            reset=_reset(resource, ""),
            versions=self._registry.versions_of(resource),
        )
        _set_owners(obj, owned)
        made = await self._prepared(resource, obj)
        _set_owners(made, owned)
        return self._commit_new(resource, made, options, warnings, by_update=by_update)

    def _begin(self, obj: KubeObject, *, by_update: bool = False) -> None:
        """Gives a new object its identity; made by an apply or a replace it may say that it is being deleted."""
        metadata = obj["metadata"]
        for name in ("selfLink", *(() if by_update else _OF_DELETION)):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        metadata["creationTimestamp"] = self._now()

    def _fill_in(self, resource: Resource, obj: KubeObject, *, applied: bool = False) -> None:
        """Sets what an object leaves to the server, which decodes no more what an apply makes: nulls stay."""
        if resource.custom is not None:
            if applied:
                custom.set_default_values(obj, custom.schema_of(resource))
            else:
                custom.set_defaults(resource, obj)
            return
        builtin.set_defaults(resource.group_kind, obj)
        if resource.place == DEFINITIONS:
            definitions.set_defaults(obj)

    async def _prepared(self, resource: Resource, obj: KubeObject) -> KubeObject:
        """A new object, filled in, as it is to be kept.

        Raises:
            StatusError: when it is not valid.
        """
        kind = resource.group_kind
        if resource.custom is not None:
            custom.prepare_create(resource, obj)
            causes = metadata_problems.problems(kind, obj, is_custom=True) + custom.problems(resource, obj, None)
            if not custom.is_too_wrong(causes):
                causes += await rules.broken_rules(resource, obj, None, self._judge)
        else:
            builtin.prepare_create(kind, obj)
            causes = builtin.problems_on_create(kind, obj)
            if resource.place == DEFINITIONS:
                definitions.prepare_create(obj)
                causes = causes or await self._definition_problems(obj, None)
        if causes:
            raise invalid(resource, obj["metadata"].get("name", ""), causes)
        return _read_again(resource, obj)

    def _commit_new(
        self,
        resource: Resource,
        obj: KubeObject,
        options: Options,
        warnings: Sequence[str] = (),
        *,
        by_update: bool = False,
    ) -> Written:
        metadata = obj["metadata"]
        key = Key(metadata.get("namespace", ""), metadata["name"])
        if options.guard is not None:
            options.guard.check_write(resource, obj, None)
        if not (by_update or options.dry_run) and _is_version(metadata.get("resourceVersion")):
            raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
        there = self._store.get(resource.place, key)
        if there is not None:
            with intake.warned(_warnings(resource, obj, None)):
                if metadata.get("generateName"):
                    raise name_taken(resource, key.name)
                raise already_exists(resource, key.name, is_going=is_going(decoded(there, resource)))
        if not options.dry_run:
            self._store.put(resource.place, kept(obj, resource, self._store.next_version()))
        return Written(obj, created=True, warnings=(*warnings, *_warnings(resource, obj, None)))

    # ------------------------------------------------------------------------------------------ replace and patch

    async def replace(self, target: Target, obj: KubeObject, options: Options) -> Written:
        """Puts an object, or its subresource, in the place of what is there.

        Raises:
            StatusError: when it cannot be.
        """
        resource = target.resource
        obj, warnings = intake.read(resource, target, obj, options)
        warnings += _without_repeated_owners(obj, _REPEATED)
        with intake.warned(warnings):
            return await self._replace(target, obj, options, warnings)

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
        version = _version_meant(obj)
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
            changed = intake.patched(resource.schema, live, patch, how)
            version = _version_meant(changed)
            if not version and changed["metadata"].get("resourceVersion") and _is_never_blind(resource):
                raise no_version(resource, target.name)
            if version and version != str(record.version):
                raise conflict(resource, target.name, MODIFIED)
            obj, warnings = intake.read_patched(target, changed, options)
            try:
                with intake.warned(warnings):
                    return await self._update(target, record, obj, options, warnings)
            except _OvertakenError:
                continue
        raise conflict(resource, target.name, MODIFIED)

    async def _update(
        self, target: Target, record: Record, obj: KubeObject, options: Options, warnings: Sequence[str]
    ) -> Written:
        resource = target.resource
        live = decoded(record, resource)
        subresource = target.subresource.name if target.subresource else ""
        empty = _empty(obj)
        sent = obj["metadata"].get("managedFields")
        self._fill_in(resource, obj)
        if sent is not None:  # an empty list says something too
            obj["metadata"]["managedFields"] = sent
        owned = ownership.update(
            live,
            _with_empty(obj, empty),
            resource.schema,
            manager=options.manager,
            now=self._now(),
            subresource=subresource or options.through,
            reset=_reset(resource, subresource),
            versions=self._registry.versions_of(resource),
        )
        _set_owners(obj, owned)
        warnings = (*warnings, *_without_repeated_owners(obj, _REPEATED_LATE))
        _keep(obj, live)
        new = await self._changed(resource, obj, live, subresource)
        _set_owners(new, owned)
        return self._commit_change(resource, record, live, new, options, warnings)

    async def _changed(self, resource: Resource, new: KubeObject, live: KubeObject, subresource: str) -> KubeObject:
        """A changed object as it is to be kept.

        Raises:
            StatusError: when it may not be so.
        """
        kind = resource.group_kind
        if resource.custom is not None:
            prepare = custom.prepare_status_update if subresource == "status" else custom.prepare_update
            prepare(resource, new, live)
            causes = metadata_problems.problems_of_update(kind, new, live, is_custom=True)
            causes += custom.problems(resource, new, live, subresource=subresource)
            if not custom.is_too_wrong(causes):
                causes += await rules.broken_rules(resource, new, live, self._judge)
        elif subresource == "status":
            builtin.prepare_status_update(kind, new, live)
            causes = builtin.problems_on_status_update(kind, new, live)
        else:
            builtin.prepare_update(kind, new, live)
            causes = builtin.problems_on_update(kind, new, live)
            if resource.place == DEFINITIONS:
                definitions.prepare_update(new, live)
                causes = causes or await self._definition_problems(new, live)
        if causes:
            raise invalid(resource, live["metadata"]["name"], causes)
        return _read_again(resource, new)

    async def _definition_problems(self, definition: KubeObject, live: KubeObject | None) -> list[Cause]:
        """What is wrong with a definition; rules in CEL are compiled once the rest is right."""
        causes = definitions.problems(definition, live)
        versions = definition["spec"].get("versions") or () if not causes else ()
        schemas = [(version.get("schema") or {}).get("openAPIV3Schema") or {} for version in versions]
        if schemas and all(raw == schemas[0] for raw in schemas):
            return await rules.mistakes_in_rules(schemas[0], _ONE_SCHEMA, self._judge)
        for number, raw in enumerate(schemas):
            path = f"spec.versions[{number}].schema.openAPIV3Schema"
            causes += await rules.mistakes_in_rules(raw, path, self._judge)
        return causes

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
        if options.guard is not None:
            options.guard.check_write(resource, new, live)
        warnings = (*warnings, *_warnings(resource, new, live))
        if new == live:
            return Written(live, warnings=tuple(warnings))
        gone = is_going(new) and not _held(resource, new)
        if not options.dry_run:
            changed = kept(new, resource, self._store.next_version())
            if gone:
                self._store.remove(resource.place, kept(live, resource, changed.version))  # as it last was
            else:
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
        intake.require_place(resource, target, applied)
        if not says_namespace:
            applied["metadata"].pop("namespace", None)  # errors name the object as it was sent
        if applied["metadata"].get("managedFields") is not None:
            raise bad_request("metadata.managedFields must be nil")
        for _ in range(ATTEMPTS):
            record = self._store.get(resource.place, Key(target.namespace, target.name))
            try:
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
        _version_meant(applied)
        merged = self._owned(resource, None, applied, options, "")
        if resource.namespaced:
            merged["metadata"]["namespace"] = target.namespace
        self._require_namespace(resource, merged)
        obj, warnings = intake.conformed(resource, merged, _LENIENT)
        self._begin(obj, by_update=True)
        self._fill_in(resource, obj, applied=True)
        _set_owners(obj, merged)
        warnings += _without_repeated_owners(obj, _REPEATED_LATE)
        with intake.warned(warnings):
            made = await self._prepared(resource, obj)
        _set_owners(made, merged)
        return self._commit_new(resource, made, options, warnings, by_update=True)

    async def _apply_change(
        self, target: Target, record: Record, applied: KubeObject, options: Options, subresource: str
    ) -> Written:
        resource = target.resource
        live = decoded(record, resource)
        version = _version_meant(applied)
        if not version and applied["metadata"].get("resourceVersion") and _is_never_blind(resource):
            raise no_version(resource, target.name)
        if version and version != str(record.version):
            raise conflict(resource, target.name, MODIFIED)
        # What is applied to is changed in place below, and what it was is compared with.
        merged = self._owned(resource, decoded(record, resource), applied, options, subresource)
        if applied["metadata"].get("uid"):
            merged["metadata"]["uid"] = applied["metadata"]["uid"]
        obj, warnings = intake.conformed(resource, merged, _LENIENT)
        self._fill_in(resource, obj, applied=True)
        _set_owners(obj, merged)
        warnings += _without_repeated_owners(obj, _REPEATED_LATE)
        _keep(obj, live)
        with intake.warned(warnings):
            new = await self._changed(resource, obj, live, subresource)
        _set_owners(new, merged)
        if _but_managed(new) == _but_managed(live) and _owners(new) == _owners(live):
            new = live
        return self._commit_change(resource, record, live, new, options, warnings)

    def _owned(
        self, resource: Resource, live: KubeObject | None, applied: KubeObject, options: Options, subresource: str
    ) -> KubeObject:
        try:
            return ownership.apply(
                live,
                copy.deepcopy(applied),
                resource.schema,
                manager=options.manager,
                force=options.force,
                now=self._now(),
                subresource=subresource,
                reset=_reset(resource, subresource),
                versions=self._registry.versions_of(resource),
            )
        except ownership.FieldConflictsError as error:
            details = {"causes": error.causes()}
            raise StatusError(409, "Conflict", str(error), details=details) from None
        except ValueError as error:
            raise StatusError(500, "", str(error)) from None

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
        if not _held(resource, obj):
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
            reset=_reset(resource, subresource),
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


def _is_version(said: Any) -> bool:
    """Whether it names a version: 0 is any."""
    return isinstance(said, str) and said.isascii() and said.isdigit() and int(said) > 0


def _is_never_blind(resource: Resource) -> bool:
    return resource.custom is not None or resource.group_kind in _NEVER_BLIND


def _version_meant(obj: KubeObject) -> str:
    """The version that an object says to be, or to change; empty for any.

    Raises:
        StatusError: when it is none.
    """
    said = obj["metadata"].get("resourceVersion") or ""
    if not said or _is_version(said):
        return str(said)
    if str(said).strip("0"):
        raise StatusError(500, "", f'strconv.ParseUint: parsing "{said}": invalid syntax')
    return ""


def _keep(new: KubeObject, live: KubeObject) -> None:
    """Puts back what of an object's metadata nobody may change, or unset."""
    metadata, was = new["metadata"], live["metadata"]
    for name in ("generation", "resourceVersion", "creationTimestamp"):
        if name in was:
            metadata[name] = was[name]
        else:
            metadata.pop(name, None)
    metadata.pop("selfLink", None)
    if not metadata.get("uid"):
        metadata["uid"] = was["uid"]
    if was.get("deletionTimestamp"):
        metadata["deletionTimestamp"] = was["deletionTimestamp"]
    if metadata.get("deletionGracePeriodSeconds") is None and "deletionGracePeriodSeconds" in was:
        metadata["deletionGracePeriodSeconds"] = was["deletionGracePeriodSeconds"]


def _warnings(resource: Resource, new: KubeObject, live: KubeObject | None) -> list[str]:
    return [] if resource.custom is None else custom.warnings(new, live)


def _without_repeated_owners(obj: KubeObject, say: str) -> list[str]:
    """Drops owners that are named twice, which is warned of."""
    owners, found, repeated = obj["metadata"].get("ownerReferences") or [], list[KubeObject](), list[str]()
    for owner in owners:
        if owner in found:
            repeated.append(str(owner.get("uid", "")))
        else:
            found.append(owner)
    if not repeated:
        return []
    obj["metadata"]["ownerReferences"] = found
    return [f".metadata.ownerReferences contains duplicate entries{say}{', '.join(repeated)}"]


def _key_in_etcd(resource: Resource, key: Key) -> str:
    """Where the real server keeps an object: it names that to whoever means another."""
    place = f"{resource.group}/{resource.plural}" if resource.group in _UNDER_GROUP else resource.plural
    if resource.custom is not None:
        place = f"{resource.group}/{resource.plural}"
    place = _ODD_KEYS.get(resource.place, place)
    return "/".join(("/registry", place, *(part for part in (key.namespace, key.name) if part)))


def _held(resource: Resource, obj: KubeObject) -> bool:
    """Whether something keeps an object from going."""
    if resource.place == NAMESPACES and (obj.get("spec") or {}).get("finalizers"):
        return True
    return bool(obj["metadata"].get("finalizers"))


def _with_empty(obj: KubeObject, sent: Collection[str]) -> KubeObject:
    """An object with the lists that were sent empty, and of which null is kept: whoever sent them owns them."""
    return {**obj, **{name: [] for name in sent if name in obj and obj[name] is None}}


def _read_again(resource: Resource, obj: KubeObject) -> KubeObject:
    """With the default of a status that was taken away: the server sets defaults whenever it reads an object."""
    if resource.custom is not None and "status" not in obj:
        custom.set_default_values(obj, custom.schema_of(resource))
    return obj


def _empty(obj: KubeObject) -> tuple[str, ...]:
    return tuple(name for name, value in obj.items() if value == [])


def _set_owners(obj: KubeObject, owned: KubeObject) -> None:
    managed = owned["metadata"].get("managedFields")
    if managed:
        obj["metadata"]["managedFields"] = managed
    else:
        obj["metadata"].pop("managedFields", None)


def _reset(resource: Resource, subresource: str) -> FieldSet:
    """What a write of this part of an object changes nothing of, and so owns nothing of."""
    if "status" not in resource.subresources:
        return {}
    return {"f:spec": {}} if subresource == "status" else {"f:status": {}}


def _but_managed(obj: KubeObject) -> KubeObject:
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


def _owners(obj: KubeObject) -> list[KubeObject]:
    """Who owns what, whenever."""
    entries = obj["metadata"].get("managedFields") or []
    return [{name: value for name, value in entry.items() if name != "time"} for entry in entries]
