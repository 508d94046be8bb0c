"""`desired`: what each source and target is declared to be, and what it last came to want. Key: its stream."""

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.envelope import Envelope
from tidelog.events.moment import Time
from tidelog.events.names import Revision, StreamName, cluster_of
from tidelog.events.projection import Projection, Rows, on
from tidelog.events.vocabulary import (
    Pinned,
    ReconcileRequested,
    Rendered,
    Resumed,
    RevisionFetched,
    RevisionRejected,
    SourceDeclared,
    SourceRemoved,
    Suspended,
    TargetDeclared,
    TargetMoved,
    TargetRemoved,
    Unpinned,
)


class Suspension(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who switched automation off, why, and until when."""

    by: str
    why: str
    until: Time | None = None


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """The past rendered set that a target is kept at."""

    set: Digest
    position: int
    left: Revision
    by: str
    why: str


class Desired(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One source or target."""

    uid: str = ""
    generation: int = 0
    spec: BodyRef | None = None
    revision: Revision | None = None
    """Last fetched (a source) or rendered (a target)."""
    artifact: Digest | None = None
    tree: str | None = None
    set: Digest | None = None
    objects: BodyRef | None = None
    count: int = 0
    suspended: Suspension | None = None
    pinned: Pin | None = None
    asked: str = ""
    """Of a HelmRelease: the token of the last request to reconcile that came as an annotation."""
    force: bool = False
    """Whether that request asks for a release in any case."""
    reset: bool = False
    """Whether it asks for failures to be forgotten."""
    rejected: tuple[Revision, ...] = ()
    position: int = 0
    """Of the event that last changed this row."""
    cluster: str = ""
    """Of a target: the alias of the cluster that its objects are in; empty for that of the target itself."""


def objects_cluster(target: StreamName, row: Desired | None) -> str:
    """The alias of the cluster that the objects of a target are in, as its row says."""
    return (row.cluster if row is not None else "") or cluster_of(target)


def _row(rows: Rows[Desired], envelope: Envelope) -> Desired:
    row = rows.get(envelope.stream)
    if row is None:
        row = Desired()
    row.position = envelope.position
    rows.put(envelope.stream, row)
    return row


def _declared(rows: Rows[Desired], envelope: Envelope, event: SourceDeclared | TargetDeclared) -> None:
    row = _row(rows, envelope)
    row.uid, row.generation, row.spec = event.uid, event.generation, event.spec


def _removed(rows: Rows[Desired], envelope: Envelope, _: SourceRemoved | TargetRemoved) -> None:
    rows.drop(envelope.stream)


def _moved(rows: Rows[Desired], envelope: Envelope, event: TargetMoved) -> None:
    _row(rows, envelope).cluster = "" if event.cluster == cluster_of(envelope.stream) else event.cluster


def _fetched(rows: Rows[Desired], envelope: Envelope, event: RevisionFetched) -> None:
    row = _row(rows, envelope)
    row.revision, row.artifact, row.tree = event.revision, event.artifact, event.tree


def _rendered(rows: Rows[Desired], envelope: Envelope, event: Rendered) -> None:
    row = _row(rows, envelope)
    row.revision, row.set, row.objects, row.count = event.revision, event.set, event.objects, event.count


def _suspended(rows: Rows[Desired], envelope: Envelope, event: Suspended) -> None:
    _row(rows, envelope).suspended = Suspension(by=str(envelope.actor), why=event.why, until=event.until)


def _resumed(rows: Rows[Desired], envelope: Envelope, _: Resumed) -> None:
    row = _row(rows, envelope)
    row.suspended = None
    row.force = row.reset = False  # what was asked meanwhile was answered: nothing is done for who is suspended


def _requested(rows: Rows[Desired], envelope: Envelope, event: ReconcileRequested) -> None:
    # Only a release can be forced, and without a token nothing is asked but a run.
    if event.token and "/HelmRelease/" in envelope.stream:
        row = _row(rows, envelope)
        row.asked, row.force, row.reset = event.token, event.force, event.reset


def _pinned(rows: Rows[Desired], envelope: Envelope, event: Pinned) -> None:
    _row(rows, envelope).pinned = Pin(
        set=event.set, position=event.position, left=event.left, by=str(envelope.actor), why=event.why
    )


def _unpinned(rows: Rows[Desired], envelope: Envelope, _: Unpinned) -> None:
    _row(rows, envelope).pinned = None


def _rejected(rows: Rows[Desired], envelope: Envelope, event: RevisionRejected) -> None:
    row = _row(rows, envelope)
    if event.revision not in row.rejected:
        row.rejected = (*row.rejected, event.revision)


DESIRED = Projection(
    name="desired",
    version=3,
    row=Desired,
    key_is_stream=True,
    handlers=dict(
        [
            on(SourceDeclared, _declared),
            on(TargetDeclared, _declared),
            on(TargetMoved, _moved),
            on(SourceRemoved, _removed),
            on(TargetRemoved, _removed),
            on(RevisionFetched, _fetched),
            on(Rendered, _rendered),
            on(Suspended, _suspended),
            on(Resumed, _resumed),
            on(ReconcileRequested, _requested),
            on(Pinned, _pinned),
            on(Unpinned, _unpinned),
            on(RevisionRejected, _rejected),
        ]
    ),
    columns={"revision": "$.revision"},
)
