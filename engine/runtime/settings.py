"""How the daemon is to work: one TOML file, and flags that go before it.

Names and defaults are Flux's where Flux has them (Flux contract 6.1, 6.2): a field `a_b` is the flag `--a-b` and the
key `a-b` of the file.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tidelog.engine.kinds.durations import Duration, MalformedDurationError
from tidelog.engine.runtime.errors import SettingsError
from tidelog.engine.verify.guard import Guard

CONTROLLERS = ("source-controller", "kustomize-controller")

FEATURE_GATES = {
    "StrictPostBuildSubstitutions": "strict-post-build-substitutions",
    "CacheSecretsAndConfigMaps": None,
    "ObjectLevelWorkloadIdentity": None,
    "ExternalArtifact": None,
    "DisableStatusPollerCache": None,
    "DisableFailFastBehavior": None,
    "GroupChangeLog": None,
    "AdditiveCELDependencyCheck": "additive-cel-dependency-check",
    "CancelHealthCheckOnNewRevision": None,
    "DirectSourceFetch": None,
    "DisableConfigWatchers": None,
    "MigrateAPIVersion": None,
}
"""Flux's feature gates (Flux contract 6.3), with the setting that each is; None for those that change nothing here."""

NO_EFFECT = {
    "kube_api_qps": "requests follow what the server allows",
    "kube_api_burst": "requests follow what the server allows",
    "requeue_dependency": "who waits for something is woken by it",
    "http_retry": "artifacts are read from the store",
    "storage_path": "artifacts are in the store, which --store names",
    "artifact_retention_ttl": "artifacts are kept as long as a status names them, and a minute more",
    "artifact_retention_records": "the log keeps every revision",
    "concurrent_ssa": "four dry runs of a target at once",
    "watch_configs_label_selector": "every ConfigMap and Secret that is named is watched",
    "log_encoding": "logs are JSON",
    "leader_election_release_on_cancel": "Leases are always released",
}
"""Flags of Flux that are taken, so that its manifests serve, and change nothing; with the reason."""

ENVIRONMENT = {
    "runtime_namespace": "RUNTIME_NAMESPACE",
    "storage_addr": "STORAGE_ADDRESS",
    "storage_adv_addr": "STORAGE_ADV_ADDR",
}
"""Settings that Flux's manifests give by the environment (Flux contract FL-023): before the file, after a flag."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Settings of the daemon."""

    cluster_name: str = "default"
    """The alias of the cluster, with which its streams begin."""
    runtime_namespace: str = "flux-system"
    """The engine's own namespace, where its Leases are."""
    watch_all_namespaces: bool = True
    """Whether the kinds of all namespaces are looked after, or those of the engine's own only."""
    watch_label_selector: str = ""
    """Only objects of our kinds with these labels are looked after."""
    concurrent: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    """Kustomizations that run at once."""
    concurrent_sources: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    """Sources that run at once."""
    interval_jitter_percentage: Annotated[int, msgspec.Meta(ge=0, lt=100)] = 5
    """By how much an interval varies."""
    min_retry_delay: Duration = Duration.of_seconds(0.75)
    """Before the first try after a failure of the surroundings; doubled for each further one."""
    max_retry_delay: Duration = Duration.of_seconds(900)
    """The longest of these."""
    storage_addr: str = ":9090"
    """Where artifacts are served; empty for not at all."""
    storage_adv_addr: str = ""
    """How others reach it; the address itself where it is empty."""
    health_addr: str = ":9440"
    """Where /healthz and /readyz are; empty for nowhere."""
    metrics_addr: str = ":8080"
    """Where /metrics is; empty for nowhere."""
    events_addr: str = ""
    """Where events are posted to, besides the cluster."""
    door_addr: str = ""
    """Where requests from elsewhere are taken, over HTTPS; empty for nowhere."""
    door_cert_file: str = ""
    """The certificate of that door, PEM."""
    door_key_file: str = ""
    """Its key, PEM."""
    webhook_addr: str = ":9292"
    """Where webhooks are called; nowhere without a token."""
    webhook_token_file: str = ""
    """A file with the token that the addresses of webhooks are made from, and their calls are signed with."""
    default_service_account: str = ""
    """Whom to act as for a Kustomization that names no ServiceAccount."""
    no_cross_namespace_refs: bool = False
    """Whether a Kustomization may only name sources of its own namespace."""
    no_remote_bases: bool = False
    """Whether a kustomization may only have bases of its own artifact."""
    custom_apply_stage_kinds: frozenset[str] = frozenset()
    """Kinds, `Kind` or `group/Kind`, that are applied before the others, in a wave of their own."""
    strict_post_build_substitutions: bool = True
    """Whether a variable without a value fails the build."""
    additive_cel_dependency_check: bool = False
    """Whether a dependency with a `readyExpr` has to be ready besides."""
    enable_leader_election: bool = True
    """Whether the Leases of Flux's controllers are held while the daemon writes."""
    leader_election_lease_duration: Duration = Duration.of_seconds(35)
    """How long a Lease lasts."""
    leader_election_renew_deadline: Duration = Duration.of_seconds(30)
    """How long renewing one may fail."""
    leader_election_retry_period: Duration = Duration.of_seconds(5)
    """How often one is renewed, or tried for."""
    log_level: Literal["trace", "debug", "info", "error"] = "info"
    """`debug`, `info` or `error`."""
    prune_guard: Guard = Guard()
    """Which deletions have to be approved."""

    @property
    def jitter(self) -> float:
        """The share of an interval by which it varies."""
        return self.interval_jitter_percentage / 100


def load_settings(file: Path | None, flags: dict[str, Any]) -> Settings:
    """The settings of a file (none: the defaults), with those of the command line on top.

    Args:
        file: TOML.
        flags: by the name of the field; None for what was not given.

    Raises:
        SettingsError: when the file cannot be read, or a setting is unknown or makes no sense.
    """
    found = {} if file is None else _table(file)
    _settings(found, str(file))  # so that an error says where it stands
    for name, value in flags.items():
        if value is not None:
            key = name.replace("_", "-")
            found[key] = {**found.get(key, {}), **value} if isinstance(value, dict) else value
    settings = _settings(found, "the command line")
    guard = msgspec.structs.replace(settings.prune_guard, namespace=settings.runtime_namespace)
    return msgspec.structs.replace(settings, prune_guard=guard)


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None


def _settings(found: dict[str, Any], where: str) -> Settings:
    try:
        return msgspec.convert(found, Settings, strict=False, dec_hook=_read)
    except (msgspec.ValidationError, MalformedDurationError) as error:
        raise SettingsError(f"{where}: {error}") from None


def gates_of(text: str) -> dict[str, bool]:
    """The settings that `--feature-gates=A=true,B=false` sets (Flux contract FL-015).

    Raises:
        SettingsError: for a gate that Flux does not have.
    """
    found = {}
    for gate in filter(None, map(str.strip, text.split(","))):
        name, _, value = gate.partition("=")
        if name not in FEATURE_GATES:
            raise SettingsError(f"--feature-gates: feature-gate '{name}' not supported")
        if value not in ("true", "false"):
            raise SettingsError(f"--feature-gates: {name} is true or false, and not {value!r}")
        setting = FEATURE_GATES[name]
        if setting is not None:
            found[setting.replace("-", "_")] = value == "true"
    return found


def as_json(settings: Settings) -> dict[str, Any]:
    """The settings as JSON has them, for the log."""
    written: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=str)
    written["custom-apply-stage-kinds"] = sorted(settings.custom_apply_stage_kinds)
    return written


def settings_of(data: bytes) -> Settings:
    """The settings that `as_json` wrote, of this release or another; what this one does not know is left out."""
    known = {field.encode_name for field in msgspec.structs.fields(Settings)}
    found = {name: value for name, value in msgspec.json.decode(data).items() if name in known}
    try:
        return msgspec.convert(found, Settings, strict=False, dec_hook=_read)
    except (msgspec.ValidationError, MalformedDurationError) as error:
        raise SettingsError(f"the settings of the last daemon: {error}") from None


def _read(wanted: type[Any], value: Any) -> Any:
    if wanted is Duration:
        return Duration.parse(str(value))
    raise NotImplementedError(f"no way to read a {wanted.__name__}")
