"""A fault of the embedded cluster itself, in the log: its place, and not its text, which may quote a Secret."""

import logging
import traceback
from pathlib import Path

logger = logging.getLogger("tidelog.engine")


def log_fault(error: Exception, about: str) -> str:
    """Logs what went wrong where, and returns that."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}, {place.name}"
    logger.error("embedded cluster: %s failed: %s", about, where)
    return where
