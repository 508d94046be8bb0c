"""Who holds the Leases of a cluster, as commands look at them from outside."""

from datetime import UTC, datetime, timedelta

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.holders import Holder


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
    ours = Holder.parse(holder_in(lease))
    return is_live(lease) and not (ours is not None and ours.is_gone)
