"""Health that expressions of a spec tell, `spec.healthCheckExprs` (Flux contract CM-080 to CM-082).

An object of a target's own is read anew where its watch has told of a newer version than the last that was asked
about; its next change, be it of its status alone, wakes the target.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.expressions.errors import EvaluatorError, ExpressionError, InvalidExpressionError
from tidelog.engine.kinds.targets import CustomHealthCheck
from tidelog.engine.objects.kube import KubeObject, group_of
from tidelog.engine.observe.reflector import is_newer
from tidelog.engine.plan.model import is_secret
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.custom_health import Told, ToldOf
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.sites import Site
from tidelog.events.names import ObjectKey, StreamName

RETRY_S: Final = 1.0
"""After an expression that was not evaluated to the end; later and later, as long as health is awaited."""
NOT_FOUND: Final = Told("NotFound")


async def check_expressions(engine: Engine, checks: Sequence[CustomHealthCheck]) -> None:
    """Ends a stage unless every expression of a spec can be parsed, and is the only one about its kind.

    Raises:
        StageError: for what only a person can help; or an expression that was not parsed to the end.
    """
    wrong, seen = [], dict[tuple[str, str], int]()
    for index, check in enumerate(checks):
        about = group_of(check.api_version), check.kind
        if about in seen:
            kind = f"kind {check.kind}" if check.kind else "all kinds"
            wrong.append(
                f"spec.healthCheckExprs[{index}]: entry {seen[about]} is about {kind} of group '{about[0]}' too, "
                "whatever the version; leave one of them out"
            )
        seen.setdefault(about, index)
        for field, expression in _expressions(check):
            try:
                await engine.expressions.parse(expression)
            except InvalidExpressionError as error:
                wrong.append(f"spec.healthCheckExprs[{index}].{field}: {error}; correct the expression")
            except EvaluatorError as error:
                message = f"spec.healthCheckExprs[{index}].{field} cannot be parsed: {error}"
                raise StageError("declare", "HealthCheckFailed", message, retry_s=RETRY_S) from None
    if wrong:
        raise StageError("declare", "InvalidCELExpression", "; ".join(wrong), final=True, stalled=True)


def _expressions(check: CustomHealthCheck) -> list[tuple[str, str]]:
    """Those that are given; the last has to be."""
    optional = (("inProgress", check.in_progress), ("failed", check.failed))
    return [(field, text) for field, text in optional if text] + [("current", check.current)]


def check_of(checks: Iterable[CustomHealthCheck], key: ObjectKey) -> CustomHealthCheck | None:
    """What tells the health of an object: the first entry of its group and kind, whatever the version."""
    about = (one for one in checks if group_of(one.api_version) == key.group and one.kind in ("", key.kind))
    return next(about, None)


class Look:
    """One look at the objects of a target that its expressions are about."""

    def __init__(self, engine: Engine, site: Site, target: StreamName, checks: Sequence[CustomHealthCheck]) -> None:
        self._engine = engine
        self._site = site
        self._target = target
        self._checks = checks
        self._before = engine.custom_health.of(target)
        self._after: dict[StreamName, ToldOf] = {}
        self._gave_up = ""
        """Why no further expression is evaluated: each that takes too long holds up all other targets."""

    def check_of(self, key: ObjectKey) -> CustomHealthCheck | None:
        """What tells the health of an object."""
        return check_of(self._checks, key)

    async def of_own(self, key: ObjectKey, check: CustomHealthCheck) -> Told:
        """The health of an object that the target applied, and that is there.

        Raises:
            ClusterError: when it cannot be read.
        """
        stream = key.stream(self._site.alias)
        self._site.observer.follow(stream)  # before it is read: a change meanwhile must not be missed
        known, newest = self._before.get(stream), self._site.observer.version(stream)
        if known is None or known.check != check or is_newer(newest, known.version):
            live = await self._read(key)
            if live is None:
                return NOT_FOUND
            told = await self.of(key, live, check)
            if self._gave_up:
                return told
            known = ToldOf(told, live["metadata"]["resourceVersion"], check)
        self._after[stream] = known
        return known.told

    async def of(self, key: ObjectKey, live: KubeObject, check: CustomHealthCheck) -> Told:
        """The health of an object."""
        if self._gave_up:
            return Told("Unknown", self._gave_up)
        try:
            health = await self._engine.expressions.health(
                live, in_progress=check.in_progress, failed=check.failed, current=check.current
            )
        except EvaluatorError as error:
            self._gave_up = f"healthCheckExprs: {error}"
            return Told("Unknown", self._gave_up)
        except ExpressionError as error:
            actual = self._engine.memory.actual.get(key.stream(self._site.alias))
            # It may quote what stands in the object.
            said = "no result" if is_secret(key, actual, None) else str(error)
            return Told("Unknown", f"healthCheckExprs: {said}")
        return Told(health)

    def end(self) -> None:
        """Keeps what was told; and has what was not evaluated tried again while health is awaited."""
        self._engine.custom_health.keep(self._target, self._after)
        standing = self._engine.memory.conditions.get(self._target)
        if self._gave_up and (standing is None or standing.health != "Failed"):
            waited = self._engine.waited_for_health(self._target)
            self._engine.targets.wake_in(self._target, max(RETRY_S, waited))

    async def _read(self, key: ObjectKey) -> KubeObject | None:
        kind = await self._site.cluster.find_kind(key.group, key.kind)
        if kind is None:
            return None
        try:
            return await self._site.cluster.get(kind, key.namespace, key.name)
        except NotFoundError:
            return None
