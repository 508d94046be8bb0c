"""Which keys can be files of a tree, and nothing else. Any name can be a key of an object store."""

from collections.abc import Iterable
from typing import Final

from tidelog.engine.sources.errors import FetchError
from tidelog.storage.artifacts import Limits

NAME_BYTES_MAX: Final = 255
SHOWN_MAX: Final = 200


def check_keys(keys: Iterable[str], bucket: str, limits: Limits) -> None:
    """Whether all of these keys can be written below one directory, side by side.

    Raises:
        FetchError: names the first key that cannot, and why.
    """
    files = set(keys)
    for key in files:
        why = _flaw(key, limits) or _collision(key, files)
        if why:
            raise FetchError(
                "BucketOperationFailed",
                f"the bucket {bucket} has the key {shown(key)}, {why}: "
                "remove the object, or leave it out with spec.ignore",
            )


def shown(key: str) -> str:
    """A key as messages show it."""
    text = ascii(key) if any(not sign.isprintable() for sign in key) else f"'{key}'"
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}…"


def _flaw(key: str, limits: Limits) -> str:
    try:
        data = key.encode()
    except UnicodeEncodeError:
        return "which is not UTF-8"
    if len(data) > limits.path_bytes:
        return f"which is longer than {limits.path_bytes} bytes"
    if any(sign < 32 or sign == 127 for sign in data):
        return "which has a control character in it"
    parts = data.split(b"/")
    if len(parts) > limits.depth:
        return f"which lies deeper than {limits.depth} directories"
    for part in parts:
        if part in {b".", b".."}:
            return f"which has a part '{part.decode()}'"
        if not part:
            return "which begins with a slash" if key.startswith("/") else "which has an empty part"
        if len(part) > NAME_BYTES_MAX:
            return f"which has a name of more than {NAME_BYTES_MAX} bytes"
    return ""


def _collision(key: str, files: set[str]) -> str:
    above = key
    while "/" in above:
        above = above.rpartition("/")[0]
        if above in files:
            return f"and another that is {shown(above)}: no tree has a file and a directory of one name"
    return ""
