"""`tidelog settings`: what the daemon can be told, explained."""

from collections.abc import Iterable

import click
from rich.text import Text

from tidelog.engine.cli.output import Format, output_option, plain_facts, plain_table, print_json

# A setting may be named that is like no other option.
_ANY_NAME = {"ignore_unknown_options": True}


@click.command(context_settings=_ANY_NAME)
@click.argument("name", required=False)
@output_option
def settings(name: str | None, output: Format) -> None:
    """Explain the settings of `tidelog run`, or the one of a NAME: meaning, form, default, and what Flux calls it.

    Each is a flag, and a key of the file that --config names.
    """
    from tidelog.engine.runtime.errors import SettingsError
    from tidelog.engine.runtime.settings_help import setting_told, settings_told

    if name is None:
        found = settings_told()
        if output == "json":
            print_json(found)
        else:
            _print((one.name, shown_default(one.default), one.meaning) for one in found)
        return
    try:
        one = setting_told(name)
    except SettingsError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    if output == "json":
        print_json(one)
        return
    facts = {
        "setting": one.name,
        "flag": one.flag or "none: the file alone sets it",
        "variable": one.variable,
        "meaning": one.meaning,
        "form": one.form,
        "default": shown_default(one.default),
        "Flux": one.flux or "has none such",
    }
    plain_facts(facts).print()


def _print(rows: Iterable[tuple[str, str, str]]) -> None:
    table = plain_table("SETTING", "DEFAULT", "MEANING")
    for row in rows:
        table.add_row(*map(Text, row))
    table.print()


def shown_default(value: object) -> str:
    """A default as one would type it; empty text as what it is."""
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(value) or "(none)"
        case _:
            return str(value) if value != "" else "(empty)"
