"""Bad charts: what is said of them, and that none takes more than it may."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helm.charts import below, head, packed, written
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.pool import ChartRenderer, Limits
from tidelog.engine.helm.spec import RenderJob
from tidelog.engine.secrecy.values import SecretValues

SMALL = Limits(time_s=60, memory_bytes=400 * 1024 * 1024, output_bytes=1024 * 1024)


def chart(tmp_path: Path, template: str, **more: str) -> str:
    files = {
        "Chart.yaml": head("bad"),
        "templates/a.yaml": template,
        **{k.replace("__", "/"): v for k, v in more.items()},
    }
    return str(written(files, tmp_path / "bad"))


async def failure(renderer: ChartRenderer, path: str, values: Any = None, **how: Any) -> ChartError:
    secrets = how.pop("secrets", None)
    job = RenderJob(path, "rel", "space", json.dumps(values or {}).encode(), **how)
    with pytest.raises(ChartError) as caught:
        await renderer.render(job, secrets)
    return caught.value


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a: {{ .Values.a.b.c }}", r"bad/templates/a\.yaml:1:\d+.*nil pointer evaluating interface \{\}\.b"),
        ("a: 1\nb: {{ if }}", r"bad/templates/a\.yaml:2\): missing value for if"),
        ("a: {{ nothere }}", r'bad/templates/a\.yaml:1\): function "nothere" not defined'),
        ('a: {{ required "name it" .Values.a }}', r"bad/templates/a\.yaml:1:\d+\): name it"),
        ('a: {{ fail "as told" }}', r"bad/templates/a\.yaml:1:\d+\): as told"),
        ('a: {{ include "none" . }}', r'bad/templates/a\.yaml:1:\d+.*no template "none"'),
        ("a: [\nb: 1", r"bad/templates/a\.yaml, line \d of what it rendered: what the template rendered is no YAML"),
        ("- a", r"bad/templates/a\.yaml: the template rendered a text or a list"),
        ("{{ env `HOME` }}", r'function "env" not defined'),
    ],
)
async def test_error_tells_the_file_and_the_line(
    template: str, said: str, renderer: ChartRenderer, tmp_path: Path
) -> None:
    error = await failure(renderer, chart(tmp_path, template))
    assert error.final
    assert str(tmp_path) not in error.message
    assert re.search(said, error.message), error.message


async def test_values_that_the_schema_refuses_are_told_by_their_path(renderer: ChartRenderer, tmp_path: Path) -> None:
    schema = '{"properties": {"web": {"properties": {"port": {"type": "integer"}}}}}'
    path = chart(tmp_path, "a: b", values__schema="")
    written({"values.schema.json": schema}, Path(path))
    error = await failure(renderer, path, {"web": {"port": "eighty"}})
    assert "at '/web/port': got string, want integer" in error.message
    assert error.final


async def test_schema_is_passed_over_when_asked(renderer: ChartRenderer, tmp_path: Path) -> None:
    deny = '{"required": ["never"]}'
    sub = {"Chart.yaml": head("sub"), "values.schema.json": deny, "templates/b.yaml": "b: 1"}
    files = {
        "Chart.yaml": head("top"),
        "values.schema.json": deny,
        "templates/a.yaml": "a: 1",
        **below("charts/sub", sub),
        "charts/packed.tgz": packed("packed", {**sub, "Chart.yaml": head("packed")}),
    }
    archive = tmp_path / "c.tgz"
    archive.write_bytes(packed("top", files))
    error = await failure(renderer, str(archive))
    assert "never" in error.message
    rendered = await renderer.render(RenderJob(str(archive), "r", "n", skip_schema=True))
    assert len(rendered.manifests) == 3


async def test_error_quotes_no_secret(renderer: ChartRenderer, tmp_path: Path) -> None:
    path = chart(tmp_path, "a: {{ fail .Values.password }}")
    secrets = SecretValues(["s3cr3t-of-the-tenant"])
    error = await failure(renderer, path, {"password": "s3cr3t-of-the-tenant"}, secrets=secrets)
    assert "s3cr3t" not in error.message
    assert "bad/templates/a.yaml:1" in error.message


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"templates/a.yaml": "a: b"}, "Chart.yaml file is missing"),
        ({"Chart.yaml": "name: x: y"}, "Chart.yaml"),
        ({"Chart.yaml": "apiVersion: v2\nname: x\n"}, "version"),
        ({"Chart.yaml": head("x"), "values.yaml": "a: ["}, "values.yaml"),
        ({"Chart.yaml": head("x", kind="library")}, "library charts are not installable"),
        ({"Chart.yaml": head("x", "kubeVersion: '>=1.99'\n")}, "chart requires kubeVersion: >=1.99"),
    ],
)
async def test_chart_that_is_none_is_refused(
    files: dict[str, str | bytes], said: str, renderer: ChartRenderer, tmp_path: Path
) -> None:
    error = await failure(renderer, str(written(files, tmp_path / "x")), kube_version="v1.35.0")
    assert said in error.message
    assert error.final


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8b\x08\x00broken"])
async def test_archive_that_is_none_is_refused(data: bytes, renderer: ChartRenderer, tmp_path: Path) -> None:
    (tmp_path / "x.tgz").write_bytes(data)
    assert (await failure(renderer, str(tmp_path / "x.tgz"))).final


async def test_missing_dependency_is_told(renderer: ChartRenderer, tmp_path: Path) -> None:
    extra = "dependencies:\n- {name: gone, version: '1', repository: ''}\n"
    path = str(written({"Chart.yaml": head("x", extra), "templates/a.yaml": "a: b"}, tmp_path / "x"))
    rendered = await renderer.render(RenderJob(path, "r", "n"))
    assert "dependency gone" in rendered.warnings[0]


LOOP = "a: {{ range until 3000 }}{{ range until 3000 }}{{ range until 3000 }}{{ end }}{{ end }}{{ end }}"
GROW = '{{ $l := list "x" }}{{ range until 40 }}{{ $l = concat $l $l }}{{ end }}{{ len $l }}'


async def test_chart_that_loops_is_ended(tmp_path: Path) -> None:
    path = chart(tmp_path, LOOP)
    async with ChartRenderer([tmp_path], limits=SMALL, workers=1) as renderer:
        await renderer.render(RenderJob(chart(tmp_path / "good", "a: b"), "r", "n"))
        before = time.monotonic()
        job = RenderJob(path, "rel", "space")
        with pytest.raises(ChartError, match=r"was ended: it takes longer than 1 s") as caught:
            await renderer.render(job, time_s=1)
        assert time.monotonic() - before < 20
        assert (caught.value.final, caught.value.limit) == (False, "it takes longer than 1 s")
        assert (await renderer.render(RenderJob(str(tmp_path / "good/bad"), "r", "n"))).manifests


RECUR = '{{ define "r" }}{{ tpl "{{ include `r` . }}{{ include `r` . }}" . }}{{ end }}{{ include "r" . }}'


@pytest.mark.parametrize("template", [GROW, RECUR], ids=["a list that doubles", "templates within templates"])
async def test_chart_that_takes_too_much_memory_is_ended(template: str, tmp_path: Path) -> None:
    path = chart(tmp_path, template)
    async with ChartRenderer([tmp_path], limits=SMALL, workers=1) as renderer:
        error = await failure(renderer, path)
        assert (error.final, error.limit) == (False, f"it takes more than {SMALL.memory_bytes} bytes of memory")
        assert (await renderer.render(RenderJob(chart(tmp_path / "good", "a: b"), "r", "n"))).manifests


async def test_chart_that_calls_itself_for_ever_is_refused(tmp_path: Path) -> None:
    path = chart(tmp_path, '{{ define "r" }}{{ include "r" . }}{{ end }}{{ include "r" . }}')
    async with ChartRenderer([tmp_path], limits=SMALL, workers=1) as renderer:
        error = await failure(renderer, path)
        assert (error.final, error.limit) == (True, "")
        assert error.message.startswith('template: bad/templates/a.yaml:1:47: executing "bad/templates/a.yaml"')
        assert "rendering template has a nested reference name: r" in error.message
        assert len(error.message) < 2_100
        assert (await renderer.render(RenderJob(chart(tmp_path / "good", "a: b"), "r", "n"))).manifests


async def test_chart_that_writes_too_much_is_ended(tmp_path: Path) -> None:
    path = chart(tmp_path, 'a: "{{ repeat 2000000 "x" }}"')
    async with ChartRenderer([tmp_path], limits=SMALL, workers=1) as renderer:
        error = await failure(renderer, path)
        assert error.limit == f"it writes more than {SMALL.output_bytes} bytes"


async def test_worker_reads_nothing_but_charts(tmp_path: Path) -> None:
    roots = tmp_path / "charts"
    path = chart(roots, "a: {{ .Files.Get `other` | quote }}")
    (tmp_path / "private").write_text("what nobody may read")
    (Path(path) / "other").symlink_to(tmp_path / "private")
    async with ChartRenderer([roots], workers=1) as renderer:
        with pytest.raises(ChartError) as caught:
            await renderer.render(RenderJob(path, "r", "n"))
        assert "what nobody may read" not in caught.value.message
        with pytest.raises(ChartError):
            await renderer.render(RenderJob(str(tmp_path / "private"), "r", "n"))


async def test_chart_with_dependencies_renders_the_same_again(renderer: ChartRenderer, tmp_path: Path) -> None:
    extra = "dependencies:\n- {name: sub, version: '*', repository: '', condition: sub.on}\n"
    sub = below("charts/sub", {"Chart.yaml": head("sub"), "templates/b.yaml": "b: 1"})
    path = str(written({"Chart.yaml": head("x", extra), **sub}, tmp_path / "x"))
    seen = [
        len((await renderer.render(RenderJob(path, "r", "n", values))).manifests)
        for values in (b'{"sub": {"on": false}}', b'{"sub": {"on": true}}')
    ]
    assert seen == [0, 1]


async def test_chart_that_stays_in_memory_renders_afresh(renderer: ChartRenderer, tmp_path: Path) -> None:
    files = {"Chart.yaml": head("x"), "values.yaml": "a: {b: 1, c: 2}", "templates/a.yaml": "a: {{ toJson .Values.a }}"}
    archive = tmp_path / "x.tgz"

    async def seen(values: bytes) -> Any:
        [manifest] = (await renderer.render(RenderJob(str(archive), "r", "n", values, with_record=True))).manifests
        assert manifest.content is not None
        return manifest.content["a"]

    archive.write_bytes(packed("x", files))
    assert await seen(b'{"a": {"b": null}}') == {"c": 2}
    assert await seen(b"{}") == {"b": 1, "c": 2}
    archive.write_bytes(packed("x", {**files, "values.yaml": "a: {d: 4}"}))
    assert await seen(b"{}") == {"d": 4}
    for number in range(20):  # more than are kept
        archive = tmp_path / f"{number}.tgz"
        archive.write_bytes(packed("x", {**files, "values.yaml": f"a: {number}"}))
        assert await seen(b"{}") == number


async def test_schema_of_a_directory_is_not_passed_over_in_silence(renderer: ChartRenderer, tmp_path: Path) -> None:
    error = await failure(renderer, chart(tmp_path, "a: b"), skip_schema=True)
    assert "in an archive only" in error.message
