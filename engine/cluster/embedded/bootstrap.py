"""What is in a cluster before anybody made anything: namespaces, the roles that everybody expects, and APIServices."""

from collections.abc import Iterable
from typing import Final

from tidelog.engine.cluster.embedded.access import AUTHENTICATED, MASTERS, RBAC, UNAUTHENTICATED
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.api_services import ApiServices
from tidelog.engine.cluster.embedded.builtin.pod_admission import SYSTEM_PRIORITIES
from tidelog.engine.cluster.embedded.caretaker import MANAGER
from tidelog.engine.cluster.embedded.requests import Target
from tidelog.engine.cluster.embedded.store import Key
from tidelog.engine.objects.kube import KubeObject

_BOOTSTRAP: Final = {"labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}
_READ: Final = ["get", "list", "watch"]
_WRITE: Final = ["create", "delete", "deletecollection", "patch", "update"]
_WORKLOADS: Final[list[tuple[list[str], list[str]]]] = [
    (
        [""],
        [
            *("configmaps", "endpoints", "persistentvolumeclaims", "pods", "replicationcontrollers", "services"),
            *("replicationcontrollers/scale", "serviceaccounts", "events"),
        ],
    ),
    (
        ["apps"],
        [
            *("daemonsets", "deployments", "replicasets", "statefulsets", "deployments/scale", "replicasets/scale"),
            *("statefulsets/scale", "controllerrevisions"),
        ],
    ),
    (["autoscaling"], ["horizontalpodautoscalers"]),
    (["batch"], ["cronjobs", "jobs"]),
    (["networking.k8s.io"], ["ingresses", "networkpolicies"]),
    (["policy"], ["poddisruptionbudgets"]),
    (["discovery.k8s.io"], ["endpointslices"]),
    (["coordination.k8s.io"], ["leases"]),
]
_SEEN: Final[list[tuple[list[str], list[str]]]] = [
    ([""], ["bindings", "limitranges", "namespaces", "pods/log", "pods/status", "resourcequotas"]),
]


def _rule(groups: list[str], resources: list[str], verbs: list[str]) -> KubeObject:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs}


_VIEW: Final = [_rule(groups, resources, _READ) for groups, resources in (*_WORKLOADS, *_SEEN)]
_SECRET: Final = [
    _rule([""], ["secrets", "pods/attach", "pods/exec", "pods/portforward", "pods/proxy"], [*_READ, *_WRITE]),
    _rule([""], ["serviceaccounts"], ["impersonate"]),
    _rule([""], ["serviceaccounts/token", "pods/eviction"], ["create"]),
]
_EDIT: Final = [*_VIEW, *_SECRET, *(_rule(groups, resources, _WRITE) for groups, resources in _WORKLOADS)]
_ADMIN: Final = [
    *_EDIT,
    _rule(["authorization.k8s.io"], ["localsubjectaccessreviews"], ["create"]),
    _rule([RBAC], ["rolebindings", "roles"], [*_READ, *_WRITE]),
]
_DISCOVERY: Final = ["/api", "/api/*", "/apis", "/apis/*", "/healthz", "/livez", "/openapi", "/openapi/*", "/readyz"]
_ROLES: Final[dict[str, list[KubeObject]]] = {
    "cluster-admin": [
        _rule(["*"], ["*"], ["*"]),
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ],
    "system:discovery": [{"nonResourceURLs": [*_DISCOVERY, "/version", "/version/"], "verbs": ["get"]}],
    "system:public-info-viewer": [
        {"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"]}
    ],
    "system:basic-user": [
        _rule(["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"], ["create"]),
        _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
    ],
}
_AGGREGATED: Final = {"view": _VIEW, "edit": _EDIT, "admin": _ADMIN}
_BINDINGS: Final = {
    "cluster-admin": (MASTERS,),
    "system:discovery": (AUTHENTICATED,),
    "system:public-info-viewer": (AUTHENTICATED, UNAUTHENTICATED),
    "system:basic-user": (AUTHENTICATED,),
}
_PRIORITIES: Final = {
    "system-cluster-critical": "Used for system critical pods that must run in the cluster, but can be moved to "
    "another node if necessary.",
    "system-node-critical": "Used for system critical pods that must not be moved from their current node.",
}
_SERVICE: Final[KubeObject] = {
    "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
    "spec": {
        "clusterIP": "10.96.0.1",
        "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
    },
}
"""The API server itself, as every cluster has it; nothing listens there."""
_NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")


async def bootstrap(api: Api) -> None:
    """Makes what is not there yet."""
    for name in _NAMESPACES:
        await _make(api, "", "namespaces", {"metadata": {"name": name}})
    for name, rules in _ROLES.items():
        await _make(api, RBAC, "clusterroles", {"metadata": {"name": name, **_BOOTSTRAP}, "rules": rules})
    for name, rules in _AGGREGATED.items():
        await _make(api, RBAC, "clusterroles", _aggregated(name, rules))
    for name, groups in _BINDINGS.items():
        await _make(api, RBAC, "clusterrolebindings", _bound(name, groups))
    for name, text in _PRIORITIES.items():
        made = {"metadata": {"name": name}, "value": SYSTEM_PRIORITIES[name], "description": text}
        await _make(api, "scheduling.k8s.io", "priorityclasses", made)
    await _make(api, "", "services", _SERVICE, "default")
    await ApiServices(api).begin()


def _aggregated(name: str, rules: list[KubeObject]) -> KubeObject:
    """A role to which others are added by their label, as users of CRDs do."""
    selector = {"matchLabels": {f"rbac.authorization.k8s.io/aggregate-to-{name}": "true"}}
    return {
        "metadata": {"name": name, **_BOOTSTRAP},
        "aggregationRule": {"clusterRoleSelectors": [selector]},
        "rules": rules,
    }


def _bound(name: str, groups: Iterable[str]) -> KubeObject:
    return {
        "metadata": {"name": name, **_BOOTSTRAP},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": group} for group in groups],
    }


async def _make(api: Api, group: str, plural: str, obj: KubeObject, namespace: str = "") -> None:
    resource = api.registry.builtin((group, plural))
    if api.store.get(resource.place, Key(namespace, obj["metadata"]["name"])) is None:
        metadata = {**obj["metadata"], **({"namespace": namespace} if namespace else {})}
        await api.writer.create(Target("create", resource, namespace, ""), {**obj, "metadata": metadata}, MANAGER)
