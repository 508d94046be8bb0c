"""The forms in which a secret value may stand in a text, beside those that `views` reads back."""

import base64
import html
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

SHORT = 4
"""A value with fewer characters is looked for as a whole word only: as a part, it is everywhere."""
NESTED_MAX = 4
"""How deep values are looked for within values."""
_assignment = re.compile(r"""\s*(?:export\s+|-\s+)?[\w./-]+\s*[:=]\s*["']?(\S.{2,}\S)(?<!["'])""")
PLAIN_WORDS = frozenset(("true", "false", "null", "none", "True", "False", "None"))
"""Words that stand everywhere, whatever they are the value of."""
_armour = re.compile(r"-----[A-Z0-9 ]+-----")


class Form(NamedTuple):
    """A text to look for."""

    text: str
    word: bool = False
    """Whether it counts as a whole word only."""
    before: int = 0
    after: int = 0
    """How many characters of base64 beside it hold bits of the value too."""


def forms_of(value: bytes) -> Iterator[Form]:
    """Every form of a value: as it is, its lines, in base64 at each place in a longer one, in hex, quoted."""
    for part in _parts(value):
        yield from _texts_of(part)
        if len(part) >= SHORT:
            yield from _base64(part)
            yield Form(part.hex())
            yield Form(part.hex().upper())
        else:
            yield Form(base64.b64encode(part).decode(), word=True)


def _texts_of(part: bytes) -> Iterator[Form]:
    try:
        text = part.decode()
    except UnicodeDecodeError:
        # No text: as it reads where its bytes are escaped, and where each was taken for a character.
        for garbled in (part.decode("utf-8", "surrogateescape"), part.decode("latin-1")):
            yield Form(garbled, word=len(garbled) < SHORT)
        return
    yield from _quoted(text)
    if "\n" in text:
        for line in map(str.strip, text.splitlines()):
            if len(line) >= SHORT and not _armour.fullmatch(line):
                yield from _quoted(line)


def values_in(value: bytes, depth: int = NESTED_MAX) -> Iterator[bytes]:
    """The value, and what is a secret by itself within it.

    That is the texts in a JSON document, what stands behind a name in YAML or an environment file, the password in a
    URL. A list of words that are everywhere (`true`) is left out, and nothing else: rather one mask too many.
    """
    yield value
    if depth == 0:
        return
    with suppress(ValueError, RecursionError):
        text = value.decode()
        stripped = text.strip()
        if stripped.startswith(("{", "[")):
            for leaf in _texts(json.loads(stripped)):
                yield from values_in(leaf.encode("utf-8", "surrogatepass"), depth - 1)
            return
        for line in stripped.splitlines():
            found = _assignment.match(line)
            if found and found[1] not in PLAIN_WORDS:
                yield from values_in(found[1].encode(), depth - 1)
        if "://" in stripped and "@" in stripped:
            password = urlsplit(stripped).password
            if password:
                yield password.encode()
                yield unquote(password).encode()


def _texts(document: object) -> Iterator[str]:
    if isinstance(document, str):
        if len(document) >= SHORT:
            yield document
    elif isinstance(document, dict):
        for value in document.values():
            yield from _texts(value)
    elif isinstance(document, list):
        for value in document:
            yield from _texts(value)


def _parts(value: bytes) -> Iterator[bytes]:
    """The value, and without the white space around it, which is often there by accident."""
    if value:
        yield value
    stripped = value.strip()
    if stripped and stripped != value:
        yield stripped


def _quoted(text: str) -> Iterator[Form]:
    word = len(text) < SHORT
    quoted = {
        text: None,
        text.replace("'", "''"): None,
        text.replace('"', '""'): None,
        shlex.quote(text): None,
        text.replace(" ", "+"): None,  # in the query of a URL
        html.escape(text): None,
        html.escape(text).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"): None,
    }
    for form in quoted:
        if form.strip():
            yield Form(form, word=word)


def _base64(value: bytes) -> Iterator[Form]:
    """The characters of base64 that the value alone decides, at each place that it may have in a group."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value).decode().rstrip("=")
        first = (0, 2, 3)[before]
        is_whole = (before + len(value)) % 3 == 0
        core = encoded[first:] if is_whole else encoded[first:-1]
        for text in {core: None, core.replace("+", "-").replace("/", "_"): None}:
            yield Form(text, before=min(before, 1), after=0 if is_whole else 1)
