"""What a release's chart is called, and what is said of its actions (contract HR-067, HR-119 to HR-122)."""

import pytest

from tidelog.engine.helm.archives import Described
from tidelog.engine.runtime.passes.releases.charts import ChartArtifact, released
from tidelog.engine.runtime.passes.releases.sayings import message_of, reason_of
from tidelog.engine.runtime.run import StageError
from tidelog.engine.runtime.settings import Settings
from tidelog.events.digest import digest_of
from tidelog.events.names import Revision, StreamName
from tidelog.events.vocabulary import ReleaseActionStarted, ReleaseSnapshot
from tidelog.events.vocabulary.release import Action, ReleaseTest

UNTOLD = Settings()
CHECKSUM = "0123456789ab" + "c" * 52


def chart_of(kind: str, revision: str, version: str = "1.2.0", settings: Settings = UNTOLD) -> tuple[str, str, str]:
    artifact = ChartArtifact(
        stream=StreamName("s"), kind=kind, revision=Revision(revision), tree="t", artifact=digest_of(b"")
    )
    found = released(Described("web", version, "9"), artifact, settings)
    return found.version, found.build_metadata, found.oci_digest


@pytest.mark.parametrize(
    ("kind", "revision", "version", "oci_digest"),
    [
        ("HelmChart", "1.2.0", "1.2.0", ""),
        ("OCIRepository", f"1.2.0@sha256:{CHECKSUM}", "1.2.0+0123456789ab", f"sha256:{CHECKSUM}"),
        ("OCIRepository", f"v1.2@sha256:{CHECKSUM}", "1.2.0+0123456789ab", f"sha256:{CHECKSUM}"),
        ("OCIRepository", f"latest@sha256:{CHECKSUM}", "1.2.0+0123456789ab", f"latest@sha256:{CHECKSUM}"),
        ("ExternalArtifact", f"sha256:{CHECKSUM}", "1.2.0+0123456789ab", f"sha256:{CHECKSUM}"),
        ("ExternalArtifact", "7", "1.2.0", ""),
    ],
)
def test_the_version_of_a_chart_of_a_registry_has_its_digest(
    kind: str, revision: str, version: str, oci_digest: str
) -> None:
    build = version.partition("+")[2]
    assert chart_of(kind, revision) == (version, build, oci_digest)


def test_a_digest_that_is_not_followed_is_told_and_makes_no_other_version() -> None:
    settings = Settings(disable_chart_digest_tracking=True)
    found = chart_of("OCIRepository", f"1.2.0@sha256:{CHECKSUM}", settings=settings)
    assert found == ("1.2.0", "", f"sha256:{CHECKSUM}")
    with pytest.raises(StageError, match=r"1\.3\.0 does not match chart version 1\.2\.0"):
        chart_of("OCIRepository", f"1.3.0@sha256:{CHECKSUM}", settings=settings)


def test_a_tag_that_is_a_version_is_the_chart_s() -> None:
    with pytest.raises(StageError, match=r"1\.3\.0 does not match chart version 1\.2\.0") as caught:
        chart_of("OCIRepository", f"1.3.0@sha256:{CHECKSUM}")
    assert caught.value.reason == "ChartMutateError"


RELEASE = "apps/web.v2"
CHART = "web@1.0.0"


@pytest.mark.parametrize(
    ("action", "error", "reason", "message"),
    [
        ("install", "", "InstallSucceeded", f"Helm install succeeded for release {RELEASE} with chart {CHART}"),
        ("install", "no", "InstallFailed", f"Helm install failed for release apps/web with chart {CHART}: no"),
        ("upgrade", "", "UpgradeSucceeded", f"Helm upgrade succeeded for release {RELEASE} with chart {CHART}"),
        ("upgrade", "no", "UpgradeFailed", f"Helm upgrade failed for release apps/web with chart {CHART}: no"),
        (
            "test",
            "",
            "TestSucceeded",
            f"Helm test succeeded for release {RELEASE} with chart {CHART}: 2 test hooks completed successfully",
        ),
        ("test", "no", "TestFailed", f"Helm test failed for release {RELEASE} with chart {CHART}: no"),
        (
            "rollback",
            "",
            "RollbackSucceeded",
            f"Helm rollback to previous release apps/web.v1 with chart {CHART} succeeded",
        ),
        (
            "rollback",
            "no",
            "RollbackFailed",
            f"Helm rollback to previous release apps/web.v1 with chart {CHART} failed: no",
        ),
        (
            "uninstall-remediation",
            "",
            "UninstallSucceeded",
            f"Helm uninstall remediation for release {RELEASE} with chart {CHART} succeeded",
        ),
        ("uninstall", "", "UninstallSucceeded", f"Helm uninstall succeeded for release {RELEASE} with chart {CHART}"),
        ("uninstall", "no", "UninstallFailed", f"Helm uninstall failed for release {RELEASE} with chart {CHART}: no"),
    ],
)
def test_actions_are_told_in_fluxs_words(action: Action, error: str, reason: str, message: str) -> None:
    started = ReleaseActionStarted(
        action=action,
        name="web",
        namespace="apps",
        storage_namespace="apps",
        version=2,
        chart_name="web",
        chart_version="1.0.0",
        target=1,
    )
    tests = tuple(ReleaseTest(name=name, phase="Succeeded") for name in "ab")
    snapshot = ReleaseSnapshot(
        name="web",
        namespace="apps",
        version=2,
        status="deployed",
        digest="",
        chart_name="web",
        chart_version="1.0.0",
        tests=tests,
    )
    assert reason_of(action, failed=bool(error)) == reason
    assert message_of(started, error, [snapshot]) == message


def test_a_release_without_tests_is_told_as_such() -> None:
    started = ReleaseActionStarted(
        action="test",
        name="web",
        namespace="apps",
        storage_namespace="apps",
        version=1,
        chart_name="web",
        chart_version="1.0.0",
    )
    assert message_of(started, "", ()).endswith(": no test hooks")
