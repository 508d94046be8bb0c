"""Patches of the three kinds that are no apply, as the API server takes them.

Merge patch (RFC 7386) and JSON patch (RFC 6902) follow the library that the server uses (`evanphx/json-patch` v4),
where it departs from the RFCs too: a null in a new value is left out, a place counts from the end when it is negative,
and `replace` sets a field that is not there yet. Nothing that is given is changed.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from tidelog.engine.cluster.embedded import strategic
from tidelog.engine.cluster.embedded.decoding import is_deep
from tidelog.engine.cluster.embedded.fieldsets import go_json
from tidelog.engine.cluster.embedded.patch_errors import PatchError
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.cluster.embedded.typed import equal
from tidelog.engine.cluster.embedded.yaml_bodies import DEPTH_MAX
from tidelog.engine.objects.kube import KubeObject, KubeValue
from tidelog.engine.objects.managed_fields import ABSENT

OPERATIONS_MAX: Final = 10_000
"""How many operations a JSON patch may have."""
COPIED_BYTES_MAX: Final = 3 << 20
"""What the copies of one JSON patch may come to: a few that copy each other would fill any memory."""

__all__ = ["OPERATIONS_MAX", "PatchError", "json_patch", "merge_patch", "strategic_merge_patch"]


def strategic_merge_patch(obj: KubeObject, patch: KubeObject, schema: Schema) -> KubeObject:
    """An object with a strategic merge patch on it; only built-in kinds have them.

    Raises:
        PatchError: when the patch is wrong.
    """
    if not schema.is_builtin:
        raise PatchError("strategic merge patch format is not supported", 400)
    return strategic.merged(obj, patch, schema)


# -------------------------------------------------------------------------------------------- merge patch


def merge_patch(obj: KubeObject, patch: KubeValue) -> KubeObject:
    """An object with a merge patch on it (RFC 7386).

    Raises:
        PatchError: when the patch is no object.
    """
    if not isinstance(patch, dict):
        raise PatchError("Invalid JSON Patch", 400)
    return _merged(obj, patch)


def _merged(obj: KubeObject, patch: KubeObject) -> KubeObject:
    merged = dict(obj)
    for name, value in patch.items():
        before = obj.get(name)
        if value is None:
            merged.pop(name, None)
        elif isinstance(before, dict) and isinstance(value, dict):
            merged[name] = _merged(before, value)
        else:
            merged[name] = value if isinstance(before, dict) else _without_nulls(value)
    return merged


def _without_nulls(value: KubeValue) -> KubeValue:
    """Without fields that are null; an item that is null stays."""
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


# --------------------------------------------------------------------------------------------- JSON patch


_TOO_DEEP: Final = "the object is nested too deeply"


class _Place(NamedTuple):
    """Where a pointer leads: the map or list, and the key in it."""

    container: KubeValue
    key: str


def json_patch(obj: KubeObject, operations: Sequence[KubeObject]) -> KubeObject:
    """An object with a JSON patch on it (RFC 6902).

    Raises:
        PatchError: when an operation is wrong, or does not apply.
    """
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise PatchError("json: cannot unmarshal into Go value of type jsonpatch.Patch", 400)
    if len(operations) > OPERATIONS_MAX:
        raise PatchError(
            f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {len(operations)}", 413
        )
    patched: KubeValue = _copied(obj)
    room = COPIED_BYTES_MAX
    for operation in operations:
        if operation.get("op") == "copy":
            room -= _size_of_copied(patched, operation)
        if room < 0:
            raise _refused(f"the copies of a patch may come to {COPIED_BYTES_MAX} bytes")
        patched = _applied(patched, operation)
    if is_deep(patched):
        raise _refused(_TOO_DEEP)
    if not isinstance(patched, dict):
        raise PatchError("a JSON patch must leave an object", 422)
    return patched


def _copied(value: KubeValue, room: int = DEPTH_MAX) -> KubeValue:
    if room < 0:
        raise _refused(_TOO_DEEP)
    if isinstance(value, dict):
        return {name: _copied(each, room - 1) for name, each in value.items()}
    return [_copied(each, room - 1) for each in value] if isinstance(value, list) else value


def _size_of_copied(doc: KubeValue, operation: KubeObject) -> int:
    """How large what an operation copies is, as JSON; 0 where there is nothing, which is for the operation to tell."""
    try:
        origin = _pointer(operation, "from", "copy")
        value = _got(_place(doc, origin, ""))
    except PatchError:
        return 0
    return 0 if value is ABSENT else len(msgspec.json.encode(value))


def _applied(doc: KubeValue, operation: KubeObject) -> KubeValue:
    """The document after one operation; it is a copy, and changed in place."""
    kind = operation.get("op")
    value = _copied(operation.get("value"))
    match kind:
        case "add":
            path = _pointer(operation, "path", kind)
            _add(_place(doc, path, f'add operation does not apply: doc is missing path: "{path}"'), value, path, "add")
        case "remove":
            path = _pointer(operation, "path", kind)
            place = _place(doc, path, f'remove operation does not apply: doc is missing path: "{path}"')
            _remove(place, f"error in remove for path: '{path}'")
        case "replace":
            return _replaced(doc, _pointer(operation, "path", kind), value)
        case "move" | "copy":
            _transfer(doc, operation, kind)
        case "test":
            _test(doc, _pointer(operation, "path", kind), operation.get("value", ABSENT))
        case _:
            raise _refused(f"Unexpected kind: {kind if isinstance(kind, str) else 'unknown'}")
    return doc


def _refused(message: str) -> PatchError:
    return PatchError(message, 422)


def _pointer(operation: KubeObject, name: str, kind: str) -> str:
    pointer = operation.get(name)
    if isinstance(pointer, str):
        return pointer
    lacks = "missing value" if kind in ("add", "remove") else f"operation missing {name} field: missing value"
    raise _refused(f"{kind} operation failed to decode {name}: {lacks}")


def _parts(pointer: str) -> Iterator[str]:
    for part in pointer.split("/")[1:]:
        yield part.replace("~1", "/").replace("~0", "~")


def _place(doc: KubeValue, pointer: str, missing: str) -> _Place:
    """The place that a pointer names, whether anything is there or not."""
    if pointer.count("/") > DEPTH_MAX:
        raise _refused(_TOO_DEEP)
    *way, key = _parts(pointer) if "/" in pointer else (None,)
    here = doc if key is not None else None
    for part in way:
        try:
            here = _got(_Place(here, str(part)))
        except PatchError:
            here = None
        here = None if here is ABSENT else here
    if not isinstance(here, dict | list):
        raise _refused(f"{missing}: missing value")
    return _Place(here, str(key))


def _index(text: str, length: int) -> int:
    try:
        index = int(text)
    except ValueError:
        raise _refused(f"strconv.Atoi: parsing {go_json(text)}: invalid syntax") from None
    if not -length <= index < length:
        raise _refused(f"Unable to access invalid index: {index}: invalid index referenced")
    return index % length


def _got(place: _Place) -> KubeValue:
    """What stands there; `ABSENT` for a field that is not there."""
    if isinstance(place.container, list):
        return place.container[_index(place.key, len(place.container))]
    return place.container.get(place.key, ABSENT) if isinstance(place.container, dict) else ABSENT


def _explained(error: PatchError, said: str) -> PatchError:
    return _refused(f"{said}: {error}")


def _add(place: _Place, value: KubeValue, path: str, kind: str) -> None:
    container, key = place
    if isinstance(container, dict):
        container[key] = value
    elif key == "-":
        container.append(value)
    else:
        said = "error while adding value during copy" if kind == "copy" else f"error in {kind} for path: '{path}'"
        try:
            container.insert(_index(key, len(container) + 1), value)
        except PatchError as error:
            if "strconv" in str(error):
                raise _refused(f"{said}: value was not a proper array index: '{key}': {error}") from None
            raise _explained(error, said) from None


def _remove(place: _Place, said: str) -> None:
    container, key = place
    if isinstance(container, dict):
        if key not in container:
            raise _refused(f"{said}: Unable to remove nonexistent key: {key}: missing value")
        del container[key]
        return
    try:
        del container[_index(key, len(container))]
    except PatchError as error:
        raise _explained(error, said) from None


def _replaced(doc: KubeValue, path: str, value: KubeValue) -> KubeValue:
    if not path:
        if not isinstance(value, dict | list):
            raise _refused("replace operation value must be object or array")
        return value
    place = _place(doc, path, f"replace operation does not apply: doc is missing path: {path}")
    if isinstance(place.container, dict):
        place.container[place.key] = value
        return doc
    try:
        place.container[_index(place.key, len(place.container))] = value
    except PatchError:
        raise _refused(f"replace operation does not apply: doc is missing key: {path}: missing value") from None
    return doc


def _transfer(doc: KubeValue, operation: KubeObject, kind: str) -> None:
    """Moves or copies."""
    origin = _pointer(operation, "from", kind)
    place = _place(doc, origin, f"{kind} operation does not apply: doc is missing from path: {origin}")
    said = f"error in move for path: '{place.key}'" if kind == "move" else f"error in copy for from: '{origin}'"
    try:
        value = _got(place)
    except PatchError as error:
        raise _explained(error, said) from None
    if kind == "move":
        _remove(place, said)
    path = _pointer(operation, "path", kind)
    missing = f"{kind} operation does not apply: doc is missing destination path: {path}"
    _add(_place(doc, path, missing), None if value is ABSENT else _copied(value), path, kind)


def _test(doc: KubeValue, path: str, wanted: KubeValue) -> None:
    found = doc
    if path:
        place = _place(doc, path, f"test operation does not apply: is missing path: {path}")
        try:
            found = _got(place)
        except PatchError as error:
            raise _explained(error, f"error in test for path: '{path}'") from None
    # What is not there is null here.
    found, wanted = (None if each is ABSENT else each for each in (found, wanted))
    if not equal(found, wanted):
        raise _refused(f"testing value {path} failed: test failed")
