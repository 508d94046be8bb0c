"""The embedded cluster beside the real API server: the same random requests, and what each answers."""

import random
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.beside import Beside, common, difference
from tests.cluster.embedded.oracle import Json, Kind, Reply, query
from tests.conftest import SOAK

PARTS = 4
SEQUENCES = 2_000 // PARTS if SOAK else 100 // PARTS
STEPS = 12
CUT_SHORT_MAX = 0.1
"""The share of sequences that may end before their end, at the one known difference after which none can go on."""
PAGES = "PAGES"
"""In the place of a method: a list, page by page."""
OWNER = {"apiVersion": "v1", "kind": "A", "name": "a", "uid": "b"}
METADATA: tuple[Json, ...] = (
    {"labels": {"bad": "!"}},
    {"annotations": {"!": "a"}},
    {"ownerReferences": [{**OWNER, "uid": ""}]},
    {"finalizers": ["x"]},
    {"finalizers": ["a b"]},
    {"finalizers": ["example.com/three"]},
    {"uid": "abc"},
    {"deletionTimestamp": "2020-01-01T00:00:00Z"},
    {"creationTimestamp": "2020-01-01T00:00:00Z"},
    {"generation": 7},
    {"namespace": "other"},
    {"name": "other"},
    {"generateName": "a-"},
    {"labels": 5},
    {"managedFields": [{}]},
    {"managedFields": []},
    {"resourceVersion": "1"},
)
MANAGERS = ("a", "b", "c")


class Step(NamedTuple):
    """A request."""

    method: str
    path: str
    body: Any = None
    content_type: str = "application/json"
    of: str = ""
    """Where the object is whose version each side puts into the body."""


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
            "pages": (1, self.pages),
            "strategic": (2, lambda: self.patch(path, oracle.STRATEGIC)),
            "metadata": (2, lambda: self.metadata(name, path)),
            "unknown": (2, lambda: self.unknown(name, path)),
            "collection": (1, self.delete_collection),
            "status": (2 if self.kind.status else 0, lambda: self.status(name, path)),
            "new status": (1 if self.kind.status else 0, lambda: self.replace_status(name, path)),
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
        of = path if self.chance.random() < 0.8 else ""
        return Step("PUT", query(path, **self.dry({"fieldManager": self.manager()})), self.made(name), of=of)

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

    def metadata(self, name: str, path: str) -> Step:
        """Metadata of which most will not do."""
        metadata = self.chance.choice(METADATA)
        if self.chance.random() < 0.3:
            made = self.made(name)
            made["metadata"].update(metadata)
            return Step("POST", query(self.kind.path(self.namespace), fieldManager=self.manager()), made)
        return Step("PATCH", query(path, fieldManager=self.manager()), {"metadata": metadata}, oracle.MERGE)

    def unknown(self, name: str, path: str) -> Step:
        """A field that the kind has not, and how strictly that is taken."""
        options = {"fieldManager": self.manager()}
        said = self.chance.choice(["Strict", "Warn", "Ignore", ""])
        if said:
            options["fieldValidation"] = said
        how = self.chance.choice(["create", "replace", "merge", "strategic", "apply"])
        body = self.kind.body(self.chance) if how in ("merge", "strategic") else self.made(name)
        places = [body, *(each for key, each in body.items() if isinstance(each, dict) and key != "data")]
        self.chance.choice(places)["unknown"] = self.chance.choice([1, "x", {"a": 1}, []])
        match how:
            case "create":
                return Step("POST", query(self.kind.path(self.namespace), **options), body)
            case "replace":
                return Step("PUT", query(path, **options), body, of=path)
            case "apply":
                return Step("PATCH", query(path, **options), body, oracle.APPLY)
            case _:
                types = {"merge": oracle.MERGE, "strategic": oracle.STRATEGIC}
                return Step("PATCH", query(path, **options), body, types[how])

    def delete_collection(self) -> Step:
        labels = self.chance.choice(["", ",a", ",!a"])
        options = {"labelSelector": f"sequence={self.label}{labels}"}
        body: Json | None = self.chance.choice([None, {}])  # with a body the query is not looked at
        return Step("DELETE", query(self.kind.path(self.namespace), **self.dry(options)), body)

    def pages(self) -> Step:
        options = {"labelSelector": f"sequence={self.label}"} if self.chance.random() < 0.5 else {}
        if self.chance.random() < 0.5 or not options:
            options["fieldSelector"] = self.chance.choice(
                [f"metadata.name={self.names[0]}", f"metadata.name!={self.names[0]}", "metadata.namespace=other", "x=y"]
            )
            if not options.get("labelSelector") and "!=" in options["fieldSelector"]:
                options["labelSelector"] = f"sequence={self.label}"
        return Step(PAGES, query(self.kind.path(self.namespace), **options, limit="1"))

    def delete(self, path: str) -> Step:
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if self.chance.random() < 0.3:  # dry: what is to be collected as garbage soon is
            policy = self.chance.choice(["Foreground", "Orphan", "Nonsense"])
            return Step("DELETE", path, {**body, "propagationPolicy": policy, "dryRun": ["All"]})
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

    def replace_status(self, name: str, path: str) -> Step:
        applied = self.status(name, path)
        return Step("PUT", query(f"{path}/status", fieldManager=self.manager()), applied.body, of=path)

    def watched(self) -> tuple[str, Json]:
        """A selector of a watch, and labels that it selects."""
        labels, more = self.chance.choice(
            [("", {}), (",a", {"a": "1"}), (",!a", {}), (",a=1", {"a": "1"}), (",a!=1", {}), (",a notin (1)", {})]
        )
        options = {"labelSelector": f"sequence={self.label}{labels}"}
        if self.chance.random() < 0.2:
            options["fieldSelector"] = f"metadata.name!={self.names[0]}"
        return urlencode(options), {"sequence": self.label, **more}

    def manager(self) -> str:
        return self.chance.choice(MANAGERS)

    def dry(self, options: Json) -> Json:
        return options | ({"dryRun": "All"} if self.chance.random() < 0.15 else {})


@pytest.mark.slow
@pytest.mark.timeout(3_600 if SOAK else 180)
@pytest.mark.parametrize("part", range(PARTS))
async def test_random_requests_are_answered_alike(beside: Beside, part: int, oracle_seed: int) -> None:
    whole = [await one_sequence(beside, oracle_seed, part, number) for number in range(SEQUENCES)]
    print(f"seed {oracle_seed}, part {part}: {whole.count(False)} of {SEQUENCES} sequences ended before their end")
    assert whole.count(False) <= SEQUENCES * CUT_SHORT_MAX


async def one_sequence(beside: Beside, seed: int | str, part: int, number: int) -> bool:
    """Some requests about a few objects of one kind, and nobody else's; whether all of them could be compared."""
    chance = random.Random(f"{seed}-{part}-{number}")
    kind = chance.choice((*oracle.BUILT_IN, beside.kind, beside.kind))
    sequence = Sequence(kind, beside.namespace, chance, f"s{part}-{number}")
    steps: list[Step] = []
    where = f"sequence {part}-{number} of seed {seed}"
    since = [each.body["metadata"]["resourceVersion"] for each in await beside.both("GET", kind.path(beside.namespace))]
    selector, labels = sequence.watched()
    for _ in range(STEPS):
        step = sequence.step()
        steps.append(step)
        for real, ours in await answers(beside, step):
            if leaves_null(real):
                return False  # from here on the two hold different objects: see docs/reference/embedded-cluster.md
            assert common(ours) == common(real), told(common(ours), common(real), steps, where)
    last = sequence.made(f"{sequence.label}-last")
    last["metadata"]["labels"] = labels
    if {
        each.status for each in await beside.both("POST", query(kind.path(beside.namespace), fieldManager="last"), last)
    } == {201}:
        path = f"{kind.path(beside.namespace)}?watch=1&timeoutSeconds=20&{selector}"
        real_events, our_events = await beside.events(path, since, last["metadata"]["name"])
        assert our_events == real_events, told(our_events, real_events, [*steps, selector], where)
    return True


async def answers(beside: Beside, step: Step) -> list[tuple[Reply, Reply]]:
    """The real answer and ours; one each page of a list."""
    if step.method == PAGES:
        found = [await beside.both("GET", step.path)]
        while all(each.body.get("metadata", {}).get("continue") for each in found[-1]):
            real, ours = (
                f"{step.path}&{urlencode({'continue': each.body['metadata']['continue']})}" for each in found[-1]
            )
            found.append((await beside.real("GET", real), await beside.ask("GET", ours)))
        return found
    if not step.of:
        return [await beside.both(step.method, step.path, step.body, step.content_type)]
    bodies = []
    for live in await beside.both("GET", step.of):
        version = live.body["metadata"].get("resourceVersion", "1")
        bodies.append({**step.body, "metadata": {**step.body["metadata"], "resourceVersion": version}})
    return [await beside.both(step.method, step.path, bodies[0], step.content_type, bodies[1])]


def leaves_null(real: Reply) -> bool:
    """A known difference: an apply may leave null in the real object, which the real server then finds invalid."""
    causes = (real.body.get("details") or {}).get("causes") or []
    return real.status == 422 and any(str(cause["message"]).endswith(': "null"') for cause in causes)


def told(ours: Any, real: Any, steps: list[Any], where: str) -> str:
    """How two answers differ, and what led to them."""
    return "\n".join([where, *map(repr, steps), difference(real, ours)])
