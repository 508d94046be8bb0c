"""What was done to a cluster, object by object. Each stands in the stream of its target."""

from typing import Literal

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.names import ObjectId, PlanId, Revision
from tidelog.events.vocabulary.base import Event, event
from tidelog.events.vocabulary.observe import Health


@event("ApplyStarted")
class ApplyStarted(Event, frozen=True, kw_only=True):
    """The intent to apply a plan, durable before its first side effect."""

    plan: PlanId
    waves: int
    identity: str = ""
    """Who the server was asked to take the engine for; empty where it was to be taken for itself."""
    overridden: tuple[str, ...] = ()
    """Field managers whose fields it was to take over."""


@event("ObjectApplied")
class ObjectApplied(Event, frozen=True, kw_only=True):
    """An object was written; the server's answer is also the observation of it."""

    plan: PlanId
    object: ObjectId
    uid: str
    resource_version: str
    action: Literal["created", "configured", "recreated", "unchanged"]
    wave: int
    desired: Digest
    """Of the object as rendered."""
    state: BodyRef | None = None
    """The server's answer, less status and bookkeeping."""
    api_version: str = ""
    owned: Digest | None = None
    """Of the fields that the target's field manager owns, as the server answered; keyed for a secret object."""
    leaves: BodyRef | None = None
    """Of a secret object: a keyed digest for each of its fields, by path."""
    health: Health | None = None
    reason: str = ""
    """Of its health, where that is not as it should be; in one word."""
    message: str = ""
    """Of its health, in a sentence."""
    status: BodyRef | None = None
    """The object's status in the server's answer, as for `ObjectObserved`."""
    cluster: str = ""
    """The alias of the cluster that it is in; empty for that of its target."""


@event("ObjectPruned")
class ObjectPruned(Event, frozen=True, kw_only=True):
    """An object that the target no longer wants was deleted, found gone, or left alone: another target has it, say."""

    plan: PlanId
    object: ObjectId
    uid: str
    outcome: Literal["deleted", "absent", "skipped"]
    asked_for: bool = False
    """Whether somebody approved the plan, or deleted the target: then all that the object owns may go too."""
    losses: tuple[ObjectId, ...] = ()
    """What no other apply brings back, and may go with the object, because who approved the plan was told of it."""
    cluster: str = ""
    """The alias of the cluster that it is in; empty for that of its target."""


@event("ObjectAbandoned")
class ObjectAbandoned(Event, frozen=True, kw_only=True):
    """An object stays in a cluster that its target applies to no more, and is the target's no longer."""

    object: ObjectId
    uid: str
    cluster: str
    """The alias of that cluster."""


INTERRUPTED = "Interrupted"
"""The reason of an apply that the engine's own end cut short."""


@event("ApplyFailed")
class ApplyFailed(Event, frozen=True, kw_only=True):
    """An apply stopped. What was applied stays and has its own events."""

    plan: PlanId
    wave: int
    reason: str
    message: str
    object: ObjectId | None = None
    applied: int = 0
    pending: int = 0


@event("ApplyFinished")
class ApplyFinished(Event, frozen=True, kw_only=True):
    """Every object of a plan was applied, and every prune done."""

    plan: PlanId
    revision: Revision
    set: Digest
    created: int = 0
    configured: int = 0
    unchanged: int = 0
    pruned: int = 0
