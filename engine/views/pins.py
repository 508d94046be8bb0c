"""What a target is pinned to: a moment of its past, and the commit that it was made from then."""

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import Commit, commit_of, source_of
from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import ObjectKey, Revision, StreamName
from tidelog.events.projections import RELEASES
from tidelog.events.vocabulary import Pinned, Rendered
from tidelog.storage.log import Query, Recorded


class PinTold(msgspec.Struct, frozen=True, kw_only=True):
    """The past that a target is kept at."""

    position: int
    """Of the moment that it is kept at."""
    revision: Revision | None
    """That what it wanted at that moment was made from."""
    commit: Commit | None
    left: Revision
    """The revision that was left: while no newer one comes, it is not applied."""
    by: str
    """Who pinned it, with how that is known."""
    why: str
    since: Time
    pinned: int
    """Position of the event that pinned it."""
    set: Digest
    """The rendered set that it is kept at."""
    is_release: bool = False
    """Whether it is a HelmRelease, which is kept at a version that was deployed."""

    @property
    def moment(self) -> str:
        """What it is kept at, in words."""
        if self.revision is None:
            return f"what was wanted at position {self.position}"
        if self.is_release:
            return f"what was deployed at position {self.position} (chart version {self.revision})"
        subject = f" “{self.commit.subject}”" if self.commit is not None and self.commit.subject else ""
        return f"what was wanted at position {self.position} (revision {self.revision}{subject})"


def pin_of(archive: Archive, target: StreamName, position: int | None = None) -> PinTold | None:
    """What a target was pinned to at a position (None: the archive's moment); None where it followed its source."""
    query = Query(stream=target, types=("Pinned", "Unpinned", "TargetRemoved"), until=position)
    recorded = archive.last(query)
    event = None if recorded is None else recorded.event
    if recorded is None or not isinstance(event, Pinned):
        return None
    if ObjectKey.of_stream(target).kind == "HelmRelease":
        row = archive.past.row(RELEASES, target, event.position)
        version = None if row is None else row.deployed
        chart = None if version is None else Revision(version.chart_version)
        return _told(recorded, event, chart, None, is_release=True)
    rendered = archive.last(Query(stream=target, types=("Rendered",), until=event.position))
    made = None if rendered is None else rendered.event
    revision = made.revision if isinstance(made, Rendered) else None
    before = recorded.envelope.position if rendered is None else rendered.envelope.position
    commit = None
    if revision is not None:
        commit = commit_of(archive, revision, source=source_of(archive, target, before), before=before)
    return _told(recorded, event, revision, commit)


def _told(
    recorded: Recorded, event: Pinned, revision: Revision | None, commit: Commit | None, *, is_release: bool = False
) -> PinTold:
    return PinTold(
        position=event.position,
        revision=revision,
        commit=commit,
        left=event.left,
        by=str(recorded.envelope.actor),
        why=event.why,
        since=recorded.envelope.time,
        pinned=recorded.envelope.position,
        set=event.set,
        is_release=is_release,
    )
