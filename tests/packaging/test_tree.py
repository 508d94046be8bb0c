"""The tree is what CONTRIBUTING.md says, and names nobody's machine."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Written so that this file does not hold what it looks for.
NOT_COMMITTED = re.compile(
    r"(?<![\w.$}/-])/(?:root|work|home/\w+)/"  # an absolute path of one machine
    r"|\bpypi\.(?:org|python)|\bpythonhosted\.|--(?:extra-)?index-url"  # where packages came from
)


def public_modules() -> list[Path]:
    """The modules below the rooms whose path has no private part."""
    found = (path for room in ("engine", "events", "storage") for path in (ROOT / room).rglob("*.py"))
    return sorted(
        path
        for path in found
        if not any(
            part.startswith("_") and part not in {"__init__.py", "__main__.py"} for part in path.relative_to(ROOT).parts
        )
    )


def test_top_of_the_tree_is_documented(root: Path, committed: list[str]) -> None:
    documented = set(re.findall(r"^\| `([\w.]+)/` \|", (root / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert documented == {path.partition("/")[0] for path in committed if "/" in path}


def test_links_lead_to_the_rooms(root: Path) -> None:
    links = {
        path.name: path.readlink().as_posix() for path in (root / ".dev" / "tidelog").iterdir() if path.is_symlink()
    }
    assert links == {room: f"../../{room}" for room in ("engine", "events", "storage")}


def test_no_file_names_a_machine_or_an_index(root: Path, committed: list[str]) -> None:
    found = []
    for path in committed:
        try:
            lines = (root / path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{path}:{n}: {line.strip()}" for n, line in enumerate(lines, 1) if NOT_COMMITTED.search(line)]
    assert not found, "\n".join(found)


def test_hooks_are_local(root: Path) -> None:
    """A hook from elsewhere would bring a second version of a tool."""
    repositories = re.findall(r"^\s*- repo: (.*)$", (root / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert set(repositories) == {"local"}


@pytest.mark.parametrize("path", public_modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_public_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
