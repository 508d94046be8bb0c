"""Where objects come from that the build gives their names, with the real kustomize."""

from tests.render.trees import MemoryTrees
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
        {("ServiceAccount", "p-two-y"), ("ServiceAccount", "p-two-x"), ("Service", "p-alone-y")},
    )
    assert found == {
        ("ServiceAccount", "p-two-y"): "base/accounts.yaml:6",
        ("Service", "p-alone-y"): "base/accounts.yaml:11",
    }


async def test_what_is_generated_is_placed_where_the_generator_is_written(
    trees: MemoryTrees, renderer: Renderer
) -> None:
    tree, spec = trees.add(FILES), RenderSpec(path="apps/over")
    built = (await renderer.build(tree, spec)).text
    name = next(line.split()[-1] for line in built.splitlines() if "name: p-settings" in line)
    assert await renderer.origins(tree, spec, {("ConfigMap", name)}) == {
        ("ConfigMap", name): "base/kustomization.yaml:6"
    }


async def test_what_a_patch_renames_is_placed_by_its_kind(trees: MemoryTrees, renderer: Renderer) -> None:
    renames = "- {op: replace, path: /metadata/name, value: quite-another}"
    patches = tuple(
        Patch(patch=renames, target=Selector(kind=kind, name=name))
        for kind, name in (("Service", "alone"), ("ServiceAccount", "one"))
    )
    spec = RenderSpec(path="apps/over", patches=patches)
    found = await renderer.origins(
        trees.add(FILES), spec, {("Service", "quite-another-x"), ("ServiceAccount", "quite-another-x")}
    )
    assert found == {
        ("Service", "quite-another-x"): "base/accounts.yaml:11",
        ("ServiceAccount", "quite-another-x"): "base/accounts.yaml",  # of two, nobody can tell which
    }


async def test_a_build_that_fails_has_no_places(trees: MemoryTrees, renderer: Renderer) -> None:
    tree = trees.add({"kustomization.yaml": "resources: [missing.yaml]\n"})
    assert await renderer.origins(tree, RenderSpec(), {("Service", "x")}) == {}
