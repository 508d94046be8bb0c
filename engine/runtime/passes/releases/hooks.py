"""The hooks of an action: made one after the other, each when the one before has ended.

A pass does not sit and wait: it ends, and the next is begun by what is seen of the hook, or by the end of its time. The
log says which hooks were begun and how they ended, so that a daemon that was killed goes on where it was.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from tidelog.engine.cluster.errors import AlreadyExistsError, ClusterError, NotFoundError, UnknownKindError
from tidelog.engine.cluster.port import Cluster, Identity, Kind, Preconditions
from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.hooks import DeletePolicy, Event, deletes, hook_objects, hooks_for
from tidelog.engine.helm.storage import RecordedHook, Release
from tidelog.engine.objects.kube import KubeObject, MalformedObjectError, key_of
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.run import Run, Stop, asking
from tidelog.engine.runtime.sites import Site
from tidelog.engine.runtime.watching.declared import DeclaredRelease
from tidelog.events.names import ObjectKey
from tidelog.events.projections.releases import HookRun, Ongoing
from tidelog.events.vocabulary import HookEnded, HookStarted

MADE_FOR: Final = "tidelog.dev/hook"
"""Annotation of what a hook made: the event, and when it began. By that it is known as ours, and for which event."""


class ActionFailed(Exception):
    """Raised when an action on a release fails; its message goes into conditions and Helm's record."""

    def __init__(
        self, message: str, *, while_waiting: bool = False, is_recorded: bool = True, is_canceled: bool = False
    ) -> None:
        super().__init__(message)
        self.is_canceled = is_canceled
        """Whether it only waited for what nobody wants any more (contract HR-106)."""
        self.is_recorded = is_recorded
        """Whether Helm's storage has the version: else the action failed before it did anything."""
        self.while_waiting = while_waiting
        """Whether all objects were sent, and not all became ready."""


class Hooks:
    """Runs the hooks of the action that is under way.

    As in Helm, only what we made ourselves is a hook's object. The log knows that it was about to be made, and not
    always that it was; so what is made says for what.

    Args:
        engine: has cluster and log.
        declared: the HelmRelease.
        run: records.
        identity: whom to act as.
        ongoing: the action, as the log now has it.
        timeout_s: of each hook.
    """

    def __init__(
        self,
        engine: Engine,
        site: Site,
        declared: DeclaredRelease,
        run: Run,
        identity: Identity | None,
        ongoing: Callable[[], Ongoing],
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._cluster: Cluster = site.cluster
        self._inputs = site.inputs
        self._stream = declared.stream
        self._run = run
        self._identity = identity
        self._ongoing = ongoing
        self._timeout_s = timeout_s

    async def run(
        self, release: Release, event: Event, chosen: Callable[[RecordedHook], bool] = lambda _: True
    ) -> None:
        """Runs the hooks of an event that have not been run.

        Raises:
            ActionFailed: when one fails.
            Stop: while one is at work; its end wakes the target.
            StageError: when the cluster does not answer.
        """
        try:
            hooks = [(hook, hook_objects(hook)) for hook in hooks_for(release, event) if chosen(hook)]
        except RecordError as error:
            raise ActionFailed(f"failed {event}: {error}") from None
        for number, (hook, objects) in enumerate(hooks):
            try:
                for obj in objects:
                    await self._one(release, event, hook, obj)
            except ActionFailed:
                await self._clean_up(release, event, hooks[:number], "hook-succeeded")
                await self._clean_up(release, event, hooks[number : number + 1], "hook-failed")
                raise
        await self._clean_up(release, event, hooks, "hook-succeeded")

    async def _one(self, release: Release, event: Event, hook: RecordedHook, obj: KubeObject) -> None:
        kind, key, placed = await asking("apply", self._placed(release, event, hook, obj))
        ran = self._ran(event, hook, key)
        if ran is None:
            ran = await self._begin(event, hook, kind, key)
        elif ran.ended is not None:
            if ran.outcome == "failed":
                raise ActionFailed(f"failed {event}: {ran.message}")
            return
        live = await asking("apply", self._made(event, kind, key, placed, ran))
        problem = outcome_of(live)
        if problem is None:
            problem = await self._wait(kind, key, ran)
        ended = HookEnded(
            action=self._ongoing().started.action,
            version=release.version,
            hook=event,
            object=key.id,
            path=hook.path,
            outcome="failed" if problem else "succeeded",
            started=ran.started,
            message=problem,
        )
        await self._run.record([ended])
        if problem:
            raise ActionFailed(f"failed {event}: {problem}")

    async def _placed(
        self, release: Release, event: Event, hook: RecordedHook, obj: KubeObject
    ) -> tuple[Kind, ObjectKey, KubeObject]:
        """The kind of a hook's object, and the object in its namespace."""
        try:
            kind = await self._cluster.kind(str(obj.get("apiVersion")), str(obj.get("kind")))
        except UnknownKindError as error:
            raise ActionFailed(f"failed {event}: hook {hook.name} of {hook.path}: {error}") from None
        try:
            named = key_of(obj)
        except MalformedObjectError as error:
            raise ActionFailed(f"failed {event}: hook {hook.name} of {hook.path}: {error}") from None
        metadata = {name: value for name, value in obj["metadata"].items() if name != "namespace"}
        if kind.namespaced:
            metadata["namespace"] = named.namespace or release.namespace
        placed = obj | {"metadata": metadata}
        return kind, key_of(placed), placed

    def _ran(self, event: Event, hook: RecordedHook, key: ObjectKey) -> HookRun | None:
        runs = self._ongoing().hooks
        return next((run for run in runs if (run.hook, run.object, run.path) == (event, key.id, hook.path)), None)

    async def _begin(self, event: Event, hook: RecordedHook, kind: Kind, key: ObjectKey) -> HookRun:
        """Records the intent to run a hook, and of what is there from before that it goes first."""
        there = await asking("apply", self._get(kind, key))
        if there is not None and not deletes(hook, "before-hook-creation"):
            raise ActionFailed(f"failed {event}: {key.shown} already exists, and its hook does not replace it")
        ongoing = self._ongoing()
        started = HookStarted(
            action=ongoing.started.action,
            version=ongoing.started.version,
            hook=event,
            object=key.id,
            path=hook.path,
            replaces="" if there is None else there["metadata"]["uid"],
        )
        await self._run.record([started])
        ran = self._ran(event, hook, key)
        if ran is None:
            raise RuntimeError(f"{key.id} was begun, and the log does not say so")
        return ran

    async def _made(self, event: Event, kind: Kind, key: ObjectKey, obj: KubeObject, ran: HookRun) -> KubeObject:
        """The object of a hook that was begun; made where it is not there yet."""
        live = await self._get(kind, key)
        if live is not None and live["metadata"]["uid"] == ran.replaces:
            live = await self._let_go(event, kind, key, ran)
        if live is not None:
            if not _is_of(live, ran):
                raise ActionFailed(f"failed {event}: {key.shown} already exists: somebody else made it meanwhile")
            return live
        try:
            return await self._cluster.create(_marked(obj, ran), manager="helm-controller", identity=self._identity)
        except AlreadyExistsError:
            raise Stop(0.0) from None  # somebody was quicker: what it is is looked at again
        except ClusterError as error:
            if error.status.code not in (400, 403, 404, 422):
                raise
            raise ActionFailed(f"failed {event}: {key.shown}: {error}") from error

    async def _wait(self, kind: Kind, key: ObjectKey, ran: HookRun) -> str:
        """Ends the pass while a hook is at work; tells when its time is over.

        Raises:
            Stop: what is seen of it begins the next pass, or the end of its time.
        """
        left = self._timeout_s - self._waited_s(ran)
        if left <= 0:
            return f"{key.shown} did not end within {self._timeout_s:g} s: timed out waiting for the condition"
        live = await asking("apply", self._inputs.get(self._stream, key, kind.api_version, self._identity))
        if live is not None and outcome_of(live) is not None:
            raise Stop(0.0)
        raise Stop(left)

    def _waited_s(self, ran: HookRun) -> float:
        return self._engine.waits.seconds(self._stream, "hook", f"{ran.hook} {ran.object}", ran.started)

    async def _let_go(self, event: Event, kind: Kind, key: ObjectKey, ran: HookRun) -> KubeObject | None:
        """Deletes what is there from before; returns what is there then.

        Raises:
            ActionFailed: when it does not go in time: a finalizer may hold it.
            Stop: while it goes; its end begins the next pass, or the end of its time.
        """
        await self._delete(kind, key, ran.replaces)
        live = await self._get(kind, key)
        if live is None or live["metadata"]["uid"] != ran.replaces:
            return live
        left = self._timeout_s - self._waited_s(ran)
        if left <= 0:
            held = ", ".join(live["metadata"].get("finalizers") or ()) or "nothing that is known"
            raise ActionFailed(
                f"failed {event}: {key.shown} is still there, {self._timeout_s:g} s after its deletion was asked for "
                f"(held by {held}): timed out waiting for the condition"
            )
        seen = await self._inputs.get(self._stream, key, kind.api_version, self._identity)
        raise Stop(0.0 if seen is None or seen["metadata"]["uid"] != ran.replaces else left)

    async def _clean_up(
        self,
        release: Release,
        event: Event,
        hooks: list[tuple[RecordedHook, list[KubeObject]]],
        policy: DeletePolicy,
    ) -> None:
        """Deletes what hooks made that say so; what was made for another event by now, or by somebody else, stays."""
        for hook, objects in hooks:
            if not deletes(hook, policy):
                continue
            for obj in objects:
                kind, key, _ = await asking("apply", self._placed(release, event, hook, obj))
                ran = self._ran(event, hook, key)
                live = None if ran is None else await asking("apply", self._get(kind, key))
                if ran is not None and live is not None and _is_of(live, ran):
                    await asking("apply", self._delete(kind, key, live["metadata"]["uid"]))

    async def _get(self, kind: Kind, key: ObjectKey) -> KubeObject | None:
        try:
            return await self._cluster.get(kind, key.namespace, key.name, identity=self._identity)
        except NotFoundError:
            return None

    async def _delete(self, kind: Kind, key: ObjectKey, uid: str) -> None:
        with suppress(NotFoundError):
            await self._cluster.delete(
                kind, key.namespace, key.name, preconditions=Preconditions(uid=uid), identity=self._identity
            )


def _mark(ran: HookRun) -> str:
    return f"{ran.hook}, begun {ran.started}"


def _marked(obj: KubeObject, ran: HookRun) -> KubeObject:
    """A hook's object that says for what it is made."""
    annotations = obj["metadata"].get("annotations") or {}
    return obj | {"metadata": obj["metadata"] | {"annotations": {**annotations, MADE_FOR: _mark(ran)}}}


def _is_of(live: KubeObject, ran: HookRun) -> bool:
    """Whether an object was made for a hook that was begun."""
    return bool((live["metadata"].get("annotations") or {}).get(MADE_FOR) == _mark(ran))


def outcome_of(live: KubeObject) -> str | None:
    """Why a hook failed, empty where it came to a good end; None while it is at work.

    Only Jobs and Pods are waited for, as in Helm (contract HR-114); of other kinds it is enough that they are there.
    """
    status = live.get("status") or {}
    metadata = live["metadata"]
    named = f"{live['kind']}/{metadata.get('namespace', '')}/{metadata['name']}"
    if live["kind"] == "Job":
        held = {one.get("type"): one for one in status.get("conditions") or () if one.get("status") == "True"}
        if "Failed" in held:
            why = ": ".join(filter(None, (held["Failed"].get("reason"), held["Failed"].get("message"))))
            return f"{named} failed{f': {why}' if why else ''}"
        return "" if "Complete" in held else None
    if live["kind"] == "Pod":
        if status.get("phase") == "Failed":
            return f"{named} failed{': ' + status['reason'] if status.get('reason') else ''}"
        return "" if status.get("phase") == "Succeeded" else None
    return ""
