"""Choosing objects as Flux's selectors do: by patterns of names and kinds, and by label selectors."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tidelog.engine.objects.kube import KubeObject, group_of

_terms: Final = re.compile(r"([^,(]+(?:\([^)]*\))?)")
_SIGNS: Final = {"In": "in", "NotIn": "notin"}
_set_term: Final = re.compile(r"\s*(\S+)\s+(in|notin)\s*\(([^)]*)\)\s*")


def matches(obj: KubeObject, patterns: Mapping[str, str], labels: str = "", annotations: str = "") -> bool:
    """Whether all that is given holds.

    Args:
        obj: the object.
        patterns: regular expressions for `group`, `version`, `kind`, `namespace` and `name`, each for the whole of it;
            empty ones count for nothing. One that is none matches nothing.
        labels: a label selector.
        annotations: the same, over annotations.
    """
    metadata = obj.get("metadata") or {}
    api_version = str(obj.get("apiVersion") or "")
    found = {
        "group": group_of(api_version),
        "version": api_version.rpartition("/")[2],
        "kind": str(obj.get("kind") or ""),
        "namespace": str(metadata.get("namespace") or ""),
        "name": str(metadata.get("name") or ""),
    }
    if not all(_fits(pattern, found[name]) for name, pattern in patterns.items() if pattern):
        return False
    return selects(labels, metadata.get("labels") or {}) and selects(annotations, metadata.get("annotations") or {})


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether labels fulfil a label selector; an empty one is fulfilled by all."""
    return all(_holds(term.strip(), labels) for term in _terms.findall(selector) if term.strip())


def _fits(pattern: str, text: str) -> bool:
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return False


def _holds(term: str, labels: Mapping[str, str]) -> bool:
    listed = _set_term.fullmatch(term)
    if listed is not None:
        name, operator, values = listed.groups()
        is_in = labels.get(name) in {value.strip() for value in values.split(",")}
        return is_in if operator == "in" else not is_in
    if "!=" in term:
        name, _, value = term.partition("!=")
        return labels.get(name.strip()) != value.strip()
    if "=" in term:
        name, _, value = term.replace("==", "=").partition("=")
        return labels.get(name.strip()) == value.strip()
    return term[1:].strip() not in labels if term.startswith("!") else term in labels


def selector_text(selector: Mapping[str, Any]) -> str:
    """A label selector of an object as a text: `app=web,tier in (a,b)`."""
    return ",".join(text for _, text in sorted(_requirements(selector)))


def _requirements(selector: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in (selector.get("matchLabels") or {}).items():
        yield key, f"{key}={value}"
    for each in selector.get("matchExpressions") or ():
        key, sign = each["key"], each["operator"]
        if sign in _SIGNS:
            yield key, f"{key} {_SIGNS[sign]} ({','.join(sorted(each.get('values') or ()))})"
        else:
            yield key, key if sign == "Exists" else f"!{key}"
