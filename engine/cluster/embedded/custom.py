"""Objects of custom kinds: what the API server makes of one before it stores it (k8s.io/apiextensions-apiserver).

A resource's `custom` is its version as the definition has it; the rules stand in its openAPIV3Schema, a structural
schema (KEP-1027).
"""

import copy
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Final

from tidelog.engine.cluster.embedded import causes, openapi
from tidelog.engine.cluster.embedded.builtin.formats import qualified_name, service_name
from tidelog.engine.cluster.embedded.builtin.metadata_problems import is_without_domain
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.correlation import Correlated, identity, same
from tidelog.engine.cluster.embedded.openapi import show
from tidelog.engine.cluster.embedded.registry import Resource, schema_of_type
from tidelog.engine.cluster.embedded.schema import Raw, Schema
from tidelog.engine.objects.kube import KubeObject, KubeValue

META_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata"})
OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
REPLICAS_MAX: Final = 2**31 - 1
UNCHECKED: Final = Cause(
    causes.INVALID,
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)
"""Told in the place of what rules would say of an object that is too wrong for them."""
_BLOCKING: Final = frozenset(
    {causes.NOT_SUPPORTED, causes.REQUIRED, causes.TOO_LONG, causes.TOO_MANY, causes.TYPE_INVALID}
)
_POINTERS: Final = frozenset({"deletionGracePeriodSeconds"})
"""Fields of ObjectMeta that are kept when they are 0."""


def schema_of(resource: Resource) -> Raw:
    """The schema of a custom kind, as its definition has it: apiVersion, kind and metadata need not be in it."""
    return schema_in(resource.custom or {})


def schema_in(version: Raw) -> Raw:
    """The schema of a version of a custom kind."""
    return (version.get("schema") or {}).get("openAPIV3Schema") or {}


def has_status(resource: Resource) -> bool:
    """Whether the status is changed through a path of its own."""
    return "status" in resource.subresources


# Defaults.


def set_defaults(resource: Resource, obj: KubeObject) -> None:
    """Drops each null that may not be there, and puts the defaults where nothing is."""
    raw = schema_of(resource)
    drop_nulls(obj, raw)
    set_default_values(obj, raw)


def drop_nulls(value: KubeValue, raw: Raw | None) -> None:
    """Drops a null from a map unless it may be there, or a default takes its place."""
    if isinstance(value, dict):
        for key in list(value):
            below = _below(raw, key)
            if value[key] is None and _is_plain(below) and below.get("default") is None:
                del value[key]
            else:
                drop_nulls(value[key], below)
    elif isinstance(value, list):
        for item in value:
            drop_nulls(item, _items(raw))


def set_default_values(value: KubeValue, raw: Raw | None) -> None:
    """Puts the defaults where nothing is, or a null that may not be there."""
    if raw is None:
        return
    if isinstance(value, dict):
        named = raw.get("properties") or {}
        for key, below in named.items():
            if below.get("default") is not None and (key not in value or (value[key] is None and _is_plain(below))):
                value[key] = copy.deepcopy(below["default"])
        free = raw.get("additionalProperties")
        for key in value:
            below = _below(raw, key)
            if key not in named and isinstance(free, dict) and value[key] is None and _is_plain(below):
                value[key] = copy.deepcopy(free.get("default"))
            set_default_values(value[key], below)
    elif isinstance(value, list):
        items = _items(raw)
        for i, item in enumerate(value):
            if item is None and items is not None and _is_plain(items):
                value[i] = copy.deepcopy(items.get("default"))
            set_default_values(value[i], items)


def _is_plain(raw: Raw | None) -> bool:
    """Whether null may not stand there."""
    return raw is not None and not raw.get("nullable")


def _below(raw: Raw | None, key: str) -> Any:
    """The schema under a key of an object; None where there is none."""
    if raw is None:
        return None
    named = raw.get("properties") or {}
    if key in named:
        return named[key]
    free = raw.get("additionalProperties")
    return free if isinstance(free, dict) else None


def _items(raw: Raw | None) -> Any:
    items = None if raw is None else raw.get("items")
    return items if isinstance(items, dict) else None


# Unknown fields.


def prune(resource: Resource, obj: KubeObject) -> list[str]:
    """Drops the fields that the schema does not know, and tells their paths, sorted."""
    dropped: list[str] = []
    _prune(obj, {**schema_of(resource), "x-kubernetes-embedded-resource": True}, "", dropped)
    drop_nulls(obj, schema_of(resource))
    dropped.sort()
    return dropped


def prune_version(version: Raw, obj: KubeObject) -> None:
    """Drops the fields that a version of the kind does not know, as a conversion to it does."""
    _prune(obj, {**schema_in(version), "x-kubernetes-embedded-resource": True}, "", [])


def prune_value(value: KubeValue, raw: Raw) -> list[str]:
    """As `prune`, of a value of a schema."""
    dropped: list[str] = []
    _prune(value, raw, "", dropped)
    return dropped


def _prune(value: KubeValue, raw: Raw | None, path: str, dropped: list[str]) -> None:
    keeps = raw is not None and bool(raw.get("x-kubernetes-preserve-unknown-fields"))
    if isinstance(value, list):
        items = _items(raw)
        if keeps and (items is None or not items.get("x-kubernetes-preserve-unknown-fields")):
            items = None if items is None else {**items, "x-kubernetes-preserve-unknown-fields": True}
        if not (keeps and items is None):
            for i, item in enumerate(value):
                _prune(item, items, f"{path}[{i}]", dropped)
    elif isinstance(value, dict):
        is_embedded = raw is not None and bool(raw.get("x-kubernetes-embedded-resource"))
        for key in list(value):
            at = f"{path}.{key}" if path else key
            if is_embedded and key in META_FIELDS:
                if key == "metadata":
                    _prune_metadata(value, at, dropped)
                continue
            named = {} if raw is None else raw.get("properties") or {}
            free = None if raw is None else raw.get("additionalProperties")
            if key in named:
                _prune(value[key], named[key], at, dropped)
            elif free is not None:
                _prune(value[key], free if isinstance(free, dict) else None, at, dropped)
            elif not keeps:
                if path or key not in META_FIELDS:
                    dropped.append(at)
                del value[key]


def _prune_metadata(holder: dict[str, Any], path: str, dropped: list[str]) -> None:
    """Metadata goes through the server's own type, which knows what it knows and writes nothing that is empty."""
    metadata = holder["metadata"]
    if not isinstance(metadata, dict):
        return
    _prune_typed(metadata, schema_of_type(OBJECT_META), path, dropped)
    holder["metadata"] = {
        key: value for key, value in metadata.items() if value or (key in _POINTERS and value is not None)
    }


def _prune_typed(value: KubeValue, schema: Schema, path: str, dropped: list[str]) -> None:
    if isinstance(value, list):
        for i, item in enumerate(value):
            _prune_typed(item, schema.items, f"{path}[{i}]", dropped)
    elif isinstance(value, dict):
        for key in list(value):
            below = schema.at(key)
            if below is None:
                dropped.append(f"{path}.{key}")
                del value[key]
            else:
                _prune_typed(value[key], below, f"{path}.{key}", dropped)


# What is warned of.


def warnings(obj: KubeObject, old: KubeObject | None) -> list[str]:
    """Of finalizers that were not there before, and that others might call theirs."""
    before = ((old or {}).get("metadata") or {}).get("finalizers") or ()
    found: list[str] = []
    for finalizer in sorted({*((obj.get("metadata") or {}).get("finalizers") or ())} - {*before}):
        told = qualified_name(finalizer)
        if is_without_domain(finalizer):
            path = " including a path (/)" if "." in finalizer else ""
            told.append(f"prefer a domain-qualified finalizer name{path} to avoid accidental conflicts {_WITH}")
        found += [f"metadata.finalizers: {causes.shown(finalizer)}: {one}" for one in told]
    return found


_WITH: Final = "with other finalizer writers"

# What is wrong.


def problems(resource: Resource, obj: KubeObject, old: KubeObject | None, *, subresource: str = "") -> list[Cause]:
    """What is wrong with an object but for its metadata, and but for its rules (`broken_rules`).

    What did not change since `old` is let pass, however wrong. `subresource` is `status` where only that is written.
    """
    raw = schema_of(resource)
    found: list[Cause] = []
    if subresource == "status":
        found += _status_problems(raw, obj, old)
        found += _scale_problems(resource, obj, parts=("status",))
    else:
        correlated = None if old is None else Correlated(obj, old, raw)
        found += openapi.problems(raw, obj, correlated=correlated)
        found += _scale_problems(resource, obj, parts=("spec", "status"))
        found += _embedded_problems(obj, raw, "")
    if old is None or not list_problems(old, raw):
        found += list_problems(obj, raw)
    if is_too_wrong(found) and has_rules(raw):
        found.append(UNCHECKED)
    return found


def is_too_wrong(found: Sequence[Cause]) -> bool:
    """Whether an object is so wrong that its rules are not asked."""
    return any(cause.reason in _BLOCKING for cause in found)


def has_rules(raw: Raw | None) -> bool:
    """Whether a schema has rules in CEL anywhere, but for those under `allOf` and its like."""
    if not raw:
        return False
    parts: list[Any] = [raw.get("items"), raw.get("additionalProperties"), *(raw.get("properties") or {}).values()]
    return bool(raw.get("x-kubernetes-validations")) or any(has_rules(part) for part in parts if isinstance(part, dict))


def _status_problems(raw: Raw, obj: KubeObject, old: KubeObject | None) -> list[Cause]:
    if "status" not in obj:
        return []
    below = (raw.get("properties") or {}).get("status") or {}
    before = None if old is None else old.get("status")
    correlated = None if before is None else Correlated(obj["status"], before, below)
    return openapi.problems(below, obj["status"], "status", correlated)


def list_problems(value: KubeValue, raw: Raw | None, path: str = "") -> list[Cause]:
    """Items that stand twice in a set, or in a list whose items are told apart by keys."""
    found: list[Cause] = []
    if raw is None:
        return found
    if isinstance(value, list):
        kind, items = raw.get("x-kubernetes-list-type"), _items(raw)
        if kind == "set":
            found += [causes_duplicate(f"{path}[{i}]", value[i]) for i in _repeated(value)]
        elif kind == "map":
            found += _map_problems(value, raw, path)
        if items is not None:
            for i, item in enumerate(value):
                found += list_problems(item, items, f"{path}[{i}]")
    elif isinstance(value, dict):
        named = raw.get("properties") or {}
        free = raw.get("additionalProperties")
        for key, each in value.items():
            if isinstance(free, dict):
                found += list_problems(each, free, f"{path}[{key}]")
            if key in named:
                found += list_problems(each, named[key], f"{path}.{key}" if path else key)
    return found


def causes_duplicate(field: str, value: KubeValue) -> Cause:
    """A value that must stand there once."""
    return Cause(causes.DUPLICATE, field, f"Duplicate value: {show(value)}")


def _map_problems(value: list[Any], raw: Raw, path: str) -> list[Cause]:
    for i, item in enumerate(value):
        if item is not None and not isinstance(item, dict):
            said = f"Invalid value: {show(item)}: must be an object for an array of list-type map"
            return [Cause(causes.INVALID, f"{path}[{i}]", said)]
    names = raw.get("x-kubernetes-list-map-keys") or ()
    keys = [{name: item[name] for name in names if name in item} if item else {} for item in value]
    return [causes_duplicate(f"{path}[{i}]", keys[i]) for i in _repeated(keys)]


def _repeated(values: list[Any]) -> Iterator[int]:
    """The places where a value stands for the second time: a third is not told."""
    seen: Counter[Hashable] = Counter()
    for i, value in enumerate(values):
        known = identity(value)
        if seen[known] == 1:
            yield i
        seen[known] += 1


def _embedded_problems(value: KubeValue, raw: Raw | None, path: str) -> list[Cause]:
    """An object within an object says which kind it is."""
    found: list[Cause] = []
    if raw is None:
        return found
    if isinstance(value, list):
        for i, item in enumerate(value):
            found += _embedded_problems(item, _items(raw), f"{path}[{i}]")
    elif isinstance(value, dict):
        if raw.get("x-kubernetes-embedded-resource"):
            for name in ("apiVersion", "kind"):
                found += _type_problems(value, name, f"{path}.{name}")
        named = raw.get("properties") or {}
        for key, each in value.items():
            below = f"{path}.{key}" if path else key
            found += _embedded_problems(each, _below(raw, key), below if key in named else f"{path}[{key}]")
    return found


def _type_problems(value: dict[str, Any], name: str, path: str) -> list[Cause]:
    said = value.get(name)
    if name not in value:
        return [causes.required(path)]
    if not isinstance(said, str):
        return [causes.invalid(path, said, "must be a string")]
    if not said:
        return [causes.invalid(path, said, "must not be empty")]
    if name == "kind" and (wrong := service_name(said.lower())):
        return [causes.invalid(path, said, f"may have mixed case, but should otherwise match: {','.join(wrong)}")]
    if name == "apiVersion" and said.count("/") > 1:
        return [causes.invalid(path, said, f"unexpected GroupVersion string: {said}")]
    return []


# Scale, as far as the object that is scaled is concerned.


def _scale_problems(resource: Resource, obj: KubeObject, *, parts: Sequence[str]) -> list[Cause]:
    scale = ((resource.custom or {}).get("subresources") or {}).get("scale")
    found: list[Cause] = []
    if scale is None:
        return found
    for part in parts:
        path = str(scale.get(f"{part}ReplicasPath") or "")
        found += _replicas_problems(obj, path)
    selector = scale.get("labelSelectorPath")
    if "status" in parts and selector:
        value, wrong = nested(obj, selector, str)
        if wrong:
            found.append(causes.invalid(selector, value, wrong))
    return found


def _replicas_problems(obj: KubeObject, path: str) -> list[Cause]:
    value, wrong = nested(obj, path, int)
    replicas = value if isinstance(value, int) else 0
    if wrong:
        return [causes.invalid(path, 0, wrong)]
    if replicas < 0:
        return [causes.invalid(path, replicas, "should be a non-negative integer")]
    if replicas > REPLICAS_MAX:
        return [causes.invalid(path, replicas, f"should be less than or equal to {REPLICAS_MAX}")]
    return []


_GO_TYPES: Final[Mapping[type, str]] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    type(None): "<nil>",
    dict: "map[string]interface {}",
    list: "[]interface {}",
}


def nested(obj: KubeObject, path: str, kind: type[int] | type[str]) -> tuple[KubeValue, str]:
    """The value under a simple JSON path (`.spec.replicas`), and what is wrong with it, in Go's words."""
    value: KubeValue = obj
    names = path.removeprefix(".").split(".")
    walked: list[str] = []
    for name in names:
        if value is None:
            return None, ""
        if not isinstance(value, dict):
            said = f".{'.'.join(walked)} accessor error: {_go(value)} is of the type {_go_type(value)}"
            return ("" if kind is str else 0), f"{said}, expected map[string]interface{{}}"
        if name not in value:
            return None, ""
        value = value[name]
        walked.append(name)
    if isinstance(value, bool) or not isinstance(value, kind):
        said = f".{'.'.join(names)} accessor error: {_go(value)} is of the type {_go_type(value)}"
        return ("" if kind is str else 0), f"{said}, expected {_GO_TYPES[kind]}"
    return value, ""


def _go_type(value: KubeValue) -> str:
    return _GO_TYPES[type(value)]


def _go(value: KubeValue) -> str:
    """A value as Go's `%v` writes it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return openapi.go_number(value)
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go(each)}' for key, each in sorted(value.items()))}]"
    return f"[{' '.join(map(_go, value))}]" if isinstance(value, list) else str(value)


# Before it is stored.


def prepare_create(resource: Resource, obj: KubeObject) -> None:
    """A new object has no status where that has a path of its own, and its first generation."""
    if has_status(resource):
        obj.pop("status", None)
    obj["metadata"]["generation"] = 1


def prepare_update(resource: Resource, new: KubeObject, old: KubeObject) -> None:
    """A change keeps the status where that has a path of its own; a change of anything but metadata counts."""
    if has_status(resource):
        if "status" in old:
            new["status"] = copy.deepcopy(old["status"])
        else:
            new.pop("status", None)
    generation = (old.get("metadata") or {}).get("generation")
    if not _is_same_but_metadata(new, old):
        new["metadata"]["generation"] = (generation or 0) + 1
    elif generation is not None:
        new["metadata"]["generation"] = generation


def prepare_status_update(resource: Resource, new: KubeObject, old: KubeObject) -> None:
    """A change of the status keeps all else, but for who owns which fields."""
    del resource
    status, has_one = new.get("status"), "status" in new
    metadata = copy.deepcopy(old["metadata"])
    metadata.pop("managedFields", None)
    if "managedFields" in new["metadata"]:
        metadata["managedFields"] = new["metadata"]["managedFields"]
    new.clear()
    new.update(copy.deepcopy({key: value for key, value in old.items() if key != "metadata"}), metadata=metadata)
    new.pop("status", None)
    if has_one:
        new["status"] = status


def _is_same_but_metadata(new: KubeObject, old: KubeObject) -> bool:
    """As the server compares: an empty list or map is none at all."""
    return _semantically_same(
        {key: value for key, value in new.items() if key != "metadata"},
        {key: value for key, value in old.items() if key != "metadata"},
    )


def _semantically_same(one: KubeValue, other: KubeValue) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_semantically_same(each, other[key]) for key, each in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_semantically_same, one, other))
    return same(one, other)
