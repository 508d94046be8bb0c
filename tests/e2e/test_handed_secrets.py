"""Secret values that one Kustomization hands on to another in its spec: what that one builds with them is as secret."""

import base64
import json

import pytest

from tests.e2e.command import tidelog
from tests.e2e.planted import found_in
from tests.e2e.test_secrets import nowhere, variables
from tests.e2e.world import KUSTOMIZE, World, documents, failed, manifest
from tidelog.events.digest import KEYED
from tidelog.events.vocabulary import ObjectApplied

TOKEN = "planted-in-variable-0123456789"
IN_PATCH = "planted-in-patch-0123456789"
TAG = "planted-in-tag-0123456789"
LABEL = "planted-in-label-0123456789"
PLANTED = (TOKEN, IN_PATCH, TAG, LABEL)
OPEN = "plainly-to-be-read-0123456789"
VALUES = {
    "token": TOKEN,
    "patched": IN_PATCH,
    "encoded": base64.b64encode(IN_PATCH.encode()).decode(),
    "tag": TAG,
    "label": LABEL,
    "debug": "true",
    "one": "1",
}
SHORT = {"debug": "is ${debug}", "one": "no ${one}"}
"""What else would be read as no text."""
SECRET = ("debug", "encoded", "patched", "token", "web")
"""Of each Kustomization, the objects that are secret; and `open` is not."""


def handing(world: World, name: str, path: str, **spec: object) -> str:
    """A Kustomization that is given secret values in many fields of its spec."""
    patches = [
        {
            "patch": json.dumps([{"op": "add", "path": "/data", "value": {"by": f"${{{variable}}}", "n": "${one}"}}]),
            "target": {"kind": "ConfigMap", "name": f"{name}-{target}"},
        }
        for target, variable in (("patched", "patched"), ("encoded", "encoded"))
    ]
    given: dict[str, object] = {
        "patches": patches,
        "images": [{"name": "web", "newTag": "${tag}"}, {"name": "nothing", "newTag": "v${one}"}],
        "postBuild": {
            "substitute": {name: f"${{{name}}}" for name in (*VALUES, "open")} | {"url": "ada:${token}@x"} | SHORT
        },
    }
    source = {"kind": "GitRepository", "name": "fleet"}
    fields = {"interval": "10m", "prune": True, "sourceRef": source, "path": path, "targetNamespace": world.namespace}
    return manifest(KUSTOMIZE, "Kustomization", name, spec={**fields, **given, **spec})


def built(name: str, more: str = "") -> str:
    """What such a Kustomization builds."""
    pod = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "web:old"}]}}
    web = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": pod}
    return documents(
        manifest("v1", "ConfigMap", f"{name}-token", data={"url": "https://${url}", "more": more or "none"}),
        manifest("v1", "ConfigMap", f"{name}-debug", data={"debug": "${debug}"}),
        manifest("v1", "ConfigMap", f"{name}-open", data={"a": "${open}", "b": "true", "c": "1", "d": more or "none"}),
        manifest("v1", "ConfigMap", f"{name}-patched", data={}),
        manifest("v1", "ConfigMap", f"{name}-encoded", data={}),
        manifest("apps/v1", "Deployment", f"{name}-web", spec=web),
    )


async def family(world: World, *, label: bool = False) -> None:
    """A Kustomization, one that it makes, and one that that one makes."""
    metadata = {"commonMetadata": {"annotations": {"by": "${label}"}}} if label else {}
    world.commit(
        {
            "app/all.yaml": handing(world, "child", "./child"),
            "child/all.yaml": documents(built("child"), handing(world, "grandchild", "./grandchild", **metadata)),
            "grandchild/all.yaml": built("grandchild"),
        }
    )
    await world.source()
    await world.target(
        "app",
        "./app",
        targetNamespace=world.namespace,
        postBuild={"substitute": {"open": OPEN}, "substituteFrom": [{"kind": "Secret", "name": "variables"}]},
    )


def secret_ones(recorded: list[ObjectApplied]) -> dict[str, bool]:
    """Of each object as it was applied last: whether it is secret."""
    return {event.object.rpartition("/")[2]: event.desired.startswith(KEYED) for event in recorded}


def expected(*names: str) -> dict[str, bool]:
    return {f"{name}-{part}": part in SECRET for name in names for part in (*SECRET, "open")}


async def said(world: World) -> str:
    """All that the commands say of the two that were given secrets."""
    told = []
    proposed = world.directory / "proposed"
    for name in ("child", "grandchild"):
        (proposed / name).mkdir(parents=True)
        (proposed / name / "all.yaml").write_text(built(name, "proposed"))
    commands = (
        ("events", "-A", "--limit", "0"),
        ("log", "tail", "-n", "2000"),
        ("plan", "ks/child", "--path", str(proposed)),
        ("plan", "ks/grandchild", "--path", str(proposed)),
        ("show-plan", "ks/child"),
        ("trace", "cm/grandchild-token", "-n", world.namespace),
        ("history", "cm/child-patched", "-n", world.namespace),
    )
    for command in commands:
        done = await tidelog(world, *command, "-o", "json")
        assert done.code in (0, 1, 2), done
        told += [done.out, done.err]
    return "\n".join(told)


@pytest.mark.slow
async def test_what_is_built_with_values_that_were_handed_on_is_secret(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    async with world.daemon() as running:
        await variables(world, **VALUES)
        await family(world)
        await world.until_applied("app", "child", "grandchild")
        await running.idle()
        await world.until_data("grandchild-token", {"url": f"https://ada:{TOKEN}@x", "more": "none"})
        await world.until_data("grandchild-patched", {"by": IN_PATCH, "n": "no 1"})
        web = await world.get("apps/v1", "Deployment", "grandchild-web")
        assert web is not None
        assert web["spec"]["template"]["spec"]["containers"][0]["image"] == f"web:{TAG}"
        applied = running.events(ObjectApplied)
        assert secret_ones([one for one in applied if isinstance(one, ObjectApplied)]) == {
            **expected("child", "grandchild"),
            "child": True,
            "grandchild": True,
        }
    # Another process builds it anew, of other files, and its maker has nothing to do.
    async with world.daemon() as running:
        await world.push(
            {
                "child/all.yaml": documents(built("child", "new"), handing(world, "grandchild", "./grandchild")),
                "grandchild/all.yaml": built("grandchild", "new"),
            }
        )
        await world.until_applied("app", "child", "grandchild")
        await world.until_data("grandchild-token", {"url": f"https://ada:{TOKEN}@x", "more": "new"})
        await running.idle()
        applied = running.events(ObjectApplied)
        changed = secret_ones([one for one in applied if isinstance(one, ObjectApplied)])
        assert {name: changed.get(name) for name in ("child-token", "child-open", "grandchild-token")} == {
            "child-token": True,
            "child-open": False,
            "grandchild-token": True,
        }
        await world.patch(
            "v1", "ConfigMap", "child-patched", {"data": {"by": f"{IN_PATCH}-by-hand"}}, manager="mallory"
        )
        await world.until_data("child-patched", {"by": IN_PATCH, "n": "1"})
        await running.idle()
    told = await said(world)
    assert "child-token" in told
    assert "proposed" in told, "what is not secret of a plan is shown"
    await nowhere(world, caplog.text + told, *PLANTED)
    assert found_in(world.store, OPEN.encode()), "what is not secret is found"


async def test_a_label_that_was_handed_on_makes_all_secret_and_a_name_may_not_be_made_with_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="tidelog")
    async with world.daemon() as running:
        await variables(world, **VALUES)
        await family(world, label=True)
        await world.until_applied("app", "child", "grandchild")
        await running.idle()
        applied = secret_ones([one for one in running.events(ObjectApplied) if isinstance(one, ObjectApplied)])
        assert applied["grandchild-open"], "it has the annotation"
        assert not applied["child-open"]
        named = manifest("v1", "ConfigMap", "x-${token}", data={"a": "b"})
        await world.push({"grandchild/all.yaml": named})
        await world.until_target("grandchild", failed("BuildFailed", "metadata.name", "secret variable 'token'"))
        await running.idle()
    await nowhere(world, caplog.text, *PLANTED)
