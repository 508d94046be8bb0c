"""Which version is chosen, held against `helm pull`, and the rules of Flux where Helm has none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oracles.helm import helm
from tests.servers.chart_server import ChartServer, chart_server
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.index import read_index, versions_of
from tidelog.engine.sources.helm.spec import ChartSpec, ChartVersion, version_metadata
from tidelog.engine.sources.helm.versions import check_name, choose_version


@pytest.fixture(scope="session")
def plain(made_repository: Path) -> Iterator[ChartServer]:
    with chart_server(made_repository, tls=False) as running:
        yield running


@pytest.fixture(scope="session")
def podinfo(made_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ChartVersion, ...]:
    into = tmp_path_factory.mktemp("read") / "index.json"
    read_index(made_repository / "index.yaml", into)
    return versions_of(into, "podinfo")


@pytest.mark.parametrize(
    "wanted",
    [
        "",
        "*",
        "6.0.0",
        "6.1.1-rc.1",
        "^6.0.0",
        "6.x",
        "~6.0",
        ">5 <6.1",
        ">=6.0.0-0",
        "5.2.3 || 6.0.0",
        "8.x",
        "v6.0.0",
    ],
)
def test_chosen_as_helm_does(
    wanted: str, podinfo: tuple[ChartVersion, ...], plain: ChartServer, tmp_path: Path
) -> None:
    try:
        found = choose_version(podinfo, "podinfo", wanted, "it").version
    except FetchError:
        found = None
    arguments = ["pull", "podinfo", "--repo", plain.url, *(["--version", wanted] if wanted else [])]
    try:
        helm(*arguments, "--destination", tmp_path, home=tmp_path)
        (pulled,) = tmp_path.glob("*.tgz")
        theirs = pulled.stem.removeprefix("podinfo-")
    except AssertionError:
        theirs = None
    assert found == theirs


def one(version: str, created: str = "", urls: tuple[str, ...] = ()) -> ChartVersion:
    return ChartVersion(name="web", version=version, created=created, urls=urls)


def test_of_equal_versions_the_one_that_was_made_last() -> None:
    versions = [
        one("1.0.0+a", "2026-01-01T00:00:00Z"),
        one("1.0.0+b", "2026-03-01T00:00:00.123456789Z"),
        one("1.0.0+c", "2026-02-01T00:00:00+02:00"),
    ]
    assert choose_version(versions, "web", "1.x", "it").version == "1.0.0+b"
    assert choose_version(versions, "web", "1.0.0+c", "it").version == "1.0.0+c"


def test_versions_of_two_parts_are_chosen_only_exactly() -> None:
    versions = [one("1.9"), one("1.2.0")]
    assert choose_version(versions, "web", "1.x", "it").version == "1.2.0"
    assert choose_version(versions, "web", "1.9", "it").version == "1.9"


@pytest.mark.parametrize(
    ("versions", "wanted", "message"),
    [
        ([], "*", "it has no chart 'web': correct spec.chart"),
        ([one("1.0.0")], "2.x", "no version of 'web' that is '2.x': correct spec.version; it has 1.0.0"),
        ([one(f"1.{n}.0") for n in range(9)], "2.x", "and 4 more"),
        ([one("1.0.0")], ">>1", "is no range of versions"),
        ([one("1.0.0-rc.1")], "*", r"no version of 'web' that is '\*'"),
    ],
)
def test_no_such_version(versions: list[ChartVersion], wanted: str, message: str) -> None:
    with pytest.raises(FetchError, match=message) as caught:
        choose_version(versions, "web", wanted, "it")
    assert (caught.value.reason, caught.value.final) == ("InvalidChartReference", True)


@pytest.mark.parametrize("name", ["web", "a/b", "a.b", "a/.b", "web-", "a/", "a" * 500])
def test_names_of_charts(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["", "Web", "../web", "/web", "a//b", "a..b", "./charts/web", "a_b", "a" * 500 + "!"])
def test_names_that_no_chart_has(name: str) -> None:
    with pytest.raises(FetchError, match="is no name of a chart"):
        check_name(name)


@pytest.mark.parametrize(
    ("strategy", "files", "revision", "added"),
    [
        ("ChartVersion", (), "", ""),
        ("ChartVersion", ("values.yaml",), "", ""),
        ("ChartVersion", ("./values.yaml",), "", ""),
        ("ChartVersion", ("prod.yaml",), "", "7"),
        ("Revision", (), "main@sha1:0123456789abcdef", "0123456789ab"),
        ("Revision", ("values.yaml", "prod.yaml"), "sha256:fedcba9876543210", "fedcba987654.7"),
        ("Revision", ("prod.yaml",), "", "7"),
    ],
)
def test_what_is_added_to_a_version(strategy: str, files: tuple[str, ...], revision: str, added: str) -> None:
    spec = ChartSpec(chart="web", values_files=files, reconcile_strategy=strategy)  # type: ignore[arg-type]
    assert version_metadata(spec, 7, revision) == added
