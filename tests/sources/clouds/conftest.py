"""What the tests of logins at clouds share."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.servers.clouds import Clouds, clouds_on
from tests.servers.oci_registry import OciRegistry, oci_registry
from tests.sources.oci.conftest import require_registry
from tidelog.engine.sources.clouds.logins import CloudLogins

Opened: TypeAlias = Callable[..., AbstractAsyncContextManager[CloudLogins]]


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    """The registry behind those of the clouds: open to all."""
    require_registry()
    with oci_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def clouds(tmp_path: Path, behind: OciRegistry) -> Iterator[Clouds]:
    with clouds_on(tmp_path / "clouds", behind.host) as running:
        yield running


@pytest.fixture
def opened() -> Opened:
    @asynccontextmanager
    async def of(environment: Mapping[str, str], **more: Any) -> AsyncIterator[CloudLogins]:
        async with CloudLogins(environment, **more) as logins:
            yield logins

    return of
