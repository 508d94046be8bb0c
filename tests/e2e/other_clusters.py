"""A cluster besides the one that the daemon is in, and the Secrets by which it is reached."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.e2e.world import Place, World
from tests.servers.embedded_servers import EmbeddedServers
from tests.servers.kubernetes_servers import OwnServers
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.objects.kube import KubeObject

MASTERS = ("system:masters",)
SECRET = "there"
THERE = {"secretRef": {"name": SECRET}}
"""`spec.kubeConfig` of what is applied to it."""


class Other(Place):
    """A namespace of it, of the same name as the world's."""

    def __init__(self, servers: OwnServers | EmbeddedServers, namespace: str, cluster: RealCluster) -> None:
        super().__init__(servers, namespace, cluster)
        self.servers: OwnServers | EmbeddedServers = servers

    def kubeconfig(self, user: str, groups: Sequence[str] = MASTERS) -> str:
        """The kubeconfig of somebody there."""
        return self.servers.kubeconfig_of(user, groups).read_text()

    async def kubeconfig_of_account(self, name: str) -> str:
        """The kubeconfig of a ServiceAccount there that may do anything, with its token: revoked when it is deleted."""
        await self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
        group = "rbac.authorization.k8s.io"
        who = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}
        role = {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"}
        metadata = {"name": f"{self.namespace}-{name}", "namespace": ""}
        binding = {"apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": metadata}
        await self.apply(binding | {"subjects": [who], "roleRef": role})
        token = await self.cluster.request_token(self.namespace, name, "https://kubernetes.default.svc")
        config = json.loads(self.kubeconfig("nobody"))
        config["users"][0]["user"] = {"token": token}
        return json.dumps(config)


@asynccontextmanager
async def other_cluster(servers: OwnServers | EmbeddedServers, namespace: str) -> AsyncIterator[Other]:
    """The cluster of some servers, with a namespace of that name."""
    async with open_cluster(servers.kubeconfig) as cluster:
        other = Other(servers, namespace, cluster)
        await other.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "namespace": ""}})
        yield other


async def give(world: World, kubeconfig: str, *, key: str = "value", name: str = SECRET) -> KubeObject:
    """Puts a kubeconfig into a Secret of the world's namespace."""
    data = {key: base64.b64encode(kubeconfig.encode()).decode()}
    return await world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
