"""Who we are to a remote. Credentials are never printed, and never given to another host."""

import base64
import hmac
from collections.abc import Mapping

import msgspec

from tidelog.engine.sources.errors import FetchError


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Basic authentication or a bearer token, and the authorities that are trusted beside the system's."""

    username: str = ""
    password: str = ""
    token: str = ""
    ca: str = ""
    """Certificates, PEM."""

    def __repr__(self) -> str:
        kind = "token" if self.token else "basic" if self.username or self.password else "none"
        return f"Credentials({kind}{', ca' if self.ca else ''})"

    __str__ = __repr__

    @property
    def authorization(self) -> str | None:
        """The value of the header; None without credentials."""
        if self.token:
            return f"Bearer {self.token}"
        if self.username or self.password:
            return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return None

    def without_identity(self) -> "Credentials":
        """What a host may get that the credentials are not for."""
        return Credentials(ca=self.ca)

    def fingerprint(self, key: bytes) -> bytes:
        """The same for the same credentials; tells nothing without the key, which is never stored."""
        return hmac.digest(key, msgspec.json.encode(self), "sha256")

    def hide(self, text: str) -> str:
        """A text from outside, with every form of the secrets in it replaced."""
        secrets = [self.password, self.token, (self.authorization or "").partition(" ")[2]]
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


ANONYMOUS = Credentials()


def credentials_of(secret: Mapping[str, bytes], name: str) -> Credentials:
    """The credentials in a Secret's data (contract CM-070 to CM-072, GR-026).

    Args:
        secret: the Secret's `data`, decoded.
        name: the Secret's name, for messages.

    Raises:
        FetchError: when they are incomplete, contradict each other, or are of a kind that is not supported yet.
    """
    username, password, token = (_text(secret, key, name) for key in ("username", "password", "bearerToken"))
    if bool(username) != bool(password):
        missing = "password" if username else "username"
        raise _wrong(name, f"has no {missing}: basic authentication needs username and password")
    if token and username:
        raise _wrong(name, "has both a bearerToken and a username: keep one")
    if "tls.crt" in secret or "tls.key" in secret or "certFile" in secret or "keyFile" in secret:
        raise _wrong(name, "has a client certificate, which is not supported yet")
    if any(key.startswith("githubApp") for key in secret):
        raise FetchError(
            "InvalidProviderConfiguration",
            f"the Secret {name} has the keys of a GitHub App, which are not supported yet",
            final=True,
        )
    ca = _text(secret, "ca.crt", name) or _text(secret, "caFile", name)
    if ca and "-----BEGIN CERTIFICATE-----" not in ca:
        raise _wrong(name, "has a ca.crt that is no PEM certificate")
    return Credentials(username=username, password=password, token=token, ca=ca)


def _text(secret: Mapping[str, bytes], key: str, name: str) -> str:
    try:
        text = secret.get(key, b"").decode()
    except UnicodeDecodeError:
        raise _wrong(name, f"has a {key} that is no text") from None
    if key in {"username", "password", "bearerToken"}:
        text = text.rstrip("\r\n")
        if any(ord(sign) < 32 for sign in text):
            raise _wrong(name, f"has a {key} of more than one line")
    return text


def _wrong(name: str, why: str) -> FetchError:
    return FetchError("AuthenticationFailed", f"the Secret {name} {why}", final=True)
