"""What a target is pinned to: a moment of its past, and the commit that it was made from then."""

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import Commit, commit_of, source_of
from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import Revision, StreamName
from tidelog.events.vocabulary import Pinned, Rendered
from tidelog.storage.log import Query


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

    @property
    def moment(self) -> str:
        """What it is kept at, in words."""
        if self.revision is None:
            return f"what was wanted at position {self.position}"
        subject = f" “{self.commit.subject}”" if self.commit is not None and self.commit.subject else ""
        return f"what was wanted at position {self.position} (revision {self.revision}{subject})"


def pin_of(archive: Archive, target: StreamName, position: int | None = None) -> PinTold | None:
    """What a target was pinned to at a position (None: the archive's moment); None where it followed its source."""
    query = Query(stream=target, types=("Pinned", "Unpinned", "TargetRemoved"), until=position)
    recorded = archive.last(query)
    event = None if recorded is None else recorded.event
    if recorded is None or not isinstance(event, Pinned):
        return None
    rendered = archive.last(Query(stream=target, types=("Rendered",), until=event.position))
    made = None if rendered is None else rendered.event
    revision = made.revision if isinstance(made, Rendered) else None
    before = recorded.envelope.position if rendered is None else rendered.envelope.position
    commit = None
    if revision is not None:
        commit = commit_of(archive, revision, source=source_of(archive, target, before), before=before)
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
    )
