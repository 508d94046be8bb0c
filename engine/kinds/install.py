"""What has to be in a cluster for the engine to run on it: the objects of `tidelog install`.

Two labels, and why. The CRDs are Flux's API, the same objects that Flux installs, and bear its label
`app.kubernetes.io/part-of: flux`: `flux check` finds them, and applying them over Flux's changes nothing that counts.
All else is the engine's own and bears `app.kubernetes.io/part-of: tidelog`, so that neither `flux uninstall` (which
deletes by that label) takes the engine's permissions away, nor Flux's tools mistake them for Flux's controllers.
`flux uninstall` deletes the CRDs and the Namespace all the same, and every source and target with them: who wants to
get rid of Flux's controllers after a takeover deletes their Deployments.

The Namespace bears no label: it is shared with Flux, and is left as it is where it exists.
"""

from tidelog.engine.kinds.crds import INSTANCE_NAME, crds
from tidelog.engine.kinds.meta import INSTANCE, PART_OF, SOURCE_GROUP, Resource
from tidelog.engine.kinds.registry import SOURCES, TARGETS
from tidelog.engine.objects.kube import KubeObject

NAMESPACE = "flux-system"
SERVICE_ACCOUNT = "tidelog"
ROLE = "tidelog"
RECONCILER = "tidelog-reconciler"
_OWN = {PART_OF: "tidelog", INSTANCE: INSTANCE_NAME}
_READ = ["get", "list", "watch"]
_SOURCES = [kind.resource.plural for kind in SOURCES]


def install_objects(namespace: str = NAMESPACE) -> tuple[KubeObject, ...]:
    """The objects, in the order in which they are applied.

    The role has what the engine needs for itself. The binding to cluster-admin is for what it applies, which can be
    anything; a cluster where each target names a serviceAccountName can do without it.
    """
    return (
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        *crds(),
        _service_account(namespace),
        _role(),
        _binding(ROLE, ROLE, namespace),
        _binding(RECONCILER, "cluster-admin", namespace),
    )


def _service_account(namespace: str) -> KubeObject:
    metadata = {"name": SERVICE_ACCOUNT, "namespace": namespace, "labels": dict(_OWN)}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def _role() -> KubeObject:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": ROLE, "labels": dict(_OWN)},
        "rules": [
            # Observing: whatever was applied is watched, and Secrets and ConfigMaps that are named are read.
            _rule("*", ["*"], _READ),
            # Its own kinds: requests and finalizers are metadata, outcomes are status.
            _rule(SOURCE_GROUP, _SOURCES, [*_READ, "create", "patch", "update", "delete"]),
            _rule(
                SOURCE_GROUP,
                [f"{plural}/{part}" for part in ("status", "finalizers") for plural in _SOURCES],
                ["get", "patch", "update"],
            ),
            *(rule for kind in TARGETS for rule in _target_rules(kind.resource)),
            _rule("", ["events"], ["create", "patch"]),
            # One writer a cluster: Flux's own Leases are taken.
            _rule("coordination.k8s.io", ["leases"], [*_READ, "create", "patch", "update", "delete"]),
            # spec.serviceAccountName (contract CM-084).
            _rule("", ["users", "groups", "serviceaccounts"], ["impersonate"]),
            # The same, of a source with a cloud's provider (contract CM-089).
            _rule("", ["serviceaccounts/token"], ["create"]),
            # Who is at the door, and may they.
            _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
            _rule("authorization.k8s.io", ["subjectaccessreviews"], ["create"]),
        ],
    }


def _target_rules(target: Resource) -> tuple[KubeObject, KubeObject]:
    parts = [f"{target.plural}/{part}" for part in ("status", "finalizers")]
    return (
        _rule(target.group, [target.plural], [*_READ, "create", "patch", "update", "delete"]),
        _rule(target.group, parts, ["get", "patch", "update"]),
    )


def _rule(group: str, resources: list[str], verbs: list[str]) -> KubeObject:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _binding(name: str, role: str, namespace: str) -> KubeObject:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": dict(_OWN)},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": namespace}],
    }
