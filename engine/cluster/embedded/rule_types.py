"""Types of the fields that a rule in CEL writes out: each becomes a variable of its type, whose name is as long."""

import re
from collections.abc import Callable
from typing import Final

from tidelog.engine.cluster.embedded.schema import Raw
from tidelog.engine.objects.rules import typed_name

TEXT: Final = re.compile(r"""[rRbB]?("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""")
_CHAIN: Final = re.compile(r"(?<![\w.])(self|oldSelf)\b((?:\.[A-Za-z_]\w*)*)(\s*\()?")
_ESCAPES: Final = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_RESERVED: Final = frozenset(
    {
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    }
)
_FORMATS: Final = {"date": "t", "date-time": "t", "datetime": "t", "duration": "u", "byte": "y"}
_SCALARS: Final = {"string": "s", "integer": "i", "number": "d", "boolean": "b"}


def escaped(name: str) -> str:
    """A name of a field as expressions write it: `a-b` is `a__dash__b`."""
    if name in _RESERVED:
        return f"__{name}__"
    for what, instead in _ESCAPES:
        name = name.replace(what, instead)
    return name


def typed(expression: str, raw: Raw) -> str:
    """An expression in which `self`, and fields of it that are written out, are variables of their types."""

    def variable(field: str, names: list[str]) -> str | None:
        kind = _kind_at(names, raw) if field.startswith("self") else ""
        return typed_name(kind, len(field)) if kind else None

    return replaced(expression, variable)


def replaced(expression: str, instead: Callable[[str, list[str]], str | None]) -> str:
    """An expression with something else for `self` and `oldSelf`, and fields of them that are written out.

    Args:
        expression: in CEL.
        instead: what is to stand there for a field as it is written, and the names in it; None to leave it. What `has`
            asks for is left in any case.
    """
    bare = TEXT.sub(lambda found: found[0][0] + " " * (len(found[0]) - 1), expression)
    made, done = "", 0
    for found in _CHAIN.finditer(bare):
        names = [name for name in found[2].split(".") if name]
        names = names[: len(names) - bool(found[3] and names)]
        field = ".".join([found[1], *names])
        new = instead(field, names)
        if new is not None and not bare[: found.start()].rstrip().endswith("has("):
            made += expression[done : found.start()] + new
            done = found.start() + len(field)
    return made + expression[done:]


def _kind_at(names: list[str], raw: Raw) -> str:
    here: Raw = raw
    for name in names:
        known = {escaped(key): part for key, part in (here.get("properties") or {}).items()}
        if name not in known:
            return ""
        here = known[name]
    return _scalar(here) or _many(here)


def _many(raw: Raw) -> str:
    if raw.get("nullable") or raw.get("x-kubernetes-preserve-unknown-fields"):
        return ""
    letter, below = ("l", raw.get("items")) if raw.get("type") == "array" else ("m", raw.get("additionalProperties"))
    scalar = _scalar(below) if isinstance(below, dict) and raw.get("type") in ("array", "object") else ""
    return letter + scalar if scalar else ""


def _scalar(raw: Raw) -> str:
    """The letter of a type; none of what may be more than one."""
    kind = str(raw.get("type") or "")
    if raw.get("nullable") or raw.get("x-kubernetes-int-or-string") or kind not in _SCALARS:
        return ""
    return _FORMATS.get(str(raw.get("format") or ""), "s") if kind == "string" else _SCALARS[kind]
