"""Bodies and digests of one target: what is secret is sealed under the key of its stream."""

from tidelog.events.bodies import Body
from tidelog.events.digest import Digest, digest_of
from tidelog.storage.keys import DataKey


class Sealer:
    """Makes bodies and digests; `key` is needed as soon as something secret comes."""

    def __init__(self, key: DataKey | None) -> None:
        self._key = key

    def body(self, data: bytes, *, secret: bool) -> Body:
        """A body of some bytes."""
        return self.key.seal(data) if secret else Body.of(data)

    def digest(self, data: bytes, secret: bool) -> Digest:  # noqa: FBT001 - a predicate of the data, as in `body`
        """The digest of some bytes: keyed where they are secret."""
        return self.key.digest(data) if secret else digest_of(data)

    def open(self, body: Body) -> bytes:
        """The bytes behind a body."""
        return self.key.open(body) if body.ref.secret else body.data

    @property
    def key(self) -> DataKey:
        """The stream's key."""
        if self._key is None:
            raise RuntimeError("something secret came to a sealer without a key")
        return self._key
