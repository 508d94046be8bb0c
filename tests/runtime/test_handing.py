"""What a target's maker handed on to it as secret: by the log, or by the maker's Secrets where that does not tell."""

import base64
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.events.logs import digest
from tests.runtime.targets import target
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.plan.model import Wanted
from tidelog.engine.render.renderer import Rendering
from tidelog.engine.runtime.handing import Handing
from tidelog.engine.runtime.rendered import RenderedSet, inputs_digest, listed_in, sealed
from tidelog.engine.runtime.variables import Variables, read_variables
from tidelog.engine.runtime.watching.declared import DeclaredKustomization
from tidelog.engine.secrecy.handed import Handed, Marks
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.secrecy.values import SecretValues
from tidelog.events.bodies import Body
from tidelog.events.canonical import encode
from tidelog.events.digest import KEYED, Digest
from tidelog.events.names import ObjectKey, Revision, StreamName
from tidelog.events.projections import Actual, Desired, Entry, Inventory
from tidelog.events.projections.desired import Pin
from tidelog.events.vocabulary import Rendered
from tidelog.storage import Query
from tidelog.storage.keys import DataKey

PATH = "spec.postBuild.substitute.token"
CHILD = target("child").key
MAKER = target("maker").stream


class World:
    """`maker` makes `child`: each set that it had, with what it handed on; and what it applied last."""

    def __init__(self) -> None:
        self.bodies: dict[Digest, Body] = {}
        self.sets: list[Rendered] = []
        self.makers: dict[StreamName, DeclaredKustomization] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.keys: dict[StreamName, int] = {}
        self.desired: dict[StreamName, Desired] = {}
        self.inventory: dict[StreamName, Inventory] = {}
        self.actual: dict[StreamName, Actual] = {}
        me: Any = self
        self.log = me
        self.handing = Handing(cast("Any", self), "east", me, self.key, self.target_of)

    # The log.

    async def body(self, digest: Digest) -> Body:
        return self.bodies[digest]

    async def last(self, query: Query) -> Any:
        assert (query.stream, query.types) == (MAKER, ("Rendered",))
        position = len(self.sets) if query.until is None else min(query.until, len(self.sets))
        return (
            SimpleNamespace(event=self.sets[position - 1], envelope=SimpleNamespace(position=position))
            if position > 0
            else None
        )

    async def key(self, stream: StreamName) -> DataKey:
        seed = self.keys.get(stream, 0)
        return DataKey(stream, f"{seed:02x}" * 16, bytes([seed]) * 32, {})

    # The cluster.

    async def target_of(self, stream: StreamName) -> DeclaredKustomization | None:
        return self.makers.get(stream)

    async def get(self, _: StreamName, key: ObjectKey) -> KubeObject | None:
        held = self.secrets.get(key.name)
        data = {name: base64.b64encode(value.encode()).decode() for name, value in (held or {}).items()}
        return None if held is None else {"data": data}

    # What happens.

    async def renders(self, marks: Marks | None, *, old: bool = False, name: str = "") -> Digest:
        """The maker comes to want the child, with these secret values in its spec; returns the child's digest."""
        obj = target("child", path=name or f"./{len(self.sets)}").live
        secret = marks is not None
        rendering = Rendering(
            objects=(obj,),
            read_set=(),
            toolchain=(),
            remote_bases=(),
            secret=frozenset({CHILD} if secret else ()),
            handed={CHILD: marks} if marks is not None and not old else {},
        )
        made = sealed(rendering, Sealer({CHILD.id: await self.key(target("child").stream)}), SecretValues())
        assert made.set.tells_handed != (old and secret)
        self.bodies |= {body.ref.digest: body for body in made.bodies}
        self.sets.append(made.event(Revision("main@sha1:1"), digest("inputs")))
        row = self.desired.setdefault(MAKER, Desired())
        row.objects = self.sets[-1].objects
        return made.set.wanted[0].digest

    def applied(self, desired: Digest) -> None:
        self.inventory[MAKER] = Inventory(objects={CHILD.id: Entry("child", desired, 1)})

    async def handed(self, token: str = "x-hunter2", **more: str) -> Handed:
        child = target("child", postBuild={"substitute": {"token": token, **more}})
        child.live["metadata"]["labels"] = {
            "kustomize.toolkit.fluxcd.io/name": "maker",
            "kustomize.toolkit.fluxcd.io/namespace": "shop",
        }
        return await self.handing.to(child)


TOKEN = Handed(frozenset({"token"}))
NOTHING = Handed()


async def test_what_the_last_set_says() -> None:
    world = World()
    world.applied(await world.renders({PATH: ["hunter2"]}))
    assert await world.handed() == TOKEN
    assert await world.handed("other") == NOTHING, "somebody changed it"
    assert all(b"hunter2" not in body.data for body in world.bodies.values())


async def test_a_maker_that_has_no_secrets_hands_on_none() -> None:
    world = World()
    world.applied(await world.renders(None))
    assert await world.handed() == NOTHING


async def test_the_object_may_be_as_it_was_applied_or_as_a_set_since() -> None:
    world = World()
    first = await world.renders({PATH: ["hunter2"]})
    world.applied(first)
    await world.renders({PATH: ["hunter3"]})
    await world.renders(None)
    assert await world.handed() == TOKEN
    assert await world.handed("x-hunter3") == TOKEN, "an apply that did not come to say so"
    assert await world.handed("x-hunter4") == NOTHING


async def test_what_was_applied_is_not_looked_for_beyond() -> None:
    world = World()
    await world.renders({PATH: ["hunter2"]})
    world.applied(await world.renders(None))
    assert await world.handed() == NOTHING


async def test_a_maker_that_is_pinned_makes_what_it_made_then() -> None:
    world = World()
    await world.renders({PATH: ["hunter2"]})
    world.applied(await world.renders(None))
    world.desired[MAKER].pinned = Pin(set=digest("x"), position=1, left=Revision("main@sha1:1"), by="ada", why="")
    assert await world.handed() == TOKEN


@pytest.mark.parametrize("why", ["never rendered", "an old set", "forgotten", "another applied it"])
async def test_where_the_log_does_not_tell_the_maker_s_secrets_do(why: str) -> None:
    world = World()
    if why == "another applied it":
        await world.renders({})
        world.applied(Digest(f"{KEYED}{0:064}"))
    elif why != "never rendered":
        world.applied(await world.renders({PATH: ["hunter2"]}, old=why == "an old set"))
    if why == "forgotten":
        world.keys[target("child").stream] = 1
    assert await world.handed() == NOTHING, "there is no such target"
    build = {"substituteFrom": [{"kind": "Secret", "name": "variables"}]}
    world.makers[MAKER] = target("maker", postBuild=build)
    assert await world.handed() == NOTHING, "its Secret is not there"
    world.secrets["variables"] = {"token": "hunt\ner2", "switch": "true", "n": "1"}
    assert await world.handed("x-hunter2", n="1", on="true") == TOKEN, "what stands everywhere is not taken for one"


async def test_who_makes_itself_is_asked_once() -> None:
    world = World()
    own = target("maker", postBuild={"substitute": {"token": "hunter2"}})
    own.live["metadata"]["labels"] = {
        "kustomize.toolkit.fluxcd.io/name": "maker",
        "kustomize.toolkit.fluxcd.io/namespace": "shop",
    }
    world.makers[MAKER] = own
    assert await world.handing.to(own) == NOTHING


async def test_makers_that_make_each_other_come_to_an_end() -> None:
    world = World()
    for name, other in (("maker", "child"), ("child", "maker")):
        one = target(name)
        one.live["metadata"]["labels"] = {
            "kustomize.toolkit.fluxcd.io/name": other,
            "kustomize.toolkit.fluxcd.io/namespace": "shop",
        }
        world.makers[one.stream] = one
    assert await world.handed() == NOTHING


async def test_variables_of_the_spec_are_secret_and_the_digest_of_what_is_built_from_keyed() -> None:
    world = World()
    child = target("child", postBuild={"substitute": {"token": "1", "open": "2"}})
    plain = await read_variables(cast("Any", world), child, world.key)
    child.handed = Handed(frozenset({"token", "gone"}))
    found = await read_variables(cast("Any", world), child, world.key)
    assert found.secret_names == {"token"}
    assert found.secret_values == ["1"]
    assert (plain.digest.startswith(KEYED), found.digest.startswith(KEYED)) == (False, True)

    world.keys[child.stream] = 1
    other = await read_variables(cast("Any", world), child, world.key)
    without = Variables(values=found.values, secret_names=found.secret_names, digest=found.digest)
    digests = [inputs_digest(child.spec, one, (), ()) for one in (found, found, other, without, plain)]
    assert len(set(digests)) == 4, "nobody without the key can make it, to try values"


@pytest.mark.parametrize(
    ("key", "handed", "expected"),
    [
        (CHILD, None, False),
        (CHILD, digest("handed"), True),
        (CHILD._replace(group="example.org"), None, True),
        (CHILD._replace(group="", kind="Secret"), None, True),
    ],
    ids=str,
)
def test_a_set_of_before_is_made_again(key: ObjectKey, handed: Digest | None, *, expected: bool) -> None:
    wanted = Wanted(key=key, api_version="v1", digest=Digest(f"{KEYED}1"), secret=True, handed=handed)
    assert RenderedSet(digest=digest("set"), wanted=(wanted,)).tells_handed == expected


def test_a_list_of_before_is_read() -> None:
    data = encode([["a/B/c/d", "sha256:1", "v1"], [CHILD.id, f"{KEYED}2", "v1"]])
    assert listed_in(data, CHILD.id) == (f"{KEYED}2", None)
    assert listed_in(data, target("chil").key.id) is None
