"""Kustomizations with `spec.kubeConfig`: applied to another cluster, and kept there."""

import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.e2e.command import daemon_with_door, tidelog
from tests.e2e.other_clusters import THERE, Other, drift_is_put_right, give, other_cluster
from tests.e2e.world import (
    KUSTOMIZE,
    Running,
    World,
    config_map,
    documents,
    failed,
    manifest,
    names,
    written,
)
from tests.servers import embedded_servers
from tests.servers.embedded_servers import EmbeddedServers
from tidelog.events.vocabulary import (
    ApplyFinished,
    DriftDetected,
    InputChanged,
    ObjectAbandoned,
    ObjectApplied,
    ObjectObserved,
    ObjectPruned,
    ObservationInterrupted,
    ObservationResumed,
    RevisionFetched,
    Suspended,
    TargetMoved,
    TargetRemoved,
)


@pytest.fixture
def third_servers(tmp_path: Path) -> Iterator[EmbeddedServers]:
    with embedded_servers.start(tmp_path / "third") as servers:
        yield servers


@pytest.fixture
async def third(third_servers: EmbeddedServers, namespace: str) -> AsyncIterator[Other]:
    async with other_cluster(third_servers, namespace) as made:
        yield made


async def app_there(world: World, *manifests: str, **spec: Any) -> None:
    """A Kustomization of these, in the other cluster."""
    world.commit({"app/all.yaml": documents(*manifests)})
    await world.source()
    await world.target("app", "./app", **({"targetNamespace": world.namespace, "kubeConfig": THERE} | spec))


async def test_a_kustomization_lives_in_another_cluster(world: World, real_other: Other) -> None:
    other = real_other
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"), config_map("b", n="1"))
        await world.until_applied("app")
        assert (await other.data("a"), await other.data("b")) == ({"n": "1"}, {"n": "1"})
        assert (await world.data("a"), await world.data("b")) == (None, None)
        moved = running.events(TargetMoved)
        alias = moved[0].cluster  # type: ignore[attr-defined]
        assert len(moved) == 1
        assert alias.startswith(f"{world.namespace}.")
        assert {one.cluster for one in running.events(ObjectApplied)} == {alias}  # type: ignore[attr-defined]
        await drift_is_put_right(other, running, alias, "1")
        # A commit changes one, and lets go of the other.
        await world.push({"app/all.yaml": config_map("a", n="3")})
        await world.until_applied("app")
        assert (await other.data("a"), await other.data("b")) == ({"n": "3"}, None)
        # A namesake here is nobody's, and stays.
        await world.apply(json.loads(config_map("a", mine="yes")))
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        assert await other.data("a") is None
        assert await world.data("a") == {"mine": "yes"}
        await running.until_event(TargetRemoved)


async def test_a_daemon_that_starts_again_finds_all_as_it_was_and_sees_what_changes(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"))
        await world.until_applied("app")
        await running.idle()
    before = written(other.servers.audited("hub"))
    async with world.daemon() as running:
        await running.idle()
        assert written(other.servers.audited("hub")) == before
        assert not running.events(ApplyFinished, TargetMoved)
        await other.delete("v1", "ConfigMap", "a")
        await running.until_event(ObjectApplied)
        await other.until_data("a", {"n": "1"})


async def test_its_objects_are_told_of_like_any_other(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await app_there(world, config_map("only-there", n="1"), config_map("gone", n="1"))
        await world.until_applied("app")
        await world.push({"app/all.yaml": config_map("only-there", n="2")})
        await world.until_applied("app")
        alias = running.events(TargetMoved)[0].cluster  # type: ignore[attr-defined]
        await running.idle()
    named = ("-n", world.namespace)
    trace = json.loads((await tidelog(world, "trace", "configmap/only-there", *named, "-o", "json")).out)
    assert trace["object"] == f"{alias}/core/ConfigMap/{world.namespace}/only-there"
    assert trace["target"].endswith(f"/Kustomization/{world.namespace}/app")
    tree = (await tidelog(world, "tree", "kustomization/app", *named, "-o", "json")).out
    assert f"{alias}/core/ConfigMap/{world.namespace}/only-there" in tree
    assert (await tidelog(world, "explain", "configmap/only-there", *named)).code == 0
    assert "was pruned" in (await tidelog(world, "explain", "configmap/gone", *named)).out
    history = (await tidelog(world, "history", "configmap/only-there", *named)).out
    assert "n" in history
    told = (await tidelog(world, "events", "--for", "configmap/only-there", *named)).out
    assert "Configured ConfigMap" in told


async def test_health_is_of_that_cluster(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    check = {"apiVersion": "batch/v1", "kind": "Job", "name": "migrate", "namespace": world.namespace}
    async with world.daemon():
        await app_there(world, config_map("a"), healthChecks=[check], timeout="1m")
        await world.until_target("app", lambda obj: "Running health checks" in json.dumps(obj.get("status") or {}))
        pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]}
        job = json.loads(manifest("batch/v1", "Job", "migrate", spec={"template": {"spec": pod}}))
        await other.apply(job)
        done = {"type": "Complete", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}
        kind = await other.cluster.kind("batch/v1", "Job")
        status = {
            "startTime": "2024-01-01T00:00:00Z",
            "completionTime": "2024-01-01T00:00:00Z",
            "succeeded": 1,
            "conditions": [done | {"type": "SuccessCriteriaMet"}, done],
        }
        where = (kind, other.namespace, "migrate")
        await other.cluster.patch(*where, {"status": status}, type="merge", manager="test", subresource="status")
        await world.until_applied("app")


async def test_an_account_is_impersonated_there(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon():
        await app_there(world, config_map("a"), serviceAccountName="tenant", retryInterval="1s")
        await world.until_target("app", failed("ReconciliationFailed", "ConfigMap", "a"))
        assert await other.data("a") is None
        who = {"kind": "ServiceAccount", "name": "tenant", "namespace": other.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        binding = manifest("rbac.authorization.k8s.io/v1", "RoleBinding", "tenant", subjects=[who], roleRef=role)
        await other.apply(json.loads(binding))
        await world.until_applied("app")
    account = f"system:serviceaccount:{other.namespace}:tenant"
    wrote = [one for one in other.servers.audited("hub") if one["verb"] in ("patch", "apply", "create")]
    assert {(one.get("impersonatedUser") or {}).get("username") for one in wrote} == {account}


async def test_a_secret_that_is_not_there_is_waited_for(world: World, other: Other) -> None:
    async with world.daemon():
        await app_there(world, config_map("a", n="1"))
        told = await world.until_target("app", failed("ReconciliationFailed", "Secret", "is not there"))
        assert f"{world.namespace}/there" in json.dumps(told["status"])
        await give(world, other.kubeconfig("hub"), key="elsewhere")
        await world.until_target("app", failed("ReconciliationFailed", "neither the key 'value' nor 'value.yaml'"))
        await give(world, other.kubeconfig("hub"), key="value.yaml")
        await world.until_applied("app")
        assert await other.data("a") == {"n": "1"}


async def test_a_key_may_be_named(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"), key="mine")
    async with world.daemon():
        await app_there(world, config_map("a"), kubeConfig={"secretRef": {"name": "there", "key": "mine"}})
        await world.until_applied("app")
    assert await other.data("a") == {}


async def test_what_is_not_the_writers_is_not_used(world: World, other: Other, tmp_path: Path) -> None:
    """The daemon's own files and programs are no part of somebody's kubeconfig."""
    ran = tmp_path / "ran"
    token = tmp_path / "token"
    config = json.loads(other.kubeconfig("hub"))
    user = config["users"][0]["user"]
    token.write_text(user.pop("token"))
    user["tokenFile"] = str(token)
    plugin = tmp_path / "plugin"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token.read_text()},
    }
    plugin.write_text(f"#!/bin/sh\ntouch {ran}\necho '{json.dumps(answer)}'\n")
    plugin.chmod(0o755)
    async with world.daemon():
        await give(world, json.dumps(config))
        await app_there(world, config_map("a"))
        await world.until_target("app", failed("ReconciliationFailed", "without the file of token-file"))
        user.pop("tokenFile")
        user["exec"] = {"apiVersion": answer["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}
        await give(world, json.dumps(config))
        await world.until_target("app", failed("ReconciliationFailed", "without exec"))
    assert not ran.exists()
    assert await other.data("a") is None
    async with world.daemon(insecure_kubeconfig_exec=True):
        await world.until_applied("app")
    assert ran.exists()


async def test_credentials_are_changed_without_a_restart(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("first"))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"))
        await world.until_applied("app")
        await running.idle()
        before = len(other.servers.audited("first"))
        await give(world, other.kubeconfig("second"))
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await world.until_applied("app")
        await running.idle()
        # Who watches goes by the new ones too.
        seen = len(running.recorded)
        await other.patch("v1", "ConfigMap", "a", {"data": {"n": "9"}}, manager="mallory")
        await running.until_event(ObjectApplied, after=seen)
        await other.until_data("a", {"n": "2"})
        assert len(running.events(TargetMoved)) == 1
    assert {one["verb"] for one in other.servers.audited("first")[before:]} <= {"get"}
    assert "patch" in {one["verb"] for one in other.servers.audited("second")}


async def test_a_cluster_that_does_not_answer_holds_up_nobody_else(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"), retryInterval="2s")
        await world.until_applied("app")
        await running.idle()
        seen = len(running.recorded)
        other.servers.stop()
        await running.until_event(
            ObservationInterrupted, after=seen, where=lambda event: event.cluster.startswith(f"{world.namespace}.")
        )
        await world.push({"app/all.yaml": config_map("a", n="2"), "here/all.yaml": config_map("here", n="1")})
        await world.target("here", "./here", targetNamespace=world.namespace)
        await world.until_target("app", failed("ReconciliationFailed", "no connection"))
        await world.until_applied("here")
        seen = len(running.recorded)
        other.servers.start()
        await world.until_applied("app")
        await running.until_event(
            ObservationResumed, after=seen, where=lambda event: event.cluster.startswith(f"{world.namespace}.")
        )
    assert await other.data("a") == {"n": "2"}


async def test_a_secret_that_is_deleted_ends_the_way_there_until_it_is_back(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"))
        await world.until_applied("app")
        seen = len(running.recorded)
        await world.delete("v1", "Secret", "there")
        await world.until_target("app", failed("ReconciliationFailed", "is not there"))
        interrupted = await running.until_event(ObservationInterrupted, after=seen)
        assert interrupted.why == "no target uses its kubeconfig any more"
        await other.patch("v1", "ConfigMap", "a", {"data": {"n": "9"}}, manager="mallory")
        await give(world, other.kubeconfig("hub"))
        await other.until_data("a", {"n": "1"})
        await running.until_event(ObservationResumed, after=seen)
        await world.until_applied("app")


async def test_another_cluster_gets_all_of_it_and_the_one_before_keeps_what_it_has(
    world: World, other: Other, third: Other
) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"), config_map("b", n="1"))
        await world.until_applied("app")
        # One of the same name there is not the target's, whatever was applied elsewhere.
        await third.apply(json.loads(config_map("b", mine="yes")))
        # Another cluster, and another commit, in one pass.
        seen = len(running.recorded)
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": True}})
        await running.until_event(Suspended, after=seen)
        await give(world, third.kubeconfig("hub"))
        await running.until_event(InputChanged, after=seen)
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await running.until_event(RevisionFetched, after=seen)
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": False}})
        await third.until_data("a", {"n": "2"})
        await world.until_applied("app")
        left = running.events(ObjectAbandoned, after=seen)
        assert names([one.object for one in left]) == ["a", "b"]  # type: ignore[attr-defined]
        assert len(running.events(TargetMoved, after=seen)) == 1
        assert not running.events(ObjectPruned)
        assert (await other.data("a"), await other.data("b")) == ({"n": "1"}, {"n": "1"})
        assert await third.data("b") == {"mine": "yes"}
        # Home again: it is left there too.
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"kubeConfig": None}})
        await world.until_data("a", {"n": "2"})
        assert await third.data("a") == {"n": "2"}
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        assert await world.data("a") is None
        assert await third.data("a") == {"n": "2"}
        assert await other.data("a") == {"n": "1"}


async def test_a_status_of_the_cluster_before_says_nothing_of_the_one_after(
    world: World, other: Other, third: Other
) -> None:
    """As after a kill between the move and the next status."""
    await give(world, other.kubeconfig("hub"))
    kind = await world.cluster.kind(KUSTOMIZE, "Kustomization")
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"), config_map("b", n="1"))
        before = (await world.until_applied("app"))[0]["status"]
        await running.idle()
    await give(world, third.kubeconfig("hub"))
    world.change({"app/all.yaml": config_map("a", n="2")})
    async with world.daemon() as running:
        await third.until_data("a", {"n": "2"})
        await world.until_applied("app")
        await running.idle()
        assert len(running.events(TargetMoved)) == 1
    assert await third.data("b") is None
    labels = {"kustomize.toolkit.fluxcd.io/name": "app", "kustomize.toolkit.fluxcd.io/namespace": world.namespace}
    theirs = json.loads(config_map("b", mine="yes"))
    await third.apply(theirs | {"metadata": theirs["metadata"] | {"labels": labels}})
    await world.cluster.patch(
        kind, world.namespace, "app", {"status": before}, type="merge", manager="test", subresource="status"
    )
    async with world.daemon() as running:
        await world.push({"app/all.yaml": config_map("a", n="3")})
        await third.until_data("a", {"n": "3"})
        applied = await world.until_applied("app")
        assert [entry["id"].split("_")[1] for entry in applied[0]["status"]["inventory"]["entries"]] == ["a"]
        await running.idle()
        assert not running.events(ObjectPruned)
    assert await third.data("b") == {"mine": "yes"}


async def test_what_cannot_be_deleted_there_any_more_can_be_left_there(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon():
        await app_there(world, config_map("a", n="1"))
        await world.until_applied("app")
        await world.delete("v1", "Secret", "there")
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_target("app", failed("ReconciliationFailed", "is not there", "deletionPolicy to Orphan"))
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"deletionPolicy": "Orphan"}})
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
    assert await other.data("a") == {"n": "1"}


async def test_one_that_never_applied_anything_goes_without_its_cluster(world: World) -> None:
    async with world.daemon():
        await app_there(world, config_map("a"))
        await world.until_target("app", failed("ReconciliationFailed", "is not there"))
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")


async def test_nothing_of_a_kubeconfig_is_told(world: World, other: Other, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    config = json.loads(other.kubeconfig("hub"))
    token = config["users"][0]["user"]["token"]
    await give(world, json.dumps(config))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"), retryInterval="1s")
        await world.until_applied("app")
        config["users"][0]["user"] = {"token": f"{token}-of-nobody"}
        await give(world, json.dumps(config))
        await world.until_target("app", failed("ReconciliationFailed"))
        await give(world, f"clusters: [{{name: a, cluster: {{server: 'https://me:{token}@example.org'}}}}]")
        await world.until_target("app", failed("ReconciliationFailed"))
        await give(world, f"users:\n- name: {token}\n  '")
        await world.until_target("app", failed("ReconciliationFailed", "no YAML"))
        status = await world.get(KUSTOMIZE, "Kustomization", "app")
        told = [json.dumps(status), json.dumps(await world.events_of("app")), caplog.text]
        told += [one.raw.decode() for one in running.recorded]
        await running.idle()
    assert not [text for text in told if token in text]
    assert not [path for path in world.store.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]


async def test_what_shares_a_name_in_both_clusters_is_two(world: World, other: Other) -> None:
    """The same object, by name, of two Kustomizations of which one is applied here."""
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="there"))
        world.change({"here/all.yaml": config_map("a", n="here")})
        await world.ask()
        await world.target("here", "./here", targetNamespace=world.namespace)
        await world.until_applied("app", "here")
        await running.idle()
        assert (await world.data("a"), await other.data("a")) == ({"n": "here"}, {"n": "there"})
        # Drift of each is put right by its own.
        await world.patch("v1", "ConfigMap", "a", {"data": {"n": "x"}}, manager="mallory")
        await other.patch("v1", "ConfigMap", "a", {"data": {"n": "y"}}, manager="mallory")
        await world.until_data("a", {"n": "here"})
        await other.until_data("a", {"n": "there"})
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        assert await other.data("a") is None
        await running.idle()
        assert await world.data("a") == {"n": "here"}
        gone = [one.uid for one in running.events(ObjectObserved) if one.gone]  # type: ignore[attr-defined]
        assert len(gone) <= 1


def by(secret: str) -> dict[str, Any]:
    """`spec.kubeConfig` with another Secret."""
    return {"secretRef": {"name": secret}}


async def test_watches_go_on_by_another_secret_when_the_credentials_of_the_first_are_revoked(
    world: World, real_other: Other
) -> None:
    other = real_other
    for name in ("first", "second"):
        await give(world, await other.kubeconfig_of_account(name), name=name)
    async with world.daemon() as running:
        world.commit({"one/all.yaml": config_map("a", n="1"), "two/all.yaml": config_map("b", n="1")})
        await world.source()
        for target, secret in (("one", "first"), ("two", "second")):
            await world.target(target, f"./{target}", targetNamespace=world.namespace, kubeConfig=by(secret))
            await world.until_applied(target)
        await running.idle()
        alias = running.events(TargetMoved)[0].cluster  # type: ignore[attr-defined]
        await other.delete("v1", "ServiceAccount", "first")
        seen = len(running.recorded)
        # A server that starts again takes no token for granted that it took before.
        await anyio.to_thread.run_sync(other.servers.stop)
        await anyio.to_thread.run_sync(other.servers.start)
        await running.until_event(ObservationResumed, after=seen, where=lambda event: event.cluster == alias)
        await other.patch("v1", "ConfigMap", "b", {"data": {"n": "9"}}, manager="mallory")
        await other.until_data("b", {"n": "1"})
        # What the first had applied is seen too; to put it right are its own credentials alone, and they are no more.
        seen = len(running.recorded)
        await other.patch("v1", "ConfigMap", "a", {"data": {"n": "9"}}, manager="mallory")
        drifted = f"{alias}/core/ConfigMap/{world.namespace}/a"
        await running.until_event(DriftDetected, stream=drifted, after=seen)
        await world.until_target("one", failed("ReconciliationFailed", "the kubeconfig of Secret"))
        assert await other.data("a") == {"n": "9"}


MOVES = {
    "one/a.yaml": config_map("a"),
    "one/moves.yaml": config_map("moves", n="1"),
    "two/b.yaml": config_map("b"),
}
MOVED = {"one/moves.yaml": None, "two/moves.yaml": config_map("moves", n="2")}


async def there_is(world: World, *names: str, **specs: dict[str, Any]) -> None:
    """Kustomizations of the directories that are called as they are, in the other cluster."""
    for name in names:
        spec = {"targetNamespace": world.namespace, "kubeConfig": THERE} | specs.get(name, {})
        await world.target(name, f"./{name}", **spec)


async def uid_there(other: Other, name: str) -> str:
    live = await other.get("v1", "ConfigMap", name)
    assert live is not None
    assert "deletionTimestamp" not in live["metadata"]
    return str(live["metadata"]["uid"])


def deleted(running: Running) -> list[str]:
    return [str(one.object) for one in running.events(ObjectPruned) if one.outcome == "deleted"]  # type: ignore[attr-defined]


AFTER_ONE: dict[str, Any] = {"dependsOn": [{"name": "one"}]}


@pytest.mark.parametrize("secret", ["there", "another"])
async def test_what_moves_right_before_a_start_is_handed_over(world: World, other: Other, secret: str) -> None:
    """The new owner does not come to its cluster before the old one has let go: it is suspended."""
    await give(world, other.kubeconfig("hub"))
    await give(world, other.kubeconfig("too"), name="another")
    async with world.daemon() as running:
        world.commit(MOVES)
        await world.source()
        await there_is(world, "one", "two", two={"kubeConfig": by(secret)})
        await world.until_applied("one", "two")
        before = await uid_there(other, "moves")
        await world.patch(KUSTOMIZE, "Kustomization", "two", {"spec": {"suspend": True}})
        await running.until_event(Suspended)
        await running.idle()
    world.change(MOVED)
    async with world.daemon() as running:
        await world.until_applied("one")
        await running.idle()
        assert await uid_there(other, "moves") == before
        await world.patch(KUSTOMIZE, "Kustomization", "two", {"spec": {"suspend": False}})
        await world.until_applied("one", "two")
        await other.until_data("moves", {"n": "2"})
        await running.idle()
        assert await uid_there(other, "moves") == before
        assert deleted(running) == []


async def test_what_moves_to_one_that_the_same_commit_makes_is_handed_over(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    source = {"kind": "GitRepository", "name": "fleet"}
    spec = {"interval": "1h", "path": "./two", "prune": True, "targetNamespace": world.namespace, "kubeConfig": THERE}
    two = manifest(KUSTOMIZE, "Kustomization", "two", spec={**spec, **AFTER_ONE, "sourceRef": source})
    three = manifest(KUSTOMIZE, "Kustomization", "three", spec={**spec, "path": "./three", "sourceRef": source})
    async with world.daemon(concurrent=1) as running:
        world.commit(MOVES | {"fleet/three.yaml": three, "three/c.yaml": config_map("c")})
        await world.source()
        await there_is(world, "one")
        await world.until_applied("one")
        # It makes those that are applied there, and is itself applied here, after the one that lets go.
        await world.target("fleet", "./fleet", targetNamespace=world.namespace, **AFTER_ONE)
        await world.until_applied("fleet", "three")
        await running.idle()
        before = await uid_there(other, "moves")
        await world.push({**MOVED, "fleet/two.yaml": two})
        await world.until_applied("one", "two")
        await other.until_data("moves", {"n": "2"})
        await running.idle()
        assert await uid_there(other, "moves") == before
        assert deleted(running) == []


async def test_what_may_move_to_one_whose_secret_is_about_to_come_waits_for_it(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon(concurrent=1) as running:
        world.commit(MOVES)
        await world.source()
        await there_is(world, "one")
        await world.until_applied("one")
        await there_is(world, "two", two={"kubeConfig": by("another"), "retryInterval": "1s"})
        await world.until_target("two", failed("ReconciliationFailed", "is not there"))
        before = await uid_there(other, "moves")
        await world.push(MOVED)
        await world.until_target("two", lambda obj: obj["status"].get("lastAttemptedRevision") == world.revision)
        await give(world, other.kubeconfig("too"), name="another")
        await other.until_data("moves", {"n": "2"})
        await world.until_applied("one", "two")
        await running.idle()
        assert await uid_there(other, "moves") == before
        assert deleted(running) == []


async def test_what_may_move_to_one_that_never_comes_is_pruned_in_the_end(
    world: World, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidelog.engine.runtime.leads.PATIENCE_S", 3.0)
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        world.commit(MOVES)
        await world.source()
        await there_is(world, "one")
        await there_is(world, "two", two={"kubeConfig": by("another")})
        await world.until_applied("one")
        await world.push(MOVED)
        await world.until_applied("one")
        assert names(deleted(running)) == ["moves"]
        assert await other.data("moves") is None


async def test_of_what_a_server_tells_only_what_was_applied_there_is_recorded(world: World, other: Other) -> None:
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await app_there(world, config_map("a", n="1"))
        await world.until_applied("app")
        await running.idle()
        alias = running.events(TargetMoved)[0].cluster  # type: ignore[attr-defined]
        seen = len(running.recorded)
        labels = {"kustomize.toolkit.fluxcd.io/name": "app", "kustomize.toolkit.fluxcd.io/namespace": world.namespace}
        for number in range(50):
            stray = json.loads(config_map(f"stray-{number}", n="1"))
            await other.apply(stray | {"metadata": stray["metadata"] | {"labels": labels}})
        # By now the watch has told of all these: what is told of this one comes after them.
        await other.patch("v1", "ConfigMap", "a", {"data": {"n": "9"}}, manager="mallory")
        await running.until_event(DriftDetected, after=seen)
        await other.until_data("a", {"n": "1"})
        await running.idle()
        about = {one.envelope.stream for one in running.recorded[seen:]}
        assert {stream for stream in about if stream.startswith(f"{alias}/")} == {
            f"{alias}/core/ConfigMap/{world.namespace}/a"
        }


async def test_what_would_be_done_there_is_shown_and_a_past_is_brought_back(
    world: World, other: Other, third: Other, tmp_path: Path
) -> None:
    config = other.kubeconfig("hub")
    await give(world, config)
    named = ("ks/app", "-n", world.namespace)
    async with daemon_with_door(world) as running:
        await app_there(world, config_map("a", n="1"), config_map("b", n="1"))
        await world.until_applied("app")
        alias = running.events(TargetMoved)[0].cluster  # type: ignore[attr-defined]
        # A namesake here has nothing to do with it.
        await world.apply(json.loads(config_map("a", mine="yes")))
        done = await tidelog(world, "plan", *named)
        assert (done.code, "2 unchanged" in done.out) == (0, True), done
        (tmp_path / "files" / "app").mkdir(parents=True)
        (tmp_path / "files" / "app" / "all.yaml").write_text(config_map("a", n="2"))
        done = await tidelog(world, "plan", *named, "--path", tmp_path / "files", "-o", "json")
        assert done.code == 1, done
        plan = json.loads(done.out)["plan"]
        steps = {step["object"].rpartition("/")[2]: step for wave in plan["waves"] for step in wave}
        assert steps["a"]["changes"] == [{"path": "data.n", "before": "1", "after": "2"}]
        assert names([step["object"] for step in plan["prunes"]]) == ["b"]
        past = running.daemon.engine.memory.position
        await world.push({"app/all.yaml": config_map("a", n="3")})
        await world.until_applied("app")
        assert await other.data("b") is None
        done = await tidelog(world, "reapply", *named, "--at", str(past), "--yes", "--why", "it was better")
        assert done.code == 0, done
        await other.until_data("a", {"n": "1"})
        await other.until_data("b", {"n": "1"})
        assert await world.data("a") == {"mine": "yes"}
        token = json.loads(config)["users"][0]["user"].get("token") or "no token"
        assert token not in done.out + done.err
        # Of another cluster than before it is said that a run comes first.
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": True}})
        await running.until_event(Suspended)
        await give(world, third.kubeconfig("hub"))
        refused = await tidelog(world, "plan", *named)
        assert refused.code not in (0, 1)
        assert "it is about to be applied to another cluster than before" in refused.err
        assert alias
