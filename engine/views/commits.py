"""Which commit stands behind a revision, and which sources behind a target."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from tidelog.engine.kinds.meta import (
    HELM_RELEASE,
    KUSTOMIZATION,
    SOURCE_GROUP,
    helm_chart_name,
    origin_in,
)
from tidelog.engine.views.archive import Archive
from tidelog.events.moment import Time
from tidelog.events.names import ObjectKey, Revision, StreamName, TraceId, cluster_of
from tidelog.events.projections import RELEASES
from tidelog.events.vocabulary import Person, RevisionFetched, SourceDeclared, TargetDeclared
from tidelog.storage.log import Query, Recorded

HELM_CHART = (SOURCE_GROUP, "HelmChart")
NAMING_SOURCES = frozenset({KUSTOMIZATION, HELM_RELEASE, HELM_CHART})
"""Kinds that are made from a source."""
ORIGIN_MAX = 200
"""Characters of what an artifact says that it was made of."""
_digest_in_version = re.compile(r"\+([0-9a-f]{12})$")
# The version by which a chart of a registry is released has the digest of its artifact behind it (contract HR-067).


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
    origin: Revision | None = None
    """Of an artifact of a registry: the revision that it says it was made of. Where the log has that, author, time and
    message are its."""


class SourceTold(msgspec.Struct, frozen=True, kw_only=True):
    """A source that something was made of, with where that is, and what it had."""

    source: StreamName
    url: str
    """Of a bucket: its endpoint and name; of a directory on the engine's machine: that. Empty where it is not known, as
    of an address with credentials in it."""
    revision: Revision
    """Empty where none was fetched of it: a HelmRepository that is a registry has none of its own."""
    position: int
    """Of the event with which it was fetched; 0 for none."""


def subject_line(message: str) -> str:
    """The first line of a commit's message."""
    return next(iter(message.strip().splitlines()), "")


def spec_of(archive: Archive, stream: StreamName, position: int | None = None) -> dict[str, Any]:
    """The spec of a source or target as it was declared last, before a position; empty where it is not known."""
    recorded = archive.last(Query(stream=stream, types=("TargetDeclared", "SourceDeclared"), until=position))
    event = None if recorded is None else recorded.event
    data = archive.body(event.spec) if isinstance(event, TargetDeclared | SourceDeclared) else None
    if data is None:
        return {}
    try:
        spec = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return {}
    return spec if isinstance(spec, dict) else {}


def named_source(key: ObjectKey, spec: Mapping[str, Any]) -> ObjectKey | None:
    """The source that a target, or a HelmChart, of this spec is made from; None where it names none."""
    if (key.group, key.kind) not in NAMING_SOURCES:
        return None
    if (key.group, key.kind) == HELM_RELEASE:
        reference = spec.get("chartRef") or _of_template(key, spec.get("chart"))
    else:
        reference = spec.get("sourceRef")
    if not isinstance(reference, dict) or not reference.get("kind") or not reference.get("name"):
        return None
    namespace = reference.get("namespace") or key.namespace
    return ObjectKey(SOURCE_GROUP, str(reference["kind"]), str(namespace), str(reference["name"]))


def _of_template(key: ObjectKey, template: object) -> dict[str, Any] | None:
    """Names the HelmChart that is made of a template (contract HR-059)."""
    spec = template.get("spec") if isinstance(template, dict) else None
    source = spec.get("sourceRef") if isinstance(spec, dict) else None
    if not isinstance(source, dict):
        return None
    return {
        "kind": HELM_CHART[1],
        "name": helm_chart_name(key.namespace, key.name),
        "namespace": source.get("namespace"),
    }


def source_of(archive: Archive, target: StreamName, position: int | None = None) -> StreamName | None:
    """The stream of the source that a target, or a HelmChart, named, before a position.

    Of a HelmRelease whose spec cannot be read, as it is sealed: the HelmChart that was made for it.
    """
    key = named_source(ObjectKey.of_stream(target), spec_of(archive, target, position))
    if key is None:
        row = archive.row(RELEASES, target)
        key = None if row is None or row.helm_chart is None else ObjectKey.parse(row.helm_chart)
    return None if key is None else key.stream(cluster_of(target))


def sources_of(archive: Archive, target: StreamName) -> tuple[StreamName, ...]:
    """What a target is made from, the nearest first: its source, and of a chart also what that was made of."""
    found: list[StreamName] = []
    stream = source_of(archive, target)
    while stream is not None and stream not in found:
        found.append(stream)
        stream = source_of(archive, stream)
    return tuple(found)


def origins_of(
    archive: Archive, revision: Revision, *, source: StreamName | None, before: int = 0
) -> tuple[SourceTold, ...]:
    """Where a revision came from, the nearest first: its source, and of a chart also what that was made of.

    Each is told as it was before a position (0: the archive's moment).
    """
    found: list[SourceTold] = []
    until = before or None
    while source is not None and source not in {one.source for one in found}:
        recorded = _fetched(archive, source, revision, until)
        event = None if recorded is None else recorded.event
        position = 0 if recorded is None else recorded.envelope.position
        until = position or until
        fetched = event if isinstance(event, RevisionFetched) else None
        directory = "" if fetched is None else fetched.directory
        url = f"file://{directory}" if directory else _url_in(spec_of(archive, source, until))
        named = revision if fetched is None else fetched.revision
        found.append(SourceTold(source=source, url=url, revision=named, position=position))
        made_of = None if fetched is None else fetched.chart
        revision = Revision("") if made_of is None else made_of.source
        source = source_of(archive, source, until)
    return tuple(found)


def _fetched(archive: Archive, source: StreamName, revision: Revision, until: int | None) -> Recorded | None:
    if not revision:
        return None
    return next(_naming(archive, Query(stream=source, types=("RevisionFetched",), until=until), revision), None)


def _url_in(spec: Mapping[str, Any]) -> str:
    parts = (spec.get("url"),) if spec.get("url") else (spec.get("endpoint"), spec.get("bucketName"))
    return "/".join(str(part) for part in parts if part)


def commit_of(
    archive: Archive, revision: Revision, *, source: StreamName | None, trace: TraceId | None = None, before: int = 0
) -> Commit | None:
    """The commit behind a revision, as it was last fetched before a position (0: the archive's moment).

    It is looked for in its source's stream, else among what came with the same trigger, else in the whole log; but a
    chart's version, which others may have too, not there. Behind a chart stands the commit that it was made of.
    """
    until = before or None
    fetched = ("RevisionFetched",)
    queries = [Query(stream=source, types=fetched, until=until)] if source else []
    queries += [Query(trace=trace, types=fetched, until=until)] if trace else []
    queries += [Query(types=fetched, until=until)] if ":" in revision else []
    for query in queries:
        for recorded in _naming(archive, query, revision):
            return _made_of(archive, recorded) or _with_origin(archive, recorded)
    return None


def _made_of(archive: Archive, recorded: Recorded) -> Commit | None:
    """The commit that a chart was made of, where it was made of one."""
    event, envelope = recorded.event, recorded.envelope
    if not isinstance(event, RevisionFetched) or event.chart is None:
        return None
    source = source_of(archive, envelope.stream, envelope.position)
    if source is None:
        return None
    commit = commit_of(archive, event.chart.source, source=source, before=envelope.position)
    return commit if commit is not None and commit.subject else None


def _with_origin(archive: Archive, recorded: Recorded) -> Commit | None:
    """The commit of a revision, with what it says it was made of."""
    commit, event = _commit(recorded), recorded.event
    if commit is None or not isinstance(event, RevisionFetched):
        return None
    said = origin_in(event.annotations)
    if not said or said == event.revision:
        return commit
    origin = Revision(said[:ORIGIN_MAX])
    known = commit_of(archive, origin, source=None, before=commit.position)
    if known is None:
        return msgspec.structs.replace(commit, origin=origin)
    return msgspec.structs.replace(known, source=commit.source, revision=commit.revision, origin=origin)


def _naming(archive: Archive, query: Query, revision: Revision) -> Iterator[Recorded]:
    found = _digest_in_version.search(revision)
    needle = found[1] if found else revision
    for recorded in archive.backwards(query):
        if needle.encode() in recorded.raw:
            event = recorded.event
            if isinstance(event, RevisionFetched) and (
                event.revision == revision or (found is not None and f":{needle}" in event.revision)
            ):
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
