"""Acknowledged means fsynced: what the kernel was asked to do, and what a power failure would leave."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from tests.storage.samples import check_tree, check_whole, everything
from tests.storage.trace import Call, Disk, moments, run_traced
from tidelog.storage.log import Query
from tidelog.storage.log.ids import new_id
from tidelog.storage.log.sqlite_log import open_log
from tidelog.storage.proofs.verify import verify_store

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("strace")]

APPENDS = 120
SYNCS = ("fsync", "fdatasync")


def acknowledgements(calls: Sequence[Call]) -> list[tuple[Call, str]]:
    """The writes that told an acknowledgement, with the event's id."""
    told = [call for call in calls if call.name == "write" and call.arguments.startswith(b"1<")]
    lines = [(call, call.strings[0].decode().split()) for call in told]
    return [(call, words[1]) for call, words in lines if words[0] == "ack"]


def see(disk: Disk, calls: Sequence[Call], until: Call | None = None) -> None:
    for moment in moments(calls):
        if moment.call == until:
            return
        disk.see(moment)


def acknowledged_too_early(calls: Sequence[Call], wal: str) -> list[str]:
    """The events that were acknowledged before a successful fsync of what was written of them."""
    writes = [call for call in calls if call.name == "pwrite64" and call.file == wal]
    contents = [call.strings[0] for call in writes]
    syncs = [call for call in calls if call.name in SYNCS and call.file == wal and call.result == 0]
    early = []
    for told, event in acknowledgements(calls):
        # Every commit writes the pages anew that it changes: the first time is that of the event's own.
        written = next(
            (call for call, data in zip(writes, contents, strict=True) if f'"id":"{event}"'.encode() in data),
            None,
        )
        if not written or not any(written.ended < sync.begun and sync.ended < told.begun for sync in syncs):
            early.append(event)
    return early


def test_every_acknowledgement_comes_after_the_fsync_of_its_event(children: Path, tmp_path: Path) -> None:
    program = [str(children / "append_and_tell.py"), str(tmp_path / "store"), str(APPENDS)]
    output, calls = run_traced(tmp_path / "trace", program)
    assert len(acknowledgements(calls)) == APPENDS
    assert output[-1] == "done"
    assert not acknowledged_too_early(calls, str(tmp_path / "store" / "log.db-wal"))


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_a_writer_that_does_not_sync_is_found_out(children: Path, tmp_path: Path, synchronous: str) -> None:
    """The test above would fail if SQLite were told to sync less."""
    program = [str(children / "append_and_tell.py"), str(tmp_path / "store"), "12", synchronous]
    _, calls = run_traced(tmp_path / "trace", program)
    assert len(acknowledgements(calls)) == 12
    assert len(acknowledged_too_early(calls, str(tmp_path / "store" / "log.db-wal"))) > 6


async def check_survivor(store: Path, acknowledged: Sequence[str]) -> None:
    """The store opens, is whole, and has every event that was acknowledged."""
    async with open_log(store) as log:
        assert log.identity.incarnation == 1, "the key was lost"
        events = await everything(log.read(Query()))
        check_whole(events)
        assert not set(acknowledged) - {recorded.envelope.id for recorded in events}
        for recorded in events:
            if recorded.envelope.type == "ObjectObserved":
                state = getattr(recorded.event, "state", None)
                assert state
                await log.body(state.digest)
    await check_tree(store, events)
    report = await verify_store(store)
    assert (report.events, report.findings) == (len(events), ())


@pytest.mark.parametrize("kept", ["nothing", "a part"])
async def test_every_acknowledged_event_survives_a_power_failure(
    children: Path, tmp_path: Path, seed: int, kept: str, *, soak: bool
) -> None:
    """The disk at acknowledgements, if only what was synced is kept, or a random part of the rest too."""
    root = tmp_path / "disk"
    store = root / "store"
    store.mkdir(parents=True)
    _, calls = run_traced(tmp_path / "trace", [str(children / "append_and_tell.py"), str(store), str(APPENDS)])
    checkpointed = [call for call in calls if call.name == "pwrite64" and call.file == str(store / "log.db")]
    assert len(checkpointed) > 100, "the trace should have a checkpoint of the write-ahead log"

    random = Random(seed)
    told = dict(acknowledgements(calls))
    chosen = set(range(APPENDS)) if soak else {0, 1, APPENDS - 1, *random.sample(range(APPENDS), 12)}
    disk = Disk(root, [store])
    acknowledged: list[str] = []
    for moment in moments(calls):
        if moment.call in told and not moment.is_end:
            acknowledged.append(told[moment.call])
            if len(acknowledged) - 1 in chosen:
                survivor = tmp_path / "survivors" / str(len(acknowledged))
                disk.after_power_failure(survivor, random if kept == "a part" else None)
                await check_survivor(survivor / "store", acknowledged)
        disk.see(moment)
    assert len(acknowledged) == APPENDS


async def test_a_new_store_survives_a_power_failure_with_its_directories(children: Path, tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    store = root / "new" / "store"
    _, calls = run_traced(tmp_path / "trace", [str(children / "append_and_tell.py"), str(store), "3"])
    disk = Disk(root)
    told = acknowledgements(calls)
    see(disk, calls, until=told[0][0])
    disk.after_power_failure(tmp_path / "survivor", None)
    assert (tmp_path / "survivor" / "new" / "store" / "log.db").exists(), "a directory was never synced"
    await check_survivor(tmp_path / "survivor" / "new" / "store", [told[0][1]])


async def test_repeated_append_is_synced_when_the_first_try_was_killed_before_its_fsync(
    children: Path, tmp_path: Path
) -> None:
    """What a killed process wrote is in the log for all who look; that does not make it durable."""
    root = tmp_path / "disk"
    store = root / "store"
    store.mkdir(parents=True)
    program = str(children / "append_and_tell.py")
    _, calls = run_traced(tmp_path / "trace", [program, str(store), "3"])
    disk = Disk(root, [store])
    see(disk, calls)
    event = new_id()
    # The sync of the append's own frames is not the first: that of the write-ahead log's header comes before.
    for number in range(1, 10):
        one = [program, str(store), "1", "-", event]
        kill = f"fsync,fdatasync:signal=KILL:when={number}"
        _, calls = run_traced(tmp_path / f"trace-{number}", one, inject=kill, check=False)
        see(disk, calls)
        assert not acknowledgements(calls)
        wal = str(store / "log.db-wal")
        writes = [call for call in calls if call.name == "pwrite64" and call.file == wal]
        if any(event.encode() in call.strings[0] for call in writes):
            break
    else:
        pytest.fail("the process was never killed between the write and the sync of the event")

    output, calls = run_traced(tmp_path / "trace", [program, str(store), "1", "-", event])
    assert output == [f"ack {event}", "done"]
    see(disk, calls, until=acknowledgements(calls)[0][0])
    disk.after_power_failure(tmp_path / "survivor", None)
    await check_survivor(tmp_path / "survivor" / "store", [event])
