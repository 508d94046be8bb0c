"""A CustomResourceDefinition: what it serves, what the server makes of it, and what may be wrong with it."""

import copy
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

from tidelog.engine.cluster.embedded import causes, structural
from tidelog.engine.cluster.embedded.builtin.formats import dns_subdomain, service_name
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.correlation import same
from tidelog.engine.cluster.embedded.custom import OBJECT_META
from tidelog.engine.cluster.embedded.openapi import show
from tidelog.engine.cluster.embedded.registry import Resource, Subresource, facts, version_order
from tidelog.engine.cluster.embedded.schema import REFERENCE, Raw, Schema
from tidelog.engine.objects.kube import KubeObject

VERBS: Final = frozenset({"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"})
SUBRESOURCE_VERBS: Final = frozenset({"get", "patch", "update"})
APPROVAL: Final = "api-approved.kubernetes.io"
IMMUTABLE: Final = "field is immutable"
SELECTABLE_MAX: Final = 8
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_REVIEW_VERSIONS: Final = ("v1", "v1beta1")
_TYPE_META: Final[Raw] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"$ref": REFERENCE + OBJECT_META},
}


class Taken(NamedTuple):
    """Names of a group that other definitions have."""

    resources: Collection[str] = frozenset()
    """Plurals, singulars and short names."""
    kinds: Collection[str] = frozenset()
    """Kinds and kinds of lists."""


def accepted_of(definition: KubeObject) -> Taken:
    """The names that a definition has got, for others to be kept from."""
    names = (definition.get("status") or {}).get("acceptedNames") or {}
    words = [names.get("plural"), names.get("singular"), *(names.get("shortNames") or ())]
    kinds = [names.get("kind"), names.get("listKind")]
    return Taken(frozenset(filter(None, words)), frozenset(filter(None, kinds)))


# What is served.


def resources_of(definition: KubeObject) -> tuple[Resource, ...]:
    """The versions that are served, the preferred one first; none of a definition whose names are not established."""
    spec, status = definition["spec"], definition.get("status") or {}
    established = _condition(status, "Established")
    if established is not None and established.get("status") != "True":
        return ()
    names = status.get("acceptedNames") or {}
    names = names if names.get("plural") else spec["names"]
    stored: Raw = next((version for version in spec["versions"] if version.get("storage")), {})
    served = [version for version in spec["versions"] if version.get("served")]
    served.sort(key=lambda version: version_order(version["name"]))
    return tuple(
        _resource(spec, names, version, stored, _deprecated(spec, version, served[:at]))
        for at, version in enumerate(served)
    )


def _deprecated(spec: KubeObject, version: Raw, newer: Sequence[Raw]) -> str:
    """What a definition has said of a version, or else which newer one to use."""
    if not version.get("deprecated"):
        return ""
    if version.get("deprecationWarning") is not None:
        return str(version["deprecationWarning"])
    group, kind = spec["group"], spec["names"]["kind"]
    better = next((f"; use {group}/{one['name']} {kind}" for one in newer if not one.get("deprecated")), "")
    return f"{group}/{version['name']} {kind} is deprecated{better}"


def _resource(spec: KubeObject, names: KubeObject, version: Raw, stored: Raw, deprecated: str) -> Resource:
    group, kind = spec["group"], names["kind"]
    subresources = version.get("subresources") or {}
    known: dict[str, Subresource] = {}
    if subresources.get("status") is not None:
        known["status"] = Subresource("status", kind, group, version["name"], SUBRESOURCE_VERBS)
    if subresources.get("scale") is not None:
        known["scale"] = Subresource("scale", "Scale", "autoscaling", "v1", SUBRESOURCE_VERBS)
    return Resource(
        group=group,
        version=version["name"],
        plural=names["plural"],
        singular=names.get("singular") or kind.lower(),
        kind=kind,
        namespaced=spec["scope"] == "Namespaced",
        verbs=VERBS,
        schema=Schema(
            _as_served((version.get("schema") or {}).get("openAPIV3Schema") or {}, is_root=True), facts().types
        ),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=known,
        custom=version,
        stored_version=stored.get("name", ""),
        stored=stored if stored.get("name", version["name"]) != version["name"] else None,
        deprecated=deprecated,
    )


def _as_served(raw: Raw, *, is_root: bool = False) -> Raw:
    """A schema with what every object has, at the root and wherever an object stands within."""
    made: dict[str, Any] = dict(raw)
    for name in ("items", "additionalProperties"):
        if isinstance(raw.get(name), dict):
            made[name] = _as_served(raw[name])
    if raw.get("properties") or is_root or raw.get(structural.EMBEDDED):
        named = {key: _as_served(part) for key, part in (raw.get("properties") or {}).items()}
        made["properties"] = {**named, **_TYPE_META} if is_root or raw.get(structural.EMBEDDED) else named
    if is_root:
        made.setdefault("type", "object")
    return made


# What the server makes of it.


def set_defaults(definition: KubeObject) -> None:
    """What a definition need not say."""
    spec = definition.get("spec") or {}
    names = spec.get("names") or {}
    kind = names.get("kind") or ""
    if kind and not names.get("singular"):
        names["singular"] = kind.lower()
    if kind and not names.get("listKind"):
        names["listKind"] = f"{kind}List"
    if spec.get("preserveUnknownFields") is False:
        del spec["preserveUnknownFields"]
    if spec.get("conversion") is None:
        spec["conversion"] = {"strategy": "None"}
    for version in spec.get("versions") or ():
        _drop_null_values((version.get("schema") or {}).get("openAPIV3Schema") or {})
    service = (((spec["conversion"].get("webhook") or {}).get("clientConfig")) or {}).get("service")
    if service is not None and service.get("port") is None:
        service["port"] = 443


def _drop_null_values(raw: KubeObject) -> None:
    """A default that is null is none."""
    for part in structural.parts(raw):
        for name in ("default", "example"):
            if isinstance(part, dict) and name in part and part[name] is None:
                del part[name]


def prepare_create(definition: KubeObject) -> None:
    """A new definition has no status yet but for the version in which objects are kept."""
    definition["metadata"]["generation"] = 1
    definition["status"] = {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []}
    _store_version(definition)


def prepare_update(definition: KubeObject, old: KubeObject) -> None:
    """The status stays, but for the versions in which objects are, or were, kept."""
    definition["status"] = copy.deepcopy(old.get("status") or {})
    generation = old["metadata"].get("generation") or 0
    changed = not same(definition["spec"], old["spec"])
    definition["metadata"]["generation"] = generation + 1 if changed else generation
    _store_version(definition)


def _store_version(definition: KubeObject) -> None:
    stored = definition["status"].get("storedVersions") or []
    storage = next((each["name"] for each in definition["spec"].get("versions") or () if each.get("storage")), None)
    if storage is not None and storage not in stored:
        stored = [*stored, storage]
    definition["status"]["storedVersions"] = stored


def with_status(definition: KubeObject, taken: Taken, now: str) -> KubeObject:
    """A definition after the server's controllers looked at it: which names it has got, and whether it is served.

    Args:
        definition: as it is; a new object is returned.
        taken: names that others of its group have got.
        now: as Kubernetes writes a time.
    """
    made = copy.deepcopy(definition)
    status: KubeObject = made.setdefault("status", {})
    wanted, had = made["spec"]["names"], status.get("acceptedNames") or {}
    got, conflict = _accepted(wanted, had, taken)
    names = _set(status, "NamesAccepted", now, *conflict)
    status["acceptedNames"] = got
    established = _condition(status, "Established")
    if names["status"] == "True":
        if established is None or established["status"] != "True":
            _set(status, "Established", now, "True", "InitialNamesAccepted", "the initial names have been accepted")
    elif established is None or established["status"] != "True":
        _set(status, "Established", now, "False", "NotAccepted", "not all names are accepted")
    if not status.get("storedVersions"):
        _store_version(made)
    return made


def _accepted(wanted: Raw, had: Raw, taken: Taken) -> tuple[KubeObject, tuple[str, str, str]]:
    """The names that it may have, and the condition that says so: status, reason, message."""
    got = dict(had)
    said = ("True", "NoConflicts", "no conflicts found")
    for name, used in (("plural", taken.resources), ("singular", taken.resources), ("shortNames", taken.resources)):
        said = _take(name, wanted, had, got, used) or said
    for name in ("kind", "listKind"):
        said = _take(name, wanted, had, got, taken.kinds) or said
    got.pop("categories", None)
    if wanted.get("categories"):
        got["categories"] = list(wanted["categories"])
    return got, said


def _take(name: str, wanted: Raw, had: Raw, got: KubeObject, used: Collection[str]) -> tuple[str, str, str] | None:
    words, mine = _words(wanted.get(name)), _words(had.get(name))
    refused = [f'"{word}" is already in use' for word in words if word not in mine and word in used]
    if refused:
        message = refused[0] if len(refused) == 1 else f"[{', '.join(refused)}]"
        return "False", f"{name[0].upper()}{name[1:]}Conflict", message
    got.pop(name, None)
    if wanted.get(name):
        got[name] = copy.deepcopy(wanted[name])
    return None


def _words(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def _condition(status: Raw, kind: str) -> KubeObject | None:
    return next((each for each in status.get("conditions") or () if each.get("type") == kind), None)


def _set(status: KubeObject, kind: str, now: str, value: str, reason: str, message: str) -> KubeObject:
    found = _condition(status, kind)
    if found is None:
        found = {"type": kind}
        status["conditions"] = [*(status.get("conditions") or ()), found]
    if found.get("status") != value:
        found["lastTransitionTime"] = now
    found.update(status=value, reason=reason, message=message)
    return found


# What is wrong.


def problems(definition: KubeObject, old: KubeObject | None) -> list[Cause]:
    """What is wrong with a definition that has its defaults, but for its metadata and whether its rules compile."""
    spec = definition.get("spec") or {}
    found = [] if old is not None else _name_problems(definition, spec)
    found += _spec_problems(spec)
    if old is not None:
        found += _update_problems(spec, old)
    found += _stored_problems(definition, spec)
    found += _approval_problems(definition, old)
    if spec.get("preserveUnknownFields") and not ((old or {}).get("spec") or {}).get("preserveUnknownFields"):
        said = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        found.append(causes.invalid("spec.preserveUnknownFields", True, said))  # noqa: FBT003
    return found


def _name_problems(definition: KubeObject, spec: Raw) -> list[Cause]:
    name = definition["metadata"].get("name") or ""
    wanted = f"{(spec.get('names') or {}).get('plural') or ''}.{spec.get('group') or ''}"
    found = [causes.invalid("metadata.name", name, wrong) for wrong in dns_subdomain(name)]
    if name != wanted:
        found.append(causes.invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    return found


def _update_problems(spec: Raw, old: KubeObject) -> list[Cause]:
    found = []
    before, names, old_names = old["spec"], spec.get("names") or {}, old["spec"]["names"]
    established = _condition(old.get("status") or {}, "Established")
    if established is not None and established.get("status") == "True":
        if spec.get("scope") != before["scope"]:
            found.append(causes.invalid("spec.scope", spec.get("scope"), IMMUTABLE))
        if names.get("kind") != old_names["kind"]:
            found.append(causes.invalid("spec.names.kind", names.get("kind"), IMMUTABLE))
    if spec.get("group") != before["group"]:
        found.append(causes.invalid("spec.group", spec.get("group"), IMMUTABLE))
    if names.get("plural") != old_names["plural"]:
        found.append(causes.invalid("spec.names.plural", names.get("plural"), IMMUTABLE))
    return found


def _spec_problems(spec: Raw) -> list[Cause]:
    found: list[Cause] = []
    group, scope = spec.get("group") or "", spec.get("scope") or ""
    if not group:
        found.append(causes.required("spec.group"))
    elif wrong := dns_subdomain(group):
        found.append(causes.invalid("spec.group", group, ",".join(wrong)))
    elif "." not in group:
        found.append(causes.invalid("spec.group", group, "should be a domain with at least one dot"))
    if not scope:
        found.append(causes.required("spec.scope"))
    elif scope not in ("Cluster", "Namespaced"):
        found.append(causes.not_supported("spec.scope", scope, ["Cluster", "Namespaced"]))
    found += _versions_problems(spec)
    names = spec.get("names") or {}
    for name in ("plural", "singular", "kind", "listKind"):
        if not names.get(name):
            found.append(causes.required(f"spec.names.{name}"))
    found += _names_problems(names, "spec.names")
    found += _conversion_problems(spec.get("conversion") or {}, keeps_all=bool(spec.get("preserveUnknownFields")))
    return found


def _versions_problems(spec: Raw) -> list[Cause]:
    """Of versions. What all of them have alike the server takes for one thing of the definition."""
    found: list[Cause] = []
    versions: list[Raw] = spec.get("versions") or []
    shared = {
        name: bool(versions) and all(_same_part(versions[0].get(name), each.get(name)) for each in versions)
        for name in ("schema", "subresources", "additionalPrinterColumns", "selectableFields")
    }
    for i, version in enumerate(versions):
        at = f"spec.versions[{i}]"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            found.append(causes.required(f"{at}.schema.openAPIV3Schema"))
        if wrong := service_name(version.get("name") or ""):
            found.append(causes.invalid(f"{at}.name", version.get("name") or "", ",".join(wrong)))
        found += _deprecation_problems(version, at)
        for name, is_shared in shared.items():
            if not is_shared:
                found += _part_problems(version, name, f"{at}.{name}")
    if versions:
        for name, path in (("schema", "validation"), *((name, name) for name in list(shared)[1:])):
            if shared[name]:
                found += _part_problems(versions[0], name, f"spec.{path}")
    if versions and (wrong := service_name(versions[0].get("name") or "")):
        found.append(causes.invalid("spec.version", versions[0].get("name"), ",".join(wrong)))
    if len({version.get("name") for version in versions}) != len(versions):
        found.append(_of_versions("must contain unique version names", versions))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        found.append(_of_versions("must have exactly one version marked as storage version", versions))
    return found


def _same_part(one: Any, other: Any) -> bool:
    return same(one or None, other or None)


def _of_versions(said: str, versions: list[Raw]) -> Cause:
    """The server shows its internal form of all versions, as Go names their fields. We show ours."""
    return Cause(causes.INVALID, "spec.versions", f"Invalid value: {show([dict(each) for each in versions])}: {said}")


def _part_problems(version: Raw, name: str, path: str) -> list[Cause]:
    part = version.get(name)
    if not part:
        return []
    if name == "schema":
        has_status = (version.get("subresources") or {}).get("status") is not None
        raw = part.get("openAPIV3Schema")
        return [] if raw is None else structural.problems(raw, f"{path}.openAPIV3Schema", has_status=has_status)
    if name == "subresources":
        return _scale_problems(part.get("scale"), f"{path}.scale")
    if name == "additionalPrinterColumns":
        return [cause for i, column in enumerate(part) for cause in _column_problems(column, f"{path}[{i}]")]
    return _selectable_problems(part, (version.get("schema") or {}).get("openAPIV3Schema"), path)


def _deprecation_problems(version: Raw, path: str) -> list[Cause]:
    said = version.get("deprecationWarning")
    at = f"{path}.deprecationWarning"
    if said is None:
        return []
    if not version.get("deprecated"):
        return [causes.invalid(at, said, "can only be set for deprecated versions")]
    wrong = []
    if len(said.encode()) > 256:
        wrong.append("must be <= 256 characters long")
    if not said:
        wrong.append("must not be an empty string")
    return [causes.invalid(at, said, each) for each in wrong]


def _scale_problems(scale: Raw | None, path: str) -> list[Cause]:
    found: list[Cause] = []
    if scale is None:
        return found
    for name, roots in (("specReplicasPath", (".spec.",)), ("statusReplicasPath", (".status.",))):
        found += _scale_path_problems(scale.get(name) or "", f"{path}.{name}", roots)
    selector = scale.get("labelSelectorPath") or ""
    if selector:
        found += _scale_path_problems(selector, f"{path}.labelSelectorPath", (".spec.", ".status."))
    return found


def _scale_path_problems(value: str, path: str, roots: tuple[str, ...]) -> list[Cause]:
    if not value:
        return [causes.required(path)]
    if not value.startswith("."):
        return [causes.invalid(path, value, "must be a simple json path starting with .")]
    if not value.startswith(roots):
        under = "either .spec or .status" if len(roots) > 1 else roots[0].removesuffix(".")
        return [causes.invalid(path, value, f"should be a json path under {under}")]
    return []


def _column_problems(column: Raw, path: str) -> list[Cause]:
    found: list[Cause] = []
    kind, form, where = column.get("type") or "", column.get("format") or "", column.get("jsonPath") or ""
    if not column.get("name"):
        found.append(causes.required(f"{path}.name"))
    said = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not kind:
        found.append(causes.required(f"{path}.type", said))
    elif kind not in _COLUMN_TYPES:
        found.append(causes.invalid(f"{path}.type", kind, said))
    if form and form not in _COLUMN_FORMATS:
        found.append(causes.invalid(f"{path}.format", form, f"must be one of {','.join(_COLUMN_FORMATS)}"))
    if not where:
        found.append(causes.required(f"{path}.JSONPath"))
    elif not where.startswith("."):
        found.append(causes.invalid(f"{path}.JSONPath", where, "must be a simple json path starting with ."))
    return found


def _selectable_problems(fields: list[Raw], raw: Raw | None, path: str) -> list[Cause]:
    found: list[Cause] = []
    seen: set[str] = set()
    for i, field in enumerate(fields):
        at, where = f"{path}[{i}].jsonPath", field.get("jsonPath") or ""
        if not where:
            found.append(causes.required(at))
            continue
        part, wrong = _selected(where, raw or {})
        if part is None:
            found.append(causes.invalid(at, where, f"is an invalid path: {wrong}"))
            continue
        if where.split(".")[1] == "metadata":
            found.append(causes.invalid(at, where, "must not point to fields in metadata"))
        if part.get("type") not in ("string", "boolean", "integer"):
            said = (
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats "
                "are allowed."
            )
            found.append(causes.invalid(at, where, said))
        if where in seen:
            found.append(causes.duplicate(at, where))
        seen.add(where)
    if len(seen) > SELECTABLE_MAX:
        said = f"Too many: {len(seen)}: must have at most {SELECTABLE_MAX} items"
        found.append(Cause(causes.TOO_MANY, path, said))
    return found


def _selected(path: str, raw: Raw) -> tuple[Raw | None, str]:
    if not path.startswith("."):
        return None, f"expected [ or . but got: {path.partition('.')[0]}"
    if "[" in path:
        return None, "array notation is not allowed"
    for name in path[1:].split("."):
        named = raw.get("properties") or {}
        if name not in named:
            return None, "does not refer to a valid field"
        raw = named[name]
    return raw, ""


def _names_problems(names: Raw, path: str) -> list[Cause]:
    found: list[Cause] = []
    found += [
        causes.invalid(f"{path}.{name}", names[name], ",".join(wrong))
        for name in ("plural", "singular")
        if names.get(name) and (wrong := service_name(names[name]))
    ]
    for name in ("kind", "listKind"):
        if names.get(name) and (wrong := service_name(names[name].lower())):
            said = f"may have mixed case, but should otherwise match: {','.join(wrong)}"
            found.append(causes.invalid(f"{path}.{name}", names[name], said))
    for name in ("shortNames", "categories"):
        found += [
            causes.invalid(f"{path}.{name}[{i}]", word, ",".join(wrong))
            for i, word in enumerate(names.get(name) or ())
            if (wrong := service_name(word))
        ]
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        found.append(causes.invalid(f"{path}.listKind", names["listKind"], "kind and listKind may not be the same"))
    return found


def _conversion_problems(conversion: Raw, *, keeps_all: bool) -> list[Cause]:
    found: list[Cause] = []
    strategy, webhook = conversion.get("strategy") or "", conversion.get("webhook") or {}
    path = "spec.conversion"
    if strategy != "None" and keeps_all:
        said = "must be None if spec.preserveUnknownFields is true"
        found.append(causes.invalid(f"{path}.strategy", strategy, said))
    if not strategy:
        found.append(causes.required(f"{path}.strategy"))
    elif strategy not in ("None", "Webhook"):
        shown = '"None", "Webhook"'
        said = f"Unsupported value: {show(strategy)}: supported values: {shown}"
        found.append(Cause(causes.NOT_SUPPORTED, f"{path}.strategy", said))
    client, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or []
    if strategy != "Webhook":
        said = "should not be set when strategy is not set to Webhook"
        if client is not None:
            found.append(causes.forbidden(f"{path}.webhookClientConfig", said))
        if versions:
            found.append(causes.forbidden(f"{path}.conversionReviewVersions", said))
        return found
    if client is None:
        said = "required when strategy is set to Webhook"
        found.append(causes.required(f"{path}.webhookClientConfig", said))
    elif (client.get("url") is None) == (client.get("service") is None):
        said = "exactly one of url or service is required"
        found.append(causes.required(f"{path}.webhookClientConfig", said))
    if not versions:
        found.append(causes.required(f"{path}.conversionReviewVersions"))
    elif not set(versions) & set(_REVIEW_VERSIONS):
        said = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        found.append(causes.invalid(f"{path}.conversionReviewVersions", versions, said))
    return found


def _stored_problems(definition: KubeObject, spec: Raw) -> list[Cause]:
    stored = (definition.get("status") or {}).get("storedVersions")
    path = "status.storedVersions"
    if not stored:
        return [Cause(causes.INVALID, path, "Invalid value: null: must have at least one stored version")]
    names = [version.get("name") for version in spec.get("versions") or ()]
    found = [
        causes.invalid(path, stored, f"must have the storage version {version.get('name')}")
        for version in spec.get("versions") or ()
        if version.get("storage") and version.get("name") not in stored
    ]
    found += [
        causes.invalid(f"{path}[{i}]", name, _MISSING.format(name))
        for i, name in enumerate(stored)
        if name not in names
    ]
    return found


_MISSING: Final = (
    "missing from spec.versions; {0} was previously a storage version, and must remain in spec.versions until a "
    "storage migration ensures no data remains persisted in {0} and removes {0} from status.storedVersions"
)


def _approval_problems(definition: KubeObject, old: KubeObject | None) -> list[Cause]:
    """Groups of the Kubernetes community need its word."""
    group = (definition.get("spec") or {}).get("group") or ""
    if not group.endswith((".k8s.io", ".kubernetes.io")) and group not in ("k8s.io", "kubernetes.io"):
        return []
    said = _approval(definition)
    if old is not None and _approval(old)[0] == said[0]:
        return []
    path = f"metadata.annotations[{APPROVAL}]"
    if said[0] == "missing":
        return [causes.required(path, said[1])]
    return [] if said[0] == "given" else [causes.invalid(path, _annotation(definition), said[1])]


def _approval(definition: KubeObject) -> tuple[str, str]:
    given = _annotation(definition)
    see = "see https://github.com/kubernetes/enhancements/pull/1111"
    if not given:
        return "missing", f'protected groups must have approval annotation "{APPROVAL}", {see}'
    scheme, separator, rest = given.partition("://")
    if given.startswith("unapproved") or (separator and scheme and rest.partition("/")[0]):
        return "given", ""
    return "invalid", (
        f'protected groups must have approval annotation "{APPROVAL}" with either a URL or a reason starting with '
        f'"unapproved", {see}'
    )


def _annotation(definition: KubeObject) -> str:
    return str((definition["metadata"].get("annotations") or {}).get(APPROVAL) or "")
