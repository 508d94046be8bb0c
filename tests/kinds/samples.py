"""Objects that Flux's CRDs accept and refuse: the tests hold both our decoding and our CRDs to them."""

import copy
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.helmrelease import HelmRelease, HelmReleaseStatus, HelmSnapshot, HelmTestHook
from tidelog.engine.kinds.meta import Condition
from tidelog.engine.kinds.registry import BY_NAME, AnyKind
from tidelog.engine.kinds.targets import Inventory, InventoryEntry
from tidelog.engine.objects.kube import KubeObject

SampleKind: TypeAlias = AnyKind | type[HelmRelease]
KIND_OF: Final[Mapping[str, SampleKind]] = {**BY_NAME, "HelmRelease": HelmRelease}
"""The kinds that the samples are of."""

SOURCE: KubeObject = {
    "apiVersion": "source.toolkit.fluxcd.io/v1",
    "kind": "GitRepository",
    "metadata": {"name": "podinfo"},
    "spec": {"interval": "5m0s", "url": "https://github.com/stefanprodan/podinfo", "ref": {"branch": "master"}},
}
TARGET: KubeObject = {
    "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
    "kind": "Kustomization",
    "metadata": {"name": "podinfo"},
    "spec": {
        "interval": "10m",
        "targetNamespace": "default",
        "sourceRef": {"kind": "GitRepository", "name": "podinfo"},
        "path": "./kustomize",
        "prune": True,
        "timeout": "1m",
    },
}

# As Flux's documentation shows them, retold: every field at least once.
WHOLE_SOURCE = SOURCE | {
    "spec": {
        "url": "ssh://git@git.example.com:2222/team/fleet.git",
        "interval": "1h30m",
        "timeout": "90s",
        "provider": "azure",
        "serviceAccountName": "fleet",
        "secretRef": {"name": "fleet-auth"},
        "proxySecretRef": {"name": "egress"},
        "ref": {
            "branch": "main",
            "tag": "v1.0.0",
            "semver": ">=1.0.0 <2.0.0",
            "name": "refs/pull/420/head",
            "commit": "363a6a8fe6a7f13e05d34c163b0ef02a777da20a",
        },
        "verify": {"mode": "TagAndHEAD", "secretRef": {"name": "keys"}},
        "ignore": "/*\n!/deploy\n",
        "suspend": True,
        "recurseSubmodules": True,
        "include": [
            {"repository": {"name": "base"}},
            {"repository": {"name": "more"}, "fromPath": "a", "toPath": "b/c"},
        ],
        "sparseCheckout": ["./deploy", "charts"],
    },
}
WHOLE_TARGET = TARGET | {
    "spec": {
        "commonMetadata": {"labels": {"team": "blue"}, "annotations": {"owner": "blue@example.com"}},
        "dependsOn": [
            {"name": "common"},
            {"name": "db", "namespace": "data", "readyExpr": "dep.status.observedGeneration == 3"},
        ],
        "decryption": {"provider": "sops", "secretRef": {"name": "age"}, "serviceAccountName": "kms"},
        "interval": "1h",
        "retryInterval": "2m0.5s",
        "kubeConfig": {"secretRef": {"name": "remote", "key": "value.yaml"}},
        "path": "./apps/production",
        "postBuild": {
            "substituteStrategy": "Always",
            "substitute": {"cluster_env": "prod", "empty": ""},
            "substituteFrom": [
                {"kind": "ConfigMap", "name": "vars"},
                {"kind": "Secret", "name": "secret-vars", "optional": True},
            ],
        },
        "prune": False,
        "deletionPolicy": "WaitForTermination",
        "healthChecks": [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backend", "namespace": "dev"},
            {"kind": "StatefulSet", "name": "db"},
        ],
        "namePrefix": "prod-",
        "nameSuffix": "-v2",
        "patches": [
            {"patch": "- op: remove\n  path: /spec/replicas\n", "target": {"kind": "Deployment", "name": "pod.*"}},
            {
                "patch": "kind: Deployment\nmetadata:\n  name: any\n",
                "target": {
                    "group": "apps",
                    "version": "v1",
                    "namespace": "x",
                    "labelSelector": "a=b",
                    "annotationSelector": "c=d",
                },
            },
        ],
        "images": [
            {"name": "podinfo", "newName": "registry.example.com/podinfo", "newTag": "6.0.0"},
            {"name": "redis", "digest": "sha256:24a0c4b4a4c0eb97a1aabb8e29f18e917d05abfe1b7a7c07857230879ce7d3d3"},
        ],
        "serviceAccountName": "deployer",
        "sourceRef": {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "OCIRepository",
            "name": "fleet",
            "namespace": "x",
        },
        "suspend": False,
        "targetNamespace": "prod",
        "timeout": "3m",
        "force": True,
        "wait": True,
        "buildMetadata": ["originAnnotations", "transformerAnnotations"],
        "components": ["../ha", "../backup"],
        "ignoreMissingComponents": True,
        "healthCheckExprs": [
            {
                "apiVersion": "cert-manager.io/v1",
                "kind": "Certificate",
                "inProgress": "has(status.a)",
                "failed": "false",
                "current": "true",
            }
        ],
        "ignore": [{"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}}],
    },
}


def _source(kind: str, **spec: object) -> KubeObject:
    metadata = {"name": "podinfo"}
    return {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


OCI = _source("OCIRepository", url="oci://ghcr.io/stefanprodan/manifests/podinfo", interval="5m")
BUCKET = _source("Bucket", bucketName="podinfo", endpoint="minio.example.com:9000", interval="5m")
HELM_REPOSITORY = _source("HelmRepository", url="https://stefanprodan.github.io/podinfo")
HELM_CHART = _source(
    "HelmChart", chart="podinfo", interval="5m", sourceRef={"kind": "HelmRepository", "name": "podinfo"}
)
EXTERNAL = _source("ExternalArtifact", sourceRef={"kind": "Generator", "name": "podinfo"})

# Every field at least once.
WHOLE_OCI = _source(
    "OCIRepository",
    url="oci://ghcr.io/stefanprodan/manifests/podinfo",
    ref={"digest": "sha256:abc", "semver": "6.x", "semverFilter": ".*-rc.*", "tag": "latest"},
    layerSelector={"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "operation": "copy"},
    provider="aws",
    secretRef={"name": "pull"},
    verify={
        "provider": "cosign",
        "secretRef": {"name": "keys"},
        "matchOIDCIdentity": [{"issuer": "^https://token$", "subject": "^https://github.com/.*$"}],
        "trustedRootSecretRef": {"name": "root"},
    },
    serviceAccountName="puller",
    certSecretRef={"name": "certs"},
    proxySecretRef={"name": "proxy"},
    interval="1h30m",
    timeout="90s",
    ignore="*.md",
    insecure=True,
    suspend=True,
)
WHOLE_BUCKET = _source(
    "Bucket",
    bucketName="podinfo",
    endpoint="minio.example.com:9000",
    sts={
        "provider": "ldap",
        "endpoint": "https://sts.example.com",
        "secretRef": {"name": "user"},
        "certSecretRef": {"name": "certs"},
    },
    insecure=True,
    region="us-east-1",
    prefix="app/",
    secretRef={"name": "keys"},
    certSecretRef={"name": "certs"},
    proxySecretRef={"name": "proxy"},
    interval="5m",
    timeout="2m",
    ignore="*.md",
    suspend=True,
)
WHOLE_HELM_REPOSITORY = _source(
    "HelmRepository",
    url="oci://ghcr.io/stefanprodan/charts",
    type="oci",
    secretRef={"name": "login"},
    certSecretRef={"name": "certs"},
    passCredentials=True,
    interval="10m",
    insecure=True,
    timeout="30s",
    suspend=True,
    accessFrom={"namespaceSelectors": [{"matchLabels": {"team": "a"}}]},
    provider="gcp",
)
WHOLE_HELM_CHART = _source(
    "HelmChart",
    chart="podinfo",
    version="6.x",
    sourceRef={"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmRepository", "name": "podinfo"},
    interval="5m",
    reconcileStrategy="Revision",
    valuesFiles=["values.yaml", "prod.yaml"],
    ignoreMissingValuesFiles=True,
    suspend=True,
    verify={
        "provider": "notation",
        "secretRef": {"name": "keys"},
        "matchOIDCIdentity": [{"issuer": "a", "subject": "b"}],
    },
)


def changed(obj: KubeObject, path: str, value: object) -> KubeObject:
    """A copy with the field at `path` (dots between names) set; `...` takes it away."""
    made = copy.deepcopy(obj)
    *parents, last = path.split(".")
    place = made
    for parent in parents:
        place = place.setdefault(parent, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return made


def release(name: str = "podinfo", namespace: str = "apps", /, **spec: Any) -> KubeObject:
    """A HelmRelease."""
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"interval": "10m", **spec},
    }


def _without_namespace(obj: KubeObject) -> KubeObject:
    return obj | {"metadata": {"name": obj["metadata"]["name"]}}


_TEMPLATE = {"spec": {"chart": "podinfo", "sourceRef": {"kind": "HelmRepository", "name": "podinfo"}}}
HELM_RELEASE = _without_namespace(release(chart=_TEMPLATE))
BY_REFERENCE = _without_namespace(release(chartRef={"kind": "OCIRepository", "name": "podinfo"}))
_RELEASING = {
    "timeout": "1m0s",
    "strategy": {"name": "RetryOnFailure", "retryInterval": "30s"},
    "disableTakeOwnership": True,
    "disableWait": True,
    "disableWaitForJobs": True,
    "disableHooks": True,
    "disableOpenAPIValidation": True,
    "disableSchemaValidation": True,
    "crds": "CreateReplace",
}
# Every field of the spec but chartRef, which cannot stand beside chart.
WHOLE_HELM_RELEASE = _without_namespace(
    release(
        chart={
            "metadata": {"labels": {"sharding.fluxcd.io/key": "a"}, "annotations": {"b": "c"}},
            "spec": {
                "chart": "./charts/podinfo",
                "version": "6.x",
                "sourceRef": {
                    "apiVersion": "source.toolkit.fluxcd.io/v1",
                    "kind": "GitRepository",
                    "name": "podinfo",
                    "namespace": "sources",
                },
                "interval": "5m0s",
                "reconcileStrategy": "Revision",
                "valuesFiles": ["values.yaml", "prod.yaml"],
                "ignoreMissingValuesFiles": True,
                "verify": {"provider": "notation", "secretRef": {"name": "keys"}},
            },
        },
        kubeConfig={"secretRef": {"name": "remote", "key": "value.yaml"}},
        suspend=True,
        releaseName="web",
        targetNamespace="prod",
        storageNamespace="records",
        dependsOn=[{"name": "db", "namespace": "data", "readyExpr": "dep.status.failures == 0"}],
        timeout="3m",
        maxHistory=0,
        serviceAccountName="deployer",
        persistentClient=False,
        driftDetection={
            "mode": "enabled",
            "ignore": [{"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}}],
        },
        install=_RELEASING
        | {
            "remediation": {"retries": 3, "ignoreTestFailures": True, "remediateLastFailure": True},
            "replace": True,
            "skipCRDs": True,
            "createNamespace": True,
            "serverSideApply": False,
        },
        upgrade=_RELEASING
        | {
            "remediation": {
                "retries": -1,
                "ignoreTestFailures": False,
                "remediateLastFailure": False,
                "strategy": "uninstall",
            },
            "force": True,
            "preserveValues": True,
            "cleanupOnFail": True,
            "serverSideApply": "disabled",
            "chartNameChangeStrategy": "InPlaceUpdate",
        },
        test={
            "enable": True,
            "timeout": "1m0s",
            "ignoreFailures": True,
            "filters": [{"name": "smoke"}, {"name": "load", "exclude": True}],
        },
        rollback={
            "timeout": "1m0s",
            "disableWait": True,
            "disableWaitForJobs": True,
            "disableHooks": True,
            "recreate": True,
            "force": True,
            "cleanupOnFail": True,
            "serverSideApply": "enabled",
        },
        uninstall={
            "timeout": "1m0s",
            "disableHooks": True,
            "keepHistory": True,
            "disableWait": True,
            "deletionPropagation": "orphan",
        },
        valuesFrom=[
            {"kind": "ConfigMap", "name": "base"},
            {
                "kind": "Secret",
                "name": "tokens",
                "valuesKey": "token",
                "targetPath": "ingress.hosts[0].tls\\.name",
                "optional": True,
                "literal": True,
            },
        ],
        values={"replicas": 2, "ratio": 0.5, "none": None, "list": [1, "a", {"b": True}], "deep": {"er": {}}},
        commonMetadata={"labels": {"team": "blue"}, "annotations": {"owner": "blue@example.com"}},
        postRenderers=[
            {
                "kustomize": {
                    "patches": [{"patch": "- op: remove\n  path: /a\n", "target": {"kind": "Service"}}],
                    "images": [{"name": "podinfo", "newTag": "6.0.0"}],
                }
            },
            {},
        ],
        postRenderStrategy="separate",
        waitStrategy={"name": "legacy"},
        healthCheckExprs=[{"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "current": "true"}],
    )
)

WHOLE_RELEASE_STATUS = HelmReleaseStatus(
    observed_generation=3,
    observed_post_renderers_digest="sha256:1",
    observed_common_metadata_digest="sha256:2",
    last_attempted_generation=3,
    conditions=(
        Condition(
            type="Ready",
            status="True",
            reason="InstallSucceeded",
            message="m",
            last_transition_time="2026-11-23T01:00:00Z",
            observed_generation=3,
        ),
    ),
    helm_chart="apps/apps-podinfo",
    storage_namespace="apps",
    history=(
        HelmSnapshot(
            api_version="v2",
            digest="sha256:3",
            name="podinfo",
            namespace="apps",
            version=2,
            status="deployed",
            action="upgrade",
            chart_name="podinfo",
            chart_version="6.0.0+1",
            app_version="6",
            config_digest="sha256:4",
            first_deployed="2026-11-23T01:00:00Z",
            last_deployed="2026-11-23T02:00:00Z",
            deleted="2026-11-23T03:00:00Z",
            test_hooks={
                "podinfo-smoke": HelmTestHook(
                    last_started="2026-11-23T02:00:00Z", last_completed="2026-11-23T02:01:00Z", phase="Succeeded"
                ),
                "podinfo-load": HelmTestHook(),
            },
            oci_digest="sha256:5",
        ),
        HelmSnapshot(
            digest="sha256:6",
            name="podinfo",
            namespace="apps",
            version=1,
            status="superseded",
            chart_name="podinfo",
            chart_version="5.0.0",
            config_digest="sha256:7",
            first_deployed="2026-11-23T01:00:00Z",
            last_deployed="2026-11-23T01:00:00Z",
            test_hooks={},
        ),
    ),
    inventory=Inventory(entries=(InventoryEntry(id="apps_podinfo__Service", v="v1"),)),
    last_attempted_release_action="upgrade",
    last_attempted_release_action_duration=Duration.of_seconds(90),
    failures=3,
    install_failures=1,
    upgrade_failures=2,
    last_attempted_revision="6.0.0+1",
    last_attempted_revision_digest="sha256:5",
    last_attempted_values_checksum="old",
    last_release_revision=1,
    last_attempted_config_digest="sha256:4",
    last_handled_reset_at="a",
    last_handled_reconcile_at="b",
    last_handled_force_at="c",
)
"""With every field."""


class Sample(NamedTuple):
    id: str
    object: KubeObject


ACCEPTED = [
    Sample("the source of the documentation", SOURCE),
    Sample("the target of the documentation", TARGET),
    Sample("a source with every field", WHOLE_SOURCE),
    Sample("a target with every field", WHOLE_TARGET),
    Sample("a source that ignores nothing", changed(SOURCE, "spec.ignore", "")),
    Sample("an empty ref", changed(SOURCE, "spec.ref", {})),
    Sample("plain http", changed(SOURCE, "spec.url", "http://git.example.com/a")),
    Sample("the old word for HEAD", changed(SOURCE, "spec.verify", {"mode": "head", "secretRef": {"name": "k"}})),
    Sample("an identity for aws", changed(changed(SOURCE, "spec.provider", "aws"), "spec.serviceAccountName", "a")),
    Sample("a cluster by ConfigMap", changed(TARGET, "spec.kubeConfig", {"configMapRef": {"name": "c"}})),
    Sample("an external artifact", changed(TARGET, "spec.sourceRef.kind", "ExternalArtifact")),
    Sample("a fraction of an hour", changed(TARGET, "spec.interval", "1.5h")),
    Sample("empty lists", changed(TARGET, "spec.dependsOn", [])),
    Sample("an OCI repository", OCI),
    Sample("an OCI repository with every field", WHOLE_OCI),
    Sample("a bucket", BUCKET),
    Sample("a bucket with every field", WHOLE_BUCKET),
    Sample(
        "a bucket of Amazon's with its STS",
        changed(changed(BUCKET, "spec.provider", "aws"), "spec.sts", {"provider": "aws", "endpoint": "https://sts"}),
    ),
    Sample(
        "an identity for a bucket", changed(changed(BUCKET, "spec.provider", "gcp"), "spec.serviceAccountName", "a")
    ),
    Sample("a Helm repository", HELM_REPOSITORY),
    Sample("a Helm repository with every field", WHOLE_HELM_REPOSITORY),
    Sample("a chart", HELM_CHART),
    Sample("a chart with every field", WHOLE_HELM_CHART),
    Sample("an external artifact of another controller", EXTERNAL),
    Sample("an external artifact of nobody", changed(EXTERNAL, "spec.sourceRef", ...)),
    Sample("a HelmRelease", HELM_RELEASE),
    Sample("a HelmRelease of a source", BY_REFERENCE),
    Sample("a HelmRelease with every field", WHOLE_HELM_RELEASE),
    Sample("empty actions", changed(HELM_RELEASE, "spec.install", {"remediation": {}})),
    Sample(
        "a strategy that remediates", changed(HELM_RELEASE, "spec.upgrade.strategy", {"name": "RemediateOnFailure"})
    ),
    Sample("values that are no object", changed(HELM_RELEASE, "spec.values", "text")),
    Sample("an empty key of values", changed(HELM_RELEASE, "spec.values", {"": {"a.b/c": 1}})),
]
REFUSED = [
    Sample("spec.url", changed(OCI, "spec.url", "https://ghcr.io/a")),
    Sample("spec.interval", changed(OCI, "spec.interval", ...)),
    Sample("spec.timeout", changed(OCI, "spec.timeout", "1h")),
    Sample("spec.provider", changed(OCI, "spec.provider", "github")),
    Sample("spec.layerSelector.operation", changed(OCI, "spec.layerSelector", {"operation": "move"})),
    Sample("spec.verify.provider", changed(OCI, "spec.verify", {"provider": "gpg"})),
    Sample(
        "spec.verify.matchOIDCIdentity[0].subject",
        changed(OCI, "spec.verify", {"provider": "cosign", "matchOIDCIdentity": [{"issuer": "a"}]}),
    ),
    Sample("spec.bucketName", changed(BUCKET, "spec.bucketName", ...)),
    Sample("spec.provider", changed(BUCKET, "spec.provider", "minio")),
    Sample("spec.sts.endpoint", changed(BUCKET, "spec.sts", {"provider": "ldap", "endpoint": "sts"})),
    Sample("spec", changed(BUCKET, "spec.sts", {"provider": "aws", "endpoint": "https://sts"})),
    Sample("spec", changed(BUCKET, "spec.serviceAccountName", "a")),
    Sample(
        "spec",
        changed(
            changed(changed(BUCKET, "spec.provider", "gcp"), "spec.serviceAccountName", "a"),
            "spec.secretRef",
            {"name": "a"},
        ),
    ),
    Sample(
        "spec",
        changed(
            changed(BUCKET, "spec.provider", "aws"),
            "spec.sts",
            {"provider": "aws", "endpoint": "https://sts", "secretRef": {"name": "a"}},
        ),
    ),
    Sample("spec.url", changed(HELM_REPOSITORY, "spec.url", "git://example.com/charts")),
    Sample("spec.type", changed(HELM_REPOSITORY, "spec.type", "git")),
    Sample("spec.accessFrom.namespaceSelectors", changed(HELM_REPOSITORY, "spec.accessFrom", {})),
    Sample("spec.chart", changed(HELM_CHART, "spec.chart", ...)),
    Sample("spec.sourceRef.kind", changed(HELM_CHART, "spec.sourceRef.kind", "OCIRepository")),
    Sample("spec.reconcileStrategy", changed(HELM_CHART, "spec.reconcileStrategy", "Always")),
    Sample(
        "spec",
        changed(changed(HELM_CHART, "spec.sourceRef.kind", "GitRepository"), "spec.verify", {"provider": "cosign"}),
    ),
    Sample("spec.sourceRef.name", changed(EXTERNAL, "spec.sourceRef", {"kind": "Generator"})),
    Sample("spec.url", changed(SOURCE, "spec.url", "git@github.com:stefanprodan/podinfo.git")),
    Sample("spec.url", changed(SOURCE, "spec.url", "file:///srv/git")),
    Sample("spec.url", changed(SOURCE, "spec.url", "https://git.example.com/a\n")),
    Sample("spec.url", changed(SOURCE, "spec.url", ...)),
    Sample("spec.interval", changed(SOURCE, "spec.interval", ...)),
    Sample("spec.interval", changed(SOURCE, "spec.interval", "5")),
    Sample("spec.interval", changed(SOURCE, "spec.interval", "-5m")),
    Sample("spec.interval", changed(SOURCE, "spec.interval", 300)),
    Sample("spec.timeout", changed(SOURCE, "spec.timeout", "1h")),
    Sample("spec.provider", changed(SOURCE, "spec.provider", "gitlab")),
    Sample("spec.provider", changed(SOURCE, "spec.provider", "")),
    Sample("spec", changed(SOURCE, "spec.serviceAccountName", "a")),
    Sample("spec", changed(changed(SOURCE, "spec.provider", "github"), "spec.serviceAccountName", "a")),
    Sample("spec.secretRef.name", changed(SOURCE, "spec.secretRef", {})),
    Sample("spec.verify.secretRef", changed(SOURCE, "spec.verify", {"mode": "HEAD"})),
    Sample("spec.verify.mode", changed(SOURCE, "spec.verify", {"mode": "tag", "secretRef": {"name": "k"}})),
    Sample("spec.include[0].repository", changed(SOURCE, "spec.include", [{"fromPath": "a"}])),
    Sample("spec.sparseCheckout[1]", changed(SOURCE, "spec.sparseCheckout", ["a", 1])),
    Sample("spec.suspend", changed(SOURCE, "spec.suspend", "yes")),
    Sample("spec.prune", changed(TARGET, "spec.prune", ...)),
    Sample("spec.prune", changed(TARGET, "spec.prune", "true")),
    Sample("spec.interval", changed(TARGET, "spec.interval", "10 minutes")),
    Sample("spec.retryInterval", changed(TARGET, "spec.retryInterval", "1us")),
    Sample("spec.sourceRef", changed(TARGET, "spec.sourceRef", ...)),
    Sample("spec.sourceRef.name", changed(TARGET, "spec.sourceRef", {"kind": "Bucket"})),
    Sample("spec.sourceRef.kind", changed(TARGET, "spec.sourceRef.kind", "HelmRepository")),
    Sample("spec.deletionPolicy", changed(TARGET, "spec.deletionPolicy", "Keep")),
    Sample("spec.targetNamespace", changed(TARGET, "spec.targetNamespace", "")),
    Sample("spec.targetNamespace", changed(TARGET, "spec.targetNamespace", "n" * 64)),
    Sample("spec.namePrefix", changed(TARGET, "spec.namePrefix", "")),
    Sample("spec.nameSuffix", changed(TARGET, "spec.nameSuffix", "s" * 201)),
    Sample("spec.patches[0].patch", changed(TARGET, "spec.patches", [{"target": {"kind": "Service"}}])),
    Sample("spec.images[0].name", changed(TARGET, "spec.images", [{"newTag": "1"}])),
    Sample("spec.buildMetadata[0]", changed(TARGET, "spec.buildMetadata", ["managedBy"])),
    Sample("spec.components", changed(TARGET, "spec.components", "../ha")),
    Sample("spec.dependsOn[0].name", changed(TARGET, "spec.dependsOn", [{"namespace": "a"}])),
    Sample("spec.decryption.provider", changed(TARGET, "spec.decryption", {"provider": "vault"})),
    Sample("spec.kubeConfig", changed(TARGET, "spec.kubeConfig", {})),
    Sample(
        "spec.kubeConfig",
        changed(TARGET, "spec.kubeConfig", {"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}),
    ),
    Sample("spec.healthChecks[0].kind", changed(TARGET, "spec.healthChecks", [{"name": "a"}])),
    Sample("spec.healthCheckExprs[0].current", changed(TARGET, "spec.healthCheckExprs", [{"apiVersion": "a/v1"}])),
    Sample("spec.ignore[0].paths", changed(TARGET, "spec.ignore", [{"target": {}}])),
    Sample("spec.postBuild.substituteStrategy", changed(TARGET, "spec.postBuild.substituteStrategy", "Never")),
    Sample(
        "spec.postBuild.substituteFrom[0].kind",
        changed(TARGET, "spec.postBuild.substituteFrom", [{"kind": "Pod", "name": "a"}]),
    ),
    Sample(
        "spec.postBuild.substituteFrom[0].name",
        changed(TARGET, "spec.postBuild.substituteFrom", [{"kind": "Secret", "name": ""}]),
    ),
    Sample("spec.postBuild.substitute['replicas']", changed(TARGET, "spec.postBuild.substitute", {"replicas": 2})),
    Sample("spec.commonMetadata.labels", changed(TARGET, "spec.commonMetadata.labels", ["a"])),
    Sample("spec", changed(HELM_RELEASE, "spec.chart", ...)),
    Sample("spec", changed(HELM_RELEASE, "spec.chartRef", {"kind": "HelmChart", "name": "a"})),
    Sample("spec.interval", changed(HELM_RELEASE, "spec.interval", ...)),
    Sample("spec.timeout", changed(HELM_RELEASE, "spec.timeout", "300")),
    Sample("spec.releaseName", changed(HELM_RELEASE, "spec.releaseName", "r" * 54)),
    Sample("spec.storageNamespace", changed(HELM_RELEASE, "spec.storageNamespace", "")),
    Sample("spec.serviceAccountName", changed(HELM_RELEASE, "spec.serviceAccountName", "")),
    Sample("spec.maxHistory", changed(HELM_RELEASE, "spec.maxHistory", "5")),
    Sample("spec.chart.spec.chart", changed(HELM_RELEASE, "spec.chart.spec.chart", "")),
    Sample("spec.chart.spec.sourceRef.kind", changed(HELM_RELEASE, "spec.chart.spec.sourceRef.kind", "OCIRepository")),
    Sample("spec.chart.spec.sourceRef.name", changed(HELM_RELEASE, "spec.chart.spec.sourceRef.name", "")),
    Sample("spec.chartRef.kind", changed(BY_REFERENCE, "spec.chartRef.kind", "HelmRepository")),
    Sample("spec.chartRef.namespace", changed(BY_REFERENCE, "spec.chartRef.namespace", "n" * 64)),
    Sample(
        "spec.install.strategy",
        changed(HELM_RELEASE, "spec.install.strategy", {"name": "RemediateOnFailure", "retryInterval": "1m"}),
    ),
    Sample(
        "spec.upgrade.strategy",
        changed(HELM_RELEASE, "spec.upgrade.strategy", {"name": "RemediateOnFailure", "retryInterval": "1m"}),
    ),
    Sample("spec.install.strategy.name", changed(HELM_RELEASE, "spec.install.strategy", {"name": "Retry"})),
    Sample("spec.install.crds", changed(HELM_RELEASE, "spec.install.crds", "Replace")),
    Sample("spec.install.serverSideApply", changed(HELM_RELEASE, "spec.install.serverSideApply", "auto")),
    Sample("spec.upgrade.serverSideApply", changed(HELM_RELEASE, "spec.upgrade.serverSideApply", True)),
    Sample("spec.upgrade.remediation.strategy", changed(HELM_RELEASE, "spec.upgrade.remediation.strategy", "none")),
    Sample("spec.install.remediation.retries", changed(HELM_RELEASE, "spec.install.remediation.retries", 1.5)),
    Sample("spec.uninstall.deletionPropagation", changed(HELM_RELEASE, "spec.uninstall.deletionPropagation", "none")),
    Sample("spec.test.filters[0].name", changed(HELM_RELEASE, "spec.test.filters", [{"exclude": True}])),
    Sample("spec.driftDetection.mode", changed(HELM_RELEASE, "spec.driftDetection.mode", "on")),
    Sample("spec.driftDetection.ignore[0].paths", changed(HELM_RELEASE, "spec.driftDetection.ignore", [{}])),
    Sample("spec.valuesFrom[0].kind", changed(HELM_RELEASE, "spec.valuesFrom", [{"kind": "Pod", "name": "a"}])),
    Sample(
        "spec.valuesFrom[0].valuesKey",
        changed(HELM_RELEASE, "spec.valuesFrom", [{"kind": "Secret", "name": "a", "valuesKey": "a/b"}]),
    ),
    Sample(
        "spec.valuesFrom[0].targetPath",
        changed(HELM_RELEASE, "spec.valuesFrom", [{"kind": "Secret", "name": "a", "targetPath": "a[]"}]),
    ),
    Sample("spec.postRenderStrategy", changed(HELM_RELEASE, "spec.postRenderStrategy", "hooks")),
    Sample(
        "spec.postRenderers[0].kustomize.images[0].name",
        changed(HELM_RELEASE, "spec.postRenderers", [{"kustomize": {"images": [{}]}}]),
    ),
    Sample("spec.waitStrategy.name", changed(HELM_RELEASE, "spec.waitStrategy", {})),
    Sample("spec.kubeConfig", changed(HELM_RELEASE, "spec.kubeConfig", {})),
]
