"""The watch of one kind: tells of every change of its objects, and when it cannot.

Listed first, then watched from the list's version. What a watch may do wrong is made good: a connection that drops is
taken up where it was, a version that the server has forgotten (410) means to list and compare, a deletion is believed
when a GET confirms it, and all is listed and compared every half hour besides. Of each object only uid and version
are kept, so that ten thousand of them cost a megabyte or two.

What is told has happened, and is told once; of changes that follow each other while nothing is watched, the last.
"""

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple, NoReturn, Protocol

import anyio
import msgspec

from tidelog.engine.cluster.errors import ClusterError, GoneError, NotFoundError, ServerError
from tidelog.engine.cluster.port import Kind, Listing, WatchEvent
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.observe.room import Room, check_size
from tidelog.events.names import ObjectKey


class Watched(Protocol):
    """What a reflector asks of a `Cluster`."""

    async def get(self, kind: Kind, namespace: str, name: str) -> KubeObject:
        """One object; NotFoundError when there is none."""
        ...

    def pages(
        self, kind: Kind, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[Listing, None]:
        """The pages of a list."""
        ...

    def watch(
        self, kind: Kind, *, resource_version: str, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        """The changes after a version."""
        ...


class Handler(Protocol):
    """Who is told. No more is read from the server until it is done; an error that it raises ends the reflector."""

    async def changed(self, obj: KubeObject) -> None:
        """An object is new, or now like this. It may be kept and changed."""
        ...

    async def gone(self, key: ObjectKey, uid: str) -> None:
        """An object that was told of is no more: the server was asked for it by name."""
        ...

    async def interrupted(self, why: str) -> None:
        """From here on changes may go unseen; told once, until `resumed`."""
        ...

    async def resumed(self) -> None:
        """All objects have been listed and compared, and are watched from here on; told after the first list too."""
        ...


class Pace(msgspec.Struct, frozen=True):
    """How patient a reflector is. Delays vary at random, so that not all kinds come at once after a restart."""

    retry_min_s: float = 0.5
    """Before the first retry; doubled for each further one."""
    retry_max_s: float = 30.0
    asked_max_s: float = 300.0
    """The longest wait that a busy server may ask for: meanwhile nothing is seen."""
    relist_s: float = 1_800.0
    """How often all objects are listed and compared."""
    idle_s: float = 300.0
    """A watch that says nothing for so long, not even a bookmark (one a minute is usual), is opened anew."""


class _Known(NamedTuple):
    uid: str
    version: str


class Reflector:
    """Watches the objects of one kind, all or those that selectors name."""

    def __init__(
        self,
        cluster: Watched,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        pace: Pace = Pace(),  # noqa: B008 - immutable
        chance: Callable[[], float] = random.random,
        room: Room | None = None,
    ) -> None:
        """Nothing is asked before `run`.

        Args:
            cluster: whom to ask.
            kind: what to watch.
            namespace: only objects in it; empty for all.
            labels: a label selector in Kubernetes' words. An object that loses its labels is told of as changed, and
                is then compared whenever all are listed again, no longer watched.
            fields: a field selector, such as `metadata.name=web`.
            pace: delays.
            chance: a number from 0 to 1 each time, for the delays to vary.
            room: bounds how many objects are known; None where the server is believed.
        """
        self._cluster = cluster
        self._kind = kind
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._pace = pace
        self._chance = chance
        self._room = room
        self._known: dict[tuple[str, str], _Known] = {}
        self._failures = 0

    def __len__(self) -> int:
        """How many objects are known."""
        return len(self._known)

    def forget(self) -> None:
        """Knows nothing any more: it is not run again."""
        if self._room is not None:
            self._room.give(len(self._known))
        self._known.clear()

    async def run(self, handler: Handler) -> NoReturn:
        """Watches until it is cancelled. Run again, it goes on from what it knows."""
        watching = False
        while True:
            try:
                version = await self._list(handler)
                if not watching:
                    await handler.resumed()
                watching = True
                await self._watch(handler, version)
            except ClusterError as error:
                self._failures += 1
                if watching:
                    await handler.interrupted(str(error))
                watching = False
                await self._wait(error)

    async def _list(self, handler: Handler) -> str:
        """Compares all objects with what is known; returns the version from which to watch."""
        seen: set[tuple[str, str]] = set()
        version = ""
        pages = self._cluster.pages(self._kind, namespace=self._namespace, labels=self._labels, fields=self._fields)
        async with aclosing(pages):
            async for page in pages:
                # That of the first page: should a later one be of a later moment, what lies between is seen again.
                version = version or page.resource_version
                for obj in page.items:
                    _check(obj)
                    seen.add(_name_of(obj))
                    known = self._known.get(_name_of(obj))
                    if known is None or known.version != _version_of(obj) or known.uid != obj["metadata"]["uid"]:
                        await self._tell(obj, handler)
        for name in [name for name in self._known if name not in seen]:
            await self._confirm(name, handler)
        return version

    async def _watch(self, handler: Handler, version: str) -> None:
        """Watches from `version` until it is time to list again.

        Raises:
            ClusterError: when changes may be lost, or the connection could not be had again at once.
        """
        until = anyio.current_time() + self._pace.relist_s * (0.9 + 0.2 * self._chance())
        dropped = ended = 0
        while anyio.current_time() < until:
            events = self._cluster.watch(
                self._kind,
                resource_version=version,
                namespace=self._namespace,
                labels=self._labels,
                fields=self._fields,
            )
            try:
                async with aclosing(events):
                    while (event := await self._next(events, until)) is not None:
                        # What is not after the version that was asked for is sent again, or out of its order.
                        if is_newer(_version_of(event.object), version):
                            await self._take(event, handler)
                            version = _version_of(event.object)
                        self._failures = dropped = ended = 0
            except GoneError:
                raise
            except ClusterError:
                dropped += 1
                if dropped > 1:
                    raise
            ended += 1
            await anyio.sleep(self._delay(ended))

    async def _next(self, events: AsyncGenerator[WatchEvent, None], until: float) -> WatchEvent | None:
        """The next event; None when there is none, or it is time to open the watch anew, or to list."""
        with anyio.move_on_after(min(self._pace.idle_s, until - anyio.current_time())):
            return await anext(events, None)
        return None

    async def _take(self, event: WatchEvent, handler: Handler) -> None:
        if event.type == "BOOKMARK":
            return
        name = _name_of(event.object)
        known = self._known.get(name)
        # The list has told of what is not newer than what is known.
        if known is not None and not is_newer(_version_of(event.object), known.version):
            return
        if event.type != "DELETED":
            await self._tell(event.object, handler)
        elif known is not None:
            await self._confirm(name, handler)

    async def _tell(self, obj: KubeObject, handler: Handler) -> None:
        name, uid = _name_of(obj), obj["metadata"]["uid"]
        known = self._known.get(name)
        if self._room is not None:
            check_size(obj)
        if known is not None and known.uid != uid:
            await self._forget(name, handler)
        if self._room is not None and name not in self._known:
            self._room.take()
            self._known[name] = _Known(uid, "")  # told next
        # The items of a list do not say what they are.
        obj.setdefault("apiVersion", self._kind.api_version)
        obj.setdefault("kind", self._kind.kind)
        version = _version_of(obj)  # before the object is handed over
        await handler.changed(obj)
        self._known[name] = _Known(uid, version)

    async def _confirm(self, name: tuple[str, str], handler: Handler) -> None:
        """Asks for an object that is said to be gone, or was not in the list, and tells what is so."""
        known = self._known[name]
        try:
            obj = await self._cluster.get(self._kind, *name)
        except NotFoundError:
            await self._forget(name, handler)
            return
        if known != _Known(obj["metadata"]["uid"], _version_of(obj)):
            await self._tell(obj, handler)

    async def _forget(self, name: tuple[str, str], handler: Handler) -> None:
        key = ObjectKey(self._kind.group, self._kind.kind, *name)
        await handler.gone(key, self._known[name].uid)
        del self._known[name]
        if self._room is not None:
            self._room.give()

    async def _wait(self, error: ClusterError) -> None:
        asked = error.status.retry_after_s or 0.0
        await anyio.sleep(max(self._delay(self._failures), min(asked, self._pace.asked_max_s)))

    def _delay(self, attempt: int) -> float:
        doubled: float = self._pace.retry_min_s * 2 ** min(attempt - 1, 30)
        return min(doubled, self._pace.retry_max_s) * (0.5 + 0.5 * self._chance())


def _check(obj: KubeObject) -> None:
    """Whether an item of a list can be told from what was there before.

    Raises:
        ServerError: when it has no uid, or no version: it is no object that the server keeps.
    """
    metadata = obj["metadata"]
    if not all(isinstance(metadata.get(field), str) for field in ("uid", "resourceVersion")):
        raise ServerError(
            f"the server lists {metadata['name']} without its uid or version: is there a proxy in between?"
        )


def _name_of(obj: KubeObject) -> tuple[str, str]:
    """Namespace and name."""
    metadata = obj["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def _version_of(obj: KubeObject) -> str:
    version: str = obj["metadata"]["resourceVersion"]
    return version


def is_newer(version: str, known: str) -> bool:
    """Whether a resource version comes after another. They are numbers; of others, any that differs counts as newer."""
    if version.isdecimal() and known.isdecimal():
        # Whoever says so may say thousands of digits, of which Python makes no number.
        return (len(version), version) > (len(known), known)
    return version != known
