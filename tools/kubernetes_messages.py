"""Writes down the numbers that the fields of Kubernetes' kinds have in protobuf, which the OpenAPI does not tell.

    python tools/kubernetes_messages.py GO_MODULES > engine/cluster/embedded/data/messages.json

GO_MODULES is the folder `k8s.io` of Go's module cache, after the test servers were built. Of each message that an
object of the built-in kinds may hold: number, name and type of its fields. The type is one of protobuf's or the name of
a message; before it stands `[]` for a list, `{}` for a map with such values, `<` for a message whose fields JSON has in
the place of the field (an embedded struct in Go, without a name).
"""

import json
import re
import sys
from pathlib import Path

FACTS = Path(__file__).parent.parent / "engine/cluster/embedded/data/kubernetes.json"
META = "apimachinery.pkg.apis.meta.v1"
EXTRA = {f"{META}.DeleteOptions", f"{META}.Status"}
MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^  (optional|repeated|map<string,) ([\w.]+)>? (\w+) = (\d+);", re.MULTILINE)
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
TAG = re.compile(r'`json:"([\w-]*)[^"]*" [^`]*?\bprotobuf:"\w+,(\d+),')
MARKS = {"optional": "", "repeated": "[]", "map<string,": "{}"}


def read(folder: Path, package: str) -> dict[str, dict[str, list[str]]]:
    """The messages of a package."""
    text = (folder / "generated.proto").read_text()
    sources = "".join(file.read_text() for file in sorted(folder.glob("*types.go")))
    in_json = {(struct, number): name for struct, body in STRUCT.findall(sources) for name, number in TAG.findall(body)}
    local = {name for name, _ in MESSAGE.findall(text)}
    found = {}
    for message, body in MESSAGE.findall(text):
        fields = {}
        for mark, kind, name, number in FIELD.findall(body):
            full = f"{package}.{kind}" if kind in local else kind.removeprefix(".k8s.io.")
            told = in_json.get((message, number), name).replace("-", name)
            fields[number] = [told, (MARKS[mark] if told else "<") + full]
        found[f"{package}.{message}"] = fields
    return found


def reachable(messages: dict[str, dict[str, list[str]]], first: set[str]) -> set[str]:
    """Messages that these hold, however deep."""
    found: set[str] = set()
    ahead = first & messages.keys()
    while ahead:
        found |= ahead
        held = {kind.lstrip("[]{}<") for name in ahead for _, kind in messages[name].values()}
        ahead = (held & messages.keys()) - found
    return found


def main() -> None:
    """Reads the messages of the kinds that `kubernetes.json` has."""
    facts = json.loads(FACTS.read_text())
    root, suffix = Path(sys.argv[1]), f"@v0{facts['version'].removeprefix('v1')}"
    messages: dict[str, dict[str, list[str]]] = {}
    for module in ("api", "apimachinery"):
        for file in sorted((root / f"{module}{suffix}").glob("**/generated.proto")):
            path = file.parent.relative_to(root / f"{module}{suffix}")
            package = ".".join([module, *path.parts])
            messages |= read(file.parent, package)
    kinds = {name.removeprefix("io.k8s.") for name in facts["types"]}
    kept = reachable(messages, kinds | EXTRA)
    lines = [f"{json.dumps(name)}: {json.dumps(messages[name], separators=(',', ':'))}" for name in sorted(kept)]
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
