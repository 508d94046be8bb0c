"""What the target that makes another one handed on to it as secret, as the log has it, or as its Secrets now are.

With each rendered set, the log has for each Kustomization in it which fields of its spec secret values went into:
sealed under the key of that Kustomization. The object itself may be as the last set has it, as the one that was applied
last, as one between these, or as a past one to which its maker is pinned.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from tidelog.engine.cluster.errors import ClusterError
from tidelog.engine.kinds.meta import labelled_maker
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.runtime.memory import Facts
from tidelog.engine.runtime.rendered import Listed, listed_in
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.variables import Reads, read_variables
from tidelog.engine.runtime.watching.declared import DeclaredKustomization, DeclaredTarget
from tidelog.engine.secrecy.handed import Handed, Marks, handed_in, is_searched_for, marks_in
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.digest import KEYED, Digest
from tidelog.events.names import ObjectId, StreamName
from tidelog.events.typed import decoder
from tidelog.events.vocabulary import Rendered
from tidelog.storage import Query
from tidelog.storage.errors import SecretError
from tidelog.storage.keys import DataKey
from tidelog.storage.sealed import key_id_of

SETS_MAX = 100
"""How many past sets of a maker are looked at for the one that it applied last."""
MAKERS_MAX = 8
"""How far up it is looked where the log does not tell: who makes it, who makes that one."""

TargetOf: TypeAlias = Callable[[StreamName], Awaitable[DeclaredKustomization | None]]
KeyOf: TypeAlias = Callable[[StreamName], Awaitable[DataKey]]


class Handing:
    """Tells what in a target's spec is secret because of who makes it."""

    def __init__(self, facts: Facts, alias: str, inputs: Reads, key_of: KeyOf, target_of: TargetOf) -> None:
        self._facts = facts
        self._alias = alias
        self._inputs = inputs
        self._key_of = key_of
        self._target_of = target_of

    async def to(self, target: DeclaredTarget, depth: int = 0) -> Handed:
        """What of a target's spec is secret."""
        found = Handed()
        spec = target.live.get("spec") or {}
        for maker in makers_of(target.live, self._facts, self._alias):
            marks, is_all = await self._recorded(maker, target)
            sources = [marks] if is_all else [marks, await self._as_it_is(maker, target, depth)]
            for here in (handed_in(spec, one) for one in sources):
                found = Handed(found.variables | here.variables, tuple(sorted({*found.values, *here.values})))
        return found

    async def _recorded(self, maker: StreamName, target: DeclaredTarget) -> tuple[Marks, bool]:
        """The secret values by field that the log tells of, and whether those are all."""
        row = self._facts.desired.get(maker)
        if row is None or row.objects is None:
            return {}, False
        marks: dict[str, set[str]] = {}
        is_all = True
        listed = {one async for one in self._listed(maker, target.key.id)}
        if row.pinned is not None:
            async for one in self._listed(maker, target.key.id, until=row.pinned.position, only=True):
                listed.add(one)
        for digest, sealed in listed:
            opened = await self._opened(sealed, target.stream) if digest.startswith(KEYED) else {}
            is_all = is_all and opened is not None
            for path, values in (opened or {}).items():
                marks.setdefault(path, set()).update(values)
        return {path: sorted(values) for path, values in marks.items()}, is_all

    async def _listed(
        self, maker: StreamName, id: ObjectId, until: int | None = None, *, only: bool = False
    ) -> AsyncIterator[Listed]:
        """What the sets of a maker say of an object that it may be as: from the last one down to the applied one.

        An apply may have been cut short before it could say what it wrote.

        Args:
            maker: of the object.
            id: of the object.
            until: the position to begin at, in the place of the last set.
            only: whether that is the only one.
        """
        inventory = self._facts.inventory.get(maker)
        entry = None if inventory is None else inventory.objects.get(id)
        for _ in range(SETS_MAX):
            last = await self._facts.log.last(Query(stream=maker, types=(Rendered.__name__,), until=until))
            if last is None or not isinstance(last.event, Rendered):
                break
            found = listed_in((await self._facts.log.body(last.event.objects.digest)).data, id)
            if found is not None:
                yield found
            if only or entry is None or (found is not None and found[0] == entry.desired):
                return
            until = last.envelope.position - 1
        if entry is not None:
            yield entry.desired, None

    async def _opened(self, sealed: Digest | None, stream: StreamName) -> Marks | None:
        """What was handed on; None of a set of before that was recorded, and of what was forgotten."""
        if sealed is None:
            return None
        body = await self._facts.log.body(sealed)
        try:
            key = await self._key_of(stream)
            if key_id_of(body) != key.id:
                return None
            return decoder(Marks)(key.open(body))
        except SecretError:
            return None

    async def _as_it_is(self, maker: StreamName, target: DeclaredTarget, depth: int) -> Marks:
        """Where the maker's secret variables stand in the spec, by their present values: for what no log tells."""
        found = None if depth == MAKERS_MAX or maker == target.stream else await self._target_of(maker)
        if found is None:
            return {}
        try:
            found.handed = await self.to(found, depth + 1)
            variables = await read_variables(self._inputs, found, self._key_of)
        except (StageError, ClusterError, TimeoutError):
            return {}
        values = SecretValues(
            value for one in variables.secret_values if is_searched_for(value := one.replace("\n", ""))
        )
        return marks_in(target.live.get("spec") or {}, values)


def makers_of(live: KubeObject, facts: Facts, alias: str) -> set[StreamName]:
    """The targets that make an object: the one that applied it last, and the one that its labels name."""
    key = key_of(live)
    row = facts.actual.get(key.stream(alias))
    makers = set() if row is None or row.owner is None else {row.owner}
    named = labelled_maker(live)
    return makers if named is None else makers | {named.stream(alias)}
