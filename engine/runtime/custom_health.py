"""What expressions have said of the health of objects, so that an object that is as it was is not asked about again."""

from collections.abc import Mapping

import msgspec

from tidelog.engine.kinds.targets import CustomHealthCheck
from tidelog.events.names import StreamName
from tidelog.events.vocabulary.observe import Health


class Told(msgspec.Struct, frozen=True):
    """An object's health, and why nothing else is known of it."""

    health: Health
    why: str = ""


class ToldOf(msgspec.Struct, frozen=True):
    """What was told of an object at one of its versions, and by which expressions."""

    told: Told
    version: str
    check: CustomHealthCheck


class CustomHealth:
    """What expressions have said, by target: of the objects that its last look was about, and of no others."""

    def __init__(self) -> None:
        self._told: dict[StreamName, Mapping[StreamName, ToldOf]] = {}

    def of(self, target: StreamName) -> Mapping[StreamName, ToldOf]:
        """What was told of a target's objects when it was last looked at."""
        return self._told.get(target, {})

    def keep(self, target: StreamName, told: Mapping[StreamName, ToldOf]) -> None:
        """Keeps what a look at a target's objects has told."""
        if told:
            self._told[target] = told
        else:
            self.forget(target)

    def forget(self, target: StreamName) -> None:
        """Lets go of a target."""
        self._told.pop(target, None)
