"""Which kinds a cluster serves: the two documents of aggregated discovery (Kubernetes 1.27 and newer)."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from tidelog.engine.cluster.port import Kind

ROOTS = ("/api", "/apis")
ACCEPT = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,"
    "application/json"
)


class NotAggregatedError(Exception):
    """Raised for a document of another kind: the server is older."""


class Kinds:
    """What a cluster serves, by what objects say of themselves."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        """`kinds`: of each group, those of the version that it prefers first."""
        self._by_name: dict[tuple[str, str], Kind] = {}
        preferred: dict[tuple[str, str], Kind] = {}
        for kind in kinds:
            self._by_name.setdefault((kind.api_version, kind.kind), kind)
            preferred.setdefault((kind.group, kind.kind), kind)
        self.preferred = tuple(preferred.values())

    def get(self, api_version: str, kind: str) -> Kind | None:
        """The kind of that name, if it is served."""
        return self._by_name.get((api_version, kind))

    def versions_of(self, kind: str) -> list[str]:
        """The `apiVersion`s under which a kind of that name is served: for a message about one that is not."""
        return sorted(version for version, name in self._by_name if name == kind)


class _ResponseKind(Struct):
    kind: str = ""


class _Resource(Struct, rename="camel"):
    resource: str
    response_kind: _ResponseKind | None = None
    scope: str = "Namespaced"
    verbs: list[str] = []


class _Version(Struct):
    version: str
    resources: list[_Resource] = []


class _Metadata(Struct, frozen=True):
    name: str = ""


class _Group(Struct):
    metadata: _Metadata = _Metadata()
    versions: list[_Version] = []


class _List(Struct):
    kind: str
    items: list[_Group] = []


_decode = msgspec.json.Decoder(_List).decode


def kinds_in(document: bytes) -> list[Kind]:
    """The kinds in one of the documents.

    Raises:
        NotAggregatedError: when the server does not know this form.
        msgspec.DecodeError: when it is no such document at all.
    """
    listed = _decode(document)
    if listed.kind != "APIGroupDiscoveryList":
        raise NotAggregatedError
    return list(_kinds(listed.items))


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
