"""The same events give the same bytes: nothing in events/ does IO, reads a clock, or draws lots.

import-linter forbids the modules; this test also sees what is called, and what needs no import.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What a fold may use beside the language. A new name is welcome if it is as pure as these.
ALLOWED_MODULES = {
    "abc",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "copy",
    "cryptography",  # checks of signatures; `generate` is not allowed
    "dataclasses",
    "datetime",  # arithmetic; `now`, `utcnow` and `today` are not allowed
    "decimal",
    "enum",
    "fractions",
    "functools",
    "graphlib",
    "hashlib",
    "heapq",
    "hmac",
    "itertools",
    "json",
    "math",
    "msgspec",
    "operator",
    "re",
    "string",
    "struct",
    "textwrap",
    "threading",  # a lock, for what the whole process shares
    "tidelog",  # its other rooms are forbidden by import-linter
    "types",
    "typing",
    "uuid",  # parsing; the functions that make one are not allowed
}
FORBIDDEN_NAMES = {"__import__", "breakpoint", "compile", "eval", "exec", "input", "open", "print"}
FORBIDDEN_ATTRIBUTES = {
    "file_digest",
    "generate",
    "getnode",
    "now",
    "today",
    "utcnow",
    "uuid1",
    "uuid4",
    "uuid6",
    "uuid7",
}
ASYNC = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)


def impurities(source: str) -> Iterator[str]:
    """What `source` does that a pure module does not, each with its line."""
    for node in ast.walk(ast.parse(source)):
        for what in _impurities(node):
            yield f"{getattr(node, 'lineno', 0)}: {what}"


def _impurities(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ASYNC) or (isinstance(node, ast.comprehension) and node.is_async):
        yield "waits"
    elif isinstance(node, ast.Import):
        yield from (f"imports {alias.name}" for alias in node.names if not _allowed(alias.name))
    elif isinstance(node, ast.ImportFrom):
        module = node.module or ""
        if not _allowed(module):
            yield f"imports {module}"
        yield from (f"imports {module}.{alias.name}" for alias in node.names if alias.name in FORBIDDEN_ATTRIBUTES)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in FORBIDDEN_NAMES:
        yield f"uses {node.id}"
    elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_ATTRIBUTES:
        yield f"uses {ast.unparse(node)}"


def _allowed(module: str) -> bool:
    return module.partition(".")[0] in ALLOWED_MODULES


@pytest.mark.parametrize("path", sorted((ROOT / "events").rglob("*.py")), ids=lambda path: path.name)
def test_events_are_pure(path: Path) -> None:
    found = [f"{path.relative_to(ROOT)}:{what}" for what in impurities(path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import asyncio.tasks",
        "from time import time",
        "def f():\n    import random",
        "from uuid import uuid4",
        "import uuid\nuuid.uuid7()",
        "from datetime import datetime\ndatetime.now()",
        "read = open",
        "print('here')",
        "async def f(): ...",
        "f = [x async for x in y]",
        "from . import clock",
    ],
)
def test_what_is_not_pure_is_found(source: str) -> None:
    assert list(impurities(source))


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)",
        "import uuid\nuuid.UUID(int=0)",
        "open = 1",
    ],
)
def test_what_is_pure_is_left_alone(source: str) -> None:
    assert not list(impurities(source))
