"""What is seen in a cluster. Each stands in the stream of the object seen."""

from typing import Literal, TypeAlias

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.names import ObjectId, StreamName
from tidelog.events.vocabulary.base import Event, event

Health: TypeAlias = Literal["Current", "InProgress", "Failed", "Terminating", "NotFound", "Unknown"]
"""The words of kstatus."""


class FieldDrift(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A field that is no longer as it was applied."""

    path: str
    manager: str = ""
    """The field manager that wrote it last."""


@event("ObjectObserved")
class ObjectObserved(Event, frozen=True, kw_only=True):
    """An object is now like this."""

    uid: str
    resource_version: str
    state: BodyRef | None = None
    """The object, less status and bookkeeping; none when it is gone."""
    gone: bool = False
    health: Health | None = None
    api_version: str = ""
    owned: Digest | None = None
    """Of the fields that its target's field manager owns; keyed for a secret object."""
    leaves: BodyRef | None = None
    """Of a secret object: a keyed digest for each of its fields, by path."""
    reason: str = ""
    """Of its health, where that is not as it should be; in one word."""
    message: str = ""
    """Of its health, in a sentence."""
    status: BodyRef | None = None
    """Its status. Not kept of a secret object, nor of a source or target: theirs is written from the log."""
    only_status: bool = False
    """Whether nothing but its status changed; such an event comes at most once a minute."""
    ended: Health | None = None
    """Of a Job that is gone, and that its `ttlSecondsAfterFinished` was to take away: how it had ended."""


@event("DriftDetected")
class DriftDetected(Event, frozen=True, kw_only=True):
    """Someone changed fields that a target owns."""

    target: StreamName
    uid: str
    resource_version: str
    fields: tuple[FieldDrift, ...]
    """The first of them; the states before and after have all."""
    gone: bool = False
    more: int = 0
    """How many fields more."""


class Because(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What keeps a workload from being available: one of its Pods, or what should make them."""

    object: ObjectId
    reason: str
    """In one word, as kubectl shows it: `ImagePullBackOff`, `CrashLoopBackOff`, `Unschedulable`, `FailedCreate`."""
    message: str = ""
    """In a sentence. Nothing that a container itself wrote is in it."""


@event("HealthChanged")
class HealthChanged(Event, frozen=True, kw_only=True):
    """The health of an object is now another, or (`checked`) a target's health check says something else.

    Both may stand in one stream: a target may be an object of another target's.
    """

    health: Health
    reason: str = ""
    message: str = ""
    checked: bool = False
    """Whether it is what a target's health check says of all that it owns."""
    status: BodyRef | None = None
    """The object's status, as for `ObjectObserved`; none where it is not kept."""
    because: Because | None = None
    """Of a workload that is not available: why not, as far as it is known by now."""


@event("ObservationInterrupted")
class ObservationInterrupted(Event, frozen=True, kw_only=True):
    """From here on, changes of objects of these kinds may go unseen; stands in the engine's stream."""

    cluster: str
    kinds: tuple[str, ...]
    why: str


@event("ObservationResumed")
class ObservationResumed(Event, frozen=True, kw_only=True):
    """Objects of these kinds were listed again, compared, and are watched."""

    cluster: str
    kinds: tuple[str, ...]
