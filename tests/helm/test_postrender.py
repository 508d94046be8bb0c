"""What a HelmRelease adds to a rendered chart."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.helm.charts import head, written
from tests.render.trees import MemoryTrees
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.postrender import (
    FILE,
    common_metadata_digest,
    post_rendered,
    post_renderers_digest,
)
from tidelog.engine.helm.sorting import joined, sorted_manifests, split
from tidelog.engine.helm.spec import Hook, Kustomize, Manifest, PostRender, RenderedChart, RenderJob, Strategy
from tidelog.engine.objects.kube import canonical_bytes
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.render.spec import CommonMetadata, Image, Patch, Selector
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.digest import digest_of

OWNER = {"helm.toolkit.fluxcd.io/name": "app", "helm.toolkit.fluxcd.io/namespace": "apps"}
DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {team: theirs, app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: "web:1"}]}}
"""
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n"
HOOK = """\
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, annotations: {helm.sh/hook: pre-install}}
spec: {template: {spec: {containers: [{name: c, image: "web:1"}]}}}
"""
LIST = "apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}]\n"


def chart(**files: str) -> RenderedChart:
    manifests, hooks = sorted_manifests({f"web/templates/{name}.yaml": text for name, text in files.items()})
    return RenderedChart({"name": "web"}, manifests, hooks, (), "")


async def nothing(files: Mapping[str, bytes]) -> str:
    raise AssertionError("kustomize was asked")


def contents(rendered: RenderedChart) -> dict[str, dict[str, Any]]:
    found: list[Manifest | Hook] = [*rendered.manifests, *rendered.hooks]
    return {f"{one.content['kind']}/{one.content['metadata']['name']}": one.content for one in found if one.content}


async def test_common_metadata_comes_first_and_the_owner_wins() -> None:
    common = CommonMetadata({"team": "ours", "helm.toolkit.fluxcd.io/name": "no"}, {"note": "n"})
    rendered = await post_rendered(
        chart(a=SERVICE + "---\n# only a comment\n", b=DEPLOYMENT, c=LIST), PostRender(OWNER, common=common), nothing
    )
    assert [manifest.path for manifest in rendered.manifests] == [
        "web/templates/c.yaml",
        "web/templates/a.yaml",
        "web/templates/b.yaml",
    ]
    for found in contents(rendered).values():
        assert found["metadata"]["annotations"] == {"note": "n"}
        assert found["metadata"]["labels"].items() >= {**OWNER, "team": "ours"}.items()
    deployment = contents(rendered)["Deployment/web"]
    assert deployment["metadata"]["labels"]["app"] == "web"
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": "web"}


@pytest.mark.parametrize(("strategy", "image"), [("combined", "web:2"), ("separate", "web:2"), ("nohooks", "web:1")])
async def test_strategy_says_whether_hooks_are_post_rendered(
    strategy: Strategy, image: str, trees: MemoryTrees
) -> None:
    step = Kustomize(images=(Image("web", new_tag="2"),))
    async with Renderer(trees) as renderer:
        rendered = await post_rendered(
            chart(a=SERVICE, b=DEPLOYMENT, h=HOOK),
            PostRender(OWNER, (step,), strategy=strategy),
            lambda files: renderer.build_files(files, SecretValues()),
        )
    [hook] = rendered.hooks
    assert hook.content["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert hook.path == "web/templates/h.yaml"
    assert hook.events == ("pre-install",)
    assert (hook.content["metadata"].get("labels") == OWNER) == (strategy != "nohooks")
    found = contents(rendered)["Deployment/web"]
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "web:2"
    assert [manifest.path for manifest in rendered.manifests] == ["web/templates/a.yaml", "web/templates/b.yaml"]
    assert not any(FILE in str(one) for one in contents(rendered).values())


async def test_steps_run_in_their_order_and_may_make_objects(trees: MemoryTrees) -> None:
    rename = Patch('[{"op": "replace", "path": "/spec/replicas", "value": 2}]', Selector(kind="Deployment"))
    add = Patch('[{"op": "add", "path": "/spec/replicas", "value": 1}]', Selector(kind="Deployment"))
    async with Renderer(trees) as renderer:
        rendered = await post_rendered(
            chart(b=DEPLOYMENT),
            PostRender(OWNER, (Kustomize((add,)), Kustomize((rename,)))),
            lambda files: renderer.build_files(files, SecretValues()),
        )
    assert contents(rendered)["Deployment/web"]["spec"]["replicas"] == 2


async def test_error_of_kustomize_quotes_no_secret(trees: MemoryTrees) -> None:
    bad = Patch("kind: Deployment\nmetadata: {name: web}\nspec: hunter2-of-the-tenant: x")
    async with Renderer(trees) as renderer:
        with pytest.raises(RenderError, match="post-renderer failed") as caught:
            await post_rendered(
                chart(b=DEPLOYMENT),
                PostRender(OWNER, (Kustomize((bad,)),)),
                lambda files: renderer.build_files(files, SecretValues(["hunter2-of-the-tenant"])),
            )
    assert "hunter2" not in caught.value.message
    assert "/tmp" not in caught.value.message


async def test_object_that_comes_twice_is_told_with_both_files() -> None:
    twice = HOOK.replace("annotations: {helm.sh/hook: pre-install}", "labels: {a: b}")
    with pytest.raises(ChartError, match=r"web/templates/h2.yaml: Job/migrate is in web/templates/h.yaml.*`separate`"):
        await post_rendered(chart(h=HOOK, h2=twice), PostRender(OWNER), nothing)
    rendered = await post_rendered(chart(h=HOOK, h2=twice), PostRender(OWNER, strategy="separate"), nothing)
    assert (len(rendered.hooks), len(rendered.manifests)) == (1, 1)


async def test_render_adds_what_needs_no_kustomize(renderer: ChartRenderer, tmp_path: Path) -> None:
    files = {"Chart.yaml": head("web"), "templates/b.yaml": DEPLOYMENT, "templates/h.yaml": HOOK}
    job = RenderJob(str(written(files, tmp_path / "web")), "r", "n")
    wanted = PostRender(OWNER, common=CommonMetadata({"a": "b"}, {}))
    alone = await renderer.render(msgspec.structs.replace(job, post_render=wanted))
    assert alone == await post_rendered(await renderer.render(job), wanted, nothing)
    assert alone.manifests[0].text.startswith("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  labels:\n    a: b\n")
    with pytest.raises(ChartError, match="outside of this process"):
        await renderer.render(msgspec.structs.replace(job, post_render=PostRender(OWNER, (Kustomize(),))))


@pytest.mark.parametrize("strategy", ["combined", "separate", "nohooks"])
async def test_what_is_written_says_what_it_was_written_from(strategy: Strategy) -> None:
    """It is not read again: a reader has to find the same, in the same order, and the texts as a split gives them."""
    odd = r"""apiVersion: v1
kind: ConfigMap
metadata: {name: odd}
data: {a: "x\n---\ny\n", b: "1.0", c: "\n \n", d: "on", e: "lines\n\n"}
"""
    several = f"{odd}---\n{HOOK}---\n{SERVICE}"
    rendered = await post_rendered(
        chart(a=several, b=DEPLOYMENT, c=LIST), PostRender(OWNER, strategy=strategy), nothing
    )
    files: dict[str, list[str]] = {}
    written_here: list[Manifest | Hook] = [*rendered.manifests, *rendered.hooks]
    for one in written_here:
        files.setdefault(one.path, []).append(one.text)
    manifests, hooks = sorted_manifests({path: "\n---\n".join(texts) for path, texts in files.items()})
    found: list[Manifest | Hook] = [*manifests, *hooks]

    def said(documents: Iterable[Manifest | Hook]) -> list[tuple[str, str, bytes]]:
        return sorted((one.path, one.text.rstrip(), canonical_bytes(one.content or {})) for one in documents)

    assert said(found) == said(written_here)
    assert all(split(one.text) == [one.text] for one in found)


def test_texts_that_are_joined_come_back_from_a_split() -> None:
    texts = ["a: 1\n", "b: |+\n  x\n\n", "c: 2\n"]
    assert joined(texts) == split("\n---\n".join(texts)) == ["a: 1", "b: |+\n  x", "c: 2\n"]
    assert joined(texts[:1]) == split(texts[0])
    assert joined([]) == []


async def test_object_without_a_name_is_told() -> None:
    with pytest.raises(ChartError, match=r"web/templates/a.yaml: an object has no metadata.name"):
        await post_rendered(chart(a="apiVersion: v1\nkind: ConfigMap\n"), PostRender(OWNER), nothing)


def test_digests_are_over_the_fields_in_the_order_of_flux() -> None:
    step = Kustomize(
        (Patch("<a>", Selector(kind="K", name="n", namespace="s", label_selector="l")), Patch("b")),
        (Image("i", new_tag="1", new_name="j"),),
    )
    text = (
        r'[{"kustomize":{"patches":[{"patch":"\u003ca\u003e","target":{"kind":"K","namespace":"s","name":"n",'
        r'"labelSelector":"l"}},{"patch":"b"}],"images":[{"name":"i","newName":"j","newTag":"1"}]}},{}]'
    )
    assert post_renderers_digest([step, None]) == digest_of(f"{text}\n".encode())
    assert post_renderers_digest([]) == ""
    common = CommonMetadata({"b": "1", "a": "2"}, {})
    assert common_metadata_digest(common) == digest_of(b'{"labels":{"a":"2","b":"1"}}\n')
    assert common_metadata_digest(CommonMetadata()) == digest_of(b"{}\n")
    assert common_metadata_digest(None) == ""
