"""From a rendered chart to the objects that a release wants to be there."""

import copy
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.marks import helm_marks
from tidelog.engine.helm.sampling import Secrecy, raw_key
from tidelog.engine.helm.spec import Crd, RenderedChart
from tidelog.engine.kinds.helmactions import CrdsPolicy
from tidelog.engine.objects.kube import KubeObject, MalformedObjectError, key_of
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError
from tidelog.engine.render.normal import add_common, normalise
from tidelog.events.names import ObjectKey

Scopes: TypeAlias = Mapping[tuple[str, str], bool]
"""Whether objects of a kind (group and kind) are in namespaces."""

DEFINITION: Final = ("apiextensions.k8s.io", "CustomResourceDefinition")


class ChartObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object of a chart, as it is to be applied."""

    key: ObjectKey
    object: KubeObject
    path: str
    """Of the template, or of the file in `crds/`."""
    secret: bool = False
    once: bool = False
    """Whether it is only made where it is not there: what is there stays as it is."""


class WantedObjects(msgspec.Struct, frozen=True, kw_only=True):
    """What a release wants to be there."""

    objects: tuple[ChartObject, ...]
    """Of the manifest, in Helm's order: they are the release's, and go with it."""
    definitions: tuple[ChartObject, ...] = ()
    """Of `crds/`: made before the others, and never deleted. None where the policy passes them over."""
    warnings: tuple[str, ...] = ()


def wanted_objects(
    chart: RenderedChart,
    secrecy: Secrecy,
    scopes: Scopes,
    *,
    name: str,
    namespace: str,
    crds: CrdsPolicy,
    owner_labels: Mapping[str, str],
) -> WantedObjects:
    """The objects that a release wants. Hooks are none of them.

    Args:
        chart: after the post-renderers.
        secrecy: what of them is secret.
        scopes: of the kinds in the chart; what is not in it is taken to have namespaces.
        name: of the release, for the marks on the objects of the manifest.
        namespace: of the release, where objects are whose manifest names none.
        crds: what becomes of `crds/` (contract HR-110).
        owner_labels: for what is in `crds/`; the post-renderers put them on the others.

    Raises:
        ChartError: when an object comes twice or is none, with the templates.
    """
    objects = _objects(chart, secrecy, scopes, name, namespace)
    if crds == "Skip":
        return WantedObjects(objects=objects)
    definitions: dict[ObjectKey, ChartObject] = {}
    warnings = []
    replaces = crds == "CreateReplace"
    for path, found in crd_documents(chart.crds):
        key = _key(path, found)
        if (key.group, key.kind) != DEFINITION:
            warnings.append(f"{path}: {key.kind}/{key.name} is no CustomResourceDefinition, and passed over")
            continue
        own = _own(found)
        own["metadata"].pop("namespace", None)
        add_common(own, owner_labels, {})
        one = ChartObject(key=key._replace(namespace=""), object=own, path=path, once=not replaces)
        # Charts and their dependencies often bring the same: the first is made, the last replaces it.
        if replaces or one.key not in definitions:
            definitions[one.key] = one
    for one in objects:
        definitions.pop(one.key, None)  # the manifest has the last word, and owns it
    return WantedObjects(
        objects=objects,
        definitions=tuple(definitions.values()),
        warnings=tuple(warnings),
    )


def crd_documents(crds: tuple[Crd, ...]) -> Iterator[tuple[str, KubeObject]]:
    """The objects in `crds/`, with their files.

    Raises:
        ChartError: when a file is no YAML.
    """
    for crd in crds:
        try:
            found = [document.value for document in documents(crd.text)]
        except YamlError as error:
            raise ChartError(f"{crd.path}: {error}") from None
        yield from ((crd.path, value) for value in found if isinstance(value, dict))


def _objects(
    chart: RenderedChart, secrecy: Secrecy, scopes: Scopes, name: str, namespace: str
) -> tuple[ChartObject, ...]:
    found: dict[ObjectKey, ChartObject] = {}
    for manifest in chart.manifests:
        if manifest.content is None:
            continue
        key = _placed(_key(manifest.path, manifest.content), namespace, scopes)
        if key in found:
            raise ChartError(f"{manifest.path}: {key.shown} is in {found[key].path} already: a chart has it once")
        own = _own(manifest.content)
        own["metadata"]["namespace"] = key.namespace
        if not key.namespace:
            del own["metadata"]["namespace"]
        own = helm_marks(own, name, namespace)
        is_secret = raw_key(manifest.content) in secrecy.manifests
        found[key] = ChartObject(key=key, object=own, path=manifest.path, secret=is_secret)
    return tuple(found.values())


def _placed(key: ObjectKey, namespace: str, scopes: Scopes) -> ObjectKey:
    is_namespaced = scopes.get((key.group, key.kind), True)
    return key._replace(namespace=(key.namespace or namespace) if is_namespaced else "")


def _own(found: KubeObject) -> KubeObject:
    """A copy in the form in which objects are compared and applied."""
    copied = copy.deepcopy(found)
    normalise(copied)
    return copied


def _key(path: str, found: KubeObject) -> ObjectKey:
    try:
        return key_of(found)
    except MalformedObjectError as error:
        raise ChartError(f"{path}: {error}") from None
