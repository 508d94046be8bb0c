"""APIServices: an object for each version that is served, as the aggregator of a real server keeps them.

Those of the server's own versions are made when it starts, and then left to whoever changes them. Those of definitions
come and go with these: one that is changed is put right, and one that is deleted comes back, unless its label says that
nobody is to look after it.
"""

from collections.abc import Iterator
from typing import Final

from tidelog.engine.cluster.embedded.api import APISERVICES, Api
from tidelog.engine.cluster.embedded.objects import decoded, is_going, kept
from tidelog.engine.cluster.embedded.registry import Place, facts
from tidelog.engine.cluster.embedded.requests import Options, Target
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.store import Key
from tidelog.engine.objects.kube import KubeObject

AUTOMANAGED: Final = "kube-aggregator.kubernetes.io/automanaged"
_AT_START: Final = "onstart"
_ALWAYS: Final = "true"
_OF_DEFINITIONS: Final = (1_000, 100)
"""Which group, and which of its versions, comes first: as the server has it for those of definitions."""
_SERVER: Final = Options("kube-apiserver")


def builtin_services() -> Iterator[KubeObject]:
    """Those of the server's own versions."""
    for name, priorities in facts().priorities.items():
        yield _service(name, priorities, _AT_START)


def _service(name: str, priorities: tuple[int, int], automanaged: str) -> KubeObject:
    version, _, group = name.partition(".")
    of_group, of_version = priorities
    spec: KubeObject = {"group": group} if group else {}
    spec |= {"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version}
    return {"metadata": {"name": name, "labels": {AUTOMANAGED: automanaged}}, "spec": spec}


class ApiServices:
    """Keeps the APIServices of definitions as they should be."""

    def __init__(self, api: Api) -> None:
        """Of the cluster behind `api`."""
        self._api = api
        self._resource = api.registry.builtin(APISERVICES)

    async def begin(self) -> None:
        """Makes those of the server's own versions that are not there, and takes away those that it serves no more."""
        for service in builtin_services():
            if self._api.store.get(APISERVICES, Key("", service["metadata"]["name"])) is None:
                await self._make(service)
        for record in list(self._api.store.bucket(APISERVICES).between("")):
            obj = decoded(record, self._resource)
            if _managed(obj) == _AT_START and record.key.name not in facts().priorities:
                self._api.writer.remove(self._resource, record, obj, propagation="Background")

    async def follow(self, place: Place, name: str) -> None:
        """Does what follows from a change of a definition, or of an APIService."""
        if place == APISERVICES:
            await self._keep_up(name)
            return
        group = name.partition(".")[2]
        there = [record.key.name for record in self._api.store.bucket(APISERVICES).between("")]
        served = [f"{version}.{group}" for version in self._api.registry.versions(group)]
        for each in dict.fromkeys((*served, *(one for one in there if one.partition(".")[2] == group))):
            await self._keep_up(each)

    async def _keep_up(self, name: str) -> None:
        version, _, group = name.partition(".")
        is_served = version in self._api.registry.versions(group) and name not in facts().priorities
        wanted = _service(name, _OF_DEFINITIONS, _ALWAYS)
        record = self._api.store.get(APISERVICES, Key("", name))
        if record is None:
            if is_served:
                await self._make(wanted)
            return
        obj = decoded(record, self._resource)
        if _managed(obj) != _ALWAYS or is_going(obj):
            return
        if not is_served:
            self._api.writer.remove(self._resource, record, obj, propagation="Background")
        elif obj["spec"] != wanted["spec"]:
            changed = {**obj, "spec": wanted["spec"]}
            self._api.store.put(APISERVICES, kept(changed, self._resource, self._api.store.next_version()))

    async def _make(self, service: KubeObject) -> None:
        try:
            await self._api.writer.create(Target("create", self._resource, "", ""), service, _SERVER)
        except StatusError:
            return  # somebody has made it meanwhile: that is looked at next


def _managed(obj: KubeObject) -> str:
    return str((obj["metadata"].get("labels") or {}).get(AUTOMANAGED) or "")
