"""Text on its way to a person's terminal."""

import os
import re
from typing import TextIO

_hex = re.compile(r"(sha1|sha256):([0-9a-f]{8})[0-9a-f]{32,}")


def visible(text: str) -> str:
    """`text` with every control character spelled out: what an event holds must not steer a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def shortened(text: str) -> str:
    """A text with the commits in it cut to eight digits, as `flux get` prints them."""
    return _hex.sub(r"\1:\2", text)


def takes_colour(stream: TextIO) -> bool:
    """Whether lines of people's own may have colour: in a terminal that has it, unless `NO_COLOR` says otherwise."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty() or bool(os.environ.get("FORCE_COLOR"))
