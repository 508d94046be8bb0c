"""AWS Signature Version 4, for requests without a body."""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlsplit

from tidelog.engine.sources.bucket.credentials import S3Keys

ALGORITHM: Final = "AWS4-HMAC-SHA256"
NOTHING: Final = hashlib.sha256(b"").hexdigest()


def encoded(text: str, *, safe: str = "") -> str:
    """Percent-encoding as the signature has it."""
    return quote(text, safe=f"-._~{safe}")


def query_of(parameters: Mapping[str, str]) -> str:
    """A query in the order and form that are signed."""
    return "&".join(f"{encoded(key)}={encoded(value)}" for key, value in sorted(parameters.items()))


def signed(url: str, keys: S3Keys, region: str, now: datetime, *, method: str = "GET") -> dict[str, str]:
    """The headers that sign a request.

    Args:
        url: its path encoded, and its query made with `query_of`.
        keys: who signs.
        region: where the bucket is.
        now: in UTC.
        method: of the request.
    """
    parts = urlsplit(url)
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"host": parts.netloc, "x-amz-content-sha256": NOTHING, "x-amz-date": stamp}
    if keys.token:
        headers["x-amz-security-token"] = keys.token
    names = ";".join(sorted(headers))
    lines = [f"{name}:{headers[name]}\n" for name in sorted(headers)]
    request = "\n".join((method, parts.path or "/", parts.query, "".join(lines), names, NOTHING))
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join((ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    authorization = f"{ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "authorization": authorization}
