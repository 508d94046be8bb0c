"""What a worker process does."""

from pathlib import Path

from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.helm.build import inspect, pack
from tidelog.engine.sources.helm.index import BadIndexError, read_index
from tidelog.engine.sources.helm.jobs import Answer, Inspect, Job, Pack, Read, ReadIndex


def do(job: Job) -> Answer:
    """Does a job.

    Raises:
        FetchError: what went wrong.
    """
    match job:
        case ReadIndex():
            return _read_index(job)
        case Inspect():
            return inspect(job)
        case Pack():
            return pack(job)


def _read_index(job: ReadIndex) -> Read:
    try:
        return Read(read_index(Path(job.source), Path(job.into)))
    except BadIndexError as error:
        raise FetchError(
            "IndexationFailed", f"{job.where}: what is there is no index of a Helm repository: {error}", final=True
        ) from None
