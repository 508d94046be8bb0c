"""What was sent, read as an object of its kind, or why it is none; and what is to be warned of."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from tidelog.engine.cluster.embedded import custom, fieldsets
from tidelog.engine.cluster.embedded.body_types import require_patched
from tidelog.engine.cluster.embedded.decoding import Conformed, MismatchError
from tidelog.engine.cluster.embedded.patches import PatchError, json_patch, merge_patch, strategic_merge_patch
from tidelog.engine.cluster.embedded.registry import Registry, Resource, schema_of_type
from tidelog.engine.cluster.embedded.requests import Options, Target
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.cluster.embedded.statuses import StatusError, bad_request, broken_patch
from tidelog.engine.objects.kube import KubeObject


@contextmanager
def warned(warnings: Sequence[str]) -> Iterator[None]:
    """Warnings are told of what is refused, too."""
    try:
        yield
    except StatusError as error:
        error.warnings = (*warnings, *error.warnings)
        raise


def read(resource: Resource, target: Target, obj: KubeObject, options: Options) -> tuple[KubeObject, list[str]]:
    """An object that was sent, with the fields of its kind, and what is to be said about the others."""
    _require_type(resource, obj)
    found, told = conformed(resource, obj, options)
    with warned(told):
        require_place(resource, target, found)
    return found, told


def read_patched(
    target: Target, obj: KubeObject, how: str, options: Options, registry: Registry
) -> tuple[KubeObject, list[str]]:
    """As `read`, of what a patch makes: the patch is what is told to be wrong."""
    text = fieldsets.go_json(obj)
    other_kind = require_patched(target.resource, obj, how, registry)
    try:
        found, told = conformed(target.resource, obj, msgspec.structs.replace(options, strict=False, warns=True))
    except MismatchError as error:
        raise broken_patch(text, error.converted if how == "strategic" else error.detail) from None
    if told and options.strict:
        raise broken_patch(text, f"strict decoding error: {', '.join(told)}")
    told = told if options.warns and other_kind is None else []
    with warned(told):
        require_place(target.resource, target, found)
        # A status alone is taken from what a patch makes, whatever that says to be.
        if other_kind is not None and target.subresource is None:
            raise other_kind
    return found, told


def conformed(resource: Resource, obj: KubeObject, options: Options) -> tuple[KubeObject, list[str]]:
    """An object with the fields of its kind, and what is to be said about the others.

    Raises:
        StatusError: when there are others and none may be, or a value has another type than its field.
    """
    if resource.custom is not None:
        if isinstance(obj.get("metadata"), dict):
            _check_metadata(resource, obj["metadata"])
        dropped = custom.prune(resource, obj)
        found = obj
    else:
        as_typed = Conformed(resource.kind, resource.version)
        found = as_typed.of(obj, resource.schema)
        dropped = as_typed.dropped
    found.setdefault("metadata", {})
    told = [f'unknown field "{path}"' for path in dropped]
    if told and options.strict:
        raise bad_request(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            f"strict decoding error: {', '.join(told)}"
        )
    return found, told if options.warns else []


def require_place(resource: Resource, target: Target, obj: KubeObject) -> None:
    """Whether an object says of itself what the path says; what it leaves out is filled in."""
    _require_type(resource, obj)
    metadata = obj.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise bad_request(f'{resource.kind} in version "{resource.version}" cannot be handled: metadata is no map')
    if not resource.namespaced:
        metadata.pop("namespace", None)
    elif metadata.setdefault("namespace", target.namespace) != target.namespace:
        if metadata["namespace"]:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = target.namespace
    if target.name and metadata.setdefault("name", target.name) != target.name:
        raise bad_request(
            f"the name of the object ({metadata['name']}) does not match the name on the URL ({target.name})"
        )


def _require_type(resource: Resource, obj: KubeObject) -> None:
    said = obj.setdefault("apiVersion", resource.api_version), obj.setdefault("kind", resource.kind)
    if said[0] != resource.api_version:
        raise bad_request(
            f"the API version in the data ({said[0]}) does not match the expected API version ({resource.api_version})"
        )
    if said[1] != resource.kind:
        raise bad_request(f"the kind in the data ({said[1]}) does not match the expected kind ({resource.kind})")


def patched(schema: Schema, live: KubeObject, patch: Any, how: str) -> KubeObject:
    """An object with a patch.

    Raises:
        StatusError: when the patch is none, or does not fit.
    """
    try:
        match how:
            case "json":
                changed = json_patch(live, patch)
            case "strategic":
                if not isinstance(patch, dict):
                    raise bad_request("the patch is no JSON object")
                changed = strategic_merge_patch(live, patch, schema)
            case _:
                changed = merge_patch(live, patch)
    except PatchError as error:
        if error.code == 422:  # what is wrong with it the server keeps to itself
            raise StatusError(422, "Invalid", error.message, details={}) from None
        if error.code == 413:
            raise StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {error.message}") from None
        raise StatusError(error.code, "" if error.code == 500 else "BadRequest", str(error)) from None
    if not isinstance(changed.get("metadata"), dict):
        raise bad_request("the patch leaves no object")
    return changed


def _check_metadata(resource: Resource, metadata: KubeObject) -> None:
    Conformed(resource.kind, resource.version).check_metadata(metadata, schema_of_type(custom.OBJECT_META))
