"""Moments as people name them: a position, a time, how long ago, a revision, or the version of a release's chart."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec

from tidelog.events.moment import Time, shown_time, time_of
from tidelog.events.names import Revision, StreamName
from tidelog.events.vocabulary import ReleaseActionEnded, RevisionFetched, RunEnded
from tidelog.storage.errors import MomentError
from tidelog.storage.log import Query
from tidelog.storage.log.reader import LogReader

_part = r"([0-9]+)\s*(s|m|h|d|w|sec(?:ond)?s?|min(?:ute)?s?|h(?:ou)?rs?|days?|weeks?)"
_ago = re.compile(rf"(?:{_part}\s*)+(?:ago)?")
_parts = re.compile(_part)
_to_the_second = re.compile(r".*[T ]\d\d:?\d\d:?\d\d(Z|[+-]\d\d(:?\d\d)?)?", re.IGNORECASE)
DIGITS_MAX = 1_000
"""Of a position that is read as one: Python refuses to convert ever more of them."""
_commit = re.compile(r"(?:.*@)?(?:sha1:|sha256:)?([0-9a-f]{7,64})")
"""A revision, or the beginning of its commit: seven digits tell commits apart in most repositories."""
_chart_version = re.compile(r"v?([0-9]+(?:\.[0-9]+)+(?:[-+][0-9A-Za-z.+-]*)?)")
_units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class MalformedMomentError(ValueError):
    """Raised for a text that names no moment; the message shows the forms that do."""


class TooEarlyError(MomentError):
    """Raised for a moment of before the log."""


def start_of(text: str, reader: LogReader, now: datetime) -> int:
    """The position after which a range begins that goes on from the moment that `text` names; 0 for all of the log.

    As `position_of`, but for a log that is younger than the moment: then it is all.

    Raises:
        MalformedMomentError: when the text names no moment, or several revisions.
        MomentError: when the log has no such position or revision, or the time is yet to come.
    """
    try:
        return position_of(text, reader, now)
    except TooEarlyError:
        return 0


def position_of(text: str, reader: LogReader, now: datetime, stream: StreamName | None = None) -> int:
    """The position of the log at the moment that `text` names.

    A position is itself; digits beyond the log's last may be the first ones of a commit. A time is the last position
    not after it, and one to the second, as times are printed, is all of that second. A time yet to come is none: what
    the log will have learned by then is not known, and to answer with the present would pass for it. A time beyond
    this machine's clock, but not beyond the log's last event, is one that another clock gave. A revision
    (`main@sha1:4a3b…`, `sha1:4a3b…`, or the first seven or more digits of the commit) is when the last run that
    worked by it ended, of `stream` where that is given and has one; where none has ended, when it was fetched. Of a
    HelmRelease, which `stream` has to be, also the version of a chart (`1.2.3`) names a moment: the last at which a
    version of the release with it was deployed.

    Raises:
        MalformedMomentError: when the text names no moment, or several revisions.
        MomentError: when the log has no such position or revision, or nothing as old, or the time is yet to come.
    """
    if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX:
        return _position(text, reader, stream)
    if _commit.fullmatch(text):
        return _position_of_revision(text, reader, stream)
    chart = _chart_version.fullmatch(text)
    if chart and stream is not None and "/HelmRelease/" in stream:
        return _position_of_chart(chart[1], reader, stream)
    time = time_of(_moment(text, now))
    position = reader.position_at(_end_of_second(time) if _to_the_second.fullmatch(text.strip()) else time)
    if position == 0:
        raise TooEarlyError(f"the log begins after {shown_time(time)}")
    if time > time_of(now) and position == reader.head() and time > reader.time_at(position):
        raise MomentError(
            f"{shown_time(time)} is yet to come (it is {shown_time(time_of(now))}): leave the moment out for now"
        )
    return position


def _position(text: str, reader: LogReader, stream: StreamName | None) -> int:
    """That which digits name. Beyond the log's end they may be the first ones of a commit: some have no letters."""
    position, head = int(text), reader.head()
    if position <= head:
        return position
    if _commit.fullmatch(text):
        with suppress(MomentError):
            return _position_of_revision(text, reader, stream)
    raise MomentError(f"the log has no position {position}: its last is {head}")


def _position_of_revision(text: str, reader: LogReader, stream: StreamName | None) -> int:
    """See `position_of`."""
    fetched = ended = of_stream = 0
    named: set[Revision] = set()
    after, head = 0, reader.head()
    query = Query(types=("RevisionFetched", "RunEnded"), until=head)
    digits = (_commit.fullmatch(text) or [text, text])[1].encode()
    while after < head:
        page, after = reader.next_page(msgspec.structs.replace(query, after=after))
        for recorded in page:
            event = recorded.event if digits in recorded.raw else None
            if not isinstance(event, RevisionFetched | RunEnded) or not _is_named(event.revision, text):
                continue
            position = recorded.envelope.position
            named |= {event.revision} if event.revision else set()
            fetched = position if isinstance(event, RevisionFetched) else fetched
            ended = position if isinstance(event, RunEnded) else ended
            of_stream = position if isinstance(event, RunEnded) and recorded.envelope.stream == stream else of_stream
    if len({revision.rpartition("@")[2] for revision in named}) > 1:
        raise MalformedMomentError(f"{text!r} may be any of {len(named)} revisions: {', '.join(sorted(named))}")
    position = of_stream or ended or fetched
    if not position:
        raise MomentError(f"the log has no revision {text}")
    return position


def _position_of_chart(version: str, reader: LogReader, stream: StreamName) -> int:
    """See `position_of`. What a registry's digest added to a version need not be typed."""
    position = after = 0
    head = reader.head()
    query = Query(stream=stream, types=(ReleaseActionEnded.__name__,), until=head)
    while after < head:
        page, after = reader.next_page(msgspec.structs.replace(query, after=after))
        for recorded in page:
            event = recorded.event
            if isinstance(event, ReleaseActionEnded) and any(
                one.status == "deployed" and version in (known := one.chart_version.removeprefix("v"), _bare(known))
                for one in event.snapshots
            ):
                position = recorded.envelope.position
    if not position:
        raise MomentError(f"no version of the release was deployed with chart version {version}")
    return position


def _bare(version: str) -> str:
    return version.partition("+")[0]


def _is_named(revision: Revision | None, text: str) -> bool:
    """Whether a text is a revision, or the beginning of its commit."""
    if revision is None:
        return False
    name, _, digest = revision.rpartition("@")
    _, _, commit = digest.rpartition(":")
    typed_name, _, typed = text.rpartition("@")
    return typed_name in ("", name) and (commit.startswith(typed) or digest.startswith(typed))


def _end_of_second(time: Time) -> Time:
    return Time(f"{time[:19]}.999999Z")


def _moment(text: str, now: datetime) -> datetime:
    try:
        if _ago.fullmatch(text.strip()):
            lengths = _parts.findall(text)
            return now - sum((timedelta(**{_units[unit[0]]: int(count)}) for count, unit in lengths), timedelta())
        # A time without a zone is the reader's own.
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedMomentError(
            f"{text!r} is no moment: give a position (120), a time (2026-11-23T14:05Z), how long ago (2h ago) "
            "or a revision (main@sha1:4a3b…, or the first seven digits of its commit)"
        ) from None
