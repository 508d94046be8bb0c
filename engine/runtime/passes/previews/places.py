"""The cluster that a preview is of: the engine's own, or the one that a kubeconfig leads to, as a pass goes there."""

from contextlib import AsyncExitStack

import msgspec

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.targets import KubeConfigReference
from tidelog.engine.runtime.binding import alias_of, uid_of
from tidelog.engine.runtime.kubeconfigs import Kubeconfigs
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.sites import open_known
from tidelog.engine.secrecy.values import SecretValues
from tidelog.storage.log.sqlite_log import SqliteLogReader


class Place(msgspec.Struct, frozen=True):
    """A cluster, and the alias by which the log knows it, or would."""

    alias: str
    cluster: Cluster


class Places:
    """Goes to other clusters for previews; they are let go of with the stack."""

    def __init__(self, home: Place, log: SqliteLogReader, settings: Settings, stack: AsyncExitStack) -> None:
        self.home = home
        self._log = log
        self._kubeconfigs = Kubeconfigs(home.cluster, settings)
        self._stack = stack

    async def of(self, namespace: str, reference: KubeConfigReference | None, secrets: SecretValues) -> Place:
        """The cluster that a kubeconfig of a namespace leads to; the engine's own, where there is none.

        Raises:
            KubeconfigError: when there is none where one is named, or it cannot be used.
            ClusterError: when what it names cannot be read, or that cluster does not answer.
        """
        if reference is None:
            return self.home
        kubeconfig = await self._kubeconfigs.here(namespace, reference)
        kubeconfig.tell(secrets)
        way = await open_known(kubeconfig)
        self._stack.push_async_callback(way.close)
        alias = await alias_of(self._log, namespace, await uid_of(way.cluster), self.home.alias)
        return Place(alias, way.cluster)
