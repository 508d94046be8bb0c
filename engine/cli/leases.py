"""Who holds the Leases of a cluster, as commands look at them from outside."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import anyio

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.holders import Holder

RENEWED_WITHIN_S = 8.0
"""An engine that is at work renews its Lease every five seconds, ours as Flux's."""


async def find_lease(cluster: Cluster, namespace: str, name: str) -> KubeObject | None:
    """A Lease; None where there is none."""
    kind = await cluster.kind("coordination.k8s.io/v1", "Lease")
    try:
        return await cluster.get(kind, namespace, name)
    except NotFoundError:
        return None


def holder_in(lease: KubeObject | None) -> str:
    """Who holds a Lease, or held it last; empty for nobody."""
    return "" if lease is None else str((lease.get("spec") or {}).get("holderIdentity") or "")


def is_live(lease: KubeObject | None) -> bool:
    """Whether a Lease has been renewed in time, by this machine's clock."""
    spec = {} if lease is None else lease.get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return False
    renewed = datetime.fromisoformat(spec["renewTime"])
    return datetime.now(UTC) - renewed < timedelta(seconds=spec.get("leaseDurationSeconds") or 0)


def is_at_work(lease: KubeObject | None) -> bool:
    """Whether the holder of a Lease seems to be there: it renewed in time, and is not gone from this host."""
    return lease is not None and is_live(lease) and not _is_gone(lease)


async def surely_at_work(cluster: Cluster, namespace: str, names: Iterable[str]) -> list[KubeObject]:
    """The Leases whose holders are at work, for who is about to do what must not be done beside them.

    That a Lease has run out tells nothing where the clock of its holder is behind ours: it is looked at twice.
    """
    found = {name: lease for name in names if (lease := await find_lease(cluster, namespace, name)) is not None}
    doubtful = [name for name, lease in found.items() if not is_live(lease) and not _is_gone(lease)]
    if doubtful:
        await anyio.sleep(RENEWED_WITHIN_S)
    renewed = [name for name in doubtful if _mark(await find_lease(cluster, namespace, name)) != _mark(found[name])]
    return [lease for name, lease in found.items() if is_at_work(lease) or name in renewed]


def _is_gone(lease: KubeObject) -> bool:
    """Whether a Lease is known to be held by nobody."""
    ours = Holder.parse(holder_in(lease))
    return not holder_in(lease) or (ours is not None and ours.is_gone)


def _mark(lease: KubeObject | None) -> object:
    return None if lease is None else (lease.get("spec") or {}).get("renewTime")
