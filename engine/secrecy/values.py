"""The secret values of a run, and a filter for texts from outside that may hold them."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from decimal import Decimal
from threading import Lock
from typing import Any, TypeAlias

from tidelog.engine.secrecy.forms import Form, forms_of, values_in
from tidelog.engine.secrecy.matcher import Matcher, Span, TooManyValuesError

KubeObject: TypeAlias = dict[str, Any]
MASK = "***"
WITHHELD = "*** (a text that could not be searched for secret values, and so is not shown)"
TEXT_CHARACTERS_MAX = 2**18
"""Of a text that is filtered; what is beyond is cut off, and said to be. At worst (all escapes) it takes a second."""
WORD_CHARACTERS_MAX = 4_096
"""A text is cut off between words, where one ends so near."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
NAME_CHARACTERS = 16
"""From how many on the name of a field, of letters and digits, is taken for a secret in the wrong place."""

_RIGHT: dict[str, type] = {
    "apiVersion": str,
    "kind": str,
    "metadata": dict,
    "type": str,
    "immutable": bool,
    "data": object,
    "stringData": object,
}
"""The fields of a Secret; what has another type, or another name, is a value in the wrong place."""
_CALLED = frozenset(("apiVersion", "kind", "namespace", "name"))
_key_name = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_label_value = re.compile(r"(?:(?:[A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_qualified_name = re.compile(r"(?:[a-z0-9.-]{1,253}/)?(?:[A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]")


class SecretValues:
    """Knows secret values, and takes them out of texts. Safe for use by several threads.

    It keeps the values in memory for as long as it lives: one for each run.
    """

    def __init__(self, values: Iterable[str | bytes] = ()) -> None:
        self._lock = Lock()
        self._values: set[bytes] = set()
        self._public: set[bytes] = set()
        self._matcher: Matcher | None = None
        self._overflowed = False
        self.add(values)

    def __repr__(self) -> str:
        return f"<SecretValues: {len(self._values)}>"

    def __bool__(self) -> bool:
        return bool(self._values)

    def tell(self, words: Iterable[str]) -> None:
        """Makes words known that are told in any case, and first: no object that holds them beside a secret hides them.

        Nor do short values that stand in them: `1` in a version. One that is known to be a secret value itself, or
        stands in a Secret, is one all the same.
        """
        with self._lock:
            self._public |= {word.encode() for word in words if word}

    def add(self, values: Iterable[str | bytes]) -> None:
        """Makes values known; empty ones are none."""
        self._add(values)

    def _add(self, values: Iterable[str | bytes], public: AbstractSet[bytes] = frozenset()) -> None:
        found = set()
        for value in values:
            data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
            found |= {part for part in values_in(data) if part.strip()}
        found -= public
        with self._lock:
            if not found <= self._values:
                self._values |= found
                self._matcher = None

    def forget(self, values: Iterable[str]) -> None:
        """Makes values unknown again, of which none is good for anything any more."""
        gone = {value.encode() for value in values}
        with self._lock:
            if gone & self._values:
                self._values -= gone
                self._matcher = None

    def add_secret(self, obj: KubeObject) -> None:
        """Makes known what a Secret holds, in `data` and `stringData`, and in the annotation of `kubectl apply`.

        Of any type, and in the wrong place too: the server quotes what it refuses.
        """
        self._add(_values_of(obj), frozenset() if obj.get("kind") == "Secret" else self._public)

    def add_made(self, obj: KubeObject) -> None:
        """Makes known all that stands in an object but its names, where it is not known which of it is secret."""
        metadata = obj.get("metadata")
        rest = {name: held for name, held in metadata.items() if name not in _CALLED} if metadata else {}
        values = {name: held for name, held in obj.items() if name not in _CALLED}
        self._add(_held({**values, "metadata": rest}), self._public)

    @property
    def is_prepared(self) -> bool:
        """Whether a text can be filtered at once."""
        return self._matcher is not None or self._overflowed or not self._values

    def prepare(self) -> None:
        """Does now what the first use would do: with many or large values, in a worker thread."""
        self._search()

    def holds(self, text: str) -> bool:
        """Whether a secret value stands in a text, in any form; True if that cannot be told."""
        try:
            matcher = self._search()
            return matcher is None or bool(matcher.find(text))
        except Exception:  # noqa: BLE001 - what cannot be searched is taken for secret
            return True

    def found_in(self, text: str) -> list[str]:
        """The parts of a text that are secret values, in whatever form; all of it if that cannot be told."""
        try:
            matcher = self._search()
            return [text] if matcher is None else [text[start:end] for start, end in matcher.find(text)]
        except Exception:  # noqa: BLE001 - what cannot be searched is taken for secret
            return [text]

    def filter(self, text: str | bytes) -> str:
        """A text with `***` where a secret value stood, in any form. Never raises."""
        try:
            return self._filter(text)
        except Exception:  # noqa: BLE001 - what cannot be searched is not shown
            return WITHHELD

    def filter_all(self, value: object) -> object:
        """A value of a log record: with every text in it filtered; what is neither text nor container, by its text."""
        if isinstance(value, str | bytes):
            return self.filter(value)
        if value is None or isinstance(value, bool):
            return value
        try:
            if isinstance(value, Mapping):
                return {self.filter(str(key)): self.filter_all(held) for key, held in value.items()}
            if isinstance(value, list | tuple | set | frozenset):
                return [self.filter_all(held) for held in value]
            shown = str(value)
        except Exception:  # noqa: BLE001 - neither is what cannot be read
            return WITHHELD
        filtered = self.filter(shown)
        return value if isinstance(value, int | float) and filtered == shown else filtered

    def _filter(self, text: str | bytes) -> str:
        raw = text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text
        shown, rest = _cut(raw)
        matcher = self._search()
        if matcher is None:
            return WITHHELD
        parts, at = [], 0
        for start, end in self._but_for_public(shown, matcher.find(shown)):
            parts += [shown[at:start], MASK]
            at = end
        parts.append(shown[at:])
        if rest:
            parts.append(f"… ({rest} more characters are not shown)")
        filtered = "".join(parts)
        if isinstance(text, bytes):
            return filtered.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return filtered

    def _but_for_public(self, text: str, spans: list[Span]) -> list[Span]:
        """Where secret values stand, but for what is only a part of a public word."""
        if not spans or not self._public:
            return spans
        words = "|".join(re.escape(word.decode()) for word in sorted(self._public, key=len, reverse=True))
        public = [found.span() for found in re.finditer(rf"(?<!\w)(?:{words})(?!\w)", text)]
        return [span for span in spans if not any(_is_part(span, word) for word in public)]

    def _search(self) -> Matcher | None:
        """What finds the values; None when there are more than can be looked for."""
        with self._lock:
            if self._matcher is None and not self._overflowed:
                forms: dict[Form, None] = {form: None for value in sorted(self._values) for form in forms_of(value)}
                try:
                    self._matcher = Matcher(forms)
                except TooManyValuesError:
                    self._overflowed = True
            return self._matcher


def _is_part(span: Span, whole: Span) -> bool:
    return span != whole and whole[0] <= span[0] and span[1] <= whole[1]


def _cut(text: str) -> tuple[str, int]:
    """As much of a text as is filtered, up to the end of a word, and how much is left out."""
    if len(text) <= TEXT_CHARACTERS_MAX:
        return text, 0
    end = TEXT_CHARACTERS_MAX
    while end > TEXT_CHARACTERS_MAX - WORD_CHARACTERS_MAX and not text[end - 1].isspace():
        end -= 1
    return text[:end], len(text) - end


def _values_of(obj: KubeObject) -> Iterator[str | bytes]:
    """What a Secret holds. What is malformed in it is taken as it stands: the server quotes it when it refuses it."""
    yield from _held(obj.get("data"), encoded=True)
    yield from _held(obj.get("stringData"))
    if obj.get("kind") != "Secret":
        return
    for field, value in obj.items():
        is_right = _RIGHT.get(field)
        if is_right is None or not isinstance(value, is_right):
            yield from _held(value)
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        yield from _of_metadata(metadata)


def _of_metadata(metadata: Mapping[str, object]) -> Iterator[str | bytes]:
    labels, annotations = (
        names if isinstance(names := metadata.get(field), dict) else {} for field in ("labels", "annotations")
    )
    yield from _misplaced(labels, values=True)
    yield from _misplaced(annotations, values=False)
    last = annotations.get(LAST_APPLIED)
    with suppress(ValueError, RecursionError):
        before = json.loads(last) if isinstance(last, str) else None
        if isinstance(before, dict):
            yield from _held(before.get("data"), encoded=True)
            yield from _held(before.get("stringData"))


def _held(value: object, *, encoded: bool = False) -> Iterator[str | bytes]:
    """Every value in some field, whatever its type; and names in it that are no words."""
    if isinstance(value, dict):
        for name, held in value.items():
            if _is_no_word(str(name)):
                yield str(name)
            yield from _held(held, encoded=encoded)
    elif isinstance(value, list):
        for held in value:
            yield from _held(held, encoded=encoded)
    elif isinstance(value, str):
        yield _decoded(value) if encoded else value
    elif isinstance(value, float):
        yield from (str(value), f"{Decimal(str(value)).normalize():e}", _as_go(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


def _decoded(value: str) -> str | bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return value


def _as_go(value: float) -> str:
    """A large or a very small number as Go writes it: `7.391826465e+08`."""
    digits, _, exponent = f"{Decimal(str(value)).normalize():e}".partition("e")
    return f"{digits}e{int(exponent or 0):+03d}"


def _is_no_word(name: str) -> bool:
    """Whether the name of a field may be a secret in the wrong place: no name, or one that nobody thinks of."""
    if not _key_name.fullmatch(name):
        return True
    mixed = any(map(str.isdigit, name)) and any(map(str.isalpha, name))
    return len(name) >= NAME_CHARACTERS and mixed and "." not in name


def _misplaced(names: Mapping[str, object], *, values: bool) -> Iterator[str]:
    """Labels and annotations that the server refuses, and then quotes: a value may have come there by mistake."""
    for name, value in names.items():
        if not _qualified_name.fullmatch(name):
            yield name
        if values and isinstance(value, str) and not _label_value.fullmatch(value):
            yield value
