"""Instances of every struct of the vocabulary, made from the annotations of its fields.

Strings are always new objects, never those that the code holds: what depends on identity shows.
"""

from datetime import UTC
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin

import msgspec
from hypothesis import strategies as st

import tidelog.events.vocabulary  # noqa: F401 - declares the event types
from tidelog.events import moment, names
from tidelog.events.canonical import INT_MAX, INT_MIN
from tidelog.events.digest import Digest, digest_of, keyed_digest_of
from tidelog.events.vocabulary.base import BY_PAYLOAD, Event

S = TypeVar("S", bound=msgspec.Struct)


def fresh(text: str) -> str:
    """The same characters in a new object."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")


segments = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="/"), min_size=1, max_size=8)
uuids = st.builds(names.uuid7, st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
times = st.datetimes(timezones=st.just(UTC)).map(moment.time_of)
digests = st.one_of(
    st.binary(max_size=4).map(digest_of),
    st.binary(max_size=4).map(lambda data: keyed_digest_of(data, b"key")),
)
keys = st.builds(names.ObjectKey, segments, segments, segments, segments)
object_ids = keys.map(lambda key: key.id)
streams = st.builds(names.object_stream, segments, object_ids)

_NAMED: dict[Any, st.SearchStrategy[Any]] = {
    Digest: digests,
    moment.Time: times,
    names.StreamName: streams,
    names.ObjectId: object_ids,
    names.EventId: uuids,
    names.RunId: uuids,
    names.TraceId: uuids,
    names.PlanId: st.one_of(uuids, digests),
    names.Revision: st.text(max_size=20),
}
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20).map(fresh),
    int: st.integers(INT_MIN, INT_MAX) | st.integers(-2, 300),
    bool: st.booleans(),
    NoneType: st.none(),
    msgspec.Raw: st.just(msgspec.Raw(b"{}")),
}


def values(annotation: Any) -> st.SearchStrategy[Any]:
    """What a field of that type may hold; fails for a type that no event has had so far."""
    if isinstance(annotation, NewType):
        return _NAMED[annotation]
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return st.sampled_from(arguments).map(fresh)
    if origin in (Union, UnionType):
        return st.one_of([values(argument) for argument in arguments])
    if origin is tuple and arguments[1:] == (...,):
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return instances(annotation)
    raise NotImplementedError(f"no strategy for {annotation}")


def instances(struct: type[S]) -> st.SearchStrategy[S]:
    """Instances of a struct; fields that have a default are sometimes left out."""
    fields = msgspec.structs.fields(struct)
    return st.fixed_dictionaries(
        {field.name: values(field.type) for field in fields if field.required},
        optional={field.name: values(field.type) for field in fields if not field.required},
    ).map(lambda held: struct(**held))


EVENT_TYPES: list[type[Event]] = sorted(BY_PAYLOAD, key=lambda payload: payload.__name__)
INSTANCES: dict[type[Event], st.SearchStrategy[Event]] = {
    payload: st.deferred(lambda payload=payload: instances(payload))  # type: ignore[misc]
    for payload in EVENT_TYPES
}
events: st.SearchStrategy[Event] = st.one_of(list(INSTANCES.values()))
