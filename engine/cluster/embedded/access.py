"""Who may do what: RBAC, as its roles and bindings stand in the store (Kubernetes, "Using RBAC Authorization")."""

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded.requests import WATCH, Request, User, is_true, steps_of, without_watch
from tidelog.engine.cluster.embedded.selectors import Operator, Requirement, name_selected
from tidelog.engine.cluster.embedded.store import Key, Store
from tidelog.events.typed import decoder

RBAC: Final = "rbac.authorization.k8s.io"
MASTERS: Final = "system:masters"
AUTHENTICATED: Final = "system:authenticated"
UNAUTHENTICATED: Final = "system:unauthenticated"
ANONYMOUS: Final = User("system:anonymous", (UNAUTHENTICATED,))
_ACCOUNT: Final = "system:serviceaccount:"
_OPERATORS: Final[dict[str, Operator]] = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}


class Attributes(Struct, frozen=True):
    """What somebody wants to do: with a resource, or (where `path` is set) with something else."""

    verb: str
    group: str = ""
    resource: str = ""
    """With its subresource: `pods/log`."""
    namespace: str = ""
    name: str = ""
    path: str = ""


_NAMESPACE_PARTS: Final = ("status", "finalize")
"""Of a namespace itself; whatever else follows its name is in it."""
_VERBS: Final = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OF_MANY: Final = {"delete": "deletecollection"}


def attributes_of(request: Request) -> Attributes:
    """What a request wants to do, by its method and path alone: also with what is not served (`RequestInfo`)."""
    steps = steps_of(request.path)
    if steps is None:
        return Attributes(request.method.lower(), path=unquote(request.path))
    group, _, parts = steps
    is_watch, parts = without_watch(parts)
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_PARTS:
            parts = parts[2:]
    plural, name, subresource = (*parts[:3], "", "")[:3]
    verb = WATCH if is_watch else _VERBS.get(request.method, "")
    if not name and verb == "get":
        verb = WATCH if is_true(request.query, WATCH) else "list"
        name = name_selected(request.query.get("fieldSelector", ""))
    elif not name:
        verb = _OF_MANY.get(verb, verb)
    return Attributes(verb, group, f"{plural}/{subresource}" if subresource else plural, namespace, name)


class Rule(Struct, rename="camel"):
    """What one rule of a role allows."""

    verbs: list[str] = []
    api_groups: list[str] = []
    resources: list[str] = []
    resource_names: list[str] = []
    non_resource_u_r_ls: list[str] = msgspec.field(default=[], name="nonResourceURLs")


class _Subject(Struct, rename="camel"):
    kind: str = ""
    name: str = ""
    namespace: str = ""


class RoleRef(Struct):
    """Which role is bound."""

    kind: str = ""
    name: str = ""


class _Expression(Struct):
    key: str = ""
    operator: str = ""
    values: list[str] | None = None

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it; none do, where it makes no sense."""
        operator = _OPERATORS.get(self.operator)
        return operator is not None and Requirement(self.key, operator, tuple(self.values or ())).holds(labels)


class _Selector(Struct, rename="camel"):
    match_labels: dict[str, str] = {}
    match_expressions: list[_Expression] = []

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects what has these labels; an empty one selects all."""
        same = all(labels.get(key) == value for key, value in self.match_labels.items())
        return same and all(one.holds(labels) for one in self.match_expressions)


class _Aggregation(Struct, rename="camel"):
    cluster_role_selectors: list[_Selector] = []


class _Metadata(Struct):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}


class _Role(Struct, rename="camel"):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    rules: list[Rule] | None = None
    aggregation_rule: _Aggregation | None = None


class _Binding(Struct, rename="camel"):
    role_ref: RoleRef
    subjects: list[_Subject] | None = None


_role = decoder(_Role)
_binding = decoder(_Binding)
_ROLES: Final = {"ClusterRole": (RBAC, "clusterroles"), "Role": (RBAC, "roles")}


def account_groups(user: str) -> tuple[str, ...]:
    """The groups that a service account has by its name; none for other users."""
    account = account_of(user)
    return ("system:serviceaccounts", f"system:serviceaccounts:{account.namespace}") if account else ()


def account_of(user: str) -> Key | None:
    """The service account that a user is; None for other users."""
    if not user.startswith(_ACCOUNT) or user.count(":") != 3:
        return None
    namespace, name = user.split(":")[2:]
    return Key(namespace, name) if namespace and name else None


class Authorizer:
    """Decides by the roles and bindings of a store."""

    def __init__(self, store: Store) -> None:
        """Of the store as it is at each question."""
        self._store = store

    def allows(self, user: User, what: Attributes) -> bool:
        """Whether a user may do something."""
        if MASTERS in user.groups:
            return True
        return any(_permits(rule, what) for rule in self.rules_of(user, what.namespace))

    def rules_of(self, user: User, namespace: str) -> Iterator[Rule]:
        """What a user may do, everywhere and in a namespace."""
        for record in self._store.bucket((RBAC, "clusterrolebindings")).between(""):
            yield from self._granted(user, _binding(record.data), "")
        if namespace:
            for record in self._store.bucket((RBAC, "rolebindings")).between(namespace):
                yield from self._granted(user, _binding(record.data), namespace)

    def rules_of_role(self, ref: RoleRef, namespace: str) -> list[Rule] | None:
        """What a role allows that is bound in a namespace, or everywhere; None for one that is not there."""
        return None if self._role(ref, namespace) is None else list(self._rules(ref, namespace))

    def _granted(self, user: User, binding: _Binding, namespace: str) -> Iterator[Rule]:
        if any(_is_meant(user, subject) for subject in binding.subjects or ()):
            yield from self._rules(binding.role_ref, namespace)

    def _rules(self, ref: RoleRef, namespace: str) -> Iterator[Rule]:
        role = self._role(ref, namespace)
        if role is not None:
            yield from self._all_rules(role, {ref.name})

    def _role(self, ref: RoleRef, namespace: str) -> _Role | None:
        place = _ROLES.get(ref.kind)
        record = self._store.get(place, Key(namespace if ref.kind == "Role" else "", ref.name)) if place else None
        return None if record is None else _role(record.data)

    def _all_rules(self, role: _Role, seen: set[str]) -> Iterator[Rule]:
        """The rules of a role and of those that it aggregates, which may aggregate others."""
        yield from role.rules or ()
        selectors = role.aggregation_rule.cluster_role_selectors if role.aggregation_rule else ()
        for record in self._store.bucket(_ROLES["ClusterRole"]).between("") if selectors else ():
            part = _role(record.data)
            if part.metadata.name not in seen and any(one.selects(part.metadata.labels) for one in selectors):
                seen.add(part.metadata.name)
                yield from self._all_rules(part, seen)


def _is_meant(user: User, subject: _Subject) -> bool:
    match subject.kind:
        case "User":
            return subject.name == user.name
        case "Group":
            return subject.name in user.groups
        case "ServiceAccount":
            return user.name == f"{_ACCOUNT}{subject.namespace}:{subject.name}"
        case _:
            return False


def _permits(rule: Rule, what: Attributes) -> bool:
    if not {"*", what.verb} & set(rule.verbs):
        return False
    if what.path:
        return any(_covers(pattern, what.path) for pattern in rule.non_resource_u_r_ls)
    if not {"*", what.group} & set(rule.api_groups):
        return False
    _, _, subresource = what.resource.partition("/")
    if not {"*", what.resource, f"*/{subresource}" if subresource else "*"} & set(rule.resources):
        return False
    return not rule.resource_names or what.name in rule.resource_names


def _covers(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def refusal(user: User, what: Attributes) -> str:
    """The server's words for what is not allowed, behind `is forbidden: `."""
    if what.path:
        return f'User "{user.name}" cannot {what.verb} path "{what.path}"'
    where = f'in the namespace "{what.namespace}"' if what.namespace else "at the cluster scope"
    return f'User "{user.name}" cannot {what.verb} resource "{what.resource}" in API group "{what.group}" {where}'
