"""Git repositories: asked with Git's own protocol, fetched by a process of their own."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidelog.engine.sources.git.credentials import Credentials, credentials_of
    from tidelog.engine.sources.git.fetcher import GitFetcher
    from tidelog.engine.sources.git.spec import GitHead, GitRef, GitSpec

__all__ = [
    "Credentials",
    "GitFetcher",
    "GitHead",
    "GitRef",
    "GitSpec",
    "credentials_of",
]

_MODULES = {
    "Credentials": "credentials",
    "GitFetcher": "fetcher",
    "credentials_of": "credentials",
}
"""Where a name is, if not in `spec`."""


def __getattr__(name: str) -> object:
    """Imports what is asked for, and no more: the process that transfers has no use for what asks remotes."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'spec')}"), name)
