"""How much is asked of an API server, and for how long it is waited for."""

from msgspec import Struct


class Limits(Struct, frozen=True):
    """How much is asked of an API server at once, and how long it may take."""

    connect_s: float = 10.0
    """Until there is a connection, TLS included."""
    call_s: float = 75.0
    """Until the whole answer is there: the API server allows itself 60 s, and is to speak first."""
    calls: int = 32
    """Calls at one time, each with its connection. Watches have connections of their own."""
    tries: int = 5
    """Of one call, while the server says that it is busy."""
    busy_s: float = 10.0
    """Waited in all between the tries of one call. Who asks for longer is answered by the error: the caller may have
    other things to do meanwhile."""
    answer_bytes: int = 1 << 30
    """Of one answer that is read as a whole, as it is decompressed: a page of 500 objects, each of 1.5 MB at most."""


class Bounds(Struct, frozen=True):
    """How much is taken of what a server tells, where it alone says how much that is."""

    object_bytes: int = 1 << 30
    """Of an answer that is one object."""
    list_bytes: int = 1 << 40
    """Of all pages of a list that go by one after the other."""
    whole_bytes: int = 8 << 30
    """Of all pages of a list that are held at once."""
    change_bytes: int = 64 << 20
    """Of one change that a watch tells. etcd holds no object beyond some MiB, nor should an extension API server."""
