"""HelmReleases with `spec.kubeConfig`: released in another cluster, with Helm's records there."""

import json

from tests.e2e.command import daemon_with_door, tidelog
from tests.e2e.other_clusters import THERE, Other, give
from tests.e2e.releases import HELM, Releases
from tests.e2e.world import World, failed, written
from tidelog.engine.helm.storage import read_secret
from tidelog.engine.kinds.durations import Duration
from tidelog.events.vocabulary import (
    ObjectApplied,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseHistoryCleared,
    Suspended,
    TargetMoved,
)

HOOK = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: before
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
data:
  served: {{ .Capabilities.KubeVersion.Version | quote }}
  there: {{ (lookup "v1" "Namespace" "" "only-there").metadata.name | default "nothing" | quote }}
"""


async def records(place: World | Other) -> list[tuple[int, str]]:
    """Helm's records of the release: version and status, newest first."""
    kind = await place.cluster.kind("v1", "Secret")
    found = await place.cluster.list(kind, namespace=place.namespace, labels="owner=helm")
    releases = [read_secret(one).release for one in found.items]
    return sorted(((one.version, one.info.status) for one in releases), reverse=True)


async def test_a_release_lives_in_another_cluster(world: World, real_other: Other) -> None:
    other, releases = real_other, Releases(world)
    await give(world, other.kubeconfig("hub"))
    await other.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "only-there", "namespace": ""}})
    async with world.daemon() as running:
        await releases.commit("1.0.0", hook=HOOK)
        await world.source()
        await releases.release(kubeConfig=THERE, driftDetection={"mode": "enabled"})
        await releases.until_version(1)
        data = await other.data("web")
        assert data is not None
        assert (data["version"], data["revision"]) == ("1.0.0", "1")
        before = await other.data("before")
        assert before is not None
        assert before["there"] == "only-there"
        assert await records(other) == [(1, "deployed")]
        assert (await world.data("web"), await records(world)) == (None, [])
        # Drift there is put right.
        seen = len(running.recorded)
        await other.patch("v1", "ConfigMap", "web", {"data": {"colour": "blue"}}, manager="mallory")
        await running.until_event(ObjectApplied, after=seen)
        await other.until_data("web", data)
        await releases.commit("1.1.0", hook=HOOK)
        await releases.until_version(2)
        assert await records(other) == [(2, "deployed"), (1, "superseded")]
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert (await other.data("web"), await records(other)) == (None, [])


async def test_a_release_at_rest_asks_nothing_of_another_cluster(world: World, other: Other) -> None:
    releases = Releases(world)
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await releases.commit("1.0.0")
        await world.source()
        await releases.release(kubeConfig=THERE)
        await releases.until_version(1)
        await running.idle()
    before = written(other.servers.audited("hub"))
    async with world.daemon() as running:
        await running.idle()
        assert written(other.servers.audited("hub")) == before
        assert not running.events(ReleaseActionStarted, TargetMoved)


async def test_a_failed_upgrade_is_rolled_back_there(world: World, other: Other) -> None:
    releases = Releases(world)
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await releases.commit("1.0.0")
        await world.source()
        test = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "check", "annotations": {"helm.sh/hook": "pre-upgrade"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox"}]},
        }
        await releases.release(
            kubeConfig=THERE, timeout="3s", upgrade={"remediation": {"retries": 0, "remediateLastFailure": True}}
        )
        await releases.until_version(1)
        await releases.commit("1.1.0", check=json.dumps(test))
        await running.until_event(
            ReleaseActionEnded, where=lambda event: (event.action, event.outcome) == ("rollback", "succeeded")
        )
        assert [status for _, status in await records(other)] == ["deployed", "failed", "superseded"]


async def test_no_way_there_is_told(world: World, other: Other) -> None:
    releases = Releases(world)
    async with world.daemon():
        await releases.commit("1.0.0")
        await world.source()
        await releases.release(kubeConfig=THERE)
        await releases.until(failed("RESTClientError", "Secret", "is not there"))
        await give(world, other.kubeconfig("hub"))
        await releases.until_version(1)


async def test_without_its_kubeconfig_a_release_goes_and_what_was_released_stays(world: World, other: Other) -> None:
    releases = Releases(world)
    await give(world, other.kubeconfig("hub"))
    async with world.daemon():
        await releases.commit("1.0.0")
        await world.source()
        await releases.release(kubeConfig=THERE)
        await releases.until_version(1)
        await world.delete("v1", "Secret", "there")
        await releases.until(failed("RESTClientError", "is not there"))
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
    assert await records(other) == [(1, "deployed")]


async def test_what_cannot_be_reached_now_is_uninstalled_later(world: World, other: Other) -> None:
    releases = Releases(world)
    await give(world, other.kubeconfig("hub"))
    async with world.daemon(max_retry_delay=Duration.of_seconds(2)):
        await releases.commit("1.0.0")
        await world.source()
        await releases.release(kubeConfig=THERE)
        await releases.until_version(1)
        other.servers.stop()
        await world.delete(HELM, "HelmRelease", "web")
        await releases.until(lambda obj: "no connection" in json.dumps(obj.get("status") or {}), "waiting")
        other.servers.start()
        await world.until_gone(HELM, "HelmRelease", "web")
    assert (await other.data("web"), await records(other)) == (None, [])


async def test_in_another_cluster_it_is_installed_anew(world: World, other: Other) -> None:
    releases = Releases(world)
    await give(world, other.kubeconfig("hub"))
    async with world.daemon() as running:
        await releases.commit("1.0.0")
        await world.source()
        await releases.release()
        await releases.until_version(1)
        await releases.commit("1.1.0")
        await releases.until_version(2)
        here = await world.data("web")
        await world.patch(HELM, "HelmRelease", "web", {"spec": {"kubeConfig": THERE}})
        await releases.until_version(1, "1.1.0")
        assert await records(other) == [(1, "deployed")]
        assert await records(world) == [(2, "deployed"), (1, "superseded")]
        assert await world.data("web") == here
        assert len(running.events(TargetMoved)) == len(running.events(ReleaseHistoryCleared)) == 1


async def test_what_would_be_released_there_is_shown(world: World, other: Other) -> None:
    releases = Releases(world)
    await give(world, other.kubeconfig("hub"))
    async with daemon_with_door(world) as running:
        await releases.commit("1.0.0")
        await world.source()
        await releases.release(kubeConfig=THERE)
        await releases.until_version(1)
        await world.patch(HELM, "HelmRelease", "web", {"spec": {"suspend": True}})
        await running.until_event(Suspended)
        await running.idle()
        shown = await tidelog(world, "plan", "hr/web", "-n", world.namespace)
        assert (shown.code, "is as it is to be" in shown.out) == (0, True), shown
        await world.patch(HELM, "HelmRelease", "web", {"spec": {"values": {"colour": "green"}}})
        shown = await tidelog(world, "plan", "hr/web", "-n", world.namespace)
        assert shown.code == 1, shown
        assert "upgrade" in shown.out
    assert await records(other) == [(1, "deployed")]
