"""The hooks of a release: which run at an event and in what order, what they make, and when that is deleted."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from tidelog.engine.helm.manifests import objects_in
from tidelog.engine.helm.spec import Hook
from tidelog.engine.helm.storage import HookRun, RecordedHook, Release
from tidelog.engine.objects.kube import KubeObject

Event: TypeAlias = Literal[
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
Making: TypeAlias = Literal["install", "upgrade", "rollback"]
"""Actions that make a version."""
DeletePolicy: TypeAlias = Literal["before-hook-creation", "hook-succeeded", "hook-failed"]

AROUND: Final[Mapping[Making, tuple[Event, Event]]] = {
    "install": ("pre-install", "post-install"),
    "upgrade": ("pre-upgrade", "post-upgrade"),
    "rollback": ("pre-rollback", "post-rollback"),
}
"""The events of the hooks that run before and after a version is made."""
DEFAULT_POLICIES: Final = ("before-hook-creation",)
CRD: Final = "CustomResourceDefinition"


def recorded(hook: Hook) -> RecordedHook:
    """A hook as a record has it that was never run."""
    return RecordedHook(
        name=hook.name,
        kind=hook.kind,
        path=hook.path,
        manifest=hook.text,
        events=list(hook.events) or None,
        weight=hook.weight,
        delete_policies=list(hook.delete_policies) or None,
        output_log_policies=list(hook.output_log_policies) or None,
    )


def hooks_for(release: Release, event: Event) -> list[RecordedHook]:
    """The hooks that run at an event, first to last: by weight, then by name; of one name, by kind.

    A record has its hooks in the order of their kinds. One that names the event twice runs twice, as in Helm.
    """
    found = [hook for hook in release.hooks or () for named in hook.events or () if named == event]
    return sorted(found, key=lambda hook: (hook.weight, hook.name.encode()))


def hook_objects(hook: RecordedHook) -> list[KubeObject]:
    """What a hook makes: one object, or the items of a list.

    Raises:
        RecordError: when it cannot be read.
    """
    return objects_in(hook.manifest, f"the hook {hook.name} of {hook.path}")


def deletes(hook: RecordedHook, policy: DeletePolicy) -> bool:
    """Whether what a hook made is deleted then; of one that says nothing, before it is made again. CRDs never are."""
    return hook.kind != CRD and policy in (hook.delete_policies or DEFAULT_POLICIES)


def with_hook_run(release: Release, hook: RecordedHook, run: HookRun) -> Release:
    """The release with what is known of a run of one of its hooks.

    From then on the hook names the policy that it had by default, as Helm records it.

    Args:
        release: the one to record.
        hook: of the same release, as it was at any time.
        run: how the hook fares.
    """
    hooks = [_ran(found, run) if _key(found) == _key(hook) else found for found in release.hooks or ()]
    if not any(_key(found) == _key(hook) for found in hooks):
        raise ValueError(f"release {release.namespace}/{release.name} has no hook {hook.name} of {hook.path}")
    return msgspec.structs.replace(release, hooks=hooks)


def _ran(hook: RecordedHook, run: HookRun) -> RecordedHook:
    policies = hook.delete_policies or list(DEFAULT_POLICIES)
    return msgspec.structs.replace(hook, last_run=run, delete_policies=policies)


def _key(hook: RecordedHook) -> tuple[str, str, str, str]:
    return hook.path, hook.kind, hook.name, hook.manifest
