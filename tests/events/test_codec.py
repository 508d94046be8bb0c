"""Between events and the bytes that are stored."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.events.strategies import EVENT_TYPES, INSTANCES, instances, segments
from tidelog.events import codec, vocabulary
from tidelog.events.bodies import Body, BodyRef
from tidelog.events.canonical import NotCanonicalError, encode
from tidelog.events.codec import (
    JsonObject,
    MalformedEventError,
    UnknownEvent,
    bodies_of,
    decode_data,
    decode_event,
    encode_envelope,
    encode_event,
    type_of,
)
from tidelog.events.digest import Digest
from tidelog.events.envelope import ENGINE, Actor, Envelope, Proof, decode_envelope
from tidelog.events.moment import Time
from tidelog.events.names import EventId, Revision, RunId, StreamName, TraceId
from tidelog.events.vocabulary import Event, Marked, Pinned, Suspended
from tidelog.events.vocabulary.base import BY_NAME, EventType

ID = EventId("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
STREAM = StreamName("prod/kustomize.toolkit.fluxcd.io/Kustomization/flux-system/apps")
MARKED = b'{"label":"release"}'


def envelope(type: str = "Marked", schema: int = 1, data: bytes = MARKED, **optional: Any) -> Envelope:
    return Envelope(
        position=7,
        stream=STREAM,
        version=3,
        id=ID,
        time=Time("2026-11-23T01:36:51.123456Z"),
        actor=ENGINE,
        type=type,
        schema=schema,
        data=msgspec.Raw(data),
        **optional,
    )


# What this release does not know.


@pytest.mark.parametrize(
    ("name", "schema"), [("QuotaRaised", 1), ("QuotaRaised", 9), ("Marked", 2), ("marked", 1), ("", 1)]
)
@pytest.mark.parametrize(
    "data",
    [
        b'{"b":[1,2],"a":{"label":null}}',
        b'{ "a" : 1.0,\n"a": 1e400 }',  # not as this release would write it
        b'"\xf0\x9f\x98\x80"',
        b"null",
    ],
)
def test_unknown_type_or_newer_schema_is_shown_and_its_bytes_are_untouched(name: str, schema: int, data: bytes) -> None:
    event = decode_event(envelope(name, schema, data))
    assert event == UnknownEvent(type=name, schema=schema, data=msgspec.Raw(data))
    assert isinstance(event, UnknownEvent)
    assert bytes(event.data) == data
    assert f"type={name!r}, schema={schema}" in repr(event)


@given(st.text(min_size=1, max_size=10), st.integers(1, 99), st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
def test_unknown_event_is_exported_as_it_was_stored(name: str, schema: int, payload: dict[str, str]) -> None:
    stored = encode_envelope(envelope(f"{name}!", schema, encode(payload)))
    read = decode_envelope(stored)
    event = decode_event(read)
    assert isinstance(event, UnknownEvent)
    again = msgspec.structs.replace(read, data=event.data)
    assert encode_envelope(again) == stored
    assert msgspec.json.decode(stored)["data"] == payload


@pytest.mark.parametrize("payload", EVENT_TYPES, ids=lambda payload: payload.__name__)
@given(data=st.data())
@settings(max_examples=5)
def test_fields_that_a_later_release_added_are_read_over(payload: type[Event], data: st.DataObject) -> None:
    event = data.draw(INSTANCES[payload])
    entry = type_of(event)
    more: dict[str, Any] = {"a_later_field": {"x": [1, None]}, "~": "\U0001f600"}
    raw = msgspec.Raw(encode({**msgspec.json.decode(encode_event(event)), **more}))
    assert decode_data(entry.name, entry.schema, raw) == event


# What is wrong.


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"label":1}',
        b'{"label":null}',
        b'{"label":"a","why":2}',
        b'{"label":"\xff"}',
        b'{"label":"\\ud800"}',
        b'{"label":"a"}{',
        b'{"label":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_payload_that_does_not_fit_its_type_is_malformed_and_the_type_is_named(data: bytes) -> None:
    with pytest.raises(MalformedEventError, match="a Marked of schema 1 is malformed: "):
        decode_event(envelope("Marked", 1, data))


@pytest.mark.parametrize("schema", [0, -1])
def test_schema_before_the_first_is_malformed(schema: int) -> None:
    with pytest.raises(MalformedEventError, match=f"a Marked of schema {schema}"):
        decode_event(envelope("Marked", schema))


@pytest.mark.parametrize("payload", EVENT_TYPES, ids=lambda payload: payload.__name__)
def test_payload_without_its_required_fields_is_malformed(payload: type[Event]) -> None:
    name = payload.__name__
    required = [field.name for field in msgspec.structs.fields(payload) if field.required]
    if required:
        with pytest.raises(MalformedEventError, match=f"a {name} of schema 1 .*`{required[0]}`"):
            decode_data(name, 1, msgspec.Raw(b"{}"))
    else:
        assert decode_data(name, 1, msgspec.Raw(b"{}")) == payload()


# Older schema versions.


@pytest.fixture
def third_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `Marked` were at its third schema: `name` became `label`, and `why` was a list of lines."""

    def to_second(payload: JsonObject) -> JsonObject:
        return {**payload, "label": payload["name"]}

    def to_third(payload: JsonObject) -> JsonObject:
        lines = payload.get("why", [])
        assert isinstance(lines, list)
        return {"label": payload["label"], "why": "\n".join(lines)}

    monkeypatch.setitem(BY_NAME, "Marked", EventType("Marked", 3, Marked))
    monkeypatch.setitem(codec._decoders, "Marked", (3, msgspec.json.Decoder(Marked).decode))
    monkeypatch.setattr(codec, "UPCASTERS", {("Marked", 1): to_second, ("Marked", 2): to_third})


@pytest.mark.usefixtures("third_schema")
@pytest.mark.parametrize(
    ("schema", "data"),
    [
        (1, b'{"name":"release","why":["one","two"]}'),
        (2, b'{"label":"release","why":["one","two"]}'),
        (3, b'{"label":"release","why":"one\\ntwo"}'),
    ],
)
def test_old_schema_is_brought_up_to_date_step_by_step(schema: int, data: bytes) -> None:
    assert decode_event(envelope("Marked", schema, data)) == Marked(label="release", why="one\ntwo")


@pytest.mark.usefixtures("third_schema")
def test_schema_after_the_newest_is_unknown_and_what_is_brought_up_badly_is_malformed() -> None:
    assert isinstance(decode_event(envelope("Marked", 4, b"{}")), UnknownEvent)
    # The step keeps the number that the newest schema does not allow.
    with pytest.raises(MalformedEventError, match="a Marked of schema 1"):
        decode_event(envelope("Marked", 1, b'{"name":5}'))
    with pytest.raises(MalformedEventError, match="a Marked of schema 2"):
        decode_event(envelope("Marked", 2, b"[]"))


@pytest.mark.usefixtures("third_schema")
def test_stored_bytes_of_an_old_schema_stay_as_they_are() -> None:
    stored = encode_envelope(envelope("Marked", 1, b'{"name":"release"}'))
    read = decode_envelope(stored)
    assert decode_event(read) == Marked(label="release")
    assert encode_envelope(read) == stored


def test_every_schema_before_the_newest_has_its_step() -> None:
    wanted = {(entry.name, version) for entry in BY_NAME.values() for version in range(1, entry.schema)}
    assert set(codec.UPCASTERS) == wanted


# Bodies.


def body_refs_in(value: Any) -> list[BodyRef]:
    """All that is in a payload, however deep: the codec may look only where types say so."""
    if isinstance(value, BodyRef):
        return [value]
    if isinstance(value, msgspec.Struct):
        return [ref for name in value.__struct_fields__ for ref in body_refs_in(getattr(value, name))]
    if isinstance(value, tuple):
        return [ref for item in value for ref in body_refs_in(item)]
    return []


@pytest.mark.parametrize("payload", EVENT_TYPES, ids=lambda payload: payload.__name__)
@given(data=st.data())
@settings(max_examples=6)
def test_bodies_of_an_event_are_all_that_it_names(payload: type[Event], data: st.DataObject) -> None:
    event = data.draw(INSTANCES[payload])
    assert list(bodies_of(event)) == body_refs_in(event)


def test_some_events_name_two_bodies_and_some_none() -> None:
    a, b = Body.of(b"a").ref, Body.of(b"b").ref
    declared = vocabulary.TargetDeclared(uid="u", generation=1, spec=a, status=b)
    assert list(bodies_of(declared)) == [a, b]
    assert list(bodies_of(vocabulary.TargetDeclared(uid="u", generation=1, spec=a))) == [a]
    assert list(bodies_of(Marked(label="a"))) == []


# The envelope.


def test_envelope_is_canonical_json_without_what_is_absent() -> None:
    assert encode_envelope(envelope()) == (
        b'{"actor":{"kind":"engine","name":"tidelog","proof":{"by":"process","kind":"authenticated"}},'
        b'"data":{"label":"release"},"id":"017f22e2-79b0-7cc3-98c4-dc0c0c07398f","position":7,"schema":1,'
        b'"stream":"prod/kustomize.toolkit.fluxcd.io/Kustomization/flux-system/apps",'
        b'"time":"2026-11-23T01:36:51.123456Z","type":"Marked","version":3}'
    )


def test_envelope_tells_run_trace_cause_and_outside_time_where_it_has_them() -> None:
    optional: dict[str, Any] = {
        "occurred": Time("2026-11-23T01:00:00.000000Z"),
        "run": RunId(ID),
        "trace": TraceId(ID),
        "cause": ID,
    }
    stored = encode_envelope(envelope(**optional))
    held = msgspec.json.decode(stored)
    assert {name: held[name] for name in optional} == optional
    assert list(held) == sorted(held)
    for absent in optional:
        rest = {name: value for name, value in optional.items() if name != absent}
        assert absent not in msgspec.json.decode(encode_envelope(envelope(**rest)))


@given(instances(Envelope), st.sampled_from(EVENT_TYPES), st.data())
@settings(max_examples=60)
def test_envelope_is_read_as_it_was_written(drawn: Envelope, payload: type[Event], data: st.DataObject) -> None:
    event = data.draw(INSTANCES[payload])
    whole = msgspec.structs.replace(drawn, type=payload.__name__, schema=1, data=encode_event(event))
    stored = encode_envelope(whole)
    assert stored == encode(msgspec.json.decode(stored))
    read = decode_envelope(stored)
    assert read == whole
    assert decode_event(read) == event
    assert encode_envelope(read) == stored


def test_envelope_with_a_lone_surrogate_has_no_form() -> None:
    for bad in (
        msgspec.structs.replace(envelope(), stream=StreamName("\ud800")),
        msgspec.structs.replace(envelope(), actor=Actor(kind="git", name="\udfff", proof=Proof(kind="claimed"))),
    ):
        with pytest.raises(NotCanonicalError, match="lone surrogate"):
            encode_envelope(bad)
    with pytest.raises(NotCanonicalError, match="lone surrogate"):
        encode_event(Suspended(why="\ud800"))


@pytest.mark.parametrize("missing", ["position", "stream", "version", "id", "time", "actor", "type", "schema", "data"])
def test_bytes_without_a_required_part_are_no_envelope(missing: str) -> None:
    held = msgspec.json.decode(encode_envelope(envelope()))
    del held[missing]
    with pytest.raises(msgspec.DecodeError, match=missing):
        decode_envelope(msgspec.json.encode(held))


def test_part_that_a_later_release_added_to_the_envelope_is_read_over() -> None:
    held = msgspec.json.decode(encode_envelope(envelope()))
    assert decode_envelope(encode({**held, "zone": {"a": 1}})) == envelope()


# Actors.


@pytest.mark.parametrize(
    ("actor", "shown"),
    [
        (
            Actor(kind="user", name="jane@corp", proof=Proof(kind="authenticated", by="kubernetes")),
            "user jane@corp (authenticated by kubernetes)",
        ),
        (
            Actor(kind="git", name="Jane", proof=Proof(kind="signed", by="SHA256:abc")),
            "git Jane (signed by SHA256:abc)",
        ),
        (Actor(kind="git", name="Jane", proof=Proof(kind="claimed")), "git Jane (claimed)"),
        (Actor(kind="manager", name="kubectl-edit", proof=Proof(kind="inferred")), "manager kubectl-edit (inferred)"),
        (ENGINE, "engine tidelog (authenticated by process)"),
    ],
)
def test_actor_is_shown_with_the_proof(actor: Actor, shown: str) -> None:
    assert str(actor) == f"{actor}" == shown


@given(instances(Actor))
def test_actor_is_never_shown_without_the_proof(actor: Actor) -> None:
    proof = f"({actor.proof.kind} by {actor.proof.by})" if actor.proof.by else f"({actor.proof.kind})"
    assert str(actor).endswith(f" {proof}")
    assert str(actor).startswith(f"{actor.kind} {actor.name} ")


@given(st.one_of(segments, st.just("")), instances(Proof))
def test_actors_that_differ_in_proof_differ_in_what_is_stored(name: str, proof: Proof) -> None:
    claimed = Actor(kind="git", name=name, proof=Proof(kind="claimed"))
    other = Actor(kind="git", name=name, proof=proof)
    same = encode_envelope(msgspec.structs.replace(envelope(), actor=claimed)) == encode_envelope(
        msgspec.structs.replace(envelope(), actor=other)
    )
    assert same == (str(claimed) == str(other)) == (claimed == other)


def test_pin_names_a_set_a_place_and_the_revision_that_was_left() -> None:
    pinned = Pinned(set=Digest("sha256:0"), position=4, left=Revision("main@sha1:0"), why="incident 12")
    assert bytes(encode_event(pinned)) == (b'{"left":"main@sha1:0","position":4,"set":"sha256:0","why":"incident 12"}')
