"""`python -m bench [NAME ...]`: runs benchmarks, prints a table and keeps the figures as JSON.

Exit codes: 0 all ran, 1 a goal was missed and `--check` was given, 2 something failed to run.
"""

import sys
import traceback
from pathlib import Path

import click

from bench.figures import Figure
from bench.machine import ROOT, machine
from bench.questions import QUESTIONS
from bench.reconciling.engines import EngineName
from bench.reconciling.phases import TargetKind, Workload
from bench.report import Result, as_json, keep, show
from bench.session import Session

EVENTS = 1_000_000
EVENTS_QUICK = 50_000
IDLE_S = 60.0
IDLE_QUICK_S = 5.0
MISSED = 1
FAILED = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(sorted(QUESTIONS)), metavar="[NAME]...")
@click.option("--list", "listing", is_flag=True, help="Say which benchmarks there are.")
@click.option("--explain", is_flag=True, help="Say what is measured, against which floor, and why that is fair.")
@click.option("--events", type=click.IntRange(min=1_000), help=f"Events of the big log.  [default: {EVENTS:,}]")
@click.option("--quick", is_flag=True, help=f"A log of {EVENTS_QUICK:,} events and fewer rounds: to try, not to tell.")
@click.option("-n", "--targets", type=click.IntRange(min=1), default=100, show_default=True, help="mttp: of the fleet.")
@click.option(
    "--kind",
    type=click.Choice(["kustomization", "helmrelease"]),
    default="kustomization",
    show_default=True,
    help="mttp: of the targets.",
)
@click.option(
    "--engine",
    type=click.Choice(["tidelog", "external"]),
    default="tidelog",
    show_default=True,
    help="mttp: what is measured.",
)
@click.option(
    "--engine-command",
    "commands",
    multiple=True,
    help="mttp: starts an external engine, where KUBECONFIG says; or more.",
)
@click.option("--apart", is_flag=True, help="mttp: a namespace for each target, so that none share a build.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print.")
@click.option(
    "--keep",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the big log in this directory, and use it again; all else is measured on its disk too.",
)
@click.option(
    "--results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=ROOT / "bench" / "results" / "latest.json",
    help="The file that keeps the figures.  [default: bench/results/latest.json]",
)
@click.option("--check", is_flag=True, help="Exit with 1 when a goal is missed.")
def main(
    names: tuple[str, ...],
    *,
    listing: bool,
    explain: bool,
    events: int | None,
    quick: bool,
    targets: int,
    kind: TargetKind,
    engine: EngineName,
    commands: tuple[str, ...],
    apart: bool,
    output: str,
    directory: Path | None,
    results: Path,
    check: bool,
) -> None:
    """Measures Tidelog against floors that are measured in the same run; all benchmarks, or those named."""
    if listing or explain:
        _tell(names, in_full=explain)
        return
    if (engine == "external") != bool(commands):
        raise click.UsageError("--engine external and --engine-command need each other")
    idle_s = IDLE_QUICK_S if quick else IDLE_S
    workload = Workload(kind=kind, targets=targets, engine=engine, commands=commands, apart=apart, idle_s=idle_s)
    events = events or (EVENTS_QUICK if quick else EVENTS)
    with Session(events=events, quick=quick, keep=directory, workload=workload) as session:
        result = _run(session, names)
    keep(result, results)
    if output == "json":
        click.echo(as_json(result))
    else:
        show(result)
    if result.failed:
        sys.exit(FAILED)
    if check and result.missed:
        sys.exit(MISSED)


def _tell(names: tuple[str, ...], *, in_full: bool) -> None:
    for question in QUESTIONS.values():
        if names and question.name not in names:
            continue
        if in_full:
            click.echo(f"{question.name}\n\n{question.explanation.strip()}\n\n")
        else:
            click.echo(f"{question.name:17}{question.title}{'' if question.by_default else ' (only when named)'}")


def _run(session: Session, names: tuple[str, ...]) -> Result:
    about = machine(session.scratch)
    figures: list[Figure] = []
    failed: list[str] = []
    for question in QUESTIONS.values():
        if question.name not in names if names else not question.by_default:
            continue
        try:
            figures += question.measure(session)
        except Exception:  # noqa: BLE001 - the others can still be answered
            traceback.print_exc()
            failed.append(question.name)
    return Result(machine=about, events=session.events, quick=session.quick, failed=failed, figures=figures)


if __name__ == "__main__":
    main(prog_name="python -m bench")
