"""Stand-ins for the controllers and the kubelet: workloads become ready after a while, or fail as they are told to.

Nothing runs. A Deployment gets its ReplicaSet and that its Pods, whose statuses then say what those of running
containers would. The annotation `tidelog.dev/stand-in` of a workload's pod template (or of a Pod, a
PersistentVolumeClaim or a Service) says how it is to fail.
"""

import heapq
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeAlias

import anyio
import anyio.lowlevel
import msgspec
from msgspec import Struct

from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.cron_jobs import CRON_JOBS, CronJobs
from tidelog.engine.cluster.embedded.fault_log import log_fault
from tidelog.engine.cluster.embedded.hands import KUBELET, PODS, Hands, Where, key_of
from tidelog.engine.cluster.embedded.likenesses import failure_of, has_end, moment_of, pod_status, public_address_of
from tidelog.engine.cluster.embedded.objects import decoded, is_going
from tidelog.engine.cluster.embedded.registry import Place, Resource
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.store import Key, Record
from tidelog.engine.cluster.embedded.volumes import CLAIMS, VOLUMES, Volumes, claims_of
from tidelog.engine.cluster.embedded.workloads import (
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    REPLICA_SETS,
    STATEFUL_SETS,
    Workloads,
)
from tidelog.engine.objects.kube import KubeObject

SERVICES: Final[Place] = ("", "services")
AGAIN_S: Final = 0.5
REFUSED_S: Final = 60.0
"""Until the next try at what the API does not take, as a name that is too long."""
Reconcile: TypeAlias = Callable[[Resource, KubeObject], Awaitable[None]]


class Pace(Struct, frozen=True):
    """How quick the stand-ins are."""

    ready_s: float | None = 1.0
    """From a Pod's creation until it is ready, or a Job's Pod is done.

    None where nobody runs any, nor gives volumes and addresses: of those, others may say what they like."""


class StandIns:
    """Reconciles workloads, as the journal and the clock call for it."""

    def __init__(self, api: Api, clock: Callable[[], float], pace: Pace = Pace()) -> None:  # noqa: B008 - immutable
        """Of the cluster behind `api`."""
        self._api = api
        self._store = api.store
        self._clock = clock
        self._pace = pace
        self._ready_s = pace.ready_s or 0.0
        self._hands = Hands(api, clock)
        self._journal = api.store.follow()
        self._due: list[tuple[float, Where]] = []
        self._waiting: dict[Where, None] = {}
        """Those whose turn it is, in their order."""
        workloads = Workloads(self._hands, clock, self._later)
        self._reconcilers: dict[Place, Reconcile] = {
            DEPLOYMENTS: workloads.deployment,
            REPLICA_SETS: workloads.replica_set,
            STATEFUL_SETS: workloads.stateful_set,
            DAEMON_SETS: workloads.daemon_set,
            JOBS: workloads.job,
            CRON_JOBS: CronJobs(self._hands, clock, self._later).cron_job,
        }
        volumes = Volumes(self._hands, clock, self._later, pace.ready_s)
        self._goings: dict[Place, Reconcile] = {CLAIMS: volumes.claim, VOLUMES: volumes.volume}
        """Of kinds whose objects are looked at after they are deleted too."""
        self._reconcilers |= self._goings
        if pace.ready_s is not None:
            self._reconcilers |= {PODS: self._pod, SERVICES: self._service}

    def fork(self, api: Api) -> "StandIns":
        """Those of a fork of this cluster; they go on where these are."""
        made = StandIns(api, self._clock, self._pace)
        made._journal.extend(self._journal)
        made._due, made._waiting = list(self._due), dict(self._waiting)
        return made

    def begin(self) -> None:
        """Has every workload looked at that is there already."""
        for place in self._reconcilers:
            for record in self._store.bucket(place).between(""):
                self._waiting[place, record.key] = None

    async def run(self) -> None:
        """Follows the journal until it is cancelled."""
        while True:
            changed = self._store.changed
            await self.settle()
            wait_s = max(0.0, self._due[0][0] - self._clock()) if self._due else None
            with anyio.move_on_after(wait_s) if wait_s is not None else anyio.CancelScope():
                await changed.wait()

    @property
    def is_at_rest(self) -> bool:
        """Whether all is done that is due."""
        return not self._journal and not self._waiting

    async def settle(self) -> None:
        """Does all that is due by now."""
        while True:
            self._take_in()
            while self._waiting:
                await self._store.room()
                where = next(iter(self._waiting))
                await self._reconcile(where)
                del self._waiting[where]  # not before: a fork does again what is half done
                await anyio.lowlevel.checkpoint()
            if not self._journal and not (self._due and self._due[0][0] <= self._clock()):
                return

    def _take_in(self) -> None:
        """Takes from the journal, and of what waits for its time, what is to be looked at."""
        while self._journal:
            place, change = self._journal.popleft()
            if place in self._reconcilers and change.type != "DELETED":
                self._waiting[place, change.record.key] = None
            for one in self._concerned(change.record) if place in (PODS, REPLICA_SETS, JOBS) else ():
                self._waiting[one] = None
        while self._due and self._due[0][0] <= self._clock():
            self._waiting[heapq.heappop(self._due)[1]] = None

    async def _reconcile(self, where: Where) -> None:
        place, key = where
        resource, record = self._api.registry.at(place), self._store.get(place, key)
        if resource is None or record is None:
            return
        obj = decoded(record, resource)
        if is_going(obj) and place not in self._goings:
            return
        try:
            await self._reconcilers[place](resource, obj)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are still looked after
            if not isinstance(error, StatusError):
                log_fault(error, f"{resource.qualified} {key.namespace}/{key.name}")
                self._later(where, REFUSED_S)
                return
            passes = error.reason in ("Conflict", "NotFound", "AlreadyExists", "Forbidden")
            self._later(where, AGAIN_S if passes else REFUSED_S)

    def _later(self, where: Where, seconds: float) -> None:
        heapq.heappush(self._due, (self._clock() + seconds, where))

    # ------------------------------------------------------------------------------------------ pods

    async def _pod(self, resource: Resource, pod: KubeObject) -> None:
        """What scheduler and kubelet would say."""
        status = pod.get("status") or {}
        if status.get("phase") in ("Succeeded", "Failed"):
            return
        made = moment_of(pod["metadata"]["creationTimestamp"])
        is_ready = self._clock() >= made + self._ready_s
        if not is_ready:
            self._later((resource.place, key_of(pod)), made + self._ready_s - self._clock())
        new = pod_status(pod, self._hands.now(), is_ready=is_ready, is_done=is_ready and has_end(pod))
        if new != status:
            await self._hands.tell(resource, pod, new, KUBELET)

    # ------------------------------------------------------------------------------------------ services

    async def _service(self, resource: Resource, obj: KubeObject) -> None:
        balanced = (obj.get("status") or {}).get("loadBalancer")
        if obj["spec"].get("type") != "LoadBalancer":
            if balanced:
                await self._hands.tell(resource, obj, {"loadBalancer": {}})
            return
        if balanced or failure_of(obj["metadata"]):
            return
        ready = moment_of(obj["metadata"]["creationTimestamp"]) + self._ready_s
        if self._clock() < ready:
            self._later((resource.place, key_of(obj)), ready - self._clock())
            return
        ingress = {"ip": public_address_of(obj), "ipMode": "VIP"}
        await self._hands.tell(resource, obj, {"loadBalancer": {"ingress": [ingress]}})

    # ------------------------------------------------------------------------------------------ the store

    def _concerned(self, record: Record) -> Iterator[Where]:
        """Who is looked at when an object changes: its owners, and the claims that it uses."""
        obj = msgspec.json.decode(record.data)
        for owner in obj["metadata"].get("ownerReferences") or ():
            group, _, _ = str(owner.get("apiVersion", "")).rpartition("/")
            resource = self._api.registry.in_group(group, str(owner.get("kind", "")))
            if resource is not None and resource.place in self._reconcilers:
                yield resource.place, Key(record.key.namespace, str(owner.get("name", "")))
        for claim in claims_of(obj):
            yield CLAIMS, claim
