"""The vocabulary: its names, its rules, and `vocabulary.json`, which says what it was when last committed.

A log is kept for years, and read by the release before and by every release to come. So what an event type
says is only ever added to. Where something was added, `TIDELOG_WRITE_VOCABULARY=1 pytest <this file>` brings
`vocabulary.json` up to date; it writes nothing while a rule is broken.
"""

import copy
import datetime as dt
import inspect
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NewType, TypeAlias, Union, get_args, get_origin

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.events.strategies import EVENT_TYPES, INSTANCES, fresh
from tidelog.events import codec, vocabulary
from tidelog.events.canonical import encode
from tidelog.events.codec import UPCASTERS, UnknownEvent, decode_data, encode_event, type_of
from tidelog.events.envelope import Envelope
from tidelog.events.projections import PROJECTIONS
from tidelog.events.vocabulary import Event
from tidelog.events.vocabulary.base import BY_NAME, BY_PAYLOAD, EventType, event

COMMITTED = Path(__file__).with_name("vocabulary.json")

OF_THE_DESIGN = {
    "declare": "TargetDeclared TargetRemoved InputChanged",
    "fetch": "RevisionFetched RevisionSettled",
    "render": "Rendered",
    "plan": "Planned",
    "verify": "Verified VerificationFailed",
    "approve": "PlanHeld PlanApproved PlanRejected",
    "apply": "ApplyStarted ObjectApplied ObjectPruned ApplyFailed ApplyFinished",
    "observe": "ObjectObserved DriftDetected HealthChanged ObservationInterrupted ObservationResumed",
    "request": "ReconcileRequested Suspended Resumed Pinned Unpinned RevisionRejected Marked",
    "engine": "EngineStarted EngineStopped ConfigurationLoaded",
}

every_type = pytest.mark.parametrize("payload", EVENT_TYPES, ids=lambda payload: payload.__name__)

# What the vocabulary says, as data.

Fields: TypeAlias = dict[str, dict[str, Any]]
Said: TypeAlias = dict[str, dict[str, Any]]
"""`events`: the schema version and the fields by type name; `structs`: the fields by the name of a struct."""


def written(annotation: Any) -> str:
    """A type in the words of `vocabulary.json`; fails for one that has no place in an event."""
    if isinstance(annotation, NewType):
        assert annotation.__supertype__ is str, annotation
        return str(annotation.__name__)
    if annotation in (str, int, bool, msgspec.Raw):
        return str(annotation.__name__)
    if annotation is NoneType:
        return "null"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        assert all(isinstance(argument, str) for argument in arguments), annotation
        return " | ".join(f'"{argument}"' for argument in arguments)
    if origin in (Union, UnionType):
        return " | ".join(map(written, arguments))
    if origin is tuple and arguments[1:] == (...,):
        return f"list of {written(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation.__name__
    raise AssertionError(f"{annotation} has no place in an event: no floats, Any, or mappings")


def structs_in(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs that a type names, and those that these name."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
        for field in msgspec.structs.fields(annotation):
            yield from structs_in(field.type)
    for argument in get_args(annotation):
        yield from structs_in(argument)


NESTED = sorted(
    {s for root in (*EVENT_TYPES, Envelope) for s in structs_in(root)} - set(EVENT_TYPES),
    key=lambda struct: struct.__name__,
)


def fields_of(struct: type[msgspec.Struct]) -> Fields:
    return {
        field.encode_name: {"type": written(field.type)}
        | ({} if field.required else {"default": json.loads(msgspec.json.encode(field.default))})
        for field in msgspec.structs.fields(struct)
    }


def said_now() -> Said:
    return {
        "events": {
            entry.name: {"schema": entry.schema, "fields": fields_of(entry.payload)}
            for entry in sorted(BY_NAME.values(), key=lambda entry: entry.name)
        },
        "structs": {struct.__name__: fields_of(struct) for struct in NESTED},
    }


def broken(before: Said, now: Said, upcasters: Any = UPCASTERS) -> list[str]:
    """The rules that were broken between `before` and `now`, each as a sentence."""
    found = []
    for name, old in before["events"].items():
        new = now["events"].get(name)
        if new is None:
            found.append(f"{name} was removed: logs hold events of this type, which must be read for ever")
        elif new["schema"] < old["schema"]:
            found.append(f"{name} went back to schema {new['schema']}: a schema version only ever rises")
        elif new["schema"] > old["schema"]:
            found += [
                f"{name} has a new schema, but no upcaster from {version}: old events could not be read"
                for version in range(old["schema"], new["schema"])
                if (name, version) not in upcasters
            ]
        else:
            found += _broken_fields(name, old["fields"], new["fields"])
    for name, fields in before["structs"].items():
        if name in now["structs"]:
            found += _broken_fields(name, fields, now["structs"][name])
    return found


def _broken_fields(name: str, before: Fields, now: Fields) -> Iterator[str]:
    way_out = "raise the schema version and add an upcaster instead"
    for field, old in before.items():
        new = now.get(field)
        if new is None:
            yield f"{name}.{field} was removed: {way_out}"
            continue
        if new["type"] != old["type"]:
            yield f"{name}.{field} changed its type from {old['type']} to {new['type']}: {way_out}"
        if "default" in old and "default" not in new:
            yield f"{name}.{field} lost its default: events without it are stored; {way_out}"
        elif "default" in new and "default" not in old:
            yield f"{name}.{field} got a default: the release before cannot read events without it; {way_out}"
        elif old.get("default") != new.get("default"):
            yield f"{name}.{field} changed its default: events stored without it would change; {way_out}"
    for field in now.keys() - before.keys():
        if "default" not in now[field]:
            yield f"{name}.{field} is new and has no default: events without it are stored; give it one"


def test_nothing_that_was_committed_is_removed_or_changed() -> None:
    rules = broken(json.loads(COMMITTED.read_text()), said_now())
    assert not rules, "a rule for changing events was broken:\n" + "\n".join(rules)


def test_what_was_added_is_in_the_committed_file() -> None:
    before, now = json.loads(COMMITTED.read_text()), said_now()
    if os.environ.get("TIDELOG_WRITE_VOCABULARY") and not broken(before, now):
        COMMITTED.write_text(json.dumps(now, indent=2, ensure_ascii=False) + "\n")
        before = json.loads(COMMITTED.read_text())
    assert before == now or broken(before, now), (
        "the vocabulary was added to, which is allowed: run this file with TIDELOG_WRITE_VOCABULARY=1, "
        "and commit vocabulary.json"
    )


def _removed_event(said: Said) -> None:
    del said["events"]["Pinned"]


def _removed_field(said: Said) -> None:
    del said["events"]["Pinned"]["fields"]["why"]


def _renamed_field(said: Said) -> None:
    said["events"]["Pinned"]["fields"]["reason"] = said["events"]["Pinned"]["fields"].pop("why")


def _other_type(said: Said) -> None:
    said["events"]["Pinned"]["fields"]["position"]["type"] = "str"


def _one_more_word(said: Said) -> None:
    said["events"]["ObjectPruned"]["fields"]["outcome"]["type"] += ' | "orphaned"'


def _no_default(said: Said) -> None:
    del said["events"]["Suspended"]["fields"]["until"]["default"]


def _other_default(said: Said) -> None:
    said["events"]["StageFailed"]["fields"]["attempt"]["default"] = 0


def _got_default(said: Said) -> None:
    said["events"]["Suspended"]["fields"]["why"]["default"] = ""


def _new_and_required(said: Said) -> None:
    said["events"]["Suspended"]["fields"]["ticket"] = {"type": "str"}


def _nested(said: Said) -> None:
    del said["structs"]["BodyRef"]["size"]


def _envelope(said: Said) -> None:
    said["structs"]["Envelope"]["version"]["type"] = "str"


def _schema_without_upcaster(said: Said) -> None:
    said["events"]["Pinned"]["schema"] = 2


def _schema_back(said: Said) -> None:
    said["events"]["Pinned"]["schema"] = 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_removed_event, "Pinned was removed"),
        (_removed_field, "Pinned.why was removed"),
        (_renamed_field, "Pinned.why was removed"),
        (_other_type, "Pinned.position changed its type from int to str"),
        (_one_more_word, "ObjectPruned.outcome changed its type"),
        (_no_default, "Suspended.until lost its default"),
        (_other_default, "StageFailed.attempt changed its default"),
        (_got_default, "Suspended.why got a default"),
        (_new_and_required, "Suspended.ticket is new and has no default"),
        (_nested, "BodyRef.size was removed"),
        (_envelope, "Envelope.version changed its type"),
        (_schema_without_upcaster, "Pinned has a new schema, but no upcaster from 1"),
        (_schema_back, "Pinned went back to schema 0"),
    ],
)
def test_broken_rule_is_named(change: Callable[[Said], None], sentence: str) -> None:
    now = copy.deepcopy(said_now())
    change(now)
    assert any(rule.startswith(sentence) for rule in broken(said_now(), now)), broken(said_now(), now)


def test_additions_and_upcast_schemas_break_no_rule() -> None:
    now = copy.deepcopy(said_now())
    now["events"]["Suspended"]["fields"]["ticket"] = {"type": "str", "default": ""}
    now["events"]["Paused"] = {"schema": 1, "fields": {"why": {"type": "str"}}}
    now["structs"]["BodyRef"]["media"] = {"type": "str | null", "default": None}
    now["events"]["Pinned"] = {"schema": 3, "fields": {}}
    assert not broken(said_now(), now, {("Pinned", 1): dict, ("Pinned", 2): dict})
    assert now != said_now()


# The rules that hold for every type.


@pytest.mark.parametrize(("stage", "names"), OF_THE_DESIGN.items(), ids=OF_THE_DESIGN)
def test_every_name_of_the_design_is_an_event_type(stage: str, names: str) -> None:
    for name in names.split():
        payload = BY_NAME[name].payload
        assert getattr(vocabulary, name) is payload
        assert payload.__module__ == f"tidelog.events.vocabulary.{stage}"


def test_event_of_an_unknown_type_is_no_type_of_its_own() -> None:
    assert UnknownEvent not in BY_PAYLOAD
    assert "UnknownEvent" not in BY_NAME


def test_every_payload_is_declared_once_and_exported() -> None:
    declared = [getattr(vocabulary, name) for name in vocabulary.__all__]
    payloads = [c for c in declared if c is not Event and isinstance(c, type) and issubclass(c, Event)]
    assert sorted(payloads, key=lambda payload: payload.__name__) == EVENT_TYPES
    assert {entry.payload for entry in BY_NAME.values()} == set(BY_PAYLOAD) == set(payloads)
    assert set(Event.__subclasses__()) - {UnknownEvent} >= set(payloads)


def test_two_types_of_one_name_are_refused() -> None:
    before = dict(BY_NAME)
    with pytest.raises(ValueError, match="two event types are named Pinned"):

        @event("Pinned")
        class Other(Event, frozen=True, kw_only=True):
            pass

    assert before == BY_NAME


# The participles that do not end in -ed.
IRREGULAR = {"Bound", "Forgotten", "Held"}


@every_type
def test_name_is_camel_case_and_past_tense_and_no_class_path(payload: type[Event]) -> None:
    name = BY_PAYLOAD[payload].name
    words = re.findall("[A-Z][a-z]+", name)
    assert "".join(words) == name, "a name has letters only: no dots, no digits, no abbreviations"
    assert words[-1].endswith("ed") or words[-1] in IRREGULAR, f"{name} is not past tense"
    assert BY_NAME[name].payload is payload
    assert BY_NAME[name].schema >= 1


@pytest.mark.parametrize("struct", [*EVENT_TYPES, *NESTED], ids=lambda struct: struct.__name__)
def test_struct_is_frozen_documented_and_read_by_name(struct: type[msgspec.Struct]) -> None:
    config = struct.__struct_config__
    assert config.frozen
    assert vars(struct).get("__doc__"), "says in its docstring what happened"
    assert not config.array_like, "fields are found by name, never by place"
    assert not config.forbid_unknown_fields, "the release before reads events with fields that it does not know"
    assert config.tag is None, "what a payload is stands in the envelope"
    assert all(field.name == field.encode_name for field in msgspec.structs.fields(struct))


@every_type
def test_payload_takes_its_fields_by_name_only(payload: type[Event]) -> None:
    kinds = {parameter.kind for parameter in inspect.signature(payload).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("struct", [*EVENT_TYPES, *NESTED], ids=lambda struct: struct.__name__)
def test_no_field_holds_floats_any_or_mappings(struct: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(struct):
        assert written(field.type)
        assert (field.type is msgspec.Raw) == (struct is Envelope and field.name == "data")
        # A default that is made anew, or compared by identity, would be written in some events and not in others.
        assert field.default_factory is msgspec.NODEFAULT


@pytest.mark.parametrize(
    "annotation",
    [float, int | float, Any, dict, dict[str, str], list[str], tuple, tuple[float, ...], bytes, object],
)
def test_type_that_has_no_place_in_an_event_is_found(annotation: Any) -> None:
    with pytest.raises(AssertionError, match="no place in an event"):
        written(annotation)


# Instances.


@every_type
@given(data=st.data())
@settings(max_examples=12)
def test_event_is_read_as_it_was_written(payload: type[Event], data: st.DataObject) -> None:
    event = data.draw(INSTANCES[payload])
    entry = type_of(event)
    raw = encode_event(event)
    read = decode_data(entry.name, entry.schema, raw)
    assert type(read) is payload
    assert read == event
    assert bytes(encode_event(read)) == bytes(raw)
    assert encode(msgspec.json.decode(raw)) == bytes(raw)


@every_type
@given(data=st.data())
@settings(max_examples=6)
def test_equal_events_have_equal_bytes_and_hold_no_defaults(payload: type[Event], data: st.DataObject) -> None:
    event = data.draw(INSTANCES[payload])
    # The same again, of other objects.
    again = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(event)), type=payload)
    assert again == event
    assert bytes(encode_event(again)) == bytes(encode_event(event))
    for field in msgspec.structs.fields(payload):
        if not field.required and getattr(event, field.name) == field.default:
            assert field.name not in msgspec.json.decode(encode_event(event))


def test_default_that_was_computed_is_left_out_as_the_default_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even of a type that breaks the rule for defaults, equal events have equal bytes."""

    class Weighed(Event, frozen=True, kw_only=True):
        unit: str = "kilogram"

    entry = EventType("Weighed", 1, Weighed)
    monkeypatch.setitem(BY_NAME, "Weighed", entry)
    by_payload: dict[type[Event], EventType] = {**BY_PAYLOAD, Weighed: entry}
    monkeypatch.setattr(codec, "BY_PAYLOAD", by_payload)

    def decode(data: bytes) -> Event:
        # As msgspec reads a word of a Literal: as the very object that the code holds.
        held = msgspec.json.decode(data).get("unit", "kilogram")
        return Weighed() if held == "kilogram" else Weighed(unit=held)

    decoders: dict[str, Any] = codec._decoders
    monkeypatch.setitem(decoders, "Weighed", (1, decode))
    computed = fresh("kilogram")
    assert bytes(encode_event(Weighed(unit=computed))) == bytes(encode_event(Weighed())) == b"{}"
    assert bytes(encode_event(Weighed(unit="gram"))) == b'{"unit":"gram"}'


@pytest.mark.parametrize("struct", [*EVENT_TYPES, *NESTED], ids=lambda struct: struct.__name__)
def test_default_is_one_of_those_of_which_there_is_one_object_each(struct: type[msgspec.Struct]) -> None:
    """msgspec leaves a field out when it holds the very object that is the default."""
    for field in msgspec.structs.fields(struct):
        assert field.required or field.default in (None, "", 0, 1, False, ()), f"{struct.__name__}.{field.name}"


class _Impostor:
    pass


# By the words of `vocabulary.json`: what such a field must not hold. `bytes`, times, ids and sets are here
# because msgspec writes them as strings and lists; a float because JSON does not tell 1 from 1.0.
def wrong_values(annotation: Any) -> list[Any]:
    text = written(annotation)
    never: list[Any] = [1.5, b"text", object(), _Impostor(), {"a": 1}, {"x"}, [1], ("x", 1)]
    if annotation is str or isinstance(annotation, NewType):
        return [*never, None, 1, True, uuid.UUID(int=0), dt.datetime(2026, 11, 23, tzinfo=dt.UTC)]
    if annotation is int:
        return [*never, None, "1", True, 1.0, float("nan")]
    if annotation is bool:
        return [*never, None, 0, 1, "true"]
    if text.endswith(" | null"):
        return [
            1.5,
            float("nan"),
            b"text",
            object(),
            [1],
            dt.datetime(2026, 11, 23, tzinfo=dt.UTC),
        ]
    if text.startswith("list of "):
        return [1.5, b"text", None, "x", [], ["x"], {"x"}, (1.5,), (None,), (b"x",)]
    return [1.5, b"text", None, 1, "no such word", object(), {}, ()]


@every_type
@given(data=st.data())
@settings(max_examples=3)
def test_field_that_holds_another_type_is_refused(payload: type[Event], data: st.DataObject) -> None:
    event = data.draw(INSTANCES[payload])
    for field in msgspec.structs.fields(payload):
        for wrong in wrong_values(field.type):
            held = {f: getattr(event, f) for f in payload.__struct_fields__} | {field.name: wrong}
            with pytest.raises(TypeError):
                encode_event(payload(**held))


@given(st.integers())
@example(2**63)
@example(-(2**63) - 1)
@settings(max_examples=30)
def test_integer_of_an_event_fits_64_bits(number: int) -> None:
    event = vocabulary.EngineStarted(software="tidelog", host="a", pid=number)
    if -(2**63) <= number < 2**63:
        assert msgspec.json.decode(encode_event(event))["pid"] == number
    else:
        with pytest.raises(ValueError, match="64-bit"):
            encode_event(event)


def test_only_declared_classes_are_events() -> None:
    class Undeclared(Event, frozen=True, kw_only=True):
        why: str = ""

    unknown = UnknownEvent(type="Pinned", schema=1, data=msgspec.Raw(b"{}"))
    for other in (Undeclared(), Event(), unknown):
        with pytest.raises(TypeError, match="is no event of the vocabulary"):
            encode_event(other)


# Projections hold what events said: their rows follow the rules that make bytes equal.


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_row_can_be_asked_for_by_every_value_of_a_column(projection: Any) -> None:
    """A default is not written, so a column of it would be empty: only None may be one."""
    fields = {field.name: field for field in msgspec.structs.fields(projection.row)}
    for path in projection.columns.values():
        field = fields[path.removeprefix("$.")]
        assert field.required or field.default is None


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda projection: projection.name)
def test_row_has_no_default_that_is_told_by_identity(projection: Any) -> None:
    for field in msgspec.structs.fields(projection.row):
        assert field.required or field.default in ("", 0, None, False, ())
