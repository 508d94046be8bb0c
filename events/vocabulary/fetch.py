"""What sources yield."""

from typing import Literal

import msgspec

from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import Revision, StreamName
from tidelog.events.vocabulary.base import Event, event


class Person(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An author or committer, as the commit claims."""

    name: str
    email: str = ""
    time: Time | None = None


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a source says about a revision."""

    name: str
    value: str


class Chart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a chart was made of."""

    name: str
    source: Revision
    """The revision of its source."""
    values_files: tuple[str, ...] = ()
    """Files that were merged to its values."""


class Signature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A signature that a revision carried, and what became of it."""

    kind: str
    """`gpg`, `ssh`, `cosign`, `notation` or `provenance`."""
    key: str
    verdict: Literal["valid", "invalid", "unknown-key", "not-checked"]
    message: str = ""


@event("RevisionFetched")
class RevisionFetched(Event, frozen=True, kw_only=True):
    """A revision of a source is in the artifact store."""

    revision: Revision
    tree: str
    """The Git tree id (hex) of the artifact in the artifact store."""
    artifact: Digest
    """Of the tar.gz that the source's status names."""
    size: int
    author: Person | None = None
    committer: Person | None = None
    message: str = ""
    signature: Signature | None = None
    annotations: tuple[Annotation, ...] = ()
    """What the source says about the revision, as an OCI artifact does."""
    chart: Chart | None = None
    """Of a HelmChart."""
    directory: str = ""
    """Of a repository on the engine's own machine: where it was. The spec can name no directory."""


@event("RevisionSettled")
class RevisionSettled(Event, frozen=True, kw_only=True):
    """A revision leaves these targets unchanged: nothing that they read differs."""

    revision: Revision
    targets: tuple[StreamName, ...]
