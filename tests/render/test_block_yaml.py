"""What is read line by line says the same as what libyaml reads, and the rest is left to that."""

import random

import pytest

from tidelog.engine.block_yaml import Block, NotBlockError
from tidelog.engine.documents import _WORDS, Document, Reader, YamlError, _number, documents

MANIFEST = """\
# Source: podinfo/templates/deployment.yaml
apiVersion: apps/v1
kind: Deployment   # of one
metadata:
  name: "web-1"
  labels: {app: podinfo, 'app.kubernetes.io/part-of': "a b", m: 1}

  annotations:
spec:
  replicas: 2
  template:
    spec:
      containers:
      - name: main
        image: registry.example.com:5000/podinfo:9.1
        command: ["/bin/sh", -c, "a, b"]
        args:
          - --level=debug
          - 0.5
          -   - on
              - null
        ports:
        - containerPort: 0x50
          name: http
      - name: other
        env: []
data:
  text: |
    one
      two

    # three
  stripped: |-
    four

  last: 010
"""


def read(text: str) -> list[Document] | None:
    """None where it is given up."""
    try:
        found = Block(text, _WORDS, _number)
    except NotBlockError:
        return None
    return [Document(found.value, found.line, found.keys)]


def libyaml(text: str) -> list[Document] | str:
    try:
        return list(Reader(text).documents())
    except YamlError as error:
        return str(error)


@pytest.mark.parametrize(
    "text", [MANIFEST, MANIFEST.removesuffix("\n"), "- a\n- b: 1\n  c:\n  - d\n-  e:\n   f: g\n", "  a: 1\n"]
)
def test_a_manifest_is_read_as_libyaml_reads_it(text: str) -> None:
    found = read(text)

    assert found is not None
    assert repr(found) == repr(libyaml(text)) == repr(documents(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# a\n",
        "a\n",
        "- \n",
        "a: 1\na: 2\n",
        "a: b: c\n",
        "a: x\n  y: 1\n",
        "a: x\n  y\n",
        "a:\n    b: 1\n  c: 1\n",
        "a: &b 1\nc: *b\n",
        "a: !!str 1\n",
        "a: >\n  b\n",
        "a: |+\n  b\n",
        "a: |2\n  b\n",
        "a: |\n",
        "a: |\n  b",
        'a: "b\\n"\n',
        "a: 'b''c'\n",
        'a: "b\n  c"\n',
        "<<: {a: 1}\n",
        "a: {b: 1, b: 2}\n",
        "a: {b}\n",
        "a: [b,]\n",
        "a: {b: 1\n  }\n",
        "---\na: 1\n",
        "a: 1\n---\nb: 1\n",
        "a: 1\n...\n",
        "? a\n: b\n",
        "a: .inf\n",
        "on: 1\n",
        "1: a\n",
        "a:\tb\n",
        "a: b\r\n",
        "a: \u00e9\n",
        "\ufeffa: 1\n",
        "- a\n  - b\n",
        "- a\nb: 1\n",
        "a: 1\n- b\n",
        "a: @b\n",
        "a: b\x07\n",
        "- " * 60 + "a\n",
    ],
)
def test_what_is_not_surely_the_same_is_left_to_libyaml(text: str) -> None:
    assert read(text) is None


TEXTS = [
    "x",
    "1",
    "-1",
    "0x1",
    "true",
    "~",
    "a b: c",
    "a:b",
    "a#b",
    "a #b",
    "'y'",
    '"z: #"',
    "{}",
    "[]",
    "|",
    "|-",
    "-",
    "- a",
    "=",
    "%",
]
KEYS = ["a", "b", "c", "d.e/f", "'k'", '"l"', "on", "g", "1", "a b", "<<", ""]


def some_flow(chance: random.Random, depth: int = 0) -> str:
    kind = chance.random()
    space = chance.choice(["", "", " "])
    if depth < 3 and kind < 0.3:
        pairs = (
            f"{chance.choice(KEYS)}{chance.choice([': ', ': ', ':', ' : '])}{some_flow(chance, depth + 1)}"
            for _ in range(chance.randrange(4))
        )
        return f"{{{space}{f',{space}'.join(pairs)}{space}}}"
    if depth < 3 and kind < 0.5:
        return f"[{space}{f'{space}, '.join(some_flow(chance, depth + 1) for _ in range(chance.randrange(4)))}{space}]"
    return chance.choice(TEXTS)


def some_line(chance: random.Random) -> str:
    indent = " " * chance.choice([0, 0, 0, 2, 2, 4, 1, 3])
    dashes = "".join(chance.choice(["", "- ", "-  "]) for _ in range(2))
    said = chance.choice(["", some_flow(chance), chance.choice(TEXTS), chance.choice(TEXTS)])
    key = chance.choice(["", *(f"{key}:" for key in KEYS)])
    return (
        f"{indent}{dashes}{key}{' ' * bool(said)}{said}{chance.choice(['', '', '', ' ', ' # d', '#e'])}"
        + "\n" * chance.choice([1, 1, 2])
    )


def changed(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    match chance.randrange(3):
        case 0:
            mark: str = chance.choice([*" \n-:#|{}[]'\",", "  ", "\n\n", "- a: b\n", "?", "&a", "\t"])
            return f"{text[:at]}{mark}{text[at:]}"
        case 1:
            return text[:at] + text[at + chance.randrange(1, 4) :]
        case _:
            lines = text.splitlines(keepends=True)
            part = lines[at % len(lines) :][:4]
            chance.shuffle(part)
            return "".join(part)


def test_whatever_is_read_says_what_libyaml_reads(seed: int) -> None:
    chance = random.Random(seed)
    count = 0
    for number in range(6_000):
        if number % 2:
            text = "".join(some_line(chance) for _ in range(chance.randrange(1, 6)))
        else:
            text = changed(chance, changed(chance, MANIFEST))
        found = read(text)
        if found is not None:
            count += 1
            assert repr(found) == repr(libyaml(text)), text
    assert count > 500


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "b " * 100_000 + "\x07",
        "a: " + "[" * 100_000 + "]",
        "- " * 100_000,
        "a: '" + "x" * 200_000,
        " " * 200_000 + "\x07",
    ],
)
def test_no_text_costs_more_than_its_length(text: str) -> None:
    """More than that is so much for these that the test does not end in its time."""
    assert read(text) is None
