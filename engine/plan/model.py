"""A plan: all that is going to be done to a cluster for one target, decided before any of it is done."""

from typing import Any, Literal, TypeAlias

import msgspec

from tidelog.engine.objects.kube import KubeObject
from tidelog.events.canonical import encode
from tidelog.events.digest import KEYED, Digest, digest_of
from tidelog.events.names import ObjectId, ObjectKey, PlanId, Revision, RunId, StreamName
from tidelog.events.projections import Actual, Entry
from tidelog.events.vocabulary import BlastRadius

Action: TypeAlias = Literal["create", "update", "recreate", "delete", "unchanged", "skip"]

DESTRUCTIVE_MAX = 50
"""Losses that a blast radius names: it stands in an event, which is small."""
CHANGES_MAX = 200
"""Field changes that a step keeps; a plan that is read by nobody needs no more."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """An object of a rendered set."""

    key: ObjectKey
    api_version: str
    digest: Digest
    """Of the object as rendered; keyed when it is secret."""
    secret: bool = False
    handed: Digest | None = None
    """Of a Kustomization that is secret: of the sealed body that tells where in its spec secret values are."""
    once: bool = False
    """Whether it is only made where it is not there: what is there stays as it is."""
    loaded: KubeObject | None = None
    """The object itself; needed only of what is not unchanged."""

    @property
    def object(self) -> KubeObject:
        """The object itself."""
        if self.loaded is None:
            raise RuntimeError(f"{self.key.id} was not loaded")
        return self.loaded


def is_secret(key: ObjectKey, actual: Actual | None, entry: Entry | None) -> bool:
    """Whether an object is secret: by its kind, or by what went into it when it was last applied or observed.

    Somebody may delete it and make it again from a copy: then it is not observed any more, and is as secret as before.
    """
    if key.kind == "Secret" and not key.group:
        return True
    made_secret = actual is not None and actual.state is not None and actual.state.secret
    return made_secret or (entry is not None and entry.desired.startswith(KEYED))


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One field that a step changes. Of a secret field neither value is here."""

    path: str
    before: Any = None
    after: Any = None
    hidden: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is done to one object."""

    object: ObjectId
    api_version: str
    action: Action
    desired: Digest | None = None
    """Of the object as rendered."""
    before: Digest | None = None
    """Of the object's state when the plan was made; none where there was no object."""
    after: Digest | None = None
    """Of the state that the server's dry run answered with; none where it was not asked yet."""
    uid: str = ""
    resource_version: str = ""
    changes: tuple[Change, ...] = ()
    takes_over: tuple[str, ...] = ()
    """Field managers whose fields become the engine's (Flux contract KS-074)."""
    why: str = ""
    stays: bool = False
    """Whether the object, which is no longer wanted, stays in the inventory until another target has taken it over."""

    @property
    def writes(self) -> bool:
        """Whether the step changes the cluster."""
        return self.action not in ("unchanged", "skip")


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The steps, wave by wave, and what is deleted after them."""

    id: PlanId
    run: RunId
    target: StreamName
    revision: Revision
    set: Digest
    waves: tuple[tuple[Step, ...], ...]
    prunes: tuple[Step, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order in which they are taken."""
        return tuple(step for wave in self.waves for step in wave) + self.prunes

    @property
    def writes(self) -> dict[ObjectId, str]:
        """The objects that there are to be after it, and that it writes, with their API versions."""
        return {step.object: step.api_version for wave in self.waves for step in wave if step.writes}

    def named(self) -> "Plan":
        """The plan under its own name: the same run that would do the same to the same state has the same plan.

        What is deleted is told by its uid: whatever becomes of it until then, it goes.
        """
        identity: list[Any] = [
            [step.object, step.action, step.desired, None if step.action == "delete" else step.before, step.uid]
            for step in self.steps
            if step.writes
        ]
        name = digest_of(encode([self.run, self.revision, self.set, identity]))[7:23]
        return msgspec.structs.replace(self, id=PlanId(f"plan-{name}"))

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be written."""
        return not any(step.writes for step in self.steps)

    @property
    def losses(self) -> frozenset[tuple[ObjectId, str]]:
        """The objects that it deletes, for good or to make them again: each by its uid."""
        return frozenset((step.object, step.uid) for step in self.steps if step.action in ("delete", "recreate"))

    @property
    def blast_radius(self) -> BlastRadius:
        """How much the plan changes."""
        counts = dict.fromkeys(("create", "update", "delete", "recreate", "unchanged"), 0)
        for step in self.steps:
            if step.action in counts:
                counts[step.action] += 1
        lost = [step.object for step in self.steps if is_destructive(step)]
        more = max(0, len(lost) - DESTRUCTIVE_MAX)
        return BlastRadius(**counts, destructive=tuple(lost[:DESTRUCTIVE_MAX]), destructive_more=more)


# What another apply does not bring back.
_DESTRUCTIVE = frozenset(
    {
        ("", "Namespace"),
        ("", "PersistentVolume"),
        ("", "PersistentVolumeClaim"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
    }
)


def is_destructive(step: Step) -> bool:
    """Whether a step loses what another apply does not bring back."""
    return step.action in ("delete", "recreate") and is_irreplaceable(step.object)


def is_irreplaceable(id: ObjectId) -> bool:
    """Whether another apply does not bring back what is lost with an object."""
    key = ObjectKey.parse(id)
    return (key.group, key.kind) in _DESTRUCTIVE
