"""How the daemon is to work: one TOML file, and flags that go before it.

Names and defaults are Flux's where Flux has them.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tidelog.engine.verify.guard import Guard

CONTROLLERS = ("source-controller", "kustomize-controller")


class SettingsError(ValueError):
    """Raised when settings make no sense; names the file and the setting."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Settings of the daemon. A field `a_b` is the flag `--a-b` and the key `a-b` of the file."""

    cluster_name: str = "default"
    """The alias of the cluster, with which its streams begin."""
    runtime_namespace: str = "flux-system"
    """The engine's own namespace, where its Leases are."""
    watch_all_namespaces: bool = True
    watch_label_selector: str = ""
    concurrent: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    """Kustomizations that run at once."""
    concurrent_sources: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10
    """Sources that run at once."""
    concurrent_builds: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    """Builds at once; 0 for as many as there are processors."""
    interval_jitter_percentage: Annotated[int, msgspec.Meta(ge=0, lt=100)] = 5
    min_retry_delay_s: float = 0.75
    max_retry_delay_s: float = 900.0
    storage_addr: str = ":9090"
    """Where artifacts are served; empty for not at all."""
    storage_adv_addr: str = ""
    """How others reach it; the address itself where it is empty."""
    health_addr: str = ":9440"
    metrics_addr: str = ":8080"
    events_addr: str = ""
    """Where events are posted to, besides the cluster."""
    default_service_account: str = ""
    no_cross_namespace_refs: bool = False
    no_remote_bases: bool = False
    custom_apply_stage_kinds: frozenset[str] = frozenset()
    strict_substitutions: bool = True
    """Flux's feature gate StrictPostBuildSubstitutions."""
    leader_election: bool = True
    """Whether the Leases of Flux's controllers are held while the daemon writes."""
    leader_election_lease_duration_s: float = 35.0
    leader_election_renew_deadline_s: float = 30.0
    leader_election_retry_period_s: float = 5.0
    log_level: str = "info"
    log_encoding: str = "json"
    guard: Guard = Guard()

    @property
    def jitter(self) -> float:
        """The share of an interval by which it varies."""
        return self.interval_jitter_percentage / 100


def load_settings(file: Path | None, flags: dict[str, Any]) -> Settings:
    """The settings of a file (none: the defaults), with those of the command line on top.

    Raises:
        SettingsError: when the file cannot be read, or a setting is unknown or makes no sense.
    """
    found: dict[str, Any] = {}
    if file is not None:
        try:
            found = tomllib.loads(file.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{file}: {error}") from None
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = msgspec.convert(found | given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{file or 'the command line'}: {error}") from None
    guard = msgspec.structs.replace(settings.guard, namespace=settings.runtime_namespace)
    return msgspec.structs.replace(settings, guard=guard)
