"""Git repositories: asked with Git's own protocol, fetched by a process of their own."""

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
