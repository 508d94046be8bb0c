"""How objects are applied: waves, flags, force, and on whose behalf."""

import json
from typing import Any

import pytest

from tests.e2e.world import KUSTOMIZE, World, condition, config_map, documents, dry_runs, failed, manifest, written
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.verify.guard import Guard
from tidelog.events.moment import datetime_of
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import (
    ApplyFailed,
    ApplyStarted,
    DriftDetected,
    ObjectApplied,
    ObjectPruned,
    VerificationFailed,
)

OWNER = "kustomize.toolkit.fluxcd.io"
RBAC = "rbac.authorization.k8s.io"


async def app_of(world: World, content: str, **spec: Any) -> None:
    world.commit({"app/all.yaml": content})
    await world.source()
    await world.target("app", "./app", **({"targetNamespace": world.namespace} | spec))


def crd(group: str) -> str:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {"size": {"type": "integer", "minimum": 1}},
            }
        },
    }
    return manifest(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"widgets.{group}",
        spec={
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}},
            ],
        },
    )


@pytest.fixture
async def group(world: World):  # type: ignore[no-untyped-def]
    name = f"{world.namespace}.example.org"
    yield name
    world.servers.request("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{name}")


async def test_a_kind_and_an_object_of_it_come_in_one_commit(world: World, group: str) -> None:
    async with world.daemon() as running:
        await app_of(world, documents(manifest(f"{group}/v1", "Widget", "one", spec={"size": 3}), crd(group)))
        await world.until_applied("app")
        widget = await world.get(f"{group}/v1", "Widget", "one")
        assert widget is not None
        assert widget["spec"] == {"size": 3}
        # One plan, and the definition in a wave of its own before what needs it.
        assert len(running.events(ApplyStarted)) == 1
        applied = [(one.object.split("/")[1], one.wave) for one in running.events(ObjectApplied)]  # type: ignore[attr-defined]
        assert applied == [("CustomResourceDefinition", 0), ("Widget", 1)]
        await running.idle()
        seen = len(running.recorded)
        # The new kind is watched like any other.
        await world.patch(f"{group}/v1", "Widget", "one", {"spec": {"size": 9}}, manager="mallory")
        await running.until_event(ObjectApplied, after=seen)
        await world.until(f"{group}/v1", "Widget", "one", lambda obj: obj is not None and obj["spec"]["size"] == 3)


@pytest.mark.parametrize("variables", ["ConfigMap", "Secret"])
async def test_a_number_beyond_64_bits_is_what_it_is_to_kubectl_and_no_drift(
    world: World, group: str, variables: str
) -> None:
    """A float, which the server writes as an integer; in an object that is open, and in one that is secret."""
    definition = json.loads(crd(group))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema["x-kubernetes-preserve-unknown-fields"] = True
    number = 12345678901234567890
    widget = manifest(f"{group}/v1", "Widget", "w", spec={"size": 1, "big": number, "said": "${said}"})
    data = {"stringData" if variables == "Secret" else "data": {"said": "something-said"}}
    await world.apply({"apiVersion": "v1", "kind": variables, "metadata": {"name": "vars"}, **data})
    from_ = {"substituteFrom": [{"kind": variables, "name": "vars"}]}
    async with world.daemon() as running:
        await app_of(world, documents(json.dumps(definition) + "\n", widget), postBuild=from_)
        await world.until_applied("app")
        found = await world.get(f"{group}/v1", "Widget", "w")
        assert found is not None
        assert float(found["spec"]["big"]) == float(number)
        await running.idle()
    async with world.daemon() as running:
        seen = len(running.recorded)
        token = await world.ask("Kustomization", "app")
        await world.until_target("app", lambda obj: obj["status"].get("lastHandledReconcileAt") == token)
        await world.patch(f"{group}/v1", "Widget", "w", {"spec": {"size": 2}})
        await running.until_event(DriftDetected, after=seen)
        await world.until(
            f"{group}/v1", "Widget", "w", lambda obj: obj is not None and obj["spec"]["size"] == 1, "put right"
        )
        await running.idle()
        applied = [one for one in running.events(ObjectApplied, after=seen) if isinstance(one, ObjectApplied)]
        assert len(applied) == 1


async def test_an_object_that_its_own_definition_refuses_keeps_everything_from_being_applied(
    world: World, group: str
) -> None:
    async with world.daemon():
        await app_of(
            world,
            documents(manifest(f"{group}/v1", "Widget", "one", spec={"size": 0}), crd(group), config_map("beside")),
        )
        await world.until_target("app", failed("ReconciliationFailed", "Widget", "one", "spec.size", "at least 1"))
    found = world.servers.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{group}")
    assert found.status == 404
    assert await world.data("beside") is None


async def test_a_namespace_and_what_is_in_it_come_in_one_commit(world: World) -> None:
    name = f"{world.namespace}-new"
    inside = manifest("v1", "ConfigMap", "inside", metadata={"namespace": name}, data={"a": "b"})
    async with world.daemon():
        await app_of(world, documents(inside, manifest("v1", "Namespace", name)), targetNamespace=None)
        await world.until_applied("app")
        found = await world.get("v1", "ConfigMap", "inside", name)
    assert found is not None
    assert found["data"] == {"a": "b"}
    world.servers.request("DELETE", f"/api/v1/namespaces/{name}")


async def test_the_target_namespace_is_not_created(world: World) -> None:
    missing = f"{world.namespace}-missing"
    async with world.daemon():
        await app_of(world, config_map("a"), targetNamespace=missing, retryInterval="1s")
        said = (f'namespaces "{missing}" not found', "ConfigMap", "app/all.yaml:1")
        await world.until_target("app", failed("ReconciliationFailed", *said))
        await world.until_told("app", "ReconciliationFailed", *said)
        assert world.servers.request("POST", "/api/v1/namespaces", {"metadata": {"name": missing}}).status == 201
        await world.until_applied("app")
    world.servers.request("DELETE", f"/api/v1/namespaces/{missing}")


async def test_if_not_present_creates_and_never_updates(world: World) -> None:
    def seed(value: str) -> str:
        metadata = {"annotations": {f"{OWNER}/ssa": "IfNotPresent"}}
        return manifest("v1", "ConfigMap", "seed", metadata=metadata, data={"value": value})

    async with world.daemon():
        await app_of(world, documents(seed("first"), config_map("other", n="1")))
        await world.until_applied("app")
        await world.push({"app/all.yaml": documents(seed("second"), config_map("other", n="2"))})
        (app,) = await world.until_applied("app")
        assert await world.data("seed") == {"value": "first"}
        assert await world.data("other") == {"n": "2"}
        assert len(app["status"]["inventory"]["entries"]) == 2
        # It is created again once it is gone, and pruned when it is no longer wanted.
        await world.delete("v1", "ConfigMap", "seed")
        await world.until_data("seed", {"value": "second"})
        await world.push({"app/all.yaml": config_map("other", n="2")})
        await world.until_applied("app")
        assert await world.data("seed") is None


@pytest.mark.parametrize("flag", ["reconcile: disabled", "ssa: Ignore"])
async def test_what_is_not_to_be_applied_is_not(world: World, flag: str) -> None:
    name, _, value = flag.partition(": ")
    metadata = {"labels": {f"{OWNER}/{name}": value}}
    async with world.daemon():
        await app_of(world, documents(manifest("v1", "ConfigMap", "left", metadata=metadata), config_map("other")))
        await world.until_applied("app")
    assert await world.data("left") is None
    assert await world.data("other") is not None


async def test_a_live_object_that_says_so_is_left_alone(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, config_map("a", n="1"), interval="1h")
        await world.until_applied("app")
        disabled = {"metadata": {"annotations": {f"{OWNER}/reconcile": "disabled"}}, "data": {"n": "hands off"}}
        await world.patch("v1", "ConfigMap", "a", disabled)
        await running.idle()
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await world.until_applied("app")
        assert await world.data("a") == {"n": "hands off"}


async def test_merge_keeps_what_kubectl_added(world: World) -> None:
    content = manifest("v1", "ConfigMap", "a", metadata={"annotations": {f"{OWNER}/ssa": "Merge"}}, data={"ours": "1"})
    async with world.daemon() as running:
        await app_of(world, content)
        await world.until_applied("app")
        await world.patch("v1", "ConfigMap", "a", {"data": {"theirs": "2"}}, manager="kubectl-edit")
        await world.push({"app/all.yaml": content.replace('"ours": "1"', '"ours": "3"')})
        await world.until_applied("app")
        await running.idle()
    assert await world.data("a") == {"ours": "3", "theirs": "2"}


def immutable(value: str, **metadata: object) -> str:
    return manifest("v1", "ConfigMap", "fixed", metadata=metadata, immutable=True, data={"value": value})


async def test_an_immutable_field_fails_unless_force_is_set(world: World) -> None:
    async with world.daemon():
        await app_of(world, immutable("old"))
        await world.until_applied("app")
        before = await world.get("v1", "ConfigMap", "fixed")
        await world.push({"app/all.yaml": immutable("new")})
        await world.until_target("app", failed("ReconciliationFailed", "ConfigMap", "fixed", "immutable"))
        assert await world.data("fixed") == {"value": "old"}
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"force": True}})
        await world.until_applied("app")
        after = await world.get("v1", "ConfigMap", "fixed")
    assert before is not None
    assert after is not None
    assert after["data"] == {"value": "new"}
    assert after["metadata"]["uid"] != before["metadata"]["uid"]


async def test_an_object_may_ask_to_be_made_again_itself(world: World) -> None:
    flag = {"annotations": {f"{OWNER}/force": "Enabled"}}
    async with world.daemon() as running:
        await app_of(world, immutable("old", **flag))
        await world.until_applied("app")
        await world.push({"app/all.yaml": immutable("new", **flag)})
        await world.until_applied("app")
        actions = [one.action for one in running.events(ObjectApplied)]  # type: ignore[attr-defined]
    assert actions == ["created", "recreated"]
    assert await world.data("fixed") == {"value": "new"}


def binding(role: str) -> str:
    reference = {"apiGroup": RBAC, "kind": "Role", "name": role}
    return manifest(f"{RBAC}/v1", "RoleBinding", "made-again", roleRef=reference)


def deployment(label: str, *, port: int = 80) -> str:
    container = {"name": "a", "image": "a", "ports": [{"containerPort": port}]}
    template = {"metadata": {"labels": {"app": label}}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": label}}, "template": template}
    return manifest("apps/v1", "Deployment", "made-again", spec=spec)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (binding("one"), binding("two"), "cannot change roleRef"),
        (deployment("one"), deployment("two"), "field is immutable"),
    ],
    ids=["roleRef", "selector"],
)
async def test_whatever_the_server_lets_nobody_change_is_made_again_where_that_is_allowed(
    world: World, before: str, after: str, said: str
) -> None:
    kind = json.loads(before)["kind"], json.loads(before)["apiVersion"]
    async with world.daemon(prune_guard=Guard(enabled=False)) as running:
        await app_of(world, before)
        await world.until_applied("app")
        first = await world.get(kind[1], kind[0], "made-again")
        await world.push({"app/all.yaml": after})
        await world.until_target("app", failed("ReconciliationFailed", kind[0], said, "(in app/all.yaml:1)"))
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"force": True}})
        await world.until_applied("app")
        again = await world.get(kind[1], kind[0], "made-again")
        actions = [one.action for one in running.events(ObjectApplied)]  # type: ignore[attr-defined]
    assert first is not None
    assert again is not None
    assert again["metadata"]["uid"] != first["metadata"]["uid"]
    assert actions == ["created", "recreated"]


async def test_what_a_definition_lets_nobody_change_is_made_again_whatever_its_words(world: World, group: str) -> None:
    definition = json.loads(crd(group))
    size = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"]
    size["x-kubernetes-validations"] = [{"rule": "self >= oldSelf", "message": "it only grows"}]

    def widget(size: int) -> str:
        return manifest(f"{group}/v1", "Widget", "w", spec={"size": size})

    async with world.daemon(prune_guard=Guard(enabled=False)) as running:
        await app_of(world, documents(json.dumps(definition) + "\n", widget(2)))
        await world.until_applied("app")
        await world.push({"app/all.yaml": documents(json.dumps(definition) + "\n", widget(1))})
        await world.until_target("app", failed("ReconciliationFailed", "Widget", "it only grows", "spec.size"))
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"force": True}})
        await world.until_applied("app")
        found = await world.get(f"{group}/v1", "Widget", "w")
        actions = [
            one.action
            for one in running.events(ObjectApplied)
            if isinstance(one, ObjectApplied) and one.object.endswith("/w")
        ]
    assert found is not None
    assert found["spec"] == {"size": 1}
    assert actions == ["created", "recreated"]


async def test_what_is_wrong_in_itself_is_not_deleted_to_be_made_again(world: World) -> None:
    """Flux deletes it, and then cannot make it: nothing is left."""
    async with world.daemon(prune_guard=Guard(enabled=False)) as running:
        await app_of(world, deployment("one"), force=True)
        await world.until_applied("app")
        for wrong in (deployment("two", port=99999), deployment("one", port=99999)):
            seen = len(running.recorded)
            await world.push({"app/all.yaml": wrong})
            refused = await running.until_event(VerificationFailed, after=seen)
            (verdict,) = refused.failed
            assert verdict.object == f"apps/Deployment/{world.namespace}/made-again"
            assert "containerPort" in verdict.message
            assert "(in app/all.yaml:1)" in verdict.message
        found = await world.get("apps/v1", "Deployment", "made-again")
        assert found is not None
        assert "deletionTimestamp" not in found["metadata"]
        assert not running.events(ObjectPruned)


async def account(world: World, name: str, *, may: bool) -> None:
    await world.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
    verbs = ["get", "list", "watch", "create", "patch", "delete"] if may else ["get"]
    rules: list[KubeObject] = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]
    await world.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules})
    await world.apply(
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": world.namespace}],
        }
    )


async def test_objects_are_applied_on_behalf_of_the_service_account(world: World) -> None:
    await account(world, "deployer", may=True)
    async with world.daemon():
        await app_of(world, documents(config_map("a"), config_map("b")), serviceAccountName="deployer")
        await world.until_applied("app")
        await world.push({"app/all.yaml": config_map("a")})
        await world.until_applied("app")
        requests = await world.requests("patch", "delete")
    on_behalf = {
        (entry["verb"], (entry.get("impersonatedUser") or {}).get("username"))
        for entry in requests
        if entry["objectRef"]["resource"] == "configmaps"
    }
    user = f"system:serviceaccount:{world.namespace}:deployer"
    assert on_behalf == {("patch", user), ("delete", user)}
    assert await world.data("b") is None


async def test_without_permission_nothing_is_applied_and_it_recovers(world: World) -> None:
    await account(world, "weak", may=False)
    async with world.daemon() as running:
        await app_of(world, documents(config_map("a"), config_map("b")), serviceAccountName="weak", retryInterval="2s")
        said = ("ConfigMap/", "(Forbidden)", "weak", "cannot patch", "app/all.yaml:1")
        await world.until_target("app", failed("ReconciliationFailed", *said))
        await world.until_told("app", "ReconciliationFailed", *said)
        assert running.events(ApplyStarted) == []
        await account(world, "weak", may=True)
        await world.until_applied("app")


async def test_another_account_is_asked_about_though_nothing_else_changed(world: World) -> None:
    await account(world, "deployer", may=True)
    await account(world, "heir", may=True)

    async def act_as(name: str) -> None:
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"serviceAccountName": name}})

    async with world.daemon() as running:
        await app_of(world, documents(config_map("a"), config_map("b")), serviceAccountName="deployer")
        await world.until_applied("app")
        await running.idle()
        applies = len(running.events(ApplyStarted))
        await act_as("nobody")
        await world.until_target("app", failed("ReconciliationFailed", "ConfigMap", "nobody", "cannot patch"))
        assert len(running.events(ApplyStarted)) == applies
        await act_as("deployer")
        await world.until_applied("app")
        await running.idle()
        before = len(await world.requests())
        await act_as("heir")
        await world.until_applied("app")
        await running.idle()
        requests = (await world.requests())[before:]
        assert sorted(dry_runs(requests)) == ["a", "b"], "each object was asked about, once"
        assert not [one for one in written(requests) if one[1] == "configmaps"], "and none was written"
        before = len(await world.requests())
        await world.ask("Kustomization", "app")
        await world.until_applied("app")
        await running.idle()
        assert dry_runs((await world.requests())[before:]) == [], "what was found to be allowed is not asked again"


async def test_another_default_account_is_asked_about_after_a_restart(world: World) -> None:
    async with world.daemon():
        await app_of(world, config_map("a"))
        await world.until_applied("app")
    async with world.daemon(default_service_account="nobody"):
        await world.until_target("app", failed("ReconciliationFailed", "ConfigMap", "nobody", "cannot patch"))
    async with world.daemon():
        await world.until_applied("app")


async def may_not_delete(world: World, name: str) -> None:
    rules: list[KubeObject] = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create", "patch"]}
    ]
    await world.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules})


async def test_what_could_not_be_deleted_stays_in_the_inventory(world: World) -> None:
    await account(world, "deployer", may=True)
    await may_not_delete(world, "deployer")
    async with world.daemon():
        await app_of(world, documents(config_map("a"), config_map("b")), serviceAccountName="deployer")
        await world.until_applied("app")
        await world.push({"app/all.yaml": config_map("a")})
        app = await world.until_target("app", failed("PruneFailed", "configmaps", "b"))
        assert len(app["status"]["inventory"]["entries"]) == 2
        await world.until_told("app", "PruneFailed", "b")
        await account(world, "deployer", may=True)
        await world.ask("Kustomization", "app")
        await world.until_applied("app")
    assert await world.data("b") is None


async def test_an_apply_that_goes_on_failing_is_tried_and_recorded_less_and_less_often(world: World) -> None:
    """However soon it asks to be tried again: each try is in the log, whole."""
    asked_s, tries = 0.05, 7
    await account(world, "deployer", may=True)
    await may_not_delete(world, "deployer")
    async with world.daemon(min_retry_delay=Duration.of_seconds(asked_s)) as running:
        retry = {"serviceAccountName": "deployer", "retryInterval": f"{asked_s * 1_000:.0f}ms"}
        await app_of(world, documents(config_map("a"), config_map("b")), **retry)
        await world.until_applied("app")
        seen = len(running.recorded)
        await world.push({"app/all.yaml": config_map("a")})
        await running.until(lambda _: len(running.events(ApplyFailed)) >= tries, f"{tries} tries")
        told = [one for one in running.recorded[seen:] if ObjectKey.of_stream(one.envelope.stream).name == "app"]
        told = told[: 1 + 4 * tries]
        await account(world, "deployer", may=True)
        await world.ask("Kustomization", "app")
        await world.until_applied("app")
    kinds = [one.envelope.type for one in told]
    assert kinds == ["Rendered", *["Planned", "Verified", "ApplyStarted", "ApplyFailed"] * tries]
    failed_ = [datetime_of(one.envelope.time).timestamp() for one in told if one.envelope.type == "ApplyFailed"]
    planned = [datetime_of(one.envelope.time).timestamp() for one in told if one.envelope.type == "Planned"]
    pauses = [began - ended for ended, began in zip(failed_, planned[1:], strict=False)]
    assert all(pause > asked_s * 2**n - 0.01 for n, pause in enumerate(pauses)), pauses
    assert sum(pauses) > 60 * asked_s, "as it asks, it would have been tried sixty times"


async def test_without_its_service_account_a_deleted_target_leaves_what_it_applied(world: World) -> None:
    await account(world, "deployer", may=True)
    async with world.daemon():
        await app_of(world, config_map("a"), serviceAccountName="deployer")
        await world.until_applied("app")
        await world.delete("v1", "ServiceAccount", "deployer")
        await world.delete(KUSTOMIZE, "Kustomization", "app")
        await world.until_gone(KUSTOMIZE, "Kustomization", "app")
        told = await world.until_told("app", "ReconciliationFailed", "deployer", f"{world.namespace}/a")
    assert told["type"] == "Warning"
    assert await world.data("a") is not None


async def test_a_default_account_is_acted_as_where_none_is_named(world: World) -> None:
    await account(world, "tenant", may=True)
    async with world.daemon(default_service_account="tenant"):
        await app_of(world, config_map("a"))
        await world.until_applied("app")
        requests = await world.requests("patch")
    users = {
        (entry.get("impersonatedUser") or {}).get("username")
        for entry in requests
        if entry["objectRef"]["resource"] == "configmaps"
    }
    assert users == {f"system:serviceaccount:{world.namespace}:tenant"}


async def test_sources_of_other_namespaces_may_be_forbidden(world: World) -> None:
    async with world.daemon(no_cross_namespace_refs=True):
        reference = {"kind": "GitRepository", "name": "fleet", "namespace": "default"}
        await app_of(world, config_map("a"), sourceRef=reference)
        obj = await world.until_target("app", failed("AccessDenied", "default/fleet", "blocked"))
        assert condition(obj, "Stalled")["reason"] == "AccessDenied"
        told = await world.until_told("app", "AccessDenied")
        assert told["type"] == "Warning"
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"sourceRef": {"namespace": None}}})
        await world.until_applied("app")


ELSEWHERE = "kube-root-ca.crt"
"""A ConfigMap that is there in every namespace."""


async def test_nobody_learns_from_his_target_what_he_may_not_see(world: World) -> None:
    await account(world, "tenant", may=True)
    world.commit({f"{name}/all.yaml": config_map(name) for name in ("there", "absent")})
    await world.source()
    check = {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "default"}
    names = {"there": ELSEWHERE, "absent": "no-such-thing"}
    for name, there in names.items():
        await world.target(
            f"waits-{name}",
            f"./{name}",
            serviceAccountName="tenant",
            metadata={"annotations": {"tidelog.dev/depends-on": f"core/ConfigMap/default/{there}"}},
        )
        await world.target(
            f"checks-{name}",
            f"./{name}",
            serviceAccountName="tenant",
            targetNamespace=world.namespace,
            healthChecks=[{**check, "name": there}],
        )
    async with world.daemon() as running:
        said = set()
        for way in ("waits", "checks"):
            for name, there in names.items():
                obj = await world.until_target(f"{way}-{name}", failed("ReconciliationFailed", "default", "tenant"))
                said.add(condition(obj, "Ready")["message"].replace(there, "it"))
            assert len(said) == 1, "whether it is there or not, the same is said"
        await running.idle()
        requests = await world.requests()
    assert {
        (entry.get("impersonatedUser") or {}).get("username")
        for entry in requests
        if (entry.get("objectRef") or {}).get("namespace") == "default"
        and (entry["objectRef"]["resource"]) == "configmaps"
    } == {f"system:serviceaccount:{world.namespace}:tenant"}


async def test_an_object_that_the_account_may_see_is_waited_for(world: World) -> None:
    await account(world, "tenant", may=True)
    async with world.daemon():
        annotations = {"tidelog.dev/depends-on": f"core/ConfigMap/{world.namespace}/first"}
        await app_of(world, config_map("a"), serviceAccountName="tenant", metadata={"annotations": annotations})
        await world.until_target("app", failed("DependencyNotReady", "first", "NotFound"))
        await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "first"}})
        await world.until_applied("app")


async def test_dependencies_of_other_namespaces_may_be_forbidden(world: World) -> None:
    async with world.daemon(no_cross_namespace_refs=True):
        annotations = {"tidelog.dev/depends-on": f"core/ConfigMap/default/{ELSEWHERE}"}
        await app_of(world, config_map("a"), metadata={"annotations": annotations})
        await world.until_target("app", failed("AccessDenied", ELSEWHERE, "blocked"))
        for id in (f"core/ConfigMap/_/{ELSEWHERE}", "no-id"):
            annotations = {"tidelog.dev/depends-on": id}
            await world.target("app", "./app", targetNamespace=world.namespace, metadata={"annotations": annotations})
            await world.ask("Kustomization", "app")
            await world.until_target("app", failed("InvalidSpec", id))


async def test_a_shard_keeps_to_its_label(world: World) -> None:
    shard = {"labels": {"sharding.fluxcd.io/key": "one"}}
    world.commit({"app/a.yaml": config_map("a"), "other/b.yaml": config_map("b")})
    await world.source()
    await world.patch("source.toolkit.fluxcd.io/v1", "GitRepository", "fleet", {"metadata": shard})
    await world.target("app", "./app", targetNamespace=world.namespace, metadata=shard)
    await world.target("other", "./other", targetNamespace=world.namespace)
    async with world.daemon(watch_label_selector="sharding.fluxcd.io/key=one") as running:
        await world.until_applied("app")
        await running.idle()
        other = await world.get(KUSTOMIZE, "Kustomization", "other")
    assert other is not None
    assert other["status"] == {"observedGeneration": -1}
    assert await world.data("b") is None


async def test_a_dependency_may_be_of_another_shard(world: World) -> None:
    mine = {"labels": {"sharding.fluxcd.io/key": "one"}}
    theirs = {"labels": {"sharding.fluxcd.io/key": "two"}}
    world.commit({"app/a.yaml": config_map("a"), "base/b.yaml": config_map("b")})
    await world.source()
    await world.patch("source.toolkit.fluxcd.io/v1", "GitRepository", "fleet", {"metadata": mine})
    dependency = [{"name": "base"}]
    await world.target("app", "./app", targetNamespace=world.namespace, metadata=mine, dependsOn=dependency)
    async with world.daemon(watch_label_selector="sharding.fluxcd.io/key=one"):
        await world.until_target("app", failed("DependencyNotReady", "not found"))
        base = await world.target("base", "./base", metadata=theirs)
        await world.until_target("app", failed("DependencyNotReady", "is not ready"))
        status: KubeObject = {
            "observedGeneration": base["metadata"]["generation"],
            "lastAppliedRevision": "main@sha1:" + "0" * 40,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "ReconciliationSucceeded",
                    "message": "as the other shard writes it",
                    "lastTransitionTime": "2024-01-01T00:00:00Z",
                }
            ],
        }
        kind = await world.cluster.kind(KUSTOMIZE, "Kustomization")
        place = (kind, world.namespace, "base")
        await world.cluster.patch(*place, {"status": status}, type="merge", manager="other", subresource="status")
        await world.until_target("app", failed("DependencyNotReady", "not yet at"))
        status = {"lastAppliedRevision": world.revision}
        await world.cluster.patch(*place, {"status": status}, type="merge", manager="other", subresource="status")
        await world.until_applied("app")


async def test_other_namespaces_may_be_left_alone(world: World) -> None:
    world.commit({"app/a.yaml": config_map("a"), "other/b.yaml": config_map("b")})
    fleet = {"kind": "GitRepository", "name": "fleet", "namespace": world.namespace}
    name, elsewhere = f"of-{world.namespace}", {"namespace": "default"}
    await world.source()
    await world.target(name, "./other", targetNamespace=world.namespace, sourceRef=fleet, metadata=elsewhere)
    await world.target("app", "./app", targetNamespace=world.namespace)
    try:
        async with world.daemon(watch_all_namespaces=False) as running:
            await world.until_applied("app")
            await running.idle()
        other = await world.get(KUSTOMIZE, "Kustomization", name, "default")
    finally:
        await world.cluster.delete(await world.cluster.kind(KUSTOMIZE, "Kustomization"), "default", name)
    assert other is not None
    assert other["status"] == {"observedGeneration": -1}
    assert await world.data("b") is None


async def test_writes_are_only_what_differs(world: World) -> None:
    async with world.daemon() as running:
        await app_of(world, documents(*(config_map(f"c{n}", n=str(n)) for n in range(10))))
        await world.until_applied("app")
        await running.idle()
        before = len(await world.requests())
        await world.push(
            {"app/all.yaml": documents(*(config_map(f"c{n}", n="changed" if n == 4 else str(n)) for n in range(10)))}
        )
        await world.until_applied("app")
        await running.idle()
        requests = (await world.requests())[before:]
    assert dry_runs(requests) == ["c4"]
    assert [name for _, resource, name in written(requests) if resource == "configmaps"] == ["c4"]


async def test_an_object_of_another_target_is_not_taken_away_from_it(world: World) -> None:
    world.commit({"one/cm.yaml": config_map("shared", by="one"), "two/cm.yaml": config_map("shared", by="two")})
    await world.source()
    await world.target("one", "./one", targetNamespace=world.namespace)
    async with world.daemon():
        await world.until_applied("one")
        await world.target("two", "./two", targetNamespace=world.namespace)
        await world.until_target("two", failed("ReconciliationFailed", "shared", f"{world.namespace}/one"))
        assert await world.data("shared") == {"by": "one"}


NAMED = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}


async def two_of_one(world: World, *, first: str) -> None:
    """A target `app` that applies an object, and one of somebody who may do nothing, and only names it."""
    named = manifest("v1", "ConfigMap", "a", metadata={"namespace": world.namespace, "annotations": NAMED})
    world.commit({"app/all.yaml": config_map("a", n="1"), "tenant/all.yaml": named})
    await account(world, "tenant", may=False)
    await world.source()
    for name in (first, "tenant" if first == "app" else "app"):
        account_of: dict[str, Any] = {"serviceAccountName": "tenant"} if name == "tenant" else {}
        await world.target(name, f"./{name}", targetNamespace=world.namespace, **account_of)
        await world.until_applied(name)


@pytest.mark.parametrize("first", ["app", "tenant"])
async def test_who_only_names_an_object_does_not_take_it_from_who_applies_it(world: World, first: str) -> None:
    async with world.daemon() as running:
        await two_of_one(world, first=first)
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await world.until_applied("app")
        assert await world.data("a") == {"n": "2"}
        await world.patch("v1", "ConfigMap", "a", {"data": {"n": "3"}}, manager="somebody")
        await running.until_event(DriftDetected)
        await world.until_data("a", {"n": "2"})
        await world.push({"tenant/all.yaml": config_map("b")})
        await world.ask("Kustomization", "tenant")
        assert await world.data("a") == {"n": "2"}


async def test_who_wants_an_object_to_be_there_does_not_take_it_from_who_applies_it(world: World) -> None:
    present = {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}
    async with world.daemon():
        named = manifest("v1", "ConfigMap", "a", metadata={"annotations": present})
        world.commit({"app/all.yaml": config_map("a", n="1"), "other/all.yaml": named})
        await world.source()
        for name in ("app", "other"):
            await world.target(name, f"./{name}", targetNamespace=world.namespace)
            await world.until_applied(name)
        await world.push({"app/all.yaml": config_map("a", n="2")})
        await world.until_applied("app", "other")
        assert await world.data("a") == {"n": "2"}
