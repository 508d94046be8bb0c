"""Which commit stands behind a revision, and which source behind a target."""

from collections.abc import Iterator
from typing import Any

import msgspec

from tidelog.engine.kinds.meta import SOURCE_GROUP
from tidelog.engine.views.archive import Archive
from tidelog.events.moment import Time
from tidelog.events.names import ObjectKey, Revision, StreamName, TraceId, cluster_of
from tidelog.events.vocabulary import Person, RevisionFetched, TargetDeclared
from tidelog.storage.log import Query, Recorded


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A revision of a source, with what its commit says of itself."""

    revision: Revision
    source: StreamName
    author: str = ""
    """As the commit claims: name, and address in angle brackets."""
    committer: str = ""
    time: Time | None = None
    """When it was authored."""
    subject: str = ""
    """The first line of its message."""
    message: str = ""
    position: int = 0
    """Of the event with which it was fetched."""


def subject_line(message: str) -> str:
    """The first line of a commit's message."""
    return next(iter(message.strip().splitlines()), "")


def spec_of(archive: Archive, target: StreamName, position: int | None = None) -> dict[str, Any]:
    """The spec of a target as it was declared last, before a position; empty where it is not known."""
    recorded = archive.last(Query(stream=target, types=("TargetDeclared",), until=position))
    event = None if recorded is None else recorded.event
    data = archive.body(event.spec) if isinstance(event, TargetDeclared) else None
    if data is None:
        return {}
    spec = msgspec.json.decode(data)
    return spec if isinstance(spec, dict) else {}


def source_of(archive: Archive, target: StreamName, position: int | None = None) -> StreamName | None:
    """The stream of the source that a target named, before a position."""
    reference = spec_of(archive, target, position).get("sourceRef")
    if not isinstance(reference, dict) or not reference.get("kind") or not reference.get("name"):
        return None
    namespace = reference.get("namespace") or ObjectKey.of_stream(target).namespace
    key = ObjectKey(SOURCE_GROUP, str(reference["kind"]), str(namespace), str(reference["name"]))
    return key.stream(cluster_of(target))


def commit_of(
    archive: Archive, revision: Revision, *, source: StreamName | None, trace: TraceId | None = None, before: int = 0
) -> Commit | None:
    """The commit behind a revision, as it was last fetched before a position (0: the archive's moment).

    It is looked for in its source's stream, else among what came with the same trigger, else in the whole log.
    """
    until = before or None
    fetched = ("RevisionFetched",)
    queries = [Query(stream=source, types=fetched, until=until)] if source else []
    queries += [Query(trace=trace, types=fetched, until=until)] if trace else []
    queries += [Query(types=fetched, until=until)]
    for query in queries:
        for recorded in _naming(archive, query, revision):
            return _commit(recorded)
    return None


def _naming(archive: Archive, query: Query, revision: Revision) -> Iterator[Recorded]:
    needle = revision.encode()
    for recorded in archive.backwards(query):
        if needle in recorded.raw:
            event = recorded.event
            if isinstance(event, RevisionFetched) and event.revision == revision:
                yield recorded


def _commit(recorded: Recorded) -> Commit | None:
    event, envelope = recorded.event, recorded.envelope
    if not isinstance(event, RevisionFetched):
        return None
    return Commit(
        revision=event.revision,
        source=envelope.stream,
        author=person_text(event.author),
        committer=person_text(event.committer),
        time=None if event.author is None else event.author.time,
        subject=subject_line(event.message),
        message=event.message,
        position=envelope.position,
    )


def person_text(person: Person | None) -> str:
    """Somebody as Git writes them; empty for nobody."""
    if person is None:
        return ""
    return f"{person.name} <{person.email}>" if person.email else person.name
