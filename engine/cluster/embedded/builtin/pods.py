"""Pods: what is filled in for a pod and not for a template of one, and its class of service."""

from typing import Any, Final

from tidelog.engine.cluster.embedded.builtin.scalars import amount_of, total
from tidelog.engine.objects.kube import KubeObject

_QUALITY_RESOURCES: Final = ("cpu", "memory")
_OVERCOMMITTED: Final = ("cpu", "memory")


def pull_policy(image: str) -> str:
    """What an image without a policy gets: the tag `latest` is pulled again each time."""
    name, digest, _ = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if tag == "latest" or not (tag or digest) else "IfNotPresent"


def default_pod(pod: KubeObject) -> None:
    """What only a pod gets: requests as its limits, host ports of the host's network."""
    spec = pod.setdefault("spec", {})
    spec.setdefault("enableServiceLinks", True)
    containers = [*containers_of(spec), *containers_of(spec, "initContainers")]
    for container in containers:
        _request_limits(container)
        if spec.get("hostNetwork"):
            for port in container.get("ports") or ():
                port["hostPort"] = port.get("hostPort") or port.get("containerPort", 0)
    if isinstance(spec.get("resources"), dict):
        _default_pod_requests(spec["resources"], spec)


def containers_of(spec: KubeObject, field: str = "containers") -> list[KubeObject]:
    """The containers of a pod's spec."""
    return [one for one in spec.get(field) or () if isinstance(one, dict)]


def quality_of_service(spec: KubeObject) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`, by what its containers request (`k8s.io/component-helpers`, qos)."""
    whole = spec.get("resources")
    asked = [whole] if whole is not None else [one.get("resources") or {} for one in _all(spec)]
    said = [
        (one, field, name)
        for one in asked
        for field in ("requests", "limits")
        for name, amount in (one.get(field) or {}).items()
        if name in _QUALITY_RESOURCES and amount_of(str(amount)) > 0
    ]
    if not said:
        return "BestEffort"
    is_guaranteed = all(
        {name for name, amount in (one.get("limits") or {}).items() if amount_of(str(amount)) > 0}
        >= set(_QUALITY_RESOURCES)
        and all(
            _same((one.get("requests") or {}).get(name), (one.get("limits") or {}).get(name))
            for name in _QUALITY_RESOURCES
        )
        for one in asked
    )
    return "Guaranteed" if is_guaranteed else "Burstable"


def _all(spec: KubeObject) -> list[KubeObject]:
    return [*containers_of(spec), *containers_of(spec, "initContainers")]


def _same(one: Any, other: Any) -> bool:
    return one is not None and other is not None and amount_of(str(one)) == amount_of(str(other))


def _request_limits(container: KubeObject) -> None:
    resources = container.get("resources")
    if isinstance(resources, dict) and resources.get("limits") is not None:
        resources["requests"] = {**resources["limits"], **(resources.get("requests") or {})}


def _default_pod_requests(resources: KubeObject, spec: KubeObject) -> None:
    """Of a whole pod: what its containers request together, and else its limits."""
    limits = resources.get("limits") or {}
    if not limits:
        return
    asked: dict[str, list[str]] = {}
    lasting = [one for one in containers_of(spec, "initContainers") if one.get("restartPolicy") == "Always"]
    for one in (*containers_of(spec), *lasting):
        for name, amount in ((one.get("resources") or {}).get("requests") or {}).items():
            asked.setdefault(name, []).append(str(amount))
    sums = {name: total(amounts) for name, amounts in asked.items() if name in _OVERCOMMITTED}
    resources["requests"] = {**limits, **sums, **(resources.get("requests") or {})}
