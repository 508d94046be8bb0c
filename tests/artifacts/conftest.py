"""What the tests of the artifact store share."""

from pathlib import Path

import pytest

from tests.servers.repositories import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository, to make trees in."""
    return Repository.create(tmp_path / "source.git")
