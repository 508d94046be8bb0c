"""The embedded cluster beside the real API server: the same random requests, and what each answers."""

import random
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.beside import Beside, common, difference
from tests.cluster.embedded.oracle import Json, Kind, Reply, query
from tests.conftest import SEED, SOAK

PARTS = 4
SEQUENCES = 2_000 // PARTS if SOAK else 100 // PARTS
STEPS = 12
MANAGERS = ("a", "b", "c")


class Step(NamedTuple):
    """A request; `resourceVersion`s in it are those of each side."""

    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"


class Sequence:
    """Random requests about a few objects of a kind, made of both sides."""

    def __init__(self, kind: Kind, namespace: str, chance: random.Random, name: str) -> None:
        self.kind, self.namespace, self.chance = kind, namespace, chance
        self.names = [f"{name}-{letter}" for letter in "ab"]
        self.label = name

    def step(self) -> Step:
        chance, name = self.chance, self.chance.choice(self.names)
        path = self.kind.path(self.namespace, name)
        makers: dict[str, tuple[int, Callable[[], Step]]] = {
            "apply": (8, lambda: self.apply(name, path)),
            "create": (3, lambda: self.create(name)),
            "replace": (3, lambda: self.replace(name, path)),
            "merge": (3, lambda: self.patch(path, oracle.MERGE)),
            "json": (2, lambda: self.json_patch(path)),
            "finalizers": (2, lambda: self.finalizers(path)),
            "delete": (3, lambda: self.delete(path)),
            "get": (1, lambda: Step("GET", path)),
            "list": (2, self.list_),
            "status": (2 if self.kind.status else 0, lambda: self.status(name, path)),
        }
        weights = [weight for weight, _ in makers.values()]
        return chance.choices([make for _, make in makers.values()], weights)[0]()

    def made(self, name: str) -> Json:
        made = self.kind.made(self.chance, name)
        made["metadata"].setdefault("labels", {})["sequence"] = self.label
        return made

    def apply(self, name: str, path: str) -> Step:
        options = {"fieldManager": self.chance.choice(MANAGERS)}
        if self.chance.random() < 0.4:
            options["force"] = "true"
        return Step("PATCH", query(path, **self.dry(options)), self.made(name), oracle.APPLY)

    def create(self, name: str) -> Step:
        path = self.kind.path(self.namespace)
        return Step("POST", query(path, **self.dry({"fieldManager": self.manager()})), self.made(name))

    def replace(self, name: str, path: str) -> Step:
        return Step("PUT", query(path, **self.dry({"fieldManager": self.manager()})), self.made(name))

    def patch(self, path: str, content_type: str) -> Step:
        body = self.kind.body(self.chance)
        if self.chance.random() < 0.3:
            body["metadata"] = {"labels": {"a": self.chance.choice(["1", None])}}
        return Step("PATCH", query(path, fieldManager=self.manager()), body, content_type)

    def json_patch(self, path: str) -> Step:
        label = self.chance.choice(["a", "b", "c"])
        operation = self.chance.choice(["add", "remove", "replace", "test"])
        one: Json = {"op": operation, "path": f"/metadata/labels/{label}"}
        if operation != "remove":
            one["value"] = self.chance.choice(["1", "2"])
        return Step("PATCH", query(path, fieldManager=self.manager()), [one], oracle.JSON_PATCH)

    def finalizers(self, path: str) -> Step:
        wanted = self.chance.choice([None, ["example.com/one"], ["example.com/one", "example.com/two"]])
        return Step(
            "PATCH", query(path, fieldManager=self.manager()), {"metadata": {"finalizers": wanted}}, oracle.MERGE
        )

    def delete(self, path: str) -> Step:
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if self.chance.random() < 0.2:
            body["preconditions"] = {"uid": str(uuid.UUID(int=0))}
        if self.chance.random() < 0.2:
            body["dryRun"] = ["All"]
        return Step("DELETE", path, body)

    def list_(self) -> Step:
        labels = self.chance.choice(["", ",a", ",!a", ",a=1", ",a in (1,2)", ",a notin (1)", ",a!=1"])
        return Step("GET", query(self.kind.path(self.namespace), labelSelector=f"sequence={self.label}{labels}"))

    def status(self, name: str, path: str) -> Step:
        assert self.kind.status is not None
        body = {
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "metadata": {"name": name},
            **self.kind.status(self.chance),
        }
        options = {"fieldManager": self.manager(), "force": "true"}
        return Step("PATCH", query(f"{path}/status", **options), body, oracle.APPLY)

    def manager(self) -> str:
        return self.chance.choice(MANAGERS)

    def dry(self, options: Json) -> Json:
        return options | ({"dryRun": "All"} if self.chance.random() < 0.15 else {})


@pytest.mark.slow
@pytest.mark.timeout(3_600 if SOAK else 180)
@pytest.mark.parametrize("part", range(PARTS))
async def test_random_requests_are_answered_alike(beside: Beside, part: int, pytestconfig: pytest.Config) -> None:
    for number in range(SEQUENCES):
        await one_sequence(beside, pytestconfig.stash[SEED], part, number)


async def one_sequence(beside: Beside, seed: int | str, part: int, number: int) -> None:
    """Some requests about a few objects of one kind, and nobody else's."""
    chance = random.Random(f"{seed}-{part}-{number}")
    kind = chance.choice((*oracle.BUILT_IN, beside.kind, beside.kind))
    sequence = Sequence(kind, beside.namespace, chance, f"s{part}-{number}")
    steps: list[Step] = []
    for _ in range(STEPS):
        step = sequence.step()
        steps.append(step)
        real, ours = await beside.both(*step)
        if leaves_null(real):
            break  # from here on the two hold different objects: see docs/reference/embedded-cluster.md
        assert common(ours) == common(real), told(ours, real, steps, f"sequence {part}-{number} of seed {seed}")


def leaves_null(real: Reply) -> bool:
    """A known difference: an apply may leave null in the real object, which the real server then finds invalid."""
    causes = (real.body.get("details") or {}).get("causes") or []
    return real.status == 422 and any(str(cause["message"]).endswith(': "null"') for cause in causes)


def told(ours: Reply, real: Reply, steps: list[Step], where: str) -> str:
    """How two answers differ, and what led to them."""
    return "\n".join([where, *map(repr, steps), difference(common(real), common(ours))])
