"""A cluster besides the one that the daemon is in, and the Secrets by which it is reached."""

import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.e2e.world import Place, Running, World
from tests.servers.embedded_servers import EmbeddedServers
from tests.servers.kubernetes_servers import OwnServers
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import DriftDetected

MASTERS = ("system:masters",)
AUDIENCE = "https://kubernetes.default.svc"
"""Whom the tokens are for that a cluster takes of its own accounts."""
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
        await account(self, name)
        await grant(self, name, {"kind": "ServiceAccount", "name": name, "namespace": self.namespace})
        token = await self.cluster.request_token(self.namespace, name, AUDIENCE)
        config = json.loads(self.kubeconfig("nobody"))
        config["users"][0]["user"] = {"token": token.value}
        return json.dumps(config)


async def account(place: Place, name: str) -> None:
    """Makes a ServiceAccount."""
    await place.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})


async def grant(place: Place, name: str, who: KubeObject) -> None:
    """Lets somebody do anything in the cluster of a place."""
    group = "rbac.authorization.k8s.io"
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"}
    metadata = {"name": f"{place.namespace}-{name}", "namespace": ""}
    binding = {"apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": metadata}
    await place.apply(binding | {"subjects": [who], "roleRef": role})


async def drift_is_put_right(other: Other, running: Running, alias: str, n: str) -> None:
    """Somebody changes ConfigMap `a` there: a watch there sees it, and it is as it was, with this `n`."""
    seen = len(running.recorded)
    await other.patch("v1", "ConfigMap", "a", {"data": {"n": "changed"}}, manager="mallory")
    await running.until_event(DriftDetected, stream=f"{alias}/core/ConfigMap/{other.namespace}/a", after=seen)
    await other.until_data("a", {"n": n})


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
