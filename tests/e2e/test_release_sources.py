"""Releases whose charts come from a registry, another controller, or a bucket (contract HR-004, HR-010, HR-067)."""

from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
import pytest

from tests.e2e.releases import CONFIG_MAP, Releases, chart, told
from tests.e2e.test_external_artifacts import producing
from tests.e2e.test_other_sources import of_registry, of_store, pull_secret, put
from tests.e2e.world import SOURCE, World, condition, failed
from tests.helm.charts import below, packed
from tests.servers.oci_registry import OciRegistry, oci_registry
from tests.servers.s3_server import S3Server, s3_server
from tests.sources.oci.conftest import require_registry
from tidelog.engine.helm.pool import WORKERS
from tidelog.events.vocabulary import ReleaseActionStarted, RevisionFetched

CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART_CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    """For the user alone, over TLS."""
    require_registry()
    with oci_registry(tmp_path_factory.mktemp("registry"), auth="basic", tls=True) as running:
        yield running


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """For who has its keys, over TLS."""
    directory: Path = tmp_path_factory.mktemp("s3")
    with s3_server(directory / "server", tls=True) as running:
        yield running


def archive(version: str, text: str = "") -> bytes:
    """The chart, as `helm package` packs it."""
    files = {path.removeprefix("charts/web/"): str(data) for path, data in chart(version).items()}
    return packed("web", files | ({"templates/more.yaml": text} if text else {}))


async def push(releases: Releases, registry: OciRegistry, tag: str, data: bytes) -> str:
    """Puts a chart into the registry as `helm push` does; returns the digest of its manifest."""

    def pushed() -> str:
        layer = (CHART_CONTENT, data)
        return registry.push(releases.world.namespace, layer, tag=tag, config=(CHART_CONFIG, b"{}")).digest

    return await anyio.to_thread.run_sync(pushed)


def with_digest(version: str, digest: str) -> str:
    """A version, as a chart of a registry has it."""
    return f"{version}+{digest.removeprefix('sha256:')[:12]}"


@pytest.fixture
def releases(world: World) -> Releases:
    return Releases(world)


async def test_a_chart_of_a_registry_is_released_under_its_digest_and_its_tag_followed(
    releases: Releases, registry: OciRegistry
) -> None:
    world = releases.world
    first = await push(releases, registry, "1.0.0", archive("1.0.0"))
    await pull_secret(world, registry)
    async with world.daemon() as running:
        selector = {"mediaType": CHART_CONTENT, "operation": "copy"}
        await of_registry(world, registry, ref={"semver": "1.x"}, layerSelector=selector)
        await releases.release(chartRef={"kind": "OCIRepository", "name": "src"})
        found = await releases.until_version(1)
        (snapshot,) = found["status"]["history"]
        assert (snapshot["chartVersion"], snapshot["ociDigest"]) == (with_digest("1.0.0", first), first)
        assert found["status"]["lastAttemptedRevision"] == with_digest("1.0.0", first)
        assert found["status"]["lastAttemptedRevisionDigest"] == first
        assert "helmChart" not in found["status"]
        assert await world.data("web") == {"colour": "red", "version": with_digest("1.0.0", first), "revision": "1"}
        assert await world.get(SOURCE, "HelmChart", f"{world.namespace}-web") is None
        # The same version, with another content: an upgrade, since the digest is another.
        again = await push(releases, registry, "1.0.0", archive("1.0.0", "# another"))
        await world.ask("OCIRepository", "src")
        await releases.until_version(2, with_digest("1.0.0", again))
        newer = await push(releases, registry, "1.1.0", archive("1.1.0"))
        await world.ask("OCIRepository", "src")
        found = await releases.until_version(3, with_digest("1.1.0", newer))
        assert [one["ociDigest"] for one in found["status"]["history"]] == [newer, again]
        assert told(found)["Released"] == ("True", "UpgradeSucceeded")
        await running.idle()
        actions = [one.action for one in running.events(ReleaseActionStarted) if isinstance(one, ReleaseActionStarted)]
        assert actions == ["install", "upgrade", "upgrade"]


async def test_a_tag_that_says_another_version_than_its_chart_is_refused(
    releases: Releases, registry: OciRegistry
) -> None:
    world = releases.world
    await push(releases, registry, "2.0.0", archive("1.0.0"))
    await pull_secret(world, registry)
    async with world.daemon():
        selector = {"mediaType": CHART_CONTENT, "operation": "copy"}
        await of_registry(world, registry, ref={"tag": "2.0.0"}, layerSelector=selector)
        await releases.release(chartRef={"kind": "OCIRepository", "name": "src"})
        await releases.until(failed("ChartMutateError", "2.0.0 does not match chart version 1.0.0"), "refused")
        assert await releases.statuses() == []
        right = await push(releases, registry, "2.0.0", archive("2.0.0"))
        await world.ask("OCIRepository", "src")
        await releases.until_version(1, with_digest("2.0.0", right))


async def test_a_chart_that_another_controller_makes_is_released_and_followed(releases: Releases) -> None:
    world = releases.world
    async with producing(world) as producer, world.daemon():
        await releases.release(chartRef={"kind": "ExternalArtifact", "name": "made"})
        await releases.until(failed("SourceNotReady", "made"), "waiting")
        digest = "sha256:" + "a1" * 32
        await producer.offer(f"latest@{digest}", archive("1.0.0"))
        found = await releases.until_version(1, with_digest("1.0.0", digest))
        assert found["status"]["history"][0]["ociDigest"] == f"latest@{digest}"
        newer = "sha256:" + "b2" * 32
        await producer.offer(f"latest@{newer}", archive("1.1.0"))
        await releases.until_version(2, with_digest("1.1.0", newer))
        assert (await world.data("web") or {})["version"] == with_digest("1.1.0", newer)
        # Without a digest it is the chart's own version.
        await producer.offer("main", archive("1.2.0"))
        found = await releases.until_version(3)
        assert found["status"]["history"][0]["chartVersion"] == "1.2.0"
        # What is no chart changes nothing, and is told.
        await producer.offer("broken", packed("web", {"README.md": "no chart"}))
        await releases.until(failed("ArtifactFailed", "Could not load chart"), "refused")
        assert (await world.data("web") or {})["version"] == "1.2.0"


async def test_a_chart_in_a_bucket_is_packaged_and_released(releases: Releases, store: S3Server) -> None:
    world = releases.world
    async with world.daemon(storage_addr="127.0.0.1:0"):
        bucket = await of_store(world, store)

        async def upload(version: str) -> None:
            for path, data in chart(version).items():
                await put(store, bucket, path, str(data))
            await world.ask("Bucket", "src")

        await upload("1.0.0")
        template = {"chart": "charts/web", "sourceRef": {"kind": "Bucket", "name": "src"}}
        await releases.release(chart={"spec": template})
        await releases.until_version(1, "1.0.0")
        made = await world.get(SOURCE, "HelmChart", f"{world.namespace}-web")
        assert made is not None
        message = condition(made, "Ready")["message"]
        assert message == "packaged 'web' chart with version '1.0.0'"
        await upload("1.1.0")
        await releases.until_version(2, "1.1.0")
        assert (await world.data("web") or {})["version"] == "1.1.0"


async def test_a_chart_of_many_releases_is_fetched_once_and_parsed_once_by_each_worker(releases: Releases) -> None:
    world = releases.world
    parts = {
        "Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n",
        "values.yaml": "size: 1\n",
        "templates/map.yaml": CONFIG_MAP.replace("Release.Name }}", "Release.Name }}-sub").replace("colour", "size"),
    }
    sub = below("charts/web/charts/sub", parts)
    wanted = "dependencies:\n- {name: sub, version: '*', repository: '', condition: sub.enabled}\n"
    web = chart("1.0.0")
    world.change({**web, **sub, "charts/web/Chart.yaml": str(web["charts/web/Chart.yaml"]) + wanted})
    await world.source()
    names = [f"web-{number}" for number in range(12)]
    async with world.daemon() as running:
        spec = {"chart": "./charts/web", "interval": "1h", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}
        await world.apply({"apiVersion": SOURCE, "kind": "HelmChart", "metadata": {"name": "web"}, "spec": spec})
        for name in names:
            values = {"colour": name, "sub": {"size": len(name)}}
            await releases.release(name, chartRef={"kind": "HelmChart", "name": "web"}, values=values)
        for name in names:
            await releases.until_version(1, name=name)
            assert await world.data(f"{name}-sub") is not None
        await running.idle()
        assert len(running.events(RevisionFetched, stream=running.stream("HelmChart", "web"))) == 1
        assert 1 <= running.daemon.engine.helm.renderer.loads <= WORKERS
