"""`tidelog plan` and `tidelog reapply`: what would be done, shown before it is."""

import os
from pathlib import Path

import anyio
import click

from tidelog.engine.cli.ask import cluster_options, is_embedded_of, which_option, why_option
from tidelog.engine.cli.output import NO, Format, output_option, store_option
from tidelog.engine.cli.plans import PlanFormat, plan_output_option
from tidelog.engine.cli.reading import namespace_option, subject_argument
from tidelog.engine.cli.values import DURATION
from tidelog.engine.kinds.durations import Duration

REFUSED = 4
"""Exit code of `plan` when a check does not pass."""
COPIED = "copied; the copy shows what later waves would do, too"


@click.command()
@subject_argument()
@click.option(
    "--path",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take the files of this directory, the root of a repository, for those of its source; for a HelmRelease, the "
    "directory of its chart will do.",
)
@namespace_option
@plan_output_option
@cluster_options
@which_option(COPIED)
@click.option(
    "--with-dependencies",
    is_flag=True,
    help="First what the target depends on (dependsOn), each in the copy where those before it are done. Only with "
    "--cluster embedded.",
)
@store_option
def plan(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    which: str,
    output: PlanFormat,
    words: tuple[str, ...],
    directory: Path | None,
    namespace: str | None,
    *,
    with_dependencies: bool,
) -> None:
    """What reconciling a target would change in the cluster now, with the verdict of every check.

    Nothing is recorded, and nothing applied: the server is asked by dry runs. Works with a daemon and without. The plan
    is of the source's last revision, or of the files in a directory. Values of secrets are not shown.

    What needs a namespace or a kind that the plan itself makes cannot be asked about before that is there. With the
    embedded cluster it can: the waves before are applied in a fork of a copy, of which nothing is kept.

    With --with-dependencies the plans of what a target depends on come first, down to those that depend on nothing:
    what each would find is what the objects of those before it leave; hooks are not run. One that would not be applied
    at once (a check that does not pass, an approval, a suspension, a release that is given up) ends it. As JSON that is
    {"plans": [...]}.

    Of a HelmRelease it is the version of the release that would be made now, or why there would be none, with the hooks
    that would run, and where its values come from.

    The exit code is 0 when nothing would change, 1 when something would, and 4 when a check does not pass, so that
    nothing would be applied.
    """
    from tidelog.engine.cli.planning import Access, named_target, plan_and_tell, plan_chain_and_tell

    is_embedded = is_embedded_of(which, kubeconfig, context)
    if with_dependencies and not is_embedded:
        raise click.UsageError("--with-dependencies needs --cluster embedded: what comes first is done in a copy")
    access = Access(store, kubeconfig, context)
    stream = named_target(access, words, namespace)
    if with_dependencies:
        changes, refused = anyio.run(plan_chain_and_tell, access, stream, directory, output, dict(os.environ))
        raise SystemExit(REFUSED if refused else NO if changes else 0)
    changes, refused = anyio.run(plan_and_tell, access, stream, directory, output, dict(os.environ), is_embedded)
    raise SystemExit(REFUSED if refused else NO if changes else 0)


@click.command()
@subject_argument()
@click.option(
    "--at",
    "moment",
    required=True,
    help="A position (120), a time (2026-11-23T14:05Z), how long ago ('2h ago'), a revision (main@sha1:4a3b…), or of a "
    "HelmRelease the version of a chart (1.2.3).",
)
@why_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout", type=DURATION, default="5m", show_default=True, help="How long to wait for the outcome at most."
)
@namespace_option
@output_option
@cluster_options
@which_option(COPIED)
@store_option
def reapply(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    which: str,
    output: Format,
    words: tuple[str, ...],
    namespace: str | None,
    moment: str,
    why: str,
    timeout: Duration,
    *,
    yes: bool,
) -> None:
    """Put a target back to what it wanted at a past moment.

    Shows the plan for that against the cluster of today, with its verdicts, and asks. Then the target is pinned there:
    it is still looked after, so that drift is corrected, but the revision that was left is not applied again. A newer
    revision ends the pin, and so does `tidelog unpin`. Nothing is suspended, and nothing is reverted in Git.

    A HelmRelease goes back to the version that was deployed at that moment, made anew from the log as a new version of
    the release, even when Helm has it no more; with the version of a chart, to the last that was deployed with it. A
    newer chart ends its pin, and so does another spec.

    What is applied is planned anew, under an id of its own, which is said in the end. Without a daemon, and while the
    target is suspended, it is pinned, and applied later.

    The exit code is 0 when the target is ready there, and 1 when it is not, or not yet, or a check does not pass.
    """
    from tidelog.engine.cli.planning import Access, named_target, reapply_and_tell

    is_embedded = is_embedded_of(which, kubeconfig, context)
    access = Access(store, kubeconfig, context)
    stream, environment = named_target(access, words, namespace), dict(os.environ)
    code = anyio.run(
        reapply_and_tell, access, stream, moment, why, yes, timeout.seconds, output, environment, is_embedded
    )
    raise SystemExit(code)
