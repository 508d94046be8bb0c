"""Drift of a release: what of its objects is no longer as it was applied, without the fields that are left alone."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.meta import DRIFT_DETECTION
from tidelog.engine.kinds.targets import IgnoreRule
from tidelog.engine.objects.kube import KubeObject, canonical_bytes, flagged
from tidelog.engine.objects.selecting import matches
from tidelog.engine.objects.state import state_of
from tidelog.engine.plan.draft import DigestOf
from tidelog.engine.plan.model import Wanted
from tidelog.engine.runtime.passes.situation import Situation

FIELDS_SHOWN_MAX = 5
OBJECTS_SHOWN_MAX = 20


async def drifted(
    cluster: Cluster,
    situation: Situation,
    looked_at: Sequence[Wanted],
    rules: Sequence[IgnoreRule],
    digest_of: DigestOf,
) -> list[Wanted]:
    """The objects that drifted where that counts; the fields that are left alone, as they now are.

    An object that says so, as the chart has it or as it lives, is left alone altogether (contract CM-050). One that is
    put right with fields as they live has another digest than the set has: so it is looked at again, as long as it is
    not as the chart has it, for by other rules other fields may be left alone.

    Args:
        cluster: that it is released in.
        situation: of the release.
        looked_at: objects that may not be as they were applied, loaded.
        rules: which fields are left alone (contract HR-054).
        digest_of: an object has.

    Raises:
        ClusterError: when the cluster cannot be asked.
    """
    known = {one.key for one in situation.touched(looked_at)}
    found = []
    for one, live in await _counting(cluster, situation, looked_at):
        pointers = _pointers(one, rules)
        if not pointers and one.key in known:
            found.append(one)
            continue
        left = one.object if live is None else with_live(one.object, live, pointers)
        if live is None or await _would_change(cluster, situation, left, live):
            found.append(_with(one, left, digest_of))
    return found


def _with(one: Wanted, left: KubeObject, digest_of: DigestOf) -> Wanted:
    if left == one.object:
        return one
    return msgspec.structs.replace(
        one, loaded=left, digest=digest_of(one.key.id, canonical_bytes(left), secret=one.secret)
    )


async def as_left_alone(
    cluster: Cluster, situation: Situation, loaded: Iterable[Wanted], rules: Sequence[IgnoreRule]
) -> list[Wanted]:
    """Objects with the fields that are left alone as they now are, but those that are left alone altogether.

    Args:
        cluster: is asked about them.
        situation: of the release.
        loaded: the objects.
        rules: which fields are left alone (contract HR-054).

    Raises:
        ClusterError: when the cluster cannot be asked.
    """
    return [
        one if live is None else msgspec.structs.replace(one, loaded=with_live(one.object, live, _pointers(one, rules)))
        for one, live in await _counting(cluster, situation, loaded)
    ]


async def _counting(
    cluster: Cluster, situation: Situation, loaded: Iterable[Wanted]
) -> list[tuple[Wanted, KubeObject | None]]:
    """The objects whose drift counts, each as it lives."""
    found = []
    for one in loaded:
        live = None if _is_left_alone(one.object) else await live_of(cluster, situation, one)
        if not _is_left_alone(one.object if live is None else live):
            found.append((one, live))
    return found


def _is_left_alone(obj: KubeObject) -> bool:
    return flagged(obj, DRIFT_DETECTION, "disabled")


def said(situation: Situation, touched: Iterable[Wanted]) -> str:
    """What drifted, an object a line: which fields, and never their values."""
    lines = []
    for one in touched:
        actual = situation.actual(one.key.id)
        if actual is None or not actual.uid:
            lines.append(f"{one.key.shown} removed")
            continue
        fields = sorted({field.path for field in actual.drift})
        more = f" and {len(fields) - FIELDS_SHOWN_MAX} more" if len(fields) > FIELDS_SHOWN_MAX else ""
        # Of what was left alone when it was applied nobody knows which fields those were.
        which = f" ({', '.join(fields[:FIELDS_SHOWN_MAX])}{more})" if fields else ""
        lines.append(f"{one.key.shown} changed{which}")
    rest = [f"… and {len(lines) - OBJECTS_SHOWN_MAX} more"] if len(lines) > OBJECTS_SHOWN_MAX else []
    return "\n".join([*lines[:OBJECTS_SHOWN_MAX], *rest])


def with_live(obj: KubeObject, live: KubeObject, pointers: Iterable[str]) -> KubeObject:
    """The object with the fields at some JSON pointers (RFC 6901) as they live; what is not there is taken out."""
    made: KubeObject = msgspec.json.decode(msgspec.json.encode(obj))
    for pointer in pointers:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        if steps:
            _put(made, live, steps)
    return made


def _put(into: Any, live: Any, steps: Sequence[str]) -> None:
    step, rest = steps[0], steps[1:]
    if isinstance(into, list) and isinstance(live, list) and step.isdecimal():
        place = int(step)
        if place >= len(into):
            return
        if rest and place < len(live):
            _put(into[place], live[place], rest)
        elif not rest and place < len(live):
            into[place] = live[place]
        return
    if not isinstance(into, dict):
        return
    there = live.get(step) if isinstance(live, dict) else None
    if rest:
        if there is not None:
            into.setdefault(step, {})
        if step in into:
            _put(into[step], there, rest)
    elif there is None:
        into.pop(step, None)
    else:
        into[step] = there


def _pointers(one: Wanted, rules: Sequence[IgnoreRule]) -> list[str]:
    """The fields of an object that are left alone."""
    return [pointer for rule in rules if _is_about(rule, one.object) for pointer in rule.paths]


def _is_about(rule: IgnoreRule, obj: KubeObject) -> bool:
    target = rule.target
    if target is None:
        return True
    patterns = {
        "group": target.group,
        "version": target.version,
        "kind": target.kind,
        "namespace": target.namespace,
        "name": target.name,
    }
    return matches(obj, patterns, target.label_selector, target.annotation_selector)


async def live_of(cluster: Cluster, situation: Situation, one: Wanted) -> KubeObject | None:
    """An object as the release's account sees it; None where it is not there."""
    kind = await cluster.kind(one.api_version, one.key.kind)
    try:
        return await cluster.get(kind, one.key.namespace, one.key.name, identity=situation.subject.identity)
    except NotFoundError:
        return None


async def _would_change(cluster: Cluster, situation: Situation, obj: KubeObject, live: KubeObject) -> bool:
    subject = situation.subject
    answer = await cluster.apply(obj, manager=subject.manager, dry_run=True, identity=subject.identity)
    if answer.created:
        return True
    return _values(live, subject.manager) != _values(answer.object, subject.manager)


def _values(obj: KubeObject, manager: str) -> bytes:
    """What an object says; whose a field is counts for nothing here."""
    state = state_of(obj, manager)
    metadata = {name: value for name, value in state["metadata"].items() if name != "managedFields"}
    return canonical_bytes(state | {"metadata": metadata})
