"""The cluster that a preview is of: the engine's own, or the one that a kubeconfig leads to, as a pass goes there."""

from contextlib import AsyncExitStack

import msgspec

from tidelog.engine.cluster.errors import KubeconfigError, NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.remote import data_of, kubeconfig_in, open_way
from tidelog.engine.kinds.targets import KubeConfigReference
from tidelog.engine.runtime.binding import alias_of, uid_of
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.sites import read_from_secret
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
        self._settings = settings
        self._stack = stack

    async def of(self, namespace: str, reference: KubeConfigReference | None, secrets: SecretValues) -> Place:
        """The cluster that a kubeconfig of a namespace leads to; the engine's own, where there is none.

        Raises:
            KubeconfigError: when there is none where one is named, or it cannot be used.
            ClusterError: when the Secret cannot be read, or that cluster does not answer.
        """
        if reference is None:
            return self.home
        if reference.secret_ref is None:
            raise KubeconfigError("spec.kubeConfig.configMapRef: a cloud's identity cannot be used yet; give secretRef")
        shown = f"{namespace}/{reference.secret_ref.name}"
        kind = await self.home.cluster.kind("v1", "Secret")
        try:
            live = await self.home.cluster.get(kind, namespace, reference.secret_ref.name)
        except NotFoundError:
            raise KubeconfigError(f"spec.kubeConfig.secretRef: Secret {shown} is not there") from None
        content = kubeconfig_in(data_of(live, shown), reference.secret_ref.key, shown)
        kubeconfig = await read_from_secret(self._settings, namespace, reference.secret_ref.name, content)
        secrets.add(kubeconfig.secret_values)
        way = await open_way(kubeconfig, SecretValues(kubeconfig.secret_values).filter)
        self._stack.push_async_callback(way.close)
        alias = await alias_of(self._log, namespace, await uid_of(way.cluster), self.home.alias)
        return Place(alias, way.cluster)
