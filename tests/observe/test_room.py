"""Room for what is known of clusters that nobody answers for."""

import gc

import pytest

from tidelog.engine.cluster.errors import ServerError
from tidelog.engine.observe.room import Hall, check_size


def test_a_namespace_gets_no_more_than_is_left_for_anybody() -> None:
    hall = Hall(8)
    one, other = hall.room("a"), hall.room("a")
    for room in (one, other, one, other):
        room.take()
    with pytest.raises(ServerError, match="namespace a, 2 of it alone"):
        one.take()
    another = hall.room("b")
    another.take()
    another.take()
    with pytest.raises(ServerError, match="namespace b"):
        another.take()
    one.give(2)
    another.take()


def test_what_is_watched_no_more_takes_no_room() -> None:
    hall = Hall(4)
    one = hall.room("a")
    one.take()
    one.take()
    del one
    gc.collect()
    other = hall.room("a")
    other.take()
    other.take()


def test_names_without_end_are_refused() -> None:
    usual = {"namespace": "n", "name": "a", "uid": "u", "resourceVersion": "1"}
    check_size({"metadata": usual})
    for field in usual:
        with pytest.raises(ServerError, match="characters"):
            check_size({"metadata": usual | {field: "9" * 2_000}})
