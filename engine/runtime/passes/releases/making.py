"""The actions that make a version of a release: install, upgrade, rollback."""

from collections.abc import Sequence
from typing import Final

import msgspec

from tidelog.engine.helm.errors import RecordExistsError, RecordTooLargeError
from tidelog.engine.helm.hooks import AROUND, Making, hooks_for
from tidelog.engine.helm.releases import (
    deployed,
    failed,
    failure_description,
    superseded,
)
from tidelog.engine.helm.storage import Record, Release
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.kinds.helmactions import ApplyingAction
from tidelog.engine.plan.model import Wanted
from tidelog.engine.runtime.passes.approvals import Deletion
from tidelog.engine.runtime.passes.health import Checked, assess_own
from tidelog.engine.runtime.passes.releases.acting import Acting, reading
from tidelog.engine.runtime.passes.releases.hooks import ActionFailed
from tidelog.engine.runtime.passes.releases.records import (
    LostRecordError,
    changed,
    find,
    opened_record,
    snapshot_of,
)
from tidelog.engine.runtime.rendered import RenderedSet
from tidelog.engine.runtime.run import Stop, asking
from tidelog.events.bodies import BodyRef
from tidelog.events.vocabulary import (
    HealthChanged,
    ObjectApplied,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseSnapshot,
)
from tidelog.storage import Query

_JOB: Final = ("batch", "Job")


class MakingActions(Acting):
    """Makes a version."""

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
        hooks, (before, after) = self._hooks(limit), AROUND[making]
        if how.runs_hooks and hooks_for(release, before):
            self._ready = None  # they may change what was planned for
            await hooks.run(release, before)
        rendered = await self._set_of(started)
        await self._apply_set(rendered)
        if how.waits:
            await self._wait(rendered, making, limit)
        if how.runs_hooks:
            await hooks.run(release, after)

    async def _know_objects_of(self, store: ReleaseStore, name: str, version: int) -> None:
        """Takes note of the objects of a version that somebody else made: what it has and the next has not, goes."""
        if not version or any(made.version == version for made in self._row.made):
            return
        record = await asking("apply", reading(store.get(name, version)))
        if record is not None:
            await self._find_objects_of(record.release)

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
        there = await asking("apply", reading(store.get(release.name, release.version)))
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
        before = await asking("apply", reading(store.get(release.name, release.version - 1)))
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

    async def _wait(self, rendered: RenderedSet, making: Making, limit: float) -> None:
        """The objects are ready; else the pass ends, and what is seen of them, or the deadline, begins the next.

        Raises:
            ActionFailed: when one has failed, or their time is over.
            Stop: while they come to be ready.
        """
        checked = await self._health(rendered, making)
        standing = self._run.standing
        if checked.health == "Current":
            if standing.health == "InProgress":
                await self._run.record([HealthChanged(checked=True, health="Current", message=checked.message)])
            return
        waited = self._engine.waited_for_health(self._stream)
        if checked.health == "Failed" or (standing.health == "InProgress" and waited >= limit):
            await self._site.observer.look_into(checked.shown)
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

    async def _health(self, rendered: RenderedSet, making: Making) -> Checked:
        """How the objects are that an action waits for; a Deployment that is paused never becomes ready (HR-114)."""
        deployments = [one for one in rendered.wanted if (one.key.group, one.key.kind) == ("apps", "Deployment")]
        left = {one.key for one in await self._loaded(deployments) if (one.object.get("spec") or {}).get("paused")}
        if not self._how(making).waits_for_jobs:
            left |= {one.key for one in rendered.wanted if (one.key.group, one.key.kind) == _JOB}
        keys, exprs = (
            [one.key for one in rendered.wanted if one.key not in left],
            self._spec.effective_health_check_exprs,
        )
        return await asking("observe", assess_own(self._engine, self._site, self._stream, keys, exprs))

    async def _loaded(self, wanted: Sequence[Wanted]) -> list[Wanted]:
        self._sealer = await self._engine.sealer(self._situation.secret(wanted, ()), self._alias)
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
            record = await asking("apply", reading(store.get(done.name, version)))
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
