"""The CustomResourceDefinitions, made from the structs.

They accept and refuse what Flux's own do. What differs: the descriptions, which are ours; the order of an enum's
values; and the annotation `controller-gen.kubebuilder.io/version`, which names a tool that made none of these. A
field whose feature is still to come stays in the schema, so that objects of an existing Flux are taken as they are:
the engine refuses it (`later.py`), not the API server.
"""

import ast
import functools
import inspect as python
import sys
from typing import Any

import msgspec
from msgspec import inspect

from tidelog.engine.kinds.decode import rules_of, unwrapped
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.helmrelease import HelmRelease
from tidelog.engine.kinds.meta import INSTANCE, PART_OF, SUBSTITUTE, Resource
from tidelog.engine.kinds.registry import KINDS, AnyKind
from tidelog.engine.objects.kube import KubeObject

INSTANCE_NAME = "flux-system"
_API_VERSION = "Version of the API that the object is written in."
_KIND = "Kind of the object."
_STATUS_DEFAULT = {"observedGeneration": -1}
"""So that an object that no engine has seen yet is not taken for a ready one (contract CM-012)."""


def crds() -> tuple[KubeObject, ...]:
    """The CustomResourceDefinitions of all kinds, as objects to apply."""
    return tuple(crd(kind) for kind in KINDS)


def crd(kind: AnyKind | type[HelmRelease]) -> KubeObject:
    """The CustomResourceDefinition of a kind."""
    resource = kind.resource
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": resource.crd_name,
            # `flux check` finds Flux's API by them (contract CM-052): it is the same API, and the same objects.
            "labels": {PART_OF: "flux", INSTANCE: INSTANCE_NAME},
            # Contract CM-011.
            "annotations": {SUBSTITUTE: "disabled"},
        },
        "spec": {
            "group": resource.group,
            "names": _names(resource),
            "scope": "Namespaced",
            "versions": [
                {
                    "name": resource.version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": column.name, "type": column.type, "jsonPath": column.path}
                        for column in resource.columns
                    ],
                    "schema": {"openAPIV3Schema": _object_schema(kind)},
                }
            ],
        },
    }


def _names(resource: Resource) -> KubeObject:
    return {
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        "plural": resource.plural,
        "singular": resource.kind.lower(),
        "categories": list(resource.categories),
    } | ({"shortNames": list(resource.short_names)} if resource.short_names else {})


def _object_schema(kind: AnyKind | type[HelmRelease]) -> KubeObject:
    # Neither the spec nor the status is required: Flux's CRDs do not, and objects without a spec exist.
    whole = schema(inspect.type_info(kind))["properties"]
    return {
        "type": "object",
        "description": _sentence(kind),
        "properties": {
            "apiVersion": {"type": "string", "description": _API_VERSION},
            "kind": {"type": "string", "description": _KIND},
            "metadata": {"type": "object"},
            "spec": whole["spec"],
            "status": whole["status"] | ({"default": dict(_STATUS_DEFAULT)} if kind.resource.is_observed else {}),
        },
    }


def schema(type_: inspect.Type) -> KubeObject:
    """The structural schema of a type of the API."""
    inner = unwrapped(type_)
    return _given(**(_plain(inner) | _extra(type_)))


def _plain(type_: inspect.Type) -> KubeObject:
    match type_:
        case inspect.StructType(cls=cls, fields=fields):
            return _of_struct(cls, fields)
        case inspect.VarTupleType(item_type=item):
            return {"type": "array", "items": schema(item)}
        case inspect.DictType(value_type=item):
            return {"type": "object", "additionalProperties": schema(item)}
        case inspect.LiteralType(values=values):
            return {"type": "string", "enum": list(values)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType(ge=least):
            return {"type": "integer", "format": "int64"} | _given(minimum=least)
        case inspect.StrType() as text:
            limits = _given(minLength=text.min_length, maxLength=text.max_length, pattern=text.pattern)
            return {"type": "string"} | limits
        case inspect.AnyType():
            return {}
        case inspect.CustomType(cls=cls) if issubclass(cls, Duration):
            return {"type": "string"} | _given(pattern=cls.pattern or None)
        case other:
            raise NotImplementedError(f"no schema for a {type(other).__name__}")


def _of_struct(cls: type[msgspec.Struct], fields: tuple[inspect.Field, ...]) -> KubeObject:
    described = descriptions(cls)
    built: KubeObject = {
        "type": "object",
        "description": _sentence(cls),
        "properties": {
            field.encode_name: schema(field.type) | _given(description=described.get(field.name)) for field in fields
        },
    }
    required = [field.encode_name for field in fields if field.required]
    if required:
        built["required"] = required
    rules = rules_of(cls)
    if rules:
        built["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.message} for rule in rules]
    return built


def _extra(type_: inspect.Type) -> KubeObject:
    """What is said about a type beside what msgspec knows of: defaults and formats; None takes a format away."""
    match type_:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return _extra(inner) | dict(extra or {})
        case inspect.UnionType(types=members):
            return {key: value for member in members for key, value in _extra(member).items()}
        case _:
            return {}


def _given(**values: Any) -> KubeObject:
    return {name: value for name, value in values.items() if value is not None}


@functools.cache
def descriptions(cls: type[msgspec.Struct]) -> dict[str, str]:
    """The docstrings of a class's fields and its bases'. Python does not keep them, so they are read in the source."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            found |= _own_descriptions(base)
    return found


def _own_descriptions(cls: type[msgspec.Struct]) -> dict[str, str]:
    definition = _classes(cls.__module__)[cls.__qualname__]
    found = {}
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found


@functools.cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module by name. Read once: `inspect.getsource` of a class reads its whole module each time."""
    tree = ast.parse(python.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def _sentence(cls: type[msgspec.Struct]) -> str:
    return " ".join((cls.__doc__ or "").split())
