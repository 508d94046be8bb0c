"""A chart in a directory of this machine is packed as one in a source is."""

from pathlib import Path

import pytest

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.archive import Budget
from tidelog.engine.sources.helm.chart import chart_of_archive
from tidelog.engine.sources.helm.local import pack_directory
from tidelog.engine.sources.helm.spec import ChartSpec

SPEC = ChartSpec(chart="./charts/web", values_files=("charts/web/values.yaml", "prod.yaml"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a chart."""
    files = {
        "charts/web/Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.2.0\n",
        "charts/web/values.yaml": "colour: red\nsize: 1\n",
        "charts/web/templates/map.yaml": "kind: ConfigMap\n",
        "prod.yaml": "colour: blue\n",
    }
    for name, text in files.items():
        (tmp_path / "fleet" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fleet" / name).write_text(text)
    return tmp_path / "fleet"


@pytest.mark.parametrize(
    ("place", "spec", "values"),
    [
        ("charts/web", None, b"colour: red"),
        ("charts/web", ChartSpec(chart="charts/web"), b"colour: red"),
        ("charts/web", SPEC, b"colour: blue"),
        (".", SPEC, b"colour: blue"),
    ],
    ids=["chart", "chart in its source", "chart with values files", "root"],
)
def test_a_chart_is_packed_by_its_directory_or_by_the_root(
    root: Path, tmp_path: Path, place: str, spec: ChartSpec | None, values: bytes
) -> None:
    into = tmp_path / "chart.tgz"
    packed = pack_directory(root / place, spec, into)
    assert (packed.name, packed.version) == ("web", "1.2.0")
    found = {file.name: file.data for file in chart_of_archive(into.read_bytes(), Budget()).archive_files()}
    assert values in found["web/values.yaml"]


@pytest.mark.parametrize(
    ("place", "spec", "said"),
    [
        ("charts", None, "there is no Chart.yaml in"),
        ("charts", SPEC, "nor at ./charts/web below it: name the directory of the chart"),
        ("elsewhere", SPEC, "whose paths begin at the root of its source"),
        ("needy", None, "needs db, which is not in it: run `helm dependency build` first"),
    ],
)
def test_what_cannot_be_packed_says_what_to_name(
    root: Path, tmp_path: Path, place: str, spec: ChartSpec | None, said: str
) -> None:
    needs = "dependencies:\n- {name: db, version: 1.x, repository: https://charts.example}\n"
    for name, more in (("elsewhere", ""), ("needy", needs)):
        (root / name).mkdir()
        (root / name / "Chart.yaml").write_text(f"apiVersion: v2\nname: web\nversion: 1.0.0\n{more}")
    with pytest.raises(FetchError) as raised:
        pack_directory(root / place, spec, tmp_path / "chart.tgz")
    assert said in str(raised.value)
