"""What the server refuses in each kind, beside its metadata."""

import base64
import itertools
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Final, TypeAlias

import msgspec

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import (
    autoscaler_problems,
    checks,
    cluster_problems,
    formats,
    network_problems,
    pod_problems,
    services,
    workload_problems,
)
from tidelog.engine.cluster.embedded.builtin.checks import needed, one_of
from tidelog.engine.cluster.embedded.builtin.metadata_problems import labels, too_long
from tidelog.engine.cluster.embedded.builtin.pod_admission import SYSTEM_PRIORITIES
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import RBAC, KubeObject

_Check: TypeAlias = Callable[[KubeObject], list[Cause]]
DATA_BYTES: Final = 1024 * 1024


def problems(kind: tuple[str, str], obj: KubeObject) -> list[Cause]:
    """Of an object, new or changed."""
    own = _CHECKS.get(kind)
    return own(obj) if own is not None else []


def _config_map(obj: KubeObject) -> list[Cause]:
    data, binary, found = obj.get("data") or {}, obj.get("binaryData") or {}, list[Cause]()
    for key in data:
        found += [causes.invalid(f"data[{key}]", key, one) for one in formats.config_key(key)]
        if key in binary:
            found.append(causes.invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    for key in binary:
        found += [causes.invalid(f"binaryData[{key}]", key, one) for one in formats.config_key(key)]
    if sum(len(value.encode()) for value in data.values()) + _size(binary) > DATA_BYTES:
        found.append(too_long("", DATA_BYTES))
    return found


def _size(data: Mapping[str, str]) -> int:
    return sum(len(value) * 3 // 4 - value.count("=") for value in data.values())


def _secret(obj: KubeObject) -> list[Cause]:
    data, found = obj.get("data") or {}, list[Cause]()
    for key in data:
        found += [causes.invalid(f"data[{key}]", key, one) for one in formats.config_key(key)]
    if _size(data) > DATA_BYTES:
        found.append(too_long("data", DATA_BYTES))
    match obj.get("type"):
        case "kubernetes.io/service-account-token":
            name = "kubernetes.io/service-account.name"
            if not (obj["metadata"].get("annotations") or {}).get(name):
                found.append(causes.required(f"metadata.annotations[{name}]"))
        case "kubernetes.io/dockercfg":
            found += _document(data, ".dockercfg")
        case "kubernetes.io/dockerconfigjson":
            found += _document(data, ".dockerconfigjson")
        case "kubernetes.io/basic-auth" if not data.keys() & {"username", "password"}:
            found += [causes.required("data[username]"), causes.required("data[password]")]
        case "kubernetes.io/ssh-auth" if not data.get("ssh-privatekey"):
            found.append(causes.required("data[ssh-privatekey]"))
        case "kubernetes.io/tls":
            found += [causes.required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
        case _:
            pass
    return found


def _document(data: Mapping[str, str], key: str) -> list[Cause]:
    if key not in data:
        return [causes.required(f"data[{key}]")]
    try:
        msgspec.json.decode(base64.b64decode(data[key]), type=dict[str, object])
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError):
        return [causes.invalid(f"data[{key}]", "<secret contents redacted>", "unexpected end of JSON input")]
    return []


def _service(obj: KubeObject) -> list[Cause]:
    spec = obj["spec"]
    ports, kind = spec.get("ports") or [], spec.get("type")
    is_headless = spec.get("clusterIP") == services.HEADLESS
    if services.needs_two_families(spec):
        return _not_dual(spec)
    if services.needs_ports(spec) and (wrong := _node_ports(ports)):
        return wrong
    found: list[Cause] = []
    if not ports and not is_headless and kind != "ExternalName":
        found.append(causes.required("spec.ports"))
    if is_headless and kind in ("LoadBalancer", "NodePort"):
        found.append(causes.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        found += _external_name(spec)
    found += _service_ports(ports)
    found += labels(spec.get("selector"), "spec.selector")
    found += one_of(spec, "spec", "sessionAffinity", "ClientIP", "None")
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if spec.get("sessionAffinity") == "ClientIP" and not 0 < (seconds or 0) <= 86400:
        say = "must be greater than 0 and less than 86400"
        found.append(causes.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", seconds, say))
    found += _cluster_addresses(spec) if kind != "ExternalName" else []
    for index, address in enumerate(spec.get("externalIPs") or ()):
        found += _address(address, f"spec.externalIPs[{index}]")
    found += one_of(spec, "spec", "type", "ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if kind == "ClusterIP":
        say = "may not be used when `type` is 'ClusterIP'"
        found += [causes.forbidden(f"spec.ports[{i}].nodePort", say) for i, p in enumerate(ports) if p.get("nodePort")]
    found += _duplicate_ports(ports)
    for field in ("loadBalancerSourceRanges", "allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if kind != "LoadBalancer" and spec.get(field) not in (None, []):
            path = "LoadBalancerSourceRanges" if field == "loadBalancerSourceRanges" else field
            found.append(causes.forbidden(f"spec.{path}", "may only be used when `type` is 'LoadBalancer'"))
    policy = spec.get("externalTrafficPolicy")
    if policy and not services.is_external(spec):
        say = "may only be set for externally-accessible services"
        found.append(causes.invalid("spec.externalTrafficPolicy", policy, say))
    found += one_of(spec, "spec", "externalTrafficPolicy", "Cluster", "Local")
    return found + one_of(spec, "spec", "internalTrafficPolicy", "Cluster", "Local")


def _node_ports(ports: list[KubeObject]) -> list[Cause]:
    """The first that nobody can be given, which is told before anything else is looked at."""
    given = services.NODE_PORTS
    say = f"provided port is not in the valid range. The range of valid ports is {given[0]}-{given[-1]}"
    wrong = (
        causes.invalid(f"spec.ports[{index}].nodePort", port["nodePort"], say)
        for index, port in enumerate(ports)
        if port.get("nodePort") and port["nodePort"] not in given
    )
    return list(itertools.islice(wrong, 1))


def _not_dual(spec: KubeObject) -> list[Cause]:
    """The cluster has IPv4 only, which is told before anything else is looked at."""
    say = "this cluster is not configured for dual-stack services"
    found = [causes.invalid("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], say)]
    families = enumerate(spec.get("ipFamilies") or ())
    say = "not configured on this cluster"
    return found + [causes.invalid(f"spec.ipFamilies[{i}]", one, say) for i, one in families if one != "IPv4"]


def _external_name(spec: KubeObject) -> list[Cause]:
    fields = [field for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy") if spec.get(field)]
    found = [causes.forbidden(f"spec.{field}", "may not be set for ExternalName services") for field in fields]
    name = str(spec.get("externalName", "")).removesuffix(".")
    if not name:
        return [*found, causes.required("spec.externalName")]
    return found + [causes.invalid("spec.externalName", name, one) for one in formats.dns_subdomain(name)]


def _service_ports(ports: list[KubeObject]) -> list[Cause]:
    found, names = list[Cause](), set[str]()
    for index, port in enumerate(ports):
        at, name = f"spec.ports[{index}]", port.get("name", "")
        if name:
            found += checks.form(port, at, "name", formats.dns_label)
            found += [causes.duplicate(f"{at}.name", name)] if name in names else []
            names.add(name)
        elif len(ports) > 1:
            found.append(causes.required(f"{at}.name"))
        number = port.get("port", 0)
        found += [causes.invalid(f"{at}.port", number, one) for one in formats.port_number(number)]
        found += one_of(port, at, "protocol", *pod_problems.PROTOCOLS)
        found += checks.port_or_name(port.get("targetPort", 0), f"{at}.targetPort")
        found += checks.form(port, at, "appProtocol", formats.qualified_name)
    return found


def _duplicate_ports(ports: list[KubeObject]) -> list[Cause]:
    found, taken, given = list[Cause](), set[object](), set[object]()
    for index, port in enumerate(ports):
        node = (port.get("protocol"), port.get("nodePort"))
        if port.get("nodePort"):
            found += [causes.duplicate(f"spec.ports[{index}].nodePort", port["nodePort"])] if node in given else []
            given.add(node)
    for index, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in taken:
            shown = {"Name": "", "Protocol": port.get("protocol"), "AppProtocol": None, "Port": port.get("port")}
            shown |= {"TargetPort": 0, "NodePort": 0}  # as the server's own type is written
            found.append(causes.duplicate(f"spec.ports[{index}]", shown))
        taken.add(key)
    return found


def _cluster_addresses(spec: KubeObject) -> list[Cause]:
    found: list[Cause] = []
    first, each = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if first and each and each[0] != first:
        found.append(causes.invalid("spec.clusterIPs", each, "first value must match `clusterIP`"))
    if not first and each:
        found.append(causes.invalid("spec.clusterIPs", each, "must be empty when `clusterIP` is not specified"))
    found += one_of(spec, "spec", "ipFamilyPolicy", "PreferDualStack", "RequireDualStack", "SingleStack")
    for index, address in enumerate(each):
        if address != services.HEADLESS:
            found += _address(address, f"spec.clusterIPs[{index}]")
    return found


def _address(text: str, path: str) -> list[Cause]:
    try:
        ip_address(text)
    except ValueError:
        return [causes.invalid(path, text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
    return []


def _role(obj: KubeObject) -> list[Cause]:
    return _rules(obj, is_namespaced=True)


def _cluster_role(obj: KubeObject) -> list[Cause]:
    found = _rules(obj, is_namespaced=False)
    rule = obj.get("aggregationRule")
    if rule is not None and not rule.get("clusterRoleSelectors"):
        say = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        found.append(causes.required("aggregationRule.clusterRoleSelectors", say))
    for index, selector in enumerate((rule or {}).get("clusterRoleSelectors") or ()):
        at = f"aggregationRule.clusterRoleSelectors[{index}]"
        if wrong := checks.selector(selector, at):
            found += [*wrong, causes.invalid(at, None, "invalid label selector.")]
    return found


def _rules(obj: KubeObject, *, is_namespaced: bool) -> list[Cause]:
    found: list[Cause] = []
    for index, rule in enumerate(obj.get("rules") or ()):
        at, urls = f"rules[{index}]", rule.get("nonResourceURLs")
        found += needed(rule, at, "verbs", detail="verbs must contain at least one value")
        if urls:
            if is_namespaced:
                say = "namespaced rules cannot apply to non-resource URLs"
                found.append(causes.invalid(f"{at}.nonResourceURLs", urls, say))
            if any(rule.get(field) for field in ("apiGroups", "resources", "resourceNames")):
                say = "rules cannot apply to both regular resources and non-resource URLs"
                found.append(causes.invalid(f"{at}.nonResourceURLs", urls, say))
            continue
        found += needed(rule, at, "apiGroups", detail="resource rules must supply at least one api group")
        found += needed(rule, at, "resources", detail="resource rules must supply at least one resource")
    return found


def _role_binding(obj: KubeObject) -> list[Cause]:
    return _binding(obj, ("Role", "ClusterRole"), is_namespaced=True)


def _cluster_role_binding(obj: KubeObject) -> list[Cause]:
    return _binding(obj, ("ClusterRole",), is_namespaced=False)


def _binding(obj: KubeObject, kinds: tuple[str, ...], *, is_namespaced: bool) -> list[Cause]:
    role, found = obj.get("roleRef") or {}, list[Cause]()
    if role.get("apiGroup") != RBAC:
        found.append(causes.not_supported("roleRef.apiGroup", role.get("apiGroup", ""), [RBAC]))
    if role.get("kind") not in kinds:
        found.append(causes.not_supported("roleRef.kind", role.get("kind", ""), list(kinds)))
    found += needed(role, "roleRef", "name") or checks.form(role, "roleRef", "name", formats.path_segment)
    for index, subject in enumerate(obj.get("subjects") or ()):
        at, kind, group = f"subjects[{index}]", subject.get("kind", ""), subject.get("apiGroup", "")
        found += needed(subject, at, "name")
        if kind == "ServiceAccount":
            found += checks.form(subject, at, "name", formats.dns_subdomain)
            found += [causes.not_supported(f"{at}.apiGroup", group, [""])] if group else []
            found += [] if is_namespaced else needed(subject, at, "namespace")
        elif kind not in ("User", "Group"):
            found.append(causes.not_supported(f"{at}.kind", kind, ["ServiceAccount", "User", "Group"]))
        elif group != RBAC:
            found.append(causes.not_supported(f"{at}.apiGroup", group, [RBAC]))
    return found


def _disruption_budget(obj: KubeObject) -> list[Cause]:
    spec, found = obj.get("spec") or {}, list[Cause]()
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        found.append(causes.invalid("spec", spec, "minAvailable and maxUnavailable cannot be both set"))
    for field in ("minAvailable", "maxUnavailable"):
        if spec.get(field) is not None:
            found += checks.amount_or_percent(spec[field], f"spec.{field}")
    found += checks.selector(spec.get("selector"), "spec.selector")
    return found + one_of(spec, "spec", "unhealthyPodEvictionPolicy", "AlwaysAllow", "IfHealthyBudget")


def _storage_class(obj: KubeObject) -> list[Cause]:
    found = [] if obj.get("provisioner") else [causes.required("provisioner")]
    if obj.get("provisioner"):
        wrong = formats.qualified_name(obj["provisioner"].lower())
        found += [causes.invalid("provisioner", obj["provisioner"], one) for one in wrong]
    for field, supported in (
        ("reclaimPolicy", ["Delete", "Retain"]),
        ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"]),
    ):
        if obj.get(field) not in supported:
            found.append(causes.not_supported(field, obj.get(field), supported))
    if "" in (obj.get("parameters") or {}):
        found.append(causes.invalid("parameters", "", "field can not be empty."))
    return found


def _priority_class(obj: KubeObject) -> list[Cause]:
    name, most, found = obj["metadata"].get("name", ""), 1_000_000_000, list[Cause]()
    if name.startswith("system-") and name not in SYSTEM_PRIORITIES:
        say = "priority class names with 'system-' prefix are reserved for system use only. error: "
        found.append(causes.forbidden("metadata.name", f"{say}{name} is not a known system priority class"))
    if not name.startswith("system-") and obj.get("value", 0) > most:
        found.append(causes.forbidden("value", f"maximum allowed value of a user defined priority is {most}"))
    return found + one_of(obj, "", "preemptionPolicy", "PreemptLowerPriority", "Never")


def _lease(obj: KubeObject) -> list[Cause]:
    spec, found = obj.get("spec") or {}, list[Cause]()
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        found.append(causes.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    return found + checks.not_negative(spec, "spec", "leaseTransitions")


_CHECKS: Final[Mapping[tuple[str, str], _Check]] = {
    **cluster_problems.CHECKS,
    **workload_problems.CHECKS,
    ("", "ConfigMap"): _config_map,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    ("networking.k8s.io", "Ingress"): network_problems.ingress,
    ("networking.k8s.io", "NetworkPolicy"): network_problems.network_policy,
    ("policy", "PodDisruptionBudget"): _disruption_budget,
    ("autoscaling", "HorizontalPodAutoscaler"): autoscaler_problems.autoscaler,
    ("storage.k8s.io", "StorageClass"): _storage_class,
    ("coordination.k8s.io", "Lease"): _lease,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    (RBAC, "Role"): _role,
    (RBAC, "ClusterRole"): _cluster_role,
    (RBAC, "RoleBinding"): _role_binding,
    (RBAC, "ClusterRoleBinding"): _cluster_role_binding,
}
