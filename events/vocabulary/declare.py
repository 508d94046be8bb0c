"""What the users declare: sources, targets, and the objects that these name."""

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.names import ObjectId
from tidelog.events.vocabulary.base import Event, event


@event("ClusterBound")
class ClusterBound(Event, frozen=True, kw_only=True):
    """The alias of a cluster, with which its streams begin, was bound to the uid of its kube-system."""

    alias: str
    uid: str


@event("SourceDeclared")
class SourceDeclared(Event, frozen=True, kw_only=True):
    """A source has a new spec."""

    uid: str
    generation: int
    spec: BodyRef
    status: BodyRef | None = None
    """The status found, when a source is taken over from another engine."""


@event("SourceRemoved")
class SourceRemoved(Event, frozen=True, kw_only=True):
    """A source was deleted."""

    uid: str


@event("TargetDeclared")
class TargetDeclared(Event, frozen=True, kw_only=True):
    """A Kustomization or HelmRelease has a new spec."""

    uid: str
    generation: int
    spec: BodyRef
    status: BodyRef | None = None
    """The status found, when a target is taken over from another engine."""


@event("TargetRemoved")
class TargetRemoved(Event, frozen=True, kw_only=True):
    """A Kustomization or HelmRelease was deleted."""

    uid: str
    deletion_policy: str = ""


@event("TargetMoved")
class TargetMoved(Event, frozen=True, kw_only=True):
    """The objects of a target are in another cluster from here on; stands in the target's stream.

    What it applied in the one before stays there, and is no longer the target's: see `ObjectAbandoned`.
    """

    cluster: str
    """Its alias."""


@event("InputChanged")
class InputChanged(Event, frozen=True, kw_only=True):
    """A ConfigMap or Secret that a source or target names has changed; stands in the stream of who names it."""

    object: ObjectId
    digest: Digest | None = None
    """Of its data, keyed for a Secret; none when the object is absent."""
