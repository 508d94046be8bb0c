"""How large what strangers offer may be, where whoever runs the engine may say so."""

from typing import Final

import msgspec


class HelmLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Of Helm's indexes and charts, in bytes (contract FL-019)."""

    index_bytes: int = 50 * 2**20
    """Of a repository's index (HP-013)."""
    chart_bytes: int = 10 * 2**20
    """Of a chart's archive (HC-013)."""
    file_bytes: int = 5 * 2**20
    """Of one file of a chart (HC-013)."""


HELM_LIMITS: Final = HelmLimits()
