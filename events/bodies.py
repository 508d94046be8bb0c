"""References to content that is kept beside the events, behind its digest."""

import re
from collections.abc import Iterator

import msgspec

from tidelog.events.digest import KEYED, Digest, digest_of, is_digest

_reference = re.compile(
    rb'\{"digest":"((?:hmac-)?sha256:[0-9a-f]{64})"(?:,"secret":true)?,"size":(\d{1,19})(?:,"stored":"([^"]*)")?\}'
)


def find_references(envelope: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """The bodies that a stored envelope names: digest, size in digits, and the digest of the ciphertext or nothing.

    It reads the canonical form and not the payload, so that events of types that this release does not know, and
    references in the midst of one, are found too.
    """
    return _reference.findall(envelope)


def secret_digests(document: object) -> Iterator[Digest]:
    """The digests of the secret bodies that are named anywhere in a decoded document (a payload, a row)."""
    if isinstance(document, dict):
        if document.get("secret") is True and isinstance(document.get("digest"), str):
            yield Digest(document["digest"])
        for value in document.values():
            yield from secret_digests(value)
    elif isinstance(document, list | tuple):
        for value in document:
            yield from secret_digests(value)


class BodyRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an event says of a body.

    A body that may be seen is named by the SHA-256 of its bytes before compression. A secret one is named by
    a keyed digest of its plaintext (so that equality is seen without the value), and `stored` is the SHA-256 of
    the ciphertext, so that the stored bytes can be checked without the key.
    """

    digest: Digest
    size: int
    """Bytes of the plaintext."""
    secret: bool = False
    stored: Digest | None = None

    @property
    def binds(self) -> bool:
        """Whether it can name a body: a secret one, and no other, has a keyed digest and `stored`."""
        is_keyed = self.digest.startswith(KEYED)
        return is_digest(self.digest) and self.secret == is_keyed == (self.stored is not None)


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """Content to be stored with the events that name it. `data` is the ciphertext where `ref.secret` is set."""

    ref: BodyRef
    data: bytes

    @classmethod
    def of(cls, plaintext: bytes) -> "Body":
        """A body that may be seen."""
        return cls(ref=BodyRef(digest=digest_of(plaintext), size=len(plaintext)), data=plaintext)
