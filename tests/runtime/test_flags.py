"""What the flags about time come to."""

from inspect import signature
from typing import Any

import pytest

from tidelog.engine.kinds.durations import Duration
from tidelog.engine.runtime.context import Engine
from tidelog.engine.runtime.settings import Settings


def engine(chance: float = 0.5, **settings: Any) -> Engine:
    """An engine by some settings, of which nothing else is asked."""
    required = [name for name, one in signature(Engine).parameters.items() if one.default is one.empty]
    parts: dict[str, Any] = dict.fromkeys(required) | {"settings": Settings(**settings), "chance": lambda: chance}
    return Engine(**parts)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 95.0), (0.5, 100.0), (1.0, 105.0)])
def test_intervals_vary_by_the_percentage_up_and_down(chance: float, seconds: float) -> None:
    assert engine(chance).jittered(100) == pytest.approx(seconds)
    assert engine(chance, interval_jitter_percentage=0).jittered(100) == pytest.approx(100)
    wide = engine(chance, interval_jitter_percentage=50).jittered(100)
    assert wide == pytest.approx(100 + 10 * (seconds - 100))


def test_retries_back_off_from_the_shortest_delay_to_the_longest() -> None:
    usual = engine()
    assert [usual.backoff(failures) for failures in (1, 2, 3, 4)] == [0.75, 1.5, 3.0, 6.0]
    assert (usual.backoff(20), usual.backoff(10_000)) == (900, 900)
    other = engine(min_retry_delay=Duration.of_seconds(2), max_retry_delay=Duration.of_seconds(5))
    assert [other.backoff(failures) for failures in (0, 1, 2, 3)] == [2, 2, 4, 5]


def test_what_writes_and_fails_is_tried_less_and_less_often() -> None:
    """Each try is in the log, whole: a `retryInterval` of a second would have it four events a second."""
    usual = engine()
    assert [usual.spaced(1, failures) for failures in (0, 1, 2, 3, 4)] == [1, 1, 1.5, 3, 6]
    tries, seconds = 0, 0.0
    while seconds < 24 * 3_600:
        tries += 1
        seconds += usual.spaced(1, tries)
    assert tries == 106
    assert usual.spaced(3_600, 50) == 3_600, "never sooner than it is asked for"
    assert [usual.spaced(1, failures, passing=True) for failures in (0, 3, 4, 50)] == [1, 3, 6, 6]
