"""Texts in rules in CEL that are no pattern, time or duration where one is wanted: the server's compiler says so."""

import re
from datetime import datetime
from typing import Final

from tidelog.engine.cluster.embedded import patterns

_ARGUMENT: Final = re.compile(
    r"""\b(?P<name>matches|find|findAll|duration|timestamp)\(\s*(?P<raw>[rR])?(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
)
_DURATION: Final = re.compile(r"[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_ESCAPE: Final = re.compile(r"\\(.)")


def mistake_in(expression: str) -> str:
    """What the compiler says of the first such text; nothing where all are right."""
    for found in _ARGUMENT.finditer(expression):
        name, quoted = found["name"], found["text"][1:-1]
        text = quoted if found["raw"] else _ESCAPE.sub(_unescaped, quoted)
        if text is None or not _is_wrong(name, text):
            continue
        if name in ("find", "findAll"):
            return f"program instantiation failed: {patterns.mistake_in(text)}"
        at = found.start("raw") if found["raw"] else found.start("text")
        return mistake_at(expression, at, f"invalid {name} argument")
    return ""


def mistake_at(expression: str, at: int, what: str) -> str:
    """A mistake of compiling at a place in an expression."""
    line = expression.count("\n", 0, at) + 1
    column = at - expression.rfind("\n", 0, at)
    return f"compilation failed: ERROR: <input>:{line}:{column}: {what}\n{drawing(expression, line, column)}"


def drawing(expression: str, line: int, column: int) -> str:
    """The line of an expression, and a sign below the place that is meant; both are counted from 1."""
    lines = expression.split("\n")
    text = lines[line - 1] if line <= len(lines) else ""
    return f" | {text}\n | {'.' * (column - 1)}^"


def _is_wrong(name: str, text: str) -> bool:
    match name:
        case "duration":
            return _DURATION.fullmatch(text) is None
        case "timestamp":
            return not _is_time(text)
        case _:
            return bool(patterns.mistake_in(text))


def _is_time(text: str) -> bool:
    if _TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text[:19])
    except ValueError:
        return False
    return True


def _unescaped(found: re.Match[str]) -> str:
    return found[1] if found[1] in "\\'\"`?" else found[0]
