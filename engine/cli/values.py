"""Values of options, looked at as they are typed: what is wrong is said with the option, and what is right."""

from collections.abc import Callable
from typing import Any

import click

from tidelog.engine.kinds.durations import Duration, Interval, MalformedDurationError
from tidelog.engine.runtime.errors import SettingsError
from tidelog.engine.runtime.settings import Gates, form_of, gates_of, read_setting


class SettingValue(click.ParamType[Any]):
    """The value of a setting, left as it was typed."""

    def __init__(self, type_: Any) -> None:
        self._type = type_
        form = form_of(type_)
        self.name = "duration" if "duration" in form else "integer" if "number" in form else "text"
        if form.startswith("a list"):
            self.name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Looks at it.

        Raises:
            click.BadParameter: when it is none of that setting.
        """
        try:
            read_setting(self._type, value)
        except SettingsError as error:
            self.fail(str(error), param, ctx)
        return value


class DurationValue(click.ParamType[Duration]):
    """A length of time, none below zero."""

    name = "duration"

    def __init__(self, type_: type[Duration] = Duration) -> None:
        self._type = type_

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        """The length of time that was typed.

        Raises:
            click.BadParameter: when it is none.
        """
        if isinstance(value, Duration):
            return value
        try:
            found = self._type.parse(value)
        except MalformedDurationError as error:
            self.fail(str(error), param, ctx)
        if found < 0:
            self.fail(f"{value!r} is below zero", param, ctx)
        return found


DURATION = DurationValue()
INTERVAL = DurationValue(Interval)
"""As an object of the API may have it (Flux contract CM-014)."""


def checked_gates(_: click.Context, __: click.Parameter, text: str | None) -> Gates:
    """What `--feature-gates` comes to.

    Raises:
        click.BadParameter: for a gate that Flux does not have, or that is refused here.
    """
    try:
        return gates_of(text or "")
    except SettingsError as error:
        raise click.BadParameter(str(error)) from None


def refused(why: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    """A check for an option that cannot be had, which says what to do instead."""

    def checked(_: click.Context, __: click.Parameter, text: str | None) -> None:
        if text is not None:
            raise click.BadParameter(why)

    return checked


def of_flux(
    name: str, instead: str, *, has_value: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """An option that Flux's command has, and this one not: who gives it is told what to do instead."""

    def told(_: click.Context, __: click.Parameter, value: object) -> None:
        if value:
            raise click.UsageError(f"There is no {name} here, which Flux has: {instead}")

    names = (name, f"of_flux_{name.strip('-').replace('-', '_')}")
    if has_value:
        return click.option(*names, hidden=True, expose_value=False, callback=told)
    return click.option(*names, is_flag=True, hidden=True, expose_value=False, callback=told)


class WhyValue(click.ParamType[str]):
    """A reason. Flux's commands ask for none: who leaves it out is told what it is for."""

    name = "text"

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's
        """What is added to the sentence that it is missing."""
        return 'It stays in the log, with who did it: --why "…"'


def not_blank(what: str) -> Callable[[click.Context, click.Parameter, str], str]:
    """A check for a text, which refuses a blank one and says what it should say."""

    def checked(_: click.Context, __: click.Parameter, text: str) -> str:
        if not text.strip():
            raise click.BadParameter(f"it is empty: say {what}")
        return text

    return checked
