"""What one Kustomization hands on to another as secret, and what of it still holds of a spec as it is."""

from typing import Any

import pytest

from tidelog.engine.secrecy.handed import Handed, handed_in, is_searched_for, marks_in
from tidelog.engine.secrecy.values import SecretValues

PATCH = "- op: add\n  path: /data/x\n  value: hunter2\n"
SPEC: dict[str, Any] = {
    "path": "./teams/hunter2",
    "patches": [{"patch": PATCH, "target": {"kind": "ConfigMap", "name": "prod-x"}}],
    "images": [{"name": "web", "newTag": "v1"}],
    "commonMetadata": {"annotations": {"by": "team-b"}},
    "postBuild": {"substitute": {"token": "x-hunter2", "a-b": "1", "open": "prod"}},
}


def test_a_variable_is_secret_whatever_its_value_and_others_are_not() -> None:
    marks = {"spec.postBuild.substitute.token": ["hunter2"], 'spec.postBuild.substitute["a-b"]': ["1"]}
    assert handed_in(SPEC, marks) == Handed(frozenset({"token", "a-b"}), ("hunter2",)), "the patch has it too"
    assert handed_in({"postBuild": SPEC["postBuild"]}, marks) == Handed(frozenset({"token", "a-b"}))


def test_a_field_that_was_changed_since_is_not_secret_any_more() -> None:
    spec = {"postBuild": {"substitute": {"token": "other"}}, "images": [{"name": "web", "newTag": "v2"}]}
    assert not handed_in(spec, {"spec.postBuild.substitute.token": ["hunter2"], "spec.images[0].newTag": ["v1-x"]})
    assert not handed_in(spec, {"spec.postBuild.substitute.gone": ["other-x"]})


@pytest.mark.parametrize(
    ("marks", "values"),
    [
        ({"spec.patches[0].patch": ["hunter2"]}, ("hunter2",)),
        ({"spec.patches[7].patch": ["hunter2"]}, ("hunter2",)),
        ({"spec.images[0].newTag": ["v1"]}, ()),
        ({"spec.commonMetadata.annotations.by": ["team-b"]}, ("team-b",)),
        ({"spec.patches[0].target.name": ["prod-x"]}, ()),
        ({"spec.path": ["teams"]}, ()),
    ],
    ids=["patch", "a patch that stood elsewhere", "short", "metadata", "what it is for", "path"],
)
def test_what_goes_into_objects_by_other_fields_is_looked_for(marks: dict[str, list[str]], values: tuple[str]) -> None:
    assert handed_in(SPEC, marks).values == values


def test_a_path_is_looked_for_where_the_build_writes_it() -> None:
    spec = SPEC | {"buildMetadata": ["originAnnotations"]}
    assert handed_in(spec, {"spec.path": ["teams"]}).values == ("teams",)


@pytest.mark.parametrize("value", ["1", "abc", "true", " null ", ""])
def test_what_stands_everywhere_is_not_looked_for(value: str) -> None:
    assert not is_searched_for(value)
    spec = {"images": [{"name": "web", "newTag": value}]}
    assert not handed_in(spec, {"spec.images[0].newTag": [value]})


def test_where_values_stand_is_found_in_any_form() -> None:
    spec = SPEC | {"wait": True, "images": [{"newTag": "aHVudGVyMg"}], "suspend": None}
    assert marks_in(spec, SecretValues(["hunter2"])) == {
        "spec.path": ["hunter2"],
        "spec.patches[0].patch": ["hunter2"],
        "spec.images[0].newTag": ["aHVudGVyMg"],
        "spec.postBuild.substitute.token": ["hunter2"],
    }


@pytest.mark.parametrize(
    "spec", [{}, {"postBuild": "none", "patches": {"p": 1}, "images": [7], "commonMetadata": None}], ids=str
)
def test_a_malformed_spec_has_nothing(spec: dict[str, Any]) -> None:
    assert not handed_in(spec, {"spec.patches[0].patch": ["hunter2"]})
