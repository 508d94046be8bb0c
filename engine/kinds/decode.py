"""From an object as the API gives it to its struct, and back; what is wrong with it is said in plain words.

The API server has checked what it stores. These checks are for objects that did not come from there, for a CRD of
another version, and for fields that the server would drop.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import inspect

from tidelog.engine.kinds.durations import Duration, MalformedDurationError
from tidelog.engine.kinds.meta import KubeStruct, ObjectMeta, Rule
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.typed import converter

K = TypeVar("K", bound=KubeStruct)

SHOWN_LENGTH_MAX = 100
"""Characters of a wrong value that a message shows."""
_ADDRESS_FIELDS = frozenset({"url"})
"""Fields whose wrong values are not shown: an address may hold a password."""


class Problem(NamedTuple):
    """Something that is wrong with an object."""

    path: str
    """Of the field, for example `spec.dependsOn[0].name`; empty for the object as a whole."""
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}: {self.sentence}" if self.path else self.sentence


class InvalidObjectError(ValueError):
    """Raised for an object that is not as its kind says; `problems` has all that is wrong."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


def decode(kind: type[K], obj: KubeObject) -> K:
    """The object, or the part of one, as a `kind`. Fields that the kind does not know are passed over.

    Raises:
        InvalidObjectError: when something is wrong with it.
    """
    found = problems(kind, obj)
    if found:
        raise InvalidObjectError(found)
    try:
        return converter(kind, dec_hook=_read)(obj)
    except msgspec.ValidationError as error:  # `problems` looks at all that `convert` does, and more
        raise InvalidObjectError((Problem("", str(error)),)) from error


def encode(value: KubeStruct) -> KubeObject:
    """The JSON of a struct; a field that holds its default is left out."""
    encoded: KubeObject = msgspec.json.decode(msgspec.json.encode(value, enc_hook=_write))
    return encoded


def problems(kind: type[KubeStruct], obj: KubeObject) -> tuple[Problem, ...]:
    """All that is wrong with an object, in the order of its fields."""
    return tuple(_of_struct(_struct(kind), obj, ""))


def unknown_fields(kind: type[KubeStruct], obj: KubeObject) -> tuple[str, ...]:
    """The paths of fields that the kind does not have, which an API server would drop."""
    return tuple(_unknown(_struct(kind), obj, ""))


def _read(wanted: type[Any], value: Any) -> Any:
    if issubclass(wanted, Duration):
        return wanted.parse(value)
    raise NotImplementedError(f"no way to read a {wanted.__name__}")


def _write(value: Any) -> Any:
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(f"no way to write a {type(value).__name__}")


@functools.cache
def _struct(kind: type[KubeStruct]) -> inspect.StructType:
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{kind.__name__} is no struct")
    return info


def rules_of(cls: type[msgspec.Struct]) -> tuple[Rule, ...]:
    """What holds between the fields of a struct."""
    return cls.rules if issubclass(cls, KubeStruct) else ()


def unwrapped(type_: inspect.Type) -> inspect.Type:
    """The type inside of what is only said about it, and of `| None`."""
    if isinstance(type_, inspect.Metadata):
        return unwrapped(type_.type)
    if isinstance(type_, inspect.UnionType):
        (inner,) = (member for member in type_.types if not isinstance(member, inspect.NoneType))
        return unwrapped(inner)
    return type_


def _problems(type_: inspect.Type, value: Any, path: str) -> Iterator[Problem]:
    match unwrapped(type_):
        case inspect.StructType() as struct:
            yield from _of_struct(struct, value, path)
        case inspect.VarTupleType(item_type=item):
            if not isinstance(value, list):
                yield _wrong_type(path, "a list", value)
                return
            for index, element in enumerate(value):
                yield from _problems(item, element, f"{path}[{index}]")
        case inspect.DictType(value_type=item):
            if not isinstance(value, dict):
                yield _wrong_type(path, "an object", value)
                return
            for key, element in value.items():
                yield from _problems(item, element, f"{path}[{key!r}]")
        case inspect.LiteralType(values=values):
            if value not in values:
                yield Problem(path, f"must be one of {', '.join(map(str, values))}, and is {_shown(path, value)}")
        case inspect.BoolType():
            if not isinstance(value, bool):
                yield _wrong_type(path, "true or false", value)
        case inspect.IntType(ge=least):
            if not isinstance(value, int) or isinstance(value, bool):
                yield _wrong_type(path, "an integer", value)
            elif least is not None and value < least:
                yield Problem(path, f"must be at least {least}, and is {value}")
        case inspect.StrType() as text:
            yield from _of_text(text, value, path)
        case inspect.AnyType():
            return
        case inspect.CustomType(cls=duration):
            yield from _of_duration(duration, value, path)
        case other:
            raise NotImplementedError(f"no way to check a {type(other).__name__}")


def _of_struct(struct: inspect.StructType, value: Any, path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _wrong_type(path, "an object", value)
        return
    for field in struct.fields:
        below = f"{path}.{field.encode_name}" if path else field.encode_name
        if field.encode_name in value:
            yield from _problems(field.type, value[field.encode_name], below)
        elif field.required:
            yield Problem(below, "is required, and missing")
    for rule in rules_of(struct.cls):
        if not rule.holds(value):
            yield Problem(path, rule.message)


def _of_text(text: inspect.StrType, value: Any, path: str) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield _wrong_type(path, "text", value)
    elif text.min_length is not None and len(value) < text.min_length:
        yield Problem(path, f"must have at least {text.min_length} characters, and has {len(value)}")
    elif text.max_length is not None and len(value) > text.max_length:
        yield Problem(path, f"must have at most {text.max_length} characters, and has {len(value)}")
    elif text.pattern is not None and not re.search(_for_python(text.pattern), value, re.ASCII):
        yield Problem(path, f"must match {text.pattern}, and is {_shown(path, value)}")


def _for_python(pattern: str) -> str:
    # In Go, as the API server reads it, `$` is the end of the text and nothing else.
    return f"{pattern.removesuffix('$')}\\Z" if pattern.endswith("$") else pattern


def _of_duration(wanted: type[Any], value: Any, path: str) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield _wrong_type(path, f"a duration such as {Duration.example()}", value)
        return
    try:
        wanted.parse(value)
    except MalformedDurationError as error:
        yield Problem(path, str(error))


def _wrong_type(path: str, wanted: str, value: Any) -> Problem:
    names = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return Problem(path, f"must be {wanted}, and is {names.get(type(value), 'null')}")


def _shown(path: str, value: Any) -> str:
    if path.rpartition(".")[2] in _ADDRESS_FIELDS:
        return "something else"
    text = repr(value)
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[:SHOWN_LENGTH_MAX]}..."


def _unknown(type_: inspect.Type, value: Any, path: str) -> Iterator[str]:
    match unwrapped(type_):
        case inspect.StructType(cls=cls, fields=fields) if isinstance(value, dict) and cls is not ObjectMeta:
            known = {field.encode_name: field for field in fields}
            for name, element in value.items():
                below = f"{path}.{name}" if path else str(name)
                if name in known:
                    yield from _unknown(known[name].type, element, below)
                else:
                    yield below
        case inspect.VarTupleType(item_type=item) if isinstance(value, list):
            for index, element in enumerate(value):
                yield from _unknown(item, element, f"{path}[{index}]")
        case _:
            return
