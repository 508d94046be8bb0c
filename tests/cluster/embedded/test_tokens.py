"""Tokens that the embedded cluster gives to service accounts."""

import pytest

from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.statuses import StatusError
from tidelog.engine.cluster.embedded.tokens import LIFE_MIN_S, Tokens

ACCOUNT = User("system:serviceaccount:shop:web")


def user_of(tokens: Tokens, token: str) -> User | None:
    found = tokens.known(token)
    return None if found is None else found.user


def test_a_token_is_somebodys_until_it_runs_out() -> None:
    now = 1_000_000.0
    tokens = Tokens({"admin": User("admin")}, lambda: now)
    asked = tokens.request({"spec": {"expirationSeconds": LIFE_MIN_S}}, ACCOUNT)
    token = asked["status"]["token"]
    assert asked["status"]["expirationTimestamp"] == "1970-01-12T13:56:40Z"
    assert user_of(tokens, token) == ACCOUNT
    now += LIFE_MIN_S
    assert user_of(tokens, token) is None
    assert user_of(tokens, "admin") == User("admin")
    assert user_of(tokens, "another") is None


@pytest.mark.parametrize("seconds", [-1, 0, 1, LIFE_MIN_S - 1, 2**33])
def test_a_token_lives_neither_too_short_nor_too_long(seconds: int) -> None:
    with pytest.raises(StatusError, match="expirationSeconds"):
        Tokens({}, lambda: 0.0).request({"spec": {"expirationSeconds": seconds}}, ACCOUNT)
