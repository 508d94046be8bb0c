"""HelmRepository and HelmChart on real servers: an index is read, charts are pulled and made (contract 2.6, 2.7)."""

import base64
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio.to_thread
import pytest
import yaml

from tests.e2e.world import SOURCE, Running, World, condition, config_map, failed, is_ready
from tests.oracles.helm import helm
from tests.servers.chart_server import ChartServer, chart_server
from tests.servers.oci_registry import PASSWORD, USER, OciRegistry, oci_registry
from tests.sources.helm.conftest import package, write_chart
from tests.sources.oci.conftest import require_registry
from tests.sources.oci.test_signatures import OURS, THEIRS, pem, push_simple, sign, simple_payload
from tidelog.engine.http.server import serving as serving_http
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.passes.sources import helm_chart
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.engine.sources.helm import package as package_chart
from tidelog.engine.sources.oci.answers import Reach
from tidelog.engine.sources.oci.registry import Registry
from tidelog.events.vocabulary import InputChanged, RevisionFetched
from tidelog.events.vocabulary.fetch import Signature
from tidelog.storage.layout import Layout

CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
CHART_CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions of a chart, packaged by helm."""
    home, root = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("charts")
    podinfo = write_chart(home, "podinfo", "0.0.0", prod_yaml="replicas: 7\n")
    for version in ("6.0.0", "6.1.0", "7.0.0-beta.1"):
        package(podinfo, root, home, version)
    helm("repo", "index", root, home=home)
    return root


@pytest.fixture
def charts(made: Path, tmp_path: Path) -> Iterator[ChartServer]:
    """A repository of the test's own, over HTTPS, for who has its password."""
    root = tmp_path / "charts"
    root.mkdir()
    for file in made.iterdir():
        (root / file.name).write_bytes(file.read_bytes())
    with chart_server(root) as running:
        running.behaviour.username, running.behaviour.password = USER, PASSWORD
        yield running


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    """For the user alone, over TLS."""
    require_registry()
    with oci_registry(tmp_path_factory.mktemp("registry"), auth="basic", tls=True) as running:
        yield running


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[Running]:
    """A daemon that serves artifacts over HTTP."""
    async with (
        world.daemon(storage_addr="127.0.0.1:0") as running,
        serving_http(running.daemon, Metrics(), world.store),
    ):
        yield running


async def secret(world: World, name: str, **data: bytes) -> None:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    await world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded})


async def repository(world: World, charts: ChartServer, **spec: Any) -> None:
    await secret(world, "login", username=USER.encode(), password=PASSWORD.encode())
    await secret(world, "certs", ca_crt=charts.ca.encode())
    given = {"url": charts.url, "interval": "1h", "secretRef": {"name": "login"}, "certSecretRef": {"name": "certs"}}
    metadata = {"name": "charts"}
    await world.apply({"apiVersion": SOURCE, "kind": "HelmRepository", "metadata": metadata, "spec": given | spec})


async def of_registry(world: World, registry: OciRegistry) -> None:
    await secret(world, "login", username=USER.encode(), password=PASSWORD.encode())
    await secret(world, "certs", ca_crt=registry.ca)
    spec = {
        "type": "oci",
        "url": registry.url(world.namespace),
        "secretRef": {"name": "login"},
        "certSecretRef": {"name": "certs"},
    }
    metadata = {"name": "charts"}
    await world.apply({"apiVersion": SOURCE, "kind": "HelmRepository", "metadata": metadata, "spec": spec})


async def chart(world: World, name: str = "podinfo", **spec: Any) -> None:
    given = {"chart": "podinfo", "interval": "1h", "sourceRef": {"kind": "HelmRepository", "name": "charts"}}
    metadata = {"name": name}
    await world.apply({"apiVersion": SOURCE, "kind": "HelmChart", "metadata": metadata, "spec": given | spec})


async def ready(world: World, kind: str, name: str, **status: Any) -> KubeObject:
    def holds(obj: KubeObject | None) -> bool:
        return obj is not None and is_ready(obj) and status.items() <= obj["status"].items()

    found = await world.until(SOURCE, kind, name, holds, f"ready {status}")
    assert found is not None
    return found


async def served(obj: KubeObject, url: str = "") -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url or obj["status"]["artifact"]["url"]) as answer:
        assert answer.status == 200, answer.url
        return await answer.read()


async def test_an_index_and_a_chart_of_it(world: World, charts: ChartServer) -> None:
    index = (charts.root / "index.yaml").read_bytes()
    archive = (charts.root / "podinfo-6.1.0.tgz").read_bytes()
    async with serving(world) as running:
        await chart(world, version="6.x")
        await world.until(
            SOURCE, "HelmChart", "podinfo", lambda obj: obj is not None and failed("SourceUnavailable")(obj)
        )
        await repository(world, charts)
        found = await ready(world, "HelmRepository", "charts")
        artifact = found["status"]["artifact"]
        checksum = hashlib.sha256(index).hexdigest()
        assert artifact["revision"] == f"sha256:{checksum}"
        assert artifact["path"] == f"helmrepository/{world.namespace}/charts/index-{checksum}.yaml"
        assert condition(found, "Ready")["message"] == f"stored artifact: revision 'sha256:{checksum}'"
        assert found["status"]["url"].endswith("/charts/index.yaml")
        content = await served(found)
        assert artifact["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert {one["version"] for one in json.loads(content)["entries"]["podinfo"]} == {
            "6.0.0",
            "6.1.0",
            "7.0.0-beta.1",
        }
        assert await served(found, found["status"]["url"]) == content
        await world.until_told(
            "charts", "NewArtifact", f"stored fetched index of size {len(index)} from", kind="HelmRepository"
        )
        pulled = await ready(world, "HelmChart", "podinfo")
        assert condition(pulled, "Ready")["message"] == "pulled 'podinfo' chart with version '6.1.0'"
        assert condition(pulled, "Ready")["reason"] == "ChartPullSucceeded"
        assert pulled["status"]["artifact"]["path"] == f"helmchart/{world.namespace}/podinfo/podinfo-6.1.0.tgz"
        assert pulled["status"]["observedChartName"] == "podinfo"
        assert pulled["status"]["observedSourceArtifactRevision"] == f"sha256:{checksum}"
        assert await served(pulled) == archive
        await world.until_told("podinfo", "ChartPullSucceeded", "version '6.1.0'", kind="HelmChart")
        await running.idle()


async def test_a_new_version_in_the_index_is_pulled_and_an_old_index_not_read_again(
    world: World, charts: ChartServer, tmp_path: Path
) -> None:
    async with serving(world) as running:
        await repository(world, charts)
        await chart(world)
        await ready(world, "HelmChart", "podinfo", observedChartName="podinfo")
        token = await world.ask("HelmRepository", "charts")
        await ready(world, "HelmRepository", "charts", lastHandledReconcileAt=token)
        stream = running.stream("HelmRepository", "charts")
        assert len(running.events(RevisionFetched, stream=stream)) == 1

        def publish() -> None:
            package(write_chart(tmp_path, "podinfo", "0.0.0"), charts.root, tmp_path, "6.2.0")
            helm("repo", "index", charts.root, home=tmp_path)

        await anyio.to_thread.run_sync(publish)
        await world.ask("HelmRepository", "charts")
        found = await world.until(
            SOURCE,
            "HelmChart",
            "podinfo",
            lambda obj: obj is not None and obj["status"]["artifact"]["revision"] == "6.2.0",
        )
        assert found is not None
        assert await served(found) == (charts.root / "podinfo-6.2.0.tgz").read_bytes()


async def test_an_index_that_is_lost_while_the_daemon_runs_is_fetched_again(world: World, charts: ChartServer) -> None:
    async with serving(world) as running:
        await repository(world, charts)
        await chart(world, version="6.1.0")
        found = await ready(world, "HelmRepository", "charts")
        await ready(world, "HelmChart", "podinfo")
        name = f"*{found['status']['artifact']['digest'].partition(':')[2]}*"
        (kept,) = await anyio.to_thread.run_sync(lambda: list(Layout(world.store).artifacts.rglob(name)))
        await anyio.to_thread.run_sync(kept.unlink)
        await chart(world, version="6.0.0")
        again = await ready(world, "HelmChart", "podinfo", observedGeneration=2)
        assert again["status"]["artifact"]["revision"] == "6.0.0"
        assert await served(found) != b""
        await running.idle()


async def test_values_files_make_another_chart(world: World, charts: ChartServer, tmp_path: Path) -> None:
    async with serving(world):
        await repository(world, charts)
        await chart(world, version="6.0.0", valuesFiles=["values.yaml", "prod.yaml"])
        found = await ready(world, "HelmChart", "podinfo")
        assert found["status"]["artifact"]["revision"] == "6.0.0+1"
        assert "observedValuesFiles" not in found["status"], "all of them were there"
        words = "packaged 'podinfo' chart with version '6.0.0+1' and merged values files [values.yaml prod.yaml]"
        assert condition(found, "Ready")["message"] == words
        archive = tmp_path / "made.tgz"
        archive.write_bytes(await served(found))
        values = await anyio.to_thread.run_sync(lambda: helm("show", "values", archive, home=tmp_path))
        assert "replicas: 7" in str(values)
        # Another generation.
        await chart(world, version="6.0.0", valuesFiles=["./prod.yaml", "no.yaml"], ignoreMissingValuesFiles=True)
        again = await ready(world, "HelmChart", "podinfo", observedGeneration=2)
        assert again["status"]["artifact"]["revision"] == "6.0.0+2"
        assert again["status"]["observedValuesFiles"] == ["./prod.yaml"]


async def test_a_chart_of_a_git_repository_follows_its_version(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    async def counted(*arguments: Any, **rest: Any) -> Any:
        made.append(arguments)
        return await package_chart(*arguments, **rest)

    monkeypatch.setattr(helm_chart, "package", counted)

    def files(version: str, n: str) -> dict[str, str]:
        return {
            "charts/web/Chart.yaml": f"apiVersion: v2\nname: web\nversion: {version}\n",
            "charts/web/templates/a.yaml": config_map("a", n=n),
        }

    world.commit(files("1.0.0", "1"))
    async with serving(world) as running:
        await world.source()
        await chart(world, "web", chart="./charts/web", sourceRef={"kind": "GitRepository", "name": "fleet"})
        first = await ready(world, "HelmChart", "web")
        assert first["status"]["artifact"]["revision"] == "1.0.0"
        assert condition(first, "Ready")["reason"] == "ChartPackageSucceeded"
        assert first["status"]["observedSourceArtifactRevision"] == world.revision
        archive = tmp_path / "web.tgz"
        archive.write_bytes(await served(first))
        shown = await anyio.to_thread.run_sync(lambda: helm("template", archive, home=tmp_path))
        assert '"n": "1"' in str(shown)
        await world.push(files("1.0.0", "2"))  # the chart's version says that nothing is new (HC-005)
        found = await ready(world, "HelmChart", "web", observedSourceArtifactRevision=world.revision)
        assert found["status"]["artifact"] == first["status"]["artifact"]
        await running.idle()
        assert len(made) == 2
        await world.ask("HelmChart", "web")
        await world.until(
            SOURCE, "HelmChart", "web", lambda obj: obj is not None and "lastHandledReconcileAt" in obj["status"]
        )
        assert len(made) == 2, "what was looked at is not packaged anew"
        await world.push(files("1.1.0", "3"))
        await world.until(
            SOURCE,
            "HelmChart",
            "web",
            lambda obj: obj is not None and obj["status"]["artifact"]["revision"] == "1.1.0",
        )
        stream = running.stream("HelmChart", "web")
        assert len(running.events(RevisionFetched, stream=stream)) == 2


async def test_a_chart_of_a_tree_depends_on_charts_of_a_registry(
    world: World, registry: OciRegistry, made: Path
) -> None:
    def push() -> None:
        for version in ("6.0.0", "6.1.0"):
            archive = (made / f"podinfo-{version}.tgz").read_bytes()
            registry.push(
                f"{world.namespace}/podinfo", (CHART_CONTENT, archive), tag=version, config=(CHART_CONFIG, b"{}")
            )

    await anyio.to_thread.run_sync(push)
    wanted = [
        {"name": "podinfo", "version": ">=6.0.0", "repository": registry.url(world.namespace)},
        {"name": "podinfo", "version": "6.0.0", "repository": f"{registry.url(world.namespace)}/", "alias": "old"},
    ]
    made_of = {"apiVersion": "v2", "name": "web", "version": "1.0.0", "dependencies": wanted}
    world.commit({"charts/web/Chart.yaml": json.dumps(made_of)})
    async with serving(world):
        await world.source()
        await chart(world, "web", chart="charts/web", sourceRef={"kind": "GitRepository", "name": "fleet"})
        refused = failed("DependencyBuildError", "certificate of its authority")
        await world.until(SOURCE, "HelmChart", "web", lambda obj: obj is not None and refused(obj), "refused")
        await of_registry(world, registry)  # whose Secrets are used for its address
        await world.ask("HelmChart", "web")
        found = await ready(world, "HelmChart", "web")
        with tarfile.open(fileobj=io.BytesIO(await served(found))) as archive:
            versions = {
                name: yaml.safe_load(archive.extractfile(f"web/charts/{name}/Chart.yaml") or b"")["version"]
                for name in ("podinfo", "old")
            }
        assert versions == {"podinfo": "6.1.0", "old": "6.0.0"}


async def test_secrets_of_all_dependencies_of_a_chart_stay_watched(
    world: World, charts: ChartServer, registry: OciRegistry, made: Path
) -> None:
    """HC-012: each may be changed, whichever was read first."""
    archive = (made / "podinfo-6.0.0.tgz").read_bytes()
    name = f"{world.namespace}/podinfo"
    await anyio.to_thread.run_sync(
        lambda: registry.push(name, (CHART_CONTENT, archive), tag="6.0.0", config=(CHART_CONFIG, b"{}"))
    )
    wanted = [
        {"name": "podinfo", "version": "6.0.0", "repository": charts.url},
        {"name": "podinfo", "version": "6.0.0", "repository": registry.url(world.namespace), "alias": "other"},
    ]
    made_of = {"apiVersion": "v2", "name": "web", "version": "1.0.0", "dependencies": wanted}
    world.commit({"charts/web/Chart.yaml": json.dumps(made_of)})
    async with serving(world) as running:
        await world.source()
        await repository(world, charts)
        await ready(world, "HelmRepository", "charts")
        await secret(world, "registry-login", username=USER.encode(), password=PASSWORD.encode())
        await secret(world, "registry-certs", ca_crt=registry.ca)
        spec = {
            "type": "oci",
            "url": registry.url(world.namespace),
            "secretRef": {"name": "registry-login"},
            "certSecretRef": {"name": "registry-certs"},
        }
        metadata = {"name": "registry"}
        await world.apply({"apiVersion": SOURCE, "kind": "HelmRepository", "metadata": metadata, "spec": spec})
        await chart(world, "web", chart="charts/web", sourceRef={"kind": "GitRepository", "name": "fleet"})
        await ready(world, "HelmChart", "web")
        await running.idle()
        for name in ("login", "certs", "registry-login", "registry-certs"):
            await world.patch("v1", "Secret", name, {"metadata": {"annotations": {"changed": "now"}}})
            await running.until_event(
                InputChanged,
                stream=running.stream("HelmChart", "web"),
                where=_is_about(name),
            )


def _is_about(name: str) -> Callable[[InputChanged], bool]:
    return lambda event: event.object.endswith(f"/{name}")


async def test_an_exact_version_of_a_chart_needs_no_list_of_the_tags_of_a_registry(
    world: World, registry: OciRegistry, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HC-002: only of a range all are asked for; of what a chart of a tree depends on too."""
    archive, name = (made / "podinfo-6.0.0.tgz").read_bytes(), f"{world.namespace}/podinfo"
    await anyio.to_thread.run_sync(
        lambda: registry.push(name, (CHART_CONTENT, archive), tag="6.0.0", config=(CHART_CONFIG, b"{}"))
    )
    lists: list[str] = []
    tags = Registry.tags

    async def counted(self: Registry, reach: Reach) -> list[str]:
        lists.append("tags")
        return await tags(self, reach)

    monkeypatch.setattr(Registry, "tags", counted)
    wanted = [{"name": "podinfo", "version": "6.0.0", "repository": registry.url(world.namespace)}]
    made_of = {"apiVersion": "v2", "name": "web", "version": "1.0.0", "dependencies": wanted}
    world.commit({"charts/web/Chart.yaml": json.dumps(made_of)})
    async with serving(world) as running:
        await world.source()
        await of_registry(world, registry)
        await chart(world, version="6.0.0")
        await chart(world, "web", chart="charts/web", sourceRef={"kind": "GitRepository", "name": "fleet"})
        for made_here in ("podinfo", "web"):
            await ready(world, "HelmChart", made_here)
        await world.ask("HelmChart", "podinfo")
        await running.idle()
        assert lists == []
        await chart(world, version="6.x")
        await ready(world, "HelmChart", "podinfo")
        await running.idle()
        assert lists


async def test_a_chart_of_a_registry(world: World, registry: OciRegistry, made: Path) -> None:
    archive = (made / "podinfo-6.0.0.tgz").read_bytes()

    def push() -> None:
        for tag in ("6.0.0", "5.0.0"):
            registry.push(f"{world.namespace}/podinfo", (CHART_CONTENT, archive), tag=tag, config=(CHART_CONFIG, b"{}"))

    await anyio.to_thread.run_sync(push)
    async with serving(world) as running:
        await of_registry(world, registry)
        await chart(world, version=">=5")
        found = await ready(world, "HelmChart", "podinfo")
        assert found["status"]["artifact"]["revision"] == "6.0.0"
        assert await served(found) == archive
        await running.idle()
        static = await world.get(SOURCE, "HelmRepository", "charts")
        assert static is not None
        assert "finalizers" not in static["metadata"]
        assert static["status"] == {}


async def test_who_waits_for_a_registry_waits_for_nothing(world: World) -> None:
    """HP-002: the server says of a new object that nobody has looked at it; of what is static, that has to go."""
    spec = {"type": "oci", "url": "oci://registry.example.org/charts"}
    registry = {"apiVersion": SOURCE, "kind": "HelmRepository", "metadata": {"name": "charts"}, "spec": spec}
    world.commit({"app/repository.yaml": json.dumps(registry)})
    async with world.daemon():
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, wait=True, timeout="30s")
        await world.until_applied("app")
        static = await world.get(SOURCE, "HelmRepository", "charts")
        assert static is not None
        assert static["status"] == {}


async def test_a_repository_that_becomes_a_registry_keeps_neither_status_nor_finalizer(
    world: World, charts: ChartServer
) -> None:
    """HP-002, CM-054: and what was of its index is there again when it goes back."""
    async with serving(world) as running:
        await repository(world, charts)
        was = await ready(world, "HelmRepository", "charts")
        assert was["metadata"]["finalizers"] == ["finalizers.fluxcd.io"]

        async def becomes(**spec: Any) -> None:
            await world.patch(SOURCE, "HelmRepository", "charts", {"spec": spec})

        await becomes(type="oci", url="oci://registry.example.org/charts", suspend=True)
        await running.idle()
        left = await world.get(SOURCE, "HelmRepository", "charts")
        assert left is not None
        assert left["status"]["artifact"] == was["status"]["artifact"]  # suspended, it stays as it is
        await becomes(suspend=None)

        def is_static(obj: KubeObject | None) -> bool:
            return obj is not None and not obj["status"] and "finalizers" not in obj["metadata"]

        await world.until(SOURCE, "HelmRepository", "charts", is_static, "static")
        await becomes(type=None, url=charts.url)
        again = await ready(world, "HelmRepository", "charts", observedGeneration=4)
        assert again["status"]["artifact"]["digest"] == was["status"]["artifact"]["digest"]
        assert again["metadata"]["finalizers"] == ["finalizers.fluxcd.io"]
        await world.delete(SOURCE, "HelmRepository", "charts")
        await world.until_gone(SOURCE, "HelmRepository", "charts")


async def test_a_chart_of_a_registry_is_not_taken_until_somebody_signed_it_whose_key_is_known(
    world: World, registry: OciRegistry, made: Path
) -> None:
    name, archive = f"{world.namespace}/podinfo", (made / "podinfo-6.0.0.tgz").read_bytes()

    def push() -> str:
        return registry.push(name, (CHART_CONTENT, archive), tag="6.0.0", config=(CHART_CONFIG, b"{}")).digest

    digest = await anyio.to_thread.run_sync(push)
    await secret(world, "keys", cosign_pub=pem(OURS))
    async with serving(world) as running:
        await of_registry(world, registry)
        await chart(world, version="6.0.0", verify={"provider": "cosign", "secretRef": {"name": "none"}})
        await world.until(
            SOURCE,
            "HelmChart",
            "podinfo",
            lambda obj: obj is not None and failed("VerificationError", "no Secret")(obj),
        )
        await chart(world, version="6.0.0", verify={"provider": "cosign", "secretRef": {"name": "keys"}})
        refused = await world.until(
            SOURCE, "HelmChart", "podinfo", lambda obj: obj is not None and failed("VerificationError", "sign it")(obj)
        )
        assert refused is not None
        assert condition(refused, "SourceVerified")["status"] == "False"
        told = condition(refused, "BuildFailed")
        assert (told["status"], told["reason"]) == ("True", "ChartVerificationError")
        assert told["message"].startswith("chart verification error: ")
        assert "artifact" not in refused["status"]
        payload = simple_payload(digest)
        await anyio.to_thread.run_sync(push_simple, registry, name, digest, payload, sign(OURS, payload))
        await world.ask("HelmChart", "podinfo")
        verified = await ready(world, "HelmChart", "podinfo")
        told = condition(verified, "SourceVerified")
        assert (told["status"], told["reason"]) == ("True", "Succeeded")
        assert told["message"] == "verified signature of version 6.0.0"
        assert await served(verified) == archive
        (fetched,) = running.events(RevisionFetched, stream=running.stream("HelmChart", "podinfo"))
        assert isinstance(fetched, RevisionFetched)
        assert fetched.signature == Signature(kind="cosign", key="cosign.pub", verdict="valid")
        # A key that is taken back counts at the next pass; what was taken stays.
        await secret(world, "keys", cosign_pub=pem(THEIRS))
        await world.ask("HelmChart", "podinfo")
        refused = await world.until(
            SOURCE, "HelmChart", "podinfo", lambda obj: obj is not None and failed("VerificationError", "none of")(obj)
        )
        assert refused is not None
        assert refused["status"]["artifact"]["revision"] == "6.0.0"


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"version": "9.x"}, "InvalidChartReference", "9.x"),
        ({"chart": "nothing"}, "InvalidChartReference", "nothing"),
        ({"chart": "No Name"}, "InvalidChartReference", "no name of a chart"),
        ({"valuesFiles": ["none.yaml"]}, "ValuesFilesError", "none.yaml"),
        ({"verify": {"provider": "notation"}}, "UnsupportedFeature", "spec.verify.provider"),
        (
            {"verify": {"provider": "cosign", "secretRef": {"name": "keys"}}},
            "VerificationError",
            "a Helm repository over HTTP",
        ),
        ({"sourceRef": {"kind": "Bucket", "name": "nowhere"}}, "SourceUnavailable", "nowhere"),
    ],
    ids=[
        "no such version",
        "no such chart",
        "no name",
        "no such file",
        "notation",
        "signatures over HTTP",
        "no source",
    ],
)
async def test_a_chart_that_cannot_be_had_is_told(
    world: World, charts: ChartServer, spec: dict[str, Any], reason: str, words: str
) -> None:
    async with serving(world):
        await repository(world, charts)
        await ready(world, "HelmRepository", "charts")
        await chart(world, **spec)
        found = await world.until(
            SOURCE, "HelmChart", "podinfo", lambda obj: obj is not None and failed(reason, words)(obj), reason
        )
        assert found is not None
        if reason == "InvalidChartReference":
            assert condition(found, "FetchFailed")["reason"] == reason


async def test_an_index_that_cannot_be_had_is_told(world: World, charts: ChartServer) -> None:
    charts.behaviour.password = "another"
    async with serving(world):
        await repository(world, charts)
        found = await world.until(
            SOURCE, "HelmRepository", "charts", lambda obj: obj is not None and failed("AuthenticationFailed")(obj)
        )
        assert PASSWORD not in json.dumps(found)
        charts.behaviour.password = PASSWORD
        await world.ask("HelmRepository", "charts")
        await ready(world, "HelmRepository", "charts")
