"""What a registry's refusals, and connections that fail, mean to who reads a status."""

import aiohttp
import msgspec

from tidelog.engine.sources.access import PLAIN_TLS, Proxy, Tls
from tidelog.engine.sources.errors import FetchError, FetchReason
from tidelog.engine.sources.oci.address import Repository
from tidelog.engine.sources.oci.credentials import ANONYMOUS, RegistryCredentials
from tidelog.engine.sources.oci.wire import problem_of


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """A repository, and how it is reached."""

    repository: Repository
    credentials: RegistryCredentials = ANONYMOUS
    insecure: bool = False
    tls: Tls = PLAIN_TLS
    proxy: Proxy | None = None


class Question(msgspec.Struct, frozen=True):
    """What is asked, for messages: `the tag 'v1'`; and why a source failed where it is refused."""

    what: str
    reason: FetchReason


def seconds_of(retry_after: str | None) -> float | None:
    """Of `Retry-After`; registries write seconds, and a date counts as no wish."""
    return float(retry_after) if retry_after and retry_after.isdecimal() and len(retry_after) < 7 else None


def refused(reach: Reach, question: Question, status: int, body: bytes, retry_after: str | None) -> FetchError:
    """For an answer that is none."""
    where, what = reach.repository, question.what
    said = reach.credentials.hide(problem_of(body))
    quoted = f" ({said})" if said else ""
    if status == 407 and reach.proxy is not None:
        return FetchError(question.reason, f"{where}: {what}: {_proxy_words(reach.proxy, status)}")
    if status in {401, 403}:
        return FetchError("AuthenticationFailed", f"{where}: {what}: {_stranger(reach, status)}{quoted}")
    if status in {404, 410}:
        hint = ", or, where it is private, name a Secret in spec.secretRef" if reach.credentials.is_anonymous else ""
        return FetchError(
            question.reason, f"{where}: {what} is not there{quoted}: correct spec.url or spec.ref, or push it{hint}"
        )
    if status in {429, 503}:
        asked = seconds_of(retry_after)
        rest = f"; it asks to be left alone for {asked:g} s" if asked else ""
        return FetchError(
            question.reason,
            f"{where}: {what}: the registry has too much to do (status {status}){quoted}{rest}: it is asked again",
            retry_after_s=asked,
        )
    return FetchError(
        question.reason,
        f"{where}: {what}: the registry answers with status {status}{quoted}: it is asked again, look at the registry "
        "if it stays",
    )


def _stranger(reach: Reach, status: int) -> str:
    if reach.credentials.is_anonymous:
        return f"the registry asks who we are (status {status}): name a Secret with credentials in spec.secretRef"
    if reach.credentials.is_of_cloud:
        return (
            f"the registry refuses what the cloud in spec.provider gave us (status {status}): let the identity pull "
            "from it"
        )
    return f"the registry refuses the credentials (status {status}): correct the Secret in spec.secretRef"


def broken(error: aiohttp.ClientError, reach: Reach, question: Question, host: str) -> FetchError:
    """For a connection that did not come about, or broke."""
    return FetchError(question.reason, f"{reach.repository}: {question.what}: {_why(error, reach, host)}")


def _why(error: aiohttp.ClientError, reach: Reach, host: str) -> str:
    if reach.proxy is not None and isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_words(reach.proxy, error.status)
    if reach.proxy is not None and isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {reach.proxy.address} cannot be reached: correct spec.proxySecretRef"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return f"{host}: TLS: {tls_words(error)}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the host {host} is not known: correct spec.url"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{host} cannot be reached: {error.os_error.strerror or 'no connection'}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return f"{host} broke off in the middle of its answer: it is asked again"
    return f"{host} broke the connection off ({type(error).__name__}): it is asked again"


def _proxy_words(proxy: Proxy, status: int) -> str:
    hint = "correct username and password" if status == 407 else "look at the proxy"
    return f"the proxy {proxy.address} answers with status {status}: {hint} (spec.proxySecretRef)"


def tls_words(error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError) -> str:
    """What is wrong, and what to do."""
    reason = getattr(error, "certificate_error", None) or error
    verified = getattr(reason, "verify_message", "")
    if verified:
        return f"{verified}: put the certificate of its authority into ca.crt of the Secret in spec.certSecretRef"
    return "it does not speak TLS as it should: set spec.insecure if it speaks plain HTTP"
