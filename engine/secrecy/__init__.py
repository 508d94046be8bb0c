"""What is secret in a run: which objects are, and a filter that keeps the values out of every text."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidelog.engine.secrecy.logs import (
        SecrecyFilter,
        filter_event,
        keeping_secret,
        secret_values,
        without_secrets,
    )
    from tidelog.engine.secrecy.objects import digests_of, is_secret, leaves
    from tidelog.engine.secrecy.values import MASK, SecretValues

__all__ = [
    "MASK",
    "SecrecyFilter",
    "SecretValues",
    "digests_of",
    "filter_event",
    "is_secret",
    "keeping_secret",
    "leaves",
    "secret_values",
    "without_secrets",
]

_MODULES = {
    "MASK": "values",
    "SecretValues": "values",
    "digests_of": "objects",
    "is_secret": "objects",
    "leaves": "objects",
}
"""Where a name is, if not in `logs`."""


def __getattr__(name: str) -> object:
    """Imports what is asked for, and no more: the worker that renders needs little of this, and starts with it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'logs')}"), name)
