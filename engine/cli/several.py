"""What is asked for of all sources or targets of a kind (`--all`)."""

from pathlib import Path

import anyio.to_thread
import click
import msgspec

from tidelog.engine.cli.asking import tell_note, tell_replaced
from tidelog.engine.cli.door import Access, Asked, Take, not_reconciled, shown, taking
from tidelog.engine.cli.output import NO, Format, print_json
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.kinds.registry import NAMES
from tidelog.engine.objects.kube import KubeObject
from tidelog.engine.runtime.errors import RefusedError
from tidelog.engine.runtime.requests import Request
from tidelog.engine.terminal import visible
from tidelog.engine.views.archive import open_archive
from tidelog.engine.views.listing import listed
from tidelog.engine.views.names import is_kind, parse_kind
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.projections import Suspension


class AllOf(msgspec.Struct, frozen=True, kw_only=True):
    """All sources or targets of a kind, in one namespace or in all (None)."""

    group: str
    kind: str
    namespace: str | None

    def __str__(self) -> str:
        """In a sentence that says that there is none."""
        return f"{self.kind} in " + ("any namespace" if self.namespace is None else f"namespace {self.namespace}")


class Member(msgspec.Struct, frozen=True):
    """One of them."""

    stream: StreamName
    suspended: bool
    suspension: Suspension | None = None
    """By whom, and why, as far as a log is here that knows."""


def all_named(words: tuple[str, ...], namespace: str | None) -> AllOf:
    """All of the kind that is named, in a namespace or in all (None).

    Raises:
        UnclearNameError: when the text is no kind of sources or targets, or more than that.
    """
    typed = parse_kind(words)
    for group, kind in NAMES:
        if is_kind(typed, group, kind):
            return AllOf(group=group, kind=kind, namespace=namespace)
    raise not_reconciled(typed)


async def members(access: Access, which: AllOf) -> tuple[Member, ...]:
    """Those that there are, by namespace and name: as the log knows them, or where there is none, the cluster.

    Raises:
        ClusterError: when the cluster cannot be asked.
    """
    if await access.finds_store():
        return await anyio.to_thread.run_sync(_in_log, access.store, which)
    async with open_cluster(access.kubeconfig, access.context) as cluster:
        kind = await cluster.find_kind(which.group, which.kind)
        objects = [] if kind is None else (await cluster.list(kind, namespace=which.namespace or "")).items
    return tuple(sorted((_member(which, obj) for obj in objects), key=lambda one: one.stream))


def _in_log(store: Path, which: AllOf) -> tuple[Member, ...]:
    with open_archive(store) as archive:
        rows = listed(archive, ((which.group, which.kind),), which.namespace)
        return tuple(Member(row.stream, row.suspended, row.suspension) for row in rows)


def _member(which: AllOf, obj: KubeObject) -> Member:
    key = ObjectKey(which.group, which.kind, obj["metadata"]["namespace"], obj["metadata"]["name"])
    return Member(key.stream("cluster"), bool((obj.get("spec") or {}).get("suspend")))


async def ask_of_all_and_tell(access: Access, output: Format, which: AllOf, request: Request, done: str) -> int:
    """Has a request taken of each source or target of a kind, one after the other, and says so.

    To resume are only those that are suspended. One that refuses does not keep the others from it; where nothing can
    be told any more it ends, with what was done said.

    Returns:
        the exit code: 0 also where there is none of that kind.
    """
    resumes = request.verb == "resume"
    chosen = [one for one in await members(access, which) if one.suspended or not resumes]
    told = _Told(output, done, len(chosen))
    try:
        if chosen:
            async with taking(access, request) as take:
                for one in chosen:
                    await told.ask(take, one, msgspec.structs.replace(request, target=one.stream))
        else:
            click.echo(visible(f"There is no {'suspended ' if resumes else ''}{which}."), err=True)
    finally:
        told.end()
    return NO if told.refused else 0


class _Told:
    """What is said of requests that are taken one after the other."""

    def __init__(self, output: Format, done: str, wanted: int) -> None:
        self.refused = 0
        self._output = output
        self._done = done
        self._wanted = wanted
        self._answers: list[dict[str, object]] = []
        self._notes: dict[str, None] = {}

    async def ask(self, take: Take, one: Member, request: Request) -> None:
        """Has one taken, and says so."""
        name = visible(shown(one.stream))
        try:
            asked = await take(request)
        except RefusedError as error:
            self.refused += 1
            click.echo(f"✗ {name}: {visible(str(error))}", err=True)
            return
        self._answers.append({"stream": one.stream, **msgspec.to_builtins(asked)})
        if asked.note:
            self._notes[asked.note] = None
        if self._output == "json":
            return
        place = f" at position {asked.position}" if asked.position is not None else ""
        click.echo(f"{self._done} {name}{place}.")
        if one.suspension is not None and request.verb == "suspend":
            tell_replaced(one.suspension, request, f"{shown(one.stream)}: it")

    def end(self) -> None:
        """Says what holds for more than one of them, and how far it came where it was cut short."""
        if self._output == "json":
            print_json(self._answers)
        else:
            for note in self._notes:
                tell_note(Asked(note=note))
        done = len(self._answers)
        if done + self.refused < self._wanted:
            click.echo(f"✗ {done} of {self._wanted} were {self._done.lower()}", err=True)
