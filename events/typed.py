"""Decoders of JSON, and of decoded JSON, to types: the one place where a type is described to msgspec.

msgspec describes a struct where it is first decoded to, which runs Python, and keeps what it has before it is
done: another thread that decodes to that struct meanwhile reads a pointer that is not there yet, and the process
ends by SIGSEGV. Here types are described one after the other, and are kept.
"""

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeAlias, TypeVar

import msgspec

T = TypeVar("T")
Hook: TypeAlias = Callable[[type[Any], Any], Any]
"""Makes one of a type that msgspec does not know of what JSON says."""

_describing = Lock()
_decoders: dict[Any, Callable[[bytes | str], Any]] = {}
_converters: dict[Any, Callable[[object], Any]] = {}


def decoder(type_: type[T]) -> Callable[[bytes | str], T]:
    """A function that decodes JSON to a type.

    It raises msgspec.DecodeError for what is no JSON, and ValidationError, which is one, for what is of another type.
    """
    if type_ not in _decoders:
        with _describing:
            _decoders[type_] = msgspec.json.Decoder(type_).decode
    return _decoders[type_]


def converter(type_: type[T], *, strict: bool = True, dec_hook: Hook | None = None) -> Callable[[object], T]:
    """A function that makes a type of decoded JSON, as `msgspec.convert` does. It raises msgspec.ValidationError."""
    form = (type_, strict, dec_hook)
    if form not in _converters:
        with _describing:
            msgspec.json.Decoder(type_, strict=strict, dec_hook=dec_hook)
        _converters[form] = lambda value: msgspec.convert(value, type_, strict=strict, dec_hook=dec_hook)
    return _converters[form]
