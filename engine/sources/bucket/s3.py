"""S3, asked directly: listings with the keys as they are.

obstore's listing takes the slash from a key's beginning and end and ends every prefix with one, so that neither SC-025
nor a prefix within a name could be kept with it: docs/decisions/0014-buckets.md.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import aiohttp
import anyio
import anyio.to_thread

from tidelog.engine.sources.bucket.answers import (
    AnswerError,
    Entry,
    Page,
    Refusal,
    plain_etag,
    read_page,
    read_refusal,
)
from tidelog.engine.sources.bucket.credentials import S3Keys
from tidelog.engine.sources.bucket.endpoint import DEFAULT_REGION, Endpoint
from tidelog.engine.sources.bucket.remote import READ_BYTES, GoneError, Opened, place_of
from tidelog.engine.sources.bucket.signing import encoded, query_of, signed
from tidelog.engine.sources.bucket.spec import BucketSpec
from tidelog.engine.sources.bucket.web import Way, read
from tidelog.engine.sources.errors import FetchError

TRIES: Final = 3
AGAIN_S: Final = 0.2
AGAIN: Final = frozenset({429, 500, 502, 503, 504})


class S3Client:
    """A bucket behind S3's API.

    Args:
        spec: names the bucket.
        endpoint: where it is.
        region: where its requests are signed for.
        keys: who signs; nobody for a public bucket.
        way: how it is reached.
    """

    def __init__(self, spec: BucketSpec, endpoint: Endpoint, region: str, keys: S3Keys | None, way: Way) -> None:
        self._region = region
        self._keys = keys
        self._way = way
        self._url = endpoint.bucket_url(spec.bucket_name)
        self._place = place_of(spec, endpoint, has_credentials=keys is not None)

    async def pages(self, prefix: str) -> AsyncIterator[list[Entry]]:
        """The objects whose keys begin with `prefix`, a thousand at a time; see the port."""
        token = ""
        while True:
            page = await self._page(prefix, token)
            yield page.entries
            if not page.token:
                return
            if page.token == token:
                raise self._place.failed(f"{self._place} lists the same page again and again: look at the server")
            token = page.token

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[Opened]:
        """An object; see the port."""
        async with AsyncExitStack() as stack:
            response = await self._answer(stack, f"{self._url}/{encoded(key, safe='/')}")
            if response.status != 200:
                refusal = read_refusal(await read(response, str(self._place)))
                if response.status == 404 and refusal.code != "NoSuchBucket":
                    raise GoneError(key)
                raise self._refused(response.status, refusal)
            size = response.content_length
            if size is None:
                raise self._place.failed(f"{self._place} does not say how large its objects are: look at the server")
            etag = plain_etag(response.headers.get("ETag"))
            yield Opened(etag, size, response.content.iter_chunked(READ_BYTES))

    async def _page(self, prefix: str, token: str) -> Page:
        query = {"list-type": "2", "encoding-type": "url"}
        if prefix:
            query["prefix"] = prefix
        if token:
            query["continuation-token"] = token
        async with AsyncExitStack() as stack:
            response = await self._answer(stack, f"{self._url}?{query_of(query)}")
            data = await read(response, str(self._place))
        if response.status != 200:
            raise self._refused(response.status, read_refusal(data))
        try:
            return await anyio.to_thread.run_sync(read_page, data)
        except AnswerError as error:
            raise self._place.failed(
                f"{self._place} answers with something else than a listing: {error}: is spec.endpoint an S3 API?"
            ) from None

    async def _answer(self, stack: AsyncExitStack, url: str) -> aiohttp.ClientResponse:
        """An answer, which is let go of with the stack; who is busy or breaks off is asked again."""
        attempt = 1
        while True:
            try:
                response = await stack.enter_async_context(self._get(url))
            except FetchError as error:
                if error.reason == "AuthenticationFailed" or attempt == TRIES:
                    raise
            else:
                if response.status not in AGAIN or attempt == TRIES:
                    return response
                await stack.aclose()
            await anyio.sleep(AGAIN_S * 4 ** (attempt - 1))
            attempt += 1

    def _refused(self, status: int, refusal: Refusal) -> FetchError:
        if status == 404:
            return self._place.missing
        if refusal.region or status == 301:
            of = f" ({refusal.region})" if refusal.region else ""
            return self._place.failed(f"{self._place} is of another region{of}: put it into spec.region")
        if status in {401, 403}:
            return self._place.refused(status, refusal.code)
        return self._place.answered(status, refusal.code)

    @asynccontextmanager
    async def _get(self, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = signed(url, self._keys, self._region, datetime.now(UTC)) if self._keys is not None else {}
        async with self._way.request("GET", url, headers, str(self._place)) as response:
            yield response


async def region_of(spec: BucketSpec, endpoint: Endpoint, way: Way) -> str:
    """The region of a bucket: Amazon tells it to everybody, other servers want one that is given or the default."""
    if spec.region:
        return spec.region
    if endpoint.is_aws:
        url = endpoint.bucket_url(spec.bucket_name)
        async with way.request("HEAD", url, {}, str(place_of(spec, endpoint, has_credentials=False))) as response:
            found = response.headers.get("x-amz-bucket-region", "")
            if found.replace("-", "").isalnum() and found.isascii():
                return str(found)
    return DEFAULT_REGION
