"""Logs in at Google Cloud, with google-auth: its default credentials say who we are. Blocks; for the worker only."""

import os
import re
from datetime import UTC, datetime
from typing import Any, Final

import google.auth
import requests
from google.auth import identity_pool
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, OAuthError, RefreshError, TransportError
from google.auth.transport.requests import Request

from tidelog.engine.sources.clouds.accounts import GOOGLE_AUDIENCE
from tidelog.engine.sources.clouds.questions import Account, DeniedError, Granted, Job, Question

USERNAME: Final = "oauth2accesstoken"
"""The user whose password a token is."""
SCOPES: Final = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/userinfo.email",
)
TOKENS: Final = "https://sts.googleapis.com/v1/token"
ACTING: Final = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
CODE: Final = re.compile(r"\b[a-z]+(?:_[a-z]+)+\b")
"""Such as `invalid_grant`."""
METADATA_S: Final = 5
TIMEOUT_S: Final = 10
NOBODY: Final = (
    "GOOGLE_APPLICATION_CREDENTIALS names no file, and there is no metadata server: give the engine an identity "
    "(Workload Identity), or name a Secret in spec.secretRef"
)


def login(job: Job) -> Granted:
    """Credentials for registries and stores, which are the same; or the audience of the cluster.

    Raises:
        DeniedError: when there are none to be had.
    """
    question = job.question
    if question.wanted == "audience":
        return Granted(secret=_Cluster().pool)
    try:
        credentials = _credentials(question, job.token)
        credentials.refresh(_request(question))
    except DefaultCredentialsError as error:
        found = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        raise DeniedError(f"the credentials in {found} cannot be used: {error}" if found else NOBODY) from None
    except (OAuthError, RefreshError) as error:
        raise DeniedError(f"no token is given: {_said(error)}: look at the identity, and what it may do") from None
    except TransportError as error:
        raise DeniedError(f"a server of Google's cannot be asked ({type(error).__name__}): it is tried again") from None
    except GoogleAuthError as error:
        raise DeniedError(f"no token is given ({type(error).__name__}): look at the identity") from None
    lasts_s = 0.0
    if credentials.expiry is not None:
        lasts_s = (credentials.expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
    return Granted(username=USERNAME, secret=credentials.token, lasts_s=lasts_s)


def _credentials(question: Question, token: str) -> Any:
    if question.account is None:
        found, _ = google.auth.default(scopes=SCOPES, request=_request(question))
        return found
    account = question.account
    made: Any = identity_pool.Credentials
    return made(
        audience=_audience(account),
        subject_token_type="urn:ietf:params:oauth:token-type:jwt",  # noqa: S106 - the name of a kind
        token_url=TOKENS,
        subject_token_supplier=_Given(token),
        service_account_impersonation_url=ACTING.format(email=account.email) if account.email else None,
        scopes=SCOPES,
    )


class _Given(identity_pool.SubjectTokenSupplier):
    """Kubernetes' token, as it was given."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_subject_token(self, context: object, request: object) -> str:  # noqa: ARG002 - the library's
        """See the library."""
        return self._token


def _audience(account: Account) -> str:
    if account.provider:
        return f"{GOOGLE_AUDIENCE}{account.provider}"
    cluster = _Cluster()
    return f"identitynamespace:{cluster.pool}:{cluster.provider}"


class _Cluster:
    """The GKE cluster that we run on, as the metadata server tells."""

    def __init__(self) -> None:
        project = _metadata("project/project-id")
        self.pool = f"{project}.svc.id.goog"
        location = _metadata("instance/attributes/cluster-location")
        name = _metadata("instance/attributes/cluster-name")
        where = f"projects/{project}/locations/{location}/clusters/{name}"
        self.provider = f"https://container.googleapis.com/v1/{where}"


def _metadata(path: str) -> str:
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    session = requests.Session()
    session.trust_env = False  # no proxy leads there
    try:
        answer = session.get(
            f"http://{host}/computeMetadata/v1/{path}",
            headers={"Metadata-Flavor": "Google"},
            timeout=METADATA_S,
            allow_redirects=False,
        )
    except requests.RequestException:
        answer = None
    if answer is None or answer.status_code != 200 or answer.headers.get("Metadata-Flavor") != "Google":
        raise DeniedError(
            "the metadata server does not say which GKE cluster this is: outside of GKE, name a workload identity "
            "provider in the annotation gcp.auth.fluxcd.io/workload-identity-provider of the ServiceAccount"
        )
    return answer.text.strip()


def _request(question: Question) -> Request:
    """Tokens are asked for over https, through the proxy where there is one; the metadata server never is."""
    session = requests.Session()
    if question.proxy:
        session.proxies = {"https": question.proxy}
    return Request(session=session)


def _said(error: GoogleAuthError) -> str:
    """The code of a refusal; its description may quote the request. Without one, the library's own words."""
    text = str(error.args[0]) if error.args else type(error).__name__
    code = CODE.search(text)
    return code[0] if code is not None else text
