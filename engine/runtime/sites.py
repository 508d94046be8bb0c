"""Which cluster a target is applied to, and what is known of that cluster. The one place where this is decided.

What is declared (sources, targets, the Secrets and ConfigMaps that they name, what depends on what), its statuses and
events are in the engine's own cluster. What a target applies is there too, unless its `spec.kubeConfig` names another
cluster: then it is applied, watched, pruned and, of a release, recorded there.

A cluster is told from others by the uid of its kube-system. That of another one is what whoever answers there says of
itself, so it is believed within the namespace alone whose Secret or ConfigMap names it: nobody can pass something off
as a cluster of somebody else's. So the alias with which the streams of its objects begin has both.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, Protocol, TypeAlias

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup, TaskStatus

from tidelog.engine.cluster.errors import ClusterError, KubeconfigError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.remote import (
    SERVERS_MAX,
    Kubeconfig,
    NoKubeconfigError,
    Relay,
    Way,
    open_way,
    watched_by,
)
from tidelog.engine.kinds.targets import KubeConfigReference
from tidelog.engine.observe.room import Hall, Room
from tidelog.engine.runtime.binding import alias_of, bound_uid, uid_of
from tidelog.engine.runtime.capabilities import ClusterCapabilities
from tidelog.engine.runtime.kubeconfigs import Kubeconfigs
from tidelog.engine.runtime.leads import Beside, Leads
from tidelog.engine.runtime.memory import Memory, Origin
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.turns import Turns
from tidelog.engine.runtime.watching.declared import DeclaredKustomization, DeclaredTarget
from tidelog.engine.runtime.watching.inputs import Inputs
from tidelog.engine.runtime.watching.observer import Observer
from tidelog.engine.runtime.watching.records import RecordWatch
from tidelog.engine.secrecy.logs import keeping_secret
from tidelog.engine.secrecy.values import SecretValues
from tidelog.engine.tasks import one_error
from tidelog.events.names import StreamName
from tidelog.events.projections.desired import objects_cluster
from tidelog.events.vocabulary import ClusterBound

FAILED_S: Final = 5.0
"""For how long a cluster that could not be reached is not tried again for another target."""
DEFECT_RETRY_S: Final = 60.0

logger = logging.getLogger("tidelog")
_Name: TypeAlias = tuple[str, bytes]
"""A kubeconfig: the namespace where it stands, and its hash."""

MustEnd: TypeAlias = Callable[[Exception], bool]


class Watching:
    """What watches one cluster."""

    def __init__(self, cluster: Cluster, observer: Observer, records: RecordWatch, inputs: Inputs) -> None:
        self.cluster = cluster
        self.observer = observer
        self.records = records
        """Helm's records there."""
        self.inputs = inputs
        """Objects there that targets name: those of health checks, and hooks."""

    async def run(self, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watches, until cancelled; has started when it can be asked."""
        await self.observer.recall()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.inputs.run)
            tasks.start_soon(self.records.run)
            tasks.start_soon(self.observer.run)
            await anyio.lowlevel.checkpoint()
            task_status.started()


class Site:
    """A cluster that targets are applied to, as a pass over one of them asks it."""

    def __init__(self, alias: str, cluster: Cluster, watching: Watching) -> None:
        self.alias = alias
        """With which the streams of its objects begin."""
        self.cluster = cluster
        self.observer = watching.observer
        self.records = watching.records
        self.inputs = watching.inputs
        self.capabilities = ClusterCapabilities(cluster)


class WatchingOf(Protocol):
    """Makes what watches another cluster."""

    def __call__(self, alias: str, cluster: Cluster, room: Room) -> Watching:
        """What watches it, with room for what is known of it; nothing is watched yet."""
        ...


class _Road:
    """A way to another cluster that is open, and who goes it."""

    def __init__(self, way: Way, kubeconfig: Kubeconfig, site: Site, place: "_Place") -> None:
        self.way = way
        self.kubeconfig = kubeconfig
        self.site = site
        self.place = place
        self.users: set[StreamName] = set()


class _Place:
    """Another cluster, and what watches it, by one of the ways there."""

    def __init__(self, alias: str, relay: Relay, watching: Watching) -> None:
        self.alias = alias
        self.relay = relay
        self.watching = watching
        self.roads: list[_Road] = []
        self.secrets = SecretValues()
        """What is secret of the kubeconfigs of its ways."""
        self.turn = anyio.Lock()
        """Held while it is watched: whoever watches next waits for the one before to have ended."""
        self.scope: anyio.CancelScope | None = None
        """Of what watches, while it does."""
        self.ready = anyio.Event()
        """Set once that can be asked."""


class _Ready(TaskStatus[None]):
    """Lets those who wait for a watch go on, however often and by whomever it is told."""

    def __init__(self, event: anyio.Event) -> None:
        self._event = event

    def started(self, _value: None = None) -> None:
        """Has begun, or will not."""
        self._event.set()


class Sites:
    """The clusters that targets are applied to.

    Args:
        home: the engine's own cluster.
        watching: what watches that.
        memory: knows which cluster is which.
        engine_stream: where that is recorded.
        settings: what of a kubeconfig is used.
        watching_of: makes what watches another cluster.
        must_end: whether the daemon must not go on after an error.
    """

    def __init__(
        self,
        home: Site,
        watching: Watching,
        memory: Memory,
        engine_stream: StreamName,
        settings: Settings,
        watching_of: WatchingOf,
        must_end: MustEnd,
    ) -> None:
        self.home = home
        self._watching = watching
        self._inputs = watching.inputs
        self._memory = memory
        self._engine_stream = engine_stream
        self._kubeconfigs = Kubeconfigs(home.cluster, settings)
        self._watching_of = watching_of
        self._must_end = must_end
        self._roads: dict[_Name, _Road] = {}
        self._used: dict[StreamName, _Name] = {}
        self._places: dict[str, _Place] = {}
        self._opening = Turns()
        self._leads = Leads(self._find)
        self._hall = Hall()
        self._failed: dict[_Name, tuple[ClusterError, float]] = {}
        self._binding = anyio.Lock()
        self._fence: Callable[[], None] | None = None
        self._tasks: TaskGroup | None = None

    # Which cluster.

    def known_of(self, target: StreamName) -> str:
        """The alias of the cluster that a target's objects are in, as the log knows."""
        return objects_cluster(target, self._memory.desired.get(target))

    async def beside(self, alias: str, targets: Mapping[StreamName, DeclaredKustomization]) -> Beside:
        """Of some targets those that are applied to a cluster by their specs, be it that they have not come there yet.

        Where a kubeconfig leads to nowhere now, they are taken to be where the log knows that they were before.

        Raises:
            ClusterError: when their Secrets and ConfigMaps cannot be read.
        """
        if alias == self.home.alias:
            return Beside({stream: one for stream, one in targets.items() if one.spec.kube_config is None})
        namespace = alias.partition(".")[0]
        there = {
            stream: (one, one.spec.kube_config)
            for stream, one in targets.items()
            if one.spec.kube_config is not None and one.key.namespace == namespace
        }
        leads = await self._leads.of(namespace, {reference for _, reference in there.values()})
        here: dict[StreamName, DeclaredKustomization] = {}
        unsettled: dict[StreamName, DeclaredKustomization] = {}
        for stream, (one, reference) in there.items():
            lead, before = leads[reference], self.known_of(stream)
            if (lead.alias or before) == alias:
                here[stream] = one
            elif not lead.alias and not lead.settled and before == self.home.alias:
                unsettled[stream] = one
        return Beside(here, unsettled)

    async def of(self, declared: DeclaredTarget, secrets: SecretValues) -> Site:
        """The cluster that a target is applied to by its spec, for the pass that asks.

        Args:
            declared: the target.
            secrets: come to know what is secret of its kubeconfig.

        Raises:
            NoKubeconfigError: when what it names is not there.
            KubeconfigError: when that cannot be used, or not yet.
            ClusterError: when that cannot be read, or the cluster does not answer.
        """
        reference = declared.spec.kube_config
        if reference is None:
            await self.forget(declared.stream)
            return self.home
        try:
            # From now on the target is woken when what it names changes.
            get = partial(self._inputs.get, declared.stream)
            kubeconfig = await self._kubeconfigs.of(declared.key.namespace, reference, get)
        except NoKubeconfigError:
            await self.forget(declared.stream)
            raise
        return (await self._open(declared, kubeconfig, secrets)).site

    async def forget(self, user: StreamName) -> None:
        """Lets go of the cluster of a target that has no kubeconfig any more, or is no more."""
        name = self._used.pop(user, None)
        if name is not None:
            await self._leave(name, user)

    def fence(self, check: Callable[[], None] | None) -> None:
        """Has `check` asked before each change, in every cluster; it raises when none may be made any more."""
        self._fence = check
        for cluster in (self.home.cluster, *(road.way.cluster for road in self._roads.values())):
            cluster.fence(check)

    async def run(self, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watches the clusters that are used, until cancelled: the engine's own from the first."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                await self._watching.run(task_status)
        finally:
            self._tasks = None
            with anyio.CancelScope(shield=True):
                for road in self._roads.values():
                    await road.way.close()
            self._roads.clear()

    # Ways there.

    async def _find(self, namespace: str, reference: KubeConfigReference) -> str:
        """The alias that a kubeconfig leads to, whoever may use it; empty where that cannot be told."""
        try:
            kubeconfig = await self._kubeconfigs.here(namespace, reference)
        except KubeconfigError:
            return ""
        try:
            return await self._asked(namespace, kubeconfig)
        except (ClusterError, TimeoutError):
            return ""

    async def _asked(self, namespace: str, kubeconfig: Kubeconfig) -> str:
        """The alias of the cluster of a kubeconfig, which is asked where nobody uses it."""
        name = namespace, kubeconfig.digest
        async with self._opening.of(name):
            road = self._roads.get(name)
            if road is not None:
                return road.site.alias
            self._refuse(name)
            way = await open_known(kubeconfig)
            try:
                return await self._alias(namespace, await uid_of(way.cluster))
            except ClusterError as error:
                self._failed[name] = error, anyio.current_time() + FAILED_S
                raise
            finally:
                await self._close(way)

    async def _open(self, declared: DeclaredTarget, kubeconfig: Kubeconfig, secrets: SecretValues) -> _Road:
        """The way by a kubeconfig; opened where nobody uses it yet."""
        namespace = declared.key.namespace
        kubeconfig.tell(secrets)
        name = namespace, kubeconfig.digest
        async with self._opening.of(name):
            road = self._roads.get(name)
            if road is None:
                self._refuse(name)
                await self._ask_for_room(declared.stream, namespace)
                way = await open_known(kubeconfig)
                try:
                    road = await self._made(namespace, way, kubeconfig)
                except ClusterError as error:
                    await self._close(way)
                    told = _with_origin(error, kubeconfig.origin)
                    self._failed[name] = told, anyio.current_time() + FAILED_S
                    raise told from error
                except BaseException:
                    await self._close(way)
                    raise
                self._roads[name] = road
            road.kubeconfig.tell(secrets)
            await self._go_by(declared.stream, name, road)
        return road

    def _refuse(self, name: _Name) -> None:
        """Does not try what has just failed for another target."""
        now = anyio.current_time()
        self._failed = {known: (error, until) for known, (error, until) in self._failed.items() if until > now}
        if name in self._failed:
            error, _ = self._failed[name]
            raise type(error)(str(error), error.status)

    async def _ask_for_room(self, user: StreamName, namespace: str) -> None:
        """Leaves room for others: a namespace has no more kubeconfigs in use than there is room left for anybody.

        What a target used before is let go of first, or changed credentials could never take the place of the old ones.
        """
        if not self._room(namespace):
            await self.forget(user)
        if not self._room(namespace):
            raise KubeconfigError(
                f"spec.kubeConfig: namespace {namespace} has its share of the {SERVERS_MAX} kubeconfigs that may be in "
                "use: have targets share a Secret, or run another engine for some"
            )

    def _room(self, namespace: str) -> bool:
        own = sum(1 for known, _ in self._roads if known == namespace)
        return own < SERVERS_MAX - len(self._roads)

    async def _made(self, namespace: str, way: Way, kubeconfig: Kubeconfig) -> _Road:
        alias = await self._alias(namespace, await uid_of(way.cluster))
        way.cluster.fence(self._fence)
        place = self._places.get(alias)
        if place is None:
            if len(self._places) >= 2 * SERVERS_MAX:
                self._places = {known: one for known, one in self._places.items() if one.roads}
            relay = Relay(alias)
            watching = self._watching_of(alias, watched_by(relay), self._hall.room(namespace))
            place = self._places[alias] = _Place(alias, relay, watching)
        kubeconfig.tell(place.secrets)
        return _Road(way, kubeconfig, Site(alias, way.cluster, place.watching), place)

    async def _alias(self, namespace: str, uid: str) -> str:
        """The alias of the cluster that says it has a uid, within a namespace; the log knows it for good."""
        async with self._binding:
            alias = await alias_of(self._memory.log, namespace, uid, self.home.alias)
            if await bound_uid(self._memory.log, alias) is None:
                await self._memory.append(self._engine_stream, [ClusterBound(alias=alias, uid=uid)], Origin())
            return alias

    async def _go_by(self, user: StreamName, name: _Name, road: _Road) -> None:
        """Takes note of who uses a way; the one it used before may be closed."""
        before = self._used.get(user)
        self._used[user] = name
        road.users.add(user)
        place = road.place
        if road not in place.roads:
            place.roads.append(road)
            place.relay.add(road.way.channel)
        if place.scope is None and self._tasks is not None:
            place.scope, place.ready = anyio.CancelScope(), anyio.Event()
            self._tasks.start_soon(self._watch, place, place.scope, _Ready(place.ready))
        if place.scope is not None:
            await place.ready.wait()
        if before is not None and before != name:
            await self._leave(before, user)

    async def _leave(self, name: _Name, user: StreamName) -> None:
        road = self._roads.get(name)
        if road is None:
            return
        road.place.watching.inputs.release(user)
        road.users.discard(user)
        if road.users:
            return
        del self._roads[name]
        place = road.place
        place.roads.remove(road)
        place.relay.remove(road.way.channel)
        if not place.roads and place.scope is not None:
            place.scope.cancel()
            place.scope = None
        await self._close(road.way)
        if not place.roads:
            with anyio.CancelScope(shield=True):
                await place.watching.observer.rest("no target uses its kubeconfig any more")

    async def _close(self, way: Way) -> None:
        with anyio.CancelScope(shield=True):
            await way.close()

    async def _watch(self, place: _Place, scope: anyio.CancelScope, ready: _Ready) -> None:
        """Watches another cluster. Nobody answers for what it says: what nobody expects ends this watch alone."""
        try:
            async with place.turn:
                with scope, keeping_secret(place.secrets):
                    await self._watch_on(place, ready)
        finally:
            ready.started()

    async def _watch_on(self, place: _Place, ready: _Ready) -> None:
        while True:
            try:
                with one_error():
                    await place.watching.run(ready)
            except Exception as error:
                if self._must_end(error):
                    raise
                logger.exception("a defect of the engine", extra={"fields": {"cluster": place.alias}})
                await place.watching.observer.rest(f"a defect of the engine: {type(error).__name__}")
            ready.started()  # a watch that cannot begin holds nobody up: passes ask the cluster themselves
            await anyio.sleep(DEFECT_RETRY_S)


async def open_known(kubeconfig: Kubeconfig) -> Way:
    """Makes ready to ask the cluster of a kubeconfig, of which nothing secret is told in errors; see `open_way`."""
    own = SecretValues()
    kubeconfig.tell(own)
    return await open_way(kubeconfig, own.filter)


def _with_origin(error: ClusterError, origin: str) -> ClusterError:
    """An error of the first time that a cluster is asked, which tells by what kubeconfig: that may be what is wrong."""
    return error if origin in str(error) else type(error)(f"{error}; it is reached by {origin}", error.status)
