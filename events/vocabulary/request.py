"""What people ask for. Who, is the envelope's actor; every request says why."""

from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import Revision
from tidelog.events.vocabulary.base import Event, event


@event("ReconcileRequested")
class ReconcileRequested(Event, frozen=True, kw_only=True):
    """A source or target is to be reconciled now."""

    why: str = ""
    token: str = ""
    """The value of `reconcile.fluxcd.io/requestedAt`, where the request came as that annotation."""
    force: bool = False
    reset: bool = False


@event("Suspended")
class Suspended(Event, frozen=True, kw_only=True):
    """Automation is off for a source or target."""

    why: str
    until: Time | None = None


@event("Resumed")
class Resumed(Event, frozen=True, kw_only=True):
    """Automation is on again."""

    why: str = ""


@event("Pinned")
class Pinned(Event, frozen=True, kw_only=True):
    """A target is kept at a past rendered set, until a revision newer than the one that was left arrives."""

    set: Digest
    position: int
    """Of the moment whose rendered set it is."""
    left: Revision
    why: str


@event("Unpinned")
class Unpinned(Event, frozen=True, kw_only=True):
    """A target follows its source again."""

    why: str


@event("RevisionRejected")
class RevisionRejected(Event, frozen=True, kw_only=True):
    """A revision is never to be applied to a target."""

    revision: Revision
    why: str


@event("Marked")
class Marked(Event, frozen=True, kw_only=True):
    """A note by a person or a program at this place of the log."""

    label: str
    why: str = ""


@event("StreamForgotten")
class StreamForgotten(Event, frozen=True, kw_only=True):
    """What is secret in the bodies of a stream can never be read again: its data keys are destroyed.

    Durable before the first key is gone. Whoever opens the store later finishes what a crash left; a key of the same
    stream that was made afterwards has another id, and stays.
    """

    keys: tuple[str, ...]
    """The ids of the data keys."""
    why: str
