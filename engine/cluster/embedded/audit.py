"""What is asked of an embedded cluster, in a line; and a record of it, for tests: a wrapper around what answers."""

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded.registry import Registry
from tidelog.engine.cluster.embedded.requests import Answer, Handler, Request, target_of
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.events.typed import decoder

ENTRIES_MAX: Final = 10_000


class Asked(Struct, frozen=True, kw_only=True):
    """What a request is about."""

    verb: str
    """As audit logs have it: get, list, watch, create, update, patch, delete, deletecollection; of what is no resource,
    the method in small letters."""
    path: str
    user: str
    """As whom it is done."""
    impersonator: str = ""
    """Who asks, where that is another."""
    group: str = ""
    resource: str = ""
    """The plural; empty for what is no resource."""
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    dry_run: bool = False
    query: Mapping[str, str] = {}

    @property
    def changes(self) -> bool:
        """Whether something may be other than before when it was answered."""
        return not self.dry_run and self.verb in ("create", "update", "patch", "delete", "deletecollection")


class Audited(Struct, frozen=True):
    """A request that was answered; a watch is here when it has begun."""

    asked: Asked
    code: int
    """The HTTP status; 0 where the connection was cut before an answer."""


class Audit:
    """Remembers the last requests, in the order in which they were answered."""

    def __init__(self, inner: Handler, registry: Registry, limit: int = ENTRIES_MAX) -> None:
        """Of those that `inner` is given; of more than `limit`, the oldest are forgotten."""
        self.entries: deque[Audited] = deque(maxlen=limit)
        self._inner = inner
        self._registry = registry

    async def handle(self, request: Request) -> Answer:
        """See `Handler`."""
        asked, code = asked_of(request, self._registry), 0
        try:
            answer = await self._inner.handle(request)
            code = answer.status
        finally:
            self.entries.append(Audited(asked, code))
        return answer


class _DryRun(Struct, rename="camel"):
    dry_run: list[str] = []


def asked_of(request: Request, registry: Registry) -> Asked:
    """What a request is about, also one that will be refused."""
    impersonator = request.impersonator.name if request.impersonator else ""
    asked = Asked(
        verb=request.method.lower(),
        path=request.path,
        user=request.user.name,
        impersonator=impersonator,
        dry_run=_is_dry_run(request),
        query=request.query,
    )
    try:
        target = target_of(request, registry)
    except StatusError:  # a kind that is not served, or not that way
        return asked
    if target is None:
        return asked
    return msgspec.structs.replace(
        asked,
        verb=target.verb,
        group=target.resource.group,
        resource=target.resource.plural,
        namespace=target.namespace,
        name=target.name,
        subresource=target.subresource.name if target.subresource else "",
    )


def _is_dry_run(request: Request) -> bool:
    if request.query.get("dryRun"):
        return True
    if request.method != "DELETE" or not request.body:
        return False
    try:
        return bool(decoder(_DryRun)(request.body).dry_run)
    except msgspec.DecodeError:
        return False
