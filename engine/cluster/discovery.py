"""Which kinds a cluster serves: the two documents of aggregated discovery (Kubernetes 1.27 and newer)."""

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from tidelog.engine.cluster.port import Kind
from tidelog.events.typed import decoder

ROOTS = ("/api", "/apis")
ACCEPT = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,"
    "application/json"
)

STALE = "Stale"


class NotAggregatedError(Exception):
    """Raised for a document of another kind: the server is older."""


class Kinds:
    """What a cluster serves, by what objects say of themselves."""

    def __init__(self, kinds: Sequence[Kind], silent: frozenset[str] = frozenset(), names: Iterable[str] = ()) -> None:
        """Takes what discovery says.

        Args:
            kinds: of each group, those of the version that it prefers first.
            silent: API versions (`example.com/v1`) whose server does not answer, so that what they serve is not known.
            names: of all that is served: versions (`apps/v1`) and kinds (`apps/v1/Scale` too).
        """
        self.names = tuple(sorted(names))
        self.silent = silent
        self._by_name: dict[tuple[str, str], Kind] = {}
        preferred: dict[tuple[str, str], Kind] = {}
        for kind in kinds:
            self._by_name.setdefault((kind.api_version, kind.kind), kind)
            preferred.setdefault((kind.group, kind.kind), kind)
        self._preferred = preferred
        self.preferred = tuple(preferred.values())

    def get(self, api_version: str, kind: str) -> Kind | None:
        """The kind of that name, if it is served."""
        return self._by_name.get((api_version, kind))

    def preferred_of(self, group: str, kind: str) -> Kind | None:
        """The kind of that name, in the version that its group prefers."""
        return self._preferred.get((group, kind))

    def in_version(self, api_version: str) -> tuple[Kind, ...]:
        """The kinds that are served in a version."""
        return tuple(kind for (version, _), kind in self._by_name.items() if version == api_version)

    def versions_of(self, kind: str) -> list[str]:
        """The `apiVersion`s under which a kind of that name is served: for a message about one that is not."""
        return sorted(version for version, name in self._by_name if name == kind)


class _ResponseKind(Struct):
    kind: str = ""


class _Subresource(Struct, rename="camel"):
    response_kind: _ResponseKind | None = None


class _Resource(Struct, rename="camel"):
    resource: str
    response_kind: _ResponseKind | None = None
    subresources: list[_Subresource] = []
    scope: str = "Namespaced"
    verbs: list[str] = []


class _Version(Struct):
    version: str
    resources: list[_Resource] = []
    freshness: str = ""
    """`Stale` when the server behind an APIService could not be asked; its resources may be missing, or old."""


class _Metadata(Struct, frozen=True):
    name: str = ""


class _Group(Struct):
    metadata: _Metadata = _Metadata()
    versions: list[_Version] = []


class _List(Struct):
    kind: str
    items: list[_Group] = []


_decode = decoder(_List)


class Served(Struct, frozen=True):
    """What one of the documents says."""

    kinds: list[Kind]
    silent: frozenset[str]
    """API versions whose server could not be asked."""
    names: frozenset[str]
    """Of versions and kinds, as Helm's `.Capabilities.APIVersions` has them."""


def served_in(document: bytes) -> Served:
    """What one of the documents says.

    Raises:
        NotAggregatedError: when the server does not know this form.
        msgspec.DecodeError: when it is no such document at all.
    """
    listed = _decode(document)
    if listed.kind != "APIGroupDiscoveryList":
        raise NotAggregatedError
    silent = (
        f"{group.metadata.name}/{version.version}"
        for group in listed.items
        for version in group.versions
        if version.freshness == STALE
    )
    return Served(list(_kinds(listed.items)), frozenset(silent), frozenset(_names(listed.items)))


def _names(groups: list[_Group]) -> Iterator[str]:
    for group in groups:
        for version in group.versions:
            name = f"{group.metadata.name}/{version.version}" if group.metadata.name else version.version
            yield name
            # What is stale stands for an API service that does not answer: its kinds are those of yesterday.
            for resource in version.resources if version.freshness != STALE else ():
                kinds = (resource.response_kind, *(one.response_kind for one in resource.subresources))
                yield from (f"{name}/{kind.kind}" for kind in kinds if kind and kind.kind)


def _kinds(groups: list[_Group]) -> Iterator[Kind]:
    for group in groups:
        for version in group.versions:
            for resource in version.resources:
                if resource.response_kind and resource.response_kind.kind:
                    yield Kind(
                        group=group.metadata.name,
                        version=version.version,
                        kind=resource.response_kind.kind,
                        plural=resource.resource,
                        namespaced=resource.scope == "Namespaced",
                        verbs=frozenset(resource.verbs),
                    )
