"""No output of a daemon tells a secret value, where all is well and where things fail with the value in them."""

import base64
import hashlib
import json
import socket
import subprocess
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import aiohttp
import anyio
import pytest

from tests.e2e.command import tidelog
from tests.e2e.planted import found_in
from tests.e2e.releases import Releases, ready_message
from tests.e2e.test_crashes import daemon_process, stopped
from tests.e2e.world import HELM, KUSTOMIZE, SOURCE, World, condition, documents, failed, is_ready, manifest
from tidelog.engine.http.hooks import hook_path
from tidelog.events.names import ObjectKey

PLANTED = {
    "in Git": "planted-in-git-0123456789",
    "in a variable": "planted-in-variable-0123456789",
    "the password of Git": "planted-password-0123456789",
    "a wrong password of Git": "planted-wrong-password-0123456789",
    "a value of a chart": "planted-in-values-0123456789",
    "the webhooks' token": "planted-token-0123456789",
    "a wrong token": "planted-wrong-token-0123456789",
    "in broken YAML": "planted-in-broken-yaml-0123456789",
    "in a malformed Secret": "planted-in-malformed-0123456789",
    "in broken values": "planted-in-broken-values-0123456789",
}
ADDRESSES = ("storage", "health", "metrics", "webhook")
NOW: tuple[tuple[str, ...], ...] = (
    ("get", "all"),
    ("explain", "ks/app"),
    ("explain", "hr/web"),
    ("explain", "gitrepository/fleet"),
    ("plan", "ks/app"),
    ("plan", "hr/web"),
)
"""What tells of how things are."""
EVER: tuple[tuple[str, ...], ...] = (
    *NOW,
    ("get", "kustomizations"),
    ("get", "helmreleases"),
    ("get", "sources", "all"),
    ("get", "object", "secret/from-git", "-n", "NAMESPACE"),
    ("get", "object", "cm/from-variable", "-n", "NAMESPACE"),
    ("get", "object", "cm/web", "-n", "NAMESPACE"),
    ("tree", "ks", "app"),
    ("tree", "hr", "web"),
    ("trace", "secret/from-git", "-n", "NAMESPACE"),
    ("trace", "cm/from-variable", "-n", "NAMESPACE"),
    ("trace", "cm/web", "-n", "NAMESPACE"),
    ("explain", "secret/from-git", "-n", "NAMESPACE"),
    ("events", "-A", "--limit", "0"),
    ("history", "ks/app"),
    ("history", "hr/web"),
    ("history", "gitrepository/fleet"),
    ("history", "secret/from-git", "-n", "NAMESPACE"),
    ("history", "cm/web", "-n", "NAMESPACE"),
    ("plans", "ks/app"),
    ("plans", "hr/web"),
    ("show-plan", "ks/app"),
    ("show-plan", "hr/web"),
    ("log", "tail", "-n", "5000"),
    ("check",),
    ("settings",),
)
"""What tells of all that was, too."""
WITH_MARKDOWN = ("plan", "show-plan")


class Daemon:
    """`tidelog run`, which says all that it can say."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._token = world.directory / "token"
        self._token.write_text(PLANTED["the webhooks' token"])
        self.at = {name: f"127.0.0.1:{port}" for name, port in zip(ADDRESSES, free_ports(len(ADDRESSES)), strict=True)}

    def running(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        options = ("--log-level", "trace", "--webhook-token-file", self._token)
        return daemon_process(self._world, at=self.at, options=options)

    @property
    def logged(self) -> str:
        return (self._world.directory / "output").read_text()

    async def call(self, token: str, **headers: str) -> int:
        source = ObjectKey(SOURCE.partition("/")[0], "GitRepository", self._world.namespace, "fleet")
        path = hook_path(token, source)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://{self.at['webhook']}{path}"
        async with aiohttp.ClientSession() as session, session.post(url, data=b"{}", headers=named) as answer:
            return answer.status


class Told:
    """What was said, and where."""

    def __init__(self, world: World, daemon: Daemon) -> None:
        self._world = world
        self._daemon = daemon
        self.texts: dict[str, str] = {}

    async def look(self, moment: str, commands: Iterable[tuple[str, ...]] = NOW) -> None:
        """Hears what can be asked at a moment."""
        for words in commands:
            outputs: tuple[str, ...] = ("table", "json", "markdown") if words[0] in WITH_MARKDOWN else ("table", "json")
            if words[:2] == ("get", "object"):
                outputs = ("yaml", "json")
            if commands is NOW:
                outputs = outputs[-1:]
            for output in outputs:
                command = tuple(self._world.namespace if word == "NAMESPACE" else word for word in words)
                done = await tidelog(self._world, *command, "-o", output)
                assert "Traceback" not in done.err, done
                assert done.code != 2 or words[0] == "plan", done
                self.texts[f"{moment}: {' '.join(words)} -o {output}"] = done.out + done.err
        async with aiohttp.ClientSession() as session:
            for name, path in (("metrics", "metrics"), ("health", "healthz"), ("health", "readyz")):
                async with session.get(f"http://{self._daemon.at[name]}/{path}") as answer:
                    assert answer.status == 200
                    self.texts[f"{moment}: /{path}"] = await answer.text()
        for api_version, kind in (
            (KUSTOMIZE, "Kustomization"), (SOURCE, "GitRepository"), (SOURCE, "HelmChart"), (HELM, "HelmRelease"),
            ("v1", "Event"),
        ):  # fmt: skip
            found = await self._world.cluster.list(
                await self._world.cluster.kind(api_version, kind), namespace=self._world.namespace
            )
            for item in found.items:
                name = f"{moment}: {kind} {item['metadata']['name']}"
                self.texts[name] = json.dumps({**item, "spec": None})
        self.texts[f"{moment}: the log"] = self._daemon.logged

    def where(self, value: str) -> list[str]:
        """Where a value was said, plain, in base64, or as a digest that can be tried out."""
        hashed = hashlib.sha256(value.encode()).hexdigest()
        wanted = (value, base64.b64encode(value.encode()).decode().rstrip("="), hashed)
        return [where for where, text in self.texts.items() if any(one in text for one in wanted)]


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def good() -> dict[str, str]:
    """What is in Git and can be applied."""
    secret = manifest("v1", "Secret", "from-git", stringData={"token": PLANTED["in Git"]})
    url = manifest("v1", "ConfigMap", "from-variable", data={"url": "https://ada:${token}@example.org"})
    return {"app/all.yaml": documents(secret, url)}


async def secret(world: World, name: str, data: dict[str, str]) -> None:
    await world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})


async def set_password(world: World, value: str) -> None:
    data = {"password": base64.b64encode(value.encode()).decode()}
    await world.patch("v1", "Secret", "fleet-auth", {"data": data})


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_no_output_tells_a_secret_value(world: World) -> None:
    daemon = Daemon(world)
    told = Told(world, daemon)
    releases = Releases(world)
    how = world.git.behaviour
    how.username, how.password = "ada", PLANTED["the password of Git"]
    await secret(world, "variables", {"token": PLANTED["in a variable"]})
    await secret(world, "values", {"values.yaml": f"colour: {PLANTED['a value of a chart']}\n"})
    world.change(good())
    await releases.commit()
    post_build: dict[str, Any] = {"substituteFrom": [{"kind": "Secret", "name": "variables"}]}
    with daemon.running() as process:
        await world.source()
        await world.target("app", "./app", targetNamespace=world.namespace, postBuild=post_build)
        await releases.release(valuesFrom=[{"kind": "Secret", "name": "values"}], interval="1h")
        await world.until_applied("app")
        await releases.until(is_ready, "ready")
        assert await daemon.call(PLANTED["the webhooks' token"], X_Gitlab_Token=PLANTED["the webhooks' token"]) == 200
        assert await daemon.call(PLANTED["the webhooks' token"], X_Gitlab_Token=PLANTED["a wrong token"]) == 400
        assert await daemon.call(PLANTED["a wrong token"]) == 404
        await told.look("all is well")

        malformed = manifest("v1", "Secret", "from-git", stringData=PLANTED["in a malformed Secret"])
        await world.push({"app/all.yaml": documents(malformed, config_label("${token} !"))})
        await world.until_target("app", failed("ReconciliationFailed", "from-git"))
        await secret(world, "values", {"values.yaml": f"colour: [{PLANTED['in broken values']}\n"})
        await releases.until(lambda obj: condition(obj, "Ready").get("status") == "False", "failed")
        await told.look("the server refuses")

        broken = f"kind: Secret\napiVersion: v1\nstringData:\n  token: {PLANTED['in broken YAML']}: [\n"
        world.change({"app/all.yaml": broken})
        await releases.commit("1.0.1", bad="{{ fail .Values.colour }}")
        await world.until_target("app", failed("BuildFailed"))
        await secret(world, "values", {"values.yaml": f"colour: {PLANTED['a value of a chart']}\n"})
        await releases.ask()
        await releases.until(lambda obj: "bad.yaml" in ready_message(obj), "fails to render")
        await told.look("what is in Git is broken")

        await set_password(world, PLANTED["a wrong password of Git"])
        await world.ask()
        await world.until_source(lambda obj: condition(obj, "Ready").get("status") == "False", "refused")
        await told.look("Git refuses", EVER)
        assert await stopped(process) == 0
    told.texts["the whole log"] = daemon.logged
    for what, value in PLANTED.items():
        assert told.where(value) == [], what
        assert await anyio.to_thread.run_sync(found_in, world.store, value.encode()) == [], what
    assert told.where("from-variable"), "what is said is found"


def config_label(value: str) -> str:
    return manifest("v1", "ConfigMap", "label", metadata={"name": "label", "labels": {"x": value}})
