"""Admits trees to the store at argv[1] until it is killed; argv[2] is a repository with the trees argv[3:].

Each line of the standard output is a tree that was admitted.
"""

import os
import sys
from pathlib import Path

import pygit2

from tidelog.storage.artifacts import ArtifactStore
from tidelog.storage.artifacts.objects import Objects
from tidelog.storage.artifacts.tarballs import write_tarball

store = ArtifactStore.open(Path(sys.argv[1]))
source = Objects(Path(sys.argv[2]))
os.write(1, b"begin\n")
for tree in sys.argv[3:]:
    quarantine = store.make_quarantine()
    packed = pygit2.PackBuilder(source.repository)
    packed.add_recur(pygit2.Oid(hex=tree))
    packed.write(str(quarantine.repository / "objects" / "pack"))
    made = write_tarball(source, tree, quarantine.tarball)
    store.admit(quarantine, {f"refs/tidelog/trees/{tree}": tree}, made, tree)
    os.write(1, f"{tree}\n".encode())
    store.drop(quarantine)
