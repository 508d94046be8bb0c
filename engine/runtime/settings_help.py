"""What each setting is, for people: read from the settings themselves."""

import difflib
from collections.abc import Iterator

import msgspec

from tidelog.engine.kinds.crds import descriptions
from tidelog.engine.runtime.errors import SettingsError
from tidelog.engine.runtime.settings import (
    ENVIRONMENT,
    FEATURE_GATES,
    GATES_WITHOUT_EFFECT,
    NO_EFFECT,
    REFUSED,
    Settings,
    as_json,
    form_of,
)
from tidelog.engine.verify.guard import Guard

SUBSECTION = "prune-guard"
_SAME = "the same flag"
FLUX = {
    "runtime_namespace": "the variable, which is the namespace of the pod",
    "watch_all_namespaces": f"{_SAME}, true",
    "watch_label_selector": _SAME,
    "concurrent": "--concurrent of kustomize-controller, 4",
    "concurrent_sources": "--concurrent of source-controller, 2",
    "interval_jitter_percentage": f"{_SAME}, 5",
    "min_retry_delay": f"{_SAME}, 750ms",
    "max_retry_delay": f"{_SAME}, 15m",
    "storage_addr": f"{_SAME} of source-controller, :9090",
    "storage_adv_addr": f"{_SAME} of source-controller",
    "health_addr": f"{_SAME}, :9440",
    "metrics_addr": f"{_SAME}, :8080",
    "events_addr": _SAME,
    "webhook_addr": "--receiverAddr of notification-controller, :9292",
    "default_service_account": f"{_SAME} of kustomize-controller",
    "object_level_workload_identity": "the feature gate ObjectLevelWorkloadIdentity, false",
    "default_kubeconfig_service_account": f"{_SAME} of kustomize-controller",
    "token_cache_max_size": f"{_SAME} of source-controller, 100",
    "token_cache_max_duration": f"{_SAME} of source-controller, 1h",
    "no_cross_namespace_refs": f"{_SAME}, false",
    "insecure_kubeconfig_exec": f"{_SAME}, false",
    "insecure_kubeconfig_tls": f"{_SAME}, false",
    "no_remote_bases": f"{_SAME} of kustomize-controller, false; always true here without Landlock",
    "custom_apply_stage_kinds": f"{_SAME} of kustomize-controller",
    "override_manager": f"{_SAME} of kustomize-controller",
    "strict_post_build_substitutions": "the feature gate StrictPostBuildSubstitutions, true",
    "additive_cel_dependency_check": "the feature gate AdditiveCELDependencyCheck, false",
    "use_helm3_defaults": "the feature gate UseHelm3Defaults, false",
    "default_to_retry_on_failure": "the feature gate DefaultToRetryOnFailure, false",
    "disable_chart_digest_tracking": "the feature gate DisableChartDigestTracking, false",
    "allow_dns_lookups": "the feature gate AllowDNSLookups, false",
    "enable_leader_election": f"{_SAME}, which Flux's manifests set",
    "leader_election_lease_duration": f"{_SAME}, 35s",
    "leader_election_renew_deadline": f"{_SAME}, 30s",
    "leader_election_retry_period": f"{_SAME}, 5s",
    "log_level": f"{_SAME}, info",
    "log_encoding": f"{_SAME}, json",
}
"""What Flux calls a setting, and has for its default (Flux contract 6.1 to 6.3), where it has it."""


class SettingTold(msgspec.Struct, frozen=True, kw_only=True):
    """A setting, explained."""

    name: str
    """The key of the file, `a.b` for `b` in the table `a`; also the flag `--name`, where it has one."""
    flag: str | None
    """None for what only the file can set."""
    variable: str | None
    """That gives it where no flag does."""
    form: str
    """What it may be."""
    default: object
    meaning: str
    flux: str | None
    """What Flux calls it, and has for its default; None where it has none such."""


def settings_told() -> tuple[SettingTold, ...]:
    """Every setting, in the order of their fields."""
    return tuple(_settings())


def _settings() -> Iterator[SettingTold]:
    meanings, defaults = descriptions(Settings), as_json(Settings())
    for field in msgspec.structs.fields(Settings):
        name = field.encode_name
        if field.type is Guard:
            yield from _guard(meanings[field.name])
            continue
        yield SettingTold(
            name=name,
            flag=f"--{name}",
            variable=ENVIRONMENT.get(field.name),
            form=form_of(field.type),
            default=defaults[name],
            meaning=meanings[field.name],
            flux=FLUX.get(field.name),
        )


def _guard(meaning: str) -> Iterator[SettingTold]:
    meanings = descriptions(Guard) | {"enabled": meaning}
    for field in msgspec.structs.fields(Guard):
        if field.name == "namespace":
            continue  # it is the runtime-namespace, whatever a file says
        yield SettingTold(
            name=f"{SUBSECTION}.{field.encode_name}",
            flag=f"--{SUBSECTION} / --no-{SUBSECTION}" if field.name == "enabled" else None,
            variable=None,
            form=form_of(field.type),
            default=field.default,
            meaning=meanings[field.name],
            flux=None,
        )


def setting_told(name: str) -> SettingTold:
    """The setting of a name: with or without dashes before it, with underscores or dashes in it.

    Raises:
        SettingsError: when there is none; says what the name is, or which are like it.
    """
    wanted = name.lstrip("-").replace("_", "-")
    found = {one.name: one for one in settings_told()}
    if wanted == SUBSECTION:
        wanted = f"{SUBSECTION}.enabled"
    if wanted in found:
        return found[wanted]
    ignored = NO_EFFECT.get(wanted.replace("-", "_"))
    if ignored is not None:
        raise SettingsError(f"{wanted} is a flag of Flux that is taken and has no effect: {ignored}")
    refusal = REFUSED.get(name.lstrip("-"))
    if refusal is not None:
        raise SettingsError(f"{name.lstrip('-')} is a flag of Flux that is refused: {refusal}")
    if name in FEATURE_GATES:
        return found[FEATURE_GATES[name]]
    if name in GATES_WITHOUT_EFFECT:
        raise SettingsError(
            f"{name} is a feature gate of Flux that is taken and has no effect: {GATES_WITHOUT_EFFECT[name]}"
        )
    like = difflib.get_close_matches(wanted, found)
    hint = f": do you mean {' or '.join(like)}?" if like else "; `tidelog settings` lists them all"
    raise SettingsError(f"there is no setting {name!r}{hint}")
