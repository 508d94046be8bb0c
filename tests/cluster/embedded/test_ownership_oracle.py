"""Who owns what after random requests, held to the real API server.

Each step starts from the object that the server itself has, so that neither defaults nor earlier mistakes play a part.
"""

import copy
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.embedded import oracle
from tests.cluster.embedded.oracle import Client, Json, Kind, query
from tests.conftest import SEED, SOAK
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded import fieldsets, managers
from tidelog.engine.cluster.embedded.merging import compare
from tidelog.engine.cluster.embedded.ownership import AppliedError, FieldConflictsError, apply, update
from tidelog.engine.cluster.embedded.registry import facts, schema_of_kind
from tidelog.engine.cluster.embedded.schema import Schema
from tidelog.engine.objects.kube import group_of
from tidelog.engine.objects.managed_fields import union

PARTS = 4
SEQUENCES = 2_000 // PARTS if SOAK else 100 // PARTS
STEPS = 8
NOW = "2030-01-01T00:00:00Z"
KINDS = (*oracle.BUILT_IN, oracle.CUSTOM, oracle.CUSTOM, oracle.CUSTOM)
MANAGERS = ("a", "b", "c", "kubectl")
_metadata = ("resourceVersion", "generation", "managedFields", "creationTimestamp", "uid")


@pytest.fixture(scope="session")
def custom(kubernetes: Servers) -> None:
    kubernetes.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", oracle.definition())
    until = time.monotonic() + 20
    while kubernetes.request("GET", oracle.CUSTOM.path("default")).status != 200:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture
def client(kubernetes: Servers) -> Iterator[Client]:
    with Client(kubernetes) as made:
        yield made


def schema_of(kind: Kind) -> Schema:
    if not kind.is_custom:
        return schema_of_kind(group_of(kind.api_version), kind.api_version.rpartition("/")[2], kind.kind)
    text = {"type": "string"}
    meta = {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    properties = {**oracle.CUSTOM_SCHEMA["properties"], "apiVersion": text, "kind": text, "metadata": meta}
    return Schema({**oracle.CUSTOM_SCHEMA, "properties": properties}, facts().types)


class Sequence:
    """Random requests on one object, one after another."""

    def __init__(self, client: Client, namespace: str, kind: Kind, chance: random.Random, name: str) -> None:
        self.client, self.kind, self.chance = client, kind, chance
        self.schema = schema_of(kind)
        self.name = name
        self.collection = kind.path(namespace)
        self.path = kind.path(namespace, name)
        self.live: Json | None = None
        self.reset: Json = {"f:status": {}} if kind.status else {}
        self.steps: list[Any] = []

    def run(self) -> None:
        try:
            for _ in range(STEPS):
                self.step()
        except Exception as error:
            error.add_note("\n".join(map(str, self.steps[-3:])))
            error.add_note(f"live: {self.live}")
            raise

    def step(self) -> None:
        if self.live is None:
            choice = self.chance.choice([self.apply, self.create])
        else:
            status = [self.apply_status, self.replace_status] if self.kind.status else []
            choice = self.chance.choice([self.apply] * 4 + [self.replace] * 2 + [self.reset_managers, *status])
        choice()
        answer = self.client.request("GET", self.path)
        self.live = answer.body if answer.status == 200 else None

    def apply(self) -> None:
        applied = self.kind.made(self.chance, self.name)
        self.applied(applied, self.path, "", self.reset)

    def apply_status(self) -> None:
        assert self.kind.status
        applied = {
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "metadata": {"name": self.name},
            **self.kind.status(self.chance),
        }
        reset: Json = {"f:spec": {}}
        self.applied(applied, self.path + "/status", "status", reset)

    def applied(self, applied: Json, path: str, subresource: str, reset: Json) -> None:
        manager, force = self.chance.choice(MANAGERS), self.chance.random() < 0.4
        asked = query(path, fieldManager=manager, force=str(force).lower())
        answer = self.client.request("PATCH", asked, applied, oracle.APPLY)
        self.steps += ["apply", asked, applied, answer]
        before = copy.deepcopy((self.live, applied))
        found: Any
        try:
            found = apply(
                self.live,
                applied,
                self.schema,
                manager=manager,
                force=force,
                now=NOW,
                subresource=subresource,
                reset=reset,
            )
        except FieldConflictsError as error:
            found = error
        except AppliedError as error:
            found = error
        assert before == (self.live, applied), "changed in place"
        if answer.status in (200, 201):
            assert isinstance(found, dict), found
            self.check_merged(found, answer.body)
            self.check_managers(found, answer.body)
        elif answer.status == 409:
            assert isinstance(found, FieldConflictsError), found
            check_conflicts(found, answer.body)
        elif answer.status == 422:
            assert isinstance(found, dict), found
        else:
            assert isinstance(found, AppliedError), (answer, found)
            assert answer.body["message"] == str(found)

    def create(self) -> None:
        manager = self.chance.choice("uvw")
        made = self.kind.made(self.chance, self.name)
        answer = self.client.request("POST", query(self.collection, fieldManager=manager), made)
        self.steps += ["create", made, answer]
        if answer.status == 201:
            self.updated(manager, as_owned(made, answer.body), answer.body)

    def replace(self) -> None:
        assert self.live
        manager = self.chance.choice("uvw")
        new = {**self.live, **self.kind.made(self.chance, self.name)}
        new["metadata"] = {**self.live["metadata"], **new["metadata"]}
        del new["metadata"]["managedFields" if "managedFields" in new["metadata"] else "name"]
        new["metadata"]["name"] = self.name
        answer = self.client.request("PUT", query(self.path, fieldManager=manager), new)
        self.steps += ["replace", new, answer]
        if answer.status == 200:
            self.updated(manager, as_owned(new, answer.body), answer.body)

    def replace_status(self) -> None:
        assert self.live
        assert self.kind.status
        manager = self.chance.choice("uvw")
        new = {**self.live, **self.kind.status(self.chance)}
        answer = self.client.request("PUT", query(self.path + "/status", fieldManager=manager), new)
        self.steps += ["replace status", new, answer]
        if answer.status == 200:
            self.updated(manager, as_owned(new, answer.body), answer.body, "status", {"f:spec": {}})

    def reset_managers(self) -> None:
        assert self.live
        manager = self.chance.choice("uvw")
        entries = self.live["metadata"].get("managedFields", [])
        sent = self.chance.choice([[], [{}], entries[:1], [{"manager": "x", "operation": "Nonsense"}]])
        body = self.chance.choice([{}, {"labels": {"changed": self.chance.choice("123")}}])
        patch = {"metadata": {**body, "managedFields": sent}}
        answer = self.client.request("PATCH", query(self.path, fieldManager=manager), patch, oracle.MERGE)
        self.steps += ["reset", patch, answer]
        if answer.status == 200:
            metadata = {**answer.body["metadata"], "managedFields": sent}
            self.updated(manager, {**answer.body, "metadata": metadata}, answer.body)

    def updated(self, manager: str, new: Json, answer: Json, subresource: str = "", reset: Json | None = None) -> None:
        before = copy.deepcopy((self.live, new))
        found = update(
            self.live,
            new,
            self.schema,
            manager=manager,
            now=NOW,
            subresource=subresource,
            reset=self.reset if reset is None else reset,
        )
        assert before == (self.live, new), "changed in place"
        self.check_managers(found, answer)

    def check_managers(self, found: Json, answer: Json) -> None:
        ours, theirs = (each["metadata"].get("managedFields", []) for each in (found, answer))
        assert timeless(ours) == timeless(theirs)
        assert managers.encoded(managers.decoded(theirs)) == theirs

    def check_merged(self, found: Json, answer: Json) -> None:
        """What we have merged is what the server has; what it has beyond that are defaults, which nobody owns."""
        merged, stored = (written(unset(each), is_struct=not self.kind.is_custom) for each in (found, answer))
        removed, modified, added = compare(self.schema, merged, stored)
        assert not removed
        assert not modified
        owned: Json = {}
        for each in managers.of_live(answer).values():
            owned = union(owned, each.fields)
        assert not fieldsets.intersection(added, owned)


def as_owned(sent: Json, answer: Json) -> Json:
    """What the server has when it asks who owns what: the answer, less what comes later."""
    new = copy.deepcopy(answer)
    new["metadata"].pop("managedFields", None)
    if answer["kind"] == "Service":
        for name in {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} - set(sent["spec"]):
            new["spec"].pop(name, None)
    if sent.get("rules") == []:  # null once it is stored
        new["rules"] = []
    return new


def unset(obj: Json) -> Json:
    """Less what the server itself sets."""
    metadata = {name: each for name, each in obj["metadata"].items() if name not in _metadata}
    return {**obj, "metadata": metadata}


def written(obj: Json, *, is_struct: bool) -> Json:
    """As Go writes its structs: without what is empty. Of a custom object, only the metadata is one."""
    if is_struct:
        return dict(without_empty(obj))
    pruned = copy.deepcopy(obj)
    known = (pruned.get("spec") or {}).get("open", {}).get("known")
    for name in "xyz" if known else "":  # kept unknown for who owns what, and yet not stored
        known.pop(name, None)
    return {**pruned, "metadata": without_empty(obj["metadata"])}


def without_empty(value: Any) -> Any:
    if isinstance(value, list):
        return [without_empty(each) for each in value]
    if not isinstance(value, dict):
        return value
    less = {name: without_empty(each) for name, each in value.items()}
    return {name: each for name, each in less.items() if each}


def timeless(entries: list[Json]) -> list[Any]:
    """Entries less their times, but with whether there is one."""
    found = [{**entry, "time": "time" in entry} for entry in entries]
    return sorted(found, key=lambda entry: fieldsets.go_json({**entry, "fieldsV1": {}}))


def check_conflicts(found: FieldConflictsError, answer: Json) -> None:
    theirs = answer["details"]["causes"]
    assert sorted(map(str, found.causes())) == sorted(map(str, theirs))
    # The server goes through managers in the order of a Go map.
    assert sorted(found.message.split("\n")) == sorted(answer["message"].split("\n"))


@pytest.mark.slow
@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("part", range(PARTS))
def test_who_owns_what_after_random_requests_is_as_on_the_real_server(
    client: Client, namespace: str, custom: None, request: pytest.FixtureRequest, part: int
) -> None:
    for number in range(SEQUENCES):
        chance = random.Random(f"{request.config.stash[SEED]} {part} {number}")
        kind = chance.choice(KINDS)
        sequence = Sequence(client, namespace, kind, chance, f"s{number}")
        sequence.run()
