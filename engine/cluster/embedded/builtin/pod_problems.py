"""What the server refuses in the spec of a pod or of a template of one."""

from typing import Any, Final

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import checks, formats
from tidelog.engine.cluster.embedded.builtin.metadata_problems import NOT_NEGATIVE, annotations, labels
from tidelog.engine.cluster.embedded.builtin.pods import containers_of
from tidelog.engine.cluster.embedded.builtin.scalars import QUANTITY_FORM, amount_of
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import KubeObject

HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_NATIVE_RESOURCES: Final = ("cpu", "memory", "ephemeral-storage", "storage")
_MODES: Final = 0o777
_MODE_SAID: Final = "must be a number between 0 and 0777 (octal), both inclusive"
_PATH_FIELDS: Final = frozenset(
    {"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"}
    | {"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}
)


def problems_of_template(template: KubeObject | None, path: str) -> list[Cause]:
    """Of a template: its labels, annotations and spec."""
    metadata = (template or {}).get("metadata") or {}
    found = labels(metadata.get("labels"), f"{path}.labels")
    found += annotations(metadata.get("annotations"), f"{path}.annotations")
    found += problems((template or {}).get("spec") or {}, f"{path}.spec")
    if ((template or {}).get("spec") or {}).get("ephemeralContainers"):
        say = "ephemeral containers not allowed in pod template"
        found.append(causes.forbidden(f"{path}.spec.ephemeralContainers", say))
    return found


def problems(spec: KubeObject, path: str, *, is_pod: bool = False) -> list[Cause]:
    """Of a pod's spec, in the order in which the server says it."""
    found, volumes = _volumes(spec, f"{path}.volumes")
    containers = containers_of(spec)
    names: set[str] = set()
    if not containers:
        found.append(causes.required(f"{path}.containers"))
    for index, container in enumerate(containers):
        at = f"{path}.containers[{index}]"
        found += [*_container(container, volumes, at), *_unique(container, names, at), *_handlers(container, at)]
    found += _host_ports(containers, f"{path}.containers")
    for index, container in enumerate(containers_of(spec, "initContainers")):
        at = f"{path}.initContainers[{index}]"
        found += [*_container(container, volumes, at), *_unique(container, names, at)]
        found += _handlers(container, at) if container.get("restartPolicy") == "Always" else _no_probes(container, at)
    found += _host_network(spec, path, is_pod=is_pod)
    found += checks.one_of(spec, path, "restartPolicy", "Always", "OnFailure", "Never")
    found += checks.one_of(spec, path, "dnsPolicy", "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
    found += labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    found += _affinity(spec.get("affinity") or {}, f"{path}.affinity")
    if spec.get("dnsPolicy") == "None" and not (spec.get("dnsConfig") or {}).get("nameservers"):
        say = "must provide at least one DNS nameserver when `dnsPolicy` is None"
        found.append(causes.required(f"{path}.dnsConfig.nameservers", say))
    found += _spread(spec, f"{path}.topologySpreadConstraints")
    found += checks.form(spec, path, "serviceAccountName", formats.dns_subdomain)
    found += checks.form(spec, path, "nodeName", formats.dns_subdomain)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline < 2**31:
        say = f"must be between 1 and {2**31 - 1}, inclusive"
        found.append(causes.invalid(f"{path}.activeDeadlineSeconds", deadline, say))
    found += checks.form(spec, path, "hostname", formats.dns_label)
    found += checks.form(spec, path, "subdomain", formats.dns_label)
    found += _tolerations(spec, f"{path}.tolerations")
    found += checks.form(spec, path, "priorityClassName", formats.dns_subdomain)
    found += checks.form(spec, path, "runtimeClassName", formats.dns_subdomain)
    return found + checks.one_of(spec, path, "preemptionPolicy", "PreemptLowerPriority", "Never")


def _unique(container: KubeObject, names: set[str], path: str) -> list[Cause]:
    name = container.get("name", "")
    found = [causes.duplicate(f"{path}.name", name)] if name in names else []
    names.add(name)
    return found


def _container(container: KubeObject, volumes: set[str], path: str) -> list[Cause]:
    found = checks.needed(container, path, "name") or checks.form(container, path, "name", formats.dns_label)
    found += checks.needed(container, path, "image")
    found += checks.one_of(container, path, "terminationMessagePolicy", "File", "FallbackToLogsOnError")
    found += _ports(container, f"{path}.ports")
    found += _environment(container, path)
    found += _mounts(container, volumes, f"{path}.volumeMounts")
    found += checks.one_of(container, path, "imagePullPolicy", "Always", "IfNotPresent", "Never")
    return found + resources(container.get("resources") or {}, f"{path}.resources")


def _ports(container: KubeObject, path: str) -> list[Cause]:
    found, names = list[Cause](), set[str]()
    for index, port in enumerate(container.get("ports") or ()):
        at, name = f"{path}[{index}]", port.get("name")
        if name:
            wrong = [causes.invalid(f"{at}.name", name, one) for one in formats.port_name(name)]
            found += wrong or ([causes.duplicate(f"{at}.name", name)] if name in names else [])
            names.add(name)
        found += checks.needed(port, at, "containerPort")
        for field in ("containerPort", "hostPort"):
            value = port.get(field)
            found += (
                [causes.invalid(f"{at}.{field}", value, one) for one in formats.port_number(value)] if value else []
            )
        found += checks.one_of(port, at, "protocol", *PROTOCOLS)
    return found


def _host_ports(containers: list[KubeObject], path: str) -> list[Cause]:
    found, taken = list[Cause](), set[str]()
    for index, container in enumerate(containers):
        for number, port in enumerate(container.get("ports") or ()):
            if port.get("hostPort"):
                said = f"{port.get('protocol')}/{port.get('hostIP', '')}/{port['hostPort']}"
                if said in taken:
                    found.append(causes.duplicate(f"{path}[{index}].ports[{number}].hostPort", said))
                taken.add(said)
    return found


def _environment(container: KubeObject, path: str) -> list[Cause]:
    found: list[Cause] = []
    for index, variable in enumerate(container.get("env") or ()):
        at = f"{path}.env[{index}]"
        found += checks.needed(variable, at, "name") or checks.form(variable, at, "name", formats.variable_name)
        if variable.get("valueFrom") is not None:
            found += _value_from(variable, f"{at}.valueFrom")
    for index, source in enumerate(container.get("envFrom") or ()):
        at = f"{path}.envFrom"
        found += checks.form(source, f"{at}[{index}]", "prefix", formats.variable_name)
        kinds = [one for one in ("configMapRef", "secretRef") if source.get(one) is not None]
        for kind in kinds:
            found += checks.needed(source[kind], f"{at}.{kind}", "name")
        if not kinds:
            found.append(causes.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(kinds) > 1:
            found.append(causes.invalid(at, "", "may not have more than one field specified at a time"))
    return found


def _value_from(variable: KubeObject, path: str) -> list[Cause]:
    source, found = variable["valueFrom"], list[Cause]()
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if source.get(kind) is not None:
            found += checks.needed(source[kind], f"{path}.{kind}", "name", "key")
            found += checks.form(source[kind], f"{path}.{kind}", "key", formats.config_key)
    if source.get("fieldRef") is not None:
        at, field = f"{path}.fieldRef.fieldPath", source["fieldRef"].get("fieldPath", "")
        if not field:
            found.append(causes.required(at))
        elif not (field in _PATH_FIELDS or field.startswith(("metadata.annotations[", "metadata.labels["))):
            found.append(causes.invalid(at, field, _unknown_path(field, at)))
    if source.get("resourceFieldRef") is not None:
        found += checks.needed(source["resourceFieldRef"], f"{path}.resourceFieldRef", "resource")
    if not source:
        kinds = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        found.append(causes.invalid(path, "", f"must specify one of: {kinds}"))
    elif variable.get("value"):
        found.append(causes.invalid(path, "", "may not be specified when `value` is not empty"))
    elif len(source) > 1:
        found.append(causes.invalid(path, "", "may not have more than one field specified at a time"))
    return found


def _unknown_path(field: str, path: str) -> str:
    return f"error converting fieldPath: field label not supported: {field}" if path else field


def _mounts(container: KubeObject, volumes: set[str], path: str) -> list[Cause]:
    found, paths = list[Cause](), set[str]()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        at, name, where = f"{path}[{index}]", mount.get("name", ""), mount.get("mountPath", "")
        found += checks.needed(mount, at, "name")
        if name not in volumes:
            found.append(Cause(causes.NOT_FOUND, f"{at}.name", f"Not found: {causes.shown(name)}"))
        found += checks.needed(mount, at, "mountPath")
        if where in paths:
            found.append(causes.invalid(f"{at}.mountPath", where, "must be unique"))
        paths.add(where)
        if mount.get("subPath", "").startswith("/"):
            found.append(causes.invalid(f"{path}.subPath", mount["subPath"], "must be a relative path"))
        if ".." in mount.get("subPath", "").split("/"):
            found.append(causes.invalid(f"{path}.subPath", mount["subPath"], "must not contain '..'"))
    return found


def resources(said: KubeObject, path: str) -> list[Cause]:
    """Of requests and limits: amounts that are, and no request above its limit."""
    found: list[Cause] = []
    limits, requests = said.get("limits") or {}, said.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            at = f"{path}.{field}[{name}]"
            found += [causes.invalid(at, name, one) for one in formats.qualified_name(name)]
            if "/" not in name and name not in _NATIVE_RESOURCES and not name.startswith("hugepages-"):
                found.append(causes.invalid(at, name, "must be a standard resource type or fully qualified"))
                found.append(causes.invalid(at, name, "must be a standard resource for containers"))
            if QUANTITY_FORM.match(str(amount)) and amount_of(str(amount)) < 0:
                found.append(causes.invalid(at, str(amount), NOT_NEGATIVE))
    for name, amount in requests.items():
        if name in limits and amount_of(str(amount)) > amount_of(str(limits[name])):
            say = f"must be less than or equal to {name} limit of {limits[name]}"
            found.append(causes.invalid(f"{path}.requests", str(amount), say))
        elif name in limits and amount_of(str(amount)) != amount_of(str(limits[name])) and "/" in name:
            say = f"must be equal to {name} limit of {limits[name]}"
            found.append(causes.invalid(f"{path}.requests", str(amount), say))
    return found


def _handlers(container: KubeObject, path: str) -> list[Cause]:
    found: list[Cause] = []
    for hook in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(hook)
        if handler is not None:
            found += _handler(handler, f"{path}.lifecycle.{hook}")
    for name in PROBES:
        probe, at = container.get(name), f"{path}.{name}"
        if probe is None:
            continue
        found += _handler(probe, at)
        numbers = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
        found += checks.not_negative(probe, at, *numbers)
        grace = probe.get("terminationGracePeriodSeconds")
        if grace is not None and grace <= 0:
            found.append(causes.invalid(f"{at}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
        if name != "readinessProbe" and probe.get("successThreshold") != 1:
            found.append(causes.invalid(f"{at}.successThreshold", probe.get("successThreshold", 0), "must be 1"))
    return found


def _handler(handler: KubeObject, path: str) -> list[Cause]:
    kinds = [one for one in HANDLERS if handler.get(one) is not None]
    found = [causes.forbidden(f"{path}.{one}", "may not specify more than 1 handler type") for one in kinds[1:]]
    if not kinds:
        return [causes.required(path, "must specify a handler type")]
    first, at = handler[kinds[0]], f"{path}.{kinds[0]}"
    if kinds[0] == "exec":
        found += checks.needed(first, at, "command")
    if kinds[0] in ("httpGet", "tcpSocket"):
        found += checks.port_or_name(first.get("port", 0), f"{at}.port")
    if kinds[0] == "httpGet":
        found += checks.one_of(first, at, "scheme", "HTTP", "HTTPS")
    if kinds[0] == "grpc":
        found += checks.port_or_name(first.get("port", 0), f"{at}.port")
    return found


def _no_probes(container: KubeObject, path: str) -> list[Cause]:
    say = "may not be set for init containers without restartPolicy=Always"
    fields = [one for one in ("lifecycle", *PROBES) if container.get(one) is not None]
    return [causes.forbidden(f"{path}.{one}", say) for one in fields]


def _host_network(spec: KubeObject, path: str, *, is_pod: bool) -> list[Cause]:
    """Of a template, a port of the host that is left out will be filled in for its pods."""
    if not spec.get("hostNetwork"):
        return []
    say = "must match `containerPort` when `hostNetwork` is true"
    return [
        causes.invalid(f"{path}.containers[{index}].ports[{number}].hostPort", port.get("hostPort", 0), say)
        for index, container in enumerate(containers_of(spec))
        for number, port in enumerate(container.get("ports") or ())
        if (is_pod or port.get("hostPort")) and port.get("hostPort") != port.get("containerPort")
    ]


def _volumes(spec: KubeObject, path: str) -> tuple[list[Cause], set[str]]:
    found, names = list[Cause](), set[str]()
    for index, volume in enumerate(spec.get("volumes") or ()):
        at, name = f"{path}[{index}]", volume.get("name", "")
        wrong = _volume(volume, at)
        wrong += checks.needed(volume, at, "name") or checks.form(volume, at, "name", formats.dns_label)
        if name in names:
            wrong.append(causes.duplicate(f"{at}.name", name))
        if not wrong:
            names.add(name)
        found += wrong
    return found, names


def _volume(volume: KubeObject, path: str) -> list[Cause]:
    kinds = [one for one in volume if one != "name"]
    if not kinds:
        return [causes.required(path, "must specify a volume type")]
    order = [one for one in _VOLUMES if one in kinds] + [one for one in kinds if one not in _VOLUMES]
    kind, *more = order
    found = [causes.forbidden(f"{path}.{one}", "may not specify more than 1 volume type") for one in more]
    at, source = f"{path}.{kind}", volume[kind] or {}
    found += checks.needed(source, at, *_VOLUMES.get(kind, ()))
    mode = source.get("defaultMode")
    if mode is not None and not 0 <= mode <= _MODES:
        found.append(causes.invalid(f"{at}.defaultMode", mode, _MODE_SAID))
    if kind in ("secret", "configMap"):
        for index, item in enumerate(source.get("items") or ()):
            found += _item(item, f"{at}.items[{index}]")
    return found


_VOLUMES: Final[dict[str, tuple[str, ...]]] = {
    "emptyDir": (),
    "hostPath": ("path",),
    "secret": ("secretName",),
    "nfs": ("server", "path"),
    "persistentVolumeClaim": ("claimName",),
    "downwardAPI": (),
    "configMap": ("name",),
    "projected": (),
    "csi": ("driver",),
    "ephemeral": ("volumeClaimTemplate",),
    "image": (),
}
"""The kinds of volumes in the order in which the server looks for them, with what they need."""


def _item(item: KubeObject, path: str) -> list[Cause]:
    found = checks.needed(item, path, "key", "path")
    where = item.get("path", "")
    if where.startswith("/"):
        found.append(causes.invalid(f"{path}.path", where, "must be a relative path"))
    if ".." in where.split("/"):
        found.append(causes.invalid(f"{path}.path", where, "must not contain '..'"))
    mode = item.get("mode")
    if mode is not None and not 0 <= mode <= _MODES:
        found.append(causes.invalid(f"{path}.mode", mode, _MODE_SAID))
    return found


def _affinity(affinity: KubeObject, path: str) -> list[Cause]:
    found: list[Cause] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        said = affinity.get(kind) or {}
        field = "requiredDuringSchedulingIgnoredDuringExecution"
        for index, term in enumerate(said.get(field) or ()):
            found += _term(term, f"{path}.{kind}.{field}[{index}]")
        field = "preferredDuringSchedulingIgnoredDuringExecution"
        for index, preferred in enumerate(said.get(field) or ()):
            at = f"{path}.{kind}.{field}[{index}]"
            if not 1 <= preferred.get("weight", 0) <= 100:
                found.append(causes.invalid(f"{at}.weight", preferred.get("weight", 0), "must be in the range 1-100"))
            found += _term(preferred.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm")
    return found


def _term(term: KubeObject, path: str) -> list[Cause]:
    found = checks.selector(term.get("labelSelector"), f"{path}.labelSelector")
    found += checks.selector(term.get("namespaceSelector"), f"{path}.namespaceSelector")
    key = term.get("topologyKey", "")
    if not key:
        found.append(causes.required(f"{path}.topologyKey", "can not be empty"))
    return found + [causes.invalid(f"{path}.topologyKey", key, one) for one in formats.qualified_name(key)]


def _spread(spec: KubeObject, path: str) -> list[Cause]:
    found: list[Cause] = []
    for index, one in enumerate(spec.get("topologySpreadConstraints") or ()):
        at = f"{path}[{index}]"
        if one.get("maxSkew", 0) <= 0:
            found.append(causes.invalid(f"{at}.maxSkew", one.get("maxSkew", 0), "must be greater than zero"))
        found += checks.needed(one, at, "topologyKey", detail="can not be empty")
        if one.get("whenUnsatisfiable") not in ("DoNotSchedule", "ScheduleAnyway"):
            supported = ["DoNotSchedule", "ScheduleAnyway"]
            found.append(causes.not_supported(f"{at}.whenUnsatisfiable", one.get("whenUnsatisfiable", ""), supported))
        found += checks.selector(one.get("labelSelector"), f"{at}.labelSelector")
    return found


def _tolerations(spec: KubeObject, path: str) -> list[Cause]:
    found: list[Cause] = []
    for index, one in enumerate(spec.get("tolerations") or ()):
        at = f"{path}[{index}]"
        found += checks.form(one, at, "key", formats.qualified_name)
        operator = one.get("operator", "")
        if not one.get("key") and operator != "Exists":
            say = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            found.append(causes.invalid(f"{at}.operator", operator, say))
        if one.get("tolerationSeconds") is not None and one.get("effect") != "NoExecute":
            say = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            found.append(causes.invalid(f"{at}.effect", one.get("effect", ""), say))
        if operator == "Exists" and one.get("value"):
            say = "value must be empty when `operator` is 'Exists'"
            found.append(causes.invalid(f"{at}.operator", one["value"], say))
        elif operator not in ("", "Equal", "Exists"):
            found.append(causes.not_supported(f"{at}.operator", operator, ["Equal", "Exists"]))
        found += checks.one_of(one, at, "effect", "NoSchedule", "PreferNoSchedule", "NoExecute")
    return found


def changed_more_than_may(new: KubeObject, old: KubeObject) -> list[Cause]:
    """Of a pod that exists only some fields can be changed."""
    found: list[Cause] = []
    for field in ("containers", "initContainers"):
        if len(containers_of(new, field)) != len(containers_of(old, field)):
            say = "pod updates may not add or remove containers"
            return [causes.forbidden(f"spec.{field}", say)]
    kept = [_said(one) for one in new.get("tolerations") or ()]
    if any(_said(one) not in kept for one in old.get("tolerations") or ()):
        say = "existing toleration can not be modified except its tolerationSeconds"
        found.append(causes.forbidden("spec.tolerations", say))
    deadline, was = new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds")
    if deadline is None and was is not None:
        say = "must not update from a positive integer to nil value"
        found.append(causes.invalid("spec.activeDeadlineSeconds", None, say))
    elif deadline is not None and was is not None and deadline > was:
        say = "must be less than or equal to previous value"
        return [*found, causes.invalid("spec.activeDeadlineSeconds", deadline, say)]
    if _without_changeable(new) != _without_changeable(old):
        fields = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
        fields += "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` "
        fields += "(allow it to be set to 1 if it was previously negative)"
        found.append(causes.forbidden("spec", f"pod updates may not change fields other than {fields}"))
    return found


def _said(toleration: KubeObject) -> KubeObject:
    return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}


def _without_changeable(spec: KubeObject) -> Any:
    kept = {k: v for k, v in spec.items() if k not in ("activeDeadlineSeconds", "tolerations", "schedulingGates")}
    for field in ("containers", "initContainers"):
        kept[field] = [{k: v for k, v in one.items() if k != "image"} for one in containers_of(spec, field)]
    return kept
