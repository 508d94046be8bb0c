"""HelmReleases on the real API server: charts in the test's repository, and how releases are made and looked at."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from tests.e2e.world import HELM as HELM  # noqa: PLC0414 - tests of releases take it from here
from tests.e2e.world import SOURCE, World, condition, is_ready
from tidelog.engine.helm.storage import Release, read_secret
from tidelog.engine.objects.kube import KubeObject

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  colour: {{ .Values.colour | quote }}
  version: {{ .Chart.Version | quote }}
  revision: {{ .Release.Revision | quote }}
"""


def chart(version: str = "1.0.0", /, name: str = "web", **templates: str) -> dict[str, str | bytes | None]:
    """The files of a chart; `templates` by the name of the file, without its suffix."""
    files: dict[str, str | bytes | None] = {
        f"charts/{name}/Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\nappVersion: '9'\n",
        f"charts/{name}/values.yaml": "colour: red\n",
        f"charts/{name}/templates/map.yaml": CONFIG_MAP,
    }
    return files | {f"charts/{name}/templates/{file}.yaml": text for file, text in templates.items()}


class Releases:
    """The HelmReleases of a world, whose charts are in the repository `fleet`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._tokens = itertools.count(1)

    async def commit(self, version: str = "1.0.0", /, **templates: str) -> None:
        """Commits a version of the chart, and tells the source, where there is one."""
        self.world.change(chart(version, **templates))
        if await self.world.get(SOURCE, "GitRepository", "fleet") is not None:
            await self.world.ask()

    async def release(self, name: str = "web", *, metadata: Any = None, **spec: Any) -> KubeObject:
        """Declares one."""
        template = {"spec": {"chart": "./charts/web", "sourceRef": {"kind": "GitRepository", "name": "fleet"}}}
        given = {"interval": "1h", "chart": template} | spec
        if "chartRef" in spec:
            del given["chart"]
        return await self.world.apply(
            {"apiVersion": HELM, "kind": "HelmRelease", "metadata": {"name": name, **(metadata or {})}, "spec": given}
        )

    async def until(self, holds: Callable[[KubeObject], bool], what: str = "", name: str = "web") -> KubeObject:
        """Watches one until something holds of it."""
        found = await self.world.until(HELM, "HelmRelease", name, lambda obj: obj is not None and holds(obj), what)
        assert found is not None
        return found

    async def until_version(self, version: int, chart_version: str = "", name: str = "web") -> KubeObject:
        """Until it is ready, and at a version."""

        def holds(obj: KubeObject) -> bool:
            history = (obj.get("status") or {}).get("history") or [{}]
            newest = history[0]
            return is_ready(obj) and newest.get("version") == version and chart_version in newest["chartVersion"]

        return await self.until(holds, f"ready at version {version}", name)

    async def ask(self, name: str = "web", *, force: bool = False, reset: bool = False) -> str:
        """Asks for a reconciliation as `flux reconcile` does; returns the token."""
        token = f"token-{next(self._tokens)}"
        annotations = {"reconcile.fluxcd.io/requestedAt": token}
        if force:
            annotations["reconcile.fluxcd.io/forceAt"] = token
        if reset:
            annotations["reconcile.fluxcd.io/resetAt"] = token
        await self.world.patch(HELM, "HelmRelease", name, {"metadata": {"annotations": annotations}})
        return token

    async def set_status(self, api_version: str, kind: str, name: str, status: KubeObject) -> None:
        """Says how an object does, as its controller would."""
        found = await self.world.cluster.kind(api_version, kind)
        where = (found, self.world.namespace, name)
        await self.world.cluster.patch(*where, {"status": status}, type="merge", manager="test", subresource="status")

    async def scale_to_nothing(self, name: str) -> None:
        """A Deployment of no Pods is ready: nothing runs Pods here."""
        await self.world.patch("apps/v1", "Deployment", name, {"spec": {"replicas": 0}})

    async def records(self, name: str = "web") -> list[Release]:
        """Helm's records, newest first."""
        kind = await self.world.cluster.kind("v1", "Secret")
        found = await self.world.cluster.list(kind, namespace=self.world.namespace, labels=f"owner=helm,name={name}")
        releases = [read_secret(one).release for one in found.items]
        return sorted(releases, key=lambda one: -one.version)

    async def statuses(self, name: str = "web") -> list[tuple[int, str]]:
        """Version and status of each record, newest first."""
        return [(one.version, one.info.status) for one in await self.records(name)]


def told(obj: KubeObject) -> Mapping[str, tuple[str, str]]:
    """The conditions of an object: status and reason by type."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return {one["type"]: (one["status"], one["reason"]) for one in conditions}


def ready_message(obj: KubeObject) -> str:
    """What Ready says."""
    return str(condition(obj, "Ready")["message"])
