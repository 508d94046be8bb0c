"""Who we are to a Helm repository. Credentials are never printed, and never given to another host unless asked."""

import base64
import hmac
from collections.abc import Mapping
from typing import Final

import msgspec

from tidelog.engine.sources.access import PLAIN_TLS, Tls, tls_of
from tidelog.engine.sources.errors import FetchError

TLS_KEYS: Final = frozenset({"ca.crt", "tls.crt", "tls.key", "caFile", "certFile", "keyFile"})


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Basic authentication."""

    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Credentials({'basic' if self.username or self.password else 'none'})"

    __str__ = __repr__

    @property
    def authorization(self) -> str | None:
        """The value of the header; None without credentials."""
        if self.username or self.password:
            return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return None

    def fingerprint(self, key: bytes) -> bytes:
        """The same for the same credentials; tells nothing without the key, which is never stored."""
        return hmac.digest(key, msgspec.json.encode(self), "sha256")


ANONYMOUS: Final = Credentials()


def credentials_of(secret: Mapping[str, bytes], name: str) -> tuple[Credentials, Tls]:
    """What is in the Secret that `spec.secretRef` names (contract CM-071, HP-005).

    Certificates in it are deprecated: those of `spec.certSecretRef` go before them (HP-006).

    Args:
        secret: the Secret's `data`, decoded.
        name: the Secret's name, for messages.

    Raises:
        FetchError: `AuthenticationFailed`, when they are incomplete.
    """
    username, password = (_text(secret, key, name) for key in ("username", "password"))
    if bool(username) != bool(password):
        missing = "password" if username else "username"
        raise _wrong(name, f"has no {missing}: basic authentication needs username and password")
    tls = tls_of(secret, name, field="secretRef") if any(secret.get(key) for key in TLS_KEYS) else PLAIN_TLS
    return Credentials(username=username, password=password), tls


def _text(secret: Mapping[str, bytes], key: str, name: str) -> str:
    try:
        text = secret.get(key, b"").decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise _wrong(name, f"has a {key} that is no text") from None
    if any(ord(sign) < 32 for sign in text):
        raise _wrong(name, f"has a {key} of more than one line")
    return text


def _wrong(name: str, why: str) -> FetchError:
    return FetchError("AuthenticationFailed", f"spec.secretRef: the Secret {name} {why}", final=True)
