"""The reconciliation of a HelmRelease: the way of the data, top to bottom, each line one stage.

What is to be done is decided from Helm's storage, the log and the spec (`helm/decisions.py`), again after each action,
until nothing is left to do or the pass has to wait.
"""

from collections.abc import Awaitable, Collection, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from tidelog.engine.helm import decisions
from tidelog.engine.helm.decisions import Act, Correct, Done, Kind, Known, Stall
from tidelog.engine.helm.errors import ChartError, RecordError
from tidelog.engine.helm.hooks import Event as HookEvent
from tidelog.engine.helm.hooks import hooks_for
from tidelog.engine.helm.lookup import LookupSource
from tidelog.engine.helm.marks import ownership_problems
from tidelog.engine.helm.policy import policy_of
from tidelog.engine.helm.postrender import common_metadata_digest, post_renderers_digest
from tidelog.engine.helm.releases import DEPLOYED, pending, rollback_to, upgrade_base
from tidelog.engine.helm.spec import Kustomize, RenderJob
from tidelog.engine.helm.storage import Release, snapshot_digest
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.kinds.decode import encode as encode_kind
from tidelog.engine.kinds.helmactions import ReleasingName
from tidelog.engine.kinds.helmrelease import KustomizeRenderer
from tidelog.engine.kinds.meta import (
    FINALIZER,
    FORCE_AT,
    RESET_AT,
)
from tidelog.engine.plan.model import Wanted
from tidelog.engine.render.spec import CommonMetadata
from tidelog.engine.runtime.passes.dependencies import check_dependencies
from tidelog.engine.runtime.passes.health import assess_own
from tidelog.engine.runtime.passes.releases import drifts
from tidelog.engine.runtime.passes.releases.actions import Ready, ReleaseActions
from tidelog.engine.runtime.passes.releases.charts import (
    ChartArtifact,
    ReleasedChart,
    artifact_of,
    delete_chart,
    released,
    sync_chart,
    unreadable,
)
from tidelog.engine.runtime.passes.releases.records import (
    adopted,
)
from tidelog.engine.runtime.passes.releases.sets import namespace_object, set_of_chart, set_of_record
from tidelog.engine.runtime.release_inputs import (
    ReleaseValues,
    chart_file,
    post_render_of,
    preserving,
    read_values,
    release_objects,
    render_release,
)
from tidelog.engine.runtime.rendered import RenderedSet, Sealed
from tidelog.engine.runtime.run import StageError, Stop, asking
from tidelog.engine.runtime.watching.declared import source_of
from tidelog.events.canonical import encode
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
)

T = TypeVar("T")

RENDER_RETRY_S: Final = 5.0
"""After a render that failed for no reason of its own; longer after each further one."""
_KINDS: Final[Mapping[str, Kind]] = {
    "install": "release",
    "upgrade": "release",
    "uninstall": "release",
    "test": "test",
    "rollback": "remediate",
    "uninstall-remediation": "remediate",
    "unlock": "unlock",
}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The release that the spec asks for, before it is rendered."""

    name: str
    namespace: str
    storage_namespace: str
    chart: ReleasedChart
    artifact: ChartArtifact
    path: Path
    """Of the chart's archive."""
    values: ReleaseValues
    post_renderers: str
    common_metadata: str


class HelmReleasePass(ReleaseActions):
    """One pass over one HelmRelease."""

    # The way of the data.

    async def reconcile(self) -> float | None:
        """The pass."""
        await self._inherit()
        if self._declared.deleting:
            return await self._finalize()
        self._engine.inputs.begin(self._stream)
        await self._own()
        await self._adopt()
        await sync_chart(self._engine, self._declared, self._run, self._row.helm_chart)
        await self._dependencies_of_other_kinds()
        await check_dependencies(self._engine, self._declared)
        ended = await self._go_on()
        wish = await self._wish()
        await self._leave_what_was_before(wish)
        return await self._converge(wish, ended)

    async def _finalize(self) -> float | None:
        """Uninstalls the release, and lets go of the HelmRelease (contract HR-142 to HR-144)."""
        if FINALIZER not in self._declared.finalizers:
            return None
        await self._adopt()
        if self._desired().suspended is None:
            if self._row.storage_namespace and await self._may_uninstall():
                ended = await self._go_on()
                if ended is None or ended.action != "uninstall":
                    ended = await self._uninstall_now()
                if ended is not None and ended.outcome == "failed":
                    raise Stop(self._retry_s)
            if self._row.helm_chart is not None:
                await delete_chart(self._engine, self._run, self._row.helm_chart)
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
        if ongoing is None:
            return None
        self._overtaken = ongoing.started.action in RELEASING and await self._is_overtaken(ongoing.started)
        return await self._carry_on()

    async def _is_overtaken(self, started: ReleaseActionStarted) -> bool:
        """Whether another chart, other values or another spec than those that are released now are wanted."""
        if self._declared.deleting or started.generation != self._declared.generation:
            return True
        try:
            wish = await self._wish()
        except StageError:
            return False
        wanted = wish.chart.name, wish.chart.version, wish.values.config_digest
        return wanted != (started.chart_name, started.chart_version, started.config_digest)

    async def _wish(self) -> Wish:
        """What the spec asks for: chart, values, names."""
        engine, spec, key = self._engine, self._spec, self._declared.key
        artifact = artifact_of(engine, self._declared)
        path = await chart_file(engine.artifacts, artifact.tree, artifact.artifact)
        values = await self._values()
        try:
            chart = released(await engine.helm.described(artifact.artifact, path), artifact)
        except ChartError as error:
            raise unreadable(error) from None
        self._revision = Revision(chart.version)
        common = spec.common_metadata
        return Wish(
            name=spec.release_name_of(key.name),
            namespace=spec.release_namespace_of(key.namespace),
            storage_namespace=spec.storage_namespace_of(key.namespace),
            chart=chart,
            artifact=artifact,
            path=path,
            values=values,
            post_renderers=post_renderers_digest(
                [None if one.kustomize is None else _as_step(one.kustomize) for one in spec.post_renderers]
            ),
            common_metadata=common_metadata_digest(
                None if common is None else msgspec.convert(encode_kind(common), CommonMetadata)
            ),
        )

    async def _values(self) -> ReleaseValues:
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
        before = self._row.latest
        if before is None or not self._spec.effective_upgrade.preserve_values:
            return found
        store = self._store(self._row.storage_namespace)
        record = await asking("render", _reading(store.get(before.name, before.version)))
        config = {} if record is None else record.release.config or {}
        return await preserving(found, config, self._stream, self._engine.keys.key)

    async def _leave_what_was_before(self, wish: Wish) -> None:
        """Uninstalls a release of another name, namespace or chart that was this one's before (contract HR-103).

        Raises:
            Stop: when it was; the next pass makes the new one.
        """
        changed = decisions.changed_target(
            self._row,
            name=wish.name,
            namespace=wish.namespace,
            storage_namespace=wish.storage_namespace,
            chart_name=wish.chart.name,
            in_place=self._spec.effective_upgrade.effective_chart_name_change == "InPlaceUpdate",
        )
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
        release, made = await self._rendered(making, wish, version, base)
        started = self._intent(making, wish, version, made.set.digest, release)
        if base is not None:
            started = msgspec.structs.replace(started, base=base.version)
        self._intended = started
        await self._prepare_for(made.set)
        await self._check_ownership(making, made.set, wish)
        hooked = self._namespaces_of_hooks(making, release)
        draft = await self._plan(_without(made.set, hooked), prunes=not hooked)
        if draft is not None:
            await self._verify(draft)
            cleared = await self._approvals.clear(draft.plan, self._revision)
            self._ready = None if hooked else Ready(made.set.digest, draft, cleared)
        await self._begin(started, release)

    def _namespaces_of_hooks(self, making: ReleasingName, release: Release) -> frozenset[str]:
        """The namespaces that hooks make first: what goes into one can be planned only then."""
        event: HookEvent = "pre-install" if making == "install" else "pre-upgrade"
        runs = (self._spec.effective_install if making == "install" else self._spec.effective_upgrade).runs_hooks
        return frozenset(hook.name for hook in hooks_for(release, event) if runs and hook.kind == "Namespace")

    async def _base(self, store: ReleaseStore, name: str, last: Release | None) -> Release | None:
        """What an upgrade begins from; records are only read where that is not the newest."""
        if last is not None and last.info.status == DEPLOYED:
            return last
        found = upgrade_base(await store.history(name))
        return None if found is None else found.release

    async def _rendered(
        self, making: ReleasingName, wish: Wish, version: int, base: Release | None
    ) -> tuple[Release, Sealed]:
        """The version that is to be made, pending, and the set of its objects; the set is recorded."""
        engine, spec, key = self._engine, self._spec, self._declared.key
        self._activity.begin(self._stream, "building", wish.chart.version)
        how = spec.effective_install if making == "install" else spec.effective_upgrade
        can = await asking("render", engine.helm.capabilities.now())
        job = RenderJob(
            chart=str(wish.path),
            release_name=wish.name,
            namespace=wish.namespace,
            kube_version=can.kube_version,
            api_versions=can.api_versions,
            is_upgrade=making == "upgrade",
            revision=version if making == "upgrade" else 1,
            skip_schema=not how.checks_schema,
            build_metadata=wish.chart.build_metadata,
            with_record=True,
            called=f"{wish.chart.name}-{wish.chart.version}",
        )
        try:
            rendering = await render_release(
                engine.helm.renderer,
                engine.renderer,
                job,
                wish.values,
                post_render_of(spec, key),
                self._run.secrets,
                lookup=LookupSource(engine.cluster, self._situation.subject.identity),
                time_s=spec.effective_timeout(making).seconds,
            )
            found = await asking(
                "render",
                release_objects(
                    rendering, engine.cluster, key, name=wish.name, namespace=wish.namespace, crds=how.effective_crds
                ),
            )
        except ChartError as error:
            reason = "InstallFailed" if making == "install" else "UpgradeFailed"
            chart = f"{wish.chart.name}@{wish.chart.version}"
            message = (
                f"Helm {making} failed for release {wish.namespace}/{wish.name} with chart {chart}: {error.message}"
            )
            retry_s = None if error.final else RENDER_RETRY_S
            raise StageError("render", reason, message, final=error.final, retry_s=retry_s) from None
        creates = making == "install" and spec.creates_namespace
        made = await set_of_chart(
            engine,
            found,
            can.kube_version,
            self._run.secrets,
            namespace_object(wish.namespace) if creates else None,
        )
        await self._record_set(made, wish)
        release = pending(
            rendering.chart,
            name=wish.name,
            namespace=wish.namespace,
            version=version,
            values=wish.values.values,
            action=making,
            previous=base,
            time=engine.now(),
        )
        return release, made

    async def _record_set(self, made: Sealed, wish: Wish) -> None:
        inputs = digest_of(
            encode([wish.artifact.artifact, wish.values.digest, wish.post_renderers, wish.common_metadata])
        )
        before = await self._engine.renderings.last(self._stream)
        if before is None or before.digest != made.set.digest or self._run.standing.inputs != inputs:
            new = [body for body in made.bodies if not self._engine.renderings.has(self._stream, body.ref.digest)]
            await self._run.record([made.event(Revision(wish.chart.version), inputs)], new)
        self._engine.renderings.keep(self._stream, made.set)

    async def _prepare_for(self, made: RenderedSet) -> None:
        """What the rest needs to be asked about is there: the chart's own kinds, and its namespace.

        They are planned, verified and applied like everything else, before the action begins.
        """
        first = tuple(one for one in made.wanted if one.once or _defines(one))
        if not self._situation.touched(first):
            return
        subset = msgspec.structs.replace(made, wanted=first, digest=_digest_of(first))
        draft = await self._plan(subset, prunes=False)
        if draft is not None:
            await self._verify(draft)
            await self._apply(draft, await self._approvals.clear(draft.plan, self._revision))

    async def _check_ownership(self, making: ReleasingName, made: RenderedSet, wish: Wish) -> None:
        """Objects that are there are the release's already, where it is not to take any over (contract HR-040)."""
        how = self._spec.effective_install if making == "install" else self._spec.effective_upgrade
        if how.takes_ownership:
            return
        for one in made.wanted:
            if one.once or self._situation.entry(one.key.id) is not None:
                continue
            live = await asking("verify", drifts.live_of(self._engine, self._situation, one))
            problems = () if live is None else ownership_problems(live, wish.name, wish.namespace)
            if problems:
                where = f' in namespace "{one.key.namespace}"' if one.key.namespace else ""
                message = (
                    f'Unable to continue with {making}: {one.key.kind} "{one.key.name}"{where} exists and cannot be '
                    f"imported into the current release: invalid ownership metadata; {'; '.join(problems)}"
                )
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
        made = next((one for one in self._row.made if one.version == target.version), None)
        chosen = await self._set_again(record.release, made)
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

    async def _set_again(self, release: Release, made: Made | None) -> Digest:
        """Records that the set of an earlier version is what is wanted now; returns its digest."""
        event = None if made is None else await self._engine.renderings.event_at(self._stream, made.position)
        rendered = None if made is None else await self._engine.renderings.at(self._stream, made.position)
        if event is None or rendered is None:
            found = await set_of_record(self._engine, release, self._run.secrets)
            chart = (release.chart.metadata if release.chart else None) or {}
            event = found.event(Revision(str(chart.get("version") or "")), digest_of(release.manifest.encode()))
            await self._run.record([event], found.bodies)
            self._engine.renderings.keep(self._stream, found.set)
            return found.set.digest
        await self._run.record([event])
        self._engine.renderings.keep(self._stream, msgspec.structs.replace(rendered, pinned=False))
        return rendered.digest

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
        row = await self._counted(wish)
        last, latest = None if record is None else record.release, row.latest
        known = Known(
            row=row,
            policy=policy_of(self._spec),
            last=last,
            last_digest="" if last is None else snapshot_digest(last, latest.oci_digest if latest else ""),
            chart_name=wish.chart.name,
            chart_version=wish.chart.version,
            config_digest=wish.values.config_digest,
            post_renderers=wish.post_renderers,
            common_metadata=wish.common_metadata,
            generation=self._declared.generation,
            observed_generation=max(self._run.standing.observed, row.observed_generation),
            forced=self._asks(FORCE_AT, row.handled_force),
        )
        # Nobody is asked about objects that are about to be applied: drift is what else there is to see to.
        if not self._spec.effective_drift_detection.detects or decisions.state_of(known).name != "InSync":
            return known
        return msgspec.structs.replace(known, drifted=bool(await self._drift()))

    async def _counted(self, wish: Wish) -> ReleaseRow:
        """The row, with the failures that still count (contract HR-102)."""
        row = self._row
        if not self._resets(wish) and not await self._has_healed():
            return row
        return msgspec.structs.replace(row, failures=0, install_failures=0, upgrade_failures=0)

    async def _has_healed(self) -> bool:
        """Whether the last version failed of objects that did not become ready in time, and now are (an image came)."""
        row, rendered = self._row, await self._deployed_set() if self._row.unready else None
        if rendered is None or row.latest is None or row.latest.status != "failed":
            return False
        keys, exprs = [one.key for one in rendered.wanted], self._spec.effective_health_check_exprs
        found = await asking("observe", assess_own(self._engine, self._stream, keys, exprs))
        return found.health == "Current"

    def _resets(self, wish: Wish) -> bool:
        return decisions.counts_anew(
            self._row,
            generation=self._declared.generation,
            chart_version=wish.chart.version,
            config_digest=wish.values.config_digest,
            reset_asked=self._asks(RESET_AT, self._row.handled_reset),
        )

    def _asks(self, annotation: str, handled: str) -> bool:
        """Whether an annotation, with the token of a request, asks for something that was not done (CM-035, CM-036)."""
        token = self._declared.annotations.get(annotation)
        return bool(token) and token == self._declared.requested_at and token != handled

    def _intent(
        self, making: ReleasingName, wish: Wish, version: int, chosen: Digest, release: Release
    ) -> ReleaseActionStarted:
        row, annotations = self._row, self._declared.annotations
        return ReleaseActionStarted(
            action=making,
            name=release.name,
            namespace=release.namespace,
            storage_namespace=wish.storage_namespace,
            version=version,
            chart_name=wish.chart.name,
            chart_version=wish.chart.version,
            config_digest=wish.values.config_digest,
            oci_digest=wish.chart.oci_digest,
            generation=self._declared.generation,
            reset=self._resets(wish),
            force_token=annotations[FORCE_AT] if self._asks(FORCE_AT, row.handled_force) else "",
            reset_token=annotations[RESET_AT] if self._asks(RESET_AT, row.handled_reset) else "",
            post_renderers=wish.post_renderers,
            common_metadata=wish.common_metadata,
            set=chosen,
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
        made = next((one for one in self._row.made if latest is not None and one.version == latest.version), None)
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


def _as_step(found: KustomizeRenderer) -> Kustomize:
    return msgspec.convert(encode_kind(found), Kustomize)


def _without(made: RenderedSet, namespaces: Collection[str]) -> RenderedSet:
    """The set without what is in some namespaces."""
    if not namespaces:
        return made
    rest = tuple(one for one in made.wanted if one.key.namespace not in namespaces)
    return msgspec.structs.replace(made, wanted=rest, digest=_digest_of(rest))


def _defines(one: Wanted) -> bool:
    return one.key.kind == "CustomResourceDefinition"


def _digest_of(wanted: tuple[Wanted, ...]) -> Digest:
    return digest_of(encode([[one.key.id, one.digest] for one in wanted]))
