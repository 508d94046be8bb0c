"""The answers of a Kubernetes API when it refuses: `Status` objects (k8s.io/apimachinery, `api/errors`)."""

from collections.abc import Sequence
from typing import Any, Final

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.causes import INVALID, Cause
from tidelog.engine.cluster.embedded.registry import Resource
from tidelog.engine.objects.kube import KubeObject

CAUSES_MAX: Final = 100
_EVENTS: Final = "events.k8s.io"


class StatusError(Exception):
    """Raised for an answer that is none of success."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: KubeObject | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """`details` is that of the Status object; it is told where it is empty, too."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after_s = retry_after_s
        self.warnings: tuple[str, ...] = ()
        """What is told beside the refusal."""

    @property
    def status(self) -> KubeObject:
        """The object that is sent."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = dict(self.details)
        if self.retry_after_s is not None:
            status.setdefault("details", {})["retryAfterSeconds"] = self.retry_after_s
        return status | {"code": self.code}


def _of(resource: Resource, name: str, **more: Any) -> KubeObject:
    found = {"name": name, "group": resource.group, "kind": resource.plural, **more}
    return {key: value for key, value in found.items() if value}


def not_found(resource: Resource, name: str) -> StatusError:
    """There is no such object."""
    return StatusError(404, "NotFound", f'{resource.qualified} "{name}" not found', details=_of(resource, name))


class NoPathError(StatusError):
    """Nothing is served under a path."""


def no_path() -> NoPathError:
    """Nothing is served under the path."""
    message = "the server could not find the requested resource"
    return NoPathError(404, "NotFound", message, details={})


def already_exists(resource: Resource, name: str, *, is_going: bool = False) -> StatusError:
    """An object to be made is there; `is_going` when it is being deleted."""
    message = f'{resource.qualified} "{name}" already exists'
    if is_going:
        message = f"object is being deleted: {message}"
    return StatusError(409, "AlreadyExists", message, details=_of(resource, name))


def name_taken(resource: Resource, name: str) -> StatusError:
    """An object is there that was to be made with a name of the server's choice, or one that could have been."""
    why = "the server was not able to generate a unique name for the object"
    message = f'{resource.qualified} "{name}" already exists, {why}'
    return StatusError(409, "AlreadyExists", message, details=_of(resource, name), retry_after_s=1)


def conflict(resource: Resource, name: str, why: str) -> StatusError:
    """What must hold of the object does not."""
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return StatusError(409, "Conflict", message, details=_of(resource, name))


MODIFIED: Final = "the object has been modified; please apply your changes to the latest version and try again"


def invalid(resource: Resource, name: str, found: Sequence[Cause]) -> StatusError:
    """The object breaks the rules of its kind."""
    group = "" if resource.group == _EVENTS else resource.group  # the server holds its events as those of v1
    return invalid_kind(group, resource.kind, name, found)


def invalid_kind(group: str, kind: str, name: str, found: Sequence[Cause]) -> StatusError:
    """As `invalid`, of a kind that is no resource by itself."""
    # Causes are told as often as they were found, in the message once.
    shown = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in found[:CAUSES_MAX]))
    text = shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
    qualified = f"{kind}.{group}" if group else kind
    details: KubeObject = {"name": name, "group": group, "kind": kind}
    told = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in found[:CAUSES_MAX]]
    details = {key: value for key, value in details.items() if value} | {"causes": told}
    return StatusError(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details=details)


def no_version(resource: Resource, name: str) -> StatusError:
    """An object to be put in the place of another, of a kind where the version of that must be said."""
    cause = Cause(INVALID, "metadata.resourceVersion", "Invalid value: 0: must be specified for an update")
    return invalid_kind(resource.group, resource.plural, name, [cause])


def precondition(resource: Resource, name: str, field: str, wanted: str, found: str) -> StatusError:
    """An object to be deleted that is another than was meant; here the server names the kind."""
    qualified = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    what = {"UID": "deleted and then recreated", "ResourceVersion": "modified"}[field]
    message = (
        f'Operation cannot be fulfilled on {qualified} "{name}": the {field} in the precondition ({wanted}) does not '
        f"match the {field} in record ({found}). The object might have been {what}"
    )
    details = {"name": name, "group": resource.group, "kind": resource.kind}
    return StatusError(409, "Conflict", message, details={key: value for key, value in details.items() if value})


def broken_patch(patched: str, detail: str) -> StatusError:
    """A patch that leaves what is no object of the kind."""
    return invalid_kind("", "", "", [causes.invalid("patch", patched, detail)])


def other_uid(resource: Resource, key: str, name: str, wanted: str, found: str) -> StatusError:
    """An object to be put in the place of another than is there, which is kept under `key`."""
    why = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
    said = f"Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    return conflict(resource, name, why + said)


def bad_request(message: str) -> StatusError:
    """The request makes no sense."""
    return StatusError(400, "BadRequest", message)


def forbidden(resource: Resource, name: str, why: str, *, causes: Sequence[KubeObject] = ()) -> StatusError:
    """Not allowed, by whom or what `why` says."""
    named = f'{resource.qualified} "{name}" is forbidden: ' if name else f"{resource.qualified} is forbidden: "
    return StatusError(403, "Forbidden", named + why, details=_of(resource, name, causes=list(causes)))


def unasked(group: str, plural: str, name: str, why: str) -> StatusError:
    """What may not be asked for, whether there is such a kind or not; `plural` is empty for what is no resource."""
    qualified = f"{plural}.{group}" if group else plural
    shown = f'{qualified} "{name}"' if name else qualified
    details = {"name": name, "group": group, "kind": plural}
    said = f"{shown} is forbidden: {why}" if plural else f"forbidden: {why}"
    return StatusError(403, "Forbidden", said, details={key: value for key, value in details.items() if value})


def gone(message: str) -> StatusError:
    """A version that is no longer known."""
    return StatusError(410, "Expired", message)


def unsupported_media_type(got: str, accepted: Sequence[str]) -> StatusError:
    """A body of another type than the path takes."""
    message = (
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
        if got
        else "the body has no Content-Type"
    )
    return StatusError(415, "UnsupportedMediaType", message)


def not_allowed() -> StatusError:
    """A verb that the resource does not know."""
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message, details={})


def runs_nothing(resource: Resource, part: str) -> StatusError:
    """A subresource that only what runs could answer."""
    message = f"{resource.qualified}/{part}: an embedded cluster runs nothing, so that nobody is there to answer"
    return StatusError(405, "MethodNotAllowed", message, details={})


def not_yet(version: int, current: int) -> StatusError:
    """A version of the future is asked for. Clients know it by its cause."""
    told = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Timeout: Too large resource version: {version}, current: {current}"
    return StatusError(504, "Timeout", message, details={"causes": told, "retryAfterSeconds": 1})


def too_large(limit: int) -> StatusError:
    """A body beyond the limit."""
    message = f"Request entity too large: limit is {limit}"
    return StatusError(413, "RequestEntityTooLarge", message)


def unauthorized() -> StatusError:
    """Nobody that is known asks."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def internal(message: str) -> StatusError:
    """The server's own fault, or what it says of an object that does not fit its schema."""
    return StatusError(500, "", message)
