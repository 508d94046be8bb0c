"""What a HelmRelease asks of the API server: what has to be written, and little more."""

from collections import Counter
from collections.abc import Sequence

from tests.e2e.releases import Releases
from tests.e2e.world import World
from tidelog.engine.objects.kube import KubeObject

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example.org/web:{{ .Chart.Version }}"}]}
"""


def counted(requests: Sequence[KubeObject], *resources: str) -> Counter[str]:
    """Requests about some resources, by verb, without the lists that watches begin with, and statuses."""
    found = [(one, one.get("objectRef") or {}) for one in requests if not _begins_watch(one)]
    return Counter(
        "dry run" if "dryRun=" in one["requestURI"] else one["verb"]
        for one, ref in found
        if ref.get("resource") in resources and not ref.get("subresource")
    )


def is_settled(deployment: KubeObject | None) -> bool:
    """Whether the Deployment's controller has seen it and has nothing more to write."""
    if deployment is None:
        return False
    status = deployment.get("status") or {}
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    return seen and {one["type"] for one in status.get("conditions") or ()} >= {"Available", "Progressing"}


def _begins_watch(request: KubeObject) -> bool:
    selectors = ("labelSelector=helm.toolkit.fluxcd.io%2Fname&", "fieldSelector=")
    return request["verb"] == "list" and any(one in request["requestURI"] for one in selectors)


async def test_an_install_and_an_upgrade_read_each_record_once_and_plan_once(world: World) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0", deployment=DEPLOYMENT)
    async with world.daemon() as running:
        await world.source()
        before = len(await world.requests())
        await releases.release(driftDetection={"mode": "enabled"}, values={"colour": "blue"})
        await releases.until_version(1)
        await running.idle()
        made = (await world.requests())[before:]
        objects = counted(made, "configmaps", "deployments")
        assert objects.pop("get", 0) <= 1
        assert objects == {"dry run": 2, "patch": 2}
        records = counted(made, "secrets")
        # Once more where the Deployment was waited for: whether the version is still ours.
        assert records.pop("get", 0) <= 1
        assert records == {"list": 1, "create": 1, "update": 1}
        # What its controller still had to write of the install is not to be counted with the upgrade.
        await world.until("apps/v1", "Deployment", "web", is_settled, "seen by its controller")
        await running.idle()
        before = len(await world.requests())
        await releases.commit("1.1.0", deployment=DEPLOYMENT)
        await releases.until_version(2)
        await running.idle()
        made = (await world.requests())[before:]
        objects = counted(made, "configmaps", "deployments")
        # Once where what the Deployment's controller wrote was seen after the upgrade only: whether it drifted.
        assert objects.pop("get", 0) <= 1
        assert objects == {"dry run": 2, "patch": 2}
        records = counted(made, "secrets")
        # The newest; where the Deployment was waited for, the version that is made, and the one before again.
        assert records.pop("get") <= 3
        assert records == {"list": 1, "create": 1, "update": 2}
