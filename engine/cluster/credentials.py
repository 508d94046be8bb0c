"""What a request shows to prove who sends it, kept fresh: files are read again, plugins run again when it is time."""

import base64
import math
import os
import signal
import ssl
import subprocess
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias
from weakref import WeakSet

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import ByteReceiveStream
from cryptography import x509
from msgspec import Struct

from tidelog.engine.cluster.errors import ClusterError, KubeconfigError
from tidelog.engine.cluster.kubeconfig import Access, Exec, User, read_file
from tidelog.engine.cluster.port import Token
from tidelog.events.typed import decoder

FILES_S = 60.0
"""How long what a file held is taken for what it holds; the kubelet renews a token at 80 % of its life."""
PLUGIN_S = 60.0
"""How long an exec plugin may take: it may ask a cloud, and nobody is there to type a password."""
EARLY_S = 15.0
"""So long before its end a plugin's credential is no longer used."""
AGAIN_S = 5.0
"""A plugin that gives what has ended is not asked more often than this."""
BY_HAND = "run it by hand, as it stands in the kubeconfig, to see why"
"""What a plugin prints is not shown: it may be a token."""
STDERR_SHOWN = 500
OUTPUT_MAX_BYTES = 1 << 20
TOKEN_SHARE = 0.8
"""Of the time for which a token is good that was asked for: then another is asked for, as the kubelet does."""
TOKENS_KNOWN = 4
"""How many of the last tokens are kept from being shown; those before were given a long time ago."""

MakeToken: TypeAlias = Callable[[], Awaitable[Token]]
"""Asks for a token. Raises KubeconfigError, or UnreachableError where it may be had later."""


class KnowsSecrets(Protocol):
    """Knows what must not be shown, and is asked before something is."""

    def add(self, values: Iterable[str | bytes]) -> None:
        """Makes values known."""
        ...

    def forget(self, values: Iterable[str]) -> None:
        """Makes values unknown again, of which none is good for anything any more."""
        ...


class Tokens:
    """Asks for tokens, each of which is known as secret to whoever may quote a server before the server sees it."""

    def __init__(self, make: MakeToken) -> None:
        self._make = make
        self._last: deque[str] = deque()
        self._told: WeakSet[KnowsSecrets] = WeakSet()

    def tell(self, values: KnowsSecrets) -> None:
        """Has somebody know the last tokens, and all that follow."""
        values.add(self._last)
        self._told.add(values)

    async def next(self) -> Token:
        """A new token.

        Raises:
            KubeconfigError: when none can be had.
            UnreachableError: when none can be had now.
        """
        token = await self._make()
        self._last.append(token.value)
        old = [self._last.popleft() for _ in range(len(self._last) - TOKENS_KNOWN)]
        for values in self._told:
            values.add([token.value])
            values.forget(old)
        return token


class Material(Struct, frozen=True, eq=False):
    """What requests are made with."""

    tls: ssl.SSLContext | None
    """None for a server that is spoken to without TLS."""
    headers: dict[str, str]
    certificate_ends: datetime | None = None

    def __repr__(self) -> str:
        return "Material(…)"


class _Raw(Struct, frozen=True):
    certificate: bytes | None = None
    key: bytes | None = None
    authorization: str | None = None
    lasts_s: float = math.inf
    spare_s: float = 0.0
    """For how much longer it is good, where nothing newer can be had."""

    def __repr__(self) -> str:
        return "_Raw(…)"


class Credentials:
    """The credentials of one user at one cluster."""

    def __init__(self, access: Access, *, plugin_s: float = PLUGIN_S, tokens: Tokens | None = None) -> None:
        self._access = access
        self._tokens = tokens
        """Shown in the place of what the user of `access` has."""
        self._plugin_s = plugin_s
        self._lock = anyio.Lock()
        self._raw = _Raw()
        self._material: Material | None = None
        self._until = -math.inf
        self._spare_until = -math.inf

    async def current(self) -> Material:
        """What the next request shows.

        Raises:
            KubeconfigError: when a file cannot be read, a plugin fails, or no token can be had.
            UnreachableError: when no token can be had now.
        """
        if self._material and time.monotonic() < self._until:
            return self._material
        async with self._lock:
            if self._material is None or time.monotonic() >= self._until:
                await self._renew()
            assert self._material  # noqa: S101 - `_load` sets it
            return self._material

    async def renewed(self, refused: Material) -> Material | None:
        """After a 401: what to try instead of what was refused; None when there is nothing else.

        Raises:
            KubeconfigError: as `current` does.
        """
        async with self._lock:
            if self._material is refused:
                await self._load()
            return None if self._material is refused else self._material

    async def _renew(self) -> None:
        """Loads; where that fails, what there is goes on being shown as long as it is good."""
        try:
            await self._load()
        except ClusterError:
            now = time.monotonic()
            if self._material is None or now >= self._spare_until:
                raise
            self._until = min(now + AGAIN_S, self._spare_until)

    async def _load(self) -> None:
        user = self._access.user
        if self._tokens is not None:
            raw = _of_token(await self._tokens.next(), self._access.origin)
        elif user.exec:
            raw = await _from_plugin(user.exec, self._access.origin, self._plugin_s)
        else:
            raw = await anyio.to_thread.run_sync(_from_files, user, self._access.origin)
        if self._material is None or _without_time(raw) != _without_time(self._raw):
            # A new TLS context means new connections: made only where something has changed.
            self._material = await anyio.to_thread.run_sync(_material, self._access, raw)
            self._raw = raw
        self._until = time.monotonic() + raw.lasts_s
        self._spare_until = self._until + raw.spare_s


def _without_time(raw: _Raw) -> _Raw:
    return msgspec.structs.replace(raw, lasts_s=0, spare_s=0)


def _of_token(token: Token, origin: str) -> _Raw:
    return _Raw(
        authorization=_bearer(token.value, f"the token for {origin}"),
        lasts_s=token.lasts_s * TOKEN_SHARE,
        spare_s=token.lasts_s * (1 - TOKEN_SHARE),
    )


def _from_files(user: User, origin: str) -> _Raw:
    changing = any(isinstance(source, Path) for source in (user.certificate, user.key, user.token))
    authorization = None
    token, what, hint = user.token, f"the token of {origin}", f"{origin} names it"
    if isinstance(token, Path):
        what = f"the token file {token}"
        text = read_file(token, "the token file", hint).decode(errors="replace").strip()
        if not text:
            raise KubeconfigError(f"{what} is empty; {hint}")
        token = text
    if token:
        authorization = _bearer(token, what)
    elif user.basic:
        authorization = "Basic " + base64.b64encode(":".join(user.basic).encode()).decode()
    return _Raw(
        certificate=_content(user.certificate, "the client certificate", hint),
        key=_content(user.key, "the client key", hint),
        authorization=authorization,
        lasts_s=FILES_S if changing else math.inf,
    )


def _content(source: bytes | Path | None, what: str, hint: str) -> bytes | None:
    return read_file(source, what, hint) if isinstance(source, Path) else source


def _bearer(token: str, what: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise KubeconfigError(f"{what} has characters that no token has: is it the right one?")
    return f"Bearer {token}"


def _material(access: Access, raw: _Raw) -> Material:
    headers = {"Authorization": raw.authorization} if raw.authorization else {}
    if not access.server.startswith("https:"):
        return Material(None, headers)
    tls = _trusting(access)
    ends = None
    if raw.certificate and raw.key:
        ends = _identify(tls, raw.certificate, raw.key, access.origin)
    return Material(tls, headers, ends)


def _trusting(access: Access) -> ssl.SSLContext:
    try:
        tls = ssl.create_default_context(cadata=access.ca.decode("ascii") if access.ca else None)
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigError(f"the certificate authority of {access.origin} holds no PEM certificate") from error
    # As Go does, and so every other client of Kubernetes: what is in the file is trusted, and may lack what RFC 5280
    # wants of an authority.
    tls.verify_flags = tls.verify_flags & ~ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    if not access.verify:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _identify(tls: ssl.SSLContext, certificate: bytes, key: bytes, origin: str) -> datetime:
    """Loads the client's certificate; gives when it ends."""
    try:
        ends = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        # OpenSSL reads keys from files only; these are in memory.
        with _memory_file(certificate) as certificate_file, _memory_file(key) as key_file:
            tls.load_cert_chain(certificate_file, key_file, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise KubeconfigError(
            f"client certificate and key of {origin} cannot be used: they must be PEM, belong together, and need no "
            "password"
        ) from error
    return ends


def _no_password() -> str:
    """Without this, OpenSSL would ask at the terminal."""
    raise ValueError("the key needs a password")


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("tidelog", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------------- exec plugins


class _PluginStatus(Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: datetime | None = None


class _PluginAnswer(Struct, rename="camel"):
    api_version: str
    kind: str
    status: _PluginStatus | None = None


async def _from_plugin(plugin: Exec, origin: str, limit_s: float) -> _Raw:
    what = f"the exec plugin {plugin.argv[0]!r} of {origin}"
    try:
        with anyio.fail_after(limit_s):
            ended = await _run(plugin)
    except TimeoutError:
        raise KubeconfigError(
            f"{what} gave no credentials within {limit_s:g} s, and was ended: does it wait for somebody to log in?"
        ) from None
    except OSError as error:
        hint = plugin.hint or "is it installed, in PATH, and may it be run?"
        raise KubeconfigError(f"{what} cannot be run: {error.strerror or error}; {hint}") from error
    if ended.code:
        said = " ".join(ended.errors.decode(errors="replace").split())[-STDERR_SHOWN:]
        how = f"failed with exit code {ended.code}" if ended.code > 0 else f"was ended by signal {-ended.code}"
        raise KubeconfigError(f"{what} {how}: {said or f'it says nothing; {BY_HAND}'}")
    return _read_answer(plugin, what, ended.output)


class _Ended(NamedTuple):
    code: int
    output: bytes
    errors: bytes


async def _run(plugin: Exec) -> _Ended:
    """Runs the plugin, in a group of its own, so that what it started ends with it."""
    process = await anyio.open_process(
        plugin.argv, stdin=subprocess.DEVNULL, env=_environment(plugin), start_new_session=True
    )
    try:
        async with anyio.create_task_group() as tasks:
            output, errors = _Collected(process.stdout), _Collected(process.stderr)
            tasks.start_soon(output.collect)
            tasks.start_soon(errors.collect)
        return _Ended(await process.wait(), bytes(output.content), bytes(errors.content))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()


class _Collected:
    """The beginning of what a process prints; the rest is read and thrown away."""

    def __init__(self, stream: ByteReceiveStream | None) -> None:
        if stream is None:
            raise TypeError("the process has no pipe")
        self._stream = stream
        self.content = bytearray()

    async def collect(self) -> None:
        async for chunk in self._stream:
            self.content += chunk[: OUTPUT_MAX_BYTES - len(self.content)]


def _environment(plugin: Exec) -> dict[str, str]:
    spec: dict[str, object] = {"interactive": False}
    if plugin.cluster_info:
        spec["cluster"] = plugin.cluster_info
    info = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return {**os.environ, **plugin.environment, "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}


def _read_answer(plugin: Exec, what: str, output: bytes) -> _Raw:
    """The credential in a plugin's output, which is never shown."""
    try:
        answer = decoder(_PluginAnswer)(output)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise KubeconfigError(f"{what} did not print an ExecCredential; {BY_HAND}") from None
    if answer.kind != "ExecCredential" or answer.api_version != plugin.api_version:
        raise KubeconfigError(
            f"{what} printed {answer.kind} {answer.api_version}; the kubeconfig says {plugin.api_version}"
        )
    status = answer.status or _PluginStatus()
    certificate, key = status.client_certificate_data, status.client_key_data
    if not status.token and not (certificate and key):
        raise KubeconfigError(f"{what} printed neither a token nor a client certificate with its key; {BY_HAND}")
    return _Raw(
        certificate=certificate.encode() if certificate else None,
        key=key.encode() if key else None,
        authorization=_bearer(status.token, f"the token that {what} printed") if status.token else None,
        lasts_s=_left(status.expiration_timestamp),
    )


def _left(ends: datetime | None) -> float:
    if ends is None:
        return math.inf
    aware = ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    return max((aware - datetime.now(UTC)).total_seconds() - EARLY_S, AGAIN_S)
