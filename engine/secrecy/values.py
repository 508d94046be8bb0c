"""The secret values of a run, and a filter for texts from outside that may hold them."""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any, TypeAlias

from tidelog.engine.secrecy.forms import Form, forms_of, values_in
from tidelog.engine.secrecy.matcher import Matcher, TooManyValuesError

KubeObject: TypeAlias = dict[str, Any]
MASK = "***"
WITHHELD = "*** (a text that could not be searched for secret values, and so is not shown)"
TEXT_CHARACTERS_MAX = 2**18
"""Of a text that is filtered; what is beyond is cut off, and said to be. At worst (all escapes) it takes a second."""
_key = re.compile(r"[-._a-zA-Z0-9]+")
"""What Kubernetes takes for a key of a Secret; a line of an environment file without `=` is none, as a rule."""
WORD_CHARACTERS_MAX = 4_096
"""A text is cut off between words, where one ends so near."""


class SecretValues:
    """Knows secret values, and takes them out of texts. Safe for use by several threads.

    It keeps the values in memory for as long as it lives: one for each run.
    """

    def __init__(self, values: Iterable[str | bytes] = ()) -> None:
        self._lock = Lock()
        self._values: set[bytes] = set()
        self._matcher: Matcher | None = None
        self._overflowed = False
        self.add(values)

    def __repr__(self) -> str:
        return f"<SecretValues: {len(self._values)}>"

    def __bool__(self) -> bool:
        return bool(self._values)

    def add(self, values: Iterable[str | bytes]) -> None:
        """Makes values known; empty ones are none."""
        found = set()
        for value in values:
            data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
            found |= {part for part in values_in(data) if part.strip()}
        with self._lock:
            if not found <= self._values:
                self._values |= found
                self._matcher = None

    def add_secret(self, obj: KubeObject) -> None:
        """Makes known what a Secret holds, in `data` and `stringData`, and in the annotation of `kubectl apply`."""
        self.add(_values_of(obj))

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
        for start, end in matcher.find(shown):
            parts += [shown[at:start], MASK]
            at = end
        parts.append(shown[at:])
        if rest:
            parts.append(f"… ({rest} more characters are not shown)")
        filtered = "".join(parts)
        if isinstance(text, bytes):
            return filtered.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return filtered

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


def _cut(text: str) -> tuple[str, int]:
    """As much of a text as is filtered, up to the end of a word, and how much is left out."""
    if len(text) <= TEXT_CHARACTERS_MAX:
        return text, 0
    end = TEXT_CHARACTERS_MAX
    while end > TEXT_CHARACTERS_MAX - WORD_CHARACTERS_MAX and not text[end - 1].isspace():
        end -= 1
    return text[:end], len(text) - end


def _values_of(obj: KubeObject) -> Iterable[str | bytes]:
    """What a Secret holds. What is malformed in it is taken as it stands, and a key that can be none for a value."""
    for field in ("data", "stringData"):
        held = obj.get(field)
        yield from (key for key in held if not _key.fullmatch(str(key))) if isinstance(held, dict) else ()
    data = obj.get("data")
    for value in data.values() if isinstance(data, dict) else ():
        if isinstance(value, str):
            try:
                yield base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                yield value
    text = obj.get("stringData")
    for value in text.values() if isinstance(text, dict) else ():
        if isinstance(value, str):
            yield value
