"""Verification of one part of a store after another."""

from pathlib import Path

from tidelog.storage.connection import LOG, VIEWS
from tidelog.storage.errors import StoreError
from tidelog.storage.layout import Layout
from tidelog.storage.log.tile_macs import mac_key
from tidelog.storage.proofs.parts import LOG_FILE, VIEWS_FILE, Finding, Part, PartResult
from tidelog.storage.proofs.tables import open_tables
from tidelog.storage.proofs.verify_bodies import verify_bodies
from tidelog.storage.proofs.verify_names import Known
from tidelog.storage.proofs.verify_range import EventsVerifier
from tidelog.storage.proofs.verify_rows import verify_rows
from tidelog.storage.proofs.verify_structure import verify_structure


class PartVerifier:
    """Verifies parts of the store in `directory`, one after another; `alone` is that of `open_tables`."""

    def __init__(self, directory: Path, *, alone: bool = False) -> None:
        self._directory = directory
        self._alone = alone
        self._known = Known()

    def verify(self, part: Part) -> PartResult:
        """Verifies a part."""
        if part.kind == "rows":
            return verify_rows(self._directory / VIEWS_FILE, part)
        name, kind = (VIEWS_FILE, VIEWS) if part.kind == "views" else (LOG_FILE, LOG)
        file = self._directory / name
        try:
            tables = open_tables(file, kind, alone=self._alone)
        except StoreError as error:
            return PartResult(part=part, findings=[Finding(file.name, str(error))], rest=None)
        try:
            match part.kind:
                case "events":
                    return EventsVerifier(tables, part, self._known, self._mac_key() if part.macs else None).run()
                case "bodies":
                    return verify_bodies(tables, part)
                case _:
                    return verify_structure(tables, part, file.name)
        finally:
            tables.close()

    def _mac_key(self) -> bytes | None:
        try:
            return mac_key(Layout(self._directory).key)
        except (OSError, ValueError):  # it was there a moment ago: without it, everything is derived again
            return None
