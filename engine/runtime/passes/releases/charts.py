"""Where the chart of a release comes from: the HelmChart of its template, or the source that it names."""

from collections.abc import Callable

import msgspec

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster, Preconditions
from tidelog.engine.helm.archives import Described
from tidelog.engine.helm.errors import ChartError
from tidelog.engine.kinds.decode import encode
from tidelog.engine.kinds.meta import (
    HELM_GROUP,
    HELM_RELEASE,
    RELEASE_OWNER_NAME,
    RELEASE_OWNER_NAMESPACE,
    SOURCE_GROUP,
    applier_of,
    labelled_maker,
)
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.memory import Facts
from tidelog.engine.runtime.run import Run, StageError, asking
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.watching.declared import DeclaredRelease
from tidelog.engine.sources.semver import loose_version_of, with_build
from tidelog.events.digest import Digest
from tidelog.events.names import ObjectId, ObjectKey, Revision, StreamName
from tidelog.events.projections import Standing
from tidelog.events.vocabulary import HelmChartSynced

HELM_CHART = "HelmChart"
CHART_VERSION = f"{SOURCE_GROUP}/v1"
GONE_LOOK_S = 1.0
"""How soon it is looked again whether a HelmChart that is being deleted is gone."""
TAG_DIGITS = 12
"""Of a digest that go into the version of a chart (contract HR-067)."""


class ChartArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """The artifact that holds a chart."""

    stream: StreamName
    """Of its source."""
    kind: str
    revision: Revision
    tree: str
    artifact: Digest


class ReleasedChart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart, as it is released."""

    name: str
    version: str
    """With the digest of what it came from, where that is from a registry (contract HR-067)."""
    app_version: str
    oci_digest: str = ""
    build_metadata: str = ""
    """What of the version is not in its Chart.yaml."""


def released(chart: Described, found: ChartArtifact, settings: Settings) -> ReleasedChart:
    """A chart under the version by which it is released (contract HR-067).

    Args:
        chart: as it tells it.
        found: where it is from.
        settings: whether its digest is a part of its version.

    Raises:
        StageError: when its tag says another version than the chart itself.
    """
    as_told = ReleasedChart(name=chart.name, version=chart.version, app_version=chart.app_version)
    tag, _, digest = found.revision.rpartition("@")
    has_digest = found.kind == "OCIRepository" or (found.kind == "ExternalArtifact" and ":" in found.revision)
    if not has_digest:
        return as_told
    version = loose_version_of(chart.version)
    if version is None:
        raise _mutation(f"invalid chart version {chart.version}")
    tagged = loose_version_of(tag) if tag else None
    if tagged is not None and tagged != version:
        raise _mutation(f"artifact revision {tag} does not match chart version {chart.version}")
    checksum = digest.rpartition(":")[2]
    if len(checksum) < TAG_DIGITS:
        raise _mutation(f"artifact revision {found.revision} has no digest")
    build = checksum[:TAG_DIGITS]
    with_digest = with_build(chart.version, build)
    if with_digest is None:
        raise _mutation(f"invalid chart version {chart.version}")
    as_told = msgspec.structs.replace(as_told, oci_digest=digest if tagged is not None else str(found.revision))
    if settings.disable_chart_digest_tracking:
        return as_told
    return msgspec.structs.replace(as_told, version=with_digest, build_metadata=build)


async def sync_chart(engine: Engine, declared: DeclaredRelease, run: Run, known: ObjectId | None) -> None:
    """Makes the HelmChart of a release's template, and deletes one that it has no more (contract HR-059).

    Args:
        engine: has the cluster.
        declared: the HelmRelease.
        run: records.
        known: the HelmChart that was made for it.

    Raises:
        StageError: when the cluster refuses, or does not answer, or the HelmChart of that name is somebody else's.
    """
    template, key = declared.spec.chart, declared.key
    wanted = None if template is None else declared.spec.chart_source(key.namespace, key.name)
    if known is not None and (wanted is None or wanted.id != known):
        await delete_chart(engine, declared, run, known)
    if template is None or wanted is None:
        return
    metadata = template.metadata
    chart: KubeObject = {
        "apiVersion": CHART_VERSION,
        "kind": HELM_CHART,
        "metadata": {
            "name": wanted.name,
            "namespace": wanted.namespace,
            "labels": {
                **(metadata.labels if metadata else {}),
                RELEASE_OWNER_NAME: key.name,
                RELEASE_OWNER_NAMESPACE: key.namespace,
            },
            **({"annotations": metadata.annotations} if metadata and metadata.annotations else {}),
        },
        "spec": encode(template.helm_chart_spec(declared.spec.interval)),
    }
    stream = wanted.stream(engine.cluster_alias)
    there = engine.declared.source(stream)
    if there is not None and known == wanted.id and _says(there.live, chart):
        return
    # Two releases may want the same one: who comes second finds what the first has made.
    async with engine.turns.of(wanted.id):
        live = await asking("declare", find_chart(engine.cluster, wanted), "ArtifactFailed")
        if live is not None:
            why = await asking("declare", why_not_ours(engine.cluster, declared, live, known), "ArtifactFailed")
            if why:
                engine.wait_for(declared.stream, stream)
                raise StageError("declare", "ArtifactFailed", why)
            chart["metadata"]["uid"] = live["metadata"]["uid"]
        manager = applier_of(HELM_RELEASE[1])
        applied = await asking("declare", engine.cluster.apply(chart, manager=manager), "ArtifactFailed")
    if "deletionTimestamp" in applied.object["metadata"]:
        message = f"HelmChart {wanted.namespace}/{wanted.name} is being deleted; it is made anew once it is gone"
        raise StageError("declare", "ArtifactFailed", message, retry_s=GONE_LOOK_S)
    await run.record([HelmChartSynced(object=wanted.id, outcome="created" if applied.created else "configured")])
    await engine.declared.seen(applied.object)


async def delete_chart(engine: Engine, declared: DeclaredRelease, run: Run, known: ObjectId) -> None:
    """Deletes the HelmChart that was made for a release; one that is another's by now stays.

    Raises:
        StageError: when the cluster refuses, or does not answer.
    """
    key = ObjectKey.parse(known)
    deleted = await asking("declare", _delete(engine.cluster, declared, key), "ArtifactFailed")
    await run.record([HelmChartSynced(object=known, outcome="deleted" if deleted else "absent")])


async def _delete(cluster: Cluster, declared: DeclaredRelease, key: ObjectKey) -> bool:
    """Whether there was one of the release's to delete."""
    live = await find_chart(cluster, key)
    if live is None or await why_not_ours(cluster, declared, live, key.id):
        return False
    kind, uid = await cluster.kind(CHART_VERSION, HELM_CHART), live["metadata"]["uid"]
    try:
        await cluster.delete(kind, key.namespace, key.name, preconditions=Preconditions(uid=uid))
    except NotFoundError:
        return False
    return True


async def find_chart(cluster: Cluster, key: ObjectKey) -> KubeObject | None:
    """A HelmChart as it is; None where there is none."""
    kind = await cluster.kind(CHART_VERSION, HELM_CHART)
    try:
        return await cluster.get(kind, key.namespace, key.name)
    except NotFoundError:
        return None


async def why_not_ours(cluster: Cluster, declared: DeclaredRelease, live: KubeObject, known: ObjectId | None) -> str:
    """Why a HelmChart is not the one of a release's template, though it has its name; empty where it is.

    The names of two releases can come to the same: `a/b-c` and `a-b/c`. Flux lets each overwrite it in turn.

    Args:
        cluster: tells whether the other release is still there.
        declared: the HelmRelease.
        live: the HelmChart.
        known: the one that was made for it, by us or by Flux.
    """
    key, maker = key_of(live), labelled_maker(live)
    if maker == declared.key:
        return ""
    if maker is None:
        applied = {one.get("manager") for one in live["metadata"].get("managedFields") or ()}
        if known == key.id and applier_of(HELM_RELEASE[1]) in applied:
            return ""
        whose = "was made by somebody else"
    elif (maker.group, maker.kind) == HELM_RELEASE and not await _is_there(cluster, maker):
        return ""  # left behind, when that was deleted while it was suspended
    else:
        whose = f"is that of {maker.shown}"
    what = f"HelmChart {key.namespace}/{key.name}, which the chart of {declared.key.shown} would be, {whose}"
    return f"{what}, and is left as it is: rename one of them, or name a chart that is there with `chartRef`"


async def _is_there(cluster: Cluster, release: ObjectKey) -> bool:
    kind = await cluster.kind(f"{HELM_GROUP}/v2", release.kind)
    try:
        await cluster.get(kind, release.namespace, release.name)
    except NotFoundError:
        return False
    return True


def artifact_of(
    facts: Facts, alias: str, settings: Settings, declared: DeclaredRelease, is_there: Callable[[StreamName], bool]
) -> ChartArtifact:
    """The artifact of the source that a release names (contract HR-063 to HR-065).

    Args:
        facts: what is known of sources.
        alias: of the cluster.
        settings: whether sources in other namespaces may be used.
        declared: the HelmRelease.
        is_there: whether there is a source.

    Raises:
        StageError: when it may not be used, is not there, or has no artifact; its good news wake the target.
    """
    source = declared.spec.chart_source(declared.key.namespace, declared.key.name)
    if settings.no_cross_namespace_refs and source.namespace != declared.key.namespace:
        blocked = "cross-namespace references have been blocked"
        message = f"can't access '{source.kind}/{source.namespace}/{source.name}': {blocked}"
        raise StageError("fetch", "AccessDenied", message, final=True, stalled=True)
    stream = source.stream(alias)
    shown = f"{source.kind} '{source.namespace}/{source.name}'"
    if not is_there(stream):
        message = f"could not get Source object: {shown} not found"
        raise StageError("fetch", "ArtifactFailed", message, waits_for=stream)
    row, standing = facts.desired.get(stream), facts.conditions.get(stream)
    why = f": {standing.message}" if standing is not None and standing.message else ""
    if row is None or row.revision is None or row.tree is None or row.artifact is None or _is_stalled(standing):
        message = f"{shown} is not ready: it has no artifact yet{why}"
        raise StageError("fetch", "SourceNotReady", message, waits_for=stream)
    # What it has may be of the spec before: another version of the chart, say.
    is_behind = standing is not None and standing.observed != standing.declared
    if is_behind and source.kind != "ExternalArtifact" and row.suspended is None:
        message = f"{shown} is not ready: latest generation of object has not been reconciled{why}"
        raise StageError("fetch", "SourceNotReady", message, waits_for=stream)
    return ChartArtifact(stream=stream, kind=source.kind, revision=row.revision, tree=row.tree, artifact=row.artifact)


def _is_stalled(standing: Standing | None) -> bool:
    return standing is not None and standing.stalled


def unreadable(error: ChartError) -> StageError:
    """A chart that cannot be read."""
    return StageError("fetch", "ArtifactFailed", f"Could not load chart: {error.message}", final=error.final)


def _mutation(message: str) -> StageError:
    return StageError("fetch", "ChartMutateError", message)


def _says(live: KubeObject, wanted: KubeObject) -> bool:
    """Whether an object has all that is wanted of it."""
    return all(_has(live.get(part) or {}, wanted[part]) for part in ("metadata", "spec"))


def _has(live: KubeObject, wanted: KubeObject) -> bool:
    return all(
        _has(live.get(name) or {}, value) if isinstance(value, dict) else live.get(name) == value
        for name, value in wanted.items()
    )
