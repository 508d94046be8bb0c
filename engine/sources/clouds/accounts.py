"""Who a ServiceAccount is to a cloud: its annotations, by Flux's names and the clouds' own. Pure."""

import re
from collections.abc import Mapping
from typing import Final

from tidelog.engine.sources.clouds.questions import Account, Cloud
from tidelog.engine.sources.errors import FetchError

ROLE: Final = "eks.amazonaws.com/role-arn"
TENANT: Final = "azure.workload.identity/tenant-id"
CLIENT: Final = "azure.workload.identity/client-id"
PROVIDER: Final = "gcp.auth.fluxcd.io/workload-identity-provider"
EMAIL: Final = "iam.gke.io/gcp-service-account"
AUDIENCES: Final[dict[Cloud, str]] = {"aws": "sts.amazonaws.com", "azure": "api://AzureADTokenExchange"}
"""For whom Kubernetes' token of an account is; Google's depends on the account."""
GOOGLE_AUDIENCE: Final = "//iam.googleapis.com/"

_role = re.compile(r"arn:aws[\w-]*:iam::[0-9]{1,30}:role/.{1,200}", re.ASCII)
_azure_id = re.compile(r"[A-Za-z0-9.-]{1,100}", re.ASCII)
_provider = re.compile(
    r"projects/\d{1,30}/locations/global/workloadIdentityPools/[^/\s]{1,100}/providers/[^/\s]{1,100}", re.ASCII
)
_email = re.compile(r"[a-zA-Z0-9-]{1,100}@[a-zA-Z0-9-]{1,100}\.iam\.gserviceaccount\.com", re.ASCII)


def account_of(cloud: Cloud, namespace: str, name: str, annotations: Mapping[str, str]) -> Account:
    """The account, as the cloud that is asked knows it.

    Raises:
        FetchError: when an annotation that is needed is not there, or makes no sense.
    """
    where = f"the ServiceAccount {namespace}/{name}"
    if cloud == "aws":
        role = _annotation(annotations, ROLE, _role, where, "the ARN of a role")
        return Account(namespace=namespace, name=name, role=role)
    if cloud == "azure":
        tenant = _annotation(annotations, TENANT, _azure_id, where, "the id of a tenant")
        client = _annotation(annotations, CLIENT, _azure_id, where, "the id of an application or managed identity")
        return Account(namespace=namespace, name=name, tenant=tenant, client=client)
    form = "projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER"
    provider = _annotation(annotations, PROVIDER, _provider, where, form, is_needed=False)
    email = _annotation(annotations, EMAIL, _email, where, "the address of a service account", is_needed=False)
    return Account(namespace=namespace, name=name, provider=provider, email=email)


def audience_of(cloud: Cloud, account: Account) -> str:
    """For whom Kubernetes' token of the account is; empty where the GKE cluster says it."""
    if cloud in AUDIENCES:
        return AUDIENCES[cloud]
    return f"{GOOGLE_AUDIENCE}{account.provider}" if account.provider else ""


def _annotation(
    annotations: Mapping[str, str],
    key: str,
    pattern: re.Pattern[str],
    where: str,
    form: str,
    *,
    is_needed: bool = True,
) -> str:
    text = annotations.get(key, "")
    if not text and not is_needed:
        return ""
    if pattern.fullmatch(text) is None:
        has = f"an annotation {key} that is not {form}: correct it" if text else f"no annotation {key}: give it {form}"
        raise FetchError("AuthenticationFailed", f"spec.serviceAccountName: {where} has {has}")
    return text
