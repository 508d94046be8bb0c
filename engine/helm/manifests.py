"""The objects of a text that a release record holds, whoever wrote it."""

from typing import Any, Final

from tidelog.engine.documents import YamlError, documents
from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.sorting import split
from tidelog.engine.objects.kube import KubeObject

_SOURCE: Final = "# Source: "


def objects_in(text: str, where: str) -> list[KubeObject]:
    """The objects in a text, in its order; lists give their items, as Helm sends them to the cluster.

    Args:
        text: as Helm splits and reads it: what follows `---` in its line is content, and the last of a key that is
            given twice counts.
        where: what the text is, for the error: `the manifest of release space/box.v3`.

    Raises:
        RecordError: when a document is no YAML or no object; it names the template, and quotes no value.
    """
    return [found for part in split(text) for found in _flat(_content(part, where))]


def _content(part: str, where: str) -> KubeObject:
    try:
        found = documents(part, repeated_keys=True)
    except YamlError as error:
        raise RecordError(f"{where} cannot be read{_template(part)}: {error}") from None
    value = found[0].value if found else None
    if value is not None and not isinstance(value, dict):
        raise RecordError(f"{where} holds a text or a list in the place of an object{_template(part)}")
    return value or {}


def _template(part: str) -> str:
    head = part.partition("\n")[0]
    return f" ({head.removeprefix(_SOURCE)})" if head.startswith(_SOURCE) else ""


def _flat(obj: KubeObject) -> list[KubeObject]:
    """The object, or those that it lists; an item without a kind is of the list's."""
    items = obj.get("items")
    if not isinstance(items, list):
        return [obj] if obj else []
    kind = str(obj.get("kind") or "").removesuffix("List")
    found: list[Any] = [item for item in items if isinstance(item, dict)]
    return [
        inner
        for item in found
        for inner in _flat(item if item.get("kind") else {**item, "apiVersion": obj.get("apiVersion"), "kind": kind})
    ]
