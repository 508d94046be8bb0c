"""Sources with a cloud's provider: as the engine's own identity, and as a ServiceAccount's (contract OC-010, CM-089).

The clouds are played on loopback, under their own names (`tests/servers/clouds.py`); the registry behind them is real.
"""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from tests.e2e.test_other_sources import declared, layer, ready_source, secret, target
from tests.e2e.world import SOURCE, Running, World, condition, failed, is_ready
from tests.servers.clouds import (
    ACR,
    CLIENT,
    ECR,
    EMAIL,
    PKG,
    PROVIDER,
    REGION,
    ROLE,
    TENANT,
    Asked,
    Clouds,
    Said,
    clouds_on,
)
from tests.servers.lying_s3 import lying_s3
from tests.servers.oci_registry import OciRegistry, oci_registry
from tests.sources.oci.conftest import require_registry
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.engine.sources.access import Proxy
from tidelog.engine.sources.oci import fetcher

GATE = "to use spec.serviceAccountName for provider authentication please enable the ObjectLevelWorkloadIdentity"
HOSTS = {"aws": ECR, "azure": ACR, "gcp": PKG}
IDENTITIES: dict[str, Callable[[Clouds], dict[str, str]]] = {
    "aws": Clouds.of_aws_web_identity,
    "azure": Clouds.of_azure_workload,
    "gcp": Clouds.of_google_federation,
}
ANNOTATIONS = {
    "aws": {"eks.amazonaws.com/role-arn": ROLE},
    "azure": {"azure.workload.identity/tenant-id": TENANT, "azure.workload.identity/client-id": CLIENT},
    "gcp": {
        "gcp.auth.fluxcd.io/workload-identity-provider": PROVIDER,
        "iam.gke.io/gcp-service-account": EMAIL,
    },
}
EACH = pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])


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


async def push(world: World, registry: OciRegistry, n: str) -> str:
    return (await anyio.to_thread.run_sync(lambda: registry.push(world.namespace, layer(n)))).digest


async def of_cloud(world: World, clouds: Clouds, cloud: str, **spec: Any) -> None:
    """An OCIRepository of a cloud's registry, by way of the proxy."""
    await secret(world, "certs", ca_crt=clouds.ca)
    await secret(world, "proxy", address=clouds.proxy.encode())
    where = {
        "url": f"oci://{HOSTS[cloud]}/{world.namespace}",
        "provider": cloud,
        "certSecretRef": {"name": "certs"},
        "proxySecretRef": {"name": "proxy"},
    }
    await declared(world, "OCIRepository", **(where | spec))


async def account(world: World, cloud: str, name: str = "puller", **more: Any) -> None:
    metadata = {"name": name, "annotations": ANNOTATIONS[cloud]}
    await world.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, **more})


async def until_failed(world: World, kind: str, reason: str, *words: str) -> KubeObject:
    found = await world.until(
        SOURCE, kind, "src", lambda obj: obj is not None and failed(reason, *words)(obj), f"{reason}: {words}"
    )
    assert found is not None
    return found


def recorded(running: Running) -> str:
    return "\n".join(f"{one.envelope} {one.event}" for one in running.recorded)


@EACH
async def test_a_cloud_s_registry_is_followed_with_the_engine_s_identity(
    world: World, behind: OciRegistry, clouds: Clouds, cloud: str
) -> None:
    await push(world, behind, "1")
    metrics = Metrics()
    async with world.daemon(environment=IDENTITIES[cloud](clouds)) as running:
        metrics.bind(running.daemon.engine)
        await of_cloud(world, clouds, cloud)
        await ready_source(world, "OCIRepository")
        await target(world, "OCIRepository")
        await world.until_target("app", is_ready)
        assert await world.data("a") == {"n": "1"}
        lasting = [*clouds.given]
        # What was given is good no more: it is asked for once more in the same pass.
        clouds.given.clear()
        await push(world, behind, "2")
        await world.ask("OCIRepository", "src")
        await world.until_data("a", {"n": "2"})
        assert clouds.given
        assert set(clouds.given).isdisjoint(lasting)
        told = json.dumps(await world.get(SOURCE, "OCIRepository", "src")) + recorded(running)
        assert not any(token in told for token in (*lasting, *clouds.given, "the-token-of-kubernetes"))
        text = metrics.text().decode()
        labels = f'kind="OCIRepository",name="src",namespace="{world.namespace}",operation="reconcile"'
        assert f'gotk_token_cache_events_total{{event_type="cache_miss",{labels}}} 2.0' in text
        assert f'gotk_token_cache_events_total{{event_type="cache_hit",{labels}}} 1.0' in text
        assert "gotk_token_cached_items 1.0" in text
        assert 'gotk_token_cache_requests_total{status="success"} 3.0' in text


@EACH
async def test_a_service_account_has_an_identity_of_its_own_where_the_gate_is_open(
    world: World, behind: OciRegistry, clouds: Clouds, cloud: str
) -> None:
    await push(world, behind, "1")
    async with world.daemon(environment=clouds.environment()) as running:
        await of_cloud(world, clouds, cloud, serviceAccountName="puller")
        await until_failed(world, "OCIRepository", "AuthenticationFailed", "no ServiceAccount")
        await account(world, cloud)
        found = await until_failed(world, "OCIRepository", "FeatureGateDisabled", GATE)
        assert condition(found, "Stalled")["reason"] == "FeatureGateDisabled"
        assert clouds.asked == []
        await running.idle()
    async with world.daemon(environment=clouds.environment(), object_level_workload_identity=True) as running:
        await ready_source(world, "OCIRepository")
        tokens = [
            token
            for one in clouds.asked
            if one.method == "POST"
            for field in ("WebIdentityToken", "client_assertion", "subject_token")
            if (token := one.form.get(field))
        ]
        assert len(tokens) == 1
        audience = {
            "aws": "sts.amazonaws.com",
            "azure": "api://AzureADTokenExchange",
            "gcp": f"//iam.googleapis.com/{PROVIDER}",
        }[cloud]
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        answer = await world.cluster.review({**review, "spec": {"token": tokens[0], "audiences": [audience]}})
        assert answer["status"]["user"]["username"] == f"system:serviceaccount:{world.namespace}:puller"
        assert tokens[0] not in recorded(running)
        await world.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "puller"}})
        missing = {"aws": "role-arn", "azure": "tenant-id", "gcp": "metadata server"}[cloud]
        await until_failed(world, "OCIRepository", "AuthenticationFailed", missing)


async def test_secrets_go_before_a_cloud(world: World, behind: OciRegistry, clouds: Clouds) -> None:
    """Nor is the gate looked at where the account has pull secrets (contract OC-010, OC-012)."""
    await push(world, behind, "1")
    config = {"auths": {ECR: {"username": "AWS", "password": clouds.give("of-a-secret")}}}
    await secret(world, "pull", "kubernetes.io/dockerconfigjson", _dockerconfigjson=json.dumps(config).encode())
    await account(world, "aws", imagePullSecrets=[{"name": "pull"}])
    async with world.daemon(environment=clouds.of_aws_keys()):
        await of_cloud(world, clouds, "aws", secretRef={"name": "pull"})
        await ready_source(world, "OCIRepository")
        await of_cloud(world, clouds, "aws", serviceAccountName="puller")
        await ready_source(world, "OCIRepository")
    assert {one.host for one in clouds.asked} == {ECR}


async def test_what_a_cloud_does_not_give_is_told(world: World, behind: OciRegistry, clouds: Clouds) -> None:
    await push(world, behind, "1")
    async with world.daemon(environment=clouds.environment()):
        await of_cloud(world, clouds, "azure")
        await until_failed(world, "OCIRepository", "AuthenticationFailed", "Azure: there is no client")
        await of_cloud(world, clouds, "azure", url=f"oci://{behind.host}/app")
        await until_failed(world, "OCIRepository", "AuthenticationFailed", "is no registry of Azure")
    assert clouds.to(ACR) == []
    silence = threading.Event()

    def wait(_: Asked) -> Said:
        silence.wait(60)
        return Said(503)

    clouds.sites["login.microsoftonline.com"] = wait
    try:
        async with world.daemon(environment=clouds.of_azure_workload()):
            await of_cloud(world, clouds, "azure", timeout="2s")
            await until_failed(world, "OCIRepository", "AuthenticationFailed", "within 2 s: raise spec.timeout")
    finally:
        silence.set()


async def test_the_default_account_is_the_one_of_sources_where_the_gate_is_open(
    world: World, behind: OciRegistry, clouds: Clouds
) -> None:
    await push(world, behind, "1")
    await account(world, "gcp", "default")
    settings: dict[str, Any] = {"default_service_account": "default"}
    async with world.daemon(environment=clouds.of_google_federation(), **settings):
        await of_cloud(world, clouds, "gcp")
        await ready_source(world, "OCIRepository")
        assert clouds.to("iamcredentials.googleapis.com") == [], "it is the engine that asks"
    settings["object_level_workload_identity"] = True
    async with world.daemon(environment=clouds.of_google_federation(), **settings):
        await of_cloud(world, clouds, "gcp", interval="2h")
        await ready_source(world, "OCIRepository")
        await world.until_told("src", "NewArtifact", kind="OCIRepository")
        assert len(clouds.to("iamcredentials.googleapis.com")) == 1


async def test_a_chart_of_a_cloud_s_registry(
    world: World, behind: OciRegistry, clouds: Clouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A HelmRepository names no proxy: the way to the registry is laid here."""
    through, reach_of = Proxy(address=clouds.proxy), fetcher.reach_of
    monkeypatch.setattr(fetcher, "reach_of", lambda spec, who, tls, _: reach_of(spec, who, tls, through))
    from tests.e2e.archives import archive_of
    from tests.e2e.test_helm_sources import CHART_CONFIG, CHART_CONTENT

    archive = archive_of({"app/Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\n", "app/values.yaml": ""})
    config = (CHART_CONFIG, b"{}")
    name = f"{world.namespace}/app"
    await anyio.to_thread.run_sync(lambda: behind.push(name, (CHART_CONTENT, archive), tag="1.0.0", config=config))
    await secret(world, "certs", ca_crt=clouds.ca)
    async with world.daemon(environment=clouds.of_aws_web_identity()):
        spec: dict[str, Any] = {"type": "oci", "provider": "aws", "url": f"oci://{ECR}/{world.namespace}"}
        spec |= {"certSecretRef": {"name": "certs"}}
        metadata = {"name": "charts"}
        await world.apply({"apiVersion": SOURCE, "kind": "HelmRepository", "metadata": metadata, "spec": spec})
        of = {"kind": "HelmRepository", "name": "charts"}
        await declared(world, "HelmChart", chart="app", version="1.x", sourceRef=of)
        found = await ready_source(world, "HelmChart")
        assert found["status"]["artifact"]["revision"] == "1.0.0"
        clouds.given.clear()
        await world.ask("HelmChart", "src")
        await ready_source(world, "HelmChart")


async def test_a_bucket_is_read_as_a_service_account(world: World, clouds: Clouds) -> None:
    with lying_s3() as s3:
        s3.objects = {b"a.yaml": b"x"}
        await account(world, "gcp")
        store = "storage.googleapis.com"

        def of_google(asked: Asked) -> Said:
            is_known = asked.headers.get("authorization", "").removeprefix("Bearer ") in clouds.given
            return clouds.forward(asked, s3.address) if is_known else Said(401)

        clouds.sites[store] = of_google
        await secret(world, "certs", ca_crt=clouds.ca)
        await secret(world, "proxy", address=clouds.proxy.encode())
        bucket = {
            "provider": "gcp",
            "bucketName": "apps",
            "endpoint": store,
            "certSecretRef": {"name": "certs"},
            "proxySecretRef": {"name": "proxy"},
            "serviceAccountName": "puller",
        }
        async with world.daemon(environment=clouds.environment()):
            await declared(world, "Bucket", **bucket)
            found = await until_failed(world, "Bucket", "FeatureGateDisabled", GATE)
            assert condition(found, "FetchFailed")["reason"] == condition(found, "Stalled")["reason"]
            assert (s3.asked, clouds.asked) == ([], [])
        async with world.daemon(environment=clouds.environment(), object_level_workload_identity=True):
            first = (await ready_source(world, "Bucket"))["status"]["artifact"]["revision"]
            assert {one.headers["authorization"] for one in s3.asked} == {f"Bearer {clouds.given[-1]}"}
            clouds.given.clear()  # what was given is good no more
            s3.objects = {b"b.yaml": b"y"}
            await world.ask("Bucket", "src")
            await world.until(
                SOURCE,
                "Bucket",
                "src",
                lambda obj: obj is not None and obj["status"]["artifact"]["revision"] != first,
                "another revision",
            )
            assert clouds.given[-1].startswith("acting")
            count = len(clouds.given)
            for changed in ({"endpoint": s3.address}, {"endpoint": f"{store}.example.com"}, {"insecure": True}):
                await declared(world, "Bucket", **(bucket | changed))
                await until_failed(world, "Bucket", "AuthenticationFailed", "gets no token of an identity")
            assert len(clouds.given) == count


async def test_nothing_that_a_source_names_sees_the_engine_s_own_identity(world: World, clouds: Clouds) -> None:
    await secret(world, "certs", ca_crt=clouds.ca)
    await secret(world, "proxy", address=clouds.proxy.encode())
    amazon = {"provider": "aws", "bucketName": "apps", "endpoint": "s3.amazonaws.com"}
    google = {"provider": "gcp", "bucketName": "apps", "endpoint": "storage.googleapis.com"}
    by_proxy, with_authority = {"proxySecretRef": {"name": "proxy"}}, {"certSecretRef": {"name": "certs"}}
    async with world.daemon(environment=clouds.environment()):
        for spec, words in (
            (amazon | {"region": "x.evil.example/"}, "spec.region: an identity of AWS needs one"),
            (amazon | by_proxy, "spec.proxySecretRef: a proxy of the source's own may see the engine's own identity"),
            (google | by_proxy, "spec.proxySecretRef: a proxy of the source's own may see the engine's own identity"),
            (google | with_authority, "spec.certSecretRef: an authority of the source's own may see"),
        ):
            await declared(world, "Bucket", **spec)
            await until_failed(world, "Bucket", "AuthenticationFailed", words)
        await declared(world, "OCIRepository", provider="aws", url=f"oci://{ECR}/{world.namespace}", insecure=True)
        await until_failed(world, "OCIRepository", "AuthenticationFailed", "is shown to a registry over TLS only")
    assert clouds.asked == []


async def test_a_bucket_of_aws_is_read_with_the_keys_of_a_role(world: World, clouds: Clouds) -> None:
    with lying_s3() as s3:
        s3.objects = {b"a.yaml": b"x"}
        await account(world, "aws")
        async with world.daemon(environment=clouds.environment(), object_level_workload_identity=True):
            bucket = {"provider": "aws", "bucketName": "apps", "endpoint": s3.address, "insecure": True}
            await declared(world, "Bucket", **bucket, serviceAccountName="puller")
            await until_failed(world, "Bucket", "AuthenticationFailed", "spec.region")
            await declared(world, "Bucket", **bucket, serviceAccountName="puller", region=REGION)
            await ready_source(world, "Bucket")
            assert {one.headers["x-amz-security-token"] for one in s3.asked} == set(clouds.sessions)
            elsewhere = {"provider": "aws", "endpoint": "https://sts.example.com"}
            await declared(world, "Bucket", **bucket, region=REGION, sts=elsewhere)
            await until_failed(world, "Bucket", "AuthenticationFailed", "is no STS of AWS")
            assert clouds.to("sts.example.com") == []
