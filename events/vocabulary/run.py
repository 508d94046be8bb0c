"""How a reconciliation goes on and ends; each stands in the stream of the run's source or target."""

from typing import Literal

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.names import Revision, StreamName
from tidelog.events.vocabulary.base import Event, event

Stage = Literal["declare", "fetch", "render", "plan", "verify", "approve", "apply", "observe"]


@event("StageFailed")
class StageFailed(Event, frozen=True, kw_only=True):
    """A stage of a run ended without its result, and the run with it.

    Only a failure that the inputs alone explain is `final`: it is not tried again until they change. A failure
    exactly like the one before it in the stream is this event with `repeats` set and neither message nor details; of
    those that go on and on, not each is recorded: `attempt` says how many failed, one after the other.
    """

    stage: Stage
    reason: str
    final: bool
    message: str = ""
    attempt: int = 1
    repeats: bool = False
    waits_for: StreamName | None = None
    details: BodyRef | None = None
    stalled: bool = False
    """Whether only a person can help: a new spec, or another configuration of the engine."""
    generation: int = 0
    """Of the spec that the run worked by; 0 in logs of before 0.2."""
    revision: Revision | None = None


@event("RunEnded")
class RunEnded(Event, frozen=True, kw_only=True):
    """A run is over, other than by a failure: those have events of their own.

    `unchanged`: there was nothing to do. `superseded`: a newer revision or spec came while the run waited.
    `rejected`: somebody rejected its plan.
    """

    outcome: Literal["succeeded", "unchanged", "superseded", "rejected"]
    generation: int
    """Of the spec that the run worked by."""
    revision: Revision | None = None
    set: Digest | None = None
    """The rendered set that the target now is at."""
    token: str = ""
    """The value of `reconcile.fluxcd.io/requestedAt` that it answers."""
    reason: str = ""
    """What Ready says then, where that is more than that it succeeded: of a HelmRelease, what was done last."""
    message: str = ""
    ready: bool = True
    """Whether Ready says so: not of a release whose tests failed, where that is only not to be put right."""
    source: Revision | None = None
    """Of a HelmChart: the revision of its source that the run looked at, where that is news."""
