"""Stores to be asked, each written once a run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.questions.scenes import Scene, shop
from tidelog.engine.views.archive import Archive, open_archive

Ask: TypeAlias = Callable[..., Archive]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Writes a scene, and opens it as of a moment."""
    with ExitStack() as opened:

        def archive(scene: Scene, moment: str | None = None, *, with_views: bool = True) -> Archive:
            store = tmp_path / str(id(scene))
            if not store.exists():
                scene.write(store, with_views=with_views)
            return opened.enter_context(open_archive(store, moment))

        yield archive


@pytest.fixture(scope="session")
def shop_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop, all well. Not to be changed."""
    return shop().write(tmp_path_factory.mktemp("questions") / "store")


@pytest.fixture
def archive(shop_store: Path) -> Iterator[Archive]:
    """The shop as it is now."""
    with open_archive(shop_store) as opened:
        yield opened
