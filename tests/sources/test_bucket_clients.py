"""How clients of object stores are configured, and what Secrets are refused."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from tests.servers.lying_s3 import lying_s3
from tidelog.engine.sources.access import PLAIN_TLS, Proxy, Tls
from tidelog.engine.sources.bucket import (
    NO_CREDENTIALS,
    BucketCredentials,
    BucketFetcher,
    BucketSpec,
    StsCredentials,
    StsSpec,
    credentials_of,
    sts_credentials_of,
)
from tidelog.engine.sources.bucket.credentials import S3Keys
from tidelog.engine.sources.bucket.endpoint import endpoint_of
from tidelog.engine.sources.bucket.signing import query_of, signed
from tidelog.engine.sources.bucket.spec import Provider
from tidelog.engine.sources.bucket.stores import azure_store, google_store, role_store, s3_store
from tidelog.engine.sources.errors import FetchError

ACCOUNT_KEY = base64.b64encode(b"k" * 64)
AZURE = BucketSpec(provider="azure", bucket_name="app", endpoint="https://account.blob.core.windows.net/")
ACCOUNT = {"type": "service_account", "client_email": "a@b", "private_key": "P", "private_key_id": "I"}


def test_the_signature_is_that_of_amazons_example() -> None:
    """Of "Authenticating Requests (AWS Signature Version 4)", GET Bucket (List Objects)."""
    keys = S3Keys(access_key="AKIAIOSFODNN7EXAMPLE", secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    url = f"https://examplebucket.s3.amazonaws.com/?{query_of({'prefix': 'J', 'max-keys': '2'})}"
    headers = signed(url, keys, "us-east-1", datetime(2013, 5, 24, tzinfo=UTC))
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;x-amz-content-sha256;x-amz-date, "
        "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
    )


@pytest.mark.parametrize(
    ("endpoint", "region", "bucket", "url"),
    [
        ("minio.example:9000", "", "app", "https://minio.example:9000/app"),
        ("s3.amazonaws.com", "eu-west-3", "app", "https://app.s3.eu-west-3.amazonaws.com"),
        ("s3.amazonaws.com", "", "app", "https://app.s3.amazonaws.com"),
        ("s3.eu-west-3.amazonaws.com", "eu-west-3", "app", "https://app.s3.eu-west-3.amazonaws.com"),
        ("s3.amazonaws.com", "eu-west-3", "my.app", "https://s3.eu-west-3.amazonaws.com/my.app"),
        ("oss-cn-hangzhou.aliyuncs.com", "", "app", "https://app.oss-cn-hangzhou.aliyuncs.com"),
        ("https://minio.example", "", "app", "https://minio.example/app"),
        ("[::1]:9000", "", "app", "https://[::1]:9000/app"),
    ],
)
def test_where_a_bucket_is(endpoint: str, region: str, bucket: str, url: str) -> None:
    spec = BucketSpec(bucket_name=bucket, endpoint=endpoint, region=region)
    assert endpoint_of(spec).in_region(region).bucket_url(bucket) == url
    store = s3_store(spec, endpoint_of(spec).in_region(region), region or "us-east-1", None, PLAIN_TLS, None)
    assert store.config["endpoint"] == (url if f"//{bucket}." in url else url.removesuffix(f"/{bucket}"))


def test_an_s3_client_is_told_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://elsewhere")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    spec = BucketSpec(bucket_name="app", endpoint="s3.example", timeout_s=7)
    keys = S3Keys(access_key="A", secret_key="S", token="T")
    store = s3_store(spec, endpoint_of(spec), "r", keys, Tls(ca="", verify=False), Proxy(address="http://p:1"))
    assert store.config == {
        "bucket": "app",
        "endpoint": "https://s3.example",
        "endpoint_url_s3": "https://s3.example",
        "region": "r",
        "skip_signature": "false",
        "virtual_hosted_style_request": "false",
        "s3_express": "false",
        "request_payer": "false",
    }
    assert store.credential_provider is not None
    assert store.credential_provider() == {
        "access_key_id": "A",
        "secret_access_key": "S",
        "token": "T",
        "expires_at": None,
    }
    options = store.client_options
    assert options is not None
    assert options["proxy_url"] == "http://p:1"
    assert str(options["allow_invalid_certificates"]).lower() == "true"


def test_the_sts_of_aws_is_that_of_the_web_identity() -> None:
    sts = StsSpec(provider="aws", endpoint="https://sts.example")
    spec = BucketSpec(provider="aws", bucket_name="app", endpoint="s3.amazonaws.com", region="r", sts=sts)
    store = role_store(spec, endpoint_of(spec), "r", PLAIN_TLS, None)
    assert dict(store.config)["endpoint_url_sts"] == "https://sts.example"
    assert store.credential_provider is None


@pytest.mark.parametrize(
    ("secret", "config"),
    [
        (
            {"tenantId": b"t", "clientId": b"c", "clientSecret": b"s", "authorityHost": b"https://login.example"},
            {
                "credential_type": "client_secret",
                "tenant_id": "t",
                "client_id": "c",
                "client_secret": "s",
                "authority_host": "https://login.example",
            },
        ),
        ({"clientId": b"c"}, {"credential_type": "managed_identity", "client_id": "c"}),
        ({"accountKey": ACCOUNT_KEY}, {"credential_type": "access_key", "account_key": ACCOUNT_KEY.decode()}),
        ({"sasKey": b"?sv=1&sig=x%3D"}, {"credential_type": "sas_token", "sas_key": "sv=1&sig=x%3D"}),
    ],
)
def test_azures_credentials(secret: dict[str, bytes], config: dict[str, str]) -> None:
    store = azure_store(AZURE, endpoint_of(AZURE), credentials_of("azure", secret, "azure"), PLAIN_TLS, None)
    made = {key: value for key, value in dict(store.config).items() if value != "false"}
    assert made == {
        "account_name": "account",
        "container_name": "app",
        "endpoint": "https://account.blob.core.windows.net",
        **config,
    }


async def test_azure_is_asked_with_a_token_that_it_gave(tmp_path: Path) -> None:
    with lying_s3() as blobs:
        blobs.objects = {b"a": b"x"}
        spec = msgspec.structs.replace(AZURE, endpoint=f"http://{blobs.address}")
        credentials = BucketCredentials(bearer="a-token-of-an-account")
        assert "a-token" not in f"{credentials}"
        index = await BucketFetcher().ask(spec, credentials)
        await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out")
        assert (tmp_path / "out" / "a").read_bytes() == b"x"
        assert {request.headers["authorization"] for request in blobs.asked} == {"Bearer a-token-of-an-account"}


async def test_azure_is_asked_with_the_account_key(tmp_path: Path) -> None:
    with lying_s3() as blobs:
        blobs.status = 403
        blobs.body = b"<Error><Code>AuthenticationFailed</Code><Message>sig=secret</Message></Error>"
        spec = msgspec.structs.replace(AZURE, endpoint=f"http://{blobs.address}")
        credentials = credentials_of("azure", {"accountKey": ACCOUNT_KEY}, "azure")
        with pytest.raises(FetchError, match=r"\(status 403, AuthenticationFailed\)") as caught:
            await BucketFetcher().ask(spec, credentials)
        assert caught.value.reason == "AuthenticationFailed"
        assert "sig=" not in caught.value.message
        assert blobs.asked[0].path == "/app/.sourceignore"
        assert blobs.asked[0].headers["authorization"].startswith("SharedKey localhost:")


@pytest.mark.parametrize("kind", ["account key", "SAS"])
async def test_azure_is_listed_and_read(tmp_path: Path, kind: str) -> None:
    secret = {"accountKey": ACCOUNT_KEY} if kind == "account key" else {"sasKey": b"?sv=2022&sig=ab%2Fcd%3D"}
    with lying_s3() as blobs:
        blobs.objects = {b"apps/a.yaml": b"x", b"apps/empty": b"", b"apps/z": b"z", b"apple": b"y", b"no": b"n"}
        blobs.objects |= {b".sourceignore": b"/apps/z\n"}
        blobs.page = 2
        spec = msgspec.structs.replace(AZURE, endpoint=f"http://{blobs.address}", prefix="app")
        credentials = credentials_of("azure", secret, "azure")
        index = await BucketFetcher().ask(spec, credentials)
        assert dict(index.etags) == {"apps/a.yaml": "etag-1", "apps/empty": "etag-0", "apple": "etag-1"}
        brought = await BucketFetcher().download(spec, credentials, index=index, into=tmp_path / "out")
        assert brought == index
        assert (tmp_path / "out" / "apple").read_bytes() == b"y"
        for request in blobs.asked:
            if kind == "SAS":
                assert request.query["sig"] == ["ab/cd="]
            else:
                assert request.headers["authorization"].startswith("SharedKey localhost:")
        blobs.listing = b"<html>"
        with pytest.raises(FetchError, match="something else than a listing"):
            await BucketFetcher().ask(spec, credentials)


def test_google_is_where_the_spec_says_and_the_key_says_nothing_else() -> None:
    account = {**ACCOUNT, "gcs_base_url": "http://elsewhere", "disable_oauth": True}
    credentials = credentials_of("gcp", {"serviceaccount": json.dumps(account).encode()}, "google")
    assert json.loads(credentials.service_account) == ACCOUNT
    spec = BucketSpec(provider="gcp", bucket_name="app", endpoint="gcs.example")
    store = google_store(spec, endpoint_of(spec), NO_CREDENTIALS, PLAIN_TLS, None)
    assert dict(store.config) == {"bucket": "app", "base_url": "https://gcs.example", "skip_signature": "false"}


@pytest.mark.parametrize(
    ("provider", "secret", "words"),
    [
        ("generic", {}, "has no accesskey and no secretkey"),
        ("aws", {"accesskey": b"A"}, "has no secretkey"),
        ("generic", {"accesskey": b"A", "secretkey": b"\xff"}, "has a secretkey that is no text"),
        ("generic", {"accesskey": b"A\nB", "secretkey": b"S"}, "has a accesskey of more than one line"),
        ("gcp", {}, "has no serviceaccount"),
        ("gcp", {"serviceaccount": b"{"}, "is no JSON object"),
        ("gcp", {"serviceaccount": b"[]"}, "is no JSON object"),
        ("gcp", {"serviceaccount": b'{"type":"external_account"}'}, "is of another kind"),
        ("gcp", {"serviceaccount": b'{"type":"service_account"}'}, "without client_email"),
        ("azure", {}, "has no clientId, no accountKey and no sasKey"),
        ("azure", {"tenantId": b"t", "clientId": b"c"}, "has a tenantId without clientId and clientSecret"),
        ("azure", {"clientId": b"c", "clientSecret": b"s"}, "has a clientSecret without a tenantId"),
        ("azure", {"accountKey": b"not base64"}, "has an accountKey that is no base64"),
        (
            "azure",
            {"tenantId": b"t", "clientId": b"c", "clientCertificate": b"PEM"},
            "has a clientCertificate, which is not supported",
        ),
    ],
)
def test_a_secret_that_is_not_enough_is_final(provider: Provider, secret: dict[str, bytes], words: str) -> None:
    with pytest.raises(FetchError, match=words) as caught:
        credentials_of(provider, secret, "keys")
    assert (caught.value.reason, caught.value.final) == ("AuthenticationFailed", True)
    assert caught.value.message.startswith("the Secret keys has ")


@pytest.mark.parametrize("key", ["username", "password"])
def test_an_ldap_user_is_whole(key: str) -> None:
    whole = {"username": b"ada", "password": b"lovelace"}
    assert sts_credentials_of(whole, "ldap") == StsCredentials(username="ada", password="lovelace")
    with pytest.raises(FetchError, match=f"the Secret ldap has no {key}"):
        sts_credentials_of({name: value for name, value in whole.items() if name != key}, "ldap")


def test_nothing_of_them_is_printed() -> None:
    credentials = BucketCredentials(
        access_key="AKID", secret_key="secret", sts=StsCredentials(username="ada", password="lovelace")
    )
    for shown in (repr(credentials), str(credentials), f"{credentials}", repr(credentials.sts), repr([credentials])):
        assert not any(part in shown for part in ("AKID", "'secret'", "ada", "lovelace"))
    assert repr(credentials) == "BucketCredentials(access_key, secret_key, sts)"


async def test_keys_that_make_no_client_are_told_without_them(tmp_path: Path) -> None:
    spec = BucketSpec(provider="gcp", bucket_name="app", endpoint="storage.googleapis.com")
    credentials = credentials_of("gcp", {"serviceaccount": json.dumps(ACCOUNT).encode()}, "google")
    with pytest.raises(FetchError, match="no client can be made of spec and Secrets") as caught:
        await BucketFetcher().ask(spec, credentials)
    assert caught.value.final
    spec = BucketSpec(bucket_name="app", endpoint="s3.example")
    with pytest.raises(FetchError, match="the certificate or key cannot be used") as caught:
        await BucketFetcher().ask(
            spec, tls=Tls(ca="-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        )
    assert caught.value.final
