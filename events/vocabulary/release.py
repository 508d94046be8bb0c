"""What is done with Helm releases; each stands in the stream of its HelmRelease.

An action begins and ends with an event of its own. What it writes to the cluster between the two is told by the events
of a plan, as for every target; hooks and Helm's release records are told here.
"""

from typing import Literal, TypeAlias

import msgspec

from tidelog.events.bodies import BodyRef
from tidelog.events.digest import Digest
from tidelog.events.moment import Time
from tidelog.events.names import ObjectId
from tidelog.events.vocabulary.base import Event, event

Action: TypeAlias = Literal["install", "upgrade", "test", "rollback", "uninstall", "uninstall-remediation", "unlock"]
"""As Flux's `status.history` names them; a test and an unlock are not told there."""


class ReleaseTest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a test of a release last ended."""

    name: str
    phase: str = ""
    started: str = ""
    completed: str = ""


class ReleaseSnapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One version of a release, as `status.history` tells it (Flux contract HR-123)."""

    name: str
    namespace: str
    version: int
    status: str
    """Helm's: `deployed`, `superseded`, `failed`, `uninstalled`, `pending-install` and their like."""
    digest: str
    """Of Helm's record (Flux contract HR-125)."""
    chart_name: str
    chart_version: str
    app_version: str = ""
    config_digest: str = ""
    """Of the values, plain, as Flux has it in the status."""
    first_deployed: str = ""
    last_deployed: str = ""
    deleted: str = ""
    action: str = ""
    oci_digest: str = ""
    api_version: str = ""
    tests: tuple[ReleaseTest, ...] = ()
    tested: bool = False
    """Whether its tests were run; it may have none."""


@event("ReleaseAdopted")
class ReleaseAdopted(Event, frozen=True, kw_only=True):
    """What the status of a HelmRelease says that another engine has looked after."""

    history: tuple[ReleaseSnapshot, ...] = ()
    storage_namespace: str = ""
    failures: int = 0
    install_failures: int = 0
    upgrade_failures: int = 0
    last_action: str = ""
    attempted_generation: int = 0
    attempted_version: str = ""
    attempted_config: str = ""
    observed_generation: int = 0
    post_renderers: str = ""
    common_metadata: str = ""
    handled_force: str = ""
    handled_reset: str = ""
    helm_chart: ObjectId | None = None
    """The HelmChart that it made of the template."""


@event("HelmChartSynced")
class HelmChartSynced(Event, frozen=True, kw_only=True):
    """The HelmChart of a HelmRelease's template was made, changed or deleted."""

    object: ObjectId
    outcome: Literal["created", "configured", "deleted", "absent"]


@event("ReleaseActionStarted")
class ReleaseActionStarted(Event, frozen=True, kw_only=True):
    """The intent to act on a release, durable before its first side effect."""

    action: Action
    name: str
    namespace: str
    storage_namespace: str
    version: int
    """Of the release that it makes, or acts on."""
    chart_name: str
    chart_version: str
    config_digest: str = ""
    oci_digest: str = ""
    generation: int = 0
    reset: bool = False
    """Whether failures of before do not count: another chart, other values, another spec, other versions of what it
    depends on, or somebody asked for it."""
    force_token: str = ""
    """The value of `reconcile.fluxcd.io/forceAt` that it answers."""
    reset_token: str = ""
    """The value of `reconcile.fluxcd.io/resetAt` that it answers."""
    post_renderers: str = ""
    common_metadata: str = ""
    """Digests of these fields of the spec (Flux contract HR-129)."""
    dependencies: str = ""
    """Digest of the versions that the releases were at which it depends on; empty where it depends on none."""
    record: BodyRef | None = None
    """Helm's record of the release that it makes, gzipped and sealed: chart, values, manifest and hooks."""
    set: Digest | None = None
    """The rendered set that it brings the cluster to."""
    target: int = 0
    """Of a rollback: the version that it goes back to."""
    base: int = 0
    """Of an upgrade: the version in whose place it is."""
    remediates: bool = False
    """Whether it puts right an action that failed."""
    origin: int = 0
    """Of a version that is what was deployed at a past moment: position of the action that made that first."""
    secret: BodyRef | None = None
    """Texts of the version that are secret, and that its values do not tell: a list, sealed; where there are some."""


@event("HookStarted")
class HookStarted(Event, frozen=True, kw_only=True):
    """The intent to run a hook of a release, durable before it is made."""

    action: Action
    version: int
    hook: Literal[
        "pre-install",
        "post-install",
        "pre-upgrade",
        "post-upgrade",
        "pre-rollback",
        "post-rollback",
        "pre-delete",
        "post-delete",
        "test",
    ]
    """The event of the release that runs it."""
    object: ObjectId
    path: str
    """Of its template."""
    replaces: str = ""
    """The uid of an object of this name that is there from before, and is deleted first."""


@event("HookEnded")
class HookEnded(Event, frozen=True, kw_only=True):
    """A hook ended well or failed."""

    action: Action
    version: int
    hook: str
    object: ObjectId
    path: str
    outcome: Literal["succeeded", "failed"]
    started: Time
    message: str = ""


@event("ReleaseActionEnded")
class ReleaseActionEnded(Event, frozen=True, kw_only=True):
    """An action on a release is over."""

    action: Action
    name: str
    namespace: str
    version: int
    outcome: Literal["succeeded", "failed", "superseded"]
    reason: str
    """`InstallSucceeded`, `UpgradeFailed` and their like (Flux contract HR-119)."""
    message: str
    counts: bool = False
    """Of a failure: whether it is one of the attempts that may be made (HR-100, HR-101)."""
    unready: bool = False
    """Of a failure: whether its objects were all there, and did not become ready."""
    clears_failures: bool = False
    """Whether the failures of before count no more: where it is tried again until it succeeds, and it did (HR-102)."""
    snapshots: tuple[ReleaseSnapshot, ...] = ()
    """The versions whose records it left other than before, the newest first."""
    remediates: bool = False
    generation: int = 0


@event("ReleaseHistoryCleared")
class ReleaseHistoryCleared(Event, frozen=True, kw_only=True):
    """What was known of a release's versions holds no more: somebody else changed it, or it is another one."""

    why: str
    failures_too: bool = False


@event("ReleaseDriftChanged")
class ReleaseDriftChanged(Event, frozen=True, kw_only=True):
    """Objects of a release differ from its manifest, or do so no more, where that is looked for (Flux: `Drifted`)."""

    drifted: bool
    message: str
    corrected: bool = False
