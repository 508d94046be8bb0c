"""Making a plan: what differs is found by digests, and of what differs the server is asked once.

An object is unchanged if it is rendered as it was last applied, and the fields that our manager owns are as the
server last answered. Everything else is dry-run: the answer is the plan's after-state, and the verdict on it.
Only the first wave that writes can be asked about; the others are asked when the one before is established.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

import anyio
import msgspec

from tidelog.engine.cluster.errors import (
    BadRequestError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnknownKindError,
    failure_of,
)
from tidelog.engine.cluster.port import Applied, Cluster, Identity, Kind, Propagation
from tidelog.engine.helm.marks import belongs_to, is_kept
from tidelog.engine.kinds.meta import FORCE, OWNER_NAME, OWNER_NAMESPACE, PRUNE, RECONCILE, SSA
from tidelog.engine.objects.diff import differences
from tidelog.engine.objects.kube import KubeObject, canonical_bytes, flagged
from tidelog.engine.objects.managed_fields import entries_of, take_over_patch
from tidelog.engine.objects.order import prune_order, waves
from tidelog.engine.objects.state import state_of
from tidelog.engine.plan.model import CHANGES_MAX, Action, Change, Plan, Step, Wanted, is_secret
from tidelog.engine.tasks import one_error
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import ObjectId, ObjectKey, PlanId, Revision, RunId, StreamName
from tidelog.events.projections import Actual, Entry, Terms
from tidelog.events.vocabulary import Verdict

DRY_RUN = "dry-run"
"""The check that is made with the plan."""
DRY_RUNS_MAX = 4
"""Dry runs of one target at once (Flux: `--concurrent-ssa`)."""
_NAME_PART: Final = 20
_immutable: Final = re.compile(r"is immutable|immutable field|(?:may not|cannot)(?: be)? change|Forbidden: updates to ")
"""In the words of the server, of rules in definitions, and of webhooks."""


class DigestOf(Protocol):
    """The digest of some bytes of an object; keyed where they are secret."""

    def __call__(self, id: ObjectId, data: bytes, *, secret: bool) -> Digest:
        """The digest."""
        ...


class HelmName(msgspec.Struct, frozen=True):
    """What Helm calls a release."""

    name: str
    namespace: str


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The target that a plan is for, as far as planning needs to know it."""

    stream: StreamName
    namespace: str
    name: str
    manager: str
    """The field manager."""
    identity: Identity | None = None
    """Who the server is to take us for."""
    force: bool = False
    prune: bool = True
    deleting: bool = False
    """Whether it is being deleted, and lets go of all that it does not delete."""
    custom_kinds: frozenset[str] = frozenset()
    """`Kind`, or `group/Kind`, of what has a wave of its own (Flux: `--custom-apply-stage-kinds`)."""
    overridden: tuple[str, ...] = ()
    """Field managers whose fields are taken over (Flux: `--override-manager`)."""
    release: HelmName | None = None
    """Of a HelmRelease: then Helm's marks on objects count, and not those of a Kustomization."""
    propagation: Propagation = "Background"
    """What becomes of what deleted objects own."""

    @property
    def terms(self) -> Terms:
        """By what it is applied, beside what is rendered."""
        return Terms("" if self.identity is None else self.identity.user, self.overridden)


class Knowledge(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the cluster without asking it."""

    inventory: Mapping[ObjectId, Entry]
    """What the target applied, and has not pruned."""
    found: Mapping[ObjectId, str]
    """What the target's status says beyond that, with the API version: applied by the engine before us."""
    actual: Callable[[ObjectId], Actual | None]
    seen: Callable[[ObjectId, str], Awaitable[KubeObject | None]]
    """The state of an object at a resource version, where a watch or our own write has told it."""
    digest_of: DigestOf
    is_done: Callable[[Wanted], bool] = lambda _: False
    """Whether an object is a Job that did what it is wanted for, and was taken away."""
    same_terms: bool = True
    """Whether what the target applied was verified by the terms by which it is applied now: else all is asked about."""
    left: Mapping[ObjectId, str] = MappingProxyType({})
    """What the target does not want any more and another does, with the words for it: it is not deleted."""


class Draft(msgspec.Struct, kw_only=True):
    """A plan, and what came to light while it was made."""

    plan: Plan
    wanted: dict[ObjectId, Wanted]
    probed: int | None
    """The wave that was dry-run; none when no wave writes."""
    refused: list[Verdict]
    """What the server would not accept."""
    answers: dict[ObjectId, KubeObject]
    """The server's answers about what turned out to be unchanged."""


def is_unchanged(wanted: Wanted, stream: StreamName, entry: Entry | None, actual: Actual | None) -> bool:
    """Whether nothing has to be asked of an object, let alone done."""
    return (
        entry is not None
        and actual is not None
        and entry.desired == wanted.digest
        and actual.uid == entry.uid
        and actual.owner == stream
        and not actual.drift
    )


class Planner:
    """Makes plans for one target."""

    def __init__(self, cluster: Cluster, subject: Subject, knowledge: Knowledge) -> None:
        self._cluster = cluster
        self._subject = subject
        self._known = knowledge
        self._limiter = anyio.CapacityLimiter(DRY_RUNS_MAX)

    async def draft(
        self, wanted: Sequence[Wanted], run: RunId, revision: Revision, made: Digest, *, prunes: bool = True
    ) -> Draft:
        """The plan that brings the cluster to the rendered set `made`; without prunes, nothing is let go of.

        Raises:
            ClusterError: when the server cannot be asked; what it refuses is in the draft.
        """
        by_id = {one.key.id: one for one in wanted}
        parts = waves([one.key for one in wanted], self._subject.custom_kinds)
        draft = Draft(
            plan=Plan(id=PlanId(""), run=run, target=self._subject.stream, revision=revision, set=made, waves=()),
            wanted=by_id,
            probed=None,
            refused=[],
            answers={},
        )
        steps: list[tuple[Step, ...]] = []
        for number, part in enumerate(parts):
            wave = [by_id[key.id] for key in part]
            if draft.probed is None:
                probed = await self.probe(wave, draft)
                if any(step.writes for step in probed) or draft.refused:
                    draft.probed = number
                steps.append(probed)
            else:
                steps.append(await self._guessed(wave, draft))
        pruned = await self._prunes(by_id.keys()) if prunes else ()
        draft.plan = msgspec.structs.replace(draft.plan, waves=tuple(steps), prunes=pruned).named()
        return draft

    async def probe(self, wave: Iterable[Wanted], draft: Draft) -> tuple[Step, ...]:
        """The steps of one wave; those that differ as the server's dry run answers.

        Raises:
            ClusterError: when the server cannot be asked.
        """
        steps: dict[ObjectId, Step] = {}
        wave = list(wave)
        known = len(draft.refused)
        with one_error():
            await self._probe_all(wave, draft, steps)
        # In the order of the wave, not in that of the answers: the same failure has the same words.
        place = {one.key.id: number for number, one in enumerate(wave)}
        draft.refused[known:] = sorted(draft.refused[known:], key=lambda verdict: place[verdict.object or ObjectId("")])
        return tuple(steps[one.key.id] for one in wave)

    async def _probe_all(self, wave: Iterable[Wanted], draft: Draft, steps: dict[ObjectId, Step]) -> None:
        async with anyio.create_task_group() as tasks:
            for one in wave:
                unchanged = self._unchanged(one)
                if unchanged is not None:
                    steps[one.key.id] = unchanged
                else:
                    tasks.start_soon(self._probe_into, one, draft, steps)

    def _unchanged(self, one: Wanted) -> Step | None:
        """The step of an object that nothing has to be asked of.

        One that was not loaded was unchanged when the pass began. Drift since then has woken the next pass.
        """
        as_was = self._known.same_terms and self._is_as_was(one)
        if one.loaded is None or as_was or self._known.is_done(one):
            entry = self._known.inventory.get(one.key.id)
            return _step(one, "unchanged", uid=entry.uid if entry else "")
        return None

    def _is_as_was(self, one: Wanted) -> bool:
        """Whether an object is as it was applied."""
        entry, actual = self._known.inventory.get(one.key.id), self._known.actual(one.key.id)
        return is_unchanged(one, self._subject.stream, entry, actual)

    async def _probe_into(self, one: Wanted, draft: Draft, steps: dict[ObjectId, Step]) -> None:
        async with self._limiter:
            steps[one.key.id] = await self._probe(one, draft)

    async def _guessed(self, wave: Iterable[Wanted], draft: Draft) -> tuple[Step, ...]:
        """The steps of a wave that cannot be asked about yet; what is as it was applied can, where terms changed."""
        if self._known.same_terms:
            return tuple(self._guess(one) for one in wave)
        wave = list(wave)
        there = [one for one in wave if one.loaded is not None and self._is_as_was(one)]
        steps = {step.object: step for step in await self.probe(there, draft)}
        return tuple(steps.get(one.key.id) or self._guess(one) for one in wave)

    def _guess(self, one: Wanted) -> Step:
        """The step of an object in a wave that cannot be asked about yet."""
        unchanged = self._unchanged(one)
        if unchanged is not None:
            return unchanged
        actual = self._known.actual(one.key.id)
        if actual is None or not actual.uid:
            return _step(one, "create")
        before = None if actual.state is None else actual.state.digest
        return _step(one, "update", uid=actual.uid, before=before)

    async def _probe(self, one: Wanted, draft: Draft) -> Step:
        """What would become of one object."""
        why = self._left_alone(one.object)
        if why:
            return _step(one, "skip", why=why)
        try:
            absent = self._only_if_absent(one)
            live = await self._live(one) if absent else None
            if live is not None:
                return _step(one, "skip", uid=live["metadata"]["uid"], why=f"it is there ({absent})")
            answer = await self._apply_dry(one.object)
        except (UnknownKindError, NotFoundError) as error:
            draft.refused.append(_refusal(one, error))
            return _step(one, "create")
        except (InvalidError, ConflictError, ForbiddenError, BadRequestError) as error:
            return await self._recreation(one, error) or self._refused(one, error, draft)
        except ClusterError as error:
            error.object = one.key.id
            raise
        if answer.created:
            return self._compared(one, None, answer.object, ())
        return await self._updated(one, answer.object, draft)

    def _left_alone(self, obj: KubeObject) -> str:
        """Why an object is not to be touched; the marks of Kustomizations say nothing in a release."""
        return "" if self._subject.release is not None else _left_alone(obj)

    def _only_if_absent(self, one: Wanted) -> str:
        """Why an object that is there is left as it is; empty where it is not."""
        if one.once:
            return "crds: Create" if one.key.kind == "CustomResourceDefinition" else "it is made once"
        is_kustomize = self._subject.release is None
        return "ssa: IfNotPresent" if is_kustomize and flagged(one.object, SSA, "IfNotPresent") else ""

    def _may_be_made_anew(self, obj: KubeObject) -> bool:
        return self._subject.force or (self._subject.release is None and flagged(obj, FORCE, "enabled"))

    async def _updated(self, one: Wanted, answer: KubeObject, draft: Draft) -> Step:
        why = self._left_alone(answer)
        uid = answer["metadata"]["uid"]
        if why:
            return _step(one, "skip", uid=uid, why=why)
        takes_over = _taken_over(answer, self._subject)
        step = self._compared(one, await self._before(one, answer), answer, takes_over)
        if not step.writes:
            draft.answers[step.object] = answer
        return step

    async def _before(self, one: Wanted, answer: KubeObject) -> KubeObject | None:
        """The state that a dry run was made against: as a watch has told it, else by asking."""
        metadata = answer["metadata"]
        seen = await self._known.seen(one.key.id, metadata["resourceVersion"])
        if seen is not None:
            return seen
        live = await self._live(one)
        if live is None or live["metadata"]["uid"] != metadata["uid"]:
            return None  # it was deleted a moment ago
        return state_of(live, self._subject.manager)

    def _compared(
        self, one: Wanted, before: KubeObject | None, answer: KubeObject, takes_over: tuple[str, ...]
    ) -> Step:
        metadata, after = answer["metadata"], state_of(answer, self._subject.manager)
        before_digest = None if before is None else self._digest(one, before)
        after_digest = self._digest(one, after)
        same = before_digest == after_digest and not takes_over
        return _step(
            one,
            "unchanged" if same else "create" if before is None else "update",
            before=before_digest,
            after=after_digest,
            uid="" if before is None else metadata["uid"],
            resource_version="" if before is None else metadata["resourceVersion"],
            changes=changes_between(before, after, secret=self._is_secret(one)),
            takes_over=takes_over,
        )

    def _digest(self, one: Wanted, state: KubeObject) -> Digest:
        return self._known.digest_of(one.key.id, canonical_bytes(state), secret=self._is_secret(one))

    def _is_secret(self, one: Wanted) -> bool:
        """Whether an object is secret, or was before."""
        return one.secret or self._was_secret(one.key)

    def _was_secret(self, key: ObjectKey) -> bool:
        return is_secret(key, self._known.actual(key.id), self._known.inventory.get(key.id))

    def _refused(self, one: Wanted, error: ClusterError, draft: Draft) -> Step:
        draft.refused.append(_refusal(one, error))
        return _step(one, "update" if isinstance(error, InvalidError | ConflictError) else "create")

    async def _recreation(self, one: Wanted, error: ClusterError) -> Step | None:
        """The step that makes an object anew which cannot be changed; None where that may not be, or is no help.

        In Flux whatever is called invalid is deleted and made again, and stays deleted where it is wrong in itself.
        """
        is_told = is_immutable(error)
        if not self._may_be_made_anew(one.object) or not (is_told or isinstance(error, InvalidError)):
            return None
        live = await self._live(one)
        if live is None:
            return _step(one, "create") if is_told else None
        if not is_told and not await self._would_be_taken_as_new(one):
            return None
        before = state_of(live, self._subject.manager)
        return _step(
            one,
            "recreate",
            before=self._digest(one, before),
            uid=live["metadata"]["uid"],
            resource_version=live["metadata"]["resourceVersion"],
            changes=changes_between(before, one.object, secret=self._is_secret(one)),
        )

    async def _would_be_taken_as_new(self, one: Wanted) -> bool:
        """Whether an object that is called invalid is so only beside the one that is there, and not by another name."""
        metadata = {**one.object["metadata"], "name": _another_name(one.key)}
        try:
            answer = await self._apply_dry({**one.object, "metadata": metadata})
        except (NotFoundError, InvalidError, ConflictError, ForbiddenError, BadRequestError):
            return False
        except ClusterError as unanswered:
            unanswered.object = one.key.id
            raise
        return answer.created

    async def _apply_dry(self, obj: KubeObject) -> Applied:
        return await self._cluster.apply(
            obj, manager=self._subject.manager, dry_run=True, identity=self._subject.identity
        )

    async def _live(self, one: Wanted) -> KubeObject | None:
        kind = await self._kind_of(one.key, one.api_version)
        return None if kind is None else await self._get(kind, one.key)

    async def _kind_of(self, key: ObjectKey, api_version: str) -> Kind | None:
        """The kind of an object; in another version, where that one is not known or no longer served.

        None where it is served in none; where an API that may serve it does not answer, that is an error.
        """
        try:
            if api_version:
                return await self._cluster.kind(api_version, key.kind)
        except UnknownKindError:
            pass
        return await self._cluster.find_kind(key.group, key.kind)

    async def _get(self, kind: Kind, key: ObjectKey) -> KubeObject | None:
        try:
            return await self._cluster.get(kind, key.namespace, key.name, identity=self._subject.identity)
        except UnknownKindError:
            if await self._cluster.find_kind(kind.group, kind.kind) is None:
                return None
            raise
        except NotFoundError:
            return None

    async def _prunes(self, wanted: Collection[ObjectId]) -> tuple[Step, ...]:
        """What becomes of the objects that the target owns and no longer wants."""
        owned = {id: entry.api_version for id, entry in self._known.inventory.items()}
        stale = {id: version for id, version in {**self._known.found, **owned}.items() if id not in wanted}
        keys = prune_order([ObjectKey.parse(id) for id in stale])
        return tuple([await self._prune(key, stale[key.id], wanted) for key in keys])

    async def _prune(self, key: ObjectKey, api_version: str, wanted: Collection[ObjectId]) -> Step:
        kind = await self._kind_of(key, api_version)
        live = None if kind is None else await self._get(kind, key)
        if kind is None or live is None:
            return Step(object=key.id, api_version=api_version, action="skip", why="absent")
        step = Step(object=key.id, api_version=kind.api_version, action="skip", uid=live["metadata"]["uid"])
        # An inventory, Flux's too, may have an object of a kind without namespaces under a namespace of its manifest.
        own = key._replace(namespace=live["metadata"].get("namespace") or "").id
        why = f"it is wanted, as {own}" if own in wanted else self.why_kept(live)
        if why:
            return msgspec.structs.replace(step, why=why)
        if key.id in self._known.left:
            return msgspec.structs.replace(step, why=self._known.left[key.id], stays=self._keeps(key.id))
        state = canonical_bytes(state_of(live, self._subject.manager))
        return msgspec.structs.replace(
            step,
            action="delete",
            resource_version=live["metadata"]["resourceVersion"],
            before=self._known.digest_of(key.id, state, secret=self._was_secret(key)),
        )

    def _keeps(self, id: ObjectId) -> bool:
        """Whether an object that is left to another target stays in the inventory: that has not applied it yet."""
        actual = self._known.actual(id)
        return not self._subject.deleting and (actual is None or actual.owner in (None, self._subject.stream))

    def why_kept(self, live: KubeObject) -> str:
        """Why an object that is no longer wanted is left there; empty when it is to be deleted (KS-092)."""
        if not self._subject.prune:
            return "prune is off"
        release = self._subject.release
        if release is not None:
            return why_release_leaves(live, release, uninstalls=self._subject.deleting)
        return why_left(live, self._subject.namespace, self._subject.name)


def why_release_leaves(live: KubeObject, release: HelmName, *, uninstalls: bool) -> str:
    """Why a release that is done with an object leaves it there; empty when it is deleted (Helm's resource policy).

    What Helm never marked (a chart's `crds/`, the namespace that was made for it) is left too.
    """
    if is_kept(live, at_uninstall=uninstalls):
        return "helm.sh/resource-policy: keep"
    return "" if belongs_to(live, release.name, release.namespace) else "it is not this release's"


def why_left(live: KubeObject, namespace: str, name: str) -> str:
    """Why a target that prunes leaves an object there, as the object itself says; empty when it does not (KS-092)."""
    if flagged(live, PRUNE, "disabled"):
        return "prune: disabled"
    labels = (live.get("metadata") or {}).get("labels") or {}
    if (labels.get(OWNER_NAMESPACE), labels.get(OWNER_NAME)) != (namespace, name):
        return "it is not this target's any more"
    return _left_alone(live)


def changes_between(before: KubeObject | None, after: KubeObject | None, *, secret: bool) -> tuple[Change, ...]:
    """What a step changes, field by field; of a secret object only where."""
    found = differences(before, after, secret=secret)[:CHANGES_MAX]
    return tuple(
        Change(path=one.path, hidden=True)
        if secret or one.hidden
        else Change(path=one.path, before=one.before, after=one.after)
        for one in found
    )


def _taken_over(answer: KubeObject, subject: Subject) -> tuple[str, ...]:
    """Whose fields become the engine's; of who only left annotations behind, the first of them."""
    patch = take_over_patch(answer, subject.manager, subject.overridden)
    if not patch:
        return ()
    kept = [entry["manager"] for op in patch if op["path"] == "/metadata/managedFields" for entry in op["value"]]
    gone = [entry.get("manager") or "" for entry in entries_of(answer)]
    taken = tuple(dict.fromkeys(name for name in gone if kept and name not in kept))
    return taken or (str(patch[0]["path"]),)


def is_immutable(error: ClusterError) -> bool:
    """Whether the server refused a change because fields cannot be changed, and for nothing else (contract KS-073)."""
    said = [cause.message for cause in error.status.causes] or [str(error)]
    return all(_immutable.search(each) for each in said)


def _another_name(key: ObjectKey) -> str:
    """A name that no object has, and the same each time: a plan says the same of the same state."""
    return f"{key.name[:_NAME_PART].strip('-.')}-{digest_of(key.id.encode())[-_NAME_PART:]}"


def _step(one: Wanted, action: Action, **fields: object) -> Step:
    step = Step(object=one.key.id, api_version=one.api_version, action=action, desired=one.digest)
    return msgspec.structs.replace(step, **fields)


def _left_alone(obj: KubeObject) -> str:
    """Why an object is not to be touched; empty when it may be (KS-081)."""
    if flagged(obj, RECONCILE, "disabled"):
        return "reconcile: disabled"
    if flagged(obj, SSA, "Ignore"):
        return "ssa: Ignore"
    return ""


def _refusal(one: Wanted, error: ClusterError) -> Verdict:
    causes = error.status.causes
    path = causes[0].field if causes else ""
    message = failure_of(one.key, DRY_RUN, error)
    return Verdict(check=DRY_RUN, passed=False, object=one.key.id, path=path, message=message)
