"""Values: read as Helm reads them, merged, and written so that Helm reads the same again."""

import math
import re
from typing import Any, Final, TypeAlias

import msgspec

from tidelog.engine.documents import documents, merged

Values: TypeAlias = dict[str, Any]

_EXACT: Final = 2**53
"""Integers beyond it are floats to Helm, and so are rounded."""
# What is text to every reader of YAML when it stands there without quotes.
_plain = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*|\d+\.\d+\.\d+(?:[-+][A-Za-z0-9.+-]+)?", re.ASCII)
_words: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf"})
_unprintable = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


class ValuesError(ValueError):
    """Raised for a text that holds no values; says the line, and quotes no value."""


def values_of(text: str, *, merges_documents: bool) -> Values:
    """The values in a text.

    Args:
        text: YAML.
        merges_documents: whether all documents count, as in a chart's own values.yaml; else it is the first.

    Raises:
        YamlError: when it is no YAML.
        ValuesError: when a document is no mapping.
    """
    found = documents(text, repeated_keys=True)
    result: Values = {}
    for document in found if merges_documents else found[:1]:
        if document.value is None:
            continue
        if not isinstance(document.value, dict):
            raise ValuesError(f"line {document.line}: it is no mapping")
        result = merged(result, document.value)
    return result


def written(value: Any) -> bytes:
    """A mapping as YAML, keys in order; nothing for one that is empty."""
    lines: list[str] = []
    if value:
        _mapping(value, "", lines)
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def _mapping(value: Values, indent: str, lines: list[str]) -> None:
    for key in sorted(value, key=lambda key: key.encode("utf-8", "surrogatepass")):
        _item(f"{indent}{_text(key)}:", value[key], indent, lines)


def _item(head: str, value: Any, indent: str, lines: list[str]) -> None:
    if isinstance(value, dict) and value:
        lines.append(head)
        _mapping(value, f"{indent}  ", lines)
    elif isinstance(value, list) and value:
        lines.append(head)
        _sequence(value, indent, lines)
    else:
        lines.append(f"{head} {_scalar(value)}")


def _sequence(value: list[Any], indent: str, lines: list[str]) -> None:
    for item in value:
        if isinstance(item, dict | list) and item:
            below: list[str] = []
            if isinstance(item, dict):
                _mapping(item, f"{indent}  ", below)
            else:
                _sequence(item, f"{indent}  ", below)
            # The first line stands beside the dash.
            lines.append(f"{indent}- {below[0][len(indent) + 2 :]}")
            lines += below[1:]
        else:
            lines.append(f"{indent}- {_scalar(item)}")


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    return _number(value)


def _number(value: float) -> str:
    if isinstance(value, int) and abs(value) > _EXACT:
        value = float(value)
    if not math.isfinite(value) or value != int(value) or abs(value) >= 2**63:
        return repr(value)
    return str(int(value))


def _text(value: str) -> str:
    """Text in quotes, but where it could be nothing else."""
    if _plain.fullmatch(value) and value.lower() not in _words:
        return value
    if not _unprintable.search(value):
        return msgspec.json.encode(value).decode()
    return '"' + "".join(_sign(sign) for sign in value) + '"'


def _sign(sign: str) -> str:
    if _unprintable.match(sign):
        return f"\\u{ord(sign):04x}"
    return msgspec.json.encode(sign).decode()[1:-1]
