"""The vocabulary: every event that a log can hold, one module a stage."""

from tidelog.events.vocabulary.apply import (
    ApplyFailed,
    ApplyFinished,
    ApplyStarted,
    ObjectApplied,
    ObjectPruned,
)
from tidelog.events.vocabulary.approve import PlanApproved, PlanHeld, PlanRejected
from tidelog.events.vocabulary.base import Event, EventType
from tidelog.events.vocabulary.declare import (
    ClusterBound,
    InputChanged,
    SourceDeclared,
    SourceRemoved,
    TargetDeclared,
    TargetRemoved,
)
from tidelog.events.vocabulary.engine import (
    ConfigurationLoaded,
    EngineStarted,
    EngineStopped,
    LogCreated,
    LogRestored,
)
from tidelog.events.vocabulary.fetch import Person, RevisionFetched, RevisionSettled, Signature
from tidelog.events.vocabulary.observe import (
    Because,
    DriftDetected,
    FieldDrift,
    HealthChanged,
    ObjectObserved,
    ObservationInterrupted,
    ObservationResumed,
)
from tidelog.events.vocabulary.plan import BlastRadius, Planned
from tidelog.events.vocabulary.release import (
    HelmChartSynced,
    HookEnded,
    HookStarted,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseAdopted,
    ReleaseDriftChanged,
    ReleaseHistoryCleared,
    ReleaseSnapshot,
)
from tidelog.events.vocabulary.render import Rendered, Tool
from tidelog.events.vocabulary.request import (
    Marked,
    Pinned,
    ReconcileRequested,
    Resumed,
    RevisionRejected,
    StreamForgotten,
    Suspended,
    Unpinned,
)
from tidelog.events.vocabulary.run import RunEnded, StageFailed
from tidelog.events.vocabulary.verify import Verdict, VerificationFailed, Verified

__all__ = [
    "ApplyFailed",
    "ApplyFinished",
    "ApplyStarted",
    "Because",
    "BlastRadius",
    "ClusterBound",
    "ConfigurationLoaded",
    "DriftDetected",
    "EngineStarted",
    "EngineStopped",
    "Event",
    "EventType",
    "FieldDrift",
    "HealthChanged",
    "HelmChartSynced",
    "HookEnded",
    "HookStarted",
    "InputChanged",
    "LogCreated",
    "LogRestored",
    "Marked",
    "ObjectApplied",
    "ObjectObserved",
    "ObjectPruned",
    "ObservationInterrupted",
    "ObservationResumed",
    "Person",
    "Pinned",
    "PlanApproved",
    "PlanHeld",
    "PlanRejected",
    "Planned",
    "ReconcileRequested",
    "ReleaseActionEnded",
    "ReleaseActionStarted",
    "ReleaseAdopted",
    "ReleaseDriftChanged",
    "ReleaseHistoryCleared",
    "ReleaseSnapshot",
    "Rendered",
    "Resumed",
    "RevisionFetched",
    "RevisionRejected",
    "RevisionSettled",
    "RunEnded",
    "Signature",
    "SourceDeclared",
    "SourceRemoved",
    "StageFailed",
    "StreamForgotten",
    "Suspended",
    "TargetDeclared",
    "TargetRemoved",
    "Tool",
    "Unpinned",
    "Verdict",
    "VerificationFailed",
    "Verified",
]
