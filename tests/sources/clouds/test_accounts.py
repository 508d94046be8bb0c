"""Who a ServiceAccount is to a cloud."""

import pytest

from tests.servers.clouds import CLIENT, EMAIL, PROVIDER, ROLE, TENANT
from tidelog.engine.sources.clouds.accounts import CLIENT as CLIENT_ID
from tidelog.engine.sources.clouds.accounts import EMAIL as GOOGLE_EMAIL
from tidelog.engine.sources.clouds.accounts import PROVIDER as GOOGLE_PROVIDER
from tidelog.engine.sources.clouds.accounts import ROLE as AWS_ROLE
from tidelog.engine.sources.clouds.accounts import TENANT as TENANT_ID
from tidelog.engine.sources.clouds.accounts import account_of, audience_of
from tidelog.engine.sources.clouds.questions import Account, Cloud
from tidelog.engine.sources.errors import FetchError


@pytest.mark.parametrize(
    ("cloud", "annotations", "account", "audience"),
    [
        ("aws", {AWS_ROLE: ROLE}, Account(namespace="shop", name="puller", role=ROLE), "sts.amazonaws.com"),
        (
            "azure",
            {TENANT_ID: TENANT, CLIENT_ID: CLIENT},
            Account(namespace="shop", name="puller", tenant=TENANT, client=CLIENT),
            "api://AzureADTokenExchange",
        ),
        (
            "gcp",
            {GOOGLE_PROVIDER: PROVIDER, GOOGLE_EMAIL: EMAIL},
            Account(namespace="shop", name="puller", provider=PROVIDER, email=EMAIL),
            f"//iam.googleapis.com/{PROVIDER}",
        ),
        ("gcp", {}, Account(namespace="shop", name="puller"), ""),
    ],
)
def test_annotations_say_who_an_account_is(
    cloud: Cloud, annotations: dict[str, str], account: Account, audience: str
) -> None:
    found = account_of(cloud, "shop", "puller", annotations)
    assert found == account
    assert audience_of(cloud, found) == audience


@pytest.mark.parametrize(
    ("cloud", "annotations", "words"),
    [
        ("aws", {}, f"no annotation {AWS_ROLE}"),
        ("aws", {AWS_ROLE: "puller"}, f"an annotation {AWS_ROLE} that is not the ARN of a role"),
        ("aws", {AWS_ROLE: f"{ROLE}\nx"}, f"an annotation {AWS_ROLE} that is not"),
        ("azure", {TENANT_ID: TENANT}, f"no annotation {CLIENT_ID}"),
        ("azure", {CLIENT_ID: CLIENT}, f"no annotation {TENANT_ID}"),
        ("azure", {TENANT_ID: "../common", CLIENT_ID: CLIENT}, f"an annotation {TENANT_ID} that is not"),
        ("gcp", {GOOGLE_PROVIDER: "pool/provider"}, f"an annotation {GOOGLE_PROVIDER} that is not projects/NUMBER"),
        ("gcp", {GOOGLE_EMAIL: "puller@example.com"}, f"an annotation {GOOGLE_EMAIL} that is not"),
        ("gcp", {GOOGLE_EMAIL: f"{EMAIL}/x"}, f"an annotation {GOOGLE_EMAIL} that is not"),
    ],
)
def test_annotations_that_are_missing_or_make_no_sense_are_told(
    cloud: Cloud, annotations: dict[str, str], words: str
) -> None:
    with pytest.raises(FetchError) as caught:
        account_of(cloud, "shop", "puller", annotations)
    assert f"the ServiceAccount shop/puller has {words}" in str(caught.value)
    assert caught.value.reason == "AuthenticationFailed"
