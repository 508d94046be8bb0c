"""What would be done with a Helm release is shown before it is, and a version of the past comes back."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.command import Done, daemon_with_door, tidelog
from tests.e2e.releases import Releases, chart, ready_message, told
from tests.e2e.test_release_hooks import job_ends
from tests.e2e.world import HELM, SOURCE, World
from tidelog.engine.helm.storage import Record
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import Pinned, TargetDeclared, Unpinned
from tidelog.storage import read_log

pytestmark = pytest.mark.slow

PLANTED, OTHER = "hunter2-sekrit", "hunter3-sekrit"
PASSWORD = """
apiVersion: v1
kind: Secret
metadata:
  name: {{ .Release.Name }}
stringData:
  password: {{ .Values.db.password | quote }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-url
data:
  url: "db://app:{{ .Values.db.password }}@db"
"""
HOOK = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-hook
  annotations:
    helm.sh/hook: pre-upgrade
"""
FROM_SECRET = [{"kind": "Secret", "name": "creds"}]


async def give(world: World, value: str) -> None:
    """Has the Secret of the values hold a password."""
    values = base64.b64encode(f"db:\n  password: {value}\n".encode()).decode()
    await world.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "creds"}, "data": {"values.yaml": values}}
    )


def is_hidden(*done: Done) -> bool:
    """Whether neither value was printed, in either form."""
    text = "".join(one.out + one.err for one in done)
    return not any(
        form in text for value in (PLANTED, OTHER) for form in (value, base64.b64encode(value.encode()).decode())
    )


def actions_of(told: dict[str, Any]) -> dict[str, str]:
    """What is done with the objects, by the last part of their names and their kinds."""
    found = [step for wave in told["plan"]["waves"] for step in wave]
    return {
        step["object"].lstrip("/").split("/")[-3] + " " + step["object"].split("/")[-1]: step["action"]
        for step in found
    }


async def head_of(world: World) -> int:
    async with read_log(world.store) as log:
        return await log.head()


async def test_an_install_and_an_upgrade_are_shown_before_they_are_made(world: World, tmp_path: Path) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0", password=PASSWORD, hook=HOOK)
    await give(world, PLANTED)
    async with daemon_with_door(world) as running:
        await world.source()
        source = {"chart": "./charts/web", "sourceRef": {"kind": "GitRepository", "name": "fleet"}, "interval": "1h"}
        await world.apply({"apiVersion": SOURCE, "kind": "HelmChart", "metadata": {"name": "web"}, "spec": source})
        await world.until(
            SOURCE, "HelmChart", "web", lambda obj: obj is not None and "artifact" in obj.get("status", {})
        )
        asked: dict[str, Any] = {"chartRef": {"kind": "HelmChart", "name": "web"}, "valuesFrom": FROM_SECRET}
        template = {"spec": {"chart": "charts/web", "sourceRef": source["sourceRef"]}}
        early = {"interval": "1h", "suspend": True, "chart": template}
        await world.apply({"apiVersion": HELM, "kind": "HelmRelease", "metadata": {"name": "early"}, "spec": early})
        await releases.release(**asked, suspend=True)
        for name in ("early", "web"):
            await running.until_event(TargetDeclared, stream=running.stream("HelmRelease", name))
        await running.idle()
        without = await tidelog(world, "plan", "hr/early")
        assert without.code == 3, without
        assert "has no chart yet: its first run, which waits for `tidelog resume`, makes HelmChart/" in without.err
        head = await head_of(world)
        done = await tidelog(world, "plan", "helmrelease/web", "-o", "json")
        assert done.code == 1, done
        answer = json.loads(done.out)
        assert answer["release"]["action"] == "install"
        assert answer["release"]["version"] == 1
        assert answer["release"]["chart"] == "web@1.0.0"
        assert answer["release"]["values"] == [
            {"source": f"Secret {world.namespace}/creds, key values.yaml", "secret": True, "keys": ["db.password"]}
        ]
        assert actions_of(answer) == {f"ConfigMap {name}": "create" for name in ("web", "web-url")} | {
            "Secret web": "create"
        }
        assert all(verdict["passed"] for verdict in answer["verdicts"])
        assert await head_of(world) == head, "nothing is recorded"
        assert await releases.records() == []
        assert await world.data("web") is None
        await releases.release(**asked, suspend=False)
        await releases.until_version(1)
        await running.idle()
        same = await tidelog(world, "plan", "hr/web")
        assert (same.code, "version 1 with chart web@1.0.0 is as it is to be" in same.out) == (0, True), same
    await give(world, OTHER)
    shown = await tidelog(world, "plan", "hr/web")
    assert shown.code == 1, shown
    assert "upgrade version 2 with chart web@1.0.0: release config values changed" in shown.out
    assert "hook pre-upgrade ConfigMap web-hook" in shown.out
    assert f"values of Secret {world.namespace}/creds, key values.yaml (secret): db.password" in shown.out
    assert "data.password: (secret)" in shown.out
    assert "data.url: (secret)" in shown.out
    assert 'data.revision: "1" → "2"' in shown.out
    # Another chart, of the working tree: its own directory, or the root of the repository.
    for name, text in chart("1.1.0", password=PASSWORD).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(str(text))
    local = await tidelog(world, "plan", "hr/web", "--path", tmp_path / "charts/web", "-o", "markdown")
    assert local.code == 1, local
    assert '+ data.version: "1.1.0"' in local.out
    assert "web@1.1.0" in local.out
    root = await tidelog(world, "plan", "hr/web", "--path", tmp_path)
    assert (root.code, "web@1.1.0" in root.out) == (1, True), root
    none = await tidelog(world, "plan", "hr/web", "--path", tmp_path / "charts/web/templates")
    assert (none.code, "there is no Chart.yaml in" in none.err) == (3, True), none
    assert is_hidden(done, same, shown, local, root, none)
    assert await releases.statuses() == [(1, "deployed")]


LATER = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-test
  annotations: {"helm.sh/hook": test}
---
{{- if .Values.breaks }}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-job
  annotations: {"helm.sh/hook": post-upgrade}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: job, image: "job:1"}]}}}
{{- end }}
---
{{- if .Values.broken }}
apiVersion: apps/v1
kind: Deployment
metadata: {name: late}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
{{- end }}
"""


async def test_what_follows_a_lock_or_a_failure_is_shown_too(world: World) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0", later=LATER)

    async def planned(name: str) -> tuple[Any, dict[str, str]]:
        done = await tidelog(world, "plan", f"hr/{name}", "-o", "json")
        assert done.code in (0, 1), done
        told = json.loads(done.out)
        return told["release"], actions_of(told)

    spec: dict[str, Any] = {"upgrade": {"remediation": {"retries": 0, "remediateLastFailure": True}}}
    async with daemon_with_door(world) as running:
        await world.source()
        await releases.release(**spec)
        await releases.until_version(1)
        await releases.release("late", values={"broken": True}, timeout="1s")
        await releases.until(lambda obj: "Stalled" in told(obj), "stalled", "late")
        await releases.release(**spec, test={"enable": True}, suspend=True)
        await running.idle()
        release, _ = await planned("web")
        assert (release["action"], release["version"], release["hooks"]) == ("test", 1, ["test ConfigMap web-test"])
        assert release["then"] == (
            "it is as it is to be, if the tests succeed; if one fails, nothing more is tried: "
            "Failed to install after 1 attempt(s)"
        )
        # Somebody else has left it pending.
        store = ReleaseStore(world.cluster, world.namespace)
        record = await store.get("web", 1)
        assert record is not None
        info = msgspec.structs.replace(record.release.info, status="pending-upgrade")
        await store.update(Record(msgspec.structs.replace(record.release, info=info), record.labels), 1.0)
        release, _ = await planned("web")
        assert (release["action"], release["version"], release["chart"]) == ("upgrade", 2, "web@1.0.0")
        assert "'pending-upgrade', which is unlocked first; then " in release["why"]
        await store.update(record, 1.0)
        # An upgrade fails, and nothing can be done about it, because its values are gone.
        values = {"values.yaml": "breaks: true\ncolour: blue\n"}
        given = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "given"}, "data": values}
        await world.apply(given)
        await releases.release(**spec, valuesFrom=[{"kind": "ConfigMap", "name": "given"}])
        await world.until("batch/v1", "Job", "web-job", lambda obj: obj is not None, "the hook")
        await world.delete("v1", "ConfigMap", "given")
        await job_ends(world, "web-job", well=False)
        await releases.until(lambda obj: told(obj).get("Released") == ("False", "UpgradeFailed"), "failed")
        await running.idle()
    await world.apply(given)
    release, actions = await planned("web")
    assert (release["action"], release["version"], release["chart"]) == ("rollback", 3, "web@1.0.0")
    assert release["why"].endswith("back to what version 1 was")
    assert release["then"] == "nothing more is tried: Failed to upgrade after 1 attempt(s)"
    assert actions == {"ConfigMap web": "update"}
    release, _ = await planned("late")
    assert (release["action"], "RetriesExceeded" in release["why"]) == ("none", True)
    await releases.scale_to_nothing("late")
    await world.until("apps/v1", "Deployment", "late", has_settled, "settled")
    release, _ = await planned("late")
    assert (release["action"], release["version"]) == ("upgrade", 2)


def has_settled(obj: KubeObject | None) -> bool:
    """Whether a controller has seen the spec of an object."""
    return obj is not None and (obj.get("status") or {}).get("observedGeneration") == obj["metadata"]["generation"]


async def test_a_version_comes_back_that_helm_has_long_trimmed(world: World) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0")
    async with daemon_with_door(world) as running:
        await world.source()
        await releases.release(values={"colour": "red"}, maxHistory=1)
        await releases.until_version(1)
        await running.idle()
        moment = running.daemon.engine.memory.position
        await releases.release(values={"colour": "blue"}, maxHistory=1)
        await releases.until_version(2)
        await releases.commit("1.1.0")
        await releases.until_version(3, "1.1.0")
        await running.idle()
        assert 1 not in [version for version, _ in await releases.statuses()]
        done = await tidelog(world, "reapply", "hr/web", "--at", moment, "--why", "blue is broken", "--yes")
        assert done.code == 0, done
        assert "upgrade version 4 with chart web@1.0.0" in done.out
        assert 'data.colour: "blue" → "red"' in done.out
        # As it was rendered then.
        assert await world.data("web") == {"colour": "red", "version": "1.0.0", "revision": "1"}
        (newest, *_) = await releases.records()
        assert (newest.version, newest.info.status, newest.config) == (4, "deployed", {"colour": "red"})
        found = await releases.until_version(4, "1.0.0")
        assert f"; pinned to what was deployed at position {moment}, leaving chart version 1.1.0" in ready_message(
            found
        )
        assert found["status"]["history"][0]["action"] == "upgrade"
        # It stays there, whatever is asked for, and whether it is suspended meanwhile.
        await world.patch(HELM, "HelmRelease", "web", {"spec": {"suspend": True}})
        await running.idle()
        await world.patch(HELM, "HelmRelease", "web", {"spec": {"suspend": False}})
        await running.idle()
        again = await tidelog(world, "reconcile", "hr/web")
        assert again.code == 0, again
        same = await tidelog(world, "plan", "hr/web")
        assert (same.code, "version 4 with chart web@1.0.0 is as it is to be" in same.out) == (0, True), same
        assert not running.events(Unpinned)
        # A newer chart ends the pin.
        await releases.commit("1.2.0")
        await releases.until_version(5, "1.2.0")
        assert await world.data("web") == {"colour": "blue", "version": "1.2.0", "revision": "5"}
        assert len(running.events(Unpinned)) == 1
        # So does another spec; and the version that was gone back to is as good a past as any: the chart's names it.
        again = await tidelog(world, "reapply", "hr/web", "--at", "1.0.0", "--why", "again", "--yes")
        assert again.code == 0, again
        found = await releases.until_version(6, "1.0.0")
        assert await world.data("web") == {"colour": "red", "version": "1.0.0", "revision": "1"}
        await releases.release(values={"colour": "green"}, maxHistory=1)
        found = await releases.until_version(7, "1.2.0")
        assert "pinned" not in ready_message(found)
        assert await world.data("web") == {"colour": "green", "version": "1.2.0", "revision": "7"}
        assert len(running.events(Pinned)) == 2


async def test_a_moment_without_a_version_and_one_that_was_forgotten_do_not_come_back(world: World) -> None:
    releases = Releases(world)
    await releases.commit("1.0.0")
    async with daemon_with_door(world) as running:
        await world.source()
        await releases.release()
        await releases.until_version(1)
        await running.idle()
        moment = running.daemon.engine.memory.position
        await running.ask("forget", running.stream("HelmRelease", "web"))
        await running.ask("pin", running.stream("HelmRelease", "web"), position=moment)
        await running.idle()
        assert not running.events(Unpinned)
        # It is the version that is deployed; once another is, the one that was forgotten cannot be made again.
        await releases.release(values={"colour": "blue"})
        await releases.until_version(2)
        await running.ask("pin", running.stream("HelmRelease", "web"), position=moment)
        found = await releases.until(lambda obj: told(obj)["Ready"] == ("False", "StateError"), "lost")
        assert "the record of the release was forgotten: `tidelog unpin`" in ready_message(found)
        await running.ask("unpin", running.stream("HelmRelease", "web"))
        await releases.until_version(2)
    lost = await tidelog(world, "reapply", "hr/web", "--at", moment, "--why", "back", "--yes")
    assert (lost.code, "the record of the release was forgotten" in lost.err) == (3, True), lost
    done = await tidelog(world, "reapply", "hr/web", "--at", "1", "--why", "back", "--yes")
    assert (done.code, "had no version deployed at position 1" in done.err) == (1, True), done
