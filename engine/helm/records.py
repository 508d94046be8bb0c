"""A chart as a release record holds it."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import YamlError

_NO_TIME = "0001-01-01T00:00:00Z"


class Told(Protocol):
    """A chart that was loaded."""

    def told(self, what: str) -> Any:
        """`templates`, `files` or `values`, as decoded JSON."""
        ...


def chart_record(metadata: Mapping[str, Any], chart: Told, contents: Mapping[str, bytes]) -> bytes:
    """The field `chart` of a release record, JSON.

    Args:
        metadata: of the chart, with its dependencies as they were when it was rendered.
        chart: after it was rendered.
        contents: its files; the library gives them as text, and some are none.
    """
    schema = contents.get("values.schema.json")
    return msgspec.json.encode(
        {
            "metadata": metadata,
            "lock": _lock(contents.get("Chart.lock")),
            "templates": _files(chart.told("templates"), contents),
            "values": chart.told("values"),
            "schema": None if schema is None else base64.b64encode(schema).decode(),
            "schemamodtime": _NO_TIME,
            "files": _files(chart.told("files"), contents),
        }
    )


def _files(listed: Sequence[Mapping[str, str]], contents: Mapping[str, bytes]) -> list[dict[str, str]] | None:
    """The files; None where there are none, as Go writes a list that nothing was put into."""
    found = [
        {"name": file["name"], "data": base64.b64encode(contents.get(file["name"], file["data"].encode())).decode()}
        for file in listed
    ]
    return found or None


def _lock(text: bytes | None) -> dict[str, Any] | None:
    try:
        found = documents(text.decode())[0].value if text else None
    except (YamlError, UnicodeDecodeError, IndexError):
        return None
    if not isinstance(found, dict):
        return None
    return {name: found.get(name) for name in ("generated", "digest", "dependencies")}
