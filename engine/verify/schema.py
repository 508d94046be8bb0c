"""Objects against their schemas, where the server cannot be asked yet: in the waves after the first that writes.

The schemas are those of the cluster (OpenAPI v3), and those of definitions (CRDs) that stand in the plan itself. What
is checked is what Kubernetes' structural schemas say, as far as the server is sure to refuse what it
forbids. Rules in CEL, and patterns (Go's, which Python reads otherwise, and can be made to read for ever), are left to
the server, which is asked before the wave is applied.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.objects.kube import KubeObject, group_of, mapping
from tidelog.engine.plan.draft import Draft
from tidelog.engine.plan.model import Wanted
from tidelog.events.vocabulary import Verdict

Schema: TypeAlias = Mapping[str, Any]

VERDICTS_MAX = 5
"""Verdicts about one object: the first tell what is wrong."""
DEPTH_MAX = 64
_REFERENCE = "#/components/schemas/"
_GO_TYPES = ("io.k8s.api.", "io.k8s.apimachinery.", "io.k8s.apiextensions-apiserver.", "io.k8s.kube-aggregator.")
"""What the names of the server's own types begin with."""
_plain_name = re.compile(r"[A-Za-z_$][\w$-]*", re.ASCII)

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_NAMES = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}


class Schemas:
    """The schemas that the objects of a plan need."""

    def __init__(self, schemas: Mapping[tuple[str, str], tuple[Schema, Schema]]) -> None:
        self._schemas = schemas
        """By API version and kind: the schema, and the document that its references point into."""

    @classmethod
    async def of(cls, cluster: Cluster, draft: Draft) -> "Schemas":
        """The schemas for what a plan writes and the server was not asked about.

        Raises:
            ClusterError: when the server cannot be asked for them.
        """
        found = dict(_defined_in(draft))
        needed = {
            (step.api_version, draft.wanted[step.object].key.kind)
            for wave in draft.plan.waves
            for step in wave
            if step.writes and step.after is None
        }
        for api_version in sorted({version for version, kind in needed if (version, kind) not in found}):
            group, version = group_of(api_version), api_version.rpartition("/")[2]
            document = await cluster.openapi(group, version)
            if document is not None:
                found |= _served(msgspec.json.decode(document), group, version)
        return cls(found)

    def verdicts(self, one: Wanted) -> list[Verdict]:
        """What is wrong with an object, the first few things; of a kind without a schema nothing is known."""
        entry = self._schemas.get((one.api_version, one.key.kind))
        if entry is None:
            return []
        problems = _problems(one.object, *entry, "", 0)
        return [
            Verdict(
                check="schema",
                passed=False,
                object=one.key.id,
                path=path,
                message=f"{one.key.shown}: {f'{path} {what}'.strip()}",
            )
            for path, what in (problem for problem, _ in zip(problems, range(VERDICTS_MAX), strict=False))
        ]


def _defined_in(draft: Draft) -> Iterator[tuple[tuple[str, str], tuple[Schema, Schema]]]:
    """The schemas of the definitions in the plan itself."""
    for one in draft.wanted.values():
        if one.key.kind != "CustomResourceDefinition" or one.loaded is None:
            continue
        spec = mapping(one.object, "spec")
        versions = spec.get("versions")
        for version in versions if isinstance(versions, list) else ():
            schema = mapping(mapping(version, "schema"), "openAPIV3Schema")
            if schema:
                name = f"{spec.get('group')}/{version.get('name')}", str(mapping(spec, "names").get("kind"))
                yield name, (_with_metadata(schema), {})


def _with_metadata(schema: Schema) -> Schema:
    """A definition's schema with the fields that every object has, which definitions leave to the server."""
    own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object", **_ANY}}
    return {**schema, "properties": {**mapping(schema, "properties"), **own}}


_ANY = {"x-kubernetes-preserve-unknown-fields": True}


def _served(document: Schema, group: str, version: str) -> dict[tuple[str, str], tuple[Schema, Schema]]:
    served: dict[str, Schema] = document.get("components", {}).get("schemas", {})
    schemas: Schema = {
        name: _less_required(schema) if name.startswith(_GO_TYPES) else schema for name, schema in served.items()
    }
    api_version = f"{group}/{version}" if group else version
    found: dict[tuple[str, str], tuple[Schema, Schema]] = {}
    for schema in schemas.values():
        for kind in schema.get("x-kubernetes-group-version-kind") or ():
            if (kind.get("group"), kind.get("version")) == (group, version):
                found[api_version, kind["kind"]] = schema, schemas
    return found


def _less_required(schema: Schema) -> Schema:
    """A type of the server's own without the fields that it calls required: some it fills in, some may be empty."""
    return {name: part for name, part in schema.items() if name != "required"}


def _problems(value: Any, schema: Schema, known: Schema, path: str, depth: int) -> Iterator[tuple[str, str]]:
    schema = _resolved(schema, known)
    if depth > DEPTH_MAX or value is None:
        return
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # the server takes 2.0 for 2
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield path, f"must be a number or text, and is {_NAMES.get(type(value), 'null')}"
        return
    wanted = schema.get("type")
    if wanted in _TYPES and (
        not isinstance(value, _TYPES[wanted]) or (isinstance(value, bool) and wanted != "boolean")
    ):
        yield path, f"must be {_NAMES[_TYPES[wanted][0]]}, and is {_NAMES.get(type(value), 'null')}"
        return
    # An empty text is none to the server's own types.
    if "enum" in schema and value not in ("", *schema["enum"]):
        yield path, f"must be one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str):
        yield from _of_text(value, schema, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(item, schema.get("items") or _ANY, known, f"{path}[{index}]", depth + 1)
    elif isinstance(value, dict):
        yield from _of_object(value, schema, known, path, depth)
    elif isinstance(value, int | float):
        yield from _of_number(value, schema, path)


def _of_object(value: KubeObject, schema: Schema, known: Schema, path: str, depth: int) -> Iterator[tuple[str, str]]:
    properties: Schema = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    for name in schema.get("required") or ():
        if name not in value and "default" not in (properties.get(name) or {}):
            yield _below(path, name), "is required, and missing"
    for name, held in value.items():
        below = _below(path, name)
        if name in properties:
            yield from _problems(held, properties[name], known, below, depth + 1)
        elif isinstance(others, dict):
            yield from _problems(held, others, known, below, depth + 1)
        elif properties and not others and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield below, "is no field of this kind"


def _of_text(value: str, schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    if len(value) > schema.get("maxLength", len(value)):
        yield path, f"must have at most {schema['maxLength']} characters"
    if len(value) < schema.get("minLength", 0):
        yield path, f"must have at least {schema['minLength']} characters"


def _of_number(value: float, schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    if value < schema.get("minimum", value):
        yield path, f"must be at least {schema['minimum']}"
    if value > schema.get("maximum", value):
        yield path, f"must be at most {schema['maximum']}"


def _resolved(schema: Schema, known: Schema) -> Schema:
    """The schema that a reference points to; OpenAPI wraps references that have a default into an `allOf`."""
    for _ in range(DEPTH_MAX):
        parts = schema.get("allOf")
        if isinstance(parts, list) and len(parts) == 1:
            schema = {**{name: part for name, part in schema.items() if name != "allOf"}, **parts[0]}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            break
        schema = known.get(reference.removeprefix(_REFERENCE), _ANY)
    return schema


def _below(path: str, name: str) -> str:
    if not _plain_name.fullmatch(name):
        return f'{path}["{name}"]'
    return f"{path}.{name}" if path else name
