"""Another cluster, reached by a kubeconfig that somebody else wrote.

Nobody answers for its server: it may be slow, gone, or made up. So what it says in errors is cleaned of what the
kubeconfig keeps secret, and one that cannot be connected to is left alone for some seconds, whoever asks.
"""

import base64
import binascii
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Final, TypeAlias

import anyio
import anyio.to_thread
import msgspec

from tidelog.engine.cluster.connection import Answer, Call, Channel, Connection
from tidelog.engine.cluster.credentials import Credentials, KnowsSecrets, Tokens
from tidelog.engine.cluster.errors import (
    Cause,
    ClusterError,
    ForbiddenError,
    KubeconfigError,
    Status,
    UnauthorizedError,
    UnreachableError,
)
from tidelog.engine.cluster.kubeconfig import Access, Trust, access_of
from tidelog.engine.cluster.limits import Bounds, Limits
from tidelog.engine.cluster.real import RealCluster
from tidelog.engine.objects.kube import KubeObject

LIMITS: Final = Limits(connect_s=5.0, call_s=30.0, calls=16, answer_bytes=128 << 20)
"""Flux waits 30 s for such a server (contract CM-087). Somebody else decides what it answers."""
BOUNDS: Final = Bounds(object_bytes=8 << 20, list_bytes=1 << 30, whole_bytes=256 << 20, change_bytes=8 << 20)
"""An API server holds no object of more than 1.5 MiB."""
LEFT_ALONE_S: Final = 5.0
"""For how long a server that could not be connected to is not tried again: who asks meanwhile is told at once."""
SERVERS_MAX: Final = 256
"""Kubeconfigs in use at once."""

Scrub: TypeAlias = Callable[[str], str]
"""A text without what is secret."""

_ANOTHER_MAY_SERVE = (UnauthorizedError, ForbiddenError, UnreachableError, KubeconfigError)
"""What one kubeconfig is told, and another that leads to the same cluster may not be."""


class NoKubeconfigError(KubeconfigError):
    """Raised when there is no kubeconfig where one is said to be."""


class UnsupportedKubeconfigError(KubeconfigError):
    """Raised when one asks for what the engine cannot do yet."""


class IdentityGateError(KubeconfigError):
    """Raised when one asks for the identity of a ServiceAccount, and the engine was not started for that."""


class Way:
    """A way to another cluster, by one kubeconfig. Made by `open_way`."""

    def __init__(self, connection: Connection, channel: "Guarded") -> None:
        self._connection = connection
        self.channel = channel
        self.cluster = RealCluster(channel, BOUNDS)

    async def close(self) -> None:
        """Ends it; who still uses it is told that it was closed."""
        await self._connection.__aexit__(None, None, None)


class Kubeconfig(msgspec.Struct, frozen=True, eq=False):
    """How another cluster is reached: what is used of a kubeconfig, or of what stands for one."""

    access: Access
    digest: bytes
    """Of all that it says: where it is another, so is the connection."""
    tokens: Tokens | None = None
    """Shown to it, where `access` does not say what."""

    @property
    def origin(self) -> str:
        """Where it is from, and what of it was left out."""
        return self.access.origin

    @property
    def secret_values(self) -> tuple[str, ...]:
        """What of it must never be shown."""
        user = self.access.user
        found = [user.token, user.key, self.access.proxy, *(user.basic or ())[1:]]
        if user.exec is not None:
            found += [*user.exec.argv[1:], *user.exec.environment.values()]
        texts = (one.decode(errors="replace") if isinstance(one, bytes) else one for one in found)
        return tuple(text for text in texts if isinstance(text, str) and text)

    def tell(self, values: KnowsSecrets) -> None:
        """Has somebody know what of it must never be shown, now and later."""
        values.add(self.secret_values)
        if self.tokens is not None:
            self.tokens.tell(values)

    def __repr__(self) -> str:
        return f"Kubeconfig({self.access.origin})"


async def read_kubeconfig(content: bytes, where: str, *, execs: bool, insecure_tls: bool) -> Kubeconfig:
    """What is used of a kubeconfig that somebody else wrote (contract CM-087).

    Args:
        content: YAML.
        where: it is from, for messages.
        execs: whether programs that it names may be run.
        insecure_tls: whether it may say that the server's certificate counts for nothing.

    Raises:
        KubeconfigError: when it cannot be used.
    """
    trust = Trust(exec=execs, insecure_tls=insecure_tls)
    access = await anyio.to_thread.run_sync(access_of, content, where, trust)
    return Kubeconfig(access, hashlib.sha256(content).digest())


async def open_way(kubeconfig: Kubeconfig, scrub: Scrub, limits: Limits = LIMITS) -> Way:
    """Makes ready to ask the cluster of a kubeconfig; nothing is asked yet. To be closed by who opens it.

    Args:
        kubeconfig: names it.
        scrub: takes what is secret out of what it says in errors.
        limits: how much is asked at once, and how long it may take.
    """
    access = kubeconfig.access
    credentials = Credentials(access, tokens=kubeconfig.tokens)
    connection = await Connection(access, credentials, limits).__aenter__()
    return Way(connection, Guarded(connection, scrub))


class Guarded:
    """A channel to a server that nobody answers for."""

    def __init__(self, channel: Channel, scrub: Scrub, clock: Callable[[], float] = anyio.current_time) -> None:
        self._channel = channel
        self._scrub = scrub
        self._clock = clock
        self._failed: UnreachableError | None = None
        self._until = 0.0

    @property
    def address(self) -> str:
        """The API server's."""
        return self._channel.address

    @property
    def fence(self) -> Callable[[], None] | None:
        """Asked before each change is sent; raises when none may be any more."""
        return self._channel.fence

    @fence.setter
    def fence(self, check: Callable[[], None] | None) -> None:
        self._channel.fence = check

    async def send(self, call: Call) -> Answer:
        """The whole answer to a call; see `Channel`."""
        self._check()
        try:
            return await self._channel.send(call)
        except ClusterError as error:
            raise self._told(error) from None

    async def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The answer in pieces; see `Channel`."""
        self._check()
        try:
            async with aclosing(self._channel.stream(call)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except ClusterError as error:
            raise self._told(error) from None

    def _check(self) -> None:
        if self._failed is not None and self._clock() < self._until:
            raise UnreachableError(str(self._failed))

    def _told(self, error: ClusterError) -> ClusterError:
        """The error as it may be told: who is connected to no more is left alone for a while."""
        error.args = (self._scrub(str(error)),)
        error.status = _scrubbed(error.status, self._scrub)
        error.__cause__ = error.__context__ = None  # may have more of what was said
        if isinstance(error, UnreachableError):
            self._failed, self._until = error, self._clock() + LEFT_ALONE_S
        return error


class Relay:
    """A channel that goes by whichever of several ways serves, for who watches longer than any of them does.

    One that cannot be gone by, or may not ask, goes to the end: credentials run out, and rights differ. All lead to the
    same cluster, and belong to the same namespace.
    """

    def __init__(self, name: str, clock: Callable[[], float] = anyio.current_time) -> None:
        self._name = name
        self._clock = clock
        self._ways: list[Channel] = []
        """In the order in which they are tried."""
        self.fence: Callable[[], None] | None = None

    def add(self, way: Channel) -> None:
        """Has a way gone by, after those that there are."""
        if way not in self._ways:
            self._ways.append(way)

    def remove(self, way: Channel) -> None:
        """Has a way gone by no more."""
        if way in self._ways:
            self._ways.remove(way)

    @property
    def address(self) -> str:
        """The API server's."""
        if not self._ways:
            raise self._none("ask")
        return self._ways[0].address

    async def send(self, call: Call) -> Answer:
        """The whole answer to a call; see `Channel`.

        Raises:
            ClusterError: what the first way said, where none serves.
        """
        first = None
        for way in self._tries():
            try:
                return await way.send(call)
            except _ANOTHER_MAY_SERVE as error:
                first = first or error
                self._put_last(way)
        raise first or self._none(call.what)

    async def stream(self, call: Call) -> AsyncGenerator[bytes, None]:
        """The answer in pieces; see `Channel`. What breaks once it has begun is told: the next call goes on."""
        first = None
        for way in self._tries():
            begun = False
            try:
                async with aclosing(way.stream(call)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except _ANOTHER_MAY_SERVE as error:
                if begun:
                    raise
                first = first or error
                self._put_last(way)
        raise first or self._none(call.what)

    def _tries(self) -> Iterator[Channel]:
        """The ways as they are now, others may come and go meanwhile: as many as there is time for."""
        began = self._clock()
        for way in list(self._ways):
            yield way
            if self._clock() - began > LIMITS.call_s:
                return

    def _put_last(self, way: Channel) -> None:
        if way in self._ways:
            self._ways.remove(way)
            self._ways.append(way)

    def _none(self, what: str) -> ClusterError:
        return UnreachableError(f"cannot {what}: no kubeconfig of {self._name} is in use")


def watched_by(relay: Relay) -> RealCluster:
    """The cluster behind a relay."""
    return RealCluster(relay, BOUNDS)


def _scrubbed(status: Status, scrub: Scrub) -> Status:
    causes = tuple(Cause(scrub(cause.field), cause.reason, scrub(cause.message)) for cause in status.causes)
    return msgspec.structs.replace(status, message=scrub(status.message), causes=causes)


def kubeconfig_in(data: Mapping[str, bytes], key: str | None, secret: str) -> bytes:
    """The kubeconfig that a Secret holds (contract CM-086).

    Args:
        data: of the Secret.
        key: that is asked for; None or empty for `value`, else `value.yaml`.
        secret: its name, for messages.

    Raises:
        NoKubeconfigError: when it holds none.
    """
    for name in (key,) if key else ("value", "value.yaml"):
        if name in data:
            return data[name]
    lacks = f"no key {key!r}" if key else "neither the key 'value' nor 'value.yaml'"
    raise NoKubeconfigError(f"spec.kubeConfig.secretRef: Secret {secret} has {lacks} with a kubeconfig")


def data_of(live: KubeObject, secret: str) -> dict[str, bytes]:
    """What a Secret holds.

    Raises:
        KubeconfigError: when it is no base64.
    """
    try:
        return {name: base64.b64decode(value, validate=True) for name, value in (live.get("data") or {}).items()}
    except (binascii.Error, ValueError, TypeError):
        raise KubeconfigError(f"spec.kubeConfig.secretRef: what Secret {secret} holds is no base64") from None
