"""Whether the API server takes the schema of a custom kind: structural (KEP-1027), and without contradictions.

The paths of what is wrong are those of the server's internal form of a definition.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from tidelog.engine.cluster.embedded import causes, openapi
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.custom import META_FIELDS, prune_value
from tidelog.engine.cluster.embedded.openapi import show
from tidelog.engine.cluster.embedded.patterns import mistake_in
from tidelog.engine.cluster.embedded.rule_paths import is_field_path
from tidelog.engine.cluster.embedded.schema import Raw
from tidelog.engine.objects.kube import KubeValue

TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
REASONS: Final = (causes.DUPLICATE, causes.FORBIDDEN, causes.INVALID, causes.REQUIRED)
KEEP: Final = "x-kubernetes-preserve-unknown-fields"
EMBEDDED: Final = "x-kubernetes-embedded-resource"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"
LIST_TYPE: Final = "x-kubernetes-list-type"
MAP_TYPE: Final = "x-kubernetes-map-type"
LIST_KEYS: Final = "x-kubernetes-list-map-keys"
RULES: Final = "x-kubernetes-validations"
_NEWLINES: Final = ("\n", "\r")
_INT_OR_STRING_PATTERN: Final = [{"type": "integer"}, {"type": "string"}]
_UNSUPPORTED: Final = {
    "id": "id",
    "additionalItems": "additionalItems",
    "patternProperties": "patternProperties",
    "definitions": "definitions",
    "dependencies": "dependencies",
    "$ref": "$ref",
}
_ROOT: Final = frozenset(
    {
        *("description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum"),
        *("maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required"),
        *("items", "properties", "externalDocs", "example", KEEP, RULES),
    }
)
"""What may stand at the root where the status has a path of its own."""
_ROOT_IN_GO: Final = (
    "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern "
    "MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields "
    "XValidations]"
)
_NESTED: Final[Mapping[str, str]] = {
    "type": "must be empty to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    KEEP: "must be false to be structural",
    EMBEDDED: "must be false to be structural",
    INT_OR_STRING: "must be false to be structural",
    LIST_KEYS: "must be empty to be structural",
    LIST_TYPE: "must be undefined to be structural",
    MAP_TYPE: "must be undefined to be structural",
    RULES: "must be empty to be structural",
}
"""What may not stand below `allOf`, `anyOf`, `oneOf` and `not`."""


class _Where(NamedTuple):
    """What holds of the place where a schema stands."""

    in_meta: bool = False
    no_defaults: str = ""
    """Why there may be none; empty where there may be."""


def problems(raw: Raw, path: str, *, has_status: bool) -> list[Cause]:
    """What is wrong with the schema of a version, but for its rules."""
    found: list[Cause] = []
    if has_status:
        found += _root_problems(raw, path)
    if raw.get("nullable"):
        found.append(causes.forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    is_convertible = not any(_not_convertible(part) for part in parts(raw))
    if is_convertible:
        structure = [*_invariants(raw, "root", path), *_completeness(raw, raw, path, path)]
        found += structure or _defaults(raw, path, is_root=True)
    found += _open_api(raw, path, _Where(), is_root=True)
    return found


def parts(raw: Raw) -> Iterator[Raw]:
    """A schema and all that are within it."""
    yield raw
    for _, part in _children(raw):
        yield from parts(part)


def _children(raw: Raw) -> Iterator[tuple[str, Raw]]:
    """The schemas directly within one, and their paths below it."""
    for name in ("items", "additionalProperties", "not"):
        if isinstance(raw.get(name), dict):
            yield f".{name}", raw[name]
    for name in ("properties", "definitions", "patternProperties"):
        for key, part in (raw.get(name) or {}).items():
            yield f".{name}[{key}]", part
    for name in ("allOf", "anyOf", "oneOf"):
        for i, part in enumerate(raw.get(name) or ()):
            yield f".{name}[{i}]", part


def _not_convertible(raw: Raw) -> bool:
    return any(raw.get(name) for name in _UNSUPPORTED) or bool(raw.get("$schema")) or raw.get(KEEP) is False


def _root_problems(raw: Raw, path: str) -> list[Cause]:
    for name, value in raw.items():
        if name == "type" and value != "object":
            said = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
            return [causes.invalid(f"{path}.type", value, said)]
        if value and name not in _ROOT:
            said = (
                f"only {_ROOT_IN_GO} fields are allowed at the root of the schema if the status subresource is enabled"
            )
            return [causes.invalid(path, dict(raw), said)]
    return []


# Structural: what each place is stands outside of what is asked of its value.


def _invariants(raw: Raw, level: str, path: str) -> list[Cause]:
    found: list[Cause] = []
    kind, items, free = raw.get("type") or "", raw.get("items"), raw.get("additionalProperties")
    if kind == "array" and items is None:
        found.append(causes.required(f"{path}.items", "must be specified"))
    if isinstance(items, dict):
        found += _invariants(items, "item", f"{path}.items")
    named: Raw = raw.get("properties") or {}
    for key, part in named.items():
        found += _invariants(part, "field", f"{path}.properties[{key}]")
    if free is not None:
        if level == "root":
            found.append(causes.forbidden(f"{path}.additionalProperties", "must not be used at the root"))
        if isinstance(free, dict):
            found += _invariants(free, "field", f"{path}.additionalProperties")
    if raw.get(INT_OR_STRING):
        for name in (KEEP, EMBEDDED):
            if raw.get(name):
                found.append(causes.invalid(f"{path}.{name}", True, f"must be false if {INT_OR_STRING} is true"))  # noqa: FBT003
    found += _value_rules(raw, path, *_int_or_string_patterns(raw))
    found += _type_rules(raw, level, path)
    checks_meta = level == "root" or bool(raw.get(EMBEDDED))
    if raw.get(EMBEDDED) and free is not None:
        said = "must not be used if x-kubernetes-embedded-resource is set"
        found.append(causes.forbidden(f"{path}.additionalProperties", said))
    if level == "root" and kind and kind != "object":
        found.append(causes.invalid(f"{path}.type", kind, "must be object at the root"))
    for name in ("kind", "apiVersion"):
        if checks_meta and name in named and named[name].get("type") != "string":
            at = f"{path}.properties[{name}].type"
            found.append(causes.invalid(at, named[name].get("type") or "", "must be string"))
    if "metadata" in named:
        found += _metadata_rules(named["metadata"], level, f"{path}.properties[metadata]", checks=checks_meta)
    if raw.get(EMBEDDED) and not raw.get(KEEP) and not named:
        said = f"must not be empty if {EMBEDDED} is true without {KEEP}"
        found.append(causes.required(f"{path}.properties", said))
    return found


def _type_rules(raw: Raw, level: str, path: str) -> list[Cause]:
    kind = raw.get("type") or ""
    if raw.get(EMBEDDED) and kind != "object":
        said = f"must be object if {EMBEDDED} is true"
        at = f"{path}.type"
        return [causes.invalid(at, kind, said) if kind else causes.required(at, said)]
    if not kind and not raw.get(INT_OR_STRING) and not raw.get(KEEP):
        where = {"root": "at the root", "item": "for specified array items", "field": "for specified object fields"}
        return [causes.required(f"{path}.type", f"must not be empty {where[level]}")]
    return []


def _metadata_rules(raw: Raw, level: str, path: str, *, checks: bool) -> list[Cause]:
    found: list[Cause] = []
    if checks and raw.get("type") != "object":
        found.append(causes.invalid(f"{path}.type", raw.get("type") or "", "must be object"))
    if level == "root":
        rest = {key: value for key, value in raw.items() if value and key not in ("type", "default")}
        if set(rest.get("properties") or ()) <= {"name", "generateName"}:
            rest.pop("properties", None)
        if rest:
            said = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            found.append(causes.forbidden(path, said))
    return found


def _int_or_string_patterns(raw: Raw) -> tuple[bool, bool]:
    """Where the two types of what is a number or a text may stand: in `anyOf`, or in the first of `allOf`."""
    every = raw.get("allOf") or [{}]
    return raw.get("anyOf") == _INT_OR_STRING_PATTERN, every[0].get("anyOf") == _INT_OR_STRING_PATTERN


def _value_rules(raw: Raw, path: str, skip_any: bool = False, skip_first: bool = False) -> list[Cause]:  # noqa: FBT001, FBT002
    found: list[Cause] = []
    for name in ("anyOf", "allOf", "oneOf"):
        for i, part in enumerate(raw.get(name) or ()):
            if name == "anyOf" and skip_any:
                continue
            found += _nested_rules(part, f"{path}.{name}[{i}]", skip_any=name == "allOf" and skip_first and i == 0)
    if isinstance(raw.get("not"), dict):
        found += _nested_rules(raw["not"], f"{path}.not")
    pattern = raw.get("pattern")
    if pattern and (mistake := mistake_in(pattern)):
        said = f"must be a valid regular expression, but isn't: {mistake}"
        found.append(causes.invalid(f"{path}.pattern", pattern, said))
    return found


def _nested_rules(raw: Raw, path: str, *, skip_any: bool = False) -> list[Cause]:
    found = _value_rules(raw, path, skip_any)
    if isinstance(raw.get("items"), dict):
        found += _nested_rules(raw["items"], f"{path}.items")
    for key, part in (raw.get("properties") or {}).items():
        found += _nested_rules(part, f"{path}.properties[{key}]")
    if raw.get("additionalProperties") not in (None, False):
        found.append(causes.forbidden(f"{path}.additionalProperties", "must be undefined to be structural"))
    for name, said in _NESTED.items():
        if raw.get(name) or (name == "default" and raw.get(name) is not None):
            found.append(causes.forbidden(f"{path}.{name}", said))
    if "metadata" in (raw.get("properties") or {}):
        said = "must not be specified in a nested context"
        found.append(causes.forbidden(f"{path}.properties[metadata]", said))
    return found


def _completeness(asked: Raw, raw: Raw | None, path: str, asked_path: str) -> list[Cause]:
    """What is asked of a field below `allOf` and its like needs the field outside of them."""
    found: list[Cause] = []
    for name in ("allOf", "anyOf", "oneOf"):
        for i, part in enumerate(asked.get(name) or ()):
            found += _nested_completeness(part, raw, path, f"{asked_path}.{name}[{i}]")
    if isinstance(asked.get("not"), dict):
        found += _nested_completeness(asked["not"], raw, path, f"{asked_path}.not")
    return found


def _nested_completeness(asked: Raw, raw: Raw | None, path: str, asked_path: str) -> list[Cause]:
    if raw is None:
        return [causes.required(path, f"because it is defined in {asked_path}")]
    found = _completeness(asked, raw, path, asked_path)
    if isinstance(asked.get("items"), dict):
        items = raw.get("items")
        below = items if isinstance(items, dict) else None
        found += _nested_completeness(asked["items"], below, f"{path}.items", f"{asked_path}.items")
    named = raw.get("properties") or {}
    for key, part in (asked.get("properties") or {}).items():
        at, asked_at = f"{path}.properties[{key}]", f"{asked_path}.properties[{key}]"
        if key in named:
            found += _nested_completeness(part, named[key], at, asked_at)
        else:
            found.append(causes.required(at, f"because it is defined in {asked_at}"))
    return found


# Defaults.


def _defaults(raw: Raw, path: str, *, is_root: bool = False, in_meta: bool = False) -> list[Cause]:
    """Defaults fit their schema, and have no fields that it does not know."""
    found: list[Cause] = []
    is_embedded = is_root or bool(raw.get(EMBEDDED))
    in_meta = in_meta and not is_embedded
    default: KubeValue = raw.get("default")
    if default is not None:
        at = f"{path}.default"
        if not in_meta and prune_value(_copied(default), raw):
            found.append(Cause(causes.INVALID, at, f"Invalid value: {show(default)}: must not have unknown fields"))
        found += openapi.problems(raw, default, at)
    if isinstance(raw.get("items"), dict):
        found += _defaults(raw["items"], f"{path}.items", in_meta=in_meta)
    for key, part in (raw.get("properties") or {}).items():
        found += _defaults(part, f"{path}.properties[{key}]", in_meta=in_meta or (is_embedded and key in META_FIELDS))
    return found


def _copied(value: KubeValue) -> KubeValue:
    if isinstance(value, dict):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, list) else value


# OpenAPI: what the server does not take, or what contradicts itself.


def _open_api(raw: Raw, path: str, where: _Where, *, is_root: bool = False) -> list[Cause]:
    found = _standard(raw, path, where)
    if raw.get("uniqueItems"):
        said = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        found.append(causes.forbidden(f"{path}.uniqueItems", said))
    free, named = raw.get("additionalProperties"), raw.get("properties") or {}
    if free is not None and named and free is not True:
        said = "additionalProperties and properties are mutual exclusive"
        found.append(causes.forbidden(f"{path}.additionalProperties", said))
    for suffix, part in _children(raw):
        found += _open_api(part, path + suffix, _where_below(raw, suffix, where, is_root=is_root))
    found += _extensions(raw, path)
    found += _list_rules(raw, path)
    found += _keys_of_lists(raw, path)
    found += _rules(raw, path)
    return found


def _where_below(raw: Raw, suffix: str, where: _Where, *, is_root: bool) -> _Where:
    if suffix == ".additionalProperties" and where.in_meta:
        return where._replace(no_defaults="inside additionalProperties applying to object metadata")
    name = suffix.removeprefix(".properties[").removesuffix("]")
    if suffix.startswith(".properties[") and name in META_FIELDS and (is_root or raw.get(EMBEDDED)):
        return _Where(in_meta=True, no_defaults=f"in top-level {name}" if is_root else where.no_defaults)
    return where


def _standard(raw: Raw, path: str, where: _Where) -> list[Cause]:
    found: list[Cause] = []
    kind = raw.get("type") or ""
    if kind and kind not in TYPES:
        found.append(causes.not_supported(f"{path}.type", kind, sorted(TYPES)))
    if raw.get("default") is not None and where.no_defaults:
        found.append(causes.forbidden(f"{path}.default", f"must not be set {where.no_defaults}"))
    for name, shown in _UNSUPPORTED.items():
        if raw.get(name) or (name == "dependencies" and raw.get(name) is not None):
            found.append(causes.forbidden(f"{path}.{name}", f"{shown} is not supported"))
    if kind == "null":
        said = "type cannot be set to null, use nullable as an alternative"
        found.append(causes.forbidden(f"{path}.type", said))
    if isinstance(raw.get("items"), list):
        found.append(causes.forbidden(f"{path}.items", "items must be a schema object and not an array"))
    if where.in_meta and raw.get(EMBEDDED):
        found.append(causes.forbidden(f"{path}.{EMBEDDED}", "must not be used inside of resource meta"))
    return found


def _extensions(raw: Raw, path: str) -> list[Cause]:
    found: list[Cause] = []
    kind = raw.get("type") or ""
    if raw.get(KEEP) is False:
        found.append(causes.invalid(f"{path}.{KEEP}", False, "must be true or undefined"))  # noqa: FBT003
    for name, wanted in ((MAP_TYPE, "object"), (LIST_TYPE, "array")):
        if raw.get(name) is not None and kind != wanted:
            said, at = f"must be {wanted} if {name} is specified", f"{path}.type"
            found.append(causes.invalid(at, kind, said) if kind else causes.required(at, said))
    for name, allowed in ((MAP_TYPE, ("atomic", "granular")), (LIST_TYPE, ("atomic", "set", "map"))):
        if raw.get(name) is not None and raw[name] not in allowed:
            shown = ", ".join(f'"{each}"' for each in allowed)
            said = f"Unsupported value: {show(raw[name])}: supported values: {shown}"
            found.append(Cause(causes.NOT_SUPPORTED, f"{path}.{name}", said))
    return found


def _list_rules(raw: Raw, path: str) -> list[Cause]:
    found: list[Cause] = []
    kind, items = raw.get(LIST_TYPE), raw.get("items")
    if kind == "set" and raw.get("type") == "array" and isinstance(items, dict):
        said = "must be atomic as item of a list with x-kubernetes-list-type=set"
        if items.get("type") == "array" and items.get(LIST_TYPE) not in (None, "atomic"):
            found.append(causes.invalid(f"{path}.items.{LIST_TYPE}", items[LIST_TYPE], said))
        if items.get("type") == "object" and items.get(MAP_TYPE) != "atomic":
            found.append(causes.invalid(f"{path}.items.{MAP_TYPE}", items.get(LIST_TYPE), said))
    keys = raw.get(LIST_KEYS) or ()
    if keys and kind != "map":
        said, at = f"must be map if {LIST_KEYS} is non-empty", f"{path}.{LIST_TYPE}"
        found.append(causes.required(at, said) if kind is None else causes.invalid(at, kind, said))
    if kind != "map":
        return found
    if not keys:
        found.append(causes.required(f"{path}.{LIST_KEYS}", f"must not be empty if {LIST_TYPE} is map"))
    if items is None:
        found.append(causes.required(f"{path}.items", f"must have a schema if {LIST_TYPE} is map"))
    elif isinstance(items, dict) and items.get("type") != "object":
        said = f"must be object if parent array's {LIST_TYPE} is map"
        found.append(causes.invalid(f"{path}.items.type", items.get("type") or "", said))
    elif isinstance(items, dict):
        found += _key_rules(keys, items, path)
    return found


def _key_rules(keys: Any, items: Raw, path: str) -> list[Cause]:
    found: list[Cause] = []
    named = items.get("properties") or {}
    for i, key in enumerate(keys):
        if key not in named:
            said = "entries must all be names of item properties"
            found.append(causes.invalid(f"{path}.{LIST_KEYS}", list(keys), said))
        elif named[key].get("type") in ("array", "object"):
            said = f"must be a scalar type if parent array's {LIST_TYPE} is map"
            found.append(causes.invalid(f"{path}.items.properties[{key}].type", items.get("type"), said))
        if key in keys[:i]:
            said = "must not contain duplicate entries"
            found.append(causes.invalid(f"{path}.{LIST_KEYS}", list(keys), said))
    return found


def _keys_of_lists(raw: Raw, path: str) -> list[Cause]:
    """Items of sets and maps, and the keys of the latter, are there, and are never null."""
    found: list[Cause] = []
    items, kind = raw.get("items"), raw.get(LIST_TYPE)
    if not isinstance(items, dict) or kind not in ("set", "map"):
        return found
    if items.get("nullable"):
        found.append(causes.forbidden(f"{path}.items.nullable", f"cannot be nullable when {LIST_TYPE} is {kind}"))
    named = items.get("properties") or {}
    for key in (raw.get(LIST_KEYS) or ()) if kind == "map" else ():
        if key not in named:
            continue
        at = f"{path}.items.properties[{key}]"
        if key not in (items.get("required") or ()) and named[key].get("default") is None:
            said = f"this property is in {LIST_KEYS}, so it must have a default or be a required property"
            found.append(causes.required(f"{at}.default", said))
        if named[key].get("nullable"):
            said = f"this property is in {LIST_KEYS}, so it cannot be nullable"
            found.append(causes.forbidden(f"{at}.nullable", said))
    return found


def _rules(raw: Raw, path: str) -> list[Cause]:
    """The texts of rules, but for whether they compile."""
    found: list[Cause] = []
    for i, rule in enumerate(raw.get(RULES) or ()):
        at = f"{path}.{RULES}[{i}]"
        text, message = str(rule.get("rule") or "").strip(), str(rule.get("message") or "")
        if not text:
            found.append(causes.required(f"{at}.rule", "rule is not specified"))
        elif message and not message.strip():
            found.append(causes.invalid(f"{at}.message", message, "must be non-empty if specified"))
        elif _has_newlines(message.strip()):
            found.append(causes.invalid(f"{at}.message", message, "must not contain line breaks"))
        elif _has_newlines(text) and not message.strip():
            said = "message must be specified if rule contains line breaks"
            found.append(causes.required(f"{at}.message", said))
        expression, field = rule.get("messageExpression") or "", rule.get("fieldPath") or ""
        if expression and not expression.strip():
            said = "messageExpression must be non-empty if specified"
            found.append(causes.required(f"{at}.messageExpression", said))
        if rule.get("reason") is not None and rule["reason"] not in REASONS:
            found.append(causes.not_supported(f"{at}.reason", rule["reason"], sorted(REASONS)))
        if field and not field.strip():
            found.append(causes.invalid(f"{at}.fieldPath", field, "must be non-empty if specified"))
        if _has_newlines(field):
            found.append(causes.invalid(f"{at}.fieldPath", field, "must not contain line breaks"))
        if field and not is_field_path(field, raw):
            found.append(causes.invalid(f"{at}.fieldPath", field, "must be a valid path"))
    return found


def _has_newlines(text: str) -> bool:
    return any(character in text for character in _NEWLINES)
