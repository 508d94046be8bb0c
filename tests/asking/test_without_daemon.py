"""Where no daemon is at work, a command takes its request itself; the log then says the same."""

import json
import os
import pwd
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.asking.conftest import PLAN, PLANTED, REVISION, TARGET, Run, door_of
from tidelog.engine.cli.door import Access
from tidelog.engine.cli.several import all_named, ask_of_all_and_tell
from tidelog.engine.cluster.errors import UnreachableError
from tidelog.engine.runtime.errors import DoorError, RefusedError
from tidelog.engine.runtime.requests import Request
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import digest_of
from tidelog.events.envelope import Actor
from tidelog.events.names import StreamName
from tidelog.events.vocabulary import (
    ApplyFinished,
    Event,
    Marked,
    Pinned,
    PlanApproved,
    PlanRejected,
    Suspended,
    TargetDeclared,
    Unpinned,
)
from tidelog.storage import ANY, NewEvent, Query, Recorded, open_log, read_log

ME = pwd.getpwuid(os.getuid()).pw_name
LATER = "No daemon is at work: it is done when one comes."


def last(store: Path) -> Recorded:
    async def read() -> Recorded:
        async with read_log(store) as log:
            return [recorded async for recorded in log.read(Query(after=await log.head() - 1))][-1]

    return anyio.run(read)


def last_event(store: Path) -> Event:
    return last(store).event


def append(store: Path, event: Event) -> None:
    async def write() -> None:
        async with open_log(store) as log:
            await log.append(TARGET, ANY, [NewEvent(event)])

    anyio.run(write)


def test_an_approval_waits_for_the_next_daemon(store: Path, tidelog: Run) -> None:
    done = tidelog("approve", PLAN, "--why", "they moved")
    recorded = last(store)
    assert (done.code, done.out) == (0, f"Approved {PLAN} at position {recorded.envelope.position}.\n")
    assert LATER in done.err
    assert recorded.event == PlanApproved(plan=PLAN, why="they moved")
    assert str(recorded.envelope.actor) == f"user {ME} (authenticated by unix)"


def test_an_approval_may_have_an_end(store: Path, tidelog: Run) -> None:
    assert tidelog("approve", PLAN, "--why", "x", "--until", "2999-01-01T00:00:00Z").code == 0
    event = last_event(store)
    assert isinstance(event, PlanApproved)
    assert event.until == "2999-01-01T00:00:00.000000Z"


def test_the_beginning_of_its_id_is_enough_to_decide_of_a_plan(store: Path, tidelog: Run) -> None:
    before = last(store).envelope.position
    assert tidelog("approve", "plan-012", "--why", "too few signs").code == 1
    assert tidelog("approve", "plan-0124", "--why", "another").code == 1
    assert last(store).envelope.position == before
    done = tidelog("reject", PLAN[:9], "--why", "no")
    assert (done.code, done.out) == (0, f"Rejected {PLAN} at position {before + 1}.\n")
    assert last_event(store) == PlanRejected(plan=PLAN, why="no")


def test_a_plan_that_was_approved_is_said_to_be(store: Path, tidelog: Run) -> None:
    assert tidelog("approve", PLAN, "--why", "they moved").code == 0
    before = last(store).envelope.position
    again = tidelog("approve", PLAN, "--why", "once more")
    assert again.code == 1
    assert f"{PLAN} was approved already, by user {ME} (authenticated by unix): they moved" in again.err
    assert last(store).envelope.position == before
    append(store, ApplyFinished(plan=PLAN, revision=REVISION, set=digest_of(b"set")))
    applied = tidelog("approve", PLAN[:12], "--why", "once more")
    assert applied.code == 1
    assert f"{PLAN} was approved already, by user {ME} (authenticated by unix) at 2" in applied.err


def test_a_suspension_says_which_one_it_replaces(store: Path, tidelog: Run) -> None:
    assert tidelog("suspend", "ks/apps", "--why", "first", "--until", "2999-01-01T00:00:00Z").err.count("place of") == 0
    again = tidelog("suspend", "ks/apps", "--why", "second")
    assert again.code == 0
    assert (
        f"It takes the place of the suspension by user {ME} (authenticated by unix): first, "
        "until 2999-01-01T00:00:00Z; it has no end now."
    ) in again.err


def add_target(store: Path, stream: StreamName) -> None:
    spec = Body.of(encode({"path": "./more", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}))
    declared = NewEvent(TargetDeclared(uid=stream, generation=1, spec=spec.ref))

    async def write() -> None:
        async with open_log(store) as log:
            await log.append(stream, ANY, [declared], bodies=[spec])

    anyio.run(write)


def test_all_of_a_kind_are_those_of_a_namespace_or_of_all(store: Path, tidelog: Run) -> None:
    other = StreamName("default/kustomize.toolkit.fluxcd.io/Kustomization/team/more")
    add_target(store, other)
    done = tidelog("suspend", "ks", "--all", "--why", "freeze", "-n", "team")
    position = last(store).envelope.position
    assert (done.code, done.out) == (0, f"Suspended Kustomization/team/more at position {position}.\n")
    assert done.err == f"{LATER}\n"
    assert last(store).envelope.stream == other
    done = tidelog("suspend", "ks", "--all", "-A", "--why", "a longer one")
    assert (done.code, done.out.splitlines()) == (
        0,
        [
            f"Suspended Kustomization/flux-system/apps at position {position + 1}.",
            f"Suspended Kustomization/team/more at position {position + 2}.",
        ],
    )
    assert done.err.splitlines() == [
        f"Kustomization/team/more: it takes the place of the suspension by user {ME} (authenticated by unix): freeze.",
        LATER,
    ]
    done = tidelog("resume", "kustomization", "--all", "-n", "nowhere")
    assert (done.code, done.out, done.err) == (0, "", "There is no suspended Kustomization in namespace nowhere.\n")
    assert tidelog("suspend", "source", "git", "--all", "--why", "x").out.startswith("Suspended GitRepository/")
    done = tidelog("resume", "ks", "--all", "-A", "-o", "json")
    assert [one["stream"] for one in json.loads(done.out)] == [TARGET, other]
    assert json.loads(tidelog("resume", "ks", "--all", "-A", "-o", "json").out) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ks/apps", "--all"), "'ks/apps' is no kind alone"),
        (("ks", "apps", "--all"), "'ks apps' is no kind alone"),
        (("deployment", "--all"), "'deployment' is none of the kinds that are reconciled: gitrepository"),
        (("ks/apps", "-A"), "--all-namespaces goes with --all"),
        (("ks",), "'ks' names nothing: give KIND/NAME, or --all for all of a KIND"),
        (("--all",), "Missing argument 'KIND[/NAME]'"),
    ],
)
def test_all_of_a_kind_are_named_by_the_kind_alone(
    store: Path, tidelog: Run, words: tuple[str, ...], said: str
) -> None:
    before = last(store).envelope.position
    for command in (("suspend", "--why", "x"), ("resume",)):
        done = tidelog(*command, *words)
        assert (done.code, said in done.err) == (2, True), done
    assert last(store).envelope.position == before


async def test_what_cannot_be_told_any_more_ends_it_with_what_was_done(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [StreamName(f"default/kustomize.toolkit.fluxcd.io/Kustomization/flux-system/z{n}") for n in range(2)]
    for other in others:
        await anyio.to_thread.run_sync(add_target, store, other)
    which = all_named(("ks",), "flux-system")
    async with door_of(store) as inside:
        take = inside.requests.take

        async def fails(request: Request, actor: Actor) -> Recorded:
            if request.target == others[0]:
                raise RefusedError("it was deleted")
            if request.target == others[1]:
                raise UnreachableError("the cluster is away")
            return await take(request, actor)

        inside.requests.take = fails  # type: ignore[method-assign]
        with pytest.raises(DoorError, match="the cluster is away"):
            await ask_of_all_and_tell(Access(store), "table", which, Request(verb="suspend", why="x"), "Suspended")
        printed = capsys.readouterr()
        assert printed.out.startswith("Suspended Kustomization/flux-system/apps at position ")
        assert printed.err.splitlines() == [
            "✗ Kustomization/flux-system/z0: it was deleted",
            "✗ 1 of 3 were suspended",
        ]


@pytest.mark.parametrize("until", ["yesterday", "2020-01-01", "-2h", "0s", "9999999h"])
def test_a_time_that_does_not_come_is_refused(store: Path, tidelog: Run, until: str) -> None:
    before = last(store).envelope.position
    done = tidelog("suspend", "ks/apps", "--why", "x", "--until", until)
    assert done.code == 2, done
    assert last(store).envelope.position == before


def test_json_tells_position_and_time(store: Path, tidelog: Run) -> None:
    done = tidelog("reject", PLAN, "--why", "no", "-o", "json")
    recorded = last(store)
    assert json.loads(done.out) == {
        "position": recorded.envelope.position,
        "time": recorded.envelope.time,
        "note": "no daemon is at work: it is done when one comes",
    }
    assert recorded.event == PlanRejected(plan=PLAN, why="no")


def test_a_plan_that_is_not_held_is_answered_with_no(store: Path, tidelog: Run) -> None:
    done = tidelog("approve", "plan-none", "--why", "x")
    assert (done.code, done.err) == (1, f"No plan 'plan-none' is held; held are {PLAN}.\n")


def test_without_a_cluster_a_suspension_is_recorded_and_left_to_the_daemon(store: Path, tidelog: Run) -> None:
    done = tidelog("suspend", "kustomization/apps", "--why", "hands off")
    assert done.code == 0
    assert LATER in done.err
    assert last_event(store) == Suspended(why="hands off")
    done = tidelog("reconcile", "ks/apps")
    assert done.code == 1
    assert "was suspended by" in done.err
    assert tidelog("resume", "ks", "apps").code == 0
    assert tidelog("resume", "ks", "apps").code == 1


def test_who_waits_for_a_run_that_nobody_makes_is_told_so_and_all_of_it_is_asked_for(store: Path, tidelog: Run) -> None:
    before = last(store).envelope.position
    done = tidelog("reconcile", "ks/apps", "--with-source", "--why", "now")
    assert (done.code, done.out) == (1, "")
    assert done.err.count(LATER) == 2
    assert last(store).envelope.position == before + 2, "the target's request is there, and its source's"
    asked = last(store)
    assert (asked.envelope.stream, type(asked.event).__name__) == (TARGET, "ReconcileRequested")
    done = tidelog("reconcile", "ks/apps", "-o", "json")
    assert (done.code, json.loads(done.out)["position"]) == (1, before + 3)
    # Who does not wait wanted no more than to ask.
    assert tidelog("reconcile", "ks/apps", "--no-wait").code == 0
    done = tidelog("reconcile", "ks/apps", "--with-source", "--no-wait", "-o", "json")
    asked = last(store)
    assert (done.code, json.loads(done.out)) == (
        0,
        {
            "stream": TARGET,
            "position": asked.envelope.position,
            "time": asked.envelope.time,
            "note": LATER[:1].lower() + LATER[1:-1],
        },
    )


def test_a_cluster_that_was_named_and_is_not_there_is_an_error_and_records_nothing(
    store: Path, tidelog: Run, tmp_path: Path
) -> None:
    before = last(store).envelope.position
    done = tidelog("suspend", "ks/apps", "--why", "x", "--kubeconfig", tmp_path / "none")
    assert done.code == 3
    assert "cannot read" in done.err
    assert last(store).envelope.position == before


def test_a_target_is_pinned_and_unpinned(store: Path, tidelog: Run) -> None:
    done = tidelog("unpin", "ks/apps", "--why", "x")
    assert (done.code, done.err) == (1, "Kustomization flux-system/apps is not pinned.\n")

    async def pin() -> None:
        async with open_log(store) as log:
            from tests.asking.conftest import ADA, memory_of
            from tidelog.engine.runtime.memory import Origin

            memory = await memory_of(log)
            row = memory.desired.get(TARGET)
            assert row
            assert row.set
            pinned = Pinned(set=row.set, position=memory.position, left=REVISION, why="a test")
            await memory.append(TARGET, [pinned], Origin(actor=ADA))

    anyio.run(pin)
    assert tidelog("unpin", "ks/apps", "--why", "enough").code == 0
    assert last_event(store) == Unpinned(why="enough")


def test_a_mark_needs_nobody(store: Path, tidelog: Run) -> None:
    done = tidelog("mark", "release 7", "--why", "shipped")
    assert (done.code, done.err) == (0, "")
    assert last_event(store) == Marked(label="release 7", why="shipped")
    done = tidelog("mark", " ", "--why", "shipped")
    assert (done.code, "it is empty: say what is marked" in done.err) == (2, True)


def test_why_has_to_be_said(store: Path, tidelog: Run) -> None:
    assert tidelog("approve", PLAN).code == 2
    done = tidelog("approve", PLAN, "--why", " ")
    assert (done.code, "say why" in done.err) == (2, True)


def test_a_source_that_is_named_for_a_target_is_something_typed_wrongly(store: Path, tidelog: Run) -> None:
    for words in (("plan",), ("reapply", "--at", "3", "--why", "x", "--yes"), ("unpin", "--why", "x")):
        done = tidelog(words[0], "git/fleet", *words[1:])
        told = "GitRepository/flux-system/fleet is a source, and applies nothing: name a Kustomization or a HelmRelease"
        assert (done.code, done.err) == (2, f"Error: {told}\n")


def test_what_is_no_source_and_no_target_is_not_suspended(store: Path, tidelog: Run) -> None:
    assert tidelog("suspend", "ks/nope", "--why", "x").code == 1
    assert tidelog("suspend", "nonsense", "--why", "x").code == 2


def test_who_gives_no_reason_is_told_what_it_is_for(store: Path, tidelog: Run) -> None:
    for words in (("suspend", "ks/apps"), ("unpin", "ks/apps"), ("reject", PLAN)):
        done = tidelog(*words)
        assert (done.code, "It stays in the log, with who did it" in done.err) == (2, True), done
        assert "it is empty: say why" in tidelog(*words, "--why", " ").err


def test_without_store_and_cluster_a_command_says_what_it_needs(
    store: Path, tidelog: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDELOG_STORE", str(tmp_path / "none"))
    done = tidelog("approve", PLAN, "--why", "x")
    assert (done.code, "give --store DIR" in done.err) == (1, True)
    done = tidelog("suspend", "ks/apps", "--why", "x")
    assert (done.code, "no cluster is named" in done.err) == (3, True)
    assert tidelog("suspend", "deployment/web", "--why", "x").code == 2
    assert tidelog("plan", "ks/apps").code == 3


def test_another_writer_is_named(store: Path, tidelog: Run) -> None:
    async def hold() -> None:
        async with open_log(store):
            done = await anyio.to_thread.run_sync(lambda: tidelog("mark", "x", "--why", "x"))
            assert done.code == 3
            assert "is being written by process" in done.err

    anyio.run(hold)


def test_nothing_that_is_secret_is_printed(store: Path, tidelog: Run) -> None:
    for command in (
        ("suspend", "ks/apps", "--why", "x"),
        ("log", "forget", "default/core/Secret/shop/pw", "--why", "x", "--yes"),
    ):
        done = tidelog(*command)
        assert done.code == 0
        assert PLANTED not in done.out + done.err
