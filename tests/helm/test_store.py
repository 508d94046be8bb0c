"""The store of records: helm goes on from what we wrote, keeps as many as we do, and what no Secret can be is told."""

import base64
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.helm.charts import packed
from tests.helm.conftest import Run
from tests.servers.kubernetes_servers import Servers
from tidelog.engine.cluster.errors import NotFoundError
from tidelog.engine.cluster.port import Cluster, Identity
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.helm.errors import RecordError, RecordExistsError, RecordTooLargeError
from tidelog.engine.helm.pool import ChartRenderer
from tidelog.engine.helm.releases import (
    deployed,
    failed,
    failure_description,
    pending,
    rollback_to,
    superseded,
    uninstalled,
    uninstalling,
    unlocked,
)
from tidelog.engine.helm.spec import RenderedChart, RenderJob
from tidelog.engine.helm.storage import Info, Record, RecordedChart, Release, record_secret
from tidelog.engine.helm.store import SECRET, ReleaseStore, Revision, surplus

NOW = 1_767_323_045.5
TIME = "2026-01-02T03:04:05.5Z"
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: box\nversion: 1.2.3\n",
    "templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\n"
    "data: {r: '{{ .Release.Revision }}'}\n",
    "templates/h.yaml": "apiVersion: v1\nkind: ConfigMap\n"
    "metadata: {name: '{{ .Release.Name }}-h', annotations: {helm.sh/hook: 'pre-upgrade,pre-rollback'}}\n",
    "templates/NOTES.txt": "Noted.",
}
SHORT = {"S": "superseded", "D": "deployed", "F": "failed"}


class Helm:
    def __init__(self, run: Run, servers: Servers, namespace: str) -> None:
        self._run = run
        self._servers = servers
        self._namespace = namespace

    def __call__(self, *words: str) -> str:
        ran = self._run(*words, "-n", self._namespace, kubeconfig=self._servers.kubeconfig)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))

    def error(self, *words: str) -> str:
        ran = self._run(*words, "-n", self._namespace, kubeconfig=self._servers.kubeconfig)
        assert ran.returncode == 1
        return ran.stderr


@pytest.fixture
def told(helm: Run, kubernetes: Servers, namespace: str) -> Helm:
    return Helm(helm, kubernetes, namespace)


@pytest.fixture
async def cluster(kubernetes: Servers) -> AsyncIterator[Cluster]:
    async with open_cluster(kubernetes.kubeconfig) as opened:
        yield opened


@pytest.fixture
def store(cluster: Cluster, namespace: str) -> ReleaseStore:
    return ReleaseStore(cluster, namespace)


@pytest.fixture
async def chart(renderer: ChartRenderer, namespace: str, tmp_path: Path) -> RenderedChart:
    (tmp_path / "box.tgz").write_bytes(packed("box", CHART))
    return await renderer.render(RenderJob(str(tmp_path / "box.tgz"), "box", namespace, with_record=True))


def begun(chart: RenderedChart, namespace: str, version: int, previous: Release | None = None) -> Release:
    return pending(
        chart,
        name="box",
        namespace=namespace,
        version=version,
        values={"a": version},
        action="upgrade" if previous else "install",
        previous=previous,
        time=TIME,
    )


def made(version: int, status: str, name: str = "box", namespace: str = "space", **fields: Any) -> Release:
    info = Info(TIME, TIME, None, "As it was", status)
    chart = RecordedChart({"name": "box", "version": "1.2.3", "apiVersion": "v2"})
    return Release(name, info, chart, version=version, namespace=namespace, **fields)


@pytest.mark.timeout(900)  # the first build of the oracle
async def test_helm_goes_on_from_our_records(
    told: Helm, store: ReleaseStore, chart: RenderedChart, namespace: str, kubernetes: Servers, tmp_path: Path
) -> None:
    first = begun(chart, namespace, 1)
    await store.create(Record(first, {"team": "t"}), NOW)
    assert [(found["status"], found["revision"]) for found in told.json("list")] == [("pending-install", "1")]
    assert "another operation" in told.error("upgrade", "box", str(tmp_path / "box.tgz"))
    first = deployed(first)
    await store.update(Record(first, {"team": "t"}), NOW)
    second = begun(chart, namespace, 2, first)
    await store.create(Record(second), NOW)
    await store.update(Record(failed(second, failure_description(second, "it broke"))), NOW)
    third = begun(chart, namespace, 3, first)
    await store.create(Record(third), NOW)
    await store.update(Record(superseded(first), {"team": "t"}), NOW)
    third = deployed(third)
    await store.update(Record(third), NOW)
    fourth = rollback_to(superseded(first), current=third, version=4, time=TIME)
    await store.create(Record(fourth, {"team": "t"}), NOW)
    await store.update(Record(superseded(third)), NOW)
    await store.update(Record(deployed(fourth), {"team": "t"}), NOW)

    assert [(found["revision"], found["status"], found["description"]) for found in told.json("history", "box")] == [
        (1, "superseded", "Install complete"),
        (2, "failed", 'Upgrade "box" failed: it broke'),
        (3, "superseded", "Upgrade complete"),
        (4, "deployed", "Rollback to 1"),
    ]
    [listed] = told.json("list", "-l", "team=t")
    assert (listed["revision"], listed["status"], listed["chart"]) == ("4", "deployed", "box-1.2.3")
    status = told.json("status", "box")
    assert (status["info"]["first_deployed"], status["config"], status["apply_method"]) == (TIME, {"a": 1}, "ssa")
    everything = told("get", "all", "box")
    assert all(text in everything for text in ("Noted.", "pre-upgrade,pre-rollback", "REVISION: 4", "data: {r: '1'}"))
    owners = {
        (entry["manager"], entry["operation"])
        for version in (1, 4)
        for entry in kubernetes.request(
            "GET", f"/api/v1/namespaces/{namespace}/secrets/sh.helm.release.v1.box.v{version}"
        ).body["metadata"]["managedFields"]
    }
    assert owners == {("helm-controller", "Update")}

    told("rollback", "box", "3")
    await store.create(Record(begun(chart, namespace, 6, first)), NOW)  # and nobody goes on with it
    stuck = await store.last("box")
    assert stuck
    assert stuck.release.version == 6
    await store.update(Record(unlocked(stuck.release)), NOW)
    told("upgrade", "box", str(tmp_path / "box.tgz"))
    history = await store.history("box")
    assert [(found.release.version, found.release.info.status) for found in history[:3]] == [
        (7, "deployed"),
        (6, "failed"),
        (5, "superseded"),
    ]
    assert history[0] == await store.last("box") == await store.get("box", 7)
    assert [(one.version, one.status) for one in await store.revisions("box")] == [
        (record.release.version, record.release.info.status) for record in history
    ]
    told("uninstall", "box")
    assert (await store.history("box"), await store.last("box"), await store.get("box", 7)) == ([], None, None)


async def test_helm_knows_what_we_uninstalled(
    told: Helm, store: ReleaseStore, chart: RenderedChart, namespace: str
) -> None:
    gone = deployed(begun(chart, namespace, 1))
    await store.create(Record(gone), NOW)
    gone = uninstalling(gone, TIME)
    await store.update(Record(gone), NOW)
    assert [found["status"] for found in told.json("list", "--uninstalling")] == ["uninstalling"]
    await store.update(Record(uninstalled(gone)), NOW)
    [entry] = told.json("history", "box")
    assert (entry["status"], entry["description"]) == ("uninstalled", "Uninstallation complete")
    assert "already deleted" in told.error("uninstall", "box", "--keep-history")
    told("uninstall", "box")
    assert await store.revisions("box") == []


async def test_as_many_records_stay_as_helm_keeps(
    told: Helm, store: ReleaseStore, namespace: str, chart: RenderedChart, tmp_path: Path
) -> None:
    for place, (statuses, keep) in enumerate(
        (("SSSD", 2), ("DFFF", 2), ("DFF", 1), ("SDFDF", 3), ("SSF", 3), ("SD", 0))
    ):
        theirs, ours = f"theirs-{place}", f"ours-{place}"
        for name in (theirs, ours):
            for version, letter in enumerate(statuses, 1):
                await store.create(Record(made(version, SHORT[letter], name, namespace)), NOW)
        told("upgrade", theirs, str(tmp_path / "box.tgz"), "--history-max", str(keep))
        gone = await store.trim(ours, keep)
        await store.create(Record(made(len(statuses) + 1, "pending-upgrade", ours, namespace)), NOW)
        kept = [found.version for found in await store.revisions(ours)]
        assert kept == [found.version for found in await store.revisions(theirs)], (statuses, keep)
        assert sorted([*kept, *gone]) == list(range(1, len(statuses) + 2))


def test_what_is_protected_stays() -> None:
    revisions = [Revision(version, "superseded") for version in (12, 11, 10, 9)]
    assert surplus(revisions, 1, {10}) == [9, 11, 12]
    assert surplus(revisions, 3) == [9]
    assert surplus(revisions, 9) == []


async def test_record_that_is_there_is_not_written_over(store: ReleaseStore, namespace: str) -> None:
    await store.create(Record(made(1, "deployed", namespace=namespace)), NOW)
    with pytest.raises(RecordExistsError, match=rf"{namespace}/box\.v1 already: .*sh\.helm\.release\.v1\.box\.v1"):
        await store.create(Record(made(1, "failed", namespace=namespace)), NOW)
    found = await store.get("box", 1)
    assert found
    assert found.release.info.status == "deployed"
    await store.delete("box", 1)
    await store.delete("box", 1)
    with pytest.raises(NotFoundError):
        await store.update(Record(made(1, "failed", namespace=namespace)), NOW)


async def test_only_the_newest_record_is_read(store: ReleaseStore, cluster: Cluster, namespace: str) -> None:
    for version in (2, 9, 10):
        await store.create(Record(made(version, "deployed", namespace=namespace)), NOW)
    await store.create(Record(made(99, "deployed", "box2", namespace)), NOW)
    broken = {"data": {"release": "aHVudGVyMg=="}}
    await cluster.patch(SECRET, namespace, "sh.helm.release.v1.box.v9", broken, type="merge", manager="somebody")
    found = await store.last("box")
    assert found
    assert found.release.version == 10
    with pytest.raises(RecordError, match=r"the Secret sh\.helm\.release\.v1\.box\.v9 holds no release") as caught:
        await store.history("box")
    assert "hunter" not in str(caught.value)
    labels = {"metadata": {"labels": {"version": "none"}}}
    await cluster.patch(SECRET, namespace, "sh.helm.release.v1.box.v9", labels, type="merge", manager="somebody")
    with pytest.raises(RecordError, match=r"the Secret sh\.helm\.release\.v1\.box\.v9 is labelled"):
        await store.last("box")


async def test_record_that_no_secret_holds_is_told_with_its_size(store: ReleaseStore, namespace: str) -> None:
    fits = made(1, "deployed", namespace=namespace)
    noise = random.Random(1).randbytes(900_000)
    large = msgspec.structs.replace(fits, manifest=base64.b64encode(noise).decode())
    with pytest.raises(RecordTooLargeError, match=rf"{namespace}/box\.v1 takes \d{{7}} bytes.* 1048576 at most; make"):
        await store.create(Record(large), NOW)
    await store.create(Record(fits), NOW)
    with pytest.raises(RecordTooLargeError):
        await store.update(Record(large), NOW)


async def test_records_are_read_and_written_as_whom_is_named(
    cluster: Cluster, kubernetes: Servers, namespace: str
) -> None:
    user = f"system:serviceaccount:{namespace}:default"
    store = ReleaseStore(cluster, namespace, Identity(user))
    rights = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    verbs = ["create", "delete", "get", "list", "update"]
    role = {"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}]}
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    binding = {"metadata": {"name": "r"}, "roleRef": reference, "subjects": [subject]}
    assert kubernetes.request("POST", f"{rights}/roles", role).status == 201
    assert kubernetes.request("POST", f"{rights}/rolebindings", binding).status == 201
    record = Record(made(1, "deployed", namespace=namespace))
    await store.create(record, NOW)
    await store.update(record, NOW)
    assert [await store.last("box"), *await store.history("box")] == [record, record]
    await store.delete("box", 1)


@pytest.mark.parametrize("other", [("box", 1), ("tin", 2)])
async def test_a_record_under_the_name_of_another_is_told(
    store: ReleaseStore, cluster: Cluster, namespace: str, other: tuple[str, int]
) -> None:
    """Else each look would find a release behind its own number, and make the next version of it, for ever."""
    await store.create(Record(made(2, "deployed", namespace=namespace)), NOW)
    name, version = other
    secret = record_secret(Record(made(version, "deployed", name, namespace)), namespace)
    data = {"data": secret["data"]}
    await cluster.patch(SECRET, namespace, "sh.helm.release.v1.box.v2", data, type="merge", manager="somebody")
    with pytest.raises(RecordError, match="holds another release than its name says"):
        await store.last("box")


async def test_name_that_no_release_has_chooses_nothing(store: ReleaseStore) -> None:
    for name in ("", "a,owner!=helm", "a/b", "A", "a" * 54, "-a", "a\n"):
        for asked in (store.revisions(name), store.history(name), store.get(name, 1), store.delete(name, 1)):
            with pytest.raises(RecordError, match="cannot be the name of a release"):
                await asked
