"""`metadata.managedFields` as the server keeps it: who owns what, since when (`managedfields/internal`)."""

from typing import Any, Final, NamedTuple, TypeAlias

from tidelog.engine.cluster.embedded import fieldsets
from tidelog.engine.objects.kube import KubeObject, MalformedObjectError
from tidelog.engine.objects.managed_fields import FieldSet, entries_of, union

APPLY: Final = "Apply"
UPDATE: Final = "Update"
UPDATERS_MAX: Final = 10
"""How many entries of updates an object has at most; the oldest are put together beyond that."""
_ancient: Final = "ancient-changes"


class Manager(NamedTuple):
    """Who an entry is of. One who applies has one entry whatever version it applies in."""

    name: str
    operation: str
    version: str
    """Of updates; empty of applies."""
    subresource: str

    @property
    def text(self) -> str:
        """As the server puts managers in order, and names them in its errors."""
        said = {"manager": self.name, "operation": self.operation, "apiVersion": self.version}
        said["subresource"] = self.subresource
        # The fields in Go's order, and only those that are there.
        written = (f'"{field}":{fieldsets.go_json(value)}' for field, value in said.items() if value)
        return "{" + ",".join(written) + "}"


class Owned(NamedTuple):
    """What a manager owns."""

    fields: FieldSet
    version: str
    time: str | None


Managed: TypeAlias = dict[Manager, Owned]


def manager_of(name: str, operation: str, version: str, subresource: str) -> Manager:
    """The manager of a request."""
    return Manager(name or "unknown", operation, "" if operation == APPLY else version, subresource)


def decoded(entries: list[Any]) -> Managed:
    """Entries as they stand in an object.

    Raises:
        MalformedObjectError: when an entry is none; the message is the server's.
    """
    managed: Managed = {}
    for place, entry in enumerate(entries):
        operation, version = entry.get("operation"), entry.get("apiVersion")
        if operation not in (APPLY, UPDATE):
            raise MalformedObjectError("operation must be `Apply` or `Update`")
        if not version:
            raise MalformedObjectError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            kind = entry.get("fieldsType")
            said = f"invalid fieldsType {fieldsets.go_json(kind)}" if kind else "missing fieldsType"
            raise MalformedObjectError(f"{said} in managed fields entry {place}")
        manager = Manager(
            entry.get("manager") or "", operation, "" if operation == APPLY else version, entry.get("subresource") or ""
        )
        managed[manager] = Owned(fieldsets.decoded(entry.get("fieldsV1")), version, entry.get("time"))
    return managed


def encoded(managed: Managed) -> list[KubeObject]:
    """Entries as the server writes them, in its order: applies first, then by time and name."""
    return [
        _entry(manager, managed[manager])
        for manager in sorted(
            managed,
            key=lambda manager: (
                manager.operation,
                managed[manager].time or "",
                manager.name,
                managed[manager].version,
                manager.subresource,
            ),
        )
    ]


def _entry(manager: Manager, owned: Owned) -> KubeObject:
    entry: KubeObject = {"manager": manager.name, "operation": manager.operation, "apiVersion": owned.version}
    if owned.time:
        entry["time"] = owned.time
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": fieldsets.ordered(owned.fields)}
    if manager.subresource:
        entry["subresource"] = manager.subresource
    return entry


def of_live(live: KubeObject | None) -> Managed:
    """What is managed of a live object; nothing where its entries make no sense."""
    try:
        return decoded(entries_of(live or {}))
    except (MalformedObjectError, AttributeError):
        return {}


def of_request(live: KubeObject | None, new: KubeObject, subresource: str, *, is_builtin: bool) -> Managed:
    """What is managed as a request has it: a client may set it, or reset it by an empty entry.

    An empty list resets it too, of built-in kinds: in a custom object it is not told from none.
    """
    sent = (new.get("metadata") or {}).get("managedFields")
    if subresource or sent is None:
        return of_live(live)
    if sent == [{}] or (sent == [] and is_builtin):
        return {}
    try:
        return decoded(sent) or of_live(live)
    except (MalformedObjectError, AttributeError):
        return of_live(live)


def capped(managed: Managed) -> Managed:
    """With the oldest updates put together, version by version, until there are no more than are kept."""
    updaters = sorted(
        (manager for manager in managed if manager.operation == UPDATE),
        key=lambda manager: (managed[manager].time or "", manager.text),
    )
    count, left, first_of = len(updaters), dict(managed), dict[str, Manager]()
    for manager in updaters:
        if count <= UPDATERS_MAX:
            break
        owned = left[manager]
        first = first_of.get(owned.version)
        if first is None:
            first_of[owned.version] = manager
            continue
        bucket = Manager(_ancient, UPDATE, owned.version, "")
        if bucket not in left:
            left[bucket] = left.pop(first)
        if manager != bucket:
            del left[manager]
            left[bucket] = owned._replace(fields=union(owned.fields, left[bucket].fields))
        count -= 1
    return left
