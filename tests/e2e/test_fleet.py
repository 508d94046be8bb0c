"""A repository as Flux's users lay it out: clusters, infrastructure, apps with a base and overlays."""

import re
from collections import Counter

from tests.e2e.world import (
    KUSTOMIZE,
    SOURCE,
    World,
    condition,
    config_map,
    documents,
    dry_runs,
    is_ready,
    manifest,
    written,
)
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.vocabulary import Planned, Rendered, RevisionSettled, RunEnded

OWNER = "kustomize.toolkit.fluxcd.io"


def kustomization(*resources: str, **fields: object) -> str:
    listed = "".join(f"- {name}\n" for name in resources)
    more = "".join(f"{name}: {value}\n" for name, value in fields.items())
    return f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n{listed}{more}"


def flux_target(name: str, namespace: str, path: str, **spec: object) -> str:
    whole = {
        "interval": "1h",
        "retryInterval": "2m",
        "timeout": "1m",
        "prune": True,
        "path": path,
        "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        **spec,
    }
    return manifest(KUSTOMIZE, "Kustomization", name, metadata={"namespace": namespace}, spec=whole)


def fleet(ns: str) -> dict[str, str | bytes]:
    """clusters/production names infrastructure and apps, which depends on it."""
    apps = f"{ns}-apps"
    return {
        "README.md": "# fleet\n",
        "clusters/production/infrastructure.yaml": documents(
            flux_target("controllers", ns, "./infrastructure/controllers", wait=True),
            flux_target("configs", ns, "./infrastructure/configs", dependsOn=[{"name": "controllers"}]),
        ),
        "clusters/production/apps.yaml": flux_target(
            "apps",
            ns,
            "./apps/production",
            dependsOn=[{"name": "configs"}],
            targetNamespace=apps,
            commonMetadata={"labels": {"team": "web"}, "annotations": {"owner": "ada"}},
            postBuild={
                "substitute": {"colour": "green"},
                "substituteFrom": [
                    {"kind": "ConfigMap", "name": "cluster-vars"},
                    {"kind": "Secret", "name": "cluster-secrets", "optional": True},
                ],
            },
            healthChecks=[{"kind": "Deployment", "name": "podinfo", "namespace": apps}],
        ),
        "infrastructure/controllers/namespace.yaml": manifest("v1", "Namespace", apps),
        "infrastructure/configs/kustomization.yaml": kustomization("vars.yaml"),
        "infrastructure/configs/vars.yaml": manifest(
            "v1",
            "ConfigMap",
            "cluster-vars",
            metadata={"namespace": ns},
            data={"cluster": "production", "colour": "never seen: substitute is stronger"},
        ),
        "apps/base/podinfo/kustomization.yaml": kustomization("deployment.yaml", "service.yaml", "config.yaml"),
        "apps/base/podinfo/deployment.yaml": manifest(
            "apps/v1",
            "Deployment",
            "podinfo",
            spec={
                "replicas": 0,
                "selector": {"matchLabels": {"app": "podinfo"}},
                "template": {
                    "metadata": {"labels": {"app": "podinfo"}},
                    "spec": {"containers": [{"name": "podinfo", "image": "podinfo:6.0.0"}]},
                },
            },
        ),
        "apps/base/podinfo/service.yaml": manifest(
            "v1", "Service", "podinfo", spec={"selector": {"app": "podinfo"}, "ports": [{"port": 9898}]}
        ),
        "apps/base/podinfo/config.yaml": (
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: podinfo\n"
            "data:\n  cluster: ${cluster}\n  colour: ${colour}\n  kept: $${colour}\n"
            "  size: ${size:=small}\n"
        ),
        "apps/production/kustomization.yaml": kustomization("../base/podinfo")
        + "patches:\n- path: deployment-patch.yaml\n",
        "apps/production/deployment-patch.yaml": (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: podinfo\nspec:\n  template:\n    spec:\n"
            "      containers:\n      - name: podinfo\n        image: podinfo:6.1.0\n"
        ),
    }


async def installed(world: World) -> None:
    world.commit(fleet(world.namespace), message="The whole fleet\n\nWith all that it needs.")
    await world.source()
    await world.target("flux-system", "./clusters/production")
    await world.until_source(is_ready)
    await world.until_applied("flux-system", "controllers", "configs", "apps")


def own_entry(obj: KubeObject) -> KubeObject:
    (entry,) = (
        entry
        for entry in obj["metadata"]["managedFields"]
        if entry["manager"] == "kustomize-controller" and not entry.get("subresource")
    )
    return entry  # type: ignore[no-any-return]


async def test_a_fleet_is_reconciled_unchanged(world: World) -> None:
    apps = f"{world.namespace}-apps"
    async with world.daemon() as running:
        await installed(world)
        await running.idle()
    deployment = await world.get("apps/v1", "Deployment", "podinfo", apps)
    assert deployment is not None
    # Overlay over base, labels of the owner and of commonMetadata (CM-039, KS-019).
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "podinfo:6.1.0"
    labels = deployment["metadata"]["labels"]
    assert labels == {f"{OWNER}/name": "apps", f"{OWNER}/namespace": world.namespace, "team": "web"}
    assert deployment["metadata"]["annotations"]["owner"] == "ada"
    # Server-side apply under Flux's name, and nothing of it in a subresource (KS-069).
    assert own_entry(deployment)["operation"] == "Apply"
    # substituteFrom, then substitute, then defaults; an escaped one stays (KS-058 and after).
    config = await world.get("v1", "ConfigMap", "podinfo", apps)
    assert config is not None
    assert config["data"] == {
        "cluster": "production",
        "colour": "green",
        "kept": "${colour}",
        "size": "small",
    }
    assert await world.get("v1", "Service", "podinfo", apps)


async def test_statuses_are_as_flux_writes_them(world: World) -> None:
    async with world.daemon() as running:
        await installed(world)
        await running.idle()
    apps = await world.get(KUSTOMIZE, "Kustomization", "apps")
    assert apps is not None
    status = apps["status"]
    ns = world.namespace
    assert [entry["id"] for entry in status["inventory"]["entries"]] == [
        f"{ns}-apps_podinfo__ConfigMap",
        f"{ns}-apps_podinfo__Service",
        f"{ns}-apps_podinfo_apps_Deployment",
    ]
    assert [entry["v"] for entry in status["inventory"]["entries"]] == ["v1", "v1", "v1"]
    ready = condition(apps, "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "ReconciliationSucceeded")
    assert ready["message"] == f"Applied revision: {world.revision}"
    assert ready["observedGeneration"] == apps["metadata"]["generation"]
    healthy = condition(apps, "Healthy")
    assert (healthy["status"], healthy["reason"]) == ("True", "Succeeded")
    assert re.match(r"Health check passed in ", healthy["message"])
    assert [one["type"] for one in status["conditions"]] == ["Ready", "Healthy"]
    assert status["lastAppliedRevision"] == status["lastAttemptedRevision"] == world.revision
    (snapshot,) = status["history"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", snapshot["digest"])
    assert snapshot["lastReconciledStatus"] == "ReconciliationSucceeded"
    assert snapshot["totalReconciliations"] == 1
    assert snapshot["metadata"] == {"revision": world.revision}
    configs = await world.get(KUSTOMIZE, "Kustomization", "configs")
    assert configs is not None
    assert not condition(configs, "Healthy"), "nothing asks for its health (KS-098)"
    for obj in (apps, configs):
        assert "finalizers.fluxcd.io" in obj["metadata"]["finalizers"]
        managers = {entry["manager"] for entry in obj["metadata"]["managedFields"] if entry.get("subresource")}
        assert managers == {"gotk-kustomize-controller"}


async def test_a_source_s_status_names_its_artifact(world: World) -> None:
    async with world.daemon(storage_adv_addr="artifacts.example.org"):
        await installed(world)
    source = await world.get(SOURCE, "GitRepository", "fleet")
    assert source is not None
    artifact = source["status"]["artifact"]
    path = f"gitrepository/{world.namespace}/fleet/{world.head}.tar.gz"
    assert artifact["path"] == path
    assert artifact["url"] == f"http://artifacts.example.org/{path}"
    assert artifact["revision"] == world.revision
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", artifact["digest"])
    assert artifact["size"] > 0
    assert artifact["lastUpdateTime"]
    ready = condition(source, "Ready")
    assert ready["message"] == f"stored artifact for revision '{world.revision}'"
    assert ready["reason"] == "Succeeded"
    assert condition(source, "ArtifactInStorage")["status"] == "True"
    assert "url" not in source["status"]
    managers = {entry["manager"] for entry in source["metadata"]["managedFields"] if entry.get("subresource")}
    assert managers == {"source-controller"}


async def test_people_are_told_what_happened(world: World) -> None:
    ns = world.namespace
    async with world.daemon():
        await installed(world)
        created = await world.until_told("apps", "Progressing", f"Deployment/{ns}-apps/podinfo created")
        done = await world.until_told("apps", "ReconciliationSucceeded", "Reconciliation finished in", "next run in 1h")
        passed = await world.until_told("apps", "Progressing", "Health check passed in ")
        stored = await world.until_told("fleet", "NewArtifact", kind="GitRepository")
    assert sorted(created["message"].splitlines()) == [
        f"ConfigMap/{ns}-apps/podinfo created",
        f"Deployment/{ns}-apps/podinfo created",
        f"Service/{ns}-apps/podinfo created",
    ]
    assert created["type"] == passed["type"] == "Normal"
    assert done["metadata"]["annotations"] == {
        f"{OWNER}/revision": world.revision,
        f"{OWNER}/commit_status": "update",
    }
    assert done["source"]["component"] == "kustomize-controller"
    assert stored["message"] == "stored artifact for commit 'The whole fleet'"
    assert stored["source"]["component"] == "source-controller"


async def test_a_commit_that_a_target_does_not_read_costs_it_nothing(world: World) -> None:
    async with world.daemon() as running:
        await installed(world)
        await running.idle()
        before, events = len(await world.requests()), len(running.recorded)
        await world.push({"README.md": "# The fleet, described\n"})
        await world.until_applied("flux-system", "controllers", "configs", "apps")
        await running.idle()
        requests = (await world.requests())[before:]
        (settled,) = running.events(RevisionSettled, after=events)
    assert isinstance(settled, RevisionSettled)
    assert set(settled.targets) == {running.target(name) for name in ("flux-system", "controllers", "configs", "apps")}
    assert running.events(Rendered, Planned, after=events) == []
    assert dry_runs(requests) == []
    # One status for each target and one for the source; that says before that it is at work, where it takes a second.
    writes = written(requests)
    assert all(resource.endswith("/status") for _, resource, _ in writes)
    statuses = Counter(name for _, _, name in writes)
    assert statuses.pop("fleet") in (1, 2)
    assert statuses == dict.fromkeys(("apps", "configs", "controllers", "flux-system"), 1)


async def test_a_commit_to_one_app_reaches_that_app_only(world: World) -> None:
    async with world.daemon() as running:
        await installed(world)
        await running.idle()
        before, events = len(await world.requests()), len(running.recorded)
        patch = fleet(world.namespace)["apps/production/deployment-patch.yaml"]
        assert isinstance(patch, str)
        await world.push({"apps/production/deployment-patch.yaml": patch.replace("6.1.0", "6.2.0")})
        await world.until_applied("flux-system", "controllers", "configs", "apps")
        await running.idle()
        requests = (await world.requests())[before:]
    assert dry_runs(requests) == ["podinfo"]
    objects = [(verb, resource) for verb, resource, _ in written(requests) if not resource.endswith("/status")]
    assert objects == [("patch", "deployments")], "only what changed is written"
    (planned,) = running.events(Planned, after=events)
    assert isinstance(planned, Planned)
    assert (planned.blast_radius.update, planned.blast_radius.unchanged) == (1, 2)


async def test_a_daemon_that_starts_again_finds_nothing_to_do(world: World) -> None:
    async with world.daemon() as running:
        await installed(world)
        await running.idle()
    transfers, before = world.git.transfers, len(await world.requests())
    async with world.daemon() as running:
        await running.idle()
        requests = (await world.requests())[before:]
        assert running.events(Rendered, Planned, RunEnded) == []
    assert world.git.transfers == transfers
    assert written(requests) == []
    assert dry_runs(requests) == []


async def test_it_goes_on_from_commits_made_while_it_was_down(world: World) -> None:
    async with world.daemon():
        await installed(world)
    world.change(
        {
            "infrastructure/configs/vars.yaml": manifest(
                "v1", "ConfigMap", "cluster-vars", metadata={"namespace": world.namespace}, data={"cluster": "moved"}
            )
        }
    )
    async with world.daemon():
        await world.until_applied("flux-system", "controllers", "configs", "apps")
        config = await world.until(
            "v1",
            "ConfigMap",
            "podinfo",
            lambda obj: obj is not None and obj["data"]["cluster"] == "moved",
            namespace=f"{world.namespace}-apps",
        )
    assert config is not None


async def test_what_the_fleet_no_longer_names_is_deleted(world: World) -> None:
    async with world.daemon() as running:
        await installed(world)
        await world.push(
            {
                "apps/base/podinfo/kustomization.yaml": kustomization("deployment.yaml", "config.yaml"),
                "apps/base/podinfo/service.yaml": None,
            }
        )
        await world.until_applied("apps")
        assert await world.get("v1", "Service", "podinfo", f"{world.namespace}-apps") is None
        deleted = await world.until_told("apps", "Progressing", "deleted")
        await running.idle()
    assert deleted["message"] == f"Service/{world.namespace}-apps/podinfo deleted"
    apps = await world.get(KUSTOMIZE, "Kustomization", "apps")
    assert apps is not None
    assert len(apps["status"]["inventory"]["entries"]) == 2


async def test_a_changed_variable_wakes_who_reads_it(world: World) -> None:
    world.commit({"app/cm.yaml": config_map("app", colour="${colour}")})
    await world.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vars"}, "data": {"colour": "red"}}
    )
    await world.source()
    await world.target(
        "app",
        "./app",
        targetNamespace=world.namespace,
        postBuild={"substituteFrom": [{"kind": "ConfigMap", "name": "vars"}]},
    )
    async with world.daemon():
        await world.until_applied("app")
        await world.until_data("app", {"colour": "red"})
        await world.patch("v1", "ConfigMap", "vars", {"data": {"colour": "blue"}})
        await world.until_data("app", {"colour": "blue"})
