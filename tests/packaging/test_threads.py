"""No function describes a type to msgspec: two threads that do so at once end the process (see events/typed.py)."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("engine", "events", "storage")
TYPED = ROOT / "events" / "typed.py"
PLAIN = {"Any", "KubeValue", "bool", "dict", "int", "list", "object", "str", "tuple"}
"""What needs no description: a type made of these may be named wherever it is decoded to."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def descriptions(source: str) -> Iterator[str]:
    """Where a function decodes to a type that is described there and then."""
    found = {
        node
        for function in ast.walk(ast.parse(source))
        if isinstance(function, FUNCTIONS)
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and _describes(node)
    }
    for node in sorted(found, key=lambda node: node.lineno):
        yield f"{node.lineno}: {ast.unparse(node)}"


def _describes(node: ast.Call) -> bool:
    called = ast.unparse(node.func)
    if called == "msgspec.convert" or called.endswith(".Decoder"):
        return True
    types = [word.value for word in node.keywords if word.arg == "type"] + node.args[1:]
    return called in ("msgspec.json.decode", "msgspec.msgpack.decode") and any(
        name.id not in PLAIN for type_ in types for name in ast.walk(type_) if isinstance(name, ast.Name)
    )


@pytest.mark.parametrize("room", ROOMS)
def test_types_are_described_by_typed_or_at_import(room: str) -> None:
    paths = sorted(path for path in (ROOT / room).rglob("*.py") if path != TYPED)
    assert paths
    found = [f"{path.relative_to(ROOT)}:{what}" for path in paths for what in descriptions(path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "def f(data): return msgspec.json.decode(data, type=Thing)",
        "def f(data): return msgspec.json.decode(data, type=dict[str, Thing])",
        "async def f(data): return msgspec.convert(data, Thing)",
        "f = lambda data: msgspec.json.Decoder(Thing).decode(data)",
        "class A:\n    def f(self): self.decoder = msgspec.msgpack.Decoder(Thing)",
    ],
)
def test_a_function_that_describes_a_type_is_found(source: str) -> None:
    assert list(descriptions(source))


@pytest.mark.parametrize(
    "source",
    [
        "_decode = msgspec.json.Decoder(Thing).decode",
        "def f(data): return decoder(Thing)(data)",
        "def f(data): return msgspec.json.decode(data, type=dict[str, Any])",
        "def f(data): return msgspec.json.decode(data)",
    ],
)
def test_what_describes_none_is_let_through(source: str) -> None:
    assert not list(descriptions(source))


FIRST_USES = """
import sys
import threading
from msgspec import defstruct
from tidelog.events.typed import converter, decoder

def make():
    parts = [defstruct(f"Part{i}", [(f"f{j}", str, "") for j in range(20)]) for i in range(30)]
    return defstruct("Whole", [(f"g{i}", part | None, None) for i, part in enumerate(parts)])

def use(whole, meet, seen):
    meet.wait()
    seen.append(decoder(whole)('{"g29": {"f3": "x"}}').g29.f3)
    seen.append(converter(whole)({"g29": {"f3": "x"}}).g29.f3)

sys.setswitchinterval(1e-6)
for _ in range(50):
    whole, meet, seen = make(), threading.Barrier(4), []
    threads = [threading.Thread(target=use, args=(whole, meet, seen)) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert seen == ["x"] * 8
"""


def test_threads_that_use_a_type_first_all_get_what_was_said() -> None:
    """Decoded to by msgspec itself, it ends a process of these within the first rounds."""
    ran = subprocess.run([sys.executable, "-c", FIRST_USES], check=False, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
