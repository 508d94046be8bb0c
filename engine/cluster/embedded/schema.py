"""How the objects of a kind are built: their fields, and how lists and maps merge.

One form for the built-in kinds, whose types refer to each other, and for custom kinds, whose schema stands in their
definition: an OpenAPI v3 schema with Kubernetes' extensions (KEP-555, merge strategies; KEP-1027, structural schemas).
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final, Literal, TypeAlias

from tidelog.engine.objects.kube import KubeValue
from tidelog.engine.objects.managed_fields import ABSENT, Absent

Raw: TypeAlias = Mapping[str, Any]
"""An OpenAPI v3 schema, decoded."""
ListType: TypeAlias = Literal["atomic", "set", "map"]
REFERENCE: Final = "#/components/schemas/"
_ANY_OBJECT: Final = "io.k8s.apimachinery.pkg.runtime.RawExtension"
# The server takes such an object as one value, whatever its type says.
_ATOMIC: Final[Raw] = {"x-kubernetes-map-type": "atomic", "x-kubernetes-preserve-unknown-fields": True}


class Schema:
    """What may stand in one place of an object. Never changed; the parts are made when they are first asked for."""

    def __init__(self, raw: Raw, types: Mapping[str, Raw], *, is_below_kept: bool = False) -> None:
        """`raw` may refer to `types`, by name; `is_below_kept` where unknown fields are kept above it."""
        self._types = types
        self._keeps_below = not _is_reference(raw) and (is_below_kept or _keeps_unknown(raw))
        self.is_struct = _is_reference(raw) and raw.get("default") == {}
        """Of a built-in kind: a Go struct that no pointer leads to, and that is thus always there."""
        self.go_type = next(_references(raw), "").rpartition(".")[2]
        """Of a built-in kind: the name of the Go struct, where one stands; empty otherwise."""
        self.raw: Raw = _resolved(raw, types)
        """Without a reference at its top."""

    @cached_property
    def type(self) -> str:
        """`object`, `array`, `string`, `integer`, `number`, `boolean`; empty where anything may stand."""
        return str(self.raw.get("type") or "")

    @cached_property
    def fields(self) -> dict[str, "Schema"]:
        """The fields that are named, of an object."""
        named: Raw = self.raw.get("properties") or {}
        return {name: self._child(raw) for name, raw in named.items()}

    @cached_property
    def values(self) -> "Schema | None":
        """What the values of a map are, whose keys are free; None for an object of named fields only."""
        raw = self.raw.get("additionalProperties")
        if raw is True:
            return ANYTHING
        return self._child(raw) if isinstance(raw, Mapping) else None

    @cached_property
    def items(self) -> "Schema":
        """What the items of a list are."""
        raw = self.raw.get("items")
        return self._child(raw) if isinstance(raw, Mapping) else ANYTHING

    def at(self, name: str) -> "Schema | None":
        """What stands under a key of an object; None where the schema does not say, and nothing is expected."""
        found = self.fields.get(name)
        return found if found is not None else self.values if self.values is not None else self._free

    def merged_at(self, name: str) -> "Schema | None":
        """As `at`, for apply and for who owns what: there, what is kept unknown is so all the way down."""
        found = self.at(name)
        return ANYTHING if found is None and self._keeps_below else found

    @cached_property
    def list_type(self) -> ListType:
        """How a list merges: as one value, as a set of scalars, or item by item, by their keys."""
        said = self.raw.get("x-kubernetes-list-type")
        return said if said in ("set", "map") else "atomic"

    @cached_property
    def list_keys(self) -> tuple[str, ...]:
        """The fields that tell the items of a list of type `map` apart, sorted."""
        return tuple(sorted(self.raw.get("x-kubernetes-list-map-keys") or ()))

    @cached_property
    def is_atomic(self) -> bool:
        """Whether a map or a list merges as one value. What nothing is known of merges field by field."""
        if self.type == "array":
            return self.list_type == "atomic"
        return self.raw.get("x-kubernetes-map-type") == "atomic"

    @cached_property
    def patch_key(self) -> str:
        """The field by which a strategic merge patch tells items of a list apart; empty for none."""
        return str(self.raw.get("x-kubernetes-patch-merge-key") or "")

    @cached_property
    def patch_strategies(self) -> frozenset[str]:
        """Of a strategic merge patch: `merge`, `replace`, `retainKeys`."""
        return frozenset(str(self.raw.get("x-kubernetes-patch-strategy") or "").split(",")) - {""}

    @property
    def default(self) -> KubeValue | Absent:
        """What stands there when nothing does; `ABSENT` for no default."""
        return self.raw.get("default", ABSENT)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the fields that must be there."""
        return tuple(self.raw.get("required") or ())

    @property
    def keeps_unknown(self) -> bool:
        """Whether fields that are not named are kept, here and below."""
        return _keeps_unknown(self.raw)

    @cached_property
    def is_builtin(self) -> bool:
        """Whether it is of a built-in kind, of an object as a whole: a Go struct, with metadata as another."""
        metadata = self.fields.get("metadata")
        return metadata is not None and metadata.is_struct

    @property
    def is_embedded(self) -> bool:
        """Whether a whole object stands there, with apiVersion, kind and metadata of its own."""
        return bool(self.raw.get("x-kubernetes-embedded-resource"))

    @property
    def is_int_or_string(self) -> bool:
        """Whether it is a number or a text, as ports are."""
        return bool(self.raw.get("x-kubernetes-int-or-string")) or self.raw.get("format") == "int-or-string"

    @cached_property
    def _free(self) -> "Schema | None":
        """For fields that are not named: anything where they are kept, and where there is no schema at all."""
        if self.raw.get("additionalProperties") is False:
            return None
        is_open = self.keeps_unknown or not (self.type or self.fields) or (self.type == "object" and not self.fields)
        return ANYTHING if is_open else None

    def _child(self, raw: Raw) -> "Schema":
        return Schema(raw, self._types, is_below_kept=self._keeps_below)


def _resolved(raw: Raw, types: Mapping[str, Raw]) -> Raw:
    """A schema with what it refers to at its top, directly or as its only `allOf`; its own words go first."""
    for reference in _references(raw):
        own = {key: value for key, value in raw.items() if key not in ("$ref", "allOf")}
        return {**(_ATOMIC if reference == _ANY_OBJECT else _resolved(types.get(reference, {}), types)), **own}
    return raw


def _is_reference(raw: Raw) -> bool:
    return next(_references(raw), None) is not None


def _keeps_unknown(raw: Raw) -> bool:
    return bool(raw.get("x-kubernetes-preserve-unknown-fields"))


def _references(raw: Raw) -> Iterator[str]:
    for part in (raw, *(raw.get("allOf") or ())):
        reference = part.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(REFERENCE)


ANYTHING: Final = Schema({"x-kubernetes-preserve-unknown-fields": True}, {})
"""A place of which nothing is known: maps there merge field by field, lists as one value."""
