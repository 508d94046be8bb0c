"""Repositories that are empty, rewritten, gone, slow, closed, hostile or huge: what was applied stays."""

import shutil

import pytest

from tests.e2e.world import SOURCE, World, condition, config_map, failed, is_ready
from tests.servers.repositories import TREE
from tidelog.events.vocabulary import ObjectPruned, RevisionFetched

SLOW_S = 1


async def well(world: World) -> None:
    """The last good state."""
    world.commit({"app/cm.yaml": config_map("settings", n="1"), "app/more.yaml": config_map("more", n="1")})
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    await world.until_applied("app")


async def unharmed(world: World) -> None:
    """The target is as it was, and so is what it applied."""
    app = await world.get("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "app")
    assert app is not None
    assert is_ready(app)
    assert await world.data("settings") == {"n": "1"}
    assert await world.data("more") == {"n": "1"}


async def mended(world: World) -> None:
    """The next commit arrives by itself: nobody asks for it."""
    world.change({"app/cm.yaml": config_map("settings", n="2")})
    await world.until_source(is_ready)
    if (await world.data("settings")) != {"n": "2"}:
        await world.ask()
    await world.until_applied("app")
    assert await world.data("settings") == {"n": "2"}


async def test_an_empty_repository_waits_for_its_first_commit(world: World) -> None:
    async with world.daemon() as running:
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_source(failed("EmptyGitRepository", "fleet"))
        await world.until_target("app", failed("ArtifactFailed"))
        await world.until_told("fleet", "EmptyGitRepository", kind="GitRepository")
        world.commit({"app/cm.yaml": config_map("settings", n="1")})
        await world.until_applied("app")
        assert not running.events(ObjectPruned)


async def test_a_rewritten_repository_is_followed(world: World) -> None:
    async with world.daemon() as running:
        await well(world)
        files = {"app/cm.yaml": config_map("settings", n="rewritten"), "app/more.yaml": config_map("more", n="1")}
        world.head = world.repository.commit(files, orphan=True, message="as if nothing had been")
        await world.ask()
        await world.until_applied("app")
        assert await world.data("settings") == {"n": "rewritten"}
        assert len(running.events(RevisionFetched)) == 2


async def test_a_repository_that_is_gone_takes_nothing_with_it(world: World) -> None:
    async with world.daemon() as running:
        await well(world)
        away = world.directory / "away.git"
        shutil.move(world.repository.path, away)
        await world.ask()
        source = await world.until_source(failed("GitOperationFailed", "fleet"))
        assert source["status"]["artifact"]["revision"] == world.revision
        await world.until_told("fleet", "GitOperationFailed", kind="GitRepository")
        await unharmed(world)
        assert not running.events(ObjectPruned)
        shutil.move(away, world.repository.path)
        await mended(world)


async def test_a_branch_that_is_gone_is_named(world: World) -> None:
    async with world.daemon():
        await well(world)
        await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {"ref": {"branch": "release"}}})
        await world.until_source(failed("GitOperationFailed", "release"))
        await world.until_told("fleet", "GitOperationFailed", "release", kind="GitRepository")
        await unharmed(world)
        await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {"ref": {"branch": "main"}}})
        await mended(world)


@pytest.mark.parametrize("what", ["hang", "hang_transfer"])
async def test_a_server_that_never_answers_is_given_up(world: World, what: str) -> None:
    async with world.daemon():
        await well(world)
        await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {"timeout": f"{SLOW_S}s"}})
        await world.until_source(is_ready)
        setattr(world.git.behaviour, what, True)
        await world.push({"app/cm.yaml": config_map("settings", n="unseen")})
        await world.until_source(failed("GitOperationFailed", f"{SLOW_S} s"))
        await world.until_told("fleet", "GitOperationFailed", f"{SLOW_S} s", kind="GitRepository")
        await unharmed(world)
        setattr(world.git.behaviour, what, False)
        world.git.released.set()
        await mended(world)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (403, "AuthenticationFailed", "403"),
        (404, "GitOperationFailed", "there is no repository at"),
        (500, "GitOperationFailed", "500"),
        (503, "GitOperationFailed", "503"),
    ],
)
async def test_a_server_that_refuses_is_quoted(world: World, status: int, reason: str, words: str) -> None:
    async with world.daemon():
        await well(world)
        world.git.behaviour.status = status
        await world.ask()
        await world.until_source(failed(reason, words))
        await world.until_told("fleet", reason, words, kind="GitRepository")
        await unharmed(world)
        world.git.behaviour.status = None
        await mended(world)


async def test_a_page_that_is_no_git_server_is_told_apart(world: World) -> None:
    async with world.daemon():
        await well(world)
        world.git.behaviour.body = b"<html>Please log in</html>"
        await world.ask()
        await world.until_source(failed("GitOperationFailed", "fleet"))
        await world.until_told("fleet", "GitOperationFailed", "fleet", kind="GitRepository")
        await unharmed(world)
        world.git.behaviour.body = None
        await mended(world)


async def test_wrong_credentials_are_said_to_be_and_their_change_is_noticed(world: World) -> None:
    secret = "s3cret-of-this-test"
    world.git.behaviour.username, world.git.behaviour.password = "ada", secret
    async with world.daemon() as running:
        await well(world)
        world.git.behaviour.password = "another"
        await world.ask()
        source = await world.until_source(failed("AuthenticationFailed", "fleet.git", "spec.secretRef"))
        assert secret not in str(source)
        told = await world.until_told("fleet", "AuthenticationFailed", kind="GitRepository")
        assert secret not in str(told)
        await unharmed(world)
        # The Secret is mended: that alone wakes the source.
        await world.source()
        await mended(world)
        assert not running.events(ObjectPruned)


async def test_a_missing_secret_is_named(world: World) -> None:
    async with world.daemon():
        await well(world)
        await world.delete("v1", "Secret", "fleet-auth")
        missing = f"Secret {world.namespace}/fleet-auth"
        await world.until_source(failed("AuthenticationFailed", missing))
        await world.until_told("fleet", "AuthenticationFailed", missing, kind="GitRepository")
        await unharmed(world)
        await world.source()
        await mended(world)


async def test_a_certificate_that_nobody_vouches_for_is_refused(world: World) -> None:
    async with world.daemon():
        await well(world)
        kind = await world.cluster.kind("v1", "Secret")
        await world.cluster.patch(
            kind, world.namespace, "fleet-auth", {"data": {"ca.crt": None}}, type="merge", manager="test"
        )
        await world.until_source(failed("GitOperationFailed", "certificate"))
        await world.until_told("fleet", "GitOperationFailed", "certificate", kind="GitRepository")
        await unharmed(world)
        await world.source()
        await mended(world)


async def hostile(world: World, *, entry: tuple[int, bytes, str]) -> None:
    """Commits a tree with an entry that Git itself would not make."""
    tree = world.repository.raw_tree(entry)
    world.head = world.repository.commit_tree(tree)
    await world.ask()


async def test_a_link_that_leaves_the_tree_is_refused(world: World) -> None:
    async with world.daemon():
        await well(world)
        await world.push({"app/escape@": "../../../../etc/passwd"})
        await world.until_source(failed("GitOperationFailed", "app/escape", "etc/passwd"))
        await world.until_told("fleet", "GitOperationFailed", "app/escape", kind="GitRepository")
        await unharmed(world)
        world.change({"app/escape@": None})
        await mended(world)


@pytest.mark.parametrize("name", [b"..", b"a\xff", b".git"])
async def test_a_name_that_leads_elsewhere_is_refused(world: World, name: bytes) -> None:
    async with world.daemon():
        await well(world)
        blob = world.repository.blob(b"anything")
        inner = world.repository.raw_tree((0o100644, name, blob))
        await hostile(world, entry=(TREE, b"app", inner))
        source = await world.until_source(failed("GitOperationFailed", "app"))
        await world.until_told("fleet", "GitOperationFailed", "app", kind="GitRepository")
        assert source["status"]["artifact"]["revision"] != world.revision
        await unharmed(world)
        await mended(world)


async def test_a_path_that_is_not_there_is_named(world: World) -> None:
    async with world.daemon() as running:
        await well(world)
        moved = {"apps/cm.yaml": config_map("settings", n="2"), "app/cm.yaml": None, "app/more.yaml": None}
        await world.push(moved)
        await world.until_target("app", failed("ArtifactFailed", "kustomization path not found", "app"))
        await world.until_told("app", "ArtifactFailed", "kustomization path not found", "app")
        assert await world.data("settings") == {"n": "1"}
        assert not running.events(ObjectPruned)
        await world.push({"app/cm.yaml": config_map("settings", n="3")})
        await world.until_applied("app")
        assert await world.data("settings") == {"n": "3"}


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_fifty_thousand_files_are_no_burden(world: World) -> None:
    files: dict[str, str | bytes] = {f"data/{n // 250}/{n}.txt": f"{n}\n" for n in range(50_000)}
    async with world.daemon() as running:
        world.commit({**files, "app/cm.yaml": config_map("settings", n="1")})
        await world.source(timeout="5m")
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_source(is_ready, limit_s=300)
        await world.until_applied("app")
        await running.idle()
        before = len(running.recorded)
        await world.push({"data/0/0.txt": "another\n"})
        await world.until_applied("app")
        assert [
            type(event).__name__ for event in running.events(after=before) if "Rendered" in type(event).__name__
        ] == []
        await world.push({"app/cm.yaml": config_map("settings", n="2")})
        await world.until_applied("app")
    assert await world.data("settings") == {"n": "2"}
    source = await world.get(SOURCE, "GitRepository", "fleet")
    assert source is not None
    assert condition(source, "Ready")["status"] == "True"
