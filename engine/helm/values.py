"""The values of a release: merged from references and the spec (contract HR-022 to HR-026), and their digest (HR-027).

Pure: who calls has read the Secrets and ConfigMaps.
"""

import copy
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from tidelog.engine.documents import merged
from tidelog.engine.helm.errors import ValuesError
from tidelog.engine.helm.setting import Change, as_it_is, set_at
from tidelog.engine.helm.yaml_out import encoded
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError
from tidelog.events.digest import Digest, digest_of

Values: TypeAlias = dict[str, Any]

DEFAULT_KEY: Final = "values.yaml"
_EXACT: Final = 2**53
"""Integers beyond it are floats in Go's JSON, and so are rounded."""
_escapes: Final = str.maketrans({character: f"\\{character}" for character in "\\,[]{}"})


class Given(msgspec.Struct, frozen=True):
    """An entry of `spec.valuesFrom`, and what was found."""

    kind: str
    name: str
    key: str = DEFAULT_KEY
    target_path: str = ""
    literal: bool = False
    optional: bool = False
    data: bytes | None = None
    """None when the object, or the key in it, is not there."""

    @property
    def is_secret(self) -> bool:
        """Whether what was found is."""
        return self.kind == "Secret"

    @property
    def said(self) -> str:
        """As errors name it."""
        return f"{self.kind} {self.name!r} with key {self.key!r}"


def merged_values(inline: Values, references: Sequence[Given], of_secrets: Change = as_it_is) -> Values:
    """The values of a release.

    Later references win over earlier ones, and `inline` (`spec.values`) over all. Before each reference with a target
    path the inline values come in too, and it then changes them where it goes below a map that is theirs: this is how
    such a reference wins over them, and why it does not at the top (contract HR-024).

    Args:
        inline: left as they are.
        references: in the order of the spec.
        of_secrets: what is put in the place of each value that comes from a Secret, before it is merged.

    Raises:
        ValuesError: which reference, and what is wrong; it quotes no value.
    """
    shared = as_go_reads(copy.deepcopy(inline))
    result: Values = {}
    for given in references:
        if given.data is None:
            if not given.optional:
                raise ValuesError(f"could not resolve {given.said}: the object or the key is not there")
        elif given.target_path:
            result = merged(result, shared)
            _set(result, given, _text(given, given.data), of_secrets if given.is_secret else as_it_is)
        else:
            found = _read(given, _text(given, given.data))
            result = merged(result, changed(found, of_secrets) if given.is_secret else found)
    return merged(result, shared)


def changed(value: Any, change: Change) -> Any:
    """A copy of a value with `change` made to all in it that is no map and no list."""
    if isinstance(value, dict):
        return {name: changed(held, change) for name, held in value.items()}
    if isinstance(value, list):
        return [changed(held, change) for held in value]
    return change(value)


def values_digest(values: Values) -> Digest:
    """What Flux calls the config digest."""
    return digest_of(encoded(values).encode() if values else b"")


def encoded_values(values: Values) -> bytes:
    """The values as a render takes them: equal values, equal bytes."""
    return msgspec.json.encode(values, order="deterministic")


def as_go_reads(value: Any) -> Any:
    """A value with integers as exact as Go's, which keeps them as floats. In place."""
    if isinstance(value, dict):
        for name, held in value.items():
            value[name] = as_go_reads(held)
    elif isinstance(value, list):
        value[:] = [as_go_reads(held) for held in value]
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return float(value)
    return value


def _text(given: Given, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValuesError(f"could not resolve {given.said}: it is not UTF-8") from None


def _read(given: Given, text: str) -> Values:
    try:
        found = documents(text, repeated_keys=True)
    except YamlError as error:
        line = "" if error.line is None else f" in line {error.line}"
        raise ValuesError(f"could not resolve {given.said}: it is no YAML{line}") from None
    value = found[0].value if found else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValuesError(
            f"could not resolve {given.said}: values are a map, and this is none; "
            "a single value needs a targetPath to go to"
        )
    result: Values = as_go_reads(value)
    return result


def _set(values: Values, given: Given, text: str, change: Change) -> None:
    """Contract HR-025."""
    is_quoted = any(text.startswith(quote) and text.endswith(quote) for quote in "'\"")
    if given.literal:
        text = text.translate(_escapes)
    elif is_quoted:
        text = text.strip("'\"")
    try:
        set_at(values, f"{given.target_path}={text}", as_text=given.literal or is_quoted, change=change)
    except ValuesError as error:
        raise ValuesError(
            f"could not set {given.said} at targetPath {given.target_path!r}: {error}; "
            "a value that --set would read in its own way needs `literal: true`"
        ) from None
