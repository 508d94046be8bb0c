"""Label and field selectors, as lists and watches take them (Kubernetes, "Labels and Selectors")."""

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from tidelog.engine.cluster.embedded.statuses import bad_request
from tidelog.engine.objects.kube import KubeObject

Operator: TypeAlias = Literal["=", "!=", "in", "notin", "exists", "!", "gt", "lt"]
Matches: TypeAlias = Callable[[KubeObject], bool]


class Requirement(NamedTuple):
    """One condition on a label."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it."""
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "=" | "in":
                return value in self.values
            case "!=" | "notin":
                return value not in self.values
            case _:
                return _compared(value, self.operator, self.values[0])


def _compared(value: str | None, operator: str, bound: str) -> bool:
    try:
        number = int(value or "")
    except ValueError:
        return False
    return number > int(bound) if operator == "gt" else number < int(bound)


_EQUAL: Final[Mapping[str, Operator]] = {"=": "=", "==": "=", "!=": "!="}
_FIELDS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("", "Pod"): frozenset(
        {
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        }
    ),
    ("", "Secret"): frozenset({"type"}),
    ("", "Namespace"): frozenset({"status.phase"}),
    ("", "Node"): frozenset({"spec.unschedulable"}),
    ("", "Service"): frozenset({"spec.clusterIP", "spec.type"}),
    ("", "ReplicationController"): frozenset({"status.replicas"}),
    ("apps", "ReplicaSet"): frozenset({"status.replicas"}),
    ("batch", "Job"): frozenset({"status.successful"}),
    ("certificates.k8s.io", "CertificateSigningRequest"): frozenset({"spec.signerName"}),
    ("", "Event"): frozenset(
        {
            *(f"involvedObject.{name}" for name in ("kind", "namespace", "name", "uid", "apiVersion")),
            *("involvedObject.resourceVersion", "involvedObject.fieldPath", "reason", "reportingComponent"),
            *("source", "type"),
        }
    ),
}
_term = re.compile(r"(.*?)(!=|==|=)(.*)", re.DOTALL)
_comma = re.compile(r",((?:[^\\,]|\\.?)*)", re.DOTALL)


def parse_fields(
    text: str, kind: tuple[str, str], more: frozenset[str] = frozenset(), *, is_custom: bool = False
) -> tuple[Requirement, ...]:
    """The requirements of a field selector; `more` are fields that can be selected beside those of the kind.

    Raises:
        StatusError: when it is none, or names a field that cannot be selected.
    """
    found = [one for one in (_requirement(term, text) for term in _terms(text)) if one.key or one.values != ("",)]
    allowed = {"metadata.name", "metadata.namespace"} | _FIELDS.get(kind, frozenset()) | more
    for one in found:
        if one.key not in allowed:
            if kind in _FIELDS or is_custom:
                raise bad_request(f"field label not supported: {one.key}")
            raise bad_request(f'"{one.key}" is not a known field selector: only "metadata.name", "metadata.namespace"')
    return tuple(found)


def _terms(text: str) -> list[str]:
    """What stands between the commas, in order; a comma after a backslash is part of a value."""
    return sorted(filter(None, _comma.findall(f",{text}")))


def _requirement(term: str, text: str) -> Requirement:
    match = _term.fullmatch(term)
    if match is None:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
    return Requirement(match[1], _EQUAL[match[2]], (_unescaped(match[3]),))


def _unescaped(value: str) -> str:
    found, rest = "", iter(value)
    for sign in rest:
        if sign == "\\":
            after = next(rest, "")
            if not after or after not in "\\,=":
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{after}")
            found += after
        elif sign == "=":
            raise bad_request(f"invalid field selector: unescaped character in value: {ord(sign)}")
        else:
            found += sign
    return found


def name_selected(text: str) -> str:
    """The one name that a field selector leaves; empty where it leaves more, or makes no sense."""
    parts = filter(None, map(_term.fullmatch, _terms(text)))
    return next((part[3] for part in parts if part[1] == "metadata.name" and part[2] != "!="), "")


def field_holds(requirement: Requirement, obj: KubeObject) -> bool:
    """Whether an object meets a condition on a field."""
    value: object = obj
    for name in requirement.key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return (text in requirement.values) == (requirement.operator == "=")


def matcher(labels: tuple[Requirement, ...], fields: tuple[Requirement, ...]) -> Matches | None:
    """Whether an object is selected; None where all are."""
    if not labels and not fields:
        return None

    def matches(obj: KubeObject) -> bool:
        said = obj["metadata"].get("labels") or {}
        return all(one.holds(said) for one in labels) and all(field_holds(one, obj) for one in fields)

    return matches
