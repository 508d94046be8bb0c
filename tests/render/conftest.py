from collections.abc import AsyncIterator

import pytest

from tests.render.trees import MemoryTrees
from tidelog.engine.render.renderer import Renderer


@pytest.fixture
def trees() -> MemoryTrees:
    return MemoryTrees()


@pytest.fixture
async def renderer(trees: MemoryTrees) -> AsyncIterator[Renderer]:
    async with Renderer(trees, remote_bases=False) as made:
        yield made
