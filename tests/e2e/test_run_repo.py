"""`tidelog run --repo DIR --until-ready`, as a newcomer types it, right and wrong."""

import socket
from typing import Any

from tests.e2e.command import Done, tidelog
from tests.e2e.world import KUSTOMIZE, SOURCE, World, config_map
from tests.servers.repositories import Repository

ALONE = (
    "--watch-all-namespaces=false",
    "--enable-leader-election=false",
    "--storage-addr=",
    "--health-addr=",
    "--metrics-addr=",
)
"""Beside other tests: with an eye on one namespace only, and with no ports."""


async def run(world: World, *arguments: object) -> Done:
    return await tidelog(
        world, "run", "--runtime-namespace", world.namespace, *ALONE, "--until-ready", "--timeout", "50s", *arguments
    )


def told(done: Done) -> list[str]:
    """What it says for people, beside its log."""
    return [line for line in done.err.splitlines() if not line.startswith("{")]


async def specs(world: World) -> list[Any]:
    """What keeps the cluster."""
    found = [
        await world.get(api_version, kind, "flux-system")
        for api_version, kind in ((SOURCE, "GitRepository"), (KUSTOMIZE, "Kustomization"))
    ]
    return [None if obj is None else obj["spec"] for obj in found]


def shop(world: World, color: str) -> dict[str, str]:
    obj = config_map("shop", color=color).replace('"name": "shop"', f'"name": "shop", "namespace": "{world.namespace}"')
    return {"clusters/east/shop.yaml": obj}


async def test_it_says_what_is_ready_and_what_was_there_is_not_changed_by_mistake(world: World) -> None:
    world.commit(shop(world, "red"))
    repo = ("--repo", world.repository.path)
    for wrong, said in (
        (("--repo", "/nonexistent"), "there is no directory /nonexistent"),
        ((*repo, "--branch", "prod"), "correct --branch"),
        ((*repo, "--path", "./west"), "correct --path"),
    ):
        done = await run(world, *wrong)
        assert (done.code, said in done.err) == (3, True), done
    assert await specs(world) == [None, None]

    done = await run(world, *repo, "--path", "./clusters/east")
    assert (done.code, done.err) == (0, f"✔ 1 source and 1 target ready at {world.revision}\n")
    assert await world.data("shop") == {"color": "red"}
    traced = await tidelog(world, "trace", "cm/shop")
    assert [line.split()[1] for line in traced.out.splitlines() if line.startswith("URL ")] == [
        f"file://{world.repository.path}"
    ]
    before = await specs(world)

    other = Repository.create(world.directory / "other")
    other.commit({"a.yaml": config_map("other")})
    mistakes: tuple[tuple[tuple[object, ...], int, str], ...] = (
        (("--repo", "/nonexistent"), 3, "there is no directory"),
        (("--repo", other.path), 1, f"has the repository {world.repository.path}, and {other.path} was asked for"),
        (repo, 1, "has the path ./clusters/east, and ./ was asked for"),
    )
    for arguments, code, said in mistakes:
        done = await run(world, *arguments)
        assert (done.code, said in done.err) == (code, True), done
        assert await specs(world) == before


async def test_without_the_directory_it_ends_at_once_and_says_so_and_with_it_goes_on(world: World) -> None:
    world.commit(shop(world, "red"))
    given = ("--repo", world.repository.path, "--path", "clusters/east")
    assert (await run(world, *given)).code == 0

    done = await run(world)
    assert done.code == 1
    first, *_ = told(done)
    assert first.startswith(f"✗ GitRepository/{world.namespace}/flux-system: URLInvalid: the repository is the dir")
    assert first.endswith(f"start the daemon with --repo {world.repository.path}")

    world.commit(shop(world, "green"))
    assert (await run(world, *given)).code == 0
    assert await world.data("shop") == {"color": "green"}


async def test_a_commit_that_cannot_be_built_ends_it_with_its_author_and_what_to_do(world: World) -> None:
    world.commit({"clusters/east/shop.yaml": "kind: [\n"}, message="Break the shop")
    done = await run(world, "--repo", world.repository.path, "--path", "clusters/east")
    assert done.code == 1, done
    first, second, third, *_ = told(done)
    assert first.startswith(f"✗ Kustomization/{world.namespace}/flux-system: BuildFailed: ")
    assert "shop.yaml" in first
    assert second.startswith("  commit “Break the shop” by ")
    assert third.endswith(f"tidelog explain kustomization/flux-system -n {world.namespace}")


async def test_what_is_still_being_deleted_is_made_again_before_all_is_ready(world: World) -> None:
    world.commit(shop(world, "red"))
    given = ("--repo", world.repository.path, "--path", "clusters/east")
    assert (await run(world, *given)).code == 0
    await world.delete(KUSTOMIZE, "Kustomization", "flux-system")
    deleted = await world.get(KUSTOMIZE, "Kustomization", "flux-system")
    assert deleted is not None, "its finalizer keeps it until a daemon runs"

    done = await run(world, *given)
    assert done.code == 0
    assert done.err.endswith(f"✔ 1 source and 1 target ready at {world.revision}\n")  # it says so where it waits long
    made = await world.get(KUSTOMIZE, "Kustomization", "flux-system")
    assert made is not None
    assert made["metadata"]["uid"] != deleted["metadata"]["uid"]
    assert await world.data("shop") == {"color": "red"}


async def test_an_address_that_is_taken_is_named_at_once_with_the_setting_that_gives_another(world: World) -> None:
    world.commit(shop(world, "red"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        for setting in ("storage-addr", "health-addr", "metrics-addr"):
            done = await run(world, "--repo", world.repository.path, f"--{setting}", address)
            problem = f"{setting} {address}: another program listens there; give another address with --{setting}"
            assert (done.code, done.err) == (3, f"Error: {problem}\n")
