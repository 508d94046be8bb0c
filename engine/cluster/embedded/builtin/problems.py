"""What the server refuses, with its causes, in its words."""

from tidelog.engine.cluster.embedded.builtin import kind_problems, metadata_problems, update_problems
from tidelog.engine.cluster.embedded.builtin.defaults import GroupKind
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import KubeObject

_ONLY_CHANGES: frozenset[GroupKind] = frozenset(
    {("storage.k8s.io", "StorageClass"), ("scheduling.k8s.io", "PriorityClass"), ("node.k8s.io", "RuntimeClass")}
)
"""Kinds of which an update is asked only what has changed."""


def problems_on_create(kind: GroupKind, obj: KubeObject) -> list[Cause]:
    """Why a new object, prepared, is invalid; empty when it is not."""
    return metadata_problems.problems(kind, obj) + kind_problems.problems(kind, obj)


def problems_on_update(kind: GroupKind, new: KubeObject, old: KubeObject) -> list[Cause]:
    """Why an object, prepared, may not take the place of `old`; empty when it may."""
    found = metadata_problems.problems_of_update(kind, new, old)
    if kind not in _ONLY_CHANGES:
        found += [one for one in kind_problems.problems(kind, new) if not one.field.startswith("metadata.")]
    return found + [one for one in update_problems.problems(kind, new, old) if one not in found]


def problems_on_status_update(kind: GroupKind, new: KubeObject, old: KubeObject) -> list[Cause]:
    """Why an object of which only the status is written, prepared, may not take the place of `old`."""
    return metadata_problems.problems_of_update(kind, new, old, of_status=True)
