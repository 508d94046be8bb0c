"""How actions on a release begin: what is to be made is rendered, planned, and found valid and harmless first."""

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import msgspec

from tidelog.engine.helm.decisions import Act, Known
from tidelog.engine.helm.errors import RecordError
from tidelog.engine.helm.releases import DEPLOYED, pending_again, rollback_to, upgrade_base
from tidelog.engine.helm.storage import Release
from tidelog.engine.helm.store import ReleaseStore
from tidelog.engine.kinds.helmactions import ReleasingName
from tidelog.engine.plan.model import Wanted
from tidelog.engine.runtime.passes.releases.acting import Ready
from tidelog.engine.runtime.passes.releases.actions import ReleaseActions
from tidelog.engine.runtime.passes.releases.hooks import ActionFailed
from tidelog.engine.runtime.passes.releases.records import (
    LostRecordError,
    is_as_known,
    opened_texts,
)
from tidelog.engine.runtime.passes.releases.sayings import MARKS
from tidelog.engine.runtime.passes.releases.sets import set_of_record
from tidelog.engine.runtime.passes.releases.wish import (
    Asked,
    Wish,
    asked_of,
    counts_anew,
    digest_of_part,
    inputs_of,
    namespaces_of_hooks,
    render_wish,
    why_not_imported,
    without,
)
from tidelog.engine.runtime.past_releases import PastVersion
from tidelog.engine.runtime.rendered import RenderedSet, Sealed
from tidelog.engine.runtime.run import StageError, asking
from tidelog.events.digest import Digest, digest_of
from tidelog.events.names import Revision
from tidelog.events.projections.releases import Made, ReleaseRow
from tidelog.events.typed import converter
from tidelog.events.vocabulary import (
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseSnapshot,
)

T = TypeVar("T")


class Beginning(ReleaseActions):
    """Begins actions on one release."""

    async def _make(self, making: ReleasingName, wish: Wish, known: Known) -> None:
        """Begins an install or an upgrade: once its objects are planned, and found valid and harmless."""
        store = self._store(wish.storage_namespace)
        last = known.last
        version = 1 if last is None else last.version + 1
        base = None
        if making == "upgrade":
            base = await asking("apply", reading(self._base(store, wish.name, last)))
            if base is None:
                raise StageError("apply", "UpgradeFailed", f'"{wish.name}" has no deployed releases')
        release, rendered, secret = await self._rendered(making, wish, version, base)
        started = self._intent(making, wish, version, rendered.digest, release)
        if base is not None:
            started = msgspec.structs.replace(started, base=base.version)
        self._intended = started
        if base is not None:
            await self._know_base(store, base)
        await self._prepare_for(rendered)
        await self._check_ownership(making, rendered, wish)
        hooked = namespaces_of_hooks(self._declared, making, release)
        draft = await self._plan(without(rendered, hooked), prunes=not hooked)
        if draft is not None:
            await self._verify(draft)
            cleared = await self._approvals.clear(draft.plan, self._revision)
            self._ready = None if hooked else Ready(rendered.digest, draft, cleared)
        self._not_suspended_meanwhile()
        await self._begin(started, release, secret)

    async def _know_base(self, store: ReleaseStore, base: Release) -> None:
        """Takes note of the objects of what an upgrade begins from, where somebody else made it."""
        try:
            await self._know_objects_of(store, base.name, base.version)
        except ActionFailed as error:
            reason, about = self._refused_as
            raise StageError("plan", reason, f"{about}: {error}") from None

    async def _base(self, store: ReleaseStore, name: str, last: Release | None) -> Release | None:
        """What an upgrade begins from; records are only read where that is not the newest."""
        if last is not None and last.info.status == DEPLOYED:
            return last
        found = upgrade_base(await store.history(name))
        return None if found is None else found.release

    async def _rendered(
        self, making: ReleasingName, wish: Wish, version: int, base: Release | None
    ) -> tuple[Release, RenderedSet, Sequence[str]]:
        """The version that is to be made, pending, the set of its objects, and what is secret; the set is recorded."""
        origin = wish.origin
        if isinstance(origin, PastVersion):
            release, rendered = await self._again(making, origin, version, base)
            return release, rendered, await self._secret_of(origin.made)
        self._activity.begin(self._stream, "building", wish.chart.version)
        self._run.secrets.tell({*MARKS, wish.name, wish.namespace, wish.chart.name, wish.chart.version})
        made = await render_wish(
            self._tools,
            self._declared,
            wish,
            origin,
            making,
            version,
            base,
            identity=self._situation.subject.identity,
            secrets=self._run.secrets,
        )
        await self._record_set(made.set, Revision(wish.chart.version), inputs_of(wish, origin))
        return made.release, made.set.set, made.secret

    async def _secret_of(self, made: Made | None) -> Sequence[str]:
        """What of a version that was made here is secret, and its values do not tell."""
        if made is None or made.secret is None:
            return ()
        return await opened_texts(self._memory.log, await self._engine.keys.key(self._stream), made.secret)

    async def _again(
        self, making: ReleasingName, past: PastVersion, version: int, base: Release | None
    ) -> tuple[Release, RenderedSet]:
        """A past version that is to be made again, pending, and the set of its objects; the set is recorded."""
        try:
            record = await self._opened(past.made.record)
        except LostRecordError as error:
            raise lost(str(error)) from None
        release = pending_again(record, version=version, action=making, previous=base, time=self._engine.now())
        return release, await self._set_again(record, past.made)

    async def _record_set(self, made: Sealed, revision: Revision, inputs: Digest) -> None:
        before = await self._engine.renderings.last(self._stream)
        now = made.set.digest, made.set.read_set
        if before is None or (before.digest, before.read_set) != now or self._run.standing.inputs != inputs:
            new = [body for body in made.bodies if not self._engine.renderings.has(self._stream, body.ref.digest)]
            await self._run.record([made.event(revision, inputs)], new)
        self._engine.renderings.keep(self._stream, made.set)

    async def _prepare_for(self, made: RenderedSet) -> None:
        """What the rest needs to be asked about is there: the chart's own kinds, and its namespace.

        They are planned, verified and applied like everything else, before the action begins.
        """
        first = tuple(one for one in made.wanted if one.once or _defines(one))
        if not self._situation.touched(first):
            return
        subset = msgspec.structs.replace(made, wanted=first, digest=digest_of_part(first))
        draft = await self._plan(subset, prunes=False)
        if draft is not None:
            await self._verify(draft)
            await self._apply(draft, await self._cleared(draft))

    async def _check_ownership(self, making: ReleasingName, made: RenderedSet, wish: Wish) -> None:
        """Objects that are there are the release's already, where it is not to take any over (contract HR-040)."""
        message = await asking(
            "verify", why_not_imported(self._site.cluster, self._situation, self._declared, making, made.wanted, wish)
        )
        if message:
            reason, about = self._refused_as
            raise StageError("verify", reason, f"{about}: {message}")

    async def _roll_back(self, act: Act, wish: Wish, known: Known) -> None:
        """Begins a rollback to a version that was good."""
        target, last = act.target, known.last
        if target is None or last is None:
            raise RuntimeError("a rollback without a version to go back to")
        store = self._store(self._row.storage_namespace or wish.storage_namespace)
        record = await asking("apply", reading(store.get(target.name, target.version)))
        if record is None or not is_as_known(record.release, target):
            # What it would go back to is not as it was: to try the upgrade again is the better way (contract HR-095).
            await self._make("upgrade", wish, known)
            return
        release = rollback_to(record.release, current=last, version=last.version + 1, time=self._engine.now())
        made = self._row.made_as(target.version)
        chosen = (await self._set_again(record.release, made)).digest
        await self._begin(
            ReleaseActionStarted(
                action="rollback",
                name=target.name,
                namespace=target.namespace,
                storage_namespace=self._row.storage_namespace,
                version=release.version,
                chart_name=target.chart_name,
                chart_version=target.chart_version,
                config_digest=target.config_digest,
                oci_digest=target.oci_digest,
                generation=self._declared.generation,
                set=chosen,
                target=target.version,
                remediates=True,
            ),
            release,
            await self._secret_of(made),
        )

    async def _set_again(self, release: Release, made: Made | None) -> RenderedSet:
        """Records that the set of an earlier version is what is wanted now; returns it."""
        event = None if made is None else await self._engine.renderings.event_at(self._stream, made.position)
        rendered = None if made is None else await self._engine.renderings.at(self._stream, made.position)
        if event is None or rendered is None:
            found = await set_of_record(self._tools, release, self._run.secrets)
            chart = (release.chart.metadata if release.chart else None) or {}
            event = found.event(Revision(str(chart.get("version") or "")), digest_of(release.manifest.encode()))
            await self._run.record([event], found.bodies)
            self._engine.renderings.keep(self._stream, found.set)
            return found.set
        await self._run.record([event])
        wanted = msgspec.structs.replace(rendered, pinned=False)
        self._engine.renderings.keep(self._stream, wanted)
        return wanted

    async def _uninstall_now(self) -> ReleaseActionEnded | None:
        """Uninstalls the release that is known; None where there is none."""
        latest = self._row.latest
        if latest is None or not self._row.storage_namespace:
            return None
        started = _intent_of(latest, self._row, "uninstall", self._declared.generation)
        await self._begin(started)
        return await self._carry_on()

    def _asked(self) -> Asked:
        """What somebody asked for by annotations, and was not done."""
        return asked_of(self._declared, self._row, self._desired())

    def _intent(
        self, making: ReleasingName, wish: Wish, version: int, chosen: Digest, release: Release
    ) -> ReleaseActionStarted:
        asked = self._asked()
        return ReleaseActionStarted(
            action=making,
            name=release.name,
            namespace=release.namespace,
            storage_namespace=wish.storage_namespace,
            version=version,
            chart_name=wish.chart.name,
            chart_version=wish.chart.version,
            config_digest=wish.config_digest,
            oci_digest=wish.chart.oci_digest,
            generation=self._declared.generation,
            reset=counts_anew(self._declared, self._row, wish, asked),
            force_token=asked.force,
            reset_token=asked.reset,
            post_renderers=wish.post_renderers,
            common_metadata=wish.common_metadata,
            dependencies=wish.dependencies,
            set=chosen,
            origin=wish.origin.origin if isinstance(wish.origin, PastVersion) else 0,
        )

    def _intent_of_last(self, act: Act, last: Release | None, *, remediates: bool) -> ReleaseActionStarted:
        """The intent of an action on the newest version."""
        if last is None:
            raise RuntimeError(f"{act.action} without a release")
        latest = self._row.latest
        if latest is None or latest.version != last.version:
            chart = (last.chart.metadata if last.chart else None) or {}
            return ReleaseActionStarted(
                action=act.action,
                name=last.name,
                namespace=last.namespace,
                storage_namespace=self._spec.storage_namespace_of(self._declared.key.namespace),
                version=last.version,
                chart_name=str(chart.get("name") or ""),
                chart_version=str(chart.get("version") or ""),
                generation=self._declared.generation,
                remediates=remediates,
            )
        started = _intent_of(latest, self._row, act.action, self._declared.generation)
        return msgspec.structs.replace(started, remediates=remediates)

    async def _deployed_set(self) -> RenderedSet | None:
        """The set of the version that is deployed; None where it was not made here."""
        latest = self._row.latest
        made = None if latest is None else self._row.made_as(latest.version)
        if made is None:
            return None
        last = await self._engine.renderings.last(self._stream)
        if last is not None and last.digest == made.set:
            return last
        return await self._engine.renderings.at(self._stream, made.position)


def _intent_of(snapshot: ReleaseSnapshot, row: ReleaseRow, action: str, generation: int) -> ReleaseActionStarted:
    """The intent of an action on a version that is known."""
    return converter(ReleaseActionStarted)(
        {
            "action": action,
            "name": snapshot.name,
            "namespace": snapshot.namespace,
            "storage_namespace": row.storage_namespace,
            "version": snapshot.version,
            "chart_name": snapshot.chart_name,
            "chart_version": snapshot.chart_version,
            "config_digest": snapshot.config_digest,
            "oci_digest": snapshot.oci_digest,
            "generation": generation,
        }
    )


def _defines(one: Wanted) -> bool:
    return one.key.kind == "CustomResourceDefinition"


async def reading(found: Awaitable[T]) -> T:
    """What is read of Helm's storage; a record that cannot be read ends the pass."""
    try:
        return await found
    except RecordError as error:
        raise StageError("observe", "StateError", f"Could not determine release state: {error}") from None


def lost(message: str) -> StageError:
    """A past version that cannot come back."""
    return StageError("render", "StateError", f"pinned, but {message}: `tidelog unpin` has it follow its chart again")
