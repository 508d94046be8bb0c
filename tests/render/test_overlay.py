"""The kustomization file of a target's path. Compared with fluxcd/pkg/kustomize on 460 random trees."""

from typing import Any

import pytest

from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.overlay import generated, overlaid
from tidelog.engine.render.spec import Image, Patch, RenderSpec, Selector


def overlay(found: dict[str, Any], spec: RenderSpec, *, written: bool = True, there: bool = True) -> dict[str, Any]:
    return overlaid(found, spec, written=written, exists=lambda _: there, named_in="kustomization.yaml")


def test_the_spec_s_patches_come_after_the_file_s_own() -> None:
    content = overlay(
        {"resources": ["a"], "patches": [{"path": "p.yaml"}]},
        RenderSpec(patches=(Patch("x: 1", Selector(kind="Deployment", label_selector="a=b")), Patch("y: 2"))),
    )

    assert content["patches"] == [
        {"path": "p.yaml"},
        {"patch": "x: 1", "target": {"kind": "Deployment", "labelSelector": "a=b"}},
        {"patch": "y: 2"},
    ]


def test_images_merge_by_field_and_tag_and_digest_are_one_choice() -> None:
    found: dict[str, Any] = {
        "resources": ["a"],
        "images": [
            {"name": "one", "newName": "mine", "newTag": "1"},
            {"name": "two", "newTag": "1"},
            {"name": "three", "digest": "sha256:old"},
        ],
    }
    spec = RenderSpec(
        images=(
            Image("one", new_tag="2"),
            Image("two", new_name="yours"),
            Image("three", new_tag="3"),
            Image("four", digest="sha256:new"),
        )
    )

    assert overlay(found, spec)["images"] == [
        {"name": "one", "newName": "mine", "newTag": "2"},
        {"name": "two", "newTag": "1", "newName": "yours"},
        {"name": "three", "newTag": "3"},
        {"name": "four", "digest": "sha256:new"},
    ]
    assert found["images"][0]["newTag"] == "1", "what was read stays as it was read"


def test_namespace_prefix_and_suffix_replace_the_file_s_own() -> None:
    found = {"resources": ["a"], "namespace": "old", "namePrefix": "old-", "nameSuffix": "-old"}
    content = overlay(found, RenderSpec(target_namespace="new", name_prefix="new-"))

    assert (content["namespace"], content["namePrefix"], content["nameSuffix"]) == ("new", "new-", "-old")
    assert overlay(found, RenderSpec(name_suffix="-new"))["nameSuffix"] == "-new"


def test_build_metadata_is_replaced_and_set_where_a_file_has_no_resources() -> None:
    assert "buildMetadata" not in overlay({"resources": ["a"]}, RenderSpec())
    assert overlay({"configMapGenerator": []}, RenderSpec())["buildMetadata"] == ["originAnnotations"]
    content = overlay({"resources": ["a"], "buildMetadata": ["x"]}, RenderSpec(build_metadata=("y",)))
    assert content["buildMetadata"] == ["y"]


def test_fields_that_kustomize_does_not_have_fall_away() -> None:
    assert "resource" not in overlay({"resources": ["a"], "resource": ["b"]}, RenderSpec())


def test_a_missing_component_is_left_out_when_the_spec_says_so() -> None:
    spec = RenderSpec(components=("../c",), ignore_missing_components=True)

    assert "components" not in overlay({"resources": ["a"]}, spec, there=False)
    assert overlay({"resources": ["a"], "components": ["b"]}, spec)["components"] == ["b", "../c"]


@pytest.mark.parametrize("path", ["https://example.com/c", "git@example.com:a/b", "/etc", "github.com/a/b"])
def test_components_are_local(path: str) -> None:
    with pytest.raises(RenderError, match="must be local and relative"):
        overlay({"resources": ["a"]}, RenderSpec(components=(path,)))


def test_a_directory_without_manifests_is_no_error() -> None:
    assert generated([]) == {"namespace": "_placeholder"}
    assert overlay(generated([]), RenderSpec(), written=False)["namespace"] == "_placeholder"


def test_a_field_of_the_wrong_type_is_named() -> None:
    with pytest.raises(RenderError, match=r"kustomization\.yaml: patches has to be a list"):
        overlay({"patches": {"a": 1}}, RenderSpec())
