"""The pages that the code itself says are as the code says now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "tools" / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["events.md", "cli.md", "answers.md", "settings.md"])
def test_a_page_is_what_make_docs_would_write(maker: ModuleType, name: str) -> None:
    assert (ROOT / "docs" / "reference" / name).read_text() == maker.PAGES[name](), "run `make docs`"
