"""The parts of a verification, and what is found in them."""

import msgspec

FINDINGS_MAX = 100
"""Faults that are told of one part; after that it is damaged beyond listing."""
LOG_FILE, VIEWS_FILE = "log.db", "views.db"


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was written."""

    what: str
    """`event 12`, `body sha256:…`, `tile/1/000`, `checkpoint 10000`, `log.db, index events_id`, …"""
    problem: str


class Part(msgspec.Struct, frozen=True):
    """What is to be verified: events, all bodies, the rows of projections, or a file's structure."""

    kind: str
    first: int = 0
    last: int = 0
    """Positions, both included; a part of events begins where a tile does. Of the structure: all that are verified."""
    macs: bool = False
    """Whether the MACs of tiles are believed: the key that made them is that of the log, and is here."""


class PartResult(msgspec.Struct, kw_only=True):
    """What was found in a part."""

    part: Part
    findings: list[Finding] = []
    count: int = 0
    """Events or bodies that were read."""
    roots: list[bytes | None] = []
    """Of each full tile of leaves, re-derived; None where an event could not be read."""
    rest: list[bytes] | None = []
    """The leaves after the last full tile; None where an event could not be read."""
    times: tuple[str, str] | None = None
    """Of the first and the last event."""
    streams: dict[str, tuple[int, int]] = {}
    """The first and the last version of each stream."""
    tile_entries: dict[str, int] = {}
    """How many entries of full tiles there are, by table: of those that events call for, or of all."""
    lost: int = 0
    """Events that were named as missing or altered, less those by which a gap in a stream's versions is explained."""

    def explains(self, version: int, previous: int) -> bool:
        """Whether events that are lost explain why one version follows another; each explains one gap."""
        gap = version - previous - 1
        if not 0 < gap <= self.lost:
            return False
        self.lost -= gap
        return True
