"""The daemon's log lines: JSON, with the run, and without secrets."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.events.logs import Log, digest, moment, run_id, target
from tidelog.engine.runtime.settings import LogEncoding
from tidelog.engine.runtime.telling.logs import ConsoleFormatter, JsonFormatter, LogLines, log_event, start_logging
from tidelog.engine.secrecy.logs import SecrecyFilter, keeping_secret
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.envelope import decode_envelope
from tidelog.events.names import ObjectId, ObjectKey, PlanId, Revision, TraceId, engine_stream
from tidelog.events.projections import Standing
from tidelog.events.vocabulary import (
    DriftDetected,
    EngineStarted,
    Event,
    FieldDrift,
    HealthChanged,
    HookEnded,
    ObjectObserved,
    ReleaseActionEnded,
    ReleaseDriftChanged,
    RevisionFetched,
    RunEnded,
    StageFailed,
    Verdict,
    VerificationFailed,
)
from tidelog.storage import Recorded

SHOP = target("east", "shop")
SOURCE = ObjectKey("source.toolkit.fluxcd.io", "GitRepository", "flux-system", "shop").stream("east")
WEB = ObjectKey("helm.toolkit.fluxcd.io", "HelmRelease", "shop", "web").stream("east")
DEPLOYMENT = ObjectKey("apps", "Deployment", "shop", "web").stream("east")
SECRET = "correct-horse"


class Lines:
    def __init__(self) -> None:
        self.stream = io.StringIO()

    def __call__(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def only(self) -> dict[str, Any]:
        (line,) = self()
        return line


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    handler = logging.StreamHandler(lines.stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(SecrecyFilter())
    logger = logging.getLogger("tidelog")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def recorded(stream: str, event: Event, **rest: Any) -> Recorded:
    log = Log()
    log.append(stream, event, **rest)
    return Recorded(log.entries[0], decode_envelope(log.entries[0]))


def test_an_event_is_a_line_with_its_object_and_run(lines: Lines) -> None:
    event = RunEnded(outcome="succeeded", generation=1, revision=Revision("main@sha1:1"))
    log_event(recorded(SHOP, event, run=run_id(1), trace=TraceId(run_id(2))))
    line = lines.only
    assert line["ts"].endswith("Z")
    del line["ts"]
    assert line == {
        "level": "info",
        "logger": "tidelog.kustomize-controller",
        "msg": "reconciliation finished",
        "position": 1,
        "controllerKind": "Kustomization",
        "Kustomization": {"name": "shop", "namespace": "flux-system"},
        "name": "shop",
        "namespace": "flux-system",
        "cluster": "east",
        "run": run_id(1),
        "trace": TraceId(run_id(2)),
        "revision": "main@sha1:1",
        "outcome": "succeeded",
    }


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def logging_again() -> Iterator[None]:
    """The package's logger, as it was, afterwards."""
    logger = logging.getLogger("tidelog")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.mark.parametrize(
    ("encoding", "terminal", "for_people"),
    [
        ("auto", True, True),
        ("auto", False, False),
        ("json", True, False),
        ("console", False, True),
    ],
)
@pytest.mark.usefixtures("logging_again")
def test_lines_are_for_people_in_a_terminal_and_json_elsewhere(
    monkeypatch: pytest.MonkeyPatch, encoding: LogEncoding, *, terminal: bool, for_people: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    errors = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    start_logging("info", encoding)
    log_event(recorded(SHOP, RunEnded(outcome="succeeded", generation=1), run=run_id(1), trace=TraceId(run_id(2))))
    line = errors.getvalue()
    if for_people:
        time, rest = line.split(maxsplit=1)
        assert re.fullmatch(r"\d\d:\d\d:\d\d", time)
        assert rest == "info   Kustomization/flux-system/shop  reconciliation finished  outcome=succeeded\n"
    else:
        assert json.loads(line)["msg"] == "reconciliation finished"


def for_people(recorded: Recorded, *, coloured: bool = False, message: str = "") -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(ConsoleFormatter(coloured=coloured))
    handler.addFilter(SecrecyFilter())
    logger = logging.getLogger("tidelog")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel("DEBUG")
    try:
        log_event(recorded, message=message)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    return stream.getvalue().partition("  ")[2]


def test_a_line_for_people_has_what_happened_to_which_object_and_short_commits() -> None:
    fetched = RevisionFetched(
        revision=Revision(f"main@sha1:{'a' * 40}"), tree="t" * 40, artifact=digest("tar"), size=3, message="Open\n\nit"
    )
    assert for_people(recorded(SOURCE, fetched)) == (
        "info   GitRepository/flux-system/shop  revision fetched: Open\n    \n    it  revision=main@sha1:aaaaaaaa\n"
    )
    fields = (FieldDrift(path="spec.replicas", manager="kubectl"),)
    drift = DriftDetected(target=SHOP, uid="1", resource_version="2", fields=fields)
    assert for_people(recorded(DEPLOYMENT, drift)) == (
        "warn   Deployment/shop/web  drift detected  fields=spec.replicas by kubectl\n"
    )


def test_a_line_for_people_cannot_steer_their_terminal_and_quotes_no_secret() -> None:
    failed = StageFailed(stage="render", reason="BuildFailed", final=True, message=f"\x1b[2Jx.yaml:3: {SECRET}")
    with keeping_secret(SecretValues([SECRET])):
        line = for_people(recorded(SHOP, failed))
    assert line.startswith("error  Kustomization/flux-system/shop  stage failed: \\x1b[2Jx.yaml:3: ")
    assert SECRET not in line
    coloured = for_people(recorded(SHOP, failed), coloured=True)
    assert coloured.startswith("\x1b[31merror\x1b[0m")
    assert "\x1b[2J" not in coloured


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (StageFailed(stage="render", reason="BuildFailed", final=True, message="x.yaml:3"), "x.yaml:3"),
        (
            VerificationFailed(
                plan=PlanId("p"),
                policies=digest("p"),
                failed=(Verdict(check="c", passed=False, message="a"), Verdict(check="c", passed=False, message="b")),
            ),
            "a; b",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_an_error_with_its_words(lines: Lines, event: Event, words: str) -> None:
    log_event(recorded(SHOP, event))
    assert (lines.only["level"], lines.only["error"]) == ("error", words)


def test_a_failure_that_repeats_has_the_words_that_it_repeats(lines: Lines) -> None:
    event = StageFailed(stage="render", reason="BuildFailed", final=False, repeats=True, attempt=2)
    log_event(recorded(SHOP, event), message="x.yaml:3")
    assert (lines.only["level"], lines.only["error"]) == ("error", "x.yaml:3")


def test_the_message_of_a_commit_ends_where_its_words_do(lines: Lines) -> None:
    event = RevisionFetched(
        revision=Revision("main@sha1:1"), tree="1", artifact=digest("a"), size=1, message="Green\n\nAt last.\n\n"
    )
    log_event(recorded(SOURCE, event))
    assert (lines.only["message"], lines.only["logger"]) == ("Green\n\nAt last.", "tidelog.source-controller")


def test_drift_names_the_fields_and_who_wrote_them(lines: Lines) -> None:
    fields = (FieldDrift(path="spec.replicas", manager="kubectl"), FieldDrift(path="spec.paused"))
    log_event(recorded(DEPLOYMENT, DriftDetected(target=SHOP, uid="u", resource_version="1", fields=fields)))
    assert lines.only["logger"] == "tidelog.kustomize-controller", "who applies the object, and not who fetches"
    assert lines.only["fields"] == ["spec.replicas by kubectl", "spec.paused by unknown"]


def test_drift_of_what_a_release_made_is_a_line_of_helm_s(lines: Lines) -> None:
    log_event(recorded(DEPLOYMENT, DriftDetected(target=WEB, uid="u", resource_version="1", fields=())))
    assert lines.only["logger"] == "tidelog.helm-controller"


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_an_action_on_a_release_is_a_line_with_its_words(lines: Lines, outcome: str) -> None:
    failed = outcome == "failed"
    event = ReleaseActionEnded(
        action="upgrade",
        name="web",
        namespace="shop",
        version=2,
        outcome="failed" if failed else "succeeded",
        reason="UpgradeFailed" if failed else "UpgradeSucceeded",
        message="it is over",
    )
    log_event(recorded(WEB, event))
    line = lines.only
    assert line["logger"] == "tidelog.helm-controller"
    assert (line["controllerKind"], line["HelmRelease"]) == ("HelmRelease", {"name": "web", "namespace": "shop"})
    assert (line["level"], line["msg"]) == (("error", "action failed") if failed else ("info", "action ended"))
    assert line["error" if failed else "message"] == "it is over"
    assert (line["action"], line["version"], line["reason"]) == ("upgrade", 2, event.reason)


def test_a_hook_that_failed_and_drift_of_a_release_are_for_somebody_to_see_to(lines: Lines) -> None:
    job = ObjectId("batch/Job/shop/migrate")
    hook = HookEnded(
        action="upgrade",
        version=2,
        hook="pre-upgrade",
        object=job,
        path="t",
        outcome="failed",
        started=moment(1),
        message="no",
    )
    for event in (
        hook,
        ReleaseDriftChanged(drifted=True, message="x"),
        ReleaseDriftChanged(drifted=False, message="y"),
    ):
        log_event(recorded(WEB, event))
    told = [(line["level"], line["msg"]) for line in lines()]
    assert told == [("error", "hook failed"), ("info", "release drifts"), ("info", "release does not drift")]
    assert (lines()[0]["object"], lines()[0]["error"]) == (job, "no")


def test_the_life_of_the_engine_is_told_of_no_object(lines: Lines) -> None:
    log_event(recorded(engine_stream("log"), EngineStarted(software="tidelog 1", host="h", pid=1)))
    assert (lines.only["logger"], lines.only["msg"]) == ("tidelog.engine", "engine started")
    assert "controllerKind" not in lines.only


def test_the_first_line_says_where_the_engine_works(lines: Lines) -> None:
    where = {"cluster": "east", "store": "/var/lib/tidelog"}
    told = LogLines(where, lambda _: None)
    where["metrics-addr"] = ":8080"  # known only when it is listened on
    told(recorded(engine_stream("log"), EngineStarted(software="tidelog 1", host="h", pid=7)))
    line = lines.only
    assert line["msg"] == "engine started"
    expected = {"software": "tidelog 1", "host": "h", "pid": 7, **where}
    assert {name: line[name] for name in expected} == expected


def test_failures_that_are_all_alike_are_one_line_and_a_daemon_that_was_started_since_says_it_again(
    lines: Lines,
) -> None:
    standing = Standing(ready="False", reason="GitOperationFailed", message="no way", since=moment(1))
    first = StageFailed(stage="fetch", reason="GitOperationFailed", final=False, message="no way")
    again = StageFailed(stage="fetch", reason="GitOperationFailed", final=False, repeats=True)
    told = LogLines({}, lambda _: standing)
    for event in (first, again, again):
        told(recorded(SHOP, event))
    assert [line["error"] for line in lines()] == ["no way"]
    standing.since = moment(2)  # it was well in between
    told(recorded(SHOP, first))
    assert len(lines()) == 2
    restarted = LogLines({}, lambda _: standing)
    for event in (again, again):
        restarted(recorded(SHOP, event))
    assert [line["error"] for line in lines()] == ["no way"] * 3


def test_what_nobody_reads_has_no_line(lines: Lines) -> None:
    log_event(recorded(DEPLOYMENT, ObjectObserved(uid="u", resource_version="1")))
    log_event(recorded(DEPLOYMENT, HealthChanged(health="Current")))
    assert lines() == []


def test_a_line_is_one_line_whatever_is_in_it(lines: Lines) -> None:
    event = StageFailed(stage="render", reason="BuildFailed", final=True, message='two\nlines and "quotes" \u2028 é')
    log_event(recorded(SHOP, event))
    assert lines.only["error"] == event.message


def test_no_secret_value_is_in_a_line_or_a_traceback_of_the_pass(lines: Lines) -> None:
    with keeping_secret(SecretValues([SECRET])):
        try:
            raise RuntimeError(f"cannot use {SECRET}")
        except RuntimeError:
            logging.getLogger("tidelog").exception("a defect of %s", SECRET, extra={"fields": {"what": SECRET}})
    line = lines.only
    assert SECRET not in lines.stream.getvalue()
    assert line["msg"] == "a defect of ***"
    assert line["what"] == "***"
    assert "RuntimeError: cannot use ***" in line["stacktrace"]


def test_what_is_no_json_is_written_as_text(lines: Lines) -> None:
    logging.getLogger("tidelog").info("x", extra={"fields": {"what": msgspec.UNSET}})
    assert lines.only["what"] == "UNSET"
