"""Stories of Helm releases, as events of one stream."""

from collections.abc import Iterator

from tidelog.events.bodies import Body
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId
from tidelog.events.vocabulary import (
    Event,
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

STORIES = (
    "adopted",
    "chart synced",
    "chart deleted",
    "installed",
    "upgraded",
    "upgrade failed",
    "hook failed",
    "tested",
    "rolled back",
    "uninstalled",
    "history cleared",
    "release drifted",
)
_ACTIONS: dict[str, Action] = {
    "installed": "install",
    "tested": "test",
    "rolled back": "rollback",
    "uninstalled": "uninstall",
}
_HOOK = ObjectId("batch/Job/apps/migrate")


def snapshot(version: int, status: str = "deployed") -> ReleaseSnapshot:
    """A version of the release."""
    return ReleaseSnapshot(
        name="web",
        namespace="apps",
        version=version,
        status=status,
        digest=f"sha256:{version}",
        chart_name="web",
        chart_version=f"1.0.{version}",
        api_version="v2",
    )


def story_bodies(number: int) -> list[Body]:
    """The bodies that the events name."""
    return [Body.of(f"record{number}".encode())]


def release_events(what: str, number: int, moment: Time) -> Iterator[Event]:
    """The events of a story, in their order."""
    chart = ObjectId("source.toolkit.fluxcd.io/HelmChart/apps/apps-web")
    match what:
        case "adopted":
            yield ReleaseAdopted(
                history=tuple(snapshot(version) for version in range(number % 3, 0, -1)), failures=number % 2
            )
        case "chart synced" | "chart deleted":
            yield HelmChartSynced(object=chart, outcome="created" if what == "chart synced" else "deleted")
        case "history cleared":
            yield ReleaseHistoryCleared(why="it was changed", failures_too=number % 2 == 0)
        case "release drifted":
            yield ReleaseDriftChanged(drifted=number % 2 == 0, message=f"{number}")
        case _:
            yield from _action(what, _ACTIONS.get(what, "upgrade"), number, moment)


def _action(what: str, action: Action, number: int, moment: Time) -> Iterator[Event]:
    failed = what.endswith("failed")
    yield ReleaseActionStarted(
        action=action,
        name="web",
        namespace="apps",
        storage_namespace="apps",
        version=number,
        chart_name="web",
        chart_version=f"1.0.{number}",
        generation=number,
        reset=number % 3 == 0,
        record=story_bodies(number)[0].ref,
        origin=number % 2,
    )
    hook = HookStarted(action=action, version=number, hook="pre-upgrade", object=_HOOK, path="web/templates/job.yaml")
    yield hook
    yield HookEnded(
        action=action,
        version=number,
        hook=hook.hook,
        object=_HOOK,
        path=hook.path,
        outcome="failed" if what == "hook failed" else "succeeded",
        started=moment,
    )
    word = action.capitalize() + ("Failed" if failed else "Succeeded")
    yield ReleaseActionEnded(
        action=action,
        name="web",
        namespace="apps",
        version=number,
        outcome="failed" if failed else "succeeded",
        reason=word,
        message=f"{number}",
        counts=failed,
        snapshots=(snapshot(number, "failed" if failed else "deployed"), snapshot(number - 1, "superseded"))
        if number > 1
        else (snapshot(number),),
        generation=number,
    )
