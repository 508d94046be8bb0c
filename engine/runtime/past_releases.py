"""Versions of releases as they were at past moments, as the log keeps them, and how long one is gone back to."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tidelog.engine.runtime.memory import Facts
from tidelog.engine.runtime.watching.declared import DeclaredRelease, source_of
from tidelog.events.bodies import BodyRef
from tidelog.events.names import StreamName
from tidelog.events.projections import DESIRED, RELEASES
from tidelog.events.projections.releases import Made, ReleaseRow
from tidelog.events.vocabulary import Pinned, ReleaseActionStarted, ReleaseSnapshot
from tidelog.storage import Query
from tidelog.storage.keys import DataKey
from tidelog.storage.projections.views import Views
from tidelog.storage.sealed import key_id_of


class NoPastError(Exception):
    """Raised for a moment that a release cannot go back to; says why."""


class PastVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is gone back to: what was deployed at a moment."""

    position: int
    """The moment."""
    snapshot: ReleaseSnapshot
    made: Made
    """Its record and its objects, as the log keeps them."""
    started: ReleaseActionStarted
    """The action that made it."""

    def why_other(self, row: ReleaseRow) -> str:
        """Why the version that is deployed is another; empty where it is this one, or made from it."""
        latest = row.latest
        made = None if latest is None else row.made_as(latest.version)
        if made is not None and self.origin in (made.position, made.origin):
            return ""
        return f"pinned to version {self.snapshot.version}, as it was deployed at position {self.position}"

    @property
    def origin(self) -> int:
        """Position of the action that made it first."""
        return self.made.origin or self.made.position


async def past_version(facts: Facts, views: Views, stream: StreamName, position: int) -> PastVersion:
    """The version of a release that was deployed when the log was at a position.

    Raises:
        NoPastError: when there was none, or the log does not have what it was made of.
        MomentError: when the log has no such position.
    """
    row = await views.row(RELEASES, stream, at=position)
    snapshot = None if row is None else row.deployed
    if row is None or snapshot is None:
        raise NoPastError(f"had no version deployed at position {position}: give another moment")
    named = f"version {snapshot.version}, which was deployed at position {position},"
    made = row.made_as(snapshot.version)
    started = None
    if made is not None:
        query = Query(stream=stream, types=(ReleaseActionStarted.__name__,), until=made.position)
        last = await facts.log.last(query)
        started = None if last is None else last.event
    if made is None or not isinstance(started, ReleaseActionStarted):
        raise NoPastError(f"{named} was not made here, so that the log does not have it: give a later moment")
    now = facts.releases.get(stream)
    latest = None if now is None else now.latest
    if now is not None and latest is not None:
        then = snapshot.name, snapshot.namespace, row.storage_namespace
        if then != (latest.name, latest.namespace, now.storage_namespace):
            raise NoPastError(
                f"{named} is of release {snapshot.namespace}/{snapshot.name}, and it is {latest.namespace}/"
                f"{latest.name} now: name it so in the spec again, a pin does not"
            )
    return PastVersion(position=position, snapshot=snapshot, made=made, started=started)


async def why_unpinned(
    facts: Facts,
    views: Views,
    declared: DeclaredRelease,
    alias: str,
    key_of: Callable[[StreamName], Awaitable[DataKey]],
) -> str:
    """Why a pin of a release is over: a new spec, or another chart since it was pinned; empty where it is not.

    To suspend it, or to resume it, is no new spec.
    """
    pinned = await facts.log.last(Query(stream=declared.stream, types=(Pinned.__name__,)))
    if pinned is None:
        return ""
    since = pinned.envelope.position
    before = await views.row(DESIRED, declared.stream, at=since)
    if before is not None and before.generation != declared.generation:
        then = await _spec(facts, declared.stream, before.spec, key_of)
        if then is None or _without_suspend(then) != _without_suspend(declared.live.get("spec") or {}):
            return "its spec has changed"
    source = source_of(declared).stream(alias)
    row, left = facts.desired.get(source), await views.row(DESIRED, source, at=since)
    if row is None or row.revision is None or (left is not None and left.revision == row.revision):
        return ""
    return f"chart revision {row.revision} is newer than the one that was left"


async def _spec(
    facts: Facts, stream: StreamName, reference: BodyRef | None, key_of: Callable[[StreamName], Awaitable[DataKey]]
) -> Any:
    """A spec as it was recorded; None where it cannot be read any more."""
    if reference is None:
        return None
    body = await facts.log.body(reference.digest)
    if not reference.secret:
        return msgspec.json.decode(body.data)
    key = await key_of(stream)
    return msgspec.json.decode(key.open(body)) if key_id_of(body) == key.id else None


def _without_suspend(spec: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != "suspend"}
