"""Whether a body says to be of the kind that its path is about, in the words of the server where it does not."""

from typing import Any, Final

from tidelog.engine.cluster.embedded import json_errors
from tidelog.engine.cluster.embedded.registry import Registry, Resource
from tidelog.engine.cluster.embedded.statuses import StatusError, bad_request
from tidelog.engine.objects.kube import KubeObject

_SHOWN_MAX: Final = 30
"""Bytes of a body that are quoted."""
_STRUCT: Final = r'struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }'
_NO_VERSION: Final = "couldn't get version/kind; json parse error: "
_OTHER_SCHEMES: Final = frozenset({"apiextensions.k8s.io", "apiregistration.k8s.io"})
"""Groups of other servers than the one of the built-in kinds: what those know of each other's kinds is left out."""
_IN_EVERY_VERSION: Final = frozenset(
    {"CreateOptions", "DeleteOptions", "GetOptions", "ListOptions", "PatchOptions", "Status", "UpdateOptions"}
)


def unrecognized(resource: Resource, why: str, body: bytes) -> StatusError:
    """That a body is no object at all (apiserver, `transformDecodeError`)."""
    shown = body[:_SHOWN_MAX]
    text = shown.decode(errors="replace") if body[:1] == b"{" else shown.hex()
    summary = (text + " ..." * (len(body) > _SHOWN_MAX)) if body else "<empty>"
    return bad_request(f"the object provided is unrecognized (must be of type {resource.kind}): {why} ({summary})")


def no_json(resource: Resource, body: bytes) -> StatusError:
    """That a body is no JSON."""
    return unrecognized(resource, _NO_VERSION + json_errors.syntax_error(body), body)


def typed(resource: Resource, found: Any, body: bytes, registry: Registry) -> KubeObject:
    """The object in a body, of the kind of a resource; one of a built-in kind need not say of which it is.

    Raises:
        StatusError: when it is of another kind, or none.
    """
    if found is not None and not isinstance(found, dict):
        raise unrecognized(resource, _NO_VERSION + json_errors.mismatch(found, _STRUCT), body)
    obj: KubeObject = found or {}
    for name in ("apiVersion", "kind"):
        if not isinstance(obj.get(name), str | None):
            said = json_errors.mismatch(obj[name], "string").replace("value of", f"struct field .{name} of")
            raise unrecognized(resource, _NO_VERSION + said, body)
    version, kind = obj.get("apiVersion") or "", obj.get("kind") or ""
    if version.count("/") > 1:
        raise unrecognized(resource, f"unexpected GroupVersion string: {version}", body)
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
    raise _other_kind(resource, version or resource.api_version, kind or resource.kind, registry)


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


def _other_kind(resource: Resource, api_version: str, kind: str, registry: Registry) -> StatusError:
    group, _, version = api_version.rpartition("/")
    start = f'{kind} in version "{version}" cannot be handled as a {resource.kind}: '
    named = kind.removesuffix("List")
    found = registry.in_group(group, named)
    is_known = found is not None and found.custom is None and found.version == version
    if group not in _OTHER_SCHEMES and (is_known or (kind in _IN_EVERY_VERSION and not group)):
        place = resource.group.partition(".")[0] or "core"
        return bad_request(f"{start}converting ({version}.{kind}) to ({place}.{resource.kind}): unknown conversion")
    scheme = 'in scheme "pkg/runtime/scheme.go:111"'
    return bad_request(f'{start}no kind "{kind}" is registered for version "{api_version}" {scheme}')
