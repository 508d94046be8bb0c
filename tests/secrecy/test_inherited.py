"""What a Kustomization may have been given as secret, in whatever field, and what stays readable of it."""

import json

from tidelog.engine.secrecy.inherited import inherited, without_inherited
from tidelog.engine.secrecy.values import SecretValues

SPEC = {
    "interval": "10m",
    "prune": True,
    "path": "./teams/p-path/overlay",
    "sourceRef": {"kind": "GitRepository", "name": "fleet"},
    "targetNamespace": "shop",
    "dependsOn": [{"name": "infra", "readyExpr": "dep.spec.path == 'p-expression'"}],
    "healthChecks": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}],
    "patches": [{"patch": "- op: add\n  path: /data/x\n  value: p-patch\n", "target": {"kind": "ConfigMap"}}],
    "images": [{"name": "app", "newTag": "p-tag"}],
    "commonMetadata": {"labels": {"team": "p-label"}},
    "postBuild": {"substitute": {"token": "p-variable"}, "substituteFrom": [{"kind": "ConfigMap", "name": "settings"}]},
}
PLANTED = ("p-path", "p-expression", "p-patch", "p-tag", "p-label", "p-variable")


def test_what_may_be_secret_is_in_no_text_that_errors_make_of_it() -> None:
    values = SecretValues(inherited(SPEC))
    for text in (
        "kustomization path not found: ./teams/p-path/overlay",
        "open /tmp/x/teams/p-path/kustomization.yaml: no such file",
        "p-path: is a file",
        "expression dep.spec.path == 'p-expression' is no boolean",
        "unable to parse: - op: add\n  path: /data/x\n  value: p-patch\n",
        'image "nginx:p-tag"',
        'label "p-label"',
        "value p-variable is refused",
    ):
        filtered = values.filter(text)
        assert not [planted for planted in PLANTED if planted in filtered], filtered


def test_what_names_objects_or_has_a_fixed_form_is_told() -> None:
    values = SecretValues(inherited(SPEC))
    for text in ("GitRepository shop/fleet not found", "Kustomization infra", "next run in 10m", "Deployment/shop/web"):
        assert values.filter(text) == text


def test_a_spec_without_what_may_be_secret_has_its_form() -> None:
    left = without_inherited(SPEC, lambda _: "x")
    assert not [planted for planted in PLANTED if planted in json.dumps(left)]
    for name in ("interval", "prune", "sourceRef", "targetNamespace", "healthChecks"):
        assert left[name] == SPEC[name]
    assert left["dependsOn"] == [{"name": "infra", "readyExpr": "x"}]
    assert left["postBuild"] == {"substitute": {"token": "x"}, "substituteFrom": SPEC["postBuild"]["substituteFrom"]}  # type: ignore[index]
    assert left.keys() == SPEC.keys()


def test_a_malformed_spec_is_searched_as_it_is() -> None:
    spec = {"path": 7, "dependsOn": ["infra"], "postBuild": "none", "patches": {"p": ["p-patch"]}, "images": None}
    assert set(inherited(spec)) == {"p-patch"}
    assert without_inherited({}, str) == {}
