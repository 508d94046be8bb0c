"""Registries behind proxies."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest

from tests.servers import proxies
from tests.servers.lying_registry import lying_registry
from tests.servers.oci_registry import PASSWORD, USER, OciRegistry
from tidelog.engine.sources.access import Proxy, Tls
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci import ANONYMOUS, OciFetcher, OciSpec, RegistryCredentials

ADA = RegistryCredentials(username=USER, password=PASSWORD)
Opener: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[proxies.Proxy]]
KINDS = pytest.mark.parametrize(("scheme", "opener"), [("http", proxies.http_proxy), ("socks5", proxies.socks_proxy)])


@KINDS
@pytest.mark.parametrize("is_secure", [True, False], ids=["https", "http"])
async def test_a_registry_is_reached_through_a_proxy(
    secure_registry: OciRegistry, fetcher: OciFetcher, tmp_path: Path, scheme: str, opener: Opener, is_secure: bool
) -> None:
    async with opener("bob", "pass:word") as proxy, lying_registry() as plain:
        through = Proxy(address=f"{scheme}://localhost:{proxy.port}", username="bob", password="pass:word")
        secure_registry.push("proxied", ("a/b", b"content"))
        plain.has(b"content")
        url, host = (secure_registry.url("proxied"), secure_registry.host) if is_secure else (plain.url(), plain.host)
        credentials = ADA if is_secure else ANONYMOUS
        spec, tls = OciSpec(url=url), Tls(ca=secure_registry.ca.decode())
        head = await fetcher.ask(spec, credentials, tls, through)
        artifact = await fetcher.artifact(spec, credentials, tls, through, head)
        await fetcher.download(spec, credentials, tls, through, artifact, tmp_path / "layer")
        assert await anyio.Path(tmp_path / "layer").read_bytes() == b"content"
        assert set(proxy.targets) == {host}
        count = len(proxy.targets)
        await fetcher.ask(spec, credentials, tls)
        assert len(proxy.targets) == count, "who names no proxy goes through none"


@KINDS
async def test_a_proxy_that_does_not_let_us_through_is_told(
    registry: OciRegistry, fetcher: OciFetcher, scheme: str, opener: Opener
) -> None:
    registry.push("proxied", ("a/b", b"content"))
    spec = OciSpec(url=registry.url("proxied"))
    async with opener("bob", "right") as proxy:
        address = f"{scheme}://localhost:{proxy.port}"
        with pytest.raises(FetchError, match=r"spec\.proxySecretRef") as caught:
            await fetcher.ask(spec, ANONYMOUS, Tls(), Proxy(address=address, username="bob", password="wrong-one"))
        assert "wrong-one" not in str(caught.value)
        assert proxy.targets == []
    with pytest.raises(FetchError, match=rf"the proxy {address}.* spec\.proxySecretRef"):
        await fetcher.ask(spec, ANONYMOUS, Tls(), Proxy(address=address))
