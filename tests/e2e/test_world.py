"""What the other end-to-end tests stand on leaves nothing behind that costs those that come after."""

import pytest

from tests.e2e.world import KUSTOMIZE, SOURCE, World, config_map

pytestmark = pytest.mark.slow


async def test_nothing_of_a_world_keeps_its_namespace_from_ending(world: World) -> None:
    world.commit({"app/a.yaml": config_map("a")})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    async with world.daemon():
        await world.until_applied("app")
    declared = [(SOURCE, "GitRepository", "fleet"), (KUSTOMIZE, "Kustomization", "app")]

    async def held() -> list[bool]:
        found = [await world.get(*one) for one in declared]
        return [bool(obj and obj["metadata"].get("finalizers")) for obj in found]

    assert await held() == [True, True]
    await world.let_go()
    assert await held() == [False, False]
