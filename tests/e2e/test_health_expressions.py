"""Health of custom resources by expressions, on the real API server (contract CM-080 to CM-082, KS-012, HR-058)."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.e2e.command import tidelog
from tests.e2e.releases import HELM, Releases, told
from tests.e2e.world import KUSTOMIZE, World, condition, documents, failed, is_ready, manifest
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import HealthChanged, InputChanged

CURRENT = "status.phase == 'Bound'"
FAILED = "status.phase == 'Broken'"


def crd(group: str) -> KubeObject:
    """Of objects that have no condition: as far as kstatus can tell they are always as they should be."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"claims.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": "Claim", "plural": "claims", "singular": "claim", "listKind": "ClaimList"},
            "versions": [version | {"subresources": {"status": {}}}],
        },
    }


class Claims:
    """Custom resources whose controller is the test."""

    def __init__(self, world: World, group: str) -> None:
        self._releases = Releases(world)
        self.api_version = f"{group}/v1"
        self.checks = [{"apiVersion": f"{group}/v9", "kind": "Claim", "current": CURRENT, "failed": FAILED}]
        """The version is another: it does not count."""

    def manifest(self, name: str) -> str:
        return manifest(self.api_version, "Claim", name, spec={"size": 3})

    async def say(self, phase: str, name: str = "db") -> None:
        await self._releases.set_status(self.api_version, "Claim", name, {"phase": phase})


@pytest.fixture
async def claims(world: World) -> AsyncIterator[Claims]:
    group = f"{world.namespace}.example.org"
    await world.cluster.apply(crd(group), manager="test")
    await world.until(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        f"claims.{group}",
        lambda obj: obj is not None and condition(obj, "Established").get("status") == "True",
    )
    yield Claims(world, group)
    world.servers.request("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/claims.{group}")


async def test_an_expression_tells_the_health_of_what_wait_is_about(world: World, claims: Claims) -> None:
    world.commit({"app/all.yaml": claims.manifest("db")})
    async with world.daemon() as running:
        await world.source()
        await world.target(
            "app", "./app", targetNamespace=world.namespace, wait=True, healthCheckExprs=claims.checks, timeout="1h"
        )
        # It has no status yet: that is no mistake of the expression, and may be otherwise soon.
        changed = await running.until_event(HealthChanged, where=lambda event: event.checked)
        assert changed.health == "InProgress"
        assert "/db status: 'Unknown': healthCheckExprs: failed: No value with name" in changed.message
        await claims.say("Pending")
        await claims.say("Broken")
        words = ("failed early due to stalled resources", "/db status: 'Failed'")
        await world.until_target("app", failed("HealthCheckFailed", *words))
        await claims.say("Bound")
        await world.until_applied("app")
        await claims.say("Broken")
        await world.until_target("app", failed("HealthCheckFailed", *words))
        await claims.say("Bound")
        await world.until_applied("app")
        await running.idle()
        assert running.events(InputChanged, stream=running.target("app")) == [], "a status is no input"


async def test_an_expression_tells_the_health_of_what_is_named(world: World, claims: Claims) -> None:
    world.commit({"app/all.yaml": documents(claims.manifest("db"), claims.manifest("ignored"))})
    async with world.daemon():
        await world.source()
        named = [{"apiVersion": claims.api_version, "kind": "Claim", "name": name} for name in ("db", "other")]
        every_kind = [{**claims.checks[0], "kind": ""}]
        await world.target(
            "app", "./app", targetNamespace=world.namespace, healthChecks=named, healthCheckExprs=every_kind
        )
        other = {"apiVersion": claims.api_version, "kind": "Claim", "metadata": {"name": "other"}}
        await world.apply(other)
        await world.until(claims.api_version, "Claim", "db", lambda obj: obj is not None)
        await claims.say("Bound", "db")
        app = await world.until_target(
            "app", lambda obj: "health checks" in condition(obj, "Reconciling").get("message", "")
        )
        assert condition(app, "Ready")["status"] == "Unknown"
        await claims.say("Broken", "other")
        await world.until_target("app", failed("HealthCheckFailed", "/other status: 'Failed'"))
        await claims.say("Bound", "other")
        await world.until_applied("app")


async def test_an_expression_tells_when_an_install_is_done(world: World, claims: Claims) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0", claim=claims.manifest("db"))
    async with world.daemon() as running:
        await world.source()
        await releases.release(healthCheckExprs=claims.checks, install={"remediation": {"retries": 1}})
        changed = await running.until_event(HealthChanged, where=lambda event: event.checked)
        assert changed.health == "InProgress"
        assert await releases.statuses() == [(1, "pending-install")]
        await claims.say("Bound")
        found = await releases.until_version(1)
        assert told(found)["Released"] == ("True", "InstallSucceeded")
        await running.idle()
        other = {**claims.checks[0], "failed": "status.phase == 'Bound'", "current": "status.phase == 'Free'"}
        await releases.release(healthCheckExprs=[other], values={"colour": "blue"})
        found = await releases.until(lambda obj: told(obj).get("Released") == ("False", "UpgradeFailed"))
        assert "/db status: 'Failed'" in condition(found, "Released")["message"]
        await claims.say("Free")
        await releases.until_version(3)


async def test_a_preview_sees_that_a_failed_release_has_healed_as_its_expressions_say(
    world: World, claims: Claims
) -> None:
    """HR-058, HR-105: what kstatus says of an object that has no condition is not asked."""
    releases = Releases(world)
    await releases.commit("1.0.0", claim=claims.manifest("db"))

    async def previewed() -> dict[str, str]:
        release = json.loads((await tidelog(world, "plan", "hr/web", "-o", "json")).out)["release"]
        return {field: release[field] for field in ("action", "why")}

    async with world.daemon():
        await world.source()
        await releases.release(healthCheckExprs=claims.checks, timeout="1s")
        await releases.until(lambda obj: told(obj).get("Stalled") == ("True", "RetriesExceeded"), "given up")
    given_up = {"action": "none", "why": "RetriesExceeded: Failed to install after 1 attempt(s)"}
    assert await previewed() == given_up, "it has no status yet, and so no expression a result"
    await claims.say("Pending")
    assert await previewed() == given_up
    await claims.say("Bound")
    assert await previewed() == {"action": "upgrade", "why": "what it failed of has changed"}
    async with world.daemon():
        await releases.until_version(2)


async def test_an_expression_that_is_none_stalls_before_the_source_is_looked_at(world: World) -> None:
    claim = {"apiVersion": "example.org/v1", "kind": "Claim"}
    wrong = [{**claim, "current": "true"}, {**claim, "kind": "Other", "current": "true", "failed": "status."}]
    releases = Releases(world)
    async with world.daemon():
        await world.target("app", "./app", wait=True, healthCheckExprs=wrong)
        said = "spec.healthCheckExprs[1].failed: 1:8: Syntax error"
        app = await world.until_target("app", failed("InvalidCELExpression", said))
        assert condition(app, "Stalled")["reason"] == "InvalidCELExpression"
        assert app["status"]["observedGeneration"] == app["metadata"]["generation"]
        await releases.release(healthCheckExprs=wrong)
        web = await releases.until(failed("InvalidCELExpression", said))
        assert told(web)["Stalled"] == ("True", "InvalidCELExpression")
        twice = [{**claim, "current": "true"}, {**claim, "apiVersion": "example.org/v2", "current": "true"}]
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"healthCheckExprs": twice}})
        said = "spec.healthCheckExprs[1]: entry 0 is about kind Claim of group 'example.org' too"
        await world.until_target("app", failed("InvalidCELExpression", said))
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {"healthCheckExprs": twice[:1]}})
        app = await world.until_target("app", failed("ArtifactFailed"))
        assert not condition(app, "Stalled")
        await world.patch(HELM, "HelmRelease", "web", {"spec": {"healthCheckExprs": twice[:1]}})
        web = await releases.until(lambda obj: "Stalled" not in told(obj))
        assert not is_ready(web)
