from tests.e2e.world import World, config_map, is_ready


async def test_a_commit_reaches_the_cluster(world: World) -> None:
    world.commit({"app/cm.yaml": config_map("settings", colour="blue")})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    async with world.daemon():
        await world.until_source(is_ready)
        await world.until_applied("app")
        assert await world.data("settings") == {"colour": "blue"}
        await world.push({"app/cm.yaml": config_map("settings", colour="red")})
        await world.until_applied("app")
        assert await world.data("settings") == {"colour": "red"}
