"""The checks of a plan: each verdict names the object, the field and what is wrong, in a sentence."""

from collections.abc import Callable

import msgspec

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.plan.draft import DRY_RUN, Draft
from tidelog.engine.verify.guard import Guard
from tidelog.engine.verify.schema import Schemas
from tidelog.events.canonical import encode
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectId, ObjectKey, StreamName
from tidelog.events.vocabulary import Verdict

CHECKS_VERSION = 1
"""Raised when a check says something else of the same plan."""
OWNERSHIP = "ownership"
CHECKS = ("well-formed", "schema", DRY_RUN, OWNERSHIP, "prune-guard")


def policies_digest(guard: Guard) -> Digest:
    """The digest of all that decides a verdict beside the plan and the cluster."""
    return digest_of(encode([CHECKS_VERSION, list(CHECKS), msgspec.to_builtins(guard)]))


async def verdicts_of(
    draft: Draft,
    cluster: Cluster,
    owner_of: Callable[[ObjectId], StreamName | None],
    target: StreamName,
) -> tuple[tuple[str, ...], list[Verdict]]:
    """The checks that were made, and the verdicts that did not pass.

    Raises:
        ClusterError: when the cluster cannot be asked for its schemas.
    """
    failed = [*draft.refused, *_owned_by_others(draft, owner_of, target)]
    refused = {verdict.object for verdict in failed}
    schemas = await Schemas.of(cluster, draft)
    for wave in draft.plan.waves:
        for step in wave:
            # What the server was asked about has its verdict already.
            if step.writes and step.after is None and step.object not in refused:
                failed += schemas.verdicts(draft.wanted[step.object])
    return CHECKS, failed


def _owned_by_others(
    draft: Draft, owner_of: Callable[[ObjectId], StreamName | None], target: StreamName
) -> list[Verdict]:
    """An object in another target's inventory is not taken away from it: the two would fight over it for ever."""
    failed = []
    for step in draft.plan.steps:
        owner = owner_of(step.object)
        if step.writes and step.action != "delete" and owner is not None and owner != target:
            other = ObjectKey.of_stream(owner)
            name = ObjectKey.parse(step.object).shown
            message = f"{name} belongs to {other.kind} {other.namespace}/{other.name}; remove it there first, or here"
            failed.append(Verdict(check=OWNERSHIP, passed=False, object=step.object, message=message))
    return failed
