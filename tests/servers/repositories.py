"""Git repositories for tests, made with Git itself, and with libgit2 where that is the same and quicker."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

FILE = 0o100644
LINK = 0o120000
TREE = 0o40000
EPOCH = 1_700_000_000


def git(*arguments: str | Path, at: Path, stdin: str | None = None, time_s: int = EPOCH) -> str:
    """Runs Git at `at`, with nobody's configuration; returns what it prints."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Grace",
        "GIT_COMMITTER_EMAIL": "grace@example.org",
        "GIT_AUTHOR_DATE": f"{time_s} +0000",
        "GIT_COMMITTER_DATE": f"{time_s} +0000",
    }
    ran = subprocess.run(
        ["git", *arguments], cwd=at, env=environment, input=stdin, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"git {arguments}: {ran.stderr}"
    return ran.stdout.strip()


@dataclass
class Repository:
    """A bare repository, without a working tree: commits are made of mappings."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "Repository":
        path.mkdir(parents=True)
        git("init", "--quiet", "--bare", "--initial-branch=main", at=path)
        return cls(path)

    def commit(
        self,
        files: Mapping[str, str | bytes],
        *,
        branch: str = "main",
        message: str = "a change",
        time_s: int = EPOCH,
        orphan: bool = False,
    ) -> str:
        """Commits exactly these files to a branch; returns the commit's id."""
        return self.commit_tree(self.tree(files), branch=branch, message=message, time_s=time_s, orphan=orphan)

    def commit_tree(
        self, tree: str, *, branch: str = "main", message: str = "a change", time_s: int = EPOCH, orphan: bool = False
    ) -> str:
        """Commits a tree to a branch."""
        # As `git commit-tree -m` and `git update-ref` do it, without their three processes: commits are many.
        opened = pygit2.Repository(str(self.path))
        reference = f"refs/heads/{branch}"
        known = opened.references.get(reference)
        parents = [known.target] if known is not None and not orphan else []
        ada = pygit2.Signature("Ada", "ada@example.org", time_s, 0)
        grace = pygit2.Signature("Grace", "grace@example.org", time_s, 0)
        text = message if not message or message.endswith("\n") else f"{message}\n"
        commit = opened.create_commit(None, ada, grace, text, pygit2.Oid(hex=tree), parents)
        opened.references.create(reference, commit, force=True)
        return str(commit)

    def tree(self, files: Mapping[str, str | bytes]) -> str:
        """Writes a tree of files. A name that ends in `@` is a link, one that ends in `*` an executable."""
        opened = pygit2.Repository(str(self.path))
        builder = pygit2.Index()
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            mode = {"@": LINK, "*": 0o100755}.get(name[-1], FILE)
            builder.add(pygit2.IndexEntry(name.rstrip("@*"), opened.create_blob(data), mode))  # type: ignore[arg-type]
        return str(builder.write_tree(opened))

    def blob(self, data: bytes) -> str:
        return str(pygit2.Repository(str(self.path)).create_blob(data))

    def raw_tree(self, *entries: tuple[int, bytes, str]) -> str:
        """Writes a tree as it is told to: what Git itself would refuse."""
        data = b"".join(b"%o %s\0%s" % (mode, name, bytes.fromhex(object_id)) for mode, name, object_id in entries)
        return str(pygit2.Repository(str(self.path)).odb.write(ObjectType.TREE, data))

    def tag(self, name: str, commit: str, *, annotated: bool = False, time_s: int = EPOCH) -> None:
        how = ["-a", "-m", "a release"] if annotated else []
        git("tag", "--force", *how, name, commit, at=self.path, time_s=time_s)

    def reference(self, name: str, commit: str) -> None:
        git("update-ref", name, commit, at=self.path)
