"""A worker process that logs in at clouds. The engine may end it at any moment."""

import importlib
import logging
import os
import resource
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec

from tidelog.engine.sources.clouds.questions import Answer, Cloud, Denied, DeniedError, Granted, Job
from tidelog.engine.worker import die_with_parent, messages, write

MEMORY_BYTES: Final = 512 * 2**20
SHOWN_MAX: Final = 400
SECRET_NAMES: Final = ("SECRET", "TOKEN", "PASSWORD", "IDENTITY_HEADER")
"""What the name of a variable has in it whose value is secret."""
MODULES: Final[dict[Cloud, str]] = {
    cloud: f"tidelog.engine.sources.clouds.{cloud}" for cloud in ("aws", "azure", "gcp")
}

_decode = msgspec.msgpack.Decoder(Job).decode


def main() -> None:
    """Answers until stdin ends."""
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()  # what libraries would say to nobody
    for message in messages():
        write(msgspec.msgpack.encode(answer(_decode(message))))


def answer(job: Job) -> Answer:
    """What the cloud gives, or why it gives nothing."""
    login: Callable[[Job], Granted]
    try:
        login = importlib.import_module(MODULES[job.question.cloud]).login
        return login(job)
    except DeniedError as error:
        return Denied(why=shown(str(error), job))
    except Exception as error:  # noqa: BLE001 - a library's own ways to fail, and what it says may hold a token
        return Denied(why=f"its library failed ({type(error).__name__}): it is tried again")


def shown(text: str, job: Job) -> str:
    """A text from outside, in one line, without what is secret here."""
    given = (job.token, urlsplit(job.question.proxy).password or "")
    secret = [*given, *(value for name, value in os.environ.items() if any(part in name for part in SECRET_NAMES))]
    for value in sorted(filter(None, secret), key=len, reverse=True):
        text = text.replace(value, "***")
    return "".join(sign if sign.isprintable() else " " for sign in text)[:SHOWN_MAX]


if __name__ == "__main__":
    main()
