"""Artifacts: trees in one bare Git object database, and the tar.gz files that statuses name."""

from tidelog.storage.artifacts.check import Limits
from tidelog.storage.artifacts.errors import ArtifactError, HostileTreeError, ObjectMissingError
from tidelog.storage.artifacts.store import ArtifactStore, Quarantine
from tidelog.storage.artifacts.tarballs import Tarball

__all__ = [
    "ArtifactError",
    "ArtifactStore",
    "HostileTreeError",
    "Limits",
    "ObjectMissingError",
    "Quarantine",
    "Tarball",
]
