"""Release records: Helm reads ours, and we read Helm's without loss."""

import base64
import gzip
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.helm.charts import CASES, packed, written
from tests.helm.conftest import Run, asked
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.spec import RenderedChart, RenderJob, manifest_text
from tidelog.engine.helm.storage import (
    HookRun,
    Info,
    Record,
    RecordedChart,
    RecordedHook,
    Release,
    decode_release,
    encode_release,
    read_secret,
    record_secret,
    snapshot_digest,
)

pytestmark = pytest.mark.timeout(900)  # the first build of the oracle
FIRST = "2026-01-02T03:04:05.123456789Z"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\n"
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: box\nversion: 1.2.3\nappVersion: '9'\nannotations: {b: <&>, a: x}\n"
    "maintainers: [{name: m, email: m@example.org}]\nkeywords: [k]\n",
    "values.yaml": "a: 1\n",
    "templates/a.yaml": CONFIG % "'{{ .Release.Name }}'" + "data: {a: '{{ .Values.a }}'}\n",
    "templates/h.yaml": CONFIG % "h, annotations: {helm.sh/hook: 'pre-install,test'}",
    "templates/p.yaml": CONFIG % "p, annotations: {helm.sh/hook: post-install}",
    "templates/NOTES.txt": "Noted.",
    "README.md": "read",
}


def release_of(rendered: RenderedChart, version: int = 1, status: str = "deployed") -> Release:
    hooks = [
        RecordedHook(
            hook.name,
            hook.kind,
            hook.path,
            hook.text,
            list(hook.events),
            HookRun("2026-01-02T03:04:05.6Z", "2026-01-02T03:04:06Z", "Succeeded"),
            hook.weight,
        )
        for hook in rendered.hooks
    ]
    return Release(
        name="box",
        info=Info(FIRST, "2026-01-02T03:04:05Z", None, "Install complete", status, rendered.notes),
        chart=msgspec.json.decode(rendered.record, type=RecordedChart),
        config={"a": 2, "big": 1e21, "text": "<&>\u2028"},
        manifest=manifest_text(rendered),
        hooks=hooks,
        version=version,
        namespace="space",
        apply_method="ssa",
    )


async def rendered(renderer: ChartRenderer, tmp_path: Path) -> RenderedChart:
    (tmp_path / "box.tgz").write_bytes(packed("box", CHART))
    job = RenderJob(str(tmp_path / "box.tgz"), "box", "space", b'{"a": 2}', with_record=True)
    return await renderer.render(job)


async def test_helm_lists_and_shows_our_record(
    renderer: ChartRenderer, helm: Run, kubernetes: Servers, namespace: str, tmp_path: Path
) -> None:
    made = await rendered(renderer, tmp_path)
    old = msgspec.structs.replace(release_of(made, status="superseded"), namespace=namespace)
    new = msgspec.structs.replace(release_of(made, 2), namespace=namespace)
    for release in (old, new):
        secret = record_secret(Record(release, {"team": "t"}), namespace, created_at=int(time.time()))
        answer = kubernetes.request("POST", f"/api/v1/namespaces/{namespace}/secrets", secret)
        assert answer.status == 201, answer

    def told(*arguments: str) -> str:
        ran = helm(*arguments, "-n", namespace, kubeconfig=kubernetes.kubeconfig)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    [listed] = json.loads(told("list", "-o", "json"))
    assert (listed["name"], listed["revision"], listed["status"], listed["chart"]) == (
        "box",
        "2",
        "deployed",
        "box-1.2.3",
    )
    history = json.loads(told("history", "box", "-o", "json"))
    assert [(entry["revision"], entry["status"]) for entry in history] == [(1, "superseded"), (2, "deployed")]
    assert history[1]["description"] == "Install complete"
    assert told("get", "manifest", "box").strip() == new.manifest.strip()
    assert json.loads(told("get", "values", "box", "-o", "json"))["a"] == 2
    assert json.loads(told("get", "values", "box", "-a", "-o", "json"))["a"] == 2
    everything = told("get", "all", "box")
    assert "Noted." in everything
    assert "helm.sh/hook: 'pre-install,test'" in everything
    status = json.loads(told("status", "box", "-o", "json"))
    assert (status["info"]["status"], status["apply_method"]) == ("deployed", "ssa")


async def test_record_of_helm_is_read_and_written_without_loss(
    helm: Run, kubernetes: Servers, namespace: str, oracle: Path, tmp_path: Path
) -> None:
    written(CHART, tmp_path / "box")
    for command in (["install", "--labels", "team=t"], ["upgrade", "--set", "a=5,big=1234567890123,f=1e3"]):
        ran = helm(*command, "box", str(tmp_path / "box"), "-n", namespace, kubeconfig=kubernetes.kubeconfig)
        assert ran.returncode == 0, ran.stderr
    for version in (1, 2):
        path = f"/api/v1/namespaces/{namespace}/secrets/sh.helm.release.v1.box.v{version}"
        secret = kubernetes.request("GET", path).body
        record = read_secret(secret)
        assert record.labels == ({"team": "t"} if version == 1 else record.labels)
        text = gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"])))
        again = gzip.decompress(base64.b64decode(encode_release(record.release)))
        assert json.loads(again) == json.loads(text)
        ours = record_secret(record, namespace, created_at=int(secret["metadata"]["labels"].get("createdAt", 0)))
        labels = {name: value for name, value in secret["metadata"]["labels"].items() if name != "modifiedAt"}
        assert ours["metadata"]["labels"] == {"createdAt": ours["metadata"]["labels"]["createdAt"], **labels}
        assert (ours["metadata"]["name"], ours["type"]) == (secret["metadata"]["name"], secret["type"])
        for oci in ("", "sha256:" + "0" * 64):
            [answer] = asked(oracle, "snapshot", [json.dumps({"release": json.loads(text), "ociDigest": oci})])
            assert snapshot_digest(record.release, oci) == json.loads(answer)


async def test_snapshot_digest_is_that_of_flux(renderer: ChartRenderer, oracle: Path, tmp_path: Path) -> None:
    releases = [Release(), Release("a", config={}, hooks=[]), Release("b", Info(deleted="", status="failed"))]
    made = await rendered(renderer, tmp_path)
    releases.append(release_of(made))
    for case in CASES:
        chart = written(case.files, tmp_path / case.name)
        values = json.dumps(case.options.values).encode()
        found = await renderer.render(RenderJob(str(chart), "r", "n", values, with_record=True))
        release = release_of(found)
        releases.append(msgspec.structs.replace(release, config=case.options.values))
        zoned = msgspec.structs.replace(
            release.info, first_deployed="2026-01-02T03:04:05.120+02:00", last_deployed="2026-01-02T03:04:05.000-00:00"
        )
        releases.append(msgspec.structs.replace(release, info=zoned))
    lines = [
        json.dumps(
            {"release": json.loads(gzip.decompress(base64.b64decode(encode_release(release)))), "ociDigest": "d"}
        )
        for release in releases
    ]
    answers = [json.loads(line) for line in asked(oracle, "snapshot", lines)]
    assert [str(snapshot_digest(release, "d")) for release in releases] == answers


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "no data.release"),
        ("%%", "no base64"),
        (b"%%", "base64 within base64"),
        (base64.b64encode(b"hunter2"), "no JSON"),
        (base64.b64encode(b'{"version": "hunter2"}'), r"no release: Expected `int`, got `str` - at `\$.version`"),
        (base64.b64encode(b"\x1f\x8b\x08hunter2"), "no gzip"),
        (base64.b64encode(gzip.compress(b"{}", mtime=0)[:-4]), "no gzip"),
        (base64.b64encode(gzip.compress(b" " * (65 * 2**20), 1, mtime=0)), "unpacks to more than"),
        ("hunté", "no base64"),
        (base64.b64encode(b'{"name": "\xff"}'), "no JSON"),
        (base64.b64encode(b'{"version": 99999999999}'), "no release"),
        (base64.b64encode(b'{"config": %b1%b}' % (b'{"hunter":' * 5000, b"}" * 5000)), "within one another"),
        (base64.b64encode(b'{"config": %b1%b}' % (b'{"hunter":' * 400, b"}" * 400)), "within one another"),
        (base64.b64encode(b'{"config": {"hunter": %b}}' % (b"9" * 400)), "beyond all floats"),
        (base64.b64encode(b'{"chart": {"metadata": {"maintainers": ["hunter"]}}}'), "metadata of its chart"),
        (base64.b64encode(b'{"chart": {"metadata": {"dependencies": "hunter"}}}'), "metadata of its chart"),
        (base64.b64encode(b'{"hooks": [{"name": "h", "weight": 99999999999999999999}]}'), "no release"),
    ],
)
def test_record_that_is_none_is_told_without_its_content(data: Any, said: str) -> None:
    held = data if isinstance(data, str) else data and base64.b64encode(data).decode()
    with pytest.raises(RecordError, match=said) as caught:
        read_secret({"metadata": {"name": "s"}, "data": {"release": held} if held else {}})
    assert "hunter" not in str(caught.value)


def test_record_from_before_compression_is_read() -> None:
    assert decode_release(base64.b64encode(b'{"name": "old"}')).name == "old"


def test_records_of_equal_releases_are_equal() -> None:
    assert encode_release(Release("a")) == encode_release(Release("a"))
