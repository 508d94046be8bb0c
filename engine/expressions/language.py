"""The language: CEL as Flux has it (Flux contract CM-078), by the C++ implementation of those who specify it.

Only the evaluating process imports this: the library costs memory, holds the interpreter's lock while it evaluates, and
may end its process on what is nested too deeply.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from cel_expr_python import cel

from tidelog.engine.expressions.errors import EvaluationError, InvalidExpressionError
from tidelog.engine.expressions.kubernetes import kubernetes_functions
from tidelog.engine.expressions.messages import HealthQuestion, HealthWord
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.objects.rules import SCALARS, TYPED_MAX, TYPED_MIN, TYPES, Rule, typed_name

PROGRAMS_KEPT: Final = 8
"""For the next questions about the same: compiling takes a third of a millisecond, and a long program 3 MB."""
PARSED_KEPT: Final = 24
"""Expressions that tell health: up to three for each kind, asked of all its objects."""
MESSAGE_CHARACTERS_MAX: Final = 512
RULES_KEPT: Final = 256
"""Rules of custom kinds are asked again at every write, and are short."""
RULE_MESSAGE_BYTES_MAX: Final = 5 * 1024
_HAS_OLD: Final = "tidelog_has_old_self"
_RULE_EXTENSIONS: Final = (
    "extensions: [{name: strings}, {name: sets}, {name: encoders}, {name: optional}, {name: math}, {name: bindings}, "
    "{name: two-var-comprehensions}]"
)
_EXTENSIONS: Final = "extensions: [{name: strings}, {name: sets}, {name: encoders}, {name: optional}]"
_MISTAKE: Final = re.compile(r"^(?:[A-Z_]+: )?ERROR: <input>:(\d+:\d+): (.*?)(?: \(in container ''\))?$", re.MULTILINE)
_RULE_MISTAKE: Final = re.compile(r"^(?:[A-Z_]+: )?ERROR: <input>:(\d+:\d+): (.*?)$", re.MULTILINE)
_NAMES: Final = (
    ("google.protobuf.Timestamp", "timestamp"),
    ("google.protobuf.Duration", "duration"),
    ("null_type", "null"),
    ("has() argument must be a field selection", "invalid argument to has() macro"),
)
"""Words of the library, and the server's."""
_CODE: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
"""The library's own code of an error, which it writes before the words, or after them too."""


def compile_condition(expression: str, names: tuple[str, ...]) -> Any:
    """Compiles an expression that gives true or false over objects.

    Raises:
        InvalidExpressionError: when it does not compile, or gives something else. As in Flux, something that may be
            anything (a bare field of an object) is something else.
    """
    program = _compiled(expression, names)
    if isinstance(program, str):
        raise InvalidExpressionError(program)
    return program


def evaluate_condition(expression: str, variables: Mapping[str, KubeObject]) -> bool:
    """Whether an expression holds of some objects.

    Raises:
        InvalidExpressionError: as `compile_condition` does.
        EvaluationError: when it has no result for these objects.
        MemoryError: when it takes more memory than the process may have.
    """
    program = compile_condition(expression, tuple(variables))
    try:
        result = program.eval(data=dict(variables))
    except RuntimeError as error:
        raise EvaluationError(_plain(str(error))) from None
    if result.type() != cel.Type.BOOL:
        raise EvaluationError(_plain(str(result.value())))
    return bool(result.value())


@functools.lru_cache(PROGRAMS_KEPT)
def _compiled(expression: str, names: tuple[str, ...]) -> Any:
    """The program; or, as it is asked for again and again, what is wrong with it."""
    try:
        program = _environment(names).compile(expression)
    except RuntimeError as error:
        return _mistakes(str(error))
    kind = program.return_type()
    if kind != cel.Type.BOOL:
        return f"it has to give true or false, and gives a value of type {kind.name().lower()}"
    return program


def parse(expression: str) -> Any:
    """Parses an expression over an object's fields. Of what type they are, or it is, is known once there is an object.

    Raises:
        InvalidExpressionError: when it is no expression.
    """
    program = _parsed(expression)
    if isinstance(program, str):
        raise InvalidExpressionError(program)
    return program


def health_by(question: HealthQuestion) -> HealthWord:
    """What expressions say of an object's health, in the order of Flux contract CM-081.

    Raises:
        InvalidExpressionError: when one that is asked is no expression.
        EvaluationError: when one has no result for this object; those after it are not asked.
        MemoryError: when one takes more memory than the process may have.
    """
    if _is_unseen(question.live):
        return "InProgress"
    asked: tuple[tuple[str, str, HealthWord], ...] = (
        ("inProgress", question.in_progress, "InProgress"),
        ("failed", question.failed, "Failed"),
        ("current", question.current, "Current"),
    )
    for field, expression, word in asked:
        if expression and _holds_of(field, expression, question.live):
            return word
    return "InProgress"


def _is_unseen(live: KubeObject) -> bool:
    """Whether the object's controller says that it has not seen its newest generation."""
    status = live.get("status")
    observed = status.get("observedGeneration") if isinstance(status, dict) else None
    return isinstance(observed, int) and observed != live["metadata"].get("generation", 0)


def _holds_of(field: str, expression: str, live: KubeObject) -> bool:
    program = parse(expression)
    try:
        result = program.eval(data=live)
    except RuntimeError as error:
        raise EvaluationError(f"{field}: {_plain(str(error))}") from None
    kind = result.type()
    if kind == cel.Type.ERROR:
        raise EvaluationError(f"{field}: {_plain(str(result.value()))}")
    if kind != cel.Type.BOOL:
        raise EvaluationError(f"{field}: it has to give true or false, and gave a value of type {kind.name().lower()}")
    return bool(result.value())


@functools.lru_cache(PARSED_KEPT)
def _parsed(expression: str) -> Any:
    """The program; or what is wrong with it."""
    try:
        return _environment(()).compile(expression, disable_check=True)
    except RuntimeError as error:
        return _mistakes(str(error))


def compile_rule(rule: Rule) -> None:
    """Compiles a rule, and what gives its message; the parts whose types are known are variables (`typed_name`).

    Raises:
        InvalidExpressionError: when one does not compile, or gives something else than true or false, or a text. The
            message of the second begins with `messageExpression`.
    """
    kind = _rule_program(rule.expression, rule.optional_old, True).return_type()  # noqa: FBT003 - a key of the cache
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        raise InvalidExpressionError("cel expression must evaluate to a bool")
    if rule.message_expression:
        try:
            kind = _rule_program(rule.message_expression, rule.optional_old, True).return_type()  # noqa: FBT003
        except InvalidExpressionError as error:
            raise InvalidExpressionError(f"messageExpression {error}") from None
        if kind not in (cel.Type.STRING, cel.Type.DYN):
            raise InvalidExpressionError("messageExpression must evaluate to a string")


def judge_rule(rule: Rule) -> tuple[Literal["true", "false"], str]:
    """Whether a rule holds, and the message that its expression gives if it does not.

    Raises:
        InvalidExpressionError: when the rule does not compile.
        EvaluationError: when it has no result for this value.
        MemoryError: when it takes more memory than the process may have.
    """
    result = _run(rule.expression, rule)
    if result.type() != cel.Type.BOOL:
        raise EvaluationError(_plain(str(result.value())))
    if result.value():
        return "true", ""
    return "false", _message_of(rule)


def _message_of(rule: Rule) -> str:
    """A message that cannot be had is none, as on the server."""
    if not rule.message_expression:
        return ""
    try:
        result = _run(rule.message_expression, rule)
    except (EvaluationError, InvalidExpressionError):
        return ""
    text = str(result.value()).strip() if result.type() == cel.Type.STRING else ""
    return "" if "\n" in text or len(text.encode()) > RULE_MESSAGE_BYTES_MAX else text


def _run(expression: str, rule: Rule) -> Any:
    program = _rule_program(expression, rule.optional_old)
    try:
        return program.eval(data={"self": rule.value, "oldSelf": rule.old, _HAS_OLD: rule.old is not None})
    except RuntimeError as error:
        raise EvaluationError(_plain(str(error))) from None


@functools.lru_cache(RULES_KEPT)
def _rule_program(expression: str, optional_old: bool, is_typed: bool = False) -> Any:  # noqa: FBT001, FBT002 - keys
    if optional_old:
        some = f"({_HAS_OLD} ? optional.of(oldSelf) : optional.none())"
        expression = f"[{some}].map(oldSelf, {expression}\n)[0]"
    try:
        return _rule_environment(is_typed=is_typed).compile(expression)
    except RuntimeError as error:
        raise InvalidExpressionError(f"compilation failed: {_rule_mistakes(str(error))}") from None


@functools.cache
def _rule_environment(*, is_typed: bool) -> Any:
    anything = cel.Type.DYN
    names = {"self": anything, "oldSelf": anything, _HAS_OLD: cel.Type.BOOL}
    if is_typed:
        names |= {
            name: _type_of(kind)
            for kind in TYPES
            for length in range(TYPED_MIN, TYPED_MAX + 1)
            if (name := typed_name(kind, length)) is not None
        }
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(_RULE_EXTENSIONS), variables=names, functions=kubernetes_functions()
    )


@functools.cache
def _environment(names: tuple[str, ...]) -> Any:
    anything = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml(_EXTENSIONS), variables=dict.fromkeys(names, anything))


def _type_of(kind: str) -> Any:
    scalar = getattr(cel.Type, SCALARS[kind[-1]].upper())
    if len(kind) == 1:
        return scalar
    return cel.Type.List(scalar) if kind[0] == "l" else cel.Type.Map(cel.Type.STRING, scalar)


def _rule_mistakes(said: str) -> str:
    """What the compiler found, a line each, in the words of the server's."""
    found = "\n".join(f"ERROR: <input>:{place}: {what}" for place, what in _RULE_MISTAKE.findall(said))
    for theirs, words in _NAMES:
        found = found.replace(theirs, words)
    return found[:MESSAGE_CHARACTERS_MAX] or _plain(said)


def _mistakes(said: str) -> str:
    """What the compiler found, with line and column, and without its drawing of the place."""
    found = [f"{place}: {what}" for place, what in _MISTAKE.findall(said)]
    return _plain("; ".join(found) or said)


def _plain(said: str) -> str:
    return _CODE.sub("", said).replace("\n", " ")[:MESSAGE_CHARACTERS_MAX]
