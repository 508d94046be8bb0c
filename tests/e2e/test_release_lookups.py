"""What a chart looks up in the cluster is in the log, beside what was made of it."""

import json
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import msgspec
import pytest

from tests.e2e.command import tidelog
from tests.e2e.planted import found_in
from tests.e2e.releases import HELM, Releases
from tests.e2e.world import Running, World
from tidelog.events.vocabulary import Rendered

PLANTED = "s3cr3t-of-the-lookup"
LOOKS_UP = """
{{- $ns := .Release.Namespace }}
apiVersion: v1
kind: ConfigMap
metadata: {name: found}
data:
  token: {{ (lookup "v1" "Secret" $ns "given").data.token | b64dec | quote }}
  address: {{ (lookup "v1" "ConfigMap" $ns "settings").data.address | quote }}
  other: {{ lookup "v1" "ConfigMap" $ns "none" | len | quote }}
  accounts: {{ (lookup "v1" "ServiceAccount" $ns "").items | len | quote }}
"""


@pytest.fixture
def releases(world: World) -> Releases:
    return Releases(world)


async def version_of(world: World, kind: str, name: str) -> str:
    """The `resourceVersion` of an object as it is."""
    found = await world.get("v1", kind, name)
    assert found is not None
    return str(found["metadata"]["resourceVersion"])


async def read_set(running: Running, event: Rendered) -> Mapping[str, str | None]:
    """What an event says was read."""
    body = await running.daemon.engine.memory.log.body(event.read_set.digest)
    return dict(msgspec.json.decode(body.data, type=list[tuple[str, str | None]]))


async def test_what_a_chart_looked_up_is_recorded_and_traced_without_a_value(releases: Releases) -> None:
    world = releases.world
    ns = world.namespace
    await releases.commit("1.0.0", looks=LOOKS_UP)
    await world.source()
    given: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "given"}}
    await world.apply({**given, "stringData": {"token": PLANTED}})
    settings: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    await world.apply({**settings, "data": {"address": "one"}})
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await running.idle()
        stream = running.stream("HelmRelease", "web")
        (event,) = running.events(Rendered, stream=stream)
        assert isinstance(event, Rendered)
        first = await read_set(running, event)
        objects = {
            f"core/Secret/{ns}/given": await version_of(world, "Secret", "given"),
            f"core/ConfigMap/{ns}/settings": await version_of(world, "ConfigMap", "settings"),
            f"core/ConfigMap/{ns}/none": None,
        }
        assert first.items() >= objects.items()
        assert (first[f"core/ServiceAccount/{ns}/*"] or "").startswith("sha256:")
        assert (first["v1"] or "").startswith("sha256:")
        assert len(first) == 5

        # Nothing is done because of it; the next version reads it anew, and says so.
        await world.apply({**settings, "data": {"address": "two"}})
        await running.idle()
        assert [version for version, _ in await releases.statuses()] == [1]
        await releases.ask(force=True)
        await releases.until_version(2)
        await running.idle()
        last = running.events(Rendered, stream=stream)[-1]
        assert isinstance(last, Rendered)
        second = await read_set(running, last)
        changed = {path for path in second if second[path] != first[path]}
        assert changed == {f"core/ConfigMap/{ns}/settings"}
        assert second[f"core/ConfigMap/{ns}/settings"] == await version_of(world, "ConfigMap", "settings")

        told = await tidelog(world, "trace", "configmap/found", "-o", "json")
        assert {one["path"]: one["version"] for one in json.loads(told.out)["render"]["looked_up"]} == second
        said = (await tidelog(world, "trace", "configmap/found")).out
        (line,) = [line for line in said.splitlines() if line.startswith("Looked up")]
        for words in (
            f"Secret/{ns}/given (at {second[f'core/Secret/{ns}/given']})",
            f"ConfigMap/{ns}/none (not there)",
            f"every ServiceAccount in {ns}",
        ):
            assert words in line
    assert PLANTED not in told.out + said
    assert await anyio.to_thread.run_sync(found_in, world.store, PLANTED.encode()) == []


async def test_what_is_looked_up_anew_is_recorded_though_the_same_comes_of_it(releases: Releases) -> None:
    world = releases.world
    name = f"core/ConfigMap/{world.namespace}/settings"
    await releases.commit("1.0.0", looks=ONLY_WHETHER)
    await world.source()
    settings: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    await world.apply(settings)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await world.apply({**settings, "data": {"address": "one"}})
        await releases.ask(force=True)
        await releases.until_version(2)
        await world.patch(HELM, "HelmRelease", "web", {"spec": {"values": {"colour": "blue"}}})
        await releases.until_version(3)
        await running.idle()
        found = [one for one in running.events(Rendered) if isinstance(one, Rendered)]
        versions = [(await read_set(running, one))[name] for one in found]
    # The third is another set, of the same that was looked up.
    assert versions[0] != versions[1] == versions[2]
    assert found[0].inputs == found[1].inputs != found[2].inputs


ONLY_WHETHER = """
apiVersion: v1
kind: ConfigMap
metadata: {name: found}
data: {found: {{ not (empty (lookup "v1" "ConfigMap" .Release.Namespace "settings")) | quote }}}
"""
