"""What the server refuses in HorizontalPodAutoscalers (`pkg/apis/autoscaling/validation`)."""

from typing import Any, Final

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import checks, formats
from tidelog.engine.cluster.embedded.builtin.checks import needed
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import KubeObject

_SOURCES: Final = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_TARGETS: Final = ("Utilization", "Value", "AverageValue")
_WINDOW_MAX_S: Final = 3_600
_PERIOD_MAX_S: Final = 1_800


def autoscaler(obj: KubeObject) -> list[Cause]:
    """Of a HorizontalPodAutoscaler."""
    spec, found = obj.get("spec") or {}, list[Cause]()
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        found.append(causes.invalid("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most < 1:
        found.append(causes.invalid("spec.maxReplicas", most, "must be greater than 0"))
    metrics = spec.get("metrics") or ()
    if least == 0 and all(one.get("type") not in ("Object", "External") for one in metrics):
        say = "must specify at least one Object or External metric to support scaling to zero replicas"
        found.append(causes.forbidden("spec.metrics", say))
    if least is not None and most < least:
        found.append(causes.invalid("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    target, at = spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef"
    for field in ("kind", "name"):
        found += needed(target, at, field) or checks.form(target, at, field, formats.path_segment)
    version = target.get("apiVersion") or ""
    if "/" not in version and target.get("kind") != "ReplicationController":
        found.append(causes.invalid(f"{at}.apiVersion", version, "apiVersion must specify API group"))
    for index, metric in enumerate(metrics):
        found += _metric(metric, f"spec.metrics[{index}]")
    for name in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(name)
        found += [] if rules is None else _rules(rules, f"spec.behavior.{name}")
    return found


def _metric(metric: KubeObject, at: str) -> list[Cause]:
    kind, found = metric.get("type") or "", list[Cause]()
    if not kind:
        found.append(causes.required(f"{at}.type", "must specify a metric source type"))
    if kind not in _SOURCES:
        return [*found, causes.not_supported(f"{at}.type", kind, list(_SOURCES))]
    field = _SOURCES[kind]
    source: KubeObject | None = metric.get(field)
    if source is None:
        say = "must populate information for the given metric source"
        return [*found, causes.required(f"{at}.{field}", say)]
    where, target = f"{at}.{field}", source.get("target") or {}
    if kind in ("Resource", "ContainerResource"):
        found += needed(source, where, "name", detail="must specify a resource name")
        if kind == "ContainerResource":
            found += needed(source, where, "container", detail="must specify a container")
        return found + _target(target, f"{where}.target") + _of_resource(target, f"{where}.target")
    if kind == "Object":
        described = source.get("describedObject") or {}
        for name in ("kind", "name"):
            found += needed(described, f"{where}.describedObject", name)
    found += _identifier(source.get("metric") or {}, f"{where}.metric")
    return found + _target(target, f"{where}.target") + _of_source(kind, target, f"{where}.target")


def _identifier(metric: KubeObject, at: str) -> list[Cause]:
    found = needed(metric, at, "name", detail="must specify a metric name")
    return found or checks.form(metric, at, "name", formats.path_segment)


def _target(target: KubeObject, at: str) -> list[Cause]:
    kind, found = target.get("type") or "", list[Cause]()
    if not kind:
        found.append(causes.required(f"{at}.type", "must specify a metric target type"))
    if kind not in _TARGETS:
        found.append(causes.invalid(f"{at}.type", kind, "must be either Utilization, Value, or AverageValue"))
    for name in ("value", "averageValue"):
        value = target.get(name)
        if value is not None and not _is_positive(value):
            found.append(causes.invalid(f"{at}.{name}", str(value), "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        found.append(causes.invalid(f"{at}.averageUtilization", share, "must be greater than 0"))
    return found


def _is_positive(quantity: Any) -> bool:
    text = str(quantity)
    return not text.startswith("-") and any(sign in "123456789" for sign in text.partition("e")[0])


def _of_resource(target: KubeObject, at: str) -> list[Cause]:
    share, value = target.get("averageUtilization"), target.get("averageValue")
    if share is None and value is None:
        say = "must set either a target raw value or a target utilization"
        return [causes.required(f"{at}.averageUtilization", say)]
    if share is not None and value is not None:
        say = "may not set both a target raw value and a target utilization"
        return [causes.forbidden(f"{at}.averageValue", say)]
    return []


def _of_source(kind: str, target: KubeObject, at: str) -> list[Cause]:
    value, average = target.get("value"), target.get("averageValue")
    if kind == "Pods":
        say = "must specify a positive target averageValue"
        return [] if average is not None and _is_positive(average) else [causes.required(f"{at}.averageValue", say)]
    what = "value or averageValue" if kind == "Object" else "value for metric or a per-pod target"
    if value is None and average is None:
        return [causes.required(f"{at}.averageValue", f"must set either a target {what}")]
    if kind == "External" and value is not None and average is not None:
        say = "may not set both a target value for metric and a per-pod target"
        return [causes.forbidden(f"{at}.value", say)]
    return []


def _rules(rules: KubeObject, at: str) -> list[Cause]:
    found, window = list[Cause](), rules.get("stabilizationWindowSeconds")
    where = f"{at}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        found.append(causes.invalid(where, window, "must be greater than or equal to zero"))
    if window is not None and window > _WINDOW_MAX_S:
        found.append(causes.invalid(where, window, f"must be less than or equal to {_WINDOW_MAX_S}"))
    found += checks.one_of(rules, at, "selectPolicy", "Disabled", "Max", "Min")
    if not rules.get("policies"):
        found.append(causes.required(f"{at}.policies", "must specify at least one Policy"))
    for index, policy in enumerate(rules.get("policies") or ()):
        found += _policy(policy, f"{at}.policies[{index}]")
    return found


def _policy(policy: KubeObject, at: str) -> list[Cause]:
    kind, found = policy.get("type") or "", list[Cause]()
    if kind not in ("Percent", "Pods"):
        found.append(causes.not_supported(f"{at}.type", kind, ["Percent", "Pods"]))
    for name in ("value", "periodSeconds"):
        number = policy.get(name, 0)
        if number <= 0:
            found.append(causes.invalid(f"{at}.{name}", number, "must be greater than zero"))
    seconds = policy.get("periodSeconds", 0)
    if seconds > _PERIOD_MAX_S:
        say = f"must be less than or equal to {_PERIOD_MAX_S}"
        found.append(causes.invalid(f"{at}.periodSeconds", seconds, say))
    return found
