"""Making previews for people, and going back to a moment after they have seen one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import click
import msgspec

from tidelog.engine.cli.asking import ended_well
from tidelog.engine.cli.door import Access, ask, named_target, shown
from tidelog.engine.cli.output import NO, Format, confirm, print_json
from tidelog.engine.cli.plans import PlanFormat, plan_as_json, print_plan
from tidelog.engine.cluster.errors import KubeconfigError, UnauthorizedError, UnreachableError
from tidelog.engine.cluster.port import Cluster
from tidelog.engine.cluster.real import open_cluster
from tidelog.engine.moments import position_of
from tidelog.engine.runtime.errors import WrongClusterError
from tidelog.engine.runtime.passes.previews.common import Preview, Rehearse
from tidelog.engine.runtime.passes.previews.opening import Previewer, open_previewer
from tidelog.engine.runtime.requests import Request
from tidelog.engine.terminal import visible
from tidelog.engine.views.archive import open_archive
from tidelog.events.names import StreamName
from tidelog.events.vocabulary import Planned
from tidelog.storage.layout import Layout
from tidelog.storage.log import Query
from tidelog.storage.log.reader import LogReader

COPIED = "with --cluster embedded, the plan is made on a copy of it"

__all__ = ["Access", "named_target", "plan_and_tell", "plan_chain_and_tell", "reapply_and_tell"]


async def plan_and_tell(
    access: Access,
    target: StreamName,
    directory: Path | None,
    output: PlanFormat,
    environment: Mapping[str, str],
    embedded: bool,  # noqa: FBT001 - as anyio hands it over
) -> tuple[bool, bool]:
    """Prints a fresh plan; returns whether it changes anything, and whether it would be refused."""
    async with _previewer(access, target, environment, embedded=embedded) as previewer:
        if directory is None:
            preview = await previewer.of_source(target)
        else:
            preview = await previewer.of_directory(target, directory)
    print_plan(preview.plan, preview.verdicts, output, preview.release)
    return preview.changes, bool(preview.failed)


async def plan_chain_and_tell(
    access: Access, target: StreamName, directory: Path | None, output: PlanFormat, environment: Mapping[str, str]
) -> tuple[bool, bool]:
    """As `plan_and_tell`, of what a target depends on too: each plan is made in a copy where those before are done."""
    changes, refused, told = False, False, list[dict[str, Any]]()
    async with (
        _asked(access, embedded=True) as (copy, rehearse),
        open_previewer(copy, access.store, target, environment, rehearse, carries_out=True) as previewer,
    ):
        chain = await previewer.chain_to(target)
        for number, one in enumerate(chain):
            if directory is not None and await previewer.share_source(one, target):
                preview = await previewer.of_directory(one, directory)
            else:
                preview = await previewer.of_source(one)
            changes, refused = changes or preview.changes, bool(preview.failed)
            if output == "json":
                told.append(plan_as_json(preview.plan, preview.verdicts, preview.release))
            else:
                print_plan(preview.plan, preview.verdicts, output, preview.release)
                click.echo()
            if (preview.changes or preview.given_up) and not preview.is_applied and one != target:
                waiting = ", ".join(visible(shown(each)) for each in chain[number + 1 :])
                click.echo(f"► {waiting}: not planned, for {visible(shown(one))} would not get there", err=True)
                break
    if output == "json":
        print_json({"plans": told})
    return changes, refused


@asynccontextmanager
async def _previewer(
    access: Access, target: StreamName, environment: Mapping[str, str], *, embedded: bool
) -> AsyncIterator[Previewer]:
    async with AsyncExitStack() as stack:
        async with _naming_embedded(access, embedded=embedded):
            cluster, rehearse = await stack.enter_async_context(_asked(access, embedded=embedded))
            opened = open_previewer(cluster, access.store, target, environment, rehearse)
            previewer = await stack.enter_async_context(opened)
        yield previewer


@asynccontextmanager
async def _naming_embedded(access: Access, *, embedded: bool) -> AsyncIterator[None]:
    """Has who does not reach the cluster of the store told of the embedded one that it keeps, and how that is asked."""
    try:
        yield
    except (KubeconfigError, UnauthorizedError, UnreachableError, WrongClusterError) as error:
        if embedded or not await access.keeps_embedded():
            raise
        raise type(error)(f"{str(error).rstrip('.?')}. This store keeps an embedded cluster: {COPIED}") from None


@asynccontextmanager
async def _asked(access: Access, *, embedded: bool) -> AsyncIterator[tuple[Cluster, Rehearse | None]]:
    """The cluster to ask, and where things can be tried out, if anywhere."""
    if not embedded:
        async with open_cluster(access.kubeconfig, access.context) as cluster:
            yield cluster, None
        return
    from tidelog.engine.cli.embedded import copy_of_kept

    async with copy_of_kept(access.store) as copy:

        @asynccontextmanager
        async def rehearse() -> AsyncIterator[Cluster]:
            async with copy.fork() as fork:
                yield fork.client()

        yield copy.client(), rehearse


async def reapply_and_tell(
    access: Access,
    target: StreamName,
    moment: str,
    why: str,
    yes: bool,  # noqa: FBT001 - as anyio hands it over
    limit_s: float,
    output: Format,
    environment: Mapping[str, str],
    embedded: bool,  # noqa: FBT001
) -> int:
    """Shows what going back would do, asks, does it and waits; returns the exit code."""
    position = await anyio.to_thread.run_sync(_position, access, moment, target)
    async with _previewer(access, target, environment, embedded=embedded) as previewer:
        preview = await previewer.of_moment(target, position)
    if output != "json":
        _show(preview, target, position)
    if preview.failed:
        click.echo("A check does not pass: this plan would be refused, and nothing was asked for.", err=True)
        return NO
    if not yes:
        await anyio.to_thread.run_sync(confirm, "Go on?")
    asked = await ask(access, Request(verb="pin", target=target, position=position, why=why))
    click.echo(f"► {visible(shown(target))}: pinned to position {position}, at position {asked.position}", err=True)
    if asked.note:
        click.echo(f"{visible(asked.note[:1].upper() + asked.note[1:])}.", err=True)
    if preview.suspended:
        if output == "json":
            print_json({"stream": target, **msgspec.to_builtins(asked)})
        click.echo(f"✗ {visible(shown(target))}: it is suspended; `tidelog resume` has it applied", err=True)
        return NO
    well = await ended_well(access, target, asked, limit_s, output)
    await anyio.to_thread.run_sync(_tell_plan, access, target, asked.position or 0, preview)
    return 0 if well else NO


def _tell_plan(access: Access, target: StreamName, position: int, preview: Preview) -> None:
    """Says what became of the plan that was shown: the one that is recorded is made anew."""
    with open_archive(access.store) as archive:
        recorded = archive.last(Query(stream=target, types=("Planned",), after=position))
    if recorded is not None and isinstance(recorded.event, Planned):
        click.echo(
            f"► recorded as {recorded.event.plan}, which was made anew from {preview.plan.id}: "
            f"`tidelog show-plan {recorded.event.plan}` has what became of it",
            err=True,
        )


def _position(access: Access, moment: str, target: StreamName) -> int:
    reader = LogReader(Layout(access.store).log)
    try:
        return position_of(moment, reader, datetime.now(UTC), target)
    finally:
        reader.close()


def _ends(preview: Preview) -> str:
    return "a newer revision comes," if preview.release is None else "a newer chart comes, its spec changes,"


def _past(preview: Preview) -> str:
    return "it wanted" if preview.release is None else "was deployed"


def _show(preview: Preview, target: StreamName, position: int) -> None:
    print_plan(preview.plan, preview.verdicts, "table", preview.release)
    click.echo()
    click.echo(
        f"{visible(shown(target))} is put back to what {_past(preview)} at position {position}, and pinned there until "
        f"{_ends(preview)} or until `tidelog unpin`."
    )
    if preview.suspended:
        click.echo("It is suspended: it is pinned now, and nothing is applied until `tidelog resume`.")
    if preview.held is not None:
        click.echo("The plan will be held, and waits for `tidelog approve`.")
