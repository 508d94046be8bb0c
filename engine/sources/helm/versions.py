"""Which version of a chart is meant (contract HC-002): that one exactly, else the newest of a range."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.spec import ANY_VERSION, ChartVersion
from tidelog.engine.sources.semver import NoRangeError, Version, range_of, version_of

SHOWN_MAX: Final = 5
"""Versions that a message names."""
# Flux's `^([-a-z0-9]+/?\.?)+$`, so that it takes linear time.
_name = re.compile(r"[-a-z0-9]+(?:(?:/\.?|\.)[-a-z0-9]+)*(?:/\.?|\.)?", re.ASCII)
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def check_name(chart: str) -> None:
    """Refuses what cannot be the name of a chart in a repository (HC-001).

    Raises:
        FetchError: `InvalidChartReference`.
    """
    if not _name.fullmatch(chart):
        raise _invalid(
            f"spec.chart {chart[:80]!r} is no name of a chart: lower-case letters, digits, '-', '/' and '.' make one"
        )


def choose_version(versions: Sequence[ChartVersion], chart: str, wanted: str, where: str) -> ChartVersion:
    """The version that `wanted` means.

    Args:
        versions: of the chart, as the index has them, in descending order.
        chart: its name, for messages.
        wanted: a version or a range; empty or `*` for the newest that is no pre-release.
        where: the repository, for messages.

    Raises:
        FetchError: `InvalidChartReference`, when there is none, or `wanted` is no range.
    """
    if not versions:
        raise _invalid(f"{where} has no chart {chart!r}: correct spec.chart")
    exact = next((candidate for candidate in versions if candidate.version == wanted), None)
    if exact is not None:
        return exact
    try:
        members = range_of(wanted or ANY_VERSION)
    except NoRangeError as error:
        raise _invalid(f"spec.version: {error}") from None
    found = [
        (version, candidate)
        for candidate in versions
        if (version := version_of(candidate.version)) is not None and version in members
    ]
    if not found:
        raise _invalid(_none(versions, chart, wanted, where))
    # The last of equals, as Flux's sort leaves it.
    newest = max(enumerate(found), key=lambda one: (_order(one[1]), one[0]))
    return newest[1][1]


def _order(found: tuple[Version, ChartVersion]) -> tuple[Version, datetime]:
    version, candidate = found
    return version, _created(candidate.created)


def _created(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return _LONG_AGO


def _none(versions: Sequence[ChartVersion], chart: str, wanted: str, where: str) -> str:
    there = ", ".join(version.version for version in versions[:SHOWN_MAX])
    more = f" and {len(versions) - SHOWN_MAX} more" if len(versions) > SHOWN_MAX else ""
    wish = wanted or ANY_VERSION
    return f"{where} has no version of {chart!r} that is {wish!r}: correct spec.version; it has {there}{more}"


def _invalid(message: str) -> FetchError:
    return FetchError("InvalidChartReference", message, final=True)
