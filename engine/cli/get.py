"""`tidelog get`: how sources and targets stand, with the names and columns of `flux get`."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import msgspec
from rich.text import Text

from tidelog.engine.cli.groups import Aliases
from tidelog.engine.cli.output import (
    NO,
    Format,
    as_yaml,
    output_option,
    plain_table,
    print_json,
    print_structs,
    print_text,
    store_option,
)
from tidelog.engine.cli.reading import (
    all_namespaces_option,
    at_option,
    namespace_option,
    reading,
    subject_argument,
    tell_if_nobody_is_at_work,
)
from tidelog.engine.cli.values import of_flux
from tidelog.engine.terminal import shortened, visible
from tidelog.engine.views.listing import Listed, listed
from tidelog.engine.views.names import (
    BUCKET,
    EXTERNAL_ARTIFACT,
    GIT_REPOSITORY,
    HELM_CHART,
    HELM_RELEASE,
    HELM_REPOSITORY,
    KUSTOMIZATION,
    OCI_REPOSITORY,
    SOURCES,
    TARGETS,
    default_namespace,
    find,
)
from tidelog.engine.views.objects import UnseenError, object_of
from tidelog.events.moment import shown_time

READY_STYLES = {"True": "green", "False": "red", "Unknown": "yellow"}
SELECTORS = ("ready=true", "ready=false", "ready=unknown")
NO_LIST = "`get` lists sources and targets, and not {kind!r}; `get KIND/NAME` shows one object that a target applied"


class _Kinds(Aliases):
    aliases = {  # noqa: RUF012
        **dict.fromkeys(("ks", "kustomization"), "kustomizations"),
        **dict.fromkeys(("hr", "helmrelease"), "helmreleases"),
        **dict.fromkeys(("git", "gitrepo", "gitrepository"), "gitrepositories"),
        "source": "sources",
    }
    later = {  # noqa: RUF012
        **dict.fromkeys(("alert", "alerts"), "Alert"),
        **dict.fromkeys(("alert-provider", "alert-providers"), "Provider"),
        **dict.fromkeys(("receiver", "receivers"), "Receiver"),
        **dict.fromkeys(("image", "images"), "Image automation"),
        **dict.fromkeys(("artifact", "artifacts"), "ArtifactGenerator"),
    }

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was typed; of any other kind, `KIND/NAME` and `KIND NAME` are an object.

        Raises:
            click.UsageError: when there is none.
        """
        kind, slash, _ = args[0].partition("/") if args else ("", "", "")
        if kind and kind not in self.later and self.get_command(ctx, kind) is None:
            named = bool(slash) or (len(args) > 1 and not args[1].startswith("-"))
            if not named and not ctx.resilient_parsing:
                ctx.fail(NO_LIST.format(kind=kind))
            args = ["object", *args]
        return super().resolve_command(ctx, args)


class _Sources(Aliases):
    aliases = {  # noqa: RUF012
        **dict.fromkeys(("gitrepository", "gitrepositories"), "git"),
        **dict.fromkeys(("ocirepository", "ocirepositories", "ocirepo"), "oci"),
        "buckets": "bucket",
        **dict.fromkeys(("helmrepository", "helmrepositories", "helmrepo"), "helm"),
        **dict.fromkeys(("helmchart", "helmcharts", "hc"), "chart"),
        **dict.fromkeys(("externalartifact", "externalartifacts", "ea"), "external"),
    }


@click.group(cls=_Kinds)
def get() -> None:
    """How sources and targets stand, now or as of any moment.

    `get KIND/NAME` or `get KIND NAME` shows an object of any other kind, as `get object` does.
    """


@get.command("object")
@subject_argument()
@namespace_option
@at_option
@click.option(
    "-o",
    "--output",
    "output",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    help="How to print: for people, or JSON for programs.",
)
@store_option
def object_(store: Path, output: str, words: tuple[str, ...], namespace: str | None, moment: str | None) -> None:
    """An object that targets own, with its status, as it was last seen.

    A status that changes again within a minute is recorded when that is over. Of a secret object, and of what
    nobody applied through Tidelog, nothing is shown, and it exits with 1.
    """
    with reading(store, moment) as archive:
        try:
            found = object_of(archive, find(archive, words, namespace))
        except UnseenError as error:
            click.echo(f"{visible(str(error))}.", err=True)
            sys.exit(NO)
        if output == "json":
            print_json(found)
        else:
            print_text(as_yaml(msgspec.json.encode(found)).decode())
            tell_if_nobody_is_at_work(store, archive, moment, "table")


@get.group("sources", cls=_Sources)
def sources() -> None:
    """Sources."""


def _refuse_to_watch(_: click.Context, __: click.Parameter, watch: bool) -> None:  # noqa: FBT001 - as click calls it
    """Flux's `get` has it."""
    if watch:
        raise click.UsageError("`get` does not go on: `tidelog events -w` tells each event as it comes")


def _command(
    group: click.Group,
    name: str,
    kinds: tuple[tuple[str, str], ...],
    help_: str,
    *,
    what: str = "",
    hidden: bool = False,
) -> None:
    """Adds the command that lists some kinds; of several, `what` is one of them in a word."""
    what = what or kinds[0][1]

    @group.command(name, help=help_, hidden=hidden)
    @click.argument("name", required=False)
    @click.option(
        "--status-selector", "selector", type=click.Choice(SELECTORS), help="Only those that are ready or not."
    )
    @click.option("-w", "--watch", is_flag=True, hidden=True, expose_value=False, callback=_refuse_to_watch)
    @of_flux("--show-source", "`tidelog trace KIND/NAME` shows the source, and `tidelog explain` what holds it")
    @of_flux("--label-selector", "the log has no labels: `kubectl get --selector` does", has_value=True)
    @of_flux("-l", "the log has no labels: `kubectl get -l` does", has_value=True)
    @click.option("--no-header", is_flag=True, help="Do not print the columns' headings.")
    @namespace_option
    @all_namespaces_option
    @at_option
    @output_option
    @store_option
    def command(
        store: Path,
        output: Format,
        name: str | None,
        selector: str | None,
        namespace: str | None,
        moment: str | None,
        *,
        everywhere: bool,
        no_header: bool,
    ) -> None:
        where = None if everywhere else namespace or default_namespace()
        with reading(store, moment) as archive:
            rows = [
                row for row in listed(archive, kinds, where) if name in (None, row.name) and _is_chosen(row, selector)
            ]
            position = archive.position
            if output == "json":
                print_structs(rows)
            elif rows:
                _print(rows, everywhere=everywhere, with_kind=len(kinds) > 1, header=not no_header)
            if rows:
                tell_if_nobody_is_at_work(store, archive, moment, output)
        if not rows:
            place = "any namespace" if where is None else f"namespace {where}"
            wanted = what if name is None else f"{what} {name}"
            of = "" if selector is None else f" that is {selector}"
            then = "" if moment is None else f" at position {position}"
            click.echo(f"There is no {visible(wanted)}{of} in {visible(place)}{then}.", err=True)
            if name is not None:
                sys.exit(NO)


def _is_chosen(row: Listed, selector: str | None) -> bool:
    return selector is None or selector == f"ready={row.ready.lower()}"


def _print(rows: Sequence[Listed], *, everywhere: bool, with_kind: bool, header: bool) -> None:
    headings = ("NAME", "REVISION", "SUSPENDED", "READY", "MESSAGE")
    table = plain_table(*(("NAMESPACE", *headings) if everywhere else headings))
    table.show_header = header
    for row in rows:
        name = f"{row.kind.lower()}/{row.name}" if with_kind else row.name
        cells = [
            Text(visible(name)),
            Text(visible(shortened(row.revision or ""))),
            Text(str(row.suspended), style="yellow" if row.suspended else ""),
            Text(row.ready, style=READY_STYLES[row.ready]),
            Text(visible(shortened(row.message))),
        ]
        table.add_row(*([Text(visible(row.namespace)), *cells] if everywhere else cells))
    table.print()
    for row in rows:
        _print_hints(row)


def _print_hints(row: Listed) -> None:
    """Who switched automation off, or pinned a target: beside the table, not in it, for who cuts its columns."""
    tell = partial(click.echo, err=True)
    if row.suspension is not None:
        until = f", until {shown_time(row.suspension.until)}" if row.suspension.until else ""
        tell(visible(f"► {row.name} is suspended by {row.suspension.by}: {row.suspension.why}{until}"))
    if row.pin is not None:
        pin = row.pin
        told = f"► {row.name} is pinned by {pin.by} to {pin.moment}, and not at {pin.left}: {pin.why}"
        tell(visible(shortened(told)))


_command(sources, "git", (GIT_REPOSITORY,), "GitRepositories.")
_command(sources, "oci", (OCI_REPOSITORY,), "OCIRepositories.")
_command(sources, "bucket", (BUCKET,), "Buckets.")
_command(sources, "helm", (HELM_REPOSITORY,), "HelmRepositories.")
_command(sources, "chart", (HELM_CHART,), "HelmCharts.")
_command(sources, "external", (EXTERNAL_ARTIFACT,), "ExternalArtifacts.")
_command(sources, "all", SOURCES, "Sources of all kinds.", what="source")
_command(get, "gitrepositories", (GIT_REPOSITORY,), "GitRepositories.", hidden=True)  # as kubectl has it
_command(get, "kustomizations", (KUSTOMIZATION,), "Kustomizations (ks).")
_command(get, "helmreleases", (HELM_RELEASE,), "HelmReleases (hr).")
_command(get, "all", (*SOURCES, *TARGETS), "All sources and targets.", what="source or target")
