"""The language: CEL as Flux has it (Flux contract CM-078), by the C++ implementation of those who specify it.

Only the evaluating process imports this: the library costs memory, holds the interpreter's lock while it evaluates, and
may end its process on what is nested too deeply.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, Final

from cel_expr_python import cel

from tidelog.engine.expressions.errors import EvaluationError, InvalidExpressionError
from tidelog.engine.objects.kube import KubeObject

PROGRAMS_KEPT: Final = 8
"""For the next questions about the same: compiling takes a third of a millisecond, and a long program 3 MB."""
MESSAGE_CHARACTERS_MAX: Final = 512
_EXTENSIONS: Final = "extensions: [{name: strings}, {name: sets}, {name: encoders}, {name: optional}]"
_MISTAKE: Final = re.compile(r"^(?:[A-Z_]+: )?ERROR: <input>:(\d+:\d+): (.*?)(?: \(in container ''\))?$", re.MULTILINE)
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


@functools.cache
def _environment(names: tuple[str, ...]) -> Any:
    anything = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
    return cel.NewEnv(config=cel.NewEnvConfigFromYaml(_EXTENSIONS), variables=dict.fromkeys(names, anything))


def _mistakes(said: str) -> str:
    """What the compiler found, with line and column, and without its drawing of the place."""
    found = [f"{place}: {what}" for place, what in _MISTAKE.findall(said)]
    return _plain("; ".join(found) or said)


def _plain(said: str) -> str:
    return _CODE.sub("", said).replace("\n", " ")[:MESSAGE_CHARACTERS_MAX]
