"""What the server makes of an object of a kind before it keeps it, and whether it may be so: defaults and checks.

What Kubernetes calls the strategy of a kind, for built-in kinds, definitions and custom kinds alike.
"""

from typing import Final

from tidelog.engine.cluster.embedded import builtin, custom, definitions, rules
from tidelog.engine.cluster.embedded.builtin import metadata_problems
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.statuses import invalid
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import Judge

DEFINITIONS: Final[Place] = ("apiextensions.k8s.io", "customresourcedefinitions")
_ONE_SCHEMA: Final = "spec.validation.openAPIV3Schema"
"""What the server calls the schema of a definition whose versions share it."""


class Strategies:
    """Those of all kinds."""

    def __init__(self, judge: Judge) -> None:
        """`judge` evaluates rules in CEL, which is all that is ever awaited."""
        self._judge = judge

    def fill_in(self, resource: Resource, obj: KubeObject, *, applied: bool = False) -> None:
        """Sets what an object leaves to the server, which decodes no more what an apply makes: nulls stay."""
        if resource.custom is not None:
            if applied:
                custom.set_default_values(obj, custom.schema_of(resource))
            else:
                custom.set_defaults(resource, obj)
            return
        builtin.set_defaults(resource.group_kind, obj)
        if resource.place == DEFINITIONS:
            definitions.set_defaults(obj)

    async def prepared(self, resource: Resource, obj: KubeObject) -> KubeObject:
        """A new object, filled in, as it is to be kept.

        Raises:
            StatusError: when it is not valid.
        """
        kind = resource.group_kind
        if resource.custom is not None:
            custom.prepare_create(resource, obj)
            causes = metadata_problems.problems(kind, obj, is_custom=True) + custom.problems(resource, obj, None)
            if not custom.is_too_wrong(causes):
                causes += await rules.broken_rules(resource, obj, None, self._judge)
        else:
            builtin.prepare_create(kind, obj)
            causes = builtin.problems_on_create(kind, obj)
            if resource.place == DEFINITIONS:
                definitions.prepare_create(obj)
                causes = causes or await self._definition_problems(obj, None)
        if causes:
            raise invalid(resource, obj["metadata"].get("name", ""), causes)
        return _read_again(resource, obj)

    async def changed(self, resource: Resource, new: KubeObject, live: KubeObject, subresource: str) -> KubeObject:
        """A changed object as it is to be kept.

        Raises:
            StatusError: when it may not be so.
        """
        kind = resource.group_kind
        if resource.custom is not None:
            prepare = custom.prepare_status_update if subresource == "status" else custom.prepare_update
            prepare(resource, new, live)
            causes = metadata_problems.problems_of_update(kind, new, live, is_custom=True)
            causes += custom.problems(resource, new, live, subresource=subresource)
            if not custom.is_too_wrong(causes):
                causes += await rules.broken_rules(resource, new, live, self._judge)
        elif subresource == "status":
            builtin.prepare_status_update(kind, new, live)
            causes = builtin.problems_on_status_update(kind, new, live)
        else:
            builtin.prepare_update(kind, new, live)
            causes = builtin.problems_on_update(kind, new, live)
            if resource.place == DEFINITIONS:
                definitions.prepare_update(new, live)
                causes = causes or await self._definition_problems(new, live)
        if causes:
            raise invalid(resource, live["metadata"]["name"], causes)
        return _read_again(resource, new)

    async def _definition_problems(self, definition: KubeObject, live: KubeObject | None) -> list[Cause]:
        """What is wrong with a definition; rules in CEL are compiled once the rest is right."""
        causes = definitions.problems(definition, live)
        versions = definition["spec"].get("versions") or () if not causes else ()
        schemas = [(version.get("schema") or {}).get("openAPIV3Schema") or {} for version in versions]
        if schemas and all(raw == schemas[0] for raw in schemas):
            return await rules.mistakes_in_rules(schemas[0], _ONE_SCHEMA, self._judge)
        for number, raw in enumerate(schemas):
            path = f"spec.versions[{number}].schema.openAPIV3Schema"
            causes += await rules.mistakes_in_rules(raw, path, self._judge)
        return causes


def _read_again(resource: Resource, obj: KubeObject) -> KubeObject:
    """With the default of a status that was taken away: the server sets defaults whenever it reads an object."""
    if resource.custom is not None and "status" not in obj:
        custom.set_default_values(obj, custom.schema_of(resource))
    return obj
