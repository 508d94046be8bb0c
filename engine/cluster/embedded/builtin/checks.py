"""Small checks that many kinds share."""

from collections.abc import Callable, Mapping
from typing import Any

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.builtin import formats
from tidelog.engine.cluster.embedded.builtin.metadata_problems import IMMUTABLE, NOT_NEGATIVE, labels
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.objects.kube import KubeObject


def not_negative(obj: KubeObject, path: str, *fields: str) -> list[Cause]:
    """Numbers that are 0 or more."""
    return [
        causes.invalid(f"{path}.{field}", obj[field], NOT_NEGATIVE) for field in fields if (obj.get(field) or 0) < 0
    ]


def needed(obj: KubeObject, path: str, *fields: str, detail: str = "") -> list[Cause]:
    """Fields that must not be empty."""
    return [causes.required(f"{path}.{field}", detail) for field in fields if not obj.get(field)]


def form(obj: KubeObject, path: str, field: str, of: Callable[[str], list[str]]) -> list[Cause]:
    """A text that has a form, where there is one."""
    value = obj.get(field)
    return [causes.invalid(f"{path}.{field}", value, one) for one in of(value)] if value else []


def one_of(obj: KubeObject, path: str, field: str, *supported: str) -> list[Cause]:
    """A text that is one of some, where there is one."""
    value = obj.get(field)
    at = f"{path}.{field}" if path else field
    return [] if not value or value in supported else [causes.not_supported(at, value, list(supported))]


def same(new: Any, old: Any, path: str, empty: Any = None) -> list[Cause]:
    """A value that may not change."""
    return [] if new == old else [causes.invalid(path, empty if new is None else new, IMMUTABLE)]


def port_or_name(value: Any, path: str) -> list[Cause]:
    """A port's number, or its name."""
    wrong = formats.port_number(value) if isinstance(value, int) else formats.port_name(str(value or ""))
    return [causes.invalid(path, value, one) for one in wrong]


def selector(said: KubeObject | None, path: str) -> list[Cause]:
    """A selector of labels."""
    found = labels((said or {}).get("matchLabels"), f"{path}.matchLabels")
    for index, one in enumerate((said or {}).get("matchExpressions") or ()):
        at, values = f"{path}.matchExpressions[{index}]", one.get("values") or []
        if one.get("operator") in ("In", "NotIn"):
            if not values:
                found.append(causes.required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif one.get("operator") not in ("Exists", "DoesNotExist"):
            say = "not a valid selector operator"
            found.append(causes.invalid(f"{at}.operator", one.get("operator", ""), say))
        elif values:
            say = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            found.append(causes.forbidden(f"{at}.values", say))
        found += [causes.invalid(f"{at}.key", one.get("key", ""), each) for each in formats.qualified_name(one["key"])]
        for number, value in enumerate(values):
            wrong = formats.label_value(value)
            found += [causes.invalid(f"{at}.values[{number}]", value, each) for each in wrong]
    return found


def is_selector(said: KubeObject | None) -> bool:
    """Whether a selector can be asked at all: no labels match one with an operator that is none."""
    return not any(one.reason != causes.FORBIDDEN for one in selector(said, ""))


def matches(said: KubeObject | None, has: Mapping[str, str]) -> bool:
    """Whether a selector that is valid selects an object with these labels; none selects nothing."""
    if said is None:
        return False
    if any(has.get(key) != value for key, value in (said.get("matchLabels") or {}).items()):
        return False
    return all(_meets(one, has) for one in said.get("matchExpressions") or ())


def _meets(one: KubeObject, has: Mapping[str, str]) -> bool:
    value, values = has.get(one["key"]), one.get("values") or []
    match one.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value is None or value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def amount_or_percent(value: Any, path: str) -> list[Cause]:
    """A number of 0 or more, or a percentage."""
    if isinstance(value, str):
        if value.endswith("%") and value[:-1].isdigit():
            over = int(value[:-1]) > 100
            return [causes.invalid(path, value, "must not be greater than 100%")] if over else []
        say = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex"
        return [causes.invalid(path, value, f"{say} used for validation is '[0-9]+%')")]
    return [causes.invalid(path, value, NOT_NEGATIVE)] if value < 0 else []
