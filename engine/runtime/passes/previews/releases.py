"""Previews of HelmReleases: which version of the release would be made now, or why none, and what that would change."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from tidelog.engine.cluster.errors import ForbiddenError, NotFoundError
from tidelog.engine.cluster.port import Cluster, Identity
from tidelog.engine.expressions.errors import ExpressionError
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.helm import decisions
from tidelog.engine.helm.decisions import Act, Correct, Done, Known, Stall, State
from tidelog.engine.helm.errors import ChartError, RecordError
from tidelog.engine.helm.hooks import AROUND, Making, hooks_for
from tidelog.engine.helm.known import Newest
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.releases import digest_beside, unlocked, upgrade_base
from tidelog.engine.helm.storage import Record, Release
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.kinds.decode import InvalidObjectError, decode
from tidelog.engine.kinds.helmactions import ReleasingName
from tidelog.engine.kinds.helmchart import HelmChartSpec
from tidelog.engine.kinds.targets import CustomHealthCheck
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.selecting import selects
from tidelog.engine.observe.health import health_of
from tidelog.engine.plan.draft import HelmName
from tidelog.engine.plan.model import Plan, is_secret
from tidelog.engine.render.errors import RenderError
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.capabilities import ClusterCapabilities
from tidelog.engine.runtime.context import utc_now
from tidelog.engine.runtime.errors import PreviewError, RefusedError
from tidelog.engine.runtime.helm import HelmTools
from tidelog.engine.runtime.passes.custom_health import check_of
from tidelog.engine.runtime.passes.previews.common import Once, Preview, PreviewKeys, Previews, Tools
from tidelog.engine.runtime.passes.previews.following import following
from tidelog.engine.runtime.passes.previews.told import ReleaseTold, ValuesTold, values_told
from tidelog.engine.runtime.passes.releases import drifts
from tidelog.engine.runtime.passes.releases.charts import (
    ReleasedChart,
    artifact_of,
    find_chart,
    released,
    why_not_ours,
)
from tidelog.engine.runtime.passes.releases.depended import versions_of
from tidelog.engine.runtime.passes.releases.records import LostRecordError, adopted, is_as_known, opened_record
from tidelog.engine.runtime.passes.releases.sets import set_of_record
from tidelog.engine.runtime.passes.releases.wish import (
    FromChart,
    Wish,
    asked_of,
    changed_target,
    known_of,
    namespaces_of_hooks,
    past_wish,
    render_wish,
    why_not_imported,
    wish_of,
    without,
)
from tidelog.engine.runtime.past_releases import NoPastError, PastVersion, past_version, why_unpinned
from tidelog.engine.runtime.release_inputs import ReleaseValues, chart_beside, preserving, read_values
from tidelog.engine.runtime.rendered import RenderedSet, Renderings
from tidelog.engine.runtime.requests import told
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.watching.declared import DeclaredRelease, is_release, read_declared, source_of
from tidelog.engine.secrecy.sealing import LostSecretError, Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.engine.sources.helm.local import pack_directory
from tidelog.engine.sources.helm.spec import ChartSpec
from tidelog.events.digest import Digest, digest_of
from tidelog.events.moment import Time, time_of
from tidelog.events.names import ObjectId, ObjectKey, PlanId, Revision, RunId, StreamName
from tidelog.events.projections.desired import Pin
from tidelog.events.projections.releases import ReleaseRow, take_over
from tidelog.events.vocabulary import ReleaseSnapshot, Verdict
from tidelog.storage import new_id


@contextmanager
def _as_preview_error(secrets: SecretValues) -> Iterator[None]:
    """Has what keeps a pass from going on keep a preview from being made."""
    try:
        yield
    except ChartError as error:
        raise PreviewError(secrets.filter(f"Could not load chart: {error.message}")) from None
    except RecordError as error:
        raise PreviewError(f"Could not determine release state: {error}") from None
    except (LostSecretError, LostRecordError) as error:
        raise PreviewError(f"{error}, or its key is not given here: that cannot be brought back") from None
    except (StageError, RenderError) as error:
        raise PreviewError(secrets.filter(str(error))) from None


JOB: Final = ("batch", "Job")
NOTHING: Final = RenderedSet(digest=Renderings.nothing, wanted=())


class Workshop:
    """What releases are rendered with while previews are made."""

    def __init__(self, cluster: Cluster, renderer: Renderer, helm: HelmTools, keys: PreviewKeys, alias: str) -> None:
        self.cluster = cluster
        self.capabilities = ClusterCapabilities(cluster)
        self.renderer = renderer
        self.helm = helm
        self._keys = keys
        self._alias = alias

    async def sealer(self, secret: Iterable[ObjectId]) -> Sealer:
        """What seals some objects that are secret."""
        return await self._keys.sealer(self._alias, secret)

    def now(self) -> Time:
        """The present time."""
        return time_of(utc_now())


class ReleasePreviews(Previews):
    """Makes previews of HelmReleases."""

    def __init__(self, tools: Tools) -> None:
        super().__init__(tools)
        self._secrets = SecretValues()

    async def of_source(self, target: StreamName) -> Preview:
        """What would become of a release now, by the chart that its source has."""
        declared = await self._declared(target)
        pin = await self._pin(declared)
        if pin is not None:
            return await self._of_past(declared, pin.position)
        await self._check_made(declared)
        with _as_preview_error(self._secrets):
            artifact = artifact_of(self._facts, self._alias, self._settings, declared, lambda _: True)
            path = await chart_beside(self._artifacts, artifact.tree, artifact.artifact, self._tools.scratch)
            async with self._workshop() as workshop:
                chart = released(await workshop.helm.described(artifact.artifact, path), artifact, self._settings)
                return await self._of_chart(workshop, declared, chart, artifact.artifact, path)

    async def of_directory(self, target: StreamName, directory: Path) -> Preview:
        """What would become of a release if its chart were the one in a directory."""
        declared = await self._declared(target)
        path = self._tools.scratch / "chart.tgz"
        spec = await self._chart_spec(declared)
        packed = await anyio.to_thread.run_sync(pack_directory, directory, spec, path, self._settings.helm_limits)
        digest = Digest(packed.digest)
        with _as_preview_error(self._secrets):
            async with self._workshop() as workshop:
                found = await workshop.helm.described(digest, path)
                chart = ReleasedChart(name=found.name, version=found.version, app_version=found.app_version)
                return await self._of_chart(workshop, declared, chart, digest, path)

    async def of_moment(self, target: StreamName, position: int) -> Preview:
        """What would become of a release if it went back to the version that was deployed at a position of the log."""
        return await self._of_past(await self._declared(target), position)

    async def share_source(self, one: StreamName, other: StreamName) -> bool:
        """Whether the charts of two releases are made of the same source."""
        if one == other:
            return True
        specs = [(await self._declared(each)).spec.chart for each in (one, other)]
        sources = {
            (ref.kind, ref.namespace or ObjectKey.of_stream(each).namespace, ref.name)
            for each, spec in zip((one, other), specs, strict=True)
            if spec is not None
            for ref in (spec.spec.source_ref,)
        }
        return len(sources) == 1 and None not in specs

    # The way of a pass.

    async def _check_made(self, declared: DeclaredRelease) -> None:
        """Has the HelmChart of a template be there: the first run makes it, which a suspended release has not had."""
        chart = source_of(declared)
        if declared.spec.chart is None:
            return
        live = await find_chart(self._cluster, chart)
        known = self._row(declared).helm_chart
        why = "" if live is None else await why_not_ours(self._cluster, declared, live, known)
        if why:
            raise PreviewError(why)
        if self._facts.conditions.get(chart.stream(self._alias)) is not None:
            return
        is_suspended = declared.suspended or self._is_suspended(declared.stream)
        first = "its first run, which waits for `tidelog resume`," if is_suspended else "its first run"
        raise PreviewError(
            f"{told(declared.stream)} has no chart yet: {first} makes HelmChart/{chart.namespace}/{chart.name}; "
            "with --path DIR, it is planned with the chart in a directory"
        )

    async def _of_past(self, declared: DeclaredRelease, position: int) -> Preview:
        try:
            past = await past_version(self._facts, self._renderings.views, declared.stream, position)
        except NoPastError as error:
            raise RefusedError(f"{told(declared.stream)}: {error}") from None
        with _as_preview_error(self._secrets):
            async with self._workshop() as workshop:
                return await self._of_wish(workshop, declared, past_wish(past, await self._dependencies(declared)))

    async def _of_chart(
        self, workshop: Workshop, declared: DeclaredRelease, chart: ReleasedChart, artifact: Digest, path: Path
    ) -> Preview:
        values = await self._values(declared)
        origin = FromChart(artifact=artifact, path=path, values=values)
        wish = wish_of(declared, chart, origin, await self._dependencies(declared))
        return await self._of_wish(workshop, declared, wish)

    async def _of_wish(self, workshop: Workshop, declared: DeclaredRelease, wish: Wish) -> Preview:
        row = self._row(declared)
        if row.ongoing is not None:
            return await self._under_way(declared, row)
        changed = changed_target(declared, row, wish)
        if changed:
            return await self._uninstalled(declared, row, f"its {changed} is another: it is installed anew after that")
        store = self._store(declared, wish.storage_namespace)
        record = await store.last(wish.name)
        standing = self._facts.conditions.get(declared.stream)
        known = known_of(
            declared,
            row,
            wish,
            Newest.of(record, row.latest),
            asked=asked_of(declared, row, self._facts.desired.get(declared.stream)),
            observed=0 if standing is None else standing.observed,
            drifted=declared.spec.effective_drift_detection.detects,
            healed=await self._has_healed(declared, row),
        )
        state = decisions.state_of(known)
        if state.name == "Locked":
            return await self._unlocked(workshop, declared, wish, known, state.why)
        return await self._decided(workshop, declared, wish, known, state)

    async def _decided(
        self, workshop: Workshop, declared: DeclaredRelease, wish: Wish, known: Known, state: State
    ) -> Preview:
        """What is done with a release in a state."""
        if state.name == "Unknown":
            raise PreviewError(f"Could not determine release state: {state.why}")
        row = known.row
        match decisions.decide(known, state):
            case Act(action="install" | "upgrade" as making, why=why):
                return await self._made(workshop, declared, wish, known, making, why)
            case Act(action="rollback", target=target) as act if target is not None:
                return await self._rolled_back(workshop, declared, wish, known, act, target)
            case Act(action="uninstall-remediation", why=why) as act:
                return await self._uninstalled(declared, row, why, following(act, known))
            case Act() as act:
                return self._tested(declared, act, known)
            case Correct() as correct:
                return await self._corrected(declared, row, corrects=correct.corrects)
            case Stall() as stall:
                nothing = self._nothing(declared, f"{stall.reason}: {stall.message}")
                return msgspec.structs.replace(nothing, given_up=True)
            case Done():
                return self._nothing(declared, _as_it_is(row))

    async def _unlocked(
        self, workshop: Workshop, declared: DeclaredRelease, wish: Wish, known: Known, why: str
    ) -> Preview:
        """What follows once a version that was left pending is marked as failed."""
        after = _as_unlocked(known)
        preview = await self._decided(workshop, declared, wish, after, decisions.state_of(after))
        told = preview.release or ReleaseTold(action="none")
        first = f"{why}, which is unlocked first"
        if told.acts:
            return msgspec.structs.replace(
                preview, release=msgspec.structs.replace(told, why=f"{first}; then {told.why}")
            )
        version = 0 if known.last is None else known.last.version
        told = ReleaseTold(action="unlock", version=version, why=f"{why}; then {told.why}")
        return msgspec.structs.replace(preview, release=told)

    async def _has_healed(self, declared: DeclaredRelease, row: ReleaseRow) -> bool:
        """Whether objects that did not become ready in time are ready now."""
        latest = row.latest
        made = None if latest is None or not row.unready else row.made_as(latest.version)
        if made is None or latest is None or latest.status != "failed":
            return False
        rendered = await self._renderings.at(declared.stream, made.position)
        if rendered is None:
            return False
        situation = self._situation(declared)
        how = declared.spec.effective_install if row.last_action == "install" else declared.spec.effective_upgrade
        checks = declared.spec.effective_health_check_exprs
        async with Evaluator() as expressions:  # whose process the first expression starts
            for one in rendered.wanted:
                if (one.key.group, one.key.kind) == JOB and not how.waits_for_jobs:
                    continue
                live = await drifts.live_of(self._there.cluster, situation, one)
                if not _is_paused(live) and not await _is_current(live, check_of(checks, one.key), expressions):
                    return False
        return True

    async def _made(
        self,
        workshop: Workshop,
        declared: DeclaredRelease,
        wish: Wish,
        known: Known,
        making: ReleasingName,
        why: str,
    ) -> Preview:
        """The plan of an install or an upgrade."""
        version = 1 if known.last is None else known.last.version + 1
        base = await self._base(declared, wish, known.last) if making == "upgrade" else None
        situation, origin = self._situation(declared), wish.origin
        if isinstance(origin, PastVersion):
            release, rendered = await self._again(declared, origin)
            values: tuple[ValuesTold, ...] = ()
        else:
            identity = situation.subject.identity
            made = await render_wish(
                workshop,
                declared,
                wish,
                origin,
                making,
                version,
                base,
                identity=identity,
                secrets=self._secrets,
            )
            values = values_told(origin.values, declared.spec.effective_values)
            release, rendered = made.release, made.set.set
        hooked = namespaces_of_hooks(declared, making, release)
        preview = await self._planned(
            situation,
            declared,
            without(rendered, hooked),
            Revision(wish.chart.version),
            self._secrets,
            prunes=not hooked,
        )
        foreign = await why_not_imported(self._there.cluster, situation, declared, making, rendered.wanted, wish)
        if foreign:
            failed = Verdict(check="ownership", passed=False, message=self._secrets.filter(foreign))
            preview = msgspec.structs.replace(preview, failed=(*preview.failed, failed))
        told = ReleaseTold(
            action=making,
            version=version,
            chart=f"{wish.chart.name}@{wish.chart.version}",
            why=why,
            hooks=_hooks_of(declared, release, making),
            values=values,
        )
        return msgspec.structs.replace(preview, release=told)

    async def _again(self, declared: DeclaredRelease, past: PastVersion) -> tuple[Release, RenderedSet]:
        """A past version: its record, and the set of its objects."""
        record = await opened_record(self._facts.log, await self._keys.key(declared.stream), past.made.record)
        rendered = await self._renderings.at(declared.stream, past.made.position)
        if rendered is None:
            raise PreviewError(f"the objects of version {past.snapshot.version} are not in the log")
        return record, rendered

    async def _base(self, declared: DeclaredRelease, wish: Wish, last: Release | None) -> Release:
        history = await self._store(declared, wish.storage_namespace).history(wish.name)
        found = upgrade_base(
            [
                # As it will be by then, where it is unlocked first.
                Record(last, one.labels) if last is not None and one.release.version == last.version else one
                for one in history
            ]
        )
        if found is None:
            raise PreviewError(f'"{wish.name}" has no deployed releases')
        return found.release

    async def _corrected(self, declared: DeclaredRelease, row: ReleaseRow, *, corrects: bool) -> Preview:
        """The plan that puts right what drifted; nothing where nothing has, or it is only told."""
        latest = row.latest
        made = None if latest is None else row.made_as(latest.version)
        rendered = None if made is None else await self._renderings.at(declared.stream, made.position)
        if rendered is None:
            return self._nothing(declared, _as_it_is(row))
        situation = self._situation(declared)
        wanted = [one for one in rendered.wanted if not one.once]
        sealer = await self._sealer(situation.secret(wanted, ()))
        loaded = await self._renderings.load(wanted, wanted, sealer)
        rules = declared.spec.effective_drift_detection.ignore
        left = await drifts.as_left_alone(self._there.cluster, situation, loaded, rules)
        whole = msgspec.structs.replace(rendered, wanted=tuple(left))
        revision = Revision("" if latest is None else latest.chart_version)
        preview = await self._planned(situation, declared, whole, revision, self._secrets, prunes=False)
        if preview.plan.is_empty:
            return self._nothing(declared, _as_it_is(row))
        if not corrects:
            return self._nothing(declared, "objects differ from the version that is deployed, and that is only told")
        told = ReleaseTold(action="correct", why="objects differ from the version that is deployed")
        return msgspec.structs.replace(preview, release=told)

    async def _rolled_back(
        self,
        workshop: Workshop,
        declared: DeclaredRelease,
        wish: Wish,
        known: Known,
        act: Act,
        target: ReleaseSnapshot,
    ) -> Preview:
        """The plan of a rollback; of an upgrade, where what it would go back to is not as it was."""
        store = self._store(declared, known.row.storage_namespace or wish.storage_namespace)
        record = await store.get(target.name, target.version)
        if record is None or not is_as_known(record.release, target):
            why = f"{act.why}, and version {target.version}, to go back to, was changed"
            return await self._made(workshop, declared, wish, known, "upgrade", why)
        made = known.row.made_as(target.version)
        rendered = None if made is None else await self._renderings.at(declared.stream, made.position)
        if rendered is None:
            rendered = (await set_of_record(workshop, record.release, self._secrets)).set
        preview = await self._planned(
            self._situation(declared), declared, rendered, Revision(target.chart_version), self._secrets
        )
        told = ReleaseTold(
            action="rollback",
            version=1 if known.last is None else known.last.version + 1,
            chart=f"{target.chart_name}@{target.chart_version}",
            why=f"{act.why}: back to what version {target.version} was",
            hooks=_hooks_of(declared, record.release, "rollback"),
            then=following(act, known),
        )
        return msgspec.structs.replace(preview, release=told)

    def _tested(self, declared: DeclaredRelease, act: Act, known: Known) -> Preview:
        """The tests that would run."""
        last, runs = known.last, declared.spec.effective_test.runs
        hooks = [] if last is None else hooks_for(last, "test")
        told = ReleaseTold(
            action=act.action,
            version=0 if last is None else last.version,
            why=act.why,
            then=following(act, known),
            hooks=tuple(f"test {hook.kind} {hook.name}" for hook in hooks if runs(hook.name)),
        )
        return msgspec.structs.replace(self._nothing(declared, act.why), release=told)

    async def _under_way(self, declared: DeclaredRelease, row: ReleaseRow) -> Preview:
        """The plan of what is left of an action that has begun."""
        ongoing = row.ongoing
        if ongoing is None:
            raise RuntimeError("nothing is under way")
        started = ongoing.started
        why = f"it is under way since position {ongoing.position}"
        if started.action in ("uninstall", "uninstall-remediation"):
            return await self._uninstalled(declared, row, why)
        rendered = None if started.set is None else await self._renderings.at(declared.stream, ongoing.position)
        preview = (
            self._nothing(declared, why)
            if rendered is None
            else await self._planned(
                self._situation(declared), declared, rendered, Revision(started.chart_version), self._secrets
            )
        )
        chart = f"{started.chart_name}@{started.chart_version}"
        told = ReleaseTold(action=started.action, version=started.version, chart=chart, why=why)
        return msgspec.structs.replace(preview, release=told)

    async def _uninstalled(self, declared: DeclaredRelease, row: ReleaseRow, why: str, then: str = "") -> Preview:
        """The plan that takes the release away."""
        situation, latest = self._situation(declared), row.latest
        situation.uninstalls = None if latest is None else HelmName(latest.name, latest.namespace)
        preview = await self._planned(situation, declared, NOTHING, Revision(""), self._secrets)
        version = 0 if latest is None else latest.version
        told = ReleaseTold(action="uninstall", version=version, why=why, then=then)
        return msgspec.structs.replace(preview, release=told)

    def _nothing(self, declared: DeclaredRelease, why: str) -> Preview:
        """That nothing would be planned, and why."""
        row = self._row(declared)
        latest = row.latest
        plan = Plan(
            id=PlanId(""),
            run=RunId(new_id()),
            target=declared.stream,
            revision=Revision("" if latest is None else latest.chart_version),
            set=Renderings.nothing,
            waves=(),
        )
        return Preview(
            plan=plan.named(),
            checks=(),
            failed=(),
            held=None,
            suspended=declared.suspended or self._is_suspended(declared.stream),
            release=ReleaseTold(action="none", why=why),
        )

    # What it takes.

    @asynccontextmanager
    async def _workshop(self) -> AsyncIterator[Workshop]:
        kept = self._artifacts.tarballs
        roots = [self._tools.scratch, *([kept] if await anyio.Path(kept).exists() else [])]
        dns = self._settings.allow_dns_lookups
        async with self._renderer(self._artifacts) as renderer, ChartRenderer(roots, workers=1, dns=dns) as charts:
            yield Workshop(self._there.cluster, renderer, HelmTools(charts), self._keys, self._there.alias)

    async def _declared(self, target: StreamName) -> DeclaredRelease:
        declared = read_declared(await self._live(target, "v2"), self._alias, self._settings.release_defaults)
        if not is_release(declared):
            raise PreviewError(f"{told(target)} is no HelmRelease")
        self._secrets = await self._prepared(declared, self._kustomization)
        return declared

    async def _values(self, declared: DeclaredRelease) -> ReleaseValues:
        values = await read_values(
            Once(self._cluster),
            declared.stream,
            declared.key.namespace,
            declared.spec.values_from,
            declared.spec.effective_values,
            self._keys.key,
            declared.handed.values,
        )
        self._secrets.add(values.secret_values)
        row = self._row(declared)
        if row.latest is None or not declared.spec.effective_upgrade.preserve_values:
            return values
        record = await self._store(declared, row.storage_namespace).get(row.latest.name, row.latest.version)
        config = {} if record is None else record.release.config or {}
        return await preserving(values, config, declared.stream, self._keys.key)

    async def _pin(self, declared: DeclaredRelease) -> Pin | None:
        """The moment that the release is kept at; None where it follows its spec, or a pass would have it do so."""
        desired = self._facts.desired.get(declared.stream)
        if desired is None or desired.pinned is None:
            return None
        views = self._renderings.views
        why = await why_unpinned(self._facts, views, declared, self._alias, self._keys.key)
        return None if why else desired.pinned

    async def _dependencies(self, declared: DeclaredRelease) -> str:
        """The digest of what a release depends on, as it now is."""

        async def elsewhere(key: ObjectKey) -> KubeObject | None:
            live = await self._find(key, None)
            return None if live is None or _is_looked_after(live, self._settings) else live

        async def named(key: ObjectKey) -> KubeObject | None:
            return await self._find(key, self._situation(declared).subject.identity)

        async def digest(key: ObjectKey, data: bytes) -> Digest:
            is_hidden = is_secret(key, self._situation(declared).actual(key.id), None)
            return (await self._keys.key(declared.stream)).digest(data) if is_hidden else digest_of(data)

        row_of = self._facts.releases.get
        return await versions_of(declared, self._alias, row_of=row_of, elsewhere=elsewhere, named=named, digest=digest)

    async def _find(self, key: ObjectKey, identity: Identity | None) -> KubeObject | None:
        """An object of any kind; None where there is none that can be seen."""
        kind = await self._cluster.find_kind(key.group, key.kind)
        if kind is None or (kind.namespaced and not key.namespace):
            return None
        try:
            return await self._cluster.get(kind, key.namespace, key.name, identity=identity)
        except (NotFoundError, ForbiddenError):
            return None

    def _row(self, declared: DeclaredRelease) -> ReleaseRow:
        """How the release stands; of one that nobody here has looked after yet, as its status tells."""
        known = self._facts.releases.get(declared.stream)
        if known is not None:
            return known
        row = ReleaseRow()
        if declared.status.history:
            take_over(row, adopted(declared.status))
        return row

    def _store(self, declared: DeclaredRelease, namespace: str) -> ReleaseStore:
        return ReleaseStore(self._there.cluster, namespace, self._situation(declared).subject.identity)

    async def _chart_spec(self, declared: DeclaredRelease) -> ChartSpec | None:
        """Where the chart is in its source, and which values files it takes; None where no HelmChart says so."""
        if declared.spec.chart is not None:
            return _chart_spec(declared.spec.chart.helm_chart_spec(declared.spec.interval))
        key = source_of(declared)
        if key.kind != "HelmChart":
            return None
        kind = await self._cluster.kind(f"{key.group}/v1", key.kind)
        try:
            live = await self._cluster.get(kind, key.namespace, key.name)
            return _chart_spec(decode(HelmChartSpec, live.get("spec") or {}))
        except (NotFoundError, InvalidObjectError):
            return None


def _chart_spec(spec: HelmChartSpec) -> ChartSpec | None:
    if spec.source_ref.kind == "HelmRepository":
        return None
    return ChartSpec(
        chart=spec.chart,
        values_files=spec.values_files,
        ignore_missing_values_files=spec.ignore_missing_values_files,
    )


def _is_looked_after(live: KubeObject, settings: Settings) -> bool:
    """Whether the daemon looks after a HelmRelease."""
    metadata = live["metadata"]
    is_seen = settings.watched_namespace in ("", metadata["namespace"])
    return is_seen and selects(settings.watch_label_selector, metadata.get("labels") or {})


async def _is_current(live: KubeObject | None, check: CustomHealthCheck | None, expressions: Evaluator) -> bool:
    """Whether an object is as it should be, as its expressions say, or else as its status does."""
    if live is None or check is None:
        return health_of(live).health == "Current"
    try:
        health = await expressions.health(
            live, in_progress=check.in_progress, failed=check.failed, current=check.current
        )
    except ExpressionError:
        return False
    return health == "Current"


def _is_paused(live: KubeObject | None) -> bool:
    """Whether it is a Deployment that never becomes ready because nothing is to be done with it (contract HR-114)."""
    return live is not None and live["kind"] == "Deployment" and bool((live.get("spec") or {}).get("paused"))


def _as_unlocked(known: Known) -> Known:
    """A release whose newest version was left pending, once that is marked as failed."""
    last, row = known.last, known.row
    if last is None:
        return known
    done, latest = unlocked(last), row.latest
    if latest is None or (latest.name, latest.namespace, latest.version) != (done.name, done.namespace, done.version):
        return msgspec.structs.replace(known, last=done)
    digest = digest_beside(done, latest)
    marked = msgspec.structs.replace(latest, status=done.info.status, digest=digest)
    row = msgspec.structs.replace(row, history=(marked, *row.history[1:]))
    return msgspec.structs.replace(known, last=done, row=row, last_digest=digest)


def _hooks_of(declared: DeclaredRelease, release: Release, making: Making) -> tuple[str, ...]:
    """The hooks that would run, each with its event; they are in no plan."""
    how: Mapping[Making, bool] = {
        "install": declared.spec.effective_install.runs_hooks,
        "upgrade": declared.spec.effective_upgrade.runs_hooks,
        "rollback": declared.spec.effective_rollback.runs_hooks,
    }
    if not how[making]:
        return ()
    return tuple(f"{event} {hook.kind} {hook.name}" for event in AROUND[making] for hook in hooks_for(release, event))


def _as_it_is(row: ReleaseRow) -> str:
    latest = row.latest
    if latest is None:
        return "the release is as it is to be"
    return f"version {latest.version} with chart {latest.chart_name}@{latest.chart_version} is as it is to be"
