"""The embedded cluster over HTTP: what makes no sense is answered with a Status, and the next request is served."""

import gzip
import io
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
import msgspec
import pytest

from tidelog.engine.cluster.embedded.cluster import ADMIN, EmbeddedCluster, open_embedded
from tidelog.engine.cluster.embedded.requests import User
from tidelog.engine.expressions.evaluator import Evaluator
from tidelog.engine.http.embedded_cluster import serving

MAPS = "/api/v1/namespaces/default/configmaps"
ONE = f"{MAPS}/kube-root-ca.crt"
TOKENS = "/api/v1/namespaces/default/serviceaccounts/default/token"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
YAML, PROTOBUF = "application/yaml", "application/vnd.kubernetes.protobuf"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"
JSON_PATCH, APPLY = "application/json-patch+json", "application/apply-patch+yaml"
DEEP = 100_000
BOMB = b"a0: &a0 [x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)
)


class Client:
    """Asks one cluster."""

    def __init__(self, session: aiohttp.ClientSession, cluster: EmbeddedCluster) -> None:
        self._session, self.cluster = session, cluster

    async def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        sent = {"Content-Type": content_type, "Authorization": "Bearer admin"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in sent.items() if value}
        data = None if body is None else io.BytesIO(body)
        async with self._session.request(method, path, data=data, headers=sent) as answer:
            if answer.content_type == "text/plain":
                return answer.status, await answer.text()
            assert answer.content_type == "application/json", await answer.text()
            return answer.status, msgspec.json.decode(await answer.read())

    async def is_refused(self, code: int, reason: str, *arguments: Any, **headers: Any) -> None:
        """Asserts that a request gets a Status, and that the server goes on."""
        status, told = await self.ask(*arguments, **headers)
        assert (status, told.get("kind"), told.get("status")) == (code, "Status", "Failure"), told
        assert (told["code"], told.get("reason")) == (code, reason), told
        assert "Traceback" not in told["message"]
        assert (await self.ask("GET", "/version"))[0] == 200


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    users = {"admin": ADMIN, "bob": User("bob")}
    async with (
        Evaluator() as judge,
        open_embedded(judge, tokens=users) as cluster,
        serving(cluster.api) as address,
        aiohttp.ClientSession(address) as session,
    ):
        yield Client(session, cluster)


@pytest.mark.parametrize(
    ("code", "reason", "body", "content_type"),
    [
        (400, "BadRequest", b"", "application/json"),
        (400, "BadRequest", b"{nope", "application/json"),
        (400, "BadRequest", b"\xff\xfe\x00", "application/json"),
        (400, "BadRequest", b"[]", "application/json"),
        (400, "BadRequest", b"{a: [", YAML),
        (400, "BadRequest", b"\xff\xfe\x00", YAML),
        (400, "BadRequest", b"text", YAML),
        (400, "BadRequest", b"x: !!python/object/apply:os.system [ls]", YAML),
        (400, "BadRequest", b"metadata: {name: a}\ndata: {a: .nan}", YAML),
        (400, "BadRequest", BOMB, YAML),
        (400, "BadRequest", b"metadata: {name: a, annotations: &a {b: *a}}", YAML),
        (400, "BadRequest", b"[" * DEEP + b"]" * DEEP, "application/json"),
        (400, "BadRequest", b"[" * DEEP + b"]" * DEEP, YAML),
        (400, "BadRequest", b'{"a":' * DEEP + b"1" + b"}" * DEEP, YAML),
        (400, "BadRequest", b'{"x":' + b'{"a":' * 500 + b"1" + b"}" * 501, "application/json"),
        (413, "RequestEntityTooLarge", b'{"data":"' + b"x" * 10_000_000 + b'"}', "application/json"),
        (415, "UnsupportedMediaType", b"a=b", "application/x-www-form-urlencoded"),
        *((415, "UnsupportedMediaType", b"{}", kind) for kind in ("application/cbor", MERGE, STRATEGIC, JSON_PATCH)),
        (400, "BadRequest", b"x", PROTOBUF),
        (400, "BadRequest", b"k8s\x00\x0a\xff", PROTOBUF),
        (400, "BadRequest", b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09Namespace\x12\x04\x0a\x02\x08\x04", PROTOBUF),
        (400, "BadRequest", b'{"metadata":5}', "application/json"),
        (400, "BadRequest", b'{"metadata":{"name":5}}', "application/json"),
        (400, "BadRequest", b'{"metadata":{"name":"a"},"kind":"Pod","apiVersion":"v1"}', "application/json"),
        (422, "Invalid", b'{"metadata":{}}', "application/json"),
        *(
            (422, "Invalid", b'{"metadata":{"name":"%s"}}' % name, "application/json")
            for name in (b"UP", b"a_b", b"..", b"a/b")
        ),
    ],
)
async def test_a_body_that_is_no_object(client: Client, code: int, reason: str, body: bytes, content_type: str) -> None:
    await client.is_refused(code, reason, "POST", MAPS, body, content_type)


@pytest.mark.parametrize(
    "body",
    [gzip.compress(b" " * 64_000_000 + b"{}"), gzip.compress(b"{}"), b"{}"],
    ids=["large", "small", "not compressed"],  # not by its bytes, which tell when it was compressed
)
async def test_a_body_that_is_said_to_be_compressed_is_read_as_it_came(client: Client, body: bytes) -> None:
    """As the real server does: and what blows up to gigabytes is never blown up."""
    code, reason = (422, "Invalid") if body == b"{}" else (400, "BadRequest")
    for encoding in ("gzip", "deflate", "br"):
        await client.is_refused(code, reason, "POST", MAPS, body, Content_Encoding=encoding)


@pytest.mark.parametrize(
    ("code", "reason", "body", "content_type"),
    [
        *((400, "BadRequest", b"", kind) for kind in (MERGE, STRATEGIC, JSON_PATCH, APPLY)),
        *((400, "BadRequest", b"5", kind) for kind in (MERGE, STRATEGIC, JSON_PATCH, APPLY)),
        *((400, "BadRequest", b"[5]", kind) for kind in (MERGE, STRATEGIC, JSON_PATCH, APPLY)),
        *((400, "BadRequest", b'{"metadata":5}', kind) for kind in (MERGE, STRATEGIC, APPLY)),
        (422, "Invalid", b'[{"op":"replace","path":"","value":5}]', JSON_PATCH),
        (415, "UnsupportedMediaType", b"{}", "application/json"),
        (415, "UnsupportedMediaType", b"{}", "text/plain"),
    ],
)
async def test_a_patch_that_is_none(client: Client, code: int, reason: str, body: bytes, content_type: str) -> None:
    await client.is_refused(code, reason, "PATCH", f"{ONE}?fieldManager=test", body, content_type)


@pytest.mark.parametrize(
    ("code", "reason", "method", "path"),
    [
        *(
            (404, "NotFound", "GET", path)
            for path in ("/api/v1/nothing", "/apis/apps/v9", f"{ONE}/a/b", f"{MAPS}/none", f"{MAPS}/%ff%fe")
        ),
        (405, "MethodNotAllowed", "PUT", MAPS),
        (405, "MethodNotAllowed", "POST", ONE),
        (405, "MethodNotAllowed", "OPTIONS", MAPS),
        (405, "MethodNotAllowed", "POST", "/version"),
        (405, "MethodNotAllowed", "DELETE", "/apis/apps/v1"),
    ],
)
async def test_what_is_not_served(client: Client, code: int, reason: str, method: str, path: str) -> None:
    await client.is_refused(code, reason, method, path, b"{}" if method in ("PUT", "POST") else None)


@pytest.mark.parametrize("path", ["/", "/nothing", "/apis/no.example/v1/things", "/api%0d%0ax"])
async def test_a_path_that_nobody_knows(client: Client, path: str) -> None:
    assert await client.ask("GET", path) == (404, "404 page not found\n")
    assert (await client.ask("GET", "/version"))[0] == 200


@pytest.mark.parametrize("version", ["abc", "-1", "%C2%B2", "9" * 5000])
@pytest.mark.parametrize("more", ["", "&watch=true&timeoutSeconds=1"])
async def test_a_version_that_is_none(client: Client, version: str, more: str) -> None:
    await client.is_refused(400, "BadRequest", "GET", f"{MAPS}?resourceVersion={version}{more}")


@pytest.mark.parametrize(
    ("code", "reason", "method", "query"),
    [
        *((400, "BadRequest", "GET", f"limit={limit}") for limit in ("x", "-1", "%C2%B2", "9" * 5000)),
        *((400, "BadRequest", "GET", f"continue={token}") for token in ("x", "%ff", "eyJ2ZXJzaW9uIjogMX0")),
        *((400, "BadRequest", "GET", f"{some}Selector=%3Dx") for some in ("label", "field")),
        (400, "BadRequest", "GET", "fieldSelector=data%3Dx"),
        (400, "BadRequest", "GET", "watch=true&timeoutSeconds=x"),
        (400, "BadRequest", "GET", "watch=true&timeoutSeconds=1&labelSelector=%3D"),
        (422, "Invalid", "POST", "dryRun=x"),
        (422, "Invalid", "POST", "fieldValidation=x"),
        (422, "Invalid", "POST", f"fieldManager={'x' * 200}"),
        (422, "Invalid", "DELETE", "dryRun=x"),
        (422, "Invalid", "DELETE", "propagationPolicy=x"),
        (400, "BadRequest", "DELETE", "gracePeriodSeconds=x"),
    ],
)
async def test_a_query_that_makes_no_sense(client: Client, code: int, reason: str, method: str, query: str) -> None:
    body = b'{"metadata":{"name":"a"}}' if method == "POST" else None
    await client.is_refused(code, reason, method, f"{MAPS}?{query}", body)
    kept = (await client.ask("GET", MAPS))[1]["items"]
    assert [one["metadata"]["name"] for one in kept] == ["kube-root-ca.crt"]


@pytest.mark.parametrize("more", ["", "&watch=true&timeoutSeconds=1"])
async def test_a_table_that_is_none(client: Client, more: str) -> None:
    table = "application/json;as=Table;g=meta.k8s.io;v=v1"
    await client.is_refused(400, "BadRequest", "GET", f"{MAPS}?includeObject=x{more}", Accept=table)


@pytest.mark.parametrize(
    ("code", "reason", "path", "body"),
    [
        (400, "BadRequest", TOKENS, b'{"spec":5}'),
        (400, "BadRequest", TOKENS, b'{"spec":{"expirationSeconds":"x"}}'),
        (400, "BadRequest", TOKENS, b'{"spec":{"expirationSeconds":1e30}}'),
        (400, "BadRequest", REVIEWS, b'{"spec":5}'),
        (400, "BadRequest", REVIEWS, b'{"spec":{"resourceAttributes":5}}'),
        (422, "Invalid", REVIEWS, b"{}"),
        (422, "Invalid", DEFINITIONS, b'{"metadata":{"name":"a.b"},"spec":{"versions":[null]}}'),
    ],
)
async def test_a_question_that_makes_no_sense(client: Client, code: int, reason: str, path: str, body: bytes) -> None:
    await client.is_refused(code, reason, "POST", path, body)


async def test_who_is_nobody_or_somebody_else(client: Client) -> None:
    await client.is_refused(403, "Forbidden", "GET", MAPS, Authorization="")
    await client.is_refused(401, "Unauthorized", "GET", MAPS, Authorization="Bearer wrong")
    await client.is_refused(403, "Forbidden", "GET", MAPS, Authorization="Bearer")
    await client.is_refused(403, "Forbidden", "GET", MAPS, Authorization="Basic YTpi")
    await client.is_refused(403, "Forbidden", "GET", MAPS, Authorization="Bearer bob")
    await client.is_refused(403, "Forbidden", "GET", MAPS, Impersonate_User="bob")
    for who in ("", "Bearer bob"):
        await client.is_refused(403, "Forbidden", "GET", MAPS, Authorization=who, Impersonate_User="kubernetes-admin")
    # Without a user the groups would be ignored, and the request made with all rights.
    await client.is_refused(400, "BadRequest", "GET", MAPS, Impersonate_Group="nobody")
    assert (await client.ask("GET", MAPS, Impersonate_User=""))[0] == 200


async def test_who_is_said_to_ask_is_told_as_far_as_it_is_text(client: Client) -> None:
    async def status_of(method: str, path: str, header: bytes, body: bytes = b"") -> bytes:
        url = client._session._build_url("/")
        async with await anyio.connect_tcp(url.host or "", url.port or 0) as stream:
            lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: here", b"Authorization: Bearer admin", header]
            lines += [b"Content-Length: %d" % len(body), b"Connection: close", b"", body]
            await stream.send(b"\r\n".join(lines))
            return (await stream.receive()).split(b" ")[1]

    assert await status_of("GET", MAPS, b"Impersonate-User: \xff\xfe") == b"403"
    assert await status_of("POST", MAPS, b"User-Agent: \xff\xfe", b'{"metadata": {"name": "a"}}') == b"201"


async def test_a_fault_of_the_server_is_a_status_and_a_line_of_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("the value of a Secret")

    monkeypatch.setattr(client.cluster.api, "_get", fail)
    with caplog.at_level(logging.ERROR, "tidelog.engine"):
        await client.is_refused(500, "InternalError", "GET", f"{ONE}?a=b")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"embedded cluster: GET {ONE} failed: KeyError in test_embedded_cluster.py:")
    assert "Secret" not in caplog.text
    assert record.exc_info is None
