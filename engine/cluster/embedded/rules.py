"""Rules of custom kinds: `x-kubernetes-validations`, in CEL (KEP-2876), as far as the evaluator goes.

When a definition is written, fields that are written out (`self.spec.size`) have the types of its schema, if those are
scalars, or lists or maps of such; all else may be anything, and a rule that uses it as what it is not is found when it
is evaluated.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tidelog.engine.cluster.embedded import causes, rule_literals, rule_types
from tidelog.engine.cluster.embedded.causes import Cause
from tidelog.engine.cluster.embedded.correlation import Correlated, item_like
from tidelog.engine.cluster.embedded.custom import has_rules, schema_of
from tidelog.engine.cluster.embedded.openapi import show
from tidelog.engine.cluster.embedded.registry import Resource
from tidelog.engine.cluster.embedded.rule_paths import field_path
from tidelog.engine.cluster.embedded.rule_types import TEXT, escaped
from tidelog.engine.cluster.embedded.schema import Raw
from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.rules import Judge, Rule, Verdict

RULES: Final = "x-kubernetes-validations"
_OLD: Final = re.compile(r"(?<![\w.])oldSelf\b")
_FIELDS: Final = re.compile(r"(?<![\w.])(?:self|oldSelf)((?:\.[A-Za-z_]\w*)+)(?!\w)(\s*\()?")
_HTML: Final = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "&<>"})
"""What Go writes otherwise in JSON."""
_PLACE: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): ")
_TIMES: Final = {
    "date-time": "timestamp({})",
    "datetime": "timestamp({})",
    "date": "timestamp({} + 'T00:00:00Z')",
    "duration": "duration({})",
}
_META: Final[Raw] = {
    "apiVersion": {"type": "string"},
    "kind": {"type": "string"},
    "metadata": {"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}},
}
_WORDS: Final = (
    (re.compile(r'Key not found in map : "(.*)"'), r"no such key: \1"),
    (re.compile(r"(?i)divide by zero|division by zero"), "division by zero"),
    (re.compile(r"(?i)index out of bounds:? ?(.*)"), r"index out of bounds: \1"),
    (re.compile(r"No matching overloads found.*"), "no such overload"),
)
"""The evaluator's words for what goes wrong, and the server's."""


class _Asked(NamedTuple):
    """A rule, and the value that it is asked of."""

    rule: Raw
    raw: Raw
    value: KubeValue
    path: str
    is_tolerated: bool
    """Whether the value did not change."""
    question: Rule


async def broken_rules(resource: Resource, obj: KubeObject, old: KubeObject | None, judge: Judge) -> list[Cause]:
    """The rules that an object breaks. Not to be asked of what is too wrong for them (`custom.is_too_wrong`).

    Raises:
        EvaluatorError: when they take too long or too much.
    """
    raw = schema_of(resource)
    if not has_rules(raw):
        return []
    correlated = None if old is None else Correlated(obj, old, raw)
    asked = list(_asked({**raw, "x-kubernetes-embedded-resource": True}, obj, old, "", correlated, None))
    if not asked:
        return []
    verdicts = await judge.judge([each.question for each in asked])
    return [cause for each, verdict in zip(asked, verdicts, strict=False) for cause in _causes(each, verdict)]


def _asked(
    raw: Raw, value: KubeValue, old: KubeValue, path: str, current: Correlated | None, parent: Correlated | None
) -> Iterator[_Asked]:
    """Every rule below a value. `current` and `parent` tell what changed: of the value, and of what is around it."""
    if value is None:
        return
    tolerated = current.is_same if current is not None else parent is not None and parent.is_same
    for rule in raw.get(RULES) or ():
        optional = bool(rule.get("optionalOldSelf"))
        uses_old = uses_old_self(rule.get("rule") or "")
        if not (rule.get("rule") or "").strip() or (uses_old and old is None and not optional):
            continue
        before = None if old is None or not uses_old else to_cel(old, raw)
        expression, message = (with_times(rule.get(name) or "", raw) for name in ("rule", "messageExpression"))
        question = Rule(expression, message, to_cel(value, raw), before, optional)
        yield _Asked(rule, raw, value, path, tolerated and not uses_old, question)
    if isinstance(value, list):
        items = raw.get("items")
        for i, item in enumerate(value if isinstance(items, dict) else ()):
            below = None if current is None else current.index(i)
            nearest = parent if current is None else current
            yield from _asked(items or {}, item, item_like(item, old, raw), f"{path}[{i}]", below, nearest)
    elif isinstance(value, dict):
        named, free = raw.get("properties") or {}, raw.get("additionalProperties")
        for key, each in value.items():
            before = old.get(key) if isinstance(old, dict) else None
            is_kind = parent is None and key in ("apiVersion", "kind")
            below = None if current is None or is_kind else current.key(key)
            nearest = parent if current is None else None if is_kind else current
            if key in named:
                at = f"{path}.{key}" if path else key
                yield from _asked(named[key], each, before, at, below, nearest)
            elif isinstance(free, dict):
                yield from _asked(free, each, before, f"{path}[{key}]", below, nearest)


def uses_old_self(expression: str) -> bool:
    """Whether a rule compares with what was before."""
    return _OLD.search(TEXT.sub("''", expression)) is not None


def to_cel(value: KubeValue, raw: Raw | None) -> KubeValue:
    """A value as rules see it: only fields that the schema names, by names that CEL can write."""
    if raw is None:
        return value
    if isinstance(value, dict):
        named = raw.get("properties") or {}
        if raw.get("x-kubernetes-embedded-resource"):
            named = {**named, **_META}
        if named:
            return {
                escaped(key): to_cel(each, named[key])
                for key, each in value.items()
                if key in named and not (each is None and not named[key].get("nullable"))
            }
        free = raw.get("additionalProperties")
        return {key: to_cel(each, free) for key, each in value.items()} if isinstance(free, dict) else value
    if isinstance(value, list):
        items = raw.get("items")
        return [to_cel(item, items) for item in value] if isinstance(items, dict) else value
    return float(value) if raw.get("type") == "number" and type(value) is int else value


def with_times(expression: str, raw: Raw) -> str:
    """An expression whose times and durations are such: the evaluator takes them as texts, the server does not.

    Only where a field is written out (`self.spec.from`): what goes through a variable of a macro stays a text.
    """

    def timed(field: str, names: list[str]) -> str | None:
        form = _form_at(names, raw)
        return None if form is None else _TIMES[form].format(field)

    return rule_types.replaced(expression, timed)


def _form_at(names: list[str], raw: Raw) -> str | None:
    here: Raw | None = raw
    for name in names:
        known = {escaped(key): part for key, part in ((here or {}).get("properties") or {}).items()}
        here = known.get(name)
    form = (here or {}).get("format")
    return form if form in _TIMES and (here or {}).get("type") == "string" else None


def _causes(asked: _Asked, verdict: Verdict) -> Iterator[Cause]:
    if verdict.outcome == "true":
        return
    rule, path = asked.rule, asked.path or "<nil>"
    kind = str(asked.raw.get("type") or "")
    said = str(rule.get("message") or "").strip() or rule["rule"].strip()
    if verdict.outcome != "false":
        yield causes.invalid(path, kind, _failed(verdict, said))
        return
    if asked.is_tolerated:
        return
    below = field_path(rule.get("fieldPath") or "", asked.raw) or ""
    if below:
        path = f"{asked.path}.{below}" if asked.path else below
    message = verdict.message or (said if rule.get("message") else f"failed rule: {said}")
    shown = "" if kind in ("object", "array") else show(asked.value)
    yield _broken(rule.get("reason") or causes.INVALID, path, shown, message)


def _failed(verdict: Verdict, said: str) -> str:
    if verdict.outcome == "invalid":
        return f"rule compile error: {verdict.message}"
    words = verdict.message
    for pattern, instead in _WORDS:
        words = pattern.sub(instead, words)
    if words.startswith("no such overload"):
        wrong = "call arguments did not match a supported operator, function or macro signature for rule"
        return f"'{words}': {wrong}: {said}"
    return f"{words} evaluating rule: {said}"


def _broken(reason: str, path: str, shown: str, message: str) -> Cause:
    if reason == causes.FORBIDDEN:
        return causes.forbidden(path, message)
    if reason == causes.REQUIRED:
        return causes.required(path, message)
    if reason == causes.DUPLICATE:
        return Cause(causes.DUPLICATE, path, f"Duplicate value: {shown}" if shown else "Duplicate value")
    return Cause(causes.INVALID, path, f"Invalid value: {shown}: {message}" if shown else f"Invalid value: {message}")


# Definitions.


async def mistakes_in_rules(raw: Raw, path: str, judge: Judge) -> list[Cause]:
    """Rules of a schema that do not compile. To be asked of a schema that has nothing else wrong with it.

    Raises:
        EvaluatorError: when they take too long or too much.
    """
    found = list(_written({**raw, "x-kubernetes-embedded-resource": True}, path, ""))
    if not found:
        return []
    rules = [
        Rule(
            rule_types.typed(each["rule"], part),
            rule_types.typed(each.get("messageExpression") or "", part),
            optional_old=bool(each.get("optionalOldSelf")),
        )
        for each, part, *_ in found
    ]
    verdicts = await judge.judge(rules, only_compile=True)
    wrong: list[Cause] = []
    for (rule, part, at, uncorrelated), verdict in zip(found, verdicts, strict=False):
        wrong += _mistakes(rule, part, at, uncorrelated, verdict)
    return wrong


def _written(raw: Raw, path: str, uncorrelated: str) -> Iterator[tuple[Raw, Raw, str, str]]:
    """Each rule, its schema, its path, and the path of the list whose items are not told apart."""
    for i, rule in enumerate(raw.get(RULES) or ()):
        yield rule, raw, f"{path}.{RULES}[{i}]", uncorrelated
    for key, part in (raw.get("properties") or {}).items():
        yield from _written(part, f"{path}.properties[{key}]", uncorrelated)
    if isinstance(raw.get("additionalProperties"), dict):
        yield from _written(raw["additionalProperties"], f"{path}.additionalProperties", uncorrelated)
    if isinstance(raw.get("items"), dict):
        own = "" if raw.get("x-kubernetes-list-type") == "map" else path
        yield from _written(raw["items"], f"{path}.items", uncorrelated or own)


def _mistakes(rule: Raw, raw: Raw, path: str, uncorrelated: str, verdict: Verdict) -> Iterator[Cause]:
    shown = causes.shown(_internal(rule)).translate(_HTML)
    message = _drawn(verdict.message, rule) if verdict.outcome == "invalid" else ""
    message = message or _unknown_field(rule["rule"], raw) or rule_literals.mistake_in(rule["rule"])
    if message.startswith("messageExpression"):
        yield Cause(causes.INVALID, f"{path}.messageExpression", f"Invalid value: {shown}: {message}")
    elif message:
        yield Cause(causes.INVALID, f"{path}.rule", f"Invalid value: {shown}: {message}")
    if message:
        return
    if uses_old_self(rule["rule"]) and uncorrelated:
        said = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}"
        yield causes.invalid(f"{path}.rule", rule["rule"], said)
    if not uses_old_self(rule["rule"]) and rule.get("optionalOldSelf") is not None:
        said = "may not be set if oldSelf is not used in rule"
        yield causes.invalid(f"{path}.optionalOldSelf", rule["optionalOldSelf"], said)


def _drawn(message: str, rule: Raw) -> str:
    """What the compiler says, with the places in what was written."""
    expression = rule["messageExpression"] if message.startswith("messageExpression") else rule["rule"]
    made = []
    for line in message.split("\n"):
        made.append(line)
        if found := _PLACE.search(line):
            made.append(rule_literals.drawing(expression, int(found[1]), int(found[2])))
    return "\n".join(made)


def _internal(rule: Raw) -> dict[str, Any]:
    """As the server shows a rule: its own form, by Go's names."""
    names = ("rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf")
    empty = {"reason": None, "optionalOldSelf": None}
    return {f"{name[0].upper()}{name[1:]}": rule.get(name, empty.get(name, "")) for name in names}


def _unknown_field(expression: str, raw: Raw) -> str:
    """What the server's compiler says of a field that the schema does not know."""
    bare = TEXT.sub(lambda found: " " * len(found[0]), expression)
    for found in _FIELDS.finditer(bare):
        names = found[1][1:].split(".")
        here: Raw = raw
        column = found.start(1)
        for name in names[: len(names) - bool(found[2])]:
            named = here.get("properties") or {}
            if here.get("x-kubernetes-embedded-resource"):
                named = {**named, **_META}
            if not named:
                break
            known = {escaped(key): part for key, part in named.items()}
            if name not in known:
                if name == names[-1] and bare[: found.start()].rstrip().endswith("has("):
                    column = bare.rfind("(", 0, found.start())  # the macro is what is wrong
                return rule_literals.mistake_at(expression, column, f"undefined field '{name}'")
            here = known[name]
            column += len(name) + 1
    return ""
