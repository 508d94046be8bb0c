"""Secret values that pass through are found nowhere afterwards: no file, no log line, no status, no event."""

import base64
import json

import anyio
import pytest

from tests.e2e.command import tidelog
from tests.e2e.planted import found_in
from tests.e2e.world import KUSTOMIZE, SOURCE, World, condition, documents, failed, manifest
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.telling.metrics import Metrics
from tidelog.events.digest import KEYED
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import DriftDetected, HealthChanged, ObjectApplied, ObjectObserved

IN_GIT = "planted-in-git-0123456789"
IN_VARIABLE = "planted-in-variable-0123456789"
PASSWORD = "planted-password-0123456789"
BY_HAND = "planted-by-hand-0123456789"


async def nowhere(world: World, logged: str, *values: str) -> None:
    """None of the values is in the store, in what was logged, or in what the cluster shows of the engine's doing."""
    shown = [logged]
    for api_version, kind in ((KUSTOMIZE, "Kustomization"), (SOURCE, "GitRepository"), ("v1", "Event")):
        found = await world.cluster.list(await world.cluster.kind(api_version, kind), namespace=world.namespace)
        shown += [json.dumps({**item, "spec": None}) for item in found.items]
    for value in values:
        encoded = base64.b64encode(value.encode()).decode().rstrip("=")
        for text in shown:
            assert value not in text
            assert encoded not in text
        assert await anyio.to_thread.run_sync(found_in, world.store, value.encode()) == []


async def answers(world: World) -> str:
    """All that the commands say of a target and of what it owns."""
    told = []
    for command in (
        ("events", "-A", "--limit", "0"),
        ("history", "ks/app"),
        ("history", "secret/from-git", "-n", world.namespace),
        ("history", "cm/from-variable", "-n", world.namespace),
        ("plans", "ks/app"),
        ("show-plan", "ks/app"),
        ("trace", "secret/from-git", "-n", world.namespace),
        ("explain", "cm/from-variable", "-n", world.namespace),
        ("log", "tail", "-n", "1000"),
    ):
        for output in ("table", "json"):
            done = await tidelog(world, *command, "-o", output)
            assert done.code in (0, 1), done
            assert done.out, command
            told += [done.out, done.err]
    return "\n".join(told)


async def variables(world: World, **values: str) -> None:
    await world.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "variables"}, "stringData": dict(values)}
    )


async def app_of(world: World, content: str) -> None:
    world.commit({"app/all.yaml": content})
    await world.source()
    await world.target(
        "app",
        "./app",
        targetNamespace=world.namespace,
        postBuild={"substituteFrom": [{"kind": "Secret", "name": "variables"}]},
    )


async def test_values_that_were_applied_and_changed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.git.behaviour.username, world.git.behaviour.password = "ada", PASSWORD
    caplog.set_level("DEBUG", logger="tidelog")
    content = documents(
        manifest("v1", "Secret", "from-git", stringData={"token": IN_GIT}),
        manifest("v1", "ConfigMap", "from-variable", data={"url": "https://ada:${token}@example.org"}),
    )
    running_metrics = Metrics()
    async with world.daemon() as running:
        running_metrics.bind(running.daemon.engine)
        await variables(world, token=IN_VARIABLE)
        await app_of(world, content)
        await world.until_applied("app")
        await world.until_data("from-variable", {"url": f"https://ada:{IN_VARIABLE}@example.org"})
        await running.idle()
        seen = len(running.recorded)
        for kind, name, data in (
            ("Secret", "from-git", {"token": base64.b64encode(BY_HAND.encode()).decode()}),
            ("ConfigMap", "from-variable", {"url": BY_HAND}),
        ):
            await world.patch("v1", kind, name, {"data": data}, manager="mallory")
        await running.until_event(DriftDetected, after=seen, stream=f"default/core/Secret/{world.namespace}/from-git")
        await world.until_data("from-variable", {"url": f"https://ada:{IN_VARIABLE}@example.org"})
        await world.until(
            "v1",
            "Secret",
            "from-git",
            lambda obj: obj is not None and base64.b64decode(obj["data"]["token"]).decode() == IN_GIT,
        )
        await running.idle()
        metrics = running_metrics.text().decode()
    said = await answers(world)
    assert "from-variable" in said
    assert f'name="app",namespace="{world.namespace}"' in metrics
    await nowhere(world, caplog.text + said + metrics, IN_GIT, IN_VARIABLE, PASSWORD, BY_HAND)
    assert await anyio.to_thread.run_sync(found_in, world.store, b"from-variable"), "what is there is found"


async def test_values_that_kustomize_makes_secrets_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    generators = [
        {"name": "made", "literals": [f"token={IN_GIT}"], "files": ["file.txt"], "envs": ["app.env"]},
        {"name": "typed", "type": "kubernetes.io/basic-auth", "literals": ["username=ada", f"password={PASSWORD}"]},
    ]
    files = {
        "app/kustomization.yaml": json.dumps({"secretGenerator": generators}),
        "app/file.txt": BY_HAND,
        "app/app.env": f"PIN={IN_VARIABLE}\n",
    }
    async with world.daemon() as running:
        world.commit(files)
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace)
        await world.until_applied("app")
        found = await world.cluster.list(await world.cluster.kind("v1", "Secret"), namespace=world.namespace)
        (made,) = [item for item in found.items if item["metadata"]["name"].startswith("made-")]
        assert {name: base64.b64decode(value).decode() for name, value in made["data"].items()} == {
            "token": IN_GIT,
            "file.txt": BY_HAND,
            "PIN": IN_VARIABLE,
        }
        # Another value gives another name: the Secret of the old one is pruned.
        await world.push({"app/file.txt": f"{BY_HAND}-too"})
        await world.until_applied("app")
        await world.until_gone("v1", "Secret", made["metadata"]["name"])
        await world.push({"app/app.env": f"PIN={IN_VARIABLE}\n\xff".encode("latin-1")})
        await world.until_target("app", failed("BuildFailed"))
        await running.idle()
    await nowhere(world, caplog.text, IN_GIT, IN_VARIABLE, PASSWORD, BY_HAND)


@pytest.mark.parametrize(
    ("kind", "spec", "reason"),
    [
        # The server's own words would quote the value.
        ("Service", {"ports": [{"port": "${token}"}]}, "ReconciliationFailed"),
        ("Service", {"type": "${token}", "ports": [{"port": 80}]}, "ReconciliationFailed"),
    ],
)
async def test_values_that_the_server_refuses(
    world: World, caplog: pytest.LogCaptureFixture, kind: str, spec: dict[str, object], reason: str
) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    async with world.daemon() as running:
        await variables(world, token=IN_VARIABLE)
        await app_of(world, manifest("v1", kind, "bad", spec=spec))
        await world.until_target("app", failed(reason, kind, "bad"))
        await world.until_told("app", reason)
        await running.idle()
    await nowhere(world, caplog.text, IN_VARIABLE)


async def test_values_that_break_the_yaml(world: World, caplog: pytest.LogCaptureFixture) -> None:
    broken = f"{IN_VARIABLE}: [ {{"
    async with world.daemon() as running:
        await variables(world, token=broken)
        await app_of(world, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\ndata:\n  a: ${token}\n")
        await world.until_target("app", failed("BuildFailed", "bad"))
        await running.idle()
    await nowhere(world, caplog.text, IN_VARIABLE)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"data": {"pin": 739182646}}, "739182646"),
        ({"data": [IN_GIT]}, IN_GIT),
        ({"data": {"pin": {"inner": IN_GIT}}}, IN_GIT),
        ({"type": [IN_GIT]}, IN_GIT),
        ({"immutable": IN_GIT}, IN_GIT),
        ({"stringData": {f"{IN_GIT} !": "x"}}, IN_GIT),
        ({"stringData": IN_GIT}, IN_GIT),
        ({"stringData": [IN_GIT]}, IN_GIT),
        ({"stringData": {"pin": 739182646}}, "739182646"),
        ({"stringData": {"pin": "x"}, "data": [IN_GIT]}, IN_GIT),
        ({"metadata": {"name": "bad", "labels": {"x": f"{IN_GIT} !"}}}, IN_GIT),
    ],
    ids=[
        "number",
        "list",
        "map",
        "type",
        "immutable",
        "key",
        "text for texts",
        "list for texts",
        "number for a text",
        "list beside texts",
        "label",
    ],
)
async def test_a_malformed_secret_that_the_server_quotes(
    world: World, caplog: pytest.LogCaptureFixture, fields: dict[str, object], value: str
) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    obj = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad"}, **fields}
    async with world.daemon() as running:
        await variables(world, token=IN_VARIABLE)
        await app_of(world, json.dumps(obj))
        await world.until_target("app", failed("ReconciliationFailed", "Secret", "bad", "***"))
        await world.until_told("app", "ReconciliationFailed")
        await running.idle()
    await nowhere(world, caplog.text, value)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("GitRepository", {"url": f"https://localhost:1/app.git?token={PASSWORD}", "ref": {"branch": "main"}}),
        ("OCIRepository", {"url": f"oci://localhost:1/app?token={PASSWORD}"}),
        ("HelmRepository", {"url": f"https://localhost:1/charts?token={PASSWORD}"}),
        ("Bucket", {"endpoint": f"localhost:1/?token={PASSWORD}", "bucketName": "b"}),
        ("Bucket", {"endpoint": f"ada:{PASSWORD}@localhost:1", "bucketName": "b"}),
    ],
    ids=["Git", "OCI", "Helm", "bucket", "credentials of a bucket"],
)
async def test_a_token_in_the_address_of_a_source(
    world: World, caplog: pytest.LogCaptureFixture, kind: str, spec: KubeObject
) -> None:
    await world.apply(
        {"apiVersion": SOURCE, "kind": kind, "metadata": {"name": "app"}, "spec": {"interval": "1h", **spec}}
    )
    async with world.daemon() as running:
        found = await world.until(
            SOURCE, kind, "app", lambda obj: obj is not None and condition(obj, "Ready").get("status") == "False"
        )
        await running.idle()
    assert found is not None
    assert PASSWORD not in json.dumps(found["status"])
    await nowhere(world, caplog.text, PASSWORD)


async def test_what_substitution_makes_of_a_value(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    content = documents(
        manifest("v1", "ConfigMap", "upper", metadata={"name": "upper", "labels": {"a": "${token^^} !"}}),
        manifest("v1", "ConfigMap", "part", metadata={"name": "part", "labels": {"a": "${token:0:12} !"}}),
    )
    async with world.daemon() as running:
        await variables(world, token=IN_VARIABLE)
        await app_of(world, content)
        obj = await world.until_target("app", failed("ReconciliationFailed", "upper", "part", "***"))
        await running.idle()
        before = condition(obj, "Ready")["message"]
    # Another process makes it again, to know what it must not say.
    async with world.daemon() as running:
        await running.idle()
        await world.ask("Kustomization", "app")
        await running.idle()
        again = await world.get(KUSTOMIZE, "Kustomization", "app")
        assert again is not None
        assert condition(again, "Ready")["message"] == before
    await nowhere(world, caplog.text, IN_VARIABLE, IN_VARIABLE.upper(), IN_VARIABLE[:12])


async def test_a_value_in_the_name_of_an_object(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    async with world.daemon() as running:
        await variables(world, token=IN_VARIABLE)
        await app_of(world, manifest("v1", "ConfigMap", "x-${token}", data={"a": "b"}))
        await world.until_target("app", failed("BuildFailed", "metadata.name", "secret variable 'token'"))
        await running.idle()
    await nowhere(world, caplog.text, IN_VARIABLE)


async def test_a_value_in_a_patch_of_a_secret(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "patched"}, "stringData": {"pin": "none"}}
    patch = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: patched}}\nstringData: {{pin: {IN_GIT}}}\n"
    async with world.daemon() as running:
        world.commit({"app/all.yaml": json.dumps(secret)})
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, patches=[{"patch": patch}])
        await world.until_applied("app")
        await running.idle()
    found = await world.get("v1", "Secret", "patched")
    assert found is not None
    assert base64.b64decode(found["data"]["pin"]).decode() == IN_GIT
    await nowhere(world, caplog.text, IN_GIT)


async def test_what_was_made_with_a_value_and_is_made_again_by_somebody_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    async with world.daemon() as running:
        await variables(world, token=IN_VARIABLE)
        await app_of(world, manifest("v1", "ConfigMap", "from-variable", data={"a": "${token}"}))
        await world.until_applied("app")
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"suspend": True}})
        await running.idle()
        seen = len(running.recorded)
        live = await world.get("v1", "ConfigMap", "from-variable")
        assert live is not None
        stream = f"default/core/ConfigMap/{world.namespace}/from-variable"
        await world.delete("v1", "ConfigMap", "from-variable")
        await running.until_event(ObjectObserved, after=seen, stream=stream)
        seen = len(running.recorded)
        metadata = {"name": "from-variable", "labels": live["metadata"]["labels"]}
        await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": live["data"]})
        await running.until_event(ObjectObserved, after=seen, stream=stream)
        await running.idle()
    await nowhere(world, caplog.text, IN_VARIABLE)


async def test_a_controller_s_words_about_an_object_with_a_secret_value_are_not_repeated(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    pod = {
        "metadata": {"labels": {"app": "web"}, "annotations": {"token": "${token}"}},
        "spec": {"containers": [{"name": "web", "image": "nginx"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": pod}
    said = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    said |= {"message": f"cannot use {IN_VARIABLE}", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    async with world.daemon() as running:
        await variables(world, token=IN_VARIABLE)
        await app_of(world, manifest("apps/v1", "Deployment", "web", spec=spec))
        await world.until_applied("app")
        kind = await world.cluster.kind("apps/v1", "Deployment")
        patch = {"status": {"conditions": [said]}}
        where = (kind, world.namespace, "web")
        await world.cluster.patch(*where, patch, type="merge", manager="kcm", subresource="status")
        told = await running.until_event(HealthChanged, where=lambda event: event.health == "Failed")
        assert (told.reason, told.message) == ("ProgressDeadlineExceeded", "")
        await running.idle()
    await nowhere(world, caplog.text, IN_VARIABLE)


def _is_keyed(applied: ObjectApplied) -> bool:
    return applied.desired.startswith(KEYED)


def child(path: str, **spec: object) -> str:
    """A Kustomization that another one makes."""
    source = {"kind": "GitRepository", "name": "fleet"}
    fields = {"interval": "10m", "prune": True, "sourceRef": source, "path": path, **spec}
    return manifest(KUSTOMIZE, "Kustomization", "child", spec=fields)


async def test_a_value_in_the_path_of_a_kustomization_that_another_one_makes(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    async with world.daemon() as running:
        await variables(world, token=IN_VARIABLE)
        await app_of(world, child("./teams/${token}/deploy"))
        seen = await world.until_target("child", failed("ArtifactFailed", "kustomization path not found"))
        assert condition(seen, "Ready")["message"] == "kustomization path not found: ***"
        assert seen["spec"]["path"] == f"./teams/{IN_VARIABLE}/deploy"
        told = await world.until_told("child", "ArtifactFailed", "path not found")
        await running.idle()
    said = [json.dumps(told)]
    for command in (("explain", "ks/child"), ("get", "ks/child"), ("history", "ks/child"), ("events", "-A")):
        for output in ("table", "json"):
            done = await tidelog(world, *command, "-o", output)
            said += [done.out, done.err]
    for options in ((), ("--path", str(world.directory))):
        done = await tidelog(world, "plan", "ks/child", *options)
        assert done.code == 3, done
        said += [done.out, done.err]
    assert "kustomization path not found: ***" in "".join(said)
    await nowhere(world, caplog.text + "\n".join(said), IN_VARIABLE)


async def test_a_value_in_the_spec_of_a_kustomization_is_not_told_when_that_changes_or_a_daemon_starts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The parent stops putting it in and begins again; what the child is asked for is known from the log alone."""
    caplog.set_level("DEBUG", logger="tidelog")
    async with world.daemon() as running:
        await variables(world, token=IN_VARIABLE)
        await app_of(world, child("./${token}", commonMetadata={"labels": {"team": "${token}"}}))
        await world.until_target("child", failed("ArtifactFailed"))
        world.commit({"app/all.yaml": child("./nowhere")})
        await world.ask()
        child_of = ObjectKey("kustomize.toolkit.fluxcd.io", "Kustomization", world.namespace, "child")
        await running.until_event(
            ObjectApplied, where=lambda event: event.object == child_of.id and not _is_keyed(event)
        )
        await world.ask("Kustomization", "child")
        await world.until_target("child", failed("ArtifactFailed", "./nowhere"), "an open path is told")
        world.commit({"app/all.yaml": child("./x/${token}")})
        await world.ask()
        await world.until_target("child", failed("ArtifactFailed", "***"))
        await running.idle()
    async with world.daemon() as running:
        token = await world.ask("Kustomization", "child")
        await world.until_target("child", lambda obj: obj["status"].get("lastHandledReconcileAt") == token)
        await running.idle()
    await nowhere(world, caplog.text, IN_VARIABLE)
