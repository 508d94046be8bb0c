"""The command `tidelog`."""

import sys
from importlib.metadata import version
from typing import NoReturn

import click

from tidelog.engine.cli.ask import approve, mark, reconcile, reject, resume, suspend, unpin
from tidelog.engine.cli.demo import demo
from tidelog.engine.cli.events import events
from tidelog.engine.cli.explain import explain
from tidelog.engine.cli.get import get
from tidelog.engine.cli.groups import Group
from tidelog.engine.cli.history import history
from tidelog.engine.cli.install import check, install, uninstall
from tidelog.engine.cli.log import log
from tidelog.engine.cli.output import NO, visible
from tidelog.engine.cli.plan import plan, reapply
from tidelog.engine.cli.plans import plans, show_plan
from tidelog.engine.cli.run import run
from tidelog.engine.cli.settings import settings
from tidelog.engine.cli.trace import trace
from tidelog.engine.cli.tree import tree
from tidelog.engine.cluster.errors import ClusterError
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
from tidelog.engine.views.names import NotThereError, UnclearNameError
from tidelog.events.names import MalformedNameError
from tidelog.events.note import NoteError
from tidelog.storage.errors import BodyNotFoundError, MomentError, StoreError

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
INTERRUPTED = 130
"""Exit code when a person ended it with Ctrl-C."""
USAGE = 2
"""Exit code when what was typed means nothing; click has the same."""
FAILED = 3
"""Exit code when what was asked for could not be done."""


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("tidelog"), prog_name="tidelog")
def cli() -> None:
    """Tidelog: a GitOps engine with a perfect memory."""


for command in (
    approve,
    check,
    demo,
    events,
    explain,
    get,
    history,
    install,
    log,
    mark,
    plan,
    plans,
    reapply,
    reconcile,
    reject,
    resume,
    run,
    settings,
    show_plan,
    suspend,
    trace,
    tree,
    uninstall,
    unpin,
):
    cli.add_command(command)


def main() -> None:
    """Runs the command line; errors that a person can do something about are a sentence, not a traceback."""
    try:
        # What a command ends with: None, or the code that it gave to `ctx.exit`.
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except ABSENT as error:
        sentence = visible(str(error))
        click.echo(f"{sentence[:1].upper()}{sentence[1:]}.", err=True)
        sys.exit(NO)
    except MALFORMED as error:
        _end(error, USAGE)
    except BaseExceptionGroup as errors:
        _end_group(errors)
    except (*KNOWN, OSError, UnicodeError, MemoryError) as error:
        _end(error, FAILED)


def _end_group(errors: BaseExceptionGroup[BaseException]) -> NoReturn:
    """Of tasks that failed together: the sentence of the first, if each has one."""
    known, rest = errors.split((*KNOWN, OSError))
    interrupted, rest = (None, None) if rest is None else rest.split(KeyboardInterrupt)
    if rest is not None:
        raise rest
    if known is None:
        sys.exit(INTERRUPTED if interrupted else FAILED)
    first: BaseException = known
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    _end(first, FAILED)


def _end(error: BaseException, code: int) -> NoReturn:
    click.secho(f"Error: {visible(str(error))}", err=True, fg="red")
    sys.exit(code)


if __name__ == "__main__":
    main()
