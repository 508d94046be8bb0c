"""Clusters of kubeconfigs that somebody else wrote: what is used of them, and what is told."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.servers import embedded_servers
from tests.servers.embedded_servers import EmbeddedServers
from tidelog.engine.cluster.connection import Answer, Call
from tidelog.engine.cluster.errors import (
    Cause,
    ForbiddenError,
    InvalidError,
    KubeconfigError,
    Status,
    UnauthorizedError,
    UnreachableError,
)
from tidelog.engine.cluster.kubeconfig import Access, Trust, access_of
from tidelog.engine.cluster.remote import (
    LEFT_ALONE_S,
    Guarded,
    NoKubeconfigError,
    Relay,
    kubeconfig_in,
    open_way,
    read_kubeconfig,
    watched_by,
)

SECRET = "nobody-may-see-this"
WHERE = "the kubeconfig of Secret team/there"
CALL = Call("get", "get it", "configmaps", "GET", "/api/v1/configmaps")
CA = "Y2VydGlmaWNhdGU="


def config(user: dict[str, Any], **cluster: Any) -> bytes:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://there.example/prefix/", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    return json.dumps(document).encode()


def used(content: bytes, **trust: bool) -> Access:
    return access_of(content, WHERE, Trust(**trust), environment={})


def test_what_a_kubeconfig_has_in_itself_is_used() -> None:
    inline = {"client-certificate-data": CA, "client-key-data": CA, "token": SECRET, "username": "a", "password": "b"}
    found = used(
        config(
            inline,
            **{"certificate-authority-data": CA, "tls-server-name": "its-name", "proxy-url": "http://proxy.example"},
        )
    )
    assert (found.server, found.server_name, found.proxy) == (
        "https://there.example/prefix",
        "its-name",
        "http://proxy.example",
    )
    assert (found.user.token, found.user.basic, found.ca) == (SECRET, ("a", "b"), b"certificate")
    assert found.user.certificate == found.user.key == b"certificate"
    assert found.verify
    assert found.origin == WHERE


@pytest.mark.parametrize(
    ("user", "cluster", "left_out"),
    [
        ({"tokenFile": "/etc/passwd"}, {}, "the file of token-file"),
        ({"client-certificate": "a", "client-key": "b"}, {}, "the file of client-certificate, the file of client-key"),
        ({}, {"certificate-authority": "/ca.crt"}, "the file of certificate-authority"),
        ({}, {"insecure-skip-tls-verify": True}, "insecure-skip-tls-verify"),
        ({"exec": {"apiVersion": "v1", "command": "sh"}}, {}, "exec"),
        ({"as": "somebody", "as-groups": ["system:masters"]}, {}, "as"),
        ({"auth-provider": {"name": "gcp"}}, {}, "auth-provider"),
    ],
)
def test_what_is_not_the_writers_is_left_out_and_said(
    user: dict[str, Any], cluster: dict[str, Any], left_out: str
) -> None:
    found = used(config(user, **cluster))
    assert found.origin == f"{WHERE} (without {left_out}, which is not used)"
    assert found.user.certificate is found.user.key is found.user.token is None
    assert (found.user.exec, found.user.act_as, found.ca) == (None, None, None)
    assert found.verify


def test_programs_and_servers_without_trust_are_used_where_that_is_allowed() -> None:
    plugin = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws", "args": ["token"]}}
    found = used(config(plugin, **{"insecure-skip-tls-verify": True}), exec=True, insecure_tls=True)
    assert found.user.exec is not None
    assert found.user.exec.argv == ("aws", "token")
    assert not found.verify
    assert found.origin == WHERE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"- a", "is no kubeconfig"),
        (f"users:\n- '{SECRET}".encode(), "no YAML"),
        (f"a: &a {SECRET}\nb: *a".encode(), "YAML aliases"),
        (b"- " * 50_000 + b"a", "deeper than 50 levels"),
        (b"[" * 100_000, "deeper than 50 levels"),
        (b"#" * 300_000, "262144 is the most"),
        (f"users:\n- token: !!int '{SECRET}'".encode(), "put texts into quotes"),
        (b"users:\n- token: 2024-13-45", "put texts into quotes"),
        (config({}, **{"proxy-url": f"http://[u:{SECRET}]@h"}), "proxy-url: it is no address"),
        (config({}, server="http://169.254.169.254/latest?x="), "a URL is needed"),
        (f"users: [{{name: {SECRET}, user: {{token: [1]}}}}]".encode(), "cannot be used"),
        (config({}, server=f"https://me:{SECRET}@there.example"), "credentials in the address"),
        (b"contexts: []", "no contexts"),
        (b"\xff\xfe\x00", "no YAML"),
    ],
)
def test_what_cannot_be_used_is_said_and_not_quoted(content: bytes, words: str) -> None:
    with pytest.raises(KubeconfigError) as caught:
        used(content)
    assert words in str(caught.value)
    assert WHERE in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_key_that_is_named_counts_or_else_the_usual_ones() -> None:
    data = {"value": b"1", "value.yaml": b"2", "mine": b"3"}
    assert kubeconfig_in(data, None, "team/there") == b"1"
    assert kubeconfig_in({"value.yaml": b"2"}, "", "team/there") == b"2"
    assert kubeconfig_in(data, "mine", "team/there") == b"3"
    for found, key in (({}, None), ({"value": b"1"}, "mine")):
        with pytest.raises(NoKubeconfigError, match="team/there"):
            kubeconfig_in(found, key, "team/there")


async def test_what_is_secret_of_it_is_known() -> None:
    plugin = {"apiVersion": "v1", "command": "aws", "args": ["arg"], "env": [{"name": "A", "value": "env"}]}
    user = {"token": "token", "username": "me", "password": "word", "exec": plugin, "client-key-data": CA}
    content = config(user | {"client-certificate-data": CA}, **{"proxy-url": "http://a:b@proxy"})
    found = await read_kubeconfig(content, WHERE, execs=True, insecure_tls=False)
    assert set(found.secret_values) == {"token", "word", "arg", "env", "certificate", "http://a:b@proxy"}
    assert "token" not in repr(found)


class Server:
    """A channel whose answers are errors."""

    def __init__(self, error: Exception, chunks: int = 1) -> None:
        self.error = error
        self.chunks = chunks
        """How many pieces of a stream come before."""
        self.asked = 0
        self.address = "https://there.example"
        self.fence: Callable[[], None] | None = None

    async def send(self, _: Call) -> Answer:
        self.asked += 1
        raise self.error

    async def stream(self, _: Call) -> AsyncGenerator[bytes, None]:
        self.asked += 1
        for chunk in [b"a"] * self.chunks:
            yield chunk
        raise self.error


def scrub(text: str) -> str:
    return text.replace(SECRET, "***")


async def test_what_a_server_says_is_told_without_what_is_secret() -> None:
    status = Status(422, "Invalid", f"no {SECRET}", (Cause(f"a.{SECRET}", "x", f"is {SECRET}"),))
    channel = Guarded(Server(InvalidError(f"cannot: {SECRET}", status)), scrub)
    with pytest.raises(InvalidError) as caught:
        await channel.send(CALL)
    error = caught.value
    assert str(error) == "cannot: ***"
    assert (error.status.message, error.status.causes) == ("no ***", (Cause("a.***", "x", "is ***"),))
    with pytest.raises(InvalidError) as caught:
        _ = [chunk async for chunk in channel.stream(CALL)]
    assert SECRET not in f"{caught.value} {caught.value.status}"


async def test_a_server_that_cannot_be_reached_is_left_alone_for_a_while() -> None:
    now = 100.0
    server = Server(UnreachableError("nobody there"))
    channel = Guarded(server, scrub, lambda: now)
    for _ in range(3):
        with pytest.raises(UnreachableError, match="nobody there"):
            await channel.send(CALL)
    assert server.asked == 1
    now += LEFT_ALONE_S
    with pytest.raises(UnreachableError):
        await channel.send(CALL)
    assert server.asked == 2
    server.error = UnauthorizedError("no")
    now += LEFT_ALONE_S
    for _ in range(2):
        with pytest.raises(UnauthorizedError):
            await channel.send(CALL)
    assert server.asked == 4


class Working(Server):
    """A channel that answers."""

    def __init__(self) -> None:
        super().__init__(AssertionError())

    async def send(self, _: Call) -> Answer:
        self.asked += 1
        return Answer(200, {}, b"{}")

    async def stream(self, _: Call) -> AsyncGenerator[bytes, None]:
        self.asked += 1
        yield b"all"


REFUSALS = [UnauthorizedError("401"), ForbiddenError("403"), UnreachableError("gone"), KubeconfigError("no plugin")]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
async def test_who_watches_goes_on_by_another_way_when_one_does_not_serve(error: Exception) -> None:
    bad, good = Server(error, chunks=0), Working()
    relay = Relay("team.there")
    relay.add(bad)
    relay.add(good)
    assert (await relay.send(CALL)).status == 200
    assert (await relay.send(CALL)).status == 200
    assert (bad.asked, good.asked) == (1, 2), "the one that serves is asked first from then on"
    relay = Relay("team.there")
    relay.add(bad)
    relay.add(good)
    assert [chunk async for chunk in relay.stream(CALL)] == [b"all"]
    # Where none serves, the first one's words count: the others may never have been meant for that.
    relay.remove(good)
    relay.add(Server(UnreachableError("another"), chunks=0))
    with pytest.raises(type(error), match=str(error)):
        await relay.send(CALL)
    relay.remove(bad)
    relay.add(bad)
    with pytest.raises(UnreachableError, match="another"):
        _ = [chunk async for chunk in relay.stream(CALL)]


async def test_what_has_begun_is_not_begun_again_by_another_way() -> None:
    """Who watches would take the beginning of the one for what goes on of the other."""
    relay = Relay("team.there")
    relay.add(Server(UnreachableError("broke")))
    relay.add(Working())
    async with aclosing(relay.stream(CALL)) as chunks:
        assert await anext(chunks) == b"a"
        with pytest.raises(UnreachableError, match="broke"):
            await anext(chunks)


async def test_what_a_server_itself_says_is_the_same_by_every_way() -> None:
    relay, second = Relay("team.there"), Working()
    relay.add(Server(InvalidError("no"), chunks=0))
    relay.add(second)
    with pytest.raises(InvalidError):
        await relay.send(CALL)
    assert second.asked == 0


async def test_ways_that_are_silent_are_not_waited_for_one_after_the_other() -> None:
    """Each may take as long as a call may; the next call begins with those that were not asked."""
    now = 0.0

    class Silent(Server):
        async def send(self, call: Call) -> Answer:
            nonlocal now
            now += 31.0
            return await super().send(call)

    silent = [Silent(UnreachableError("no answer")) for _ in range(3)]
    relay = Relay("team.there", lambda: now)
    for one in silent:
        relay.add(one)
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await relay.send(CALL)
    assert [one.asked for one in silent] == [1, 1, 0]


@pytest.fixture
def servers(tmp_path: Path):  # type: ignore[no-untyped-def]
    with embedded_servers.start(tmp_path / "there") as running:
        yield running


async def test_who_watches_goes_on_by_another_way_when_one_is_closed(servers: EmbeddedServers) -> None:
    contents = [servers.kubeconfig_of(user, ("system:masters",)).read_bytes() for user in ("first", "second")]
    kubeconfigs = [await read_kubeconfig(one, WHERE, execs=False, insecure_tls=False) for one in contents]
    first, second = [await open_way(one, scrub) for one in kubeconfigs]
    relay = Relay("team.there")
    cluster = watched_by(relay)
    with pytest.raises(UnreachableError, match=r"no kubeconfig of team\.there is in use"):
        await cluster.version()
    relay.add(first.channel)
    kind = await cluster.kind("v1", "ConfigMap")
    version = (await cluster.list(kind)).resource_version
    ended = anyio.Event()

    async def watch() -> None:
        with pytest.raises(UnreachableError):
            async for _ in cluster.watch(kind, resource_version=version):
                pass
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        with anyio.fail_after(10):
            while not any(one.asked.verb == "watch" for one in servers.up.entries()):  # noqa: ASYNC110 - another thread
                await anyio.sleep(0.01)
            relay.add(second.channel)
            relay.remove(first.channel)
            await first.close()
            await ended.wait()
    await cluster.list(kind)
    assert {one["user"]["username"] for one in servers.audited("second")} == {"second"}
    await second.close()
