"""Logs in at clouds, and keeps what they give for as long as it is good.

The libraries of the clouds block, are large, and look for an identity in files, programs and addresses that the
environment names: they are loaded by a process of their own (`worker.py`), which ends when nobody asks for a while.
"""

import importlib.util
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self, TypeAlias

import anyio
import anyio.abc
import msgspec

from tidelog.engine.framed import FramedProcess, FramedWorkers, WorkerDiedError
from tidelog.engine.sources.clouds.questions import NAMES, Answer, Cloud, Denied, Granted, Job, Question
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.shared import Shared
from tidelog.engine.tasks import leave, tasks_in

WORKER: Final = "tidelog.engine.sources.clouds.worker"
LIBRARIES: Final[dict[Cloud, str]] = {"aws": "botocore", "azure": "azure.identity", "gcp": "google.auth"}
WORKERS: Final = 2
LOGIN_TIMEOUT_S: Final = 30.0
"""For one login; where there is an identity it takes a second, with the process's beginning."""
IDLE_S: Final = 60.0
"""After which the processes end."""
ANSWER_BYTES_MAX: Final = 2**18
CACHE_SIZE: Final = 100
CACHE_S: Final = 3600.0
"""The longest that anything is kept, however long it is good (contract FL-016)."""
SHARE: Final = 0.8
"""Of the time for which it is good, what is kept for it; as in Flux."""
VARIABLES: Final = frozenset(
    {
        "HOME",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "IDENTITY_SERVER_THUMBPRINT",
        "IMDS_ENDPOINT",
        "MSI_ENDPOINT",
        "MSI_SECRET",
        "NO_GCE_CHECK",
    }
)
PREFIXES: Final = ("AWS_", "AZURE_", "GCE_", "GOOGLE_", "CLOUDSDK_")
PROXIES: Final = frozenset({"http_proxy", "https_proxy", "all_proxy"})
NO_PROXY: Final = (
    "127.0.0.1",
    "localhost",
    "metadata.google.internal",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "fd00:ec2::23",
    "fd00:ec2::254",
)
"""Where a machine or Pod is told who it is: no proxy is asked for that."""

Prove: TypeAlias = Callable[[], Awaitable[str]]
"""Gives Kubernetes' token of an account."""


class Login(msgspec.Struct, frozen=True):
    """What a cloud gave; `was_kept` where it was asked before."""

    granted: Granted
    was_kept: bool


class _Kept(msgspec.Struct, frozen=True):
    granted: Granted
    until: float
    """By the clock that only goes on."""
    until_time: float
    """By the clock on the wall, which goes on while a machine sleeps."""


_decoder: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)


class CloudLogins:
    """Logs in, while it is entered; what is asked at once, it asks once.

    Args:
        environment: of the engine; the part that says who we are to clouds goes to their libraries.
        most: answers that are kept at most; none keeps nothing.
        longest_s: for how long an answer is kept at most.
        timeout_s: for one login.
        clock: that only goes on.
        wall: the time of day.
    """

    def __init__(
        self,
        environment: Mapping[str, str] | None = None,
        *,
        most: int = CACHE_SIZE,
        longest_s: float = CACHE_S,
        timeout_s: float = LOGIN_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._environment = _ours(environment or {})
        self._most = most
        self._longest_s = min(longest_s, CACHE_S)
        self._timeout_s = timeout_s
        self._clock, self._wall = clock, wall
        self._kept: OrderedDict[Question, _Kept] = OrderedDict()
        self._workers = FramedWorkers(WORKERS, self._started)
        self._asked = 0
        self._entered = AsyncExitStack()
        self._tasks: anyio.abc.TaskGroup
        self._shared: Shared[Granted]
        self.given = 0
        """How often there was an answer, new or kept."""
        self.denied = 0
        """How often there was none."""
        self.evicted = 0
        """How many answers had to go for others."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as entered:
            entered.push_async_callback(self._workers.close)
            self._tasks = await tasks_in(entered)
            self._shared = Shared(self._tasks)
            self._entered = entered.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await leave(self._entered, kind, error, traceback)

    @property
    def size(self) -> int:
        """How many answers are kept."""
        return len(self._kept)

    async def ask(self, question: Question, prove: Prove | None = None) -> Login:
        """What the cloud gives, now or when it was asked last.

        Args:
            question: what is wanted.
            prove: gives the token of the question's account; asked only where the cloud is.

        Raises:
            FetchError: `AuthenticationFailed`, when it gives nothing, or cannot be asked.
        """
        known = self._known(question)
        try:
            granted = known or await self._shared.run(question, lambda: self._login(question, prove))
        except FetchError:
            self.denied += 1
            raise
        self.given += 1
        return Login(granted, was_kept=known is not None)

    def forget(self, question: Question, granted: Granted) -> None:
        """Forgets what was given: it is taken no more."""
        known = self._kept.get(question)
        if known is not None and known.granted == granted:
            del self._kept[question]

    def _known(self, question: Question) -> Granted | None:
        known = self._kept.get(question)
        if known is None:
            return None
        if known.until <= self._clock() or known.until_time <= self._wall():
            del self._kept[question]
            return None
        self._kept.move_to_end(question)
        return known.granted

    def _keep(self, question: Question, granted: Granted) -> None:
        lasts_s = min(granted.lasts_s * SHARE, self._longest_s)
        if lasts_s <= 0 or self._most <= 0:
            return
        self._kept[question] = _Kept(granted, self._clock() + lasts_s, self._wall() + lasts_s)
        self._kept.move_to_end(question)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
            self.evicted += 1

    async def _login(self, question: Question, prove: Prove | None) -> Granted:
        _require(question.cloud)
        job = Job(question=question, token="" if prove is None else await prove())
        where = f"spec.provider: {NAMES[question.cloud]}"
        try:
            answer = _decoder.decode(await self._workers.ask(msgspec.msgpack.encode(job), self._timeout_s))
        except TimeoutError:
            raise _failed(f"{where} does not let us in within {self._timeout_s:g} s: it is tried again") from None
        except WorkerDiedError as error:
            why = f"the process that logs in at {NAMES[question.cloud]} died (it ended with {error.code})"
            raise _failed(f"{why}: it is tried again") from None
        finally:
            self._asked += 1
            self._tasks.start_soon(self._end_idle, self._asked)
        if isinstance(answer, Denied):
            raise _failed(f"{where}: {answer.why}")
        self._keep(question, answer)
        return answer

    async def _end_idle(self, asked: int) -> None:
        """Ends the processes, unless somebody asks meanwhile."""
        await anyio.sleep(IDLE_S)
        if asked == self._asked:
            await self._workers.end_idle()

    async def _started(self) -> FramedProcess:
        return await FramedProcess.start(WORKER, answer_bytes_max=ANSWER_BYTES_MAX, environment=self._environment)


def is_installed(cloud: Cloud) -> bool:
    """Whether the library of a cloud is there."""
    try:
        return importlib.util.find_spec(LIBRARIES[cloud]) is not None
    except ModuleNotFoundError:  # what it is a part of is not there either
        return False


def _require(cloud: Cloud) -> None:
    if not is_installed(cloud):
        package = LIBRARIES[cloud].replace(".", "-")
        raise FetchError(
            "AuthenticationFailed",
            f"spec.provider: {cloud} needs the package {package}, which is not installed here: install "
            f"tidelog[{cloud}], or leave provider out, and give credentials in spec.secretRef",
            final=True,
        )


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that say who we are to clouds, and how they are reached."""
    found = {
        name: value
        for name, value in environment.items()
        if name in VARIABLES or name.startswith(PREFIXES) or name.lower() in PROXIES
    }
    direct = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return found | dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(filter(None, (direct, *NO_PROXY))))


def _failed(message: str) -> FetchError:
    return FetchError("AuthenticationFailed", message)
