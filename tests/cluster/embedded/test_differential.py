"""The embedded cluster beside the real API server: the same random requests, and what each answers."""

import copy
import difflib
import json
import random
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.oracle import Client, Json, Kind, query
from tests.conftest import SEED, SOAK
from tests.servers.kubernetes_servers import Answer, Servers
from tidelog.engine.cluster.embedded.api import Api
from tidelog.engine.cluster.embedded.cluster import ADMIN, open_embedded
from tidelog.engine.cluster.embedded.requests import Request, parse_url
from tidelog.engine.expressions.evaluator import Evaluator

PARTS = 4
SEQUENCES = 2_000 // PARTS if SOAK else 100 // PARTS
STEPS = 12
MANAGERS = ("a", "b", "c")
SERVED_S = 20
_uid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_own_metadata = ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
_own_spec = ("clusterIP", "clusterIPs")


@pytest.fixture
def client(kubernetes: Servers) -> Iterator[Client]:
    with Client(kubernetes) as made:
        yield made


@pytest.fixture
def kind(kubernetes: Servers) -> Iterator[Kind]:
    """A custom kind of this test's own; its definition is deleted afterwards."""
    group = f"g{uuid.uuid4().hex[:12]}.example.com"
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert kubernetes.request("POST", definitions, oracle.definition(group)).status == 201
    yield oracle.custom_kind(group)
    kubernetes.request("DELETE", f"{definitions}/things.{group}")


@pytest.fixture
async def api(kind: Kind, namespace: str) -> AsyncIterator[Api]:
    """The embedded cluster, with what the real one has been given."""
    async with Evaluator() as judge, open_embedded(judge) as opened:
        api = opened.api
        made = await ask(api, "POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        assert made.status == 201, made
        definition = oracle.definition(kind.api_version.partition("/")[0])
        made = await ask(api, "POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        assert made.status == 201, made
        yield api


async def ask(api: Api, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Answer:
    where, parameters = parse_url(path)
    sent = b"" if body is None else json.dumps(body).encode()
    request = Request(method, where, parameters, ADMIN, sent, content_type, "application/json", "python")
    answer = await api.handle(request)
    return Answer(answer.status, json.loads(answer.body))


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


def common(answer: Answer) -> Any:
    """What of an answer must be the same on both sides."""
    body = copy.deepcopy(answer.body)
    if body.get("kind") == "Status":
        details = body.get("details") or {}
        details.pop("uid", None)
        causes = sorted(details.pop("causes", None) or [], key=str)
        message = _uid.sub("UID", body.get("message", ""))
        return answer.status, body.get("status"), body.get("reason"), message, details, causes
    if "items" in body:
        return answer.status, body["kind"], [_common_object(item) for item in body["items"]]
    return answer.status, _common_object(body)


def _common_object(obj: Json) -> Json:
    obj.pop("apiVersion", None)
    obj.pop("kind", None)
    metadata = obj["metadata"]
    for name in _own_metadata:
        if name in metadata:
            metadata[name] = "…"
    entries = metadata.get("managedFields") or []
    for entry in entries:
        entry.pop("time", None)
    entries.sort(key=lambda entry: json.dumps(entry, sort_keys=True))
    for name in _own_spec if obj.get("spec") else ():
        obj["spec"].pop(name, None)
    return obj


@pytest.mark.slow
@pytest.mark.timeout(3_600 if SOAK else 180)
@pytest.mark.parametrize("part", range(PARTS))
async def test_random_requests_are_answered_alike(
    client: Client, api: Api, kind: Kind, namespace: str, part: int, pytestconfig: pytest.Config
) -> None:
    seed = pytestconfig.stash[SEED]
    await until_served(client, kind)
    kinds = (*oracle.BUILT_IN, kind, kind)
    for number in range(SEQUENCES):
        chance = random.Random(f"{seed}-{part}-{number}")
        sequence = Sequence(chance.choice(kinds), namespace, chance, f"s{part}-{number}")
        steps: list[Step] = []
        for _ in range(STEPS):
            step = sequence.step()
            steps.append(step)
            real = await anyio.to_thread.run_sync(client.request, *step)
            ours = await ask(api, *step)
            if leaves_null(real):
                break  # from here on the two hold different objects: see docs/reference/embedded-cluster.md
            assert common(ours) == common(real), told(ours, real, steps, f"sequence {part}-{number} of seed {seed}")


def leaves_null(real: Answer) -> bool:
    """A known difference: an apply may leave null in the real object, which the real server then finds invalid."""
    causes = (real.body.get("details") or {}).get("causes") or []
    return real.status == 422 and any(str(cause["message"]).endswith(': "null"') for cause in causes)


def told(ours: Answer, real: Answer, steps: list[Step], where: str) -> str:
    """How two answers differ, and what led to them."""
    theirs, mine = (json.dumps(common(answer), indent=1, sort_keys=True).splitlines() for answer in (real, ours))
    difference = difflib.unified_diff(theirs, mine, "real", "ours", lineterm="", n=1)
    return "\n".join([where, *map(repr, steps), *difference])


async def until_served(client: Client, kind: Kind) -> None:
    with anyio.fail_after(SERVED_S):
        while (await anyio.to_thread.run_sync(client.request, "GET", kind.path("default"))).status != 200:  # noqa: ASYNC110
            await anyio.sleep(0.1)
