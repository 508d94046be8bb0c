"""Custom kinds, held to a real API server: the same definitions and objects to both."""

import copy
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest
from anyio import to_thread

from tests.cluster.embedded import custom_kinds
from tests.cluster.embedded.custom_kinds import CRDS, Raw, Verdict, bare, thing, verdict
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded import custom, definitions, rules, scales
from tidelog.engine.cluster.embedded.registry import Registry, Resource
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import Judge

PARTS = 2
KINDS_OF_SEED = 12
STRING: Raw = {"type": "string"}
INTEGER: Raw = {"type": "integer"}
KEYED: Raw = {
    "type": "array",
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name", "port"],
    "items": {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": STRING,
            "port": {"type": "integer", "default": 80},
            "v": {"type": "integer", "minimum": 0},
        },
    },
}
KEEPING: Raw = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def obj(**properties: Raw) -> Raw:
    return {"type": "object", "properties": properties}


OBJECTS: dict[str, tuple[Raw, list[Any]]] = {
    "types": (
        obj(
            s=STRING,
            i=INTEGER,
            n={"type": "number"},
            b={"type": "boolean"},
            a={"type": "array", "items": STRING},
            o=obj(),
        ),
        [
            {"s": "a", "i": 1, "n": 1.5, "b": True, "a": ["x"], "o": {}},
            {"s": 1, "i": "1", "n": "1", "b": 1, "a": {}, "o": []},
            {"s": 1.5, "i": 1.5, "n": 1, "b": "true", "a": [1, None], "o": "x"},
            {"i": 1.0},
            {"i": 2**70},
            {"s": None, "i": None, "a": None, "o": None},
            "text",
            7,
            [],
            None,
        ],
    ),
    "numbers": (
        obj(
            low={"type": "integer", "minimum": 1},
            above={"type": "number", "minimum": 1.5, "exclusiveMinimum": True},
            high={"type": "integer", "maximum": 10},
            below={"type": "number", "maximum": 1e21, "exclusiveMaximum": True},
            even={"type": "integer", "multipleOf": 2},
            tenth={"type": "number", "multipleOf": 0.1},
            small={"type": "integer", "format": "int32"},
        ),
        [
            {"low": 0, "above": 1.5, "high": 11, "below": 1e21, "even": 3, "tenth": 0.25, "small": 2**40},
            {"low": 1, "above": 2, "high": 10, "below": 1e20, "even": 4, "tenth": 0.3},
            {"low": -(2**40), "above": -0.000001, "tenth": 1e-7},
        ],
    ),
    "texts": (
        obj(
            short={"type": "string", "maxLength": 1},
            long={"type": "string", "minLength": 3},
            like={"type": "string", "pattern": r"^(a+)+$"},
            one={"type": "string", "enum": ["A", "B"]},
            num={"type": "integer", "enum": [1, 2]},
            null={"type": "string", "enum": ["A"], "nullable": True},
        ),
        [
            {"short": "ab", "long": "ab", "like": "a" * 40 + "!", "one": "C", "num": 3},
            {"short": "ü", "long": "äöü", "like": "aaa", "one": "A", "num": 2, "null": None},
            {"null": "x", "like": 'say "no"\n'},
        ],
    ),
    "lists": (
        obj(
            few={"type": "array", "items": STRING, "maxItems": 1},
            many={"type": "array", "items": STRING, "minItems": 2},
            set={"type": "array", "items": STRING, "x-kubernetes-list-type": "set"},
            keyed=KEYED,
            map={"type": "object", "additionalProperties": INTEGER, "maxProperties": 1},
            least={"type": "object", "additionalProperties": INTEGER, "minProperties": 1},
            closed={"type": "object", "additionalProperties": False},
        ),
        [
            {"few": ["a", "b"], "many": ["a"], "set": ["a", "b", "a", "a"], "map": {"a": 1, "b": "x"}, "least": {}},
            {"keyed": [{"name": "a"}, {"name": "a", "port": 80}, {"name": "b", "port": 81}, {"name": "a"}]},
            {"keyed": [{"name": "a"}, None, "x"]},
            {"keyed": [{"port": 1}, {}], "closed": {"x": 1}},
            {"set": ["a"], "keyed": [{"name": "a"}, {"name": "a", "port": 81}], "least": {"x": 1}},
        ],
    ),
    "combined": (
        obj(
            any={
                "type": "object",
                "properties": {"a": STRING, "b": STRING},
                "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            one={
                "type": "object",
                "properties": {"a": STRING, "b": STRING},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            },
            all={"type": "string", "allOf": [{"minLength": 2}, {"pattern": "^a"}]},
            no={"type": "string", "not": {"enum": ["bad"]}},
            deep={
                "type": "object",
                "properties": {"n": INTEGER, "s": STRING},
                "anyOf": [
                    {"properties": {"n": {"minimum": 5}, "s": {"minLength": 3}}},
                    {"properties": {"n": {"maximum": 1}, "s": {"maxLength": 1}}, "required": ["s"]},
                ],
            },
            port={"x-kubernetes-int-or-string": True},
            port2={
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "pattern": "^[0-9]+%$",
            },
        ),
        [
            {"any": {}, "one": {}, "all": "b", "no": "bad"},
            {"any": {"a": "x"}, "one": {"a": "x", "b": "y"}, "all": "x", "port": True, "port2": "x"},
            {"any": {"a": 1}, "deep": {"n": 3, "s": "ab"}, "port": 1.5, "port2": 1.5},
            {"deep": {"n": 3}, "port": 80, "port2": "80%"},
            {"deep": {"s": "abcd"}, "port": "http", "port2": 3, "one": {"a": "x"}},
        ],
    ),
    "defaults": (
        obj(
            a={"type": "string", "default": "x"},
            o={
                "type": "object",
                "default": {"in": {"y": 2}},
                "properties": {"in": obj(y=INTEGER, z={"type": "integer", "default": 3})},
            },
            l={"type": "array", "items": obj(v={"type": "integer", "default": 1})},
            m={"type": "object", "additionalProperties": obj(v={"type": "boolean", "default": False})},
            n={"type": "string", "nullable": True, "default": "n"},
            p={"type": "string", "nullable": True},
            r={"type": "string"},
        ),
        [
            {},
            {"a": None, "n": None, "p": None, "r": None},
            {"o": {}, "l": [{}, {"v": 2}, None], "m": {"x": {}, "y": None}},
            {"o": {"in": None}, "l": None, "m": {"x": {"v": None}}},
            {"o": "text", "l": ["x"]},
        ],
    ),
    "unknown": (
        obj(
            known=obj(a=STRING),
            kept={**KEEPING, "properties": {"a": obj(b=STRING)}},
            list={"type": "array", "items": obj(a=STRING)},
            keptlist={"type": "array", "x-kubernetes-preserve-unknown-fields": True, "items": obj(a=STRING)},
            map={"type": "object", "additionalProperties": obj(a=STRING)},
            free={"type": "object", "additionalProperties": True},
            any={"x-kubernetes-preserve-unknown-fields": True},
            embedded={
                "type": "object",
                "x-kubernetes-embedded-resource": True,
                "x-kubernetes-preserve-unknown-fields": True,
            },
            pruned={"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": obj(a=STRING)}},
        ),
        [
            {"known": {"a": "x", "b": 1}, "other": 1, "kept": {"x": {"y": 1}, "a": {"b": "z", "c": 2}}},
            {"list": [{"a": "x", "b": 1}, {"c": 2}], "map": {"k": {"a": "x", "z": 1}}, "any": [1, {"x": None}]},
            {"keptlist": [{"a": "x", "b": 1}, {"c": {"d": 1}}], "free": {"x": {"y": 1}, "z": [{"k": 1}]}},
            {
                "embedded": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "a", "foo": 1, "labels": {}},
                    "x": 1,
                }
            },
            {
                "pruned": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": "a"},
                    "spec": {"a": "x", "b": 2},
                    "x": 1,
                }
            },
            {"embedded": {"metadata": {}}, "pruned": {"apiVersion": "", "kind": "a_b"}},
            {"embedded": {"apiVersion": "a/b/c", "kind": ""}, "pruned": {"apiVersion": "v1", "kind": "-"}},
        ],
    ),
}

FORMATS: dict[str, list[str]] = {
    "date": ["2024-02-29", "2023-02-29", "24-1-1", ""],
    "date-time": [
        "2024-01-01T00:00:00Z",
        "2024-01-01T25:00:00Z",
        "2024-01-01 00:00:00Z",
        "2024-01-01t01:02:03.5+02:00",
        "x",
    ],
    "duration": ["1h", "1h30m", "1.5s", "5 days", "2 weeks ago", "1y", "", "-1s", "0", "3", "4 parsecs"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000", "123E4567E89B12D3A456426614174000", "123e4567", ""],
    "uuid4": ["123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-42d3-a456-426614174000"],
    "ipv4": ["1.2.3.4", "01.2.3.4", "1.2.3", "1.2.3.256", "::1", "::ffff:1.2.3.4", "\u0661.2.3.4"],
    "ipv6": ["::1", "1.2.3.4", "fe80::1%eth0", "1::2::3", "::ffff:1.2.3.4", "12345::"],
    "cidr": ["10.0.0.0/8", "10.0.0.1/33", "10.0.0.0", "::/0", "::/129", "010.0.0.0/8", "1.2.3.4/-1", "1.2.3.4/08"],
    "mac": ["01:23:45:67:89:ab", "01-23-45-67-89-ab", "0123.4567.89ab", "01:23:45", "01:23-45:67:89:ab"],
    "hostname": ["example.com", "a", "-a", "a_b", "a.b", "exa mple.com", "1.2.3.4", "a" * 64, "münchen.de", "a..b", ""],
    "email": ["a@b.c", "a@b", "a", "A B <a@b.c>", "<a@b.c>", "a b@c", "", '"a b"@c.d', "a@b@c", "a.@b"],
    "uri": [
        "http://a.b/c?d=e#f",
        "a.b",
        "/a/b",
        "mailto:a@b",
        "http://a b/",
        "http://[::1]:80/",
        "",
        "http://a:x/",
        "%zz",
        "//a",
        "http://a/%zz",
    ],
    "byte": ["", "YWJj", "YWI=", "YW", "YQ==", "a-_b", "YWJj\n"],
    "hexcolor": ["#fff", "fff", "#ffff", "#abcdef"],
    "rgbcolor": ["rgb(1,2,3)", "rgb(1, 2 ,256)", "rgb(1,2)"],
    "creditcard": ["4111111111111111", "4111-1111-1111-1111", "4111111111111112"],
    "isbn": ["0321751043", "978-0321751041", "0321751044", "x"],
    "isbn10": ["0321751043", "978-0321751041"],
    "ssn": ["111-22-3333", "111223333"],
    "bsonobjectid": ["507f1f77bcf86cd799439011", "507f1f77"],
    "password": ["x"],
    "k8s-short-name": ["a-b", "A", "a.b", "a" * 64],
    "k8s-long-name": ["a.b-c", "A.b", ".a"],
    "int32": ["x"],
    "nonsense": ["x"],
}


@pytest.fixture
def group(kubernetes: Servers) -> Iterator[str]:
    name = custom_kinds.group()
    yield name
    custom_kinds.remove(kubernetes, name)


Specs: TypeAlias = dict[str, tuple[Raw, list[Any]]]


def compare_objects(servers: Servers, group: str, namespace: str, specs: Specs) -> None:
    """Creates objects with these specs, here and there. Each kind is named after its case."""
    kinds = {name: f"K{i}" for i, name in enumerate(specs)}
    crds = [custom_kinds.definition(group, schema, kind=kinds[name]) for name, (schema, _) in specs.items()]
    differences = []
    for crd, (name, (_, values)) in zip(custom_kinds.install(servers, *crds), specs.items(), strict=True):
        resource = definitions.resources_of(crd)[0]
        path = f"/apis/{group}/v1/namespaces/{namespace}/{resource.plural}"
        for i, value in enumerate(values):
            made = thing(group, namespace, value, kind=kinds[name], name=f"a{i}")
            ours, theirs = custom_kinds.our_create(resource, copy.deepcopy(made)), verdict(servers, path, made)
            if ours != theirs:
                differences.append(difference(f"{name}: {value}", ours, theirs))
    assert not differences, "\n".join(differences)


def difference(what: str, ours: Verdict, theirs: Verdict) -> str:
    lines = [what, *(f"  ours:   {each}" for each in sorted(ours.causes - theirs.causes))]
    lines += [f"  theirs: {each}" for each in sorted(theirs.causes - ours.causes)]
    if ours.stored != theirs.stored:
        lines += [f"  stored here:  {ours.stored}", f"  stored there: {theirs.stored}"]
    return "\n".join(lines)


def test_objects_are_stored_or_refused_as_the_server_does(kubernetes: Servers, namespace: str, group: str) -> None:
    compare_objects(kubernetes, group, namespace, OBJECTS)


def test_formats_are_those_of_the_server(kubernetes: Servers, namespace: str, group: str) -> None:
    schema = obj(**{name: {"type": "string", "format": name} for name in FORMATS})
    values = [{name: text} for name, texts in FORMATS.items() for text in texts]
    compare_objects(kubernetes, group, namespace, {"formats": (schema, values)})


@pytest.mark.parametrize("part", range(PARTS))
def test_schemas_and_objects_by_chance(
    kubernetes: Servers, namespace: str, group: str, part: int, oracle_seed: int
) -> None:
    specs: Specs = {}
    for number in range(KINDS_OF_SEED):
        chance = random.Random(f"{oracle_seed} {part} {number}")
        schema = {"type": "object", "properties": {name: custom_kinds.some_schema(chance) for name in "abc"}}
        values = [custom_kinds.some_value(chance, schema) for _ in range(12)]
        specs[f"seed {oracle_seed} {part}/{number}"] = schema, [value for value in values if isinstance(value, dict)]
    compare_objects(kubernetes, group, namespace, specs)


# Definitions.

Change: TypeAlias = Callable[[KubeObject], None]


def at(path: str, value: Any) -> Change:
    """Puts a value there; a number is a place in a list."""

    def change(crd: KubeObject) -> None:
        *above, last = path.split("/")
        here: Any = crd
        for name in above:
            here = here[int(name)] if name.isdigit() else here.setdefault(name, {})
        here[int(last) if last.isdigit() else last] = value

    return change


VERSION = "spec/versions/0"
ROOT = f"{VERSION}/schema/openAPIV3Schema"
PART = f"{ROOT}/properties/spec/properties/x"

DEFINITIONS: dict[str, Change] = {
    "as it is": at("spec/scope", "Namespaced"),
    "cluster": at("spec/scope", "Cluster"),
    "no scope": at("spec/scope", "Galaxy"),
    "another name": at("metadata/name", "other.example.org"),
    "capitals": at("metadata/name", "Other.example.org"),
    "group of one word": at("spec/group", "example"),
    "group": at("spec/group", "Not_One"),
    "plural": at("spec/names/plural", "Things"),
    "kind": at("spec/names/kind", "a_thing"),
    "list kind": at("spec/names/listKind", "Thing"),
    "short names": at("spec/names/shortNames", ["ok", "Not"]),
    "categories": at("spec/names/categories", ["all", "-"]),
    "no schema": at(f"{VERSION}/schema", None),
    "no storage": at(f"{VERSION}/storage", False),
    "version": at(f"{VERSION}/name", "V1"),
    "keeps all": at("spec/preserveUnknownFields", True),
    "deprecation": at(f"{VERSION}/deprecationWarning", "old"),
    "status": at(f"{VERSION}/subresources", {"status": {}}),
    "scale": at(
        f"{VERSION}/subresources", {"scale": {"specReplicasPath": ".spec.r", "statusReplicasPath": ".status.r"}}
    ),
    "bad scale": at(
        f"{VERSION}/subresources",
        {"scale": {"specReplicasPath": "spec.r", "statusReplicasPath": ".spec.r", "labelSelectorPath": ".x"}},
    ),
    "columns": at(f"{VERSION}/additionalPrinterColumns", [{"name": "X", "type": "string", "jsonPath": ".spec.x"}]),
    "bad columns": at(
        f"{VERSION}/additionalPrinterColumns", [{"name": "", "type": "text", "jsonPath": "spec.x", "format": "hex"}]
    ),
    "selectable": at(f"{VERSION}/selectableFields", [{"jsonPath": ".spec.x"}]),
    "bad selectable": at(
        f"{VERSION}/selectableFields",
        [{"jsonPath": ".spec.y"}, {"jsonPath": ".spec"}, {"jsonPath": ".spec.x"}, {"jsonPath": ".spec.x"}],
    ),
    "root type": at(f"{ROOT}/type", "array"),
    "no root type": at(f"{ROOT}/type", ""),
    "root nullable": at(f"{ROOT}/nullable", True),
    "root free": at(f"{ROOT}/additionalProperties", True),
    "metadata": at(f"{ROOT}/properties/metadata", {"type": "object"}),
    "metadata name": at(
        f"{ROOT}/properties/metadata", {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}}
    ),
    "bad metadata": at(
        f"{ROOT}/properties/metadata", {"type": "object", "properties": {"labels": {"type": "object"}}, "default": {}}
    ),
    "type meta": at(f"{ROOT}/properties/kind", {"type": "integer", "default": 1}),
    "no type": at(PART, {"description": "x"}),
    "unknown type": at(PART, {"type": "text"}),
    "null type": at(PART, {"type": "null"}),
    "no items": at(PART, {"type": "array"}),
    "items without type": at(PART, {"type": "array", "items": {}}),
    "unique": at(PART, {"type": "array", "items": STRING, "uniqueItems": True}),
    "both": at(PART, {"type": "object", "properties": {"a": STRING}, "additionalProperties": STRING}),
    "pattern": at(PART, {"type": "string", "pattern": "("}),
    "lookahead": at(PART, {"type": "string", "pattern": "(?=a)"}),
    "ref": at(PART, {"$ref": "#/definitions/x"}),
    "ids": at(PART, {"type": "object", "id": "x", "patternProperties": {"a": STRING}, "definitions": {"b": STRING}}),
    "keeps nothing": at(PART, {"type": "object", "x-kubernetes-preserve-unknown-fields": False}),
    "nested": at(
        PART, {"type": "object", "properties": {"a": STRING}, "anyOf": [{"type": "object", "description": "x"}]}
    ),
    "nested more": at(
        PART,
        {
            "type": "object",
            "properties": {"a": STRING},
            "allOf": [{"properties": {"b": {"minLength": 1}, "metadata": {}}, "nullable": True, "default": {}}],
            "not": {"additionalProperties": STRING, "x-kubernetes-preserve-unknown-fields": True},
            "oneOf": [{"items": {"minLength": 1}}],
        },
    ),
    "int or string": at(PART, {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
    "int or string in allOf": at(
        PART, {"x-kubernetes-int-or-string": True, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}]}
    ),
    "int or string twice": at(PART, {"x-kubernetes-int-or-string": True, "x-kubernetes-preserve-unknown-fields": True}),
    "embedded": at(
        PART, {"type": "object", "x-kubernetes-embedded-resource": True, "x-kubernetes-preserve-unknown-fields": True}
    ),
    "empty embedded": at(PART, {"type": "object", "x-kubernetes-embedded-resource": True}),
    "embedded text": at(PART, {"type": "string", "x-kubernetes-embedded-resource": True}),
    "embedded map": at(
        PART, {"type": "object", "x-kubernetes-embedded-resource": True, "additionalProperties": STRING}
    ),
    "default": at(PART, {"type": "string", "default": "a"}),
    "wrong default": at(PART, {"type": "string", "default": 1}),
    "default out of bounds": at(PART, {"type": "integer", "default": 1, "minimum": 2}),
    "default unknown": at(PART, {"type": "object", "properties": {"a": STRING}, "default": {"b": 1}}),
    "default in map": at(PART, {"type": "object", "additionalProperties": {"type": "string", "default": "a"}}),
    "default null": at(PART, {"type": "string", "default": None}),
    "map type": at(PART, {"type": "array", "items": STRING, "x-kubernetes-map-type": "atomic"}),
    "no map type": at(PART, {"type": "object", "x-kubernetes-map-type": "x"}),
    "list type": at(PART, {"type": "object", "x-kubernetes-list-type": "set"}),
    "no list type": at(PART, {"type": "array", "items": STRING, "x-kubernetes-list-type": "x"}),
    "set of objects": at(PART, {"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}),
    "set of nulls": at(PART, {"type": "array", "items": {**STRING, "nullable": True}, "x-kubernetes-list-type": "set"}),
    "keys": at(PART, KEYED),
    "keys without": at(PART, {**KEYED, "x-kubernetes-list-type": "atomic"}),
    "no keys": at(PART, {**KEYED, "x-kubernetes-list-map-keys": []}),
    "other keys": at(PART, {**KEYED, "x-kubernetes-list-map-keys": ["name", "name", "zz", "v"]}),
    "keys of texts": at(PART, {**KEYED, "items": STRING}),
    "keys of objects": at(
        PART,
        {
            **KEYED,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "object"}, "port": {**INTEGER, "nullable": True}},
            },
        },
    ),
    "rule texts": at(
        f"{ROOT}/properties/spec/x-kubernetes-validations",
        [{"rule": " "}, {"rule": "true", "message": " "}, {"rule": "true", "reason": "No"}, {"rule": "true\n"}],
    ),
    "rule paths": at(
        f"{ROOT}/properties/spec/x-kubernetes-validations",
        [
            {"rule": "true", "fieldPath": ".zz"},
            {"rule": "true", "fieldPath": ".x"},
            {"rule": "true", "message": "a\nb"},
        ],
    ),
    "conversion": at("spec/conversion", {"strategy": "Magic"}),
    "webhook without": at("spec/conversion", {"strategy": "Webhook"}),
    "webhook half": at(
        "spec/conversion", {"strategy": "Webhook", "webhook": {"clientConfig": {}, "conversionReviewVersions": ["v9"]}}
    ),
    "webhook for none": at("spec/conversion", {"strategy": "None", "webhook": {"conversionReviewVersions": ["v1"]}}),
    "community": at("spec/group", "x.k8s.io"),
}


def without_internal_form(found: Verdict) -> Verdict:
    """Where the server shows its own form of versions or a schema, in Go's names: a known difference."""
    return found._replace(causes=frozenset(map(_without_internal_form, found.causes)))


def _without_internal_form(cause: tuple[str, str, str]) -> tuple[str, str, str]:
    reason, field, message = cause
    if field == "spec.versions" or "fields are allowed at the root" in message:
        return reason, field, message.rpartition(": ")[2]
    return cause


def test_definitions_are_taken_or_refused_as_the_server_does(kubernetes: Servers, group: str) -> None:
    differences = []
    for i, (name, change) in enumerate(DEFINITIONS.items()):
        crd = custom_kinds.definition(group, obj(x=STRING), kind=f"Thing{i}")
        change(crd)
        if crd["spec"]["group"] != group:
            crd["metadata"]["name"] = f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"
        theirs = without_internal_form(verdict(kubernetes, f"{CRDS}?dryRun=All", crd))
        ours = without_internal_form(custom_kinds.our_definition(copy.deepcopy(crd)))
        if ours != theirs:
            differences.append(difference(name, ours, theirs))
    assert not differences, "\n".join(differences)


# Rules.

RULED: Raw = {
    "type": "object",
    "properties": {
        "low": INTEGER,
        "high": INTEGER,
        "name": {"type": "string", "maxLength": 20},
        "fixed": {
            "type": "string",
            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "cannot change"}],
        },
        "from": {"type": "string", "format": "date-time"},
        "a-b": {"type": "integer"},
        "list": {
            "type": "array",
            "maxItems": 5,
            "items": {"type": "integer"},
            "x-kubernetes-validations": [
                {"rule": "self.isSorted()", "messageExpression": "size(self) > 1 ? 'not sorted' : 'short'"}
            ],
        },
        "keyed": {
            **KEYED,
            "maxItems": 5,
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {**STRING, "maxLength": 9},
                    "port": {"type": "integer", "default": 80},
                    "v": INTEGER,
                },
                "x-kubernetes-validations": [{"rule": "!has(oldSelf.v) || self.v >= oldSelf.v", "message": "shrinks"}],
            },
        },
        "map": {
            "type": "object",
            "maxProperties": 4,
            "additionalProperties": {
                "type": "string",
                "maxLength": 9,
                "x-kubernetes-validations": [{"rule": "isQuantity(self)"}],
            },
        },
    },
    "x-kubernetes-validations": [
        {
            "rule": "!has(self.low) || !has(self.high) || self.low <= self.high",
            "fieldPath": ".low",
            "reason": "FieldValueForbidden",
        },
        {"rule": "!has(self.name) || self.name.matches('^[a-z]+$')", "message": "name has other letters"},
        {"rule": "!has(self.a__dash__b) || self.a__dash__b > 0"},
        {"rule": "!has(self.from) || self.from > timestamp('2020-01-01T00:00:00Z')", "message": "too early"},
        {"rule": "!has(self.map) || self.map['x'] == '1'", "message": "x is 1"},
    ],
}
RULED_SPECS: list[Any] = [
    {"low": 1, "high": 2, "name": "abc", "a-b": 1, "list": [1, 2], "from": "2024-01-01T00:00:00Z"},
    {"low": 3, "high": 2, "name": "A1", "a-b": 0, "list": [2, 1], "from": "2019-01-01T00:00:00Z"},
    {"map": {"x": "1", "y": "many"}},
    {"map": {"y": "1Gi"}},
    {"low": "x", "list": [2, 1]},
    {"name": "A" * 21},
]
RULED_CHANGES: list[tuple[Any, Any]] = [
    ({"fixed": "a"}, {"fixed": "b"}),
    ({"fixed": "a"}, {"fixed": "a", "low": 1}),
    ({"fixed": "a"}, {}),
    ({"keyed": [{"name": "a", "v": 2}]}, {"keyed": [{"name": "b", "v": 1}, {"name": "a", "v": 1}]}),
]


async def with_rules(
    ours: Verdict, resource: Resource, made: KubeObject, old: KubeObject | None, judge: Judge
) -> Verdict:
    if any(cause[0] in custom._BLOCKING for cause in ours.causes):
        return ours
    broken = await rules.broken_rules(resource, made, old, judge)
    told = ours.causes | {(each.reason, each.field, each.message) for each in broken}
    return Verdict(None, told) if told else ours


async def test_rules_are_broken_as_on_the_server(kubernetes: Servers, namespace: str, group: str) -> None:
    [crd] = await to_thread.run_sync(custom_kinds.install, kubernetes, custom_kinds.definition(group, RULED))
    resource = definitions.resources_of(crd)[0]
    path = f"/apis/{group}/v1/namespaces/{namespace}/things"
    differences = []
    async with Evaluator(time_s=20) as judge:
        for i, value in enumerate(RULED_SPECS):
            made = thing(group, namespace, value, name=f"a{i}")
            theirs = await to_thread.run_sync(verdict, kubernetes, path, made)
            ours = await with_rules(custom_kinds.our_create(resource, made), resource, made, None, judge)
            if ours != theirs:
                differences.append(difference(str(value), ours, theirs))
        for i, (before, after) in enumerate(RULED_CHANGES):
            was = thing(group, namespace, before, name=f"b{i}")
            old = (await to_thread.run_sync(kubernetes.request, "POST", path, was)).body
            made = copy.deepcopy(old) | {"spec": after}
            theirs = await to_thread.run_sync(verdict, kubernetes, f"{path}/b{i}", made, "PUT")
            ours = await with_rules(custom_kinds.our_update(resource, made, old), resource, made, old, judge)
            if ours != theirs:
                differences.append(difference(f"{before} -> {after}", ours, theirs))
    assert not differences, "\n".join(differences)


WRITTEN: dict[str, Raw] = {
    "fine": {"rule": "self.x == 'a'"},
    "old": {"rule": "oldSelf.x == self.x"},
    "no field": {"rule": "self.zz == 'a'"},
    "no bool": {"rule": "1"},
    "no syntax": {"rule": "self.x =="},
    "no function": {"rule": "self.x.frobnicate()"},
    "message": {"rule": "true", "messageExpression": "1"},
    "optional": {"rule": "true", "optionalOldSelf": True},
    "optional old": {"rule": "oldSelf.hasValue() || self.x == 'a'", "optionalOldSelf": True},
}


async def test_rules_that_do_not_compile_refuse_the_definition(kubernetes: Servers, group: str) -> None:
    """With the same field and reason; what the compiler says is in words of its own."""
    async with Evaluator(time_s=20) as judge:
        for name, rule in WRITTEN.items():
            crd = custom_kinds.definition(group, obj(x=STRING) | {"x-kubernetes-validations": [rule]})
            theirs = await to_thread.run_sync(verdict, kubernetes, f"{CRDS}?dryRun=All", crd)
            raw = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            found = await rules.mistakes_in_rules(raw, "spec.validation.openAPIV3Schema", judge)
            assert {each[:2] for each in found} == {each[:2] for each in theirs.causes}, (name, theirs, found)
            if name in ("no field", "no bool", "message", "optional"):
                assert {each[2] for each in found} == {each[2] for each in theirs.causes}


# What was wrong before, generations, status and scale.

RATCHETED: Raw = obj(
    a={"type": "string", "maxLength": 3},
    b={"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}, "s": STRING}},
    keyed=KEYED,
    set={"type": "array", "items": STRING, "x-kubernetes-list-type": "set"},
    list={"type": "array", "items": {"type": "integer", "maximum": 5}},
    any={"type": "string", "anyOf": [{"maxLength": 2}, {"pattern": "^zz"}]},
)
LOOSE: Raw = obj(
    a=STRING,
    b={"type": "object", "properties": {"n": INTEGER, "s": STRING}},
    keyed={
        **KEYED,
        "items": {
            **KEYED["items"],
            "properties": {"name": STRING, "port": {"type": "integer", "default": 80}, "v": INTEGER},
        },
    },
    set={"type": "array", "items": STRING},
    list={"type": "array", "items": INTEGER},
    any=STRING,
)
WRONG: Raw = {
    "a": "long enough",
    "b": {"n": 9, "s": "x"},
    "keyed": [{"name": "a", "v": -1}, {"name": "b", "v": -2}],
    "set": ["a", "a"],
    "list": [9, 1],
    "any": "abcd",
}
CHANGES: list[Raw] = [
    WRONG,
    {**WRONG, "a": "another long one"},
    {**WRONG, "b": {"n": 9, "s": "y"}},
    {**WRONG, "b": {"n": 8, "s": "x"}},
    {**WRONG, "keyed": [{"name": "b", "v": -2}, {"name": "c", "v": -3}, {"name": "a", "v": -4}]},
    {**WRONG, "set": ["b", "b"], "list": [9, 2]},
    {**WRONG, "any": "abcde"},
    {"a": "ok"},
]


def test_what_was_wrong_before_is_let_pass_as_on_the_server(kubernetes: Servers, namespace: str, group: str) -> None:
    """Objects from before the schema became stricter."""
    crd = custom_kinds.definition(group, LOOSE)
    custom_kinds.install(kubernetes, crd)
    path = f"/apis/{group}/v1/namespaces/{namespace}/things"
    olds = [
        kubernetes.request("POST", path, thing(group, namespace, WRONG, name=f"a{i}")).body for i in range(len(CHANGES))
    ]
    strict = custom_kinds.definition(group, RATCHETED)
    now = kubernetes.request("PATCH", f"{CRDS}/{crd['metadata']['name']}", strict, "application/merge-patch+json").body
    resource = definitions.resources_of(now)[0]
    probe = thing(group, namespace, {"a": "too long"}, name="probe")
    while kubernetes.request("POST", f"{path}?dryRun=All", probe).status == 201:
        time.sleep(0.05)
    differences = []
    for old, change in zip(olds, CHANGES, strict=True):
        made = copy.deepcopy(old) | {"spec": copy.deepcopy(change)}
        theirs = verdict(kubernetes, f"{path}/{old['metadata']['name']}", made, "PUT")
        ours = custom_kinds.our_update(resource, made, old)
        if ours != theirs:
            differences.append(difference(str(change), ours, theirs))
    assert not differences, "\n".join(differences)


SCALED: Raw = {
    "status": {},
    "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n", "labelSelectorPath": ".status.sel"},
}


@pytest.mark.parametrize("with_status", [True, False])
def test_generation_status_and_scale_are_those_of_the_server(
    kubernetes: Servers, namespace: str, group: str, *, with_status: bool
) -> None:
    keeping = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    status = obj(n={"type": "integer", "minimum": 0}, sel=STRING, x=STRING)
    subresources = SCALED if with_status else {"scale": SCALED["scale"]}
    crd = custom_kinds.definition(group, keeping, status=status, subresources=subresources)
    [crd] = custom_kinds.install(kubernetes, crd)
    resource = definitions.resources_of(crd)[0]
    path = f"/apis/{group}/v1/namespaces/{namespace}/things"
    made = thing(group, namespace, {"n": 2}, status={"n": 1, "sel": "a=b"})
    old = kubernetes.request("POST", path, made).body
    custom_kinds.our_create(resource, made)
    assert bare(old) == bare(made)
    steps: list[tuple[str, Raw, Raw]] = [
        ("", {"n": 3}, {"n": 5}),
        ("", {"n": 3}, {"n": 5}),
        ("/status", {"n": 4}, {"n": 7, "sel": "a=b", "zz": 1}),
        ("", {"n": 3}, {}),
        ("/status", {"n": 4}, {"n": -1, "sel": 3}),
        ("/status", {"n": 4}, {"x": 5}),
        ("", {"n": -1}, {}),
        ("", {"n": "x"}, {}),
        ("", {"n": 2**40}, {}),
    ]
    for subresource, spec, stated in steps[: None if with_status else 2]:
        new = copy.deepcopy(old) | {"spec": spec, "status": stated}
        new["metadata"]["labels"] = {"a": "b"}
        theirs = verdict(kubernetes, f"{path}/a{subresource}", new, "PUT")
        custom.prune(resource, new)
        prepare = custom.prepare_status_update if subresource else custom.prepare_update
        prepare(resource, new, old)
        found = custom.problems(resource, new, old, subresource=subresource.removeprefix("/"))
        assert custom_kinds.as_verdict(new, found) == theirs, (subresource, spec, stated)
        old = kubernetes.request("GET", f"{path}/a").body
    scale = kubernetes.request("GET", f"{path}/a/scale").body
    assert scales.scale_of(resource, old) == scale
    scale["spec"] = {"replicas": 9}
    answer = kubernetes.request("PUT", f"{path}/a/scale", scale).body
    mine = scales.with_scale(resource, old, scale)
    assert scales.scale_of(resource, mine)["spec"] == answer["spec"]
    assert mine["spec"] == kubernetes.request("GET", f"{path}/a").body["spec"]


BUILTIN_SCALED: dict[str, Raw] = {
    "deployments": {"apps": "v1"},
    "replicasets": {"apps": "v1"},
    "replicationcontrollers": {"": "v1"},
}


@pytest.mark.parametrize("plural", BUILTIN_SCALED)
def test_the_scale_of_a_built_in_kind_is_that_of_the_server(kubernetes: Servers, namespace: str, plural: str) -> None:
    [(group_name, version)] = BUILTIN_SCALED[plural].items()
    resource = Registry().resource(group_name, version, plural)
    assert resource is not None
    labels = {"b": "2", "a": "1"}
    selector = (
        labels if not group_name else {"matchLabels": labels, "matchExpressions": [{"key": "c", "operator": "Exists"}]}
    )
    template = {"metadata": {"labels": labels | {"c": "3"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    root = f"/apis/{group_name}/{version}" if group_name else f"/api/{version}"
    path = f"{root}/namespaces/{namespace}/{plural}"
    made = {"metadata": {"name": "a"}, "spec": {"replicas": 0, "selector": selector, "template": template}}
    old = kubernetes.request("POST", path, made).body
    scale = kubernetes.request("GET", f"{path}/a/scale").body
    ours = scales.scale_of(resource, old)
    scale["metadata"].pop("resourceVersion")
    ours["metadata"].pop("resourceVersion")
    assert ours == scale
    scale["spec"] = {"replicas": -1}
    refused = kubernetes.request("PUT", f"{path}/a/scale", scale)
    with pytest.raises(StatusError) as caught:
        scales.with_scale(resource, old, scale)
    assert caught.value.status == refused.body


def test_names_conditions_and_versions_of_a_definition_are_those_of_the_server(kubernetes: Servers, group: str) -> None:
    """Of a kind with two versions, of one whose names another has, and after another version is stored."""
    first = custom_kinds.definition(group, obj(x=STRING))
    second = copy.deepcopy(first["spec"]["versions"][0]) | {"name": "v1beta1", "storage": False}
    first["spec"]["versions"].insert(0, second)
    first["spec"]["names"] |= {"shortNames": ["th"], "categories": ["all"]}
    [mine] = custom_kinds.install(kubernetes, first)
    assert [each.version for each in definitions.resources_of(mine)] == ["v1", "v1beta1"]
    assert_same_status(first, mine, definitions.Taken())

    rival = custom_kinds.definition(group, obj(x=STRING), kind="Rival")
    rival["spec"]["names"] |= {
        "kind": "Thing",
        "listKind": "ThingList",
        "shortNames": ["th", "ri"],
        "singular": "thing",
    }
    kubernetes.request("POST", CRDS, rival)
    path = f"{CRDS}/{rival['metadata']['name']}"
    while len(kubernetes.request("GET", path).body["status"]["conditions"] or ()) < 2:
        time.sleep(0.02)
    theirs = kubernetes.request("GET", path).body
    assert definitions.resources_of(theirs) == ()
    assert_same_status(rival, theirs, definitions.accepted_of(mine))

    new = copy.deepcopy(mine)
    for version in new["spec"]["versions"]:
        version["storage"] = version["name"] == "v1beta1"
    answer = kubernetes.request("PUT", f"{CRDS}/{first['metadata']['name']}", copy.deepcopy(new)).body
    definitions.prepare_update(new, mine)
    assert new["status"] == answer["status"]
    assert new["metadata"]["generation"] == answer["metadata"]["generation"]
    for change in (
        at("spec/scope", "Cluster"),
        at("spec/names/kind", "Other"),
        at("spec/group", "x.y"),
        lambda crd: crd["spec"]["versions"].pop(),
    ):
        wrong = copy.deepcopy(answer)
        change(wrong)
        refused = without_internal_form(verdict(kubernetes, f"{CRDS}/{first['metadata']['name']}", wrong, "PUT"))
        definitions.prepare_update(wrong, answer)
        ours = custom_kinds.as_verdict(wrong, definitions.problems(wrong, answer))
        assert without_internal_form(ours) == refused


def assert_same_status(crd: KubeObject, theirs: KubeObject, taken: definitions.Taken) -> None:
    made = copy.deepcopy(crd)
    definitions.set_defaults(made)
    definitions.prepare_create(made)
    ours = definitions.with_status(made, taken, "2024-01-01T00:00:00Z")["status"]
    wanted = copy.deepcopy(theirs["status"])
    for status in (ours, wanted):
        for condition in status["conditions"]:
            assert condition.pop("lastTransitionTime")
    assert ours == wanted
