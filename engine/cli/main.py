"""The command `tidelog`."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from tidelog.engine.cli.groups import Group
from tidelog.engine.cli.output import (
    INTERRUPTED,
    NO,
    STORE,
    end_interrupted,
    end_output,
    is_unread,
    open_closed_streams,
)
from tidelog.engine.cluster.errors import ClusterError, UnknownKindError
from tidelog.engine.kinds.durations import MalformedDurationError
from tidelog.engine.moments import MalformedMomentError
from tidelog.engine.runtime.errors import (
    DoorError,
    LeaseLostError,
    PreviewError,
    RefusedError,
    SettingsError,
    WrongClusterError,
)
from tidelog.engine.sources.errors import DirectoryError, FetchError
from tidelog.engine.terminal import visible
from tidelog.engine.views.names import NotThereError, UnclearNameError
from tidelog.events.names import MalformedNameError
from tidelog.events.note import NoteError
from tidelog.storage.errors import BodyNotFoundError, MomentError, StoreError, StoreNotFoundError

ABSENT = (MomentError, BodyNotFoundError, NotThereError, RefusedError)
"""Errors that are an answer: the log was read, and lacks what was asked for; or it makes no sense as things stand."""
MALFORMED = (MalformedMomentError, MalformedNameError, UnclearNameError)
"""Errors of what was typed."""
KNOWN = (
    StoreError,
    NoteError,
    ClusterError,
    SettingsError,
    MalformedDurationError,
    LeaseLostError,
    WrongClusterError,
    DoorError,
    PreviewError,
    DirectoryError,
    FetchError,
)
"""Errors that say in a sentence what happened and what to do."""
MUTE = (click.Abort, KeyboardInterrupt)
"""What a person ends a command with, who needs not be told."""
TOLD = (click.ClickException, *ABSENT, *MALFORMED, *KNOWN, OSError)
"""Errors that are told as a sentence, also where a task group raised them."""
FLUX_KINDS = ".toolkit.fluxcd.io/"
"""What the names of Flux's kinds have in common, which are Tidelog's too."""
USAGE = 2
"""Exit code when what was typed means nothing; click has the same."""
FAILED = 3
"""Exit code when what was asked for could not be done."""
PREVIEW = "`tidelog plan KIND/NAME --path DIR` builds the files of a directory, and shows what they would change"
OBJECTS = "`kubectl` does that: sources and targets are Flux's own objects"
ARTIFACTS = "`flux` does that: it asks the registry, and no engine"


MODULES = {
    "approve": "ask",
    "check": "install",
    "cluster": "cluster",
    "demo": "demo",
    "events": "events",
    "explain": "explain",
    "get": "get",
    "history": "history",
    "install": "install",
    "log": "log",
    "mark": "ask",
    "plan": "plan",
    "plans": "plans",
    "reapply": "plan",
    "reconcile": "ask",
    "reject": "ask",
    "resume": "ask",
    "run": "run",
    "settings": "settings",
    "show-plan": "plans",
    "suspend": "ask",
    "trace": "trace",
    "tree": "tree",
    "uninstall": "install",
    "unpin": "ask",
}
"""Where each command is."""


class _Commands(Mapping[str, click.Command]):
    """All commands, each imported when it is asked for: one alone is there in half the time of all."""

    def __getitem__(self, name: str) -> click.Command:
        command: click.Command = getattr(import_module(f"tidelog.engine.cli.{MODULES[name]}"), name.replace("-", "_"))
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(MODULES)

    def __len__(self) -> int:
        return len(MODULES)


class _Root(Group):
    elsewhere = {  # noqa: RUF012
        "bootstrap": "`tidelog run --repo URL --path PATH` makes the same objects, and reconciles them",
        "build": PREVIEW,
        "completion": '`eval "$(_TIDELOG_COMPLETE=bash_source tidelog)"` has it; or zsh_source, fish_source',
        "create": OBJECTS,
        "debug": "`tidelog explain KIND/NAME` says why it is as it is, `tidelog show-plan KIND/NAME` what was planned",
        "delete": OBJECTS,
        "diff": PREVIEW,
        "envsubst": PREVIEW,
        "export": OBJECTS,
        "help": "`tidelog --help` and `tidelog COMMAND --help` say it",
        "list": ARTIFACTS,
        "logs": "`tidelog events` says what happened; the daemon logs to standard error",
        "migrate": "`flux` does that: it works on the cluster's objects, or on files, and asks no engine",
        "plugin": "what its plugins do asks no engine: `flux` runs them",
        "pull": ARTIFACTS,
        "push": ARTIFACTS,
        "stats": "`tidelog get all` and `tidelog log stat` are nearest; the daemon serves /metrics",
        "tag": ARTIFACTS,
        "trigger": "`flux` does that: it calls a webhook, whoever serves it",
        "version": "`tidelog --version` and `tidelog check` say it",
    }

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Reads what was typed, and prints the help where that is asked for."""
        with _read_or_not():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs what was typed."""
        with _read_or_not():
            return super().invoke(ctx)


@contextmanager
def _read_or_not() -> Iterator[None]:
    """Ends the command quietly where the reader of its output (`head`) has seen enough; click would say 1."""
    try:
        yield
    except BrokenPipeError:
        if is_unread():
            sys.exit(0)
        raise


@click.group(cls=_Root, commands=_Commands(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tidelog", prog_name="tidelog")
def cli() -> None:
    """Tidelog: a GitOps engine with a perfect memory."""


def main() -> None:
    """Runs the command line; errors that a person can do something about are a sentence, not a traceback."""
    open_closed_streams()
    try:
        code = _run()
    except SystemExit as ended:
        code = ended.code
    try:
        end_output()
    except OSError as error:
        code = _tell(error)
    sys.exit(code)


def _run() -> str | int | None:
    """What a command ends with: None, or an exit code."""
    try:
        code: int | None = cli.main(standalone_mode=False)
    except BaseExceptionGroup as errors:
        return _tell(_of_group(errors))
    except (*MUTE, *TOLD, UnicodeError, MemoryError) as error:
        return _tell(error)
    return code


def _of_group(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of tasks that failed together: the first error that has a sentence, else Ctrl-C; raises what is for nobody."""
    _, unforeseen = errors.split((*MUTE, *TOLD))
    if unforeseen is not None:
        raise unforeseen
    found: BaseException = errors.subgroup(TOLD) or errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _tell(error: BaseException) -> int:
    """Says on standard error what a command ended with; returns the exit code."""
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__cause__, KeyboardInterrupt):
        end_interrupted()
    if isinstance(error, MUTE):
        return INTERRUPTED
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    sentence = visible(_sentence(error))
    if isinstance(error, StoreNotFoundError) and error.path == STORE:
        sentence += ": name its directory with --store, or in TIDELOG_STORE"
    if isinstance(error, UnknownKindError) and FLUX_KINDS in sentence:
        sentence += " (`tidelog install` puts it there)"
    if isinstance(error, ABSENT):
        click.echo(f"{sentence[:1].upper()}{sentence[1:]}.", err=True)
        return NO
    colour = False if os.environ.get("NO_COLOR") else None  # click knows of terminals only
    click.secho(f"Error: {sentence}", err=True, fg="red", color=colour)
    return USAGE if isinstance(error, MALFORMED) else FAILED


def _sentence(error: BaseException) -> str:
    """What an error says; of one of the system, without its number, and with what it was about."""
    if isinstance(error, OSError) and error.strerror:
        about = "" if error.filename is None else f"{error.filename}: "
        return f"{about}{error.strerror}"
    if isinstance(error, TimeoutError) and not str(error):
        return "an answer did not come in time"
    return str(error)


if __name__ == "__main__":
    main()
