"""The artifact store: what is admitted is kept and read; tar.gz files come and go as statuses name them."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest

from tests.servers.repositories import Repository, git
from tidelog.storage.artifacts import ArtifactStore, ObjectMissingError, Tarball
from tidelog.storage.artifacts.filtering import EMPTY_TREE, filtered
from tidelog.storage.artifacts.objects import Objects
from tidelog.storage.artifacts.tarballs import write_tarball
from tidelog.storage.errors import NotAStoreError
from tidelog.storage.trees import TreeEntry, Trees

FILES = {"a.yaml": "a: 1\n", "d/b.yaml": "b: 2\n", "d/run*": "#!", "d/l@": "../a.yaml", "e/f/g": "g"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ArtifactStore]:
    opened = ArtifactStore.open(tmp_path / "store")
    yield opened
    opened.close()


def admit(store: ArtifactStore, repository: Repository, tree: str) -> Tarball:
    """As a fetch does it, without a network."""
    quarantine = store.make_quarantine()
    source = Objects(repository.path)
    packed = pygit2.PackBuilder(source.repository)
    packed.add_recur(pygit2.Oid(hex=tree))
    packed.write(str(quarantine.repository / "objects" / "pack"))
    made = write_tarball(source, tree, quarantine.tarball)
    source.close()
    try:
        return store.admit(quarantine, {f"refs/tidelog/trees/{tree}": tree}, made, tree)
    finally:
        store.drop(quarantine)


def test_what_is_admitted_is_read(store: ArtifactStore, repository: Repository) -> None:
    trees: Trees = store
    tree = repository.tree(FILES)
    admit(store, repository, tree)
    assert list(trees.children(tree)) == ["a.yaml", "d", "e"]
    found = trees.entry(tree, "d/run")
    assert found is not None
    assert (found.kind, found.executable, trees.read(found.id)) == ("blob", True, b"#!")
    link = trees.entry(tree, "d/l")
    assert link is not None
    assert (link.kind, trees.read(link.id)) == ("link", b"../a.yaml")
    assert trees.entry(tree, "") == TreeEntry(tree, "tree")
    for absent in ("x", "a.yaml/x", "d/l/x", "d/", "../a.yaml"):
        assert trees.entry(tree, absent) is None
    git("fsck", "--full", "--strict", at=store.directory)
    assert store.holds(f"refs/tidelog/trees/{tree}") == tree


def test_it_is_read_after_opening_again(tmp_path: Path, store: ArtifactStore, repository: Repository) -> None:
    tree = repository.tree(FILES)
    kept = admit(store, repository, tree)
    for again in (ArtifactStore.open(store.directory.parent), ArtifactStore.read_only(store.directory.parent)):
        assert again.entry(tree, "e/f/g") is not None
        assert again.find_tarball(tree) == kept
        again.close()


def test_object_that_is_not_there_is_named(store: ArtifactStore) -> None:
    with pytest.raises(ObjectMissingError, match="the blob 1111"):
        store.read("1" * 40)
    with pytest.raises(ObjectMissingError, match="the tree 1111"):
        store.children("1" * 40)


def tree_at(path: Path) -> dict[str, str]:
    return {
        str(each.relative_to(path)): str(each.readlink()) if each.is_symlink() else each.read_text()
        for each in path.rglob("*")
        if not each.is_dir() or each.is_symlink()
    }


def test_whole_tree_is_checked_out(tmp_path: Path, store: ArtifactStore, repository: Repository) -> None:
    tree = repository.tree(FILES)
    admit(store, repository, tree)
    store.checkout(tree, None, tmp_path / "out")
    assert tree_at(tmp_path / "out") == {name.rstrip("*@"): content for name, content in FILES.items()}
    assert os.access(tmp_path / "out" / "d" / "run", os.X_OK)
    assert not os.access(tmp_path / "out" / "a.yaml", os.X_OK)


def test_paths_are_checked_out_with_what_is_below_them(
    tmp_path: Path, store: ArtifactStore, repository: Repository
) -> None:
    tree = repository.tree(FILES)
    admit(store, repository, tree)
    store.checkout(tree, ["d/b.yaml", "e", "e/f", "gone", "a.yaml/x"], tmp_path / "out")
    assert set(tree_at(tmp_path / "out")) == {"d/b.yaml", "e/f/g"}
    with pytest.raises(FileExistsError):
        store.checkout(tree, ["e"], tmp_path / "out")


def test_digest_is_the_sha256_of_the_file_as_it_is_stored(store: ArtifactStore, repository: Repository) -> None:
    kept = admit(store, repository, repository.tree(FILES))
    assert kept.digest == "sha256:" + hashlib.sha256(kept.path.read_bytes()).hexdigest()
    assert kept.size == kept.path.stat().st_size


def test_same_tree_has_the_same_tarball(store: ArtifactStore, repository: Repository) -> None:
    tree = repository.tree(FILES)
    kept = admit(store, repository, tree)
    content = kept.path.read_bytes()
    kept.path.unlink()
    assert store.check_tarball(kept.digest) == "missing"
    again = store.tarball(tree)
    assert again == kept
    assert again.path.read_bytes() == content


def test_tarball_that_was_altered_is_noticed_and_made_anew(store: ArtifactStore, repository: Repository) -> None:
    tree = repository.tree(FILES)
    kept = admit(store, repository, tree)
    content = kept.path.read_bytes()
    kept.path.write_bytes(content[:-1] + b"!")
    later = ArtifactStore.open(store.directory.parent)
    assert later.check_tarball(kept.digest) == "damaged"
    assert not kept.path.exists()
    assert later.tarball(tree).path.read_bytes() == content
    later.close()


def test_tarball_is_kept_as_long_as_a_status_names_it(store: ArtifactStore, repository: Repository) -> None:
    one, two, three = (admit(store, repository, repository.tree({"n": n})) for n in "123")
    old = time.time() - 61
    for tarball in (one, two):
        os.utime(tarball.path, (old, old))
    assert store.collect({one.digest}) == 1
    assert one.path.exists()
    assert not two.path.exists()
    assert three.path.exists(), "it is too new: someone may be reading it"
    assert store.tarball_path(two.digest) is None


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha256:*", "", "sha256:", "x" * 300])
def test_digest_that_is_none_leads_nowhere(store: ArtifactStore, digest: str) -> None:
    assert store.tarball_path(digest) is None  # type: ignore[arg-type]


def test_filtering_leaves_out_files_and_what_is_then_empty(store: ArtifactStore, repository: Repository) -> None:
    objects = Objects(repository.path)
    tree = repository.tree(FILES)
    assert filtered(objects, tree, lambda path: True) == (tree, [])
    kept, made = filtered(objects, tree, lambda path: not path.startswith("e/") and path != "d/run")
    assert kept == repository.tree({name: FILES[name] for name in ("a.yaml", "d/b.yaml", "d/l@")})
    assert kept in made
    assert filtered(objects, tree, lambda path: False)[0] == EMPTY_TREE
    objects.close()


def test_leftovers_are_swept_away_on_opening(store: ArtifactStore, repository: Repository) -> None:
    tree = repository.tree(FILES)
    admit(store, repository, tree)
    store.make_quarantine()
    packs = store.directory / "objects" / "pack"
    lonely = packs / f"pack-{'0' * 40}.pack"
    lonely.write_bytes(b"PACK")
    (store.directory / "refs" / "tidelog" / "trees" / "x.new").write_text("half")
    again = ArtifactStore.open(store.directory.parent)
    assert not lonely.exists()
    assert not list((store.directory / "tidelog" / "incoming").iterdir())
    assert not list(store.directory.rglob("*.new"))
    assert again.entry(tree, "a.yaml") is not None
    again.close()


def test_store_that_was_never_made_whole_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "store" / "artifacts.git.new" / "objects"
    half.mkdir(parents=True)
    store = ArtifactStore.open(tmp_path / "store")
    assert not half.exists()
    store.close()


def test_reading_needs_a_store(tmp_path: Path) -> None:
    with pytest.raises(ObjectMissingError, match="nothing was fetched yet"):
        ArtifactStore.read_only(tmp_path)


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAStoreError, match="it is a file, or lies below one: name a directory"):
        ArtifactStore.open(tmp_path / "file")


def test_who_only_reads_packs_elsewhere_and_removes_nothing(
    tmp_path: Path, store: ArtifactStore, repository: Repository
) -> None:
    tree = repository.tree({"a": b"1"})
    kept = admit(store, repository, tree)
    reader = ArtifactStore.read_only(tmp_path / "store")
    assert reader.whole_tarball(kept.digest) == kept.path
    content = kept.path.read_bytes()
    kept.path.write_bytes(b"damaged")
    assert reader.whole_tarball(kept.digest) is None
    assert kept.path.read_bytes() == b"damaged"
    kept.path.unlink()
    assert reader.whole_tarball(kept.digest) is None
    before = sorted(tmp_path.rglob("*"))
    (tmp_path.parent / "elsewhere").mkdir(exist_ok=True)
    packed = reader.pack(tree, tmp_path.parent / "elsewhere" / f"{tmp_path.name}.tgz")
    assert packed.read_bytes() == content
    assert sorted(tmp_path.rglob("*")) == before
    reader.close()
