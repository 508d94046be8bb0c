"""JSON paths of columns: fields, places, and items that say something (`.conditions[?(@.type=="Ready")].status`)."""

import functools
import re
from collections.abc import Callable
from typing import Final

from tidelog.engine.objects.kube import KubeObject, KubeValue

PATHS_KEPT: Final = 512
_STEP: Final = re.compile(
    r"""\.(?P<name>(?:\\.|[^.\[\]\\])+)|\.?\[(?:
        ["'](?P<quoted>(?:\\.|[^"'\\])*)["']
        |(?P<start>-?\d*):(?P<end>-?\d*)
        |(?P<place>-?\d+)
        |(?P<all>\*)
        |\?\(\s*@\.(?P<key>(?:\\.|[^=!<>\s()\\])+)\s*(?P<sign>==|!=)\s*["']?(?P<wanted>[^"')]*?)["']?\s*\)
    )\]""",
    re.VERBOSE,
)
_Step = Callable[[KubeValue], list[KubeValue]]


def first_of(obj: KubeObject, path: str) -> tuple[bool, KubeValue]:
    """Whether there is something at a path, and the first of it. A path that is none leads nowhere."""
    values: list[KubeValue] = [obj]
    for step in _steps(path):
        values = [found for value in values for found in step(value)]
    return (True, values[0]) if values else (False, None)


@functools.lru_cache(PATHS_KEPT)
def _steps(path: str) -> tuple[_Step, ...]:
    made: list[_Step] = []
    at = 0
    while at < len(path) and path != ".":
        found = _STEP.match(path, at)
        if found is None:
            return (_nowhere,)
        made.append(_step(found))
        at = found.end()
    return tuple(made)


def _nowhere(value: KubeValue) -> list[KubeValue]:
    del value
    return []


def _step(found: re.Match[str]) -> _Step:
    name = found["name"] if found["name"] is not None else found["quoted"]
    if found["name"] == "*" or found["all"]:
        return _every
    if name is not None:
        key = re.sub(r"\\(.)", r"\1", name)
        return lambda value: [value[key]] if isinstance(value, dict) and key in value else []
    if found["place"] is not None:
        place = int(found["place"])
        return lambda value: [value[place]] if isinstance(value, list) and -len(value) <= place < len(value) else []
    if found["start"] is not None:
        part = slice(int(found["start"] or 0), int(found["end"]) if found["end"] else None)
        return lambda value: value[part] if isinstance(value, list) else []
    path, wanted, is_same = f".{found['key']}", found["wanted"], found["sign"] == "=="
    return lambda value: [each for each in _every(value) if _says(each, path, wanted) == is_same]


def _every(value: KubeValue) -> list[KubeValue]:
    if isinstance(value, dict):
        return [value[key] for key in sorted(value)]
    return list(value) if isinstance(value, list) else []


def _says(item: KubeValue, path: str, wanted: str) -> bool:
    found, value = first_of(item, path) if isinstance(item, dict) else (False, None)
    if isinstance(value, bool):
        return found and ("true" if value else "false") == wanted
    return found and str(value) == wanted
