"""The built-in kinds: what the server fills in, how it prepares objects, and what it refuses. Functions without IO."""

from tidelog.engine.cluster.embedded.builtin.defaults import GroupKind, set_defaults
from tidelog.engine.cluster.embedded.builtin.normal import normalise
from tidelog.engine.cluster.embedded.builtin.preparing import (
    has_generation,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from tidelog.engine.cluster.embedded.builtin.problems import (
    problems_on_create,
    problems_on_status_update,
    problems_on_update,
)
from tidelog.engine.cluster.embedded.builtin.types import load

__all__ = [
    "GroupKind",
    "has_generation",
    "load",
    "normalise",
    "prepare_create",
    "prepare_status_update",
    "prepare_update",
    "problems_on_create",
    "problems_on_status_update",
    "problems_on_update",
    "set_defaults",
]
