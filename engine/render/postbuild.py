"""From kustomize's text to a target's objects: substitution, then normal form. Pure; it runs in a worker.

The text is kustomize's own, object by object: substitution works on it (contract KS-058), so that its quotes decide
what becomes a number.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tidelog.engine.kinds.meta import DECRYPT, KUSTOMIZATION, SUBSTITUTE
from tidelog.engine.kinds.patches import patches_of_secrets
from tidelog.engine.objects.kube import KubeObject, group_of
from tidelog.engine.render import normal
from tidelog.engine.render.documents import documents
from tidelog.engine.render.errors import RenderError, SubstitutionError, YamlError
from tidelog.engine.render.handing import Search, fields_in, followed
from tidelog.engine.render.substitution import is_plain, is_variable_name, substitute
from tidelog.engine.secrecy.handed import Marks
from tidelog.events.names import MalformedNameError, ObjectKey

DISABLED: Final = "disabled"

_separator = re.compile(r"^---\n", re.MULTILINE)


class Settings(msgspec.Struct, frozen=True):
    """What a target adds to a build."""

    owner_name: str
    owner_namespace: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    variables: dict[str, str] | None = None
    """None when nothing is to be substituted."""
    secret_variables: frozenset[str] = frozenset()
    strict: bool = True
    handed_values: tuple[str, ...] = ()
    """Secret values that stand in the spec, beside variables: what they went into is as secret."""


class Finished(msgspec.Struct, frozen=True):
    """A target's objects."""

    objects: list[KubeObject]
    secret: list[ObjectKey]
    """Secrets, objects that the value of a secret variable went into, and Kustomizations that patch Secrets."""
    secret_values: list[str] = []
    """What substitution made of secret variables, in order."""
    handed: list[tuple[ObjectKey, Marks]] = []
    """Of each Kustomization among them that is secret: the fields of its spec that secret values went into."""


class _Read(msgspec.Struct, frozen=True):
    """An object, and whether a secret value went into it."""

    value: KubeObject
    secret: bool
    said: str
    """The object as errors name it: from before substitution, so that it says no value."""
    made: frozenset[str] = frozenset()
    """What substitution made of secret variables."""
    built: KubeObject | None = None
    """The object before substitution, where a secret value went into it."""


def finish(text: str, settings: Settings) -> Finished:
    """Makes a target's objects from the output of a build.

    Raises:
        RenderError: with the object, and the line in its text; it quotes no variable's value.
    """
    objects: list[KubeObject] = []
    secret: list[ObjectKey] = []
    seen: dict[ObjectKey, str] = {}
    made: set[str] = set()
    handed: list[tuple[ObjectKey, Marks]] = []
    search = Search(settings.handed_values, settings.labels, settings.annotations)
    for read in _read_all(text, settings):
        made |= read.made
        for index, found in enumerate(_flat(read.value)):
            if _is_kustomization(found):
                continue
            key = _checked(found, read)
            if key in seen:
                raise RenderError(f"{read.said}: the same object comes twice")
            seen[key] = read.said
            _require_decrypted(found, read)
            given = search.finds(found)
            normal.own(found, settings.owner_name, settings.owner_namespace)
            normal.normalise(found)
            normal.add_common(found, settings.labels, settings.annotations)
            objects.append(found)
            if read.secret or given or key[:2] == ("", "Secret") or _patches_secrets(key, found):
                secret.append(key)
                if key[:2] == KUSTOMIZATION:
                    handed.append((key, search.marks(found) | _followed(found, index, read, settings)))
    return Finished(objects, secret, sorted(made), handed)


def _followed(found: KubeObject, index: int, read: _Read, settings: Settings) -> Marks:
    """Which fields of a Kustomization secret variables went into."""
    if not read.secret:
        return {}
    built, made = _flat(read.built or {}), _flat(read.value)

    def made_of(text: str) -> frozenset[str] | None:
        result = substitute(text, settings.variables or {}, strict=False, secret=settings.secret_variables)
        return result.made if result.used & settings.secret_variables else None

    try:
        return followed(built[index] if len(built) == len(made) else None, found, read.made, made_of)
    except SubstitutionError:  # a text by itself is no whole substitution
        return followed(None, found, read.made, made_of)


def _read_all(text: str, settings: Settings) -> Iterator[_Read]:
    for part in _separator.split(text):
        if not part.strip():
            continue
        found = _parsed(part, "kustomize's output")
        if not isinstance(found, dict):
            raise RenderError("kustomize's output has a document that is no object")
        said = _said(found)
        _require_conventions(found, said)
        if settings.variables is None or is_plain(part) or _flag(found, SUBSTITUTE) == DISABLED:
            _require_names(settings, said, found)
            yield _Read(found, secret=False, said=said)
        else:
            yield _substituted(part, found, said, settings)


def _require_names(settings: Settings, said: str, found: KubeObject) -> None:
    if settings.variables and _flag(found, SUBSTITUTE) != DISABLED:
        for name in settings.variables:
            if not is_variable_name(name):
                raise RenderError(
                    f"{said}: post build failed: {name!r} cannot be a variable's name, which has letters, digits and "
                    "underscores and begins with no digit"
                )


def _substituted(part: str, found: KubeObject, said: str, settings: Settings) -> _Read:
    _require_names(settings, said, found)
    try:
        result = substitute(part, settings.variables or {}, strict=settings.strict, secret=settings.secret_variables)
    except SubstitutionError as error:
        described = _line_of(part, error.line)
        failed = SubstitutionError(error.problem, variable=error.variable)
        failed.args = (f"{said}: post build failed, line {error.line} of the built object{described}: {error.problem}",)
        failed.message = failed.args[0]
        raise failed from None
    value = _parsed(result.text, f"{said}, after substitution")
    if not isinstance(value, dict):
        raise RenderError(f"{said}: substitution leaves no object")
    used = result.used & settings.secret_variables
    if used:
        _require_open_names(found, value, said, settings, used)
        _require_open_fields(found, value, said, settings)
    return _Read(value, secret=bool(used), said=said, made=result.made, built=found if used else None)


_NAMES: Final = (("apiVersion",), ("kind",), ("metadata", "namespace"), ("metadata", "name"))


def _require_open_names(
    before: KubeObject, after: KubeObject, said: str, settings: Settings, used: frozenset[str]
) -> None:
    """No secret value goes into what an object is called: logs, events and conditions are about objects by name.

    Args:
        before: the object, or list, as built.
        after: what substitution made of it.
        said: the object, as errors name it.
        settings: of the target.
        used: the secret variables that were looked up.
    """
    built, made = _flat(before), _flat(after)
    for index, found in enumerate(made):
        origin = built[index] if len(built) == len(made) else None
        for path in _NAMES:
            text, value = _at(origin, path), _at(found, path)
            if value is None or value == text:
                continue
            # Where no name stood that a value could go into, a value brought it along.
            names = _used_in(text, settings) if isinstance(text, str) else used
            if names:
                raise RenderError(
                    f"{said}: {'.'.join(path)} is made with the secret variable {min(names)!r}, and what "
                    "objects are called stands in the open in logs, events and conditions: use a variable of a "
                    "ConfigMap, or of spec.postBuild.substitute"
                )


def _require_open_fields(before: KubeObject, after: KubeObject, said: str, settings: Settings) -> None:
    """No secret value goes into the name of a field: differences and drift are told by those."""
    for text in sorted(fields_in(before) - fields_in(after)):
        names = _used_in(text, settings)
        if names:
            raise RenderError(
                f"{said}: the name of a field is made with the secret variable {min(names)!r}, and names of fields "
                "stand in the open in plans and events: use a variable of a ConfigMap, or of spec.postBuild.substitute"
            )


def _used_in(text: str, settings: Settings) -> frozenset[str]:
    """The secret variables that a text looks up."""
    try:
        return substitute(text, settings.variables or {}, strict=False).used & settings.secret_variables
    except SubstitutionError:
        return settings.secret_variables


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _patches_secrets(key: ObjectKey, found: KubeObject) -> bool:
    return key[:2] == KUSTOMIZATION and bool(patches_of_secrets(found.get("spec")))


def _line_of(part: str, line: int | None) -> str:
    """The field that stands in a line: the text before its colon, which is the source's own."""
    lines = part.splitlines()
    if line is None or line > len(lines):
        return ""
    field, colon, _ = lines[line - 1].strip().removeprefix("- ").partition(":")
    return f" ({field})" if colon and "$" not in field else ""


def _parsed(part: str, said: str) -> Any:
    try:
        values = [document.value for document in documents(part) if document.value is not None]
    except YamlError as error:
        # A key may hold a value that was substituted: the sentence on it does not name it then.
        problem = "a key is given twice" if "given twice" in error.problem else error.problem
        raise RenderError(f"{said}: line {error.line or 1} of the built object: {problem}") from None
    if len(values) != 1:
        raise RenderError(f"{said}: {len(values)} documents instead of one")
    return values[0]


def _flat(found: KubeObject) -> list[Any]:
    """A list's items (contract KS-057); an object with a field `items` that is a list is one."""
    items = found.get("items")
    return items if isinstance(items, list) else [found]


def _require_conventions(found: KubeObject, said: str) -> None:
    if isinstance(found.get("items"), list):
        return
    if _missing(found):
        raise RenderError(f"{said}: {_missing(found)}; every object needs apiVersion, kind and metadata.name")


def _checked(found: Any, read: _Read) -> ObjectKey:
    if not isinstance(found, dict):
        raise RenderError(f"{read.said}: an item of the list is no object")
    if missing := _missing(found):
        raise RenderError(f"{read.said}: {missing}; every object needs apiVersion, kind and metadata.name")
    metadata = found["metadata"]
    namespace = metadata.get("namespace")
    if not isinstance(namespace, str | None):
        raise RenderError(f"{read.said}: metadata.namespace is no text; put it in quotes")
    for field in ("labels", "annotations"):
        _require_texts(metadata, field, read)
    api_version: str = found["apiVersion"]
    key = ObjectKey(group_of(api_version), found["kind"], namespace or "", metadata["name"])
    try:
        ObjectKey.parse(key.id)
    except MalformedNameError:
        problem = "kind, name and namespace of an object have neither spaces nor slashes"
        raise RenderError(f"{read.said}: {problem}") from None
    return key


def _require_texts(metadata: dict[str, Any], field: str, read: _Read) -> None:
    values = metadata.get(field)
    if values is None:
        return
    if not isinstance(values, dict):
        raise RenderError(f"{read.said}: metadata.{field} is no mapping")
    for name, value in values.items():
        if not isinstance(value, str):
            named = "a value" if read.secret else repr(name)
            raise RenderError(f"{read.said}: metadata.{field}: {named} is no text; put it in quotes")


def _missing(found: dict[str, Any]) -> str:
    metadata = found.get("metadata")
    for field, holder in (
        ("apiVersion", found),
        ("kind", found),
        ("name", metadata if isinstance(metadata, dict) else {}),
    ):
        value = holder.get(field)
        said = "metadata.name" if field == "name" else field
        if value is None or value == "":
            return f"no {said}"
        if not isinstance(value, str):
            return f"{said} is no text (put it in quotes)"
    return ""


def _require_decrypted(found: KubeObject, read: _Read) -> None:
    """Contract KS-080."""
    if found["kind"] != "Secret" or found["apiVersion"] != "v1" or "sops" not in found:
        return
    annotations = found["metadata"].get("annotations") or {}
    if annotations.get(DECRYPT, "").lower() != DISABLED:
        raise RenderError(f"{read.said} is SOPS encrypted, configuring decryption is required for this secret")


def _flag(found: KubeObject, name: str) -> str | None:
    metadata = found.get("metadata")
    for field in ("labels", "annotations"):
        values = metadata.get(field) if isinstance(metadata, dict) else None
        if isinstance(values, dict) and isinstance(value := values.get(name), str) and value == DISABLED:
            return value
    return None


def _is_kustomization(found: Any) -> bool:
    """A kustomization file among the resources is for kustomize, and not for the cluster."""
    return (
        isinstance(found, dict)
        and found.get("kind") == "Kustomization"
        and str(found.get("apiVersion")).startswith("kustomize.config.k8s.io/")
    )


def _said(found: KubeObject) -> str:
    metadata = found.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    names = [found.get("kind") or "an object without kind", metadata.get("namespace"), metadata.get("name")]
    return "/".join(str(name) for name in names if name)
