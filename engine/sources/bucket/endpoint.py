"""Where a bucket is."""

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from tidelog.engine.sources.bucket.signing import encoded
from tidelog.engine.sources.bucket.spec import BucketSpec
from tidelog.engine.sources.errors import FetchError

AWS_GLOBAL: Final = "s3.amazonaws.com"
AWS_DOMAINS: Final = (".amazonaws.com", ".amazonaws.com.cn")
GOOGLE: Final = "storage.googleapis.com"
HOSTED: Final = (*AWS_DOMAINS, ".aliyuncs.com")
"""Where the bucket stands in the host's name; elsewhere in the path, as minio-go does it for Flux."""
DEFAULT_REGION: Final = "us-east-1"
BUCKET_NAME: Final = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,221}")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The address of an object store."""

    url: str
    """Without a slash at its end."""
    host: str

    @property
    def address(self) -> str:
        """Host and port, as messages name it."""
        return self.url.partition("://")[2]

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return self.url.partition("://")[0]

    @property
    def is_aws(self) -> bool:
        """Whether it is Amazon's own."""
        return self.host.endswith(AWS_DOMAINS)

    def in_region(self, region: str) -> "Endpoint":
        """Amazon's global address knows all buckets, and has those of one region only."""
        if self.host != AWS_GLOBAL or not region:
            return self
        host = f"s3.{region}.amazonaws.com"
        return Endpoint(url=self.url.replace(AWS_GLOBAL, host), host=host)

    def bucket_url(self, bucket: str) -> str:
        """The address of a bucket."""
        if self.is_hosted(bucket):
            scheme, _, rest = self.url.partition("://")
            return f"{scheme}://{bucket}.{rest}"
        return f"{self.url}/{encoded(bucket)}"

    def is_hosted(self, bucket: str) -> bool:
        """Whether the bucket is part of the host's name. With a dot in it, no certificate would fit."""
        return self.host.endswith(HOSTED) and "." not in bucket


def endpoint_of(spec: BucketSpec) -> Endpoint:
    """Where `spec` looks for its bucket.

    Raises:
        FetchError: when the endpoint or the bucket's name is none.
    """
    if not BUCKET_NAME.fullmatch(spec.bucket_name):
        raise _wrong("spec.bucketName is no name of a bucket: correct it")
    wanted = "http" if spec.insecure else "https"
    text = spec.endpoint if "://" in spec.endpoint else f"{wanted}://{spec.endpoint}"
    parts = _parts(text)
    if spec.provider == "azure":
        if "://" not in spec.endpoint:
            raise _wrong("spec.endpoint has no scheme: write it like https://account.blob.core.windows.net")
    elif parts.scheme != wanted:
        raise _wrong(
            f"spec.endpoint begins with {parts.scheme}:// and spec.insecure asks for {wanted}: "
            "leave the scheme out, and say with spec.insecure which it is"
        )
    path = parts.path.rstrip("/")
    if path and spec.provider != "azure":
        raise _wrong("spec.endpoint has a path: write the host only, like minio.example.org:9000")
    return Endpoint(url=f"{parts.scheme}://{parts.netloc}{path}", host=parts.hostname or "")


def _parts(text: str) -> SplitResult:
    no_address = _wrong("spec.endpoint is no address: write it like minio.example.org:9000")
    try:
        parts = urlsplit(text)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise no_address from None
    if not valid or parts.scheme not in {"http", "https"} or any(sign <= " " for sign in text):
        raise no_address
    if "@" in parts.netloc:
        raise _wrong("spec.endpoint has credentials in it: put them into the Secret that spec.secretRef names")
    if parts.query or parts.fragment:
        raise _wrong("spec.endpoint has a query: write the host only")
    return parts


def _wrong(message: str) -> FetchError:
    return FetchError("URLInvalid", message, final=True)
