"""A store to be copied, made once."""

import importlib.util
import os
import shutil
from functools import partial
from pathlib import Path
from types import ModuleType

import anyio
import pytest

from tests.verify.stores import make_store
from tidelog.storage.layout import Layout
from tidelog.storage.projections import projector
from tidelog.storage.transfer import export_log

SCRIPT = Path(__file__).parents[2] / "tools" / "verify_log.py"


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 600 events, closed, with projections. Not to be changed."""
    directory = tmp_path_factory.mktemp("original") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projector, "SNAPSHOT_INTERVAL", 64)
        anyio.run(partial(make_store, directory, 2, (200, 600)))
    return directory


@pytest.fixture(scope="session")
def exported(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of that store. Not to be changed."""
    directory = tmp_path_factory.mktemp("exported") / "export"
    export_log(Layout(original), directory)
    return directory


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    """A copy of the store."""
    return Path(shutil.copytree(original, tmp_path / "store"))


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether numbers are to be large."""
    return bool(os.environ.get("TIDELOG_SOAK"))


@pytest.fixture(scope="session")
def script() -> Path:
    """The stand-alone checker."""
    return SCRIPT


@pytest.fixture(scope="session")
def checker(script: Path) -> ModuleType:
    """The same as a module."""
    spec = importlib.util.spec_from_file_location("verify_log", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
