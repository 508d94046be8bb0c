"""What comes of asking and fetching a source, whatever its kind."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from tidelog.events.digest import Digest
from tidelog.events.names import Revision
from tidelog.events.vocabulary.fetch import Chart, Person, Signature


class Head(msgspec.Struct, frozen=True):
    """What a source has now."""

    revision: Revision


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that is in the artifact store, durably."""

    revision: Revision
    tree: str
    """The artifact's tree: what was fetched, less what is ignored."""
    artifact: Digest
    """Of the artifact's file."""
    size: int
    """Of the artifact's file, in bytes."""
    path: Path
    """Where the artifact's file is."""
    author: Person | None = None
    committer: Person | None = None
    message: str = ""
    """Of a commit, cut where it is very long."""
    signature: Signature | None = None
    chart: Chart | None = None
    """Of a HelmChart: what it was made of."""
    metadata: Mapping[str, str] = {}
    """What the source says about the revision: an OCI artifact's annotations."""
