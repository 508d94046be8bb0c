"""The health of a target: of the objects that its spec wants to be healthy (Flux contract KS-098 to KS-104)."""

from collections.abc import Iterable

import msgspec

from tidelog.engine.cluster.port import Identity
from tidelog.engine.objects.kube import group_of
from tidelog.engine.observe.health import health_of
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.rendered import RenderedSet
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary.observe import Health

SHOWN_MAX = 10


class Checked(msgspec.Struct, frozen=True):
    """How the objects are, together."""

    health: Health
    message: str = ""
    """The objects that are not as they should be, in Flux's form."""


async def assess(
    engine: Engine, declared: DeclaredKustomization, rendered: RenderedSet, identity: Identity | None
) -> Checked | None:
    """The health of what the spec wants to be healthy; None when it asks for nothing.

    Args:
        engine: what is known.
        declared: the target.
        rendered: what it wants.
        identity: whose rights decide which objects that are not the target's own may be looked at.

    Raises:
        ClusterError: when an object that is not the target's own cannot be read.
    """
    if declared.spec.wait:
        return assess_own(engine, (one.key for one in rendered.wanted if one.key != declared.key))
    if not declared.spec.health_checks:
        return None
    found: list[tuple[ObjectKey, Health]] = []
    inventory = engine.memory.inventory.get(declared.stream)
    for check in declared.spec.health_checks:
        api_version = check.effective_api_version
        key = ObjectKey(group_of(api_version), check.kind, check.namespace or declared.key.namespace, check.name)
        if inventory is not None and key.id in inventory.objects:
            found.append((key, _own(engine, key)))
            continue
        live = await engine.inputs.get(declared.stream, key, api_version, identity)
        found.append((key, health_of(live).health))
    return _together(found)


def assess_own(engine: Engine, keys: Iterable[ObjectKey]) -> Checked:
    """The health of objects that a target applied."""
    return _together([(key, _own(engine, key)) for key in keys])


def _own(engine: Engine, key: ObjectKey) -> Health:
    """The health of an object that the target applied, as last observed."""
    stream = key.stream(engine.cluster_alias)
    ended = engine.observer.ended(stream)
    if ended is not None:
        return ended
    actual = engine.memory.actual.get(stream)
    if actual is None:
        return "NotFound"
    # What is left alone on purpose has no state of ours, and is not waited for (KS-081).
    return "Current" if actual.state is None else actual.health


def _together(found: Iterable[tuple[ObjectKey, Health]]) -> Checked:
    wrong = [(key, health) for key, health in found if health != "Current"]
    if not wrong:
        return Checked("Current", "Health check passed")
    failed = [(key, health) for key, health in wrong if health == "Failed"]
    shown = failed or wrong
    names = [f"{key.shown} status: '{health}'" for key, health in shown[:SHOWN_MAX]]
    more = f", and {len(shown) - SHOWN_MAX} more" if len(shown) > SHOWN_MAX else ""
    return Checked("Failed" if failed else "InProgress", f"[{', '.join(names)}{more}]")
