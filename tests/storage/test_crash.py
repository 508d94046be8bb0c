"""kill -9 of a process that appends under load: nothing that was acknowledged is lost."""

import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests.storage.samples import (
    PATIENCE_S,
    appends_of,
    check_tree,
    check_whole,
    event_id,
    everything,
    note,
    stream,
)
from tidelog.events.names import EventId
from tidelog.storage.log import ANY, Query
from tidelog.storage.log.sqlite_log import open_log
from tidelog.storage.proofs.verify import verify_store

pytestmark = pytest.mark.slow

SOAK = bool(os.environ.get("TIDELOG_SOAK"))
PARTS = 20 if SOAK else 4
"""Each on a store of its own: what is read and verified after each round grows with the store."""
ROUNDS = (500 if SOAK else 20) // PARTS
ACKNOWLEDGED_MAX = 300
ROOT = Path(__file__).parents[2]


class Append(NamedTuple):
    """What the child tells of an append: from it follows the whole of it."""

    event: EventId
    streams: int

    @property
    def ids(self) -> set[EventId]:
        return {new.id for part in appends_of(*self)[0] for new in part.events if new.id is not None}


class Killed(NamedTuple):
    tried: set[Append]
    acknowledged: set[Append]


def kill_while_appending(program: Path, store: Path, random: Random) -> Killed:
    """Kills the child when it has told a random number of acknowledgements, or after a random short time."""
    command = [sys.executable, str(program), str(store), str(random.getrandbits(32))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    lines: list[str] = []
    try:
        assert child.stdout
        if random.random() < 0.2:
            with suppress(subprocess.TimeoutExpired):
                child.wait(timeout=random.uniform(0.2, 0.6))
        else:
            left = random.randrange(ACKNOWLEDGED_MAX)
            while left and (line := child.stdout.readline()):
                lines.append(line)
                left -= line.startswith("ack")
        assert child.poll() is None, "the child ended by itself"
        child.kill()
        lines += child.stdout.readlines()
    finally:
        child.kill()
        child.wait(timeout=PATIENCE_S)
        if child.stdout is not None:
            child.stdout.close()
    return Killed(told("try", lines), told("ack", lines))


def told(what: str, lines: Iterable[str]) -> set[Append]:
    words = [line.split() for line in lines if line.endswith("\n")]
    return {Append(EventId(event), int(streams)) for kind, event, streams in words if kind == what}


@pytest.mark.parametrize("part", range(PARTS))
async def test_kill_loses_nothing_that_was_acknowledged(children: Path, store: Path, seed: int, part: int) -> None:
    """Round after round on one store; after each, what was tried in vain is repeated and found once."""
    random = Random(seed + part)
    acknowledged: set[Append] = set()
    for _ in range(ROUNDS):
        killed = kill_while_appending(children / "append_forever.py", store, random)
        acknowledged |= killed.acknowledged
        if acknowledged:
            assert not (await verify_store(store)).findings, "as the child left it"
        async with open_log(store) as log:
            events = await everything(log.read(Query()))
            check_whole(events)
            await check_tree(store, events)
            ids = {recorded.envelope.id for recorded in events}
            for append in acknowledged:
                assert append.ids <= ids, "an acknowledged event is lost"
            for append in killed.tried - killed.acknowledged:
                assert append.ids <= ids or not append.ids & ids, "an append was made in part"
                appends, bodies = appends_of(*append)
                made = await log.append_all(appends, bodies=bodies)
                assert {recorded.envelope.id for recorded in made} == append.ids
            acknowledged |= killed.tried
            after = await everything(log.read(Query()))
            check_whole(after)
            assert {recorded.envelope.id for recorded in after if recorded.envelope.type != "LogCreated"} == {
                one for append in acknowledged for one in append.ids
            }
            for recorded in after[-20:]:
                state = getattr(recorded.event, "state", None)
                if state is not None:
                    assert (await log.body(state.digest)).ref == state
        report = await verify_store(store)
        assert (report.events, report.findings) == (len(after), ())
    assert acknowledged, "no round got as far as an append"


def append_until_killed(program: Path, store: Path, call: str, number: int) -> set[str]:
    """Kills a child at a system call; the ids that were acknowledged before."""
    kill = f"inject={call}:signal=KILL:when={number}"
    strace = ["strace", "-f", "-o", os.devnull, "-e", f"trace={call}", "-e", kill]
    command = [*strace, sys.executable, str(program), str(store), "6"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    assert ran.returncode in (0, -9), ran
    assert (ran.returncode == 0) == ran.stdout.endswith("done\n")
    return {line.split()[1] for line in ran.stdout.splitlines() if line.startswith("ack")}


@pytest.mark.usefixtures("strace")
async def test_kill_at_any_system_call_leaves_a_store_that_opens(
    children: Path, tmp_path: Path, seed: int, *, soak: bool
) -> None:
    """From the making of a store to its closing: killed at some of the calls that change files, or at each."""
    random = Random(seed)
    calls = {"fsync": 3, "fdatasync": 12, "pwrite64": 120, "ftruncate": 4, "rename": 1, "unlink": 2}
    every = [(call, number) for call, count in calls.items() for number in range(1, count + 1)]
    died = 0
    for call, number in every if soak else random.sample(every, 12):
        store = tmp_path / f"{call}-{number}"
        acknowledged = append_until_killed(children / "append_and_tell.py", store, call, number)
        died += len(acknowledged) < 6
        async with open_log(store) as log:
            events = await everything(log.read(Query()))
            check_whole(events)
            await check_tree(store, events)
            assert acknowledged <= {recorded.envelope.id for recorded in events}
            assert log.identity.incarnation == 1
            assert await log.append(stream(), ANY, [note(id=event_id())])
        assert not (await verify_store(store)).findings
    assert died, "no child was killed before its end"
