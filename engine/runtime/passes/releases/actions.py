"""How each action on a release is carried out, from wherever it stands.

An action begins with its intent in the log, and ends there too. In between a pass may end (a hook is at work, objects
are not ready yet) or be cut off (the daemon is killed); the next goes on with what the log says was done. So whatever
is done here is done again without harm.
"""

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias

import msgspec

from tidelog.engine.cluster.errors import PASSING, ClusterError, NotFoundError
from tidelog.engine.helm.errors import RecordError, RecordExistsError, RecordTooLargeError
from tidelog.engine.helm.hooks import Event as HookEvent
from tidelog.engine.helm.hooks import hook_objects, hooks_for, with_hook_run
from tidelog.engine.helm.known import KnownReleases
from tidelog.engine.helm.releases import (
    deployed,
    failed,
    failure_description,
    full_name,
    superseded,
    uninstalled,
    uninstalling,
    unlocked,
)
from tidelog.engine.helm.storage import HookRun, Record, RecordedHook, Release
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.kinds.helmactions import ApplyingAction
from tidelog.engine.objects.kube import key_of
from tidelog.engine.plan.draft import Draft, HelmName
from tidelog.engine.plan.model import Wanted
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.passes.approvals import NOT_DELETED, Cleared, Deletion
from tidelog.engine.runtime.passes.health import assess_own
from tidelog.engine.runtime.passes.releases.hooks import ActionFailed, Hooks
from tidelog.engine.runtime.passes.releases.records import (
    LostRecordError,
    changed,
    find,
    opened_record,
    sealed_record,
    snapshot_of,
)
from tidelog.engine.runtime.passes.releases.sayings import (
    HEALTH_CHECK_CANCELED,
    chart_of,
    failing,
    message_of,
    reason_of,
)
from tidelog.engine.runtime.passes.releases.sets import placed_objects
from tidelog.engine.runtime.passes.target import ApplyEnded, TargetPass
from tidelog.engine.runtime.release_inputs import ReleaseValues, read_values
from tidelog.engine.runtime.rendered import RenderedSet
from tidelog.engine.runtime.run import Refused, StageError, Stop, asking
from tidelog.engine.runtime.schedule import Trigger
from tidelog.engine.runtime.watching.declared import DeclaredRelease
from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.moment import datetime_of
from tidelog.events.names import ObjectKey, Revision
from tidelog.events.projections.releases import Ongoing, ReleaseRow
from tidelog.events.vocabulary import (
    HealthChanged,
    ObjectApplied,
    ObjectPruned,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseSnapshot,
)
from tidelog.events.vocabulary.release import Action, ReleaseTest
from tidelog.storage import Query

GONE_LOOK_S: Final = 2.0
"""How often it is looked whether what was deleted is gone (contract HR-114)."""
Making: TypeAlias = Literal["install", "upgrade", "rollback"]
"""Actions that make a version."""
_AROUND: Final[Mapping[Making, tuple[HookEvent, HookEvent]]] = {
    "install": ("pre-install", "post-install"),
    "upgrade": ("pre-upgrade", "post-upgrade"),
    "rollback": ("pre-rollback", "post-rollback"),
}
"""The events of the hooks that run before and after one."""
_JOB: Final = ("batch", "Job")


class Ready(msgspec.Struct, frozen=True):
    """A plan that may be applied as it is, while nothing has come between."""

    set: Digest
    draft: Draft
    cleared: Cleared


class ReleaseActions(TargetPass):
    """The actions on one release."""

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

    def _store(self, namespace: str) -> ReleaseStore:
        """The records in a namespace, as this pass knows them."""
        if namespace not in self._stores:
            identity = self._situation.subject.identity
            self._stores[namespace] = KnownReleases(self._engine.cluster, namespace, identity)
        return self._stores[namespace]

    async def _begin(self, started: ReleaseActionStarted, record: Release | None = None) -> None:
        """Records the intent of an action, with the record of the version that it makes."""
        if record is None:
            await self._run.record([started])
            return
        body = await sealed_record(self._engine, self._stream, record)
        await self._run.record([msgspec.structs.replace(started, record=body.ref)], [body])

    async def _carry_on(self) -> ReleaseActionEnded:
        """Carries the action that is under way to its end.

        Raises:
            Stop: where it has to wait.
            StageError: when the cluster does not answer.
        """
        started = self._ongoing().started
        self._revision = Revision(started.chart_version)
        self._activity.begin(self._stream, "detecting", started.chart_version)
        ended = await self._act_on(started)
        await self._run.record([ended])
        self._engine.notices.acted(self._declared, ended)
        return ended

    async def _act_on(self, started: ReleaseActionStarted) -> ReleaseActionEnded:
        match started.action:
            case "install" | "upgrade" | "rollback" as making:
                return await self._release(started, making)
            case "test":
                return await self._test(started)
            case "uninstall" | "uninstall-remediation":
                return await self._uninstall(started)
            case "unlock":
                return await self._unlock(started)

    # What is secret.

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
        knows from the present ones; of others nobody does, so they are.
        """
        if self._public is None:
            try:
                await self._values()
            except StageError:
                self._public = self._spec.effective_values
        public = set(_texts(self._public or {}))
        self._run.secrets.add(text for text in _texts(release.config or {}) if text not in public)
        for hook in release.hooks or ():
            if hook.kind == "Secret":
                with suppress(RecordError):  # the hook will say so
                    for obj in hook_objects(hook):
                        self._run.secrets.add_secret(obj)

    # Install, upgrade, rollback.

    async def _release(self, started: ReleaseActionStarted, making: Making) -> ReleaseActionEnded:
        """Makes a version of the release."""
        store = self._store(started.storage_namespace)
        try:
            release = await self._recorded(started)
        except LostRecordError as error:
            return self._ended(started, ActionFailed(str(error), is_recorded=False))
        await self._know(release)
        try:
            await self._keep_record(store, release, started)
            await self._know_objects_of(store, started.name, started.base)
            await self._bring_about(release, started, making)
        except ActionFailed as error:
            return await self._failed_release(store, release, started, error)
        return await self._deployed(store, release, started)

    async def _bring_about(self, release: Release, started: ReleaseActionStarted, making: Making) -> None:
        """Hooks, objects, their health, and hooks again."""
        how = self._how(making)
        limit = self._spec.effective_timeout(making).seconds
        hooks, (before, after) = self._hooks(limit), _AROUND[making]
        if how.runs_hooks and hooks_for(release, before):
            self._ready = None  # they may change what was planned for
            await hooks.run(release, before)
        rendered = await self._set_of(started)
        await self._apply_set(rendered)
        if how.waits:
            await self._wait(rendered, limit, jobs=how.waits_for_jobs)
        if how.runs_hooks:
            await hooks.run(release, after)

    async def _know_objects_of(self, store: ReleaseStore, name: str, version: int) -> None:
        """Takes note of the objects of a version that somebody else made: what it has and the next has not, goes."""
        if not version or any(made.version == version for made in self._row.made):
            return
        record = await asking("apply", _reading(store.get(name, version)))
        if record is not None:
            await self._find_objects_of(record.release)

    async def _find_objects_of(self, release: Release) -> None:
        """Takes note of the objects of a version that are in no inventory."""
        try:
            for obj in await asking("apply", placed_objects(self._engine, release)):
                key = key_of(obj)
                if key.id not in self._situation.inventory.objects:
                    self._declared.found.setdefault(key.id, str(obj["apiVersion"]))
        except RecordError as error:
            raise ActionFailed(str(error)) from None

    def _how(self, making: Making) -> ApplyingAction:
        match making:
            case "install":
                return self._spec.effective_install
            case "upgrade":
                return self._spec.effective_upgrade
            case "rollback":
                return self._spec.effective_rollback

    async def _recorded(self, started: ReleaseActionStarted) -> Release:
        """The version that is made, as its intent has it."""
        if started.record is None:
            raise RuntimeError(f"the intent to {started.action} has no record")
        return await self._opened(started.record)

    async def _opened(self, record: BodyRef) -> Release:
        """A record that the log keeps; see `opened_record`."""
        return await opened_record(self._memory.log, await self._engine.keys.key(self._stream), record)

    async def _keep_record(self, store: ReleaseStore, release: Release, started: ReleaseActionStarted) -> None:
        """Helm's record of the version, pending; it is there already where the action goes on."""
        there = await asking("apply", _reading(store.get(release.name, release.version)))
        if there is None:
            self._labels = await self._labels_before(store, release, started)
            if started.action != "install":
                await asking("apply", store.trim(release.name, self._spec.effective_max_history))
            try:
                await asking("apply", store.create(Record(release, self._labels), self._seconds()))
            except RecordTooLargeError as error:
                raise ActionFailed(str(error), is_recorded=False) from None
            except RecordExistsError as error:
                raise Stop(0.0) from error
            return
        self._labels = dict(there.labels)
        if there.release.manifest != release.manifest or there.release.info.last_deployed != release.info.last_deployed:
            message = f"another acted on the release meanwhile: version {release.version} of it is somebody else's"
            raise ActionFailed(message, is_recorded=False)

    async def _labels_before(
        self, store: ReleaseStore, release: Release, started: ReleaseActionStarted
    ) -> dict[str, str]:
        """The labels that somebody put on records: an upgrade takes those of the newest."""
        if started.action == "install" or release.version == 1:
            return {}
        before = await asking("apply", _reading(store.get(release.name, release.version - 1)))
        return {} if before is None else dict(before.labels)

    async def _set_of(self, started: ReleaseActionStarted) -> RenderedSet:
        """The rendered set that an action brings the cluster to."""
        last = await self._engine.renderings.last(self._stream)
        if last is not None and last.digest == started.set:
            return last
        found = await self._engine.renderings.at(self._stream, self._ongoing().position)
        if found is None:
            raise ActionFailed("the rendered set of the release is not in the log", is_recorded=True)
        return found

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

    async def _wait(self, rendered: RenderedSet, limit: float, *, jobs: bool) -> None:
        """The objects are ready; else the pass ends, and what is seen of them, or the deadline, begins the next.

        Raises:
            ActionFailed: when one has failed, or their time is over.
            Stop: while they come to be ready.
        """
        keys = await self._waited_for(rendered, jobs=jobs)
        exprs = self._spec.effective_health_check_exprs
        checked = await asking("observe", assess_own(self._engine, self._stream, keys, exprs))
        standing = self._run.standing
        if checked.health == "Current":
            if standing.health == "InProgress":
                await self._run.record([HealthChanged(checked=True, health="Current", message=checked.message)])
            return
        waited = self._engine.waited_for_health(self._stream)
        if checked.health == "Failed":
            raise ActionFailed(f"failed early due to stalled resources: {checked.message}", while_waiting=True)
        if standing.health == "InProgress" and waited >= limit:
            raise ActionFailed(f"timeout waiting for: {checked.message}", while_waiting=True)
        if self._overtaken:
            message = "health checks were canceled: another chart, other values or another spec have come"
            raise ActionFailed(message, while_waiting=True, is_canceled=True)
        if standing.health != "InProgress":
            await self._run.record([HealthChanged(checked=True, health="InProgress", message=checked.message)])
        raise Stop(max(0.0, limit - self._engine.waited_for_health(self._stream)))

    async def _waited_for(self, rendered: RenderedSet, *, jobs: bool) -> list[ObjectKey]:
        """The objects whose health counts; a Deployment that is paused never becomes ready (contract HR-114)."""
        deployments = [one for one in rendered.wanted if (one.key.group, one.key.kind) == ("apps", "Deployment")]
        paused = {one.key for one in await self._loaded(deployments) if (one.object.get("spec") or {}).get("paused")}
        left = set() if jobs else {one.key for one in rendered.wanted if (one.key.group, one.key.kind) == _JOB}
        return [one.key for one in rendered.wanted if one.key not in paused | left]

    async def _loaded(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        self._sealer = await self._engine.sealer(self._situation.secret(wanted, ()))
        return await self._load(wanted, wanted)

    async def _deployed(
        self, store: ReleaseStore, release: Release, started: ReleaseActionStarted
    ) -> ReleaseActionEnded:
        """Helm's records say that the version is deployed, and those before are superseded."""
        done = deployed(self._with_hooks(release))
        before = [] if started.action == "install" else await self._supersede(store, done, started)
        await asking("apply", store.update(Record(done, self._labels), self._seconds()))
        snapshot = snapshot_of(done, action=started.action, oci_digest=started.oci_digest)
        return self._ended(started, None, snapshots=(snapshot, *before))

    async def _supersede(
        self, store: ReleaseStore, done: Release, started: ReleaseActionStarted
    ) -> list[ReleaseSnapshot]:
        """The versions in whose place another is: of an upgrade its base, of a rollback all that are deployed.

        Also those of which the log alone says so: an earlier pass may have been cut off in the midst of this.
        """
        if started.action == "upgrade":
            there = {started.base}
        else:
            revisions = await asking("apply", store.revisions(done.name))
            there = {one.version for one in revisions if one.status == "deployed"}
            there |= {one.version for one in self._row.history if one.status == "deployed"}
        found: list[ReleaseSnapshot] = []
        for version in sorted(there - {done.version}, reverse=True):
            record = await asking("apply", _reading(store.get(done.name, version)))
            if record is None:
                continue
            old = superseded(record.release)
            await asking("apply", store.update(Record(old, record.labels), self._seconds()))
            known = find(self._row, old)
            if known is not None:
                found.append(changed(known, old))
        return found

    async def _failed_release(
        self, store: ReleaseStore, release: Release, started: ReleaseActionStarted, error: ActionFailed
    ) -> ReleaseActionEnded:
        if not error.is_recorded:
            return self._ended(started, error)
        await self._clean_up(started)
        done = self._with_hooks(release)
        said = self._run.secrets.filter(str(error))
        done = failed(done, failure_description(done, said, while_waiting=error.while_waiting))
        await asking("apply", store.update(Record(done, self._labels), self._seconds()))
        snapshot = snapshot_of(done, action=started.action, oci_digest=started.oci_digest)
        return self._ended(started, error, snapshots=(snapshot,))

    async def _clean_up(self, started: ReleaseActionStarted) -> None:
        """Deletes what a failed upgrade or rollback made, where the spec says so (contract HR-045)."""
        cleans = {
            "upgrade": self._spec.effective_upgrade.cleanup_on_fail,
            "rollback": self._spec.effective_rollback.cleanup_on_fail,
        }
        if not cleans.get(started.action, False):
            return
        made = {
            recorded.event.object
            async for recorded in self._memory.log.read(
                Query(stream=self._stream, types=(ObjectApplied.__name__,), after=self._ongoing().position)
            )
            if isinstance(recorded.event, ObjectApplied) and recorded.event.action == "created"
        }
        rendered = await self._set_of(started)
        left = tuple(one for one in rendered.wanted if one.key.id not in made)
        if len(left) < len(rendered.wanted):
            draft = await self._plan(msgspec.structs.replace(rendered, wanted=left), [])
            if draft is not None:
                await self._verify(draft)
                cleared = await self._approvals.clear(draft.plan, self._revision, Deletion(asked_for=True))
                await self._apply(draft, cleared)

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

    # Test.

    async def _test(self, started: ReleaseActionStarted) -> ReleaseActionEnded:
        """Runs the tests of the version that is deployed."""
        store = self._store(started.storage_namespace)
        record = await asking("apply", _reading(store.get(started.name, started.version)))
        if record is None:
            return self._ended(started, ActionFailed("there is no such release any more", is_recorded=False))
        release, problem = record.release, None
        await self._know(release)
        try:
            timeout = self._spec.effective_timeout("test").seconds
            await self._hooks(timeout).run(release, "test", self._is_chosen)
        except ActionFailed as error:
            problem = error
        tests = tuple(
            ReleaseTest(
                name=ObjectKey.parse(ran.object).name,
                phase=ran.outcome.capitalize(),
                started=ran.started,
                completed=ran.ended or "",
            )
            for ran in self._ongoing().hooks
        )
        release = self._with_hooks(release)
        await asking("apply", store.update(Record(release, record.labels), self._seconds()))
        known = find(self._row, release)
        snapshot = snapshot_of(
            release,
            action=known.action if known else "",
            oci_digest=known.oci_digest if known else started.oci_digest,
            tests=tests,
            tested=problem is None or bool(tests),
        )
        return self._ended(started, problem, snapshots=(snapshot,))

    def _is_chosen(self, hook: RecordedHook) -> bool:
        """Whether a test is run (contract HR-052)."""
        filters = self._spec.effective_test.filters
        included = {one.name for one in filters if not one.exclude}
        excluded = {one.name for one in filters if one.exclude}
        return hook.name not in excluded and (not included or hook.name in included)

    # Uninstall.

    async def _uninstall(self, started: ReleaseActionStarted) -> ReleaseActionEnded:
        """Takes a release away."""
        self._situation.uninstalls = HelmName(started.name, started.namespace)
        store, how = self._store(started.storage_namespace), self._spec.effective_uninstall
        try:
            record = await asking("apply", store.get(started.name, started.version))
        except RecordError as error:
            return self._ended(started, ActionFailed(str(error), is_recorded=False))
        if record is None:
            return self._gone_already(started, "was not found, assuming it is uninstalled")
        release = record.release
        await self._know(release)
        if release.info.status == "uninstalled" and how.keep_history:
            return self._gone_already(started, "was already uninstalled", self._known_as(release, started.action))
        hooks = self._hooks(self._spec.effective_timeout("uninstall").seconds)
        try:
            if release.info.status not in ("uninstalling", "uninstalled"):
                release = uninstalling(release, self._ongoing().since)
                await asking("apply", store.update(Record(release, record.labels), self._seconds()))
            if how.runs_hooks:
                await hooks.run(release, "pre-delete")
            await self._take_away(release, started)
            if how.waits:
                await self._all_gone()
            if how.runs_hooks:
                await hooks.run(release, "post-delete")
        except ActionFailed as error:
            return self._ended(started, error, snapshots=self._known_as(release, started.action))
        done = uninstalled(self._with_hooks(release))
        await self._put_away(store, done, record)
        return self._ended(started, None, snapshots=self._known_as(done, started.action))

    def _known_as(self, release: Release, action: str) -> tuple[ReleaseSnapshot, ...]:
        known = find(self._row, release)
        return () if known is None else (changed(known, release, action),)

    async def _take_away(self, release: Release, started: ReleaseActionStarted) -> None:
        """Deletes the objects of a release: those in the inventory, and what else its manifest names."""
        await self._find_objects_of(release)
        deletion = await self._approvals.deletion() if self._declared.deleting else Deletion(asked_for=True)
        try:
            await self._apply_set(None, deletion)
        finally:
            known = self._situation.inventory.objects
            if started.action != "uninstall":
                self._declared.found = {id: it for id, it in self._declared.found.items() if id in known}

    async def _all_gone(self) -> None:
        """What was deleted is gone; else the pass ends, and it is looked again in a while."""
        position = self._ongoing().position
        deleted = [
            (recorded.envelope.time, recorded.event)
            async for recorded in self._memory.log.read(
                Query(stream=self._stream, types=(ObjectPruned.__name__,), after=position)
            )
            if isinstance(recorded.event, ObjectPruned) and recorded.event.outcome == "deleted"
        ]
        there = [(time, event) for time, event in deleted if await asking("apply", self._is_there(event))]
        if not there:
            return
        waited = self._engine.seconds_since(max(time for time, _ in there))
        if waited < self._spec.effective_timeout("uninstall").seconds:
            raise Stop(GONE_LOOK_S)
        names = ", ".join(event.object for _, event in there[:10])
        raise ActionFailed(f"timeout waiting for the deletion of {names}")

    async def _is_there(self, event: ObjectPruned) -> bool:
        key = ObjectKey.parse(event.object)
        kind = await self._engine.cluster.find_kind(key.group, key.kind)
        if kind is None:
            return False
        try:
            live = await self._engine.cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return False
        return bool(live["metadata"]["uid"] == event.uid)

    async def _put_away(self, store: ReleaseStore, done: Release, record: Record) -> None:
        """Helm's records say that the release is uninstalled, or go."""
        if self._spec.effective_uninstall.keep_history:
            await asking("apply", store.update(Record(done, record.labels), self._seconds()))
            return
        # The newest goes last: as long as it is there, a pass that goes on knows that it has to.
        for revision in reversed(await asking("apply", store.revisions(done.name))):
            await asking("apply", store.delete(done.name, revision.version))

    def _gone_already(
        self, started: ReleaseActionStarted, why: str, snapshots: Sequence[ReleaseSnapshot] = ()
    ) -> ReleaseActionEnded:
        ended = self._ended(started, None, snapshots=snapshots)
        named = f"{started.namespace}/{started.name}.v{started.version}"
        return msgspec.structs.replace(ended, message=f"Release {named} {why}")

    # Unlock.

    async def _unlock(self, started: ReleaseActionStarted) -> ReleaseActionEnded:
        """A version that somebody else left pending has failed (contract HR-084)."""
        store = self._store(started.storage_namespace)
        record = await asking("apply", _reading(store.get(started.name, started.version)))
        if record is None:
            return self._ended(started, None)
        done = unlocked(record.release)
        await asking("apply", store.update(Record(done, record.labels), self._seconds()))
        was = record.release.info.status
        message = f"Unlocked Helm release {full_name(done)} with chart {chart_of(started)} in {was} state"
        ended = self._ended(started, None, snapshots=self._known_as(done, ""))
        return msgspec.structs.replace(ended, message=message)

    # What they share.

    def _hooks(self, timeout_s: float) -> Hooks:
        identity = self._situation.subject.identity
        return Hooks(self._engine, self._declared, self._run, identity, self._ongoing, timeout_s)

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
    def _refused_as(self) -> tuple[str, str]:
        ongoing = self._row.ongoing
        started = self._intended if ongoing is None else ongoing.started
        return ("", "") if started is None else (reason_of(started.action, failed=True), failing(started))


def _texts(values: object) -> Iterator[str]:
    """The texts and numbers in values."""
    if isinstance(values, Mapping):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value)
    elif values is not None and not isinstance(values, bool):
        yield str(values)


async def _reading(record: Awaitable[Record | None]) -> Record | None:
    """A record; one that cannot be read fails the action, and the storage stays as it is."""
    try:
        return await record
    except RecordError as error:
        raise ActionFailed(str(error), is_recorded=False) from None
