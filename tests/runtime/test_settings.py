"""How the daemon is told how to work, and what it says when it is told wrongly."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tidelog.engine.runtime.errors import SettingsError
from tidelog.engine.runtime.settings import (
    FEATURE_GATES,
    GATES_WITHOUT_EFFECT,
    Settings,
    as_json,
    gates_of,
    load_settings,
)
from tidelog.engine.runtime.settings_help import FLUX, setting_told, settings_told


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_without_a_file_and_flags_the_defaults_are_fluxs() -> None:
    settings = load_settings(None, {})
    assert settings == Settings()
    assert (settings.storage_addr, settings.health_addr, settings.metrics_addr) == (":9090", ":9440", ":8080")
    assert settings.watch_all_namespaces
    assert settings.interval_jitter_percentage == 5
    assert (settings.min_retry_delay.seconds, settings.max_retry_delay.seconds) == (0.75, 15 * 60)
    assert settings.leader_election_lease_duration.seconds == 35
    assert settings.leader_election_renew_deadline.seconds == 30
    assert settings.leader_election_retry_period.seconds == 5
    assert settings.log_level == "info"
    assert not settings.no_remote_bases
    assert not settings.custom_apply_stage_kinds


def test_a_flag_goes_before_the_file_and_the_file_before_the_default(file: Path) -> None:
    file.write_text('concurrent = 7\nmin-retry-delay = "2s"\n')
    settings = load_settings(file, {"concurrent": "9", "cluster_name": None, "max_retry_delay": "1m"})
    assert (settings.concurrent, settings.min_retry_delay.seconds, settings.max_retry_delay.seconds) == (9, 2, 60)
    assert settings.cluster_name == "default"


def test_a_flag_about_the_guard_leaves_the_rest_of_it_as_the_file_has_it(file: Path) -> None:
    file.write_text("[prune-guard]\ndeletions-max = 3\nenabled = false\n")
    guard = load_settings(file, {"prune_guard": {"enabled": True}}).prune_guard
    assert (guard.enabled, guard.deletions_max) == (True, 3)


def test_the_guard_knows_the_engines_own_namespace() -> None:
    assert load_settings(None, {"runtime_namespace": "gitops"}).prune_guard.namespace == "gitops"


@pytest.mark.parametrize(
    ("content", "flags", "words"),
    [
        ("concurent = 7", {}, ("settings.toml", "concurent")),
        ("concurrent = 0", {}, ("settings.toml: concurrent: 0 is not a whole number from 1 to 1000",)),
        ("concurrent = 'many'", {}, ("settings.toml: concurrent: 'many' is not a whole number",)),
        ("min-retry-delay = 'soon'", {}, ("settings.toml", "soon")),
        ("log-level = 'loud'", {}, ("settings.toml: log-level: 'loud' is not trace, debug, info or error",)),
        ("[prune-guard]\nmost = 3", {}, ("settings.toml: prune-guard.most: there is no such setting",)),
        ("[prune-guard]\nshare-max = 101", {}, ("prune-guard.share-max: 101 is not a whole number from 0 to 100",)),
        ("prune-guard = 3", {}, ("settings.toml: prune-guard: 3 is not a table",)),
        ("concurrent = \nx = 1", {}, ("settings.toml", "line 1")),
        ("concurrent = 7", {"concurrent": "0"}, ("--concurrent: '0' is not a whole number",)),
        ("", {"max_retry_delay": "soon"}, ("--max-retry-delay: 'soon' is not a duration",)),
        ("", {"log_level": "loud"}, ("--log-level: 'loud' is not trace",)),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    file: Path, content: str, flags: dict[str, Any], words: tuple[str, ...]
) -> None:
    file.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, flags)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"settings\.toml"):
        load_settings(file, {})


def test_settings_as_the_log_has_them_can_be_read_back(file: Path) -> None:
    file.write_text('custom-apply-stage-kinds = ["b", "a"]\nmin-retry-delay = "1.5s"\n')
    settings = load_settings(file, {})
    written = as_json(settings)
    assert written["custom-apply-stage-kinds"] == ["a", "b"]
    assert written["min-retry-delay"] == "1.5s"
    assert msgspec.json.decode(msgspec.json.encode(written)) == written


def test_gates_of_flux_set_what_they_are_here_and_others_are_refused() -> None:
    assert gates_of(",".join(f"{gate}=true" for gate in FEATURE_GATES)).settings == {
        "strict_post_build_substitutions": True,
        "additive_cel_dependency_check": True,
        "use_helm3_defaults": True,
        "default_to_retry_on_failure": True,
        "disable_chart_digest_tracking": True,
        "object_level_workload_identity": True,
        "allow_dns_lookups": True,
    }
    found = gates_of("StrictPostBuildSubstitutions=false, ExternalArtifact=true")
    assert found.settings == {"strict_post_build_substitutions": False}
    assert found.ignored == {"ExternalArtifact": GATES_WITHOUT_EFFECT["ExternalArtifact"]}
    assert gates_of("AdditiveCELDependencyCheck=true").settings == {"additive_cel_dependency_check": True}
    ignored = gates_of(",".join(f"{gate}=true" for gate in GATES_WITHOUT_EFFECT))
    assert (ignored.settings, ignored.ignored) == ({}, GATES_WITHOUT_EFFECT)
    assert not gates_of("").settings
    for text, words in (
        ("Unheard=true", "feature-gate 'Unheard' not supported: known are AdditiveCEL"),
        ("OptimizedGitClones=true", "feature-gate 'OptimizedGitClones' not supported"),
        ("ExternalArtifact=yes", "true or false"),
    ):
        with pytest.raises(SettingsError, match=words):
            gates_of(text)


def test_gates_of_releases_are_told_by_their_settings() -> None:
    defaults = load_settings(None, {}).release_defaults
    assert not defaults.as_helm_3
    assert not defaults.retries
    defaults = load_settings(None, gates_of("UseHelm3Defaults=true").settings).release_defaults
    assert (defaults.as_helm_3, defaults.retries) == (True, False)
    defaults = load_settings(None, gates_of("DefaultToRetryOnFailure=true").settings).release_defaults
    assert (defaults.as_helm_3, defaults.retries) == (False, True)


def test_every_setting_is_explained_and_its_default_is_one_that_it_may_have() -> None:
    told = settings_told()
    assert len(told) == len({one.name for one in told})
    fields = {field.encode_name for field in msgspec.structs.fields(Settings)}
    assert {one.name.partition(".")[0] for one in told} == fields
    for one in told:
        assert one.meaning.endswith("."), one
        assert one.form, one
        table, _, key = one.name.rpartition(".")
        written = {table: {key: one.default}} if table else {key: one.default}
        assert as_json(load_settings(None, {name.replace("-", "_"): value for name, value in written.items()})) == (
            as_json(load_settings(None, {}))
        ), one


def test_what_flux_has_is_told_of_settings_that_there_are() -> None:
    assert set(FLUX) <= {field.name for field in msgspec.structs.fields(Settings)}
    assert set(FEATURE_GATES.values()) <= {one.name for one in settings_told()}


@pytest.mark.parametrize("name", ["log-level", "--log-level", "log_level"])
def test_a_setting_is_found_by_its_name_in_any_form(name: str) -> None:
    assert setting_told(name).form == "trace, debug, info or error"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("concurent", "do you mean concurrent or"),
        ("colour", "`tidelog settings` lists them"),
        ("--kube-api-qps", "no effect: requests follow"),
        ("ExternalArtifact", "gate of Flux that is taken and has no effect: an ExternalArtifact can"),
        ("--receiverAddr", "flag of Flux that is refused: it is notification-controller's"),
        ("--snapshot-digest-algo", "no effect: digests are SHA-256"),
    ],
)
def test_a_name_of_no_setting_is_answered_with_what_it_is(name: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        setting_told(name)
