"""What is known of one target when a plan is made for it: by a pass that goes on to apply it, or by a preview."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from tidelog.engine.cluster.port import Cluster, Identity
from tidelog.engine.kinds.decode import InvalidObjectError, decode
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.plan.draft import Draft, Knowledge, Planner, Subject, is_unchanged
from tidelog.engine.plan.model import Plan, Wanted, is_secret
from tidelog.engine.runtime.memory import Facts
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.watching.declared import DeclaredTarget
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.verify.guard import Held, Owned, accident
from tidelog.events.names import ObjectId, ObjectKey, StreamName, object_stream
from tidelog.events.projections import Actual, Desired, Entry, Inventory
from tidelog.events.vocabulary import FieldDrift

MANAGER = "kustomize-controller"
"""The field manager: Flux's own, so that Tidelog can take over from Flux and hand back (Flux contract KS-069)."""

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
        """Whether an object is gone because it was done, and is not to be made again yet."""

    @property
    def subject(self) -> Subject:
        """The target, as far as planning needs to know it."""
        spec, key = self._declared.spec, self._declared.key
        return Subject(
            stream=self._stream,
            namespace=key.namespace,
            name=key.name,
            manager=MANAGER,
            identity=identity_of(self._declared, self._settings),
            force=spec.force,
            prune=spec.prune or self._declared.deleting,
            deleting=self._declared.deleting,
            custom_kinds=self._settings.custom_apply_stage_kinds,
            overridden=tuple(sorted(self._settings.override_manager)),
        )

    @property
    def inventory(self) -> Inventory:
        """What the target applied, and has not pruned."""
        return self._facts.inventory.get(self._stream) or Inventory(objects={})

    @property
    def found(self) -> dict[ObjectId, str]:
        """What the status that was found lists and the log does not know, with its API version."""
        known = self.inventory.objects
        return {id: version for id, version in self._declared.found.items() if id not in known}

    @property
    def desired(self) -> Desired:
        """What the target came to want last."""
        return self._facts.desired.get(self._stream) or Desired()

    def entry(self, id: ObjectId) -> Entry | None:
        """What the target last applied of an object."""
        return self.inventory.objects.get(id)

    def actual(self, id: ObjectId) -> Actual | None:
        """An object as last observed."""
        row = self._facts.actual.get(f"{self._alias}/{id}")
        return msgspec.structs.replace(row, drift=_UNKNOWN) if row is not None and self._doubted else row

    def owner_of(self, id: ObjectId) -> StreamName | None:
        """The target in whose inventory an object is."""
        actual = self.actual(id)
        if actual is None or actual.owner is None:
            return None
        inventory = self._facts.inventory.get(actual.owner)
        # A target that is no more may have left its objects behind.
        return actual.owner if inventory is not None and id in inventory.objects else None

    def others(self, draft: Draft) -> dict[ObjectId, StreamName]:
        """The objects that a plan writes, and that are in another target's inventory."""
        owners = {step.object: self.owner_of(step.object) for wave in draft.plan.waves for step in wave if step.writes}
        return {id: owner for id, owner in owners.items() if owner is not None and owner != self._stream}

    def unclaimed(self, id: ObjectId) -> bool:
        """Whether nobody else has applied an object since this target did."""
        actual = self.actual(id)
        return actual is None or actual.owner in (None, self._stream)

    def touched(self, wanted: Iterable[Wanted]) -> list[Wanted]:
        """The objects of a set that are not known to be as they should be."""
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
            left=left,
        )
        return Planner(cluster, self.subject, knowledge)

    async def accident(self, plan: Plan, *, asked_for: bool) -> Held | None:
        """Why a plan has to be approved first; None when its deletions look meant.

        Args:
            plan: for this target.
            asked_for: whether somebody deleted the target itself, or approved that.
        """
        found = self.found
        deleted = {step.object for step in plan.prunes if step.action == "delete"}
        owned = Owned(
            objects=len(self.inventory.objects.keys() | found.keys()),
            below=len(await self._with_all_below(deleted)) - len(deleted),
            deleting=self._declared.deleting,
            asked_for=asked_for,
            taken_over=any(id in found for id in deleted),
        )
        return accident(self._settings.prune_guard, plan, owned)

    async def _with_all_below(self, deleted: Iterable[ObjectId]) -> set[ObjectId]:
        """Objects that are deleted, and all that goes with them: a deleted target deletes what it owns, and so on."""
        gone = set(deleted)
        left = list(gone)
        while left:
            stream = object_stream(self._alias, left.pop())
            row = self._facts.inventory.get(stream)
            if row is None or await self._leaves_all_behind(stream):
                continue
            new = row.objects.keys() - gone
            gone |= new
            left.extend(new)
        return gone

    async def _leaves_all_behind(self, stream: StreamName) -> bool:
        """Whether a target, once deleted, deletes nothing; not so where its spec cannot be read."""
        row = self._facts.desired.get(stream)
        if row is None or row.spec is None:
            return False
        try:
            spec = decode(KustomizationSpec, msgspec.json.decode((await self._facts.log.body(row.spec.digest)).data))
        except (InvalidObjectError, msgspec.DecodeError):
            return False
        return row.suspended is not None or not spec.prunes_when_deleted
