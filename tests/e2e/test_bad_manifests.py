"""What is wrong in a commit is told by file, line and object; nothing of it is applied, and nothing is lost."""

import re
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from tests.e2e.world import (
    KUSTOMIZE,
    LIMIT_S,
    World,
    condition,
    config_map,
    dry_runs,
    failed,
    is_ready,
    manifest,
)
from tests.servers.git_server import git_server
from tests.servers.repositories import Repository
from tidelog.engine.render import landlock
from tidelog.events.vocabulary import ApplyStarted, ObjectPruned, StageFailed

GOOD = {"app/a.yaml": config_map("a", n="1"), "app/b.yaml": config_map("b", n="1")}

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


SERVICE = "apiVersion: v1\nkind: Service\nmetadata:\n  name: bad\nspec:\n  ports:\n"


class Bad(NamedTuple):
    name: str
    files: dict[str, str | bytes | None]
    reason: str
    words: tuple[str, ...]


def kustomization(*resources: str, more: str = "") -> str:
    return "resources:\n" + "".join(f"- {name}\n" for name in resources) + more


CASES = [
    Bad(
        "broken",
        {"app/bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [bad\n"},
        "BuildFailed",
        ("app/bad.yaml:5",),
    ),
    Bad(
        "duplicate key",
        {"app/bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\ndata:\n  k: '1'\n  k: '2'\n"},
        "BuildFailed",
        ("app/bad.yaml:7", "k"),
    ),
    Bad(
        "alias bomb",
        {"app/bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\n" + BOMB},
        "BuildFailed",
        ("app/bad.yaml:9", "alias"),
    ),
    Bad(
        "tab",
        {"app/bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: bad\n"},
        "BuildFailed",
        ("app/bad.yaml:4",),
    ),
    Bad(
        "no kind",
        {"app/bad.yaml": "apiVersion: v1\nmetadata:\n  name: bad\n"},
        "BuildFailed",
        ("app/bad.yaml:1", "kind"),
    ),
    Bad(
        "no name",
        {"app/bad.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  labels: {}\n"},
        "BuildFailed",
        ("app/bad.yaml:1", "name"),
    ),
    Bad(
        "the same object twice",
        {"app/bad.yaml": config_map("a", n="again")},
        "BuildFailed",
        ("ConfigMap/a", "app/a.yaml:1", "app/bad.yaml:1"),
    ),
    Bad(
        "missing file",
        {"app/kustomization.yaml": kustomization("a.yaml", "b.yaml", "missing.yaml")},
        "BuildFailed",
        ("app/kustomization.yaml:4", "missing.yaml"),
    ),
    Bad(
        "cycle",
        {
            "app/kustomization.yaml": kustomization("a.yaml", "b.yaml", "../other"),
            "other/kustomization.yaml": kustomization("../app"),
        },
        "BuildFailed",
        ("app/kustomization.yaml:4 lists '../other', other/kustomization.yaml:2 lists '../app': a cycle",),
    ),
    Bad(
        "unknown field of a kustomization",
        {
            "app/kustomization.yaml": kustomization("a.yaml", "b.yaml", "../other"),
            "other/kustomization.yaml": kustomization("c.yaml", more="resorces: [d.yaml]\n"),
            "other/c.yaml": config_map("c"),
        },
        "BuildFailed",
        ("other/kustomization.yaml:3", "resorces"),
    ),
    Bad(
        "a text for a number, in an item that the server names by its port",
        {"app/bad.yaml": f"{SERVICE}    - port: 80\n      protocol: TCP\n      nodePort: many\n"},
        "ReconciliationFailed",
        ("Service", "bad", "nodePort", "(in app/bad.yaml:9)"),
    ),
    Bad(
        "unknown field of an object",
        {"app/bad.yaml": f"{SERVICE}    - port: 80\n  portz: []\n"},
        "ReconciliationFailed",
        ("Service", "bad", "portz", "(in app/bad.yaml:8)"),
    ),
    Bad(
        "value of another type",
        {"app/bad.yaml": manifest("v1", "Service", "bad", spec={"ports": [{"port": "eighty"}]})},
        "ReconciliationFailed",
        ("Service", "bad", "port", "app/bad.yaml:1"),
    ),
    Bad(
        "value that the server refuses",
        {"app/bad.yaml": f"{SERVICE}    - name: web\n      port: 99999\n"},
        "ReconciliationFailed",
        ("Service", "bad", "spec.ports[0].port", "(in app/bad.yaml:8)"),
    ),
    Bad(
        "unknown kind",
        {"app/bad.yaml": manifest("example.org/v1", "Nonsense", "bad")},
        "ReconciliationFailed",
        ("Nonsense", "bad", "example.org/v1", "app/bad.yaml:1"),
    ),
    Bad(
        "name that is none",
        {"app/bad.yaml": config_map("Not A Name")},
        "BuildFailed",
        ("ConfigMap", "Not A Name", "app/bad.yaml:1"),
    ),
    Bad(
        "name that the server refuses",
        {"app/bad.yaml": config_map("NotAName")},
        "ReconciliationFailed",
        ("ConfigMap", "NotAName", "metadata.name", "app/bad.yaml:1"),
    ),
    Bad(
        "object too large",
        {"app/bad.yaml": config_map("bad", big="x" * 1_100_000)},
        "ReconciliationFailed",
        ("ConfigMap", "bad", "1048576", "app/bad.yaml:1"),
    ),
    Bad(
        "not a Kubernetes object",
        {"app/values.yaml": "colour: blue\n"},
        "BuildFailed",
        ("app/values.yaml:1",),
    ),
    Bad(
        "not UTF-8",
        {"app/bad.yaml": b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: caf\xe9\n"},
        "BuildFailed",
        ("app/bad.yaml:4", "UTF-8"),
    ),
    Bad(
        "patch of nothing",
        {
            "app/kustomization.yaml": kustomization("a.yaml", "b.yaml", more="patches:\n- path: patch.yaml\n"),
            "app/patch.yaml": config_map("nobody", n="2"),
        },
        "BuildFailed",
        ("ConfigMap", "nobody", "app/patch.yaml:1"),
    ),
]


def assert_named_once(message: str, namespace: str) -> None:
    """One sentence names the object, whatever the server itself says of it, and its file."""
    named = re.findall(rf"\w+/{namespace}/(\w+)", message)
    assert len(named) == 1, message
    # Where the name is what is wrong, the server quotes it as the value of its field.
    said = message.replace(f"/{namespace}/{named[0]}", "", 1).replace(f'Invalid value: "{named[0]}"', "", 1)
    assert not re.search(rf'"{named[0]}"| {named[0]}\b', said), message
    assert message.count("app/bad.yaml") == 1


@pytest.mark.parametrize("bad", CASES, ids=[case.name.replace(" ", "-") for case in CASES])
async def test_nothing_of_a_bad_commit_is_applied_and_the_next_good_one_is(world: World, bad: Bad) -> None:
    async with world.daemon() as running:
        world.commit(GOOD)
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        good = world.revision
        seen = len(running.recorded)
        # A good change, a deletion and the bad thing come together: none of them happens.
        changes: dict[str, str | bytes | None] = {"app/a.yaml": config_map("a", n="2")}
        if "app/kustomization.yaml" not in bad.files and "b.yaml" not in str(bad.files):
            changes["app/b.yaml"] = None
        await world.push({**changes, **bad.files})
        obj = await world.until_target("app", failed(bad.reason, *bad.words), f"{bad.reason} with {bad.words}")
        assert obj["status"]["lastAppliedRevision"] == good
        assert obj["status"]["lastAttemptedRevision"] == world.revision
        assert len(condition(obj, "Ready")["message"]) < 4000
        if bad.reason == "ReconciliationFailed":
            assert_named_once(condition(obj, "Ready")["message"], world.namespace)
        assert condition(obj, "Reconciling")["reason"] == "ProgressingWithRetry"
        told = await world.until_told("app", bad.reason, *bad.words)
        assert told["type"] == "Warning"
        await running.idle()
        assert running.events(ApplyStarted, ObjectPruned, after=seen) == []
        assert await world.data("a") == {"n": "1"}
        assert await world.data("b") == {"n": "1"}
        gone: dict[str, str | bytes | None] = dict.fromkeys(bad.files)
        await world.push({**gone, "app/a.yaml": config_map("a", n="3"), "app/b.yaml": config_map("b", n="3")})
        (app,) = await world.until_applied("app")
        assert await world.data("a") == {"n": "3"}
        assert is_ready(app)


async def test_a_variable_without_a_value_is_named_and_can_be_given(world: World) -> None:
    async with world.daemon():
        world.commit({"app/a.yaml": config_map("a", n="${nowhere}")})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, postBuild={"substitute": {"x": "y"}})
        await world.until_target(
            "app", failed("BuildFailed", "nowhere", f"ConfigMap/{world.namespace}/a", "app/a.yaml:1")
        )
        await world.until_told("app", "BuildFailed", "nowhere", "app/a.yaml:1")
        spec = {"postBuild": {"substitute": {"nowhere": "here"}}}
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": spec})
        await world.until_applied("app")
    assert await world.data("a") == {"n": "here"}


async def test_a_name_that_the_spec_lengthens_is_found_in_its_file(world: World) -> None:
    async with world.daemon():
        wrong = manifest("v1", "Service", "web", spec={"ports": [{"port": 99999}]})
        world.commit({"app/web.yaml": "# the shop\n" + wrong})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, namePrefix="my-", nameSuffix="-v2")
        await world.until_target("app", failed("ReconciliationFailed", "Service", "my-web-v2", "app/web.yaml:2"))


async def test_a_name_that_a_kustomization_file_lengthens_is_found_in_the_file_of_the_base(world: World) -> None:
    async with world.daemon():
        wrong = manifest("v1", "Service", "web", spec={"ports": [{"port": 99999}]})
        world.commit(
            {
                "base/kustomization.yaml": "resources: [web.yaml]\nnamePrefix: my-\n",
                "base/web.yaml": "# the shop\n" + wrong,
                "app/kustomization.yaml": "resources: [../base]\nnameSuffix: -v2\n",
            }
        )
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_target("app", failed("ReconciliationFailed", "Service", "my-web-v2", "base/web.yaml:2"))
        await world.until_told("app", "ReconciliationFailed", "my-web-v2", "base/web.yaml:2")


async def test_a_name_that_a_patch_gives_is_found_in_its_file_though_that_has_several(world: World) -> None:
    good, bad = (
        manifest("v1", "Service", name, spec={"ports": [{"port": port}]}) for name, port in (("a", 1), ("b", 0))
    )
    world.commit({"app/all.yaml": f"{good}\n---\n{bad}"})
    await world.source()
    patch = '[{"op": "replace", "path": "/metadata/name", "value": "quite-another"}]'
    patches = [{"target": {"name": "b"}, "patch": patch}]
    await world.target("app", "./app", targetNamespace=world.namespace, patches=patches)
    line = good.count("\n") + 3
    async with world.daemon():
        said = ("Service", "quite-another", f"(in app/all.yaml:{line})")
        await world.until_target("app", failed("ReconciliationFailed", *said))
        await world.until_told("app", "ReconciliationFailed", *said)


@pytest.mark.skipif(landlock.version() == 0, reason="without Landlock there are no remote bases")
async def test_a_build_with_a_remote_base_tells_both_its_files_and_those_of_the_base(
    world: World, tmp_path: Path
) -> None:
    refused = manifest("v1", "Service", "far", spec={"ports": [{"port": 0}]})
    Repository.create(tmp_path / "bases" / "base.git").commit({
        "kustomization.yaml": kustomization("far.yaml"), "far.yaml": refused
    })  # fmt: skip
    with git_server(tmp_path / "bases", tls=False) as host:
        world.commit(
            {
                "app/kustomization.yaml": kustomization(
                    f"{host.url('base')}?ref=main", "near.yaml", more="nameSuffix: -v2\n"
                ),
                "app/near.yaml": refused.replace("far", "near"),
            }
        )
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        async with world.daemon():
            said = (
                *("near-v2", "(in app/near.yaml:1)"),
                *("far-v2", f"(in far.yaml of {host.url('base')} at main)"),
            )
            await world.until_target("app", failed("ReconciliationFailed", *said))
            await world.until_told("app", "ReconciliationFailed", *said)


async def test_a_missing_config_map_of_variables_is_named_and_its_coming_is_noticed(world: World) -> None:
    async with world.daemon():
        world.commit({"app/a.yaml": config_map("a", n="${x}")})
        await world.source()
        spec = {"substituteFrom": [{"kind": "ConfigMap", "name": "vars"}]}
        await world.target("app", "./app", targetNamespace=world.namespace, postBuild=spec)
        await world.until_target("app", failed("BuildFailed", "ConfigMap/vars"))
        await world.until_told("app", "BuildFailed", "ConfigMap/vars")
        await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vars"}, "data": {"x": "one"}})
        await world.until_applied("app")
    assert await world.data("a") == {"n": "one"}


async def test_what_is_left_for_later_is_refused_by_name(world: World) -> None:
    async with world.daemon():
        world.commit(GOOD)
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, decryption={"provider": "sops"})
        obj = await world.until_target("app", failed("UnsupportedFeature", "spec.decryption"))
        assert condition(obj, "Stalled")["status"] == "True"
        assert obj["status"]["observedGeneration"] == obj["metadata"]["generation"]
        assert await world.data("a") is None
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"decryption": None}})
        await world.until_applied("app")


async def test_an_object_that_fails_in_a_later_wave_leaves_what_was_applied(world: World) -> None:
    async with world.daemon() as running:
        name = f"{world.namespace}-late"
        here = manifest("v1", "Service", "late", metadata={"namespace": name}, spec={"ports": [{"port": 99999}]})
        world.commit({"app/ns.yaml": manifest("v1", "Namespace", name), "app/late.yaml": here})
        await world.source()
        await world.target("app", "./app")
        await world.until_target("app", failed("ReconciliationFailed", "Service", "late", "port", "app/late.yaml:1"))
        await world.until_told("app", "ReconciliationFailed", "late", "app/late.yaml:1")
        assert await world.get("v1", "Namespace", name) is not None
        good = manifest("v1", "Service", "late", metadata={"namespace": name}, spec={"ports": [{"port": 80}]})
        await world.push({"app/late.yaml": good})
        await world.until_applied("app")
        assert not running.events(ObjectPruned)
    world.servers.request("DELETE", f"/api/v1/namespaces/{name}")


async def test_who_fails_every_second_is_tried_every_second_and_fills_no_log(world: World) -> None:
    async with world.daemon() as running:
        world.commit({"app/bad.yaml": manifest("v1", "Service", "bad", spec={"ports": [{"port": 0}]})})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, retryInterval="1s")
        await world.until_target("app", failed("ReconciliationFailed", "Service", "bad"))
        await running.idle()
        seen, asked = len(running.recorded), len(dry_runs(await world.requests()))
        with anyio.fail_after(LIMIT_S):
            while len(dry_runs(await world.requests())) < asked + 6:  # noqa: ASYNC110 - another process
                await anyio.sleep(0.5)
        told = running.recorded[seen:]
        assert len(told) <= 1, [one.event for one in told]  # once a minute at first
        await world.ask("Kustomization", "app")
        again = await running.until_event(StageFailed, stream=running.target("app"), after=seen)
        assert (again.repeats, again.message) == (True, "")
        assert again.attempt >= 7, "who asks hears of all that was tried"
        await world.push({"app/bad.yaml": config_map("good")})
        await world.until_applied("app")
