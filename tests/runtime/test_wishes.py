"""What a target is about to want, before its own pass has come to it."""

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from msgspec import structs

from tests.events.logs import digest
from tests.runtime.targets import target
from tidelog.engine.cluster.port import Kind
from tidelog.engine.objects.kube import KubeObject, canonical_bytes
from tidelog.engine.plan.model import Wanted
from tidelog.engine.render.errors import ReadEntry, RenderError
from tidelog.engine.render.mentions import Mentions
from tidelog.engine.runtime.rendered import RenderedSet, inputs_digest
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.variables import Variables
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.engine.runtime.wishes import Wants, Wishes
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectKey, Revision, StreamName
from tidelog.events.projections import Desired, Entry, Inventory, Standing
from tidelog.events.projections.desired import Pin
from tidelog.storage.artifacts.errors import ObjectMissingError

OLD, NEW = Revision("main@sha1:1"), Revision("main@sha1:2")
A, B, OTHER = (ObjectKey("", "ConfigMap", "shop", name) for name in ("a", "b", "other"))
K1, K2, K3 = (ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", "shop", name) for name in ("k1", "k2", "k3"))
ABROAD = A._replace(namespace="elsewhere")

APP = target().stream


def a_set(*keys: ObjectKey, name: str = "set") -> RenderedSet:
    wanted = tuple(Wanted(key=key, api_version="v1", digest=digest(key.id)) for key in keys)
    return RenderedSet(digest=digest(name), wanted=wanted, read_set=(ReadEntry("app", "1"),))


def object_of(key: ObjectKey) -> KubeObject:
    version = f"{key.group}/v1" if key.group else "v1"
    spec = {"spec": target(path=f"./{key.name}").live["spec"]} if key.kind == "Kustomization" else {}
    return {"apiVersion": version, "kind": key.kind, "metadata": {"name": key.name, "namespace": key.namespace}, **spec}


class World:
    """The newest revision has `objects`, or cannot be built; `last` is what the target wanted before."""

    def __init__(self, *objects: ObjectKey, last: RenderedSet | None = None, error: Exception | None = None) -> None:
        self.objects = objects
        self.last = last
        self.error = error
        self.variables = Variables(values={}, secret_names=frozenset(), digest=digest("variables"))
        self.trouble: Exception | None = None
        self.same = False
        self.places_of: Collection[tuple[str, str]] = ()
        self.whole = True
        self.lost: Exception | None = None
        self.builds: list[str] = []
        self.tree: str | None = "tree-2"
        self.desired: dict[StreamName, Desired] = {}
        self.pinned: RenderedSet | None = None
        self.standing = Standing(ready="True", inputs=self.inputs())
        self.inventory: dict[StreamName, Inventory] = {}
        facts = SimpleNamespace(desired=self.desired, conditions={APP: self.standing}, inventory=self.inventory)
        me: Any = self
        renderings = SimpleNamespace(last=self._last, at=self._at, load=self._load)
        self.settings = Settings(no_cross_namespace_refs=True)
        self.wishes = Wishes(
            cast("Any", facts), "east", self.settings, cast("Any", renderings), me, self._variables, self._tree, me
        )

    async def find_kind(self, group: str, kind: str) -> Kind | None:
        return None if kind == "Unknown" else Kind(group, "v1", kind, "", namespaced=kind != "Issuer")

    def inputs(self) -> Digest | None:
        if self.last is None:
            return None
        return inputs_digest(target().spec, self.variables, self.last.read_set, self.last.toolchain)

    async def _last(self, _: StreamName) -> RenderedSet | None:
        return self.last

    async def _load(self, wanted: list[Wanted], _: object, __: object) -> list[Wanted]:
        """What is not loaded is in the log."""
        return [one if one.loaded else structs.replace(one, loaded=object_of(one.key)) for one in wanted]

    async def _at(self, _: StreamName, __: int) -> RenderedSet | None:
        return self.pinned

    async def _variables(self, _: DeclaredKustomization) -> Variables:
        if self.trouble is not None:
            raise self.trouble
        return self.variables

    def _tree(self, source: StreamName) -> tuple[Revision, str] | None:
        assert source.endswith("/shop/fleet")
        return None if self.tree is None else (NEW, self.tree)

    # The renderer.

    def unchanged(self, tree: str, read_set: Sequence[ReadEntry]) -> bool:
        assert (tree, len(read_set)) == (self.tree, 1)
        return self.same

    async def render(self, tree: str, *_: object, time_s: float) -> Any:
        self.builds.append(tree)
        assert time_s <= 60
        if self.error is not None:
            raise self.error
        return SimpleNamespace(objects=[object_of(key) for key in self.objects])

    async def mentions(self, _: str, __: object, names: Collection[tuple[str, str]]) -> Mentions:
        if self.lost is not None:
            raise self.lost
        return Mentions(frozenset(name for name in names if name in self.places_of), self.whole)


def surely(*keys: ObjectKey) -> Wants:
    return Wants(frozenset(keys))


async def test_what_is_not_rendered_yet_is_built_once() -> None:
    world = World(A, last=a_set(B))
    assert await world.wishes.of(target(), [A, B, OTHER]) == surely(A)
    assert await world.wishes.of(target(), [B]) == surely()
    assert await world.wishes.gives_up(target(), [A, B]) == {B}
    assert world.builds == ["tree-2"]


@pytest.mark.parametrize("news", ["spec", "tree", "variables"])
async def test_what_decides_about_it_has_it_built_again(news: str) -> None:
    world = World(A)
    await world.wishes.of(target(), [A])
    world.objects = (B,)
    again = target(generation=2 if news == "spec" else 1)
    if news == "tree":
        world.tree = "tree-3"
    elif news == "variables":
        world.variables = Variables(values={"x": "1"}, secret_names=frozenset(), digest=digest("other"))
    assert await world.wishes.of(again, [A, B]) == surely(B)


async def test_where_nothing_that_it_reads_has_changed_it_wants_what_it_wanted_and_nothing_is_built() -> None:
    world = World(B, last=a_set(A))
    world.same = True
    assert await world.wishes.of(target(), [A, B]) == surely(A)
    world.last, world.same = a_set(B, name="rendered since, from another tree"), False
    assert await world.wishes.of(target(), [A, B]) == surely(B)
    assert world.builds == ["tree-2"], "what was remembered is of the set before"


async def test_who_is_ready_at_the_newest_revision_is_not_looked_at_any_further() -> None:
    world = World(B, last=a_set(A))
    world.standing.applied, world.standing.rendered, world.standing.observed = NEW, digest("set"), 1
    world.trouble = RuntimeError("its variables were read")
    assert await world.wishes.of(target(), [A, B]) == surely(A)
    assert not world.builds


@pytest.mark.parametrize(
    ("standing", "spec"),
    [
        ({"applied": OLD}, {}),
        ({"rendered": digest("other")}, {}),
        ({"ready": "False"}, {}),
        ({"observed": 0}, {}),
        ({}, {"postBuild": {"substituteFrom": [{"kind": "ConfigMap", "name": "values"}]}}),
    ],
)
async def test_who_may_not_be_at_its_newest_set_is_built(standing: dict[str, Any], spec: Any) -> None:
    world = World(B, last=a_set(A))
    for name, value in ({"applied": NEW, "rendered": digest("set"), "observed": 1} | standing).items():
        setattr(world.standing, name, value)
    assert await world.wishes.of(target(**spec), [A, B]) == surely(B)


async def test_nothing_is_looked_at_for_what_a_target_cannot_have() -> None:
    world = World(A, error=RuntimeError("it was built"))
    elsewhere = target(targetNamespace="elsewhere")
    assert await world.wishes.of(elsewhere, [A]) == surely()
    assert await world.wishes.of(target(), []) == surely()


async def test_who_is_being_deleted_wants_nothing() -> None:
    world = World(A, last=a_set(A))
    assert await world.wishes.of(target(deleting=True), [A]) == surely()
    assert await world.wishes.gives_up(target(deleting=True), [A, B]) == {A, B}
    assert not world.builds


async def test_who_is_kept_at_a_past_moment_wants_what_it_wanted_then() -> None:
    world = World(B, last=a_set(B))
    pin = Pin(set=digest("set"), position=7, left=NEW, by="ada", why="")
    world.desired[APP] = Desired(pinned=pin)
    world.pinned = a_set(A)
    assert await world.wishes.of(target(), [A, B]) == surely(A)
    assert await world.wishes.gives_up(target(), [A, B]) == {B}
    world.desired[APP] = Desired(pinned=Pin(set=digest("set"), position=7, left=OLD, by="ada", why=""))
    assert await world.wishes.of(target(), [A, B]) == surely(B), "a newer revision ends it"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"sourceRef": {"kind": "GitRepository", "name": "fleet", "namespace": "theirs"}}, id="forbidden"),
        pytest.param({"decryption": {"provider": "sops"}}, id="unsupported"),
        pytest.param({"interval": "never"}, id="wrong"),
    ],
)
async def test_who_cannot_go_on_stays_at_what_it_wanted(spec: Any) -> None:
    world = World(B, last=a_set(A))
    assert await world.wishes.of(target(**spec), [A, B]) == surely(A)
    assert await world.wishes.gives_up(target(**spec), [A, B]) == {B}
    assert not world.builds


async def test_who_has_no_artifact_stays_at_what_it_wanted() -> None:
    world = World(B, last=a_set(A))
    world.tree = None
    assert await world.wishes.of(target(), [A, B]) == surely(A)
    world.last = None
    assert await world.wishes.of(target(), [A, B]) == surely()
    assert await world.wishes.gives_up(target(), [A]) == frozenset(), "what is not known is given up by nobody"


@pytest.mark.parametrize("error", [RenderError("no"), RenderError("too long", final=False), ObjectMissingError("lost")])
async def test_of_what_cannot_be_built_that_counts_which_stands_in_the_files(error: Exception) -> None:
    world = World(last=a_set(B), error=error)
    world.places_of = [("ConfigMap", "a")]
    assert await world.wishes.of(target(), [A, B, OTHER]) == Wants(frozenset([B]), frozenset([A]))


async def test_what_cannot_be_built_gives_up_what_stands_in_none_of_its_files() -> None:
    """It may need for its build what another makes, who wants what it has: neither would ever go on."""
    world = World(last=a_set(A, B), error=RenderError("no"))
    world.places_of = [("ConfigMap", "a")]
    assert await world.wishes.gives_up(target(), [A, B]) == {B}
    world.whole = False
    assert await world.wishes.gives_up(target(), [A, B]) == frozenset(), "it may come from elsewhere"


async def test_where_the_files_cannot_be_read_all_may_stand_there() -> None:
    world = World(last=a_set(B), error=RenderError("no"))
    world.lost = ObjectMissingError("lost")
    assert await world.wishes.of(target(), [A]) == Wants(perhaps=frozenset([A]))
    assert await world.wishes.gives_up(target(), [A, B]) == frozenset()


async def test_what_is_generated_for_another_namespace_does_not_count() -> None:
    world = World(last=a_set(ABROAD._replace(name="a-2345678kkk")), error=RenderError("no"))
    world.places_of = [("ConfigMap", "a-bcdfghkmt2")]
    assert await world.wishes.of(target(), [A._replace(name="a-bcdfghkmt2")]) == Wants()


async def test_what_stands_in_the_files_for_another_namespace_does_not_count() -> None:
    world = World(last=a_set(ABROAD), error=RenderError("no"))
    world.places_of = [("ConfigMap", "a")]
    assert await world.wishes.of(target(), [A]) == Wants()


async def test_names_stand_in_files_without_what_the_spec_puts_around_them() -> None:
    world = World(error=RenderError("no"))
    world.places_of = [("ConfigMap", "a")]
    named = A._replace(name="pre-a")
    assert await world.wishes.of(target(namePrefix="pre-"), [named]) == Wants(perhaps=frozenset([named]))


async def test_without_its_variables_a_target_cannot_be_built() -> None:
    world = World(A)
    world.trouble = StageError("render", "BuildFailed", "it is not there")
    world.places_of = [("ConfigMap", "a")]
    assert await world.wishes.of(target(), [A, B]) == Wants(perhaps=frozenset([A]))
    assert not world.builds


async def test_what_would_be_built_too_late_is_told_by_its_files() -> None:
    """Many targets that hang must not keep another from going on."""
    world = World(A, B)
    world.places_of = [("ConfigMap", "a")]
    assert await world.wishes.of(target(), [A, B], anyio.current_time() - 1) == Wants(perhaps=frozenset([A]))
    assert not world.builds
    assert await world.wishes.of(target(), [A, B], anyio.current_time() + 60) == surely(A, B)


@pytest.mark.parametrize("from_log", [True, False])
async def test_what_is_about_to_be_made_or_changed_is_told_as_it_will_be(from_log: bool) -> None:
    """What was applied as it is wanted is there already."""
    wanted = [
        Wanted(key=key, api_version="v1", digest=digest_of(canonical_bytes(object_of(key)))) for key in (K1, K2, K3, A)
    ]
    last = RenderedSet(digest=digest("set"), wanted=tuple(wanted), read_set=(ReadEntry("app", "1"),))
    world = World(K1, K2, K3, A, last=last if from_log else None)
    world.same = True
    entries = {K1.id: wanted[0].digest, K2.id: digest("before")}
    world.inventory[APP] = Inventory(
        objects={id: Entry(api_version="v1", uid="", desired=desired, position=1) for id, desired in entries.items()}
    )
    coming = await world.wishes.coming(target())
    assert [(one.key, one.spec.path) for one in coming] == [(K2, "./k2"), (K3, "./k3")]
    assert len({one.uid for one in coming}) == 2
    assert len(world.builds) == (0 if from_log else 1)
    assert await world.wishes.coming(target(deleting=True)) == []


async def test_of_what_cannot_be_built_nothing_is_told_that_is_coming() -> None:
    assert await World(K1, error=RenderError("no")).wishes.coming(target()) == []


async def test_who_made_none_so_far_is_not_built_for_what_he_may_make() -> None:
    world = World(K1, last=a_set(A))
    assert await world.wishes.coming(target()) == []
    assert not world.builds


async def test_what_failed_is_tried_again() -> None:
    world = World(A, error=RenderError("a worker died", final=False))
    await world.wishes.of(target(), [A])
    world.error = None
    assert await world.wishes.of(target(), [A]) == surely(A)
