"""What every cluster behind the port promises; the real API server is the measure of the others."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import pytest

from tests.servers.fixtures import new_namespace
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.embedded.cluster import open_embedded
from tidelog.engine.cluster.embedded.connection import ADDRESS
from tidelog.engine.cluster.errors import (
    AlreadyExistsError,
    BadRequestError,
    ClusterError,
    ConflictError,
    FieldConflict,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    ServerError,
    UnknownKindError,
    failure_of,
)
from tidelog.engine.cluster.port import Cluster, Column, Identity, Kind, OnRequest, Preconditions, WatchEvent
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.names import ObjectKey

LIMIT_S = 30
MANAGER = "tidelog-test"

Requests: TypeAlias = list[tuple[str, str, int]]
Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Cluster]]


@pytest.fixture(params=["real", "embedded"])
def open_it(request: pytest.FixtureRequest) -> Open:
    """Opens the implementation."""
    if request.param == "embedded":
        return embedded
    kubernetes: Servers = request.getfixturevalue("kubernetes")
    return partial(open_cluster, kubernetes.kubeconfig)


@asynccontextmanager
async def embedded(on_request: OnRequest | None = None) -> AsyncIterator[Cluster]:
    async with Evaluator() as judge, open_embedded(judge) as opened:
        yield opened.client(on_request=on_request)


@pytest.fixture
async def namespace(request: pytest.FixtureRequest, cluster: Cluster, requests: Requests) -> AsyncIterator[str]:
    """A namespace of this test's own."""
    if isinstance(cluster, RealCluster) and cluster.address != ADDRESS:
        with new_namespace(request.getfixturevalue("kubernetes")) as name:
            yield name
        return
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "test"}}, manager=MANAGER)
    requests.clear()
    yield "test"


@pytest.fixture
def requests() -> Requests:
    """The requests that the cluster has made: verb, resource, status."""
    return []


@pytest.fixture
async def cluster(open_it: Open, requests: Requests) -> AsyncIterator[Cluster]:
    async with open_it(on_request=lambda verb, kind, status, seconds: requests.append((verb, kind, status))) as opened:
        requests.clear()
        yield opened


@pytest.fixture
async def config_maps(cluster: Cluster) -> Kind:
    return await cluster.kind("v1", "ConfigMap")


def config_map(namespace: str, name: str, labels: dict[str, str] | None = None, **data: str) -> KubeObject:
    metadata: KubeObject = {"namespace": namespace, "name": name}
    if labels:
        metadata["labels"] = labels
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def deployment(namespace: str, **spec: Any) -> KubeObject:
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod, **spec},
    }


def names(items: list[KubeObject]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[tuple[str, str]]:
    """The next `count` changes, less bookmarks and what the cluster itself puts into a namespace."""
    taken: list[tuple[str, str]] = []
    with anyio.fail_after(LIMIT_S):
        while len(taken) < count:
            event = await anext(events)
            name = event.object["metadata"].get("name")
            if event.type != "BOOKMARK" and name != "kube-root-ca.crt":
                taken.append((event.type, name))
    return taken


@pytest.fixture
def group() -> str:
    """A group of this test's own."""
    return f"g{uuid.uuid4().hex[:8]}.example.com"


def definition(group: str) -> KubeObject:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "big": {"type": "integer", "format": "int64"},
                },
            },
            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        },
    }
    version = {"served": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "storage": True, **version}, {"name": "v1beta1", "storage": False, **version}],
        },
    }


@pytest.fixture
async def widgets(cluster: Cluster, group: str) -> AsyncIterator[Kind]:
    """A kind from a CRD."""
    made = await cluster.create(definition(group), manager=MANAGER)
    definitions = await cluster.kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    try:
        yield await until_served(cluster, f"{group}/v1", "Widget")
    finally:
        with anyio.CancelScope(shield=True):
            with suppress(NotFoundError):
                await cluster.delete(definitions, "", made["metadata"]["name"])


async def until_served(cluster: Cluster, api_version: str, kind: str) -> Kind:
    with anyio.fail_after(LIMIT_S):
        while True:
            try:
                return await cluster.kind(api_version, kind)
            except UnknownKindError:
                await anyio.sleep(0.05)


async def until_found(cluster: Cluster, group: str, kind: str) -> Kind:
    with anyio.fail_after(LIMIT_S):
        while True:
            found = await cluster.find_kind(group, kind)
            if found is not None:
                return found
            await anyio.sleep(0.05)


# ---------------------------------------------------------------------------------------------------- kinds


async def test_kind_says_how_it_is_addressed(cluster: Cluster) -> None:
    found = await cluster.kind("apps/v1", "Deployment")
    assert (found.group, found.version, found.plural, found.namespaced) == ("apps", "v1", "deployments", True)
    assert found.api_version == "apps/v1"
    assert {"get", "list", "watch", "patch", "delete"} <= found.verbs
    core = await cluster.kind("v1", "Namespace")
    assert (core.group, core.api_version, core.namespaced) == ("", "v1", False)


async def test_kinds_are_asked_for_once(cluster: Cluster, requests: Requests) -> None:
    async with anyio.create_task_group() as tasks:
        for name in ("ConfigMap", "Secret", "Namespace", "Pod") * 5:
            tasks.start_soon(cluster.kind, "v1", name)
    assert requests == [("get", "/api", 200), ("get", "/apis", 200)]


async def test_unknown_kind_is_asked_for_once_more(cluster: Cluster, requests: Requests) -> None:
    await cluster.kinds()
    requests.clear()
    with pytest.raises(
        UnknownKindError, match=r"does not serve Unheard example.com/v1: is its CustomResourceDefinition"
    ):
        await cluster.kind("example.com/v1", "Unheard")
    assert [(verb, resource) for verb, resource, _ in requests] == [("get", "/api"), ("get", "/apis")]


async def test_unknown_version_is_told_with_those_that_are_served(cluster: Cluster) -> None:
    with pytest.raises(UnknownKindError, match=r"Deployment apps/v1beta1; it serves Deployment as apps/v1"):
        await cluster.kind("apps/v1beta1", "Deployment")


async def test_versions_are_told_as_they_are_now(cluster: Cluster, widgets: Kind, requests: Requests) -> None:
    found = await cluster.api_versions()
    assert {"v1", "v1/ConfigMap", "apps/v1", "apps/v1/Deployment", "apps/v1/Scale"} <= {*found}
    assert {f"{widgets.group}/{name}" for name in ("v1", "v1/Widget", "v1beta1/Widget")} <= {*found}
    assert list(found) == sorted(found)
    assert not {"extensions/v1beta1", "/v1"} & {*found}
    requests.clear()
    assert await cluster.api_versions() == found
    assert [resource for _, resource, _ in requests] == ["/api", "/apis"]


async def test_each_kind_is_listed_once_in_its_preferred_version(cluster: Cluster, widgets: Kind) -> None:
    cluster.forget_kinds()
    kinds = await cluster.kinds()
    assert len({(kind.group, kind.kind) for kind in kinds}) == len(kinds)
    assert [kind.version for kind in kinds if kind.group == widgets.group] == ["v1"]
    assert (await cluster.kind(f"{widgets.group}/v1beta1", "Widget")).version == "v1beta1"


async def test_kinds_of_a_version_are_those_that_it_serves(cluster: Cluster, widgets: Kind, requests: Requests) -> None:
    for version in ("v1", "v1beta1"):
        found = await cluster.kinds_in(f"{widgets.group}/{version}")
        assert [(kind.version, kind.kind) for kind in found] == [(version, "Widget")]
    assert {"ConfigMap", "Namespace", "Pod"} <= {kind.kind for kind in await cluster.kinds_in("v1")}
    requests.clear()
    assert await cluster.kinds_in("example.com/v1") == ()
    assert len(requests) == 2, "what is not served is asked for once more"


async def test_kind_whose_definition_comes_later_is_found(cluster: Cluster, group: str, widgets: Kind) -> None:
    assert widgets == Kind(group, "v1", "Widget", "widgets", namespaced=True, verbs=widgets.verbs)
    assert "watch" in widgets.verbs


async def test_a_new_object_has_the_status_that_its_definition_gives_it(
    cluster: Cluster, group: str, namespace: str
) -> None:
    """Though it may not bring one."""
    made = definition(group)
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["default"] = {"ready": False}
    await cluster.create(made, manager=MANAGER)
    try:
        kind = await until_served(cluster, f"{group}/v1", "Widget")
        widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "status": {"ready": True}}
        created = await cluster.create(widget | {"metadata": {"namespace": namespace, "name": "a"}}, manager=MANAGER)
        applied = await cluster.apply(widget | {"metadata": {"namespace": namespace, "name": "b"}}, manager=MANAGER)
        for obj in (created, applied.object):
            assert obj["status"] == {"ready": False}
            assert obj == await cluster.get(kind, namespace, obj["metadata"]["name"])
            assert "managedFields" not in obj["metadata"], "nobody owns a status that was not taken"
    finally:
        definitions = await cluster.kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        await cluster.delete(definitions, "", f"widgets.{group}")


async def test_a_finalizer_of_a_custom_object_needs_no_domain(cluster: Cluster, widgets: Kind, namespace: str) -> None:
    metadata = {"namespace": namespace, "name": "a", "finalizers": ["finalizers.fluxcd.io"]}
    widget = {"apiVersion": f"{widgets.group}/v1", "kind": "Widget", "metadata": metadata}
    created = await cluster.create(widget, manager=MANAGER)
    assert created["metadata"]["finalizers"] == metadata["finalizers"]
    await cluster.patch(widgets, namespace, "a", {"metadata": {"finalizers": None}}, type="merge", manager=MANAGER)


async def test_kind_whose_definition_went_is_unknown(cluster: Cluster, widgets: Kind, namespace: str) -> None:
    definitions = await cluster.kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    await cluster.delete(definitions, "", f"widgets.{widgets.group}")

    async def list_until_it_fails() -> None:
        while True:
            await cluster.list(widgets, namespace=namespace)
            await anyio.sleep(0.05)

    with anyio.fail_after(LIMIT_S), pytest.raises(UnknownKindError, match="no longer serves Widget"):
        await list_until_it_fails()
    with pytest.raises(UnknownKindError):
        await cluster.get(widgets, namespace, "one")


async def test_a_kind_is_found_by_its_group_in_the_version_that_it_prefers(cluster: Cluster, widgets: Kind) -> None:
    assert await cluster.find_kind(widgets.group, "Widget") == widgets
    assert await cluster.find_kind("", "ConfigMap") == await cluster.kind("v1", "ConfigMap")
    assert await cluster.find_kind(widgets.group, "Gadget") is None
    assert await cluster.find_kind("nowhere.example.com", "Widget") is None


async def test_what_an_api_serves_that_does_not_answer_is_not_known(
    cluster: Cluster, group: str, namespace: str
) -> None:
    """An APIService whose server is down: its kinds are not absent."""
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}"},
        "spec": {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "down", "namespace": namespace},
        },
    }
    await cluster.create(service, manager=MANAGER)
    services = await cluster.kind("apiregistration.k8s.io/v1", "APIService")
    try:
        with pytest.raises(ServerError, match=f"{group}/v1 does not answer"):
            await until_found(cluster, group, "Widget")
        with pytest.raises(ServerError, match=f"{group}/v1 does not answer"):
            await cluster.kind(f"{group}/v1", "Widget")
        with pytest.raises(UnknownKindError):
            await cluster.kind(f"{group}/v2", "Widget")
        assert (await cluster.kind("v1", "ConfigMap")).plural == "configmaps"
    finally:
        with anyio.CancelScope(shield=True):
            await cluster.delete(services, "", f"v1.{group}")


async def test_what_an_api_serves_that_is_down_cannot_be_asked(
    cluster: Cluster, group: str, namespace: str, widgets: Kind
) -> None:
    """Though its definition is there."""
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1.{group}", "labels": {"kube-aggregator.kubernetes.io/automanaged": None}},
        "spec": {
            "group": group,
            "version": "v1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "insecureSkipTLSVerify": True,
            "service": {"name": "down", "namespace": namespace},
        },
    }
    await cluster.apply(service, manager=MANAGER, force=True)
    services = await cluster.kind("apiregistration.k8s.io/v1", "APIService")

    async def list_until_it_fails() -> None:
        while True:
            await cluster.list(widgets, namespace=namespace)
            await anyio.sleep(0.05)

    try:
        with anyio.fail_after(LIMIT_S), pytest.raises(ServerError, match="service unavailable"):
            await list_until_it_fails()
        cluster.forget_kinds()
        with pytest.raises(ServerError, match=f"{group}/v1 does not answer"):
            await cluster.kind(f"{group}/v1", "Widget")
    finally:
        with anyio.CancelScope(shield=True):
            await cluster.delete(services, "", f"v1.{group}")


async def test_version_is_that_of_the_server(cluster: Cluster) -> None:
    assert (await cluster.version()).startswith("v1.")


async def test_openapi_document_is_kept_until_it_changes(
    cluster: Cluster, group: str, requests: Requests, widgets: Kind
) -> None:
    cluster.forget_kinds()
    requests.clear()
    document = await cluster.openapi("apps", "v1")
    assert document
    assert b"io.k8s.api.apps.v1.DeploymentSpec" in document
    assert await cluster.openapi("apps", "v1") == document
    assert requests == [("get", "/openapi/v3", 200)] * 2
    assert await cluster.openapi("", "v1")
    assert await cluster.openapi("no.such.group", "v1") is None
    with anyio.fail_after(LIMIT_S):
        while b'"minimum":1' not in (await cluster.openapi(group, "v1") or b""):
            cluster.forget_kinds()
            await anyio.sleep(0.05)


# -------------------------------------------------------------------------------------------------- reading


async def test_object_is_got_as_it_was_made(cluster: Cluster, widgets: Kind, namespace: str) -> None:
    """Numbers beyond 2**53 and every letter survive."""
    widget = {
        "apiVersion": widgets.api_version,
        "kind": "Widget",
        "metadata": {"namespace": namespace, "name": "one", "annotations": {"words": 'Grüße, "世界" \U0001f30a\n'}},
        "spec": {"size": 3, "big": 2**63 - 1},
    }
    made = await cluster.create(widget, manager=MANAGER)
    got = await cluster.get(widgets, namespace, "one")
    assert got == made
    assert got["spec"] == widget["spec"]
    assert got["metadata"]["annotations"] == {"words": 'Grüße, "世界" \U0001f30a\n'}


async def test_absent_object_is_not_found(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    with pytest.raises(NotFoundError, match=f"cannot get ConfigMap nothing in namespace {namespace}") as caught:
        await cluster.get(config_maps, namespace, "nothing")
    assert not isinstance(caught.value, UnknownKindError)
    assert (caught.value.status.code, caught.value.status.reason) == (404, "NotFound")


async def test_names_are_no_paths(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    with pytest.raises(ClusterError):
        await cluster.get(config_maps, namespace, "../../../../version")
    with pytest.raises(ClusterError):
        await cluster.get(config_maps, namespace, "a?b=c#d")


async def test_list_reads_all_pages(cluster: Cluster, config_maps: Kind, namespace: str, requests: Requests) -> None:
    for n in range(7):
        await cluster.create(config_map(namespace, f"m{n}", {"some": "label"}), manager=MANAGER)
    requests.clear()
    listing = await cluster.list(config_maps, namespace=namespace, labels="some=label", limit=3)
    assert names(listing.items) == [f"m{n}" for n in range(7)]
    assert {(item["apiVersion"], item["kind"]) for item in listing.items} == {("v1", "ConfigMap")}
    assert int(listing.resource_version) > 0
    assert requests == [("list", "configmaps", 200)] * 3


async def test_pages_are_handed_over_one_by_one(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    for n in range(5):
        await cluster.create(config_map(namespace, f"m{n}", {"some": "label"}), manager=MANAGER)
    async with aclosing(cluster.pages(config_maps, namespace=namespace, labels="some", limit=2)) as pages:
        got = [names(page.items) async for page in pages]
    assert got == [["m0", "m1"], ["m2", "m3"], ["m4"]]


async def test_list_of_nothing_has_a_version(cluster: Cluster, widgets: Kind, namespace: str) -> None:
    listing = await cluster.list(widgets, namespace=namespace)
    assert listing.items == []
    assert int(listing.resource_version) > 0


async def test_list_takes_selectors(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    await cluster.create(config_map(namespace, "a", {"app": "one", "tier": "front"}), manager=MANAGER)
    await cluster.create(config_map(namespace, "b", {"app": "one"}), manager=MANAGER)
    await cluster.create(config_map(namespace, "c", {"app": "two"}), manager=MANAGER)
    by_label = await cluster.list(config_maps, namespace=namespace, labels="app in (one,three),!tier")
    assert names(by_label.items) == ["b"]
    by_field = await cluster.list(config_maps, namespace=namespace, fields="metadata.name=c")
    assert names(by_field.items) == ["c"]
    everywhere = await cluster.list(config_maps, fields=f"metadata.namespace={namespace}", labels="app")
    assert names(everywhere.items) == ["a", "b", "c"]


async def test_table_is_what_the_server_shows(
    cluster: Cluster, config_maps: Kind, namespace: str, requests: Requests
) -> None:
    for n in range(5):
        await cluster.create(config_map(namespace, f"m{n}", {"some": "label"}, key="1"), manager=MANAGER)
    requests.clear()
    table = await cluster.table(config_maps, namespace=namespace, labels="some=label", limit=2)
    assert [(column.name, column.type, column.priority) for column in table.columns] == [
        ("Name", "string", 0),
        ("Data", "string", 0),
        ("Age", "string", 0),
    ]
    assert table.columns[0].format == "name"
    assert [row.cells[:2] for row in table.rows] == [(f"m{n}", 1) for n in range(5)]
    assert {row.object for row in table.rows} == {None}
    assert int(table.resource_version) > 0
    assert requests == [("list", "configmaps", 200)] * 3


async def test_table_has_as_much_of_each_object_as_is_asked_for(
    cluster: Cluster, config_maps: Kind, namespace: str
) -> None:
    made = await cluster.create(config_map(namespace, "a", {"some": "label"}, key="1"), manager=MANAGER)
    (row,) = (await cluster.table(config_maps, namespace=namespace, labels="some", objects="Object")).rows
    assert row.object == made
    (row,) = (await cluster.table(config_maps, namespace=namespace, labels="some", objects="Metadata")).rows
    assert row.object is not None
    assert (row.object["kind"], row.object["metadata"]["uid"]) == ("PartialObjectMetadata", made["metadata"]["uid"])
    assert "data" not in row.object


async def test_table_of_a_custom_kind_has_its_columns(cluster: Cluster, group: str, namespace: str) -> None:
    made = definition(group)
    column = {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1, "description": "How large."}
    for version in made["spec"]["versions"]:
        version["additionalPrinterColumns"] = [column]
    definitions = await cluster.kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    await cluster.create(made, manager=MANAGER)
    try:
        widgets = await until_served(cluster, f"{group}/v1", "Widget")
        assert (await cluster.table(widgets, namespace=namespace)).rows == ()
        metadata = {"namespace": namespace, "name": "one"}
        widget = {"apiVersion": widgets.api_version, "kind": "Widget", "metadata": metadata, "spec": {"size": 7}}
        await cluster.create(widget, manager=MANAGER)
        table = await cluster.table(widgets, namespace=namespace)
        assert table.columns[1:] == (Column("Size", "integer", description="How large.", priority=1),)
        assert [row.cells for row in table.rows] == [("one", 7)]
    finally:
        with anyio.CancelScope(shield=True):
            await cluster.delete(definitions, "", f"widgets.{group}")


async def test_selector_that_is_none_is_refused(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    with pytest.raises(BadRequestError, match="unable to parse requirement"):
        await cluster.list(config_maps, namespace=namespace, labels="app in (")


# ------------------------------------------------------------------------------------------------- watching


async def test_watch_tells_each_change_in_order(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    since = (await cluster.list(config_maps, namespace=namespace)).resource_version
    async with aclosing(cluster.watch(config_maps, resource_version=since, namespace=namespace)) as events:
        await cluster.create(config_map(namespace, "a"), manager=MANAGER)
        await cluster.apply(config_map(namespace, "a", key="1"), manager=MANAGER)
        await cluster.create(config_map(namespace, "b"), manager=MANAGER)
        await cluster.delete(config_maps, namespace, "a")
        assert await take(events, 4) == [("ADDED", "a"), ("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]


async def test_watch_goes_on_where_another_stopped(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    since = (await cluster.list(config_maps, namespace=namespace)).resource_version
    made = await cluster.create(config_map(namespace, "a"), manager=MANAGER)
    await cluster.create(config_map(namespace, "b"), manager=MANAGER)
    async with aclosing(cluster.watch(config_maps, resource_version=since, namespace=namespace)) as events:
        assert await take(events, 2) == [("ADDED", "a"), ("ADDED", "b")]
    later = made["metadata"]["resourceVersion"]
    async with aclosing(cluster.watch(config_maps, resource_version=later, namespace=namespace)) as events:
        assert await take(events, 1) == [("ADDED", "b")]


async def test_watch_with_a_selector_tells_leaving_as_deletion(
    cluster: Cluster, config_maps: Kind, namespace: str
) -> None:
    since = (await cluster.list(config_maps, namespace=namespace)).resource_version
    watching = cluster.watch(config_maps, resource_version=since, namespace=namespace, labels="in=yes")
    async with aclosing(watching) as events:
        await cluster.create(config_map(namespace, "other"), manager=MANAGER)
        await cluster.apply(config_map(namespace, "a", {"in": "yes"}), manager=MANAGER)
        await cluster.apply(config_map(namespace, "a", {"in": "no"}), manager=MANAGER)
        assert await take(events, 2) == [("ADDED", "a"), ("DELETED", "a")]


async def test_lists_and_watches_of_metadata_have_nothing_else(
    cluster: Cluster, config_maps: Kind, namespace: str
) -> None:
    made = [
        await cluster.create(config_map(namespace, f"m{n}", {"a": "b"}, key="1"), manager=MANAGER) for n in range(3)
    ]
    pages = cluster.pages(config_maps, namespace=namespace, labels="a=b", limit=2, only_metadata=True)
    async with aclosing(pages):
        listed = [page async for page in pages]
    objects = [obj for page in listed for obj in page.items]
    assert [obj["metadata"] for obj in objects] == [obj["metadata"] for obj in made]
    assert not any("data" in obj for obj in objects)
    watch = cluster.watch(
        config_maps, namespace=namespace, resource_version=listed[0].resource_version, only_metadata=True
    )
    async with aclosing(watch):
        last = await cluster.create(config_map(namespace, "last", key="1"), manager=MANAGER)
        event = await anext(watch)
    assert (event.type, event.object["metadata"]) == ("ADDED", last["metadata"])
    assert "data" not in event.object


async def test_watch_may_be_cancelled(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    since = (await cluster.list(config_maps, namespace=namespace)).resource_version
    seen = anyio.Event()

    async def watch() -> None:
        async with aclosing(cluster.watch(config_maps, resource_version=since, namespace=namespace)) as events:
            async for _ in events:
                seen.set()

    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await cluster.create(config_map(namespace, "a"), manager=MANAGER)
            await seen.wait()
            tasks.cancel_scope.cancel()
    assert await cluster.get(config_maps, namespace, "a")


# ------------------------------------------------------------------------------------------------- applying


async def test_apply_says_whether_it_made_the_object(cluster: Cluster, namespace: str) -> None:
    first = await cluster.apply(config_map(namespace, "a", key="1"), manager=MANAGER)
    again = await cluster.apply(config_map(namespace, "a", key="1"), manager=MANAGER)
    other = await cluster.apply(config_map(namespace, "a", key="2"), manager=MANAGER)
    assert (first.created, again.created, other.created) == (True, False, False)
    versions = [applied.object["metadata"]["resourceVersion"] for applied in (first, again, other)]
    assert versions[0] == versions[1] != versions[2]
    assert other.object["data"] == {"key": "2"}


async def test_applied_fields_that_are_left_out_go(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    await cluster.apply(config_map(namespace, "a", mine="1", also="1"), manager=MANAGER)
    await cluster.apply(config_map(namespace, "a", theirs="1"), manager="somebody")
    applied = await cluster.apply(config_map(namespace, "a", mine="2"), manager=MANAGER)
    assert applied.object["data"] == {"mine": "2", "theirs": "1"}
    managers = {(e["manager"], e["operation"]) for e in applied.object["metadata"]["managedFields"]}
    assert managers == {(MANAGER, "Apply"), ("somebody", "Apply")}


async def test_dry_run_answers_and_changes_nothing(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    tried = await cluster.apply(deployment(namespace), manager=MANAGER, dry_run=True)
    assert tried.object["spec"]["strategy"]["type"] == "RollingUpdate"  # a default
    with pytest.raises(NotFoundError):
        await cluster.get(await cluster.kind("apps/v1", "Deployment"), namespace, "web")
    await cluster.apply(config_map(namespace, "a", key="1"), manager=MANAGER)
    tried = await cluster.apply(config_map(namespace, "a", key="2"), manager=MANAGER, dry_run=True)
    assert (tried.created, tried.object["data"]) == (False, {"key": "2"})
    assert (await cluster.get(config_maps, namespace, "a"))["data"] == {"key": "1"}


async def test_warnings_of_the_server_are_handed_over(cluster: Cluster, namespace: str) -> None:
    assert (await cluster.apply(config_map(namespace, "a"), manager=MANAGER)).warnings == ()
    old = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"namespace": namespace, "name": "a"}}
    applied = await cluster.apply(old, manager=MANAGER)
    assert applied.warnings == ("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",)


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"replicaz": 1}, "spec.replicaz", "field not declared in schema"),
        ({"replicas": "many"}, "spec.replicas", "expected numeric"),
    ],
)
async def test_object_that_does_not_fit_the_schema_is_told_by_field(
    cluster: Cluster, namespace: str, change: dict[str, Any], field: str, message: str
) -> None:
    """The server calls it an error of its own, HTTP 500; it is the object's."""
    with pytest.raises(InvalidError) as caught:
        await cluster.apply(deployment(namespace, **change), manager=MANAGER)
    assert "it is not valid: " in str(caught.value)
    assert "HTTP 500" not in str(caught.value)
    assert [cause.field for cause in caught.value.causes] == [field]
    assert message in caught.value.causes[0].message


async def test_conflict_names_the_managers_and_fields(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(deployment(namespace, replicas=0), manager="first")
    with pytest.raises(ConflictError, match="cannot apply Deployment web") as caught:
        await cluster.apply(deployment(namespace, replicas=1), manager=MANAGER, force=False)
    assert caught.value.managers == ("first",)
    assert caught.value.conflicts == (FieldConflict("first", ".spec.replicas"),)
    forced = await cluster.apply(deployment(namespace, replicas=1), manager=MANAGER)
    assert forced.object["spec"]["replicas"] == 1


async def test_a_refusal_is_told_in_a_sentence_that_names_the_object_once(cluster: Cluster, namespace: str) -> None:
    web = ObjectKey("apps", "Deployment", namespace, "web")

    async def refused(obj: KubeObject, **how: Any) -> str:
        with pytest.raises(ClusterError) as caught:
            await cluster.apply(obj, manager=MANAGER, **how)
        return failure_of(web, "dry-run", caught.value)

    begins = f"Deployment/{namespace}/web dry-run failed"
    told = await refused(deployment(namespace, replicas=-1), dry_run=True)
    assert told.startswith(f"{begins} (Invalid): spec.replicas: Invalid value: -1"), told
    told = await refused(deployment(namespace, replicaz=1))
    assert told == f"{begins} (Invalid): spec.replicaz: field not declared in schema"
    told = await refused(deployment("is-not-there"))
    assert told == f'{begins} (NotFound): namespaces "is-not-there" not found'
    await cluster.apply(deployment(namespace, replicas=0), manager="first")
    told = await refused(deployment(namespace, replicas=1), force=False)
    assert told.startswith(f'{begins} (Conflict): .spec.replicas: conflict with "first"'), told


@pytest.mark.parametrize("field", ["uid", "resourceVersion"])
async def test_apply_holds_to_its_preconditions(
    cluster: Cluster, config_maps: Kind, namespace: str, field: str
) -> None:
    wrong = {"uid": str(uuid.uuid4()), "resourceVersion": "1"}[field]
    first = await cluster.apply(config_map(namespace, "a", key="1"), manager=MANAGER)
    changed = config_map(namespace, "a", key="2")
    changed["metadata"][field] = wrong
    with pytest.raises(ConflictError) as caught:
        await cluster.apply(changed, manager=MANAGER)
    assert caught.value.conflicts == ()
    assert caught.value.managers == ()
    assert (await cluster.get(config_maps, namespace, "a"))["data"] == {"key": "1"}
    changed["metadata"][field] = first.object["metadata"][field]
    assert (await cluster.apply(changed, manager=MANAGER)).object["data"] == {"key": "2"}


async def test_apply_with_the_uid_of_what_is_gone_makes_nothing(
    cluster: Cluster, config_maps: Kind, namespace: str
) -> None:
    obj = config_map(namespace, "a")
    obj["metadata"]["uid"] = str(uuid.uuid4())
    with pytest.raises(ConflictError):
        await cluster.apply(obj, manager=MANAGER)
    with pytest.raises(NotFoundError):
        await cluster.get(config_maps, namespace, "a")


async def test_invalid_object_is_told_by_field(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(InvalidError, match="Deployment web") as caught:
        await cluster.apply(deployment(namespace, replicas=-1), manager=MANAGER, dry_run=True)
    assert [cause.field for cause in caught.value.causes] == ["spec.replicas"]
    assert caught.value.causes[0].message.startswith("Invalid value: -1")


async def test_object_of_a_custom_kind_is_held_to_its_schema(cluster: Cluster, widgets: Kind, namespace: str) -> None:
    widget = {
        "apiVersion": widgets.api_version,
        "kind": "Widget",
        "metadata": {"namespace": namespace, "name": "one"},
        "spec": {"size": 0},
    }
    with pytest.raises(InvalidError) as caught:
        await cluster.apply(widget, manager=MANAGER)
    assert [cause.field for cause in caught.value.causes] == ["spec.size"]


async def test_immutable_field_is_told_by_field(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(deployment(namespace), manager=MANAGER)
    other = deployment(namespace)
    other["spec"]["selector"] = {"matchLabels": {"app": "other"}}
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(InvalidError) as caught:
        await cluster.apply(other, manager=MANAGER)
    (cause,) = caught.value.causes
    assert cause.field == "spec.selector"
    assert "field is immutable" in cause.message


async def test_missing_namespace_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(NotFoundError, match='namespaces "nowhere-at-all" not found'):
        await cluster.apply(config_map("nowhere-at-all", "a"), manager=MANAGER)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"name": "a"}, "needs a namespace"),
        ({"namespace": "default"}, r"needs apiVersion, kind and metadata.name"),
        (None, r"needs apiVersion, kind and metadata.name"),
    ],
)
async def test_object_without_a_place_is_refused(cluster: Cluster, metadata: KubeObject | None, message: str) -> None:
    with pytest.raises(BadRequestError, match=message):
        await cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, manager=MANAGER)


# ------------------------------------------------------------------------------------- other ways of writing


async def test_create_is_for_what_is_not_there(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    made = await cluster.create(config_map(namespace, "a", key="1"), manager=MANAGER)
    assert made["metadata"]["uid"]
    with pytest.raises(AlreadyExistsError, match="cannot create ConfigMap a"):
        await cluster.create(config_map(namespace, "a", key="2"), manager=MANAGER)
    assert (await cluster.get(config_maps, namespace, "a"))["data"] == {"key": "1"}


async def test_a_review_is_answered_and_kept_nowhere(cluster: Cluster, namespace: str) -> None:
    """Reviews have no name; the server makes none."""
    asked = {"user": "jane", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": namespace}}
    answer = await cluster.review(
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked}
    )
    assert answer["status"]["allowed"] is False
    admin = asked | {"groups": ["system:masters"]}
    answer = await cluster.review(
        {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": admin}
    )
    assert answer["status"]["allowed"] is True


async def test_a_token_that_the_server_did_not_make_is_nobodys(cluster: Cluster) -> None:
    answer = await cluster.review(
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "made-up"}}
    )
    assert not answer["status"].get("authenticated")


async def test_a_token_of_an_account_is_for_the_audiences_that_are_named(cluster: Cluster, namespace: str) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "puller", "namespace": namespace}}
    await cluster.create(account, manager=MANAGER)
    token = await cluster.request_token(namespace, "puller", "sts.example.com", "too.example.com")
    assert token.lasts_s == 3_600
    assert token.value not in repr(token)
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
    for audience in ("sts.example.com", "too.example.com"):
        answer = await cluster.review({**review, "spec": {"token": token.value, "audiences": [audience]}})
        assert answer["status"]["user"]["username"] == f"system:serviceaccount:{namespace}:puller"
    answer = await cluster.review({**review, "spec": {"token": token.value, "audiences": ["other.example.com"]}})
    assert not answer["status"].get("authenticated")
    with pytest.raises(NotFoundError, match="make the token of ServiceAccount nobody"):
        await cluster.request_token(namespace, "nobody", "sts.example.com")


async def test_a_review_that_makes_no_sense_is_refused(cluster: Cluster) -> None:
    with pytest.raises(InvalidError, match="ask for a SubjectAccessReview"):
        await cluster.review({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {}})


async def test_replace_holds_to_the_version(cluster: Cluster, namespace: str) -> None:
    made = await cluster.create(config_map(namespace, "a", key="1"), manager=MANAGER)
    stale = {**made, "data": {"key": "stale"}}
    replaced = await cluster.replace({**made, "data": {"key": "2"}}, manager=MANAGER)
    assert replaced["data"] == {"key": "2"}
    with pytest.raises(ConflictError, match="object has been modified"):
        await cluster.replace(stale, manager=MANAGER)


async def test_status_is_a_subresource(cluster: Cluster, widgets: Kind, namespace: str) -> None:
    widget = {
        "apiVersion": widgets.api_version,
        "kind": "Widget",
        "metadata": {"namespace": namespace, "name": "one"},
        "spec": {"size": 1},
        "status": {"ready": True},
    }
    made = await cluster.create(widget, manager=MANAGER)
    assert "status" not in made
    made |= {"spec": {"size": 2}, "status": {"ready": False}}
    replaced = await cluster.replace(made, manager=MANAGER, subresource="status")
    assert (replaced["spec"], replaced["status"]) == ({"size": 1}, {"ready": False})
    patched = await cluster.patch(
        widgets, namespace, "one", {"status": {"ready": True}}, type="merge", manager="other", subresource="status"
    )
    assert patched["status"] == {"ready": True}
    entry = next(e for e in patched["metadata"]["managedFields"] if e["manager"] == "other")
    assert entry["subresource"] == "status"


async def test_patches_of_each_type(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    await cluster.create(config_map(namespace, "a", one="1", two="2"), manager=MANAGER)
    patch = partial(cluster.patch, config_maps, namespace, "a", manager=MANAGER)
    assert (await patch({"data": {"one": None}}, type="merge"))["data"] == {"two": "2"}
    assert (await patch({"data": {"three": "3"}}, type="strategic"))["data"] == {"two": "2", "three": "3"}
    operations: list[KubeObject] = [
        {"op": "test", "path": "/data/two", "value": "2"},
        {"op": "remove", "path": "/data/two"},
    ]
    assert (await patch(operations, type="json", dry_run=True))["data"] == {"three": "3"}
    assert (await patch(operations, type="json"))["data"] == {"three": "3"}
    with pytest.raises(InvalidError):
        await patch(operations, type="json")


async def test_scale_says_how_often_an_object_is_wanted(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(deployment(namespace, replicas=2, paused=True), manager=MANAGER)
    deployments = await cluster.kind("apps/v1", "Deployment")
    where = (deployments, namespace, "web")
    before = await cluster.get_scale(*where)
    assert (before.wanted, before.selector) == (2, "app=web")
    tried = await cluster.scale(*where, 5, manager="other", dry_run=True)
    assert (tried.wanted, (await cluster.get_scale(*where)).wanted) == (5, 2)
    scaled = await cluster.scale(*where, 3, manager="other")
    live = await cluster.get(*where)
    assert (scaled.wanted, live["spec"]["replicas"]) == (3, 3)
    entry = next(e for e in live["metadata"]["managedFields"] if e["manager"] == "other")
    assert entry["subresource"] == "scale"
    with pytest.raises(ConflictError, match="cannot patch the scale of Deployment web"):
        await cluster.scale(*where, 1, manager="other", resource_version=before.resource_version)
    with pytest.raises(InvalidError) as caught:
        await cluster.scale(*where, -1, manager="other")
    assert [cause.field for cause in caught.value.causes] == ["spec.replicas"]


async def test_scale_of_a_custom_kind_is_where_its_definition_says(
    cluster: Cluster, group: str, namespace: str
) -> None:
    made = definition(group)
    paths = {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}
    for version in made["spec"]["versions"]:
        version["subresources"] = {"scale": paths}
    definitions = await cluster.kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    await cluster.create(made, manager=MANAGER)
    try:
        widgets = await until_served(cluster, f"{group}/v1", "Widget")
        metadata = {"namespace": namespace, "name": "one"}
        widget = {"apiVersion": widgets.api_version, "kind": "Widget", "metadata": metadata, "spec": {"size": 1}}
        await cluster.create(widget, manager=MANAGER)
        scaled = await cluster.scale(widgets, namespace, "one", 3, manager="other")
        assert (scaled.wanted, scaled.there, scaled.selector) == (3, 0, "")
        assert (await cluster.get(widgets, namespace, "one"))["spec"] == {"size": 3}
    finally:
        with anyio.CancelScope(shield=True):
            await cluster.delete(definitions, "", f"widgets.{group}")


async def test_what_has_no_scale_is_not_scaled(
    cluster: Cluster, config_maps: Kind, widgets: Kind, namespace: str
) -> None:
    """The server tells it only of built-in kinds from an object that is not there."""
    await cluster.create(config_map(namespace, "a"), manager=MANAGER)
    with pytest.raises(UnknownKindError, match="the cluster serves no scale of ConfigMap v1"):
        await cluster.get_scale(config_maps, namespace, "a")
    with pytest.raises(UnknownKindError, match="the cluster serves no scale of ConfigMap v1"):
        await cluster.scale(config_maps, namespace, "a", 1, manager=MANAGER)
    deployments = await cluster.kind("apps/v1", "Deployment")
    for kind in (widgets, deployments):
        with pytest.raises(NotFoundError, match='"a" not found') as caught:
            await cluster.scale(kind, namespace, "a", 1, manager=MANAGER)
        assert not isinstance(caught.value, UnknownKindError)


async def test_delete_holds_to_its_preconditions(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    made = await cluster.create(config_map(namespace, "a"), manager=MANAGER)
    other = Preconditions(uid=str(uuid.uuid4()))
    with pytest.raises(ConflictError):
        await cluster.delete(config_maps, namespace, "a", preconditions=other)
    with pytest.raises(ConflictError):
        await cluster.delete(config_maps, namespace, "a", preconditions=Preconditions(resource_version="1"))
    await cluster.delete(config_maps, namespace, "a", dry_run=True)
    assert (await cluster.get(config_maps, namespace, "a"))["metadata"]["uid"] == made["metadata"]["uid"]
    mine = Preconditions(uid=made["metadata"]["uid"], resource_version=made["metadata"]["resourceVersion"])
    await cluster.delete(config_maps, namespace, "a", preconditions=mine)
    with pytest.raises(NotFoundError, match="cannot delete ConfigMap a"):
        await cluster.delete(config_maps, namespace, "a")


async def test_orphans_stay_when_their_owner_is_deleted(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    owner = await cluster.create(config_map(namespace, "owner"), manager=MANAGER)
    child = config_map(namespace, "child")
    child["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    ]
    await cluster.create(child, manager=MANAGER)
    await cluster.delete(config_maps, namespace, "owner", propagation="Orphan")
    get_child = partial(cluster.get, config_maps, namespace, "child")
    with anyio.fail_after(LIMIT_S):
        while "ownerReferences" in (await get_child())["metadata"]:  # noqa: ASYNC110 - the collector tells nobody
            await anyio.sleep(0.05)


async def test_object_with_a_finalizer_stays_for_now(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    obj = config_map(namespace, "a")
    obj["metadata"]["finalizers"] = ["example.com/stay"]
    await cluster.create(obj, manager=MANAGER)
    await cluster.delete(config_maps, namespace, "a")
    assert (await cluster.get(config_maps, namespace, "a"))["metadata"]["deletionTimestamp"]
    await cluster.patch(config_maps, namespace, "a", {"metadata": {"finalizers": None}}, type="merge", manager=MANAGER)
    with pytest.raises(NotFoundError):
        await cluster.get(config_maps, namespace, "a")


# --------------------------------------------------------------------------------------------- as somebody else


async def test_who_may_not_is_told_what(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    nobody = Identity(f"system:serviceaccount:{namespace}:default")
    with pytest.raises(ForbiddenError, match=f'"{nobody.user}" cannot patch resource "configmaps"'):
        await cluster.apply(config_map(namespace, "a"), manager=MANAGER, identity=nobody)
    with pytest.raises(ForbiddenError):
        await cluster.get(config_maps, namespace, "kube-root-ca.crt", identity=nobody)
    with pytest.raises(ForbiddenError):
        await cluster.delete(config_maps, namespace, "kube-root-ca.crt", identity=nobody)
    with pytest.raises(ForbiddenError):
        await cluster.create(config_map(namespace, "a"), manager=MANAGER, identity=nobody)


async def test_service_account_may_do_what_its_role_allows(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    """By its groups too: the server knows those of a service account."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"namespace": namespace, "name": "edit"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [
            {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "Group",
                "name": f"system:serviceaccounts:{namespace}",
            }
        ],
    }
    await cluster.create(role, manager=MANAGER)
    account = Identity(f"system:serviceaccount:{namespace}:default")
    with anyio.fail_after(LIMIT_S):
        while True:  # the authorizer learns of the binding a moment later
            try:
                await cluster.apply(config_map(namespace, "a"), manager=MANAGER, identity=account)
                break
            except ForbiddenError:
                await anyio.sleep(0.02)
    assert await cluster.get(config_maps, namespace, "a", identity=account)
    stranger = Identity("jane", ("system:authenticated", f"system:serviceaccounts:{namespace}"))
    assert await cluster.get(config_maps, namespace, "a", identity=stranger)
    with pytest.raises(ForbiddenError):
        await cluster.get(config_maps, namespace, "a", identity=Identity("jane"))


async def test_a_large_object_holds_up_nobody_else(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    await cluster.create(config_map(namespace, "small"), manager=MANAGER)
    large = config_map(namespace, "large") | {"data": {f"key{number}": "v" for number in range(20_000)}}
    found: list[str] = []

    async def apply() -> None:
        await cluster.apply(large, manager=MANAGER)
        found.append("large")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(apply)
        while not found:
            await anyio.lowlevel.checkpoint()
            if (await cluster.get(config_maps, namespace, "small"))["metadata"]["name"] == "small" and not found:
                found.append("small")
                break
    assert found == ["small", "large"]
    assert len((await cluster.get(config_maps, namespace, "large"))["data"]) == 20_000


async def test_two_who_change_a_large_object_at_once_lose_nothing(
    cluster: Cluster, config_maps: Kind, namespace: str
) -> None:
    data = {f"key{number}": "v" for number in range(10_000)}
    for time in range(2):  # by the first of each two the object is made
        async with anyio.create_task_group() as tasks:
            for part in ("a", "b"):
                wanted = config_map(namespace, "large", {part: str(time)}) | {"data": data if part == "a" else {}}
                tasks.start_soon(partial(cluster.apply, wanted, manager=part))
                patch = {"metadata": {"annotations": {part: str(time)}}}
                if time:
                    change = partial(cluster.patch, config_maps, namespace, "large", patch, type="merge")
                    tasks.start_soon(partial(change, manager=MANAGER))
        found = await cluster.get(config_maps, namespace, "large")
        assert found["metadata"]["labels"] == {"a": str(time), "b": str(time)}
        assert found["metadata"].get("annotations") == ({"a": "1", "b": "1"} if time else None)
        assert len(found["data"]) == 10_000


# -------------------------------------------------------------------------------------------- controllers


async def test_a_cron_job_makes_its_jobs(cluster: Cluster, namespace: str) -> None:
    """Every second, of which one a minute has a name of its own."""
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]}}
    work = {"metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": {"suspend": True, "template": pod}}
    wanted = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"namespace": namespace, "name": "often"},
        "spec": {"schedule": "@every 1s", "jobTemplate": work},
    }
    made = await cluster.create(wanted, manager=MANAGER)
    cron_jobs, jobs = await cluster.kind("batch/v1", "CronJob"), await cluster.kind("batch/v1", "Job")
    with anyio.fail_after(LIMIT_S):
        while True:
            status = (await cluster.get(cron_jobs, namespace, "often")).get("status") or {}
            if status.get("active"):
                break
            await anyio.sleep(0.1)
    job = (await cluster.list(jobs, namespace=namespace)).items[0]
    metadata, reference = job["metadata"], status["active"][0]
    due = metadata["annotations"].pop("batch.kubernetes.io/cronjob-scheduled-timestamp")
    assert metadata["name"] == f"often-{int(datetime.fromisoformat(due).timestamp()) // 60}"
    assert (metadata["labels"]["a"], metadata["annotations"]) == ("b", {"c": "d"})
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "often", "uid": made["metadata"]["uid"]}
    assert metadata["ownerReferences"] == [{**owner, "controller": True, "blockOwnerDeletion": True}]
    assert reference.pop("resourceVersion")
    named = {"name": metadata["name"], "namespace": namespace, "uid": metadata["uid"]}
    assert reference == {"apiVersion": "batch/v1", "kind": "Job", **named}
    assert status.keys() == {"active", "lastScheduleTime"}
    await cluster.delete(cron_jobs, namespace, "often")
    with anyio.fail_after(LIMIT_S):
        while True:
            if not (await cluster.list(jobs, namespace=namespace)).items:
                break
            await anyio.sleep(0.1)


# --------------------------------------------------------------------------------------------------- many


async def test_many_calls_at_once_all_have_their_answer(cluster: Cluster, config_maps: Kind, namespace: str) -> None:
    answers: dict[str, str] = {}

    async def apply(name: str) -> None:
        applied = await cluster.apply(config_map(namespace, name, key=name), manager=MANAGER)
        answers[name] = applied.object["data"]["key"]

    wanted = [f"m{n:03}" for n in range(200)]
    async with anyio.create_task_group() as tasks:
        for name in wanted:
            tasks.start_soon(apply, name)
    assert answers == {name: name for name in wanted}
    listing = await cluster.list(config_maps, namespace=namespace, fields="metadata.name!=kube-root-ca.crt", limit=70)
    assert names(listing.items) == wanted


async def test_requests_are_told(cluster: Cluster, config_maps: Kind, namespace: str, requests: Requests) -> None:
    requests.clear()
    await cluster.apply(config_map(namespace, "a"), manager=MANAGER)
    await cluster.get(config_maps, namespace, "a")
    with pytest.raises(NotFoundError):
        await cluster.delete(config_maps, namespace, "b")
    assert requests == [("apply", "configmaps", 201), ("get", "configmaps", 200), ("delete", "configmaps", 404)]
