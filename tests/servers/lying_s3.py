"""What speaks S3's API, and a little of Azure's, and does not mean well, or is told to fail.

It remembers what it was asked.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, quote_from_bytes, unquote, unquote_to_bytes, urlsplit
from xml.sax.saxutils import escape

import trustme

from tests.servers.git_server import Server

MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"
TEMPORARY = (
    '<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result><Credentials>'
    "<AccessKeyId>TEMP</AccessKeyId><SecretAccessKey>temporary-secret</SecretAccessKey>"
    "<SessionToken>temporary-token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
    "</Credentials></{0}Result></{0}Response>"
)
"""For any action of an STS."""


@dataclass
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


@dataclass
class LyingS3:
    """One bucket, at any name. A test changes it at any time."""

    address: str = ""
    """host:port"""
    ca: bytes = b""
    objects: dict[bytes, bytes] = field(default_factory=dict)
    """By key, which may be anything."""
    etags: dict[bytes, str] = field(default_factory=dict)
    """Where they are not of the content."""
    unlisted: set[bytes] = field(default_factory=set)
    vanished: set[bytes] = field(default_factory=set)
    """Listed, and not there."""
    page: int = 1000
    listing: bytes | None = None
    """Every listing is this."""
    status: int = 0
    """Every request is answered so."""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    fails: int = 0
    """So many requests fail before they are answered."""
    cut: set[bytes] = field(default_factory=set)
    """Objects that break off in the middle."""
    slow_s: float = 0.0
    hang: bool = False
    same_token: bool = False
    on_listed: Callable[[], None] | None = None
    asked: list[Asked] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def etag(self, key: bytes) -> str:
        return self.etags.get(key, f"etag-{len(self.objects.get(key, b''))}")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    s3: LyingS3

    def do_GET(self) -> None:
        self._answer(b"")

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Says nothing."""

    def _answer(self, body: bytes) -> None:
        s3 = self.s3
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        s3.asked.append(Asked(self.command, unquote(parts.path), query, headers, body))
        if s3.hang:
            s3.released.wait()
            self.close_connection = True
            return
        time.sleep(s3.slow_s)
        if s3.fails > 0:
            s3.fails -= 1
            self._send(503, b"<Error><Code>SlowDown</Code></Error>")
        elif s3.status:
            self._send(s3.status, s3.body, s3.headers)
        elif self.command == "POST":
            action = (query.get("Action") or parse_qs(body.decode())["Action"])[0]
            self._send(200, TEMPORARY.format(action).encode())
        elif "list-type" in query:
            self._send(200, self._listing(query), s3.headers)
            if s3.on_listed:
                s3.on_listed()
        elif query.get("comp") == ["list"]:
            self._send(200, self._blobs(query))
        else:
            key = parts.path.partition("/")[2]
            is_hosted = headers["host"].endswith(".amazonaws.com")
            self._object(unquote_to_bytes(key if is_hosted else key.partition("/")[2]))

    def _listing(self, query: dict[str, list[str]]) -> bytes:
        s3 = self.s3
        if s3.listing is not None:
            return s3.listing
        prefix = query.get("prefix", [""])[0].encode("utf-8", "surrogateescape")
        keys = sorted(key for key in s3.objects if key.startswith(prefix) and key not in s3.unlisted)
        start = int(query.get("continuation-token", ["0"])[0])
        is_url = query.get("encoding-type") == ["url"]
        more = start + s3.page < len(keys)
        text = ["<ListBucketResult><Name>b</Name>", f"<IsTruncated>{str(more).lower()}</IsTruncated>"]
        if is_url:
            text.append("<EncodingType>url</EncodingType>")
        if more:
            text.append(f"<NextContinuationToken>{start if s3.same_token else start + s3.page}</NextContinuationToken>")
        for key in keys[start : start + s3.page]:
            shown = quote_from_bytes(key, safe="/") if is_url else escape(key.decode())
            text.append(
                f"<Contents><Key>{shown}</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{s3.etag(key)}&quot;</ETag><Size>{len(s3.objects[key])}</Size></Contents>"
            )
        return "".join([*text, "</ListBucketResult>"]).encode()

    def _blobs(self, query: dict[str, list[str]]) -> bytes:
        """A listing as Azure has it."""
        s3 = self.s3
        if s3.listing is not None:
            return s3.listing
        prefix = query.get("prefix", [""])[0].encode()
        keys = sorted(key for key in s3.objects if key.startswith(prefix))
        start = int(query.get("marker", ["0"])[0])
        blobs = "".join(
            f"<Blob><Name>{escape(key.decode())}</Name><Properties><Last-Modified>{MODIFIED}</Last-Modified>"
            f"<Etag>{s3.etag(key)}</Etag><Content-Length>{len(s3.objects[key])}</Content-Length>"
            "<Content-Type>text/plain</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob>"
            for key in keys[start : start + s3.page]
        )
        following = str(start + s3.page) if start + s3.page < len(keys) else ""
        return (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="app"><Blobs>{blobs}</Blobs>'
            f"<NextMarker>{following}</NextMarker></EnumerationResults>"
        ).encode()

    def _object(self, key: bytes) -> None:
        s3 = self.s3
        if key not in s3.objects or key in s3.vanished:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", s3.headers)
            return
        data = s3.objects[key]
        headers = {"ETag": f'"{s3.etag(key)}"', "Last-Modified": MODIFIED}
        if key in s3.cut:
            self._send(200, data[: len(data) // 2], headers | {"Content-Length": str(len(data))})
            self.close_connection = True
            return
        self._send(200, data, headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def lying_s3(*, tls: bool = False, clients: trustme.CA | None = None) -> Iterator[LyingS3]:
    """Runs a server on a free port of loopback; with `clients`, only for who has a certificate of that authority."""
    s3 = LyingS3()
    server = Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"s3": s3}))
    server.request_queue_size = 128
    s3.address = f"localhost:{server.server_port}"
    if tls:
        authority = trustme.CA()
        server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(server.context)
        s3.ca = authority.cert_pem.bytes()
        if clients is not None:
            server.context.verify_mode = ssl.CERT_REQUIRED
            clients.configure_trust(server.context)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield s3
    finally:
        s3.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
