"""Whether a body, or what a patch makes, is of the kind that its path is about; in the server's words where not."""

from typing import Any, Final

from tidelog.engine.cluster.embedded import causes, json_errors
from tidelog.engine.cluster.embedded.fieldsets import go_json
from tidelog.engine.cluster.embedded.registry import Registry, Resource
from tidelog.engine.cluster.embedded.statuses import StatusError, bad_request, broken_patch, invalid_kind
from tidelog.engine.objects.kube import KubeObject

_SHOWN_MAX: Final = 30
"""Bytes of a body that are quoted."""
_STRUCT: Final = r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
NO_VERSION: Final = "couldn't get version/kind; json parse error: "
_OTHER_SCHEMES: Final = frozenset({"apiextensions.k8s.io", "apiregistration.k8s.io"})
"""Groups of other servers than the one of the built-in kinds: what those know of each other's kinds is left out."""
_SCHEME: Final = 'in scheme "pkg/runtime/scheme.go:111"'
_DELETE_OPTIONS: Final = "DeleteOptions"
_IN_EVERY_VERSION: Final = frozenset(
    {"CreateOptions", _DELETE_OPTIONS, "GetOptions", "ListOptions", "PatchOptions", "Status", "UpdateOptions"}
)


def unrecognized(resource: Resource, why: str, body: bytes) -> StatusError:
    """That a body is no object at all (apiserver, `transformDecodeError`)."""
    shown = body[:_SHOWN_MAX]
    text = shown.decode(errors="replace") if body[:1] == b"{" else shown.hex()
    summary = (text + " ..." * (len(body) > _SHOWN_MAX)) if body else "<empty>"
    return bad_request(f"the object provided is unrecognized (must be of type {resource.kind}): {why} ({summary})")


def no_json(resource: Resource, body: bytes) -> StatusError:
    """That a body is no JSON."""
    return unrecognized(resource, NO_VERSION + json_errors.syntax_error(body), body)


def typed(resource: Resource, found: Any, body: bytes, registry: Registry) -> KubeObject:
    """The object in a body, of the kind of a resource; one of a built-in kind need not say of which it is.

    Raises:
        StatusError: when it is of another kind, or none.
    """
    if (wrong := _unreadable(found)) is not None:
        raise unrecognized(resource, wrong, body)
    obj: KubeObject = found or {}
    version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    if resource.custom is not None:
        if not kind:
            text = body.decode(errors="replace")
            raise unrecognized(resource, f"Object 'Kind' is missing in '{text}'", body)
        if not version:
            expected = f"the expected API version ({resource.api_version})"
            raise bad_request(f"the API version in the data () does not match {expected}")
        return obj
    for name in ("apiVersion", "kind"):
        if not obj.get(name):
            obj.pop(name, None)
    if (version or resource.api_version, kind or resource.kind) == (resource.api_version, resource.kind):
        return obj
    if resource.group in _OTHER_SCHEMES:
        return obj
    version, kind = version or resource.api_version, kind or resource.kind
    start = f'{kind} in version "{version.rpartition("/")[2]}" cannot be handled as a {resource.kind}: '
    raise bad_request(start + _no_conversion(resource, version, kind, registry))


def _unreadable(found: Any) -> str | None:
    """Why nobody can tell of which kind a document is; None where it can be told."""
    if found is not None and not isinstance(found, dict):
        return NO_VERSION + json_errors.mismatch(found, _STRUCT)
    for name in ("apiVersion", "kind"):
        said = (found or {}).get(name)
        if not isinstance(said, str | None):
            return NO_VERSION + json_errors.mismatch(said, "string").replace("value of", f"struct field .{name} of")
    version = (found or {}).get("apiVersion") or ""
    return f"unexpected GroupVersion string: {version}" if version.count("/") > 1 else None


def require_deletion(found: Any) -> KubeObject:
    """The options in the body of a deletion.

    Raises:
        StatusError: when it is something else.
    """
    if (wrong := _unreadable(found)) is not None:
        raise bad_request(wrong)
    obj: KubeObject = found or {}
    version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    if kind in ("", _DELETE_OPTIONS):
        return obj
    if kind in _IN_EVERY_VERSION:
        raise bad_request(f"converting (v1.{kind}) to (v1.{_DELETE_OPTIONS}): unknown conversion")
    raise bad_request(f'no kind "{kind}" is registered for version "{version or "v1"}" {_SCHEME}')


def require_patched(resource: Resource, changed: KubeObject, how: str, registry: Registry) -> StatusError | None:
    """Whether what a patch makes is of the kind of a resource; what it leaves out of that is filled in.

    Gives what is to be said of a custom object once it is known to be well formed.

    Raises:
        StatusError: when it is not.
    """
    said = tuple("" if changed.get(name) is None else changed[name] for name in ("apiVersion", "kind"))
    own = resource.api_version, resource.kind
    if how == "strategic" and all(isinstance(one, str) for one in said):
        said = own  # as the real one, which has patched a value of the kind's own type
    if said != own and (wrong := _unreadable(changed)) is not None:
        raise broken_patch(go_json(changed), wrong)
    text = "" if said == own else go_json(changed)
    if resource.custom is not None and not said[1]:
        raise broken_patch(text, f"Object 'Kind' is missing in '{text}'")
    if resource.custom is not None and not said[0]:
        why = "Object 'apiVersion' is missing in 'object has no apiVersion field'"
        raise StatusError(
            500, "InternalError", f"Internal error occurred: {why}", details={"causes": [{"message": why}]}
        )
    changed["apiVersion"], changed["kind"] = own
    if resource.custom is not None:
        return None if said == own else _of_other_kind(resource, changed, *said)
    if not said[0]:
        raise _nameless(changed)
    said = said[0], said[1] or own[1]
    if said != own:
        raise broken_patch(text, _no_conversion(resource, *said, registry))
    return None


def _of_other_kind(resource: Resource, changed: KubeObject, version: str, kind: str) -> StatusError:
    pairs = (("kind", kind, resource.kind), ("apiVersion", version, resource.api_version))
    wrong = [causes.invalid(field, said, f"must be {own}") for field, said, own in pairs if said != own]
    metadata = changed.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    return invalid_kind(version.rpartition("/")[0], kind, name, wrong)


def _nameless(changed: KubeObject) -> StatusError:
    """What comes of an object of no version: the server takes it for one of its own, where no field is named so."""
    metadata = changed.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    error = bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    error.warnings = tuple(f'unknown field "{field}"' for field in sorted(changed.keys() - {"apiVersion", "kind"}))
    return error


def require_applied(resource: Resource, applied: KubeObject) -> None:
    """Whether what is applied says to be of the kind of a resource; here nothing may be left out.

    Raises:
        StatusError: when it does not.
    """
    said = [one if isinstance(one := applied.get(name), str) else "" for name in ("apiVersion", "kind")]
    if tuple(said) == (resource.api_version, resource.kind):
        return
    group, _, version = said[0].rpartition("/")
    kind = "" if "/" in group else said[1]
    where = "/" if "/" in group else f"{group}/{version}"
    raise bad_request(f"invalid object type: {where}, Kind={kind}")


def _no_conversion(resource: Resource, api_version: str, kind: str, registry: Registry) -> str:
    """Why an object of another kind cannot be one of this."""
    group, _, version = api_version.rpartition("/")
    found = registry.of_kind(group, version, kind.removesuffix("List"))
    is_known = found is not None and found.custom is None
    is_known = is_known or (kind in _IN_EVERY_VERSION and not group)
    if is_known and not {group, resource.group} & _OTHER_SCHEMES:
        place = resource.group.partition(".")[0] or "core"
        return f"converting ({version}.{kind}) to ({place}.{resource.kind}): unknown conversion"
    return f'no kind "{kind}" is registered for version "{api_version}" {_SCHEME}'
