"""The life of the log and of the engine that writes it; all in the stream `<log>/engine`."""

from tidelog.events.bodies import BodyRef
from tidelog.events.vocabulary.base import Event, event


@event("LogCreated")
class LogCreated(Event, frozen=True, kw_only=True):
    """The first event of every log."""

    log: str
    """The log's id, a UUIDv7."""
    incarnation: int
    vkey: str
    """The key (C2SP signed-note verifier key) with which checkpoints of this incarnation are signed."""
    software: str


@event("LogRestored")
class LogRestored(Event, frozen=True, kw_only=True):
    """The log goes on from a copy: what the original may have recorded after this place is not in it."""

    log: str
    incarnation: int
    vkey: str
    software: str
    root: str
    """Base64 of the Merkle root of all events before this one."""


@event("EngineStarted")
class EngineStarted(Event, frozen=True, kw_only=True):
    """A daemon opened the log to write."""

    software: str
    host: str
    pid: int


@event("EngineStopped")
class EngineStopped(Event, frozen=True, kw_only=True):
    """The daemon closed the log in good order."""

    why: str


@event("ConfigurationLoaded")
class ConfigurationLoaded(Event, frozen=True, kw_only=True):
    """The daemon works by this configuration from here on."""

    configuration: BodyRef
