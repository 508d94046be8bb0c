"""`tidelog get object`: an object as it was last seen before a moment, with its status."""

import msgspec

from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import Subject
from tidelog.events.projections import ACTUAL


class UnseenError(Exception):
    """Raised for an object whose content the log does not show; the message says why."""


def object_of(archive: Archive, subject: Subject) -> KubeObject:
    """An object as the log knew it at the archive's moment, less what the server notes on who wrote which field.

    Raises:
        UnseenError: when it was not there, was never seen, or is secret.
    """
    row = archive.row(ACTUAL, subject.stream)
    if row is None:
        raise UnseenError(f"{subject} was not there, or nobody saw it, at position {archive.position}")
    if row.state is None:
        raise UnseenError(f"{subject} was not seen yet at position {archive.position}")
    if row.state.secret:
        raise UnseenError(f"{subject} is secret: `tidelog log body {row.state.digest} --reveal` shows it")
    data = archive.body(row.state)
    if data is None:
        raise UnseenError(f"the log has no body {row.state.digest}, the state of {subject}")
    seen: KubeObject = msgspec.json.decode(data)
    metadata = {name: value for name, value in seen["metadata"].items() if name != "managedFields"}
    obj = {**seen, "metadata": {**metadata, "uid": row.uid, "resourceVersion": row.resource_version}}
    status = archive.body(row.status)
    return obj if status is None else {**obj, "status": msgspec.json.decode(status)}
