"""Groups of commands: what they are called, and how their help lists them."""

import re

import click

SO_FAR = "Tidelog looks after all sources, Kustomization and HelmRelease so far"


class Group(click.Group):
    """A group whose help says of each command what it does, in whole words."""

    elsewhere: dict[str, str] = {}  # noqa: RUF012
    """Commands that Flux has, and Tidelog not under that name, with what to type."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was typed.

        Raises:
            click.UsageError: when there is none.
        """
        if args and args[0] in self.elsewhere:
            ctx.fail(f"There is no command '{args[0]}', which Flux has: {self.elsewhere[args[0]]}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands; a line that is too long goes on below."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, short_help(command)) for name, command in commands if command is not None and not command.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def short_help(command: click.Command) -> str:
    """The first sentence of a command's help, up to where it goes into details."""
    sentence = " ".join((command.help or "").partition("\n\n")[0].split())
    return re.split(r"[:;.](?=\s|$)", sentence, maxsplit=1)[0] + "."


class Aliases(Group):
    """A group whose commands are kinds: they go by more than one name, of which the help shows one."""

    aliases: dict[str, str]
    later: dict[str, str] = {}  # noqa: RUF012
    """Names that Flux has, and Tidelog not yet, with the kinds that they mean."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, or of what the name stands for."""
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was typed; `KIND/NAME` is `KIND NAME`, as for every other command.

        Raises:
            click.UsageError: when there is none.
        """
        kind, slash, name = args[0].partition("/") if args else ("", "", "")
        if kind in self.later:
            ctx.fail(f"{self.later[kind]} is not there yet: {SO_FAR}")
        if slash:
            command = self.get_command(ctx, kind)
            if command is None or isinstance(command, click.Group):
                ctx.fail(f"{args[0]!r} is none of what `{ctx.command_path}` shows; `tidelog explain` knows all")
            args = [kind, name, *args[1:]]
        return super().resolve_command(ctx, args)
