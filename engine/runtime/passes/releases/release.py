"""The reconciliation of a HelmRelease: the way of the data, top to bottom, each line one stage.

What is to be done is decided from Helm's storage, the log and the spec (`helm/decisions.py`), again after each action,
until nothing is left to do or the pass has to wait.
"""

from collections.abc import Awaitable, Mapping
from typing import Final, TypeVar

import msgspec

from tidelog.engine.helm import decisions
from tidelog.engine.helm.decisions import Act, Correct, Done, Kind, Known, Stall
from tidelog.engine.helm.errors import ChartError, RecordError
from tidelog.engine.helm.releases import DEPLOYED, pending_again, rollback_to, upgrade_base
from tidelog.engine.helm.storage import Release, snapshot_digest
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.kinds.helmactions import ReleasingName
from tidelog.engine.kinds.meta import (
    FINALIZER,
    FORCE_AT,
    RESET_AT,
)
from tidelog.engine.plan.model import Wanted
from tidelog.engine.runtime.passes.dependencies import check_dependencies
from tidelog.engine.runtime.passes.health import assess_own
from tidelog.engine.runtime.passes.releases import drifts
from tidelog.engine.runtime.passes.releases.actions import Ready, ReleaseActions
from tidelog.engine.runtime.passes.releases.charts import (
    artifact_of,
    delete_chart,
    released,
    sync_chart,
    unreadable,
)
from tidelog.engine.runtime.passes.releases.hooks import ActionFailed
from tidelog.engine.runtime.passes.releases.records import (
    LostRecordError,
    adopted,
)
from tidelog.engine.runtime.passes.releases.sets import set_of_record
from tidelog.engine.runtime.passes.releases.wish import (
    FromChart,
    Wish,
    asks,
    changed_target,
    counts_anew,
    digest_of_part,
    inputs_of,
    known_of,
    namespaces_of_hooks,
    past_wish,
    render_wish,
    why_not_imported,
    wish_of,
    without,
)
from tidelog.engine.runtime.past_releases import NoPastError, PastVersion, past_version, why_unpinned
from tidelog.engine.runtime.release_inputs import (
    ReleaseValues,
    chart_file,
    preserving,
)
from tidelog.engine.runtime.rendered import RenderedSet, Sealed
from tidelog.engine.runtime.run import StageError, Stop, asking
from tidelog.engine.runtime.watching.declared import source_of
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import Revision, StreamName
from tidelog.events.projections.releases import RELEASING, Made, ReleaseRow
from tidelog.events.vocabulary import (
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseDriftChanged,
    ReleaseHistoryCleared,
    ReleaseSnapshot,
    RunEnded,
    TargetRemoved,
    Unpinned,
)
from tidelog.storage import Query

T = TypeVar("T")

_KINDS: Final[Mapping[str, Kind]] = {
    "install": "release",
    "upgrade": "release",
    "uninstall": "release",
    "test": "test",
    "rollback": "remediate",
    "uninstall-remediation": "remediate",
    "unlock": "unlock",
}


class HelmReleasePass(ReleaseActions):
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
        wish = await self._wish()
        await self._leave_what_was_before(wish)
        return await self._converge(wish, ended)

    async def _finalize(self) -> float | None:
        """Uninstalls the release, and lets go of the HelmRelease (contract HR-142 to HR-144)."""
        if FINALIZER not in self._declared.finalizers:
            return None
        if await self._was_removed():  # a watch told of it once more, before its finalizer was gone
            await asking("apply", self._engine.declared.release(self._declared))
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
                await delete_chart(self._engine, self._run, self._row.helm_chart)
        await self._run.record([TargetRemoved(uid=self._declared.uid)])
        await asking("apply", self._engine.declared.release(self._declared))
        return None

    async def _was_removed(self) -> bool:
        """Whether all that is to be done for its deletion is done."""
        last = await self._memory.log.last(Query(stream=self._stream, types=(TargetRemoved.__name__,)))
        return last is not None and isinstance(last.event, TargetRemoved) and last.event.uid == self._declared.uid

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
            chart = released(await engine.helm.described(artifact.artifact, path), artifact)
        except ChartError as error:
            raise unreadable(error) from None
        self._revision = Revision(chart.version)
        return wish_of(self._declared, chart, FromChart(artifact=artifact.artifact, path=path, values=values))

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
            raise _lost(str(error)) from None

    async def _values(self) -> ReleaseValues:
        """The values; over those of the version before, where the spec says so (contract HR-044)."""
        found = await super()._values()
        before = self._row.latest
        if before is None or not self._spec.effective_upgrade.preserve_values:
            return found
        store = self._store(self._row.storage_namespace)
        record = await asking("render", _reading(store.get(before.name, before.version)))
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
        known = await self._known(wish)
        if ended is not None:
            act = Act(action=ended.action, kind=_KINDS[ended.action], why="")
            done.add(act.kind)
            await self._may_go_on(decisions.after(act, known))
        while True:
            state = decisions.state_of(known)
            if state.name == "Unknown":
                raise StageError("observe", "StateError", f"Could not determine release state: {state.why}")
            decision = decisions.decide(known, state)
            match decision:
                case Done():
                    return await self._end(wish, known)
                case Stall():
                    raise _stalled(decision)
                case Correct():
                    return await self._drifted(wish, known, corrects=decision.corrects)
                case Act():
                    await self._may_go_on(decisions.before(decision, done, known))
                    await self._act(decision, wish, known)
                    done.add(decision.kind)
                    known = await self._known(wish)
                    await self._may_go_on(decisions.after(decision, known))

    async def _may_go_on(self, following: decisions.Next) -> None:
        """Ends the pass where this reconciliation is over."""
        if following.stall is not None:
            raise _stalled(following.stall)
        if not following.goes_on:
            raise Stop(following.again_s)

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

    async def _make(self, making: ReleasingName, wish: Wish, known: Known) -> None:
        """Begins an install or an upgrade: once its objects are planned, and found valid and harmless."""
        store = self._store(wish.storage_namespace)
        last = known.last
        version = 1 if last is None else last.version + 1
        base = None
        if making == "upgrade":
            base = await asking("apply", _reading(self._base(store, wish.name, last)))
            if base is None:
                raise StageError("apply", "UpgradeFailed", f'"{wish.name}" has no deployed releases')
        release, rendered = await self._rendered(making, wish, version, base)
        started = self._intent(making, wish, version, rendered.digest, release)
        if base is not None:
            started = msgspec.structs.replace(started, base=base.version)
        self._intended = started
        if base is not None:
            await self._know_base(store, base)
        await self._prepare_for(rendered)
        await self._check_ownership(making, rendered, wish)
        hooked = namespaces_of_hooks(self._declared, making, release)
        draft = await self._plan(without(rendered, hooked), prunes=not hooked)
        if draft is not None:
            await self._verify(draft)
            cleared = await self._approvals.clear(draft.plan, self._revision)
            self._ready = None if hooked else Ready(rendered.digest, draft, cleared)
        await self._begin(started, release)

    async def _know_base(self, store: ReleaseStore, base: Release) -> None:
        """Takes note of the objects of what an upgrade begins from, where somebody else made it."""
        try:
            await self._know_objects_of(store, base.name, base.version)
        except ActionFailed as error:
            reason, about = self._refused_as
            raise StageError("plan", reason, f"{about}: {error}") from None

    async def _base(self, store: ReleaseStore, name: str, last: Release | None) -> Release | None:
        """What an upgrade begins from; records are only read where that is not the newest."""
        if last is not None and last.info.status == DEPLOYED:
            return last
        found = upgrade_base(await store.history(name))
        return None if found is None else found.release

    async def _rendered(
        self, making: ReleasingName, wish: Wish, version: int, base: Release | None
    ) -> tuple[Release, RenderedSet]:
        """The version that is to be made, pending, and the set of its objects; the set is recorded."""
        origin = wish.origin
        if isinstance(origin, PastVersion):
            return await self._again(making, origin, version, base)
        self._activity.begin(self._stream, "building", wish.chart.version)
        made = await render_wish(
            self._engine,
            self._declared,
            wish,
            origin,
            making,
            version,
            base,
            identity=self._situation.subject.identity,
            secrets=self._run.secrets,
        )
        await self._record_set(made.set, Revision(wish.chart.version), inputs_of(wish, origin))
        return made.release, made.set.set

    async def _again(
        self, making: ReleasingName, past: PastVersion, version: int, base: Release | None
    ) -> tuple[Release, RenderedSet]:
        """A past version that is to be made again, pending, and the set of its objects; the set is recorded."""
        try:
            record = await self._opened(past.made.record)
        except LostRecordError as error:
            raise _lost(str(error)) from None
        release = pending_again(record, version=version, action=making, previous=base, time=self._engine.now())
        return release, await self._set_again(record, past.made)

    async def _record_set(self, made: Sealed, revision: Revision, inputs: Digest) -> None:
        before = await self._engine.renderings.last(self._stream)
        if before is None or before.digest != made.set.digest or self._run.standing.inputs != inputs:
            new = [body for body in made.bodies if not self._engine.renderings.has(self._stream, body.ref.digest)]
            await self._run.record([made.event(revision, inputs)], new)
        self._engine.renderings.keep(self._stream, made.set)

    async def _prepare_for(self, made: RenderedSet) -> None:
        """What the rest needs to be asked about is there: the chart's own kinds, and its namespace.

        They are planned, verified and applied like everything else, before the action begins.
        """
        first = tuple(one for one in made.wanted if one.once or _defines(one))
        if not self._situation.touched(first):
            return
        subset = msgspec.structs.replace(made, wanted=first, digest=digest_of_part(first))
        draft = await self._plan(subset, prunes=False)
        if draft is not None:
            await self._verify(draft)
            await self._apply(draft, await self._approvals.clear(draft.plan, self._revision))

    async def _check_ownership(self, making: ReleasingName, made: RenderedSet, wish: Wish) -> None:
        """Objects that are there are the release's already, where it is not to take any over (contract HR-040)."""
        message = await asking(
            "verify", why_not_imported(self._engine.cluster, self._situation, self._declared, making, made.wanted, wish)
        )
        if message:
            reason, about = self._refused_as
            raise StageError("verify", reason, f"{about}: {message}")

    async def _roll_back(self, act: Act, wish: Wish, known: Known) -> None:
        """Begins a rollback to a version that was good."""
        target, last = act.target, known.last
        if target is None or last is None:
            raise RuntimeError("a rollback without a version to go back to")
        store = self._store(self._row.storage_namespace or wish.storage_namespace)
        record = await asking("apply", _reading(store.get(target.name, target.version)))
        if record is None or not _is_as_known(record.release, target):
            # What it would go back to is not as it was: to try the upgrade again is the better way (contract HR-095).
            await self._make("upgrade", wish, known)
            return
        release = rollback_to(record.release, current=last, version=last.version + 1, time=self._engine.now())
        made = self._row.made_as(target.version)
        chosen = (await self._set_again(record.release, made)).digest
        await self._begin(
            ReleaseActionStarted(
                action="rollback",
                name=target.name,
                namespace=target.namespace,
                storage_namespace=self._row.storage_namespace,
                version=release.version,
                chart_name=target.chart_name,
                chart_version=target.chart_version,
                config_digest=target.config_digest,
                oci_digest=target.oci_digest,
                generation=self._declared.generation,
                set=chosen,
                target=target.version,
                remediates=True,
            ),
            release,
        )

    async def _set_again(self, release: Release, made: Made | None) -> RenderedSet:
        """Records that the set of an earlier version is what is wanted now; returns it."""
        event = None if made is None else await self._engine.renderings.event_at(self._stream, made.position)
        rendered = None if made is None else await self._engine.renderings.at(self._stream, made.position)
        if event is None or rendered is None:
            found = await set_of_record(self._engine, release, self._run.secrets)
            chart = (release.chart.metadata if release.chart else None) or {}
            event = found.event(Revision(str(chart.get("version") or "")), digest_of(release.manifest.encode()))
            await self._run.record([event], found.bodies)
            self._engine.renderings.keep(self._stream, found.set)
            return found.set
        await self._run.record([event])
        wanted = msgspec.structs.replace(rendered, pinned=False)
        self._engine.renderings.keep(self._stream, wanted)
        return wanted

    async def _may_uninstall(self) -> bool:
        """Whether there is still somebody to act as; without, what was released stays (contract HR-143)."""
        return await asking("apply", self._may_still_act())

    async def _uninstall_now(self) -> ReleaseActionEnded | None:
        """Uninstalls the release that is known; None where there is none."""
        latest = self._row.latest
        if latest is None or not self._row.storage_namespace:
            return None
        started = _intent_of(latest, self._row, "uninstall", self._declared.generation)
        await self._begin(started)
        return await self._carry_on()

    # What is known.

    async def _known(self, wish: Wish) -> Known:
        """The release as it is, and as it is to be."""
        store = self._store(wish.storage_namespace)
        record = await asking("observe", _reading(store.last(wish.name)), "StateError")
        known = known_of(
            self._declared,
            self._row,
            wish,
            None if record is None else record.release,
            observed=self._run.standing.observed,
            healed=await self._has_healed(),
        )
        # Nobody is asked about objects that are about to be applied: drift is what else there is to see to.
        if not self._spec.effective_drift_detection.detects or decisions.state_of(known).name != "InSync":
            return known
        return msgspec.structs.replace(known, drifted=bool(await self._drift()))

    async def _has_healed(self) -> bool:
        """Whether the last version failed of objects that did not become ready in time, and now are (an image came)."""
        row, rendered = self._row, await self._deployed_set() if self._row.unready else None
        if rendered is None or row.latest is None or row.latest.status != "failed":
            return False
        keys, exprs = [one.key for one in rendered.wanted], self._spec.effective_health_check_exprs
        found = await asking("observe", assess_own(self._engine, self._stream, keys, exprs))
        return found.health == "Current"

    def _intent(
        self, making: ReleasingName, wish: Wish, version: int, chosen: Digest, release: Release
    ) -> ReleaseActionStarted:
        declared, row, annotations = self._declared, self._row, self._declared.annotations
        return ReleaseActionStarted(
            action=making,
            name=release.name,
            namespace=release.namespace,
            storage_namespace=wish.storage_namespace,
            version=version,
            chart_name=wish.chart.name,
            chart_version=wish.chart.version,
            config_digest=wish.config_digest,
            oci_digest=wish.chart.oci_digest,
            generation=self._declared.generation,
            reset=counts_anew(declared, row, wish),
            force_token=annotations[FORCE_AT] if asks(declared, FORCE_AT, row.handled_force) else "",
            reset_token=annotations[RESET_AT] if asks(declared, RESET_AT, row.handled_reset) else "",
            post_renderers=wish.post_renderers,
            common_metadata=wish.common_metadata,
            set=chosen,
            origin=wish.origin.origin if isinstance(wish.origin, PastVersion) else 0,
        )

    def _intent_of_last(self, act: Act, last: Release | None, *, remediates: bool) -> ReleaseActionStarted:
        """The intent of an action on the newest version."""
        if last is None:
            raise RuntimeError(f"{act.action} without a release")
        latest = self._row.latest
        if latest is None or latest.version != last.version:
            chart = (last.chart.metadata if last.chart else None) or {}
            return ReleaseActionStarted(
                action=act.action,
                name=last.name,
                namespace=last.namespace,
                storage_namespace=self._spec.storage_namespace_of(self._declared.key.namespace),
                version=last.version,
                chart_name=str(chart.get("name") or ""),
                chart_version=str(chart.get("version") or ""),
                generation=self._declared.generation,
                remediates=remediates,
            )
        started = _intent_of(latest, self._row, act.action, self._declared.generation)
        return msgspec.structs.replace(started, remediates=remediates)

    # Drift.

    async def _drift(self) -> list[Wanted]:
        """The objects that are not as the version that is deployed has them, where that counts."""
        rendered = await self._deployed_set()
        if rendered is None:
            return []
        # By another spec other fields may be left alone than when something was put right.
        is_new = self._row.drifted is not None and self._run.standing.observed != self._declared.generation
        found = rendered.wanted if is_new else self._situation.touched(rendered.wanted)
        looked_at = await self._loaded([one for one in found if not one.once])
        rules = self._spec.effective_drift_detection.ignore
        return await asking("observe", drifts.drifted(self._engine, self._situation, looked_at, rules))

    async def _deployed_set(self) -> RenderedSet | None:
        """The set of the version that is deployed; None where it was not made here."""
        latest = self._row.latest
        made = None if latest is None else self._row.made_as(latest.version)
        if made is None:
            return None
        last = await self._engine.renderings.last(self._stream)
        if last is not None and last.digest == made.set:
            return last
        return await self._engine.renderings.at(self._stream, made.position)

    async def _drifted(self, wish: Wish, known: Known, *, corrects: bool) -> float | None:
        """Tells what drifted, and puts it right where the spec says so (contract HR-088)."""
        rendered, touched = await self._deployed_set(), await self._drift()
        latest = self._row.latest
        named = "" if latest is None else f"{latest.namespace}/{latest.name}.v{latest.version}"
        said = drifts.said(self._situation, touched)
        message = f"Cluster state of release {named} has drifted from the desired state:\n{said}"
        before = self._row.drifted
        if before is None or not before.holds or before.message != message:
            await self._run.record([ReleaseDriftChanged(drifted=True, message=message)])
            self._engine.notices.drifted(self._declared, message)
        if not corrects or rendered is None:
            return await self._end(wish, known)
        try:
            by_key = {one.key: one for one in touched}
            wanted = tuple(by_key.get(one.key, one) for one in rendered.wanted)
            draft = await self._plan(msgspec.structs.replace(rendered, wanted=wanted), touched, prunes=False)
            if draft is not None:
                await self._verify(draft)
                await self._apply(draft, await self._approvals.clear(draft.plan, self._revision))
        except (Stop, StageError):
            self._engine.notices.corrected(self._declared, said, ok=False)
            raise
        self._engine.notices.corrected(self._declared, said, ok=True)
        return await self._end(wish, await self._known(wish))

    # The end.

    async def _end(self, wish: Wish, known: Known) -> float | None:
        """The run is over; nothing is recorded of a pass that had nothing to say."""
        await self._tell_no_drift(known)
        standing, token = self._run.standing, self._declared.requested_at
        reason, message = self._summary()
        news = (
            self._run.records > 0
            or standing.ready != "True"
            or (standing.reason, standing.message) != (reason, message)
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

    def _summary(self) -> tuple[str, str]:
        """What Ready says of a release that is as it is to be (contract HR-083, HR-118)."""
        row, latest = self._row, self._row.latest
        named = ("", "")
        if latest is not None:
            version = f"{latest.namespace}/{latest.name}.v{latest.version}"
            named = (version, f"{latest.chart_name}@{latest.chart_version}")
        tests = self._spec.effective_test
        if tests.enable and not tests.ignore_failures and row.tested is not None and row.tested.holds:
            return row.tested.reason, row.tested.message
        if row.remediated is None and row.released is not None and row.released.holds:
            return row.released.reason, row.released.message
        action = "install" if row.last_action == "install" and row.remediated is None else "upgrade"
        reason = "InstallSucceeded" if action == "install" else "UpgradeSucceeded"
        return reason, f"Helm {action} succeeded for release {named[0]} with chart {named[1]}"

    # What the stages need to know.

    @property
    def _retry_s(self) -> float:
        return self._engine.retry_in(self._engine.settings.max_retry_delay.seconds, self._tries() + 1)

    def _source_stream(self) -> StreamName:
        return source_of(self._declared).stream(self._engine.cluster_alias)


async def _reading(found: Awaitable[T]) -> T:
    """What is read of Helm's storage; a record that cannot be read ends the pass."""
    try:
        return await found
    except RecordError as error:
        raise StageError("observe", "StateError", f"Could not determine release state: {error}") from None


def _stalled(stall: Stall) -> StageError:
    return StageError("apply", stall.reason, stall.message, final=True, stalled=True)


def _lost(message: str) -> StageError:
    """A past version that cannot come back."""
    return StageError("render", "StateError", f"pinned, but {message}: `tidelog unpin` has it follow its chart again")


def _intent_of(snapshot: ReleaseSnapshot, row: ReleaseRow, action: str, generation: int) -> ReleaseActionStarted:
    """The intent of an action on a version that is known."""
    return msgspec.convert(
        {
            "action": action,
            "name": snapshot.name,
            "namespace": snapshot.namespace,
            "storage_namespace": row.storage_namespace,
            "version": snapshot.version,
            "chart_name": snapshot.chart_name,
            "chart_version": snapshot.chart_version,
            "config_digest": snapshot.config_digest,
            "oci_digest": snapshot.oci_digest,
            "generation": generation,
        },
        ReleaseActionStarted,
    )


def _is_as_known(release: Release, snapshot: ReleaseSnapshot) -> bool:
    return snapshot.api_version != decisions.SNAPSHOT_VERSION or snapshot.digest == snapshot_digest(
        release, snapshot.oci_digest
    )


def _defines(one: Wanted) -> bool:
    return one.key.kind == "CustomResourceDefinition"
