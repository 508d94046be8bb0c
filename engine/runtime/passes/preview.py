"""Previews: the plan that a pass would make now, with its verdicts. Nothing is recorded, and nothing applied.

It goes the way of a pass: what is rendered, planned and verified, by the same parts. Two things differ. Nobody may have
watched the cluster, so that every object is asked about. And later waves are dry-run too, where they can be, because
nobody waits for the first to be established; all of them, where there is a cluster to try things out in.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeAlias, cast

import anyio.to_thread
import msgspec

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.kinds.later import features_left
from tidelog.engine.kinds.meta import KUSTOMIZE_GROUP
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.plan.draft import Draft, Planner, Subject
from tidelog.engine.plan.model import Plan, Wanted
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.paths import root_path
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.binding import check_cluster
from tidelog.engine.runtime.errors import PreviewError, RefusedError
from tidelog.engine.runtime.handing import Handing
from tidelog.engine.runtime.memory import Facts, newest_of
from tidelog.engine.runtime.passes.moves import Moves
from tidelog.engine.runtime.passes.placing import placed
from tidelog.engine.runtime.passes.situation import Situation
from tidelog.engine.runtime.rendered import RenderedSet, Renderings, render_spec, sealed
from tidelog.engine.runtime.requests import told
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.scope import in_its_place
from tidelog.engine.runtime.settings import Settings, settings_of
from tidelog.engine.runtime.variables import Variables, read_variables
from tidelog.engine.runtime.watching.declared import (
    DeclaredKustomization,
    begun_of,
    found_of,
    made_with_secret,
    read_declared,
    source_of,
)
from tidelog.engine.runtime.wishes import TreeOf, Wishes
from tidelog.engine.secrecy.inherited import inherited
from tidelog.engine.secrecy.sealing import LostSecretError, Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.engine.sources.directory import DirectoryTree
from tidelog.engine.verify.checks import verdicts_of
from tidelog.engine.verify.guard import Held
from tidelog.events.names import ObjectId, ObjectKey, Revision, RunId, StreamName, cluster_of, object_stream
from tidelog.events.vocabulary import ConfigurationLoaded, Verdict
from tidelog.storage import Query, new_id, read_log, read_views
from tidelog.storage.artifacts.store import ArtifactStore
from tidelog.storage.errors import KeyMissingError, SecretError
from tidelog.storage.keys import DataKey, KeyRing
from tidelog.storage.layout import Layout
from tidelog.storage.log.sqlite_log import SqliteLogReader
from tidelog.storage.master_key import KEY_BYTES, find_master_key
from tidelog.storage.sealed import KEY_ID_BYTES
from tidelog.storage.trees import Trees

Rehearse: TypeAlias = Callable[[], AbstractAsyncContextManager[Cluster]]
"""A cluster that is as the one that is asked, while the block lasts, and in which everything may be done."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that was made to be looked at."""

    plan: Plan
    checks: tuple[str, ...]
    """Those that were made."""
    failed: tuple[Verdict, ...]
    """The verdicts of those that did not pass: with one of them, nothing would be applied."""
    held: Held | None
    """Why somebody would have to approve it."""
    suspended: bool = False
    """Whether the target is suspended: nothing is applied before it is resumed."""

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What each check said."""
        wrong = {verdict.check for verdict in self.failed}
        passed = [Verdict(check=check, passed=True, message="passed") for check in self.checks if check not in wrong]
        if self.held is None:
            return (*passed, *self.failed)
        held = Verdict(check=self.held.check, passed=False, message=f"it would be held: {self.held.why}")
        return (*(verdict for verdict in passed if verdict.check != self.held.check), *self.failed, held)


class Previewer:
    """Makes previews. Made by `open_previewer`."""

    def __init__(
        self,
        cluster: Cluster,
        facts: Facts,
        alias: str,
        settings: Settings,
        renderings: Renderings,
        artifacts: ArtifactStore,
        keys: "PreviewKeys",
        rehearse: Rehearse | None = None,
    ) -> None:
        self._cluster = cluster
        self._facts = facts
        self._alias = alias
        self._settings = settings
        self._renderings = renderings
        self._artifacts = artifacts
        self._keys = keys
        self._rehearse = rehearse

    async def of_source(self, target: StreamName) -> Preview:
        """What would become of a target now: by its source's last revision, or the moment that it is pinned to.

        Raises:
            PreviewError: when there is nothing to plan with.
            ClusterError: when the cluster cannot be asked.
        """
        declared = await self._declared(target)
        source = self._facts.desired.get(self._source_of(declared))
        if source is None or source.revision is None or source.tree is None:
            ref = declared.spec.source_ref
            raise PreviewError(f"{ref.kind} {ref.name} has no artifact yet: there is nothing to plan with")
        row = self._facts.desired.get(target)
        if row is not None and row.pinned is not None and row.pinned.left == source.revision:
            return await self.of_moment(target, row.pinned.position)
        return await self._of_tree(declared, self._artifacts, source.tree, source.revision)

    async def of_directory(self, target: StreamName, directory: Path) -> Preview:
        """What would become of a target if its source had the files of a directory.

        Raises:
            PreviewError: when there is nothing to plan with.
            DirectoryError, FetchError: when the directory cannot be taken as a tree.
            ClusterError: when the cluster cannot be asked.
        """
        declared = await self._declared(target)
        ignore = await self._ignore_of(declared)
        tree = await anyio.to_thread.run_sync(DirectoryTree.of, directory, ignore)
        path = declared.spec.path or "./"
        entry = tree.entry(tree.root, root_path(path))
        if entry is None or entry.kind != "tree":
            shown = _values_of(declared).filter(path)
            raise PreviewError(
                f"there is no directory {shown} in {directory}, and {told(target)} is built from that: "
                "name the root of the repository"
            )
        return await self._of_tree(declared, tree, tree.root, Revision(f"local@sha1:{tree.root}"))

    async def of_moment(self, target: StreamName, position: int) -> Preview:
        """What would become of a target if it were to want what it wanted at a position of the log.

        Raises:
            RefusedError: when it wanted nothing then.
            PreviewError: when what it wanted cannot be read any more.
            ClusterError: when the cluster cannot be asked.
        """
        declared = await self._declared(target)
        rendered = await self._renderings.at(target, position)
        if rendered is None or not rendered.wanted:
            raise RefusedError(f"{told(target)} wanted nothing at position {position}: give a later moment")
        revision = rendered.revision or Revision("")
        async with self._renderer(self._artifacts) as renderer:
            moves = await self._moves(declared, renderer, partial(newest_of, self._facts))
            return await self._plan(declared, rendered, revision, _values_of(declared), moves)

    # The way of a pass.

    async def _of_tree(self, declared: DeclaredKustomization, trees: Trees, tree: str, revision: Revision) -> Preview:
        secrets = _values_of(declared)
        spec = declared.spec
        try:
            variables = await read_variables(_Once(self._cluster), declared, self._keys.key)
            secrets.add(variables.secret_values)
            async with self._renderer(trees) as renderer:
                rendering = await renderer.render(
                    tree,
                    render_spec(spec),
                    declared.key,
                    variables.values,
                    variables.secret_names,
                    variables.handed,
                    time_s=spec.effective_timeout.seconds,
                )
                rendering = await in_its_place(rendering, self._cluster)
                made = sealed(rendering, await self._sealer(key.id for key in rendering.secret), secrets)
                moves = await self._moves(declared, renderer, self._trees_of(declared, trees, tree, revision))
                preview = await self._plan(declared, made.set, revision, secrets, moves)
                if not preview.failed:
                    return preview
                failed = await placed(renderer, tree, spec, preview.failed)
        except (RenderError, StageError) as error:
            raise PreviewError(secrets.filter(str(error))) from None
        return msgspec.structs.replace(preview, failed=tuple(failed))

    async def _plan(
        self,
        declared: DeclaredKustomization,
        rendered: RenderedSet,
        revision: Revision,
        secrets: SecretValues,
        moves: Moves,
    ) -> Preview:
        situation = Situation(self._facts, self._alias, self._settings, declared, doubted=True)
        wanted = rendered.wanted
        stale = situation.stale(wanted)
        sealer = await self._sealer(situation.secret(wanted, stale))
        try:
            loaded = await self._renderings.load(wanted, wanted, sealer)
        except LostSecretError as error:
            raise PreviewError(f"{error}, or their key is not given here: that moment cannot be brought back") from None
        for one in loaded:
            if one.secret:
                secrets.add_secret(one.object)
                if rendered.secret_values is None:
                    secrets.add_made(one.object)
        heirs = await moves.heirs(stale) if stale and situation.subject.prune else {}
        left = {id: heir.why for id, heir in heirs.items()}
        planner = situation.planner(self._cluster, sealer, _unseen, left)
        draft = await planner.draft(loaded, RunId(new_id()), revision, rendered.digest)
        if self._rehearse is None or draft.refused:
            await _look_further(planner, draft)
        else:
            async with self._rehearse() as copy:
                there = situation.planner(copy, sealer, _unseen, left)
                await _look_to_the_end(there, copy, situation.subject, draft)
        freed = await moves.freed(situation.others(draft))
        checks, failed = await verdicts_of(
            draft, self._cluster, lambda id: None if id in freed else situation.owner_of(id), declared.stream
        )
        return Preview(
            plan=draft.plan,
            checks=checks,
            failed=tuple(
                msgspec.structs.replace(verdict, message=secrets.filter(verdict.message)) for verdict in failed
            ),
            held=await situation.accident(draft.plan, asked_for=False),
            suspended=declared.suspended or self._is_suspended(declared.stream),
        )

    def _is_suspended(self, target: StreamName) -> bool:
        row = self._facts.desired.get(target)
        return row is not None and row.suspended is not None

    # What it takes.

    def _renderer(self, trees: Trees) -> Renderer:
        return Renderer(
            trees,
            strict=self._settings.strict_post_build_substitutions,
            remote_bases=not self._settings.no_remote_bases,
        )

    async def _moves(self, own: DeclaredKustomization, renderer: Renderer, tree_of: TreeOf) -> Moves:
        """What is known of objects that come to a target, or go from it, in what its source would be."""

        async def variables_of(target: DeclaredKustomization) -> Variables:
            return await read_variables(_Once(self._cluster), target, self._keys.key)

        wishes = Wishes(
            self._facts, self._alias, self._settings, self._renderings, renderer, variables_of, tree_of, self._cluster
        )
        targets = await self._others(own)
        return Moves(wishes, lambda: targets, self._cluster, self._settings, own)

    async def _others(self, own: DeclaredKustomization) -> dict[StreamName, DeclaredKustomization]:
        """The other targets that the daemon looks after."""
        kind = await self._cluster.kind(f"{KUSTOMIZE_GROUP}/v1", "Kustomization")
        namespace = "" if self._settings.watch_all_namespaces else self._settings.runtime_namespace
        listing = await self._cluster.list(kind, namespace=namespace, labels=self._settings.watch_label_selector)
        found = (read_declared(live, self._alias) for live in listing.items)
        return {
            target.stream: target
            for target in found
            if isinstance(target.spec, KustomizationSpec) and target.stream != own.stream
        }

    def _trees_of(self, own: DeclaredKustomization, trees: Trees, tree: str, revision: Revision) -> TreeOf:
        """What other targets would be built from: who has the same source, from the same tree."""

        def tree_of(source: StreamName) -> tuple[Revision, str] | None:
            if source == self._source_of(own):
                return revision, tree
            return newest_of(self._facts, source) if trees is self._artifacts else None

        return tree_of

    async def _declared(self, target: StreamName) -> DeclaredKustomization:
        key = ObjectKey.of_stream(target)
        kind = await self._cluster.kind(f"{key.group}/v1", key.kind)
        try:
            live = await self._cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            raise PreviewError(f"there is no {told(target)} in the cluster") from None
        declared = read_declared(live, self._alias)
        if not isinstance(declared.spec, KustomizationSpec):
            raise PreviewError(f"{told(target)} is a source, and applies nothing: name a Kustomization")
        declared.secret = await made_with_secret(live, self._alias, self._facts)
        declared.handed = await Handing(
            self._facts, self._alias, _Once(self._cluster), self._keys.key, self._target_of
        ).to(declared)
        left = (*declared.problems, *features_left(declared.spec))
        if left:
            raise PreviewError(_values_of(declared).filter("; ".join(left)))
        declared.found = found_of(declared, self._facts)
        declared.begun = await begun_of(declared, self._facts)
        return declared

    async def _target_of(self, target: StreamName) -> DeclaredKustomization | None:
        """A target as it is in the cluster, whatever is wrong with it."""
        key = ObjectKey.of_stream(target)
        kind = await self._cluster.kind(f"{key.group}/v1", key.kind)
        try:
            return cast(
                "DeclaredKustomization",
                read_declared(await self._cluster.get(kind, key.namespace, key.name), self._alias),
            )
        except NotFoundError:
            return None

    def _source_of(self, declared: DeclaredKustomization) -> StreamName:
        return source_of(declared).stream(self._alias)

    async def _ignore_of(self, declared: DeclaredKustomization) -> str | None:
        """The ignore rules of the target's source, where it has some."""
        key = source_of(declared)
        kind = await self._cluster.kind(f"{key.group}/v1", key.kind)
        try:
            live = await self._cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return None
        ignore = live["spec"].get("ignore")
        return ignore if isinstance(ignore, str) else None

    async def _sealer(self, secret: Iterable[ObjectId]) -> Sealer:
        return Sealer({id: await self._keys.key(object_stream(self._alias, id)) for id in set(secret)})


class PreviewKeys:
    """The keys of a store that is only read; where there is none, one that is forgotten with the preview.

    A plan compares digests under one key with each other, so that any key will do; only what was sealed before needs
    its own.
    """

    def __init__(self, ring: KeyRing | None) -> None:
        self._ring = ring
        self._made: dict[StreamName, DataKey] = {}

    async def key(self, stream: StreamName) -> DataKey:
        """The key of a stream."""
        known = self._made.get(stream)
        if known is None:
            known = self._made[stream] = await self._found(stream) or _ephemeral(stream)
        return known

    async def _found(self, stream: StreamName) -> DataKey | None:
        if self._ring is None:
            return None
        try:
            return await self._ring.key(stream)
        except KeyMissingError:
            return None


class _Once:
    """Reads objects that a target names, once each."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def get(self, _: StreamName, key: ObjectKey) -> KubeObject | None:
        kind = await self._cluster.kind("v1", key.kind)
        try:
            return await self._cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return None


def _values_of(declared: DeclaredKustomization) -> SecretValues:
    """What is known to be secret of a target before anything is read for it."""
    values = inherited(declared.live.get("spec") or {}) if declared.secret else ()
    return SecretValues([*values, *declared.handed.values])


async def _unseen(_: ObjectId, __: str, ___: Sealer) -> KubeObject | None:
    """What nobody has watched is asked for."""
    return None


async def _look_further(planner: Planner, draft: Draft) -> None:
    """Dry-runs the waves that a pass would ask about only when the ones before are established.

    What needs an object that the plan itself creates (its namespace, its CRD) cannot be asked about.
    """
    if draft.probed is None:
        return
    waves = list(draft.plan.waves)
    created = _created(draft)
    for number in range(draft.probed + 1, len(waves)):
        asked = [draft.wanted[step.object] for step in waves[number] if not _needs(draft.wanted[step.object], created)]
        steps = {step.object: step for step in await planner.probe(asked, draft)}
        waves[number] = tuple(steps.get(step.object, step) for step in waves[number])
    draft.plan = msgspec.structs.replace(draft.plan, waves=tuple(waves)).named()


async def _look_to_the_end(planner: Planner, copy: Cluster, subject: Subject, draft: Draft) -> None:
    """Dry-runs the later waves in a copy of the cluster, once the ones before are applied there."""
    if draft.probed is None:
        return
    waves = list(draft.plan.waves)
    for number in range(draft.probed + 1, len(waves)):
        for step in waves[number - 1]:
            if step.action in ("create", "update"):
                wanted = draft.wanted[step.object].object
                await copy.apply(wanted, manager=subject.manager, identity=subject.identity)
        copy.forget_kinds()
        waves[number] = await planner.probe([draft.wanted[step.object] for step in waves[number]], draft)
        if draft.refused:
            break  # what comes after it cannot be known
    draft.plan = msgspec.structs.replace(draft.plan, waves=tuple(waves)).named()


def _created(draft: Draft) -> frozenset[tuple[str, str]]:
    """The namespaces, as `("", name)`, and the kinds, as `(group, kind)`, that a plan brings."""
    found = set()
    for step in draft.plan.steps:
        one = draft.wanted.get(step.object)
        if one is None or not step.writes:
            continue
        if one.key.kind == "Namespace" and not one.key.group and step.action == "create":
            found.add(("", one.key.name))
        elif one.key.kind == "CustomResourceDefinition":
            spec = one.object.get("spec") or {}
            found.add((spec.get("group", ""), (spec.get("names") or {}).get("kind", "")))
    return frozenset(found)


def _needs(one: Wanted, created: frozenset[tuple[str, str]]) -> bool:
    return ("", one.key.namespace) in created or (one.key.group, one.key.kind) in created


def _ephemeral(stream: StreamName) -> DataKey:
    return DataKey(stream, os.urandom(KEY_ID_BYTES).hex(), os.urandom(KEY_BYTES), {})


@asynccontextmanager
async def open_previewer(
    cluster: Cluster, store: Path, target: StreamName, environment: Mapping[str, str], rehearse: Rehearse | None = None
) -> AsyncIterator[Previewer]:
    """Reads a store, whether or not a daemon is at work on it, to make previews of a target.

    With `rehearse`, it is dry-run what a plan does after it has made what that needs.

    Raises:
        StoreError: when it cannot be read.
        WrongClusterError: when the target is of another cluster.
        ClusterError: when the cluster cannot be asked.
    """
    alias = cluster_of(target)
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(read_log(store))
        await check_cluster(cluster, log, alias)
        views = read_views(log)
        facts = Facts(log)
        await facts.load(views)
        artifacts = await anyio.to_thread.run_sync(ArtifactStore.read_only, store)
        stack.callback(artifacts.close)
        keys = PreviewKeys(await anyio.to_thread.run_sync(_ring, log.layout, environment))
        settings = await _settings_of(log)
        yield Previewer(cluster, facts, alias, settings, Renderings(log, views), artifacts, keys, rehearse)


def _ring(layout: Layout, environment: Mapping[str, str]) -> KeyRing | None:
    """The keys of the store; None for who has not its master key."""
    try:
        return KeyRing.open(layout, find_master_key(layout, environment, create=False), create=False)
    except (SecretError, OSError):
        return None


async def _settings_of(log: SqliteLogReader) -> Settings:
    """The settings that the last daemon worked by."""
    last = None
    async for recorded in log.read(Query(types=("ConfigurationLoaded",))):
        last = recorded.event
    if not isinstance(last, ConfigurationLoaded):
        return Settings()
    return settings_of((await log.body(last.configuration.digest)).data)
