"""The port to object stores."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import msgspec

from tidelog.engine.sources.bucket.answers import Entry
from tidelog.engine.sources.bucket.endpoint import Endpoint
from tidelog.engine.sources.bucket.spec import BucketSpec
from tidelog.engine.sources.errors import FetchError

READ_BYTES: Final = 2**16
"""Of one object at a time."""
CONNECT_S: Final = 10.0
PROXY_ASKS: Final = 407
"""The status of a proxy that wants other credentials."""


class GoneError(Exception):
    """Raised for an object that is not there, or not any more."""


class Opened(msgspec.Struct, frozen=True):
    """An object as it is read: its ETag is of these very bytes."""

    etag: str
    size: int
    chunks: AsyncIterator[bytes]


class Remote(Protocol):
    """A bucket that is asked."""

    def pages(self, prefix: str) -> AsyncIterator[list[Entry]]:
        """The objects whose keys begin with `prefix`.

        Raises:
            FetchError: when the bucket cannot be listed.
        """
        ...

    def open(self, key: str) -> AbstractAsyncContextManager[Opened]:
        """An object, to be read.

        Raises:
            FetchError: when it cannot be read.
            GoneError: when it is not there.
        """
        ...


class Place(msgspec.Struct, frozen=True):
    """A bucket as messages name it."""

    bucket: str
    address: str
    has_credentials: bool

    def __str__(self) -> str:
        return f"the bucket {self.bucket} at {self.address}"

    @property
    def missing(self) -> FetchError:
        """For a bucket that is not there."""
        return self.failed(f"there is no bucket {self.bucket} at {self.address}: correct spec.bucketName, or make it")

    def refused(self, status: int, code: str) -> FetchError:
        """For credentials that do not open it; `code` is the store's word for it."""
        why = f"status {status}" + (f", {code}" if code else "")
        if code == "RequestTimeTooSkewed":
            return self.failed(f"{self} finds that our clock is wrong ({why}): set the clock of this machine")
        if self.has_credentials:
            hint = "correct the Secret in spec.secretRef, or let who we are read and list the bucket"
            return FetchError("AuthenticationFailed", f"{self} refuses the credentials ({why}): {hint}")
        return FetchError(
            "AuthenticationFailed", f"{self} asks who we are ({why}): name a Secret with credentials in spec.secretRef"
        )

    def without_identity(self, status: str) -> FetchError:
        """For an identity that was not exchanged for credentials."""
        why = f" (status {status})" if status else ""
        hint = (
            "correct the Secret in spec.secretRef"
            if self.has_credentials
            else "name a Secret in spec.secretRef, or look at the role of this machine and at spec.sts.endpoint"
        )
        return FetchError("AuthenticationFailed", f"{self}: our identity was given no credentials for it{why}: {hint}")

    def answered(self, status: int, code: str) -> FetchError:
        """For any other answer that is none."""
        why = f"status {status}" + (f", {code}" if code else "")
        return self.failed(f"{self} answers with {why}: it is asked again, look at the server if it stays")

    def failed(self, message: str) -> FetchError:
        """For what is not the credentials' fault."""
        return FetchError("BucketOperationFailed", message)


def proxy_refused(where: str, status: int) -> FetchError:
    """For a proxy that does not let us through."""
    return FetchError(
        "AuthenticationFailed" if status == PROXY_ASKS else "BucketOperationFailed",
        f"{where}: the proxy answers with status {status}: "
        "correct the Secret in spec.proxySecretRef, or look at the proxy",
    )


def place_of(spec: BucketSpec, endpoint: Endpoint, *, has_credentials: bool) -> Place:
    """How messages name the bucket of `spec`."""
    return Place(spec.bucket_name, endpoint.address, has_credentials)
