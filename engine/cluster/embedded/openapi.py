"""Whether a value fits an OpenAPI v3 schema, as the API server finds it (k8s.io/kube-openapi, `validation/validate`).

The order in which things are tried and counted follows the server's, because for `anyOf` and `oneOf` it reports the
mistakes of the alternative with which most agreed.
"""

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from tidelog.engine.cluster.embedded import causes, formats
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.correlation import Correlated, identity, same
from tidelog.engine.cluster.embedded.patterns import matches, mistake_in
from tidelog.engine.cluster.embedded.schema import Raw
from tidelog.engine.objects.kube import KubeValue


class Fault(NamedTuple):
    """One thing that is wrong. Two with the same words are one."""

    reason: str
    path: str | None
    """None where the server does not tell where it is, but in words."""
    said: str
    value: KubeValue = ""
    values: tuple[KubeValue, ...] = ()
    """What is supported."""
    most: int = -1


class _Result:
    def __init__(self, *faults: Fault) -> None:
        self.faults: dict[str, Fault] = {fault.said: fault for fault in faults}
        self.matched = 0
        """How many checks held: the alternative of an `anyOf` with most of them is reported."""

    def merge(self, other: "_Result") -> None:
        for said, fault in other.faults.items():
            self.faults.setdefault(said, fault)
        self.matched += other.matched

    def add(self, *faults: Fault) -> None:
        for fault in faults:
            self.faults.setdefault(fault.said, fault)


def problems(raw: Raw, value: KubeValue, path: str = "", correlated: Correlated | None = None) -> list[Cause]:
    """What is wrong with a value; with `correlated`, only where it changed. Fields are named below `path`."""
    found = _validate(raw, value, "", correlated)
    return [_cause(fault, path) for fault in found.faults.values()]


def _validate(raw: Raw, value: KubeValue, path: str, correlated: Correlated | None) -> _Result:
    result = _check(raw, value, path, correlated)
    if correlated is not None and result.faults and correlated.is_same:
        tolerated = _Result()
        tolerated.matched = result.matched
        return tolerated
    return result


def _check(raw: Raw, value: KubeValue, path: str, correlated: Correlated | None) -> _Result:
    result = _Result()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        value = float(value)  # what the server reads of such a number
    if value is None:
        result.merge(_type(raw, value, path))
        result.merge(_enum(raw, value, path))
        return result
    parts = [_type(raw, value, path)] if _types(raw) or _format(raw) else []
    parts.append(_combined(raw, value, path))
    if isinstance(value, str):
        parts.append(_text(raw, value, path))
        if _format(raw):
            parts.append(_formatted(raw, value, path))
    if isinstance(value, int | float) and not isinstance(value, bool):
        parts.append(_number(raw, value, path))
    if isinstance(value, list):
        parts.append(_list(raw, value, path, correlated))
    parts.append(_enum(raw, value, path))
    if isinstance(value, dict):
        parts.append(_object(raw, value, path, correlated))
    for part in parts:
        result.merge(part)
        result.matched += 1
    result.matched += 1
    return result


def _types(raw: Raw) -> tuple[str, ...]:
    if raw.get("x-kubernetes-int-or-string"):
        return "integer", "string"
    said = raw.get("type")
    return (str(said),) if said else ()


def _format(raw: Raw) -> str:
    said = raw.get("format")
    return str(said) if said and formats.known(str(said)) else ""


def _kind_of(value: KubeValue) -> tuple[str, str]:
    """The type of a value, and the format that it has by itself."""
    if isinstance(value, bool):
        return "boolean", ""
    if isinstance(value, str):
        return "string", ""
    if isinstance(value, int):
        return "integer", "int64"
    if isinstance(value, float):
        return "number", "float64"
    return ("array", "") if isinstance(value, list) else ("object", "")


def _type(raw: Raw, value: KubeValue, path: str) -> _Result:
    types, form = _types(raw), _format(raw)
    result = _Result()
    result.matched = 1
    if value is None:
        if types and not raw.get("nullable"):
            return _Result(_wrong_type(path, ",".join(types), "null"))
        return result
    kind, own = _kind_of(value)
    is_whole = isinstance(value, float) and "integer" in types and _is_whole(value)
    fits = kind in types or is_whole or (kind == "integer" and "number" in types)
    is_text = isinstance(value, str | list)
    if not is_text and form and not (fits or own == form):
        return _Result(_wrong_type(path, form, own))
    if form and is_text and not {"number", "integer"} & set(types):
        return result
    return result if fits else _Result(_wrong_type(path, ",".join(types), kind))


def _wrong_type(path: str, wanted: str, got: str) -> Fault:
    said = f"{path} in body must be of type {wanted}: {causes.shown(got)}"
    return Fault(causes.TYPE_INVALID, path, said, got)


def _enum(raw: Raw, value: KubeValue, path: str) -> _Result:
    allowed = raw.get("enum")
    if not allowed or (value is not None and any(_is_one(value, each) for each in allowed)):
        return _Result()
    return _Result(
        Fault(causes.NOT_SUPPORTED, path, f"{path} in body should be one of {allowed}", value, tuple(allowed))
    )


def _is_one(value: KubeValue, allowed: KubeValue) -> bool:
    """Numbers are converted first, as Go does: 1.9 becomes 1 where 1 is allowed."""
    if isinstance(value, bool) or isinstance(allowed, bool):
        return value is allowed
    if isinstance(allowed, int) and isinstance(value, float):
        return int(value) == allowed
    if isinstance(allowed, float) and isinstance(value, int):
        return float(value) == allowed
    if isinstance(allowed, str) and isinstance(value, int):
        return 0 <= value < 0x110000 and chr(value) == allowed
    return same(value, allowed)


def _combined(raw: Raw, value: KubeValue, path: str) -> _Result:
    result = _Result()
    _any_of(raw.get("anyOf") or (), value, path, result)
    _one_of(raw.get("oneOf") or (), value, path, result)
    _all_of(raw.get("allOf") or (), value, path, result)
    unwanted = raw.get("not")
    if isinstance(unwanted, dict) and not _check(unwanted, value, path, None).faults:
        result.add(_composite(f"{causes.shown(path)} must not validate the schema (not)"))
    result.matched += 1
    return result


def _composite(said: str) -> Fault:
    return Fault(causes.INVALID, None, said)


def _any_of(schemas: Iterable[Raw], value: KubeValue, path: str, into: _Result) -> None:
    best: _Result | None = None
    for schema in schemas:
        result = _check(schema, value, path, None)
        if not result.faults:
            into.merge(result)
            return
        if best is None or result.matched > best.matched:
            best = result
    if best is not None:
        into.add(_composite(f"{causes.shown(path)} must validate at least one schema (anyOf)"))
        into.merge(best)


def _one_of(schemas: Iterable[Raw], value: KubeValue, path: str, into: _Result) -> None:
    results = [_check(schema, value, path, None) for schema in schemas]
    valid = [result for result in results if not result.faults]
    if len(valid) == 1:
        into.merge(valid[0])
    elif results:
        found = f"Found {len(valid)} valid alternatives" if valid else "Found none valid"
        into.add(_composite(f"{causes.shown(path)} must validate one and only one schema (oneOf). {found}"))
        if not valid:
            into.merge(max(results, key=lambda result: result.matched))


def _all_of(schemas: Iterable[Raw], value: KubeValue, path: str, into: _Result) -> None:
    results = [_check(schema, value, path, None) for schema in schemas]
    valid = sum(not result.faults for result in results)
    for result in results:
        into.merge(result)
    if valid != len(results):
        none = "" if valid else ". None validated"
        into.add(_composite(f"{causes.shown(path)} must validate all the schemas (allOf){none}"))


def _text(raw: Raw, value: str, path: str) -> _Result:
    most, least, pattern = raw.get("maxLength"), raw.get("minLength"), raw.get("pattern")
    if most is not None and len(value) > most:
        said = f"{path} in body should be at most {most} chars long"
        return _Result(Fault(causes.TOO_LONG, path, said, value, most=most))
    if least is not None and len(value) < least:
        return _Result(Fault(causes.INVALID, path, f"{path} in body should be at least {least} chars long", value))
    if pattern and not matches(pattern, value):
        mistake = mistake_in(pattern)
        shown = f"{pattern}, but pattern is invalid: {mistake}" if mistake else pattern
        return _Result(Fault(causes.INVALID, path, f"{path} in body should match '{shown}'", value))
    return _Result()


def _formatted(raw: Raw, value: str, path: str) -> _Result:
    form = _format(raw)
    return _Result() if formats.fits(form, value) else _Result(_wrong_type(path, form, value))


def _number(raw: Raw, value: float, path: str) -> _Result:
    result = _Result()
    step, most, least = raw.get("multipleOf"), raw.get("maximum"), raw.get("minimum")
    if isinstance(value, int):
        step, most, least = (None if bound is None else int(bound) for bound in (step, most, least))
    if step is not None:
        if step <= 0:
            said = f"factor MultipleOf declared for {path} must be positive: {go_number(step)}"
            result.add(Fault(causes.INVALID, path, said, step))
        elif not (value % step == 0 if isinstance(value, int) else _is_whole(_quotient(value, step))):
            said = f"{path} in body should be a multiple of {go_number(step)}"
            result.add(Fault(causes.INVALID, path, said, value))
    if least is not None and (value <= least if raw.get("exclusiveMinimum") else value < least):
        than = "greater than" if raw.get("exclusiveMinimum") else "greater than or equal to"
        result.add(Fault(causes.INVALID, path, f"{path} in body should be {than} {go_number(least)}", value))
    if most is not None and (value >= most if raw.get("exclusiveMaximum") else value > most):
        than = "less than" if raw.get("exclusiveMaximum") else "less than or equal to"
        result.add(Fault(causes.INVALID, path, f"{path} in body should be {than} {go_number(most)}", value))
    result.matched += 1
    return result


def _quotient(value: float, step: float) -> float:
    return 1 / step * value if step < 1 else value / step


def _is_whole(value: float) -> bool:
    """Within the rounding of the server (go-openapi/swag, `IsFloat64AJSONInteger`)."""
    if math.isnan(value) or math.isinf(value) or not -(2.0**53) < value < 2.0**53:
        return False
    whole = float(math.trunc(value))
    if whole in (value, 0):
        return value == whole
    return abs(value - whole) / (abs(value) + abs(whole)) < 1e-9


def go_number(value: float) -> str:
    """A number as Go's `%v` writes it."""
    if isinstance(value, int):
        return str(value)
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -5 < exponent < 21:
        text = repr(value) if "e" not in repr(value) else f"{value:f}"
        return text.removesuffix(".0")
    mantissa, _, power = repr(value).partition("e")
    if not power:
        mantissa, _, power = f"{value:e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa.removesuffix('.0')}e{'-' if power.startswith('-') else '+'}{power.lstrip('+-').rjust(2, '0')}"


def _list(raw: Raw, value: list[Any], path: str, correlated: Correlated | None) -> _Result:
    result = _Result()
    items = raw.get("items")
    if isinstance(items, dict):
        for i, item in enumerate(value):
            old = None if correlated is None else correlated.index(i)
            result.merge(_validate(items, item, f"{path}[{i}]", old))
    least, most = raw.get("minItems"), raw.get("maxItems")
    if least is not None and len(value) < least:
        result.add(Fault(causes.INVALID, path, f"{path} in body should have at least {least} items", len(value)))
    if most is not None and len(value) > most:
        said = f"{path} in body should have at most {most} items"
        result.add(Fault(causes.TOO_MANY, path, said, len(value), most=most))
    if raw.get("uniqueItems") and len(set(map(identity, value))) < len(value):
        result.add(Fault(causes.INVALID, path, f"{path} in body shouldn't contain duplicates"))
    result.matched += 1
    return result


def _object(raw: Raw, value: dict[str, Any], path: str, correlated: Correlated | None) -> _Result:
    result = _Result()
    least, most = raw.get("minProperties"), raw.get("maxProperties")
    if least is not None and len(value) < least:
        said = f"{path} in body should have at least {least} properties"
        result.add(Fault(causes.INVALID, path, said, len(value)))
    if most is not None and len(value) > most:
        said = f"{path} in body should have at most {most} properties"
        result.add(Fault(causes.TOO_MANY, path, said, len(value), most=most))
    named, free = raw.get("properties") or {}, raw.get("additionalProperties")
    for key, each in value.items():
        if key in named:
            continue
        if free is False:
            said = f"{path}.{key} in body is a forbidden property"
            result.add(Fault(causes.INVALID, path, said, key))
        elif isinstance(free, dict):
            result.merge(_validate(free, each, f"{path}.{key}", _below(correlated, key, path)))
    for key, schema in named.items():
        if key in value:
            at = f"{path}.{key}" if path else key
            result.merge(_validate(schema, value[key], at, _below(correlated, key, path)))
    for key in raw.get("required") or ():
        if key not in value:
            result.add(Fault(causes.REQUIRED, f"{path}.{key}", f"{path}.{key} in body is required"))
    return result


def _below(correlated: Correlated | None, key: str, path: str) -> Correlated | None:
    """The old version of an object and its new one say the same kind, whatever they were written in."""
    if correlated is None or (path == "" and key in ("kind", "apiVersion")):
        return None
    return correlated.key(key)


def _cause(fault: Fault, base: str) -> Cause:
    own = "" if fault.path is None else fault.path.removeprefix(".")
    field = f"{base}.{own}" if base and own else base or own
    field = field or "<nil>"
    value = "" if fault.value is None else fault.value
    if fault.reason == causes.REQUIRED:
        return causes.required(field)
    if fault.reason == causes.NOT_SUPPORTED:
        allowed = [each if isinstance(each, str) else causes.shown(each) for each in fault.values]
        supported = ", ".join(causes.shown(each) for each in allowed)
        shown = show(fault.value)
        return Cause(causes.NOT_SUPPORTED, field, f"Unsupported value: {shown}: supported values: {supported}")
    if fault.reason == causes.TOO_LONG:
        unit = "byte" if fault.most == 1 else "bytes"
        return Cause(causes.TOO_LONG, field, f"Too long: may not be more than {fault.most} {unit}")
    if fault.reason == causes.TOO_MANY:
        unit = "item" if fault.most == 1 else "items"
        return Cause(causes.TOO_MANY, field, f"Too many: {fault.value}: must have at most {fault.most} {unit}")
    return Cause(fault.reason, field, f"Invalid value: {show(value)}: {fault.said}")


def show(value: KubeValue) -> str:
    """A value as the server writes it into such a message: keys sorted, numbers as Go has them."""
    if isinstance(value, float) and not isinstance(value, bool):
        return go_number(value)
    return _json(value)


def _json(value: KubeValue) -> str:
    """As Go's JSON: within a list or a map, small numbers are written otherwise than alone."""
    if isinstance(value, list):
        return f"[{','.join(map(_json, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_json(key)}:{_json(each)}' for key, each in sorted(value.items()))}}}"
    if isinstance(value, float) and (value == 0 or 1e-6 <= abs(value) < 1e21):
        text = format(Decimal(repr(value)), "f")
        return text.removesuffix(".0")
    if isinstance(value, float):
        return repr(value).replace("e-0", "e-")
    return msgspec.json.encode(value).decode()
