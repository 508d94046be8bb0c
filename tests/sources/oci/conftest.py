"""What the tests of OCI registries share: real registries, and a fetcher."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.missing import cannot
from tests.servers import oci_registry as servers
from tests.servers.oci_registry import OciRegistry, TokenServer, oci_registry
from tidelog.engine.sources.oci import OciFetcher


def require_registry() -> None:
    """Skips, or fails, where the registry is not built."""
    if not servers.built().is_file():
        if servers.can_build() or os.environ.get("CI") == "true":
            pytest.fail("the OCI registry of the tests is not built yet: run `make servers`", pytrace=False)
        cannot("Go is missing: OCI registries are not tested")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    """Open to all, over plain HTTP. Shared: each test has repositories of its own."""
    require_registry()
    with oci_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def secure_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    """For the user alone, over TLS."""
    require_registry()
    with oci_registry(tmp_path_factory.mktemp("registry"), auth="basic", tls=True) as running:
        yield running


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer() as running:
        yield running


@pytest.fixture
def token_registry(tmp_path: Path, tokens: TokenServer) -> Iterator[OciRegistry]:
    """For those with a token of `tokens`."""
    require_registry()
    with oci_registry(tmp_path / "registry", auth="token", tokens=tokens) as running:
        yield running


@pytest.fixture
async def fetcher() -> AsyncIterator[OciFetcher]:
    async with OciFetcher() as opened:
        yield opened
