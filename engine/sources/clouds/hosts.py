"""Which registries, stores and token services are a cloud's: no other gets its credentials. Pure.

The names of registries are those that Flux knows; here the whole host has to be one, and not a part of it.
"""

import re
from typing import Final

from tidelog.engine.sources.clouds.questions import NAMES, Cloud, Question
from tidelog.engine.sources.errors import FetchError

PUBLIC_ECR: Final = "public.ecr.aws"
PUBLIC_ECR_REGION: Final = "us-east-1"
"""The only one where credentials for the public registry are given."""

_ecr = re.compile(
    r"[0-9]+\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\."
    r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|sc2s\.sgov\.gov|c2s\.ic\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov|on\.aws)",
    re.ASCII,
)
_acr = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.azurecr\.(?:io|cn|de|us)", re.ASCII)
_google = re.compile(
    r"(?:[a-z0-9-]+\.)*gcr\.io|[a-z0-9-]+(?:\.[a-z0-9-]+)*-docker\.pkg\.dev|docker\.s3nsregistry\.fr", re.ASCII
)


_region = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_sts = re.compile(r"https://(?:[a-z0-9-]+\.)*sts(?:-fips)?(?:\.[a-z0-9-]+)?(?:\.vpce)?\.amazonaws\.com", re.ASCII)
_stores: Final = {
    "gcp": re.compile(r"(?:[a-z0-9-]+\.)+googleapis\.com", re.ASCII),
    "azure": re.compile(
        r"(?:[a-z0-9-]+\.)+blob\.(?:core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)|storage\.azure\.net)",
        re.ASCII,
    ),
}
"""Stores that are shown a token as it is; a request to AWS is signed for the host that it goes to."""


def check_store(cloud: Cloud, scheme: str, host: str) -> None:
    """Looks whether a store may be shown a token of an identity, which is good for others too.

    Raises:
        FetchError: when it is not one of the cloud's, or is reached without TLS.
    """
    known = _stores.get(cloud)
    if known is None or (scheme == "https" and known.fullmatch(host.lower())):
        return
    why = "is no object store of" if scheme == "https" else "is reached without TLS, though it may be one of"
    raise FetchError(
        "AuthenticationFailed",
        f"spec.endpoint: {host} {why} {NAMES[cloud]}, and gets no token of an identity: correct it and spec.insecure, "
        "or give credentials in spec.secretRef",
        final=True,
    )


def check_region(region: str) -> None:
    """Looks whether a region is one: it becomes part of the names of hosts that are shown what proves an identity.

    Raises:
        FetchError: when it is none.
    """
    if _region.fullmatch(region) is None:
        raise FetchError(
            "AuthenticationFailed", "spec.region: an identity of AWS needs one, such as eu-west-1: set it", final=True
        )


def check_own(*, has_authority: bool, has_proxy: bool) -> None:
    """Looks whether nothing that a source names comes between the engine's own identity and its cloud.

    Args:
        has_authority: whether the source names an authority that is trusted.
        has_proxy: whether it names a proxy.

    Raises:
        FetchError: when something does.
    """
    if not has_authority and not has_proxy:
        return
    field = "spec.certSecretRef: an authority" if has_authority else "spec.proxySecretRef: a proxy"
    raise FetchError(
        "AuthenticationFailed",
        f"{field} of the source's own may see the engine's own identity, which is not shown to it: leave it out, or "
        "name spec.serviceAccountName, or give credentials in spec.secretRef",
        final=True,
    )


def check_sts_endpoint(endpoint: str) -> None:
    """Looks whether a token service may be shown what proves an identity.

    Raises:
        FetchError: when it is not one of AWS's.
    """
    if _sts.fullmatch(endpoint) is None:
        raise FetchError(
            "AuthenticationFailed",
            "spec.sts.endpoint is no STS of AWS, and gets no token: write it like https://sts.eu-west-1.amazonaws.com",
            final=True,
        )


def store_question(cloud: Cloud, region: str, endpoint: str) -> Question:
    """What the cloud is asked for an object store.

    Args:
        cloud: `spec.provider`.
        region: `spec.region`.
        endpoint: `spec.sts.endpoint`.

    Raises:
        FetchError: when AWS has no region, or an STS that is none of its own, which gets no token.
    """
    if cloud != "aws":
        return Question(cloud=cloud, wanted="store")
    check_region(region)
    if endpoint:
        check_sts_endpoint(endpoint)
    return Question(cloud=cloud, wanted="store", region=region, endpoint=endpoint)


def registry_question(cloud: Cloud, host: str) -> Question:
    """What the cloud is asked for a registry.

    Args:
        cloud: `spec.provider`.
        host: of the registry, with its port if it has one.

    Raises:
        FetchError: when the host is not one of the cloud's.
    """
    name = host.lower()
    if cloud == "gcp" and _google.fullmatch(name):
        return Question(cloud=cloud)  # one token is for all of them
    if cloud == "azure" and _acr.fullmatch(name):
        return Question(cloud=cloud, registry=name)
    if cloud == "aws" and name == PUBLIC_ECR:
        return Question(cloud=cloud, registry=name, region=PUBLIC_ECR_REGION)
    if cloud == "aws" and (found := _ecr.fullmatch(name)):
        return Question(cloud=cloud, region=found[1])  # one token is for all of a region
    raise FetchError(
        "AuthenticationFailed",
        f"spec.provider: {host} is no registry of {NAMES[cloud]}, and gets no credentials of it: correct spec.url, or "
        "leave provider out, and give credentials in spec.secretRef",
        final=True,
    )
