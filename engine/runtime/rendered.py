"""Rendered sets: a list of objects by id and digest, and where the objects themselves are to be had.

A set is small; its objects are bodies of the log, read only where something is to be done with them.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from typing import Any, TypeAlias

import anyio.to_thread
import msgspec

from tidelog.engine.kinds.decode import encode as encode_kind
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.kinds.meta import KUSTOMIZATION
from tidelog.engine.objects.kube import canonical_bytes, key_of, object_in
from tidelog.engine.plan.model import Wanted
from tidelog.engine.render.errors import ReadEntry
from tidelog.engine.render.renderer import Renderer, Rendering
from tidelog.engine.render.spec import RenderSpec
from tidelog.engine.runtime.variables import Variables
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import KEYED, Digest, digest_of
from tidelog.events.names import ObjectId, ObjectKey, Revision, StreamName
from tidelog.events.projections import DESIRED
from tidelog.events.typed import converter
from tidelog.events.vocabulary import Rendered, Tool
from tidelog.storage import Query
from tidelog.storage.log.sqlite_log import SqliteLogReader
from tidelog.storage.projections.views import Views

_ONCE = "once"
"""In the list of a set: of an object that is only made where it is not there."""
KEPT_MAX = 2_048
"""Sets that are kept in memory, as lists of digests."""


class RenderedSet(msgspec.Struct, kw_only=True):
    """A rendered set, as the log has it."""

    digest: Digest
    wanted: tuple[Wanted, ...]
    """In the order of their ids, without the objects themselves."""
    read_set: tuple[ReadEntry, ...] = ()
    toolchain: tuple[Tool, ...] = ()
    remote_bases: tuple[str, ...] = ()
    pinned: bool = False
    revision: Revision | None = None
    """That it was made from, of a set of a past moment."""
    secret_values: tuple[str, ...] | None = None
    """What substitution made of secret variables: in memory only, so not known (None) of a set from the log."""

    @property
    def tells_handed(self) -> bool:
        """Whether it says of all secret Kustomizations what was handed on to them; once, that was not recorded."""
        return all(one.handed is not None for one in self.wanted if one.secret and one.key[:2] == KUSTOMIZATION)


class Sealed(msgspec.Struct, kw_only=True):
    """A rendered set that is new: with its bodies."""

    set: RenderedSet
    objects: Body
    """The list."""
    read_set: Body
    bodies: list[Body]

    def event(self, revision: Revision, inputs: Digest) -> Rendered:
        """The event that records it."""
        return Rendered(
            revision=revision,
            inputs=inputs,
            read_set=self.read_set.ref,
            toolchain=self.set.toolchain,
            set=self.set.digest,
            objects=self.objects.ref,
            count=len(self.set.wanted),
        )


def render_spec(spec: KustomizationSpec) -> RenderSpec:
    """What of a spec decides how objects are rendered; the rest decides what becomes of them."""
    return converter(RenderSpec)(encode_kind(spec))


def written_as(spec: KustomizationSpec, key: ObjectKey) -> tuple[tuple[str, str], ...]:
    """Kind and name that an object may have in its file: without what the spec puts around names, else as it is."""
    name = key.name.removeprefix(spec.name_prefix or "").removesuffix(spec.name_suffix or "")
    return (key.kind, name), (key.kind, key.name)


def inputs_digest(
    spec: KustomizationSpec, variables: Variables, read_set: Iterable[ReadEntry], toolchain: Iterable[Tool]
) -> Digest:
    """The digest of all that a rendering is made from; what of it is secret is in it by a keyed one."""
    built_with = msgspec.to_builtins(render_spec(spec))
    handed = variables.handed
    if handed and variables.key is not None:
        built_with = variables.key.digest(encode([built_with, sorted(handed.variables), sorted(handed.values)]))
    return digest_of(
        encode(
            [
                built_with,
                variables.digest,
                [[entry.path, entry.id] for entry in read_set],
                [[tool.name, tool.version] for tool in toolchain],
            ]
        )
    )


async def would_be_the_same(
    renderer: Renderer,
    tree: str,
    spec: KustomizationSpec,
    variables: Variables,
    before: RenderedSet | None,
    inputs: Digest | None,
) -> bool:
    """Whether a rendering from `tree` would be the one before, made from `inputs`: nothing that it reads has changed.

    Raises:
        ObjectMissingError: when something of the tree is not in the store.
    """
    if before is None or inputs != inputs_digest(spec, variables, before.read_set, before.toolchain):
        return False
    return await anyio.to_thread.run_sync(renderer.unchanged, tree, before.read_set)


def sealed(rendering: Rendering, sealer: Sealer, secrets: SecretValues, once: Collection[ObjectKey] = ()) -> Sealed:
    """A rendered set with the bodies of its objects, what is secret sealed; `once` are made where they are absent."""
    wanted, bodies = [], []
    secrets.add(rendering.secret_values)
    for obj in rendering.objects:
        key = key_of(obj)
        secret = key in rendering.secret
        body = sealer.body(key.id, canonical_bytes(obj), secret=secret)
        if secret:
            secrets.add_secret(obj)
        bodies.append(body)
        handed = None
        if key in rendering.handed:
            # Under its own key: who forgets its stream forgets this too.
            given = sealer.body(key.id, encode(rendering.handed[key]), secret=True)
            bodies.append(given)
            handed = given.ref.digest
        wanted.append(
            Wanted(
                key=key,
                api_version=obj["apiVersion"],
                digest=body.ref.digest,
                secret=secret,
                handed=handed,
                once=key in once,
                loaded=obj,
            )
        )
    wanted.sort(key=lambda one: one.key.id)
    objects = Body.of(encode([_entry(one) for one in wanted]))
    read_set = Body.of(encode([[entry.path, entry.id] for entry in rendering.read_set]))
    made = RenderedSet(
        digest=objects.ref.digest,
        wanted=tuple(wanted),
        read_set=tuple(rendering.read_set),
        toolchain=tuple(rendering.toolchain),
        remote_bases=tuple(rendering.remote_bases),
        secret_values=tuple(rendering.secret_values),
    )
    return Sealed(set=made, objects=objects, read_set=read_set, bodies=[*bodies, objects, read_set])


def _entry(one: Wanted) -> list[str]:
    entry = [one.key.id, one.digest, one.api_version]
    if one.once:
        return [*entry, one.handed or "", _ONCE]
    return entry if one.handed is None else [*entry, one.handed]


def _listed(data: bytes) -> tuple[Wanted, ...]:
    entries = msgspec.json.decode(data, type=list[list[str]])
    return tuple(
        Wanted(
            key=ObjectKey.parse(id),
            api_version=version,
            digest=Digest(digest),
            secret=digest.startswith(KEYED),
            handed=Digest(more[0]) if more and more[0] else None,
            once=_ONCE in more[1:],
        )
        for id, digest, version, *more in entries
    )


Listed: TypeAlias = tuple[Digest, Digest | None]
"""Of an object in a rendered set: its digest, and that of what was handed on to it."""


def listed_in(data: bytes, id: ObjectId) -> Listed | None:
    """What the list of a rendered set says of a Kustomization; None where it is not in it."""
    begin = data.find(encode([id])[:-1] + b",")
    if begin < 0:
        return None
    _, digest, _, *more = msgspec.json.decode(data[begin : data.index(b"]", begin) + 1], type=list[str])
    return Digest(digest), Digest(more[0]) if more and more[0] else None


class Renderings:
    """The last rendered set of each target, and the past ones."""

    nothing = digest_of(encode([]))
    """The digest of a set without objects: what a target that is deleted wants."""

    def __init__(self, log: SqliteLogReader, views: Views) -> None:
        self._log = log
        self.views = views
        """What there was at other moments."""
        self._last: OrderedDict[StreamName, RenderedSet] = OrderedDict()
        self._lost: set[StreamName] = set()

    def keep(self, stream: StreamName, made: RenderedSet) -> None:
        """Remembers a target's last rendered set, as digests."""
        light = tuple(msgspec.structs.replace(one, loaded=None) for one in made.wanted)
        self._last[stream] = msgspec.structs.replace(made, wanted=light)
        self._last.move_to_end(stream)
        self._lost.discard(stream)
        if len(self._last) > KEPT_MAX:
            self._last.popitem(last=False)

    def has(self, stream: StreamName, digest: Digest) -> bool:
        """Whether an object's body is known to be in the log."""
        last = self._last.get(stream)
        return last is not None and any(one.digest == digest for one in last.wanted)

    def forget(self, stream: StreamName) -> None:
        """Lets go of a target that is no more."""
        self._last.pop(stream, None)
        self._lost.discard(stream)

    def lose(self, stream: StreamName) -> None:
        """Says that the last set cannot be read any more (secret values were forgotten): it is to be made again."""
        self._last.pop(stream, None)
        self._lost.add(stream)

    async def last(self, stream: StreamName) -> RenderedSet | None:
        """The set that the target came to want last; read from the log after a start."""
        if stream in self._lost:
            return None
        if stream not in self._last:
            rendered = await self._last_event(stream)
            if rendered is None:
                return None
            self.keep(stream, await self._of(rendered))
        return self._last[stream]

    async def event_at(self, stream: StreamName, position: int) -> Rendered | None:
        """The event that recorded what the target wanted when the log was at a position."""
        last = await self._log.last(Query(stream=stream, types=(Rendered.__name__,), until=position))
        event = None if last is None else last.event
        return event if isinstance(event, Rendered) else None

    async def at(self, stream: StreamName, position: int) -> RenderedSet | None:
        """The set that the target wanted when the log was at a position."""
        row = await self.views.row(DESIRED, stream, at=position)
        if row is None or row.objects is None or row.set is None:
            return None
        body = await self._log.body(row.objects.digest)
        return RenderedSet(digest=row.set, wanted=_listed(body.data), pinned=True, revision=row.revision)

    async def load(self, wanted: Sequence[Wanted], touched: Iterable[Wanted], sealer: Sealer) -> list[Wanted]:
        """The wanted objects; those that are touched with the objects themselves.

        Raises:
            LostSecretError: when one of these was secret, and was forgotten.
        """
        needed: set[ObjectId] = {one.key.id for one in touched}
        return [await self._loaded(one, sealer) if one.key.id in needed else one for one in wanted]

    async def _loaded(self, one: Wanted, sealer: Sealer) -> Wanted:
        if one.loaded is not None:
            return one
        body = await self._log.body(one.digest)
        return msgspec.structs.replace(one, loaded=object_in(sealer.open(one.key.id, body)))

    async def _last_event(self, stream: StreamName) -> Rendered | None:
        last = await self._log.last(Query(stream=stream, types=("Rendered",)))
        event = None if last is None else last.event
        return event if isinstance(event, Rendered) else None

    async def _of(self, event: Rendered) -> RenderedSet:
        objects = await self._log.body(event.objects.digest)
        read = await self._log.body(event.read_set.digest)
        entries = msgspec.json.decode(read.data, type=list[tuple[str, Any]])
        return RenderedSet(
            digest=event.set,
            wanted=_listed(objects.data),
            read_set=tuple(ReadEntry(path, id) for path, id in entries),
            toolchain=event.toolchain,
        )
