"""A shop that is released by Helm, from a chart in its repository: logs of HelmReleases, as the daemon writes them."""

from collections.abc import Sequence

from tests.questions.scenes import SHOP, Scene, manifest, revision, time
from tidelog.events.bodies import Body
from tidelog.events.canonical import Json, encode
from tidelog.events.digest import digest_of
from tidelog.events.names import ObjectKey, PlanId, Revision, RunId
from tidelog.events.vocabulary import (
    ApplyFinished,
    ApplyStarted,
    BlastRadius,
    Event,
    HelmChartSynced,
    HookEnded,
    HookStarted,
    ObjectApplied,
    Planned,
    ReleaseActionEnded,
    ReleaseActionStarted,
    ReleaseSnapshot,
    Rendered,
    RevisionFetched,
    RunEnded,
    StageFailed,
    Tool,
)
from tidelog.events.vocabulary.fetch import Chart
from tidelog.events.vocabulary.observe import Health
from tidelog.events.vocabulary.release import Action
from tidelog.storage.log.ids import new_id

RELEASE = ObjectKey("helm.toolkit.fluxcd.io", "HelmRelease", "apps", "web").stream("prod")
CHART_KEY = ObjectKey("source.toolkit.fluxcd.io", "HelmChart", "flux-system", "apps-web")
CHART = CHART_KEY.stream("prod")
WEB = ObjectKey("apps", "Deployment", "apps", "web")
MIGRATE = ObjectKey("batch", "Job", "apps", "migrate")
WHO = "helmrelease/web -n apps"


def snapshot(version: int, status: str = "deployed", chart: str = "") -> ReleaseSnapshot:
    """A version of the release."""
    return ReleaseSnapshot(
        name="web",
        namespace="apps",
        version=version,
        status=status,
        digest=f"sha256:{version}",
        chart_name="web",
        chart_version=chart or f"1.0.{version}",
        api_version="v2",
    )


def began(action: Action, version: int, chart: str = "", *, remediates: bool = False) -> Event:
    """An action begins."""
    return ReleaseActionStarted(
        action=action,
        name="web",
        namespace="apps",
        storage_namespace="apps",
        version=version,
        chart_name="web",
        chart_version=chart or f"1.0.{version}",
        generation=1,
        remediates=remediates,
        set=digest_of(b"set"),
    )


def over(action: Action, version: int, *, message: str = "", chart: str = "", remediates: bool = False) -> Event:
    """An action is over: with a message it failed."""
    word = {"uninstall-remediation": "Uninstall"}.get(action, action.capitalize())
    with_chart = chart or f"1.0.{version}"
    well = f"Helm {word.lower()} succeeded for release apps/web.v{version} with chart web@{with_chart}"
    return ReleaseActionEnded(
        action=action,
        name="web",
        namespace="apps",
        version=version,
        outcome="failed" if message else "succeeded",
        reason=word + ("Failed" if message else "Succeeded"),
        message=message or well,
        counts=bool(message),
        snapshots=(snapshot(version, "failed" if message else "deployed", chart),),
        remediates=remediates,
        generation=1,
    )


def hook_began(action: Action, version: int) -> Event:
    """The Job that migrates begins."""
    return HookStarted(
        action=action,
        version=version,
        hook="pre-upgrade" if action == "upgrade" else "pre-install",
        object=MIGRATE.id,
        path="web/templates/job.yaml",
    )


def hook_over(action: Action, version: int, message: str = "") -> Event:
    """The Job that migrates is over: with a message it failed."""
    return HookEnded(
        action=action,
        version=version,
        hook="pre-upgrade" if action == "upgrade" else "pre-install",
        object=MIGRATE.id,
        path="web/templates/job.yaml",
        outcome="failed" if message else "succeeded",
        started=time(0),
        message=message,
    )


class Released(Scene):
    """A log with the HelmRelease `apps/web`, whose chart is made of the repository `shop`."""

    def __init__(self) -> None:
        super().__init__()
        self.declare(SHOP, url="https://git.example.com/shop")
        source: dict[str, Json] = {"kind": "GitRepository", "name": "shop", "namespace": "flux-system"}
        self.declare(RELEASE, chart={"spec": {"chart": "charts/web", "sourceRef": source}}, interval="10m")
        self.fetch(SHOP, "one", "Open the shop")
        waits = StageFailed(
            stage="fetch", reason="SourceNotReady", final=False, message="no artifact yet", waits_for=CHART
        )
        made = HelmChartSynced(object=CHART_KEY.id, outcome="created")
        self.tell(RELEASE, made, waits, run=RunId(new_id()))
        self.declare(CHART, chart="charts/web", sourceRef={"kind": "GitRepository", "name": "shop"})
        self.chart("1.0.1", "one")

    def chart(self, version: str, word: str, *, source: Revision | None = None) -> None:
        """The chart is made of a revision of its repository: a commit, where no other is given."""
        fetched = RevisionFetched(
            revision=Revision(version),
            tree=digest_of(f"tree {version}".encode())[7:47],
            artifact=digest_of(version.encode()),
            size=100,
            chart=Chart(name="web", source=revision(word) if source is None else source),
        )
        ended = RunEnded(outcome="succeeded", generation=1, revision=Revision(version))
        self.tell(CHART, fetched, ended, run=RunId(new_id()))

    def release(
        self,
        action: Action,
        version: int,
        *,
        hooks: Sequence[Event] = (),
        health: Health = "Current",
        failed: str = "",
        ends: bool = True,
    ) -> RunId:
        """A run that installs or upgrades, and applies a Deployment."""
        run, chart = RunId(new_id()), f"1.0.{version}"
        plan = PlanId(f"plan-{version}")
        listed = Body.of(encode([[WEB.id, digest_of(encode(manifest("web", chart)))]]))
        read = Body.of(encode([["core/ConfigMap/shop/gone", None], ["core/Secret/shop/kept", str(version)]]))
        made = Rendered(
            revision=Revision(chart),
            inputs=digest_of(chart.encode()),
            read_set=read.ref,
            toolchain=(Tool("helm", "4.2.3"),),
            set=listed.ref.digest,
            objects=listed.ref,
            count=1,
        )
        state = Body.of(encode(manifest("web", chart)))
        self.tell(RELEASE, made, run=run, bodies=[listed, read])
        self.wait(2)
        applied = ObjectApplied(
            plan=plan,
            object=WEB.id,
            uid="uid-web",
            resource_version=str(self.position),
            action="configured",
            wave=0,
            desired=digest_of(chart.encode()),
            state=state.ref,
            api_version="apps/v1",
            health=health,
        )
        events: list[Event] = [
            Planned(
                plan=plan, revision=made.revision, set=made.set, waves=listed.ref, blast_radius=BlastRadius(update=1)
            ),
            began(action, version),
            *hooks,
            ApplyStarted(plan=plan, waves=1),
            applied,
            ApplyFinished(plan=plan, revision=made.revision, set=made.set, configured=1),
        ]
        if ends or failed:
            events.append(over(action, version, message=failed))
        if ends and not failed:
            events.append(RunEnded(outcome="succeeded", generation=1, revision=made.revision, set=made.set))
        self.tell(RELEASE, *events, run=run, bodies=[state])
        return run

    def give_up(self, run: RunId, attempts: int, action: Action) -> None:
        """No attempt is left."""
        message = f"Failed to {action} after {attempts} attempt(s)"
        failure = StageFailed(
            stage="apply", reason="RetriesExceeded", final=True, stalled=True, message=message, generation=1
        )
        self.tell(RELEASE, failure, run=run)


def installed() -> Released:
    """The release was installed, from the commit “Open the shop”."""
    scene = Released()
    scene.wait(10)
    scene.release("install", 1, hooks=(hook_began("install", 1), hook_over("install", 1)))
    return scene


def upgraded() -> Released:
    """It was upgraded then, from the commit “New checkout”."""
    scene = installed()
    scene.wait(3600)
    scene.fetch(SHOP, "two", "New checkout")
    scene.chart("1.0.2", "two")
    scene.release("upgrade", 2)
    return scene


def stalled() -> Released:
    """The upgrade failed by its hook, was rolled back, and no attempt is left."""
    scene = installed()
    scene.wait(3600)
    scene.chart("1.0.2", "one")
    run = RunId(new_id())
    scene.tell(
        RELEASE,
        began("upgrade", 2),
        hook_began("upgrade", 2),
        hook_over("upgrade", 2, "job migrate failed: BackoffLimitExceeded"),
        over("upgrade", 2, message="Helm upgrade failed for release apps/web with chart web@1.0.2: pre-upgrade hooks"),
        began("rollback", 3, "1.0.1", remediates=True),
        over("rollback", 3, chart="1.0.1", remediates=True),
        run=run,
    )
    scene.give_up(run, 1, "upgrade")
    return scene
