"""What every pass works with: the parts of the running engine, put together by the daemon."""

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tidelog.engine.cluster.port import Cluster
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.render.renderer import Renderer
from tidelog.engine.runtime.activity import Activity
from tidelog.engine.runtime.custom_health import CustomHealth
from tidelog.engine.runtime.handing import Handing
from tidelog.engine.runtime.helm import HelmTools
from tidelog.engine.runtime.memory import Memory
from tidelog.engine.runtime.origin_revisions import OriginRevisions
from tidelog.engine.runtime.rendered import Renderings
from tidelog.engine.runtime.repeats import Repeats
from tidelog.engine.runtime.schedule import Scheduler, Trigger
from tidelog.engine.runtime.settings import Settings
from tidelog.engine.runtime.turns import Turns
from tidelog.engine.runtime.waits import Waits
from tidelog.engine.runtime.watching.declarations import Declarations
from tidelog.engine.runtime.watching.inputs import Inputs
from tidelog.engine.runtime.watching.observer import Observer
from tidelog.engine.runtime.watching.records import RecordWatch
from tidelog.engine.runtime.wishes import Wishes
from tidelog.engine.secrecy.sealing import Sealer
from tidelog.engine.sources.fetchers import Fetchers
from tidelog.events.digest import Digest
from tidelog.events.moment import Time, datetime_of, time_of
from tidelog.events.names import ObjectId, ObjectKey, Revision, StreamName, object_stream
from tidelog.events.vocabulary.fetch import Chart
from tidelog.storage.artifacts.store import ArtifactStore
from tidelog.storage.keys import KeyRing

if TYPE_CHECKING:
    from tidelog.engine.runtime.telling.notices import Notices
    from tidelog.engine.runtime.telling.status import StatusWriter

ASKED_MAX_S = 300.0
"""How long a server that asks to be left alone is left alone at most, where the interval is shorter."""

PASSING_FAILURES_MAX = 4
"""Failures after which no longer a pause is made of what passes by itself: six seconds, unless settings say else."""

OnPass: TypeAlias = Callable[[StreamName, float, str], None]
"""Told of each pass that is over, with the seconds that it took, and `success`, `requeue_after` or `error`."""
OnLogin: TypeAlias = Callable[[StreamName, bool], None]
"""Told who needed a cloud's token, and whether one was kept."""


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


class Engine:
    """The parts of the running engine. `status` and `notices` are set by who makes it: they need it themselves."""

    status: "StatusWriter"
    notices: "Notices"

    def __init__(
        self,
        *,
        settings: Settings,
        cluster: Cluster,
        memory: Memory,
        declared: Declarations,
        inputs: Inputs,
        records: RecordWatch,
        observer: Observer,
        renderer: Renderer,
        renderings: Renderings,
        helm: HelmTools,
        wishes: Wishes,
        handing: Handing,
        expressions: Evaluator,
        fetchers: Fetchers,
        artifacts: ArtifactStore,
        keys: KeyRing,
        store: Path,
        local: Path | None = None,
        clock: Callable[[], datetime] = utc_now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.cluster_alias = settings.cluster_name
        self.cluster = cluster
        self.memory = memory
        self.declared = declared
        self.inputs = inputs
        self.records = records
        self.observer = observer
        self.renderer = renderer
        self.renderings = renderings
        self.helm = helm
        self.wishes = wishes
        self.handing = handing
        self.expressions = expressions
        self.fetchers = fetchers
        self.artifacts = artifacts
        self.keys = keys
        self.store = store
        self.local = local
        """The one repository on this machine that may be read."""
        self.origin_revisions = OriginRevisions(memory)
        self.activity = Activity()
        self.waits = Waits(self.seconds_since)
        self.repeats = Repeats(self.waits)
        self.custom_health = CustomHealth()
        self.turns = Turns()
        """Who writes an object that others may want to write as well."""
        self._clock = clock
        self._chance = chance
        self.targets: Scheduler
        self.sources: Scheduler
        self.wait_for: Callable[[StreamName, StreamName], None]
        """Has a target woken at the next good news of what it waits for."""
        self.leave_to: Callable[[StreamName, StreamName], None]
        """Has a target woken at whatever becomes of another one, to which it leaves an object that it has."""
        self.watch_for: Callable[[StreamName, StreamName], None]
        """Has a target woken at the next change of another's object."""
        self.wait_no_more: Callable[[StreamName], None]
        """Takes note that a target looks for itself again."""
        self.wake: Callable[[StreamName, Trigger], None]
        """Has a source or target run."""
        self.on_pass: OnPass = lambda _, __, ___: None
        self.on_login: OnLogin = lambda _, __: None
        self.artifact_address = ""
        self.asked: set[StreamName] = set()
        """Sources that were asked since the daemon began."""
        self.lost: set[StreamName] = set()
        """Sources of which something is not in the artifact store: they are fetched again."""
        self.where: dict[str, str] = {"cluster": self.cluster_alias, "store": str(store)}
        """Where the engine works, for who reads its log: cluster, store, addresses. No secret is in it."""

    def now(self) -> Time:
        """The present time, as the log writes times."""
        return time_of(self._clock())

    def seconds_since(self, time: Time | None) -> float:
        """Seconds since a time of the log; none for no time, or one that is yet to come."""
        if time is None:
            return 0.0
        return max(0.0, (self._clock() - datetime_of(time)).total_seconds())

    def is_recent(self, time: Time | None, seconds: float) -> bool:
        """Whether a time of the log was less than so many seconds ago; one that is yet to come, or none, is not."""
        return time is not None and 0 <= (self._clock() - datetime_of(time)).total_seconds() < seconds

    def seconds_until(self, time: Time) -> float:
        """Seconds until a time of the log; none for one that is past."""
        return max(0.0, (datetime_of(time) - self._clock()).total_seconds())

    def jittered(self, seconds: float) -> float:
        """An interval that varies a little, so that not everything happens at once (Flux contract CM-056)."""
        share = self.settings.jitter
        return seconds * (1 - share + 2 * share * self._chance())

    def backoff(self, failures: int) -> float:
        """Seconds before the next try after so many failures (Flux contract CM-055)."""
        shortest, longest = self.settings.min_retry_delay.seconds, self.settings.max_retry_delay.seconds
        return min(longest, shortest * 2.0 ** min(max(0, failures - 1), 30))

    def retry_in(self, longest_s: float, failures: int, retry_s: float = 0.0, asked_s: float = 0.0) -> float:
        """Seconds before the next try of what failed.

        Args:
            longest_s: the interval of the source or target, after which it is tried in any case.
            failures: how often it failed in a row.
            retry_s: when it makes sense at the soonest.
            asked_s: for how long the API server asks to be left alone. That is heeded beyond the interval too, but
                not for ever: a wrong proxy may ask for days.
        """
        usual = min(longest_s, max(retry_s, self.backoff(failures)))
        return max(usual, min(asked_s, max(longest_s, ASKED_MAX_S)))

    def spaced(self, usual_s: float, failures: int, *, passing: bool = False) -> float:
        """Seconds before the next try of what writes to the cluster, and failed so often in a row.

        Its intent has to be in the log each time, and what came of it: tries that go on failing in the same words are
        not passed over in silence, as others are (`repeats.py`), but become rare. So nobody fills the log by failing
        once a second. Of what passes by itself (`passing`: the server is busy, another has just written), some seconds.
        """
        counted = min(failures, PASSING_FAILURES_MAX) if passing else failures
        return max(usual_s, self.backoff(counted)) if counted else usual_s

    async def sealer(self, secret: Iterable[ObjectId]) -> Sealer:
        """What seals some objects that are secret."""
        return Sealer({id: await self.keys.key(object_stream(self.cluster_alias, id)) for id in set(secret)})

    def waited_for_health(self, stream: StreamName) -> float:
        """Seconds; what was waited for on behalf of a run that was superseded does not count."""
        row = self.memory.conditions.get(stream)
        if row is None or row.health != "InProgress" or row.health_since is None:
            return 0.0
        since = max(row.health_since, row.began or row.health_since)
        return self.waits.seconds(stream, "health", row.run or "", since)

    def waiting(self, seconds: float) -> list[StreamName]:
        """Targets that have waited for health for longer than that."""
        return [
            StreamName(stream)
            for stream, row in self.memory.conditions.items()
            if row.health == "InProgress"
            and row.run is not None
            and self.waited_for_health(StreamName(stream)) >= seconds
        ]

    def named_artifacts(self) -> set[Digest]:
        """The artifacts that statuses name."""
        rows = (self.memory.desired.get(stream) for stream in self.declared.sources)
        return {row.artifact for row in rows if row is not None and row.artifact is not None}

    def artifact_path(self, source: ObjectKey, revision: Revision, chart: Chart | None) -> str:
        """Where a source's artifact is served (Flux contract CM-027, SC-010)."""
        return f"{source.kind.lower()}/{source.namespace}/{source.name}/{_file(source.kind, revision, chart)}"

    def artifact_url(self, path: str) -> str:
        """The address of an artifact (Flux contract CM-028)."""
        address = self.settings.storage_adv_addr or self.artifact_address
        return f"{address if '://' in address else f'http://{address}'}/{path}"


def _file(kind: str, revision: Revision, chart: Chart | None) -> str:
    checksum = revision.rpartition(":")[2]
    match kind:
        case "OCIRepository":  # with the digest's algorithm
            return f"{revision.rpartition('@')[2]}.tar.gz"
        case "HelmRepository":
            return f"index-{checksum}.yaml"
        case "HelmChart" if chart is not None:
            return f"{chart.name}-{revision}.tgz"
        case _:
            return f"{checksum}.tar.gz"
