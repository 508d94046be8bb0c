"""Which rendered objects depend on secret values, found by difference.

Values go through templates (`b64enc`, `sha256sum`, `indent`, a line of a configuration file), so that nobody can follow
them. The chart is rendered a second time with stand-ins in their place: what differs then is secret. What a template
makes by chance differs too, and is as secret: that is how charts generate passwords. What this cannot see is a value
that is only compared, and compares unequal as its stand-in does.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

import msgspec

from tidelog.engine.helm.setting import Scalar
from tidelog.engine.helm.sorting import HOOK
from tidelog.engine.helm.spec import Hook, Manifest, RenderedChart
from tidelog.engine.helm.values import Values, changed
from tidelog.engine.helm.words import IMPURE
from tidelog.engine.objects.kube import KubeObject, group_of, mapping
from tidelog.engine.render.handing import CERTAIN, Search
from tidelog.engine.secrecy.handed import is_searched_for
from tidelog.engine.secrecy.objects import is_secret
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.names import ObjectKey

CHANCE: Final = frozenset(IMPURE) - {"lookup", "now", "ago", "getHostByName"}
"""Functions that make what is secret by chance, or put chance into it (a salt)."""
_BASE64_CHARACTERS: Final = 8
"""From how many on a text that can be read as base64 is taken for that."""

_action: Final = re.compile(r"""(\{\{(?:(?:include|template) "[^"]*"|[^{}"'`0-9])*\}\})""")
"""An action of a template without a literal in it, but for the name of another template."""
_CALLED: Final = frozenset(("apiVersion", "kind", "name", "namespace"))
_Texts: TypeAlias = Mapping[ObjectKey, list[str]]


class Secrecy(msgspec.Struct, frozen=True):
    """What of a rendered chart is secret. Objects go by the namespace that is written in them."""

    manifests: frozenset[ObjectKey]
    hooks: frozenset[ObjectKey]
    notes: bool
    exposed: tuple[ObjectKey, ...] = ()
    """Objects that are called by a secret value: names stand in the open in logs, events and conditions."""
    hook_texts: tuple[str, ...] = ()
    """What in hooks is secret: the server quotes it where it refuses them, and no set of objects has it."""


def stand_in(value: Scalar) -> Scalar:
    """Another value of the same kind: of a text, each letter and each digit is another one of its class.

    A text in base64 stands for what it encodes, as templates may decode it.
    """
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return _other_text(value)
    if isinstance(value, int):
        return int("-" * (value < 0) + _other_digits(str(abs(value))))
    if isinstance(value, float) and math.isfinite(value):
        return value + 1 if value + 1 != value else value / 2
    return value


def with_flags_of(values: Values, stand_ins: Values) -> Values:
    """Stand-ins whose booleans are those of `values`: these switch parts of a chart on, which may ask for more."""
    made = _with_flags(values, stand_ins)
    return made if isinstance(made, dict) else stand_ins


def _with_flags(value: object, stand_in: object) -> object:
    if isinstance(value, dict) and isinstance(stand_in, dict):
        return {name: _with_flags(value.get(name), held) for name, held in stand_in.items()}
    if isinstance(value, list) and isinstance(stand_in, list) and len(value) == len(stand_in):
        return [_with_flags(*pair) for pair in zip(value, stand_in, strict=True)]
    return value if isinstance(value, bool) and isinstance(stand_in, bool) else stand_in


def handed_stand_ins(values: Values, handed: Collection[str]) -> Values:
    """Values with stand-ins for the texts that hold one of `handed`."""
    wanted = [text for text in handed if text]

    def change(value: Scalar) -> Scalar:
        is_one = not isinstance(value, bool) and value is not None and any(text in str(value) for text in wanted)
        return stand_in(value) if is_one else value

    found: Values = changed(values, change)
    return found


def needs_sample(chart: RenderedChart, *, has_secrets: bool) -> bool:
    """Whether a second render can tell more than the first.

    Args:
        chart: as rendered.
        has_secrets: whether some of the values are.
    """
    return has_secrets or not CHANCE.isdisjoint(chart.impure)


def secrecy_of(chart: RenderedChart, sample: RenderedChart | None, values: Collection[str]) -> Secrecy:
    """What is secret: Secrets, what differs in the sample, and what a secret value stands in.

    Args:
        chart: as rendered, post-renderers included.
        sample: the same with stand-ins; the chart itself where no sample is needed; None when it cannot be rendered:
            then everything is secret.
        values: that are secret; short ones and common words are not looked for, as they stand everywhere.
    """
    searched = [value for value in values if is_searched_for(value)]
    exposed = tuple(_called_by((*chart.manifests, *chart.hooks), searched))
    if sample is None:
        return Secrecy(
            frozenset(_texts(chart.manifests)),
            frozenset(_texts(chart.hooks)),
            notes=True,
            exposed=exposed,
            hook_texts=_but_for_the_chart(_other_texts(chart.hooks, ()), chart),
        )
    search = Search(searched)
    return Secrecy(
        _secret(chart.manifests, sample.manifests, search.finds),
        _secret(chart.hooks, sample.hooks, search.finds),
        notes=chart.notes != sample.notes or SecretValues(searched).holds(chart.notes),
        exposed=exposed,
        hook_texts=_but_for_the_chart(_other_texts(chart.hooks, sample.hooks), chart),
    )


def raw_key(obj: KubeObject) -> ObjectKey:
    """What an object is called as it is written, complete or not."""
    metadata = obj.get("metadata")
    held = metadata if isinstance(metadata, dict) else {}
    group = group_of(str(obj.get("apiVersion") or ""))
    return ObjectKey(group, str(obj.get("kind") or ""), str(held.get("namespace") or ""), str(held.get("name") or ""))


def _secret(
    found: Iterable[Manifest | Hook], sample: Iterable[Manifest | Hook], finds: Callable[[KubeObject], bool]
) -> frozenset[ObjectKey]:
    texts, others = _texts(found), _texts(sample)
    differ = {key for key, text in texts.items() if others.get(key) != text}
    return frozenset(differ | {raw_key(one) for one in _contents(found) if is_secret(one) or finds(_complete(one))})


def _texts(found: Iterable[Manifest | Hook]) -> _Texts:
    """The texts of objects by what they are called; of one that comes twice, both."""
    texts: dict[ObjectKey, list[str]] = {}
    for one in found:
        if one.content is not None:
            texts.setdefault(raw_key(one.content), []).append(one.text)
    return texts


def _other_texts(found: Iterable[Hook], sample: Iterable[Hook]) -> tuple[str, ...]:
    """The texts in hooks that stand otherwise, or not at all, in those of the sample."""
    others: dict[tuple[str, ObjectKey], list[KubeObject]] = {}
    for one in sample:
        if one.content is not None:
            others.setdefault((one.path, raw_key(one.content)), []).append(one.content)
    texts: set[str] = set()
    for one in found:
        if one.content is not None:
            there = others.get((one.path, raw_key(one.content)))
            texts.update(_differing(_but_for_names(one.content), there.pop(0) if there else None))
    return tuple(sorted(text for text in texts if is_searched_for(text)))


def _but_for_the_chart(texts: Iterable[str], chart: RenderedChart) -> tuple[str, ...]:
    """Texts without the chart's name and version, which most objects have in a label, and every condition tells."""
    told = {str(chart.metadata.get(name) or "") for name in ("name", "version")}
    return tuple(text for text in texts if text not in told)


def _but_for_names(hook: KubeObject) -> KubeObject:
    """A hook without what it is called, and when it runs: that stands in the open."""
    metadata = {name: value for name, value in mapping(hook, "metadata").items() if name not in _CALLED}
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        metadata["annotations"] = {name: value for name, value in annotations.items() if not name.startswith(HOOK)}
    return {**{name: value for name, value in hook.items() if name not in _CALLED}, "metadata": metadata}


def _differing(value: object, other: object) -> Iterator[str]:
    if isinstance(value, dict):
        held = other if isinstance(other, dict) else {}
        for name, inner in value.items():
            yield from _differing(inner, held.get(name))
    elif isinstance(value, list):
        rest = other if isinstance(other, list) else []
        for index, inner in enumerate(value):
            yield from _differing(inner, rest[index] if index < len(rest) else None)
    elif value != other and value is not None and not isinstance(value, bool):
        yield str(value)


def _contents(found: Iterable[Manifest | Hook]) -> Iterator[KubeObject]:
    return (one.content for one in found if one.content is not None)


def _complete(found: KubeObject) -> KubeObject:
    return found if isinstance(found.get("metadata"), dict) else {**found, "metadata": {}}


def _called_by(found: Iterable[Manifest | Hook], values: Iterable[str]) -> Iterator[ObjectKey]:
    certain = [value for value in values if len(value.strip()) >= CERTAIN]
    for one in _contents(found) if certain else ():
        key = raw_key(one)
        if any(value in name for name in key for value in certain):
            yield key


def _other_text(text: str) -> str:
    # What a template of the chart's (`tpl`) would execute stays: with other names it fails, and holds nothing itself.
    parts = _action.split(text)
    parts[::2] = ["".join(map(_other_character, part)) for part in parts[::2]]
    other = _other_base64(text) or "".join(parts)
    if other == text:  # nothing but punctuation
        return "".join(sign if sign.isspace() else "-_"[sign == "-"] for sign in text)
    return other


def _other_base64(text: str) -> str:
    """Of a text that encodes a text, the encoded stand-in of that."""
    if len(text) < _BASE64_CHARACTERS or len(text) % 4:
        return ""
    try:
        held = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    if not all(character.isprintable() or character.isspace() for character in held):
        return ""
    return base64.b64encode("".join(map(_other_character, held)).encode()).decode()


def _other_character(character: str) -> str:
    """Another one of its class; what is no letter and no digit stays, for it holds texts together."""
    if character.isascii():
        for first, count in (("a", 26), ("A", 26), ("0", 10)):
            place = ord(character) - ord(first)
            if 0 <= place < count:
                return chr(ord(first) + (place + count // 2) % count)
        return character
    if not character.isalnum():
        return character
    pair = "éè" if character.islower() else "ÉÈ" if character.isupper() else "文中"
    return pair[character == pair[0]]


def _other_digits(figures: str) -> str:
    """Another number of as many figures; small ones stay small, as templates may count to them."""
    first = "5" if figures[0] == "0" else str((int(figures[0]) + 3) % 9 + 1)
    return first + "".join(map(_other_character, figures[1:]))
