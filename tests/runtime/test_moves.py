"""To whom an object is left that a target no longer wants, and whose may be taken."""

from collections.abc import Collection, Mapping
from typing import Any

import anyio
import pytest

from tests.runtime.targets import target
from tidelog.engine.cluster.errors import ClusterError, ForbiddenError, InvalidError, UnreachableError
from tidelog.engine.cluster.port import Identity, Kind
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.leads import Beside
from tidelog.engine.runtime.passes.moves import LOOK_S, Heir, Moves, UnsettledError
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.engine.runtime.wishes import Wants
from tidelog.events.names import ObjectKey, StreamName

A, B = (ObjectKey("", "ConfigMap", "shop", name) for name in ("a", "b"))


class World:
    """Targets, what each wants by name, and an API server that answers a dry run as it is told."""

    def __init__(
        self, *targets: DeclaredKustomization, own: DeclaredKustomization | None = None, **wants: Wants
    ) -> None:
        self.targets = {one.stream: one for one in targets}
        self.wants: Mapping[str, Wants] = wants
        self.looked_at: list[str] = []
        self.asked: list[tuple[KubeObject, str]] = []
        self.answer: ClusterError | None = None
        self.makes: list[DeclaredKustomization] = []
        me: Any = self
        self.elsewhere: set[str] = set()
        """Targets that are applied to another cluster."""
        self.unsettled: set[str] = set()
        """Those of which it is not known yet to what cluster they are applied."""
        self.moves = Moves(me, lambda: self.targets, self.beside, me, me, Settings(), own or target("own"))

    async def beside(self, targets: Mapping[StreamName, DeclaredKustomization]) -> Beside:
        named = {stream: one.key.name for stream, one in targets.items()}
        return Beside(
            {stream: targets[stream] for stream, name in named.items() if name not in self.elsewhere | self.unsettled},
            {stream: targets[stream] for stream, name in named.items() if name in self.unsettled},
        )

    async def of(
        self, declared: DeclaredKustomization, keys: Collection[ObjectKey], deadline: float, cluster: object
    ) -> Wants:
        assert cluster is self
        assert 0 < deadline - anyio.current_time() <= LOOK_S
        self.looked_at.append(declared.key.name)
        wants = self.wants.get(declared.key.name, Wants())
        return Wants(wants.surely & frozenset(keys), wants.perhaps & frozenset(keys))

    async def coming(self, declared: DeclaredKustomization, deadline: float) -> list[DeclaredKustomization]:
        assert 0 < deadline - anyio.current_time() <= LOOK_S
        return self.makes if declared.key.name == "root" else []

    async def gives_up(
        self, declared: DeclaredKustomization, keys: Collection[ObjectKey], cluster: object
    ) -> frozenset[ObjectKey]:
        assert cluster is self
        return frozenset(keys) - self.wants[declared.key.name].surely

    async def find_kind(self, group: str, kind: str) -> Kind | None:
        return Kind(group, "v1", kind, "configmaps", namespaced=True)

    async def apply(self, obj: KubeObject, *, manager: str, dry_run: bool, identity: Identity) -> None:
        assert (manager, dry_run) == ("kustomize-controller", True)
        self.asked.append((obj, identity.user))
        if self.answer is not None:
            raise self.answer


def surely(*keys: ObjectKey) -> Wants:
    return Wants(frozenset(keys))


def perhaps(*keys: ObjectKey) -> Wants:
    return Wants(perhaps=frozenset(keys))


async def test_what_another_target_wants_is_left_to_it() -> None:
    other = target("other")
    world = World(target("third"), other, other=surely(A))
    assert await world.moves.heirs([A.id, B.id]) == {A.id: Heir(other.stream, "left to Kustomization/shop/other")}
    assert not world.asked, "the engine itself may write all"


async def test_who_has_been_told_that_all_is_wanted_looks_no_further() -> None:
    world = World(*(target(f"t{number}") for number in range(20)))
    world.wants = {f"t{number}": surely(A) for number in range(20)}
    assert (await world.moves.heirs([A.id]))[A.id].why == "left to Kustomization/shop/t0"
    assert len(world.looked_at) < 20


async def test_who_is_about_to_be_made_is_an_heir_too() -> None:
    world = World(target("other"), target("root"), other=surely(B), new=surely(A))
    world.makes = [target("new")]
    heirs = await world.moves.heirs([A.id, B.id])
    assert {id: heir.why for id, heir in heirs.items()} == {
        A.id: "left to Kustomization/shop/new",
        B.id: "left to Kustomization/shop/other",
    }
    assert world.looked_at == ["other", "root", "new"]
    await world.moves.heirs([B.id])
    assert world.looked_at.count("new") == 1, "nobody looks ahead for what is known to be wanted"


async def test_who_is_suspended_is_said_to_be() -> None:
    world = World(target("other", suspend=True), other=surely(A))
    (heir,) = (await world.moves.heirs([A.id])).values()
    assert heir.why == "left to Kustomization/shop/other, which is suspended"


async def test_who_surely_wants_it_goes_before_who_perhaps_does() -> None:
    world = World(target("a"), target("b"), a=perhaps(A, B), b=surely(A))
    heirs = await world.moves.heirs([A.id, B.id])
    assert heirs[A.id].why == "left to Kustomization/shop/b"
    assert heirs[B.id].why == "kept: it may stand in the files of Kustomization/shop/a, which cannot be built"


TENANT: dict[str, Any] = {"namespace": "tenant", "serviceAccountName": "deployer"}


@pytest.mark.parametrize("wants", [surely(A), perhaps(A)])
async def test_who_may_not_write_it_is_no_heir(wants: Wants) -> None:
    world = World(target("other", **TENANT), other=wants)
    world.answer = ForbiddenError("no")
    assert await world.moves.heirs([A.id]) == {}
    asked = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}}
    assert world.asked == [(asked, "system:serviceaccount:tenant:deployer")]


@pytest.mark.parametrize("answer", [None, InvalidError("fields are missing")])
async def test_who_may_write_it_is_an_heir(answer: ClusterError | None) -> None:
    world = World(target("other", **TENANT), other=surely(A))
    world.answer = answer
    assert A.id in await world.moves.heirs([A.id])


async def test_where_nobody_answers_who_may_write_nothing_is_decided() -> None:
    world = World(target("other", **TENANT), other=surely(A))
    world.answer = UnreachableError("away")
    with pytest.raises(UnreachableError):
        await world.moves.heirs([A.id])


async def test_who_writes_as_the_owner_does_or_in_his_own_namespace_is_not_asked_about() -> None:
    account: dict[str, Any] = {"serviceAccountName": "deployer"}
    world = World(target("other", **account), own=target("own", **account), other=surely(A))
    assert A.id in await world.moves.heirs([A.id])
    assert not world.asked


async def test_what_its_owner_gives_up_may_be_taken() -> None:
    old, other = target("old"), target("other")
    world = World(old, other, old=surely(B), other=surely(A, B))
    owners = {A.id: old.stream, B.id: old.stream}
    assert await world.moves.freed(owners) == {A.id}
    assert await world.moves.freed({A.id: other.stream}) == frozenset()
    assert await world.moves.freed({A.id: target("unknown").stream}) == frozenset()
    assert await world.moves.freed({}) == frozenset()


async def test_nothing_is_left_to_who_is_applied_to_another_cluster() -> None:
    world = World(target("root"), target("there"), there=surely(A), made=surely(B))
    world.makes = [target("made")]
    world.elsewhere = {"there", "made"}
    assert await world.moves.heirs([A.id, B.id]) == {}
    assert world.looked_at == ["root"]
    assert await world.moves.freed({A.id: target("there").stream}) == frozenset()


async def test_who_may_be_applied_to_the_same_cluster_is_waited_for_where_he_wants_it() -> None:
    world = World(target("root"), target("late"), late=surely(A), made=Wants(perhaps=frozenset([B])))
    world.makes = [target("made")]
    world.unsettled = {"late", "made"}
    for id, name in ((A.id, "late"), (B.id, "made")):
        with pytest.raises(UnsettledError, match=name):
            await world.moves.heirs([id])
    world.wants = {"root": surely(A)}
    assert set(await world.moves.heirs([A.id, B.id])) == {A.id}, "who wants nothing of it is not waited for"
    world.wants = {"root": surely(A), "late": surely(A)}
    assert set(await world.moves.heirs([A.id])) == {A.id}, "what has an heir needs no other"
