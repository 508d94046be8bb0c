"""What comes through the door is recorded, with who the kernel says it was."""

import os
import pwd
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.asking.conftest import PLAN, PLANTED, SECRET, TARGET, door_of, make_store
from tidelog.engine.http.client import open_door
from tidelog.engine.runtime.errors import DoorError, RefusedError
from tidelog.engine.runtime.requests import Request
from tidelog.engine.runtime.schedule import Trigger
from tidelog.events.moment import Time
from tidelog.events.vocabulary import PlanApproved, Suspended
from tidelog.storage import Query, verify_store
from tidelog.storage.errors import ForgottenError
from tidelog.storage.layout import Layout

FAR = Time("2999-01-01T00:00:00.000000Z")
ME = pwd.getpwuid(os.getuid()).pw_name


async def test_an_approval_is_recorded_with_who_came_through_the_door(store: Path) -> None:
    async with door_of(store) as inside, open_door(store) as door:
        assert door
        taken = await door.ask(Request(verb="approve", plan=PLAN, why="they moved", until=FAR))
        (recorded,) = [one async for one in inside.memory.log.read(Query(after=taken.position - 1))]
        assert recorded.envelope.stream == TARGET
        assert str(recorded.envelope.actor) == f"user {ME} (authenticated by unix-socket)"
        assert recorded.event == PlanApproved(plan=PLAN, why="they moved", until=FAR)
        assert taken.time == recorded.envelope.time


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"verb": "approve", "plan": "plan-none", "why": "x"}, f"no plan 'plan-none' is held; held are {PLAN}"),
        ({"verb": "approve", "plan": PLAN, "why": "  "}, "say why"),
        ({"verb": "approve", "plan": PLAN, "why": "x" * 3_000}, "2000 is the most"),
        ({"verb": "approve", "plan": PLAN, "why": "x", "until": "soon"}, "'soon' is no time of the log"),
        ({"verb": "suspend", "target": TARGET, "why": "x", "until": "2020-01-01T00:00:00.000000Z"}, "is past"),
        ({"verb": "suspend", "target": "default/a/B/c/d", "why": "x"}, "there is no default/a/B/c/d"),
        ({"verb": "resume", "target": TARGET}, "Kustomization flux-system/apps is not suspended"),
        ({"verb": "unpin", "target": TARGET, "why": "x"}, "is not pinned"),
        ({"verb": "pin", "target": TARGET, "why": "x", "position": 3}, "wanted nothing at position 3"),
        ({"verb": "pin", "target": TARGET, "why": "x", "position": 10_000}, "no position 10000"),
        ({"verb": "reconcile", "target": TARGET, "force": True}, "flux-system/apps is no HelmRelease"),
        ({"verb": "reconcile", "target": TARGET, "reset": True}, "flux-system/apps is no HelmRelease"),
        ({"verb": "mark", "label": " ", "why": "x"}, "a mark needs a label"),
        ({"verb": "forget", "target": "nonsense", "why": "x"}, "is no stream"),
        ({"verb": "forget", "target": TARGET, "why": "x"}, "nothing secret is kept of it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(str(part)[:12] for part in value.values()),
)
async def test_what_makes_no_sense_is_refused_with_a_sentence_and_leaves_nothing(
    store: Path, fields: dict[str, Any], said: str
) -> None:
    async with door_of(store) as inside, open_door(store) as door:
        assert door
        head = inside.memory.position
        with pytest.raises(RefusedError, match=said.replace("(", r"\(")):
            await door.ask(Request(**fields))
        assert inside.memory.position == head


async def test_nobody_is_at_the_door_of_a_store_without_a_daemon_and_of_none(store: Path) -> None:
    async with open_door(store) as door:
        assert door is None
    async with open_door(store / "nowhere") as door:
        assert door is None


async def test_the_socket_that_a_killed_daemon_left_is_no_door_and_is_replaced(store: Path) -> None:
    async with await anyio.create_unix_listener(Layout(store).door):
        pass
    assert await anyio.Path(Layout(store).door).exists()
    async with open_door(store) as door:
        assert door is None
    async with door_of(store), open_door(store) as door:
        assert door
        assert await door.is_serving()


async def test_the_door_is_for_its_owner_only(store: Path) -> None:
    async with door_of(store):
        assert stat.S_IMODE(Layout(store).door.stat().st_mode) == 0o600


async def test_a_path_longer_than_the_address_of_a_socket_serves(tmp_path: Path) -> None:
    store = tmp_path / ("long-" * 20) / ("longer-" * 20)
    store.parent.mkdir()
    await make_store(store)
    async with door_of(store), open_door(store) as door:
        assert door
        assert (await door.ask(Request(verb="mark", label="here", why="x"))).position


async def test_who_waits_is_told_when_nothing_goes_on_any_more(store: Path) -> None:
    async with door_of(store) as inside, open_door(store) as door:
        assert door
        held = await door.outcome(TARGET)
        assert (held.over, held.ready, held.reason) == (True, "False", "PlanHeld")
        inside.daemon.engine.targets.wake(TARGET, Trigger(why="a test"))
        assert not (await door.outcome(TARGET)).over
        with pytest.raises(RefusedError, match="no such source or target"):
            await door.outcome(SECRET)


async def test_a_suspended_target_is_looked_at_and_refuses_to_be_reconciled(store: Path) -> None:
    async with door_of(store) as inside, open_door(store) as door:
        assert door
        await door.ask(Request(verb="suspend", target=TARGET, why="hands off"))
        ((stream, trigger),) = inside.woken
        assert (stream, trigger.why) == (TARGET, "Suspended")
        with pytest.raises(RefusedError, match=f"was suspended by user {ME}.*: hands off"):
            await door.ask(Request(verb="reconcile", target=TARGET))


async def test_the_ring_of_the_daemon_is_the_one_that_forgets(store: Path) -> None:
    async with door_of(store) as inside, open_door(store) as door:
        assert door
        keys = inside.requests._keys
        assert keys
        before = await keys.key(SECRET)
        sealed = before.seal(PLANTED.encode())
        taken = await door.ask(Request(verb="forget", target=SECRET, why="asked to"))
        assert inside.memory.position == taken.position
        with pytest.raises(ForgottenError):
            before.open(sealed)
        assert (await keys.key(SECRET)).id != before.id
    assert (await verify_store(store)).intact


async def test_what_is_no_request_is_refused(store: Path) -> None:
    async with door_of(store), open_door(store) as door:
        assert door
        for path, said in (("/v1/requests", "malformed|truncated|JSON"), ("/v1/nonsense", "HTTP 404")):
            with pytest.raises((RefusedError, DoorError), match=said):
                await door._call("POST", path, Suspended, data=b"no JSON")
