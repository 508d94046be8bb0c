"""What a failure says. One that repeats the failure before it comes without its message: that one has it."""

from tidelog.engine.views.archive import Archive
from tidelog.events.vocabulary import ApplyFailed, Event, HealthChanged, RunEnded, StageFailed, VerificationFailed
from tidelog.storage.log import Query, Recorded

_FAILURES = ("StageFailed", "VerificationFailed", "ApplyFailed", "HealthChanged", "RunEnded")


def message_of(archive: Archive, recorded: Recorded) -> str:
    """The message of a failed stage, looked up where the event is one that repeats the one before; empty of others."""
    event = recorded.event
    if not isinstance(event, StageFailed):
        return ""
    if not event.repeats:
        return event.message
    stream, position = recorded.envelope.stream, recorded.envelope.position
    for before in archive.backwards(Query(stream=stream, types=_FAILURES, until=position - 1)):
        said = _said(before.event)
        if said is not None:
            return said
    return ""


def _said(event: Event) -> str | None:
    """What a condition says because of an event; None where that says nothing, or what stood there before."""
    match event:
        case StageFailed(repeats=False):
            return event.message
        case VerificationFailed():
            return "; ".join(verdict.message for verdict in event.failed)
        case ApplyFailed():
            return event.message
        case HealthChanged(checked=True, health="Failed"):
            return event.message
        case RunEnded(outcome="succeeded" | "unchanged"):
            return ""  # what came after could not repeat anything
        case _:
            return None
