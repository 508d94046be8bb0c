"""What the records of an action say: the states of a release, in Helm's words (contract 4.5, 4.6).

Each gives a new release and changes none. A state says what Helm 4 writes at that point, field by field, so that the
`helm` command goes on from a record of ours as from its own, and Flux finds the digest that it would have made.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from tidelog.engine.helm.hooks import recorded
from tidelog.engine.helm.manifests import objects_in
from tidelog.engine.helm.spec import RenderedChart, manifest_text
from tidelog.engine.helm.storage import Info, Record, RecordedChart, Release, snapshot_digest
from tidelog.engine.objects.kube import KubeObject
from tidelog.events.digest import Digest
from tidelog.events.typed import decoder
from tidelog.events.vocabulary import ReleaseActionStarted, ReleaseSnapshot

Action: TypeAlias = Literal["install", "upgrade"]
ApplyMethod: TypeAlias = Literal["ssa", "csa"]

DEPLOYED: Final = "deployed"
FAILED: Final = "failed"
SUPERSEDED: Final = "superseded"
UNINSTALLING: Final = "uninstalling"
UNINSTALLED: Final = "uninstalled"
PENDING_INSTALL: Final = "pending-install"
PENDING_UPGRADE: Final = "pending-upgrade"
PENDING_ROLLBACK: Final = "pending-rollback"
PENDING: Final = (PENDING_INSTALL, PENDING_UPGRADE, PENDING_ROLLBACK)
_begun: Final = {
    "install": (PENDING_INSTALL, "Initial install underway"),
    "upgrade": (PENDING_UPGRADE, "Preparing upgrade"),
}
_done: Final = {PENDING_INSTALL: "Install complete", PENDING_UPGRADE: "Upgrade complete"}


def pending(
    rendered: RenderedChart,
    *,
    name: str,
    namespace: str,
    version: int,
    values: Mapping[str, Any],
    action: Action,
    previous: Release | None,
    time: str,
    apply_method: ApplyMethod = "ssa",
) -> Release:
    """A release that is about to be installed, or upgraded.

    Args:
        rendered: the chart, rendered `with_record`.
        name: of the release.
        namespace: of the release.
        version: its revision: one more than the newest has.
        values: the user's.
        action: which of both it is.
        previous: what an upgrade begins from (`upgrade_base`); an install looks at none, one that replaces neither.
        time: now, RFC 3339.
        apply_method: `csa` where an upgrade stays with client-side apply.
    """
    if not rendered.record:
        raise ValueError("a chart that was rendered without its record cannot be recorded")
    if action == "upgrade" and previous is None:
        raise ValueError(f"an upgrade of {namespace}/{name} begins from a release, and none was given")
    status, description = _begun[action]
    first = previous.info.first_deployed if action == "upgrade" and previous else time
    return Release(
        name=name,
        info=Info(first, time, None, description, status, rendered.notes),
        chart=decoder(RecordedChart)(rendered.record),
        config=dict(values) or None,
        manifest=manifest_text(rendered),
        hooks=[recorded(hook) for hook in rendered.hooks] or None,
        version=version,
        namespace=namespace,
        apply_method=apply_method,
    )


def pending_again(past: Release, *, version: int, action: Action, previous: Release | None, time: str) -> Release:
    """A release that is about to be what a past version was, by an install or an upgrade.

    Args:
        past: its record; its hooks have not run.
        version: of the new one.
        action: which of both it is.
        previous: what an upgrade begins from.
        time: now, RFC 3339.
    """
    status, description = _begun[action]
    first = previous.info.first_deployed if action == "upgrade" and previous else time
    info = Info(first, time, None, description, status, past.info.notes)
    return msgspec.structs.replace(past, info=info, version=version)


def rollback_to(
    target: Release, *, current: Release, version: int, time: str, apply_method: ApplyMethod | None = None
) -> Release:
    """A release that is about to be what `target` was. Its hooks say when they ran in `target`, as in Helm.

    Args:
        target: what is gone back to.
        current: the newest.
        version: of the new one: one more than `current` has.
        time: now, RFC 3339.
        apply_method: where it is not to be that of `target`.
    """
    return msgspec.structs.replace(
        target,
        info=Info(
            current.info.first_deployed,
            time,
            None,
            f"Rollback to {target.version}",
            PENDING_ROLLBACK,
            target.info.notes,
        ),
        version=version,
        namespace=current.namespace,
        apply_method=apply_method or target.apply_method or "csa",
    )


def deployed(release: Release) -> Release:
    """A pending release whose action is through. Its times stay: Helm notes when it began."""
    if release.info.status not in PENDING:
        raise ValueError(f"release {full_name(release)} is {release.info.status}, and not about to be deployed")
    return _with(release, DEPLOYED, _done.get(release.info.status, release.info.description))


def failed(release: Release, description: str) -> Release:
    """A release whose action failed; `failure_description` has Helm's words for why."""
    return _with(release, FAILED, description)


def failure_description(release: Release, error: str, *, while_waiting: bool = False) -> str:
    """Why the action of a pending release failed, in Helm's words.

    Args:
        release: before it is marked as failed.
        error: what went wrong.
        while_waiting: whether a rollback had sent all objects, and waited for them.
    """
    named = f'"{release.name}" failed: {error}'
    if release.info.status == PENDING_UPGRADE:
        return f"Upgrade {named}"
    rolls_back = release.info.status == PENDING_ROLLBACK and not while_waiting
    return f"Rollback {named}" if rolls_back else f"Release {named}"


def superseded(release: Release) -> Release:
    """A release in whose place another is deployed: the base of an upgrade, and after a rollback all deployed ones."""
    return _with(release, SUPERSEDED, release.info.description)


def replaced(release: Release) -> Release:
    """The newest release, before an install in its place (`install.replace`); one that failed stays failed."""
    return release if release.info.status == FAILED else _with(release, SUPERSEDED, "superseded by new release")


def uninstalling(release: Release, time: str) -> Release:
    """A release whose objects are about to be deleted."""
    found = _with(release, UNINSTALLING, "Deletion in progress (or silently failed)")
    return msgspec.structs.replace(found, info=msgspec.structs.replace(found.info, deleted=time))


def uninstalled(release: Release) -> Release:
    """A release whose objects are deleted; it is kept where history is."""
    return _with(release, UNINSTALLED, "Uninstallation complete")


def unlocked(release: Release) -> Release:
    """A release that was left pending, as failed (contract HR-084); any other stays as it is."""
    status = release.info.status
    return _with(release, FAILED, f"Release unlocked from stale '{status}' state") if status in PENDING else release


def upgrade_base(history: Sequence[Record]) -> Record | None:
    """What an upgrade begins from: the newest release that is deployed, or else the newest that failed meanwhile.

    None where Helm says that there are no deployed releases: the newest is uninstalled, say.

    Args:
        history: newest first.
    """
    found = next((record for record in history if record.release.info.status == DEPLOYED), None)
    newest = next(iter(history), None)
    if found is None and newest is not None and newest.release.info.status in {FAILED, SUPERSEDED}:
        return newest
    return found


def objects_of(release: Release) -> list[KubeObject]:
    """The objects of a release, in the order of its manifest; hooks are none of them.

    Raises:
        RecordError: when the manifest cannot be read.
    """
    return objects_in(release.manifest, f"the manifest of release {full_name(release)}")


def digest_beside(release: Release, snapshot: ReleaseSnapshot | None) -> Digest:
    """The digest of a release, to be held against that of a version as the log knows it; None where it knows none."""
    return (
        snapshot_digest(release) if snapshot is None else snapshot_digest(release, snapshot.oci_digest, snapshot.digest)
    )


def full_name(release: Release | ReleaseSnapshot | ReleaseActionStarted) -> str:
    """What a version of a release is called in messages: `space/box.v3` (contract HR-120)."""
    return f"{release.namespace}/{release.name}.v{release.version}"


def _with(release: Release, status: str, description: str) -> Release:
    info = msgspec.structs.replace(release.info, status=status, description=description)
    return msgspec.structs.replace(release, info=info)
