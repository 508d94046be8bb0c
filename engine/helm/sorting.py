"""From rendered templates to manifests and hooks, in the order that Helm installs them."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from tidelog.engine.helm.errors import ChartError
from tidelog.engine.helm.spec import TEST, Hook, Manifest
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError

Sorted = TypeVar("Sorted", Manifest, Hook)

HOOK: Final = "helm.sh/hook"
WEIGHT: Final = "helm.sh/hook-weight"
DELETE: Final = "helm.sh/hook-delete-policy"
OUTPUT_LOG: Final = "helm.sh/hook-output-log-policy"
_EVENTS: Final = {
    **{
        name: name
        for name in (
            "pre-install",
            "post-install",
            "pre-delete",
            "post-delete",
            "pre-upgrade",
            "post-upgrade",
            "pre-rollback",
            "post-rollback",
            TEST,
        )
    },
    "test-success": TEST,
}
INSTALL_ORDER: Final = (
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
)
_places: Final = {kind: place for place, kind in enumerate(INSTALL_ORDER)}
# Go's `\s`, and its idea of a space to trim.
_separator: Final = re.compile(r"(?:^|[\t\n\f\r ]*\n)---[\t\n\f\r ]*")
_BEFORE_SEPARATOR: Final = "\t\n\f\r "
_SPACE: Final = "".join(map(chr, (*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)))) + (
    "\u2028\u2029\u202f\u205f\u3000"
)
_METADATA: Final[Mapping[str, type]] = {"name": str, "namespace": str, "labels": dict, "annotations": dict}
_number: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
_INT_MAX: Final = 2**63
_DIGITS_MAX: Final = 4_000
"""As many as Python makes a number of."""


def joined(texts: Sequence[str]) -> list[str]:
    """The same documents as `split` gives them back once they are one text: each ends before its separator."""
    return [*(text.rstrip(_BEFORE_SEPARATOR) for text in texts[:-1]), *texts[-1:]]


def split(text: str) -> list[str]:
    """The documents of a template's output, as Helm splits them: what follows `---` in its line is content too."""
    found = _separator.split(text.lstrip(_SPACE)) if "---" in text else [text]
    return [part.lstrip(_SPACE) for part in found if part.strip(_SPACE)]


def sorted_manifests(files: Mapping[str, str]) -> tuple[tuple[Manifest, ...], tuple[Hook, ...]]:
    """Manifests, and hooks, of rendered templates (path to text).

    Raises:
        ChartError: when a document is no YAML, or not what a manifest has to be.
    """
    return sorted_documents({path: _documents(path, text) for path, text in files.items() if not _is_partial(path)})


def sorted_documents(
    files: Mapping[str, Iterable[tuple[str, KubeObject | None]]],
) -> tuple[tuple[Manifest, ...], tuple[Hook, ...]]:
    """The same of documents that are read already: each its text, and what that says.

    Raises:
        ChartError: when one is not what a manifest has to be.
    """
    manifests: list[Manifest] = []
    hooks: list[Hook] = []
    for path in sorted(files, key=str.encode):
        if _is_partial(path):
            continue
        for text, content in files[path]:
            annotations = _annotations(path, content)
            if HOOK in annotations:
                hooks += _hook(path, text, content or {}, annotations)
            else:
                manifests.append(Manifest(path, text, content))
    return tuple(_by_kind(manifests, lambda found: found.content)), tuple(_by_kind(hooks, lambda found: found.content))


def _is_partial(path: str) -> bool:
    return path.rpartition("/")[2].startswith("_")


def _documents(path: str, text: str) -> Iterator[tuple[str, KubeObject | None]]:
    return ((part, content_of(path, part)) for part in split(text))


def content_of(path: str, text: str) -> KubeObject | None:
    """What a document says; None for one of comments alone.

    Raises:
        ChartError: when it is no YAML, or no object.
    """
    try:
        found = documents(text)
    except YamlError as error:
        line = "" if error.line is None else f", line {error.line} of what it rendered"
        raise ChartError(f"{path}{line}: what the template rendered is no YAML: {error.problem}") from None
    value = found[0].value if found else None
    if value is not None and not isinstance(value, dict):
        raise ChartError(f"{path}: the template rendered a text or a list in the place of an object")
    for field, kind in _misshapen(value or {}):
        raise ChartError(f"{path}: {field} is no {'mapping' if kind is dict else 'text'}")
    return value


def _misshapen(content: KubeObject) -> Iterator[tuple[str, type]]:
    """The fields by which objects are told apart that are not what they have to be."""
    metadata = content.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        yield "metadata", dict
        return
    fields: list[tuple[str, object, type]] = [(name, content.get(name), str) for name in ("apiVersion", "kind")]
    fields += [(f"metadata.{name}", (metadata or {}).get(name), kind) for name, kind in _METADATA.items()]
    yield from ((name, kind) for name, value, kind in fields if value is not None and not isinstance(value, kind))


def _annotations(path: str, content: KubeObject | None) -> dict[str, str]:
    metadata = (content or {}).get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if annotations is None:
        return {}
    if not isinstance(annotations, dict):
        raise ChartError(f"{path}: metadata.annotations is no mapping")
    for name, value in annotations.items():
        if value is not None and not isinstance(value, str):
            raise ChartError(f"{path}: metadata.annotations: {name!r} is no text; put it in quotes")
    return {name: value or "" for name, value in annotations.items()}


def _hook(path: str, text: str, content: KubeObject, annotations: Mapping[str, str]) -> Iterable[Hook]:
    """The hook; none where it names an event that nobody knows, as in Helm."""
    names = _words(annotations[HOOK])
    if not all(name in _EVENTS for name in names):
        return ()
    metadata = content["metadata"]
    return (
        Hook(
            name=str(metadata.get("name") or ""),
            kind=str(content.get("kind") or ""),
            path=path,
            text=text,
            content=content,
            events=tuple(_EVENTS[name] for name in names),
            weight=_weight(annotations.get(WEIGHT, "")),
            delete_policies=_words(annotations[DELETE]) if DELETE in annotations else (),
            output_log_policies=_words(annotations[OUTPUT_LOG]) if OUTPUT_LOG in annotations else (),
        ),
    )


def _weight(text: str) -> int:
    """The weight of a hook; what is no number, or none of Go's, weighs nothing, as in Helm."""
    found = int(text) if len(text) < _DIGITS_MAX and _number.fullmatch(text) else 0
    return found if -_INT_MAX <= found < _INT_MAX else 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip(_SPACE).lower() for word in text.split(","))


def _by_kind(found: list[Sorted], content: Callable[[Sorted], Any]) -> list[Sorted]:
    """Known kinds in their order, then the others by name; within a kind as they came."""

    def place(one: Sorted) -> tuple[int, str]:
        kind = str((content(one) or {}).get("kind") or "")
        known = _places.get(kind)
        return (len(_places), kind) if known is None else (known, "")

    return sorted(found, key=place)
