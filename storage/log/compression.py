"""Bodies as they are stored: zstd-compressed, hashed before and after."""

import zstandard

from tidelog.events.bodies import Body, BodyRef
from tidelog.events.digest import KEYED, Digest, digest_of, is_digest
from tidelog.storage.errors import StoreCorruptError

BODY_BYTES_MAX = 64 * 2**20
"""The largest plaintext of a body."""


class StoredBody:
    """A row of the table `bodies`."""

    __slots__ = ("data", "digest", "secret", "size", "stored")

    def __init__(self, digest: Digest, *, secret: bool, size: int, stored: Digest, data: bytes) -> None:
        self.digest = digest
        self.secret = secret
        self.size = size
        self.stored = stored
        self.data = data

    @property
    def row(self) -> tuple[str, int, int, str, bytes]:
        """The row's values, in the order of the table's columns."""
        return self.digest, int(self.secret), self.size, self.stored, self.data


def pack(body: Body) -> StoredBody:
    """What is stored of a body.

    Raises:
        ValueError: when the body is not what its reference says, or is too large.
    """
    reference = body.ref
    if not is_digest(reference.digest):
        raise ValueError(f"{reference.digest!r} is no digest")
    if reference.size > BODY_BYTES_MAX:
        raise ValueError(f"a body of {reference.size} bytes; {BODY_BYTES_MAX} is the most")
    if reference.secret != reference.digest.startswith(KEYED):
        raise ValueError(f"{reference.digest}: a keyed digest, and no other, names a secret body")
    if reference.secret:
        if reference.stored != digest_of(body.data):
            raise ValueError(f"the ciphertext of {reference.digest} has not the digest that its reference says")
        data = body.data
    else:
        if reference.digest != digest_of(body.data) or reference.size != len(body.data):
            raise ValueError(f"the content of {reference.digest} has another digest or size")
        data = zstandard.ZstdCompressor(level=3).compress(body.data)
    return StoredBody(reference.digest, secret=reference.secret, size=reference.size, stored=digest_of(data), data=data)


def unpack(stored: StoredBody) -> Body:
    """The body behind a row, checked.

    Raises:
        StoreCorruptError: when the row is damaged.
    """
    name = f"body {stored.digest}"
    if digest_of(stored.data) != stored.stored:
        raise StoreCorruptError(name, "its stored bytes have another digest")
    if stored.secret != stored.digest.startswith(KEYED):
        raise StoreCorruptError(name, "whether it is secret is not what its digest says")
    if stored.secret:
        reference = BodyRef(digest=stored.digest, size=stored.size, secret=True, stored=stored.stored)
        return Body(ref=reference, data=stored.data)
    try:
        if zstandard.frame_content_size(stored.data) > BODY_BYTES_MAX:
            raise StoreCorruptError(name, "its content is larger than any may be")
        data = zstandard.ZstdDecompressor().decompress(stored.data, max_output_size=BODY_BYTES_MAX)
    except zstandard.ZstdError as error:
        raise StoreCorruptError(name, str(error)) from None
    if digest_of(data) != stored.digest or len(data) != stored.size:
        raise StoreCorruptError(name, "its content has another digest or size")
    return Body(ref=BodyRef(digest=stored.digest, size=stored.size), data=data)
