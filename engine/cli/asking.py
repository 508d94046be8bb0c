"""Asking, and telling people what became of it."""

import anyio
import anyio.to_thread
import click
import msgspec

from tidelog.engine.cli.door import Access, Asked, ask, named, named_target, shown, sources_of, time_to_come, wait
from tidelog.engine.cli.output import NO, Format, print_json
from tidelog.engine.runtime.requests import Request
from tidelog.engine.runtime.telling.outcome import Outcome
from tidelog.engine.terminal import visible
from tidelog.engine.views.archive import open_archive
from tidelog.engine.views.chains import AFTER_REJECTION
from tidelog.engine.views.pins import PinTold, pin_of
from tidelog.events.moment import shown_time
from tidelog.events.names import ObjectKey, StreamName
from tidelog.events.projections import DESIRED, Suspension

__all__ = [
    "Access",
    "Request",
    "ask_and_tell",
    "ended_well",
    "named",
    "named_target",
    "reconcile_and_tell",
    "shown",
    "suspension_of",
    "tell_note",
    "tell_replaced",
    "time_to_come",
]


def ask_and_tell(access: Access, output: Format, request: Request, done: str) -> None:
    """Has a request taken, and says so."""
    asked = anyio.run(ask, access, request)
    if output == "json":
        print_json(asked)
        return
    if request.plan:
        done = f"{done} {_plan_of(access, asked) or request.plan}"
    place = f" at position {asked.position}" if asked.position is not None else ""
    click.echo(f"{visible(done)}{place}.")
    if request.verb == "reject":
        click.echo(f"Nothing of it is applied: {AFTER_REJECTION}.", err=True)
    tell_note(asked)


def _plan_of(access: Access, asked: Asked) -> str:
    """The plan that was decided of: who asked may have typed only the beginning of its id."""
    if asked.position is None or not access.has_store:
        return ""
    with open_archive(access.store) as archive:
        recorded = archive.event(asked.position)
    return str(getattr(recorded.event, "plan", "")) if recorded is not None else ""


def suspension_of(access: Access, stream: StreamName) -> Suspension | None:
    """Who suspended a source or target, as far as a log is here that knows."""
    if not access.has_store:
        return None
    with open_archive(access.store) as archive:
        row = archive.row(DESIRED, stream)
    return None if row is None else row.suspended


def tell_replaced(earlier: Suspension, request: Request, subject: str = "It") -> None:
    """Says which suspension another one took the place of, and what became of its end."""
    ended = f", until {shown_time(earlier.until)}" if earlier.until else ""
    now = f"it ends at {shown_time(request.until)} now" if request.until else "it has no end now"
    change = f"; {now}" if earlier.until != request.until else ""
    told = f"{subject} takes the place of the suspension by {earlier.by}: {earlier.why}{ended}{change}."
    click.echo(visible(told), err=True)


async def reconcile_and_tell(
    access: Access,
    stream: StreamName,
    why: str,
    limit_s: float | None,
    with_source: bool,  # noqa: FBT001 - as anyio hands it over
    output: Format,
    force: bool = False,  # noqa: FBT001, FBT002
    reset: bool = False,  # noqa: FBT001, FBT002
) -> int:
    """Has a target reconciled, after what it is made from if asked for; returns the exit code.

    Where there is nobody to do it, all of it is asked for; who waits for the end is told that it did not come.
    """
    sources = await sources_of(access, stream) if with_source else ()
    code = 0
    for one in (*sources, stream):
        is_last = one == stream
        request = Request(verb="reconcile", target=one, why=why, force=force and is_last, reset=reset and is_last)
        asked = await ask(access, request)
        click.echo(f"► {visible(shown(one))}: asked for a run", err=True)
        tell_note(asked)
        if limit_s is None:
            if output == "json" and one == stream:
                print_json({"stream": stream, **msgspec.to_builtins(asked)})
            continue
        well = await ended_well(access, one, asked, limit_s, output, last=one == stream)
        if well is False:
            return NO
        code = 0 if well else NO
    return code


async def ended_well(
    access: Access,
    stream: StreamName,
    asked: Asked,
    limit_s: float,
    output: Format,
    *,
    last: bool = True,
) -> bool | None:
    """Waits for what was asked for, says how it ended, and whether that is well.

    None where nobody is there to do it, which was said.
    """
    try:
        outcome = await wait(access, stream, asked, limit_s)
    except TimeoutError:
        # Where there is a store, it knows what is waited for.
        on = f"; `{_explanation(stream)}` says what holds it" if await access.finds_store() else ""
        click.echo(f"✗ {visible(shown(stream))}: it has not ended within {limit_s:g} s{visible(on)}", err=True)
        return False
    if outcome is None:
        if output == "json" and last:
            print_json({"stream": stream, **msgspec.to_builtins(asked)})
        return None
    well = outcome.ready == "True"
    pin = await anyio.to_thread.run_sync(_pin, access, stream)
    if output == "json" and (last or not well):
        print_json({"stream": stream, **_answer(outcome, pin)})
    click.echo(f"{'✔' if well else '✗'} {visible(f'{shown(stream)}: {_told(outcome, pin)}')}", err=True)
    return well


def _explanation(stream: StreamName) -> str:
    key = ObjectKey.of_stream(stream)
    return f"tidelog explain {key.kind.lower()}/{key.name} -n {key.namespace}"


def _pin(access: Access, stream: StreamName) -> PinTold | None:
    """What a target is kept at, as far as a log is here that knows."""
    if not access.has_store:
        return None
    with open_archive(access.store) as archive:
        return pin_of(archive, stream)


def _answer(outcome: Outcome, pin: PinTold | None) -> dict[str, object]:
    """An outcome as JSON. What is pinned is at the revision of the moment that it is kept at."""
    told: dict[str, object] = msgspec.to_builtins(outcome)
    if pin is None:
        return told
    revision = {"revision": pin.revision} if pin.revision is not None else {}
    return {**told, **revision, "pinned": pin.position}


def _told(outcome: Outcome, pin: PinTold | None) -> str:
    if outcome.ready == "True":
        if pin is not None:
            return f"ready at {pin.moment}, to which it is pinned; {pin.left} was left"
        return outcome.message or f"ready at {outcome.revision}"
    return f"{outcome.reason or 'not ready'}: {outcome.message}"


def tell_note(asked: Asked) -> None:
    """Says what is still to be done."""
    if asked.note:
        click.echo(f"{visible(asked.note[:1].upper() + asked.note[1:])}.", err=True)
