"""What the engine cannot do yet is refused, naming the field; all else is not."""

import pytest

from tests.kinds.samples import SOURCE, TARGET, WHOLE_SOURCE, WHOLE_TARGET, changed
from tidelog.engine.kinds.bucket import BucketSpec
from tidelog.engine.kinds.decode import decode
from tidelog.engine.kinds.durations import Interval
from tidelog.engine.kinds.gitrepository import GitRepository, GitRepositorySpec
from tidelog.engine.kinds.helmchart import ChartSourceReference, ChartVerification, HelmChartSpec
from tidelog.engine.kinds.helmrepository import HelmRepositorySpec
from tidelog.engine.kinds.kustomization import Kustomization, KustomizationSpec
from tidelog.engine.kinds.later import credentials_left, features_left
from tidelog.engine.kinds.ocirepository import OCIRepositorySpec, OCIVerification
from tidelog.engine.kinds.registry import FetchedSpec
from tidelog.engine.objects.kube import KubeObject


def spec_of(obj: KubeObject) -> GitRepositorySpec | KustomizationSpec:
    if obj["kind"] == "GitRepository":
        return decode(GitRepository, obj).spec
    return decode(Kustomization, obj).spec


def left(obj: KubeObject) -> list[str]:
    return [sentence.split(":")[0] for sentence in features_left(spec_of(obj))]


HOUR = Interval.of_seconds(3600)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spec.url", "ssh://git@example.com/a"),
        ("spec.provider", "github"),
        ("spec.provider", "aws"),
        ("spec.verify", {"secretRef": {"name": "keys"}}),
        ("spec.proxySecretRef", {"name": "proxy"}),
        ("spec.recurseSubmodules", True),
        ("spec.include", [{"repository": {"name": "a"}}]),
        ("spec.sparseCheckout", ["a"]),
    ],
)
def test_what_a_source_asks_for_and_cannot_have_yet(field: str, value: object) -> None:
    assert left(changed(SOURCE, field, value)) == [field]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("spec.decryption", {"provider": "sops"}),
        ("spec.ignore", [{"paths": ["/a"]}]),
    ],
)
def test_what_a_target_asks_for_and_cannot_have_yet(field: str, value: object) -> None:
    assert left(changed(TARGET, field, value)) == [field]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (
            OCIRepositorySpec(url="oci://a/b", interval=HOUR, verify=OCIVerification(provider="notation")),
            "spec.verify.provider",
        ),
        (
            HelmChartSpec(
                chart="a",
                source_ref=ChartSourceReference(kind="HelmRepository", name="b"),
                interval=HOUR,
                verify=ChartVerification(provider="cosign"),
            ),
            "spec.verify",
        ),
    ],
)
def test_what_other_sources_ask_for_and_cannot_have_yet(spec: FetchedSpec, field: str) -> None:
    (sentence,) = features_left(spec)
    assert sentence.startswith(f"{field}: ")
    assert ";" in sentence


@pytest.mark.parametrize(
    "spec",
    [
        OCIRepositorySpec(url="oci://a/b", interval=HOUR, provider="aws", service_account_name="c"),
        BucketSpec(bucket_name="a", endpoint="b", interval=HOUR, provider="gcp", service_account_name="c"),
        HelmRepositorySpec(url="oci://a/b", type="oci", provider="azure"),
    ],
)
def test_what_other_sources_can_have_is_not_refused(spec: FetchedSpec) -> None:
    assert features_left(spec) == ()


def test_all_of_it_is_told_at_once() -> None:
    assert len(left(WHOLE_SOURCE)) == 7
    assert len(left(WHOLE_TARGET)) == 2


@pytest.mark.parametrize(
    ("obj", "field", "value"),
    [
        (SOURCE, "spec.provider", "generic"),
        (SOURCE, "spec.secretRef", {"name": "a"}),
        (SOURCE, "spec.ignore", "*"),
        (SOURCE, "spec.recurseSubmodules", False),
        (SOURCE, "spec.include", []),
        (TARGET, "spec.serviceAccountName", "a"),
        (TARGET, "spec.kubeConfig", {"secretRef": {"name": "a"}}),
        (TARGET, "spec.kubeConfig", {"configMapRef": {"name": "a"}}),
        (TARGET, "spec.wait", True),
        (TARGET, "spec.dependsOn", [{"name": "a", "readyExpr": "true"}]),
        (TARGET, "spec.components", ["a"]),
        (TARGET, "spec.postBuild", {"substituteStrategy": "Always"}),
        (TARGET, "spec.healthChecks", [{"kind": "Job", "name": "a"}]),
        (TARGET, "spec.deletionPolicy", "WaitForTermination"),
    ],
)
def test_what_can_be_done_is_not_refused(obj: KubeObject, field: str, value: object) -> None:
    assert left(changed(obj, field, value)) == []


def test_credentials_that_cannot_be_used_yet_are_known_by_their_keys() -> None:
    assert credentials_left({"username", "password", "ca.crt"}, "auth") == ()
    assert credentials_left({"bearerToken"}, "auth") == ()
    (certificate,) = credentials_left({"tls.crt", "tls.key", "ca.crt"}, "auth")
    assert certificate.startswith("spec.secretRef: Secret auth has tls.crt and tls.key")
    (app,) = credentials_left({"githubAppID", "githubAppPrivateKey"}, "auth")
    assert "GitHub App" in app
    assert len(credentials_left({"certFile", "githubAppID"}, "auth")) == 2


def test_a_sentence_tells_what_to_do() -> None:
    for obj in (WHOLE_SOURCE, WHOLE_TARGET):
        for sentence in features_left(spec_of(obj)):
            assert sentence.startswith("spec.")
            assert ";" in sentence
