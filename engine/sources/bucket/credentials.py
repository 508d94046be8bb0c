"""Who we are to an object store (contract BU-009, BU-011). Credentials are never printed."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tidelog.engine.sources.access import PLAIN_TLS, Tls
from tidelog.engine.sources.bucket.spec import Provider, StsSpec
from tidelog.engine.sources.errors import FetchError

AZURE_KEYS: Final = (
    "tenantId",
    "clientId",
    "clientSecret",
    "clientCertificate",
    "accountKey",
    "sasKey",
    "authorityHost",
)
SERVICE_ACCOUNT_KEYS: Final = ("client_email", "private_key", "private_key_id")


class _Hidden(msgspec.Struct, frozen=True, kw_only=True):
    """Shows which of its fields are there, and none of what they are."""

    def __repr__(self) -> str:
        defaults = dict(
            zip(self.__struct_fields__[-len(self.__struct_defaults__) :], self.__struct_defaults__, strict=True)
        )
        there = [name for name in self.__struct_fields__ if getattr(self, name) != defaults.get(name)]
        return f"{type(self).__name__}({', '.join(there)})"

    __str__ = __repr__


class StsCredentials(_Hidden, frozen=True, kw_only=True):
    """Who we are to the STS endpoint, and whom we trust there."""

    username: str = ""
    password: str = ""
    tls: Tls = PLAIN_TLS


class BucketCredentials(_Hidden, frozen=True, kw_only=True):
    """What a Secret gave, or a cloud for a ServiceAccount; all empty where there is nothing of either."""

    access_key: str = ""
    secret_key: str = ""
    session: str = ""
    """Beside the two, where AWS gave them."""
    bearer: str = ""
    """A token that Google or Azure gave."""
    service_account: str = ""
    """Google's JSON."""
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = ""
    account_key: str = ""
    sas_key: str = ""
    authority_host: str = ""
    sts: StsCredentials = StsCredentials()


NO_CREDENTIALS: Final = BucketCredentials()


class S3Keys(_Hidden, frozen=True, kw_only=True):
    """What requests to S3 are signed with."""

    access_key: str
    secret_key: str
    token: str = ""


def credentials_of(provider: Provider, secret: Mapping[str, bytes], name: str) -> BucketCredentials:
    """The credentials in a Secret's data.

    Args:
        provider: the Bucket's `spec.provider`.
        secret: the Secret's `data`, decoded.
        name: the Secret's name, for messages.

    Raises:
        FetchError: when they are incomplete, or of a kind that is not supported.
    """
    if provider == "gcp":
        return BucketCredentials(service_account=_service_account(secret, name))
    if provider == "azure":
        return _azure(secret, name)
    access_key, secret_key = (_text(secret, key, name) for key in ("accesskey", "secretkey"))
    missing = [key for key, value in (("accesskey", access_key), ("secretkey", secret_key)) if not value]
    if missing:
        raise _wrong(name, f"has no {' and no '.join(missing)}: both are needed")
    return BucketCredentials(access_key=access_key, secret_key=secret_key)


def sts_credentials_of(secret: Mapping[str, bytes], name: str, tls: Tls = PLAIN_TLS) -> StsCredentials:
    """The LDAP user in the data of the Secret that `spec.sts.secretRef` names.

    Raises:
        FetchError: when username or password are missing.
    """
    username, password = (_text(secret, key, name) for key in ("username", "password"))
    if not username or not password:
        raise _wrong(name, f"has no {'password' if username else 'username'}: STS with LDAP needs both")
    return StsCredentials(username=username, password=password, tls=tls)


def check_sts(provider: Provider, sts: StsSpec) -> None:
    """Which STS goes with which provider (contract BU-009).

    Raises:
        FetchError: for any other combination; it stalls.
    """
    if (provider, sts.provider) not in {("aws", "aws"), ("generic", "ldap")}:
        raise _invalid_sts(
            f"spec.sts.provider {sts.provider} does not go with spec.provider {provider}: "
            "aws goes with aws, ldap with generic"
        )
    if sts.provider == "aws" and (sts.secret or sts.certificates):
        field = "secretRef" if sts.secret else "certSecretRef"
        raise _invalid_sts(f"spec.sts.{field} does not go with spec.sts.provider aws: remove it")
    scheme, _, rest = sts.endpoint.partition("://")
    if scheme not in {"http", "https"} or not rest or "@" in rest:
        raise _invalid_sts("spec.sts.endpoint is no address: write it like https://sts.example.org")
    if scheme == "http" and sts.provider == "aws":
        raise _invalid_sts("spec.sts.endpoint is without TLS, which an identity is not sent over: use https://")


def _invalid_sts(message: str) -> FetchError:
    return FetchError("InvalidSTSConfiguration", message, final=True)


def _azure(secret: Mapping[str, bytes], name: str) -> BucketCredentials:
    found = {key: _text(secret, key, name) for key in AZURE_KEYS}
    if found["clientCertificate"] and not found["clientSecret"]:
        raise _wrong(
            name, "has a clientCertificate, which is not supported: use clientSecret, clientId alone, or a key"
        )
    if not any(found[key] for key in ("clientId", "accountKey", "sasKey")):
        raise _wrong(name, "has no clientId, no accountKey and no sasKey: one of them is needed")
    if found["tenantId"] and not (found["clientId"] and found["clientSecret"]):
        raise _wrong(name, "has a tenantId without clientId and clientSecret: the three go together")
    if found["clientSecret"] and not found["tenantId"]:
        raise _wrong(name, "has a clientSecret without a tenantId: they go together")
    if found["accountKey"]:
        try:
            base64.b64decode(found["accountKey"], validate=True)
        except (binascii.Error, ValueError):
            raise _wrong(name, "has an accountKey that is no base64: copy it again") from None
    return BucketCredentials(
        tenant_id=found["tenantId"],
        client_id=found["clientId"],
        client_secret=found["clientSecret"],
        account_key=found["accountKey"],
        sas_key=found["sasKey"].removeprefix("?"),
        authority_host=found["authorityHost"],
    )


def _service_account(secret: Mapping[str, bytes], name: str) -> str:
    text = _text(secret, "serviceaccount", name)
    if not text:
        raise _wrong(name, "has no serviceaccount")
    try:
        parsed: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise _wrong(name, "has a serviceaccount that is no JSON object: put the key file of a service account there")
    if parsed.get("type") != "service_account":
        raise _wrong(name, "has a serviceaccount that is of another kind: only keys of service accounts are supported")
    missing = [key for key in SERVICE_ACCOUNT_KEYS if not isinstance(parsed.get(key), str) or not parsed[key]]
    if missing:
        raise _wrong(name, f"has a serviceaccount without {missing[0]}: put the whole key file there")
    # Nothing else of it counts: no other address, and no switch that sends requests without a signature.
    return msgspec.json.encode({key: parsed[key] for key in ("type", *SERVICE_ACCOUNT_KEYS)}).decode()


def _text(secret: Mapping[str, bytes], key: str, name: str) -> str:
    try:
        text = secret.get(key, b"").decode().strip()
    except UnicodeDecodeError:
        raise _wrong(name, f"has a {key} that is no text") from None
    if key not in {"serviceaccount", "clientCertificate"} and any(ord(sign) < 32 for sign in text):
        raise _wrong(name, f"has a {key} of more than one line")
    return text


def _wrong(name: str, why: str) -> FetchError:
    return FetchError("AuthenticationFailed", f"the Secret {name} {why}", final=True)
