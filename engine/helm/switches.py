"""Which dependencies of a chart are on: what of a user's values decides it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final, TypeAlias

import msgspec

from tidelog.engine.helm.archives import METADATA, all_files
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError

_LISTS: Final = (METADATA, "requirements.yaml")
"""Files in which a chart says what it depends on; the second is of Helm 2."""
_GLOBAL: Final = "global"
_TAGS: Final = ("tags",)

_Path: TypeAlias = tuple[str, ...]


class Switches(msgspec.Struct, frozen=True):
    """What a chart looks at to see which of its dependencies are on.

    Rendering changes a chart that has dependencies: what is off goes, and their values come into its own. Once that is
    done, doing it again for values that say the same of all switches changes nothing more, so that such a chart may be
    rendered again for these. It is not so where values are imported: an import may turn a switch.
    """

    paths: frozenset[_Path]
    """Below a chart's own values, or below those of any chart around it."""
    may_stay: bool
    """Whether a chart that was rendered may be rendered again at all."""

    def chosen(self, values: bytes) -> bytes | None:
        """What values say of the switches: equal for those that turn on the same. None where nobody can tell.

        Args:
            values: of the user, a JSON object.
        """
        if not self.may_stay:
            return None
        found: dict[str, Any] = {}
        if not self._look(msgspec.json.decode(values), (), found):
            return None
        return msgspec.json.encode(found, order="sorted")

    def _look(self, values: Mapping[str, Any], above: _Path, found: dict[str, Any]) -> bool:
        """Gathers what is said; whether that is something one can go by."""
        for name, value in values.items():
            path = (*above, name)
            ends = {path[start:] for start in range(len(path))}
            is_switch = not ends.isdisjoint(self.paths)
            if isinstance(value, dict) and not is_switch:
                if not self._look(value, path, found):
                    return False
            elif is_switch or self._is_on_the_way(ends):
                if not _is_plain(value, tags=_TAGS in ends):
                    return False
                found["\n".join(path)] = value
        return True

    def _is_on_the_way(self, ends: set[_Path]) -> bool:
        return any(path[: len(end)] == end for path in self.paths for end in ends)


def _is_plain(value: Any, *, tags: bool) -> bool:
    """Whether Helm takes a value for what it says: a null takes another away, wherever that is."""
    if isinstance(value, dict):
        return tags and all(one is not None and not isinstance(one, dict) for one in value.values())
    return value is not None


def switches_of(contents: Mapping[str, bytes]) -> Switches:
    """Those of a chart and of all charts within it.

    Args:
        contents: the files of the chart, with its dependencies.

    Raises:
        ChartError: when a chart within it cannot be read.
    """
    paths: set[_Path] = {_TAGS}
    may_stay = True
    for path, data in all_files(contents):
        if PurePosixPath(path).name not in _LISTS:
            continue
        wanted = _dependencies(data)
        if wanted is None or any(one.get("import-values") for one in wanted):
            may_stay = False
        paths.update(_conditions(wanted or ()))
    return Switches(frozenset(paths), may_stay)


def _dependencies(data: bytes) -> list[Mapping[str, Any]] | None:
    """None where they cannot be read."""
    try:
        found = documents(data.decode(), repeated_keys=True)
    except (UnicodeDecodeError, YamlError):
        return None
    told = found[0].value if found else None
    listed = (told.get("dependencies") or []) if isinstance(told, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return None
    return listed


def _conditions(wanted: Iterable[Mapping[str, Any]]) -> Iterator[_Path]:
    for one in wanted:
        for condition in str(one.get("condition") or "").strip().split(","):
            path = tuple(condition.split("."))
            if condition:
                yield path
            if _GLOBAL in path:  # comes from the charts around it
                yield path[path.index(_GLOBAL) :]
