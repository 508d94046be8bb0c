"""Logins at clouds by their own libraries: servers that are played from the clouds' documents, a real registry behind.

Nothing of it was tried at a cloud.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest

from tests.servers.clouds import (
    ACR,
    CLIENT,
    ECR,
    EMAIL,
    PKG,
    PROVIDER,
    PUBLIC_ECR,
    REGION,
    ROLE,
    TENANT,
    Asked,
    Clouds,
    Said,
    said,
)
from tests.servers.oci_registry import OciRegistry
from tests.sources.clouds.conftest import Opened
from tidelog.engine.sources.access import Proxy, Tls
from tidelog.engine.sources.clouds import logins as module
from tidelog.engine.sources.clouds.hosts import check_store, registry_question, store_question
from tidelog.engine.sources.clouds.logins import CloudLogins
from tidelog.engine.sources.clouds.questions import Account, Cloud, Granted, Job, Question
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci import OciFetcher, OciSpec, RegistryCredentials

Identity: TypeAlias = Callable[[Clouds], dict[str, str]]
IDENTITIES = [
    pytest.param(cloud, host, identity, id=identity.__name__)
    for cloud, host, identity in (
        ("aws", ECR, Clouds.of_aws_keys),
        ("aws", ECR, Clouds.of_aws_web_identity),
        ("aws", ECR, Clouds.of_aws_pod),
        ("aws", ECR, Clouds.of_aws_machine),
        ("azure", ACR, Clouds.of_azure_secret),
        ("azure", ACR, Clouds.of_azure_workload),
        ("azure", ACR, Clouds.of_azure_machine),
        ("gcp", PKG, Clouds.of_google_machine),
        ("gcp", PKG, Clouds.of_google_federation),
    )
]
EACH = pytest.mark.parametrize(
    ("cloud", "host", "identity"),
    [
        pytest.param("aws", ECR, Clouds.of_aws_web_identity, id="aws"),
        pytest.param("azure", ACR, Clouds.of_azure_workload, id="azure"),
        pytest.param("gcp", PKG, Clouds.of_google_federation, id="gcp"),
    ],
)
ACCOUNTS = {
    "aws": Account(namespace="shop", name="puller", role=ROLE),
    "azure": Account(namespace="shop", name="puller", tenant=TENANT, client=CLIENT),
    "gcp": Account(namespace="shop", name="puller", provider=PROVIDER, email=EMAIL),
}
PROOF = "eyJ-the-token-of-an-account"


async def prove() -> str:
    return PROOF


async def pulled(clouds: Clouds, host: str, who: RegistryCredentials, into: Path) -> bytes:
    """The layer that a cloud's registry has, by a real client."""
    spec, tls, proxy = OciSpec(url=f"oci://{host}/app"), Tls(ca=clouds.ca.decode()), Proxy(address=clouds.proxy)
    async with OciFetcher() as oci:
        head = await oci.ask(spec, who, tls, proxy)
        artifact = await oci.artifact(spec, who, tls, proxy, head)
        await oci.download(spec, who, tls, proxy, artifact, into)
    return await anyio.Path(into).read_bytes()


async def credentials(logins: CloudLogins, cloud: Cloud, host: str) -> RegistryCredentials:
    granted = (await logins.ask(registry_question(cloud, host))).granted
    return RegistryCredentials(username=granted.username, password=granted.secret, is_of_cloud=True)


async def refused(logins: CloudLogins, question: Question, match: str) -> FetchError:
    with pytest.raises(FetchError, match=match) as caught:
        await logins.ask(question)
    assert caught.value.reason == "AuthenticationFailed"
    return caught.value


@pytest.mark.parametrize(("cloud", "host", "identity"), IDENTITIES)
async def test_a_registry_takes_what_the_engine_s_own_identity_is_given(
    clouds: Clouds, behind: OciRegistry, opened: Opened, tmp_path: Path, cloud: Cloud, host: str, identity: Identity
) -> None:
    behind.push("app", ("a/b", b"content"))
    async with opened(identity(clouds)) as logins:
        who = await credentials(logins, cloud, host)
        assert await pulled(clouds, host, who, tmp_path / "layer") == b"content"


@pytest.mark.parametrize("host", [ECR, PUBLIC_ECR])
async def test_ecr_is_asked_in_the_region_of_the_registry(
    clouds: Clouds, behind: OciRegistry, opened: Opened, tmp_path: Path, host: str
) -> None:
    behind.push("app", ("a/b", b"content"))
    async with opened(clouds.of_aws_web_identity()) as logins:
        who = await credentials(logins, "aws", host)
        assert await pulled(clouds, host, who, tmp_path / "layer") == b"content"
    asked = {one.host for one in clouds.asked}
    of_public = {"sts.us-east-1.amazonaws.com", "api.ecr-public.us-east-1.amazonaws.com"}
    of_region = {f"sts.{REGION}.amazonaws.com", f"api.ecr.{REGION}.amazonaws.com"}
    assert asked - {host} == (of_public if host == PUBLIC_ECR else of_region)


@pytest.mark.parametrize(("cloud", "host"), [("aws", ECR), ("azure", ACR), ("gcp", PKG)])
async def test_a_registry_takes_what_an_account_is_given(
    clouds: Clouds, behind: OciRegistry, opened: Opened, tmp_path: Path, cloud: Cloud, host: str
) -> None:
    """Though the engine has an identity of its own, which nobody is asked for."""
    behind.push("app", ("a/b", b"content"))
    own = registry_question(cloud, host)
    question = Question(cloud=cloud, registry=own.registry, region=own.region, account=ACCOUNTS[cloud])
    async with opened(clouds.of_aws_keys() | {"AZURE_CLIENT_SECRET": "x"}) as logins:
        granted = (await logins.ask(question, prove)).granted
        who = RegistryCredentials(username=granted.username, password=granted.secret)
        assert await pulled(clouds, host, who, tmp_path / "layer") == b"content"
    proofs = [one for one in clouds.asked if PROOF in one.body.decode()]
    (proof,) = proofs
    if cloud == "aws":
        assert proof.form["RoleSessionName"] == f"puller.shop.{REGION}.fluxcd.io"
        assert "authorization" not in proof.headers, "who has a token signs nothing"
    if cloud == "azure":
        assert proof.form["scope"] == "https://containerregistry.azure.net/.default"
    if cloud == "gcp":
        assert proof.form["audience"] == f"//iam.googleapis.com/{PROVIDER}"
        assert len(clouds.to("iamcredentials.googleapis.com")) == 1


async def test_stores_are_given_keys_and_tokens(clouds: Clouds, opened: Opened) -> None:
    async with opened(clouds.environment()) as logins:
        for cloud in ("aws", "azure", "gcp"):
            asked = store_question(cloud, REGION, "")
            question = Question(cloud=asked.cloud, wanted="store", region=asked.region, account=ACCOUNTS[cloud])
            granted = (await logins.ask(question, prove)).granted
            assert granted.lasts_s > 3000
            assert bool(granted.session) == (cloud == "aws")
            assert granted.secret in {*clouds.given, "a-secret-key-of-a-role"}
    assert any("storage.azure.com" in token for token in clouds.given)


async def test_an_account_of_gke_is_of_the_cluster_that_the_engine_runs_on(clouds: Clouds, opened: Opened) -> None:
    account = Account(namespace="shop", name="puller")
    async with opened(clouds.environment(GCE_METADATA_HOST=clouds.metadata)) as logins:
        audience = await logins.ask(Question(cloud="gcp", wanted="audience"))
        assert audience.granted.secret == "shop.svc.id.goog"
        await logins.ask(Question(cloud="gcp", account=account), prove)
    (asked,) = clouds.to("sts.googleapis.com")
    cluster = "https://container.googleapis.com/v1/projects/shop/locations/europe-west1/clusters/fleet"
    assert asked.form["audience"] == f"identitynamespace:shop.svc.id.goog:{cluster}"
    async with opened(clouds.environment()) as logins:
        await refused(logins, Question(cloud="gcp", wanted="audience"), "gcp.auth.fluxcd.io/workload-identity-provider")


# What is kept.


@EACH
async def test_what_is_given_is_kept_for_most_of_its_time(
    clouds: Clouds, opened: Opened, cloud: Cloud, host: str, identity: Identity
) -> None:
    now = [0.0]
    question = registry_question(cloud, host)
    async with opened(identity(clouds), clock=lambda: now[0]) as logins:
        first = await logins.ask(question)
        again = await logins.ask(question)
        assert (first.was_kept, again.was_kept, again.granted) == (False, True, first.granted)
        now[0] = 2800.0  # of 3600 seconds, or of the longest that anything is kept
        assert (await logins.ask(question)).was_kept
        now[0] = 3600.0
        other = await logins.ask(question)
        assert not other.was_kept
        assert other.granted != first.granted
        logins.forget(question, first.granted)
        assert (await logins.ask(question)).was_kept, "it is another"
        logins.forget(question, other.granted)
        assert not (await logins.ask(question)).was_kept


async def test_what_is_kept_is_bounded_and_can_be_nothing(clouds: Clouds, opened: Opened) -> None:
    questions = [registry_question("azure", ACR), registry_question("aws", ECR), registry_question("gcp", PKG)]
    environment = clouds.of_aws_keys() | clouds.of_azure_secret() | clouds.of_google_federation()
    async with opened(environment, most=2) as logins:
        for question in questions:
            await logins.ask(question)
        assert (logins.size, logins.evicted) == (2, 1)
        assert [(await logins.ask(question)).was_kept for question in reversed(questions)] == [True, True, False]
    async with opened(environment, most=0) as logins:
        for _ in range(2):
            assert not (await logins.ask(questions[0])).was_kept
        assert logins.size == 0
    async with opened(environment, longest_s=10, clock=iter(range(0, 100, 20)).__next__) as logins:
        for _ in range(2):
            assert not (await logins.ask(questions[0])).was_kept


async def test_what_is_asked_at_once_is_asked_once(clouds: Clouds, opened: Opened) -> None:
    found = []
    async with opened(clouds.of_azure_workload()) as logins:

        async def ask() -> None:
            found.append((await logins.ask(registry_question("azure", ACR))).granted.secret)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
    assert len(set(found)) == 1
    assert len(clouds.to(ACR)) == 1


async def test_the_processes_end_when_nobody_asks(
    clouds: Clouds, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_S", 0.01)
    async with opened(clouds.of_azure_secret(), most=0) as logins:
        ended, end_idle = anyio.Event(), logins._workers.end_idle

        async def end() -> None:
            await end_idle()
            ended.set()

        monkeypatch.setattr(logins._workers, "end_idle", end)
        await logins.ask(registry_question("azure", ACR))
        with anyio.fail_after(30):
            await ended.wait()
        assert logins._workers._idle == []
        await logins.ask(registry_question("azure", ACR))


# What goes wrong.


@pytest.mark.parametrize(
    ("cloud", "host", "words"),
    [
        ("aws", ECR, "AWS: there are no keys.*spec.secretRef"),
        ("azure", ACR, "Azure: there is no client.*spec.secretRef"),
        ("gcp", PKG, "Google Cloud: GOOGLE_APPLICATION_CREDENTIALS names no file.*spec.secretRef"),
    ],
)
async def test_who_has_no_identity_is_told(clouds: Clouds, opened: Opened, cloud: Cloud, host: str, words: str) -> None:
    async with opened(clouds.environment()) as logins:
        await refused(logins, registry_question(cloud, host), words)
        assert (logins.given, logins.denied, logins.size) == (0, 1, 0)


DENIED = {
    "sts.eu-west-1.amazonaws.com": lambda asked: Said(
        403,
        b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized to perform "
        b"sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>",
    ),
    "login.microsoftonline.com": lambda asked: said(
        401, {"error": "invalid_client", "error_description": f"AADSTS700213: {asked.body.decode()}"}
    ),
    "sts.googleapis.com": lambda asked: said(
        400, {"error": "invalid_grant", "error_description": f"no {asked.body.decode()}"}
    ),
}


@EACH
async def test_a_refusal_is_told_without_what_is_secret(
    clouds: Clouds, opened: Opened, cloud: Cloud, host: str, identity: Identity
) -> None:
    clouds.sites |= DENIED
    words = {"aws": "AccessDenied .*AssumeRoleWithWebIdentity", "azure": "AADSTS700213", "gcp": "invalid_grant"}
    async with opened(identity(clouds)) as logins:
        error = await refused(logins, registry_question(cloud, host), words[cloud])
        assert "the-token-of-kubernetes" not in str(error)
        assert not error.final
        question = registry_question(cloud, host)
        with pytest.raises(FetchError, match=words[cloud]) as caught:
            await logins.ask(
                Question(cloud=cloud, registry=question.registry, region=question.region, account=ACCOUNTS[cloud]),
                prove,
            )
        assert PROOF not in str(caught.value)


def _always(answer: Said, _: Asked) -> Said:
    return answer


async def test_a_registry_that_does_not_exchange_tokens_is_told(clouds: Clouds, opened: Opened) -> None:
    question = registry_question("azure", ACR)
    for answer, words in (
        (said(401, {"errors": []}), r"takes our token for none of its own \(status 401\).*AcrPull"),
        (said(200, {"nothing": "here"}), "answers without a token"),
        (Said(200, b"no JSON"), "answers without a token"),
        (Said(302, b"", {"Location": "https://elsewhere.example.com/"}), "status 302"),
    ):
        clouds.sites[ACR] = partial(_always, answer)
        async with opened(clouds.of_azure_workload()) as logins:
            await refused(logins, question, words)
    assert not clouds.to("elsewhere.example.com")


@EACH
async def test_a_cloud_that_says_nothing_is_left_in_time(
    clouds: Clouds, opened: Opened, cloud: Cloud, host: str, identity: Identity
) -> None:
    import threading

    silence = threading.Event()

    def wait(_: Asked) -> Said:
        silence.wait(60)
        return Said(503)

    clouds.sites |= dict.fromkeys(DENIED, wait)
    try:
        async with opened(identity(clouds), timeout_s=2.0) as logins:
            with anyio.fail_after(20):
                await refused(logins, registry_question(cloud, host), "does not let us in within 2 s")
    finally:
        silence.set()


@EACH
async def test_an_authority_that_nobody_trusts_gets_no_token(
    clouds: Clouds, opened: Opened, cloud: Cloud, host: str, identity: Identity
) -> None:
    environment = {
        name: value
        for name, value in identity(clouds).items()
        if name not in {"AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}
    }
    async with opened(environment) as logins:
        error = await refused(logins, registry_question(cloud, host), "it is tried again")
        assert "the-token-of-kubernetes" not in str(error)
    assert clouds.asked == []


@pytest.mark.parametrize(
    ("cloud", "host"),
    [
        ("aws", "registry.example.com"),
        ("aws", f"{ECR}.example.com"),
        ("aws", f"{ECR}:5000"),
        ("aws", "123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil"),
        ("aws", "evil-public.ecr.aws"),
        ("aws", "123456789012.dkr.ecr.eu/west.amazonaws.com"),
        ("aws", ACR),
        ("azure", "azurecr.io"),
        ("azure", "shop.azurecr.io.example.com"),
        ("azure", "shop.azurecr.io:444"),
        ("azure", PKG),
        ("gcp", "evilgcr.io"),
        ("gcp", "gcr.io.example.com"),
        ("gcp", "-docker.pkg.dev"),
        ("gcp", "docker.pkg.dev"),
        ("gcp", "localhost:5000"),
    ],
)
def test_a_host_that_is_not_the_cloud_s_gets_nothing_of_it(cloud: Cloud, host: str) -> None:
    with pytest.raises(FetchError, match="gets no credentials of it") as caught:
        registry_question(cloud, host)
    assert (caught.value.reason, caught.value.final) == ("AuthenticationFailed", True)


@pytest.mark.parametrize(
    ("cloud", "host", "region"),
    [
        ("aws", ECR, REGION),
        ("aws", "123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("aws", "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("aws", "123456789012.dkr-ecr.eu-west-1.on.aws", "eu-west-1"),
        ("aws", PUBLIC_ECR, "us-east-1"),
        ("azure", "Shop.azurecr.io", ""),
        ("azure", "shop.geo.azurecr.us", ""),
        ("gcp", "gcr.io", ""),
        ("gcp", "eu.gcr.io", ""),
        ("gcp", PKG, ""),
        ("gcp", "docker.s3nsregistry.fr", ""),
    ],
)
def test_a_host_of_the_cloud_s_is_known(cloud: Cloud, host: str, region: str) -> None:
    found = registry_question(cloud, host)
    assert found.region == region
    assert found.registry == (host.lower() if cloud == "azure" or host == PUBLIC_ECR else "")


def test_an_sts_that_is_not_amazon_s_gets_no_token() -> None:
    for endpoint in ("https://sts.eu-west-1.amazonaws.com", "https://vpce-1.sts.us-east-1.vpce.amazonaws.com", ""):
        assert store_question("aws", REGION, endpoint).endpoint == endpoint
    for endpoint in ("https://sts.example.com", "http://sts.amazonaws.com", "https://sts.amazonaws.com.example.com"):
        with pytest.raises(FetchError, match=r"spec\.sts\.endpoint is no STS of AWS"):
            store_question("aws", REGION, endpoint)
    with pytest.raises(FetchError, match=r"spec\.region"):
        store_question("aws", "", "")


@pytest.mark.parametrize(
    ("cloud", "host", "is_known"),
    [
        ("gcp", "storage.googleapis.com", True),
        ("gcp", "storage.europe-west1.rep.googleapis.com", True),
        ("gcp", "storage.googleapis.com.example.com", False),
        ("gcp", "evilgoogleapis.com", False),
        ("azure", "account.blob.core.windows.net", True),
        ("azure", "account.z01.blob.storage.azure.net", True),
        ("azure", "account.blob.core.windows.net.example.com", False),
        ("azure", "blob.core.windows.net", False),
        ("aws", "minio.example.com", True),
    ],
)
def test_a_store_that_is_not_the_cloud_s_gets_no_token(cloud: Cloud, host: str, is_known: bool) -> None:
    """A request to S3 is signed for its host, and holds nothing that serves elsewhere."""
    with nullcontext() if is_known else pytest.raises(FetchError, match="is no object store of"):
        check_store(cloud, "https", host)
    with nullcontext() if cloud == "aws" else pytest.raises(FetchError, match="gets no token"):
        check_store(cloud, "http", host)


async def test_a_process_that_dies_is_told(clouds: Clouds, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKER", "tidelog.engine.sources.clouds.not_there")
    async with opened(clouds.of_aws_keys()) as logins:
        await refused(logins, registry_question("aws", ECR), r"died \(it ended with 1\): it is tried again")


async def test_without_its_library_a_cloud_is_refused(
    clouds: Clouds, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.LIBRARIES, "aws", "not.there")
    async with opened(clouds.of_aws_keys()) as logins:
        error = await refused(logins, registry_question("aws", ECR), r"install tidelog\[aws\]")
        assert error.final


def test_nothing_secret_is_printed() -> None:
    for part in (
        Granted(username="AWS", secret="a-secret", session="another"),
        Question(cloud="gcp", proxy="http://user:a-secret@proxy"),
        Job(question=Question(cloud="gcp"), token="a-secret"),
        module.Login(Granted(secret="a-secret"), was_kept=True),
    ):
        assert "a-secret" not in f"{part} {part!r}"
