"""Bodies and digests of objects: what is secret is sealed under the key of the object's own stream.

So that forgetting the stream of a Secret forgets that Secret, whichever target applied it.
"""

from collections.abc import Mapping

from tidelog.events.bodies import Body
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectId
from tidelog.storage.keys import DataKey
from tidelog.storage.sealed import key_id_of


class LostSecretError(Exception):
    """Raised for a secret body whose key was destroyed (`tidelog log forget`)."""

    def __init__(self, id: ObjectId) -> None:
        super().__init__(f"the secret values of {id} were forgotten")


class Sealer:
    """Makes bodies and digests of objects; of a secret object, its key has to be among `keys`."""

    def __init__(self, keys: Mapping[ObjectId, DataKey] | None = None) -> None:
        self._keys = keys or {}

    def body(self, id: ObjectId, data: bytes, *, secret: bool) -> Body:
        """A body of some bytes of an object."""
        return self.key(id).seal(data) if secret else Body.of(data)

    def digest(self, id: ObjectId, data: bytes, *, secret: bool) -> Digest:
        """The digest of some bytes of an object: keyed where they are secret."""
        return self.key(id).digest(data) if secret else digest_of(data)

    def open(self, id: ObjectId, body: Body) -> bytes:
        """The bytes behind a body of an object.

        Raises:
            LostSecretError: when it is sealed under a key that is no more.
        """
        if not body.ref.secret:
            return body.data
        key = self.key(id)
        if key_id_of(body) != key.id:
            raise LostSecretError(id)
        return key.open(body)

    def key(self, id: ObjectId) -> DataKey:
        """The key of an object's stream."""
        try:
            return self._keys[id]
        except KeyError:
            raise RuntimeError(f"{id} is secret, and came to a sealer without its key") from None
