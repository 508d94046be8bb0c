"""Whatever is logged during a run passes the filter of that run."""

import asyncio
import io
import logging
from collections.abc import Iterator

import anyio
import anyio.to_thread
import pytest

from tidelog.engine.secrecy import (
    MASK,
    SecrecyFilter,
    SecretValues,
    filter_event,
    keeping_secret,
    secret_values,
    without_secrets,
)
from tidelog.engine.secrecy import values as filtering

SECRETS = SecretValues(["hunter2"])


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler with the filter writes; every field of a record is in its format."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(extra)s", defaults={"extra": ""}))
    handler.addFilter(SecrecyFilter())
    logger = logging.getLogger("tidelog.tests.secrecy")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


LOG = logging.getLogger("tidelog.tests.secrecy.deep.below")


def test_messages_arguments_and_extras_are_filtered(written: io.StringIO) -> None:
    with keeping_secret(SECRETS):
        LOG.warning("login with hunter2")
        LOG.warning("login with %s of %d", "hunter2", 3)
        LOG.warning("login", extra={"extra": {"password": ["hunter2"], "tries": 3, "hunter2": None}})
        LOG.warning({"password": "hunter2"})
    assert "hunter2" not in written.getvalue()
    assert f"login with {MASK} of 3" in written.getvalue()
    assert "'tries': 3" in written.getvalue()


def test_tracebacks_and_stacks_are_filtered(written: io.StringIO) -> None:
    with keeping_secret(SECRETS):
        try:
            try:
                raise ValueError("hunter2 is wrong")
            except ValueError as error:
                raise RuntimeError("no login") from error
        except RuntimeError:
            LOG.exception("failed", stack_info=True)
    assert "RuntimeError: no login" in written.getvalue()
    assert f"ValueError: {MASK} is wrong" in written.getvalue()
    # The source lines of this test hold the value too.
    assert "hunter2" not in written.getvalue()


def test_a_broken_record_is_not_shown_and_fails_nothing(written: io.StringIO) -> None:
    with keeping_secret(SECRETS):
        LOG.warning("%d hunter2", "hunter2")
    assert written.getvalue().splitlines() == [f"{LOG.name} {filtering.WITHHELD} "]


def test_outside_a_run_records_are_left_as_they_are(written: io.StringIO) -> None:
    with keeping_secret(SECRETS):
        pass
    assert secret_values() is None
    LOG.warning("hunter2 is a word like any other")
    assert "hunter2 is a word" in written.getvalue()


async def test_each_run_has_its_own_values_in_its_tasks_and_threads(written: io.StringIO) -> None:
    async def run(name: str, other: str) -> None:
        with keeping_secret(SecretValues([f"secret-of-{name}"])):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, LOG.warning, f"secret-of-{name} in a thread of {name}")
                await asyncio.sleep(0)
                LOG.warning("%s", f"secret-of-{name} in {name}, which knows not secret-of-{other}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, "one", "two")
        tasks.start_soon(run, "two", "one")
    lines = sorted(written.getvalue().splitlines())
    assert lines == sorted(
        f"{LOG.name} {line} "
        for line in (
            "*** in a thread of one",
            "*** in a thread of two",
            "*** in one, which knows not secret-of-two",
            "*** in two, which knows not secret-of-one",
        )
    )


def test_events_of_structlog_are_filtered() -> None:
    event = {"event": "login hunter2", "args": ("hunter2", {"b": b"hunter2"}), "count": 2, "error": OSError("hunter2")}
    assert filter_event(None, "info", event) == event
    with keeping_secret(SECRETS):
        assert filter_event(None, "info", event) == {
            "event": "login ***",
            "args": ["***", {"b": "***"}],
            "count": 2,
            "error": "***",
        }


def test_a_number_that_is_a_secret_is_masked() -> None:
    secrets = SecretValues(["12345678"])
    assert secrets.filter_all({"pin": 12345678, "count": 1234}) == {"pin": "***", "count": 1234}


def test_exceptions_and_texts_from_outside_are_filtered_for_the_run() -> None:
    class Speechless(Exception):
        def __str__(self) -> str:
            raise ValueError("hunter2")

    with keeping_secret(SECRETS):
        assert without_secrets(OSError("hunter2: not found")) == "***: not found"
        assert without_secrets(b"token aHVudGVyMg\xff") == "token ***\ufffd"
        assert without_secrets(Speechless()) == filtering.WITHHELD
    assert without_secrets("hunter2") == "hunter2"
