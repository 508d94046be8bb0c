"""What Tidelog asks of a Kubernetes API, whichever one it is.

Objects are decoded JSON, and nobody keeps one that was handed over: who gets it may change it. Every method raises
the errors of `tidelog.engine.cluster.errors` and no others, and may be cancelled at any moment.
"""

from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct

from tidelog.engine.objects.kube import KubeObject

WatchEventType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
PatchType: TypeAlias = Literal["merge", "json", "strategic"]
Patch: TypeAlias = KubeObject | list[KubeObject]
Propagation: TypeAlias = Literal["Background", "Foreground", "Orphan"]
TableObjects: TypeAlias = Literal["None", "Metadata", "Object"]
"""How much of each object comes with its row."""
OnRequest: TypeAlias = Callable[[str, str, int, float], None]
"""Called once a request: verb as in audit logs, plural of the kind (or a path), HTTP status (0: none came), seconds."""

PAGE = 500
"""Objects in a page of a list, as kubectl asks for."""


class Kind(Struct, frozen=True):
    """A kind that a cluster serves, in one version. `group` is empty for core."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: frozenset[str] = frozenset()

    @property
    def api_version(self) -> str:
        """As objects write it: `apps/v1`, `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version


class Token(Struct, frozen=True):
    """By which a ServiceAccount shows to others who it is."""

    value: str
    lasts_s: float
    """For how long it is good, from when it was given."""

    def __repr__(self) -> str:
        return "Token(…)"


class Applied(Struct, frozen=True):
    """The answer to a server-side apply."""

    object: KubeObject
    created: bool
    warnings: tuple[str, ...] = ()


class Listing(Struct, frozen=True):
    """The objects of one kind, or a page of them, as of `resource_version`."""

    items: list[KubeObject]
    resource_version: str


class WatchEvent(Struct, frozen=True):
    """A change. The object of a BOOKMARK has nothing but a kind and `metadata.resourceVersion`."""

    type: WatchEventType
    object: KubeObject


class Scale(Struct, frozen=True):
    """How often an object is there: of its subresource `scale`, whatever its kind."""

    wanted: int
    there: int
    """As its controller last counted."""
    selector: str
    """Of its Pods, in Kubernetes' words; empty where its kind names none."""
    resource_version: str


class Column(Struct, frozen=True):
    """A column of a table; `priority` is 0 for those that are always shown."""

    name: str
    type: str
    format: str = ""
    description: str = ""
    priority: int = 0


class Row(Struct, frozen=True):
    """What a table shows of an object: a cell a column, decoded JSON."""

    cells: tuple[Any, ...]
    object: KubeObject | None = None
    """As much of the object as was asked for."""


class Table(Struct, frozen=True):
    """Objects as the server itself shows them to people, as of `resource_version`."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    resource_version: str


class Identity(Struct, frozen=True):
    """Whom to act as (impersonation). For a service account, the server adds its groups where none are named."""

    user: str
    groups: tuple[str, ...] = ()


class Preconditions(Struct, frozen=True):
    """What must hold of the object that is there, or nothing is done: ConflictError."""

    uid: str | None = None
    resource_version: str | None = None


class Cluster(Protocol):
    """A Kubernetes API."""

    async def kind(self, api_version: str, kind: str) -> Kind:
        """The kind that objects with these two fields are of; kept, and asked for once more before it is unknown.

        Raises:
            UnknownKindError: when the cluster does not serve it.
            ServerError: when an API that may serve it does not answer, so that nobody can tell.
        """
        ...

    async def find_kind(self, group: str, kind: str) -> Kind | None:
        """The kind of that name in the version that its group prefers; None when it is served in no version.

        Raises:
            ServerError: when an API of the group does not answer, so that nobody can tell.
        """
        ...

    async def kinds(self) -> tuple[Kind, ...]:
        """All kinds that are served, each in the version that its group prefers."""
        ...

    async def kinds_in(self, api_version: str) -> tuple[Kind, ...]:
        """All kinds that one version serves; kept, and asked for once more before there are none.

        Raises:
            ServerError: when the API of that version does not answer, so that nobody can tell.
        """
        ...

    async def api_versions(self) -> tuple[str, ...]:
        """What is served now, in order: versions (`apps/v1`), and kinds with those of subresources (`apps/v1/Scale`).

        Asked for anew, which costs little where nothing has changed. Of an API that does not answer, the version alone.
        """
        ...

    def fence(self, check: Callable[[], None] | None) -> None:
        """Has `check` asked right before each change is sent: what it raises comes in the place of the change."""
        ...

    def forget_kinds(self) -> None:
        """Forgets what `kind`, `kinds` and `openapi` keep: a CRD has changed."""
        ...

    async def get(self, kind: Kind, namespace: str, name: str, *, identity: Identity | None = None) -> KubeObject:
        """One object. `namespace` is empty for kinds without.

        Raises:
            NotFoundError: when there is none.
        """
        ...

    async def list(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
        identity: Identity | None = None,
    ) -> Listing:
        """All objects of a kind, read in pages of `limit`; `labels` and `fields` are selectors in Kubernetes' words.

        When the server forgets what the next page continues (410), reading begins anew; the third time, GoneError.
        """
        ...

    def pages(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
        only_metadata: bool = False,
        identity: Identity | None = None,
    ) -> AsyncGenerator[Listing, None]:
        """The pages of a list, for what is too much at once; GoneError when the server forgets in between.

        With `only_metadata`, nothing else of the objects is sent, and not always what kind they are of.
        Close it (`contextlib.aclosing`) when leaving before its end.
        """
        ...

    async def table(
        self,
        kind: Kind,
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        limit: int = PAGE,
        objects: TableObjects = "None",
        identity: Identity | None = None,
    ) -> Table:
        """All objects of a kind as the server shows them, in the columns that their kind has; read as `list` reads."""
        ...

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        only_metadata: bool = False,
        identity: Identity | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """The changes after `resource_version`, with bookmarks; ends when the server ends it, as it does now and then.

        With `only_metadata`, events have no more of an object, as in `pages`. Reads no faster than it is asked for.
        Close it (`contextlib.aclosing`) when leaving before its end.

        Raises:
            GoneError: the server has forgotten that version (410); list again.
            UnreachableError: the connection broke; go on from the last version seen.
        """
        ...

    async def apply(
        self,
        obj: KubeObject,
        *,
        manager: str,
        force: bool = True,
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> Applied:
        """Server-side apply. `metadata.uid` and `metadata.resourceVersion`, where given, are preconditions.

        Raises:
            ConflictError: a precondition does not hold, or (without `force`) another manager owns a field.
        """
        ...

    async def create(self, obj: KubeObject, *, manager: str, identity: Identity | None = None) -> KubeObject:
        """Makes an object that is not there.

        Raises:
            AlreadyExistsError: when it is there.
        """
        ...

    async def review(self, obj: KubeObject) -> KubeObject:
        """Asks what the server answers in the object's `status`, and keeps nowhere: a TokenReview and its like.

        Such an object has no name; its kind is one without namespaces.
        """
        ...

    async def request_token(self, namespace: str, account: str, *audiences: str) -> Token:
        """A token by which a ServiceAccount shows to others who it is: good for an hour, and for those audiences only.

        Raises:
            NotFoundError: when there is no such account.
        """
        ...

    async def replace(
        self, obj: KubeObject, *, manager: str, subresource: str = "", identity: Identity | None = None
    ) -> KubeObject:
        """Puts the object, or its subresource, in the place of what is there; `resourceVersion` is a precondition.

        Raises:
            ConflictError: when another has written since that version.
        """
        ...

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Patch,
        *,
        type: PatchType,
        manager: str,
        subresource: str = "",
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> KubeObject:
        """Patches an object or its subresource, and gives what it then is. Only a JSON patch is a list."""
        ...

    async def get_scale(self, kind: Kind, namespace: str, name: str, *, identity: Identity | None = None) -> Scale:
        """How often an object is wanted and there.

        Raises:
            NotFoundError: when there is none, or its kind has no scale.
        """
        ...

    async def scale(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        wanted: int,
        *,
        manager: str,
        resource_version: str = "",
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> Scale:
        """Says how often an object is wanted, whatever its kind calls that; `resource_version` is a precondition.

        Raises:
            NotFoundError: when there is none, or its kind has no scale.
            ConflictError: when another has written since that version.
        """
        ...

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        preconditions: Preconditions | None = None,
        propagation: Propagation = "Background",
        dry_run: bool = False,
        identity: Identity | None = None,
    ) -> None:
        """Asks for an object's deletion; it may stay for a while, for its finalizers.

        Raises:
            NotFoundError: when it is not there.
            ConflictError: when a precondition does not hold.
        """
        ...

    async def openapi(self, group: str, version: str) -> bytes | None:
        """The OpenAPI v3 document of a group's version, JSON; None when there is none. Kept until it changes."""
        ...

    async def version(self) -> str:
        """The server's version, such as `v1.35.4`."""
        ...
