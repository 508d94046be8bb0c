"""What the tests of charts share: a repository that the helm command made, and a server of it."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from tests.oracles.helm import helm
from tests.servers.chart_server import ChartServer, chart_server
from tidelog.engine.sources.access import Tls
from tidelog.engine.sources.helm import HelmFetcher

Write = Callable[..., Path]


def write_chart(directory: Path, name: str, version: str, **files: str) -> Path:
    """A small chart; `files` by path, with `__` for a slash and `_yaml` at the end for the suffix."""
    chart = directory / name
    (chart / "templates").mkdir(parents=True, exist_ok=True)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: '1.10'\n")
    (chart / "values.yaml").write_text("replicas: 1\nimage:\n  tag: one\n")
    (chart / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n"
        "data:\n  values: {{ .Values | toJson | b64enc }}\n  version: {{ .Chart.Version }}\n"
    )
    for path, text in files.items():
        (chart / path.replace("__", "/").replace("_yaml", ".yaml")).write_text(text)
    return chart


def package(chart: Path, into: Path, home: Path, version: str) -> None:
    """`helm package`."""
    helm("package", chart, "--version", version, "--destination", into, home=home)


@pytest.fixture(scope="session")
def made_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions of two charts, and the index that helm makes of them. Never to be written."""
    home = tmp_path_factory.mktemp("helm-home")
    root = tmp_path_factory.mktemp("repository")
    podinfo = write_chart(home, "podinfo", "0.0.0")
    for version in ("6.0.0", "6.1.0", "6.1.1-rc.1", "7.0.0-beta.1", "5.2.3"):
        package(podinfo, root, home, version)
    package(write_chart(home, "redis", "0.0.0"), root, home, "1.2.3")
    helm("repo", "index", root, home=home)
    return root


@pytest.fixture
def repository(made_repository: Path, tmp_path: Path) -> Path:
    """A repository of the test's own."""
    root = tmp_path / "repository"
    root.mkdir()
    for file in made_repository.iterdir():
        (root / file.name).write_bytes(file.read_bytes())
    return root


@pytest.fixture
def server(repository: Path) -> Iterator[ChartServer]:
    """Serves it over HTTPS."""
    with chart_server(repository) as running:
        yield running


@pytest.fixture
def tls(server: ChartServer) -> Tls:
    """Trusts the server."""
    return Tls(ca=server.ca)


@pytest.fixture
async def fetcher() -> AsyncIterator[HelmFetcher]:
    async with HelmFetcher() as opened:
        yield opened
