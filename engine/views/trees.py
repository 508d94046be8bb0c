"""`tidelog tree`: what a target applied, and what the targets among it applied."""

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.engine.views.listing import readiness
from tidelog.engine.views.names import Subject, cluster_below, subject_in, subject_of
from tidelog.events.names import StreamName
from tidelog.events.projections import ACTUAL, INVENTORY
from tidelog.events.vocabulary import FieldDrift


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """An object, and what it owns if it is a target."""

    stream: StreamName
    kind: str
    namespace: str
    name: str
    health: str
    """In kstatus's words; `Unknown` for what was never observed."""
    ready: str
    """Of a source or target, as `tidelog get` has it: `Unknown` while it is reconciled; empty for other objects."""
    drift: tuple[FieldDrift, ...]
    """Fields that someone changed since the object was applied."""
    position: int
    """Of the event with which it was applied last; 0 for the root."""
    cycle: bool
    """Whether it stands above itself in the tree: its own objects are not told again."""
    resources: tuple["Node", ...]


def tree_of(archive: Archive, target: StreamName, *, compact: bool = False) -> Node:
    """The tree below a target; if `compact`, only of sources and targets."""
    return _node(archive, subject_of(target), 0, (), compact=compact)


def _node(archive: Archive, subject: Subject, position: int, above: tuple[StreamName, ...], *, compact: bool) -> Node:
    actual = archive.rows(ACTUAL).get(subject.stream)
    cycle = subject.stream in above
    return Node(
        stream=subject.stream,
        kind=subject.kind,
        namespace=subject.namespace,
        name=subject.name,
        health="Unknown" if actual is None else actual.health,
        ready=readiness(archive, subject) or "",
        drift=() if actual is None else actual.drift,
        position=position,
        cycle=cycle,
        resources=() if cycle else _below(archive, subject.stream, (*above, subject.stream), compact=compact),
    )


def _below(archive: Archive, target: StreamName, above: tuple[StreamName, ...], *, compact: bool) -> tuple[Node, ...]:
    row = archive.rows(INVENTORY).get(target)
    if row is None:
        return ()
    cluster = cluster_below(archive, target)
    entries = [(subject_in(cluster, id), entry.position) for id, entry in row.objects.items()]
    entries.sort(key=lambda pair: (pair[0].kind, pair[0].namespace, pair[0].name, pair[0].group))
    return tuple(
        _node(archive, subject, position, above, compact=compact)
        for subject, position in entries
        if not compact or subject.is_flux
    )
