"""Renders, with the real kustomize."""

import http.server
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest

from tests.missing import cannot
from tests.render.random_trees import random_tree
from tests.render.reading import objects
from tests.render.trees import MemoryTrees
from tests.servers.git_server import git_server
from tests.servers.repositories import Repository
from tidelog.engine.kinds.decode import decode, encode
from tidelog.engine.kinds.kustomization import KustomizationSpec
from tidelog.engine.render import kustomize, landlock
from tidelog.engine.render import renderer as renderer_module
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.jobs import Run
from tidelog.engine.render.landlock import Fence, Reach, version
from tidelog.engine.render.pool import Workers
from tidelog.engine.render.renderer import Limits, Renderer
from tidelog.engine.render.spec import CommonMetadata, Image, Patch, PostBuild, RenderSpec, Selector
from tidelog.engine.render.walk import walk, whole_tree
from tidelog.engine.secrecy.handed import Handed
from tidelog.events.names import ObjectKey

OWNER = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "flux-system", "apps")
FUNCTION = """apiVersion: example.com/v1
kind: Example
metadata:
  name: x
  annotations:
    config.kubernetes.io/function: |
      exec: {path: /bin/true}
"""
CONFIGMAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {0}}}\ndata: {{x: '${{v:-d}}'}}\n".format


async def rendered(trees: MemoryTrees, renderer: Renderer, files: dict[str, str], **spec: Any) -> list[dict[str, Any]]:
    return list((await renderer.render(trees.add(files), RenderSpec(**spec), OWNER)).objects)


async def failure(trees: MemoryTrees, renderer: Renderer, files: dict[str, str], **spec: Any) -> RenderError:
    with pytest.raises(RenderError) as caught:
        await rendered(trees, renderer, files, **spec)
    return caught.value


async def test_a_target_is_rendered(trees: MemoryTrees, renderer: Renderer) -> None:
    files = {
        "apps/kustomization.yaml": "resources: [b.yaml, ../base]\nnamePrefix: old-\n",
        "apps/b.yaml": CONFIGMAP("b"),
        "base/kustomization.yaml": "resources: [a.yaml]\n",
        "base/a.yaml": CONFIGMAP("a"),
    }
    spec = RenderSpec(
        path="./apps",
        target_namespace="shop",
        name_prefix="new-",
        common_metadata=CommonMetadata(labels={"team": "one"}),
        post_build=PostBuild({"v": "inline"}),
    )
    found = await renderer.render(trees.add(files), spec, OWNER, {"v": "from", "w": "secret"}, frozenset({"v", "w"}))

    assert [one["metadata"]["name"] for one in found.objects] == ["new-b", "new-a"], "in the order of the files"
    assert found.objects[0] == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "data": {"x": "inline"},
        "metadata": {
            "name": "new-b",
            "namespace": "shop",
            "labels": {
                "kustomize.toolkit.fluxcd.io/name": "apps",
                "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
                "team": "one",
            },
        },
    }
    assert found.secret == frozenset(), "the spec's own value stands before the Secret's"
    assert {tool.name: bool(tool.version) for tool in found.toolchain} == {
        "kustomize": True,
        "tidelog-substitution": True,
    }
    assert found.remote_bases == found.warnings == ()


async def test_a_value_of_a_secret_marks_what_it_went_into(trees: MemoryTrees, renderer: Renderer) -> None:
    tree = trees.add({"a.yaml": CONFIGMAP("a"), "b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"})
    spec = RenderSpec(post_build=PostBuild())
    found = await renderer.render(tree, spec, OWNER, {"v": "one\ntwo\n"}, frozenset({"v"}))

    assert found.secret == {ObjectKey("", "ConfigMap", "", "a")}
    assert found.objects[0]["data"] == {"x": "onetwo"}, "values have no line breaks"
    found = await renderer.render(tree, RenderSpec(post_build=PostBuild({"v": "a\n\nb\n"})), OWNER)
    assert found.objects[0]["data"] == {"x": "ab"}, "nor have those of the spec"


BARE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {0}}}\ndata:\n  x: ${{v}}\n".format
SCRIPT = """apiVersion: v1
kind: ConfigMap
metadata:
  name: script
data:
  run: |
    for file in ${files[@]}; do echo $1; done
"""


@pytest.mark.parametrize(
    ("files", "spec", "words", "place"),
    [
        (
            {"a.yaml": BARE("a")},
            {"v": "a: b"},
            "ConfigMap/a, after substitution: line",
            "a.yaml:1",
        ),
        (
            {"a.yaml": BARE("a").replace("${v}", "1"), "b.yaml": "# first\n" + BARE("b")},
            {"v": "[1", "name_prefix": "my-"},
            "ConfigMap/my-b, after substitution: line",
            "b.yaml:2",
        ),
        (
            {"a.yaml": BARE("a").replace("${v}", "1") + "---\n" + BARE("'system:b'")},
            {"v": "a: b"},
            "ConfigMap/system:b, after substitution: line",
            "a.yaml:7",
        ),
        (
            {"a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nsops: {}\n"},
            {},
            "Secret/a is SOPS encrypted",
            "a.yaml:1",
        ),
        ({"script.yaml": SCRIPT}, {"v": "1"}, "ConfigMap/script: ", "script.yaml:"),
    ],
)
async def test_what_substitution_makes_unreadable_is_placed_in_its_file(
    trees: MemoryTrees, renderer: Renderer, files: dict[str, str], spec: dict[str, str], words: str, place: str
) -> None:
    substitute = {name: value for name, value in spec.items() if name == "v"}
    others = {name: value for name, value in spec.items() if name != "v"}
    error = await failure(trees, renderer, files, post_build=PostBuild(substitute), **others)
    assert words in error.message
    assert f"(in {place}" in error.message


async def test_without_post_build_nothing_is_substituted(trees: MemoryTrees, renderer: Renderer) -> None:
    tree = trees.add({"a.yaml": CONFIGMAP("a")})
    assert (await renderer.render(tree, RenderSpec(), OWNER, {"v": "1"})).objects[0]["data"] == {"x": "${v:-d}"}
    spec = RenderSpec(post_build=PostBuild(substitute_strategy="Always"))
    assert (await renderer.render(tree, spec, OWNER)).objects[0]["data"] == {"x": "d"}
    spec = RenderSpec(post_build=PostBuild())
    assert (await renderer.render(tree, spec, OWNER)).objects[0]["data"] == {"x": "${v:-d}"}


async def test_a_directory_without_kustomization_file(trees: MemoryTrees, renderer: Renderer) -> None:
    files = {
        "b.yaml": CONFIGMAP("b"),
        "a/c.yml": CONFIGMAP("c"),
        "d/kustomization.yaml": "resources: [e.yaml]\nnameSuffix: -nested\n",
        "d/e.yaml": CONFIGMAP("e"),
        "d/unnamed.yaml": CONFIGMAP("unnamed"),
        "notes.txt": "a: [",
        "empty.yaml": "",
        "comment.yaml": "# nothing\n---\n",
    }
    found = await rendered(trees, renderer, files)

    assert [one["metadata"]["name"] for one in found] == ["c", "b", "e-nested"]


async def test_a_directory_without_anything_gives_nothing(trees: MemoryTrees, renderer: Renderer) -> None:
    assert await rendered(trees, renderer, {"README": ""}) == []
    assert await rendered(trees, renderer, {"README": ""}, target_namespace="x") == []


async def test_the_spec_s_patches_images_and_components(trees: MemoryTrees, renderer: Renderer) -> None:
    files = {
        "app/kustomization.yaml": "resources: [p.yaml]\nimages: [{name: nginx, newTag: '1', newName: mine}]\n",
        "app/p.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: nginx}]}\n",
        "comp/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnamePrefix: c-\n",
    }
    (found,) = await rendered(
        trees,
        renderer,
        files,
        path="app",
        components=("../comp", "../gone"),
        ignore_missing_components=True,
        images=(Image("nginx", new_tag="2"),),
        patches=(
            Patch('[{"op": "add", "path": "/metadata/annotations", "value": {"a": "é\u2028"}}]', Selector(kind="Pod")),
            Patch("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {hostNetwork: true}\n"),
        ),
    )

    assert found["metadata"]["name"] == "c-p"
    assert found["metadata"]["annotations"] == {"a": "é\u2028"}
    assert found["spec"]["containers"][0]["image"] == "mine:2"
    assert found["spec"]["hostNetwork"] is True


async def test_the_spec_s_names_go_around_those_of_components_and_its_metadata_of_the_build_comes_last(
    trees: MemoryTrees, renderer: Renderer
) -> None:
    files = {
        "app/kustomization.yaml": "resources: [a.yaml]\nnamePrefix: old-\nnamespace: old\n",
        "app/a.yaml": CONFIGMAP("a"),
        "comp/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nnamePrefix: c-\n",
    }
    (found,) = await rendered(
        trees,
        renderer,
        files,
        path="app",
        target_namespace="new",
        name_prefix="pre-",
        name_suffix="-post",
        patches=(Patch('[{"op": "replace", "path": "/data/x", "value": "patched"}]', Selector(name="a")),),
        components=("../comp",),
        build_metadata=("originAnnotations",),
    )

    assert (found["metadata"]["namespace"], found["metadata"]["name"]) == ("new", "pre-c-a-post")
    assert found["data"] == {"x": "patched"}, "a patch names an object as its file does"
    assert found["metadata"]["annotations"] == {"config.kubernetes.io/origin": "path: a.yaml\n"}


async def test_a_file_beside_the_path_may_be_named(trees: MemoryTrees, renderer: Renderer) -> None:
    files = {"apps/kustomization.yaml": "resources: [../base/a.yaml]\n", "base/a.yaml": CONFIGMAP("a")}

    assert [one["metadata"]["name"] for one in await rendered(trees, renderer, files, path="apps")] == ["a"]


async def test_a_comment_is_not_substituted(trees: MemoryTrees, renderer: Renderer) -> None:
    files = {"a.yaml": "# needs ${nothing}\n" + CONFIGMAP("a")}

    assert (await rendered(trees, renderer, files, post_build=PostBuild({"v": "1"})))[0]["data"] == {"x": 1}


@pytest.mark.parametrize(
    ("files", "spec", "said"),
    [
        ({"a.yaml": "a: [1\n"}, {}, "a.yaml:2: did not find expected"),
        ({"a.yaml": "apiVersion: v1\nkind: A\nmetadata:\n\tname: x\n"}, {}, "a.yaml:4: the line is indented with a t"),
        ({"a.yaml": CONFIGMAP("a") + "kind: B\n"}, {}, "a.yaml:5: the key 'kind' is given twice"),
        ({"a.yaml": "replicas: 3\n"}, {}, "a.yaml:1: no Kubernetes object, for it has no kind"),
        ({"a.yaml": "apiVersion: v1\nkind: A\nmetadata: {}\n"}, {}, "a.yaml:1: A without metadata.name"),
        ({"a.yaml": CONFIGMAP("a"), "b/b.yaml": CONFIGMAP("a")}, {}, "ConfigMap/a comes twice: a.yaml:1, b/b.yaml:1"),
        ({"kustomization.yaml": "resources:\n- x.yaml\n"}, {}, "kustomization.yaml:2: 'x.yaml' is not there"),
        (
            {"kustomization.yaml": "configMapGenerator:\n- name: a\n  files:\n  - b=x.txt\n"},
            {},
            "kustomization.yaml:4: 'x.txt' is not there",
        ),
        ({"kustomization.yaml": "resources: [x]\n", "x/y": ""}, {}, "x has none of kustomization.yaml"),
        (
            {"kustomization.yaml": "resources: [b]\n", "b/kustomization.yaml": "a: 1\n"},
            {},
            "b/kustomization.yaml:1: 'a' is no field of a kustomization",
        ),
        (
            {"a/kustomization.yaml": "resources: [../b]\n", "b/kustomization.yaml": "resources: [../a]\n"},
            {"path": "a"},
            "a/kustomization.yaml:1 lists '../b', b/kustomization.yaml:1 lists '../a': a cycle",
        ),
        (
            {"a/b/kustomization.yaml": "resources:\n- ../\n", "a/kustomization.yaml": "nameSuffix: -x\n"},
            {"path": "a/b"},
            "a/b/kustomization.yaml:2 lists '../': a cycle",
        ),
        (
            {"kustomization.yaml": "resources: [a.yaml]\npatches:\n- path: p.yaml\n", "a.yaml": CONFIGMAP("a"),
             "p.yaml": "# nobody's\n" + CONFIGMAP("b")},
            {},
            "ConfigMap/b of p.yaml:2 is a patch of nothing that is built",
        ),
        (
            {"kustomization.yaml": f"resources: [a.yaml]\npatches:\n- patch: {json.dumps(CONFIGMAP('b'))}\n",
             "a.yaml": CONFIGMAP("a")},
            {},
            "ConfigMap/b of kustomization.yaml:3 is a patch of nothing that is built",
        ),
        ({"a.yaml": CONFIGMAP("a").encode() + b"# caf\xe9\n"}, {}, "a.yaml:5: not UTF-8"),
        ({"kustomization.yaml": b"# \n# caf\xe9\n"}, {}, "kustomization.yaml:2: not UTF-8"),
        ({"kustomization.yaml": "resources: [../x]\n"}, {}, "leaves the source"),
        ({"kustomization.yaml": "resources: ['https://127.0.0.1:9/x']\n"}, {}, "remote bases are not allowed here"),
        ({"kustomization.yaml": "configMapGenerator: [{name: a, literals: [x]}]\n"}, {}, "kustomize build failed"),
        ({"kustomization.yaml": "generators: [g.yaml]\n", "g.yaml": FUNCTION}, {}, "kustomize build failed"),
        ({"kustomization.yaml": "resources: []\n", "kustomization.yml": ""}, {}, "multiple kustomization files"),
        ({"a.yaml": CONFIGMAP("a")}, {"components": ("c",)}, "spec.components"),
        ({"a/a.yaml": CONFIGMAP("a")}, {"path": "a", "components": ("../../c",)}, "leaves the source"),
    ],
)  # fmt: skip
async def test_what_cannot_be_built_is_explained(
    trees: MemoryTrees, renderer: Renderer, files: dict[str, str], spec: dict[str, Any], said: str
) -> None:
    error = await failure(trees, renderer, files, **spec)

    assert said.lower() in error.message.lower()
    assert error.final
    assert "tidelog-render" not in error.message, "the name of a temporary directory helps nobody"
    assert error.read_set, "while what was read stays the same, so does the failure"


async def test_of_what_kustomize_says_at_length_the_end_is_kept(trees: MemoryTrees, renderer: Renderer) -> None:
    """It begins with all the bases on the way, and ends with what is wrong."""
    levels = [f"a-base-with-a-long-name-{number}" for number in range(6)]
    files = {"kustomization.yaml": f"resources: [{levels[0]}]\n"}
    for level, below in zip(levels, [*levels[1:], ""], strict=True):
        files[f"{level}/kustomization.yaml"] = f"resources: [{f'../{below}' if below else 'x.yaml'}]\n"
    files[f"{levels[-1]}/x.yaml"] = "a: [1\n"
    error = await failure(trees, renderer, files)

    assert f"{levels[-1]}/x.yaml:2: did not find expected" in error.message
    assert "(kustomize says: …" in error.message
    assert error.message.endswith("in File: x.yaml)")


async def test_a_missing_file_that_comes_is_noticed(trees: MemoryTrees, renderer: Renderer) -> None:
    files = {"kustomization.yaml": "resources: [x.yaml]\n", "other": "1"}
    error = await failure(trees, renderer, files)

    assert renderer.unchanged(trees.add(files | {"other": "2"}), error.read_set)
    assert not renderer.unchanged(trees.add(files | {"x.yaml": ""}), error.read_set)


async def test_a_variable_without_value_is_placed_in_its_file(trees: MemoryTrees, renderer: Renderer) -> None:
    files = {"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  host: x.${domain}\n"}
    error = await failure(trees, renderer, files, post_build=PostBuild({"other": "1"}))

    assert "ConfigMap/a" in error.message
    assert 'variable not set (strict mode): "domain" (in a.yaml:5)' in error.message
    assert error.final


async def test_lenient_a_variable_without_value_is_empty(trees: MemoryTrees) -> None:
    tree = trees.add({"a.yaml": CONFIGMAP("a").replace(":-d", "")})
    async with Renderer(trees, strict=False) as lenient:
        found = await lenient.render(tree, RenderSpec(post_build=PostBuild({"w": "1"})), OWNER)

    assert found.objects[0]["data"] == {"x": None}


async def test_what_the_root_file_has_too_much_is_a_warning(trees: MemoryTrees, renderer: Renderer) -> None:
    tree = trees.add({"kustomization.yaml": "resources: [a.yaml]\nresource: []\n", "a.yaml": CONFIGMAP("a")})

    assert (await renderer.render(tree, RenderSpec(), OWNER)).warnings == (
        "kustomization.yaml: 'resource' is no field of a kustomization and is left out",
    )


async def test_what_the_walk_does_not_know_is_built_on_the_whole_tree(trees: MemoryTrees, renderer: Renderer) -> None:
    files = {
        "kustomization.yaml": "resources: [a.yaml]\ntransformers: [t]\n",
        "a.yaml": CONFIGMAP("a"),
        "t/kustomization.yaml": "resources: [t.yaml]\n",
        "t/t.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: t}\n"
        "path: p.yaml\ntarget: {kind: ConfigMap}\n",
        "p.yaml": '[{"op": "add", "path": "/metadata/annotations", "value": {"patched": "1"}}]',
    }
    tree = trees.add(files)
    found = await renderer.render(tree, RenderSpec(), OWNER)

    assert found.objects[0]["metadata"]["annotations"] == {"patched": "1"}
    assert found.read_set == whole_tree(tree)


async def test_a_file_that_the_walk_missed_fails_the_small_build_and_not_the_render(
    trees: MemoryTrees, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(*args: Any, fenced: bool) -> Any:
        found = real(*args, fenced=fenced)
        kept = tuple(entry for entry in found.read_set if entry.path != "a.yaml")
        return msgspec.structs.replace(found, read_set=kept, checkout=("kustomization.yaml",))

    real: Callable[..., Any] = walk
    monkeypatch.setattr(renderer_module, "walk", forgetful)
    tree = trees.add({"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": CONFIGMAP("a")})
    found = await renderer.render(tree, RenderSpec(), OWNER)

    assert len(found.objects) == 1
    assert found.read_set == whole_tree(tree)


@pytest.fixture
def _landlock() -> None:
    if version() == 0:
        cannot("this kernel has no Landlock: that a build is kept in its checkout is NOT tested")


@pytest.mark.usefixtures("_landlock")
async def test_the_kernel_keeps_a_build_in_its_checkout(trees: MemoryTrees, renderer: Renderer, tmp_path: Path) -> None:
    """By a path that no walk follows: a patch gives it to a transformer in a directory of its own."""
    outside = tmp_path / "outside.yaml"
    outside.write_text('[{"op": "add", "path": "/metadata/annotations", "value": {"leaked": "1"}}]')
    files = {
        "kustomization.yaml": "resources: [a.yaml]\ntransformers: [t]\n",
        "a.yaml": CONFIGMAP("a"),
        "t/kustomization.yaml": "resources: [t.yaml]\n" + replacing("PatchTransformer", "path", str(outside)),
        "t/t.yaml": "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: t}\ntarget: {kind: ConfigMap}\n",
    }
    error = await failure(trees, renderer, files)

    assert "permission denied" in error.message


def replacing(kind: str, field: str, value: object) -> str:
    """Of a kustomization: a patch that sets a field of the plugins of a kind."""
    patch = json.dumps([{"op": "add", "path": f"/{field}", "value": value}])
    return "patches: " + json.dumps([{"target": {"kind": kind}, "patch": patch}])


@pytest.fixture
def base_url(tmp_path: Path) -> Iterator[str]:
    """A remote base, over HTTP."""
    repository = Repository.create(tmp_path / "repositories" / "base.git")
    repository.commit({"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": CONFIGMAP("base")})
    with git_server(tmp_path / "repositories", tls=False) as server:
        yield f"{server.url('base')}?ref=main"


@pytest.mark.usefixtures("_landlock")
@pytest.mark.parametrize(
    "path",
    ["/proc/OURS/environ", "/proc/self/environ", "/etc/passwd", "/etc/gitconfig", "/dev/zero", __file__],
)
async def test_a_build_with_remote_bases_reads_no_file_of_the_machine(
    trees: MemoryTrees, base_url: str, path: str
) -> None:
    path = path.replace("OURS", str(os.getpid()))
    plugin = "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: stolen}\n"
    files = {
        "kustomization.yaml": f"resources: ['{base_url}']\ngenerators: [gens]\n",
        "gens/kustomization.yaml": "resources: [g.yaml]\n" + replacing("ConfigMapGenerator", "files", [f"p={path}"]),
        "gens/g.yaml": plugin,
    }
    async with Renderer(trees) as renderer:
        error = await failure(trees, renderer, files)
        (found,) = await rendered(trees, renderer, {"kustomization.yaml": f"resources: ['{base_url}']\n"})

    assert "permission denied" in error.message
    assert found["metadata"]["name"] == "base", "while git does its work"


@pytest.mark.usefixtures("_landlock")
async def test_git_trusts_the_authorities_of_the_machine_and_says_so_of_another(
    trees: MemoryTrees, tmp_path: Path
) -> None:
    Repository.create(tmp_path / "base.git").commit({"kustomization.yaml": ""})
    with git_server(tmp_path) as server:
        async with Renderer(trees) as renderer:
            error = await failure(trees, renderer, {"kustomization.yaml": f"resources: ['{server.url('base')}']\n"})

    assert "certificate" in error.message
    assert "CAfile: none" in error.message or "verification failed" in error.message, error.message


async def test_without_landlock_nothing_is_built_that_only_landlock_could_hold(
    trees: MemoryTrees, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    remote = {"kustomization.yaml": "resources: ['https://127.0.0.1:9/x.git']\n"}
    plugins = [{"kustomization.yaml": f"{field}: [p]\n"} for field in ("generators", "transformers", "validators")]
    text = "kind: A\nmetadata: {name: a}\nb: c/../../../etc/x"
    patch = {"kustomization.yaml": json.dumps({"patchesStrategicMerge": [text]})}
    async with Renderer(trees) as renderer:
        for files in (remote, *plugins):
            assert "this kernel has no Landlock" in (await failure(trees, renderer, files)).message
        assert "leaves the source" in (await failure(trees, renderer, patch)).message
        assert len(await rendered(trees, renderer, {"a.yaml": CONFIGMAP("a")})) == 1

    assert ["has no Landlock" in record.message for record in caplog.records if record.levelname == "WARNING"] == [True]


@pytest.mark.usefixtures("_landlock")
def test_a_fence_holds_for_what_is_read_written_run_and_called(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "file").write_text("1")
    system = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/dev")
    fence = Fence(Reach(read=(str(inside),), execute=system, write=(str(inside),)))
    script = f"cat {outside}/file || echo 1 > {outside}/new || exec 3<>/dev/tcp/127.0.0.1/9 || echo 2 > {inside}/new"
    done = subprocess.run(
        ["bash", "-c", script], preexec_fn=fence.close_around_me, capture_output=True, text=True, check=False
    )
    fence.close()

    assert done.returncode == 0
    assert done.stderr.count("ermission denied") >= 2
    assert (inside / "new").exists()
    assert not (outside / "new").exists()


async def test_targets_with_equal_inputs_share_a_build(trees: MemoryTrees, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"app/kustomization.yaml": "resources: [a.yaml]\n", "app/a.yaml": CONFIGMAP("a")}
    number = 0

    class Counting(Workers):
        async def run(self, job: Any, *, time_s: float) -> Any:
            nonlocal number
            number += "kustomize" in job.command
            return await super().run(job, time_s=time_s)

    found: list[str] = []

    async def one(number: int) -> None:
        tree = trees.add(files | {"unread": str(number)})
        spec = RenderSpec(path=["app", "./app/"][number % 2], post_build=PostBuild({"v": str(number)}))
        owner = OWNER._replace(name=f"n{number}")
        (made,) = (await renderer.render(tree, spec, owner)).objects
        found.append(f"{made['metadata']['labels']['kustomize.toolkit.fluxcd.io/name']}={made['data']['x']}")

    async with Renderer(trees, workers=Counting()) as renderer:
        async with anyio.create_task_group() as group:
            for index in range(8):
                group.start_soon(one, index)
        await one(8)

    assert number == 1
    assert sorted(found) == [f"n{index}={index}" for index in range(9)]


async def test_who_waits_goes_on_when_the_one_who_builds_is_cancelled(trees: MemoryTrees) -> None:
    tree = trees.add({"a.yaml": CONFIGMAP("a")})
    first = anyio.Event()
    jobs = 0

    class Slow(Workers):
        async def run(self, job: Any, *, time_s: float) -> Any:
            nonlocal jobs
            if "kustomize" in job.command:
                jobs += 1
                first.set()
                if jobs == 1:
                    await anyio.sleep_forever()
            return await super().run(job, time_s=time_s)

    texts: list[str] = []
    async with Renderer(trees, workers=Slow()) as renderer, anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def leader() -> None:
            with scope:
                await renderer.build(tree, RenderSpec())

        async def follower() -> None:
            texts.append((await renderer.build(tree, RenderSpec())).text)

        group.start_soon(leader)
        await first.wait()
        group.start_soon(follower)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    assert jobs == 2
    assert "name: a" in texts[0]


async def test_who_waits_gets_the_failure_too(trees: MemoryTrees, renderer: Renderer) -> None:
    tree = trees.add({"a.yaml": "a: ["})
    errors: list[RenderError] = []

    async def one() -> None:
        with pytest.raises(RenderError) as caught:
            await renderer.build(tree, RenderSpec())
        errors.append(caught.value)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(one)

    assert len({error.message for error in errors}) == 1
    assert all(error.final and error.read_set for error in errors)


async def test_a_time_limit_is_no_final_failure_and_ends_what_runs(trees: MemoryTrees, tmp_path: Path) -> None:
    tree = trees.add({f"{number}.yaml": CONFIGMAP(f"c{number}") for number in range(300)})
    async with Renderer(trees, scratch=tmp_path, workers=Workers(1)) as renderer:
        await renderer.toolchain()
        with pytest.raises(RenderError, match="kustomize takes longer than") as caught:
            await renderer.build(tree, RenderSpec(), time_s=0.001)
        assert not caught.value.final
        assert not await anyio.to_thread.run_sync(lambda: list(tmp_path.glob("*/*"))), "the checkout is gone"
        assert (await renderer.build(tree, RenderSpec())).text, "another worker goes on"


@pytest.mark.parametrize("limits", [Limits(memory_bytes=30 * 1024 * 1024), Limits(output_bytes=1024)])
async def test_limits_of_memory_and_output_are_no_final_failures(trees: MemoryTrees, limits: Limits) -> None:
    tree = trees.add({f"{number}.yaml": CONFIGMAP(f"c{number}") for number in range(100)})
    async with Renderer(trees, limits=Limits(), workers=Workers(1)) as generous:
        toolchain = await generous.toolchain()
        async with Renderer(trees, limits=limits, workers=Workers(1)) as renderer:
            renderer._toolchain = toolchain
            with pytest.raises(RenderError) as caught:
                await renderer.build(tree, RenderSpec())

    assert not caught.value.final, caught.value.message


async def test_a_missing_kustomize_is_a_clear_error(
    trees: MemoryTrees, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kustomize, "PACKAGE", "no-such-package")
    error = await failure(trees, renderer, {"a.yaml": CONFIGMAP("a")})

    assert "is not installed; `pip install" in error.message
    assert not error.final


GENERATOR = "apiVersion: builtin\nkind: SecretGenerator\nmetadata: {name: g}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: "


def planted(kustomization: dict[str, Any]) -> dict[str, str]:
    return {"kustomization.yaml": json.dumps(kustomization), "a.yaml": SECRET + "{pw: pl4nted-in-file}\n"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            planted({
                "resources": ["a.yaml"],
                "patches": [{"patch": "kind: Secret\nstringData: {pw: pl4nted", "target": {"kind": "Secret"}}],
            }),
            "unable to parse SM or JSON patch",
        ),
        (
            planted({
                "resources": ["a.yaml"],
                "patches": [{"patch": 'stringData:\n  a: "pl4nted  \\" x\n  - z', "target": {"kind": "S.*"}}],
            }),
            "unable to parse SM or JSON patch",
        ),
        (planted({"secretGenerator": [{"name": "g", "literals": ["pl4nted"]}]}), "expected key=value"),
        (planted({"secretGenerator": [{"name": "g", "literals": ["pl4nted 'x' \" y"]}]}), "expected key=value"),
        (
            planted({"generators": [f"{GENERATOR}literals: [pl4nted]"]}),
            "expected key=value",
        ),
        (
            {
                "kustomization.yaml": "generators: [g]\n",
                "g/kustomization.yaml": "resources: [g.yaml]\n",
                "g/g.yaml": f"{GENERATOR}literals: [pl4nted]\n",
            },
            "expected key=value",
        ),
        (
            planted({
                "resources": ["a.yaml"],
                "replacements": [{
                    "source": {"kind": "Secret", "name": "a", "fieldPath": "stringData.pw"},
                    "targets": [
                        {"select": {"name": "a"}, "fieldPaths": ["stringData.pw.x"], "options": {"create": True}}
                    ],
                }],
            }),
            "wrong node kind",
        ),
        ({"a.yaml": SECRET + "\n  pw: *pl4nted\n"}, "a.yaml:5: an alias"),
    ],
)  # fmt: skip
async def test_an_error_of_a_build_quotes_no_secret(
    trees: MemoryTrees, renderer: Renderer, files: dict[str, str], said: str
) -> None:
    error = await failure(trees, renderer, files)

    assert said in error.message
    assert "pl4nted" not in error.message


async def test_a_line_of_an_environment_file_that_is_not_utf8_is_not_quoted_byte_by_byte(
    trees: MemoryTrees, renderer: Renderer
) -> None:
    tree = trees.add({"kustomization.yaml": "secretGenerator: [{name: a, envs: [e]}]\n", "e": b"\xff\xfepl4nted\n"})
    with pytest.raises(RenderError, match=r"env source files: .*: a line is not UTF-8$"):
        await renderer.render(tree, RenderSpec(), OWNER)


async def test_what_a_remote_base_says_is_not_quoted(trees: MemoryTrees, tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "base.git")
    repository.commit({"kustomization.yaml": "secretGenerator: [{name: a, literals: [pl4nted, x]}]\n"})
    with git_server(tmp_path, tls=False) as server:
        async with Renderer(trees) as renderer:
            files = {"kustomization.yaml": f"resources: ['{server.url('base')}?ref=main']\n"}
            error = await failure(trees, renderer, files)

    assert "literal sources (not shown), expected key=value" in error.message
    assert "pl4nted" not in error.message


HELD = """
import pathlib, sys, tempfile
from tidelog.engine.render.scratch import Scratch
scratch = Scratch(pathlib.Path(sys.argv[1]))
scratch.open()
(scratch.make() / "tree" / "secret").write_text("s3cret")
print("made", end="", flush=True)
sys.stdin.read()
"""


async def test_what_a_killed_renderer_left_is_removed_by_the_next_one_and_nothing_else(
    trees: MemoryTrees, tmp_path: Path
) -> None:
    (tmp_path / "tidelog-render-file").write_text("not ours")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tidelog-render-link").symlink_to(tmp_path / "elsewhere")
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    async with await anyio.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert await process.stdout.receive() == b"made"
        async with Renderer(trees, scratch=tmp_path):
            alive = secrets_below(tmp_path)
        process.kill()
        await process.wait()
    left = secrets_below(tmp_path)
    async with Renderer(trees, scratch=tmp_path) as renderer:
        assert await rendered(trees, renderer, {"a.yaml": CONFIGMAP("a")})
        removed = secrets_below(tmp_path)

    assert (alive, left, removed) == (1, 1, 0)
    assert names_in(tmp_path) == {"tidelog-render-file", "tidelog-render-link", "elsewhere"}


def secrets_below(directory: Path) -> int:
    return len(list(directory.rglob("secret")))


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_a_directory_that_was_tidied_away_is_made_again(trees: MemoryTrees, tmp_path: Path) -> None:
    async with Renderer(trees, scratch=tmp_path) as renderer:
        (made,) = names_in(tmp_path)
        (tmp_path / made).rmdir()
        assert await rendered(trees, renderer, {"a.yaml": CONFIGMAP("a")})

    assert names_in(tmp_path) == set()


async def test_only_the_owner_may_read_what_is_built(trees: MemoryTrees, tmp_path: Path) -> None:
    modes: dict[str, int] = {}

    class Looking(Workers):
        async def run(self, job: Run, *, time_s: float) -> Any:
            modes.update(await anyio.to_thread.run_sync(modes_below, tmp_path))
            return await super().run(job, time_s=time_s)

    tree = trees.add({"a/b.yaml": CONFIGMAP("b"), "kustomization.yaml": "resources: [a/b.yaml]\n"})
    async with Renderer(trees, scratch=tmp_path, workers=Looking(1)) as renderer:
        await renderer.build(tree, RenderSpec())

    assert {name for name in modes if name.endswith(".yaml")} == {"b.yaml", "kustomization.yaml"}
    assert {mode for name, mode in modes.items() if name.endswith(".yaml")} == {0o600}
    assert {mode for name, mode in modes.items() if name.startswith("tidelog-render-")} == {0o700}


def modes_below(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.rglob("*")}


async def test_what_runs_too_long_is_ended_with_all_it_started(tmp_path: Path) -> None:
    job = Run(
        command=("/bin/sh", "-c", "sleep 1000 & sleep 1000"),
        directory=str(tmp_path),
        home=str(tmp_path),
        search="/usr/bin:/bin",
        reach=Reach(read=(str(tmp_path),), execute=("/usr", "/bin", "/lib", "/lib64", "/etc"), write=(str(tmp_path),)),
        memory_bytes=1 << 30,
        output_bytes=1 << 20,
    )
    others = set(await anyio.to_thread.run_sync(children_of, os.getpid()))  # of tests before this: servers, say
    async with Workers(1) as workers:
        group = 0

        async def look() -> None:
            nonlocal group
            while not group:
                await anyio.sleep(0.01)
                children = set(await anyio.to_thread.run_sync(children_of, os.getpid())) - others
                group = next((pid for pid in children if len(children_of(pid)) > 0), 0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            with pytest.raises(RenderError, match=r"takes longer than 2 s"):
                await workers.run(job, time_s=2)

    assert group
    await anyio.to_thread.run_sync(wait_until_none_is_alive, group)


def wait_until_none_is_alive(group: int) -> None:
    while alive_in(group):
        time.sleep(0.01)


def alive_in(group: int) -> list[str]:
    """The processes of a group that have not ended; one that has may wait for init to ask how."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, found = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(found) == group and state != "Z":
            alive.append(stat.parent.name)
    return alive


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


async def test_what_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    """Memory that RLIMIT_DATA does not count, for it is shared."""
    script = (
        "import mmap, time; m = mmap.mmap(-1, 1 << 29)\nfor _ in range(512): m.write(bytes(1 << 20))\ntime.sleep(999)"
    )
    job = Run(
        command=(sys.executable, "-c", script),
        directory=str(tmp_path),
        home=str(tmp_path),
        search="/nonexistent",
        reach=Reach(execute=("/",)),
        memory_bytes=200 << 20,
        output_bytes=1 << 20,
    )
    async with Workers(1) as workers:
        with pytest.raises(RenderError, match="it takes more than 209715200 bytes of memory") as caught:
            await workers.run(job, time_s=60)

    assert not caught.value.final


class Remote(http.server.BaseHTTPRequestHandler):
    """Serves a manifest that is another each time."""

    number = 0

    def do_GET(self) -> None:
        type(self).number += 1
        body = CONFIGMAP(f"remote-{self.number}").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


async def test_a_remote_base_is_fetched_each_time_and_said(trees: MemoryTrees) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Remote)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/a.yaml"
        tree = trees.add({"kustomization.yaml": f"resources: ['{address}']\n"})
        async with Renderer(trees) as renderer:
            one, two = [await renderer.render(tree, RenderSpec(), OWNER) for _ in range(2)]
    finally:
        await anyio.to_thread.run_sync(server.shutdown)
        thread.join()
        server.server_close()

    assert one.remote_bases == two.remote_bases == (address,)
    assert one.read_set == whole_tree(tree)
    assert one.objects[0]["metadata"]["name"] != two.objects[0]["metadata"]["name"]


async def test_a_remote_base_that_does_not_answer_is_no_final_failure(trees: MemoryTrees) -> None:
    tree = trees.add({"kustomization.yaml": "resources: ['http://127.0.0.1:9/a.yaml']\n"})
    async with Renderer(trees) as renderer:
        with pytest.raises(RenderError, match="127") as caught:
            await renderer.render(tree, RenderSpec(), OWNER)

    assert not caught.value.final


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections, and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"https://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "address", ["http://ada:hidden-one@127.0.0.1:1/x", "http://127.0.0.1:1/x?ref=v1&token=hidden-one"]
)
async def test_credentials_in_the_address_of_a_remote_base_are_not_told(trees: MemoryTrees, address: str) -> None:
    tree = trees.add({"kustomization.yaml": f"resources: ['{address}']\n"})
    async with Renderer(trees, remote_bases=True) as renderer:
        with pytest.raises(RenderError, match=r"127\.0\.0\.1:1/x") as caught:
            await renderer.render(tree, RenderSpec(), OWNER)
    assert "hidden-one" not in str(caught.value)
    assert "ref=v1" in str(caught.value) or "ref" not in address


async def test_remotes_that_hang_leave_room_for_builds_that_need_none(trees: MemoryTrees, silent: str) -> None:
    local = trees.add({"a.yaml": CONFIGMAP("a")})
    remote = [trees.add({"kustomization.yaml": f"resources: ['{silent}/{number}.yaml']\n"}) for number in range(4)]
    async with Renderer(trees, workers=Workers(2)) as renderer, anyio.create_task_group() as tasks:
        for tree in remote:
            tasks.start_soon(renderer.render, tree, RenderSpec(), OWNER)
        await anyio.sleep(1)
        with anyio.fail_after(60):
            rendered = await renderer.render(local, RenderSpec(), OWNER)
        assert len(rendered.objects) == 1
        tasks.cancel_scope.cancel()


async def test_a_target_s_own_time_limit_is_none_beyond_ours(trees: MemoryTrees, silent: str) -> None:
    tree = trees.add({"kustomization.yaml": f"resources: ['{silent}/a.yaml']\n"})
    async with Renderer(trees, limits=Limits(time_s=3.0)) as renderer:
        with anyio.fail_after(60), pytest.raises(RenderError, match="takes longer than 3 s"):
            await renderer.render(tree, RenderSpec(), OWNER, time_s=36_000)


def test_a_kustomization_s_spec_gives_what_a_render_reads() -> None:
    spec = decode_spec(
        {
            "interval": "1m",
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "x"},
            "path": "./a",
            "targetNamespace": "t",
            "patches": [{"patch": "x", "target": {"kind": "A", "labelSelector": "a=b"}}],
            "images": [{"name": "n", "newTag": "1"}],
            "postBuild": {"substitute": {"a": "b"}, "substituteStrategy": "Always"},
            "commonMetadata": {"labels": {"a": "b"}},
            "ignoreMissingComponents": True,
        }
    )

    assert spec == RenderSpec(
        path="./a",
        target_namespace="t",
        patches=(Patch("x", Selector(kind="A", label_selector="a=b")),),
        images=(Image("n", new_tag="1"),),
        post_build=PostBuild({"a": "b"}, "Always"),
        common_metadata=CommonMetadata(labels={"a": "b"}),
        ignore_missing_components=True,
    )


def decode_spec(spec: dict[str, Any]) -> RenderSpec:
    """By way of the struct that the API's edge decodes into."""
    return msgspec.convert(encode(decode(KustomizationSpec, spec)), RenderSpec)


async def test_a_worker_that_dies_is_replaced(trees: MemoryTrees) -> None:
    tree = trees.add({"a.yaml": CONFIGMAP("a")})
    async with Renderer(trees, workers=Workers(1)) as renderer:
        await renderer.build(tree, RenderSpec())
        os.kill(renderer._workers._workers._idle[0].pid, 9)
        with pytest.raises(RenderError, match="the worker died") as caught:
            await renderer.render(tree, RenderSpec(), OWNER)
        assert not caught.value.final
        assert (await renderer.render(tree, RenderSpec(), OWNER)).objects


def kustomize_build(
    trees: MemoryTrees, tree: str, path: str, into: Path, content: tuple[str, bytes] | None
) -> list[Any]:
    """kustomize run by hand on the whole tree."""
    trees.checkout(tree, None, into)
    if content is not None:
        (into / content[0]).write_bytes(content[1])
    command = kustomize.build_command(str(kustomize.program()), str(into / path))
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"HOME": "/nonexistent"})
    return objects(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
async def test_a_build_of_the_read_set_is_that_of_the_whole_tree(
    trees: MemoryTrees, renderer: Renderer, tmp_path: Path, seed: int, part: int
) -> None:
    """And a file that is not in the read-set never changes the result, while one that is in it is noticed."""
    rng = random.Random(f"{seed} {part}")
    for number in range(5):
        files, spec = random_tree(rng)
        tree = trees.add(files)
        build = await renderer.build(tree, spec)
        by_hand = await anyio.to_thread.run_sync(
            kustomize_build,
            trees,
            tree,
            build.walk.root,
            tmp_path / str(number),
            (build.walk.file, build.walk.content),
        )
        assert objects(build.text) == by_hand

        read = {entry.path for entry in build.read_set if entry.id is not None}
        listed = [path for path in read if trees.entry(tree, path).kind == "tree"]  # type: ignore[union-attr]
        for path in files:
            other = trees.add(files | {path: files[path] + "\n# changed\n"})
            inside = path in read or any(path.startswith(f"{directory}/") for directory in listed)
            assert renderer.unchanged(other, build.read_set) is not inside, path
            assert (await renderer.build(other, spec)).key == build.key if not inside else True, path


@pytest.mark.slow
async def test_without_fields_of_a_spec_the_result_is_that_of_the_untouched_tree(
    trees: MemoryTrees, renderer: Renderer, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    compared = 0
    while compared < 5:
        files, spec = random_tree(rng)
        spec = RenderSpec(path=spec.path)
        build = await renderer.build(trees.add(files), spec)
        if spec.path.endswith("plain"):
            continue
        compared += 1
        by_hand = await anyio.to_thread.run_sync(
            kustomize_build, trees, build.tree, build.walk.root, tmp_path / str(compared), None
        )
        # Without an order of its own in the file, the command sorts.
        assert sorted(map(repr, objects(build.text))) == sorted(map(repr, by_hand))


def _patched(text: str) -> RenderSpec:
    return RenderSpec(patches=(Patch(text, Selector(kind="ConfigMap")),))


async def test_what_was_handed_on_in_the_spec_is_secret_where_it_comes_to(
    trees: MemoryTrees, renderer: Renderer
) -> None:
    tree = trees.add({"a.yaml": CONFIGMAP("a"), "b.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n"})
    spec = RenderSpec(post_build=PostBuild({"v": "1"}))
    found = await renderer.render(tree, spec, OWNER, {}, frozenset(), Handed(frozenset({"v", "w"})))
    assert found.secret == {ObjectKey("", "ConfigMap", "", "a")}, "a short value too, and no other"

    patch = "- op: add\n  path: /metadata/annotations\n  value: {by: pl4nted-0}\n"
    spec = RenderSpec(patches=(Patch(patch, Selector(kind="ConfigMap", name="b")),))
    found = await renderer.render(tree, spec, OWNER, handed=Handed(values=("pl4nted-0",)))
    assert found.secret == {ObjectKey("", "ConfigMap", "", "b")}


@pytest.mark.parametrize(
    "patch",
    [
        "- op: replace\n  path: /metadata/name\n  value: x-pl4nted-0\n",
        "- op: add\n  path: /data/pl4nted-0\n  value: x\n",
        "- op: add\n  path: /data\n  value: {a: {pl4nted-0: x}}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: pl4nted-0}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {pl4nted-0: x}\n",
    ],
)
async def test_no_patch_with_a_value_that_was_handed_on_makes_a_name_of_it(
    trees: MemoryTrees, renderer: Renderer, patch: str
) -> None:
    tree = trees.add({"a.yaml": CONFIGMAP("a")})
    with pytest.raises(RenderError, match=r"^spec.patches\[0\]: what an object or a field is called") as caught:
        await renderer.render(tree, _patched(patch), OWNER, handed=Handed(values=("pl4nted-0",)))
    assert "pl4nted" not in caught.value.message
