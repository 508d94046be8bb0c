"""Apply, update and who owns which fields afterwards, as the API server has it (KEP-555).

Pure functions. After `structured-merge-diff/merge` and the `managedfields` of `k8s.io/apimachinery` 1.35. What a server
does around them is not here: what the merged object's defaults are (nobody owns them), what versions convert to.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from tidelog.engine.cluster.embedded import fieldsets, managers, typed
from tidelog.engine.cluster.embedded.conflicts import FieldConflict, FieldConflictsError, conflicts_of
from tidelog.engine.cluster.embedded.managers import APPLY, UPDATE, Managed, Manager, Owned, manager_of
from tidelog.engine.cluster.embedded.merging import compare, merge, remove
from tidelog.engine.cluster.embedded.reconciling import reconciled
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.cluster.embedded.typed import SchemaMismatchError
from tidelog.engine.objects.kube import KubeObject, KubeValue, MalformedObjectError
from tidelog.engine.objects.managed_fields import FieldSet, entries_of, union

__all__ = ["LAST_APPLIED", "AppliedError", "FieldConflict", "FieldConflictsError", "apply", "require_fit", "update"]

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
_ANNOTATIONS_MAX = 256 * 1024
_BEFORE_APPLY = "before-first-apply"
_KUBECTL = "kubectl"
_CURRENT: Final = Manager("current-operation", "", "", "")
_NEVER_OWNED: Final = fieldsets.set_of(
    [
        ("f:apiVersion",),
        ("f:kind",),
        ("f:metadata",),
        *(
            ("f:metadata", f"f:{name}")
            for name in (
                "name",
                "namespace",
                "creationTimestamp",
                "selfLink",
                "uid",
                "clusterName",
                "generation",
                "managedFields",
                "resourceVersion",
            )
        ),
    ]
)


class AppliedError(ValueError):
    """Raised when an object does not fit its kind, the applied or the live one; the message is the server's."""


class _Conflicts(Exception):
    """What of others' fields an apply would change."""

    def __init__(self, by_manager: Managed) -> None:
        super().__init__()
        self.by_manager = by_manager


# ------------------------------------------------------------------------------------------------- apply


def apply(
    live: KubeObject | None,
    applied: KubeObject,
    schema: Schema,
    *,
    manager: str,
    force: bool,
    now: str,
    subresource: str = "",
    reset: FieldSet = fieldsets.EMPTY,
    versions: Collection[str] = (),
) -> KubeObject:
    """The live object with what is applied, before defaults, and with its managedFields.

    Where nothing changes it equals `live`. A manager that applies what is there already is added, without a time.

    Args:
        live: the object as it is stored; None where there is none yet.
        applied: what the manager wants.
        schema: how objects of the kind are built.
        manager: who applies.
        force: whether to take over fields that others own.
        now: the time, as in `managedFields`.
        subresource: where the request goes to, such as `status`.
        reset: fields that the request cannot change, and nobody owns by it.
        versions: the API versions of the kind; who owns fields in another owns them no more. Empty for any.

    Raises:
        FieldConflictsError: when others own what is applied with other values, and `force` is not set.
        AppliedError: when what is applied does not fit the schema, or holds managedFields.
    """
    version = applied["apiVersion"]
    current = live if live is not None else typed.empty_object(version, applied["kind"])
    request = _Request(schema, version, manager_of(manager, APPLY, version, subresource), reset, now, versions)
    try:
        managed = managers.decoded(entries_of(current))
    except MalformedObjectError as error:
        raise AppliedError(f"failed to decode managed fields: {error}") from error
    if not managed and live is not None:
        before = request.by(manager_of(_BEFORE_APPLY, UPDATE, version, subresource))
        what = "failed to create manager for existing fields: failed to convert new object ({}) to smd typed"
        _check(schema, _bare(live), what, with_duplicates=True)
        managed = before.updated(typed.empty_object(version, applied["kind"]), _bare(live), {})
    if _metadata(applied).get("managedFields") is not None:
        raise AppliedError("metadata.managedFields must be nil")
    require_fit(applied, schema)
    bare = _bare(current)
    _check(schema, bare, "failed to create typed live object ({})", with_duplicates=True)
    try:
        merged, managed = request.applied(bare, applied, managed, force=force)
    except _Conflicts as found:
        left = _less_last_applied(found.by_manager, bare, request) if manager == _KUBECTL else found.by_manager
        if left:
            raise FieldConflictsError(conflicts_of(left)) from None
        merged, managed = request.applied(bare, applied, managed, force=True)
    if manager == _KUBECTL:
        merged = _with_last_applied(merged, applied)
    return _with_managed(merged, managed, live)


def require_fit(applied: KubeObject, schema: Schema) -> None:
    """Whether what is applied fits its kind.

    Raises:
        AppliedError: when it does not.
    """
    _check(schema, applied, "failed to create typed patch object ({})", with_duplicates=False)


def _check(schema: Schema, obj: KubeObject, what: str, *, with_duplicates: bool) -> None:
    """Checks that an object fits its kind; `what` says what cannot be done where it does not."""
    try:
        typed.validate(schema, obj, with_duplicates=with_duplicates)
    except SchemaMismatchError as error:
        namespace, name = (_text(_metadata(obj).get(each)) for each in ("namespace", "name"))
        group, _, version = obj["apiVersion"].rpartition("/")
        named = f"{namespace}/{name}; {group}/{version}, Kind={obj['kind']}"
        raise AppliedError(f"{what.format(named)}: {error}") from error


def _metadata(obj: KubeObject) -> KubeObject:
    return typed.fields_of(obj.get("metadata"))


def _text(value: KubeValue) -> str:
    return value if isinstance(value, str) else ""


def update(
    live: KubeObject | None,
    new: KubeObject,
    schema: Schema,
    *,
    manager: str,
    now: str,
    subresource: str = "",
    reset: FieldSet = fieldsets.EMPTY,
    versions: Collection[str] = (),
) -> KubeObject:
    """`new` with its managedFields: for a create, a replace, and every patch that is no apply.

    Args:
        live: the object as it is stored; None for a create.
        new: the object as it will be stored, defaults and all.
        schema: how objects of the kind are built.
        manager: who makes the request.
        now: the time, as in `managedFields`.
        subresource: where the request goes to, such as `status`.
        reset: fields that the request cannot change, and nobody owns by it.
        versions: the API versions of the kind; who owns fields in another owns them no more. Empty for any.
    """
    managed = managers.of_request(live, new, subresource, is_builtin=schema.is_builtin)
    bare = _bare(new)
    if not managed and live is not None:
        return bare  # nobody has applied to it yet, and its fields were not followed from the start
    version = new["apiVersion"]
    before = _bare(live) if live is not None else typed.empty_object(version, new["kind"])
    request = _Request(schema, version, manager_of(manager, UPDATE, version, subresource), reset, now, versions)
    try:
        for obj in (before, bare):
            typed.validate(schema, obj, with_duplicates=True)
    except SchemaMismatchError:
        return bare  # as the server does: better nothing than what is wrong
    return _with_managed(bare, request.updated(before, bare, managed), live)


class _Request(NamedTuple):
    """One request, and how it changes who owns what."""

    schema: Schema
    version: str
    manager: Manager
    reset: FieldSet
    now: str
    versions: Collection[str]

    def by(self, manager: Manager) -> "_Request":
        return self._replace(manager=manager)

    def _known(self, managed: Managed) -> Managed:
        if not self.versions:
            return managed
        return {one: owned for one, owned in managed.items() if one == self.manager or owned.version in self.versions}

    def updated(self, before: KubeObject, new: KubeObject, managed: Managed) -> Managed:
        """Owners after a request that is no apply: it owns what it has changed or added."""
        managed = reconciled(self._known(managed), self.schema)
        compared = compare(self.schema, before, new).less(self.reset)
        left = _taken_from(managed, compared.removed, union(compared.modified, compared.added))
        fields = fieldsets.difference(union(compared.modified, compared.added), _NEVER_OWNED)
        if fields:
            previous = left.get(self.manager)
            both = union(fields, previous.fields) if previous is not None else fields
            left[self.manager] = Owned(both, self.version, self.now)
        return managers.capped(left)

    def applied(
        self, live: KubeObject, applied: KubeObject, managed: Managed, *, force: bool
    ) -> tuple[KubeObject, Managed]:
        """The merged object, and its owners after an apply.

        Raises:
            _Conflicts: with what others own, unless it is forced.
        """
        managed = reconciled(self._known(managed), self.schema)
        merged = merge(self.schema, live, applied)
        last = managed.get(self.manager)
        fields = fieldsets.without(typed.owned_by(self.schema, applied), self.reset)
        managed[self.manager] = Owned(fields, self.version, last.time if last is not None else None)
        if last is not None and last.fields:
            merged = _pruned(self.schema, merged, last.fields, managed)
        compared = compare(self.schema, live, merged).less(self.reset)
        changed = union(compared.modified, compared.added)
        others = {manager: owned for manager, owned in managed.items() if manager != self.manager}
        conflicts = {
            manager: owned._replace(fields=common)
            for manager, owned in others.items()
            if (common := fieldsets.intersection(owned.fields, changed))
        }
        if conflicts and not force:
            raise _Conflicts(conflicts)
        left = _taken_from(others, compared.removed, changed)
        fields = fieldsets.difference(fields, _NEVER_OWNED)
        is_same = typed.equal(live, merged)
        if fields:
            left[self.manager] = managed[self.manager]._replace(fields=fields)
            if not is_same:
                left[self.manager] = left[self.manager]._replace(time=self.now)
        return live if is_same else merged, left


def _taken_from(managed: Managed, removed: FieldSet, changed: FieldSet) -> Managed:
    """Owners without what is gone, and what somebody else has changed."""
    left = {}
    for manager, owned in managed.items():
        fields = fieldsets.difference(fieldsets.difference(owned.fields, changed), removed)
        if fields:
            left[manager] = owned._replace(fields=fields)
    return left


def _pruned(schema: Schema, merged: KubeValue, last: FieldSet, managed: Managed) -> KubeValue:
    """A merged object without what its manager applied last time and not now, and what nobody else owns."""
    named = fieldsets.with_named_fields
    last = named(last, schema)
    present = named(typed.owned_by(schema, merged), schema)
    kept = named(typed.owned_by(schema, remove(schema, merged, last)), schema)
    for owned in managed.values():
        kept = union(kept, named(owned.fields, schema))
    back = remove(schema, merged, fieldsets.difference(present, kept))
    # Only what the manager owned itself: what nobody owns stays, and what is below stays with it.
    gone = fieldsets.difference(present, named(typed.owned_by(schema, back), schema))
    return remove(schema, merged, fieldsets.intersection(gone, last))


# ------------------------------------------------------------------------------------ client-side apply


def _less_last_applied(conflicts: Managed, live: KubeObject, request: _Request) -> Managed:
    """What is left of conflicts where kubectl itself applied the fields, before servers could: it owns them."""
    ours = _owned_by_last_applied(live, request)
    if ours is None:
        return conflicts
    return {
        manager: owned._replace(fields=left)
        for manager, owned in conflicts.items()
        if (left := fieldsets.difference(owned.fields, ours))
    }


def _owned_by_last_applied(live: KubeObject, request: _Request) -> FieldSet | None:
    schema = request.schema
    try:
        last = msgspec.json.decode(_last_applied(live), type=dict[str, KubeValue])
        if last.get("apiVersion") != request.version:
            return None
        typed.validate(schema, last)
        compared = compare(schema, last, live)
        fields = typed.owned_by(schema, last)
    except ValueError:
        return None
    for other in compared:
        fields = fieldsets.difference(fields, other)
    return fields


def _last_applied(obj: KubeObject) -> str:
    return str(((obj.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED) or "")


def _with_last_applied(merged: KubeObject, applied: KubeObject) -> KubeObject:
    """With kubectl's annotation brought up to date where there is one."""
    if not _last_applied(merged):
        return merged
    metadata = {**(applied.get("metadata") or {})}
    said = metadata.pop("annotations", None)
    if said is not None:
        metadata["annotations"] = {name: value for name, value in said.items() if name != LAST_APPLIED}
    text = fieldsets.go_json({**applied, "metadata": metadata}) + "\n"
    annotations = {**merged["metadata"]["annotations"], LAST_APPLIED: text}
    if sum(len(part.encode()) for pair in annotations.items() for part in pair) > _ANNOTATIONS_MAX:
        del annotations[LAST_APPLIED]
    return {**merged, "metadata": {**merged["metadata"], "annotations": annotations}}


# ------------------------------------------------------------------------------------------------ results


def _bare(obj: KubeObject) -> KubeObject:
    """Without managedFields: they are of nobody."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {name: each for name, each in metadata.items() if name != "managedFields"}}


def _with_managed(obj: KubeObject, managed: Managed, live: KubeObject | None) -> KubeObject:
    """An object with its managedFields; `live` itself where only times have changed."""
    metadata = dict(obj.get("metadata") or {})
    if managed:
        metadata["managedFields"] = managers.encoded(managed)
    made = {**obj, "metadata": metadata}
    if live is None:
        return made
    timeless, was = (_without_times(each) for each in (made, live))
    return live if typed.equal(timeless, was) else made


def _without_times(obj: KubeObject) -> KubeObject:
    entries = [{name: each for name, each in entry.items() if name != "time"} for entry in entries_of(obj)]
    return {**obj, "metadata": {**(obj.get("metadata") or {}), "managedFields": entries}}
