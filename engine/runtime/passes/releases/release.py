"""The reconciliation of a HelmRelease: the way of the data, top to bottom, each line one stage.

What is to be done is decided from Helm's storage, the log and the spec (`helm/decisions.py`), again after each action,
until nothing is left to do or the pass has to wait.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from tidelog.engine.cluster.remote import NoKubeconfigError
from tidelog.engine.helm import decisions
from tidelog.engine.helm.decisions import Act, Correct, Done, Kind, Known, Stall
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.hooks import Making
from tidelog.engine.helm.known import Newest
from tidelog.engine.helm.releases import full_name
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.plan.model import Wanted, is_secret
from tidelog.engine.runtime.passes.dependencies import check_dependencies, elsewhere
from tidelog.engine.runtime.passes.releases import drifts
from tidelog.engine.runtime.passes.releases.beginning import Beginning, lost, reading
from tidelog.engine.runtime.passes.releases.charts import (
    artifact_of,
    delete_chart,
    released,
    sync_chart,
    unreadable,
)
from tidelog.engine.runtime.passes.releases.depended import depends_on, versions_of
from tidelog.engine.runtime.passes.releases.records import (
    adopted,
)
from tidelog.engine.runtime.passes.releases.wish import (
    FromChart,
    Wish,
    changed_target,
    known_of,
    past_wish,
    wish_of,
)
from tidelog.engine.runtime.past_releases import NoPastError, PastVersion, past_version, why_unpinned
from tidelog.engine.runtime.release_inputs import (
    ReleaseValues,
    chart_file,
    preserving,
)
from tidelog.engine.runtime.run import StageError, Stop, asking
from tidelog.engine.runtime.watching.declared import source_of
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectKey, Revision, StreamName
from tidelog.events.projections.releases import RELEASING
from tidelog.events.vocabulary import (
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseDriftChanged,
    ReleaseHistoryCleared,
    RunEnded,
    TargetRemoved,
    Unpinned,
)

_KINDS: Final[Mapping[str, Kind]] = {
    "install": "release",
    "upgrade": "release",
    "uninstall": "release",
    "test": "test",
    "rollback": "remediate",
    "uninstall-remediation": "remediate",
    "unlock": "unlock",
}


class Look(msgspec.Struct, frozen=True):
    """How a release was found."""

    known: Known
    remembered: bool
    """Whether its newest record was not read in this pass, but in one before: good enough to see that all is well."""


class HelmReleasePass(Beginning):
    """One pass over one HelmRelease."""

    # The way of the data.

    async def reconcile(self) -> float | None:
        """The pass."""
        await self._inherit()
        if self._declared.deleting:
            return await self._finalize()
        self._engine.inputs.begin(self._stream)
        await self._adopt()
        # Also of one that is suspended, or waits for another: as in Flux, what is under way goes to its end.
        ended = await self._go_on()
        await self._own()
        await sync_chart(self._engine, self._declared, self._run, self._row.helm_chart)
        await self._dependencies_of_other_kinds()
        await check_dependencies(self._engine, self._declared)
        await self._reach()
        wish = msgspec.structs.replace(await self._wish(), dependencies=await self._dependencies())
        await self._leave_what_was_before(wish)
        return await self._converge(wish, ended)

    async def _finalize(self) -> float | None:
        """Uninstalls the release, and lets go of the HelmRelease (contract HR-142 to HR-144)."""
        if await self._is_let_go_of():
            return None
        await self._adopt()
        may_act = bool(self._row.storage_namespace) and await self._may_uninstall()
        ended = await self._go_on() if may_act else None
        if self._desired().suspended is None:
            if may_act:
                if ended is None or ended.action != "uninstall":
                    ended = await self._uninstall_now()
                if ended is not None and ended.outcome == "failed":
                    raise Stop(self._retry_s)
            if self._row.helm_chart is not None:
                await delete_chart(self._engine, self._declared, self._run, self._row.helm_chart)
        await self._run.record([TargetRemoved(uid=self._declared.uid)])
        await asking("apply", self._engine.declared.release(self._declared))
        return None

    # The stages.

    async def _adopt(self) -> None:
        """Takes note of what the status says, where another engine has written it."""
        known = self._memory.releases.get(self._stream)
        if known is None and self._declared.status.history:
            await self._run.record([adopted(self._declared.status)])

    async def _go_on(self) -> ReleaseActionEnded | None:
        """Carries an action to its end that an earlier pass began."""
        ongoing = self._row.ongoing
        if ongoing is None or self._declared.problems:
            return None
        await self._reach()
        self._overtaken = ongoing.started.action in RELEASING and await self._is_overtaken(ongoing.started)
        return await self._carry_on()

    async def _is_overtaken(self, started: ReleaseActionStarted) -> bool:
        """Whether another chart, other values or another spec than those that are released now are wanted."""
        if self._declared.deleting:
            return True
        try:
            wish = await self._wish()
        except StageError:
            return False
        changes = wish.post_renderers, wish.common_metadata
        wanted = wish.chart.name, wish.chart.version, wish.config_digest, *changes
        changes = started.post_renderers, started.common_metadata
        return wanted != (started.chart_name, started.chart_version, started.config_digest, *changes)

    async def _wish(self) -> Wish:
        """What the spec asks for: chart, values, names; or the past version that the release is pinned to."""
        engine = self._engine
        artifact = artifact_of(
            self._memory, engine.cluster_alias, engine.settings, self._declared, engine.declared.sources.__contains__
        )
        past = await self._pinned()
        if past is not None:
            self._revision = Revision(past.snapshot.chart_version)
            return past_wish(past)
        path = await chart_file(engine.artifacts, artifact.tree, artifact.artifact)
        values = await self._values()
        try:
            chart = released(await engine.helm.described(artifact.artifact, path), artifact, engine.settings)
        except ChartError as error:
            raise unreadable(error) from None
        self._revision = Revision(chart.version)
        origin = FromChart(artifact=artifact.artifact, path=path, values=values)
        return wish_of(self._declared, chart, origin)

    async def _dependencies(self) -> str:
        """The digest of what the release depends on, as it now is."""
        known = versions_of(
            self._declared,
            self._engine.cluster_alias,
            row_of=self._memory.releases.get,
            elsewhere=self._elsewhere,
            named=self._named,
            digest=self._digest,
        )
        return await asking("declare", known)

    async def _elsewhere(self, key: ObjectKey) -> KubeObject | None:
        """A HelmRelease that another engine looks after."""
        if self._engine.declared.target(key.stream(self._engine.cluster_alias)) is not None:
            return None
        other = await elsewhere(self._engine, self._declared, key)
        return None if other is None else other.live

    async def _digest(self, key: ObjectKey, data: bytes) -> Digest:
        """The digest of what an object holds that the release depends on."""
        if not is_secret(key, self._situation.actual(key.id), None):
            return digest_of(data)
        return (await self._engine.keys.key(self._stream)).digest(data)

    async def _pinned(self) -> PastVersion | None:
        """The past version that the release is kept at; None where it follows its spec."""
        pin = self._desired().pinned
        if pin is None:
            return None
        engine, views = self._engine, self._engine.renderings.views
        why = await why_unpinned(self._memory, views, self._declared, engine.cluster_alias, engine.keys.key)
        if why:
            await self._run.record([Unpinned(why=why)])
            return None
        try:
            return await past_version(self._memory, views, self._stream, pin.position)
        except NoPastError as error:
            raise lost(str(error)) from None

    async def _values(self) -> ReleaseValues:
        """The values; over those of the version before, where the spec says so (contract HR-044)."""
        found = await super()._values()
        before = self._row.latest
        if before is None or not self._spec.effective_upgrade.preserve_values:
            return found
        store = self._store(self._row.storage_namespace)
        record = await asking("render", reading(store.get(before.name, before.version)))
        config = {} if record is None else record.release.config or {}
        kept = await preserving(found, config, self._stream, self._engine.keys.key)
        self._public = kept.values
        return kept

    async def _leave_what_was_before(self, wish: Wish) -> None:
        """Uninstalls a release of another name, namespace or chart that was this one's before (contract HR-103).

        Raises:
            Stop: when it was; the next pass makes the new one.
        """
        changed = changed_target(self._declared, self._row, wish)
        if not changed:
            return
        ended = await self._uninstall_now()
        if ended is not None and ended.outcome == "failed":
            raise Stop(self._retry_s)
        await self._run.record([ReleaseHistoryCleared(why=f"its {changed} is another", failures_too=True)])
        raise Stop(0.0)

    async def _converge(self, wish: Wish, ended: ReleaseActionEnded | None) -> float | None:
        """Does what is to be done, until nothing is."""
        done: set[Kind] = set()
        look = await self._look(wish)
        if ended is not None:
            act = Act(action=ended.action, kind=_KINDS[ended.action], why="")
            done.add(act.kind)
            await self._may_go_on(decisions.after(act, look.known), wish)
        while True:
            known = look.known
            state = decisions.state_of(known)
            if state.name == "Unknown":
                raise StageError("observe", "StateError", f"Could not determine release state: {state.why}")
            decision = decisions.decide(known, state)
            match decision:
                case Done():
                    return await self._end(wish, known)
                case Stall():
                    raise await self._given_up(decision, wish)
                case Correct():
                    return await self._drifted(wish, known, corrects=decision.corrects)
                case Act() if look.remembered:
                    self._site.records.forget(wish.storage_namespace, wish.name)
                    look = await self._look(wish)
                case Act():
                    await self._may_go_on(decisions.before(decision, done, known), wish)
                    await self._act(decision, wish, known)
                    done.add(decision.kind)
                    look = await self._look(wish)
                    await self._may_go_on(decisions.after(decision, look.known), wish)

    async def _may_go_on(self, following: decisions.Next, wish: Wish) -> None:
        """Ends the pass where this reconciliation is over."""
        if following.stall is not None:
            raise await self._given_up(following.stall, wish)
        if not following.goes_on:
            again = following.again_s
            raise Stop(None if again is None else self._engine.spaced(again, self._row.failures))

    async def _given_up(self, stall: Stall, wish: Wish) -> StageError | Stop:
        """No more is tried, until something changes: another version of what it depends on wakes it too."""
        for key in depends_on(self._declared):
            self._engine.wait_for(self._stream, key.stream(self._engine.cluster_alias))
        if await self._dependencies() != wish.dependencies:  # before it was waited for
            return Stop(0.0)
        return StageError("apply", stall.reason, stall.message, final=True, stalled=True)

    # The actions.

    async def _act(self, act: Act, wish: Wish, known: Known) -> None:
        match act.action:
            case "install" | "upgrade" as making:
                if act.clears_history and self._row.history:
                    await self._run.record([ReleaseHistoryCleared(why=act.why)])
                await self._make(making, wish, known)
            case "rollback":
                await self._roll_back(act, wish, known)
            case "uninstall-remediation":
                await self._begin(self._intent_of_last(act, known.last, remediates=True))
            case "test" | "unlock":
                await self._begin(self._intent_of_last(act, known.last, remediates=False))
            case _:
                raise RuntimeError(f"{act.action} is no decision")
        if self._row.ongoing is not None:
            await self._carry_on()

    async def _may_uninstall(self) -> bool:
        """Whether there is still a way there, and somebody to act as; without, what was released stays (HR-143)."""
        try:
            await self._reach()
        except StageError as error:
            if isinstance(error.__cause__, NoKubeconfigError):
                return False
            raise
        return await asking("apply", self._may_still_act())

    # What is known.

    async def _look(self, wish: Wish) -> Look:
        """The release as it is, and as it is to be."""
        remembered = self._site.records.newest(wish.storage_namespace, wish.name)
        newest = await self._newest(wish) if remembered is None else remembered
        return Look(await self._known(wish, newest), remembered is not None)

    async def _known(self, wish: Wish, newest: Newest | None) -> Known:
        known = known_of(
            self._declared,
            self._row,
            wish,
            newest,
            asked=self._asked(),
            observed=self._run.standing.observed,
            healed=await self._has_healed(),
        )
        # Nobody is asked about objects that are about to be applied: drift is what else there is to see to.
        if not self._spec.effective_drift_detection.detects or decisions.state_of(known).name != "InSync":
            return known
        return msgspec.structs.replace(known, drifted=bool(await self._drift()))

    async def _newest(self, wish: Wish) -> Newest | None:
        """The newest record, as Helm's storage has it; None where there is none."""
        store = self._store(wish.storage_namespace)
        record = await asking("observe", reading(store.last(wish.name)), "StateError")
        newest = Newest.of(record, self._row.latest)
        if newest is not None:
            self._site.records.keep(wish.storage_namespace, wish.name, newest, store.resource_versions(wish.name))
        return newest

    async def _has_healed(self) -> bool:
        """Whether the last version failed of objects that did not become ready in time, and now are (an image came)."""
        row, rendered = self._row, await self._deployed_set() if self._row.unready else None
        if rendered is None or row.latest is None or row.latest.status != "failed":
            return False
        making: Making = "install" if row.last_action == "install" else "upgrade"
        return (await self._health(rendered, making)).health == "Current"

    # Drift.

    async def _drift(self) -> list[Wanted]:
        """The objects that are not as the version that is deployed has them, where that counts."""
        rendered = await self._deployed_set()
        if rendered is None:
            return []
        found = self._situation.touched(rendered.wanted)
        looked_at = await self._loaded([one for one in found if not one.once])
        rules, digest_of = self._spec.effective_drift_detection.ignore, self._sealer.digest
        return await asking("observe", drifts.drifted(self._site.cluster, self._situation, looked_at, rules, digest_of))

    async def _drifted(self, wish: Wish, known: Known, *, corrects: bool) -> float | None:
        """Tells what drifted, and puts it right where the spec says so (contract HR-088)."""
        rendered, touched = await self._deployed_set(), await self._drift()
        latest = self._row.latest
        named = "" if latest is None else full_name(latest)
        said = drifts.said(self._situation, touched)
        message = f"Cluster state of release {named} has drifted from the desired state:\n{said}"
        before = self._row.drifted
        if before is None or not before.holds or before.message != message:
            await self._run.record([ReleaseDriftChanged(drifted=True, message=message)])
            self._engine.notices.drifted(self._declared, message)
        if not corrects or rendered is None:
            return await self._end(wish, known)
        try:
            # And no others: that they are as the chart has them would be recorded of what has fields left alone too.
            drifted = msgspec.structs.replace(rendered, wanted=tuple(touched))
            draft = await self._plan(drifted, touched, prunes=False)
            if draft is not None:
                await self._verify(draft)
                await self._apply(draft, await self._cleared(draft))
        except (Stop, StageError):
            self._engine.notices.corrected(self._declared, said, ok=False)
            raise
        self._engine.notices.corrected(self._declared, said, ok=True)
        return await self._end(wish, (await self._look(wish)).known)

    # The end.

    async def _end(self, wish: Wish, known: Known) -> float | None:
        """The run is over; nothing is recorded of a pass that had nothing to say."""
        await self._tell_no_drift(known)
        standing, token = self._run.standing, self._declared.requested_at
        is_ready, reason, message = self._summary()
        news = (
            self._run.records > 0
            or not standing.ended_well
            or (standing.unready, standing.reason, standing.message) != (not is_ready, reason, message)
            or standing.run is not None
            or standing.applied != wish.chart.version
            or standing.observed != self._declared.generation
            or (token and token != standing.handled)
        )
        if news:
            worked = self._applied or standing.run is not None
            rendered = await self._deployed_set()
            await self._run.record(
                [
                    RunEnded(
                        outcome="succeeded" if worked else "unchanged",
                        generation=self._declared.generation,
                        revision=Revision(wish.chart.version),
                        set=None if rendered is None else rendered.digest,
                        token=token or "",
                        reason=reason,
                        message=message,
                        ready=is_ready,
                    )
                ]
            )
        self._settle()
        return self._engine.jittered(self._spec.interval.seconds)

    async def _tell_no_drift(self, known: Known) -> None:
        before = self._row.drifted
        if known.policy.looks_for_drift and not known.drifted and (before is None or before.holds):
            message = "No drift detected against the cluster state"
            await self._run.record([ReleaseDriftChanged(drifted=False, message=message)])

    def _summary(self) -> tuple[bool, str, str]:
        """What Ready says of a release that is as it is to be (contract HR-083, HR-118).

        Where tests that fail are only not to be put right, they are told all the same.
        """
        row, latest = self._row, self._row.latest
        named = ("", "")
        if latest is not None:
            version = full_name(latest)
            named = (version, f"{latest.chart_name}@{latest.chart_version}")
        tests = self._spec.effective_test
        counts = tests.enable and not tests.ignore_failures
        if counts and row.remediated is None and row.tested is not None:
            return row.tested.holds, row.tested.reason, row.tested.message
        if row.remediated is None and row.released is not None and row.released.holds:
            return True, row.released.reason, row.released.message
        action = "install" if row.last_action == "install" and row.remediated is None else "upgrade"
        reason = "InstallSucceeded" if action == "install" else "UpgradeSucceeded"
        return True, reason, f"Helm {action} succeeded for release {named[0]} with chart {named[1]}"

    # What the stages need to know.

    @property
    def _retry_s(self) -> float:
        return self._engine.retry_in(self._engine.settings.max_retry_delay.seconds, self._tries() + 1)

    def _source_stream(self) -> StreamName:
        return source_of(self._declared).stream(self._engine.cluster_alias)
