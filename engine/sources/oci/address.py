"""The address of a repository, read as go-containerregistry reads it, which Flux uses."""

import ipaddress
import re
from typing import Final

import msgspec

from tidelog.engine.sources.errors import FetchError

SCHEME: Final = "oci://"
DOCKER_HUB: Final = "index.docker.io"
DOCKER_HUB_NAMES: Final = frozenset({"docker.io", "index.docker.io"})
NAME_MAX: Final = 255

_host = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", re.ASCII)
_name = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII)
_tag = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_digest = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


class Repository(msgspec.Struct, frozen=True):
    """A repository of a registry."""

    host: str
    """With its port, if there is one."""
    name: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def hostname(self) -> str:
        """The host without its port."""
        return re.sub(r":\d+$", "", self.host).strip("[]")

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        address = _address(self.hostname)
        return self.hostname == "localhost" if address is None else address.is_loopback

    @property
    def is_local(self) -> bool:
        """Whether plain HTTP is tried too without being asked for: names and addresses that are nowhere but here."""
        if self.is_loopback or self.hostname.endswith((".local", ".localhost")):
            return True
        address = _address(self.hostname)
        return address is not None and address.version == 4 and any(address in network for network in _PRIVATE)


_PRIVATE: Final = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))


def repository_of(url: str) -> Repository:
    """The repository at an address such as `oci://ghcr.io/org/manifests` (OC-001).

    Raises:
        FetchError: `URLInvalid`, when it is none, or has a tag or digest.
    """
    if not url.startswith(SCHEME):
        raise _invalid(url, "it does not begin with oci://")
    rest = url.removeprefix(SCHEME)
    if "@" in rest:
        raise _invalid(url, "it has a digest or credentials: put a digest into spec.ref.digest")
    first, slash, name = rest.partition("/")
    if not slash and "." in first:
        raise _invalid(url, "nothing follows the host")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, name = DOCKER_HUB, rest
    if ":" in name:
        raise _invalid(url, "it has a tag: put it into spec.ref.tag")
    host = DOCKER_HUB if first in DOCKER_HUB_NAMES else first
    if host == DOCKER_HUB and "/" not in name:
        name = f"library/{name}"
    if _host.fullmatch(host) is None:
        raise _invalid(url, f"{host[:80]!r} is no host")
    if len(name) > NAME_MAX or _name.fullmatch(name) is None:
        raise _invalid(url, "what follows the host is no name of a repository: small letters, digits, and . _ - /")
    return Repository(host, name)


def is_tag(text: str) -> bool:
    """Whether `text` can be a tag."""
    return _tag.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether `text` is a digest of the one kind that is taken: SHA-256."""
    return _digest.fullmatch(text) is not None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _invalid(url: str, why: str) -> FetchError:
    shown = re.sub(r"\?.*", "?***", re.sub(r"//[^/]*@", "//***@", url), flags=re.DOTALL)[:200]
    return FetchError("URLInvalid", f"spec.url {shown!r} is no repository: {why}", final=True)
