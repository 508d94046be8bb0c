"""Kustomizations and HelmReleases with a ConfigMap in `spec.kubeConfig`: reached as a ServiceAccount of this cluster.

The other cluster is one that trusts this one's issuer, or, where it does not matter which it is, this one itself: it
takes its own tokens, and is another one to the engine, as every cluster of a kubeconfig.
"""

import base64
import json
import logging
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.e2e.command import tidelog
from tests.e2e.other_clusters import AUDIENCE, Other, account, drift_is_put_right, grant
from tests.e2e.releases import HELM, Releases
from tests.e2e.world import KUSTOMIZE, Running, World, condition, config_map, failed
from tests.servers.kubernetes_servers import Authority, OwnServers, Servers
from tidelog.engine.cluster import credentials
from tidelog.engine.cluster.port import Token
from tidelog.engine.cluster.real import RealCluster
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import TargetMoved

OPEN: dict[str, Any] = {"object_level_workload_identity": True}
BY_CONFIG_MAP = {"configMapRef": {"name": "there"}}
TRUSTED = "https://other.example"


def entry(servers: Servers, **changed: str) -> dict[str, str]:
    """The data of a ConfigMap that leads to the cluster of some servers."""
    config = json.loads(servers.kubeconfig.read_text())["clusters"][0]["cluster"]
    usual = {
        "provider": "generic",
        "address": config["server"],
        "ca.crt": base64.b64decode(config["certificate-authority-data"]).decode(),
        "audiences": AUDIENCE,
        "serviceAccountName": "goes",
    }
    return usual | changed


async def lead(world: World, data: dict[str, str]) -> None:
    await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "there"}, "data": data})


async def app_there(world: World, **spec: Any) -> None:
    """A Kustomization of one ConfigMap, in the other cluster."""
    world.commit({"app/all.yaml": config_map("a", n="1")})
    await world.source()
    usual = {"targetNamespace": world.namespace, "kubeConfig": BY_CONFIG_MAP, "retryInterval": "1h"}
    await world.target("app", "./app", **(usual | spec))


async def may_go(world: World, name: str = "goes") -> None:
    """A ServiceAccount of this cluster, who may do anything in it."""
    await grant(world, name, {"kind": "ServiceAccount", "name": name, "namespace": world.namespace})
    await account(world, name)


def stalled(reason: str, *words: str) -> Any:
    def holds(obj: KubeObject) -> bool:
        found = condition(obj, "Stalled")
        told = failed(reason, *words)(obj)
        return bool(told and found and (found["status"], found["reason"]) == ("True", reason))

    return holds


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every token that is given from now on."""
    tokens: list[str] = []
    request = RealCluster.request_token

    async def noting(self: RealCluster, *asked: str) -> Token:
        token = await request(self, *asked)
        tokens.append(token.value)
        return token

    monkeypatch.setattr(RealCluster, "request_token", noting)
    return tokens


async def nobody_has_seen(world: World, running: Running, tokens: list[str], logged: str) -> None:
    """No token is in the log of events, in lines of logs, statuses, Kubernetes Events, or any file of the store."""
    assert tokens
    told: list[str] = [logged, *(repr(one) for one in running.recorded)]
    for version, kind_name in ((KUSTOMIZE, "Kustomization"), ("v1", "Event"), ("v1", "ConfigMap")):
        kind = await world.cluster.kind(version, kind_name)
        told += [json.dumps(one) for one in (await world.cluster.list(kind, namespace=world.namespace)).items]
    files = [path for path in world.store.rglob("*") if path.is_file()]
    contents = [await anyio.to_thread.run_sync(Path.read_bytes, path) for path in files]
    assert contents
    for token in tokens:
        assert not [text for text in told if token in text]
        assert not [content for content in contents if token.encode() in content]


async def test_a_cluster_that_trusts_this_ones_issuer_is_reached_as_a_service_account(
    world: World, real_other: Other, given: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    other, servers = real_other, real_other.servers
    assert isinstance(servers, OwnServers)
    caplog.set_level(logging.DEBUG)
    await anyio.to_thread.run_sync(servers.trust, world.servers, TRUSTED, "east:")
    await account(world, "goes")
    await lead(world, entry(servers, audiences=f"{TRUSTED}\nhttps://another.example"))
    user = f"east:system:serviceaccount:{world.namespace}:goes"
    async with world.daemon(**OPEN) as running:
        await app_there(world, retryInterval="1s")
        await world.until_target("app", failed("ReconciliationFailed", "is not allowed", user))
        await grant(other, "goes", {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user})
        await world.until_applied("app")
        assert (await other.data("a"), await world.data("a")) == ({"n": "1"}, None)
        (moved,) = running.events(TargetMoved)
        alias = moved.cluster  # type: ignore[attr-defined]
        assert alias.startswith(f"{world.namespace}.")
        so_far = len(given)
        # Who watches goes there by the same way.
        await drift_is_put_right(other, running, alias, "1")
        await world.push({"app/all.yaml": config_map("b", n="2")})
        await world.until_applied("app")
        assert (await other.data("a"), await other.data("b")) == (None, {"n": "2"})
        await running.idle()
        assert len(given) == so_far, "one token serves all"
        # Of a token for somebody else it takes none; nor is it that of anybody here.
        await lead(world, entry(servers, audiences="https://another.example"))
        await world.push({"app/all.yaml": config_map("b", n="3")})
        await world.until_target("app", failed("ReconciliationFailed", "the credentials are not accepted", "ConfigMap"))
        await lead(world, entry(servers, audiences=TRUSTED))
        await world.until_applied("app")
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        assert await other.data("b") is None
        await nobody_has_seen(world, running, given, caplog.text)
    assert {"patch", "delete"} <= {one["verb"] for one in other.servers.audited(user)}


async def test_without_the_gate_nobody_is_reached_as_a_service_account(world: World, given: list[str]) -> None:
    await may_go(world)
    await lead(world, entry(world.servers))
    async with world.daemon():
        await app_there(world)
        await world.until_target("app", stalled("FeatureGateDisabled", "ObjectLevelWorkloadIdentity", "configMapRef"))
    assert given == []
    async with world.daemon(**OPEN):
        await world.until_applied("app")
    assert await world.data("a") == {"n": "1"}


async def test_what_is_missing_is_said_and_waited_for(world: World) -> None:
    """Each is seen when it comes: the interval at which it is tried again is an hour."""
    async with world.daemon(**OPEN):
        await app_there(world)
        await world.until_target(
            "app", failed("ReconciliationFailed", f"ConfigMap {world.namespace}/there is not there")
        )
        await lead(world, {"provider": "generic"})
        await world.until_target("app", failed("ReconciliationFailed", "address: '' is none of an API server"))
        await lead(world, entry(world.servers, provider="gke"))
        await world.until_target("app", failed("ReconciliationFailed", "provider: 'gke' is none of"))
        await lead(world, entry(world.servers, provider="gcp"))
        await world.until_target("app", stalled("UnsupportedFeature", "provider: gcp cannot be used yet", "secretRef"))
        await lead(world, entry(world.servers, serviceAccountName=""))
        await world.until_target("app", failed("ReconciliationFailed", "serviceAccountName: it names none"))
        await lead(world, entry(world.servers))
        told = await world.until_target("app", failed("ReconciliationFailed", "there is no ServiceAccount"))
        assert condition(told, "Stalled") == {}
        await may_go(world)
        await world.until_applied("app")
    assert await world.data("a") == {"n": "1"}


async def test_a_server_that_the_authority_does_not_know_is_shown_no_token(
    world: World, tmp_path: Path, given: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await may_go(world)
    (tmp_path / "wrong").mkdir()
    wrong = Authority.make(tmp_path / "wrong").certificate_file.read_text()
    await lead(world, entry(world.servers, **{"ca.crt": wrong}))
    async with world.daemon(**OPEN) as running:
        await app_there(world)
        words = ("its certificate is not trusted", "check ca.crt in ConfigMap", "there")
        await world.until_target("app", failed("ReconciliationFailed", *words))
        await lead(world, entry(world.servers, **{"ca.crt": "no certificate"}))
        await world.until_target("app", failed("ReconciliationFailed", "holds no PEM certificate"))
        user = f"system:serviceaccount:{world.namespace}:goes"
        assert world.servers.audited(user) == []
        await lead(world, entry(world.servers))
        await world.until_applied("app")
        await nobody_has_seen(world, running, given, caplog.text)


async def test_tokens_are_renewed_before_they_end(
    world: World, given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No server gives one for less than ten minutes: here it is asked for again after a second of its hour."""
    monkeypatch.setattr(credentials, "TOKEN_SHARE", 1 / 3_600)
    await may_go(world)
    await lead(world, entry(world.servers))
    async with world.daemon(**OPEN) as running:
        await app_there(world)
        await world.until_applied("app")
        with anyio.fail_after(60):
            for number in range(2, 50):
                await world.push({"app/all.yaml": config_map("a", n=str(number))})
                await world.until_applied("app")
                if len(given) >= 3:
                    break
        assert len(given) >= 3
        assert len(set(given)) == len(given)
        assert len(running.events(TargetMoved)) == 1, "it is the same way there"
        await nobody_has_seen(world, running, given, "")


async def test_an_account_that_is_made_anew_is_gone_on_with(world: World, given: list[str]) -> None:
    await may_go(world)
    await lead(world, entry(world.servers))
    async with world.daemon(**OPEN) as running:
        await app_there(world)
        await world.until_applied("app")
        await running.idle()
        await world.delete("v1", "ServiceAccount", "goes")
        await world.until_target("app", failed("ReconciliationFailed", "there is no ServiceAccount"))
        await account(world, "goes")
        await world.until_applied("app")
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await world.until_applied("app")
        assert await world.data("a") == {"n": "2"}
    assert len(given) >= 2


async def test_what_would_be_done_there_is_planned_as_the_account(world: World, given: list[str]) -> None:
    await may_go(world)
    await lead(world, entry(world.servers))
    named = ("ks/app", "-n", world.namespace)
    async with world.daemon(**OPEN) as running:
        await app_there(world)
        await world.until_applied("app")
        await running.idle()
    (world.store.parent / "files" / "app").mkdir(parents=True)
    (world.store.parent / "files" / "app" / "all.yaml").write_text(config_map("a", n="2"))
    done = await tidelog(world, "plan", *named, "--path", world.store.parent / "files", "-o", "json")
    assert done.code == 1, done
    (step,) = [step for wave in json.loads(done.out)["plan"]["waves"] for step in wave]
    assert step["changes"] == [{"path": "data.n", "before": "1", "after": "2"}]
    assert not [token for token in given if token in done.out + done.err]
    await lead(world, entry(world.servers, provider="aws"))
    refused = await tidelog(world, "plan", *named)
    assert refused.code not in (0, 1)
    assert "provider: aws cannot be used yet" in refused.err


async def test_a_release_is_made_there_as_the_account(world: World, given: list[str]) -> None:
    releases = Releases(world)
    await may_go(world)
    await lead(world, entry(world.servers, provider="azure"))
    async with world.daemon(**OPEN) as running:
        await releases.commit("1.0.0")
        await world.source()
        await releases.release(kubeConfig=BY_CONFIG_MAP)
        await releases.until(stalled("UnsupportedFeature", "provider: azure cannot be used yet"))
        await lead(world, entry(world.servers))
        await releases.until_version(1)
        assert (await world.data("web") or {})["version"] == "1.0.0"
        (moved,) = running.events(TargetMoved)
        assert moved.cluster.startswith(f"{world.namespace}.")  # type: ignore[attr-defined]
        # With the account, as with a Secret, goes the way there: the HelmRelease goes, and what was released stays.
        await world.delete("v1", "ServiceAccount", "goes")
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert (await world.data("web") or {})["version"] == "1.0.0"
    assert given
