"""`tidelog install`, `check` and `uninstall`: what of the engine is in a cluster."""

import os
from functools import partial
from pathlib import Path

import anyio
import click

from tidelog.engine.cli.ask import cluster_options, is_embedded_of, which_option
from tidelog.engine.cli.output import Format, output_option, store_option
from tidelog.engine.cli.values import of_flux

namespace_option = click.option(
    "-n",
    "--namespace",
    default="flux-system",
    envvar="FLUX_SYSTEM_NAMESPACE",
    show_default=True,
    show_envvar=True,
    help="The engine's own namespace.",
)


@click.command()
@click.option("--export", is_flag=True, help="Print the objects as YAML, and touch no cluster.")
@namespace_option
@output_option
@cluster_options
def install(kubeconfig: Path | None, context: str | None, output: Format, namespace: str, *, export: bool) -> None:
    """Put into a cluster what the daemon needs: its kinds, a namespace, and a ServiceAccount with its permissions.

    May be repeated. Where Flux is installed, its kinds are the same ones.
    """
    from tidelog.engine.cli import installation
    from tidelog.engine.cli.door import Access

    if export:
        click.echo(installation.manifests(namespace), nl=False)
        return
    anyio.run(installation.install, Access(Path(), kubeconfig, context), namespace, output)


@click.command()
@of_flux("--pre", "`check` says of each part whether it is well, also where nothing is installed yet")
@namespace_option
@output_option
@cluster_options
@which_option("as the store keeps it")
@store_option
def check(
    store: Path, kubeconfig: Path | None, context: str | None, which: str, output: Format, namespace: str
) -> None:
    """Look whether all is well: store, cluster, kinds, permissions, and who holds the Leases.

    The exit code is 1 when something is not.
    """
    from tidelog.engine.cli import installation
    from tidelog.engine.cli.door import Access

    is_embedded = is_embedded_of(which, kubeconfig, context)
    access = Access(store, kubeconfig, context)
    raise SystemExit(anyio.run(installation.check, access, namespace, output, os.environ, is_embedded))


@click.command()
@click.option("--hand-back", is_flag=True, help="Leave all that Flux needs to go on where Tidelog stopped.")
@click.option("--crds", is_flag=True, help="Delete the kinds too, and all sources and targets with them.")
@click.option("-s", "--silent", "--yes", "yes", is_flag=True, help="Do not ask.")
@of_flux("--dry-run", "what would be done is said before it is asked about, and `no` ends it")
@of_flux("--keep-namespace", "the namespace is never deleted")
@namespace_option
@output_option
@cluster_options
@store_option
def uninstall(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    output: Format,
    namespace: str,
    *,
    hand_back: bool,
    crds: bool,
    yes: bool,
) -> None:
    """Take out of a cluster what `install` put there; what was applied stays.

    Says what it will do, and asks. Without --hand-back, sources and targets lose their finalizers, so that they can be
    deleted without anything that they applied being pruned. The daemon has to be stopped.
    """
    from tidelog.engine.cli import installation
    from tidelog.engine.cli.door import Access

    if hand_back and crds:
        raise click.UsageError("--hand-back leaves the kinds to Flux, and --crds deletes them: give one of the two")
    access = Access(store, kubeconfig, context)
    work = partial(installation.uninstall, access, namespace, output, hand_back=hand_back, crds=crds, yes=yes)
    raise SystemExit(anyio.run(work))
