"""Conflicts of an apply with what others own, in the server's words."""

from typing import NamedTuple

from tidelog.engine.cluster.embedded import fieldsets
from tidelog.engine.cluster.embedded.causes import shown
from tidelog.engine.cluster.embedded.managers import UPDATE, Managed
from tidelog.engine.objects.kube import KubeObject


class FieldConflict(NamedTuple):
    """A field that another manager owns, with another value."""

    manager: str
    operation: str
    subresource: str
    api_version: str
    time: str
    field: str
    """As the server writes it: `.spec.replicas`."""

    @property
    def owner(self) -> str:
        """The other manager in the server's words; the version only of those who update."""
        said = shown(self.manager)
        if self.subresource:
            said += f" with subresource {shown(self.subresource)}"
        return f"{said} using {self.api_version}" if self.operation == UPDATE else said


class FieldConflictsError(Exception):
    """Raised when fields that are applied are owned by others, and the apply is not forced."""

    def __init__(self, conflicts: tuple[FieldConflict, ...]) -> None:
        self.conflicts = conflicts
        self.message = _conflicts_text(conflicts)
        super().__init__(self.message)

    def causes(self) -> list[KubeObject]:
        """As they stand in `details.causes` of a Status."""
        return [
            {"reason": "FieldManagerConflict", "message": f"conflict with {each.owner}", "field": each.field}
            for each in self.conflicts
        ]


def _conflicts_text(conflicts: tuple[FieldConflict, ...]) -> str:
    if len(conflicts) == 1:
        return f"Apply failed with 1 conflict: conflict with {conflicts[0].owner}: {conflicts[0].field}"
    lines: list[str] = []
    owner = ""
    for conflict in conflicts:
        if conflict.owner != owner:
            owner = conflict.owner
            lines.append(f"conflicts with {owner}:")
        lines.append(f"- {conflict.field}")
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


def conflicts_of(by_manager: Managed) -> tuple[FieldConflict, ...]:
    """The conflicts that managers' fields are, in order."""
    found = []
    for manager in sorted(by_manager, key=lambda each: each.text):
        owned = by_manager[manager]
        for path in fieldsets.paths(owned.fields):
            text = fieldsets.server_text(path)
            found.append(
                FieldConflict(
                    manager.name, manager.operation, manager.subresource, owned.version, owned.time or "", text
                )
            )
    return tuple(found)
