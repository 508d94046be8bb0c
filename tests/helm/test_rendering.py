"""Charts are rendered as the helm command renders them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from tests.helm.charts import CASES, Case, Files, below, head, packed, written
from tests.helm.conftest import Run
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.sorting import HOOK, WEIGHT, sorted_manifests, split
from tidelog.engine.helm.spec import RenderedChart, RenderJob
from tidelog.engine.render.documents import documents

pytestmark = pytest.mark.timeout(900)  # the first build of the oracle


def job(chart: Path, case: Case, **how: Any) -> RenderJob:
    return RenderJob(
        str(chart),
        "rel",
        "space",
        json.dumps(case.options.values).encode(),
        kube_version=case.options.kube_version,
        is_upgrade=case.options.is_upgrade,
        api_versions=how.pop("api_versions", None),
        **how,
    )


def canonical(path: str, text: str) -> list[str]:
    values = [document.value for document in documents(text)]
    return [json.dumps([path, value], sort_keys=True) for value in values if value is not None]


def of_helm(text: str) -> list[str]:
    """What `helm template` printed, document by document, in its order."""
    found = []
    path = ""
    for part in split(text):
        head, _, rest = part.partition("\n")
        if head.startswith("# Source: "):
            path = head.removeprefix("# Source: ")
        found += canonical(path, rest if head.startswith("# Source: ") else part)
    return found


def of_ours(found: Iterable[Any]) -> list[str]:
    return [line for one in found for line in canonical(one.path, one.text)]


@pytest.mark.parametrize("form", ["directory", "archive"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_chart_renders_as_with_helm(
    case: Case, form: str, helm: Run, renderer: ChartRenderer, tmp_path: Path
) -> None:
    directory = written(case.files, tmp_path / case.name)
    chart = directory
    if form == "archive":
        if case.name.startswith("helmignore"):
            pytest.skip("what is ignored is ignored when an archive is made")
        chart = tmp_path / "chart.tgz"
        chart.write_bytes(packed(case.name, case.files))
    values = tmp_path / "values.json"
    values.write_text(json.dumps(case.options.values, ensure_ascii=False))
    versions = [part for version in case.options.api_versions for part in ("--api-versions", version)]
    common = [
        "template",
        "rel",
        str(chart),
        "-n",
        "space",
        "-f",
        str(values),
        "--kube-version",
        case.options.kube_version,
    ]
    upgrade = ["--is-upgrade"] if case.options.is_upgrade else []
    wanted = helm(*common, *versions, *upgrade, "--include-crds")
    assert wanted.returncode == 0, wanted.stderr

    # `helm template` has the versions that the SDK knows, and those given.
    if case.options.api_versions:
        rendered = await renderer.render(job(chart, case, api_versions=("v1", *case.options.api_versions)))
    else:
        rendered = await renderer.render(job(chart, case))

    ours = of_ours(rendered.crds) + of_ours(rendered.manifests) + of_ours(rendered.hooks)
    assert ours == of_helm(wanted.stdout)


def tells(case: Case) -> bool:
    return any("NOTES" in path or "helm.sh/hook" in str(text) for path, text in case.files.items())


@pytest.mark.parametrize("case", [case for case in CASES if tells(case)], ids=lambda case: case.name)
async def test_notes_and_hooks_are_told_as_helm_tells_them(
    case: Case, helm: Run, renderer: ChartRenderer, tmp_path: Path
) -> None:
    chart = written(case.files, tmp_path / case.name)
    values = tmp_path / "values.json"
    values.write_text(json.dumps(case.options.values))
    ran = helm("install", "rel", str(chart), "-n", "space", "-f", str(values), "--dry-run=client", "-o", "json")
    assert ran.returncode == 0, ran.stderr
    wanted = json.loads(ran.stdout)
    rendered = await renderer.render(job(chart, case))
    assert rendered.notes == wanted["info"].get("notes", "")
    lists = ("events", "delete_policies", "output_log_policies")
    ours = [
        (one.name, one.kind, one.path, one.weight, *(list(getattr(one, of)) for of in lists)) for one in rendered.hooks
    ]
    assert ours == [
        (one["name"], one["kind"], one["path"], one.get("weight", 0), *(one.get(of, []) for of in lists))
        for one in wanted.get("hooks", [])
    ]


async def rendered_of(name: str, renderer: ChartRenderer, tmp_path: Path, **how: Any) -> RenderedChart:
    case = next(case for case in CASES if case.name == name)
    return await renderer.render(job(written(case.files, tmp_path / name), case, **how))


async def test_hooks_say_when_and_how_they_run(renderer: ChartRenderer, tmp_path: Path) -> None:
    rendered = await rendered_of("hooks", renderer, tmp_path)
    by_name = {hook.name: hook for hook in rendered.hooks}
    assert set(by_name) == {"before", "after", "away", "back", "hooked"}
    before = by_name["before"]
    assert (before.events, before.weight) == (("pre-install", "pre-upgrade"), -5)
    assert before.delete_policies == ("before-hook-creation", "hook-succeeded")
    assert before.output_log_policies == ("hook-failed",)
    assert (by_name["hooked"].weight, by_name["hooked"].kind) == (0, "ConfigMap")
    assert by_name["back"].events == ("pre-rollback", "post-rollback")
    assert [manifest.content["metadata"]["name"] for manifest in rendered.manifests if manifest.content] == ["beside"]


async def test_notes_are_those_of_the_chart_alone(renderer: ChartRenderer, tmp_path: Path) -> None:
    assert (await rendered_of("notes", renderer, tmp_path)).notes == "Thank you for notes.\npink"


async def test_dependency_that_is_off_is_not_in_the_metadata(renderer: ChartRenderer, tmp_path: Path) -> None:
    off = await rendered_of("condition-off", renderer, tmp_path)
    assert not off.metadata.get("dependencies")
    on = await rendered_of("condition-on", renderer, tmp_path)
    assert [(wanted["name"], wanted["enabled"]) for wanted in on.metadata["dependencies"]] == [("sub", True)]


async def test_no_name_is_looked_up_in_the_network(renderer: ChartRenderer, tmp_path: Path) -> None:
    """Contract HR-113."""
    template = 'found: "{{ getHostByName "localhost" }}"\n'
    chart = written({"Chart.yaml": head("names"), "templates/a.yaml": template}, tmp_path / "names")
    found = await renderer.render(RenderJob(str(chart), "rel", "space"))
    assert [one.content for one in found.manifests] == [{"found": ""}]
    assert found.impure == ("getHostByName",)


async def test_names_are_looked_up_where_that_is_allowed(tmp_path: Path) -> None:
    """As Helm itself does it; else the process that renders reaches as little as ever."""
    files = {"Chart.yaml": head("names"), "templates/a.yaml": 'found: "{{ getHostByName .Values.name }}"\n'}
    chart = written(files, tmp_path / "names")
    local = {found[4][0] for found in await anyio.getaddrinfo("localhost", 80)}
    async with ChartRenderer([tmp_path], workers=1, dns=True) as renderer:
        found = await renderer.render(RenderJob(str(chart), "rel", "space", values=b'{"name": "localhost"}'))
        (one,) = found.manifests
        assert one.content is not None
        assert one.content["found"] in local
        assert found.impure == ("getHostByName",)
        # A name that is nobody's fails this render, and no other.
        with pytest.raises(ChartError, match="getHostByName") as caught:
            await renderer.render(RenderJob(str(chart), "rel", "space", values=b'{"name": "nobody.invalid"}'))
        assert not caught.value.final, "it may be there later"
        await renderer.render(RenderJob(str(chart), "rel", "space", values=b'{"name": "localhost"}'))


async def test_impure_functions_are_named(renderer: ChartRenderer, tmp_path: Path) -> None:
    assert (await rendered_of("lookup", renderer, tmp_path)).impure == ("lookup",)
    assert (await rendered_of("sprig", renderer, tmp_path)).impure == ()


async def test_impure_functions_of_charts_within_a_chart_are_named(renderer: ChartRenderer, tmp_path: Path) -> None:
    inner = packed("inner", {"Chart.yaml": head("inner"), "templates/a.yaml": "at: {{ now }}"})
    sub: Files = {"Chart.yaml": head("sub"), "templates/_b.tpl": "{{ uuidv4 }}", "charts/inner.tgz": inner}
    files: Files = {"Chart.yaml": head("outer"), "README.md": "{{ shuffle }}", **below("charts/sub", sub)}
    chart = written(files, tmp_path / "outer")
    archive = tmp_path / "outer.tgz"
    archive.write_bytes(packed("outer", files))
    for path in (chart, archive):
        assert (await renderer.render(RenderJob(str(path), "r", "n"))).impure == ("now", "uuidv4")


async def test_impure_functions_in_values_are_named_too(renderer: ChartRenderer, tmp_path: Path) -> None:
    files = {
        "Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n",
        "values.yaml": 'a: \'{{ randAlpha 5 | printf "%s" }}\'\nb: {c: {d: "now"}}\n',
        "templates/a.yaml": "a: {{ tpl .Values.a . }}\n",
    }
    job = RenderJob(str(written(files, tmp_path / "c")), "r", "n")
    assert (await renderer.render(job)).impure == ("randAlpha",)
    own = msgspec.structs.replace(job, values=b'{"a": "{{ uuidv4 }}"}')
    assert (await renderer.render(own)).impure == ("randAlpha", "uuidv4")


async def test_errors_call_the_chart_as_its_source_does(renderer: ChartRenderer, tmp_path: Path) -> None:
    chart = tmp_path / "3f2a.tar.gz"
    chart.write_bytes(b"no archive")
    job = RenderJob(str(chart), "r", "n", called="HelmChart shop/web")
    with pytest.raises(ChartError) as caught:
        await renderer.render(job)
    assert "3f2a" not in caught.value.message
    chart.unlink()
    with pytest.raises(ChartError, match="the chart HelmChart shop/web cannot be read"):
        await renderer.render(job)


async def test_version_of_a_chart_can_have_other_build_metadata(renderer: ChartRenderer, tmp_path: Path) -> None:
    head = "apiVersion: v2\nname: c\nversion: {}\nappVersion: '1.10'\ndescription: 'yes'\n"
    files = {
        "templates/a.yaml": "version: {{ .Chart.Version }}\napp: {{ .Chart.AppVersion | quote }}\n",
        "charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 0.1.0\n",
        "charts/sub/templates/a.yaml": "version: {{ .Chart.Version }}\n",
    }
    chart = tmp_path / "c.tgz"
    job = RenderJob(str(chart), "r", "n", build_metadata="0123456789ab")
    for version, wanted in (("1.2.3", "1.2.3"), ("v1.2-rc.1+mine", "1.2.0-rc.1")):
        chart.write_bytes(packed("c", {"Chart.yaml": head.format(version), **files}))
        found = await renderer.render(job)
        assert found.metadata["version"] == f"{wanted}+0123456789ab"
        assert (found.metadata["appVersion"], found.metadata["description"]) == ("1.10", "yes")
        assert [one.content for one in found.manifests] == [
            {"version": "0.1.0"},
            {"version": f"{wanted}+0123456789ab", "app": "1.10"},
        ]
        assert (await renderer.render(msgspec.structs.replace(job, build_metadata=""))).metadata["version"] == version
    chart.write_bytes(packed("c", {"Chart.yaml": head.format("latest"), **files}))
    with pytest.raises(ChartError, match=r"Chart.yaml: the version is none"):
        await renderer.render(job)
    directory = written({"Chart.yaml": head.format("1.2.3")}, tmp_path / "d")
    with pytest.raises(ChartError, match="the version of d can be changed in an archive only"):
        await renderer.render(msgspec.structs.replace(job, chart=str(directory)))


async def test_api_versions_are_those_given_and_no_others(renderer: ChartRenderer, tmp_path: Path) -> None:
    text = "all: {{ .Capabilities.APIVersions | toJson }}\nversion: {{ .Capabilities.KubeVersion.Version }}\n"
    chart = written(
        {"Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "templates/a.yaml": text}, tmp_path / "c"
    )
    bare = RenderJob(str(chart), "r", "n")

    async def seen(**how: Any) -> Any:
        content = (await renderer.render(msgspec.structs.replace(bare, **how))).manifests[0].content
        assert content is not None
        return content["all"], content["version"]

    for _ in range(2):
        assert await seen(api_versions=("apps/v1", "apps/v1/Deployment"), kube_version="v1.29.3") == (
            ["apps/v1", "apps/v1/Deployment"],
            "v1.29.3",
        )
        assert (await seen(api_versions=()))[0] in (None, [])
        known, _ = await seen()
        assert {"v1", "apps/v1", "extensions/v1beta1"} <= set(known)


async def test_record_holds_the_files_byte_for_byte(renderer: ChartRenderer, tmp_path: Path) -> None:
    files: Files = {
        "Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n",
        "Chart.lock": "dependencies: []\ndigest: sha256:00\ngenerated: '2024-01-02T03:04:05Z'\n",
        "values.yaml": "a: 1\n",
        "values.schema.json": "{}",
        "binary": b"\xff\x00\xfe",
        "templates/a.yaml": "a: b\n",
    }
    chart = tmp_path / "c.tgz"
    chart.write_bytes(packed("c", files))
    rendered = await renderer.render(RenderJob(str(chart), "r", "n", with_record=True))
    record = json.loads(rendered.record)
    assert record["metadata"]["name"] == "c"
    assert record["values"] == {"a": 1}
    assert record["files"] == [{"name": "binary", "data": "/wD+"}]
    assert record["templates"] == [{"name": "templates/a.yaml", "data": "YTogYgo="}]
    assert (record["schema"], record["lock"]["digest"]) == ("e30=", "sha256:00")


@pytest.mark.parametrize(
    ("weight", "read"),
    [("+5", 5), ("-3", -3), ("5 ", 0), ("9" * 30, 0), ("-" + "9" * 30, 0), ("9" * 5_000, 0), ("1.5", 0)],
)
def test_the_weight_of_a_hook_is_read_as_go_reads_it(weight: str, read: int) -> None:
    annotations = {HOOK: "pre-install", WEIGHT: weight}
    text = json.dumps({"kind": "Job", "metadata": {"name": "job", "annotations": annotations}})
    _, (hook,) = sorted_manifests({"box/templates/job.yaml": text})
    assert hook.weight == read
    assert msgspec.msgpack.encode(hook)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: {a: b}", "kind is no text"),
        ("apiVersion: [v1]\nkind: A", "apiVersion is no text"),
        ("kind: A\nmetadata: a", "metadata is no mapping"),
        ("kind: A\nmetadata: {name: [a]}", "metadata.name is no text"),
        ("kind: A\nmetadata: {name: a, namespace: [b]}", "metadata.namespace is no text"),
        ("kind: A\nmetadata: {name: a, labels: [b]}", "metadata.labels is no mapping"),
        ("kind: A\nmetadata: {name: a, annotations: b}", "metadata.annotations is no mapping"),
    ],
)
def test_what_is_no_object_is_named_with_its_field(text: str, said: str) -> None:
    with pytest.raises(ChartError, match=f"a.yaml: {said}"):
        sorted_manifests({"box/templates/a.yaml": text})
