"""The health of a target: of the objects that its spec wants to be healthy (Flux contract KS-098 to KS-104).

An object's health is what expressions of the spec say, where it has some about its kind; else what is observed.
"""

from collections.abc import Iterable, Sequence

import msgspec

from tidelog.engine.cluster.port import Identity
from tidelog.engine.kinds.targets import CustomHealthCheck
from tidelog.engine.objects.kube import group_of
from tidelog.engine.observe.health import health_of
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.custom_health import Told
from tidelog.engine.runtime.passes.custom_health import Look
from tidelog.engine.runtime.rendered import RenderedSet
from tidelog.engine.runtime.sites import Site
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.vocabulary.observe import Health

SHOWN_MAX = 10


class Checked(msgspec.Struct, frozen=True):
    """How the objects are, together."""

    health: Health
    message: str = ""
    """The objects that are not as they should be, in Flux's form."""
    shown: tuple[ObjectKey, ...] = ()
    """Those that the message names."""


async def assess(
    engine: Engine, site: Site, declared: DeclaredKustomization, rendered: RenderedSet, identity: Identity | None
) -> Checked | None:
    """The health of what the spec wants to be healthy; None when it asks for nothing.

    Args:
        engine: what is known.
        site: the cluster that it is applied to.
        declared: the target.
        rendered: what it wants.
        identity: whose rights decide which objects that are not the target's own may be looked at.

    Raises:
        ClusterError: when an object that is not the target's own, or that an expression is about, cannot be read.
    """
    checks = declared.spec.health_check_exprs
    if declared.spec.wait:
        keys = (one.key for one in rendered.wanted if one.key != declared.key)
        return await assess_own(engine, site, declared.stream, keys, checks)
    if not declared.spec.health_checks:
        return None
    look = Look(engine, site, declared.stream, checks)
    found: list[tuple[ObjectKey, Told]] = []
    inventory = engine.memory.inventory.get(declared.stream)
    for named in declared.spec.health_checks:
        api_version = named.effective_api_version
        key = ObjectKey(group_of(api_version), named.kind, named.namespace or declared.key.namespace, named.name)
        if inventory is not None and key.id in inventory.objects:
            found.append((key, await _own(engine, site, look, key)))
            continue
        live = await site.inputs.get(declared.stream, key, api_version, identity)
        check = None if live is None else look.check_of(key)
        told = Told(health_of(live).health) if live is None or check is None else await look.of(key, live, check)
        found.append((key, told))
    look.end()
    return _together(found)


async def assess_own(
    engine: Engine, site: Site, target: StreamName, keys: Iterable[ObjectKey], checks: Sequence[CustomHealthCheck]
) -> Checked:
    """The health of objects that a target applied.

    Args:
        engine: what is known.
        site: the cluster that they are in.
        target: whose they are.
        keys: the objects.
        checks: the expressions of its spec.

    Raises:
        ClusterError: when an object that an expression is about cannot be read.
    """
    look = Look(engine, site, target, checks)
    found = [(key, await _own(engine, site, look, key)) for key in keys]
    look.end()
    return _together(found)


async def _own(engine: Engine, site: Site, look: Look, key: ObjectKey) -> Told:
    """The health of an object that the target applied: as its expression says, or as last observed."""
    stream = key.stream(site.alias)
    ended, actual, check = site.observer.ended(stream), engine.memory.actual.get(stream), look.check_of(key)
    if check is not None and actual is not None and actual.state is not None:
        told = await look.of_own(key, check)
        if told.health != "NotFound" or ended is None:
            return told
    if ended is not None:
        return Told(ended)
    if actual is None:
        return Told("NotFound")
    # What is left alone on purpose has no state of ours, and is not waited for (KS-081).
    return Told("Current" if actual.state is None else actual.health)


def _together(found: Iterable[tuple[ObjectKey, Told]]) -> Checked:
    wrong = [(key, told) for key, told in found if told.health != "Current"]
    if not wrong:
        return Checked("Current", "Health check passed")
    failed = [(key, told) for key, told in wrong if told.health == "Failed"]
    shown = failed or wrong
    names = [
        f"{key.shown} status: '{told.health}'" + (f": {told.why}" if told.why else "")
        for key, told in shown[:SHOWN_MAX]
    ]
    more = f", and {len(shown) - SHOWN_MAX} more" if len(shown) > SHOWN_MAX else ""
    keys = tuple(key for key, _ in shown[:SHOWN_MAX])
    return Checked("Failed" if failed else "InProgress", f"[{', '.join(names)}{more}]", keys)
