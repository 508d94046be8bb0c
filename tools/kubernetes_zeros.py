"""Writes down what Kubernetes' Go types say when they are empty: which fields are left out, which stand there as zero.

    python tools/kubernetes_zeros.py GO_MODULES > engine/cluster/embedded/data/zeros.json

GO_MODULES is the folder `k8s.io` of Go's module cache, after the test servers were built. The OpenAPI does not tell it:
whether `0` is a value (a pointer in Go) or the lack of one, and which lists are written `null`.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

FACTS = Path(__file__).parent.parent / "engine/cluster/embedded/data/kubernetes.json"
SCALARS = {"string": "", "bool": False, "byte": 0} | dict.fromkeys(
    ("int", "int8", "int32", "int64", "float64", "uint8", "uint32", "uint64", "float32"), 0
)
NAMED: dict[str, Any] = {
    "k8s.io/apimachinery/pkg/apis/meta/v1.Time": None,
    "k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime": None,
    "k8s.io/apimachinery/pkg/api/resource.Quantity": "0",
    "k8s.io/apimachinery/pkg/util/intstr.IntOrString": 0,
    "k8s.io/apimachinery/pkg/runtime.RawExtension": None,
    "k8s.io/apimachinery/pkg/types.UID": "",
    "k8s.io/apimachinery/pkg/types.NodeName": "",
}
"""Types that write themselves, or are not worth reading."""
FIELD = re.compile(r'^\t(?:(\w+)\s+)?([\w.*\[\]]+)\s+`[^`]*json:"([^"]*)"')
IMPORT = re.compile(r'^\s*(?:import\s+)?(?:(\w+)\s+)?"(k8s\.io/[^"]+)"', re.MULTILINE)


class Field(NamedTuple):
    """A field of a struct, as written."""

    type: str
    json: str
    options: frozenset[str]


class Package:
    """The types of a Go package."""

    def __init__(self, path: str, folder: Path) -> None:
        """Reads what may declare types."""
        self.path = path
        self.structs: dict[str, list[Field]] = {}
        self.others: dict[str, str] = {}
        self.imports: dict[str, str] = {}
        for file in sorted(folder.glob("*.go")):
            if not file.name.startswith(("zz_", "generated", "register")) and not file.name.endswith("_test.go"):
                self._read(file.read_text())

    def _read(self, text: str) -> None:
        for alias, path in IMPORT.findall(text):
            self.imports[alias or path.rpartition("/")[2]] = path
        for name, body in re.findall(r"^type (\w+) struct \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
            found = [FIELD.match(line) for line in body.splitlines()]
            self.structs[name] = [_field(match[2], match[3]) for match in found if match]
        for name, kind in re.findall(r"^type (\w+) ([\w.\[\]*]+)$", text, re.MULTILINE):
            self.others.setdefault(name, kind)
        for block in re.findall(r"^type \(\n(.*?)^\)", text, re.MULTILINE | re.DOTALL):
            self.others |= dict(re.findall(r"^\t(\w+) (\w+)$", block, re.MULTILINE))


class Modules:
    """The packages of the module cache, read when they are asked for."""

    def __init__(self, root: Path, version: str) -> None:
        """`version` is the server's, such as `v1.35.4`: its libraries are `v0.35.4`."""
        self._root = root
        self._suffix = f"@v0{version.removeprefix('v1')}"
        self._read: dict[str, Package] = {}

    def package(self, path: str) -> Package:
        """A package by its import path."""
        if path not in self._read:
            _, module, rest = path.split("/", 2)
            self._read[path] = Package(path, self._root / f"{module}{self._suffix}" / rest)
        return self._read[path]

    def fields(self, package: Package, struct: str) -> list[tuple[Package, Field]]:
        """The fields of a struct, with those of what it embeds."""
        found: list[tuple[Package, Field]] = []
        for field in package.structs[struct]:
            if field.json:
                found.append((package, field))
            elif "inline" in field.options:
                found += self.fields(*self.named(package, field.type))
        return found

    def zero(self, package: Package, kind: str) -> Any:
        """What an empty value of a type is written as: null for what is a reference."""
        if kind.startswith(("*", "[", "map[")):
            return None
        if kind in SCALARS:
            return SCALARS[kind]
        owner, name = self.named(package, kind)
        full = f"{owner.path}.{name}"
        if full in NAMED:
            return NAMED[full]
        return self.zero(owner, owner.others[name]) if name in owner.others else {}

    def named(self, package: Package, kind: str) -> tuple[Package, str]:
        """Where a type is declared, and its name there."""
        owner, dot, name = kind.rpartition(".")
        return (self.package(package.imports[owner]), name) if dot else (package, kind)


def main() -> None:
    """Reads the Go types of the kinds that `kubernetes.json` has."""
    facts = json.loads(FACTS.read_text())
    modules = Modules(Path(sys.argv[1]), facts["version"])
    lines = []
    for name, raw in sorted(facts["types"].items()):
        path, _, struct = name.removeprefix("io.k8s.").rpartition(".")
        if "properties" not in raw or (struct.endswith("List") and "items" in raw["properties"]):
            continue
        said = _said(modules, "k8s.io/" + path.replace(".", "/"), struct)
        if said:
            lines.append(f"{json.dumps(name)}: {json.dumps(said, separators=(',', ':'), sort_keys=True)}")
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


def _said(modules: Modules, path: str, struct: str) -> dict[str, Any]:
    package = modules.package(path)
    omitted, zeros = [], {}
    for owner, field in modules.fields(package, struct):
        zero = modules.zero(owner, field.type)
        is_struct = zero == {} or _writes_itself(modules, owner, field.type)
        if "omitempty" in field.options and not is_struct:
            if zero is not None:
                omitted.append(field.json)
        elif "omitzero" not in field.options:
            zeros[field.json] = zero
    return {key: value for key, value in (("omitted", sorted(omitted)), ("zeros", zeros)) if value}


def _writes_itself(modules: Modules, package: Package, kind: str) -> bool:
    """Whether it is a struct in Go, on which `omitempty` has no effect, and yet no object."""
    if kind.startswith(("*", "[", "map[")) or kind in SCALARS:
        return False
    owner, name = modules.named(package, kind)
    return f"{owner.path}.{name}" in NAMED and name not in ("UID", "NodeName")


def _field(kind: str, tag: str) -> Field:
    name, *options = tag.split(",")
    return Field(kind, name, frozenset(options))


if __name__ == "__main__":
    main()
