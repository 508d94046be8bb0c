"""Whether what a target depends on is ready (Flux contract KS-038, CM-059, CM-079)."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from tidelog.engine.expressions.errors import EvaluationError, EvaluatorError, InvalidExpressionError
from tidelog.engine.kinds.helmrelease import ReleaseDependency
from tidelog.engine.kinds.kustomization import Dependency
from tidelog.engine.kinds.meta import DEPENDS_ON
from tidelog.engine.kinds.registry import BY_NAME
from tidelog.engine.kinds.statuses import is_current
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.run import StageError, asking
from tidelog.engine.runtime.watching.declared import DeclaredTarget, is_kustomization, read_declared, source_of
from tidelog.events.names import ObjectKey, Revision, StreamName

AnyDependency: TypeAlias = Dependency | ReleaseDependency

NAMES = ("dep", "self")
"""What a `readyExpr` is about: the dependency's object, and that of who depends on it."""
RETRY_S = 1.0
"""After an expression that was not evaluated to the end; longer after each further one."""


def named_in(annotations: Mapping[str, str]) -> list[str]:
    """The ids of objects of any kind that the annotation names, as they stand there."""
    return [id.strip() for id in annotations.get(DEPENDS_ON, "").split(",") if id.strip()]


async def check_dependencies(
    engine: Engine, declared: DeclaredTarget, source: StreamName | None = None, revision: Revision | None = None
) -> None:
    """Ends a stage unless every dependency of a target is ready.

    Without the feature gate AdditiveCELDependencyCheck, a `readyExpr` is asked instead of the condition Ready and the
    revision; with it, both have to hold.

    Args:
        engine: has the dependencies as they were last seen.
        declared: the target.
        source: what a Kustomization is rendered from; of a HelmRelease it does not count (contract HR-062).
        revision: of that source, which a dependency that has the same source must be at.

    Raises:
        StageError: for an expression that does not compile (only a person can help), or a dependency that is not ready:
            its good news wakes the target, and where it has an expression, every change of its object does.
    """
    await _compile(engine, declared.spec.depends_on)
    for dependency in declared.spec.depends_on:
        namespace = dependency.namespace or declared.key.namespace
        key = declared.key._replace(namespace=namespace, name=dependency.name)
        stream = key.stream(engine.cluster_alias)
        problem = ""
        if dependency.ready_expr:
            problem = await _expression(engine, declared, key, dependency)
        if not problem and (not dependency.ready_expr or engine.settings.additive_cel_dependency_check):
            problem = await _not_ready(engine, declared, key, source, revision)
        if problem:
            raise StageError(
                "declare",
                "DependencyNotReady",
                f"dependency '{namespace}/{dependency.name}' {problem}",
                waits_for=stream,
            )


async def _compile(engine: Engine, dependencies: Sequence[AnyDependency]) -> None:
    """Every expression compiles: that is told before anything is waited for."""
    wrong = []
    for index, dependency in enumerate(dependencies):
        if not dependency.ready_expr:
            continue
        try:
            await engine.expressions.check(dependency.ready_expr, NAMES)
        except InvalidExpressionError as error:
            wrong.append(f"spec.dependsOn[{index}].readyExpr: {error}; correct the expression")
        except EvaluatorError as error:
            raise _unknown(f"spec.dependsOn[{index}].readyExpr cannot be compiled: {error}") from None
    if wrong:
        raise StageError("declare", "InvalidCELExpression", "; ".join(wrong), final=True, stalled=True)


async def _expression(engine: Engine, declared: DeclaredTarget, key: ObjectKey, dependency: AnyDependency) -> str:
    """Why a dependency's expression keeps a target waiting; empty when it does not."""
    # Before its object is read: a change while the expression is evaluated must not be missed.
    stream = key.stream(engine.cluster_alias)
    engine.watch_for(declared.stream, stream)
    other = engine.declared.target(stream) or await elsewhere(engine, declared, key)
    if other is None:
        return "not found"
    try:
        holds = await engine.expressions.holds(dependency.ready_expr, {"dep": other.live, "self": declared.live})
    except EvaluationError as error:
        return f"is not ready: readyExpr has no result: {error}"
    except EvaluatorError as error:
        raise _unknown(f"dependency '{other.key.namespace}/{other.key.name}': readyExpr: {error}") from None
    if not holds:
        return "is not ready according to readyExpr eval"
    engine.wait_no_more(declared.stream)
    return ""


def _unknown(message: str) -> StageError:
    """An expression was not evaluated to the end: that may be the machine's fault, so it is tried again."""
    return StageError("declare", "DependencyNotReady", message, retry_s=RETRY_S)


async def _not_ready(
    engine: Engine, declared: DeclaredTarget, key: ObjectKey, source: StreamName | None, revision: Revision | None
) -> str:
    """Why a dependency keeps a target waiting; empty when it does not."""
    stream = key.stream(engine.cluster_alias)
    other, standing = engine.declared.target(stream), engine.memory.conditions.get(stream)
    if other is not None:
        is_ready = standing is not None and standing.ready == "True" and standing.observed == other.generation
        applied = None if standing is None else standing.applied
    else:
        other = await elsewhere(engine, declared, key)
        if other is None:
            return "not found"
        is_ready = is_current(other.status, other.generation)
        applied = Revision(other.status.last_applied_revision) if is_kustomization(other) else None
    if not is_ready:
        return "is not ready"
    theirs = None if source is None else source_of(other).stream(engine.cluster_alias)
    if source is not None and theirs == source and applied != revision:
        return f"is not ready: it is at {applied}, and not yet at {revision}"
    return ""


async def elsewhere(engine: Engine, declared: DeclaredTarget, key: ObjectKey) -> DeclaredTarget | None:
    """A target that another engine may look after, as the API server has it (CM-059); its changes wake who asks.

    Raises:
        StageError: when the API server cannot be asked.
    """
    settings = engine.settings
    is_seen = settings.watch_all_namespaces or key.namespace == settings.runtime_namespace
    if is_seen and not settings.watch_label_selector:
        return None
    live = await asking("declare", engine.inputs.get(declared.stream, key, BY_NAME[key.kind].resource.api_version))
    return None if live is None else cast("DeclaredTarget", read_declared(live, engine.cluster_alias))
