"""Logs in at AWS, with botocore: its default chain finds out who we are. Blocks; for the worker only."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any, Final

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from tidelog.engine.sources.clouds.hosts import PUBLIC_ECR
from tidelog.engine.sources.clouds.questions import Account, DeniedError, Granted, Job, Question

CONNECT_S: Final = 5
READ_S: Final = 10
ATTEMPTS: Final = 3
SESSION_NAME_MAX: Final = 64
TOLD: Final = frozenset({"AccessDenied", "AccessDeniedException"})
"""Refusals whose words name what is missing, and hold nothing of the request."""
NOBODY: Final = (
    "there are no keys in the environment or its files, no web identity, and no role of a container or machine: give "
    "the engine a role (IRSA, EKS Pod Identity or that of the node), or name a Secret in spec.secretRef"
)


def login(job: Job) -> Granted:
    """Credentials for a registry, or keys for a store.

    Raises:
        DeniedError: when there are none to be had.
    """
    question = job.question
    try:
        session = _session(question)
        keys = None if question.account is None else _assumed(session, question, question.account, job.token)
        if question.wanted == "store" and keys is not None:
            return keys
        return _registry(session, question, keys)
    except ClientError as error:
        raise DeniedError(_refusal(error)) from None
    except BotoCoreError as error:
        raise DeniedError(f"{type(error).__name__}: {error}: it is tried again") from None


def _session(question: Question) -> Session:
    session = Session()
    session.set_config_variable("region", question.region)
    session.set_default_client_config(
        Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            proxies={"http": question.proxy, "https": question.proxy} if question.proxy else None,
        )
    )
    return session


def _assumed(session: Session, question: Question, account: Account, token: str) -> Granted:
    """The keys of an account's role."""
    sts: Any = session.create_client(
        "sts",
        region_name=question.region,
        endpoint_url=question.endpoint or None,
        config=Config(signature_version=UNSIGNED),
    )
    name = f"{account.name}.{account.namespace}.{question.region}.fluxcd.io"  # as Flux has it, for who reads trails
    answer = sts.assume_role_with_web_identity(
        RoleArn=account.role, RoleSessionName=name[:SESSION_NAME_MAX], WebIdentityToken=token
    )
    found = answer["Credentials"]
    return Granted(
        username=found["AccessKeyId"],
        secret=found["SecretAccessKey"],
        session=found["SessionToken"],
        lasts_s=_lasts(found["Expiration"]),
    )


def _registry(session: Session, question: Question, keys: Granted | None) -> Granted:
    if keys is None and session.get_credentials() is None:
        raise DeniedError(NOBODY)
    given = {}
    if keys is not None:
        given = {
            "aws_access_key_id": keys.username,
            "aws_secret_access_key": keys.secret,
            "aws_session_token": keys.session,
        }
    is_public = question.registry == PUBLIC_ECR
    client: Any = session.create_client("ecr-public" if is_public else "ecr", region_name=question.region, **given)
    data = client.get_authorization_token()["authorizationData"]
    found = data if is_public else data[0]
    try:
        text = base64.b64decode(found["authorizationToken"]).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    username, _, password = text.partition(":")
    if not password:
        raise DeniedError("ECR gives a token that is none: look at the endpoint in the engine's environment")
    return Granted(username=username, secret=password, lasts_s=_lasts(found["expiresAt"]))


def _lasts(ends: datetime) -> float:
    return (ends - datetime.now(UTC)).total_seconds()


def _refusal(error: ClientError) -> str:
    found = error.response.get("Error", {})
    code = found.get("Code", "no code")
    said = f" ({found.get('Message', '')})" if code in TOLD else ""
    return f"{error.operation_name} is refused: {code}{said}: look at the role's permissions, and at who may take it on"
