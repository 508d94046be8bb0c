"""kill -9 of a process that admits artifacts: what was admitted is whole, and what was not leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.servers.repositories import Repository, git
from tidelog.storage.artifacts import ArtifactStore

pytestmark = pytest.mark.slow

CHILD = Path(__file__).parent / "children" / "import_forever.py"
SOAK = bool(os.environ.get("TIDELOG_SOAK"))
ROUNDS = 200 if SOAK else 10
TREES = 40
PATIENCE_S = 60


def kill_while_importing(store: Path, repository: Repository, trees: list[str], random: Random) -> list[str]:
    """Kills the child at a random moment of the making, or of an import; returns what it told to be admitted."""
    command = [sys.executable, str(CHILD), str(store.parent), str(repository.path), *trees]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = []
    try:
        for _ in range(random.randrange(8)):
            line = child.stdout.readline()
            told.append(line)
        try:
            child.wait(timeout=random.uniform(0, 0.02))
        except subprocess.TimeoutExpired:
            child.kill()
        told += child.stdout.readlines()
    finally:
        child.kill()
        child.wait(timeout=PATIENCE_S)
        child.stdout.close()
    return [line.strip() for line in told if line.endswith("\n") and line != "begin\n"]


def test_kill_leaves_a_store_that_opens_with_all_that_was_admitted(
    tmp_path: Path, repository: Repository, seed: int
) -> None:
    random = Random(seed)
    trees = [
        repository.tree({"n": str(n), "same": "same", f"d{n}/x": "x" * random.randrange(5000)}) for n in range(TREES)
    ]
    directory = tmp_path / "store" / "artifacts.git"
    admitted: set[str] = set()
    for _ in range(ROUNDS):
        chosen = random.sample(trees, 10)
        admitted |= set(kill_while_importing(directory, repository, chosen, random))
        store = ArtifactStore.open(directory.parent)
        for tree in admitted:
            assert store.holds(f"refs/tidelog/trees/{tree}") == tree, "what was admitted is lost"
        kept = {path.name for path in (directory / "refs" / "tidelog" / "trees").glob("*")}
        for tree in kept:
            assert tarred(store, tree)
            store.checkout(tree, None, tmp_path / "out")
            assert (tmp_path / "out" / "same").read_text() == "same"
            remove(tmp_path / "out")
        git("fsck", "--full", "--strict", at=directory)
        assert not list((directory / "tidelog" / "incoming").iterdir())
        assert not [path for path in directory.rglob("*") if path.suffix == ".new" or path.name.startswith("tmp_")]
        packs = directory / "objects" / "pack"
        assert {path.stem for path in packs.glob("*.pack")} == {path.stem for path in packs.glob("*.idx")}
        store.close()
    assert admitted, "no round got as far as an import"


def tarred(store: ArtifactStore, tree: str) -> bool:
    found = store.find_tarball(tree)
    return found is not None and found.size > 0


def remove(directory: Path) -> None:
    subprocess.run(["rm", "-rf", directory], check=True)
