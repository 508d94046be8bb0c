"""Object stores through obstore. The only module that imports it: 8 MiB, which a daemon without Buckets has no need of.

obstore reads the environment for what it is not told. So it is told all that would send requests elsewhere, or as
somebody else, than spec and Secret say; where neither names anybody, the environment's identity is meant (a role, a
service account, a managed identity), as in Flux.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import anyio
import obstore
from obstore.exceptions import BaseError, InvalidPathError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from tidelog.engine.sources.access import Proxy, Tls
from tidelog.engine.sources.bucket.answers import CODE, Entry, plain_etag
from tidelog.engine.sources.bucket.credentials import BucketCredentials, S3Keys
from tidelog.engine.sources.bucket.endpoint import GOOGLE, Endpoint
from tidelog.engine.sources.bucket.remote import (
    CONNECT_S,
    PROXY_ASKS,
    READ_BYTES,
    GoneError,
    Opened,
    Place,
    proxy_refused,
)
from tidelog.engine.sources.bucket.spec import BucketSpec
from tidelog.engine.sources.errors import FetchError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Credential

PAGE: Final = 1000
HEADS_AT_ONCE: Final = 32
RETRIES: Final = 3
EXCHANGE: Final = re.compile(r"Error performing (?:POST|PUT)|//(?:169\.254\.|metadata)")
"""Nothing is written to a bucket: these are for credentials, at an STS, an authority or the machine's metadata."""
STATUS: Final = re.compile(r"status code: (\d{3})")
CODE_ELEMENT: Final = re.compile(rf"<Code>({CODE.pattern})</Code>")
INVALID_PATH: Final = re.compile(r'path: ("(?:[^"\\]|\\.)*")')
Store = S3Store | AzureStore | GCSStore


def s3_store(
    spec: BucketSpec, endpoint: Endpoint, region: str, keys: S3Keys | None, tls: Tls, proxy: Proxy | None
) -> S3Store:
    """A bucket of S3, asked with these keys; None asks without any. Blocks."""
    url = endpoint.bucket_url(spec.bucket_name) if endpoint.is_hosted(spec.bucket_name) else endpoint.url
    config: Any = {**_s3_config(spec, endpoint, region, url), "skip_signature": keys is None}
    provider = None if keys is None else _constant(keys)
    return S3Store(
        spec.bucket_name,
        config=config,
        credential_provider=provider,
        client_options=_client(spec, tls, proxy),
        retry_config=_retries(spec),
    )


def role_store(spec: BucketSpec, endpoint: Endpoint, region: str, tls: Tls, proxy: Proxy | None) -> S3Store:
    """A bucket of Amazon's, asked as whom the environment says: keys, a web identity, a container's or machine's role.

    Blocks.
    """
    url = endpoint.bucket_url(spec.bucket_name) if endpoint.is_hosted(spec.bucket_name) else endpoint.url
    config: Any = {**_s3_config(spec, endpoint, region, url), "skip_signature": False}
    if spec.sts is not None:
        config["endpoint_url_sts"] = spec.sts.endpoint
    return S3Store(
        spec.bucket_name, config=config, client_options=_client(spec, tls, proxy), retry_config=_retries(spec)
    )


def google_store(
    spec: BucketSpec, endpoint: Endpoint, credentials: BucketCredentials, tls: Tls, proxy: Proxy | None
) -> GCSStore:
    """A bucket of Google's; without a Secret, as whom the environment says. Blocks."""
    config: Any = {
        "skip_signature": False,
        "base_url": endpoint.url if endpoint.host != GOOGLE else f"https://{GOOGLE}",
    }
    if credentials.service_account:
        config["service_account_key"] = credentials.service_account
    return GCSStore(
        spec.bucket_name,
        config=config,
        credential_provider=_bearer(credentials),
        client_options=_client(spec, tls, proxy),
        retry_config=_retries(spec),
    )


def azure_store(
    spec: BucketSpec, endpoint: Endpoint, credentials: BucketCredentials, tls: Tls, proxy: Proxy | None
) -> AzureStore:
    """A container of Azure's; without a Secret, as whom the environment says. Blocks."""
    config: Any = {
        "account_name": endpoint.host.partition(".")[0],
        "endpoint": endpoint.url,
        "skip_signature": False,
        "use_emulator": False,
    }
    # In Flux's order.
    if credentials.client_secret:
        config["credential_type"] = "client_secret"
        config |= {
            "tenant_id": credentials.tenant_id,
            "client_id": credentials.client_id,
            "client_secret": credentials.client_secret,
        }
        if credentials.authority_host:
            config["authority_host"] = credentials.authority_host
    elif credentials.client_id:
        config |= {"credential_type": "managed_identity", "client_id": credentials.client_id}
    elif credentials.account_key:
        config |= {"credential_type": "access_key", "account_key": credentials.account_key}
    elif credentials.sas_key:
        config |= {"credential_type": "sas_token", "sas_key": credentials.sas_key}
    return AzureStore(
        spec.bucket_name,
        config=config,
        credential_provider=_bearer(credentials),
        client_options=_client(spec, tls, proxy),
        retry_config=_retries(spec),
    )


class StoreRemote:
    """A bucket as obstore sees it; see the port.

    Args:
        store: the bucket.
        place: its name in messages.
    """

    def __init__(self, store: Store, place: Place) -> None:
        self._store = store
        self._place = place

    async def pages(self, prefix: str) -> AsyncIterator[list[Entry]]:
        """The objects whose keys begin with `prefix`.

        obstore takes directories for prefixes: that of `prefix` is listed. And it takes the slash from a key's end, so
        that what is empty is asked for once more: a directory's marker is not there under its name without the slash.
        """
        directory = prefix.rpartition("/")[0]
        try:
            async for objects in obstore.list(self._store, directory or None, chunk_size=PAGE):
                found = [
                    Entry(each["path"], plain_etag(each["e_tag"]), each["size"])
                    for each in objects
                    if each["path"].startswith(prefix)
                ]
                yield await self._without_markers(found)
        except (BaseError, OSError, ValueError) as error:
            raise told(error, self._place) from None

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Opened]:
        """An object; see the port."""
        try:
            result = await obstore.get_async(self._store, key)
            meta, stream = result.meta, result.stream(READ_BYTES)
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                raise self._place.missing from None
            raise GoneError(key) from None
        except BaseError as error:
            raise told(error, self._place) from None
        yield Opened(plain_etag(meta["e_tag"]), meta["size"], self._chunks(stream))

    async def _chunks(self, stream: Any) -> AsyncIterator[bytes]:
        try:
            async for chunk in stream:
                yield bytes(chunk)
        except (BaseError, OSError, ValueError) as error:
            raise told(error, self._place) from None

    async def _without_markers(self, entries: list[Entry]) -> list[Entry]:
        empty = [entry for entry in entries if entry.size == 0]
        if not empty:
            return entries
        there: dict[str, Entry] = {}
        waiting = iter(empty)

        async def look() -> None:
            for entry in waiting:
                try:
                    meta = await obstore.head_async(self._store, entry.key)
                except FileNotFoundError:
                    continue
                there[entry.key] = Entry(entry.key, plain_etag(meta["e_tag"]), meta["size"])

        async with anyio.create_task_group() as group:
            for _ in range(min(HEADS_AT_ONCE, len(empty))):
                group.start_soon(look)
        return [there.get(entry.key, entry) for entry in entries if entry.size or entry.key in there]


def told(error: Exception, place: Place) -> FetchError:
    """What happened, in our own words: obstore's hold addresses with signatures, and what the server said."""
    text = str(error)
    status = STATUS.search(text)
    found = CODE_ELEMENT.search(text)
    code = found[1] if found else ""
    if EXCHANGE.search(text):
        return place.without_identity(status[1] if status else "")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return place.refused(int(status[1]) if status else 403, code)
    if isinstance(error, InvalidPathError):
        key = INVALID_PATH.search(text)
        named = f" {key[1][:200]}" if key else ""
        return place.failed(
            f"{place} has the key{named}, which is no path (an empty part, '.', '..' or a control character): "
            "remove the object"
        )
    if "ProxyAuthRequired" in text or (status is not None and int(status[1]) == PROXY_ASKS):
        return proxy_refused(str(place), PROXY_ASKS)
    if status is not None:
        if status[1] == "404":
            return place.missing
        if status[1] in {"401", "403"}:
            return place.refused(int(status[1]), code)
        return place.answered(int(status[1]), code)
    if "InvalidListResponse" in text:
        return place.failed(f"{place} answers with something else than a listing: is spec.endpoint its API?")
    if "certificate" in text.lower():
        return place.failed(
            f"{place}: TLS: its certificate is of no authority that is trusted here, or of another name: "
            "put the certificate of its authority into ca.crt of the Secret in spec.certSecretRef"
        )
    if "kind: Timeout" in text:
        return place.failed(f"{place} does not answer in time: look at the server, or raise spec.timeout")
    if "kind: Connect" in text:
        return place.failed(
            f"{place} cannot be reached: correct spec.endpoint, or look at the server, and the proxy where there is one"
        )
    return place.failed(f"{place} broke an answer off, or gave one that cannot be read: it is asked again")


def _s3_config(spec: BucketSpec, endpoint: Endpoint, region: str, url: str) -> dict[str, Any]:
    return {
        "endpoint": url,
        "aws_endpoint_url_s3": url,
        "region": region,
        "virtual_hosted_style_request": endpoint.is_hosted(spec.bucket_name),
        "s3_express": False,
        "request_payer": False,
    }


def _constant(keys: S3Keys) -> Any:
    """The keys, and nothing that the environment adds to them."""
    given: S3Credential = {
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "token": keys.token or None,
        "expires_at": None,
    }
    return lambda: given


def _bearer(credentials: BucketCredentials) -> Any:
    """A token that a cloud gave; none where it gave none."""
    if not credentials.bearer:
        return None
    given = {"token": credentials.bearer, "expires_at": None}
    return lambda: given


def _client(spec: BucketSpec, tls: Tls, proxy: Proxy | None) -> "ClientConfig":
    options: ClientConfig = {
        "allow_http": True,  # whether it is HTTP is decided with the endpoint
        "connect_timeout": timedelta(seconds=min(CONNECT_S, spec.timeout_s)),
        "timeout": timedelta(seconds=spec.timeout_s),
    }
    if tls.ca:
        options["root_certificate"] = tls.ca
    if not tls.verify:
        options["allow_invalid_certificates"] = True
    if proxy is not None:
        options["proxy_url"] = proxy.url
        options["proxy_excludes"] = ""
    return options


def _retries(spec: BucketSpec) -> "RetryConfig":
    return {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=spec.timeout_s)}
