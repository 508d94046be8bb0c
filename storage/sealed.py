"""The form of a secret body's ciphertext: a version, the id of the data key, and what AES-SIV gave."""

from tidelog.events.bodies import Body

VERSION = b"\x01"
KEY_ID_BYTES = 16
HEADER_BYTES = len(VERSION) + KEY_ID_BYTES


def header_of(key_id: str) -> bytes:
    """What a ciphertext under this key begins with."""
    return VERSION + bytes.fromhex(key_id)


def key_id_of(body: Body) -> str | None:
    """The id (hex) of the data key under which a body is sealed; None when it is not sealed in this form."""
    if not body.ref.secret or len(body.data) < HEADER_BYTES or not body.data.startswith(VERSION):
        return None
    return body.data[len(VERSION) : HEADER_BYTES].hex()
