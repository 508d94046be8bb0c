"""The index of a Helm repository: read once, in bounded memory, and written down as JSON.

What is downloaded may be 50 MiB of YAML that somebody else wrote. It is read by events, an entry at a time: what is in
memory is the versions of one chart. What Helm accepts is accepted, and what Helm leaves out is left out: an entry that
is invalid is skipped, while a field that nobody knows, a name that is there twice, or a value of the wrong type makes
the whole index invalid.

The JSON has a line for each chart, so that looking one up reads no other.
"""

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import yaml

from tidelog.engine.documents import ALIASED_NODES, Reader, YamlError
from tidelog.engine.sources.helm.metadata import (
    CREATED_NEVER,
    Convert,
    Shape,
    ShapeError,
    anything,
    fields,
    flag,
    listed,
    mapped,
    only_text,
    problem_of,
    sanitized,
    text,
    time,
)
from tidelog.engine.sources.helm.spec import ChartVersion
from tidelog.engine.sources.semver import Version, loose_version_of
from tidelog.events.typed import decoder

SKIPPED_MAX: Final = 10
"""Entries that are told of."""
WHY_MAX: Final = 300
COPY_BYTES: Final = 2**20
_HEAD_BYTES: Final = 64
_BEGIN: Final = b'"entries":{'
_LOWEST: Final = Version(0, 0, 0, is_release=False)


class BadIndexError(ValueError):
    """Raised for a file that is no index; says what is wrong, and where."""


class IndexMade(msgspec.Struct, frozen=True, kw_only=True):
    """What came of reading an index."""

    size: int
    digest: str
    """Of the JSON: SHA-256 in hex."""
    charts: int
    versions: int
    skipped: tuple[str, ...]


class _JsonIndex(msgspec.Struct):
    apiVersion: str = ""  # noqa: N815  # the format's
    generated: str | None = None
    entries: dict[str, list[msgspec.Raw] | None] | None = None
    publicKeys: list[str] | None = None  # noqa: N815  # the format's
    annotations: dict[str, str] | None = None


def _entry_shape(*, strict: bool) -> Shape:
    own: dict[str, Convert] = {
        "urls": listed(text),
        "created": time,
        "removed": flag,
        "digest": text,
        "checksum": text,
        "engine": text,
        "tillerVersion": text,
        "url": text,
    }
    return Shape({**fields(only_text, strict=strict), **own}, {"urls": [], "created": CREATED_NEVER})


def read_index(source: Path, into: Path) -> IndexMade:
    """Reads an index, and writes it as JSON. Blocks, for long; for a process that may be ended.

    Args:
        source: what was downloaded.
        into: where the JSON goes; what else it needs on the way is beside it.

    Raises:
        BadIndexError: when it is none.
    """
    size = source.stat().st_size
    spool = spool_of(into)
    try:
        with source.open("rb") as file, spool.open("w+b") as lines:
            head = file.read(_HEAD_BYTES).lstrip()
            file.seek(0)
            _refuse_page(head)
            made = _Made(lines)
            parsed = None if head[:1] != b"{" else _json(file.read())
            file.seek(0)
            header = _add_yaml(file, size, made) if parsed is None else _add_json(parsed, made)
            return made.write(into, header)
    finally:
        spool.unlink(missing_ok=True)


def spool_of(into: Path) -> Path:
    """What is beside an index while it is written."""
    return into.with_name(f"{into.name}.spool")


def versions_of(stored: Path, chart: str) -> tuple[ChartVersion, ...]:
    """The versions of a chart, in descending order; none when it is not there. Blocks; for worker threads.

    Args:
        stored: what `read_index` wrote.
        chart: its name.
    """
    wanted = b"\n" + msgspec.json.encode(chart) + b":"
    with stored.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        begin = data.find(wanted)
        if begin < 0:
            return ()
        begin += len(wanted)
        end = data.find(b"\n", begin)
        line = data[begin : end if end >= 0 else None].rstrip(b",")
    return tuple(decoder(list[ChartVersion])(line))


def has_charts(stored: Path) -> list[str]:
    """The names of all charts. Blocks; for worker threads."""
    with stored.open("rb") as file:
        return [msgspec.json.decode(line.partition(b":[")[0]) for line in file if line.startswith(b'"')]


class _Made:
    """The charts of an index, as lines in a spool."""

    def __init__(self, spool: BinaryIO) -> None:
        self._spool = spool
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0
        self.versions = 0
        self.skipped: list[str] = []
        self._skipped_count = 0

    def add(self, chart: str, entries: Iterator[Any], *, strict: bool) -> None:
        """A chart with its versions."""
        shape = _STRICT if strict else _LAX
        found: list[tuple[Version, bytes]] = []
        for place, value in enumerate(entries):
            where = f"entries.{chart[:80]}[{place}]"
            if value is None:
                self._skip(f"{where}: it is empty")
                continue
            entry = shape.read(value, where, strict=strict)
            entry.setdefault("apiVersion", "v1")
            problem = problem_of(entry, of_index=True)
            if problem:
                self._skip(f"{where}: {problem}")
            else:
                found.append((loose_version_of(entry["version"]) or _LOWEST, msgspec.json.encode(entry)))
        found.sort(key=lambda one: one[0], reverse=True)
        self.versions += len(found)
        begin = self._end
        self._put(msgspec.json.encode(chart) + b":[")
        for position, (_, encoded) in enumerate(found):
            self._put(b"," + encoded if position else encoded)
        self._put(b"]")
        self._places[chart] = (begin, self._end - begin)

    def write(self, into: Path, header: dict[str, Any]) -> IndexMade:
        """Writes the whole: the charts by name."""
        digest = hashlib.sha256()
        size = 0
        with into.open("wb") as out:
            for part in self._parts(header):
                out.write(part)
                digest.update(part)
                size += len(part)
        return IndexMade(
            size=size,
            digest=digest.hexdigest(),
            charts=len(self._places),
            versions=self.versions,
            skipped=tuple(self.skipped),
        )

    def _parts(self, header: dict[str, Any]) -> Iterator[bytes]:
        self._spool.flush()
        yield msgspec.json.encode(header)[:-1] + b"," + _BEGIN
        for position, chart in enumerate(sorted(self._places)):
            yield b",\n" if position else b"\n"
            begin, length = self._places[chart]
            self._spool.seek(begin)
            while length:
                part = self._spool.read(min(length, COPY_BYTES))
                length -= len(part)
                yield part
        yield b"\n}}\n"

    def _put(self, data: bytes) -> None:
        self._spool.write(data)
        self._end += len(data)

    def _skip(self, why: str) -> None:
        self._skipped_count += 1
        if len(self.skipped) < SKIPPED_MAX:
            self.skipped.append(sanitized(why)[:WHY_MAX])


_STRICT: Final = _entry_shape(strict=True)
_LAX: Final = _entry_shape(strict=False)
_TOP: Final = Shape(
    {
        "apiVersion": text,
        "generated": time,
        "serverInfo": anything,
        "publicKeys": listed(text),
        "annotations": mapped(text),
    }
)


def _refuse_page(head: bytes) -> None:
    if not head:
        raise BadIndexError("it is empty")
    if head[:1] == b"<":
        raise BadIndexError("it is a page for people (HTML), and no index")


def _json(data: bytes) -> _JsonIndex | None:
    """An index in JSON; None where it is something else, which YAML may be."""
    try:
        return decoder(_JsonIndex)(data)
    except msgspec.ValidationError as error:
        raise BadIndexError(str(error)) from None
    except (msgspec.DecodeError, RecursionError):
        return None


def _add_json(index: _JsonIndex, made: _Made) -> dict[str, Any]:
    try:
        for chart, entries in (index.entries or {}).items():
            made.add(chart, (msgspec.json.decode(entry) for entry in entries or ()), strict=False)
        given = {name: getattr(index, name) for name in ("apiVersion", "generated", "publicKeys", "annotations")}
        return _header(given)
    except (ShapeError, RecursionError) as error:
        raise BadIndexError(str(error)) from None


def _add_yaml(file: BinaryIO, size: int, made: _Made) -> dict[str, Any]:
    reader = Reader(file, ALIASED_NODES + size)
    try:
        with reader.told():
            return _Yaml(reader, made).read()
    except (YamlError, ShapeError) as error:
        raise BadIndexError(str(error)) from None


class _Yaml:
    """Takes the upper levels event by event, and the entries as values."""

    def __init__(self, reader: Reader, made: _Made) -> None:
        self._reader = reader
        self._next = reader.events()
        self._made = made

    def read(self) -> dict[str, Any]:
        event = self._next()
        while type(event) in {yaml.StreamStartEvent, yaml.DocumentStartEvent}:
            event = self._next()
        if type(event) is not yaml.MappingStartEvent:
            raise BadIndexError("it is no mapping with apiVersion and entries")
        header: dict[str, Any] = {}
        for name in self._keys(set()):
            value = self._next()
            if name.lower() == "entries":
                self._entries(value)
            elif name.lower() in {"apiversion", "generated", "serverinfo", "publickeys", "annotations"}:
                header[name] = self._reader.value(value, 1)
            else:
                raise BadIndexError(f"it has the field {name[:80]!r}, which Helm does not know")
        return _header(header)

    def _entries(self, event: Any) -> None:
        if type(event) is yaml.MappingStartEvent and event.anchor is None:
            for chart in self._keys(set()):
                self._made.add(chart, self._versions(chart), strict=True)
            return
        charts = self._reader.value(event, 1)
        if charts is not None and not isinstance(charts, dict):
            raise BadIndexError("entries is no mapping")
        for chart, versions in (charts or {}).items():
            self._made.add(chart, iter(_listed(chart, versions)), strict=True)

    def _versions(self, chart: str) -> Iterator[Any]:
        event = self._next()
        if type(event) is yaml.SequenceStartEvent and event.anchor is None:
            while type(event := self._next()) is not yaml.SequenceEndEvent:
                yield self._reader.value(event, 3)
            return
        yield from _listed(chart, self._reader.value(event, 2))

    def _keys(self, known: set[str]) -> Iterator[str]:
        while type(event := self._next()) is not yaml.MappingEndEvent:
            name = self._reader.key(event)
            if name in known:
                raise YamlError(f"the key {name[:80]!r} is given twice", event.start_mark.line + 1)
            known.add(name)
            yield name


def _listed(chart: str, versions: Any) -> list[Any]:
    if versions is None:
        return []
    if not isinstance(versions, list):
        raise ShapeError(f"entries.{chart[:80]} is no list of versions")
    return versions


def _header(given: dict[str, Any]) -> dict[str, Any]:
    header = _TOP.read(given, "the index", strict=True)
    if not header.get("apiVersion"):
        raise BadIndexError("apiVersion is missing: it is no index, or not the whole of it")
    return {"generated": CREATED_NEVER, **header}
