"""A small but complete store, made once, and copied for each case."""

import os
import shutil
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.verify.stores import add_macs, make_store
from tidelog.storage.projections import projector

SIZES = (150, 300, 600)


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether numbers are to be large."""
    return bool(os.environ.get("TIDELOG_SOAK"))


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 600 events: two full tiles, three kept checkpoints, projections with a history. Not to be changed."""
    directory = tmp_path_factory.mktemp("original") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projector, "SNAPSHOT_INTERVAL", 64)
        anyio.run(partial(make_store, directory, 1, SIZES))
    return directory


@pytest.fixture(params=[False, True], ids=["derived", "macs"])
def store(original: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the store, in which no tile has a MAC, or each that is full: what was changed is named alike."""
    copy = Path(shutil.copytree(original, tmp_path / "store"))
    if request.param:
        add_macs(copy)
    return copy
