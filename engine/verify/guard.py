"""The prune guard: a plan whose deletions look like an accident waits for somebody to approve it.

What was lost when other engines pruned by mistake (namespaces, definitions of kinds, volumes, most of a cluster
after one bad commit) does not come back with the next apply.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated

import msgspec

from tidelog.engine.plan.model import Plan, is_destructive
from tidelog.events.names import ObjectId, ObjectKey

DELETIONS_MAX = 20
SHARE_MAX = 50
SHARE_FROM = 5
EXAMPLES_MAX = 5
"""Objects that a message names."""

CHECK = "prune-guard"


class Guard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What a plan may delete without asking."""

    enabled: bool = True
    destructive: bool = False
    """Let plans delete namespaces, definitions of kinds (CRDs) and volumes."""
    deletions_max: Annotated[int, msgspec.Meta(ge=0)] = DELETIONS_MAX
    """How many objects a plan may delete; what deleted Kustomizations own counts too, to any depth."""
    share_max: Annotated[int, msgspec.Meta(ge=0, le=100)] = SHARE_MAX
    """How many percent of a target's inventory a plan may delete, where it deletes `share-from` objects or more."""
    share_from: Annotated[int, msgspec.Meta(ge=0)] = SHARE_FROM
    """From how many deletions on their share counts: of three objects, two are quickly gone on purpose."""
    namespace: str = "flux-system"
    """The engine's own namespace, whose deletion is always held."""


class Held(msgspec.Struct, frozen=True):
    """The check that holds a plan, and why."""

    check: str
    why: str


class Owned(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard has to know of the target beside its plan."""

    objects: int
    """In its inventory, before the plan."""
    below: int = 0
    """Objects beside the plan's that would go with it: what the targets that it deletes own, to any depth."""
    lost: Mapping[ObjectId, Sequence[ObjectId]] = {}
    """Of these, what no other apply brings back, by the target of the plan with which it would go."""
    allowed: Collection[ObjectId] = ()
    """What may be lost, because who approved the plan that deleted this target was told of it."""
    deleting: bool = False
    """Whether the target itself is being deleted, so that what share of it goes says nothing."""
    asked_for: bool = False
    """Whether somebody deleted the target itself, or approved that, so that deleting all it owns is what they want.

    Not so where the engine pruned it because another target no longer wants it: nobody may have meant that.
    """
    taken_over: bool = False
    """Whether some of the inventory is known only from the status that another engine left."""


def accident(guard: Guard, plan: Plan, owned: Owned) -> Held | None:
    """Why a plan has to be approved first; None when its deletions look meant."""
    if not guard.enabled:
        return None
    deleted = [step.object for step in plan.prunes if step.action == "delete"]
    losses = _losses(guard, plan, owned)
    if losses:
        return Held(CHECK, losses)
    if deleted and owned.taken_over:
        return Held("taken-over", f"it is the first to delete ({_named(deleted)}) since another engine was in charge")
    if owned.asked_for:
        return None
    if len(deleted) + owned.below > guard.deletions_max:
        with_them = f", with {owned.below} that these own" if owned.below else ""
        return Held(CHECK, f"it deletes {_named(deleted)}{with_them}: more than {guard.deletions_max} objects")
    if owned.deleting:
        return None
    if len(deleted) >= guard.share_from and len(deleted) * 100 > guard.share_max * owned.objects:
        share = len(deleted) * 100 // owned.objects
        return Held(CHECK, f"it deletes {_named(deleted)}: {share} % of the {owned.objects} objects of this target")
    return None


def _losses(guard: Guard, plan: Plan, owned: Owned) -> str:
    """What no other apply brings back of all that would go, in words; empty when nothing of it counts."""

    def counts(id: ObjectId) -> bool:
        return id not in owned.allowed and not _allowed(guard, id)

    own = [step.object for step in plan.steps if is_destructive(step) and counts(step.object)]
    with_them = {id: [lost for lost in below if counts(lost)] for id, below in owned.lost.items()}
    told = [_named(own)] if own else []
    told += [f"{_named([id])} and with it {_named(below)}" for id, below in with_them.items() if below]
    if not told:
        return ""
    all_lost = [*own, *(lost for below in with_them.values() for lost in below)]
    kept = _kept_inside(plan, all_lost)
    inside = f"; it keeps {_named(kept)}, and what is in a namespace goes with it" if kept else ""
    return f"it deletes {', and '.join(told)}, which no other apply brings back{inside}"


def _kept_inside(plan: Plan, lost: Iterable[ObjectId]) -> list[ObjectId]:
    """What a plan keeps, or makes, in the namespaces that would be lost."""
    keys = (ObjectKey.parse(id) for id in lost)
    gone = {key.name for key in keys if (key.group, key.kind) == ("", "Namespace")}
    return [
        step.object
        for step in plan.steps
        if step.action != "delete" and step.why != "absent" and ObjectKey.parse(step.object).namespace in gone
    ]


def _allowed(guard: Guard, id: ObjectId) -> bool:
    key = ObjectKey.parse(id)
    return guard.destructive and (key.kind, key.name) != ("Namespace", guard.namespace)


def _named(ids: Sequence[ObjectId]) -> str:
    names = [ObjectKey.parse(id).shown for id in ids[:EXAMPLES_MAX]]
    more = f" and {len(ids) - len(names)} more" if len(ids) > len(names) else ""
    return ", ".join(names) + more
