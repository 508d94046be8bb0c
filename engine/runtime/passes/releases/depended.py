"""What a release depends on, as it now is: where that is another, what failed before may succeed (contract HR-105).

Of a release that is looked after here, the log tells the version. Of one that another engine looks after, its status
does; and of an object of any kind that the annotation names counts whatever is not told anew all the time.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from tidelog.engine.kinds.helmrelease import HelmReleaseStatus
from tidelog.engine.kinds.kustomization import KustomizationStatus
from tidelog.engine.kinds.registry import BY_NAME, SourceStatus, TargetStatus
from tidelog.engine.objects.depth import bounded
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.state import BOOKKEEPING
from tidelog.engine.runtime.passes.dependencies import named_in
from tidelog.engine.runtime.watching.declared import DeclaredRelease, read_status
from tidelog.events.canonical import Json, encode
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import MalformedNameError, ObjectKey, StreamName
from tidelog.events.projections.releases import ReleaseRow

_LEFT_OUT: Final = BOOKKEEPING | {"annotations"}
"""Of metadata: in annotations controllers say when they looked last."""

LiveOf: TypeAlias = Callable[[ObjectKey], Awaitable[KubeObject | None]]
DigestOf: TypeAlias = Callable[[ObjectKey, bytes], Awaitable[Digest]]


def depends_on(declared: DeclaredRelease) -> list[ObjectKey]:
    """The HelmReleases that one depends on."""
    key = declared.key
    return [key._replace(namespace=one.namespace or key.namespace, name=one.name) for one in declared.spec.depends_on]


async def versions_of(
    declared: DeclaredRelease,
    alias: str,
    *,
    row_of: Callable[[StreamName], ReleaseRow | None],
    elsewhere: LiveOf,
    named: LiveOf,
    digest: DigestOf,
) -> str:
    """The digest of what a release depends on; empty where nothing of it is there.

    Args:
        declared: the HelmRelease.
        alias: of the cluster that it is declared in.
        row_of: what the log knows of a release.
        elsewhere: a HelmRelease that another engine looks after.
        named: an object that the annotation names, as who names it may see it.
        digest: of what an object holds; keyed where that is secret.

    Raises:
        ClusterError: when the cluster cannot be asked.
    """
    found: list[Json] = []
    # In the order of their streams: the digest is that of the releases that were before there were others.
    for stream, key in sorted((key.stream(alias), key) for key in set(depends_on(declared))):
        other = await elsewhere(key)
        version = _version_in(row_of(stream)) if other is None else _version_told(read_status(other))
        if version is not None:
            found.append([stream, *version])
    for id in sorted(set(named_in(declared.annotations))):
        try:
            key = ObjectKey.parse(id)
        except MalformedNameError:
            continue  # the pass says so
        live = await named(key)
        if live is not None:
            found.append([id, live["metadata"]["uid"], await _version_of(key, live, digest)])
    return digest_of(encode(found)) if found else ""


def _version_in(row: ReleaseRow | None) -> tuple[int, str] | None:
    """The version that is deployed, and when it was: a release that was uninstalled counts from one again."""
    deployed = None if row is None else row.deployed
    return None if deployed is None else (deployed.version, deployed.last_deployed)


def _version_told(status: SourceStatus | TargetStatus) -> tuple[int, str] | None:
    if not isinstance(status, HelmReleaseStatus):
        return None
    deployed = (one for one in status.history if one.status == "deployed")
    newest = max(deployed, key=lambda one: one.version, default=None)
    return None if newest is None else (newest.version, newest.last_deployed)


async def _version_of(key: ObjectKey, live: KubeObject, digest: DigestOf) -> Json:
    """What is another once an object is: what it came to, or its spec, or all that it holds where it has none."""
    known = BY_NAME.get(key.kind)
    if known is not None and key.group == known.resource.group:
        status = read_status(live)
        if isinstance(status, HelmReleaseStatus):
            return list(_version_told(status) or ())
        if isinstance(status, KustomizationStatus):
            return status.last_applied_revision
        return "" if status.artifact is None else status.artifact.revision
    generation = live["metadata"].get("generation")
    if isinstance(generation, int):
        return generation
    live = bounded(live)
    metadata = {name: value for name, value in live["metadata"].items() if name not in _LEFT_OUT}
    content = {name: value for name, value in live.items() if name != "status"}
    return await digest(key, encode(content | {"metadata": metadata}))
