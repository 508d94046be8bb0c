"""JSON as the API server reads it: what is no Unicode is replaced, as Go's decoder does it (`encoding/json`)."""

import codecs
import re
from typing import Any, Final

import msgspec

_HANDLER: Final = "tidelog-go"
_REPLACED: Final = "\ufffd"
_ESCAPES: Final = re.compile(r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)")
"""An escape: a pair of surrogates (as far as is needed to see that), with its group one alone, or any other."""


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Each byte by itself, where Python would take some together."""
    assert isinstance(error, UnicodeDecodeError)  # noqa: S101 - nothing is encoded
    return _REPLACED * (error.end - error.start), error.end


codecs.register_error(_HANDLER, _replace)


def decode(body: bytes) -> Any:
    """The document in a body.

    Raises:
        msgspec.DecodeError: when it is none.
        RecursionError: when it is too deep.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        mended = _ESCAPES.sub(_lone, body.decode(errors=_HANDLER))
        return msgspec.json.decode(mended)


def _lone(escape: re.Match[str]) -> str:
    return escape[0] if escape[1] is None else _REPLACED
