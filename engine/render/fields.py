"""Fields of what strangers wrote, found as Go finds them: whatever case they are written in."""

from collections.abc import Iterator
from typing import Any


def values(mapping: dict[str, Any], *fields: str) -> Iterator[Any]:
    """What a mapping has in fields, whose case is nothing to Go."""
    wanted = {field.casefold() for field in fields}
    for name, value in mapping.items():
        if name.casefold() in wanted:
            yield value


def _items(mapping: dict[str, Any], *fields: str) -> Iterator[Any]:
    for value in values(mapping, *fields):
        yield from value if isinstance(value, list) else ()


def texts(mapping: dict[str, Any], *fields: str) -> Iterator[str]:
    """The texts in lists of a mapping."""
    return (item for item in _items(mapping, *fields) if isinstance(item, str) and item)


def mappings(mapping: dict[str, Any], *fields: str) -> Iterator[dict[str, Any]]:
    """The mappings in lists of a mapping."""
    return (item for item in _items(mapping, *fields) if isinstance(item, dict))
