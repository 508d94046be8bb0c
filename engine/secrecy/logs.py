"""No secret value in a log line: whatever is logged while a run is at work passes the filter of that run."""

import logging
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar

from tidelog.engine.secrecy.values import WITHHELD, SecretValues

_current: ContextVar[SecretValues | None] = ContextVar("tidelog_secret_values", default=None)
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Fields that every record has; what else is there came by `extra`."""


@contextmanager
def keeping_secret(values: SecretValues) -> Iterator[SecretValues]:
    """While the block runs, in this task and those that it starts: what is logged passes the filter of `values`."""
    token = _current.set(values)
    try:
        yield values
    finally:
        _current.reset(token)


def secret_values() -> SecretValues | None:
    """The secret values of the present run; None outside one."""
    return _current.get()


def without_secrets(text: str | bytes | BaseException) -> str:
    """A text from outside, or what an exception says, filtered for the present run. Never raises."""
    values = _current.get() or SecretValues()
    if isinstance(text, BaseException):
        try:
            text = str(text)
        except Exception:  # noqa: BLE001 - an exception that cannot say what it is
            return WITHHELD
    return values.filter(text)


class SecrecyFilter(logging.Filter):
    """To be added to every handler (a logger's filters are not asked for the records of loggers below it).

    A handler that hands records to another thread (`QueueHandler`) has it on the side of the run.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Takes the secret values of the present run out of a record; lets every record through."""
        values = _current.get()
        if values:
            try:
                _clean(record, values)
            except Exception:  # noqa: BLE001 - logging must not fail, nor show what it could not search
                record.msg, record.args = WITHHELD, None
                record.exc_info = record.exc_text = record.stack_info = None
        return True


def filter_event(_logger: object, _method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
    """The same as a processor of structlog; to stand after those that format exceptions."""
    values = _current.get()
    if not values:
        return event
    return {values.filter(name): values.filter_all(value) for name, value in event.items()}


def _clean(record: logging.LogRecord, values: SecretValues) -> None:
    record.msg, record.args = values.filter(record.getMessage()), None
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        record.exc_text = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
    # A formatter shows the text, when there is one; the exception itself would show its values to any other.
    record.exc_info = None
    if record.exc_text:
        record.exc_text = values.filter(record.exc_text)
    if record.stack_info:
        record.stack_info = values.filter(record.stack_info)
    for name in vars(record).keys() - _OWN:
        setattr(record, name, values.filter_all(getattr(record, name)))
