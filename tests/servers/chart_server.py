"""A repository of charts over HTTP(S): a static server with tags, and one that can be told to misbehave."""

import base64
import hashlib
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import trustme

WAIT_S = 30.0


@dataclass
class Request:
    """What a client asked."""

    path: str
    authorization: str | None
    condition: str | None


@dataclass
class Behaviour:
    """How the server answers; a test changes it at any time."""

    username: str | None = None
    password: str | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Every request is answered with this."""
    redirect: str | None = None
    """Requests are sent on to this address, with the path kept."""
    cut_after_bytes: int | None = None
    """The answer is broken off after so much."""
    stall_after_bytes: int | None = None
    """The answer goes no further after so much."""
    tags: bool = True
    times: bool = False
    delay_s: float = 0.0
    encoding: str | None = None


@dataclass
class ChartServer:
    """Serves the files below `root`."""

    root: Path
    url: str
    ca: str
    behaviour: Behaviour = field(default_factory=Behaviour)
    requests: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def count(self, name: str) -> int:
        """How often a file was asked for."""
        return sum(request.path.rpartition("/")[2] == name for request in self.requests)


class Handler(BaseHTTPRequestHandler):
    """Answers GET."""

    protocol_version = "HTTP/1.1"
    charts: ChartServer

    def do_GET(self) -> None:
        behaviour = self.charts.behaviour
        condition = self.headers.get("If-None-Match") or self.headers.get("If-Modified-Since")
        self.charts.requests.append(Request(self.path, self.headers.get("Authorization"), condition))
        time.sleep(behaviour.delay_s)
        if behaviour.redirect is not None:
            self._answer(302, b"", {"Location": behaviour.redirect + self.path})
        elif behaviour.status is not None:
            self._answer(behaviour.status, b"no", behaviour.headers)
        elif not self._is_let_in():
            self._answer(401, b"no", {"WWW-Authenticate": "Basic"})
        else:
            self._file(condition)

    def _is_let_in(self) -> bool:
        behaviour = self.charts.behaviour
        if behaviour.username is None:
            return True
        wanted = base64.b64encode(f"{behaviour.username}:{behaviour.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {wanted}"

    def _file(self, condition: str | None) -> None:
        behaviour = self.charts.behaviour
        path = self.charts.root / self.path.partition("?")[0].lstrip("/")
        if behaviour.body is None and not path.is_file():
            self._answer(404, b"no such file", {})
            return
        body = path.read_bytes() if behaviour.body is None else behaviour.body
        headers = {}
        if behaviour.tags:
            headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        elif behaviour.times:
            headers["Last-Modified"] = formatdate(path.stat().st_mtime, usegmt=True)
        if behaviour.encoding is not None:
            headers["Content-Encoding"] = behaviour.encoding
        if condition is not None and condition in headers.values():
            self._answer(304, b"", headers)
        else:
            self._answer(200, body, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        behaviour = self.charts.behaviour
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        end = behaviour.cut_after_bytes if behaviour.cut_after_bytes is not None else behaviour.stall_after_bytes
        self.wfile.write(body[:end])
        if end is not None:
            self.wfile.flush()
            if behaviour.cut_after_bytes is None:
                self.charts.released.wait(WAIT_S)
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the base's name
        """Says nothing."""


class Server(ThreadingHTTPServer):
    """Says nothing when a client goes away."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing."""


@contextmanager
def chart_server(root: Path, *, tls: bool = True, client_ca: trustme.CA | None = None) -> Iterator[ChartServer]:
    """A running server."""
    authority = trustme.CA()
    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            client_ca.configure_trust(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "https" if tls else "http"
    charts = ChartServer(root, f"{scheme}://127.0.0.1:{server.server_port}", authority.cert_pem.bytes().decode())
    server.RequestHandlerClass = type("Bound", (Handler,), {"charts": charts})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield charts
    finally:
        charts.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
