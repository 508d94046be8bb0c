"""The commands that ask for something: who, and why, stays in the log."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import click
import msgspec

from tidelog.engine.cli.output import Format, output_option, store_option
from tidelog.engine.cli.reading import namespace_option, subject_argument
from tidelog.engine.cli.values import DURATION, WhyValue, not_blank, of_flux
from tidelog.engine.kinds.durations import Duration
from tidelog.engine.terminal import visible

if TYPE_CHECKING:
    from tidelog.engine.cli.several import AllOf

Command = TypeVar("Command", bound=Callable[..., Any])

why_option = click.option(
    "--why", type=WhyValue(), required=True, callback=not_blank("why"), help="Stays in the log, with who did it."
)


def cluster_options(command: Command) -> Command:
    """The options that name a cluster, as kubectl has them."""
    command = click.option("--context", help="A context of the kubeconfig.")(command)
    return click.option(
        "--kubeconfig",
        type=click.Path(path_type=Path),
        help="The cluster; else KUBECONFIG, ~/.kube/config, or the pod's own.",
    )(command)


def which_option(then: str) -> Callable[[Command], Command]:
    """The option that takes the embedded cluster of a store in the place of a kubeconfig's; `then` is what with it."""
    return click.option(
        "--cluster",
        "which",
        type=click.Choice(["kubernetes", "embedded"]),
        default="kubernetes",
        show_default=True,
        help=f"Embedded: the one of `run --cluster embedded`, {then}.",
    )


def is_embedded_of(which: str, kubeconfig: Path | None, context: str | None) -> bool:
    """Whether the embedded cluster was chosen.

    Raises:
        click.UsageError: when another one was named besides.
    """
    if which == "embedded" and (kubeconfig or context):
        raise click.UsageError(
            "--kubeconfig and --context do not go with --cluster embedded, which is in no kubeconfig"
        )
    return which == "embedded"


def wait_options(command: Command) -> Command:
    """Whether and how long to wait for what was asked for."""
    command = click.option(
        "--timeout", type=DURATION, default="5m", show_default=True, help="How long to wait at most."
    )(command)
    return click.option(
        "--wait/--no-wait", "waits", default=True, show_default=True, help="Wait for the run, and say how it ended."
    )(command)


@click.command()
@click.argument("plan", metavar="PLAN")
@why_option
@click.option("--until", help="The approval counts no longer than that: 2h, or 2026-12-24T18:00Z.")
@output_option
@store_option
def approve(store: Path, output: Format, plan: str, why: str, until: str | None) -> None:
    """Let a held plan be applied; PLAN is its id, or the beginning of it.

    It counts for this plan only: when the cluster or the repository moves, another plan is made, and held again. What
    an apply that is cut short leaves is finished without another question, if that deletes nothing else.
    """
    from tidelog.engine.cli.asking import Access, Request, ask_and_tell, time_to_come

    request = Request(verb="approve", plan=plan, why=why, until=time_to_come(until))
    ask_and_tell(Access(store), output, request, "Approved")


@click.command()
@click.argument("plan", metavar="PLAN")
@why_option
@output_option
@store_option
def reject(store: Path, output: Format, plan: str, why: str) -> None:
    """Refuse a held plan: nothing of it is applied, and its target waits for a newer revision or `reconcile`."""
    from tidelog.engine.cli.asking import Access, Request, ask_and_tell

    ask_and_tell(Access(store), output, Request(verb="reject", plan=plan, why=why), "Rejected")


@click.command()
@subject_argument()
@click.option("--with-source", is_flag=True, help="Ask its source first; of a chart, also what that is made of.")
@click.option("--force", is_flag=True, help="Of a HelmRelease: release once more, also where nothing has changed.")
@click.option("--reset", is_flag=True, help="Of a HelmRelease: try again where no attempt is left.")
@click.option("--why", default="", help="Stays in the log, with who did it.")
@wait_options
@namespace_option
@output_option
@cluster_options
@store_option
def reconcile(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    output: Format,
    words: tuple[str, ...],
    namespace: str | None,
    timeout: Duration,
    why: str,
    *,
    waits: bool,
    with_source: bool,
    force: bool,
    reset: bool,
) -> None:
    """Have a source or target reconciled now, and say how that ended.

    Without a store, it becomes the annotation that `flux reconcile` writes. Without a daemon, it is recorded, and done
    when one comes.

    The exit code is 0 when it ended ready, and 1 when it did not, not within --timeout, or when no daemon is there to
    do it. With --no-wait it is 0 as soon as it was asked for.
    """
    from tidelog.engine.cli.asking import Access, named, reconcile_and_tell

    access = Access(store, kubeconfig, context)
    stream = named(access, words, namespace)
    limit = timeout.seconds if waits else None
    raise SystemExit(anyio.run(reconcile_and_tell, access, stream, why, limit, with_source, output, force, reset))


def several_options(command: Command) -> Command:
    """The options that take all of a kind in the place of one."""
    command = click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="With --all: in all namespaces.")(
        command
    )
    return click.option(
        "--all", "of_kind", is_flag=True, help="All of a KIND in the namespace, which is named without a NAME."
    )(command)


def _all_meant(words: tuple[str, ...], namespace: str | None, *, of_kind: bool, everywhere: bool) -> "AllOf | None":
    """All of a kind, where that is meant; None where it is one thing.

    Raises:
        click.UsageError: when all namespaces are named for one thing, or a kind alone without --all.
        UnclearNameError: when all are meant of what is no kind.
    """
    from tidelog.engine.cli.several import all_named
    from tidelog.engine.views.names import default_namespace

    if of_kind:
        return all_named(words, None if everywhere else namespace or default_namespace())
    if everywhere:
        raise click.UsageError("--all-namespaces goes with --all")
    if len(words) == 1 and "/" not in words[0]:
        raise click.UsageError(f"{words[0]!r} names nothing: give KIND/NAME, or --all for all of a KIND")
    return None


@click.command()
@subject_argument("KIND[/NAME]")
@why_option
@click.option("--until", help="Resume by itself then: 2h, or 2026-12-24T18:00Z.")
@several_options
@namespace_option
@output_option
@cluster_options
@store_option
def suspend(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    output: Format,
    words: tuple[str, ...],
    namespace: str | None,
    why: str,
    until: str | None,
    *,
    of_kind: bool,
    everywhere: bool,
) -> None:
    """Leave a source or target alone from now on: nothing is fetched, applied or pruned, by Flux neither.

    With --all it is all of a kind: `tidelog suspend kustomizations --all`. One that is suspended already is suspended
    anew. Where there is none, that is said, and the exit code is 0.
    """
    from tidelog.engine.cli.asking import (
        Access,
        Request,
        ask_and_tell,
        named,
        shown,
        suspension_of,
        tell_replaced,
        time_to_come,
    )
    from tidelog.engine.cli.several import ask_of_all_and_tell

    access = Access(store, kubeconfig, context)
    request = Request(verb="suspend", why=why, until=time_to_come(until))
    which = _all_meant(words, namespace, of_kind=of_kind, everywhere=everywhere)
    if which is not None:
        raise SystemExit(anyio.run(ask_of_all_and_tell, access, output, which, request, "Suspended"))
    stream = named(access, words, namespace)
    request = msgspec.structs.replace(request, target=stream)
    earlier = suspension_of(access, stream)
    ask_and_tell(access, output, request, f"Suspended {shown(stream)}")
    if earlier is not None:
        tell_replaced(earlier, request)


@click.command()
@subject_argument("KIND[/NAME]")
@click.option("--why", default="", help="Stays in the log, with who did it.")
@of_flux("--wait", "`tidelog reconcile KIND/NAME` waits, and says how it ended")
@several_options
@namespace_option
@output_option
@cluster_options
@store_option
def resume(
    store: Path,
    kubeconfig: Path | None,
    context: str | None,
    output: Format,
    words: tuple[str, ...],
    namespace: str | None,
    why: str,
    *,
    of_kind: bool,
    everywhere: bool,
) -> None:
    """Reconcile a source or target again that was suspended.

    With --all it is all of a kind that are suspended: `tidelog resume kustomizations --all`. Where none is, that is
    said, and the exit code is 0.
    """
    from tidelog.engine.cli.asking import Access, Request, ask_and_tell, named, shown
    from tidelog.engine.cli.several import ask_of_all_and_tell

    access = Access(store, kubeconfig, context)
    request = Request(verb="resume", why=why)
    which = _all_meant(words, namespace, of_kind=of_kind, everywhere=everywhere)
    if which is not None:
        raise SystemExit(anyio.run(ask_of_all_and_tell, access, output, which, request, "Resumed"))
    stream = named(access, words, namespace)
    ask_and_tell(access, output, msgspec.structs.replace(request, target=stream), f"Resumed {shown(stream)}")


@click.command()
@subject_argument()
@why_option
@namespace_option
@output_option
@store_option
def unpin(store: Path, output: Format, words: tuple[str, ...], namespace: str | None, why: str) -> None:
    """Let a target follow its source again, which `tidelog reapply` had kept at a past moment."""
    from tidelog.engine.cli.asking import Access, Request, ask_and_tell, named_target, shown

    access = Access(store)
    stream = named_target(access, words, namespace)
    ask_and_tell(access, output, Request(verb="unpin", target=stream, why=why), f"Unpinned {shown(stream)}")


@click.command()
@click.argument("label", callback=not_blank("what is marked"))
@why_option
@output_option
@store_option
def mark(store: Path, output: Format, label: str, why: str) -> None:
    """Write a note into the log at this place: a release, an incident, a hand-over."""
    from tidelog.engine.cli.asking import Access, Request, ask_and_tell

    ask_and_tell(Access(store), output, Request(verb="mark", label=label, why=why), f"Marked {visible(label)}")
