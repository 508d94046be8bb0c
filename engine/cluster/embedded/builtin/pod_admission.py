"""What admission gives every new pod: the token of its service account, a priority, tolerations."""

import hashlib
from typing import Final

from tidelog.engine.cluster.embedded.builtin.pods import containers_of
from tidelog.engine.objects.kube import KubeObject

TOKEN_FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
_TOLERATED_S: Final = 300
_EVICTED: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_MIRROR: Final = "kubernetes.io/config.mirror"
SYSTEM_PRIORITIES: Final = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}


def admit_pod(pod: KubeObject) -> None:
    """Fills in, in place, what the plugins ServiceAccount, Priority and DefaultTolerationSeconds do."""
    spec = pod["spec"]
    if _MIRROR not in (pod["metadata"].get("annotations") or {}):
        spec["serviceAccountName"] = spec["serviceAccount"] = spec.get("serviceAccountName") or "default"
        if spec.get("automountServiceAccountToken", True):
            _mount_token(pod)
    if spec.get("priority") is None:
        spec["priority"] = SYSTEM_PRIORITIES.get(spec.get("priorityClassName", ""), 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerate(spec)


def _mount_token(pod: KubeObject) -> None:
    spec = pod["spec"]
    without = [
        container
        for container in [*containers_of(spec, "initContainers"), *containers_of(spec)]
        if all(mount.get("mountPath") != TOKEN_FOLDER for mount in container.get("volumeMounts") or ())
    ]
    if not without:
        return
    name = f"kube-api-access-{_suffix(pod)}"
    for container in without:
        mount = {"name": name, "readOnly": True, "mountPath": TOKEN_FOLDER}
        container["volumeMounts"] = [*(container.get("volumeMounts") or ()), mount]
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    volume = {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}
    spec["volumes"] = [*(spec.get("volumes") or ()), volume]


def tolerate(spec: KubeObject) -> None:
    """Every pod stays for a while on a node that is not ready; said on updates, too."""
    said = spec.get("tolerations") or []
    missing = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _TOLERATED_S}
        for key in _EVICTED
        if not any(one.get("key", "") in ("", key) and one.get("effect", "") in ("", "NoExecute") for one in said)
    ]
    if missing:
        spec["tolerations"] = [*said, *missing]


def _suffix(pod: KubeObject) -> str:
    digest = hashlib.sha256(str(pod["metadata"].get("uid", "")).encode()).digest()
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:5])
