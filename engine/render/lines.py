"""Where a field of an object is written: the line in its file.

Only what was refused pays for this; its text was read as documents before, which bounds its depth.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

import yaml

Step: TypeAlias = str | int | tuple[tuple[str, str], ...]
"""A key, the number of an item, or the keys and values that an item has."""

_pair = r"""[\w-]+=(?:"[^"]*"|[^"\[\],=]+)"""
_steps = re.compile(rf"""\.?([^.\[\]]+)|\[([0-9]+)\]|\[({_pair}(?:,{_pair})*)\]|\["((?:[^"\\]|\\.)*)"\]|\[([^\]]+)\]""")
_pairs = re.compile(r'([\w-]+)=(?:"([^"]*)"|([^",=]+))')


def line_of_field(text: str, line: int, item: int | None, path: str) -> int | None:
    """The line of a field, or that of the field above where it alone is missing; None where neither is written there.

    Args:
        text: the file.
        line: where the object's document begins in it.
        item: which item of the document's list it is, where that is a list of objects.
        path: of the field, as the server writes it: `spec.ports[0].port`, `spec.containers[name="web"].image`.
    """
    steps = list(_steps_of(path))
    node = _document(text, line)
    if node is None or not steps:
        return None
    if item is not None:
        steps = ["items", item, *steps]
    found = line
    for number, step in enumerate(steps):
        below = _below(node, step)
        if below is None:
            return found if number == len(steps) - 1 and number > 0 else None
        found, node = below
    return found


def line_of_text(text: str, value: str) -> int | None:
    """The line of the first scalar that is `value`, or gives it a name (`name=value`); None where there is none."""
    try:
        for event in yaml.parse(text, yaml.CBaseLoader):
            if isinstance(event, yaml.ScalarEvent) and value in (event.value, event.value.partition("=")[2]):
                return None if event.start_mark is None else event.start_mark.line + 1
    except yaml.YAMLError:
        pass
    return None


def _steps_of(path: str) -> Iterator[Step]:
    for match in _steps.finditer(path):
        name, index, pairs, quoted, other = match.groups()
        if index is not None:
            yield int(index)
        elif pairs is not None:
            yield tuple((name, text or bare) for name, text, bare in _pairs.findall(pairs))
        else:
            yield name or quoted or other


def _document(text: str, line: int) -> yaml.Node | None:
    loader = yaml.CBaseLoader(text)
    while loader.check_node():
        node = loader.get_node()
        if node is not None and node.start_mark.line + 1 == line:
            return node
    return None


def _below(node: yaml.Node, step: Step) -> tuple[int, yaml.Node] | None:
    """The line of what is one step further in, and that itself."""
    if isinstance(step, str) and isinstance(node, yaml.MappingNode):
        return next(((key.start_mark.line + 1, value) for key, value in node.value if key.value == step), None)
    if not isinstance(node, yaml.SequenceNode) or isinstance(step, str):
        return None
    if isinstance(step, int):
        found = node.value[step] if step < len(node.value) else None
    else:
        found = next((one for one in node.value if all(_has(one, *pair) for pair in step)), None)
    return None if found is None else (found.start_mark.line + 1, found)


def _has(node: yaml.Node, name: str, value: str) -> bool:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return any(key.value == name and below.value == value for key, below in pairs)
