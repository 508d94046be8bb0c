"""Finding many texts in one, all of them wherever they overlap, in time that grows with the text alone."""

from collections.abc import Iterable

import ahocorasick

from tidelog.engine.secrecy.forms import Form
from tidelog.engine.secrecy.views import views

PIECE = 16
"""A longer form is looked for by pieces of so many characters, so that one that was cut off is found too."""
FINE_MAX = 64
"""Of a form up to this length, pieces overlap by half."""
PIECES_MAX = 1_024
"""Of one form. They lie further apart in a larger one; from each, what is found grows as far as it is the form."""
PATTERN_CHARACTERS_MAX = 2 * 2**20
"""Of all pieces: the automaton has 40 bytes for each."""

Span = tuple[int, int]


class TooManyValuesError(Exception):
    """Raised when there is more to look for than may be held in memory."""


class Matcher:
    """Looks for forms in texts. Safe for use by several threads."""

    def __init__(self, forms: Iterable[Form]) -> None:
        self._automaton = ahocorasick.Automaton()
        characters = 0
        for form in forms:
            for offset in _offsets(len(form.text)):
                piece = form.text[offset : offset + PIECE]
                known = self._automaton.get(piece, None)
                # The same text as a word of its own and as a part: as a part, it is found in either place.
                if known is not None and (known[0].word <= form.word):
                    continue
                characters += 0 if known else len(piece)
                if characters > PATTERN_CHARACTERS_MAX:
                    raise TooManyValuesError
                self._automaton.add_word(piece, (form, offset))
        self._is_empty = characters == 0
        if not self._is_empty:
            self._automaton.make_automaton()

    def find(self, text: str) -> list[Span]:
        """Where forms stand in a text, in any way to read it: spans that neither overlap nor touch, in order."""
        if self._is_empty:
            return []
        found: list[Span] = []
        for view in views(text):
            found += [view.origin(*span) for span in self._spans(view.text)]
        return merged(found)

    def _spans(self, text: str) -> list[Span]:
        """Where forms stand in one view. The automaton tells of every piece, in the order of their ends."""
        spans: list[Span] = []
        before = begun = covered = 0  # the last stretch that is covered, and the end of the one before it
        for last, (form, offset) in self._automaton.iter(text):
            end = last + 1
            start = end - min(PIECE, len(form.text) - offset)
            if begun <= start and end <= covered:
                continue
            if form.word and not _is_word(text, start, end):
                continue
            if start > covered:
                before = covered
            start, end = _grown(text, start, end, form, offset, start if begun <= start <= covered else before)
            spans.append((start, end))
            begun = start if start > covered else min(begun, start)
            covered = max(covered, end)
        return spans


def merged(spans: list[Span]) -> list[Span]:
    """The same places, as spans that neither overlap nor touch, in order."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return result


def _offsets(length: int) -> list[int]:
    """Where the pieces of a form begin."""
    if length <= PIECE:
        return [0]
    step = max(PIECE if length > FINE_MAX else PIECE // 2, length // PIECES_MAX)
    return [*range(0, length - PIECE, step), length - PIECE]


def _is_word(text: str, start: int, end: int) -> bool:
    return not _continues(text[start - 1 : start]) and not _continues(text[end : end + 1])


def _continues(character: str) -> bool:
    return character.isalnum() or character == "_"


def _grown(text: str, start: int, end: int, form: Form, offset: int, floor: int) -> Span:
    """A piece that was found, with what stands around it, down to `floor`, and is the form too."""
    whole = form.text
    at = offset + end - start
    while at < len(whole) and end < len(text) and whole[at] == text[end]:
        at, end = at + 1, end + 1
    if at == len(whole):
        limit = end + form.after
        while end < min(limit, len(text)) and _is_base64(text[end]):
            end += 1
    while offset > 0 and start > floor and whole[offset - 1] == text[start - 1]:
        offset, start = offset - 1, start - 1
    if offset == 0:
        limit = start - form.before
        while start > max(limit, 0) and _is_base64(text[start - 1]):
            start -= 1
    return start, end


def _is_base64(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character in "+/-_")
