from collections.abc import Mapping

import pytest

from tests.render.trees import MemoryTrees
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.spec import RenderSpec
from tidelog.engine.render.walk import Walk, is_unchanged, sorted_resources, walk

NAMED = (
    "a.yaml", "p1.yaml", "p2.yaml", "p3.json", "f1.txt", "f2.txt", "f3.txt", "f4.txt", "e1.env", "e2.env", "e3.env",
    "conf.yaml", "crd.yaml", "schema.json", "r.yaml", "r2.yaml", "inline.yaml",
)  # fmt: skip
GIVEN = ("kustomization.yaml", "t.yaml", "g.yaml", "sub/kustomization.yaml")


def walked(trees: MemoryTrees, files: Mapping[str, str], path: str = "", **links: str) -> Walk:
    return walk(trees, trees.add(files, links), RenderSpec(path=path))


def read(found: Walk) -> set[str]:
    return {entry.path for entry in found.read_set if entry.id is not None}


def absent(found: Walk) -> set[str]:
    return {entry.path for entry in found.read_set if entry.id is None}


def test_every_field_that_names_a_file_is_followed(trees: MemoryTrees) -> None:
    found = walked(
        trees,
        {
            "app/kustomization.yaml": """
resources: [a.yaml, ../base, sub/]
bases: [../oldbase]
components: [../comp]
patches:
- path: p1.yaml
- patch: '{}'
patchesStrategicMerge: [p2.yaml, "kind: X\\nmetadata: {name: y}\\n"]
patchesJson6902: [{path: p3.json, target: {kind: A, name: b, version: v1}}]
configMapGenerator:
- {name: c, files: [f1.txt, "key=f2.txt"], envs: [e1.env], literals: [a=b]}
secretGenerator:
- {name: s, files: [f3.txt], env: e2.env}
configurations: [conf.yaml]
crds: [crd.yaml]
openapi: {path: schema.json}
replacements: [{path: r.yaml}, {source: {kind: A}, targets: []}]
transformers: [t.yaml, "apiVersion: builtin\\nkind: PatchTransformer\\nmetadata: {name: i}\\npath: inline.yaml\\n"]
generators: [g.yaml]
""",
            "app/t.yaml": "kind: ReplacementTransformer\nreplacements: [{path: r2.yaml}]\n",
            "app/g.yaml": "kind: SecretGenerator\nfiles: [f4.txt]\nenvs: [e3.env]\n",
            "base/Kustomization": "resources: [../app/a.yaml]\n",
            "oldbase/kustomization.yml": "",
            "comp/kustomization.yaml": "resources: [c.yaml]\nkind: Component\n",
            "comp/c.yaml": "",
            "app/sub/kustomization.yaml": "resources: [../a.yaml]\n",
            **{f"app/{name}": "" for name in NAMED},
            "app/unnamed.yaml": "",
        },
        "app",
    )

    assert not found.missing
    assert read(found) == {
        *(f"app/{name}" for name in (*NAMED, *GIVEN)),
        "base/Kustomization",
        "oldbase/kustomization.yml",
        "comp/kustomization.yaml",
        "comp/c.yaml",
    }
    assert set(found.checkout) == read(found)


def test_the_names_that_a_kustomization_file_could_have_are_noted_as_absent(trees: MemoryTrees) -> None:
    found = walked(trees, {"kustomization.yml": "resources: [a]\n", "a/Kustomization": ""})

    assert absent(found) == {"kustomization.yaml", "Kustomization", "a/kustomization.yaml", "a/kustomization.yml"}


def test_a_file_that_is_named_and_not_there_is_noted_and_said(trees: MemoryTrees) -> None:
    found = walked(trees, {"kustomization.yaml": "resources: [a.yaml]\n"})

    assert "a.yaml" in absent(found)
    assert found.missing == ("kustomization.yaml:1: 'a.yaml' is not there (a.yaml)",)


def test_a_directory_without_kustomization_file_is_read_as_a_whole(trees: MemoryTrees) -> None:
    files = {
        "app/b.yaml": "",
        "app/a.yml": "",
        "app/a/z.yaml": "",
        "app/b/kustomization.yaml": "resources: [../../beside.yaml, own.yaml]\n",
        "app/b/own.yaml": "",
        "app/readme.md": "",
        "app/B.YAML": "",
        "beside.yaml": "",
        "other.yaml": "",
    }
    tree = trees.add(files)
    found = walk(trees, tree, RenderSpec(path="app"))
    app = trees.entry(tree, "app")

    assert app is not None
    assert sorted_resources(trees, app.id) == ["./a/z.yaml", "./a.yml", "./b", "./b.yaml"]
    assert read(found) == {"app", "beside.yaml"}
    assert set(found.checkout) == {"app", "beside.yaml"}


def test_links_are_as_good_as_absent(trees: MemoryTrees) -> None:
    tree = trees.add({"kustomization.yaml": "resources: [a.yaml, d]\n"}, {"a.yaml": "/etc/passwd", "d": "../.."})
    found = walk(trees, tree, RenderSpec())

    assert found.checkout == ("kustomization.yaml",)
    assert all("symbolic link" in sentence for sentence in found.missing)
    assert len(found.missing) == 2
    assert {"a.yaml", "d"} <= read(found), "a link that becomes a file is a change"


@pytest.mark.parametrize(
    "content",
    [
        "resources: [../../x]", "components: [../../c]", "patches: [{path: ../../../p.yaml}]", "crds: [/etc/passwd]",
        "configMapGenerator: [{name: a, files: [k=../../x]}]", "configMapGenerator: [{name: a, envs: [../../x]}]",
        "transformers: [../../t.yaml]", "openapi: {path: /x}", "replacements: [{path: ../../r}]",
        "configMapGenerator: [{name: a, FILES: [k=../../x]}]",
        "configMapGenerator: [{name: a, envs: ['x{/../../../x']}]", "patchesStrategicMerge: ['x{/../../../x']",
        "generators: ['x{/../../../x']", "resources: [file:///etc/x.git]", "resources: ['file://etc/x.git//a?ref=b']",
    ],
)  # fmt: skip
def test_paths_that_leave_the_source_are_refused(trees: MemoryTrees, content: str) -> None:
    with pytest.raises(RenderError, match=r"a/kustomization\.yaml: .*(leaves|absolute|outside)") as caught:
        walked(trees, {"a/kustomization.yaml": content}, "a")

    assert any(entry.path == "a/kustomization.yaml" for entry in caught.value.read_set)


@pytest.mark.parametrize("content", ["Resources: [../../x]", "HELMCHARTS: [{a: b}]", "re\u017fources: [../../x]"])
def test_fields_are_found_in_whatever_case_they_are_written(trees: MemoryTrees, content: str) -> None:
    files = {"kustomization.yaml": "resources: [a]\n", "a/kustomization.yaml": content}
    with pytest.raises(RenderError, match=r"a/kustomization\.yaml: .*(leaves|needs Helm)"):
        walked(trees, files)


@pytest.mark.parametrize("plugins", ["generators", "transformers", "validators"])
@pytest.mark.parametrize(
    "config",
    ["files: [p=/proc/1/environ]", "envs: [/etc/passwd]", "Env: ../../x", "path: /x", "items: [{paths: [../../x]}]"],
)
def test_plugins_of_a_directory_stay_within_the_source_too(trees: MemoryTrees, plugins: str, config: str) -> None:
    files = {
        "a/kustomization.yaml": f"{plugins}: [gens]\n",
        "a/gens/kustomization.yaml": "resources: [deeper]\n",
        "a/gens/deeper/kustomization.yaml": "resources: [g.yaml]\n",
        "a/gens/deeper/g.yaml": f"---\nkind: Other\n---\nkind: Builtin\n{config}\n",
    }
    with pytest.raises(RenderError, match=r"a/gens/deeper/g\.yaml:4: .*(leaves|absolute)"):
        walked(trees, files, "a")


def test_a_text_that_is_no_object_and_no_path_is_not_quoted(trees: MemoryTrees) -> None:
    found = walked(trees, {"kustomization.yaml": "patchesStrategicMerge: ['{kind: Secret, data: {a: s3cret}']\n"})

    assert found.missing == ("kustomization.yaml:1: a text that is no object, and so is a path, is not there",)


@pytest.mark.parametrize(
    "path",
    [
        "https://example.com/a.yaml", "https://github.com/a/b//c?ref=v1", "github.com/a/b", "git@example.com:a/b",
        "ssh://git@example.com/a/b", "git::https://example.com/a/b", "gh:a/b", "HTTPS://EXAMPLE.COM/a",
    ],
)  # fmt: skip
def test_remote_bases_are_found(trees: MemoryTrees, path: str) -> None:
    found = walked(
        trees, {"kustomization.yaml": "resources: [base]\n", "base/kustomization.yaml": f"resources: ['{path}']\n"}
    )

    assert found.remote_bases == (path,)


def test_a_file_with_a_name_like_an_address_is_a_file(trees: MemoryTrees) -> None:
    found = walked(trees, {"kustomization.yaml": "resources: [github.com/a.yaml]\n", "github.com/a.yaml": ""})

    assert found.remote_bases == ()
    assert "github.com/a.yaml" in read(found)


def test_a_cycle_ends(trees: MemoryTrees) -> None:
    found = walked(
        trees, {"a/kustomization.yaml": "resources: [../b]", "b/kustomization.yaml": "resources: [../a]"}, "a"
    )

    assert {"a/kustomization.yaml", "b/kustomization.yaml"} == read(found)


def test_helm_charts_are_refused_with_what_to_do(trees: MemoryTrees) -> None:
    with pytest.raises(RenderError, match=r"kustomization\.yaml: helmCharts needs Helm.*HelmRelease"):
        walked(trees, {"kustomization.yaml": "helmCharts: [{name: x}]\n"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [1\n", r"kustomization\.yaml:2: did not find"),
        ("resources: []\nresources: []\n", r"kustomization\.yaml:2: the key 'resources' is given twice"),
        ("a: 1\n---\nb: 1\n", "is one mapping"),
        ("- a\n", "is one mapping"),
        ("a:\n\tb: 1\n", r"kustomization\.yaml:2: .*tab"),
    ],
)
def test_a_kustomization_file_that_cannot_be_read_is_named_with_its_line(
    trees: MemoryTrees, content: str, said: str
) -> None:
    with pytest.raises(RenderError, match=said):
        walked(trees, {"kustomization.yaml": content})


def test_a_path_that_is_not_there_is_no_fault_of_the_build(trees: MemoryTrees) -> None:
    with pytest.raises(RenderError, match=r"kustomization path not found: \./apps") as caught:
        walked(trees, {"app/a.yaml": ""}, "./apps")

    assert caught.value.reason == "ArtifactFailed"
    assert [entry.path for entry in caught.value.read_set] == ["apps"]


@pytest.mark.parametrize("path", ["", ".", "./", "/", "a/..", "../..", "./a/../"])
def test_the_path_stays_within_the_source(trees: MemoryTrees, path: str) -> None:
    assert walked(trees, {"kustomization.yaml": "", "a/b": ""}, path).root == ""


def test_transformers_of_a_directory_take_the_whole_tree(trees: MemoryTrees) -> None:
    found = walked(trees, {"kustomization.yaml": "transformers: [t]\n", "t/kustomization.yaml": "resources: [x]\n"})

    assert found.whole
    assert [entry.path for entry in found.read_set] == [""]


def test_only_a_change_of_what_was_read_is_a_change(trees: MemoryTrees) -> None:
    files = {
        "a/kustomization.yaml": "resources: [x.yaml, ../b]\n",
        "a/x.yaml": "1",
        "b/kustomization.yml": "",
        "c": "1",
    }
    read_set = walked(trees, files, "a").read_set

    def unchanged(files: Mapping[str, str]) -> bool:
        return is_unchanged(trees, trees.add(files), read_set)

    assert unchanged(files)
    assert unchanged(files | {"c": "2", "a/unnamed": "", "new/file": ""})
    assert not unchanged(files | {"a/x.yaml": "2"})
    assert not unchanged(files | {"b/Kustomization": ""}), "what was looked for and absent has come"
    assert not unchanged({path: text for path, text in files.items() if path != "b/kustomization.yml"})
