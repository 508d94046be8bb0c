"""What a HelmRelease asks for, and how its release stands beside that: for a pass and a preview alike."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import msgspec

from tidelog.engine.cluster.port import Cluster, Identity
from tidelog.engine.helm import decisions
from tidelog.engine.helm.decisions import Known
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.hooks import Event as HookEvent
from tidelog.engine.helm.hooks import hooks_for
from tidelog.engine.helm.known import Newest
from tidelog.engine.helm.lookup import LookupSource
from tidelog.engine.helm.marks import ownership_problems
from tidelog.engine.helm.policy import policy_of
from tidelog.engine.helm.postrender import common_metadata_digest, post_renderers_digest
from tidelog.engine.helm.releases import pending
from tidelog.engine.helm.spec import Kustomize, RenderedChart, RenderJob
from tidelog.engine.helm.storage import Release
from tidelog.engine.kinds.decode import encode as encode_kind
from tidelog.engine.kinds.helmactions import ReleasingName
from tidelog.engine.kinds.helmrelease import KustomizeRenderer
from tidelog.engine.kinds.meta import FORCE_AT, RESET_AT
from tidelog.engine.plan.model import Wanted
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.render.spec import CommonMetadata
from tidelog.engine.runtime.capabilities import ClusterCapabilities
from tidelog.engine.runtime.helm import HelmTools
from tidelog.engine.runtime.passes.releases.charts import ReleasedChart
from tidelog.engine.runtime.passes.releases.drifts import live_of
from tidelog.engine.runtime.passes.releases.sets import namespace_object, set_of_chart
from tidelog.engine.runtime.passes.situation import Situation
from tidelog.engine.runtime.past_releases import PastVersion
from tidelog.engine.runtime.release_inputs import ReleaseValues, post_render_of, release_objects, render_release
from tidelog.engine.runtime.rendered import RenderedSet, Sealed
from tidelog.engine.runtime.run import StageError, asking
from tidelog.engine.runtime.watching.declared import DeclaredRelease
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.canonical import encode
from tidelog.events.digest import Digest, digest_of
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId
from tidelog.events.projections.desired import Desired
from tidelog.events.projections.releases import ReleaseRow
from tidelog.events.typed import converter

RENDER_S: Final = 60.0
"""What a render may take at least, however short the time of an action is: that is for its objects."""
RENDER_RETRY_S: Final = 5.0
"""After a render that failed for no reason of its own; longer after each further one."""


class ReleaseTools(Protocol):
    """What releases are rendered with."""

    @property
    def cluster(self) -> Cluster:
        """Is asked for its kinds, and for what charts look up."""
        ...

    @property
    def capabilities(self) -> ClusterCapabilities:
        """What the cluster can do."""
        ...

    @property
    def renderer(self) -> Renderer:
        """Has kustomize."""
        ...

    @property
    def helm(self) -> HelmTools:
        """Has Helm's SDK."""
        ...

    async def sealer(self, secret: Iterable[ObjectId]) -> Sealer:
        """What seals some objects that are secret."""
        ...

    def now(self) -> Time:
        """The present time."""
        ...


class FromChart(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is rendered from a chart and values."""

    artifact: Digest
    """Of the chart."""
    path: Path
    """Of the chart's archive."""
    values: ReleaseValues


Origin: TypeAlias = FromChart | PastVersion


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The release that is asked for, before its objects are known."""

    name: str
    namespace: str
    storage_namespace: str
    chart: ReleasedChart
    config_digest: str
    post_renderers: str
    common_metadata: str
    dependencies: str
    """Digest of what it depends on, as that now is; empty where there is none, or nobody has looked."""
    origin: Origin

    def why_other(self, row: ReleaseRow) -> str:
        """Why the version that is deployed is another, where chart and values do not tell."""
        if isinstance(self.origin, PastVersion):
            return self.origin.why_other(row)
        latest = row.latest
        made = None if latest is None else row.made_as(latest.version)
        return "it was pinned to a past version" if made is not None and made.origin else ""


def wish_of(declared: DeclaredRelease, chart: ReleasedChart, origin: FromChart, dependencies: str = "") -> Wish:
    """What a spec asks for, with the chart and the values that it names; see `depended` for its dependencies."""
    spec, key = declared.spec, declared.key
    common = spec.common_metadata
    return Wish(
        name=spec.release_name_of(key.name),
        namespace=spec.release_namespace_of(key.namespace),
        storage_namespace=spec.storage_namespace_of(key.namespace),
        chart=chart,
        config_digest=origin.values.config_digest,
        post_renderers=post_renderers_digest(
            [None if one.kustomize is None else _as_step(one.kustomize) for one in spec.post_renderers]
        ),
        common_metadata=common_metadata_digest(
            None if common is None else converter(CommonMetadata)(encode_kind(common))
        ),
        dependencies=dependencies,
        origin=origin,
    )


def past_wish(past: PastVersion, dependencies: str = "") -> Wish:
    """What a release is asked to be again, whatever the spec says."""
    snapshot, started = past.snapshot, past.started
    return Wish(
        name=snapshot.name,
        namespace=snapshot.namespace,
        storage_namespace=started.storage_namespace,
        chart=ReleasedChart(
            name=snapshot.chart_name,
            version=snapshot.chart_version,
            app_version=snapshot.app_version,
            oci_digest=snapshot.oci_digest,
        ),
        config_digest=snapshot.config_digest,
        post_renderers=started.post_renderers,
        common_metadata=started.common_metadata,
        dependencies=dependencies,
        origin=past,
    )


def _as_step(found: KustomizeRenderer) -> Kustomize:
    return converter(Kustomize)(encode_kind(found))


# How the release stands beside it.


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asked for by annotations and was not done: tokens, empty where nothing is asked."""

    force: str = ""
    """A release in any case (contract CM-035)."""
    reset: str = ""
    """Failures to be forgotten (contract CM-036)."""


def asked_of(declared: DeclaredRelease, row: ReleaseRow, desired: Desired | None) -> Asked:
    """What the last request to reconcile asks for besides, and was not done.

    The log knows with what a request came. An annotation that is added later, to one that was answered, asks for
    nothing; nor does one that another engine has answered.
    """
    token = declared.requested_at
    if token is None:
        return Asked()
    if desired is not None and desired.asked == token:
        force, reset = desired.force, desired.reset
    else:  # nobody has recorded it yet
        answered = token == declared.status.last_handled_reconcile_at
        force, reset = not answered and declared.is_asked(FORCE_AT), not answered and declared.is_asked(RESET_AT)
    return Asked(
        force=token if force and token != row.handled_force else "",
        reset=token if reset and token != row.handled_reset else "",
    )


def known_of(
    declared: DeclaredRelease,
    row: ReleaseRow,
    wish: Wish,
    newest: Newest | None,
    *,
    asked: Asked,
    observed: int,
    drifted: bool = False,
    healed: bool = False,
) -> Known:
    """The release as it is, and as it is to be.

    Args:
        declared: the HelmRelease.
        row: what the log knows of the release.
        wish: what is asked for.
        newest: in Helm's storage.
        asked: for what somebody did by annotations.
        observed: the generation that was dealt with last.
        drifted: whether objects differ from it, where that counts.
        healed: whether what the last version failed of is over.
    """
    return Known(
        row=_counted(declared, row, wish, asked, healed=healed),
        policy=policy_of(declared.spec),
        last=None if newest is None else newest.release,
        last_digest="" if newest is None else newest.digest,
        chart_name=wish.chart.name,
        chart_version=wish.chart.version,
        config_digest=wish.config_digest,
        post_renderers=wish.post_renderers,
        common_metadata=wish.common_metadata,
        generation=declared.generation,
        observed_generation=max(observed, row.observed_generation),
        drifted=drifted,
        forced=bool(asked.force),
        other=wish.why_other(row),
    )


def _counted(declared: DeclaredRelease, row: ReleaseRow, wish: Wish, asked: Asked, *, healed: bool) -> ReleaseRow:
    """The row, with the failures that still count (contract HR-102)."""
    if not counts_anew(declared, row, wish, asked) and not healed:
        return row
    return msgspec.structs.replace(row, failures=0, install_failures=0, upgrade_failures=0)


def counts_anew(declared: DeclaredRelease, row: ReleaseRow, wish: Wish, asked: Asked) -> bool:
    """Whether failures of before count no more (contract HR-102)."""
    return decisions.counts_anew(
        row,
        generation=declared.generation,
        chart_version=wish.chart.version,
        config_digest=wish.config_digest,
        dependencies=wish.dependencies,
        reset_asked=bool(asked.reset),
    )


def changed_target(declared: DeclaredRelease, row: ReleaseRow, wish: Wish) -> str:
    """What of the release is now another, so that the one before has to go first (contract HR-103)."""
    return decisions.changed_target(
        row,
        name=wish.name,
        namespace=wish.namespace,
        storage_namespace=wish.storage_namespace,
        chart_name=wish.chart.name,
        in_place=declared.spec.effective_upgrade.effective_chart_name_change == "InPlaceUpdate",
    )


# Its objects.


def inputs_of(wish: Wish, origin: FromChart) -> Digest:
    """The digest of all that the objects are rendered from."""
    return digest_of(encode([origin.artifact, origin.values.digest, wish.post_renderers, wish.common_metadata]))


async def why_not_imported(
    cluster: Cluster,
    situation: Situation,
    declared: DeclaredRelease,
    making: ReleasingName,
    wanted: Iterable[Wanted],
    wish: Wish,
) -> str:
    """Why an object that is there cannot be the release's, which is not to take any over (HR-040); empty for none.

    Raises:
        ClusterError: when the cluster cannot be asked.
    """
    how = declared.spec.effective_install if making == "install" else declared.spec.effective_upgrade
    if how.takes_ownership:
        return ""
    for one in wanted:
        if one.once or situation.entry(one.key.id) is not None:
            continue
        live = await live_of(cluster, situation, one)
        problems = () if live is None else ownership_problems(live, wish.name, wish.namespace)
        if problems:
            where = f' in namespace "{one.key.namespace}"' if one.key.namespace else ""
            return (
                f'Unable to continue with {making}: {one.key.kind} "{one.key.name}"{where} exists and cannot be '
                f"imported into the current release: invalid ownership metadata; {'; '.join(problems)}"
            )
    return ""


def namespaces_of_hooks(declared: DeclaredRelease, making: ReleasingName, release: Release) -> frozenset[str]:
    """The namespaces that hooks make first: what goes into one can be planned only then."""
    event: HookEvent = "pre-install" if making == "install" else "pre-upgrade"
    runs = (declared.spec.effective_install if making == "install" else declared.spec.effective_upgrade).runs_hooks
    return frozenset(hook.name for hook in hooks_for(release, event) if runs and hook.kind == "Namespace")


def without(made: RenderedSet, namespaces: Collection[str]) -> RenderedSet:
    """The set without what is in some namespaces."""
    if not namespaces:
        return made
    rest = tuple(one for one in made.wanted if one.key.namespace not in namespaces)
    return msgspec.structs.replace(made, wanted=rest, digest=digest_of_part(rest))


def digest_of_part(wanted: Iterable[Wanted]) -> Digest:
    """A name for a part of a set."""
    return digest_of(encode([[one.key.id, one.digest] for one in wanted]))


class NewVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is to be made."""

    release: Release
    """Its record, pending."""
    chart: RenderedChart
    set: Sealed
    """Its objects."""
    secret: tuple[str, ...] = ()
    """What of it is secret, and its values do not tell."""


async def render_wish(
    tools: ReleaseTools,
    declared: DeclaredRelease,
    wish: Wish,
    origin: FromChart,
    making: ReleasingName,
    version: int,
    base: Release | None,
    *,
    identity: Identity | None,
    secrets: SecretValues,
) -> NewVersion:
    """Renders what is asked for, as the version that an install or an upgrade makes.

    Args:
        tools: render.
        declared: the HelmRelease.
        wish: of it.
        origin: of the wish.
        making: which of both it is.
        version: its number.
        base: what an upgrade begins from.
        identity: who looks objects up for the chart.
        secrets: what must not be quoted; what comes to be known of secrets is added.

    Raises:
        StageError: when it cannot be rendered, or the cluster does not answer.
    """
    spec, key = declared.spec, declared.key
    how = spec.effective_install if making == "install" else spec.effective_upgrade
    can = await asking("render", tools.capabilities.now())
    job = RenderJob(
        chart=str(origin.path),
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
            tools.helm.renderer,
            tools.renderer,
            job,
            origin.values,
            post_render_of(spec, key),
            secrets,
            lookup=LookupSource(tools.cluster, identity),
            time_s=max(spec.effective_timeout(making).seconds, RENDER_S),
        )
        found = await asking(
            "render",
            release_objects(
                rendering, tools.cluster, key, name=wish.name, namespace=wish.namespace, crds=how.effective_crds
            ),
        )
    except ChartError as error:
        raise _not_rendered(wish, making, error) from None
    creates = making == "install" and spec.creates_namespace
    namespace = namespace_object(wish.namespace) if creates else None
    release = pending(
        rendering.chart,
        name=wish.name,
        namespace=wish.namespace,
        version=version,
        values=origin.values.values,
        action=making,
        previous=base,
        time=tools.now(),
    )
    looked_up = rendering.chart.looked_up
    made = await set_of_chart(tools, found, can.kube_version, secrets, namespace, looked_up)
    return NewVersion(release=release, chart=rendering.chart, set=made, secret=rendering.found)


def _not_rendered(wish: Wish, making: ReleasingName, error: ChartError) -> StageError:
    reason = "InstallFailed" if making == "install" else "UpgradeFailed"
    chart = f"{wish.chart.name}@{wish.chart.version}"
    message = f"Helm {making} failed for release {wish.namespace}/{wish.name} with chart {chart}: {error.message}"
    retry_s = None if error.final else RENDER_RETRY_S
    return StageError("render", reason, message, final=error.final, retry_s=retry_s)
