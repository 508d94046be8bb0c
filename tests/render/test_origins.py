"""Where objects come from that the build gives their names, with the real kustomize."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.render.trees import MemoryTrees
from tests.servers.git_server import GitServer, git_server
from tests.servers.repositories import Repository
from tidelog.engine.render import landlock
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.render.spec import Patch, RenderSpec, Selector

ACCOUNTS = """apiVersion: v1
kind: ServiceAccount
metadata:
  name: one
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: two
---
apiVersion: v1
kind: Service
metadata:
  name: alone
"""
BASE = """resources: [accounts.yaml]
namePrefix: p-
configMapGenerator:
- name: other
  literals: [a=b]
- name: settings
  literals: [a=b]
"""
FILES = {
    "base/kustomization.yaml": BASE,
    "base/accounts.yaml": ACCOUNTS,
    "apps/over/kustomization.yaml": "resources: [../../base]\nnameSuffix: -x\n",
}


async def test_what_kustomization_files_name_is_placed(trees: MemoryTrees, renderer: Renderer) -> None:
    found = await renderer.origins(
        trees.add(FILES),
        RenderSpec(path="./apps/over", name_suffix="-y"),
        {
            ("ServiceAccount", "p-two-y", ""),
            ("ServiceAccount", "p-two-y", "metadata.name"),
            ("ServiceAccount", "p-two-x", ""),
            ("Service", "p-alone-y", ""),
        },
    )
    assert found == {
        ("ServiceAccount", "p-two-y", ""): "base/accounts.yaml:6",
        ("ServiceAccount", "p-two-y", "metadata.name"): "base/accounts.yaml:9",
        ("Service", "p-alone-y", ""): "base/accounts.yaml:11",
    }


async def test_what_is_generated_is_placed_where_the_generator_is_written(
    trees: MemoryTrees, renderer: Renderer
) -> None:
    tree, spec = trees.add(FILES), RenderSpec(path="apps/over")
    built = (await renderer.build(tree, spec)).text
    name = next(line.split()[-1] for line in built.splitlines() if "name: p-settings" in line)
    assert await renderer.origins(tree, spec, {("ConfigMap", name, "data")}) == {
        ("ConfigMap", name, "data"): "base/kustomization.yaml:6"
    }


async def test_what_a_patch_renames_is_placed_though_its_file_has_several_of_its_kind(
    trees: MemoryTrees, renderer: Renderer
) -> None:
    """Also where it now bears the name of the one before it."""
    renames = "- {op: replace, path: /metadata/name, value: %s}"
    names = {("Service", "alone"): "another", ("ServiceAccount", "one"): "another", ("ServiceAccount", "two"): "one"}
    patches = tuple(
        Patch(patch=renames % new, target=Selector(kind=kind, name=name)) for (kind, name), new in names.items()
    )
    found = await renderer.origins(
        trees.add(FILES),
        RenderSpec(path="apps/over", patches=patches),
        {("Service", "another-x", ""), ("ServiceAccount", "another-x", ""), ("ServiceAccount", "one-x", "kind")},
    )
    assert found == {
        ("Service", "another-x", ""): "base/accounts.yaml:11",
        ("ServiceAccount", "another-x", ""): "base/accounts.yaml:1",
        ("ServiceAccount", "one-x", "kind"): "base/accounts.yaml:7",
    }


async def test_what_a_patch_renames_of_a_list_is_placed(trees: MemoryTrees, renderer: Renderer) -> None:
    items = "".join(f"- {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}\n" for name in "abc")
    tree = trees.add({"all.yaml": f"apiVersion: v1\nkind: List\nitems:\n{items}"})
    patch = "- {op: replace, path: /metadata/name, value: quite-another}"
    spec = RenderSpec(patches=(Patch(patch=patch, target=Selector(name="b")),))
    wanted = ("ServiceAccount", "quite-another", "")
    assert await renderer.origins(tree, spec, {wanted}) == {wanted: "all.yaml:5"}


async def test_where_a_patch_takes_the_mark_away_the_file_is_told(trees: MemoryTrees, renderer: Renderer) -> None:
    patch = "[{op: replace, path: /metadata/name, value: x}, {op: remove, path: /metadata/annotations}]"
    spec = RenderSpec(path="base", patches=(Patch(patch=patch, target=Selector(kind="ServiceAccount", name="one")),))
    tree = trees.add(FILES | {"base/accounts.yaml": ACCOUNTS.replace("name: one", "name: one\n  annotations: {a: b}")})
    assert set((await renderer.origins(tree, spec, {("ServiceAccount", "p-x", "")})).values()) <= {"base/accounts.yaml"}


async def test_a_build_that_fails_has_no_places(trees: MemoryTrees, renderer: Renderer) -> None:
    tree = trees.add({"kustomization.yaml": "resources: [missing.yaml]\n"})
    assert await renderer.origins(tree, RenderSpec(), {("Service", "x", "")}) == {}


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[GitServer]:
    """A Git server with the repository `base`."""
    account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: far}\n"
    Repository.create(tmp_path / "base.git").commit(
        {
            "sub/kustomization.yaml": "resources: [far.yaml]\nconfigMapGenerator: [{name: made, literals: [a=b]}]\n",
            "sub/far.yaml": account,
        }
    )
    with git_server(tmp_path, tls=False) as server:
        yield server


@pytest.mark.skipif(landlock.version() == 0, reason="without Landlock there are no remote bases")
async def test_of_a_build_with_remote_bases_both_are_placed(trees: MemoryTrees, remote: GitServer) -> None:
    """Of what comes from them: the file and the repository, without the password in its address."""
    address = remote.url("base").replace("://", "://ada:pl4nted@")
    over = f"resources: [../../base, '{address}//sub?ref=main']\nnameSuffix: -x\n"
    patch = Patch(
        patch="- {op: replace, path: /metadata/name, value: quite-another}",
        target=Selector(kind="ServiceAccount", name="two"),
    )
    async with Renderer(trees) as renderer:
        found = await renderer.origins(
            trees.add(FILES | {"apps/over/kustomization.yaml": over}),
            RenderSpec(path="apps/over", patches=(patch,)),
            {
                ("Service", "p-alone-x", "metadata"),
                ("ServiceAccount", "quite-another-x", ""),
                ("ServiceAccount", "far-x", ""),
                ("ConfigMap", "made-x-8h2mb", ""),
            },
        )
    assert found == {
        ("Service", "p-alone-x", "metadata"): "base/accounts.yaml:13",
        ("ServiceAccount", "quite-another-x", ""): "base/accounts.yaml:6",
        ("ServiceAccount", "far-x", ""): f"sub/far.yaml of {remote.url('base')} at main",
    }


class _Served(http.server.BaseHTTPRequestHandler):
    """Serves a manifest, whatever is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: far}\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


@pytest.mark.skipif(landlock.version() == 0, reason="without Landlock there are no remote bases")
async def test_what_is_fetched_by_its_address_is_placed_there(trees: MemoryTrees) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Served)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        place = f"127.0.0.1:{server.server_address[1]}/far.yaml"
        tree = trees.add({"kustomization.yaml": f"resources: ['http://ada:pl4nted@{place}']\n"})
        async with Renderer(trees) as renderer:
            found = await renderer.origins(tree, RenderSpec(), {("ServiceAccount", "far", "")})
    finally:
        await anyio.to_thread.run_sync(server.shutdown)
        thread.join()
        server.server_close()
    assert found == {("ServiceAccount", "far", ""): f"http://{place}"}
