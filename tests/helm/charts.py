"""The charts of `charts.txt`, which together use every feature of Helm's template engine and chart format.

A chart begins with `=== NAME OPTIONS` and a file of it with `-- PATH --`; a file whose last line ends with a backslash
has no line break there. Options: what it is rendered with, `with` for a part that lies below a path, `packed` for one
that does so as an archive.
"""

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

Files = dict[str, str | bytes]
Given = Mapping[str, str | bytes] | Mapping[str, str]
_chart = re.compile(r"^=== (\S+) (.*)\n", re.MULTILINE)
_file = re.compile(r"^-- (.+) --\n", re.MULTILINE)


class Options(msgspec.Struct, frozen=True, rename={"below": "with"}):
    values: dict[str, Any] = {}
    api_versions: tuple[str, ...] = ()
    kube_version: str = "v1.35.4"
    is_upgrade: bool = False
    below: dict[str, str] = {}
    packed: dict[str, str] = {}
    part: bool = False


class Case(msgspec.Struct, frozen=True):
    """A chart, and what it is rendered with."""

    name: str
    files: Files
    options: Options


def head(name: str, extra: str = "", kind: str = "application") -> str:
    return f"apiVersion: v2\nname: {name}\nversion: 1.2.3\ntype: {kind}\n{extra}"


def below(path: str, files: Given) -> Files:
    return {f"{path}/{name}": text for name, text in files.items()}


def written(files: Given, into: Path) -> Path:
    for path, text in files.items():
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
    return into


def packed(name: str, files: Given) -> bytes:
    """The archive of a chart, as `helm package` lays it out."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for path, text in sorted(files.items(), key=lambda item: (item[0] != "Chart.yaml", item[0])):
            data = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def _read() -> list[Case]:
    _, *found = _chart.split(Path(__file__).with_name("charts.txt").read_text())
    cases: list[Case] = []
    parts: dict[str, Files] = {}
    for name, options, text in zip(found[::3], found[1::3], found[2::3], strict=True):
        _, *files = _file.split(text)
        case = Case(
            name,
            dict(zip(files[::2], (_ended(file) for file in files[1::2]), strict=True)),
            msgspec.json.decode(options, type=Options),
        )
        for path, part in case.options.below.items():
            case.files.update(below(path, parts[part]))
        for path, part in case.options.packed.items():
            case.files[path] = packed(part, parts[part])
        if case.options.part:
            parts[name] = case.files
        else:
            cases.append(case)
    return cases


def _ended(text: str) -> str:
    return text.removesuffix("\\\n")


CASES = _read()
