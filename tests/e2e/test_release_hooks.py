"""Hooks of releases on the real API server (contract 4.6): when they run, how they end, what stays of them."""

import json
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
import pytest

from tests.e2e.releases import HELM, Releases, chart, ready_message, told
from tests.e2e.world import Running, World, condition, is_ready
from tests.oracles.helm import helm
from tidelog.engine.cluster.connection import Connection
from tidelog.engine.cluster.credentials import Credentials
from tidelog.engine.cluster.kubeconfig import find_access
from tidelog.engine.cluster.limits import Limits
from tidelog.engine.cluster.port import Identity
from tidelog.engine.cluster.real import RealCluster
from tidelog.engine.helm.storage import Record
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.names import ObjectKey
from tidelog.events.vocabulary import HookEnded, HookStarted

POD: dict[str, Any] = {
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "job", "image": "job:1"}]}}}
}
CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: GROUPs}
spec:
  group: GROUP
  scope: Namespaced
  names: {plural: boxes, singular: box, kind: Box}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, description: "DESCRIPTION", x-kubernetes-preserve-unknown-fields: true}}
"""


def hook(name: str, events: str, *, kind: str = "ConfigMap", weight: int = 0, policy: str = "", **fields: Any) -> str:
    """A template of a hook."""
    annotations = {"helm.sh/hook": events, "helm.sh/hook-weight": str(weight)}
    if policy:
        annotations["helm.sh/hook-delete-policy"] = policy
    version = {"Job": "batch/v1"}.get(kind, "v1")
    body = POD if kind == "Job" else {}
    metadata = {"name": name, "annotations": annotations, "labels": fields.pop("labels", {})}
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata} | body | fields) + "\n"


@pytest.fixture
def releases(world: World) -> Releases:
    return Releases(world)


async def begin(releases: Releases, **templates: str) -> None:
    await releases.commit("1.0.0", **templates)
    await releases.world.source()


async def job_ends(world: World, name: str, *, well: bool = True, uid: str = "") -> str:
    """Says of a Job that it came to an end, as its controller would; returns its uid."""

    def has_begun(obj: KubeObject | None) -> bool:
        return obj is not None and obj["metadata"]["uid"] != uid and "startTime" in (obj.get("status") or {})

    job = await world.until("batch/v1", "Job", name, has_begun, "a Job that has begun")
    assert job is not None
    now = job["status"]["startTime"]
    types = ("SuccessCriteriaMet", "Complete") if well else ("FailureTarget", "Failed")
    told = {} if well else {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
    conditions = [
        {"type": type_, "status": "True", "lastTransitionTime": now, "lastProbeTime": now, **told} for type_ in types
    ]
    counts = {"active": 0, "ready": 0, "uncountedTerminatedPods": {}}
    ends = {"succeeded": 1, "completionTime": now} if well else {"failed": 1}
    status = {**counts, **ends, "conditions": conditions}
    kind = await world.cluster.kind("batch/v1", "Job")
    await world.cluster.patch(
        kind, world.namespace, name, {"status": status}, type="merge", manager="kubelet", subresource="status"
    )
    return str(job["metadata"]["uid"])


def runs(running: Running, after: int = 0) -> list[tuple[str, str]]:
    """The hooks that were begun: event and name."""
    found = (one.event for one in running.recorded[after:])
    return [(one.hook, ObjectKey.parse(one.object).name) for one in found if isinstance(one, HookStarted)]


def ends(running: Running) -> list[tuple[str, str, str]]:
    """The hooks that ended: event, name, outcome."""
    found = (one.event for one in running.recorded)
    return [(one.hook, ObjectKey.parse(one.object).name, one.outcome) for one in found if isinstance(one, HookEnded)]


def is_stalled(obj: KubeObject) -> bool:
    return condition(obj, "Stalled").get("reason") == "RetriesExceeded"


async def is_there(world: World, name: str, kind: str = "ConfigMap", version: str = "v1") -> bool:
    return await world.get(version, kind, name) is not None


def helm_of(world: World, home: Path) -> Any:
    """The helm command, in the test's namespace."""
    where = ("--kubeconfig", str(world.kubeconfig), "--namespace", world.namespace)

    async def run(*words: str, fails: bool = False) -> str:
        return await anyio.to_thread.run_sync(lambda: helm(*words, *where, home=home, fails=fails))

    return run


async def test_hooks_run_in_their_order_around_each_action(releases: Releases, tmp_path: Path) -> None:
    world = releases.world
    around = "{}-install,{}-upgrade,{}-rollback,{}-delete"
    await begin(
        releases,
        a=hook("late", around.format(*["pre"] * 4), weight=5),
        b=hook("early-b", around.format(*["pre"] * 4), weight=-5),
        c=hook("early-a", around.format(*["pre"] * 4), weight=-5, kind="Secret"),
        d=hook("after", around.format(*["post"] * 4), policy="hook-succeeded"),
    )
    run_helm = helm_of(world, tmp_path)
    async with world.daemon() as running:
        for action, version in (("install", 1), ("upgrade", 2)):
            before = len(running.recorded)
            await releases.release(values={"colour": action})
            await releases.until_version(version)
            began = runs(running, before)
            pre, post = f"pre-{action}", f"post-{action}"
            assert began == [(pre, "early-a"), (pre, "early-b"), (pre, "late"), (post, "after")]
            assert await is_there(world, "late")
            assert not await is_there(world, "after")
            hooks = {one.name: one.last_run for one in (await releases.records())[0].hooks or ()}
            assert {name: one.phase for name, one in hooks.items()} == dict.fromkeys(hooks, "Succeeded")
            assert len(hooks) == 4
            assert all(one.started_at and one.completed_at for one in hooks.values())
        told_by_helm = await run_helm("get", "hooks", "web")
        assert all(name in told_by_helm for name in ("late", "early-a", "early-b", "after"))
        assert "STATUS: deployed" in await run_helm("status", "web")
        before = len(running.recorded)
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        began = runs(running, before)
        assert began == [
            ("pre-delete", "early-a"),
            ("pre-delete", "early-b"),
            ("pre-delete", "late"),
            ("post-delete", "after"),
        ]
        assert await is_there(world, "late")  # what hooks made stays, as in Helm
        assert await releases.statuses() == []


async def test_a_job_is_waited_for_and_one_job_serves_two_events(releases: Releases) -> None:
    """The Job of the event before goes away when it is done, and the one that is at work stays."""
    world = releases.world
    await begin(releases, job=hook("job", "pre-install,post-install", kind="Job", policy="hook-succeeded"))
    async with world.daemon() as running:
        await releases.release()
        uid = await job_ends(world, "job")
        await job_ends(world, "job", uid=uid)
        await releases.until_version(1)
        assert runs(running) == [("pre-install", "job"), ("post-install", "job")]
        await world.until_gone("batch/v1", "Job", "job")


async def test_a_hook_that_fails_fails_the_release(releases: Releases) -> None:
    world = releases.world
    await begin(releases, job=hook("job", "pre-upgrade", kind="Job", policy="hook-failed"),
                ok=hook("ok", "pre-upgrade", weight=-1, policy="hook-succeeded"))  # fmt: skip
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await releases.release(values={"colour": "blue"})
        await job_ends(world, "job", well=False)
        found = await releases.until(is_stalled, "stalled")
        assert told(found)["Released"] == ("False", "UpgradeFailed")
        assert "failed pre-upgrade: Job/" in ready_message(found)
        assert "BackoffLimitExceeded" in ready_message(found)
        assert (await world.data("web") or {})["colour"] == "red"
        assert await releases.statuses() == [(2, "failed"), (1, "deployed")]
        (last, *_) = await releases.records()
        assert {one.name: one.last_run.phase for one in last.hooks or ()} == {"job": "Failed", "ok": "Succeeded"}
        assert last.info.description.startswith('Upgrade "web" failed: failed pre-upgrade: ')
        await running.idle()
        await world.until_gone("batch/v1", "Job", "job")
        assert not await is_there(world, "ok")
        assert ends(running) == [("pre-upgrade", "ok", "succeeded"), ("pre-upgrade", "job", "failed")]


async def test_a_hook_has_as_long_as_the_action_and_what_it_made_before_is_replaced(releases: Releases) -> None:
    world = releases.world
    await begin(releases, job=hook("job", "post-install,post-upgrade", kind="Job"))
    async with world.daemon():
        await releases.release(timeout="1s")
        found = await releases.until(is_stalled, "stalled")
        assert "timed out" in ready_message(found)
        job = await world.get("batch/v1", "Job", "job")
        assert job is not None
        uid = job["metadata"]["uid"]
        await releases.release(values={"colour": "blue"})
        await job_ends(world, "job", uid=uid)
        await releases.until_version(2)


async def test_what_is_there_already_is_replaced_or_fails_as_the_policy_says(releases: Releases) -> None:
    world = releases.world
    await begin(
        releases,
        a=hook("replaced", "pre-install", data={"by": "hook"}),
        b=hook("left", "post-install", policy="hook-succeeded", data={"by": "hook"}),
    )
    for name in ("replaced", "left"):
        await world.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"by": "hand"}})
    async with world.daemon():
        await releases.release()
        found = await releases.until(is_stalled, "stalled")
        assert "failed post-install: " in ready_message(found)
        assert "already exists" in ready_message(found)
        assert await world.data("replaced") == {"by": "hook"}
        assert await world.data("left") == {"by": "hand"}
        await world.delete("v1", "ConfigMap", "left")
        await releases.release(values={"colour": "blue"})
        await releases.until(is_ready, "ready")


async def test_what_a_hook_made_before_may_take_its_time_to_go_and_no_pass_sits_and_waits(releases: Releases) -> None:
    world = releases.world
    await begin(releases, a=hook("held", "pre-install,pre-upgrade"))
    kind = await world.cluster.kind("v1", "ConfigMap")

    async def hold(*finalizers: str) -> None:
        patch = {"metadata": {"finalizers": list(finalizers)}}
        await world.cluster.patch(kind, world.namespace, "held", patch, type="merge", manager="test")

    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        await hold("example.com/held")
        await releases.release(values={"colour": "blue"})
        is_going = lambda obj: obj is not None and "deletionTimestamp" in obj["metadata"]  # noqa: E731
        await world.until("v1", "ConfigMap", "held", is_going, "going")
        await running.idle()
        assert (await world.data("web") or {})["colour"] == "red"
    async with world.daemon() as running:
        await running.idle()
        await hold()
        await releases.until_version(2)
        await hold("example.com/held")
        await releases.release(values={"colour": "green"}, timeout="1s")
        found = await releases.until(is_stalled, "stalled")
        assert "is still there" in ready_message(found)
        assert "example.com/held" in ready_message(found)
        await hold()


class Sooner(RealCluster):
    """A way to the cluster on which somebody makes an object just before we do, the first time."""

    theirs = ""

    async def create(self, obj: KubeObject, *, manager: str, identity: Identity | None = None) -> KubeObject:
        if obj["metadata"]["name"] == "job" and not self.theirs:
            theirs = obj | {"metadata": {"name": "job", "namespace": obj["metadata"]["namespace"]}}
            self.theirs = (await super().create(theirs, manager="somebody"))["metadata"]["uid"]
        return await super().create(obj, manager=manager, identity=identity)


async def test_what_somebody_makes_just_before_a_hook_is_not_taken_for_it(releases: Releases) -> None:
    """As in Helm: the hook fails, what is not ours stays, and the next try replaces it, as its policy says."""
    world = releases.world
    policy = "before-hook-creation,hook-failed,hook-succeeded"
    await begin(releases, job=hook("job", "pre-upgrade", kind="Job", policy=policy))
    access = await anyio.to_thread.run_sync(find_access, world.kubeconfig, None)
    async with Connection(access, Credentials(access), Limits()) as connection:
        cluster = Sooner(connection)
        async with world.daemon(cluster=cluster):
            await releases.release()
            await releases.until_version(1)
            await releases.release(values={"colour": "blue"})
            found = await releases.until(is_stalled, "stalled")
            assert f"Job/{world.namespace}/job already exists: somebody else made it meanwhile" in ready_message(found)
            there = await world.get("batch/v1", "Job", "job")
            assert there is not None
            assert there["metadata"]["uid"] == cluster.theirs
            await releases.ask(reset=True)
            await job_ends(world, "job", uid=there["metadata"]["uid"])
            await releases.until_version(3)
            await world.until_gone("batch/v1", "Job", "job")


async def test_hooks_are_passed_over_where_they_are_disabled(releases: Releases) -> None:
    world = releases.world
    await begin(releases, a=hook("made", "pre-install,post-upgrade,pre-delete"))
    off = {"disableHooks": True}
    async with world.daemon() as running:
        await releases.release(install=off, upgrade=off, uninstall=off)
        await releases.until_version(1)
        await releases.release(values={"colour": "blue"}, install=off, upgrade=off, uninstall=off)
        await releases.until_version(2)
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert runs(running) == []
        assert not await is_there(world, "made")


async def test_a_rollback_has_hooks_of_its_own(releases: Releases) -> None:
    world = releases.world
    await begin(
        releases,
        a=hook("before", "pre-rollback"),
        b=hook("after", "post-rollback"),
        c="{{ if .Values.breaks }}" + hook("job", "post-upgrade", kind="Job") + "{{ end }}",
    )
    remediation: dict[str, Any] = {"upgrade": {"remediation": {"retries": 0, "remediateLastFailure": True}}}
    async with world.daemon() as running:
        await releases.release(**remediation)
        await releases.until_version(1)
        await releases.release(values={"breaks": True, "colour": "blue"}, **remediation)
        await job_ends(world, "job", well=False)
        found = await releases.until(is_stalled, "stalled")
        assert told(found)["Remediated"] == ("True", "RollbackSucceeded")
        assert runs(running) == [("post-upgrade", "job"), ("pre-rollback", "before"), ("post-rollback", "after")]
        assert (await world.data("web") or {})["colour"] == "red"
        assert await releases.statuses() == [(3, "deployed"), (2, "failed"), (1, "superseded")]


EXTRA = """
{{- if not .Values.breaks }}
apiVersion: v1
kind: ConfigMap
metadata: {name: extra}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
{{- end }}
"""
"""No Pod ever runs here, so that a Deployment which is waited for is never ready."""


@pytest.mark.parametrize("well", [True, False])
async def test_a_rollback_waits_for_nothing_and_takes_away_what_it_made_where_the_spec_says_so(
    releases: Releases, well: bool
) -> None:
    world = releases.world
    failing = "{{ if .Values.breaks }}" + hook("job", "post-upgrade", kind="Job") + "{{ end }}"
    await begin(releases, extra=EXTRA, a=failing, b=hook("last", "post-rollback", kind="Job"))
    spec: dict[str, Any] = {
        "install": {"disableWait": True},
        "upgrade": {"remediation": {"retries": 0, "remediateLastFailure": True}},
        "rollback": {"disableWait": True, "cleanupOnFail": True},
    }
    async with world.daemon():
        await releases.release(**spec)
        await releases.until_version(1)
        await releases.release(values={"breaks": True}, **spec)
        await job_ends(world, "job", well=False)
        await job_ends(world, "last", well=well)  # it runs after the objects, which nobody waits for
        found = await releases.until(is_stalled, "stalled")
        assert told(found)["Remediated"] == (("True", "RollbackSucceeded") if well else ("False", "RollbackFailed"))
        assert await is_there(world, "web", "Deployment", "apps/v1") is well
        assert await is_there(world, "extra") is well
        assert await is_there(world, "web")  # the failed version had it too


async def test_a_rollback_to_a_version_whose_record_was_changed_is_an_upgrade(releases: Releases) -> None:
    world = releases.world
    await begin(releases, a="{{ if .Values.breaks }}" + hook("job", "post-upgrade", kind="Job") + "{{ end }}")
    remediation: dict[str, Any] = {"upgrade": {"remediation": {"retries": 0, "remediateLastFailure": True}}}
    async with world.daemon() as running:
        await releases.release(**remediation)
        await releases.until_version(1)
        await releases.release(values={"breaks": True, "colour": "blue"}, **remediation)
        await world.until("batch/v1", "Job", "job", lambda obj: obj is not None, "the hook")
        store = ReleaseStore(world.cluster, world.namespace)
        record = await store.get("web", 1)
        assert record is not None
        info = msgspec.structs.replace(record.release.info, description="edited")
        changed = msgspec.structs.replace(record.release, info=info, manifest=f"{record.release.manifest}# edited\n")
        await store.update(Record(changed, record.labels), 1.0)
        failed = await job_ends(world, "job", well=False)
        await job_ends(world, "job", uid=failed)
        found = await releases.until_version(3)
        assert told(found)["Released"] == ("True", "UpgradeSucceeded")
        assert "Remediated" not in told(found)
        assert runs(running) == [("post-upgrade", "job"), ("post-upgrade", "job")]
        assert (await world.data("web") or {})["colour"] == "blue"
        assert await releases.statuses() == [(3, "deployed"), (2, "failed"), (1, "superseded")]


async def test_a_failed_pre_delete_hook_keeps_the_release(releases: Releases) -> None:
    world = releases.world
    await begin(releases, job=hook("job", "pre-delete", kind="Job"))
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        await world.delete(HELM, "HelmRelease", "web")
        uid = await job_ends(world, "job", well=False)
        await releases.until(lambda obj: told(obj)["Ready"] == ("False", "UninstallFailed"), "failed")
        assert (await world.data("web") or {})["colour"] == "red"
        await job_ends(world, "job", uid=uid)
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await world.data("web") is None
        assert await releases.statuses() == []


async def test_hooks_of_one_name_and_file_are_told_apart(releases: Releases) -> None:
    """Charts often have an account, its role and a Job under one name in one file."""
    world = releases.world
    both = "---\n".join(hook("setup", "pre-install", kind=kind) for kind in ("ServiceAccount", "Secret", "ConfigMap"))
    await begin(releases, all=both)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1)
        assert len(runs(running)) == 3
        (last,) = await releases.records()
        assert [one.last_run.phase for one in last.hooks or ()] == ["Succeeded"] * 3


async def test_hooks_go_into_the_namespace_that_is_made_for_the_release(releases: Releases) -> None:
    world = releases.world
    space = f"{world.namespace}-made"
    await begin(releases, a=hook("made", "pre-install"), b=hook("secret", "post-install", kind="Secret"))
    async with world.daemon():
        await releases.release(targetNamespace=space, releaseName="web", install={"createNamespace": True})
        await releases.until_version(1)
        assert await world.get("v1", "ConfigMap", "made", space) is not None
        assert await world.get("v1", "Secret", "secret", space) is not None
        assert await world.get("v1", "ConfigMap", "web", space) is not None
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await world.get("v1", "ConfigMap", "web", space) is None
        assert await world.get("v1", "Namespace", space) is not None
        await world.delete("v1", "Namespace", space)


async def test_a_hook_makes_what_the_objects_need(releases: Releases) -> None:
    world = releases.world
    space = f"{world.namespace}-hooked"
    inner = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inner", "namespace": space}})
    await begin(releases, a=hook(space, "pre-install", kind="Namespace"), inner=inner)
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        assert await world.get("v1", "ConfigMap", "inner", space) is not None
        await world.delete("v1", "Namespace", space)


@pytest.mark.parametrize("policy", ["Skip", "Create", "CreateReplace"])
async def test_definitions_of_a_chart_are_made_as_the_policy_says(releases: Releases, policy: str) -> None:
    world = releases.world
    group = f"{world.namespace}.example.com"
    box = json.dumps({"apiVersion": f"{group}/v1", "kind": "Box", "metadata": {"name": "box"}})

    def crd(text: str) -> str:
        return CRD.replace("GROUPs", f"boxes.{group}").replace("GROUP", group).replace("DESCRIPTION", text)

    async def description() -> str:
        found = await world.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"boxes.{group}")
        if found is None:
            return ""
        return str(found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"])

    world.commit({**chart("1.0.0", box=box), "charts/web/crds/box.yaml": crd("one")})  # type: ignore[dict-item]
    await world.source()
    crds: dict[str, Any] = {"install": {"crds": policy}, "upgrade": {"crds": policy}}
    async with world.daemon():
        await releases.release(**crds)
        if policy == "Skip":
            await releases.until(lambda obj: bool(told(obj)) and "Box" in ready_message(obj), "failed")
            assert await description() == ""
            assert await releases.statuses() == []
            return
        await releases.until_version(1)
        assert await description() == "one"
        world.change({**chart("1.1.0", box=box), "charts/web/crds/box.yaml": crd("two")})
        await world.ask()
        await releases.until_version(2)
        assert await description() == ("one" if policy == "Create" else "two")
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await description()
        await world.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"boxes.{group}")
