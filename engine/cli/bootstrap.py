"""What `tidelog run --repo` makes in a cluster, and what is looked at before: it changes nothing unasked."""

import logging
import posixpath
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import click
import msgspec

from tidelog.engine.cluster.errors import PASSING, NotFoundError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.kinds.meta import KUSTOMIZE_GROUP, OWN_MANAGER, SOURCE_GROUP
from tidelog.engine.objects.kube import KubeObject, key_of
from tidelog.engine.runtime.errors import RefusedError
from tidelog.engine.runtime.passes.sources.git import BOOTSTRAP_NAME, LOCAL_REPOSITORY, local_url
from tidelog.engine.sources.errors import FetchError
from tidelog.engine.sources.git.credentials import ANONYMOUS
from tidelog.engine.sources.git.fetcher import GitFetcher
from tidelog.engine.sources.git.spec import GitRef, GitSpec
from tidelog.engine.terminal import visible
from tidelog.events.names import ObjectKey
from tidelog.storage.artifacts.store import ArtifactStore

LOOK_S = 0.5
"""How often it is looked whether what is being deleted is gone."""

logger = logging.getLogger("tidelog.engine")


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True):
    """What `--repo` asks for: what `flux bootstrap` makes."""

    repo: str
    """As it was typed."""
    local: Path | None
    """The directory, resolved, where the repository is one on this machine."""
    path: str
    branch: str
    interval: str
    confirmed: bool = False
    """Whether what is there already may be changed to it."""

    @property
    def url(self) -> str:
        """As the spec of the source has it."""
        return local_url(self.local.as_posix()) if self.local else self.repo


def directory_of(repo: str) -> Path | None:
    """The directory that `--repo` names, resolved; None for an address. Blocks."""
    text = repo.removeprefix("file://")
    return Path(text).resolve() if "://" not in text else None


class Difference(msgspec.Struct, frozen=True):
    """What a field of an object that is there says, and what was asked for."""

    object: str
    field: str
    there: str
    asked: str

    def __str__(self) -> str:
        return f"{self.object} has the {self.field} {self.there}, and {self.asked} was asked for"


def keys(namespace: str) -> tuple[ObjectKey, ObjectKey]:
    """The source and the target that `--repo` makes."""
    return (
        ObjectKey(SOURCE_GROUP, "GitRepository", namespace, BOOTSTRAP_NAME),
        ObjectKey(KUSTOMIZE_GROUP, "Kustomization", namespace, BOOTSTRAP_NAME),
    )


def wanted_objects(bootstrap: Bootstrap, namespace: str) -> tuple[KubeObject, KubeObject]:
    """The source and the target as they are to be."""
    metadata = {"name": BOOTSTRAP_NAME, "namespace": namespace}
    # The API takes no address of a directory: the annotation says where it is, and only the daemon's own word counts.
    annotations = {"annotations": {LOCAL_REPOSITORY: str(bootstrap.local)}} if bootstrap.local else {}
    source: KubeObject = {
        "apiVersion": f"{SOURCE_GROUP}/v1",
        "kind": "GitRepository",
        "metadata": metadata | annotations,
        "spec": {"interval": bootstrap.interval, "url": bootstrap.url, "ref": {"branch": bootstrap.branch}},
    }
    target: KubeObject = {
        "apiVersion": f"{KUSTOMIZE_GROUP}/v1",
        "kind": "Kustomization",
        "metadata": metadata,
        "spec": {
            "interval": "10m",
            "path": bootstrap.path,
            "prune": True,
            "sourceRef": {"kind": "GitRepository", "name": BOOTSTRAP_NAME},
        },
    }
    return source, target


def differences(live: KubeObject, wanted: KubeObject) -> list[Difference]:
    """Where an object that is there wants something else than was asked for; how often it is asked does not count."""
    name = key_of(wanted).shown
    fields = _source_fields if wanted["kind"] == "GitRepository" else _target_fields
    there, asked = fields(live), fields(wanted)
    if _was_handed_back(live, wanted):
        there["repository"] = asked["repository"]
    return [Difference(name, field, there[field], asked[field]) for field in asked if there[field] != asked[field]]


def _was_handed_back(live: KubeObject, wanted: KubeObject) -> bool:
    """Whether a source names the same directory as is asked for, by the address that is left without our annotation."""
    if LOCAL_REPOSITORY in (live["metadata"].get("annotations") or {}):
        return False
    is_directory = LOCAL_REPOSITORY in (wanted["metadata"].get("annotations") or {})
    return is_directory and (live.get("spec") or {}).get("url") == wanted["spec"]["url"]


def _source_fields(obj: KubeObject) -> dict[str, str]:
    spec, annotations = obj.get("spec") or {}, obj["metadata"].get("annotations") or {}
    directory = annotations.get(LOCAL_REPOSITORY, "")
    url = str(spec.get("url"))
    ref = {name: str(value) for name, value in (spec.get("ref") or {}).items() if value} or {"branch": "master"}
    return {
        "repository": directory if url == local_url(directory) else url,
        "reference": ", ".join(f"{name} {value}" for name, value in sorted(ref.items())),
    }


def _target_fields(obj: KubeObject) -> dict[str, str]:
    spec = obj.get("spec") or {}
    source = spec.get("sourceRef") or {}
    namespace = source.get("namespace") or obj["metadata"]["namespace"]
    return {
        "path": f"./{_directory(spec.get('path') or '')}",
        "source": f"{source.get('kind')}/{namespace}/{source.get('name')}",
    }


def _directory(path: str) -> str:
    """A path in a repository without dots and slashes around it; empty for the repository itself."""
    return posixpath.normpath(f"/{path}").strip("/")


async def look(
    cluster: Cluster, fetcher: GitFetcher, artifacts: ArtifactStore, bootstrap: Bootstrap, namespace: str
) -> None:
    """Looks whether what `--repo` asks for makes sense, before anything is written.

    What is there already and says the same is not looked at again: a daemon starts also while its repository is away.

    Raises:
        FetchError: when the repository cannot be fetched, or lacks the branch or the path.
        RefusedError: when the cluster has other objects of these names, and nobody says that they may be changed.
    """
    wanted = wanted_objects(bootstrap, namespace)
    found = [(await _live(cluster, obj), obj) for obj in wanted]
    there = [(live, obj) for live, obj in found if live is not None and not _is_deleting(live)]
    different = [one for live, obj in there for one in differences(live, obj)]
    if len(there) < len(wanted) or different:
        await check_repository(fetcher, artifacts, bootstrap, namespace)
    if different and not bootstrap.confirmed:
        await _confirm(different, bootstrap)


async def _confirm(different: list[Difference], bootstrap: Bootstrap) -> None:
    """Asks, where there is somebody who can be asked.

    Raises:
        RefusedError: where there is nobody.
    """
    told = "; ".join(map(str, different))
    if not sys.stdin.isatty():
        raise RefusedError(
            f"this cluster is kept from elsewhere already, and nothing was changed: {told}. To change it to what was "
            f"asked for (what was applied from there, and is not in {bootstrap.repo}, will be pruned): --yes. "
            "To go on with what is there: run without --repo, or with what it says"
        )
    click.echo("This cluster is kept from elsewhere already:", err=True)
    for one in different:
        click.echo(f"► {visible(str(one))}", err=True)
    question = "Change it to what was asked for? What was applied from there, and is not here, will be pruned."
    with _ended_by_sigterm():
        await anyio.to_thread.run_sync(lambda: click.confirm(question, abort=True, err=True))


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """While a question is asked, SIGTERM ends the process as it does any other: who is asked cannot be called off."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def check_repository(fetcher: GitFetcher, artifacts: ArtifactStore, bootstrap: Bootstrap, namespace: str) -> None:
    """Fetches the repository, which the daemon needs anyhow, and looks whether it has the path.

    Raises:
        FetchError: in the words of the command line.
    """
    local = bootstrap.local
    if local is not None and not await anyio.to_thread.run_sync(local.is_dir):
        raise FetchError("URLInvalid", f"--repo: there is no directory {local}", final=True)
    spec = GitSpec(
        namespace=namespace,
        name=BOOTSTRAP_NAME,
        url=local.as_uri() if local else bootstrap.repo,
        ref=GitRef(branch=bootstrap.branch),
    )
    try:
        fetched = await fetcher.fetch(spec, ANONYMOUS, await fetcher.ask(spec))
    except FetchError as error:
        said = str(error).replace("spec.ref.branch", "--branch").replace("spec.url", "--repo")
        raise FetchError(error.reason, said, final=error.final) from None
    found = await anyio.to_thread.run_sync(artifacts.entry, fetched.tree, _directory(bootstrap.path))
    if found is None or found.kind != "tree":
        where = f"{bootstrap.repo} has no directory {bootstrap.path!r} at {fetched.revision}"
        raise FetchError("GitOperationFailed", f"{where}: push it, or correct --path", final=True)


async def make(cluster: Cluster, bootstrap: Bootstrap, namespace: str) -> list[KubeObject]:
    """Makes the namespace, the source and the target; returns what has to wait until what is there is deleted."""
    await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, manager=OWN_MANAGER)
    waiting = []
    for obj in wanted_objects(bootstrap, namespace):
        live = await _live(cluster, obj)
        if live is not None and _is_deleting(live):
            logger.warning(
                "%s is being deleted: it is made again when it is gone",
                key_of(obj).shown,
                extra={"fields": _facts(obj)},
            )
            waiting.append(obj)
        else:
            await _apply(cluster, obj, live)
    return waiting


async def make_when_gone(cluster: Cluster, waiting: list[KubeObject]) -> None:
    """Makes objects again as soon as those of their names, which are being deleted, are gone."""
    for obj in waiting:
        while True:
            try:
                live = await _live(cluster, obj)
                if live is None or not _is_deleting(live):
                    await _apply(cluster, obj, live)
                    break
            except PASSING:
                pass  # it is asked again
            await anyio.sleep(LOOK_S)


async def _apply(cluster: Cluster, obj: KubeObject, live: KubeObject | None) -> None:
    """Applies an object, and says what became of it."""
    after = (await cluster.apply(obj, manager=OWN_MANAGER)).object["metadata"]["resourceVersion"]
    before = None if live is None else live["metadata"]["resourceVersion"]
    done = "created" if before is None else "unchanged" if before == after else "configured"
    logger.info("%s %s", key_of(obj).shown, done, extra={"fields": _facts(obj)})


def _facts(obj: KubeObject) -> dict[str, str]:
    fields = _source_fields(obj) if obj["kind"] == "GitRepository" else _target_fields(obj)
    return fields | {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]}


async def _live(cluster: Cluster, obj: KubeObject) -> KubeObject | None:
    try:
        kind = await cluster.kind(obj["apiVersion"], obj["kind"])
        return await cluster.get(kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
    except NotFoundError:
        return None


def _is_deleting(live: KubeObject) -> bool:
    return "deletionTimestamp" in live["metadata"]
