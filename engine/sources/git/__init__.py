"""Git repositories: asked with Git's own protocol, fetched by a process of their own."""

from tidelog.engine.sources.git.credentials import Credentials, credentials_of
from tidelog.engine.sources.git.fetcher import GitFetcher, Settings
from tidelog.engine.sources.git.spec import Fetched, GitRef, GitSpec, Head

__all__ = [
    "Credentials",
    "Fetched",
    "GitFetcher",
    "GitRef",
    "GitSpec",
    "Head",
    "Settings",
    "credentials_of",
]
