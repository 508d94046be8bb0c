"""What Flux's kinds can ask for and the engine cannot do yet: refused by name, with Stalled, and not done in part."""

from typing import Any

import pytest

from tests.e2e.world import KUSTOMIZE, SOURCE, Predicate, World, condition, config_map, failed, is_ready
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import RevisionFetched

OF_INCLUDE = [{"repository": {"name": "another"}}]
OF_SOURCES: dict[str, Any] = {
    "spec.url": {"url": "ssh://git@example.org/fleet"},
    "spec.provider": {"provider": "github"},
    "spec.verify": {"verify": {"mode": "HEAD", "secretRef": {"name": "keys"}}},
    "spec.proxySecretRef": {"proxySecretRef": {"name": "proxy"}},
    "spec.recurseSubmodules": {"recurseSubmodules": True},
    "spec.include": {"include": OF_INCLUDE},
    "spec.sparseCheckout": {"sparseCheckout": ["app"]},
}
OF_TARGETS: dict[str, Any] = {
    "spec.decryption": {"decryption": {"provider": "sops"}},
    "spec.ignore": {"ignore": [{"paths": ["/data"]}]},
}


def stalled(field: str) -> Predicate:
    """It says so, of this generation, and does not go on."""

    def holds(obj: KubeObject) -> bool:
        return (
            failed("UnsupportedFeature", f"{field}: ")(obj)
            and condition(obj, "Stalled").get("status") == "True"
            and condition(obj, "Stalled")["message"] == condition(obj, "Ready")["message"]
            and not condition(obj, "Reconciling")
            and bool(obj["status"]["observedGeneration"] == obj["metadata"]["generation"])
        )

    return holds


async def test_what_a_source_cannot_have_yet_is_refused_until_it_is_taken_out(world: World) -> None:
    world.commit({"app/a.yaml": config_map("a", n="1")})
    url = world.git.url("fleet")
    await world.source()
    await world.target("app", "./app", targetNamespace=world.namespace)
    async with world.daemon() as running:
        await world.until_applied("app")
        good = world.head
        world.change({"app/a.yaml": config_map("a", n="2")})
        seen = len(running.recorded)
        for field, asked in OF_SOURCES.items():
            await world.patch(SOURCE, "GitRepository", "fleet", {"spec": asked})
            source = await world.until_source(stalled(field), f"stalled by {field}")
            assert source["status"]["artifact"]["revision"].endswith(good), field
            await world.until_told("fleet", "UnsupportedFeature", f"{field}: ", kind="GitRepository")
            undone = {**dict.fromkeys(asked), **({"url": url} if "url" in asked else {})}
            # Refused still: one of several fields is as good as all of them.
            await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {**undone, "include": OF_INCLUDE}})
            await world.until_source(stalled("spec.include"), "stalled by spec.include")
        assert running.events(RevisionFetched, after=seen) == []
        assert await world.data("a") == {"n": "1"}
        await world.patch(SOURCE, "GitRepository", "fleet", {"spec": {"include": None}})
        await world.until_source(is_ready)
        await world.until_applied("app")
    assert await world.data("a") == {"n": "2"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tls.crt": "YQ==", "tls.key": "YQ=="}, "client certificates"),
        ({"githubAppID": "MQ==", "githubAppPrivateKey": "YQ=="}, "GitHub App"),
    ],
)
async def test_credentials_that_cannot_be_used_yet_are_refused_until_they_are_others(
    world: World, keys: dict[str, str], said: str
) -> None:
    world.commit({"app/a.yaml": config_map("a", n="1")})
    await world.source()
    await world.patch("v1", "Secret", "fleet-auth", {"data": keys})
    async with world.daemon():
        source = await world.until_source(stalled("spec.secretRef"), "stalled")
        assert said in condition(source, "Stalled")["message"]
        assert "fleet-auth" in condition(source, "Stalled")["message"]
        await world.until_told("fleet", "UnsupportedFeature", said, kind="GitRepository")
        await world.patch("v1", "Secret", "fleet-auth", {"data": dict.fromkeys(keys)})
        await world.until_source(is_ready)


async def test_what_a_target_cannot_have_yet_is_refused_until_it_is_taken_out(world: World) -> None:
    nothing = dict.fromkeys(name for asked in OF_TARGETS.values() for name in asked)
    world.commit({"app/a.yaml": config_map("a", n="1")})
    await world.source()
    async with world.daemon():
        await world.target("app", "./app", targetNamespace=world.namespace, **OF_TARGETS["spec.ignore"])
        for field, asked in OF_TARGETS.items():
            await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": {**nothing, **asked}})
            await world.until_target("app", stalled(field), f"stalled by {field}")
            await world.until_told("app", "UnsupportedFeature", f"{field}: ")
        assert await world.data("a") is None
        await world.patch(KUSTOMIZE, "Kustomization", "app", {"spec": nothing})
        await world.until_applied("app")
    assert await world.data("a") == {"n": "1"}
