"""What failures say. One that repeats the failure before it comes without its message: that one has it."""

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.events.names import StreamName
from tidelog.events.vocabulary import ApplyFailed, Event, HealthChanged, RunEnded, StageFailed, VerificationFailed
from tidelog.storage.log import Query, Recorded

_FAILURES = ("StageFailed", "VerificationFailed", "ApplyFailed", "HealthChanged", "RunEnded")


class _Row(msgspec.Struct, frozen=True):
    """Failures one after the other that say the same."""

    first: int
    last: int
    """The last position that is known to be of them."""
    message: str


class Failures:
    """Looks up messages; of many failures that repeat one, it is looked up once."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._known: dict[StreamName, _Row] = {}

    def message_of(self, recorded: Recorded) -> str:
        """The message of a failed stage, looked up where the event is one that repeats the one before; else empty."""
        event, envelope = recorded.event, recorded.envelope
        if not isinstance(event, StageFailed):
            return ""
        if not event.repeats:
            return event.message
        known = self._known.get(envelope.stream)
        if known is None or not known.first < envelope.position <= known.last:
            known = self._looked_up(envelope.stream, envelope.position, known)
            self._known[envelope.stream] = known
        return known.message

    def _looked_up(self, stream: StreamName, position: int, known: _Row | None) -> _Row:
        query = Query(stream=stream, types=_FAILURES, until=position - 1)
        for before in self._archive.backwards(query):
            at = before.envelope.position
            if known is not None and known.first <= at <= known.last:
                return msgspec.structs.replace(known, last=position)
            said = _said(before.event)
            if said is not None:
                return _Row(at, position, said)
        return _Row(0, position, "")


def _said(event: Event) -> str | None:
    """What a condition says because of an event; None where it repeats what was said, or says nothing of it."""
    match event:
        case StageFailed(repeats=False) | ApplyFailed() | HealthChanged(checked=True, health="Failed"):
            return event.message
        case VerificationFailed():
            return "; ".join(verdict.message for verdict in event.failed)
        case RunEnded(outcome="succeeded" | "unchanged"):
            return ""  # what came after that could not repeat anything
        case _:
            return None
