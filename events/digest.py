"""Digests: the names of content."""

import hashlib
import hmac
import re
from typing import NewType

from tidelog.events.canonical import Json, encode

Digest = NewType("Digest", str)
"""`sha256:<64 hex>` of bytes that may be seen, `hmac-sha256:<64 hex>` of bytes that may not."""

_form = re.compile(r"(?:hmac-)?sha256:[0-9a-f]{64}", re.ASCII)

PLAIN = "sha256:"
KEYED = "hmac-sha256:"


def digest_of(data: bytes) -> Digest:
    """The SHA-256 of `data`."""
    return Digest(PLAIN + hashlib.sha256(data).hexdigest())


def digest_of_json(value: Json) -> Digest:
    """The SHA-256 of the canonical JSON of `value`."""
    return digest_of(encode(value))


def keyed_digest_of(data: bytes, key: bytes) -> Digest:
    """The HMAC-SHA-256 of `data`: equal content is seen to be equal, and nothing can be guessed without the key."""
    return Digest(KEYED + hmac.digest(key, data, "sha256").hex())


def is_digest(text: str) -> bool:
    """Whether `text` is a digest as written by the functions above."""
    return _form.fullmatch(text) is not None
