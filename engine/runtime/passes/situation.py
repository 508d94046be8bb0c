"""What is known of one target when a plan is made for it: by a pass that goes on to apply it, or by a preview."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from tidelog.engine.cluster.port import Cluster, Identity, Propagation
from tidelog.engine.helm.marks import is_kept
from tidelog.engine.kinds.decode import InvalidObjectError, decode
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.kinds.meta import applier_of
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.plan.draft import Draft, HelmName, Knowledge, Planner, Subject, is_unchanged, why_left
from tidelog.engine.plan.model import Plan, Wanted, is_irreplaceable, is_secret
from tidelog.engine.runtime.memory import Facts
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.watching.declared import (
    DeclaredRelease,
    DeclaredTarget,
    is_kustomization,
    is_release,
)
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.verify.guard import Held, Owned, accident
from tidelog.events.names import ObjectId, ObjectKey, StreamName, object_stream
from tidelog.events.projections import Actual, Desired, Entry, Inventory
from tidelog.events.projections.desired import objects_cluster
from tidelog.events.vocabulary import FieldDrift

HELM_MANAGERS = ("helm", "helm-controller")
"""Who else may have applied the objects of a release, on the client's side or the server's: it is its own."""

Seen: TypeAlias = Callable[[ObjectId, str, Sealer], Awaitable[KubeObject | None]]
"""The state of an object at a resource version, where it is known without asking."""


_UNKNOWN = (FieldDrift(path=""),)


def identity_of(declared: DeclaredTarget, settings: Settings) -> Identity | None:
    """Who the server is to take the engine for when it writes for a target; None for the engine itself."""
    name = declared.spec.service_account_name or settings.default_service_account
    return Identity(f"system:serviceaccount:{declared.key.namespace}:{name}") if name else None


class Situation:
    """A target, and what the log says of it and of what it owns."""

    def __init__(
        self,
        facts: Facts,
        alias: str,
        settings: Settings,
        declared: DeclaredTarget,
        *,
        doubted: bool = False,
        rests: Callable[[ObjectId], bool] = lambda _: False,
    ) -> None:
        self._facts = facts
        self._alias = alias
        self._settings = settings
        self._declared = declared
        self._stream = declared.stream
        self._doubted = doubted
        """Whether nobody may have watched the cluster: then no object is known to be as it should be."""
        self._rests = rests
        self.uninstalls: HelmName | None = None
        """The release that is about to go, where one is: it may have another name than the spec now says."""
        """Whether an object is gone because it was done, and is not to be made again yet."""

    @property
    def subject(self) -> Subject:
        """The target, as far as planning needs to know it."""
        declared = self._declared
        subject = Subject(
            stream=self._stream,
            namespace=declared.key.namespace,
            name=declared.key.name,
            manager=applier_of(declared.key.kind),
            identity=identity_of(declared, self._settings),
            deleting=declared.deleting,
            custom_kinds=self._settings.custom_apply_stage_kinds,
            overridden=tuple(sorted(self._settings.override_manager)),
        )
        if is_release(declared):
            return self._of_release(subject, declared)
        if not is_kustomization(declared):
            raise TypeError(f"{declared.key.shown} is no target")
        spec = declared.spec
        return msgspec.structs.replace(subject, force=spec.force, prune=spec.prune or declared.deleting)

    def _of_release(self, subject: Subject, declared: DeclaredRelease) -> Subject:
        spec, key = declared.spec, declared.key
        named = HelmName(spec.release_name_of(key.name), spec.release_namespace_of(key.namespace))
        propagation: Mapping[str, Propagation] = {"foreground": "Foreground", "orphan": "Orphan"}
        ends = self.uninstalls is not None
        chosen = spec.effective_uninstall.deletion_propagation if ends else ""
        return msgspec.structs.replace(
            subject,
            deleting=subject.deleting or ends,
            overridden=(*HELM_MANAGERS, *subject.overridden),
            release=self.uninstalls or named,
            propagation=propagation.get(chosen, "Background"),
        )

    @property
    def inventory(self) -> Inventory:
        """What the target applied, and has not pruned."""
        return self._facts.inventory.get(self._stream) or Inventory(objects={})

    @property
    def found(self) -> dict[ObjectId, str]:
        """What may be the target's beside its inventory, with its API version.

        That is what the status that was found lists, and what an apply began to write of which no outcome is known.
        """
        known = self.inventory.objects
        found = self._declared.begun | self._declared.found
        return {id: version for id, version in found.items() if id not in known}

    @property
    def desired(self) -> Desired:
        """What the target came to want last."""
        return self._facts.desired.get(self._stream) or Desired()

    @property
    def same_terms(self) -> bool:
        """Whether what the target applied was verified by the terms of now: another may not apply what one may."""
        standing = self._facts.conditions.get(self._stream)
        return standing is None or not standing.terms or standing.terms == (self.subject.terms,)

    def entry(self, id: ObjectId) -> Entry | None:
        """What the target last applied of an object."""
        return self.inventory.objects.get(id)

    def actual(self, id: ObjectId) -> Actual | None:
        """An object as last observed."""
        row = self._facts.actual.get(f"{self._alias}/{id}")
        return msgspec.structs.replace(row, drift=_UNKNOWN) if row is not None and self._doubted else row

    def owner_of(self, id: ObjectId) -> StreamName | None:
        """The target in whose inventory an object is, and which has applied it: to name one is no claim to it."""
        actual = self.actual(id)
        if actual is None or actual.owner is None or actual.applied is None:
            return None
        inventory = self._facts.inventory.get(actual.owner)
        # A target that is no more may have left its objects behind.
        return actual.owner if inventory is not None and id in inventory.objects else None

    def is_anothers(self, id: ObjectId) -> bool:
        """Whether an object is another target's."""
        return self.owner_of(id) not in (None, self._stream)

    def others(self, draft: Draft) -> dict[ObjectId, StreamName]:
        """The objects that a plan writes, or leaves as they are, and that are in another target's inventory."""
        steps = [step for wave in draft.plan.waves for step in wave if step.writes or step.action == "skip"]
        owners = {step.object: self.owner_of(step.object) for step in steps}
        return {id: owner for id, owner in owners.items() if owner is not None and owner != self._stream}

    def unclaimed(self, id: ObjectId) -> bool:
        """Whether nobody else has applied an object since this target did."""
        actual = self.actual(id)
        return actual is None or actual.owner in (None, self._stream)

    def touched(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """The objects of a set that are not known to be as they should be."""
        if not self.same_terms:
            return list(wanted)
        objects = self.inventory.objects
        return [
            one
            for one in wanted
            if not is_unchanged(one, self._stream, objects.get(one.key.id), self.actual(one.key.id))
            and not self._is_done(one)
        ]

    def _is_done(self, wanted: Wanted) -> bool:
        """Whether an object is a Job that did what it is still wanted for, and was taken away."""
        entry = self.entry(wanted.key.id)
        return entry is not None and entry.desired == wanted.digest and self._rests(wanted.key.id)

    def stale(self, wanted: Iterable[Wanted]) -> set[ObjectId]:
        """The objects that the target owns, and that a set does not have."""
        return (self.inventory.objects.keys() | self.found.keys()) - {one.key.id for one in wanted}

    def secret(self, wanted: Iterable[Wanted], stale: Iterable[ObjectId]) -> list[ObjectId]:
        """Those of the objects that are secret, or were when they were last applied."""
        return [one.key.id for one in wanted if one.secret or self._is_secret(one.key)] + [
            id for id in stale if self._is_secret(ObjectKey.parse(id))
        ]

    def _is_secret(self, key: ObjectKey) -> bool:
        return is_secret(key, self.actual(key.id), self.entry(key.id))

    def planner(
        self, cluster: Cluster, sealer: Sealer, seen: Seen, left: Mapping[ObjectId, str] = MappingProxyType({})
    ) -> Planner:
        """What makes plans for the target; `left` has what is not to be pruned, and why."""
        knowledge = Knowledge(
            inventory=self.inventory.objects,
            found=self.found,
            actual=self.actual,
            seen=lambda id, version: seen(id, version, sealer),
            digest_of=sealer.digest,
            is_done=self._is_done,
            same_terms=self.same_terms,
            left=left,
        )
        return Planner(cluster, self.subject, knowledge)

    async def accident(self, plan: Plan, *, asked_for: bool, allowed: Collection[ObjectId] = ()) -> Held | None:
        """Why a plan has to be approved first; None when its deletions look meant.

        Args:
            plan: for this target.
            asked_for: whether somebody deleted the target itself, or approved that.
            allowed: what may be lost, because who approved that was told of it.
        """
        listed = self._declared.found.keys() - self.inventory.objects.keys()
        deleted = _deleted_by(plan)
        below = await self._all_below(deleted)
        owned = Owned(
            # Not what is only named, or what an apply only began to write: deletions would look few beside those.
            objects=len({id for id, entry in self.inventory.objects.items() if entry.uid} | listed),
            below=len(below),
            lost=_losses(below),
            allowed=allowed,
            deleting=self._declared.deleting,
            asked_for=asked_for,
            taken_over=not listed.isdisjoint(deleted),
        )
        return accident(self._settings.prune_guard, plan, owned)

    async def losses(self, plan: Plan) -> dict[ObjectId, list[ObjectId]]:
        """What no other apply brings back of what the targets own that a plan deletes, to any depth."""
        return _losses(await self._all_below(_deleted_by(plan)))

    async def _all_below(self, deleted: Sequence[ObjectId]) -> dict[ObjectId, ObjectId]:
        """What goes with objects that are deleted: a deleted target deletes what it owns, and so on.

        Returns: the deleted object that each goes with.
        """
        gone = {object_stream(self._alias, id): id for id in deleted}
        left = list(gone)
        while left:
            owner = left.pop()
            row = self._facts.inventory.get(owner)
            if row is None or await self._leaves_all_behind(owner):
                continue
            cluster = objects_cluster(owner, self._facts.desired.get(owner))
            below = {object_stream(cluster, id): id for id in sorted(row.objects)}
            for stream, id in below.items():
                if stream not in gone and not await self._is_left_by(owner, stream, id):
                    gone[stream] = gone[owner]
                    left.append(stream)
        ids = {stream.partition("/")[2]: root for stream, root in gone.items()}
        return {ObjectId(id): root for id, root in ids.items() if id != root}

    async def _is_left_by(self, owner: StreamName, stream: StreamName, id: ObjectId) -> bool:
        """Whether a target that is deleted leaves an object there, as that says; only what weighs is looked at."""
        if not is_irreplaceable(id) and self._facts.inventory.get(stream) is None:
            return False
        row = self._facts.actual.get(stream)
        if row is None:
            return True  # it is gone already
        if row.state is None or row.state.secret:
            return False
        key = ObjectKey.of_stream(owner)
        live = msgspec.json.decode((await self._facts.log.body(row.state.digest)).data)
        if key.kind == "HelmRelease":
            return is_kept(live, at_uninstall=True)
        return bool(why_left(live, key.namespace, key.name))

    async def _leaves_all_behind(self, stream: StreamName) -> bool:
        """Whether a target, once deleted, deletes nothing; not so where its spec cannot be read."""
        row = self._facts.desired.get(stream)
        if row is None or row.spec is None:
            return False
        if ObjectKey.of_stream(stream).kind == "HelmRelease":
            return row.suspended is not None
        try:
            spec = decode(KustomizationSpec, msgspec.json.decode((await self._facts.log.body(row.spec.digest)).data))
        except (InvalidObjectError, msgspec.DecodeError):
            return False
        return row.suspended is not None or not spec.prunes_when_deleted


def _deleted_by(plan: Plan) -> list[ObjectId]:
    return [step.object for step in plan.prunes if step.action == "delete"]


def _losses(below: Mapping[ObjectId, ObjectId]) -> dict[ObjectId, list[ObjectId]]:
    losses: dict[ObjectId, list[ObjectId]] = {}
    for id, root in below.items():
        if is_irreplaceable(id):
            losses.setdefault(root, []).append(id)
    return losses
