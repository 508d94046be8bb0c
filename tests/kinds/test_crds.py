"""The CRDs are those of Flux's API (contract 1.1). What they accept and refuse is tried on a real API server."""

from collections.abc import Iterator

import pytest

from tidelog.engine.kinds.bucket import Bucket
from tidelog.engine.kinds.crds import crd
from tidelog.engine.kinds.externalartifact import ExternalArtifact
from tidelog.engine.kinds.gitrepository import GitRepository
from tidelog.engine.kinds.helmchart import HelmChart
from tidelog.engine.kinds.helmrelease import HelmRelease
from tidelog.engine.kinds.helmrepository import HelmRepository
from tidelog.engine.kinds.kustomization import Kustomization
from tidelog.engine.kinds.ocirepository import OCIRepository
from tidelog.engine.kinds.registry import KINDS
from tidelog.engine.objects.kube import KubeObject

GITREPOSITORY, KUSTOMIZATION, HELMRELEASE = crd(GitRepository), crd(Kustomization), crd(HelmRelease)

RULES = "x-kubernetes-validations"


def version(obj: KubeObject) -> KubeObject:
    (only,) = obj["spec"]["versions"]
    assert isinstance(only, dict)
    return only


def schema(obj: KubeObject) -> KubeObject:
    found: KubeObject = version(obj)["schema"]["openAPIV3Schema"]
    return found


def spec(obj: KubeObject) -> KubeObject:
    found: KubeObject = schema(obj)["properties"]["spec"]
    return found


@pytest.mark.parametrize(
    ("obj", "name", "short", "categories", "columns"),
    [
        (
            GITREPOSITORY,
            "gitrepositories.source.toolkit.fluxcd.io",
            ["gitrepo"],
            ["all", "fluxcd", "fluxcd-sources"],
            ["URL", "Age", "Ready", "Status"],
        ),
        (
            KUSTOMIZATION,
            "kustomizations.kustomize.toolkit.fluxcd.io",
            ["ks"],
            ["all", "fluxcd", "fluxcd-appliers"],
            ["Age", "Ready", "Status"],
        ),
        (
            crd(OCIRepository),
            "ocirepositories.source.toolkit.fluxcd.io",
            ["ocirepo"],
            ["all", "fluxcd", "fluxcd-sources"],
            ["URL", "Ready", "Status", "Age"],
        ),
        (
            crd(HelmRepository),
            "helmrepositories.source.toolkit.fluxcd.io",
            ["helmrepo"],
            ["all", "fluxcd", "fluxcd-sources"],
            ["URL", "Age", "Ready", "Status"],
        ),
        (
            crd(HelmChart),
            "helmcharts.source.toolkit.fluxcd.io",
            ["hc"],
            ["all", "fluxcd", "fluxcd-sources"],
            ["Chart", "Version", "Source Kind", "Source Name", "Age", "Ready", "Status"],
        ),
        (
            crd(Bucket),
            "buckets.source.toolkit.fluxcd.io",
            None,
            ["all", "fluxcd", "fluxcd-sources"],
            ["Endpoint", "Age", "Ready", "Status"],
        ),
        (
            crd(ExternalArtifact),
            "externalartifacts.source.toolkit.fluxcd.io",
            ["ea"],
            ["all", "fluxcd", "fluxcd-sources"],
            ["Age", "Ready", "Status", "Source"],
        ),
        (
            HELMRELEASE,
            "helmreleases.helm.toolkit.fluxcd.io",
            ["hr"],
            ["all", "fluxcd", "fluxcd-appliers"],
            ["Age", "Ready", "Status"],
        ),
    ],
)
def test_names_categories_and_columns(
    obj: KubeObject, name: str, short: list[str] | None, categories: list[str], columns: list[str]
) -> None:
    assert obj["metadata"]["name"] == name
    assert obj["spec"]["names"].get("shortNames") == short
    assert obj["spec"]["names"]["categories"] == categories
    assert [column["name"] for column in version(obj)["additionalPrinterColumns"]] == columns
    assert name == f"{obj['spec']['names']['plural']}.{obj['spec']['group']}"


@pytest.mark.parametrize(("obj", "name"), [(GITREPOSITORY, "v1"), (KUSTOMIZATION, "v1"), (HELMRELEASE, "v2")])
def test_one_version_namespaced_with_a_status_that_nobody_observed_yet(obj: KubeObject, name: str) -> None:
    only = version(obj)
    assert (obj["spec"]["scope"], only["name"], only["served"], only["storage"]) == ("Namespaced", name, True, True)
    assert only["subresources"] == {"status": {}}
    assert schema(obj)["properties"]["status"]["default"] == {"observedGeneration": -1}
    assert "required" not in schema(obj)


@pytest.mark.parametrize("obj", [GITREPOSITORY, KUSTOMIZATION, HELMRELEASE])
def test_a_kustomization_that_applies_the_crds_leaves_their_dollars_alone(obj: KubeObject) -> None:
    assert obj["metadata"]["annotations"] == {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}


def test_durations_have_flux_s_patterns() -> None:
    long, short = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", r"^([0-9]+(\.[0-9]+)?(ms|s|m))+$"
    source, target = spec(GITREPOSITORY)["properties"], spec(KUSTOMIZATION)["properties"]
    assert (source["interval"]["pattern"], source["timeout"]["pattern"]) == (long, short)
    assert {target[name]["pattern"] for name in ("interval", "retryInterval", "timeout")} == {long}


def test_what_is_required_and_what_has_a_default() -> None:
    assert sorted(spec(GITREPOSITORY)["required"]) == ["interval", "url"]
    assert sorted(spec(KUSTOMIZATION)["required"]) == ["interval", "prune", "sourceRef"]
    defaults = {
        name: field["default"]
        for obj in (GITREPOSITORY, KUSTOMIZATION)
        for name, field in spec(obj)["properties"].items()
        if "default" in field
    }
    assert defaults == {"timeout": "60s", "force": False}


def test_the_schema_of_a_release() -> None:
    properties = spec(HELMRELEASE)["properties"]
    assert spec(HELMRELEASE)["required"] == ["interval"]
    assert [rule["rule"] for _, node in fields(schema(HELMRELEASE)) for rule in node.get(RULES, ())] == [
        "(has(self.chart) && !has(self.chartRef)) || (!has(self.chart) && has(self.chartRef))",
        "has(self.configMapRef) || has(self.secretRef)",
        "!has(self.configMapRef) || !has(self.secretRef)",
        "!has(self.retryInterval) || self.name != 'RemediateOnFailure'",
        "!has(self.retryInterval) || self.name == 'RetryOnFailure'",
    ]
    assert {path: node["default"] for path, node in fields(schema(HELMRELEASE)) if "default" in node} == {
        ".spec.chart.spec.version": "*",
        ".spec.chart.spec.reconcileStrategy": "ChartVersion",
        ".spec.chart.spec.verify.provider": "cosign",
        ".spec.uninstall.deletionPropagation": "background",
        ".status": {"observedGeneration": -1},
    }
    integers = {path: node for path, node in fields(schema(HELMRELEASE)) if node.get("type") == "integer"}
    assert {path for path, node in integers.items() if "format" in node} == {
        ".status.observedGeneration",
        ".status.lastAttemptedGeneration",
        ".status.conditions[].observedGeneration",
        ".status.failures",
        ".status.installFailures",
        ".status.upgradeFailures",
    }
    assert {name for name in properties["values"] if name != "description"} == {"x-kubernetes-preserve-unknown-fields"}
    assert properties["install"]["properties"].keys() >= {"timeout", "disableOpenAPIValidation", "skipCRDs", "crds"}


def fields(node: object, path: str = "") -> Iterator[tuple[str, KubeObject]]:
    if isinstance(node, dict):
        for name, field in (node.get("properties") or {}).items():
            yield f"{path}.{name}", field
            yield from fields(field, f"{path}.{name}")
        yield from fields(node.get("items"), f"{path}[]")


@pytest.mark.parametrize("kind", sorted({*KINDS, HelmRelease}, key=str), ids=lambda kind: kind.__name__)
def test_kubectl_explain_has_a_sentence_for_every_field(kind: type) -> None:
    silent = [path for path, field in fields(schema(crd(kind))) if not field.get("description")]
    assert silent == [".metadata"]
