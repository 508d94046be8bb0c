"""What only a real API server shows: TLS, its credentials, and its restarts."""

import base64
import json
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.cluster.conftest import write_kubeconfig
from tests.servers.kubernetes_servers import Authority, OwnServers, Servers
from tidelog.engine.cluster.errors import (
    ForbiddenError,
    GoneError,
    KubeconfigError,
    UnauthorizedError,
    UnreachableError,
)
from tidelog.engine.cluster.real import open_cluster

LIMIT_S = 60


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


async def test_client_certificate_and_token_are_accepted(kubernetes: Servers, namespace: str) -> None:
    for context in ("admin", "admin-token"):
        async with open_cluster(kubernetes.kubeconfig, context) as cluster:
            kind = await cluster.kind("v1", "Namespace")
            assert (await cluster.get(kind, "", namespace))["metadata"]["name"] == namespace


async def test_expired_certificate_is_told_with_its_end(kubernetes: Servers) -> None:
    kubeconfig = kubernetes.kubeconfig_of("late", lifetime=timedelta(days=-1))
    with pytest.raises(
        UnauthorizedError,
        match=r"whose client certificate ran out at \d{4}-\d\d-\d\d \d\d:\d\d UTC: it has to be made anew",
    ):
        async with open_cluster(kubeconfig) as cluster:
            await cluster.kinds()


async def test_user_without_rights_is_told_which(kubernetes: Servers, namespace: str) -> None:
    async with open_cluster(kubernetes.kubeconfig_of("nobody-in-particular")) as cluster:
        kind = await cluster.kind("v1", "Secret")
        with pytest.raises(ForbiddenError, match=r'User "nobody-in-particular" cannot list resource "secrets"'):
            await cluster.list(kind, namespace=namespace)


async def test_certificate_of_another_authority_is_not_trusted(kubernetes: Servers, tmp_path: Path) -> None:
    ca = Authority.make(tmp_path).certificate_file
    kubeconfig = write_kubeconfig(tmp_path / "it", kubernetes.url, {}, **{"certificate-authority": str(ca)})
    with pytest.raises(UnreachableError, match=r"its certificate is not trusted .*: check certificate-authority in"):
        async with open_cluster(kubeconfig):
            pass


async def test_name_that_is_not_in_the_certificate_is_not_trusted(kubernetes: Servers, tmp_path: Path) -> None:
    given = json.loads(kubernetes.kubeconfig.read_bytes())
    given["clusters"][0]["cluster"]["tls-server-name"] = "other.example"
    (tmp_path / "it").write_text(json.dumps(given))
    with pytest.raises(UnreachableError, match=r"Hostname mismatch.*other\.example.*set tls-server-name"):
        async with open_cluster(tmp_path / "it"):
            pass
    given["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes.default.svc"
    (tmp_path / "it").write_text(json.dumps(given))
    async with open_cluster(tmp_path / "it") as cluster:
        assert await cluster.version()


async def test_key_that_belongs_to_another_certificate_is_refused(kubernetes: Servers, tmp_path: Path) -> None:
    one, two = (kubernetes.authority.client("me") for _ in range(2))
    user = {"client-certificate-data": text(one.certificate), "client-key-data": text(two.key)}
    ca = {"certificate-authority": str(kubernetes.authority.certificate_file)}
    with pytest.raises(KubeconfigError, match="belong together"):
        async with open_cluster(write_kubeconfig(tmp_path / "it", kubernetes.url, user, **ca)):
            pass


async def test_plugin_may_give_a_certificate(kubernetes: Servers, tmp_path: Path) -> None:
    made = kubernetes.authority.client("from-a-plugin", ["system:masters"])
    fields = {"clientCertificateData": made.certificate.decode(), "clientKeyData": made.key.decode()}
    api = "client.authentication.k8s.io/v1"
    (tmp_path / "answer").write_text(json.dumps({"apiVersion": api, "kind": "ExecCredential", "status": fields}))
    user = {"exec": {"command": "cat", "args": [str(tmp_path / "answer")], "apiVersion": api}}
    ca = {"certificate-authority": str(kubernetes.authority.certificate_file)}
    async with open_cluster(write_kubeconfig(tmp_path / "it", kubernetes.url, user, **ca)) as cluster:
        await cluster.list(await cluster.kind("v1", "Namespace"))
    with anyio.fail_after(LIMIT_S):
        while "list" not in {entry["verb"] for entry in kubernetes.audited("from-a-plugin")}:  # noqa: ASYNC110
            await anyio.sleep(0.05)


@pytest.mark.slow
async def test_cluster_outlives_restarts_of_its_server(own_servers: OwnServers) -> None:
    def config_map(name: str) -> dict[str, object]:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name}}

    async with open_cluster(own_servers.kubeconfig) as cluster:
        kind = await cluster.kind("v1", "ConfigMap")
        made = await cluster.create(config_map("before"), manager="m")
        since = made["metadata"]["resourceVersion"]
        async with aclosing(cluster.watch(kind, resource_version=since, namespace="default")) as events:
            await cluster.create(config_map("during"), manager="m")
            assert (await anext(events)).object["metadata"]["name"] == "during"
            await anyio.to_thread.run_sync(own_servers.kill)
            with anyio.fail_after(LIMIT_S), pytest.raises(UnreachableError):
                async for _ in events:
                    pass
        with pytest.raises(UnreachableError, match="no connection to"):
            await cluster.get(kind, "default", "before")
        with pytest.raises(UnreachableError, match="no connection to"):
            await cluster.apply(config_map("not-sent"), manager="m")
        await anyio.to_thread.run_sync(own_servers.start)
        assert await cluster.get(kind, "default", "before") == made
        since = (await cluster.list(kind, namespace="default")).resource_version
        async with aclosing(cluster.watch(kind, resource_version=since, namespace="default")) as events:
            await cluster.create(config_map("after"), manager="m")
            assert (await anext(events)).object["metadata"]["name"] == "after"
        with anyio.fail_after(LIMIT_S), pytest.raises(GoneError, match="too old resource version"):
            async with aclosing(cluster.watch(kind, resource_version="1", namespace="default")) as events:
                await anext(events)
