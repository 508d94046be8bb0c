"""What previews of all kinds of targets have in common.

A preview goes the way of a pass: what is rendered, planned and verified, by the same parts. Two things differ. Nobody
may have watched the cluster, so that every object is asked about. And later waves are dry-run too, where they can be,
because nobody waits for the first to be established; all of them, where there is a cluster to try things out in.
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Final, TypeAlias, cast

import anyio
import msgspec

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.kinds.later import features_left
from tidelog.engine.kinds.registry import api_version_of
from tidelog.engine.objects.kube import KubeObject, mapping
from tidelog.engine.plan.draft import Draft, Planner, Subject
from tidelog.engine.plan.model import Plan, Step, Wanted
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.errors import PreviewError
from tidelog.engine.runtime.handing import Handing, TargetOf
from tidelog.engine.runtime.memory import Facts
from tidelog.engine.runtime.passes.moves import Heir, Moves, UnsettledError
from tidelog.engine.runtime.passes.previews.places import Places
from tidelog.engine.runtime.passes.previews.told import ReleaseTold
from tidelog.engine.runtime.passes.situation import Situation
from tidelog.engine.runtime.rendered import RenderedSet, Renderings
from tidelog.engine.runtime.requests import told
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.watching.declarations import begun_of, found_of, made_with_secret
from tidelog.engine.runtime.watching.declared import (
    DeclaredKustomization,
    DeclaredTarget,
    is_target,
    read_declared,
)
from tidelog.engine.secrecy.inherited import inherited
from tidelog.engine.secrecy.sealing import LostSecretError, Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.engine.verify.checks import verdicts_of
from tidelog.engine.verify.guard import Held
from tidelog.events.names import ObjectId, ObjectKey, Revision, RunId, StreamName, object_stream
from tidelog.events.projections.desired import objects_cluster
from tidelog.events.vocabulary import Verdict
from tidelog.storage import new_id
from tidelog.storage.artifacts.store import ArtifactStore
from tidelog.storage.errors import KeyMissingError
from tidelog.storage.keys import DataKey, KeyRing
from tidelog.storage.master_key import KEY_BYTES
from tidelog.storage.sealed import KEY_ID_BYTES
from tidelog.storage.trees import Trees

GONE_WITHIN_S: Final = 5.0
"""How long an object may take to go in a copy of a cluster, where nothing but its own controllers is at work."""
GONE_LOOK_S: Final = 0.02

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
    release: ReleaseTold | None = None
    """Of a HelmRelease: which version of its release would be made, or why none."""
    given_up: bool = False
    """Whether it failed, and nothing more is tried."""

    @property
    def changes(self) -> bool:
        """Whether anything would be done: another version of a release may have the same objects."""
        return not self.plan.is_empty or (self.release is not None and self.release.acts)

    @property
    def is_applied(self) -> bool:
        """Whether a pass would apply the plan at once."""
        return not self.failed and self.held is None and not self.suspended and not self.given_up

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What each check said."""
        wrong = {verdict.check for verdict in self.failed}
        passed = [Verdict(check=check, passed=True, message="passed") for check in self.checks if check not in wrong]
        if self.held is None:
            return (*passed, *self.failed)
        held = Verdict(check=self.held.check, passed=False, message=f"it would be held: {self.held.why}")
        return (*(verdict for verdict in passed if verdict.check != self.held.check), *self.failed, held)


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """What previews are made with."""

    cluster: Cluster
    facts: Facts
    alias: str
    """Of the cluster."""
    settings: Settings
    """Those that the last daemon worked by."""
    renderings: Renderings
    artifacts: ArtifactStore
    keys: "PreviewKeys"
    scratch: Path
    """A directory of the preview's own."""
    places: Places
    """Goes to other clusters."""
    rehearse: "Rehearse | None" = None
    carries_out: bool = False
    """Whether what is planned is done in the cluster too, so that what is planned next finds it: in a copy only."""


class Previews:
    """Makes previews of one kind of target."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._cluster, self._facts, self._alias = tools.cluster, tools.facts, tools.alias
        self._settings, self._renderings = tools.settings, tools.renderings
        self._artifacts, self._keys = tools.artifacts, tools.keys
        self._there = tools.places.home
        """What the target is applied to, of which a preview is made now."""
        self._rehearse = tools.rehearse
        """Where it can be tried out, if anywhere: of another cluster there is no copy."""

    async def chain_to(self, target: StreamName) -> list[StreamName]:
        """What a target depends on, and what that does, each after its own; the target itself is the last.

        Raises:
            PreviewError: when one is not there, or they wait for each other.
            ClusterError: when the cluster cannot be asked.
        """
        chain: list[StreamName] = []
        await self._follow(target, (), chain)
        return chain

    async def _follow(self, target: StreamName, above: tuple[StreamName, ...], chain: list[StreamName]) -> None:
        if target in above:
            raise PreviewError(f"they wait for each other: {' → '.join(map(told, (*above, target)))}")
        if target in chain:
            return
        version = api_version_of(ObjectKey.of_stream(target)).rpartition("/")[2]
        declared = read_declared(await self._live(target, version), self._alias)
        if not is_target(declared):
            raise PreviewError(f"{told(target)} applies nothing")
        for one in declared.spec.depends_on:
            key = declared.key._replace(namespace=one.namespace or declared.key.namespace, name=one.name)
            await self._follow(key.stream(self._alias), (*above, target), chain)
        chain.append(target)

    async def _planned(
        self,
        situation: Situation,
        declared: DeclaredTarget,
        rendered: RenderedSet,
        revision: Revision,
        secrets: SecretValues,
        *,
        moves: Moves | None = None,
        prunes: bool = True,
    ) -> Preview:
        """The plan that brings the cluster to a set, with its verdicts.

        Raises:
            PreviewError: when what is secret in the set was forgotten.
            ClusterError: when the cluster cannot be asked.
        """
        wanted = rendered.wanted
        stale = situation.stale(wanted) if prunes else set()
        sealer = await self._sealer(situation.secret(wanted, stale))
        try:
            loaded = await self._renderings.load(wanted, wanted, sealer)
        except LostSecretError as error:
            raise PreviewError(f"{error}, or their key is not given here: that moment cannot be brought back") from None
        secrets.tell({declared.key.name, declared.key.namespace, revision})
        for one in loaded:
            if one.secret:
                secrets.add_secret(one.object)
                if rendered.secret_values is None:
                    secrets.add_made(one.object)
        heirs = await self._heirs(moves, stale) if moves is not None and situation.subject.prune else {}
        left = {id: heir.why for id, heir in heirs.items()}
        planner = situation.planner(self._there.cluster, sealer, _unseen, left)
        draft = await planner.draft(loaded, RunId(new_id()), revision, rendered.digest, prunes=prunes)
        if self._rehearse is None or draft.refused:
            await _look_further(planner, draft)
        else:
            async with self._rehearse() as copy:
                there = situation.planner(copy, sealer, _unseen, left)
                await _look_to_the_end(there, copy, situation.subject, draft)
        freed = frozenset() if moves is None else await moves.freed(situation.others(draft))
        checks, failed = await verdicts_of(
            draft, self._there.cluster, lambda id: None if id in freed else situation.owner_of(id), declared.stream
        )
        preview = Preview(
            plan=draft.plan,
            checks=checks,
            failed=tuple(
                msgspec.structs.replace(verdict, message=secrets.filter(verdict.message)) for verdict in failed
            ),
            held=await situation.accident(draft.plan, asked_for=False),
            suspended=declared.suspended or self._is_suspended(declared.stream),
        )
        if self._tools.carries_out and preview.is_applied:
            await _carry_out(self._cluster, situation.subject, draft, draft.plan.steps)
        return preview

    async def _heirs(self, moves: Moves, stale: Collection[ObjectId]) -> Mapping[ObjectId, Heir]:
        try:
            return await moves.heirs(stale)
        except UnsettledError as error:
            raise PreviewError(str(error)) from None

    def _situation(self, declared: DeclaredTarget) -> Situation:
        return Situation(self._facts, self._there.alias, self._settings, declared, doubted=True)

    def _is_suspended(self, target: StreamName) -> bool:
        row = self._facts.desired.get(target)
        return row is not None and row.suspended is not None

    def _renderer(self, trees: Trees) -> Renderer:
        """What has kustomize."""
        return Renderer(
            trees,
            strict=self._settings.strict_post_build_substitutions,
            remote_bases=not self._settings.no_remote_bases,
        )

    async def _live(self, target: StreamName, version: str) -> KubeObject:
        """The target as it is in the cluster."""
        key = ObjectKey.of_stream(target)
        kind = await self._cluster.kind(f"{key.group}/{version}", key.kind)
        try:
            return await self._cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            raise PreviewError(f"there is no {told(target)} in the cluster") from None

    async def _prepared(self, declared: DeclaredTarget, target_of: TargetOf) -> SecretValues:
        """Has a target know what a pass knows of it; returns what is secret of it before anything is read for it."""
        declared.secret = await made_with_secret(declared.live, self._alias, self._facts)
        handing = Handing(self._facts, self._alias, Once(self._cluster), self._keys.key, target_of)
        declared.handed = await handing.to(declared)
        secrets = values_of(declared)
        left = (*declared.problems, *features_left(declared.spec))
        if left:
            raise PreviewError(secrets.filter("; ".join(left)))
        await self._reach(declared, secrets)
        declared.found = await found_of(declared, self._facts)
        declared.begun = await begun_of(declared, self._facts)
        return secrets

    async def _reach(self, declared: DeclaredTarget, secrets: SecretValues) -> None:
        """The cluster that a target is applied to can be asked.

        Raises:
            PreviewError: when nothing can be planned there.
            ClusterError: when it cannot be asked.
        """
        reference, tools = declared.spec.kube_config, self._tools
        if reference is not None and tools.carries_out:
            raise PreviewError(
                f"spec.kubeConfig: {told(declared.stream)} is applied to another cluster, of which there is no copy to"
                " do anything in: plan without --with-dependencies"
            )
        self._there = await tools.places.of(declared.key.namespace, reference, secrets)
        self._rehearse = tools.rehearse if reference is None else None
        inventory = self._facts.inventory.get(declared.stream)
        before = objects_cluster(declared.stream, self._facts.desired.get(declared.stream))
        if before != self._there.alias and inventory is not None and inventory.objects:
            raise PreviewError(
                "spec.kubeConfig: it is about to be applied to another cluster than before, where its next run begins "
                "anew, and leaves what it applied so far where it is: a preview is of the time after that"
            )

    async def _kustomization(self, target: StreamName) -> DeclaredKustomization | None:
        """A Kustomization as it is in the cluster, whatever is wrong with it."""
        key = ObjectKey.of_stream(target)
        kind = await self._cluster.kind(f"{key.group}/v1", key.kind)
        try:
            live = await self._cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return None
        return cast("DeclaredKustomization", read_declared(live, self._alias))

    async def _sealer(self, secret: Iterable[ObjectId]) -> Sealer:
        return await self._keys.sealer(self._there.alias, secret)


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

    async def sealer(self, alias: str, secret: Iterable[ObjectId]) -> Sealer:
        """What seals some objects that are secret."""
        return Sealer({id: await self.key(object_stream(alias, id)) for id in set(secret)})

    async def _found(self, stream: StreamName) -> DataKey | None:
        if self._ring is None:
            return None
        try:
            return await self._ring.key(stream)
        except KeyMissingError:
            return None


class Once:
    """Reads objects that a target names, once each."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def get(self, _: StreamName, key: ObjectKey) -> KubeObject | None:
        """An object as it now is; None when it is not there."""
        kind = await self._cluster.kind("v1", key.kind)
        try:
            return await self._cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return None


def values_of(declared: DeclaredTarget) -> SecretValues:
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
        await _carry_out(copy, subject, draft, waves[number - 1])
        waves[number] = await planner.probe([draft.wanted[step.object] for step in waves[number]], draft)
        if draft.refused:
            break  # what comes after it cannot be known
    draft.plan = msgspec.structs.replace(draft.plan, waves=tuple(waves)).named()


async def _carry_out(copy: Cluster, subject: Subject, draft: Draft, steps: Iterable[Step]) -> None:
    """Does in a copy of the cluster what steps of a plan say, as the door does it in the cluster itself."""
    for step in steps:
        key = ObjectKey.parse(step.object)
        if step.action in ("delete", "recreate"):
            kind = await copy.kind(step.api_version, key.kind)
            with suppress(NotFoundError):
                await copy.delete(kind, key.namespace, key.name, identity=subject.identity)
            if step.action == "recreate" and not await _is_gone(copy, kind, key):
                continue  # something holds it: what follows finds it as it was
        if step.action in ("create", "update", "recreate"):
            wanted = draft.wanted[step.object].object
            await copy.apply(wanted, manager=subject.manager, identity=subject.identity)
            if key.kind == "CustomResourceDefinition":
                copy.forget_kinds()


async def _is_gone(copy: Cluster, kind: Kind, key: ObjectKey) -> bool:
    """Whether an object that was deleted is gone within a while; its finalizers may be left to nobody in a copy."""
    with anyio.move_on_after(GONE_WITHIN_S):
        while True:
            try:
                await copy.get(kind, key.namespace, key.name)
            except NotFoundError:
                return True
            await anyio.sleep(GONE_LOOK_S)
    return False


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
            spec = mapping(one.object, "spec")
            found.add((str(spec.get("group", "")), str(mapping(spec, "names").get("kind", ""))))
    return frozenset(found)


def _needs(one: Wanted, created: frozenset[tuple[str, str]]) -> bool:
    return ("", one.key.namespace) in created or (one.key.group, one.key.kind) in created


def _ephemeral(stream: StreamName) -> DataKey:
    return DataKey(stream, os.urandom(KEY_ID_BYTES).hex(), os.urandom(KEY_BYTES), {})
