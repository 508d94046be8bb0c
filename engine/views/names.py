"""Which source, target or object a person means by `KIND/NAME`."""

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from tidelog.engine.kinds.meta import HELM_GROUP, KUSTOMIZE_GROUP, SOURCE_GROUP
from tidelog.engine.views.archive import Archive
from tidelog.events.names import (
    ENGINE,
    MalformedNameError,
    ObjectId,
    ObjectKey,
    StreamName,
    cluster_of,
    stream_beside,
    stream_name,
)
from tidelog.events.projections import ACTUAL, CONDITIONS, DESIRED
from tidelog.events.projections.desired import objects_cluster
from tidelog.events.vocabulary import ObjectPruned
from tidelog.storage.log import Query

NAMESPACE_VARIABLE = "FLUX_SYSTEM_NAMESPACE"
DEFAULT_NAMESPACE = "flux-system"
CANDIDATES_SHOWN_MAX = 10

GIT_REPOSITORY = (SOURCE_GROUP, "GitRepository")
OCI_REPOSITORY = (SOURCE_GROUP, "OCIRepository")
BUCKET = (SOURCE_GROUP, "Bucket")
HELM_REPOSITORY = (SOURCE_GROUP, "HelmRepository")
HELM_CHART = (SOURCE_GROUP, "HelmChart")
EXTERNAL_ARTIFACT = (SOURCE_GROUP, "ExternalArtifact")
SOURCES = (GIT_REPOSITORY, OCI_REPOSITORY, BUCKET, HELM_REPOSITORY, HELM_CHART, EXTERNAL_ARTIFACT)
KUSTOMIZATION = (KUSTOMIZE_GROUP, "Kustomization")
HELM_RELEASE = (HELM_GROUP, "HelmRelease")
TARGETS = (KUSTOMIZATION, HELM_RELEASE)
FLUX_GROUPS = frozenset({SOURCE_GROUP, KUSTOMIZE_GROUP, HELM_GROUP})

# The short names that kubectl and flux know.
_short_names: Mapping[str, str] = {
    "cj": "cronjob",
    "cm": "configmap",
    "crd": "customresourcedefinition",
    "deploy": "deployment",
    "ds": "daemonset",
    "ea": "externalartifact",
    "git": "gitrepository",
    "gitrepo": "gitrepository",
    "hc": "helmchart",
    "helmrepo": "helmrepository",
    "hpa": "horizontalpodautoscaler",
    "hr": "helmrelease",
    "ing": "ingress",
    "ks": "kustomization",
    "netpol": "networkpolicy",
    "ns": "namespace",
    "oci": "ocirepository",
    "ocirepo": "ocirepository",
    "pc": "priorityclass",
    "pdb": "poddisruptionbudget",
    "po": "pod",
    "pv": "persistentvolume",
    "pvc": "persistentvolumeclaim",
    "quota": "resourcequota",
    "rs": "replicaset",
    "sa": "serviceaccount",
    "sc": "storageclass",
    "sts": "statefulset",
    "svc": "service",
}
_sources_of_flux: Mapping[str, str] = {
    "chart": "helmchart",
    "external": "externalartifact",
    "helm": "helmrepository",
}
"""What `flux` calls a kind behind the word `source`, where that is no short name elsewhere."""


class NotThereError(LookupError):
    """Raised when the log does not have what was asked for."""


class UnclearNameError(ValueError):
    """Raised for a text that names nothing, or more than one thing; the message says how to name it."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A source, target or object, as it is told in answers."""

    stream: StreamName
    cluster: str
    group: str
    kind: str
    namespace: str
    name: str

    @property
    def key(self) -> ObjectKey:
        """The object's key."""
        return ObjectKey(self.group, self.kind, self.namespace, self.name)

    @property
    def is_flux(self) -> bool:
        """Whether it is of a kind that is reconciled, and not only applied."""
        return self.group in FLUX_GROUPS

    def __str__(self) -> str:
        """As Flux names objects: `<Kind>/<namespace>/<name>`."""
        return self.key.shown


def subject_of(stream: StreamName) -> Subject:
    """The subject of a stream that is not an engine's."""
    key = ObjectKey.of_stream(stream)
    return Subject(
        stream=stream,
        cluster=cluster_of(stream),
        group=key.group,
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
    )


def subject_in(cluster: str, id: ObjectId) -> Subject:
    """The subject of an object in the cluster of an alias."""
    return subject_of(ObjectKey.parse(id).stream(cluster))


def cluster_below(archive: Archive, target: StreamName) -> str:
    """The alias of the cluster that a target is applied to."""
    return objects_cluster(target, archive.row(DESIRED, target))


def is_engine(stream: StreamName) -> bool:
    """Whether a stream is about an engine's life."""
    return stream.endswith(f"/{ENGINE}") and stream.count("/") == 1


def default_namespace() -> str:
    """The namespace of sources and targets where none is given (Flux contract CL-001)."""
    return os.environ.get(NAMESPACE_VARIABLE) or DEFAULT_NAMESPACE


def is_kind(typed: str, group: str, kind: str) -> bool:
    """Whether what was typed (`deployment`, `deploy`, `deployments.apps`; `svc.` of the core group) is this kind."""
    word, dot, typed_group = typed.lower().partition(".")
    if dot and typed_group != group.lower():
        return False
    singular = kind.lower()
    return _short_names.get(word, word) in (singular, plural(singular))


def plural(singular: str) -> str:
    """The plural of a kind in lower case, as Kubernetes makes it for nearly all kinds."""
    if singular.endswith(("s", "x", "z", "ch", "sh")):
        return f"{singular}es"
    if singular.endswith("y") and not singular.endswith(("ay", "ey", "oy", "uy")):
        return f"{singular[:-1]}ies"
    return f"{singular}s"


def parse(words: Iterable[str]) -> tuple[str, str]:
    """The kind and the name in `KIND/NAME` or `KIND NAME`; before it `source` may stand, as `flux` has it.

    Raises:
        UnclearNameError: when it has not that form.
    """
    words = tuple(words)
    parts = _without_source(words)
    if len(parts) == 1:
        parts = tuple(parts[0].split("/"))
    elif len(parts) > 2 or "/" in parts[0]:
        raise UnclearNameError(f"{' '.join(words)!r} names more than one thing: give one KIND/NAME at a time")
    if len(parts) != 2 or not all(parts) or any("/" in part for part in parts):
        raise UnclearNameError(
            f"{' '.join(words)!r} names nothing: give KIND/NAME, for example kustomization/apps or deployment/web"
        )
    return parts[0], parts[1]


def parse_kind(words: Iterable[str]) -> str:
    """The kind alone, before which `source` may stand.

    Raises:
        UnclearNameError: when more than a kind is there.
    """
    words = tuple(words)
    parts = _without_source(words)
    if len(parts) != 1 or "/" in parts[0] or not parts[0]:
        raise UnclearNameError(f"{' '.join(words)!r} is no kind alone: all of a kind have no name")
    return parts[0]


def _without_source(words: tuple[str, ...]) -> tuple[str, ...]:
    """What was typed, without the word `source` before it; the kind behind that by a name that counts everywhere."""
    if len(words) < 2 or words[0] not in ("source", "sources"):
        return words
    kind, slash, name = words[1].partition("/")
    return (f"{_sources_of_flux.get(kind, kind)}{slash}{name}", *words[2:])


def find(archive: Archive, words: Iterable[str], namespace: str | None, *, group: str = "") -> Subject:
    """The one thing that is named, as it is known at the archive's moment, or was before.

    A name is `KIND/NAME`, `KIND NAME`, or a whole stream's name. Sources and targets are looked for in the default
    namespace first, objects in all, where no namespace is given. Where a group is given, nothing of another is meant.

    Raises:
        NotThereError: when the log has no such thing.
        UnclearNameError: when the text names nothing, or several things.
    """
    words = tuple(words)
    if len(words) == 1 and words[0].count("/") == 4:
        return _whole(archive, words[0])
    kind, name = parse(words)
    typed = f"{kind.removesuffix('.')}/{name}"
    for known in _everything(archive, name):
        found = {
            subject.stream: subject
            for subject in map(subject_of, known)
            if subject.name == name and is_kind(kind, subject.group, subject.kind) and group in ("", subject.group)
        }
        if found:
            return _the_one(_here(archive, list(found.values()), namespace), typed, namespace)
    raise NotThereError(f"the log knows no {typed} at position {archive.position}{_alike(archive, kind, name)}")


def _alike(archive: Archive, kind: str, name: str) -> str:
    """A hint to what begins like a name: generators put a hash behind it, and controllers what makes it unique."""
    begins = f"/{name}-"
    known = {stream for streams in (_known(archive), _rendered(archive)) for stream in streams if begins in stream}
    subjects = [subject for subject in map(subject_of, sorted(known)) if is_kind(kind, subject.group, subject.kind)]
    names = list(dict.fromkeys(f"{kind}/{subject.name}" for subject in subjects if subject.name.startswith(f"{name}-")))
    if not names:
        names = _misspelt(archive, kind, name)
    if not names:
        return ""
    shown = names[:CANDIDATES_SHOWN_MAX]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"; it knows {', '.join(shown)}{more}"


def _misspelt(archive: Archive, kind: str, name: str) -> list[str]:
    """Sources and targets with nearly that name; of objects there may be too many to look."""
    subjects = map(subject_of, map(StreamName, archive.rows(CONDITIONS)))
    known = {subject.name for subject in subjects if is_kind(kind, subject.group, subject.kind)}
    return [f"{kind}/{one}" for one in difflib.get_close_matches(name, sorted(known))]


def _here(archive: Archive, found: list[Subject], namespace: str | None) -> list[Subject]:
    """Without sources and targets that were applied to other clusters, where one that is reconciled has their name."""
    conditions = archive.rows(CONDITIONS)
    here = {one.key for one in found if one.stream in conditions and namespace in (None, one.namespace)}
    return [one for one in found if one.stream in conditions or one.key not in here]


def _whole(archive: Archive, text: str) -> Subject:
    try:
        subject = subject_of(stream_name(text))
    except MalformedNameError as error:
        raise UnclearNameError(str(error)) from None
    for known in _everything(archive, subject.name):
        if subject.stream in known:
            return subject
    raise NotThereError(f"the log knows no {text} at position {archive.position}")


def _the_one(found: list[Subject], typed: str, namespace: str | None) -> Subject:
    wanted = namespace
    if wanted is None and len(found) > 1 and all(subject.is_flux for subject in found):
        wanted = default_namespace()
    narrowed = found if wanted is None else [subject for subject in found if subject.namespace in (wanted, "")]
    if len(narrowed) == 1:
        return narrowed[0]
    if not narrowed:
        places = ", ".join(sorted({subject.namespace or "no namespace" for subject in found}))
        raise NotThereError(f"there is no {typed} in namespace {wanted}; there is one in: {places}")
    shown = ", ".join(sorted(subject.stream for subject in narrowed)[:CANDIDATES_SHOWN_MAX])
    raise UnclearNameError(f"{typed} may be any of {len(narrowed)}: give --namespace, or the whole name: {shown}")


def _everything(archive: Archive, name: str) -> Iterator[Iterator[StreamName]]:
    """All of that name, the likeliest first; what costs more is looked at only if the rest does not have it."""
    wanted = f"/{name}"  # names hold no slash
    for streams in (_known(archive), _rendered(archive)):
        yield (stream for stream in streams if stream.endswith(wanted))
    yield _streams(archive, wanted)
    yield (stream for stream in _pruned(archive) if stream.endswith(wanted))


def _known(archive: Archive) -> Iterator[StreamName]:
    """What is there at the moment."""
    yield from map(StreamName, archive.rows(CONDITIONS))
    yield from map(StreamName, archive.rows(ACTUAL))


def _rendered(archive: Archive) -> Iterator[StreamName]:
    """What targets want and may not have applied."""
    for target, desired in archive.rows(DESIRED).items():
        data = archive.body(desired.objects)
        for entry in [] if data is None else msgspec.json.decode(data, type=list[list[str]]):
            yield subject_in(objects_cluster(StreamName(target), desired), ObjectId(entry[0])).stream


def _streams(archive: Archive, end: str) -> Iterator[StreamName]:
    """What was there before, and had events of its own."""
    for name in map(StreamName, archive.log.stream_names()):
        if name.endswith(end) and not is_engine(name) and archive.last(Query(stream=name)) is not None:
            yield name


def _pruned(archive: Archive) -> Iterator[StreamName]:
    """What was there before, and was only ever applied and pruned."""
    for recorded in archive.backwards(Query(types=("ObjectPruned",))):
        event = recorded.event
        if isinstance(event, ObjectPruned):
            yield stream_beside(recorded.envelope.stream, event.cluster, event.object)
