"""Questions that a client puts as an object, and whose answer is its status: who am I, may I, whose token is this."""

from collections.abc import Callable, Sequence
from typing import Any

from tidelog.engine.cluster.embedded.access import AUTHENTICATED, Attributes, Authorizer, account_groups
from tidelog.engine.cluster.embedded.causes import invalid as invalid_value
from tidelog.engine.cluster.embedded.registry import Resource
from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.statuses import invalid
from tidelog.engine.cluster.embedded.tokens import AUDIENCE
from tidelog.engine.objects.kube import KubeObject

WhoseToken = Callable[[str, Sequence[str]], tuple[User, list[str]] | None]


def answer(
    resource: Resource, obj: KubeObject, user: User, authorizer: Authorizer, whose: WhoseToken, now: str
) -> KubeObject | None:
    """The object with its status; None for a kind that is no review. `now` is the time, as objects write it.

    Raises:
        StatusError: when the question makes no sense.
    """
    spec = obj.get("spec") or {}
    match resource.kind:
        case "SubjectAccessReview" | "LocalSubjectAccessReview":
            named = spec.get("user") or ""
            if not named and not spec.get("groups"):
                text = "at least one of user or group must be specified"
                raise invalid(resource, "", [invalid_value("spec.user", named, text)])
            asked = User(named, tuple(spec.get("groups") or ()))
            status: Any = _access(resource, spec, asked, authorizer)
        case "SelfSubjectAccessReview":
            status = _access(resource, spec, user, authorizer)
        case "SelfSubjectRulesReview":
            status = _rules(spec.get("namespace") or "", user, authorizer)
        case "SelfSubjectReview":
            obj = {**obj, "metadata": {**(obj.get("metadata") or {}), "creationTimestamp": now}}
            status = {"userInfo": _told(user)}
        case "TokenReview":
            found = whose(str(spec.get("token") or ""), spec.get("audiences") or (AUDIENCE,))
            if found is None:
                status = {"user": {}, "error": "the token is not known, or for others"}
            else:
                status = {"authenticated": True, "user": _told(found[0]), "audiences": found[1]}
        case _:
            return None
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}, **obj, "status": status}


def _access(resource: Resource, spec: KubeObject, user: User, authorizer: Authorizer) -> KubeObject:
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if bool(asked) == bool(path):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise invalid(resource, "", [invalid_value("spec.resourceAttributes", asked, text)])
    groups = tuple(dict.fromkeys((*user.groups, *account_groups(user.name))))
    other = path or {}
    what = _attributes(asked) if asked else Attributes(str(other.get("verb") or ""), path=str(other.get("path") or ""))
    return {"allowed": authorizer.allows(User(user.name, groups), what)}


def _attributes(asked: KubeObject) -> Attributes:
    def text(name: str) -> str:
        return str(asked.get(name) or "")

    resource = "/".join(filter(None, (text("resource"), text("subresource"))))
    return Attributes(text("verb"), text("group"), resource, text("namespace"), text("name"))


def _rules(namespace: str, user: User, authorizer: Authorizer) -> KubeObject:
    resources, paths = [], []
    for rule in authorizer.rules_of(user, namespace):
        if rule.non_resource_u_r_ls:
            paths.append({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_u_r_ls})
            continue
        told: KubeObject = {"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources}
        if rule.resource_names:
            told["resourceNames"] = rule.resource_names
        resources.append(told)
    return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}


def _told(user: User) -> KubeObject:
    told: KubeObject = {"username": user.name, "groups": list(dict.fromkeys((*user.groups, AUTHENTICATED)))}
    if user.uid:
        told["uid"] = user.uid
    if user.extra:
        told["extra"] = {key: list(values) for key, values in user.extra.items()}
    return told
