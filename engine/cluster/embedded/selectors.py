"""Label and field selectors, as lists and watches take them (Kubernetes, "Labels and Selectors")."""

import re
from collections.abc import Callable, Iterator, Mapping
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


_key = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-\w.]*[A-Za-z0-9])?"
_set = re.compile(rf"\s*({_key})\s+(in|notin)\s*\(([^()]*)\)\s*(,|$)", re.ASCII)
_equal = re.compile(rf"\s*({_key})\s*(==|=|!=)\s*([-\w.]*)\s*(,|$)", re.ASCII)
_order = re.compile(rf"\s*({_key})\s*([<>])\s*(-?\d+)\s*(,|$)", re.ASCII)
_there = re.compile(rf"\s*(!?)\s*({_key})\s*(,|$)", re.ASCII)
_value = re.compile(r"(?:[A-Za-z0-9](?:[-\w.]*[A-Za-z0-9])?)?", re.ASCII)
_EQUAL: Final[Mapping[str, Operator]] = {"=": "=", "==": "=", "!=": "!="}


def parse_labels(text: str) -> tuple[Requirement, ...]:
    """The requirements of a label selector.

    Raises:
        StatusError: when it is none.
    """
    return tuple(_requirements(text)) if text.strip() else ()


def _requirements(text: str) -> Iterator[Requirement]:
    rest = text
    while True:
        requirement, rest, goes_on = _first(text, rest)
        yield requirement
        if not goes_on:
            return


def _first(text: str, rest: str) -> tuple[Requirement, str, bool]:
    if found := _set.match(rest):
        values = tuple(value.strip() for value in found[3].split(","))
        if all(_value.fullmatch(value) for value in values):
            return (
                Requirement(found[1], "in" if found[2] == "in" else "notin", values),
                rest[found.end() :],
                bool(found[4]),
            )
    elif found := _equal.match(rest):
        return Requirement(found[1], _EQUAL[found[2]], (found[3],)), rest[found.end() :], bool(found[4])
    elif found := _order.match(rest):
        return (
            Requirement(found[1], "gt" if found[2] == ">" else "lt", (found[3],)),
            rest[found.end() :],
            bool(found[4]),
        )
    elif found := _there.match(rest):
        return Requirement(found[2], "!" if found[1] else "exists"), rest[found.end() :], bool(found[3])
    raise bad_request(f"unable to parse requirement: {rest.strip() or text!r}: it is no label selector")


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
_field = re.compile(r"\s*([^=!,\s]+)\s*(==|=|!=)\s*([^,]*)\s*")


def parse_fields(
    text: str, kind: tuple[str, str], more: frozenset[str] = frozenset(), *, is_custom: bool = False
) -> tuple[Requirement, ...]:
    """The requirements of a field selector; `more` are fields that can be selected beside those of the kind.

    Raises:
        StatusError: when it is none, or names a field that cannot be selected.
    """
    found = []
    allowed = {"metadata.name", "metadata.namespace"} | _FIELDS.get(kind, frozenset()) | more
    for part in text.split(",") if text.strip() else ():
        match = _field.fullmatch(part)
        if match is None:
            raise bad_request(f"invalid field selector {text!r}: can't understand {part!r}")
        if match[1] not in allowed:
            if kind in _FIELDS or is_custom:
                raise bad_request(f"field label not supported: {match[1]}")
            raise bad_request(f'"{match[1]}" is not a known field selector: only "metadata.name", "metadata.namespace"')
        found.append(Requirement(match[1], _EQUAL[match[2]], (match[3],)))
    return tuple(found)


def name_selected(text: str) -> str:
    """The one name that a field selector leaves; empty where it leaves more, or makes no sense."""
    parts = filter(None, map(_field.fullmatch, text.split(",")))
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
