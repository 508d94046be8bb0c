"""Proxies on loopback that write down what goes through them: HTTP with CONNECT, and SOCKS5."""

import base64
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
import anyio.abc

Handler: TypeAlias = Callable[[anyio.abc.SocketStream], Awaitable[None]]


@dataclass
class Proxy:
    """Where it is, and what it was asked for."""

    port: int = 0
    username: str = ""
    password: str = ""
    targets: list[str] = field(default_factory=list)
    """Host and port of each connection that went through."""

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@asynccontextmanager
async def http_proxy(username: str = "", password: str = "") -> AsyncIterator[Proxy]:
    """Takes CONNECT, and requests with whole addresses, one a connection."""
    proxy = Proxy(username=username, password=password)

    async def handle(client: anyio.abc.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await client.receive()
        line, *headers = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        method, target, _ = line.split()
        given = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
        if proxy.username and given.get("proxy-authorization") != proxy.basic:
            await client.send(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        where = target if method == "CONNECT" else target.removeprefix("http://").partition("/")[0]
        proxy.targets.append(where)
        host, _, port = where.rpartition(":")
        async with await anyio.connect_tcp(host, int(port)) as server:
            if method == "CONNECT":
                await client.send(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                kept = [header for header in headers if not header.lower().startswith(("proxy-", "connection"))]
                path = target.removeprefix(f"http://{where}")
                text = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close"])
                await server.send(text.encode() + b"\r\n\r\n")
            await _both_ways(client, server)

    async with _serving(proxy, handle):
        yield proxy


@asynccontextmanager
async def socks_proxy(username: str = "", password: str = "") -> AsyncIterator[Proxy]:
    """SOCKS5, by name or address, with a user or without."""
    proxy = Proxy(username=username, password=password)

    async def handle(client: anyio.abc.SocketStream) -> None:
        buffered = _Buffered(client)
        _, count = await buffered.take(2)
        await buffered.take(count)
        await client.send(b"\x05\x02" if proxy.username else b"\x05\x00")
        if proxy.username:
            _, size = await buffered.take(2)
            name = await buffered.take(size)
            (size,) = await buffered.take(1)
            is_right = (name.decode(), (await buffered.take(size)).decode()) == (proxy.username, proxy.password)
            await client.send(b"\x01\x00" if is_right else b"\x01\x01")
            if not is_right:
                return
        *_, kind = await buffered.take(4)
        if kind == 3:
            (size,) = await buffered.take(1)
            host = (await buffered.take(size)).decode()
        else:
            host = ".".join(map(str, await buffered.take(4)))
        (port,) = struct.unpack(">H", await buffered.take(2))
        proxy.targets.append(f"{host}:{port}")
        async with await anyio.connect_tcp(host, port) as server:
            await client.send(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            await _both_ways(client, server)

    async with _serving(proxy, handle):
        yield proxy


@asynccontextmanager
async def _serving(proxy: Proxy, handle: Handler) -> AsyncIterator[None]:
    async def safely(client: anyio.abc.SocketStream) -> None:
        async with client:
            with suppress(OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await handle(client)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, safely)
        yield
        group.cancel_scope.cancel()


class _Buffered:
    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._left = b""

    async def take(self, count: int) -> bytes:
        while len(self._left) < count:
            self._left += await self._stream.receive()
        taken, self._left = self._left[:count], self._left[count:]
        return taken


async def _both_ways(one: anyio.abc.SocketStream, other: anyio.abc.SocketStream) -> None:
    async def pump(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                await sink.send(await source.receive())
        with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await sink.send_eof()

    async with anyio.create_task_group() as group:
        group.start_soon(pump, one, other)
        group.start_soon(pump, other, one)
