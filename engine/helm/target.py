"""From a rendered chart to the objects that a release wants to be there."""

import copy
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.sampling import Secrecy, raw_key
from tidelog.engine.helm.spec import Crd, RenderedChart
from tidelog.engine.objects.kube import KubeObject, MalformedObjectError, key_of
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError
from tidelog.engine.render.normal import add_common, normalise
from tidelog.events.names import ObjectKey

CrdsPolicy: TypeAlias = Literal["Skip", "Create", "CreateReplace"]
"""What becomes of `crds/`: nothing, only what is not there, all of it (contract HR-110)."""
Scopes: TypeAlias = Mapping[tuple[str, str], bool]
"""Whether objects of a kind (group and kind) are in namespaces."""

DEFINITION: Final = ("apiextensions.k8s.io", "CustomResourceDefinition")
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
RELEASE_NAME: Final = "meta.helm.sh/release-name"
RELEASE_NAMESPACE: Final = "meta.helm.sh/release-namespace"


class Release(msgspec.Struct, frozen=True):
    """A release, as Helm names it."""

    name: str
    namespace: str


class ChartObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object of a chart, as it is to be applied."""

    key: ObjectKey
    object: KubeObject
    path: str
    """Of the template, or of the file in `crds/`."""
    secret: bool = False


class WantedObjects(msgspec.Struct, frozen=True, kw_only=True):
    """What a release wants to be there."""

    objects: tuple[ChartObject, ...]
    """Of the manifest, in Helm's order: they are the release's, and go with it."""
    definitions: tuple[ChartObject, ...] = ()
    """Of `crds/`: made before the others, and never deleted. None where the policy passes them over."""
    replaces_definitions: bool = False
    """Whether those that are there already are updated."""
    warnings: tuple[str, ...] = ()


def wanted_objects(
    chart: RenderedChart,
    release: Release,
    secrecy: Secrecy,
    scopes: Scopes,
    *,
    crds: CrdsPolicy,
    owner_labels: Mapping[str, str],
) -> WantedObjects:
    """The objects that a release wants. Hooks are none of them.

    Args:
        chart: after the post-renderers.
        release: whose marks go on the objects of the manifest.
        secrecy: what of them is secret.
        scopes: of the kinds in the chart; what is not in it is taken to have namespaces.
        crds: what becomes of `crds/`.
        owner_labels: for what is in `crds/`; the post-renderers put them on the others.

    Raises:
        ChartError: when an object comes twice or is none, with the templates.
    """
    objects = _objects(chart, release, secrecy, scopes)
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
        one = ChartObject(key=key._replace(namespace=""), object=own, path=path)
        # Charts and their dependencies often bring the same: the first is made, the last replaces it.
        if replaces or one.key not in definitions:
            definitions[one.key] = one
    for one in objects:
        definitions.pop(one.key, None)  # the manifest has the last word, and owns it
    return WantedObjects(
        objects=objects,
        definitions=tuple(definitions.values()),
        replaces_definitions=replaces,
        warnings=tuple(warnings),
    )


def helm_marks(found: KubeObject, release: Release) -> None:
    """Says on an object that it is a release's, as Helm does on what it applies. In place."""
    marks = {RELEASE_NAME: release.name, RELEASE_NAMESPACE: release.namespace}
    add_common(found, {MANAGED_BY: "Helm"}, marks)


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


def _objects(chart: RenderedChart, release: Release, secrecy: Secrecy, scopes: Scopes) -> tuple[ChartObject, ...]:
    found: dict[ObjectKey, ChartObject] = {}
    for manifest in chart.manifests:
        if manifest.content is None:
            continue
        key = _placed(_key(manifest.path, manifest.content), release, scopes)
        if key in found:
            raise ChartError(f"{manifest.path}: {key.shown} is in {found[key].path} already: a chart has it once")
        own = _own(manifest.content)
        own["metadata"]["namespace"] = key.namespace
        if not key.namespace:
            del own["metadata"]["namespace"]
        helm_marks(own, release)
        is_secret = raw_key(manifest.content) in secrecy.manifests
        found[key] = ChartObject(key=key, object=own, path=manifest.path, secret=is_secret)
    return tuple(found.values())


def _placed(key: ObjectKey, release: Release, scopes: Scopes) -> ObjectKey:
    is_namespaced = scopes.get((key.group, key.kind), True)
    return key._replace(namespace=(key.namespace or release.namespace) if is_namespaced else "")


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
