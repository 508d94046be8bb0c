"""What a real API server does not do on demand: being busy, slow, broken, cut off. A scripted one does."""

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from aiohttp import web

from tests.cluster.conftest import (
    CONFIG_MAP,
    CONFIG_MAPS,
    TOKEN,
    Answer,
    Open,
    Script,
    answer,
    drop,
    never,
    status,
    with_limits,
    write_kubeconfig,
)
from tests.servers.kubernetes_servers import Authority
from tidelog.engine.cluster.connection import Connection
from tidelog.engine.cluster.errors import (
    BadRequestError,
    ClusterError,
    ConflictError,
    ForbiddenError,
    GoneError,
    OutcomeUnknown,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
)
from tidelog.engine.cluster.limits import Bounds
from tidelog.engine.cluster.port import Identity
from tidelog.engine.cluster.real import RealCluster, open_cluster
from tidelog.engine.connector import Connector
from tidelog.engine.runtime.errors import LeaseLostError

MIB = 1 << 20
LIMIT_S = 30
BUSY = {"Retry_After": "0"}


async def get(cluster: RealCluster) -> Any:
    return await cluster.get(CONFIG_MAPS, "n", "a")


async def get_once(script: Script, cluster: RealCluster) -> None:
    script.answers = [answer(200, CONFIG_MAP)]
    assert await get(cluster) == CONFIG_MAP


async def apply(cluster: RealCluster) -> Any:
    return (await cluster.apply(CONFIG_MAP, manager="m")).object


async def dry_run(cluster: RealCluster) -> Any:
    return (await cluster.apply(CONFIG_MAP, manager="m", dry_run=True)).object


async def create(cluster: RealCluster) -> Any:
    return await cluster.create(CONFIG_MAP, manager="m")


async def json_patch(cluster: RealCluster) -> Any:
    return await cluster.patch(CONFIG_MAPS, "n", "a", [], type="json", manager="m")


async def delete(cluster: RealCluster) -> Any:
    return await cluster.delete(CONFIG_MAPS, "n", "a")


async def replace(cluster: RealCluster) -> Any:
    return await cluster.replace(CONFIG_MAP, manager="m")


Do = Callable[[RealCluster], Awaitable[Any]]


# ------------------------------------------------------------------------------------------------------ busy


@pytest.mark.parametrize("do", [get, apply, dry_run])
async def test_busy_server_is_asked_again(script: Script, cluster: RealCluster, do: Do) -> None:
    script.answers = [answer(429, **BUSY), answer(503, **BUSY), answer(200, CONFIG_MAP)]
    assert await do(cluster) == CONFIG_MAP
    assert len(set(script.asked)) == 1


async def test_server_that_stays_busy_is_left_alone(script: Script, cluster: RealCluster) -> None:
    script.answers = [answer(429, **BUSY), answer(429, **BUSY), answer(429, Retry_After="7")]
    with pytest.raises(
        TooManyRequestsError, match=r"cannot get ConfigMap a in namespace n: the server is busy"
    ) as caught:
        await get(cluster)
    assert caught.value.retry_after_s == 7
    assert len(script.seen) == 3


@pytest.mark.parametrize("do", [get, apply])
@pytest.mark.parametrize("code", [429, 503])
async def test_server_that_asks_for_a_long_quiet_is_not_waited_for(
    script: Script, cluster: RealCluster, do: Do, code: int
) -> None:
    """Who asked has other things to do meanwhile, and knows when to ask again."""
    script.answers = [answer(code, Retry_After="3600")]
    with anyio.fail_after(1), pytest.raises(ClusterError, match="it asks to be left alone for 3600 s") as caught:
        await do(cluster)
    assert caught.value.status.retry_after_s == 3600
    assert len(script.seen) == 1


async def test_waits_for_a_busy_server_are_bounded_together(script: Script, open_script: Open) -> None:
    script.answers = [answer(429, Retry_After="1") for _ in range(3)]
    async with open_script(limits=with_limits(busy_s=1.5, tries=5)) as cluster:
        with pytest.raises(TooManyRequestsError):
            await get(cluster)
    assert len(script.seen) == 2


@pytest.mark.parametrize("do", [create, json_patch])
async def test_what_is_not_idempotent_is_sent_once(script: Script, cluster: RealCluster, do: Do) -> None:
    script.answers = [answer(429, **BUSY)]
    with pytest.raises(TooManyRequestsError):
        await do(cluster)
    assert len(script.seen) == 1


async def test_server_that_is_down_is_not_waited_for(script: Script, cluster: RealCluster) -> None:
    script.answers = [status(503, "ServiceUnavailable", "no endpoints available")]
    with pytest.raises(ServerError, match="no endpoints available") as caught:
        await get(cluster)
    assert (caught.value.status.code, caught.value.status.reason) == (503, "ServiceUnavailable")


# --------------------------------------------------------------------------------------------------- failing


async def test_webhook_that_is_down_is_an_error_of_the_server(script: Script, cluster: RealCluster) -> None:
    message = 'Internal error occurred: failed calling webhook "w.example.com": connection refused'
    script.answers = [status(500, "InternalError", message)]
    with pytest.raises(ServerError, match=r'cannot apply ConfigMap a in namespace n.*webhook "w.example.com"'):
        await apply(cluster)


@pytest.mark.parametrize(
    "failure",
    [
        status(504, "Timeout", "request did not complete within requested timeout"),
        status(500, "InternalError", "etcdserver: request timed out"),
        web.Response(status=502, text="<html>Bad Gateway</html>"),
    ],
    ids=["api-server", "etcd", "proxy"],
)
@pytest.mark.parametrize(
    ("do", "expected"), [(apply, OutcomeUnknown), (delete, OutcomeUnknown), (get, ServerError), (dry_run, ServerError)]
)
async def test_time_that_ran_out_behind_the_server_leaves_a_change_unknown(
    script: Script, cluster: RealCluster, failure: web.Response, do: Do, expected: type[ClusterError]
) -> None:
    body = failure.body
    assert isinstance(body, bytes)
    script.answers = [web.Response(status=failure.status, body=body)]
    with pytest.raises(expected):
        await do(cluster)


async def test_refusal_of_a_webhook_is_told_in_its_words(script: Script, cluster: RealCluster) -> None:
    script.answers = [status(403, "Forbidden", 'admission webhook "policy" denied the request: no latest')]
    with pytest.raises(ForbiddenError, match=r"no latest$"):
        await apply(cluster)


async def test_conflict_names_each_manager_once(script: Script, cluster: RealCluster) -> None:
    causes = [
        {"reason": "FieldManagerConflict", "message": 'conflict with "helm" using apps/v1', "field": ".spec.replicas"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "helm" using v1', "field": ".spec.paused"},
        {"reason": "FieldManagerConflict", "message": 'conflict with "kubectl-edit" with subresource "x" using v1'},
    ]
    script.answers = [status(409, "Conflict", "", causes=causes)]
    with pytest.raises(ConflictError, match=r".spec.replicas: conflict with \"helm\"") as caught:
        await apply(cluster)
    assert caught.value.managers == ("helm", "kubectl-edit")


# ----------------------------------------------------------------------------------------------------- fences


@pytest.mark.parametrize("do", [apply, create, json_patch, delete, replace])
async def test_change_that_may_be_made_no_more_once_there_is_a_connection_is_not_sent(
    script: Script, cluster: RealCluster, do: Do, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may stand still in between, and a Lease go to another meanwhile."""
    connect, lost = Connector.connect, False

    async def slow(*args: Any, **how: Any) -> Any:
        nonlocal lost
        connection = await connect(*args, **how)
        lost = True
        return connection

    def check() -> None:
        if lost:
            raise LeaseLostError("the Lease is lost")

    await get_once(script, cluster)
    monkeypatch.setattr(Connector, "connect", slow)
    cluster.fence(check)
    with pytest.raises(LeaseLostError):
        await do(cluster)
    cluster.fence(None)
    await get_once(script, cluster)
    assert [asked.partition(" ")[0] for asked in script.asked] == ["GET", "GET"]


# -------------------------------------------------------------------------------------------------- no answer


@pytest.mark.parametrize("do", [get, dry_run])
async def test_question_whose_connection_broke_is_asked_once_more(script: Script, cluster: RealCluster, do: Do) -> None:
    script.answers = [drop, answer(200, CONFIG_MAP)]
    assert await do(cluster) == CONFIG_MAP
    script.answers = [drop, drop]
    with pytest.raises(UnreachableError, match="closed the connection before it answered: no answer came"):
        await do(cluster)


@pytest.mark.parametrize("do", [apply, create, json_patch, delete, replace])
@pytest.mark.parametrize("kept", [False, True], ids=["new-connection", "kept-connection"])
async def test_change_whose_connection_broke_is_sent_once_and_unknown(
    script: Script, cluster: RealCluster, do: Do, *, kept: bool
) -> None:
    if kept:
        script.answers = [answer(200, CONFIG_MAP)]
        await get(cluster)
    script.answers = [drop, answer(200, CONFIG_MAP)]
    with pytest.raises(OutcomeUnknown, match="it may have been done all the same"):
        await do(cluster)
    assert len(script.answers) == 1


@pytest.mark.parametrize(
    ("do", "expected"), [(get, UnreachableError), (dry_run, UnreachableError), (apply, OutcomeUnknown)]
)
async def test_slow_answer_is_not_waited_for(
    script: Script, open_script: Open, do: Do, expected: type[ClusterError]
) -> None:
    script.answers = [never]
    async with open_script(limits=with_limits(call_s=0.2)) as cluster:
        await cluster.kind("v1", "ConfigMap")
        with pytest.raises(expected, match=r"did not answer within 0\.2 s"):
            await do(cluster)


@pytest.mark.parametrize(("do", "expected"), [(get, UnreachableError), (apply, OutcomeUnknown)])
async def test_answer_that_is_cut_short_is_none(
    script: Script, cluster: RealCluster, do: Do, expected: type[ClusterError]
) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"kind":')
        assert request.transport
        request.transport.close()
        return response

    script.answers = [cut, cut]
    with pytest.raises(expected, match="the answer is cut short"):
        await do(cluster)


@pytest.mark.parametrize(("do", "expected"), [(get, ServerError), (apply, OutcomeUnknown)])
@pytest.mark.parametrize("squeezed", [False, True])
async def test_answer_without_end_is_not_read_to_the_end(
    script: Script, open_script: Open, do: Do, expected: type[ClusterError], *, squeezed: bool
) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        if squeezed:
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        with suppress(ConnectionError):
            while sent < 100 * MIB:
                await response.write(b" " * MIB)
                sent += MIB
        return response

    script.answers = [endless]
    async with open_script(limits=with_limits(answer_bytes=2 * MIB)) as cluster:
        with pytest.raises(expected, match="has more than 2 MiB"):
            await do(cluster)
    assert len(script.seen) == 1
    assert squeezed or sent < 50 * MIB


async def test_list_that_always_has_one_more_page_is_left(
    script: Script, cluster: RealCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidelog.engine.cluster.real.LIST_PAGES_MAX", 3)
    page = {"metadata": {"resourceVersion": "7", "continue": "c"}, "items": []}
    script.answers = [answer(200, page) for _ in range(4)]
    with pytest.raises(ServerError, match="more than 3 pages"):
        await cluster.list(CONFIG_MAPS, namespace="n")
    assert len(script.seen) == 3


@pytest.mark.parametrize(("do", "expected"), [(get, ServerError), (apply, OutcomeUnknown)])
@pytest.mark.parametrize("body", [b"<html>Please log in</html>", b"[1, 2]", b"\xff\xfe", b"", b"[" * 100_000])
async def test_garbage_is_no_answer(
    script: Script, cluster: RealCluster, do: Do, expected: type[ClusterError], body: bytes
) -> None:
    script.answers = [web.Response(body=body)]
    with pytest.raises(expected, match="is there a proxy in between"):
        await do(cluster)


OTHERS = {
    "nothing": {},
    "metadata that is none": {"metadata": None},
    "another name": {"metadata": {**CONFIG_MAP["metadata"], "name": "b"}},  # type: ignore[dict-item]
    "another namespace": {"metadata": {**CONFIG_MAP["metadata"], "namespace": "m"}},  # type: ignore[dict-item]
    "no uid": {"metadata": {"namespace": "n", "name": "a", "resourceVersion": "1"}},
    "no version": {"metadata": {"namespace": "n", "name": "a", "uid": "u"}},
    "a Status": {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"},
}


@pytest.mark.parametrize(
    ("do", "expected"),
    [(get, ServerError), (apply, OutcomeUnknown), (create, OutcomeUnknown), (replace, OutcomeUnknown)],
)
@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
async def test_another_object_is_no_answer(
    script: Script, cluster: RealCluster, do: Do, expected: type[ClusterError], body: dict[str, Any]
) -> None:
    """What was applied is not known to be there because something else is."""
    script.answers = [answer(200, body)]
    with pytest.raises(expected, match="is there a proxy in between"):
        await do(cluster)


async def test_a_list_of_what_is_no_object_is_no_answer(script: Script, cluster: RealCluster) -> None:
    script.answers = [answer(200, {"metadata": {"resourceVersion": "1"}, "items": [CONFIG_MAP, {}]})]
    with pytest.raises(ServerError, match=r"it has no metadata\.name"):
        await cluster.list(CONFIG_MAPS, namespace="n")


async def test_error_that_is_no_status_is_quoted_in_short(script: Script, cluster: RealCluster) -> None:
    script.answers = [web.Response(status=500, text="<html>" + "oh no \n" * 100_000)]
    with pytest.raises(ServerError, match=r"HTTP 500.*: <html>oh no oh no") as caught:
        await get(cluster)
    assert len(str(caught.value)) < 3_000


async def test_redirect_is_not_followed(script: Script, cluster: RealCluster) -> None:
    """The token would go with it."""
    script.answers = [answer(302, Location=f"{script.url}/elsewhere")]
    with pytest.raises(ServerError, match="HTTP 302"):
        await get(cluster)
    assert script.asked == ["GET /api/v1/namespaces/n/configmaps/a"]


async def test_nobody_listens(script: Script, open_script: Open, kubeconfig: Any, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    kubeconfig.write_text(kubeconfig.read_text().replace(script.url, url))
    with pytest.raises(UnreachableError) as caught:
        async with open_script():
            pass
    assert str(caught.value) == (
        f"cannot ask the server for its version: no connection to {url}: Connection refused; is it running, and is "
        f"`server` in context 'it' of {kubeconfig} right?"
    )


async def test_change_that_was_not_sent_is_not_unknown(script: Script, cluster: RealCluster, free_port: int) -> None:
    await cluster.kind("v1", "ConfigMap")
    connection = cluster._connection
    assert isinstance(connection, Connection)
    connection._access = msgspec.structs.replace(connection._access, server=f"http://127.0.0.1:{free_port}")
    with pytest.raises(UnreachableError, match="cannot apply ConfigMap a in namespace n: no connection to"):
        await apply(cluster)
    assert script.seen == []


@pytest.mark.parametrize("value", ["half a \ud800 character", object()])
async def test_what_json_cannot_hold_is_not_sent(script: Script, cluster: RealCluster, value: object) -> None:
    with pytest.raises(BadRequestError, match="cannot apply ConfigMap a in namespace n: it cannot be written as JSON"):
        await cluster.apply({**CONFIG_MAP, "data": {"key": value}}, manager="m")
    assert script.seen == []


async def test_name_to_act_as_is_no_header(script: Script, cluster: RealCluster) -> None:
    with pytest.raises(BadRequestError, match="has characters that none has"):
        await cluster.get(CONFIG_MAPS, "n", "a", identity=Identity("jane\r\nImpersonate-Group: system:masters"))
    assert script.seen == []


async def test_closed_cluster_says_so(script: Script, open_script: Open) -> None:
    async with open_script() as cluster:
        pass
    with pytest.raises(UnreachableError, match="the cluster was closed"):
        await get(cluster)


# ----------------------------------------------------------------------------------------------- large, many


async def test_object_of_ten_megabytes(script: Script, cluster: RealCluster) -> None:
    large = {**CONFIG_MAP, "data": {"key": "x" * (10 * MIB)}}
    script.answers = [answer(200, large)]
    assert await get(cluster) == large


async def test_calls_at_one_time_are_bounded(script: Script, open_script: Open) -> None:
    now = most = 0
    full = asyncio.Event()

    async def busy(request: web.Request) -> web.StreamResponse:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 4:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        now -= 1
        return answer(200, CONFIG_MAP)

    script.answers = [busy] * 20
    async with open_script() as cluster, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(get, cluster)
    assert most == 4


async def test_list_begins_anew_when_the_server_has_forgotten(script: Script, cluster: RealCluster) -> None:
    def page(name: str, going_on: str) -> web.Response:
        return answer(
            200,
            {"metadata": {"resourceVersion": "7", "continue": going_on}, "items": [{"metadata": {"name": name}}]},
        )

    script.answers = [page("old", "c1"), gone(), page("a", "c2"), page("b", "")]
    listing = await cluster.list(CONFIG_MAPS, namespace="n", limit=1)
    assert [item["metadata"]["name"] for item in listing.items] == ["a", "b"]
    assert [request.query.get("continue") for request in script.seen] == [None, "c1", None, "c2"]
    script.answers = [page("old", "c1"), gone(), page("old", "c1"), gone(), page("old", "c1"), gone()]
    with pytest.raises(GoneError):
        await cluster.list(CONFIG_MAPS, namespace="n", limit=1)


def gone() -> web.Response:
    return status(410, "Expired", "The provided continue parameter is too old")


# -------------------------------------------------------------------------------------------------- watching


def change(kind: str, name: str = "a", version: str = "1", **more: Any) -> bytes:
    obj = {**CONFIG_MAP, "metadata": {"name": name, "uid": "u", "resourceVersion": version}, **more}
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def stream(*pieces: bytes, cut: bool = False) -> Answer:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if cut:
            assert request.transport
            request.transport.close()
        return response

    return handler


async def watch(cluster: RealCluster, into: list[tuple[str, str]]) -> None:
    async with aclosing(cluster.watch(CONFIG_MAPS, resource_version="5", namespace="n")) as events:
        async for event in events:
            into.append((event.type, event.object["metadata"]["resourceVersion"]))  # noqa: PERF401 - kept on an error


async def test_watch_is_put_together_from_pieces_and_ends_quietly(script: Script, cluster: RealCluster) -> None:
    whole = change("ADDED", version="6") + b"\n" + change("BOOKMARK", version="7") + change("DELETED", version="8")
    script.answers = [stream(*(whole[n : n + 7] for n in range(0, len(whole), 7)))]
    seen: list[tuple[str, str]] = []
    await watch(cluster, seen)
    assert seen == [("ADDED", "6"), ("BOOKMARK", "7"), ("DELETED", "8")]
    query = script.seen[0].query
    assert (query["watch"], query["resourceVersion"], query["allowWatchBookmarks"]) == ("true", "5", "true")


@pytest.mark.parametrize(
    ("pieces", "cut", "message"),
    [
        ([b'{"type": "MODI'], False, "in the middle of a change"),
        ([b'{"type": "MODI'], True, "the connection broke: the answer is cut short"),
        ([], True, "the connection broke"),
        ([b"<html>\n"], False, "sent no change"),
        ([b"[" * 100_000 + b"\n"], False, "sent no change"),
        ([b"{}\n"], False, "sent no change"),
        ([b'{"type":"ADDED","object":{}}\n'], False, r"it has no metadata\.resourceVersion"),
        ([b'{"type":"BOOKMARK","object":{"metadata":[]}}\n'], False, r"it has no metadata\.resourceVersion"),
    ],
)
async def test_watch_that_breaks_says_so_after_what_came_before(
    script: Script, cluster: RealCluster, pieces: list[bytes], message: str, *, cut: bool
) -> None:
    script.answers = [stream(change("ADDED", version="6"), *pieces, cut=cut)]
    seen: list[tuple[str, str]] = []
    with pytest.raises(UnreachableError, match=message):
        await watch(cluster, seen)
    assert seen == [("ADDED", "6")]


async def test_watch_that_is_gone_says_so(script: Script, cluster: RealCluster) -> None:
    told = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 5 (9)"}
    script.answers = [
        stream(json.dumps({"type": "ERROR", "object": told}).encode() + b"\n"),
        status(410, "Expired", "too old resource version: 5 (9)"),
    ]
    for _ in range(2):
        with pytest.raises(GoneError, match=r"cannot watch configmaps in namespace n.*too old resource version"):
            await watch(cluster, [])


async def test_watch_on_a_busy_server_begins_later(script: Script, cluster: RealCluster) -> None:
    script.answers = [answer(429, **BUSY), stream(change("ADDED", version="6"))]
    seen: list[tuple[str, str]] = []
    await watch(cluster, seen)
    assert seen == [("ADDED", "6")]


async def test_change_of_ten_megabytes(script: Script, cluster: RealCluster) -> None:
    large = change("MODIFIED", data={"key": "x" * (10 * MIB)})
    script.answers = [stream(large + change("DELETED", version="9"))]
    seen: list[tuple[str, str]] = []
    await watch(cluster, seen)
    assert seen == [("MODIFIED", "1"), ("DELETED", "9")]


async def test_change_without_end_is_refused(script: Script, cluster: RealCluster) -> None:
    script.answers = [stream(*[b"x" * MIB] * 80)]
    with pytest.raises(ServerError, match="one change has more than 64 MiB"):
        await watch(cluster, [])


async def test_slow_reader_makes_the_server_wait(script: Script, cluster: RealCluster) -> None:
    """What is not asked for stays with the server, and comes when it is asked for."""
    line = change("MODIFIED", data={"key": "x" * 100_000})
    total = 1_000
    written = 0
    stalled = asyncio.Event()

    async def write_all(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(total):
            writing = asyncio.ensure_future(response.write(line))
            done, _ = await asyncio.wait([writing], timeout=0.5)
            if not done:
                stalled.set()
            await writing
            written += 1
        return response

    script.answers = [write_all]
    with anyio.fail_after(LIMIT_S):
        async with aclosing(cluster.watch(CONFIG_MAPS, resource_version="5")) as events:
            await anext(events)
            await stalled.wait()
            assert written * len(line) < total * len(line) / 3
            rest = [event.type async for event in events]
    assert rest == ["MODIFIED"] * (total - 1)


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_leaving_a_watch_closes_its_connection(script: Script, cluster: RealCluster, how: str) -> None:
    closed = asyncio.Event()

    async def forever(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(change("ADDED"))
        try:
            await asyncio.Event().wait()
        finally:
            closed.set()
        return response

    async def read() -> None:
        async with aclosing(cluster.watch(CONFIG_MAPS, resource_version="5")) as events:
            async for _ in events:
                if how == "close":
                    break
                tasks.cancel_scope.cancel()

    script.answers = [forever]
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
        await closed.wait()


# ----------------------------------------------------------------------------------------------- who is asking


async def test_impersonation_is_in_the_headers(script: Script, cluster: RealCluster) -> None:
    script.answers = [answer(200, CONFIG_MAP), answer(200, CONFIG_MAP)]
    await cluster.get(CONFIG_MAPS, "n", "a", identity=Identity("jane", ("one", "two")))
    await cluster.get(CONFIG_MAPS, "n", "a")
    as_jane, as_itself = (request.headers for request in script.seen)
    assert as_jane.getall("Impersonate-User") == ["jane"]
    assert as_jane.getall("Impersonate-Group") == ["one", "two"]
    assert as_jane["Authorization"] == f"Bearer {TOKEN}"
    assert "Impersonate-User" not in as_itself


async def test_no_error_shows_the_token(script: Script, cluster: RealCluster) -> None:
    failures: list[Answer] = [drop, drop, status(401, "Unauthorized", ""), web.Response(text="x"), answer(418)]
    script.answers = list(failures)
    for _ in range(4):
        with pytest.raises(ClusterError) as caught:
            await get(cluster)
        error: BaseException | None = caught.value
        while error:
            assert TOKEN not in f"{error} {error!r}"
            error = error.__cause__
    assert not script.answers


async def test_refused_credentials_are_told_with_where_they_are_from(
    script: Script, cluster: RealCluster, kubeconfig: Any
) -> None:
    script.answers = [status(401, "Unauthorized", "Unauthorized")]
    with pytest.raises(UnauthorizedError, match=f"the credentials are from context 'it' of {kubeconfig}"):
        await get(cluster)


async def test_each_request_is_told_with_its_status(script: Script, open_script: Open) -> None:
    told: list[tuple[str, str, int]] = []

    def note(verb: str, resource: str, code: int, seconds: float) -> None:
        assert seconds >= 0
        told.append((verb, resource, code))

    script.answers = [answer(429, **BUSY), drop, answer(200, CONFIG_MAP)]
    async with open_script(on_request=note) as cluster:
        await get(cluster)
    resource = "configmaps"
    assert told == [
        ("get", "/version", 200),
        ("get", resource, 429),
        ("get", resource, 0),
        ("get", resource, 200),
    ]


async def test_server_without_aggregated_discovery_is_told_to_be_too_old(
    script: Script, cluster: RealCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cluster.conftest.DISCOVERY", {"kind": "APIVersions", "versions": ["v1"]})
    with pytest.raises(ServerError, match=r"Kubernetes 1.27 or newer is needed"):
        await cluster.kinds()


# ------------------------------------------------------------------------------- surely not sent, and told so


async def refused(kubeconfig: Path, **limits: float) -> str:
    with pytest.raises(UnreachableError) as caught:
        async with open_cluster(kubeconfig, limits=with_limits(**limits)):
            pass
    return str(caught.value)


async def test_name_that_is_not_known_is_told(tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "it", "https://nowhere.invalid:6443", {})
    assert "the name nowhere.invalid is not known; check `server` in" in await refused(kubeconfig)


async def test_server_that_never_greets_is_not_waited_for(tmp_path: Path) -> None:
    """It takes the connection, and says nothing of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        message = await refused(write_kubeconfig(tmp_path / "it", url, {}), connect_s=0.2)
    assert f"no connection to {url}: nothing answers within 0.2 s" in message


async def test_server_that_speaks_no_tls_is_told(script: Script, tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "it", script.url.replace("http:", "https:"), {})
    assert "no TLS (wrong version number): does it speak TLS" in await refused(kubeconfig)


async def test_server_whose_certificate_has_run_out_is_told_as_that(tmp_path: Path) -> None:
    """Its authority is the right one."""
    authority = Authority.make(tmp_path)
    certificate, key = authority.server(lifetime=timedelta(days=-1))
    (tmp_path / "server.pem").write_bytes(certificate + key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        ca = {"certificate-authority": str(authority.certificate_file)}
        message = await refused(write_kubeconfig(tmp_path / "it", url, {}, **ca))
    finally:
        await runner.cleanup()
    assert "(certificate has expired): the server needs a new one, or one of the two clocks is wrong" in message


async def test_proxy_that_refuses_is_told_without_its_password(script: Script, tmp_path: Path) -> None:
    proxy = script.url.replace("http://", f"http://me:{TOKEN}@")
    kubeconfig = write_kubeconfig(tmp_path / "it", "https://one.example", {}, **{"proxy-url": proxy})
    message = await refused(kubeconfig)
    assert "the proxy answers with HTTP 404" in message  # the script knows no CONNECT
    assert TOKEN not in message


async def test_of_a_server_that_nobody_answers_for_only_so_much_is_taken(script: Script, cluster: RealCluster) -> None:
    bounds = Bounds(object_bytes=MIB, list_bytes=4 * MIB, whole_bytes=2 * MIB, change_bytes=MIB)
    bounded = RealCluster(cluster._connection, bounds)
    large = CONFIG_MAP | {"data": {"key": "x" * MIB}}
    script.answers = [answer(200, large), answer(200, large)]
    with pytest.raises(ServerError, match="more than 1 MiB"):
        await get(bounded)
    with pytest.raises(OutcomeUnknown, match="more than 1 MiB"):
        await apply(bounded)
    page = {"metadata": {"resourceVersion": "7", "continue": "c"}, "items": [large]}
    script.answers = [answer(200, page) for _ in range(5)]
    with pytest.raises(ServerError, match="the list has more than 2 MiB"):
        await bounded.list(CONFIG_MAPS, namespace="n")
    assert len(script.answers) == 3
    script.answers += [answer(200, page) for _ in range(3)]
    with pytest.raises(ServerError, match="the list has more than 4 MiB"):
        _ = [found async for found in bounded.pages(CONFIG_MAPS, namespace="n")]
    assert len(script.answers) == 2
    script.answers = [stream(change("MODIFIED", data={"key": "x" * MIB}), change("DELETED", version="9"))]
    with pytest.raises(ServerError, match="one change has more than 1 MiB"):
        await watch(bounded, [])
