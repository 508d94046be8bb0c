"""`tidelog events`: what happened to a source, target or object, or in a namespace; in the order of the log."""

import heapq
from collections.abc import Iterator
from itertools import islice, takewhile

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.commits import sources_of
from tidelog.engine.views.names import Subject, is_engine, subject_of
from tidelog.events.names import ObjectId, StreamName, cluster_of
from tidelog.events.projections import CONDITIONS
from tidelog.events.vocabulary import DriftDetected, ObjectApplied, ObjectObserved, ObjectPruned
from tidelog.storage.log import Query, Recorded


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Which events are asked for."""

    streams: frozenset[StreamName] | None = None
    """None for all."""
    target: StreamName | None = None
    """A target, of which what drifted counts too."""
    object: ObjectId | None = None
    """An object, of which what its target did counts too; `cluster` has it."""
    cluster: str = ""
    namespace: str | None = None
    """Of the streams, where they are not named one by one; None for all."""
    with_status: bool = False
    """Whether those count too that tell of a status alone: there may be one a minute for each object."""

    def holds(self, recorded: Recorded) -> bool:
        """Whether an event is asked for."""
        envelope = recorded.envelope
        if not self.with_status and _tells_status_alone(recorded):
            return False
        if self.streams is None:
            return self.namespace is None or (
                not is_engine(envelope.stream) and subject_of(envelope.stream).namespace == self.namespace
            )
        if envelope.stream in self.streams:
            return True
        if self.target is not None and envelope.type == "DriftDetected":
            drift = recorded.event
            return isinstance(drift, DriftDetected) and drift.target == self.target
        if self.object is not None and envelope.type in ("ObjectApplied", "ObjectPruned"):
            event = recorded.event if self.object.encode() in recorded.raw else None
            if not isinstance(event, ObjectApplied | ObjectPruned) or event.object != self.object:
                return False
            return (event.cluster or cluster_of(envelope.stream)) == self.cluster
        return False


def _tells_status_alone(recorded: Recorded) -> bool:
    return isinstance(recorded.event, ObjectObserved) and recorded.event.only_status


def scope_for(archive: Archive, subject: Subject) -> Scope:
    """The events about one thing; of a target also those of its sources (Flux contract CL-010) and what drifted."""
    if subject.stream in archive.rows(CONDITIONS) or subject.is_flux:
        streams = frozenset({subject.stream, *sources_of(archive, subject.stream)})
        return Scope(streams=streams, target=subject.stream, object=subject.key.id, cluster=subject.cluster)
    return Scope(streams=frozenset({subject.stream}), object=subject.key.id, cluster=subject.cluster)


def last_events(archive: Archive, scope: Scope, after: int, count: int) -> list[Recorded]:
    """The last `count` events of a scope after a position (0: all of them), in the order of the log."""
    merged = _merged(archive, scope, after)
    newest_first = (one for one in merged if scope.with_status or not _tells_status_alone(one))
    chosen = list(newest_first if count == 0 else islice(newest_first, count))
    return chosen[::-1]


def _merged(archive: Archive, scope: Scope, after: int) -> Iterator[Recorded]:
    if scope.streams is None:
        yield from filter(scope.holds, archive.backwards(Query(after=after)))
        return
    parts = [archive.backwards(Query(stream=stream, after=after)) for stream in sorted(scope.streams)]
    if scope.target is not None:
        drifts = archive.backwards(Query(types=("DriftDetected",), after=after))
        parts.append(one for one in drifts if one.envelope.stream not in (scope.streams or ()) and scope.holds(one))
    if scope.object is not None:
        parts.append(_by_target(archive, scope, after))
    yield from heapq.merge(*parts, key=lambda recorded: recorded.envelope.position, reverse=True)


def _by_target(archive: Archive, scope: Scope, after: int) -> Iterator[Recorded]:
    """What targets did with an object, the newest first: every version that came of it is known by its position."""
    stream = StreamName(f"{scope.cluster}/{scope.object}")
    versions = reversed(archive.past.versions(stream, archive.position))
    for version in takewhile(lambda version: version.position > after, versions):
        recorded = archive.event(version.position)
        if recorded is not None and recorded.envelope.stream not in (scope.streams or ()):
            yield recorded
