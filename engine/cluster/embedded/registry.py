"""Which kinds the embedded cluster serves: those of a 1.35 server, and those of the definitions that it holds."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final, TypeAlias

from msgspec import Struct

from tidelog.engine.cluster.embedded.schema import REFERENCE, Raw, Schema
from tidelog.events.typed import decoder

Place: TypeAlias = tuple[str, str]
"""Where objects of all versions of a kind are kept: group and plural."""


class Subresource(Struct, frozen=True):
    """`status`, `scale` and their like: what can be done, and of which kind the objects are."""

    name: str
    kind: str
    group: str
    version: str
    verbs: frozenset[str]


class Resource(Struct, frozen=True, eq=False):
    """A kind in one version, as it is served."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    verbs: frozenset[str]
    schema: Schema
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: Mapping[str, Subresource] = {}
    custom: Raw | None = None
    """Of a custom kind: its version as the definition has it."""
    stored_version: str = ""
    """The version in which its group's objects are kept; its own, if empty."""
    stored: Raw | None = None
    """Of a custom kind that is kept in another version: that version as the definition has it."""
    deprecated: str = ""
    """What whoever uses it is warned of; nothing, if empty."""

    @property
    def api_version(self) -> str:
        """As objects write it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def place(self) -> Place:
        """Where its objects are kept."""
        return self.group, self.plural

    @property
    def group_kind(self) -> tuple[str, str]:
        """Group and kind."""
        return self.group, self.kind

    @property
    def qualified(self) -> str:
        """As messages name it: `deployments.apps`, `configmaps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Group(Struct, frozen=True):
    """A group and its versions, the preferred one first."""

    name: str
    versions: tuple[str, ...]


class _Listed(Struct, rename="camel"):
    group: str
    version: str
    name: str
    singular_name: str
    namespaced: bool
    kind: str
    verbs: list[str]
    short_names: list[str] = []
    categories: list[str] = []
    answers: dict[str, str] = {}


class _Facts(Struct):
    version: str
    groups: list[Group]
    priorities: dict[str, tuple[int, int]]
    """Of each version, by the name of its APIService: that of its group, and its own."""
    resources: list[_Listed]
    types: dict[str, dict[str, Any]]


class Registry:
    """The kinds that are served now."""

    def __init__(self) -> None:
        """The built-in ones."""
        self._custom: dict[Place, tuple[Resource, ...]] = {}
        self._groups: dict[str, tuple[str, ...]] = {group.name: group.versions for group in facts().groups}
        self._found: dict[tuple[str, str, str], Resource] = dict(_builtin())
        self.changes = 0
        """Grows whenever what is served does."""

    def fork(self) -> "Registry":
        """One that serves the same kinds now."""
        made = Registry()
        made._custom, made._groups, made._found = dict(self._custom), dict(self._groups), dict(self._found)
        return made

    def resource(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource of a path."""
        return self._found.get((group, version, plural))

    def of_kind(self, group: str, version: str, kind: str) -> Resource | None:
        """The resource whose objects say that kind."""
        return next((one for one in self.resources(group, version) if one.kind == kind), None)

    def in_group(self, group: str, kind: str) -> Resource | None:
        """The resource of that kind in the version that its group prefers."""
        versions = self.versions(group)
        return next((one for version in versions if (one := self.of_kind(group, version, kind)) is not None), None)

    def at(self, place: Place) -> Resource | None:
        """The resource at a place, in the version that its group prefers."""
        group, plural = place
        versions = self.versions(group)
        return next((one for version in versions if (one := self.resource(group, version, plural))), None)

    def builtin(self, place: Place) -> Resource:
        """The resource at the place of a built-in kind.

        Raises:
            KeyError: when no built-in kind has it.
        """
        found = self.at(place)
        if found is None:
            raise KeyError(place)
        return found

    def groups(self) -> list[Group]:
        """Every group with a kind, core first, as discovery tells them."""
        return [Group(name, self.versions(name)) for name in self._groups]

    def versions(self, group: str) -> tuple[str, ...]:
        """The versions of a group, the preferred one first."""
        return self._groups.get(group, ())

    def versions_of(self, resource: Resource) -> list[str]:
        """The API versions that a resource is served in, as objects say them."""
        served = (self.resource(resource.group, one, resource.plural) for one in self.versions(resource.group))
        return [one.api_version for one in served if one is not None]

    def resources(self, group: str, version: str) -> list[Resource]:
        """What one version of a group serves."""
        # Of all at once: it is asked aside, too, while another kind begins to be served.
        return [one for one in list(self._found.values()) if (one.group, one.version) == (group, version)]

    def places(self) -> Iterator[Place]:
        """Every place where objects can be kept."""
        yield from dict.fromkeys((group, plural) for group, _, plural in self._found)

    def serve(self, place: Place, versions: Sequence[Resource]) -> None:
        """Serves a custom kind in these versions, the preferred one first, in the place of those it was served in."""
        for one in self._custom.pop(place, ()):
            del self._found[one.group, one.version, one.plural]
        if versions:
            self._custom[place] = tuple(versions)
        for one in versions:
            self._found[one.group, one.version, one.plural] = one
        self._regroup(place[0])
        self.changes += 1

    def _regroup(self, group: str) -> None:
        customs = [one.version for kinds in self._custom.values() for one in kinds if one.group == group]
        builtin = next((known.versions for known in facts().groups if known.name == group), ())
        versions = tuple(dict.fromkeys((*builtin, *sorted(customs, key=version_order))))
        self._groups.pop(group, None) if not versions else self._groups.__setitem__(group, versions)


def version_order(version: str) -> tuple[int, int, int, str]:
    """Sorts versions as Kubernetes prefers them: v2, v1, v1beta2, v1alpha1, then others by name (KEP-95)."""
    head, digits, rest = version[:1], "", version[1:]
    while rest[:1].isdigit():
        digits, rest = digits + rest[0], rest[1:]
    if head == "v" and digits:
        if not rest:
            return 0, -int(digits), 0, ""
        for rank, word in ((1, "beta"), (2, "alpha")):
            number = rest.removeprefix(word)
            if rest.startswith(word) and number.isdigit():
                return rank, -int(digits), -int(number), ""
    return 3, 0, 0, version


@functools.cache
def facts() -> _Facts:
    """What the real server serves; made by tools/kubernetes_facts.py."""
    document = resources.files(__package__).joinpath("data/kubernetes.json").read_bytes()
    return decoder(_Facts)(document)


@functools.cache
def _builtin() -> dict[tuple[str, str, str], Resource]:
    """By group, version and plural. Schemas make their parts when asked, so that this costs little."""
    known = facts()
    names = _types_of_kinds(known.types)
    subresources: dict[tuple[str, str, str], dict[str, Subresource]] = {}
    for listed in known.resources:
        plural, _, name = listed.name.partition("/")
        if name:
            subresources.setdefault((listed.group, listed.version, plural), {})[name] = _subresource(name, listed)
    return {
        (listed.group, listed.version, listed.name): Resource(
            group=listed.group,
            version=listed.version,
            plural=listed.name,
            singular=listed.singular_name,
            kind=listed.kind,
            namespaced=listed.namespaced,
            verbs=frozenset(listed.verbs),
            schema=schema_of_type(names[listed.group, listed.version, listed.kind]),
            short_names=tuple(listed.short_names),
            categories=tuple(listed.categories),
            subresources=subresources.get((listed.group, listed.version, listed.name), {}),
            stored_version=_STORED.get((listed.group, listed.name), ""),
        )
        for listed in known.resources
        if "/" not in listed.name
    }


def is_builtin(place: Place) -> bool:
    """Whether the server's own kinds have a place, in whichever version."""
    return place in _builtin_places()


def is_builtin_group(group: str) -> bool:
    """Whether a group is the server's own."""
    return any(known.name == group for known in facts().groups)


@functools.cache
def _builtin_places() -> frozenset[Place]:
    return frozenset((group, plural) for group, _, plural in _builtin())


_STORED: Final = {("autoscaling", "horizontalpodautoscalers"): "v2"}


def _subresource(name: str, listed: _Listed) -> Subresource:
    answers = listed.answers or {"group": listed.group, "version": listed.version}
    return Subresource(name, listed.kind, answers["group"], answers["version"], frozenset(listed.verbs))


def schema_of_type(name: str) -> Schema:
    """The schema of one of the server's own types, such as `io.k8s.api.core.v1.Pod`."""
    return Schema({"$ref": REFERENCE + name}, facts().types)


def schema_of_kind(group: str, version: str, kind: str) -> Schema:
    """The schema of a built-in kind, also of one that is no resource, such as Scale.

    Raises:
        KeyError: when there is no such kind.
    """
    return schema_of_type(_types_of_kinds(facts().types)[group, version, kind])


def _types_of_kinds(types: Mapping[str, Raw]) -> dict[tuple[str, str, str], str]:
    return {
        (kind["group"], kind["version"], kind["kind"]): name
        for name, raw in types.items()
        for kind in raw.get("x-kubernetes-group-version-kind") or ()
    }
