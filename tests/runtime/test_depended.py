"""What a release depends on: whose change is one that lets it try again."""

from typing import Any

import pytest

from tidelog.engine.kinds.meta import DEPENDS_ON
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.passes.releases.depended import versions_of
from tidelog.engine.runtime.watching.declared import is_release, read_declared
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.projections.releases import ReleaseRow
from tidelog.events.vocabulary import ReleaseSnapshot

FLUX = "toolkit.fluxcd.io"


def release(annotation: str = "", **spec: Any) -> KubeObject:
    return {
        "apiVersion": f"helm.{FLUX}/v2",
        "kind": "HelmRelease",
        "metadata": {"name": "web", "namespace": "apps", "uid": "u-0", "annotations": {DEPENDS_ON: annotation}},
        "spec": {"interval": "1h", "chartRef": {"kind": "HelmChart", "name": "web"}, **spec},
    }


def obj(api_version: str, kind: str, **fields: Any) -> KubeObject:
    metadata = {"name": "base", "namespace": "apps", "uid": "u-1"} | fields.pop("metadata", {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def row(version: int, deployed: str = "2026-01-01T00:00:00Z") -> ReleaseRow:
    snapshot = ReleaseSnapshot(
        name="base",
        namespace="apps",
        version=version,
        status="deployed",
        digest=digest_of(b""),
        chart_name="base",
        chart_version="1.0.0",
        last_deployed=deployed,
    )
    return ReleaseRow(history=(snapshot,))


async def versions(
    live: KubeObject,
    *,
    rows: dict[str, ReleaseRow] | None = None,
    elsewhere: KubeObject | None = None,
    named: KubeObject | None = None,
) -> str:
    declared = read_declared(live, "east")
    assert is_release(declared)

    async def elsewhere_of(_: ObjectKey) -> KubeObject | None:
        return elsewhere

    async def named_of(_: ObjectKey) -> KubeObject | None:
        return named

    async def digest(key: ObjectKey, data: bytes) -> Digest:
        assert key.kind in ("ConfigMap", "Secret")
        return digest_of(data)

    def row_of(stream: StreamName) -> ReleaseRow | None:
        return (rows or {}).get(stream)

    return await versions_of(declared, "east", row_of=row_of, elsewhere=elsewhere_of, named=named_of, digest=digest)


BASE = f"east/helm.{FLUX}/HelmRelease/apps/base"
DEPENDS: dict[str, Any] = {"dependsOn": [{"name": "base"}]}


async def test_who_depends_on_nothing_that_is_there_has_no_versions() -> None:
    assert await versions(release()) == ""
    assert await versions(release("core/ConfigMap/apps/base, no-id,", **DEPENDS)) == ""


async def test_of_a_release_that_is_looked_after_here_the_log_tells_the_version() -> None:
    first = await versions(release(**DEPENDS), rows={BASE: row(1)})
    assert first == await versions(release(**DEPENDS), rows={BASE: row(1)})
    assert first != await versions(release(**DEPENDS), rows={BASE: row(2)})
    assert first != await versions(release(**DEPENDS), rows={BASE: row(1, "2026-01-02T00:00:00Z")})
    assert await versions(release(**DEPENDS), rows={BASE: ReleaseRow()}) == ""


async def test_of_a_release_that_another_engine_looks_after_its_status_does_whatever_the_log_once_knew() -> None:
    def told(version: int, **other: Any) -> KubeObject:
        snapshot = {
            "name": "base",
            "namespace": "apps",
            "version": version,
            "status": "deployed",
            "digest": "sha256:0",
            "chartName": "base",
            "chartVersion": "1.0.0",
            "configDigest": "",
            "firstDeployed": "2026-01-01T00:00:00Z",
            "lastDeployed": "2026-01-01T00:00:00Z",
        }
        failed = snapshot | {"version": version + 1, "status": "failed"}
        status = {"history": [failed, snapshot], **other}
        return obj(f"helm.{FLUX}/v2", "HelmRelease", spec=release()["spec"], status=status)

    first = await versions(release(**DEPENDS), rows={BASE: row(7)}, elsewhere=told(1))
    assert first == await versions(release(**DEPENDS), elsewhere=told(1, failures=3))
    assert first != await versions(release(**DEPENDS), elsewhere=told(2))


@pytest.mark.parametrize(
    ("before", "same", "other"),
    [
        (
            obj("apps/v1", "Deployment", metadata={"generation": 1}, status={"readyReplicas": 1}),
            obj("apps/v1", "Deployment", metadata={"generation": 1, "labels": {"a": "b"}}, status={"readyReplicas": 2}),
            obj("apps/v1", "Deployment", metadata={"generation": 2}, status={"readyReplicas": 1}),
        ),
        (
            obj("v1", "ConfigMap", metadata={"resourceVersion": "1"}, data={"a": "1"}),
            obj("v1", "ConfigMap", metadata={"resourceVersion": "2", "annotations": {"at": "noon"}}, data={"a": "1"}),
            obj("v1", "ConfigMap", metadata={"resourceVersion": "1"}, data={"a": "2"}),
        ),
        (
            obj(f"kustomize.{FLUX}/v1", "Kustomization", status={"lastAppliedRevision": "main@sha1:1"}),
            obj(
                f"kustomize.{FLUX}/v1",
                "Kustomization",
                metadata={"generation": 2},
                status={"lastAppliedRevision": "main@sha1:1", "observedGeneration": 2},
            ),
            obj(f"kustomize.{FLUX}/v1", "Kustomization", status={"lastAppliedRevision": "main@sha1:2"}),
        ),
        (
            obj("v1", "Secret", data={"a": "MQ=="}),
            obj("v1", "Secret", metadata={"managedFields": [{"manager": "b"}]}, data={"a": "MQ=="}),
            obj("v1", "Secret", metadata={"uid": "u-2"}, data={"a": "MQ=="}),
        ),
    ],
    ids=["Deployment", "ConfigMap", "Kustomization", "made anew"],
)
async def test_of_an_object_that_is_named_counts_what_is_not_told_anew_all_the_time(
    before: KubeObject, same: KubeObject, other: KubeObject
) -> None:
    group = before["apiVersion"].rpartition("/")[0] or "core"
    named = release(f"{group}/{before['kind']}/apps/base")
    first = await versions(named, named=before)
    assert first
    assert await versions(named, named=same) == first
    assert await versions(named, named=other) != first


@pytest.mark.parametrize(
    ("api_version", "kind"), [(f"source.{FLUX}/v1", "GitRepository"), (f"source.{FLUX}/v1", "HelmChart")]
)
async def test_of_a_source_that_is_named_counts_its_artifact(api_version: str, kind: str) -> None:
    def at(revision: str) -> KubeObject:
        artifact = {
            "revision": revision,
            "digest": f"sha256:{'0' * 64}",
            "path": "a",
            "url": "http://a/a",
            "lastUpdateTime": "2026-01-01T00:00:00Z",
        }
        return obj(api_version, kind, status={"artifact": artifact})

    named = release(f"source.{FLUX}/{kind}/apps/base")
    first = await versions(named, named=at("1"))
    assert first == await versions(named, named=at("1"))
    assert first != await versions(named, named=at("2"))
    assert first != await versions(named, named=obj(api_version, kind))
