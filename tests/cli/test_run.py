"""`tidelog run`: flags and variables of Flux's controllers, as its manifests give them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from tests.cli.conftest import Run
from tidelog.engine.cli import serve as serve_module
from tidelog.engine.runtime.errors import LeaseLostError, RefusedError
from tidelog.engine.runtime.settings import ENVIRONMENT, NO_EFFECT, Settings
from tidelog.engine.sources.limits import HelmLimits
from tidelog.engine.views.names import UnclearNameError

Told = Callable[..., tuple[Settings, str]]


@pytest.fixture
def told(tidelog: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Told:
    """Gives the settings that the daemon would run by, and what is said before it does."""
    found: list[Settings] = []

    async def serve(*arguments: Any) -> int:
        found.extend(one for one in arguments if isinstance(one, Settings))
        return 0

    monkeypatch.setattr(serve_module, "serve", serve)
    for variable in ENVIRONMENT.values():
        monkeypatch.delenv(variable, raising=False)

    def run(*flags: str) -> tuple[Settings, str]:
        done = tidelog("run", "--store", tmp_path / "store", *flags)
        assert done.code == 0, done.err
        return found[-1], done.err

    return run


def test_without_flags_the_settings_are_the_defaults(told: Told) -> None:
    settings, said = told()
    assert settings == Settings()
    assert said == ""


def test_the_flags_of_fluxs_own_manifests_are_taken(told: Told) -> None:
    settings, said = told(
        "--events-addr=http://notification-controller.flux-system.svc.cluster.local./",
        "--watch-all-namespaces=true",
        "--log-level=info",
        "--log-encoding=json",
        "--enable-leader-election",
        "--storage-path=/data",
        "--storage-adv-addr=source-controller.flux-system.svc.cluster.local.",
    )
    assert settings == Settings(
        events_addr="http://notification-controller.flux-system.svc.cluster.local./",
        storage_adv_addr="source-controller.flux-system.svc.cluster.local.",
        log_encoding="json",
    )
    assert said.splitlines() == [
        "--storage-path has no effect: artifacts are in the store, which --store names",
    ]


# Flags of source-controller 1.9, kustomize-controller 1.9 and helm-controller 1.6 that nobody tries below: each with a
# value that people give it.
OTHERS = (
    "--artifact-digest-algo=sha512",
    "--artifact-retention-records=2",
    "--artifact-retention-ttl=60s",
    "--concurrent-ssa=8",
    "--default-decryption-service-account=decrypts",
    "--graceful-shutdown-timeout=600s",
    "--helm-cache-max-size=10",
    "--helm-cache-purge-interval=5m",
    "--helm-cache-ttl=60m",
    "--http-retry=9",
    "--http-timeout=30s",
    "--kube-api-burst=300",
    "--kube-api-qps=50",
    "--leader-election-release-on-cancel",
    "--oom-watch-current-memory-path=/sys/fs/cgroup/memory.current",
    "--oom-watch-interval=500ms",
    "--oom-watch-max-memory-path=/sys/fs/cgroup/memory.max",
    "--oom-watch-memory-threshold=95",
    "--requeue-dependency=5s",
    "--snapshot-digest-algo=sha256",
    "--sops-age-secret=sops-age",
    "--sops-vault-configmap=vaults",
    "--ssh-hostkey-algos=ssh-ed25519",
    "--ssh-kex-algos=curve25519-sha256",
    "--watch-configs-label-selector=a=b",
)


def test_flags_of_flux_that_change_nothing_are_taken_and_named(told: Told) -> None:
    settings, said = told(*OTHERS, "--feature-gates=OOMWatch=true")
    assert settings == Settings()
    named = {flag.partition("=")[0] for flag in OTHERS}
    assert {line.partition(" has no effect: ")[0] for line in said.splitlines()} == {
        *named,
        "the feature gate OOMWatch",
    }
    assert named | {"--storage-path"} == {f"--{name.replace('_', '-')}" for name in NO_EFFECT}


def test_each_flag_sets_what_it_is_called_after(told: Told) -> None:
    settings, said = told(
        "--metrics-addr=:1",
        "--health-addr=:2",
        "--concurrent=3",
        "--watch-all-namespaces=false",
        "--watch-label-selector=a=b",
        "--interval-jitter-percentage=7",
        "--min-retry-delay=1s",
        "--max-retry-delay=1m",
        "--enable-leader-election=false",
        "--leader-election-lease-duration=20s",
        "--leader-election-renew-deadline=10s",
        "--leader-election-retry-period=2s",
        "--log-level=debug",
        "--no-remote-bases",
        "--insecure-kubeconfig-exec",
        "--insecure-kubeconfig-tls=true",
        "--custom-apply-stage-kinds=cert-manager.io/Issuer, Widget",
        "--override-manager=a",
        "--override-manager=b,c",
        "--feature-gates=StrictPostBuildSubstitutions=false,UseHelm3Defaults=true,ObjectLevelWorkloadIdentity=true",
        "--allow-dns-lookups",
        "--default-kubeconfig-service-account=goes-there",
        "--token-cache-max-size=0",
        "--token-cache-max-duration=5m",
        "--default-to-retry-on-failure",
        "--helm-index-max-size=104857600",
        "--helm-chart-max-size=20971520",
        "--helm-chart-file-max-size=1048576",
    )
    assert (settings.metrics_addr, settings.health_addr, settings.concurrent) == (":1", ":2", 3)
    assert (settings.watch_all_namespaces, settings.watch_label_selector) == (False, "a=b")
    assert settings.interval_jitter_percentage == 7
    assert (settings.min_retry_delay.seconds, settings.max_retry_delay.seconds) == (1, 60)
    assert not settings.enable_leader_election
    assert settings.leader_election_lease_duration.seconds == 20
    assert settings.leader_election_renew_deadline.seconds == 10
    assert settings.leader_election_retry_period.seconds == 2
    assert settings.log_level == "debug"
    assert settings.no_remote_bases
    assert settings.insecure_kubeconfig_exec
    assert settings.insecure_kubeconfig_tls
    assert settings.custom_apply_stage_kinds == {"cert-manager.io/Issuer", "Widget"}
    assert settings.override_manager == {"a", "b", "c"}
    assert not settings.strict_post_build_substitutions
    assert settings.use_helm3_defaults
    assert settings.allow_dns_lookups
    assert settings.object_level_workload_identity
    assert settings.default_kubeconfig_service_account == "goes-there"
    assert (settings.token_cache_max_size, settings.token_cache_max_duration.seconds) == (0, 300)
    assert settings.default_to_retry_on_failure
    assert settings.helm_limits == HelmLimits(index_bytes=100 * 2**20, chart_bytes=20 * 2**20, file_bytes=2**20)
    assert Settings().helm_limits == HelmLimits(), "as in Flux"
    assert said == ""


def test_a_variable_of_fluxs_manifests_goes_before_the_file_and_after_a_flag(
    told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('runtime-namespace = "file"\n')
    monkeypatch.setenv("RUNTIME_NAMESPACE", "variable")
    monkeypatch.setenv("STORAGE_ADDRESS", ":1")
    monkeypatch.setenv("STORAGE_ADV_ADDR", "here")
    settings, _ = told(f"--config={file}")
    assert (settings.runtime_namespace, settings.storage_addr, settings.storage_adv_addr) == ("variable", ":1", "here")
    assert settings.prune_guard.namespace == "variable"
    settings, _ = told(f"--config={file}", "--runtime-namespace=flag")
    assert settings.runtime_namespace == "flag"


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--feature-gates=OptimizedGitClones=true", "feature-gate 'OptimizedGitClones' not supported"),
        ("--log-level=loud", "log-level"),
        ("--kubeconfig-user=helm", "No such option"),
        ("--default-kubeconfig-service-account=a", "--feature-gates=ObjectLevelWorkloadIdentity=true only"),
        ("--receiverAddr=:9292", "Where webhooks are called here is --webhook-addr"),
        ("--rate-limit-interval=5m", "it is notification-controller's"),
        ("--export-http-path-metrics", "it is notification-controller's"),
    ],
)
def test_what_cannot_be_heeded_keeps_it_from_starting(tidelog: Run, flag: str, words: str) -> None:
    done = tidelog("run", flag)
    assert done.code != 0
    assert words in done.err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ([RefusedError("this cluster is kept from elsewhere")], 1, "This cluster is kept from elsewhere.\n"),
        ([UnclearNameError("which of them?")], 2, "Error: which of them?\n"),
        ([click.UsageError("no")], 2, "Error: no\n"),
        ([LeaseLostError("the Lease is lost")], 3, "Error: the Lease is lost\n"),
        ([KeyboardInterrupt(), LeaseLostError("the Lease is lost")], 3, "Error: the Lease is lost\n"),
        ([click.Abort()], 130, ""),
        ([KeyboardInterrupt()], 130, ""),
    ],
)
def test_what_a_task_of_the_daemon_ends_it_with_is_told_as_of_any_command(
    tidelog: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    raised: list[BaseException],
    code: int,
    said: str,
) -> None:
    async def serve(*_: Any) -> int:
        raise BaseExceptionGroup("tasks", [BaseExceptionGroup("tasks", raised)])

    monkeypatch.setattr(serve_module, "serve", serve)
    done = tidelog("run", "--store", tmp_path / "store")
    assert (done.code, done.out, done.err) == (code, "", said)


def test_what_nobody_can_do_anything_about_keeps_its_traceback(
    tidelog: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def serve(*_: Any) -> int:
        raise ExceptionGroup("tasks", [RefusedError("no"), ZeroDivisionError("a fault")])

    monkeypatch.setattr(serve_module, "serve", serve)
    with pytest.raises(ExceptionGroup) as raised:
        tidelog("run", "--store", tmp_path / "store")
    assert raised.group_contains(ZeroDivisionError)
