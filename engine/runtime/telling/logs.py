"""The daemon's log lines: a line an event that somebody would want to read, for programs or for people.

They are a projection of the event log. As JSON they have run and trace, and the form that `flux logs` reads (Flux
contract CL-007).
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from tidelog.engine.kinds.meta import SOURCE_GROUP
from tidelog.engine.kinds.registry import TARGET_NAMES
from tidelog.engine.runtime.settings import LogEncoding
from tidelog.engine.runtime.watching.declared import controller_of
from tidelog.engine.secrecy.logs import SecrecyFilter
from tidelog.engine.terminal import shortened, takes_colour, visible
from tidelog.events.moment import Time
from tidelog.events.names import ENGINE, ObjectKey, StreamName
from tidelog.events.projections import Standing
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyFinished,
    DriftDetected,
    EngineStarted,
    EngineStopped,
    Event,
    HealthChanged,
    HelmChartSynced,
    HookEnded,
    HookStarted,
    ObservationInterrupted,
    ObservationResumed,
    PlanApproved,
    PlanHeld,
    PlanRejected,
    ReconcileRequested,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseAdopted,
    ReleaseDriftChanged,
    ReleaseHistoryCleared,
    Resumed,
    RevisionFetched,
    RevisionSettled,
    RunEnded,
    StageFailed,
    Suspended,
    VerificationFailed,
)
from tidelog.storage import Recorded

logger = logging.getLogger("tidelog")

# What is worth a line, with what it says. An error is what somebody has to see to.
_LINES: dict[type[Event], tuple[int, str]] = {
    EngineStarted: (logging.INFO, "engine started"),
    EngineStopped: (logging.INFO, "engine stopped"),
    RevisionFetched: (logging.INFO, "revision fetched"),
    RevisionSettled: (logging.INFO, "revision leaves targets unchanged"),
    StageFailed: (logging.ERROR, "stage failed"),
    VerificationFailed: (logging.ERROR, "verification failed"),
    PlanHeld: (logging.WARNING, "plan is held"),
    PlanApproved: (logging.INFO, "plan approved"),
    PlanRejected: (logging.INFO, "plan rejected"),
    ApplyFinished: (logging.INFO, "plan applied"),
    ApplyFailed: (logging.ERROR, "apply failed"),
    DriftDetected: (logging.WARNING, "drift detected"),
    HealthChanged: (logging.DEBUG, "health changed"),
    ReconcileRequested: (logging.INFO, "reconciliation requested"),
    Suspended: (logging.INFO, "suspended"),
    Resumed: (logging.INFO, "resumed"),
    ObservationInterrupted: (logging.WARNING, "observation interrupted"),
    ObservationResumed: (logging.INFO, "observation resumed"),
    RunEnded: (logging.INFO, "reconciliation finished"),
    ReleaseAdopted: (logging.INFO, "release taken over"),
    HelmChartSynced: (logging.INFO, "HelmChart synced"),
    ReleaseActionStarted: (logging.INFO, "action started"),
    HookStarted: (logging.DEBUG, "hook started"),
    HookEnded: (logging.INFO, "hook ended"),
    ReleaseActionEnded: (logging.INFO, "action ended"),
    ReleaseHistoryCleared: (logging.INFO, "history of the release cleared"),
    ReleaseDriftChanged: (logging.INFO, "release does not drift"),
}
_SHOWN = (
    *("revision", "plan", "outcome", "stage", "reason", "check", "created", "configured", "pruned", "why", "kinds"),
    *("action", "version", "chart_name", "chart_version", "hook", "object"),
)
_LEVELS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "info", logging.ERROR: "error"}


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, with what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "level": _LEVELS.get(record.levelno, record.levelname.lower()),
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info or record.exc_text:
            line["stacktrace"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return json.dumps(line, default=str)


class ConsoleFormatter(logging.Formatter):
    """A record as a line for people: time, level, what it is about, what happened; what else is known, dim behind it.

    Where JSON names run, trace and position, there is nothing: the log itself has them.
    """

    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        """The line; a message of several lines goes on below, and so does a stack trace."""
        fields = dict(getattr(record, "fields", {}))
        level = _WORDS.get(record.levelno, record.levelname.lower())
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        kind, *named = (fields.pop(name, "") for name in ("controllerKind", "namespace", "name"))
        about = "/".join(part for part in (kind, *named) if part) if kind else ""
        said = (fields.pop(name) for name in ("error", "message") if name in fields)
        told = shortened(": ".join((record.getMessage(), *map(str, said))))
        parts = (
            self._styled(_DIM, time),
            self._styled(_STYLES.get(level, ""), f"{level:<5}"),
            self._styled(_BOLD, visible(about)),
            "\n    ".join(visible(line) for line in told.splitlines()),
            self._styled(_DIM, _known(fields)),
        )
        line = "  ".join(part for part in parts if part)
        if record.exc_info or record.exc_text:
            line += "\n" + (record.exc_text or self.formatException(record.exc_info))  # type: ignore[arg-type]
        return line

    def _styled(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._coloured and style and text else text


_BOLD, _DIM = "1", "2"
_WORDS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}
_STYLES = {"debug": "2", "info": "32", "warn": "33", "error": "31"}
_FOR_PROGRAMS = frozenset({"position", "cluster", "run", "trace"})


def _known(fields: Mapping[str, object]) -> str:
    """What else a line has, but for what only programs want."""
    shown = {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in fields.items()
        if name not in _FOR_PROGRAMS and not isinstance(value, dict)
    }
    return visible(shortened("  ".join(f"{name}={' '.join(text.split())}" for name, text in shown.items())))


def start_logging(level: str, encoding: LogEncoding = "json") -> None:
    """Has the package's log lines written to standard error, as it is now."""
    for before in [one for one in logger.handlers if isinstance(one.formatter, JsonFormatter | ConsoleFormatter)]:
        logger.removeHandler(before)
    handler = logging.StreamHandler(sys.stderr)
    for_people = encoding == "console" or (encoding == "auto" and sys.stderr.isatty())
    formatter = ConsoleFormatter(coloured=takes_colour(sys.stderr)) if for_people else JsonFormatter()
    handler.setFormatter(formatter)
    handler.addFilter(SecrecyFilter())
    logger.addHandler(handler)
    logger.setLevel({"trace": "DEBUG"}.get(level, level.upper()))
    logger.propagate = False


class LogLines:
    """Writes the lines of events.

    Args:
        where: what the first line says of where the engine works.
        standing_of: how a source or target stands, the event included.
    """

    def __init__(self, where: Mapping[str, object], standing_of: Callable[[StreamName], Standing | None]) -> None:
        self._where = where
        self._standing_of = standing_of
        self._told: dict[StreamName, Time | None] = {}
        """Of each source and target, since when it fails as was last told."""

    def __call__(self, recorded: Recorded) -> None:
        """Writes the line of an event, if it has one: one for failures that are all alike."""
        event, stream = recorded.event, recorded.envelope.stream
        if isinstance(event, EngineStarted):
            log_event(recorded, {"host": event.host, "pid": event.pid, "software": event.software, **self._where})
            return
        if not isinstance(event, StageFailed):
            log_event(recorded)
            return
        standing = self._standing_of(stream)
        if standing is None:
            log_event(recorded)
            return
        if event.repeats and self._told.get(stream, "") == standing.since:
            return
        self._told[stream] = standing.since
        log_event(recorded, message=standing.message)  # which an event that repeats another does not have


def log_event(recorded: Recorded, more: Mapping[str, object] = MappingProxyType({}), message: str = "") -> None:
    """Writes the line of an event, if it has one; with more fields, and a message where the event has none."""
    event, envelope = recorded.event, recorded.envelope
    level, says = _line_of(event)
    if not says or not logger.isEnabledFor(level):
        return
    fields: dict[str, object] = {"position": envelope.position}
    cluster, _, rest = envelope.stream.partition("/")
    if rest != ENGINE:
        key = ObjectKey.parse(rest)
        fields |= {"controllerKind": key.kind, key.kind: {"name": key.name, "namespace": key.namespace}}
        fields |= {"name": key.name, "namespace": key.namespace, "cluster": cluster}
    if envelope.run is not None:
        fields |= {"run": envelope.run, "trace": envelope.trace}
    fields |= {name: value for name in _SHOWN if (value := getattr(event, name, None))}
    fields |= more
    # What a person wrote into a commit may end in empty lines.
    message = (getattr(event, "message", "") or message).strip()
    if isinstance(event, VerificationFailed):
        message = "; ".join(verdict.message for verdict in event.failed)
    if isinstance(event, DriftDetected):
        fields["fields"] = [f"{field.path} by {field.manager or 'unknown'}" for field in event.fields]
    if message:
        fields["error" if level == logging.ERROR else "message"] = message
    logging.getLogger(f"tidelog.{_controller(rest, event)}").log(level, says, extra={"fields": fields})


def _line_of(event: Event) -> tuple[int, str]:
    """The level of an event's line, and what it says."""
    match event:
        case StageFailed() if event.waits_for is not None:
            return logging.INFO, "waiting"
        case ReleaseActionEnded(outcome="failed"):
            return logging.ERROR, "action failed"
        case HookEnded(outcome="failed"):
            return logging.ERROR, "hook failed"
        case ReleaseDriftChanged(drifted=True):
            return logging.WARNING, "release drifts"
        case _:
            return _LINES.get(type(event), (0, ""))


def _controller(rest: str, event: Event) -> str:
    """Whose line it is: that of an object, its target's."""
    if rest == ENGINE:
        return "engine"
    key = ObjectKey.parse(rest)
    if isinstance(event, DriftDetected):
        key = ObjectKey.of_stream(event.target)
    is_flux_s = key.group == SOURCE_GROUP or (key.group, key.kind) in TARGET_NAMES
    return controller_of(key.kind if is_flux_s else "Kustomization")
