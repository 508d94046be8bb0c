"""What end-to-end tests stand on: a Git server, an API server, a namespace, and daemons that look after it.

Each test has a namespace, a store and a user of its own, so that tests share one API server and every request that a
daemon makes can be counted. Nothing here sleeps: what is waited for is watched, in the cluster or in the log.
"""

import base64
import itertools
import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio

from tests.servers.git_server import GitServer
from tests.servers.kubernetes_servers import Servers
from tests.servers.repositories import Repository
from tidelog.engine.cluster.errors import GoneError, NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.kinds.meta import FINALIZER
from tidelog.engine.kinds.registry import KINDS
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.daemon import Daemon, open_daemon
from tidelog.engine.runtime.requests import Request
from tidelog.engine.runtime.settings import Settings
from tidelog.events.envelope import Actor, Proof
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.vocabulary import Event
from tidelog.storage import Recorded

LIMIT_S = 60.0
"""How long anything may take that is waited for, on a machine that does much else; most takes well below a second."""
SOURCE = "source.toolkit.fluxcd.io/v1"
KUSTOMIZE = "kustomize.toolkit.fluxcd.io/v1"
HELM = "helm.toolkit.fluxcd.io/v2"
ADA = Actor(kind="user", name="ada", proof=Proof(kind="claimed"))
EventT = TypeVar("EventT", bound=Event)

Files = Mapping[str, str | bytes]
Predicate = Callable[[KubeObject], bool]


# ------------------------------------------------------------------------------------------------- what is made


def config_map(name: str, /, **data: str) -> str:
    """A ConfigMap, as YAML."""
    return manifest("v1", "ConfigMap", name, data=data)


def manifest(api_version: str, kind: str, name: str, *, metadata: KubeObject | None = None, **fields: Any) -> str:
    """An object, as YAML (of which JSON is a part)."""
    obj = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **(metadata or {})}, **fields}
    return json.dumps(obj) + "\n"


def documents(*manifests: str) -> str:
    """Several objects in one file."""
    return "---\n".join(manifests)


# --------------------------------------------------------------------------------------------------- predicates


def condition(obj: KubeObject, type_: str) -> KubeObject:
    """A condition of an object; empty where it has none."""
    found = (one for one in (obj.get("status") or {}).get("conditions") or () if one["type"] == type_)
    return next(found, {})


def is_ready(obj: KubeObject) -> bool:
    """As kstatus says that an object is: Ready, of this generation, and nothing going on (Flux contract CM-026)."""
    status = obj.get("status") or {}
    return (
        status.get("observedGeneration") == obj["metadata"]["generation"]
        and condition(obj, "Ready").get("status") == "True"
        and not condition(obj, "Reconciling")
        and not condition(obj, "Stalled")
    )


def failed(reason: str, *words: str) -> Predicate:
    """Ready=False for a reason, with these words in its message."""

    def holds(obj: KubeObject) -> bool:
        ready = condition(obj, "Ready")
        return (
            ready.get("status") == "False"
            and ready["reason"] == reason
            and all(word in ready["message"] for word in words)
        )

    return holds


# -------------------------------------------------------------------------------------------------------- daemons


class Running:
    """A daemon that runs in this process."""

    def __init__(self, daemon: Daemon, namespace: str) -> None:
        self.daemon = daemon
        self.namespace = namespace
        self.recorded: list[Recorded] = []
        """What was recorded since it was started."""
        self._news = anyio.Event()
        daemon.engine.memory.listen(self._heard)

    def _heard(self, recorded: Recorded) -> None:
        self.recorded.append(recorded)
        self._news.set()

    def stream(self, kind: str, name: str) -> StreamName:
        """The stream of a source or target of the test's namespace."""
        groups = {"Kustomization": KUSTOMIZE, "HelmRelease": HELM}
        group = groups.get(kind, SOURCE).partition("/")[0]
        return ObjectKey(group, kind, self.namespace, name).stream(self.daemon.engine.cluster_alias)

    def target(self, name: str) -> StreamName:
        """The stream of a Kustomization."""
        return self.stream("Kustomization", name)

    async def until(
        self, holds: Callable[[Recorded], bool], what: str, *, after: int = 0, limit_s: float = LIMIT_S
    ) -> Recorded:
        """The first event, of those recorded from `after` on, for which something holds."""
        seen = after
        try:
            with anyio.fail_after(limit_s):
                while True:
                    for recorded in self.recorded[seen:]:
                        seen += 1
                        if holds(recorded):
                            return recorded
                    self._news = anyio.Event()
                    await self._news.wait()
        except TimeoutError:
            told = "\n".join(f"{one.envelope.stream} {one.event}" for one in self.recorded[-12:])
            raise AssertionError(f"never recorded: {what}. The last of {len(self.recorded)} events:\n{told}") from None

    async def until_event(
        self, kind: type[EventT], *, stream: str = "", after: int = 0, where: Callable[[EventT], bool] = lambda _: True
    ) -> EventT:
        """The first event of a kind, in a stream if one is named."""

        def holds(recorded: Recorded) -> bool:
            event = recorded.event
            return isinstance(event, kind) and stream in ("", recorded.envelope.stream) and where(event)

        recorded = await self.until(holds, f"{kind.__name__} in {stream or 'any stream'}", after=after)
        assert isinstance(recorded.event, kind)
        return recorded.event

    def events(self, *kinds: type[Event], after: int = 0, stream: str = "") -> list[Event]:
        """What was recorded, of some kinds (none: of all)."""
        return [
            one.event
            for one in self.recorded[after:]
            if (not kinds or isinstance(one.event, kinds)) and stream in ("", one.envelope.stream)
        ]

    async def ask(self, verb: Any, target: StreamName = StreamName(""), **fields: Any) -> Recorded:  # noqa: B008 - it is a string
        """Asks for something, as who comes through a door does."""
        why = fields.pop("why", "a test wants it")
        return await self.daemon.requests.take(Request(verb=verb, target=target, why=why, **fields), ADA)

    async def idle(self) -> None:
        """Until every source and target is at rest, and its status is written."""
        engine = self.daemon.engine

        def busy() -> bool:
            return bool(
                engine.sources.queued
                or engine.sources.running
                or engine.targets.queued
                or engine.targets.running
                or not engine.status.idle
            )

        with anyio.fail_after(LIMIT_S):
            quiet = 0
            while quiet < 3:
                # Of many parts at once no one event tells; a busy pass is looked at again after a turn of the loop.
                await anyio.sleep(0.02)
                quiet = 0 if busy() else quiet + 1


# ---------------------------------------------------------------------------------------------------------- world


class Place:
    """A namespace of a cluster, as an administrator sees it."""

    def __init__(self, servers: Servers, namespace: str, cluster: RealCluster) -> None:
        self.servers = servers
        self.namespace = namespace
        self.cluster = cluster
        """The administrator's; a daemon has another."""

    async def apply(self, obj: KubeObject, manager: str = "test") -> KubeObject:
        """Applies an object, in the test's namespace unless it names another (or has none)."""
        obj = {**obj, "metadata": {"namespace": self.namespace, **obj["metadata"]}}
        return (await self.cluster.apply(obj, manager=manager)).object

    async def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> KubeObject | None:
        """An object; None where there is none."""
        found = await self.cluster.kind(api_version, kind)
        where = self.namespace if namespace is None else namespace
        try:
            return await self.cluster.get(found, where if found.namespaced else "", name)
        except NotFoundError:
            return None

    async def data(self, name: str) -> dict[str, str] | None:
        """What a ConfigMap of the test's namespace holds; None where there is none."""
        found = await self.get("v1", "ConfigMap", name)
        return None if found is None else dict(found.get("data") or {})

    async def patch(
        self, api_version: str, kind: str, name: str, patch: KubeObject, manager: str = "test"
    ) -> KubeObject:
        """A merge patch, as `kubectl patch` makes one."""
        found = await self.cluster.kind(api_version, kind)
        return await self.cluster.patch(found, self.namespace, name, patch, type="merge", manager=manager)

    async def delete(self, api_version: str, kind: str, name: str) -> None:
        """Deletes an object."""
        found = await self.cluster.kind(api_version, kind)
        await self.cluster.delete(found, self.namespace if found.namespaced else "", name)

    async def until(
        self,
        api_version: str,
        kind: str,
        name: str,
        holds: Callable[[KubeObject | None], bool],
        what: str = "",
        *,
        namespace: str | None = None,
        limit_s: float = LIMIT_S,
    ) -> KubeObject | None:
        """Watches an object until something holds of it (None: it is not there); returns it."""
        found = await self.cluster.kind(api_version, kind)
        where = (self.namespace if namespace is None else namespace) if found.namespaced else ""
        fields = f"metadata.name={name}"
        last: KubeObject | None = None
        try:
            with anyio.fail_after(limit_s):
                while True:
                    listing = await self.cluster.list(found, namespace=where, fields=fields)
                    last = listing.items[0] if listing.items else None
                    if holds(last):
                        return last
                    changes = self.cluster.watch(
                        found, resource_version=listing.resource_version, namespace=where, fields=fields
                    )
                    try:
                        async with aclosing(changes) as changes:
                            async for change in changes:
                                if change.type == "BOOKMARK":
                                    continue
                                last = None if change.type == "DELETED" else change.object
                                if holds(last):
                                    return last
                    except GoneError:
                        continue
        except TimeoutError:
            shown = json.dumps((last or {}).get("status", last), indent=1)[:4000]
            raise AssertionError(f"{kind}/{name} never became {what or 'as wanted'}; it is: {shown}") from None

    async def until_gone(self, api_version: str, kind: str, name: str) -> None:
        """Watches until an object is no more."""
        await self.until(api_version, kind, name, lambda obj: obj is None, "gone")

    async def until_data(self, name: str, data: Mapping[str, str]) -> KubeObject:
        """Watches a ConfigMap until it holds this."""
        found = await self.until(
            "v1", "ConfigMap", name, lambda obj: obj is not None and obj.get("data") == dict(data), f"{dict(data)}"
        )
        assert found is not None
        return found


class World(Place):
    """All of one test."""

    def __init__(self, servers: Servers, namespace: str, cluster: RealCluster, git: GitServer, directory: Path) -> None:
        super().__init__(servers, namespace, cluster)
        self.git = git
        self.directory = directory
        self.store = directory / "store"
        self.user = f"engine-{namespace}"
        self.repository = Repository.create(git.root / "fleet.git")
        self.kubeconfig = servers.kubeconfig_of(self.user, ("system:masters",))
        self._tokens = itertools.count(1)
        self._files: dict[str, str | bytes] = {}
        self.head = ""
        """The last commit."""

    # Git.

    def commit(self, files: Files, *, message: str = "a change") -> str:
        """Commits exactly these files; returns the commit's id."""
        self._files = dict(files)
        self.head = self.repository.commit(self._files, message=message, time_s=1_700_000_000 + next(self._tokens))
        return self.head

    def change(self, files: Mapping[str, str | bytes | None], *, message: str = "a change") -> str:
        """Commits some files over those that are there; None deletes one."""
        merged = {**self._files, **files}
        return self.commit({name: data for name, data in merged.items() if data is not None}, message=message)

    @property
    def revision(self) -> str:
        """The last commit, as Flux writes a revision."""
        return f"main@sha1:{self.head}"

    # The cluster.

    async def source(self, name: str = "fleet", *, repository: str = "fleet", **spec: Any) -> KubeObject:
        """A GitRepository of a repository of the Git server, with the Secret that lets it be reached."""
        data = {"ca.crt": base64.b64encode(self.git.ca).decode()}
        how = self.git.behaviour
        if how.username is not None and how.password is not None:
            data |= {
                "username": base64.b64encode(how.username.encode()).decode(),
                "password": base64.b64encode(how.password.encode()).decode(),
            }
        await self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-auth"}, "data": data})
        whole = {
            "interval": "1h",
            "url": self.git.url(repository),
            "ref": {"branch": "main"},
            "secretRef": {"name": f"{name}-auth"},
        }
        return await self.apply(
            {"apiVersion": SOURCE, "kind": "GitRepository", "metadata": {"name": name}, "spec": whole | spec}
        )

    async def target(self, name: str, path: str, *, metadata: KubeObject | None = None, **spec: Any) -> KubeObject:
        """A Kustomization."""
        whole = {
            "interval": "1h",
            "retryInterval": "1h",
            "path": path,
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        }
        return await self.apply(
            {
                "apiVersion": KUSTOMIZE,
                "kind": "Kustomization",
                "metadata": {"name": name, **(metadata or {})},
                "spec": {key: value for key, value in (whole | spec).items() if value is not None},
            }
        )

    async def let_go(self) -> None:
        """Takes the finalizers off what daemons left that are no more.

        A namespace that cannot end is tried again for as long as the servers run: ten of them cost a tenth of a core.
        """
        for kind in KINDS:
            found = await self.cluster.kind(kind.resource.api_version, kind.resource.kind)
            for obj in (await self.cluster.list(found, namespace=self.namespace)).items:
                if FINALIZER in obj["metadata"].get("finalizers", ()):
                    with suppress(NotFoundError):
                        await self.patch(
                            kind.resource.api_version,
                            kind.resource.kind,
                            obj["metadata"]["name"],
                            {"metadata": {"finalizers": None}},
                        )

    async def ask(self, kind: str = "GitRepository", name: str = "fleet") -> str:
        """Asks for a reconciliation as `flux reconcile` does; returns the token."""
        token = f"token-{next(self._tokens)}"
        annotations = {"reconcile.fluxcd.io/requestedAt": token}
        await self.patch(
            KUSTOMIZE if kind == "Kustomization" else SOURCE, kind, name, {"metadata": {"annotations": annotations}}
        )
        return token

    async def push(self, files: Mapping[str, str | bytes | None], *, message: str = "a change") -> str:
        """Commits some files over those that are there, and tells the source, as a webhook does."""
        self.change(files, message=message)
        await self.ask()
        return self.head

    # Waiting.

    async def until_target(self, name: str, holds: Predicate, what: str = "", **how: Any) -> KubeObject:
        """Watches a Kustomization until something holds of it."""
        found = await self.until(
            KUSTOMIZE, "Kustomization", name, lambda obj: obj is not None and holds(obj), what, **how
        )
        assert found is not None
        return found

    async def until_source(self, holds: Predicate, what: str = "", name: str = "fleet", **how: Any) -> KubeObject:
        """Watches a GitRepository until something holds of it."""
        found = await self.until(SOURCE, "GitRepository", name, lambda obj: obj is not None and holds(obj), what, **how)
        assert found is not None
        return found

    async def until_answered(self, token: str, **how: Any) -> None:
        """Watches the source until a run has answered a request."""
        await self.until_source(lambda obj: obj["status"].get("lastHandledReconcileAt") == token, token, **how)

    async def until_applied(self, *names: str, revision: str | None = None) -> list[KubeObject]:
        """Watches Kustomizations until each is ready at the last commit."""
        wanted = revision or self.revision

        def holds(obj: KubeObject) -> bool:
            return is_ready(obj) and obj["status"].get("lastAppliedRevision") == wanted

        return [await self.until_target(name, holds, f"ready at {wanted}") for name in names]

    async def until_all_applied(self, names: Collection[str], *, limit_s: float = LIMIT_S) -> None:
        """Watches many Kustomizations at once until each is ready at the last commit."""
        kind = await self.cluster.kind(KUSTOMIZE, "Kustomization")
        left = set(names)

        def look(obj: KubeObject) -> None:
            if is_ready(obj) and obj["status"].get("lastAppliedRevision") == self.revision:
                left.discard(obj["metadata"]["name"])

        try:
            with anyio.fail_after(limit_s):
                listing = await self.cluster.list(kind, namespace=self.namespace)
                for obj in listing.items:
                    look(obj)
                changes = self.cluster.watch(kind, resource_version=listing.resource_version, namespace=self.namespace)
                if not left:
                    return
                async with aclosing(changes) as changes:
                    async for change in changes:
                        if change.type != "BOOKMARK":
                            look(change.object)
                        if not left:
                            return
        except TimeoutError:
            pass
        name = min(left)
        found = await self.get(KUSTOMIZE, "Kustomization", name) or {}
        raise AssertionError(
            f"{len(left)} of {len(names)} were never ready at {self.revision}; the first, {name}: "
            f"{json.dumps(found.get('status'), indent=1)[:4000]}"
        )

    async def events_of(self, name: str, kind: str = "Kustomization") -> list[KubeObject]:
        """The Kubernetes Events about a source or target, oldest first."""
        found = await self.cluster.kind("v1", "Event")
        fields = f"involvedObject.name={name},involvedObject.kind={kind}"
        listing = await self.cluster.list(found, namespace=self.namespace, fields=fields)
        return sorted(listing.items, key=lambda event: int(event["metadata"]["resourceVersion"]))

    async def until_told(self, name: str, reason: str, *words: str, kind: str = "Kustomization") -> KubeObject:
        """Watches until an Event about a source or target tells of something."""
        found = await self.cluster.kind("v1", "Event")
        fields = f"involvedObject.name={name},involvedObject.kind={kind}"

        def tells(event: KubeObject) -> bool:
            return event["reason"] == reason and all(word in event["message"] for word in words)

        seen: list[str] = []
        try:
            with anyio.fail_after(LIMIT_S):
                listing = await self.cluster.list(found, namespace=self.namespace, fields=fields)
                for event in listing.items:
                    seen.append(f"{event['reason']}: {event['message']}")
                    if tells(event):
                        return event
                changes = self.cluster.watch(
                    found, resource_version=listing.resource_version, namespace=self.namespace, fields=fields
                )
                async with aclosing(changes) as changes:
                    async for change in changes:
                        if change.type == "BOOKMARK":
                            continue
                        seen.append(f"{change.object['reason']}: {change.object['message']}")
                        if change.type != "DELETED" and tells(change.object):
                            return change.object
        except TimeoutError:
            pass
        told = "\n".join(seen)
        raise AssertionError(f"no event {reason} with {words} about {kind}/{name}, but:\n{told}")

    # Daemons.

    def settings(self, **changed: Any) -> Settings:
        """The daemon's settings: it looks after the test's namespace only, without Leases."""
        fields: dict[str, Any] = {
            "runtime_namespace": self.namespace,
            "watch_all_namespaces": False,
            "enable_leader_election": False,
            "storage_addr": "",
            "health_addr": "",
            "metrics_addr": "",
        }
        return Settings(**(fields | changed))

    @asynccontextmanager
    async def daemon(
        self,
        *,
        store: Path | None = None,
        kubeconfig: Path | None = None,
        cluster: Cluster | None = None,
        serving: bool = True,
        environment: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> AsyncIterator[Running]:
        """Runs a daemon while the block lasts; it is serving when the block begins, unless that is not waited for."""
        opened = open_cluster(kubeconfig or self.kubeconfig) if cluster is None else nullcontext(cluster)
        own = dict(environment or {})
        async with (
            opened as found,
            open_daemon(found, store or self.store, self.settings(**settings), environment=own) as daemon,
            anyio.create_task_group() as tasks,
        ):
            running = Running(daemon, self.namespace)
            tasks.start_soon(daemon.run)
            if serving:
                with anyio.fail_after(LIMIT_S):
                    await daemon.serving.wait()
            yield running
            tasks.cancel_scope.cancel()

    async def requests(self, *verbs: str) -> list[KubeObject]:
        """The daemon's requests so far, of some verbs (none: of all but those about Leases).

        Not those about objects of other tests: namespaces that ended tests left behind go meanwhile, and a watch
        of all namespaces that tells of it has the daemon ask whether it is so.
        """
        await self._audit_has_caught_up()
        return [
            entry
            for entry in self.servers.audited(self.user)
            if (entry["verb"] in verbs if verbs else True) and self._is_ours(entry.get("objectRef") or {})
        ]

    def _is_ours(self, ref: KubeObject) -> bool:
        namespace = ref.get("namespace", "")
        is_of_a_test = namespace.startswith("test-")
        return ref.get("resource") != "leases" and (not is_of_a_test or namespace.startswith(self.namespace))

    async def _audit_has_caught_up(self) -> None:
        """A request of our own that is in the log has all that came before it there."""
        mark = f"mark-{self.namespace}-{next(self._tokens)}"
        kind = await self.cluster.kind("v1", "ConfigMap")
        since = self.servers.audited_bytes()
        with suppress(NotFoundError):
            await self.cluster.get(kind, self.namespace, mark)
        with anyio.fail_after(LIMIT_S):
            while not await anyio.to_thread.run_sync(self.servers.has_audited, mark, since):  # noqa: ASYNC110 - another process
                await anyio.sleep(0.01)


def written(requests: Iterable[KubeObject]) -> list[tuple[str, str, str]]:
    """The requests that changed something for good: verb, resource and name."""
    return [
        (entry["verb"], "/".join(filter(None, (ref.get("resource"), ref.get("subresource")))), ref.get("name", ""))
        for entry in requests
        if entry["verb"] in ("create", "update", "patch", "delete")
        and "dryRun=All" not in entry["requestURI"]
        and (ref := entry.get("objectRef") or {}).get("resource") != "events"
    ]


def dry_runs(requests: Iterable[KubeObject]) -> list[str]:
    """The objects that dry runs were made of."""
    return [entry["objectRef"].get("name", "") for entry in requests if "dryRun=All" in entry["requestURI"]]


def names(ids: Sequence[str]) -> list[str]:
    """The names in object ids."""
    return [id.rpartition("/")[2] for id in ids]
