"""Room for what is known of clusters that nobody answers for: such a server may tell of ever new objects."""

from typing import Final
from weakref import WeakSet

from tidelog.engine.cluster.errors import ServerError
from tidelog.engine.objects.kube import KubeObject

OBJECTS_MAX: Final = 400_000
"""Objects that are known of all other clusters together; some hundred bytes each."""
NAMED_MAX: Final = 1_024
"""Characters of an object's namespace, name, uid and version."""


class Hall:
    """All the room that there is. A namespace has no more of it than is left for anybody."""

    def __init__(self, most: int = OBJECTS_MAX) -> None:
        self._most = most
        self._rooms: WeakSet[Room] = WeakSet()

    def room(self, namespace: str) -> "Room":
        """Room for the objects of one more cluster, which a kubeconfig of a namespace leads to."""
        made = Room(self, namespace)
        self._rooms.add(made)
        return made

    def has_place(self, namespace: str) -> bool:
        """Whether one more object of a namespace's clusters may be known."""
        taken = sum(room.taken for room in self._rooms)
        own = sum(room.taken for room in self._rooms if room.namespace == namespace)
        return own < self._most - taken


class Room:
    """Room for the objects of one cluster. Made by `Hall`."""

    def __init__(self, hall: Hall, namespace: str) -> None:
        self._hall = hall
        self.namespace = namespace
        self.taken = 0
        """Objects that are known."""

    def take(self) -> None:
        """Takes the place of one object.

        Raises:
            ServerError: when there is none.
        """
        if not self._hall.has_place(self.namespace):
            raise ServerError(
                f"the server tells of more objects than may be known of the other clusters of namespace "
                f"{self.namespace}, {self.taken} of it alone: it goes unwatched"
            )
        self.taken += 1

    def give(self, places: int = 1) -> None:
        """Gives places back."""
        self.taken -= places


def check_size(obj: KubeObject) -> None:
    """An object can be known in few bytes.

    Raises:
        ServerError: when its name, uid or version is longer than any is.
    """
    metadata = obj["metadata"]
    size = sum(len(metadata.get(field) or "") for field in ("namespace", "name", "uid", "resourceVersion"))
    if size > NAMED_MAX:
        raise ServerError(f"the server tells of an object whose names have {size} characters; none is that long")
