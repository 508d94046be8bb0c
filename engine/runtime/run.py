"""One run: the reconciliation of one source or target, and what it records.

A run begins with its first event. A pass that stops at a wait (for health, or an approval) leaves it open, and
the next pass goes on with it; a newer revision or spec supersedes it.
"""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import anyio.to_thread
import msgspec

from tidelog.engine.cluster.errors import PASSING, ClusterError
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.repeats import Repeats
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.texts import cut, first_of
from tidelog.engine.secrecy.logs import secret_values
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.names import Revision, RunId, StreamName, TraceId
from tidelog.events.projections import Standing
from tidelog.events.vocabulary import Event, Person, RevisionFetched, RunEnded, StageFailed, Verdict, VerificationFailed
from tidelog.events.vocabulary.run import Stage
from tidelog.storage.errors import VersionConflictError
from tidelog.storage.log.ids import new_id

MESSAGE_BYTES_MAX = 16_384
"""Of a failure, in JSON: an event is small, and a condition holds 32 KiB."""
VERDICT_BYTES_MAX = 2_048
"""Of what one verdict says, in JSON."""
VERDICTS_BYTES_MAX = 32_768
"""Of the verdicts in an event, in JSON; all of them are in its body where they are more."""
NAME_BYTES_MAX = 512
"""Of the name of a person, as a commit has it, in JSON."""

CONFLICTS_MAX = 8
"""How often an append is tried again where others appended first."""


class StageError(Exception):
    """Raised when a stage ends without its result. Its message is for the person who reads the condition."""

    def __init__(
        self,
        stage: Stage,
        reason: str,
        message: str,
        *,
        final: bool = False,
        stalled: bool = False,
        waits_for: StreamName | None = None,
        retry_s: float | None = None,
        asked_s: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.reason = reason
        self.final = final
        self.stalled = stalled
        self.waits_for = waits_for
        self.retry_s = retry_s
        """When to try again, where that is known better than by the retry interval."""
        self.asked_s = asked_s
        """For how long the API server asks to be left alone."""


class Removed(Exception):
    """Raised when the source or target of a run is no more, so that nothing more is to be done for it."""


class Stop(Exception):
    """Raised when a pass ends before its end, and everything that is to be recorded has been."""

    def __init__(self, again_s: float | None = None) -> None:
        super().__init__()
        self.again_s = again_s


class Refused(Stop):
    """Raised when a plan did not pass its verification."""

    def __init__(self, message: str, again_s: float | None) -> None:
        super().__init__(again_s)
        self.message = message


class Run:
    """What a pass records, and under which run and trace."""

    def __init__(self, memory: Memory, stream: StreamName, trigger: Trigger) -> None:
        self.memory = memory
        self.stream = stream
        self.trigger = trigger
        known = secret_values()
        self.secrets = SecretValues() if known is None else known
        """The secret values that this pass came to know: no text from outside is recorded with one of them."""
        self._origin: Origin | None = None
        self._uid = self._declared_uid()
        self.records = 0
        """Events recorded by this pass."""

    @property
    def standing(self) -> Standing:
        """How the source or target stands now."""
        return self.memory.conditions.get(self.stream) or Standing(ready="Unknown")

    @property
    def origin(self) -> Origin:
        """The run that is open, or else a new one."""
        if self._origin is None:
            standing = self.standing
            self._origin = Origin(
                actor=self.trigger.actor,
                run=standing.run or RunId(new_id()),
                trace=(standing.trace if standing.run else None) or self.trigger.trace or TraceId(new_id()),
                cause=self.trigger.cause,
            )
        return self._origin

    @property
    def id(self) -> RunId:
        """The run's id."""
        if self.origin.run is None:
            raise RuntimeError("a run without an id")
        return self.origin.run

    async def record(self, events: Sequence[Event], bodies: Sequence[Body] = ()) -> None:
        """Records events of this run in its stream, after all that is there; requests may have come between.

        Raises:
            StageError: when another run has begun in the stream meanwhile, and this one must not go on.
            Removed: when what it is for was removed meanwhile, and perhaps made again.
        """
        await self._prepare()
        scrubbed, bodies = [], list(bodies)
        for event in events:
            if isinstance(event, VerificationFailed):
                event, all_of_them = self._refusal(event)  # noqa: PLW2901 - as it is recorded
                bodies += all_of_them
            scrubbed.append(self._scrubbed(event))
        for _ in range(CONFLICTS_MAX):
            if self._declared_uid() != self._uid:
                raise Removed(self.stream)
            origin = self.origin
            try:
                recorded = await self.memory.append(
                    self.stream, scrubbed, origin, bodies=bodies, expected=self.memory.version_of(self.stream)
                )
            except VersionConflictError:
                await self.memory.read_missing()
                if self.standing.run not in (None, origin.run):
                    raise StageError("apply", "Superseded", "another run has begun", retry_s=0.0) from None
                continue
            origin.cause = recorded[-1].envelope.id
            self.records += len(recorded)
            self._uid = self._declared_uid()  # its own last event may have been that it is no more
            return
        raise StageError("apply", "Superseded", f"others write {self.stream} all the time", retry_s=1.0)

    async def fail(self, error: StageError, generation: int, revision: Revision | None, before: Repeats) -> None:
        """Records that a stage ended without its result; like the failure before it, in few words, if at all."""
        await self._prepare()
        standing = self.standing
        message = self._outside(str(error))
        repeats = (standing.ready, standing.reason, standing.message) == ("False", error.reason, message)
        if repeats and standing.waits_for is not None and standing.waits_for == error.waits_for:
            return  # it still waits for the same thing: nothing has happened
        if repeats and self._adds_nothing(error, generation, revision) and not before.is_due(self.stream, standing):
            before.count(self.stream, standing)
            return
        await self.record(
            [
                StageFailed(
                    stage=error.stage,
                    reason=error.reason,
                    final=error.final,
                    stalled=error.stalled,
                    message="" if repeats else message,
                    repeats=repeats,
                    attempt=before.tries(self.stream, standing) + 1,
                    waits_for=error.waits_for,
                    generation=generation,
                    revision=revision,
                )
            ]
        )
        self._origin = None

    def _adds_nothing(self, error: StageError, generation: int, revision: Revision | None) -> bool:
        """Whether a pass that fails in the same words as the one before was for nothing else, and did nothing else."""
        standing, trigger = self.standing, self.trigger
        if self.records or standing.run is not None or trigger.forced or trigger.cause is not None:
            return False
        known = (standing.tried, standing.attempted, standing.final, standing.stalled, standing.waits_for)
        return known == (generation, revision or standing.attempted, error.final, error.stalled, error.waits_for)

    async def supersede(self, generation: int) -> None:
        """Ends the open run, if there is one: something newer has come while it waited."""
        if self.standing.run is not None:
            await self.record([RunEnded(outcome="superseded", generation=generation)])
            self._origin = None

    def _declared_uid(self) -> str | None:
        row = self.memory.desired.get(self.stream)
        return None if row is None else row.uid

    async def _prepare(self) -> None:
        """Many secret values take a while to be made searchable: not on the event loop."""
        if not self.secrets.is_prepared:
            await anyio.to_thread.run_sync(self.secrets.prepare)

    def _scrubbed(self, event: Event) -> Event:
        """The event without secret values in the texts that came from outside, and no larger than one may be."""
        if isinstance(event, RevisionFetched):
            people = {"author": self._person(event.author), "committer": self._person(event.committer)}
            event = msgspec.structs.replace(event, **people)
        message = getattr(event, "message", None)
        return msgspec.structs.replace(event, message=self._outside(message)) if message else event

    def said_of(self, failed: Sequence[Verdict]) -> str:
        """What a condition says of verdicts, once they are recorded."""
        return "; ".join(verdict.message for verdict in self._told(failed)[1])

    def _refusal(self, event: VerificationFailed) -> tuple[VerificationFailed, list[Body]]:
        """A failed verification with as many verdicts as fit, and the body that has all, where some do not."""
        verdicts, shown = self._told(event.failed)
        if shown == verdicts:
            return msgspec.structs.replace(event, failed=shown), []
        body = Body.of(encode(msgspec.to_builtins(verdicts)))
        return msgspec.structs.replace(event, failed=shown, verdicts=body.ref), [body]

    def _told(self, failed: Sequence[Verdict]) -> tuple[tuple[Verdict, ...], tuple[Verdict, ...]]:
        """Verdicts without secret values; and as many of them, and as much of each, as an event can hold."""
        verdicts = tuple(
            msgspec.structs.replace(
                verdict, path=self.secrets.filter(verdict.path), message=self.secrets.filter(verdict.message)
            )
            for verdict in failed
        )
        short = (
            msgspec.structs.replace(
                verdict, path=cut(verdict.path, VERDICT_BYTES_MAX), message=cut(verdict.message, VERDICT_BYTES_MAX)
            )
            for verdict in verdicts
        )
        return verdicts, first_of(short, VERDICTS_BYTES_MAX)

    def _outside(self, text: str, size: int = MESSAGE_BYTES_MAX) -> str:
        """A text from outside as it may be recorded."""
        return cut(self.secrets.filter(text), size)

    def _person(self, person: Person | None) -> Person | None:
        if person is None:
            return None
        name, email = self._outside(person.name, NAME_BYTES_MAX), self._outside(person.email, NAME_BYTES_MAX)
        return msgspec.structs.replace(person, name=name, email=email)


def of_cluster(
    stage: Stage, error: ClusterError | TimeoutError, message: str = "", reason: str = "ReconciliationFailed"
) -> StageError:
    """A stage's error for what the API server, or the way to it, answered; in other words, where there are better."""
    said = message or str(error)
    if not isinstance(error, (*PASSING, TimeoutError)):
        return StageError(stage, reason, said)
    asked = error.status.retry_after_s if isinstance(error, ClusterError) else None
    # The sooner the better: the back-off says when, or the server.
    return StageError(stage, reason, said, retry_s=0.0, asked_s=asked or 0.0)


T = TypeVar("T")


async def asking(stage: Stage, work: Awaitable[T], reason: str = "ReconciliationFailed") -> T:
    """What `work` answers; what the cluster does not answer ends the stage.

    Raises:
        StageError: with the cluster's words.
    """
    try:
        return await work
    except (ClusterError, TimeoutError) as error:
        raise of_cluster(stage, error, reason=reason) from error
