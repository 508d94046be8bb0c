"""What may go wrong with requests, for tests: a wrapper around what answers.

What happens follows from the seed and the order of the requests, each rule with a sequence of chances of its own.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final, Literal, TypeAlias

import anyio
import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded.audit import Asked, asked_of
from tidelog.engine.cluster.embedded.objects import encoded
from tidelog.engine.cluster.embedded.reading import GONE, LIST_GONE
from tidelog.engine.cluster.embedded.registry import Registry
from tidelog.engine.cluster.embedded.requests import Answer, Handler, Request, error_answer
from tidelog.engine.cluster.embedded.statuses import StatusError, gone
from tidelog.events.typed import decoder

REMEMBERED_MAX: Final = 10_000
HELD_S: Final = 0.05


class Delay(Struct, frozen=True):
    """The answer takes longer."""

    seconds: float


class Refusal(Struct, frozen=True):
    """An error, and nothing is done. Reasons as the server has them: TooManyRequests, Conflict, InternalError."""

    code: int
    reason: str
    retry_after_s: int | None = None


class Cut(Struct, frozen=True):
    """The connection is cut.

    Before anything is done; after it was done, and before the answer; or in the midst of the answer. Who asks cannot
    tell the first two apart.
    """

    when: Literal["before", "after", "amid"]


class LostToken(Struct, frozen=True):
    """The `continue` token of a list is no longer known: 410, and the list is to be begun anew. Of later pages only."""


class BrokenWatch(Struct, frozen=True):
    """A watch that does not go on: of watches only."""

    after: int = 0
    """How many events come first."""
    how: Literal["cut", "end", "gone"] = "cut"
    """The connection is cut, the answer ends in order (as when its time is over), or it says 410 and ends."""


class MixedWatch(Struct, frozen=True):
    """Events of different objects change places, and some come twice: of watches only.

    Those of one object keep their order, and none passes a bookmark.
    """

    window: int = 8
    """How many events at most are held back together."""
    again: float = 0.0
    """The chance of an event to come again."""
    held_s: float = HELD_S
    """How long events are held back at most while nothing follows."""


Fault: TypeAlias = Delay | Refusal | Cut | LostToken | BrokenWatch | MixedWatch


class Rule(Struct, frozen=True, kw_only=True):
    """What is to go wrong, and with which requests; what is left empty chooses all."""

    fault: Fault
    verbs: tuple[str, ...] = ()
    """As audit logs have them."""
    resources: tuple[str, ...] = ()
    """As in a Role: `configmaps`, `deployments/status`."""
    users: tuple[str, ...] = ()
    """Who asks, or as whom."""
    changes: bool = False
    """Only what changes something for good."""
    skip: int = 0
    """How many requests pass first."""
    times: int | None = None
    """With how many requests; None: with each."""
    chance: float = 1.0


class Happened(Struct, frozen=True):
    """A fault that a request met with."""

    asked: Asked
    fault: Fault


class Faults:
    """Has requests go wrong, as rules say. Without rules it passes all on."""

    def __init__(self, inner: Handler, registry: Registry, *, seed: int = 0) -> None:
        """Of those that `inner` answers."""
        self.happened: deque[Happened] = deque(maxlen=REMEMBERED_MAX)
        """The last of what went wrong."""
        self._inner = inner
        self._registry = registry
        self._seed = seed
        self._rules: list[_Counted] = []

    def inject(self, *rules: Rule) -> None:
        """Puts these rules in the place of those that were there; of none, nothing goes wrong any more.

        Every delay that a rule has for a request is kept; of other faults it meets with the first.
        """
        self._rules = [_Counted(rule, random.Random(f"{self._seed}/{n}")) for n, rule in enumerate(rules)]  # noqa: S311 - repeatable

    async def handle(self, request: Request) -> Answer:
        """See `Handler`."""
        if not self._rules:
            return await self._inner.handle(request)
        asked = asked_of(request, self._registry)
        fault: Fault | None = None
        wait_s = 0.0
        for counted in self._rules:
            if not counted.meets(asked, request):
                continue
            self.happened.append(Happened(asked, counted.rule.fault))
            if not isinstance(counted.rule.fault, Delay):
                fault = counted.rule.fault
                break
            wait_s += counted.rule.fault.seconds
        if wait_s:
            await anyio.sleep(wait_s)
        return await self._meet(fault, request)

    async def _meet(self, fault: Fault | None, request: Request) -> Answer:
        match fault:
            case Refusal(code, reason, retry_after_s):
                return error_answer(StatusError(code, reason, f"told to answer {code}", retry_after_s=retry_after_s))
            case LostToken():
                return error_answer(gone(LIST_GONE))
            case Cut("before"):
                raise ConnectionResetError("told to cut the connection before anything is done")
            case Cut("after"):
                await self._inner.handle(request)
                raise ConnectionResetError("told to cut the connection before the answer")
            case _:
                pass
        answer = await self._inner.handle(request)
        match fault:
            case Cut("amid") if answer.stream is None:
                return msgspec.structs.replace(answer, body=b"", stream=_half(answer.body))
            case BrokenWatch() if answer.stream is not None:
                return msgspec.structs.replace(answer, stream=_broken(answer.stream, fault))
            case MixedWatch() if answer.stream is not None:
                chances = random.Random(f"{self._seed}/{len(self.happened)}")  # noqa: S311 - repeatable
                return msgspec.structs.replace(answer, stream=_mixed(answer.stream, fault, chances))
            case _:
                return answer


class _Counted:
    """A rule, and what came of it so far."""

    def __init__(self, rule: Rule, chances: random.Random) -> None:
        self.rule = rule
        self._chances = chances
        self._seen = 0
        self._met = 0

    def meets(self, asked: Asked, request: Request) -> bool:
        """Whether a request meets with the fault."""
        rule = self.rule
        if not _chooses(rule, asked) or not _fits(rule.fault, asked, request):
            return False
        self._seen += 1
        if self._seen <= rule.skip or (rule.times is not None and self._met >= rule.times):
            return False
        if rule.chance < 1.0 and self._chances.random() >= rule.chance:
            return False
        self._met += 1
        return True


def _chooses(rule: Rule, asked: Asked) -> bool:
    resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    return (
        (not rule.verbs or asked.verb in rule.verbs)
        and (not rule.resources or resource in rule.resources)
        and (not rule.users or asked.user in rule.users or asked.impersonator in rule.users)
        and (not rule.changes or asked.changes)
    )


def _fits(fault: Fault, asked: Asked, request: Request) -> bool:
    """Whether a fault can be that of a request."""
    match fault:
        case LostToken():
            return asked.verb == "list" and bool(request.query.get("continue"))
        case BrokenWatch() | MixedWatch():
            return asked.verb == "watch"
        case Cut("amid"):
            return asked.verb != "watch"
        case _:
            return True


async def _half(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body[: len(body) // 2]
    raise ConnectionResetError("told to cut the connection in the midst of the answer")


async def _broken(lines: AsyncGenerator[bytes, None], fault: BrokenWatch) -> AsyncGenerator[bytes, None]:
    async with aclosing(lines):
        if fault.after:
            sent = 0
            async for line in lines:
                yield line
                sent += 1
                if sent == fault.after:
                    break
            else:
                return
    if fault.how == "cut":
        raise ConnectionResetError("told to cut the watch")
    if fault.how == "gone":
        yield b'{"type":"ERROR","object":' + encoded(gone(GONE).status) + b"}\n"


async def _mixed(
    lines: AsyncGenerator[bytes, None], fault: MixedWatch, chances: random.Random
) -> AsyncGenerator[bytes, None]:
    held: list[tuple[str, bytes]] = []
    ahead = _Ahead(lines)
    try:
        while True:
            line, is_last = None, False
            try:
                line = await ahead.next(fault.held_s if held else None)
            except TimeoutError:
                pass
            except StopAsyncIteration:
                is_last = True
            uid = _uid_in(line) if line is not None else ""
            if line is not None and uid:
                held.append((uid, line))
                line = None
                if len(held) < fault.window:
                    continue
            for one in _mix(held, fault.again, chances):
                yield one
            held.clear()
            if line is not None:
                yield line
            if is_last:
                return
    finally:
        await ahead.close()


class _Ahead:
    """Lines that can be waited for a while: the wait ends, and the next line is not lost."""

    def __init__(self, lines: AsyncGenerator[bytes, None]) -> None:
        self._lines = lines
        self._coming: asyncio.Future[bytes] | None = None

    async def next(self, wait_s: float | None) -> bytes:
        """The next line.

        Raises:
            TimeoutError: when it takes longer; the next call goes on waiting for it.
            StopAsyncIteration: when there is none.
        """
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(self._lines))
        await asyncio.wait({self._coming}, timeout=wait_s)
        if not self._coming.done():
            raise TimeoutError
        coming, self._coming = self._coming, None
        return coming.result()

    async def close(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait({self._coming})
        await self._lines.aclose()


class _Metadata(Struct, frozen=True):
    uid: str = ""


class _Object(Struct, frozen=True):
    metadata: _Metadata = _Metadata()


class _Event(Struct, frozen=True):
    type: str
    object: _Object


def _uid_in(line: bytes) -> str:
    """Of the object that an event is about; empty for bookmarks, errors and tables."""
    try:
        event = decoder(_Event)(line)
    except msgspec.DecodeError:
        return ""
    return "" if event.type in ("BOOKMARK", "ERROR") else event.object.metadata.uid


def _mix(held: list[tuple[str, bytes]], again: float, chances: random.Random) -> Iterator[bytes]:
    """Those of one object keep their order; one that comes again does so before the next of its object."""
    waiting: dict[str, deque[bytes]] = {}
    for uid, line in held:
        waiting.setdefault(uid, deque()).append(line)
    repeated: set[bytes] = set()
    while waiting:
        uid = chances.choice(list(waiting))
        line = waiting[uid][0]
        yield line
        if again and line not in repeated and chances.random() < again:
            repeated.add(line)
            continue
        waiting[uid].popleft()
        if not waiting[uid]:
            del waiting[uid]
