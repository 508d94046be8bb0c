"""Verification of the rows of the projections."""

from pathlib import Path

from tidelog.events.projections import PROJECTIONS
from tidelog.storage.errors import StoreCorruptError, StoreError
from tidelog.storage.projections.view_store import ViewStore
from tidelog.storage.proofs.parts import VIEWS_FILE, Finding, Part, PartResult


def verify_rows(file: Path, part: Part) -> PartResult:
    """Names the rows of projections that are not what was written. `file` is not open in this process."""
    return PartResult(part=part, findings=_damaged_rows(file))


def _damaged_rows(file: Path) -> list[Finding]:
    try:
        views = ViewStore.to_read(file)
    except StoreError as error:
        return [Finding(VIEWS_FILE, str(error))]
    if views is None:
        return []
    try:
        return [
            Finding(f"projection {table}, row {key}", "its checksum differs")
            for projection in PROJECTIONS
            for table, key in views.damaged_rows(projection)
        ]
    except StoreCorruptError as error:
        return [Finding(error.what, error.why)]
    except StoreError as error:
        return [Finding(VIEWS_FILE, str(error))]
    finally:
        views.close()
