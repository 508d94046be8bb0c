"""The path of a field that a rule is about: `.spec.size`, `['with-dash']`."""

import re
from typing import Final

from tidelog.engine.cluster.embedded.schema import Raw

_STEP: Final = re.compile(r"\.(?P<name>[^.\[\]]+)|\['(?P<quoted>(?:[^'\\]|\\.)*)'\]")
_ESCAPE: Final = re.compile(r"\\(.)")
_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


def is_field_path(path: str, raw: Raw) -> bool:
    """Whether a path leads to a field that the schema knows."""
    return field_path(path, raw) is not None


def field_path(path: str, raw: Raw) -> str | None:
    """The path as it is written in messages; None if it leads nowhere."""
    at, written, here = 0, "", raw
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return None
        at = step.end()
        quoted = step["quoted"]
        name = step["name"] if quoted is None else _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], ""), quoted)
        named, free = here.get("properties"), here.get("additionalProperties")
        if named:
            if name not in named:
                return None
            here, written = named[name], f"{written}.{name}"
        elif isinstance(free, dict):
            here, written = free, f"{written}[{name}]"
        else:
            return None
    return written.removeprefix(".")
