"""Bearer tokens: those that the cluster was made with, and those that it gives to service accounts."""

import secrets
from collections.abc import Callable, Mapping

from tidelog.engine.cluster.embedded.objects import timestamp
from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.statuses import bad_request
from tidelog.engine.objects.kube import KubeObject

LIFE_S = 3_600
LIFE_MIN_S = 600
LIFE_MAX_S = 1 << 32
ISSUED_MAX = 10_000
"""Tokens that are remembered; of more, the oldest is forgotten."""


class Tokens:
    """Whose token is whose."""

    def __init__(self, users: Mapping[str, User], clock: Callable[[], float]) -> None:
        """`users` by token, which never run out; `clock` gives the time of day."""
        self._users = dict(users)
        self._clock = clock
        self._issued: dict[str, tuple[User, float]] = {}

    def give(self, user: User) -> str:
        """A new token of a user, which never runs out."""
        token = secrets.token_urlsafe(32)
        self._users[token] = user
        return token

    def fork(self) -> "Tokens":
        """The same tokens, of which each side gives more without the other."""
        made = Tokens(self._users, self._clock)
        made._issued = dict(self._issued)
        return made

    def whose(self, token: str) -> User | None:
        """The user of a token; None for one that was not given, or has run out."""
        if token in self._users:
            return self._users[token]
        user, ends = self._issued.get(token, (None, 0.0))
        return user if ends > self._clock() else None

    def request(self, obj: KubeObject, user: User) -> KubeObject:
        """A TokenRequest, answered.

        Raises:
            StatusError: when it is to live too short or too long.
        """
        now = self._clock()
        self._issued = {token: issued for token, issued in self._issued.items() if issued[1] > now}
        spec = obj.get("spec") or {}
        life_s = int(spec.get("expirationSeconds") or LIFE_S)
        if not LIFE_MIN_S <= life_s <= LIFE_MAX_S:
            raise bad_request(f"spec.expirationSeconds: {life_s} is not between {LIFE_MIN_S} and {LIFE_MAX_S}")
        token = secrets.token_urlsafe(32)
        if len(self._issued) >= ISSUED_MAX:
            self._issued.pop(next(iter(self._issued)))
        self._issued[token] = user, now + life_s
        told = {"audiences": [], "expirationSeconds": life_s} | spec
        status = {"token": token, "expirationTimestamp": timestamp(now + life_s)}
        return {**obj, "spec": told, "status": status}
