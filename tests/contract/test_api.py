"""What a Kubernetes API promises on the wire, beyond what the port asks of it: the real one, and the embedded one."""

import base64
import http.client
import json
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest

from tests.servers import embedded_servers
from tests.servers.embedded_servers import EmbeddedServers
from tests.servers.fixtures import new_namespace
from tests.servers.kubernetes_servers import OwnServers, Servers

LIMIT_S = 30
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ENDING = "[bcdfghjklmnpqrstvwxz2456789]{5}"
"""Of a generated name: without letters that make words."""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    with embedded_servers.start(tmp_path_factory.mktemp("embedded")) as servers:
        yield servers


@pytest.fixture(params=["real", "embedded"])
def api(request: pytest.FixtureRequest) -> Servers:
    """The servers that are asked."""
    found: Servers = request.getfixturevalue("kubernetes" if request.param == "real" else "embedded")
    return found


@pytest.fixture
def space(api: Servers) -> Iterator[str]:
    """A namespace of the test's own."""
    with new_namespace(api) as name:
        yield name


@pytest.fixture(params=["real", "embedded"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OwnServers | EmbeddedServers]:
    """Servers that may be stopped and started."""
    if request.param == "real":
        yield request.getfixturevalue("own_servers")
        return
    with embedded_servers.start(tmp_path / "servers") as servers:
        yield servers


class Watched(NamedTuple):
    """A watch that has ended in order."""

    events: list[Any]
    took_s: float

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(one["type"], one["object"]["metadata"].get("name", "")) for one in self.events]


def watch(api: Servers, path: str, **query: str) -> Watched:
    """All that a watch tells until the server ends it."""
    where = urlsplit(api.url)
    tls = ssl.create_default_context(cafile=str(api.authority.certificate_file))
    assert where.hostname
    connection = http.client.HTTPSConnection(where.hostname, where.port, context=tls, timeout=LIMIT_S)
    began = time.monotonic()
    try:
        headers = {"Authorization": f"Bearer {api.token}"}
        connection.request("GET", f"{path}?{urlencode({'watch': 'true', **query})}", headers=headers)
        response = connection.getresponse()
        lines = response.read().splitlines()
        assert response.status == 200, lines
    finally:
        connection.close()
    return Watched([json.loads(line) for line in lines], time.monotonic() - began)


class Raw(NamedTuple):
    """An answer as it came."""

    status: int
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


def asked(api: Servers, method: str, path: str, body: bytes | None = None, **headers: str) -> Raw:
    """A request of the administrator, byte by byte."""
    where = urlsplit(api.url)
    tls = ssl.create_default_context(cafile=str(api.authority.certificate_file))
    assert where.hostname
    connection = http.client.HTTPSConnection(where.hostname, where.port, context=tls, timeout=LIMIT_S)
    said = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json", "Accept": "application/json"}
    said |= {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, body, {name: value for name, value in said.items() if value})
        response = connection.getresponse()
        return Raw(response.status, response.read())
    finally:
        connection.close()


def config_maps(space: str, name: str = "") -> str:
    return f"/api/v1/namespaces/{space}/configmaps" + (f"/{name}" if name else "")


def done(api: Servers, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
    answer = api.request(method, path, body, content_type)
    assert answer.status in (200, 201), answer
    return answer.body


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


# ------------------------------------------------------------------------------------------------ generated names


def test_a_name_is_generated(api: Servers, space: str) -> None:
    made = [done(api, "POST", config_maps(space), {"metadata": {"generateName": "one-"}})["metadata"] for _ in range(3)]
    assert len({one["name"] for one in made}) == 3
    for one in made:
        assert re.fullmatch(f"one-{ENDING}", one["name"]), one
        assert one["generateName"] == "one-"
        assert done(api, "GET", config_maps(space, one["name"]))["metadata"] == one
    dry = done(api, "POST", config_maps(space) + "?dryRun=All", {"metadata": {"generateName": "dry-"}})["metadata"]
    assert re.fullmatch(f"dry-{ENDING}", dry["name"])
    assert api.request("GET", config_maps(space, dry["name"])).status == 404


def test_a_name_that_is_given_counts_before_one_that_is_generated(api: Servers, space: str) -> None:
    made = done(api, "POST", config_maps(space), {"metadata": {"generateName": "one-", "name": "two"}})["metadata"]
    assert (made["name"], made["generateName"]) == ("two", "one-")
    again = api.request("POST", config_maps(space), {"metadata": {"generateName": "one-", "name": "two"}})
    assert (again.status, again.body["reason"]) == (409, "AlreadyExists")


def test_what_would_be_too_long_with_its_ending_is_cut(api: Servers, space: str) -> None:
    made = done(api, "POST", config_maps(space), {"metadata": {"generateName": "x" * 70}})["metadata"]
    assert re.fullmatch(f"x{{58}}{ENDING}", made["name"])
    assert made["generateName"] == "x" * 70


@pytest.mark.parametrize(
    ("metadata", "fields"),
    [
        ({}, ["metadata.name"]),
        ({"generateName": "F!"}, ["metadata.generateName", "metadata.name"]),
        ({"generateName": "-"}, ["metadata.generateName", "metadata.name"]),
        ({"generateName": "x" * 300}, ["metadata.generateName"]),
    ],
)
def test_what_gives_no_name_is_refused(api: Servers, space: str, metadata: Any, fields: list[str]) -> None:
    answer = api.request("POST", config_maps(space), {"metadata": metadata})
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert sorted(cause["field"] for cause in answer.body["details"]["causes"]) == fields


# ----------------------------------------------------------------------------------------------- several versions


def schema(**fields: Any) -> Any:
    return {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}}


@pytest.fixture
def cakes(api: Servers) -> Iterator[str]:
    """A group with a kind in two versions, which share the field `shared`; kept in v1."""
    group, text = f"g{uuid.uuid4().hex[:8]}.example.com", {"type": "string"}
    new = schema(
        shared=text,
        new={"type": "string", "default": "n"},
        map={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    )
    old = schema(shared=text, old={"type": "string", "default": "o"}, map={"type": "object", "properties": {"a": text}})
    spec = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": "cakes", "kind": "Cake"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": new},
            {"name": "v1beta1", "served": True, "storage": False, "schema": old},
        ],
    }
    done(api, "POST", DEFINITIONS, {"metadata": {"name": f"cakes.{group}"}, "spec": spec})
    for version in ("v1", "v1beta1"):
        until(lambda version=version: api.request("GET", f"/apis/{group}/{version}/cakes").status == 200)  # type: ignore[misc]
    yield group
    api.request("DELETE", f"{DEFINITIONS}/cakes.{group}")


def test_an_object_is_read_in_each_version_with_what_that_has(api: Servers, space: str, cakes: str) -> None:
    new, old = (f"/apis/{cakes}/{version}/namespaces/{space}/cakes" for version in ("v1", "v1beta1"))
    began = done(api, "GET", new)["metadata"]["resourceVersion"]
    spec = {"shared": "1", "old": "2", "map": {"a": "3"}}
    cake = {"apiVersion": f"{cakes}/v1beta1", "kind": "Cake", "metadata": {"name": "a"}, "spec": spec}
    made = done(api, "POST", f"{old}?fieldManager=m", cake)
    assert (made["apiVersion"], made["spec"]) == (f"{cakes}/v1beta1", {"shared": "1", "map": {"a": "3"}})
    assert done(api, "GET", f"{old}/a") == made
    as_new = done(api, "GET", f"{new}/a")
    assert (as_new["apiVersion"], as_new["spec"]) == (f"{cakes}/v1", {"shared": "1", "new": "n", "map": {"a": "3"}})
    assert as_new["metadata"] == made["metadata"]
    (owned,) = made["metadata"]["managedFields"]
    assert (owned["apiVersion"], owned["fieldsV1"]["f:spec"].keys()) == (
        f"{cakes}/v1beta1",
        {".", "f:shared", "f:old", "f:map"},
    )

    patched = done(api, "PATCH", f"{new}/a", {"spec": {"new": "x", "map": {"b": "y"}}}, MERGE)
    assert patched["spec"] == {"shared": "1", "new": "x", "map": {"a": "3", "b": "y"}}
    as_old = done(api, "GET", f"{old}/a")
    assert as_old["spec"] == {"shared": "1", "map": {"a": "3"}}
    assert as_old["metadata"]["generation"] == 2
    assert [item["spec"] for item in done(api, "GET", new)["items"]] == [patched["spec"]]
    assert [item["spec"] for item in done(api, "GET", old)["items"]] == [as_old["spec"]]

    for path, version, specs in ((new, "v1", [as_new["spec"], patched["spec"]]), (old, "v1beta1", [made["spec"]] * 2)):
        seen = watch(api, path, resourceVersion=began, timeoutSeconds="1")
        assert seen.told == [("ADDED", "a"), ("MODIFIED", "a")]
        assert [one["object"]["spec"] for one in seen.events] == specs
        assert {one["object"]["apiVersion"] for one in seen.events} == {f"{cakes}/{version}"}

    # Whoever writes what was read in the old version takes from the object what that has not.
    written = done(api, "PUT", f"{old}/a", {**as_old, "spec": {**as_old["spec"], "shared": "2"}})
    assert written["spec"] == {"shared": "2", "map": {"a": "3"}}
    assert done(api, "GET", f"{new}/a")["spec"] == {"shared": "2", "new": "n", "map": {"a": "3"}}
    assert done(api, "DELETE", f"{old}/a")["details"]["kind"] == "cakes"
    assert api.request("GET", f"{new}/a").status == 404


def test_a_body_of_another_version_than_the_path_is_refused(api: Servers, space: str, cakes: str) -> None:
    cake = {"apiVersion": f"{cakes}/v1beta1", "kind": "Cake", "metadata": {"name": "a"}}
    answer = api.request("POST", f"/apis/{cakes}/v1/namespaces/{space}/cakes", cake)
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert answer.body["message"] == (
        f"the API version in the data ({cakes}/v1beta1) does not match the expected API version ({cakes}/v1)"
    )


# ------------------------------------------------------------------------------------------------------- deletion


class Family:
    """An owner, and three that it owns: one with a finalizer, one without, and one that has another owner too."""

    def __init__(self, api: Servers, space: str) -> None:
        self.api, self.space = api, space
        owner, other = self.make("owner"), self.make("other")
        self.make("held", owner, finalizers=["example.com/one"])
        self.make("free", owner)
        self.make("shared", owner, other)

    def make(self, name: str, *owners: Any, **metadata: Any) -> Any:
        references = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "blockOwnerDeletion": True,
                "name": one["name"],
                "uid": one["uid"],
            }
            for one in (owner["metadata"] for owner in owners)
        ]
        body = {"metadata": {"name": name, "ownerReferences": references, **metadata}}
        return done(self.api, "POST", config_maps(self.space), body)

    def delete(self, propagation: str) -> Any:
        return done(self.api, "DELETE", config_maps(self.space, "owner"), {"propagationPolicy": propagation})

    def there(self) -> dict[str, Any]:
        """Who is there: whether it is going, its finalizers and the names of its owners."""
        found = {}
        for item in done(self.api, "GET", config_maps(self.space))["items"]:
            metadata = item["metadata"]
            owners = [one["name"] for one in metadata.get("ownerReferences") or ()]
            found[metadata["name"]] = ("deletionTimestamp" in metadata, metadata.get("finalizers"), owners)
        found.pop("kube-root-ca.crt", None)
        return found

    def let_go(self) -> None:
        done(self.api, "PATCH", config_maps(self.space, "held"), {"metadata": {"finalizers": None}}, MERGE)


def test_who_is_deleted_in_the_foreground_waits_for_what_it_owns(api: Servers, space: str) -> None:
    family = Family(api, space)
    told = family.delete("Foreground")
    assert told["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert told["metadata"]["deletionGracePeriodSeconds"] == 0
    waiting = {
        "owner": (True, ["foregroundDeletion"], []),
        "other": (False, None, []),
        "held": (True, ["example.com/one"], ["owner"]),
        "shared": (False, None, ["other"]),
    }
    until(lambda: family.there() == waiting)
    family.let_go()
    until(lambda: family.there().keys() == {"other", "shared"})


def test_who_is_deleted_in_the_background_is_gone_before_what_it_owns(api: Servers, space: str) -> None:
    family = Family(api, space)
    told = family.delete("Background")
    assert (told["kind"], told["status"], told["details"]["name"]) == ("Status", "Success", "owner")
    assert "owner" not in family.there()
    left = {
        "other": (False, None, []),
        "held": (True, ["example.com/one"], ["owner"]),
        "shared": (False, None, ["other"]),
    }
    until(lambda: family.there() == left)
    family.let_go()
    until(lambda: family.there().keys() == {"other", "shared"})


# -------------------------------------------------------------------------------------------------------- watches


def test_a_watch_ends_when_its_time_is_over(api: Servers, space: str) -> None:
    began = done(api, "GET", config_maps(space))["metadata"]["resourceVersion"]
    done(api, "POST", config_maps(space), {"metadata": {"name": "a"}})
    seen = watch(api, config_maps(space), resourceVersion=began, timeoutSeconds="2")
    assert seen.told == [("ADDED", "a")]
    assert 1.5 < seen.took_s < 10
    answer = api.request("GET", f"{config_maps(space)}?watch=1&timeoutSeconds=x")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")


@pytest.mark.slow
def test_a_watch_is_told_how_far_it_has_come(api: Servers, space: str) -> None:
    """By a bookmark before it ends: a change elsewhere is not seen, and its version is."""
    began = done(api, "GET", config_maps(space))["metadata"]["resourceVersion"]
    with new_namespace(api) as elsewhere:
        made = done(api, "POST", config_maps(elsewhere), {"metadata": {"name": "a"}})
        asked = {"resourceVersion": began, "timeoutSeconds": "8"}
        seen = watch(api, config_maps(space), **asked, allowWatchBookmarks="true")
    assert seen.events, "a bookmark"
    for event in seen.events:
        assert event.keys() == {"type", "object"}
        assert event["type"] == "BOOKMARK"
        assert {name: event["object"][name] for name in ("apiVersion", "kind")} == {
            "apiVersion": "v1",
            "kind": "ConfigMap",
        }
        assert event["object"]["metadata"].keys() == {"resourceVersion"}
    reached = seen.events[-1]["object"]["metadata"]["resourceVersion"]
    assert int(reached) >= int(made["metadata"]["resourceVersion"])
    done(api, "POST", config_maps(space), {"metadata": {"name": "b"}})
    assert watch(api, config_maps(space), resourceVersion=reached, timeoutSeconds="1").told == [("ADDED", "b")]


def test_a_watch_that_asks_for_no_bookmark_has_none(api: Servers, space: str) -> None:
    began = done(api, "GET", config_maps(space))["metadata"]["resourceVersion"]
    assert watch(api, config_maps(space), resourceVersion=began, timeoutSeconds="4").events == []


def test_a_watch_begins_with_what_is_there_and_a_bookmark_after_that(api: Servers, space: str) -> None:
    for name in ("a", "b"):
        done(api, "POST", config_maps(space), {"metadata": {"name": name}})
    asked = {"sendInitialEvents": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "1"}
    fields = "metadata.name!=kube-root-ca.crt"
    seen = watch(api, config_maps(space), **asked, resourceVersionMatch="NotOlderThan", fieldSelector=fields)
    assert sorted(seen.told[:2]) == [("ADDED", "a"), ("ADDED", "b")]
    assert seen.events[2]["type"] == "BOOKMARK"
    assert seen.events[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    answer = api.request("GET", f"{config_maps(space)}?watch=1&{urlencode(asked)}")
    assert (answer.status, answer.body["reason"]) == (422, "Invalid")
    assert [cause["field"] for cause in answer.body["details"]["causes"]] == ["resourceVersionMatch"]


@pytest.mark.slow
def test_what_the_server_has_forgotten_is_told_as_gone(own: OwnServers | EmbeddedServers) -> None:
    """To who watches from there, and to who goes on with a list; each may begin anew."""
    with new_namespace(own) as space:
        made = done(own, "POST", config_maps(space), {"metadata": {"name": "a"}})["metadata"]["resourceVersion"]
        done(own, "POST", config_maps(space), {"metadata": {"name": "b"}})
        token = done(own, "GET", f"{config_maps(space)}?limit=1")["metadata"]["continue"]
        for value in "123":
            done(own, "PATCH", config_maps(space, "a"), {"data": {"value": value}}, MERGE)
        only = {"fieldSelector": "metadata.name=a"}
        seen = watch(own, config_maps(space), resourceVersion=made, timeoutSeconds="1", **only)
        assert seen.told == [("MODIFIED", "a")] * 3
        own.forget()
        until(lambda: own.request("GET", config_maps(space)).status == 200)

        (event,) = watch(own, config_maps(space), resourceVersion=made, timeoutSeconds="10").events
        told = event["object"]
        assert (event["type"], told["kind"], told["status"]) == ("ERROR", "Status", "Failure")
        assert (told["code"], told["reason"]) == (410, "Expired")
        assert re.fullmatch(rf"too old resource version: {made} \(\d+\)", told["message"])
        answer = own.request("GET", f"{config_maps(space)}?{urlencode({'limit': 1, 'continue': token})}")
        assert (answer.status, answer.body["reason"]) == (410, "Expired")
        assert answer.body["message"].startswith(
            "The provided continue parameter is too old to display a consistent list"
        )

        listed = done(own, "GET", config_maps(space))
        assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "b", "kube-root-ca.crt"]
        done(own, "PATCH", config_maps(space, "a"), {"data": {"value": "4"}}, MERGE)
        version = listed["metadata"]["resourceVersion"]
        assert watch(own, config_maps(space), resourceVersion=version, timeoutSeconds="1").told == [("MODIFIED", "a")]


# ------------------------------------------------------------------------------------------------------ discovery


def test_what_is_served_is_told_as_by_the_real_server(kubernetes: Servers, embedded: EmbeddedServers) -> None:
    """Every group, version and resource of the built-in kinds, but for where the server is reached."""
    groups = [group for group in done(embedded, "GET", "/apis")["groups"] if not group["name"].endswith("example.com")]
    paths = ["/api", "/api/v1", *(f"/apis/{group['name']}" for group in groups)]
    paths += [f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"]]
    assert len(paths) > 40
    for path in paths:
        real, ours = (done(each, "GET", path) for each in (kubernetes, embedded))
        for one in (real, ours):
            one.pop("serverAddressByClientCIDRs", None)
        assert ours == real, path


@pytest.mark.parametrize("accept", ["application/json", AGGREGATED])
def test_the_groups_are_told_in_their_order(kubernetes: Servers, embedded: EmbeddedServers, accept: str) -> None:
    """In both forms of discovery; those of custom kinds, which other tests make meanwhile, are left out."""

    def is_built_in(group: Any) -> bool:
        name = group.get("name") or group.get("metadata", {}).get("name") or ""
        return "." not in name or name.endswith(".k8s.io")

    def told(api: Servers, path: str) -> Any:
        body = api.request("GET", path, accept=accept).body
        return [one for one in body.get("groups") or body.get("items") or [body] if is_built_in(one)]

    assert told(embedded, "/apis") == told(kubernetes, "/apis")
    if accept == AGGREGATED:
        assert told(embedded, "/api") == told(kubernetes, "/api")


def test_a_custom_kind_is_told_in_each_of_its_versions(api: Servers, cakes: str) -> None:
    names = ("name", "singularName", "namespaced", "kind", "verbs", "storageVersionHash")
    for version in ("v1", "v1beta1"):
        (one,) = done(api, "GET", f"/apis/{cakes}/{version}")["resources"]
        assert one.keys() == set(names)
        assert (one["name"], one["singularName"], one["kind"], one["namespaced"]) == ("cakes", "cake", "Cake", True)
        assert one["verbs"] == ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
    groups = api.request("GET", "/apis", accept=AGGREGATED).body["items"]
    (aggregated,) = [one for one in groups if one["metadata"]["name"] == cakes]
    for version in aggregated["versions"]:
        (one,) = version["resources"]
        assert one["verbs"] == ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
    group = done(api, "GET", f"/apis/{cakes}")
    assert group["preferredVersion"]["version"] == "v1"
    assert [each["version"] for each in group["versions"]] == ["v1", "v1beta1"]


# ---------------------------------------------------------------------------------------------------------- pages


def test_a_token_that_continues_nothing_is_refused(api: Servers, space: str) -> None:
    for token in ("nonsense", base64.urlsafe_b64encode(b"{}").decode()):
        answer = api.request("GET", f"{config_maps(space)}?limit=1&continue={token}")
        assert (answer.status, answer.body["reason"]) == (400, "BadRequest"), answer
        assert "continue key is not valid" in answer.body["message"]


def test_a_token_says_a_version_and_a_place_and_goes_on_there_in_any_list(api: Servers, space: str) -> None:
    for name in "abc":
        done(api, "POST", config_maps(space), {"metadata": {"name": name}})
    token = done(api, "GET", f"{config_maps(space)}?limit=1")["metadata"]["continue"]
    said = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    assert (said["v"], said["start"]) == ("meta.k8s.io/v1", "/a\0")

    def names(path: str, token: str) -> list[str]:
        items = done(api, "GET", f"{path}?{urlencode({'limit': 2, 'continue': token})}")["items"]
        return [item["metadata"]["name"] for item in items]

    assert names(config_maps(space), token) == ["b", "c"]
    assert names(f"/api/v1/namespaces/{space}/serviceaccounts", token) == ["default"]
    assert names(f"/api/v1/namespaces/{space}/secrets", token) == []
    assert names("/api/v1/namespaces", token)[0] == "default"
    fields = urlencode({"limit": 1, "fieldSelector": "metadata.name!=none"})
    token = done(api, "GET", f"/api/v1/configmaps?{fields}")["metadata"]["continue"]
    assert names("/api/v1/configmaps", token) == ["kube-root-ca.crt", "kube-root-ca.crt"]


# ----------------------------------------------------------------------------------------------------- controllers


def test_a_suspended_job_says_so(api: Servers, space: str) -> None:
    jobs, pods = f"/apis/batch/v1/namespaces/{space}/jobs", f"/api/v1/namespaces/{space}/pods"
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}

    def status(name: str) -> Any:
        found = done(api, "GET", f"{jobs}/{name}").get("status") or {}
        for condition in found.get("conditions") or ():
            assert condition.pop("lastProbeTime")
            assert condition.pop("lastTransitionTime")
        return found

    def suspension(*, holds: bool) -> Any:
        told = ("JobSuspended", "Job suspended") if holds else ("JobResumed", "Job resumed")
        return {"type": "Suspended", "status": str(holds), "reason": told[0], "message": told[1]}

    idle = {"ready": 0, "terminating": 0, "uncountedTerminatedPods": {}}
    done(api, "POST", jobs, {"metadata": {"name": "a"}, "spec": {"suspend": True, "template": template}})
    until(lambda: status("a") == {**idle, "conditions": [suspension(holds=True)]})
    done(api, "PATCH", f"{jobs}/a", {"spec": {"suspend": False}}, MERGE)
    until(lambda: "active" in status("a"))
    began = status("a")["startTime"]
    assert status("a") == {**idle, "active": 1, "startTime": began, "conditions": [suspension(holds=False)]}
    done(api, "PATCH", f"{jobs}/a", {"spec": {"suspend": True}}, MERGE)
    until(lambda: status("a") == {**idle, "startTime": began, "conditions": [suspension(holds=True)]})
    assert done(api, "GET", pods)["items"] == []
    time.sleep(1.1)  # times are of whole seconds
    done(api, "PATCH", f"{jobs}/a", {"spec": {"suspend": False}}, MERGE)
    until(lambda: "active" in status("a"))
    assert status("a")["startTime"] > began


def test_the_authority_is_published_in_each_namespace_and_put_right(api: Servers, space: str) -> None:
    path, authority = config_maps(space, "kube-root-ca.crt"), api.authority.certificate_file.read_text()

    def published() -> Any:
        return api.request("GET", path).body.get("data")

    until(lambda: published() == {"ca.crt": authority})
    done(api, "PATCH", path, {"data": {"ca.crt": "none", "more": "1"}}, MERGE)
    until(lambda: published() == {"ca.crt": authority})
    done(api, "DELETE", path)
    until(lambda: published() == {"ca.crt": authority})


# ---------------------------------------------------------------------------------------------------------- scales


class Scaled:
    """A Deployment of nothing, whose Scale is written."""

    def __init__(self, api: Servers, space: str) -> None:
        self.api, self.space = api, space
        self.path = f"/apis/apps/v1/namespaces/{space}/deployments/web"

    def applied(self, manager: str, **spec: Any) -> Any:
        return self.api.request("PATCH", f"{self.path}?fieldManager={manager}", deployment(**spec), APPLY)

    def scale(self, manager: str, spec: Any, **query: str) -> Any:
        body = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": spec}
        asked = urlencode({"fieldManager": manager, **query})
        return self.api.request("PATCH", f"{self.path}/scale?{asked}", body, APPLY)

    def patch(self, manager: str, replicas: int) -> Any:
        path = f"{self.path}/scale?fieldManager={manager}"
        return done(self.api, "PATCH", path, {"spec": {"replicas": replicas}}, MERGE)

    def owners(self) -> set[tuple[str, str, str]]:
        """Who owns the replicas."""
        entries = done(self.api, "GET", self.path)["metadata"]["managedFields"]
        assert {entry["apiVersion"] for entry in entries} == {"apps/v1"}
        return {
            (entry["manager"], entry["operation"], entry.get("subresource", ""))
            for entry in entries
            if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        }


def refused(answer: Any, *conflicts: str) -> None:
    assert (answer.status, answer.body["reason"]) == (409, "Conflict"), answer
    assert [cause["message"] for cause in answer.body["details"]["causes"]] == list(conflicts)
    assert {cause["field"] for cause in answer.body["details"]["causes"]} == {".spec.replicas"}


def test_a_scale_that_is_applied_has_owners_and_conflicts(api: Servers, space: str) -> None:
    web = Scaled(api, space)
    assert web.applied("one", replicas=1).status == 201
    assert web.owners() == {("one", "Apply", "")}
    refused(web.scale("two", {"replicas": 2}), 'conflict with "one"')
    same = web.scale("two", {"replicas": 1})
    assert (same.status, same.body["spec"]) == (200, {"replicas": 1})
    assert web.owners() == {("one", "Apply", ""), ("two", "Apply", "scale")}
    forced = web.scale("two", {"replicas": 2}, force="true")
    assert (forced.status, forced.body["spec"]) == (200, {"replicas": 2})
    assert web.owners() == {("two", "Apply", "scale")}
    refused(web.applied("one", replicas=1), 'conflict with "two" with subresource "scale"')
    assert web.applied("one").status == 200
    assert web.scale("two", {}).body["spec"] == {}
    assert web.owners() == {("two", "Apply", "scale")}
    assert web.patch("three", 2)["spec"] == {"replicas": 2}
    assert web.owners() == {("three", "Update", "scale")}
    refused(web.scale("two", {"replicas": 1}), 'conflict with "three" with subresource "scale" using autoscaling/v1')
    assert web.scale("four", {"replicas": 1}, force="true", dryRun="All").body["spec"] == {"replicas": 1}
    assert web.owners() == {("three", "Update", "scale")}
    assert web.patch("four", 0)["spec"] == {}
    assert web.owners() == set()
    assert web.scale("two", {"replicas": 1, "x": 1}).status == 500
    assert web.scale("two", {"replicas": "1"}).status == 500
    assert web.scale("two", {"replicas": -1}).status == 422


def test_who_made_an_object_is_asked_when_its_scale_is_applied(api: Servers, space: str) -> None:
    web = Scaled(api, space)
    made = done(api, "POST", web.path.removesuffix("/web") + "?fieldManager=one", deployment(replicas=1))
    # Of a Scale that meets a controller's first write of the Deployment, the real server forgets who else owns it.
    until(lambda: "observedGeneration" in done(api, "GET", web.path).get("status", {}))
    refused(web.scale("two", {"replicas": 2}), 'conflict with "one" using autoscaling/v1')
    assert web.scale("two", {"replicas": 1}).status == 200
    assert web.owners() == {("one", "Update", ""), ("two", "Apply", "scale")}
    put = {"metadata": {"name": "web", "namespace": space}, "spec": {"replicas": 0}}
    done(api, "PUT", f"{web.path}/scale?fieldManager=three", put)
    assert web.owners() == set()
    assert done(api, "GET", web.path)["metadata"]["uid"] == made["metadata"]["uid"]


def deployment(**spec: Any) -> Any:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    whole = {"selector": {"matchLabels": labels}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": whole}


# ---------------------------------------------------------------------------------------------------- who may ask


BOB: Any = {"Impersonate_User": "bob"}


@pytest.mark.parametrize(
    ("method", "path", "verb", "what"),
    [
        ("GET", "/api/v1/nothing", "list", 'resource "nothing" in API group "" at the cluster scope'),
        ("GET", "/api/v1/nothing?watch=1", "watch", 'resource "nothing" in API group "" at the cluster scope'),
        ("HEAD", "/api/v1/nothing", "list", ""),
        (
            "POST",
            "/apis/x.example/v1/things",
            "create",
            'resource "things" in API group "x.example" at the cluster scope',
        ),
        ("GET", "/apis/apps/v9/things/a", "get", 'resource "things" in API group "apps" at the cluster scope'),
        ("DELETE", "/api/v1/namespaces/n/x", "deletecollection", 'resource "x" in API group "" in the namespace "n"'),
        ("PUT", "/api/v1/namespaces/n/x/y/z", "update", 'resource "x/z" in API group "" in the namespace "n"'),
        (
            "PATCH",
            "/api/v1/namespaces/n/status",
            "patch",
            'resource "namespaces/status" in API group "" in the namespace',
        ),
        ("GET", "/api/v1/watch/namespaces/n/x/y", "watch", 'resource "x" in API group "" in the namespace "n"'),
        ("GET", "/nothing", "get", 'path "/nothing"'),
        ("POST", "/version", "post", 'path "/version"'),
        ("DELETE", "/apis/", "delete", 'path "/apis/"'),
        ("GET", "/readyz/ping", "get", 'path "/readyz/ping"'),
    ],
)
def test_who_may_not_ask_is_not_told_whether_it_is_there(
    api: Servers, method: str, path: str, verb: str, what: str
) -> None:
    answer = asked(api, method, path, **BOB)
    assert answer.status == 403
    if method != "HEAD":
        assert answer.body["reason"] == "Forbidden"
        assert f'forbidden: User "bob" cannot {verb} {what}' in answer.body["message"]
        assert "details" in answer.body


def test_who_may_ask_is_told_that_it_is_not_there(api: Servers) -> None:
    answer = api.request("GET", "/api/v1/nothing")
    assert (answer.status, answer.body["reason"], answer.body["details"]) == (404, "NotFound", {})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_of_a_path_that_nobody_knows_a_line_of_text_is_told(api: Servers, cakes: str, method: str) -> None:
    texts = [
        *("/nothing", "/nothing/a", "/logs", "/openapi", "/readyz/nothing", "/apis/nothing", f"/apis/{cakes}/v9"),
        *(f"/apis/nothing.example.com/v1{more}" for more in ("", "/things", "/namespaces/default/things/a")),
        *(f"/apis/{cakes}/v1{more}" for more in ("/nothing", "/namespaces/default/nothing/a", "/cakes/a")),
    ]
    for path in texts:
        answer = asked(api, method, path)
        assert (answer.status, answer.content) == (404, b"" if method == "HEAD" else b"404 page not found\n"), path
    for path in ("/api/v2", "/api/v2/pods", "/api/v1/nothing", "/apis/apps/v9", "/apis/apps/v1/nothing", "/version/a"):
        answer = asked(api, method, path)
        assert answer.status == 404, path
        if method != "HEAD":
            assert (answer.body["kind"], answer.body["reason"], answer.body["details"]) == ("Status", "NotFound", {})
    deep = asked(api, method, f"/apis/{cakes}/v1/namespaces/default/cakes/a/b/c")
    if method in ("GET", "DELETE"):
        assert (deep.status, deep.body["message"]) == (404, f'cakes.{cakes} "a" not found')


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_documents_are_served_to_any_method(api: Servers, cakes: str, method: str) -> None:
    for path in ("/apis", "/apis/apps", f"/apis/{cakes}", f"/apis/{cakes}/v1", "/healthz", "/openapi/v3"):
        assert asked(api, method, path).status == 200, path
    for path in ("/version", "/api", "/api/v1", "/apis/apps/v1"):
        assert asked(api, method, path).status == 405, path


@pytest.mark.parametrize(
    ("path", "status"),
    [
        *((f"/api/v1/namespaces/default/configmaps{more}", 405) for more in ("", "/kube-root-ca.crt", "?watch=1")),
        *((path, 405) for path in ("/version", "/api", "/api/v1", "/apis/apps/v1")),
        *((path, 200) for path in ("/apis", "/apis/apps", "/healthz", "/openapi/v3", "/openapi/v2")),
    ],
)
def test_where_the_head_alone_may_be_asked_for(api: Servers, path: str, status: int) -> None:
    answer = asked(api, "HEAD", path)
    assert (answer.status, answer.content) == (status, b"")


# --------------------------------------------------------------------------------------------------------- lists


@pytest.fixture
def longer(api: Servers, space: str) -> Iterator[str]:
    """A namespace whose name goes on after that of the other."""
    path = f"/api/v1/namespaces/{space}-b"
    done(api, "POST", "/api/v1/namespaces", {"metadata": {"name": f"{space}-b"}})
    yield f"{space}-b"
    api.request("DELETE", path)


def test_a_list_of_all_namespaces_is_in_the_order_of_the_keys_in_etcd(api: Servers, space: str, longer: str) -> None:
    """Which end the name of the namespace with a slash, and a hyphen comes before that."""
    for namespace in (space, longer):
        for name in ("b", "a-b", "a"):
            body = {"metadata": {"name": name, "labels": {"of": space}}}
            done(api, "POST", config_maps(namespace), body)
    ordered = [(namespace, name) for namespace in (longer, space) for name in ("a", "a-b", "b")]
    path = f"/api/v1/configmaps?labelSelector=of%3D{space}"
    assert places(done(api, "GET", path)) == ordered
    paged, token = [], ""
    while True:
        page = done(api, "GET", f"{path}&limit=2&continue={token}")
        paged += places(page)
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert paged == ordered


def places(found: Any) -> list[tuple[str, str]]:
    return [(item["metadata"]["namespace"], item["metadata"]["name"]) for item in found["items"]]


# --------------------------------------------------------------------------------------------------- APIServices


SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"


def test_each_version_that_the_server_has_itself_has_an_apiservice(api: Servers) -> None:
    groups = [("", "v1")]
    for group in done(api, "GET", "/apis")["groups"]:
        is_own = "." not in group["name"] or group["name"].endswith(".k8s.io")
        if is_own and group["name"] != "apiregistration.k8s.io":  # which is where they are from
            groups += [(group["name"], version["version"]) for version in group["versions"]]
    found = {one["metadata"]["name"]: one for one in done(api, "GET", SERVICES)["items"]}
    assert len(groups) > 15
    for group, version in groups:
        one = found[f"{version}.{group}"]
        assert one["metadata"]["labels"] == {AUTOMANAGED: "onstart"}
        assert (one["spec"].get("group", ""), one["spec"]["version"]) == (group, version)
        (available,) = one["status"]["conditions"]
        assert available.pop("lastTransitionTime")
        assert available == {
            "type": "Available",
            "status": "True",
            "reason": "Local",
            "message": "Local APIServices are always available",
        }
        (owned,) = one["metadata"]["managedFields"]
        assert (owned["manager"], owned["operation"]) == ("kube-apiserver", "Update")


def test_what_a_table_of_apiservices_shows(api: Servers) -> None:
    told = asked(api, "GET", f"{SERVICES}/v1.apps", Accept="application/json;as=Table;v=v1;g=meta.k8s.io").body
    assert [column["name"] for column in told["columnDefinitions"]] == ["Name", "Service", "Available", "Age"]
    ((*cells, age),) = (row["cells"] for row in told["rows"])
    assert cells == ["v1.apps", "Local", "True"]
    assert re.fullmatch("[0-9]+[smhd][0-9smh]*", age)


def service_of(api: Servers, name: str) -> Any:
    answer = api.request("GET", f"{SERVICES}/{name}")
    return answer.body if answer.status == 200 else None


def test_apiservices_of_a_definition_come_and_go_with_its_versions(api: Servers, cakes: str) -> None:
    new, old = f"v1.{cakes}", f"v1beta1.{cakes}"
    until(lambda: service_of(api, new) is not None and service_of(api, old) is not None)
    for name, version in ((new, "v1"), (old, "v1beta1")):
        one = service_of(api, name)
        assert one["metadata"]["labels"] == {AUTOMANAGED: "true"}
        assert one["spec"] == {
            "group": cakes,
            "version": version,
            "groupPriorityMinimum": 1000,
            "versionPriority": 100,
        }
        assert one["status"]["conditions"][0]["reason"] == "Local"

    definition = done(api, "GET", f"{DEFINITIONS}/cakes.{cakes}")
    definition["spec"]["versions"][1]["served"] = False
    done(api, "PUT", f"{DEFINITIONS}/cakes.{cakes}", definition)
    until(lambda: service_of(api, old) is None)
    assert service_of(api, new) is not None
    done(api, "DELETE", f"{DEFINITIONS}/cakes.{cakes}")
    until(lambda: service_of(api, new) is None)


def test_an_apiservice_of_a_definition_is_put_right(api: Servers, cakes: str) -> None:
    name = f"v1.{cakes}"
    until(lambda: service_of(api, name) is not None)
    made = service_of(api, name)
    done(api, "DELETE", f"{SERVICES}/{name}")
    until(lambda: (service_of(api, name) or made)["metadata"]["uid"] != made["metadata"]["uid"])
    done(api, "PATCH", f"{SERVICES}/{name}", {"spec": {"versionPriority": 7}}, MERGE)
    until(lambda: service_of(api, name)["spec"] == made["spec"])
    # Who takes the label away has it.
    patch = {"metadata": {"labels": {AUTOMANAGED: None}}, "spec": {"versionPriority": 7}}
    done(api, "PATCH", f"{SERVICES}/{name}", patch, MERGE)
    done(api, "DELETE", f"{DEFINITIONS}/cakes.{cakes}")
    until(lambda: service_of(api, f"v1beta1.{cakes}") is None)
    assert service_of(api, name)["spec"]["versionPriority"] == 7
    done(api, "DELETE", f"{SERVICES}/{name}")
    assert service_of(api, name) is None


def test_one_that_says_it_is_looked_after_and_is_of_nothing_goes(api: Servers) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    spec = {"group": group, "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100}
    body = {"metadata": {"name": f"v1.{group}", "labels": {AUTOMANAGED: "true"}}, "spec": spec}
    done(api, "POST", SERVICES, body)
    until(lambda: service_of(api, f"v1.{group}") is None)


# ------------------------------------------------------------------------------------------- watches by their path


def test_a_path_may_ask_for_a_watch_by_itself(api: Servers, space: str) -> None:
    for name in "ab":
        done(api, "POST", config_maps(space), {"metadata": {"name": name}})
    path = f"/api/v1/watch/namespaces/{space}/configmaps"
    assert {name for _, name in watch(api, path, timeoutSeconds="1").told} == {"a", "b", "kube-root-ca.crt"}
    assert watch(api, f"{path}/a", timeoutSeconds="1").told == [("ADDED", "a")]
    assert watch(api, f"/api/v1/watch/namespaces/{space}", timeoutSeconds="1").told == [("ADDED", space)]
    answer = api.request("GET", f"{path}/a?fieldSelector=metadata.name%3Db")
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert answer.body["message"] == "fieldSelector metadata.name doesn't match requested name"
    for method, wrong, status in (
        ("POST", path, 405),
        ("GET", f"{path}/a/status", 404),
        ("GET", "/api/v1/watch/nothing", 404),
        ("GET", "/apis/authentication.k8s.io/v1/watch/tokenreviews", 404),
    ):
        assert api.request(method, wrong).status == status, wrong


# ----------------------------------------------------------------------------------------------- texts and sizes


BAD, MENDED = b"\xff\xe2\x82|\xed\xa0\x80|\\ud800|\\udc00\\u0041|\\ud83d\\ude00|\\\\ud800", "���|���|�|�A|😀|\\ud800"


def test_what_is_no_unicode_in_json_is_replaced(api: Servers, space: str) -> None:
    made = asked(api, "POST", config_maps(space), b'{"metadata": {"name": "a"}, "data": {"a": "' + BAD + b'"}}')
    assert (made.status, made.body["data"]) == (201, {"a": MENDED})
    patch = b'{"data": {"b": "' + BAD + b'"}}'
    for kind in (MERGE, "application/strategic-merge-patch+json"):
        patched = asked(api, "PATCH", config_maps(space, "a"), patch, Content_Type=kind)
        assert (patched.status, patched.body["data"]["b"]) == (200, MENDED)
    named = asked(api, "POST", config_maps(space), b'{"metadata": {"name": "a"}, "data": {"\xff": "a"}}')
    assert [cause["field"] for cause in named.body["details"]["causes"]] == ["data[�]"]


@pytest.mark.parametrize("text", [b"\xff", b"\\ud800", b"\\ud83d\\ude00"])
def test_what_is_no_unicode_in_an_apply_is_refused(api: Servers, space: str, text: bytes) -> None:
    """Which is read as YAML, that knows no halves of characters."""
    body = b'{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "' + text + b'"}}'
    answer = asked(api, "PATCH", config_maps(space, "a") + "?fieldManager=m", body, Content_Type=APPLY)
    assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
    assert answer.body["message"].startswith("error decoding YAML: error converting YAML to JSON: yaml: ")


def test_lines_and_headers_may_be_long(api: Servers, space: str) -> None:
    for size in (9_000, 900_000):
        assert asked(api, "GET", config_maps(space), X_Long="x" * size).status == 200
        selected = asked(api, "GET", f"{config_maps(space)}?labelSelector=a!={'x' * size}")
        assert (selected.status, selected.body["reason"]) == (400, "BadRequest")
    assert asked(api, "GET", config_maps(space), X_Long="x" * 1_200_000).status >= 400


# --------------------------------------------------------------------------------------- applies that are not right


FIVE = "&value.valueUnstructured{{Value:5}}"
UNFIT = "failed to create typed patch object (/; {0}): "
UNLIKE = "failed to convert new object (/a; {0}) to proper version: unable to convert unstructured object to {0}: "


@pytest.mark.parametrize(
    ("kind", "said", "message"),
    [
        ("ConfigMap", {"metadata": 5}, UNFIT + ".metadata: expected map, got &{{5}}"),
        ("ConfigMap", {"metadata": {"name": 5}}, UNFIT + ".metadata.name: expected string, got " + FIVE),
        (
            "ConfigMap",
            {"metadata": {"name": "a", "creationTimestamp": "z"}},
            UNLIKE + 'parsing time "z" as "2006-01-02T15:04:05Z07:00": cannot parse "z" as "2006"',
        ),
        (
            "Pod",
            {"spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "many"}}}]}},
            UNLIKE + "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("Pod", {"spec": {"priority": 1.5}}, UNLIKE + "cannot convert float64 to int32"),
    ],
)
def test_an_apply_with_a_value_of_another_type_is_the_servers_fault(
    api: Servers, space: str, kind: str, said: Any, message: str
) -> None:
    applied = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a"}, **said}
    path = f"/api/v1/namespaces/{space}/{kind.lower()}s/a?fieldManager=m"
    answer = api.request("PATCH", path, applied, APPLY)
    assert (answer.status, answer.body["message"]) == (500, message.format(f"/v1, Kind={kind}"))
    assert "reason" not in answer.body
