"""How a source is reached: TLS and a proxy, as Secrets give them (contract CM-070, CM-071, CM-075, CM-077)."""

import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from tidelog.engine.sources.errors import FetchError

ADDRESS_MAX: Final = 2048
PROXY_SCHEMES: Final = frozenset({"http", "https", "socks5"})
CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Whom we trust, and who we are. Its parts are never printed."""

    ca: str = ""
    """Authorities that are trusted beside the system's, PEM."""
    certificate: str = ""
    """Our own, PEM; with `key`, or not at all."""
    key: str = ""
    verify: bool = True

    def __repr__(self) -> str:
        parts = [name for name in ("ca", "certificate", "key") if getattr(self, name)]
        return f"Tls({', '.join(parts)}{'' if self.verify else ', not verified'})"

    __str__ = __repr__

    def context(self) -> ssl.SSLContext:
        """What connections are made with. Blocks: it reads the system's authorities.

        Raises:
            FetchError: when a certificate or the key cannot be read.
        """
        made = ssl.create_default_context()
        try:
            if self.ca:
                made.load_verify_locations(cadata=self.ca)
            if self.certificate:
                self._add_ours(made)
        except ssl.SSLError as error:
            raise FetchError(
                "AuthenticationFailed", f"the certificate or key cannot be used: {error.reason}", final=True
            ) from None
        if not self.verify:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made

    def _add_ours(self, context: ssl.SSLContext) -> None:
        """OpenSSL takes them from a file only: one that nobody else may read, for that moment."""
        descriptor, name = tempfile.mkstemp(prefix="tidelog-")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{self.certificate}\n{self.key}\n")
            context.load_cert_chain(name)
        finally:
            Path(name).unlink()


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """Through whom a source is reached."""

    address: str
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.address})"

    __str__ = __repr__

    @property
    def url(self) -> str:
        """The address with the credentials in it."""
        if not self.username:
            return self.address
        scheme, _, rest = self.address.partition("://")
        return f"{scheme}://{quote(self.username, safe='')}:{quote(self.password, safe='')}@{rest}"


PLAIN_TLS: Final = Tls()


def tls_of(secret: Mapping[str, bytes], name: str, *, field: str = "certSecretRef") -> Tls:
    """The certificates in a Secret's data; the older names of its keys are taken too.

    Args:
        secret: the Secret's `data`, decoded.
        name: the Secret's name, for messages.
        field: of the spec that names it, for messages.

    Raises:
        FetchError: when a certificate comes without its key, or there is none at all.
    """
    where = f"spec.{field}: the Secret {name}"
    ca, certificate, key = (
        _text(secret, new, where) or _text(secret, old, where)
        for new, old in (("ca.crt", "caFile"), ("tls.crt", "certFile"), ("tls.key", "keyFile"))
    )
    if bool(certificate) != bool(key):
        missing = "tls.key" if certificate else "tls.crt"
        raise _wrong(f"{where} has no {missing}: a certificate and its key go together")
    if not (ca or certificate):
        raise _wrong(f"{where} has neither ca.crt nor tls.crt and tls.key")
    for what, text in (("ca.crt", ca), ("tls.crt", certificate)):
        if text and CERTIFICATE not in text:
            raise _wrong(f"{where} has a {what} that is no PEM certificate")
    return Tls(ca=ca, certificate=certificate, key=key)


def proxy_of(secret: Mapping[str, bytes], name: str) -> Proxy:
    """The proxy in a Secret's data.

    Args:
        secret: the Secret's `data`, decoded.
        name: the Secret's name, for messages.

    Raises:
        FetchError: when it has no address, or one that is none.
    """
    where = f"spec.proxySecretRef: the Secret {name}"
    address, username, password = (_text(secret, key, where).strip() for key in ("address", "username", "password"))
    if not address:
        raise _wrong(f"{where} has no address")
    parts = urlsplit(address)
    if len(address) > ADDRESS_MAX or parts.scheme not in PROXY_SCHEMES or not parts.hostname:
        raise _wrong(f"{where} has an address that is none: write it like http://proxy.example.org:3128")
    if parts.username or parts.password:
        raise _wrong(f"{where} has credentials in its address: put them into username and password")
    if bool(username) != bool(password):
        raise _wrong(f"{where} has no {'password' if username else 'username'}: they go together")
    return Proxy(address=address, username=username, password=password)


def _text(secret: Mapping[str, bytes], key: str, where: str) -> str:
    try:
        return secret.get(key, b"").decode()
    except UnicodeDecodeError:
        raise _wrong(f"{where} has a {key} that is no text") from None


def _wrong(message: str) -> FetchError:
    return FetchError("AuthenticationFailed", message, final=True)
