"""What a release is rendered from, and what of its objects is secret."""

import base64
import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.helm.charts import head, packed
from tests.render.trees import MemoryTrees
from tidelog.engine.cluster.port import Kind
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.spec import Kustomize, PostRender, RenderJob
from tidelog.engine.helm.values import values_digest
from tidelog.engine.kinds.decode import decode
from tidelog.engine.kinds.helmrelease import HelmReleaseSpec, ValuesReference
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.render.spec import CommonMetadata, Image, Patch, Selector
from tidelog.engine.runtime.release_inputs import (
    ReleaseRendering,
    ReleaseValues,
    chart_file,
    post_render_of,
    read_values,
    release_objects,
    render_release,
)
from tidelog.engine.runtime.run import StageError
from tidelog.engine.secrecy.values import SecretValues
from tidelog.engine.sources.intake.intake import Intake
from tidelog.engine.sources.intake.jobs import Unpack
from tidelog.events.digest import KEYED, PLAIN, Digest
from tidelog.events.names import ObjectKey, Revision, StreamName
from tidelog.storage.artifacts import ArtifactStore
from tidelog.storage.keys import DataKey

OWNER_KEY = ObjectKey("helm.toolkit.fluxcd.io", "HelmRelease", "shop", "web")
USER = OWNER_KEY.stream("east")
PASSWORD = "Tr0ub4dor-and-3"
SECRET = ValuesReference(kind="Secret", name="creds")
OWNER = {"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "shop"}
POST = PostRender(OWNER)
STEP = Kustomize(images=(Image("web", new_tag="2"),))
CHART = {
    "Chart.yaml": head("web"),
    "values.yaml": "password: default\n",
    "templates/map.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata: {name: hashed}
data: {a: {{ .Values.password | sha256sum }}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: open}
data: {a: b}
""",
    "templates/web.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {template: {spec: {containers: [{name: c, image: "web:1", args: [{{ .Values.password | b64enc | quote }}]}]}}}
""",
    "templates/NOTES.txt": "{{ .Values.password | upper }}",
    "crds/a.yaml": """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: as.example.org}
""",
}


class Live:
    """ConfigMaps and Secrets, and who asked for them."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, KubeObject] = {}
        self.asked: list[tuple[StreamName, str]] = []
        self.seed = 1

    def secret(self, name: str = "creds", **data: str) -> None:
        encoded = {key.replace("_", "."): base64.b64encode(text.encode()).decode() for key, text in data.items()}
        self.objects[ObjectKey("", "Secret", "shop", name)] = {"data": encoded}

    def config_map(self, name: str, **data: str) -> None:
        texts = {key.replace("_", "."): text for key, text in data.items()}
        self.objects[ObjectKey("", "ConfigMap", "shop", name)] = {"data": texts}

    async def get(self, user: StreamName, key: ObjectKey) -> KubeObject | None:
        self.asked.append((user, key.id))
        return self.objects.get(key)

    async def key(self, stream: StreamName) -> DataKey:
        return DataKey(stream, f"{self.seed:02x}" * 16, bytes([self.seed]) * 32, {})

    async def values(self, *references: ValuesReference, handed: tuple[str, ...] = (), **inline: Any) -> ReleaseValues:
        return await read_values(self, USER, "shop", references, inline, self.key, handed)


class Kinds:
    async def find_kind(self, group: str, kind: str) -> Kind | None:
        namespaced = kind != "CustomResourceDefinition"
        return Kind(group, "v1", kind, kind.lower(), namespaced=namespaced)


@pytest.fixture
def live() -> Live:
    return Live()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.open(tmp_path / "store")


@pytest.fixture
async def charts(store: ArtifactStore, tmp_path: Path) -> AsyncIterator[ChartRenderer]:
    async with ChartRenderer([store.tarballs, tmp_path / "charts"], workers=1) as made:
        yield made


@pytest.fixture
async def renderer() -> AsyncIterator[Renderer]:
    async with Renderer(MemoryTrees()) as made:
        yield made


@pytest.fixture
def job(tmp_path: Path) -> RenderJob:
    path = tmp_path / "charts" / "web.tgz"
    path.parent.mkdir()
    path.write_bytes(packed("web", CHART))
    return RenderJob(str(path), "web", "shop")


# Values


async def test_values_are_merged_in_order_and_what_comes_from_secrets_is_known(live: Live) -> None:
    live.secret(values_yaml=f"password: {PASSWORD}\nreplicas: 12345\nflag: true\ngone: over-written\n")
    live.config_map("open", values_yaml="open: plain\ngone: shown\n")
    open_map = ValuesReference(kind="ConfigMap", name="open")
    found = await live.values(SECRET, open_map, inline={"a": 1})
    assert found.values == {
        "password": PASSWORD,
        "replicas": 12345,
        "flag": True,
        "gone": "shown",
        "open": "plain",
        "inline": {"a": 1},
    }
    assert found.stand_ins is not None
    changed = {name for name, value in found.values.items() if found.stand_ins[name] != value}
    assert changed == {"password", "replicas", "flag"}
    assert found.secret_values == ("12345", PASSWORD, "over-written")
    assert found.config_digest == values_digest(found.values)
    assert live.asked == [(USER, "core/Secret/shop/creds"), (USER, "core/ConfigMap/shop/open")]


async def test_digest_is_keyed_where_a_secret_was_read(live: Live) -> None:
    live.secret(values_yaml="pin: 7\n")
    keyed = await live.values(SECRET)
    plain = await live.values(pin=7)
    assert keyed.values == plain.values
    assert keyed.config_digest == plain.config_digest
    assert (keyed.digest.startswith(KEYED), plain.digest.startswith(PLAIN)) == (True, True)
    assert (await live.values(SECRET)).digest == keyed.digest
    live.seed = 2
    assert (await live.values(SECRET)).digest != keyed.digest
    hidden = await live.values(SECRET, pin=8)
    assert hidden.stand_ins is None, "the spec's own won"
    assert hidden.digest.startswith(KEYED)


async def test_text_at_a_target_path_is_secret(live: Live) -> None:
    live.secret(password=PASSWORD, port="'8080'")
    found = await live.values(
        ValuesReference(kind="Secret", name="creds", values_key="password", target_path="db.password"),
        ValuesReference(kind="Secret", name="creds", values_key="port", target_path="db.port"),
        db={"user": "app"},
    )
    assert found.values == {"db": {"user": "app", "password": PASSWORD, "port": "8080"}}
    assert found.stand_ins is not None
    assert found.stand_ins["db"]["user"] == "app"
    assert not found.stand_ins["db"].items() & {("password", PASSWORD), ("port", "8080")}
    assert found.secret_values == ("8080", PASSWORD)


async def test_what_was_handed_on_in_the_spec_is_secret(live: Live) -> None:
    found = await live.values(handed=("token-of-the-maker",), a="x-token-of-the-maker", b="open")
    assert found.stand_ins is not None
    assert (found.stand_ins["a"] != "x-token-of-the-maker", found.stand_ins["b"]) == (True, "open")
    assert found.digest.startswith(KEYED)
    assert "token-of-the-maker" in found.secret_values


async def test_what_is_missing_is_named_unless_it_is_optional(live: Live) -> None:
    live.secret(other="a: b")
    gone = ValuesReference(kind="ConfigMap", name="gone", optional=True)
    no_key = ValuesReference(kind="Secret", name="creds", optional=True)
    assert (await live.values(gone, no_key, a=1)).values == {"a": 1}
    with pytest.raises(StageError, match=r"ConfigMap 'shop/gone' with key 'values.yaml': it is not there; create"):
        await live.values(ValuesReference(kind="ConfigMap", name="gone"))
    with pytest.raises(StageError, match=r"Secret 'shop/creds' with key 'values.yaml': it has no such key") as caught:
        await live.values(SECRET)
    assert (caught.value.stage, caught.value.reason, caught.value.final) == ("render", "ValuesError", False)


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (f"- {PASSWORD}\n", {}),
        (f"a: [{PASSWORD}", {}),
        (PASSWORD, {}),
        (f"{PASSWORD},{PASSWORD}", {"target_path": "a.b"}),
        ("{" + PASSWORD, {"target_path": "a.b"}),
    ],
)
async def test_error_of_values_names_where_they_are_and_quotes_none(live: Live, text: str, how: Any) -> None:
    live.secret(values_yaml=text)
    with pytest.raises(StageError) as caught:
        await live.values(ValuesReference(kind="Secret", name="creds", **how))
    assert "Secret 'shop/creds' with key 'values.yaml'" in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


# Charts


async def taken(store: ArtifactStore, archive: Path, **how: Any) -> tuple[str, Digest]:
    async with Intake(store) as intake, intake.downloading() as download:
        os.link(archive, download.path)
        unpack = Unpack(path=str(download.path), form="archive", what="a chart", reason="ChartPackageError", **how)
        found = await download.take(Revision("1.2.3"), unpack)
        return found.tree, found.artifact


async def test_chart_is_rendered_from_the_file_that_the_store_keeps(
    store: ArtifactStore, charts: ChartRenderer, renderer: Renderer, live: Live, job: RenderJob
) -> None:
    tree, artifact = await taken(store, Path(job.chart), is_filtered=False, is_kept=True)
    path = await chart_file(store, tree, artifact)
    assert path.read_bytes() == await anyio.Path(job.chart).read_bytes()
    assert path.parent == store.tarballs
    await rendered_from(path, charts, renderer, live)

    path.unlink()
    again = await chart_file(store, tree, artifact)
    assert again.parent == store.tarballs
    with tarfile.open(fileobj=io.BytesIO(again.read_bytes())) as archive:
        assert "web/Chart.yaml" in archive.getnames()
    await rendered_from(again, charts, renderer, live)
    assert await chart_file(store, tree, artifact) == again, "one for all releases"


async def test_chart_of_a_layer_that_was_extracted_is_rendered_from_its_archive(
    store: ArtifactStore, charts: ChartRenderer, renderer: Renderer, live: Live, job: RenderJob
) -> None:
    tree, artifact = await taken(store, Path(job.chart))
    path = await chart_file(store, tree, artifact)
    assert path == store.tarball_path(artifact)
    await rendered_from(path, charts, renderer, live)


async def rendered_from(path: Path, charts: ChartRenderer, renderer: Renderer, live: Live) -> None:
    job = RenderJob(str(path), "web", "shop")
    found = await render_release(charts, renderer, job, await live.values(), POST, SecretValues())
    assert len(found.chart.manifests) == 3


# Rendering


def test_what_a_release_adds_is_read_from_its_spec() -> None:
    raw = {
        "interval": "1m",
        "chartRef": {"kind": "OCIRepository", "name": "web"},
        "commonMetadata": {"labels": {"a": "b"}},
        "postRenderStrategy": "separate",
        "postRenderers": [
            {},
            {"kustomize": {}},
            {"kustomize": {"images": [{"name": "web", "newTag": "2"}]}},
            {"kustomize": {"patches": [{"patch": "p", "target": {"kind": "Pod", "labelSelector": "l"}}]}},
        ],
    }
    assert post_render_of(decode(HelmReleaseSpec, raw), OWNER_KEY) == PostRender(
        OWNER,
        (STEP, Kustomize((Patch("p", Selector(kind="Pod", label_selector="l")),))),
        CommonMetadata({"a": "b"}, {}),
        "separate",
    )
    bare = {name: raw[name] for name in ("interval", "chartRef")}
    assert post_render_of(decode(HelmReleaseSpec, bare), OWNER_KEY) == PostRender(OWNER)


def secret_names(found: ReleaseRendering) -> set[str]:
    return {key.name for key in found.secrecy.manifests}


@pytest.mark.parametrize("post", [POST, PostRender(OWNER, (STEP,), CommonMetadata({"a": "b"}, {}))])
async def test_release_tells_which_of_its_objects_are_secret(
    charts: ChartRenderer, renderer: Renderer, live: Live, job: RenderJob, post: PostRender
) -> None:
    live.secret(values_yaml=f"password: {PASSWORD}\n")
    secrets = SecretValues()
    found = await render_release(charts, renderer, job, await live.values(SECRET), post, secrets)
    assert secret_names(found) == {"hashed", "web"}
    assert found.secrecy.notes
    assert secrets.holds(f"it is {PASSWORD}")
    wanted = await release_objects(found, Kinds(), OWNER_KEY, name="web", namespace="shop", crds="Create")
    assert [(one.key.id, one.secret) for one in wanted.objects] == [
        ("core/ConfigMap/shop/hashed", True),
        ("core/ConfigMap/shop/open", False),
        ("apps/Deployment/shop/web", True),
    ]
    web = wanted.objects[2].object
    assert web["spec"]["template"]["spec"]["containers"][0]["image"] == ("web:2" if post.kustomize else "web:1")
    assert web["metadata"]["labels"].items() >= {**OWNER, "app.kubernetes.io/managed-by": "Helm"}.items()
    assert [one.key.name for one in wanted.definitions] == ["as.example.org"]


async def test_nothing_is_rendered_twice_without_a_reason(
    charts: ChartRenderer, renderer: Renderer, live: Live, job: RenderJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[RenderJob] = []
    render = charts.render

    async def counted(job: RenderJob, *arguments: Any, **how: Any) -> Any:
        jobs.append(job)
        return await render(job, *arguments, **how)

    monkeypatch.setattr(charts, "render", counted)
    live.secret(values_yaml=f"password: {PASSWORD}\n")
    await render_release(charts, renderer, job, await live.values(password="x"), POST, SecretValues())
    assert len(jobs) == 1
    await render_release(charts, renderer, job, await live.values(SECRET, password="x"), POST, SecretValues())
    assert len(jobs) == 2
    await render_release(charts, renderer, job, await live.values(SECRET), POST, SecretValues())
    assert len(jobs) == 4
    assert PASSWORD.encode() not in jobs[3].values


async def test_all_is_secret_where_kustomize_refuses_the_stand_in(
    charts: ChartRenderer, renderer: Renderer, live: Live, tmp_path: Path
) -> None:
    files = {
        "Chart.yaml": head("web"),
        "templates/map.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Values.called }}}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n",
    }
    path = tmp_path / "charts" / "web.tgz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(packed("web", files))
    live.secret(values_yaml="called: nursery\n")
    patch = Patch("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nursery}\ndata: {a: b}\n")
    job = RenderJob(str(path), "web", "shop")
    post = PostRender(OWNER, (Kustomize((patch,)),))
    found = await render_release(charts, renderer, job, await live.values(SECRET), post, SecretValues())
    assert secret_names(found) == {"nursery", "other"}


async def test_error_of_a_release_quotes_no_secret(
    charts: ChartRenderer, renderer: Renderer, live: Live, job: RenderJob
) -> None:
    live.secret(values_yaml=f"password: [{PASSWORD}]\n")
    with pytest.raises(ChartError) as caught:
        await render_release(charts, renderer, job, await live.values(SECRET), POST, SecretValues())
    assert PASSWORD not in str(caught.value)
    live.secret(values_yaml=f"password: {PASSWORD}\n")
    bad = Patch(f"kind: Deployment\nmetadata: {{name: web}}\nspec: {PASSWORD}: x", Selector(kind="Deployment"))
    post = PostRender(OWNER, (Kustomize((bad,)),))
    with pytest.raises(ChartError, match="post-renderer failed") as caught:
        await render_release(charts, renderer, job, await live.values(SECRET), post, SecretValues())
    assert PASSWORD not in str(caught.value)
