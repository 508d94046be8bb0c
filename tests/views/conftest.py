"""Snapshots and batches so small that a short log has many of them."""

from pathlib import Path

import pytest

from tidelog.storage.projections import projector


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "SNAPSHOT_INTERVAL", 16)
    monkeypatch.setattr(projector, "BATCH_EVENTS", 5)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "store"
