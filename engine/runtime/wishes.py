"""What targets want by the newest revision of their sources, also before their own passes have come to it.

A commit that moves an object from one target to another is seen by their passes in any order. Each has to know of the
other what it is about to want: the set that it wanted last says so only where nothing that it is made from has changed.
Else the set is built, and nothing is recorded. A build is shared with the target's own pass, which then finds it made.
"""

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias, cast

import anyio
import msgspec

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.kinds.later import features_left
from tidelog.engine.kinds.meta import KUSTOMIZATION
from tidelog.engine.objects.kube import KubeObject, canonical_bytes, key_of
from tidelog.engine.plan.model import Wanted
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.mentions import without_hash
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.memory import Facts
from tidelog.engine.runtime.rendered import RenderedSet, Renderings, render_spec, would_be_the_same, written_as
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.scope import FindsKinds, in_its_place
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.variables import Variables
from tidelog.engine.runtime.watching.declared import (
    DeclaredKustomization,
    read_declared,
    source_of,
)
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectKey, Revision, StreamName
from tidelog.storage.artifacts.errors import ObjectMissingError

BUILD_S = 60.0
"""How long a build for another target's sake may take; less where the built target's own timeout is shorter."""
KEPT_MAX = 2_048
"""Targets whose newest sets are remembered, as names of objects."""

VariablesOf: TypeAlias = Callable[[DeclaredKustomization], Awaitable[Variables]]
TreeOf: TypeAlias = Callable[[StreamName], tuple[Revision, str] | None]
"""The newest revision of a source, with its tree; None where it has none that could be built."""

_UNKNOWN = (RenderError, StageError, ObjectMissingError, ClusterError, TimeoutError)
"""Why it cannot be told what a target is about to want. Its own pass says so in full."""


class Wants(msgspec.Struct, frozen=True):
    """Of the objects that were asked about: those that a target wants."""

    surely: frozenset[ObjectKey] = frozenset()
    perhaps: frozenset[ObjectKey] = frozenset()
    """Its newest set cannot be built, and they stand in its files."""


class _Set(msgspec.Struct, frozen=True):
    """What a target wants, as the names of objects, and the Kustomizations among them."""

    objects: frozenset[ObjectKey] = frozenset()
    targets: tuple[Wanted, ...] = ()
    """With the objects themselves where they were built. Of those from the log, not what is secret."""


class _Newest(msgspec.Struct, frozen=True):
    """What a target wants; where that cannot be told (`sure`), what it wanted last, and the tree that was not built."""

    set: _Set
    sure: bool = True
    tree: str = ""

    @property
    def objects(self) -> frozenset[ObjectKey]:
        """The names of what it wants."""
        return self.set.objects


class _InFiles(msgspec.Struct, frozen=True):
    """Which objects may stand in the files of a target, and whether all that it wants stands there."""

    keys: frozenset[ObjectKey]
    whole: bool = True


class _Made(msgspec.Struct, frozen=True):
    """What came of a look at a target, and what that was made from."""

    basis: tuple[str, int, str, Digest]
    """The target's uid and generation, the tree, and its variables."""
    set: _Set | Digest
    """The digest of the set that it wanted last, where that is still what it wants."""


class Wishes:
    """Tells what targets want by the newest revision of their sources."""

    def __init__(
        self,
        facts: Facts,
        alias: str,
        settings: Settings,
        renderings: Renderings,
        renderer: Renderer,
        variables_of: VariablesOf,
        tree_of: TreeOf,
        home: FindsKinds,
    ) -> None:
        """Nothing is asked yet.

        Args:
            facts: what the log says.
            alias: of the engine's own cluster.
            settings: what is not to be done.
            renderings: what targets wanted before.
            renderer: builds.
            variables_of: what is put into what a target builds.
            tree_of: what a source has now.
            home: the engine's own cluster.
        """
        self._facts = facts
        self._alias = alias
        self._settings = settings
        self._renderings = renderings
        self._renderer = renderer
        self._variables_of = variables_of
        self._tree_of = tree_of
        self._home = home
        self._made: OrderedDict[StreamName, _Made] = OrderedDict()

    def forget(self, stream: StreamName) -> None:
        """Lets go of a target that is no more."""
        self._made.pop(stream, None)

    async def of(
        self,
        target: DeclaredKustomization,
        keys: Collection[ObjectKey],
        deadline: float = math.inf,
        cluster: FindsKinds | None = None,
    ) -> Wants:
        """Which of some objects a target wants. One that is being deleted wants none.

        Args:
            target: that is asked about.
            keys: of the objects.
            deadline: after which no build begins any more: what is not known by then, its files tell.
            cluster: that it is applied to; None for the engine's own.
        """
        asked = frozenset(key for key in keys if _could_have(target.spec, key))
        if not asked or target.deleting:
            return Wants()
        newest = await self._newest(target, deadline, cluster)
        surely = asked & newest.objects
        if newest.sure or not newest.tree:
            return Wants(surely)
        # An object of that name in another namespace explains why the name stands in the files.
        elsewhere = {_called(key) for key in newest.objects}
        left = {key for key in asked - surely if _called(key) not in elsewhere}
        return Wants(surely, (await self._in_files(target, newest.tree, left)).keys)

    async def coming(self, target: DeclaredKustomization, deadline: float = math.inf) -> list[DeclaredKustomization]:
        """The Kustomizations that a target is about to make, or to change: as they will be.

        Those that it makes in another cluster are nothing to this engine.
        Of one that had none so far it is not asked: of all that a commit changes, few are to be built for others' sake.
        """
        last = await self._renderings.last(target.stream)
        if target.deleting or target.spec.kube_config is not None or (last is not None and not _set(last).targets):
            return []
        newest = await self._newest(target, deadline)
        inventory = self._facts.inventory.get(target.stream)
        applied = {} if inventory is None else inventory.objects
        new = [
            one
            for one in newest.set.targets
            if (entry := applied.get(one.key.id)) is None or entry.desired != one.digest
        ]
        loaded = await self._renderings.load(new, new, Sealer())
        return [cast("DeclaredKustomization", read_declared(_as_made(one), self._alias)) for one in loaded]

    async def gives_up(
        self, target: DeclaredKustomization, keys: Collection[ObjectKey], cluster: FindsKinds | None = None
    ) -> frozenset[ObjectKey]:
        """Which of some objects a target surely does not want; of one that is applied to a cluster, or to the own."""
        if target.deleting:
            return frozenset(keys)
        newest = await self._newest(target, cluster=cluster)
        if newest.sure:
            return frozenset(keys) - newest.objects
        if not newest.tree:
            return frozenset()
        # What it needs for its build may be what the other is about to make: they would wait for each other for ever.
        found = await self._in_files(target, newest.tree, keys)
        return frozenset(keys) - found.keys if found.whole else frozenset()

    async def _newest(
        self, target: DeclaredKustomization, deadline: float = math.inf, cluster: FindsKinds | None = None
    ) -> _Newest:
        last = await self._renderings.last(target.stream)
        stays = _Newest(_set(last), sure=last is not None)
        newest = None if self._cannot_go_on(target) else self._tree_of(source_of(target).stream(self._alias))
        if newest is None:
            return stays
        revision, tree = newest
        row = self._facts.desired.get(target.stream)
        if row is not None and row.pinned is not None and row.pinned.left == revision:
            pinned = await self._renderings.at(target.stream, row.pinned.position)
            return _Newest(_set(pinned), sure=pinned is not None)
        if last is not None and self._has_come_to(target, revision, last):
            return stays
        try:
            return _Newest(await self._objects(target, tree, last, deadline, cluster or self._home))
        except _UNKNOWN:
            return _Newest(stays.set, sure=False, tree=tree)

    def _cannot_go_on(self, target: DeclaredKustomization) -> bool:
        """Whether a target stays at what it wanted last until somebody changes its spec."""
        abroad = source_of(target).namespace != target.key.namespace
        return bool(
            target.problems or features_left(target.spec) or (abroad and self._settings.no_cross_namespace_refs)
        )

    def _has_come_to(self, target: DeclaredKustomization, revision: Revision, last: RenderedSet) -> bool:
        """Whether the log says that a target is ready at a revision, with the set that it wanted last."""
        standing = self._facts.conditions.get(target.stream)
        build = target.spec.post_build
        return (
            standing is not None
            and standing.ready == "True"
            and standing.run is None
            and (standing.applied, standing.rendered, standing.observed) == (revision, last.digest, target.generation)
            and not (build and build.substitute_from)  # what is read from the cluster may have changed a moment ago
        )

    async def _objects(
        self,
        target: DeclaredKustomization,
        tree: str,
        last: RenderedSet | None,
        deadline: float,
        cluster: FindsKinds,
    ) -> _Set:
        variables = await self._variables_of(target)
        basis = target.uid, target.generation, tree, variables.digest
        made = self._made.get(target.stream)
        if made is not None and made.basis == basis:
            if isinstance(made.set, _Set):
                return made.set
            if last is not None and last.digest == made.set:
                return _set(last)
        standing = self._facts.conditions.get(target.stream)
        inputs = None if standing is None else standing.inputs
        if last is not None and await would_be_the_same(self._renderer, tree, target.spec, variables, last, inputs):
            self._keep(target.stream, _Made(basis, last.digest))
            return _set(last)
        if anyio.current_time() > deadline:
            raise TimeoutError
        built = await self._built(target, tree, variables, cluster)
        self._keep(target.stream, _Made(basis, built))
        return built

    async def _built(self, target: DeclaredKustomization, tree: str, variables: Variables, cluster: FindsKinds) -> _Set:
        rendering = await self._renderer.render(
            tree,
            render_spec(target.spec),
            target.key,
            variables.values,
            variables.secret_names,
            variables.handed,
            time_s=min(target.spec.effective_timeout.seconds, BUILD_S),
        )
        placed = await in_its_place(rendering, cluster)
        objects = {key_of(obj): obj for obj in placed.objects}
        targets = tuple(
            Wanted(key=key, api_version=obj["apiVersion"], digest=digest_of(canonical_bytes(obj)), loaded=obj)
            for key, obj in objects.items()
            if key[:2] == KUSTOMIZATION
        )
        return _Set(frozenset(objects), targets)

    def _keep(self, stream: StreamName, made: _Made) -> None:
        self._made[stream] = made
        self._made.move_to_end(stream)
        if len(self._made) > KEPT_MAX:
            self._made.popitem(last=False)

    async def _in_files(self, target: DeclaredKustomization, tree: str, keys: Collection[ObjectKey]) -> _InFiles:
        """Which objects may stand in the files of a target that cannot be built; all where that cannot be told."""
        if not keys:
            return _InFiles(frozenset())
        forms = {key: written_as(target.spec, key) for key in keys}
        try:
            with anyio.fail_after(BUILD_S):
                found = await self._renderer.mentions(
                    tree, render_spec(target.spec), {form for some in forms.values() for form in some}
                )
        except (ObjectMissingError, TimeoutError):
            return _InFiles(frozenset(keys))
        there = frozenset(key for key, some in forms.items() if not found.names.isdisjoint(some))
        return _InFiles(there, found.whole)


def _set(made: RenderedSet | None) -> _Set:
    if made is None:
        return _Set()
    targets = tuple(one for one in made.wanted if one.key[:2] == KUSTOMIZATION and not one.secret)
    return _Set(frozenset(one.key for one in made.wanted), targets)


def _as_made(one: Wanted) -> KubeObject:
    """A Kustomization as the server would have it: what it is made of stands for its uid."""
    metadata = one.object["metadata"] | {"uid": one.digest, "generation": 0}
    return one.object | {"metadata": metadata}


def _called(key: ObjectKey) -> tuple[str, str, str]:
    return key.group, key.kind, without_hash(key.name)


def _could_have(spec: KustomizationSpec, key: ObjectKey) -> bool:
    """Whether an object may be of a target: one with a `targetNamespace` has nothing in another."""
    return not spec.target_namespace or key.namespace in ("", spec.target_namespace)
