"""What would be done is shown before it is, and nothing is recorded or applied by showing it."""

import base64
import json
from pathlib import Path

import pytest

from tests.e2e.command import daemon_with_door, tidelog
from tests.e2e.world import World, config_map, documents, manifest
from tidelog.engine.terminal import shortened
from tidelog.events.vocabulary import Pinned, Planned, Unpinned
from tidelog.storage import read_log

pytestmark = pytest.mark.slow

PLANTED = "hunter2-sekrit"
OTHER = "hunter3-sekrit"


def secret(value: str) -> str:
    return manifest("v1", "Secret", "pw", data={"password": base64.b64encode(value.encode()).decode()})


def hidden(text: str) -> bool:
    """Whether neither value is in a text, in either form."""
    return not any(
        form in text for value in (PLANTED, OTHER) for form in (value, base64.b64encode(value.encode()).decode())
    )


async def app_of(world: World, content: str) -> None:
    world.commit({"app/all.yaml": content})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    await world.until_applied("app")


def write(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


async def head_of(world: World) -> int:
    async with read_log(world.store) as log:
        return await log.head()


async def test_what_is_as_it_should_be_has_an_empty_plan(world: World) -> None:
    async with daemon_with_door(world):
        await app_of(world, documents(config_map("web", color="red"), secret(PLANTED)))
        head = await head_of(world)
        done = await tidelog(world, "plan", "ks/app")
        assert (done.code, "2 unchanged" in done.out) == (0, True), done
        assert await head_of(world) == head


async def test_a_directory_is_planned_field_by_field_and_secrets_stay_hidden(world: World, tmp_path: Path) -> None:
    async with daemon_with_door(world):
        before = documents(config_map("web", color="red"), config_map("old"), secret(PLANTED))
        await app_of(world, before)
        head = await head_of(world)
        after = documents(config_map("web", color="blue"), config_map("new"), secret(OTHER))
        there = write(tmp_path / "there", {"app/all.yaml": after})
        done = await tidelog(world, "plan", "ks/app", "--path", there, "-o", "json")
        assert done.code == 1, done
        told = json.loads(done.out)
        steps = {step["object"].rpartition("/")[2]: step for wave in told["plan"]["waves"] for step in wave}
        assert {name: step["action"] for name, step in steps.items()} == {
            "web": "update",
            "new": "create",
            "pw": "update",
        }
        assert [step["object"].rpartition("/")[2] for step in told["plan"]["prunes"]] == ["old"]
        assert steps["web"]["changes"] == [{"path": "data.color", "before": "red", "after": "blue"}]
        assert [change["path"] for change in steps["pw"]["changes"] if change["hidden"]] == ["data.password"]
        assert all(verdict["passed"] for verdict in told["verdicts"])
        markdown = await tidelog(world, "plan", "ks/app", "--path", there, "-o", "markdown")
        assert '- data.color: "red"' in markdown.out
        assert hidden(done.out + done.err + markdown.out + markdown.err)
        assert await world.data("web") == {"color": "red"}
        assert await world.data("new") is None
        assert await head_of(world) == head


async def test_what_changed_while_nobody_watched_is_seen(world: World) -> None:
    async with world.daemon():
        await app_of(world, documents(config_map("web", color="red"), secret(PLANTED)))
    await world.patch("v1", "ConfigMap", "web", {"data": {"color": "pink"}}, manager="kubectl-edit")
    done = await tidelog(world, "plan", "ks/app")
    assert done.code == 1, done
    assert 'data.color: "pink" → "red"' in done.out
    assert "1 to update" in done.out
    assert hidden(done.out + done.err)


async def test_a_plan_that_a_check_refuses_ends_with_four_and_names_the_field(world: World, tmp_path: Path) -> None:
    async with daemon_with_door(world):
        await app_of(world, config_map("web"))
        wrong = manifest("v1", "Service", "web", spec={"ports": [{"port": "many"}]})
        there = write(tmp_path / "there", {"app/all.yaml": documents(config_map("web"), wrong)})
        done = await tidelog(world, "plan", "ks/app", "--path", there)
        assert done.code == 4, done
        assert f"✗ Service/{world.namespace}/web dry-run failed (" in done.out
        assert "port" in done.out
        assert "(in app/all.yaml:3)" in done.out
        # As `flux diff` takes it.
        done = await tidelog(world, "plan", "ks/app", "--path", there / "app")
        assert (done.code, f"there is no directory ./app in {there / 'app'}" in done.err) == (3, True), done
        assert f"Kustomization {world.namespace}/app is built from that: name the root of the repository" in done.err


async def test_a_plan_that_would_be_held_says_so(world: World, tmp_path: Path) -> None:
    async with daemon_with_door(world):
        await app_of(world, documents(*(config_map(f"item-{number}") for number in range(8))))
        there = write(tmp_path / "there", {"app/all.yaml": config_map("item-0")})
        done = await tidelog(world, "plan", "ks/app", "--path", there)
        assert (done.code, "it would be held" in done.out, "87 %" in done.out) == (1, True, True), done


async def test_later_waves_are_asked_about_where_they_can_be(world: World, tmp_path: Path) -> None:
    async with daemon_with_door(world):
        await app_of(world, config_map("web", color="red"))
        there = world.namespace + "-new"
        files = {
            "app/all.yaml": documents(
                manifest("v1", "Namespace", there),
                manifest("v1", "ConfigMap", "inside", metadata={"namespace": there}),
                manifest("v1", "ConfigMap", "web", metadata={"namespace": world.namespace}, data={"color": "blue"}),
            )
        }
        await world.target("app", "./app", targetNamespace=None)
        done = await tidelog(world, "plan", "ks/app", "--path", write(tmp_path / "there", files), "-o", "json")
        assert done.code == 1, done
        steps = {
            step["object"].rpartition("/")[2]: step for wave in json.loads(done.out)["plan"]["waves"] for step in wave
        }
        assert {name: step["action"] for name, step in steps.items()} == {
            there: "create",
            "inside": "create",
            "web": "update",
        }
        # The one could be asked about, the other needs the namespace first.
        assert steps["web"]["changes"] == [{"path": "data.color", "before": "red", "after": "blue"}]
        assert "after" not in steps["inside"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"elsewhere/a.yaml": config_map("a")}, "app"),
        ({"app/all.yaml": "kind: [\n"}, "app/all.yaml"),
    ],
    ids=["no such path", "broken"],
)
async def test_what_cannot_be_built_is_an_error_with_its_place(
    world: World, tmp_path: Path, files: dict[str, str], said: str
) -> None:
    async with world.daemon():
        await app_of(world, config_map("web"))
    done = await tidelog(world, "plan", "ks/app", "--path", write(tmp_path / "there", files))
    assert (done.code, said in done.err) == (3, True), done


async def test_a_source_has_no_plan(world: World) -> None:
    async with world.daemon():
        await app_of(world, config_map("web"))
    done = await tidelog(world, "plan", "gitrepository/fleet")
    assert (done.code, "name a Kustomization" in done.err) == (2, True), done


async def test_a_target_goes_back_stays_there_and_goes_on_with_the_next_commit(world: World) -> None:
    async with daemon_with_door(world) as running:
        await app_of(world, documents(config_map("web", color="red"), secret(PLANTED)))
        first = world.revision
        await world.push({"app/all.yaml": documents(config_map("web", color="blue"), secret(OTHER))})
        await world.until_applied("app")
        done = await tidelog(world, "reapply", "ks/app", "--at", first, "--why", "blue is broken", "--yes")
        assert done.code == 0, done
        assert 'data.color: "blue" → "red"' in done.out
        assert f", revision {shortened(first)}" in done.out, "the plan names what it goes back to, not what is left"
        assert "until `tidelog unpin`" in done.out
        applied = running.events(Planned)[-1]
        assert isinstance(applied, Planned)
        assert f"recorded as {applied.plan}, which was made anew from {done.out.split()[0]}" in done.err
        assert hidden(done.out + done.err)
        assert await world.data("web") == {"color": "red"}
        (pinned,) = running.events(Pinned)
        assert isinstance(pinned, Pinned)
        assert (pinned.left, pinned.why) == (world.revision, "blue is broken")
        position = pinned.position
        assert f"ready at what was wanted at position {position} (revision {first}" in done.err
        # It stays there, whatever is asked for, and what is shown is what would be done.
        again = await tidelog(world, "reconcile", "ks/app", "-o", "json")
        assert again.code == 0
        answer = json.loads(again.out)
        assert (answer["revision"], answer["pinned"]) == (first, position)
        told = await tidelog(world, "explain", "ks/app")
        assert (told.code, "to which it is pinned" in told.out) == (0, True)
        runs = json.loads((await tidelog(world, "history", "ks/app", "-o", "json")).out)
        put_back = next(run for run in runs if run["outcome"] == "succeeded")
        assert (put_back["revision"], put_back["pinned"]) == (first, position)
        planned = await tidelog(world, "plan", "ks/app")
        assert (planned.code, f", revision {shortened(first)}" in planned.out) == (0, True), planned
        assert await world.data("web") == {"color": "red"}
        await world.push({"app/all.yaml": config_map("web", color="green")})
        await world.until_data("web", {"color": "green"})
        assert len(running.events(Unpinned)) == 1
        runs = json.loads((await tidelog(world, "history", "ks/app", "-o", "json")).out)
        assert (runs[0]["pinned"], runs[0]["revision"]) == (None, world.revision)
        assert runs[0]["why"].startswith(f"revision {world.revision}")


async def test_a_pin_is_ended_by_whoever_asks(world: World) -> None:
    async with daemon_with_door(world):
        await app_of(world, config_map("web", color="red"))
        first = world.revision
        await world.push({"app/all.yaml": config_map("web", color="blue")})
        await world.until_applied("app")
        assert (await tidelog(world, "reapply", "ks/app", "--at", first, "--why", "x", "--yes")).code == 0
        done = await tidelog(world, "unpin", "ks/app", "--why", "mended")
        assert done.code == 0, done
        await world.until_data("web", {"color": "blue"})


async def test_what_is_not_applied_yet_is_not_called_ready(world: World) -> None:
    async with daemon_with_door(world):
        await app_of(world, config_map("web", color="red"))
        first = world.revision
        await world.push({"app/all.yaml": config_map("web", color="blue")})
        await world.until_applied("app")
        assert (await tidelog(world, "suspend", "ks/app", "--why", "a talk")).code == 0
        done = await tidelog(world, "reapply", "ks/app", "--at", first, "--why", "x", "--yes")
        assert (done.code, "It is suspended: it is pinned now" in done.out) == (1, True), done
        assert "`tidelog resume` has it applied" in done.err
        assert await world.data("web") == {"color": "blue"}
        assert (await tidelog(world, "resume", "ks/app")).code == 0
        await world.until_data("web", {"color": "red"})
        assert (await tidelog(world, "unpin", "ks/app", "--why", "x")).code == 0
        await world.until_data("web", {"color": "blue"})
    done = await tidelog(world, "reapply", "ks/app", "--at", first, "--why", "x", "--yes", "-o", "json")
    assert (done.code, json.loads(done.out)["note"]) == (1, "no daemon is at work: it is done when one comes"), done


async def test_nothing_is_done_without_an_answer_or_at_a_moment_that_wanted_nothing(world: World) -> None:
    async with daemon_with_door(world) as running:
        await app_of(world, config_map("web", color="red"))
        done = await tidelog(world, "reapply", "ks/app", "--at", world.revision, "--why", "x")
        assert (done.code, "Aborted: nothing was done; --yes answers yes." in done.err) == (130, True), done
        done = await tidelog(world, "reapply", "ks/app", "--at", "3", "--why", "x", "--yes")
        assert (done.code, "wanted nothing" in done.err) == (1, True), done
        assert running.events(Pinned) == []
