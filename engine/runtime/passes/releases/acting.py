"""What all actions on a release share: how one begins and ends, its records, its plan, and what of it is secret.

An action begins with its intent in the log, and ends there too. In between a pass may end (a hook is at work, objects
are not ready yet) or be cut off (the daemon is killed); the next goes on with what the log says was done. So whatever
is done here is done again without harm.
"""

from abc import abstractmethod
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from tidelog.engine.cluster.errors import PASSING, ClusterError
from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.hooks import hook_objects, with_hook_run
from tidelog.engine.helm.known import KnownReleases
from tidelog.engine.helm.storage import HookRun, Record, Release
from tidelog.engine.objects.depth import scalars
from tidelog.engine.objects.kube import key_of
from tidelog.engine.plan.draft import Draft
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.approvals import NOT_DELETED, Cleared, Deletion
from tidelog.engine.runtime.passes.releases.hooks import ActionFailed, Hooks
from tidelog.engine.runtime.passes.releases.records import (
    changed,
    find,
    opened_texts,
    sealed_record,
    sealed_texts,
)
from tidelog.engine.runtime.passes.releases.sayings import (
    HEALTH_CHECK_CANCELED,
    failing,
    message_of,
    public_words,
    reason_of,
)
from tidelog.engine.runtime.passes.releases.sets import placed_objects
from tidelog.engine.runtime.passes.releases.tools import SiteTools
from tidelog.engine.runtime.passes.target import ApplyEnded, TargetPass
from tidelog.engine.runtime.release_inputs import ReleaseValues, read_values
from tidelog.engine.runtime.rendered import RenderedSet
from tidelog.engine.runtime.run import Refused, StageError, asking
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.watching.declared import DeclaredRelease
from tidelog.events.digest import Digest
from tidelog.events.moment import Time, datetime_of
from tidelog.events.names import ObjectKey, Revision
from tidelog.events.projections.releases import Ongoing, ReleaseRow
from tidelog.events.vocabulary import (
    Event,
    ObjectPruned,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseHistoryCleared,
    ReleaseSnapshot,
)
from tidelog.events.vocabulary.release import Action
from tidelog.storage import Query


class Ready(msgspec.Struct, frozen=True):
    """A plan that may be applied as it is, while nothing has come between."""

    set: Digest
    draft: Draft
    cleared: Cleared


class Acting(TargetPass):
    """An action on one release, from wherever it stands."""

    def __init__(self, engine: Engine, declared: DeclaredRelease, trigger: Trigger) -> None:
        super().__init__(engine, declared, trigger)
        self._declared: DeclaredRelease = declared
        self._spec = declared.spec
        self._stores: dict[str, KnownReleases] = {}
        self._labels: dict[str, str] = {}
        """Of the record of the version that is made, beside Helm's own."""
        self._overtaken = False
        """Whether what is under way is not what is wanted any more."""
        self._intended: ReleaseActionStarted | None = None
        """What is about to begin, once its plan is found valid and harmless."""
        self._ready: Ready | None = None
        """That plan."""
        self._public: Mapping[str, Any] | None = None
        """The values; what of them is secret, the run knows."""

    @property
    def _row(self) -> ReleaseRow:
        """How the release stands now."""
        return self._memory.releases.get(self._stream) or ReleaseRow()

    def _ongoing(self) -> Ongoing:
        """The action that is under way."""
        ongoing = self._row.ongoing
        if ongoing is None:
            raise RuntimeError(f"no action is under way on {self._declared.key.shown}")
        return ongoing

    def _store(self, namespace: str) -> KnownReleases:
        """The records in a namespace, as this pass knows them."""
        if namespace not in self._stores:
            identity = self._situation.subject.identity
            self._stores[namespace] = KnownReleases(self._site.cluster, namespace, identity)
        return self._stores[namespace]

    async def _begin(
        self, started: ReleaseActionStarted, record: Release | None = None, secret: Sequence[str] = ()
    ) -> None:
        """Records the intent of an action, with the record of the version that it makes, and what of that is secret."""
        bodies = []
        if record is not None:
            bodies.append(await sealed_record(self._engine, self._stream, record))
            started = msgspec.structs.replace(started, record=bodies[0].ref)
        if secret:
            bodies.append(await sealed_texts(self._engine, self._stream, secret))
            started = msgspec.structs.replace(started, secret=bodies[-1].ref)
        await self._run.record([started], bodies)

    async def _carry_on(self) -> ReleaseActionEnded:
        """Carries the action that is under way to its end.

        Raises:
            Stop: where it has to wait.
            StageError: when the cluster does not answer.
        """
        started = self._ongoing().started
        self._run.secrets.tell(public_words(started))
        self._revision = Revision(started.chart_version)
        self._activity.begin(self._stream, "detecting", started.chart_version)
        self._site.records.forget(started.storage_namespace, started.name)
        ended = await self._act_on(started)
        await self._run.record([ended])
        self._engine.notices.acted(self._declared, ended)
        return ended

    @abstractmethod
    async def _act_on(self, started: ReleaseActionStarted) -> ReleaseActionEnded:
        """Does what was begun; returns how it ended."""

    async def _values(self) -> ReleaseValues:
        """The values; the run comes to know what of them is secret."""
        found = await asking(
            "render",
            read_values(
                self._engine.inputs,
                self._stream,
                self._declared.key.namespace,
                self._spec.values_from,
                self._spec.effective_values,
                self._engine.keys.key,
                self._declared.handed.values,
            ),
            "ValuesError",
        )
        self._run.secrets.add(found.secret_values)
        self._public = found.values
        return found

    async def _know(self, release: Release) -> None:
        """Makes known what is secret in a version: the server quotes what it refuses.

        A pass that goes on with what another began has rendered nothing. Which values of the version are secret it
        knows from the present ones; of others nobody does, so they are. What it looked up, and what stands in hooks,
        its intent has.
        """
        if self._public is None:
            try:
                await self._values()
            except StageError:
                self._public = self._spec.effective_values
        made = self._row.made_as(release.version)
        told = self._ongoing().started.secret or (None if made is None else made.secret)
        if told is not None:
            key = await self._engine.keys.key(self._stream)
            self._run.secrets.add(await opened_texts(self._memory.log, key, told))
        public = set(_texts(self._public or {}))
        self._run.secrets.add(text for text in _texts(release.config or {}) if text not in public)
        for hook in release.hooks or ():
            if hook.kind == "Secret":
                with suppress(RecordError):  # the hook will say so
                    for obj in hook_objects(hook):
                        self._run.secrets.add_secret(obj)

    async def _apply_set(self, rendered: RenderedSet | None, deletion: Deletion = NOT_DELETED) -> None:
        """Plans, verifies and applies a set; None takes all away.

        Raises:
            ActionFailed: when it is refused, or the apply fails of itself.
        """
        ready, self._ready = self._ready, None
        try:
            if ready is not None and rendered is not None and ready.set == rendered.digest:
                await self._apply(ready.draft, ready.cleared)
                return
            draft = await self._plan(rendered)
            if draft is None:
                return
            await self._verify(draft)
            await self._apply(draft, await self._approvals.clear(draft.plan, self._revision, deletion))
        except Refused as error:
            raise ActionFailed(error.message) from None
        except ApplyEnded as ended:
            cause = ended.stopped.__cause__
            is_passing = isinstance(cause, PASSING) or not isinstance(cause, ClusterError)
            if ended.stopped.void or is_passing:
                raise
            raise ActionFailed(ended.stopped.event.message) from None
        except StageError as error:
            if error.stage != "verify":
                raise
            raise ActionFailed(str(error)) from None

    async def _find_objects_of(self, release: Release) -> None:
        """Takes note of the objects of a version that are in no inventory, and not because this action deleted them.

        What it deleted may be there for a while: it is waited for, and nobody else's.
        """
        deleted = {event.object for _, event in await self._deleted()}
        try:
            for obj in await asking("apply", placed_objects(self._tools, release)):
                key = key_of(obj)
                if key.id not in self._situation.inventory.objects and key.id not in deleted:
                    self._declared.found.setdefault(key.id, str(obj["apiVersion"]))
        except RecordError as error:
            raise ActionFailed(str(error)) from None

    async def _deleted(self) -> list[tuple[Time, ObjectPruned]]:
        """What the action that is under way, if there is one, has deleted, and when."""
        ongoing = self._row.ongoing
        if ongoing is None:
            return []
        asked = Query(stream=self._stream, types=(ObjectPruned.__name__,), after=ongoing.position)
        return [
            (recorded.envelope.time, recorded.event)
            async for recorded in self._memory.log.read(asked)
            if isinstance(recorded.event, ObjectPruned) and recorded.event.outcome == "deleted"
        ]

    def _known_as(self, release: Release, action: str) -> tuple[ReleaseSnapshot, ...]:
        known = find(self._row, release)
        return () if known is None else (changed(known, release, action),)

    def _with_hooks(self, release: Release) -> Release:
        """The release, with what is known of the hooks that ran."""
        for ran in self._ongoing().hooks:
            for hook in release.hooks or ():
                key = ObjectKey.parse(ran.object)
                if (hook.path, hook.kind, hook.name) == (ran.path, key.kind, key.name):
                    phase = {"succeeded": "Succeeded", "failed": "Failed"}.get(ran.outcome, "Running")
                    run = HookRun(started_at=ran.started, completed_at=ran.ended, phase=phase)
                    release = with_hook_run(release, hook, run)
                    break
        return release

    def _hooks(self, timeout_s: float) -> Hooks:
        identity = self._situation.subject.identity
        return Hooks(self._engine, self._site, self._declared, self._run, identity, self._ongoing, timeout_s)

    def _seconds(self) -> float:
        """The present time, as Helm labels records: seconds since 1970."""
        return datetime_of(self._engine.now()).timestamp()

    def _ended(
        self,
        started: ReleaseActionStarted,
        error: ActionFailed | None,
        *,
        snapshots: Sequence[ReleaseSnapshot] = (),
    ) -> ReleaseActionEnded:
        """The end of an action, in Flux's words (contract HR-119 to HR-122)."""
        action = started.action
        return ReleaseActionEnded(
            action=action,
            name=started.name,
            namespace=started.namespace,
            version=started.version,
            outcome="failed" if error else "succeeded",
            reason=HEALTH_CHECK_CANCELED
            if error is not None and error.is_canceled
            else reason_of(action, failed=error is not None),
            message=message_of(started, "" if error is None else self._run.secrets.filter(str(error)), snapshots),
            counts=error is not None and error.is_recorded and not error.is_canceled and self._counts(action),
            unready=error is not None and error.while_waiting,
            clears_failures=error is None and self._clears(action),
            snapshots=tuple(snapshots),
            remediates=started.remediates,
            generation=self._declared.generation,
        )

    def _counts(self, action: Action) -> bool:
        """Whether a failure is one of the attempts that may be made."""
        if action != "test":
            return action in ("install", "upgrade")
        last = self._row.last_action
        return last in ("install", "upgrade") and not self._spec.ignores_test_failures(
            "install" if last == "install" else "upgrade"
        )

    def _clears(self, action: Action) -> bool:
        """Whether failures of before count no more: where it is tried again until it succeeds, and it did."""
        if action == "install":
            return self._spec.effective_install.retries_after is not None
        return action == "upgrade" and self._spec.effective_upgrade.retries_after is not None

    @property
    def _tools(self) -> SiteTools:
        """What its objects are made with, in the cluster that it is released in."""
        return SiteTools(self._engine, self._site)

    @property
    def _unreached_as(self) -> str:
        return "RESTClientError"

    def _ends_with_the_cluster(self) -> list[Event]:
        """The release, and an action on it that is under way, stay where they are; here it is made from new."""
        ongoing, why = self._row.ongoing, "it is released in another cluster"
        found: list[Event] = []
        if ongoing is not None:
            ended = self._ended(ongoing.started, None)
            found.append(msgspec.structs.replace(ended, outcome="superseded", message=f"{why}: this was not ended"))
        if self._row.made:  # here, and not by another engine, whose history is of where it is released now
            found.append(ReleaseHistoryCleared(why=why, failures_too=True))
        return found

    @property
    def _refused_as(self) -> tuple[str, str]:
        ongoing = self._row.ongoing
        started = self._intended if ongoing is None else ongoing.started
        return ("", "") if started is None else (reason_of(started.action, failed=True), failing(started))


async def reading(record: Awaitable[Record | None]) -> Record | None:
    """A record; one that cannot be read fails the action, and the storage stays as it is."""
    try:
        return await record
    except RecordError as error:
        raise ActionFailed(str(error), is_recorded=False) from None


def _texts(values: Mapping[str, Any]) -> Iterator[str]:
    """The texts and numbers in values."""
    found = (value for value in scalars(dict(values)) if value is not None and not isinstance(value, bool))
    return map(str, found)
