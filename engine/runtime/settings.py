"""How the daemon is to work: one TOML file, and flags that go before it.

Names and defaults are Flux's where Flux has them (Flux contract 6.1, 6.2): a field `a_b` is the flag `--a-b` and the
key `a-b` of the file.
"""

import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import msgspec.inspect

from tidelog.engine.kinds.durations import Duration, MalformedDurationError
from tidelog.engine.kinds.helmrelease import ReleaseDefaults
from tidelog.engine.runtime.errors import SettingsError
from tidelog.engine.sources.limits import HELM_LIMITS, HelmLimits
from tidelog.engine.verify.guard import Guard
from tidelog.events.typed import converter

CONTROLLERS = ("source-controller", "kustomize-controller", "helm-controller")

FEATURE_GATES = {
    "StrictPostBuildSubstitutions": "strict-post-build-substitutions",
    "AdditiveCELDependencyCheck": "additive-cel-dependency-check",
    "UseHelm3Defaults": "use-helm3-defaults",
    "DefaultToRetryOnFailure": "default-to-retry-on-failure",
    "DisableChartDigestTracking": "disable-chart-digest-tracking",
    "ObjectLevelWorkloadIdentity": "object-level-workload-identity",
    "AllowDNSLookups": "allow-dns-lookups",
}
"""Flux's feature gates (Flux contract 6.3), with the setting that each is."""

GATES_WITHOUT_EFFECT = {
    "CacheSecretsAndConfigMaps": "what is named is watched and kept, one by one",
    "ExternalArtifact": "an ExternalArtifact can always be used",
    "DisableStatusPollerCache": "nothing is polled",
    "DisableFailFastBehavior": "who waits ends at once where an object has failed, and goes on once it is ready",
    "GroupChangeLog": "the event log has each object",
    "CancelHealthCheckOnNewRevision": "a newer revision, or another spec, always ends a wait",
    "DirectSourceFetch": "sources are watched",
    "DisableConfigWatchers": "every ConfigMap and Secret that is named is watched",
    "MigrateAPIVersion": "managed fields keep the API version that they were written with",
    "OOMWatch": "who is killed goes on, when started again, with what was under way",
    "DetectDrift": "each HelmRelease says so itself, in Flux too",
    "CorrectDrift": "each HelmRelease says so itself, in Flux too",
    "AdoptLegacyReleases": "nor has it any in Flux",
}
"""Feature gates that are taken, so that Flux's manifests serve, and change nothing; with the reason."""

NO_EFFECT = {
    "kube_api_qps": "requests follow what the server allows",
    "kube_api_burst": "requests follow what the server allows",
    "requeue_dependency": "who waits for something is woken by it",
    "http_retry": "artifacts are read from the store",
    "http_timeout": "artifacts are read from the store",
    "storage_path": "artifacts are in the store, which --store names",
    "artifact_retention_ttl": "artifacts are kept as long as a status names them, and a minute more",
    "artifact_retention_records": "the log keeps every revision",
    "artifact_digest_algo": "digests are SHA-256, and name it",
    "snapshot_digest_algo": "digests are SHA-256, and name it; those that Flux wrote are read, but blake3",
    "concurrent_ssa": "four dry runs of a target at once",
    "watch_configs_label_selector": "every ConfigMap and Secret that is named is watched",
    "leader_election_release_on_cancel": "Leases are always released",
    "graceful_shutdown_timeout": "who ends waits for nothing: the next start goes on with what was under way",
    "oom_watch_memory_threshold": "who is killed goes on, when started again, with what was under way",
    "oom_watch_interval": "nobody watches the daemon's memory: its Pod's limits do",
    "oom_watch_max_memory_path": "nobody watches the daemon's memory: its Pod's limits do",
    "oom_watch_current_memory_path": "nobody watches the daemon's memory: its Pod's limits do",
    "default_decryption_service_account": "an object with `decryption` is refused by name",
    "sops_age_secret": "an object with `decryption` is refused by name",
    "sops_vault_configmap": "an object with `decryption` is refused by name",
    "ssh_kex_algos": "a source with an ssh address is refused by name",
    "ssh_hostkey_algos": "a source with an ssh address is refused by name",
    "helm_cache_max_size": "an index is read only where it changed",
    "helm_cache_ttl": "an index is read only where it changed",
    "helm_cache_purge_interval": "an index is read only where it changed",
}
"""Flags of Flux that are taken, so that its manifests serve, and change nothing; with the reason."""

_NOTIFICATION = "it is notification-controller's, which Tidelog leaves in its place: give it to that"
REFUSED = {
    "receiverAddr": f"{_NOTIFICATION}. Where webhooks are called here is --webhook-addr",
    "rate-limit-interval": _NOTIFICATION,
    "export-http-path-metrics": _NOTIFICATION,
}
"""Flags of Flux that cannot be had here: with what to do instead."""

ENVIRONMENT = {
    "runtime_namespace": "RUNTIME_NAMESPACE",
    "storage_addr": "STORAGE_ADDRESS",
    "storage_adv_addr": "STORAGE_ADV_ADDR",
}
"""Settings that Flux's manifests give by the environment (Flux contract FL-023): before the file, after a flag."""


LogEncoding: TypeAlias = Literal["auto", "console", "json"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Settings of the daemon."""

    cluster_name: str = "default"
    """The alias of the cluster, with which its streams begin."""
    runtime_namespace: str = "flux-system"
    """The engine's own namespace, where its Leases are."""
    watch_all_namespaces: bool = True
    """Look after all namespaces, and not the engine's own only."""
    watch_label_selector: str = ""
    """Look after objects with these labels only, as `a=b,c`; empty for all."""
    concurrent: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    """Kustomizations that run at once."""
    concurrent_sources: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    """Sources that run at once."""
    interval_jitter_percentage: Annotated[int, msgspec.Meta(ge=0, lt=100)] = 5
    """By how many percent an interval varies, up or down."""
    min_retry_delay: Duration = Duration.of_seconds(0.75)
    """Before the first try after a failure of the surroundings; doubled each time."""
    max_retry_delay: Duration = Duration.of_seconds(900)
    """The longest delay between tries."""
    storage_addr: str = ":9090"
    """HOST:PORT where artifacts are served; empty for nowhere."""
    storage_adv_addr: str = ""
    """HOST:PORT by which others reach them; empty for the address itself."""
    health_addr: str = ":9440"
    """HOST:PORT of /healthz and /readyz; empty for nowhere."""
    metrics_addr: str = ":8080"
    """HOST:PORT of /metrics; empty for nowhere."""
    events_addr: str = ""
    """URL that events are posted to, besides the cluster; empty for none."""
    door_addr: str = ""
    """HOST:PORT where requests are taken over HTTPS; empty for nowhere."""
    door_cert_file: str = ""
    """File with the certificate of that door, PEM."""
    door_key_file: str = ""
    """File with its key, PEM."""
    webhook_addr: str = ":9292"
    """HOST:PORT where webhooks are called; nowhere without a token."""
    webhook_token_file: str = ""
    """File with the token of webhooks: makes their addresses, signs their calls."""
    default_service_account: str = ""
    """Act as this ServiceAccount for a Kustomization or HelmRelease that names none; see the next setting."""
    object_level_workload_identity: bool = False
    """A source with a cloud's provider, or a ConfigMap of `spec.kubeConfig`, may name a ServiceAccount to be; a source
    that names none is the default one."""
    default_kubeconfig_service_account: str = ""
    """Reach another cluster as this ServiceAccount where the ConfigMap of `spec.kubeConfig` names none."""
    token_cache_max_size: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 100
    """Tokens of clouds that are kept at most; 0 keeps none."""
    token_cache_max_duration: Duration = Duration.of_seconds(3600)
    """For how long a token is kept at most, and never for more than 1h."""
    no_cross_namespace_refs: bool = False
    """Refuse Kustomizations and HelmReleases with a source of another namespace."""
    insecure_kubeconfig_exec: bool = False
    """Run the programs that kubeconfigs in Secrets name: as the daemon, with all that it may do."""
    insecure_kubeconfig_tls: bool = False
    """Let kubeconfigs in Secrets say that a server's certificate counts for nothing."""
    no_remote_bases: bool = False
    """Refuse kustomizations with bases outside their artifact."""
    custom_apply_stage_kinds: frozenset[str] = frozenset()
    """Kinds, `Kind` or `group/Kind`, applied before others, in a wave of their own."""
    override_manager: frozenset[str] = frozenset()
    """Field managers whose changes are taken over and undone, as kubectl's are."""
    strict_post_build_substitutions: bool = True
    """Fail a build in which a variable has no value."""
    additive_cel_dependency_check: bool = False
    """A dependency with a `readyExpr` has to be ready besides."""
    use_helm3_defaults: bool = False
    """A HelmRelease that says nothing else waits as `legacy` and post-renders without hooks, as with Helm 3."""
    default_to_retry_on_failure: bool = False
    """A HelmRelease without a `strategy` is tried again when it fails, and nothing of it is undone."""
    disable_chart_digest_tracking: bool = False
    """A chart of a registry is another only by its version, and not by its digest."""
    allow_dns_lookups: bool = False
    """Let charts look names up in the network (`getHostByName`); else they find nothing."""
    helm_index_max_size: Annotated[int, msgspec.Meta(ge=1)] = HELM_LIMITS.index_bytes
    """Bytes that the index of a HelmRepository may have."""
    helm_chart_max_size: Annotated[int, msgspec.Meta(ge=1)] = HELM_LIMITS.chart_bytes
    """Bytes that the archive of a chart may have."""
    helm_chart_file_max_size: Annotated[int, msgspec.Meta(ge=1)] = HELM_LIMITS.file_bytes
    """Bytes that a file in a chart may have."""
    enable_leader_election: bool = True
    """Hold the Leases of Flux's controllers while the daemon writes."""
    leader_election_lease_duration: Duration = Duration.of_seconds(35)
    """How long a Lease lasts."""
    leader_election_renew_deadline: Duration = Duration.of_seconds(30)
    """How long renewing one may fail."""
    leader_election_retry_period: Duration = Duration.of_seconds(5)
    """How often one is renewed, or tried for."""
    log_level: Literal["trace", "debug", "info", "error"] = "info"
    """How much is logged."""
    log_encoding: LogEncoding = "auto"
    """How lines are written: console for people, json for programs; auto is console in a terminal, and else json."""
    prune_guard: Guard = Guard()
    """Hold plans whose deletions look like an accident, until they are approved."""

    @property
    def watched_namespace(self) -> str:
        """The only namespace that is looked after; empty for all."""
        return "" if self.watch_all_namespaces else self.runtime_namespace

    @property
    def release_defaults(self) -> ReleaseDefaults:
        """What HelmReleases do that do not say it themselves."""
        return ReleaseDefaults(as_helm_3=self.use_helm3_defaults, retries=self.default_to_retry_on_failure)

    @property
    def helm_limits(self) -> HelmLimits:
        """How large indexes and charts of Helm may be."""
        return HelmLimits(
            index_bytes=self.helm_index_max_size,
            chart_bytes=self.helm_chart_max_size,
            file_bytes=self.helm_chart_file_max_size,
        )

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
    _check(Settings, found, f"{file}: ")  # so that an error says where it stands
    for name, value in flags.items():
        if value is not None:
            key = name.replace("_", "-")
            found[key] = {**found.get(key, {}), **value} if isinstance(value, dict) else value
    _check(Settings, found, "--")
    settings = converter(Settings, strict=False, dec_hook=_read)(found)
    if settings.default_kubeconfig_service_account and not settings.object_level_workload_identity:
        raise SettingsError(
            "--default-kubeconfig-service-account: a ServiceAccount's identity is used with "
            "--feature-gates=ObjectLevelWorkloadIdentity=true only: open the gate, or leave the account out"
        )
    guard = msgspec.structs.replace(settings.prune_guard, namespace=settings.runtime_namespace)
    return msgspec.structs.replace(settings, prune_guard=guard)


def _table(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file}: {error}") from None


def _check(struct: type[msgspec.Struct], found: Mapping[str, Any], where: str) -> None:
    """Looks at settings one by one, so that the name of a wrong one can be said, and what is right."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name, value in found.items():
        if name not in fields:
            raise SettingsError(f"{where}{name}: there is no such setting; `tidelog settings` lists them")
        type_ = fields[name].type
        if type_ is Guard and isinstance(value, dict):
            _check(Guard, value, f"{where}{name}.")
        else:
            read_setting(type_, value, f"{where}{name}: ")


def read_setting(type_: Any, value: object, where: str = "") -> None:
    """Looks whether a value is one of a setting of that type.

    Args:
        type_: of the field.
        value: as it was typed, or stands in a file.
        where: what the message begins with.

    Raises:
        SettingsError: when it is none; says what is.
    """
    try:
        converter(type_, strict=False, dec_hook=_read)(value)
    except (msgspec.ValidationError, MalformedDurationError):
        raise SettingsError(f"{where}{value!r} is not {form_of(type_)}") from None


def form_of(type_: Any) -> str:
    """What a setting of a type may be, in words."""
    match msgspec.inspect.type_info(type_):
        case msgspec.inspect.IntType(ge=least, le=most, lt=above):
            upper = above - 1 if above is not None else most
            span = f" from {least or 0}" + ("" if upper is None else f" to {upper}")
            return f"a whole number{span}"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.LiteralType():  # which has lost their order
            return _one_of(typing.get_args(type_))
        case msgspec.inspect.CustomType(cls=cls) if issubclass(cls, Duration):
            return f"a duration, like {cls.example()}"
        case msgspec.inspect.FrozenSetType():
            return "a list of names; on the command line with commas between them"
        case msgspec.inspect.StructType():
            return "a table"
        case _:
            return "text"


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """What `--feature-gates` comes to."""

    settings: dict[str, bool]
    """Settings that it sets, by the name of the field."""
    ignored: dict[str, str]
    """Gates that change nothing here, with the reason."""


def gates_of(text: str) -> Gates:
    """What `--feature-gates=A=true,B=false` comes to (Flux contract FL-015).

    Raises:
        SettingsError: for a gate that Flux does not have.
    """
    found, ignored = {}, {}
    for gate in filter(None, map(str.strip, text.split(","))):
        name, _, value = gate.partition("=")
        known = {*FEATURE_GATES, *GATES_WITHOUT_EFFECT}
        if name not in known:
            raise SettingsError(f"feature-gate '{name}' not supported: known are {', '.join(sorted(known))}")
        if value not in ("true", "false"):
            raise SettingsError(f"{name} is true or false, and not {value!r}")
        if name in GATES_WITHOUT_EFFECT:
            ignored[name] = GATES_WITHOUT_EFFECT[name]
        elif name in FEATURE_GATES:
            found[FEATURE_GATES[name].replace("-", "_")] = value == "true"
    return Gates(settings=found, ignored=ignored)


def as_json(settings: Settings) -> dict[str, Any]:
    """The settings as JSON has them, for the log."""
    written: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=str)
    written["custom-apply-stage-kinds"] = sorted(settings.custom_apply_stage_kinds)
    written["override-manager"] = sorted(settings.override_manager)
    return written


def settings_of(data: bytes) -> Settings:
    """The settings that `as_json` wrote, of this release or another; what this one does not know is left out."""
    known = {field.encode_name for field in msgspec.structs.fields(Settings)}
    found = {name: value for name, value in msgspec.json.decode(data).items() if name in known}
    try:
        return converter(Settings, strict=False, dec_hook=_read)(found)
    except (msgspec.ValidationError, MalformedDurationError) as error:
        raise SettingsError(f"the settings of the last daemon: {error}") from None


def _read(wanted: type[Any], value: Any) -> Any:
    if wanted is Duration:
        return Duration.parse(str(value))
    raise NotImplementedError(f"no way to read a {wanted.__name__}")
