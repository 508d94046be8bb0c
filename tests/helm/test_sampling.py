"""Which rendered objects depend on secret values, found by rendering charts with stand-ins."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.helm.charts import head, written
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.sampling import Secrecy, handed_stand_ins, needs_sample, secrecy_of, stand_in
from tidelog.engine.helm.setting import Scalar
from tidelog.engine.helm.sorting import sorted_manifests
from tidelog.engine.helm.spec import RenderedChart, RenderJob
from tidelog.engine.helm.values import Given, merged_values

PASSWORD = "Tr0ub4dor-and-3"


def config_map(name: str, **data: str) -> str:
    lines = "".join(f"  {key}: {value}\n" for key, value in data.items())
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n{lines}"


CHART = {
    "Chart.yaml": head("c"),
    "values.yaml": "password: default\nenabled: false\nreplicas: 1\nopen: is-open\nproxy: '{{ .Values.password }}'\n",
    "templates/secret.yaml": (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: own}\nstringData: {a: b}\n---\n" + config_map("open", a="b")
    ),
    "templates/literal.yaml": config_map("literal", a='"user:{{ .Values.password }}"'),
    "templates/encoded.yaml": config_map("encoded", a='{{ printf "user:%s" .Values.password | b64enc }}'),
    "templates/hashed.yaml": config_map("hashed", a="{{ .Values.password | sha256sum }}"),
    "templates/cut.yaml": config_map("cut", a="{{ .Values.password | trunc 5 | upper | quote }}"),
    "templates/file.yaml": config_map("file", a='|\n    {{ printf "a: 1\\npass=%s\\n" .Values.password | nindent 4 }}'),
    "templates/tpl.yaml": config_map("tpl", a="{{ tpl .Values.proxy . | quote }}"),
    "templates/flag.yaml": "{{ if .Values.enabled }}\n" + config_map("flag", a="b") + "{{ end }}\n",
    "templates/unrelated.yaml": config_map("unrelated", a="{{ .Values.open }}"),
    "templates/web.yaml": """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: {{ .Values.replicas }}
  template:
    metadata: {annotations: {checksum: {{ .Values | toJson | sha256sum }}}}
""",
    "templates/hook.yaml": """\
apiVersion: batch/v1
kind: Job
metadata: {name: hook, annotations: {helm.sh/hook: pre-install}}
spec: {template: {spec: {containers: [{name: c, args: [{{ .Values.password | b64enc | quote }}]}]}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: other, annotations: {helm.sh/hook: pre-install}}
""",
    "templates/NOTES.txt": "Log in with {{ .Values.password | b64enc }}.",
    "crds/crd.yaml": (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: as.example.org}\n"
    ),
}


class Sampled:
    """A chart, and what of it is secret."""

    def __init__(self, chart: RenderedChart, secrecy: Secrecy) -> None:
        self.chart = chart
        self.secrecy = secrecy

    @property
    def names(self) -> set[str]:
        return {key.name for key in self.secrecy.manifests}


async def sampled(
    renderer: ChartRenderer, chart: Path, *references: Given, inline: dict[str, Any] | None = None
) -> Sampled:
    found: list[str] = []

    def change(value: Scalar) -> Scalar:
        if isinstance(value, str):
            found.append(value)
        return stand_in(value)

    values, others = merged_values(inline or {}, references), merged_values(inline or {}, references, change)
    job = RenderJob(str(chart), "rel", "space", json.dumps(values).encode())
    rendered = await renderer.render(job)
    other: RenderedChart | None = rendered
    if needs_sample(rendered, has_secrets=values != others):
        try:
            other = await renderer.render(msgspec.structs.replace(job, values=json.dumps(others).encode()))
        except ChartError:
            other = None
    return Sampled(rendered, secrecy_of(rendered, other, found))


def secret(text: str, **how: Any) -> Given:
    return Given("Secret", "creds", data=text.encode(), **how)


async def test_object_that_a_secret_value_went_into_is_found_however_it_was_changed(
    renderer: ChartRenderer, tmp_path: Path
) -> None:
    found = await sampled(renderer, written(CHART, tmp_path / "c"), secret(f"password: {PASSWORD}\n"))
    assert found.names == {"own", "literal", "encoded", "hashed", "cut", "file", "tpl", "web"}
    assert {key.name for key in found.secrecy.hooks} == {"hook"}
    assert found.secrecy.notes
    assert not found.secrecy.exposed


async def test_only_secrets_are_secret_where_no_value_is(renderer: ChartRenderer, tmp_path: Path) -> None:
    given = Given("ConfigMap", "open", data=f"password: {PASSWORD}\n".encode())
    found = await sampled(renderer, written(CHART, tmp_path / "c"), given)
    assert found.names == {"own"}
    assert not found.secrecy.hooks
    assert not found.secrecy.notes


async def test_values_at_target_paths_are_secret_too(renderer: ChartRenderer, tmp_path: Path) -> None:
    chart = written(CHART, tmp_path / "c")
    for given in (
        secret(PASSWORD, key="p", target_path="password"),
        secret(f"'{PASSWORD}'", key="p", target_path="password"),
        secret(PASSWORD, key="p", target_path="password", literal=True),
    ):
        found = await sampled(renderer, chart, given)
        assert found.names == {"own", "literal", "encoded", "hashed", "cut", "file", "tpl", "web"}
    found = await sampled(renderer, chart, secret("true,replicas=3", key="p", target_path="enabled"))
    assert found.names == {"own", "flag", "web"}


async def test_value_that_another_one_replaces_makes_nothing_secret(renderer: ChartRenderer, tmp_path: Path) -> None:
    chart = written(CHART, tmp_path / "c")
    found = await sampled(renderer, chart, secret("password: overridden\n"), inline={"password": "in-the-open"})
    assert found.names == {"own"}


async def test_object_that_is_there_for_one_of_both_values_is_secret(renderer: ChartRenderer, tmp_path: Path) -> None:
    found = await sampled(renderer, written(CHART, tmp_path / "c"), secret("enabled: true\n"))
    assert found.names == {"own", "flag", "web"}


async def test_all_is_secret_where_the_schema_refuses_the_stand_in(renderer: ChartRenderer, tmp_path: Path) -> None:
    schema = json.dumps({"properties": {"password": {"type": "string", "pattern": "^Tr0"}}})
    chart = written({**CHART, "values.schema.json": schema}, tmp_path / "c")
    found = await sampled(renderer, chart, secret(f"password: {PASSWORD}\n"))
    assert {"unrelated", "open"} < found.names
    assert {key.name for key in found.secrecy.hooks} == {"hook", "other"}
    assert found.secrecy.notes


async def test_what_chance_makes_is_secret(renderer: ChartRenderer, tmp_path: Path) -> None:
    made = config_map("made", a="{{ randAlphaNum 20 }}") + "---\n" + config_map("open", a="b")
    dated = config_map("dated", a='{{ now | date "2006" | quote }}')
    found = await sampled(renderer, written({"Chart.yaml": head("c"), "templates/a.yaml": made}, tmp_path / "c"))
    assert found.names == {"made"}
    clock = await sampled(renderer, written({"Chart.yaml": head("d"), "templates/a.yaml": dated}, tmp_path / "d"))
    assert (clock.chart.impure, clock.names) == (("now",), set())
    assert not needs_sample(clock.chart, has_secrets=False)
    assert needs_sample(found.chart, has_secrets=False)


async def test_value_that_stands_in_an_object_by_another_way_is_found(renderer: ChartRenderer, tmp_path: Path) -> None:
    encoded = base64.b64encode(b"x" + PASSWORD.encode()).decode()
    files = {
        "Chart.yaml": head("c"),
        "templates/a.yaml": config_map("copied", a=encoded) + "---\n" + config_map("short", a="on"),
    }
    found = await sampled(renderer, written(files, tmp_path / "c"), secret(f"password: {PASSWORD}\nshort: 'on'\n"))
    assert found.names == {"copied"}


async def test_object_that_is_called_by_a_secret_value_is_told(renderer: ChartRenderer, tmp_path: Path) -> None:
    files = {"Chart.yaml": head("c"), "templates/a.yaml": config_map("{{ .Values.called }}", a="b")}
    found = await sampled(renderer, written(files, tmp_path / "c"), secret("called: for-nobody\n"))
    assert found.names == {"for-nobody"}
    assert [key.name for key in found.secrecy.exposed] == ["for-nobody"]


@pytest.mark.parametrize(
    "value",
    [
        *(PASSWORD, "a", "Z", "0", "9", "10.0.0.1", "!!!", "---", "é", "É", "文字", "https://u:p@host/"),
        *(0, 5, 9, 10, 65_535, -7, 2**53, True, False, 1.5, -0.0, 1e300),
    ],
)
def test_stand_in_is_another_value_of_its_kind(value: Scalar) -> None:
    other = stand_in(value)
    assert other != value
    assert type(other) is type(value)
    assert other == stand_in(value)
    if isinstance(value, str) and isinstance(other, str):
        assert len(other) == len(value)
        for one, two in zip(value, other, strict=True):
            assert (one.isdigit(), one.islower(), one.isupper()) == (two.isdigit(), two.islower(), two.isupper())
    elif isinstance(value, int) and not isinstance(value, bool):
        assert len(str(other)) == len(str(value))


def test_stand_in_of_encoded_text_can_be_decoded() -> None:
    encoded = base64.b64encode(b"user: someone\n").decode()
    other = stand_in(encoded)
    assert isinstance(other, str)
    assert base64.b64decode(other).decode() == "hfre: fbzrbar\n"
    assert (stand_in(None), stand_in("")) == (None, "")


def test_stand_in_of_a_template_can_be_executed() -> None:
    text = 'to {{- include "web.name" . -}} of {{ .Release.Name | upper }}'
    assert stand_in(text) == 'gb {{- include "web.name" . -}} bs {{ .Release.Name | upper }}'
    for literal in ('{{ "hunter" }}', "{{ `hunter` }}", "{{ 12 }}", "{{ .Release.Name }}", "{{hunter}}"):
        assert stand_in(literal) != literal


def test_texts_that_hold_what_was_handed_on_get_stand_ins() -> None:
    values = {"a": ["x-token-y", "token", 1], "b": "open", "c": True}
    assert handed_stand_ins(values, ["token", ""]) == {"a": ["k-gbxra-l", "gbxra", 1], "b": "open", "c": True}


def with_hook(password: str, count: int) -> RenderedChart:
    env = [{"name": "given", "value": password}, {"name": "open", "value": "is-open"}]
    hook = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "setup-job", "annotations": {"helm.sh/hook": "pre-install"}},
        "spec": {"env": env, "count": count},
    }
    _, hooks = sorted_manifests({"c/templates/hook.yaml": json.dumps(hook)})
    return RenderedChart({}, (), hooks, (), "")


def test_of_hooks_what_stands_otherwise_in_the_sample_is_secret() -> None:
    chart, sample = with_hook(PASSWORD, 471_147), with_hook("another-one", 471_148)
    assert secrecy_of(chart, sample, ()).hook_texts == ("471147", PASSWORD)
    assert secrecy_of(chart, chart, ()).hook_texts == ()


def test_of_hooks_of_which_nobody_knows_all_is_secret_but_what_they_are_called() -> None:
    found = secrecy_of(with_hook(PASSWORD, 471_147), None, ()).hook_texts
    assert {PASSWORD, "is-open"} <= set(found)
    assert not {"setup-job", "pre-install", "Job"} & set(found)
    chart = msgspec.structs.replace(with_hook(PASSWORD, 471_147), metadata={"name": "is-open", "version": "471147"})
    assert not {"is-open", "471147"} & set(secrecy_of(chart, None, ()).hook_texts), "every condition names the chart"
