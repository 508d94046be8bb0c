"""Conditions, as Flux's controllers keep them (contract CM-016 to CM-026, SC-006 to SC-008).

Every function takes the conditions of an object and gives new ones. `Observed` says of which generation and when.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import msgspec

from tidelog.engine.kinds.meta import Condition, Status, Timestamp

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
HEALTHY = "Healthy"
"""Of a Kustomization (contract KS-100)."""
RELEASED = "Released"
"""Of a HelmRelease, as the three that follow (contract HR-117)."""
TEST_SUCCESS = "TestSuccess"
REMEDIATED = "Remediated"
DRIFTED = "Drifted"
ARTIFACT_IN_STORAGE = "ArtifactInStorage"
ARTIFACT_OUTDATED = "ArtifactOutdated"
FETCH_FAILED = "FetchFailed"
BUILD_FAILED = "BuildFailed"
"""Of a HelmChart (contract SC-006)."""
INCLUDE_UNAVAILABLE = "IncludeUnavailable"
STORAGE_FAILED = "StorageOperationFailed"
SOURCE_VERIFIED = "SourceVerified"

PROGRESSING = "Progressing"
PROGRESSING_WITH_RETRY = "ProgressingWithRetry"
SUCCEEDED = "Succeeded"
RECONCILED = "ReconciliationSucceeded"
"""Of a Kustomization (contract KS-043)."""

SOURCE_SUMMARY = (
    STORAGE_FAILED,
    FETCH_FAILED,
    BUILD_FAILED,
    INCLUDE_UNAVAILABLE,
    ARTIFACT_OUTDATED,
    ARTIFACT_IN_STORAGE,
    SOURCE_VERIFIED,
    STALLED,
    RECONCILING,
)
"""What a source's Ready is a summary of; of equal ones, the earlier tells the reason (contract SC-006)."""
_NEGATIVE = frozenset(SOURCE_SUMMARY) - {ARTIFACT_IN_STORAGE, SOURCE_VERIFIED}
SOURCE_OWNED = frozenset({*SOURCE_SUMMARY, READY})
TARGET_OWNED = frozenset({READY, RECONCILING, STALLED, HEALTHY})
"""Of a Kustomization."""
RELEASE_OWNED = frozenset({READY, RECONCILING, STALLED, RELEASED, TEST_SUCCESS, REMEDIATED, DRIFTED})
"""The conditions that are ours to write; all others are somebody else's (contract CM-025)."""

MESSAGE_BYTES_MAX = 32_768
"""Contract CM-019."""
_CUT = "..."
_FIRST = {STALLED: 0, RECONCILING: 1, READY: 2}

Conditions: TypeAlias = tuple[Condition, ...]


class Observed(NamedTuple):
    """What a condition is written about, and when."""

    generation: int
    time: Timestamp
    """In whole seconds of UTC."""


def ready_reason(kind: str, recorded: str) -> str:
    """The reason in Ready, of the one that is recorded: a Kustomization has a word of its own for success."""
    return RECONCILED if (kind, recorded) == ("Kustomization", SUCCEEDED) else recorded


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of a type."""
    return next((condition for condition in conditions if condition.type == type_), None)


def status_of(conditions: Iterable[Condition], type_: str) -> Status:
    """The status of a type; that of one that is not there is unknown."""
    condition = find(conditions, type_)
    return "Unknown" if condition is None else condition.status


def mark(
    conditions: Conditions, type_: str, status: Status, reason: str, message: str, *, observed: Observed
) -> Conditions:
    """The conditions with one of them written.

    Its generation becomes the one observed; its time moves when status, reason or message become others (CM-018).
    """
    before = find(conditions, type_)
    written = Condition(
        type=type_,
        status=status,
        reason=reason,
        message=cut(message),
        last_transition_time=observed.time,
        observed_generation=observed.generation,
    )
    if before is not None and _says(before) == _says(written):
        written = msgspec.structs.replace(written, last_transition_time=before.last_transition_time)
    return ordered((*remove(conditions, type_), written))


def remove(conditions: Conditions, *types: str) -> Conditions:
    """The conditions without those of some types."""
    return tuple(condition for condition in conditions if condition.type not in types)


def mark_reconciling(conditions: Conditions, reason: str, message: str, *, observed: Observed) -> Conditions:
    """The object is being worked on, and so is not stalled (contract CM-017)."""
    return mark(remove(conditions, STALLED), RECONCILING, "True", reason, message, observed=observed)


def mark_stalled(conditions: Conditions, reason: str, message: str, *, observed: Observed) -> Conditions:
    """The object will not be worked on until somebody changes something (contract CM-017)."""
    return mark(remove(conditions, RECONCILING), STALLED, "True", reason, message, observed=observed)


def source_ready(conditions: Conditions, *, observed: Observed) -> Conditions:
    """The conditions of a source with Ready as the summary of the others (contract SC-006, SC-007).

    Without any of the others, Ready is left as it is.
    """
    inputs = [condition for type_ in SOURCE_SUMMARY if (condition := find(conditions, type_)) is not None]
    if not inputs:
        return conditions
    # A verification that failed tells why, even where something else is wrong too.
    refused = find(conditions, SOURCE_VERIFIED)
    if refused is not None and refused.status == "False":
        return mark(conditions, READY, "False", refused.reason, refused.message, observed=observed)
    # Of equals, `min` takes the first.
    winner = min(inputs, key=_priority)
    return mark(conditions, READY, _for_ready(winner), winner.reason, winner.message, observed=observed)


def with_others(live: Iterable[Condition], ours: Conditions, owned: Collection[str]) -> Conditions:
    """Our conditions, and of the live ones those that are not ours to write (contract CM-025)."""
    foreign = (condition for condition in live if condition.type not in owned)
    return ordered((*foreign, *(condition for condition in ours if condition.type in owned)))


def ordered(conditions: Sequence[Condition]) -> Conditions:
    """The conditions in the order in which they are stored (contract CM-020)."""
    return tuple(sorted(conditions, key=_place))


def cut(message: str) -> str:
    """The message, cut to what a condition holds, between two characters (contract CM-019)."""
    encoded = message.encode()
    if len(encoded) <= MESSAGE_BYTES_MAX:
        return message
    return encoded[: MESSAGE_BYTES_MAX - len(_CUT)].decode(errors="ignore") + _CUT


def _says(condition: Condition) -> tuple[str, str, str]:
    return condition.status, condition.reason, condition.message


def _place(condition: Condition) -> tuple[int, int, str]:
    if condition.type in _FIRST:
        return _FIRST[condition.type], 0, ""
    return len(_FIRST), -condition.observed_generation, condition.type


def _priority(condition: Condition) -> int:
    negative = condition.type in _NEGATIVE
    match condition.status:
        case "True":
            return 0 if negative else 2
        case "False":
            return 3 if negative else 1
        case "Unknown":
            return 4


def _for_ready(condition: Condition) -> Status:
    if condition.status == "Unknown" or condition.type not in _NEGATIVE:
        return condition.status
    return "False" if condition.status == "True" else "True"
