"""`tidelog run`: the daemon."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec

from tidelog.engine.cli.ask import cluster_options
from tidelog.engine.cli.output import store_option
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.runtime.settings import ENVIRONMENT, NO_EFFECT, Settings, gates_of, load_settings


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """A flag for each setting, with Flux's names; those that are not given leave it to the file."""
    for field in reversed(msgspec.structs.fields(Settings)):
        name = f"--{field.encode_name}"
        if field.name == "prune_guard":
            option = click.option(f"{name}/--no-{field.encode_name}", field.name, default=None, help=_help(field.name))
        elif field.type is bool:
            # As Go's flags: `--x`, `--x=false`.
            option = click.option(name, field.name, type=bool, is_flag=False, flag_value=True, help=_help(field.name))
        elif field.name == "custom_apply_stage_kinds":
            option = click.option(name, field.name, help=_help(field.name), callback=_listed)
        else:
            variable = ENVIRONMENT.get(field.name)
            option = click.option(name, field.name, help=_help(field.name), envvar=variable, show_envvar=True)
        command = option(command)
    command = click.option("--feature-gates", help="Flux's feature gates: A=true,B=false.")(command)
    for ignored in NO_EFFECT:
        command = click.option(f"--{ignored.replace('_', '-')}", ignored, hidden=True)(command)
    return command


def _listed(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [kind.strip() for kind in value.split(",") if kind.strip()]


def _help(name: str) -> str:
    return f"The setting {name.replace('_', '-')}: `tidelog settings` explains it."


@click.command()
@cluster_options
@click.option("--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Settings, TOML.")
@click.option("--repo", help="First make a GitRepository and Kustomization of it: an address, or a directory.")
@click.option("--path", "path", default="./", show_default=True, help="With --repo: the directory in it.")
@click.option("--branch", default="main", show_default=True, help="With --repo: the branch.")
@click.option("--interval", default="1m", show_default=True, help="With --repo: how often it is asked.")
@click.option("--until-ready", is_flag=True, help="End as soon as everything is ready: 0, or 1 with the explanation.")
@click.option("--timeout", default="5m", show_default=True, help="With --until-ready: how long at most.")
@store_option
@settings_options
def run(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    config: Path | None,
    repo: str | None,
    path: str,
    branch: str,
    interval: str,
    timeout: str,
    *,
    until_ready: bool,
    **flags: Any,
) -> None:
    """Keep a cluster as its repositories say."""
    ignored = {name: value for name in NO_EFFECT if (value := flags.pop(name)) is not None}
    guard = flags.pop("prune_guard")
    if guard is not None:
        flags["prune_guard"] = {"enabled": guard}
    gates = flags.pop("feature_gates")
    if until_ready and flags["log_level"] is None:
        flags["log_level"] = "error"  # who waits for the end wants to hear of what is in the way
    settings = load_settings(
        config, (gates_of(gates) if gates else {}) | {k: v for k, v in flags.items() if v is not None}
    )
    for name in ignored:
        click.echo(f"--{name.replace('_', '-')} has no effect: {NO_EFFECT[name]}", err=True)
    from tidelog.engine.cli.serve import Bootstrap, serve

    bootstrap = Bootstrap(repo, path, branch, interval) if repo else None
    limit = Duration.parse(timeout).seconds if until_ready else None
    code = anyio.run(serve, store.absolute(), kubeconfig, context, settings, bootstrap, limit, dict(os.environ))
    raise SystemExit(code)
