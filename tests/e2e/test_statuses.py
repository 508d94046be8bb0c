"""The status of objects is in the log: as of any moment, at most once a minute, and it moves nobody."""

import json

import pytest

from tests.e2e.command import tidelog
from tests.e2e.world import Running, World, dry_runs, manifest, written
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.watching import observer
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.vocabulary import (
    DriftDetected,
    HealthChanged,
    ObjectApplied,
    ObjectObserved,
    Planned,
    RunEnded,
)

EVERY_S = 2.0
"""In the place of a minute."""
NOTE = "lastTransitionTime"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "STATUS_EVERY_S", EVERY_S)


def seen(message: str) -> KubeObject:
    """The status of a Service, as some controller writes it."""
    one = {"type": "Seen", "status": "True", "reason": "Yes", "message": message, NOTE: "2024-01-01T00:00:00Z"}
    return {"conditions": [one]}


async def write_status(world: World, message: str) -> KubeObject:
    kind = await world.cluster.kind("v1", "Service")
    status = {"status": seen(message)}
    return await world.cluster.patch(
        kind, world.namespace, "web", status, type="merge", manager="operator", subresource="status"
    )


async def running_service(world: World, running: Running) -> StreamName:
    service = manifest("v1", "Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
    world.commit({"app/service.yaml": service})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    await world.until_applied("app")
    await running.idle()
    return ObjectKey("", "Service", world.namespace, "web").stream(running.daemon.engine.cluster_alias)


def observed(running: Running, stream: StreamName, after: int) -> list[ObjectObserved]:
    return [one for one in running.events(after=after, stream=stream) if isinstance(one, ObjectObserved)]


async def message_at(world: World, *moment: object) -> str:
    done = await tidelog(world, "get", "service/web", "-n", world.namespace, "-o", "json", *moment)
    assert done.code == 0, done
    status = json.loads(done.out).get("status") or {}
    return "".join(condition["message"] for condition in status.get("conditions") or ())


async def until_recorded(running: Running, stream: StreamName, message: str) -> None:
    """Until the last status that is recorded says something."""
    memory = running.daemon.engine.memory
    while True:
        after, row = len(running.recorded), memory.actual.get(stream)
        assert row is not None
        status = {} if row.status is None else json.loads((await memory.log.body(row.status.digest)).data)
        if message in json.dumps(status):
            return
        await running.until_event(ObjectObserved, stream=stream, after=after)


async def test_a_status_alone_is_recorded_as_of_its_moment_and_moves_nobody(world: World) -> None:
    async with world.daemon() as running:
        stream = await running_service(world, running)
        applied = running.daemon.engine.memory.position
        before, begun = len(await world.requests()), len(running.recorded)
        for number in range(40):
            await write_status(world, f"beat {number}")
        last = await write_status(world, "at rest")
        version = last["metadata"]["resourceVersion"]
        told = await running.until_event(
            ObjectObserved, stream=stream, after=begun, where=lambda one: one.resource_version == version
        )
        await running.idle()
        assert told.only_status
        assert running.events(DriftDetected, HealthChanged, ObjectApplied, Planned, RunEnded, after=begun) == []
        assert await message_at(world) == "at rest"
        assert await message_at(world, "--at", applied) == ""
        requests = (await world.requests())[before:]
        assert (written(requests), dry_runs(requests)) == ([], [])
        shown = await tidelog(world, "history", "service/web", "-n", world.namespace, "-o", "json")
        assert [one["target"] is not None for one in json.loads(shown.out)] == [True], "its versions are as before"


async def test_a_status_that_never_rests_is_told_once_a_minute_and_one_at_rest_never(world: World) -> None:
    async with world.daemon() as running:
        stream = await running_service(world, running)
        begun = len(running.recorded)
        for number in range(10_000):
            await write_status(world, f"beat {number}")
            if len(observed(running, stream, begun)) == 3:
                break
        beats = [one for one in running.recorded[begun:] if one.envelope.stream == stream]
        await write_status(world, "at rest")
        await until_recorded(running, stream, "at rest")
        at_rest = len(running.recorded)
        times = [one.envelope.time for one in beats]
        assert len(set(times)) == 3
        assert number > 10, "of very many, three were recorded"
        # The same once more is no change at all to the server.
        await write_status(world, "at rest")
        drift = await world.patch("v1", "Service", "web", {"spec": {"selector": {"app": "x"}}}, manager="mallory")
        await running.until_event(DriftDetected, stream=stream, after=at_rest)
        assert [one.only_status for one in observed(running, stream, at_rest)][:1] == [False], drift


async def test_a_status_that_changed_while_no_daemon_was_at_work_is_recorded_at_the_next_start(world: World) -> None:
    async with world.daemon() as running:
        stream = await running_service(world, running)
    await write_status(world, "meanwhile")
    async with world.daemon() as running:
        told = await running.until_event(ObjectObserved, stream=stream)
        await running.idle()
        assert told.only_status
        assert running.events(DriftDetected, Planned) == []
        assert await message_at(world) == "meanwhile"
    async with world.daemon() as running:
        await running.idle()
        assert observed(running, stream, 0) == [], "it is known by its digest"


async def test_the_status_of_what_was_made_with_a_secret_is_not_recorded(world: World) -> None:
    planted = "s3cr3t-of-the-parent"
    variables = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vars"}, "stringData": {"app": planted}}
    await world.apply(variables)
    service = manifest("v1", "Service", "web", spec={"selector": {"app": "${app}"}, "ports": [{"port": 80}]})
    async with world.daemon() as running:
        world.commit({"app/service.yaml": service})
        await world.source()
        spec = {"substituteFrom": [{"kind": "Secret", "name": "vars"}]}
        await world.target("app", "./app", targetNamespace=world.namespace, postBuild=spec)
        await world.until_applied("app")
        await running.idle()
        begun = len(running.recorded)
        await write_status(world, f"cannot reach {planted}")
        await world.patch("v1", "Service", "web", {"spec": {"selector": {"app": "x"}}}, manager="mallory")
        await running.until_event(DriftDetected, after=begun)
        await running.idle()
        stream = ObjectKey("", "Service", world.namespace, "web").stream(running.daemon.engine.cluster_alias)
        row = running.daemon.engine.memory.actual.get(stream)
        assert row is not None
        assert row.status is None
        events = [one.event for one in running.recorded if isinstance(one.event, ObjectObserved | ObjectApplied)]
        assert [one.status for one in events if one.state is not None and one.state.secret] == [None] * 3
