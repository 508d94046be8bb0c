"""`tidelog get`: sources and targets, with the columns of `flux get` (Flux contract CL-006)."""

from collections.abc import Iterator
from typing import Literal, TypeAlias

import msgspec

from tidelog.engine.kinds.conditions import ready_reason
from tidelog.engine.kinds.meta import HELM_RELEASE, SOURCE_GROUP
from tidelog.engine.views.archive import Archive
from tidelog.engine.views.names import Subject, subject_of
from tidelog.engine.views.pins import PinTold, pin_of
from tidelog.engine.views.releases import release_of
from tidelog.events.moment import Time
from tidelog.events.names import Revision, StreamName
from tidelog.events.projections import CONDITIONS, DESIRED, Desired, ReleaseRow, Standing, Suspension

Ready: TypeAlias = Literal["True", "False", "Unknown"]
WAITING = "waiting to be reconciled"
IN_PROGRESS = "Reconciliation in progress"


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One source or target."""

    stream: StreamName
    kind: str
    namespace: str
    name: str
    revision: Revision | None
    """Of a source: fetched last. Of a target: applied last; where it is pinned, that of the moment it is kept at. Of a
    HelmRelease: the version of the chart in its newest release."""
    suspended: bool
    ready: Ready
    reason: str
    message: str
    since: Time | None
    """When readiness, reason or message last changed."""
    suspension: Suspension | None
    """Who switched automation off, why, and until when."""
    pin: PinTold | None
    """The past that a target is kept at."""
    position: int
    """Of the event that last changed how it stands."""


def listed(archive: Archive, kinds: tuple[tuple[str, str], ...], namespace: str | None) -> Iterator[Listed]:
    """The sources and targets of some kinds (group, kind) in a namespace, or in all: kind by kind, by name."""
    desired = archive.rows(DESIRED)
    rows = [(subject_of(StreamName(stream)), row) for stream, row in archive.rows(CONDITIONS).items()]
    for group, kind in kinds:
        chosen = [
            (subject, row)
            for subject, row in rows
            if (subject.group, subject.kind) == (group, kind) and namespace in (None, subject.namespace)
        ]
        for subject, row in sorted(chosen, key=lambda pair: (pair[0].namespace, pair[0].name, pair[0].cluster)):
            wanted = desired.get(subject.stream) or Desired()
            pin = None if wanted.pinned is None else pin_of(archive, subject.stream)
            release = release_of(archive, subject.stream) if (group, kind) == HELM_RELEASE else None
            yield _listed(subject, row, wanted, pin, release)


def readiness(archive: Archive, subject: Subject) -> Ready | None:
    """Whether a source or target is ready, as `tidelog get` has it; None for what is neither."""
    row = archive.rows(CONDITIONS).get(subject.stream)
    if row is None:
        return None
    release = release_of(archive, subject.stream) if (subject.group, subject.kind) == HELM_RELEASE else None
    return _told(row, release, is_source=subject.group == SOURCE_GROUP, revision=None)[0]


def _listed(
    subject: Subject, row: Standing, desired: Desired, pin: PinTold | None, release: ReleaseRow | None
) -> Listed:
    is_source = subject.group == SOURCE_GROUP
    revision = desired.revision if is_source else row.applied if pin is None else pin.revision
    if release is not None and release.latest is not None:
        revision = Revision(release.latest.chart_version)
    ready, message = _told(row, release, is_source=is_source, revision=revision)
    if ready == "True" and pin is not None:
        message = f"Pinned: applied {pin.moment}"
    return Listed(
        stream=subject.stream,
        kind=subject.kind,
        namespace=subject.namespace,
        name=subject.name,
        revision=revision,
        suspended=desired.suspended is not None,
        ready=ready,
        reason=ready_reason(subject.kind, row.reason),
        message=message,
        since=row.since,
        suspension=desired.suspended,
        pin=pin,
        position=row.position,
    )


def _told(
    row: Standing, release: ReleaseRow | None, *, is_source: bool, revision: Revision | None
) -> tuple[Ready, str]:
    """Readiness and message, in Flux's words."""
    is_acting = release is not None and release.ongoing is not None
    if is_acting or (row.run is not None and (row.ready == "Unknown" or row.health == "InProgress")):
        return "Unknown", IN_PROGRESS
    if row.ready == "True":
        applied = f"stored artifact for revision '{revision}'" if is_source else f"Applied revision: {revision}"
        return "True", applied if release is None else row.message or _of_release(release) or applied
    if row.ready == "False":
        return "False", row.message
    return "False", WAITING


def _of_release(release: ReleaseRow) -> str:
    """What the last action on a release that ended well said, as Flux has it in Ready."""
    aspects = (release.remediated, release.tested, release.released)
    return next((one.message for one in aspects if one is not None and one.holds), "")
