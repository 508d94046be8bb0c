"""What a HelmRelease says about its actions: install, upgrade, test, rollback, uninstall (contract 4.3)."""

from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec

from tidelog.engine.kinds.durations import Duration, Interval
from tidelog.engine.kinds.meta import KubeStruct, PlainInt, Rule
from tidelog.engine.objects.kube import KubeObject

RETRY_INTERVAL = Duration.of_seconds(300)
"""Of RetryOnFailure (contract HR-029)."""

ReleasingName: TypeAlias = Literal["install", "upgrade"]
"""Actions that make a release."""
ActionName: TypeAlias = Literal["install", "upgrade", "test", "rollback", "uninstall"]
StrategyName: TypeAlias = Literal["RemediateOnFailure", "RetryOnFailure"]
RemediationName: TypeAlias = Literal["rollback", "uninstall"]
CrdsPolicy: TypeAlias = Literal["Skip", "Create", "CreateReplace"]
ServerSideApply: TypeAlias = Literal["enabled", "disabled", "auto"]
ChartNameChange: TypeAlias = Literal["InPlaceUpdate", "Reinstall"]
Propagation: TypeAlias = Literal["background", "foreground", "orphan"]


class FailureStrategy(KubeStruct, frozen=True, kw_only=True):
    """What is done when an action fails."""

    name: StrategyName
    """RemediateOnFailure: as remediation says. RetryOnFailure: it is tried again, and nothing is undone."""
    retry_interval: Interval | None = None
    """How long RetryOnFailure waits before it tries again; 5m where it is not given."""

    @property
    def effective_retry_interval(self) -> Duration:
        """How long RetryOnFailure waits (contract HR-029)."""
        return RETRY_INTERVAL if self.retry_interval is None else self.retry_interval


def _waits_only_to_retry(strategy: KubeObject) -> bool:
    return "retryInterval" not in strategy or strategy.get("name") == "RetryOnFailure"


class InstallStrategy(FailureStrategy, frozen=True, kw_only=True):
    """What is done when an install fails."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.retryInterval) || self.name != 'RemediateOnFailure'",
            ".retryInterval cannot be set when .name is 'RemediateOnFailure'",
            _waits_only_to_retry,
        ),
    )


class UpgradeStrategy(FailureStrategy, frozen=True, kw_only=True):
    """What is done when an upgrade fails."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.retryInterval) || self.name == 'RetryOnFailure'",
            ".retryInterval can only be set when .name is 'RetryOnFailure'",
            _waits_only_to_retry,
        ),
    )


class Remediation(KubeStruct, frozen=True, kw_only=True):
    """How a failed action is undone, and how often it is tried again."""

    retries: PlainInt = 0
    """How often a failed action is undone and tried again; below zero without an end."""
    ignore_test_failures: bool | None = None
    """Whether failed tests leave the release as it is; as test.ignoreFailures says where it is not given."""


class InstallRemediation(Remediation, frozen=True, kw_only=True):
    """How a failed install is undone, which is by an uninstall, and how often it is tried again."""

    remediate_last_failure: bool | None = None
    """Whether the last failure is undone too, when no retry is left; it is not where this is not given."""

    @property
    def remediates_last_failure(self) -> bool:
        """Whether the last failure is undone too (contract HR-031)."""
        return bool(self.remediate_last_failure)

    @property
    def effective_strategy(self) -> RemediationName:
        """How an install is undone (contract HR-030)."""
        return "uninstall"


class UpgradeRemediation(Remediation, frozen=True, kw_only=True):
    """How a failed upgrade is undone, and how often it is tried again."""

    remediate_last_failure: bool | None = None
    """Whether the last failure is undone too, when no retry is left; where it is not given, it is if retries is above
    zero."""
    strategy: RemediationName | None = None
    """How the upgrade is undone: rollback (the default) to the release before, or uninstall and then install."""

    @property
    def remediates_last_failure(self) -> bool:
        """Whether the last failure is undone too (contract HR-033)."""
        return self.retries > 0 if self.remediate_last_failure is None else self.remediate_last_failure

    @property
    def effective_strategy(self) -> RemediationName:
        """How an upgrade is undone (contract HR-032)."""
        return self.strategy or "rollback"


class Action(KubeStruct, frozen=True, kw_only=True):
    """What each action has."""

    timeout: Interval | None = None
    """Limit of one operation of the action, a hook's Job for example; spec.timeout where it is not given."""


class WaitingAction(Action, frozen=True, kw_only=True):
    """What each action has that changes objects."""

    disable_wait: bool = False
    """Whether the action ends without waiting for its objects."""
    disable_hooks: bool = False
    """Whether the chart's hooks for the action are left out."""

    @property
    def waits(self) -> bool:
        """Whether the action ends when its objects are ready, or gone (contract HR-039, HR-047, HR-051)."""
        return not self.disable_wait

    @property
    def runs_hooks(self) -> bool:
        """Whether the chart's hooks are run (contract HR-039, HR-047, HR-051)."""
        return not self.disable_hooks


class ApplyingAction(WaitingAction, frozen=True, kw_only=True):
    """What each action has that applies objects."""

    disable_wait_for_jobs: bool = False
    """Whether Jobs among the objects are not waited for."""

    @property
    def waits_for_jobs(self) -> bool:
        """Whether Jobs have to be complete too (contract HR-039, HR-047)."""
        return self.waits and not self.disable_wait_for_jobs


class ReleasingAction(ApplyingAction, frozen=True, kw_only=True):
    """What install and upgrade have in common."""

    strategy: FailureStrategy | None = None
    """What is done when the action fails; RemediateOnFailure where it is not given."""
    disable_take_ownership: bool = False
    """Whether objects that are there, and not of this release, make the action fail, instead of becoming its own."""
    disable_open_api_validation: bool = msgspec.field(default=False, name="disableOpenAPIValidation")
    """Whether the objects are not checked against the schemas of the cluster's API."""
    disable_schema_validation: bool = False
    """Whether the values are not checked against the chart's own schema."""
    crds: CrdsPolicy | None = None
    """What is done with the chart's directory crds. Skip: nothing; Create, the default: those are made that are not
    there; CreateReplace: those that are there are updated too. None is ever deleted."""

    @property
    def effective_strategy(self) -> StrategyName:
        """What is done when the action fails (contract HR-029)."""
        return "RemediateOnFailure" if self.strategy is None else self.strategy.name

    @property
    def retries_after(self) -> Duration | None:
        """How long after a failure RetryOnFailure tries again; None where a failure is remediated (contract HR-029)."""
        if self.strategy is None or self.strategy.name != "RetryOnFailure":
            return None
        return self.strategy.effective_retry_interval

    @property
    def effective_crds(self) -> CrdsPolicy:
        """What is done with the chart's directory crds (contract HR-038)."""
        return self.crds or "Create"

    @property
    def takes_ownership(self) -> bool:
        """Whether objects that are there become the release's own (contract HR-040)."""
        return not self.disable_take_ownership

    @property
    def checks_schema(self) -> bool:
        """Whether the values are checked against the chart's schema (contract HR-039)."""
        return not self.disable_schema_validation


class Install(ReleasingAction, frozen=True, kw_only=True):
    """How the chart is installed."""

    strategy: InstallStrategy | None = None
    """What is done when the install fails; RemediateOnFailure where it is not given."""
    remediation: InstallRemediation | None = None
    """How a failed install is undone; it is not where this is not given."""
    create_namespace: bool = False
    """Whether spec.targetNamespace is made where it is not there; it is never deleted."""
    replace: bool = False
    """Whether the name of a release may be used again that was uninstalled and whose history was kept."""
    skip_crds: bool = msgspec.field(default=False, name="skipCRDs")
    """Deprecated, and without effect: crds says it."""
    server_side_apply: bool | None = None
    """Whether objects are applied on the server's side; they are where it is not given."""

    @property
    def effective_remediation(self) -> InstallRemediation:
        """How a failed install is undone (contract HR-030)."""
        return self.remediation or InstallRemediation()


class Upgrade(ReleasingAction, frozen=True, kw_only=True):
    """How the release is upgraded."""

    strategy: UpgradeStrategy | None = None
    """What is done when the upgrade fails; RemediateOnFailure where it is not given."""
    remediation: UpgradeRemediation | None = None
    """How a failed upgrade is undone; it is not where this is not given."""
    force: bool = False
    """Whether objects are replaced instead of patched; not used with server-side apply."""
    preserve_values: bool = False
    """Whether the values of the release before are kept below the new ones."""
    cleanup_on_fail: bool = False
    """Whether objects that a failed upgrade made are deleted."""
    server_side_apply: ServerSideApply | None = None
    """Whether objects are applied on the server's side: enabled, disabled, or auto (the default), as for the release
    before."""
    chart_name_change_strategy: ChartNameChange | None = None
    """What a chart of another name does. Reinstall, the default: the old release is uninstalled first; InPlaceUpdate:
    it is upgraded."""

    @property
    def effective_remediation(self) -> UpgradeRemediation:
        """How a failed upgrade is undone (contract HR-032)."""
        return self.remediation or UpgradeRemediation()

    @property
    def effective_chart_name_change(self) -> ChartNameChange:
        """What a chart of another name does (contract HR-046)."""
        return self.chart_name_change_strategy or "Reinstall"


class HookFilter(KubeStruct, frozen=True, kw_only=True):
    """Chooses hooks that test."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    """Name of the hook."""
    exclude: bool = False
    """Whether the hook is left out, instead of run."""


class ReleaseTest(Action, frozen=True, kw_only=True):
    """How a release is tested, after an install or an upgrade."""

    enable: bool = False
    """Whether the chart's tests are run."""
    ignore_failures: bool = False
    """Whether the release counts as good when its tests fail; an action's remediation can say otherwise."""
    filters: tuple[HookFilter, ...] = ()
    """Tests that are run, or left out; all are run where it is not given."""

    def runs(self, name: str) -> bool:
        """Whether the test of a name is run (contract HR-052)."""
        included = {one.name for one in self.filters if not one.exclude}
        excluded = {one.name for one in self.filters if one.exclude}
        return name not in excluded and (not included or name in included)


class Rollback(ApplyingAction, frozen=True, kw_only=True):
    """How the release before is brought back."""

    recreate: bool = False
    """Without effect."""
    force: bool = False
    """Whether objects are replaced instead of patched; not used with server-side apply."""
    cleanup_on_fail: bool = False
    """Whether objects that a failed rollback made are deleted."""
    server_side_apply: ServerSideApply | None = None
    """Whether objects are applied on the server's side: enabled, disabled, or auto (the default), as for the release
    that is brought back."""


class Uninstall(WaitingAction, frozen=True, kw_only=True):
    """How the release is uninstalled."""

    keep_history: bool = False
    """Whether the records of the release are kept, with the last one marked as uninstalled."""
    deletion_propagation: Annotated[Propagation, msgspec.Meta(extra_json_schema={"default": "background"})] = (
        "background"
    )
    """What becomes of what the objects own: deleted after them (background) or before them (foreground), or left
    (orphan)."""


AnyAction: TypeAlias = Install | Upgrade | ReleaseTest | Rollback | Uninstall
