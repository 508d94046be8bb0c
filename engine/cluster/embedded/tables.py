"""Tables: what `kubectl get` shows of objects (k8s.io/kubernetes, `pkg/printers`), made by the server.

The columns of the built-in kinds are facts in `data/tables.json`, made by tools/kubernetes_tables.py; those of custom
kinds stand in their definitions.
"""

import functools
from collections.abc import Mapping
from datetime import datetime
from importlib import resources
from typing import Any, Final, Literal, TypeAlias

import msgspec

from tidelog.engine.cluster.embedded import cells, rare_cells
from tidelog.engine.cluster.embedded.json_paths import first_of
from tidelog.engine.cluster.embedded.openapi import go_number
from tidelog.engine.cluster.embedded.registry import Resource
from tidelog.engine.objects.kube import KubeObject, KubeValue

WithObjects: TypeAlias = Literal["None", "Metadata", "Object"]
NAME: Final = {"name": "Name", "type": "string", "format": "name"}
AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_SCALE_COLUMNS: Final[list[Mapping[str, Any]]] = [
    {"name": "Name", "type": "string"},
    {
        "name": "Desired",
        "type": "integer",
        "description": "replicas is the desired number of instances for the scaled object.",
    },
    {
        "name": "Available",
        "type": "integer",
        "description": "replicas is the actual number of observed instances of the scaled object.",
    },
    {"name": "Age", "type": "string"},
]


def table(
    resource: Resource | None, objects: list[KubeObject], *, with_objects: WithObjects = "Metadata", now: datetime
) -> KubeObject:
    """A Table of objects of a kind (None for Scales), without the metadata of their list."""
    columns = _SCALE_COLUMNS if resource is None else _columns(resource)
    rows = []
    for obj in rare_cells.in_order("" if resource is None else resource.plural, objects):
        row: KubeObject = {"cells": cells.scale_row(obj, now) if resource is None else cells_of(resource, obj, now)}
        if resource is not None and (conditions := _conditions(resource, obj)):
            row["conditions"] = conditions
        row["object"] = _shown(obj, with_objects)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": [_as_told(column) for column in columns],
        "rows": rows,
    }


def cells_of(resource: Resource, obj: KubeObject, now: datetime) -> cells.Cells:
    """What the columns show of an object."""
    if resource.custom is not None:
        columns = resource.custom.get("additionalPrinterColumns") or [AGE]
        return [obj["metadata"].get("name", ""), *(_custom_cell(column, obj, now) for column in columns)]
    printer = cells.PRINTERS.get(resource.plural) or rare_cells.PRINTERS.get(resource.plural)
    return _by_name(resource, obj, now) if printer is None else printer(obj, now)


def _shown(obj: KubeObject, with_objects: WithObjects) -> KubeObject | None:
    if with_objects == "None":
        return None
    if with_objects == "Object":
        return obj
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _as_told(column: Mapping[str, Any]) -> KubeObject:
    path = column.get("jsonPath")
    described = column.get("description") or ""
    if path is not None and not described and column is not AGE:
        described = f"Custom resource definition column (in JSONPath format): {path}"
    return {
        "name": column["name"],
        "type": column["type"],
        "format": column.get("format", ""),
        "description": described,
        "priority": column.get("priority", 0),
    }


def _columns(resource: Resource) -> list[Mapping[str, Any]]:
    if resource.custom is not None:
        return [NAME, *(resource.custom.get("additionalPrinterColumns") or [AGE])]
    return _builtin_columns()[f"{resource.group}/{resource.version}/{resource.plural}"]


def load() -> None:
    """Reads the columns of the built-in kinds, so that nobody has to wait for a file later. Blocks."""
    _builtin_columns()


@functools.cache
def _builtin_columns() -> dict[str, list[Mapping[str, Any]]]:
    document = resources.files(__package__).joinpath("data/tables.json").read_bytes()
    return {kind: entry["columns"] for entry in msgspec.json.decode(document) for kind in entry["kinds"]}


# Custom kinds.


def _custom_cell(column: Mapping[str, Any], obj: KubeObject, now: datetime) -> KubeValue:
    found, value = first_of(obj, column["jsonPath"])
    kind = column["type"]
    if not found:
        return None
    if kind == "string":
        return _printed(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "integer":
        return int(value) if is_number else None
    if kind == "number":
        return float(value) if is_number else None
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "date" and isinstance(value, str):
        return cells.since(value, now, otherwise="<invalid>")
    return None


def _printed(value: KubeValue) -> str:
    """As kubectl's JSONPath prints a value."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return go_number(value)
    return value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()


def _by_name(resource: Resource, obj: KubeObject, now: datetime) -> cells.Cells:
    """For kinds that few look at: name and age, and nothing in other columns."""
    known = {
        "Name": obj["metadata"].get("name", ""),
        "Age": cells.age(obj, now),
        "Created At": obj["metadata"].get("creationTimestamp"),
    }
    return [known.get(column["name"]) for column in _columns(resource)]


def _conditions(resource: Resource, obj: KubeObject) -> list[KubeObject]:
    phase = (obj.get("status") or {}).get("phase")
    if resource.group or resource.plural != "pods" or phase not in ("Succeeded", "Failed"):
        return []
    said = "The pod has completed successfully." if phase == "Succeeded" else "The pod failed."
    return [{"type": "Completed", "status": "True", "reason": phase, "message": said}]
