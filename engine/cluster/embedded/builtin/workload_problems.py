"""What the server refuses in workloads: Pods, what makes them, and the volumes that they claim."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import checks, formats, pod_problems, schedules
from tidelog.engine.cluster.embedded.builtin.checks import needed, not_negative, one_of
from tidelog.engine.cluster.embedded.builtin.scalars import amount_of
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import KubeObject

_Check: TypeAlias = Callable[[KubeObject], list[Cause]]
_ACCESS_MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_WORDS_OF_SELECTOR: Final = "`selector` does not match template `labels`"


def _pod(obj: KubeObject) -> list[Cause]:
    return pod_problems.problems(obj.get("spec") or {}, "spec", is_pod=True)


def _pod_template(obj: KubeObject) -> list[Cause]:
    return pod_problems.problems_of_template(obj.get("template"), "template")


def _deployment(obj: KubeObject) -> list[Cause]:
    spec = obj["spec"]
    found = not_negative(spec, "spec", "replicas")
    found += _selector(spec, "deployment")
    found += _selected_template(spec, "ReplicaSet")
    strategy, rolling = spec.get("strategy") or {}, (spec.get("strategy") or {}).get("rollingUpdate")
    if strategy.get("type") == "Recreate" and rolling is not None:
        say = "may not be specified when strategy `type` is 'Recreate'"
        found.append(causes.forbidden("spec.strategy.rollingUpdate", say))
    elif strategy.get("type") == "RollingUpdate":
        found += _rolling(rolling or {}, "spec.strategy.rollingUpdate")
    elif strategy.get("type") != "Recreate":
        found.append(causes.not_supported("spec.strategy", strategy, ["Recreate", "RollingUpdate"]))
    found += not_negative(spec, "spec", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        say = "must be greater than minReadySeconds"
        found.append(causes.invalid("spec.progressDeadlineSeconds", deadline, say))
    return found


def _rolling(rolling: KubeObject, path: str) -> list[Cause]:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    found = checks.amount_or_percent(unavailable, f"{path}.maxUnavailable")
    found += [one for one in checks.amount_or_percent(surge, f"{path}.maxSurge") if "100%" not in one.message]
    if unavailable in (0, "0%") and surge in (0, "0%"):
        say = "may not be 0 when `maxSurge` is 0"
        found.append(causes.invalid(f"{path}.maxUnavailable", unavailable, say))
    return found


def _replica_set(obj: KubeObject) -> list[Cause]:
    found = not_negative(obj["spec"], "spec", "replicas", "minReadySeconds")
    return found + _selector(obj["spec"], "deployment") + _selected_template(obj["spec"], "ReplicaSet")


def _daemon_set(obj: KubeObject) -> list[Cause]:
    spec = obj["spec"]
    selector, template = spec.get("selector"), spec.get("template") or {}
    has = (template.get("metadata") or {}).get("labels")
    found = checks.selector(selector, "spec.selector")
    if not checks.matches(selector, has or {}):
        found.append(causes.invalid("spec.template.metadata.labels", has, _WORDS_OF_SELECTOR))
    if selector is not None and not _says_something(selector):
        found.append(causes.invalid("spec.selector", selector, "empty selector is invalid for daemonset"))
    found += pod_problems.problems_of_template(template, "spec.template")
    found += _always(template, "spec.template.spec", "DaemonSet")
    found += not_negative(spec, "spec", "minReadySeconds")
    kind = (spec.get("updateStrategy") or {}).get("type")
    if kind not in ("OnDelete", "RollingUpdate"):
        supported = ["OnDelete", "RollingUpdate"]
        found.append(causes.not_supported("spec.updateStrategy", spec.get("updateStrategy"), supported))
    return found + not_negative(spec, "spec", "revisionHistoryLimit")


def _stateful_set(obj: KubeObject) -> list[Cause]:
    spec, found = obj["spec"], list[Cause]()
    policy = spec.get("podManagementPolicy")
    if policy not in ("OrderedReady", "Parallel"):
        found.append(causes.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete" and strategy.get("rollingUpdate") is not None:
        say = "only allowed for updateStrategy 'RollingUpdate'"
        found.append(causes.invalid("spec.updateStrategy.rollingUpdate", strategy["rollingUpdate"], say))
    elif strategy.get("type") == "RollingUpdate":
        found += not_negative(strategy.get("rollingUpdate") or {}, "spec.updateStrategy.rollingUpdate", "partition")
    elif strategy.get("type") != "OnDelete":
        found.append(causes.invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'"))
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field in ("whenDeleted", "whenScaled"):
        found += one_of(retention, "spec.persistentVolumeClaimRetentionPolicy", field, "Delete", "Retain")
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        found += _claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{index}].spec")
    found += not_negative(spec, "spec", "replicas", "minReadySeconds")
    found += checks.form(spec, "spec", "serviceName", formats.dns_label)
    found += _selector(spec, "statefulset")
    template = spec.get("template") or {}
    pod = template.get("spec") or {}
    own: list[KubeObject] = [
        {"name": (one.get("metadata") or {}).get("name"), "emptyDir": {}}
        for one in spec.get("volumeClaimTemplates") or ()
    ]
    names = {one["name"] for one in own}
    volumes = [*own, *(one for one in pod.get("volumes") or () if one.get("name") not in names)]
    seen = {**template, "spec": {**pod, "volumes": volumes, "hostname": "", "subdomain": ""}}
    return found + _selected_template({**spec, "template": seen}, "StatefulSet")


def _selector(spec: KubeObject, owner: str) -> list[Cause]:
    selector = spec.get("selector")
    if selector is None:
        return [causes.required("spec.selector")]
    found = checks.selector(selector, "spec.selector")
    if not _says_something(selector):
        found.append(causes.invalid("spec.selector", selector, f"empty selector is invalid for {owner}"))
    return found


def _says_something(selector: KubeObject) -> bool:
    return bool(selector.get("matchLabels") or selector.get("matchExpressions"))


def _selected_template(spec: KubeObject, owner: str) -> list[Cause]:
    template, selector = spec.get("template") or {}, spec.get("selector")
    has, found = (template.get("metadata") or {}).get("labels"), list[Cause]()
    if owner != "StatefulSet" and not checks.is_selector(selector):
        return [causes.invalid("spec.selector", selector, "invalid label selector")]
    if (selector is None or _says_something(selector)) and not checks.matches(selector, has or {}):
        found.append(causes.invalid("spec.template.metadata.labels", has, _WORDS_OF_SELECTOR))
    found += pod_problems.problems_of_template(template, "spec.template")
    return found + _always(template, "spec.template.spec", owner)


def _always(template: KubeObject, path: str, owner: str) -> list[Cause]:
    spec, found = template.get("spec") or {}, list[Cause]()
    if spec.get("restartPolicy") != "Always":
        found.append(causes.not_supported(f"{path}.restartPolicy", spec.get("restartPolicy", ""), ["Always"]))
    if spec.get("activeDeadlineSeconds") is not None:
        say = f"activeDeadlineSeconds in {owner} is not Supported"
        found.append(causes.forbidden(f"{path}.activeDeadlineSeconds", say))
    return found


def _job(obj: KubeObject) -> list[Cause]:
    spec = obj["spec"]
    found = _job_spec(spec, "spec")
    selector = spec.get("selector")
    if selector is None:
        found.append(causes.required("spec.selector"))
    found += checks.selector(selector, "spec.selector")
    has = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if not checks.matches(selector, has or {}):
        found.append(causes.invalid("spec.template.metadata.labels", has, _WORDS_OF_SELECTOR))
    return found


def _job_spec(spec: KubeObject, path: str) -> list[Cause]:
    numbers = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    found = not_negative(spec, path, *numbers, "backoffLimitPerIndex", "maxFailedIndexes")
    found += one_of(spec, path, "completionMode", "NonIndexed", "Indexed")
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        found.append(causes.required(f"{path}.completions", "when completion mode is Indexed"))
    if spec.get("completionMode", "NonIndexed") == "NonIndexed":
        fields = [field for field in ("backoffLimitPerIndex", "maxFailedIndexes") if spec.get(field) is not None]
        found += [
            causes.invalid(f"{path}.{field}", spec[field], "requires indexed completion mode") for field in fields
        ]
    found += pod_problems.problems_of_template(spec.get("template"), f"{path}.template")
    policy = ((spec.get("template") or {}).get("spec") or {}).get("restartPolicy")
    at = f"{path}.template.spec.restartPolicy"
    if policy in (None, "", "Always"):
        found.append(causes.required(at, 'valid values: "OnFailure", "Never"'))
    elif policy not in ("OnFailure", "Never"):
        found.append(causes.not_supported(at, policy, ["OnFailure", "Never"]))
    elif spec.get("podFailurePolicy") is not None and policy != "Never":
        found.append(causes.invalid(at, policy, 'only "Never" is supported when podFailurePolicy is specified'))
    return found


def _cron_job(obj: KubeObject) -> list[Cause]:
    spec = obj["spec"]
    found = needed(spec, "spec", "schedule")
    schedule = spec.get("schedule", "")
    if schedule and (wrong := schedules.mistake(schedule)):
        found.append(causes.invalid("spec.schedule", schedule, wrong))
    if "TZ" in schedule:
        say = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        found.append(causes.invalid("spec.schedule", schedule, say))
    found += not_negative(spec, "spec", "startingDeadlineSeconds")
    found += one_of(spec, "spec", "concurrencyPolicy", "Allow", "Forbid", "Replace")
    found += _job_spec((spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")
    found += not_negative(spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    name = obj["metadata"].get("name", "")
    if len(name) > 52:
        found.insert(0, causes.invalid("metadata.name", name, "must be no more than 52 characters"))
    return found


def _claim(obj: KubeObject) -> list[Cause]:
    return _claim_spec(obj.get("spec") or {}, "spec")


def _claim_spec(spec: KubeObject, path: str) -> list[Cause]:
    modes = spec.get("accessModes") or []
    found = [] if modes else [causes.required(f"{path}.accessModes", "at least 1 access mode is required")]
    found += checks.selector(spec.get("selector"), f"{path}.selector")
    for mode in modes:
        if mode not in _ACCESS_MODES:
            found.append(causes.not_supported(f"{path}.accessModes", mode, list(_ACCESS_MODES)))
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        say = "may not use ReadWriteOncePod with other access modes"
        found.append(causes.forbidden(f"{path}.accessModes", say))
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if size is None:
        found.append(causes.required(f"{path}.resources[storage]"))
    elif amount_of(str(size)) <= 0:
        found.append(causes.invalid(f"{path}.resources[storage]", str(size), "must be greater than zero"))
    found += checks.form(spec, path, "storageClassName", formats.dns_subdomain)
    return found + one_of(spec, path, "volumeMode", "Block", "Filesystem")


CHECKS: Final[Mapping[tuple[str, str], _Check]] = {
    ("", "Pod"): _pod,
    ("", "PodTemplate"): _pod_template,
    ("", "PersistentVolumeClaim"): _claim,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
}
