"""`tidelog tree`: what a target applied."""

from pathlib import Path

import click
from rich.text import Text
from rich.tree import Tree

from tidelog.engine.cli.get import READY_STYLES
from tidelog.engine.cli.groups import Aliases
from tidelog.engine.cli.output import Format, console, output_option, print_json, store_option
from tidelog.engine.cli.reading import at_option, namespace_option, reading, tell_if_nobody_is_at_work
from tidelog.engine.terminal import visible
from tidelog.engine.views.names import HELM_RELEASE, KUSTOMIZATION, find
from tidelog.engine.views.sentences import field_sentence
from tidelog.engine.views.trees import Node, tree_of
from tidelog.events.names import ObjectKey

MARKS = {
    "Current": ("✔", "green"),
    "InProgress": ("◎", "yellow"),
    "Terminating": ("◎", "yellow"),
    "Failed": ("✗", "red"),
    "NotFound": ("✗", "red"),
}


STANDS = {"True": "ready", "False": "not ready", "Unknown": "reconciling"}


class _Kinds(Aliases):
    aliases = {  # noqa: RUF012
        **dict.fromkeys(("ks", "kustomizations"), "kustomization"),
        **dict.fromkeys(("hr", "helmreleases"), "helmrelease"),
    }


@click.group(cls=_Kinds)
def tree() -> None:
    """What a target applied, as a tree: with health, and with what somebody changed since."""


def _command(kind: tuple[str, str], help_: str) -> None:
    group, name_of_kind = kind

    @tree.command(name_of_kind.lower(), help=help_)
    @click.argument("name")
    @click.option("--compact", is_flag=True, help="Only sources and targets.")
    @namespace_option
    @at_option
    @output_option
    @store_option
    def command(
        store: Path, output: Format, name: str, namespace: str | None, moment: str | None, *, compact: bool
    ) -> None:
        with reading(store, moment) as archive:
            subject = find(archive, (name_of_kind.lower(), name), namespace, group=group)
            root = tree_of(archive, subject.stream, compact=compact)
            if output == "json":
                print_json(root)
            else:
                console().print(_drawn(root, Tree(_label(root))))
            tell_if_nobody_is_at_work(store, archive, moment, output)


_command(KUSTOMIZATION, "The inventory of a Kustomization, with those of the targets in it.")
_command(HELM_RELEASE, "The inventory of a HelmRelease, with those of the targets in it.")


def _drawn(node: Node, drawn: Tree) -> Tree:
    for child in node.resources:
        _drawn(child, drawn.add(_label(child)))
    return drawn


def _label(node: Node) -> Text:
    label = Text(visible(ObjectKey.of_stream(node.stream).shown))
    mark, style = MARKS.get(node.health, ("", ""))
    if node.ready:
        label.append(f" {STANDS[node.ready]}", style=READY_STYLES[node.ready])
    elif mark:
        label.append(f" {mark} {node.health}", style=style)
    if node.drift:
        fields = ", ".join(field_sentence(field) for field in node.drift)
        label.append(visible(f" drifted: {fields}"), style="magenta")
    if node.cycle:
        label.append(" (see above)", style="dim")
    return label
