"""What is secret in a run: which objects are, and a filter that keeps the values out of every text."""

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
