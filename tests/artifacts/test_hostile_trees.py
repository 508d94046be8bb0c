"""Trees that are refused, each with the path that is the reason."""

import pytest

from tests.servers.repositories import FILE, LINK, TREE, Repository
from tidelog.storage.artifacts import HostileTreeError, Limits
from tidelog.storage.artifacts.check import check_content, check_names
from tidelog.storage.artifacts.errors import ObjectMissingError
from tidelog.storage.artifacts.objects import Objects, encode_tree, parse_tree

SMALL = Limits(entries=1000, depth=5, path_bytes=200, file_bytes=100, artifact_bytes=250)


def check(repository: Repository, tree: str, limits: Limits = SMALL) -> None:
    objects = Objects(repository.path)
    try:
        check_names(tree, objects.tree, limits)
        check_content(tree, objects.tree, objects.size, lambda blob: objects.read(blob, "blob"), limits)
    finally:
        objects.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"..", r"apps/\.\. has the name '\.\.', which leads elsewhere"),
        (b".", "leads elsewhere"),
        (b"", "leads elsewhere"),
        (b"/etc", "leads elsewhere"),
        (b"a/b", "leads elsewhere"),
        (b".git", r"apps/\.git has a name that some file systems take for \.git"),
        (b".GIT", "take for .git"),
        (b".git ", "take for .git"),
        (b".git...", "take for .git"),
        (b"git~1", "take for .git"),
        (b".git::$INDEX_ALLOCATION", "take for .git"),
        (".g\u200cit".encode(), "take for .git"),
        (b"caf\xe9", r"apps/caf\\xe9 has a name that is not UTF-8"),
        (b"\xed\xa0\x80", "not UTF-8"),
        (b"a" * 256, "has a name of more than 255 bytes"),
    ],
)
def test_name_is_refused(repository: Repository, name: bytes, why: str) -> None:
    bad = repository.raw_tree((FILE, name, repository.blob(b"x")))
    with pytest.raises(HostileTreeError, match=why):
        check(repository, repository.raw_tree((TREE, b"apps", bad)))


@pytest.mark.parametrize("name", [".gitignore", ".github", "git", "a.git", "Ä", "a b", "A\\b", "...", "con", "-"])
def test_unusual_name_is_taken(repository: Repository, name: str) -> None:
    check(repository, repository.tree({f"apps/{name}": "x"}))


def test_names_that_differ_by_case_are_taken(repository: Repository) -> None:
    check(repository, repository.tree({"a": "1", "A": "2", "readme/x": "3", "README/x": "4"}))


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "../..", "../../..", "a/../../..", "//", "hop/../../x", "out", "", "a\0b", "loop/../../../.."],
)
def test_link_that_leaves_the_tree_is_refused(repository: Repository, target: str) -> None:
    # `hop` leads up to the top, so that the way back from there leaves, though the text does not look like it.
    files = {"apps/hop@": "..", "apps/out@": "../up", "up@": "..", "apps/loop@": "loop", "apps/bad@": target}
    if target != "out":
        files.pop("up@")
        files.pop("apps/out@")
    with pytest.raises(HostileTreeError, match=r"(apps/(bad|out)|up) is a link"):
        check(repository, repository.tree(files))


@pytest.mark.parametrize(
    "target", ["x", "../x", "../apps/./x", "missing", "missing/../x", "self", "../up/x", "x/../../x", "../x/"]
)
def test_link_that_stays_inside_is_taken(repository: Repository, target: str) -> None:
    check(repository, repository.tree({"x": "1", "up@": "apps", "apps/self@": "self", "apps/good@": target}))


def test_mode_that_git_does_not_know_is_refused(repository: Repository) -> None:
    with pytest.raises(HostileTreeError, match="a has the mode 10777"):
        check(repository, repository.raw_tree((0o10777, b"a", repository.blob(b"x"))))


def test_name_that_is_there_twice_is_refused(repository: Repository) -> None:
    blob = repository.blob(b"x")
    with pytest.raises(HostileTreeError, match="a is there twice"):
        check(repository, repository.raw_tree((FILE, b"a", blob), (LINK, b"a", repository.blob(b"/etc"))))


def test_tree_of_trees_that_unfolds_to_millions_of_files_is_refused(repository: Repository) -> None:
    """Nine objects, and a thousand million paths."""
    tree = repository.raw_tree(*((FILE, b"%d" % n, repository.blob(b"x")) for n in range(10)))
    for _ in range(8):
        tree = repository.raw_tree(*((TREE, b"%d" % n, tree) for n in range(10)))
    with pytest.raises(HostileTreeError, match="a tree has at most 500000 files and directories"):
        check(repository, tree, Limits())


def test_deep_tree_is_refused(repository: Repository) -> None:
    tree = repository.raw_tree((FILE, b"f", repository.blob(b"x")))
    for _ in range(3000):
        tree = repository.raw_tree((TREE, b"d", tree))
    with pytest.raises(HostileTreeError, match="d/d/d/d/d lies too deep: 5 directories are the most"):
        check(repository, tree)


def test_long_path_is_refused(repository: Repository) -> None:
    with pytest.raises(HostileTreeError, match="is too long: 200 bytes are the most"):
        check(repository, repository.tree({f"{'a' * 100}/{'b' * 100}": "x"}))


def test_large_file_is_refused_before_it_is_read(repository: Repository) -> None:
    with pytest.raises(
        HostileTreeError, match=r"d/big has 101 bytes; 100 are the most: leave it out with .sourceignore"
    ):
        check(repository, repository.tree({"d/big": "x" * 101}))


def test_many_files_are_refused_by_their_sum(repository: Repository) -> None:
    with pytest.raises(HostileTreeError, match="c is too much: the files of an artifact have at most 250 bytes"):
        check(repository, repository.tree(dict.fromkeys("abc", "x" * 90)))


def test_object_that_is_missing_is_named(repository: Repository) -> None:
    with pytest.raises(ObjectMissingError, match=f"the blob {'1' * 40} is not in the artifact store"):
        check(repository, repository.raw_tree((FILE, b"a", "1" * 40)))
    with pytest.raises(ObjectMissingError, match="the tree"):
        check(repository, repository.raw_tree((TREE, b"a", "1" * 40)))
    with pytest.raises(ObjectMissingError, match="another kind"):
        check(repository, repository.raw_tree((TREE, b"a", repository.blob(b"x"))))


@pytest.mark.parametrize("data", [b"x", b"100644 a", b"100644 a\0short", b"9 a\0" + bytes(20), b" a\0" + bytes(20)])
def test_bytes_that_are_no_tree_are_refused(data: bytes) -> None:
    with pytest.raises(HostileTreeError, match="damaged directory"):
        parse_tree(data)


def test_tree_is_written_as_it_was_read(repository: Repository) -> None:
    objects = Objects(repository.path)
    tree = repository.tree({"a": "1", "b/c*": "2", "l@": "a"})
    data = objects.read(tree, "tree")
    assert encode_tree(parse_tree(data)) == data
    assert objects.write_tree(objects.tree(tree)) == tree
    objects.close()
