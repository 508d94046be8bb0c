"""What can go wrong with artifacts.

ArtifactError
├── HostileTreeError        a tree that is refused; names the path in it
└── ObjectMissingError      an object that the store does not have, or cannot read
"""

from tidelog.storage.errors import StoreError


class ArtifactError(StoreError):
    """The root of the artifact store's errors."""


class HostileTreeError(ArtifactError):
    """Raised for a tree that is not taken in: names, links or sizes that no repository of manifests has."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path or 'the tree'} {why}")
        self.path = path
        self.why = why


class ObjectMissingError(ArtifactError):
    """Raised when an object is not in the store, or is damaged."""

    def __init__(self, what: str, why: str = "is not in the artifact store") -> None:
        super().__init__(f"{what} {why}")
        self.what = what
