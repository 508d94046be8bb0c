"""The YAML that most manifests are: block mappings and sequences of what stands in one line, read line by line.

libyaml makes an event and two marks of each scalar, which takes some times as long. What is not surely the same there
is left to it: `tidelog.engine.documents` reads what this module gives up, and says what is wrong with it.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

_PLAIN: Final = r"(?:[!-9;-~]++|:(?=[!-~])| ++(?=[!\"$-~]))*+"
"""Behind the first character of a scalar without quotes: nothing that begins a comment or a mapping."""
_WORD: Final = rf"[A-Za-z_/]{_PLAIN}"
_NUMBER: Final = rf"(?:[0-9]|\.(?=[0-9])|-{{1,2}}(?=[A-Za-z0-9])){_PLAIN}"
"""What may be one."""
_QUOTED: Final = r"""(?:"[ !#-\[\]-~]*"|'[ -&(-~]*')"""
"""Nothing in it that stands for something else."""
_OTHER: Final = rf"{_NUMBER}|{_QUOTED}|[{{\[][ -~]*[}}\]]"
_QUOTED_KEY: Final = _QUOTED.replace("*", "{0,200}")
_line: Final = re.compile(
    rf"( *+)((?:- ++)*+)"
    rf"(?:(?:([A-Za-z_][A-Za-z0-9_./-]{{0,200}})|({_QUOTED_KEY})):(?: +(?:({_WORD})|({_OTHER})|\|(-?)))?"
    rf"|({_WORD}|{_OTHER}))?"
    r"(?: +#[ -~]*| *)\n"
    r"| *+#[ -~]*\n"
)
_FLOW: Final = r"(?:[A-Za-z0-9_/]|\.(?=[0-9])|-{1,2}(?=[A-Za-z0-9]))[A-Za-z0-9_./@=+*%$()-]{0,200}"
"""A scalar without quotes within brackets."""
_flow_key: Final = re.compile(rf"(?:({_QUOTED_KEY}):|({_FLOW}):(?= )) *")
_flow_text: Final = re.compile(rf"({_QUOTED}|{_FLOW})|[{{\[]")
_flow_next: Final = re.compile(r" *([,}\]]) *")
_dash: Final = re.compile(r"- +")
_spaces: Final = re.compile(" *")
_DEPTH_MAX: Final = 50
_ONE_DASH: Final = 2
"""With the space behind it."""
_QUOTES: Final = "\"'"
_FLOWS: Final = {"{": "}", "[": "]"}


class NotBlockError(Exception):
    """A text is not of the kind that is read here."""


class Block:
    """What a text says that is one document, without a mark of where it begins.

    Args:
        text: YAML.
        words: the scalars that stand for something else, and what for.
        number: what a scalar without quotes stands for that begins as a number does.

    Attributes:
        value: what it says.
        line: where it begins, from 1.
        keys: the lines of the top-level keys.

    Raises:
        NotBlockError: when it has anything else in it; it may be YAML all the same.
    """

    __slots__ = ("_columns", "_holders", "_number", "_words", "keys", "line", "value")

    def __init__(self, text: str, words: Mapping[str, Any], number: Callable[[str], Any]) -> None:
        self.value: Any = None
        self.line = 0
        self.keys: dict[str, int] = {}
        self._words = words
        self._number = number
        self._columns: list[int] = []
        self._holders: list[Any] = []
        """The collections that the last line is within; `_columns` is where they begin."""
        self._read(text)
        if not self.line:
            raise NotBlockError

    def _read(self, text: str) -> None:
        """Reads it all. This is done for each line, so it calls nothing for what most of them are."""
        whole = text if text.endswith("\n") else f"{text}\n"
        words, columns, holders = self._words, self._columns, self._holders
        open_name: str | None = None
        holder: Any = None
        column_now, end = -1, 0
        number, counted = 1, 0
        lines = _line.scanner(whole)  # type: ignore[attr-defined]
        while (found := lines.match()) is not None:
            end = found.end()
            indent, dashes, name, quoted, word, other, chomping, item = found.groups()
            if name is None and quoted is None and item is None:
                if dashes:
                    raise NotBlockError
                continue  # empty, or a comment
            column = len(indent)
            if column != column_now or dashes or type(holder) is list:
                if not columns:
                    self._begin(column, whole.count("\n", 0, found.start()) + 1, is_list=bool(dashes))
                else:
                    self._move(column, open_name, is_list=bool(dashes))
                if dashes:
                    self._follow(column, dashes, is_pair=item is None)
                column_now, holder = columns[-1], holders[-1]
            open_name = None
            if item is not None:
                if not dashes:
                    raise NotBlockError
                holder.append(self._value(item))
                continue
            if name is None:
                name = quoted[1:-1]
            elif name in words:
                raise NotBlockError
            if name in holder:
                raise NotBlockError
            if holder is self.value:
                begin = found.start()
                number, counted = number + whole.count("\n", counted, begin), begin
                self.keys[name] = number
            if word is not None:
                holder[name] = words.get(word, word)
            elif other is not None:
                holder[name] = self._value(other)
            elif chomping is None:
                holder[name], open_name = None, name
            else:
                begin, end = end, _end_of_literal(whole, end, column_now)
                holder[name] = _literal(whole[begin:end], keep=not chomping)
                if end == len(whole) and whole is not text and not chomping:  # the last line has no end
                    raise NotBlockError
                lines = _line.scanner(whole, end)  # type: ignore[attr-defined]
        if end != len(whole):
            raise NotBlockError

    def _begin(self, column: int, line: int, *, is_list: bool) -> None:
        if self.line:
            raise NotBlockError
        self.line = line
        self.value = self._push(column, [] if is_list else {})

    def _move(self, column: int, open_name: str | None, *, is_list: bool) -> None:
        """Goes to the collection that a line belongs to: a new one, which is the last key's value, or one of before."""
        columns, holders = self._columns, self._holders
        # A sequence may begin where the mapping does that it is a value of.
        if open_name is not None and (column > columns[-1] or (is_list and column == columns[-1])):
            made: Any = [] if is_list else {}
            holders[-1][open_name] = made
            if len(columns) == _DEPTH_MAX:
                raise NotBlockError
            columns.append(column)
            holders.append(made)
            return
        while columns and (
            columns[-1] > column or (columns[-1] == column and type(holders[-1]) is list and not is_list)
        ):
            columns.pop()
            holders.pop()
        if not columns or columns[-1] != column or (type(holders[-1]) is list) is not is_list:
            raise NotBlockError

    def _follow(self, column: int, dashes: str, *, is_pair: bool) -> None:
        """Begins what dashes of a line begin: sequences within the first one's, and a mapping in the last."""
        if len(dashes) > _ONE_DASH:
            first, *others = _dash.findall(dashes)
            column += len(first)
            for other in others:
                self._append(column, [])
                column += len(other)
        else:
            column += _ONE_DASH
        if is_pair:
            self._append(column, {})

    def _append(self, column: int, made: Any) -> None:
        self._holders[-1].append(made)
        self._push(column, made)

    def _push(self, column: int, made: Any) -> Any:
        if len(self._columns) == _DEPTH_MAX:
            raise NotBlockError
        self._columns.append(column)
        self._holders.append(made)
        return made

    def _value(self, text: str) -> Any:
        first = text[0]
        if first in _QUOTES:
            return text[1:-1]
        if first in _FLOWS:
            value, end = self._flow(text, 0, 0)
            if end != len(text):
                raise NotBlockError
            return value
        if text in self._words:
            return self._words[text]
        return text if first.isalpha() else self._number(text)

    def _flow(self, text: str, at: int, depth: int) -> tuple[Any, int]:
        """What begins with a bracket at a place in a text, and where it ends."""
        if depth == _DEPTH_MAX:
            raise NotBlockError
        closing = _FLOWS[text[at]]
        at = _after_spaces(text, at + 1)
        if text[at : at + 1] == closing:
            return ([] if closing == "]" else {}), at + 1
        listed: list[Any] = []
        named: dict[str, Any] = {}
        while True:
            name = ""
            if closing == "}":
                name, at = self._flow_key(text, at)
                if name in named:
                    raise NotBlockError
            value, at = self._flow_value(text, at, depth)
            found = _flow_next.match(text, at)
            if found is None or found[1] not in (closing, ","):
                raise NotBlockError
            if closing == "}":
                named[name] = value
            else:
                listed.append(value)
            if found[1] == closing:
                return (listed if closing == "]" else named), found.end(1)
            at = found.end()

    def _flow_key(self, text: str, at: int) -> tuple[str, int]:
        found = _flow_key.match(text, at)
        if found is None:
            raise NotBlockError
        quoted, name = found.groups()
        if quoted is not None:
            return quoted[1:-1], found.end()
        if self._value(name) != name:  # it stands for something else
            raise NotBlockError
        return name, found.end()

    def _flow_value(self, text: str, at: int, depth: int) -> tuple[Any, int]:
        found = _flow_text.match(text, at)
        if found is None:
            raise NotBlockError
        return self._flow(text, at, depth + 1) if found[1] is None else (self._value(found[1]), found.end())


def _after_spaces(text: str, at: int) -> int:
    found = _spaces.match(text, at)
    return found.end() if found else at


def _end_of_literal(text: str, at: int, column: int) -> int:
    """Where the lines end that a literal scalar has, whose key is at `column`."""
    wide = _after_spaces(text, at) - at
    if wide <= column or text[at + wide : at + wide + 1] in {"", "\n"}:
        raise NotBlockError
    found = _lines(wide).match(text, at)
    return found.end() if found else at


@lru_cache(maxsize=_DEPTH_MAX)
def _lines(wide: int) -> re.Pattern[str]:
    """The lines of a literal scalar, whose first is indented so far."""
    return re.compile(rf"(?:(?: {{{wide}}}[ -~]*| {{0,{wide - 1}}})\n)*")


def _literal(lines: str, *, keep: bool) -> str:
    """What lines say that are indented as the first is; `keep` is for the end of the last that is not empty."""
    wide = _after_spaces(lines, 0)
    text = "\n".join(line[wide:] for line in lines.split("\n")).rstrip("\n")
    return f"{text}\n" if keep else text
