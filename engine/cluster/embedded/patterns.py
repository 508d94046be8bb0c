"""Regular expressions as the API server has them: Go's, which are RE2's.

Whoever may write a CustomResourceDefinition chooses the pattern, and whoever may write an object the text: Python's own
`re` can take hours over thirty characters. RE2 takes time in proportion to the text, whatever the pattern.
"""

import functools
from typing import Any, Final

import re2

PATTERNS_KEPT: Final = 1024
MEMORY_BYTES: Final = 8 * 1024 * 1024
"""What one pattern may take, compiled."""
_WORDS: Final = {
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "invalid named capture group": "invalid named capture",
    "invalid repetition size": "invalid repeat count",
    "trailing \\": "trailing backslash at end of expression",
}
"""RE2's words for a mistake, and Go's."""


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern is found anywhere in a text; a pattern that does not compile is found in none."""
    compiled = _compiled(pattern)
    return not isinstance(compiled, str) and compiled.search(text) is not None


def mistake_in(pattern: str) -> str:
    """What is wrong with a pattern, in Go's words; empty for nothing."""
    compiled = _compiled(pattern)
    return compiled if isinstance(compiled, str) else ""


@functools.lru_cache(PATTERNS_KEPT)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MEMORY_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        return _in_words_of_go(error.args[0])


def _in_words_of_go(said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    what, _, where = text.partition(": ")
    return f"error parsing regexp: {_WORDS.get(what, what)}: `{where}`"
