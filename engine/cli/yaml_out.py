"""YAML for people and programs."""

from typing import Any

import yaml

from tidelog.engine.documents import plain_value

_WHOLE = 1 << 30
"""Columns of a line: none is folded."""


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as YAML calls it
        """What stands in two places is written twice, as in JSON."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """A text: of several lines as a block, and in quotes where any reader may take it for something else."""
    style = None if text and isinstance(plain_value(text), str) else '"'
    style = "|" if "\n" in text else style
    node: yaml.ScalarNode = dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


_Dumper.add_representer(str, _text)


def dump(value: object) -> str:
    """A value of JSON as one document."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WHOLE))
