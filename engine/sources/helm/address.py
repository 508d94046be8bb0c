"""Addresses of repositories and charts: what is asked, what is shown, and who gets the credentials."""

import posixpath
from typing import Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

import msgspec

from tidelog.engine.sources.errors import FetchError, FetchReason
from tidelog.engine.sources.helm.credentials import ANONYMOUS, Credentials

INDEX: Final = "index.yaml"
SCHEMES: Final = ("https", "http")
_PORTS: Final = {"https": 443, "http": 80}


class Address(msgspec.Struct, frozen=True):
    """What is asked, and as whom. The address holds no credentials, and so may be shown, but for its query."""

    url: str
    credentials: Credentials = ANONYMOUS

    @property
    def shown(self) -> str:
        """The address without its query, which may be a signature."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def repository_at(url: str, credentials: Credentials) -> Address:
    """The repository at `spec.url`; credentials in the address are used where no Secret gives any.

    Raises:
        FetchError: `URLInvalid`, when the address is none of a repository over HTTP.
    """
    if any(sign.isspace() or ord(sign) < 32 for sign in url):
        raise _invalid("spec.url holds white space")
    parts = _split(url)
    if parts is not None and parts.scheme == "oci":
        raise _invalid("spec.url is an OCI registry: set spec.type to oci")
    if parts is None or parts.scheme not in SCHEMES or not parts.hostname:
        raise _invalid("spec.url must begin with https:// or http:// and name a host")
    if parts.password is not None and credentials.authorization is None:
        credentials = Credentials(username=unquote(parts.username or ""), password=unquote(parts.password))
    return Address(_bare(parts), credentials)


def index_of(repository: Address) -> Address:
    """Where the index of a repository is."""
    parts = urlsplit(repository.url)
    path = posixpath.join(parts.path or "/", INDEX)
    return Address(urlunsplit((parts.scheme, parts.netloc, path, parts.query, "")), repository.credentials)


def chart_at(repository: Address, url: str, *, pass_credentials: bool) -> Address:
    """Where a chart is that an index names: an address of its own, or one within the repository.

    Credentials go to the repository's own scheme, host and port, and to others only where that is asked for (HP-007).

    Raises:
        FetchError: `ChartPullError`, when it is no address over HTTP.
    """
    base = urlsplit(repository.url)
    parts = _split(url)
    if parts is not None and not parts.scheme:
        found = urljoin(urlunsplit((base.scheme, base.netloc, f"{base.path.rstrip('/')}/", "", "")), url)
        parts = _split(found)
        if parts is not None:
            parts = parts._replace(query=base.query)
    if parts is None or parts.scheme not in SCHEMES or not parts.hostname:
        scheme = parts.scheme if parts is not None else ""
        why = (
            "is in an OCI registry: name that registry in a HelmRepository of spec.type oci"
            if scheme == "oci"
            else "has an address that is neither https nor http: the index has to be corrected"
        )
        raise FetchError("ChartPullError", f"{repository.shown}: the chart {why}", final=True)
    target = Address(_bare(parts), repository.credentials)
    if pass_credentials or is_same_origin(repository.url, target.url):
        return target
    return Address(target.url)


def redirected(address: Address, location: str, reason: FetchReason) -> Address:
    """Where a redirect leads to. Another host, port or scheme gets no credentials, but https in place of http.

    Raises:
        FetchError: when it is not to be followed.
    """
    target = _split(urljoin(address.url, location)) if location else None
    if target is None or target.scheme not in SCHEMES or not target.hostname:
        raise FetchError(reason, f"{address.shown} sends us to where nothing can be fetched: look at the server")
    if address.url.startswith("https:") and target.scheme == "http":
        raise FetchError(
            reason, f"{address.shown} sends us from https to http, which is not followed: look at the server"
        )
    found = _bare(target)
    keeps = is_same_origin(address.url, found) or _is_upgrade(urlsplit(address.url), target)
    return Address(found, address.credentials if keeps else ANONYMOUS)


def is_same_origin(one: str, other: str) -> bool:
    """Whether two addresses are of one scheme, host and port."""
    return _origin(urlsplit(one)) == _origin(urlsplit(other))


def _is_upgrade(before: SplitResult, after: SplitResult) -> bool:
    return (
        (before.scheme, after.scheme) == ("http", "https")
        and before.hostname == after.hostname
        and before.port in {None, 80}
        and after.port in {None, 443}
    )


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _split(url: str) -> SplitResult | None:
    """The parts of an address; None when it is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _bare(parts: SplitResult) -> str:
    """Without credentials and fragment."""
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    port = f":{parts.port}" if parts.port is not None else ""
    return urlunsplit((parts.scheme, host + port, parts.path, parts.query, ""))


def _invalid(message: str) -> FetchError:
    return FetchError("URLInvalid", message, final=True)
