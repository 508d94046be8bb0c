"""What is done with Helm releases, in words, and action by action."""

from collections.abc import Iterable
from typing import Literal, TypeAlias

import msgspec

from tidelog.engine.views.archive import Archive
from tidelog.events.moment import Time
from tidelog.events.names import MalformedNameError, ObjectId, ObjectKey, RunId, StreamName
from tidelog.events.projections import RELEASES, ReleaseRow
from tidelog.events.vocabulary import (
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
from tidelog.events.vocabulary.release import Action
from tidelog.storage.log import Query, Recorded

Outcome: TypeAlias = Literal["running", "succeeded", "failed", "superseded"]

_PHRASES: dict[Action, str] = {
    "install": "the install of {release}",
    "upgrade": "the upgrade to {release}",
    "test": "the test of {release}",
    "rollback": "the rollback of {name}{back}, as {release}",
    "uninstall": "the uninstall of {release}",
    "uninstall-remediation": "the uninstall of the failed {release}",
    "unlock": "the unlock of {release}",
}
_WITH_CHART: frozenset[Action] = frozenset({"install", "upgrade", "rollback"})
"""What makes a version, whose chart is worth naming."""


class ActionTold(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with a release."""

    position: int
    """Of the event with which it began."""
    time: Time
    action: Action
    release: str
    """Name and version, as Helm has it: `web.v2`."""
    namespace: str
    chart: str
    """Name and version: `web@1.0.2`."""
    outcome: Outcome
    reason: str = ""
    message: str = ""
    remediates: bool = False
    """Whether it was to put right an action that failed."""


def release_of(archive: Archive, stream: StreamName) -> ReleaseRow | None:
    """How the release of a HelmRelease stands; None where there is none."""
    return archive.row(RELEASES, stream)


def named(name: str, version: int) -> str:
    """A version of a release, as Helm has it."""
    return f"{name}.v{version}"


def chart(name: str, version: str) -> str:
    """A chart in its version."""
    return f"{name}@{version}" if version else name


def snapshot_words(snapshot: ReleaseSnapshot) -> str:
    """A version of a release, with its chart."""
    release = named(snapshot.name, snapshot.version)
    return f"{release} with chart {chart(snapshot.chart_name, snapshot.chart_version)}"


def action_words(action: Action, name: str, version: int, with_chart: str = "", target: int = 0) -> str:
    """An action on a release, as the subject of a sentence; of a rollback, with the version that it goes back to."""
    back = f" to {named(name, target)}" if target else ""
    phrase = _PHRASES[action].format(name=name, release=named(name, version), back=back)
    if not with_chart or action not in _WITH_CHART:
        return phrase
    return f"{phrase} with chart {with_chart}" + ("," if action == "rollback" else "")


def started_words(event: ReleaseActionStarted) -> str:
    """The action that began."""
    with_chart = chart(event.chart_name, event.chart_version)
    return action_words(event.action, event.name, event.version, with_chart, event.target)


def ended_words(event: ReleaseActionEnded) -> str:
    """The action that ended; its chart is known where it left a record of its own."""
    own = next((one for one in event.snapshots if (one.name, one.version) == (event.name, event.version)), None)
    with_chart = "" if own is None else chart(own.chart_name, own.chart_version)
    return action_words(event.action, event.name, event.version, with_chart)


def hook_words(event: HookStarted | HookEnded) -> str:
    """A hook, with the object that it is."""
    return f"the {event.hook} hook {_shown(event.object)}"


# Sentences.


def started(event: ReleaseActionStarted) -> str:
    """That an action began."""
    why = ", to put right what failed" if event.remediates else ""
    asked = "; somebody asked for it with force" if event.force_token else ""
    anew = "; somebody asked that failures of before count no more" if event.reset_token else ""
    return _capital(f"{started_words(event)} began{why}{asked}{anew}")


def ended(event: ReleaseActionEnded) -> str:
    """How an action ended."""
    if event.outcome == "superseded":
        return _capital(f"{ended_words(event)} was given up for something newer")
    if event.outcome == "succeeded":
        return _capital(f"{ended_words(event)} succeeded")
    return _capital(f"{ended_words(event)} failed: {event.message or event.reason}")


def hook_started(event: HookStarted) -> str:
    """That a hook began."""
    replaces = ", after the one that was there from before was deleted" if event.replaces else ""
    return _capital(f"{hook_words(event)} of {event.path} began{replaces}")


def hook_ended(event: HookEnded) -> str:
    """How a hook ended."""
    said = f": {event.message}" if event.message and event.outcome == "failed" else ""
    return _capital(f"{hook_words(event)} {event.outcome}{said}")


def adopted(event: ReleaseAdopted) -> str:
    """What was taken over from another engine."""
    if not event.history:
        return "Was looked after by another engine, which had made no release"
    latest = event.history[0]
    failures = f", after {event.failures} failures" if event.failures > 1 else ", after a failure" * event.failures
    return f"Took over {snapshot_words(latest)} ({latest.status}), which another engine looked after{failures}"


def chart_synced(event: HelmChartSynced) -> str:
    """What became of the HelmChart of a template."""
    words = {
        "created": "Made {} for its chart",
        "configured": "Brought {} to what its chart says",
        "deleted": "Deleted {}, which it needs no more",
        "absent": "Did not find {}, which it needs no more",
    }
    return words[event.outcome].format(_shown(event.object))


def history_cleared(event: ReleaseHistoryCleared) -> str:
    """That what was known of versions holds no more."""
    return f"What was known of its versions{' and failures' * event.failures_too} holds no more: {event.why}"


def drift_changed(event: ReleaseDriftChanged) -> str:
    """That objects of a release drifted, or do so no more."""
    said = f": {event.message}" if event.message else ""
    if not event.drifted:
        return f"Its objects are as its release has them{said}"
    return f"Its objects are not as its release has them{', and are put right' * event.corrected}{said}"


# Actions.


def actions_in(told: Iterable[Recorded]) -> tuple[ActionTold, ...]:
    """The actions among the events of a run, in their order."""
    found: list[ActionTold] = []
    for recorded in told:
        event = recorded.event
        if isinstance(event, ReleaseActionStarted):
            found.append(_begun(recorded, event))
        elif isinstance(event, ReleaseActionEnded):
            last = found.pop() if found and found[-1].outcome == "running" else None
            found.append(_over(recorded, event, last))
    return tuple(found)


def _begun(recorded: Recorded, event: ReleaseActionStarted) -> ActionTold:
    return ActionTold(
        position=recorded.envelope.position,
        time=recorded.envelope.time,
        action=event.action,
        release=named(event.name, event.version),
        namespace=event.namespace,
        chart=chart(event.chart_name, event.chart_version),
        outcome="running",
        remediates=event.remediates,
    )


def _over(recorded: Recorded, event: ReleaseActionEnded, begun: ActionTold | None) -> ActionTold:
    own = next((one for one in event.snapshots if one.version == event.version), None)
    return ActionTold(
        position=recorded.envelope.position if begun is None else begun.position,
        time=recorded.envelope.time if begun is None else begun.time,
        action=event.action,
        release=named(event.name, event.version),
        namespace=event.namespace,
        chart=begun.chart if begun is not None else "" if own is None else chart(own.chart_name, own.chart_version),
        outcome=event.outcome,
        reason=event.reason,
        message=event.message,
        remediates=event.remediates,
    )


class Failure(msgspec.Struct, frozen=True):
    """The action that failed, and stands in the way."""

    recorded: Recorded
    event: ReleaseActionEnded
    remedies: tuple[ReleaseActionEnded, ...]
    """What was done to put it right, in order."""
    hooks: tuple[HookEnded, ...]
    """Of the action, those that failed."""


def last_failure(archive: Archive, stream: StreamName) -> Failure | None:
    """The last failure of what makes a version or tests it, where nothing of that went well since."""
    remedies: list[ReleaseActionEnded] = []
    for recorded in archive.backwards(Query(stream=stream, types=("ReleaseActionEnded",))):
        event = recorded.event
        if not isinstance(event, ReleaseActionEnded) or event.outcome == "superseded" or event.action == "unlock":
            continue
        if event.remediates or event.action in ("rollback", "uninstall-remediation"):
            remedies.append(event)
        elif event.outcome == "failed":
            return Failure(recorded, event, tuple(reversed(remedies)), _failed_hooks(archive, recorded))
        else:
            return None
    return None


def _failed_hooks(archive: Archive, ended_: Recorded) -> tuple[HookEnded, ...]:
    run: RunId | None = ended_.envelope.run
    position = ended_.envelope.position
    events = archive.backwards(
        Query(stream=ended_.envelope.stream, run=run, types=("HookEnded", "ReleaseActionStarted"), until=position)
    )
    found: list[HookEnded] = []
    for recorded in events:
        if isinstance(recorded.event, ReleaseActionStarted):
            break
        if isinstance(recorded.event, HookEnded) and recorded.event.outcome == "failed":
            found.append(recorded.event)
    return tuple(reversed(found))


def _shown(id: ObjectId) -> str:
    try:
        return ObjectKey.parse(id).shown
    except MalformedNameError:
        return id


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"
