"""The command `tidelog`."""

import sys
from importlib.metadata import version

import click

from tidelog.engine.cli.demo import demo
from tidelog.engine.cli.log import log
from tidelog.engine.cli.output import visible
from tidelog.engine.moments import MalformedMomentError
from tidelog.events.names import MalformedNameError
from tidelog.events.note import NoteError
from tidelog.storage.errors import StoreError

KNOWN = (StoreError, NoteError, MalformedMomentError, MalformedNameError)
"""Errors that say in a sentence what happened and what to do."""
INTERRUPTED = 130
"""Exit code when a person ended it with Ctrl-C."""
FAILED = 3
"""Exit code when what was asked for could not be done (1: it was done, and the answer is no; 2: wrong usage)."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("tidelog"), prog_name="tidelog")
def cli() -> None:
    """Tidelog: a GitOps engine with a perfect memory."""


cli.add_command(log)
cli.add_command(demo)


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
    except (*KNOWN, OSError, UnicodeError, MemoryError) as error:
        click.secho(f"Error: {visible(str(error))}", err=True, fg="red")
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
