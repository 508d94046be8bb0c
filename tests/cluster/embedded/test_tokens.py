"""Tokens that the embedded cluster gives to service accounts."""

import pytest

from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.tokens import LIFE_MIN_S, Tokens

ACCOUNT = User("system:serviceaccount:shop:web")


def test_a_token_is_somebodys_until_it_runs_out() -> None:
    now = 1_000_000.0
    tokens = Tokens({"admin": User("admin")}, lambda: now)
    asked = tokens.request({"spec": {"expirationSeconds": LIFE_MIN_S}}, ACCOUNT)
    token = asked["status"]["token"]
    assert asked["status"]["expirationTimestamp"] == "1970-01-12T13:56:40Z"
    assert tokens.whose(token) == ACCOUNT
    now += LIFE_MIN_S
    assert tokens.whose(token) is None
    assert tokens.whose("admin") == User("admin")
    assert tokens.whose("another") is None


@pytest.mark.parametrize("seconds", [1, LIFE_MIN_S - 1, 2**33])
def test_a_token_lives_neither_too_short_nor_too_long(seconds: int) -> None:
    with pytest.raises(StatusError, match="expirationSeconds"):
        Tokens({}, lambda: 0.0).request({"spec": {"expirationSeconds": seconds}}, ACCOUNT)
