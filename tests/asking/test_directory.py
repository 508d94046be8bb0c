"""A directory on this machine as a tree: with Git's ids, and without what an artifact would not have."""

import os
import subprocess
from pathlib import Path

import pytest

from tidelog.engine.sources.directory import DirectoryTree
from tidelog.engine.sources.errors import DirectoryError, FetchError

FILES = {
    "a/b/c.yaml": "c: 1\n",
    "a/b.yaml": "b: 1\n",
    "a-b/x.yaml": "x: 1\n",
    "a.yaml": "a: 1\n",
    "z/ü.yaml": "u: 1\n",
}


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


def git(directory: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOME": str(directory)},
    ).stdout.strip()


def test_a_tree_has_the_id_that_git_gives_it(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "a.yaml").chmod(0o755)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    tree = DirectoryTree.of(tmp_path)
    assert tree.root == git(tmp_path, "write-tree")
    found = tree.entry(tree.root, "a/b/c.yaml")
    assert found
    assert tree.read(found.id) == b"c: 1\n"
    executable = tree.entry(tree.root, "a.yaml")
    assert executable
    assert executable.executable
    assert list(tree.children(tree.root)) == ["a-b", "a.yaml", "a", "z"]


@pytest.mark.parametrize("path", ["nope", "a/nope", "a.yaml/below", "a/b/c.yaml/d"])
def test_what_is_not_there_is_not(tmp_path: Path, path: str) -> None:
    write(tmp_path, FILES)
    tree = DirectoryTree.of(tmp_path)
    assert tree.entry(tree.root, path) is None


def test_what_an_artifact_would_not_have_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, FILES | {".sourceignore": "/a-b/\n", "z/.sourceignore": "ü.yaml\n", "secret.txt": "x"})
    (tmp_path / "link.yaml").symlink_to("/etc/passwd")
    (tmp_path / "out").symlink_to("/etc")
    git(tmp_path, "init", "-q")
    tree = DirectoryTree.of(tmp_path, "*.txt\n")
    assert sorted(tree.children(tree.root)) == [".sourceignore", "a", "a.yaml", "z"]
    assert tree.entry(tree.root, "z/ü.yaml") is None


def test_checkout_writes_what_was_asked_for_and_nothing_else(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    write(source, FILES)
    place.mkdir()
    tree = DirectoryTree.of(source)
    tree.checkout(tree.root, ["a/b", "a.yaml", "nope", "a/b/c.yaml"], place)
    assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()) == [
        "a.yaml",
        "a/b/c.yaml",
    ]
    whole = tmp_path / "whole"
    tree.checkout(tree.root, None, whole)
    assert DirectoryTree.of(whole).root == tree.root


def test_an_empty_directory_is_the_empty_tree(tmp_path: Path) -> None:
    tree = DirectoryTree.of(tmp_path)
    assert tree.root == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    assert tree.children(tree.root) == {}


def test_what_cannot_be_a_tree_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DirectoryError, match="is no directory"):
        DirectoryTree.of(tmp_path / "nowhere")
    write(tmp_path, FILES)
    with monkeypatch.context() as patched:
        patched.setattr("tidelog.engine.sources.directory.FILES_MAX", 3)
        with pytest.raises(DirectoryError, match="more than 3 files"):
            DirectoryTree.of(tmp_path)
    write(tmp_path, {".sourceignore": "#" * 2**21})
    with pytest.raises(FetchError, match=r"\.sourceignore has more than"):
        DirectoryTree.of(tmp_path)
