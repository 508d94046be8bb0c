"""Field sets brought in line with a schema that has changed since: what has become one value is owned as one value.

After `structured-merge-diff/typed/reconcile_schema`. What was one value and is none now is taken as if it had never
been one.
"""

from tidelog.engine.cluster.embedded import fieldsets
from tidelog.engine.cluster.embedded.managers import Managed
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.objects.managed_fields import SELF, FieldSet


def reconciled(managed: Managed, schema: Schema) -> Managed:
    """What managers own, as the schema is now."""
    return {manager: owned._replace(fields=_reconciled(owned.fields, schema)) for manager, owned in managed.items()}


def _reconciled(fields: FieldSet, schema: Schema) -> FieldSet:
    found: FieldSet = {}
    for text, node in fields.items():
        if text == SELF or not node or (len(node) == 1 and SELF in node):
            found[text] = node
            continue
        child = _child(text, schema)
        if child is None or _is_deduced(child):
            found[text] = node
        elif child.is_atomic:
            found[text] = {}
        else:
            found[text] = _reconciled(node, child)
    return found


def _child(text: str, schema: Schema) -> Schema | None:
    if text.startswith(fieldsets.field("")):
        return schema.merged_at(text[2:]) if schema.type in ("object", "") else None
    return schema.items if schema.type == "array" else None


def _is_deduced(schema: Schema) -> bool:
    """Whether nothing is known of what stands there: no schema has changed."""
    return schema.type != "array" and not schema.fields and schema.values is None and not schema.is_atomic
