"""What a source and a target say of themselves, by what the log says of them (Flux contract 1.2, 2.1, 3.2)."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from tests.apply.keeper import a_target
from tests.events.logs import digest, moment
from tidelog.engine.kinds import conditions as c
from tidelog.engine.kinds.conditions import Observed
from tidelog.engine.kinds.durations import Interval
from tidelog.engine.kinds.gitrepository import GitRepositorySpec, GitRepositoryStatus
from tidelog.engine.kinds.kustomization import KustomizationStatus
from tidelog.engine.kinds.meta import SOURCE_GROUP, Artifact
from tidelog.engine.kinds.registry import FetchedStatus
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.telling.source_status import source_status
from tidelog.engine.runtime.telling.target_status import target_status
from tidelog.engine.runtime.watching.declared import Declared, DeclaredKustomization, DeclaredSource
from tidelog.events.names import ObjectKey, Revision, RunId
from tidelog.events.projections import Desired, Standing
from tidelog.events.projections.conditions import Attempt
from tidelog.events.projections.desired import Pin

OLD, NEW = Revision("main@sha1:1"), Revision("main@sha1:2")
BEFORE = Observed(1, "2026-11-25T09:00:00Z")
PATH = "gitrepository/default/src/1.tar.gz"
SOURCE_KEY = ObjectKey(SOURCE_GROUP, "GitRepository", "default", "src")


class World:
    """What a status is made from."""

    def __init__(self, *, running: tuple[str, str, float] | None = None, fetched: Revision | None = None) -> None:
        row = SimpleNamespace(revision=fetched, artifact=digest("artifact")) if fetched else None
        self._running = running
        self.memory = SimpleNamespace(inventory={}, desired=SimpleNamespace(get=lambda _: row))
        self.activity = SimpleNamespace(of=lambda _: running)

    @property
    def engine(self) -> Engine:
        return cast(
            "Engine",
            SimpleNamespace(
                memory=self.memory,
                cluster_alias="here",
                origin_revisions=SimpleNamespace(known=lambda _, revision: {OLD: "main@sha1:made"}.get(revision, "")),
                activity=self.activity,
                now=lambda: moment(60),
                waited_for_health=lambda _: 5.0,
                artifact_path=lambda *_: PATH,
                spaced=lambda usual_s, failures, **_: max(usual_s, 50.0 * failures),
                artifact_url=lambda path: f"http://here/{path}",
            ),
        )


def shown(status: KustomizationStatus | FetchedStatus) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in status.conditions}


def a_source(status: FetchedStatus | None = None, **spec: Any) -> DeclaredSource:
    metadata = {"name": "src", "namespace": "default", "uid": "source-uid", "generation": 2}
    live = {"apiVersion": f"{SOURCE_GROUP}/v1", "kind": "GitRepository", "metadata": metadata}
    whole = GitRepositorySpec(url="https://example.com/a", interval=Interval.of_seconds(60), **spec)
    return Declared(SOURCE_KEY.stream("here"), live, whole, status or GitRepositoryStatus(), ())


def stored(revision: Revision = OLD, **rest: Any) -> FetchedStatus:
    """The status of a source that is ready."""
    standing = Standing(ready="True", fetched=moment(0), since=moment(0), observed=2)
    status = source_status(World(fetched=revision).engine, a_source(), standing)
    return msgspec.structs.replace(status, **rest)


def a_ready_target(**spec: Any) -> DeclaredKustomization:
    """A target whose status says that it is ready."""
    standing = Standing(ready="True", since=moment(0), applied=OLD, attempted=OLD, observed=1)
    declared = a_target(**spec)
    declared.status = target_status(World().engine, declared, standing)
    return declared


# Targets.


def test_a_target_that_is_pinned_is_not_said_to_have_applied_the_revision_that_it_left() -> None:
    world = World()
    pin = Pin(set=digest("set"), position=16, left=NEW, by="ada", why="")
    world.memory.desired = SimpleNamespace(get=lambda _: Desired(pinned=pin))
    standing = Standing(ready="True", since=moment(3), applied=NEW, attempted=NEW, observed=1)
    status = target_status(world.engine, a_target(), standing)
    message = f"Pinned: applied what was wanted at position 16, leaving revision {NEW}"
    assert shown(status)["Ready"] == ("True", "ReconciliationSucceeded", message)


def test_a_success_says_what_was_applied() -> None:
    attempt = Attempt(
        set=digest("set"), reason="Succeeded", revision=OLD, began=moment(0), first=moment(1), last=moment(3), total=2
    )
    standing = Standing(ready="True", since=moment(3), applied=OLD, attempted=OLD, observed=1, history=(attempt,))
    status = target_status(World().engine, a_target(), standing)
    assert shown(status) == {"Ready": ("True", "ReconciliationSucceeded", f"Applied revision: {OLD}")}
    assert (status.last_applied_revision, status.last_attempted_revision, status.observed_generation) == (OLD, OLD, 1)
    (snapshot,) = status.history
    assert snapshot.digest == digest("set")
    assert (snapshot.last_reconciled_status, snapshot.total_reconciliations) == ("ReconciliationSucceeded", 2)
    assert str(snapshot.last_reconciled_duration) == "3s"
    assert snapshot.metadata == {"revision": OLD, "originRevision": "main@sha1:made"}
    assert status.last_applied_origin_revision == "main@sha1:made"


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("fetching", "Fetching manifests for revision main@sha1:2 with a timeout of 30s"),
        ("building", "Building manifests for revision main@sha1:2 with a timeout of 30s"),
        ("detecting", "Detecting drift for revision main@sha1:2 with a timeout of 30s"),
    ],
)
def test_a_run_that_takes_its_time_names_its_step(step: str, words: str) -> None:
    standing = Standing(ready="True", since=moment(0), applied=OLD, observed=1, run=RunId("r"))
    quick = target_status(World(running=(step, NEW, 0.5)).engine, a_ready_target(), standing)
    assert shown(quick)["Ready"][0] == "True"
    slow = target_status(World(running=(step, NEW, 1.5)).engine, a_ready_target(), standing)
    assert shown(slow)["Ready"] == ("Unknown", "Progressing", "Reconciliation in progress")
    assert shown(slow)["Reconciling"] == ("True", "Progressing", words)


def test_a_failure_keeps_what_is_applied_and_does_not_count_as_observed() -> None:
    declared = a_ready_target()
    declared.generation = 2
    standing = Standing(
        ready="False", reason="BuildFailed", message="no", since=moment(5), applied=OLD, attempted=NEW, observed=1
    )
    status = target_status(World().engine, declared, standing)
    assert shown(status)["Ready"] == ("False", "BuildFailed", "no")
    assert shown(status)["Reconciling"] == ("True", "ProgressingWithRetry", "retrying in 1m0s")
    standing.failed_applies = 3
    status = target_status(World().engine, declared, standing)
    assert shown(status)["Reconciling"] == ("True", "ProgressingWithRetry", "retrying in 2m30s")
    assert (status.last_applied_revision, status.last_attempted_revision, status.observed_generation) == (OLD, NEW, 1)


@pytest.mark.parametrize("reason", ["DependencyNotReady", "ArtifactFailed", "PlanHeld"])
def test_what_waits_for_others_is_neither_reconciling_nor_stalled(reason: str) -> None:
    standing = Standing(ready="False", reason=reason, message="m", since=moment(5), applied=OLD)
    assert shown(target_status(World().engine, a_ready_target(), standing)) == {"Ready": ("False", reason, "m")}


def test_what_only_a_change_ends_is_stalled_and_observed() -> None:
    declared = a_ready_target()
    declared.generation = 3
    standing = Standing(ready="False", stalled=True, reason="UnsupportedFeature", message="spec.decryption: ...")
    status = target_status(World().engine, declared, standing)
    assert shown(status) == {
        "Ready": ("False", "UnsupportedFeature", "spec.decryption: ..."),
        "Stalled": ("True", "UnsupportedFeature", "spec.decryption: ..."),
    }
    assert status.observed_generation == 3


def test_the_health_of_a_target_is_a_condition_where_it_is_asked_for() -> None:
    ready = Standing(
        ready="True", applied=OLD, health="Current", health_since=moment(2), health_message="Health check passed"
    )
    status = target_status(World().engine, a_target(wait=True), ready)
    assert shown(status)["Healthy"] == ("True", "Succeeded", "Health check passed")
    assert "Healthy" not in shown(target_status(World().engine, a_target(), ready))
    waiting = Standing(
        ready="Unknown", health="InProgress", health_since=moment(2), attempted=NEW, run=RunId("r"), since=moment(2)
    )
    status = target_status(World().engine, a_target(wait=True), waiting)
    words = "Running health checks for revision main@sha1:2 with a timeout of 30s"
    assert shown(status)["Healthy"] == ("Unknown", "Progressing", words)
    assert shown(status)["Reconciling"] == ("True", "Progressing", words)
    failed = Standing(
        ready="False",
        reason="HealthCheckFailed",
        message="m",
        health="Failed",
        health_since=moment(3),
        health_message="m",
    )
    status = target_status(World().engine, a_target(wait=True), failed)
    assert shown(status)["Healthy"] == ("False", "HealthCheckFailed", "m")


def test_what_flux_wrote_stays_until_a_run_of_ours_is_over() -> None:
    attempt = Attempt(
        set=digest("set"), reason="Succeeded", revision=OLD, began=moment(0), first=moment(1), last=moment(3), total=1
    )
    ready = Standing(ready="True", since=moment(3), applied=OLD, attempted=OLD, observed=1, history=(attempt,))
    declared = a_target()
    declared.status = target_status(World().engine, declared, ready)
    first = Standing(ready="False", reason="BuildFailed", message="no", since=moment(5), attempted=NEW)
    status = target_status(World().engine, declared, first)
    assert (status.last_applied_revision, status.last_attempted_revision) == (OLD, NEW)
    assert status.history == declared.status.history


def test_a_suspended_target_keeps_its_status() -> None:
    declared = a_ready_target()
    declared.spec = msgspec.structs.replace(declared.spec, suspend=True)
    declared.generation = 4
    conditions = c.mark_reconciling(declared.status.conditions, c.PROGRESSING, "m", observed=BEFORE)
    declared.status = msgspec.structs.replace(declared.status, conditions=conditions)
    status = target_status(World().engine, declared, Standing(ready="True", applied=NEW, observed=1))
    assert (status.observed_generation, status.last_applied_revision) == (4, OLD)
    assert set(shown(status)) == {"Ready"}
    unready = target_status(World().engine, declared, Standing(ready="False", reason="BuildFailed"))
    assert unready == declared.status


# Sources.


def test_a_source_that_is_stored_says_where() -> None:
    status = stored()
    assert status.artifact == Artifact(
        path=PATH,
        url=f"http://here/{PATH}",
        revision=OLD,
        digest=digest("artifact"),
        last_update_time=f"{moment(0)[:19]}Z",
    )
    message = f"stored artifact for revision '{OLD}'"
    assert shown(status) == {
        "Ready": ("True", "Succeeded", message),
        "ArtifactInStorage": ("True", "Succeeded", message),
    }
    assert status.observed_generation == 2


def test_a_ready_source_tells_of_a_new_revision_only_where_that_takes_its_time() -> None:
    ready = Standing(ready="True", fetched=moment(0), since=moment(0), observed=2)
    for running in (None, ("fetching", "", 5.0), ("fetching", OLD, 5.0), ("fetching", NEW, 0.5)):
        world = World(running=running, fetched=OLD)
        assert source_status(world.engine, a_source(stored()), ready) == stored(), running
    status = source_status(World(running=("fetching", NEW, 1.5), fetched=OLD).engine, a_source(stored()), ready)
    assert shown(status)["ArtifactOutdated"] == ("True", "NewRevision", f"new upstream revision '{NEW}'")
    assert shown(status)["Ready"][0] == "Unknown"
    after = source_status(World(fetched=NEW).engine, a_source(status), ready)
    assert shown(after) == shown(stored(NEW))


@pytest.mark.parametrize(
    ("reason", "told_by"),
    [
        ("GitOperationFailed", "FetchFailed"),
        ("AuthenticationFailed", "FetchFailed"),
        ("ArchiveOperationFailed", "StorageOperationFailed"),
    ],
)
def test_a_failure_keeps_the_artifact_and_is_told_by_its_condition(reason: str, told_by: str) -> None:
    standing = Standing(ready="False", reason=reason, message="m", since=moment(9), fetched=moment(0), observed=2)
    status = source_status(World(fetched=OLD).engine, a_source(stored()), standing)
    assert status.artifact == stored().artifact
    assert shown(status)["Ready"] == ("False", reason, "m")
    assert shown(status)[told_by] == ("True", reason, "m")
    assert set(shown(status)) == {"Ready", "Reconciling", "ArtifactInStorage", told_by}


def test_a_stalled_source_counts_as_observed() -> None:
    standing = Standing(ready="False", stalled=True, reason="URLInvalid", message="m", since=moment(9))
    status = source_status(World().engine, a_source(), standing)
    assert set(shown(status)) == {"Ready", "Stalled", "FetchFailed"}
    assert status.observed_generation == 2
    standing = Standing(ready="False", stalled=True, reason="UnsupportedFeature", message="m", since=moment(9))
    assert set(shown(source_status(World().engine, a_source(), standing))) == {"Ready", "Stalled"}


def test_a_suspended_source_keeps_its_status() -> None:
    standing = Standing(ready="False", reason="GitOperationFailed", message="m")
    assert source_status(World().engine, a_source(stored(), suspend=True), standing) == stored()
