"""HelmReleases from their first install to their end, on the real API server (contract 4)."""

from tests.e2e.releases import HELM, Releases, ready_message, told
from tests.e2e.world import SOURCE, World


async def test_a_release_is_installed_upgraded_and_uninstalled(world: World) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0")
    async with world.daemon() as running:
        await world.source()
        await releases.release(values={"colour": "blue"})
        found = await releases.until_version(1, "1.0.0")
        assert await world.data("web") == {"colour": "blue", "version": "1.0.0", "revision": "1"}
        release = f"{world.namespace}/web.v1"
        assert ready_message(found) == f"Helm install succeeded for release {release} with chart web@1.0.0"
        assert await releases.statuses() == [(1, "deployed")]
        await releases.release(values={"colour": "green"})
        found = await releases.until_version(2)
        assert await world.data("web") == {"colour": "green", "version": "1.0.0", "revision": "2"}
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]
        assert told(found)["Released"] == ("True", "UpgradeSucceeded")
        await releases.commit("1.1.0")
        await releases.until_version(3, "1.1.0")
        await running.idle()
        await world.delete("helm.toolkit.fluxcd.io/v2", "HelmRelease", "web")
        await world.until_gone("helm.toolkit.fluxcd.io/v2", "HelmRelease", "web")
        assert await world.data("web") is None
        assert await releases.statuses() == []
        assert await world.get("source.toolkit.fluxcd.io/v1", "HelmChart", f"{world.namespace}-web") is None


async def test_a_release_that_is_made_anew_while_its_chart_goes_gets_a_new_one(world: World) -> None:
    """Its HelmChart has a finalizer, so that it is still there for a moment when the next is wanted."""
    releases = Releases(world)
    await releases.commit("1.0.0")
    async with world.daemon():
        await world.source()
        await releases.release()
        await releases.until_version(1)
        name = f"{world.namespace}-web"
        await world.patch(
            SOURCE, "HelmChart", name, {"metadata": {"finalizers": ["finalizers.fluxcd.io", "test/keep"]}}
        )
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        await releases.release(values={"colour": "anew"})
        await releases.until(lambda obj: "is being deleted" in str(obj.get("status")), "waits")
        await world.patch(SOURCE, "HelmChart", name, {"metadata": {"finalizers": []}})
        await releases.until_version(1)
        assert (await world.data("web") or {})["colour"] == "anew"
