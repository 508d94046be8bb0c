"""Who we are to a registry. Credentials are never printed."""

import base64
import binascii
import fnmatch
import hmac
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.oci.address import DOCKER_HUB, DOCKER_HUB_NAMES, SCHEME, repository_of
from tidelog.events.typed import decoder

CONFIG: Final = ".dockerconfigjson"
IDENTITY: Final = "<token>"
"""As a user's name it says that the password is an identity token."""


class RegistryCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """A user, or a token: one that is exchanged for others (`identity_token`), or sent as it is (`token`)."""

    username: str = ""
    password: str = ""
    token: str = ""
    """`registrytoken`: it is sent to the registry itself."""
    identity_token: str = ""
    """`identitytoken`: it is sent to the registry's token server only."""
    is_of_cloud: bool = False
    """Whether a cloud gave them, and no Secret."""

    def __repr__(self) -> str:
        kind = (
            "token"
            if self.token
            else "identity token"
            if self.identity_token
            else "basic"
            if self.username or self.password
            else "none"
        )
        return f"RegistryCredentials({kind})"

    __str__ = __repr__

    @property
    def is_anonymous(self) -> bool:
        """Whether there are none."""
        return self == ANONYMOUS

    @property
    def basic(self) -> str | None:
        """The header of basic authentication; None without a user."""
        if not (self.username or self.password):
            return None
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def fingerprint(self, key: bytes) -> bytes:
        """The same for the same credentials; tells nothing without the key, which is never stored."""
        return hmac.digest(key, msgspec.json.encode(self), "sha256")

    def hide(self, text: str) -> str:
        """A text from outside, with every form of the secrets in it replaced."""
        secrets = (self.password, self.token, self.identity_token, (self.basic or "").partition(" ")[2])
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text


ANONYMOUS: Final = RegistryCredentials()


class _Entry(msgspec.Struct):
    auth: str | None = None
    username: str | None = None
    password: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


class _Config(msgspec.Struct):
    auths: dict[str, _Entry] | None = None


def registry_credentials(data: Mapping[str, bytes], name: str, address: str) -> RegistryCredentials:
    """The credentials for a registry in a Secret's data (OC-011, HP-005).

    Args:
        data: the Secret's `data`, decoded.
        name: the Secret's name, for messages.
        address: of the repository, such as `oci://ghcr.io/org/manifests`; a registry's host alone will do, but then
            keys with a path do not fit.

    Returns:
        `ANONYMOUS` when the Secret is for other registries.

    Raises:
        FetchError: when the Secret cannot be read, or has neither a `.dockerconfigjson` nor a user.
    """
    if CONFIG in data:
        repository = str(repository_of(address)) if address.startswith(SCHEME) else address
        return _of_entry(_entry(_config(data[CONFIG], name), repository), name)
    username, password = (_text(data, key, name) for key in ("username", "password"))
    if not (username or password):
        raise _wrong(name, f"has neither a {CONFIG} nor username and password")
    if not (username and password):
        raise _wrong(name, f"has no {'password' if username else 'username'}: they go together")
    return RegistryCredentials(username=username, password=password)


def _config(raw: bytes, name: str) -> dict[str, _Entry]:
    try:
        found = decoder(_Config)(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The library's words may quote what is secret.
        raise _wrong(name, f'has a {CONFIG} that is none: write {{"auths": {{"HOST": {{"auth": "..."}}}}}}') from None
    return found.auths or {}


def _entry(auths: Mapping[str, _Entry], repository: str) -> _Entry:
    """As the kubelet reads such files: the longest key first; a key is a host, maybe with a path."""
    keys = sorted(((_schemeless(key), key) for key in auths), reverse=True)
    for key, written in keys:
        if _matches(key, repository):
            return auths[written]
    return _Entry()


def _schemeless(key: str) -> str:
    rest = key.removeprefix("https://").removeprefix("http://")
    host, _, path = rest.partition("/")
    host = DOCKER_HUB if host in DOCKER_HUB_NAMES else host
    path = re.sub(r"^v[12](?:/|$)", "", path)
    return f"{host}/{path}" if path else host


def _matches(key: str, repository: str) -> bool:
    """Each part of the host's name is a glob; the port is the same, and the path a beginning."""
    key_host, _, key_path = key.partition("/")
    host, _, path = repository.partition("/")
    key_name, key_port = _split(key_host)
    name, port = _split(host)
    globs, parts = key_name.split("."), name.split(".")
    return (
        key_port == port
        and len(globs) == len(parts)
        and (key_name == name or all(map(fnmatch.fnmatchcase, parts, globs)))
        and path.startswith(key_path)
    )


def _split(host: str) -> tuple[str, str]:
    """Name and port; the name of an IPv6 address has its brackets."""
    found = re.fullmatch(r"(.*?)(?::(\d+))?", host, re.DOTALL)
    return (found[1], found[2] or "") if found else (host, "")


def _of_entry(entry: _Entry, name: str) -> RegistryCredentials:
    username, password = entry.username or "", entry.password or ""
    if entry.auth:
        username, password = _decoded(entry.auth, name)
    identity = entry.identitytoken or ""
    if username == IDENTITY:
        username, password, identity = "", "", password
    found = RegistryCredentials(
        username=username, password=password, token=entry.registrytoken or "", identity_token=identity
    )
    if not all(map(_is_header, (username, password, found.token, identity))):
        raise _wrong(name, f"has credentials of more than one line in its {CONFIG}")
    return found


def _decoded(auth: str, name: str) -> tuple[str, str]:
    try:
        text = base64.b64decode("".join(auth.split()) + "=" * (-len("".join(auth.split())) % 4), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _wrong(name, f"has an auth in its {CONFIG} that is no base64 of user:password") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise _wrong(name, f"has an auth in its {CONFIG} without a colon: it is the base64 of user:password")
    return username, password.rstrip("\0")


def _text(data: Mapping[str, bytes], key: str, name: str) -> str:
    try:
        text = data.get(key, b"").decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise _wrong(name, f"has a {key} that is no text") from None
    if not _is_header(text):
        raise _wrong(name, f"has a {key} of more than one line")
    return text


def _is_header(text: str) -> bool:
    return all(ord(sign) >= 32 for sign in text)


def _wrong(name: str, why: str) -> FetchError:
    return FetchError("AuthenticationFailed", f"the Secret {name} {why}", final=True)
