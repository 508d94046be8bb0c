"""Which cluster an alias means: the uid of its kube-system, bound once and for all."""

import re

from tidelog.engine.cluster.errors import ServerError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.runtime.errors import WrongClusterError
from tidelog.events.vocabulary import ClusterBound
from tidelog.storage import Query
from tidelog.storage.log.sqlite_log import SqliteLogReader

KUBE_SYSTEM = "kube-system"
SHORT = 8
"""Characters of a uid in an alias; all of them, where another cluster has the same."""
_uid = re.compile(r"[0-9a-fA-F-]{8,64}")


async def uid_of(cluster: Cluster) -> str:
    """What tells a cluster from any other.

    Raises:
        ClusterError: when the cluster cannot be asked.
    """
    kind = await cluster.kind("v1", "Namespace")
    return str((await cluster.get(kind, "", KUBE_SYSTEM))["metadata"]["uid"])


async def alias_of(log: SqliteLogReader, namespace: str, uid: str, home: str) -> str:
    """The alias of the cluster that says it has a uid, as a namespace knows it: bound in the log, or to be.

    Args:
        log: knows which alias is whose.
        namespace: whose kubeconfig leads there.
        uid: that the cluster says it has.
        home: the alias of the engine's own cluster.

    Raises:
        ServerError: when what answers has no uid that any cluster has, or the log knows another by that whole name.
    """
    if not _uid.fullmatch(uid):
        raise ServerError("what answers there is no Kubernetes cluster: its namespace kube-system has no proper uid")
    whole = f"{namespace}.{uid}"
    for alias in (f"{namespace}.{uid[:SHORT]}", whole):
        bound = await bound_uid(log, alias)
        if bound == uid or (bound is None and alias != home):
            return alias
    raise ServerError(f"the log knows another cluster as {whole!r}")


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
