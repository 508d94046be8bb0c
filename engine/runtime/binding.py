"""Which cluster an alias means: the uid of its kube-system, bound once and for all."""

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.runtime.errors import WrongClusterError
from tidelog.events.vocabulary import ClusterBound
from tidelog.storage import Query
from tidelog.storage.log.sqlite_log import SqliteLogReader

KUBE_SYSTEM = "kube-system"


async def uid_of(cluster: Cluster) -> str:
    """What tells a cluster from any other.

    Raises:
        ClusterError: when the cluster cannot be asked.
    """
    kind = await cluster.kind("v1", "Namespace")
    return str((await cluster.get(kind, "", KUBE_SYSTEM))["metadata"]["uid"])


async def bound_uid(log: SqliteLogReader, alias: str) -> str | None:
    """The uid of the cluster that a log knows by an alias; None when it knows none."""
    uid = None
    async for recorded in log.read(Query(types=("ClusterBound",))):
        event = recorded.event
        if isinstance(event, ClusterBound) and event.alias == alias:
            uid = event.uid
    return uid


async def check_cluster(cluster: Cluster, log: SqliteLogReader, alias: str) -> str:
    """The uid of a cluster that the log knows by that alias, or by none.

    Raises:
        WrongClusterError: when the alias is bound to another cluster.
        ClusterError: when the cluster cannot be asked.
    """
    uid, known = await uid_of(cluster), await bound_uid(log, alias)
    if known not in (None, uid):
        raise WrongClusterError(
            f"this store knows another cluster as {alias!r} (kube-system {known}, and here it is {uid}); "
            "give another --store, another --kubeconfig or --context, or to `tidelog run` another --cluster-name"
        )
    return uid
