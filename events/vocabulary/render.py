"""From a tree to the objects that a target wants."""

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.names import Revision
from tidelog.events.vocabulary.base import Event, event


class Tool(msgspec.Struct, frozen=True):
    """A program that a stage ran, with its version."""

    name: str
    version: str


@event("Rendered")
class Rendered(Event, frozen=True, kw_only=True):
    """A target's objects were built."""

    revision: Revision
    inputs: Digest
    """Of all that the stage read; a later run with equal inputs takes this result."""
    read_set: BodyRef
    """List of (path, blob or subtree id, or null for what was looked for and absent).

    Of a release what its chart looked up in the cluster: (object id, resourceVersion or null); a list has `*` for a
    name, and the kinds of an API have its group and version, both with a digest.
    """
    toolchain: tuple[Tool, ...]
    set: Digest
    """Of the rendered set; equal sets need no plan."""
    objects: BodyRef
    """The rendered set: list of (object id, object digest, API version), sorted.

    Of a Kustomization that is secret also the digest of a sealed body: the secret values in each field of its spec.
    """
    count: int
