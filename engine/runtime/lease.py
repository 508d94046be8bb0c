"""One writer a cluster: the Leases of the Flux controllers that the engine stands in for.

They bear Flux's names and keep Flux's timings (Flux contract FL-006, FL-011, FL-012), so that neither a second
replica nor a running Flux writes at the same time. Whether a Lease has run out is told by our own clock, which goes on
while the host is suspended: by how long it was not seen to change. One whose holder ran on this host, and is gone, is
taken at once.
"""

import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TypeAlias

import anyio
import msgspec

from tidelog.engine.cluster.errors import (
    PASSING,
    AlreadyExistsError,
    ClusterError,
    ConflictError,
    NotFoundError,
)
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.kinds.meta import OWN_MANAGER
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.errors import LeaseLostError
from tidelog.engine.runtime.holders import is_gone, lease_name
from tidelog.engine.tasks import one_error

IsGone: TypeAlias = Callable[[str], Awaitable[bool]]
"""Whether a holder is known to be no more."""
API_VERSION = "coordination.k8s.io/v1"
_STOOD_STILL = "the daemon, or its host, stood still"
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Timings(msgspec.Struct, frozen=True):
    """In seconds; Flux's defaults."""

    duration: float = 35.0
    renew_deadline: float = 30.0
    retry_period: float = 5.0


class Lease:
    """One Lease."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, timings: Timings, identity: str, is_gone: IsGone
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.name = name
        self._timings = timings
        self._identity = identity
        self._is_gone = is_gone
        self._kind: Kind | None = None
        self._live: KubeObject | None = None
        self._seen: tuple[str, float] = "", 0.0
        self._renewed = 0.0
        """When the last renewal that succeeded was asked for."""
        self.holder = ""
        """Who has it, as last seen."""

    async def acquire(self, waits_for: Callable[[str, str], None], others: Sequence["Lease"] = ()) -> None:
        """Waits until it is ours; `waits_for` is told of whom it is waited for.

        Meanwhile `others` are looked at, so that those that have run out as well are not waited for anew.

        Raises:
            NotFoundError: when its namespace is not there.
            ClusterError: when the server refuses.
        """
        told = ""
        while not await self._try_to_take():
            if self.holder != told:
                told = self.holder
                waits_for(self.name, told)
            for other in others:
                await other.look()
            await anyio.sleep(self._timings.retry_period)

    async def look(self) -> None:
        """Takes note of whether somebody has renewed it."""
        try:
            live = await self._cluster.get(await self._of_kind(), self._namespace, self.name)
        except ClusterError:
            return
        spec = live.get("spec") or {}
        self.holder = spec.get("holderIdentity") or ""
        self._has_run_out(spec)

    async def keep(self) -> None:
        """Renews it, until cancelled.

        Raises:
            LeaseLostError: when that has not succeeded for too long, or somebody else has it.
        """
        while True:
            await anyio.sleep(self._timings.retry_period)
            await self._renew_in_time(self._deadline)

    def check(self) -> None:
        """Whether nobody else can have it yet: this process may have been frozen, and hear of it only now.

        Raises:
            LeaseLostError: when it was not renewed in time.
        """
        if _elapsed_s() > self._deadline:
            raise self._not_renewed(_STOOD_STILL)

    @property
    def _deadline(self) -> float:
        return self._renewed + self._timings.renew_deadline

    def _not_renewed(self, problem: object) -> LeaseLostError:
        return LeaseLostError(f"the Lease {self._namespace}/{self.name} could not be renewed: {problem}")

    async def _renew_in_time(self, deadline: float) -> None:
        """Tries until it succeeds; it must before others may take the Lease."""
        problem: Exception = TimeoutError(_STOOD_STILL)
        while (left := deadline - _elapsed_s()) > 0:
            try:
                if await self._renew_within(left):
                    return
                raise LeaseLostError(f"the Lease {self._namespace}/{self.name} was taken by {self.holder or 'another'}")
            except (ClusterError, TimeoutError) as error:
                problem = error
            await anyio.sleep(min(self._timings.retry_period, max(0.0, deadline - _elapsed_s())))
        raise self._not_renewed(problem) from problem

    async def _renew_within(self, left: float) -> bool:
        with anyio.move_on_after(left):
            return await self._renew()
        raise TimeoutError("no answer came")

    async def release(self) -> None:
        """Lets go of it, so that the next need not wait until it runs out."""
        with suppress(ClusterError):  # it runs out by itself
            while self._live is not None and self._live["spec"].get("holderIdentity") == self._identity:
                spec = self._live["spec"] | {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
                try:
                    await self._cluster.replace(self._live | {"spec": spec}, manager=OWN_MANAGER)
                    return
                except ConflictError:
                    # The end may come in the midst of a renewal, which is written then and never answered.
                    self._live = await self._cluster.get(await self._of_kind(), self._namespace, self.name)

    async def _try_to_take(self) -> bool:
        """Takes it, if nobody has it; what only the surroundings keep from being answered is tried again."""
        try:
            return await self._take_if_free()
        except PASSING:
            return False

    async def _take_if_free(self) -> bool:
        kind = await self._of_kind()
        try:
            live = await self._cluster.get(kind, self._namespace, self.name)
        except NotFoundError:
            return await self._create()
        spec = live.get("spec") or {}
        self.holder = spec.get("holderIdentity") or ""
        theirs = self.holder and self.holder != self._identity
        if theirs and not self._has_run_out(spec) and not await self._is_gone(self.holder):
            return False
        transitions = (spec.get("leaseTransitions") or 0) + (self.holder != self._identity)
        return await self._write(live, spec | self._own() | {"acquireTime": _now(), "leaseTransitions": transitions})

    async def _create(self) -> bool:
        lease = {
            "apiVersion": API_VERSION,
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self._namespace},
            "spec": self._own() | {"acquireTime": _now(), "leaseTransitions": 0},
        }
        asked = _elapsed_s()
        try:
            self._live = await self._cluster.create(lease, manager=OWN_MANAGER)
        except AlreadyExistsError:
            return False
        except NotFoundError:
            where = f"there is no namespace {self._namespace}, where the Leases are"
            raise NotFoundError(f"{where}: `tidelog install` makes it, with all that the daemon needs") from None
        self.holder, self._renewed = self._identity, asked
        return True

    async def _renew(self) -> bool:
        if self._live is None:
            return False
        try:
            if await self._write(self._live, self._live["spec"] | self._own()):
                return True
        except NotFoundError:
            return await self._create()  # somebody deleted it; who is first has it
        # Somebody wrote it: perhaps only a label.
        live = await self._cluster.get(await self._of_kind(), self._namespace, self.name)
        self.holder = live["spec"].get("holderIdentity") or ""
        if self.holder != self._identity:
            return False
        if not await self._write(live, live["spec"] | self._own()):
            raise ConflictError(f"{self.name} was written by somebody again, and is still ours")
        return True

    async def _write(self, live: KubeObject, spec: KubeObject) -> bool:
        asked = _elapsed_s()
        try:
            self._live = await self._cluster.replace(live | {"spec": spec}, manager=OWN_MANAGER)
        except ConflictError:
            return False
        self.holder, self._renewed = self._identity, asked
        return True

    def _has_run_out(self, spec: KubeObject) -> bool:
        """Whether nobody has renewed it for as long as it lasts, by our own clock."""
        mark = f"{self.holder} {spec.get('renewTime')}"
        now = _elapsed_s()
        if mark != self._seen[0]:
            self._seen = mark, now
            return False
        return now - self._seen[1] > (spec.get("leaseDurationSeconds") or self._timings.duration)

    def _own(self) -> KubeObject:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(self._timings.duration),
            "renewTime": _now(),
        }

    async def _of_kind(self) -> Kind:
        if self._kind is None:
            self._kind = await self._cluster.kind(API_VERSION, "Lease")
        return self._kind


class Fenced(Protocol):
    """What may only be changed while the Leases are held: a cluster, or several."""

    def fence(self, check: Callable[[], None] | None) -> None:
        """Has `check` asked before each change; it raises when none may be made any more."""
        ...


class Leases:
    """All the Leases that the engine has to hold."""

    def __init__(self, fenced: Fenced, leases: list[Lease]) -> None:
        self._fenced = fenced
        self._leases = leases
        self.lost: LeaseLostError | None = None
        """Why the work ended, where it was for that."""

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        namespace: str,
        controllers: tuple[str, ...],
        timings: Timings,
        shard: str = "",
        *,
        identity: str,
        is_gone: IsGone = is_gone,
        fences: Fenced | None = None,
    ) -> "Leases":
        """Those of some controllers; of a shard (`--watch-label-selector`), its own.

        Without `fences`, they are asked about before changes in the cluster that they are in.
        """
        suffix = f"-{hashlib.sha256(shard.encode()).hexdigest()[:10]}" if shard else ""
        names = [f"{lease_name(controller)}{suffix}" for controller in controllers]
        return cls(fences or cluster, [Lease(cluster, namespace, name, timings, identity, is_gone) for name in names])

    async def hold(self, waits_for: Callable[[str, str], None], work: Callable[[], Awaitable[None]]) -> None:
        """Runs `work` while all of them are held.

        Raises:
            LeaseLostError: when one was lost; `work` was cancelled before.
        """
        try:
            with one_error():
                async with anyio.create_task_group() as tasks:
                    for number, lease in enumerate(self._leases, 1):
                        await lease.acquire(waits_for, self._leases[number:])
                        tasks.start_soon(self._keep, lease)  # also while another is waited for
                    self._fenced.fence(self._check)
                    await work()
                    tasks.cancel_scope.cancel()
        finally:
            self._fenced.fence(None)
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                for lease in self._leases:
                    await lease.release()

    async def _keep(self, lease: Lease) -> None:
        try:
            await lease.keep()
        except LeaseLostError as error:
            self.lost = error
            raise

    def _check(self) -> None:
        for lease in self._leases:
            lease.check()


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def _elapsed_s() -> float:
    return anyio.current_time() + suspended_s()


def suspended_s() -> float:
    """Seconds for which the host was suspended since it booted, and the loop's clock stood still; 0 if none tells."""
    return time.clock_gettime(_CLOCK) - time.clock_gettime(time.CLOCK_MONOTONIC)
