"""Logs in at Azure, with azure-identity; a registry's own token is exchanged here. Blocks; for the worker only."""

import base64
import binascii
import os
import re
import time
from typing import Any, Final, Protocol

import msgspec
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError
from azure.identity import (
    ClientAssertionCredential,
    CredentialUnavailableError,
    EnvironmentCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from urllib3.exceptions import HTTPError

from tidelog.engine.sources.clouds.questions import DeniedError, Granted, Job, Question
from tidelog.events.typed import decoder

USERNAME: Final = "00000000-0000-0000-0000-000000000000"
"""The user whose password a registry's token is."""
REGISTRY_SCOPE: Final = "https://containerregistry.azure.net/.default"
STORE_SCOPE: Final = "https://storage.azure.com/.default"
API_VERSION: Final = "2021-07-01"
TIMEOUT_S: Final = 10
RETRIES: Final = 2
EXCHANGE_BYTES_MAX: Final = 2**20
CODE: Final = re.compile(r"AADSTS\d+")
NOBODY: Final = (
    "there is no client in the environment, no workload identity, and no managed identity: give the engine one, or "
    "name a Secret in spec.secretRef"
)


class Credential(Protocol):
    """What gives tokens of the authority."""

    def get_token(self, *scopes: str) -> AccessToken:
        """One for a scope."""
        ...


class _Exchanged(msgspec.Struct):
    refresh_token: str = ""


class _Claims(msgspec.Struct):
    exp: float = 0.0


def login(job: Job) -> Granted:
    """Credentials for a registry, or a token for a store.

    Raises:
        DeniedError: when there are none to be had.
    """
    question = job.question
    scope = STORE_SCOPE if question.wanted == "store" else REGISTRY_SCOPE
    try:
        token = _credential(job).get_token(scope)
    except CredentialUnavailableError:
        raise DeniedError(NOBODY) from None
    except (AzureError, ValueError) as error:
        raise DeniedError(_refusal(error)) from None
    if question.wanted == "store":
        return Granted(secret=token.token, lasts_s=token.expires_on - time.time())
    return _exchanged(question, token.token)


def _credential(job: Job) -> Credential:
    """In Flux's order: what the environment says, else the identity of the Pod or machine; no program is asked."""
    given = os.environ
    more: Any = {"connection_timeout": TIMEOUT_S, "read_timeout": TIMEOUT_S, "retry_total": RETRIES}
    proxies = _proxies(job.question)
    account = job.question.account
    if account is not None:
        return ClientAssertionCredential(account.tenant, account.client, lambda: job.token, proxies=proxies, **more)
    tenant, client = given.get("AZURE_TENANT_ID"), given.get("AZURE_CLIENT_ID")
    if tenant and client and (given.get("AZURE_CLIENT_SECRET") or given.get("AZURE_CLIENT_CERTIFICATE_PATH")):
        return EnvironmentCredential(proxies=proxies, **more)
    file = given.get("AZURE_FEDERATED_TOKEN_FILE")
    if tenant and client and file and given.get("AZURE_AUTHORITY_HOST"):
        return WorkloadIdentityCredential(
            tenant_id=tenant, client_id=client, token_file_path=file, proxies=proxies, **more
        )
    return ManagedIdentityCredential(client_id=client, **more)  # of this machine: no proxy leads there


def _exchanged(question: Question, token: str) -> Granted:
    """A token of the registry for one of the authority."""
    registry = question.registry
    form = {"grant_type": "access_token", "service": registry, "access_token": token}
    try:
        answer = requests.post(
            f"https://{registry}/oauth2/exchange",
            params={"api-version": API_VERSION},
            data=form,
            headers={"Accept": "application/json"},
            proxies=_proxies(question),
            timeout=TIMEOUT_S,
            allow_redirects=False,
            stream=True,
        )
        content = answer.raw.read(EXCHANGE_BYTES_MAX, decode_content=True)
    except (requests.RequestException, HTTPError) as error:
        raise DeniedError(f"{registry} cannot be asked ({type(error).__name__}): it is tried again") from None
    if answer.status_code != 200:
        raise DeniedError(
            f"{registry} takes our token for none of its own (status {answer.status_code}): let the identity pull "
            "from it (the role AcrPull)"
        )
    try:
        found = decoder(_Exchanged)(content).refresh_token
        claims = decoder(_Claims)(_part(found))
    except (msgspec.MsgspecError, binascii.Error, IndexError):
        raise DeniedError(f"{registry} answers without a token: correct spec.url") from None
    return Granted(username=USERNAME, secret=found, lasts_s=claims.exp - time.time())


def _part(token: str) -> bytes:
    """The claims of a JSON Web Token, which is not verified: it is for who gave it."""
    part = token.split(".")[1]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _proxies(question: Question) -> dict[str, str] | None:
    return {"http": question.proxy, "https": question.proxy} if question.proxy else None


def _refusal(error: Exception) -> str:
    text = str(error)
    code = CODE.search(text)
    if code is not None:
        return f"the authority refuses us ({code[0]}): look at the identity, its tenant, and its federated credentials"
    return f"the authority gives no token ({type(error).__name__}): look at the identity; it is tried again"
