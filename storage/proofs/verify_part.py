"""Verification of one part of a store after another."""

from pathlib import Path

from tidelog.storage.connection import LOG, VIEWS, connect_to_read
from tidelog.storage.errors import StoreError
from tidelog.storage.proofs.parts import LOG_FILE, VIEWS_FILE, Finding, Part, PartResult
from tidelog.storage.proofs.verify_bodies import verify_bodies
from tidelog.storage.proofs.verify_names import Known
from tidelog.storage.proofs.verify_range import EventsVerifier
from tidelog.storage.proofs.verify_structure import verify_structure

MAPPED_BYTES_MAX = 2**40


class PartVerifier:
    """Verifies parts of the store in `directory`, one after another.

    With `mapped`, files are read through memory, which is quicker; a file that is shorter than it says, or a disk that
    fails, then ends the process with a signal.
    """

    def __init__(self, directory: Path, *, mapped: bool = False) -> None:
        self._directory = directory
        self._mapped = mapped
        self._known = Known()

    def verify(self, part: Part) -> PartResult:
        """Verifies a part."""
        name, kind = (VIEWS_FILE, VIEWS) if part.kind == "views" else (LOG_FILE, LOG)
        file = self._directory / name
        try:
            connection = connect_to_read(file, kind)
        except StoreError as error:
            return PartResult(part=part, findings=[Finding(file.name, str(error))], rest=None)
        try:
            if self._mapped:
                connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES_MAX}")
            match part.kind:
                case "events":
                    return EventsVerifier(connection, part, self._known).run()
                case "bodies":
                    return verify_bodies(connection, part)
                case _:
                    return verify_structure(connection, part, file.name)
        finally:
            connection.close()
