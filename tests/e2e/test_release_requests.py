"""What a HelmRelease asks of the API server: what has to be written, and little more."""

from collections import Counter
from collections.abc import Sequence

import anyio
import msgspec

from tests.e2e.releases import Releases
from tests.e2e.world import LIMIT_S, Running, World
from tidelog.engine.helm.storage import Record
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.objects.kube import KubeObject

ROLE = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .Release.Name }}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [get], resourceNames: ["{{ .Chart.Version }}"]}
"""
"""No controller writes to it: what one does in between would have the release looked at once more, and counted."""


def counted(requests: Sequence[KubeObject], *resources: str) -> Counter[str]:
    """Requests about some resources, by verb, without the lists that watches begin with, and statuses."""
    found = [(one, one.get("objectRef") or {}) for one in requests if not _begins_watch(one)]
    return Counter(
        "dry run" if "dryRun=" in one["requestURI"] else one["verb"]
        for one, ref in found
        if ref.get("resource") in resources and not ref.get("subresource")
    )


def _begins_watch(request: KubeObject) -> bool:
    selectors = ("labelSelector=helm.toolkit.fluxcd.io%2Fname&", "labelSelector=owner%3Dhelm&", "fieldSelector=")
    return request["verb"] == "list" and any(one in request["requestURI"] for one in selectors)


async def remembered(running: Running, *, is_so: bool) -> None:
    """Until the watch has told what was written to the records of the release."""
    with anyio.fail_after(LIMIT_S):
        while (running.daemon.engine.sites.home.records.newest(running.namespace, "web") is not None) is not is_so:  # noqa: ASYNC110
            await anyio.sleep(0.02)


async def test_an_install_and_an_upgrade_read_each_record_once_and_plan_once(world: World) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0", role=ROLE)
    async with world.daemon() as running:
        await world.source()
        before = len(await world.requests())
        await releases.release(driftDetection={"mode": "enabled"}, values={"colour": "blue"})
        await releases.until_version(1)
        await running.idle()
        made = (await world.requests())[before:]
        assert counted(made, "configmaps", "roles") == {"dry run": 2, "patch": 2}
        assert counted(made, "secrets") == {"list": 1, "create": 1, "update": 1}
        before = len(await world.requests())
        await releases.commit("1.1.0", role=ROLE)
        await releases.until_version(2)
        await running.idle()
        made = (await world.requests())[before:]
        assert counted(made, "configmaps", "roles") == {"dry run": 2, "patch": 2}
        # The newest is read; the version that is made was not there, and need not be asked for.
        assert counted(made, "secrets") == {"list": 1, "get": 1, "create": 1, "update": 2}


async def test_records_are_read_again_once_somebody_has_written_to_them(world: World) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0")
    async with world.daemon() as running:
        await world.source()
        await releases.release()
        await releases.until_version(1)
        await remembered(running, is_so=True)
        before = len(await world.requests())
        token = await releases.ask()
        await releases.until(lambda obj: obj["status"].get("lastHandledReconcileAt") == token)
        await running.idle()
        assert counted((await world.requests())[before:], "secrets", "configmaps") == {}
        store = ReleaseStore(world.cluster, world.namespace)
        record = await store.last("web")
        assert record is not None
        info = msgspec.structs.replace(record.release.info, description="by hand")
        await store.update(Record(msgspec.structs.replace(record.release, info=info)), now=0.0)
        await remembered(running, is_so=False)
        await releases.ask()
        await releases.until_version(2)
