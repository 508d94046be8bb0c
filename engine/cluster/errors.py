"""What a cluster may answer but for success. Every error is a sentence for people; `status` has what the server said.

ClusterError
├── KubeconfigError        no request can be made: what to correct in which file
│   └── NoClusterError     no kubeconfig is there at all
├── UnreachableError       no answer, and surely nothing was changed
├── OutcomeUnknown         no answer, and it may have been carried out: look before doing it again
├── UnauthorizedError      401: the credentials are not taken
├── ForbiddenError         403: not allowed, or an admission said no
├── NotFoundError          404
│   └── UnknownKindError   the cluster does not serve this kind
├── AlreadyExistsError     409 on create
├── ConflictError          409: another manager owns fields (`conflicts`), or another version is there
├── GoneError              410: the version is no longer known
├── InvalidError           422: the object is not valid; `causes` has the fields
├── BadRequestError        any other 4xx
├── TooManyRequestsError   429, after some tries, or at once where a long wait is asked for
└── ServerError            5xx: the server, or a webhook that it asks, does not work
"""

import re
from typing import Any, ClassVar

import msgspec
from msgspec import Struct

from tidelog.events.names import ObjectId, ObjectKey
from tidelog.events.typed import converter, decoder

TEXT_MAX = 2_000
"""Characters of a server's answer that are repeated in an error."""
CAUSES_SHOWN = 5


class Cause(Struct, frozen=True):
    """One thing that the server found; `field` is a path such as `spec.replicas`, or empty."""

    field: str = ""
    reason: str = ""
    message: str = ""


class Status(Struct, frozen=True):
    """What a server's Status object said. `code` is the HTTP status, 0 when no answer came."""

    code: int = 0
    reason: str = ""
    message: str = ""
    causes: tuple[Cause, ...] = ()
    retry_after_s: float | None = None


class ClusterError(Exception):
    """The root; what is raised is one of the classes below."""

    def __init__(self, message: str, status: Status = Status(), said: str = "") -> None:  # noqa: B008 - immutable
        super().__init__(message)
        self.status = status
        self.object: ObjectId | None = None
        """What was asked about, where whoever asked has said so."""
        self._said = said

    @property
    def said(self) -> str:
        """What is wrong, without what was asked for: for a sentence that names the object itself."""
        return self._said or _ASKED.sub("", str(self), count=1)

    @property
    def reason(self) -> str:
        """The server's word for what is wrong; empty where it has none, or no answer came."""
        # What the server calls an error of its own and is the object's is InvalidError all the same.
        return "Invalid" if isinstance(self, InvalidError) else self.status.reason


class KubeconfigError(ClusterError):
    """Raised when no request can be made at all; names the file, the entry and what to do."""


class NoClusterError(KubeconfigError):
    """Raised when there is no kubeconfig anywhere, so that nothing says which cluster is meant."""


class UnreachableError(ClusterError):
    """Raised when no answer came and nothing was changed: nothing was sent, or it only asked."""


class OutcomeUnknown(ClusterError):
    """Raised when a change was sent and no answer tells whether it was made."""


class UnauthorizedError(ClusterError):
    """Raised when the server does not take the credentials."""


class ForbiddenError(ClusterError):
    """Raised when the user lacks the right, or an admission plugin or webhook refused."""


class NotFoundError(ClusterError):
    """Raised when the object, or the namespace that it should be in, is not there."""


class UnknownKindError(NotFoundError):
    """Raised when the cluster serves no such kind: often a CRD that is not there yet."""


class AlreadyExistsError(ClusterError):
    """Raised when an object to be created is there."""


class FieldConflict(Struct, frozen=True):
    """A field that another manager owns; `field` is a path such as `.spec.replicas`."""

    manager: str
    field: str


class ConflictError(ClusterError):
    """Raised when a precondition does not hold or other managers own fields; `conflicts` are those."""

    _manager: ClassVar[re.Pattern[str]] = re.compile(r'conflict with "((?:[^"\\]|\\.)*)"')

    @property
    def conflicts(self) -> tuple[FieldConflict, ...]:
        """What was to be changed, and who owns it; empty when that was not the reason."""
        found = ((self._manager.search(cause.message), cause.field) for cause in self.status.causes)
        return tuple(FieldConflict(match[1], field) for match, field in found if match)

    @property
    def managers(self) -> tuple[str, ...]:
        """The managers that own what was to be changed, each once."""
        return tuple(dict.fromkeys(conflict.manager for conflict in self.conflicts))


class GoneError(ClusterError):
    """Raised when the server has forgotten the version that a list or watch was to go on from."""


class InvalidError(ClusterError):
    """Raised when the object breaks the rules of its kind; `causes` names the fields."""

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What the server found wrong, and where."""
        return self.status.causes


class BadRequestError(ClusterError):
    """Raised when the server cannot make sense of the request, or the object cannot be meant."""


class TooManyRequestsError(ClusterError):
    """Raised when the server is busy and stayed so, or is about to; `retry_after_s` is its wish, if it had one."""

    @property
    def retry_after_s(self) -> float | None:
        """Seconds to wait before the next try."""
        return self.status.retry_after_s


class ServerError(ClusterError):
    """Raised when the server failed, or a webhook that it had to ask."""


PASSING: tuple[type[ClusterError], ...] = (TooManyRequestsError, ServerError, UnreachableError, OutcomeUnknown)
"""Errors of the surroundings, which what was asked for does not explain."""

_CONFLICT = "it is in conflict"
_BY_CODE: dict[int, tuple[type[ClusterError], str]] = {
    401: (UnauthorizedError, "the credentials are not accepted"),
    403: (ForbiddenError, "it is not allowed"),
    404: (NotFoundError, "it is not there"),
    410: (GoneError, "the server no longer knows that version"),
    422: (InvalidError, "it is not valid"),
    429: (TooManyRequestsError, "the server is busy"),
}
_NOT_TYPED = re.compile(r"failed to create typed patch object \(.*?\): (?:errors:\s*)?(.*)", re.DOTALL)
"""What a server-side apply answers, with HTTP 500, when the object does not fit the schema: the object's fault."""
_NOT_CONVERTED = re.compile(r"unable to convert unstructured object to [^:]*: (.*)", re.DOTALL)
"""The same of what fits the schema, and not the server's own type: an object where a number or text may stand, say."""
_NAMES_OBJECT = re.compile(
    r'[\w.-]+ "[^"]*" is (?:invalid|forbidden): |Operation cannot be fulfilled on [\w.-]+ "[^"]*": '
)
"""How the server's messages begin that name the object."""
_ASKED = re.compile(r"cannot .*?: ")
"""How an error begins that says what was asked for; no name of an object holds a blank."""
_NOT_KNOWN = re.compile(r"etcdserver: (?:request timed out|leader changed)|context deadline exceeded")


def error_of(what: str, code: int, body: bytes, retry_after: str | None, *, changes: bool) -> ClusterError:
    """The error for an answer that is none of success.

    Args:
        what: what was asked for, such as `apply Deployment app in namespace web`.
        code: the HTTP status.
        body: what came with it, a Status object or anything else.
        retry_after: that header.
        changes: whether the request would have changed something.
    """
    return error_from(what, status_of(code, body, retry_after), changes=changes)


def error_from(what: str, status: Status, *, changes: bool = False) -> ClusterError:
    """The error that a Status object stands for."""
    kind, sentence = _class_of(status)
    if changes and _may_have_happened(status):
        kind, sentence = OutcomeUnknown, "the server does not know whether it was done"
    return kind(_text(what, status, sentence), status, _said(kind, status, sentence))


def failure_of(key: ObjectKey, doing: str, error: Exception) -> str:
    """What went wrong with an object, in a sentence that names it once, in the words of Flux.

    As in `Deployment/shop/web dry-run failed (Invalid): spec.replicas: must be a number`. Of errors that are none of a
    cluster: what they say.
    """
    if not isinstance(error, ClusterError):
        return str(error)
    reason = f" ({error.reason})" if error.reason else ""
    return f"{key.shown} {doing} failed{reason}: {error.said}"


def status_of(code: int, body: bytes, retry_after: str | None = None) -> Status:
    """What a body says; one that is no Status object is quoted as the message."""
    try:
        wire = _decode(body)
    except msgspec.DecodeError:
        return Status(code, "", " ".join(body[:TEXT_MAX].decode(errors="replace").split()), (), _seconds(retry_after))
    return _status(wire, code, retry_after)


def status_in(obj: dict[str, Any]) -> Status:
    """What a Status object that came in a stream says."""
    try:
        return _status(converter(_WireStatus)(obj), 0, None)
    except msgspec.ValidationError:
        return Status(500, "", "the server sent an error that is no Status object")


class _WireCause(Struct):
    field: str = ""
    reason: str = ""
    message: str = ""


class _WireDetails(Struct, rename="camel"):
    causes: list[_WireCause] | None = None
    retry_after_seconds: float | None = None


class _WireStatus(Struct):
    kind: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    details: _WireDetails | None = None


_decode = decoder(_WireStatus)


def _status(wire: _WireStatus, code: int, retry_after: str | None) -> Status:
    details = wire.details or _WireDetails()
    causes = tuple(Cause(cause.field, cause.reason, cause.message) for cause in details.causes or ())
    typed = _NOT_TYPED.match(wire.message)
    if typed and not causes:
        causes = tuple(map(_typed_cause, typed[1].strip().splitlines()))
    seconds = _seconds(retry_after)
    if seconds is None and details.retry_after_seconds:
        seconds = float(details.retry_after_seconds)
    return Status(code or wire.code or 500, wire.reason, wire.message[:TEXT_MAX], causes, seconds)


def _typed_cause(line: str) -> Cause:
    """Of `.spec.replicas: expected numeric, got string`; keys such as `[name="a"]` may hold a colon."""
    field, parted, message = line.strip().partition(": ")
    return Cause(field.removeprefix("."), "FieldValueInvalid", message) if parted else Cause("", "", line.strip())


def _seconds(header: str | None) -> float | None:
    """Of `Retry-After`; Kubernetes writes seconds, a proxy may write a date, which counts as no wish."""
    return float(header) if header and header.isdecimal() and len(header) < 7 else None


def _class_of(status: Status) -> tuple[type[ClusterError], str]:
    if status.code == 409:
        exists = status.reason == "AlreadyExists"
        return (AlreadyExistsError, "it is there already") if exists else (ConflictError, _CONFLICT)
    if status.code == 422 and status.causes and all(cause.field == "metadata.uid" for cause in status.causes):
        # An apply to another object of the same name: a precondition, told as an immutable field.
        return ConflictError, "another object of this name is there"
    if status.code == 500 and (_NOT_TYPED.match(status.message) or _NOT_CONVERTED.search(status.message)):
        return _BY_CODE[422]
    if status.reason == "Expired":
        return _BY_CODE[410]
    if status.code in _BY_CODE:
        return _BY_CODE[status.code]
    if 400 <= status.code < 500:
        return BadRequestError, "the server does not accept it"
    return ServerError, "the server failed"


def _may_have_happened(status: Status) -> bool:
    """Time ran out behind the server: in etcd, or in a proxy before it."""
    if status.code == 504 or (status.code == 502 and not status.reason):
        return True
    return status.code == 500 and bool(_NOT_KNOWN.search(status.message))


def _text(what: str, status: Status, sentence: str) -> str:
    text = f"cannot {what}: {sentence}"
    # Of what the server calls an error of its own and is the object's, the number would send people the wrong way.
    if (status.code, sentence) != (500, _BY_CODE[422][1]):
        text += f" (HTTP {status.code} {status.reason}".rstrip() + ")"
    if status.message:
        text += f": {status.message}"
    elif status.causes:
        text += f": {_causes(status)}"
    return text + _wish(status)


def _said(kind: type[ClusterError], status: Status, sentence: str) -> str:
    """As `_text`, of the object's fault alone: the fields that are wrong, or what the server says beside its name."""
    if kind is ConflictError and sentence != _CONFLICT:
        return sentence
    fields = any(cause.field for cause in status.causes)
    told = _causes(status) if fields else _NAMES_OBJECT.sub("", status.message, count=1)
    return (told or sentence) + _wish(status)


def _causes(status: Status) -> str:
    shown = [f"{cause.field}: {cause.message}".removeprefix(": ") for cause in status.causes[:CAUSES_SHOWN]]
    more = f" and {len(status.causes) - len(shown)} more" if len(status.causes) > len(shown) else ""
    return "; ".join(shown) + more


def _wish(status: Status) -> str:
    return f"; it asks to be left alone for {status.retry_after_s:g} s" if status.retry_after_s else ""
