"""Nobody gives away what he has not: what is asked of a write beyond the verb of its request.

Whoever may write roles and bindings would otherwise have every right ("Privilege escalation prevention and
bootstrapping", in Kubernetes, "Using RBAC Authorization"); and an apply or a replace that makes an object is a creation
too.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from tidelog.engine.cluster.embedded.access import MASTERS, RBAC, Attributes, Authorizer, RoleRef, Rule, refusal
from tidelog.engine.cluster.embedded.fieldsets import go_json
from tidelog.engine.cluster.embedded.registry import Resource
from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.statuses import forbidden, not_found
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.typed import converter

_ALL: Final = (
    Rule(verbs=["*"], api_groups=["*"], resources=["*"]),
    Rule(verbs=["*"], non_resource_u_r_ls=["*"]),
)
_PLURALS: Final = {"Role": "roles", "ClusterRole": "clusterroles"}


class Guard:
    """What one user may write."""

    def __init__(self, authorizer: Authorizer, user: User) -> None:
        """By the roles and bindings as they are at each question."""
        self._authorizer = authorizer
        self._user = user

    def check_create(self, resource: Resource, namespace: str, name: str) -> None:
        """Raises a StatusError where the user may not make what a request would make by the way."""
        what = Attributes("create", resource.group, resource.plural, namespace, name)
        if not self._authorizer.allows(self._user, what):
            raise forbidden(resource, name, refusal(self._user, what))

    def check_write(self, resource: Resource, obj: KubeObject, old: KubeObject | None) -> None:
        """Raises a StatusError where a role or a binding grants what the user has not."""
        if resource.group != RBAC or MASTERS in self._user.groups or _is_let_go(obj, old):
            return
        if resource.kind in _PLURALS:
            self._check_role(resource, obj, old or {})
        else:
            self._check_binding(resource, obj)

    def _check_role(self, resource: Resource, obj: KubeObject, old: KubeObject) -> None:
        namespace, name = _place_of(obj)
        if self._may("escalate", resource.plural, namespace, name):
            return
        self._check(resource, name, namespace, _rules_in(obj))
        aggregation = obj.get("aggregationRule")
        if (aggregation or {}).get("clusterRoleSelectors") and aggregation != old.get("aggregationRule"):
            held = list(self._authorizer.rules_of(self._user, ""))
            if any(_missing(held, _ALL)):
                raise forbidden(resource, name, "must have cluster-admin privileges to use an aggregationRule")

    def _check_binding(self, resource: Resource, obj: KubeObject) -> None:
        namespace, name = _place_of(obj)
        ref = converter(RoleRef)(obj.get("roleRef") or {})
        if self._may("bind", _PLURALS.get(ref.kind, ""), namespace, ref.name):
            return
        rules = self._authorizer.rules_of_role(ref, namespace)
        if rules is None:
            raise not_found(resource, ref.name)
        self._check(resource, name, namespace, rules)

    def _may(self, verb: str, plural: str, namespace: str, name: str) -> bool:
        return self._authorizer.allows(self._user, Attributes(verb, RBAC, plural, namespace, name))

    def _check(self, resource: Resource, name: str, namespace: str, rules: Sequence[Rule]) -> None:
        held = list(self._authorizer.rules_of(self._user, namespace))
        missing = sorted(map(_shown, _merged(_missing(held, rules))))
        if missing:
            who = f"user {go_json(self._user.name)} (groups={_listed(self._user.groups)})"
            why = f"{who} is attempting to grant RBAC permissions not currently held:\n" + "\n".join(missing)
            raise forbidden(resource, name, why)


def _is_let_go(obj: KubeObject, old: KubeObject | None) -> bool:
    """Whether nothing is changed but what holds an object, so that it can always be deleted."""
    return old is not None and _but_holders(obj) == _but_holders(old)


def _but_holders(obj: KubeObject) -> KubeObject:
    ours = ("ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation")
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key not in ours}}


def _place_of(obj: KubeObject) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"].get("name", "")


def _rules_in(obj: KubeObject) -> list[Rule]:
    said: Any = obj.get("rules") or []
    return converter(list[Rule])(said)


def _missing(held: Sequence[Rule], wanted: Sequence[Rule]) -> Iterator[Rule]:
    """The parts of rules, each of one verb and one thing, that no rule of those held has."""
    for part in itertools.chain.from_iterable(map(_parts, wanted)):
        if not any(_covers(rule, part) for rule in held):
            yield part


def _parts(rule: Rule) -> Iterator[Rule]:
    for verb, group, resource in itertools.product(rule.verbs, rule.api_groups, rule.resources):
        for name in rule.resource_names or [""]:
            yield Rule([verb], [group], [resource], [name] if name else [])
    for verb, path in itertools.product(rule.verbs, rule.non_resource_u_r_ls):
        yield Rule([verb], non_resource_u_r_ls=[path])


def _covers(rule: Rule, part: Rule) -> bool:
    if not {"*", part.verbs[0]} & set(rule.verbs):
        return False
    if part.non_resource_u_r_ls:
        (path,) = part.non_resource_u_r_ls
        ours = rule.non_resource_u_r_ls
        return any(one in ("*", path) or (one.endswith("*") and path.startswith(one[:-1])) for one in ours)
    (resource,) = part.resources
    _, _, subresource = resource.partition("/")
    named = {"*", resource, f"*/{subresource}" if subresource else "*"}
    if not {"*", part.api_groups[0]} & set(rule.api_groups) or not named & set(rule.resources):
        return False
    return not rule.resource_names or (part.resource_names != [] and part.resource_names[0] in rule.resource_names)


def _merged(parts: Iterator[Rule]) -> list[Rule]:
    """Parts of the same thing are one, with all their verbs."""
    found: dict[tuple[str, ...], Rule] = {}
    for part in parts:
        where = (*part.api_groups, "/", *part.resources, "/", *part.resource_names, "/", *part.non_resource_u_r_ls)
        rule = found.setdefault(where, msgspec.structs.replace(part, verbs=[]))
        if part.verbs[0] not in rule.verbs:
            rule.verbs.append(part.verbs[0])
    return list(found.values())


def _shown(rule: Rule) -> str:
    fields = {
        "APIGroups": rule.api_groups,
        "Resources": rule.resources,
        "ResourceNames": rule.resource_names,
        "NonResourceURLs": rule.non_resource_u_r_ls,
        "Verbs": rule.verbs,
    }
    return "{" + ", ".join(f"{name}:{_listed(values)}" for name, values in fields.items() if values) + "}"


def _listed(values: Sequence[str]) -> str:
    return "[" + " ".join(map(go_json, values)) + "]"
