"""What records say: a release goes through its states in our words and in helm's, and both are the same."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.helm.charts import packed
from tests.helm.conftest import Run
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.hooks import Event, deletes, hook_objects, hooks_for, recorded, with_hook_run
from tidelog.engine.helm.marks import POLICY, belongs_to, helm_marks, is_kept, ownership_problems
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.releases import (
    deployed,
    failed,
    failure_description,
    objects_of,
    pending,
    pending_again,
    replaced,
    rollback_to,
    superseded,
    uninstalled,
    uninstalling,
    unlocked,
    upgrade_base,
)
from tidelog.engine.helm.spec import Hook, RenderedChart, RenderJob
from tidelog.engine.helm.storage import (
    HookRun,
    Info,
    Record,
    RecordedHook,
    Release,
    encode_release,
    read_secret,
    snapshot_digest,
)

NOW = "2026-01-02T03:04:05Z"
HOOKS = {
    "b": ("ConfigMap", "pre-install,pre-upgrade,pre-delete,test", "1", "hook-succeeded"),
    "a": ("Secret", "pre-install,post-rollback", "1", ""),
    "c": ("ConfigMap", "pre-install", "-2", "before-hook-creation, Hook-Failed"),
    "d": ("ConfigMap", "pre-install,pre-upgrade,pre-rollback", "", ""),
    "e": ("ServiceAccount", "post-install,post-upgrade", "", ""),
}


def hook_text(name: str) -> str:
    kind, events, weight, policy = HOOKS[name]
    lines = [f"helm.sh/hook: '{events}'"]
    lines += [f"helm.sh/hook-weight: '{weight}'"] if weight else []
    lines += [f"helm.sh/hook-delete-policy: '{policy}'"] if policy else []
    return f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, annotations: {{{', '.join(lines)}}}}}\n"


def config_map(name: str, annotations: str = "{}") -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, annotations: {annotations}}}\n"


CHART = {
    "Chart.yaml": "apiVersion: v2\nname: box\nversion: 1.2.3\nappVersion: '9'\n",
    "values.yaml": "a: 1\n",
    "templates/a.yaml": config_map("'{{ .Release.Name }}'") + "data: {a: '{{ .Values.a }}-{{ .Release.Revision }}'}\n",
    "templates/bad.yaml": "{{ if .Values.bad }}" + config_map("Bad_Name") + "{{ end }}",
    "templates/list.yaml": "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: in-a-list}\n",
    "templates/kept.yaml": "\n---\n".join(
        config_map(name, f"{{{POLICY}: {policy}}}") for name, policy in (("k", "keep"), ("l", "Keep"), ("m", "other"))
    ),
    "templates/hooks.yaml": "\n---\n".join(map(hook_text, HOOKS)),
    "templates/NOTES.txt": "Revision {{ .Release.Revision }}.",
}


class Both:
    """A release that helm acts on in a cluster, and we on paper."""

    def __init__(self, helm: Run, servers: Servers, namespace: str, renderer: ChartRenderer, chart: Path) -> None:
        self._helm = helm
        self._servers = servers
        self._renderer = renderer
        self._chart = chart
        self.namespace = namespace
        self.ours: dict[int, Release] = {}
        self.theirs: dict[int, Release] = {}

    def helm(self, *words: str, fails: bool = False) -> Release:
        """What the newest record of helm then says."""
        ran = self._helm(*words, "-n", self.namespace, kubeconfig=self._servers.kubeconfig)
        assert (ran.returncode != 0) is fails, ran.stderr
        path = f"/api/v1/namespaces/{self.namespace}/secrets?labelSelector=owner%3Dhelm"
        found = [read_secret(secret).release for secret in self._servers.request("GET", path).body["items"]]
        self.theirs = {release.version: release for release in found}
        return self.theirs[max(self.theirs)]

    async def rendered(self, version: int, values: dict[str, Any], *, is_upgrade: bool) -> RenderedChart:
        job = RenderJob(
            str(self._chart),
            "box",
            self.namespace,
            json.dumps(values).encode(),
            is_upgrade=is_upgrade,
            revision=version,
            with_record=True,
        )
        return await self._renderer.render(job)

    async def pending(self, seen: Release, values: dict[str, Any], *, is_upgrade: bool = True) -> Release:
        newest_first = [Record(self.ours[version]) for version in sorted(self.ours, reverse=True)]
        base = upgrade_base(newest_first) if is_upgrade else None
        return pending(
            await self.rendered(seen.version, values, is_upgrade=is_upgrade),
            name="box",
            namespace=self.namespace,
            version=seen.version,
            values=values,
            action="upgrade" if is_upgrade else "install",
            previous=base.release if base else None,
            time=str(seen.info.last_deployed),
        )

    def live(self, name: str) -> Any:
        found = self._servers.request("GET", f"/api/v1/namespaces/{self.namespace}/configmaps/{name}")
        return found.body if found.status == 200 else None

    def are_same(self) -> None:
        assert {version: written(release) for version, release in self.ours.items()} == {
            version: written(release) for version, release in self.theirs.items()
        }
        assert [snapshot_digest(self.ours[version]) for version in self.ours] == [
            snapshot_digest(self.theirs[version]) for version in self.ours
        ]


def written(release: Release) -> Any:
    found = json.loads(gzip.decompress(base64.b64decode(encode_release(release))))
    # Of the archive's files; helm has them, and nothing reads them.
    found["chart"].pop("modtime", None)
    found["chart"]["templates"] = [{**file, "modtime": None} for file in found["chart"]["templates"]]
    return found


def ran(release: Release, event: Event, seen: Release) -> Release:
    """The release after its hooks have run as they did in helm's record, which shows the order too."""
    runs = {hook.name: hook.last_run for hook in seen.hooks or ()}
    hooks = hooks_for(release, event)
    started = [runs[hook.name].started_at or "" for hook in hooks]
    assert "" not in started
    assert started == sorted(started)
    for hook in hooks:
        release = with_hook_run(release, hook, runs[hook.name])
    return release


@pytest.fixture
def both(helm: Run, kubernetes: Servers, namespace: str, renderer: ChartRenderer, tmp_path: Path) -> Both:
    chart = tmp_path / "box.tgz"
    chart.write_bytes(packed("box", CHART))
    return Both(helm, kubernetes, namespace, renderer, chart)


@pytest.mark.timeout(900)  # the first build of the oracle
async def test_states_of_a_release_are_recorded_as_helm_records_them(both: Both, tmp_path: Path) -> None:
    chart, ours = str(tmp_path / "box.tgz"), both.ours

    seen = both.helm("install", "box", chart, "--set", "a=2")
    first = ran(await both.pending(seen, {"a": 2}, is_upgrade=False), "pre-install", seen)
    ours[1] = deployed(ran(first, "post-install", seen))
    both.are_same()
    for obj in objects_of(ours[1]):
        live = both.live(obj["metadata"]["name"])
        assert helm_marks(obj, "box", both.namespace)["metadata"]["labels"] == live["metadata"]["labels"]
        assert helm_marks(obj, "box", both.namespace)["metadata"]["annotations"] == live["metadata"]["annotations"]
        assert belongs_to(live, "box", both.namespace)
    assert not belongs_to(both.live("c"), "box", both.namespace)  # a hook's

    seen = both.helm("upgrade", "box", chart, "--set", "bad=true", fails=True)
    begun = ran(await both.pending(seen, {"bad": True}), "pre-upgrade", seen)
    ours[2] = failed(begun, failure_description(begun, seen.info.description.removeprefix('Upgrade "box" failed: ')))
    both.are_same()

    seen = both.helm("upgrade", "box", chart, "--reset-values")
    begun = ran(await both.pending(seen, {}), "pre-upgrade", seen)
    ours[3] = deployed(ran(begun, "post-upgrade", seen))
    ours[1] = superseded(ours[1])
    both.are_same()

    seen = both.helm("rollback", "box", "1")
    begun = rollback_to(ours[1], current=ours[3], version=4, time=str(seen.info.last_deployed))
    ours[4] = deployed(ran(ran(begun, "pre-rollback", seen), "post-rollback", seen))
    ours[3] = superseded(ours[3])
    both.are_same()

    seen = both.helm("rollback", "box", "2", fails=True)
    begun = rollback_to(ours[2], current=ours[4], version=5, time=str(seen.info.last_deployed))
    begun = ran(begun, "pre-rollback", seen)
    ours[5] = failed(begun, failure_description(begun, seen.info.description.removeprefix('Rollback "box" failed: ')))
    ours[4] = superseded(ours[4])
    both.are_same()

    seen = both.helm("upgrade", "box", chart, "--reset-values")  # nothing is deployed: it begins from what failed
    begun = ran(await both.pending(seen, {}), "pre-upgrade", seen)
    ours[6] = deployed(ran(begun, "post-upgrade", seen))
    ours[5] = superseded(ours[5])
    both.are_same()

    seen = both.helm("uninstall", "box", "--keep-history")
    ours[6] = uninstalled(ran(uninstalling(ours[6], str(seen.info.deleted)), "pre-delete", seen))
    both.are_same()
    kept = {obj["metadata"]["name"]: is_kept(obj, at_uninstall=True) for obj in objects_of(ours[6])}
    assert kept == {name: both.live(name) is not None for name in kept}
    assert sorted(name for name, stays in kept.items() if stays) == ["k", "l", "m"]

    seen = both.helm("install", "box", chart, "--replace")
    # Helm renders an install in the place of another as revision 1.
    begun = await both.pending(msgspec.structs.replace(seen, version=1), {}, is_upgrade=False)
    begun = ran(msgspec.structs.replace(begun, version=7), "pre-install", seen)
    ours[7] = deployed(ran(begun, "post-install", seen))
    ours[6] = replaced(ours[6])
    both.are_same()


def release(status: str = "deployed", version: int = 1, **fields: Any) -> Release:
    info = Info("2026-01-01T00:00:00Z", NOW, None, "As it was", status)
    return Release("box", info, version=version, namespace="space", **fields)


def rendered(**fields: Any) -> RenderedChart:
    return RenderedChart({"name": "box"}, (), (), (), "", **{"record": b'{"metadata": {"name": "box"}}', **fields})


def begin(chart: RenderedChart, **how: Any) -> Release:
    given = {"name": "box", "namespace": "space", "version": 1, "values": {}, "previous": None, "time": NOW, **how}
    return pending(chart, **given)


def test_install_in_the_place_of_a_failed_one_leaves_it_failed() -> None:
    assert replaced(release("failed")) == release("failed")


def test_pending_release_that_somebody_left_is_unlocked() -> None:
    info = unlocked(release("pending-upgrade")).info
    assert (info.status, info.description) == ("failed", "Release unlocked from stale 'pending-upgrade' state")
    assert unlocked(release("deployed")) == release("deployed")


def test_a_release_that_nobody_began_is_not_deployed() -> None:
    with pytest.raises(ValueError, match=r"space/box\.v1 is failed"):
        deployed(release("failed"))


def test_what_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(ValueError, match="without its record"):
        begin(rendered(record=b""), action="install")
    with pytest.raises(ValueError, match="space/box begins from a release"):
        begin(rendered(), action="upgrade")


def test_upgrade_keeps_when_the_release_was_first_deployed() -> None:
    begun = begin(rendered(), action="upgrade", previous=release(), version=2)
    assert begun.info.first_deployed == "2026-01-01T00:00:00Z"
    assert begin(rendered(), action="install", previous=release(), version=2).info.first_deployed == NOW


@pytest.mark.parametrize(
    ("target", "asked", "method"), [("ssa", None, "ssa"), ("csa", None, "csa"), ("", None, "csa"), ("", "ssa", "ssa")]
)
def test_rollback_applies_as_its_target_did(target: str, asked: Any, method: str) -> None:
    before = release(apply_method=target)
    begun = rollback_to(before, current=release(version=4), version=5, time=NOW, apply_method=asked)
    assert begun.apply_method == method


@pytest.mark.parametrize(
    ("status", "while_waiting", "description"),
    [
        ("pending-install", False, 'Release "box" failed: e'),
        ("pending-upgrade", True, 'Upgrade "box" failed: e'),
        ("pending-rollback", False, 'Rollback "box" failed: e'),
        ("pending-rollback", True, 'Release "box" failed: e'),
    ],
)
def test_failures_have_helms_words(status: str, while_waiting: bool, description: str) -> None:
    assert failure_description(release(status), "e", while_waiting=while_waiting) == description


@pytest.mark.parametrize(
    ("statuses", "base"),
    [
        ([], None),
        (["deployed"], 0),
        (["failed", "deployed", "deployed"], 1),
        (["failed", "superseded"], 0),
        (["superseded"], 0),
        (["uninstalled", "superseded"], None),
        (["uninstalled", "deployed"], 1),
        (["pending-upgrade", "superseded"], None),
    ],
)
def test_upgrade_begins_from_what_is_deployed(statuses: list[str], base: int | None) -> None:
    history = [Record(release(status, 9 - place)) for place, status in enumerate(statuses)]
    assert upgrade_base(history) == (None if base is None else history[base])


def test_objects_are_read_as_helm_reads_them() -> None:
    manifest = (
        "---\n# Source: box/templates/a.yaml\na: 1\na: 2\n---\n# only a comment\n--- {kind: B}\n---\n"
        "apiVersion: v1\nkind: List\nitems:\n- {kind: C}\n"
        "- {kind: RoleList, apiVersion: r, items: [{metadata: {name: d}}]}\n"
    )
    assert objects_of(release(manifest=manifest)) == [
        {"a": 2},
        {"kind": "B"},
        {"kind": "C"},
        {"apiVersion": "r", "kind": "Role", "metadata": {"name": "d"}},
    ]


@pytest.mark.parametrize("text", ["a: [hunter2", "- hunter2", "hunter2"])
def test_manifest_that_cannot_be_read_is_told_by_its_template_without_its_content(text: str) -> None:
    manifest = f"---\n# Source: box/templates/a.yaml\n{text}\n"
    with pytest.raises(RecordError, match=r"manifest of release space/box\.v1 .*\(box/templates/a\.yaml\)") as caught:
        objects_of(release(manifest=manifest))
    assert "hunter" not in str(caught.value)


def hook(name: str, weight: int = 0, kind: str = "Job", **fields: Any) -> RecordedHook:
    return RecordedHook(name, kind, "h.yaml", f"kind: {kind}", **{"events": ["test"], **fields}, weight=weight)


def test_hooks_run_by_weight_then_name_then_kind() -> None:
    secret, job = hook("b", kind="Secret"), hook("b")
    others = [hook("z", -1), hook("a", 2), hook("c", events=["pre-install"])]
    found = hooks_for(release(hooks=[secret, job, *others]), "test")
    assert found == [others[0], secret, job, others[1]]
    twice = hook("t", events=["test", "test"])
    assert hooks_for(release(hooks=[twice]), "test") == [twice, twice]
    assert hooks_for(release(), "test") == []


def test_hook_says_how_it_ran_whenever_it_is_named() -> None:
    before = release(hooks=[hook("a"), hook("b", delete_policies=["hook-failed"])])
    first, second = hooks_for(before, "test")
    running = with_hook_run(before, first, HookRun(NOW, phase="Running"))
    done = with_hook_run(running, first, HookRun(NOW, NOW, "Succeeded"))
    done = with_hook_run(done, second, HookRun(NOW, NOW, "Failed"))
    assert [(run.last_run.phase, run.delete_policies) for run in done.hooks or ()] == [
        ("Succeeded", ["before-hook-creation"]),
        ("Failed", ["hook-failed"]),
    ]
    with pytest.raises(ValueError, match=r"space/box has no hook c of h\.yaml"):
        with_hook_run(before, hook("c"), HookRun())


def test_hook_that_says_nothing_is_deleted_before_it_is_made_again() -> None:
    assert deletes(hook("a"), "before-hook-creation")
    assert not deletes(hook("a"), "hook-succeeded")
    said = hook("a", delete_policies=["hook-failed"])
    assert deletes(said, "hook-failed")
    assert not deletes(said, "before-hook-creation")


def test_hook_that_is_a_definition_of_a_kind_is_never_deleted() -> None:
    definition = hook("a", kind="CustomResourceDefinition", delete_policies=["hook-succeeded"])
    assert not deletes(definition, "hook-succeeded")
    assert not deletes(hook("a", kind="CustomResourceDefinition"), "before-hook-creation")


def test_hook_of_a_chart_is_recorded_with_what_it_says_and_no_more() -> None:
    made = recorded(Hook("a", "Job", "h.yaml", "kind: Job", {"kind": "Job"}, ("test",)))
    assert made == RecordedHook("a", "Job", "h.yaml", "kind: Job", ["test"])
    assert hook_objects(made) == [{"kind": "Job"}]
    with pytest.raises(RecordError, match=r"the hook a of h\.yaml"):
        hook_objects(msgspec.structs.replace(made, manifest="["))


def test_object_of_another_is_told_in_helms_words() -> None:
    marked = helm_marks({"metadata": {"labels": None, "name": "a"}}, "box", "space")
    assert belongs_to(marked, "box", "space")
    assert ownership_problems(marked, "box", "any") == (
        'annotation validation error: key "meta.helm.sh/release-namespace" must equal "any": current value is "space"',
    )
    assert ownership_problems({}, "box", "space") == (
        'label validation error: missing key "app.kubernetes.io/managed-by": must be set to "Helm"',
        'annotation validation error: missing key "meta.helm.sh/release-name": must be set to "box"',
        'annotation validation error: missing key "meta.helm.sh/release-namespace": must be set to "space"',
    )


def test_marks_leave_the_object_as_it_was() -> None:
    obj = {"metadata": {"annotations": {"a": "b"}}}
    assert helm_marks(obj, "box", "space")["metadata"]["annotations"]["a"] == "b"
    assert obj == {"metadata": {"annotations": {"a": "b"}}}


@pytest.mark.parametrize(
    ("annotations", "upgrade", "uninstall"),
    [
        (None, False, False),
        ({}, False, False),
        ({POLICY: "keep"}, True, True),
        ({POLICY: "Keep"}, False, True),
        ({POLICY: "other"}, False, True),
    ],
)
def test_object_is_kept_by_its_policy(annotations: Any, upgrade: bool, uninstall: bool) -> None:
    obj = {"metadata": {"annotations": annotations}}
    assert is_kept(obj) is upgrade
    assert is_kept(obj, at_uninstall=True) is uninstall


@pytest.mark.parametrize(
    ("action", "first"), [("upgrade", "2026-01-01T00:00:00Z"), ("install", NOW)], ids=["upgrade", "install"]
)
def test_a_past_version_is_made_again_as_it_was(action: Any, first: str) -> None:
    past = msgspec.structs.replace(release(version=2), config={"colour": "red"}, manifest="kind: ConfigMap\n")
    begun = pending_again(past, version=9, action=action, previous=release(version=8), time=NOW)
    assert (begun.version, begun.config, begun.manifest, begun.chart) == (9, past.config, past.manifest, past.chart)
    assert (begun.info.status, begun.info.first_deployed, begun.info.last_deployed) == (f"pending-{action}", first, NOW)
    assert deployed(begun).info.status == "deployed"
