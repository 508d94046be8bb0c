"""Bearer tokens: those that the cluster was made with, and those that it gives to service accounts."""

import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from tidelog.engine.cluster.embedded import causes
from tidelog.engine.cluster.embedded.objects import timestamp
from tidelog.engine.cluster.embedded.registry import Place
from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.cluster.embedded.statuses import invalid_kind
from tidelog.engine.cluster.embedded.store import Key
from tidelog.engine.objects.kube import KubeObject

AUDIENCE: Final = "https://kubernetes.default.svc"
"""Who a token is for that may be shown to this server."""

LIFE_S = 3_600
LIFE_MIN_S = 600
LIFE_MAX_S = 1 << 32
ISSUED_MAX = 10_000
"""Tokens that are remembered; of more, the oldest is forgotten."""


class Bound(NamedTuple):
    """An object without which a token is none."""

    place: Place
    key: Key
    uid: str


class Issued(NamedTuple):
    """A token that was given, or has always been there."""

    user: User
    ends: float
    audiences: tuple[str, ...] = (AUDIENCE,)
    bound: Bound | None = None


class Tokens:
    """Whose token is whose."""

    def __init__(self, users: Mapping[str, User], clock: Callable[[], float]) -> None:
        """`users` by token, which never run out; `clock` gives the time of day."""
        self._users = dict(users)
        self._clock = clock
        self._issued: dict[str, Issued] = {}

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

    def known(self, token: str) -> Issued | None:
        """What a token is; None for one that was not given, or has run out."""
        if token in self._users:
            return Issued(self._users[token], math.inf)
        found = self._issued.get(token)
        return found if found is not None and found.ends > self._clock() else None

    def request(self, obj: KubeObject, user: User, bound: Bound | None = None) -> KubeObject:
        """A TokenRequest, answered; of a token that ends with an object.

        Raises:
            StatusError: when it is to live too short or too long.
        """
        now = self._clock()
        self._issued = {token: issued for token, issued in self._issued.items() if issued.ends > now}
        spec = {name: value for name, value in (obj.get("spec") or {}).items() if value is not None}
        life_s = int(spec.get("expirationSeconds", LIFE_S))
        if not LIFE_MIN_S <= life_s <= LIFE_MAX_S:
            limit = "less than 10 minutes" if life_s < LIFE_MIN_S else "larger than 2^32 seconds"
            wrong = causes.invalid("spec.expirationSeconds", life_s, f"may not specify a duration {limit}")
            raise invalid_kind("authentication.k8s.io", "TokenRequest", "", [wrong])
        audiences: Sequence[str] = spec.get("audiences") or (AUDIENCE,)
        token = secrets.token_urlsafe(32)
        if len(self._issued) >= ISSUED_MAX:
            self._issued.pop(next(iter(self._issued)))
        self._issued[token] = Issued(user, now + life_s, tuple(audiences), bound)
        told = spec | {"audiences": list(audiences), "expirationSeconds": life_s}
        status = {"token": token, "expirationTimestamp": timestamp(now + life_s)}
        return {**obj, "spec": told, "status": status}
