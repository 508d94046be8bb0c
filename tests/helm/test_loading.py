"""A chart is read and parsed once by each worker that renders it, and comes out as if it were read anew each time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from tests.helm.charts import CASES, Case, Files, below, head, packed
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.spec import RenderedChart, RenderJob
from tidelog.engine.helm.switches import switches_of

SUB: Files = {
    "Chart.yaml": head("sub"),
    "values.yaml": "size: 1\nglobal: {zone: here}\nnone: null\nexports: {shared: {depth: 3}}\n",
    "templates/a.yaml": "kind: Sub\nvalues: {{ toJson .Values }}\n",
}
WITH_SUB = "dependencies:\n- {name: sub, version: '*', repository: '', condition: 'sub.enabled'}\n"
IMPORTS = "dependencies:\n- {name: sub, version: '*', repository: '', import-values: [shared], condition: on.off}\n"
OWN: Files = {
    "values.yaml": "colour: red\nsub: {size: 2}\n",
    "templates/a.yaml": "kind: Own\nvalues: {{ toJson .Values }}\nparts: {{ toJson .Chart.Dependencies }}\n",
}


def archive(directory: Path, extra: str, files: Mapping[str, str | bytes] = SUB) -> str:
    """A chart with another one within it."""
    path = directory / "top.tgz"
    path.write_bytes(packed("top", {"Chart.yaml": head("top", extra), **OWN, **below("charts/sub", files)}))
    return str(path)


def job(path: str, values: Any, **how: Any) -> RenderJob:
    return RenderJob(path, "rel", "space", json.dumps(values).encode(), called="top", with_record=True, **how)


def variants(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What releases of one chart may have in the place of some values: switches turned, parts taken away, noise."""
    yield values
    yield {**values, "noise": {"enabled": True, "list": [1, None]}}
    yield {}
    for name in ("sub", "first", "second", "deep"):
        yield {**values, name: {"enabled": False, "on": False}}
        yield {**values, name: {"enabled": True, "on": True, "size": 5, "none": 1, "global": {"zone": "there"}}}
        yield {**values, name: {"enabled": None, "size": None}}
    yield {**values, "tags": {"front": True, "back": False}}
    yield {**values, "tags": {"front": False}}
    yield {**values, "tags": None}
    yield {**values, "global": {"zone": "everywhere", "enabled": False}}
    yield values


@pytest.mark.parametrize(
    "case",
    [
        *(case for case in CASES if any(path.startswith("charts/") for path in case.files)),
        *(
            Case(name, {"Chart.yaml": head("top", extra), **OWN, **below("charts/sub", SUB)}, CASES[0].options)
            for name, extra in (("plain", WITH_SUB), ("imports", IMPORTS), ("not listed", ""))
        ),
    ],
    ids=lambda case: case.name,
)
async def test_a_chart_that_stays_in_memory_comes_out_as_one_that_is_read_anew(
    case: Case, renderer: ChartRenderer, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.tgz"
    data = packed(case.name.replace(" ", "-"), case.files)
    kept.write_bytes(data)
    how: dict[str, Any] = {
        "kube_version": case.options.kube_version,
        "is_upgrade": case.options.is_upgrade,
        "api_versions": ("v1", *case.options.api_versions),
    }

    async def rendered(path: Path, values: Any) -> RenderedChart | str:
        try:
            found = await renderer.render(job(str(path), values, **how))
        except ChartError as error:
            return error.message
        return msgspec.structs.replace(found, record=b"", metadata={"of": json.loads(found.record), **found.metadata})

    for number, values in enumerate(variants(case.options.values)):
        anew = tmp_path / f"anew-{number}.tgz"
        anew.write_bytes(data)
        before = renderer.loads
        wanted = await rendered(anew, values)
        assert renderer.loads == before + 1
        assert await rendered(kept, values) == wanted, values


async def test_releases_that_have_the_same_dependencies_on_share_a_chart(
    renderer: ChartRenderer, tmp_path: Path
) -> None:
    path = archive(tmp_path, WITH_SUB)

    async def objects(values: Any) -> int:
        return len((await renderer.render(job(path, values))).manifests)

    for number in range(20):
        assert await objects({"colour": f"c{number}", "sub": {"size": number}}) == 2
    assert renderer.loads == 1
    for number in range(20):
        assert await objects({"sub": {"enabled": bool(number % 2), "size": number}}) == 1 + number % 2
    assert renderer.loads == 3, "on because nobody says otherwise, on, and off"
    assert await objects({"sub": {"enabled": None}}) == 2
    assert await objects({"sub": {"enabled": None}}) == 2
    assert renderer.loads == 5, "what a null takes away depends on where it is"


async def test_a_chart_that_imports_values_is_read_for_each_release(renderer: ChartRenderer, tmp_path: Path) -> None:
    path = archive(tmp_path, IMPORTS)
    for expected in range(1, 4):
        await renderer.render(job(path, {}))
        assert renderer.loads == expected


async def test_a_render_that_fails_leaves_no_chart_that_others_get(renderer: ChartRenderer, tmp_path: Path) -> None:
    path = archive(tmp_path, WITH_SUB, {**SUB, "templates/b.yaml": "{{ if .Values.fails }}{{ fail `now` }}{{ end }}"})
    with pytest.raises(ChartError, match="now"):
        await renderer.render(job(path, {"sub": {"fails": True}}))
    assert len((await renderer.render(job(path, {}))).manifests) == 2
    assert len((await renderer.render(job(path, {}))).manifests) == 2
    assert renderer.loads == 2


@pytest.mark.parametrize("extra", ["", WITH_SUB], ids=["alone", "with a dependency"])
async def test_each_worker_reads_a_chart_once(extra: str, tmp_path: Path) -> None:
    path = archive(tmp_path, extra)
    async with ChartRenderer([tmp_path], workers=2) as renderer:
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(renderer.render, job(path, {"colour": f"c{number}"}))
        assert 1 <= renderer.loads <= 2


CONDITIONS = {
    "Chart.yaml": "dependencies:\n- {name: a, condition: 'a.on,b.global.on'}\n",
    "charts/a/requirements.yaml": "dependencies:\n- {name: c, condition: c.on, tags: [t]}\n",
}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {"x": 1, "y": {"on": True}}, True),
        ({}, {"a": {"on": True}}, False),
        ({"a": {"on": True}}, {"a": {"on": False}}, False),
        ({"a": {"on": True}}, {"a": {"on": True, "more": [None]}}, True),
        ({}, {"a": {"c": {"on": False}}}, False),
        ({}, {"global": {"on": False}}, False),
        ({}, {"tags": {"t": False}}, False),
        ({}, {"a": "no map"}, False),
        ({"a": "no map"}, {"a": "another"}, False),
    ],
)
def test_what_turns_a_dependency_on_is_known(one: Any, other: Any, same: bool) -> None:
    switches = switches_of({path: text.encode() for path, text in CONDITIONS.items()})
    chosen = [switches.chosen(json.dumps(values).encode()) for values in (one, other)]
    assert None not in chosen
    assert (chosen[0] == chosen[1]) == same


@pytest.mark.parametrize(
    "values", [{"a": None}, {"a": {"on": None}}, {"a": {"on": {}}}, {"tags": {"t": {}}}, {"tags": None}]
)
def test_values_that_take_a_switch_away_say_nothing_for_sure(values: Any) -> None:
    switches = switches_of({path: text.encode() for path, text in CONDITIONS.items()})
    assert switches.chosen(json.dumps(values).encode()) is None


@pytest.mark.parametrize(
    "files",
    [
        {"Chart.yaml": "dependencies:\n- {name: a, import-values: [x]}\n"},
        {"Chart.yaml": "name: top\n", "charts/a/Chart.yaml": "dependencies: [{name: b, import-values: [x]}]\n"},
        {"Chart.yaml": "dependencies: text\n"},
        {"Chart.yaml": "a: [\n"},
        {"Chart.yaml": "name: top\n", "requirements.yaml": "- no mapping\n"},
    ],
)
def test_a_chart_whose_dependencies_are_not_surely_known_does_not_stay(files: dict[str, str]) -> None:
    switches = switches_of({path: text.encode() for path, text in files.items()})
    assert not switches.may_stay
    assert switches.chosen(b"{}") is None
