"""A secret value stands in no text that was filtered, whatever form it had there."""

import base64
import html
import json
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidelog.engine.secrecy import MASK, SecretValues
from tidelog.engine.secrecy import matcher as matching
from tidelog.engine.secrecy import values as filtering

PASSWORD = 'Pa$$ "w0rd"/é+🌊'


def as_go_quotes(text: str) -> str:
    """As Go's %q of a string with what is not ASCII escaped."""
    return json.dumps(text).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": json.dumps,
    "JSON, not escaped": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON in JSON": lambda text: json.dumps(json.dumps({"message": text})),
    "Go": as_go_quotes,
    "Python": repr,
    "Python bytes": lambda text: repr(text.encode()),
    "octal": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "URL": lambda text: quote(text, safe=""),
    "URL, lower case": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "URL path": quote,
    "URL query": quote_plus,
    "URL in JSON": lambda text: json.dumps("https://x/?q=" + quote(text, safe="")),
    "URL in URL": lambda text: quote("https://x/?q=" + quote(text, safe=""), safe=""),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "basic authentication": lambda text: base64.b64encode(f"admin:{text}".encode()).decode(),
    "base64 of JSON": lambda text: base64.b64encode(b'{"a":"' + text.encode() + b'"}').decode(),
    "base64, wrapped": lambda text: base64.encodebytes(b"x" * 50 + text.encode() + b"y" * 50).decode(),
    "base64, wrapped and indented": lambda text: (
        base64.encodebytes(b"x" * 50 + text.encode() + b"y").decode().replace("\n", "\n    ")
    ),
    "base64 in a URL": lambda text: quote(base64.b64encode(text.encode()).decode(), safe=""),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    "HTML": html.escape,
    "YAML in single quotes": lambda text: "'" + text.replace("'", "''") + "'",
    "shell": shlex.quote,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("value", ["hunter2", PASSWORD, "it's <b>&", "x" * 40 + "y" * 40, "ünïcode wörds here"])
def test_it_is_taken_out_in_every_form(form: Callable[[str], str], value: str) -> None:
    text = form(value)
    filtered = SecretValues([value]).filter(f"error: {text}, at line 3")
    assert MASK in filtered
    assert filtered.startswith("error: ")
    assert filtered.endswith(", at line 3")
    assert_not_in(value, filtered)


def assert_not_in(value: str, filtered: str) -> None:
    data = value.encode()
    assert value not in filtered
    assert data.hex() not in filtered.lower()
    assert quote(value, safe="") not in filtered
    for before in range(3):
        core = base64.b64encode(b"\0" * before + data).decode().rstrip("=")[4:-1]
        assert core not in filtered


@given(
    st.lists(st.text(min_size=4, max_size=40), min_size=1, max_size=5),
    st.lists(st.tuples(st.text(max_size=10), st.integers(0, 4), st.sampled_from(sorted(FORMS))), max_size=5),
)
def test_no_value_is_left_whatever_the_values_and_the_text(
    values: list[str], parts: list[tuple[str, int, str]]
) -> None:
    values = [value for value in values if len(value.strip()) >= 4 and not set(value) & set("\ud800")]
    assume(values)
    assume(all(is_utf8(value) for value in values))
    secrets = SecretValues(values)
    text = " ".join(
        around + FORMS[form](values[index % len(values)]) for around, index, form in parts if is_utf8(around)
    )
    filtered = secrets.filter(text)
    unmasked = filtered.split(MASK)
    for value in values:
        assert not [part for part in unmasked if value in part], (value, text, filtered)
        encoded = base64.b64encode(value.encode()).decode().rstrip("=")
        assert not [part for part in unmasked if encoded[: len(encoded) - 1] in part]


def is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(st.text(alphabet="abc", min_size=4, max_size=9), st.text(alphabet="abc", min_size=4, max_size=9), st.data())
def test_values_that_overlap_leave_no_part_of_either(one: str, other: str, data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="abc", max_size=60))
    filtered = SecretValues([one, other]).filter(text)
    hidden = [False] * len(text)
    for value in (one, other):
        for at in range(len(text)):
            if text.startswith(value, at):
                hidden[at : at + len(value)] = [True] * len(value)
    kept = "".join(character for character, is_hidden in zip(text, hidden, strict=True) if not is_hidden)
    assert filtered.replace(MASK, "") == kept


@given(st.lists(st.text(alphabet="ab", min_size=4, max_size=90), min_size=1, max_size=4), st.data())
def test_every_whole_value_is_covered_however_long_and_however_they_overlap(
    values: list[str], data: st.DataObject
) -> None:
    parts = st.sampled_from(values) | st.text(alphabet="ab", max_size=5)
    cut = st.builds(lambda text, start, end: text[start:end], parts, st.integers(0, 30), st.integers(30, 90))
    text = "".join(data.draw(st.lists(parts | cut, max_size=8)))
    found = SecretValues(values)._search()
    assert found is not None
    hidden = [False] * len(text)
    for start, end in found.find(text):
        hidden[start:end] = [True] * (end - start)
    for value in values:
        for at in range(len(text)):
            if text.startswith(value, at):
                assert all(hidden[at : at + len(value)]), (value, at, text)


@given(st.text())
def test_a_text_without_values_is_left_as_it_is(text: str) -> None:
    assert SecretValues().filter(text) == text
    assert SecretValues(["not in there 8d1f"]).filter(text) == text


@given(st.binary(), st.binary())
def test_bytes_of_any_kind_are_filtered_and_nothing_is_raised(value: bytes, text: bytes) -> None:
    filtered = SecretValues([value]).filter(text)
    assert isinstance(filtered, str)
    filtered.encode()
    if len(value.strip()) >= 4:
        masked = SecretValues([value]).filter(b"<<" + base64.b64encode(value) + b">>")
        assert base64.b64encode(value).decode().rstrip("=") not in masked


@pytest.mark.parametrize(
    ("value", "text", "filtered"),
    [
        ("no", "no, there is no such note", "***, there is *** such note"),
        ("1", "line 1 of 12, x1", "line *** of 12, x1"),
        ("abc", "abc abcd _abc (abc)", "*** abcd _abc (***)"),
        ("", "nothing is masked", "nothing is masked"),
        ("  \n", "nothing  \n is masked", "nothing  \n is masked"),
    ],
)
def test_a_very_short_value_is_taken_out_as_a_word(value: str, text: str, filtered: str) -> None:
    assert SecretValues([value]).filter(text) == filtered


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_a_key_of_a_secret_that_can_be_none_is_taken_for_a_value(field: str) -> None:
    values = SecretValues()
    values.add_secret({"kind": "Secret", field: {"a b pl4nted": "", "a.key_of-ours": ""}})

    assert values.filter("data[a b pl4nted] and data[a.key_of-ours]") == "data[***] and data[a.key_of-ours]"


def test_each_line_of_a_value_is_taken_out() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n\nAQEFAASCBKcwggSj\n-----END KEY-----\n"
    filtered = SecretValues([key]).filter("bad line 'MIIEvQIBADANBgkqhkiG9w0B' of KEY")
    assert filtered == "bad line '***' of KEY"
    indented = "data: |\n" + "".join(f"    {line}\n" for line in key.splitlines())
    assert "AQEFAASCBKcwggSj" not in SecretValues([key]).filter(indented)


def test_a_value_that_is_cut_off_is_taken_out_as_far_as_it_goes() -> None:
    value = "".join(f"{number:04x}" for number in range(200))
    for start, end in ((0, 100), (3, 40), (700, 800), (13, 790)):
        assert SecretValues([value]).filter(f"got '{value[start:end]}...'") == "got '***...'"


def test_a_large_value_is_taken_out_whole() -> None:
    value = "".join(f"{number:08x}" for number in range(25_000))
    secrets = SecretValues([value])
    assert secrets.filter(f"a {value} z") == "a *** z"
    assert secrets.filter(f"a {value[5_000:150_000]} z") == "a *** z"


def test_what_ends_in_a_line_break_by_accident_is_known_without_it() -> None:
    assert SecretValues(["hunter2\n"]).filter("password hunter2 is wrong") == "password *** is wrong"


def test_values_within_values_are_known() -> None:
    login = {"auths": {"r.example.com": {"username": "robot", "password": "hunter2-json"}}}
    env = "USER=ada-l\nexport TOKEN='hunter2 env'\nurl: postgres://ada:hunter2%40url@db/x\n"
    filtered = SecretValues([json.dumps(login), env]).filter(
        "hunter2-json, hunter2 env, hunter2@url, hunter2%40url, " + base64.b64encode(b"robot:hunter2-json").decode()
    )
    assert "hunter2" not in filtered
    assert "r.example.com" in SecretValues([json.dumps(login)]).filter("GET https://r.example.com/v2")


def test_a_secret_is_known_by_what_it_holds() -> None:
    secrets = SecretValues()
    assert not secrets
    data = {"password": base64.b64encode(b"hunter2").decode(), "broken": "not base64!", "number": 3}
    secrets.add_secret({"kind": "Secret", "data": data, "stringData": {"token": "t0ken-t0ken"}})
    filtered = secrets.filter("hunter2 and t0ken-t0ken and not base64! and aHVudGVyMg==")
    assert filtered == "*** and *** and *** and ***=="
    secrets.add_secret({"kind": "Secret", "data": "malformed", "stringData": None})
    assert secrets.filter("hunter2") == MASK


P = "pl4nted-Kx9ww-b4dly"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"data": {"pin": 739182646}}, "{Value:739182646}"),
        ({"data": {"pin": 739182646.5}}, "{Value:7.391826465e+08}"),
        ({"stringData": {"pin": 739182646.5}}, "739182646.5"),
        ({"data": {"pin": ["739182646"]}}, '{Value:[]interface {}{"739182646"}}'),
        ({"stringData": {"pin": {"inner": {"z": P}}}}, f'map[string]interface {{}}{{"z":"{P}"}}'),
        ({"data": [P]}, f'expected map, got &{{["{P}"]}}'),
        ({"stringData": P}, f'got "{P}"'),
        ({"type": [P]}, f'expected string, got &{{["{P}"]}}'),
        ({"immutable": P}, f'json: cannot unmarshal "{P}"'),
        ({"immutable": 739182646}, "expected boolean, got 739182646"),
        ({"password": {"is": P}}, f"unknown field: {P}"),
        ({"stringData": {f"{P} !": "x"}}, f'data[{P} !]: Invalid value: "{P} !"'),
        ({"stringData": {"k3y0123456789abcdef": "x"}}, ".data.k3y0123456789abcdef: expected string"),
        ({"metadata": {"name": "a", "labels": {"x": f"{P} !!"}}}, f'Invalid value: "{P} !!"'),
        ({"metadata": {"name": "a", "annotations": {f"{P} !": "x"}}}, f'Invalid value: "{P} !"'),
        ({"metadata": {"annotations": {filtering.LAST_APPLIED: json.dumps({"stringData": {"a": P}})}}}, P),
        ({"metadata": {"annotations": {filtering.LAST_APPLIED: "{"}, "labels": P}, "data": {"a": P}}, P),
    ],
)
def test_what_a_secret_holds_is_known_whatever_its_type_and_place(fields: dict[str, Any], text: str) -> None:
    secrets = SecretValues()
    secrets.add_secret({"apiVersion": "v1", "kind": "Secret", **fields})
    filtered = secrets.filter(f"cannot apply it: {text}")
    assert filtered.startswith("cannot apply it: ")
    for part in (P, "739182646", "7.391826465e", "k3y0123456789abcdef"):
        assert part not in filtered


def test_the_words_of_a_secret_are_left_in_a_text() -> None:
    secrets = SecretValues()
    metadata = {"name": "login", "namespace": "shop", "labels": {"app": "web"}, "annotations": {"note": "by hand"}}
    data = {"tls.crt": "aHVudGVyMg==", ".dockerconfigjson": "aHVudGVyMg==", "ssh-privatekey": "aHVudGVyMg=="}
    secrets.add_secret(
        {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": True, "metadata": metadata, "data": data}
    )
    text = "Secret login in shop of web, by hand, v1, Opaque: data[.dockerconfigjson], tls.crt, ssh-privatekey, true"
    assert secrets.filter(text) == text
    assert secrets.filter("hunter2") == MASK


def test_of_an_object_of_which_nobody_knows_what_is_secret_only_the_names_are_shown() -> None:
    secrets = SecretValues()
    metadata = {"name": "web", "namespace": "shop", "labels": {"app": "LABEL!"}}
    secrets.add_made(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 91827}]}}
    )
    filtered = secrets.filter("Service shop/web: spec.ports[0].port: 91827; metadata.labels: LABEL!")
    assert filtered == "Service shop/web: spec.ports[0].port: ***; metadata.labels: ***"


def test_what_is_told_in_any_case_is_not_hidden_because_an_object_holds_it_beside_a_secret() -> None:
    labels = {"app": "web", "chart": "web-1.0.0"}
    data = {"version": "1.0.0", "revision": "1", "all": "version: 1.0.0\npassword: hunter2"}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": labels}, "data": data}
    for known in ((), ("1.0.0",)):
        secrets = SecretValues(known)
        secrets.tell({"web", "1.0.0"})
        secrets.add_secret(made)
        secrets.add_made(made)
        version = "***" if known else "1.0.0"
        said = secrets.filter("chart web@1.0.0: hunter2 in web-1.0.0, revision 1")
        assert said == f"chart web@{version}: *** in ***, revision ***"


def test_what_stands_in_a_secret_is_hidden_though_it_is_told_elsewhere() -> None:
    secrets = SecretValues()
    secrets.tell({"1.0.0"})
    secrets.add_secret({"apiVersion": "v1", "kind": "Secret", "stringData": {"version": "1.0.0"}})
    assert secrets.filter("chart web@1.0.0") == "chart web@***"


def test_values_that_come_later_are_taken_out_too() -> None:
    secrets = SecretValues(["first-value"])
    assert secrets.filter("first-value second-value") == "*** second-value"
    secrets.add([b"second-value"])
    assert secrets.filter("first-value second-value") == "*** ***"


@pytest.mark.slow
def test_a_repetitive_text_takes_time_by_its_length() -> None:
    """No time is asserted: what is quadratic would not come back before the test's limit."""
    secrets = SecretValues(["a" * length for length in range(4, 60)] + ["a" * 1_000, "\\" * 50, "%" * 50])
    for text in ("a" * 100_000, "\\" * 100_000, "%61" * 30_000, " \n" * 40_000, "\\x61" * 25_000):
        secrets.filter(text)
    assert secrets.filter("a" * 100_000) == MASK


def test_a_text_that_is_too_long_is_cut_off_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filtering, "TEXT_CHARACTERS_MAX", 40)
    filtered = SecretValues(["hunter2-hunter2"]).filter("word " * 6 + "hunter2-hunter2 " + "word " * 20)
    assert filtered == "word " * 6 + "… (116 more characters are not shown)"


def test_more_values_than_can_be_looked_for_hide_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "PATTERN_CHARACTERS_MAX", 100)
    secrets = SecretValues(["x" * 50 + "y" * 100])
    assert secrets.filter("harmless").startswith("*** (")
    assert secrets.holds("harmless")


def test_a_defect_hides_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = SecretValues(["hunter2"])

    def broken(text: str) -> list[tuple[int, int]]:
        raise RuntimeError(text)

    monkeypatch.setattr(secrets._search(), "find", broken)
    assert secrets.filter("hunter2") == filtering.WITHHELD
    assert secrets.holds("anything")


def test_it_does_not_show_itself() -> None:
    secrets = SecretValues(["hunter2"])
    assert "hunter2" not in f"{secrets!r} {secrets}"
