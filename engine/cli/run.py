"""`tidelog run`: the daemon."""

import os
import posixpath
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import anyio
import click
import msgspec
from click.core import ParameterSource

from tidelog.engine.cli.ask import cluster_options
from tidelog.engine.cli.output import store_option
from tidelog.engine.cli.values import DURATION, INTERVAL, SettingValue, checked_gates, refused
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.runtime.settings import ENVIRONMENT, NO_EFFECT, REFUSED, Gates, Settings, load_settings
from tidelog.engine.verify.guard import Guard

HELP_WIDTH_MAX = 140
"""Columns of the help in a terminal that has them: a line for each option."""


class _Setting(click.Option):
    """An option whose help is the setting's own, read when somebody asks for it."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option, and its help."""
        from tidelog.engine.cli.settings import shown_default
        from tidelog.engine.runtime.settings_help import setting_told

        told = setting_told(str(self.name))
        variable = f"env var: {told.variable}; " if told.variable else ""
        self.help = f"{told.meaning}  [{variable}default: {shown_default(told.default)}]"
        return super().get_help_record(ctx)


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """A flag for each setting, with Flux's names; those that are not given leave it to the file."""
    for field in reversed(msgspec.structs.fields(Settings)):
        command = _option(field)(command)
    command = click.option(
        "--feature-gates", "gates", metavar="A=true,B=false", callback=checked_gates, help="Flux's feature gates."
    )(command)
    for ignored in NO_EFFECT:
        command = _hidden(ignored.replace("_", "-"), ignored)(command)
    for name, why in REFUSED.items():
        command = _hidden(name, name.replace("-", "_"), expose_value=False, callback=refused(why))(command)
    return command


def _option(field: msgspec.structs.FieldInfo) -> Callable[[Callable[..., None]], Callable[..., None]]:
    name = f"--{field.encode_name}"
    if field.type is Guard:
        return click.option(f"{name}/--no-{field.encode_name}", field.name, cls=_Setting, default=None)
    if field.type is bool:
        # As Go's flags: `--x`, `--x=false`.
        return click.option(name, field.name, cls=_Setting, type=bool, is_flag=False, flag_value=True)
    if typing.get_origin(field.type) is Literal:
        return click.option(name, field.name, cls=_Setting, type=click.Choice(typing.get_args(field.type)))
    if field.type == frozenset[str]:
        return click.option(name, field.name, cls=_Setting, metavar="NAME,…", multiple=True, callback=_listed)
    return click.option(
        name, field.name, cls=_Setting, type=SettingValue(field.type), envvar=ENVIRONMENT.get(field.name)
    )


def _hidden(name: str, parameter: str, **how: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A flag of Flux that is in no help. Whether it is one of Go's that need no value, nobody has to know here."""
    return click.option(f"--{name}", parameter, hidden=True, is_flag=False, flag_value="true", **how)


def _listed(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[str] | None:
    """Names with commas between them, and the option given more than once."""
    names = [name.strip() for value in values for name in value.split(",") if name.strip()]
    return names if values else None


def _inside(_: click.Context, __: click.Parameter, path: str) -> str:
    if posixpath.normpath(path.lstrip("/") or ".").split("/")[0] == "..":
        raise click.BadParameter(f"{path!r} leads out of the repository: name a directory in it, as ./apps")
    return path


def _refuse(names: Iterable[str], why: str) -> None:
    """Refuses options that would be passed over in silence.

    Raises:
        click.UsageError: when one of them was given.
    """
    ctx = click.get_current_context()
    for name in names:
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} {why}")


@click.command(context_settings={"max_content_width": HELP_WIDTH_MAX})
@cluster_options
@click.option(
    "--cluster",
    "which",
    type=click.Choice(["kubernetes", "embedded"]),
    default="kubernetes",
    show_default=True,
    help="Embedded: one in this process, that runs nothing, its objects kept in the store's directory.",
)
@click.option("--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Settings, TOML.")
@click.option("--repo", help="First make a GitRepository and Kustomization of it: an address, or a directory.")
@click.option(
    "--path", "path", default="./", show_default=True, callback=_inside, help="With --repo: the directory in it."
)
@click.option("--branch", default="main", show_default=True, help="With --repo: the branch.")
@click.option("--interval", type=INTERVAL, default="1m", show_default=True, help="With --repo: how often it is asked.")
@click.option(
    "--kubeconfig-out", type=click.Path(path_type=Path, dir_okay=False), help="Write a kubeconfig of the cluster there."
)
@click.option("--yes", is_flag=True, help="With --repo: change without asking what keeps the cluster already.")
@click.option("--until-ready", is_flag=True, help="End as soon as everything is ready: 0, or 1 with the explanation.")
@click.option("--timeout", type=DURATION, default="5m", show_default=True, help="With --until-ready: how long at most.")
@store_option
@settings_options
def run(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    which: str,
    config: Path | None,
    repo: str | None,
    path: str,
    branch: str,
    interval: Duration,
    timeout: Duration,
    gates: Gates,
    kubeconfig_out: Path | None,
    *,
    yes: bool,
    until_ready: bool,
    **flags: Any,
) -> None:
    """Keep a cluster as its repositories say."""
    if not repo:
        why = "goes with --repo; without it, sources and targets in the cluster say it"
        _refuse(("path", "branch", "interval"), why)
    ignored = {name: value for name in NO_EFFECT if (value := flags.pop(name)) is not None}
    guard = flags.pop("prune_guard")
    if guard is not None:
        flags["prune_guard"] = {"enabled": guard}
    if until_ready and flags["log_level"] is None:
        flags["log_level"] = "error"  # who waits for the end wants to hear of what is in the way
    settings = load_settings(config, gates.settings | {k: v for k, v in flags.items() if v is not None})
    for name in ignored:
        click.echo(f"--{name.replace('_', '-')} has no effect: {NO_EFFECT[name]}", err=True)
    for gate, why in gates.ignored.items():
        click.echo(f"the feature gate {gate} has no effect: {why}", err=True)
    from tidelog.engine.cli.bootstrap import Bootstrap, directory_of
    from tidelog.engine.cli.serve import connect_embedded, connect_to, serve

    if which == "embedded":
        _refuse(("kubeconfig", "context"), "does not go with --cluster embedded, which is in no kubeconfig")
        connect = connect_embedded(store.absolute(), kubeconfig_out)
    else:
        connect = connect_to(kubeconfig, context)
    if kubeconfig_out is not None and which != "embedded":
        from tidelog.engine.cluster.kubeconfig import find_access
        from tidelog.engine.cluster.kubeconfig_out import write_kubeconfig

        write_kubeconfig(kubeconfig_out, find_access(kubeconfig, context))
    bootstrap = None
    if repo:
        local = directory_of(repo)
        bootstrap = Bootstrap(repo=repo, local=local, path=path, branch=branch, interval=str(interval), confirmed=yes)
    limit = timeout.seconds if until_ready else None
    code = anyio.run(serve, store.absolute(), connect, settings, bootstrap, limit, dict(os.environ))
    raise SystemExit(code)
