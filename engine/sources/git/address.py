"""Addresses of repositories: what is asked, what is shown, and what may be followed."""

from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git.credentials import ANONYMOUS, Credentials

ADVERTISEMENT = "/info/refs"
QUERY = "service=git-upload-pack"


class Remote(msgspec.Struct, frozen=True):
    """A repository over HTTP. The address holds neither credentials nor a query or fragment, and so may be shown."""

    url: str
    credentials: Credentials


def remote_of(url: str, credentials: Credentials) -> Remote:
    """The remote at `spec.url`; credentials in the address are used where no Secret gives any.

    Raises:
        FetchError: when the address is none of a repository over HTTP.
    """
    if any(sign.isspace() or ord(sign) < 32 for sign in url):
        raise _invalid("spec.url holds white space")
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        raise _invalid("spec.url is no address") from None
    if parts.scheme == "ssh":
        raise _invalid("spec.url is an ssh address, which is not supported yet: use https")
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise _invalid("spec.url must begin with https:// or http:// and name a host")
    if parts.query:
        # It would stand before the path that is asked for; and it may be a token, which is not to be shown.
        raise _invalid("spec.url has a query: write it without, and put credentials into the Secret in spec.secretRef")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    bare = urlunsplit((parts.scheme, host + port, parts.path.rstrip("/"), "", ""))
    if parts.password is not None and credentials.authorization is None:
        name, password = unquote(parts.username or ""), unquote(parts.password)
        credentials = Credentials(username=name, password=password, ca=credentials.ca)
    return Remote(bare, credentials)


def redirected(remote: Remote, location: str) -> Remote | None:
    """The remote that a redirect of the first question leads to; None where it is not to be followed."""
    try:
        target = urlsplit(location)
        _ = target.port
    except ValueError:
        return None
    if target.scheme not in {"https", "http"} or not target.hostname or not target.path.endswith(ADVERTISEMENT):
        return None
    if remote.url.startswith("https:") and target.scheme == "http":
        return None
    return found_at(remote, remote_of(location.partition(ADVERTISEMENT)[0], ANONYMOUS).url)


def found_at(remote: Remote, address: str) -> Remote:
    """A remote at the address where it was found.

    Another host, port or scheme does not get the credentials, but https in place of http of the same host.
    """
    before, after = urlsplit(remote.url), urlsplit(address)
    is_same = (after.scheme, after.hostname, after.port) == (before.scheme, before.hostname, before.port)
    is_upgrade = (
        (before.scheme, after.scheme) == ("http", "https")
        and after.hostname == before.hostname
        and before.port in {None, 80}
        and after.port in {None, 443}
    )
    return Remote(address, remote.credentials if is_same or is_upgrade else remote.credentials.without_identity())


def _invalid(message: str) -> FetchError:
    return FetchError("URLInvalid", message, final=True)
