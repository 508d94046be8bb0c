"""The actions on a version of a release that is there: test, uninstall, unlock."""

from collections.abc import Sequence
from typing import Final

import msgspec

from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.releases import (
    full_name,
    uninstalled,
    uninstalling,
    unlocked,
)
from tidelog.engine.helm.storage import Record, Release
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.plan.draft import HelmName
from tidelog.engine.runtime.passes.approvals import Deletion
from tidelog.engine.runtime.passes.releases.acting import Acting, reading
from tidelog.engine.runtime.passes.releases.hooks import ActionFailed
from tidelog.engine.runtime.passes.releases.records import (
    find,
    snapshot_of,
)
from tidelog.engine.runtime.passes.releases.sayings import (
    chart_of,
)
from tidelog.engine.runtime.run import Stop, asking
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import (
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseSnapshot,
)
from tidelog.events.vocabulary.release import ReleaseTest

GONE_LOOK_S: Final = 2.0
"""How often it is looked whether what was deleted is gone (contract HR-114)."""


class ExistingActions(Acting):
    """Acts on a version that is there."""

    async def _test(self, started: ReleaseActionStarted) -> ReleaseActionEnded:
        """Runs the tests of the version that is deployed."""
        store = self._store(started.storage_namespace)
        record = await asking("apply", reading(store.get(started.name, started.version)))
        if record is None:
            return self._ended(started, ActionFailed("there is no such release any more", is_recorded=False))
        release, problem = record.release, None
        await self._know(release)
        try:
            timeout = self._spec.effective_timeout("test").seconds
            await self._hooks(timeout).run(release, "test", lambda hook: self._spec.effective_test.runs(hook.name))
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
        there = [(time, event) for time, event in await self._deleted() if await asking("apply", self._is_there(event))]
        if not there:
            return
        last = max(time for time, _ in there)
        waited = self._engine.waits.seconds(self._stream, "termination", str(self._ongoing().position), last)
        if waited < self._spec.effective_timeout("uninstall").seconds:
            raise Stop(GONE_LOOK_S)
        names = ", ".join(event.object for _, event in there[:10])
        raise ActionFailed(f"timeout waiting for the deletion of {names}")

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
        return msgspec.structs.replace(ended, message=f"Release {full_name(started)} {why}")

    async def _unlock(self, started: ReleaseActionStarted) -> ReleaseActionEnded:
        """A version that somebody else left pending has failed (contract HR-084)."""
        store = self._store(started.storage_namespace)
        record = await asking("apply", reading(store.get(started.name, started.version)))
        if record is None:
            return self._ended(started, None)
        done = unlocked(record.release)
        await asking("apply", store.update(Record(done, record.labels), self._seconds()))
        was = record.release.info.status
        message = f"Unlocked Helm release {full_name(done)} with chart {chart_of(started)} in {was} state"
        ended = self._ended(started, None, snapshots=self._known_as(done, ""))
        return msgspec.structs.replace(ended, message=message)
