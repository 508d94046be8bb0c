"""The commands that ask the log: what they print, for people and for programs, and how they end."""

import json
import re
import subprocess
import sys
import time as clock
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.cli.conftest import Run
from tests.questions.scenes import (
    APPS,
    GRACE,
    INFRA,
    KUBECTL,
    SHOP,
    START,
    WEB,
    Scene,
    deployment,
    pinned_shop,
    revision,
    secret_body,
    shop,
)
from tidelog.engine.cli.plans import print_plan
from tidelog.engine.cli.yaml_out import dump
from tidelog.engine.documents import documents
from tidelog.engine.plan.model import Change, Plan, Step
from tidelog.engine.runtime.passes.previews.told import ReleaseTold
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import digest_of
from tidelog.events.moment import time_of
from tidelog.events.names import ObjectKey, PlanId, RunId, StreamName, engine_stream
from tidelog.events.vocabulary import (
    DriftDetected,
    EngineStarted,
    EngineStopped,
    Event,
    FieldDrift,
    HealthChanged,
    Marked,
    ObjectObserved,
    ObjectPruned,
    ObservationInterrupted,
    ObservationResumed,
    PlanHeld,
    StageFailed,
    Suspended,
    Verdict,
    VerificationFailed,
)
from tidelog.storage.log.ids import new_id

HOLDER = Path(__file__).parents[1] / "storage" / "children" / "hold.py"


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This machine's clock shows New York's time."""
    monkeypatch.setenv("TZ", "America/New_York")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Written":
    return Written(tmp_path / "store", monkeypatch)


class Written:
    """A scene that is written when the first command asks it."""

    def __init__(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = shop()
        self.store = store
        monkeypatch.setenv("TIDELOG_STORE", str(store))
        monkeypatch.delenv("FLUX_SYSTEM_NAMESPACE", raising=False)

    def write(self) -> Scene:
        self.told.write(self.store)
        return self.told


def _json(out: str) -> Any:
    return json.loads(out)


# Times.


@pytest.mark.usefixtures("new_york")
def test_a_time_that_is_printed_is_the_same_moment_when_it_is_typed(scene: Written, tidelog: Run) -> None:
    scene.told.wait(100.25)
    scene.told.tell(APPS, Suspended(why="incident 7", until=time_of(START + timedelta(days=9, microseconds=56_792))))
    scene.told.wait(0.5)
    scene.told.tell(APPS, Marked(label="x", why="y"))
    scene.write()
    printed = [line.split()[:2] for line in tidelog("events", "-A", "--limit", "0").lines]
    latest = {time: int(position) for position, time in printed}
    assert max(latest) == "2024-01-01T01:02:48Z"
    for time, position in latest.items():
        assert _json(tidelog("events", "-A", "--limit", "1", "--at", time, "-o", "json").out)["position"] == position
    until = "2024-01-10T00:00:00Z"
    told = [tidelog("get", "ks", "apps").err, tidelog("explain", "ks/apps").out, tidelog("events", "-A").out]
    for text in told:
        assert f"until {until}" in text
        assert not re.search(r"\d:\d\d(?!:|\d|Z)", text), "a time without a zone"
    assert "yet to come" in tidelog("get", "ks", "--at", "2999-01-01T00:00:00Z").err


# what is pinned


def test_every_answer_says_what_a_pinned_target_is_kept_at(scene: Written, tidelog: Run) -> None:
    scene.told = pinned_shop()
    scene.write()
    one, two = revision("one")[:18], revision("two")[:18]
    position = next(iter(_json(tidelog("history", "ks/apps", "-o", "json").out)))["pinned"]
    moment = f"what was wanted at position {position} (revision {one} “Open the shop”)"
    who = "user grace (authenticated by kubernetes)"
    got = tidelog("get", "ks", "apps")
    assert got.lines[1].split()[:4] == ["apps", one, "False", "True"]
    assert got.lines[1].endswith(f"Pinned: applied {moment}")
    assert got.err == f"► apps is pinned by {who} to {moment}, and not at {two}: two is broken\n"
    explained = tidelog("explain", "ks/apps").lines
    assert explained[0].startswith(f"✔ Kustomization/flux-system/apps is ready at {moment}, to which it is pinned")
    assert explained[1].strip() == "commit “Open the shop” by Ada <ada@example.com>"
    assert moment in tidelog("explain", "deploy/web").out
    traced = tidelog("trace", "deploy/web")
    assert "Now at" not in traced.out
    facts = {line[:10].strip(): line[10:].strip() for line in traced.lines}
    assert facts["Commit"] == "Open the shop"
    assert facts["Pinned"] == f"to {moment.replace(one, revision('one'))}, by {who}: two is broken"
    newest = tidelog("history", "ks/apps").lines[1]
    assert f"{one} (pinned to {position})" in newest
    assert "Open the shop" in newest


# get


def test_get_has_the_columns_of_flux(scene: Written, tidelog: Run) -> None:
    scene.write()
    done = tidelog("get", "kustomizations")
    assert done.code == 0
    assert done.lines[0].split() == ["NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE"]
    short = revision("two")[:18]
    assert done.lines[1].split() == ["apps", short, "False", "True", "Applied", "revision:", short]
    assert [line.split()[0] for line in done.lines[1:]] == ["apps", "flux-system", "infra"]
    assert tidelog("get", "ks") == done
    bare = tidelog("get", "ks", "--no-header")
    assert [line.split() for line in bare.lines] == [line.split() for line in done.lines[1:]]
    source = tidelog("get", "sources", "git", "shop").lines[1]
    assert source.split()[-4:] == ["artifact", "for", "revision", f"'{short}'"]
    one = tidelog("get", "ks", "apps")
    assert len(one.lines) == 2
    for words in (("get", "ks/apps"), ("get", "kustomization/apps"), ("get", "ks", "apps")):
        assert tidelog(*words) == one
    for words in (("get", "git/shop"), ("get", "sources", "git/shop"), ("get", "gitrepositories/shop")):
        assert tidelog(*words).lines[1:] == [source]


def test_get_all_in_all_namespaces_names_kind_and_namespace(scene: Written, tidelog: Run) -> None:
    scene.write()
    lines = tidelog("get", "all", "-A").lines
    assert lines[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["flux-system", "gitrepository/shop"],
        ["flux-system", "kustomization/apps"],
        ["flux-system", "kustomization/flux-system"],
        ["flux-system", "kustomization/infra"],
    ]


def test_get_says_beside_the_table_who_suspended(scene: Written, tidelog: Run) -> None:
    scene.told.tell(APPS, Suspended(why="incident 7"), actor=GRACE)
    scene.write()
    done = tidelog("get", "ks", "apps")
    assert "True" in done.lines[1]
    assert done.err == "► apps is suspended by user grace (authenticated by kubernetes): incident 7\n"
    (row,) = _json(tidelog("get", "ks", "apps", "-o", "json").out)
    assert row["suspension"] == {"by": "user grace (authenticated by kubernetes)", "why": "incident 7"}


def test_get_ends_with_1_where_the_one_that_was_named_is_not_there(scene: Written, tidelog: Run) -> None:
    scene.write()
    gone = tidelog("get", "ks", "nope")
    assert (gone.code, gone.out) == (1, "")
    assert gone.err == "There is no Kustomization nope in namespace flux-system.\n"
    empty = tidelog("get", "ks", "-n", "team", "-o", "json")
    assert (empty.code, empty.out) == (0, "[]\n")
    assert len(_json(tidelog("get", "ks", "--status-selector", "ready=false", "-o", "json").out)) == 0


def test_get_says_that_none_is_as_was_asked_for_and_not_that_there_is_none(scene: Written, tidelog: Run) -> None:
    scene.write()
    none = tidelog("get", "ks", "--status-selector", "ready=false")
    assert (none.code, none.out) == (0, "")
    assert none.err == "There is no Kustomization that is ready=false in namespace flux-system.\n"


def test_get_says_in_few_words_that_there_is_nothing(scene: Written, tidelog: Run) -> None:
    scene.write()
    for words, what in ((("all",), "source or target"), (("sources", "all"), "source")):
        empty = tidelog("get", *words, "-n", "team")
        assert (empty.code, empty.out, empty.err) == (0, "", f"There is no {what} in namespace team.\n")
    then = tidelog("get", "hr", "-A", "--at", "2")
    assert then.err == "There is no HelmRelease in any namespace at position 2.\n"


@pytest.mark.parametrize("word", ["gitrepository", "gitrepositories", "gitrepo"])
def test_get_takes_the_names_that_kubectl_has_for_a_source(scene: Written, tidelog: Run, word: str) -> None:
    scene.write()
    done = tidelog("get", word, "shop")
    assert done.code == 0
    assert done.lines[1].split()[0] == "shop"


def test_get_at_a_moment_is_as_it_was(scene: Written, tidelog: Run) -> None:
    scene.write()
    for moment in (revision("one"), revision("one")[10:20], "2024-01-01T00:30:00Z"):
        (row,) = _json(tidelog("get", "ks", "apps", "--at", moment, "-o", "json").out)
        assert row["revision"] == revision("one"), moment
    assert tidelog("get", "ks", "--at", "0123456x").code == 2
    assert tidelog("get", "ks", "--at", "999999").code == 1


def test_of_a_moment_that_nobody_watched_it_is_said(scene: Written, tidelog: Run) -> None:
    told, engine = scene.told, StreamName("log/engine")
    pods, maps = ("core/Pod",), ("core/ConfigMap",)
    moments: dict[str, int] = {}

    def tell(name: str, event: Event) -> None:
        told.wait(60)
        told.tell(engine, event)
        moments[name] = told.position

    tell("seen", EngineStarted(software="tidelog", host="h", pid=1))
    tell("one", ObservationInterrupted(cluster="prod", kinds=pods, why="x"))
    tell("two", ObservationInterrupted(cluster="prod", kinds=maps, why="x"))
    tell("one again", ObservationResumed(cluster="prod", kinds=pods))
    tell("all again", ObservationResumed(cluster="prod", kinds=maps))
    tell("stopped", EngineStopped(why="asked to"))
    told.tell(APPS, Marked(label="x", why="y"))
    asked = told.position
    tell("started", EngineStarted(software="tidelog", host="h", pid=2))
    told.tell(APPS, Marked(label="x", why="y"))
    killed = told.position
    tell("and again", EngineStarted(software="tidelog", host="h", pid=3))
    scene.write()

    def said(position: int) -> str:
        return tidelog("get", "ks", "apps", "--at", str(position)).err

    for name in ("seen", "all again", "started", "and again"):
        assert said(moments[name]) == "", name
    assert "changes of core/Pod may have gone unseen from 2024-" in said(moments["one"])
    assert "changes of core/ConfigMap, core/Pod may have gone unseen" in said(moments["two"])
    assert "changes of core/ConfigMap may have gone unseen" in said(moments["one again"])
    for position in (moments["stopped"], asked):
        assert f"► Of position {position}: no daemon was at work from 2024-" in said(position)
    assert "before it was killed; the next one started at 2024-" in said(killed)
    for command in (("explain", "ks/apps"), ("trace", "deploy/web"), ("tree", "ks", "apps"), ("events", "-A")):
        assert "no daemon was at work" in tidelog(*command, "--at", str(asked)).err, command
    assert "have gone unseen" not in tidelog("get", "ks", "apps").err


def test_commands_work_on_a_store_while_a_daemon_writes_it_and_when_there_is_none(
    scene: Written, tidelog: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    nowhere = tidelog("get", "all", "--store", tmp_path / "none")
    assert nowhere.code == 3
    scene.write()
    command = [sys.executable, str(HOLDER), str(scene.store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"open\n"
            assert tidelog("explain", "ks/apps").code == 0
        finally:
            daemon.kill()


def test_the_state_that_a_daemon_left_is_said_to_be_the_last(
    scene: Written, tidelog: Run, environment: dict[str, str]
) -> None:
    scene.told.tell(engine_stream("log"), EngineStarted(software="tidelog", host="h", pid=1))
    scene.write()
    questions = (("get", "all"), ("explain", "ks/apps"), ("tree", "ks", "apps"), ("history", "ks/apps"))
    for question in questions:
        asked = tidelog(*question)
        assert re.search(
            r"^► no daemon is at work on this store: this is its last state, of 20[-0-9T:]+Z$", asked.err, re.MULTILINE
        ), question
        assert "no daemon" not in asked.out
        for past_or_program in (("--at", "5"), ("-o", "json")):
            assert "no daemon" not in tidelog(*question, *past_or_program).err, question
    command = [sys.executable, str(HOLDER), str(scene.store)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as daemon:
        try:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == b"open\n"
            for question in questions:
                assert "no daemon" not in tidelog(*question).err, question
        finally:
            daemon.kill()


# tree


def test_tree_draws_what_is_nested_with_its_marks(scene: Written, tidelog: Run) -> None:
    web = WEB.stream("prod")
    scene.told.tell(web, HealthChanged(health="Failed", reason="Stalled", message="no"))
    drift = DriftDetected(
        target=APPS, uid="1", resource_version="9", fields=(FieldDrift(path="spec.replicas", manager="kubectl"),)
    )
    scene.told.tell(web, drift)
    scene.write()
    done = tidelog("tree", "ks", "flux-system")
    assert done.code == 0
    assert tidelog("tree", "kustomization/flux-system", "-n", "flux-system") == done
    assert done.lines == [
        "Kustomization/flux-system/flux-system ready",
        "├── Kustomization/flux-system/apps ready",
        "│   └── Deployment/shop/web ✗ Failed drifted: spec.replicas by kubectl",
        "├── Kustomization/flux-system/flux-system ready (see above)",
        "└── Kustomization/flux-system/infra ready",
        "    └── Deployment/shop/db ✔ Current",
    ]
    document = _json(tidelog("tree", "kustomization", "flux-system", "-o", "json").out)
    assert document["resources"][0]["resources"][0]["health"] == "Failed"
    assert tidelog("tree", "ks", "nope").code == 1


# trace


def test_trace_prints_the_way_from_commit_to_object(scene: Written, tidelog: Run) -> None:
    scene.write()
    done = tidelog("trace", "deployment/web", "-n", "shop")
    assert done.code == 0
    facts = {line[:12].split()[0]: line.split(maxsplit=1)[1].strip() for line in done.lines}
    assert facts["Object"] == "Deployment/shop/web (Current)"
    assert facts["Target"] == "Kustomization/flux-system/apps"
    assert facts["Commit"] == "New checkout"
    assert facts["Author"].startswith("Ada <ada@example.com>")
    assert facts["Render"].startswith("1 object, ")
    assert facts["Plan"].startswith("plan-apps-2: 1 to update")
    assert facts["Checks"].startswith("passed: well-formed, schema, dry-run")
    assert facts["Apply"].startswith("configured, wave 0; position ")
    assert tidelog("trace", "deployment", "web", "-n", "shop") == done


@pytest.mark.parametrize(
    "words",
    [
        ("web", "--kind", "Deployment", "--api-version", "apps/v1"),
        ("web", "--kind=deploy"),
        ("--api-version=apps/v1", "--kind=deployments.apps", "web"),
    ],
)
def test_trace_takes_what_flux_takes(scene: Written, tidelog: Run, words: tuple[str, ...]) -> None:
    scene.write()
    done = tidelog("trace", *words, "-n", "shop")
    assert done == tidelog("trace", "deployment/web", "-n", "shop")
    assert done.code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("web", "--kind", "Deployment", "--api-version", "extensions/v1beta1"), 1, "no Deployment.extensions/web"),
        (("web", "--kind", "Deployment", "--api-version", "v1"), 1, "log knows no Deployment/web"),
        (("web", "--api-version", "apps/v1"), 2, "NAME with --kind"),
        (("deployment/web", "--kind", "Deployment"), 2, "give KIND/NAME, or NAME with --kind"),
        (("deployment", "web", "--kind", "Deployment"), 2, "give KIND/NAME, or NAME with --kind"),
        (("web",), 2, "give KIND/NAME"),
    ],
)
def test_trace_says_how_an_object_is_named(
    scene: Written, tidelog: Run, words: tuple[str, ...], code: int, said: str
) -> None:
    scene.write()
    done = tidelog("trace", *words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_trace_ends_with_1_where_nobody_applied_it(scene: Written, tidelog: Run) -> None:
    stray = deployment("stray")
    scene.told.tell(stray.stream("prod"), ObjectObserved(uid="1", resource_version="1"), actor=KUBECTL)
    scene.write()
    done = tidelog("trace", "deploy/stray")
    assert done.code == 1
    assert done.err == "Nobody applied Deployment/shop/stray through Tidelog.\n"
    assert "manager kubectl-edit (inferred)" in done.out
    document = _json(tidelog("trace", "deploy/stray", "-o", "json").out)
    assert document["apply"] is None
    assert document["first_seen"]["by"] == "manager kubectl-edit (inferred)"


def test_trace_of_what_was_pruned_says_so_with_the_commit_that_took_it_away(scene: Written, tidelog: Run) -> None:
    told, plan = scene.told, PlanId("plan-prune")
    cause = told.fetch(SHOP, "three", "Drop the shop")
    made, bodies = told.rendered("three", {})
    intent, more = told.planned(
        APPS, plan, "three", made, [Step(object=WEB.id, api_version="apps/v1", action="delete")]
    )
    pruned = ObjectPruned(plan=plan, object=WEB.id, uid="uid-web", outcome="deleted")
    told.tell(APPS, made, intent, pruned, run=RunId(new_id()), cause=cause, bodies=[*bodies, *more])
    scene.write()
    done = tidelog("trace", "deploy/web")
    assert (done.code, done.err) == (0, "")
    facts = {line[:12].strip(): line[12:].strip() for line in done.lines}
    assert facts["Object"] == "Deployment/shop/web (NotFound)"
    assert facts["Pruned"].startswith(f"deleted, plan plan-prune; position {told.position}, ")
    assert facts["Removed by"] == f"{revision('three')}: “Drop the shop”, by Ada <ada@example.com>"
    assert facts["Commit"] == "New checkout"


# explain


def test_explain_goes_from_the_symptom_to_the_root(scene: Written, tidelog: Run) -> None:
    told = scene.told
    told.wait(100)
    failed = StageFailed(stage="fetch", reason="GitOperationFailed", final=False, message="no such host")
    told.tell(SHOP, failed, run=RunId(new_id()))
    root = told.position
    for stream, reason, other in ((INFRA, "ArtifactFailed", SHOP), (APPS, "DependencyNotReady", INFRA)):
        waits = StageFailed(stage="declare", reason=reason, final=False, message="waits", waits_for=other)
        told.tell(stream, waits, run=RunId(new_id()))
    told.wait(3 * 3600)
    told.tell(SHOP, Marked(label="now"))
    scene.write()
    done = tidelog("explain", "ks/apps", "--at", told.position)
    assert done.code == 1
    apps, infra = "Kustomization/flux-system/apps", "Kustomization/flux-system/infra"
    source = "GitRepository/flux-system/shop"
    assert done.lines == [
        f"✗ {apps} is not ready (since event {root + 2}, 3h ago)",
        f"  → {apps}: it waits for {infra} (since event {root + 2}, 3h ago)",
        f"    → {infra}: it waits for {source} (since event {root + 1}, 3h ago)",
        f"      ⇒ {source}: the stage fetch failed; tried at least once, and again (since event {root}, 3h ago)",
        "        GitOperationFailed: no such host",
    ]
    document = _json(tidelog("explain", "ks/apps", "-o", "json").out)
    assert document["ready"] is False
    assert document["root"] == document["chain"][-1]
    assert document["root"]["reason"] == "GitOperationFailed"


def test_explain_says_once_what_the_server_refused_and_with_which_commit(scene: Written, tidelog: Run) -> None:
    told = scene.told
    cause = told.fetch(SHOP, "three", "Break it")
    made, bodies = told.rendered("three", {})
    verdict = Verdict(check="dry-run", passed=False, object=WEB.id, message="the server does not take it")
    failed = VerificationFailed(plan=PlanId("plan-x"), policies=digest_of(b""), failed=(verdict,))
    told.tell(APPS, made, failed, run=RunId(new_id()), cause=cause, bodies=bodies)
    scene.write()
    out = tidelog("explain", "ks/apps").out
    assert out.count("the server does not take it") == 1
    assert f"commit {revision('three')[:18]}, “Break it” by Ada <ada@example.com>" in out


def test_explain_names_no_commit_where_there_is_none(scene: Written, tidelog: Run) -> None:
    """As of a chart of a HelmRepository, or of the files of a bucket."""
    told = scene.told
    cause = told.fetch(SHOP, "three", "")
    fetched = told.position
    made, bodies = told.rendered("three", {})
    verdict = Verdict(check="dry-run", passed=False, object=WEB.id, message="the server does not take it")
    failed = VerificationFailed(plan=PlanId("plan-x"), policies=digest_of(b""), failed=(verdict,))
    told.tell(APPS, made, failed, run=RunId(new_id()), cause=cause, bodies=bodies)
    scene.write()
    assert "commit" not in tidelog("explain", "git/shop", "--at", fetched).out
    assert tidelog("explain", "ks/apps").lines[-1].strip() == f"revision {revision('three')[:18]}"


def test_explain_of_a_held_plan_names_the_command(scene: Written, tidelog: Run) -> None:
    held = PlanHeld(plan=PlanId("plan-x"), check="prune-guard", why="it deletes Namespace/shop")
    scene.told.tell(APPS, held, run=RunId(new_id()))
    scene.write()
    done = tidelog("explain", "ks", "apps")
    assert done.code == 1
    assert "plan plan-x is held by the check prune-guard" in done.out
    assert 'to go on: tidelog approve plan-x --why "…"' in done.out


def test_explain_of_what_is_ready_names_the_commit(scene: Written, tidelog: Run) -> None:
    scene.write()
    done = tidelog("explain", "ks/apps")
    assert done.code == 0
    assert done.lines[0].startswith(f"✔ Kustomization/flux-system/apps is ready at revision {revision('two')[:18]}")
    assert done.lines[1].strip() == "commit “New checkout” by Ada <ada@example.com>"
    assert tidelog("explain", "ks/nope").code == 1
    assert tidelog("explain", "apps").code == 2


# events


def test_events_are_sentences_with_the_newest_last(scene: Written, tidelog: Run) -> None:
    scene.write()
    done = tidelog("events", "--for", "ks/apps", "--limit", "2")
    assert done.code == 0
    assert done.lines[0].endswith("Kustomization/flux-system/apps Applied plan-apps-2: 1 configured")
    assert done.lines[1].split()[:2] == [str(scene.told.position), "2024-01-01T01:01:08Z"]
    since = tidelog("events", "-A", "--since", revision("one"), "-o", "json")
    documents = [json.loads(line) for line in since.lines]
    assert documents[0]["type"] == "RevisionFetched"
    assert documents[0]["sentence"] == f"Fetched revision {revision('two')}: “New checkout” by Ada"
    assert tidelog("events", "-n", "nowhere").code == 0
    younger = tidelog("events", "-A", "--since", "2023-12-01T00:00Z", "--limit", "0")
    assert younger == tidelog("events", "-A", "--limit", "0"), "the log is younger than that: all of it"
    assert tidelog("events", "-w", "--at", "3").code == 2


def test_events_of_text_from_outside_cannot_steer_the_terminal(scene: Written, tidelog: Run) -> None:
    scene.told.tell(APPS, Marked(label="a", why="\x1b[2Jgone\nfaked line"))
    scene.write()
    done = tidelog("events", "--limit", "1")
    assert done.lines[-1].endswith("Marked as a: \\x1b[2Jgone\\x0afaked line")


def test_watch_goes_on_with_what_comes(scene: Written, environment: dict[str, str]) -> None:
    scene.write()
    writer = (
        "import sys, anyio\n"
        "from tidelog.events.vocabulary import Marked\n"
        "from tidelog.storage import ANY, NewEvent, open_log\n"
        "async def main():\n"
        "    async with open_log(sys.argv[1]) as log:\n"
        "        for stream in sys.argv[2:]:\n"
        "            await log.append(stream, ANY, [NewEvent(Marked(label='later'))])\n"
        "anyio.run(main)\n"
    )
    command = [sys.executable, "-m", "tidelog.engine", "events", "--for", "ks/apps", "--limit", "1", "-w"]
    told = {**environment, "TIDELOG_STORE": str(scene.store)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=told) as watching:
        try:
            assert watching.stdout is not None
            assert "The run succeeded" in watching.stdout.readline()
            subprocess.run([sys.executable, "-c", writer, scene.store, INFRA, APPS], check=True, env=environment)
            line = watching.stdout.readline()
        finally:
            watching.kill()
    assert line.rstrip().endswith("Kustomization/flux-system/apps Marked as later"), "and nothing of infra"


# history


def test_history_of_a_target_is_its_runs(scene: Written, tidelog: Run) -> None:
    scene.write()
    done = tidelog("history", "ks/apps")
    assert done.code == 0
    assert done.lines[0].split() == [
        "POSITION",
        "AGE",
        "OUTCOME",
        "REVISION",
        "COMMIT",
        "CHANGES",
        "TOOK",
        "PLAN",
        "WHY",
    ]
    assert [line.split()[2] for line in done.lines[1:]] == ["succeeded", "succeeded"]
    assert "New checkout" in done.lines[1]
    runs = _json(tidelog("history", "ks/apps", "-o", "json").out)
    assert [run["plan"] for run in runs] == ["plan-apps-2", "plan-apps-1"]
    assert len(_json(tidelog("history", "ks/apps", "--limit", "1", "-o", "json").out)) == 1


def test_history_of_an_object_is_its_versions(scene: Written, tidelog: Run) -> None:
    scene.write()
    done = tidelog("history", "deployment/web")
    assert done.lines[0].split() == ["POSITION", "AGE", "WHAT", "BY", "FIELDS"]
    versions = _json(tidelog("history", "deployment/web", "-o", "json").out)
    assert versions[0]["fields"] == ["spec.replicas", 'spec.template.spec.containers[name="app"].image']
    assert versions[0]["target"] == APPS


# plans


def test_plans_and_one_of_them(scene: Written, tidelog: Run) -> None:
    scene.write()
    done = tidelog("plans")
    assert done.lines[0].split() == ["PLAN", "TARGET", "POSITION", "AGE", "STATE", "REVISION", "CHANGES"]
    assert [line.split()[0] for line in done.lines[1:]] == ["plan-apps-2", "plan-apps-1", "plan-infra", "plan-root"]
    assert len(_json(tidelog("plans", "ks/apps", "-o", "json").out)) == 2
    shown = tidelog("show-plan", "plan-apps-2")
    assert "~ update    Deployment/shop/web" in shown.lines
    assert "    spec.replicas: 1 → 3" in shown.lines
    assert shown.lines[-1].startswith("applied at position ")
    document = _json(tidelog("show-plan", "ks/apps", "-o", "json").out)
    assert document["plan"]["id"] == "plan-apps-2"
    assert document["state"] == "applied"
    assert tidelog("show-plan", "plan-nope").code == 1


def test_help_says_which_names_may_be_left_out(tidelog: Run) -> None:
    assert "plans [OPTIONS] [KIND/NAME]" in tidelog("plans", "--help").out
    assert "trace [OPTIONS] KIND/NAME | NAME --kind KIND" in tidelog("trace", "--help").out


def _a_plan(*changes: Change) -> Plan:
    steps = (
        Step(object=WEB.id, api_version="apps/v1", action="update", changes=changes),
        Step(object=deployment("new").id, api_version="apps/v1", action="create"),
    )
    prune = Step(object=deployment("old_*").id, api_version="apps/v1", action="delete")
    kept = Step(object=deployment("kept").id, api_version="apps/v1", action="skip", why="prune: disabled")
    return Plan(
        id=PlanId("plan-x"),
        run=RunId(new_id()),
        target=APPS,
        revision=revision("two"),
        set=digest_of(b""),
        waves=(steps,),
        prunes=(prune, kept),
    )


VERDICT = Verdict(check="schema", passed=False, object=WEB.id, path="spec.replicas", message="must be a number")


def test_a_plan_in_markdown_is_for_a_pull_request(capsys: pytest.CaptureFixture[str]) -> None:
    change = Change(path="spec.replicas", before=1, after={"a": "b"})
    print_plan(_a_plan(change, Change(path="data.password", hidden=True)), [VERDICT], "markdown")
    assert capsys.readouterr().out.splitlines() == [
        "### Plan for Kustomization/flux-system/apps",
        "",
        f"`plan-x`, revision `{revision('two')}`: **1 to create, 1 to update, 1 to delete**",
        "",
        "- ❌ schema: Deployment/shop/web spec.replicas: must be a number",
        "",
        "<details><summary>update Deployment/shop/web</summary>",
        "",
        "```diff",
        "- spec.replicas: 1",
        '+ spec.replicas: {"a": "b"}',
        "! data.password: (secret)",
        "```",
        "",
        "</details>",
        "",
        "- **create** Deployment/shop/new",
        "",
        "- **delete** Deployment/shop/old\\_\\*",
        "",
        "- **skip** Deployment/shop/kept (prune: disabled)",
    ]


def test_a_value_cannot_end_the_block_that_it_is_shown_in(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "```\n</details>\n# Approved"
    print_plan(_a_plan(Change(path="data.x", before=None, after=evil)), [], "markdown")
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("````diff") == lines.count("````") == 1
    assert [line for line in lines if "Approved" in line] == ['+ data.x: "```\\n</details>\\n# Approved"']


def test_a_plan_as_a_table_and_as_json(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    plan = _a_plan(Change(path="data.password", hidden=True))
    print_plan(plan, [VERDICT], "table")
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines[0] == f"plan-x for Kustomization/flux-system/apps, revision {revision('two')[:18]}"
    assert lines[1:3] == [
        "1 to create, 1 to update, 1 to delete",
        "✗ schema: Deployment/shop/web spec.replicas: must be a number",
    ]
    assert "    data.password: (secret)" in lines
    assert "· skip      Deployment/shop/kept (prune: disabled)" in lines
    print_plan(plan, [VERDICT], "json")
    document = json.loads(capsysbinary.readouterr().out)
    assert document["plan"]["waves"][0][0]["changes"] == [{"path": "data.password", "hidden": True}]
    assert document["verdicts"][0]["passed"] is False
    assert document["blast_radius"]["delete"] == 1


@pytest.mark.parametrize("action", ["none", "test"])
def test_a_release_of_which_no_object_would_change_is_said_once_to_be_so(
    capsys: pytest.CaptureFixture[str], action: str
) -> None:
    plan = msgspec.structs.replace(_a_plan(), waves=(), prunes=())
    why = "version 1 with chart web@1.0.0 is as it is to be"
    told = ReleaseTold(action=action, why=why)
    print_plan(plan, [], "table", told)
    _, *lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{'nothing would be done' if action == 'none' else 'test'}: {why}"]
    print_plan(plan, [], "markdown", told)
    assert "nothing to do" not in capsys.readouterr().out
    print_plan(plan, [], "table")
    assert capsys.readouterr().out.splitlines()[1:] == ["nothing to do"], "of a Kustomization nothing else says it"


@pytest.mark.parametrize(
    "command",
    [
        ("get", "all", "-A"),
        ("get", "ks", "nothing"),
        ("history", "ks/apps"),
        ("plans", "ks/apps"),
        ("show-plan", "ks/apps"),
        ("tree", "ks", "apps"),
        ("trace", "deploy/web"),
        ("explain", "ks/apps"),
        ("settings",),
        ("log", "state", "runs"),
    ],
    ids=" ".join,
)
def test_yaml_is_json_in_another_form(scene: Written, tidelog: Run, command: tuple[str, ...]) -> None:
    scene.write()
    as_json, as_yaml = tidelog(*command, "-o", "json"), tidelog(*command, "-o", "yaml")
    assert (as_yaml.code, as_yaml.err) == (as_json.code, as_json.err)
    assert yaml.safe_load(as_yaml.out) == json.loads(as_json.out)
    assert not as_yaml.out.startswith("{")


def test_events_are_documents_of_yaml_one_after_the_other(scene: Written, tidelog: Run) -> None:
    scene.write()
    for command in (("events", "--limit", "3"), ("log", "tail", "-n", "3")):
        lines = tidelog(*command, "-o", "json").lines
        assert len(lines) == 3
        assert list(yaml.safe_load_all(tidelog(*command, "-o", "yaml").out)) == [json.loads(line) for line in lines]


TRICKY = [
    *("", " ", "yes", "on", "null", "~", "1e3", "1_000", "0o17", "0x1f", "12:30", "2026-11-23", "1.0", ".5", "-", "?"),
    *(
        "a: b",
        "- a",
        "#a",
        "a #b",
        "two\nlines",
        "two\nlines\n",
        "\n",
        " two\nlines",
        "tab\t",
        "\x1b[2J",
        "ü",
        "😀",
        "\x85",
    ),
]


@pytest.mark.parametrize("text", TRICKY, ids=repr)
def test_a_text_reads_as_the_same_text_to_every_reader_of_yaml(text: str) -> None:
    written = dump([text, {"key": text, text: 1}])
    assert yaml.safe_load(written) == [text, {"key": text, text: 1}]
    (document,) = documents(written)
    assert document.value == [text, {"key": text, text: 1}]


def test_no_secret_is_in_any_answer(scene: Written, tidelog: Run) -> None:
    key = ObjectKey("", "Secret", "shop", "db")
    for number, value in enumerate((b"hunter2", b"hunter3")):
        body = secret_body(value)
        observed = ObjectObserved(uid="1", resource_version=str(number), state=body.ref, health="Current")
        scene.told.tell(key.stream("prod"), observed, bodies=[body])
    scene.write()
    done = tidelog("history", "secret/db")
    assert "(secret)" in done.lines[1]
    for command in (("history", "secret/db"), ("events", "--for", "secret/db"), ("trace", "secret/db")):
        for output in ("table", "json"):
            assert "hunter" not in tidelog(*command, "-o", output).out


# Objects.


def _seen(number: int, replicas: int, *, status: dict[str, int] | None = None, alone: bool = False) -> Any:
    metadata = {"name": "web", "namespace": "shop", "managedFields": [{"manager": "us"}]}
    obj: Any = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}
    state = Body.of(encode(obj))
    told = None if status is None else Body.of(encode(dict(status)))
    event = ObjectObserved(
        uid="uid-web",
        resource_version=str(number),
        state=state.ref,
        health="Current",
        status=None if told is None else told.ref,
        only_status=alone,
    )
    return event, [state] if told is None else [state, told]


def test_an_object_is_shown_with_its_status_as_of_any_moment(tidelog: Run, scene: Written) -> None:
    at: dict[int, int] = {}
    for number, status in ((31, None), (32, {"ready": 1}), (33, {"ready": 2})):
        event, bodies = _seen(number, 2, status=status, alone=number == 33)
        scene.told.tell(WEB.stream("prod"), event, actor=KUBECTL, bodies=bodies)
        at[number] = scene.told.position
    scene.write()
    last = json.loads(tidelog("get", "deployment/web", "-o", "json").out)
    assert (last["status"], last["spec"], last["kind"]) == ({"ready": 2}, {"replicas": 2}, "Deployment")
    assert last["metadata"] == {"name": "web", "namespace": "shop", "uid": "uid-web", "resourceVersion": "33"}
    then = tidelog("get", "object", "Deployment", "web", "--at", str(at[32]))
    assert (then.code, yaml.safe_load(then.out)["status"]) == (0, {"ready": 1})
    assert then.out.startswith("apiVersion: apps/v1\nkind: Deployment\n")
    for words in (("deploy/web",), ("deploy", "web")):
        assert "status" not in yaml.safe_load(tidelog("get", *words, "-n", "shop", "--at", str(at[31])).out)


def test_an_object_that_is_not_there_or_may_not_be_seen_is_not_shown(tidelog: Run, scene: Written) -> None:
    key, body = ObjectKey("", "Secret", "shop", "db"), secret_body(b"hunter2")
    scene.told.tell(key.stream("prod"), ObjectObserved(uid="1", resource_version="1", state=body.ref), bodies=[body])
    stray = ObjectKey("", "ConfigMap", "shop", "stray")
    scene.told.tell(stray.stream("prod"), ObjectObserved(uid="1", resource_version="1"))
    scene.told.tell(WEB.stream("prod"), ObjectObserved(uid="uid-web", resource_version="31", gone=True))
    scene.write()
    for words, told in (
        ("secret/db", f"is secret: `tidelog log body {body.ref.digest} --reveal` shows it."),
        ("cm/stray", "was not seen yet"),
        ("deployment/web", "was not there, or nobody saw it, at position"),
        ("deployment/nothing", "knows no deployment/nothing"),
    ):
        done = tidelog("get", words)
        assert (done.code, done.out) == (1, ""), done
        assert told in done.err
