"""Which objects the files of a target may give that cannot be built: none that they do give may be missed."""

import pytest

from tests.render.trees import MemoryTrees
from tidelog.engine.render import mentions as mentions_
from tidelog.engine.render.mentions import Mentions, mentions
from tidelog.engine.render.spec import RenderSpec

WANTED = ("ConfigMap", "shop")
SHOP = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: shop\n"
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: other\n"


def named(name: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n"


def found(trees: MemoryTrees, files: dict[str, str], *names: tuple[str, str], path: str = "app") -> Mentions:
    return mentions(trees, trees.add(files), RenderSpec(path=path), names or [WANTED])


GIVES = {
    "an object": {"app/a.yaml": SHOP},
    "an object in JSON that is listed": {
        "app/kustomization.yaml": "resources: [a.json]\n",
        "app/a.json": '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop"}}',
    },
    "a list": {"app/a.yaml": '{"kind": "List", "items": [{"kind": "ConfigMap", "metadata": {"name": "shop"}}]}'},
    "a file with a tab": {"app/a.yaml": f"{SHOP}data:\n\ta: b\n"},
    "a file with a key that is given twice": {"app/a.yaml": f"{SHOP}data: {{a: b, a: c}}\n"},
    "a file that is not UTF-8": {"app/a.yaml": f"{SHOP}# \udcff"},
    "a name with a variable": {"app/a.yaml": named("${part}op")},
    "a generator": {"app/kustomization.yaml": "configMapGenerator: [{name: shop}]\n"},
    "a prefix": {"app/kustomization.yaml": "namePrefix: sh\nresources: [a.yaml]\n", "app/a.yaml": named("op")},
    "a prefix for a generator": {"app/kustomization.yaml": "namePrefix: s\nconfigMapGenerator: [{name: hop}]\n"},
    "a base with a suffix": {
        "app/kustomization.yaml": "resources: [../base]\n",
        "base/kustomization.yaml": "nameSuffix: op\nresources: [a.yaml]\n",
        "base/a.yaml": named("sh"),
    },
    "a kustomization that lists what is missing": {
        "app/kustomization.yaml": "resources: [gone.yaml, a.yaml]\n",
        "app/a.yaml": SHOP,
    },
    "a kustomization that is broken": {"app/kustomization.yaml": "resources: [", "elsewhere/a.yaml": SHOP},
    "a path that is not there": {"application/a.yaml": SHOP},
    "a patch that renames": {
        "app/kustomization.yaml": "resources: [a.yaml]\npatches: [{path: p.yaml, target: {kind: ConfigMap}}]\n",
        "app/a.yaml": OTHER,
        "app/p.yaml": "- {op: replace, path: /metadata/name, value: shop}\n",
    },
}


@pytest.mark.parametrize("case", GIVES)
def test_an_object_that_may_be_given_is_found(trees: MemoryTrees, case: str) -> None:
    files = {path: text.encode(errors="surrogateescape") for path, text in GIVES[case].items()}
    assert mentions(trees, trees.add(files), RenderSpec(path="app"), [WANTED]).names == {WANTED}


def test_a_generated_object_is_found_without_its_hash(trees: MemoryTrees) -> None:
    wanted = "ConfigMap", "shop-5h2kmt9ffb"
    assert found(trees, {"app/kustomization.yaml": "configMapGenerator: [{name: shop}]\n"}, wanted).names == {wanted}


GIVES_NOT: dict[str, dict[str, str]] = {
    "nothing": {"app/a.yaml": OTHER},
    "another kind": {"app/a.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: shop}\n"},
    "a longer name": {"app/a.yaml": named("shop-web"), "app/b.yaml": f"{named('web-shop')}a: ["},
    "another directory": {"app/a.yaml": OTHER, "other/a.yaml": SHOP},
    "a name in a value": {"app/a.yaml": f"{OTHER}data: {{a: shop}}\n"},
    "the name of a file": {"app/kustomization.yaml": "resources: [shop.yaml]\n", "app/shop.yaml": OTHER},
}


@pytest.mark.parametrize("case", GIVES_NOT)
def test_an_object_that_is_not_given_is_not_found(trees: MemoryTrees, case: str) -> None:
    assert found(trees, GIVES_NOT[case]) == Mentions(frozenset())


def test_where_bases_come_from_elsewhere_not_all_stands_in_the_files(trees: MemoryTrees) -> None:
    base = "https://example.com/base?ref=v1"
    assert found(trees, {"app/kustomization.yaml": f"resources: [{base}]\n"}) == Mentions(frozenset(), whole=False)


def test_of_too_many_files_all_may_be_given(trees: MemoryTrees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mentions_, "FILES_MAX", 1)
    assert found(trees, {"app/a.yaml": OTHER}).names == frozenset()
    assert found(trees, {"app/a.yaml": OTHER, "app/b.yaml": OTHER}).names == {WANTED}
