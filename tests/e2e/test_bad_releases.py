"""Releases on bad days: charts and specs that somebody wrote to do harm, or that came at the wrong moment."""

import base64
import functools
import json
import random
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.e2e.planted import found_in
from tests.e2e.releases import HELM, Releases, ready_message, told
from tests.e2e.test_release_hooks import hook, is_stalled, job_ends
from tests.e2e.world import LIMIT_S, World, condition, failed, is_ready
from tests.helm.test_limits import GROW, LOOP, SMALL
from tidelog.engine.documents import documents
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime import daemon
from tidelog.engine.runtime.passes.releases import wish
from tidelog.events.moment import datetime_of
from tidelog.events.vocabulary import (
    HealthChanged,
    ObjectPruned,
    PlanHeld,
    ReleaseActionEnded,
    ReleaseActionStarted,
)

PLANTED = "planted value 0123456789!"
"""No label may be so."""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: "{{ .Release.Name }}"}
spec: {containers: [{name: web, image: "web:1"}]}
"""
"""Ready once somebody says so: there are no nodes in these servers."""


@pytest.fixture
def releases(world: World) -> Releases:
    return Releases(world)


async def begin(releases: Releases, **templates: str) -> None:
    await releases.commit("1.0.0", **templates)
    await releases.world.source()


def is_failed(*words: str) -> Any:
    def holds(obj: KubeObject) -> bool:
        ready = condition(obj, "Ready")
        return ready.get("status") == "False" and all(word in ready["message"] for word in words)

    return holds


async def pod_is_ready(releases: Releases, name: str = "web") -> None:
    """As a node says it."""
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    await releases.set_status("v1", "Pod", name, status)


async def test_a_release_that_goes_on_failing_is_tried_less_and_less_often(releases: Releases) -> None:
    """Its spec may say that it is tried for ever, at once: each try is in the log, and a version in Helm's storage."""
    shortest_s, tries = 0.25, 4
    refused = """
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {"helm.sh/hook": "post-install"}}
spec: {ports: []}
"""
    await begin(releases, refused=refused)
    async with releases.world.daemon(min_retry_delay=Duration.of_seconds(shortest_s)) as running:
        await releases.release(install={"remediation": {"retries": -1}})
        await running.until(lambda _: len(running.events(ReleaseActionStarted)) >= 2 * tries, f"{tries} installs")
    of_actions = [one for one in running.recorded if isinstance(one.event, ReleaseActionStarted | ReleaseActionEnded)]
    said = [f"{one.event.action} {getattr(one.event, 'outcome', '')}".strip() for one in of_actions]  # type: ignore[attr-defined]
    each = ["install", "install failed", "uninstall-remediation", "uninstall-remediation succeeded"]
    assert said[: 4 * tries - 1] == (each * tries)[: 4 * tries - 1]
    times = [datetime_of(one.envelope.time).timestamp() for one in of_actions]
    pauses = [began - ended for ended, began in zip(times[3::4], times[4::4], strict=False)]
    assert len(pauses) >= tries - 1
    assert all(pause > shortest_s * 2**n - 0.01 for n, pause in enumerate(pauses)), pauses


async def test_who_wants_what_another_release_has_does_not_get_it(releases: Releases) -> None:
    world = releases.world
    shared = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}})
    text = shared[:-1] + ', "data": {"by": "{{ .Release.Name }}"}}'
    await begin(releases, shared=text)
    async with world.daemon() as running:
        await releases.release("web")
        await releases.until_version(1)
        await releases.release("other")
        found = await releases.until(is_failed("shared"), "refused", "other")
        assert f"{world.namespace}/web" in ready_message(found)
        assert await world.data("shared") == {"by": "web"}
        assert await world.data("other") is None
        assert await releases.statuses("other") == []
        # Nor does one that takes its name.
        await releases.release("third", releaseName="web", values={"colour": "blue"})
        await releases.until(is_failed(f"{world.namespace}/web"), "refused", "third")
        await running.idle()
        assert await releases.statuses() == [(1, "deployed")]
        assert (await world.data("web") or {})["colour"] == "red"
        for name in ("third", "other"):
            await world.delete(HELM, "HelmRelease", name)
            await world.until_gone(HELM, "HelmRelease", name)
        assert await releases.statuses() == [(1, "deployed")]
        assert await world.data("shared") == {"by": "web"}
        assert is_ready(await releases.until(is_ready))


INNER = """
{{- if eq .Release.Name "web" }}
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: inner}
spec:
  interval: 1h
  chart: {spec: {chart: ./charts/web, sourceRef: {kind: GitRepository, name: fleet}}}
{{- end }}
"""


async def test_a_release_within_a_release(releases: Releases) -> None:
    world = releases.world
    await begin(releases, inner=INNER)
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        await releases.until_version(1, name="inner")
        assert (await world.data("inner") or {})["colour"] == "red"
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "inner")
        assert await world.data("inner") is None
        assert await releases.statuses("inner") == []


def looks(world: World) -> int:
    """How often the daemon has asked whether `inner` is there, since it is being deleted."""
    asked = [(one["verb"], one.get("objectRef", {}).get("name")) for one in world.servers.audited(world.user)]
    return asked[asked.index(("delete", "inner")) :].count(("get", "inner"))


async def test_a_release_within_a_release_that_takes_long_to_go(releases: Releases) -> None:
    """Whoever looks again finds an object there that was deleted before: it is not another engine's."""
    world = releases.world
    await begin(releases, inner=INNER)
    async with world.daemon() as running:
        await releases.release()
        await releases.until_version(1, name="inner")
        await world.patch(HELM, "HelmRelease", "inner", {"spec": {"suspend": True}})
        kept = {"metadata": {"finalizers": ["finalizers.fluxcd.io", "example.com/stay"]}}
        await world.patch(HELM, "HelmRelease", "inner", kept)
        await world.delete(HELM, "HelmRelease", "web")
        pruned = await running.until_event(ObjectPruned, stream=running.stream("HelmRelease", "web"))
        assert pruned.outcome == "deleted"
        with anyio.fail_after(LIMIT_S):
            while looks(world) < 3:  # noqa: ASYNC110 - no event tells of a look
                await anyio.sleep(0.1)
        await world.patch(HELM, "HelmRelease", "inner", {"metadata": {"finalizers": None}})
        await world.until_gone(HELM, "HelmRelease", "web")
        assert running.events(PlanHeld) == []


@pytest.mark.parametrize(
    ("template", "limit"),
    [
        (LOOP, "it takes longer than 1 s"),
        (GROW, f"it takes more than {SMALL.memory_bytes} bytes of memory"),
        ('a: "{{ repeat 2000000 "x" }}"', f"it writes more than {SMALL.output_bytes} bytes"),
    ],
    ids=["loops", "grows", "writes much"],
)
async def test_the_limit_that_a_chart_met_is_named_and_others_go_on(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, template: str, limit: str
) -> None:
    """A chart may ask for 5 minutes or 5 GB; it is ended, which is told, and is tried again."""
    monkeypatch.setattr(daemon, "ChartRenderer", functools.partial(ChartRenderer, limits=SMALL))
    monkeypatch.setattr(wish, "RENDER_S", 1.0 if "longer" in limit else SMALL.time_s)
    world = releases.world
    await begin(releases, bad=f"{{{{ if .Values.bad }}}}{template}{{{{ end }}}}")
    async with world.daemon() as running:
        await releases.release(values={"bad": True}, timeout="1s")
        found = await releases.until(failed("InstallFailed"), "refused")
        name = f"release {world.namespace}/web"
        assert ready_message(found) == (
            f"Helm install failed for {name} with chart web@1.0.0: "
            f"rendering the chart web-1.0.0 for {name} was ended: {limit}"
        )
        assert "Stalled" not in told(found)
        assert await releases.statuses() == []
        assert running.events(ReleaseActionStarted) == []
        await releases.release("other")
        await releases.until_version(1, name="other")
        await releases.release(values={"bad": False})
        await releases.until_version(1)


async def test_a_long_name_is_shortened_as_flux_does_it(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    name = "a" * 60
    async with world.daemon():
        await releases.release(name)
        found = await releases.until_version(1, name=name)
        short = found["status"]["history"][0]["name"]
        assert len(short) == 53
        assert short.startswith("a" * 40 + "-")
        assert await releases.statuses(short) == [(1, "deployed")]
        assert await world.data(short) is not None


async def test_values_deeper_than_can_be_dealt_with_hold_nobody_else_up(releases: Releases) -> None:
    """The server takes what ends Python's stack: neither a watch nor a list of releases may end with it."""
    world = releases.world
    await begin(releases)
    inner: Any = "x"
    for _ in range(600):
        inner = {"a": inner}
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        await releases.release("deep", values=inner)
        await releases.until(is_failed("make it flatter"), "refused", "deep")
        kind = await world.cluster.kind(HELM, "HelmRelease")
        deeper = [{"op": "replace", "path": f"/spec/values{'/a' * 600}", "value": inner}]
        await world.cluster.patch(kind, world.namespace, "deep", deeper, type="json", manager="test")
        await releases.release(values={"colour": "blue"})
        await releases.until_version(2)
    async with world.daemon():
        await releases.release(values={"colour": "green"})
        await releases.until_version(3)
        await releases.until(is_failed("make it flatter"), "refused", "deep")
        await releases.release("deep", values={"a": None})
        await releases.until_version(1, name="deep")


async def test_a_record_that_no_secret_can_hold_is_told_and_nothing_is_made(releases: Releases) -> None:
    world = releases.world
    noise = base64.b64encode(random.Random(1).randbytes(1_200_000)).decode()
    world.change({"charts/web/files/noise.txt": noise})
    await begin(releases)
    async with world.daemon():
        await releases.release()
        found = await releases.until(is_failed("make the chart smaller"), "refused")
        assert told(found)["Released"] == ("False", "InstallFailed")
        assert await releases.statuses() == []
        assert await world.data("web") is None
        world.change({"charts/web/files/noise.txt": None})
        await releases.commit("1.1.0")
        await releases.until_version(1)


async def test_a_chart_without_anything(releases: Releases) -> None:
    world = releases.world
    await begin(releases, map="{{- if false }}a: b{{ end }}")
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        assert await releases.statuses() == [(1, "deployed")]
        await releases.commit("1.1.0")
        await releases.until_version(2)
        assert (await world.data("web") or {})["colour"] == "red"
        await releases.commit("1.2.0", map="# nothing\n")
        await releases.until_version(3)
        assert await world.data("web") is None
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await releases.statuses() == []


async def test_objects_of_the_cluster(releases: Releases) -> None:
    world = releases.world
    name = f"role-{world.namespace}"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [],
    }
    hooked = hook(f"{name}-hook", "post-install", kind="Namespace", policy="hook-succeeded")
    await begin(releases, role=json.dumps(role), hooked=hooked)
    async with world.daemon():
        await releases.release()
        await releases.until_version(1)
        assert await world.get("rbac.authorization.k8s.io/v1", "ClusterRole", name) is not None
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await world.get("rbac.authorization.k8s.io/v1", "ClusterRole", name) is None


async def test_an_account_without_rights_does_nothing_and_says_so(releases: Releases) -> None:
    world = releases.world
    await begin(releases)
    await world.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "weak"}})
    async with world.daemon():
        await releases.release(serviceAccountName="weak")
        await releases.until(is_failed("forbidden", f"system:serviceaccount:{world.namespace}:weak"), "refused")
        assert await releases.statuses() == []
        assert await world.data("web") is None
        # It may see and write records, and not what is in the chart.
        rules = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "weak"}}
        await world.apply({**rbac, "kind": "Role", "rules": rules})
        subjects = [{"kind": "ServiceAccount", "name": "weak", "namespace": world.namespace}]
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "weak"}
        await world.apply({**rbac, "kind": "RoleBinding", "subjects": subjects, "roleRef": role})
        await releases.ask()
        await releases.until(is_failed("configmaps", "(Forbidden)"), "refused")
        assert await releases.statuses() == []
        rules.append({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]})
        await world.apply({**rbac, "kind": "Role", "rules": rules})
        await releases.ask()
        await releases.until_version(1)


async def test_what_a_secret_gives_is_told_nowhere(releases: Releases, caplog: pytest.LogCaptureFixture) -> None:
    """Also not by the server, which quotes what it refuses; nor by a pass that goes on with what another began."""
    world = releases.world
    caplog.set_level("DEBUG", logger="tidelog")
    labels = {"a": "{{ .Values.token }}"}
    kept = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "kept"}, "stringData": labels}
    label = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "label", "labels": labels}})
    before = hook("before", "pre-upgrade", labels=labels)
    await begin(
        releases,
        secret=json.dumps(kept),
        job=hook("job", "post-install", kind="Job", weight=-1),
        bad=hook("bad", "post-install", labels=labels),
        before=f"{{{{ if .Values.before }}}}{before}{{{{ end }}}}",
        label=f"{{{{ if .Values.label }}}}{label}{{{{ end }}}}",
    )
    values = {"values.yaml": f"token: {json.dumps(PLANTED)}\n"}
    await world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "values"}, "stringData": values})
    given: dict[str, Any] = {"valuesFrom": [{"kind": "Secret", "name": "values"}]}
    async with world.daemon() as running:
        await releases.release(**given)
        await job_ends(world, "job")
        found = await releases.until(is_stalled, "stalled")
        assert "failed post-install" in ready_message(found)
        await releases.release(**given, values={"before": True})
        await releases.until(lambda obj: is_stalled(obj) and "pre-upgrade" in ready_message(obj), "stalled")
        await releases.release(**given, values={"label": True})
        await releases.until(is_failed("label"), "refused")
        await running.idle()
        shown = [caplog.text]
        for api_version, kind in ((HELM, "HelmRelease"), ("v1", "Event")):
            items = await world.cluster.list(await world.cluster.kind(api_version, kind), namespace=world.namespace)
            shown += [json.dumps({**item, "spec": None}) for item in items.items]
        shown += [one.info.description for one in await releases.records()]
    for text in shown:
        assert PLANTED not in text
    assert await anyio.to_thread.run_sync(found_in, world.store, PLANTED.encode()) == []


async def test_what_a_chart_looks_up_or_makes_by_chance_is_told_nowhere(
    releases: Releases, caplog: pytest.LogCaptureFixture
) -> None:
    """The pass that makes the last hook rendered nothing: another one began the action."""
    world = releases.world
    caplog.set_level("DEBUG", logger="tidelog")
    looked_up = '{{ (lookup "v1" "Secret" .Release.Namespace "given").data.token | b64dec }}'
    labels = {"a": looked_up, "b": "{{ randAlphaNum 30 }} !"}
    await begin(
        releases,
        job=hook("job", "post-install", kind="Job", weight=-1),
        bad=hook("bad", "post-install", labels=labels).replace('\\"', '"'),
    )
    await world.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "given"}, "stringData": {"token": PLANTED}}
    )
    async with world.daemon():
        await releases.release()
        await world.until("batch/v1", "Job", "job", lambda obj: obj is not None, "begun")
    async with world.daemon() as running:
        await job_ends(world, "job")
        found = await releases.until(is_stalled, "stalled")
        assert "failed post-install" in ready_message(found)
        await running.idle()
        shown = [caplog.text]
        for api_version, kind in ((HELM, "HelmRelease"), ("v1", "Event")):
            items = await world.cluster.list(await world.cluster.kind(api_version, kind), namespace=world.namespace)
            shown += [json.dumps({**item, "spec": None}) for item in items.items]
        (last,) = await releases.records()
        shown.append(last.info.description)
        (text,) = [one.manifest for one in last.hooks or () if one.name == "bad"]
        made = documents(text)[0].value["metadata"]["labels"]["b"]
    assert made.endswith(" !")
    for text in shown:
        assert PLANTED not in text
        assert made not in text
    for value in (PLANTED, made):
        assert await anyio.to_thread.run_sync(found_in, world.store, value.encode()) == []


async def waiting(releases: Releases, running: Any, **spec: Any) -> None:
    """A release that waits for its Pod."""
    await releases.release(**spec)
    await running.until_event(HealthChanged, where=lambda event: event.checked and event.health == "InProgress")


async def test_a_daemon_that_is_restarted_goes_on_waiting(releases: Releases) -> None:
    world = releases.world
    await begin(releases, pod=POD)
    async with world.daemon() as running:
        await waiting(releases, running)
        assert await releases.statuses() == [(1, "pending-install")]
    async with world.daemon() as running:
        await running.idle()
        assert await releases.statuses() == [(1, "pending-install")]
        await pod_is_ready(releases)
        await releases.until_version(1)
        assert running.events(ReleaseActionStarted) == []


async def test_a_version_that_comes_while_another_is_waited_for_is_next(releases: Releases) -> None:
    world = releases.world
    await begin(releases, pod=POD)
    async with world.daemon() as running:
        await waiting(releases, running)
        await releases.commit("1.1.0", pod=POD)
        await running.until_event(ReleaseActionStarted, where=lambda event: event.version == 2)
        await pod_is_ready(releases)
        await releases.until_version(2, "1.1.0")
        assert await releases.statuses() == [(2, "deployed"), (1, "superseded")]


async def test_one_that_is_deleted_while_it_waits_ends_what_it_does_and_goes(releases: Releases) -> None:
    world = releases.world
    await begin(releases, pod=POD)
    async with world.daemon() as running:
        await waiting(releases, running, timeout="1s")
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert await world.data("web") is None
        assert await releases.statuses() == []
        ended = [
            (one.action, one.outcome)
            for one in running.events(ReleaseActionEnded)
            if isinstance(one, ReleaseActionEnded)
        ]
        assert ended == [("install", "failed"), ("uninstall", "succeeded")]


@pytest.mark.parametrize("then", ["resumed", "deleted"])
async def test_one_that_is_suspended_while_it_waits_leaves_nothing_pending(releases: Releases, then: str) -> None:
    """What is under way goes to its end, as in Flux: helm would say for ever that another operation is in progress."""
    world = releases.world
    await begin(releases, pod=POD)
    async with world.daemon() as running:
        await waiting(releases, running, timeout="2s")
        await releases.release(timeout="2s", suspend=True)
        await running.idle()
        if then == "resumed":
            await pod_is_ready(releases)
            await releases.release(timeout="2s", suspend=False)
            await releases.until(is_ready, "ready")
            assert (await releases.statuses())[0][1] == "deployed"
            return
        await world.delete(HELM, "HelmRelease", "web")
        await world.until_gone(HELM, "HelmRelease", "web")
        assert (await world.data("web") or {})["colour"] == "red"
        ((_, status),) = await releases.statuses()
        assert not status.startswith("pending")


async def test_a_dependency_that_is_not_ready_any_more_does_not_stop_what_is_under_way(releases: Releases) -> None:
    world = releases.world
    await begin(releases, pod="{{ if .Values.waits }}" + POD + "{{ end }}")
    async with world.daemon() as running:
        await releases.release("first")
        await releases.until_version(1, name="first")
        await waiting(releases, running, values={"waits": True}, dependsOn=[{"name": "first"}])
        await releases.release("first", timeout="1s", values={"waits": True})
        await releases.until(is_stalled, "stalled", "first")
        await pod_is_ready(releases)
        await releases.until(lambda obj: told(obj).get("Released") == ("True", "InstallSucceeded"), "released")
        assert await releases.statuses() == [(1, "deployed")]
