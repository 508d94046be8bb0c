"""What a HelmRelease leaves out has Flux's defaults; its names, sources and requests are as Flux makes them."""

import hashlib
from typing import Any

import pytest

from tests.kinds.samples import WHOLE_HELM_RELEASE, WHOLE_RELEASE_STATUS, changed, release
from tidelog.engine.helm.policy import policy_of
from tidelog.engine.kinds.decode import decode, encode, unknown_fields
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.kinds.helmactions import ActionName, ReleasingName
from tidelog.engine.kinds.helmrelease import (
    HelmRelease,
    HelmReleaseSpec,
    HelmReleaseStatus,
    ReleaseDefaults,
)
from tidelog.engine.kinds.meta import helm_chart_name
from tidelog.events.names import ObjectKey

ACTIONS: tuple[ActionName, ...] = ("install", "upgrade", "test", "rollback", "uninstall")
RELEASING: tuple[ReleasingName, ...] = ("install", "upgrade")
SOURCE = {"chartRef": {"kind": "OCIRepository", "name": "podinfo"}}


def spec(**fields: Any) -> HelmReleaseSpec:
    return decode(HelmRelease, release(**SOURCE, **fields)).spec


WHOLE = decode(HelmRelease, WHOLE_HELM_RELEASE).spec
BARE = spec()

# Retold from Flux's documentation and examples.
REALISTIC = [
    release(
        "ingress-nginx",
        "ingress-nginx",
        interval="30m",
        chart={
            "spec": {
                "chart": "ingress-nginx",
                "version": "*",
                "sourceRef": {"kind": "HelmRepository", "name": "ingress-nginx", "namespace": "ingress-nginx"},
                "interval": "12h",
            }
        },
        values={"controller": {"service": {"type": "NodePort"}}},
    ),
    release(
        "cert-manager",
        "flux-system",
        chartRef={"kind": "OCIRepository", "name": "cert-manager"},
        targetNamespace="cert-manager",
        install={"createNamespace": True, "crds": "CreateReplace"},
        upgrade={"crds": "CreateReplace", "remediation": {"retries": 3}},
        values={"crds": {"enabled": True, "keep": False}},
    ),
    release(
        "podinfo",
        "podinfo",
        interval="50m",
        releaseName="podinfo",
        chart={
            "spec": {
                "chart": "podinfo",
                "version": ">6.0.0",
                "sourceRef": {"kind": "HelmRepository", "name": "podinfo"},
            }
        },
        install={"strategy": {"name": "RetryOnFailure", "retryInterval": "2m"}},
        upgrade={"strategy": {"name": "RetryOnFailure"}},
        test={"enable": True, "ignoreFailures": True},
        driftDetection={"mode": "enabled", "ignore": [{"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}}]},
        valuesFrom=[{"kind": "Secret", "name": "prod-env", "valuesKey": "values-prod.yaml", "optional": True}],
        values={"redis": {"enabled": True}, "ingress": {"hosts": [{"host": "a.example.com", "paths": ["/"]}]}},
    ),
    release(
        "monitoring",
        "monitoring",
        chart={
            "spec": {"chart": "./charts/monitoring", "sourceRef": {"kind": "GitRepository", "name": "fleet"}},
        },
        dependsOn=[{"name": "crds"}, {"name": "ingress-nginx", "namespace": "ingress-nginx"}],
        postRenderers=[{"kustomize": {"images": [{"name": "prom/node-exporter", "newTag": "v1"}]}}],
        serviceAccountName="deployer",
    ),
]


@pytest.mark.parametrize("obj", REALISTIC, ids=lambda obj: obj["metadata"]["name"])
def test_releases_as_people_write_them_are_read_whole(obj: dict[str, Any]) -> None:
    read = decode(HelmRelease, obj)
    assert unknown_fields(HelmRelease, obj) == ()
    assert read.spec.effective_values == obj["spec"].get("values", {})
    assert decode(HelmRelease, obj | {"spec": encode(read.spec)}) == read


def test_an_unknown_field_is_known_but_not_one_of_the_values() -> None:
    obj = changed(changed(WHOLE_HELM_RELEASE, "spec.values.anything", 1), "spec.upgrade.wait", True)
    assert unknown_fields(HelmRelease, obj) == ("spec.upgrade.wait",)


def test_names_and_namespaces() -> None:
    assert BARE.release_name_of("podinfo") == "podinfo"
    assert (BARE.release_namespace_of("apps"), BARE.storage_namespace_of("apps")) == ("apps", "apps")
    assert spec(targetNamespace="prod").release_name_of("podinfo") == "prod-podinfo"
    assert spec(targetNamespace="prod").storage_namespace_of("apps") == "apps"
    assert WHOLE.release_name_of("podinfo") == "web"
    assert (WHOLE.release_namespace_of("apps"), WHOLE.storage_namespace_of("apps")) == ("prod", "records")


def test_a_name_that_is_too_long_for_helm_is_shortened() -> None:
    assert BARE.release_name_of("n" * 53) == "n" * 53
    long = f"prod-{'n' * 49}"
    shortened = spec(targetNamespace="prod").release_name_of("n" * 49)
    assert shortened == f"{long[:40]}-{hashlib.sha256(long.encode()).hexdigest()[:12]}"
    assert len(shortened) == 53


def test_the_source_of_the_chart() -> None:
    group = "source.toolkit.fluxcd.io"
    assert BARE.chart_source("apps", "a") == ObjectKey(group, "OCIRepository", "apps", "podinfo")
    there = changed(release(**SOURCE), "spec.chartRef.namespace", "sources")
    assert decode(HelmRelease, there).spec.chart_source("apps", "a").namespace == "sources"
    assert WHOLE.chart_source("apps", "a") == ObjectKey(group, "HelmChart", "sources", "apps-a")
    own = decode(HelmRelease, REALISTIC[2]).spec.chart_source("podinfo", "podinfo")
    assert own == ObjectKey(group, "HelmChart", "podinfo", "podinfo-podinfo")
    assert helm_chart_name("apps", "a") == "apps-a"
    with pytest.raises(ValueError, match="invalid Chart reference"):
        HelmReleaseSpec(interval=BARE.interval).chart_source("apps", "a")


def test_the_chart_that_a_template_makes() -> None:
    assert WHOLE.chart is not None
    made = encode(WHOLE.chart.helm_chart_spec(WHOLE.interval))
    template = WHOLE_HELM_RELEASE["spec"]["chart"]["spec"]
    # The source's namespace is the HelmChart's own.
    assert made == template | {"sourceRef": {"kind": "GitRepository", "name": "podinfo"}}
    plain = decode(HelmRelease, REALISTIC[3]).spec
    assert plain.chart is not None
    assert encode(plain.chart.helm_chart_spec(plain.interval)) == {
        "chart": "./charts/monitoring",
        "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        "interval": "10m0s",
    }


def test_limits_of_time_and_of_history() -> None:
    assert {BARE.effective_timeout(action) for action in ACTIONS} == {Duration.of_seconds(300)}
    general = spec(timeout="2m", rollback={"timeout": "0s"})
    assert {action: general.effective_timeout(action).seconds for action in ACTIONS} == {
        "install": 120,
        "upgrade": 120,
        "test": 120,
        "rollback": 0,
        "uninstall": 120,
    }
    assert {WHOLE.effective_timeout(action).seconds for action in ACTIONS} == {60}
    assert (BARE.effective_max_history, WHOLE.effective_max_history) == (5, 0)


def test_what_actions_do_unless_told_otherwise() -> None:
    for action in (BARE.effective_install, BARE.effective_upgrade):
        assert {action.waits, action.waits_for_jobs, action.runs_hooks} == {True}
        assert {action.checks_schema, action.takes_ownership} == {True}
        assert action.effective_crds == "Create"
        assert (action.effective_strategy, action.retries_after) == ("RemediateOnFailure", None)
    assert not BARE.creates_namespace
    assert BARE.effective_upgrade.effective_chart_name_change == "Reinstall"
    rollback, uninstall = BARE.effective_rollback, BARE.effective_uninstall
    assert {rollback.waits, rollback.waits_for_jobs, rollback.runs_hooks} == {True}
    assert {uninstall.waits, uninstall.runs_hooks} == {True}
    assert not uninstall.keep_history
    assert uninstall.deletion_propagation == "background"
    assert BARE.effective_test == decode(HelmRelease, release(**SOURCE, test={})).spec.effective_test
    assert not BARE.effective_test.enable
    assert (BARE.effective_post_render_strategy, BARE.effective_wait_strategy) == ("combined", "poller")
    drift = BARE.effective_drift_detection
    assert (drift.effective_mode, drift.detects, drift.corrects) == ("disabled", False, False)
    assert BARE.effective_values == {}


@pytest.mark.parametrize(("strategy", "asked"), [({}, 1), ({"name": "poller"}, 1), ({"name": "legacy"}, 0)])
def test_only_the_poller_asks_expressions(strategy: dict[str, str], asked: int) -> None:
    waits = {"waitStrategy": strategy} if strategy else {}
    found = spec(healthCheckExprs=[{"apiVersion": "a/v1", "current": "true"}], **waits)
    assert len(found.effective_health_check_exprs) == asked


def test_gates_say_what_a_spec_leaves_open() -> None:
    assert BARE.completed(ReleaseDefaults()) == BARE
    as_before = BARE.completed(ReleaseDefaults(as_helm_3=True))
    assert (as_before.effective_post_render_strategy, as_before.effective_wait_strategy) == ("nohooks", "legacy")
    assert as_before.effective_install.retries_after is None
    retried = BARE.completed(ReleaseDefaults(retries=True))
    assert (retried.effective_post_render_strategy, retried.effective_wait_strategy) == ("combined", "poller")
    for action in (retried.effective_install, retried.effective_upgrade):
        assert (action.effective_strategy, action.retries_after) == ("RetryOnFailure", Duration.of_seconds(300))


def test_what_a_spec_says_goes_before_gates() -> None:
    both = ReleaseDefaults(as_helm_3=True, retries=True)
    strategy = {"name": "RemediateOnFailure"}
    told = spec(
        postRenderStrategy="separate",
        waitStrategy={"name": "poller"},
        install={"strategy": strategy, "disableWait": True},
        upgrade={"strategy": strategy, "remediation": {"retries": 2}},
    )
    assert told.completed(both) == told
    half = spec(install={"disableWait": True, "remediation": {"retries": 2}}).completed(both)
    assert (half.effective_install.waits, half.effective_install.effective_remediation.retries) == (False, 2)
    assert half.effective_install.effective_strategy == "RetryOnFailure"  # as in Flux: a remediation is no strategy


def test_what_actions_do_when_told() -> None:
    for action in (WHOLE.effective_install, WHOLE.effective_upgrade):
        assert {action.waits, action.waits_for_jobs, action.runs_hooks} == {False}
        assert {action.checks_schema, action.takes_ownership} == {False}
        assert action.effective_crds == "CreateReplace"
        assert (action.effective_strategy, action.retries_after) == ("RetryOnFailure", Duration.of_seconds(30))
    assert WHOLE.creates_namespace
    assert WHOLE.effective_upgrade.effective_chart_name_change == "InPlaceUpdate"
    rollback, uninstall = WHOLE.effective_rollback, WHOLE.effective_uninstall
    assert {rollback.waits, rollback.waits_for_jobs, rollback.runs_hooks} == {False}
    assert {uninstall.waits, uninstall.runs_hooks} == {False}
    assert uninstall.deletion_propagation == "orphan"
    assert [(hook.name, hook.exclude) for hook in WHOLE.effective_test.filters] == [("smoke", False), ("load", True)]
    assert (WHOLE.effective_post_render_strategy, WHOLE.effective_wait_strategy) == ("separate", "legacy")
    drift = WHOLE.effective_drift_detection
    assert (drift.effective_mode, drift.detects, drift.corrects) == ("enabled", True, True)
    warned = spec(driftDetection={"mode": "warn"}).effective_drift_detection
    assert (warned.detects, warned.corrects) == (True, False)


@pytest.mark.parametrize(
    ("filters", "run"),
    [
        ([], ["load", "smoke", "other"]),
        ([{"name": "smoke"}], ["smoke"]),
        ([{"name": "smoke"}, {"name": "load"}], ["load", "smoke"]),
        ([{"name": "load", "exclude": True}], ["smoke", "other"]),
        ([{"name": "smoke"}, {"name": "load", "exclude": True}], ["smoke"]),
        ([{"name": "smoke"}, {"name": "smoke", "exclude": True}], []),
    ],
)
def test_tests_are_run_or_left_out_by_their_names(filters: list[dict[str, Any]], run: list[str]) -> None:
    """Contract HR-052, as `helm test --filter name=smoke,!name=load` has it."""
    test = spec(test={"enable": True, "filters": filters}).effective_test
    assert [name for name in ("load", "smoke", "other") if test.runs(name)] == run


def test_jobs_are_not_waited_for_where_nothing_is() -> None:
    assert not spec(install={"disableWait": True}).effective_install.waits_for_jobs
    assert spec(install={"disableWaitForJobs": True}).effective_install.waits


def test_a_namespace_is_made_only_where_one_is_named() -> None:
    assert not spec(install={"createNamespace": True}).creates_namespace


def test_retry_on_failure_waits_five_minutes() -> None:
    retrying = spec(upgrade={"strategy": {"name": "RetryOnFailure"}}).effective_upgrade
    assert retrying.retries_after == Duration.of_seconds(300)


def test_a_field_of_the_values_key() -> None:
    assert [reference.effective_values_key for reference in WHOLE.values_from] == ["values.yaml", "token"]


@pytest.mark.parametrize("values", [None, "text", ["a"], 1])
def test_values_that_are_no_object_count_for_none(values: object) -> None:
    assert spec(values=values).effective_values == {}


@pytest.mark.parametrize(
    ("action", "remediation", "strategy", "last"),
    [
        ("install", {}, "uninstall", False),
        ("install", {"retries": 3}, "uninstall", False),
        ("install", {"remediateLastFailure": True}, "uninstall", True),
        ("upgrade", {}, "rollback", False),
        ("upgrade", {"retries": 1}, "rollback", True),
        ("upgrade", {"retries": -1}, "rollback", False),
        ("upgrade", {"retries": 1, "remediateLastFailure": False}, "rollback", False),
        ("upgrade", {"remediateLastFailure": True, "strategy": "uninstall"}, "uninstall", True),
    ],
)
def test_how_a_failure_is_undone(action: ReleasingName, remediation: object, strategy: str, last: bool) -> None:
    read = spec(**{action: {"remediation": remediation}}).effective_remediation(action)
    assert (read.effective_strategy, read.remediates_last_failure) == (strategy, last)


@pytest.mark.parametrize(
    ("retries", "failures", "exhausted"),
    [(0, 0, False), (0, 1, True), (1, 1, False), (1, 2, True), (-1, 1000, False)],
)
def test_retries_come_after_the_first_attempt(retries: int, failures: int, exhausted: bool) -> None:
    for action in RELEASING:
        read = spec(**{action: {"remediation": {"retries": retries}}})
        policy = policy_of(read)
        attempts = policy.install if action == "install" else policy.upgrade
        assert attempts.are_exhausted(failures) is exhausted


@pytest.mark.parametrize("action", RELEASING)
def test_whose_word_counts_about_failed_tests(action: ReleasingName) -> None:
    assert not BARE.ignores_test_failures(action)
    assert spec(test={"ignoreFailures": True}).ignores_test_failures(action)
    for own in (True, False):
        said = spec(test={"ignoreFailures": not own}, **{action: {"remediation": {"ignoreTestFailures": own}}})
        assert said.ignores_test_failures(action) is own


def test_a_status_names_the_chart_of_the_template() -> None:
    chart = ObjectKey("source.toolkit.fluxcd.io", "HelmChart", "apps", "apps-podinfo")
    assert WHOLE_RELEASE_STATUS.helm_chart_key == chart
    assert HelmReleaseStatus().helm_chart_key is None


def test_a_status_is_read_as_it_was_written() -> None:
    written = encode(WHOLE_RELEASE_STATUS)
    assert decode(HelmReleaseStatus, written) == WHOLE_RELEASE_STATUS
    assert [entry.get("testHooks") for entry in written["history"]] == [
        {
            "podinfo-smoke": {
                "lastStarted": "2026-11-23T02:00:00Z",
                "lastCompleted": "2026-11-23T02:01:00Z",
                "phase": "Succeeded",
            },
            "podinfo-load": {},
        },
        {},
    ]
