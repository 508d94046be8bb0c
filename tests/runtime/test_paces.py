"""How often what a server tells is recorded that nobody answers for."""

import pytest

from tidelog.engine.runtime.watching.paces import AT_ONCE, BODY_BYTES, EVERY_S, KEPT_MAX, Paces
from tidelog.events.bodies import Body


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_so_many_at_once_and_then_one_a_minute() -> None:
    clock = Clock()
    paces = Paces(clock)
    for _ in range(AT_ONCE):
        assert paces.wait_s("a") == 0
        paces.charge("a")
    assert paces.wait_s("a") == EVERY_S
    assert paces.wait_s("b") == 0, "each by itself"
    clock.now += EVERY_S
    assert paces.wait_s("a") == 0
    paces.charge("a")
    assert paces.wait_s("a") == EVERY_S
    clock.now += AT_ONCE * EVERY_S
    for _ in range(AT_ONCE):
        assert paces.wait_s("a") == 0
        paces.charge("a")
    assert paces.wait_s("a") > 0


def test_what_is_large_counts_for_more() -> None:
    paces = Paces(Clock())
    paces.charge("a", [Body.of(b"x" * (2 * AT_ONCE * BODY_BYTES))])
    assert paces.wait_s("a") == pytest.approx((AT_ONCE + 2) * EVERY_S)


def test_what_has_been_paid_is_forgotten() -> None:
    clock = Clock()
    paces = Paces(clock)
    for number in range(20 * KEPT_MAX):
        clock.now += EVERY_S
        paces.charge(str(number))
    assert len(paces) <= KEPT_MAX + 1
