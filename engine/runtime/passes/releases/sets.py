"""Rendered sets of releases: of a chart that is rendered, and of the manifest of a version that is gone back to."""

from collections.abc import Iterable
from importlib.metadata import version
from typing import Final, Protocol

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.marks import helm_marks
from tidelog.engine.helm.releases import objects_of
from tidelog.engine.helm.spec import LookedUp
from tidelog.engine.helm.storage import Release
from tidelog.engine.helm.target import WantedObjects
from tidelog.engine.objects.kube import KubeObject, MalformedObjectError, key_of
from tidelog.engine.render.errors import ReadEntry
from tidelog.engine.render.normal import normalise
from tidelog.engine.render.renderer import Rendering
from tidelog.engine.runtime.rendered import Sealed, sealed
from tidelog.engine.runtime.scope import scopes_of
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.names import ObjectId, ObjectKey
from tidelog.events.vocabulary import Tool

EVERY: Final = "*"
"""In a read-set: in the place of a name, where all objects of a kind were listed."""
SDK: Final = Tool(name="helm-python-sdk", version=version("helm-python-sdk"))


class SetTools(Protocol):
    """What sets are made with."""

    @property
    def cluster(self) -> Cluster:
        """Is asked for its kinds."""
        ...

    async def sealer(self, secret: Iterable[ObjectId]) -> Sealer:
        """What seals some objects that are secret."""
        ...


async def set_of_chart(
    tools: SetTools,
    found: WantedObjects,
    kube_version: str,
    secrets: SecretValues,
    namespace: KubeObject | None,
    looked_up: Iterable[LookedUp] = (),
) -> Sealed:
    """The set of a chart.

    Args:
        tools: have the keys.
        found: its objects.
        kube_version: of the cluster that it was rendered for.
        secrets: told of what is secret.
        namespace: of the release, where that is to be made if it is not there.
        looked_up: what the chart has read of the cluster: the read-set.
    """
    once = {one.key for one in found.definitions if one.once}
    objects = [*(one.object for one in found.definitions), *(one.object for one in found.objects)]
    if namespace is not None and key_of(namespace) not in {one.key for one in found.objects}:
        objects.insert(0, namespace)
        once.add(key_of(namespace))
    secret = frozenset(one.key for one in (*found.definitions, *found.objects) if one.secret)
    with_tools = (SDK, Tool(name="kubernetes", version=kube_version))
    return await _sealed(tools, objects, secret, with_tools, secrets, once, read_of(looked_up))


def read_of(looked_up: Iterable[LookedUp]) -> tuple[ReadEntry, ...]:
    """What a chart looked up, as the entries of a read-set.

    An object is named by its id, and comes with its `resourceVersion`, or with None where it was not there. A list is
    `<group or core>/<Kind>/<namespace or _>/*`, and which kinds a version has is asked at `<group>/<version>`: both
    with a digest of what there was.
    """
    found = set()
    for one in looked_up:
        path = one.api_version
        if one.kind:
            group = one.api_version.rpartition("/")[0]
            path = ObjectKey(group, one.kind, one.namespace, one.name or EVERY).id
        found.add((path, one.version))
    return tuple(ReadEntry(path, version or None) for path, version in sorted(found))


async def set_of_record(tools: SetTools, release: Release, secrets: SecretValues) -> Sealed:
    """The set of a version that somebody else made. What in it is secret nobody knows, so all of it is.

    Raises:
        RecordError: when its manifest cannot be read.
        ClusterError: when the cluster cannot be asked for its kinds.
    """
    placed = await placed_objects(tools, release)
    objects = [helm_marks(obj, release.name, release.namespace) for obj in placed]
    for obj in objects:
        normalise(obj)
    return await _sealed(tools, objects, frozenset(map(key_of, objects)), (), secrets, ())


async def placed_objects(tools: SetTools, release: Release) -> list[KubeObject]:
    """The objects of a version's manifest, each in its namespace.

    Raises:
        RecordError: when the manifest cannot be read.
        ClusterError: when the cluster cannot be asked for its kinds.
    """
    objects = objects_of(release)
    scopes = await scopes_of(objects, tools.cluster)
    placed = []
    for obj in objects:
        try:
            key = key_of(obj)
        except MalformedObjectError as error:
            where = f"the manifest of release {release.namespace}/{release.name}"
            raise RecordError(f"{where} has {error}") from None
        metadata = {name: value for name, value in obj["metadata"].items() if name != "namespace"}
        if scopes.get((key.group, key.kind), True):
            metadata["namespace"] = key.namespace or release.namespace
        placed.append(obj | {"metadata": metadata})
    return placed


async def _sealed(
    tools: SetTools,
    objects: Iterable[KubeObject],
    secret: frozenset[ObjectKey],
    toolchain: tuple[Tool, ...],
    secrets: SecretValues,
    once: Iterable[ObjectKey],
    read_set: tuple[ReadEntry, ...] = (),
) -> Sealed:
    rendering = Rendering(
        objects=tuple(objects), read_set=read_set, toolchain=toolchain, remote_bases=(), secret=secret, secret_values=()
    )
    return sealed(rendering, await tools.sealer(key.id for key in secret), secrets, frozenset(once))


def namespace_object(name: str) -> KubeObject:
    """The namespace of a release, as Helm makes it (contract HR-035)."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"name": name}}}
