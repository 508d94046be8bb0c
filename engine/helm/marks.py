"""What Helm writes on the objects of a release, and reads there: whose they are, and whether they outlive it."""

from typing import Final

from tidelog.engine.objects.kube import KubeObject

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
HELM: Final = "Helm"
RELEASE_NAME: Final = "meta.helm.sh/release-name"
RELEASE_NAMESPACE: Final = "meta.helm.sh/release-namespace"
POLICY: Final = "helm.sh/resource-policy"
KEEP: Final = "keep"


def helm_marks(obj: KubeObject, name: str, namespace: str) -> KubeObject:
    """A copy of the object with the label and the annotations by which Helm knows its own (contract HR-115).

    Hooks get none.

    Args:
        obj: the object, as its manifest has it.
        name: of the release.
        namespace: of the release.
    """
    metadata = obj.get("metadata") or {}
    marked = {
        **metadata,
        "labels": {**(metadata.get("labels") or {}), MANAGED_BY: HELM},
        "annotations": {**(metadata.get("annotations") or {}), RELEASE_NAME: name, RELEASE_NAMESPACE: namespace},
    }
    return {**obj, "metadata": marked}


def ownership_problems(live: KubeObject, name: str, namespace: str) -> tuple[str, ...]:
    """Why a live object is none of the release's, in Helm's words; nothing when it is."""
    metadata = live.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    found = (
        ("label", labels.get(MANAGED_BY), MANAGED_BY, HELM),
        ("annotation", annotations.get(RELEASE_NAME), RELEASE_NAME, name),
        ("annotation", annotations.get(RELEASE_NAMESPACE), RELEASE_NAMESPACE, namespace),
    )
    return tuple(
        f"{what} validation error: {_problem(said, key, wanted)}" for what, said, key, wanted in found if said != wanted
    )


def belongs_to(live: KubeObject, name: str, namespace: str) -> bool:
    """Whether a live object is of the release, so that Helm takes it without being told to take over."""
    return not ownership_problems(live, name, namespace)


def is_kept(obj: KubeObject, *, at_uninstall: bool = False) -> bool:
    """Whether an object stays, by its `helm.sh/resource-policy`, when its release is done with it.

    Args:
        obj: the live one, when an upgrade no longer has it; that of the manifest at an uninstall.
        at_uninstall: whether the release is uninstalled. Helm then leaves whatever names a policy, known or not.
    """
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    return POLICY in annotations if at_uninstall else annotations.get(POLICY) == KEEP


def _problem(said: str | None, key: str, wanted: str) -> str:
    if said is None:
        return f'missing key "{key}": must be set to "{wanted}"'
    return f'key "{key}" must equal "{wanted}": current value is "{said}"'
